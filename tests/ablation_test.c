/* Ablation: what the loss becomes without a head is what an edit makes of it, and of a model that needs two heads by its
 * construction it names these two, though others look at the very same tokens. */
#include "explain/explain.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include "train/mirror.h"

#include <heed/nn.h>
#include <heed/ops.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the planted task ----
 *
 * A sequence of TOKENS tokens of WIDTH numbers. Token 0 asks; one other token is marked A, one is marked B, and each has a bit
 * of +1 or -1; the class is the pair of bits at A and B. Two blocks x + attention(x) of HEADS heads each; the answer is read
 * from two channels of token 0. One head of all, chosen by the seed, carries the bit at A there, one the bit at B. Every
 * other head looks at A or B as sharply as they do, but carries noise, to channels that are not read; three hundredths of it
 * reaches the answer, so that no head is without any effect. */
enum {
    TOKENS = 10,
    WIDTH = 32,
    HEADS = 8,
    BLOCKS = 2,
    ALL = BLOCKS * HEADS,
    DEPTH = WIDTH / HEADS,
    CLASSES = 4
};
enum { AT_A, AT_B, BIT, ASKS, NOISE, ANSWER_A = 8, ANSWER_B, REST }; /* channels; noise is 4 .. 7 */
enum { SAMPLES = 64, SEEDS = 20, LENGTH = TOKENS * WIDTH };
#define LEAK 0.03f

static heed_value planted(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = in[0];

    (void)config;
    x = heed_add(b, x, heed_multihead_attention(b, "block.0", x, HEADS, NULL, NULL));
    x = heed_add(b, x, heed_multihead_attention(b, "block.1", x, HEADS, NULL, NULL));
    return heed_linear(b, "head", heed_squeeze(b, heed_slice(b, x, 1, 0, 1, 1), 1), CLASSES, NULL);
}

static uint32_t drawn(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static float uniform(uint32_t *state)
{
    return (float)drawn(state) * 0x1p-23f - 1;
}

static float *weights_of(heed_model *m, const char *name)
{
    const heed_tensor t = heed_weights_find(heed_model_weights(m), name);

    assert_non_null(t.data);
    memset(t.data, 0, (size_t)heed_type_count(&t.type) * sizeof(float));
    return t.data;
}

/* Head `h` of a block looks from the asking token at the mark; its first number is the bit, or noise. */
static void plant_head(float *in_proj, float *out_proj, int h, int mark, int answer, uint32_t *state)
{
    float *q = in_proj + (h * DEPTH) * WIDTH, *k = q + WIDTH * WIDTH, *v = k + WIDTH * WIDTH;

    q[ASKS] = 12;
    k[mark] = 1;
    if (answer) {
        v[BIT] = 1;
        out_proj[answer * WIDTH + h * DEPTH] = 1;
        return;
    }
    for (int d = 0; d < DEPTH; d++)
        for (int c = 0; c < 4; c++)
            v[d * WIDTH + NOISE + c] = uniform(state);
    for (int d = 0; d < DEPTH; d++)
        for (int c = ANSWER_A; c < WIDTH; c++)
            out_proj[c * WIDTH + h * DEPTH + d] = uniform(state) * (c < REST ? LEAK : 1);
}

static void plant(heed_model *m, const int needed[2], uint32_t seed)
{
    static const char *const names[BLOCKS][2] = { { "block.0.in_proj_weight", "block.0.out_proj.weight" },
                                                  { "block.1.in_proj_weight", "block.1.out_proj.weight" } };
    uint32_t state = seed;
    float *head;

    TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, SAMPLES, TOKENS, WIDTH), 1, TOY_ERR));
    for (int block = 0; block < BLOCKS; block++) {
        float *in_proj = weights_of(m, names[block][0]), *out_proj = weights_of(m, names[block][1]);

        for (int h = 0; h < HEADS; h++) {
            const int n = block * HEADS + h;

            if (n == needed[0] || n == needed[1])
                plant_head(in_proj, out_proj, h, n == needed[0] ? AT_A : AT_B,
                           n == needed[0] ? ANSWER_A : ANSWER_B, &state);
            else
                plant_head(in_proj, out_proj, h, drawn(&state) & 1 ? AT_A : AT_B, 0, &state);
        }
    }
    head = weights_of(m, "head.weight");
    for (int c = 0; c < CLASSES; c++) {
        head[c * WIDTH + ANSWER_A] = c & 1 ? 2 : -2;
        head[c * WIDTH + ANSWER_B] = c & 2 ? 2 : -2;
    }
    (void)weights_of(m, "head.bias");
}

static void samples(float *x, int64_t *labels, uint32_t seed)
{
    uint32_t state = seed * 7919u + 1;

    memset(x, 0, SAMPLES * LENGTH * sizeof *x);
    for (int i = 0; i < SAMPLES; i++) {
        float *at = x + i * LENGTH;
        const int a = 1 + (int)(drawn(&state) % (TOKENS - 1)),
                  b = 1 + (a + (int)(drawn(&state) % (TOKENS - 2))) % (TOKENS - 1);

        for (int t = 0; t < TOKENS; t++) {
            at[t * WIDTH + BIT] = t == 0 ? 0 : drawn(&state) & 1 ? 1.0f : -1.0f;
            for (int c = 0; c < 4; c++)
                at[t * WIDTH + NOISE + c] = uniform(&state);
        }
        at[ASKS] = 1;
        at[a * WIDTH + AT_A] = 1;
        at[b * WIDTH + AT_B] = 1;
        labels[i] = (at[a * WIDTH + BIT] > 0) + 2 * (at[b * WIDTH + BIT] > 0);
    }
}

/* Two different heads of all. */
static void choose(int needed[2], uint32_t seed)
{
    uint32_t state = seed + 17;

    drawn(&state);
    needed[0] = (int)(drawn(&state) % ALL);
    needed[1] = (needed[0] + 1 + (int)(drawn(&state) % (ALL - 1))) % ALL;
}

typedef struct task {
    heed_model *m;
    int needed[2];
    float x[SAMPLES * LENGTH];
    int64_t labels[SAMPLES];
} task;

static void open_task(task *t, heed_context *ctx, uint32_t seed)
{
    t->m = NULL;
    TOY_OK(heed_model_new(&t->m, ctx, planted, NULL, &(heed_model_opts){ .seed = seed }, TOY_ERR));
    choose(t->needed, seed);
    plant(t->m, t->needed, seed);
    samples(t->x, t->labels, seed);
}

static heed_tensor batch_of(task *t)
{
    return (heed_tensor){ HEED_TYPE(HEED_F32, SAMPLES, TOKENS, WIDTH), t->x };
}

/* Mean cross-entropy of the model as it is. */
static double loss_of(task *t, double *accuracy)
{
    float logits[SAMPLES * CLASSES];
    const heed_tensor x = batch_of(t), y = { HEED_TYPE(HEED_F32, SAMPLES, CLASSES), logits };
    double row[CLASSES], sum = 0, right = 0;

    TOY_OK(heed_model_run(t->m, &x, 1, &y, 1, TOY_ERR));
    for (int i = 0; i < SAMPLES; i++) {
        heed__log_softmax_row(row, logits + i * CLASSES, CLASSES);
        sum -= row[t->labels[i]];
        right += heed__largest(logits + i * CLASSES, CLASSES) == t->labels[i];
    }
    if (accuracy)
        *accuracy = right / SAMPLES;
    return sum / SAMPLES;
}

static int number_of(const heed_head_effect *e)
{
    return (int)(e->attention * HEADS + e->head);
}

/* ---- facts ---- */

static void of_a_model_that_needs_two_heads_it_names_these_two(void **state)
{
    static task t;
    heed_context *ctx = toy_context(1, HEED_ISA_AUTO);
    int named = 0;

    (void)state;
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        heed_ablation *a = NULL;
        double accuracy;
        bool both;

        open_task(&t, ctx, seed);
        (void)loss_of(&t, &accuracy);
        assert_true(accuracy > 0.999);
        TOY_OK(heed_ablate(&a, t.m, batch_of(&t), t.labels, TOY_ERR));
        assert_int_equal(a->n, ALL);
        assert_int_equal(a->samples, SAMPLES);
        both = (number_of(&a->heads[0]) == t.needed[0] && number_of(&a->heads[1]) == t.needed[1]) ||
               (number_of(&a->heads[0]) == t.needed[1] && number_of(&a->heads[1]) == t.needed[0]);
        named += both && a->heads[1].effect > 20 * fabs(a->heads[2].effect) && a->heads[1].effect > 0.3;
        printf(
            "seed %2u: needed %2d %2d, named %2d %2d, effects %.3f %.3f, the next %.4f; loss %.3f, %.3f without any\n",
            (unsigned)seed, t.needed[0], t.needed[1], number_of(&a->heads[0]), number_of(&a->heads[1]),
            a->heads[0].effect, a->heads[1].effect, a->heads[2].effect, a->loss, a->loss_without_all);
        heed_ablation_free(ctx, a);
        heed_model_free(t.m);
    }
    printf("the two planted heads of %d were named in %d of %d seeds\n", ALL, named, SEEDS);
    heed_context_free(ctx);
    assert_int_equal(named, SEEDS);
}

static void an_effect_is_what_the_edit_of_that_head_does(void **state)
{
    static task t;
    const scratch *s = *state;
    static const char *const paths[BLOCKS] = { "block.0", "block.1" };
    heed_ablation *a = NULL;
    double all;

    open_task(&t, s->ctx, 3);
    TOY_OK(heed_ablate(&a, t.m, batch_of(&t), t.labels, TOY_ERR));
    all = loss_of(&t, NULL);
    assert_true(fabs(a->loss - all) < 1e-5);
    for (int64_t i = 0; i < a->n; i++) {
        const heed_head_effect *e = &a->heads[i];
        const heed_edit edit = { .at = paths[e->attention], .head = HEED_EDIT_ONLY(e->head) };

        assert_string_equal(e->path, paths[e->attention]);
        assert_true(fabs(e->effect - (e->loss - a->loss)) < 1e-12);
        assert_true(i == 0 || e[-1].effect >= e->effect);
        TOY_OK(heed_model_edit(t.m, &edit, 1, TOY_ERR));
        assert_true(fabs(loss_of(&t, NULL) - e->loss) < 1e-5);
    }
    TOY_OK(heed_model_edit(t.m, (const heed_edit[]){ { .at = paths[0] }, { .at = paths[1] } }, 2, TOY_ERR));
    assert_true(fabs(loss_of(&t, NULL) - a->loss_without_all) < 1e-6);
    heed_ablation_free(s->ctx, a);
    heed_model_free(t.m);
}

static void edits_of_the_model_stay_while_heads_are_zeroed(void **state)
{
    static task t;
    const scratch *s = *state;
    heed_ablation *a = NULL;
    heed_edit edit;

    open_task(&t, s->ctx, 5);
    edit = (heed_edit){ .at = t.needed[0] / HEADS ? "block.1" : "block.0",
                        .head = HEED_EDIT_ONLY(t.needed[0] % HEADS) };
    TOY_OK(heed_model_edit(t.m, &edit, 1, TOY_ERR));
    TOY_OK(heed_ablate(&a, t.m, batch_of(&t), t.labels, TOY_ERR));
    assert_true(fabs(a->loss - loss_of(&t, NULL)) < 1e-6);
    assert_int_equal(number_of(&a->heads[0]), t.needed[1]);
    for (int64_t i = 0; i < a->n; i++)
        if (number_of(&a->heads[i]) == t.needed[0])
            assert_true(a->heads[i].effect == 0); /* it is gone already */
    heed_ablation_free(s->ctx, a);
    heed_model_free(t.m);
}

static void without_labels_the_loss_is_of_what_the_model_says(void **state)
{
    static task t;
    const scratch *s = *state;
    heed_ablation *a = NULL, *b = NULL;

    open_task(&t, s->ctx, 8); /* it is always right */
    TOY_OK(heed_ablate(&a, t.m, batch_of(&t), t.labels, TOY_ERR));
    TOY_OK(heed_ablate(&b, t.m, batch_of(&t), NULL, TOY_ERR));
    assert_memory_equal(a->labels, b->labels, SAMPLES * sizeof *a->labels);
    for (int64_t i = 0; i < a->n; i++)
        assert_true(a->heads[i].effect == b->heads[i].effect &&
                    number_of(&a->heads[i]) == number_of(&b->heads[i]));
    heed_ablation_free(s->ctx, a);
    heed_ablation_free(s->ctx, b);
    heed_ablation_free(s->ctx, NULL);
    heed_model_free(t.m);
}

/* x [1,4] as four heads of one token and one number; a second attention is subtracted. */
static heed_value differential(heed_builder *b, const heed_value *in, const void *config)
{
    static float numbers[16] = { 1, -1, 2, 0.5f, 0.25f, 0.5f, -0.5f, 1, 0.5f };
    const heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ 1, 4, 1, 1 }),
                     other = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 4, 1, 1), numbers });
    heed_attended a;

    (void)config;
    heed_scope_push(b, "attn");
    a = heed_attention(
        b, x, x, x,
        &(heed_attention_spec){ .in.q2 = other,
                                .in.k2 = other,
                                .in.lambda =
                                    heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 4), numbers + 4 }) });
    heed_scope_pop(b);
    return heed_reshape(b, a.out, 2, (const int64_t[]){ 1, 4 });
}

/* One key, so both weights are 1 and the answer of head h is (1 - lambda_h) x_h: zero without it. */
static void heads_of_differential_attention_are_zeroed_in_both_parts(void **state)
{
    const scratch *s = *state;
    static const double left[4] = { 0.75, 0.5, 1.5, 0 };
    float x[4] = { 1, 2, -1, 3 };
    const int64_t label = 1;
    heed_ablation *a = NULL;
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, s->ctx, differential, NULL, NULL, TOY_ERR));
    TOY_OK(heed_ablate(&a, m, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 4), x }, &label, TOY_ERR));
    assert_int_equal(a->n, 4);
    assert_true(fabs(a->loss_without_all - log(4)) < 1e-6);
    for (int64_t i = 0; i < a->n; i++) {
        double sum = 0, logit[4];

        for (int64_t h = 0; h < 4; h++) {
            logit[h] = h == a->heads[i].head ? 0 : left[h] * (double)x[h];
            sum += exp(logit[h]);
        }
        assert_true(fabs(a->heads[i].loss - (log(sum) - logit[label])) < 1e-6);
    }
    heed_ablation_free(s->ctx, a);
    heed_model_free(m);
}

/* Behind another attention in its scope: "attn#2", whose two parts are the second and the third. */
static heed_value second_differential(heed_builder *b, const heed_value *in, const void *config)
{
    const heed_value x = heed_reshape(b, in[0], 4, (const int64_t[]){ 1, 4, 1, 1 });
    heed_value first;

    heed_scope_push(b, "attn");
    first = heed_reshape(b, heed_attention(b, x, x, x, NULL).out, 2, (const int64_t[]){ 1, 4 });
    heed_scope_pop(b);
    return heed_add(b, heed_mul_scalar(b, first, 0), differential(b, in, config));
}

static void differential_attention_that_is_second_in_its_scope_is_zeroed_in_both_parts_too(void **state)
{
    const scratch *s = *state;
    float x[4] = { 1, 2, -1, 3 };
    const int64_t label = 1;
    heed_ablation *alone = NULL, *second = NULL;
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, s->ctx, differential, NULL, NULL, TOY_ERR));
    TOY_OK(heed_ablate(&alone, m, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 4), x }, &label, TOY_ERR));
    heed_model_free(m);
    TOY_OK(heed_model_new(&m, s->ctx, second_differential, NULL, NULL, TOY_ERR));
    TOY_OK(heed_ablate(&second, m, (heed_tensor){ HEED_TYPE(HEED_F32, 1, 4), x }, &label, TOY_ERR));
    assert_int_equal(second->n, 8);
    for (int64_t i = 0; i < alone->n; i++)
        for (int64_t k = 0; k < second->n; k++)
            if (second->heads[k].attention == 1 && second->heads[k].head == alone->heads[i].head)
                assert_true(fabs(second->heads[k].loss - alone->heads[i].loss) < 1e-6);
    heed_ablation_free(s->ctx, alone);
    heed_ablation_free(s->ctx, second);
    heed_model_free(m);
}

/* ---- refusals, memory ---- */

static heed_value no_attention(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "fc", in[0], 3, NULL);
}

/* Attention whose weights are looked at, and whose result is not used. */
static heed_value unread(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    heed_multihead_attention(b, "attn", heed_reshape(b, in[0], 3, (const int64_t[]){ 1, 2, 2 }), 1, NULL,
                             NULL);
    return heed_linear(b, "fc", in[0], 3, NULL);
}

static heed_value of_rank_three(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_multihead_attention(b, "attn", heed_reshape(b, in[0], 3, (const int64_t[]){ 1, 2, 2 }), 1,
                                    NULL, NULL);
}

static void assert_refused(heed_model *m, heed_tensor x, const int64_t *labels, heed_status code,
                           const char *words)
{
    heed_ablation *a = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_ablate(&a, m, x, labels, &err), code);
    assert_null(a);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void what_cannot_be_ablated_is_refused_with_a_sentence(void **state)
{
    static task t;
    const scratch *s = *state;
    float x[4] = { 1, 2, 3, 4 };
    const heed_tensor small = { HEED_TYPE(HEED_F32, 1, 4), x };
    heed_build_fn *const builds[] = { no_attention, unread, of_rank_three };
    static const char *const words[] = { "this model has no attention", "this model has no attention",
                                         "only a classifier does" };
    heed_tensor batch;

    for (int i = 0; i < 3; i++) {
        heed_model *m = NULL;

        TOY_OK(heed_model_new(&m, s->ctx, builds[i], NULL, NULL, TOY_ERR));
        assert_refused(m, small, NULL, HEED_ERR_SPEC, words[i]);
        heed_model_free(m);
    }
    open_task(&t, s->ctx, 1);
    batch = batch_of(&t);
    t.labels[9] = CLASSES;
    assert_refused(t.m, batch, t.labels, HEED_ERR_USAGE, "sample 9: there is no class 4: classes are 0 to 3");
    t.x[5] = NAN;
    assert_refused(t.m, batch, NULL, HEED_ERR_NUMERIC, "not finite");
    batch.data = NULL;
    assert_refused(t.m, batch, NULL, HEED_ERR_SHAPE, "f32 [samples, ...]");
    heed_model_free(t.m);
}

static heed_status ablation_scenario(heed_context *ctx, void *user, heed_error *err)
{
    static float x[2 * LENGTH];
    heed_ablation *a = NULL;
    heed_model *m = NULL;
    heed_status st = heed_model_new(&m, ctx, planted, NULL, NULL, err);

    (void)user;
    if (st == HEED_OK)
        st = heed_model_edit(m, &(const heed_edit){ .at = "block.1", .head = HEED_EDIT_ONLY(2) }, 1, err);
    if (st == HEED_OK)
        st = heed_ablate(&a, m, (heed_tensor){ HEED_TYPE(HEED_F32, 2, TOKENS, WIDTH), x }, NULL, err);
    heed_ablation_free(ctx, a);
    heed_model_free(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "ablation", .run = ablation_scenario };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls > 50);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FACT(of_a_model_that_needs_two_heads_it_names_these_two),
        FACT(an_effect_is_what_the_edit_of_that_head_does),
        FACT(edits_of_the_model_stay_while_heads_are_zeroed),
        FACT(without_labels_the_loss_is_of_what_the_model_says),
        FACT(heads_of_differential_attention_are_zeroed_in_both_parts),
        FACT(differential_attention_that_is_second_in_its_scope_is_zeroed_in_both_parts_too),
        FACT(what_cannot_be_ablated_is_refused_with_a_sentence),
        FACT(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
