/* linear_attention_grad: dq, dk and dv of linear_attention from dout and dweights, each of which may be absent. Its meaning is
 * the derivative of the composition; the kernel serves dout alone and keeps nothing of size T x T. */

#include "attention/compose.h"

static const op_slot linear_attention_grad_in[] = {
    LINEAR_SLOTS,
    { .name = "dout", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "dweights", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    SLOT_END,
};
static const op_slot linear_attention_grad_out[] = {
    { .name = "dq" }, { .name = "dk" }, { .name = "dv" }, SLOT_END
};

static heed_status linear_attention_grad_infer(op_infer *t)
{
    op_infer shared = *t; /* behind them attention has other inputs */

    shared.n_in = t->n_in < LINEAR_INPUTS ? t->n_in : LINEAR_INPUTS;
    TRY(heed__attention_check(&shared));
    for (int slot = LINEAR_DOUT; slot < LINEAR_GRAD_INPUTS; slot++) {
        heed_type want = t->in[AT_Q];

        if (!heed__given(t, slot))
            continue;
        want.dims[3] = slot == LINEAR_DOUT ? t->in[AT_V].dims[3] : t->in[AT_K].dims[2];
        want.dtype = t->in[slot].dtype;
        if (!heed_type_equal(&t->in[slot], &want))
            return heed__refuse(t, HEED_ERR_SHAPE, "%s does not have the sizes that linear_attention gives",
                                linear_attention_grad_in[slot].name);
    }
    for (int i = AT_Q; i <= AT_V; i++)
        t->out[i] = t->in[i];
    return HEED_OK;
}

static void linear_attention_grad_decompose(op_decompose *d)
{
    heed_builder *b = d->b;
    heed_value in[LINEAR_INPUTS] = { { 0 } }, out[2], y[2], dy[2];
    int n = 0;

    for (int i = 0; i < LINEAR_INPUTS && i < d->n_in; i++)
        in[i] = i <= AT_V ? heed__attention_alias(b, d->in[i]) : d->in[i];
    heed__linear_compose(b, d->attrs, in, LINEAR_INPUTS, out);
    for (int i = 0; i < 2; i++)
        if (LINEAR_DOUT + i < d->n_in && d->in[LINEAR_DOUT + i].id) {
            y[n] = out[i];
            dy[n++] = heed__as(b, d->in[LINEAR_DOUT + i], heed_value_type(b, out[i]).dtype);
        }
    heed_grad_of(b, y, dy, n, in, 3, d->out);
}

#define LINEAR(b, hq, hk, tq, tk, d, dv) DIMS(b, hq, tq, d), DIMS(b, hk, tk, d), DIMS(b, hk, tk, dv)
static const op_sample linear_attention_grad_samples[] = {
    { .in = { LINEAR(2, 2, 1, 5, 7, 4, 3), ABSENT(), ABSENT(), ABSENT(), DIMS(2, 2, 5, 3) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1 } },
    { .in = { LINEAR(2, 2, 2, 5, 7, 4, 3), LENGTHS(7, 2), LENGTHS(5, 2), LENGTHS(4, 2), DIMS(2, 2, 5, 3) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1, .causal = true } },
    { .in = { LINEAR(1, 2, 1, 90, 150, 17, 9), ABSENT(), ABSENT(), ABSENT(), DIMS(1, 2, 90, 9) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1, .causal = true, .offset = 60 },
      .no_numeric = true }, /* several tiles: too slow in f64 */
    { .in = { LINEAR(2, 2, 1, 5, 7, 4, 3), ABSENT(), ABSENT(), ABSENT(), DIMS(2, 2, 5, 4) },
      .attrs = &(const attention_attrs){ .scale = 1, .temperature = 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_linear_attention_grad = {
    .name = "linear_attention_grad",
    .version = 1,
    .in = linear_attention_grad_in,
    .out = linear_attention_grad_out,
    .attrs_size = sizeof(attention_attrs),
    .fields = heed__attention_fields,
    .infer = linear_attention_grad_infer,
    .decompose = linear_attention_grad_decompose,
    .cpu = heed__linear_attention_grad_cpu,
    .flops = heed__linear_attention_grad_flops,
    .torch = "torch.autograd.grad of phi(q) @ (phi(k).mT @ v) / sum",
    .samples = linear_attention_grad_samples,
};
