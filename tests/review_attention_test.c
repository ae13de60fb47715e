/* Attention in odd places: poison behind the lengths with everything that may stand around it, offsets and sizes at the ends of what
 * i64 holds, sizes of 0, narrow dtypes, and refusals that say what is wrong. */
#include "attention/spec.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/trial.h"

#include <heed/nn.h>
#include <heed/ops.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- problems ---- */

/* Tensors: NAME=SIZES with a letter a size: B batch, H heads, G key heads, q queries, k keys, r queries + 1, D width of q and k,
 * V of v, A hidden, E edges, N and M blocks of queries and keys, or a digit. */
typedef struct problem {
    const char *name;
    heed_attention_spec spec;
    const char *tensors;
    int64_t batch, heads, key_heads, queries, keys, width, values; /* 0: 2, 4, 2, 5, 7, 4, 3; -1: 0 */
    heed_dtype dtype;
    bool poison;         /* NaN in rows beyond the lengths */
    bool forward;        /* no gradients */
    bool quiet;          /* neither weights nor lse are asked for */
    bool dlse, dweights; /* upstream of these too */
    int64_t edges, blocks[2];
    int64_t first_offset;
    double magnitude; /* of floats; 0: 1 */
    bool coarse;      /* few digits */
} problem;

enum { MOST = 48 };

typedef struct filled {
    char name[MOST][24];
    heed_value value[MOST];
    int n;
} filled;

static int64_t or_else(int64_t given, int64_t otherwise)
{
    return given < 0 ? 0 : given ? given : otherwise;
}

static int64_t size_of(const problem *p, char letter)
{
    switch (letter) {
    case 'B':
        return or_else(p->batch, 2);
    case 'H':
        return or_else(p->heads, 4);
    case 'G':
        return or_else(p->key_heads, 2);
    case 'q':
        return or_else(p->queries, 5);
    case 'k':
        return or_else(p->keys, 7);
    case 'r':
        return or_else(p->queries, 5) + 1;
    case 'D':
        return or_else(p->width, 4);
    case 'V':
        return or_else(p->values, 3);
    case 'A':
        return 3;
    case 'E':
        return p->edges;
    case 'N':
        return p->blocks[0];
    case 'M':
        return p->blocks[1];
    default:
        return letter - '0';
    }
}

static heed_value put(filled *f, heed_builder *b, const problem *p, const char *name, size_t n,
                      heed_dtype dtype, const char *sizes)
{
    int64_t dims[6];
    int rank = 0;

    while (sizes[rank] && sizes[rank] != ' ') {
        dims[rank] = size_of(p, sizes[rank]);
        rank++;
    }
    memcpy(f->name[f->n], name, n);
    f->name[f->n][n] = 0;
    f->value[f->n] = heed_input(b, f->name[f->n], heed_type_of(dtype, rank, dims));
    return f->value[f->n++];
}

static void put_listed(filled *f, heed_builder *b, const problem *p, heed_attention_spec *s)
{
    for (const char *at = p->tensors ? p->tensors + strspn(p->tensors, " ") : ""; *at;) {
        const size_t n = strcspn(at, "=");
        const attention_tensor *t = heed__attention_tensors;

        while (t->name && (strlen(t->name) != n || memcmp(t->name, at, n) != 0))
            t++;
        if (!t->name)
            fail_msg("no tensor %s", at);
        *(heed_value *)(void *)((char *)s + t->offset) = put(f, b, p, at, n,
                                                             t->dtypes == I64_ONLY ? HEED_I64
                                                             : t->dtypes == BOOLS  ? HEED_BOOL
                                                                                   : p->dtype,
                                                             at + n + 1);
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
}

static void build_problem(heed_builder *b, void *user)
{
    const problem *p = user;
    heed_attention_spec s = p->spec;
    filled f = { .n = 0 };
    heed_value q = put(&f, b, p, "q", 1, p->dtype, "BHqD"), k = put(&f, b, p, "k", 1, p->dtype, "BGkD"),
               v = put(&f, b, p, "v", 1, p->dtype, "BGkV");
    heed_value wrt[MOST], d[MOST], y[3], dy[3];
    heed_attended a;
    int n = 0, ys = 0;

    (void)q, (void)k, (void)v;
    put_listed(&f, b, p, &s);
    for (int i = 0; i < f.n; i++)
        if (heed_value_type(b, f.value[i]).dtype == p->dtype)
            wrt[n++] = f.value[i];
    a = heed_attention(b, q, k, v, &s);
    heed_output(b, "out", a.out);
    if (!p->quiet)
        heed_output(b, "weights", a.weights);
    if (a.lse.id && !p->quiet)
        heed_output(b, "lse", a.lse);
    const struct {
        const char *name;
        heed_value value;
    } probes[] = { { "pooled", a.pooled },          { "received", a.received }, { "mean", a.mean },
                   { "distance", a.distance },      { "entropy", a.entropy },   { "rows", a.rows },
                   { "topk_values", a.topk_values } };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        if (probes[i].value.id)
            heed_output(b, probes[i].name, probes[i].value);
    if (p->forward)
        return;
    y[ys] = a.out;
    dy[ys++] = put(&f, b, p, "dout", 4, p->dtype, "BHqV");
    if (p->dlse && a.lse.id) {
        y[ys] = a.lse;
        dy[ys++] = put(&f, b, p, "dlse", 4, heed_value_type(b, a.lse).dtype, "BHq");
    }
    if (p->dweights) {
        y[ys] = a.weights;
        dy[ys++] = put(&f, b, p, "dweights", 8, p->dtype, "BHqk");
    }
    heed_grad_of(b, y, dy, ys, wrt, n, d);
    for (int i = 0, at = 0; i < f.n - ys; i++)
        if (heed_value_type(b, f.value[i]).dtype == p->dtype) {
            char name[32];

            snprintf(name, sizeof name, "d_%.24s", f.name[i]);
            heed_output(b, name, d[at++]);
        }
}

/* -1 .. 1 of name and place. */
static double number_of(const char *name, int64_t i)
{
    uint64_t h = 1469598103934665603u;

    for (; *name; name++)
        h = (h ^ (uint64_t)(unsigned char)*name) * 1099511628211u;
    h = (h ^ (uint64_t)i) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 31) * 0xbf58476d1ce4e5b9u;
    return (double)((h ^ h >> 27) >> 11) * 0x1p-52 - 1;
}

static double filling(const problem *p, const char *name, const heed_type *t, int64_t i)
{
    static const char *const positive[] = { "temperature", "alpha", "span" };
    const int64_t keys = size_of(p, 'k'), queries = size_of(p, 'q');

    if (strcmp(name, "lengths") == 0)
        return (double)(keys - 1 - i % 3 > 0 ? keys - 1 - i % 3 : 0);
    if (strcmp(name, "q_lengths") == 0)
        return (double)(queries - 1 - (i + 1) % 2 > 0 ? queries - 1 - (i + 1) % 2 : 0);
    if (strcmp(name, "offset") == 0)
        return 0; /* set exactly, below */
    if (strcmp(name, "graph_indptr") ==
        0) /* rows take the edges in turn, as many as there are keys at most */
        return (double)(p->edges * i / (queries > 0 ? queries : 1));
    if (strcmp(name, "graph_indices") == 0) {
        int64_t row = 0;

        while (p->edges * (row + 1) / queries <= i)
            row++;
        const int64_t first = p->edges * row / queries, n = p->edges * (row + 1) / queries - first;

        return (double)((i - first) * keys / n);
    }
    if (t->dtype == HEED_BOOL)
        return number_of(name, i) > -0.6;
    if (t->dtype == HEED_I64)
        return floor((number_of(name, i) + 1) * 2);
    for (size_t k = 0; k < sizeof positive / sizeof *positive; k++)
        if (strcmp(name, positive[k]) == 0)
            return (double)(float)(1.5 + 0.25 * number_of(name, i));
    if (p->coarse) /* exact in bf16 */
        return rint(64 * number_of(name, i)) / 64 * (p->magnitude > 0 ? p->magnitude : 1);
    return (double)(float)((p->magnitude > 0 ? p->magnitude : 1) * number_of(name, i));
}

/* Is the element in a row that the lengths leave out? */
static bool beyond(const problem *p, const char *name, const heed_type *t, int64_t i)
{
    const bool of_query = strcmp(name, "q") == 0 || strcmp(name, "q2") == 0 || strcmp(name, "dout") == 0,
               of_key = strcmp(name, "k") == 0 || strcmp(name, "k2") == 0 || strcmp(name, "v") == 0;
    const char *lengths = of_query ? "q_lengths" : "lengths";
    const heed_type none = { .dtype = HEED_I64 };

    if (!of_query && !of_key)
        return false;
    if (!p->tensors || !strstr(p->tensors, of_query ? "q_lengths=" : " lengths="))
        return false;
    return (double)(i / t->dims[3] % t->dims[2]) >=
           filling(p, lengths, &none, i / (t->dims[1] * t->dims[2] * t->dims[3]));
}

static heed_status open_problem(trial *t, heed_context *ctx, problem *p, heed_kernels kernels,
                                heed_error *err)
{
    const heed_status st = trial_open(t, ctx, build_problem, p, &(heed_plan_opts){ .kernels = kernels }, err);

    for (int i = 0; st == HEED_OK && i < t->n_in; i++) {
        const char *name = heed_plan_input_name(t->plan, i);
        const heed_type *type = &t->in[i].tensor.type;
        const int64_t count = heed_type_count(type);
        double *numbers = trial_memory((size_t)count + 1, sizeof *numbers);

        for (int64_t j = 0; j < count; j++)
            numbers[j] = p->poison && beyond(p, name, type, j) ? NAN : filling(p, name, type, j);
        trial_set(t, i, numbers);
        if (strcmp(name, "offset") == 0) /* exact */
            for (int64_t j = 0; j < count; j++)
                ((int64_t *)t->in[i].tensor.data)[j] =
                    p->first_offset > 1000 || p->first_offset < -1000 ? p->first_offset : p->first_offset + j;
        free(numbers);
    }
    return st;
}

static void run_problem(trial *t, heed_context *ctx, problem *p, heed_kernels kernels)
{
    heed_error err = { 0 };

    if (open_problem(t, ctx, p, kernels, &err) != HEED_OK)
        fail_msg("%s: %s", p->name, err.text);
    if (trial_run(t, &err) != HEED_OK)
        fail_msg("%s: %s", p->name, err.text);
    if (*t->broken)
        fail_msg("%s: %s", p->name, t->broken);
}

/* ---- poison ---- */

static int poison_changes(heed_context *ctx, problem p, heed_kernels kernels)
{
    trial clean, poisoned;
    int bad = 0;

    run_problem(&clean, ctx, &p, kernels);
    p.poison = true;
    run_problem(&poisoned, ctx, &p, kernels);
    for (int i = 0; i < clean.n_out; i++)
        if (memcmp(clean.out[i].tensor.data, poisoned.out[i].tensor.data, clean.out[i].bytes) != 0) {
            print_message("%s (%s, %s): %s changes\n", p.name, heed_dtype_name(p.dtype),
                          kernels == HEED_KERNELS_FAST ? "fast" : "reference",
                          heed_plan_output_name(clean.plan, i));
            bad++;
        }
    trial_close(&clean);
    trial_close(&poisoned);
    return bad;
}

#define LENGTHS_ " lengths=B q_lengths=B"
static const problem around[] = {
    { .name = "plain", .tensors = LENGTHS_ },
    { .name = "gate", .tensors = "gate=BHqV" LENGTHS_ },
    { .name = "gate of one number a head", .tensors = "gate=1H11" LENGTHS_ },
    { .name = "shaw", .tensors = "shaw_k=5D shaw_v=5V" LENGTHS_ },
    { .name = "differential", .tensors = "q2=BHqD k2=BGkD lambda=H" LENGTHS_ },
    { .name = "talk_pre", .tensors = "talk_pre=HH" LENGTHS_ },
    { .name = "talk_post", .tensors = "talk_post=HH" LENGTHS_ },
    { .name = "talk_post and shaw", .tensors = "talk_post=HH shaw_k=3D shaw_v=3V" LENGTHS_ },
    { .name = "xl", .tensors = "xl_r=6HD xl_u=HD xl_v=HD" LENGTHS_ },
    { .name = "alibi", .tensors = "alibi_slopes=1" LENGTHS_ },
    { .name = "t5", .tensors = "t5_table=8H" LENGTHS_ },
    { .name = "bias", .tensors = "bias=1H11" LENGTHS_ },
    { .name = "rope", .spec.position.rope.on = true, .tensors = "temperature=1" LENGTHS_ },
    { .name = "general", .spec.score.kind = HEED_SCORE_GENERAL, .tensors = "score_w=1DD" LENGTHS_ },
    { .name = "additive",
      .spec.score.kind = HEED_SCORE_ADDITIVE,
      .tensors = "add_wq=1AD add_wk=HAD add_v=1A add_b=HA" LENGTHS_ },
    { .name = "location",
      .spec.score.kind = HEED_SCORE_LOCATION,
      .tensors = "add_wq=HAD add_wk=1AD add_v=HA add_b=1A prev=BHqk loc_kernel=23 loc_u=1A2" LENGTHS_ },
    { .name = "cosine", .spec.score.kind = HEED_SCORE_COSINE, .tensors = "tau=1" LENGTHS_ },
    { .name = "cosine, differential",
      .spec.score.kind = HEED_SCORE_COSINE,
      .tensors = "tau=1 q2=BHqD k2=BGkD lambda=1 gate=BHq1" LENGTHS_ },
    { .name = "squared distance",
      .spec.score.kind = HEED_SCORE_NEG_SQ_DISTANCE,
      .tensors = "sink=H" LENGTHS_ },
    { .name = "distance",
      .spec.score.kind = HEED_SCORE_NEG_DISTANCE,
      .tensors = "temperature=H sink=1" LENGTHS_ },
    { .name = "sparsemax",
      .spec.normaliser.kind = HEED_NORMALISER_SPARSEMAX,
      .tensors = "gate=B1q1" LENGTHS_ },
    { .name = "entmax",
      .spec.normaliser.kind = HEED_NORMALISER_ENTMAX,
      .tensors = "alpha=1 temperature=H" LENGTHS_ },
    { .name = "sigmoid",
      .spec.normaliser.kind = HEED_NORMALISER_SIGMOID,
      .tensors = "sigmoid_bias=1" LENGTHS_ },
    { .name = "topk",
      .spec.normaliser = { .kind = HEED_NORMALISER_TOPK, .k = 2 },
      .tensors = "temperature=1 gate=111V" LENGTHS_ },
    { .name = "hard", .spec.normaliser.kind = HEED_NORMALISER_HARD, .tensors = "gate=1111" LENGTHS_ },
    { .name = "adaptive span",
      .spec.normaliser = { .kind = HEED_NORMALISER_ADAPTIVE_SPAN, .ramp = HEED_SET(3) },
      .tensors = "span=1" LENGTHS_ },
    { .name = "linear",
      .spec.normaliser.kind = HEED_NORMALISER_LINEAR,
      .spec.mask.causal = true,
      .tensors = "gate=1H11" LENGTHS_ },
};

static void poison_behind_the_lengths_reaches_no_result_and_no_gradient(void **state)
{
    int bad = 0;

    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        problem p = around[i];

        bad += poison_changes(*state, p, HEED_KERNELS_FAST);
        bad += poison_changes(*state, p, HEED_KERNELS_REFERENCE);
        p.dtype = HEED_F64;
        bad += poison_changes(*state, p, HEED_KERNELS_FAST);
        p.dtype = HEED_BF16;
        bad += poison_changes(*state, p, HEED_KERNELS_FAST);
    }
    assert_int_equal(bad, 0);
}

/* ---- fast against reference ---- */

/* Outputs that differ; a line for each. */
static int compared(const problem *p, const trial *got, const trial *want, const char *by)
{
    int bad = 0;

    for (int i = 0; i < got->n_out; i++) {
        const int64_t n = heed_type_count(&got->out[i].tensor.type);
        const char *name = heed_plan_output_name(got->plan, i);
        const double atol =
            strncmp(name, "d_", 2) == 0 ? 5e-5 : 1e-5; /* sums of many terms that may cancel */
        double *x = trial_memory((size_t)n + 1, sizeof *x), *y = trial_memory((size_t)n + 1, sizeof *y),
               most = 1;

        trial_get(got, i, x);
        trial_get(want, i, y);
        for (int64_t j = 0; j < n; j++)
            most = isfinite(y[j]) ? fmax(most, fabs(y[j])) : most;
        for (int64_t j = 0; j < n; j++)
            if (!(x[j] == y[j] || fabs(x[j] - y[j]) <= atol * most + 1e-4 * fabs(y[j])) || isnan(y[j])) {
                print_message("%s: %s[%lld] is %g, %s %g\n", p->name, name, (long long)j, x[j], by, y[j]);
                bad++;
                break;
            }
        free(x);
        free(y);
    }
    return bad;
}

static int differs(heed_context *ctx, problem p)
{
    trial fast, slow;
    int bad;

    run_problem(&fast, ctx, &p, HEED_KERNELS_FAST);
    run_problem(&slow, ctx, &p, HEED_KERNELS_REFERENCE);
    bad = compared(&p, &fast, &slow, "by reference");
    trial_close(&fast);
    trial_close(&slow);
    return bad;
}

static const int64_t far[] = { INT64_MAX,           INT64_MIN,        (int64_t)1 << 62,
                               -((int64_t)1 << 62), (int64_t)1 << 41, -((int64_t)1 << 41) };

static void an_offset_at_the_end_of_i64_keeps_what_it_must(void **state)
{
    static const problem by_position[] = {
        { .name = "causal", .spec.mask.causal = true, .tensors = "offset=B" },
        { .name = "window", .spec.mask.window = { true, 2, 1 }, .tensors = "offset=B" },
        { .name = "open window", .spec.mask.window = { true, -1, 1 }, .tensors = "offset=B" },
        { .name = "stride", .spec.mask.stride = 3, .tensors = "offset=B" },
        { .name = "globals", .spec.mask.window = { true, 0, 0 }, .tensors = "globals=2 offset=B" },
        { .name = "shaw", .tensors = "shaw_k=5D shaw_v=5V offset=B" },
        { .name = "xl", .tensors = "xl_r=6HD xl_u=HD xl_v=HD offset=B" },
        { .name = "t5", .tensors = "t5_table=8H offset=B" },
        { .name = "rope", .spec.position.rope.on = true, .tensors = "offset=B" },
        { .name = "span",
          .spec.normaliser = { .kind = HEED_NORMALISER_ADAPTIVE_SPAN, .ramp = HEED_SET(3) },
          .tensors = "span=1 offset=B" },
        { .name = "linear",
          .spec.normaliser.kind = HEED_NORMALISER_LINEAR,
          .spec.mask.causal = true,
          .tensors = "offset=B" },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof by_position / sizeof *by_position; i++)
        for (size_t k = 0; k < sizeof far / sizeof *far; k++) {
            problem p = by_position[i];
            trial t, numbered;

            p.first_offset = far[k];
            bad += differs(*state, p);
            run_problem(&t, *state, &p, HEED_KERNELS_REFERENCE);
            p.tensors = strcmp(p.tensors, "offset=B") == 0 ? "" : p.tensors;
            if (*p.tensors == 0) { /* the same as a number */
                p.spec.offset = (heed_maybe_i64)HEED_SET(far[k]);
                run_problem(&numbered, *state, &p, HEED_KERNELS_REFERENCE);
                if (memcmp(t.out[0].tensor.data, numbered.out[0].tensor.data, t.out[0].bytes) != 0) {
                    print_message("%s: offset %lld as a tensor is not as a number\n", p.name,
                                  (long long)far[k]);
                    bad++;
                }
                trial_close(&numbered);
            }
            trial_close(&t);
        }
    assert_int_equal(bad, 0);
}

static void sizes_at_the_end_of_i64_mean_no_limit(void **state)
{
    static const problem large[] = {
        { .name = "window", .spec.mask.window = { true, INT64_MAX, INT64_MAX } },
        { .name = "window to the left",
          .spec.mask.window = { true, INT64_MAX, 0 },
          .spec.offset = HEED_SET(-3) },
        { .name = "stride", .spec.mask.stride = INT64_MAX },
        { .name = "block", .spec.mask.block = { INT64_MAX, INT64_MAX }, .tensors = "block_keep=11" },
        { .name = "topk", .spec.normaliser = { .kind = HEED_NORMALISER_TOPK, .k = INT64_MAX } },
        { .name = "pooled", .spec.probe.pooled = { INT64_MAX, INT64_MAX } },
        { .name = "pooled by a million", .spec.probe.pooled = { 1000000, 3 } },
        { .name = "pooled, talking", .spec.probe.pooled = { INT64_MAX, 2 }, .tensors = "talk_post=HH" },
        { .name = "softcap of almost nothing", .spec.softcap = 1e-40f, .width = -1 },
        { .name = "temperature of almost nothing", .spec.normaliser.temperature = HEED_SET(1e-40f), .width = -1 },
        { .name = "far offset and wide window",
          .spec.mask.window = { true, -1, INT64_MAX },
          .spec.offset = HEED_SET(INT64_MIN) },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        bad += differs(*state, large[i]);
    assert_int_equal(bad, 0);
}

/* ---- sizes of 0 ---- */

static void sizes_of_zero_are_served_in_every_variant(void **state)
{
    static const struct {
        const char *name;
        problem sizes;
    } zero[] = {
        { "no batch", { .batch = -1 } },   { "no queries", { .queries = -1 } },
        { "no keys", { .keys = -1 } },     { "no width", { .width = -1 } },
        { "no values", { .values = -1 } }, { "nothing", { .queries = -1, .keys = -1, .batch = -1 } },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof around / sizeof *around; i++)
        for (size_t k = 0; k < sizeof zero / sizeof *zero; k++) {
            problem p = around[i];
            heed_error err = { 0 };
            trial t;
            char name[80];

            snprintf(name, sizeof name, "%s, %s", p.name, zero[k].name);
            p.name = name;
            p.batch = zero[k].sizes.batch;
            p.queries = zero[k].sizes.queries;
            p.keys = zero[k].sizes.keys;
            p.width = zero[k].sizes.width;
            p.values = zero[k].sizes.values;
            p.spec.position.rope.on &= p.width >= 0; /* nothing could turn */
            p.spec.probe.pooled[0] = p.spec.probe.pooled[1] = 2;
            p.spec.probe.distance = true;
            p.spec.probe.heads = (heed_attention_list){ (const int64_t[]){ 2, 0, 2 }, 3 };
            p.spec.probe.rows = (heed_attention_list){ (const int64_t[]){ 0 }, k % 2 && p.queries >= 0 };
            if (open_problem(&t, *state, &p, HEED_KERNELS_FAST, &err) != HEED_OK) {
                print_message("%s: %s\n", name, err.text);
                bad++;
                continue;
            }
            trial_close(&t);
            bad += differs(*state, p);
        }
    assert_int_equal(bad, 0);
}

/* ---- cells at random ---- */

typedef struct drawing {
    uint64_t state;
    char tensors[600], name[900];
    int64_t rows[4], heads[4];
} drawing;

static int64_t draw(drawing *d, int64_t n)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((d->state >> 33) % (uint64_t)n);
}

static bool chance(drawing *d, int percent)
{
    return draw(d, 100) < percent;
}

/* A tensor whose sizes are these, or 1 now and then where `or_one` is set. */
static void take(drawing *d, const char *name, const char *sizes, bool or_one)
{
    const size_t n = strlen(d->tensors);
    char letters[8] = "";

    for (size_t i = 0; sizes[i]; i++)
        letters[i] = or_one && chance(d, 40) ? '1' : sizes[i];
    snprintf(d->tensors + n, sizeof d->tensors - n, " %s=%s", name, letters);
}

static void draw_score(problem *p, drawing *d)
{
    p->spec.score.kind = chance(d, 50) ? HEED_SCORE_SCALED_DOT : (heed_score_kind)draw(d, 8);
    if (p->spec.score.kind == HEED_SCORE_LOCATION || p->spec.score.kind == HEED_SCORE_ADDITIVE) {
        p->queries = 1 + p->queries % 9;
        p->keys = 1 + p->keys % 70;
        take(d, "add_wq", chance(d, 50) ? "HAD" : "1AD", false);
        take(d, "add_wk", chance(d, 50) ? "HAD" : "1AD", false);
        take(d, "add_v", chance(d, 50) ? "HA" : "1A", false);
        if (chance(d, 50))
            take(d, "add_b", chance(d, 50) ? "HA" : "1A", false);
    }
    if (p->spec.score.kind == HEED_SCORE_LOCATION) {
        take(d, "prev", "BHqk", false);
        take(d, "loc_kernel", "23", false);
        take(d, "loc_u", chance(d, 50) ? "HA2" : "1A2", false);
    }
    if (p->spec.score.kind == HEED_SCORE_GENERAL)
        take(d, "score_w", chance(d, 50) ? "HDD" : "1DD", false);
    if (p->spec.score.kind == HEED_SCORE_COSINE && chance(d, 70))
        take(d, "tau", "H", true);
    if (chance(d, 30))
        p->spec.score.scale = (heed_maybe_f32)HEED_SET(chance(d, 50) ? -0.5f : 0.75f);
}

static bool has(const drawing *d, const char *name)
{
    return strstr(d->tensors, name) != NULL;
}

static void draw_position(problem *p, drawing *d)
{
    const bool products = p->spec.score.kind == HEED_SCORE_SCALED_DOT || p->spec.score.kind == HEED_SCORE_DOT,
               added = p->spec.score.kind == HEED_SCORE_ADDITIVE || p->spec.score.kind == HEED_SCORE_LOCATION;
    const int64_t which = draw(d, 6);

    if (which == 0 && !added && p->width >= 2) {
        p->spec.position.rope.on = true;
        p->spec.position.rope.interleaved = chance(d, 50);
        p->spec.position.rope.dims = (heed_maybe_i64)HEED_SET(chance(d, 50) ? 2 : p->width / 2 * 2);
    }
    if (which == 1 && products) {
        take(d, "shaw_k", "5D", false);
        if (chance(d, 60))
            take(d, "shaw_v", "5V", false);
    }
    if (which == 2 && products) {
        p->spec.position.xl.zero = (heed_maybe_i64)HEED_SET(draw(d, 6));
        take(d, "xl_r", "6HD", false);
        take(d, "xl_u", "HD", false);
        take(d, "xl_v", "HD", false);
    }
    if (chance(d, 15))
        p->spec.position.alibi = true;
    else if (chance(d, 15))
        take(d, "alibi_slopes", "H", true);
    if (chance(d, 15)) {
        take(d, "t5_table", "8H", false);
        p->spec.position.t5.kind = chance(d, 50) ? HEED_T5_UNIDIRECTIONAL : HEED_T5_OFF;
        p->spec.position.t5.max_distance = (heed_maybe_i64)HEED_SET(9 + draw(d, 50));
    }
    if (chance(d, 25))
        take(d, "bias", "BHqk", true);
}

static void draw_masks(problem *p, drawing *d)
{
    p->spec.mask.causal = chance(d, 35);
    if (chance(d, 25)) {
        p->spec.mask.window.on = true;
        p->spec.mask.window.left = draw(d, 80) - 1;
        p->spec.mask.window.right = draw(d, 30) - 1;
    }
    if (chance(d, 15))
        p->spec.mask.stride = 1 + draw(d, 20);
    if (chance(d, 15)) {
        p->spec.mask.block[0] = 1 + draw(d, 40);
        p->spec.mask.block[1] = 1 + draw(d, 90);
        p->blocks[0] = (p->queries + p->spec.mask.block[0] - 1) / p->spec.mask.block[0];
        p->blocks[1] = (p->keys + p->spec.mask.block[1] - 1) / p->spec.mask.block[1];
        take(d, "block_keep", chance(d, 50) ? "HNM" : "NM", false);
    }
    if ((p->spec.mask.window.on || p->spec.mask.stride || p->spec.mask.block[0]) && chance(d, 40))
        take(d, "globals", "3", false);
    if (chance(d, 30))
        take(d, "lengths", "B", false);
    if (chance(d, 30))
        take(d, "q_lengths", "B", false);
    if (chance(d, 12)) {
        take(d, "q_seg", "Bq", false);
        take(d, "k_seg", "Bk", false);
    }
    if (chance(d, 12)) {
        p->edges = draw(d, p->queries * p->keys + 1);
        take(d, "graph_indptr", "r", false);
        take(d, "graph_indices", "E", false);
    }
    if (chance(d, 20))
        take(d, "mask", "BHqk", true);
}

static void draw_normaliser(problem *p, drawing *d)
{
    p->spec.normaliser.kind =
        chance(d, 50) ? HEED_NORMALISER_SOFTMAX : (heed_normaliser_kind)draw(d, HEED_NORMALISER_LINEAR);
    if (p->spec.normaliser.kind == HEED_NORMALISER_SOFTMAX && chance(d, 30))
        take(d, "sink", "H", true);
    else if (p->spec.normaliser.kind == HEED_NORMALISER_SOFTMAX)
        p->spec.normaliser.plus_one = chance(d, 15);
    if (p->spec.normaliser.kind == HEED_NORMALISER_TOPK)
        p->spec.normaliser.k = 1 + draw(d, 12);
    if (p->spec.normaliser.kind == HEED_NORMALISER_ENTMAX && chance(d, 60))
        take(d, "alpha", "H", true);
    if (p->spec.normaliser.kind == HEED_NORMALISER_SIGMOID && chance(d, 60))
        take(d, "sigmoid_bias", "H", true);
    if (p->spec.normaliser.kind == HEED_NORMALISER_ADAPTIVE_SPAN)
        take(d, "span", "H", true);
    if (chance(d, 20))
        take(d, "temperature", "H", true);
    else if (chance(d, 20))
        p->spec.normaliser.temperature = (heed_maybe_f32)HEED_SET(0.7f);
    if (chance(d, 20) && p->spec.normaliser.kind != HEED_NORMALISER_TOPK &&
        p->spec.normaliser.kind != HEED_NORMALISER_HARD)
        p->spec.softcap = 1.5f; /* what it saturates is a tie in f32 */
}

static void draw_combine(problem *p, drawing *d)
{
    const heed_score_kind kind = p->spec.score.kind;
    const bool free = !has(d, "shaw") && !has(d, "xl_");

    if (chance(d, 20))
        take(d, "gate", "BHqV", true);
    if (free && p->spec.normaliser.kind == HEED_NORMALISER_SOFTMAX && !p->spec.normaliser.plus_one &&
        !has(d, "sink") &&
        (kind == HEED_SCORE_SCALED_DOT || kind == HEED_SCORE_DOT || kind == HEED_SCORE_COSINE) &&
        chance(d, 20)) {
        take(d, "q2", "BHqD", false);
        take(d, "k2", "BGkD", false);
        take(d, "lambda", "H", true);
    } else if (chance(d, 12)) {
        if (chance(d, 70))
            take(d, "talk_pre", "HH", false);
        if (chance(d, 70))
            take(d, "talk_post", "HH", false);
    }
    if (chance(d, 25)) {
        p->spec.combine.dropout.p = 0.3;
        p->spec.combine.dropout.node = (heed_maybe_i64)HEED_SET(7 + draw(d, 9));
        if (chance(d, 40))
            take(d, "dropout_keep", "BHqk", false);
    }
}

static void draw_probes(problem *p, drawing *d)
{
    if (chance(d, 20)) {
        for (int i = 0; i < 3; i++)
            d->rows[i] = draw(d, p->queries);
        p->spec.probe.rows = (heed_attention_list){ d->rows, 3 };
    }
    if (chance(d, 20)) {
        for (int i = 0; i < 3; i++)
            d->heads[i] = draw(d, p->heads);
        p->spec.probe.heads = (heed_attention_list){ d->heads, 3 };
    }
    if (chance(d, 20)) {
        p->spec.probe.pooled[0] = 1 + draw(d, 30);
        p->spec.probe.pooled[1] = 1 + draw(d, 90);
    }
    p->spec.probe.received = chance(d, 20);
    p->spec.probe.mean = chance(d, 20);
    p->spec.probe.distance = chance(d, 20);
    p->spec.probe.entropy = chance(d, 20) && !has(d, "talk_post") && !has(d, "q2");
    p->spec.probe.topk = chance(d, 20) && !has(d, "talk_post") && !has(d, "q2") ? 1 + draw(d, 6) : 0;
}

/* Which has no score, and few masks. */
static void draw_linear(problem *p, drawing *d)
{
    p->spec.normaliser.kind = HEED_NORMALISER_LINEAR;
    p->spec.mask.causal = chance(d, 60);
    if (chance(d, 40))
        take(d, "lengths", "B", false);
    if (chance(d, 40))
        take(d, "q_lengths", "B", false);
    if (chance(d, 20))
        take(d, "gate", "BHqV", true);
    p->magnitude = chance(d, 30) ? 4 : 1;
}

static void draw_problem(problem *p, drawing *d, int64_t number)
{
    const int64_t groups = 1 + draw(d, 3);

    *p = (problem){ .batch = 1 + draw(d, 3),
                    .key_heads = groups,
                    .heads = groups * (1 + draw(d, 3)),
                    .queries = 1 + draw(d, chance(d, 50) ? 8 : 150),
                    .keys = 1 + draw(d, chance(d, 50) ? 12 : 210),
                    .width = 1 + draw(d, 20),
                    .values = 1 + draw(d, 20) };
    d->tensors[0] = 0;
    if (chance(d, 12)) {
        draw_linear(p, d);
    } else {
        draw_score(p, d);
        draw_position(p, d);
        draw_masks(p, d);
        draw_normaliser(p, d);
        draw_combine(p, d);
    }
    draw_probes(p, d);
    p->tensors = d->tensors;
    p->quiet = chance(d, 50);
    p->dlse = chance(d, 30);
    p->dweights = chance(d, 30);
    if (heed__spec_positions(&p->spec) && chance(d, 40)) {
        p->first_offset = draw(d, 60) - 20;
        if (chance(d, 50))
            take(d, "offset", "B", false);
        else
            p->spec.offset = (heed_maybe_i64)HEED_SET(p->first_offset);
    }
    snprintf(d->name, sizeof d->name,
             "draw %lld: B%lld H%lld/%lld %lldx%lld D%lld V%lld score %d normaliser %d causal %d window %d "
             "stride %lld rope %d alibi %d%s",
             (long long)number, (long long)p->batch, (long long)p->heads, (long long)p->key_heads,
             (long long)p->queries, (long long)p->keys, (long long)p->width, (long long)p->values,
             (int)p->spec.score.kind, (int)p->spec.normaliser.kind, p->spec.mask.causal,
             p->spec.mask.window.on, (long long)p->spec.mask.stride, p->spec.position.rope.on,
             p->spec.position.alibi, d->tensors);
    p->name = d->name;
}

static void cells_at_random_have_the_numbers_of_f64(void **state)
{
    const char *from = getenv("HEED_TEST_DRAWS_FROM"), *draws = getenv("HEED_TEST_DRAWS");
    const int64_t first = from ? atoll(from) : 0, n = draws ? atoll(draws) : 60;
    int bad = 0;

    for (int64_t i = first; i < first + n; i++) {
        drawing d = { .state = (uint64_t)i * 0x9e3779b97f4a7c15u };
        trial fast, wide;
        problem p;

        draw_problem(&p, &d, i);
        run_problem(&fast, *state, &p, HEED_KERNELS_FAST);
        p.dtype = HEED_F64;
        run_problem(&wide, *state, &p, HEED_KERNELS_REFERENCE);
        bad += compared(&p, &fast, &wide, "in f64");
        trial_close(&fast);
        trial_close(&wide);
    }
    assert_int_equal(bad, 0);
}

/* ---- narrow dtypes ---- */

/* Largest difference of `out` from the f64 run on the same numbers, which are exact in the dtype. */
static double error_of(heed_context *ctx, problem p)
{
    trial narrow, wide;
    double x[4096], y[4096], worst = 0;

    run_problem(&narrow, ctx, &p, HEED_KERNELS_FAST);
    p.dtype = HEED_F64;
    run_problem(&wide, ctx, &p, HEED_KERNELS_FAST);
    trial_get(&narrow, 0, x);
    trial_get(&wide, 0, y);
    for (int64_t i = 0; i < heed_type_count(&wide.out[0].tensor.type); i++)
        worst = isfinite(x[i]) ? fmax(worst, fabs(x[i] - y[i])) : INFINITY;
    trial_close(&narrow);
    trial_close(&wide);
    return worst;
}

static void terms_by_position_keep_their_digits_in_narrow_dtypes(void **state)
{
    static const struct {
        problem p;
        double most;
    } cells[] = {
        { { .name = "alibi", .spec.position.alibi = true, .keys = 900, .batch = 1 }, 6e-4 },
        { { .name = "alibi, far", .spec.position.alibi = true, .spec.offset = HEED_SET(70000) }, 6e-4 },
        { { .name = "linear", .spec.normaliser.kind = HEED_NORMALISER_LINEAR }, 6e-4 },
        { { .name = "talk_pre", .tensors = "talk_pre=HH", .magnitude = 4 }, 6e-4 },
        { { .name = "location",
            .spec.score.kind = HEED_SCORE_LOCATION,
            .spec.score.scale = HEED_SET(8),
            .tensors = "add_wq=HAD add_wk=1AD add_v=HA prev=BHqk loc_kernel=23 loc_u=1A2" },
          1.6e-3 },
        { { .name = "shaw", .tensors = "shaw_k=5D", .magnitude = 4 }, 6e-4 },
        { { .name = "xl", .tensors = "xl_r=6HD xl_u=HD xl_v=HD", .magnitude = 4 }, 6e-4 },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        for (int k = 0; k < 2; k++) {
            const double most = cells[i].most * (k ? 8 : 1) * fmax(1, cells[i].p.magnitude);
            problem p = cells[i].p;
            double error;

            p.dtype = k ? HEED_BF16 : HEED_F16;
            p.forward = p.coarse = true;
            error = error_of(*state, p);
            if (!(error <= most)) {
                print_message("%s in %s: off by %g, %g allowed\n", p.name, heed_dtype_name(p.dtype), error,
                              most);
                bad++;
            }
        }
    }
    assert_int_equal(bad, 0);
}

static void linear_attention_of_far_negative_features_is_still_a_mean(void **state)
{
    static const problem p = { .name = "linear",
                               .spec.normaliser.kind = HEED_NORMALISER_LINEAR,
                               .magnitude = 30,
                               .width = 1,
                               .batch = 3,
                               .forward = true };
    trial narrow, wide;
    problem in64 = p, in32 = p;
    double x[4096], y[4096];

    in64.dtype = HEED_F64;
    run_problem(&narrow, *state, &in32, HEED_KERNELS_FAST);
    run_problem(&wide, *state, &in64, HEED_KERNELS_FAST);
    trial_get(&narrow, 1, x);
    trial_get(&wide, 1, y);
    for (int64_t i = 0; i < heed_type_count(&wide.out[1].tensor.type); i++)
        if (!(fabs(x[i] - y[i]) <= 1e-4))
            fail_msg("weight %lld is %g, not %g", (long long)i, x[i], y[i]);
    trial_close(&narrow);
    trial_close(&wide);
}

/* ---- what only a run can see ---- */

/* One number of an input before a run. */
typedef struct wrong {
    problem p;
    const char *input;
    int64_t at;
    double number;
    heed_status code;
    const char *named, *told;
} wrong;

static heed_status run_wrong(heed_context *ctx, const wrong *w, heed_kernels kernels, heed_error *err)
{
    heed_status st = HEED_OK;
    problem p = w->p;
    trial t;

    if (open_problem(&t, ctx, &p, kernels, err) != HEED_OK)
        fail_msg("%s: %s", w->input, err->text);
    for (int i = 0; i < t.n_in; i++)
        if (strcmp(heed_plan_input_name(t.plan, i), w->input) == 0) {
            if (t.in[i].tensor.type.dtype == HEED_I64)
                ((int64_t *)t.in[i].tensor.data)[w->at] = (int64_t)w->number;
            else
                ((float *)t.in[i].tensor.data)[w->at] = (float)w->number;
        }
    st = trial_run(&t, err);
    assert_string_equal(t.broken, "");
    trial_close(&t);
    return st;
}

static void a_number_that_only_a_run_can_see_is_refused_with_its_place(void **state)
{
    static const wrong wrongs[] = {
        { { .tensors = "temperature=H" }, "temperature", 2, 0, HEED_ERR_SPEC, "temperature", "2" },
        { { .tensors = "temperature=H" }, "temperature", 1, NAN, HEED_ERR_SPEC, "temperature", "1" },
        { { .tensors = "temperature=1 talk_pre=HH" },
          "temperature",
          0,
          -1,
          HEED_ERR_SPEC,
          "temperature",
          "-1" },
        { { .tensors = "alpha=H", .spec.normaliser.kind = HEED_NORMALISER_ENTMAX },
          "alpha",
          3,
          1,
          HEED_ERR_SPEC,
          "alpha",
          "3" },
        { { .tensors = "alpha=1", .spec.normaliser.kind = HEED_NORMALISER_ENTMAX },
          "alpha",
          0,
          2.5,
          HEED_ERR_SPEC,
          "alpha",
          "2.5" },
        { { .tensors = "lengths=B" }, "lengths", 1, 8, HEED_ERR_LIMIT, "lengths", "8" },
        { { .tensors = "lengths=B", .spec.normaliser.kind = HEED_NORMALISER_LINEAR },
          "lengths",
          1,
          8,
          HEED_ERR_LIMIT,
          "lengths",
          "8" },
        { { .tensors = "lengths=B", .spec.score.kind = HEED_SCORE_COSINE },
          "lengths",
          0,
          -1,
          HEED_ERR_LIMIT,
          "lengths",
          "-1" },
        { { .tensors = "q_lengths=B gate=BHqV" }, "q_lengths", 0, 6, HEED_ERR_LIMIT, "q_lengths", "6" },
        { { .tensors = "globals=2", .spec.mask.stride = 2 },
          "globals",
          1,
          -1,
          HEED_ERR_LIMIT,
          "globals",
          "-1" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 9 },
          "graph_indptr",
          0,
          1,
          HEED_ERR_LIMIT,
          "graph_indices",
          "1" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 9 },
          "graph_indptr",
          5,
          8,
          HEED_ERR_LIMIT,
          "graph_indices",
          "8" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 9 },
          "graph_indptr",
          2,
          0x1p40,
          HEED_ERR_LIMIT,
          "graph_indices",
          "" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 9 },
          "graph_indices",
          2,
          0,
          HEED_ERR_LIMIT,
          "graph_indices",
          "row 1 has the index 0" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 9 },
          "graph_indices",
          8,
          7,
          HEED_ERR_LIMIT,
          "graph_indices",
          "7" },
        { { .tensors = "graph_indptr=r graph_indices=E", .edges = 0 },
          "graph_indptr",
          5,
          1000000,
          HEED_ERR_LIMIT,
          "graph_indices",
          "1000000" },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
        for (int k = 0; k < 2; k++) {
            heed_error err = { 0 };
            const heed_status st =
                run_wrong(*state, &wrongs[i], k ? HEED_KERNELS_REFERENCE : HEED_KERNELS_FAST, &err);

            if (st != wrongs[i].code || !strstr(err.text, wrongs[i].named) ||
                !strstr(err.text, wrongs[i].told)) {
                print_message("%zu, %s: %d \"%s\"\n", i, wrongs[i].input, (int)st, err.text);
                bad++;
            }
        }
    assert_int_equal(bad, 0);
}

/* ---- gradients of gradients ---- */

/* sum_i <d_i, c_i> over gradients d_i of `out` by all inputs, and its own gradients. */
static void build_twice(heed_builder *b, void *user)
{
    const problem *p = user;
    heed_attention_spec s = p->spec;
    filled f = { .n = 0 };
    heed_value q = put(&f, b, p, "q", 1, p->dtype, "BHqD"), k = put(&f, b, p, "k", 1, p->dtype, "BGkD"),
               v = put(&f, b, p, "v", 1, p->dtype, "BGkV"), dout, wrt[MOST], d[MOST], dd[MOST], sum = { 0 };
    heed_attended a;
    int n = 0;

    put_listed(&f, b, p, &s);
    dout = put(&f, b, p, "dout", 4, p->dtype, "BHqV");
    for (int i = 0; i < f.n; i++)
        if (heed_value_type(b, f.value[i]).dtype == p->dtype)
            wrt[n++] = f.value[i];
    a = heed_attention(b, q, k, v, &s);
    heed_grad_of(b, &a.out, &dout, 1, wrt, n, d);
    for (int i = 0; i < n; i++) {
        const heed_type t = heed_value_type(b, d[i]);
        heed_value c = heed_iota(b, HEED_TYPE(HEED_F64, heed_type_count(&t)), 0);

        c = heed_reshape(b, heed_sin(b, heed_add_scalar(b, c, i)), t.rank, t.dims);
        c = heed_sum(b, heed_mul(b, c, d[i]), HEED_ALL_AXES, HEED_DROP_AXES);
        sum = i ? heed_add(b, sum, c) : c;
    }
    heed_output(b, "sum", sum);
    heed_grad(b, sum, wrt, n, dd);
    for (int i = 0; i < n; i++) {
        char name[16];

        snprintf(name, sizeof name, "dd_%d", i);
        heed_output(b, name, dd[i]);
    }
}

static void gradients_of_gradients_are_those_of_differences(void **state)
{
    int bad = 0;

    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        static double at[4096], moved[4096];
        const double eps = 1e-5;
        double by_gradient = 0, ends[2], share;
        heed_error err = { 0 };
        problem p = around[i];
        trial t;

        if (p.spec.normaliser.kind == HEED_NORMALISER_SPARSEMAX ||
            p.spec.normaliser.kind == HEED_NORMALISER_ENTMAX)
            continue; /* kinks */
        p.dtype = HEED_F64;
        p.queries = 3;
        p.keys = 4;
        if (trial_open(&t, *state, build_twice, &p, NULL, &err) != HEED_OK)
            fail_msg("%s: %s", p.name, err.text);
        for (int side = 0; side < 3; side++) { /* in the middle last */
            for (int k = 0; k < t.n_in; k++) {
                const char *name = heed_plan_input_name(t.plan, k);
                const heed_type *type = &t.in[k].tensor.type;

                for (int64_t j = 0; j < heed_type_count(type); j++)
                    at[j] = filling(&p, name, type, j) + (type->dtype == HEED_F64 && side < 2
                                                              ? (side ? eps : -eps) * cos((double)(j + k))
                                                              : 0);
                trial_set(&t, k, at);
            }
            if (trial_run(&t, &err) != HEED_OK)
                fail_msg("%s: %s", p.name, err.text);
            if (side < 2)
                trial_get(&t, 0, &ends[side]);
        }
        for (int k = 0, out = 1; k < t.n_in; k++) {
            if (t.in[k].tensor.type.dtype != HEED_F64)
                continue;
            trial_get(&t, out, moved);
            for (int64_t j = 0; j < heed_type_count(&t.out[out].tensor.type); j++)
                by_gradient += moved[j] * cos((double)(j + k));
            out++;
        }
        share = fabs((ends[1] - ends[0]) / (2 * eps) - by_gradient) / fmax(1, fabs(by_gradient));
        if (!(share < 1e-5)) {
            print_message("%s: %.9g by gradient, %.9g by differences\n", p.name, by_gradient,
                          (ends[1] - ends[0]) / (2 * eps));
            bad++;
        }
        trial_close(&t);
    }
    assert_int_equal(bad, 0);
}

/* Two losses that are the same number: the mean of what keys receive, and of weights. */
static void build_received(heed_builder *b, void *user)
{
    const heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F64, 2, 4, 5, 3)),
                     k = heed_input(b, "k", HEED_TYPE(HEED_F64, 2, 2, 7, 3)),
                     c = heed_input(b, "c", HEED_TYPE(HEED_F64, 2, 4, 7));
    const heed_attended a = heed_attention(b, q, k, k, &(heed_attention_spec){ .probe.received = true });
    heed_value received = a.received, dq[2];

    (void)user;
    heed_grad_of(b, &received, &c, 1, &q, 1, &dq[0]);
    received = heed_sum(b, a.weights, 1u << 2, HEED_DROP_AXES);
    heed_grad_of(b, &received, &c, 1, &q, 1, &dq[1]);
    heed_output(b, "by_probe", dq[0]);
    heed_output(b, "by_weights", dq[1]);
}

static void a_loss_of_what_keys_receive_reaches_the_queries(void **state)
{
    double numbers[2 * 4 * 7 * 3], by_probe[2 * 4 * 5 * 3], by_weights[2 * 4 * 5 * 3], most = 0;
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, *state, build_received, NULL, NULL, &err) != HEED_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < t.n_in; i++) {
        for (int64_t j = 0; j < heed_type_count(&t.in[i].tensor.type); j++)
            numbers[j] = number_of(heed_plan_input_name(t.plan, i), j);
        trial_set(&t, i, numbers);
    }
    if (trial_run(&t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    trial_get(&t, 0, by_probe);
    trial_get(&t, 1, by_weights);
    for (int i = 0; i < 2 * 4 * 5 * 3; i++) {
        most = fmax(most, fabs(by_weights[i]));
        assert_true(fabs(by_probe[i] - by_weights[i]) < 1e-12);
    }
    assert_true(most > 1e-3);
    trial_close(&t);
}

/* ---- memory ---- */

static heed_status build_and_run(heed_context *ctx, void *user, heed_error *err)
{
    problem p = *(const problem *)user;
    heed_status st;
    trial t;

    st = open_problem(&t, ctx, &p, HEED_KERNELS_FAST, err);
    if (st == HEED_OK) {
        st = trial_run(&t, err);
        trial_close(&t);
    }
    return st;
}

static void every_allocation_may_fail(void **state)
{
    static const char *const variants[] = { "shaw", "differential", "talk_post and shaw",
                                            "t5",   "location",     "linear" };
    int bad = 0;

    (void)state;
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
        for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
            const heed_scenario s = { .name = around[i].name, .run = build_and_run };
            problem p = around[i];
            heed_fail_report report;

            if (strcmp(around[i].name, variants[v]) != 0)
                continue;
            p.queries = p.keys = 2;
            p.forward = true;
            bad += !heed_fail_each(&s, &p, &report);
        }
    assert_int_equal(bad, 0);
}

/* ---- refusals ---- */

static void a_refusal_names_the_field(void **state)
{
    const struct {
        problem p;
        const char *named;
    } refused[] = {
        { { .spec.position.rope.base = HEED_SET(500) }, "position.rope" },
        { { .spec.position.rope.dims = HEED_SET(2) }, "position.rope" },
        { { .spec.position.rope.factor = HEED_SET(2) }, "position.rope" },
        { { .spec.position.rope.interleaved = true }, "position.rope" },
        { { .spec.position.xl.zero = HEED_SET(0) }, "position.xl" },
        { { .spec.mask.window.left = 3 }, "mask.window" },
        { { .spec.mask.window.right = -1 }, "mask.window" },
        { { .spec.combine.dropout = { .p = 0.5, .node = HEED_SET(-1) } }, "dropout.node" },
        { { .spec.combine.dropout = { .p = 0.5, .node = HEED_SET((int64_t)1 << 32) } }, "dropout.node" },
        { { .spec.combine.dropout = { .node = HEED_SET(-1) } }, "dropout.node" },
        { { .spec.probe.rows = { (const int64_t[]){ 5 }, 1 } }, "probe.rows" },
        { { .spec.probe.heads = { (const int64_t[]){ -1 }, 1 } }, "probe.heads" },
        { { .spec.probe.rows = { (const int64_t[]){ 0 }, -1 } }, "probe.rows" },
        { { .tensors = "lengths=3" }, "lengths" },
        { { .tensors = "lengths=3", .spec.score.kind = HEED_SCORE_COSINE }, "lengths" },
        { { .tensors = "lengths=B1", .spec.score.kind = HEED_SCORE_COSINE }, "lengths" },
        { { .tensors = "q_lengths=3", .spec.score.kind = HEED_SCORE_NEG_DISTANCE }, "q_lengths" },
        { { .tensors = "offset=3", .spec.position.alibi = true }, "offset" },
        { { .tensors = "offset=B1", .spec.position.rope.on = true }, "offset" },
        { { .tensors = "offset=1 t5_table=8H" }, "offset" },
        { { .tensors = "temperature=3" }, "temperature" },
        { { .tensors = "tau=B1", .spec.score.kind = HEED_SCORE_COSINE }, "tau" },
        { { .tensors = "talk_pre=H1" }, "talk_pre" },
        { { .tensors = "gate=BHqk" }, "gate" },
        { { .tensors = "lambda=H" }, "q2" },
        { { .tensors = "graph_indices=3" }, "graph_indptr" },
        { { .tensors = "graph_indices=3 graph_indptr=B" }, "graph_indptr" },
        { { .tensors = "graph_indices=31 graph_indptr=r" }, "graph_indices" },
        { { .tensors = "block_keep=33", .spec.mask.block = { 2, 2 } }, "block_keep" },
        { { .tensors = "block_keep=34", .spec.mask.block = { 2, 0 } }, "mask.block" },
        { { .tensors = "shaw_k=4D" }, "shaw_k" },
        { { .tensors = "shaw_k=D" }, "shaw_k" },
        { { .tensors = "xl_r=3HD xl_u=HD xl_v=HD", .spec.position.xl.zero = HEED_SET(3) },
          "position.xl.zero" },
        { { .tensors = "t5_table=7H" }, "t5_table" },
        { { .tensors = "t5_table=9H",
            .spec.position.t5.kind = HEED_T5_UNIDIRECTIONAL,
            .spec.position.t5.max_distance = HEED_SET(4) },
          "max_distance" },
        { { .tensors = "alibi_slopes=3", .queries = -1 }, "alibi_slopes" },
        { { .tensors = "t5_table=83", .keys = -1 }, "t5_table" },
        { { .heads = -1 }, "heads" },
        { { .heads = 3 }, "heads" },
        { { .tensors = "dropout_keep=BHqk" }, "dropout_keep" },
        { { .tensors = "sink=H", .spec.normaliser.plus_one = true }, "sink" },
        { { .tensors = "mask=BHkq" }, "mask" },
        { { .spec.normaliser.temperature = HEED_SET(NAN) }, "temperature" },
        { { .spec.softcap = NAN }, "softcap" },
        { { .spec.probe.lse = true, .spec.normaliser.kind = HEED_NORMALISER_SIGMOID }, "lse" },
    };
    int bad = 0;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        problem p = refused[i].p;
        heed_error err = { 0 };
        heed_status st;
        trial t;

        p.forward = true;
        st = open_problem(&t, *state, &p, HEED_KERNELS_FAST, &err);
        if (st == HEED_OK) {
            print_message("%zu (%s, %s) is not refused\n", i, p.tensors ? p.tensors : "", refused[i].named);
            trial_close(&t);
            bad++;
        } else if (!strstr(err.text, refused[i].named)) {
            print_message("%zu: \"%s\" does not name %s\n", i, err.text, refused[i].named);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
}

static void a_learned_key_has_no_place(void **state)
{
    static const heed_attention_spec specs[] = {
        { .position.alibi = true },
        { .mask.window = { true, 1, 1 } },
        { .position.rope.on = true },
        { .probe.distance = true },
    };

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        heed_builder *b = NULL;
        heed_error err = { 0 };

        if (heed_builder_new(&b, *state, &err) != HEED_OK)
            fail_msg("%s", err.text);
        (void)heed_multihead_attention(b, "mha", heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 3, 8)), 2,
                                       &(heed_mha_opts){ .bias_kv = true, .spec = specs[i] }, NULL);
        assert_int_equal(heed_builder_status(b, &err), HEED_ERR_SPEC);
        if (!strstr(err.text, "bias_kv"))
            fail_msg("\"%s\" does not name bias_kv", err.text);
        heed_builder_free(b);
    }
}

static int setup(void **state)
{
    return heed_context_new((heed_context **)state, &(heed_context_opts){ .threads = 2 }, NULL);
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poison_behind_the_lengths_reaches_no_result_and_no_gradient),
        cmocka_unit_test(an_offset_at_the_end_of_i64_keeps_what_it_must),
        cmocka_unit_test(sizes_at_the_end_of_i64_mean_no_limit),
        cmocka_unit_test(sizes_of_zero_are_served_in_every_variant),
        cmocka_unit_test(cells_at_random_have_the_numbers_of_f64),
        cmocka_unit_test(terms_by_position_keep_their_digits_in_narrow_dtypes),
        cmocka_unit_test(linear_attention_of_far_negative_features_is_still_a_mean),
        cmocka_unit_test(a_number_that_only_a_run_can_see_is_refused_with_its_place),
        cmocka_unit_test(gradients_of_gradients_are_those_of_differences),
        cmocka_unit_test(a_loss_of_what_keys_receive_reaches_the_queries),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_refusal_names_the_field),
        cmocka_unit_test(a_learned_key_has_no_place),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
