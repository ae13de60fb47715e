/* Activations without a kernel of their own: compositions, chosen so that value and gradient are finite at
 * any finite x.
 *
 * What a branch does not take still runs, and 0 times infinity is NaN: so exp and its like only ever see
 * the safe side. At the kinks the derivative is PyTorch's. */

#include "ops/ops.h"

static const op_slot activation_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot activation_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    double slope; /* alpha of ELU */
} activation_attrs;
static const op_field activation_fields[] = { FIELD_F64(activation_attrs, slope), FIELD_END };

static heed_value activation_number(op_decompose *d, double value)
{
    return heed_scalar(d->b, heed_value_type(d->b, d->in[0]).dtype, value);
}

/* x > 0 ? x : alpha (e^x - 1). Clevert 2016. */
static void activation_elu(op_decompose *d)
{
    const activation_attrs *a = d->attrs;
    heed_value positive = heed_lt(d->b, activation_number(d, 0), d->in[0]);
    heed_value e = heed_exp(d->b, heed_select(d->b, positive, activation_number(d, 0), d->in[0]));
    heed_value below = heed_mul_scalar(d->b, heed_add_scalar(d->b, e, -1), a->slope);

    d->out[0] = heed_select(d->b, positive, d->in[0], below);
}

/* x > 0 ? x : slope x. Maas 2013. */
static void activation_leaky_relu(op_decompose *d)
{
    const activation_attrs *a = d->attrs;
    heed_value positive = heed_lt(d->b, activation_number(d, 0), d->in[0]);

    d->out[0] = heed_select(d->b, positive, d->in[0], heed_mul_scalar(d->b, d->in[0], a->slope));
}

/* 0 below -3, x above 3, x (x + 3) / 6 between. Howard 2019. */
static void activation_hardswish(op_decompose *d)
{
    heed_value x = d->in[0];
    heed_value low = heed_lt(d->b, x, activation_number(d, -3)),
        high = heed_lt(d->b, activation_number(d, 3), x);
    heed_value middle = heed_mul_scalar(d->b, heed_mul(d->b, x, heed_add_scalar(d->b, x, 3)), 1.0 / 6);

    d->out[0] = heed_select(d->b, low, activation_number(d, 0), heed_select(d->b, high, x, middle));
}

/* x tanh(ln(1 + e^x)). Misra 2020. */
static void activation_mish(op_decompose *d)
{
    d->out[0] = heed_mul(d->b, d->in[0], heed_tanh(d->b, heed_softplus(d->b, d->in[0])));
}

static const op_sample activation_samples[] = {
    { .in = { DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17) }, .scale = 1e4 },
    { .in = { DIMS(33) } },
    { .in = { DIMS(3, 0) } },
    { .in = { MASK(5) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample activation_slope_samples[] = {
    { .in = { DIMS(4, 1000) }, .attrs = &(const activation_attrs){ 1 } },
    { .in = { DIMS(3, 5, 17) }, .attrs = &(const activation_attrs){ 0.01 }, .scale = 1e4 },
    { .in = { DIMS(33) }, .attrs = &(const activation_attrs){ 0.2 } },
    { .in = { DIMS(3, 0) }, .attrs = &(const activation_attrs){ 1 } },
    { .in = { MASK(5) }, .attrs = &(const activation_attrs){ 1 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_elu(heed_builder *b, heed_value x, double alpha)
{
    return heed__node(b, &heed__op_elu, &(activation_attrs){ alpha }, &x, 1);
}

heed_value heed_leaky_relu(heed_builder *b, heed_value x, double slope)
{
    return heed__node(b, &heed__op_leaky_relu, &(activation_attrs){ slope }, &x, 1);
}

heed_value heed_hardswish(heed_builder *b, heed_value x)
{
    return heed__node(b, &heed__op_hardswish, NULL, &x, 1);
}

heed_value heed_mish(heed_builder *b, heed_value x)
{
    return heed__node(b, &heed__op_mish, NULL, &x, 1);
}

heed_value heed_glu(heed_builder *b, heed_value x, int axis)
{
    const int at = heed__axis(b, x, axis);
    const int64_t size = heed_dim(b, x, at);

    if (size % 2 != 0)
        return heed__poison(b, HEED_ERR_SHAPE, "glu: axis %d has size %lld, which has no half", axis,
                            (long long)size);
    return heed_mul(b, heed_slice(b, x, at, 0, size / 2, 1),
                    heed_sigmoid(b, heed_slice(b, x, at, size / 2, size, 1)));
}

/* Elu and LeakyRelu call it alpha. */
static void activation_onnx(onnx_emit *e)
{
    heed__onnx_node(
        e, (onnx_attr[]){ ONNX_FLOAT("alpha", ((const activation_attrs *)e->attrs)->slope), ONNX_END });
}

const op_def heed__op_elu = {
    .name = "elu", .version = 1, .in = activation_in, .out = activation_out,
    .attrs_size = sizeof(activation_attrs),
    .fields = activation_fields, .decompose = activation_elu, .onnx = { "Elu", 6 },
    .onnx_emit = activation_onnx,
    .torch = "F.elu(x, {slope})",
    .samples = activation_slope_samples,
};
const op_def heed__op_leaky_relu = {
    .name = "leaky_relu", .version = 1, .in = activation_in, .out = activation_out,
    .attrs_size = sizeof(activation_attrs),
    .fields = activation_fields, .decompose = activation_leaky_relu, .onnx = { "LeakyRelu", 6 },
    .onnx_emit = activation_onnx,
    .torch = "F.leaky_relu(x, {slope})", .samples = activation_slope_samples,
};
const op_def heed__op_hardswish = {
    .name = "hardswish", .version = 1, .in = activation_in, .out = activation_out,
    .decompose = activation_hardswish,
    .onnx = { "HardSwish", 14 }, .torch = "F.hardswish(x)", .samples = activation_samples,
};
const op_def heed__op_mish = {
    .name = "mish", .version = 1, .in = activation_in, .out = activation_out, .decompose = activation_mish,
    .onnx = { "Mish", 18 }, .torch = "F.mish(x)", .samples = activation_samples,
};
