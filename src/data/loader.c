/* Batches of a data set. What is in a batch is a function of (seed, epoch, sample) by the rule of
 * base/rng.h:
 *
 *   order    "data.order", step = epoch: a permutation of the samples
 *   mirror   "data.mirror", row = sample, column 0: its highest bit
 *   shift    "data.shift", row = sample, columns 0, 1: floor(word * (2 s + 1) / 2^32) - s rows down, columns
 *            to the right
 *   crop     "data.crop", row = sample, u_i = column i in [0, 1): a rectangle is scaled to all of the picture
 *            share  a = s + (1 - s) u_0          ratio  q = 1 + m v, or 1 / (1 - m v) for v = 2 u_1 - 1 < 0
 *            m = min(1/3, 1/a - 1), so that it fits; rows h = H sqrt(a / q), columns w = W sqrt(a q), rounded
 *            place  floor(word_2 (H - h + 1) / 2^32), floor(word_3 (W - w + 1) / 2^32)
 *            bilinear: row y reads (y + 1/2) h / H - 1/2, held inside the rectangle (Szegedy 2015)
 *   erase    "data.erase", row = sample: when u_0 < p, a rectangle becomes 0, what the mean is afterwards;
 *            a = 0.02 + (1/3 - 0.02) u_1, v = 2 u_2 - 1, m = 2; size and place (columns 3, 4) as above
 *            (Zhong 2020)
 *
 *   x = (pixel / 255 - mean) / std, from a table per channel; cropped, mirrored, shifted, erased; what comes in
 *   is 0.
 *   Ratios are rational and sqrt is exact to the last bit, so a batch is the same from every compiler.
 *
 * Batches lie in a ring. Invariant, under the gate: released <= taken <= made <= released + slots. The
 * batches [released, taken) (one or none) are the caller's, [taken, made) are ready, and the thread fills
 * slot made % slots while `busy`, so nobody ever looks at what another writes. No heap call is made after
 * heed_loader_new. */

#include "base/context.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/sizes.h"
#include "data/normal.h"
#include <heed/data.h>

#include <inttypes.h>
#include <string.h>

#define LOADER_BATCH 32
#define LOADER_PREFETCH 2
#define LOADER_PREFETCH_MOST 1024

typedef struct loader_batch {
    float *x;
    int64_t *y;
    int64_t n;
} loader_batch;

struct heed_loader {
    heed_context *ctx;
    const heed_dataset *data; /* borrowed */
    heed_type picture;
    int64_t *samples, *order; /* as given; as in this epoch */
    int64_t *permutation;     /* room for a shuffle */
    int64_t n, batch, batches;
    uint64_t seed;
    bool shuffle, mirror;
    int64_t shift;
    double crop, erase;
    struct loader_tap *across; /* [W], of the sample that is being made */
    float *table;              /* [C][256] */
    loader_batch *ring;
    int64_t slots;
    int64_t epoch; /* -1: not started */
    int64_t made, taken, released;
    bool threaded, busy, stop;
    os_gate gate;
    os_thread thread;
};

/* ---- one batch ---- */

typedef struct loader_box {
    int64_t top, left, height, width;
} loader_box;

typedef struct loader_move {
    bool mirror, crop, erase;
    int64_t down, right;
    loader_box cropped, erased;
} loader_move;

/* Share `area` of the picture in ratio `q` to its own, at the place that two words give. */
static loader_box loader_box_of(const heed_loader *l, double area, double q, uint32_t down, uint32_t right)
{
    const int64_t height = l->picture.dims[1], width = l->picture.dims[2];
    loader_box b;

    b.height = i64_min(height, i64_max(1, (int64_t)((double)height * __builtin_sqrt(area / q) + 0.5)));
    b.width = i64_min(width, i64_max(1, (int64_t)((double)width * __builtin_sqrt(area * q) + 0.5)));
    b.top = (int64_t)(down * (uint64_t)(height - b.height + 1) >> 32);
    b.left = (int64_t)(right * (uint64_t)(width - b.width + 1) >> 32);
    return b;
}

/* 1 / (1 + most) to 1 + most, either side of 1 as likely. */
static double loader_ratio(uint32_t word, double most)
{
    const double v = 2 * (double)heed__unit(word) - 1;

    return v < 0 ? 1 / (1 - most * v) : 1 + most * v;
}

static void loader_boxes_of(loader_move *m, const heed_loader *l, uint32_t step, uint32_t row)
{
    uint32_t w[8];

    if (l->crop > 0) {
        const rng r = heed__rng(l->seed, step, "data.crop");

        double area, most;

        heed__rng_quad(w, &r, row, 0);
        area = l->crop + (1 - l->crop) * (double)heed__unit(w[0]);
        most = 1 / area - 1;
        m->crop = true;
        m->cropped = loader_box_of(l, area, loader_ratio(w[1], most < 1.0 / 3 ? most : 1.0 / 3), w[2], w[3]);
    }
    if (l->erase > 0) {
        const rng r = heed__rng(l->seed, step, "data.erase");

        heed__rng_quad(w, &r, row, 0);
        heed__rng_quad(w + 4, &r, row, 1);
        m->erase = (double)heed__unit(w[0]) < l->erase;
        m->erased = loader_box_of(l, 0.02 + (1.0 / 3 - 0.02) * (double)heed__unit(w[1]),
                                  loader_ratio(w[2], 2), w[3], w[4]);
    }
}

static loader_move loader_move_of(const heed_loader *l, uint32_t step, int64_t sample)
{
    const uint32_t row = (uint32_t)sample;
    loader_move m = { .mirror = false };

    loader_boxes_of(&m, l, step, row);

    if (l->mirror) {
        const rng r = heed__rng(l->seed, step, "data.mirror");

        m.mirror = heed__rng_word(&r, row, 0) >> 31;
    }
    if (l->shift > 0) {
        const rng r = heed__rng(l->seed, step, "data.shift");
        const uint64_t places = 2 * (uint64_t)l->shift + 1;

        m.down = (int64_t)(heed__rng_word(&r, row, 0) * places >> 32) - l->shift;
        m.right = (int64_t)(heed__rng_word(&r, row, 1) * places >> 32) - l->shift;
    }
    return m;
}

/* One channel: y[r][c] = table[x[r - down][c - right]], mirrored before it is moved; 0 outside. */
static void loader_plane(float *y, const uint8_t *x, int64_t height, int64_t width, const float *table,
                         loader_move m)
{
    const int64_t first = i64_min(width, i64_max(0, m.right)),
                  end = i64_max(first, i64_min(width, width + m.right));

    for (int64_t r = 0; r < height; r++, y += width) {
        const int64_t from = r - m.down;
        const uint8_t *line;

        if (from < 0 || from >= height) {
            memset(y, 0, (size_t)width * sizeof *y);
            continue;
        }
        line = x + from * width;
        for (int64_t c = 0; c < first; c++)
            y[c] = 0;
        for (int64_t c = first; c < end; c++)
            y[c] = table[line[m.mirror ? width - 1 - (c - m.right) : c - m.right]];
        for (int64_t c = end; c < width; c++)
            y[c] = 0;
    }
}

/* Place i of `n` of a stretch of the picture: between pixels `at` and `next`, `share` of the way. */
typedef struct loader_tap {
    int64_t at, next;
    float share;
} loader_tap;

static loader_tap loader_tap_of(int64_t i, int64_t n, int64_t begin, int64_t length)
{
    const double place = ((double)i + 0.5) * (double)length / (double)n - 0.5;
    const double inside = place < 0 ? 0 : place;
    const int64_t at = i64_min((int64_t)inside, length - 1);

    return (loader_tap){ begin + at, begin + i64_min(at + 1, length - 1), (float)(inside - (double)at) };
}

/* loader_plane for a cropped picture: the same moves on a picture that is read between pixels. */
static void loader_plane_cropped(const heed_loader *l, float *y, const uint8_t *x, int64_t height,
                                 int64_t width, const float *table, const loader_move *m)
{
    for (int64_t c = 0; c < width; c++) {
        const int64_t from = c - m->right;

        if (from >= 0 && from < width)
            l->across[c] =
                loader_tap_of(m->mirror ? width - 1 - from : from, width, m->cropped.left, m->cropped.width);
    }
    for (int64_t r = 0; r < height; r++, y += width) {
        const int64_t from = r - m->down;
        const loader_tap down = loader_tap_of(i64_max(from, 0), height, m->cropped.top, m->cropped.height);
        const uint8_t *above = x + down.at * width, *below = x + down.next * width;

        for (int64_t c = 0; c < width; c++) {
            const loader_tap t = l->across[c];
            float top, bottom;

            if (from < 0 || from >= height || c < m->right || c - m->right >= width) {
                y[c] = 0;
                continue;
            }
            top = table[above[t.at]] + (table[above[t.next]] - table[above[t.at]]) * t.share;
            bottom = table[below[t.at]] + (table[below[t.next]] - table[below[t.at]]) * t.share;
            y[c] = top + (bottom - top) * down.share;
        }
    }
}

static void loader_wipe(float *y, int64_t width, const loader_box *b)
{
    for (int64_t r = 0; r < b->height; r++)
        memset(y + (b->top + r) * width + b->left, 0, (size_t)b->width * sizeof *y);
}

/* Reads what start() changes (order) only while start() waits; the epoch it is told. */
static void loader_fill(const heed_loader *l, loader_batch *b, int64_t epoch, int64_t number)
{
    const int64_t channels = l->picture.dims[0], height = l->picture.dims[1], width = l->picture.dims[2];
    const int64_t begin = number * l->batch, plane = height * width;

    b->n = i64_min(l->batch, l->n - begin);
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t sample = l->order[begin + i];
        const uint8_t *image = heed_dataset_image(l->data, sample);
        const loader_move m = loader_move_of(l, (uint32_t)epoch, sample);

        b->y[i] = heed_dataset_label(l->data, sample);
        for (int64_t c = 0; c < channels; c++) {
            float *y = b->x + (i * channels + c) * plane;

            if (m.crop)
                loader_plane_cropped(l, y, image + c * plane, height, width, l->table + c * 256, &m);
            else
                loader_plane(y, image + c * plane, height, width, l->table + c * 256, m);
            if (m.erase)
                loader_wipe(y, width, &m.erased);
        }
    }
}

/* ---- the thread ---- */

static bool loader_may_make(const heed_loader *l)
{
    return l->epoch >= 0 && l->made < l->batches && l->made - l->released < l->slots;
}

static void loader_main(void *user)
{
    heed_loader *l = user;

    heed__os_gate_lock(&l->gate);
    while (!l->stop) {
        loader_batch *b;
        int64_t epoch, number;

        if (!loader_may_make(l)) {
            heed__os_gate_wait(&l->gate);
            continue;
        }
        epoch = l->epoch;
        number = l->made;
        b = &l->ring[number % l->slots];
        l->busy = true;
        heed__os_gate_unlock(&l->gate);
        loader_fill(l, b, epoch, number);
        heed__os_gate_lock(&l->gate);
        l->busy = false;
        l->made++; /* start() waits for busy, so this is still the epoch it was made for */
        heed__os_gate_wake(&l->gate, 2);
    }
    heed__os_gate_unlock(&l->gate);
}

/* ---- life ---- */

static heed_status loader_check(const heed_dataset *d, const int64_t *order, int64_t n,
                                const heed_loader_opts *o, heed_error *err)
{
    const int64_t channels = heed_dataset_image_type(d).dims[0], count = heed_dataset_count(d);

    if (o->batch_size < 0 || o->shift < 0 || o->shift > INT32_MAX || o->prefetch < -1 ||
        o->prefetch > LOADER_PREFETCH_MOST)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "batch_size %" PRId64 ", shift %" PRId64 " or prefetch %" PRId64
                          " is out of range: not negative, prefetch -1 to %d",
                          o->batch_size, o->shift, o->prefetch, LOADER_PREFETCH_MOST);
    if (!(o->crop >= 0 && o->crop <= 1 && o->erase >= 0 && o->erase <= 1))
        return heed__fail(
            err, HEED_ERR_LIMIT,
            "crop %g or erase %g is out of range: a share of the area and a probability are 0 to 1", o->crop,
            o->erase);
    if (count > UINT32_MAX || n > UINT32_MAX)
        return heed__fail(err, HEED_ERR_LIMIT, "a loader takes up to 2^32 - 1 samples");
    if (n < 0)
        return heed__fail(err, HEED_ERR_USAGE, "%" PRId64 " samples cannot be loaded", n);
    for (int64_t i = 0; order && i < n; i++)
        if (order[i] < 0 || order[i] >= count)
            return heed__fail(err, HEED_ERR_LIMIT,
                              "place %" PRId64 " asks for sample %" PRId64 " of %" PRId64, i, order[i],
                              count);
    for (int64_t c = 0; c < channels; c++) {
        const float mean = o->mean ? o->mean[c] : 0, std = o->std ? o->std[c] : 1;

        if (!(mean >= -NORMAL_MEAN_MOST && mean <= NORMAL_MEAN_MOST && std >= NORMAL_STD_LEAST &&
              std <= NORMAL_STD_MOST))
            return heed__fail(err, HEED_ERR_LIMIT,
                              "channel %" PRId64
                              ": mean %g or standard deviation %g is no use; the deviation "
                              "must be 1e-6 or more",
                              c, (double)mean, (double)std);
    }
    return HEED_OK;
}

static void loader_make_table(heed_loader *l, const heed_loader_opts *o)
{
    for (int64_t c = 0; c < l->picture.dims[0]; c++)
        heed__normal_table(l->table + c * 256, o->mean ? o->mean[c] : 0, o->std ? o->std[c] : 1);
}

static heed_status loader_make_ring(heed_loader *l, heed_error *err)
{
    heap *h = l->ctx->heap;
    const int64_t rows = i64_min(l->batch, i64_max(1, l->n)); /* no batch is larger than the data */
    size_t floats;

    if (!heed__size_mul(&floats, (size_t)rows, (size_t)heed_type_count(&l->picture)))
        return heed__fail(err, HEED_ERR_LIMIT,
                          "a batch of %" PRId64 " pictures is larger than the memory of any machine", rows);
    l->ring = heed__alloc(h, (size_t)l->slots, sizeof *l->ring);
    if (!l->ring)
        return heed__fail_memory(err, (uint64_t)l->slots * sizeof *l->ring);
    for (int64_t i = 0; i < l->slots; i++) {
        l->ring[i].x = heed__alloc(h, floats, sizeof(float));
        l->ring[i].y = heed__alloc(h, (size_t)rows, sizeof(int64_t));
        if (!l->ring[i].x || !l->ring[i].y)
            return heed__fail_memory(err, floats * sizeof(float));
    }
    return HEED_OK;
}

static heed_status loader_build(heed_loader *l, const int64_t *order, const heed_loader_opts *o,
                                heed_error *err)
{
    heap *h = l->ctx->heap;

    l->samples = heed__alloc(h, (size_t)l->n, sizeof *l->samples);
    l->order = heed__alloc(h, (size_t)l->n, sizeof *l->order);
    l->permutation = heed__alloc(h, (size_t)l->n, sizeof *l->permutation);
    l->table = heed__alloc(h, (size_t)l->picture.dims[0], 256 * sizeof *l->table);
    l->across = heed__alloc(h, (size_t)l->picture.dims[2], sizeof *l->across);
    if (!l->samples || !l->order || !l->permutation || !l->table || !l->across)
        return heed__fail_memory(err, (uint64_t)l->n * sizeof *l->samples);
    for (int64_t i = 0; i < l->n; i++)
        l->samples[i] = order ? order[i] : i;
    loader_make_table(l, o);
    TRY(loader_make_ring(l, err));
    if (l->slots > 1) {
        if (!heed__os_thread_start(&l->thread, loader_main, l))
            return heed__fail(err, HEED_ERR_MEMORY,
                              "the thread that makes batches could not be started; use prefetch -1");
        l->threaded = true;
    }
    return HEED_OK;
}

heed_status heed_loader_new(heed_loader **out, heed_context *ctx, const heed_dataset *d, const int64_t *order,
                            int64_t n, const heed_loader_opts *opts, heed_error *err)
{
    const heed_loader_opts none = { 0 }, *o = opts ? opts : &none;
    const int64_t prefetch = o->prefetch ? o->prefetch : LOADER_PREFETCH;
    heed_loader *l;
    heed_status st;

    n = order ? n : heed_dataset_count(d);
    TRY(loader_check(d, order, n, o, err));
    l = heed__alloc(ctx->heap, 1, sizeof *l);
    if (!l)
        return heed__fail_memory(err, sizeof *l);
    *l = (heed_loader){ .ctx = ctx,
                        .data = d,
                        .picture = heed_dataset_image_type(d),
                        .n = n,
                        .seed = o->seed,
                        .batch = o->batch_size ? o->batch_size : LOADER_BATCH,
                        .shuffle = o->shuffle,
                        .mirror = o->mirror,
                        .shift = o->shift,
                        .crop = o->crop,
                        .erase = o->erase,
                        .slots = prefetch < 0 ? 1 : prefetch + 1,
                        .epoch = -1 };
    l->batches = i64_ceil_div(n, l->batch);
    heed__os_gate_init(&l->gate);
    st = loader_build(l, order, o, err);
    if (st != HEED_OK) {
        heed_loader_free(l);
        return st;
    }
    *out = l;
    return HEED_OK;
}

void heed_loader_free(heed_loader *l)
{
    heap *h;

    if (!l)
        return;
    h = l->ctx->heap;
    if (l->threaded) {
        heed__os_gate_lock(&l->gate);
        l->stop = true;
        heed__os_gate_wake(&l->gate, 2);
        heed__os_gate_unlock(&l->gate);
        heed__os_thread_join(&l->thread);
    }
    heed__os_gate_release(&l->gate);
    for (int64_t i = 0; l->ring && i < l->slots; i++) {
        heed__release(h, l->ring[i].x);
        heed__release(h, l->ring[i].y);
    }
    heed__release(h, l->ring);
    heed__release(h, l->across);
    heed__release(h, l->table);
    heed__release(h, l->permutation);
    heed__release(h, l->order);
    heed__release(h, l->samples);
    heed__release(h, l);
}

/* ---- use ---- */

int64_t heed_loader_batches(const heed_loader *l)
{
    return l->batches;
}

static void loader_set_order(heed_loader *l, int64_t epoch)
{
    const rng r = heed__rng(l->seed, (uint32_t)epoch, "data.order");

    if (l->shuffle)
        heed__shuffle(l->permutation, l->n, &r);
    for (int64_t i = 0; i < l->n; i++)
        l->order[i] = l->samples[l->shuffle ? l->permutation[i] : i];
}

heed_status heed_loader_start(heed_loader *l, int64_t epoch, int64_t skip, heed_error *err)
{
    if (epoch < 0 || epoch > UINT32_MAX || skip < 0 || skip > l->batches)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "epoch %" PRId64 ", batch %" PRId64
                          ": epochs are 0 to 2^32 - 1, batches 0 to %" PRId64,
                          epoch, skip, l->batches);
    heed__os_gate_lock(&l->gate);
    l->epoch = -1; /* nothing more of the old epoch */
    while (l->busy)
        heed__os_gate_wait(&l->gate);
    loader_set_order(l, epoch);
    l->made = l->taken = l->released = skip;
    l->epoch = epoch;
    heed__os_gate_wake(&l->gate, 2);
    heed__os_gate_unlock(&l->gate);
    return HEED_OK;
}

/* Waits for the next batch, or makes it here. */
static const loader_batch *loader_take(heed_loader *l)
{
    loader_batch *b = &l->ring[l->taken % l->slots];

    l->released = l->taken;
    if (l->threaded) {
        heed__os_gate_wake(&l->gate, 2);
        while (l->made == l->taken)
            heed__os_gate_wait(&l->gate);
    } else {
        loader_fill(l, b, l->epoch, l->taken);
        l->made++;
    }
    l->taken++;
    return b;
}

heed_status heed_loader_next(heed_loader *l, heed_tensor *x, heed_tensor *y, int64_t *count, heed_error *err)
{
    const heed_type *p = &l->picture;
    const loader_batch *b = NULL;

    heed__os_gate_lock(&l->gate);
    if (l->epoch < 0) {
        heed__os_gate_unlock(&l->gate);
        return heed__fail(err, HEED_ERR_USAGE, "heed_loader_start comes before heed_loader_next");
    }
    if (l->taken < l->batches)
        b = loader_take(l);
    heed__os_gate_unlock(&l->gate);
    *count = b ? b->n : 0;
    *x = (heed_tensor){ { HEED_F32, 4, { *count, p->dims[0], p->dims[1], p->dims[2] } }, b ? b->x : NULL };
    *y = (heed_tensor){ { HEED_I64, 1, { *count } }, b ? b->y : NULL };
    return HEED_OK;
}
