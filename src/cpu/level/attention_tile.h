/* What the attention kernels of one instruction level share: products in registers, packing, dropout, masks as lanes.
 *
 * One micro-kernel serves all products:  C += A B  with A(i, k) = a[64 i + k] (ROW) or a[64 k + i] (COLUMN: A is read
 * transposed). What stands on the left lies in panels, rows of 64 floats, so that the distance between rows is a constant;
 * wider matrices are several panels one after another.
 *
 * Each lane is a chain of its own in rising k, so heights and widths of register tiles change no bit. */
#ifndef CPU_LEVEL_ATTENTION_TILE_H
#define CPU_LEVEL_ATTENTION_TILE_H

#include "cpu/attention.h"
#include "cpu/level/gemm_kernel.h"
#include "cpu/level/math.h"
#include "cpu/level/philox.h"
#include "cpu/vec.h"

#define PANEL ATTENTION_TILE /* floats of a row of a panel; keys of a tile; queries of a block of backward */
#define TILE_FLOATS (PANEL * PANEL)
#define MINUS_INF (-__builtin_inff())

static inline int64_t panels(int64_t n)
{
    return kernel_ceil(n, PANEL);
}

/* Where part t begins when n things are cut into parts whose sizes differ by one at most. */
static inline int64_t part_begin(int64_t n, int64_t parts, int64_t t)
{
    return t * (n / parts) + kernel_min(t, n % parts);
}

/* n rounded up to whole vectors. */
static inline int64_t whole_vectors(int64_t n)
{
    return kernel_ceil(n, VL) * VL;
}

/* ---- C += A B in registers ---- */

typedef struct product_args {
    const float *a, *b;
    float *c;
    int64_t b_step, c_step, k;
    bool add;  /* C is where the chains begin */
    bool onto; /* C + by A B: the product is made first, then added */
    float by;
    const float *ahead; /* NULL, or rows as C's that are read next: they come into the second cache meanwhile */
    int64_t ahead_step;
} product_args;

typedef void product_fn(const product_args *p);

static inline __attribute__((always_inline)) void product_tile(const bool column, const int h, const int w,
                                                               const product_args *p)
{
    const float *a = p->a, *b = p->b;
    float *const c = p->c;
    const int64_t b_step = p->b_step, c_step = p->c_step;
    vf r[32];

    if (p->add) {
        UNROLL for (int i = 0; i < h; i++)
        {
            UNROLL for (int v = 0; v < w; v++) r[i * w + v] = vload(c + i * c_step + v * VL);
        }
    } else {
        UNROLL for (int i = 0; i < h * w; i++) r[i] = (vf){ 0 };
    }
    for (int64_t k = p->k; k > 0; k--) {
        vf y[4];

        UNROLL for (int v = 0; v < w; v++) y[v] = vload(b + v * VL);
        UNROLL for (int i = 0; i < h; i++)
        {
            const vf x = vsplat(column ? a[i] : a[i * PANEL]);

            UNROLL for (int v = 0; v < w; v++) r[i * w + v] = vfma(x, y[v], r[i * w + v]);
        }
        a += column ? PANEL : 1;
        b += b_step;
    }
    if (p->onto) {
        const vf by = vsplat(p->by);

        UNROLL for (int i = 0; i < h; i++)
        {
            UNROLL for (int v = 0; v < w; v++)
                r[i * w + v] = vfma(r[i * w + v], by, vload(c + i * c_step + v * VL));
        }
    }
    UNROLL for (int i = 0; i < h; i++)
    {
        UNROLL for (int v = 0; v < w; v++) vstore(c + i * c_step + v * VL, r[i * w + v]);
    }
}

#define PRODUCT(w, column, h)                                                                                \
    static void product_##w##_##column##_##h(const product_args *p)                                          \
    {                                                                                                        \
        product_tile(column, h, w, p);                                                                       \
    }
#define PRODUCT_NAME(w, column, h) product_##w##_##column##_##h,

#define UP_TO_4(X, w, f) X(w, f, 1) X(w, f, 2) X(w, f, 3) X(w, f, 4)
#define UP_TO_6(X, w, f) UP_TO_4(X, w, f) X(w, f, 5) X(w, f, 6)
#define UP_TO_7(X, w, f) UP_TO_6(X, w, f) X(w, f, 7)
#define UP_TO_8(X, w, f) UP_TO_7(X, w, f) X(w, f, 8)
#define UP_TO_12(X, w, f) UP_TO_8(X, w, f) X(w, f, 9) X(w, f, 10) X(w, f, 11) X(w, f, 12)
#define UP_TO_14(X, w, f) UP_TO_12(X, w, f) X(w, f, 13) X(w, f, 14)

/* How high a register tile of w vectors may be: accumulators, w vectors of B and one of A fill the
 * registers. */
#if LEVEL == 4
#define WIDTH 4
#define WIDTHS(W) W(UP_TO_14, 1) W(UP_TO_14, 2) W(UP_TO_8, 3) W(UP_TO_7, 4)
static const int product_height[WIDTH + 1] = { 0, 14, 14, 8, 7 };
#define GROUP 28 /* queries whose scores are made and used together: they stay in L1 */
#elif LEVEL == 5
#define WIDTH 4
#define WIDTHS(W) W(UP_TO_14, 1) W(UP_TO_12, 2) W(UP_TO_8, 3) W(UP_TO_6, 4)
static const int product_height[WIDTH + 1] = { 0, 14, 12, 8, 6 };
#define GROUP 24
#elif LEVEL == 3
#define WIDTH 2
#define WIDTHS(W) W(UP_TO_12, 1) W(UP_TO_6, 2)
static const int product_height[WIDTH + 1] = { 0, 12, 6 };
#define GROUP 24
#else
#define WIDTH 2
#define WIDTHS(W) W(UP_TO_8, 1) W(UP_TO_4, 2)
static const int product_height[WIDTH + 1] = { 0, 8, 4 };
#define GROUP 24
#endif

#define DEFINE(heights, w) heights(PRODUCT, w, 0) heights(PRODUCT, w, 1)
WIDTHS(DEFINE)

enum product_form { ROW, COLUMN };

#define TABLE(heights, w)                                                                                    \
    [w] = { { NULL, heights(PRODUCT_NAME, w, 0) }, { NULL, heights(PRODUCT_NAME, w, 1) } },
static product_fn *const product_table[WIDTH + 1][2][15] = { WIDTHS(TABLE) };

/* A few rows at a time between products: all at once they would wait for each other, and far rows have one place in L1. */
static inline void product_fetch(const product_args *p, int64_t row, int64_t rows, int64_t n)
{
    for (int64_t r = row; p->ahead && r < row + rows; r++)
        for (int64_t j = 0; j < n; j += 64 / (int64_t)sizeof(float))
            __builtin_prefetch(p->ahead + r * p->ahead_step + j, 0, 2);
}

/* C of `to` [m,n], n in whole vectors; A is one panel. Cut evenly, the first parts larger by one. */
static void product_as(enum product_form form, const product_args *to, int64_t m, int64_t n)
{
    const uint32_t vectors = (uint32_t)n / VL, wide = (vectors + WIDTH - 1) / WIDTH;
    product_args p = *to;

    for (uint32_t left = vectors, j = wide, w; j > 0; j--, left -= w) {
        w = (left + j - 1) / j;
        const uint32_t most = (uint32_t)product_height[w], rows = (uint32_t)m;
        const float *const a = p.a;
        float *const c = p.c;

        for (uint32_t below = rows, i = (rows + most - 1) / most, h; i > 0; i--, below -= h) {
            h = (below + i - 1) / i;
            product_fetch(&p, rows - below, h, w * VL);
            product_table[w][form][h](&p);
            p.a += form == ROW ? h * PANEL : h;
            p.c += h * p.c_step;
        }
        p.a = a;
        p.b += w * VL;
        p.c = c + w * VL;
        p.ahead = p.ahead ? p.ahead + w * VL : NULL;
    }
}

/* C [m,n] = A B (+ C). */
static inline void product(enum product_form form, float *c, int64_t c_step, const float *a, const float *b,
                           int64_t b_step, int64_t m, int64_t n, int64_t k, bool add)
{
    product_as(form,
               &(product_args){
                   .a = a, .b = b, .c = c, .b_step = b_step, .c_step = c_step, .k = k, .add = add },
               m, n);
}

/* Scores of m rows against a tile on end, d terms: A in panels of a_rows rows. Zeros without terms. `ahead`: see product_args. */
static inline void product_scores_ahead(float *s, const float *a, int64_t a_rows, const float *tile, int64_t m, int64_t n,
                                        int64_t d, const float *ahead, int64_t ahead_step)
{
    product_args p = { .a = a, .b = tile, .c = s, .b_step = PANEL, .c_step = PANEL, .k = kernel_min(PANEL, d) };

    p.ahead = ahead;
    p.ahead_step = ahead_step;
    product_as(ROW, &p, m, n);
    for (int64_t t = PANEL; t < d; t += PANEL)
        product(ROW, s, PANEL, a + t * a_rows, tile + t * PANEL, PANEL, m, n, kernel_min(PANEL, d - t), true);
}

static inline void product_scores(float *s, const float *a, int64_t a_rows, const float *tile, int64_t m, int64_t n,
                           int64_t d)
{
    product_scores_ahead(s, a, a_rows, tile, m, n, d, NULL, 0);
}

/* C += A B for B in panels: C's columns follow B's. */
static inline void product_columns(float *c, int64_t c_step, const float *a, const float *b, int64_t b_rows,
                            int64_t m, int64_t n, int64_t k)
{
    for (int64_t p = 0; p < n; p += PANEL, b += b_rows * PANEL)
        product(COLUMN, c + p, c_step, a, b, PANEL, m, whole_vectors(kernel_min(PANEL, n - p)), k, true);
}

/* ---- packing ---- */

/* One row of n numbers times `by`; the last vector is filled up with zeros. */
VEC_INLINE void pack_row(float *to, const float *from, int64_t n, vf by)
{
    int64_t p = 0;

    for (; p + VL <= n; p += VL)
        vstore(to + p, vload(from + p) * by);
    if (p < n)
        vstore(to + p, vload_part(from + p, n - p) * by);
}

static inline void pack(float *to, int64_t to_step, const float *from, int64_t step, int64_t n_rows, int64_t n)
{
    for (int64_t i = 0; i < n_rows; i++)
        pack_row(to + i * to_step, from + i * step, n, vsplat(1.0f));
}

/* Rows into panels of `height` rows, times `by`. */
static inline void pack_panels(float *to, int64_t height, const float *from, int64_t step, int64_t n_rows, int64_t n,
                        float by)
{
    for (int64_t p = 0; p < n; p += PANEL, to += height * PANEL)
        for (int64_t i = 0; i < n_rows; i++)
            pack_row(to + i * PANEL, from + i * step + p, kernel_min(PANEL, n - p), vsplat(by));
}

/* Rows r, r + 4, .. of four columns side by side: VL / 4 loads of four numbers. */
#if LEVEL == 4
VEC_INLINE __m512 load_quarters(const float *from, int64_t step)
{
    const __m512 y = _mm512_castps128_ps512(_mm_loadu_ps(from));
    const __m512 z = _mm512_mask_broadcast_f32x4(y, 0x00f0, _mm_loadu_ps(from + 4 * step));
    const __m512 u = _mm512_mask_broadcast_f32x4(z, 0x0f00, _mm_loadu_ps(from + 8 * step));

    return _mm512_mask_broadcast_f32x4(u, 0xf000, _mm_loadu_ps(from + 12 * step));
}
#define VECTOR(name) _mm512_##name
typedef __m512d vector_pairs;
#elif LEVEL == 3
VEC_INLINE __m256 load_quarters(const float *from, int64_t step)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), _mm_loadu_ps(from + 4 * step), 1);
}
#define VECTOR(name) _mm256_##name
typedef __m256d vector_pairs;
#endif

/* to[64 p + j] = from(j, p) for VL rows j and four columns p. */
#if LEVEL == 4 || LEVEL == 3
VEC_INLINE void transpose_quads(float *to, const float *from, int64_t step)
{
    const vf a = (vf)load_quarters(from, step), b = (vf)load_quarters(from + step, step),
             c = (vf)load_quarters(from + 2 * step, step), d = (vf)load_quarters(from + 3 * step, step);
#if LEVEL == 4
#define LOW(x, y) _mm512_unpacklo_ps((__m512)(x), (__m512)(y))
#define HIGH(x, y) _mm512_unpackhi_ps((__m512)(x), (__m512)(y))
#else
#define LOW(x, y) _mm256_unpacklo_ps((__m256)(x), (__m256)(y))
#define HIGH(x, y) _mm256_unpackhi_ps((__m256)(x), (__m256)(y))
#endif
    const vector_pairs ab = (vector_pairs)LOW(a, b), cd = (vector_pairs)LOW(c, d),
                       AB = (vector_pairs)HIGH(a, b), CD = (vector_pairs)HIGH(c, d);

    vstore(to, (vf)VECTOR(unpacklo_pd)(ab, cd));
    vstore(to + PANEL, (vf)VECTOR(unpackhi_pd)(ab, cd));
    vstore(to + 2 * PANEL, (vf)VECTOR(unpacklo_pd)(AB, CD));
    vstore(to + 3 * PANEL, (vf)VECTOR(unpackhi_pd)(AB, CD));
#undef LOW
#undef HIGH
}
#endif

#if LEVEL == 4
/* The same for 16 rows and 16 columns: each row is one load. Squares of four, then those in their places. */
static inline void transpose_square(float *to, const float *from, int64_t step)
{
    __m512 quad[VL];

    UNROLL for (int i = 0; i < VL; i += 4)
    {
        const __m512 a = (__m512)vload(from + i * step), b = (__m512)vload(from + (i + 1) * step),
                     c = (__m512)vload(from + (i + 2) * step), d = (__m512)vload(from + (i + 3) * step);
        const __m512d ab = (__m512d)_mm512_unpacklo_ps(a, b), cd = (__m512d)_mm512_unpacklo_ps(c, d),
                      AB = (__m512d)_mm512_unpackhi_ps(a, b), CD = (__m512d)_mm512_unpackhi_ps(c, d);

        quad[i] = (__m512)_mm512_unpacklo_pd(ab, cd);
        quad[i + 1] = (__m512)_mm512_unpackhi_pd(ab, cd);
        quad[i + 2] = (__m512)_mm512_unpacklo_pd(AB, CD);
        quad[i + 3] = (__m512)_mm512_unpackhi_pd(AB, CD);
    }
    UNROLL for (int p = 0; p < 4; p++)
    {
        const __m512 x = _mm512_shuffle_f32x4(quad[p], quad[4 + p], 0x88),
                     y = _mm512_shuffle_f32x4(quad[8 + p], quad[12 + p], 0x88),
                     z = _mm512_shuffle_f32x4(quad[p], quad[4 + p], 0xdd),
                     u = _mm512_shuffle_f32x4(quad[8 + p], quad[12 + p], 0xdd);

        vstore(to + p * PANEL, (vf)_mm512_shuffle_f32x4(x, y, 0x88));
        vstore(to + (4 + p) * PANEL, (vf)_mm512_shuffle_f32x4(z, u, 0x88));
        vstore(to + (8 + p) * PANEL, (vf)_mm512_shuffle_f32x4(x, y, 0xdd));
        vstore(to + (12 + p) * PANEL, (vf)_mm512_shuffle_f32x4(z, u, 0xdd));
    }
}
#endif

/* to[64 p + j] = from(j, p): a tile of keys on end. Columns behind the last key are zero. */
static inline void pack_tile(float *to, const float *from, int64_t step, int64_t keys, int64_t n)
{
    int64_t done = 0;

    for (int64_t p = 0; keys < PANEL && p < n; p++)
        for (int64_t j = keys / VL * VL; j < PANEL; j += VL)
            vstore(to + p * PANEL + j, (vf){ 0 });
#if LEVEL == 4 || LEVEL == 3
    const int64_t quads = n / 4 * 4;

    for (; done + VL <= keys; done += VL) {
        int64_t p = 0;

#if LEVEL == 4
        for (; p + VL <= n; p += VL)
            transpose_square(to + p * PANEL + done, from + done * step + p, step);
#endif
        for (; p < quads; p += 4)
            transpose_quads(to + p * PANEL + done, from + done * step + p, step);
    }
    if (quads < n)
        kernel_transpose(to + quads * PANEL, PANEL, from + quads, step, done, n - quads);
#endif
    if (done < keys)
        kernel_transpose(to + done, PANEL, from + done * step, step, keys - done, n);
}

static inline void clear_rows(float *x, int64_t step, int64_t n_rows, int64_t n)
{
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t p = 0; p < n; p += VL)
            vstore(x + i * step + p, (vf){ 0 });
}

/* ---- masks and dropout ---- */

/* Lanes of vector v whose bits are set in the word of a row. */
VEC_INLINE vi word_lanes(uint64_t word, int64_t v)
{
    const uint32_t bits = (uint32_t)(word >> (v * VL));
#if LEVEL == 4
    return (vi)_mm512_movm_epi32((__mmask16)bits);
#elif LEVEL == 3
    const vi bit = { 1, 2, 4, 8, 16, 32, 64, 128 };

    return (vi)((((int32_t)bits - (vi){ 0 }) & bit) == bit);
#else
    const vi bit = { 1, 2, 4, 8 };

    return (vi)((((int32_t)bits - (vi){ 0 }) & bit) == bit);
#endif
}

/* Are all lanes of vector v kept? */
static inline bool word_whole(uint64_t word, int64_t v)
{
    const uint64_t lanes = ~(uint64_t)0 >> (64 - VL);

    return (word >> (v * VL) & lanes) == lanes;
}

/* All keys of a tile that has `keys` of them. */
static inline uint64_t whole_word(int64_t keys)
{
    return ~(uint64_t)0 >> (PANEL - keys);
}

/* Vectors that hold the kept keys of a word, the last of them perhaps in part. */
static inline int64_t word_vectors(uint64_t word)
{
    return word ? (PANEL - __builtin_clzll(word) + VL - 1) / VL : 0;
}

/* 0, 1, 2, .. */
VEC_INLINE vf lane_numbers(void)
{
#if LEVEL == 4
    return (vf){ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
#elif LEVEL == 3
    return (vf){ 0, 1, 2, 3, 4, 5, 6, 7 };
#else
    return (vf){ 0, 1, 2, 3 };
#endif
}

/* The words that decide what dropout keeps of row i: of `vectors` vectors of keys from `first` on. */
static inline void dropout_words(uint32_t to[PANEL + 2 * VL], const attention_head *h, int64_t i, int64_t first,
                          int64_t vectors)
{
    const int64_t n = kernel_min(vectors * VL, h->mask.tk - first);

    if (h->dropout_keep) {
        memset(to, 0, (size_t)(vectors * VL) * sizeof *to);
        for (int64_t j = 0; j < n; j++)
            to[j] = h->dropout_keep[i * h->mask.tk + first + j] ? UINT32_MAX : 0;
        return;
    }
    for (int64_t v = 0; v < vectors; v += 2)
        philox_words(to + v * VL, h->seed, h->step, h->node, h->row + (uint32_t)i,
                     (uint32_t)((first + v * VL) / 4));
}

VEC_INLINE vf dropped(vf p, const uint32_t *words, uint32_t threshold, float kept)
{
    vu w;

    memcpy(&w, words, sizeof w);
    return (vf)((vi)(w >= threshold) & (vi)(p * kept));
}

/* The larger lane by lane, b where either is no number: one instruction. */
VEC_INLINE vf larger(vf a, vf b)
{
#if LEVEL == 4
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif LEVEL == 3
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vselect((vi)(a > b), a, b);
#endif
}

/* The smaller lane by lane, likewise. */
VEC_INLINE vf smaller(vf a, vf b)
{
#if LEVEL == 4
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif LEVEL == 3
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vselect((vi)(a < b), a, b);
#endif
}

/* e^x for x <= 0, -inf and NaN included: at most 2 ULP, which a softmax divides out of all but its own rounding; below -87.3, where
 * e^x is no normal number, zero.
 *
 * x = k ln2 + r as in math.h, but with ln2 as one number (k is a few dozen where e^x counts), and a polynomial that ends with r^5:
 * 2^-23.2 of e^r. This is what a score costs besides its two products. */
VEC_INLINE vf exp_down(vf x)
{
#if LEVEL == 4 || LEVEL == 3
    const vf inside = larger(vsplat(-87.3f), x); /* a NaN stays */
    const vf t = vfma(inside, vsplat(MATH_LOG2E), vsplat(MATH_ROUND));
    const vf r = vfma(t - vsplat(MATH_ROUND), vsplat(-0x1.62e430p-1f), inside);
    vf p = vfma(vsplat(0x1.106250p-7f), r, vsplat(0x1.572a64p-5f));

    p = vfma(p, r, vsplat(0x1.5557b0p-3f));
    p = vfma(p, r, vsplat(0x1.fffdfcp-2f));
    p = vsplat(1.0f) + vfma(r * r, p, r);
#if LEVEL == 4
    return (vf)_mm512_maskz_mul_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ), (__m512)p,
                                   (__m512)(vf)(((vu)t << 23) + 0x3f800000u));
#else
    return (vf)(~(vi)(x < -87.3f) & (vi)(p * (vf)(((vu)t << 23) + 0x3f800000u)));
#endif
#else
    return vf_exp(x);
#endif
}

/* ln of a denominator: shift + ln total, and what its rounding leaves, exactly (Knuth 1969, 4.2.2); -inf and 0 where nothing was
 * kept. The rest is half a unit of lse at most, 5e-4 at 1e4: so much weights e^(z - lse) alone would be off. */
VEC_INLINE vf log_sum(vf shift, vf total, vf *rest)
{
    const vf ln = vf_log(total), lse = shift + ln, added = lse - shift;

    *rest = (vf)(~(vi)(total == 0.0f) & (vi)((shift - (lse - added)) + (ln - added)));
    return lse;
}

VEC_INLINE float largest(vf v)
{
#if LEVEL == 4 || LEVEL == 3
#if LEVEL == 4
    const __m256 eight =
        _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    const __m256 eight = (__m256)v;
#endif
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
    float m = v[0];

    for (int i = 1; i < VL; i++)
        m = v[i] > m ? v[i] : m;
    return m;
#endif
}

static inline void scale_rows(float *x, int64_t step, int64_t n_rows, const float *by)
{
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t v = 0; by[r] != 1 && v < step; v += VL) /* times 1 changes no bit */
            vstore(x + r * step + v, vload(x + r * step + v) * by[r]);
}

/* to = from, or to += from * by. */
static inline void put_rows(float *to, int64_t step, const float *from, int64_t from_step, int64_t n_rows, int64_t n,
                     const bool add, vf by)
{
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t p = 0; p < n; p += VL) {
            const vf x = vload(from + r * from_step + p);
            float *y = to + r * step + p;

            if (p + VL <= n)
                vstore(y, add ? vfma(x, by, vload(y)) : x);
            else
                vstore_part(y, add ? vfma(x, by, vload_part(y, n - p)) : x, n - p);
        }
}

#endif
