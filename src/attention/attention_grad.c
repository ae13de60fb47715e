/* attention_grad: what attention hands back, computed again from lse instead of stored weights.
 *
 *   p   = e^(z - lse) over kept keys                      the weights
 *   dz  = p ((dropped (dout v^T) - sum_d dout out) + (dweights - sum_j p dweights) + dlse)
 *   dq  = scale dz k,   dk = scale dz^T q,   dv = dropped p^T dout;   key heads sum over their query heads
 *
 * from dz = p (dp - sum_j p dp + dlse), because sum_j p dropped(dout v^T)_j = dout . out: so no row of
 * weights is needed at once (Dao 2022, section 3.1). The brackets keep small terms beside large ones. Any
 * of dout, dlse and dweights may be absent. A row that keeps nothing has p = 0, and its dlse does not
 * count. With the decomposition below, gradients of gradients follow. */

#include "attention/attention.h"

#include <math.h>

static const op_slot attention_grad_in[] = {
    ATTENTION_SLOTS,
    { .name = "out", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "q" },
    { .name = "lse", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "dout", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "q" },
    { .name = "dlse", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "lse" },
    { .name = "dweights", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "q" },
    SLOT_END,
};
static const op_slot attention_grad_out[] = { { .name = "dq", .same_as = "q" },
                                              { .name = "dk", .same_as = "k" },
                                              { .name = "dv", .same_as = "v" },
                                              SLOT_END };

static heed_status attention_grad_infer(op_infer *t)
{
    heed_type out = t->in[AT_Q], weights = t->in[AT_Q];
    const heed_type a_row = heed__attention_row_type(&t->in[AT_Q]);

    TRY(heed__attention_check(t));
    out.dims[3] = t->in[AT_V].dims[3];
    weights.dims[3] = t->in[AT_K].dims[2];
    for (int slot = AT_OUT; slot < AT_GRAD_INPUTS; slot++) {
        heed_type want = slot == AT_LSE || slot == AT_DLSE ? a_row : slot == AT_DWEIGHTS ? weights : out;

        if (!heed__given(t, slot))
            continue;
        want.dtype = t->in[slot].dtype;
        if (!heed_type_equal(&t->in[slot], &want))
            return heed__refuse(t, HEED_ERR_SHAPE, "%s does not have the sizes that attention gives",
                                attention_grad_in[slot].name);
    }
    return HEED_OK;
}

/* Key heads: the sum over the query heads of each. */
static heed_value attention_grad_group(heed_builder *b, heed_value x, const heed_type *type)
{
    const heed_type t = heed_value_type(b, x);
    const int64_t heads = type->dims[1];

    if (t.dims[1] != heads) {
        x = heed_reshape(b, x, 5,
                         (const int64_t[]){ t.dims[0], heads, t.dims[1] / heads, t.dims[2], t.dims[3] });
        x = heed_sum(b, x, 1u << 2, HEED_DROP_AXES);
    }
    return heed__as(b, x, type->dtype);
}

static heed_value attention_grad_sum(heed_builder *b, heed_value x, heed_value y)
{
    return x.id && y.id ? heed_add(b, x, y) : x.id ? x : y;
}

static heed_value attention_grad_input(const op_decompose *d, int slot, heed_dtype dtype)
{
    return slot < d->n_in && d->in[slot].id ? heed__as(d->b, d->in[slot], dtype) : (heed_value){ 0 };
}

/* sum_d dout out as products of 1 x Dv by Dv x 1: the chain that makes dp. Where one weight is 1, out is v,
 * so this is dp to the bit and the gradient exactly 0 however large v is. */
static heed_value attention_grad_dot(heed_builder *b, heed_value dout, heed_value out)
{
    return heed_squeeze(b, heed_matmul(b, heed_unsqueeze(b, dout, 3), heed_unsqueeze(b, out, 4)), 4);
}

static void attention_grad_decompose(op_decompose *d)
{
    const attention_attrs *a = d->attrs;
    heed_builder *b = d->b;
    const attention_parts p = heed__attention_parts(d);
    const heed_value dweights = attention_grad_input(d, AT_DWEIGHTS, p.dtype);
    heed_value dout = attention_grad_input(d, AT_DOUT, p.dtype),
               dlse = attention_grad_input(d, AT_DLSE, p.dtype);
    heed_value lse, none, w, dz = { 0 };

    if (p.z.id == 0 || !(dout.id || dlse.id || dweights.id)) {
        d->out[AT_DQ] = heed__zeros(b, &p.q_type);
        d->out[AT_DK] = heed__zeros(b, &p.k_type);
        d->out[AT_DV] = heed__zeros(b, &p.v_type);
        return;
    }
    lse = heed_unsqueeze(b, attention_grad_input(d, AT_LSE, p.dtype), 3);
    none = heed_eq(b, lse, heed_scalar(b, p.dtype, -INFINITY));
    w = heed_exp(b, heed_sub(b, p.z, heed_select(b, none, heed_scalar(b, p.dtype, 0), lse)));
    if (dout.id) {
        dout = heed__attention_rows(b, &p, dout);
        dz = heed_sub(b, heed__attention_dropout(d, heed_matmul(b, dout, heed_transpose(b, p.v, 2, 3))),
                      attention_grad_dot(b, dout, attention_grad_input(d, AT_OUT, p.dtype)));
    }
    if (dweights.id)
        dz = attention_grad_sum(b, dz, heed_sub(b, dweights, heed__sum_axis(b, heed_mul(b, w, dweights), 3)));
    if (dlse.id)
        dz = attention_grad_sum(b, dz,
                                heed_select(b, none, heed_scalar(b, p.dtype, 0), heed_unsqueeze(b, dlse, 3)));
    dz = heed_mul_scalar(b, heed_mul(b, w, dz), a->scale);
    d->out[AT_DQ] = heed__as(b, heed_matmul(b, dz, p.k), p.q_type.dtype);
    d->out[AT_DK] = attention_grad_group(b, heed_matmul(b, heed_transpose(b, dz, 2, 3), p.q), &p.k_type);
    d->out[AT_DV] = heed__zeros(b, &p.v_type);
    if (dout.id)
        d->out[AT_DV] = attention_grad_group(
            b, heed_matmul(b, heed_transpose(b, heed__attention_dropout(d, w), 2, 3), dout), &p.v_type);
}

#define PLAIN                                                                                                \
    {                                                                                                        \
        .scale = 0.5                                                                                         \
    }
#define BARE ABSENT(), ABSENT(), ABSENT(), ABSENT()
static const op_sample attention_grad_samples[] = {
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 2, 7, 4), DIMS(2, 2, 7, 4), BARE, ABSENT(), DIMS(2, 2, 5, 4),
              FILLED(FILL_POSITIVE, 2, 2, 5), DIMS(2, 2, 5, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(2, 4, 3, 5), DIMS(2, 2, 6, 5), DIMS(2, 2, 6, 3), LENGTHS(6, 2), LENGTHS(3, 2),
              MASK(2, 1, 3, 6), ABSENT(), ABSENT(), DIMS(2, 4, 3, 3), FILLED(FILL_POSITIVE, 2, 4, 3),
              DIMS(2, 4, 3, 3), DIMS(2, 4, 3) },
      .attrs = &(const attention_attrs){ .scale = 0.4, .causal = true, .offset = 3 } },
    { .in = { DIMS(1, 2, 4, 4), DIMS(1, 1, 9, 4), DIMS(1, 1, 9, 4), BARE, RNG(), DIMS(1, 2, 4, 4),
              FILLED(FILL_POSITIVE, 1, 2, 4), DIMS(1, 2, 4, 4) },
      .attrs = &(const attention_attrs){ .scale = 0.5, .dropout = 0.3, .node = 7 } },
    { .in = { DIMS(2, 1, 3, 4), DIMS(2, 1, 4, 4), DIMS(2, 1, 4, 4), BARE, ABSENT(), DIMS(2, 1, 3, 4),
              FILLED(FILL_POSITIVE, 2, 1, 3), ABSENT(), DIMS(2, 1, 3), DIMS(2, 1, 3, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(1, 2, 131, 16), DIMS(1, 1, 150, 16), DIMS(1, 1, 150, 20), BARE, ABSENT(),
              DIMS(1, 2, 131, 20), FILLED(FILL_POSITIVE, 1, 2, 131), DIMS(1, 2, 131, 20) },
      .attrs = &(const attention_attrs){ .scale = 0.25, .causal = true, .offset = 19 },
      .no_numeric = true }, /* several tiles: too slow in f64 */
    { .in = { DIMS(1, 1, 30, 72), DIMS(1, 1, 67, 72), DIMS(1, 1, 67, 65), LENGTHS(67, 1), ABSENT(), ABSENT(),
              ABSENT(), ABSENT(), DIMS(1, 1, 30, 65), FILLED(FILL_POSITIVE, 1, 1, 30), DIMS(1, 1, 30, 65) },
      .attrs = &(const attention_attrs){ .scale = 0.1 },
      .no_numeric = true }, /* wide heads: likewise */
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 0, 4), DIMS(2, 2, 0, 4), BARE, ABSENT(), DIMS(2, 2, 3, 4),
              DIMS(2, 2, 3), DIMS(2, 2, 3, 4) },
      .attrs = &(const attention_attrs)PLAIN },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 2, 7, 4), DIMS(2, 2, 7, 4), BARE, ABSENT(), DIMS(2, 2, 5, 4),
              DIMS(2, 2, 4), DIMS(2, 2, 5, 4) },
      .attrs = &(const attention_attrs)PLAIN,
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
