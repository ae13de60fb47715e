/* Softmax attention of one head; compiled once per instruction level.
 *
 * Everything between memory and memory lies in panels: rows of 64 floats. A matrix of n columns is ceil(n / 64) panels one after
 * another, so the distance between rows is a constant and one micro-kernel serves all seven products:
 *
 *   C += A B       B's and C's rows lie in panels; A(i, k) = a[64 i + k] (ROW) or a[64 k + i] (COLUMN: A is read transposed)
 *
 *   forward        S = Q K^T, O += P V                                     a tile of 64 keys at a time, softmax online:
 *                  m' = max(m, max S), O *= e^(m - m'), l = l e^(m - m') + sum P (Milakov, Gimelshein 2018; Dao 2022)
 *   backward       S, P and dP = dO V^T again from lse;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
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

/* ---- C += A B in registers ---- */

typedef struct product_args {
    const float *a, *b;
    float *c;
    int64_t k;
    bool add;
} product_args;

typedef void product_fn(const product_args *p);

static inline __attribute__((always_inline)) void product_tile(const bool column, const int h, const int w, const product_args *p)
{
    const float *a = p->a, *b = p->b;
    float *const c = p->c;
    vf r[32];

    if (p->add) {
        UNROLL for (int i = 0; i < h; i++) {
            UNROLL for (int v = 0; v < w; v++)
                r[i * w + v] = vload(c + i * PANEL + v * VL);
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
        b += PANEL;
    }
    UNROLL for (int i = 0; i < h; i++) {
        UNROLL for (int v = 0; v < w; v++)
            vstore(c + i * PANEL + v * VL, r[i * w + v]);
    }
}

#define PRODUCT(w, column, h)                                                                                          \
    static void product_##w##_##column##_##h(const product_args *p)                                                    \
    {                                                                                                                  \
        product_tile(column, h, w, p);                                                                                 \
    }
#define PRODUCT_NAME(w, column, h) product_##w##_##column##_##h,

#define UP_TO_4(X, w, f) X(w, f, 1) X(w, f, 2) X(w, f, 3) X(w, f, 4)
#define UP_TO_6(X, w, f) UP_TO_4(X, w, f) X(w, f, 5) X(w, f, 6)
#define UP_TO_7(X, w, f) UP_TO_6(X, w, f) X(w, f, 7)
#define UP_TO_8(X, w, f) UP_TO_7(X, w, f) X(w, f, 8)
#define UP_TO_12(X, w, f) UP_TO_8(X, w, f) X(w, f, 9) X(w, f, 10) X(w, f, 11) X(w, f, 12)
#define UP_TO_14(X, w, f) UP_TO_12(X, w, f) X(w, f, 13) X(w, f, 14)

/* How high a register tile of w vectors may be: accumulators, w vectors of B and one of A fill the registers. */
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

#define TABLE(heights, w)                                                                                              \
    [w] = { { NULL, heights(PRODUCT_NAME, w, 0) }, { NULL, heights(PRODUCT_NAME, w, 1) } },
static product_fn *const product_table[WIDTH + 1][2][15] = { WIDTHS(TABLE) };

/* m rows and `vectors` vectors of one panel of C; k terms. */
static void product(enum product_form form, float *c, const float *a, const float *b, int64_t m, int64_t vectors, int64_t k,
                    bool add)
{
    const int64_t wide = kernel_ceil(vectors, WIDTH);

    for (int64_t j = 0; j < wide; j++) {
        const int64_t v = part_begin(vectors, wide, j), w = part_begin(vectors, wide, j + 1) - v;
        const int64_t high = kernel_ceil(m, product_height[w]);

        for (int64_t i = 0; i < high; i++) {
            const int64_t at = part_begin(m, high, i), h = part_begin(m, high, i + 1) - at;

            product_table[w][form][h](&(product_args){ .a = a + (form == ROW ? at * PANEL : at), .b = b + v * VL,
                                                       .c = c + at * PANEL + v * VL, .k = k, .add = add });
        }
    }
}

/* All panels of C [m,n]; a_rows and so on: rows from one panel to the next. A is one panel. */
static void product_panels(enum product_form form, float *c, int64_t c_rows, const float *a, const float *b, int64_t b_rows,
                           int64_t m, int64_t n, int64_t k, bool add)
{
    for (int64_t j = 0; j < n; j += PANEL, c += c_rows * PANEL, b += b_rows * PANEL)
        product(form, c, a, b, m, kernel_ceil(kernel_min(PANEL, n - j), VL), k, add);
}

/* One panel of scores: rows of A (in panels) times columns of a transposed tile, d terms; zeros without any. */
static void product_scores(float *s, const float *a, int64_t a_rows, const float *transposed, int64_t m, int64_t vectors,
                           int64_t d)
{
    for (int64_t p = 0; p == 0 || p < d; p += PANEL, a += a_rows * PANEL)
        product(ROW, s, a, transposed + p * PANEL, m, vectors, kernel_min(PANEL, d - p), p > 0);
}

/* ---- packing ---- */

/* Rows into panels of `height` rows; the last vector of a row is filled up with zeros. */
static void pack(float *to, int64_t height, const float *from, int64_t step, int64_t rows, int64_t n)
{
    for (int64_t first = 0; first < n; first += PANEL, to += height * PANEL) {
        const int64_t w = kernel_min(PANEL, n - first), whole = w / VL * VL;

        for (int64_t i = 0; i < rows; i++) {
            const float *x = from + i * step + first;
            float *y = to + i * PANEL;

            for (int64_t p = 0; p < whole; p += VL)
                vstore(y + p, vload(x + p));
            if (whole < w)
                vstore(y + whole, vload_part(x + whole, w - whole));
        }
    }
}

/* to[64 p + j] = from(j, p): a tile of keys on end. Columns behind the last key are zero. */
static void pack_transposed(float *to, const float *from, int64_t step, int64_t keys, int64_t n)
{
    if (keys < PANEL)
        memset(to, 0, (size_t)(n * PANEL) * sizeof *to);
    kernel_transpose(to, PANEL, from, step, keys, n);
}

/* ---- which keys a query keeps ---- */

/* Of the keys from `first` on, how many query i may keep by lengths and causality; may be negative or beyond a tile. */
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
static void dropout_words(uint32_t to[PANEL + 2 * VL], const attention_head *h, int64_t i, int64_t first, int64_t vectors)
{
    for (int64_t v = 0; v < vectors; v += 2)
        philox_words(to + v * VL, h->seed, h->step, h->node, h->row + (uint32_t)i, (uint32_t)((first + v * VL) / 4));
}

VEC_INLINE vf dropped(vf p, const uint32_t *words, uint32_t threshold, float kept)
{
    vu w;

    memcpy(&w, words, sizeof w);
    return (vf)((vi)(w >= threshold) & (vi)(p * kept));
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
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
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
    float *k, *v, *q, *out, *s; /* panels */
    float *m, *shift, *l;       /* a number a row; l: VL partial sums a row */
} forward_block;

/* Scores of queries i .. i+n-1 and one tile, scaled, -inf where not kept; most[r] = their maxima. */
static void forward_scores(const attention_head *h, const forward_block *b, int64_t begin, int64_t i, int64_t n, int64_t first,
                           int64_t keys, int64_t vectors, float *most)
{
    product_scores(b->s, b->q + (i - begin) * PANEL, ATTENTION_ROWS, b->k, n, vectors, h->dk);
    for (int64_t r = 0; r < n; r++) {
        const int64_t kept = kept_keys(h, i + r, first);
        const int64_t whole = h->mask ? 0 : kernel_min(vectors, kept / VL);
        float *s = b->s + r * PANEL;
        vf m = vsplat(MINUS_INF);
        uint8_t mask[PANEL];

        if (h->mask)
            mask_row(mask, h, i + r, first, keys);
        for (int64_t v = 0; v < whole; v++) {
            const vf z = vload(s + v * VL) * h->scale;

            m = larger(z, m);
            vstore(s + v * VL, z);
        }
        for (int64_t v = whole; v < vectors; v++) {
            const vf z = vselect(kept_lanes(kept, v, h->mask ? mask : NULL), vload(s + v * VL) * h->scale, vsplat(MINUS_INF));

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

        vstore(change + r, vf_exp(before - base));
        vstore(m + r, now);
        vstore(shift + r, base);
    }
    memcpy(b->m + at, m, (size_t)n * sizeof *m);
    memcpy(b->shift + at, shift, (size_t)n * sizeof *m);
}

/* Scores to weights e^(s - shift), and their sums. */
static void forward_weights(const attention_head *h, const forward_block *b, int64_t begin, int64_t i, int64_t n, int64_t first,
                            int64_t vectors, const float *change)
{
    for (int64_t r = 0; r < n; r++) {
        const vf shift = vsplat(b->shift[i - begin + r]);
        float *s = b->s + r * PANEL, *l = b->l + (i - begin + r) * VL;
        vf sum = vload(l) * change[r];

        if (h->drops) {
            uint32_t words[PANEL + 2 * VL];

            dropout_words(words, h, i + r, first, vectors);
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = vf_exp(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, dropped(p, words + v * VL, h->threshold, h->kept));
            }
        } else {
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = vf_exp(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, p);
            }
        }
        vstore(l, sum);
    }
}

static void scale_rows(float *x, int64_t height, int64_t rows, int64_t n, const float *by)
{
    for (int64_t p = 0; p < n; p += PANEL, x += height * PANEL)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t v = 0; v < kernel_min(PANEL, n - p); v += VL)
                vstore(x + r * PANEL + v, vload(x + r * PANEL + v) * by[r]);
}

/* out = O / l and lse = shift + ln l; rows that kept nothing: zeros and -inf. */
static void forward_finish(const attention_head *h, const forward_block *b, const attention_result *to, int64_t begin, int64_t end)
{
    float l[ATTENTION_ROWS + VL];

    for (int64_t i = begin; i < end; i++) {
        const int64_t r = i - begin;
        const float *o = b->out + r * PANEL;

        l[r] = vsum_lanes(vload(b->l + r * VL));
        const vf by = vsplat(l[r]);
        const vi none = (vi)(by == 0.0f);
        for (int64_t p = 0; to->out && p < h->dv; p += VL) {
            const vf x = vload(o + p / PANEL * (ATTENTION_ROWS * PANEL) + p % PANEL);
            const vf y = (vf)(~none & (vi)(x / by));

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

/* Where the panels of forward lie in the four areas; floats of the largest area. */
static int64_t forward_areas(forward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
{
    const int64_t keys = dk * PANEL + panels(dv) * TILE_FLOATS, out = panels(dv) * ATTENTION_ROWS * PANEL;
    const int64_t q = panels(dk) * ATTENTION_ROWS * PANEL, rows = GROUP * PANEL + ATTENTION_ROWS * (VL + 2) + 2 * VL;

    if (b) {
        b->k = scratch[0];
        b->v = b->k + dk * PANEL;
        b->out = scratch[1];
        b->q = scratch[2];
        b->s = scratch[3];
        b->l = b->s + GROUP * PANEL;
        b->m = b->l + ATTENTION_ROWS * VL;
        b->shift = b->m + ATTENTION_ROWS + VL;
    }
    return kernel_max(kernel_max(keys, out), kernel_max(q, rows));
}

static size_t attention_forward_bytes(int64_t dk, int64_t dv)
{
    return (size_t)forward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* The weights, from final maxima and sums: scores once more, e^(s - shift) / l. */
static void forward_report(const attention_head *h, const forward_block *b, float *weights, int64_t begin, int64_t end)
{
    memset(weights + begin * h->tk, 0, (size_t)((end - begin) * h->tk) * sizeof *weights);
    for (int64_t first = 0; first < h->length; first += PANEL) {
        const int64_t keys = kernel_min(PANEL, h->length - first);
        int64_t from = begin, last = end;

        kept_queries(h, first, &from, &last);
        if (from >= last || !mask_keeps(h, from, last, first, keys))
            continue;
        pack_transposed(b->k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        for (int64_t i = from; i < last; i += GROUP) {
            const int64_t n = kernel_min(GROUP, last - i);
            float most[GROUP + VL];

            forward_scores(h, b, begin, i, n, first, keys, kernel_ceil(keys, VL), most);
            for (int64_t r = 0; r < n; r++) {
                const vf shift = vsplat(b->shift[i - begin + r]), by = vsplat(vsum_lanes(vload(b->l + (i - begin + r) * VL)));
                float *to = weights + (i + r) * h->tk + first;

                for (int64_t v = 0; v < keys && by[0] != 0; v += VL) {
                    const vf w = vf_exp(vload(b->s + r * PANEL + v) - shift) / by;

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
    const int64_t rows = end - begin;
    forward_block b;

    (void)forward_areas(&b, h->dk, h->dv, scratch);
    memset(b.out, 0, (size_t)(panels(h->dv) * ATTENTION_ROWS * PANEL) * sizeof *b.out);
    memset(b.l, 0, (size_t)(rows * VL) * sizeof *b.l);
    for (int64_t r = 0; r < rows + VL; r++) {
        b.m[r] = MINUS_INF;
        b.shift[r] = 0;
    }
    pack(b.q, ATTENTION_ROWS, h->q + begin * h->q_step, h->q_step, kernel_min(end, h->q_length) - begin, h->dk);
    for (int64_t first = 0; first < h->length; first += PANEL) {
        const int64_t keys = kernel_min(PANEL, h->length - first);
        int64_t from = begin, last = end;

        kept_queries(h, first, &from, &last);
        if (from >= last || !mask_keeps(h, from, last, first, keys))
            continue;
        pack_transposed(b.k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        pack(b.v, PANEL, h->v + first * h->v_step, h->v_step, keys, h->dv);
        for (int64_t i = from; i < last; i += GROUP) {
            const int64_t n = kernel_min(GROUP, last - i), at = i - begin;
            const int64_t most_keys = kernel_min(keys, kept_keys(h, i + n - 1, first));
            const int64_t vectors = kernel_ceil(most_keys, VL);
            float most[GROUP + VL], change[GROUP + VL];

            forward_scores(h, &b, begin, i, n, first, keys, vectors, most);
            forward_maxima(&b, at, n, most, change);
            forward_weights(h, &b, begin, i, n, first, vectors, change);
            if (first > 0)
                scale_rows(b.out + at * PANEL, ATTENTION_ROWS, n, h->dv, change);
            product_panels(ROW, b.out + at * PANEL, ATTENTION_ROWS, b.s, b.v, PANEL, n, h->dv, most_keys, true);
        }
    }
    forward_finish(h, &b, to, begin, end);
    if (to->weights)
        forward_report(h, &b, to->weights, begin, end);
}

/* ---- backward ---- */

typedef struct backward_block {
    float *k_across, *v_across;      /* transposed tiles */
    float *k, *q, *dout;             /* panels of rows */
    float *dk, *dv, *dq;             /* sums of a tile; dq of a block */
    float *p, *ds, *delta;           /* delta: a number a row */
} backward_block;

static int64_t backward_areas(backward_block *b, int64_t dk, int64_t dv, int64_t rows, void *const scratch[4])
{
    const int64_t wide_k = panels(dk) * TILE_FLOATS, wide_v = panels(dv) * TILE_FLOATS;

    if (b) {
        b->k_across = scratch[0];
        b->v_across = b->k_across + dk * PANEL;
        b->k = scratch[1];
        b->q = b->k + wide_k;
        b->dout = b->q + wide_k;
        b->dk = scratch[2];
        b->dq = b->dk + wide_k;
        b->dv = b->dq + wide_k;
        b->p = scratch[3];
        b->ds = b->p + TILE_FLOATS;
        b->delta = b->ds + TILE_FLOATS;
    }
    return kernel_max(kernel_max((dk + dv) * PANEL, 2 * wide_k + wide_v), 2 * TILE_FLOATS + rows);
}

static size_t attention_backward_bytes(int64_t dk, int64_t dv, int64_t rows)
{
    return (size_t)backward_areas(NULL, dk, dv, rows, NULL) * sizeof(float);
}

/* delta_i = sum dout_i out_i: one chain in rising d, as in dP. A row with one weight of 1 has out = v, hence delta = dP
 * to the bit and a gradient of exactly 0, however large v is. */
static void backward_deltas(const attention_head *h, const attention_upstream *u, float *delta)
{
    for (int64_t g = 0; g < h->group; g++)
        for (int64_t i = 0; i < h->q_length; i++) {
            const int64_t at = g * h->tq + i;
            const float *x = u->dout + g * u->dout_head + i * u->dout_step, *y = u->out + at * h->dv;
            float sum = 0;

            for (int64_t p = 0; p < h->dv; p++)
                sum = sfma(x[p], y[p], sum);
            delta[at] = sum;
        }
}

/* Row i: scores and dropped dP to P (dropped) and dS (scaled), both zero where not kept. */
static void backward_row(const attention_head *h, int64_t i, int64_t first, int64_t keys, int64_t vectors, float *p, float *ds,
                         float lse, float delta, float dlse)
{
    const int64_t kept = kept_keys(h, i, first);
    uint32_t words[PANEL + 2 * VL];
    uint8_t mask[PANEL];

    if (h->mask)
        mask_row(mask, h, i, first, keys);
    if (h->drops)
        dropout_words(words, h, i, first, vectors);
    for (int64_t v = 0; v < vectors; v++) {
        const vi lanes = kept_lanes(kept, v, h->mask ? mask : NULL);
        const vf z = vload(p + v * VL) * h->scale, dp = vload(ds + v * VL);
        const vf e = vf_exp(vselect(lanes, z - lse, vsplat(MINUS_INF)));
        vf down = dp, w = e;

        if (h->drops) {
            down = dropped(dp, words + v * VL, h->threshold, h->kept);
            w = dropped(e, words + v * VL, h->threshold, h->kept);
        }
        vstore(p + v * VL, w);
        vstore(ds + v * VL, (vf)(lanes & (vi)(e * (down - delta + dlse) * h->scale)));
    }
}

/* Adds rows of panels to rows of memory. */
static void add_rows(float *to, int64_t step, const float *from, int64_t rows, int64_t n)
{
    for (int64_t first = 0; first < n; first += PANEL, from += TILE_FLOATS)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t p = first; p < kernel_min(n, first + PANEL); p += VL) {
                const vf x = vload(from + r * PANEL + (p - first));
                float *y = to + r * step + p;

                if (p + VL <= n)
                    vstore(y, vload(y) + x);
                else
                    vstore_part(y, vload_part(y, n - p) + x, n - p);
            }
}

/* Queries [i, end), at most 64, of head g against the tile of keys from `first` on. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b, int64_t g, int64_t i,
                             int64_t end, int64_t first, int64_t keys)
{
    const int64_t n = end - i, most = kernel_min(keys, kept_keys(h, end - 1, first)), vectors = kernel_ceil(most, VL);
    const int64_t at = g * h->tq;
    attention_head head = *h;

    head.mask = h->mask ? h->mask + g * h->mask_head : NULL;
    head.row = h->row + (uint32_t)at;
    pack(b->q, PANEL, h->q + g * h->q_head + i * h->q_step, h->q_step, n, h->dk);
    pack(b->dout, PANEL, u->dout + g * u->dout_head + i * u->dout_step, u->dout_step, n, h->dv);
    product_scores(b->p, b->q, PANEL, b->k_across, n, vectors, h->dk);
    product_scores(b->ds, b->dout, PANEL, b->v_across, n, vectors, h->dv);
    for (int64_t r = 0; r < n; r++)
        backward_row(&head, i + r, first, keys, vectors, b->p + r * PANEL, b->ds + r * PANEL, u->lse[at + i + r],
                     b->delta[at + i + r], u->dlse ? u->dlse[at + i + r] : 0);
    if (u->dv)
        product_panels(COLUMN, b->dv, PANEL, b->p, b->dout, PANEL, most, h->dv, n, true);
    if (u->dk)
        product_panels(COLUMN, b->dk, PANEL, b->ds, b->q, PANEL, most, h->dk, n, true);
    if (u->dq) {
        product_panels(ROW, b->dq, PANEL, b->ds, b->k, PANEL, n, h->dk, most, false);
        add_rows(u->dq + (at + i) * h->dk, h->dk, b->dq, n, h->dk);
    }
}

static void clear(float *x, int64_t n)
{
    if (x)
        memset(x, 0, (size_t)n * sizeof *x);
}

static void attention_backward(const attention_head *h, const attention_upstream *u, void *const scratch[4])
{
    backward_block b;

    (void)backward_areas(&b, h->dk, h->dv, h->group * h->tq, scratch);
    clear(u->dq, h->group * h->tq * h->dk);
    clear(u->dk, h->tk * h->dk);
    clear(u->dv, h->tk * h->dv);
    backward_deltas(h, u, b.delta);
    for (int64_t first = 0; first < h->length; first += PANEL) {
        const int64_t keys = kernel_min(PANEL, h->length - first);

        pack_transposed(b.k_across, h->k + first * h->k_step, h->k_step, keys, h->dk);
        pack_transposed(b.v_across, h->v + first * h->v_step, h->v_step, keys, h->dv);
        pack(b.k, PANEL, h->k + first * h->k_step, h->k_step, keys, h->dk);
        clear(b.dk, panels(h->dk) * TILE_FLOATS);
        clear(b.dv, panels(h->dv) * TILE_FLOATS);
        for (int64_t g = 0; g < h->group; g++) {
            attention_head head = *h;

            head.mask = h->mask ? h->mask + g * h->mask_head : NULL;
            for (int64_t block = 0; block < h->q_length; block += PANEL) {
                int64_t i = block, end = kernel_min(h->q_length, block + PANEL);

                kept_queries(h, first, &i, &end);
                if (i < end && mask_keeps(&head, i, end, first, keys))
                    backward_queries(h, u, &b, g, i, end, first, keys);
            }
        }
        if (u->dk)
            add_rows(u->dk + first * h->dk, h->dk, b.dk, keys, h->dk);
        if (u->dv)
            add_rows(u->dv + first * h->dv, h->dv, b.dv, keys, h->dv);
    }
}

const attention_ops LEVEL_NAME(attention_ops) = {
    .forward_bytes = attention_forward_bytes,
    .backward_bytes = attention_backward_bytes,
    .forward = attention_forward,
    .backward = attention_backward,
};
