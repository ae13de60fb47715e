/* Models: plans for the shapes they meet, taps, and weights that are shared, loaded and saved. */
#include "support/cmocka.h"
#include "support/toy.h"

#include <heed/formats.h>
#include <heed/nn.h>

#include <stdlib.h>
#include <string.h>

/* Two outputs of a linear layer; counts how often it was built. */
typedef struct counted {
    int builds, width;
} counted;

static heed_value counted_build(heed_builder *b, const heed_value *in, const void *config)
{
    counted *c = (counted *)(uintptr_t)config;

    c->builds++;
    return heed_linear(b, "fc", in[0], c->width, NULL);
}

static heed_value sum_of_two(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_add(b, in[0], in[1]);
}

static heed_value broken(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_reshape(b, in[0], 1, (const int64_t[]){ 7 });
}

static heed_model *open_model(heed_context *ctx, heed_build_fn *build, const void *config,
                              const heed_model_opts *opts)
{
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, ctx, build, config, opts, TOY_ERR));
    return m;
}

static void run_rows(heed_model *m, int64_t n, float *y)
{
    float x[3 * 16];
    const heed_tensor in = { HEED_TYPE(HEED_F32, n, 3), x }, out = { HEED_TYPE(HEED_F32, n, 2), y };

    for (int i = 0; i < 3 * n; i++)
        x[i] = (float)i / 8 - 1;
    TOY_OK(heed_model_run(m, &in, 1, &out, 1, TOY_ERR));
}

/* ---- plans ---- */

static void a_shape_is_planned_once(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, NULL);
    float y[32];

    for (int i = 0; i < 5; i++)
        run_rows(m, 4, y);
    assert_int_equal(c.builds, 1);
    run_rows(m, 5, y);
    run_rows(m, 4, y);
    assert_int_equal(c.builds, 2);
    heed_model_free(m);
}

static void the_plan_not_used_for_longest_goes_first(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .plans = 3 });
    float y[32];

    run_rows(m, 1, y);
    run_rows(m, 2, y);
    run_rows(m, 3, y);
    run_rows(m, 1, y); /* 2 is the oldest now */
    assert_int_equal(c.builds, 3);
    run_rows(m, 4, y);
    assert_int_equal(c.builds, 4);
    run_rows(m, 1, y);
    run_rows(m, 3, y);
    run_rows(m, 4, y);
    assert_int_equal(c.builds, 4);
    run_rows(m, 2, y);
    assert_int_equal(c.builds, 5);
    heed_model_free(m);
}

static void an_evicted_plan_comes_back_to_the_same_bytes(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .plans = 1, .seed = 3 });
    float first[10], later[10], y[32];

    run_rows(m, 5, first);
    for (int64_t n = 1; n <= 12; n++)
        run_rows(m, n, y);
    run_rows(m, 5, later);
    assert_memory_equal(first, later, sizeof first);
    heed_model_free(m);
}

static void all_shapes_share_one_set_of_weights(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 3 });
    float three[6], five[10];

    run_rows(m, 3, three);
    run_rows(m, 5, five);
    assert_int_equal(heed_weights_count(heed_model_weights(m)), 2);
    assert_memory_equal(three, five, sizeof three); /* the first rows are the same */
    ((float *)heed_weights_find(heed_model_weights(m), "fc.bias").data)[0] += 1;
    run_rows(m, 3, five);
    assert_true(five[0] > three[0] + 0.5f);
    assert_true(five[1] == three[1]);
    heed_model_free(m);
}

static void a_borrowed_plan_is_the_one_that_runs(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, NULL);
    const heed_type in = HEED_TYPE(HEED_F32, 4, 3);
    const heed_plan *p = NULL, *q = NULL;
    heed_type out;

    TOY_OK(heed_model_plan(m, &in, 1, &p, TOY_ERR));
    TOY_OK(heed_model_plan(m, &in, 1, &q, TOY_ERR));
    assert_ptr_equal(p, q);
    assert_string_equal(heed_plan_input_name(p, 0), "x");
    assert_string_equal(heed_plan_output_name(p, 0), "y");
    TOY_OK(heed_model_output_type(m, &in, 1, 0, &out, TOY_ERR));
    assert_true(heed_type_equal(&out, TYPE_AT(HEED_F32, 4, 2)));
    assert_int_equal(heed_model_output_type(m, &in, 1, 1, &out, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_model_output_type(m, &in, 1, -1, &out, NULL), HEED_ERR_USAGE);
    assert_int_equal(c.builds, 1);
    heed_model_free(m);
}

/* ---- what it borrows and shares ---- */

static void the_configuration_is_borrowed(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 9 });

    assert_ptr_equal(heed_model_config(m), &c);
    assert_ptr_equal(heed_model_context(m), s->ctx);
    assert_true(heed_model_build(m) == counted_build);
    assert_true(heed_model_seed(m) == 9);
    heed_model_free(m);
}

static void two_models_can_share_weights(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *a = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 1 }), *b;
    float x[6], y[6];

    run_rows(a, 3, x);
    b = open_model(s->ctx, counted_build, &c,
                   &(heed_model_opts){ .seed = 2, .weights = heed_model_weights(a) });
    heed_model_free(a); /* the store is counted */
    run_rows(b, 3, y);
    assert_memory_equal(x, y, sizeof x);
    heed_model_free(b);
}

static void weights_depend_on_seed_and_name_only(void **state)
{
    scratch *s = *state;
    char digests[3][65];

    for (int i = 0; i < 3; i++) {
        heed_model *m = open_model(s->ctx, toy_conv_attention_build(), &toy_conv_attention,
                                   &(heed_model_opts){ .seed = i == 2 });
        const heed_type first = HEED_TYPE(HEED_F32, i == 0 ? 3 : 9, 1, 8, 8);

        TOY_OK(heed_model_init(m, &first, 1, TOY_ERR));
        toy_digest(digests[i], m, HEED_WEIGHTS_ALL);
        heed_model_free(m);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
}

static void parameters_are_counted_without_running_statistics(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, NULL);

    assert_int_equal(heed_model_parameters(m), 0); /* nothing was built yet */
    TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, 1, 3), 1, TOY_ERR));
    assert_int_equal(heed_model_parameters(m), 3 * 2 + 2);
    heed_model_free(m);
    m = open_model(s->ctx, toy_conv_attention_build(), &toy_conv_attention, NULL);
    TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, 1, 1, 8, 8), 1, TOY_ERR));
    /* stem 36 + 8, 288 + 16; positions 16 x 8; block: norms 32, attention 8 x 24 + 24 + 72, linear 8 x 12 +
     * 12 + 12 x 8 + 8; norm 16; pool 8 + 72; head 27 */
    assert_int_equal(heed_model_parameters(m), 44 + 304 + 128 + 32 + 288 + 212 + 16 + 80 + 27);
    heed_model_free(m);
}

/* ---- what is refused ---- */

static void what_cannot_run_is_refused(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    heed_model *m = open_model(s->ctx, counted_build, &c, NULL),
               *bad = open_model(s->ctx, broken, NULL, NULL);
    heed_model *two = open_model(s->ctx, sum_of_two, NULL, NULL);
    float data[64] = { 0 }, y[64];
    heed_tensor in[17];
    const heed_tensor out = { HEED_TYPE(HEED_F32, 4, 2), y }, wrong = { HEED_TYPE(HEED_F32, 4, 3), y };
    heed_error err = { 0 };

    for (int i = 0; i < 17; i++)
        in[i] = (heed_tensor){ HEED_TYPE(HEED_F32, 4, 3), data };
    assert_int_equal(heed_model_run(m, in, 17, &out, 1, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "1 to 16 inputs, 17"));
    assert_int_equal(heed_model_run(m, in, 0, &out, 1, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_model_run(m, in, -1, &out, 1, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_model_run(m, in, 1, &wrong, 1, NULL), HEED_ERR_SHAPE);
    assert_int_equal(heed_model_run(m, in, 1, (heed_tensor[]){ out, out }, 2, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_model_run(bad, in, 1, &out, 1, NULL), HEED_ERR_SHAPE);
    assert_int_equal(heed_model_run(bad, in, 1, &out, 1, NULL), HEED_ERR_SHAPE); /* nothing was kept of it */
    in[0].data = NULL;
    assert_int_equal(heed_model_run(m, in, 1, &out, 1, NULL), HEED_ERR_USAGE);
    in[0].data = data;
    TOY_OK(heed_model_run(m, in, 1, &out, 1, TOY_ERR));
    TOY_OK(heed_model_run(two, in, 2, &wrong, 1, TOY_ERR));
    heed_model_free(m);
    heed_model_free(bad);
    heed_model_free(two);
    heed_model_free(NULL);
}

/* ---- taps ---- */

static void a_tap_delivers_and_changes_no_bit(void **state)
{
    scratch *s = *state;
    heed_model *m =
        open_model(s->ctx, toy_conv_attention_build(), &toy_conv_attention, &(heed_model_opts){ .seed = 4 });
    const char *taps[] = { "pool.weights", "block.0.self_attn.weights", NULL };
    float x[2 * 64], plain[6], tapped[6], pooled[2 * 16], attention[2 * 2 * 16 * 16], all[6];
    const heed_tensor in = { HEED_TYPE(HEED_F32, 2, 1, 8, 8), x };
    const heed_tensor out[] = { { HEED_TYPE(HEED_F32, 2, 3), tapped },
                                { HEED_TYPE(HEED_F32, 2, 16), pooled },
                                { HEED_TYPE(HEED_F32, 2, 2, 16, 16), attention } };
    heed_type type;

    for (int i = 0; i < 2 * 64; i++)
        x[i] = (float)(i * 37 % 64) / 64;
    TOY_OK(heed_model_run(m, &in, 1, &(heed_tensor){ out[0].type, plain }, 1, TOY_ERR));
    TOY_OK(heed_model_taps(m, taps, TOY_ERR));
    taps[0] = "scribbled"; /* they were copied */
    TOY_OK(heed_model_output_type(m, &in.type, 1, 2, &type, TOY_ERR));
    assert_true(heed_type_equal(&type, &out[2].type));
    TOY_OK(heed_model_run(m, &in, 1, out, 3, TOY_ERR));
    assert_memory_equal(plain, tapped, sizeof plain);
    for (int i = 0; i < 2; i++) {
        float sum = 0;

        for (int t = 0; t < 16; t++)
            sum += pooled[16 * i + t];
        assert_float_equal(sum, 1, 1e-5);
    }
    for (int row = 0; row < 2 * 2 * 16; row++) {
        float sum = 0;

        for (int t = 0; t < 16; t++)
            sum += attention[16 * row + t];
        assert_float_equal(sum, 1, 1e-5);
    }
    TOY_OK(heed_model_taps(m, NULL, TOY_ERR));
    TOY_OK(heed_model_run(m, &in, 1, &(heed_tensor){ out[0].type, all }, 1, TOY_ERR));
    assert_memory_equal(plain, all, sizeof plain);
    assert_int_equal(heed_model_run(m, &in, 1, out, 2, NULL), HEED_ERR_USAGE);
    heed_model_free(m);
}

/* Memory of 16 squares of weights and of the result lies where the caller has it; left out or overlapping, results are copied. */
static void results_have_the_same_bytes_wherever_they_are_computed(void **state)
{
    scratch *s = *state;
    heed_model *m =
        open_model(s->ctx, toy_conv_attention_build(), &toy_conv_attention, &(heed_model_opts){ .seed = 4 });
    const char *taps[] = { "block.0.self_attn.weights", NULL };
    float x[2 * 64], y[2][6], w[2][2 * 2 * 16 * 16];
    const heed_tensor in = { HEED_TYPE(HEED_F32, 2, 1, 8, 8), x };
    heed_tensor out[] = { { HEED_TYPE(HEED_F32, 2, 3), y[0] }, { HEED_TYPE(HEED_F32, 2, 2, 16, 16), w[0] } };
    const heed_plan *plan;
    uint64_t direct;

    for (int i = 0; i < 2 * 64; i++)
        x[i] = (float)(i * 37 % 64) / 64;
    TOY_OK(heed_model_taps(m, taps, TOY_ERR));
    TOY_OK(heed_model_run(m, &in, 1, out, 2, TOY_ERR));
    TOY_OK(heed_model_plan(m, &in.type, 1, &plan, TOY_ERR));
    direct = heed_plan_describe(plan).sum_bytes;
    out[0].data = y[1];
    out[1].data = NULL; /* nobody wants it now */
    TOY_OK(heed_model_run(m, &in, 1, out, 2, TOY_ERR));
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    TOY_OK(heed_model_plan(m, &in.type, 1, &plan, TOY_ERR));
    assert_true(heed_plan_describe(plan).sum_bytes >= direct + sizeof w[0]);
    out[1].data = w[1];
    TOY_OK(heed_model_run(m, &in, 1, out, 2, TOY_ERR));
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    TOY_OK(heed_model_taps(m, NULL, TOY_ERR));
    TOY_OK(heed_model_run(m, &in, 1, &(heed_tensor){ out[0].type, x }, 1, TOY_ERR)); /* over the input */
    assert_memory_equal(y[0], x, sizeof y[0]);
    heed_model_free(m);
}

static void an_unknown_tap_is_named_and_the_model_stays_of_use(void **state)
{
    scratch *s = *state;
    heed_model *m = open_model(s->ctx, toy_mlp, NULL, NULL);
    const heed_type in = HEED_TYPE(HEED_F32, 2, 1, 8, 8);
    heed_type out;
    heed_error err = { 0 };

    TOY_OK(heed_model_taps(m, (const char *const[]){ "hiden", NULL }, TOY_ERR));
    assert_int_equal(heed_model_output_type(m, &in, 1, 1, &out, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "hiden"));
    TOY_OK(heed_model_taps(m, (const char *const[]){ "hidden", NULL }, TOY_ERR));
    TOY_OK(heed_model_output_type(m, &in, 1, 1, &out, TOY_ERR));
    assert_true(heed_type_equal(&out, TYPE_AT(HEED_F32, 2, 16)));
    heed_model_free(m);
}

static void taps_in_the_model_change_no_bit_of_training(void **state)
{
    scratch *s = *state;
    char digests[2][65];
    float x[10 * 64];
    int64_t y[10];

    for (int tapped = 0; tapped < 2; tapped++) {
        heed_model *m = open_model(s->ctx, toy_conv_attention_build(), &toy_conv_attention,
                                   &(heed_model_opts){ .seed = 4 });
        heed_trainer *t = NULL;
        heed_type type = HEED_TYPE(HEED_F32, 10, 1, 8, 8);
        float logits[30], weights[160];

        for (int i = 0; i < 640; i++)
            x[i] = (float)(i * 37 % 64) / 64;
        for (int i = 0; i < 10; i++)
            y[i] = i % 3;
        if (tapped)
            TOY_OK(heed_model_taps(m, (const char *const[]){ "pool.weights", NULL }, TOY_ERR));
        TOY_OK(heed_trainer_new(&t, m, &(heed_trainer_opts){ .optimizer = HEED_ADAM }, TOY_ERR));
        for (int i = 0; i < 5; i++) {
            TOY_OK(heed_trainer_step(t, &(heed_tensor){ type, x }, 1,
                                     &(heed_tensor){ HEED_TYPE(HEED_I64, 10), y }, NULL, TOY_ERR));
            if (tapped)
                TOY_OK(heed_model_run(m, &(heed_tensor){ type, x }, 1,
                                      (heed_tensor[]){ { HEED_TYPE(HEED_F32, 10, 3), logits },
                                                       { HEED_TYPE(HEED_F32, 10, 16), weights } },
                                      2, TOY_ERR));
        }
        toy_digest(digests[tapped], m, HEED_WEIGHTS_ALL);
        heed_trainer_free(t);
        heed_model_free(m);
    }
    assert_string_equal(digests[0], digests[1]);
}

/* ---- files ---- */

static void a_model_is_opened_from_memory(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    const char *path = scratch_path(s, "model.safetensors");
    heed_model *m = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 1 }), *back;
    float y[6], z[6];
    uint8_t *bytes;
    size_t n;

    run_rows(m, 3, y);
    TOY_OK(heed_model_save(m, path, TOY_ERR));
    heed_model_free(m);
    bytes = scratch_get(path, &n);
    back = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 2 });
    TOY_OK(heed_model_load_memory(back, bytes, n, TOY_ERR)); /* before anything was built */
    run_rows(back, 3, z);
    assert_memory_equal(y, z, sizeof y);
    heed_model_free(back);
    back = open_model(s->ctx, counted_build, &c, &(heed_model_opts){ .seed = 2 });
    run_rows(back, 3, z);
    assert_memory_not_equal(y, z, sizeof y);
    TOY_OK(heed_model_load_memory(back, bytes, n, TOY_ERR)); /* and into plans that are there */
    run_rows(back, 3, z);
    assert_memory_equal(y, z, sizeof y);
    assert_int_equal(heed_model_load_memory(back, bytes, n - 1, NULL), HEED_ERR_FORMAT);
    run_rows(back, 3, z);
    assert_memory_equal(y, z, sizeof y);
    heed_model_free(back);
    free(bytes);
}

static void a_load_that_does_not_fit_lists_all_names(void **state)
{
    scratch *s = *state;
    counted c = { 0, 2 };
    const char *path = scratch_path(s, "model.safetensors");
    heed_model *m = open_model(s->ctx, counted_build, &c, NULL),
               *other = open_model(s->ctx, toy_mlp, NULL, NULL);
    heed_error err = { 0 };
    char before[65], after[65];

    TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, 1, 3), 1, TOY_ERR));
    TOY_OK(heed_model_init(other, TYPE_AT(HEED_F32, 1, 1, 8, 8), 1, TOY_ERR));
    TOY_OK(heed_model_save(m, path, TOY_ERR));
    toy_digest(before, other, HEED_WEIGHTS_ALL);
    assert_int_equal(heed_model_load(other, path, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "missing \"head.weight\", \"head.bias\""));
    assert_non_null(strstr(err.text, "\"fc.weight\" (F32 [2,3] in the file, f32 [16,64] here)"));
    assert_non_null(strstr(err.text, "\"fc.bias\" (F32 [2] in the file, f32 [16] here)"));
    assert_string_equal(err.path, path);
    toy_digest(after, other, HEED_WEIGHTS_ALL);
    assert_string_equal(before, after);
    heed_model_free(m);
    heed_model_free(other);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_shape_is_planned_once),
        UNIT(the_plan_not_used_for_longest_goes_first),
        UNIT(an_evicted_plan_comes_back_to_the_same_bytes),
        UNIT(all_shapes_share_one_set_of_weights),
        UNIT(a_borrowed_plan_is_the_one_that_runs),
        UNIT(the_configuration_is_borrowed),
        UNIT(two_models_can_share_weights),
        UNIT(weights_depend_on_seed_and_name_only),
        UNIT(parameters_are_counted_without_running_statistics),
        UNIT(what_cannot_run_is_refused),
        UNIT(a_tap_delivers_and_changes_no_bit),
        UNIT(results_have_the_same_bytes_wherever_they_are_computed),
        UNIT(an_unknown_tap_is_named_and_the_model_stays_of_use),
        UNIT(taps_in_the_model_change_no_bit_of_training),
        UNIT(a_model_is_opened_from_memory),
        UNIT(a_load_that_does_not_fit_lists_all_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
