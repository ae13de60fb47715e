/* Explanations: what is recorded is what the model computed, gradients are those of the edited model,
 * methods give what their formulas say and the deletion test what was worked out by hand. */
#include "attention/attention.h"
#include "base/arena.h"
#include "explain/explain.h"
#include "models/models.h"
#include "passes/passes.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 8
#define PIXELS (SIDE * SIDE)

/* ---- models ---- */

/* 2 x 2 patches as tokens [B,16,12]. */
static heed_value tokens(heed_builder *b, heed_value x)
{
    x = heed_conv2d(b, "patch", x, 12,
                    &(heed_conv_layer_opts){ .kernel = { 2, 2 }, .conv.stride = { 2, 2 } });
    return heed_transpose(b, heed_flatten(b, x, 2, 3), 1, 2);
}

static heed_value block(heed_builder *b, const char *name, heed_value x)
{
    return heed_encoder_layer(
        b, name, x, 2,
        &(heed_encoder_layer_opts){ .feedforward = 16, .norm = HEED_PRE_NORM, .dropout = HEED_SET(0) });
}

/* Two blocks, the mean over tokens. */
static heed_value blocks_and_mean(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = block(b, "block.1", block(b, "block.0", tokens(b, in[0])));

    (void)config;
    return heed_linear(b, "head", heed_mean(b, x, 1u << 1, HEED_DROP_AXES), 3, NULL);
}

static heed_value block_and_pool(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "head",
                       heed_attention_pool(b, "pool", block(b, "block", tokens(b, in[0])), (heed_value){ 0 }),
                       3, NULL);
}

/* A block; then three learned queries with four heads, of which two share a key head, look at the tokens. */
static heed_value grouped_queries(heed_builder *b, const heed_value *in, const void *config)
{
    const heed_init normal = { .kind = HEED_INIT_NORMAL, .b = 1 };
    heed_value x = block(b, "block", tokens(b, in[0])), q, k, v, y;
    const int64_t batch = heed_dim(b, x, 0);

    (void)config;
    q = heed_broadcast(b, heed_param(b, "queries", HEED_TYPE(HEED_F32, 1, 4, 3, 6), &normal), 4,
                       (const int64_t[]){ batch, 4, 3, 6 });
    k = heed_permute(b, heed_reshape(b, x, 4, (const int64_t[]){ batch, 16, 2, 6 }),
                     (const int[]){ 0, 2, 1, 3 });
    v = heed_permute(
        b, heed_reshape(b, heed_linear(b, "value", x, 12, NULL), 4, (const int64_t[]){ batch, 16, 2, 6 }),
        (const int[]){ 0, 2, 1, 3 });
    heed_scope_push(b, "cross");
    y = heed_attention(b, q, k, v, NULL).out;
    heed_scope_pop(b);
    return heed_linear(b, "head", heed_flatten(b, y, 1, -1), 3, NULL);
}

/* Self-attention that sees only itself (weights are the identity), then a pooling. */
static heed_value identity_and_pool(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = tokens(b, in[0]),
               heads = heed_reshape(b, x, 4, (const int64_t[]){ heed_dim(b, x, 0), 1, 16, 12 });
    const heed_value i = heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, 16, 1), 2),
                     j = heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, 1, 16), 3);

    (void)config;
    heed_scope_push(b, "self");
    heads = heed_attention(b, heads, heads, heads, &(heed_attention_spec){ .in.mask = heed_eq(b, i, j) }).out;
    heed_scope_pop(b);
    x = heed_add(b, x, heed_reshape(b, heads, 3, (const int64_t[]){ heed_dim(b, x, 0), 16, 12 }));
    return heed_linear(b, "head", heed_attention_pool(b, "pool", x, (heed_value){ 0 }), 3, NULL);
}

/* Three tokens: no grid of an 8 x 8 picture. */
static heed_value three_tokens(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = heed_reshape(b, heed_linear(b, "fc", heed_flatten(b, in[0], 1, -1), 12, NULL), 3,
                                (const int64_t[]){ heed_dim(b, in[0], 0), 3, 4 });

    (void)config;
    return heed_linear(b, "head", heed_attention_pool(b, "pool", x, (heed_value){ 0 }), 3, NULL);
}

/* logits = (sum_i w_i x_i + a little of an attention, 0) of a picture of 2 x 2 pixels: the attention is at
 * its highest where w is at its lowest. config: whether the weights w count. */
static const float four[4] = { 3, 1, 2, -1 };

static heed_value by_hand(heed_builder *b, const heed_value *in, const void *config)
{
    static const float zeros[4] = { 0, 0, 0, 0 }, scores[4] = { 0, 2, 1, 3 };
    const int64_t batch = heed_dim(b, in[0], 0);
    heed_value x = heed_reshape(b, in[0], 2, (const int64_t[]){ batch, 4 });
    const heed_value w = heed_constant(
        b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 4), (void *)(uintptr_t)(config ? four : zeros) });
    const heed_value k =
        heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 1, 4, 1), (void *)(uintptr_t)scores });
    heed_value z = heed_attention(b, heed_full(b, HEED_TYPE(HEED_F32, batch, 1, 1, 1), 1),
                                  heed_broadcast(b, k, 4, (const int64_t[]){ batch, 1, 4, 1 }),
                                  heed_reshape(b, x, 4, (const int64_t[]){ batch, 1, 4, 1 }), NULL)
                       .out;

    x = heed_sum(b, heed_mul(b, x, w), 1u << 1, HEED_KEEP_AXES);
    x = heed_add(b, x,
                 heed_mul_scalar(b, heed_reshape(b, z, 2, (const int64_t[]){ batch, 1 }), config ? 1e-6 : 0));
    return heed_concat(b, (heed_value[]){ x, heed_mul_scalar(b, x, 0) }, 2, 1);
}

/* ---- a model, a picture, an explanation ---- */

static heed_model *open_model(heed_context *ctx, heed_build_fn *build, const void *config)
{
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, ctx, build, config, &(heed_model_opts){ .seed = 4 }, TOY_ERR));
    return m;
}

static void paint(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * sinf((float)i * 0.73f);
}

static heed_explain_input picture_of(float x[PIXELS])
{
    paint(x, PIXELS);
    return (heed_explain_input){ .x = { HEED_TYPE(HEED_F32, 1, 1, SIDE, SIDE), x } };
}

static heed_explanation *explain(heed_model *m, const heed_explain_opts *opts)
{
    float x[PIXELS];
    const heed_explain_input in = picture_of(x);
    heed_explanation *e = NULL;

    TOY_OK(heed_explain(&e, m, &in, opts, TOY_ERR));
    return e;
}

#define QUICK .orders = 2, .points = 3

static const heed_saliency *map_of(const heed_explanation *e, heed_explain_method method)
{
    for (int i = 0; i < e->n_maps; i++)
        if (e->maps[i].method == method)
            return &e->maps[i];
    fail_msg("no map of that method");
    return NULL;
}

/* ---- records ---- */

static void the_recorded_run_has_the_bits_of_a_plain_run(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { blocks_and_mean, block_and_pool, grouped_queries, identity_and_pool };

    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        heed_model *m = open_model(s->ctx, builds[i], NULL);
        float x[PIXELS], before[3], after[3];
        const heed_explain_input in = picture_of(x);
        const heed_tensor y = { HEED_TYPE(HEED_F32, 1, 3), before }, z = { HEED_TYPE(HEED_F32, 1, 3), after };
        char was[65], is[65];
        records r;
        arena a;

        TOY_OK(heed_model_run(m, &in.x, 1, &y, 1, TOY_ERR));
        toy_digest(was, m, HEED_WEIGHTS_ALL);
        heed__arena_init(&a, s->ctx->heap);
        TOY_OK(heed__records_take(&r, m, &in.x, &a, TOY_ERR));
        assert_int_equal(r.classes, 3);
        assert_memory_equal(r.logits, before, sizeof before);
        heed__records_release(&r);
        heed__arena_release(&a);
        heed_explanation_free(s->ctx, explain(m, &(heed_explain_opts){ QUICK }));
        TOY_OK(heed_model_run(m, &in.x, 1, &z, 1, TOY_ERR));
        assert_memory_equal(before, after, sizeof before);
        toy_digest(is, m, HEED_WEIGHTS_ALL);
        assert_string_equal(was, is);
        heed_model_free(m);
    }
}

static void an_explanation_says_what_the_model_answers(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    static const char *const names[] = { "a", "b", "c" };
    uint8_t pixels[PIXELS] = { 7 };
    float x[PIXELS], logits[3];
    heed_explain_input in = picture_of(x);
    const heed_tensor y = { HEED_TYPE(HEED_F32, 1, 3), logits };
    heed_explanation *e = NULL;
    double sum = 0;

    in.picture = (heed_tensor){ HEED_TYPE(HEED_U8, 1, SIDE, SIDE), pixels };
    in.name = "cat.png";
    in.model = "toy";
    in.class_names = names;
    in.truth = (heed_maybe_i64)HEED_SET(2);
    TOY_OK(heed_explain(&e, m, &in, &(heed_explain_opts){ QUICK }, TOY_ERR));
    TOY_OK(heed_model_run(m, &in.x, 1, &y, 1, TOY_ERR));
    for (int i = 0; i < 3; i++)
        sum += exp((double)logits[i]);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs((double)e->probability[i] - exp((double)logits[i]) / sum) < 1e-7);
        assert_true(logits[e->predicted] >= logits[i]);
    }
    assert_int_equal(e->target, e->predicted);
    assert_int_equal(e->truth, 2);
    assert_string_equal(e->input, "cat.png");
    assert_string_equal(e->class_names[1], "b");
    assert_string_equal(e->edit, "");
    assert_int_equal(((uint8_t *)e->picture.data)[0], 7);
    assert_int_equal(e->n_attentions, 2);
    assert_string_equal(e->attentions[0].path, "block.self_attn");
    assert_string_equal(e->attentions[1].path, "pool");
    assert_int_equal(e->attentions[1].queries, 1);
    assert_int_equal(e->n_maps, HEED_EXPLAIN_METHODS);
    heed_explanation_free(s->ctx, e);
    e = explain(m, &(heed_explain_opts){ QUICK, .target = HEED_SET(0) });
    assert_int_equal(e->target, 0);
    assert_int_equal(e->truth, -1);
    assert_string_equal(e->class_names[2], "2");
    assert_null(e->picture.data);
    heed_explanation_free(s->ctx, e);
    heed_explanation_free(s->ctx, NULL);
    heed_model_free(m);
}

static void recorded_weights_are_those_of_the_taps(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    float x[PIXELS], logits[3], self[2 * 16 * 16], read[16];
    const heed_explain_input in = picture_of(x);
    const heed_tensor out[3] = { { HEED_TYPE(HEED_F32, 1, 3), logits },
                                 { HEED_TYPE(HEED_F32, 1, 2, 16, 16), self },
                                 { HEED_TYPE(HEED_F32, 1, 16), read } };
    heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK });

    TOY_OK(heed_model_taps(m, (const char *const[]){ "block.self_attn.weights", "pool.weights", NULL },
                           TOY_ERR));
    TOY_OK(heed_model_run(m, &in.x, 1, out, 3, TOY_ERR));
    assert_int_equal(e->attentions[0].heads, 2);
    assert_int_equal(e->attentions[0].queries, 16);
    assert_memory_equal(e->attentions[0].weights, self, sizeof self);
    assert_memory_equal(e->attentions[1].weights, read, sizeof read);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

/* Weights, answer and words of an explanation are those of the edited model, and gradients are by the edited weights: so
 * zeroed ones have one, too. */
static void an_edited_model_is_explained_as_it_is(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    const heed_edit edits[] = { { .at = "block.self_attn", .head = HEED_EDIT_ONLY(1), .row = HEED_EDIT_RANGE(0, 2) },
                                { .at = "pool", .kind = HEED_EDIT_SCALE, .number = 0.5 } };
    float x[PIXELS], logits[3], read[16];
    const heed_explain_input in = picture_of(x);
    const heed_tensor out[2] = { { HEED_TYPE(HEED_F32, 1, 3), logits }, { HEED_TYPE(HEED_F32, 1, 16), read } };
    heed_explanation *plain = explain(m, &(heed_explain_opts){ QUICK }), *e;
    char *json = NULL;
    double sum = 0;

    TOY_OK(heed_model_edit(m, edits, 2, TOY_ERR));
    e = explain(m, &(heed_explain_opts){ QUICK });
    TOY_OK(heed_model_taps(m, (const char *const[]){ "pool.weights", NULL }, TOY_ERR));
    TOY_OK(heed_model_run(m, &in.x, 1, out, 2, TOY_ERR));
    for (int i = 0; i < 3; i++)
        sum += exp((double)logits[i]);
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)e->probability[i] - exp((double)logits[i]) / sum) < 1e-6);
    assert_int_equal(e->n_attentions, 2);
    assert_string_equal(e->attentions[0].path, "block.self_attn");
    for (int i = 0; i < 2 * 16 * 16; i++) {
        const bool zeroed = i / 256 == 1 && i / 16 % 16 <= 2;

        assert_true(zeroed ? e->attentions[0].weights[i] == 0
                           : fabsf(e->attentions[0].weights[i] - plain->attentions[0].weights[i]) < 1e-6f);
    }
    assert_memory_equal(e->attentions[1].weights, read, sizeof read);
    assert_true(e->attentions[0].gradient[256] != 0);
    assert_int_equal(e->n_edits, 2);
    assert_string_equal(e->edit, "block.self_attn:head=1,row=0-2:zero; pool:scale=0.5");
    assert_string_equal(e->edits[1], "pool:scale=0.5");
    TOY_OK(heed_explanation_json(&json, s->ctx, e, TOY_ERR));
    assert_non_null(strstr(json, "\"edits\":[\"block.self_attn:head=1,row=0-2:zero\",\"pool:scale=0.5\"]"));
    heed_text_free(s->ctx, json);
    TOY_OK(heed_explanation_json(&json, s->ctx, plain, TOY_ERR));
    assert_null(strstr(json, "edit"));
    heed_text_free(s->ctx, json);
    heed_explanation_free(s->ctx, plain);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

/* Ablation alone makes no map; its loss is of the class asked for, the true one, or the predicted one. */
static void ablation_stands_beside_maps_or_alone(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    float x[PIXELS];
    heed_explain_input in = picture_of(x);
    heed_explain_opts opts = { QUICK, .methods = 1u << HEED_EXPLAIN_ABLATION };
    heed_explanation *e = explain(m, &opts), *both;
    char *json = NULL;

    assert_int_equal(e->n_maps, 0);
    assert_non_null(e->ablation);
    assert_int_equal(e->ablation->n, 3);
    assert_int_equal(e->ablation->labels[0], e->predicted);
    assert_true(fabs(e->ablation->loss + log((double)e->probability[e->predicted])) < 1e-5);
    TOY_OK(heed_explanation_json(&json, s->ctx, e, TOY_ERR));
    assert_non_null(strstr(json, "\"maps\":[],\"ablation\":{\"label\":"));
    heed_text_free(s->ctx, json);
    heed_explanation_free(s->ctx, e);
    in.truth = (heed_maybe_i64)HEED_SET(2);
    TOY_OK(heed_explain(&e, m, &in, &opts, TOY_ERR));
    assert_int_equal(e->ablation->labels[0], 2);
    heed_explanation_free(s->ctx, e);
    opts.target = (heed_maybe_i64)HEED_SET(1);
    opts.methods |= 1u << HEED_EXPLAIN_RAW;
    TOY_OK(heed_explain(&both, m, &in, &opts, TOY_ERR));
    assert_int_equal(both->ablation->labels[0], 1);
    assert_int_equal(both->n_maps, 1);
    heed_explanation_free(s->ctx, both);
    heed_model_free(m);
}

static void rows_of_every_attention_sum_to_one(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { blocks_and_mean, block_and_pool, grouped_queries, identity_and_pool };

    for (size_t k = 0; k < sizeof builds / sizeof *builds; k++) {
        heed_model *m = open_model(s->ctx, builds[k], NULL);
        heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK });

        for (int64_t i = 0; i < e->n_attentions; i++) {
            const heed_attention_record *a = &e->attentions[i];

            assert_true(a->grid.first == 0 && a->grid.rows == 4 && a->grid.cols == 4);
            for (int64_t row = 0; row < a->heads * a->queries; row++) {
                double sum = 0;

                for (int64_t j = 0; j < a->keys; j++)
                    sum += (double)a->weights[row * a->keys + j];
                assert_true(fabs(sum - 1) < 1e-5);
            }
        }
        heed_explanation_free(s->ctx, e);
        heed_model_free(m);
    }
}

static void keys_find_their_place_on_the_picture(void **state)
{
    static const struct {
        int64_t keys, height, width, first, rows, cols;
    } cases[] = {
        { 49, 28, 28, 0, 7, 7 },    { 50, 28, 28, 1, 7, 7 },    { 51, 28, 28, 2, 7, 7 },
        { 52, 28, 28, 0, 0, 0 },    { 784, 28, 28, 0, 28, 28 }, { 197, 224, 224, 1, 14, 14 },
        { 8, 32, 16, 0, 4, 2 },     { 16, 32, 16, 0, 0, 0 },    { 9, 32, 16, 1, 4, 2 },
        { 330, 30, 45, 0, 15, 22 }, { 345, 30, 45, 0, 15, 23 }, { 1, 8, 8, 0, 0, 0 },
        { 2, 8, 8, 0, 0, 0 },       { 4, 8, 8, 0, 2, 2 },       { 0, 8, 8, 0, 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const heed_token_grid g = heed__token_grid(cases[i].keys, cases[i].height, cases[i].width);

        assert_int_equal(g.rows, cases[i].rows);
        assert_int_equal(g.cols, cases[i].cols);
        assert_int_equal(g.first, cases[i].first);
    }
}

/* Three attentions, none in a scope. */
static heed_value unnamed(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = tokens(b, in[0]);
    const int64_t batch = heed_dim(b, x, 0);

    (void)config;
    x = heed_reshape(b, x, 4, (const int64_t[]){ batch, 1, 16, 12 });
    for (int i = 0; i < 3; i++)
        x = heed_attention(b, x, x, x, NULL).out;
    return heed_linear(b, "head", heed_flatten(b, x, 1, -1), 3, NULL);
}

static void attentions_of_one_scope_have_names_of_their_own(void **state)
{
    static const char *const names[3] = { "attention", "attention#2", "attention#3" };
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, unnamed, NULL);
    heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK });

    assert_int_equal(e->n_attentions, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(e->attentions[i].path, names[i]);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

/* ---- gradients ---- */

/* The model's graph in which the weights of every attention have an input added to them. */
typedef struct edited {
    heed_graph *graph;
    heed_plan *plan;
    heed_session *session;
    int id;
} edited;

static bool keep_closed(const void *user, const heed_graph *g, const node *n)
{
    (void)user;
    (void)g;
    return n->op != &heed__op_attention;
}

static edited open_edited(heed_model *m, const heed_type *x)
{
    heed_graph *plain = NULL, *named = NULL, *opened = NULL;
    edited e = { .id = 0 };
    char name[32];
    rewrite r;

    TOY_OK(heed_model_graph(m, x, 1, HEED_EVAL, &plain, TOY_ERR));
    TOY_OK(heed__rewrite_begin(&r, plain, TOY_ERR));
    heed__rewrite_copy(&r);
    heed__rewrite_names(&r);
    for (uint32_t i = 0; i < plain->n_nodes; i++)
        if (plain->nodes[i].op == &heed__op_attention) {
            snprintf(name, sizeof name, "weights.%u", (unsigned)i);
            heed_output(r.b, name, r.map[heed__out(&plain->nodes[i], AT_GET_WEIGHTS).id]);
        }
    TOY_OK(heed__rewrite_end(&r, &named, TOY_ERR));
    TOY_OK(heed__pass_open(&opened, named, keep_closed, NULL, TOY_ERR));
    TOY_OK(heed__rewrite_begin(&r, opened, TOY_ERR));
    for (uint32_t i = 0; i < opened->n_nodes; i++) {
        heed__copy_node(r.b, &opened->nodes[i], r.map);
        for (uint32_t k = 1; k < opened->n_outputs; k++) {
            const heed_value v = opened->outputs[k].value;

            if (opened->values[v.id].node != i)
                continue;
            snprintf(name, sizeof name, "delta.%u", (unsigned)k);
            r.map[v.id] = heed_add(r.b, r.map[v.id], heed_input(r.b, name, opened->values[v.id].type));
        }
    }
    TOY_OK(heed__rewrite_end(&r, &e.graph, TOY_ERR));
    TOY_OK(heed_plan_new(&e.plan, m ? heed_model_context(m) : NULL, e.graph, NULL, TOY_ERR));
    TOY_OK(heed_session_new(&e.session, heed_model_context(m), heed_model_weights(m), NULL, TOY_ERR));
    TOY_OK(heed_session_add(e.session, e.plan, &e.id, TOY_ERR));
    heed_graph_free(plain);
    heed_graph_free(named);
    heed_graph_free(opened);
    return e;
}

static void close_edited(edited *e)
{
    heed_session_free(e->session);
    heed_plan_free(e->plan);
    heed_graph_free(e->graph);
}

static double edited_logit(const edited *e, const heed_tensor *in, int n_in, int64_t target)
{
    float logits[3];

    TOY_OK(heed_session_run(e->session, e->id, in, n_in, &(heed_tensor){ HEED_TYPE(HEED_F32, 1, 3), logits },
                            1, TOY_ERR));
    return (double)logits[target];
}

/* Every 7th weight is moved up and down; what the logit does must be what the gradient says. */
static void a_gradient_is_what_moving_the_weight_does(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { blocks_and_mean, block_and_pool, grouped_queries };

    for (size_t k = 0; k < sizeof builds / sizeof *builds; k++) {
        heed_model *m = open_model(s->ctx, builds[k], NULL);
        heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK, .target = HEED_SET(1) });
        float x[PIXELS], *deltas[2];
        const heed_explain_input with = picture_of(x);
        edited g = open_edited(m, &with.x.type);
        heed_tensor in[3] = { with.x };
        double worst = 0;

        assert_int_equal(e->n_attentions, 2);
        for (int i = 0; i < 2; i++) {
            const heed_attention_record *a = &e->attentions[i];

            deltas[i] = calloc((size_t)(a->heads * a->queries * a->keys), sizeof(float));
            in[i + 1] = (heed_tensor){ HEED_TYPE(HEED_F32, 1, a->heads, a->queries, a->keys), deltas[i] };
        }
        for (int i = 0; i < 2; i++) {
            const heed_attention_record *a = &e->attentions[i];
            double most = 0, error = 0;

            for (int64_t j = 0; j < a->heads * a->queries * a->keys; j += 7) {
                const float step = 0.005f;
                double up, down;

                deltas[i][j] = step;
                up = edited_logit(&g, in, 3, 1);
                deltas[i][j] = -step;
                down = edited_logit(&g, in, 3, 1);
                deltas[i][j] = 0;
                most = fmax(most, fabs((double)a->gradient[j]));
                error = fmax(error, fabs((up - down) / (2 * (double)step) - (double)a->gradient[j]));
            }
            assert_true(most > 1e-3);
            assert_true(error < 5e-3 * most + 5e-5);
            worst = fmax(worst, error / most);
        }
        printf("gradients of weights, model %d: worst difference %.1e of the largest\n", (int)k, worst);
        free(deltas[0]);
        free(deltas[1]);
        close_edited(&g);
        heed_explanation_free(s->ctx, e);
        heed_model_free(m);
    }
}

/* ---- methods against their formulas, with whole matrices ---- */

/* Mean over heads of w, or of max(0, w dw). */
static void mean_matrix(double *to, const heed_attention_record *a, bool relevance)
{
    for (int64_t i = 0; i < a->queries * a->keys; i++) {
        to[i] = 0;
        for (int64_t h = 0; h < a->heads; h++) {
            const double w = (double)a->weights[h * a->queries * a->keys + i],
                         d = (double)a->gradient[h * a->queries * a->keys + i];

            to[i] += (relevance ? fmax(0, w * d) : w) / (double)a->heads;
        }
    }
}

static void multiply(double *to, const double *a, const double *b, int64_t height, int64_t n)
{
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < n; j++) {
            to[i * n + j] = 0;
            for (int64_t k = 0; k < n; k++)
                to[i * n + j] += a[i * n + k] * b[k * n + j];
        }
}

/* The map of a chain whose last attention is number `last`. */
static void chain_by_matrices(double *map, const heed_explanation *e, int64_t last, bool relevance)
{
    enum { MOST = 17 * 17 };
    const int64_t n = e->attentions[last].keys, first = e->attentions[last].grid.first;
    double r[MOST] = { 0 }, a[MOST], product[MOST], row[17] = { 0 }, total = 0;
    int64_t height = n;

    for (int64_t i = 0; i < n; i++)
        r[i * n + i] = 1;
    for (int64_t l = 0; l <= last; l++) {
        const heed_attention_record *at = &e->attentions[l];

        mean_matrix(a, at, relevance);
        height = at->queries;
        if (at->queries != n) { /* a pooling */
            multiply(product, a, r, height, n);
        } else {
            for (int64_t i = 0; i < n; i++)
                a[i * n + i] += 1;
            for (int64_t i = 0; !relevance && i < n * n; i++)
                a[i] /= 2;
            multiply(product, a, r, n, n);
        }
        memcpy(r, product, sizeof r);
    }
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < n; j++)
            if (height == 1 || (first > 0 && height == n ? i == 0 : true))
                row[j] += r[i * n + j] - (relevance && height == n && i == j ? 1 : 0);
    for (int64_t j = first; j < n; j++)
        total += row[j];
    for (int64_t j = first; j < n; j++)
        map[j - first] = row[j] / total;
}

static void check_chains(const heed_explanation *e, int64_t last)
{
    const heed_explain_method methods[2] = { HEED_EXPLAIN_ROLLOUT, HEED_EXPLAIN_GRADIENT };

    for (int k = 0; k < 2; k++) {
        const heed_saliency *s = map_of(e, methods[k]);
        double map[16];

        chain_by_matrices(map, e, last, k == 1);
        for (int i = 0; i < 16; i++)
            assert_true(fabs(map[i] - (double)s->map[i]) < 1e-6);
    }
}

/* An architecture by name with settings (name, value, ..., NULL). */
typedef struct named_model {
    arena arena;
    heed_model *m;
} named_model;

static named_model open_named(heed_context *ctx, const char *name, const char *const *settings)
{
    const heed_architecture *a = heed__architecture(name);
    named_model n = { .m = NULL };
    void *config;

    assert_non_null(a);
    heed__arena_init(&n.arena, ctx->heap);
    config = heed__arena_alloc(&n.arena, 1, a->config_size);
    TOY_OK(heed__fields_default(a->fields, config, &n.arena, TOY_ERR));
    for (; settings[0]; settings += 2) {
        void *object = config;
        const field *row = heed__field_find(a->fields, settings[0], &object, NULL);

        assert_non_null(row);
        TOY_OK(heed__field_set(row, object, settings[1], &n.arena, NULL, TOY_ERR));
    }
    n.m = open_model(ctx, a->build, config);
    return n;
}

static void close_named(named_model *n)
{
    heed_model_free(n->m);
    heed__arena_release(&n->arena);
}

static const char *const small_vit[] = { "classes", "3", "patch", "2", "width", "12", "heads", "3", NULL };

static void rollout_and_gradient_are_products_of_whole_matrices(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { blocks_and_mean, block_and_pool, grouped_queries };
    named_model vit = open_named(s->ctx, "vit", small_vit);
    heed_explanation *e;

    for (size_t k = 0; k < sizeof builds / sizeof *builds; k++) {
        heed_model *m = open_model(s->ctx, builds[k], NULL);

        for (int64_t layer = 0; layer < 2; layer++) {
            e = explain(m, &(heed_explain_opts){ QUICK, .layer = HEED_SET(layer) });
            check_chains(e, layer);
            heed_explanation_free(s->ctx, e);
        }
        heed_model_free(m);
    }
    e = explain(vit.m, &(heed_explain_opts){ QUICK });
    assert_int_equal(e->attentions[1].grid.first, 1);
    assert_int_equal(e->attentions[1].keys, 17);
    check_chains(e, 1);
    heed_explanation_free(s->ctx, e);
    close_named(&vit);
}

static void rollout_of_identity_attention_is_the_identity(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, identity_and_pool, NULL);
    heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK });
    const heed_saliency *raw = map_of(e, HEED_EXPLAIN_RAW), *rollout = map_of(e, HEED_EXPLAIN_ROLLOUT);

    for (int i = 0; i < 16; i++) {
        assert_true(e->attentions[0].weights[i * 17] == 1);
        assert_true(fabsf(rollout->map[i] - raw->map[i]) < 1e-7f);
        assert_true(fabsf(raw->map[i] - e->attentions[1].weights[i]) < 1e-6f);
    }
    assert_string_equal(raw->about, "pool, 1 head");
    assert_string_equal(rollout->about, "self, 1 head; pool, 1 head");
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

static void raw_and_received_are_the_weights_themselves(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    heed_explanation *e = explain(m, &(heed_explain_opts){ QUICK });
    const heed_attention_record *self = &e->attentions[0], *last = &e->attentions[1];

    for (int j = 0; j < 16; j++) {
        double column = 0;

        for (int i = 0; i < 32; i++)
            column += (double)self->weights[i * 16 + j] / 32;
        assert_true(fabs((double)map_of(e, HEED_EXPLAIN_RECEIVED)->map[j] -
                         (column + (double)last->weights[j]) / 2) < 1e-6);
    }
    heed_explanation_free(s->ctx, e);
    e = explain(m, &(heed_explain_opts){ QUICK, .layer = HEED_SET(0), .head = HEED_SET(1) });
    self = &e->attentions[0];
    for (int j = 0; j < 16; j++) {
        double column = 0;

        for (int i = 0; i < 16; i++)
            column += (double)self->weights[(16 + i) * 16 + j] / 16;
        assert_true(fabs((double)map_of(e, HEED_EXPLAIN_RAW)->map[j] - column) < 1e-6);
    }
    assert_string_equal(map_of(e, HEED_EXPLAIN_RAW)->about,
                        "block.self_attn, head 1 of 2, mean over queries");
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

static void maps_are_at_least_zero_and_sum_to_one(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { blocks_and_mean, block_and_pool, grouped_queries, identity_and_pool };

    for (size_t k = 0; k < sizeof builds / sizeof *builds; k++) {
        heed_model *m = open_model(s->ctx, builds[k], NULL);
        heed_explanation *e = explain(m, NULL);

        assert_int_equal(e->n_maps, HEED_EXPLAIN_METHODS);
        for (int i = 0; i < e->n_maps; i++) {
            const heed_saliency *map = &e->maps[i];
            double sum = 0;

            assert_int_equal(map->rows * map->cols, 16);
            assert_int_equal(map->faithful.points, 17);
            assert_int_equal(map->faithful.orders, 100);
            for (int j = 0; j < 16; j++) {
                assert_true(map->map[j] >= 0);
                sum += (double)map->map[j];
            }
            assert_true(fabs(sum - 1) < 1e-6);
            assert_true(map->faithful.probability[0] == e->probability[e->target]);
        }
        heed_explanation_free(s->ctx, e);
        heed_model_free(m);
    }
}

/* ---- the deletion test ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* The best of 18 orders is as good as the first of 19 that are all alike: 1 in 19. */
static void fewer_than_19_orders_decide_nothing(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, by_hand, four);
    float ones[4] = { 1, 1, 1, 1 };
    const heed_explain_input in = { .x = { HEED_TYPE(HEED_F32, 1, 1, 2, 2), ones } };

    for (int64_t orders = 1; orders < 19; orders++) {
        heed_explanation *e = NULL;

        TOY_OK(heed_explain(&e, m, &in, &(heed_explain_opts){ .orders = orders, .target = HEED_SET(0) },
                            TOY_ERR));
        for (int i = 0; i < e->n_maps; i++)
            assert_int_equal(e->maps[i].faithful.verdict, HEED_NO_BETTER);
        heed_explanation_free(s->ctx, e);
    }
    heed_model_free(m);
}

/* x = 1 everywhere, w = 3, 1, 2, -1: occlusion removes cells 0, 2, 1, 3, and no order has a smaller area;
 * raw removes 3, 1, 2, 0, and no order has a larger one. */
static void a_curve_is_the_one_worked_out_by_hand(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, by_hand, four);
    float ones[4] = { 1, 1, 1, 1 };
    const heed_explain_input in = { .x = { HEED_TYPE(HEED_F32, 1, 1, 2, 2), ones } };
    const double best[5] = { 5, 2, 0, -1, 0 }, worst[5] = { 5, 6, 5, 3, 0 };
    const heed_faithfulness *f;
    heed_explanation *e = NULL;
    double area = 0;

    TOY_OK(heed_explain(&e, m, &in, &(heed_explain_opts){ .orders = 2000, .target = HEED_SET(0) }, TOY_ERR));
    f = &map_of(e, HEED_EXPLAIN_OCCLUSION)->faithful;
    assert_int_equal(f->points, 5);
    for (int i = 0; i < 5; i++) {
        assert_true(fabs((double)f->probability[i] - sigmoid(best[i])) < 1e-5);
        area += sigmoid(best[i]) / 5;
    }
    assert_true(fabs(f->area - area) < 1e-5);
    assert_true(f->rank > 0.01 && f->rank < 0.035); /* one order of 24 is this one: a tie counts one half */
    assert_int_equal(f->verdict, HEED_FAITHFUL);
    f = &map_of(e, HEED_EXPLAIN_RAW)->faithful;
    for (int i = 0; i < 5; i++)
        assert_true(fabs((double)f->probability[i] - sigmoid(worst[i])) < 1e-5);
    assert_true(f->rank > 0.965 && f->rank < 0.99);
    assert_int_equal(f->verdict, HEED_WORSE);
    assert_true(f->random[0] == f->probability[0] && f->random_low[4] == f->random_high[4]);
    assert_true(f->random_low[2] < f->random[2] && f->random[2] < f->random_high[2]);
    {
        double sum = 0, once[5]; /* after one cell: 2, 4, 3, 6, each as often */

        once[1] = (sigmoid(2) + sigmoid(4) + sigmoid(3) + sigmoid(6)) / 4;
        once[2] = (sigmoid(1) + sigmoid(0) + sigmoid(3) + sigmoid(2) + sigmoid(5) + sigmoid(4)) / 6;
        once[3] = (sigmoid(3) + sigmoid(1) + sigmoid(2) + sigmoid(-1)) / 4;
        for (int i = 1; i < 4; i++) {
            assert_true(fabs((double)f->random[i] - once[i]) < 0.01);
            sum += once[i];
        }
        assert_true(fabs(f->random_area - (sum + sigmoid(5) + 0.5) / 5) < 0.005);
    }
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

static void a_map_of_zeros_is_no_better_than_random(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, by_hand, NULL);
    float ones[4] = { 1, 1, 1, 1 };
    const heed_explain_input in = { .x = { HEED_TYPE(HEED_F32, 1, 1, 2, 2), ones } };
    const heed_saliency *map;
    heed_explanation *e = NULL;

    TOY_OK(heed_explain(&e, m, &in, NULL, TOY_ERR));
    map = map_of(e, HEED_EXPLAIN_OCCLUSION);
    for (int i = 0; i < 4; i++)
        assert_true(map->map[i] == 0 && map_of(e, HEED_EXPLAIN_GRADIENT)->map[i] == 0);
    assert_true(map->faithful.rank == 0.5 && map->faithful.random_std == 0);
    assert_true(map->faithful.area == map->faithful.random_area);
    assert_int_equal(map->faithful.verdict, HEED_NO_BETTER);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

static void a_blank_pixel_has_the_value_given(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, by_hand, four);
    float ones[4] = { 1, 1, 1, 1 }, blank = 1;
    const heed_explain_input in = { .x = { HEED_TYPE(HEED_F32, 1, 1, 2, 2), ones }, .blank = &blank };
    heed_explanation *e = NULL;

    TOY_OK(
        heed_explain(&e, m, &in, &(heed_explain_opts){ .methods = 1u << HEED_EXPLAIN_OCCLUSION }, TOY_ERR));
    assert_int_equal(e->n_maps, 1);
    for (int i = 0; i < 4; i++)
        assert_true(e->maps[0].map[i] == 0);
    assert_true(e->maps[0].faithful.probability[4] == e->probability[e->target]);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

/* ---- the same for everybody ---- */

static void assert_same_maps(const heed_explanation *a, const heed_explanation *b)
{
    assert_int_equal(a->n_maps, b->n_maps);
    for (int i = 0; i < a->n_maps; i++) {
        const heed_saliency *x = &a->maps[i], *y = &b->maps[i];
        const size_t curve = (size_t)x->faithful.points * sizeof(float);

        assert_memory_equal(x->map, y->map, (size_t)(x->rows * x->cols) * sizeof(float));
        assert_memory_equal(x->faithful.probability, y->faithful.probability, curve);
        assert_memory_equal(x->faithful.random, y->faithful.random, curve);
        assert_memory_equal(x->faithful.random_low, y->faithful.random_low, curve);
        assert_memory_equal(x->faithful.random_high, y->faithful.random_high, curve);
        assert_memory_equal(&x->faithful.area, &y->faithful.area, 4 * sizeof(double));
        assert_int_equal(x->faithful.verdict, y->faithful.verdict);
    }
    for (int64_t i = 0; i < a->n_attentions; i++) {
        const heed_attention_record *x = &a->attentions[i], *y = &b->attentions[i];
        const size_t bytes = (size_t)(x->heads * x->queries * x->keys) * sizeof(float);

        assert_memory_equal(x->weights, y->weights, bytes);
        assert_memory_equal(x->gradient, y->gradient, bytes);
    }
}

static void one_two_and_seven_threads_give_the_same_bytes(void **state)
{
    static const int threads[] = { 1, 2, 7 };
    heed_explanation *first = NULL;
    heed_context *kept = NULL;
    heed_model *models[3];
    heed_context *contexts[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        heed_explanation *e;

        contexts[i] = toy_context(threads[i], HEED_ISA_AUTO);
        models[i] = open_model(contexts[i], block_and_pool, NULL);
        e = explain(models[i], &(heed_explain_opts){ .orders = 20 });
        if (first) {
            assert_same_maps(first, e);
            heed_explanation_free(contexts[i], e);
        } else {
            first = e;
            kept = contexts[i];
        }
    }
    heed_explanation_free(kept, first);
    for (int i = 0; i < 3; i++) {
        heed_model_free(models[i]);
        heed_context_free(contexts[i]);
    }
}

static void the_seed_decides_the_random_orders_and_nothing_else(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL);
    heed_explanation *e[3];

    for (int i = 0; i < 3; i++)
        e[i] = explain(m, &(heed_explain_opts){ .orders = 5, .seed = i == 2 ? 9 : 1 });
    assert_same_maps(e[0], e[1]);
    assert_memory_equal(e[0]->maps[0].map, e[2]->maps[0].map, 16 * sizeof(float));
    assert_true(e[0]->maps[0].faithful.area == e[2]->maps[0].faithful.area);
    assert_true(e[0]->maps[0].faithful.random_area < e[2]->maps[0].faithful.random_area ||
                e[0]->maps[0].faithful.random_area > e[2]->maps[0].faithful.random_area);
    for (int i = 0; i < 3; i++)
        heed_explanation_free(s->ctx, e[i]);
    heed_model_free(m);
}

/* ---- architectures ---- */

static void every_architecture_with_attention_stands_every_method(void **state)
{
    const scratch *s = *state;
    static const struct {
        const char *name, *settings[11];
        int64_t attentions;
    } all[] = {
        { "conv-attention", { "classes", "3", "stem", "4 P 8", "heads", "2", NULL }, 2 },
        { "conv-attention", { "classes", "3", "stem", "4 P 8", "blocks", "0", NULL }, 1 },
        { "vit", { "classes", "3", "patch", "2", "width", "12", "heads", "3", "blocks", "3", NULL }, 3 },
        { "vit", { "classes", "3", "patch", "1", "width", "12", "heads", "3", "stem", "4 P 8", NULL }, 2 },
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        named_model n = open_named(s->ctx, all[i].name, all[i].settings);
        heed_explanation *e = explain(n.m, &(heed_explain_opts){ QUICK });

        assert_int_equal(e->n_attentions, all[i].attentions);
        assert_int_equal(e->n_maps, HEED_EXPLAIN_METHODS);
        for (int k = 0; k < e->n_maps; k++) {
            assert_int_equal(e->maps[k].rows, 4);
            assert_int_equal(e->maps[k].method, k);
        }
        heed_explanation_free(s->ctx, e);
        close_named(&n);
    }
}

static void assert_refused(heed_model *m, const heed_explain_input *in, const heed_explain_opts *opts,
                           heed_status code, const char *words)
{
    heed_explanation *e = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_explain(&e, m, in, opts, &err), code);
    assert_null(e);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void a_model_without_attention_is_explained_by_occlusion_alone(void **state)
{
    const scratch *s = *state;
    static const char *const settings[2][5] = { { "classes", "3", "hidden", "8", NULL },
                                                { "classes", "3", "stem", "4 P 8", NULL } };
    static const char *const names[2] = { "mlp", "cnn" };
    float x[PIXELS];
    const heed_explain_input in = picture_of(x);

    for (int i = 0; i < 2; i++) {
        named_model n = open_named(s->ctx, names[i], settings[i]);
        heed_explanation *e;

        assert_refused(n.m, &in, NULL, HEED_ERR_SPEC, "raw reads attention, and this model has none");
        assert_refused(n.m, &in, &(heed_explain_opts){ .methods = 1u << HEED_EXPLAIN_GRADIENT },
                       HEED_ERR_SPEC, "ask for occlusion alone");
        assert_refused(n.m, &in,
                       &(heed_explain_opts){ .methods = 1u << HEED_EXPLAIN_OCCLUSION, .layer = HEED_SET(0) },
                       HEED_ERR_SPEC, "has no attention");
        e = explain(n.m, &(heed_explain_opts){ QUICK, .methods = 1u << HEED_EXPLAIN_OCCLUSION });
        assert_int_equal(e->n_attentions, 0);
        assert_int_equal(e->n_maps, 1);
        assert_int_equal(e->maps[0].rows, 4);
        assert_string_equal(e->maps[0].about, "each of 4 x 4 cells blanked");
        heed_explanation_free(s->ctx, e);
        close_named(&n);
    }
}

static void attention_that_lies_nowhere_is_said_to(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, three_tokens, NULL);
    float x[PIXELS];
    const heed_explain_input in = picture_of(x);
    heed_explanation *e;

    assert_refused(m, &in, NULL, HEED_ERR_SPEC, "no attention of this model lies on the picture");
    assert_refused(m, &in, &(heed_explain_opts){ .layer = HEED_SET(0) }, HEED_ERR_SPEC,
                   "\"pool\") has 3 keys");
    e = explain(m, &(heed_explain_opts){ QUICK, .methods = 1u << HEED_EXPLAIN_OCCLUSION });
    assert_int_equal(e->attentions[0].grid.rows, 0);
    heed_explanation_free(s->ctx, e);
    heed_model_free(m);
}

static heed_value flat_answer(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_flatten(b, in[0], 2, -1); /* rank 3 */
}

static void what_cannot_be_meant_is_refused_with_a_sentence(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, block_and_pool, NULL), *flat = open_model(s->ctx, flat_answer, NULL);
    float x[PIXELS], infinite[PIXELS];
    uint8_t pixels[4] = { 0 };
    const heed_explain_input in = picture_of(x);
    heed_explain_input bad = in;

    assert_refused(
        m, &in, &(heed_explain_opts){ .layer = HEED_SET(7) }, HEED_ERR_USAGE,
        "there is no attention 7: this model has 2, numbered from 0 (\"block.self_attn\") to 1 (\"pool\")");
    assert_refused(m, &in, &(heed_explain_opts){ .layer = HEED_SET(-1) }, HEED_ERR_USAGE, "no attention -1");
    assert_refused(m, &in, &(heed_explain_opts){ .head = HEED_SET(2) }, HEED_ERR_USAGE,
                   "no head 2: heads are 0 to 1");
    assert_refused(m, &in, &(heed_explain_opts){ .target = HEED_SET(3) }, HEED_ERR_USAGE,
                   "no class 3: classes are 0 to 2");
    assert_refused(m, &in, &(heed_explain_opts){ .methods = 64 }, HEED_ERR_USAGE, "bits that name no method");
    assert_refused(m, &in, &(heed_explain_opts){ .orders = -1 }, HEED_ERR_LIMIT, "-1 random orders");
    assert_refused(m, &in, &(heed_explain_opts){ .points = 1 }, HEED_ERR_LIMIT, "a curve of 1 points");
    bad.x.type.dims[0] = 2;
    assert_refused(m, &bad, NULL, HEED_ERR_SHAPE, "one picture");
    bad = in;
    bad.picture = (heed_tensor){ HEED_TYPE(HEED_U8, 1, 2, 2), pixels };
    assert_refused(m, &bad, NULL, HEED_ERR_SHAPE, "u8 [C,8,8]");
    assert_refused(flat, &in, NULL, HEED_ERR_SPEC, "[1, classes]");
    for (int i = 0; i < PIXELS; i++)
        infinite[i] = INFINITY;
    bad = in;
    bad.x.data = infinite;
    assert_refused(m, &bad, NULL, HEED_ERR_NUMERIC, "not finite");
    assert_string_equal(heed_explain_method_name(HEED_EXPLAIN_OCCLUSION), "occlusion");
    assert_string_equal(heed_explain_method_name(HEED_EXPLAIN_ABLATION), "ablation");
    assert_string_equal(heed_explain_method_name((heed_explain_method)9), "?");
    heed_model_free(flat);
    heed_model_free(m);
}

/* ---- memory ---- */

static heed_status explain_scenario(heed_context *ctx, void *user, heed_error *err)
{
    float x[PIXELS];
    const heed_explain_input in = picture_of(x);
    heed_explanation *e = NULL;
    heed_model *m = NULL;
    heed_status st = heed_model_new(&m, ctx, block_and_pool, NULL, NULL, err);

    if (st == HEED_OK && user)
        st = heed_model_edit(m, &(const heed_edit){ .at = "pool", .key = HEED_EDIT_ONLY(3) }, 1, err);
    if (st == HEED_OK)
        st = heed_explain(&e, m, &in, &(heed_explain_opts){ QUICK, .methods = user ? 1u << HEED_EXPLAIN_ABLATION : 0 }, err);
    heed_explanation_free(ctx, e);
    heed_model_free(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "explain", .run = explain_scenario },
                        ablated = { .name = "explain edited", .run = explain_scenario };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls > 100);
    assert_true(heed_fail_each(&ablated, &report, &report));
    assert_true(report.calls > 100);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        FACT(the_recorded_run_has_the_bits_of_a_plain_run),
        FACT(an_explanation_says_what_the_model_answers),
        FACT(recorded_weights_are_those_of_the_taps),
        FACT(an_edited_model_is_explained_as_it_is),
        FACT(ablation_stands_beside_maps_or_alone),
        FACT(rows_of_every_attention_sum_to_one),
        FACT(attentions_of_one_scope_have_names_of_their_own),
        FACT(keys_find_their_place_on_the_picture),
        FACT(a_gradient_is_what_moving_the_weight_does),
        FACT(rollout_and_gradient_are_products_of_whole_matrices),
        FACT(rollout_of_identity_attention_is_the_identity),
        FACT(raw_and_received_are_the_weights_themselves),
        FACT(maps_are_at_least_zero_and_sum_to_one),
        FACT(a_curve_is_the_one_worked_out_by_hand),
        FACT(fewer_than_19_orders_decide_nothing),
        FACT(a_map_of_zeros_is_no_better_than_random),
        FACT(a_blank_pixel_has_the_value_given),
        FACT(one_two_and_seven_threads_give_the_same_bytes),
        FACT(the_seed_decides_the_random_orders_and_nothing_else),
        FACT(every_architecture_with_attention_stands_every_method),
        FACT(a_model_without_attention_is_explained_by_occlusion_alone),
        FACT(attention_that_lies_nowhere_is_said_to),
        FACT(what_cannot_be_meant_is_refused_with_a_sentence),
        FACT(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
