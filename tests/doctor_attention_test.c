/* The doctor's rules of attention: for each, a toy model that is broken in its way and a clean twin; the rule names the
 * broken one, alone, and nothing is found of the twin. Prints a table of what was measured. */
#include "support/cmocka.h"
#include "base/rng.h"
#include "explain/doctor.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include "support/trial.h"

#include <heed/attention.h>
#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCES 40
#define STEPS 9
#define WIDTH 8
#define HEADS 2
#define CLASSES 3

/* ---- models ---- */

typedef enum network { POOLED, WHOLE, BY_TIME } network;

/* What is done to a toy: x [B,T,E] and lengths [B] through one attention layer. */
typedef struct toy {
    heed_attention_spec spec;
    network result;     /* pooled over the sequence's own tokens; over padding too; a row a token */
    float q_by, k_by;   /* factors of q and k; 0: 1 */
    bool no_lengths;    /* attention is not told of them */
    bool masked;        /* a mask of true where a token counts is given in their place */
    bool turned_round;  /* ... and negated */
    bool after_softmax; /* weights of padding are set to zero behind the softmax: v is */
    bool mean_first;    /* the mean over time is added to x: no attention, but it looks ahead */
    bool past_by_hand;  /* a mask that is made of positions keeps j <= i */
    bool by_hand;       /* softmax(d) of distances d, written out */
    bool negated;       /* ... softmax(-d) */
    bool log_of_zero;   /* of negative tokens: -inf */
} toy;

static heed_value split(heed_builder *b, heed_value x)
{
    x = heed_reshape(b, x, 4, (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), HEADS, WIDTH / HEADS });
    return heed_transpose(b, x, 1, 2);
}

static heed_value joined(heed_builder *b, heed_value x)
{
    x = heed_transpose(b, x, 1, 2);
    return heed_reshape(b, x, 3, (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), WIDTH });
}

/* bool [B,1,1,T] or, rows, [B,T,1]. */
static heed_value inside(heed_builder *b, heed_value lengths, int rank, int axis)
{
    int64_t at[4] = { 1, 1, 1, 1 }, by[4] = { heed_dim(b, lengths, 0), 1, 1, 1 };

    at[axis] = STEPS;
    return heed_lt(b, heed_iota(b, heed_type_of(HEED_I64, rank, at), axis),
                   heed_reshape(b, lengths, rank, by));
}

static heed_value distances(heed_builder *b, heed_value q, heed_value k)
{
    heed_value d = heed_sub(b, heed_unsqueeze(b, q, 3), heed_unsqueeze(b, k, 2));

    d = heed_sum(b, heed_mul(b, d, d), 1u << 4, HEED_DROP_AXES);
    return heed_sqrt(b, heed_add_scalar(b, d, 1e-12));
}

static heed_value layer(heed_builder *b, const toy *t, heed_value x, heed_value lengths)
{
    heed_attention_spec spec = t->spec;
    heed_value q, k, v, y;

    heed_scope_push(b, "layer");
    q = split(b, heed_linear(b, "q", x, WIDTH, NULL));
    k = split(b, heed_linear(b, "k", x, WIDTH, NULL));
    v = split(b, heed_linear(b, "v", x, WIDTH, NULL));
    if (t->q_by != 0)
        q = heed_mul_scalar(b, q, (double)t->q_by);
    if (t->k_by != 0)
        k = heed_div(b, k, heed_sqrt(b, heed_scalar(b, HEED_F32, 1 / (double)(t->k_by * t->k_by))));
    if (t->spec.score.kind == HEED_SCORE_GENERAL)
        spec.in.score_w = heed_param(b, "score_w", HEED_TYPE(HEED_F32, HEADS, WIDTH / HEADS, WIDTH / HEADS),
                                     &(heed_init){ .kind = HEED_INIT_NORMAL, .b = 1 });
    if (t->masked) {
        spec.in.mask = inside(b, lengths, 4, 3);
        if (t->turned_round)
            spec.in.mask = heed_not(b, spec.in.mask);
    } else if (t->past_by_hand) {
        spec.in.mask = heed_le(b, heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, 1, STEPS), 3),
                               heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, STEPS, 1), 2));
    } else if (!t->no_lengths && !t->by_hand && !t->after_softmax) {
        spec.in.lengths = lengths;
    }
    if (t->after_softmax)
        v = heed_select(b, inside(b, lengths, 4, 2), v, heed_scalar(b, HEED_F32, 0));
    if (t->by_hand) {
        heed_value s = distances(b, q, k);

        s = t->negated ? heed_neg(b, s) : heed_mul_scalar(b, s, 0.5);
        s = heed_select(b, inside(b, lengths, 4, 3), s, heed_scalar(b, HEED_F32, -INFINITY));
        y = heed_matmul(b, heed_softmax(b, s, 3), v);
    } else {
        y = heed_attention(b, q, k, v, &spec).out;
    }
    y = heed_linear(b, "out", joined(b, y), WIDTH, NULL);
    heed_scope_pop(b);
    return y;
}

/* in: x f32 [B,T,E], or ids i64 [B,T]; lengths [B]. */
static heed_value build(heed_builder *b, const heed_value *in, const void *config)
{
    const toy *t = config;
    heed_value x = in[0], lengths = in[1], keep;

    if (heed_rank(b, x) == 2)
        x = heed_embedding(b, "embed", x, 11, WIDTH, NULL);
    if (t->log_of_zero) {
        heed_scope_push(b, "logs");
        x = heed_log(b, heed_relu(b, x));
        heed_scope_pop(b);
    }
    if (t->mean_first) {
        heed_scope_push(b, "context");
        x = heed_add(b, x, heed_mean(b, x, 1u << 1, HEED_KEEP_AXES));
        heed_scope_pop(b);
    }
    x = layer(b, t, x, lengths);
    if (t->result == BY_TIME)
        return heed_linear(b, "head", x, CLASSES, NULL);
    if (t->result == POOLED) {
        keep = inside(b, lengths, 3, 1);
        x = heed_select(b, keep, x, heed_scalar(b, HEED_F32, 0));
    }
    return heed_linear(b, "head", heed_sum(b, x, 1u << 1, HEED_DROP_AXES), CLASSES, NULL);
}

/* ---- a case ---- */

typedef struct stage {
    heed_context *ctx;
    heed_tensor in[2];
    heed_model *model;
    heed_doctor_sequences sequences;
    heed_doctor_case c;
} stage;

static int setup(void **state)
{
    *state = toy_context(2, HEED_ISA_AUTO);
    return 0;
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

/* Tokens of unit variance everywhere, padding too; lengths 1 .. T. */
static void fill(heed_tensor in[2])
{
    const rng r = heed__rng(3, 0, "toy");
    float *x = trial_memory(SEQUENCES * STEPS * WIDTH, sizeof *x);
    int64_t *lengths = trial_memory(SEQUENCES, sizeof *lengths);

    for (uint32_t i = 0; i < SEQUENCES * STEPS * WIDTH; i++)
        x[i] = heed__normal(heed__rng_word(&r, 0, 2 * i), heed__rng_word(&r, 0, 2 * i + 1));
    for (uint32_t i = 0; i < SEQUENCES; i++)
        lengths[i] = 1 + heed__rng_word(&r, 1, i) % STEPS;
    in[0] = (heed_tensor){ HEED_TYPE(HEED_F32, SEQUENCES, STEPS, WIDTH), x };
    in[1] = (heed_tensor){ HEED_TYPE(HEED_I64, SEQUENCES), lengths };
}

static stage open_stage(heed_context *ctx, const toy *t)
{
    stage s = { .ctx = ctx };
    heed_type types[2];

    fill(s.in);
    types[0] = s.in[0].type;
    types[1] = s.in[1].type;
    TOY_OK(heed_model_new(&s.model, ctx, build, t, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    TOY_OK(heed_model_init(s.model, types, 2, TOY_ERR));
    s.sequences = (heed_doctor_sequences){ .n_inputs = 2, .lengths = HEED_SET(1) };
    if (t->result == BY_TIME)
        s.sequences.result_time = (heed_maybe_i64)HEED_SET(1);
    s.c.model = s.model;
    return s;
}

static void close_stage(stage *s)
{
    heed_model_free(s->model);
    free(s->in[0].data);
    free(s->in[1].data);
}

static float *weights_of(const stage *s, const char *name)
{
    const heed_tensor x = heed_weights_find(heed_model_weights(s->model), name);

    assert_non_null(x.data);
    return x.data;
}

static void show(const heed_diagnosis *d, const char *what)
{
    for (int64_t i = 0; i < d->n; i++)
        print_message("  %-34s %-18s %-16.16s %10.4g  bound %g\n", what, d->findings[i].rule->name,
                      d->findings[i].place, d->findings[i].measured, d->findings[i].rule->threshold);
    if (d->n == 0)
        print_message("  %-34s nothing\n", what);
}

/* Examines, and expects findings of this rule alone (NULL: none at all); the first is copied to *first. */
static void expect(stage *s, const char *what, const char *rule, heed_finding *first)
{
    heed_diagnosis *d = NULL;

    s->sequences.inputs = s->in;
    s->c.sequences = &s->sequences;
    TOY_OK(heed_doctor(&d, s->ctx, &s->c, NULL, TOY_ERR));
    show(d, what);
    for (int64_t i = 0; i < d->n; i++) {
        if (!rule)
            fail_msg("%s", d->findings[i].text);
        assert_string_equal(d->findings[i].rule->name, rule);
        assert_true(d->findings[i].place[0] && d->findings[i].text[0]);
        assert_true(d->looked >> (d->findings[i].rule - heed_doctor_rules()) & 1);
    }
    assert_int_equal(d->n > 0, rule != NULL);
    if (first && d->n > 0)
        *first = d->findings[0];
    heed_diagnosis_free(s->ctx, d);
}

static void expect_toy(void **state, const toy *t, const char *what, const char *rule, heed_finding *first)
{
    stage s = open_stage(*state, t);

    expect(&s, what, rule, first);
    close_stage(&s);
}

/* ---- scales ---- */

#define SCALE(x) .spec.score.scale = HEED_SET(x)
#define KIND(x) .spec.score.kind = x

static void a_scale_by_width_and_keys_is_named_as_such(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ SCALE(1.0f / 6) }, "scale 1/sqrt(d T), d 4, T 9", "attention-scale", &f);
    assert_string_equal(f.place, "layer");
    assert_non_null(strstr(f.text, "1/sqrt(d T) with T = 9"));
    expect_toy(state, &(toy){ KIND(HEED_SCORE_DOT) }, "dot, not scaled", "attention-scale", &f);
    assert_true(fabs(f.measured - 2) < 1e-6);
    expect_toy(state, &(toy){ .spec.score = { 0 } }, "scaled dot", NULL, NULL);
    expect_toy(state, &(toy){ KIND(HEED_SCORE_COSINE), SCALE(4) }, "cosine, tau 4", NULL, NULL);
    expect_toy(state, &(toy){ KIND(HEED_SCORE_GENERAL) }, "general", NULL, NULL);
    expect_toy(state, &(toy){ KIND(HEED_SCORE_NEG_SQ_DISTANCE) }, "negated squared distance", NULL, NULL);
}

static void a_scale_that_acts_twice_is_named_wherever_the_other_one_is(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ .q_by = 0.5f }, "q / sqrt(d), scaled", "scale-twice", &f);
    assert_string_equal(f.place, "layer");
    expect_toy(state, &(toy){ .k_by = 0.5f }, "k / sqrt(d), scaled", "scale-twice", NULL);
    expect_toy(state, &(toy){ .q_by = 0.70710678f, .k_by = 0.70710678f }, "q, k / d^(1/4), scaled",
               "scale-twice", NULL);
    expect_toy(state, &(toy){ .spec.normaliser.temperature = HEED_SET(2) }, "temperature sqrt(d), scaled",
               "scale-twice", NULL);
    expect_toy(state, &(toy){ .q_by = 0.5f, .spec.position.rope.on = true }, "q / sqrt(d), rope, scaled",
               "scale-twice", NULL);
    expect_toy(state, &(toy){ .q_by = 0.5f, KIND(HEED_SCORE_DOT) }, "q / sqrt(d), dot", NULL, NULL);
    expect_toy(state, &(toy){ .q_by = 0.70710678f, .k_by = 0.70710678f, KIND(HEED_SCORE_DOT) },
               "q, k / d^(1/4), dot", NULL, NULL);
}

/* ---- distances ---- */

static void a_distance_that_is_not_negated_is_named(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ KIND(HEED_SCORE_NEG_DISTANCE), SCALE(-1) }, "neg_distance times -1",
               "distance-sign", &f);
    assert_true(f.measured == 1);
    expect_toy(state, &(toy){ KIND(HEED_SCORE_NEG_SQ_DISTANCE), SCALE(-0.25f) }, "neg_sq_distance times -1/4",
               "distance-sign", NULL);
    expect_toy(state, &(toy){ .by_hand = true, .result = POOLED }, "softmax(d / 2) by hand", "distance-sign",
               &f);
    assert_true(f.measured == 0.5);
    assert_string_equal(f.place, "layer");
    expect_toy(state, &(toy){ .by_hand = true, .negated = true, .result = POOLED }, "softmax(-d) by hand",
               NULL, NULL);
    expect_toy(state, &(toy){ KIND(HEED_SCORE_NEG_DISTANCE) }, "neg_distance", NULL, NULL);
}

/* The numbers that the rule quotes. */
static void build_weights(heed_builder *b, void *user)
{
    heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F32, 1, 1, 1, 1)),
               k = heed_input(b, "k", HEED_TYPE(HEED_F32, 1, 1, 3, 1));
    heed_attention_spec s = { .score = { HEED_SCORE_NEG_DISTANCE, HEED_SET(*(float *)user) } };

    heed_output(b, "w", heed_attention(b, q, k, k, &s).weights);
}

static void of_distances_0_1_5_the_farthest_gets_0_976_unless_they_are_negated(void **state)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        float scale = (float)sign;
        heed_error err = { 0 };
        double w[3];
        trial t;

        toy_ok(trial_open(&t, *state, build_weights, &scale, NULL, &err), &err);
        trial_set(&t, 0, (const double[]){ 2 });
        trial_set(&t, 1, (const double[]){ 2, 3, 7 });
        toy_ok(trial_run(&t, &err), &err);
        trial_get(&t, 0, w);
        assert_true(fabs((sign < 0 ? w[2] : w[0]) - (sign < 0 ? 0.97556 : 0.72747)) < 1e-4);
        trial_close(&t);
    }
}

/* ---- rows ---- */

/* Rows h * 4 .. of the projection of q, times `by`: another scale for that head that no graph shows. */
static void stretch(const stage *s, const char *name, int head, float by)
{
    float *w = weights_of(s, name);

    for (int i = head * WIDTH / HEADS * WIDTH; i < (head + 1) * WIDTH / HEADS * WIDTH; i++)
        w[i] *= by;
}

static void stretch_bias(const stage *s, const char *name, float by)
{
    float *w = weights_of(s, name);

    for (int i = 0; i < WIDTH; i++)
        w[i] *= by;
}

static void a_head_of_uniform_rows_is_named(void **state)
{
    const toy plain = { .spec.score = { 0 } };
    stage s = open_stage(*state, &plain);
    heed_finding f;

    stretch(&s, "layer.q.weight", 1, 0.2f);
    stretch_bias(&s, "layer.q.bias", 0.2f);
    expect(&s, "q of head 1 times 0.2", "rows-uniform", &f);
    assert_string_equal(f.place, "layer head 1");
    close_stage(&s);
    expect_toy(state, &plain, "q as it is", NULL, NULL);
}

static void a_head_whose_rows_fall_on_one_key_is_named(void **state)
{
    const toy plain = { .spec.score = { 0 } }, causal = { .spec.mask.causal = true };
    stage s = open_stage(*state, &plain);
    heed_finding f;

    stretch(&s, "layer.q.weight", 0, 3000);
    expect(&s, "q of head 0 times 3000", "entropy-collapse", &f);
    assert_string_equal(f.place, "layer head 0");
    close_stage(&s);
    expect_toy(state, &causal, "causal: the first row has one key", NULL, NULL);
    s = open_stage(*state, &causal);
    stretch(&s, "layer.q.weight", 0, 3000);
    expect(&s, "causal, q of head 0 times 3000", "entropy-collapse", NULL);
    close_stage(&s);
}

static void a_head_of_saturated_scores_is_named(void **state)
{
    const toy plain = { .spec.score = { 0 } }, low = { .spec.softcap = 0.05f }, high = { .spec.softcap = 30 };
    stage s = open_stage(*state, &plain);
    heed_finding f;

    stretch(&s, "layer.q.weight", 1, 200);
    expect(&s, "q of head 1 times 200", "saturated-scores", &f);
    assert_string_equal(f.place, "layer head 1");
    close_stage(&s);
    s = open_stage(*state, &low);
    stretch(&s, "layer.q.weight", 0, 20);
    stretch(&s, "layer.q.weight", 1, 20);
    expect(&s, "softcap 0.05, q times 20", "saturated-scores", NULL);
    close_stage(&s);
    expect_toy(state, &high, "softcap 30", NULL, NULL);
}

static void normalisers_that_mean_to_choose_few_keys_are_not_judged_by_entropy(void **state)
{
    expect_toy(state, &(toy){ .spec.normaliser.kind = HEED_NORMALISER_HARD }, "hard", NULL, NULL);
    expect_toy(state, &(toy){ .spec.normaliser = { .kind = HEED_NORMALISER_TOPK, .k = 1 } }, "top 1", NULL,
               NULL);
    expect_toy(state, &(toy){ .spec.normaliser.kind = HEED_NORMALISER_SPARSEMAX }, "sparsemax", NULL, NULL);
    expect_toy(state, &(toy){ .spec.normaliser.kind = HEED_NORMALISER_SIGMOID }, "sigmoid", NULL, NULL);
}

/* ---- masks ---- */

static void padding_that_attention_weighs_is_named_with_its_layer(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ .no_lengths = true, .result = POOLED }, "no lengths", "padding-seen", &f);
    assert_string_equal(f.place, "layer");
    expect_toy(state, &(toy){ .after_softmax = true, .result = POOLED }, "padding masked after softmax",
               "padding-seen", &f);
    assert_string_equal(f.place, "layer");
    expect_toy(state, &(toy){ .masked = true, .result = BY_TIME }, "a mask of lengths", NULL, NULL);
    expect_toy(state, &(toy){ .result = POOLED }, "lengths", NULL, NULL);
}

static void padding_that_comes_in_beside_attention_is_named_where_it_does(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ .result = WHOLE }, "pooled over padding too", "padding-seen", &f);
    assert_string_equal(f.place, "after layer.out");
    assert_non_null(strstr(f.text, "first in sum"));
    expect_toy(state, &(toy){ .mean_first = true, .result = BY_TIME }, "mean over padding too",
               "padding-seen", &f);
    assert_string_equal(f.place, "context");
    assert_non_null(strstr(f.text, "first in add"));
}

static void a_mask_that_is_turned_round_is_named(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ .masked = true, .turned_round = true, .result = BY_TIME }, "the mask negated",
               "mask-polarity", &f);
    assert_string_equal(f.place, "layer");
    assert_true(f.measured > 0.999);
}

/* A sum over what should not count, and nothing of attention in it. */
static heed_value sum_of_padding(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value keep = inside(b, in[1], 3, 1), x;

    if (!*(const bool *)config)
        keep = heed_not(b, keep);
    x = heed_select(b, keep, in[0], heed_scalar(b, HEED_F32, 0));
    return heed_linear(b, "head", heed_sum(b, x, 1u << 1, HEED_DROP_AXES), CLASSES, NULL);
}

static void a_mask_by_hand_that_is_turned_round_is_named(void **state)
{
    for (int right = 0; right < 2; right++) {
        const bool keeps = right == 1;
        const toy plain = { .spec.score = { 0 } };
        stage s = open_stage(*state, &plain);

        heed_model_free(s.model);
        TOY_OK(heed_model_new(&s.model, s.ctx, sum_of_padding, &keeps, NULL, TOY_ERR));
        s.c.model = s.model;
        expect(&s, keeps ? "a sum over tokens" : "a sum over padding alone", keeps ? NULL : "mask-polarity",
               NULL);
        close_stage(&s);
    }
}

/* Queries are tokens, keys another sequence of as many, all of which count. */
static heed_value across(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value q, k, keep = inside(b, in[1], 3, 1);

    (void)config;
    q = split(b, heed_linear(b, "q", in[0], WIDTH, NULL));
    k = split(b, heed_linear(b, "k", in[2], WIDTH, NULL));
    q = joined(b, heed_attention(b, q, k, k, NULL).out);
    q = heed_select(b, keep, q, heed_scalar(b, HEED_F32, 0));
    return heed_linear(b, "head", heed_sum(b, q, 1u << 1, HEED_DROP_AXES), CLASSES, NULL);
}

static void keys_of_another_sequence_are_not_judged_by_these_lengths(void **state)
{
    const toy plain = { .result = POOLED };
    stage s = open_stage(*state, &plain);
    heed_tensor in[3] = { s.in[0], s.in[1], s.in[0] };
    heed_diagnosis *d = NULL;

    heed_model_free(s.model);
    TOY_OK(heed_model_new(&s.model, s.ctx, across, NULL, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    s.sequences.inputs = in;
    s.sequences.n_inputs = 3;
    s.c = (heed_doctor_case){ .model = s.model, .sequences = &s.sequences };
    TOY_OK(heed_doctor(&d, s.ctx, &s.c, NULL, TOY_ERR));
    show(d, "keys of another sequence");
    assert_int_equal(d->n, 0);
    heed_diagnosis_free(s.ctx, d);
    close_stage(&s);
}

/* ---- time ---- */

static void expect_causal(void **state, const toy *t, const char *what, const char *rule, heed_finding *first)
{
    stage s = open_stage(*state, t);

    s.sequences.direction = HEED_DIRECTION_CAUSAL;
    expect(&s, what, rule, first);
    close_stage(&s);
}

static void a_future_that_is_seen_is_named_with_its_layer(void **state)
{
    heed_finding f;

    expect_causal(state, &(toy){ .result = BY_TIME }, "said causal, no mask", "future-seen", &f);
    assert_string_equal(f.place, "layer");
    assert_non_null(strstr(f.text, "first in attention"));
    expect_causal(state, &(toy){ .result = BY_TIME, .spec.mask.window = { true, -1, 1 } },
                  "said causal, one key ahead", "future-seen", NULL);
    expect_causal(state, &(toy){ .result = BY_TIME, .spec = { .mask.causal = true, .offset = HEED_SET(1) } },
                  "said causal, offset 1", "future-seen", NULL);
    expect_causal(state, &(toy){ .result = BY_TIME, .spec.mask.causal = true }, "said causal, causal", NULL,
                  NULL);
    expect_causal(state, &(toy){ .result = BY_TIME, .spec.mask.window = { true, 3, 0 } },
                  "said causal, window of 4", NULL, NULL);
}

static void a_causal_mask_in_an_encoder_is_named(void **state)
{
    for (int causal = 0; causal < 2; causal++) {
        const toy t = { .result = POOLED, .spec.mask.causal = causal == 1 };
        stage s = open_stage(*state, &t);

        s.sequences.direction = HEED_DIRECTION_BOTH_SIDES;
        expect(&s, causal ? "said both sides, causal" : "said both sides, no mask",
               causal ? "causal-encoder" : NULL, NULL);
        close_stage(&s);
    }
}

static void a_causal_mask_made_by_hand_in_an_encoder_is_named_by_what_it_does(void **state)
{
    for (int ahead = 0; ahead < 2; ahead++) {
        const toy t = { .result = BY_TIME, .spec.mask.window = { true, 2, ahead } };
        stage s = open_stage(*state, &t);

        s.sequences.direction = HEED_DIRECTION_BOTH_SIDES;
        expect(&s, ahead ? "said both sides, window of 2 and 1" : "said both sides, window of 2 and 0",
               ahead ? NULL : "causal-encoder", NULL);
        close_stage(&s);
    }
    for (int both = 0; both < 2; both++) {
        const toy t = { .result = BY_TIME, .past_by_hand = !both };
        stage s = open_stage(*state, &t);

        for (int64_t i = 0; i < SEQUENCES; i++) /* that mask knows no lengths */
            ((int64_t *)s.in[1].data)[i] = STEPS;

        s.sequences.direction = HEED_DIRECTION_BOTH_SIDES;
        expect(&s, both ? "said both sides, all keys" : "said both sides, causal by hand",
               both ? NULL : "causal-encoder", NULL);
        close_stage(&s);
    }
}

/* Ids in place of numbers, time at another axis of the result, no lengths. */
static heed_value by_ids(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = heed_embedding(b, "embed", in[0], 11, WIDTH, NULL);

    x = heed_encoder_layer(
        b, "block", x, HEADS,
        &(heed_encoder_layer_opts){ .feedforward = 16, .spec.mask.causal = *(const bool *)config });
    return heed_transpose(b, heed_linear(b, "head", x, 11, NULL), 1,
                          2); /* [B,C,T], as cross-entropy takes it */
}

static void tokens_may_be_ids_and_the_loss_may_be_looked_at(void **state)
{
    for (int right = 0; right < 2; right++) {
        const bool causal = right == 1;
        int64_t ids[SEQUENCES * STEPS], next[SEQUENCES * STEPS];
        const heed_tensor in = { HEED_TYPE(HEED_I64, SEQUENCES, STEPS), ids };
        stage s = { .ctx = *state };
        heed_finding f;

        for (int i = 0; i < SEQUENCES * STEPS; i++)
            ids[i] = (i * i + i / 7) % 11;
        for (int i = 0; i < SEQUENCES * STEPS; i++)
            next[i] = ids[(i + 1) % (SEQUENCES * STEPS)];
        TOY_OK(heed_model_new(&s.model, s.ctx, by_ids, &causal, NULL, TOY_ERR));
        s.c.model = s.model;
        s.in[0] = in;
        s.sequences = (heed_doctor_sequences){ .n_inputs = 1,
                                               .result_time = HEED_SET(2),
                                               .direction = HEED_DIRECTION_CAUSAL,
                                               .target = { HEED_TYPE(HEED_I64, SEQUENCES, STEPS), next } };
        expect(&s, causal ? "ids, causal" : "ids, no mask", causal ? NULL : "future-seen", &f);
        if (!causal)
            assert_string_equal(f.place, "block.self_attn");
        heed_model_free(s.model);
    }
}

/* ---- numbers that are none ---- */

static void the_first_node_of_a_result_that_is_not_finite_is_named(void **state)
{
    heed_finding f;

    expect_toy(state, &(toy){ .log_of_zero = true, .result = POOLED }, "log(relu(x))", "nan-origin", &f);
    assert_string_equal(f.place, "logs");
    assert_non_null(strstr(f.text, "log in \"logs\""));
}

/* Sequences without a token: rows that keep nothing, and log-sums of -inf. */
static void masked_scores_are_not_taken_for_lost_numbers(void **state)
{
    const toy t = { .result = POOLED }, hand = { .result = POOLED, .masked = true };
    stage s = open_stage(*state, &t);

    memset(s.in[1].data, 0, SEQUENCES / 2 * sizeof(int64_t));
    expect(&s, "half of the sequences empty", NULL, NULL);
    close_stage(&s);
    s = open_stage(*state, &hand);
    memset(s.in[1].data, 0, SEQUENCES / 2 * sizeof(int64_t));
    expect(&s, "half empty, by a mask", NULL, NULL);
    close_stage(&s);
}

static void padding_of_nan_that_is_not_read_is_no_finding(void **state)
{
    const toy t = { .result = POOLED };
    stage s = open_stage(*state, &t);
    float *x = s.in[0].data;

    for (int64_t b = 0; b < SEQUENCES; b++)
        for (int64_t i = ((int64_t *)s.in[1].data)[b] * WIDTH; i < STEPS * WIDTH; i++)
            x[b * STEPS * WIDTH + i] = 1e30f;
    expect(&s, "padding of 1e30", NULL, NULL);
    close_stage(&s);
}

/* ---- what is handed over ---- */

/* Counts its runs in a state. */
static heed_value counting(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value runs = heed_state(b, "runs", HEED_TYPE(HEED_F32, 1), NULL);

    heed_assign(b, runs, heed_add_scalar(b, runs, 1));
    return build(b, in, config);
}

static void states_stay_as_they_are(void **state)
{
    const toy t = { .result = POOLED };
    stage s = open_stage(*state, &t);

    heed_model_free(s.model);
    TOY_OK(heed_model_new(&s.model, s.ctx, counting, &t, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    TOY_OK(heed_model_init(s.model, (heed_type[]){ s.in[0].type, s.in[1].type }, 2, TOY_ERR));
    s.c.model = s.model;
    expect(&s, "a state that counts runs", NULL, NULL);
    assert_true(*weights_of(&s, "runs") == 0);
    close_stage(&s);
}

static void sequences_that_do_not_fit_are_refused_with_what_is_wrong(void **state)
{
    const toy t = { .result = POOLED };
    stage s = open_stage(*state, &t);
    const heed_doctor_sequences good = { .inputs = s.in, .n_inputs = 2, .lengths = HEED_SET(1) };
    const struct {
        heed_doctor_sequences s;
        heed_status code;
        const char *text;
    } bad[] = {
        { { .inputs = s.in, .n_inputs = 9 }, HEED_ERR_USAGE, "1 to 8 inputs" },
        { { .inputs = s.in, .n_inputs = 2, .tokens = 2 }, HEED_ERR_USAGE, "input 2 of 2" },
        { { .inputs = s.in, .n_inputs = 2, .time = 3 }, HEED_ERR_SHAPE, "axis 3 of tokens of rank 3" },
        { { .inputs = s.in, .n_inputs = 2, .lengths = HEED_SET(2) }, HEED_ERR_USAGE, "lengths is input 2" },
        { { .inputs = s.in, .n_inputs = 2, .lengths = HEED_SET(0) }, HEED_ERR_DTYPE, "must be i64 [n]" },
        { { .inputs = s.in, .n_inputs = 2, .direction = HEED_DIRECTION_CAUSAL },
          HEED_ERR_USAGE,
          "result_time" },
        { { .inputs = s.in, .n_inputs = 2, .lengths = HEED_SET(1), .result_time = HEED_SET(1) },
          HEED_ERR_SHAPE,
          "no such axis of size 9" },
    };
    heed_diagnosis *d = NULL;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        heed_error err = { 0 };

        s.c.sequences = &bad[i].s;
        assert_int_equal(heed_doctor(&d, s.ctx, &s.c, NULL, &err), bad[i].code);
        if (!strstr(err.text, bad[i].text))
            fail_msg("%s", err.text);
    }
    s.c.sequences = &good;
    s.c.model = NULL;
    {
        heed_error err = { 0 };

        assert_int_equal(heed_doctor(&d, s.ctx, &s.c, NULL, &err), HEED_ERR_USAGE);
        assert_non_null(strstr(err.text, "in place of samples"));
    }
    s.c.model = s.model;
    ((int64_t *)s.in[1].data)[5] = STEPS + 1;
    {
        heed_error err = { 0 };

        assert_int_equal(heed_doctor(&d, s.ctx, &s.c, NULL, &err), HEED_ERR_LIMIT);
        assert_non_null(strstr(err.text, "sequence 5 has length 10"));
    }
    close_stage(&s);
}

static heed_status examine(heed_context *ctx, void *user, heed_error *err)
{
    const toy t = { .result = BY_TIME, .no_lengths = true };
    const heed_doctor_sequences sequences = { .inputs = user,
                                              .n_inputs = 2,
                                              .lengths = HEED_SET(1),
                                              .result_time = HEED_SET(1),
                                              .direction = HEED_DIRECTION_CAUSAL };
    heed_diagnosis *d = NULL;
    heed_model *m = NULL;
    heed_status st = heed_model_new(&m, ctx, build, &t, NULL, err);

    if (st == HEED_OK)
        st = heed_doctor(&d, ctx, &(heed_doctor_case){ .model = m, .sequences = &sequences },
                         &(heed_doctor_opts){ .samples = 8 }, err);
    if (st == HEED_OK && d->n != 2)
        st = HEED_ERR_BUG;
    heed_diagnosis_free(ctx, d);
    heed_model_free(m);
    return st;
}

static void every_failing_call_ends_in_an_error_and_leaks_nothing(void **state)
{
    heed_fail_report report;
    heed_tensor in[2];

    (void)state;
    fill(in);
    assert_true(
        heed_fail_each(&(heed_scenario){ .name = "doctor of sequences", .run = examine }, in, &report));
    free(in[0].data);
    free(in[1].data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_scale_by_width_and_keys_is_named_as_such),
        TEST(a_scale_that_acts_twice_is_named_wherever_the_other_one_is),
        TEST(a_distance_that_is_not_negated_is_named),
        TEST(of_distances_0_1_5_the_farthest_gets_0_976_unless_they_are_negated),
        TEST(a_head_of_uniform_rows_is_named),
        TEST(a_head_whose_rows_fall_on_one_key_is_named),
        TEST(a_head_of_saturated_scores_is_named),
        TEST(normalisers_that_mean_to_choose_few_keys_are_not_judged_by_entropy),
        TEST(padding_that_attention_weighs_is_named_with_its_layer),
        TEST(padding_that_comes_in_beside_attention_is_named_where_it_does),
        TEST(a_mask_that_is_turned_round_is_named),
        TEST(a_mask_by_hand_that_is_turned_round_is_named),
        TEST(keys_of_another_sequence_are_not_judged_by_these_lengths),
        TEST(a_future_that_is_seen_is_named_with_its_layer),
        TEST(a_causal_mask_in_an_encoder_is_named),
        TEST(a_causal_mask_made_by_hand_in_an_encoder_is_named_by_what_it_does),
        TEST(states_stay_as_they_are),
        TEST(tokens_may_be_ids_and_the_loss_may_be_looked_at),
        TEST(the_first_node_of_a_result_that_is_not_finite_is_named),
        TEST(masked_scores_are_not_taken_for_lost_numbers),
        TEST(padding_of_nan_that_is_not_read_is_no_finding),
        TEST(sequences_that_do_not_fit_are_refused_with_what_is_wrong),
        TEST(every_failing_call_ends_in_an_error_and_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
