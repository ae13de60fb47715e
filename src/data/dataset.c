/* Pictures with labels in memory: u8 [N,C,H,W] and i64 [N]. */

#include "data/dataset.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/files.h"

#include <inttypes.h>
#include <string.h>

#define DATASET_LABEL_MOST (INT32_MAX - 1)

/* ---- making one ---- */

/* [N,H,W] or [N,C,H,W] -> [C,H,W]. */
static heed_status dataset_picture_type(heed_type *out, heed_context *ctx, const heed_type *images,
                                        heed_error *err)
{
    const int64_t side_most = (int64_t)ctx->limits.image_side;
    heed_type t = { HEED_U8, 3, { 1 } };

    if (images->dtype != HEED_U8)
        return heed__fail(err, HEED_ERR_DTYPE, "pictures are %s; u8 is needed",
                          heed_dtype_name(images->dtype));
    if (heed_type_count(images) < 0 || (images->rank != 3 && images->rank != 4))
        return heed__fail(err, HEED_ERR_SHAPE, "pictures have %d dimensions; [N,H,W] or [N,C,H,W] is needed",
                          images->rank);
    if (images->rank == 4)
        t.dims[0] = images->dims[1];
    t.dims[1] = images->dims[images->rank - 2];
    t.dims[2] = images->dims[images->rank - 1];
    for (int i = 0; i < 3; i++)
        if (t.dims[i] < 1 || t.dims[i] > side_most)
            return heed__fail(err, HEED_ERR_LIMIT,
                              "pictures of %" PRId64 " channels, %" PRId64 " x %" PRId64
                              " pixels; each is 1 to %" PRId64,
                              t.dims[0], t.dims[1], t.dims[2], side_most);
    *out = t;
    return HEED_OK;
}

/* Number of classes, after a look at every label. */
static heed_status dataset_classes_of(int64_t *out, const int64_t *labels, int64_t n, int64_t classes,
                                      heed_error *err)
{
    int64_t largest = -1;

    if (classes < 0 || classes > DATASET_LABEL_MOST + 1)
        return heed__fail(err, HEED_ERR_LIMIT, "%" PRId64 " classes are outside 0 to %d", classes,
                          DATASET_LABEL_MOST + 1);
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] < 0 || labels[i] > (classes ? classes - 1 : DATASET_LABEL_MOST))
            return heed__fail(err, HEED_ERR_LIMIT,
                              "sample %" PRId64 " has label %" PRId64 ", which is outside 0 to %" PRId64, i,
                              labels[i], classes ? classes - 1 : DATASET_LABEL_MOST);
        largest = labels[i] > largest ? labels[i] : largest;
    }
    *out = classes ? classes : largest + 1;
    return HEED_OK;
}

/* Takes over images and labels (blocks of the heap), also when it fails. */
static heed_status dataset_take(heed_dataset **out, heed_context *ctx, const heed_type *images_type,
                                uint8_t *images, const heed_type *labels_type, int64_t *labels,
                                int64_t classes, heed_error *err)
{
    heed_dataset *d = heed__alloc(ctx->heap, 1, sizeof *d);
    heed_status st;

    if (!d) {
        heed__release(ctx->heap, images);
        heed__release(ctx->heap, labels);
        return heed__fail_memory(err, sizeof *d);
    }
    *d = (heed_dataset){ .ctx = ctx, .images = images, .labels = labels };
    heed__arena_init(&d->arena, ctx->heap);
    STEP(dataset_picture_type(&d->picture, ctx, images_type, err));
    d->size = (size_t)heed_type_count(&d->picture);
    d->n = images_type->dims[0];
    if (labels_type->rank != 1 || labels_type->dims[0] != d->n) {
        st = heed__fail(err, HEED_ERR_SHAPE,
                        "%" PRId64 " pictures have %" PRId64 " labels in %d dimensions; one each is needed",
                        d->n, labels_type->rank > 0 ? labels_type->dims[0] : 1, labels_type->rank);
        goto done;
    }
    STEP(dataset_classes_of(&d->classes, labels, d->n, classes, err));
    *out = d;
    return HEED_OK;
done:
    heed_dataset_free(d);
    return st;
}

heed_status heed_dataset_from_memory(heed_dataset **out, heed_context *ctx, heed_tensor images,
                                     heed_tensor labels, int64_t classes, heed_error *err)
{
    const int64_t bytes = heed_type_count(&images.type), n = heed_type_count(&labels.type);
    uint8_t *image_copy;
    int64_t *label_copy;

    if (labels.type.dtype != HEED_I64)
        return heed__fail(err, HEED_ERR_DTYPE, "labels are %s; i64 is needed",
                          heed_dtype_name(labels.type.dtype));
    if (images.type.dtype != HEED_U8)
        return heed__fail(err, HEED_ERR_DTYPE, "pictures are %s; u8 is needed",
                          heed_dtype_name(images.type.dtype));
    if (bytes < 0 || n < 0)
        return heed__fail(err, HEED_ERR_SHAPE, "the sizes of the pictures or labels are not valid");
    image_copy = heed__alloc(ctx->heap, (size_t)bytes, 1);
    label_copy = heed__alloc(ctx->heap, (size_t)n, sizeof *label_copy);
    if (!image_copy || !label_copy) {
        heed__release(ctx->heap, image_copy);
        heed__release(ctx->heap, label_copy);
        return heed__fail_memory(err, (uint64_t)bytes);
    }
    if (bytes)
        memcpy(image_copy, images.data, (size_t)bytes);
    if (n)
        memcpy(label_copy, labels.data, (size_t)n * sizeof *label_copy);
    return dataset_take(out, ctx, &images.type, image_copy, &labels.type, label_copy, classes, err);
}

/* folder/name or folder/name.gz. */
static heed_status dataset_read_idx(heed_tensor *out, heed_context *ctx, const char *folder, const char *name,
                                    heed_error *err)
{
    char *plain = heed__path_join(ctx, folder, name), *gz = NULL;
    const size_t length = plain ? strlen(plain) : 0;
    heed_status st;

    if (plain)
        gz = heed__alloc(ctx->heap, length + sizeof ".gz", 1);
    if (!gz) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    memcpy(gz, plain, length);
    memcpy(gz + length, ".gz", sizeof ".gz");
    STEP(heed_idx_read(out, ctx, heed__file_exists(ctx, plain) ? plain : gz, 0, -1, err));
done:
    heed__release(ctx->heap, gz);
    heed__release(ctx->heap, plain);
    return st;
}

heed_status heed_dataset_open_idx(heed_dataset **out, heed_context *ctx, const char *folder, const char *part,
                                  heed_error *err)
{
    const bool train = strcmp(part, "train") == 0;
    heed_tensor images = { .data = NULL }, labels = { .data = NULL };
    const uint8_t *narrow;
    int64_t *wide, n;
    heed_status st;

    if (!train && strcmp(part, "test") != 0)
        return heed__fail(err, HEED_ERR_USAGE, "\"%.20s\" is no part of a data set; say train or test", part);
    STEP(dataset_read_idx(&images, ctx, folder, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte",
                          err));
    STEP(dataset_read_idx(&labels, ctx, folder, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte",
                          err));
    n = heed_type_count(&labels.type);
    narrow = labels.data;
    wide = heed__alloc(ctx->heap, (size_t)n, sizeof *wide);
    if (!wide || !narrow) {
        st = heed__fail_memory(err, (uint64_t)n * sizeof *wide);
        goto done;
    }
    for (int64_t i = 0; i < n; i++)
        wide[i] = narrow[i];
    st = dataset_take(out, ctx, &images.type, images.data, &labels.type, wide, 0, err);
    images.data = NULL;
    if (st == HEED_OK)
        (*out)->kind = HEED_DATASET_IDX;
done:
    heed_data_free(ctx, &labels);
    heed_data_free(ctx, &images);
    return st;
}

void heed_dataset_free(heed_dataset *d)
{
    heap *h;

    if (!d)
        return;
    h = d->ctx->heap;
    heed__arena_release(&d->arena);
    heed__release(h, d->sources);
    heed__release(h, d->sides);
    heed__release(h, d->images);
    heed__release(h, d->labels);
    heed__release(h, d);
}

/* ---- asking ---- */

int64_t heed_dataset_count(const heed_dataset *d)
{
    return d->n;
}

int64_t heed_dataset_classes(const heed_dataset *d)
{
    return d->classes;
}

heed_type heed_dataset_image_type(const heed_dataset *d)
{
    return d->picture;
}

const uint8_t *heed_dataset_image(const heed_dataset *d, int64_t i)
{
    return i >= 0 && i < d->n ? d->images + (size_t)i * d->size : NULL;
}

int64_t heed_dataset_label(const heed_dataset *d, int64_t i)
{
    return i >= 0 && i < d->n ? d->labels[i] : -1;
}

heed_dataset_kind heed_dataset_kind_of(const heed_dataset *d)
{
    return d->kind;
}

const char *heed_dataset_class(const heed_dataset *d, int64_t i)
{
    return d->names && i >= 0 && i < d->classes ? d->names[i] : "";
}

const char *heed_dataset_source(const heed_dataset *d, int64_t i)
{
    return d->sources && i >= 0 && i < d->n ? d->sources[i] : "";
}

int64_t heed_dataset_skipped(const heed_dataset *d)
{
    return d->skipped;
}

int64_t heed_dataset_outside(const heed_dataset *d)
{
    return d->outside;
}

/* Counted by value first, so that nothing depends on the order and no sum loses digits. */
static void dataset_moments_of(const uint64_t counts[256], double *mean, double *std)
{
    double n = 0, sum = 0, squares = 0;

    for (int v = 0; v < 256; v++) {
        n += (double)counts[v];
        sum += (double)counts[v] * v;
    }
    *mean = n > 0 ? sum / n / 255 : 0;
    for (int v = 0; v < 256; v++)
        squares += (double)counts[v] * (v / 255.0 - *mean) * (v / 255.0 - *mean);
    *std = n > 0 ? __builtin_sqrt(squares / n) : 0;
}

void heed_dataset_moments(const heed_dataset *d, const int64_t *order, int64_t n, double *mean, double *std)
{
    const size_t pixels = (size_t)(d->picture.dims[1] * d->picture.dims[2]);

    for (int64_t c = 0; c < d->picture.dims[0]; c++) {
        uint64_t counts[256] = { 0 };

        for (int64_t i = 0; i < (order ? n : d->n); i++) {
            const uint8_t *image = heed_dataset_image(d, order ? order[i] : i);

            for (size_t k = 0; image && k < pixels; k++)
                counts[image[(size_t)c * pixels + k]]++;
        }
        dataset_moments_of(counts, &mean[c], &std[c]);
    }
}

uint16_t heed__split_bucket(const uint8_t digest[32])
{
    unsigned rest = 0;

    for (size_t k = 0; k < 32; k++)
        rest = (rest * 256 + digest[k]) % SPLIT_BUCKETS;
    return (uint16_t)rest;
}

/* The same picture lands on the same side wherever it stands. */
static uint16_t dataset_side(const heed_dataset *d, int64_t i)
{
    uint8_t digest[32];
    sha256 s;

    if (d->sides)
        return d->sides[i];
    heed__sha256_init(&s);
    heed__sha256_add(&s, heed_dataset_image(d, i), d->size);
    heed__sha256_end(&s, digest);
    return heed__split_bucket(digest);
}

heed_status heed_dataset_split(const heed_dataset *d, double fraction, int64_t *train, int64_t *n_train,
                               int64_t *validation, int64_t *n_validation, heed_error *err)
{
    int64_t a = 0, b = 0;

    if (!(fraction >= 0 && fraction <= 1))
        return heed__fail(err, HEED_ERR_LIMIT, "a validation part of %g is outside 0 to 1", fraction);
    for (int64_t i = 0; i < d->n; i++) {
        const uint16_t side = dataset_side(d, i);

        if (side == SIDE_VALIDATION || (double)side < fraction * SPLIT_BUCKETS)
            validation[b++] = i;
        else
            train[a++] = i;
    }
    *n_train = a;
    *n_validation = b;
    return HEED_OK;
}
