/* The rows kernels and the linear ones against the composition of primitives, cell by cell: values and gradients; bytes
 * for any number of threads; that what is asked for besides changes no bit, nor what stands beside a row. */
#include "attention/attention.h"
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tensors that a cell is given. */
enum {
    LENGTHS_OF = 1 << 0,
    Q_LENGTHS_OF = 1 << 1,
    OFFSETS = 1 << 2,
    SEGMENTS = 1 << 3,
    MASK_OF = 1 << 4,
    BLOCKS = 1 << 5,
    GLOBALS_OF = 1 << 6,
    GRAPH = 1 << 7,
    BIAS_FULL = 1 << 8,
    BIAS_HEADS = 1 << 9, /* [1,Hq,1,Tk] */
    BIAS_ONE = 1 << 10,  /* [1,1,Tq,1] */
    SLOPES = 1 << 11,
    SHAW = 1 << 12,
    XL = 1 << 13,
    TEMPERATURE = 1 << 14,
    SINK = 1 << 15,
    SIGMOID_BIAS = 1 << 16,
    ALPHA = 1 << 17,
    SPAN = 1 << 18,
    DROP = 1 << 19,
    INTEGERS = 1 << 20,  /* q and k of small integers: ties */
    NO_SPAN = 1 << 21,   /* a span so far below that every factor is 0 */
    BIAS_BATCH = 1 << 22, /* [B,1,Tq,Tk] */
    FAR_APART = 1 << 23   /* each 50th key is near to all queries, and the values of the others are NaN */
};

/* What is wanted besides out. */
enum { GRADIENTS = 1, LSE = 2, WEIGHTS = 4, PROBES = 8, SECOND = 16, UP_WEIGHTS = 32 };

typedef struct cell {
    const char *name;
    heed_attention_spec spec;
    unsigned given;
    int64_t batch, heads, key_heads, queries, keys, width, value_width; /* 0: those of `usual` */
} cell;
static const cell usual = { "", { .softcap = 0 }, 0, 2, 4, 2, 70, 131, 5, 6 };

typedef enum filling {
    FILL_NUMBERS,
    FILL_SMALL,
    FILL_POSITIVE_NUMBERS,
    FILL_ALPHAS,
    FILL_SPANS,
    FILL_KEPT,
    FILL_LENGTH,
    FILL_Q_LENGTH,
    FILL_OFFSET,
    FILL_SEGMENT,
    FILL_GLOBAL,
    FILL_INDPTR,
    FILL_EDGES,
    FILL_INTEGER
} filling;

typedef struct run {
    cell c;
    unsigned wanted;
    int n;
    filling of[TRIAL_VALUES];
    int what[TRIAL_VALUES]; /* 0 q, 1 k, 2 v, 3 dout, else other */
    int n_out;
    heed_tensor out[TRIAL_VALUES];
    char name[TRIAL_VALUES][24];
} run;

static heed_value add(run *r, heed_builder *b, const char *name, filling f, int what, heed_type t)
{
    r->of[r->n] = f;
    r->what[r->n++] = what;
    return heed_input(b, name, t);
}

static void outputs(heed_builder *b, const char *name, heed_value x)
{
    if (x.id)
        heed_output(b, name, x);
}

#define GIVEN(bit) (r->c.given & (bit))
#define F32(...) HEED_TYPE(HEED_F32, __VA_ARGS__)
#define I64(...) HEED_TYPE(HEED_I64, __VA_ARGS__)

static void build_run(heed_builder *b, void *user)
{
    static const int64_t listed_rows[] = { 3, 0, 3, 69 }, listed_heads[] = { 1, 1, 0 };
    run *r = user;
    const cell *c = &r->c;
    heed_attention_spec s = c->spec;
    heed_value wrt[24], d[24], y[3], dy[3], q, k, v;
    const char *names[24];
    int n = 0, n_y = 0;
    heed_attended a;
    const filling f = GIVEN(INTEGERS) ? FILL_INTEGER : FILL_NUMBERS;

    r->n = 0;
    q = add(r, b, "q", f, 0, F32(c->batch, c->heads, c->queries, c->width));
    k = add(r, b, "k", f, 1, F32(c->batch, c->key_heads, c->keys, c->width));
    v = add(r, b, "v", FILL_NUMBERS, 2, F32(c->batch, c->key_heads, c->keys, c->value_width));
#define TENSOR(bit, member, fill, differentiable, ...)                                                       \
    if (bit) {                                                                                               \
        s.in.member = add(r, b, #member, fill, 4, __VA_ARGS__);                                              \
        if (differentiable) {                                                                                \
            names[n] = "d_" #member;                                                                         \
            wrt[n++] = s.in.member;                                                                          \
        }                                                                                                    \
    }
    names[0] = "d_q", names[1] = "d_k", names[2] = "d_v";
    wrt[0] = q, wrt[1] = k, wrt[2] = v;
    n = 3;
    TENSOR(GIVEN(LENGTHS_OF), lengths, FILL_LENGTH, false, I64(c->batch))
    TENSOR(GIVEN(Q_LENGTHS_OF), q_lengths, FILL_Q_LENGTH, false, I64(c->batch))
    TENSOR(GIVEN(OFFSETS), offset, FILL_OFFSET, false, I64(c->batch))
    TENSOR(GIVEN(SEGMENTS), q_seg, FILL_SEGMENT, false, I64(c->batch, c->queries))
    TENSOR(GIVEN(SEGMENTS), k_seg, FILL_SEGMENT, false, I64(c->batch, c->keys))
    TENSOR(GIVEN(MASK_OF), mask, FILL_KEPT, false, HEED_TYPE(HEED_BOOL, 1, c->heads, c->queries, c->keys))
    TENSOR(GIVEN(BLOCKS), block_keep, FILL_KEPT, false,
           HEED_TYPE(HEED_BOOL, i64_ceil_div(c->queries, s.mask.block[0]),
                     i64_ceil_div(c->keys, s.mask.block[1])))
    TENSOR(GIVEN(GLOBALS_OF), globals, FILL_GLOBAL, false, I64(2))
    TENSOR(GIVEN(GRAPH), graph_indptr, FILL_INDPTR, false, I64(c->queries + 1))
    TENSOR(GIVEN(GRAPH), graph_indices, FILL_EDGES, false, I64(2 * c->queries))
    TENSOR(GIVEN(BIAS_FULL), bias, FILL_NUMBERS, true, F32(c->batch, c->heads, c->queries, c->keys))
    TENSOR(GIVEN(BIAS_HEADS), bias, FILL_NUMBERS, true, F32(1, c->heads, 1, c->keys))
    TENSOR(GIVEN(BIAS_ONE), bias, FILL_NUMBERS, true, F32(1, 1, c->queries, 1))
    TENSOR(GIVEN(BIAS_BATCH), bias, FILL_NUMBERS, true, F32(c->batch, 1, c->queries, c->keys))
    TENSOR(GIVEN(SLOPES), alibi_slopes, FILL_SMALL, true, F32(c->heads))
    TENSOR(GIVEN(SHAW), shaw_k, FILL_NUMBERS, true, F32(7, c->width))
    TENSOR(GIVEN(SHAW), shaw_v, FILL_NUMBERS, true, F32(7, c->value_width))
    TENSOR(GIVEN(XL), xl_r, FILL_NUMBERS, true, F32(9, c->heads, c->width))
    TENSOR(GIVEN(XL), xl_u, FILL_NUMBERS, true, F32(c->heads, c->width))
    TENSOR(GIVEN(XL), xl_v, FILL_NUMBERS, true, F32(c->heads, c->width))
    TENSOR(GIVEN(TEMPERATURE), temperature, FILL_POSITIVE_NUMBERS, true, F32(c->heads))
    TENSOR(GIVEN(SINK), sink, FILL_NUMBERS, true, F32(c->heads))
    TENSOR(GIVEN(SIGMOID_BIAS), sigmoid_bias, FILL_NUMBERS, true, F32(1))
    TENSOR(GIVEN(ALPHA), alpha, FILL_ALPHAS, true, F32(c->heads))
    TENSOR(GIVEN(SPAN | NO_SPAN), span, FILL_SPANS, true, F32(c->heads))
    TENSOR(GIVEN(DROP), dropout_keep, FILL_KEPT, false,
           HEED_TYPE(HEED_BOOL, c->batch, c->heads, c->queries, c->keys))
    TENSOR(s.score.kind == HEED_SCORE_ADDITIVE, add_wq, FILL_NUMBERS, true, F32(1, 9, c->width))
    TENSOR(s.score.kind == HEED_SCORE_ADDITIVE, add_wk, FILL_NUMBERS, true, F32(c->heads, 9, c->width))
    TENSOR(s.score.kind == HEED_SCORE_ADDITIVE, add_v, FILL_NUMBERS, true, F32(c->heads, 9))
    if (r->wanted & PROBES) {
        s.probe.rows = (heed_attention_list){ listed_rows, 4 };
        s.probe.heads = (heed_attention_list){ listed_heads, 3 };
        s.probe.topk = 5;
        s.probe.entropy = s.probe.distance = true;
    }
    if (r->wanted & SECOND) {
        s.probe.pooled[0] = 12;
        s.probe.pooled[1] = 50;
        s.probe.received = s.probe.mean = true;
    }
    a = heed_attention(b, q, k, v, &s);
    heed_output(b, "out", a.out);
    if (r->wanted & LSE)
        outputs(b, "lse", a.lse);
    if (r->wanted & WEIGHTS)
        outputs(b, "weights", a.weights);
    outputs(b, "rows", a.rows);
    outputs(b, "topk_values", a.topk_values);
    outputs(b, "topk_indices", a.topk_indices);
    outputs(b, "entropy", a.entropy);
    outputs(b, "distance", a.distance);
    outputs(b, "pooled", a.pooled);
    outputs(b, "received", a.received);
    outputs(b, "mean", a.mean);
    if (!(r->wanted & GRADIENTS))
        return;
    y[n_y] = a.out;
    dy[n_y++] = add(r, b, "dout", FILL_NUMBERS, 3, F32(c->batch, c->heads, c->queries, c->value_width));
    if (a.lse.id) {
        y[n_y] = a.lse;
        dy[n_y++] = add(r, b, "dlse", FILL_NUMBERS, 4, F32(c->batch, c->heads, c->queries));
    }
    if (r->wanted & UP_WEIGHTS) {
        y[n_y] = a.weights;
        dy[n_y++] = add(r, b, "dweights", FILL_NUMBERS, 4, F32(c->batch, c->heads, c->queries, c->keys));
    }
    heed_grad_of(b, y, dy, n_y, wrt, n, d);
    for (int i = 0; i < n; i++)
        heed_output(b, names[i], d[i]);
}

/* ---- numbers ---- */

static uint32_t mixed(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* -1 .. 1 */
static float number_of(int which, int64_t at)
{
    return (float)(mixed((uint32_t)at + (uint32_t)which * 77777u) >> 8) * 0x1p-23f - 1;
}

static int64_t length_of(int64_t most, int64_t b)
{
    return b % 2 ? most : most * 3 / 5;
}

static void fill(const run *r, int which, const heed_tensor *x)
{
    const cell *c = &r->c;
    const int64_t n = heed_type_count(&x->type);
    float *to = x->data;
    int64_t *whole = x->data;

    for (int64_t i = 0; i < n; i++) {
        const float u = number_of(which, i);

        switch (r->of[which]) {
        case FILL_NUMBERS:
            to[i] = u;
            break;
        case FILL_SMALL:
            to[i] = 0.02f * u;
            break;
        case FILL_POSITIVE_NUMBERS:
            to[i] = 1 + 0.6f * u;
            break;
        case FILL_ALPHAS:
            to[i] = 1.5f + 0.45f * u;
            break;
        case FILL_SPANS:
            to[i] = c->given & NO_SPAN ? -1e5f : 20 + 10 * u;
            break;
        case FILL_KEPT:
            ((bool *)x->data)[i] = u > -0.5f;
            break;
        case FILL_LENGTH:
            whole[i] = length_of(c->keys, i);
            break;
        case FILL_Q_LENGTH:
            whole[i] = length_of(c->queries, i);
            break;
        case FILL_OFFSET:
            whole[i] = 20 * i - 7;
            break;
        case FILL_SEGMENT:
            whole[i] = i % x->type.dims[1] * 3 / x->type.dims[1] - (u > 0.9f);
            break;
        case FILL_GLOBAL:
            whole[i] = 65 * i + 2;
            break;
        case FILL_INDPTR:
            whole[i] = i < n / 2 ? 2 * i : i == n - 1 ? 2 * (n - 1) : 2 * (n / 2);
            break;
        case FILL_EDGES:
            whole[i] = i;
            break;
        case FILL_INTEGER:
            to[i] = (float)(int)(u * 2.5f);
            break;
        }
    }
    if (r->of[which] ==
        FILL_EDGES) { /* two a row; the last row has all that are left: rising inside of each */
        const int64_t half = 2 * ((c->queries + 1) / 2);

        for (int64_t e = 0; e < n; e++)
            whole[e] = e < half ? (e / 2 * 37 % (c->keys - 20)) + e % 2 * 9 : e - half;
    }
    for (int64_t i = 0; c->given & FAR_APART && i < n && r->what[which] < 3; i++) {
        const bool near = i / x->type.dims[3] % x->type.dims[2] % 50 == 0;

        to[i] = r->what[which] == 0 ? 1 : r->what[which] == 2 ? (near ? to[i] : NAN) : near ? 1 : -1;
    }
    if (r->what[which] < 4) { /* poison behind the lengths */
        const bool query = r->what[which] == 0 || r->what[which] == 3;

        for (int64_t i = 0; i < n; i++) {
            const int64_t width = x->type.dims[3], t = i / width % x->type.dims[2],
                          b = i / (width * x->type.dims[2] * x->type.dims[1]);

            if (c->given & (unsigned)(query ? Q_LENGTHS_OF : LENGTHS_OF) &&
                t >= length_of(query ? c->queries : c->keys, b))
                to[i] = NAN;
        }
    }
}

/* No cell is opened into primitives. */
static void assert_fused(const run *r, const heed_plan *p)
{
    const bool linear = r->c.spec.normaliser.kind == HEED_NORMALISER_LINEAR;
    int fused = 0, expected = 1;

    for (int64_t i = 0; i < heed_plan_steps(p); i++)
        fused += strstr(heed_plan_step_at(p, i).op, "attention") != NULL;
    if (r->wanted & GRADIENTS &&
        !(linear && r->wanted & UP_WEIGHTS)) /* dweights of the linear one are opened */
        expected++;
    if (r->wanted & SECOND && !linear)
        expected++;
    if (fused < expected)
        fail_msg("%s: %d of %d ops are fused", r->c.name, fused, expected);
}

static void go(run *r, heed_context *ctx, heed_kernels kernels)
{
    trial t;

    TOY_OK(trial_open(&t, ctx, build_run, r, &(heed_plan_opts){ .kernels = kernels }, TOY_ERR));
    for (int i = 0; i < t.n_in; i++)
        fill(r, i, &t.in[i].tensor);
    if (kernels == HEED_KERNELS_FAST && r->c.batch * r->c.queries * r->c.keys > 0)
        assert_fused(r, t.plan);
    TOY_OK(trial_run(&t, TOY_ERR));
    assert_string_equal(t.broken, "");
    r->n_out = t.n_out;
    for (int i = 0; i < t.n_out; i++) {
        r->out[i].type = t.out[i].tensor.type;
        r->out[i].data = trial_memory(t.out[i].bytes + 1, 1);
        memcpy(r->out[i].data, t.out[i].tensor.data, t.out[i].bytes);
        snprintf(r->name[i], sizeof r->name[i], "%s", heed_plan_output_name(t.plan, i));
    }
    trial_close(&t);
}

static void done(run *r)
{
    for (int i = 0; i < r->n_out; i++)
        free(r->out[i].data);
}

/* attention.md's tolerance, a little wider: both sides are rounded. Says how far it is, in shares of what is allowed. */
static double apart(const heed_tensor *got, const heed_tensor *want)
{
    const int64_t n = heed_type_count(&want->type);
    const float *x = got->data, *y = want->data;
    double most = 1, worst = 0;

    if (want->type.dtype == HEED_I64)
        return memcmp(got->data, want->data, (size_t)n * sizeof(int64_t)) ? INFINITY : 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(y[i]))
            most = fmax(most, fabs((double)y[i]));
    for (int64_t i = 0; i < n; i++) {
        const double allowed = 2e-5 * most + 2e-4 * fabs((double)y[i]);

        if (x[i] == y[i])
            continue;
        if (!isfinite(x[i]) || !isfinite(y[i]))
            return INFINITY;
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]) / allowed);
    }
    return worst;
}

static run of_cell(const cell *c, unsigned wanted)
{
    run r = { .c = *c, .wanted = wanted };

    if (!c->heads) {
        r.c = usual;
        r.c.name = c->name;
        r.c.spec = c->spec;
        r.c.given = c->given;
    }
    return r;
}

#define SCORE(k) .score.kind = HEED_SCORE_##k
#define KIND(k) .normaliser.kind = HEED_NORMALISER_##k
/* Of the usual sizes, or of these: batch, heads, key heads, queries, keys, width, width of values. */
#define CELL(text, tensors, ...)                                                                             \
    {                                                                                                        \
        .name = text, .given = tensors, .spec = { __VA_ARGS__ }                                              \
    }
#define SIZED(text, tensors, b, hq, hk, tq, tk, d, dv, ...)                                                  \
    {                                                                                                        \
        .name = text, .given = tensors, .spec = { __VA_ARGS__ }, .batch = b, .heads = hq, .key_heads = hk,   \
        .queries = tq, .keys = tk, .width = d, .value_width = dv                                             \
    }
static const cell cells[] = {
    CELL("additive", 0, SCORE(ADDITIVE)),
    CELL("additive, causal, lengths", LENGTHS_OF | Q_LENGTHS_OF, SCORE(ADDITIVE), .mask.causal = true),
    CELL("additive, sigmoid", SIGMOID_BIAS | MASK_OF, SCORE(ADDITIVE), KIND(SIGMOID), .softcap = 3),
    CELL("neg_sq_distance, offsets", OFFSETS | BIAS_FULL, SCORE(NEG_SQ_DISTANCE), .mask.causal = true),
    CELL("neg_distance, window", TEMPERATURE, SCORE(NEG_DISTANCE), .mask.window = { true, 9, 4 },
         .softcap = 2),
    CELL("neg_distance, topk", SLOPES, SCORE(NEG_DISTANCE), KIND(TOPK), .normaliser.k = 5),
    CELL("topk", LENGTHS_OF | Q_LENGTHS_OF, KIND(TOPK), .normaliser.k = 7),
    CELL("topk of ties", INTEGERS, SCORE(DOT), KIND(TOPK), .normaliser.k = 9, .mask.causal = true),
    CELL("topk of more than there are", SEGMENTS, KIND(TOPK), .normaliser.k = 400),
    CELL("hard", MASK_OF, KIND(HARD)),
    CELL("hard of ties", INTEGERS, KIND(HARD)),
    CELL("sparsemax", BIAS_HEADS, KIND(SPARSEMAX), .score.scale = HEED_SET(0.7f)),
    CELL("sparsemax, stride", GLOBALS_OF, KIND(SPARSEMAX), .mask.stride = 5),
    CELL("entmax15", BIAS_ONE, KIND(ENTMAX15), .mask.causal = true, .offset = HEED_SET(-5)),
    CELL("entmax", BLOCKS, KIND(ENTMAX), .normaliser.alpha = HEED_SET(1.2f)),
    CELL("entmax near softmax", 0, KIND(ENTMAX), .normaliser.alpha = HEED_SET(1.02f)),
    CELL("entmax learned", ALPHA | TEMPERATURE | Q_LENGTHS_OF, KIND(ENTMAX)),
    CELL("sigmoid", GRAPH, KIND(SIGMOID), .normaliser.bias = HEED_SET(-3)),
    CELL("adaptive_span", SPAN | LENGTHS_OF, KIND(ADAPTIVE_SPAN), .normaliser.ramp = HEED_SET(16)),
    CELL("adaptive_span, all factors 0", NO_SPAN, KIND(ADAPTIVE_SPAN)),
    CELL("shaw", SHAW | DROP | BIAS_BATCH, KIND(TOPK), .normaliser.k = 30),
    CELL("xl", XL, KIND(SPARSEMAX), .position.xl = { true, HEED_SET(4) }),
    CELL("softmax with everything", BIAS_FULL | SLOPES | TEMPERATURE, .softcap = 4, .mask.causal = true,
         .normaliser.plus_one = true),
    CELL("sink", SINK | SEGMENTS | SHAW, .softcap = 0),
    SIZED("softmax, wide", DROP, 1, 2, 1, 33, 67, 72, 80, .softcap = 9),
    CELL("linear", LENGTHS_OF | Q_LENGTHS_OF, KIND(LINEAR)),
    CELL("linear, plain", 0, KIND(LINEAR)),
    CELL("linear, causal, offsets", OFFSETS | LENGTHS_OF | Q_LENGTHS_OF, KIND(LINEAR), .mask.causal = true),
    SIZED("linear, causal, wide", 0, 1, 4, 2, 300, 290, 70, 66, KIND(LINEAR), .mask.causal = true,
          .offset = HEED_SET(-3)),
    SIZED("linear, causal, a long past", LENGTHS_OF, 2, 2, 1, 75, 301, 5, 6, KIND(LINEAR),
          .mask.causal = true),
    SIZED("topk, cut by queries", BIAS_HEADS | LENGTHS_OF, 1, 2, 1, 300, 200, 9, 6, KIND(TOPK), .normaliser.k = 40,
          .mask.causal = true),
    SIZED("entmax, cut by queries", ALPHA | TEMPERATURE | BIAS_FULL, 1, 2, 2, 290, 150, 9, 6, KIND(ENTMAX)),
    SIZED("additive, cut by queries", SPAN | Q_LENGTHS_OF | SLOPES, 2, 2, 1, 270, 140, 5, 6, SCORE(ADDITIVE),
          KIND(ADAPTIVE_SPAN)),
    SIZED("sigmoid, cut by queries", SIGMOID_BIAS | BIAS_BATCH, 1, 2, 1, 1100, 70, 8, 8, KIND(SIGMOID)),
    SIZED("topk of a part", DROP, 1, 2, 1, 75, 331, 21, 19, KIND(TOPK), .normaliser.k = 80,
          .mask.causal = true),
    SIZED("topk, ties across tiles", INTEGERS, 1, 2, 1, 40, 600, 6, 19, SCORE(DOT), KIND(TOPK), .normaliser.k = 20),
    SIZED("linear without keys", 0, 1, 2, 1, 3, 0, 4, 4, KIND(LINEAR)),
    SIZED("one key", BIAS_FULL, 1, 2, 2, 3, 1, 4, 4, KIND(ENTMAX15)),
    SIZED("no keys", BIAS_FULL, 1, 2, 2, 3, 0, 4, 4, KIND(TOPK), .normaliser.k = 3),
    SIZED("no queries", SLOPES | BIAS_HEADS, 2, 2, 2, 0, 5, 4, 4, KIND(SPARSEMAX)),
    SIZED("no sequences", BIAS_HEADS | SIGMOID_BIAS, 0, 2, 2, 4, 5, 4, 4, KIND(SIGMOID)),
};
enum { CELLS = sizeof cells / sizeof *cells };

static void finish_cell(run *r)
{
    if (r->c.given & BLOCKS) {
        r->c.spec.mask.block[0] = 10;
        r->c.spec.mask.block[1] = 23;
    }
    if (r->c.given & DROP) {
        r->c.spec.combine.dropout.p = 0.25;
        r->c.spec.combine.dropout.name = "drop";
    }
}

static void every_cell_agrees_with_the_composition(void **state)
{
    const scratch *s = *state;
    int bad = 0;

    for (int i = 0; i < CELLS; i++) {
        run got = of_cell(&cells[i], GRADIENTS | LSE | WEIGHTS | UP_WEIGHTS | PROBES | SECOND), want;

        if (got.c.queries < 70) /* the listed rows are not there */
            got.wanted &= ~(unsigned)PROBES;
        if (i % 2)
            got.wanted &= ~(unsigned)UP_WEIGHTS;
        finish_cell(&got);
        want = got;
        go(&got, s->ctx, HEED_KERNELS_FAST);
        go(&want, s->ctx, HEED_KERNELS_REFERENCE);
        assert_int_equal(got.n_out, want.n_out);
        for (int o = 0; o < got.n_out; o++) {
            const double far = apart(&got.out[o], &want.out[o]);

            if (!(far <= 1)) {
                print_error("%s: %s is %g of what is allowed\n", cells[i].name, got.name[o], far);
                bad++;
            }
        }
        done(&got);
        done(&want);
    }
    assert_int_equal(bad, 0);
}

static void same_bytes(const run *x, int at, const run *y, int in, const char *why)
{
    const int64_t n = heed_type_count(&x->out[at].type) * (int64_t)heed_dtype_size(x->out[at].type.dtype);

    if (memcmp(x->out[at].data, y->out[in].data, (size_t)n))
        fail_msg("%s: %s differs: %s", x->c.name, x->name[at], why);
}

static void threads_change_no_byte(void **state)
{
    static const int threads[] = { 2, 7 };
    heed_context *one = toy_context(1, HEED_ISA_AUTO);

    (void)state;
    for (int i = 0; i < CELLS; i++) {
        run alone = of_cell(&cells[i], GRADIENTS | LSE | WEIGHTS | SECOND);

        finish_cell(&alone);
        go(&alone, one, HEED_KERNELS_FAST);
        for (int t = 0; t < 2; t++) {
            heed_context *many = toy_context(threads[t], HEED_ISA_AUTO);
            run again = alone;

            go(&again, many, HEED_KERNELS_FAST);
            for (int o = 0; o < alone.n_out; o++)
                same_bytes(&alone, o, &again, o, "threads");
            done(&again);
            heed_context_free(many);
        }
        done(&alone);
    }
    heed_context_free(one);
}

static void what_is_asked_for_besides_changes_no_byte(void **state)
{
    const scratch *s = *state;

    for (int i = 0; i < CELLS; i++) {
        run plain = of_cell(&cells[i], GRADIENTS), asked;

        finish_cell(&plain);
        asked = plain;
        asked.wanted |= LSE | WEIGHTS | SECOND | (plain.c.queries < 70 ? 0u : PROBES);
        go(&plain, s->ctx, HEED_KERNELS_FAST);
        go(&asked, s->ctx, HEED_KERNELS_FAST);
        for (int o = 0; o < plain.n_out; o++)
            for (int p = 0; p < asked.n_out; p++)
                if (!strcmp(plain.name[o], asked.name[p]))
                    same_bytes(&plain, o, &asked, p, "more was asked for");
        done(&plain);
        done(&asked);
    }
}

/* The first rows of a longer call, with the keys that they see. */
static void a_row_does_not_depend_on_what_stands_beside_it(void **state)
{
    const scratch *s = *state;
    static const cell rows_of[] = {
        SIZED("topk", 0, 1, 1, 1, 200, 200, 5, 6, KIND(TOPK), .normaliser.k = 7, .mask.causal = true,
              .offset = HEED_SET(0)),
        SIZED("topk, more of the tile", 0, 1, 1, 1, 200, 200, 5, 6, KIND(TOPK), .normaliser.k = 50,
              .mask.causal = true, .offset = HEED_SET(0)),
        SIZED("entmax", 0, 1, 1, 1, 200, 200, 5, 6, KIND(ENTMAX), .mask.causal = true, .offset = HEED_SET(0)),
        SIZED("sigmoid", 0, 1, 1, 1, 200, 200, 5, 6, KIND(SIGMOID), .mask.causal = true,
              .offset = HEED_SET(0)),
        SIZED("linear", 0, 1, 1, 1, 200, 200, 5, 6, KIND(LINEAR), .mask.causal = true, .offset = HEED_SET(0)),
        SIZED("neg_distance", 0, 1, 1, 1, 200, 200, 5, 6, SCORE(NEG_DISTANCE), .mask.causal = true,
              .offset = HEED_SET(0)),
    };

    for (size_t i = 0; i < sizeof rows_of / sizeof *rows_of; i++) {
        run full = of_cell(&rows_of[i], 0);

        go(&full, s->ctx, HEED_KERNELS_FAST);
        for (int64_t n = 1; n < 200; n += 33) {
            run head = of_cell(&rows_of[i], 0);

            head.c.queries = head.c.keys = n;
            go(&head, s->ctx, HEED_KERNELS_FAST);
            assert_memory_equal(head.out[0].data, full.out[0].data, (size_t)(n * 6) * sizeof(float));
            done(&head);
        }
        done(&full);
    }
}

/* The cost of top-k falls with k: neither out nor any gradient looks at the values of a key that no query has chosen. */
static void values_that_are_not_chosen_are_not_read(void **state)
{
    const scratch *s = *state;
    static const cell far_apart[] = {
        SIZED("topk", FAR_APART, 1, 2, 1, 70, 400, 20, 24, KIND(TOPK), .normaliser.k = 8),
        SIZED("hard", FAR_APART, 1, 2, 1, 70, 400, 20, 24, KIND(HARD)),
        SIZED("sparsemax", FAR_APART, 1, 2, 1, 70, 400, 20, 24, KIND(SPARSEMAX)),
    };

    for (size_t i = 0; i < sizeof far_apart / sizeof *far_apart; i++) {
        run r = of_cell(&far_apart[i], GRADIENTS);

        go(&r, s->ctx, HEED_KERNELS_FAST);
        for (int o = 0; o < r.n_out; o++)
            for (int64_t n = 0; n < heed_type_count(&r.out[o].type); n++)
                if (!isfinite(((const float *)r.out[o].data)[n]))
                    fail_msg("%s: %s is not finite at %lld", r.c.name, r.name[o], (long long)n);
        done(&r);
    }
}

/* Few heads are cut by their tokens, many are not: a sequence among sixteen others has the bytes that it has alone. */
static void a_sequence_that_is_cut_has_the_bytes_of_one_that_is_not(void **state)
{
    const scratch *s = *state;
    static const cell cut[] = {
        SIZED("topk", 0, 1, 2, 1, 1100, 200, 5, 6, KIND(TOPK), .normaliser.k = 7, .mask.causal = true),
        SIZED("additive", 0, 1, 1, 1, 300, 290, 5, 6, SCORE(ADDITIVE)),
        SIZED("sparsemax", LENGTHS_OF, 1, 1, 1, 290, 300, 70, 80, KIND(SPARSEMAX)),
        SIZED("linear", LENGTHS_OF, 1, 2, 1, 1300, 1300, 33, 20, KIND(LINEAR)),
        SIZED("linear, causal", 0, 1, 2, 1, 1300, 1300, 33, 20, KIND(LINEAR), .mask.causal = true),
    };

    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        run alone = of_cell(&cut[i], GRADIENTS), among = alone;

        among.c.batch = 17;
        go(&alone, s->ctx, HEED_KERNELS_FAST);
        go(&among, s->ctx, HEED_KERNELS_FAST);
        for (int o = 0; o < alone.n_out; o++)
            if (alone.out[o].type.dims[0] == 1 && among.out[o].type.dims[0] == 17)
                same_bytes(&alone, o, &among, o, "other sequences");
        done(&alone);
        done(&among);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_agrees_with_the_composition),
        cmocka_unit_test(threads_change_no_byte),
        cmocka_unit_test(what_is_asked_for_besides_changes_no_byte),
        cmocka_unit_test(a_row_does_not_depend_on_what_stands_beside_it),
        cmocka_unit_test(values_that_are_not_chosen_are_not_read),
        cmocka_unit_test(a_sequence_that_is_cut_has_the_bytes_of_one_that_is_not),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
