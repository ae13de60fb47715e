/* Layers and architectures: sizes, names, initial numbers, and that company changes nothing. */
#include "models/models.h"
#include "support/cmocka.h"
#include "support/toy.h"

#include "base/arena.h"

#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model of a named architecture with its defaults, but for what `settings` say ("stem", "16 P 32", ...,
 * NULL). */
typedef struct named_model {
    const heed_architecture *architecture;
    arena arena;
    void *config;
    heed_model *m;
} named_model;

static void open_model(named_model *n, heed_context *ctx, const char *name, const char *const *settings)
{
    n->architecture = heed__architecture(name);
    assert_non_null(n->architecture);
    heed__arena_init(&n->arena, ctx->heap);
    n->config = heed__arena_alloc(&n->arena, 1, n->architecture->config_size);
    TOY_OK(heed__fields_default(n->architecture->fields, n->config, &n->arena, TOY_ERR));
    for (; settings && settings[0]; settings += 2) {
        void *object = n->config;
        const field *row = heed__field_find(n->architecture->fields, settings[0], &object, NULL);

        assert_non_null(row);
        TOY_OK(heed__field_set(row, object, settings[1], &n->arena, NULL, TOY_ERR));
    }
    TOY_OK(heed_model_new(&n->m, ctx, n->architecture->build, n->config, &(heed_model_opts){ .seed = 3 },
                          TOY_ERR));
}

static void close_model(named_model *n)
{
    heed_model_free(n->m);
    heed__arena_release(&n->arena);
}

static void parameters_are_those_of_the_recipes(void **state)
{
    const scratch *s = *state;
    const struct {
        const char *name, *settings[9];
        int64_t parameters;
    } sizes[] = {
        { "conv-attention", { NULL }, 65018 },
        { "conv-attention", { "stem", "32 P 64 64 P 64", "blocks", "2", NULL }, 167978 },
        { "conv-attention", { "stem", "32 P 64 64 P 128", NULL }, 286826 },
        { "cnn", { NULL }, 60730 },
        { "mlp", { NULL }, 235146 },
        { "vit", { NULL }, 72074 },
    };
    const heed_type picture = HEED_TYPE(HEED_F32, 2, 1, 28, 28);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        named_model n;

        open_model(&n, s->ctx, sizes[i].name, sizes[i].settings);
        TOY_OK(heed_model_init(n.m, &picture, 1, TOY_ERR));
        assert_int_equal(heed_model_parameters(n.m), sizes[i].parameters);
        close_model(&n);
    }
}

/* Pictures [count,1,28,28] through the model: logits [count,10], and one tap. */
static void look(named_model *n, int64_t count, int64_t first, float *logits, float *tapped)
{
    const int64_t pixels = 28 * 28;
    float *x = malloc((size_t)(count * pixels) * sizeof *x);
    const heed_type in = HEED_TYPE(HEED_F32, count, 1, 28, 28);
    heed_tensor input = { in, x }, out[2] = { { .data = logits }, { .data = tapped } };

    assert_non_null(x);
    for (int64_t i = 0; i < count * pixels; i++)
        x[i] = sinf((float)(i + first * pixels) * 0.37f);
    for (int i = 0; i < (tapped ? 2 : 1); i++)
        TOY_OK(heed_model_output_type(n->m, &in, 1, i, &out[i].type, TOY_ERR));
    TOY_OK(heed_model_run(n->m, &input, 1, out, tapped ? 2 : 1, TOY_ERR));
    free(x);
}

static void a_picture_has_the_same_logits_alone_and_in_company(void **state)
{
    const scratch *s = *state;
    const char *const names[] = { "conv-attention", "cnn", "mlp", "vit" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        float together[5 * 10], alone[10];
        named_model n;

        open_model(&n, s->ctx, names[i], NULL);
        look(&n, 5, 0, together, NULL);
        for (int64_t k = 0; k < 5; k++) {
            look(&n, 1, k, alone, NULL);
            assert_memory_equal(alone, together + k * 10, sizeof alone);
        }
        close_model(&n);
    }
}

static void every_attention_can_be_looked_at_and_stays_the_same(void **state)
{
    const scratch *s = *state;
    const struct {
        const char *name, *tap;
        int64_t keys, rows;
    } taps[] = {
        { "conv-attention", "block.0.self_attn.weights", 49, 2 * 4 * 49 },
        { "conv-attention", "pool.weights", 49, 2 },
        { "vit", "block.1.self_attn.weights", 50, 2 * 4 * 50 },
    };

    for (size_t i = 0; i < sizeof taps / sizeof *taps; i++) {
        float plain[2 * 10], tapped[2 * 10],
            *weights = malloc((size_t)(taps[i].keys * taps[i].rows) * sizeof *weights);
        named_model n;

        assert_non_null(weights);
        open_model(&n, s->ctx, taps[i].name, NULL);
        look(&n, 2, 0, plain, NULL);
        TOY_OK(heed_model_taps(n.m, (const char *const[]){ taps[i].tap, NULL }, TOY_ERR));
        look(&n, 2, 0, tapped, weights);
        assert_memory_equal(plain, tapped, sizeof plain);
        for (int64_t r = 0; r < taps[i].rows; r++) {
            double sum = 0;

            for (int64_t j = 0; j < taps[i].keys; j++)
                sum += (double)weights[r * taps[i].keys + j];
            assert_float_equal(sum, 1, 1e-5);
        }
        close_model(&n);
        free(weights);
    }
}

/* ---- layers ---- */

typedef struct layer_run {
    heed_weights *weights;
    heed_session *session;
    heed_plan *plan;
    int id;
} layer_run;

static void open_layer(layer_run *r, heed_context *ctx, void (*build)(heed_builder *))
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;

    *r = (layer_run){ 0 };
    TOY_OK(heed_builder_new(&b, ctx, TOY_ERR));
    build(b);
    TOY_OK(heed_builder_finish(&g, b, TOY_ERR));
    heed_builder_free(b);
    TOY_OK(heed_plan_new(&r->plan, ctx, g, NULL, TOY_ERR));
    heed_graph_free(g);
    TOY_OK(heed_weights_new(&r->weights, ctx, TOY_ERR));
    TOY_OK(heed_session_new(&r->session, ctx, r->weights, NULL, TOY_ERR));
    TOY_OK(heed_session_add(r->session, r->plan, &r->id, TOY_ERR));
}

static void close_layer(layer_run *r)
{
    heed_session_free(r->session);
    heed_weights_free(r->weights);
    heed_plan_free(r->plan);
}

static void build_all(heed_builder *b)
{
    const heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 16, 64)),
                     ids = heed_input(b, "ids", HEED_TYPE(HEED_I64, 3));

    heed_output(b, "linear", heed_linear(b, "linear", x, 100, NULL));
    heed_output(b, "conv",
                heed_conv1d(b, "conv", x, 256, &(heed_conv_layer_opts){ .kernel = { 9 }, .conv.groups = 2 }));
    heed_output(
        b, "embed",
        heed_embedding(b, "embed", ids, 500, 20, &(heed_embedding_opts){ .padding_idx = HEED_SET(7) }));
    heed_output(b, "attn", heed_multihead_attention(b, "attn", x, 4, NULL, NULL));
    heed_output(b, "norm", heed_layer_norm_layer(b, "norm", x, NULL));
}

/* Largest magnitude, and mean square. */
static double spread(const layer_run *r, const char *name, double *most)
{
    const heed_tensor t = heed_weights_find(r->weights, name);
    const float *x = t.data;
    double sum = 0;

    assert_non_null(x);
    *most = 0;
    for (int64_t i = 0; i < heed_type_count(&t.type); i++) {
        sum += (double)x[i] * (double)x[i];
        *most = fmax(*most, fabs((double)x[i]));
    }
    return sum / (double)heed_type_count(&t.type);
}

/* U(+-bound): nothing beyond, something near, mean square bound^2 / 3. */
static void is_uniform(const layer_run *r, const char *name, double bound)
{
    double most;
    const double square = spread(r, name, &most);

    assert_true(most <= bound * 1.000001 && most > 0.9 * bound);
    assert_float_equal(square, bound * bound / 3, 0.35 * bound * bound / 3);
}

static void parameters_begin_as_in_pytorch(void **state)
{
    const scratch *s = *state;
    layer_run r;
    double most;

    open_layer(&r, s->ctx, build_all);
    is_uniform(&r, "linear.weight", 1 / sqrt(64));
    is_uniform(&r, "linear.bias", 1 / sqrt(64));
    is_uniform(&r, "conv.weight", 1 / sqrt(8 * 9));
    is_uniform(&r, "conv.bias", 1 / sqrt(8 * 9));
    is_uniform(&r, "attn.in_proj_weight", sqrt(6.0 / (64 + 3 * 64)));
    is_uniform(&r, "attn.out_proj.weight", 1 / sqrt(64));
    assert_float_equal(spread(&r, "embed.weight", &most), 1, 0.05);
    assert_true(most > 3);
    for (int i = 0; i < 20; i++)
        assert_true(((float *)heed_weights_find(r.weights, "embed.weight").data)[7 * 20 + i] == 0);
    assert_true(spread(&r, "attn.in_proj_bias", &most) == 0);
    assert_true(spread(&r, "attn.out_proj.bias", &most) == 0);
    assert_true(spread(&r, "norm.weight", &most) == 1);
    assert_true(spread(&r, "norm.bias", &most) == 0);
    close_layer(&r);
}

static void build_learned_key(heed_builder *b)
{
    const heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 4, 8)),
                     lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, 2));
    heed_value w;

    (void)heed_multihead_attention(
        b, "attn", x, 2,
        &(heed_mha_opts){ .bias_kv = true, .spec = { .mask.causal = true, .in.lengths = lengths } }, &w);
    heed_output(b, "w", w);
}

static void a_learned_key_is_kept_beside_every_mask(void **state)
{
    const scratch *s = *state;
    float x[2 * 4 * 8], w[2][2][4][5];
    int64_t lengths[2] = { 4, 1 };
    heed_tensor in[2] = { { HEED_TYPE(HEED_F32, 2, 4, 8), x }, { HEED_TYPE(HEED_I64, 2), lengths } };
    layer_run r;

    for (int i = 0; i < 2 * 4 * 8; i++)
        x[i] = cosf((float)i);
    open_layer(&r, s->ctx, build_learned_key);
    TOY_OK(heed_session_run(r.session, r.id, in, 2, &(heed_tensor){ HEED_TYPE(HEED_F32, 2, 2, 4, 5), w }, 1,
                            TOY_ERR));
    for (int b = 0; b < 2; b++)
        for (int h = 0; h < 2; h++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 5; j++)
                    assert_int_equal(w[b][h][i][j] > 0, j == 4 || (j <= i && j < lengths[b]));
    close_layer(&r);
}

static void a_stem_that_says_something_else_is_refused(void **state)
{
    const scratch *s = *state;
    const heed_type picture = HEED_TYPE(HEED_F32, 1, 1, 28, 28);
    heed_error err = { 0 };
    named_model n;

    open_model(&n, s->ctx, "conv-attention", (const char *const[]){ "stem", "16 Q", NULL });
    assert_int_equal(heed_model_init(n.m, &picture, 1, &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "16 Q"));
    close_model(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_those_of_the_recipes),
        cmocka_unit_test(a_picture_has_the_same_logits_alone_and_in_company),
        cmocka_unit_test(every_attention_can_be_looked_at_and_stays_the_same),
        cmocka_unit_test(parameters_begin_as_in_pytorch),
        cmocka_unit_test(a_learned_key_is_kept_beside_every_mask),
        cmocka_unit_test(a_stem_that_says_something_else_is_refused),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
