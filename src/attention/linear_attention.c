/* linear_attention: w_ij = phi(q_i).phi(k_j) / sum over kept keys, phi(x) = elu(x) + 1; out = w v.
 *
 *   q [B,Hq,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv]  ->  out [B,Hq,Tq,Dv], weights [B,Hq,Tq,Tk]
 *
 * Keys are kept by lengths, and by causality j <= i + offset; a denominator of 0 gives 0. The composition below makes the weights,
 * T x T; where nobody asks for them, the kernel keeps the sums sum_j phi(k_j) v_j^T instead, and the cost grows with T:
 * Katharopoulos 2020. */

#include "attention/compose.h"

static const op_slot linear_attention_in[] = { LINEAR_SLOTS, SLOT_END };
static const op_slot linear_attention_out[] = { { .name = "out" }, { .name = "weights" }, SLOT_END };

static heed_status linear_attention_infer(op_infer *t)
{
    TRY(heed__attention_check(t));
    t->out[0] = t->out[1] = t->in[AT_Q];
    t->out[0].dims[3] = t->in[AT_V].dims[3];
    t->out[1].dims[3] = t->in[AT_K].dims[2];
    return HEED_OK;
}

/* elu(x) + 1 = x + 1 above 0, else e^x: the sum would lose all of a small e^x, and phi cancels between w and its denominator. */
static heed_value phi(heed_builder *b, heed_value x)
{
    const heed_value zero = heed_scalar(b, heed_value_type(b, x).dtype, 0), above = heed_gt(b, x, zero);

    return heed_select(b, above, heed_add_scalar(b, x, 1), heed_exp(b, heed_select(b, above, zero, x)));
}

void heed__linear_compose(heed_builder *b, const attention_attrs *a, const heed_value *in, int n,
                          heed_value out[2])
{
    const attention_parts p = heed__attention_parts(b, a, in, n);
    const heed_dtype dtype = heed_value_type(b, in[AT_Q]).dtype;
    const heed_value zero = heed_scalar(b, p.dtype, 0), one = heed_scalar(b, p.dtype, 1);
    heed_value w = heed_matmul(b, phi(b, p.in[AT_Q]), heed_transpose(b, phi(b, p.in[AT_K]), 2, 3)), sum;

    w = heed__zero_unless(b, p.keep, w);
    sum = heed__sum_axis(b, w, 3);
    w = heed_div(b, w, heed_select(b, heed_gt(b, sum, zero), sum, one));
    out[0] = heed__as(b, heed__zero_unless(b, p.rows, heed_matmul(b, w, p.in[AT_V])), dtype);
    out[1] = heed__as(b, w, dtype);
}

static void linear_attention_decompose(op_decompose *d)
{
    heed_value out[2];

    heed__linear_compose(d->b, d->attrs, d->in, LINEAR_INPUTS < d->n_in ? LINEAR_INPUTS : d->n_in, out);
    d->out[0] = out[0];
    d->out[1] = out[1];
}

static void linear_attention_gradient(op_grad *g)
{
    heed_value in[LINEAR_GRAD_INPUTS] = { { 0 } };

    for (int i = 0; i < g->n_in; i++)
        in[i] = g->in[i];
    in[LINEAR_DOUT] = g->dout[0];
    in[LINEAR_DWEIGHTS] = g->dout[1];
    heed__nodes(g->b, &heed__op_linear_attention_grad, g->attrs, in, LINEAR_GRAD_INPUTS, g->din);
}

heed_value heed__linear_attention(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS],
                                  heed_value *weights)
{
    heed_value out[2];

    heed__nodes(b, &heed__op_linear_attention, a, in, LINEAR_INPUTS, out);
    *weights = out[1];
    return out[0];
}

static const op_sample linear_attention_samples[] = {
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 7, 4), DIMS(2, 1, 7, 3) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1 } },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 7, 4), DIMS(2, 1, 7, 3), LENGTHS(7, 2), LENGTHS(5, 2) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1, .causal = true, .offset = 2 } },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 0, 4), DIMS(2, 1, 0, 3) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1 } },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 7, 3), DIMS(2, 1, 7, 3) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_linear_attention = {
    .name = "linear_attention",
    .version = 1,
    .in = linear_attention_in,
    .out = linear_attention_out,
    .attrs_size = sizeof(attention_attrs),
    .fields = heed__attention_fields,
    .infer = linear_attention_infer,
    .grad = linear_attention_gradient,
    .decompose = linear_attention_decompose,
    .cpu = heed__linear_attention_cpu,
    .flops = heed__linear_attention_flops,
    .torch = "phi(q) @ (phi(k).mT @ v) / sum",
    .samples = linear_attention_samples,
};
