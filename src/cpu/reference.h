/* What each element-wise row primitive means, in double: the f64 kernels of the ops, and what tests hold the
 * vector code against. f64 is the proving dtype, so libm is good enough here. */
#ifndef CPU_REFERENCE_H
#define CPU_REFERENCE_H

#include "cpu/rows.h"

#include <math.h>

#define REF_SQRT_2 1.41421356237309504880
#define REF_SQRT_2_OVER_PI 0.79788456080286535588

static inline double ref_copy(double x)
{
    return x;
}

static inline double ref_neg(double x)
{
    return -x;
}

static inline double ref_rsqrt(double x)
{
    return 1.0 / sqrt(x);
}

static inline double ref_relu(double x)
{
    return x <= 0.0 ? 0.0 : x; /* a NaN stays */
}

static inline double ref_sigmoid(double x)
{
    const double e = exp(-fabs(x));

    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

static inline double ref_silu(double x)
{
    return x * ref_sigmoid(x);
}

/* Phi(x) = erfc(-x / sqrt 2) / 2. */
static inline double ref_normal(double x)
{
    return 0.5 * erfc(-x / REF_SQRT_2);
}

static inline double ref_gelu(double x)
{
    return x * ref_normal(x);
}

/* x (1 + tanh u) / 2 = x sigmoid(2u),  u = sqrt(2/pi) (x + 0.044715 x^3). */
static inline double ref_gelu_tanh(double x)
{
    return x * ref_sigmoid(2.0 * REF_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
}

static inline double ref_softplus(double x)
{
    return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x)));
}

static inline double ref_silu_slope(double x)
{
    return ref_sigmoid(x) * (1.0 + x * ref_sigmoid(-x));
}

static inline double ref_gelu_slope(double x)
{
    return ref_normal(x) + x * exp(-0.5 * x * x) * (0.5 * REF_SQRT_2_OVER_PI);
}

static inline double ref_gelu_tanh_slope(double x)
{
    const double z = 2.0 * REF_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x);
    const double inner = 2.0 * REF_SQRT_2_OVER_PI * (x + 3.0 * 0.044715 * x * x * x);
    const double both = ref_sigmoid(z) * ref_sigmoid(-z);

    return ref_sigmoid(z) + (both > 0.0 ? inner * both : 0.0);
}

static inline double ref_add(double a, double b)
{
    return a + b;
}

static inline double ref_sub(double a, double b)
{
    return a - b;
}

static inline double ref_mul(double a, double b)
{
    return a * b;
}

static inline double ref_div(double a, double b)
{
    return a / b;
}

/* The larger; a NaN in either gives NaN. */
static inline double ref_max(double a, double b)
{
    return a > b || isnan(a) ? a : b;
}

static inline double ref_min(double a, double b)
{
    return a < b || isnan(a) ? a : b;
}

static inline double ref_relu_grad(double x, double dy)
{
    return x > 0.0 ? dy : 0.0;
}

static inline double ref_sigmoid_grad(double y, double dy)
{
    return dy * y * (1.0 - y);
}

static inline double ref_tanh_grad(double y, double dy)
{
    return dy * (1.0 - y * y);
}

static inline double ref_silu_grad(double x, double dy)
{
    return dy * ref_silu_slope(x);
}

static inline double ref_gelu_grad(double x, double dy)
{
    return dy * ref_gelu_slope(x);
}

static inline double ref_gelu_tanh_grad(double x, double dy)
{
    return dy * ref_gelu_tanh_slope(x);
}

/* y = f(x) for any row primitive of one argument, and y = f(a, b) for any of two. */
static inline double ref_unary(row_unary op, double x)
{
    static double (*const table[ROW_UNARY_COUNT])(double) = {
        [ROW_COPY] = ref_copy,
        [ROW_NEG] = ref_neg,
        [ROW_ABS] = fabs,
        [ROW_FLOOR] = floor,
        [ROW_SQRT] = sqrt,
        [ROW_RSQRT] = ref_rsqrt,
        [ROW_EXP] = exp,
        [ROW_LOG] = log,
        [ROW_SIN] = sin,
        [ROW_COS] = cos,
        [ROW_TANH] = tanh,
        [ROW_ERF] = erf,
        [ROW_RELU] = ref_relu,
        [ROW_SIGMOID] = ref_sigmoid,
        [ROW_SILU] = ref_silu,
        [ROW_GELU] = ref_gelu,
        [ROW_GELU_TANH] = ref_gelu_tanh,
        [ROW_SOFTPLUS] = ref_softplus,
    };

    return table[op](x);
}

static inline double ref_binary(row_binary op, double a, double b)
{
    static double (*const table[ROW_BINARY_COUNT])(double, double) = {
        [ROW_ADD] = ref_add,
        [ROW_SUB] = ref_sub,
        [ROW_MUL] = ref_mul,
        [ROW_DIV] = ref_div,
        [ROW_POW] = pow,
        [ROW_MAX] = ref_max,
        [ROW_MIN] = ref_min,
        [ROW_RELU_GRAD] = ref_relu_grad,
        [ROW_SIGMOID_GRAD] = ref_sigmoid_grad,
        [ROW_TANH_GRAD] = ref_tanh_grad,
        [ROW_SILU_GRAD] = ref_silu_grad,
        [ROW_GELU_GRAD] = ref_gelu_grad,
        [ROW_GELU_TANH_GRAD] = ref_gelu_tanh_grad,
    };

    return table[op](a, b);
}

#endif
