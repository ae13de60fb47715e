/* heed_attention: from a descriptor to nodes. What is a function of q or of k alone, or of positions alone, becomes tensors
 * here; the core (attention.c) meets products, sums of tanh and distances, additive terms, masks and a normaliser; what works on
 * whole weights (talking heads) or on results (differential, gate) comes behind it. */

#include "attention/compose.h"
#include "attention/spec.h"

#include <math.h>

/* The descriptor on its way through the stages. */
typedef struct making {
    heed_builder *b;
    const heed_attention_spec *s;
    heed_dtype dtype;
    int64_t batch, heads, tq, tk;
    int64_t offset;
    attention_attrs a;
    heed_value in[AT_CORE_INPUTS];
    heed_value given; /* s of location, in place of a product: [B,Hq,Tq,Tk], scaled */
    heed_value shaw_v;
} making;

/* ---- checks of data, under the tensor's name ---- */

static heed_value checked_i64(making *m, const char *name, heed_value x, int64_t most)
{
    if (!x.id)
        return x;
    heed_scope_push(m->b, name);
    x = heed__check_range(m->b, x, most);
    heed_scope_pop(m->b);
    return x;
}

static heed_value checked_float(making *m, const char *name, heed_value x, double least, double most)
{
    if (!x.id)
        return x;
    heed_scope_push(m->b, name);
    x = heed__check_within(m->b, x, least, most);
    heed_scope_pop(m->b);
    return x;
}

/* i64 [B], where it is given: named here, before anything is made of it. */
static bool one_a_sequence(making *m, heed_value x, const char *name)
{
    const heed_type t = heed_value_type(m->b, x);

    if (x.id && !heed__poisoned(m->b) && (t.dtype != HEED_I64 || t.rank != 1 || t.dims[0] != m->batch))
        heed__poison(m->b, t.dtype == HEED_I64 ? HEED_ERR_SHAPE : HEED_ERR_DTYPE,
                     "attention: %s must be i64 [%lld], one for each sequence", name, (long long)m->batch);
    return !heed__poisoned(m->b);
}

/* x must have these sizes; -1: any, and sizes marked in or_one may be 1. */
static bool sizes(making *m, heed_value x, const char *name, int rank, const int64_t *want, unsigned or_one)
{
    const heed_type t = heed_value_type(m->b, x);

    if (!x.id || heed__poisoned(m->b))
        return false;
    if (t.rank != rank)
        heed__poison(m->b, HEED_ERR_SHAPE, "attention: %s has rank %d; it must be %d", name, t.rank, rank);
    for (int i = 0; i < rank && !heed__poisoned(m->b); i++)
        if (want[i] >= 0 && t.dims[i] != want[i] && !(or_one >> i & 1 && t.dims[i] == 1))
            heed__poison(m->b, HEED_ERR_SHAPE, "attention: %s has size %lld on axis %d; it must be %lld%s",
                         name, (long long)t.dims[i], i, (long long)want[i], or_one >> i & 1 ? " or 1" : "");
    return !heed__poisoned(m->b);
}
#define SIZED(x, name, or_one, ...)                                                                          \
    sizes(m, x, name, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),                           \
          (int64_t[]){ __VA_ARGS__ }, or_one)

/* ---- q and k ---- */

/* In the dtype of sums. */
static heed_value widened(const making *m, heed_value x)
{
    return heed__as(m->b, x, heed__sum_dtype(m->dtype));
}

/* Rows beyond the lengths may hold anything, and a parameter's gradient would sum over them. */
static void clean_rows(making *m)
{
    if (m->in[AT_Q_LENGTHS].id)
        m->in[AT_Q] = heed__zero_unless(m->b, heed__within(m->b, m->in[AT_Q_LENGTHS], 2, m->tq), m->in[AT_Q]);
    if (m->in[AT_LENGTHS].id)
        m->in[AT_K] = heed__zero_unless(m->b, heed__within(m->b, m->in[AT_LENGTHS], 2, m->tk), m->in[AT_K]);
}

static void turn(making *m)
{
    const heed_attention_spec *s = m->s;
    const int64_t dq = heed_dim(m->b, m->in[AT_Q], 3), dk = heed_dim(m->b, m->in[AT_K], 3),
                  width = i64_min(dq, dk);
    rope_attrs a = heed__rope_attrs(s, width);

    if (!s->position.rope.on)
        return;
    if (width < 2) {
        heed__poison(m->b, HEED_ERR_SPEC,
                     "attention: position.rope turns pairs of columns, and q and k have widths %lld and %lld",
                     (long long)dq, (long long)dk);
        return;
    }
    if (a.dims > width || a.dims < 2 || a.dims % 2) {
        heed__poison(m->b, HEED_ERR_SPEC,
                     "attention: position.rope.dims is %lld; it must be even and 2 to %lld",
                     (long long)a.dims, (long long)width);
        return;
    }
    a.offset = m->offset;
    m->in[AT_Q] = heed__rope(m->b, m->in[AT_Q], m->in[AT_OFFSET], &a);
    a.offset = 0;
    m->in[AT_K] = heed__rope(m->b, m->in[AT_K], (heed_value){ 0 }, &a);
}

/* x / max(|x|, 1e-6); below the floor the norm is a constant. */
static heed_value unit(heed_builder *b, heed_value x)
{
    const heed_dtype dtype = heed_value_type(b, x).dtype;
    const heed_value wide = heed__as(b, x, heed__sum_dtype(dtype));
    const heed_value least = heed_scalar(b, heed__sum_dtype(dtype), 1e-12);
    heed_value square = heed__sum_axis(b, heed_mul(b, wide, wide), 3);

    square = heed_select(b, heed_gt(b, square, least), square, least);
    return heed__as(b, heed_div(b, wide, heed_sqrt(b, square)), dtype);
}

static void by_cosine(making *m)
{
    m->in[AT_Q] = unit(m->b, m->in[AT_Q]);
    m->in[AT_K] = unit(m->b, m->in[AT_K]);
    if (SIZED(m->s->in.tau, "tau", 1, m->heads))
        m->in[AT_Q] = heed_mul(m->b, m->in[AT_Q], heed__per_head(m->b, m->s->in.tau));
}

/* x [B,H,T,D] by w [H or 1, D, N]. */
static heed_value project(heed_builder *b, heed_value x, heed_value w)
{
    return heed_matmul(b, x, heed_unsqueeze(b, w, 0));
}

static void by_general(making *m)
{
    const int64_t dq = heed_dim(m->b, m->in[AT_Q], 3), dk = heed_dim(m->b, m->in[AT_K], 3);

    if (SIZED(m->s->in.score_w, "score_w", 1, m->heads, dq, dk))
        m->in[AT_Q] = project(m->b, m->in[AT_Q], m->s->in.score_w);
}

/* add_wk of each query head needs a key for each. */
static void repeat_keys(making *m)
{
    m->in[AT_K] = heed__repeat_heads(m->b, m->in[AT_K], m->heads);
    m->in[AT_V] = heed__repeat_heads(m->b, m->in[AT_V], m->heads);
}

static void by_addition(making *m)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    const int64_t width = heed_rank(b, s->in.add_v) == 2 ? heed_dim(b, s->in.add_v, 1) : 0;

    if (!SIZED(s->in.add_v, "add_v", 1, m->heads, width) ||
        !SIZED(s->in.add_wq, "add_wq", 1, m->heads, width, heed_dim(b, m->in[AT_Q], 3)) ||
        !SIZED(s->in.add_wk, "add_wk", 1, m->heads, width, heed_dim(b, m->in[AT_K], 3)))
        return;
    if (heed_dim(b, s->in.add_wk, 0) > 1)
        repeat_keys(m);
    m->in[AT_Q] = project(b, m->in[AT_Q], heed_transpose(b, s->in.add_wq, 1, 2));
    m->in[AT_K] = project(b, m->in[AT_K], heed_transpose(b, s->in.add_wk, 1, 2));
    if (SIZED(s->in.add_b, "add_b", 1, m->heads, width))
        m->in[AT_Q] = heed_add(
            b, m->in[AT_Q],
            heed_reshape(b, s->in.add_b, 4, (const int64_t[]){ 1, heed_dim(b, s->in.add_b, 0), 1, width }));
    m->in[AT_ADD_V] = s->in.add_v;
    m->a.score = ATTENTION_ADDITIVE;
}

/* f [B,Hq,Tq,Tk,C]: prev convolved along the keys with each row of loc_kernel. */
static heed_value located_features(making *m)
{
    heed_builder *b = m->b;
    const int64_t taps = heed_dim(b, m->s->in.loc_kernel, 1), half = (taps - 1) / 2;
    const heed_value padded = heed_pad(b, widened(m, m->s->in.prev), 3, half, half, 0),
                     kernel = widened(m, m->s->in.loc_kernel);
    heed_value sum = { 0 };

    for (int64_t t = 0; t < taps && !heed__poisoned(b); t++) {
        const heed_value x = heed_unsqueeze(b, heed_slice(b, padded, 3, t, t + m->tk, 1), 4);
        const heed_value term = heed_mul(b, x, heed_squeeze(b, heed_slice(b, kernel, 1, t, t + 1, 1), 1));

        sum = sum.id ? heed_add(b, sum, term) : term;
    }
    return sum;
}

/* Additive with U f inside tanh: T x T features, so the score is made here and given to the core as its bias. */
static void by_location(making *m)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    const int64_t width = heed_rank(b, s->in.add_v) == 2 ? heed_dim(b, s->in.add_v, 1) : 0;
    const int64_t channels = heed_rank(b, s->in.loc_kernel) == 2 ? heed_dim(b, s->in.loc_kernel, 0) : 0;
    heed_value x, u;

    if (!SIZED(s->in.prev, "prev", 0, m->batch, m->heads, m->tq, m->tk) ||
        !SIZED(s->in.loc_kernel, "loc_kernel", 0, channels, -1) ||
        !SIZED(s->in.loc_u, "loc_u", 1, m->heads, width, channels))
        return;
    if (heed_dim(b, s->in.loc_kernel, 1) % 2 == 0) {
        heed__poison(b, HEED_ERR_SHAPE, "attention: loc_kernel has %lld taps; their number must be odd",
                     (long long)heed_dim(b, s->in.loc_kernel, 1));
        return;
    }
    by_addition(m);
    if (heed__poisoned(b))
        return;
    u = heed_transpose(b, widened(m, s->in.loc_u), 1, 2);
    u = heed_unsqueeze(b, heed_unsqueeze(b, u, 0), 2); /* [1,H,1,C,A] */
    x = heed_matmul(b, located_features(m), u);
    x = heed_add(b, x,
                 heed_add(b, heed_unsqueeze(b, widened(m, m->in[AT_Q]), 3),
                          heed_unsqueeze(b, heed__repeat_heads(b, widened(m, m->in[AT_K]), m->heads), 2)));
    u = heed_reshape(b, widened(m, s->in.add_v), 4,
                     (const int64_t[]){ heed_dim(b, s->in.add_v, 0), 1, 1, width });
    x = heed_sum(b, heed_mul(b, heed_tanh(b, x), u), 1u << 4, HEED_DROP_AXES);
    m->given = heed_mul_scalar(b, x, m->a.scale);
    m->in[AT_ADD_V] = (heed_value){ 0 };
    m->a.score = ATTENTION_DOT;
}

static void score(making *m)
{
    static void (*const by[])(making *) = {
        [HEED_SCORE_GENERAL] = by_general,   [HEED_SCORE_ADDITIVE] = by_addition,
        [HEED_SCORE_LOCATION] = by_location, [HEED_SCORE_COSINE] = by_cosine,
        [HEED_SCORE_NEG_DISTANCE] = NULL,
    };
    const heed_score_kind kind = m->s->score.kind;
    const int64_t width = heed_dim(m->b, m->in[AT_K], 3);

    m->a.scale = kind == HEED_SCORE_SCALED_DOT && width > 0 ? 1 / sqrt((double)width) : 1;
    if (m->s->score.scale.set)
        m->a.scale = (double)m->s->score.scale.value;
    if (kind == HEED_SCORE_NEG_SQ_DISTANCE)
        m->a.score = ATTENTION_SQ_DISTANCE;
    else if (kind == HEED_SCORE_NEG_DISTANCE)
        m->a.score = ATTENTION_DISTANCE;
    if (kind > HEED_SCORE_DOT || m->s->in.shaw_k.id || m->s->in.xl_r.id)
        clean_rows(m);
    turn(m);
    if (by[kind] && !heed__poisoned(m->b))
        by[kind](m);
    if (!m->given.id)
        return;
    m->in[AT_Q] = heed_slice(m->b, m->in[AT_Q], 3, 0, 0, 1);
    m->in[AT_K] = heed_slice(m->b, m->in[AT_K], 3, 0, 0, 1);
}

/* ---- positions ---- */

/* j - p where j - i + Tq - 1 counts from 0: i64 [B or 1, 1, Tq+Tk-1]. What is made of it is in the dtype of sums: f16 has no
 * digits for |p - j| from 2048 on. */
static heed_value relative_distance(making *m)
{
    const int64_t n = i64_max(0, m->tq + m->tk - 1);
    heed_value d = heed_iota(m->b, HEED_TYPE(HEED_I64, 1, 1, n), 2);

    d = heed_add_scalar(m->b, d, (double)(1 - m->tq));
    if (m->in[AT_OFFSET].id)
        return heed_sub(m->b, d,
                        heed_reshape(m->b, heed__bounded_offset(m->b, m->in[AT_OFFSET]), 3,
                                     (const int64_t[]){ m->batch, 1, 1 }));
    return heed_add_scalar(m->b, d, (double)-heed__attention_offset(m->offset));
}

/* m_h = 2^(-8(h+1)/n) for h < n, the largest power of two, then 2^(-4(2r+1)/n) for h = n + r. */
static heed_value default_slopes(making *m)
{
    int64_t n = 1, dims[1] = { m->heads };
    heed_value first, rest = { 0 };

    while (2 * n <= m->heads)
        n *= 2;
    dims[0] = n;
    first = heed_iota(m->b, heed_type_of(HEED_F64, 1, dims), 0);
    first = heed_mul_scalar(m->b, heed_add_scalar(m->b, first, 1), -8.0 / (double)n);
    if (m->heads > n) {
        dims[0] = m->heads - n;
        rest = heed_iota(m->b, heed_type_of(HEED_F64, 1, dims), 0);
        rest =
            heed_mul_scalar(m->b, heed_add_scalar(m->b, heed_mul_scalar(m->b, rest, 2), 1), -4.0 / (double)n);
        first = heed_concat(m->b, (heed_value[]){ first, rest }, 2, 0);
    }
    first = heed_exp(m->b, heed_mul_scalar(m->b, first, 0.69314718055994530942));
    return first;
}

static heed_value alibi(making *m, heed_value distance)
{
    heed_value slopes = m->s->in.alibi_slopes;

    if (slopes.id && !SIZED(slopes, "alibi_slopes", 1, m->heads))
        return (heed_value){ 0 };
    if (!slopes.id)
        slopes = default_slopes(m);
    slopes = heed_reshape(m->b, widened(m, slopes), 3,
                          (const int64_t[]){ 1, heed_dim(m->b, slopes, 0), 1 });
    distance = widened(m, heed_abs(m->b, distance));
    return heed_neg(m->b, heed_mul(m->b, slopes, distance));
}

/* Bucket of each distance -most .. most: i64 [2 most + 1]. */
static heed_value t5_buckets(making *m, int64_t buckets, int64_t most, bool both_sides)
{
    const int64_t half = both_sides ? buckets / 2 : buckets, exact = half / 2, n = 2 * most + 1;
    heed_tensor t = { HEED_TYPE(HEED_I64, n), NULL };
    heap *h = heed__builder_context(m->b)->heap;
    int64_t *bucket = heed__alloc(h, (size_t)n, sizeof *bucket);
    heed_value out;

    if (!bucket)
        return heed__poison(m->b, HEED_ERR_MEMORY, "out of memory for %lld distances of position.t5",
                            (long long)n);
    for (int64_t d = -most; d <= most; d++) {
        const int64_t far = both_sides ? (d < 0 ? -d : d) : i64_max(0, -d);
        int64_t at = far;

        if (far >= exact)
            at = i64_min(half - 1,
                         exact + (int64_t)floor((double)(half - exact) * log((double)far / (double)exact) /
                                                    log((double)most / (double)exact) +
                                                1e-9));
        bucket[d + most] = at + (both_sides && d > 0 ? half : 0);
    }
    t.data = bucket;
    out = heed_constant(m->b, t);
    heed__release(h, bucket);
    return out;
}

static heed_value t5(making *m, heed_value distance)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    const bool both_sides = s->position.t5.kind != HEED_T5_UNIDIRECTIONAL;
    const int64_t most = s->position.t5.max_distance.set ? s->position.t5.max_distance.value : 128;
    const int64_t buckets = heed_rank(b, s->in.t5_table) == 2 ? heed_dim(b, s->in.t5_table, 0) : 0;
    const int64_t exact = (both_sides ? buckets / 2 : buckets) / 2;
    heed_value at;

    if (!SIZED(s->in.t5_table, "t5_table", 0, buckets, m->heads))
        return (heed_value){ 0 };
    if (exact < 1 || (both_sides && buckets % 2) || most <= exact || most > 1 << 24) {
        heed__poison(
            b, HEED_ERR_SPEC,
            "attention: t5_table has %lld buckets and position.t5.max_distance is %lld: at least 2 buckets a "
            "direction are needed, an even number when bidirectional, and a distance above %lld, at most 2^24",
            (long long)buckets, (long long)most, (long long)exact);
        return (heed_value){ 0 };
    }
    at = heed_max(b, heed_min(b, distance, heed_scalar(b, HEED_I64, (double)most)),
                  heed_scalar(b, HEED_I64, (double)-most));
    at = heed_gather(b, t5_buckets(m, buckets, most, both_sides), heed_add_scalar(b, at, (double)most), 0);
    at = heed_gather(b, s->in.t5_table, heed_squeeze(b, at, 1), 0); /* [B or 1, R, Hq] */
    return heed_transpose(b, widened(m, at), 1, 2);
}

static heed_value sum_of(heed_builder *b, heed_value x, heed_value y)
{
    return x.id && y.id ? heed_add(b, x, y) : x.id ? x : y;
}

static void relative_terms(making *m)
{
    heed_value distance, terms = { 0 };

    if (!(heed__spec_alibi(m->s) || heed__spec_t5(m->s)))
        return;
    distance = relative_distance(m);
    if (heed__spec_alibi(m->s))
        terms = alibi(m, distance);
    if (heed__spec_t5(m->s) && !heed__poisoned(m->b))
        terms = sum_of(m->b, terms, t5(m, distance));
    m->in[AT_REL] = terms;
}

heed_value heed__distance_terms(heed_builder *b, const heed_attention_spec *s, heed_value q, heed_value distance)
{
    making m = { .b = b, .s = s, .dtype = heed_value_type(b, q).dtype, .heads = heed_dim(b, q, 1) };
    heed_value terms = { 0 };

    if (heed__poisoned(b) || !heed__attention_spec_check(b, q, s))
        return terms;
    if (heed__spec_alibi(s))
        terms = alibi(&m, distance);
    if (heed__spec_t5(s) && !heed__poisoned(b))
        terms = sum_of(b, terms, t5(&m, distance));
    return heed__poisoned(b) ? (heed_value){ 0 } : terms;
}

/* q . shaw_k for every clipped distance. */
static void shaw(making *m)
{
    heed_builder *b = m->b;
    const heed_value table = m->s->in.shaw_k;
    const int64_t size = table.id && heed_rank(b, table) == 2 ? heed_dim(b, table, 0) : 0;

    if (!table.id || !SIZED(table, "shaw_k", 0, size, heed_dim(b, m->in[AT_Q], 3)))
        return;
    if (m->s->in.shaw_v.id && !SIZED(m->s->in.shaw_v, "shaw_v", 0, size, heed_dim(b, m->in[AT_V], 3)))
        return;
    if (size % 2 == 0) {
        heed__poison(b, HEED_ERR_SHAPE, "attention: shaw_k has %lld rows; it must be 2 w + 1 of them",
                     (long long)size);
        return;
    }
    m->in[AT_ROW_REL] = heed_mul_scalar(
        b, heed_matmul(b, widened(m, m->in[AT_Q]), heed_transpose(b, widened(m, table), 0, 1)), m->a.scale);
    m->a.row_zero = size / 2;
    m->shaw_v = m->s->in.shaw_v;
    m->a.rel_sums = m->shaw_v.id != 0;
}

/* q.k + q.r + u.k + v.r = (q + u).k + (q + v).r; r reversed, so that its index rises with j - p. */
static void xl(making *m)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    const int64_t width = heed_dim(b, m->in[AT_Q], 3), dims[4] = { 1, m->heads, 1, width },
                  zero = s->position.xl.zero.set ? s->position.xl.zero.value : 0;
    const int64_t size = s->in.xl_r.id && heed_rank(b, s->in.xl_r) == 3 ? heed_dim(b, s->in.xl_r, 0) : 0;
    heed_value r, v;

    if (!s->in.xl_r.id || !SIZED(s->in.xl_r, "xl_r", 0, size, m->heads, width) ||
        !SIZED(s->in.xl_u, "xl_u", 0, m->heads, width) || !SIZED(s->in.xl_v, "xl_v", 0, m->heads, width))
        return;
    if (size == 0) {
        heed__poison(b, HEED_ERR_SHAPE, "attention: xl_r has no rows: one for each distance p - j is needed");
        return;
    }
    if (zero < 0 || zero >= size) {
        heed__poison(b, HEED_ERR_SPEC, "attention: position.xl.zero is %lld; xl_r has the indices 0 to %lld",
                     (long long)zero, (long long)(size - 1));
        return;
    }
    r = heed_permute(b, heed_reverse(b, s->in.xl_r, 0), (const int[]){ 1, 2, 0 }); /* [Hq,D,L] */
    v = heed_add(b, widened(m, m->in[AT_Q]), widened(m, heed_reshape(b, s->in.xl_v, 4, dims)));
    m->in[AT_ROW_REL] = heed_mul_scalar(b, project(b, v, widened(m, r)), m->a.scale);
    m->in[AT_Q] = heed_add(b, m->in[AT_Q], heed_reshape(b, s->in.xl_u, 4, dims));
    m->a.row_zero = size - 1 - zero;
}

/* ---- the rest of the core ---- */

/* A size beyond every distance is as good as one: places end at 2^40 (heed__attention_offset). */
static int64_t clamp(int64_t x)
{
    return i64_min(x, (int64_t)1 << 42);
}

static void mask(making *m)
{
    const heed_attention_spec *s = m->s;

    m->a.causal = s->mask.causal;
    m->a.window = s->mask.window.on;
    m->a.left = m->a.window ? clamp(s->mask.window.left) : 0;
    m->a.right = m->a.window ? clamp(s->mask.window.right) : 0;
    m->a.stride = clamp(s->mask.stride);
    m->a.block_q = clamp(s->mask.block[0]);
    m->a.block_k = clamp(s->mask.block[1]);
    m->in[AT_MASK] = s->in.mask;
    m->in[AT_BLOCK_KEEP] = s->in.block_keep;
    m->in[AT_GLOBALS] = checked_i64(m, "globals", s->in.globals, INT64_MAX);
    m->in[AT_Q_SEG] = s->in.q_seg;
    m->in[AT_K_SEG] = s->in.k_seg;
    m->in[AT_GRAPH_INDPTR] = s->in.graph_indptr;
    if (s->in.graph_indptr.id) {
        heed_scope_push(m->b, "graph_indices");
        m->in[AT_GRAPH_INDICES] = heed__check_csr(m->b, s->in.graph_indptr, s->in.graph_indices, m->tk);
        heed_scope_pop(m->b);
    }
}

static void normaliser(making *m)
{
    const heed_attention_spec *s = m->s;

    m->a.softcap = (double)s->softcap;
    m->a.normaliser = (int)s->normaliser.kind;
    m->a.temperature = s->normaliser.temperature.set ? (double)s->normaliser.temperature.value : 1;
    m->a.plus_one = s->normaliser.plus_one;
    m->a.k = s->normaliser.k;
    m->a.alpha = s->normaliser.alpha.set ? (double)s->normaliser.alpha.value : 1.5;
    m->a.bias = s->normaliser.bias.set ? (double)s->normaliser.bias.value : 0;
    m->a.ramp = s->normaliser.ramp.set ? (double)s->normaliser.ramp.value : 32;
    m->in[AT_BIAS] = s->in.bias;
    m->in[AT_TEMPERATURE] =
        checked_float(m, "temperature", s->in.temperature, 4.9406564584124654e-324, 1.7976931348623157e308);
    m->in[AT_SINK] = s->in.sink;
    m->in[AT_SIGMOID_BIAS] = s->in.sigmoid_bias;
    m->in[AT_ALPHA] = checked_float(m, "alpha", s->in.alpha, (double)1.01f, 2);
    m->in[AT_SPAN] = checked_float(m, "span", s->in.span, -1.7976931348623157e308, 1.7976931348623157e308);
}

static void dropout(making *m)
{
    const heed_attention_spec *s = m->s;
    const bool asked = s->combine.dropout.node.set || s->in.dropout_keep.id;

    if (!(s->combine.dropout.p > 0) || (!asked && heed_get_mode(m->b) != HEED_TRAIN))
        return;
    m->a.dropout = s->combine.dropout.p;
    m->in[AT_DROPOUT_KEEP] = s->in.dropout_keep;
    if (m->in[AT_DROPOUT_KEEP].id)
        return;
    m->a.node = s->combine.dropout.node.set ? s->combine.dropout.node.value
                                            : heed__random_node(m->b, s->combine.dropout.name);
    m->in[AT_RNG] = s->in.rng.id ? s->in.rng : heed_rng(m->b);
}

static heed_value listed(making *m, const heed_attention_list *l)
{
    const heed_tensor t = { HEED_TYPE(HEED_I64, l->n), (void *)(uintptr_t)l->v };

    return l->v ? heed_constant(m->b, t) : (heed_value){ 0 };
}

/* A block larger than all is all: no larger number reaches the arithmetic of sizes. */
static int64_t pooled(int64_t block, int64_t all)
{
    return i64_min(block, i64_max(1, all));
}

static void probes(making *m)
{
    m->a.rows = heed__spec_rows(m->s);
    m->a.entropy = m->s->probe.entropy;
    m->a.distance = m->s->probe.distance;
    m->a.topk = m->s->probe.topk;
    m->a.pooled_q = pooled(m->s->probe.pooled[0], m->tq);
    m->a.pooled_k = pooled(m->s->probe.pooled[1], m->tk);
    m->in[AT_PROBE_ROWS] = listed(m, &m->s->probe.rows);
    m->in[AT_PROBE_HEADS] = listed(m, &m->s->probe.heads);
}

/* ---- results ---- */

/* Everything that the core tells, with probes only where they were asked for. */
static heed_attended told(making *m, const heed_value out[AT_OUTPUTS])
{
    const heed_attention_spec *s = m->s;
    heed_value second[AT_PROBE_OUTPUTS] = { { 0 } };
    heed_attended y = { .out = out[AT_GET_OUT], .weights = out[AT_GET_WEIGHTS] };

    if (heed__attention_has_lse(&m->a))
        y.lse = out[AT_GET_LSE];
    if (heed__spec_stores(s))
        y.lse_rest = out[AT_GET_LSE_REST];
    if (heed__spec_rows(s))
        y.rows = out[AT_GET_ROWS];
    if (s->probe.topk) {
        y.topk_values = out[AT_GET_TOPK_VALUES];
        y.topk_indices = out[AT_GET_TOPK_INDICES];
    }
    if (s->probe.entropy)
        y.entropy = out[AT_GET_ENTROPY];
    if (s->probe.distance)
        y.distance = out[AT_GET_DISTANCE];
    if (!s->probe.pooled[0] && !s->probe.received && !s->probe.mean)
        return y;
    heed__attention_probe(m->b, &m->a, m->in, out, second);
    y.pooled = s->probe.pooled[0] ? second[AT_GET_POOLED] : (heed_value){ 0 };
    y.received = s->probe.received ? second[AT_GET_RECEIVED] : (heed_value){ 0 };
    y.mean = s->probe.mean ? second[AT_GET_MEAN] : (heed_value){ 0 };
    return y;
}

/* The same of weights that are there as a whole. */
static heed_attended told_of(making *m, heed_value w, heed_value distance)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    const heed_value wide = heed__as(b, w, heed__sum_dtype(m->dtype));
    heed_attended y = { .weights = w };

    if (heed__spec_rows(s))
        y.rows = heed__probe_rows(b, w, m->in[AT_PROBE_ROWS], m->in[AT_PROBE_HEADS]);
    if (s->probe.topk)
        y.topk_values = heed__probe_topk(b, w, s->probe.topk, &y.topk_indices);
    if (s->probe.entropy)
        y.entropy = heed__probe_entropy(b, wide);
    if (s->probe.distance)
        y.distance = heed__probe_distance(b, wide, distance);
    if (s->probe.pooled[0])
        y.pooled = heed__probe_pooled(b, w, m->a.pooled_q, m->a.pooled_k);
    if (s->probe.received)
        y.received = heed__probe_received(b, w);
    if (s->probe.mean)
        y.mean = heed__probe_mean(b, w);
    return y;
}

static heed_attended plain(making *m)
{
    heed_value out[AT_OUTPUTS] = { { 0 } };
    heed_attended y;

    heed__attention_core(m->b, &m->a, m->in, out);
    y = told(m, out);
    if (m->shaw_v.id)
        y.out = heed_add(m->b, y.out, heed_matmul(m->b, out[AT_GET_REL_SUMS], m->shaw_v));
    return y;
}

/* w = w(q,k) - lambda_h w(q2,k2): both parts are whole attentions, and everything linear in w is the same difference. */
static heed_attended differential(making *m)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    making second = *m;
    heed_value lambda, lambda_row;
    heed_attended x, y;
    heed_value *pairs[][2] = { { &x.out, &y.out },
                               { &x.weights, &y.weights },
                               { &x.rows, &y.rows },
                               { &x.pooled, &y.pooled } },
               *row_pairs[][2] = { { &x.received, &y.received }, { &x.distance, &y.distance } };

    if (!SIZED(s->in.q2, "q2", 0, m->batch, m->heads, m->tq, heed_dim(b, m->in[AT_Q], 3)) ||
        !SIZED(s->in.k2, "k2", 0, m->batch, heed_dim(b, m->in[AT_K], 1), m->tk,
               heed_dim(b, m->in[AT_K], 3)) ||
        !SIZED(s->in.lambda, "lambda", 1, m->heads))
        return (heed_attended){ .out = { 0 } };
    second.in[AT_Q] = s->in.q2;
    second.in[AT_K] = s->in.k2;
    score(m);
    score(&second);
    x = plain(m);
    y = plain(&second);
    x.lse2 = y.lse;
    lambda = heed__per_head(b, s->in.lambda);
    lambda_row = heed_squeeze(b, lambda, 3);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i][0]->id) {
            heed_value by = lambda;

            if (pairs[i][0] == &x.rows && m->in[AT_PROBE_HEADS].id && heed_dim(b, s->in.lambda, 0) > 1)
                by = heed_gather(b, lambda, m->in[AT_PROBE_HEADS], 1);
            *pairs[i][0] = heed_sub(b, *pairs[i][0], heed_mul(b, by, *pairs[i][1]));
        }
    for (size_t i = 0; i < sizeof row_pairs / sizeof *row_pairs; i++)
        if (row_pairs[i][0]->id)
            *row_pairs[i][0] =
                heed_sub(b, *row_pairs[i][0],
                         heed_mul(b, heed__as(b, lambda_row, heed_value_type(b, *row_pairs[i][1]).dtype),
                                  *row_pairs[i][1]));
    if (x.mean.id)
        x.mean = heed__probe_mean(b, x.weights);
    return x;
}

/* mixed_h = sum_g by[h,g] x_g for x [B,Hq,Tq,Tk]. */
static heed_value talk(making *m, heed_value x, heed_value by)
{
    const heed_type t = heed_value_type(m->b, x);

    x = heed_reshape(m->b, x, 3, (const int64_t[]){ t.dims[0], t.dims[1], t.dims[2] * t.dims[3] });
    return heed_reshape(m->b, heed_matmul(m->b, by, x), 4, t.dims);
}

/* Talking heads mix whole score or weight matrices, so both exist as a whole: the core normalises, the rest stands here. */
static heed_attended talking(making *m)
{
    const heed_attention_spec *s = m->s;
    heed_builder *b = m->b;
    attention_attrs open = m->a;
    attention_parts p;
    heed_value out[AT_OUTPUTS] = { { 0 } }, w, dropped;
    heed_attended y;

    if ((s->in.talk_pre.id && !SIZED(s->in.talk_pre, "talk_pre", 0, m->heads, m->heads)) ||
        (s->in.talk_post.id && !SIZED(s->in.talk_post, "talk_post", 0, m->heads, m->heads)))
        return (heed_attended){ .out = { 0 } };
    p = heed__attention_parts(b, &open, m->in, AT_INPUTS);
    if (s->in.talk_pre.id) {
        attention_parts bare = p;

        open.temperature = 1;
        bare.in[AT_TEMPERATURE] = (heed_value){ 0 };
        m->in[AT_BIAS] =
            talk(m, heed__attention_logits(&bare), widened(m, s->in.talk_pre));
        m->in[AT_Q] = heed_slice(b, m->in[AT_Q], 3, 0, 0, 1);
        m->in[AT_K] = heed_slice(b, m->in[AT_K], 3, 0, 0, 1);
        m->in[AT_REL] = m->in[AT_ROW_REL] = m->in[AT_ADD_V] = (heed_value){ 0 };
        m->a.score = ATTENTION_DOT;
        m->a.softcap = 0;
    }
    m->a.dropout = 0;
    m->a.rel_sums = false;
    m->in[AT_RNG] = m->in[AT_DROPOUT_KEEP] = (heed_value){ 0 };
    heed__attention_core(b, &m->a, m->in, out);
    w = out[AT_GET_WEIGHTS];
    if (s->in.talk_post.id)
        w = talk(m, w, s->in.talk_post);
    y = told_of(m, w, p.distance);
    if (heed__attention_has_lse(&m->a))
        y.lse = out[AT_GET_LSE];
    dropped = heed__attention_dropped(&p, heed__as(b, w, p.dtype));
    y.out = heed_matmul(b, dropped, p.in[AT_V]);
    if (m->shaw_v.id)
        y.out = heed_add(
            b, y.out, heed_matmul(b, heed__attention_rel_sums(&p, dropped), heed__as(b, m->shaw_v, p.dtype)));
    y.out = heed__as(b, heed__zero_unless(b, p.rows, y.out), m->dtype);
    return y;
}

/* ---- linear ---- */

static heed_attended linear(making *m)
{
    heed_value w, out = heed__linear_attention(m->b, &m->a, m->in, &w);
    heed_attended y = { .out = out, .weights = w };
    heed_value distance;

    if (m->s->probe.topk || m->s->probe.pooled[0] || m->s->probe.received || m->s->probe.entropy ||
        m->s->probe.distance || m->s->probe.mean || heed__spec_rows(m->s)) {
        const attention_parts p = heed__attention_parts(m->b, &m->a, m->in, AT_INPUTS);

        distance = p.distance;
        y = told_of(m, w, distance);
        y.out = out;
    }
    return y;
}

/* ---- all ---- */

static bool same_dtypes(making *m, heed_dtype dtype)
{
    for (int i = 0; i < ATTENTION_TENSORS && !heed__poisoned(m->b); i++) {
        const heed_value x = heed__attention_tensor(m->s, i);

        if (x.id && heed__attention_tensors[i].differentiable && heed_value_type(m->b, x).dtype != dtype)
            heed__poison(m->b, HEED_ERR_DTYPE, "attention: %s is %s where q is %s: cast it with heed_cast",
                         heed__attention_tensors[i].name, heed_dtype_name(heed_value_type(m->b, x).dtype),
                         heed_dtype_name(dtype));
    }
    return !heed__poisoned(m->b);
}

/* The core zeroes rows beyond q_lengths. What stands behind it would still multiply their upstream, which may be anything, into
 * the gradient of a parameter. */
static heed_value cleaned_out(making *m, heed_value out)
{
    const heed_attention_spec *s = m->s;

    return m->in[AT_Q_LENGTHS].id && (s->in.gate.id || s->in.shaw_v.id || s->in.q2.id)
               ? heed__zero_unless(m->b, heed__within(m->b, m->in[AT_Q_LENGTHS], 2, m->tq), out)
               : out;
}

static bool begin(making *m, heed_value q, heed_value k, heed_value v)
{
    const heed_attention_spec *s = m->s;
    const heed_type tq = heed_value_type(m->b, q), tk = heed_value_type(m->b, k),
                    tv = heed_value_type(m->b, v);

    if (heed__poisoned(m->b))
        return false;
    if (tq.rank != 4 || tk.rank != 4 || tv.rank != 4) {
        heed__poison(m->b, HEED_ERR_SHAPE,
                     "attention: q, k and v must be [B,H,T,D]; their ranks are %d, %d and %d", tq.rank,
                     tk.rank, tv.rank);
        return false;
    }
    if (!(DTYPE_BIT(tq.dtype) & FLOATS) || tk.dtype != tq.dtype || tv.dtype != tq.dtype) {
        heed__poison(m->b, HEED_ERR_DTYPE,
                     "attention: q, k and v must be of one floating dtype; they are %s, %s and %s",
                     heed_dtype_name(tq.dtype), heed_dtype_name(tk.dtype), heed_dtype_name(tv.dtype));
        return false;
    }
    if (tq.dims[1] < 1 || tk.dims[1] < 1 || tq.dims[1] % tk.dims[1] != 0) {
        heed__poison(m->b, HEED_ERR_SHAPE,
                     "attention: the %lld heads of q must be a multiple of the %lld heads of k, and at least one",
                     (long long)tq.dims[1], (long long)tk.dims[1]);
        return false;
    }
    if (!heed__attention_spec_check(m->b, q, s) || !same_dtypes(m, tq.dtype))
        return false;
    m->dtype = tq.dtype;
    m->batch = tq.dims[0];
    m->heads = tq.dims[1];
    m->tq = tq.dims[2];
    m->tk = tk.dims[2];
    if (heed__spec_positions(s)) /* elsewhere no number of it may keep equal nodes apart */
        m->offset = s->offset.set ? s->offset.value : s->in.offset.id ? 0 : m->tk - m->tq;
    m->offset = heed__attention_offset(m->offset);
    m->a.offset = m->offset;
    m->in[AT_Q] = q;
    m->in[AT_K] = k;
    m->in[AT_V] = v;
    if (!one_a_sequence(m, s->in.lengths, "lengths") || !one_a_sequence(m, s->in.q_lengths, "q_lengths") ||
        !one_a_sequence(m, s->in.offset, "offset"))
        return false;
    m->in[AT_LENGTHS] = checked_i64(m, "lengths", s->in.lengths, m->tk);
    m->in[AT_Q_LENGTHS] = checked_i64(m, "q_lengths", s->in.q_lengths, m->tq);
    m->in[AT_OFFSET] = s->in.offset;
    m->in[AT_OUT] = s->stored.out;
    m->in[AT_LSE] = s->stored.lse;
    m->in[AT_LSE_REST] = s->stored.lse_rest;
    return !heed__poisoned(m->b);
}

heed_attended heed_attention(heed_builder *b, heed_value q, heed_value k, heed_value v,
                             const heed_attention_spec *spec)
{
    static const heed_attention_spec zeroed;
    making all = { .b = b, .s = spec ? spec : &zeroed }, *m = &all;
    heed_attended y = { .out = { 0 } };

    if (!begin(m, q, k, v))
        return y;
    mask(m);
    normaliser(m);
    dropout(m);
    probes(m);
    if (m->s->normaliser.kind == HEED_NORMALISER_LINEAR) {
        m->a.normaliser = HEED_NORMALISER_SOFTMAX;
        y = linear(m);
    } else if (m->s->in.q2.id) {
        relative_terms(m);
        y = differential(m);
    } else {
        score(m);
        if (!heed__poisoned(b)) {
            relative_terms(m);
            shaw(m);
            xl(m);
        }
        if (m->given.id)
            m->in[AT_BIAS] =
                m->in[AT_BIAS].id ? heed_add(b, m->given, widened(m, m->in[AT_BIAS])) : m->given;
        if (!heed__poisoned(b))
            y = m->s->in.talk_pre.id || m->s->in.talk_post.id ? talking(m) : plain(m);
    }
    if (m->s->in.gate.id && !heed__poisoned(b) &&
        SIZED(m->s->in.gate, "gate", 15, m->batch, m->heads, m->tq, heed_dim(b, v, 3)))
        y.out = heed_mul(b, heed_sigmoid(b, m->s->in.gate), y.out);
    if (!heed__poisoned(b))
        y.out = cleaned_out(m, y.out);
    return heed__poisoned(b) ? (heed_attended){ .out = { 0 } } : y;
}
