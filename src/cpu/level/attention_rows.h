/* Rows of weights made whole, for the cells that no sum over tiles can finish: forward, the second pass of probes and backward.
 *
 *   a block of queries against the tiles of keys that one of them keeps: z, -inf where not kept; then each row for itself
 *   softmax, topk   e^(z - m) / sum                     over all, or over the k largest
 *   adaptive_span   f e^(z - m) / sum,                  f = clip((ramp + span - |p - j|) / ramp, 0, 1)
 *   entmax          [x - tau]+^(1/(alpha - 1)) / sum,   x = (alpha - 1)(z - m)
 *   sigmoid         1 / (1 + e^-(z + bias))
 *
 * Tiles that a block sees lie one behind the other. A tile seen for the sake of another row is -inf here and its weights are zero: no
 * sum changes by it, so a row's bytes depend neither on its neighbours nor on the height of a block. */
#ifndef CPU_LEVEL_ATTENTION_ROWS_H
#define CPU_LEVEL_ATTENTION_ROWS_H

#include "cpu/level/attention_terms.h"

#define CHAINS 4 /* sums side by side: a tile is a multiple of all their lanes */
#define STRIDE (CHAINS * VL)

typedef struct rows_block {
    int64_t begin, n;      /* queries that count: begin .. begin + n - 1 */
    int64_t height;        /* rows that memory is laid out for */
    int64_t step;          /* floats from one row of z to the next */
    int64_t tiles, *first; /* tiles seen, and the keys at which they begin */
    float *z, *w;          /* [height, step]; forward: the same */
    float *q, *s;          /* panels: queries, scores of a tile */
    float *k_tile;         /* on end */
    int32_t *order;        /* [step]: floats of a row as integers of the same order */
} rows_block;

/* What a row tells beside its weights. */
typedef struct rows_told {
    float lse;      /* -inf: nothing was kept, or the normaliser has none */
    float lse_rest; /* what rounding took from it */
    float sink;     /* its share of the weights */
} rows_told;

/* ---- scores ---- */

/* The lanes of one stretch of keys, for all kinds but dot: a is a query's number, k the keys'. */
VEC_INLINE vf raw_term(const enum attention_head_score score, vf sum, vf q, vf k, vf by)
{
    if (score == HEAD_ADDITIVE)
        return vfma(by, vf_tanh(q + k), sum);
    return vfma(q - k, q - k, sum);
}

VEC_INLINE void raw_row(const enum attention_head_score score, const attention_head *h, float *s,
                        const float *q, const float *k_tile, uint64_t word)
{
    for (int64_t j = 0; j < PANEL; j += STRIDE) {
        vf sum[CHAINS];

        if (!(word >> j & ~(uint64_t)0 >> (PANEL - STRIDE)))
            continue;
        UNROLL for (int c = 0; c < CHAINS; c++) sum[c] = (vf){ 0 };
        for (int64_t a = 0; a < h->dk; a++) {
            const vf x = vsplat(q[a]), by = vsplat(score == HEAD_ADDITIVE ? h->add_v[a] : 0);

            UNROLL for (int c = 0; c < CHAINS; c++)
            {
                sum[c] = raw_term(score, sum[c], x, vload(k_tile + a * PANEL + j + c * VL), by);
            }
        }
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            if (score == HEAD_DISTANCE)
                sum[c] = vsqrt(sum[c] + 1e-12f);
            vstore(s + j + c * VL, score == HEAD_ADDITIVE ? sum[c] : -sum[c]);
        }
    }
}

/* raw of the block's queries and one tile, in panels; words: what each row keeps. What is not kept may be anything. */
static inline void rows_raw(const attention_head *h, const rows_block *b, const uint64_t *words)
{
    if (h->score == HEAD_DOT) {
        product_scores(b->s, b->q, b->height, b->k_tile, b->n, PANEL, h->dk);
        return;
    }
    for (int64_t r = 0; r < b->n; r++) {
        const float *q = h->q + (b->begin + r) * h->q_step;
        float *s = b->s + r * PANEL;

        if (h->score == HEAD_ADDITIVE)
            raw_row(HEAD_ADDITIVE, h, s, q, b->k_tile, words[r]);
        else if (h->score == HEAD_SQ_DISTANCE)
            raw_row(HEAD_SQ_DISTANCE, h, s, q, b->k_tile, words[r]);
        else
            raw_row(HEAD_DISTANCE, h, s, q, b->k_tile, words[r]);
    }
}

static inline void rows_scale(const rows_block *b, float by)
{
    for (int64_t v = 0; by != 1 && v < b->n * PANEL; v += VL)
        vstore(b->s + v, vload(b->s + v) * by);
}

/* One tile into z. */
static inline void rows_tile(const attention_head *h, const rows_block *b, int64_t first, int64_t keys,
                             const uint64_t *words)
{
    pack_tile(b->k_tile, h->k + first * h->k_step, h->k_step, keys, h->dk);
    rows_raw(h, b, words);
    rows_scale(b, h->scale);
    if (has_terms(h))
        add_all_terms(h, b->s, b->begin, b->n, first, keys, kernel_ceil(keys, VL));
    for (int64_t r = 0; r < b->n; r++)
        for (int64_t v = 0; v < PANEL / VL; v++)
            vstore(b->z + r * b->step + b->tiles * PANEL + v * VL,
                   vselect(word_lanes(words[r], v), vload(b->s + r * PANEL + v * VL), vsplat(MINUS_INF)));
}

/* z of queries begin .. end - 1, as far as they count. */
static inline void rows_logits(const attention_head *h, rows_block *b, int64_t begin, int64_t end)
{
    const attention_mask *m = &h->mask;
    uint64_t words[ATTENTION_BLOCK];

    b->begin = begin;
    b->n = kernel_max(0, kernel_min(end, m->q_length) - begin);
    b->tiles = 0;
    if (h->score == HEAD_DOT)
        pack_panels(b->q, b->height, h->q + begin * h->q_step, h->q_step, b->n, h->dk, 1);
    for (int64_t first = heed__attention_next(m, begin, end, 0); b->n > 0 && first < m->length;
         first = heed__attention_next(m, begin, end, first + PANEL)) {
        const int64_t keys = kernel_min(PANEL, m->length - first);
        const attention_tile kind = heed__attention_words(m, begin, begin + b->n, first, words);

        if (kind == ATTENTION_SKIP)
            continue;
        for (int64_t r = 0; kind == ATTENTION_WHOLE && r < b->n; r++)
            words[r] = whole_word(keys);
        rows_tile(h, b, first, keys, words);
        b->first[b->tiles++] = first;
    }
}

/* ---- sums of a row ---- */

/* The largest; NaN if there is one; -inf of nothing. */
static inline float row_most(const float *x, int64_t n)
{
    vf m = vsplat(MINUS_INF);

    for (int64_t i = 0; i < n; i += VL)
        m = vmax(vload(x + i), m);
    return vmax_lanes(m);
}

static inline float row_sum(const vf *sum)
{
    vf all = sum[0];

    for (int c = 1; c < CHAINS; c++)
        all += sum[c];
    return vsum_lanes(all);
}

static inline void row_times(float *x, int64_t n, float by)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore(x + i, vload(x + i) * by);
}

static inline void row_fill(float *x, int64_t n, float with)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore(x + i, vsplat(with));
}

/* |p - j| of the keys from `key` on. Both are exact below 2^23. */
VEC_INLINE vf distances(const attention_head *h, int64_t query, int64_t key)
{
    return vabs(vsplat((float)(key - query - h->mask.offset)) + lane_numbers());
}

/* (ramp + span - |p - j|) / ramp, before it is clipped. */
VEC_INLINE vf span_ramp(const attention_head *h, int64_t query, int64_t key)
{
    return (vsplat(h->span + h->ramp) - distances(h, query, key)) * (1 / h->ramp);
}

VEC_INLINE vf unit_clip(vf x)
{
    return vselect((vi)(x > 0.0f), vselect((vi)(x < 1.0f), x, vsplat(1.0f)), vsplat(0.0f));
}

/* ---- few weights in a row: products with these alone ----
 *
 * A weight of zero adds nothing to a sum, so a row with few others does without the rest. That is decided by the row itself, and so
 * changes no bit of it for the sake of another. */

#define FEW 16 /* of the 64 keys of a tile: from about here on the product of the whole tile is the cheaper one */

/* Keys of a tile at which the numbers are not zero. */
static inline uint64_t nonzero_word(const float *x)
{
    uint64_t word = 0;

    for (int64_t v = 0; v < PANEL; v += VL) {
        const vi some = (vi)(vload(x + v) != 0.0f);
#if LEVEL == 4
        word |= (uint64_t)_mm512_movepi32_mask((__m512i)some) << v;
#elif LEVEL == 3
        word |= (uint64_t)(uint32_t)_mm256_movemask_ps((__m256)some) << v;
#else
        for (int64_t lane = 0; lane < VL; lane++)
            word |= (uint64_t)(some[lane] != 0) << (v + lane);
#endif
    }
    return word;
}

/* Bit r: row r of w has few weights in the tiles in which it has any. */
static inline uint32_t rows_with_few(const rows_block *b)
{
    uint32_t few = 0;

    for (int64_t r = 0; r < b->n; r++) {
        int64_t some = 0, count = 0;

        for (int64_t t = 0; t < b->tiles; t++) {
            const uint64_t word = nonzero_word(b->w + r * b->step + t * PANEL);

            some += word != 0;
            count += __builtin_popcountll(word);
        }
        few |= (uint32_t)(count <= some * FEW) << r;
    }
    return few;
}

static inline bool in_rows(uint32_t rows, int64_t r)
{
    return rows >> r & 1;
}

/* The end of the rows from r on that are as row r is. */
static inline int64_t rows_alike(uint32_t rows, int64_t r, int64_t n)
{
    const bool is = in_rows(rows, r);

    while (r < n && in_rows(rows, r) == is)
        r++;
    return r;
}

/* Numbers p .. of a row of n: a vector, or what is left. */
VEC_INLINE vf row_vector(const float *row, int64_t p, int64_t n)
{
    return p + VL <= n ? vload(row + p) : vload_part(row + p, n - p);
}

/* to += sum over the keys of the word of by[j] rows[j]; rows of n numbers, `to` in whole vectors. */
static inline void few_rows(float *to, const float *by, uint64_t word, const float *rows, int64_t step, int64_t n)
{
    for (int64_t p = 0; p < n; p += VL) {
        vf sum = vload(to + p);

        for (uint64_t left = word; left; left &= left - 1) {
            const int64_t j = __builtin_ctzll(left);

            sum = vfma(vsplat(by[j]), row_vector(rows + j * step, p, n), sum);
        }
        vstore(to + p, sum);
    }
}

/* to[j] += by[j] row, for the keys of the word; `to` in rows of whole vectors. */
static inline void few_spread(float *to, int64_t step, const float *by, uint64_t word, const float *row, int64_t n)
{
    for (; word; word &= word - 1) {
        const int64_t j = __builtin_ctzll(word);
        float *key = to + j * step;

        for (int64_t p = 0; p < n; p += VL)
            vstore(key + p, vfma(vsplat(by[j]), row_vector(row, p, n), vload(key + p)));
    }
}

/* to[j] = row . rows[j], for the keys of the word; zero for the others. */
static inline void few_scores(float *to, uint64_t word, const float *row, const float *rows, int64_t step, int64_t n)
{
    clear_rows(to, PANEL, 1, PANEL);
    for (; word; word &= word - 1) {
        const int64_t j = __builtin_ctzll(word);
        vf sum = { 0 };

        for (int64_t p = 0; p < n; p += VL)
            sum = vfma(row_vector(row, p, n), row_vector(rows + j * step, p, n), sum);
        to[j] = vsum_lanes(sum);
    }
}

/* ---- the k largest ---- */

/* As an integer: a < b for floats exactly when for these; -0 is 0. */
VEC_INLINE vi ordered(vf x)
{
    const vi bits = (vi)(x + 0.0f);

    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static inline float number_in_order(int32_t order)
{
    const int32_t bits = order ^ ((order >> 31) & 0x7fffffff);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int32_t order_of(float x)
{
    const vi order = ordered(vsplat(x));

    return order[0];
}

static inline int64_t count_above(const int32_t *order, int64_t n, int32_t least)
{
    vi count = { 0 };
    int64_t sum = 0;

    for (int64_t i = 0; i < n; i += VL) {
        vi x;

        memcpy(&x, order + i, sizeof x);
        count -= (vi)(x > least);
    }
    for (int c = 0; c < VL; c++)
        sum += count[c];
    return sum;
}

/* The larger, lane by lane. */
VEC_INLINE vi vi_larger(vi a, vi b)
{
    const vi above = (vi)(a > b);

    return (a & above) | (b & ~above);
}

/* A number between low and high, by value and by order in turns: where numbers lie even, halving their values is the shorter way,
 * and where they spread over many powers of two, halving the order. */
static inline int32_t middle_of(int32_t low, int32_t high, int turn)
{
    const float from = number_in_order(low), to = number_in_order(high);

    if (turn % 2 == 0 && to - from < 1e30f) { /* no number, no infinity */
        const int32_t middle = order_of(from + (to - from) * 0.5f);

        if (middle > low && middle < high)
            return middle;
    }
    return (int32_t)(((int64_t)low + high) >> 1);
}

static inline int32_t order_between(const int32_t *order, int64_t n, int64_t k, int32_t low, int32_t high,
                                    int64_t *ties);

/* The k largest above `least` are those above the number returned, and the first *ties that are equal to it.
 *
 * The largest of each STRIDE-th number are found first: k of these are as large as the k-th of them, so the k-th of all is. */
static inline int32_t order_of_largest(const int32_t *order, int64_t n, int64_t k, int32_t least,
                                       int64_t *ties)
{
    int32_t tops[STRIDE], low = least, high = least;
    vi top[CHAINS];

    UNROLL for (int c = 0; c < CHAINS; c++) top[c] = least - (vi){ 0 };
    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            vi x;

            memcpy(&x, order + i + c * VL, sizeof x);
            top[c] = vi_larger(top[c], x);
        }
    }
    memcpy(tops, top, sizeof tops);
    for (int i = 0; i < STRIDE; i++)
        high = tops[i] > high ? tops[i] : high;
    *ties = 0;
    if (k <= STRIDE / 2 && n > STRIDE && high > least) {
        const int32_t at = order_between(tops, STRIDE, k, least, high, ties);

        low = *ties ? at - 1 : at; /* k of the tops are above it, or all that are above `least` */
    }
    return order_between(order, n, k, low, high, ties);
}

/* The same, where it is known that k or all numbers above the least are above `low`, and none above `high`. */
static inline int32_t order_between(const int32_t *order, int64_t n, int64_t k, int32_t low, int32_t high,
                                    int64_t *ties)
{
    *ties = 0;
    if (count_above(order, n, low) <= k)
        return low;
    if (count_above(order, n, high - 1) >= k) { /* k = 1 ends here */
        *ties = k;
        return high;
    }
    for (int turn = 0; (int64_t)high - low > 1; turn++) { /* above low are more than k, above high fewer */
        const int32_t middle = middle_of(low, high, turn);
        const int64_t above = count_above(order, n, middle);

        if (above == k)
            return middle;
        if (above > k)
            low = middle;
        else
            high = middle;
    }
    *ties = k - count_above(order, n, high);
    return high;
}

/* w = z where it is one of the k largest, else -inf. */
static inline void row_choose(const float *z, float *w, int32_t *order, int64_t n, int64_t k)
{
    const vi none = ordered(vsplat(MINUS_INF));
    int64_t ties;
    int32_t at;

    for (int64_t i = 0; i < n; i += VL) {
        const vi x = ordered(vload(z + i));

        memcpy(order + i, &x, sizeof x);
    }
    at = order_of_largest(order, n, k, none[0], &ties);
    for (int64_t i = 0; i < n; i += VL) {
        vi x, chosen;

        memcpy(&x, order + i, sizeof x);
        chosen = (vi)(x > at);
        for (int64_t lane = 0; ties > 0 && vany((vi)(x == at)) && lane < VL; lane++)
            if (x[lane] == at && ties > 0) {
                chosen[lane] = -1;
                ties--;
            }
        vstore(w + i, vselect(chosen, vload(z + i), vsplat(MINUS_INF)));
    }
}

/* ---- normalisers: each makes w of z, n numbers with the maximum `most` ---- */

/* Does one of STRIDE numbers count? */
VEC_INLINE bool some_kept(const float *z)
{
    vi some = { 0 };

    UNROLL for (int c = 0; c < CHAINS; c++) some |= (vi)(vload(z + c * VL) != MINUS_INF);
    return vany(some);
}

/* w = e^(z - shift); the sum. */
static inline float row_exp(const float *z, float *w, int64_t n, float shift)
{
    vf sum[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < n; i += STRIDE) {
        if (!some_kept(z + i)) { /* most of a row where few are chosen */
            row_fill(w + i, STRIDE, 0);
            continue;
        }
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const vf e = exp_down(vload(z + i + c * VL) - shift);

            vstore(w + i + c * VL, e);
            sum[c] += e;
        }
    }
    return row_sum(sum);
}

static inline void tell_log_sum(rows_told *told, float shift, float sum)
{
    vf rest;

    told->lse = log_sum(vsplat(shift), vsplat(sum), &rest)[0];
    told->lse_rest = rest[0];
}

static inline void row_softmax(const attention_head *h, const float *z, float *w, int64_t n, float most,
                               rows_told *told)
{
    const bool sinks = h->has_sink && h->normaliser == HEAD_SOFTMAX;
    const float shift = sinks && h->sink > most ? h->sink : most;
    float sum = row_exp(z, w, n, shift);

    if (sinks) {
        const float e = exp_down(vsplat(h->sink - shift))[0];

        sum += e;
        told->sink = e / sum;
    }
    row_times(w, n, 1 / sum);
    tell_log_sum(told, shift, sum);
}

/* Keys that the span leaves are the only ones kept. */
static inline void row_span(const attention_head *h, const rows_block *b, int64_t r, const float *z, float *w,
                            rows_told *told)
{
    const int64_t query = b->begin + r, n = b->tiles * PANEL;
    vf sum[CHAINS] = { { 0 } }, m = vsplat(MINUS_INF);
    float most, all;

    for (int64_t i = 0; i < n; i += VL) {
        const vf ramp = span_ramp(h, query, b->first[i / PANEL] + i % PANEL);

        m = vmax(vselect((vi)(ramp > 0.0f), vload(z + i), vsplat(MINUS_INF)), m);
    }
    most = vmax_lanes(m);
    if (most == MINUS_INF) {
        row_fill(w, n, 0);
        return;
    }
    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const int64_t at = i + c * VL;
            const vf f = unit_clip(span_ramp(h, query, b->first[at / PANEL] + at % PANEL));
            const vf x = vselect((vi)(f > 0.0f), vload(z + at) - most, vsplat(MINUS_INF));
            const vf e = f * exp_down(x);

            vstore(w + at, e);
            sum[c] += e;
        }
    }
    all = row_sum(sum);
    row_times(w, n, 1 / all);
    tell_log_sum(told, most, all);
}

/* d^power for 0 <= d <= 1; power 1 and 2 without a logarithm. */
VEC_INLINE vf entmax_power(vf d, float power)
{
    if (power == 1)
        return d;
    if (power == 2)
        return d * d;
    return exp_down(vf_log(d) * power); /* ln 0 = -inf */
}

/* Sum of [x - tau]+^power, and of its derivative by -tau over `power`. */
static inline float entmax_sums(const float *x, int64_t n, float tau, float power, float *slope)
{
    vf sum[CHAINS] = { { 0 } }, slopes[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const vf from = vload(x + i + c * VL) - tau;
            const vi some = (vi)(from > 0.0f);
            const vf d = (vf)((vi)from & some), y = entmax_power(d, power);

            sum[c] += y;
            slopes[c] += (vf)((vi)(power == 2 ? d : y / d) & some);
        }
    }
    *slope = row_sum(slopes);
    return row_sum(sum);
}

/* tau is the zero of a convex falling function of tau: Newton's steps from the left, where the sum is at least 1, rise to it and
 * never pass it. They end when rounding stops them. */
static inline void row_entmax(const attention_head *h, const float *z, float *w, int64_t n, float most)
{
    const float less = h->alpha - 1, power = h->alpha == 2 ? 1 : h->alpha == 1.5f ? 2 : 1 / less;
    float tau = -1, sum, slope;

    for (int64_t i = 0; i < n; i += VL)
        vstore(w + i, (vload(z + i) - most) * less);
    for (int step = 0; step < 200; step++) {
        float next;

        sum = entmax_sums(w, n, tau, power, &slope);
        next = tau + (sum - 1) / (power * slope);
        if (!(next > tau))
            break;
        tau = next;
    }
    for (int64_t i = 0; i < n; i += VL) {
        const vf from = vload(w + i) - tau;

        vstore(w + i, entmax_power((vf)((vi)from & (vi)(from > 0.0f)), power));
    }
    sum = entmax_sums(w, n, 0, 1, &slope);
    row_times(w, n, 1 / sum);
}

static inline void row_sigmoid(const attention_head *h, const float *z, float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore(w + i, vf_sigmoid(vload(z + i) + h->sigmoid_bias));
}

/* Row r of w from row r of z. Not a number in, not a number out. */
static inline rows_told rows_normalise(const attention_head *h, const rows_block *b, int64_t r)
{
    const float *z = b->z + r * b->step;
    float *w = b->w + r * b->step;
    const int64_t n = b->tiles * PANEL;
    rows_told told = { .lse = MINUS_INF };
    float most;

    if (h->normaliser == HEAD_SIGMOID) {
        row_sigmoid(h, z, w, n);
        return told;
    }
    most = row_most(z, n);
    if (most == MINUS_INF) {
        row_fill(w, n, 0);
        return told;
    }
    if (!(most - most == 0)) {
        row_fill(w, n, __builtin_nanf(""));
        told.lse = __builtin_nanf("");
        return told;
    }
    switch (h->normaliser) {
    case HEAD_TOPK:
        row_choose(z, w, b->order, n, h->k_most);
        row_softmax(h, w, w, n, most, &told);
        break;
    case HEAD_SPAN:
        row_span(h, b, r, z, w, &told);
        break;
    case HEAD_ENTMAX:
        row_entmax(h, z, w, n, most);
        break;
    default:
        row_softmax(h, z, w, n, most, &told);
    }
    return told;
}

/* ---- dropout and places ---- */

/* What multiplies the weights of query i and the tile at key `first`: 0 or 1 / (1 - p). */
static inline void drop_factors(const attention_head *h, float *by, int64_t i, int64_t first)
{
    uint32_t words[PANEL + 2 * VL];

    if (h->dropout_keep) {
        const bool *keep = h->dropout_keep + i * h->mask.tk + first;
        const int64_t keys = kernel_min(PANEL, h->mask.tk - first);

        for (int64_t j = 0; j < PANEL; j++)
            by[j] = j < keys && keep[j] ? h->kept : 0;
        return;
    }
    dropout_words(words, h, i, first, PANEL / VL);
    for (int64_t v = 0; v < PANEL; v += VL)
        vstore(by + v, dropped(vsplat(1.0f), words + v, h->threshold, h->kept));
}

/* Places of a tile in a row of relative positions: keys below `low` are at 0, those from `high` on at row_size - 1, and key j
 * between them at at + j. */
typedef struct relative_places {
    int64_t at, low, high;
} relative_places;

static inline relative_places places_of(const attention_head *h, int64_t query, int64_t first)
{
    const int64_t at = first - query - h->mask.offset + h->row_zero;

    return (relative_places){ .at = at,
                              .low = kernel_max(0, kernel_min(PANEL, -at)),
                              .high = kernel_max(0, kernel_min(PANEL, h->row_size - 1 - at)) };
}

/* sums[place of j] += x[j] for the tile. */
static inline void add_by_place(const attention_head *h, float *sums, const float *x, int64_t query,
                                int64_t first)
{
    const relative_places p = places_of(h, query, first);
    float low = 0, high = 0;

    for (int64_t j = 0; j < p.low; j++)
        low += x[j];
    for (int64_t j = p.low; j < p.high; j++)
        sums[p.at + j] += x[j];
    for (int64_t j = kernel_max(p.low, p.high); j < PANEL; j++)
        high += x[j];
    sums[0] += low;
    sums[h->row_size - 1] += high;
}

#endif
