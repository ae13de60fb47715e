/* ONNX files: what is refused, names, the open batch, and every call made to fail. Values:
 * tests/onnx_test.sh. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/heed.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HEED_HAVE_PROTOBUF

/* x [rows,3] -> relu(linear(x)) [rows,2]; mode decides what else is in it. */
static heed_graph *make_graph(heed_context *ctx, int64_t n,
                              void (*more)(heed_builder *b, heed_value x, heed_value y))
{
    heed_builder *b;
    heed_graph *g = NULL;
    heed_error err = { 0 };
    heed_value x, y;

    assert_int_equal(heed_builder_new(&b, ctx, &err), HEED_OK);
    x = heed_input(b, "x", HEED_TYPE(HEED_F32, n, 3));
    y = heed_relu(b, heed_linear(b, "fc", x, 2, NULL));
    if (more)
        more(b, x, y);
    else
        heed_output(b, "y", y);
    if (heed_builder_finish(&g, b, &err) != HEED_OK)
        fail_msg("%s", err.text);
    heed_builder_free(b);
    return g;
}

static heed_status write_status(scratch *s, heed_graph *g, const heed_onnx_opts *opts, heed_error *err)
{
    heed_weights *w;
    heed_status st;

    assert_int_equal(heed_weights_new(&w, s->ctx, NULL), HEED_OK);
    assert_int_equal(heed_weights_init(w, g, 1, NULL), HEED_OK);
    st = heed_onnx_write(s->ctx, scratch_path(s, "out.onnx"), g, w, opts, err);
    heed_weights_free(w);
    heed_graph_free(g);
    return st;
}

static bool file_has(scratch *s, const char *bytes)
{
    size_t n;
    uint8_t *file = scratch_get(scratch_path(s, "out.onnx"), &n);
    bool found = false;

    for (size_t i = 0; i + strlen(bytes) <= n; i++)
        found = found || memcmp(file + i, bytes, strlen(bytes)) == 0;
    free(file);
    return found;
}

static void an_open_batch_is_written_by_name(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };

    assert_int_equal(write_status(s, make_graph(s->ctx, HEED_ONNX_BATCH, NULL), NULL, &err), HEED_OK);
    assert_true(file_has(s, "batch"));
    assert_true(file_has(s, "fc.weight"));
    assert_true(file_has(s, "Relu"));
    assert_int_equal(scratch_entries(s->folder), 1);
}

static void a_fixed_batch_is_written_as_a_number(void **state)
{
    scratch *s = *state;

    assert_int_equal(
        write_status(s, make_graph(s->ctx, 4, NULL), &(heed_onnx_opts){ .fixed_batch = true }, NULL),
        HEED_OK);
    assert_false(file_has(s, "batch"));
}

static void an_open_batch_needs_a_graph_built_for_it(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };

    assert_int_equal(write_status(s, make_graph(s->ctx, 4, NULL), NULL, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "HEED_ONNX_BATCH"));
    assert_int_equal(scratch_entries(s->folder), 0);
}

static void names_may_be_given(void **state)
{
    scratch *s = *state;
    const char *const in[] = { "pixels" }, *const out[] = { "logits" };

    assert_int_equal(
        write_status(s, make_graph(s->ctx, 4, NULL),
                     &(heed_onnx_opts){ .fixed_batch = true, .input_names = in, .output_names = out }, NULL),
        HEED_OK);
    assert_true(file_has(s, "pixels"));
    assert_true(file_has(s, "logits"));
}

static void output_twice(heed_builder *b, heed_value x, heed_value y)
{
    heed_output(b, "y", y);
    heed_output(b, "again", y);
    heed_output(b, "copy", x);
    heed_output(b, "zeros", heed_full(b, HEED_TYPE(HEED_F32, 2, 5), 0));
}

static void a_value_may_be_several_outputs_and_an_input_too(void **state)
{
    scratch *s = *state;

    assert_int_equal(
        write_status(s, make_graph(s->ctx, 4, output_twice), &(heed_onnx_opts){ .fixed_batch = true }, NULL),
        HEED_OK);
    assert_true(file_has(s, "again"));
    assert_true(file_has(s, "zeros"));
}

static void output_named_x(heed_builder *b, heed_value x, heed_value y)
{
    (void)x;
    heed_output(b, "x", y);
}

static void output_half(heed_builder *b, heed_value x, heed_value y)
{
    (void)x;
    heed_output(b, "y", heed_slice(b, y, 0, 0, 2, 1));
}

static void output_mean(heed_builder *b, heed_value x, heed_value y)
{
    (void)x;
    heed_output(b, "y", heed_mean(b, y, 1, HEED_DROP_AXES));
}

static void output_dropped(heed_builder *b, heed_value x, heed_value y)
{
    (void)x;
    heed_set_mode(b, HEED_TRAIN);
    heed_output(b, "y", heed_dropout_layer(b, "drop", y, 0.5));
}

static void assign_state(heed_builder *b, heed_value x, heed_value y)
{
    heed_value state = heed_state(b, "count", HEED_TYPE(HEED_F32, 1), NULL);

    (void)x;
    heed_assign(b, state, heed_add_scalar(b, state, 1));
    heed_output(b, "y", y);
}

static void wide_weight(heed_builder *b, heed_value x, heed_value y)
{
    (void)x;
    heed_output(b, "y", heed_linear(b, "wide", y, HEED_ONNX_BATCH, NULL));
}

static void what_the_file_could_not_mean_is_refused(void **state)
{
    scratch *s = *state;
    const heed_onnx_opts fixed = { .fixed_batch = true };
    const struct {
        void (*more)(heed_builder *b, heed_value x, heed_value y);
        int64_t rows;
        heed_onnx_opts opts;
        heed_status status;
        const char *says;
    } cases[] = {
        { output_named_x, 4, fixed, HEED_ERR_USAGE, "\"x\"" },
        { output_half, HEED_ONNX_BATCH, { 0 }, HEED_ERR_SPEC, "part of the batch" },
        { output_half, 4, fixed, HEED_OK, "" },
        { output_mean, HEED_ONNX_BATCH, { 0 }, HEED_ERR_SPEC, "sum over the batch" },
        { output_mean, 4, fixed, HEED_OK, "" },
        { output_dropped, 4, fixed, HEED_ERR_MISSING, "dropout" },
        { assign_state, 4, fixed, HEED_ERR_SPEC, "HEED_EVAL" },
        { wide_weight, HEED_ONNX_BATCH, { 0 }, HEED_ERR_SPEC, "wide" },
        { NULL, 4, { .fixed_batch = true, .opset = 16 }, HEED_ERR_LIMIT, "opset 16" },
        { NULL, 4, { .fixed_batch = true, .opset = 21 }, HEED_ERR_LIMIT, "opset 21" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        heed_error err = { 0 };
        const heed_status st =
            write_status(s, make_graph(s->ctx, cases[i].rows, cases[i].more), &cases[i].opts, &err);

        if (st != cases[i].status || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: %s: %s", i, heed_status_name(st), err.text);
        assert_int_equal(scratch_entries(s->folder), st == HEED_OK);
        if (st == HEED_OK)
            assert_int_equal(remove(scratch_path(s, "out.onnx")), 0);
    }
}

static void weights_that_lack_a_tensor_are_refused(void **state)
{
    scratch *s = *state;
    heed_graph *g = make_graph(s->ctx, 4, NULL);
    heed_weights *w;
    heed_error err = { 0 };

    assert_int_equal(heed_weights_new(&w, s->ctx, NULL), HEED_OK);
    assert_int_equal(heed_onnx_write(s->ctx, scratch_path(s, "out.onnx"), g, w,
                                     &(heed_onnx_opts){ .fixed_batch = true }, &err),
                     HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "fc."));
    heed_weights_free(w);
    heed_graph_free(g);
}

/* ---- every call fails in turn ---- */

typedef struct trial {
    char folder[64], path[96];
} trial;

static heed_status export_run(heed_context *ctx, void *user, heed_error *err)
{
    const trial *t = user;
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_weights *w = NULL;
    heed_status st;

    STEP(heed_builder_new(&b, ctx, err));
    heed_output(b, "y",
                heed_gelu(b, heed_linear(b, "fc", heed_input(b, "x", HEED_TYPE(HEED_F32, HEED_ONNX_BATCH, 3)),
                                         2, NULL)));
    STEP(heed_builder_finish(&g, b, err));
    STEP(heed_weights_new(&w, ctx, err));
    STEP(heed_weights_init(w, g, 1, err));
    STEP(heed_onnx_write(ctx, t->path, g, w, NULL, err));
done:
    heed_weights_free(w);
    heed_graph_free(g);
    heed_builder_free(b);
    return st;
}

static void export_prepare(heed_context *ctx, void *user)
{
    (void)ctx;
    scratch_put(((const trial *)user)->path, "old", 3);
}

static bool export_right(heed_context *ctx, void *user, heed_status st)
{
    const trial *t = user;
    size_t n;
    uint8_t *now = scratch_get(t->path, &n);
    const bool old = n == 3 && memcmp(now, "old", 3) == 0;

    (void)ctx;
    free(now);
    return st == HEED_OK ? !old && n > 200 : old || n > 200;
}

static void writing_survives_each_failing_call(void **state)
{
    scratch *s = *state;
    trial t;
    const heed_scenario scenario = { "onnx_write", export_run, export_prepare, export_right };
    heed_fail_report report;

    snprintf(t.folder, sizeof t.folder, "%.60s", s->folder);
    snprintf(t.path, sizeof t.path, "%.60s/out.onnx", s->folder);
    assert_true(heed_fail_each(&scenario, &t, &report));
    assert_true(report.calls > 30);
    assert_true(heed_fail_each_file(&scenario, &t, &report));
}

#else

static void without_protobuf_c_the_package_is_named(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };

    assert_int_equal(heed_onnx_write(s->ctx, scratch_path(s, "out.onnx"), NULL, NULL, NULL, &err),
                     HEED_ERR_MISSING);
    assert_non_null(strstr(err.text, "libprotobuf-c-dev"));
}

#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef HEED_HAVE_PROTOBUF
        TEST(an_open_batch_is_written_by_name),
        TEST(a_fixed_batch_is_written_as_a_number),
        TEST(an_open_batch_needs_a_graph_built_for_it),
        TEST(names_may_be_given),
        TEST(a_value_may_be_several_outputs_and_an_input_too),
        TEST(what_the_file_could_not_mean_is_refused),
        TEST(weights_that_lack_a_tensor_are_refused),
        TEST(writing_survives_each_failing_call),
#else
        TEST(without_protobuf_c_the_package_is_named),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
