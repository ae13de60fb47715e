/* Plans: sharing memory changes no result, taps change no bit, and what is printed and predicted is true.
 *
 * The proof of memory is by many random graphs: element-wise ops, views, sums and products on values used once or often. Each is
 * run as planned, with every value tapped (so that nothing can be overwritten), and by the reference kernels. */
#include "support/cmocka.h"
#include "support/harness.h"
#include "support/trial.h"
#include "base/rng.h"
#include "graph/op.h"
#include "plan/plan.h"
#include <heed/ops.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static heed_context *ctx;

static int open_context(void **state)
{
    (void)state;
    return heed_context_new(&ctx, &(heed_context_opts){ .threads = 2 }, NULL);
}

static int close_context(void **state)
{
    (void)state;
    heed_context_free(ctx);
    return 0;
}

/* ---- random graphs ---- */

#define RANDOM_VALUES 24
#define RANDOM_GRAPHS 300

typedef struct random_graph {
    uint32_t number, drawn;
    heed_value pool[RANDOM_VALUES + 3];
    int n;
} random_graph;

static uint32_t draw(random_graph *g, uint32_t below)
{
    const rng r = heed__rng(1, g->number, "plan_test");
    return heed__rng_word(&r, 0, g->drawn++) % below;
}

static heed_value any(random_graph *g)
{
    return g->pool[draw(g, (uint32_t)g->n)];
}

/* Another value of this shape, or x itself. */
static heed_value like(random_graph *g, heed_builder *b, heed_value x)
{
    const heed_type type = heed_value_type(b, x);

    for (int tries = 0; tries < 8; tries++) {
        heed_value y = any(g);
        const heed_type other = heed_value_type(b, y);

        if (heed_type_equal(&type, &other))
            return y;
    }
    return x;
}

static heed_value grow_one(random_graph *g, heed_builder *b)
{
    heed_value x = any(g);
    const int rank = heed_rank(b, x);
    const int64_t lines = heed_dim(b, x, 0), columns = rank > 1 ? heed_dim(b, x, 1) : 1;

    switch (draw(g, 14)) {
    case 0:
        return heed_add(b, x, like(g, b, x));
    case 1:
        return heed_mul(b, x, like(g, b, x));
    case 2:
        return heed_sub(b, like(g, b, x), x);
    case 3:
        return heed_tanh(b, x);
    case 4:
        return heed_relu(b, x);
    case 5:
        return heed_neg(b, x);
    case 6:
        return heed_permute(b, x, (int[]){ 1, 0 });
    case 7:
        return heed_reshape(b, x, 2, (int64_t[]){ columns, lines });
    case 8:
        return heed_slice(b, x, 0, lines / 2, -1, 1);
    case 9:
        return heed_slice(b, x, 1, 0, -1, 2);
    case 10:
        return heed_softmax(b, x, 1);
    case 11:
        return heed_broadcast(b, heed_sum(b, x, 2, HEED_KEEP_AXES), 2, (int64_t[]){ lines, columns });
    case 12:
        return heed_tanh(b, heed_matmul(b, x, heed_transpose(b, like(g, b, x), 0, 1)));
    default:
        return heed_select(b, heed_lt(b, x, like(g, b, x)), x, like(g, b, x));
    }
}

static void build_random(heed_builder *b, void *user)
{
    random_graph *g = user;
    heed_value state = heed_state(b, "s", HEED_TYPE(HEED_F32, 6, 8), &(heed_init){ .kind = HEED_INIT_NORMAL, .b = 1 });

    g->drawn = 0;
    g->n = 0;
    g->pool[g->n++] = heed_input(b, "x", HEED_TYPE(HEED_F32, 6, 8));
    g->pool[g->n++] = heed_input(b, "y", HEED_TYPE(HEED_F32, 8, 6));
    g->pool[g->n++] = state;
    while (g->n < RANDOM_VALUES + 3) {
        heed_value v = grow_one(g, b);
        const heed_type type = heed_value_type(b, v);
        char name[16];

        if (heed_type_count(&type) == 0)
            continue;
        g->pool[g->n] = v;
        snprintf(name, sizeof name, "v%d", g->n++);
        heed_tap(b, name, v);
        name[0] = 'o';
        if (draw(g, 6) == 0)
            heed_output(b, name, v);
    }
    heed_output(b, "last", g->pool[g->n - 1]);
    for (int i = g->n; i-- > 3;) { /* the state becomes some value of its type, made from it or not */
        const heed_type type = heed_value_type(b, g->pool[i]), want = heed_value_type(b, state);

        if (heed_type_equal(&type, &want)) {
            heed_assign(b, state, g->pool[i]);
            return;
        }
    }
}

/* Two runs, so that the state of the first is what the second reads. Results of the second, and the state after it. */
static void run_random(random_graph *g, const heed_plan_opts *opts, trial *t)
{
    double x[2][48];
    heed_error err = { 0 };

    for (int i = 0; i < 48; i++) {
        const rng r = heed__rng(2, g->number, "plan_test.x");
        x[0][i] = 2 * (double)heed__unit(heed__rng_word(&r, 0, (uint32_t)i)) - 1;
        x[1][i] = 2 * (double)heed__unit(heed__rng_word(&r, 1, (uint32_t)i)) - 1;
    }
    if (trial_open(t, ctx, build_random, g, opts, &err) != HEED_OK)
        fail_msg("graph %u: %s", (unsigned)g->number, err.text);
    trial_set(t, 0, x[0]);
    trial_set(t, 1, x[1]);
    for (int i = 0; i < 2; i++)
        if (trial_run(t, &err) != HEED_OK)
            fail_msg("graph %u: %s", (unsigned)g->number, err.text);
    assert_string_equal(t->broken, "");
}

static void expect_same_bytes(const random_graph *g, const trial *a, const trial *b, int n)
{
    const heed_tensor s = heed_weights_find(a->weights, "s"), other = heed_weights_find(b->weights, "s");

    for (int i = 0; i < n; i++)
        if (memcmp(a->out[i].tensor.data, b->out[i].tensor.data, a->out[i].bytes) != 0)
            fail_msg("graph %u: output %s differs", (unsigned)g->number, heed_plan_output_name(a->plan, i));
    if (memcmp(s.data, other.data, 48 * sizeof(float)) != 0)
        fail_msg("graph %u: the state differs", (unsigned)g->number);
}

static void sharing_memory_changes_no_result(void **state)
{
    static random_graph g;
    static trial planned, apart;
    int64_t in_place = 0, saved = 0;

    (void)state;
    for (g.number = 0; g.number < RANDOM_GRAPHS; g.number++) {
        run_random(&g, NULL, &planned);
        run_random(&g, &(heed_plan_opts){ .taps = (const char *const[]){ "v*", NULL } }, &apart);
        expect_same_bytes(&g, &planned, &apart, planned.n_out);
        in_place += heed_plan_describe(planned.plan).in_place;
        saved += heed_plan_describe(planned.plan).block_bytes < heed_plan_describe(planned.plan).sum_bytes;
        trial_close(&planned);
        trial_close(&apart);
    }
    assert_true(in_place > RANDOM_GRAPHS); /* it does happen */
    assert_true(saved > RANDOM_GRAPHS / 2);
}

static void fast_kernels_agree_with_the_reference(void **state)
{
    static random_graph g;
    static trial fast, reference;
    double *got = trial_memory(4096, sizeof *got), *want = trial_memory(4096, sizeof *want);

    (void)state;
    for (g.number = 0; g.number < RANDOM_GRAPHS / 3; g.number++) {
        run_random(&g, NULL, &fast);
        run_random(&g, &(heed_plan_opts){ .kernels = HEED_KERNELS_REFERENCE }, &reference);
        for (int i = 0; i < fast.n_out; i++) {
            const heed_type *type = &fast.out[i].tensor.type;

            trial_get(&fast, i, got);
            trial_get(&reference, i, want);
            if (!(harness_share(type, got, want, 1e-4, 1e-3) <= 1)) /* two runs of 24 ops: a little wider than for one */
                fail_msg("graph %u: output %s differs", (unsigned)g.number, heed_plan_output_name(fast.plan, i));
        }
        trial_close(&fast);
        trial_close(&reference);
    }
    free(got);
    free(want);
}

static void what_lay_in_the_block_before_does_not_matter(void **state)
{
    static random_graph g = { .number = 1000 };
    static trial a, b;
    heed_error err = { 0 };

    (void)state;
    run_random(&g, NULL, &a);
    run_random(&g, NULL, &b);
    a.pattern = 0;
    b.pattern = 0x7F;
    assert_int_equal(trial_run(&a, &err), HEED_OK);
    assert_int_equal(trial_run(&b, &err), HEED_OK);
    expect_same_bytes(&g, &a, &b, a.n_out);
    trial_close(&a);
    trial_close(&b);
}

/* ---- taps ---- */

static void maybe_tap(heed_builder *b, const char *name, heed_value v, const void *untapped)
{
    if (!untapped)
        heed_tap(b, name, v);
}

static void build_tapped(heed_builder *b, void *untapped)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4, 8)), h;

    heed_scope_push(b, "encoder");
    h = heed_exp(b, x);
    maybe_tap(b, "a", h, untapped);
    h = heed_tanh(b, h);
    maybe_tap(b, "b", h, untapped);
    heed_scope_pop(b);
    h = heed_softmax(b, h, 1);
    maybe_tap(b, "weights", h, untapped);
    heed_output(b, "y", heed_mul(b, h, h));
}

static void expect_outputs(const char *const *taps, int n, const char *const *names)
{
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, ctx, build_tapped, NULL, &(heed_plan_opts){ .taps = taps }, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_int_equal(t.n_out, n);
    for (int i = 0; i < n; i++)
        assert_string_equal(heed_plan_output_name(t.plan, i), names[i]);
    trial_close(&t);
}

static void taps_come_after_the_outputs(void **state)
{
    (void)state;
    expect_outputs(NULL, 1, (const char *const[]){ "y" });
    expect_outputs((const char *const[]){ "weights", NULL }, 2, (const char *const[]){ "y", "weights" });
    expect_outputs((const char *const[]){ "encoder.*", NULL }, 3, (const char *const[]){ "y", "encoder.a", "encoder.b" });
    expect_outputs((const char *const[]){ "*", NULL }, 4, (const char *const[]){ "y", "encoder.a", "encoder.b", "weights" });
}

static void a_tap_that_is_not_there_is_refused_by_name(void **state)
{
    heed_error err = { 0 };
    trial t;

    (void)state;
    assert_int_equal(trial_open(&t, ctx, build_tapped, NULL, &(heed_plan_opts){ .taps = (const char *const[]){ "decoder.*", NULL } }, &err),
                     HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "there is no tap \"decoder.*\""));
}

static void an_untapped_value_costs_nothing(void **state)
{
    heed_error err = { 0 };
    trial plain, none, tapped;
    heed_plan_report p, n, all;

    (void)state;
    assert_int_equal(trial_open(&plain, ctx, build_tapped, NULL, NULL, &err), HEED_OK);
    assert_int_equal(trial_open(&none, ctx, build_tapped, &none, NULL, &err), HEED_OK);
    assert_int_equal(trial_open(&tapped, ctx, build_tapped, NULL, &(heed_plan_opts){ .taps = (const char *const[]){ "*", NULL } }, &err), HEED_OK);
    p = heed_plan_describe(plain.plan);
    n = heed_plan_describe(none.plan);
    all = heed_plan_describe(tapped.plan);
    assert_memory_equal(&p, &n, sizeof p);
    assert_int_equal(p.steps, 4);
    assert_int_equal(p.in_place, 3);
    assert_int_equal(all.in_place, 0);
    assert_int_equal(all.block_bytes - p.block_bytes, 3 * 128); /* four values of 128 bytes instead of one */
    trial_close(&plain);
    trial_close(&none);
    trial_close(&tapped);
}

/* ---- what is said about a plan ---- */

static void a_printed_plan_names_kernels_and_bytes(void **state)
{
    heed_error err = { 0 };
    char *printed = NULL, block[100];
    trial t;

    (void)state;
    assert_int_equal(trial_open(&t, ctx, build_tapped, NULL, NULL, &err), HEED_OK);
    assert_int_equal(heed_plan_print(&printed, t.plan, &err), HEED_OK);
    assert_non_null(strstr(printed, "2 threads, 5 nodes, 4 steps, 0 copies, 3 in place"));
    snprintf(block, sizeof block, "block %llu bytes (%llu without sharing)", (unsigned long long)heed_plan_describe(t.plan).block_bytes,
             (unsigned long long)heed_plan_describe(t.plan).sum_bytes);
    assert_non_null(strstr(printed, block));
    assert_non_null(strstr(printed, "softmax"));
    assert_non_null(strstr(printed, "rows"));
    assert_non_null(strstr(printed, "@encoder"));
    heed_text_free(ctx, printed);
    trial_close(&t);
}

static void dead_nodes_are_not_planned_but_inputs_are(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4));

    (void)user;
    heed_input(b, "unused", HEED_TYPE(HEED_F32, 2));
    heed_exp(b, x);
    heed_output(b, "y", heed_neg(b, x));
}

static void what_nobody_uses_is_left_out(void **state)
{
    heed_error err = { 0 };
    trial t;

    (void)state;
    assert_int_equal(trial_open(&t, ctx, dead_nodes_are_not_planned_but_inputs_are, NULL, NULL, &err), HEED_OK);
    assert_int_equal(heed_plan_describe(t.plan).steps, 1);
    assert_int_equal(t.n_in, 2);
    assert_string_equal(heed_plan_input_name(t.plan, 1), "unused");
    assert_string_equal(heed_plan_input_name(t.plan, 2), "");
    assert_string_equal(heed_plan_output_name(t.plan, -1), "");
    trial_close(&t);
}

static void build_views(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4, 6));
    heed_value turned = heed_permute(b, x, (int[]){ 1, 0 }), column = heed_slice(b, turned, 1, 0, 1, 1);

    (void)user;
    heed_output(b, "y", heed_add(b, turned, heed_broadcast(b, column, 2, (int64_t[]){ 6, 4 })));
}

static void views_are_aliased_and_not_copied(void **state)
{
    heed_error err = { 0 };
    double x[24], y[24];
    trial t;

    (void)state;
    assert_int_equal(trial_open(&t, ctx, build_views, NULL, NULL, &err), HEED_OK);
    assert_int_equal(heed_plan_describe(t.plan).copies, 0);
    assert_int_equal(heed_plan_describe(t.plan).steps, 1);
    for (int i = 0; i < 24; i++)
        x[i] = i;
    trial_set(&t, 0, x);
    assert_int_equal(trial_run(&t, &err), HEED_OK);
    trial_get(&t, 0, y);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 4; j++)
            assert_true(y[4 * i + j] == x[6 * j + i] + x[i]);
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing_memory_changes_no_result),
        cmocka_unit_test(fast_kernels_agree_with_the_reference),
        cmocka_unit_test(what_lay_in_the_block_before_does_not_matter),
        cmocka_unit_test(taps_come_after_the_outputs),
        cmocka_unit_test(a_tap_that_is_not_there_is_refused_by_name),
        cmocka_unit_test(an_untapped_value_costs_nothing),
        cmocka_unit_test(a_printed_plan_names_kernels_and_bytes),
        cmocka_unit_test(what_nobody_uses_is_left_out),
        cmocka_unit_test(views_are_aliased_and_not_copied),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
