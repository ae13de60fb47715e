/* The doctor: every rule names the one model, history or data set that is broken in its way, and nothing
 * else; what is not broken gives no finding. Prints a table of what was measured. */
#include "support/cmocka.h"
#include "explain/doctor.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/nn.h>
#include <heed/task.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>

#define SAMPLES 96

/* ---- models ---- */

static heed_value plain(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "head", heed_relu(b, heed_linear(b, "fc", heed_flatten(b, in[0], 1, -1), 16, NULL)),
                       TOY_CLASSES, NULL);
}

static heed_value with_softmax(heed_builder *b, const heed_value *in, const void *config)
{
    return heed_softmax(b, plain(b, in, config), 1);
}

/* The same through a view, a cast and a dropout. */
static heed_value with_hidden_softmax(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value y = with_softmax(b, in, config);

    y = heed_cast(b, heed_cast(b, heed_unsqueeze(b, y, 0), HEED_F64), HEED_F32);
    return heed_dropout_layer(b, "drop", heed_squeeze(b, y, 0), 0.1);
}

/* exp(x) / sum exp(x), which no graph calls softmax. */
static heed_value with_softmax_by_hand(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value e = heed_exp(b, plain(b, in, config));

    return heed_div(b, e, heed_sum(b, e, 1u << 1, HEED_KEEP_AXES));
}

/* Rows of the picture as a sequence: [B,1,8,8] -> [B,8,8], two heads. config: a float, the scale; 0: the
 * default. */
static heed_value attending(heed_builder *b, const heed_value *in, const void *config)
{
    const float *scale = config;
    heed_mha_opts o = { .bias = HEED_BIAS };
    heed_value x = heed_squeeze(b, in[0], 1);

    if (scale && *scale > 0)
        o.spec.score.scale = (heed_maybe_f32)HEED_SET(*scale);
    x = heed_multihead_attention(b, "attn", x, 2, &o, NULL);
    return heed_linear(b, "head", heed_flatten(b, x, 1, -1), TOY_CLASSES, NULL);
}

/* ---- a case ---- */

typedef struct stage {
    scratch *s;
    heed_dataset *data;
    heed_loader *loader;
    heed_model *model;
    heed_doctor_case c;
} stage;

static stage open_stage(scratch *s, heed_build_fn *build, const void *config)
{
    stage t = { .s = s, .data = toy_dataset(s->ctx, SAMPLES, 7) };
    const float mean = 0.2f, std = 0.2f;
    const heed_type in = HEED_TYPE(HEED_F32, 16, 1, TOY_SIDE, TOY_SIDE);

    TOY_OK(heed_loader_new(&t.loader, s->ctx, t.data, NULL, SAMPLES,
                           &(heed_loader_opts){ .batch_size = 16, .mean = &mean, .std = &std }, TOY_ERR));
    TOY_OK(heed_model_new(&t.model, s->ctx, build, config, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    TOY_OK(heed_model_init(t.model, &in, 1, TOY_ERR));
    t.c.model = t.model;
    t.c.samples = t.loader;
    return t;
}

static void close_stage(stage *t)
{
    heed_model_free(t->model);
    heed_loader_free(t->loader);
    heed_dataset_free(t->data);
}

static float *weights_of(const stage *t, const char *name)
{
    const heed_tensor x = heed_weights_find(heed_model_weights(t->model), name);

    assert_non_null(x.data);
    return x.data;
}

static void show(const heed_diagnosis *d, const char *what)
{
    for (int64_t i = 0; i < d->n; i++)
        print_message("  %-28s %-22s %-34.34s %10.4g  bound %g\n", what, d->findings[i].rule->name,
                      d->findings[i].place, d->findings[i].measured, d->findings[i].rule->threshold);
    if (d->n == 0)
        print_message("  %-28s nothing\n", what);
}

/* Examines, and expects findings of this rule alone (NULL: none at all); the first is copied to *first. */
static void expect_opts(const stage *t, const char *what, const char *rule, const heed_doctor_opts *opts,
                        heed_finding *first)
{
    heed_diagnosis *d = NULL;

    TOY_OK(heed_doctor(&d, t->s->ctx, &t->c, opts, TOY_ERR));
    show(d, what);
    for (int64_t i = 0; i < d->n; i++) {
        assert_non_null(rule);
        assert_string_equal(d->findings[i].rule->name, rule);
        assert_true(d->findings[i].place[0] && d->findings[i].text[0]);
        assert_true(d->looked >> (d->findings[i].rule - heed_doctor_rules()) & 1);
    }
    assert_int_equal(d->n > 0, rule != NULL);
    if (first && d->n > 0)
        *first = d->findings[0];
    heed_diagnosis_free(t->s->ctx, d);
}

static void expect(const stage *t, const char *what, const char *rule, heed_finding *first)
{
    expect_opts(t, what, rule, NULL, first);
}

/* ---- rules ---- */

static void a_softmax_before_the_loss_is_named(void **state)
{
    static heed_build_fn *const broken[] = { with_softmax, with_hidden_softmax, with_softmax_by_hand };

    for (size_t i = 0; i < 3; i++) {
        stage t = open_stage(*state, broken[i], NULL);
        heed_finding f;

        expect(&t,
               i == 0   ? "softmax"
               : i == 1 ? "softmax, cast, dropout"
                        : "softmax by hand",
               "double-softmax", &f);
        assert_true(f.measured < 1e-3);
        close_stage(&t);
    }
}

/* Training sees logits; evaluation, whose loss takes logits too, does not. */
static heed_value with_softmax_in_evaluation(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value y = plain(b, in, config);

    return heed_get_mode(b) == HEED_TRAIN ? y : heed_softmax(b, y, 1);
}

static void a_softmax_of_evaluation_alone_is_named_too(void **state)
{
    stage t = open_stage(*state, with_softmax_in_evaluation, NULL);

    expect(&t, "softmax in evaluation", "double-softmax", NULL);
    close_stage(&t);
}

static void a_softmax_inside_the_model_is_not_taken_for_one_before_the_loss(void **state)
{
    stage t = open_stage(*state, attending, NULL);

    expect(&t, "attention", NULL, NULL);
    close_stage(&t);
}

static void another_scale_of_scores_is_named_with_its_layer(void **state)
{
    const float scale =
        1.0f / 16; /* 1/sqrt(d T): d = 4, T = 8 would give 0.177; 1/16 is nearer to uniform still */
    stage t = open_stage(*state, attending, &scale);
    heed_finding f;

    expect(&t, "scale 1/16 at d 4", "attention-scale", &f);
    assert_string_equal(f.place, "attn");
    assert_true(fabs(f.measured - 0.125) < 1e-6);
    close_stage(&t);
}

static void curve(heed_history_row *to, int64_t n, const double *loss, double lr, double last_lr, double norm)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (heed_history_row){ .epoch = i + 1,
                                    .train_loss = loss[i],
                                    .validation_loss = loss[i],
                                    .lr = i + 1 < n ? lr : last_lr,
                                    .grad_norm = norm };
}

static void a_loss_that_grows_is_named_with_its_epoch(void **state)
{
    heed_history_row rows[8];
    stage t = { .s = *state, .c = { .history = rows, .n_history = 8 } };
    heed_finding f;

    curve(rows, 8, (const double[]){ 2.3, 1.2, 0.8, 0.7, 0.9, 1.1, 1.5, 1.7 }, 0.1, 0.05, 1);
    expect(&t, "history that grows", "growing-loss", &f);
    assert_string_equal(f.place, "epoch 8");
    curve(rows, 8, (const double[]){ 2.3, 1.2, 0.8, 0.7, NAN, 1, 1, 1 }, 0.1, 0.05, 1);
    expect(&t, "history with a NaN", "growing-loss", &f);
    assert_string_equal(f.place, "epoch 5");
    curve(rows, 8, (const double[]){ 2.3, 1.2, 0.8, 0.7, 0.72, 0.69, 0.7, 0.71 }, 0.1, 0.05, 1);
    expect(&t, "history with noise", NULL, NULL);
    curve(rows, 8, (const double[]){ 2.3, 0.3, 0.01, 0.002, 0.004, 0.003, 0.005, 0.004 }, 0.1, 0.05, 1);
    expect(&t, "history near zero", NULL, NULL);
}

/* A file of somebody else may have very many lines, and so may a training of small epochs. */
static void a_very_long_history_is_looked_at_in_time(void **state)
{
    enum { ROWS = 200000 };
    heed_history_row *rows = calloc(ROWS, sizeof *rows);
    stage t = { .s = *state, .c = { .history = rows, .n_history = ROWS } };
    const clock_t began = clock();
    heed_finding f;

    assert_non_null(rows);
    for (int64_t i = 0; i < ROWS; i++)
        rows[i] = (heed_history_row){ .epoch = i + 1,
                                      .train_loss = i < ROWS / 2 ? 2.0 - (double)i / ROWS : 1.5 + (double)i / ROWS,
                                      .validation_loss = NAN,
                                      .lr = i + 1 < ROWS ? 0.1 : 0.05,
                                      .grad_norm = 1 + (double)i / ROWS };
    expect(&t, "a long history that grows", "growing-loss", &f);
    assert_string_equal(f.place, "epoch 200000");
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 4);
    free(rows);
}

static void a_gradient_that_explodes_is_named(void **state)
{
    static const double falls[] = { 2.3, 1.9, 1.5, 1.2, 1.0, 0.9, 0.85, 0.8 };
    heed_history_row rows[8];
    stage t = { .s = *state, .c = { .history = rows, .n_history = 8 } };
    heed_finding f;

    curve(rows, 8, falls, 0.1, 0.05, 1);
    rows[5].grad_norm = 900;
    expect(&t, "norm 1, then 900", "exploding-gradient", &f);
    assert_string_equal(f.place, "epoch 6");
    rows[5].grad_norm = INFINITY;
    expect(&t, "norm infinite", "exploding-gradient", NULL);
    rows[5].grad_norm = NAN; /* not known */
    expect(&t, "norm not known", NULL, NULL);
    rows[5].grad_norm = 60;
    expect(&t, "norm 1, then 60", NULL, NULL);
    t.c.training = &(heed_trainer_opts){ .clip_norm = 1 };
    rows[5].grad_norm = 900;
    expect(&t, "norm 1, then 900, clipped", NULL, NULL);
    rows[5].grad_norm = INFINITY;
    expect(&t, "norm infinite, clipped", "exploding-gradient", NULL);
}

static void a_rate_that_never_falls_is_named_when_the_loss_stopped_falling(void **state)
{
    static const double jumps[] = { 2.3, 1.0, 0.7, 0.66, 0.68, 0.65, 0.67, 0.66, 0.68, 0.65, 0.66, 0.67 };
    static const double falls[] = { 2.3, 1.9, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.62, 0.55, 0.5, 0.45 };
    heed_history_row rows[12];
    stage t = { .s = *state, .c = { .history = rows, .n_history = 12 } };

    curve(rows, 12, jumps, 0.1, 0.1, 1);
    expect(&t, "rate 0.1, loss jumps", "constant-rate", NULL);
    curve(rows, 12, jumps, 0.1, 0.001, 1);
    expect(&t, "rate falls, loss jumps", NULL, NULL);
    curve(rows, 12, falls, 0.1, 0.1, 1);
    expect(&t, "rate 0.1, loss falls", NULL, NULL);
}

static void units_that_are_never_on_are_named_with_their_layer(void **state)
{
    stage t = open_stage(*state, plain, NULL);
    float *bias = weights_of(&t, "fc.bias");
    heed_finding f;

    for (int i = 0; i < 4; i++) /* a quarter is not more than a quarter */
        bias[i] = -100;
    expect(&t, "4 of 16 units dead", NULL, NULL);
    for (int i = 4; i < 8; i++)
        bias[i] = -100;
    expect(&t, "8 of 16 units dead", "dead-units", &f);
    assert_true(f.measured == 0.5);
    assert_string_equal(f.place, "after fc");
    close_stage(&t);
}

static void a_head_that_sees_nothing_is_named_with_its_number(void **state)
{
    stage t = open_stage(*state, attending, NULL);
    float *w = weights_of(&t, "attn.in_proj_weight"); /* [3 * 8, 8]: head 1 of q is rows 4..7 */
    heed_finding f;

    memset(w + 4 * 8, 0, 4 * 8 * sizeof *w);
    expect(&t, "head 1 without a query", "dead-heads", &f);
    assert_string_equal(f.place, "attn head 1");
    close_stage(&t);
}

static void two_heads_that_are_one_are_named(void **state)
{
    stage t = open_stage(*state, attending, NULL);
    float *w = weights_of(&t, "attn.in_proj_weight");
    heed_finding f;

    memcpy(w + 4 * 8, w, 4 * 8 * sizeof *w);
    memcpy(w + 12 * 8, w + 8 * 8, 4 * 8 * sizeof *w);
    expect(&t, "heads 0 and 1 alike", "dead-heads", &f);
    assert_string_equal(f.place, "attn heads 0 and 1");
    close_stage(&t);
}

static void a_model_that_always_says_the_same_is_named(void **state)
{
    stage t = open_stage(*state, plain, NULL);
    heed_finding f;

    weights_of(&t, "head.bias")[1] = 1000;
    expect(&t, "bias 1000 for class 1", "constant-predictions", &f);
    assert_string_equal(f.place, "class 1");
    weights_of(&t, "head.bias")[1] = 0;
    memset(weights_of(&t, "head.weight"), 0, 3 * 16 * sizeof(float));
    expect(&t, "weights of the head zero", "constant-predictions", &f);
    assert_non_null(strstr(f.text, "do not depend"));
    close_stage(&t);
}

static void inputs_far_from_zero_are_named_with_their_channel(void **state)
{
    stage t = open_stage(*state, plain, NULL);
    const float mean = -100, std = 1;
    heed_loader *raw = NULL;

    TOY_OK(heed_loader_new(&raw, t.s->ctx, t.data, NULL, SAMPLES,
                           &(heed_loader_opts){ .batch_size = 16, .mean = &mean, .std = &std }, TOY_ERR));
    t.c = (heed_doctor_case){ .samples = raw };
    expect(&t, "pixels + 100", "raw-inputs", NULL);
    heed_loader_free(raw);
    close_stage(&t);
}

static void a_number_that_is_none_is_named_with_its_parameter(void **state)
{
    stage t = open_stage(*state, plain, NULL);
    heed_finding f;

    weights_of(&t, "fc.weight")[5] = NAN;
    expect(&t, "NaN in fc.weight", "not-finite", &f);
    assert_string_equal(f.place, "fc.weight");
    close_stage(&t);
}

/* Pictures 0..n-1 of noise; `like` >= 0: the last is picture `like` again, mirrored or not. */
static heed_dataset *noise(heed_context *ctx, int64_t n, int64_t like, bool mirrored, int64_t rare)
{
    uint8_t *pixels = calloc((size_t)n, 64);
    int64_t *labels = calloc((size_t)n, sizeof *labels);
    heed_dataset *d = NULL;

    srand(5);
    for (int64_t i = 0; i < n * 64; i++)
        pixels[i] = (uint8_t)(rand() & 255);
    for (int64_t i = 0; i < n; i++)
        labels[i] = i < rare ? 1 : 0;
    for (int64_t i = 0; like >= 0 && i < 64; i++)
        pixels[(n - 1) * 64 + i] = pixels[like * 64 + (mirrored ? i / 8 * 8 + 7 - i % 8 : i)];
    TOY_OK(heed_dataset_from_memory(&d, ctx, (heed_tensor){ HEED_TYPE(HEED_U8, n, 8, 8), pixels },
                                    (heed_tensor){ HEED_TYPE(HEED_I64, n), labels }, 2, TOY_ERR));
    free(pixels);
    free(labels);
    return d;
}

static void a_picture_in_both_parts_is_named_with_both_numbers(void **state)
{
    int64_t train[30], validation[10];

    for (int i = 0; i < 30; i++)
        train[i] = i;
    for (int i = 0; i < 10; i++)
        validation[i] = 30 + i;
    for (int kind = 0; kind < 3; kind++) {
        heed_dataset *d = noise(((scratch *)*state)->ctx, 40, kind == 0 ? -1 : 12, kind == 2, 20);
        stage t = {
            .s = *state,
            .c = { .data = d, .train = train, .n_train = 30, .validation = validation, .n_validation = 10 }
        };
        heed_finding f;

        expect(&t,
               kind == 0   ? "parts apart"
               : kind == 1 ? "a picture in both"
                           : "a mirror image in both",
               kind == 0 ? NULL : "part-overlap", &f);
        if (kind > 0) {
            assert_string_equal(f.place, "sample 39 (validation) and sample 12 (training)");
            assert_true(f.measured == 0.1);
        }
        heed_dataset_free(d);
    }
}

static void a_class_that_is_rare_is_named_unless_the_loss_may_weigh_it(void **state)
{
    heed_dataset *d = noise(((scratch *)*state)->ctx, 120, -1, false, 5);
    stage t = { .s = *state, .c = { .data = d } };
    heed_finding f;

    expect(&t, "115 to 5", "class-imbalance", &f);
    assert_string_equal(f.place, "class 1");
    assert_true(f.measured == 23);
    t.c.weighing = HEED_WEIGHS_CLASSES;
    expect(&t, "115 to 5, weighed", NULL, NULL);
    t.c.weighing = HEED_WEIGHS_ALIKE;
    heed_dataset_free(d);
    t.c.data = d = noise(((scratch *)*state)->ctx, 120, -1, false, 12);
    expect(&t, "108 to 12", NULL, NULL);
    heed_dataset_free(d);
}

/* ---- trials ---- */

static void a_trial_finds_a_rate_that_is_too_high_and_leaves_the_weights(void **state)
{
    stage t = open_stage(*state, plain, NULL);
    const heed_trainer_opts good = { .optimizer = HEED_ADAM, .lr = HEED_SET(0.003f) },
                            bad = { .optimizer = HEED_ADAM, .lr = HEED_SET(3) };
    char before[65], after[65];

    toy_digest(before, t.model, HEED_WEIGHTS_ALL);
    t.c.training = &good;
    expect(&t, "trial at 0.003", NULL, NULL);
    t.c.training = &bad;
    {
        heed_diagnosis *d = NULL;

        TOY_OK(heed_doctor(&d, t.s->ctx, &t.c, NULL, TOY_ERR));
        show(d, "trial at 3");
        assert_true(d->n > 0);
        heed_diagnosis_free(t.s->ctx, d);
    }
    toy_digest(after, t.model, HEED_WEIGHTS_ALL);
    assert_string_equal(before, after);
    close_stage(&t);
}

/* ---- runs ---- */

typedef struct day {
    char data[128], recipe[128], out[128];
} day;

static void train_toy(day *d, scratch *s, const char *model, const char *name, int epochs)
{
    heed_train_result result;
    heed_recipe *r = NULL;
    char words[1000];

    snprintf(d->data, sizeof d->data, "%s/data", s->folder);
    snprintf(d->recipe, sizeof d->recipe, "%s/%s.yaml", s->folder, name);
    snprintf(d->out, sizeof d->out, "%s/%s", s->folder, name);
    (void)mkdir(d->data, 0700);
    toy_write_idx(d->data, 300, 20);
    snprintf(words, sizeof words,
             "data: {path: %s, validation: 0.2}\nmodel: {%s}\n"
             "train: {epochs: %d, batch_size: 16, lr: 0.003, warmup: 0.1, schedule: cosine, clip_norm: 1,\n"
             "  report: false, tensorboard: false}\n",
             d->data, model, epochs);
    scratch_put(d->recipe, words, strlen(words));
    TOY_OK(heed_recipe_open(&r, s->ctx, d->recipe, NULL, TOY_ERR));
    TOY_OK(heed_train(&result, s->ctx, r, &(heed_train_opts){ .out = d->out }, TOY_ERR));
    heed_recipe_free(r);
}

static void every_architecture_trained_plainly_gives_no_finding(void **state)
{
    static const struct {
        const char *name, *model;
        int epochs;
    } models[] = {
        { "mlp", "name: mlp, hidden: [24]", 4 },
        { "cnn", "name: cnn, stem: 8 P 16, heads: 2", 4 },
        { "conv-attention", "name: conv-attention, stem: 8 P 16, heads: 2", 4 },
        { "vit", "name: vit, patch: 2, width: 16, heads: 2, blocks: 1", 24 },
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        heed_diagnosis *found = NULL;
        char *missing = NULL;
        heed_run *r = NULL;
        day d;

        train_toy(&d, s, models[i].model, models[i].name, models[i].epochs);
        TOY_OK(heed_run_open(&r, s->ctx, d.out, TOY_ERR));
        TOY_OK(heed_run_doctor(&found, &missing, r, NULL, TOY_ERR));
        show(found, models[i].name);
        assert_int_equal(found->n, 0);
        assert_string_equal(missing, "");
        assert_true(found->samples > 20);
        heed_text_free(s->ctx, missing);
        heed_diagnosis_free(s->ctx, found);
        heed_run_free(r);
    }
}

/* Replaces `from` by `to` in a file of the run. */
static void edit(const day *d, const char *name, const char *from, const char *to)
{
    char path[256], *at;
    uint8_t *bytes, *out;
    size_t n;

    snprintf(path, sizeof path, "%s/%s", d->out, name);
    bytes = scratch_get(path, &n);
    at = strstr((char *)bytes, from);
    assert_non_null(at);
    out = malloc(n + strlen(to) + 1);
    memcpy(out, bytes, (size_t)(at - (char *)bytes));
    memcpy(out + (at - (char *)bytes), to, strlen(to));
    memcpy(out + (at - (char *)bytes) + strlen(to), at + strlen(from),
           n - (size_t)(at - (char *)bytes) - strlen(from));
    scratch_put(path, out, n + strlen(to) - strlen(from));
    free(out);
    free(bytes);
}

static heed_self_test_result self_test_of(scratch *s, const day *d)
{
    heed_self_test_result r = { 0 };
    heed_run *run = NULL;

    TOY_OK(heed_run_open(&run, s->ctx, d->out, TOY_ERR));
    TOY_OK(heed_run_self_test(&r, run, TOY_ERR));
    heed_run_free(run);
    return r;
}

static void a_run_that_computes_otherwise_than_it_was_trained_is_named(void **state)
{
    scratch *s = *state;
    heed_self_test_result r;
    heed_diagnosis *found = NULL;
    heed_run *run = NULL;
    day d;

    train_toy(&d, s, "name: conv-attention, stem: 8 P 16, heads: 2", "run", 4);
    r = self_test_of(s, &d);
    assert_int_equal(r.verdict, HEED_SELF_TEST_SAME);
    assert_true(r.difference == 0);
    edit(&d, "recipe.yaml", "heads: 2", "heads: 4"); /* the same tensors, so the weights load */
    r = self_test_of(s, &d);
    assert_int_equal(r.verdict, HEED_SELF_TEST_OTHER);
    TOY_OK(heed_run_open(&run, s->ctx, d.out, TOY_ERR));
    TOY_OK(heed_run_doctor(&found, NULL, run, NULL, TOY_ERR));
    show(found, "heads 2 edited to 4");
    assert_int_equal(found->n, 1);
    assert_string_equal(found->findings[0].rule->name, "self-test");
    heed_diagnosis_free(s->ctx, found);
    heed_run_free(run);
    edit(&d, "recipe.yaml", "heads: 4", "heads: 2");
    edit(&d, "preprocessor_config.json", "\"image_std\": [", "\"image_std\": [1");
    assert_int_equal(self_test_of(s, &d).verdict, HEED_SELF_TEST_OTHER);
}

static void a_model_made_in_c_has_a_self_test_too(void **state)
{
    const float mean = 0.2f, std = 0.2f;
    const heed_self_test_inputs in = {
        .type = HEED_TYPE(HEED_F32, 3, 1, TOY_SIDE, TOY_SIDE), .seed = 5, .mean = &mean, .std = &std
    };
    stage t = open_stage(*state, plain, NULL);
    heed_self_test_inputs other = in;
    heed_self_test_result r;
    float outputs[3 * TOY_CLASSES];
    heed_self_test then = { .isa = heed_context_isa(t.s->ctx), .n = 3 * TOY_CLASSES, .outputs = outputs };
    heed_error err = { 0 };

    TOY_OK(heed_model_self_test_make(t.model, &in, outputs, then.n, then.sha256, TOY_ERR));
    TOY_OK(heed_model_self_test(&r, t.model, &in, &then, TOY_ERR));
    assert_int_equal(r.verdict, HEED_SELF_TEST_SAME);
    outputs[4] += 1e-6f; /* as another level would have it */
    TOY_OK(heed_model_self_test(&r, t.model, &in, &then, TOY_ERR));
    assert_int_equal(r.verdict, HEED_SELF_TEST_CLOSE);
    outputs[4] = NAN;
    TOY_OK(heed_model_self_test(&r, t.model, &in, &then, TOY_ERR));
    assert_int_equal(r.verdict, HEED_SELF_TEST_OTHER);
    outputs[4] = 0;
    other.seed = 6;
    TOY_OK(heed_model_self_test(&r, t.model, &other, &then, TOY_ERR));
    assert_int_equal(r.verdict, HEED_SELF_TEST_OTHER);
    then.n--;
    TOY_OK(heed_model_self_test(&r, t.model, &in, &then, TOY_ERR));
    assert_true(r.verdict == HEED_SELF_TEST_OTHER && isinf(r.difference));
    TOY_OK(heed_model_self_test(&r, t.model, &in, NULL, TOY_ERR));
    assert_int_equal(r.verdict, HEED_SELF_TEST_NONE);
    assert_int_equal(heed_model_self_test_make(t.model, &in, outputs, 4, then.sha256, &err), HEED_ERR_SHAPE);
    other.type.dtype = HEED_U8;
    err = (heed_error){ 0 };
    assert_int_equal(heed_model_self_test_make(t.model, &other, outputs, 9, then.sha256, &err), HEED_ERR_SHAPE);
    close_stage(&t);
}

static void another_level_computes_close_numbers(void **state)
{
    scratch *s = *state;
    heed_context *portable = toy_context(1, HEED_ISA_PORTABLE);
    heed_self_test_result r;
    heed_run *run = NULL;
    day d;

    train_toy(&d, s, "name: conv-attention, stem: 8 P 16, heads: 2", "run", 4);
    TOY_OK(heed_run_open(&run, portable, d.out, TOY_ERR));
    TOY_OK(heed_run_self_test(&r, run, TOY_ERR));
    print_message("  level %s against %s: %.3g\n", heed_isa_name(r.now), heed_isa_name(r.then), r.difference);
    assert_true(r.verdict == (r.now == r.then ? HEED_SELF_TEST_SAME : HEED_SELF_TEST_CLOSE) ||
                r.verdict == HEED_SELF_TEST_SAME);
    assert_true(r.difference < 1e-5);
    heed_run_free(run);
    heed_context_free(portable);
}

static void a_run_of_an_older_version_has_no_self_test(void **state)
{
    scratch *s = *state;
    char path[256], *from, *to;
    uint8_t *bytes;
    size_t n;
    day d;

    train_toy(&d, s, "name: mlp, hidden: [8]", "run", 4);
    snprintf(path, sizeof path, "%s/config.json", d.out);
    bytes = scratch_get(path, &n);
    from = strstr((char *)bytes, "  \"self_test\"");
    assert_non_null(from);
    to = strstr(from, "  },\n") + 5;
    memmove(from, to, n - (size_t)(to - (char *)bytes));
    scratch_put(path, bytes, n - (size_t)(to - from));
    free(bytes);
    assert_int_equal(self_test_of(s, &d).verdict, HEED_SELF_TEST_NONE);
}

static void data_that_are_gone_are_told_and_are_no_finding(void **state)
{
    scratch *s = *state;
    heed_diagnosis *found = NULL;
    heed_run *run = NULL;
    char *missing = NULL, command[256];
    day d;

    train_toy(&d, s, "name: mlp, hidden: [8]", "run", 4);
    snprintf(command, sizeof command, "%s/train-images-idx3-ubyte", d.data);
    assert_int_equal(remove(command), 0);
    TOY_OK(heed_run_open(&run, s->ctx, d.out, TOY_ERR));
    TOY_OK(heed_run_doctor(&found, &missing, run, NULL, TOY_ERR));
    assert_int_equal(found->n, 0);
    assert_non_null(strstr(missing, "cannot be read"));
    assert_false(found->looked >> RULE_OVERLAP & 1);
    assert_true(found->looked >> RULE_GROWING_LOSS & 1);
    heed_text_free(s->ctx, missing);
    heed_diagnosis_free(s->ctx, found);
    heed_run_free(run);
}

static void a_bad_line_of_the_log_is_an_error_and_a_cut_one_is_not(void **state)
{
    scratch *s = *state;
    heed_diagnosis *found = NULL;
    heed_error err = { 0 };
    heed_run *run = NULL;
    char path[256];
    day d;

    train_toy(&d, s, "name: mlp, hidden: [8]", "run", 4);
    snprintf(path, sizeof path, "%s/metrics.jsonl", d.out);
    scratch_put(path, "{\"epoch\":1,\"train_loss\":2}\n{\"epoch\":2,\"tra", 42);
    TOY_OK(heed_run_open(&run, s->ctx, d.out, TOY_ERR));
    TOY_OK(heed_run_doctor(&found, NULL, run, NULL, TOY_ERR));
    heed_diagnosis_free(s->ctx, found);
    scratch_put(path, "{\"epoch\":1}\n{\"epoch\":2,,}\n", 26);
    assert_int_equal(heed_run_doctor(&found, NULL, run, NULL, &err), HEED_ERR_FORMAT);
    assert_non_null(strstr(err.text, "metrics.jsonl:2"));
    heed_run_free(run);
}

/* ---- the table, and faults ---- */

static void every_rule_says_all_of_itself(void **state)
{
    int n = 0;

    (void)state;
    for (const heed_doctor_rule *r = heed_doctor_rules(); r->name; r++, n++) {
        assert_ptr_equal(heed_doctor_rule_find(r->name), r);
        assert_true(r->looks_at[0] && r->finds[0] && r->why[0] && r->remedy[0]);
        assert_string_not_equal(heed_severity_name(r->severity), "?");
        assert_null(strpbrk(r->looks_at, "|\n")); /* cells of a table */
        assert_null(strpbrk(r->finds, "|\n"));
        assert_null(strpbrk(r->why, "|\n"));
        assert_null(strpbrk(r->remedy, "|\n"));
    }
    assert_int_equal(n, RULE_COUNT);
    assert_null(heed_doctor_rule_find("no-such-rule"));
}

static heed_status examine(heed_context *ctx, void *user, heed_error *err)
{
    static const heed_trainer_opts training = { .optimizer = HEED_SGD, .lr = HEED_SET(0.01f) };
    const float mean = 0.2f, std = 0.2f;
    int64_t train[20], validation[12];
    heed_diagnosis *d = NULL;
    heed_loader *l = NULL;
    heed_model *m = NULL;
    heed_status st;

    for (int i = 0; i < 20; i++)
        train[i] = i;
    for (int i = 0; i < 12; i++)
        validation[i] = 20 + i;
    st = heed_loader_new(&l, ctx, user, NULL, 32,
                         &(heed_loader_opts){ .batch_size = 16, .mean = &mean, .std = &std, .prefetch = -1 },
                         err);
    if (st == HEED_OK)
        st = heed_model_new(&m, ctx, with_softmax, NULL, NULL, err);
    if (st == HEED_OK)
        st = heed_doctor(&d, ctx,
                         &(heed_doctor_case){ .model = m,
                                              .samples = l,
                                              .training = &training,
                                              .data = user,
                                              .train = train,
                                              .n_train = 20,
                                              .validation = validation,
                                              .n_validation = 12 },
                         &(heed_doctor_opts){ .samples = 32, .trial = 2 }, err);
    if (st == HEED_OK && d->n == 0)
        st = HEED_ERR_BUG;
    heed_diagnosis_free(ctx, d);
    heed_model_free(m);
    heed_loader_free(l);
    return st;
}

static heed_status visit_run(heed_context *ctx, void *user, heed_error *err)
{
    const day *d = user;
    heed_diagnosis *found = NULL;
    heed_run *run = NULL;
    char *missing = NULL;
    heed_status st = heed_run_open(&run, ctx, d->out, err);

    if (st == HEED_OK)
        st = heed_run_doctor(&found, &missing, run, &(heed_doctor_opts){ .samples = 32 }, err);
    heed_text_free(ctx, missing);
    heed_diagnosis_free(ctx, found);
    heed_run_free(run);
    return st;
}

/* A fault while data are read leaves them unlooked. */
static bool no_harm(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    return st == HEED_OK || st == HEED_ERR_IO || st == HEED_ERR_MEMORY;
}

static void every_failing_call_ends_in_an_error_and_leaks_nothing(void **state)
{
    heed_context *outside =
        toy_context(1, HEED_ISA_AUTO); /* holds the data, so that the scenarios' heaps begin empty */
    heed_dataset *data = toy_dataset(outside, 32, 7);
    heed_fail_report report;
    scratch *s = *state;
    day d;

    assert_true(heed_fail_each(&(heed_scenario){ .name = "doctor", .run = examine }, data, &report));
    train_toy(&d, s, "name: mlp, hidden: [4]", "run", 4);
    assert_true(heed_fail_each(
        &(heed_scenario){ .name = "doctor of a run", .run = visit_run, .right = no_harm }, &d, &report));
    assert_true(heed_fail_each_file(
        &(heed_scenario){ .name = "doctor of a run, files", .run = visit_run, .right = no_harm }, &d,
        &report));
    heed_dataset_free(data);
    heed_context_free(outside);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_softmax_before_the_loss_is_named),
        TEST(a_softmax_of_evaluation_alone_is_named_too),
        TEST(a_softmax_inside_the_model_is_not_taken_for_one_before_the_loss),
        TEST(another_scale_of_scores_is_named_with_its_layer),
        TEST(a_loss_that_grows_is_named_with_its_epoch),
        TEST(a_very_long_history_is_looked_at_in_time),
        TEST(a_gradient_that_explodes_is_named),
        TEST(a_rate_that_never_falls_is_named_when_the_loss_stopped_falling),
        TEST(units_that_are_never_on_are_named_with_their_layer),
        TEST(a_head_that_sees_nothing_is_named_with_its_number),
        TEST(two_heads_that_are_one_are_named),
        TEST(a_model_that_always_says_the_same_is_named),
        TEST(inputs_far_from_zero_are_named_with_their_channel),
        TEST(a_number_that_is_none_is_named_with_its_parameter),
        TEST(a_picture_in_both_parts_is_named_with_both_numbers),
        TEST(a_class_that_is_rare_is_named_unless_the_loss_may_weigh_it),
        TEST(a_trial_finds_a_rate_that_is_too_high_and_leaves_the_weights),
        TEST(every_architecture_trained_plainly_gives_no_finding),
        TEST(a_run_that_computes_otherwise_than_it_was_trained_is_named),
        TEST(a_model_made_in_c_has_a_self_test_too),
        TEST(another_level_computes_close_numbers),
        TEST(a_run_of_an_older_version_has_no_self_test),
        TEST(data_that_are_gone_are_told_and_are_no_finding),
        TEST(a_bad_line_of_the_log_is_an_error_and_a_cut_one_is_not),
        TEST(every_rule_says_all_of_itself),
        TEST(every_failing_call_ends_in_an_error_and_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
