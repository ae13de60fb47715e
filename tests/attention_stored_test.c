/* Gradients from what an earlier run stored: the bytes of one graph, without a forward pass in the other. */
#include "base/error.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include "support/trial.h"
#include <heed/attention.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, HEADS = 4, KEY_HEADS = 2, TQ = 150, TK = 170, D = 24, DV = 20 };

/* What the gradient is taken of, and the inputs besides q, k and v. */
typedef struct cell {
    const char *name;
    heed_attention_spec spec;
    bool bias, sink, lengths, dlse, dweights;
    float scale; /* of q and k; 0: 1 */
} cell;

static const cell cells[] = {
    { .name = "plain", .dlse = true },
    { .name = "causal, a sink", .spec = { .mask.causal = true }, .sink = true },
    { .name = "a window, bias, softcap", .spec = { .mask.window = { true, 40, 5 }, .softcap = 3 }, .bias = true },
    { .name = "lengths, empty rows", .spec = { .mask.causal = true, .offset = HEED_SET(-5) }, .lengths = true, .dlse = true },
    { .name = "dropout", .spec = { .combine.dropout = { 0.2, "drop", HEED_SET(3) } } },
    { .name = "cosine, rope", .spec = { .score.kind = HEED_SCORE_COSINE, .position.rope.on = true } },
    { .name = "weights too: by rows", .spec = { .mask.causal = true }, .dweights = true },
    { .name = "logits of ten thousand", .spec = { .score.kind = HEED_SCORE_DOT }, .scale = 30 },
};
enum { CELLS = sizeof cells / sizeof *cells, GRADS = 5 };

typedef enum form { FORWARD, GRADIENT, BOTH } form;

typedef struct asked {
    const cell *cell;
    form form;
    bool keeps; /* FORWARD, BOTH: out, lse and lse_rest are put out */
} asked;

static heed_value put(heed_builder *b, const char *name, heed_dtype dtype, int64_t h, int64_t t, int64_t w)
{
    return heed_input(b, name, w ? HEED_TYPE(dtype, B, h, t, w) : HEED_TYPE(dtype, B, h, t));
}

static void build(heed_builder *b, void *user)
{
    const asked *a = user;
    const cell *c = a->cell;
    heed_attention_spec s = c->spec;
    heed_value by[GRADS] = { put(b, "q", HEED_F32, HEADS, TQ, D), put(b, "k", HEED_F32, KEY_HEADS, TK, D),
                             put(b, "v", HEED_F32, KEY_HEADS, TK, DV) },
               y[3], dy[3], d[GRADS];
    heed_attended got;
    int n = 3, n_y = 0;

    if (c->bias)
        by[n++] = s.in.bias = heed_input(b, "bias", HEED_TYPE(HEED_F32, 1, HEADS, TQ, TK));
    if (c->sink)
        by[n++] = s.in.sink = heed_input(b, "sink", HEED_TYPE(HEED_F32, HEADS));
    if (c->lengths) {
        s.in.lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, B));
        s.in.q_lengths = heed_input(b, "q_lengths", HEED_TYPE(HEED_I64, B));
    }
    if (c->spec.combine.dropout.p > 0)
        s.in.rng = heed_input(b, "rng", HEED_TYPE(HEED_I64, 2));
    if (a->form == GRADIENT) {
        s.stored.out = put(b, "out", HEED_F32, HEADS, TQ, DV);
        s.stored.lse = put(b, "lse", HEED_F32, HEADS, TQ, 0);
        s.stored.lse_rest = put(b, "lse_rest", HEED_F32, HEADS, TQ, 0);
    }
    got = heed_attention(b, by[0], by[1], by[2], &s);
    if (a->keeps) {
        heed_output(b, "out", got.out);
        heed_output(b, "lse", got.lse);
        heed_output(b, "lse_rest", got.lse_rest);
    }
    if (a->form == FORWARD)
        return;
    y[n_y] = got.out;
    dy[n_y++] = put(b, "dout", HEED_F32, HEADS, TQ, DV);
    if (c->dlse) {
        y[n_y] = got.lse;
        dy[n_y++] = put(b, "dlse", HEED_F32, HEADS, TQ, 0);
    }
    if (c->dweights) {
        y[n_y] = got.weights;
        dy[n_y++] = put(b, "dweights", HEED_F32, HEADS, TQ, TK);
    }
    heed_grad_of(b, y, dy, n_y, by, n, d);
    for (int i = 0; i < n; i++)
        heed_output(b, (const char *[]){ "d0", "d1", "d2", "d3", "d4" }[i], d[i]);
}

/* Number i of an input: by its name, so that all forms have the same. */
static double number_of(const cell *c, const char *name, int64_t i)
{
    const uint32_t mixed = ((uint32_t)name[0] * 40503u + (uint32_t)strlen(name) * 977u + (uint32_t)i) * 2654435761u;
    const double x = (double)((mixed ^ mixed >> 15) >> 8) * 0x1p-23 - 1;

    if (strcmp(name, "lengths") == 0)
        return (double)(TK - 3 - 60 * i);
    if (strcmp(name, "q_lengths") == 0)
        return (double)(TQ - 7 * i);
    if (strcmp(name, "rng") == 0)
        return i ? 3 : 77;
    return c->scale > 0 && (name[0] == 'q' || name[0] == 'k') ? x * (double)c->scale : x;
}

static int output_of(const trial *t, const char *name)
{
    for (int i = 0; i < t->n_out; i++)
        if (strcmp(heed_plan_output_name(t->plan, i), name) == 0)
            return i;
    return -1;
}

static int steps_of(const trial *t, const char *op)
{
    int n = 0;

    for (int64_t i = 0; i < heed_plan_steps(t->plan); i++)
        n += strcmp(heed_plan_step_at(t->plan, i).op, op) == 0;
    return n;
}

/* Opens and runs; what has the name of a result of `before` is that result. */
static void go(trial *t, heed_context *ctx, asked *a, const trial *before)
{
    TOY_OK(trial_open(t, ctx, build, a, NULL, TOY_ERR));
    for (int i = 0; i < t->n_in; i++) {
        const heed_tensor *x = &t->in[i].tensor;
        const char *name = heed_plan_input_name(t->plan, i);
        const int64_t n = heed_type_count(&x->type);
        const int from = before ? output_of(before, name) : -1;

        if (from >= 0)
            memcpy(x->data, before->out[from].tensor.data, before->out[from].bytes);
        for (int64_t k = 0; from < 0 && k < n; k++)
            if (x->type.dtype == HEED_I64)
                ((int64_t *)x->data)[k] = (int64_t)number_of(a->cell, name, k);
            else
                ((float *)x->data)[k] = (float)number_of(a->cell, name, k);
    }
    TOY_OK(trial_run(t, TOY_ERR));
    assert_string_equal(t->broken, "");
}

static void stored_results_give_the_bytes_of_one_graph_without_a_forward_pass(void **state)
{
    const int threads[] = { 1, 3 };

    (void)state;
    for (size_t c = 0; c < CELLS; c++)
        for (int k = 0; k < 2; k++) {
            heed_context *ctx = toy_context(threads[k], HEED_ISA_AUTO);
            trial one, before, after;

            go(&one, ctx, &(asked){ &cells[c], BOTH, false }, NULL);
            go(&before, ctx, &(asked){ &cells[c], FORWARD, true }, NULL);
            go(&after, ctx, &(asked){ &cells[c], GRADIENT, false }, &before);
            assert_int_equal(steps_of(&one, "attention"), 1);
            assert_int_equal(steps_of(&after, "attention"), 0);
            assert_int_equal(steps_of(&after, "attention_grad"), 1);
            assert_int_equal(one.n_out, after.n_out);
            for (int i = 0; i < one.n_out; i++)
                if (memcmp(one.out[i].tensor.data, after.out[i].tensor.data, one.out[i].bytes) != 0)
                    fail_msg("%s: gradient %d has other bytes", cells[c].name, i);
            trial_close(&one);
            trial_close(&before);
            trial_close(&after);
            heed_context_free(ctx);
        }
}

static void what_is_stored_is_used_and_not_computed_again(void **state)
{
    const scratch *s = *state;
    trial before, after;
    asked a = { &cells[0], GRADIENT, false };

    go(&before, s->ctx, &(asked){ &cells[0], FORWARD, true }, NULL);
    float *lse = before.out[output_of(&before, "lse")].tensor.data;
    for (int64_t i = 0; i < B * HEADS * TQ; i++)
        lse[i] = INFINITY; /* every weight is 0 then */
    go(&after, s->ctx, &a, &before);
    for (int i = 0; i < after.n_out; i++)
        for (int64_t k = 0; k < heed_type_count(&after.out[i].tensor.type); k++)
            assert_true(((const float *)after.out[i].tensor.data)[k] == 0);
    trial_close(&before);
    trial_close(&after);
}

/* Cells whose gradient is made of whole rows of weights: nothing of a forward pass goes into it, stored or not. */
static void sparse_rows_need_no_forward_pass_for_their_gradient(void **state)
{
    static const cell rows[] = {
        { .name = "sparsemax", .spec = { .normaliser.kind = HEED_NORMALISER_SPARSEMAX } },
        { .name = "topk", .spec = { .normaliser = { .kind = HEED_NORMALISER_TOPK, .k = 5 } } },
        { .name = "distance", .spec = { .score.kind = HEED_SCORE_NEG_SQ_DISTANCE } },
    };
    const scratch *s = *state;

    for (size_t c = 0; c < sizeof rows / sizeof *rows; c++) {
        trial t;

        go(&t, s->ctx, &(asked){ &rows[c], BOTH, false }, NULL);
        assert_int_equal(steps_of(&t, "attention"), 0);
        assert_int_equal(steps_of(&t, "attention_grad"), 1);
        trial_close(&t);
    }
}

/* ---- refusals ---- */

typedef struct wrong {
    heed_attention_spec spec;
    bool out, lse, rest, gate, wide; /* which are given; wide: out has another width */
    heed_status code;
    const char *says;
} wrong;

static void build_wrong(heed_builder *b, void *user)
{
    const wrong *w = user;
    heed_attention_spec s = w->spec;
    const heed_value q = put(b, "q", HEED_F32, HEADS, 5, 4), k = put(b, "k", HEED_F32, HEADS, 6, 4);

    if (w->out)
        s.stored.out = put(b, "out", HEED_F32, HEADS, 5, w->wide ? 3 : 4);
    if (w->lse)
        s.stored.lse = put(b, "lse", HEED_F32, HEADS, 5, 0);
    if (w->rest)
        s.stored.lse_rest = put(b, "lse_rest", HEED_F32, HEADS, 5, 0);
    if (w->gate)
        s.in.gate = put(b, "gate", HEED_F32, HEADS, 5, 4);
    heed_output(b, "y", heed_attention(b, q, k, k, &s).out);
}

static void what_cannot_be_stored_is_refused_with_a_sentence(void **state)
{
    static const wrong cases[] = {
        { .out = true, .lse = true, .code = HEED_ERR_SPEC, .says = "stored needs the tensor stored.lse_rest" },
        { .rest = true, .code = HEED_ERR_SPEC, .says = "stored needs the tensor stored.out" },
        { .out = true, .lse = true, .rest = true, .gate = true, .code = HEED_ERR_SPEC,
          .says = "stored serves softmax of products without gate" },
        { .spec.normaliser.kind = HEED_NORMALISER_SPARSEMAX, .out = true, .lse = true, .rest = true,
          .code = HEED_ERR_SPEC, .says = "leave it out" },
        { .out = true, .lse = true, .rest = true, .wide = true, .code = HEED_ERR_SHAPE,
          .says = "stored.out does not have the type of out" },
    };
    const scratch *s = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wrong w = cases[i];
        heed_error err = { 0 };
        trial t;

        assert_int_equal(trial_open(&t, s->ctx, build_wrong, &w, NULL, &err), w.code);
        if (!strstr(err.text, w.says))
            fail_msg("case %zu: %s", i, err.text);
    }
}

static void only_what_a_gradient_is_made_from_has_a_rest(void **state)
{
    const scratch *s = *state;
    const struct {
        heed_attention_spec spec;
        bool rest;
    } of[] = { { .rest = true },
               { .spec.score.kind = HEED_SCORE_COSINE, .rest = true },
               { .spec.normaliser = { .kind = HEED_NORMALISER_TOPK, .k = 2 } },
               { .spec.score.kind = HEED_SCORE_NEG_DISTANCE },
               { .spec.normaliser.kind = HEED_NORMALISER_LINEAR } };

    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        heed_builder *b = NULL;

        TOY_OK(heed_builder_new(&b, s->ctx, TOY_ERR));
        const heed_value q = put(b, "q", HEED_F32, HEADS, 5, 4);
        assert_int_equal(heed_attention(b, q, q, q, &of[i].spec).lse_rest.id != 0, of[i].rest);
        heed_builder_free(b);
    }
}

/* ---- faults ---- */

static heed_status run_once(heed_context *ctx, void *user, heed_error *err)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_status st;

    STEP(heed_builder_new(&b, ctx, err));
    build(b, user);
    STEP(heed_builder_finish(&g, b, err));
    STEP(heed_plan_new(&p, ctx, g, NULL, err));
done:
    heed_plan_free(p);
    heed_graph_free(g);
    heed_builder_free(b);
    return st;
}

static void every_allocation_of_a_gradient_from_stored_results_may_fail(void **state)
{
    heed_fail_report report;
    asked a = { &cells[0], GRADIENT, false };

    (void)state;
    assert_true(heed_fail_each(&(heed_scenario){ .name = "stored", .run = run_once }, &a, &report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_results_give_the_bytes_of_one_graph_without_a_forward_pass),
        cmocka_unit_test(what_is_stored_is_used_and_not_computed_again),
        cmocka_unit_test(sparse_rows_need_no_forward_pass_for_their_gradient),
        cmocka_unit_test(what_cannot_be_stored_is_refused_with_a_sentence),
        cmocka_unit_test(only_what_a_gradient_is_made_from_has_a_rest),
        cmocka_unit_test(every_allocation_of_a_gradient_from_stored_results_may_fail),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
