/* Convolution as a matrix product whose columns are never written down; compiled once per instruction level.
 *
 *   forward   y[o, t]        = bias[o] + sum_k w[o, k] x[plane of k, t + shift of k]    k = (channel, kh, kw)
 *   dx        dx[i, s t + f] = sum_k w'[i, k] dy[plane of k, t + shift of k]            k = (o, kh, kw of f)
 *   dw        dw[o, k]       = sum_t dy[o, t] x[plane of k, t + shift of k]            t = (item, row, column)
 *
 * The source of a block of rows is copied once into planes with its padding written out. A stride s cuts the
 * source into s x s phases, a plane each, so that inside a plane a step of t is always one float:
 *
 *   source index = (t + shift) s + phase - pad,   k d = shift s + phase       (forward, dw; one axis)
 *   source index = t - e,                         k d = e s + phase           (dx; the output pixel's phase)
 *
 * A position is then row * pitch + column for every k, and B's vector for k lies at planes + at[k] +
 * position: the micro-kernel reads it there. Where left and right padding meet they are the same zeros (pitch
 * = width + pad); lanes at such positions compute numbers that nobody copies out. An element is one chain in
 * rising k, cut at multiples of GEMM_KC.
 *
 * For dw the same table gives the rows of A; the pixels of dy are transposed into panels, at most GEMM_KC at
 * a time. */

#include "cpu/level/gemm_kernel.h"

TILES(PLANES)
TILES(TAPS)
TILE(PLANES, 1, 1, 8)
TILE(PLANES, 2, 1, 4)

static tile_fn *const conv_planes[NV][MR + 1] = TILE_TABLE(PLANES);
static tile_fn *const conv_taps[NV][MR + 1] = TILE_TABLE(TAPS);

#define PANEL_MAX (8 * VL)        /* columns of the widest kernel: what may be read beyond a plane's end */
#define PANEL_FLOATS (2 * 1024)   /* results kept before they are copied out: 8 KiB of L1 */
#define PLANES_FLOATS (64 * 1024) /* planes of a block: 256 KiB, beside the weights in L2 */

/* One pass over one shape; [0] is the vertical axis, [1] the horizontal one. A block covers block[a] values
 * of t. */
typedef struct conv_plan {
    int64_t channels;         /* of the source, in a group */
    int64_t size[2];          /* of the source */
    int64_t phases[2];        /* planes a channel */
    int64_t step[2];          /* in the source, from one element of a plane to the next */
    int64_t dilation[2];      /* plane j's phase is j * dilation mod step */
    int64_t lead[2];          /* padding before the source */
    int64_t begin[2], end[2]; /* t */
    int64_t reach[2];         /* the largest shift */
    int64_t block[2];
    int64_t pitch, plane; /* floats from row to row, from plane to plane */
    int64_t item;         /* floats of one item's planes */
    int64_t items;        /* items whose planes are held at a time */
} conv_plan;

static int64_t conv_gcd(int64_t a, int64_t b)
{
    return b ? conv_gcd(b, a % b) : a;
}

/* The phases k * dilation mod stride repeat after so many taps. */
static int64_t conv_period(const conv_shape *s, int a)
{
    return s->stride[a] / conv_gcd(s->stride[a], s->dilation[a]);
}

static int64_t conv_taps_in(const conv_shape *s, int a, int64_t phase)
{
    int64_t n = 0;

    for (int64_t k = 0; k < s->kernel[a]; k++)
        n += k * s->dilation[a] % s->stride[a] == phase;
    return n;
}

static void conv_cut_blocks(conv_plan *p)
{
    const int64_t planes = kernel_max(p->channels * p->phases[0] * p->phases[1], 1);
    const int64_t rows = p->end[0] - p->begin[0], cols = p->end[1] - p->begin[1];

    p->block[1] =
        kernel_min(cols, kernel_max(64, PLANES_FLOATS / (planes * (1 + p->reach[0])) - p->reach[1]));
    p->pitch = p->block[1] + p->reach[1];
    if (p->block[1] == cols && p->step[1] == 1) {
        const int64_t left = p->lead[1] - p->begin[1], right = cols + p->reach[1] - left - p->size[1];

        p->pitch -= kernel_max(kernel_min(kernel_min(left, right), p->reach[1]), 0);
    }
    p->pitch = kernel_max(p->pitch, 1);
    p->block[0] = kernel_min(rows, kernel_max(1, PLANES_FLOATS / (planes * p->pitch) - p->reach[0]));
    p->plane = (p->block[0] + p->reach[0]) * p->pitch;
    p->item = planes * p->plane;
    p->items = 1;
}

static conv_plan conv_plan_forward(const conv_shape *s)
{
    conv_plan p = { .channels = s->in_channels / s->groups };

    for (int a = 0; a < 2; a++) {
        p.size[a] = s->in[a];
        p.phases[a] = kernel_min(s->kernel[a], conv_period(s, a));
        p.step[a] = s->stride[a];
        p.dilation[a] = s->dilation[a];
        p.lead[a] = s->pad[a];
        p.end[a] = s->out[a];
        p.reach[a] = (s->kernel[a] - 1) * s->dilation[a] / s->stride[a];
    }
    conv_cut_blocks(&p);
    return p;
}

static conv_plan conv_plan_dw(const conv_shape *s)
{
    conv_plan p = conv_plan_forward(s);
    const int64_t pixels = s->out[0] * s->out[1];

    if (p.block[0] == s->out[0] && p.block[1] == s->out[1] && pixels > 0)
        p.items = kernel_max(1, kernel_min(GEMM_KC / pixels, PLANES_FLOATS / p.item));
    return p;
}

static conv_plan conv_plan_dx(const conv_shape *s)
{
    conv_plan p = { .channels = s->out_channels / s->groups };

    for (int a = 0; a < 2; a++) {
        p.size[a] = s->out[a];
        p.phases[a] = 1;
        p.step[a] = 1;
        p.dilation[a] = 1;
        p.reach[a] = p.lead[a] = (s->kernel[a] - 1) * s->dilation[a] / s->stride[a];
        p.begin[a] = s->pad[a] / s->stride[a];
        p.end[a] = s->in[a] > 0 ? (s->in[a] - 1 + s->pad[a]) / s->stride[a] + 1 : p.begin[a];
    }
    conv_cut_blocks(&p);
    return p;
}

/* Whole vectors; the last one may overlap the one before. */
static inline void conv_copy(float *to, const float *from, int64_t n)
{
    int64_t q = 0;

    if (n >= VL) {
        for (; q <= n - VL; q += VL)
            vstore(to + q, vload(from + q));
        if (q < n)
            vstore(to + n - VL, vload(from + n - VL));
    } else if (n >= 4) {
        for (; q <= n - 4; q += 4)
            kernel_store4(to + q, kernel_load4(from + q));
        if (q < n)
            kernel_store4(to + n - 4, kernel_load4(from + n - 4));
    } else {
        for (; q < n; q++)
            to[q] = from[q];
    }
}

static inline void conv_zero(float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = 0.0f;
}

/* Column numbers of a plane row: [0, from) and [to, width) are padding. */
static void conv_inside(const conv_plan *p, int a, int64_t first, int64_t width, int64_t *from, int64_t *to)
{
    *from = kernel_min(first < 0 ? kernel_ceil(-first, p->step[a]) : 0, width);
    *to = p->size[a] > first ? kernel_min(kernel_ceil(p->size[a] - first, p->step[a]), width) : 0;
    *to = kernel_max(*from, *to);
}

/* The planes of one item for the block at t = (t0, t1) of n0 x n1. Padding is zero from the beginning, and
 * lies where it lay in the last item unless there are several blocks. */
static void conv_build(const conv_plan *p, float *planes, const float *source, int64_t t0, int64_t t1,
                       int64_t n0, int64_t n1)
{
    if (p->block[0] < p->end[0] - p->begin[0] || p->block[1] < p->end[1] - p->begin[1])
        conv_zero(planes, p->item);
    for (int64_t j = 0; j < p->phases[0] * p->phases[1]; j++) {
        const int64_t j0 = j / p->phases[1], j1 = j % p->phases[1];
        const int64_t first0 = t0 * p->step[0] + j0 * p->dilation[0] % p->step[0] - p->lead[0];
        const int64_t first1 = t1 * p->step[1] + j1 * p->dilation[1] % p->step[1] - p->lead[1];
        int64_t top, bottom, left, right;

        conv_inside(p, 0, first0, n0 + p->reach[0], &top, &bottom);
        conv_inside(p, 1, first1, n1 + p->reach[1], &left, &right);
        if (top == bottom || left == right)
            continue;
        for (int64_t c = 0; c < p->channels; c++) {
            const float *from = source + (c * p->size[0] + first0 + top * p->step[0]) * p->size[1] + first1 +
                                left * p->step[1];
            float *row = planes + (c * p->phases[0] * p->phases[1] + j) * p->plane + top * p->pitch + left;

            for (int64_t u = top; u < bottom; u++, row += p->pitch, from += p->step[0] * p->size[1]) {
                if (p->step[1] == 1)
                    conv_copy(row, from, right - left);
                else
                    for (int64_t q = 0; q < right - left; q++)
                        row[q] = from[q * p->step[1]];
            }
        }
    }
}

/* at[k] of forward and dw, k = (channel, kh, kw). */
static void conv_offsets(int64_t *at, const conv_plan *p, const conv_shape *s)
{
    const int64_t period0 = conv_period(s, 0), period1 = conv_period(s, 1),
                  taps = s->kernel[0] * s->kernel[1];
    int64_t k = 0;

    for (int64_t h = 0; h < s->kernel[0]; h++)
        for (int64_t w = 0; w < s->kernel[1]; w++)
            at[k++] = (h % period0 * p->phases[1] + w % period1) * p->plane +
                      h * s->dilation[0] / s->stride[0] * p->pitch + w * s->dilation[1] / s->stride[1];
    for (; k < p->channels * taps; k++)
        at[k] = at[k - taps] + p->phases[0] * p->phases[1] * p->plane;
}

/* Vectors of positions that one kernel call computes for m channels: few channels take more of them. */
static int64_t conv_vectors(int64_t m)
{
    return m == 1 ? 8 : m == 2 ? 4 : NV;
}

/* Positions computed before results are copied out: few channels make long copies. A multiple of the
 * kernel's. */
static int64_t conv_panel_width(int64_t m)
{
    const int64_t step = conv_vectors(m) * VL;

    return kernel_max(1, kernel_min(PANEL_FLOATS / kernel_max(m * step, 1), 256 / step)) * step;
}

/* Where scratch memory goes. */
typedef struct conv_room {
    int64_t *at;    /* offset tables */
    float *planes;  /* and PANEL_MAX zeros: the last panel may read that far */
    float *panel;   /* forward, dx: m x panel of results. dw: GEMM_KC x columns of dy */
    float *sums;    /* dw: k x columns */
    int64_t *pixel; /* dw: GEMM_KC offsets */
    size_t bytes;
} conv_room;

static size_t conv_take(conv_room *room, int64_t count, size_t size)
{
    const size_t at = room->bytes;

    room->bytes += ((size_t)count * size + 63) / 64 * 64;
    return at;
}

static int64_t conv_k(const conv_shape *s, int64_t channels)
{
    return channels / s->groups * s->kernel[0] * s->kernel[1];
}

static conv_room conv_room_of(const conv_plan *p, int64_t k, int64_t m, bool dw, void *scratch)
{
    conv_room r = { 0 };
    char *base = scratch;
    const int64_t columns = kernel_ceil(m, NR) * NR;
    const size_t at = conv_take(&r, k, sizeof(int64_t));
    const size_t pixel = conv_take(&r, dw ? GEMM_KC : 0, sizeof(int64_t));
    const size_t planes = conv_take(&r, p->items * p->item + PANEL_MAX, sizeof(float));
    const size_t panel = conv_take(&r, dw ? GEMM_KC * columns : m * conv_panel_width(m), sizeof(float));
    const size_t sums = conv_take(&r, dw ? k * columns : 0, sizeof(float));

    if (base) {
        r.at = (int64_t *)(void *)(base + at);
        r.pixel = (int64_t *)(void *)(base + pixel);
        r.planes = (float *)(void *)(base + planes);
        r.panel = (float *)(void *)(base + panel);
        r.sums = (float *)(void *)(base + sums);
        conv_zero(r.planes, p->items * p->item + PANEL_MAX);
    }
    return r;
}

size_t LEVEL_NAME(conv_scratch_bytes)(const conv_shape *s)
{
    const conv_plan forward = conv_plan_forward(s), dx = conv_plan_dx(s), dw = conv_plan_dw(s);
    const int64_t ki = conv_k(s, s->in_channels), ko = conv_k(s, s->out_channels);
    const int64_t i = s->in_channels / s->groups, o = s->out_channels / s->groups;
    const size_t a = conv_room_of(&forward, ki, o, false, NULL).bytes;
    const size_t b = conv_room_of(&dx, ko, i, false, NULL).bytes;
    const size_t c = conv_room_of(&dw, ki, o, true, NULL).bytes;

    return a > b ? (a > c ? a : c) : (b > c ? b : c);
}

size_t LEVEL_NAME(conv_packed_bytes)(const conv_shape *s)
{
    return (size_t)(s->out_channels * conv_k(s, s->in_channels)) * sizeof(float);
}

/* The packed A of m x k: for each K block, tile after tile. */
static void conv_pack(float *packed, matrix w, int64_t m, int64_t k)
{
    const kernel_parts tiles = kernel_cut(m, MR);

    for (int64_t p = 0; p < k; p += GEMM_KC) {
        const int64_t kc = kernel_min(k - p, GEMM_KC);

        for (int64_t i = 0; i < tiles.count; i++) {
            const int64_t row = kernel_part(tiles, i), h = kernel_part(tiles, i + 1) - row;

            kernel_pack_tile(packed + m * p + row * kc,
                             (matrix){ w.data + row * w.rs + p * w.cs, w.rs, w.cs }, h, kc);
        }
    }
}

void LEVEL_NAME(conv_prepare)(float *packed, const float *w, const conv_shape *s)
{
    const int64_t m = s->out_channels / s->groups, k = conv_k(s, s->in_channels);

    for (int64_t g = 0; g < s->groups; g++)
        conv_pack(packed + g * m * k, (matrix){ w + g * m * k, k, 1 }, m, k);
}

/* out[i, r, c] = bias[i] + sum_k weights[i, k] planes[at[k] + r pitch + c] for rows x cols pixels of m
 * channels. */
typedef struct conv_grid {
    const float *planes;
    const int64_t *at;
    const float *weights;
    int64_t k, m, rows, cols, pitch;
    float *panel;
    float *out;
    int64_t out_m, out_row, out_col;
    const float *bias; /* NULL: none */
} conv_grid;

/* n floats of each row of the panel to their place. Whole vectors; the last may overlap the one before. */
static void conv_scatter(const conv_grid *g, const float *panel, int64_t width, float *out, int64_t n)
{
    for (int64_t i = 0; i < g->m; i++, panel += width, out += g->out_m) {
        const float bias = g->bias ? g->bias[i] : -0.0f; /* x + -0 is x for every x */
        int64_t q = 0;

        if (g->out_col != 1 || n < 4) {
            for (; q < n; q++)
                out[q * g->out_col] = panel[q] + bias;
        } else if (n >= VL) {
            for (; q <= n - VL; q += VL)
                vstore(out + q, vload(panel + q) + bias);
            if (q < n)
                vstore(out + n - VL, vload(panel + n - VL) + bias);
        } else {
            for (; q <= n - 4; q += 4)
                kernel_store4(out + q, kernel_load4(panel + q) + bias);
            if (q < n)
                kernel_store4(out + n - 4, kernel_load4(panel + n - 4) + bias);
        }
    }
}

/* Positions [from, from + n) of all channels, into the panel. */
static void conv_run_panel(const conv_grid *g, int64_t from, int64_t n, int64_t width)
{
    const kernel_parts tiles = kernel_cut(g->m, MR);
    const int64_t vectors = conv_vectors(g->m), step = vectors * VL;
    tile_args t = { .ldc = width };

    if (g->k == 0)
        conv_zero(g->panel, g->m * width);
    for (int64_t p = 0; p < g->k; p += GEMM_KC) {
        t.k = kernel_min(g->k - p, GEMM_KC);
        t.at = g->at + p;
        t.add = p > 0;
        for (int64_t q = 0; q < n; q += step) {
            const int64_t nv = g->m <= 2 ? vectors : kernel_min(kernel_ceil(n - q, VL), NV);

            t.b = g->planes + from + q;
            t.a = g->weights + g->m * p;
            t.c = g->panel + q;
            for (int64_t i = 0; i < tiles.count; i++) {
                const int64_t h = tiles.size + (i < tiles.larger);

                t.a_step = h;
                if (g->m == 1)
                    tile_PLANES_1_1_8(&t);
                else if (g->m == 2)
                    tile_PLANES_2_1_4(&t);
                else
                    conv_planes[nv - 1][h](&t);
                t.a += h * t.k;
                t.c += h * width;
            }
        }
    }
}

static void conv_run_grid(const conv_grid *g)
{
    const int64_t positions = (g->rows - 1) * g->pitch + g->cols, width = conv_panel_width(g->m);
    int64_t row = 0, col = 0;

    for (int64_t at = 0; at < positions; at += width) {
        const int64_t n = kernel_min(positions - at, width);

        conv_run_panel(g, at, n, width);
        for (int64_t q = 0; q < n;) {
            const int64_t run = kernel_min(g->pitch - col, n - q), wanted = kernel_min(g->cols - col, run);

            if (wanted > 0)
                conv_scatter(g, g->panel + q, width, g->out + row * g->out_row + col * g->out_col, wanted);
            q += run;
            col += run;
            if (col == g->pitch)
                row++, col = 0;
        }
    }
}

void LEVEL_NAME(conv_forward)(float *y, const float *x, const float *packed, const float *bias,
                              const conv_shape *s, int64_t begin, int64_t end, void *scratch)
{
    const conv_plan p = conv_plan_forward(s);
    const int64_t m = s->out_channels / s->groups, k = conv_k(s, s->in_channels);
    const int64_t in = s->in[0] * s->in[1], out = s->out[0] * s->out[1];
    const conv_room room = conv_room_of(&p, k, m, false, scratch);

    conv_offsets(room.at, &p, s);
    for (int64_t ig = begin * s->groups; ig < end * s->groups; ig++) {
        const int64_t g = ig % s->groups;

        for (int64_t r = 0; r < s->out[0]; r += p.block[0])
            for (int64_t c = 0; c < s->out[1]; c += p.block[1]) {
                const int64_t rows = kernel_min(s->out[0] - r, p.block[0]);
                const int64_t cols = kernel_min(s->out[1] - c, p.block[1]);

                conv_build(&p, room.planes, x + ig * p.channels * in, r, c, rows, cols);
                conv_run_grid(&(conv_grid){ .planes = room.planes,
                                            .at = room.at,
                                            .weights = packed + g * m * k,
                                            .k = k,
                                            .m = m,
                                            .rows = rows,
                                            .cols = cols,
                                            .pitch = p.pitch,
                                            .panel = room.panel,
                                            .out = y + ig * m * out + r * s->out[1] + c,
                                            .out_m = out,
                                            .out_row = s->out[1],
                                            .out_col = 1,
                                            .bias = bias ? bias + g * m : NULL });
            }
    }
}

/* w'[i, k] of one group and one phase of the output pixels, k = (o, kh, kw of this phase). Returns k. */
static int64_t conv_dx_weights(float *to, const float *w, const conv_shape *s, int64_t f0, int64_t f1)
{
    const int64_t m = s->in_channels / s->groups, o_count = s->out_channels / s->groups;
    const int64_t k = o_count * conv_taps_in(s, 0, f0) * conv_taps_in(s, 1, f1);
    const kernel_parts tiles = kernel_cut(m, MR);
    int64_t p = 0;

    for (int64_t o = 0; o < o_count; o++)
        for (int64_t h = 0; h < s->kernel[0]; h++)
            for (int64_t c = 0; c < s->kernel[1]; c++) {
                const int64_t block = p / GEMM_KC * GEMM_KC, kc = kernel_min(k - block, GEMM_KC);

                if (h * s->dilation[0] % s->stride[0] != f0 || c * s->dilation[1] % s->stride[1] != f1)
                    continue;
                for (int64_t t = 0; t < tiles.count; t++) {
                    const int64_t row = kernel_part(tiles, t), high = kernel_part(tiles, t + 1) - row;

                    for (int64_t i = 0; i < high; i++)
                        to[m * block + row * kc + (p - block) * high + i] =
                            w[((o * m + row + i) * s->kernel[0] + h) * s->kernel[1] + c];
                }
                p++;
            }
    return k;
}

void LEVEL_NAME(conv_dx_prepare)(float *packed, const float *w, const conv_shape *s)
{
    const int64_t m = s->in_channels / s->groups, k = conv_k(s, s->out_channels);

    for (int64_t g = 0; g < s->groups; g++) {
        float *to = packed + g * m * k;

        for (int64_t f0 = 0; f0 < s->stride[0]; f0++)
            for (int64_t f1 = 0; f1 < s->stride[1]; f1++)
                to += m * conv_dx_weights(to, w + g * m * k, s, f0, f1);
    }
}

static void conv_dx_offsets(int64_t *at, const conv_plan *p, const conv_shape *s)
{
    for (int64_t f0 = 0; f0 < s->stride[0]; f0++)
        for (int64_t f1 = 0; f1 < s->stride[1]; f1++) {
            const int64_t taps = conv_taps_in(s, 0, f0) * conv_taps_in(s, 1, f1);
            int64_t k = 0;

            for (int64_t h = 0; h < s->kernel[0]; h++)
                for (int64_t w = 0; w < s->kernel[1]; w++)
                    if (h * s->dilation[0] % s->stride[0] == f0 && w * s->dilation[1] % s->stride[1] == f1)
                        at[k++] = (p->reach[0] - h * s->dilation[0] / s->stride[0]) * p->pitch + p->reach[1] -
                                  w * s->dilation[1] / s->stride[1];
            for (; k < p->channels * taps; k++)
                at[k] = at[k - taps] + p->plane;
            at += p->channels * taps;
        }
}

/* The pixels of one phase inside a block: t from *from to *to, along one axis. */
static void conv_dx_range(const conv_shape *s, int a, int64_t phase, int64_t *from, int64_t *to)
{
    *from = kernel_max(*from, (s->pad[a] - phase + s->stride[a] - 1) / s->stride[a]);
    *to = kernel_min(*to, (s->in[a] + s->pad[a] - phase + s->stride[a] - 1) / s->stride[a]);
}

/* One block of t: every phase of the output pixels reads the same planes with its own taps. */
static void conv_dx_block(conv_grid *grid, const conv_shape *s, int64_t t0, int64_t t1, int64_t n0,
                          int64_t n1)
{
    const float *planes = grid->planes;
    float *out = grid->out;

    for (int64_t f0 = 0; f0 < s->stride[0]; f0++)
        for (int64_t f1 = 0; f1 < s->stride[1]; f1++) {
            int64_t r0 = t0, r1 = t0 + n0, c0 = t1, c1 = t1 + n1;

            conv_dx_range(s, 0, f0, &r0, &r1);
            conv_dx_range(s, 1, f1, &c0, &c1);
            grid->k = s->out_channels / s->groups * conv_taps_in(s, 0, f0) * conv_taps_in(s, 1, f1);
            grid->rows = r1 - r0;
            grid->cols = c1 - c0;
            if (grid->rows > 0 && grid->cols > 0) {
                grid->planes = planes + (r0 - t0) * grid->pitch + c0 - t1;
                grid->out = out + (r0 * s->stride[0] + f0 - s->pad[0]) * s->in[1] + c0 * s->stride[1] + f1 -
                            s->pad[1];
                conv_run_grid(grid);
            }
            grid->at += grid->k;
            grid->weights += grid->m * grid->k;
        }
}

void LEVEL_NAME(conv_dx)(float *dx, const float *dy, const float *packed, const conv_shape *s, int64_t begin,
                         int64_t end, void *scratch)
{
    const conv_plan p = conv_plan_dx(s);
    const int64_t m = s->in_channels / s->groups, k = conv_k(s, s->out_channels);
    const int64_t in = s->in[0] * s->in[1], out = s->out[0] * s->out[1];
    const conv_room room = conv_room_of(&p, k, m, false, scratch);

    conv_dx_offsets(room.at, &p, s);
    for (int64_t ig = begin * s->groups; ig < end * s->groups; ig++)
        for (int64_t r = p.begin[0]; r < p.end[0]; r += p.block[0])
            for (int64_t c = p.begin[1]; c < p.end[1]; c += p.block[1]) {
                const int64_t rows = kernel_min(p.end[0] - r, p.block[0]);
                const int64_t cols = kernel_min(p.end[1] - c, p.block[1]);

                conv_build(&p, room.planes, dy + ig * p.channels * out, r, c, rows, cols);
                conv_dx_block(&(conv_grid){ .planes = room.planes,
                                            .at = room.at,
                                            .weights = packed + ig % s->groups * m * k,
                                            .m = m,
                                            .pitch = p.pitch,
                                            .panel = room.panel,
                                            .out = dx + ig * m * in,
                                            .out_m = in,
                                            .out_row = s->in[1] * s->stride[0],
                                            .out_col = s->stride[1] },
                              s, r, c, rows, cols);
            }
}

/* A block of dw: the pixels of `items` items, rows and columns, in this order. */
typedef struct conv_pixels {
    const float *dy; /* of the first item, of its group */
    int64_t item;    /* floats from item to item */
    int64_t row, col, rows, cols;
} conv_pixels;

/* Pixels [begin, end) of a block: their positions in the planes, and dy transposed into panels of NR
 * channels. */
static void conv_dw_pixels(const conv_pixels *b, const conv_plan *p, const conv_shape *s, int64_t begin,
                           int64_t end, const conv_room *room)
{
    const int64_t m = s->out_channels / s->groups, out = s->out[0] * s->out[1], n = end - begin;
    const int64_t line = b->cols == s->out[1] ? b->rows * b->cols : b->cols; /* pixels side by side in dy */
    int64_t row = begin / b->cols, col = begin % b->cols;                    /* rows of all items */

    for (int64_t q = 0; q < n; row++, col = 0)
        for (const int64_t at = row / b->rows * p->item + row % b->rows * p->pitch; col < b->cols && q < n;
             col++)
            room->pixel[q++] = at + col;

    for (int64_t q = begin; q < end;) {
        const int64_t item = q / (b->rows * b->cols), r = q / b->cols % b->rows, c = q % b->cols;
        const int64_t run = kernel_min(line - q % line, end - q);
        const float *dy = b->dy + item * b->item + (b->row + r) * s->out[1] + b->col + c;

        for (int64_t j = 0; j < m; j += NR)
            kernel_transpose(room->panel + j * n + (q - begin) * NR, NR, dy + j * out, out,
                             kernel_min(m - j, NR), run);
        q += run;
    }
}

/* sums[panel][tap][NR] += taps x pixels times pixels x channels. */
static void conv_dw_product(const conv_room *room, int64_t m, int64_t k, int64_t pixels)
{
    const kernel_parts tiles = kernel_cut(k, MR);
    const float *row[MR];
    tile_args t = { .k = pixels, .row = row, .at = room->pixel, .ldc = NR, .add = true };

    for (int64_t j = 0; j < m; j += NR) {
        t.b = room->panel + j * pixels;
        for (int64_t i = 0; i < tiles.count; i++) {
            const int64_t tap = kernel_part(tiles, i), h = kernel_part(tiles, i + 1) - tap;

            for (int64_t q = 0; q < h; q++)
                row[q] = room->planes + room->at[tap + q];
            t.c = room->sums + j * k + tap * NR;
            conv_taps[(kernel_min(m - j, NR) - 1) / VL][h](&t);
        }
    }
}

void LEVEL_NAME(conv_dw)(float *dw, const float *x, const float *dy, const conv_shape *s, int64_t begin,
                         int64_t end, void *scratch)
{
    const conv_plan p = conv_plan_dw(s);
    const int64_t m = s->out_channels / s->groups, k = conv_k(s, s->in_channels);
    const int64_t in = s->in[0] * s->in[1], out = s->out[0] * s->out[1], columns = kernel_ceil(m, NR) * NR;
    const conv_room room = conv_room_of(&p, k, m, true, scratch);

    conv_offsets(room.at, &p, s);
    conv_zero(room.panel, GEMM_KC * columns);
    for (int64_t g = 0; g < s->groups; g++) {
        conv_zero(room.sums, k * columns);
        for (int64_t i = begin; i < end; i += p.items)
            for (int64_t r = 0; r < s->out[0]; r += p.block[0])
                for (int64_t c = 0; c < s->out[1]; c += p.block[1]) {
                    const int64_t items = kernel_min(end - i, p.items);
                    const conv_pixels b = { .dy = dy + (i * s->groups + g) * m * out,
                                            .item = s->out_channels * out,
                                            .row = r,
                                            .col = c,
                                            .rows = kernel_min(s->out[0] - r, p.block[0]),
                                            .cols = kernel_min(s->out[1] - c, p.block[1]) };
                    const kernel_parts parts = kernel_cut(items * b.rows * b.cols, GEMM_KC);

                    for (int64_t q = 0; q < items; q++)
                        conv_build(&p, room.planes + q * p.item,
                                   x + ((i + q) * s->groups + g) * p.channels * in, r, c, b.rows, b.cols);
                    for (int64_t q = 0; q < parts.count; q++) {
                        const int64_t from = kernel_part(parts, q), to = kernel_part(parts, q + 1);

                        conv_dw_pixels(&b, &p, s, from, to, &room);
                        conv_dw_product(&room, m, k, to - from);
                    }
                }
        for (int64_t o = 0; o < m; o++)
            for (int64_t q = 0; q < k; q++)
                dw[(g * m + o) * k + q] += room.sums[o / NR * NR * k + q * NR + o % NR];
    }
}
