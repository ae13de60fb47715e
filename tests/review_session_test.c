/* Sessions and models under change: more shapes than plans are kept, blocks that grow, allocations that fail in between, contexts side by
 * side, memory of the caller at odd places. */
#include "base/context.h"
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <heed/attention.h>
#include <heed/nn.h>
#include <heed/ops.h>

#include <math.h>
#include <pthread.h>
#include <string.h>

#define WIDTH 5
#define ROWS_MOST 40

static int setup(void **state)
{
    return heed_context_new((heed_context **)state, &(heed_context_opts){ .threads = 3 }, NULL);
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

static void ok(heed_status st, const heed_error *err)
{
    if (st != HEED_OK)
        fail_msg("%d: %s", (int)st, err->text);
}

static heed_value net(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_softmax(b, heed_linear(b, "out", heed_gelu(b, heed_linear(b, "in", in[0], 17, NULL)), 3, NULL), -1);
}

typedef struct shape_run {
    float x[ROWS_MOST * WIDTH], y[ROWS_MOST * 3];
} shape_run;

static void fill(shape_run *r, int rows)
{
    for (int i = 0; i < rows * WIDTH; i++)
        r->x[i] = (float)((i * 37 + rows * 11) % 101) / 50 - 1;
    memset(r->y, 0, sizeof r->y);
}

static heed_status run_rows(heed_model *m, shape_run *r, int rows, heed_error *err)
{
    const heed_tensor x = { HEED_TYPE(HEED_F32, rows, WIDTH), r->x }, y = { HEED_TYPE(HEED_F32, rows, 3), r->y };

    return heed_model_run(m, &x, 1, &y, 1, err);
}

static void more_shapes_than_plans_change_no_bit(void **state)
{
    for (int plans = 1; plans <= 8; plans += 7) {
        heed_model *m = NULL;
        heed_error err = { 0 };

        ok(heed_model_new(&m, *state, net, NULL, &(heed_model_opts){ .seed = 3, .plans = plans }, &err), &err);
        for (int turn = 0; turn < 60; turn++) {
            const int rows = 1 + turn * 7 % 19 * 2;
            shape_run kept, fresh;
            heed_model *alone = NULL;

            fill(&kept, rows);
            fill(&fresh, rows);
            ok(run_rows(m, &kept, rows, &err), &err);
            ok(heed_model_new(&alone, *state, net, NULL, &(heed_model_opts){ .seed = 3 }, &err), &err);
            ok(run_rows(alone, &fresh, rows, &err), &err);
            assert_memory_equal(kept.y, fresh.y, sizeof kept.y);
            heed_model_free(alone);
        }
        heed_model_free(m);
    }
}

static void a_shape_that_fails_leaves_the_others_as_they_were(void **state)
{
    heed_context *ctx = *state;
    heed_model *m = NULL;
    heed_error err = { 0 };
    shape_run first, again, other;
    bool done = false;

    ok(heed_model_new(&m, ctx, net, NULL, &(heed_model_opts){ .seed = 3, .plans = 2 }, &err), &err);
    fill(&first, 4);
    ok(run_rows(m, &first, 4, &err), &err);
    for (uint64_t n = 1; !done; n++) {
        heed_status st;

        fill(&other, 5 + (int)(n % 30));
        heed__heap_fail_at(ctx->heap, n, false);
        err = (heed_error){ 0 };
        st = run_rows(m, &other, 5 + (int)(n % 30), &err);
        heed__heap_fail_at(ctx->heap, 0, false);
        if (st != HEED_OK)
            assert_int_equal(st, HEED_ERR_MEMORY);
        else if (n > 3000)
            done = true;
        err = (heed_error){ 0 };
        fill(&again, 4);
        ok(run_rows(m, &again, 4, &err), &err);
        assert_memory_equal(again.y, first.y, sizeof first.y);
        n += n / 40;
    }
    heed_model_free(m);
}

/* ---- sessions ---- */

static heed_plan *plan_of(heed_context *ctx, int rows)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_error err = { 0 };
    heed_value x;

    ok(heed_builder_new(&b, ctx, &err), &err);
    x = heed_input(b, "x", HEED_TYPE(HEED_F32, rows, WIDTH));
    heed_output(b, "y", net(b, &x, NULL));
    ok(heed_builder_finish(&g, b, &err), &err);
    heed_builder_free(b);
    ok(heed_plan_new(&p, ctx, g, NULL, &err), &err);
    heed_graph_free(g);
    return p;
}

static void run_plan(heed_session *s, int id, shape_run *r, int rows)
{
    const heed_tensor x = { HEED_TYPE(HEED_F32, rows, WIDTH), r->x }, y = { HEED_TYPE(HEED_F32, rows, 3), r->y };
    heed_error err = { 0 };

    ok(heed_session_run(s, id, &x, 1, &y, 1, &err), &err);
}

static void plans_come_and_go_while_the_block_grows(void **state)
{
    heed_plan *plans[8];
    shape_run want[8], got;
    heed_weights *w = NULL;
    heed_session *s = NULL;
    heed_error err = { 0 };
    int ids[8];

    ok(heed_weights_new(&w, *state, &err), &err);
    ok(heed_session_new(&s, *state, w, NULL, &err), &err);
    for (int i = 0; i < 8; i++) {
        plans[i] = plan_of(*state, 1 + 5 * i);
        ok(heed_session_add(s, plans[i], &ids[i], &err), &err);
        fill(&want[i], 1 + 5 * i);
        run_plan(s, ids[i], &want[i], 1 + 5 * i);
        for (int j = 0; j <= i; j++) {
            fill(&got, 1 + 5 * j);
            run_plan(s, ids[j], &got, 1 + 5 * j);
            assert_memory_equal(got.y, want[j].y, sizeof got.y);
        }
    }
    for (int i = 0; i < 8; i += 2) {
        heed_session_remove(s, ids[i]);
        heed_plan_free(plans[i]);
    }
    heed_session_remove(s, ids[0]); /* twice */
    heed_session_remove(s, -1);
    heed_session_remove(s, 99);
    assert_int_equal(heed_session_run(s, ids[0], NULL, 0, NULL, 0, &err), HEED_ERR_USAGE);
    for (int i = 0; i < 8; i += 2) {
        plans[i] = plan_of(*state, 1 + 5 * i);
        ok(heed_session_add(s, plans[i], &ids[i], &err), &err);
    }
    for (int i = 0; i < 8; i++) {
        fill(&got, 1 + 5 * i);
        run_plan(s, ids[i], &got, 1 + 5 * i);
        assert_memory_equal(got.y, want[i].y, sizeof got.y);
    }
    heed_session_free(s);
    for (int i = 0; i < 8; i++)
        heed_plan_free(plans[i]);
    heed_weights_free(w);
}

static void memory_of_the_caller_may_lie_anywhere_and_be_the_same(void **state)
{
    static _Alignas(64) float room[ROWS_MOST * WIDTH * 2];
    heed_plan *p = plan_of(*state, 33);
    heed_weights *w = NULL;
    heed_session *s = NULL;
    heed_error err = { 0 };
    shape_run want;
    int id;

    ok(heed_weights_new(&w, *state, &err), &err);
    ok(heed_session_new(&s, *state, w, NULL, &err), &err);
    ok(heed_session_add(s, p, &id, &err), &err);
    fill(&want, 33);
    run_plan(s, id, &want, 33);
    for (int shift = 0; shift < 9; shift++) {
        const heed_tensor x = { HEED_TYPE(HEED_F32, 33, WIDTH), room + shift }, y = { HEED_TYPE(HEED_F32, 33, 3), room + shift };

        memcpy(room + shift, want.x, sizeof(float) * 33 * WIDTH);
        ok(heed_session_run(s, id, &x, 1, &y, 1, &err), &err);
        assert_memory_equal(room + shift, want.y, sizeof(float) * 33 * 3);
    }
    heed_session_free(s);
    heed_plan_free(p);
    heed_weights_free(w);
}

/* ---- what a search for the first bad value leaves ---- */

static void build_cache(heed_builder *b, void *user)
{
    heed_value cache = heed_state(b, "cache", HEED_TYPE(HEED_F32, 4, 2), NULL);
    heed_value row = heed_input(b, "row", HEED_TYPE(HEED_F32, 1, 2));
    heed_value start = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 1, 0 } });
    heed_value next = heed_update_slice(b, cache, row, start);

    (void)user;
    heed_assign(b, cache, next);
    heed_scope_push(b, "root");
    heed_output(b, "y", heed_sqrt(b, heed_slice(b, next, 0, 1, 2, 1)));
    heed_scope_pop(b);
}

static void a_search_sees_what_a_written_state_holds_and_changes_nothing(void **state)
{
    heed_error err = { 0 };
    float before[8];
    heed_tensor in, cache;
    trial t;

    ok(trial_open(&t, *state, build_cache, NULL, NULL, &err), &err);
    trial_set(&t, 0, (const double[]){ -4, 9 });
    in = t.in[0].tensor;
    cache = heed_weights_find(t.weights, "cache");
    for (int i = 0; i < 8; i++)
        ((float *)cache.data)[i] = (float)i + 1;
    memcpy(before, cache.data, sizeof before);
    assert_int_equal(heed_session_find_bad(t.session, t.id, &in, 1, &err), HEED_ERR_NUMERIC);
    assert_string_equal(err.path, "root");
    assert_memory_equal(cache.data, before, sizeof before);
    trial_set(&t, 0, (const double[]){ 4, 9 });
    err = (heed_error){ 0 };
    ok(heed_session_find_bad(t.session, t.id, &in, 1, &err), &err);
    assert_memory_equal(cache.data, before, sizeof before);
    trial_close(&t);
}

/* Two sequences of four tokens, of which 3 and 0 are kept, so that scores hold -inf and a row keeps nothing; a gradient too.
 * user: what happens to the result. */
static void build_masked(heed_builder *b, void *user)
{
    heed_value (*const then)(heed_builder *, heed_value) = *(heed_value(**)(heed_builder *, heed_value))user;
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 1, 4, 2)), n = heed_input(b, "n", HEED_TYPE(HEED_I64, 2)), y, dx;

    heed_scope_push(b, "attn");
    y = heed_attention(b, x, x, x, &(heed_attention_spec){ .in.lengths = n, .mask.causal = true }).out;
    heed_scope_pop(b);
    heed_scope_push(b, "by_hand");
    y = heed_add(b, y, heed_matmul(b, heed_softmax(b, heed_add(b, heed_matmul(b, x, heed_transpose(b, x, 2, 3)),
        heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 4), (float[]){ 0, 0, -INFINITY, -INFINITY } })), 3), x));
    heed_scope_pop(b);
    heed_scope_push(b, "end");
    y = heed_sum(b, then(b, y), HEED_ALL_AXES, HEED_DROP_AXES);
    heed_scope_pop(b);
    heed_grad(b, y, &x, 1, &dx);
    heed_output(b, "y", y);
    heed_output(b, "dx", dx);
}

static heed_value as_it_is(heed_builder *b, heed_value y)
{
    (void)b;
    return y;
}

static heed_value ln_of_zero(heed_builder *b, heed_value y)
{
    return heed_log(b, heed_mul_scalar(b, y, 0));
}

static heed_value far_too_large(heed_builder *b, heed_value y)
{
    return heed_mul_scalar(b, heed_abs(b, y), -3e38);
}

static void scores_that_a_mask_takes_out_are_no_fault_and_others_are(void **state)
{
    static const struct {
        heed_value (*then)(heed_builder *, heed_value);
        const char *text; /* NULL: nothing is bad */
    } cases[] = { { as_it_is, NULL },
                  { ln_of_zero, "log in \"end\"" },
                  { far_too_large, "mul in \"end\"" } };

    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const heed_plan_opts by = { .kernels = i % 2 ? HEED_KERNELS_REFERENCE : HEED_KERNELS_FAST };
        const double x[16] = { 3, -2, 1, 4, -5, 2, 8, 1, 1, 2, -3, 1, 2, 2, -1, 4 };
        heed_tensor in[2];
        heed_error err = { 0 };
        trial t;

        ok(trial_open(&t, *state, build_masked, (void *)(uintptr_t)&cases[i / 2].then, &by, &err), &err);
        trial_set(&t, 0, x);
        trial_set(&t, 1, (const double[]){ 3, 0 });
        in[0] = t.in[0].tensor;
        in[1] = t.in[1].tensor;
        if (!cases[i / 2].text) {
            ok(heed_session_find_bad(t.session, t.id, in, 2, &err), &err);
        } else {
            assert_int_equal(heed_session_find_bad(t.session, t.id, in, 2, &err), HEED_ERR_NUMERIC);
            if (!strstr(err.text, cases[i / 2].text))
                fail_msg("case %d: %s", (int)i, err.text);
        }
        trial_close(&t);
    }
}

/* ---- faults ---- */

static void build_gather(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 7, 600)), index = heed_input(b, "index", HEED_TYPE(HEED_I64, 2000));

    (void)user;
    heed_output(b, "y", heed_gather(b, heed_relu(b, x), index, 0));
}

static void the_lowest_bad_element_is_named_by_any_number_of_threads(void **state)
{
    static double x[7 * 600], index[2000];
    char first[sizeof(((heed_error *)0)->text)] = "";

    (void)state;
    for (int threads = 1; threads <= 7; threads += 3) {
        heed_context *ctx = NULL;
        heed_error err = { 0 };
        trial t;

        for (int i = 0; i < 2000; i++)
            index[i] = i < 901 ? i % 7 : 7 + i;
        ok(heed_context_new(&ctx, &(heed_context_opts){ .threads = threads }, &err), &err);
        ok(trial_open(&t, ctx, build_gather, NULL, NULL, &err), &err);
        trial_set(&t, 0, x);
        trial_set(&t, 1, index);
        for (int turn = 0; turn < 20; turn++) {
            err = (heed_error){ 0 };
            assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
            assert_non_null(strstr(err.text, "901"));
            if (first[0])
                assert_string_equal(err.text, first);
            memcpy(first, err.text, sizeof first);
        }
        for (int i = 0; i < 2000; i++)
            index[i] = i % 7;
        trial_set(&t, 1, index);
        err = (heed_error){ 0 };
        ok(trial_run(&t, &err), &err);
        trial_close(&t);
        heed_context_free(ctx);
    }
}

/* ---- two contexts ---- */

typedef struct trainer_thread {
    pthread_t thread;
    int threads;
    char digest[65];
} trainer_thread;

static void *train(void *user)
{
    trainer_thread *t = user;
    heed_context *ctx = toy_context(t->threads, HEED_ISA_AUTO);

    toy_train_digest(t->digest, ctx, toy_conv_attention_build(), &toy_conv_attention, 6);
    heed_context_free(ctx);
    return NULL;
}

static void contexts_side_by_side_do_not_meet(void **state)
{
    trainer_thread alone = { .threads = 1 }, both[2] = { { .threads = 2 }, { .threads = 3 } };

    (void)state;
    train(&alone);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&both[i].thread, NULL, train, &both[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(both[i].thread, NULL), 0);
        assert_string_equal(both[i].digest, alone.digest);
    }
}

/* ---- two threads, one context ---- */

typedef struct shared_run {
    pthread_t thread;
    heed_context *ctx;
    heed_plan *plan;
    shape_run want;
    int rows, wrong;
} shared_run;

static void *run_often(void *user)
{
    shared_run *r = user;
    heed_weights *w = NULL;
    heed_session *s = NULL;
    int id;

    if (heed_weights_new(&w, r->ctx, NULL) != HEED_OK || heed_session_new(&s, r->ctx, w, NULL, NULL) != HEED_OK ||
        heed_session_add(s, r->plan, &id, NULL) != HEED_OK)
        r->wrong++;
    for (int turn = 0; turn < 300 && !r->wrong; turn++) {
        shape_run got;

        fill(&got, r->rows);
        run_plan(s, id, &got, r->rows);
        r->wrong += memcmp(got.y, r->want.y, sizeof got.y) != 0;
    }
    heed_session_free(s);
    heed_weights_free(w);
    return NULL;
}

/* Enough work for several chunks: rows are widened first. */
static heed_plan *wide_plan(heed_context *ctx, int rows)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_error err = { 0 };
    heed_value x;

    ok(heed_builder_new(&b, ctx, &err), &err);
    x = heed_tanh(b, heed_linear(b, "wide", heed_input(b, "x", HEED_TYPE(HEED_F32, rows, WIDTH)), 3000, NULL));
    heed_output(b, "y", heed_softmax(b, heed_linear(b, "out", x, 3, NULL), -1));
    ok(heed_builder_finish(&g, b, &err), &err);
    heed_builder_free(b);
    ok(heed_plan_new(&p, ctx, g, NULL, &err), &err);
    heed_graph_free(g);
    return p;
}

static void sessions_of_one_context_may_run_at_the_same_time(void **state)
{
    static shared_run both[2];

    for (int i = 0; i < 2; i++) {
        heed_weights *w = NULL;
        heed_session *s = NULL;
        heed_error err = { 0 };
        int id;

        both[i] = (shared_run){ .ctx = *state, .rows = 20 + 20 * i };
        both[i].plan = wide_plan(*state, both[i].rows);
        ok(heed_weights_new(&w, *state, &err), &err);
        ok(heed_session_new(&s, *state, w, NULL, &err), &err);
        ok(heed_session_add(s, both[i].plan, &id, &err), &err);
        fill(&both[i].want, both[i].rows);
        run_plan(s, id, &both[i].want, both[i].rows);
        heed_session_free(s);
        heed_weights_free(w);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&both[i].thread, NULL, run_often, &both[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(both[i].thread, NULL), 0);
        heed_plan_free(both[i].plan);
    }
    assert_int_equal(both[0].wrong + both[1].wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(more_shapes_than_plans_change_no_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shape_that_fails_leaves_the_others_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(plans_come_and_go_while_the_block_grows, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_of_the_caller_may_lie_anywhere_and_be_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_search_sees_what_a_written_state_holds_and_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(scores_that_a_mask_takes_out_are_no_fault_and_others_are, setup, teardown),
        cmocka_unit_test_setup_teardown(the_lowest_bad_element_is_named_by_any_number_of_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(sessions_of_one_context_may_run_at_the_same_time, setup, teardown),
        cmocka_unit_test(contexts_side_by_side_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
