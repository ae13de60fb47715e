/* heed/data.h: data sets, splits and batches. Order and augmentation are functions of (seed, epoch, sample): Philox, addressed. */
#ifndef HEED_DATA_H
#define HEED_DATA_H

#include <heed/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- IDX, the format of MNIST ---- */

/** Reads an IDX file (gzip or not) whole, or the records [begin, end) of it (end -1: all). "file.idx.gz[0:100]" in `path` means the
 *  same. *out owns its data: heed_data_free. u8 only as pictures and labels need (else HEED_ERR_DTYPE). HEED_ERR_FORMAT names offset and
 *  rule, HEED_ERR_LIMIT records that are not there, HEED_ERR_MISSING a gzip file when built without zlib. */
HEED_MUST_CHECK HEED_API heed_status heed_idx_read(heed_tensor *out, heed_context *ctx, const char *path, int64_t begin, int64_t end, heed_error *err);
HEED_API void heed_data_free(heed_context *ctx, heed_tensor *t);

/* ---- data sets ---- */

/** Pictures with labels in memory: images u8 [N,H,W] or [N,C,H,W], labels i64 [N]. */
typedef struct heed_dataset heed_dataset;

/** A folder with the four MNIST-style IDX files (train-images-idx3-ubyte[.gz] and so on). part: "train" or "test". */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_open_idx(heed_dataset **out, heed_context *ctx, const char *folder, const char *part, heed_error *err);
/** From memory (copied). classes 0: largest label + 1. */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_from_memory(heed_dataset **out, heed_context *ctx, heed_tensor images, heed_tensor labels,
                                                              int64_t classes, heed_error *err);
HEED_API void heed_dataset_free(heed_dataset *d);
HEED_API int64_t heed_dataset_count(const heed_dataset *d);
HEED_API int64_t heed_dataset_classes(const heed_dataset *d);
HEED_API heed_type heed_dataset_image_type(const heed_dataset *d); /**< u8 [C,H,W] of one picture */
HEED_API const uint8_t *heed_dataset_image(const heed_dataset *d, int64_t i);
HEED_API int64_t heed_dataset_label(const heed_dataset *d, int64_t i);
/** Mean and standard deviation of pixel / 255 per channel, over samples `order` (NULL: all). */
HEED_API void heed_dataset_moments(const heed_dataset *d, const int64_t *order, int64_t n, double *mean, double *std);

/** Splits by rule: sample i goes to validation when SHA-256 of its picture mod 10000 < fraction * 10000. Writes sample numbers; each array
 *  has room for all. */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_split(const heed_dataset *d, double fraction, int64_t *train, int64_t *n_train,
                                                        int64_t *validation, int64_t *n_validation, heed_error *err);

/* ---- batches ---- */

typedef struct heed_loader heed_loader;

typedef struct heed_loader_opts {
    int64_t batch_size;        /**< 0: 32 */
    uint64_t seed;
    bool shuffle;              /**< a new order each epoch */
    bool mirror;               /**< each picture mirrored left to right with probability 1/2 */
    int64_t shift;             /**< moved by up to so many pixels, zeros (after normalisation: the mean) come in */
    const float *mean, *std;   /**< per channel, of pixel / 255; NULL: 0 and 1 */
    int64_t prefetch;          /**< batches made ahead by one more thread; 0: 2; -1: none */
} heed_loader_opts;

/** Batches of samples `order[0..n)` of d (borrowed; NULL: all in file order). The same batches whatever `prefetch` is. */
HEED_MUST_CHECK HEED_API heed_status heed_loader_new(heed_loader **out, heed_context *ctx, const heed_dataset *d, const int64_t *order, int64_t n,
                                                     const heed_loader_opts *opts, heed_error *err);
HEED_API void heed_loader_free(heed_loader *l);
/** Starts an epoch, at batch `skip` of it. Skipping costs nothing. */
HEED_MUST_CHECK HEED_API heed_status heed_loader_start(heed_loader *l, int64_t epoch, int64_t skip, heed_error *err);
/** The next batch: *x f32 [count,C,H,W] normalised, *y i64 [count], borrowed until the next call; *count its samples: fewer in the
 *  last one, 0 when the epoch is over. */
HEED_MUST_CHECK HEED_API heed_status heed_loader_next(heed_loader *l, heed_tensor *x, heed_tensor *y, int64_t *count, heed_error *err);
HEED_API int64_t heed_loader_batches(const heed_loader *l);

#ifdef __cplusplus
}
#endif
#endif
