/* Graphs drawn as SVG; and what the build tells of itself. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include <heed/nn.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* x [2,4] -> fc [2,3] -> relu, added to itself scaled; and a far edge from x to the sum of a column. */
static heed_status draw(char **out, heed_context *ctx, heed_graph_form form, heed_error *err)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_status st = heed_builder_new(&b, ctx, err);
    heed_value x, y;

    if (st != HEED_OK)
        return st;
    x = heed_input(b, "x<1>", HEED_TYPE(HEED_F32, 2, 4));
    y = heed_relu(b, heed_linear(b, "fc", x, 4, NULL));
    y = heed_add(b, y, heed_mul_scalar(b, y, 2));
    heed_output(b, "y", heed_add(b, heed_tanh(b, heed_tanh(b, y)), x));
    st = heed_builder_finish(&g, b, err);
    heed_builder_free(b);
    if (st == HEED_OK)
        st = heed_graph_print(out, g, form, err);
    heed_graph_free(g);
    return st;
}

static int count(const char *text, const char *words)
{
    int n = 0;

    for (; (text = strstr(text, words)); text += strlen(words))
        n++;
    return n;
}

static void weights_are_named_in_the_box_that_reads_them(void **state)
{
    heed_context *ctx = NULL;
    char *svg = NULL;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    assert_int_equal(draw(&svg, ctx, HEED_GRAPH_SVG, NULL), HEED_OK);
    assert_memory_equal(svg, "<svg ", 5);
    assert_non_null(strstr(svg, "+ fc.weight f32[4,4]"));
    assert_non_null(strstr(svg, "+ fc.bias f32[4]"));
    assert_int_equal(count(svg, ">param<"), 0);
    assert_int_equal(count(svg, ">constant<"), 0);
    assert_int_equal(count(svg, ">tanh<"), 2);
    assert_int_equal(count(svg, "class=\"io\""), 2); /* x and y */
    assert_non_null(strstr(svg, "x&#60;1&#62;"));
    assert_int_equal(count(svg, "nan"), 0);
    heed_text_free(ctx, svg);
    heed_context_free(ctx);
}

/* An empty graph, and one whose result depends on no input. */
static void a_graph_without_inputs_is_its_results(void **state)
{
    heed_context *ctx = NULL;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    for (int outputs = 0; outputs < 2; outputs++) {
        heed_builder *b = NULL;
        heed_graph *g = NULL;
        char *svg = NULL;

        assert_int_equal(heed_builder_new(&b, ctx, NULL), HEED_OK);
        if (outputs)
            heed_output(b, "lonely", heed_param(b, "w", HEED_TYPE(HEED_F32, 2), NULL));
        assert_int_equal(heed_builder_finish(&g, b, NULL), HEED_OK);
        heed_builder_free(b);
        assert_int_equal(heed_graph_print(&svg, g, HEED_GRAPH_SVG, NULL), HEED_OK);
        assert_int_equal(count(svg, "lonely"), outputs);
        assert_non_null(strstr(svg, "</svg>"));
        heed_text_free(ctx, svg);
        heed_graph_free(g);
    }
    heed_context_free(ctx);
}

/* Boxes of one layer do not overlap: read back from the drawing. */
static void boxes_do_not_overlap(void **state)
{
    struct {
        double x, y, w, h;
    } box[64];
    heed_context *ctx = NULL;
    char *svg = NULL;
    int n = 0;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    assert_int_equal(draw(&svg, ctx, HEED_GRAPH_SVG, NULL), HEED_OK);
    for (const char *p = svg; (p = strstr(p, "<rect class=")); p++)
        n += sscanf(strstr(p, " x="), " x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%lf\"", &box[n].x, &box[n].y,
                    &box[n].w, &box[n].h) == 4;
    assert_true(n >= 8);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_true(box[i].x + box[i].w <= box[j].x + 0.2 || box[j].x + box[j].w <= box[i].x + 0.2 ||
                        box[i].y + box[i].h <= box[j].y + 0.2 || box[j].y + box[j].h <= box[i].y + 0.2);
    heed_text_free(ctx, svg);
    heed_context_free(ctx);
}

static heed_status draw_and_forget(heed_context *ctx, void *user, heed_error *err)
{
    char *svg = NULL;
    heed_status st = draw(&svg, ctx, HEED_GRAPH_SVG, err);

    (void)user;
    heed_text_free(ctx, svg);
    return st;
}

static void every_failed_allocation_ends_the_drawing_cleanly(void **state)
{
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&(heed_scenario){ .name = "graph as SVG", .run = draw_and_forget }, NULL, &report));
}

static void features_and_near_words_are_told(void **state)
{
    static const char *const words[] = { "train", "eval", "predict", NULL };
    const heed_feature *f = heed_features();
    char cpu[96];

    (void)state;
    for (; f->name; f++) {
        assert_true(f->library[0] && f->packages[0]);
        assert_true(!f->present || f->version[0]);
    }
    heed_cpu_name(cpu);
    assert_true(strlen(cpu) < sizeof cpu);
    assert_string_equal(heed_nearest("trian", words), "train");
    assert_null(heed_nearest("bake", words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_named_in_the_box_that_reads_them),
        cmocka_unit_test(a_graph_without_inputs_is_its_results),
        cmocka_unit_test(boxes_do_not_overlap),
        cmocka_unit_test(every_failed_allocation_ends_the_drawing_cleanly),
        cmocka_unit_test(features_and_near_words_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
