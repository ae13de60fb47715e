/* The vector functions against libm in double: bounds in ULP over all exponents, special values, large
 * inputs, and one digest that every compiler must reproduce at the portable level. */
#include "cpu/reference.h"
#include "cpu_row_levels.h"

#include <math.h>

#define BATCH 4096

/* The distance between floats at `want`, which may lie beyond the largest. */
static double ulp_at(double want)
{
    int exponent;

    if (fabs(want) < 0x1p-126)
        return 0x1p-149;
    (void)frexp(want, &exponent);
    return ldexp(1.0, (exponent > 128 ? 128 : exponent) - 24);
}

/* |got - want| in ULP; 0 for the same infinity or NaN, infinity for the wrong one. */
static double distance(float got, double want)
{
    const float rounded = (float)want;

    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0.0 : INFINITY;
    if (isinf(rounded) || isinf(got)) /* near FLT_MAX both are right */
        return rounded == got || fabs(fabs(want) - 0x1.ffffffp127) < 0x1p105 ? 0.0 : INFINITY;
    return fabs((double)got - want) / ulp_at(want);
}

/* What may be added to the bound. silu: e^x is denormal there; gelu: rounding an exponent moves its power. */
static double more_silu(double x)
{
    return x < -80.0 ? -x : 0.0;
}

static double more_gelu(double x)
{
    return x < 0.0 ? 0.5 * x * x : 0.0;
}

static double more_gelu_tanh(double x)
{
    return x < 0.0 ? -x * (6.4 + 0.286 * x * x) : 0.0;
}

static const struct {
    row_unary op;
    const char *name;
    double bound;
    double (*more)(double x);
} bounds[] = {
    { ROW_COPY, "copy", 0.0, NULL },
    { ROW_NEG, "neg", 0.0, NULL },
    { ROW_ABS, "abs", 0.0, NULL },
    { ROW_FLOOR, "floor", 0.0, NULL },
    { ROW_SQRT, "sqrt", 0.5, NULL },
    { ROW_RSQRT, "rsqrt", 1.5, NULL },
    { ROW_EXP, "exp", 1.1, NULL },
    { ROW_LOG, "log", 1.0, NULL },
    { ROW_SIN, "sin", 0.51, NULL },
    { ROW_COS, "cos", 0.51, NULL },
    { ROW_TANH, "tanh", 2.5, NULL },
    { ROW_ERF, "erf", 2.5, NULL },
    { ROW_RELU, "relu", 0.0, NULL },
    { ROW_SIGMOID, "sigmoid", 2.5, NULL },
    { ROW_SILU, "silu", 3.5, more_silu },
    { ROW_GELU, "gelu", 5.0, more_gelu },
    { ROW_GELU_TANH, "gelu_tanh", 5.0, more_gelu_tanh },
    { ROW_SOFTPLUS, "softplus", 2.0, NULL },
};

/* The floats whose bits are first, first + step, ... below end. */
static void check_bound(int at, const row_ops *row, const char *level, uint64_t first, uint64_t end,
                        uint64_t step)
{
    static float x[BATCH], y[BATCH];
    double worst = 0.0;
    float worst_x = 0.0f;

    for (uint64_t bits = first; bits < end;) {
        int n = 0;

        for (; n < BATCH && bits < end; n++, bits += step)
            x[n] = float_of((uint32_t)bits);
        row->unary[bounds[at].op](y, x, n);
        for (int i = 0; i < n; i++) {
            const double want = ref_unary(bounds[at].op, (double)x[i]);
            const double more = bounds[at].more && isfinite(x[i]) ? bounds[at].more((double)x[i]) : 0.0;
            const double ulp = distance(y[i], want);

            if (!(ulp <= bounds[at].bound + more))
                fail_msg("%s at %s: x = %a gives %a, wanted %a: %g ULP", bounds[at].name, level, (double)x[i],
                         (double)y[i], want, ulp);
            if (ulp - more > worst) {
                worst = ulp - more;
                worst_x = x[i];
            }
        }
    }
    if (bounds[at].bound > 0.0)
        printf("%-10s %-10s %5.3f ULP at %15.9g (bound %.2f)\n", bounds[at].name, level, worst,
               (double)worst_x, bounds[at].bound);
}

static void every_function_holds_its_bound_over_all_exponents(void **state)
{
    const levels here = levels_here();

    (void)state;
    assert_int_equal(COUNT(bounds), ROW_UNARY_COUNT);
    for (int f = 0; f < COUNT(bounds); f++)
        for (int i = 0; i < here.count; i++)
            check_bound(f, here.row[i], here.name[i], 0, UINT64_C(1) << 32, 2039); /* 2.1 million floats */
}

static void exp_holds_its_bound_for_every_float_from_8_to_16(void **state)
{
    const levels here = levels_here();
    int at = 0;

    (void)state;
    while (bounds[at].op != ROW_EXP)
        at++;
    for (int i = 0; i < here.count; i++)
        check_bound(at, here.row[i], here.name[i], bits_of(8.0f), bits_of(16.0f), 1);
}

static void special_values_are_those_of_c(void **state)
{
    const float special[] = { 0.0f, -0.0f,     INFINITY,        -INFINITY,
                              NAN,  0x1p-149f, -0x1p-149f,      0x1p-126f,
                              1.0f, -1.0f,     0x1.fffffep127f, -0x1.fffffep127f };
    const row_unary same[] = { ROW_COPY, ROW_NEG, ROW_ABS, ROW_FLOOR, ROW_SQRT, ROW_EXP,
                               ROW_LOG,  ROW_SIN, ROW_COS, ROW_TANH,  ROW_ERF,  ROW_RELU };
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < COUNT(same); f++) {
            float y[COUNT(special)];

            here.row[l]->unary[same[f]](y, special, COUNT(special));
            for (int i = 0; i < COUNT(special); i++) {
                const float want = (float)ref_unary(same[f], (double)special[i]);

                if (isnan(want))
                    assert_true(isnan(y[i]));
                else if (isinf(want) || want == 0.0f) /* the sign of zero too */
                    assert_int_equal(bits_of(y[i]), bits_of(want));
            }
        }
    }
}

static void finite_inputs_give_finite_activations_and_slopes(void **state)
{
    const float large[] = { 1e4f,      -1e4f,     50.0f,  -50.0f, 88.8f, -88.8f,          104.5f,
                            -104.5f,   1e20f,     -1e20f, 0.0f,   -0.0f, 0x1.fffffep127f, -0x1.fffffep127f,
                            0x1p-149f, -0x1p-149f };
    const row_unary maps[] = { ROW_SIN,     ROW_COS,  ROW_TANH, ROW_ERF,       ROW_RELU,
                               ROW_SIGMOID, ROW_SILU, ROW_GELU, ROW_GELU_TANH, ROW_SOFTPLUS };
    const row_binary slopes[] = { ROW_RELU_GRAD, ROW_SILU_GRAD, ROW_GELU_GRAD, ROW_GELU_TANH_GRAD };
    const float one = 1.0f;
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        float y[COUNT(large)];

        for (int f = 0; f < COUNT(maps); f++) {
            here.row[l]->unary[maps[f]](y, large, COUNT(large));
            for (int i = 0; i < COUNT(large); i++)
                assert_true(isfinite(y[i]));
        }
        for (int f = 0; f < COUNT(slopes); f++) {
            here.row[l]->binary[slopes[f]](y, large, 1, &one, 0, COUNT(large));
            for (int i = 0; i < COUNT(large); i++) /* far out a slope is 0 or 1 */
                assert_true(fabs((double)y[i] - (large[i] > 20.0f ? 1.0
                                                 : large[i] < -20.0f
                                                     ? 0.0
                                                     : ref_binary(slopes[f], (double)large[i], 1.0))) < 1e-6);
        }
    }
}

static void sines_of_large_numbers_are_right(void **state)
{
    static float x[BATCH], y[BATCH];
    const levels here = levels_here();
    uint32_t seed = 1;

    (void)state;
    for (int i = 0; i < BATCH; i++) /* 2^17 and more */
        x[i] = float_of((next_word(&seed) & 0x807fffff) | (17 + 127 + (uint32_t)i % 111) << 23);
    for (int l = 0; l < here.count; l++) {
        here.row[l]->unary[ROW_SIN](y, x, BATCH);
        for (int i = 0; i < BATCH; i++)
            assert_true(fabsf(y[i]) <= 1.0f && distance(y[i], sin((double)x[i])) <= 0.51);
        here.row[l]->unary[ROW_COS](y, x, BATCH);
        for (int i = 0; i < BATCH; i++)
            assert_true(fabsf(y[i]) <= 1.0f && distance(y[i], cos((double)x[i])) <= 0.51);
    }
}

static void slopes_are_within_1e_6(void **state)
{
    const row_binary slopes[] = { ROW_SILU_GRAD, ROW_GELU_GRAD, ROW_GELU_TANH_GRAD };
    static float x[BATCH], dy[BATCH], y[BATCH];
    const levels here = levels_here();
    uint32_t seed = 2;

    (void)state;
    for (int i = 0; i < BATCH; i++) {
        x[i] = next_float(&seed, -20.0f, 20.0f);
        dy[i] = next_float(&seed, -1.0f, 1.0f);
    }
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < COUNT(slopes); f++) {
            here.row[l]->binary[slopes[f]](y, x, 1, dy, 1, BATCH);
            for (int i = 0; i < BATCH; i++)
                assert_true(fabs((double)y[i] - ref_binary(slopes[f], (double)x[i], (double)dy[i])) < 1e-6);
        }
    }
}

/* Special values must be C's, others within 0.51 ULP (1.5 for an exponent of -1/2). */
static void check_pow(const row_ops *row, const float *x, const float *y, int64_t ys, int n)
{
    static float z[BATCH];

    row->binary[ROW_POW](z, x, 1, y, ys, n);
    for (int i = 0; i < n; i++) {
        const float exponent = y[ys ? i : 0];
        const double want = pow((double)x[i], (double)exponent);
        const double bound = exponent == -0.5f ? 1.5 : 0.51;

        if (!(distance(z[i], want) <= bound) || (z[i] == 0.0f && !signbit(z[i]) != !signbit(want)))
            fail_msg("pow(%a, %a) gives %a, wanted %a", (double)x[i], (double)exponent, (double)z[i], want);
    }
}

static void powers_are_those_of_c(void **state)
{
    const float special[] = { 0.0f,
                              -0.0f,
                              1.0f,
                              -1.0f,
                              2.0f,
                              -2.0f,
                              3.0f,
                              -3.0f,
                              0.5f,
                              -0.5f,
                              1.5f,
                              -2.5f,
                              0.99f,
                              -0.99f,
                              1.01f,
                              1e9f,
                              INFINITY,
                              -INFINITY,
                              NAN,
                              0x1p-149f,
                              -0x1p-149f,
                              0x1.fffffep127f,
                              -0x1.fffffep127f,
                              16777215.0f,
                              16777216.0f };
    static float x[BATCH], y[BATCH];
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        uint32_t seed = 3;

        for (int i = 0; i < COUNT(special); i++) {
            for (int j = 0; j < COUNT(special); j++)
                y[j] = special[i];
            check_pow(here.row[l], special, y, 1, COUNT(special));
            check_pow(here.row[l], special, &special[i], 0, COUNT(special));
        }
        for (int pass = 0; pass < 50; pass++) {
            for (int i = 0; i < BATCH; i++) {
                x[i] = pass % 2 ? next_float(&seed, 0.0f, 100.0f) : float_of(next_word(&seed) & 0x7fffffff);
                y[i] = pass % 5 ? next_float(&seed, -20.0f, 20.0f) : float_of(next_word(&seed));
            }
            check_pow(here.row[l], x, y, 1, BATCH);
            check_pow(here.row[l], x, &special[pass % COUNT(special)], 0, BATCH);
        }
    }
}

/* CRC-32C of outputs on fixed inputs; NaNs count as one value, for their sign is the CPU's. */
static uint32_t digest(uint32_t crc, const float *y, int n)
{
    for (int i = 0; i < n; i++) {
        crc ^= isnan(y[i]) ? 0x7fc00000u : bits_of(y[i]);
        for (int bit = 0; bit < 32; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return crc;
}

static uint32_t digest_of(const row_ops *row)
{
    static float a[BATCH], b[BATCH], y[BATCH];
    uint32_t crc = 0xffffffffu, seed = 4;

    for (int pass = 0; pass < 4; pass++) {
        for (int i = 0; i < BATCH; i++) { /* any float beside numbers of everyday size */
            a[i] = pass == 0 ? float_of(next_word(&seed)) : next_float(&seed, -6.0f, 6.0f);
            b[i] = pass == 1 ? float_of(next_word(&seed)) : next_float(&seed, -6.0f, 6.0f);
        }
        for (int f = 0; f < ROW_UNARY_COUNT; f++) {
            row->unary[f](y, a, BATCH);
            crc = digest(crc, y, BATCH);
        }
        for (int f = 0; f < ROW_BINARY_COUNT; f++) {
            row->binary[f](y, a, 1, b, 1, BATCH);
            crc = digest(crc, y, BATCH);
        }
        for (int n = 1; n < 700; n += 9) {
            const rows block = { a, 5, n, n + 3 }, other = { b, 5, n, n }, out = { y, 5, n, n };
            float m[5], s[5];

            row->max(m, block);
            row->exp_sum(out, s, block, m);
            row->divide(out, s);
            crc = digest(digest(digest(crc, m, 5), s, 5), y, 5 * n);
            row->sum(m, block);
            row->dot(s, block, other);
            crc = digest(digest(crc, m, 5), s, 5);
            row->sum_squares(s, block, m);
            row->normalize(out, block, m, s, b, b + n);
            crc = digest(digest(crc, s, 5), y, 5 * n);
        }
    }
    return ~crc;
}

static void the_portable_level_gives_the_same_bits_from_every_compiler(void **state)
{
    (void)state;
    assert_int_equal(digest_of(heed__row_ops(HEED_ISA_PORTABLE)), 0x2460755a);
}

static void levels_with_a_fused_multiply_add_map_alike(void **state)
{
    static float x[BATCH], y[BATCH], first[BATCH];
    const levels here = levels_here();
    uint32_t seed = 5;

    (void)state;
    for (int i = 0; i < BATCH; i++)
        x[i] = i % 2 ? float_of(next_word(&seed)) : next_float(&seed, -9.0f, 9.0f);
    for (int f = 0; f < ROW_UNARY_COUNT; f++) {
        for (int l = 1; l < here.count; l++) {
            here.row[l]->unary[f](l == 1 ? first : y, x, BATCH);
            for (int i = 0; l > 1 && i < BATCH; i++)
                assert_true(bits_of(y[i]) == bits_of(first[i]) || (isnan(y[i]) && isnan(first[i])));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_holds_its_bound_over_all_exponents),
        cmocka_unit_test(exp_holds_its_bound_for_every_float_from_8_to_16),
        cmocka_unit_test(special_values_are_those_of_c),
        cmocka_unit_test(finite_inputs_give_finite_activations_and_slopes),
        cmocka_unit_test(sines_of_large_numbers_are_right),
        cmocka_unit_test(slopes_are_within_1e_6),
        cmocka_unit_test(powers_are_those_of_c),
        cmocka_unit_test(the_portable_level_gives_the_same_bits_from_every_compiler),
        cmocka_unit_test(levels_with_a_fused_multiply_add_map_alike),
    };

    levels_print_skipped();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
