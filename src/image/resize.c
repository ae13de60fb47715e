/* Another size for a picture, byte for byte as PIL's Image.resize.
 *
 * Bilinear and bicubic: along one axis of n samples, scaled to m, output sample i is the weighted mean
 * around
 *
 *   c = (i + 1/2) s,  s = n / m;   w_k ~ f((k + 1/2 - c) / t),  t = max(1, s),  |k + 1/2 - c| < radius t
 *
 * so that shrinking widens the filter and averages what it drops. Weights add up to one, are rounded to 22
 * fractional bits, and a sum of products is rounded to u8 once for each axis:
 *
 *   bilinear  f(x) = 1 - |x|                                    radius 1
 *   bicubic   f(x) = Keys' cubic convolution with a = -1/2      radius 2
 *   nearest   sample floor(c), where c is added up in steps of s as PIL does
 *
 * Columns are scaled first, rows when the height loses more than twice what the width loses, as in Pillow
 * from 13.0 on; before, columns nearly always. Since what the first pass gives is rounded and clipped, the
 * order can be seen: mostly one level, more at the hardest edges. All sums are of integers, so the bytes
 * depend on nothing else. What lies between the two passes is kept for a strip of columns or for one row,
 * never for the whole picture.
 *
 * With a fit the picture is scaled to w x h: as far as needed to cover (CROP) or to fit (PAD) the wanted
 * size, where one side is the wanted one and the other is in proportion, rounded to nearest, halves up, 1
 * at least. The part that is taken begins, or the border that is added ends, at half of the difference,
 * rounded down. */

#include "image/image.h"
#include "base/sizes.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define RESIZE_BITS 22
#define RESIZE_HALF (1 << (RESIZE_BITS - 1))
#define RESIZE_STRIP 256 /* columns kept between the passes */
#define RESIZE_ROWS 4
#define RESIZE_BLOCK 16

/* ---- sizes ---- */

/* One axis: n samples scaled to `scaled`, of which `kept` from `first` on are made; they stand behind
 * `border`. */
typedef struct resize_axis {
    int64_t n, scaled, first, kept, border;
    /* output sample i is the sum of w[i * taps + k] * sample[from[i] + k] over k < count[i] */
    int64_t taps;
    int32_t *w, *from, *count; /* owned */
} resize_axis;

typedef struct resize_job {
    heap *heap;
    heed_resize_opts opts;
    resize_axis x, y;
    bool rows_first;
    heed_tensor in, out;
    uint8_t *between; /* owned, as out.data: what one pass leaves for the other */
} resize_job;

/* a * b / c to the nearest number, halves up, 1 at least; all are below 2^31, so products fit. */
static int64_t resize_ratio(int64_t a, int64_t b, int64_t c)
{
    return i64_max(1, (2 * a * b + c) / (2 * c));
}

static void resize_fit(resize_axis *x, resize_axis *y, int64_t width, int64_t height, heed_image_fit fit)
{
    const bool width_binds = (width * y->n <= height * x->n) == (fit == HEED_IMAGE_PAD);

    x->scaled = width;
    y->scaled = height;
    if (fit != HEED_IMAGE_STRETCH && width_binds)
        y->scaled = resize_ratio(y->n, width, x->n);
    else if (fit != HEED_IMAGE_STRETCH)
        x->scaled = resize_ratio(x->n, height, y->n);
    x->kept = i64_min(x->scaled, width);
    y->kept = i64_min(y->scaled, height);
    x->first = (x->scaled - x->kept) / 2;
    y->first = (y->scaled - y->kept) / 2;
    x->border = (width - x->kept) / 2;
    y->border = (height - y->kept) / 2;
}

static heed_status resize_check(const heed_context *ctx, const heed_type *t, int64_t width, int64_t height,
                                const heed_resize_opts *o, heed_error *err)
{
    if (t->dtype != HEED_U8)
        return heed__fail(err, HEED_ERR_DTYPE, "a picture to resize is %s; u8 is needed",
                          heed_dtype_name(t->dtype));
    if (t->rank != 3 || heed_type_count(t) < 1)
        return heed__fail(err, HEED_ERR_SHAPE, "a picture to resize is u8 [C,H,W], each 1 at least");
    if (o->fit < HEED_IMAGE_STRETCH || o->fit > HEED_IMAGE_PAD || o->filter < HEED_IMAGE_BILINEAR ||
        o->filter > HEED_IMAGE_NEAREST)
        return heed__fail(err, HEED_ERR_USAGE, "fit %d, filter %d: one of them is not in heed/image.h",
                          (int)o->fit, (int)o->filter);
    if (width < 1 || height < 1)
        return heed__fail(err, HEED_ERR_SHAPE, "a picture cannot become %" PRId64 " x %" PRId64 " pixels",
                          width, height);
    TRY(heed__image_allowed(ctx, NULL, (uint64_t)t->dims[2], (uint64_t)t->dims[1], err));
    return heed__image_allowed(ctx, NULL, (uint64_t)width, (uint64_t)height, err);
}

/* ---- weights ---- */

static double resize_triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double resize_cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct resize_filter {
    double (*f)(double x);
    double radius;
} resize_filters[] = {
    [HEED_IMAGE_BILINEAR] = { resize_triangle, 1 },
    [HEED_IMAGE_BICUBIC] = { resize_cubic, 2 },
};

/* The weights of the output sample whose centre is c. The order of operations is PIL's: it decides last
 * bits. */
static void resize_weigh(const resize_axis *a, const struct resize_filter *f, double c, double reach,
                         double narrow, int32_t *w, int32_t *from, int32_t *count)
{
    const int64_t low = i64_max(0, (int64_t)(c - reach + 0.5)),
                  high = i64_min(a->n, (int64_t)(c + reach + 0.5));
    double sum = 0;

    for (int64_t k = low; k < high; k++)
        sum += f->f(((double)k - c + 0.5) * narrow);
    for (int64_t k = low; k < high; k++) {
        double one = f->f(((double)k - c + 0.5) * narrow);

        if (sum != 0)
            one /= sum;
        one *= 1 << RESIZE_BITS;
        w[k - low] = (int32_t)(one < 0 ? one - 0.5 : one + 0.5);
    }
    *from = (int32_t)low;
    *count = (int32_t)(high - low);
}

static heed_status resize_axis_weights(resize_axis *a, heap *h, heed_image_filter filter, heed_error *err)
{
    const struct resize_filter *f = &resize_filters[filter];
    const double scale = (double)a->n / (double)a->scaled, wide = scale < 1 ? 1 : scale;
    const double reach = f->radius * wide, narrow = 1 / wide;

    a->taps = i64_min(a->n, (int64_t)ceil(reach) * 2 + 1);
    a->w = heed__alloc(h, (size_t)(a->kept * a->taps), sizeof *a->w); /* at most 4 n + 3 scaled numbers */
    a->from = heed__alloc(h, (size_t)a->kept, sizeof *a->from);
    a->count = heed__alloc(h, (size_t)a->kept, sizeof *a->count);
    if (!a->w || !a->from || !a->count)
        return heed__fail_memory(err, (uint64_t)(a->kept * a->taps) * sizeof *a->w);
    for (int64_t i = 0; i < a->kept; i++)
        resize_weigh(a, f, ((double)(a->first + i) + 0.5) * scale, reach, narrow, a->w + i * a->taps,
                     &a->from[i], &a->count[i]);
    return HEED_OK;
}

/* Nearest: one sample each; c is added up. */
static heed_status resize_axis_nearest(resize_axis *a, heap *h, heed_error *err)
{
    const double scale = (double)a->n / (double)a->scaled;
    double c = scale * 0.5;

    a->from = heed__alloc(h, (size_t)a->kept, sizeof *a->from);
    if (!a->from)
        return heed__fail_memory(err, (uint64_t)a->kept * sizeof *a->from);
    for (int64_t i = 0; i < a->first + a->kept; i++, c += scale)
        if (i >= a->first)
            a->from[i - a->first] = (int32_t)i64_min((int64_t)c, a->n - 1);
    return HEED_OK;
}

static void resize_axis_release(resize_axis *a, heap *h)
{
    heed__release(h, a->count);
    heed__release(h, a->from);
    heed__release(h, a->w);
}

/* ---- passes ---- */

static uint8_t resize_rounded(int32_t sum)
{
    const int32_t v = sum >> RESIZE_BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Columns [begin, end) of one row of the picture. */
static void resize_columns(const resize_axis *x, const uint8_t *restrict row, int64_t begin, int64_t end,
                           uint8_t *restrict to)
{
    for (int64_t i = begin; i < end; i++) {
        const int32_t *w = x->w + i * x->taps;
        const uint8_t *from = row + x->from[i];
        int32_t sum = RESIZE_HALF;

        for (int32_t k = 0; k < x->count[i]; k++)
            sum += w[k] * from[k];
        to[i - begin] = resize_rounded(sum);
    }
}

/* The same for RESIZE_ROWS rows that lie `stride` bytes apart, into rows RESIZE_STRIP apart: a weight is
 * loaded once. */
static void resize_columns_of_rows(const resize_axis *x, const uint8_t *restrict rows, int64_t stride,
                                   int64_t begin, int64_t end, uint8_t *restrict to)
{
    for (int64_t i = begin; i < end; i++) {
        const int32_t *w = x->w + i * x->taps;
        const uint8_t *from = rows + x->from[i];
        int32_t sum[RESIZE_ROWS] = { RESIZE_HALF, RESIZE_HALF, RESIZE_HALF, RESIZE_HALF };

        for (int32_t k = 0; k < x->count[i]; k++)
            for (int q = 0; q < RESIZE_ROWS; q++)
                sum[q] += w[k] * from[q * stride + k];
        for (int q = 0; q < RESIZE_ROWS; q++)
            to[q * RESIZE_STRIP + i - begin] = resize_rounded(sum[q]);
    }
}

/* One row of n columns from output row i's rows, which lie `stride` bytes apart and begin with y->from[i].
 * The block has a fixed length for the compiler's sake. */
static void resize_rows(const resize_axis *y, int64_t i, const uint8_t *restrict rows, int64_t stride,
                        int64_t n, uint8_t *restrict to)
{
    const int32_t *w = y->w + i * y->taps;
    int64_t at = 0;

    for (; at + RESIZE_BLOCK <= n; at += RESIZE_BLOCK) {
        int32_t sum[RESIZE_BLOCK];

        for (int b = 0; b < RESIZE_BLOCK; b++)
            sum[b] = RESIZE_HALF;
        for (int32_t k = 0; k < y->count[i]; k++)
            for (int b = 0; b < RESIZE_BLOCK; b++)
                sum[b] += w[k] * rows[k * stride + at + b];
        for (int b = 0; b < RESIZE_BLOCK; b++)
            to[at + b] = resize_rounded(sum[b]);
    }
    for (; at < n; at++) {
        int32_t sum = RESIZE_HALF;

        for (int32_t k = 0; k < y->count[i]; k++)
            sum += w[k] * rows[k * stride + at];
        to[at] = resize_rounded(sum);
    }
}

/* Columns first: `between` holds RESIZE_STRIP columns of the rows that y needs. */
static void resize_plane(const resize_job *j, const uint8_t *from, uint8_t *to, int64_t stride)
{
    const resize_axis *x = &j->x, *y = &j->y;
    const int64_t top = y->from[0], bottom = y->from[y->kept - 1] + y->count[y->kept - 1];

    for (int64_t begin = 0; begin < x->kept; begin += RESIZE_STRIP) {
        const int64_t end = i64_min(x->kept, begin + RESIZE_STRIP);
        int64_t r = top;

        for (; r + RESIZE_ROWS <= bottom; r += RESIZE_ROWS)
            resize_columns_of_rows(x, from + r * x->n, x->n, begin, end,
                                   j->between + (r - top) * RESIZE_STRIP);
        for (; r < bottom; r++)
            resize_columns(x, from + r * x->n, begin, end, j->between + (r - top) * RESIZE_STRIP);
        for (int64_t i = 0; i < y->kept; i++)
            resize_rows(y, i, j->between + (y->from[i] - top) * RESIZE_STRIP, RESIZE_STRIP, end - begin,
                        to + i * stride + begin);
    }
}

/* Rows first: `between` holds one row of the picture's width. */
static void resize_plane_rows_first(const resize_job *j, const uint8_t *from, uint8_t *to, int64_t stride)
{
    for (int64_t i = 0; i < j->y.kept; i++) {
        resize_rows(&j->y, i, from + j->y.from[i] * j->x.n, j->x.n, j->x.n, j->between);
        resize_columns(&j->x, j->between, 0, j->x.kept, to + i * stride);
    }
}

static void resize_plane_nearest(const resize_job *j, const uint8_t *from, uint8_t *to, int64_t stride)
{
    const resize_axis *x = &j->x, *y = &j->y;

    for (int64_t i = 0; i < y->kept; i++)
        for (int64_t k = 0; k < x->kept; k++)
            to[i * stride + k] = from[y->from[i] * x->n + x->from[k]];
}

/* ---- the call ---- */

static heed_status resize_prepare(resize_job *j, heed_error *err)
{
    heap *h = j->heap;
    size_t rows, columns;

    if (j->opts.filter == HEED_IMAGE_NEAREST) {
        TRY(resize_axis_nearest(&j->x, h, err));
        return resize_axis_nearest(&j->y, h, err);
    }
    TRY(resize_axis_weights(&j->x, h, j->opts.filter, err));
    TRY(resize_axis_weights(&j->y, h, j->opts.filter, err));
    rows = (size_t)(j->y.from[j->y.kept - 1] + j->y.count[j->y.kept - 1] - j->y.from[0]);
    rows = j->rows_first ? 1 : rows;
    columns = j->rows_first ? (size_t)j->x.n : RESIZE_STRIP;
    j->between = heed__alloc(h, rows, columns);
    return j->between ? HEED_OK : heed__fail_memory(err, (uint64_t)rows * columns);
}

static heed_status resize_begin(resize_job *j, heed_error *err)
{
    const heed_type *t = &j->out.type;
    const int64_t count = heed_type_count(t);

    if (count < 0)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "%" PRId64 " channels of %" PRId64 " x %" PRId64 " pixels overflow", t->dims[0],
                          t->dims[2], t->dims[1]);
    j->out.data = heed__alloc(j->heap, (size_t)count, 1);
    if (!j->out.data)
        return heed__fail_memory(err, (uint64_t)count);
    if (j->opts.fit == HEED_IMAGE_PAD && j->opts.fill)
        memset(j->out.data, j->opts.fill, (size_t)count);
    return HEED_OK;
}

static void resize_run(const resize_job *j)
{
    const int64_t height = j->out.type.dims[1], width = j->out.type.dims[2];

    for (int64_t c = 0; c < j->in.type.dims[0]; c++) {
        const uint8_t *from = (const uint8_t *)j->in.data + c * j->y.n * j->x.n;
        uint8_t *to = (uint8_t *)j->out.data + (c * height + j->y.border) * width + j->x.border;

        if (j->opts.filter == HEED_IMAGE_NEAREST)
            resize_plane_nearest(j, from, to, width);
        else if (j->rows_first)
            resize_plane_rows_first(j, from, to, width);
        else
            resize_plane(j, from, to, width);
    }
}

heed_status heed_image_resize(heed_tensor *out, heed_context *ctx, heed_tensor image, int64_t height,
                              int64_t width, const heed_resize_opts *opts, heed_error *err)
{
    resize_job j = { .heap = ctx->heap, .in = image };
    heed_status st;

    if (opts)
        j.opts = *opts;
    STEP(resize_check(ctx, &image.type, width, height, &j.opts, err));
    j.x.n = image.type.dims[2];
    j.y.n = image.type.dims[1];
    resize_fit(&j.x, &j.y, width, height, j.opts.fit);
    j.rows_first = j.y.n > j.y.scaled && j.y.n - j.y.scaled > 2 * (j.x.n - j.x.scaled);
    if ((uint64_t)i64_max(j.x.scaled, j.y.scaled) > ctx->limits.image_side) {
        st = heed__fail(err, HEED_ERR_LIMIT,
                        "a picture of %" PRId64 " x %" PRId64 " pixels that covers %" PRId64 " x %" PRId64
                        " would have %" PRId64 " x %" PRId64 "; %" PRIu64
                        " is the limit of a side: pad or stretch it",
                        j.x.n, j.y.n, width, height, j.x.scaled, j.y.scaled, ctx->limits.image_side);
        goto done;
    }
    STEP(resize_prepare(&j, err));
    j.out.type = (heed_type){ HEED_U8, 3, { image.type.dims[0], height, width } };
    STEP(resize_begin(&j, err));
    resize_run(&j);
    *out = j.out;
    j.out.data = NULL;
done:
    heed__release(ctx->heap, j.out.data);
    heed__release(ctx->heap, j.between);
    resize_axis_release(&j.y, ctx->heap);
    resize_axis_release(&j.x, ctx->heap);
    return st;
}
