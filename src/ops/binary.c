/* Element-wise ops of two operands of one shape. The node never broadcasts: heed_add and its kin put
 * broadcast nodes before it, which are views with stride 0 and cost nothing, so no gradient here contains
 * a sum.
 *
 *   x, y of one shape and dtype -> the same
 *
 * Integers wrap around. At a tie the gradient of max and min goes half to each side; NaN on either side
 * gives NaN. The helpers of gradients (relu_grad ...) are composites with a row primitive, so that second
 * derivatives exist. */

#include "ops/reference.h"

#include <math.h>

#define SQRT_HALF 0.70710678118654752440
#define ONE_BY_SQRT_TWO_PI 0.39894228040143267794
#define SQRT_TWO_BY_PI 0.79788456080286535588

static const op_slot binary_in[] = {
    { .name = "x", .dtypes = NUMBERS, .flags = DIFFERENTIABLE },
    { .name = "y", .dtypes = NUMBERS, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot binary_float_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "y", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot binary_out[] = { { .name = "z", .same_as = "x" }, SLOT_END };

static const op_sample binary_samples[] = {
    { .in = { DIMS(4, 1000), DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17), DIMS(3, 5, 17) } },
    { .in = { DIMS(7, 33), DIMS(7, 33) }, .scale = 1e4 },
    { .in = { SCALAR(), SCALAR() } },
    { .in = { DIMS(0, 4), DIMS(0, 4) } },
    { .in = { INDEX(50, 9), INDEX(20, 9) } },
    { .in = { DIMS(3), DIMS(4) }, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(3), INDEX(9, 3) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample binary_div_samples[] = {
    { .in = { DIMS(4, 1000), FILLED(FILL_POSITIVE, 4, 1000) } },
    { .in = { DIMS(3, 5, 17), FILLED(FILL_POSITIVE, 3, 5, 17) } },
    { .in = { DIMS(7, 33), FILLED(FILL_POSITIVE, 7, 33) }, .scale = 1e4 },
    { .in = { DIMS(2, 0), DIMS(2, 0) } },
    { .in = { INDEX(50, 9), INDEX(20, 9) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample binary_pow_samples[] = {
    { .in = { FILLED(FILL_POSITIVE, 4, 1000), DIMS(4, 1000) } },
    { .in = { FILLED(FILL_POSITIVE, 3, 5, 17), DIMS(3, 5, 17) } },
    { .in = { FILLED(FILL_POSITIVE, 7, 3), FILLED(FILL_UNIT, 7, 3) } },
    { .in = { DIMS(2, 0), DIMS(2, 0) } },
    { .in = { DIMS(2, 3), DIMS(3, 2) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

static heed_status binary_infer(op_infer *t)
{
    if (!heed_type_equal(&t->in[0], &t->in[1]))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "both sides must have the same sizes here; heed_%s broadcasts them", t->op);
    return HEED_OK;
}

static heed_value binary_node(heed_builder *b, const op_def *op, heed_value x, heed_value y)
{
    if (!heed__broadcast_pair(b, &x, &y))
        return (heed_value){ 0 };
    return heed__node(b, op, NULL, (heed_value[]){ x, y }, 2);
}

#define BINARY_ROWS(name, row)                                                                               \
    static void binary_##name##_rows(const op_call *c, int64_t begin, int64_t end)                           \
    {                                                                                                        \
        heed__binary_rows(c, begin, end, row);                                                               \
    }

/* name, row primitive, integer formula's function or NULL, slots, samples, formula, d_x, d_y, ONNX name
 * and opset, PyTorch */
#define BINARY_OP(op_name, row, whole, slots, some, formula_, dx, dy_, onnx_, since, torch_)                 \
    FORMULA_F64(binary_##op_name##_f64, 2, formula_)                                                         \
    BINARY_ROWS(op_name, row)                                                                                \
    static void binary_##op_name##_reference(const op_call *c, int64_t begin, int64_t end)                   \
    {                                                                                                        \
        heed__reference(c, begin, end, &(formula){ .f64 = binary_##op_name##_f64, .i64 = whole });           \
    }                                                                                                        \
    static void binary_##op_name##_grad(op_grad *g)                                                          \
    {                                                                                                        \
        heed_builder *b = g->b;                                                                              \
        heed_value x = g->in[0], y = g->in[1], z = g->out[0], dz = g->dout[0];                               \
                                                                                                             \
        (void)b;                                                                                             \
        (void)x;                                                                                             \
        (void)y;                                                                                             \
        (void)z;                                                                                             \
        if (g->need[0])                                                                                      \
            g->din[0] = (dx);                                                                                \
        if (g->need[1])                                                                                      \
            g->din[1] = (dy_);                                                                               \
    }                                                                                                        \
    static const op_kernel binary_##op_name##_cpu[] = {                                                      \
        ROWS_KERNEL(binary_##op_name##_rows),                                                                \
        REFERENCE_KERNEL(binary_##op_name##_reference),                                                      \
        KERNEL_END,                                                                                          \
    };                                                                                                       \
    heed_value heed_##op_name(heed_builder *b, heed_value x, heed_value y)                                   \
    {                                                                                                        \
        return binary_node(b, &heed__op_##op_name, x, y);                                                    \
    }                                                                                                        \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = slots, .out = binary_out, .flags = OP_IN_PLACE | OP_STRETCHES, \
        .infer = binary_infer, .grad = binary_##op_name##_grad, .cpu = binary_##op_name##_cpu,               \
        .onnx = { onnx_, since }, .torch = torch_, .samples = some,                                          \
    };
#define BINARY(name, row, formula_, whole, dx, dy_, onnx_, since, torch_)                                    \
    FORMULA_I64(binary_##name##_i64, 2, whole)                                                               \
    BINARY_OP(name, row, binary_##name##_i64, binary_in, binary_samples, formula_, dx, dy_, onnx_, since,    \
              torch_)
#define BINARY_FLOAT(name, row, some, formula_, dx, dy_, onnx_, since, torch_)                               \
    BINARY_OP(name, row, NULL, binary_float_in, some, formula_, dx, dy_, onnx_, since, torch_)

static heed_value binary_zeros_like(heed_builder *b, heed_value x)
{
    heed_type t = heed_value_type(b, x);
    return heed__zeros(b, &t);
}

/* dz where a < b, half of it where they are equal, else 0. */
static heed_value binary_where_less(heed_builder *b, heed_value dz, heed_value x, heed_value y)
{
    heed_value half = heed_mul_scalar(b, dz, 0.5);
    heed_value rest = heed_select(b, heed_eq(b, x, y), half, binary_zeros_like(b, dz));

    return heed_select(b, heed_lt(b, x, y), dz, rest);
}

/* d_x = dz y x^(y-1), and 0 where y = 0 even at x = 0. */
static heed_value binary_pow_dx(heed_builder *b, heed_value x, heed_value y, heed_value dz)
{
    heed_value zero = binary_zeros_like(b, y);
    heed_value slope = heed_mul(b, y, heed_pow(b, x, heed_add_scalar(b, y, -1)));

    return heed_mul(b, dz, heed_select(b, heed_eq(b, y, zero), zero, slope));
}

/* d_y = dz z ln x, and 0 where 0^y = 0 or 1. */
static heed_value binary_pow_dy(heed_builder *b, heed_value x, heed_value y, heed_value z, heed_value dz)
{
    heed_value zero = binary_zeros_like(b, x);
    heed_value flat = heed_and(b, heed_eq(b, x, zero), heed_ge(b, y, zero));

    return heed_mul(b, dz, heed_select(b, flat, zero, heed_mul(b, z, heed_log(b, x))));
}

BINARY(add, ROW_ADD, x + y, WRAP(x, +, y), dz, dz, "Add", 14, "x + y")
BINARY(sub, ROW_SUB, x - y, WRAP(x, -, y), dz, heed_neg(b, dz), "Sub", 14, "x - y")
BINARY(mul, ROW_MUL, x * y, WRAP(x, *, y), heed_mul(b, dz, y), heed_mul(b, dz, x), "Mul", 14, "x * y")
BINARY_FLOAT(div, ROW_DIV, binary_div_samples, x / y, heed_div(b, dz, y),
             heed_neg(b, heed_div(b, heed_mul(b, dz, z), y)), "Div", 14, "x / y")
BINARY_FLOAT(pow, ROW_POW, binary_pow_samples, pow(x, y), binary_pow_dx(b, x, y, dz),
             binary_pow_dy(b, x, y, z, dz),
             "Pow", 15, "x ** y")
BINARY(max, ROW_MAX, x > y || x != x ? x : y, x > y ? x : y, binary_where_less(b, dz, y, x),
       binary_where_less(b, dz, x, y), "Max", 13, "torch.maximum(x, y)")
BINARY(min, ROW_MIN, x < y || x != x ? x : y, x < y ? x : y, binary_where_less(b, dz, x, y),
       binary_where_less(b, dz, y, x), "Min", 13, "torch.minimum(x, y)")

heed_value heed_add_scalar(heed_builder *b, heed_value x, double y)
{
    return heed_add(b, x, heed_scalar(b, heed_value_type(b, x).dtype, y));
}

heed_value heed_mul_scalar(heed_builder *b, heed_value x, double y)
{
    return heed_mul(b, x, heed_scalar(b, heed_value_type(b, x).dtype, y));
}

static bool binary_is(double a, double b)
{
    return !(a < b) && !(a > b);
}

heed_value heed_pow_scalar(heed_builder *b, heed_value x, double y)
{
    if (binary_is(y, 2))
        return heed_mul(b, x, x);
    if (binary_is(y, 0.5))
        return heed_sqrt(b, x);
    return heed_pow(b, x, heed_scalar(b, heed_value_type(b, x).dtype, y));
}

/* ---- parts of gradients ---- */

static const op_slot slope_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_sample slope_samples[] = {
    { .in = { DIMS(4, 1000), DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17), DIMS(3, 5, 17) } },
    { .in = { DIMS(0), DIMS(0) } },
    { .in = { DIMS(3), DIMS(4) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

#define SLOPE(op_name, row)                                                                                  \
    BINARY_ROWS(op_name, row)                                                                                \
    static void binary_##op_name##_decompose(op_decompose *d)                                                \
    {                                                                                                        \
        d->out[0] = binary_##op_name##_value(d->b, d->in[0], d->in[1]);                                      \
    }                                                                                                        \
    static const op_kernel binary_##op_name##_cpu[] = { ROWS_KERNEL(binary_##op_name##_rows), KERNEL_END };  \
    heed_value heed__##op_name(heed_builder *b, heed_value x, heed_value dy)                                 \
    {                                                                                                        \
        return heed__node(b, &heed__op_##op_name, NULL, (heed_value[]){ x, dy }, 2);                         \
    }                                                                                                        \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = slope_in, .out = binary_out, .flags = OP_IN_PLACE,             \
        .infer = binary_infer, .decompose = binary_##op_name##_decompose, .cpu = binary_##op_name##_cpu,     \
        .samples = slope_samples,                                                                            \
    };

/* 1 - x */
static heed_value binary_rest(heed_builder *b, heed_value x)
{
    return heed_sub(b, heed_full(b, heed_value_type(b, x), 1), x);
}

/* Of y = relu(x) as well, whose sign is x's. */
static heed_value binary_relu_grad_value(heed_builder *b, heed_value x, heed_value dy)
{
    heed_value zero = binary_zeros_like(b, x);
    return heed_select(b, heed_le(b, x, zero), zero, dy);
}

/* Of the result y = sigmoid(x): y (1 - y). */
static heed_value binary_sigmoid_grad_value(heed_builder *b, heed_value y, heed_value dy)
{
    return heed_mul(b, dy, heed_mul(b, y, binary_rest(b, y)));
}

/* Of the result y = tanh(x): 1 - y^2. */
static heed_value binary_tanh_grad_value(heed_builder *b, heed_value y, heed_value dy)
{
    return heed_mul(b, dy, binary_rest(b, heed_mul(b, y, y)));
}

/* s (1 + x (1 - s)), s = sigmoid(x) */
static heed_value binary_silu_grad_value(heed_builder *b, heed_value x, heed_value dy)
{
    heed_value s = heed_sigmoid(b, x);
    heed_value inner = heed_add_scalar(b, heed_mul(b, x, binary_rest(b, s)), 1);

    return heed_mul(b, dy, heed_mul(b, s, inner));
}

/* Phi(x) + x phi(x) */
static heed_value binary_gelu_grad_value(heed_builder *b, heed_value x, heed_value dy)
{
    heed_value erf = heed_erf(b, heed_mul_scalar(b, x, SQRT_HALF));
    heed_value below = heed_mul_scalar(b, heed_add_scalar(b, erf, 1), 0.5);
    heed_value bell = heed_exp(b, heed_mul_scalar(b, heed_mul(b, x, x), -0.5));
    heed_value density = heed_mul_scalar(b, heed_mul(b, x, bell), ONE_BY_SQRT_TWO_PI);

    return heed_mul(b, dy, heed_add(b, below, density));
}

/* With c = sqrt(2/pi), t = tanh(c (x + 0.044715 x^3)):  (1 + t)/2 + x/2 (1 - t^2) c (1 + 0.134145 x^2) */
static heed_value binary_gelu_tanh_grad_value(heed_builder *b, heed_value x, heed_value dy)
{
    heed_value square = heed_mul(b, x, x);
    heed_value cubic = heed_mul(b, x, heed_add_scalar(b, heed_mul_scalar(b, square, 0.044715), 1));
    heed_value t = heed_tanh(b, heed_mul_scalar(b, cubic, SQRT_TWO_BY_PI));
    heed_value slope = heed_add_scalar(b, heed_mul_scalar(b, square, 0.134145), 1);
    heed_value side = heed_mul(b, heed_mul(b, x, slope), binary_rest(b, heed_mul(b, t, t)));

    side = heed_mul_scalar(b, side, SQRT_TWO_BY_PI);
    return heed_mul(b, dy, heed_mul_scalar(b, heed_add(b, heed_add_scalar(b, t, 1), side), 0.5));
}

SLOPE(relu_grad, ROW_RELU_GRAD)
SLOPE(sigmoid_grad, ROW_SIGMOID_GRAD)
SLOPE(tanh_grad, ROW_TANH_GRAD)
SLOPE(silu_grad, ROW_SILU_GRAD)
SLOPE(gelu_grad, ROW_GELU_GRAD)
SLOPE(gelu_tanh_grad, ROW_GELU_TANH_GRAD)
