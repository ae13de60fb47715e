/* C [M,N] = A [M,K] B [K,N], B packed in panels of NR columns; compiled once per instruction level.
 *
 *   for each K block of GEMM_KC          B's block stays in L2 or L3 while all rows pass
 *     for each block of MC rows          A's block is packed into scratch, or read as it lies: few panels
 *       for each panel of B              KC x NR floats: L1
 *         for each tile of rows          registers (gemm_kernel.h)
 *
 * A K block's sum starts at zero and is added to C, so an element is cut at multiples of GEMM_KC and nowhere
 * else. */

#include "cpu/level/gemm_kernel.h"

TILES(PACKED)
TILES(ROWS)

static tile_fn *const gemm_packed[NV][MR + 1] = TILE_TABLE(PACKED);
static tile_fn *const gemm_direct[NV][MR + 1] = TILE_TABLE(ROWS);

/* Few rows: several panels at a time, so that there are chains enough to hide the latency of a multiply-add. */
TILE(PACKED, 1, 2, NV)
TILE(PACKED, 1, 4, NV)
TILE(PACKED, 2, 2, NV)
#if LEVEL >= 4
TILE(PACKED, 1, 8, NV)
TILE(PACKED, 2, 4, NV)
TILE(PACKED, 3, 2, NV)
TILE(PACKED, 4, 2, NV)
#endif
#define WIDE_ROWS 4

static tile_fn *const gemm_wide[WIDE_ROWS + 1][9] = { /* [rows][panels] */
    [1] = {
        [2] = tile_PACKED_1_2_NV,
        [4] = tile_PACKED_1_4_NV,
#if LEVEL >= 4
        [8] = tile_PACKED_1_8_NV,
#endif
    },
    [2] = {
        [2] = tile_PACKED_2_2_NV,
#if LEVEL >= 4
        [4] = tile_PACKED_2_4_NV,
#endif
    },
#if LEVEL >= 4
    [3] = { [2] = tile_PACKED_3_2_NV },
    [4] = { [2] = tile_PACKED_4_2_NV },
#endif
};

static size_t gemm_packed_bytes(int64_t k, int64_t n)
{
    return (size_t)(kernel_ceil(n, NR) * NR * k) * sizeof(float);
}

static size_t gemm_scratch_bytes(void)
{
    return (size_t)MC * GEMM_KC * sizeof(float);
}

static void gemm_pack(float *packed, matrix b, int64_t k, int64_t n, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j++) {
        const int64_t w = kernel_min(n - j * NR, NR);
        const float *from = b.data + j * NR * b.cs;
        float *to = packed + j * NR * k;

        if (w < NR)
            memset(to, 0, (size_t)(NR * k) * sizeof(float));
        if (b.cs == 1 && w == NR) {
            for (int64_t p = 0; p < k; p++)
                for (int64_t v = 0; v < NV; v++)
                    vstore(to + p * NR + v * VL, vload(from + p * b.rs + v * VL));
        } else if (b.rs == 1) {
            kernel_transpose(to, NR, from, b.cs, w, k);
        } else {
            for (int64_t p = 0; p < k; p++)
                for (int64_t q = 0; q < w; q++)
                    to[p * NR + q] = from[p * b.rs + q * b.cs];
        }
    }
}

/* One tile whose columns end inside a panel: computed beside C, of which only w columns are written. */
static void gemm_tail(tile_fn *f, tile_args *t, int64_t h, int64_t w)
{
    float beside[MR * NR];
    float *const c = t->c;
    const int64_t ldc = t->ldc;
    const bool add = t->add;

    t->c = beside;
    t->ldc = NR;
    t->add = false;
    f(t);
    for (int64_t i = 0; i < h; i++)
        for (int64_t q = 0; q < w; q++)
            c[i * ldc + q] = add ? c[i * ldc + q] + beside[i * NR + q] : beside[i * NR + q];
    t->c = c;
    t->ldc = ldc;
    t->add = add;
}

/* h <= WIDE_ROWS rows, one K block: as many full panels at a time as there are kernels for. */
static void gemm_few_rows(tile_args t, int64_t h, const float *packed, int64_t n, int64_t k_all)
{
    float *const c = t.c;
    int64_t j = 0;

    t.b_panel = k_all * NR;
    for (int64_t panels = 8; panels > 1; panels /= 2) {
        tile_fn *const f = gemm_wide[h][panels];

        for (; f && (j + panels) * NR <= n; j += panels) {
            t.b = packed + j * t.b_panel;
            t.c = c + j * NR;
            f(&t);
        }
    }
    for (; j * NR < n; j++) {
        const int64_t w = kernel_min(n - j * NR, NR);
        tile_fn *const f = gemm_packed[(w - 1) / VL][h];

        t.b = packed + j * t.b_panel;
        t.c = c + j * NR;
        if (w % VL)
            gemm_tail(f, &t, h, w);
        else
            f(&t);
    }
}

/* Rows [0, m) of one K block, m <= MC; packed is B's first panel at this K block. */
static void gemm_block(float *c, int64_t ldc, matrix a, int64_t m, const float *packed, int64_t n, int64_t k,
                       int64_t k_all, bool add, float *scratch)
{
    const kernel_parts tiles = kernel_cut(m, MR);
    const bool direct = a.rs == 1 || (a.cs == 1 && n <= 4 * NR);
    tile_args t = { .k = k, .ldc = ldc, .add = add };

    if (!direct) {
        for (int64_t i = 0; i < tiles.count; i++) {
            const int64_t at = kernel_part(tiles, i), h = kernel_part(tiles, i + 1) - at;

            kernel_pack_tile(scratch + at * k, (matrix){ a.data + at * a.rs, a.rs, a.cs }, h, k);
        }
    }
    for (int64_t j = 0; j * NR < n; j++) {
        const int64_t w = kernel_min(n - j * NR, NR), nv = kernel_ceil(w, VL);

        t.b = packed + j * NR * k_all;
        for (int64_t i = 0; i < tiles.count; i++) {
            const int64_t at = kernel_part(tiles, i), h = kernel_part(tiles, i + 1) - at;
            const float *row[MR];
            tile_fn *f = gemm_packed[nv - 1][h];

            t.c = c + at * ldc + j * NR;
            if (!direct) {
                t.a = scratch + at * k;
                t.a_step = h;
            } else if (a.rs == 1) {
                t.a = a.data + at;
                t.a_step = a.cs;
            } else {
                for (int64_t q = 0; q < h; q++)
                    row[q] = a.data + (at + q) * a.rs;
                t.row = row;
                f = gemm_direct[nv - 1][h];
            }
            if (w % VL)
                gemm_tail(f, &t, h, w);
            else
                f(&t);
        }
    }
}

static void gemm_rows(float *c, int64_t ldc, matrix a, const float *packed, int64_t begin, int64_t end,
                      int64_t n, int64_t k, bool add, void *scratch)
{
    const int64_t m = end - begin;
    const int64_t blocks = kernel_max(kernel_ceil(m, MC), 1);
    const int64_t rows = kernel_ceil(kernel_ceil(m, blocks), MR) * MR;

    if (m <= 0 || n <= 0)
        return;
    c += begin * ldc;
    a.data += begin * a.rs;
    for (int64_t i = 0; i < m && k == 0 && !add; i++)
        memset(c + i * ldc, 0, (size_t)n * sizeof(float));

    for (int64_t p = 0; p < k; p += GEMM_KC) {
        const int64_t kc = kernel_min(k - p, GEMM_KC);
        const matrix ap = { a.data + p * a.cs, a.rs, a.cs };
        const bool sum = add || p > 0;

        if (m <= WIDE_ROWS) {
            tile_args t = { .k = kc, .a = ap.data, .a_step = a.cs, .c = c, .ldc = ldc, .add = sum };

            if (m > 1 && a.rs != 1) {
                kernel_pack_tile(scratch, ap, m, kc);
                t.a = scratch;
                t.a_step = m;
            }
            gemm_few_rows(t, m, packed + p * NR, n, k);
            continue;
        }
        for (int64_t i = 0; i < m; i += rows)
            gemm_block(c + i * ldc, ldc, (matrix){ ap.data + i * a.rs, a.rs, a.cs }, kernel_min(m - i, rows),
                       packed + p * NR, n, kc, k, sum, scratch);
    }
}

const gemm_ops LEVEL_NAME(gemm_ops) = {
    .mr = MR,
    .nr = NR,
    .packed_bytes = gemm_packed_bytes,
    .pack = gemm_pack,
    .scratch_bytes = gemm_scratch_bytes,
    .rows = gemm_rows,
    .conv_packed_bytes = LEVEL_NAME(conv_packed_bytes),
    .conv_scratch_bytes = LEVEL_NAME(conv_scratch_bytes),
    .conv_prepare = LEVEL_NAME(conv_prepare),
    .conv_forward = LEVEL_NAME(conv_forward),
    .conv_dx_packed_bytes = LEVEL_NAME(conv_packed_bytes),
    .conv_dx_prepare = LEVEL_NAME(conv_dx_prepare),
    .conv_dx = LEVEL_NAME(conv_dx),
    .conv_dw = LEVEL_NAME(conv_dw),
};
