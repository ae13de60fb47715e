/* Gradients in odd places: between values, twice, of a leaf by itself, through stop_grad and through composites opened inside composites. */
#include "support/cmocka.h"
#include "support/trial.h"

#include <heed/ops.h>

#include <math.h>
#include <string.h>

static int setup(void **state)
{
    return heed_context_new((heed_context **)state, &(heed_context_opts){ .threads = 2 }, NULL);
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

typedef void graph_fn(heed_builder *b);

typedef struct graph_case {
    graph_fn *build;
} graph_case;

static void build_case(heed_builder *b, void *user)
{
    ((const graph_case *)user)->build(b);
}

/* Runs the graph on x = numbers and gives its outputs, which are f64. */
static void ran(void **state, graph_fn *build, const heed_plan_opts *opts, const double *numbers, double *out, int n_out)
{
    graph_case c = { build };
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, *state, build_case, &c, opts, &err) != HEED_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < t.n_in; i++)
        trial_set(&t, i, numbers);
    if (trial_run(&t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_string_equal(t.broken, "");
    for (int i = 0, at = 0; i < t.n_out; i++) {
        const int64_t count = heed_type_count(&t.out[i].tensor.type);

        if (at + count > n_out)
            fail_msg("more numbers than wanted");
        trial_get(&t, i, out + at);
        at += (int)count;
    }
    trial_close(&t);
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fmax(1, fabs(want))))
        fail_msg("%.12g, not %.12g", got, want);
}

static heed_value total(heed_builder *b, heed_value x)
{
    return heed_sum(b, x, HEED_ALL_AXES, HEED_DROP_AXES);
}

static heed_value input3(heed_builder *b)
{
    return heed_input(b, "x", HEED_TYPE(HEED_F64, 3));
}

static void outputs(heed_builder *b, const heed_value *d, int n)
{
    char name[2] = "a";

    for (int i = 0; i < n; i++, name[0]++)
        heed_output(b, name, d[i]);
}

/* y = x^2, z = e^y, loss = sum z + sum y: by y, x, x again, z, the loss, and something it does not see */
static void build_between(heed_builder *b)
{
    heed_value x = input3(b), y = heed_mul(b, x, x), z = heed_exp(b, y), loss = heed_add(b, total(b, z), total(b, y));
    heed_value wrt[] = { y, x, x, z, loss, heed_sin(b, x) }, d[6];

    heed_grad(b, loss, wrt, 6, d);
    outputs(b, d, 6);
}

static void values_between_and_twice_have_their_gradients(void **state)
{
    const double x[] = { 0.5, -1, 0.25 };
    double got[16];

    ran(state, build_between, NULL, x, got, 16);
    for (int i = 0; i < 3; i++) {
        near(got[i], exp(x[i] * x[i]) + 1);
        near(got[3 + i], 2 * x[i] * (exp(x[i] * x[i]) + 1));
        near(got[6 + i], got[3 + i]);
        near(got[9 + i], 1);
        near(got[13 + i], 0);
    }
    near(got[12], 1);
}

static void build_own(heed_builder *b)
{
    heed_value p = heed_param(b, "p", heed_type_of(HEED_F64, 0, NULL), &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 3 });
    heed_value q = heed_param(b, "q", HEED_TYPE(HEED_F64, 1), &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 3 });
    heed_value d[4];

    heed_grad(b, p, &p, 1, d);
    heed_grad(b, q, (heed_value[]){ q, p }, 2, d + 1);
    heed_grad(b, heed_mul(b, heed_stop_grad(b, p), p), &p, 1, d + 3);
    outputs(b, d, 4);
}

static void a_loss_that_is_a_parameter_has_gradient_one(void **state)
{
    double got[4];

    ran(state, build_own, NULL, NULL, got, 4);
    near(got[0], 1);
    near(got[1], 1);
    near(got[2], 0);
    near(got[3], 3);
}

/* stop_grad in one branch; and wrt the stopped value itself */
static void build_stopped(heed_builder *b)
{
    heed_value x = input3(b), y = heed_exp(b, x), s = heed_stop_grad(b, y), d[3];
    heed_value loss = total(b, heed_mul(b, s, heed_add(b, y, s)));

    heed_grad(b, loss, (heed_value[]){ x, s, y }, 3, d);
    outputs(b, d, 3);
}

static void stopped_values_stop_and_can_be_asked_for(void **state)
{
    const double x[] = { 0.5, -1, 0.25 };
    double got[9];

    ran(state, build_stopped, NULL, x, got, 9);
    for (int i = 0; i < 3; i++) {
        near(got[i], exp(2 * x[i]));          /* s dy/dx */
        near(got[3 + i], 3 * exp(x[i]));      /* y + 2 s */
        near(got[6 + i], exp(x[i]));
    }
}

/* A function of x in f64, whose first and second derivatives are asked for. */
typedef heed_value scalar_fn(heed_builder *b, heed_value x);

static heed_value by_cross_entropy(heed_builder *b, heed_value x)
{
    heed_value rows = heed_concat(b, (heed_value[]){ heed_unsqueeze(b, x, 0), heed_unsqueeze(b, heed_mul(b, x, x), 0) }, 2, 0);
    heed_value target = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 2, 0 } });

    return heed_cross_entropy(b, rows, target, &(heed_cross_entropy_opts){ .label_smoothing = 0.1 });
}
static heed_value by_norms(heed_builder *b, heed_value x)
{
    heed_value y = heed_reshape(b, heed_concat(b, (heed_value[]){ x, heed_exp(b, x), heed_mul(b, x, x), heed_sin(b, x) }, 4, 0), 2,
                                (int64_t[]){ 2, 6 });

    y = heed_layer_norm(b, y, 1, (heed_value){ 0 }, (heed_value){ 0 }, 1e-3);
    y = heed_rms_norm(b, heed_mul(b, y, y), 1, (heed_value){ 0 }, 1e-3);
    return total(b, heed_mul(b, heed_softmax(b, y, -1), heed_silu(b, heed_gelu(b, y))));
}
static heed_value by_batch(heed_builder *b, heed_value x)
{
    heed_value y = heed_reshape(b, heed_concat(b, (heed_value[]){ x, heed_exp(b, x), heed_mul(b, x, x), heed_sin(b, x) }, 4, 0), 2,
                                (int64_t[]){ 4, 3 });
    heed_batch_normed n = heed_batch_norm_train(b, y, (heed_value){ 0 }, (heed_value){ 0 }, 1e-3);

    return heed_add(b, total(b, heed_log_softmax(b, heed_mul(b, n.y, n.y), -1)), total(b, heed_mul(b, n.mean, n.var)));
}
static heed_value by_pools(heed_builder *b, heed_value x)
{
    heed_value y = heed_reshape(b, heed_concat(b, (heed_value[]){ x, heed_exp(b, x), heed_mul(b, x, x), heed_sin(b, x) }, 4, 0), 4,
                                (int64_t[]){ 1, 1, 3, 4 });

    y = heed_max_pool(b, heed_mul(b, y, y), (int64_t[]){ 2, 2 }, &(heed_pool_opts){ .stride = { 1, 1 } });
    y = heed_avg_pool(b, heed_exp(b, y), (int64_t[]){ 2, 2 }, &(heed_pool_opts){ .stride = { 1, 1 }, .pad = { 1, 1 }, .exclude_pad = true });
    return total(b, heed_mul(b, y, heed_logsumexp(b, y, -1, HEED_KEEP_AXES)));
}
static heed_value by_indices(heed_builder *b, heed_value x)
{
    heed_value index = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 4), (int64_t[]){ 2, 0, 2, 1 } });
    heed_value start = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 1), (int64_t[]){ 1 } });
    heed_value y = heed_gather(b, heed_mul(b, x, x), index, 0);
    heed_value z = heed_scatter_add(b, index, heed_mul(b, y, heed_slice(b, y, 0, 0, 4, 1)), 0, 3);

    z = heed_update_slice(b, z, heed_slice(b, heed_exp(b, x), 0, 0, 3, 2), start);
    z = heed_mul(b, heed_reverse(b, z, 0), heed_cumsum(b, z, 0));
    return total(b, heed_mul(b, heed_topk(b, z, 2, NULL), heed_pad(b, heed_slice(b, x, 0, 1, 2, 1), 0, 1, 0, 2)));
}

static scalar_fn *now;

/* f, f', and the derivative of sum (f'^2) */
static void build_derivatives(heed_builder *b)
{
    heed_value x = input3(b), f = now(b, x), d, dd;

    heed_grad(b, f, &x, 1, &d);
    heed_grad(b, total(b, heed_mul(b, d, d)), &x, 1, &dd);
    outputs(b, (heed_value[]){ f, d, dd }, 3);
}

static void second_derivatives_pass_through_opened_composites(void **state)
{
    static scalar_fn *const all[] = { by_cross_entropy, by_norms, by_batch, by_pools, by_indices };
    const double x[] = { 0.5, -0.7, 0.31 }, eps = 1e-5;

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        const heed_plan_opts reference = { .kernels = HEED_KERNELS_REFERENCE };
        double at[7], again[7];

        now = all[k];
        ran(state, build_derivatives, NULL, x, at, 7);
        ran(state, build_derivatives, &reference, x, again, 7);
        for (int i = 0; i < 7; i++)
            near(again[i], at[i]);
        for (int i = 0; i < 3; i++) {
            double up[7], down[7], moved[3], want1, want2 = 0;

            memcpy(moved, x, sizeof moved);
            moved[i] += eps;
            ran(state, build_derivatives, NULL, moved, up, 7);
            moved[i] -= 2 * eps;
            ran(state, build_derivatives, NULL, moved, down, 7);
            want1 = (up[0] - down[0]) / (2 * eps);
            for (int j = 0; j < 3; j++)
                want2 += (up[1 + j] * up[1 + j] - down[1 + j] * down[1 + j]) / (2 * eps);
            if (fabs(at[1 + i] - want1) > 1e-5 * fmax(1, fabs(want1)) || fabs(at[4 + i] - want2) > 1e-5 * fmax(1, fabs(want2)))
                fail_msg("function %d, by x[%d]: %.9g and %.9g, not %.9g and %.9g", (int)k, i, at[1 + i], at[4 + i], want1, want2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_between_and_twice_have_their_gradients, setup, teardown),
        cmocka_unit_test_setup_teardown(a_loss_that_is_a_parameter_has_gradient_one, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_values_stop_and_can_be_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(second_derivatives_pass_through_opened_composites, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
