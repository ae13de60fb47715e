/* heed/data.h: data sets, splits and batches. Order and augmentation are functions of (seed, epoch, sample): Philox, addressed. */
#ifndef HEED_DATA_H
#define HEED_DATA_H

#include <heed/image.h>

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

typedef enum heed_dataset_kind { HEED_DATASET_AUTO = 0, HEED_DATASET_IDX, HEED_DATASET_FOLDER } heed_dataset_kind;
/** What is opened. TRAIN: all that training may see, the validation part with it. TEST: the test part. WHOLE: the test part where
 *  the folder has one of its own, else every picture: of data that no training has seen. */
typedef enum heed_part { HEED_PART_TRAIN = 0, HEED_PART_TEST, HEED_PART_WHOLE } heed_part;
/** What reading tells, on the calling thread: pictures read, of how many. Return true to stop: HEED_ERR_STOPPED. */
typedef bool heed_read_fn(void *user, int64_t done, int64_t total);

typedef struct heed_dataset_opts {
    heed_dataset_kind kind;  /**< AUTO: IDX when the folder has files of those names, else a folder per class */
    heed_part part;
    double validation, test; /**< shares by rule (heed_dataset_split) of parts that the folder does not have itself */
    /* the rest is for folders of pictures */
    int64_t channels;          /**< 1 or 3; 0: 1 when all that is looked at is grey, else 3 */
    int64_t height, width;     /**< 0: the first of 32, 64, 96 that is not below the median shorter side, else 96 */
    heed_image_fit fit;
    heed_image_filter filter;
    uint8_t fill;                /**< of HEED_IMAGE_PAD */
    const char *const *classes;  /**< the folders that are classes, in the order of their numbers, ended by NULL; NULL: all */
    int64_t skip_bad;            /**< so many pictures that cannot be read are passed over; one more is the error */
    heed_read_fn *progress;
    void *user;
} heed_dataset_opts;

/** Opens a folder of IDX files or a folder of pictures, whichever it is.
 *
 *  A folder of pictures has a sub-folder for each class, CLASS/..., or parts with such sub-folders: train/CLASS/..., test/CLASS/...
 *  and val (valid, validation)/CLASS/.... Classes are numbered in the bytewise order of their names; folders below a class count as
 *  that class. Hidden files and what is named like no picture are passed over. Every picture is decoded and made [C,H,W] u8; all
 *  of them are kept in memory (HEED_ERR_LIMIT before it is taken when the context's memory limit has no room).
 *  Samples are in the order of parts, classes and names, whatever the number of threads.
 *
 *  HEED_ERR_IO, HEED_ERR_FORMAT (no class or only one, a class without pictures, a bad picture), HEED_ERR_USAGE, HEED_ERR_LIMIT.
 *  Sizes and channels that are 0 come from at most 101 pictures, evenly spread. */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_open(heed_dataset **out, heed_context *ctx, const char *path, const heed_dataset_opts *opts,
                                                       heed_error *err);
/** The same, known to be a folder of pictures. */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_open_folder(heed_dataset **out, heed_context *ctx, const char *path,
                                                              const heed_dataset_opts *opts, heed_error *err);
HEED_API void heed_dataset_free(heed_dataset *d);
HEED_API int64_t heed_dataset_count(const heed_dataset *d);
HEED_API int64_t heed_dataset_classes(const heed_dataset *d);
HEED_API heed_type heed_dataset_image_type(const heed_dataset *d); /**< u8 [C,H,W] of one picture */
HEED_API const uint8_t *heed_dataset_image(const heed_dataset *d, int64_t i);
HEED_API int64_t heed_dataset_label(const heed_dataset *d, int64_t i);
HEED_API heed_dataset_kind heed_dataset_kind_of(const heed_dataset *d); /**< AUTO: made in memory */
HEED_API const char *heed_dataset_class(const heed_dataset *d, int64_t i);  /**< name of class i; "" when classes have none */
HEED_API const char *heed_dataset_source(const heed_dataset *d, int64_t i); /**< file of sample i below the folder; "" for none */
HEED_API int64_t heed_dataset_skipped(const heed_dataset *d);               /**< bad pictures that were passed over */
HEED_API int64_t heed_dataset_outside(const heed_dataset *d);               /**< pictures of the folder that lie in no class */
/** Mean and standard deviation of pixel / 255 per channel, over samples `order` (NULL: all). */
HEED_API void heed_dataset_moments(const heed_dataset *d, const int64_t *order, int64_t n, double *mean, double *std);

/** Splits by rule: with b = SHA-256 of a picture's pixels, as they are in its file [C,H,W], mod 10000, a sample is in the validation
 *  part when b < fraction * 10000; after those come the test part's (heed_dataset_opts.test), which are not in `d`; the rest trains.
 *  The same picture is always on the same side, whatever its name and size here. A folder's own validation part
 *  stays what it is. Writes sample numbers; each array has room for all. */
HEED_MUST_CHECK HEED_API heed_status heed_dataset_split(const heed_dataset *d, double fraction, int64_t *train, int64_t *n_train,
                                                        int64_t *validation, int64_t *n_validation, heed_error *err);

/* ---- checking ---- */

typedef struct heed_data_class {
    const char *name;
    int64_t train, validation, test;
} heed_data_class;
typedef struct heed_data_size {
    int64_t channels, height, width, pictures;
} heed_data_size;
typedef struct heed_data_bad {
    const char *source, *why;
} heed_data_bad;
/** Two files with the same pixels. */
typedef struct heed_data_twin {
    const char *source, *other;
    bool across_parts, across_classes;
} heed_data_twin;

/** What lies in a folder. Arrays and texts belong to the report. */
typedef struct heed_data_report {
    heed_dataset_kind kind;
    bool own_validation, own_test; /**< parts of its own; else by rule */
    int64_t pictures;              /**< that can be read */
    int64_t n_classes, n_sizes, n_bad, n_twins;
    heed_data_class *classes;
    heed_data_size *sizes;  /**< the commonest first */
    heed_data_bad *bad;
    heed_data_twin *twins;  /**< every later file with the first one of its pixels */
    int64_t hidden, others, outside; /**< passed over: hidden names, files that are no pictures, pictures in no class */
} heed_data_report;

/** Reads all of a data set and tells what is there; bad pictures are listed and are no failure of the call. Of opts kind,
 *  validation, test, classes, progress and user count. */
HEED_MUST_CHECK HEED_API heed_status heed_data_check(heed_data_report **out, heed_context *ctx, const char *path, const heed_dataset_opts *opts,
                                                     heed_error *err);
HEED_API void heed_data_report_free(heed_context *ctx, heed_data_report *r);

/* ---- batches ---- */

typedef struct heed_loader heed_loader;

typedef struct heed_loader_opts {
    int64_t batch_size;        /**< 0: 32 */
    uint64_t seed;
    bool shuffle;              /**< a new order each epoch */
    bool mirror;               /**< each picture mirrored left to right with probability 1/2 */
    double crop;               /**< a part of the picture, at least this share of its area, fills it; 0: off */
    double erase;              /**< with this probability a rectangle is wiped out: zeros after normalisation */
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
