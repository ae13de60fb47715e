/* Gradients as graphs: sums of paths, broadcasting, zeros, second and third derivatives. Numbers of single ops: op_test. */
#include "support/cmocka.h"
#include "support/trial.h"
#include "graph/op.h"
#include <heed/ops.h>

#include <math.h>
#include <string.h>

static heed_context *ctx;

static int open_context(void **state)
{
    (void)state;
    return heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL);
}

static int close_context(void **state)
{
    (void)state;
    heed_context_free(ctx);
    return 0;
}

/* Runs a graph of f64 inputs on numbers and gives the numbers of all outputs one after another. */
static void run(trial_build *build, const double *const *in, double *out)
{
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, ctx, build, NULL, NULL, &err) != HEED_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < t.n_in; i++)
        trial_set(&t, i, in[i]);
    if (trial_run(&t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_string_equal(t.broken, "");
    for (int i = 0; i < t.n_out; i++) {
        trial_get(&t, i, out);
        out += heed_type_count(&t.out[i].tensor.type);
    }
    trial_close(&t);
}

static heed_value total(heed_builder *b, heed_value x)
{
    return heed_sum(b, x, HEED_ALL_AXES, HEED_DROP_AXES);
}

static void cube(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 3)), d = { 0 }, y = heed_mul(b, x, heed_mul(b, x, x));

    (void)user;
    for (int i = 0; i < 3; i++) {
        heed_grad(b, total(b, y), &x, 1, &d);
        heed_output(b, i == 0 ? "d" : i == 1 ? "dd" : "ddd", d);
        y = d;
    }
}

static void the_derivatives_of_x_cubed_are_3_x_squared_6_x_and_6(void **state)
{
    const double x[] = { -2, 0.5, 3 };
    double got[9];

    (void)state;
    run(cube, (const double *const[]){ x }, got);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(got[i] - 3 * x[i] * x[i]) < 1e-12);
        assert_true(fabs(got[3 + i] - 6 * x[i]) < 1e-12);
        assert_true(fabs(got[6 + i] - 6) < 1e-12);
    }
}

static void paths(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), d = { 0 };

    (void)user;
    heed_grad(b, total(b, heed_add(b, heed_mul_scalar(b, x, 3), heed_add(b, x, x))), &x, 1, &d);
    heed_output(b, "d", d);
}

static void gradients_of_all_paths_are_added(void **state)
{
    double got[2];

    (void)state;
    run(paths, (const double *const[]){ (double[]){ 1, 2 } }, got);
    assert_true(got[0] == 5 && got[1] == 5);
}

static void spread(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2, 3)), bias = heed_input(b, "b", HEED_TYPE(HEED_F64, 3));
    heed_value column = heed_input(b, "c", HEED_TYPE(HEED_F64, 2, 1)), wrt[3] = { x, bias, column }, d[3];

    (void)user;
    heed_grad(b, total(b, heed_mul(b, heed_add(b, x, bias), column)), wrt, 3, d);
    for (int i = 0; i < 3; i++)
        heed_output(b, i == 0 ? "dx" : i == 1 ? "db" : "dc", d[i]);
}

static void broadcast_inputs_get_sums(void **state)
{
    const double x[] = { 1, 2, 3, 4, 5, 6 }, bias[] = { 10, 20, 30 }, column[] = { 2, -1 };
    double got[11];

    (void)state;
    run(spread, (const double *const[]){ x, bias, column }, got);
    for (int i = 0; i < 6; i++)
        assert_true(got[i] == column[i / 3]);
    for (int i = 0; i < 3; i++)
        assert_true(got[6 + i] == 1); /* 2 - 1 */
    assert_true(got[9] == 66 && got[10] == 75);
}

static void apart(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), y = heed_input(b, "y", HEED_TYPE(HEED_F64, 2));
    heed_value wrt[3] = { x, y, heed_stop_grad(b, x) }, d[3];

    (void)user;
    heed_grad(b, total(b, heed_mul(b, x, heed_stop_grad(b, heed_mul(b, x, y)))), wrt, 2, d);
    heed_output(b, "dx", d[0]);
    heed_output(b, "dy", d[1]);
}

static void what_the_loss_does_not_depend_on_gets_zeros(void **state)
{
    double got[4];

    (void)state;
    run(apart, (const double *const[]){ (double[]){ 2, 3 }, (double[]){ 5, 7 } }, got);
    assert_true(got[0] == 10 && got[1] == 21); /* x y, taken as a constant */
    assert_true(got[2] == 0 && got[3] == 0);
}

static void middle(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), h = heed_mul(b, x, x), d[2];

    (void)user;
    heed_grad(b, total(b, heed_mul(b, h, h)), (heed_value[]){ h, x }, 2, d);
    heed_output(b, "dh", d[0]);
    heed_output(b, "dx", d[1]);
}

static void one_may_differentiate_by_a_value_on_the_way(void **state)
{
    double got[4];

    (void)state;
    run(middle, (const double *const[]){ (double[]){ 2, 3 } }, got);
    assert_true(got[0] == 8 && got[1] == 18);   /* 2 h */
    assert_true(got[2] == 32 && got[3] == 108); /* 4 x^3 */
}

static void given(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), dy = heed_input(b, "dy", HEED_TYPE(HEED_F64, 2));
    heed_value y[2] = { heed_mul(b, x, x), heed_neg(b, x) }, up[2] = { dy, dy }, d;

    (void)user;
    heed_grad_of(b, y, up, 2, &x, 1, &d);
    heed_output(b, "d", d);
}

static void an_upstream_gradient_may_be_given_for_several_outputs(void **state)
{
    double got[2];

    (void)state;
    run(given, (const double *const[]){ (double[]){ 2, 3 }, (double[]){ 1, 10 } }, got);
    assert_true(got[0] == 3 && got[1] == 50); /* (2 x - 1) dy */
}

static void the_loss_itself_has_the_gradient_one(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", heed_type_of(HEED_F64, 0, NULL)), d;

    (void)user;
    heed_grad(b, x, &x, 1, &d);
    heed_output(b, "d", d);
}

static void a_value_has_the_gradient_one_by_itself(void **state)
{
    double got[1];

    (void)state;
    run(the_loss_itself_has_the_gradient_one, (const double *const[]){ (double[]){ 4 } }, got);
    assert_true(got[0] == 1);
}

static void expect_refused(trial_build *build, heed_status code, const char *words)
{
    heed_error err = { 0 };
    trial t;

    assert_int_equal(trial_open(&t, ctx, build, NULL, NULL, &err), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
}

static void of_many(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), d;

    (void)user;
    heed_grad(b, x, &x, 1, &d);
}

static void by_integers(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F64, 2)), i = heed_input(b, "i", HEED_TYPE(HEED_I64, 2)), d;

    (void)user;
    heed_grad(b, total(b, x), &i, 1, &d);
}

static void a_gradient_needs_one_number_and_floats(void **state)
{
    (void)state;
    expect_refused(of_many, HEED_ERR_SHAPE, "the loss must be one number, this one has 2");
    expect_refused(by_integers, HEED_ERR_DTYPE, "the variable 0 is not of a floating dtype");
}

static void golden(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 3)), w = heed_param(b, "w", HEED_TYPE(HEED_F32, 3), NULL), d;

    (void)user;
    heed_grad(b, total(b, heed_mul(b, x, w)), &w, 1, &d);
    heed_output(b, "dw", d);
}

static void a_gradient_is_a_graph_that_can_be_read(void **state)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    char *printed = NULL;

    (void)state;
    assert_int_equal(heed_builder_new(&b, ctx, NULL), HEED_OK);
    golden(b, NULL);
    assert_int_equal(heed_builder_finish(&g, b, NULL), HEED_OK);
    assert_int_equal(heed_graph_print(&printed, g, HEED_GRAPH_TEXT, NULL), HEED_OK);
    assert_string_equal(printed, "%1 = input \"x\" : f32[2,3]\n"
                                 "%2 = param \"w\" : f32[3]\n"
                                 "%3 = broadcast %2 {dims=2,3} : f32[2,3]\n"
                                 "%4 = mul %1 %3 : f32[2,3]\n"
                                 "%5 = sum %4 {axes=3, keep=false} : f32[]\n"
                                 "%6 = constant {1} : f32[]\n"
                                 "%7 = reshape %6 {dims=1,1} : f32[1,1]\n"
                                 "%8 = broadcast %7 {dims=2,3} : f32[2,3]\n"
                                 "%9 = mul %8 %1 : f32[2,3]\n"
                                 "%10 = sum %9 {axes=1, keep=true} : f32[1,3]\n"
                                 "%11 = reshape %10 {dims=3} : f32[3]\n"
                                 "output \"dw\" %11\n");
    heed_text_free(ctx, printed);
    heed_graph_free(g);
    heed_builder_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_derivatives_of_x_cubed_are_3_x_squared_6_x_and_6),
        cmocka_unit_test(gradients_of_all_paths_are_added),
        cmocka_unit_test(broadcast_inputs_get_sums),
        cmocka_unit_test(what_the_loss_does_not_depend_on_gets_zeros),
        cmocka_unit_test(one_may_differentiate_by_a_value_on_the_way),
        cmocka_unit_test(an_upstream_gradient_may_be_given_for_several_outputs),
        cmocka_unit_test(a_value_has_the_gradient_one_by_itself),
        cmocka_unit_test(a_gradient_needs_one_number_and_floats),
        cmocka_unit_test(a_gradient_is_a_graph_that_can_be_read),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
