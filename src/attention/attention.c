/* attention: out = w v,  w = softmax over kept keys of z,  z = scale q k^T.
 *
 *   q [B,Hq,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv]  ->  out [B,Hq,Tq,Dv], lse [B,Hq,Tq], weights [B,Hq,Tq,Tk]
 *
 * Query head h uses key head h / (Hq/Hkv). Key j is kept by query i when all that is given agrees:
 *   lengths j < lengths[b] · q_lengths i < q_lengths[b] · causal j <= i + offset · mask[b,h,i,j]
 * A row that keeps nothing has zeros, lse = -inf and no gradient. Rows beyond the lengths are replaced by
 * zeros before anything reads them, so they may hold anything. lse = ln sum e^z. Dropout acts on what is
 * multiplied by v, never on weights or lse.
 *
 * Vaswani 2017; grouped heads: Shazeer 2019, Ainslie 2023. */

#include "attention/attention.h"

#include <math.h>

#define SCORE_WORDS "scaled_dot|dot"

static const op_slot attention_in[] = { ATTENTION_SLOTS, SLOT_END };
static const op_slot attention_out[] = {
    { .name = "out" }, { .name = "lse" }, { .name = "weights" }, SLOT_END
};

const op_field heed__attention_fields[] = {
    FIELD_ENUM(attention_attrs, score, SCORE_WORDS),
    FIELD_F64(attention_attrs, scale),
    FIELD_BOOL(attention_attrs, causal),
    FIELD_I64(attention_attrs, offset),
    FIELD_F64(attention_attrs, dropout),
    FIELD_I64(attention_attrs, node),
    FIELD_END,
};

/* ---- shapes ---- */

static heed_status attention_check_vector(op_infer *t, int slot, const char *name, int64_t n)
{
    if (heed__given(t, slot) && (t->in[slot].rank != 1 || t->in[slot].dims[0] != n))
        return heed__refuse(t, HEED_ERR_SHAPE, "%s must have %lld elements, one for each sequence", name,
                            (long long)n);
    return HEED_OK;
}

static heed_status attention_check_mask(op_infer *t, const int64_t full[4])
{
    const heed_type *m = &t->in[AT_MASK];

    if (m->rank != 4)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "mask has rank %d; it must be 4, each size full or 1 against [B,Hq,Tq,Tk]",
                            m->rank);
    for (int i = 0; i < 4; i++)
        if (m->dims[i] != full[i] && m->dims[i] != 1)
            return heed__refuse(t, HEED_ERR_SHAPE, "mask has size %lld on axis %d; it must be %lld or 1",
                                (long long)m->dims[i], i, (long long)full[i]);
    return HEED_OK;
}

heed_status heed__attention_check(op_infer *t)
{
    const attention_attrs *a = t->attrs;
    const heed_type *q = &t->in[AT_Q], *k = &t->in[AT_K], *v = &t->in[AT_V];

    if (q->rank != 4 || k->rank != 4 || v->rank != 4)
        return heed__refuse(t, HEED_ERR_SHAPE, "q, k and v must be [B,H,T,D]; their ranks are %d, %d and %d",
                            q->rank, k->rank, v->rank);
    if (k->dims[0] != q->dims[0] || v->dims[0] != q->dims[0])
        return heed__refuse(t, HEED_ERR_SHAPE, "q, k and v have %lld, %lld and %lld sequences",
                            (long long)q->dims[0], (long long)k->dims[0], (long long)v->dims[0]);
    if (k->dims[1] != v->dims[1] || k->dims[2] != v->dims[2])
        return heed__refuse(
            t, HEED_ERR_SHAPE, "k [.,%lld,%lld,.] and v [.,%lld,%lld,.] differ in heads or keys",
            (long long)k->dims[1], (long long)k->dims[2], (long long)v->dims[1], (long long)v->dims[2]);
    if (k->dims[1] < 1 || q->dims[1] % k->dims[1] != 0)
        return heed__refuse(t, HEED_ERR_SHAPE, "the %lld heads of q are no multiple of the %lld heads of k",
                            (long long)q->dims[1], (long long)k->dims[1]);
    if (q->dims[3] != k->dims[3] || q->dims[3] < 1)
        return heed__refuse(
            t, HEED_ERR_SHAPE, "score %s needs q and k of one width of at least 1, got %lld and %lld",
            a->score == HEED_SCORE_DOT ? "dot" : "scaled_dot", (long long)q->dims[3], (long long)k->dims[3]);
    if (!isfinite(a->scale))
        return heed__refuse(t, HEED_ERR_SPEC, "score.scale must be finite");
    if (!(a->dropout >= 0 && a->dropout < 1))
        return heed__refuse(t, HEED_ERR_SPEC, "combine.dropout.p must be at least 0 and below 1");
    TRY(attention_check_vector(t, AT_LENGTHS, "lengths", q->dims[0]));
    TRY(attention_check_vector(t, AT_Q_LENGTHS, "q_lengths", q->dims[0]));
    TRY(attention_check_vector(t, AT_OFFSET, "offset", q->dims[0]));
    if (heed__given(t, AT_OFFSET) && !a->causal)
        return heed__refuse(t, HEED_ERR_SPEC,
                            "offset is given, but nothing looks at positions: mask.causal is off");
    if (heed__given(t, AT_MASK))
        TRY(attention_check_mask(t, (const int64_t[]){ q->dims[0], q->dims[1], q->dims[2], k->dims[2] }));
    if (heed__given(t, AT_RNG) != (a->dropout > 0) ||
        (heed__given(t, AT_RNG) && (t->in[AT_RNG].rank != 1 || t->in[AT_RNG].dims[0] != 2)))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "rng must be {seed, step} with combine.dropout.p > 0, and absent without");
    return HEED_OK;
}

int64_t heed__attention_offset(int64_t offset, int64_t tq, int64_t tk)
{
    return i64_max(-tq, i64_min(offset, tk));
}

heed_type heed__attention_row_type(const heed_type *q)
{
    heed_type t = *q;

    t.dtype = heed__sum_dtype(q->dtype);
    t.rank = 3;
    return t;
}

static heed_status attention_infer(op_infer *t)
{
    const heed_type *q = &t->in[AT_Q];

    TRY(heed__attention_check(t));
    t->out[AT_GET_OUT] = t->out[AT_GET_WEIGHTS] = *q;
    t->out[AT_GET_OUT].dims[3] = t->in[AT_V].dims[3];
    t->out[AT_GET_WEIGHTS].dims[3] = t->in[AT_K].dims[2];
    t->out[AT_GET_LSE] = heed__attention_row_type(q);
    return HEED_OK;
}

/* ---- composed of primitives: the meaning of everything above ---- */

/* 0, 1, ... n-1 along one of four axes. */
static heed_value attention_positions(heed_builder *b, int axis, int64_t n)
{
    int64_t dims[4] = { 1, 1, 1, 1 };

    dims[axis] = n;
    return heed_iota(b, heed_type_of(HEED_I64, 4, dims), axis);
}

/* i64 [B] as [B,1,1,1]. */
static heed_value attention_by_sequence(heed_builder *b, heed_value x)
{
    return heed_reshape(b, x, 4, (const int64_t[]){ heed_dim(b, x, 0), 1, 1, 1 });
}

static heed_value attention_both(heed_builder *b, heed_value x, heed_value y)
{
    return x.id && y.id ? heed_and(b, x, y) : x.id ? x : y;
}

static heed_value attention_zero_unless(heed_builder *b, heed_value keep, heed_value x)
{
    return keep.id ? heed_select(b, keep, x, heed_scalar(b, heed_value_type(b, x).dtype, 0)) : x;
}

/* Key heads as often as query heads use them. */
static heed_value attention_repeat(heed_builder *b, heed_value x, int64_t heads)
{
    const heed_type t = heed_value_type(b, x);
    const int64_t times = t.dims[1] ? heads / t.dims[1] : 1;

    if (times == 1)
        return x;
    x = heed_broadcast(b, heed_unsqueeze(b, x, 2), 5,
                       (const int64_t[]){ t.dims[0], t.dims[1], times, t.dims[2], t.dims[3] });
    return heed_reshape(b, x, 4, (const int64_t[]){ t.dims[0], heads, t.dims[2], t.dims[3] });
}

heed_value heed__attention_rows(heed_builder *b, const attention_parts *p, heed_value x)
{
    return attention_zero_unless(b, p->rows, x);
}

attention_parts heed__attention_parts(op_decompose *d)
{
    const attention_attrs *a = d->attrs;
    heed_builder *b = d->b;
    heed_value in[AT_INPUTS] = { { 0 } }, keep, within = { 0 };
    attention_parts p = { .rows = { 0 } };

    for (int i = 0; i < AT_INPUTS && i < d->n_in; i++)
        in[i] = d->in[i];
    p.q_type = heed_value_type(b, in[AT_Q]);
    p.k_type = heed_value_type(b, in[AT_K]);
    p.v_type = heed_value_type(b, in[AT_V]);
    p.dtype = heed__sum_dtype(p.q_type.dtype);

    const int64_t heads = p.q_type.dims[1], tq = p.q_type.dims[2], tk = p.k_type.dims[2];
    const heed_value i = attention_positions(b, 2, tq), j = attention_positions(b, 3, tk);
    if (in[AT_LENGTHS].id) /* [B,1,Tk,1]: rows of k and v */
        within = heed_lt(b, attention_positions(b, 2, tk), attention_by_sequence(b, in[AT_LENGTHS]));
    if (in[AT_Q_LENGTHS].id)
        p.rows = heed_lt(b, i, attention_by_sequence(b, in[AT_Q_LENGTHS]));
    p.q = heed__attention_rows(b, &p, heed__as(b, in[AT_Q], p.dtype));
    p.k = attention_repeat(b, attention_zero_unless(b, within, heed__as(b, in[AT_K], p.dtype)), heads);
    p.v = attention_repeat(b, attention_zero_unless(b, within, heed__as(b, in[AT_V], p.dtype)), heads);
    if (tk == 0)
        return p;

    keep = attention_both(b, in[AT_MASK], p.rows);
    if (in[AT_LENGTHS].id)
        keep = attention_both(b, keep, heed_lt(b, j, attention_by_sequence(b, in[AT_LENGTHS])));
    if (a->causal && in[AT_OFFSET].id)
        keep =
            attention_both(b, keep, heed_le(b, j, heed_add(b, i, attention_by_sequence(b, in[AT_OFFSET]))));
    else if (a->causal)
        keep = attention_both(
            b, keep, heed_le(b, j, heed_add_scalar(b, i, (double)heed__attention_offset(a->offset, tq, tk))));
    p.z = heed_mul_scalar(b, heed_matmul(b, p.q, heed_transpose(b, p.k, 2, 3)), a->scale);
    if (keep.id)
        p.z = heed_select(b, keep, p.z, heed_scalar(b, p.dtype, -INFINITY));
    return p;
}

heed_value heed__attention_dropout(op_decompose *d, heed_value w)
{
    const attention_attrs *a = d->attrs;

    return a->dropout > 0 ? heed__dropout(d->b, w, d->in[AT_RNG], a->dropout, a->node) : w;
}

/* Nothing to attend to. */
static void attention_without_keys(op_decompose *d, const attention_parts *p)
{
    heed_type out = p->q_type, weights = p->q_type;

    out.dims[3] = p->v_type.dims[3];
    weights.dims[3] = 0;
    d->out[AT_GET_OUT] = heed__zeros(d->b, &out);
    d->out[AT_GET_LSE] = heed_full(d->b, heed__attention_row_type(&p->q_type), -INFINITY);
    d->out[AT_GET_WEIGHTS] = heed__zeros(d->b, &weights);
}

static void attention_decompose(op_decompose *d)
{
    heed_builder *b = d->b;
    const attention_parts p = heed__attention_parts(d);
    heed_value m, none, e, sum, w, lse, out;

    if (p.z.id == 0) {
        attention_without_keys(d, &p);
        return;
    }
    m = heed_stop_grad(b, heed__max_axis(b, p.z, 3));
    none = heed_eq(b, m, heed_scalar(b, p.dtype, -INFINITY));
    m = heed_select(b, none, heed_scalar(b, p.dtype, 0), m);
    e = heed_exp(b, heed_sub(b, p.z, m));
    sum = heed_select(b, none, heed_scalar(b, p.dtype, 1), heed__sum_axis(b, e, 3));
    w = heed_div(b, e, sum);
    lse = heed_select(b, none, heed_scalar(b, p.dtype, -INFINITY), heed_add(b, m, heed_log(b, sum)));
    out = heed__attention_rows(b, &p, heed_matmul(b, heed__attention_dropout(d, w), p.v));
    d->out[AT_GET_OUT] = heed__as(b, out, p.q_type.dtype);
    d->out[AT_GET_LSE] = heed_squeeze(b, lse, 3);
    d->out[AT_GET_WEIGHTS] = heed__as(b, w, p.q_type.dtype);
}

static void attention_gradient(op_grad *g)
{
    heed_value in[AT_GRAD_INPUTS] = { { 0 } };

    for (int i = 0; i < g->n_in; i++)
        in[i] = g->in[i];
    in[AT_OUT] = g->out[AT_GET_OUT];
    in[AT_LSE] = g->out[AT_GET_LSE];
    in[AT_DOUT] = g->dout[AT_GET_OUT];
    in[AT_DLSE] = g->dout[AT_GET_LSE];
    in[AT_DWEIGHTS] = g->dout[AT_GET_WEIGHTS];
    heed__nodes(g->b, &heed__op_attention_grad, g->attrs, in, AT_GRAD_INPUTS, g->din);
}

/* ---- building ---- */

heed_attended heed__attention(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS])
{
    heed_value out[AT_OUTPUTS];
    int n = AT_INPUTS;

    while (n > AT_V + 1 && in[n - 1].id == 0)
        n--;
    heed__nodes(b, &heed__op_attention, a, in, n, out);
    return (heed_attended){ .out = out[AT_GET_OUT], .lse = out[AT_GET_LSE], .weights = out[AT_GET_WEIGHTS] };
}

heed_attended heed_attention(heed_builder *b, heed_value q, heed_value k, heed_value v,
                             const heed_attention_spec *spec)
{
    static const heed_attention_spec plain;
    const heed_attention_spec *s = spec ? spec : &plain;
    const heed_type tq = heed_value_type(b, q), tk = heed_value_type(b, k);
    const int64_t width = tk.rank == 4 ? tk.dims[3] : 1;
    attention_attrs a = { .score = (int)s->score.kind,
                          .scale = 1,
                          .causal = s->mask.causal,
                          .dropout = heed_get_mode(b) == HEED_TRAIN ? s->dropout.p : 0 };
    heed_value in[AT_INPUTS] = { q, k, v, s->in.lengths, s->in.q_lengths, s->in.mask, s->in.offset };

    if (heed__poisoned(b))
        return (heed_attended){ { 0 }, { 0 }, { 0 } };
    if (s->score.kind != HEED_SCORE_SCALED_DOT && s->score.kind != HEED_SCORE_DOT)
        heed__poison(b, HEED_ERR_SPEC, "attention: score.kind %d is not known: it is scaled_dot or dot",
                     (int)s->score.kind);
    if (s->offset.set && s->in.offset.id)
        heed__poison(b, HEED_ERR_SPEC, "attention: offset is given as a number and as a tensor: give one");
    if (s->offset.set && !s->mask.causal)
        heed__poison(b, HEED_ERR_SPEC,
                     "attention: offset is given, but nothing looks at positions: mask.causal is off");
    if (!(s->dropout.p >= 0 && s->dropout.p < 1))
        heed__poison(b, HEED_ERR_SPEC, "attention: dropout.p must be at least 0 and below 1");
    if (s->dropout.p > 0 && !s->dropout.name)
        heed__poison(b, HEED_ERR_USAGE,
                     "attention: dropout.p needs dropout.name, the name of its random numbers");
    if (s->score.scale.set)
        a.scale = (double)s->score.scale.value;
    else if (s->score.kind == HEED_SCORE_SCALED_DOT && width > 0)
        a.scale = 1 / sqrt((double)width);
    if (s->offset.set)
        a.offset = heed__attention_offset(s->offset.value, tq.rank == 4 ? tq.dims[2] : 0,
                                          tk.rank == 4 ? tk.dims[2] : 0);
    else if (s->mask.causal && !s->in.offset.id && tq.rank == 4 && tk.rank == 4)
        a.offset = tk.dims[2] - tq.dims[2];
    if (a.dropout > 0 && !heed__poisoned(b)) {
        a.node = heed__random_node(b, s->dropout.name);
        in[AT_RNG] = heed_rng(b);
    }
    if (s->in.lengths.id && tk.rank == 4)
        in[AT_LENGTHS] = heed__check_range(b, s->in.lengths, tk.dims[2]);
    if (s->in.q_lengths.id && tq.rank == 4)
        in[AT_Q_LENGTHS] = heed__check_range(b, s->in.q_lengths, tq.dims[2]);
    return heed__attention(b, &a, in);
}

/* Plain, masked in every way, grouped, tiles of keys, wide and odd heads, nothing at all. */
#define PLAIN                                                                                                \
    {                                                                                                        \
        .scale = 0.5                                                                                         \
    }
#define BARE ABSENT(), ABSENT(), ABSENT(), ABSENT()
static const op_sample attention_samples[] = {
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 2, 7, 4), DIMS(2, 2, 7, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(2, 4, 3, 5), DIMS(2, 2, 6, 5), DIMS(2, 2, 6, 3) },
      .attrs = &(const attention_attrs){ .scale = 0.4, .causal = true, .offset = 3 } },
    { .in = { DIMS(3, 2, 6, 4), DIMS(3, 2, 4, 4), DIMS(3, 2, 4, 4), LENGTHS(4, 3), LENGTHS(6, 3),
              MASK(3, 1, 6, 4) },
      .attrs = &(const attention_attrs){ .scale = 0.5, .causal = true, .offset = -1 } },
    { .in = { DIMS(2, 1, 4, 3), DIMS(2, 1, 5, 3), DIMS(2, 1, 5, 3), ABSENT(), ABSENT(), ABSENT(),
              LENGTHS(5, 2) },
      .attrs = &(const attention_attrs){ .scale = 0.5, .causal = true } },
    { .in = { DIMS(1, 2, 4, 4), DIMS(1, 1, 9, 4), DIMS(1, 1, 9, 4), BARE, RNG() },
      .attrs = &(const attention_attrs){ .scale = 0.5, .dropout = 0.3, .node = 7 } },
    { .in = { DIMS(2, 2, 131, 16), DIMS(2, 1, 150, 16), DIMS(2, 1, 150, 20) },
      .attrs = &(const attention_attrs){ .scale = 0.25, .causal = true, .offset = 19 },
      .no_numeric = true }, /* several tiles: too slow in f64 */
    { .in = { DIMS(1, 1, 30, 72), DIMS(1, 1, 67, 72), DIMS(1, 1, 67, 65), LENGTHS(67, 1) },
      .attrs = &(const attention_attrs){ .scale = 0.1 },
      .no_numeric = true }, /* wide heads: likewise */
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 8, 4), DIMS(2, 2, 8, 4) },
      .attrs = &(const attention_attrs)PLAIN,
      .scale = 1e4 },
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 0, 4), DIMS(2, 2, 0, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(0, 2, 3, 4), DIMS(0, 2, 5, 4), DIMS(0, 2, 5, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(2, 3, 5, 4), DIMS(2, 2, 7, 4), DIMS(2, 2, 7, 4) },
      .attrs = &(const attention_attrs)PLAIN,
      .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 2, 7, 3), DIMS(2, 2, 7, 4) },
      .attrs = &(const attention_attrs)PLAIN,
      .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 2, 7, 4), DIMS(2, 2, 7, 4) },
      .attrs = &(const attention_attrs){ .scale = INFINITY },
      .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

/* Without masks no row is empty, and softmax is ONNX's own. All else is opened. */
static bool attention_onnx_accepts(const onnx_emit *e)
{
    const attention_attrs *a = e->attrs;
    bool plain = !a->causal && e->in[AT_Q].dims[1] == e->in[AT_K].dims[1] && e->in[AT_K].dims[2] > 0 &&
                 !e->want[AT_GET_LSE];

    for (int i = AT_V + 1; i < e->n_in; i++)
        plain = plain && e->in[i].rank < 0;
    return plain;
}

static void attention_onnx(onnx_emit *e)
{
    const attention_attrs *a = e->attrs;
    const int64_t swap[] = { 0, 1, 3, 2 };
    const char *k = e->to->fresh(e), *scores = e->to->fresh(e), *z = e->to->fresh(e);
    const char *scale = e->to->scalar(e, e->in[AT_Q].dtype, a->scale);
    const char *w = e->want[AT_GET_WEIGHTS] ? e->out_name[AT_GET_WEIGHTS] : e->to->fresh(e);

    e->to->node(e, "Transpose", &e->in_name[AT_K], 1, &k, 1,
                (onnx_attr[]){ ONNX_INTS("perm", swap, 4), ONNX_END });
    e->to->node(e, "MatMul", (const char *[]){ e->in_name[AT_Q], k }, 2, &scores, 1, NULL);
    e->to->node(e, "Mul", (const char *[]){ scores, scale }, 2, &z, 1, NULL);
    e->to->node(e, "Softmax", &z, 1, &w, 1, (onnx_attr[]){ ONNX_INT("axis", 3), ONNX_END });
    if (e->want[AT_GET_OUT])
        e->to->node(e, "MatMul", (const char *[]){ w, e->in_name[AT_V] }, 2, &e->out_name[AT_GET_OUT], 1,
                    NULL);
}

const op_def heed__op_attention = {
    .name = "attention",
    .version = 1,
    .in = attention_in,
    .out = attention_out,
    .attrs_size = sizeof(attention_attrs),
    .fields = heed__attention_fields,
    .infer = attention_infer,
    .grad = attention_gradient,
    .decompose = attention_decompose,
    .cpu = heed__attention_cpu,
    .flops = heed__attention_flops,
    .onnx = { "Softmax", 13 },
    .onnx_accepts = attention_onnx_accepts,
    .onnx_emit = attention_onnx,
    .torch = "scaled_dot_product_attention(q, k, v, scale={scale})",
    .samples = attention_samples,
};
