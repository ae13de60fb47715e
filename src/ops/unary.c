/* Element-wise ops of one operand: y = f(x). A row of this file is an op: its row primitive, its formula
 * and its derivative.
 *
 *   x of any shape -> y, same shape and dtype
 *
 * UNARY rows are primitives; UNARY_SIGNED ones know i64 and i32 too, where negation wraps around. FUSED
 * rows are composites that decompose into primitives and have a row primitive of their own: their formulas
 * are chosen so that neither value nor gradient overflows at any finite x. Where the gradient needs y
 * only, x may be overwritten. */

#include "ops/reference.h"

#include <math.h>

#define SQRT_HALF 0.70710678118654752440
#define TWO_BY_SQRT_PI 1.12837916709551257390
#define SQRT_TWO_BY_PI 0.79788456080286535588

static const op_slot unary_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot unary_signed_in[] = {
    { .name = "x", .dtypes = FLOATS | I64_ONLY | DTYPE_BIT(HEED_I32), .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot unary_bool_in[] = { { .name = "x", .dtypes = BOOLS }, SLOT_END };
static const op_slot unary_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

static const op_sample unary_samples[] = {
    { .in = { DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17) } },
    { .in = { DIMS(33, 7) }, .scale = 1e4 },
    { .in = { SCALAR() } },
    { .in = { DIMS(3, 0) } },
    { .in = { MASK(5) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample unary_exp_samples[] = {
    { .in = { DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17) } },
    { .in = { DIMS(33, 7) }, .scale = 10 }, /* 1e4 would be infinite in every dtype */
    { .in = { DIMS(0) } },
    { .in = { INDEX(9, 5) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample unary_positive_samples[] = {
    { .in = { FILLED(FILL_POSITIVE, 4, 1000) } },
    { .in = { FILLED(FILL_POSITIVE, 3, 5, 17) } },
    { .in = { FILLED(FILL_POSITIVE, 33, 7) }, .scale = 1e4 },
    { .in = { FILLED(FILL_POSITIVE, 0, 2) } },
    { .in = { INDEX(9, 5) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample unary_bool_samples[] = {
    { .in = { MASK(4, 1000) } },
    { .in = { MASK(3, 5, 17) } },
    { .in = { MASK(3, 0) } },
    { .in = { DIMS(3) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

#define UNARY_KERNELS(name, row)                                                                             \
    static void unary_##name##_rows(const op_call *c, int64_t begin, int64_t end)                            \
    {                                                                                                        \
        heed__unary_rows(c, begin, end, row);                                                                \
    }
#define UNARY_REFERENCE(name, whole)                                                                         \
    static void unary_##name##_reference(const op_call *c, int64_t begin, int64_t end)                       \
    {                                                                                                        \
        heed__reference(c, begin, end, &(formula){ .f64 = unary_##name##_f64, .i64 = whole });               \
    }
#define UNARY_GRAD(name, dx)                                                                                 \
    static void unary_##name##_grad(op_grad *g)                                                              \
    {                                                                                                        \
        heed_builder *b = g->b;                                                                              \
        heed_value x = g->in[0], y = g->out[0], dy = g->dout[0];                                             \
                                                                                                             \
        (void)x;                                                                                             \
        (void)y;                                                                                             \
        g->din[0] = (dx);                                                                                    \
    }
#define UNARY_BUILDER(name)                                                                                  \
    heed_value heed_##name(heed_builder *b, heed_value x)                                                    \
    {                                                                                                        \
        return heed__node(b, &heed__op_##name, NULL, &x, 1);                                                 \
    }

/* name, row primitive, integer formula's function or NULL, slots, samples, formula, d_x, ONNX name and
 * opset */
#define UNARY_OP(op_name, row, whole, slots, some, formula_, dx, onnx_, since)                               \
    FORMULA_F64(unary_##op_name##_f64, 1, formula_)                                                          \
    UNARY_KERNELS(op_name, row)                                                                              \
    UNARY_REFERENCE(op_name, whole)                                                                          \
    UNARY_GRAD(op_name, dx)                                                                                  \
    UNARY_BUILDER(op_name)                                                                                   \
    static const op_kernel unary_##op_name##_cpu[] = {                                                       \
        ROWS_KERNEL(unary_##op_name##_rows),                                                                 \
        REFERENCE_KERNEL(unary_##op_name##_reference),                                                       \
        KERNEL_END,                                                                                          \
    };                                                                                                       \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = slots, .out = unary_out, .flags = OP_IN_PLACE,                 \
        .grad = unary_##op_name##_grad, .cpu = unary_##op_name##_cpu, .onnx = { onnx_, since },              \
        .torch = "torch." #op_name "(x)", .samples = some,                                                   \
    };
#define UNARY(name, row, some, formula_, dx, onnx_, since)                                                   \
    UNARY_OP(name, row, NULL, unary_in, some, formula_, dx, onnx_, since)
#define UNARY_SIGNED(name, row, formula_, whole, dx, onnx_, since)                                           \
    FORMULA_I64(unary_##name##_i64, 1, whole)                                                                \
    UNARY_OP(name, row, unary_##name##_i64, unary_signed_in, unary_samples, formula_, dx, onnx_, since)

/* dy where x > 0, -dy where x < 0, 0 at 0. */
static heed_value unary_times_sign(heed_builder *b, heed_value dy, heed_value x)
{
    heed_type t = heed_value_type(b, x);
    heed_value zero = heed__zeros(b, &t);

    return heed_select(b, heed_lt(b, x, zero), heed_neg(b, dy),
                       heed_select(b, heed_eq(b, x, zero), zero, dy));
}

static heed_value unary_erf_slope(heed_builder *b, heed_value x)
{
    return heed_mul_scalar(b, heed_exp(b, heed_neg(b, heed_mul(b, x, x))), TWO_BY_SQRT_PI);
}

UNARY_SIGNED(neg, ROW_NEG, -x, WRAP(0, -, x), heed_neg(b, dy), "Neg", 13)
UNARY_SIGNED(abs, ROW_ABS, fabs(x), x < 0 ? WRAP(0, -, x) : x, unary_times_sign(b, dy, x), "Abs", 13)
UNARY(exp, ROW_EXP, unary_exp_samples, exp(x), heed_mul(b, dy, y), "Exp", 13)
UNARY(log, ROW_LOG, unary_positive_samples, log(x), heed_div(b, dy, x), "Log", 13)
UNARY(sqrt, ROW_SQRT, unary_positive_samples, sqrt(x), heed_div(b, heed_mul_scalar(b, dy, 0.5), y), "Sqrt",
      13)
UNARY(sin, ROW_SIN, unary_samples, sin(x), heed_mul(b, dy, heed_cos(b, x)), "Sin", 7)
UNARY(cos, ROW_COS, unary_samples, cos(x), heed_neg(b, heed_mul(b, dy, heed_sin(b, x))), "Cos", 7)
UNARY(tanh, ROW_TANH, unary_samples, tanh(x), heed__tanh_grad(b, y, dy), "Tanh", 13)
UNARY(erf, ROW_ERF, unary_samples, erf(x), heed_mul(b, dy, unary_erf_slope(b, x)), "Erf", 13)

/* floor and not stand apart: no gradient. */
FORMULA_F64(unary_floor_f64, 1, floor(x))
UNARY_KERNELS(floor, ROW_FLOOR)
UNARY_REFERENCE(floor, NULL)
UNARY_BUILDER(floor)
static const op_kernel unary_floor_cpu[] = {
    ROWS_KERNEL(unary_floor_rows),
    REFERENCE_KERNEL(unary_floor_reference),
    KERNEL_END,
};
const op_def heed__op_floor = {
    .name = "floor", .version = 1, .in = unary_in, .out = unary_out, .flags = OP_IN_PLACE | OP_NO_GRAD,
    .cpu = unary_floor_cpu, .onnx = { "Floor", 13 }, .torch = "torch.floor(x)", .samples = unary_samples,
};

FORMULA_I64(unary_not_i64, 1, !x)
static void unary_not_reference(const op_call *c, int64_t begin, int64_t end)
{
    heed__reference(c, begin, end, &(formula){ .i64 = unary_not_i64 });
}
UNARY_BUILDER(not)
static const op_kernel unary_not_cpu[] = { REFERENCE_KERNEL(unary_not_reference), KERNEL_END };
const op_def heed__op_not = {
    .name = "not", .version = 1, .in = unary_bool_in, .out = unary_out, .flags = OP_IN_PLACE | OP_NO_GRAD,
    .cpu = unary_not_cpu, .onnx = { "Not", 1 }, .torch = "torch.logical_not(x)",
    .samples = unary_bool_samples,
};

/* ---- composites with a row primitive ---- */

static const op_slot fused_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };

/* The harness moves no sample across x = 0 by 1e-6 with any likelihood, so relu's kink needs no flag. */
#define FUSED(op_name, row, value, dx, onnx_, since, torch_)                                                 \
    UNARY_KERNELS(op_name, row)                                                                              \
    UNARY_GRAD(op_name, dx)                                                                                  \
    UNARY_BUILDER(op_name)                                                                                   \
    static void unary_##op_name##_decompose(op_decompose *d)                                                 \
    {                                                                                                        \
        d->out[0] = value(d->b, d->in[0]);                                                                   \
    }                                                                                                        \
    static const op_kernel unary_##op_name##_cpu[] = { ROWS_KERNEL(unary_##op_name##_rows), KERNEL_END };    \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = fused_in, .out = unary_out, .flags = OP_IN_PLACE,              \
        .grad = unary_##op_name##_grad, .decompose = unary_##op_name##_decompose,                            \
        .cpu = unary_##op_name##_cpu,                                                                        \
        .onnx = { onnx_, since }, .torch = torch_, .samples = unary_samples,                                 \
    };

static heed_value unary_zeros_like(heed_builder *b, heed_value x)
{
    heed_type t = heed_value_type(b, x);
    return heed__zeros(b, &t);
}

/* x <= 0 ? 0 : x, and not max(0, x): the gradient at 0 is 0, and NaN stays NaN. */
static heed_value unary_relu_value(heed_builder *b, heed_value x)
{
    heed_value zero = unary_zeros_like(b, x);
    return heed_select(b, heed_le(b, x, zero), zero, x);
}

/* -|x| whose derivative at 0 is -1 and not 0, as both formulas below need. */
static heed_value unary_minus_abs(heed_builder *b, heed_value negative, heed_value x)
{
    return heed_select(b, negative, x, heed_neg(b, x));
}

/* With e = exp(-|x|):  1 / (1 + e) for x >= 0, e / (1 + e) for x < 0. */
static heed_value unary_sigmoid_value(heed_builder *b, heed_value x)
{
    heed_value negative = heed_lt(b, x, unary_zeros_like(b, x));
    heed_value e = heed_exp(b, unary_minus_abs(b, negative, x));
    heed_value one = heed_full(b, heed_value_type(b, x), 1);

    return heed_div(b, heed_select(b, negative, e, one), heed_add(b, one, e));
}

static heed_value unary_silu_value(heed_builder *b, heed_value x)
{
    return heed_mul(b, x, heed_sigmoid(b, x));
}

/* x/2 (1 + erf(x / sqrt 2)). Hendrycks, Gimpel 2016. */
static heed_value unary_gelu_value(heed_builder *b, heed_value x)
{
    heed_value bell = heed_add_scalar(b, heed_erf(b, heed_mul_scalar(b, x, SQRT_HALF)), 1);
    return heed_mul(b, heed_mul_scalar(b, x, 0.5), bell);
}

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
static heed_value unary_gelu_tanh_value(heed_builder *b, heed_value x)
{
    heed_value cubic = heed_add_scalar(b, heed_mul_scalar(b, heed_mul(b, x, x), 0.044715), 1);
    heed_value t = heed_tanh(b, heed_mul_scalar(b, heed_mul(b, x, cubic), SQRT_TWO_BY_PI));

    return heed_mul(b, heed_mul_scalar(b, x, 0.5), heed_add_scalar(b, t, 1));
}

/* max(x, 0) + ln(1 + exp(-|x|)) */
static heed_value unary_softplus_value(heed_builder *b, heed_value x)
{
    heed_value zero = unary_zeros_like(b, x), negative = heed_lt(b, x, zero);
    heed_value e = heed_exp(b, unary_minus_abs(b, negative, x));

    return heed_add(b, heed_select(b, negative, zero, x), heed_log(b, heed_add_scalar(b, e, 1)));
}

/* y > 0 where x > 0 */
FUSED(relu, ROW_RELU, unary_relu_value, heed__relu_grad(b, y, dy), "Relu", 14, "F.relu(x)")
FUSED(sigmoid, ROW_SIGMOID, unary_sigmoid_value, heed__sigmoid_grad(b, y, dy), "Sigmoid", 13,
      "torch.sigmoid(x)")
FUSED(silu, ROW_SILU, unary_silu_value, heed__silu_grad(b, x, dy), NULL, 0, "F.silu(x)")
FUSED(gelu, ROW_GELU, unary_gelu_value, heed__gelu_grad(b, x, dy), NULL, 0, "F.gelu(x)")
FUSED(gelu_tanh, ROW_GELU_TANH, unary_gelu_tanh_value, heed__gelu_tanh_grad(b, x, dy), NULL, 0,
      "F.gelu(x, approximate='tanh')")
FUSED(softplus, ROW_SOFTPLUS, unary_softplus_value, heed_mul(b, dy, heed_sigmoid(b, x)), "Softplus", 1,
      "F.softplus(x)")
