/* Benchmarks: a table of small graphs, a table of row primitives, decoding with a KV cache, and the demo model
 * whole.
 *
 * A row is timed in at least five rounds of equally many runs; the best round says what the code can do, the median
 * what it did. Peaks are measured before the first row: multiply-adds in registers, reads from memory and from the
 * first-level cache, each of one thread and times the number of threads. */

#include "base/arena.h"
#include "base/error.h"
#include "cpu/peak.h"
#include "cpu/rows.h"
#include "models/models.h"
#include "train/bench.h"
#include <heed/nn.h>
#include <heed/train.h>

#include <stdio.h>
#include <string.h>

#define ROUNDS 7
#define ROUNDS_MOST 99
#define SIZES 6
#define L1_FLOATS 4096         /* 16 KiB: two of them lie in any first-level cache */
#define READ_FLOATS (16 << 20) /* 64 MiB: more than a share of most last-level caches */

bool heed__bench_wanted(const bench *b, const char *name)
{
    return !b->filter || strstr(name, b->filter);
}

/* ---- timing ---- */

static heed_status bench_round(bench_fn *fn, void *user, int64_t runs, double *seconds, heed_error *err)
{
    const double start = heed__os_seconds();

    for (int64_t i = 0; i < runs; i++)
        TRY(fn(user, err));
    *seconds = (heed__os_seconds() - start) / (double)runs;
    return HEED_OK;
}

static void bench_insert(double *sorted, int n, double value)
{
    for (; n > 0 && sorted[n - 1] > value; n--)
        sorted[n] = sorted[n - 1];
    sorted[n] = value;
}

/* One more run, outside the timed rounds. */
static heed_status bench_record(bench *b, const char *name, bench_fn *fn, void *user)
{
    heed_status st;

    if (!b->profile)
        return HEED_OK;
    heed_profile_label(b->profile, name);
    heed_profile_switch(b->profile, HEED_PROFILE_ON);
    st = fn(user, b->err);
    heed_profile_switch(b->profile, HEED_PROFILE_OFF);
    return st;
}

heed_status heed__bench_tell(bench *b, const heed_bench_row *row)
{
    b->told++;
    if (b->each(b->user, row))
        return heed__fail(b->err, HEED_ERR_STOPPED, "the benchmarks were stopped after %d rows", b->told);
    return HEED_OK;
}

heed_status heed__bench_time(bench *b, heed_bench_row row, double work, double peak, bench_fn *fn, void *user,
                             double *best)
{
    double sorted[ROUNDS_MOST], once;
    int64_t runs = 1;

    if (b->list)
        return heed__bench_tell(b, &row);
    TRY(bench_round(fn, user, 1, &once, b->err)); /* caches, pages, plans */
    if (once < b->seconds)                        /* what is long anyway is warm after one run */
        TRY(bench_round(fn, user, 1, &once, b->err));
    if (once < b->seconds / b->rounds)
        runs = (int64_t)(b->seconds / b->rounds / (once > 1e-9 ? once : 1e-9)) + 1;
    for (int i = 0; i < b->rounds; i++) {
        double seconds;

        TRY(bench_round(fn, user, runs, &seconds, b->err));
        bench_insert(sorted, i, seconds);
    }
    TRY(bench_record(b, row.name, fn, user));
    row.rounds = b->rounds;
    row.best = sorted[0];
    row.median = sorted[b->rounds / 2];
    row.rate = row.unit != HEED_BENCH_SECONDS && row.best > 0 ? work / row.best * 1e-9 : 0;
    row.peak = row.unit != HEED_BENCH_SECONDS ? peak : 0;
    if (best)
        *best = row.best;
    return heed__bench_tell(b, &row);
}

heed_status heed__bench_peaks(bench *b)
{
    float *block = NULL;

    if (b->peaks || b->list)
        return HEED_OK;
    block = heed__alloc(b->ctx->heap, READ_FLOATS, sizeof *block);
    if (!block)
        return heed__fail_memory(b->err, READ_FLOATS * sizeof *block);
    for (int64_t i = 0; i < READ_FLOATS; i++)
        block[i] = 1;
    b->gflops = heed__peak_gflops(b->ctx->isa);
    b->read_gbs = heed__peak_read_gbs(b->ctx->isa, block, READ_FLOATS);
    b->l1_gbs = heed__peak_read_gbs(b->ctx->isa, block, L1_FLOATS);
    b->peaks = true;
    heed__release(b->ctx->heap, block);
    return HEED_OK;
}

/* ---- small graphs ---- */

typedef struct graph_case {
    const char *name; /* sizes are appended */
    void (*build)(heed_builder *b, const int64_t *size);
    int64_t size[SIZES];
    heed_bench_unit unit;
} graph_case;

static heed_value input2(heed_builder *b, const char *name, int64_t rows_n, int64_t columns)
{
    return heed_input(b, name, HEED_TYPE(HEED_F32, rows_n, columns));
}

static void build_gemm(heed_builder *b, const int64_t *s)
{
    heed_output(b, "y", heed_matmul(b, input2(b, "x", s[0], s[2]), input2(b, "w", s[2], s[1])));
}

/* size: batch, channels in, channels out, side; 3 x 3, pad 1 */
static heed_value conv_of(heed_builder *b, const int64_t *s, heed_value *x, heed_value *w)
{
    *x = heed_input(b, "x", HEED_TYPE(HEED_F32, s[0], s[1], s[3], s[3]));
    *w = heed_input(b, "w", HEED_TYPE(HEED_F32, s[2], s[1], 3, 3));
    return heed_conv(b, *x, *w, (heed_value){ 0 }, &(heed_conv_opts){ .pad = { 1, 1 } });
}

static void build_conv(heed_builder *b, const int64_t *s)
{
    heed_value x, w;

    heed_output(b, "y", conv_of(b, s, &x, &w));
}

static void conv_gradient(heed_builder *b, const int64_t *s, bool of_w)
{
    heed_value x, w, dx;
    heed_value y = conv_of(b, s, &x, &w);
    heed_value dy = heed_input(b, "dy", heed_value_type(b, y));

    heed_grad_of(b, &y, &dy, 1, of_w ? &w : &x, 1, &dx);
    heed_output(b, of_w ? "dw" : "dx", dx);
}

static void build_conv_dx(heed_builder *b, const int64_t *s)
{
    conv_gradient(b, s, false);
}

static void build_conv_dw(heed_builder *b, const int64_t *s)
{
    conv_gradient(b, s, true);
}

#define BUILD_UNARY(name, call)                                                                              \
    static void build_##name(heed_builder *b, const int64_t *s)                                              \
    {                                                                                                        \
        heed_value x = input2(b, "x", s[0], s[1]);                                                           \
                                                                                                             \
        heed_output(b, "y", call);                                                                           \
    }
BUILD_UNARY(relu, heed_relu(b, x))
BUILD_UNARY(gelu, heed_gelu(b, x))
BUILD_UNARY(exp, heed_exp(b, x))
BUILD_UNARY(softmax, heed_softmax(b, x, -1))
BUILD_UNARY(layer_norm, heed_layer_norm(b, x, 1, (heed_value){ 0 }, (heed_value){ 0 }, 0))
BUILD_UNARY(sum, heed_sum(b, x, 2, HEED_DROP_AXES))
BUILD_UNARY(dropout, heed_dropout(b, "drop", x, 0.1))
BUILD_UNARY(permute, heed_transpose(b, x, 0, 1))

static void build_add(heed_builder *b, const int64_t *s)
{
    heed_output(b, "y", heed_add(b, input2(b, "x", s[0], s[1]), input2(b, "z", s[0], s[1])));
}

static void build_cross_entropy(heed_builder *b, const int64_t *s)
{
    heed_value y = heed_input(b, "target", HEED_TYPE(HEED_I64, s[0]));

    heed_output(b, "loss", heed_cross_entropy(b, input2(b, "x", s[0], s[1]), y, NULL));
}

static void build_max_pool(heed_builder *b, const int64_t *s)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, s[0], s[1], s[2], s[2]));

    heed_output(b, "y", heed_max_pool(b, x, (const int64_t[]){ 2, 2 }, NULL));
}

/* gemm: rows, columns, inner. 6272 = 128 pictures of 49 tokens. */
static const graph_case graph_cases[] = {
    { "gemm", build_gemm, { 512, 512, 512 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 1024, 1024, 1024 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 2048, 256, 1024 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 2048, 1024, 256 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 6272, 192, 64 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 6272, 64, 64 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 64, 64, 6272 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 128, 256, 784 }, HEED_BENCH_GFLOPS },
    { "gemm", build_gemm, { 1, 1024, 1024 }, HEED_BENCH_GFLOPS },
    { "conv", build_conv, { 128, 1, 16, 28 }, HEED_BENCH_GFLOPS },
    { "conv dw", build_conv_dw, { 128, 1, 16, 28 }, HEED_BENCH_GFLOPS },
    { "conv", build_conv, { 128, 16, 32, 14 }, HEED_BENCH_GFLOPS },
    { "conv dx", build_conv_dx, { 128, 16, 32, 14 }, HEED_BENCH_GFLOPS },
    { "conv dw", build_conv_dw, { 128, 16, 32, 14 }, HEED_BENCH_GFLOPS },
    { "conv", build_conv, { 128, 32, 64, 7 }, HEED_BENCH_GFLOPS },
    { "conv dx", build_conv_dx, { 128, 32, 64, 7 }, HEED_BENCH_GFLOPS },
    { "conv dw", build_conv_dw, { 128, 32, 64, 7 }, HEED_BENCH_GFLOPS },
    { "conv", build_conv, { 32, 64, 64, 32 }, HEED_BENCH_GFLOPS },
    { "conv dx", build_conv_dx, { 32, 64, 64, 32 }, HEED_BENCH_GFLOPS },
    { "conv dw", build_conv_dw, { 32, 64, 64, 32 }, HEED_BENCH_GFLOPS },
    { "op relu", build_relu, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op add", build_add, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op exp", build_exp, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op gelu", build_gelu, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op sum", build_sum, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op softmax", build_softmax, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op layer_norm", build_layer_norm, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op dropout", build_dropout, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op transpose", build_permute, { 4096, 1024 }, HEED_BENCH_GBS },
    { "op cross_entropy", build_cross_entropy, { 2048, 4096 }, HEED_BENCH_GBS },
    { "op max_pool", build_max_pool, { 128, 64, 28 }, HEED_BENCH_GBS },
};

static void graph_name(char to[BENCH_NAME], const graph_case *c)
{
    size_t n = (size_t)snprintf(to, BENCH_NAME, "%s ", c->name);

    for (int i = 0; i < SIZES && c->size[i] && n < BENCH_NAME; i++)
        n += (size_t)snprintf(to + n, BENCH_NAME - n, "%s%lld", i ? "x" : "", (long long)c->size[i]);
}

static void graph_build(heed_builder *b, const void *what)
{
    const graph_case *c = what;

    c->build(b, c->size);
}

static heed_status bench_graphs(bench *b)
{
    const int threads = heed_context_threads(b->ctx);

    for (size_t i = 0; i < sizeof graph_cases / sizeof *graph_cases; i++) {
        const graph_case *c = &graph_cases[i];
        bench_graph g = { 0 };
        char name[BENCH_NAME];
        heed_bench_row row = { .name = name, .threads = threads, .unit = c->unit };
        double work, peak;
        heed_status st;

        graph_name(name, c);
        if (!heed__bench_wanted(b, name))
            continue;
        TRY(heed__bench_peaks(b));
        STEP(heed__bench_prepare(&g, b->ctx, graph_build, c, NULL, b->list ? BENCH_PLAN : BENCH_SESSION,
                                 b->err));
        row.block_bytes = heed_plan_describe(g.plan).block_bytes;
        if (!b->list) {
            heed_session_profile(g.session, b->profile);
            STEP(heed__bench_memory(&g, &row, b->err));
        }
        work = c->unit == HEED_BENCH_GFLOPS ? heed_plan_describe(g.plan).flops : g.bytes;
        peak = threads * (c->unit == HEED_BENCH_GFLOPS ? b->gflops : b->read_gbs);
        STEP(heed__bench_time(b, row, work, peak, heed__bench_once, &g, NULL));
    done:
        heed__bench_release(&g);
        TRY(st);
    }
    return HEED_OK;
}

/* ---- decoding: one more row of each sequence, behind those in its cache ---- */

typedef struct decode_case {
    int64_t batch, past, width, heads, layers;
} decode_case;

static const decode_case decode_cases[] = {
    { 1, 512, 256, 8, 4 },
    { 8, 512, 256, 8, 4 },
    { 8, 2048, 256, 8, 4 },
};

#define DECODE_STEPS 8192 /* timed one by one, at most */
#define DECODE_FEWEST 200 /* for a p99 that is more than the slowest */

static void build_decode(heed_builder *b, const int64_t *s)
{
    const decode_case *c = &decode_cases[s[0]];
    const heed_kv_cache cache = heed_kv_cache_open(b, "decoder", c->batch, 1, c->past + 1, NULL);
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, c->batch, 1, c->width));

    heed_set_mode(b, HEED_EVAL);
    for (int64_t i = 0; i < c->layers; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "layers.%lld", (long long)i);
        x = heed_encoder_layer(b, name, x, c->heads,
                               &(heed_encoder_layer_opts){
                                   .feedforward = 4 * c->width, .norm = HEED_PRE_NORM, .cache = &cache });
    }
    heed_output(b, "y", x);
}

/* Steps at one and the same length: the row that each appends is taken back outside of the clock. */
static heed_status decode_times(const bench *b, bench_graph *g, const decode_case *c, double *sorted,
                                int *steps)
{
    const double until = heed__os_seconds() + b->seconds;
    int n = 0;

    for (; n < DECODE_STEPS && (n < DECODE_FEWEST || heed__os_seconds() < until); n++) {
        const double began = heed__os_seconds();

        TRY(heed__bench_once(g, b->err));
        bench_insert(sorted, n, heed__os_seconds() - began);
        TRY(heed_kv_cache_rewind(g->weights, "decoder", HEED_EVERY_SEQUENCE, c->past, b->err));
    }
    *steps = n;
    return HEED_OK;
}

static heed_status decode_row(bench *b, const char *name, int64_t index, double *seconds)
{
    const decode_case *c = &decode_cases[index];
    const int threads = heed_context_threads(b->ctx);
    const graph_case what = { .build = build_decode, .size = { index } };
    heed_bench_row row = { .name = name, .threads = threads, .unit = HEED_BENCH_GBS };
    bench_graph g = { 0 };
    heed_tensor length;
    heed_status st;

    STEP(heed__bench_prepare(&g, b->ctx, graph_build, &what, NULL, b->list ? BENCH_PLAN : BENCH_SESSION,
                             b->err));
    row.block_bytes = heed_plan_describe(g.plan).block_bytes;
    if (b->list) {
        STEP(heed__bench_tell(b, &row));
        goto done;
    }
    length = heed_weights_find(g.weights, "kv_cache.decoder.length");
    for (int64_t i = 0; i < c->batch; i++)
        ((int64_t *)length.data)[i] = c->past;
    heed_session_profile(g.session, b->profile);
    STEP(heed__bench_once(&g, b->err)); /* caches, pages */
    STEP(heed_kv_cache_rewind(g.weights, "decoder", HEED_EVERY_SEQUENCE, c->past, b->err));
    STEP(decode_times(b, &g, c, seconds, &row.rounds));
    STEP(bench_record(b, name, heed__bench_once, &g));
    row.best = seconds[0];
    row.median = seconds[row.rounds / 2];
    row.p99 = seconds[(int64_t)row.rounds * 99 / 100];
    row.rate = (double)heed_plan_describe(g.plan).weight_bytes / row.best * 1e-9; /* parameters and cache */
    row.peak = threads * b->read_gbs;
    st = heed__bench_tell(b, &row);
done:
    heed__bench_release(&g);
    return st;
}

static heed_status bench_decode(bench *b)
{
    heap *h = b->ctx->heap;
    heed_status st = HEED_OK;
    double *seconds = heed__alloc(h, DECODE_STEPS, sizeof *seconds);

    if (!seconds)
        return heed__fail_memory(b->err, DECODE_STEPS * sizeof *seconds);
    for (size_t i = 0; i < sizeof decode_cases / sizeof *decode_cases; i++) {
        const decode_case *c = &decode_cases[i];
        char name[BENCH_NAME];

        (void)snprintf(name, sizeof name, "attention decode step %lldx%lldx%lldx%lldx%lld",
                       (long long)c->batch, (long long)c->past, (long long)c->width, (long long)c->heads,
                       (long long)c->layers);
        if (!heed__bench_wanted(b, name))
            continue;
        STEP(heed__bench_peaks(b));
        STEP(decode_row(b, name, (int64_t)i, seconds));
    }
done:
    heed__release(h, seconds);
    return st;
}

/* ---- row primitives, in the first-level cache, on one thread ---- */

typedef struct row_run {
    const row_ops *row;
    int unary, binary; /* -1: the other */
    float *x, *y, *z;
} row_run;

static heed_status row_once(void *user, heed_error *err)
{
    const row_run *r = user;

    (void)err;
    if (r->unary >= 0)
        r->row->unary[r->unary](r->y, r->x, L1_FLOATS);
    else
        r->row->binary[r->binary](r->y, r->x, 1, r->z, 1, L1_FLOATS);
    return HEED_OK;
}

static const char *const row_names[] = {
#define ROW_UNARY(name) "row " #name,
#define ROW_BINARY(name)
#include "cpu/rows.def"
#undef ROW_UNARY
#undef ROW_BINARY
#define ROW_UNARY(name)
#define ROW_BINARY(name) "row " #name,
#include "cpu/rows.def"
#undef ROW_UNARY
#undef ROW_BINARY
};

static heed_status bench_rows(bench *b)
{
    row_run r = { .row = heed__row_ops(b->ctx->isa) };
    float *memory = heed__alloc(b->ctx->heap, 3 * L1_FLOATS, sizeof *memory);
    heed_status st = HEED_OK;

    if (!memory)
        return heed__fail_memory(b->err, 3 * L1_FLOATS * sizeof *memory);
    r.x = memory;
    r.y = memory + L1_FLOATS;
    r.z = memory + 2 * L1_FLOATS;
    for (int64_t i = 0; i < L1_FLOATS; i++)
        r.x[i] = r.z[i] = 0.25f + (float)(i % 97) / 97; /* positive: good for logarithms and roots */
    for (int i = 0; i < ROW_UNARY_COUNT + ROW_BINARY_COUNT; i++) {
        char name[32];
        double bytes;

        (void)snprintf(name, sizeof name, "%s", row_names[i]);
        for (char *p = name; *p; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
        if (!heed__bench_wanted(b, name))
            continue;
        r.unary = i < ROW_UNARY_COUNT ? i : -1;
        r.binary = i - ROW_UNARY_COUNT;
        bytes = (double)(i < ROW_UNARY_COUNT ? 2 : 3) * L1_FLOATS * sizeof(float);
        STEP(heed__bench_peaks(b));
        STEP(heed__bench_time(b, (heed_bench_row){ .name = name, .threads = 1, .unit = HEED_BENCH_GBS },
                              bytes, b->l1_gbs, row_once, &r, NULL));
    }
done:
    heed__release(b->ctx->heap, memory);
    return st;
}

/* ---- the demo model ---- */

typedef struct model_run {
    bench *b;
    const heed_architecture *architecture;
    arena arena;
    void *config;
    heed_model *model;
    heed_trainer *trainer;
    heed_tensor x, y, logits;
} model_run;

static heed_status model_prepare(model_run *m, heed_context *ctx, int64_t batch, heed_error *err)
{
    heap *h = ctx->heap;

    m->architecture = heed__architecture("conv-attention");
    if (!m->architecture)
        return heed__fail(err, HEED_ERR_BUG, "there is no architecture conv-attention");
    heed__arena_init(&m->arena, h);
    m->config = heed__arena_alloc(&m->arena, 1, m->architecture->config_size);
    m->x = (heed_tensor){ .type = HEED_TYPE(HEED_F32, batch, 1, 28, 28) };
    m->y = (heed_tensor){ .type = HEED_TYPE(HEED_I64, batch) };
    m->logits = (heed_tensor){ .type = HEED_TYPE(HEED_F32, batch, 10) };
    m->x.data = heed__arena_alloc(&m->arena, (size_t)batch * 784, sizeof(float));
    m->y.data = heed__arena_alloc(&m->arena, (size_t)batch, sizeof(int64_t));
    m->logits.data = heed__arena_alloc(&m->arena, (size_t)batch * 10, sizeof(float));
    if (!m->config || !m->x.data || !m->y.data || !m->logits.data)
        return heed__fail_memory(err, 0);
    heed__bench_fill(&m->x, 1);
    heed__bench_fill(&m->y, 1);
    TRY(heed__fields_default(m->architecture->fields, m->config, &m->arena, err));
    return heed_model_new(&m->model, ctx, m->architecture->build, m->config, NULL, err);
}

static void model_release(model_run *m)
{
    heed_trainer_free(m->trainer);
    heed_model_free(m->model);
    if (m->arena.heap)
        heed__arena_release(&m->arena);
}

static heed_status model_step(void *user, heed_error *err)
{
    model_run *m = user;

    return heed_trainer_step(m->trainer, &m->x, 1, &m->y, NULL, err);
}

static heed_status model_forward(void *user, heed_error *err)
{
    model_run *m = user;

    return heed_model_run(m->model, &m->x, 1, &m->logits, 1, err);
}

/* From nothing to the first prediction: context, graph, weights, plan, one run. */
static heed_status model_start(void *user, heed_error *err)
{
    const bench *b = user;
    model_run m = { 0 };
    heed_context *ctx = NULL;
    heed_status st;

    STEP(heed_context_new(
        &ctx, &(heed_context_opts){ .threads = heed_context_threads(b->ctx), .isa = b->ctx->isa }, err));
    STEP(model_prepare(&m, ctx, 1, err));
    STEP(model_forward(&m, err));
done:
    model_release(&m);
    heed_context_free(ctx);
    return st;
}

static heed_status bench_train(bench *b, const char *name, int threads)
{
    model_run m = { 0 };
    heed_status st;

    STEP(heed__bench_peaks(b));
    STEP(model_prepare(&m, b->ctx, 128, b->err));
    STEP(heed_trainer_new(
        &m.trainer, m.model,
        &(heed_trainer_opts){ .optimizer = HEED_ADAMW, .lr = HEED_SET(1e-4f), .clip_norm = 1 }, b->err));
    heed_trainer_profile(m.trainer, b->profile);
    STEP(model_step(&m, b->err));
    STEP(heed__bench_time(b, (heed_bench_row){ .name = name, .threads = threads, .unit = HEED_BENCH_GFLOPS },
                          heed_trainer_report(m.trainer).flops, threads * b->gflops, model_step, &m, NULL));
done:
    model_release(&m);
    return st;
}

static heed_status bench_forward(bench *b, const char *name, int threads, int64_t batch)
{
    model_run m = { 0 };
    const heed_plan *plan;
    heed_status st;

    STEP(heed__bench_peaks(b));
    STEP(model_prepare(&m, b->ctx, batch, b->err));
    heed_model_profile(m.model, b->profile);
    STEP(heed_model_plan(m.model, &m.x.type, 1, &plan, b->err));
    STEP(heed__bench_time(b, (heed_bench_row){ .name = name, .threads = threads, .unit = HEED_BENCH_GFLOPS },
                          heed_plan_describe(plan).flops, threads * b->gflops, model_forward, &m, NULL));
done:
    model_release(&m);
    return st;
}

static heed_status bench_models(bench *b)
{
    static const char train[] = "model training step, 128 pictures",
                      many[] = "model prediction, 128 pictures", one[] = "model prediction, 1 picture",
                      start[] = "start to the first prediction";
    const int threads = heed_context_threads(b->ctx);

    if (heed__bench_wanted(b, train))
        TRY(bench_train(b, train, threads));
    if (heed__bench_wanted(b, many))
        TRY(bench_forward(b, many, threads, 128));
    if (heed__bench_wanted(b, one))
        TRY(bench_forward(b, one, threads, 1));
    if (heed__bench_wanted(b, start))
        TRY(heed__bench_time(b, (heed_bench_row){ .name = start, .threads = threads }, 0, 0, model_start, b,
                             NULL));
    return HEED_OK;
}

heed_status heed_bench_run(heed_context *ctx, const heed_bench_opts *opts, heed_bench_fn *each, void *user,
                           heed_error *err)
{
    bench b = { .ctx = ctx,
                .err = err,
                .each = each,
                .user = user,
                .filter = opts ? opts->filter : NULL,
                .profile = opts ? opts->profile : NULL,
                .seconds = opts && opts->seconds > 0 ? opts->seconds : 0.25,
                .rounds = opts && opts->rounds > 0 ? opts->rounds : ROUNDS,
                .list = opts && opts->what == HEED_BENCH_LIST };

    if (b.profile)
        heed_profile_switch(b.profile, HEED_PROFILE_OFF);
    if (b.rounds > ROUNDS_MOST)
        return heed__fail(err, HEED_ERR_USAGE, "a benchmark has at most %d rounds, not %d", ROUNDS_MOST,
                          b.rounds);
    TRY(bench_graphs(&b));
    TRY(heed__bench_attention(&b));
    TRY(bench_decode(&b));
    TRY(bench_models(&b));
    TRY(bench_rows(&b));
    if (b.told == 0)
        return heed__fail(err, HEED_ERR_USAGE, "no benchmark has \"%.60s\" in its name",
                          b.filter ? b.filter : "");
    return HEED_OK;
}
