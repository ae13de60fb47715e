/* Explanations of pictures whose evidence was planted: do maps point at the object, and does the deletion test tell
 * maps that do from maps that do not? On the portable level, whose bits are the same everywhere, so that docs/explain.md
 * can quote what comes out: tests/golden/explain/planted.txt. */
#include "support/cmocka.h"
#include "support/planted.h"
#include "support/toy.h"

#include <heed/nn.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PICTURES 100
#define TESTED 10 /* of them stand the deletion test, which costs */

/* ---- models ---- */

/* One token a cell, [B,36,32]. */
static heed_value cells_as_tokens(heed_builder *b, heed_value x)
{
    x = heed_conv2d(b, "patch", x, 32,
                    &(heed_conv_layer_opts){ .kernel = { 4, 4 }, .conv.stride = { 4, 4 } });
    x = heed_transpose(b, heed_flatten(b, x, 2, 3), 1, 2);
    return heed_gelu(b, heed_linear(b, "fc", heed_gelu(b, x), 32, NULL));
}

static heed_value pooled(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "head",
                       heed_attention_pool(b, "pool", cells_as_tokens(b, in[0]), (heed_value){ 0 }),
                       PLANTED_CLASSES, NULL);
}

static heed_value block_and_pool(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = heed_encoder_layer(
        b, "block", cells_as_tokens(b, in[0]), 4,
        &(heed_encoder_layer_opts){ .feedforward = 32, .norm = HEED_PRE_NORM, .dropout = HEED_SET(0) });

    (void)config;
    return heed_linear(b, "head", heed_attention_pool(b, "pool", x, (heed_value){ 0 }), PLANTED_CLASSES,
                       NULL);
}

/* A class token in front, one block, the class token read. */
static heed_value class_token(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = cells_as_tokens(b, in[0]),
               token = heed_param(b, "cls_token", HEED_TYPE(HEED_F32, 1, 1, 32),
                                  &(heed_init){ .kind = HEED_INIT_NORMAL, .b = 0.02f });

    (void)config;
    token = heed_broadcast(b, token, 3, (const int64_t[]){ heed_dim(b, x, 0), 1, 32 });
    x = heed_encoder_layer(
        b, "block", heed_concat(b, (heed_value[]){ token, x }, 2, 1), 4,
        &(heed_encoder_layer_opts){ .feedforward = 32, .norm = HEED_PRE_NORM, .dropout = HEED_SET(0) });
    x = heed_squeeze(b, heed_slice(b, x, 1, 0, 1, 1), 1);
    return heed_linear(b, "head", heed_layer_norm_layer(b, "norm", x, NULL), PLANTED_CLASSES, NULL);
}

/* The answer is the maximum over tokens. Beside it stand two attentions whose weights are random constants, and whose
 * result enters the answer with a weight of a thousandth: they look, and do not see. */
static heed_value bypassed(heed_builder *b, const heed_value *in, const void *config)
{
    enum { T = PLANTED_CELLS * PLANTED_CELLS };
    static float numbers[T * T];
    heed_value x = cells_as_tokens(b, in[0]), scores, values, z;
    const int64_t batch = heed_dim(b, x, 0);
    uint32_t state = 5;

    (void)config;
    for (int i = 0; i < T * T; i++) {
        state = state * 1664525u + 1013904223u;
        numbers[i] = (float)(state >> 8) * 0x1p-24f * 4;
    }
    scores = heed_broadcast(b, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 1, T, T), numbers }), 4,
                            (const int64_t[]){ batch, 1, T, T });
    values = heed_reshape(b, x, 4, (const int64_t[]){ batch, 1, T, 32 });
    heed_scope_push(b, "self");
    z = heed_attention(b, scores, scores, values, NULL).out;
    heed_scope_pop(b);
    heed_scope_push(b, "pool");
    z = heed_attention(b, heed_slice(b, scores, 2, 3, 4, 1), scores, z, NULL).out;
    heed_scope_pop(b);
    z = heed_mul_scalar(b, heed_reshape(b, z, 2, (const int64_t[]){ batch, 32 }), 0.001);
    return heed_linear(b, "head", heed_add(b, heed_amax(b, x, 1u << 1, HEED_DROP_AXES), z), PLANTED_CLASSES,
                       NULL);
}

/* ---- what maps find ---- */

/* Everything that was said, in the order of the facts below. */
static char report[8192];

static void say(const char *format, ...)
{
    const size_t n = strlen(report);
    va_list args;

    va_start(args, format);
    vsnprintf(report + n, sizeof report - n, format, args);
    va_end(args);
    fputs(report + n, stdout);
}

typedef struct found {
    double accuracy;
    int pictures, tested;
    int at_object[HEED_EXPLAIN_METHODS];                /* of pictures: the top cell is the object's */
    int verdicts[HEED_EXPLAIN_METHODS][HEED_WORSE + 1]; /* of tested */
} found;

static int64_t top_cell(const heed_saliency *s)
{
    int64_t best = 0;

    for (int64_t i = 1; i < s->rows * s->cols; i++)
        best = s->map[i] > s->map[best] ? i : best;
    return best;
}

static void explain_one(found *f, heed_context *ctx, heed_model *m, const uint8_t *pixels, int64_t cell)
{
    const bool tested = f->tested < TESTED;
    const heed_explain_opts opts = { .orders = tested ? 60 : 1, .points = tested ? 37 : 2 };
    float x[PLANTED_PIXELS];
    heed_explanation *e = NULL;

    planted_normalise(x, pixels);
    TOY_OK(heed_explain(
        &e, m, &(heed_explain_input){ .x = { HEED_TYPE(HEED_F32, 1, 1, PLANTED_SIDE, PLANTED_SIDE), x } },
        &opts, TOY_ERR));
    f->pictures++;
    f->tested += tested;
    for (int i = 0; i < e->n_maps; i++) {
        f->at_object[e->maps[i].method] += top_cell(&e->maps[i]) == cell;
        f->verdicts[e->maps[i].method][e->maps[i].faithful.verdict] += tested;
    }
    heed_explanation_free(ctx, e);
}

/* Trains a model, explains PICTURES pictures with an object, and says what came out. */
static found look(const char *name, heed_build_fn *build)
{
    heed_context *ctx = toy_context(1, HEED_ISA_PORTABLE);
    enum { DRAWN = 2 * PICTURES };
    uint8_t *pixels = malloc(DRAWN * PLANTED_PIXELS);
    int64_t labels[DRAWN], cells[DRAWN];
    heed_model *m = NULL;
    found f = { .pictures = 0 };

    TOY_OK(heed_model_new(&m, ctx, build, NULL, &(heed_model_opts){ .seed = 1 }, TOY_ERR));
    planted_train(m, 250, 3e-3f);
    f.accuracy = planted_accuracy(m, 500, 7);
    planted_pictures(pixels, labels, cells, DRAWN, 77);
    for (int i = 0; i < DRAWN && f.pictures < PICTURES; i++)
        if (cells[i] >= 0)
            explain_one(&f, ctx, m, pixels + i * PLANTED_PIXELS, cells[i]);
    say("%s: accuracy %.1f %%\n", name, 100 * f.accuracy);
    for (int i = 0; i < HEED_EXPLAIN_METHODS; i++)
        say("  %-10s object on top %3d of %d; faithful %2d of %d, no better %2d, worse %2d\n",
            heed_explain_method_name((heed_explain_method)i), f.at_object[i], f.pictures,
            f.verdicts[i][HEED_FAITHFUL], f.tested, f.verdicts[i][HEED_NO_BETTER],
            f.verdicts[i][HEED_WORSE]);
    free(pixels);
    heed_model_free(m);
    heed_context_free(ctx);
    return f;
}

/* ---- facts ---- */

static void a_pooling_that_reads_the_object_points_at_it(void **state)
{
    const found f = look("pooling", pooled);

    (void)state;
    assert_true(f.accuracy >= 0.95);
    for (int i = 0; i < HEED_EXPLAIN_METHODS; i++) {
        assert_true(f.at_object[i] >= PICTURES * 9 / 10);
        assert_true(f.verdicts[i][HEED_FAITHFUL] >= TESTED * 7 / 10);
    }
}

/* The block carries the evidence to other tokens; the pooling alone then points anywhere, and the test says so. */
static void behind_a_block_rollout_finds_what_the_last_weights_do_not(void **state)
{
    const found f = look("block and pooling", block_and_pool);

    (void)state;
    assert_true(f.accuracy >= 0.95);
    assert_true(f.at_object[HEED_EXPLAIN_ROLLOUT] >= PICTURES * 9 / 10);
    assert_true(f.at_object[HEED_EXPLAIN_OCCLUSION] >= PICTURES * 9 / 10);
    assert_true(f.verdicts[HEED_EXPLAIN_ROLLOUT][HEED_FAITHFUL] >= TESTED * 7 / 10);
    assert_true(f.at_object[HEED_EXPLAIN_RAW] <= PICTURES / 10);
    assert_true(f.verdicts[HEED_EXPLAIN_RAW][HEED_FAITHFUL] <= TESTED / 5);
}

static void a_class_token_points_at_the_object(void **state)
{
    const found f = look("class token", class_token);

    (void)state;
    assert_true(f.accuracy >= 0.95);
    assert_true(f.at_object[HEED_EXPLAIN_RAW] >= PICTURES * 9 / 10);
    assert_true(f.at_object[HEED_EXPLAIN_ROLLOUT] >= PICTURES * 9 / 10);
    assert_true(f.at_object[HEED_EXPLAIN_GRADIENT] >= PICTURES * 9 / 10);
}

static void attention_that_is_bypassed_is_not_called_faithful(void **state)
{
    const found f = look("bypassed", bypassed);

    (void)state;
    assert_true(f.accuracy >= 0.95);
    assert_true(f.at_object[HEED_EXPLAIN_RAW] <= PICTURES / 10);
    assert_true(f.verdicts[HEED_EXPLAIN_RAW][HEED_FAITHFUL] <= TESTED / 3); /* one in twenty by chance */
    assert_true(f.verdicts[HEED_EXPLAIN_ROLLOUT][HEED_FAITHFUL] <= TESTED / 3);
    assert_true(f.at_object[HEED_EXPLAIN_OCCLUSION] >= PICTURES * 9 / 10);
    assert_true(f.verdicts[HEED_EXPLAIN_OCCLUSION][HEED_FAITHFUL] >= TESTED * 7 / 10);
}

static void the_page_quotes_these_numbers(void **state)
{
    size_t n;
    uint8_t *golden = scratch_get(HEED_SOURCE_DIR "/tests/golden/explain/planted.txt", &n);

    (void)state;
    assert_string_equal(report, (const char *)golden);
    free(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pooling_that_reads_the_object_points_at_it),
        cmocka_unit_test(behind_a_block_rollout_finds_what_the_last_weights_do_not),
        cmocka_unit_test(a_class_token_points_at_the_object),
        cmocka_unit_test(attention_that_is_bypassed_is_not_called_faithful),
        cmocka_unit_test(the_page_quotes_these_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
