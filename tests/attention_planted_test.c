/* Small tasks that show what each kind of attention is for. All data are planted: the place that must be attended to is known.
 * Each prints what it measured, beside chance or beside the variant that cannot do it; docs/attention.md quotes the table. */
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <heed/attention.h>
#include <heed/nn.h>
#include <heed/train.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- data ---- */

/* splitmix64: planted data need no more. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int64_t below(uint64_t *state, int64_t n)
{
    return (int64_t)(draw(state) >> 33) % n;
}

static float normal(uint64_t *state)
{
    const double u = (double)((draw(state) >> 11) + 1) * 0x1p-53, v = (double)(draw(state) >> 11) * 0x1p-53;

    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* A task: n sequences x [n,T,F], their labels, and the network. */
typedef struct task {
    int64_t steps, features, classes;
    void (*fill)(float *x, int64_t *y, uint64_t *state, const struct task *t); /* one sequence, x zeroed */
    heed_build_fn *build;
    int heads;
    bool causal;
    int64_t batch, updates;
    float lr;
} task;

static void batch_of(const task *t, int64_t n, uint64_t seed, heed_tensor *x, heed_tensor *y)
{
    const int64_t each = t->steps * t->features;

    *x = (heed_tensor){ HEED_TYPE(HEED_F32, n, t->steps, t->features), trial_memory((size_t)(n * each), sizeof(float)) };
    *y = (heed_tensor){ HEED_TYPE(HEED_I64, n), trial_memory((size_t)n, sizeof(int64_t)) };
    memset(x->data, 0, (size_t)(n * each) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        t->fill((float *)x->data + i * each, (int64_t *)y->data + i, &seed, t);
}

/* Trains on fresh batches and returns the share that is right of 512 sequences never seen. */
static double accuracy(const task *t, heed_context *ctx)
{
    const heed_trainer_opts opts = { .optimizer = HEED_ADAM, .lr = HEED_SET(t->lr) };
    enum { TEST = 512 };
    heed_model *m = NULL;
    heed_trainer *trainer = NULL;
    heed_tensor x, y, logits = { HEED_TYPE(HEED_F32, TEST, t->classes), NULL };
    int64_t right = 0;

    TOY_OK(heed_model_new(&m, ctx, t->build, t, NULL, TOY_ERR));
    TOY_OK(heed_trainer_new(&trainer, m, &opts, TOY_ERR));
    for (int64_t i = 0; i < t->updates; i++) {
        batch_of(t, t->batch, 1000 + (uint64_t)i, &x, &y);
        heed_trainer_set_lr(trainer, (float)((double)t->lr * (1 - 0.9 * (double)i / (double)t->updates)));
        TOY_OK(heed_trainer_step(trainer, &x, 1, &y, NULL, TOY_ERR));
        free(x.data);
        free(y.data);
    }
    batch_of(t, TEST, 7, &x, &y);
    logits.data = trial_memory((size_t)(TEST * t->classes), sizeof(float));
    TOY_OK(heed_model_run(m, &x, 1, &logits, 1, TOY_ERR));
    for (int64_t i = 0; i < TEST; i++) {
        const float *row = (const float *)logits.data + i * t->classes;
        int64_t best = 0;

        for (int64_t c = 1; c < t->classes; c++)
            best = row[c] > row[best] ? c : best;
        right += best == ((const int64_t *)y.data)[i];
    }
    free(x.data);
    free(y.data);
    free(logits.data);
    heed_trainer_free(trainer);
    heed_model_free(m);
    return (double)right / TEST;
}

/* [B,T,H D] to [B,H,T,D]. */
static heed_value heads_of(heed_builder *b, heed_value x, int heads)
{
    x = heed_reshape(b, x, 4,
                     (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), heads, heed_dim(b, x, 2) / heads });
    return heed_transpose(b, x, 1, 2);
}

static heed_value joined(heed_builder *b, heed_value x)
{
    x = heed_transpose(b, x, 1, 2);
    return heed_reshape(b, x, 3, (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), heed_dim(b, x, 2) * heed_dim(b, x, 3) });
}

/* The row of each sequence whose feature 0 is 1: [B,T,E] to [B,E]. */
static heed_value flagged(heed_builder *b, heed_value y, heed_value x)
{
    return heed_sum(b, heed_mul(b, y, heed_slice(b, x, 2, 0, 1, 1)), 1u << 1, HEED_DROP_AXES);
}

/* ---- two heads solve what one cannot ---- */

enum { VALUES = 4 };

/* One token is marked A, another B; the label says whether A's value is larger. */
static void fill_pair(float *x, int64_t *y, uint64_t *state, const task *t)
{
    const int64_t a = below(state, t->steps), b = (a + 1 + below(state, t->steps - 1)) % t->steps;

    for (int64_t i = 0; i < t->steps; i++)
        x[i * t->features + 2] = normal(state);
    x[a * t->features] = 1;
    x[b * t->features + 1] = 1;
    *y = x[a * t->features + 2] > x[b * t->features + 2];
}

/* Learned queries, one a head, and what they read added up linearly. Weights are positive, so a head can add two values and never
 * subtract one: the best it can do is to look at one of them, which is right three times in four. */
static heed_value build_pair(heed_builder *b, const heed_value *inputs, const void *config)
{
    const task *t = config;
    const int64_t batch = heed_dim(b, inputs[0], 0), width = 8;
    const heed_init init = { .kind = HEED_INIT_NORMAL, .b = 0.5f };
    heed_value q = heed_param(b, "query", HEED_TYPE(HEED_F32, t->heads, 1, width), &init);
    heed_value k = heads_of(b, heed_linear(b, "key", inputs[0], width * t->heads, NULL), t->heads);
    heed_value v = heads_of(b, heed_linear(b, "value", inputs[0], width * t->heads, NULL), t->heads);
    heed_value out;

    q = heed_broadcast(b, heed_unsqueeze(b, q, 0), 4, (int64_t[]){ batch, t->heads, 1, width });
    out = joined(b, heed_attention(b, q, k, v, NULL).out);
    return heed_linear(b, "head", heed_reshape(b, out, 2, (int64_t[]){ batch, width * t->heads }), t->classes, NULL);
}

static void two_heads_solve_what_one_cannot(void **state)
{
    const scratch *s = *state;
    task t = { .steps = 8, .features = 3, .classes = 2, .fill = fill_pair, .build = build_pair, .heads = 1, .batch = 64,
               .updates = 600, .lr = 0.03f };
    double one, two;

    one = accuracy(&t, s->ctx);
    t.heads = 2;
    two = accuracy(&t, s->ctx);
    print_message("  %-44s one head %.3f (at best 0.750)   two heads %.3f\n", "which of two marked values is larger", one, two);
    assert_true(one < 0.8);
    assert_true(two >= 0.95);
}

/* ---- seeing both sides ---- */

/* The second half mirrors the first; a token of the first half is blank, and is the label. */
static void fill_mirror(float *x, int64_t *y, uint64_t *state, const task *t)
{
    const int64_t blank = below(state, t->steps / 2);

    for (int64_t i = 0; i < t->steps / 2; i++) {
        const int64_t token = below(state, t->classes);

        if (i == blank)
            *y = token;
        else
            x[i * t->features + 1 + token] = 1;
        x[(t->steps - 1 - i) * t->features + 1 + token] = 1;
    }
    x[blank * t->features] = 1;
}

static heed_value build_mirror(heed_builder *b, const heed_value *inputs, const void *config)
{
    const task *t = config;
    const heed_init init = { .kind = HEED_INIT_NORMAL, .b = 0.5f };
    const heed_value place = heed_param(b, "place", HEED_TYPE(HEED_F32, t->steps, 32), &init);
    const heed_value h = heed_add(b, heed_linear(b, "embed", inputs[0], 32, NULL), place);
    const heed_mha_opts opts = { .spec.mask.causal = t->causal };

    return heed_linear(b, "head", flagged(b, heed_multihead_attention(b, "attn", h, 2, &opts, NULL), inputs[0]), t->classes,
                       NULL);
}

static void attention_to_both_sides_fills_a_blank_that_causal_attention_cannot(void **state)
{
    const scratch *s = *state;
    task t = { .steps = 12, .features = 7, .classes = 6, .fill = fill_mirror, .build = build_mirror, .causal = true,
               .batch = 64, .updates = 500, .lr = 0.01f };
    double causal, both;

    causal = accuracy(&t, s->ctx);
    t.causal = false;
    both = accuracy(&t, s->ctx);
    print_message("  %-44s causal %.3f (chance 0.167)   both sides %.3f\n", "blank whose answer stands behind it", causal, both);
    assert_true(causal < 0.3);
    assert_true(both >= 0.95);
}

/* ---- far away ---- */

enum { KEYS = 8 };

/* The flagged token names a key; 200 tokens on stands the only other token with that key, and its value is the label. */
static void fill_far(float *x, int64_t *y, uint64_t *state, const task *t)
{
    const int64_t asks = below(state, t->steps - 200), key = below(state, KEYS);

    for (int64_t i = 0; i < t->steps; i++) {
        float *token = x + i * t->features;
        const int64_t value = below(state, t->classes), other = (key + 1 + below(state, KEYS - 1)) % KEYS;
        const bool pair = i == asks || i == asks + 200;

        token[1 + (pair ? key : other)] = 1;
        if (i != asks)
            token[1 + KEYS + value] = 1;
        if (i == asks + 200)
            *y = value;
    }
    x[asks * t->features] = 1;
}

static heed_value build_far(heed_builder *b, const heed_value *inputs, const void *config)
{
    const task *t = config;
    heed_init init = { .kind = HEED_INIT_NORMAL, .b = 0.5f };
    const heed_value k = heads_of(b, heed_linear(b, "key", inputs[0], 16, &(heed_linear_opts){ .weight_init = &init }), 1),
                     v = heads_of(b, heed_linear(b, "value", inputs[0], 16, NULL), 1), q = k; /* what matches is alike */
    static const heed_attention_spec whole, near = { .mask.window = { .on = true, .left = 32, .right = 32 } };
    const heed_attention_spec spec = t->causal ? near : whole;

    return heed_linear(b, "head", flagged(b, joined(b, heed_attention(b, q, k, v, &spec).out), inputs[0]), t->classes, NULL);
}

static void a_pair_200_tokens_apart_is_found(void **state)
{
    const scratch *s = *state;
    task t = { .steps = 256, .features = 1 + KEYS + VALUES, .classes = VALUES, .fill = fill_far, .build = build_far,
               .batch = 32, .updates = 400, .lr = 0.02f };
    double whole, near;

    whole = accuracy(&t, s->ctx);
    t.causal = true; /* here: only 32 to either side */
    t.updates = 150;
    near = accuracy(&t, s->ctx);
    print_message("  %-44s window of 32 %.3f (chance 0.250)   whole %.3f\n", "value 200 tokens away", near, whole);
    assert_true(near < 0.4);
    assert_true(whole >= 0.95);
}

/* ---- adaptive span ---- */

enum { SPAN_STEPS = 64, SPAN_BATCH = 16 };

/* Equal scores: the span alone decides what a row averages. */
static heed_value build_span(heed_builder *b, const heed_value *inputs, const void *config)
{
    const int64_t batch = heed_dim(b, inputs[0], 0), dims[4] = { batch, 1, SPAN_STEPS, 1 };
    const heed_value flat = heed_full(b, heed_type_of(HEED_F32, 4, dims), 0);
    const heed_init init = { .kind = HEED_INIT_CONSTANT, .a = 12 };
    const heed_attention_spec spec = { .mask.causal = true,
                                       .normaliser = { .kind = HEED_NORMALISER_ADAPTIVE_SPAN, .ramp = HEED_SET(6) },
                                       .in.span = heed_param(b, "span", HEED_TYPE(HEED_F32, 1), &init) };

    (void)config;
    return heed_attention(b, flat, flat, heed_reshape(b, inputs[0], 4, dims), &spec).out;
}

static heed_value span_loss(heed_builder *b, heed_value result, heed_value target, const void *config)
{
    (void)config;
    return heed_mse_loss(b, result, target, HEED_REDUCE_MEAN);
}

/* The span that is learned where the truth is a mean over the last `range` tokens. */
static double learned_span(heed_context *ctx, int64_t range)
{
    const heed_trainer_opts opts = { .optimizer = HEED_ADAM, .lr = HEED_SET(0.3f), .loss = span_loss };
    heed_model *m = NULL;
    heed_trainer *trainer = NULL;
    float x[SPAN_BATCH * SPAN_STEPS], y[SPAN_BATCH * SPAN_STEPS];
    const heed_tensor in = { HEED_TYPE(HEED_F32, SPAN_BATCH, SPAN_STEPS), x },
                      target = { HEED_TYPE(HEED_F32, SPAN_BATCH, 1, SPAN_STEPS, 1), y };
    uint64_t state = 5;
    double span;

    TOY_OK(heed_model_new(&m, ctx, build_span, NULL, NULL, TOY_ERR));
    TOY_OK(heed_trainer_new(&trainer, m, &opts, TOY_ERR));
    for (int update = 0; update < 250; update++) {
        for (int i = 0; i < SPAN_BATCH * SPAN_STEPS; i++)
            x[i] = normal(&state);
        for (int i = 0; i < SPAN_BATCH * SPAN_STEPS; i++) {
            const int at = i % SPAN_STEPS, n = at + 1 < range ? at + 1 : (int)range;
            double sum = 0;

            for (int j = 0; j < n; j++)
                sum += (double)x[i - j];
            y[i] = (float)(sum / n);
        }
        TOY_OK(heed_trainer_step(trainer, &in, 1, &target, NULL, TOY_ERR));
    }
    span = (double)*(const float *)heed_weights_find(heed_model_weights(m), "span").data;
    heed_trainer_free(trainer);
    heed_model_free(m);
    return span;
}

static void the_learned_span_follows_the_true_range(void **state)
{
    const scratch *s = *state;
    static const int64_t ranges[] = { 4, 8, 12, 18, 26 };
    enum { N = sizeof ranges / sizeof *ranges };
    double x = 0, y = 0, xx = 0, yy = 0, xy = 0, r;

    print_message("  %-44s", "true range -> learned span");
    for (int i = 0; i < N; i++) {
        const double range = (double)ranges[i], span = learned_span(s->ctx, ranges[i]);

        print_message(" %g -> %.1f  ", range, span);
        x += range, y += span, xx += range * range, yy += span * span, xy += range * span;
    }
    r = (N * xy - x * y) / sqrt((N * xx - x * x) * (N * yy - y * y));
    print_message(" r = %.4f\n", r);
    assert_true(r >= 0.9);
}

/* ---- scores alone ---- */

typedef struct look {
    int64_t steps, width;
    heed_attention_spec spec;
    int additive; /* A, or 0 */
    float by;     /* multiplies q and k */
    bool distances;
} look;

static void build_look(heed_builder *b, void *user)
{
    const look *l = user;
    heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F32, 1, 1, l->steps, l->width)),
               k = heed_input(b, "k", HEED_TYPE(HEED_F32, 1, 1, l->steps, l->width));
    heed_attention_spec spec = l->spec;
    heed_attended a;

    spec.probe.entropy = true;
    if (l->additive) { /* initial values of a layer: Xavier */
        spec.score.kind = HEED_SCORE_ADDITIVE;
        spec.in.add_wq = heed_input(b, "wq", HEED_TYPE(HEED_F32, 1, l->additive, l->width));
        spec.in.add_wk = heed_input(b, "wk", HEED_TYPE(HEED_F32, 1, l->additive, l->width));
        spec.in.add_v = heed_input(b, "v", HEED_TYPE(HEED_F32, 1, l->additive));
    }
    a = heed_attention(b, heed_mul_scalar(b, q, (double)l->by), heed_mul_scalar(b, k, (double)l->by), k, &spec);
    heed_output(b, "entropy", a.entropy);
    heed_output(b, "weights", a.weights);
}

/* Mean entropy of the rows, as a share of ln T; *weights (T x T) may be NULL. */
static double relative_entropy(heed_context *ctx, look *l, float *weights)
{
    uint64_t state = 3;
    double sum = 0;
    trial t;

    TOY_OK(trial_open(&t, ctx, build_look, l, NULL, TOY_ERR));
    for (int i = 0; i < t.n_in; i++) {
        const int64_t n = heed_type_count(&t.in[i].tensor.type);
        const double scale = i < 2 ? 1 : sqrt(2.0 / (double)(i < 4 ? l->width + l->additive : l->additive + 1));

        for (int64_t k = 0; k < n; k++)
            ((float *)t.in[i].tensor.data)[k] = (float)(scale * (double)normal(&state));
    }
    TOY_OK(trial_run(&t, TOY_ERR));
    for (int64_t i = 0; i < l->steps; i++)
        sum += (double)((const float *)t.out[0].tensor.data)[i];
    if (weights)
        memcpy(weights, t.out[1].tensor.data, t.out[1].bytes);
    trial_close(&t);
    return sum / (double)l->steps / log((double)l->steps);
}

static void an_unscaled_dot_saturates_with_the_width_and_others_do_not(void **state)
{
    const scratch *s = *state;
    double dot[2] = { 0 }, scaled[2] = { 0 }, additive[2] = { 0 };

    print_message("  mean entropy of rows, share of ln 64          width:      dot   scaled_dot   additive\n");
    for (int64_t width = 4; width <= 1024; width *= 4) {
        look l = { .steps = 64, .width = width, .by = 1 };
        const int at = width > 4;

        scaled[at] = relative_entropy(s->ctx, &l, NULL);
        l.additive = 32;
        additive[at] = relative_entropy(s->ctx, &l, NULL);
        l.additive = 0;
        l.spec.score.kind = HEED_SCORE_DOT;
        dot[at] = relative_entropy(s->ctx, &l, NULL);
        print_message("  %45s %5lld   %8.3f     %8.3f   %8.3f\n", "", (long long)width, dot[at], scaled[at], additive[at]);
    }
    assert_true(dot[1] < 0.05 && dot[0] > 0.5);
    assert_true(fabs(scaled[1] - scaled[0]) < 0.1);
    assert_true(additive[1] > 0.8);
}

/* Dividing by sqrt(d T) in place of sqrt(d) makes rows almost uniform: d 64, T 256. */
static void dividing_by_the_root_of_d_times_t_makes_rows_uniform(void **state)
{
    const scratch *s = *state;
    look l = { .steps = 256, .width = 64, .by = 1 };
    const double right = relative_entropy(s->ctx, &l, NULL);
    double wrong;

    l.spec.score.scale = (heed_maybe_f32)HEED_SET((float)(1 / sqrt(64.0 * 256.0)));
    wrong = relative_entropy(s->ctx, &l, NULL);
    print_message("  %-44s 1/sqrt(d) %.3f   1/sqrt(d T) %.4f\n", "entropy of rows, share of ln 256", right, wrong);
    assert_true(fabs(right - 0.911) < 0.01);
    assert_true(fabs(wrong - 0.9996) < 0.0004);
}

/* The largest difference of weights when q and k are a thousand times as long. */
static double moved(heed_context *ctx, heed_attention_spec spec, float scale_then)
{
    look l = { .steps = 32, .width = 8, .by = 1, .spec = spec };
    float before[32 * 32], after[32 * 32];
    double most = 0;

    (void)relative_entropy(ctx, &l, before);
    l.by = 1000;
    l.spec.score.scale = (heed_maybe_f32)HEED_SET(scale_then);
    (void)relative_entropy(ctx, &l, after);
    for (int i = 0; i < 32 * 32; i++)
        most = fmax(most, fabs((double)before[i] - (double)after[i]));
    return most;
}

static void cosine_and_distances_survive_rescaling_by_a_thousand(void **state)
{
    const scratch *s = *state;
    const double cosine = moved(s->ctx, (heed_attention_spec){ .score.kind = HEED_SCORE_COSINE }, 1),
                 distance = moved(s->ctx, (heed_attention_spec){ .score.kind = HEED_SCORE_NEG_DISTANCE }, 1e-3f),
                 square = moved(s->ctx, (heed_attention_spec){ .score.kind = HEED_SCORE_NEG_SQ_DISTANCE }, 1e-6f),
                 dot = moved(s->ctx, (heed_attention_spec){ .score.kind = HEED_SCORE_SCALED_DOT },
                             (float)(1 / sqrt(8.0)));

    print_message("  %-44s cosine %.1e   neg_distance %.1e   neg_sq_distance %.1e   dot %.2f\n",
                  "weights moved by q, k times 1000", cosine, distance, square, dot);
    assert_true(cosine < 1e-5 && distance < 1e-4 && square < 1e-4);
    assert_true(dot > 0.5);
}

/* A distance that is not negated gives the farthest key the weight: 0, 1, 5 -> 0.976. */
static void build_distances(heed_builder *b, void *user)
{
    const float keys[3] = { 0, 1, 5 };
    const int64_t dims[4] = { 1, 1, 3, 1 };
    heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F32, 1, 1, 1, 1));
    heed_value k = heed_constant(b, (heed_tensor){ heed_type_of(HEED_F32, 4, dims), (void *)(uintptr_t)keys });
    const heed_attention_spec spec = { .score = { .kind = HEED_SCORE_NEG_DISTANCE,
                                                  .scale = HEED_SET(*(const float *)user) } };

    heed_output(b, "w", heed_attention(b, q, k, k, &spec).weights);
}

static void a_distance_that_is_not_negated_favours_the_farthest_key(void **state)
{
    const scratch *s = *state;

    for (int negated = 0; negated < 2; negated++) {
        float scale = negated ? 1.0f : -1.0f;
        const float *w;
        trial t;

        TOY_OK(trial_open(&t, s->ctx, build_distances, &scale, NULL, TOY_ERR));
        *(float *)t.in[0].tensor.data = 0;
        TOY_OK(trial_run(&t, TOY_ERR));
        w = t.out[0].tensor.data;
        assert_float_equal(w[negated ? 0 : 2], negated ? 0.7275 : 0.976, 1e-3);
        trial_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_heads_solve_what_one_cannot),
        cmocka_unit_test(attention_to_both_sides_fills_a_blank_that_causal_attention_cannot),
        cmocka_unit_test(a_pair_200_tokens_apart_is_found),
        cmocka_unit_test(the_learned_span_follows_the_true_range),
        cmocka_unit_test(an_unscaled_dot_saturates_with_the_width_and_others_do_not),
        cmocka_unit_test(dividing_by_the_root_of_d_times_t_makes_rows_uniform),
        cmocka_unit_test(cosine_and_distances_survive_rescaling_by_a_thousand),
        cmocka_unit_test(a_distance_that_is_not_negated_favours_the_farthest_key),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
