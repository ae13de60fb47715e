/* attention: the core of the operator (attention.h has its formula, heed/attention.h the whole).
 *
 *   q [B,Hq,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv]  ->  out [B,Hq,Tq,Dv], lse [B,Hq,Tq], lse_rest, rel_sums, weights, probes
 *
 * A row that keeps nothing has zeros, lse = -inf and no gradient. Rows beyond the lengths are replaced by zeros before anything
 * reads them, so they may hold anything. Dropout acts on what is multiplied by v, never on weights, lse or probes.
 *
 * Vaswani 2017; grouped heads: Shazeer 2019, Ainslie 2023. */

#include "attention/compose.h"

#include <math.h>

static const op_slot attention_in[] = {
    ATTENTION_INPUTS(ATTENTION_SLOT){ .name = "stored_lse", .dtypes = FLOATS, .flags = OPTIONAL },
    { .name = "stored_lse_rest", .dtypes = FLOATS, .flags = OPTIONAL },
    { .name = "stored_out", .dtypes = FLOATS, .flags = OPTIONAL },
    SLOT_END,
};
#define ATTENTION_OUT(id, text)                                                                              \
    { .name = text, .flags = AT_GET_##id == AT_GET_LSE ? MINUS_INFINITY : 0 }, /* a row that keeps nothing */
static const op_slot attention_out[] = { ATTENTION_OUTPUTS(ATTENTION_OUT) SLOT_END };

const op_field heed__attention_fields[] = {
    FIELD_ENUM(attention_attrs, score, "dot|additive|neg_sq_distance|neg_distance"),
    FIELD_F64(attention_attrs, scale),
    FIELD_F64(attention_attrs, softcap),
    FIELD_I64(attention_attrs, offset),
    FIELD_I64(attention_attrs, row_zero),
    FIELD_BOOL(attention_attrs, rel_sums),
    FIELD_BOOL(attention_attrs, causal),
    FIELD_BOOL(attention_attrs, window),
    FIELD_I64(attention_attrs, left),
    FIELD_I64(attention_attrs, right),
    FIELD_I64(attention_attrs, stride),
    FIELD_I64(attention_attrs, block_q),
    FIELD_I64(attention_attrs, block_k),
    FIELD_ENUM(attention_attrs, normaliser,
               "softmax|sparsemax|entmax15|entmax|sigmoid|topk|hard|adaptive_span"),
    FIELD_F64(attention_attrs, temperature),
    FIELD_BOOL(attention_attrs, plus_one),
    FIELD_I64(attention_attrs, k),
    FIELD_F64(attention_attrs, alpha),
    FIELD_F64(attention_attrs, bias),
    FIELD_F64(attention_attrs, ramp),
    FIELD_F64(attention_attrs, dropout),
    FIELD_I64(attention_attrs, node),
    FIELD_BOOL(attention_attrs, rows),
    FIELD_BOOL(attention_attrs, entropy),
    FIELD_BOOL(attention_attrs, distance),
    FIELD_I64(attention_attrs, topk),
    FIELD_I64(attention_attrs, pooled_q),
    FIELD_I64(attention_attrs, pooled_k),
    FIELD_BOOL(attention_attrs, received),
    FIELD_END,
};

/* ---- shapes ---- */

/* The input, if it is given, must have these sizes; -1 stands for 1 or `full`, ANY for whatever is there. */
enum { ANY = -2 };

static heed_status check_sizes(op_infer *t, int slot, const char *name, int rank, const int64_t *full,
                               unsigned or_one)
{
    const heed_type *x = slot < t->n_in ? &t->in[slot] : NULL;

    if (!heed__given(t, slot))
        return HEED_OK;
    if (x->rank != rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "%s has rank %d; it must be %d", name, x->rank, rank);
    for (int i = 0; i < rank; i++)
        if (full[i] != ANY && x->dims[i] != full[i] && !(or_one >> i & 1 && x->dims[i] == 1))
            return heed__refuse(t, HEED_ERR_SHAPE, "%s has size %lld on axis %d; it must be %lld%s", name,
                                (long long)x->dims[i], i, (long long)full[i], or_one >> i & 1 ? " or 1" : "");
    return HEED_OK;
}
#define SIZES(slot, name, or_one, ...)                                                                       \
    TRY(check_sizes(t, slot, name, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),              \
                    (int64_t[]){ __VA_ARGS__ }, or_one))

static heed_status check_core(op_infer *t)
{
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
    if (q->dims[1] < 1 || k->dims[1] < 1 || q->dims[1] % k->dims[1] != 0)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "the %lld heads of q must be a multiple of the %lld heads of k, and at least one",
                            (long long)q->dims[1], (long long)k->dims[1]);
    if (q->dims[3] != k->dims[3])
        return heed__refuse(t, HEED_ERR_SHAPE, "this score needs q and k of one width, got %lld and %lld",
                            (long long)q->dims[3], (long long)k->dims[3]);
    return HEED_OK;
}

static heed_status check_together(op_infer *t, int a, int b, const char *why)
{
    return heed__given(t, a) == heed__given(t, b) ? HEED_OK : heed__refuse(t, HEED_ERR_SPEC, "%s", why);
}

heed_status heed__attention_check(op_infer *t)
{
    const attention_attrs *a = t->attrs;
    const heed_type *q = &t->in[AT_Q], *k = &t->in[AT_K];

    TRY(check_core(t));
    const int64_t batch = q->dims[0], heads = q->dims[1], tq = q->dims[2], tk = k->dims[2];

    SIZES(AT_LENGTHS, "lengths", 0, batch);
    SIZES(AT_Q_LENGTHS, "q_lengths", 0, batch);
    SIZES(AT_OFFSET, "offset", 0, batch);
    SIZES(AT_MASK, "mask", 15, batch, heads, tq, tk);
    SIZES(AT_GLOBALS, "globals", 0, ANY);
    SIZES(AT_Q_SEG, "q_seg", 0, batch, tq);
    SIZES(AT_K_SEG, "k_seg", 0, batch, tk);
    SIZES(AT_GRAPH_INDPTR, "graph_indptr", 0, tq + 1);
    SIZES(AT_GRAPH_INDICES, "graph_indices", 0, ANY);
    SIZES(AT_BIAS, "bias", 15, batch, heads, tq, tk);
    SIZES(AT_REL, "rel", 3, batch, heads, i64_max(0, tq + tk - 1));
    SIZES(AT_ROW_REL, "row_rel", 0, batch, heads, tq, ANY);
    SIZES(AT_ADD_V, "add_v", 1, heads, q->dims[3]);
    SIZES(AT_TEMPERATURE, "temperature", 1, heads);
    SIZES(AT_SINK, "sink", 1, heads);
    SIZES(AT_SIGMOID_BIAS, "sigmoid_bias", 1, heads);
    SIZES(AT_ALPHA, "alpha", 1, heads);
    SIZES(AT_SPAN, "span", 1, heads);
    SIZES(AT_RNG, "rng", 0, 2);
    SIZES(AT_DROPOUT_KEEP, "dropout_keep", 0, batch, heads, tq, tk);
    SIZES(AT_PROBE_ROWS, "probe.rows", 0, ANY);
    SIZES(AT_PROBE_HEADS, "probe.heads", 0, ANY);
    if (heed__given(t, AT_BLOCK_KEEP)) {
        const int64_t nq = i64_ceil_div(tq, i64_max(1, a->block_q)),
                      nk = i64_ceil_div(tk, i64_max(1, a->block_k));

        if (a->block_q < 1 || a->block_k < 1)
            return heed__refuse(t, HEED_ERR_SPEC, "mask.block must hold two sizes of at least 1");
        if (t->in[AT_BLOCK_KEEP].rank == 3)
            SIZES(AT_BLOCK_KEEP, "block_keep", 0, heads, nq, nk);
        else
            SIZES(AT_BLOCK_KEEP, "block_keep", 0, nq, nk);
    }
    if (heed__given(t, AT_ROW_REL) && t->in[AT_ROW_REL].dims[3] < 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "row_rel needs at least one relative position");
    TRY(check_together(t, AT_Q_SEG, AT_K_SEG, "q_seg and k_seg are given together or not at all"));
    TRY(check_together(t, AT_GRAPH_INDPTR, AT_GRAPH_INDICES,
                       "graph_indptr and graph_indices are given together or not at all"));
    if ((a->score == ATTENTION_ADDITIVE) != heed__given(t, AT_ADD_V))
        return heed__refuse(t, HEED_ERR_SPEC, "add_v belongs to the additive score, and to no other");
    if (a->rel_sums && !heed__given(t, AT_ROW_REL))
        return heed__refuse(t, HEED_ERR_SPEC, "rel_sums need row_rel");
    if (!isfinite(a->scale))
        return heed__refuse(t, HEED_ERR_SPEC, "score.scale must be finite");
    if (!(a->dropout >= 0 && a->dropout < 1))
        return heed__refuse(t, HEED_ERR_SPEC, "combine.dropout.p must be at least 0 and below 1");
    if ((heed__given(t, AT_RNG) || heed__given(t, AT_DROPOUT_KEEP)) != (a->dropout > 0))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "rng {seed, step} or dropout_keep must be given with combine.dropout.p > 0, "
                            "and neither without");
    return HEED_OK;
}

int64_t heed__attention_offset(int64_t offset)
{
    const int64_t most = (int64_t)1 << 40;

    return i64_max(-most, i64_min(offset, most));
}

heed_type heed__attention_row_type(const heed_type *q)
{
    heed_type t = *q;

    t.dtype = heed__sum_dtype(q->dtype);
    t.rank = 3;
    return t;
}

bool heed__attention_has_lse(const attention_attrs *a)
{
    return a->normaliser == HEED_NORMALISER_SOFTMAX || a->normaliser == HEED_NORMALISER_TOPK ||
           a->normaliser == HEED_NORMALISER_HARD || a->normaliser == HEED_NORMALISER_ADAPTIVE_SPAN;
}

bool heed__attention_by_lse(const attention_attrs *a)
{
    return a->score == ATTENTION_DOT && a->normaliser == HEED_NORMALISER_SOFTMAX && !a->rel_sums;
}

static heed_type attention_type(heed_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return heed_type_of(dtype, 4, (const int64_t[]){ a, b, c, d });
}

static heed_status check_stored(op_infer *t, int slot, const char *name, const heed_type *want)
{
    if (!heed__given(t, slot) || heed_type_equal(&t->in[slot], want))
        return HEED_OK;
    return heed__refuse(t, HEED_ERR_SHAPE, "%s does not have the type of %s, which an earlier run gave", name, name + 7);
}

static heed_status attention_infer(op_infer *t)
{
    const attention_attrs *a = t->attrs;
    const heed_type *q = &t->in[AT_Q];

    TRY(heed__attention_check(t));
    const int64_t batch = q->dims[0], heads = q->dims[1], tq = q->dims[2], tk = t->in[AT_K].dims[2];
    const bool listed = heed__given(t, AT_PROBE_ROWS), some = heed__given(t, AT_PROBE_HEADS);

    t->out[AT_GET_OUT] = attention_type(q->dtype, batch, heads, tq, t->in[AT_V].dims[3]);
    t->out[AT_GET_LSE] = t->out[AT_GET_LSE_REST] = t->out[AT_GET_ENTROPY] = t->out[AT_GET_DISTANCE] = heed__attention_row_type(q);
    t->out[AT_GET_ENTROPY].dims[2] = a->entropy ? tq : 0;
    t->out[AT_GET_DISTANCE].dims[2] = a->distance ? tq : 0;
    t->out[AT_GET_REL_SUMS] =
        attention_type(q->dtype, batch, heads, tq, a->rel_sums ? t->in[AT_ROW_REL].dims[3] : 0);
    t->out[AT_GET_WEIGHTS] = attention_type(q->dtype, batch, heads, tq, tk);
    t->out[AT_GET_ROWS] = attention_type(q->dtype, batch, some ? t->in[AT_PROBE_HEADS].dims[0] : heads,
                                         !a->rows ? 0 : listed ? t->in[AT_PROBE_ROWS].dims[0] : tq, tk);
    t->out[AT_GET_TOPK_VALUES] = attention_type(q->dtype, batch, heads, tq, a->topk);
    t->out[AT_GET_TOPK_INDICES] = attention_type(HEED_I64, batch, heads, tq, a->topk);
    TRY(check_stored(t, AT_OUT, "stored.out", &t->out[AT_GET_OUT]));
    TRY(check_stored(t, AT_LSE, "stored.lse", &t->out[AT_GET_LSE]));
    return check_stored(t, AT_LSE_REST, "stored.lse_rest", &t->out[AT_GET_LSE]);
}

static void attention_decompose(op_decompose *d)
{
    heed__attention_compose(d->b, d->attrs, d->in, d->n_in, d->out);
}

static void attention_gradient(op_grad *g)
{
    static const char *const names[] = { ATTENTION_OUTPUTS(ATTENTION_NAME) };
    static const int from[] = { ATTENTION_GRADS(ATTENTION_INPUT) };
    attention_attrs attrs = *(const attention_attrs *)g->attrs;
    heed_value in[AT_GRAD_INPUTS] = { { 0 } }, din[AT_GRAD_OUTPUTS];

    for (int i = AT_GET_ROWS; i < AT_OUTPUTS; i++) {
        const heed_type t = heed_value_type(g->b, g->out[i]);

        if (g->dout[i].id && heed_type_count(&t) > 0)
            heed__poison(g->b, HEED_ERR_SPEC,
                         "attention: the probe %s has no gradient: differentiate weights instead", names[i]);
    }
    for (int i = 0; i < g->n_in; i++)
        in[i] = g->in[i];
    if (!in[AT_OUT].id && heed__attention_by_lse(g->attrs)) { /* nothing is stored */
        in[AT_LSE] = g->out[AT_GET_LSE];
        in[AT_LSE_REST] = g->out[AT_GET_LSE_REST];
        in[AT_OUT] = g->out[AT_GET_OUT];
    }
    in[AT_REL_SUMS] = g->dout[AT_GET_REL_SUMS].id ? g->out[AT_GET_REL_SUMS] : (heed_value){ 0 };
    in[AT_DOUT] = g->dout[AT_GET_OUT];
    in[AT_DLSE] = g->dout[AT_GET_LSE];
    in[AT_DWEIGHTS] = g->dout[AT_GET_WEIGHTS];
    in[AT_DREL_SUMS] = g->dout[AT_GET_REL_SUMS];
    attrs.pooled_q = attrs.pooled_k = 0;
    heed__nodes(g->b, &heed__op_attention_grad, &attrs, in, AT_GRAD_INPUTS, din);
    for (int i = 0; i < AT_GRADS; i++)
        if (from[i] < g->n_in && g->in[from[i]].id)
            g->din[from[i]] = din[i];
}

/* ---- building ---- */

void heed__attention_core(heed_builder *b, const attention_attrs *a, const heed_value in[AT_CORE_INPUTS],
                          heed_value out[AT_OUTPUTS])
{
    int n = AT_CORE_INPUTS;

    while (n > AT_V + 1 && in[n - 1].id == 0)
        n--;
    heed__nodes(b, &heed__op_attention, a, in, n, out);
}

/* Plain, masked in every way, grouped, tiles of keys, wide and odd heads, nothing at all. Cells beside these are held against
 * f64 by tests/attention_grid_test.c. */
#define QKV(b, hq, hk, tq, tk, d, dv)                                                                        \
    [AT_Q] = DIMS(b, hq, tq, d), [AT_K] = DIMS(b, hk, tk, d), [AT_V] = DIMS(b, hk, tk, dv)
#define CORE .scale = 0.5, .temperature = 1
static const op_sample attention_samples[] = {
    { .in = { QKV(2, 2, 2, 5, 7, 4, 4) }, .attrs = &(const attention_attrs){ CORE } },
    { .in = { QKV(2, 4, 2, 3, 6, 5, 3) },
      .attrs = &(const attention_attrs){ .scale = 0.4, .temperature = 1, .causal = true, .offset = 3 } },
    { .in = { QKV(3, 2, 2, 6, 4, 4, 4), [AT_LENGTHS] = LENGTHS(4, 3), [AT_Q_LENGTHS] = LENGTHS(6, 3),
              [AT_OFFSET] = ABSENT(), [AT_MASK] = MASK(3, 1, 6, 4) },
      .attrs = &(const attention_attrs){ CORE, .causal = true, .offset = -1 } },
    { .in = { QKV(2, 1, 1, 4, 5, 3, 3), [AT_LENGTHS] = ABSENT(), [AT_Q_LENGTHS] = ABSENT(),
              [AT_OFFSET] = LENGTHS(5, 2) },
      .attrs = &(const attention_attrs){ CORE, .causal = true } },
    { .in = { QKV(1, 2, 1, 9, 9, 4, 4) },
      .attrs = &(const attention_attrs){ CORE, .window = true, .left = 2, .right = 1, .stride = 2 } },
    { .in = { QKV(2, 2, 1, 131, 150, 16, 20) },
      .attrs = &(const attention_attrs){ .scale = 0.25, .temperature = 1, .causal = true, .offset = 19 },
      .no_numeric = true }, /* several tiles: too slow in f64 */
    { .in = { QKV(1, 1, 1, 30, 67, 72, 65), [AT_LENGTHS] = LENGTHS(67, 1) },
      .attrs = &(const attention_attrs){ .scale = 0.1, .temperature = 1 },
      .no_numeric = true }, /* wide heads: likewise */
    { .in = { QKV(2, 2, 2, 3, 8, 4, 4) }, .attrs = &(const attention_attrs){ CORE }, .scale = 1e4 },
    { .in = { QKV(2, 2, 2, 3, 0, 4, 4) }, .attrs = &(const attention_attrs){ CORE } },
    { .in = { QKV(0, 2, 2, 3, 5, 4, 4) }, .attrs = &(const attention_attrs){ CORE } },
    { .in = { QKV(2, 3, 2, 5, 7, 4, 4) },
      .attrs = &(const attention_attrs){ CORE },
      .refused = HEED_ERR_SHAPE },
    { .in = { [AT_Q] = DIMS(2, 2, 5, 4), [AT_K] = DIMS(2, 2, 7, 3), [AT_V] = DIMS(2, 2, 7, 4) },
      .attrs = &(const attention_attrs){ CORE },
      .refused = HEED_ERR_SHAPE },
    { .in = { QKV(2, 2, 2, 5, 7, 4, 4) },
      .attrs = &(const attention_attrs){ .scale = INFINITY, .temperature = 1 },
      .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

/* Without masks no row is empty, and softmax is ONNX's own. All else is opened. */
static bool attention_onnx_accepts(const onnx_emit *e)
{
    const attention_attrs *a = e->attrs;
    bool plain = !a->causal && !a->window && !a->stride && a->score == ATTENTION_DOT && a->softcap == 0 &&
                 a->temperature == 1 && a->normaliser == HEED_NORMALISER_SOFTMAX && !a->plus_one &&
                 e->in[AT_Q].dims[1] == e->in[AT_K].dims[1] && e->in[AT_K].dims[2] > 0;

    for (int i = AT_V + 1; i < e->n_in; i++)
        plain = plain && e->in[i].rank < 0;
    for (int i = 0; i < AT_OUTPUTS; i++)
        plain = plain && (i == AT_GET_OUT || i == AT_GET_WEIGHTS || !e->want[i]);
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
