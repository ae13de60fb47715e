/* Building graphs: names, scopes, poison, the printed form. */
#include "support/cmocka.h"
#include "graph/op.h"
#include "ops/ops.h"
#include "passes/passes.h"
#include <heed/nn.h>

#include <string.h>

typedef struct fixture {
    heed_context *ctx;
    heed_builder *b;
    heed_value x; /* f32 [2,3] */
} fixture;

static int open_fixture(void **state)
{
    static fixture f;
    heed_error err = { 0 };

    assert_int_equal(heed_context_new(&f.ctx, &(heed_context_opts){ .threads = 1 }, &err), HEED_OK);
    assert_int_equal(heed_builder_new(&f.b, f.ctx, &err), HEED_OK);
    f.x = heed_input(f.b, "x", HEED_TYPE(HEED_F32, 2, 3));
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;

    heed_builder_free(f->b);
    assert_int_equal(heed_context_bytes(f->ctx) > 0, 1);
    heed_context_free(f->ctx);
    return 0;
}

/* The builder ends with this code and a text that holds `words`. */
static void expect_refused(fixture *f, heed_status code, const char *words)
{
    heed_error err = { 0 };
    heed_graph *g = NULL;

    assert_int_equal(heed_builder_finish(&g, f->b, &err), code);
    assert_null(g);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
}

static void expect_printed(const heed_graph *g, const char *want)
{
    heed_error err = { 0 };
    char *printed = NULL;

    assert_int_equal(heed_graph_print(&printed, g, HEED_GRAPH_TEXT, &err), HEED_OK);
    assert_string_equal(printed, want);
    heed_text_free(g->ctx, printed);
}

static heed_graph *finish(fixture *f)
{
    heed_error err = { 0 };
    heed_graph *g = NULL;

    if (heed_builder_finish(&g, f->b, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return g;
}

static void the_printed_form_is_stable(void **state)
{
    fixture *f = *state;
    heed_graph *g;
    heed_value h;

    heed_scope_push(f->b, "fc");
    h = heed_matmul(f->b, f->x, heed_param(f->b, "weight", HEED_TYPE(HEED_F32, 3, 4), NULL));
    h = heed_relu(f->b, heed_add(f->b, h, heed_constant(f->b, (heed_tensor){ HEED_TYPE(HEED_F32, 4), (float[]){ 1, -0.5f, 0, 3e-8f } })));
    heed_tap(f->b, "hidden", h);
    heed_scope_pop(f->b);
    heed_output(f->b, "y", heed_sum(f->b, h, HEED_ALL_AXES, HEED_DROP_AXES));
    g = finish(f);
    expect_printed(g, "%1 = input \"x\" : f32[2,3]\n"
                      "%2 = param \"fc.weight\" : f32[3,4]\n"
                      "%3 = matmul %1 %2 {split=false} : f32[2,4]  @fc\n"
                      "%4 = constant {1,-0.5,0,3e-08} : f32[4]\n"
                      "%5 = broadcast %4 {dims=2,4} : f32[2,4]  @fc\n"
                      "%6 = add %3 %5 : f32[2,4]  @fc\n"
                      "%7 = relu %6 : f32[2,4]  @fc\n"
                      "%8 = sum %7 {axes=3, keep=false} : f32[]\n"
                      "output \"y\" %8\n"
                      "tap \"fc.hidden\" %7\n");
    heed_graph_free(g);
}

static void simplify_keeps_one_of_equal_nodes_and_no_dead_one(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };
    heed_graph *g, *simple = NULL;
    heed_value a = heed_exp(f->b, f->x), again = heed_exp(f->b, f->x);

    heed_log(f->b, f->x);
    heed_output(f->b, "y", heed_mul(f->b, a, heed_reshape(f->b, again, 2, (int64_t[]){ 2, 3 })));
    g = finish(f);
    assert_int_equal(heed__pass_simplify(&simple, g, &err), HEED_OK);
    expect_printed(simple, "%1 = input \"x\" : f32[2,3]\n"
                           "%2 = exp %1 : f32[2,3]\n"
                           "%3 = mul %2 %2 : f32[2,3]\n"
                           "output \"y\" %3\n");
    heed_graph_free(simple);
    heed_graph_free(g);
}

static void the_first_error_is_the_one_that_is_told(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };
    heed_value bad = heed_softmax(f->b, f->x, 7);

    assert_int_equal(bad.id, 0);
    assert_int_equal(heed_input(f->b, "x", HEED_TYPE(HEED_F32, 1)).id, 0); /* wrong too, but later */
    assert_int_equal(heed_builder_status(f->b, &err), HEED_ERR_SHAPE);
    expect_refused(f, HEED_ERR_SHAPE, "axis 7");
}

static void calls_on_poison_do_nothing(void **state)
{
    fixture *f = *state;
    heed_value bad = heed_softmax(f->b, f->x, 7);
    const uint32_t nodes = heed__building(f->b)->n_nodes;

    heed_output(f->b, "y", heed_relu(f->b, heed_matmul(f->b, bad, heed_linear(f->b, "fc", bad, 3, NULL))));
    heed_scope_pop(f->b); /* an error of its own, were it not too late */
    assert_int_equal(heed__building(f->b)->n_nodes, nodes);
    assert_int_equal(heed_dim(f->b, bad, 0), 0);
    assert_int_equal(heed_rank(f->b, bad), 0);
    expect_refused(f, HEED_ERR_SHAPE, "axis 7");
}

static void an_error_names_its_scope(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };

    heed_scope_push(f->b, "encoder");
    heed_scope_push(f->b, "0");
    heed_softmax(f->b, f->x, 7);
    assert_int_equal(heed_builder_status(f->b, &err), HEED_ERR_SHAPE);
    assert_string_equal(err.path, "encoder.0");
}

static void a_path_can_be_given_once(void **state)
{
    fixture *f = *state;

    heed_scope_push(f->b, "a");
    heed_param(f->b, "w", HEED_TYPE(HEED_F32, 3), NULL);
    heed_scope_pop(f->b);
    heed_state(f->b, "a.w", HEED_TYPE(HEED_F32, 3), NULL);
    expect_refused(f, HEED_ERR_USAGE, "\"a.w\"");
}

static void a_tie_is_the_same_value(void **state)
{
    fixture *f = *state;
    heed_value w = heed_param(f->b, "w", HEED_TYPE(HEED_F32, 3), NULL);

    heed_scope_push(f->b, "elsewhere");
    assert_int_equal(heed_param_tie(f->b, "w").id, w.id);
    heed_scope_pop(f->b);
    assert_int_equal(heed_params(f->b, NULL, 0), 1);
    heed_param_tie(f->b, "v");
    expect_refused(f, HEED_ERR_USAGE, "no parameter \"v\"");
}

static void outputs_and_taps_have_names_of_their_own(void **state)
{
    fixture *f = *state;

    heed_output(f->b, "y", f->x);
    heed_tap(f->b, "y", f->x); /* taps and outputs do not meet here */
    heed_tap(f->b, "y", f->x);
    expect_refused(f, HEED_ERR_USAGE, "two taps have the name \"y\"");
}

static void an_output_twice_is_refused(void **state)
{
    fixture *f = *state;

    heed_output(f->b, "y", f->x);
    heed_output(f->b, "y", f->x);
    expect_refused(f, HEED_ERR_USAGE, "two outputs have the name \"y\"");
}

static void a_scope_that_is_open_at_the_end_is_refused(void **state)
{
    fixture *f = *state;

    heed_scope_push(f->b, "a");
    expect_refused(f, HEED_ERR_USAGE, "\"a\" is still open");
}

static void a_pop_without_a_push_is_refused(void **state)
{
    fixture *f = *state;

    heed_scope_pop(f->b);
    expect_refused(f, HEED_ERR_USAGE, "without a push");
}

static void scopes_have_a_name_and_a_depth(void **state)
{
    fixture *f = *state;

    for (int i = 0; i < 65; i++)
        heed_scope_push(f->b, "s");
    expect_refused(f, HEED_ERR_LIMIT, "at most 64 deep");
}

static void only_states_and_parameters_are_assigned_and_once(void **state)
{
    fixture *f = *state;
    heed_value s = heed_state(f->b, "s", HEED_TYPE(HEED_F32, 2, 3), NULL);

    heed_assign(f->b, s, f->x);
    heed_assign(f->b, s, f->x);
    expect_refused(f, HEED_ERR_USAGE, "\"s\" is assigned twice");
}

static void an_input_is_not_assigned(void **state)
{
    fixture *f = *state;

    heed_assign(f->b, f->x, f->x);
    expect_refused(f, HEED_ERR_USAGE, "only a state or a parameter");
}

static void an_assigned_value_has_the_type_of_its_state(void **state)
{
    fixture *f = *state;

    heed_assign(f->b, heed_state(f->b, "s", HEED_TYPE(HEED_F32, 3, 2), NULL), f->x);
    expect_refused(f, HEED_ERR_SHAPE, "\"s\"");
}

static void random_ops_have_names_of_their_own(void **state)
{
    fixture *f = *state;

    heed_set_mode(f->b, HEED_TRAIN);
    heed_dropout(f->b, "drop", f->x, 0.5);
    heed_dropout(f->b, "drop", f->x, 0.5);
    expect_refused(f, HEED_ERR_USAGE, "\"drop\"");
}

static void dtypes_do_not_mix(void **state)
{
    fixture *f = *state;

    heed_add(f->b, f->x, heed_scalar(f->b, HEED_F64, 1));
    expect_refused(f, HEED_ERR_DTYPE, "heed_cast");
}

static void a_value_of_another_builder_is_refused(void **state)
{
    fixture *f = *state;

    heed_relu(f->b, (heed_value){ 4711 });
    expect_refused(f, HEED_ERR_USAGE, "another builder");
}

static void a_builder_is_finished_once(void **state)
{
    fixture *f = *state;
    heed_graph *g = finish(f);
    heed_error err = { 0 };
    heed_graph *more = NULL;

    assert_int_equal(heed_builder_finish(&more, f->b, &err), HEED_ERR_USAGE);
    assert_null(more);
    assert_int_equal(heed_relu(f->b, f->x).id, 0);
    heed_graph_free(g);
}

static void a_type_that_is_none_is_refused(void **state)
{
    fixture *f = *state;

    heed_input(f->b, "huge", HEED_TYPE(HEED_F32, INT64_MAX / 2, 4));
    expect_refused(f, HEED_ERR_SHAPE, "\"huge\"");
}

static void negative_axes_count_from_the_end(void **state)
{
    fixture *f = *state;

    assert_int_equal(heed_dim(f->b, f->x, -1), 3);
    assert_int_equal(heed_dim(f->b, f->x, -2), 2);
    assert_int_equal(heed_dim(f->b, f->x, -3), 0);
    expect_refused(f, HEED_ERR_SHAPE, "axis -3");
}

static void a_picture_of_the_graph_names_ops_and_sizes(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };
    heed_graph *g;
    char *printed = NULL;

    heed_output(f->b, "y", heed_exp(f->b, f->x));
    g = finish(f);
    assert_int_equal(heed_graph_print(&printed, g, HEED_GRAPH_MERMAID, &err), HEED_OK);
    assert_string_equal(printed, "flowchart TD\n"
                              "    n0([\"input x\"])\n"
                              "    n1[\"exp\"]\n"
                              "    n0 -->|\"f32[2,3]\"| n1\n"
                              "    n1 --> o0{{\"y\"}}\n");
    heed_text_free(f->ctx, printed);
    heed_graph_free(g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_printed_form_is_stable),
        TEST(simplify_keeps_one_of_equal_nodes_and_no_dead_one),
        TEST(the_first_error_is_the_one_that_is_told),
        TEST(calls_on_poison_do_nothing),
        TEST(an_error_names_its_scope),
        TEST(a_path_can_be_given_once),
        TEST(a_tie_is_the_same_value),
        TEST(outputs_and_taps_have_names_of_their_own),
        TEST(an_output_twice_is_refused),
        TEST(a_scope_that_is_open_at_the_end_is_refused),
        TEST(a_pop_without_a_push_is_refused),
        TEST(scopes_have_a_name_and_a_depth),
        TEST(only_states_and_parameters_are_assigned_and_once),
        TEST(an_input_is_not_assigned),
        TEST(an_assigned_value_has_the_type_of_its_state),
        TEST(random_ops_have_names_of_their_own),
        TEST(dtypes_do_not_mix),
        TEST(a_value_of_another_builder_is_refused),
        TEST(a_builder_is_finished_once),
        TEST(a_type_that_is_none_is_refused),
        TEST(negative_axes_count_from_the_end),
        TEST(a_picture_of_the_graph_names_ops_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
