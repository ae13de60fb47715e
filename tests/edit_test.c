/* Edits: readers of a value read the edited one, and nothing else changes. What an edit of attention weights does is worked
 * out by hand from the weights that the model reports without it. */
#include "passes/edit.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/attention.h>
#include <heed/formats.h>
#include <heed/nn.h>
#include <heed/ops.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/* x [B,12]: two heads, three tokens, two numbers each. */
enum { H = 2, T = 3, D = 2, WIDTH = H * T * D, CELLS = H * T * T };

/* ---- models ---- */

/* Self-attention of x with itself, [B,12]. */
static heed_value attention(heed_builder *b, const heed_value *in, const void *config)
{
    const int64_t batch = heed_dim(b, in[0], 0);
    const heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ batch, H, T, D });
    heed_attended a;

    (void)config;
    heed_scope_push(b, "layer.0.attn");
    a = heed_attention(b, x, x, x, NULL);
    heed_tap(b, "weights", a.weights);
    heed_tap(b, "lse", a.lse);
    heed_scope_pop(b);
    return heed_reshape(b, a.out, 2, (const int64_t[]){ batch, WIDTH });
}

/* (2 x + 1) (2 x + 1), the tap "hidden.out" being 2 x + 1. */
static heed_value plain(heed_builder *b, const heed_value *in, const void *config)
{
    const heed_value x = heed_add_scalar(b, heed_mul_scalar(b, in[0], 2), 1);

    (void)config;
    heed_scope_push(b, "hidden");
    heed_tap(b, "out", x);
    heed_scope_pop(b);
    heed_tap(b, "square", heed_mul(b, x, x));
    return heed_mul(b, x, x);
}

static heed_value projected(heed_builder *b, const heed_value *in, const void *config)
{
    const int64_t batch = heed_dim(b, in[0], 0);

    (void)config;
    return heed_reshape(b,
                        heed_multihead_attention(b, "mha",
                                                 heed_reshape(b, in[0], 3, (const int64_t[]){ batch, T, 4 }),
                                                 H, NULL, NULL),
                        2, (const int64_t[]){ batch, WIDTH });
}

/* Two attentions in one scope, none tapped; then a pooling, tapped as [B,T]. */
static heed_value untapped(heed_builder *b, const heed_value *in, const void *config)
{
    const int64_t batch = heed_dim(b, in[0], 0);
    heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ batch, H, T, D });

    (void)config;
    heed_scope_push(b, "both");
    x = heed_attention(b, x, x, x, NULL).out;
    x = heed_attention(b, x, x, x, NULL).out;
    heed_scope_pop(b);
    return heed_attention_pool(b, "pool", heed_reshape(b, x, 3, (const int64_t[]){ batch, T, 4 }),
                               (heed_value){ 0 });
}

/* ---- running ---- */

static void paint(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = sinf((float)i * 0.9f) + 0.25f;
}

static heed_model *open_model(heed_context *ctx, heed_build_fn *build)
{
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, ctx, build, NULL, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    return m;
}

/* The result [batch, width] of painted inputs, and, with a tap, its value. */
static void run(heed_model *m, int64_t batch, int64_t width, float *y, const char *tap, heed_type type,
                float *value)
{
    float x[4 * WIDTH];
    const heed_tensor in = { HEED_TYPE(HEED_F32, batch, WIDTH), x };
    const heed_tensor out[2] = { { HEED_TYPE(HEED_F32, batch, width), y }, { type, value } };

    paint(x, batch * WIDTH);
    TOY_OK(heed_model_taps(m, tap ? (const char *const[]){ tap, NULL } : NULL, TOY_ERR));
    TOY_OK(heed_model_run(m, &in, 1, out, tap ? 2 : 1, TOY_ERR));
}

static void run_attention(heed_model *m, int64_t batch, float *y, float *weights)
{
    run(m, batch, WIDTH, y, weights ? "layer.0.attn.weights" : NULL, HEED_TYPE(HEED_F32, batch, H, T, T),
        weights);
}

/* out = w v, in double; v is the painted input. */
static void multiply(double *out, const double *w, int64_t batch)
{
    float v[4 * WIDTH];

    paint(v, batch * WIDTH);
    for (int64_t bh = 0; bh < batch * H; bh++)
        for (int i = 0; i < T; i++)
            for (int d = 0; d < D; d++) {
                double sum = 0;

                for (int j = 0; j < T; j++)
                    sum += w[(bh * T + i) * T + j] * (double)v[(bh * T + j) * D + d];
                out[(bh * T + i) * D + d] = sum;
            }
}

static void assert_close(const float *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-6))
            fail_msg("element %lld is %.9g and not %.9g", (long long)i, (double)got[i], want[i]);
}

/* Applies the edit to the weights by hand. */
typedef double by_hand(double w, int64_t at);

static void assert_edit(heed_context *ctx, const heed_edit *edit, by_hand *hand)
{
    float weights[2 * CELLS], edited[2 * CELLS], y[2 * WIDTH], alone[2 * WIDTH];
    double w[2 * CELLS], out[2 * WIDTH];
    heed_model *m = open_model(ctx, attention);

    run_attention(m, 2, y, weights);
    for (int64_t i = 0; i < 2 * CELLS; i++) {
        const int64_t head = i / (T * T) % H, row = i / T % T, key = i % T;
        const bool in = (!edit->head.on || (head >= edit->head.first && head <= edit->head.last)) &&
                        (!edit->row.on || (row >= edit->row.first && row <= edit->row.last)) &&
                        (!edit->key.on || (key >= edit->key.first && key <= edit->key.last));

        w[i] = in ? hand((double)weights[i], i) : (double)weights[i];
    }
    multiply(out, w, 2);
    TOY_OK(heed_model_edit(m, edit, 1, TOY_ERR));
    run_attention(m, 2, y, edited);
    assert_close(y, out, 2 * WIDTH);
    assert_close(edited, w, 2 * CELLS); /* the tap gives what is read */
    run_attention(m, 2, alone, NULL);
    assert_memory_equal(y, alone, sizeof y);
    heed_model_free(m);
}

/* ---- each kind ---- */

static float record[CELLS];

static double to_zero(double w, int64_t at)
{
    (void)w;
    (void)at;
    return 0;
}

static double to_half(double w, int64_t at)
{
    (void)at;
    return 0.5 * w;
}

static double to_two(double w, int64_t at)
{
    (void)w;
    (void)at;
    return 2;
}

static double to_more(double w, int64_t at)
{
    (void)at;
    return w - 0.125;
}

static double to_record(double w, int64_t at)
{
    (void)w;
    return (double)record[at % CELLS];
}

static const struct {
    heed_edit edit;
    by_hand *hand;
} kinds[] = {
    { { .kind = HEED_EDIT_ZERO }, to_zero },
    { { .kind = HEED_EDIT_SCALE, .number = 0.5 }, to_half },
    { { .kind = HEED_EDIT_SET, .number = 2 }, to_two },
    { { .kind = HEED_EDIT_ADD, .number = -0.125 }, to_more },
    { { .kind = HEED_EDIT_TAKE, .from = "record" }, to_record },
};
#define N_KINDS (int)(sizeof kinds / sizeof *kinds)

static void an_edit_of_weights_is_what_it_is_by_hand_on_every_level(void **state)
{
    static const heed_isa levels[] = { HEED_ISA_PORTABLE, HEED_ISA_X86_64_V3, HEED_ISA_X86_64_V4,
                                       HEED_ISA_NEON };
    static const char *const names[] = { "layer.0.attn", "layer.0.attn.weights" };
    static const struct {
        heed_edit_range head, row, key;
    } parts[] = { { { 0 }, { 0 }, { 0 } },
                  { HEED_EDIT_ONLY(1), { 0 }, { 0 } },
                  { { 0 }, HEED_EDIT_RANGE(0, 1), { 0 } },
                  { { 0 }, { 0 }, HEED_EDIT_ONLY(2) },
                  { HEED_EDIT_ONLY(0), HEED_EDIT_ONLY(2), HEED_EDIT_RANGE(1, 2) } };

    (void)state;
    paint(record, CELLS);
    for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
        heed_context *ctx = NULL;

        if (heed_context_new(&ctx, &(heed_context_opts){ .isa = levels[level], .threads = 2 }, NULL) !=
            HEED_OK)
            continue;
        for (int k = 0; k < N_KINDS; k++)
            for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
                heed_edit e = kinds[k].edit;

                e.at = names[p % 2];
                e.tensor = (heed_tensor){ HEED_TYPE(HEED_F32, 1, H, T, T), record };
                e.head = parts[p].head;
                e.row = parts[p].row;
                e.key = parts[p].key;
                assert_edit(ctx, &e, kinds[k].hand);
            }
        heed_context_free(ctx);
    }
}

/* Everything that reads the value: here both sides of a product, and a tap behind it. */
static void whatever_reads_a_tap_reads_the_edited_value(void **state)
{
    const scratch *s = *state;
    static const double want[HEED_EDIT_TAKE][2] = { { 0, 0 }, { 0.5, 0 }, { 0, 2 }, { 1, -0.125 } };
    heed_model *m = open_model(s->ctx, plain);
    float x[WIDTH], y[WIDTH], square[WIDTH];

    paint(x, WIDTH);
    for (int k = 0; k < HEED_EDIT_TAKE; k++) {
        heed_edit e = kinds[k].edit;
        const double factor = want[k][0], plus = want[k][1];

        e.at = "hidden.out";
        TOY_OK(heed_model_edit(m, &e, 1, TOY_ERR));
        run(m, 1, WIDTH, y, "square", HEED_TYPE(HEED_F32, 1, WIDTH), square);
        for (int i = 0; i < WIDTH; i++) {
            const double v = factor * (2 * (double)x[i] + 1) + plus;

            assert_true(fabs((double)y[i] - v * v) < 1e-5);
        }
        assert_memory_equal(y, square, sizeof y);
    }
    TOY_OK(heed_model_edit(m,
                           &(const heed_edit){ .at = "hidden.out",
                                               .kind = HEED_EDIT_TAKE,
                                               .tensor = { HEED_TYPE(HEED_F32, 1, WIDTH), x } },
                           1, TOY_ERR));
    run(m, 1, WIDTH, y, NULL, HEED_TYPE(HEED_F32, 1), NULL);
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabs((double)y[i] - (double)x[i] * (double)x[i]) < 1e-6);
    heed_model_free(m);
}

static void edits_of_one_value_are_applied_in_their_order(void **state)
{
    const scratch *s = *state;
    const heed_edit edits[] = { { .at = "hidden.out", .kind = HEED_EDIT_SET, .number = 3 },
                                { .at = "hidden.out", .kind = HEED_EDIT_SCALE, .number = 2 },
                                { .at = "hidden.out", .kind = HEED_EDIT_ADD, .number = 1 } };
    heed_model *m = open_model(s->ctx, plain);
    float y[WIDTH];

    TOY_OK(heed_model_edit(m, edits, 3, TOY_ERR));
    run(m, 1, WIDTH, y, NULL, HEED_TYPE(HEED_F32, 1), NULL);
    assert_float_equal(y[5], 49, 0);
    TOY_OK(heed_model_edit(m, (const heed_edit[]){ edits[2], edits[1], edits[0] }, 3, TOY_ERR));
    run(m, 1, WIDTH, y, NULL, HEED_TYPE(HEED_F32, 1), NULL);
    assert_float_equal(y[5], 9, 0);
    heed_model_free(m);
}

/* ---- no edit ---- */

static void without_edits_every_byte_is_the_same(void **state)
{
    const scratch *s = *state;
    heed_build_fn *const builds[] = { attention, plain, projected, untapped };
    static const char *const names[] = { "layer.0.attn", "hidden.out", "mha", "pool" };
    static const int64_t widths[] = { WIDTH, WIDTH, WIDTH, 4 };

    for (int i = 0; i < 4; i++) {
        heed_model *m = open_model(s->ctx, builds[i]);
        float before[WIDTH], edited[WIDTH], after[WIDTH];
        const heed_type x = HEED_TYPE(HEED_F32, 2, WIDTH);
        const size_t bytes = (size_t)widths[i] * sizeof(float);
        heed_graph *g = NULL, *same = NULL;
        char *one = NULL, *two = NULL;

        run(m, 1, widths[i], before, NULL, x, NULL);
        TOY_OK(heed_model_edit(m, &(const heed_edit){ .at = names[i] }, 1, TOY_ERR));
        run(m, 1, widths[i], edited, NULL, x, NULL);
        assert_memory_not_equal(before, edited, bytes);
        TOY_OK(heed_model_edit(m, NULL, 0, TOY_ERR));
        assert_int_equal(heed_model_edits(m, NULL), 0);
        run(m, 1, widths[i], after, NULL, x, NULL);
        assert_memory_equal(before, after, bytes);
        TOY_OK(heed_model_graph(m, &x, 1, HEED_EVAL, &g, TOY_ERR));
        TOY_OK(heed_graph_edit(&same, g, NULL, 0, TOY_ERR));
        TOY_OK(heed_graph_print(&one, g, HEED_GRAPH_TEXT, TOY_ERR));
        TOY_OK(heed_graph_print(&two, same, HEED_GRAPH_TEXT, TOY_ERR));
        assert_string_equal(one, two);
        heed_text_free(s->ctx, one);
        heed_text_free(s->ctx, two);
        heed_graph_free(g);
        heed_graph_free(same);
        heed_model_free(m);
    }
}

/* ---- attention ---- */

static void without_heads_only_the_bias_of_the_projection_is_left(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, projected);
    float y[2 * WIDTH], *bias;

    run(m, 2, WIDTH, y, NULL, HEED_TYPE(HEED_F32, 1), NULL); /* makes the weights */
    bias = heed_weights_find(heed_model_weights(m), "mha.out_proj.bias").data;
    assert_non_null(bias);
    paint(bias, 4);
    TOY_OK(heed_model_edit(m,
                           (const heed_edit[]){ { .at = "mha", .head = HEED_EDIT_ONLY(0) },
                                                { .at = "mha", .head = HEED_EDIT_ONLY(1) } },
                           2, TOY_ERR));
    run(m, 2, WIDTH, y, NULL, HEED_TYPE(HEED_F32, 1), NULL);
    for (int i = 0; i < 2 * WIDTH; i++)
        assert_true(y[i] == bias[i % 4]);
    heed_model_free(m);
}

static void attentions_without_a_tap_are_known_by_their_scope(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, untapped);
    static const char *const names[] = { "both", "both#2", "pool", "pool.weights" };
    float y[5][4];

    run(m, 1, 4, y[4], NULL, HEED_TYPE(HEED_F32, 1), NULL);
    for (int i = 0; i < 4; i++) {
        TOY_OK(
            heed_model_edit(m, &(const heed_edit){ .at = names[i], .key = HEED_EDIT_ONLY(1) }, 1, TOY_ERR));
        run(m, 1, 4, y[i], NULL, HEED_TYPE(HEED_F32, 1), NULL);
        assert_memory_not_equal(y[i], y[4], sizeof y[4]);
    }
    assert_memory_not_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(y[2], y[3], sizeof y[2]);
    heed_model_free(m);
}

/* A record of weights has one sample; of a pooling it may come as its tap shows it. */
static void a_record_of_one_sample_serves_a_batch(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, untapped);
    float weights[T] = { 0, 0, 1 }, y[8], kept[2 * T];

    TOY_OK(heed_model_edit(m,
                           &(const heed_edit){ .at = "pool.weights",
                                               .kind = HEED_EDIT_TAKE,
                                               .tensor = { HEED_TYPE(HEED_F32, 1, T), weights } },
                           1, TOY_ERR));
    weights[0] = 7; /* it was copied */
    run(m, 2, 4, y, "pool.weights", HEED_TYPE(HEED_F32, 2, T), kept);
    for (int i = 0; i < 2 * T; i++)
        assert_true(kept[i] == (i % T == 2 ? 1.0f : 0.0f));
    heed_model_free(m);
}

static void a_factor_is_read_from_an_input_at_each_run(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, attention);
    float x[2 * WIDTH], y[2 * WIDTH], base[2 * WIDTH], factors[H] = { 1, 1 };
    const heed_type type = HEED_TYPE(HEED_F32, 2, WIDTH);
    const heed_tensor in[2] = { { type, x }, { HEED_TYPE(HEED_F32, H), factors } }, out = { type, y };
    heed_graph *g = NULL, *edited = NULL;
    heed_session *run_of = NULL;
    heed_plan *p = NULL;
    int id;

    paint(x, 2 * WIDTH);
    TOY_OK(heed_model_graph(m, &type, 1, HEED_EVAL, &g, TOY_ERR));
    TOY_OK(heed_graph_edit(
        &edited, g, &(const heed_edit){ .at = "layer.0.attn", .kind = HEED_EDIT_FACTOR, .from = "factor" }, 1,
        TOY_ERR));
    TOY_OK(heed_plan_new(&p, s->ctx, edited, NULL, TOY_ERR));
    assert_int_equal(heed_plan_inputs(p), 2);
    assert_string_equal(heed_plan_input_name(p, 1), "factor");
    TOY_OK(heed_session_new(&run_of, s->ctx, heed_model_weights(m), NULL, TOY_ERR));
    TOY_OK(heed_session_add(run_of, p, &id, TOY_ERR));
    TOY_OK(heed_session_run(run_of, id, in, 2, &out, 1, TOY_ERR));
    memcpy(base, y, sizeof y);
    factors[1] = 0;
    TOY_OK(heed_session_run(run_of, id, in, 2, &out, 1, TOY_ERR));
    for (int i = 0; i < 2 * WIDTH; i++)
        assert_true(y[i] == (i / (T * D) % H ? 0 : base[i]));
    heed_session_free(run_of);
    heed_plan_free(p);
    heed_graph_free(g);
    heed_graph_free(edited);
    heed_model_free(m);
}

/* ---- every variant of the operator ---- */

/* A variant of attention of x [B,12] as q [B,2,3,2], with keys and values of their own. */
typedef struct variant {
    const char *name;
    void (*set)(heed_builder *b, heed_attention_spec *spec, int64_t batch);
    bool gated; /* out is not w v alone */
} variant;

static heed_value numbers(heed_builder *b, int rank, const int64_t *dims, double least)
{
    static float from[64];

    for (int i = 0; i < 64; i++)
        from[i] = (float)(least + 0.4 * (1 + sin(i * 1.7)));
    return heed_constant(b, (heed_tensor){ heed_type_of(HEED_F32, rank, dims), from });
}
#define NUMBERS_OF(least, ...)                                                                               \
    numbers(b, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),                                  \
            (const int64_t[]){ __VA_ARGS__ }, least)

#define SETS(name, ...)                                                                                      \
    static void set_##name(heed_builder *b, heed_attention_spec *s, int64_t batch)                           \
    {                                                                                                        \
        (void)b;                                                                                             \
        (void)batch;                                                                                         \
        __VA_ARGS__;                                                                                         \
    }
SETS(nothing, (void)s)
SETS(causal, s->mask.causal = true)
SETS(window, s->mask.window.on = true; s->mask.window.left = 1; s->mask.window.right = 0)
SETS(lengths, int64_t two[] = { 2, 3 };
     s->in.lengths = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, batch), two }))
SETS(alibi, s->position.alibi = true)
SETS(rope, s->position.rope.on = true)
SETS(softcap, s->softcap = 1)
SETS(sink, s->in.sink = NUMBERS_OF(0, H))
SETS(sparsemax, s->normaliser.kind = HEED_NORMALISER_SPARSEMAX)
SETS(entmax, s->normaliser.kind = HEED_NORMALISER_ENTMAX15)
SETS(sigmoid, s->normaliser.kind = HEED_NORMALISER_SIGMOID)
SETS(topk, s->normaliser.kind = HEED_NORMALISER_TOPK; s->normaliser.k = 2)
SETS(span, s->normaliser.kind = HEED_NORMALISER_ADAPTIVE_SPAN; s->in.span = NUMBERS_OF(1, H))
SETS(linear, s->normaliser.kind = HEED_NORMALISER_LINEAR)
SETS(cosine, s->score.kind = HEED_SCORE_COSINE)
SETS(distance, s->score.kind = HEED_SCORE_NEG_DISTANCE)
SETS(talking, s->in.talk_pre = NUMBERS_OF(0.1, H, H); s->in.talk_post = NUMBERS_OF(-0.5, H, H))
SETS(differential, s->in.q2 = NUMBERS_OF(-1, 2, H, T, D); s->in.k2 = NUMBERS_OF(-0.7, 2, H, T, D);
     s->in.lambda = NUMBERS_OF(0.2, H))
SETS(gate, s->in.gate = NUMBERS_OF(-1, 1, H, 1, D))
SETS(shaw, s->in.shaw_k = NUMBERS_OF(0, 3, D); s->in.shaw_v = NUMBERS_OF(0, 3, D))

static const variant variants[] = {
    { "plain", set_nothing, false },
    { "causal", set_causal, false },
    { "window", set_window, false },
    { "lengths", set_lengths, false },
    { "alibi", set_alibi, false },
    { "rope", set_rope, false },
    { "softcap", set_softcap, false },
    { "sink", set_sink, false },
    { "sparsemax", set_sparsemax, false },
    { "entmax15", set_entmax, false },
    { "sigmoid", set_sigmoid, false },
    { "topk", set_topk, false },
    { "span", set_span, false },
    { "linear", set_linear, false },
    { "cosine", set_cosine, false },
    { "distance", set_distance, false },
    { "talking", set_talking, false },
    { "differential", set_differential, false },
    { "gate", set_gate, true },
    { "shaw", set_shaw, true },
};

static heed_value of_variant(heed_builder *b, const heed_value *in, const void *config)
{
    const variant *v = config;
    const int64_t batch = heed_dim(b, in[0], 0);
    const heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ batch, H, T, D });
    heed_attention_spec spec = { .mask.causal = false };
    heed_attended a;

    v->set(b, &spec, batch);
    heed_scope_push(b, "attn");
    if (spec.normaliser.kind != HEED_NORMALISER_LINEAR)
        spec.probe.received = true;
    a = heed_attention(b, heed_mul_scalar(b, x, 1.5), x, x, &spec);
    heed_tap(b, "weights", a.weights);
    if (a.received.id)
        heed_tap(b, "received", a.received);
    heed_scope_pop(b);
    return heed_reshape(b, a.out, 2, (const int64_t[]){ batch, WIDTH });
}

/* The result is that of the edited weights, which are those that are reported and probed. */
static void assert_variant(heed_context *ctx, const variant *v, const heed_edit *edit, by_hand *hand)
{
    const heed_type type = HEED_TYPE(HEED_F32, 2, H, T, T);
    float plain_w[2 * CELLS], w[2 * CELLS], y[2 * WIDTH], before[2 * WIDTH], received[2 * H * T];
    double want[2 * CELLS], seen[2 * CELLS], out[2 * WIDTH];
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, ctx, of_variant, v, NULL, TOY_ERR));
    run(m, 2, WIDTH, before, "attn.weights", type, plain_w);
    for (int64_t i = 0; i < 2 * CELLS; i++)
        want[i] = !edit->head.on || i / (T * T) % H == edit->head.first ? hand((double)plain_w[i], i)
                                                                        : (double)plain_w[i];
    memcpy(seen, want, sizeof seen);
    for (int64_t i = 0; strcmp(v->name, "lengths") == 0 && i < CELLS; i++)
        seen[i] = i % T == 2 ? 0 : seen[i]; /* the value beyond the length is not read, whatever its weight */
    multiply(out, seen, 2);
    TOY_OK(heed_model_edit(m, edit, 1, TOY_ERR));
    run(m, 2, WIDTH, y, "attn.weights", type, w);
    assert_close(w, want, 2 * CELLS);
    if (!v->gated)
        assert_close(y, out, 2 * WIDTH);
    assert_memory_not_equal(y, before, sizeof y);
    if (strcmp(v->name, "linear") != 0) {
        run(m, 2, WIDTH, y, "attn.received", HEED_TYPE(HEED_F32, 2, H, T), received);
        for (int i = 0; i < 2 * H * T; i++) {
            double sum = 0;

            for (int row = 0; row < T; row++)
                sum += want[(i / T * T + row) * T + i % T];
            assert_true(fabs((double)received[i] - sum) < 2e-6);
        }
    }
    heed_model_free(m);
}

static void edits_reach_every_variant_of_the_operator(void **state)
{
    const scratch *s = *state;

    paint(record, CELLS);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        for (int k = 0; k < 2 * N_KINDS; k++) {
            heed_edit e = kinds[k / 2].edit;

            e.at = k % 2 ? "attn" : "attn.weights";
            e.tensor = (heed_tensor){ HEED_TYPE(HEED_F32, 1, H, T, T), record };
            if (k % 2)
                e.head = (heed_edit_range)HEED_EDIT_ONLY(1);
            assert_variant(s->ctx, &variants[i], &e, kinds[k / 2].hand);
        }
}

/* Two attentions to the same rows, the first causal; both are probed, the second is not edited. */
static heed_value twins(heed_builder *b, const heed_value *in, const void *config)
{
    const int64_t batch = heed_dim(b, in[0], 0);
    const heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ batch, H, T, D });
    heed_attended a, c;

    (void)config;
    heed_scope_push(b, "one");
    a = heed_attention(b, x, x, x, &(heed_attention_spec){ .mask.causal = true, .probe.received = true });
    heed_tap(b, "received", a.received);
    heed_scope_pop(b);
    heed_scope_push(b, "other");
    c = heed_attention(b, x, x, x, &(heed_attention_spec){ .probe.received = true });
    heed_tap(b, "received", c.received);
    heed_scope_pop(b);
    return heed_reshape(b, heed_add(b, a.out, c.out), 2, (const int64_t[]){ batch, WIDTH });
}

static void an_edit_leaves_the_probes_of_another_attention_to_the_same_rows(void **state)
{
    const scratch *s = *state;
    const heed_edit zero = { .at = "one", .kind = HEED_EDIT_ZERO };
    float y[2 * WIDTH], before[2 * H * T], after[2 * H * T];
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, s->ctx, twins, NULL, NULL, TOY_ERR));
    run(m, 2, WIDTH, y, "other.received", HEED_TYPE(HEED_F32, 2, H, T), before);
    TOY_OK(heed_model_edit(m, &zero, 1, TOY_ERR));
    run(m, 2, WIDTH, y, "other.received", HEED_TYPE(HEED_F32, 2, H, T), after);
    assert_memory_equal(before, after, sizeof before);
    run(m, 2, WIDTH, y, "one.received", HEED_TYPE(HEED_F32, 2, H, T), after);
    for (int i = 0; i < 2 * H * T; i++)
        assert_true(after[i] == 0);
    heed_model_free(m);
}

/* ---- refusals ---- */

static void assert_refused(heed_model *m, heed_edit e, heed_status code, const char *words)
{
    float x[WIDTH] = { 0 }, y[WIDTH];
    const heed_tensor in = { HEED_TYPE(HEED_F32, 1, WIDTH), x }, out = { HEED_TYPE(HEED_F32, 1, WIDTH), y };
    heed_error err = { 0 };

    TOY_OK(heed_model_edit(m, &e, 1, TOY_ERR));
    assert_int_equal(heed_model_run(m, &in, 1, &out, 1, &err), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static heed_value half_weights(heed_builder *b, const heed_value *in, const void *config)
{
    const heed_value x = heed_reshape(b, heed_cast(b, in[0], HEED_F16), 4, (const int64_t[]){ 1, H, T, D });

    (void)config;
    heed_scope_push(b, "half");
    const heed_value y = heed_attention(b, x, x, x, NULL).out;
    heed_scope_pop(b);
    return heed_cast(b, heed_reshape(b, y, 2, (const int64_t[]){ 1, WIDTH }), HEED_F32);
}

static void what_cannot_be_edited_is_refused_with_a_sentence(void **state)
{
    const scratch *s = *state;
    heed_model *m = open_model(s->ctx, attention), *p = open_model(s->ctx, plain),
               *h = open_model(s->ctx, half_weights);
    float numbers[WIDTH] = { 0 };
    const char *at = "layer.0.attn";

    assert_refused(
        m, (heed_edit){ .at = "layer.0.atn" }, HEED_ERR_USAGE,
        "no tap or attention \"layer.0.atn\" in this model: did you mean layer.0.attn? it has layer.0.attn, "
        "layer.0.attn.lse");
    assert_refused(m, (heed_edit){ .at = "layer.0.attn#2" }, HEED_ERR_USAGE, "did you mean layer.0.attn?");
    assert_refused(m, (heed_edit){ .at = NULL }, HEED_ERR_USAGE, "no tap or attention \"\"");
    assert_refused(m, (heed_edit){ .at = at, .head = HEED_EDIT_ONLY(2) }, HEED_ERR_USAGE,
                   "layer.0.attn has 2 heads: head=2-2 is not within 0-1");
    assert_refused(m, (heed_edit){ .at = at, .row = HEED_EDIT_RANGE(1, 3) }, HEED_ERR_USAGE,
                   "has 3 rows: row=1-3");
    assert_refused(m, (heed_edit){ .at = at, .key = HEED_EDIT_RANGE(2, 1) }, HEED_ERR_USAGE,
                   "has 3 keys: key=2-1");
    assert_refused(m, (heed_edit){ .at = at, .key = HEED_EDIT_ONLY(-1) }, HEED_ERR_USAGE, "key=-1--1");
    assert_refused(p, (heed_edit){ .at = "hidden.out", .head = HEED_EDIT_ONLY(0) }, HEED_ERR_USAGE,
                   "hidden.out has 2 sizes; heads, rows and keys are of values with four");
    assert_refused(p, (heed_edit){ .at = "square" }, HEED_ERR_SPEC, "nothing reads square");
    assert_refused(m, (heed_edit){ .at = "layer.0.attn.lse" }, HEED_ERR_SPEC,
                   "nothing reads layer.0.attn.lse");
    assert_refused(m, (heed_edit){ .at = at, .kind = HEED_EDIT_SCALE, .number = NAN }, HEED_ERR_NUMERIC,
                   "must be finite");
    assert_refused(m, (heed_edit){ .at = at, .kind = (heed_edit_kind)9 }, HEED_ERR_USAGE,
                   "no edit of kind 9");
    assert_refused(m, (heed_edit){ .at = at, .kind = HEED_EDIT_FACTOR }, HEED_ERR_USAGE,
                   "the name of its input");
    assert_refused(m, (heed_edit){ .at = at, .kind = HEED_EDIT_TAKE, .tensor.type.rank = 4 }, HEED_ERR_SHAPE,
                   "f32 [1,2,3,3]");
    assert_refused(m,
                   (heed_edit){ .at = at,
                                .kind = HEED_EDIT_TAKE,
                                .from = "other.npz",
                                .tensor = { HEED_TYPE(HEED_F32, 1, 2, 3, 2), numbers } },
                   HEED_ERR_SHAPE,
                   "is f32 [1,2,3,3]; f32 [1,2,3,2], which it is to take from other.npz, does not fit");
    assert_refused(m,
                   (heed_edit){ .at = at,
                                .kind = HEED_EDIT_TAKE,
                                .tensor = { HEED_TYPE(HEED_I32, 1, 1, 1, 1), numbers } },
                   HEED_ERR_DTYPE, "i32 [1,1,1,1]");
    assert_refused(h, (heed_edit){ .at = "half" }, HEED_ERR_DTYPE, "half is f16 [1,2,3,3]; only f32 and f64");
    heed_model_free(m);
    heed_model_free(p);
    heed_model_free(h);
}

static void an_edited_model_is_not_exported(void **state)
{
    scratch *s = *state;
    const heed_type x = HEED_TYPE(HEED_F32, 1, WIDTH);
    heed_model *m = open_model(s->ctx, attention);
    heed_error err = { 0 };

    TOY_OK(heed_model_edit(m, &(const heed_edit){ .at = "layer.0.attn" }, 1, TOY_ERR));
    assert_int_equal(heed_model_onnx(m, &x, 1, scratch_path(s, "m.onnx"), NULL, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "the model is edited (layer.0.attn:zero)"));
    assert_int_equal(scratch_entries(s->folder), 0);
    heed_model_free(m);
}

static void gradients_taken_before_an_edit_are_refused(void **state)
{
    const scratch *s = *state;
    const heed_edit e = { .at = "layer.0.attn" };
    heed_graph *g = NULL, *edited = NULL;
    heed_builder *b = NULL;
    heed_error err = { 0 };
    heed_value x, dx;

    TOY_OK(heed_builder_new(&b, s->ctx, TOY_ERR));
    x = heed_input(b, "x", HEED_TYPE(HEED_F32, 1, WIDTH));
    heed_grad(b, heed_sum(b, attention(b, &x, NULL), 0, HEED_DROP_AXES), &x, 1, &dx);
    heed_output(b, "dx", dx);
    TOY_OK(heed_builder_finish(&g, b, TOY_ERR));
    heed_builder_free(b);
    assert_int_equal(heed_graph_edit(&edited, g, &e, 1, &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "before they are taken"));
    assert_null(edited);
    heed_graph_free(g);
}

/* ---- text ---- */

static void an_edit_is_read_and_written_in_one_form(void **state)
{
    const scratch *s = *state;
    static const char *const same[] = {
        "encoder.1.attn:head=3:zero", "encoder.0.attn:head=1,row=0:scale=0.5",    "a:row=0-4,key=7:set=-2",
        "encoder.0.out:add=0.1",      "encoder.0.attn:take=C:\\records\\a=b.npz", "pool#2:key=1-2:take=x:y"
    };
    heed_edit e;
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char *words = NULL;

        TOY_OK(heed__edit_parse(&e, &a, same[i], TOY_ERR));
        TOY_OK(heed_edit_print(&words, s->ctx, &e, TOY_ERR));
        assert_string_equal(words, same[i]);
        heed_text_free(s->ctx, words);
    }
    TOY_OK(heed__edit_parse(&e, &a, "x:key=2-5,head=1:scale=1e-1", TOY_ERR));
    assert_string_equal(e.at, "x");
    assert_true(e.head.on && e.key.on && !e.row.on);
    assert_int_equal(e.key.first, 2);
    assert_int_equal(e.key.last, 5);
    assert_int_equal(e.kind, HEED_EDIT_SCALE);
    assert_true(fabs(e.number - 0.1) < 1e-15);
    heed__arena_release(&a);
}

static void a_text_that_is_no_edit_is_answered_by_what_is_wrong(void **state)
{
    const scratch *s = *state;
    static const char *const bad[][2] = {
        { "", "PATH:SELECTION:KIND" },
        { "a", "PATH:SELECTION:KIND" },
        { ":zero", "PATH:SELECTION:KIND" },
        { "a:", "\"\" is no edit" },
        { "a:head=3", "\"head\" is no edit" },
        { "a:zer", "did you mean zero?" },
        { "a:factor=x", "is no edit" },
        { "a:zero=1", "zero takes no value" },
        { "a:scale", "scale takes a number" },
        { "a:scale=", "scale takes a number" },
        { "a:scale=x", "\"x\" is no number" },
        { "a:scale=nan", "\"nan\" is no number" },
        { "a:take", "take takes the name of an NPZ file" },
        { "a:hed=3:zero", "\"hed\" chooses nothing" },
        { "a::zero", "\"\" chooses nothing" },
        { "a:head:zero", "\"head\" chooses nothing" },
        { "a:head=1,:zero", "\"\" chooses nothing" },
        { "a:head=1,head=2:zero", "head= stands twice" },
        { "a:head=:zero", "head= takes a number" },
        { "a:head=-1:zero", "head= takes a number" },
        { "a:head=2-1:zero", "the smaller first" },
        { "a:row=99999999999999999999:zero", "row= takes a number" },
    };
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        heed_error err = { 0 };
        heed_edit e;

        assert_int_equal(heed__edit_parse(&e, &a, bad[i][0], &err), HEED_ERR_USAGE);
        if (!strstr(err.text, bad[i][1]))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i][0], err.text, bad[i][1]);
    }
    heed__arena_release(&a);
}

/* ---- memory ---- */

static heed_status edit_scenario(heed_context *ctx, void *user, heed_error *err)
{
    float x[WIDTH] = { 0 }, y[WIDTH], taken[T * T] = { 0 };
    const heed_tensor in = { HEED_TYPE(HEED_F32, 1, WIDTH), x }, out = { HEED_TYPE(HEED_F32, 1, WIDTH), y };
    const heed_edit edits[] = { { .at = "layer.0.attn", .head = HEED_EDIT_ONLY(1) },
                                { .at = "layer.0.attn.weights",
                                  .kind = HEED_EDIT_TAKE,
                                  .key = HEED_EDIT_RANGE(0, 1),
                                  .tensor = { HEED_TYPE(HEED_F32, 1, 1, T, T), taken } } };
    heed_model *m = NULL;
    char *printed = NULL;
    heed_status st = heed_model_new(&m, ctx, attention, NULL, NULL, err);

    (void)user;
    if (st == HEED_OK)
        st = heed_model_edit(m, edits, 2, err);
    if (st == HEED_OK)
        st = heed_model_run(m, &in, 1, &out, 1, err);
    for (int i = 0; i < 2 && st == HEED_OK; i++) {
        st = heed_edit_print(&printed, ctx, &edits[i], err);
        if (st == HEED_OK)
            heed_text_free(ctx, printed);
    }
    heed_model_free(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "edit", .run = edit_scenario };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls > 50);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FACT(an_edit_of_weights_is_what_it_is_by_hand_on_every_level),
        FACT(whatever_reads_a_tap_reads_the_edited_value),
        FACT(edits_of_one_value_are_applied_in_their_order),
        FACT(without_edits_every_byte_is_the_same),
        FACT(without_heads_only_the_bias_of_the_projection_is_left),
        FACT(attentions_without_a_tap_are_known_by_their_scope),
        FACT(a_record_of_one_sample_serves_a_batch),
        FACT(a_factor_is_read_from_an_input_at_each_run),
        FACT(edits_reach_every_variant_of_the_operator),
        FACT(an_edit_leaves_the_probes_of_another_attention_to_the_same_rows),
        FACT(what_cannot_be_edited_is_refused_with_a_sentence),
        FACT(an_edited_model_is_not_exported),
        FACT(gradients_taken_before_an_edit_are_refused),
        FACT(an_edit_is_read_and_written_in_one_form),
        FACT(a_text_that_is_no_edit_is_answered_by_what_is_wrong),
        FACT(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
