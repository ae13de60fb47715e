/* Softmax attention of one head; compiled once per instruction level.
 *
 *   forward    a tile of 64 keys at a time: S = Q K^T, m' = max(m, max S), P = e^(S - m'),
 *              l = l e^(m - m') + sum P, O = O e^(m - m') + P V    (Milakov, Gimelshein 2018; Dao 2022)
 *   backward   S, P and dP = dO V^T again, P from lse;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
 *
 * One micro-kernel serves all seven products:  C += A B  with A(i, k) = a[64 i + k] (ROW) or a[64 k + i]
 * (COLUMN: A is read transposed). What stands on the left lies in panels, rows of 64 floats, so that the
 * distance between rows is a constant; wider matrices are several panels one after another. Q is multiplied
 * by the scale when it is packed: S then needs none, dK neither.
 *
 * Each lane is a chain of its own in rising k, so heights and widths of register tiles change no bit. */

#include "cpu/attention.h"
#include "cpu/level/gemm_kernel.h"
#include "cpu/level/math.h"
#include "cpu/level/philox.h"
#include "cpu/vec.h"

#define PANEL 64 /* floats of a row of a panel; keys of a tile; queries of a block of backward */
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
    bool add;
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
        UNROLL for (int i = 0; i < h; i++) {
            UNROLL for (int v = 0; v < w; v++)
                r[i * w + v] = vload(c + i * c_step + v * VL);
        }
    } else {
        UNROLL for (int i = 0; i < h * w; i++)
            r[i] = (vf){ 0 };
    }
    for (int64_t k = p->k; k > 0; k--) {
        vf y[4];

        UNROLL for (int v = 0; v < w; v++)
            y[v] = vload(b + v * VL);
        UNROLL for (int i = 0; i < h; i++) {
            const vf x = vsplat(column ? a[i] : a[i * PANEL]);

            UNROLL for (int v = 0; v < w; v++)
                r[i * w + v] = vfma(x, y[v], r[i * w + v]);
        }
        a += column ? PANEL : 1;
        b += b_step;
    }
    UNROLL for (int i = 0; i < h; i++) {
        UNROLL for (int v = 0; v < w; v++)
            vstore(c + i * c_step + v * VL, r[i * w + v]);
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

/* C [m,n] = A B (+ C), n in whole vectors; A is one panel. */
static void product(enum product_form form, float *c, int64_t c_step, const float *a, const float *b,
                    int64_t b_step, int64_t m, int64_t n, int64_t k, bool add)
{
    const int64_t vectors = n / VL, wide = kernel_ceil(vectors, WIDTH);

    for (int64_t j = 0; j < wide; j++) {
        const int64_t v = part_begin(vectors, wide, j), w = part_begin(vectors, wide, j + 1) - v;
        const int64_t high = kernel_ceil(m, product_height[w]);

        for (int64_t i = 0; i < high; i++) {
            const int64_t at = part_begin(m, high, i), h = part_begin(m, high, i + 1) - at;

            product_table[w][form][h](&(product_args){ .a = a + (form == ROW ? at * PANEL : at),
                                                       .b = b + v * VL,
                                                       .c = c + at * c_step + v * VL,
                                                       .b_step = b_step,
                                                       .c_step = c_step,
                                                       .k = k,
                                                       .add = add });
        }
    }
}

/* Scores of m rows against a tile on end, d terms: A in panels of a_rows rows. Zeros without terms. */
static void product_scores(float *s, const float *a, int64_t a_rows, const float *tile, int64_t m, int64_t n,
                           int64_t d)
{
    for (int64_t p = 0; p == 0 || p < d; p += PANEL, a += a_rows * PANEL)
        product(ROW, s, PANEL, a, tile + p * PANEL, PANEL, m, n, kernel_min(PANEL, d - p), p > 0);
}

/* C += A B for B in panels: C's columns follow B's. */
static void product_columns(float *c, int64_t c_step, const float *a, const float *b, int64_t b_rows,
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

static void pack(float *to, int64_t to_step, const float *from, int64_t step, int64_t n_rows, int64_t n)
{
    for (int64_t i = 0; i < n_rows; i++)
        pack_row(to + i * to_step, from + i * step, n, vsplat(1.0f));
}

/* Rows into panels of `height` rows, times `by`. */
static void pack_panels(float *to, int64_t height, const float *from, int64_t step, int64_t n_rows, int64_t n,
                        float by)
{
    for (int64_t p = 0; p < n; p += PANEL, to += height * PANEL)
        for (int64_t i = 0; i < n_rows; i++)
            pack_row(to + i * PANEL, from + i * step + p, kernel_min(PANEL, n - p), vsplat(by));
}

/* to[64 p + j] = from(j, p): a tile of keys on end. Columns behind the last key are zero. */
static void pack_tile(float *to, const float *from, int64_t step, int64_t keys, int64_t n)
{
    for (int64_t p = 0; keys < PANEL && p < n; p++)
        for (int64_t j = keys / VL * VL; j < PANEL; j += VL)
            vstore(to + p * PANEL + j, (vf){ 0 });
    kernel_transpose(to, PANEL, from, step, keys, n);
}

static void clear_rows(float *x, int64_t step, int64_t n_rows, int64_t n)
{
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t p = 0; p < n; p += VL)
            vstore(x + i * step + p, (vf){ 0 });
}

/* ---- which keys a query keeps ---- */

/* Of the keys from `first` on, how many query i may keep by lengths and causality; may be negative or
 * beyond a tile. */
static inline int64_t kept_keys(const attention_head *h, int64_t i, int64_t first)
{
    return (h->causal ? kernel_min(h->length, i + h->offset + 1) : h->length) - first;
}

/* Of queries [*begin, *end), those that may keep a key from `first` on. */
static void kept_queries(const attention_head *h, int64_t first, int64_t *begin, int64_t *end)
{
    *end = kernel_min(*end, h->q_length);
    if (h->causal)
        *begin = kernel_max(*begin, first - h->offset);
}

/* A row of the mask as 64 bytes, false behind the last key. */
static void mask_row(uint8_t to[PANEL], const attention_head *h, int64_t i, int64_t first, int64_t keys)
{
    const bool *from = h->mask + i * h->mask_row + first * h->mask_key;

    memset(to, h->mask_key ? 0 : *from, PANEL);
    if (h->mask_key)
        memcpy(to, from, (size_t)keys);
}

/* Does the mask let any of these queries see any of these keys? */
static bool mask_keeps(const attention_head *h, int64_t begin, int64_t end, int64_t first, int64_t keys)
{
    if (!h->mask)
        return true;
    if (h->mask_row == 0)
        end = kernel_min(end, begin + 1);
    for (int64_t i = begin; i < end; i++) {
        uint8_t row[PANEL];
        uint64_t part, any = 0;

        mask_row(row, h, i, first, keys);
        for (int64_t p = 0; p < PANEL; p += 8) {
            memcpy(&part, row + p, sizeof part);
            any |= part;
        }
        if (any)
            return true;
    }
    return false;
}

/* Lanes of vector v that are among the first `kept` keys and, where mask is not NULL, true there. */
VEC_INLINE vi kept_lanes(int64_t kept, int64_t v, const uint8_t *mask)
{
    typedef uint8_t vbytes __attribute__((vector_size(VL)));
    vi lanes = vfirst(kernel_min(VL, kernel_max(0, kept - v * VL)));
    vbytes b;

    if (mask) {
        memcpy(&b, mask + v * VL, sizeof b);
        lanes &= (vi)(__builtin_convertvector(b, vi) != 0);
    }
    return lanes;
}

/* The words that decide what dropout keeps of row i: of `vectors` vectors of keys from `first` on. */
static void dropout_words(uint32_t to[PANEL + 2 * VL], const attention_head *h, int64_t i, int64_t first,
                          int64_t vectors)
{
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

/* e^x for x <= 0, -inf and NaN included: vf_exp without what keeps large numbers in. */
VEC_INLINE vf exp_down(vf x)
{
#if LEVEL == 4
    const __mmask16 counts = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-104.0f), _CMP_NLT_UQ);
    vf k;
    vu bits;
    const vf r = math_exp_reduce((vf)_mm512_max_ps(_mm512_set1_ps(-104.0f), (__m512)x), &k, &bits);
    const vf y = vsplat(1.0f) + vfma(r * r, math_exp_rest(r), r);

    return (vf)_mm512_maskz_scalef_ps(counts, (__m512)y, (__m512)k);
#else
    return vf_exp(x);
#endif
}

/* ---- forward ---- */

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

/* A block of queries on its way through the tiles. The shift is m, or 0 while no key was kept. */
typedef struct forward_block {
    float *q, *s;         /* panels */
    float *k, *v, *out;   /* the tile on end, its values, the sums of a row: rows of `width` floats */
    float *m, *shift, *l; /* a number a row; l: VL partial sums a row */
    int64_t width;
} forward_block;

/* Scores of queries i .. i+n-1 and one tile, -inf where not kept; most[r] = their maxima. */
static void forward_scores(const attention_head *h, const forward_block *b, int64_t begin, int64_t i,
                           int64_t n, int64_t first, int64_t keys, int64_t vectors, float *most)
{
    product_scores(b->s, b->q + (i - begin) * PANEL, ATTENTION_ROWS, b->k, n, vectors * VL, h->dk);
    for (int64_t r = 0; r < n; r++) {
        const int64_t kept = kept_keys(h, i + r, first);
        const int64_t whole = h->mask ? 0 : kernel_min(vectors, kept / VL);
        float *s = b->s + r * PANEL;
        vf m = vsplat(MINUS_INF);
        uint8_t mask[PANEL];

        if (h->mask)
            mask_row(mask, h, i + r, first, keys);
        for (int64_t v = 0; v < whole; v++)
            m = larger(vload(s + v * VL), m);
        for (int64_t v = whole; v < vectors; v++) {
            const vf z =
                vselect(kept_lanes(kept, v, h->mask ? mask : NULL), vload(s + v * VL), vsplat(MINUS_INF));

            m = larger(z, m);
            vstore(s + v * VL, z);
        }
        most[r] = largest(m);
    }
}

/* Moves m and shift on to the new maxima; change[r] = e^(m - m'). */
static void forward_maxima(const forward_block *b, int64_t at, int64_t n, const float *most, float *change)
{
    float m[GROUP + VL], shift[GROUP + VL];

    memcpy(m, b->m + at, (size_t)n * sizeof *m);
    for (int64_t r = 0; r < n; r += VL) {
        const vf before = vload(m + r), now = larger(vload(most + r), before);
        const vf base = vselect((vi)(now == MINUS_INF), vsplat(0.0f), now);

        vstore(change + r, exp_down(before - base));
        vstore(m + r, now);
        vstore(shift + r, base);
    }
    memcpy(b->m + at, m, (size_t)n * sizeof *m);
    memcpy(b->shift + at, shift, (size_t)n * sizeof *m);
}

/* Scores to weights e^(s - shift), and their sums. */
static void forward_weights(const attention_head *h, const forward_block *b, int64_t begin, int64_t i,
                            int64_t n, int64_t first, int64_t vectors, const float *change)
{
    for (int64_t r = 0; r < n; r++) {
        const vf shift = vsplat(b->shift[i - begin + r]);
        float *s = b->s + r * PANEL, *l = b->l + (i - begin + r) * VL;
        vf sum = vload(l) * change[r];

        if (h->drops) {
            uint32_t words[PANEL + 2 * VL];

            dropout_words(words, h, i + r, first, vectors);
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = exp_down(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, dropped(p, words + v * VL, h->threshold, h->kept));
            }
        } else {
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = exp_down(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, p);
            }
        }
        vstore(l, sum);
    }
}

static void scale_rows(float *x, int64_t step, int64_t n_rows, const float *by)
{
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t v = 0; v < step; v += VL)
            vstore(x + r * step + v, vload(x + r * step + v) * by[r]);
}

/* out = O / l and lse = shift + ln l; rows that kept nothing: zeros and -inf. */
static void forward_finish(const attention_head *h, const forward_block *b, const attention_result *to,
                           int64_t begin, int64_t end)
{
    float l[ATTENTION_ROWS + VL];

    for (int64_t i = begin; i < end; i++) {
        const int64_t r = i - begin;
        const float *o = b->out + r * b->width;

        l[r] = vsum_lanes(vload(b->l + r * VL));
        const vf by = vsplat(l[r]);
        const vi none = (vi)(by == 0.0f);
        for (int64_t p = 0; to->out && p < h->dv; p += VL) {
            const vf y = (vf)(~none & (vi)(vload(o + p) / by));

            if (p + VL <= h->dv)
                vstore(to->out + i * h->dv + p, y);
            else
                vstore_part(to->out + i * h->dv + p, y, h->dv - p);
        }
    }
    for (int64_t i = begin; to->lse && i < end; i += VL) {
        const vf sum = vload(l + (i - begin));
        const vf lse = vload(b->shift + (i - begin)) + vf_log(sum); /* ln 0 = -inf */

        if (i + VL <= end)
            vstore(to->lse + i, lse);
        else
            vstore_part(to->lse + i, lse, end - i);
    }
}

/* Where everything lies in the four areas; floats of the largest. */
static int64_t forward_areas(forward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
{
    const int64_t width = whole_vectors(dv), keys = (dk + width) * PANEL, out = width * ATTENTION_ROWS;
    const int64_t q = panels(dk) * ATTENTION_ROWS * PANEL,
                  numbers = GROUP * PANEL + ATTENTION_ROWS * (VL + 2) + 2 * VL;

    if (b) {
        b->width = width;
        b->k = scratch[0];
        b->v = b->k + dk * PANEL;
        b->out = scratch[1];
        b->q = scratch[2];
        b->s = scratch[3];
        b->l = b->s + GROUP * PANEL;
        b->m = b->l + ATTENTION_ROWS * VL;
        b->shift = b->m + ATTENTION_ROWS + VL;
    }
    return kernel_max(kernel_max(keys, out), kernel_max(q, numbers));
}

static size_t attention_forward_bytes(int64_t dk, int64_t dv)
{
    return (size_t)forward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* The weights, from final maxima and sums: scores once more, e^(s - shift) / l. */
static void forward_report(const attention_head *h, const forward_block *b, float *weights, int64_t begin,
                           int64_t end)
{
    memset(weights + begin * h->tk, 0, (size_t)((end - begin) * h->tk) * sizeof *weights);
    for (int64_t first = 0; first < h->length; first += PANEL) {
        const int64_t keys = kernel_min(PANEL, h->length - first);
        int64_t from = begin, last = end;

        kept_queries(h, first, &from, &last);
        if (from >= last || !mask_keeps(h, from, last, first, keys))
            continue;
        pack_tile(b->k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        for (int64_t i = from; i < last; i += GROUP) {
            const int64_t n = kernel_min(GROUP, last - i);
            float most[GROUP + VL];

            forward_scores(h, b, begin, i, n, first, keys, kernel_ceil(keys, VL), most);
            for (int64_t r = 0; r < n; r++) {
                const vf shift = vsplat(b->shift[i - begin + r]),
                         by = vsplat(vsum_lanes(vload(b->l + (i - begin + r) * VL)));
                float *to = weights + (i + r) * h->tk + first;

                for (int64_t v = 0; v < keys && by[0] != 0; v += VL) {
                    const vf w = exp_down(vload(b->s + r * PANEL + v) - shift) / by;

                    if (v + VL <= keys)
                        vstore(to + v, w);
                    else
                        vstore_part(to + v, w, keys - v);
                }
            }
        }
    }
}

static void attention_forward(const attention_head *h, const attention_result *to, int64_t begin, int64_t end,
                              void *const scratch[4])
{
    const int64_t n_rows = end - begin;
    forward_block b;

    (void)forward_areas(&b, h->dk, h->dv, scratch);
    clear_rows(b.out, b.width, n_rows, b.width);
    clear_rows(b.l, VL, n_rows, VL);
    for (int64_t r = 0; r < n_rows + VL; r++) {
        b.m[r] = MINUS_INF;
        b.shift[r] = 0;
    }
    pack_panels(b.q, ATTENTION_ROWS, h->q + begin * h->q_step, h->q_step,
                kernel_min(end, h->q_length) - begin, h->dk, h->scale);
    for (int64_t first = 0; first < h->length; first += PANEL) {
        const int64_t keys = kernel_min(PANEL, h->length - first);
        int64_t from = begin, last = end;

        kept_queries(h, first, &from, &last);
        if (from >= last || !mask_keeps(h, from, last, first, keys))
            continue;
        pack_tile(b.k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        pack(b.v, b.width, h->v + first * h->v_step, h->v_step, keys, h->dv);
        for (int64_t i = from; i < last; i += GROUP) {
            const int64_t n = kernel_min(GROUP, last - i), at = i - begin;
            const int64_t most_keys = kernel_min(keys, kept_keys(h, i + n - 1, first));
            const int64_t vectors = kernel_ceil(most_keys, VL);
            float most[GROUP + VL], change[GROUP + VL];

            forward_scores(h, &b, begin, i, n, first, keys, vectors, most);
            forward_maxima(&b, at, n, most, change);
            forward_weights(h, &b, begin, i, n, first, vectors, change);
            if (first > 0)
                scale_rows(b.out + at * b.width, b.width, n, change);
            product(ROW, b.out + at * b.width, b.width, b.s, b.v, b.width, n, b.width, most_keys, true);
        }
    }
    forward_finish(h, &b, to, begin, end);
    if (to->weights)
        forward_report(h, &b, to->weights, begin, end);
}

/* ---- backward ---- */

typedef struct backward_block {
    float *q, *dout, *p, *ds; /* panels */
    float *k_tile, *v_tile;   /* on end */
    float *k, *dk, *dq, *dv;  /* rows of k_width and v_width floats: keys, sums of a tile, dq of a block */
    float *delta;             /* a number a row */
    int64_t k_width, v_width;
} backward_block;

static int64_t backward_areas(backward_block *b, int64_t dk, int64_t dv, int64_t n_rows,
                              void *const scratch[4])
{
    const int64_t k_width = whole_vectors(dk), v_width = whole_vectors(dv);
    const bool narrow =
        dk <= PANEL / 2 && dv <= PANEL / 2; /* q and dout side by side: half as many lines of L1 */
    const int64_t q = panels(dk) * TILE_FLOATS, dout = panels(dv) * TILE_FLOATS;

    if (b) {
        b->k_width = k_width;
        b->v_width = v_width;
        b->k_tile = scratch[0];
        b->v_tile = b->k_tile + dk * PANEL;
        b->q = scratch[1];
        b->dout = b->q + (narrow ? PANEL / 2 : q);
        b->k = scratch[2];
        b->dk = b->k + k_width * PANEL;
        b->dq = b->dk + k_width * PANEL;
        b->dv = b->dq + k_width * PANEL;
        b->p = scratch[3];
        b->ds = b->p + TILE_FLOATS;
        b->delta = b->ds + TILE_FLOATS;
    }
    return kernel_max(kernel_max((dk + dv) * PANEL, narrow ? q : q + dout),
                      kernel_max((3 * k_width + v_width) * PANEL, 2 * TILE_FLOATS + n_rows));
}

static size_t attention_backward_bytes(int64_t dk, int64_t dv, int64_t n_rows)
{
    return (size_t)backward_areas(NULL, dk, dv, n_rows, NULL) * sizeof(float);
}

/* delta_i = sum dout_i out_i: one chain in rising d, as in dP. A row with one weight of 1 has out = v,
 * hence delta = dP to the bit and a gradient of exactly 0, however large v is. */
static void backward_deltas(const attention_head *h, const attention_upstream *u, float *delta)
{
    for (int64_t g = 0; g < h->group; g++)
        for (int64_t i = 0; i < h->q_length; i += 4) { /* four rows: their chains hide each other's latency */
            const float *x[4], *y[4];
            float sum[4] = { 0 };

            for (int64_t r = 0; r < 4; r++) {
                const int64_t row = kernel_min(i + r, h->q_length - 1);

                x[r] = u->dout + g * u->dout_head + row * u->dout_step;
                y[r] = u->out + (g * h->tq + row) * h->dv;
            }
            for (int64_t p = 0; p < h->dv; p++) {
                UNROLL for (int r = 0; r < 4; r++)
                    sum[r] = sfma(x[r][p], y[r][p], sum[r]);
            }
            for (int64_t r = 0; r < kernel_min(4, h->q_length - i); r++)
                delta[g * h->tq + i + r] = sum[r];
        }
}

/* What one row of weights has: drops and masked are constants where this is called, and its loops are made
 * for each. */
typedef struct backward_row {
    float *p, *ds; /* scores and dP, to become dropped weights and dS */
    vf lse, delta, dlse;
    const uint32_t *words;
    const uint8_t *mask;
    int64_t kept;
} backward_row;

VEC_INLINE void backward_vector(const attention_head *h, const backward_row *x, int64_t v, const bool drops,
                                const bool masked)
{
    const vf z = vload(x->p + v * VL) - x->lse, dp = vload(x->ds + v * VL);
    const vi lanes = masked ? kept_lanes(x->kept, v, x->mask) : (vi){ 0 };
    const vf e = exp_down(masked ? vselect(lanes, z, vsplat(MINUS_INF)) : z);
    const vf down = drops ? dropped(dp, x->words + v * VL, h->threshold, h->kept) : dp;
    const vf ds = e * (down - x->delta + x->dlse);

    vstore(x->p + v * VL, drops ? dropped(e, x->words + v * VL, h->threshold, h->kept) : e);
    vstore(x->ds + v * VL, masked ? (vf)(lanes & (vi)ds) : ds);
}

/* Row i: scores to weights (dropped), dP to dS, both zero where not kept. */
static void backward_weights(const attention_head *h, backward_row *x, int64_t i, int64_t first, int64_t keys,
                             int64_t vectors)
{
    uint32_t words[PANEL + 2 * VL];
    uint8_t mask[PANEL];
    int64_t whole;

    x->kept = kept_keys(h, i, first);
    x->mask = NULL;
    x->words = words;
    whole = h->mask ? 0 : kernel_min(vectors, x->kept / VL);
    if (h->mask) {
        mask_row(mask, h, i, first, keys);
        x->mask = mask;
    }
    if (h->drops) {
        dropout_words(words, h, i, first, vectors);
        for (int64_t v = 0; v < whole; v++)
            backward_vector(h, x, v, true, false);
        for (int64_t v = whole; v < vectors; v++)
            backward_vector(h, x, v, true, true);
    } else {
        for (int64_t v = 0; v < whole; v++)
            backward_vector(h, x, v, false, false);
        for (int64_t v = whole; v < vectors; v++)
            backward_vector(h, x, v, false, true);
    }
}

/* to = from, or to += from * by. */
static void put_rows(float *to, int64_t step, const float *from, int64_t from_step, int64_t n_rows, int64_t n,
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

/* Queries [i, end), at most 64, of head g against the tile of keys from `first` on. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b,
                             int64_t g, int64_t i, int64_t end, int64_t first, int64_t keys)
{
    const int64_t n = end - i, most = kernel_min(keys, kept_keys(h, end - 1, first)),
                  vectors = kernel_ceil(most, VL);
    const int64_t at = g * h->tq;

    pack_panels(b->q, PANEL, h->q + g * h->q_head + i * h->q_step, h->q_step, n, h->dk, h->scale);
    pack_panels(b->dout, PANEL, u->dout + g * u->dout_head + i * u->dout_step, u->dout_step, n, h->dv, 1);
    product_scores(b->p, b->q, PANEL, b->k_tile, n, vectors * VL, h->dk);
    product_scores(b->ds, b->dout, PANEL, b->v_tile, n, vectors * VL, h->dv);
    for (int64_t r = 0; r < n; r++) {
        const int64_t row = at + i + r;
        backward_row x = { .p = b->p + r * PANEL,
                           .ds = b->ds + r * PANEL,
                           .lse = vsplat(u->lse[row]),
                           .delta = vsplat(b->delta[row]),
                           .dlse = vsplat(u->dlse ? u->dlse[row] : 0) };

        backward_weights(h, &x, i + r, first, keys, vectors);
    }
    if (u->dv)
        product_columns(b->dv, b->v_width, b->p, b->dout, PANEL, most, h->dv, n);
    if (u->dk)
        product_columns(b->dk, b->k_width, b->ds, b->q, PANEL, most, h->dk, n);
    if (u->dq) {
        product(ROW, b->dq, b->k_width, b->ds, b->k, b->k_width, n, b->k_width, most, false);
        put_rows(u->dq + (at + i) * h->dk, h->dk, b->dq, b->k_width, n, h->dk, true, vsplat(h->scale));
    }
}

/* One tile of keys against all queries of the group: dk and dv of the tile, and its share of dq. */
static void backward_tile(const attention_head *h, const attention_upstream *u, const backward_block *b,
                          int64_t first)
{
    const int64_t keys = kernel_min(PANEL, h->length - first);

    pack_tile(b->k_tile, h->k + first * h->k_step, h->k_step, keys, h->dk);
    pack_tile(b->v_tile, h->v + first * h->v_step, h->v_step, keys, h->dv);
    pack(b->k, b->k_width, h->k + first * h->k_step, h->k_step, keys, h->dk);
    clear_rows(b->dk, b->k_width, keys, b->k_width);
    clear_rows(b->dv, b->v_width, keys, b->v_width);
    for (int64_t g = 0; g < h->group; g++) {
        attention_head head = *h;

        head.mask = h->mask ? h->mask + g * h->mask_head : NULL;
        head.row = h->row + (uint32_t)(g * h->tq);
        for (int64_t block = 0; block < h->q_length; block += PANEL) {
            int64_t i = block, end = kernel_min(h->q_length, block + PANEL);

            kept_queries(h, first, &i, &end);
            if (i < end && mask_keeps(&head, i, end, first, keys))
                backward_queries(&head, u, b, g, i, end, first, keys);
        }
    }
    if (u->dk)
        put_rows(u->dk + first * h->dk, h->dk, b->dk, b->k_width, keys, h->dk, false, vsplat(1.0f));
    if (u->dv)
        put_rows(u->dv + first * h->dv, h->dv, b->dv, b->v_width, keys, h->dv, false, vsplat(1.0f));
}

static void attention_backward(const attention_head *h, const attention_upstream *u, void *const scratch[4])
{
    const int64_t unread = h->tk - h->length;
    backward_block b;

    (void)backward_areas(&b, h->dk, h->dv, h->group * h->tq, scratch);
    if (u->dq)
        memset(u->dq, 0, (size_t)(h->group * h->tq * h->dk) * sizeof(float));
    if (u->dk)
        memset(u->dk + h->length * h->dk, 0, (size_t)(unread * h->dk) * sizeof(float));
    if (u->dv)
        memset(u->dv + h->length * h->dv, 0, (size_t)(unread * h->dv) * sizeof(float));
    backward_deltas(h, u, b.delta);
    for (int64_t first = 0; first < h->length; first += PANEL)
        backward_tile(h, u, &b, first);
}

const attention_ops LEVEL_NAME(attention_ops) = {
    .forward_bytes = attention_forward_bytes,
    .backward_bytes = attention_backward_bytes,
    .forward = attention_forward,
    .backward = attention_backward,
};
