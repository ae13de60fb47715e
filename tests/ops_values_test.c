/* Ops against numbers worked out by hand: values, gradients at kinks and ties, what is refused and what
 * faults. Each runs with the fast kernels and with the reference. */
#include "cmocka_all.h"

#include "base/digest.h"
#include "base/rng.h"
#include "support/trial.h"
#include <heed/ops.h>

#include <math.h>
#include <string.h>

#define MOST 128

typedef struct fixture {
    heed_context *ctx;
} fixture;

static int open_context(void **state)
{
    static fixture f;
    heed_error err = { 0 };

    assert_int_equal(heed_context_new(&f.ctx, &(heed_context_opts){ .threads = 2 }, &err), HEED_OK);
    *state = &f;
    return 0;
}

static int close_context(void **state)
{
    heed_context_free(((fixture *)*state)->ctx);
    return 0;
}

/* ---- one op on given numbers ---- */

typedef heed_value make(heed_builder *b, const heed_value *in);

typedef struct given {
    heed_type type;
    const double *numbers;
} given;
#define F32(numbers_, ...) { HEED_TYPE(HEED_F32, __VA_ARGS__), numbers_ }
#define OF(dtype_, numbers_, ...) { HEED_TYPE(dtype_, __VA_ARGS__), numbers_ }
#define N(...) ((const double[]){ __VA_ARGS__ })

typedef struct job {
    make *make;
    const given *in;
    int n_in, wrt; /* wrt >= 0: the gradient of the sum by that input, and not the value */
} job;

static void job_build(heed_builder *b, void *user)
{
    const job *j = user;
    heed_value in[3], y;
    char name[] = "x0";

    for (int i = 0; i < j->n_in; i++) {
        in[i] = heed_input(b, name, j->in[i].type);
        name[1]++;
    }
    y = j->make(b, in);
    if (j->wrt >= 0)
        heed_grad(b, heed_sum(b, y, HEED_ALL_AXES, HEED_DROP_AXES), &in[j->wrt], 1, &y);
    heed_output(b, "y", y);
}

static bool close_to(double got, double want)
{
    if (isnan(want) || isinf(want))
        return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= 1e-6 + 1e-6 * fabs(want);
}

static heed_status run_job(fixture *f, job j, heed_kernels kernels, const double *want, int n,
                           heed_error *err)
{
    double got[MOST];
    trial t;
    heed_status st = trial_open(&t, f->ctx, job_build, &j, &(heed_plan_opts){ .kernels = kernels }, err);

    if (st != HEED_OK)
        return st;
    for (int i = 0; i < j.n_in; i++)
        trial_set(&t, i, j.in[i].numbers);
    st = trial_run(&t, err);
    if (st == HEED_OK) {
        assert_string_equal(t.broken, "");
        assert_int_equal(heed_type_count(&t.out[0].tensor.type), n);
        trial_get(&t, 0, got);
        for (int i = 0; i < n; i++)
            if (!close_to(got[i], want[i]))
                fail_msg("element %d is %.9g and not %.9g (%s kernels)", i, got[i], want[i],
                         kernels == HEED_KERNELS_FAST ? "fast" : "reference");
    }
    trial_close(&t);
    return st;
}

static void expect_job(void **state, job j, const double *want, int n)
{
    for (int k = HEED_KERNELS_FAST; k <= HEED_KERNELS_REFERENCE; k++) {
        heed_error err = { 0 };
        heed_status st = run_job(*state, j, (heed_kernels)k, want, n, &err);

        if (st != HEED_OK)
            fail_msg("%s: %s", heed_status_name(st), err.text);
    }
}

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
/* in: given[]; what follows: the numbers expected */
#define EXPECT(make_, in, ...) \
    expect_job(state, (job){ make_, in, COUNT(in), -1 }, N(__VA_ARGS__), COUNT(((const double[]){ __VA_ARGS__ })))
#define EXPECT_GRAD(make_, in, wrt_, ...) \
    expect_job(state, (job){ make_, in, COUNT(in), wrt_ }, N(__VA_ARGS__), COUNT(((const double[]){ __VA_ARGS__ })))

/* The op must end with this code, and its text must contain the word. */
static void expect_end(void **state, make *m, const given *in, int n_in, heed_status want, const char *word)
{
    heed_error err = { 0 };

    assert_int_equal(run_job(*state, (job){ m, in, n_in, -1 }, HEED_KERNELS_FAST, NULL, 0, &err), want);
    if (!strstr(err.text, word))
        fail_msg("\"%s\" is not in: %s", word, err.text);
}
#define EXPECT_END(make_, in, code, word) expect_end(state, make_, in, COUNT(in), code, word)

#define MAKE(name, value)                                                                                         \
    static heed_value name(heed_builder *b, const heed_value *in)                                                 \
    {                                                                                                             \
        return value;                                                                                             \
    }

/* ---- element by element ---- */

MAKE(make_relu, heed_relu(b, in[0]))
MAKE(make_abs, heed_abs(b, in[0]))
MAKE(make_sigmoid, heed_sigmoid(b, in[0]))
MAKE(make_softplus, heed_softplus(b, in[0]))
MAKE(make_elu, heed_elu(b, in[0], 1.5))
MAKE(make_hardswish, heed_hardswish(b, in[0]))
MAKE(make_mish, heed_mish(b, in[0]))
MAKE(make_glu, heed_glu(b, in[0], -1))

static void kinks_have_pytorchs_slopes(void **state)
{
    const given x[] = { F32(N(-2, 0, 3), 3) };

    EXPECT(make_relu, x, 0, 0, 3);
    EXPECT_GRAD(make_relu, x, 0, 0, 0, 1);
    EXPECT_GRAD(make_abs, x, 0, -1, 0, 1);
    EXPECT_GRAD(make_sigmoid, x, 0, 0.10499359, 0.25, 0.04517666);
    EXPECT_GRAD(make_softplus, x, 0, 0.11920292, 0.5, 0.95257413);
    EXPECT_GRAD(make_elu, x, 0, 1.5 * exp(-2), 1.5, 1);
    EXPECT_GRAD(make_hardswish, x, 0, -1.0 / 6, 0.5, 1.5);
}

static void activations_are_finite_far_out(void **state)
{
    const given x[] = { F32(N(-1e4, -100, 100, 1e4), 4) };

    EXPECT(make_sigmoid, x, 0, 0, 1, 1);
    EXPECT(make_softplus, x, 0, 0, 100, 1e4);
    EXPECT(make_elu, x, -1.5, -1.5, 100, 1e4);
    EXPECT(make_hardswish, x, 0, 0, 100, 1e4);
    EXPECT(make_mish, x, 0, 0, 100, 1e4);
    EXPECT_GRAD(make_sigmoid, x, 0, 0, 0, 0, 0);
    EXPECT_GRAD(make_softplus, x, 0, 0, 0, 1, 1);
    EXPECT_GRAD(make_elu, x, 0, 0, 0, 1, 1);
    EXPECT_GRAD(make_mish, x, 0, 0, 0, 1, 1);
}

static void glu_weighs_the_first_half_by_the_second(void **state)
{
    const given x[] = { F32(N(2, 6, 0, 0, 8, 4, 0, 0), 2, 4) };
    const given odd[] = { F32(N(1, 2, 3), 3) };

    EXPECT(make_glu, x, 1, 3, 4, 2);
    EXPECT_END(make_glu, odd, HEED_ERR_SHAPE, "half");
}

MAKE(make_add, heed_add(b, in[0], in[1]))
MAKE(make_sub, heed_sub(b, in[0], in[1]))
MAKE(make_mul, heed_mul(b, in[0], in[1]))
MAKE(make_div, heed_div(b, in[0], in[1]))
MAKE(make_max, heed_max(b, in[0], in[1]))
MAKE(make_min, heed_min(b, in[0], in[1]))
MAKE(make_pow, heed_pow(b, in[0], in[1]))
MAKE(make_square, heed_pow_scalar(b, in[0], 2))

static void sizes_are_aligned_from_the_right(void **state)
{
    const given column[] = { F32(N(1, 2), 2, 1), F32(N(10, 20, 30), 3) };
    const given bad[] = { F32(N(1, 2), 2), F32(N(10, 20, 30), 3) };
    const given mixed[] = { F32(N(1, 2), 2), OF(HEED_I64, N(1, 2), 2) };

    EXPECT(make_add, column, 11, 21, 31, 12, 22, 32);
    EXPECT(make_sub, column, -9, -19, -29, -8, -18, -28);
    EXPECT_GRAD(make_mul, column, 0, 60, 60);
    EXPECT_GRAD(make_mul, column, 1, 3, 3, 3);
    EXPECT_END(make_add, bad, HEED_ERR_SHAPE, "[2]");
    EXPECT_END(make_add, mixed, HEED_ERR_DTYPE, "cast");
}

static void a_tie_shares_the_gradient_of_max(void **state)
{
    const given x[] = { F32(N(1, 2, 3, NAN), 4), F32(N(2, 2, 2, 2), 4) };

    EXPECT(make_max, x, 2, 2, 3, NAN);
    EXPECT(make_min, x, 1, 2, 2, NAN);
    EXPECT_GRAD(make_max, x, 0, 0, 0.5, 1, 0);
    EXPECT_GRAD(make_max, x, 1, 1, 0.5, 0, 0);
    EXPECT_GRAD(make_min, x, 0, 1, 0.5, 0, 0);
}

static void pow_has_a_gradient_at_zero(void **state)
{
    const given x[] = { F32(N(0, 0, 2, 4), 4), F32(N(0, 2, 3, 0.5), 4) };

    EXPECT(make_pow, x, 1, 0, 8, 2);
    EXPECT_GRAD(make_pow, x, 0, 0, 0, 12, 0.25);
    EXPECT_GRAD(make_pow, x, 1, 0, 0, 8 * log(2), 2 * log(4));
    EXPECT(make_square, x, 0, 0, 4, 16);
}

static void integers_wrap_around_and_do_not_divide(void **state)
{
    const given x[] = { OF(HEED_I32, N(2147483647, -5), 2), OF(HEED_I32, N(1, 3), 2) };
    const given u8[] = { OF(HEED_U8, N(200, 3), 2), OF(HEED_U8, N(100, 5), 2) };

    EXPECT(make_add, x, -2147483648.0, -2);
    EXPECT(make_mul, u8, 32, 15); /* 20000 = 78 * 256 + 32 */
    EXPECT(make_sub, u8, 100, 254);
    EXPECT(make_max, x, 2147483647, 3);
    EXPECT_END(make_div, x, HEED_ERR_DTYPE, "cast");
}

MAKE(make_eq, heed_eq(b, in[0], in[1]))
MAKE(make_lt, heed_lt(b, in[0], in[1]))
MAKE(make_le, heed_le(b, in[0], in[1]))
MAKE(make_gt, heed_gt(b, in[0], in[1]))
MAKE(make_ge, heed_ge(b, in[0], in[1]))
MAKE(make_select, heed_select(b, in[0], in[1], in[2]))

static void every_comparison_with_nan_is_false(void **state)
{
    const given x[] = { F32(N(1, 2, 3, NAN), 4), F32(N(2, 2, 2, 2), 4) };
    const given half[] = { OF(HEED_F16, N(1, 2, 3, NAN), 4), OF(HEED_F16, N(2, 2, 2, 2), 4) };

    EXPECT(make_eq, x, 0, 1, 0, 0);
    EXPECT(make_lt, x, 1, 0, 0, 0);
    EXPECT(make_le, x, 1, 1, 0, 0);
    EXPECT(make_gt, x, 0, 0, 1, 0);
    EXPECT(make_ge, x, 0, 1, 1, 0);
    EXPECT(make_lt, half, 1, 0, 0, 0);
    EXPECT(make_eq, half, 0, 1, 0, 0);
}

static void what_select_leaves_out_has_no_influence(void **state)
{
    const given x[] = { OF(HEED_BOOL, N(1, 0, 1), 3), F32(N(1, NAN, 3), 3), F32(N(5), 1) };

    EXPECT(make_select, x, 1, 5, 3);
    EXPECT_GRAD(make_select, x, 1, 1, 0, 1);
    EXPECT_GRAD(make_select, x, 2, 1);
}

MAKE(make_cast_i64, heed_cast(b, in[0], HEED_I64))
MAKE(make_cast_u8, heed_cast(b, in[0], HEED_U8))
MAKE(make_cast_bool, heed_cast(b, in[0], HEED_BOOL))
MAKE(make_cast_f32, heed_cast(b, in[0], HEED_F32))
MAKE(make_cast_bf16, heed_cast(b, heed_cast(b, in[0], HEED_BF16), HEED_F32))

static void a_cast_truncates_and_clamps(void **state)
{
    const given x[] = { F32(N(-1.9, 2.9, NAN, 300, -INFINITY), 5) };
    const given truth[] = { OF(HEED_BOOL, N(1, 0), 2) };

    EXPECT(make_cast_i64, x, -1, 2, 0, 300, -9223372036854775808.0);
    EXPECT(make_cast_u8, x, 0, 2, 0, 255, 0);
    EXPECT(make_cast_bool, x, 1, 1, 1, 1, 1);
    EXPECT(make_cast_f32, truth, 1, 0);
    EXPECT(make_cast_bf16, ((const given[]){ F32(N(1.00390625, 1.01171875), 2) }), 1, 1.015625); /* to even */
}

/* ---- shape ---- */

static const double one_to_six[] = { 1, 2, 3, 4, 5, 6 };

MAKE(make_transpose, heed_transpose(b, in[0], 0, 1))
MAKE(make_flat_transpose, heed_reshape(b, heed_transpose(b, in[0], 0, 1), 1, (const int64_t[]){ -1 }))
MAKE(make_bad_reshape, heed_reshape(b, in[0], 2, (const int64_t[]){ 4, -1 }))
MAKE(make_steps, heed_slice(b, in[0], 0, 1, -1, 3))
MAKE(make_last_two, heed_slice(b, in[0], 0, -2, -1, 1))
MAKE(make_too_far, heed_slice(b, in[0], 0, 2, 7, 1))
MAKE(make_pad, heed_pad(b, in[0], 1, 1, 2, 9))
MAKE(make_reverse, heed_reverse(b, in[0], 1))
MAKE(make_concat, heed_concat(b, in, 2, 1))
MAKE(make_flatten, heed_flatten(b, heed_unsqueeze(b, in[0], -1), 0, 1))
MAKE(make_squeeze, heed_squeeze(b, in[0], 1))

static heed_value make_concat_many(heed_builder *b, const heed_value *in)
{
    heed_value xs[100], pairs;

    for (int i = 0; i < 100; i++)
        xs[i] = heed_slice(b, in[0], 0, i % 3, i % 3 + 1, 1);
    pairs = heed_reshape(b, heed_concat(b, xs, 100, 0), 2, (const int64_t[]){ 50, 2 });
    return heed_sum(b, pairs, 1u << 0, HEED_DROP_AXES);
}

static void shapes_move_elements_as_in_pytorch(void **state)
{
    const given x[] = { F32(one_to_six, 2, 3) };

    EXPECT(make_transpose, x, 1, 4, 2, 5, 3, 6);
    EXPECT(make_flat_transpose, x, 1, 4, 2, 5, 3, 6);
    EXPECT(make_flatten, x, 1, 2, 3, 4, 5, 6);
    EXPECT(make_pad, x, 9, 1, 2, 3, 9, 9, 9, 4, 5, 6, 9, 9);
    EXPECT_GRAD(make_pad, x, 0, 1, 1, 1, 1, 1, 1);
    EXPECT(make_reverse, x, 3, 2, 1, 6, 5, 4);
    EXPECT_END(make_bad_reshape, x, HEED_ERR_SHAPE, "-1");
    EXPECT_END(make_squeeze, x, HEED_ERR_SHAPE, "size 3");
}

static void a_slice_with_steps_scatters_its_gradient(void **state)
{
    const given x[] = { F32(one_to_six, 6) };

    EXPECT(make_steps, x, 2, 5);
    EXPECT_GRAD(make_steps, x, 0, 0, 1, 0, 0, 1, 0);
    EXPECT(make_last_two, x, 5, 6);
    EXPECT_END(make_too_far, x, HEED_ERR_SHAPE, "size 6");
}

static void concat_takes_any_number_of_values(void **state)
{
    const given x[] = { F32(N(1, 2), 2, 1), F32(N(3, 4, 5, 6), 2, 2) };
    const given three[] = { F32(N(1, 10, 100), 3) };

    EXPECT(make_concat, x, 1, 3, 4, 2, 5, 6);
    EXPECT_GRAD(make_concat, x, 1, 1, 1, 1, 1);
    EXPECT(make_concat_many, three, 1 * 17 + 10 * 16 + 100 * 17, 1 * 17 + 10 * 17 + 100 * 16);
    EXPECT_GRAD(make_concat_many, three, 0, 34, 33, 33);
}

/* ---- reductions ---- */

MAKE(make_sum_first, heed_sum(b, in[0], 1u << 0, HEED_DROP_AXES))
MAKE(make_sum_kept, heed_sum(b, in[0], 1u << 1, HEED_KEEP_AXES))
MAKE(make_mean, heed_mean(b, in[0], HEED_ALL_AXES, HEED_DROP_AXES))
MAKE(make_amax, heed_amax(b, in[0], 1u << 1, HEED_DROP_AXES))
MAKE(make_bad_sum, heed_sum(b, in[0], 1u << 2, HEED_DROP_AXES))
MAKE(make_argmax, heed_argmax(b, in[0], 1))
MAKE(make_cumsum, heed_cumsum(b, in[0], 1))
MAKE(make_logsumexp, heed_logsumexp(b, in[0], 1, HEED_DROP_AXES))

static void reductions_take_axes_by_their_bits(void **state)
{
    const given x[] = { F32(one_to_six, 2, 3) };
    const given nothing[] = { F32(N(0), 2, 0) };

    EXPECT(make_sum_first, x, 5, 7, 9);
    EXPECT(make_sum_kept, x, 6, 15);
    EXPECT(make_mean, x, 3.5);
    EXPECT_GRAD(make_mean, x, 0, 1 / 6., 1 / 6., 1 / 6., 1 / 6., 1 / 6., 1 / 6.);
    EXPECT(make_sum_kept, nothing, 0, 0);
    EXPECT_END(make_amax, nothing, HEED_ERR_SHAPE, "size 0");
    EXPECT_END(make_bad_sum, x, HEED_ERR_SHAPE, "mask");
}

static void ties_share_the_gradient_of_amax(void **state)
{
    const given x[] = { F32(N(1, 4, 4, -1, -2, -3), 2, 3) };

    EXPECT(make_amax, x, 4, -1);
    EXPECT_GRAD(make_amax, x, 0, 0, 0.5, 0.5, 1, 0, 0);
}

static void argmax_names_the_first_and_sees_nan(void **state)
{
    const given x[] = { F32(N(1, 4, 4, 2, NAN, 9, -INFINITY, -INFINITY, -INFINITY), 3, 3) };

    EXPECT(make_argmax, x, 1, 1, 0);
}

static void cumsum_runs_along_its_axis(void **state)
{
    const given x[] = { F32(one_to_six, 2, 3) };

    EXPECT(make_cumsum, x, 1, 3, 6, 4, 9, 15);
    EXPECT_GRAD(make_cumsum, x, 0, 3, 2, 1, 3, 2, 1);
}

static void logsumexp_of_minus_infinities_is_one_without_nan(void **state)
{
    const double none = -INFINITY;
    const given x[] = { F32(N(1000, 1000, none, none, none, none, 0, INFINITY, 1), 3, 3) };
    const given masked[] = { F32(N(7, 7, none, none, none, none), 2, 3) };

    EXPECT(make_logsumexp, x, 1000 + log(2), none, INFINITY);
    EXPECT_GRAD(make_logsumexp, masked, 0, 0.5, 0.5, 0, 0, 0, 0);
}

/* ---- by index ---- */

MAKE(make_gather, heed_gather(b, in[0], in[1], 0))
MAKE(make_gather_last, heed_gather(b, in[0], in[1], -1))
MAKE(make_scatter, heed_scatter_add(b, in[1], in[0], 0, 4))
MAKE(make_one_hot, heed_one_hot(b, in[0], 3))
MAKE(make_topk, heed_topk(b, in[0], 2, NULL))
MAKE(make_update, heed_update_slice(b, in[0], in[1], in[2]))

static heed_value make_topk_indices(heed_builder *b, const heed_value *in)
{
    heed_value indices;

    (void)heed_topk(b, in[0], 2, &indices);
    return indices;
}

static void gather_and_scatter_are_each_others_gradient(void **state)
{
    const given x[] = { F32(one_to_six, 3, 2), OF(HEED_I64, N(2, 0, 2), 3) };
    const given last[] = { F32(one_to_six, 2, 3), OF(HEED_I64, N(2, 1), 2) };

    EXPECT(make_gather, x, 5, 6, 1, 2, 5, 6);
    EXPECT_GRAD(make_gather, x, 0, 1, 1, 0, 0, 2, 2);
    EXPECT(make_gather_last, last, 3, 2, 6, 5);
    EXPECT(make_scatter, x, 3, 4, 0, 0, 6, 8, 0, 0);
    EXPECT_GRAD(make_scatter, x, 0, 1, 1, 1, 1, 1, 1);
}

static void a_bad_index_ends_the_run_and_is_named(void **state)
{
    const given above[] = { F32(one_to_six, 3, 2), OF(HEED_I64, N(2, 3, 77), 3) };
    const given below[] = { F32(one_to_six, 3, 2), OF(HEED_I64, N(2, 0, -1), 3) };

    EXPECT_END(make_gather, above, HEED_ERR_LIMIT, "3");
    EXPECT_END(make_gather, below, HEED_ERR_LIMIT, "-1");
    EXPECT_END(make_scatter, below, HEED_ERR_LIMIT, "-1");
}

static void one_hot_has_one_one_a_row(void **state)
{
    const given x[] = { OF(HEED_I64, N(2, 0), 2) };

    EXPECT(make_one_hot, x, 0, 0, 1, 1, 0, 0);
}

static void topk_falls_and_ties_go_to_the_lower_index(void **state)
{
    const given x[] = { F32(N(1, 5, 3, 5, 2, NAN, 7, 7), 2, 4) };

    EXPECT(make_topk, x, 5, 5, NAN, 7);
    EXPECT(make_topk_indices, x, 1, 3, 1, 2);
    EXPECT_GRAD(make_topk, x, 0, 0, 1, 0, 1, 0, 1, 1, 0);
}

static void an_update_is_clamped_so_that_it_fits(void **state)
{
    const given inside[] = { F32(one_to_six, 6), F32(N(7, 8), 2), OF(HEED_I64, N(1), 1) };
    const given beyond[] = { F32(one_to_six, 6), F32(N(7, 8), 2), OF(HEED_I64, N(9), 1) };

    EXPECT(make_update, inside, 1, 7, 8, 4, 5, 6);
    EXPECT(make_update, beyond, 1, 2, 3, 4, 7, 8);
    EXPECT_GRAD(make_update, inside, 0, 1, 0, 0, 1, 1, 1);
    EXPECT_GRAD(make_update, beyond, 1, 1, 1);
}

/* ---- made from nothing ---- */

MAKE(make_iota, heed_add(b, in[0], heed_iota(b, HEED_TYPE(HEED_F32, 2, 3), 1)))

static void iota_counts_along_its_axis(void **state)
{
    const given x[] = { F32(N(10), 1) };

    EXPECT(make_iota, x, 10, 11, 12, 10, 11, 12);
}

static void build_random(heed_builder *b, void *user)
{
    (void)user;
    heed_scope_push(b, "noise");
    heed_output(b, "u", heed_random_uniform(b, "u", 2, (const int64_t[]){ 3, 6 }));
    heed_output(b, "n", heed_random_normal(b, "n", 2, (const int64_t[]){ 3, 6 }));
    heed_scope_pop(b);
}

static void a_random_number_is_a_function_of_its_address(void **state)
{
    fixture *f = *state;
    const int64_t seed_and_step[] = { 42, 7 };
    const rng u = heed__rng(42, 7, "noise.u"), n = heed__rng(42, 7, "noise.n");
    heed_error err = { 0 };
    double got[18];
    trial t;

    assert_int_equal(trial_open(&t, f->ctx, build_random, NULL, NULL, &err), HEED_OK);
    memcpy(heed_weights_find(t.weights, "rng").data, seed_and_step, sizeof seed_and_step);
    assert_int_equal(trial_run(&t, &err), HEED_OK);
    trial_get(&t, 0, got);
    for (uint32_t i = 0; i < 18; i++)
        assert_true(got[i] == (double)heed__unit(heed__rng_word(&u, i / 6, i % 6)));
    trial_get(&t, 1, got);
    for (uint32_t i = 0; i < 18; i++) {
        const uint32_t row = i / 6, word = 2 * (i % 6);

        assert_true(got[i] == (double)heed__normal(heed__rng_word(&n, row, word), heed__rng_word(&n, row, word + 1)));
    }
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinks_have_pytorchs_slopes),
        cmocka_unit_test(activations_are_finite_far_out),
        cmocka_unit_test(glu_weighs_the_first_half_by_the_second),
        cmocka_unit_test(sizes_are_aligned_from_the_right),
        cmocka_unit_test(a_tie_shares_the_gradient_of_max),
        cmocka_unit_test(pow_has_a_gradient_at_zero),
        cmocka_unit_test(integers_wrap_around_and_do_not_divide),
        cmocka_unit_test(every_comparison_with_nan_is_false),
        cmocka_unit_test(what_select_leaves_out_has_no_influence),
        cmocka_unit_test(a_cast_truncates_and_clamps),
        cmocka_unit_test(shapes_move_elements_as_in_pytorch),
        cmocka_unit_test(a_slice_with_steps_scatters_its_gradient),
        cmocka_unit_test(concat_takes_any_number_of_values),
        cmocka_unit_test(reductions_take_axes_by_their_bits),
        cmocka_unit_test(ties_share_the_gradient_of_amax),
        cmocka_unit_test(argmax_names_the_first_and_sees_nan),
        cmocka_unit_test(cumsum_runs_along_its_axis),
        cmocka_unit_test(logsumexp_of_minus_infinities_is_one_without_nan),
        cmocka_unit_test(gather_and_scatter_are_each_others_gradient),
        cmocka_unit_test(a_bad_index_ends_the_run_and_is_named),
        cmocka_unit_test(one_hot_has_one_one_a_row),
        cmocka_unit_test(topk_falls_and_ties_go_to_the_lower_index),
        cmocka_unit_test(an_update_is_clamped_so_that_it_fits),
        cmocka_unit_test(iota_counts_along_its_axis),
        cmocka_unit_test(a_random_number_is_a_function_of_its_address),
    };

    return cmocka_run_group_tests(tests, open_context, close_context);
}
