/* Sessions: what a run reads, writes and takes. Allocations are counted at malloc itself (the linker's --wrap) and at the context. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/trial.h"
#include "base/context.h"
#include "base/rng.h"
#include "ops/ops.h"
#include "plan/plan.h"
#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---- malloc, counted ---- */

static _Atomic int64_t heap_calls;

#if defined(HEED_TEST_WRAPS_MALLOC)
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

void *__wrap_malloc(size_t n)
{
    heap_calls++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    heap_calls++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    heap_calls++;
    return __real_realloc(p, n);
}

void __wrap_free(void *p)
{
    heap_calls++;
    __real_free(p);
}
#endif

/* ---- one graph, bound ---- */

typedef struct bound_graph {
    heed_context *ctx;
    heed_weights *weights;
    heed_plan *plan;
    heed_session *session;
    int id;
} bound_graph;

static heed_context *context(int threads)
{
    heed_context *ctx = NULL;

    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = threads }, NULL), HEED_OK);
    return ctx;
}

static heed_plan *plan_of(heed_context *ctx, trial_build *build, void *user, const heed_plan_opts *opts)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_builder_new(&b, ctx, &err), HEED_OK);
    build(b, user);
    if (heed_builder_finish(&g, b, &err) != HEED_OK || heed_plan_new(&p, ctx, g, opts, &err) != HEED_OK)
        fail_msg("%s", err.text);
    heed_builder_free(b);
    heed_graph_free(g);
    return p;
}

static void bind(bound_graph *g, heed_context *ctx, trial_build *build, void *user, const heed_plan_opts *opts)
{
    heed_error err = { 0 };

    *g = (bound_graph){ .ctx = ctx, .plan = plan_of(ctx, build, user, opts) };
    assert_int_equal(heed_weights_new(&g->weights, ctx, &err), HEED_OK);
    assert_int_equal(heed_session_new(&g->session, ctx, g->weights, &(heed_session_opts){ .seed = 11 }, &err), HEED_OK);
    if (heed_session_add(g->session, g->plan, &g->id, &err) != HEED_OK)
        fail_msg("%s", err.text);
}

static void unbind(bound_graph *g)
{
    heed_session_free(g->session);
    heed_plan_free(g->plan);
    heed_weights_free(g->weights);
    *g = (bound_graph){ 0 };
}

static float *weight(const bound_graph *g, const char *name)
{
    const heed_tensor t = heed_weights_find(g->weights, name);

    assert_true(t.type.rank >= 0);
    return t.data;
}

static void run(const bound_graph *g, const heed_tensor *in, int n_in, const heed_tensor *out, int n_out)
{
    heed_error err = { 0 };

    if (heed_session_run(g->session, g->id, in, n_in, out, n_out, &err) != HEED_OK)
        fail_msg("%s", err.text);
}

/* ---- a network that is trained: two layers, dropout, Adam; the loss goes through check_finite ---- */

enum { BATCH = 16, WIDE = 8, CLASSES = 3 };

static void assign_adam(heed_builder *b, heed_value p, heed_value g, heed_value lr, heed_value count)
{
    const adam_hyper h = { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
    const heed_type type = heed_value_type(b, p);
    char name[100];
    heed_value m, v, m1, v1, none = { 0 };

    snprintf(name, sizeof name, "optimizer.exp_avg.%s", heed_value_path(b, p));
    m = m1 = heed_state(b, name, type, NULL);
    snprintf(name, sizeof name, "optimizer.exp_avg_sq.%s", heed_value_path(b, p));
    v = v1 = heed_state(b, name, type, NULL);
    heed_assign(b, p, heed__adam(b, &h, p, g, &m1, &v1, &none, lr, count, none));
    heed_assign(b, m, m1);
    heed_assign(b, v, v1);
}

static void build_training(heed_builder *b, void *user)
{
    const int64_t batch = user ? *(const int64_t *)user : BATCH;
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, batch, WIDE)), target = heed_input(b, "target", HEED_TYPE(HEED_I64, batch));
    heed_value count = heed_state(b, "optimizer.step", heed_type_of(HEED_F32, 0, NULL), NULL), next, loss, p[8], g[8], random;
    int n;

    heed_set_mode(b, HEED_TRAIN);
    x = heed_relu(b, heed_linear(b, "fc1", x, 32, NULL));
    heed_tap(b, "hidden", x);
    x = heed_linear(b, "fc2", heed_dropout_layer(b, "drop", x, 0.2), CLASSES, NULL);
    heed_tap(b, "logits", x);
    loss = heed_check_finite(b, heed_cross_entropy(b, x, target, NULL));
    heed_output(b, "loss", loss);
    n = heed_params(b, p, 8);
    heed_grad(b, loss, p, n, g);
    next = heed_add_scalar(b, count, 1);
    for (int i = 0; i < n; i++)
        assign_adam(b, p[i], g[i], heed_scalar(b, HEED_F32, 0.01), next);
    heed_assign(b, count, next);
    random = heed_rng(b);
    heed_assign(b, random, heed_add(b, random, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 0, 1 } })));
}

typedef struct batch {
    float x[BATCH * WIDE];
    int64_t target[BATCH];
    heed_tensor in[2];
} batch;

static void draw_batch(batch *d, int64_t size, uint32_t number)
{
    const rng r = heed__rng(3, number, "session_test");

    for (int64_t i = 0; i < size; i++) {
        d->target[i] = i % CLASSES;
        for (int j = 0; j < WIDE; j++)
            d->x[WIDE * i + j] = heed__unit(heed__rng_word(&r, (uint32_t)i, (uint32_t)j)) + (float)(j == (int)d->target[i]);
    }
    d->in[0] = (heed_tensor){ HEED_TYPE(HEED_F32, size, WIDE), d->x };
    d->in[1] = (heed_tensor){ HEED_TYPE(HEED_I64, size), d->target };
}

static float train_step(const bound_graph *g, int64_t size, uint32_t number)
{
    batch d;
    float loss = -1;

    draw_batch(&d, size, number);
    run(g, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), &loss }, 1);
    return loss;
}

static void digest(const bound_graph *g, char out[65])
{
    assert_int_equal(heed_weights_sha256(g->weights, HEED_WEIGHTS_ALL, out, NULL), HEED_OK);
}

static void fifty_steps_give_the_same_bytes_for_any_number_of_threads(void **state)
{
    static const int threads[] = { 1, 2, 7 };
    char first[65], now[65];

    (void)state;
    for (int i = 0; i < 3; i++) {
        heed_context *ctx = context(threads[i]);
        bound_graph g;
        float loss[50];

        bind(&g, ctx, build_training, NULL, NULL);
        for (uint32_t k = 0; k < 50; k++)
            loss[k] = train_step(&g, BATCH, k);
        assert_true(loss[49] < loss[0] / 2);
        digest(&g, i ? now : first);
        if (i)
            assert_string_equal(now, first);
        unbind(&g);
        heed_context_free(ctx);
    }
}

static void a_tap_changes_no_bit_of_a_training(void **state)
{
    heed_context *ctx = context(2);
    bound_graph plain, tapped;
    char a[65], b[65];

    (void)state;
    bind(&plain, ctx, build_training, NULL, NULL);
    bind(&tapped, ctx, build_training, NULL, &(heed_plan_opts){ .taps = (const char *const[]){ "*", NULL } });
    for (uint32_t k = 0; k < 10; k++) {
        static float hidden[BATCH * 32];
        float loss;
        batch d;
        const heed_tensor out[] = { { heed_type_of(HEED_F32, 0, NULL), &loss },
                                    { HEED_TYPE(HEED_F32, BATCH, 32), hidden },
                                    { HEED_TYPE(HEED_F32, BATCH, CLASSES), NULL } };

        draw_batch(&d, BATCH, k);
        run(&tapped, d.in, 2, out, 3);
        assert_true(loss == train_step(&plain, BATCH, k));
    }
    digest(&plain, a);
    digest(&tapped, b);
    assert_string_equal(a, b);
    unbind(&plain);
    unbind(&tapped);
    heed_context_free(ctx);
}

static void the_optimiser_writes_through_and_agrees_with_the_reference(void **state)
{
    heed_context *ctx = context(2);
    bound_graph fast, reference;

    (void)state;
    bind(&fast, ctx, build_training, NULL, NULL);
    bind(&reference, ctx, build_training, NULL, &(heed_plan_opts){ .kernels = HEED_KERNELS_REFERENCE });
    assert_true(heed_plan_describe(fast.plan).in_place >= 12); /* p, m, v of four parameters */
    for (uint32_t i = 0; i < fast.plan->n_steps; i++)
        if (strcmp(fast.plan->steps[i].op->name, "adam") == 0)
            for (int k = 0; k < 3; k++)
                assert_int_equal(fast.plan->storages[heed__storage_root(fast.plan, fast.plan->steps[i].out[k].storage)].kind, STORAGE_WEIGHT);
    for (uint32_t k = 0; k < 5; k++)
        assert_true(fabsf(train_step(&fast, BATCH, k) - train_step(&reference, BATCH, k)) < 1e-4f);
    for (int i = 0; i < 32 * WIDE; i++)
        assert_true(fabsf(weight(&fast, "fc1.weight")[i] - weight(&reference, "fc1.weight")[i]) < 1e-3f);
    unbind(&fast);
    unbind(&reference);
    heed_context_free(ctx);
}

static void plans_of_two_shapes_train_the_same_weights(void **state)
{
    heed_context *ctx = context(2);
    const int64_t odd = 5;
    bound_graph g;
    heed_plan *other = plan_of(ctx, build_training, (void *)(uintptr_t)&odd, NULL);
    heed_error err = { 0 };
    float before, loss = 0;
    int id = -1;
    int64_t count;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    count = heed_weights_count(g.weights);
    assert_int_equal(heed_session_add(g.session, other, &id, &err), HEED_OK);
    assert_int_equal(heed_weights_count(g.weights), count);
    assert_int_not_equal(id, g.id);
    for (uint32_t k = 0; k < 3; k++)
        train_step(&g, BATCH, k);
    before = weight(&g, "fc1.weight")[0];
    draw_batch(&d, odd, 3);
    assert_int_equal(heed_session_run(g.session, id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), &loss }, 1, &err), HEED_OK);
    assert_true(weight(&g, "fc1.weight")[0] != before);
    assert_true(weight(&g, "optimizer.step")[0] == 4);
    heed_session_remove(g.session, id);
    assert_int_equal(heed_session_run(g.session, id, d.in, 2, NULL, 0, &err), HEED_ERR_USAGE);
    train_step(&g, BATCH, 4);
    unbind(&g);
    heed_plan_free(other);
    heed_context_free(ctx);
}

/* ---- faults ---- */

static void states_are_untouched_after_a_fault_and_the_bad_node_is_named(void **state)
{
    heed_context *ctx = context(2);
    char before[65], after[65];
    heed_error err = { 0 }, where = { 0 };
    float loss = 123;
    bound_graph g;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    train_step(&g, BATCH, 0);
    digest(&g, before);
    draw_batch(&d, BATCH, 1);
    d.x[5] = 1e38f; /* finite, but not after the first product */
    d.x[6] = 1e38f;
    for (int i = 0; i < 32 * WIDE; i++)
        weight(&g, "fc1.weight")[i] *= 1e3f;
    digest(&g, before);
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), &loss }, 1, &err),
                     HEED_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "check_finite"));
    assert_true(loss == 123); /* outputs too */
    digest(&g, after);
    assert_string_equal(after, before);
    assert_int_equal(heed_session_find_bad(g.session, g.id, d.in, 2, &where), HEED_ERR_NUMERIC);
    assert_string_equal(where.path, "fc1");
    assert_non_null(strstr(where.text, "matmul in \"fc1\""));
    digest(&g, after);
    assert_string_equal(after, before);

    draw_batch(&d, BATCH, 1);
    where = (heed_error){ 0 };
    d.x[0] = NAN;
    assert_int_equal(heed_session_find_bad(g.session, g.id, d.in, 2, &where), HEED_ERR_NUMERIC);
    assert_string_equal(where.path, "x");
    where = (heed_error){ 0 };
    draw_batch(&d, BATCH, 1);
    weight(&g, "fc2.bias")[1] = INFINITY;
    assert_int_equal(heed_session_find_bad(g.session, g.id, d.in, 2, &where), HEED_ERR_NUMERIC);
    assert_string_equal(where.path, "fc2.bias");
    unbind(&g);
    heed_context_free(ctx);
}

static void a_bad_index_changes_nothing(void **state)
{
    heed_context *ctx = context(2);
    char before[65], after[65];
    heed_error err = { 0 };
    bound_graph g;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    digest(&g, before);
    draw_batch(&d, BATCH, 1);
    d.target[7] = 3;
    d.target[9] = -4;
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), NULL }, 1, &err),
                     HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "element 7 has the value 3")); /* the lowest of the two */
    digest(&g, after);
    assert_string_equal(after, before);
    unbind(&g);
    heed_context_free(ctx);
}

static void wrong_inputs_are_refused_by_name(void **state)
{
    heed_context *ctx = context(1);
    heed_error err = { 0 };
    bound_graph g;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    draw_batch(&d, BATCH, 1);
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 1, NULL, 0, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "has 2 inputs, 1 were given"));
    err = (heed_error){ 0 };
    d.in[1].type.dtype = HEED_I32;
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, NULL, 0, &err), HEED_ERR_DTYPE);
    assert_non_null(strstr(err.text, "\"target\""));
    err = (heed_error){ 0 };
    draw_batch(&d, BATCH, 1);
    d.in[0].type.dims[0]++;
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, NULL, 0, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "\"x\""));
    err = (heed_error){ 0 };
    draw_batch(&d, BATCH, 1);
    d.in[0].data = NULL;
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), NULL }, 1, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "\"x\" has no data"));
    err = (heed_error){ 0 };
    draw_batch(&d, BATCH, 1);
    assert_int_equal(heed_session_run(g.session, g.id, d.in, 2, &(heed_tensor){ HEED_TYPE(HEED_F32, 1), d.x }, 1, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "\"loss\""));
    assert_int_equal(heed_session_run(g.session, 77, d.in, 2, NULL, 0, NULL), HEED_ERR_USAGE);
    unbind(&g);
    heed_context_free(ctx);
}

/* ---- memory ---- */

static void a_run_makes_no_heap_call_and_takes_no_byte(void **state)
{
    heed_context *ctx = context(2);
    uint64_t bytes, calls;
    int64_t before, after;
    float loss = 0;
    bound_graph g;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    draw_batch(&d, BATCH, 0);
    bytes = heed_context_bytes(ctx);
    calls = heed__heap_calls(ctx->heap);
    heed_context_peak_reset(ctx);
    before = heap_calls;
    for (int i = 0; i < 20; i++)
        if (heed_session_run(g.session, g.id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), &loss }, 1, NULL) != HEED_OK)
            break;
    after = heap_calls;
    assert_true(loss > 0);
    assert_int_equal(after - before, 0);
    assert_int_equal(heed__heap_calls(ctx->heap), calls);
    assert_int_equal(heed_context_peak_bytes(ctx), bytes); /* the high-water mark of the run, to the byte */
#if defined(HEED_TEST_WRAPS_MALLOC)
    {
        void *volatile block = malloc(10); /* they are counted indeed */

        free(block);
    }
    assert_true(heap_calls >= after + 2);
#endif
    unbind(&g);
    heed_context_free(ctx);
}

static void build_decoding(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4, 1, 16));
    const heed_kv_cache cache = heed_kv_cache_open(b, "c", 4, 1, 300, user);

    x = heed_encoder_layer(b, "0", x, 2, &(heed_encoder_layer_opts){ .feedforward = 32, .cache = &cache });
    heed_output(b, "y", heed_encoder_layer(b, "1", x, 2, &(heed_encoder_layer_opts){ .feedforward = 32, .cache = &cache }));
}

static void nor_does_a_step_of_decoding(void **state)
{
    static float x[4 * 16], y[4 * 16];
    const heed_tensor in = { HEED_TYPE(HEED_F32, 4, 1, 16), x }, out = { HEED_TYPE(HEED_F32, 4, 1, 16), y };
    heed_kv_cache_opts rings[] = { { .window = 0 }, { .window = 100, .sinks = 4 } };

    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = (float)i / 64;
    for (int ring = 0; ring < 2; ring++) {
        heed_context *ctx = context(2);
        int64_t before, after;
        uint64_t bytes, calls;
        bound_graph g;
        int steps = 0;

        bind(&g, ctx, build_decoding, &rings[ring], NULL);
        bytes = heed_context_bytes(ctx);
        calls = heed__heap_calls(ctx->heap);
        heed_context_peak_reset(ctx);
        before = heap_calls;
        while (steps < 300 && heed_session_run(g.session, g.id, &in, 1, &out, 1, NULL) == HEED_OK)
            steps++;
        after = heap_calls;
        assert_int_equal(steps, 300);
        assert_int_equal(after - before, 0);
        assert_int_equal(heed__heap_calls(ctx->heap), calls);
        assert_int_equal(heed_context_peak_bytes(ctx), bytes);
        unbind(&g);
        heed_context_free(ctx);
    }
}

static void the_predicted_block_is_what_is_taken(void **state)
{
    heed_context *ctx = context(2);
    uint64_t own, given, block;
    heed_error err = { 0 };
    bound_graph g;
    heed_session *s = NULL;
    void *memory = NULL;
    int id;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL); /* makes the weights */
    block = heed_plan_describe(g.plan).block_bytes;
    assert_true(block > 0);
    assert_int_equal(posix_memalign(&memory, 64, block), 0);
    for (int i = 0; i < 2; i++) {
        const heed_session_opts opts = { .block = i ? memory : NULL, .block_bytes = block };
        const uint64_t before = heed_context_bytes(ctx);

        assert_int_equal(heed_session_new(&s, ctx, g.weights, &opts, &err), HEED_OK);
        assert_int_equal(heed_session_add(s, g.plan, &id, &err), HEED_OK);
        *(i ? &given : &own) = heed_context_bytes(ctx) - before;
        heed_session_free(s);
    }
    assert_int_equal(own - given, heed__heap_cost(block, 64));
    free(memory);
    unbind(&g);
    heed_context_free(ctx);
}

static void a_block_of_the_caller_is_used_and_one_too_small_refused(void **state)
{
    heed_context *ctx = context(2);
    heed_error err = { 0 };
    heed_session *s = NULL;
    bound_graph g;
    unsigned char *memory = NULL;
    uint64_t block;
    float loss[2] = { 0 };
    bool used = false;
    int id = 77;
    batch d;

    (void)state;
    bind(&g, ctx, build_training, NULL, NULL);
    block = heed_plan_describe(g.plan).block_bytes;
    assert_int_equal(posix_memalign((void **)&memory, 64, block + 64), 0);
    memset(memory, 0xA5, block + 64);
    assert_int_equal(heed_session_new(&s, ctx, g.weights, &(heed_session_opts){ .block = memory, .block_bytes = block - 1 }, &err), HEED_OK);
    assert_int_equal(heed_session_add(s, g.plan, &id, &err), HEED_ERR_LIMIT);
    assert_int_equal(id, 77);
    assert_non_null(strstr(err.text, "needs a block of"));
    heed_session_free(s);
    assert_int_equal(heed_session_new(&s, ctx, g.weights, &(heed_session_opts){ .block = memory + 8, .block_bytes = block }, &err), HEED_ERR_USAGE);
    assert_int_equal(heed_session_new(&s, ctx, g.weights, &(heed_session_opts){ .block = memory, .block_bytes = block }, NULL), HEED_OK);
    assert_int_equal(heed_session_add(s, g.plan, &id, NULL), HEED_OK);
    draw_batch(&d, BATCH, 0);
    assert_int_equal(heed_session_run(s, id, d.in, 2, &(heed_tensor){ heed_type_of(HEED_F32, 0, NULL), loss }, 1, NULL), HEED_OK);
    for (uint64_t i = 0; i < block; i++)
        used |= memory[i] != 0xA5;
    assert_true(used);
    for (uint64_t i = block; i < block + 64; i++)
        assert_int_equal(memory[i], 0xA5);
    heed_session_free(s);
    free(memory);
    unbind(&g);
    heed_context_free(ctx);
}

/* Everything from builder to run; each allocation fails in turn. */
static heed_status from_builder_to_run(heed_context *ctx, void *user, heed_error *err)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_weights *w = NULL;
    heed_session *s = NULL;
    char sha[65];
    float loss;
    int id = 0;
    heed_status st = heed_builder_new(&b, ctx, err);
    batch d;

    (void)user;
    draw_batch(&d, BATCH, 0);
    if (st == HEED_OK) {
        build_training(b, NULL);
        st = heed_builder_finish(&g, b, err);
    }
    if (st == HEED_OK)
        st = heed_plan_new(&p, ctx, g, &(heed_plan_opts){ .taps = (const char *const[]){ "hidden", NULL } }, err);
    if (st == HEED_OK)
        st = heed_weights_new(&w, ctx, err);
    if (st == HEED_OK)
        st = heed_weights_init(w, g, 3, err);
    if (st == HEED_OK)
        st = heed_session_new(&s, ctx, w, NULL, err);
    if (st == HEED_OK)
        st = heed_session_add(s, p, &id, err);
    if (st == HEED_OK)
        st = heed_session_run(s, id, d.in, 2, (heed_tensor[]){ { heed_type_of(HEED_F32, 0, NULL), &loss }, { HEED_TYPE(HEED_F32, BATCH, 32), NULL } }, 2, err);
    if (st == HEED_OK)
        st = heed_weights_sha256(w, HEED_WEIGHTS_ALL, sha, err);
    heed_session_free(s);
    heed_weights_free(w);
    heed_plan_free(p);
    heed_graph_free(g);
    heed_builder_free(b);
    return st;
}

static void every_failing_allocation_is_reported_and_nothing_leaks(void **state)
{
    const heed_scenario s = { .name = "builder to run of a training", .run = from_builder_to_run };
    heed_fail_report report;

    (void)state;
    if (!heed_fail_each(&s, NULL, &report))
        fail_msg("%s", report.first_bad);
    assert_true(report.calls > 100);
}

/* ---- states ---- */

static void build_swap(heed_builder *b, void *user)
{
    heed_value s = heed_state(b, "s", HEED_TYPE(HEED_F32, 3), &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 1 });
    heed_value t = heed_state(b, "t", HEED_TYPE(HEED_F32, 3), &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 2 });

    (void)user;
    heed_assign(b, s, t);
    heed_assign(b, t, s);
    heed_output(b, "s", s);
    heed_output(b, "both", heed_add(b, heed_mul_scalar(b, s, 10), t));
}

static void two_states_can_be_swapped(void **state)
{
    heed_context *ctx = context(1);
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_swap, NULL, NULL);
    for (int i = 0; i < 4; i++) {
        float s[3], both[3];
        const float want = i % 2 ? 2 : 1;

        run(&g, NULL, 0, (heed_tensor[]){ { HEED_TYPE(HEED_F32, 3), s }, { HEED_TYPE(HEED_F32, 3), both } }, 2);
        assert_true(s[0] == want && s[2] == want); /* all reads see the old value */
        assert_true(both[1] == 10 * want + (3 - want));
        assert_true(weight(&g, "s")[0] == 3 - want && weight(&g, "t")[2] == want);
    }
    unbind(&g);
    heed_context_free(ctx);
}

static void build_reads_late(heed_builder *b, void *user)
{
    heed_value s = heed_state(b, "s", HEED_TYPE(HEED_F32, 2, 2), &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 3 });
    heed_value next = heed_add_scalar(b, s, 1), x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 2));

    (void)user;
    heed_assign(b, s, next);
    heed_output(b, "later", heed_mul(b, heed_exp(b, x), s)); /* made after the new value is known */
    heed_output(b, "turned", heed_permute(b, s, (int[]){ 1, 0 }));
    heed_output(b, "next", next);
}

static void readers_made_after_the_new_value_see_the_old_one(void **state)
{
    heed_context *ctx = context(1);
    float x[4] = { 0 }, later[4], turned[4], next[4];
    const heed_type type = HEED_TYPE(HEED_F32, 2, 2);
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_reads_late, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        run(&g, &(heed_tensor){ type, x }, 1, (heed_tensor[]){ { type, later }, { type, turned }, { type, next } }, 3);
        for (int k = 0; k < 4; k++)
            assert_true(later[k] == (float)(3 + i) && turned[k] == (float)(3 + i) && next[k] == (float)(4 + i));
        assert_true(weight(&g, "s")[3] == (float)(4 + i));
    }
    unbind(&g);
    heed_context_free(ctx);
}

static void build_turn(heed_builder *b, void *user)
{
    heed_value s = heed_state(b, "s", HEED_TYPE(HEED_F32, 3, 3), NULL);

    (void)user;
    heed_assign(b, s, heed_permute(b, s, (int[]){ 1, 0 }));
}

static void a_state_can_become_its_own_transpose(void **state)
{
    heed_context *ctx = context(1);
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_turn, NULL, NULL);
    for (int i = 0; i < 9; i++)
        weight(&g, "s")[i] = (float)i;
    run(&g, NULL, 0, NULL, 0);
    for (int i = 0; i < 9; i++)
        assert_true(weight(&g, "s")[i] == (float)(i % 3 * 3 + i / 3));
    unbind(&g);
    heed_context_free(ctx);
}

static void build_input_kept(heed_builder *b, void *user)
{
    heed_value s = heed_state(b, "s", HEED_TYPE(HEED_F32, 4), NULL), t = heed_state(b, "t", HEED_TYPE(HEED_F32, 4), NULL);
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4));

    (void)user;
    heed_assign(b, s, x);
    heed_assign(b, t, heed_add(b, s, x));
    heed_output(b, "x again", x);
}

static void an_input_or_a_sum_can_be_kept(void **state)
{
    heed_context *ctx = context(1);
    float x[4] = { 1, 2, 3, 4 }, again[4];
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_input_kept, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        run(&g, &(heed_tensor){ HEED_TYPE(HEED_F32, 4), x }, 1, &(heed_tensor){ HEED_TYPE(HEED_F32, 4), again }, 1);
        assert_memory_equal(again, x, sizeof x);
        assert_memory_equal(weight(&g, "s"), x, sizeof x);
        assert_true(weight(&g, "t")[3] == (i ? 8 : 4));
    }
    unbind(&g);
    heed_context_free(ctx);
}

/* ---- learning ---- */

static void build_xor(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4, 2)), target = heed_input(b, "target", HEED_TYPE(HEED_I64, 4));
    heed_value count = heed_state(b, "optimizer.step", heed_type_of(HEED_F32, 0, NULL), NULL), next, loss, logits, p[8], g[8];
    int n;

    (void)user;
    logits = heed_linear(b, "fc2", heed_tanh(b, heed_linear(b, "fc1", x, 8, NULL)), 2, NULL);
    loss = heed_cross_entropy(b, logits, target, NULL);
    heed_output(b, "loss", loss);
    heed_output(b, "class", heed_argmax(b, logits, 1));
    n = heed_params(b, p, 8);
    heed_grad(b, loss, p, n, g);
    next = heed_add_scalar(b, count, 1);
    for (int i = 0; i < n; i++)
        assign_adam(b, p[i], g[i], heed_scalar(b, HEED_F32, 0.05), next);
    heed_assign(b, count, next);
}

static void a_small_network_learns_exclusive_or(void **state)
{
    heed_context *ctx = context(1);
    float x[] = { 0, 0, 0, 1, 1, 0, 1, 1 }, loss = 1;
    int64_t target[] = { 0, 1, 1, 0 }, class[4];
    const heed_tensor in[] = { { HEED_TYPE(HEED_F32, 4, 2), x }, { HEED_TYPE(HEED_I64, 4), target } };
    const heed_tensor out[] = { { heed_type_of(HEED_F32, 0, NULL), &loss }, { HEED_TYPE(HEED_I64, 4), class } };
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_xor, NULL, NULL);
    for (int i = 0; i < 300; i++)
        run(&g, in, 2, out, 2);
    assert_memory_equal(class, target, sizeof target);
    assert_true(loss < 0.02f);
    unbind(&g);
    heed_context_free(ctx);
}

/* ---- the host's floating-point mode ---- */

static void build_denormal(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 64, 64)), small = heed_mul_scalar(b, x, 1e-39);

    (void)user;
    heed_output(b, "small", small);
    heed_output(b, "product", heed_matmul(b, small, small));
    heed_output(b, "sum", heed_sum(b, small, HEED_ALL_AXES, HEED_DROP_AXES));
}

static void flush_to_zero_of_the_host_changes_no_bit(void **state)
{
#if defined(__x86_64__)
    const unsigned before = _mm_getcsr(), flushing = before | 0x8040;
    static float x[4096], small[2][4096], product[2][4096], sum[2];
    heed_context *ctx = context(2);
    bound_graph g;

    (void)state;
    for (int i = 0; i < 4096; i++)
        x[i] = (float)(i % 17) - 8;
    bind(&g, ctx, build_denormal, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        const heed_tensor in = { HEED_TYPE(HEED_F32, 64, 64), x };
        const heed_tensor out[] = { { HEED_TYPE(HEED_F32, 64, 64), small[i] },
                                    { HEED_TYPE(HEED_F32, 64, 64), product[i] },
                                    { heed_type_of(HEED_F32, 0, NULL), &sum[i] } };
        unsigned after;

        _mm_setcsr(i ? flushing : before);
        run(&g, &in, 1, out, 3);
        after = _mm_getcsr();
        _mm_setcsr(before);
        assert_int_equal(after & 0x8040, i ? 0x8040 : 0); /* and it is the host's again */
    }
    assert_memory_equal(small[0], small[1], sizeof small[0]);
    assert_memory_equal(product[0], product[1], sizeof product[0]);
    assert_memory_equal(&sum[0], &sum[1], sizeof sum[0]);
    assert_true(small[0][1] != 0 && fabsf(small[0][1]) < 1.2e-38f); /* denormal numbers were at work */
    unbind(&g);
    heed_context_free(ctx);
#else
    (void)state;
    skip();
#endif
}

/* ---- borders ---- */

static void build_nothing(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 0, 3));

    (void)user;
    heed_output(b, "sum", heed_sum(b, x, 1, HEED_DROP_AXES));
    heed_output(b, "y", heed_exp(b, x));
}

static void tensors_without_elements_need_no_memory(void **state)
{
    heed_context *ctx = context(1);
    float sum[3] = { 7, 7, 7 };
    bound_graph g;

    (void)state;
    bind(&g, ctx, build_nothing, NULL, NULL);
    run(&g, &(heed_tensor){ HEED_TYPE(HEED_F32, 0, 3), NULL }, 1,
        (heed_tensor[]){ { HEED_TYPE(HEED_F32, 3), sum }, { HEED_TYPE(HEED_F32, 0, 3), NULL } }, 2);
    assert_true(sum[0] == 0 && sum[1] == 0 && sum[2] == 0);
    unbind(&g);
    heed_context_free(ctx);
}

static void a_plan_of_another_context_is_refused(void **state)
{
    heed_context *ctx = context(1), *other = context(1);
    heed_plan *p = plan_of(other, build_swap, NULL, NULL);
    heed_error err = { 0 };
    bound_graph g;
    int id;

    (void)state;
    bind(&g, ctx, build_swap, NULL, NULL);
    assert_int_equal(heed_session_add(g.session, p, &id, &err), HEED_ERR_USAGE);
    heed_plan_free(p);
    unbind(&g);
    heed_context_free(ctx);
    heed_context_free(other);
}

static void a_weight_of_another_type_is_refused_by_name(void **state)
{
    heed_context *ctx = context(1);
    heed_plan *p = plan_of(ctx, build_swap, NULL, NULL);
    heed_weights *w = NULL;
    heed_session *s = NULL;
    heed_error err = { 0 };
    float four[4] = { 0 };
    int id;

    (void)state;
    assert_int_equal(heed_weights_new(&w, ctx, &err), HEED_OK);
    assert_int_equal(heed_weights_put(w, "t", (heed_tensor){ HEED_TYPE(HEED_F32, 4), four }, &err), HEED_OK);
    assert_int_equal(heed_session_new(&s, ctx, w, NULL, &err), HEED_OK);
    assert_int_equal(heed_session_add(s, p, &id, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "\"t\""));
    heed_session_free(s);
    heed_weights_free(w);
    heed_plan_free(p);
    heed_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_give_the_same_bytes_for_any_number_of_threads),
        cmocka_unit_test(a_tap_changes_no_bit_of_a_training),
        cmocka_unit_test(the_optimiser_writes_through_and_agrees_with_the_reference),
        cmocka_unit_test(plans_of_two_shapes_train_the_same_weights),
        cmocka_unit_test(states_are_untouched_after_a_fault_and_the_bad_node_is_named),
        cmocka_unit_test(a_bad_index_changes_nothing),
        cmocka_unit_test(wrong_inputs_are_refused_by_name),
        cmocka_unit_test(a_run_makes_no_heap_call_and_takes_no_byte),
        cmocka_unit_test(nor_does_a_step_of_decoding),
        cmocka_unit_test(the_predicted_block_is_what_is_taken),
        cmocka_unit_test(a_block_of_the_caller_is_used_and_one_too_small_refused),
        cmocka_unit_test(every_failing_allocation_is_reported_and_nothing_leaks),
        cmocka_unit_test(two_states_can_be_swapped),
        cmocka_unit_test(readers_made_after_the_new_value_see_the_old_one),
        cmocka_unit_test(a_state_can_become_its_own_transpose),
        cmocka_unit_test(an_input_or_a_sum_can_be_kept),
        cmocka_unit_test(a_small_network_learns_exclusive_or),
        cmocka_unit_test(flush_to_zero_of_the_host_changes_no_bit),
        cmocka_unit_test(tensors_without_elements_need_no_memory),
        cmocka_unit_test(a_plan_of_another_context_is_refused),
        cmocka_unit_test(a_weight_of_another_type_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
