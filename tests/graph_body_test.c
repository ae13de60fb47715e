/* Nodes with bodies: printed, checked, copied and freed, before the first op that runs one. */

#include "graph/op.h"
#include "ops/ops.h"
#include "passes/passes.h"
#include "support/cmocka.h"

#include <string.h>

static const op_slot loop_in[] = { { .name = "x", .dtypes = FLOATS }, SLOT_END };
static const op_slot loop_out[] = { { .name = "y" }, SLOT_END };

/* The node gives what its body gives. */
static heed_status loop_infer(op_infer *t)
{
    if (!t->body || t->body->n_outputs != 1)
        return heed__refuse(t, HEED_ERR_USAGE, "needs a body with one output");
    t->out[0] = heed__value(t->body, t->body->outputs[0].value)->type;
    return HEED_OK;
}

static const op_def loop = { .name = "loop", .version = 1, .in = loop_in, .out = loop_out, .infer = loop_infer };

static int make_context(void **state)
{
    return heed_context_new((heed_context **)state, NULL, NULL);
}

static int free_context(void **state)
{
    heed_context_free(*state);
    return 0;
}

static heed_graph *doubled(heed_context *ctx)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_value x;

    assert_int_equal(heed_builder_new(&b, ctx, NULL), HEED_OK);
    x = heed_input(b, "x", HEED_TYPE(HEED_F32, 3));
    heed_output(b, "y", heed_add(b, x, x));
    assert_int_equal(heed_builder_finish(&g, b, NULL), HEED_OK);
    heed_builder_free(b);
    return g;
}

static heed_graph *with_loop(heed_context *ctx, heed_status wanted, bool give_body)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_value x, y;

    assert_int_equal(heed_builder_new(&b, ctx, NULL), HEED_OK);
    x = heed_input(b, "x", HEED_TYPE(HEED_F32, 5));
    heed__nodes_with_body(b, &loop, NULL, &x, 1, give_body ? doubled(ctx) : NULL, &y);
    heed_output(b, "y", y);
    assert_int_equal(heed_builder_finish(&g, b, NULL), wanted);
    heed_builder_free(b);
    return g;
}

static void a_body_is_printed_inside_its_node(void **state)
{
    heed_graph *g = with_loop(*state, HEED_OK, true);
    char *shown = NULL;

    assert_int_equal(heed_graph_print(&shown, g, HEED_GRAPH_TEXT, NULL), HEED_OK);
    assert_string_equal(shown, "%1 = input \"x\" : f32[5]\n"
                              "%2 = loop %1 : f32[3]\n"
                              "    %1 = input \"x\" : f32[3]\n"
                              "    %2 = add %1 %1 : f32[3]\n"
                              "    output \"y\" %2\n"
                              "output \"y\" %2\n");
    heed_text_free(*state, shown);
    heed_graph_free(g);
}

static void a_node_without_the_body_it_needs_is_refused(void **state)
{
    assert_null(with_loop(*state, HEED_ERR_USAGE, false));
}

static void a_pass_gives_the_copy_a_body_of_its_own(void **state)
{
    heed_graph *g = with_loop(*state, HEED_OK, true), *copy = NULL;
    char *before = NULL, *after = NULL;

    assert_int_equal(heed_graph_print(&before, g, HEED_GRAPH_TEXT, NULL), HEED_OK);
    assert_int_equal(heed__pass_simplify(&copy, g, NULL), HEED_OK);
    heed_graph_free(g);
    assert_int_equal(heed_graph_print(&after, copy, HEED_GRAPH_TEXT, NULL), HEED_OK);
    assert_string_equal(before, after);
    heed_text_free(*state, before);
    heed_text_free(*state, after);
    heed_graph_free(copy);
}

static void a_wrong_body_is_found_by_verify(void **state)
{
    heed_graph *g = with_loop(*state, HEED_OK, true);
    heed_graph *body = (heed_graph *)(uintptr_t)g->nodes[1].body;
    heed_error err = { 0 };

    body->values[2].type.dims[0] = 4; /* add of [3] and [3] does not give [4] */
    assert_int_not_equal(heed__verify(g, &err), HEED_OK);
    assert_true(strlen(err.text) > 0);
    heed_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_printed_inside_its_node, make_context, free_context),
        cmocka_unit_test_setup_teardown(a_node_without_the_body_it_needs_is_refused, make_context, free_context),
        cmocka_unit_test_setup_teardown(a_pass_gives_the_copy_a_body_of_its_own, make_context, free_context),
        cmocka_unit_test_setup_teardown(a_wrong_body_is_found_by_verify, make_context, free_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
