/* heed/formats.h: files that others read and write: safetensors, ONNX, NPY, NPZ and CSV. Strict, limited, atomic. */
#ifndef HEED_FORMATS_H
#define HEED_FORMATS_H

#include <heed/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors ---- */

/** An opened file: names, types, offsets. Tensors are read on demand. One thread at a time. */
typedef struct heed_safetensors heed_safetensors;

/** Opens a file, or bytes in memory (borrowed until closed). Checks every rule of the format: HEED_ERR_FORMAT with file, offset and
 *  rule; HEED_ERR_LIMIT; HEED_ERR_IO. */
HEED_MUST_CHECK HEED_API heed_status heed_safetensors_open(heed_safetensors **out, heed_context *ctx, const char *path, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_safetensors_open_memory(heed_safetensors **out, heed_context *ctx, const void *bytes,
                                                                  size_t size, heed_error *err);
HEED_API void heed_safetensors_close(heed_safetensors *f);

HEED_API int64_t heed_safetensors_count(const heed_safetensors *f);
/** Name of tensor i in the file's order of data; its dtype as written ("F32"); its type (dtype HEED_DTYPES when heed has none for it). */
HEED_API const char *heed_safetensors_name(const heed_safetensors *f, int64_t i);
HEED_API const char *heed_safetensors_dtype(const heed_safetensors *f, int64_t i);
HEED_API heed_type heed_safetensors_type(const heed_safetensors *f, int64_t i);
/** Bytes of tensor i in the file, also of dtypes heed has not. */
HEED_API uint64_t heed_safetensors_bytes(const heed_safetensors *f, int64_t i);
/** Position of a name, -1 if there is none. */
HEED_API int64_t heed_safetensors_find(const heed_safetensors *f, const char *name);
/** Reads tensor i into memory of at least its size. HEED_ERR_DTYPE for dtypes heed has not. */
HEED_MUST_CHECK HEED_API heed_status heed_safetensors_read(heed_safetensors *f, int64_t i, void *to, heed_error *err);
/** Metadata: number of pairs, pair i. */
HEED_API int64_t heed_safetensors_metadata(const heed_safetensors *f);
HEED_API const char *heed_safetensors_key(const heed_safetensors *f, int64_t i, const char **value);

typedef struct heed_named_tensor {
    const char *name;
    heed_tensor tensor;
} heed_named_tensor;
typedef struct heed_pair {
    const char *key, *value;
} heed_pair;
/** Writes a file as the reference does, byte for byte: "format":"pt" and the given pairs as metadata. Atomic. The old file stays on any
 *  failure. */
HEED_MUST_CHECK HEED_API heed_status heed_safetensors_write(heed_context *ctx, const char *path, const heed_named_tensor *tensors, int64_t n,
                                                            const heed_pair *metadata, int64_t pairs, heed_error *err);

/* ---- NPY and NPZ, the formats of NumPy ---- */

#define HEED_NPY_HEADER_MOST 384 /**< bytes; a multiple of 64, as every header is */

/** The header that numpy.save writes before an array of this type, byte for byte: version 1.0, C order, padded so that the data begin at
 *  a multiple of 64. The data follow as they lie in memory, little-endian; NumPy has no bfloat16, so bf16 is announced as f32 and has to
 *  be widened. *size: bytes written to `to`. HEED_ERR_SHAPE, HEED_ERR_DTYPE for a type that is none. */
HEED_MUST_CHECK HEED_API heed_status heed_npy_header(uint8_t to[HEED_NPY_HEADER_MOST], size_t *size, const heed_type *type, heed_error *err);
/** One tensor as an NPY file, atomically; bf16 is widened to f32. */
HEED_MUST_CHECK HEED_API heed_status heed_npy_write(heed_context *ctx, const char *path, heed_tensor tensor, heed_error *err);

/** Tensors as an NPZ file: a zip archive of "NAME.npy" in the order given, stored, not compressed, so that the file can be mapped; atomic.
 *  Names are UTF-8 without control characters and differ (HEED_ERR_USAGE); n is at least 1 and at most 65,535. The bytes depend on the
 *  tensors and the version of libzip only. While it is written the archive lies in memory once more, beside the tensors: HEED_ERR_MEMORY
 *  when the context's limit does not allow it. HEED_ERR_MISSING when built without libzip. */
HEED_MUST_CHECK HEED_API heed_status heed_npz_write(heed_context *ctx, const char *path, const heed_named_tensor *tensors, int64_t n,
                                                    heed_error *err);

/* ---- edits as text ---- */

#define HEED_EDITS_MOST 1000
#define HEED_NPZ_EDITS "heed.edits" /**< array of an NPZ file that was made by an edited model: u8, the edits as UTF-8, a line each */

/** Edits (heed/edit.h) read from texts, and the records that they take. A text is PATH:SELECTION:KIND, or PATH:KIND:
 *
 *    encoder.1.attn:head=3:zero                     PATH a tap or an attention; the first colon ends it
 *    encoder.0.attn:head=1,row=0-4,key=7:scale=0.5  SELECTION of weights: numbers from 0, or ranges, both ends in it
 *    encoder.0.out:add=0.1                          KIND zero, scale=C, set=C, add=C
 *    encoder.0.attn:take=FILE.npz                   or the array that FILE has under PATH: what heed explain --format npz and
 *                                                   heed predict --npz write, of one picture
 */
typedef struct heed_edits heed_edits;
/** texts ended by NULL (copied); NULL: none. HEED_ERR_USAGE with the text and what is wrong in it, or with the arrays that the
 *  file has; HEED_ERR_LIMIT for more than HEED_EDITS_MOST; HEED_ERR_FORMAT, _IO, _DTYPE for the file; HEED_ERR_MISSING without
 *  libzip. Whether a model has such a place is found out by heed_graph_edit. */
HEED_MUST_CHECK HEED_API heed_status heed_edits_open(heed_edits **out, heed_context *ctx, const char *const *texts, heed_error *err);
HEED_API void heed_edits_close(heed_edits *e); /**< NULL is fine */
/** All of them, as heed_model_edit takes them; borrowed. */
HEED_API const heed_edit *heed_edits_list(const heed_edits *e, int *n);

/* ---- CSV ---- */

/** Writes a table as RFC 4180 has it: fields split by commas, rows ended by CR LF, a field with a comma, a quote or a line's end in quotes,
 *  quotes in it doubled. Bytes of text are written as they are. Atomic: the file appears when it is committed, the old one stays on any
 *  failure. begin, then fields and rows, then commit or cancel, either of which ends it. */
typedef struct heed_csv heed_csv;
HEED_MUST_CHECK HEED_API heed_status heed_csv_begin(heed_csv **out, heed_context *ctx, const char *path, heed_error *err);
/** One field more. A float is the shortest decimal that reads back the same; what is not finite is "nan", "inf" or "-inf". */
HEED_API void heed_csv_text(heed_csv *c, const char *text);
HEED_API void heed_csv_integer(heed_csv *c, int64_t value);
HEED_API void heed_csv_float(heed_csv *c, float value);
HEED_API void heed_csv_double(heed_csv *c, double value);
/** Ends the row; what went wrong with its fields comes out here. HEED_ERR_USAGE when it has more or fewer fields than the first row. */
HEED_MUST_CHECK HEED_API heed_status heed_csv_row(heed_csv *c, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_csv_commit(heed_csv *c, heed_error *err);
HEED_API void heed_csv_cancel(heed_csv *c); /**< NULL is fine */

/* ---- weights and models ---- */

/** Every tensor of that part of the store into one file (HEED_ERR_NUMERIC when one is not finite); and back: names and types of the file
 *  must be those of the store (when it has any); all missing, unexpected and mis-shaped ones are listed together: HEED_ERR_SHAPE, or
 *  HEED_ERR_DTYPE when dtypes alone differ. An empty store takes what the file has. A load takes everything or nothing. */
HEED_MUST_CHECK HEED_API heed_status heed_weights_save(const heed_weights *w, heed_weights_part part, const char *path, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_weights_load(heed_weights *w, heed_weights_part part, const char *path, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_weights_load_memory(heed_weights *w, heed_weights_part part, const void *bytes, size_t size,
                                                              heed_error *err);

/** The model's weights as one safetensors file: PyTorch's names and layouts. */
HEED_MUST_CHECK HEED_API heed_status heed_model_save(const heed_model *m, const char *path, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_model_load(heed_model *m, const char *path, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_model_load_memory(heed_model *m, const void *bytes, size_t size, heed_error *err);

/* ---- ONNX ---- */

/** Rows of a batch whose size stays open in the file: a graph built for so many rows can be run with any number. The size is a prime
 *  that no weight has, so that every size that depends on the batch is known by it. */
#define HEED_ONNX_BATCH 10007

typedef struct heed_onnx_opts {
    int opset;                /**< 17 to 20; 0: 17 */
    const char *const *input_names, *const *output_names; /**< in the graph's order, as many; NULL: those of the graph */
    bool fixed_batch;         /**< sizes are written as they are in the graph; false: its batch is HEED_ONNX_BATCH, written as "batch" */
} heed_onnx_opts;
/** Writes the graph, built for evaluation, with the weights as an ONNX file. Atomic. HEED_ERR_MISSING when built without protobuf-c or for
 *  an op without mapping (named); HEED_ERR_USAGE for another batch than the options say or weights that lack a tensor; HEED_ERR_SPEC for a
 *  graph that cannot be run with an open batch. */
HEED_MUST_CHECK HEED_API heed_status heed_onnx_write(heed_context *ctx, const char *path, const heed_graph *g, const heed_weights *w,
                                                     const heed_onnx_opts *opts, heed_error *err);
/** The model for inputs of these types. With an open batch their first size does not matter. HEED_ERR_USAGE for an edited model
 *  (heed_model_edit), whose file would not say so. */
HEED_MUST_CHECK HEED_API heed_status heed_model_onnx(heed_model *m, const heed_type *inputs, int n_inputs, const char *path,
                                                     const heed_onnx_opts *opts, heed_error *err);

/* ---- TensorBoard event files ---- */

/** A file of measurements by step, for TensorBoard and its like. Records wait in memory and are appended every ten
 * seconds, after a mebibyte and at the end. One thread at a time. All calls: HEED_ERR_MISSING without protobuf-c. */
typedef struct heed_events heed_events;

typedef struct heed_events_opts {
    double (*clock)(void *user); /**< seconds since 1970; NULL: the system's */
    void *user;
    heed_maybe_i64 resumed;      /**< training goes on after this step: readers forget what older files of the folder say of
                                      later ones; not set: a new training, they forget all */
} heed_events_opts;

/** Begins a file "events.out.tfevents.<seconds>.<host>.<process>.<n>" in the folder, which is made when it is not there.
 * *out is ended by heed_events_close. HEED_ERR_IO when nothing can be written. */
HEED_MUST_CHECK HEED_API heed_status heed_events_open(heed_events **out, heed_context *ctx, const char *folder,
                                                      const heed_events_opts *opts, heed_error *err);
/** Adds a value. A tag ("train/loss"; slashes make groups) is UTF-8 and holds one kind of value: HEED_ERR_USAGE
 * otherwise. Numbers are kept as f32; NaN and infinities too. */
HEED_MUST_CHECK HEED_API heed_status heed_events_scalar(heed_events *e, const char *tag, int64_t step, double value,
                                                        heed_error *err);
/** A picture as the bytes of a PNG, borrowed during the call. */
typedef struct heed_event_image {
    const void *png;
    size_t size;
    int64_t width, height;
} heed_event_image;
/** 1 to 256 pictures of one size (HEED_ERR_LIMIT). */
HEED_MUST_CHECK HEED_API heed_status heed_events_image(heed_events *e, const char *tag, int64_t step,
                                                       const heed_event_image *images, int n, heed_error *err);
/** A text; TensorBoard reads it as Markdown. */
HEED_MUST_CHECK HEED_API heed_status heed_events_text(heed_events *e, const char *tag, int64_t step, const char *words,
                                                      heed_error *err);
/** Appends what waits. After a failed write every call fails: what stands behind a torn record is never read. */
HEED_MUST_CHECK HEED_API heed_status heed_events_flush(heed_events *e, heed_error *err);
/** Path of the file; borrowed. */
HEED_API const char *heed_events_path(const heed_events *e);
/** Flushes, and frees in any case. NULL is fine. */
HEED_API heed_status heed_events_close(heed_events *e, heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
