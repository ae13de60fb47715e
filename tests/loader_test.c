/* Batches: order, augmentation and normalisation by the rule, the same for any prefetch, and a clean stop
 * anywhere. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/rng.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/data.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* n pictures of [channels, height, width]; pixel k of picture i is (7 i + 3 k) mod 256, its label i mod 10.
 */
static heed_dataset *make_set(heed_context *ctx, int64_t n, int64_t channels, int64_t height, int64_t width)
{
    const int64_t size = channels * height * width;
    uint8_t *pixels = malloc((size_t)(n * size) + 1);
    int64_t *labels = malloc((size_t)(n + 1) * sizeof *labels);
    heed_dataset *d;
    heed_error err = { 0 };

    for (int64_t i = 0; i < n; i++) {
        labels[i] = i % 10;
        for (int64_t k = 0; k < size; k++)
            pixels[i * size + k] = (uint8_t)(7 * i + 3 * k);
    }
    if (heed_dataset_from_memory(&d, ctx,
                                 (heed_tensor){ HEED_TYPE(HEED_U8, n, channels, height, width), pixels },
                                 (heed_tensor){ HEED_TYPE(HEED_I64, n), labels }, 0, &err) != HEED_OK)
        fail_msg("%s", err.text);
    free(pixels);
    free(labels);
    return d;
}

static heed_loader *make_loader(heed_context *ctx, const heed_dataset *d, heed_loader_opts opts)
{
    heed_loader *l;
    heed_error err = { 0 };

    if (heed_loader_new(&l, ctx, d, NULL, 0, &opts, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return l;
}

static int64_t next(heed_loader *l, heed_tensor *x, heed_tensor *y)
{
    int64_t count = -1;

    assert_int_equal(heed_loader_next(l, x, y, &count, NULL), HEED_OK);
    assert_int_equal(x->type.dims[0], count);
    assert_int_equal(y->type.dims[0], count);
    return count;
}

/* SHA-256 of all batches of the epochs [0, epochs). `slow` waits a little now and then. */
static void digest(heed_loader *l, int64_t epochs, bool slow, uint8_t out[32])
{
    sha256 s;

    heed__sha256_init(&s);
    for (int64_t e = 0; e < epochs; e++) {
        heed_tensor x, y;
        int64_t count, number = 0;

        assert_int_equal(heed_loader_start(l, e, 0, NULL), HEED_OK);
        while ((count = next(l, &x, &y)) > 0) {
            if (slow && number++ % 3 == 0)
                nanosleep(&(struct timespec){ .tv_nsec = 300000 }, NULL);
            heed__sha256_add(&s, x.data, (size_t)heed_type_count(&x.type) * sizeof(float));
            heed__sha256_add(&s, y.data, (size_t)count * sizeof(int64_t));
        }
    }
    heed__sha256_end(&s, out);
}

/* ---- what is in a batch ---- */

static void pixels_are_normalised_per_channel(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 3, 2, 2, 2);
    const float mean[] = { 0.25f, 0.5f }, std[] = { 0.5f, 2 };
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 2, .mean = mean, .std = std });
    heed_tensor x, y;

    assert_int_equal(heed_loader_batches(l), 2);
    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 2);
    assert_int_equal(x.type.rank, 4);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 8; k++) {
            const double p = (7 * i + 3 * k) / 255.0;

            assert_true(((float *)x.data)[8 * i + k] == (float)(k < 4 ? (p - 0.25) / 0.5 : (p - 0.5) / 2));
        }
    assert_int_equal(((int64_t *)y.data)[1], 1);
    assert_int_equal(next(l, &x, &y), 1); /* what is left */
    assert_int_equal(((int64_t *)y.data)[0], 2);
    assert_int_equal(next(l, &x, &y), 0);
    assert_int_equal(next(l, &x, &y), 0);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void order_and_augmentation_follow_the_addressed_numbers(void **state)
{
    enum { N = 50, H = 5, W = 4, SHIFT = 2 };
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, N, 1, H, W);
    const float mean = 0.5f, std = 0.25f;
    const rng order = heed__rng(42, 3, "data.order"), mirror = heed__rng(42, 3, "data.mirror"),
              shift = heed__rng(42, 3, "data.shift");
    heed_loader *l = make_loader(s->ctx, d,
                                 (heed_loader_opts){ .batch_size = N,
                                                     .seed = 42,
                                                     .shuffle = true,
                                                     .mirror = true,
                                                     .shift = SHIFT,
                                                     .mean = &mean,
                                                     .std = &std });
    int64_t permutation[N], mirrored = 0;
    heed_tensor x, y;

    assert_int_equal(heed_loader_start(l, 3, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), N);
    heed__shuffle(permutation, N, &order);
    for (int64_t i = 0; i < N; i++) {
        const uint32_t sample = (uint32_t)permutation[i];
        const bool flip = heed__rng_word(&mirror, sample, 0) >> 31;
        const int64_t down =
            (int64_t)((uint64_t)heed__rng_word(&shift, sample, 0) * (2 * SHIFT + 1) >> 32) - SHIFT;
        const int64_t right =
            (int64_t)((uint64_t)heed__rng_word(&shift, sample, 1) * (2 * SHIFT + 1) >> 32) - SHIFT;

        mirrored += flip;
        assert_int_equal(((int64_t *)y.data)[i], sample % 10);
        for (int64_t r = 0; r < H; r++)
            for (int64_t c = 0; c < W; c++) {
                const int64_t from_r = r - down, from_c = c - right;
                const bool inside = from_r >= 0 && from_r < H && from_c >= 0 && from_c < W;
                const int64_t k = from_r * W + (flip ? W - 1 - from_c : from_c);
                const float want = inside ? (float)(((uint8_t)(7 * sample + 3 * k) / 255.0 - 0.5) / 0.25) : 0;

                assert_true(((float *)x.data)[(i * H + r) * W + c] == want);
            }
    }
    assert_true(mirrored > N / 4 && mirrored < 3 * N / 4);
    heed_loader_free(l);
    heed_dataset_free(d);
}

/* The rectangle of a share and a ratio, as the loader's first lines say. */
typedef struct box {
    int64_t top, left, height, width;
} box;

static box box_of(double area, double v, double most, uint32_t down, uint32_t right, int64_t height, int64_t width)
{
    const double q = v < 0 ? 1 / (1 - most * v) : 1 + most * v;
    box b = { .height = (int64_t)floor(height * sqrt(area / q) + 0.5), .width = (int64_t)floor(width * sqrt(area * q) + 0.5) };

    b.height = b.height < 1 ? 1 : b.height > height ? height : b.height;
    b.width = b.width < 1 ? 1 : b.width > width ? width : b.width;
    b.top = (int64_t)((uint64_t)down * (uint64_t)(height - b.height + 1) >> 32);
    b.left = (int64_t)((uint64_t)right * (uint64_t)(width - b.width + 1) >> 32);
    return b;
}

/* Pixel of a picture between its pixels, inside the box. */
static float between(const float *x, int64_t width, const box *b, int64_t r, int64_t c, int64_t height)
{
    const double y = (r + 0.5) * (double)b->height / (double)height - 0.5,
                 z = (c + 0.5) * (double)b->width / (double)width - 0.5;
    const double inside_y = y < 0 ? 0 : y, inside_z = z < 0 ? 0 : z;
    const int64_t y0 = (int64_t)inside_y, z0 = (int64_t)inside_z;
    const int64_t y1 = y0 + 1 < b->height ? y0 + 1 : b->height - 1, z1 = z0 + 1 < b->width ? z0 + 1 : b->width - 1;
    const float *above = x + (b->top + y0) * width + b->left, *below = x + (b->top + y1) * width + b->left;
    const float share = (float)(inside_z - (double)z0);
    const float top = above[z0] + (above[z1] - above[z0]) * share, bottom = below[z0] + (below[z1] - below[z0]) * share;

    return top + (bottom - top) * (float)(inside_y - (double)y0);
}

static void crops_and_erased_rectangles_follow_the_addressed_numbers(void **state)
{
    enum { N = 60, H = 9, W = 7, SHIFT = 1 };
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, N, 2, H, W);
    const float mean[] = { 0.5f, 0.25f }, std[] = { 0.25f, 1 };
    const rng crop = heed__rng(7, 5, "data.crop"), erase = heed__rng(7, 5, "data.erase"),
              mirror = heed__rng(7, 5, "data.mirror"), shift = heed__rng(7, 5, "data.shift");
    heed_loader *l = make_loader(s->ctx, d,
                                 (heed_loader_opts){ .batch_size = N, .seed = 7, .mirror = true, .shift = SHIFT,
                                                     .crop = 0.25, .erase = 0.5, .mean = mean, .std = std });
    int wiped = 0;
    heed_tensor x, y;

    assert_int_equal(heed_loader_start(l, 5, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), N);
    for (int64_t i = 0; i < N; i++) {
        const uint32_t n = (uint32_t)i;
        const double area = 0.25 + 0.75 * (double)heed__unit(heed__rng_word(&crop, n, 0));
        const double most = 1 / area - 1 < 1.0 / 3 ? 1 / area - 1 : 1.0 / 3;
        const box kept = box_of(area, 2 * (double)heed__unit(heed__rng_word(&crop, n, 1)) - 1, most,
                                heed__rng_word(&crop, n, 2), heed__rng_word(&crop, n, 3), H, W);
        const bool wipe = (double)heed__unit(heed__rng_word(&erase, n, 0)) < 0.5;
        const box gone = box_of(0.02 + (1.0 / 3 - 0.02) * (double)heed__unit(heed__rng_word(&erase, n, 1)),
                                2 * (double)heed__unit(heed__rng_word(&erase, n, 2)) - 1, 2, heed__rng_word(&erase, n, 3),
                                heed__rng_word(&erase, n, 4), H, W);
        const bool flip = heed__rng_word(&mirror, n, 0) >> 31;
        const int64_t down = (int64_t)((uint64_t)heed__rng_word(&shift, n, 0) * 3 >> 32) - SHIFT;
        const int64_t right = (int64_t)((uint64_t)heed__rng_word(&shift, n, 1) * 3 >> 32) - SHIFT;

        wiped += wipe;
        assert_true((double)(kept.height * kept.width) > 0.15 * H * W);
        for (int p = 0; p < 2; p++) {
            float plane[H * W];

            for (int k = 0; k < H * W; k++)
                plane[k] = (float)(((uint8_t)(7 * i + 3 * (p * H * W + k)) / 255.0 - (double)mean[p]) / (double)std[p]);
            for (int64_t r = 0; r < H; r++)
                for (int64_t c = 0; c < W; c++) {
                    const int64_t from_r = r - down, from_c = flip ? W - 1 - (c - right) : c - right;
                    const bool inside = from_r >= 0 && from_r < H && c - right >= 0 && c - right < W;
                    const bool erased = wipe && r >= gone.top && r < gone.top + gone.height && c >= gone.left &&
                                        c < gone.left + gone.width;
                    const float want = inside && !erased ? between(plane, W, &kept, from_r, from_c, H) : 0;

                    assert_true(((float *)x.data)[((i * 2 + p) * H + r) * W + c] == want);
                }
        }
    }
    assert_true(wiped > N / 4 && wiped < 3 * N / 4);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void a_crop_of_all_of_the_picture_is_the_picture(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 5, 1, 6, 4);
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 5, .crop = 1 });
    heed_tensor x, y;

    assert_int_equal(heed_loader_start(l, 1, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 5);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 24; k++)
            assert_true(((float *)x.data)[24 * i + k] == (float)((uint8_t)(7 * i + 3 * k) / 255.0));
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void a_shift_larger_than_the_picture_leaves_the_mean(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 20, 1, 2, 3);
    heed_loader *l =
        make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 20, .shift = INT32_MAX, .mirror = true });
    heed_tensor x, y;

    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 20);
    for (int k = 0; k < 20 * 6; k++)
        assert_true(((float *)x.data)[k] == 0);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void given_samples_come_in_their_order_and_no_others(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 30, 1, 1, 1);
    const int64_t order[] = { 29, 7, 7, 0 };
    heed_loader *l;
    heed_tensor x, y;

    assert_int_equal(heed_loader_new(&l, s->ctx, d, order, 4, &(heed_loader_opts){ .batch_size = 3 }, NULL),
                     HEED_OK);
    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 3);
    assert_int_equal(((int64_t *)y.data)[0], 9);
    assert_int_equal(((int64_t *)y.data)[1], 7);
    assert_int_equal(((int64_t *)y.data)[2], 7);
    assert_int_equal(next(l, &x, &y), 1);
    assert_int_equal(((int64_t *)y.data)[0], 0);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void epochs_differ_and_repeat(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 100, 1, 2, 2);
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 100, .shuffle = true });
    int64_t first[100], sum = 0;
    heed_tensor x, y;
    int same = 0;

    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 100);
    memcpy(first, y.data, sizeof first);
    assert_int_equal(heed_loader_start(l, 1, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 100);
    for (int i = 0; i < 100; i++) {
        same += ((int64_t *)y.data)[i] == first[i];
        sum += ((int64_t *)y.data)[i];
    }
    assert_true(same < 50);
    assert_int_equal(sum, 450); /* each sample once */
    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 100);
    assert_memory_equal(y.data, first, sizeof first);
    heed_loader_free(l);
    heed_dataset_free(d);
}

/* ---- the same batches ---- */

static void batches_are_the_same_for_any_prefetch(void **state)
{
    static const int64_t prefetch[] = { -1, 0, 1, 2, 3, 5, 8, 64 };
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 203, 3, 6, 5);
    uint8_t first[32], now[32];

    for (size_t i = 0; i < sizeof prefetch / sizeof prefetch[0]; i++)
        for (int slow = 0; slow < 2; slow++) {
            heed_loader *l = make_loader(s->ctx, d,
                                         (heed_loader_opts){ .batch_size = 10,
                                                             .seed = 5,
                                                             .shuffle = true,
                                                             .mirror = true,
                                                             .shift = 2,
                                                             .crop = 0.5,
                                                             .erase = 0.5,
                                                             .prefetch = prefetch[i] });

            digest(l, 3, slow, i || slow ? now : first);
            if (i || slow)
                assert_memory_equal(first, now, sizeof now);
            heed_loader_free(l);
        }
    heed_dataset_free(d);
}

static void skipping_gives_what_follows(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 47, 1, 3, 3);
    const heed_loader_opts opts = { .batch_size = 5, .seed = 1, .shuffle = true, .mirror = true, .shift = 1, .crop = 0.5,
                                    .erase = 0.5 };
    heed_loader *a = make_loader(s->ctx, d, opts), *b = make_loader(s->ctx, d, opts);
    heed_tensor x, y, skipped_x, skipped_y;

    for (int64_t skip = 0; skip <= 10; skip++) {
        int64_t count;

        assert_int_equal(heed_loader_start(a, 2, 0, NULL), HEED_OK);
        assert_int_equal(heed_loader_start(b, 2, skip, NULL), HEED_OK);
        for (int64_t i = 0; i < skip; i++)
            assert_true(next(a, &x, &y) > 0);
        do {
            count = next(a, &x, &y);
            assert_int_equal(next(b, &skipped_x, &skipped_y), count);
            if (count > 0)
                assert_memory_equal(x.data, skipped_x.data, (size_t)heed_type_count(&x.type) * sizeof(float));
        } while (count > 0);
    }
    heed_loader_free(a);
    heed_loader_free(b);
    heed_dataset_free(d);
}

/* A borrowed batch keeps its bytes while the thread works on. */
static void a_batch_stays_until_the_next_call(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 64, 1, 4, 4);
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 4, .prefetch = 1 });
    heed_tensor x, y;
    float before[64];

    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    while (next(l, &x, &y) > 0) {
        memcpy(before, x.data, sizeof before);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        assert_memory_equal(before, x.data, sizeof before);
    }
    heed_loader_free(l);
    heed_dataset_free(d);
}

/* ---- stopping ---- */

static void an_epoch_may_be_left_anywhere(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 100, 1, 8, 8);

    for (int64_t taken = 0; taken < 12; taken++)
        for (int64_t prefetch = -1; prefetch < 5; prefetch++) {
            heed_loader *l = make_loader(
                s->ctx, d, (heed_loader_opts){ .batch_size = 10, .shuffle = true, .prefetch = prefetch });
            heed_tensor x, y;

            for (int64_t epoch = 0; epoch < 3; epoch++) {
                assert_int_equal(heed_loader_start(l, epoch, 0, NULL), HEED_OK);
                for (int64_t i = 0; i < taken; i++)
                    assert_int_equal(next(l, &x, &y), i < 10 ? 10 : 0);
            }
            heed_loader_free(l);
        }
    heed_dataset_free(d);
}

static void a_loader_that_never_started_is_freed(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 10, 1, 1, 1);
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ 0 });
    heed_tensor x, y;
    int64_t count;

    assert_int_equal(heed_loader_next(l, &x, &y, &count, NULL), HEED_ERR_USAGE);
    heed_loader_free(l);
    heed_loader_free(NULL);
    heed_dataset_free(d);
}

static void an_empty_data_set_has_no_batches(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 0, 1, 2, 2);
    heed_loader *l = make_loader(s->ctx, d, (heed_loader_opts){ .shuffle = true });
    heed_tensor x, y;

    assert_int_equal(heed_loader_batches(l), 0);
    assert_int_equal(heed_loader_start(l, 0, 0, NULL), HEED_OK);
    assert_int_equal(next(l, &x, &y), 0);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static void no_heap_call_is_made_after_the_loader_was_made(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 100, 1, 3, 3);
    heed_loader *l = make_loader(
        s->ctx, d, (heed_loader_opts){ .batch_size = 7, .shuffle = true, .mirror = true, .shift = 1 });
    const uint64_t calls = heed__heap_calls(s->ctx->heap);
    uint8_t out[32];

    digest(l, 3, false, out);
    assert_int_equal(heed__heap_calls(s->ctx->heap), calls);
    heed_loader_free(l);
    heed_dataset_free(d);
}

/* ---- what is refused ---- */

static heed_status new_status(scratch *s, const heed_dataset *d, const int64_t *order, int64_t n,
                              heed_loader_opts opts)
{
    heed_loader *l = NULL;
    heed_error err = { 0 };
    const heed_status st = heed_loader_new(&l, s->ctx, d, order, n, &opts, &err);

    assert_int_equal(err.code, st);
    heed_loader_free(l);
    return st;
}

static void options_out_of_range_are_refused(void **state)
{
    scratch *s = *state;
    heed_dataset *d = make_set(s->ctx, 10, 1, 1, 1);
    const int64_t high[] = { 0, 10 }, negative[] = { -1 };
    const float zero = 0, nan = NAN, infinite = INFINITY, one = 1;
    heed_loader *l;

    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ 0 }), HEED_OK);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .batch_size = INT64_MAX }),
                     HEED_OK); /* one batch of ten */
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .batch_size = -1 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .shift = -1 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .shift = (int64_t)INT32_MAX + 1 }),
                     HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .crop = -0.1 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .crop = 1.1 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .erase = 1.1 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .erase = NAN }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .prefetch = -2 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .prefetch = 1024 }), HEED_OK);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .prefetch = 1025 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .std = &zero }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .std = &nan }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, NULL, 0, (heed_loader_opts){ .mean = &infinite, .std = &one }),
                     HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, high, 1, (heed_loader_opts){ 0 }), HEED_OK);
    assert_int_equal(new_status(s, d, high, 2, (heed_loader_opts){ 0 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, negative, 1, (heed_loader_opts){ 0 }), HEED_ERR_LIMIT);
    assert_int_equal(new_status(s, d, high, -1, (heed_loader_opts){ 0 }), HEED_ERR_USAGE);
    l = make_loader(s->ctx, d, (heed_loader_opts){ .batch_size = 5 });
    assert_int_equal(heed_loader_start(l, -1, 0, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_loader_start(l, (int64_t)UINT32_MAX + 1, 0, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_loader_start(l, UINT32_MAX, 2, NULL), HEED_OK);
    assert_int_equal(heed_loader_start(l, 0, 3, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_loader_start(l, 0, -1, NULL), HEED_ERR_LIMIT);
    heed_loader_free(l);
    heed_dataset_free(d);
}

static heed_status loader_run(heed_context *ctx, void *user, heed_error *err)
{
    const uint8_t pixels[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    const int64_t labels[8] = { 0 };
    heed_dataset *d = NULL;
    heed_loader *l = NULL;
    heed_tensor x, y;
    int64_t count;
    heed_status st;

    (void)user;
    STEP(heed_dataset_from_memory(&d, ctx, (heed_tensor){ HEED_TYPE(HEED_U8, 8, 1, 1), (void *)pixels },
                                  (heed_tensor){ HEED_TYPE(HEED_I64, 8), (void *)labels }, 0, err));
    STEP(heed_loader_new(&l, ctx, d, NULL, 0, &(heed_loader_opts){ .batch_size = 3, .prefetch = 2 }, err));
    STEP(heed_loader_start(l, 0, 0, err));
    STEP(heed_loader_next(l, &x, &y, &count, err));
done:
    heed_loader_free(l);
    heed_dataset_free(d);
    return st;
}

static void loading_survives_each_failing_allocation(void **state)
{
    const heed_scenario s = { "loader", loader_run, NULL, NULL };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls >= 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pixels_are_normalised_per_channel),
        TEST(order_and_augmentation_follow_the_addressed_numbers),
        TEST(crops_and_erased_rectangles_follow_the_addressed_numbers),
        TEST(a_crop_of_all_of_the_picture_is_the_picture),
        TEST(a_shift_larger_than_the_picture_leaves_the_mean),
        TEST(given_samples_come_in_their_order_and_no_others),
        TEST(epochs_differ_and_repeat),
        TEST(batches_are_the_same_for_any_prefetch),
        TEST(skipping_gives_what_follows),
        TEST(a_batch_stays_until_the_next_call),
        TEST(an_epoch_may_be_left_anywhere),
        TEST(a_loader_that_never_started_is_freed),
        TEST(an_empty_data_set_has_no_batches),
        TEST(no_heap_call_is_made_after_the_loader_was_made),
        TEST(options_out_of_range_are_refused),
        TEST(loading_survives_each_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
