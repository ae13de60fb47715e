/* Benchmarks of attention: each kind at each number of tokens, forward and both ways, as whole sessions; and how the cost of
 * sparse kinds grows with the tokens.
 *
 * What counts as work are the pairs of query and key that the mask keeps: 2 multiply-adds a pair and column forward, 5 more
 * backward. So a kernel that visits what is masked away shows a low rate. */

#include "base/error.h"
#include "ops/ops.h"
#include "train/bench.h"
#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WINDOW 256
#define GLOBALS 4
#define BLOCK 64
#define STEP_HIDDEN 4 /* widths of the feed-forward part of a training step */
#define STRIDE 16 /* with a window: 16 neighbours, then each 16th key */

typedef enum kind_flags {
    KIND_LAYER = 1,   /* heed_multihead_attention around it, width heads * columns */
    KIND_SECOND = 2,  /* wants probes that take a second pass */
    KIND_LEARNED = 4, /* the bias has a gradient: both ways only */
    KIND_LINEAR = 8,  /* no pairs: two products of [D,Dv] a token */
    KIND_STEP = 16    /* a training step of a Transformer layer of that width, both ways only */
} kind_flags;

typedef struct attention_kind {
    const char *name;
    void (*set)(heed_builder *b, heed_attention_spec *spec, const int64_t *size);
    double (*kept)(int64_t row, int64_t tokens); /* keys that a row keeps; NULL: all */
    unsigned flags;
} attention_kind;

/* One row. size: batch, heads, tokens, columns of a head. */
typedef struct attention_row {
    const attention_kind *kind;
    int64_t size[4];
    bool both, growth;
} attention_row;

/* ---- kinds ---- */

static void set_causal(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->mask.causal = true;
}

static double kept_causal(int64_t row, int64_t tokens)
{
    (void)tokens;
    return (double)row + 1;
}

static void set_window(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->mask.window.on = true;
    spec->mask.window.left = WINDOW - 1;
}

static double kept_window(int64_t row, int64_t tokens)
{
    (void)tokens;
    return row < WINDOW ? (double)row + 1 : WINDOW;
}

/* Longformer as a decoder has it: the first tokens are seen by all. */
static void set_globals(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    set_window(b, spec, size);
    spec->mask.causal = true;
    spec->in.globals = heed_input(b, "globals", HEED_TYPE(HEED_I64, GLOBALS)); /* filled with 0, 1, .. */
}

static double kept_globals(int64_t row, int64_t tokens)
{
    const int64_t left = row - WINDOW + 1; /* first key of the window */

    return kept_window(row, tokens) + (double)(left <= 0 ? 0 : left < GLOBALS ? left : GLOBALS);
}

static void set_block(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    const int64_t n = (size[2] + BLOCK - 1) / BLOCK;

    spec->mask.block[0] = spec->mask.block[1] = BLOCK;
    spec->in.block_keep = heed_input(b, "block_keep", HEED_TYPE(HEED_BOOL, n, n));
}

/* One block in eight, spread evenly, and the diagonal. */
static bool keeps_block(int64_t q, int64_t k)
{
    return q == k || (5 * q + k) % 8 == 0;
}

/* The diagonal, the block before it, the first block: as many for each row at any length. */
static bool keeps_band(int64_t q, int64_t k)
{
    return q == k || q == k + 1 || k == 0;
}

static double kept_blocks(bool (*keeps)(int64_t q, int64_t k), int64_t row, int64_t tokens)
{
    double kept = 0;

    for (int64_t k = 0; k * BLOCK < tokens; k++)
        if (keeps(row / BLOCK, k))
            kept += (double)(tokens - k * BLOCK < BLOCK ? tokens - k * BLOCK : BLOCK);
    return kept;
}

static double kept_block(int64_t row, int64_t tokens)
{
    return kept_blocks(keeps_block, row, tokens);
}

static double kept_band(int64_t row, int64_t tokens)
{
    return kept_blocks(keeps_band, row, tokens);
}

static void set_stride(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->mask.window.on = true;
    spec->mask.window.left = WINDOW - 1;
    spec->mask.stride = STRIDE;
}

static double kept_stride(int64_t row, int64_t tokens)
{
    const int64_t back = row < WINDOW ? row : WINDOW - 1;
    const int64_t kept = (back < STRIDE ? back + 1 : STRIDE) + back / STRIDE;

    (void)tokens;
    return (double)kept;
}

static void set_bias(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    spec->in.bias = heed_input(b, "bias", HEED_TYPE(HEED_F32, 1, size[1], size[2], size[2]));
}

static void set_alibi(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    set_causal(b, spec, size);
    spec->position.alibi = true;
}

static void set_dropout(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->combine.dropout.p = 0.1;
    spec->combine.dropout.name = "dropout";
}

static void set_mean(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->probe.mean = true;
}

static void set_top(heed_attention_spec *spec, int64_t k)
{
    spec->normaliser.kind = HEED_NORMALISER_TOPK;
    spec->normaliser.k = k;
}

static void set_top_8(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    set_top(spec, 8);
}

static void set_top_64(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    set_top(spec, 64);
}

static void set_top_512(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    set_top(spec, 512);
}

/* What one pass over the rows gives. */
static void set_row_probes(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    static const int64_t listed[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

    (void)b, (void)size;
    spec->probe.entropy = spec->probe.distance = true;
    spec->probe.topk = 8;
    spec->probe.rows = (heed_attention_list){ listed, 16 };
}

/* What takes a second pass. */
static void set_key_probes(heed_builder *b, heed_attention_spec *spec, const int64_t *size)
{
    (void)b, (void)size;
    spec->probe.received = true;
    spec->probe.pooled[0] = spec->probe.pooled[1] = BLOCK;
}

static const attention_kind kinds[] = {
    { "full", NULL, NULL, 0 },
    { "causal", set_causal, kept_causal, 0 },
    { "window 256", set_window, kept_window, 0 },
    { "window 256 and globals", set_globals, kept_globals, 0 },
    { "block 64", set_block, kept_block, 0 },
    { "bias", set_bias, NULL, 0 },
    { "learned bias", set_bias, NULL, KIND_LEARNED },
    { "alibi", set_alibi, kept_causal, 0 },
    { "dropout 0.1", set_dropout, NULL, 0 },
    { "mean weights", set_mean, NULL, KIND_SECOND },
    { "row probes", set_row_probes, NULL, 0 },
    { "key probes", set_key_probes, NULL, KIND_SECOND },
    { "top 8", set_top_8, NULL, 0 }, /* all scores count as work, chosen or not */
    { "top 64", set_top_64, NULL, 0 },
    { "top 512", set_top_512, NULL, 0 },
    { "layer", NULL, NULL, KIND_LAYER },
    { "layer, mean weights", set_mean, NULL, KIND_LAYER | KIND_SECOND },
    { "training step", NULL, NULL, KIND_STEP },
    { "training step, key probes", set_key_probes, NULL, KIND_STEP | KIND_SECOND },
};
static const int64_t tokens_of_kinds[] = { 128, 512, 1024, 2048, 4096 };

/* Kinds whose cost should grow with the tokens, not with their square. */
static const struct growth_kind {
    attention_kind kind;
    int64_t heads;
} growth_kinds[] = {
    { { "window 256", set_window, kept_window, 0 }, 8 },
    { { "window 256 and stride 16", set_stride, kept_stride, 0 }, 8 },
    { { "block 64, a band", set_block, kept_band, 0 }, 8 },
    { { "linear", set_causal, NULL, KIND_LINEAR }, 2 },
};
static const int64_t tokens_of_growth[] = { 256, 512, 1024, 2048, 4096, 8192, 16384, 32768 };

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define KIND_ROWS (COUNT(kinds) * COUNT(tokens_of_kinds) * 2)
#define GROWTH_ROWS (COUNT(growth_kinds) * COUNT(tokens_of_growth) * 2)

/* Row i: kinds, in each its tokens, in each forward and both ways; then growth: kinds, ways, tokens. */
static attention_row attention_row_at(int i)
{
    attention_row r = { .size = { 4, 8, 0, 64 } };

    if (i < KIND_ROWS) {
        r.both = i % 2;
        r.size[2] = tokens_of_kinds[i / 2 % COUNT(tokens_of_kinds)];
        r.kind = &kinds[i / 2 / COUNT(tokens_of_kinds)];
        r.size[0] = r.kind->flags & KIND_STEP ? 1 : r.size[0];
        return r;
    }
    i -= KIND_ROWS;
    r.growth = true;
    r.size[0] = 1;
    r.size[2] = tokens_of_growth[i % COUNT(tokens_of_growth)];
    r.both = i / COUNT(tokens_of_growth) % 2;
    i = i / COUNT(tokens_of_growth) / 2;
    r.kind = &growth_kinds[i].kind;
    r.size[1] = growth_kinds[i].heads;
    return r;
}

/* A learned bias is nothing of its own forward, nor is a step. */
static bool attention_row_exists(const attention_row *r)
{
    return r->both || !(r->kind->flags & (KIND_LEARNED | KIND_STEP));
}

static void attention_name(char to[BENCH_NAME], const attention_row *r)
{
    (void)snprintf(to, BENCH_NAME, "attention %s%s %s %lldx%lldx%lldx%lld", r->growth ? "growth " : "",
                   r->kind->name, r->both ? "both" : "forward", (long long)r->size[0], (long long)r->size[1],
                   (long long)r->size[2], (long long)r->size[3]);
}

/* ---- graphs ---- */

static void output_if(heed_builder *b, const char *name, heed_value x)
{
    if (x.id)
        heed_output(b, name, x);
}

static void build_core(heed_builder *b, const attention_row *r, heed_attention_spec *spec)
{
    static const char *const names[] = { "q", "k", "v" }, *const d_names[] = { "dq", "dk", "dv", "dbias" };
    const int64_t *s = r->size;
    heed_value x[4], d[4], dout;
    heed_attended a;
    int n = 3;

    for (int i = 0; i < 3; i++)
        x[i] = heed_input(b, names[i], HEED_TYPE(HEED_F32, s[0], s[1], s[2], s[3]));
    if (r->kind->set)
        r->kind->set(b, spec, s);
    if (r->kind->flags & KIND_LINEAR)
        spec->normaliser.kind = HEED_NORMALISER_LINEAR;
    a = heed_attention(b, x[0], x[1], x[2], spec);
    heed_output(b, "out", a.out);
    output_if(b, "rows", a.rows);
    output_if(b, "topk_values", a.topk_values);
    output_if(b, "topk_indices", a.topk_indices);
    output_if(b, "pooled", a.pooled);
    output_if(b, "received", a.received);
    output_if(b, "entropy", a.entropy);
    output_if(b, "distance", a.distance);
    output_if(b, "mean", a.mean);
    if (!r->both)
        return;
    if (r->kind->flags & KIND_LEARNED)
        x[n++] = spec->in.bias;
    dout = heed_input(b, "dout", heed_value_type(b, a.out));
    heed_grad_of(b, &a.out, &dout, 1, x, n, d);
    for (int i = 0; i < n; i++)
        heed_output(b, d_names[i], d[i]);
}

/* torch.nn.MultiheadAttention: four products around it; gradients of the input and of the four parameters. */
static void build_layer(heed_builder *b, const attention_row *r, heed_attention_spec *spec)
{
    static const char *const d_names[] = { "dx", "d0", "d1", "d2", "d3" };
    const int64_t *s = r->size;
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, s[0], s[2], s[1] * s[3]));
    heed_value from[5] = { x }, d[5], y, dy;
    int n;

    if (r->kind->set)
        r->kind->set(b, spec, s);
    y = heed_multihead_attention(b, "layer", x, s[1], &(heed_mha_opts){ .spec = *spec }, NULL);
    heed_output(b, "out", y);
    if (!r->both)
        return;
    n = heed_params(b, from + 1, 4) + 1;
    dy = heed_input(b, "dout", heed_value_type(b, y));
    heed_grad_of(b, &y, &dy, 1, from, n, d);
    for (int i = 0; i < n && i < COUNT(d_names); i++)
        heed_output(b, d_names[i], d[i]);
}

/* One step of AdamW of parameter number n. */
static void step_parameter(heed_builder *b, int n, heed_value p, heed_value dp)
{
    const adam_hyper h = { 0.9, 0.999, 1e-8, 0.01, .decoupled = true };
    const heed_value one = heed_scalar(b, HEED_F32, 1);
    heed_value m[2], now[3];
    char name[32];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "moment%d.%d", i, n);
        m[i] = now[i] = heed_state(b, name, heed_value_type(b, p), NULL);
    }
    now[2] = heed__adam(b, &h, p, dp, &now[0], &now[1], NULL, heed_scalar(b, HEED_F32, 1e-4), one, one);
    heed_assign(b, m[0], now[0]);
    heed_assign(b, m[1], now[1]);
    heed_assign(b, p, now[2]);
}

/* torch.nn.TransformerEncoderLayer, norm first, without dropout: forward, gradients of all parameters, AdamW. */
static void build_step(heed_builder *b, const attention_row *r, heed_attention_spec *spec)
{
    enum { PARAMETERS_MOST = 16 };
    const int64_t *s = r->size, width = s[1] * s[3];
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, s[0], s[2], width)),
               target = heed_input(b, "target", heed_value_type(b, x)), p[PARAMETERS_MOST],
               dp[PARAMETERS_MOST], away, loss;
    int n;

    if (r->kind->set)
        r->kind->set(b, spec, s);
    away = heed_encoder_layer(b, "layer", x, s[1],
                              &(heed_encoder_layer_opts){ .feedforward = STEP_HIDDEN * width,
                                                          .dropout = HEED_SET(0),
                                                          .activation = HEED_GELU,
                                                          .norm = HEED_PRE_NORM,
                                                          .spec = *spec });
    away = heed_sub(b, away, target);
    loss = heed_mean(b, heed_mul(b, away, away), 7, HEED_DROP_AXES);
    heed_output(b, "loss", loss);
    n = heed_params(b, p, PARAMETERS_MOST);
    heed_grad(b, loss, p, n, dp);
    for (int i = 0; i < n; i++)
        step_parameter(b, i, p[i], dp[i]);
}

static void attention_build(heed_builder *b, const void *what)
{
    const attention_row *r = what;
    heed_attention_spec spec = { 0 };

    if (r->kind->flags & KIND_LAYER)
        build_layer(b, r, &spec);
    else if (r->kind->flags & KIND_STEP)
        build_step(b, r, &spec);
    else
        build_core(b, r, &spec);
}

/* Which kernels compute the operator, or "composed" when the plan has opened it. */
static const char *attention_kernel(const heed_plan *plan, const attention_row *r)
{
    const char *forward = r->kind->flags & KIND_LINEAR ? "linear_attention" : "attention", *kernel = NULL;
    bool back = !r->both, probed = !(r->kind->flags & KIND_SECOND);

    for (int64_t i = 0; i < heed_plan_steps(plan); i++) {
        const heed_plan_step s = heed_plan_step_at(plan, i);

        if (strcmp(s.op, forward) == 0)
            kernel = s.kernel;
        else if (strcmp(s.op, "attention_grad") == 0 || strcmp(s.op, "linear_attention_grad") == 0) {
            back = true;
            probed |= strcmp(s.kernel, "tiles") == 0; /* which gives them on its way */
        } else if (strcmp(s.op, "attention_probe") == 0)
            probed = true;
    }
    return !kernel            ? "composed"
           : !back && !probed ? "composed backward and probes"
           : !back            ? "composed backward"
           : !probed          ? "composed probes"
                              : kernel;
}

static double attention_kept(const attention_row *r)
{
    double kept = 0;

    for (int64_t i = 0; i < r->size[2] && r->kind->kept; i++)
        kept += r->kind->kept(i, r->size[2]);
    return r->kind->kept ? kept : (double)r->size[2] * (double)r->size[2];
}

static double attention_flops(const attention_row *r)
{
    const double heads = (double)(r->size[0] * r->size[1]), d = (double)r->size[3], t = (double)r->size[2];
    const double pairs = r->kind->flags & KIND_LINEAR ? t * d : attention_kept(r);
    double flops = 4 * heads * pairs * d * (r->both ? 3.5 : 1);

    if (r->kind->flags & (KIND_LAYER | KIND_STEP))
        flops += (r->kind->flags & KIND_STEP ? 8 + 4 * STEP_HIDDEN : 8) * (double)r->size[0] * t *
                 (double)(r->size[1] * r->size[3]) * (double)(r->size[1] * r->size[3]) * (r->both ? 3 : 1);
    return flops;
}

static void attention_fill(bench_graph *g, const attention_row *r)
{
    bool (*const keeps)(int64_t, int64_t) = r->kind->kept == kept_band ? keeps_band : keeps_block;

    for (int i = 0; i < g->n_in && g->tensors; i++) {
        const heed_tensor *t = &g->tensors[i];
        const int64_t n = t->type.dims[0];

        if (strcmp(heed_plan_input_name(g->plan, i), "block_keep") != 0)
            continue;
        for (int64_t at = 0; at < n * n; at++)
            ((uint8_t *)t->data)[at] = keeps(at / n, at % n);
    }
}

static heed_status attention_prepare(bench_graph *g, heed_context *ctx, const attention_row *r,
                                     bench_depth depth, heed_bench_row *row, heed_error *err)
{
    static const char *const mean[] = { "layer.mean", NULL },
                      *const of_keys[] = { "layer.self_attn.received", "layer.self_attn.pooled", NULL };
    const char *const *taps = !(r->kind->flags & KIND_SECOND) ? NULL
                              : r->kind->flags & KIND_LAYER   ? mean
                              : r->kind->flags & KIND_STEP    ? of_keys
                                                              : NULL;

    TRY(heed__bench_prepare(g, ctx, attention_build, r,
                            &(heed_plan_opts){ .taps = taps, .results = HEED_RESULTS_DIRECT }, depth, err));
    attention_fill(g, r);
    row->kernel = attention_kernel(g->plan, r);
    row->block_bytes = heed_plan_describe(g->plan).block_bytes;
    row->kept =
        r->kind->flags & KIND_LINEAR ? 0 : attention_kept(r) / ((double)r->size[2] * (double)r->size[2]);
    if (depth == BENCH_SESSION && !g->session)
        row->skipped = "the plan needs more than 2 GiB";
    return HEED_OK;
}

/* ---- rows ---- */

/* Exponent e of cost ~ tokens^e: the slope of the line through the logarithms, least squares. */
typedef struct growth_fit {
    int n;
    int64_t from, to;
    double x, xx, time, x_time, memory, x_memory; /* sums */
} growth_fit;

static void growth_add(growth_fit *f, int64_t tokens, double seconds, double bytes)
{
    const double x = log((double)tokens), time = log(seconds), memory = log(bytes);

    f->from = f->n ? f->from : tokens;
    f->to = tokens;
    f->n++;
    f->x += x, f->xx += x * x;
    f->time += time, f->x_time += x * time;
    f->memory += memory, f->x_memory += x * memory;
}

static heed_status growth_tell(bench *b, const attention_row *r, const growth_fit *f)
{
    char name[BENCH_NAME];
    heed_bench_row row = { .name = name, .threads = heed_context_threads(b->ctx) };
    const double under = f->n * f->xx - f->x * f->x;

    (void)snprintf(name, sizeof name, "attention growth %s %s %lld to %lld", r->kind->name,
                   r->both ? "both" : "forward", (long long)f->from, (long long)f->to);
    row.time_exponent = (f->n * f->x_time - f->x * f->time) / under;
    row.memory_exponent = (f->n * f->x_memory - f->x * f->memory) / under;
    return heed__bench_tell(b, &row);
}

static heed_status attention_measure(bench *b, const attention_row *r, const char *name, growth_fit *fit)
{
    bench_graph g = { 0 };
    heed_bench_row row = { .name = name, .threads = heed_context_threads(b->ctx), .unit = HEED_BENCH_GFLOPS };
    double best = 0;
    heed_status st;

    STEP(heed__bench_peaks(b));
    STEP(attention_prepare(&g, b->ctx, r, b->list ? BENCH_PLAN : BENCH_SESSION, &row, b->err));
    if (row.skipped || b->list) {
        STEP(heed__bench_tell(b, &row));
        goto done;
    }
    heed_session_profile(g.session, b->profile);
    STEP(heed__bench_memory(&g, &row, b->err));
    STEP(heed__bench_time(b, row, attention_flops(r), row.threads * b->gflops, heed__bench_once, &g, &best));
    if (r->growth)
        growth_add(fit, r->size[2], best, (double)row.extra_bytes + (double)row.tensor_bytes);
done:
    heed__bench_release(&g);
    return st;
}

heed_status heed__bench_attention(bench *b)
{
    growth_fit fit = { 0 };

    for (int i = 0; i < KIND_ROWS + GROWTH_ROWS; i++) {
        const attention_row r = attention_row_at(i);
        char name[BENCH_NAME];

        attention_name(name, &r);
        if (r.growth && r.size[2] == tokens_of_growth[0])
            fit = (growth_fit){ 0 };
        if (attention_row_exists(&r) && heed__bench_wanted(b, name) &&
            (b->filter || (!r.growth && r.size[2] == 512))) /* the rest is long: for those who ask for it */
            TRY(attention_measure(b, &r, name, &fit));
        if (r.growth && r.size[2] == tokens_of_growth[COUNT(tokens_of_growth) - 1] && fit.n >= 3)
            TRY(growth_tell(b, &r, &fit));
    }
    return HEED_OK;
}

heed_status heed__bench_attention_open(bench_graph *g, heed_context *ctx, const char *name,
                                       heed_bench_row *row, double *flops, heed_error *err)
{
    for (int i = 0; i < KIND_ROWS + GROWTH_ROWS; i++) {
        const attention_row r = attention_row_at(i);
        char own[BENCH_NAME];

        attention_name(own, &r);
        if (strcmp(own, name) != 0 || !attention_row_exists(&r))
            continue;
        *row =
            (heed_bench_row){ .name = name, .threads = heed_context_threads(ctx), .unit = HEED_BENCH_GFLOPS };
        *flops = attention_flops(&r);
        return attention_prepare(g, ctx, &r, BENCH_SESSION, row, err);
    }
    return heed__fail(err, HEED_ERR_USAGE, "no benchmark is named \"%.80s\"", name);
}
