/* The micro-kernel shared by gemm.c and conv.c of one instruction level.
 *
 * A tile is h rows times w vectors of C, kept in registers while k runs:
 *
 *   r[i][v] = fma(A(i, k), B(k, v), r[i][v])      k = 0, 1, ...; from zero
 *   c[i][v] = r[i][v]   or   c[i][v] + r[i][v]
 *
 * Every lane is one chain of its own, so neither the height of the tile nor its neighbours can change a bit:
 * a tail is the same code with a smaller h or w. The forms differ in where A and B come from:
 *
 *   PACKED   A(i, k) = a[k * a_step + i]   B(k) = b + k * NR    a packed, or a transposed matrix as it lies
 *   ROWS     A(i, k) = row[i][k]           B(k) = b + k * NR    a matrix with dense rows as it lies
 *   TAPS     A(i, k) = row[i][at[k]]       B(k) = b + k * NR    a convolution's dw: rows are taps
 *   PLANES   A(i, k) = a[k * a_step + i]   B(k) = b + at[k]     a convolution: k is a tap
 *
 * `panels` > 1 walks several packed panels of B, b_panel floats apart: one row then has enough chains to hide
 * latency. */
#ifndef CPU_LEVEL_GEMM_KERNEL_H
#define CPU_LEVEL_GEMM_KERNEL_H

#include "cpu/gemm.h"
#include "cpu/vec.h"

#if LEVEL == 4
#define MR 14
#define NV 2
#elif LEVEL == 3
#define MR 6
#define NV 2
#elif LEVEL == 5
#define MR 8
#define NV 3
#else
#define MR 4
#define NV 2
#endif
#define NR (NV * VL)
#define MC (LEVEL == 4 ? 196 : 192) /* rows of A packed at a time: MC * GEMM_KC floats stay in L2 */

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef enum tile_form { PACKED, ROWS, TAPS, PLANES } tile_form;

typedef struct tile_args {
    int64_t k;
    const float *a;
    int64_t a_step;
    const float *const *row;
    const int64_t *at;
    const float *b;
    int64_t b_panel;
    float *c;
    int64_t ldc;
    bool add;
} tile_args;

typedef void tile_fn(const tile_args *t);

static inline __attribute__((always_inline)) void tile(const tile_form form, const int h, const int panels,
                                                       const int nv, const tile_args *t)
{
    const int w = panels * nv;
    const int64_t k = t->k, a_step = t->a_step, b_panel = t->b_panel, ldc = t->ldc;
    const int64_t *const at = t->at;
    const float *a = t->a, *b = t->b;
    float *const c = t->c;
    const float *row[MR];
    vf r[MR * NV > 32 ? MR * NV : 32], y[32];

    UNROLL for (int i = 0; i < h * w; i++)
        r[i] = (vf){ 0 };
    if (form == ROWS || form == TAPS) {
        UNROLL for (int i = 0; i < h; i++)
            row[i] = t->row[i];
    }

    for (int64_t p = 0; p < k; p++) {
        const float *bp = form == PLANES ? b + at[p] : b;
        const int64_t q = form == TAPS ? at[p] : p;

        UNROLL for (int v = 0; v < w; v++)
            y[v] = vload(bp + (v / nv) * b_panel + (v % nv) * VL);
        UNROLL for (int i = 0; i < h; i++) {
            const vf x = vsplat(form == ROWS || form == TAPS ? row[i][q] : a[i]);

            UNROLL for (int v = 0; v < w; v++)
                r[i * w + v] = vfma(x, y[v], r[i * w + v]);
        }
        if (form == PACKED || form == PLANES)
            a += a_step;
        if (form != PLANES)
            b += NR;
    }

    if (t->add) {
        UNROLL for (int i = 0; i < h * w; i++)
            r[i] = vload(c + (i / w) * ldc + (i % w / nv) * NR + (i % nv) * VL) + r[i];
    }
    UNROLL for (int i = 0; i < h * w; i++)
        vstore(c + (i / w) * ldc + (i % w / nv) * NR + (i % nv) * VL, r[i]);
}

/* TILE(form, h, panels, nv) makes one kernel; the tables of a form are indexed [nv - 1][h]. */
#define TILE(form, h, p, nv)                                                                                 \
    static void tile_##form##_##h##_##p##_##nv(const tile_args *t)                                           \
    {                                                                                                        \
        tile(form, h, p, nv, t);                                                                             \
    }
#define TILE_NAME(form, h, p, nv) tile_##form##_##h##_##p##_##nv,

#define HEIGHTS_4(X, form, nv) X(form, 1, 1, nv) X(form, 2, 1, nv) X(form, 3, 1, nv) X(form, 4, 1, nv)
#define HEIGHTS_6(X, form, nv) HEIGHTS_4(X, form, nv) X(form, 5, 1, nv) X(form, 6, 1, nv)
#define HEIGHTS_8(X, form, nv) HEIGHTS_6(X, form, nv) X(form, 7, 1, nv) X(form, 8, 1, nv)
#define HEIGHTS_11(X, form, nv) HEIGHTS_8(X, form, nv) X(form, 9, 1, nv) X(form, 10, 1, nv) X(form, 11, 1, nv)
#define HEIGHTS_14(X, form, nv) \
    HEIGHTS_11(X, form, nv) X(form, 12, 1, nv) X(form, 13, 1, nv) X(form, 14, 1, nv)
#define HEIGHTS_PASTE(mr) HEIGHTS_##mr
#define HEIGHTS_OF(mr) HEIGHTS_PASTE(mr)
#define HEIGHTS HEIGHTS_OF(MR)

#if NV == 3
#define TILES(form) HEIGHTS(TILE, form, 1) HEIGHTS(TILE, form, 2) HEIGHTS(TILE, form, 3)
#define TILE_TABLE(form)                                                                                     \
    { { NULL, HEIGHTS(TILE_NAME, form, 1) },                                                                 \
      { NULL, HEIGHTS(TILE_NAME, form, 2) },                                                                 \
      { NULL, HEIGHTS(TILE_NAME, form, 3) } }
#else
#define TILES(form) HEIGHTS(TILE, form, 1) HEIGHTS(TILE, form, 2)
#define TILE_TABLE(form) { { NULL, HEIGHTS(TILE_NAME, form, 1) }, { NULL, HEIGHTS(TILE_NAME, form, 2) } }
#endif

static inline int64_t kernel_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t kernel_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t kernel_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* n things in parts whose sizes differ by one at most: where part t begins. */
typedef struct kernel_parts {
    int64_t count, size, larger; /* `larger` parts are one longer than size */
} kernel_parts;

static inline kernel_parts kernel_cut(int64_t n, int64_t at_most)
{
    const int64_t count = kernel_ceil(n, at_most);

    return (kernel_parts){ count, count ? n / count : 0, count ? n % count : 0 };
}

static inline int64_t kernel_part(kernel_parts p, int64_t t)
{
    return t * p.size + kernel_min(t, p.larger);
}

typedef float vf4 __attribute__((vector_size(16)));

static inline vf4 kernel_load4(const float *p)
{
    vf4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void kernel_store4(float *p, vf4 v)
{
    memcpy(p, &v, sizeof v);
}

#if defined(__clang__)
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t vi4 __attribute__((vector_size(16)));
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (vi4){ i, j, k, l })
#endif

/* to[p * ld + i] = from[i * rs + p] for four rows i and four columns p. */
static inline void kernel_transpose4(float *to, int64_t ld, const float *from, int64_t rs)
{
    const vf4 a = kernel_load4(from), b = kernel_load4(from + rs);
    const vf4 c = kernel_load4(from + 2 * rs), d = kernel_load4(from + 3 * rs);
    const vf4 ab = SHUFFLE4(a, b, 0, 4, 1, 5), cd = SHUFFLE4(c, d, 0, 4, 1, 5);
    const vf4 AB = SHUFFLE4(a, b, 2, 6, 3, 7), CD = SHUFFLE4(c, d, 2, 6, 3, 7);

    kernel_store4(to, SHUFFLE4(ab, cd, 0, 1, 4, 5));
    kernel_store4(to + ld, SHUFFLE4(ab, cd, 2, 3, 6, 7));
    kernel_store4(to + 2 * ld, SHUFFLE4(AB, CD, 0, 1, 4, 5));
    kernel_store4(to + 3 * ld, SHUFFLE4(AB, CD, 2, 3, 6, 7));
}

#if LEVEL == 4 || LEVEL == 3
/* Four columns of eight rows: rows i and i + 4 share a register. */
static inline void kernel_transpose8x4(float *to, int64_t ld, const float *from, int64_t rs)
{
#define PAIR(i) _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + (i) * rs)),                  \
                                     _mm_loadu_ps(from + ((i) + 4) * rs), 1)
    const __m256 a = PAIR(0), b = PAIR(1), c = PAIR(2), d = PAIR(3);
    const __m256 ab = _mm256_unpacklo_ps(a, b), AB = _mm256_unpackhi_ps(a, b);
    const __m256 cd = _mm256_unpacklo_ps(c, d), CD = _mm256_unpackhi_ps(c, d);

    _mm256_storeu_ps(to, _mm256_shuffle_ps(ab, cd, 0x44));
    _mm256_storeu_ps(to + ld, _mm256_shuffle_ps(ab, cd, 0xee));
    _mm256_storeu_ps(to + 2 * ld, _mm256_shuffle_ps(AB, CD, 0x44));
    _mm256_storeu_ps(to + 3 * ld, _mm256_shuffle_ps(AB, CD, 0xee));
#undef PAIR
}

/* Columns [p, pe), whole fours, of at least eight rows. */
static inline void kernel_transpose8(float *to, int64_t ld, const float *from, int64_t rs, int64_t rows,
                                     int64_t p, int64_t pe)
{
    for (int64_t i = 0; i < rows; i += 8) {
        const int64_t at = kernel_min(i, rows - 8);

        for (int64_t q = p; q < pe; q += 4)
            kernel_transpose8x4(to + q * ld + at, ld, from + at * rs + q, rs);
    }
}
#define TRANSPOSE_EIGHT 8
#else
#define TRANSPOSE_EIGHT INT64_MAX /* never */
#define kernel_transpose8(...) ((void)0)
#endif

/* to[p * ld + i] = from[i * rs + p], i < rows, p < n. Lines of `from` are used up while they are in L1; the
 * last rows may overlap those before, which writes the same numbers twice. */
static inline void kernel_transpose(float *to, int64_t ld, const float *from, int64_t rs, int64_t rows,
                                    int64_t n)
{
    for (int64_t p = 0; p < n; p += 32) {
        const int64_t pe = kernel_min(p + 32, n), p4 = rows < 4 ? p : p + (pe - p) / 4 * 4;
        const bool eight = rows >= TRANSPOSE_EIGHT;

        if (eight)
            kernel_transpose8(to, ld, from, rs, rows, p, p4);
        for (int64_t i = eight ? rows : 0; i < rows && p4 > p; i += 4) {
            const int64_t i4 = kernel_min(i, rows - 4);

            for (int64_t q = p; q < p4; q += 4)
                kernel_transpose4(to + q * ld + i4, ld, from + i4 * rs + q, rs);
        }
        for (int64_t q = p4; q < pe; q++)
            for (int64_t i = 0; i < rows; i++)
                to[q * ld + i] = from[i * rs + q];
    }
}

/* to[k * h + i] = a(i, k): one tile of A. */
static inline void kernel_pack_tile(float *to, matrix a, int64_t h, int64_t k)
{
    if (a.cs == 1) {
        kernel_transpose(to, h, a.data, a.rs, h, k);
        return;
    }
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < h; i++)
            to[p * h + i] = a.data[i * a.rs + p * a.cs];
}

/* conv.c's part of the table. */
size_t LEVEL_NAME(conv_packed_bytes)(const conv_shape *s);
size_t LEVEL_NAME(conv_scratch_bytes)(const conv_shape *s);
void LEVEL_NAME(conv_prepare)(float *packed, const float *w, const conv_shape *s);
void LEVEL_NAME(conv_forward)(float *y, const float *x, const float *packed, const float *bias,
                              const conv_shape *s, int64_t begin, int64_t end, void *scratch);
void LEVEL_NAME(conv_dx_prepare)(float *packed, const float *w, const conv_shape *s);
void LEVEL_NAME(conv_dx)(float *dx, const float *dy, const float *packed, const conv_shape *s, int64_t begin,
                         int64_t end, void *scratch);
void LEVEL_NAME(conv_dw)(float *dw, const float *x, const float *dy, const conv_shape *s, int64_t begin,
                         int64_t end, void *scratch);

#endif
