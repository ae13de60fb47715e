/* attention_grad: what attention hands back, computed again from lse instead of stored weights.
 *
 *   p   = e^((z - lse) - lse_rest) over kept keys         the weights
 *   dz  = p ((dropped (dout v^T) - sum_d dout out) + (dweights - sum_j p dweights) + dlse)
 *   dq  = scale dz k,   dk = scale dz^T q,   dv = dropped p^T dout;   key heads sum over their query heads
 *
 * from dz = p (dp - sum_j p dp + dlse), because sum_j p dropped(dout v^T)_j = dout . out: so no row of weights is needed at
 * once (Dao 2022, section 3.1). This is what the kernels do for softmax. The meaning, for every cell, is the derivative of
 * attention's own composition: below it is composed again and differentiated, and what forward already has is merged.
 * Any of dout, dlse, dweights and drel_sums may be absent, and lse and out where no kernel takes them. */

#include "attention/compose.h"

static const op_slot attention_grad_in[] = {
    ATTENTION_INPUTS(ATTENTION_SLOT){ .name = "lse", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "lse_rest", .dtypes = FLOATS, .flags = OPTIONAL },
    { .name = "out", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "rel_sums", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "dout", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "dlse", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "dweights", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "drel_sums", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    SLOT_END,
};
#define GRAD_OUT(id) { .name = "d" #id },
static const op_slot attention_grad_out[] = {
    ATTENTION_GRADS(GRAD_OUT){ .name = "pooled" }, { .name = "received" }, SLOT_END
};
static const int grad_of[] = { ATTENTION_GRADS(ATTENTION_INPUT) };

/* The outputs of attention that have an upstream. */
static const struct {
    int get, upstream;
} upstreams[] = {
    { AT_GET_OUT, AT_DOUT },
    { AT_GET_LSE, AT_DLSE },
    { AT_GET_REL_SUMS, AT_DREL_SUMS },
    { AT_GET_WEIGHTS, AT_DWEIGHTS },
};
enum { UPSTREAMS = sizeof upstreams / sizeof *upstreams };

static heed_status attention_grad_infer(op_infer *t)
{
    const heed_type nothing = heed_type_of(HEED_F32, 1, (const int64_t[]){ 0 });
    const attention_attrs *a = t->attrs;
    const heed_type *q = &t->in[AT_Q], *k = &t->in[AT_K];

    TRY(heed__attention_check(t));
    if (a->pooled_q < 0 || a->pooled_k < 0 || (a->pooled_q == 0) != (a->pooled_k == 0))
        return heed__refuse(t, HEED_ERR_SPEC, "probe.pooled must hold two sizes of at least 1");
    for (int slot = AT_LSE; slot < AT_GRAD_INPUTS; slot++) {
        heed_type want = *q;

        if (!heed__given(t, slot))
            continue;
        if (slot == AT_LSE || slot == AT_LSE_REST || slot == AT_DLSE)
            want = heed__attention_row_type(q);
        else if (slot == AT_DWEIGHTS)
            want.dims[3] = t->in[AT_K].dims[2];
        else if (slot == AT_REL_SUMS || slot == AT_DREL_SUMS)
            want.dims[3] = heed__given(t, AT_ROW_REL) ? t->in[AT_ROW_REL].dims[3] : 0;
        else
            want.dims[3] = t->in[AT_V].dims[3];
        want.dtype = t->in[slot].dtype;
        if (!heed_type_equal(&t->in[slot], &want))
            return heed__refuse(t, HEED_ERR_SHAPE, "%s does not have the sizes that attention gives",
                                attention_grad_in[slot].name);
    }
    for (int i = 0; i < AT_GRADS; i++)
        t->out[i] = heed__given(t, grad_of[i]) ? t->in[grad_of[i]] : nothing;
    t->out[AT_GRAD_POOLED] = a->pooled_q ? heed__attention_pooled_type(a, q, k) : nothing;
    t->out[AT_GRAD_RECEIVED] = a->received ? heed__attention_received_type(q, k) : nothing;
    return HEED_OK;
}

/* The same value under another name, so that what is differentiated by is this use of it and no other: row_rel is a function of
 * q, and q may be k. (A reshape to the same sizes is no node.) */
heed_value heed__attention_alias(heed_builder *b, heed_value x)
{
    return heed_squeeze(b, heed_unsqueeze(b, x, 0), 0);
}

/* Probes are those of a node of their own. */
static void grad_probes(op_decompose *d)
{
    const attention_attrs *a = d->attrs;
    attention_attrs attrs = *a;
    heed_value in[AT_INPUTS] = { { 0 } }, probe[AT_PROBE_OUTPUTS];
    const heed_value core[AT_OUTPUTS] = { [AT_GET_LSE] = d->in[AT_LSE], [AT_GET_LSE_REST] = d->in[AT_LSE_REST] };

    d->out[AT_GRAD_POOLED] = d->out[AT_GRAD_RECEIVED] =
        heed_full(d->b, heed_type_of(HEED_F32, 1, (const int64_t[]){ 0 }), 0);
    if (!a->pooled_q && !a->received)
        return;
    for (int i = 0; i < AT_INPUTS && i < d->n_in; i++)
        in[i] = d->in[i];
    attrs.received = false;
    heed__attention_probe(d->b, &attrs, in, core, probe);
    if (a->pooled_q)
        d->out[AT_GRAD_POOLED] = probe[AT_GET_POOLED];
    if (a->received)
        d->out[AT_GRAD_RECEIVED] = probe[AT_GET_RECEIVED];
}

static void attention_grad_decompose(op_decompose *d)
{
    heed_builder *b = d->b;
    heed_value in[AT_INPUTS] = { { 0 } }, out[AT_OUTPUTS], y[UPSTREAMS], dy[UPSTREAMS], wrt[AT_GRADS],
               dx[AT_GRADS];
    int n_out = 0, n = 0, at[AT_GRADS];

    for (int i = 0; i < AT_INPUTS && i < d->n_in; i++)
        in[i] = d->in[i];
    for (int i = 0; i < AT_GRADS; i++) {
        if (!in[grad_of[i]].id) {
            d->out[i] = heed_full(b, heed_type_of(HEED_F32, 1, (const int64_t[]){ 0 }), 0);
            continue;
        }
        in[grad_of[i]] = wrt[n] = heed__attention_alias(b, in[grad_of[i]]);
        at[n++] = i;
    }
    heed__attention_compose(b, d->attrs, in, AT_INPUTS, out);
    for (int i = 0; i < UPSTREAMS; i++)
        if (upstreams[i].upstream < d->n_in && d->in[upstreams[i].upstream].id) {
            y[n_out] = out[upstreams[i].get];
            dy[n_out] = heed__as(b, d->in[upstreams[i].upstream], heed_value_type(b, y[n_out]).dtype);
            n_out++;
        }
    heed_grad_of(b, y, dy, n_out, wrt, n, dx);
    for (int i = 0; i < n; i++)
        d->out[at[i]] = dx[i];
    grad_probes(d);
}

#define GRAD_QKV(b, hq, hk, tq, tk, d, dv)                                                                   \
    [AT_Q] = DIMS(b, hq, tq, d), [AT_K] = DIMS(b, hk, tk, d), [AT_V] = DIMS(b, hk, tk, dv),                  \
    [AT_LSE] = FILLED(FILL_POSITIVE, b, hq, tq), [AT_OUT] = DIMS(b, hq, tq, dv)
#define NO_OPTIONS                                                                                           \
    [AT_BLOCK_KEEP] = ABSENT(), [AT_GLOBALS] = ABSENT(), [AT_Q_SEG] = ABSENT(), [AT_K_SEG] = ABSENT(),       \
    [AT_GRAPH_INDPTR] = ABSENT(), [AT_GRAPH_INDICES] = ABSENT(), [AT_BIAS] = ABSENT(), [AT_REL] = ABSENT(),  \
    [AT_ROW_REL] = ABSENT(), [AT_ADD_V] = ABSENT(), [AT_TEMPERATURE] = ABSENT(), [AT_SINK] = ABSENT(),       \
    [AT_SIGMOID_BIAS] = ABSENT(), [AT_ALPHA] = ABSENT(), [AT_SPAN] = ABSENT(), [AT_RNG] = ABSENT(),          \
    [AT_DROPOUT_KEEP] = ABSENT(), [AT_PROBE_ROWS] = ABSENT(), [AT_PROBE_HEADS] = ABSENT(),                   \
    [AT_REL_SUMS] = ABSENT(), [AT_LSE_REST] = ABSENT()
#define UNMASKED                                                                                             \
    [AT_LENGTHS] = ABSENT(), [AT_Q_LENGTHS] = ABSENT(), [AT_OFFSET] = ABSENT(), [AT_MASK] = ABSENT()
/* lse and out are the caller's, and a kernel uses them: only where they are attention's own do kernel and composition agree.
 * So samples here stay with shapes; tests/attention_test.c and attention_grid_test.c hold the kernels against f64. */
static const op_sample attention_grad_samples[] = {
    { .all = (const sample_in[]){ GRAD_QKV(2, 2, 2, 3, 0, 4, 4), UNMASKED, NO_OPTIONS,
                                  [AT_DOUT] = DIMS(2, 2, 3, 4), SAMPLE_IN_END },
      .attrs = &(const attention_attrs){ .scale = 0.5, .temperature = 1 } },
    { .all = (const sample_in[]){ GRAD_QKV(0, 2, 2, 3, 4, 4, 4), UNMASKED, NO_OPTIONS,
                                  [AT_DOUT] = DIMS(0, 2, 3, 4), SAMPLE_IN_END },
      .attrs = &(const attention_attrs){ .scale = 0.5, .temperature = 1 } },
    { .all = (const sample_in[]){ GRAD_QKV(2, 2, 2, 5, 7, 4, 4), UNMASKED, NO_OPTIONS,
                                  [AT_DOUT] = DIMS(2, 2, 4, 4), SAMPLE_IN_END },
      .attrs = &(const attention_attrs){ .scale = 0.5, .temperature = 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_attention_grad = {
    .name = "attention_grad",
    .version = 1,
    .in = attention_grad_in,
    .out = attention_grad_out,
    .attrs_size = sizeof(attention_attrs),
    .fields = heed__attention_fields,
    .infer = attention_grad_infer,
    .decompose = attention_grad_decompose,
    .cpu = heed__attention_grad_cpu,
    .flops = heed__attention_grad_flops,
    .torch = "torch.autograd.grad of scaled_dot_product_attention",
    .samples = attention_grad_samples,
};
