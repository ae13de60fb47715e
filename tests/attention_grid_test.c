/* score x position x mask x normaliser x combine: cells at small shapes, in a fixed order in which every two values of every two
 * axes meet. Of each valid cell
 *
 *   f64 composition   against the plain loops of heed_attend_stages: out, weights, lse, probes
 *   f64 gradients     against central differences: a direction and a coordinate of every input that has one
 *   f32 composition, f32 as the planner chooses, with and without weights and probes: against the f64 composition, within the
 *   tolerance of vectors/README.md
 *
 * and of each refused one: it is refused when it is built, with a sentence that names what cannot stand together.
 * attention_grid_test --list prints every refused cell with its sentence. */
#include "support/cmocka.h"
#include "support/trial.h"
#include <heed/heed.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, HEADS = 2, QUERIES = 5, KEYS = 7, WIDTH = 4, WIDER = 6, VALUES = 3, HIDDEN = 3, SHAW = 5, XL = 6, BUCKETS = 8, EDGES = 9 };
enum { AXES = 5, CELLS_LEAST = 300, TENSORS_MOST = 48 };

/* Tensors: NAME=SIZES with a letter a size: B batch, H heads, G key heads, q queries, k keys, D width of q, d of k, V of v, A hidden,
 * S shaw, L xl, T buckets, p rows and a last end, e edges, u and v blocks of 2 queries and 3 keys, x and y of 3 and 2; or a digit. */
typedef struct option {
    const char *name;    /* one word of it stands in the refusal, when it is why */
    const char *json;    /* members of the descriptor */
    const char *tensors;
} option;

static const option scores[] = {
    { "scaled_dot score.kind score.scale", "", "" },
    { "dot score.kind score.scale", "\"score\":{\"kind\":\"dot\",\"scale\":-0.4}", "" },
    { "general score.kind", "\"score\":{\"kind\":\"general\",\"scale\":0.5}", "score_w=HDd" },
    { "additive score.kind", "\"score\":{\"kind\":\"additive\"}", "add_wq=1AD add_wk=HAd add_v=HA add_b=1A" },
    { "location score.kind", "\"score\":{\"kind\":\"location\"}",
      "add_wq=HAD add_wk=1Ad add_v=1A prev=BHqk loc_kernel=23 loc_u=HA2" },
    { "cosine score.kind", "\"score\":{\"kind\":\"cosine\",\"scale\":2}", "tau=H" },
    { "neg_sq_distance score.kind score.scale", "\"score\":{\"kind\":\"neg_sq_distance\",\"scale\":0.3}", "" },
    { "neg_distance score.kind", "\"score\":{\"kind\":\"neg_distance\"}", "" },
};
static const option positions[] = {
    { "", "", "" },
    { "rope position", "\"position\":{\"rope\":{}}", "" },
    { "rope position offset", "\"offset\":3,\"position\":{\"rope\":{\"dims\":2,\"interleaved\":true,\"base\":50,\"factor\":2}}", "" },
    { "alibi position", "\"position\":{\"alibi\":true}", "" },
    { "alibi position", "", "alibi_slopes=H bias=11qk" },
    { "t5 position", "\"position\":{\"t5\":{\"max_distance\":6}}", "t5_table=TH" },
    { "t5 position", "\"position\":{\"t5\":{\"bidirectional\":false,\"max_distance\":5}}", "t5_table=TH bias=B11k" },
    { "shaw position", "", "shaw_k=Sd shaw_v=SV" },
    { "shaw position", "", "shaw_k=Sd" },
    { "xl position", "\"position\":{\"xl\":{\"zero\":2}}", "xl_r=LHd xl_u=Hd xl_v=Hd" },
    { "bias position", "", "bias=BHqk" },
    { "alibi position rope", "\"position\":{\"alibi\":true,\"rope\":{}}", "bias=1Hq1" },
};
static const option masks[] = {
    { "", "", "" },
    { "causal", "\"mask\":{\"causal\":true}", "" },
    { "window mask", "\"mask\":{\"window\":[2,1]}", "" },
    { "stride mask", "\"mask\":{\"stride\":3,\"causal\":true}", "" },
    { "block mask", "\"mask\":{\"block\":[2,3]}", "block_keep=Huv" },
    { "globals mask", "\"mask\":{\"window\":[1,1],\"stride\":1}", "globals=2" },
    { "lengths", "", "lengths=B q_lengths=B" },
    { "seg mask", "", "q_seg=Bq k_seg=Bk" },
    { "graph mask", "", "graph_indptr=p graph_indices=e" },
    { "mask", "", "mask=B1qk" },
    { "offset causal lengths", "\"mask\":{\"causal\":true}", "offset=B lengths=B" },
    { "window globals mask", "\"mask\":{\"window\":[0,-1],\"block\":[3,2]}", "globals=1 block_keep=xy mask=1H1k" },
};
static const option normalisers[] = {
    { "softmax normaliser.kind", "", "" },
    { "sink normaliser.kind", "\"softcap\":1.5", "sink=H" },
    { "plus_one normaliser.kind softmax temperature", "\"normaliser\":{\"plus_one\":true,\"temperature\":0.7}", "" },
    { "softmax normaliser.kind temperature", "\"softcap\":2", "temperature=H" },
    { "sparsemax normaliser.kind", "\"normaliser\":{\"kind\":\"sparsemax\"}", "" },
    { "entmax15 normaliser.kind temperature", "\"normaliser\":{\"kind\":\"entmax15\",\"temperature\":1.5}", "" },
    { "entmax normaliser.kind", "\"normaliser\":{\"kind\":\"entmax\"}", "alpha=H" },
    { "entmax normaliser.kind", "\"normaliser\":{\"kind\":\"entmax\",\"alpha\":1.2}", "temperature=1" },
    { "sigmoid normaliser.kind", "\"normaliser\":{\"kind\":\"sigmoid\"}", "sigmoid_bias=H" },
    { "sigmoid normaliser.kind", "\"normaliser\":{\"kind\":\"sigmoid\",\"bias\":-1.9}", "temperature=H" },
    { "topk normaliser.kind", "\"normaliser\":{\"kind\":\"topk\",\"k\":3}", "" },
    { "hard normaliser.kind", "\"normaliser\":{\"kind\":\"hard\"}", "" },
    { "adaptive_span normaliser.kind", "\"normaliser\":{\"kind\":\"adaptive_span\",\"ramp\":3}", "span=H" },
    { "linear normaliser.kind", "\"normaliser\":{\"kind\":\"linear\"}", "" },
};
static const option combines[] = {
    { "", "", "" },
    { "gate", "", "gate=BHqV" },
    { "gate", "", "gate=1H11" },
    { "talk_pre", "", "talk_pre=HH" },
    { "talk_post", "", "talk_post=HH" },
    { "talk_pre talk_post", "\"combine\":{\"dropout\":{\"p\":0.3}}", "talk_pre=HH talk_post=HH dropout_keep=BHqk" },
    { "q2", "", "q2=BHqD k2=BGkd lambda=H" },
    { "dropout", "\"combine\":{\"dropout\":{\"p\":0.4,\"seed\":5,\"step\":2,\"node\":9}}", "" },
    { "q2 dropout", "\"combine\":{\"dropout\":{\"p\":0.4,\"seed\":5,\"step\":2,\"node\":9}}", "q2=BHqD k2=BGkd lambda=1 gate=B1q1" },
};
#define AXIS(a) { a, sizeof a / sizeof *a }
static const struct {
    const option *at;
    int n;
} axes[AXES] = { AXIS(scores), AXIS(positions), AXIS(masks), AXIS(normalisers), AXIS(combines) };

typedef struct extent {
    int64_t batch, queries, keys, width, values;
} extent;
static const extent usual = { BATCH, QUERIES, KEYS, WIDTH, VALUES };

typedef struct cell {
    int at[AXES], number;
    extent of;
    char json[600];
    int64_t key_heads, width_k;
    int n;
    heed_named_tensor tensor[TENSORS_MOST]; /* f32, i64 and bool; data owned */
} cell;

/* ---- numbers ---- */

static uint64_t mixed(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* -1 .. 1, a function of name and place, and of the cell: so that no unlucky numbers follow every cell. */
static double number_of(const cell *c, const char *name, int64_t i)
{
    uint64_t h = (uint64_t)c->number * 131;

    for (; *name; name++)
        h = mixed(h ^ (uint64_t)(unsigned char)*name);
    return (double)(mixed(h ^ (uint64_t)i) >> 11) * 0x1p-52 - 1;
}

/* Fitting every size: lengths are cut, and without keys the graph has no edges. */
static int64_t integer_of(const cell *c, const char *name, int64_t i)
{
    static const int64_t lengths[] = { 7, 4 }, q_lengths[] = { 3, 5 }, offset[] = { 2, -1 }, globals[] = { 3, 8 },
                         indptr[] = { 0, 2, 2, 5, 6, 9 }, indices[] = { 0, 3, 1, 2, 6, 4, 0, 5, 6 },
                         q_seg[] = { 0, 0, 1, -1, 1, 2, 2, 0, 0, -1 },
                         k_seg[] = { 0, 0, 0, 1, 1, -1, 2, 2, 0, 0, -1, 2, 1, 1 };
    static const struct {
        const char *name;
        const int64_t *at;
    } lists[] = { { "lengths", lengths },       { "q_lengths", q_lengths },     { "offset", offset }, { "globals", globals },
                  { "graph_indptr", indptr }, { "graph_indices", indices }, { "q_seg", q_seg },   { "k_seg", k_seg } };

    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        if (strcmp(lists[k].name, name) == 0)
            return strcmp(name, "lengths") == 0     ? (lists[k].at[i] < c->of.keys ? lists[k].at[i] : c->of.keys)
                   : strcmp(name, "q_lengths") == 0 ? (lists[k].at[i] < c->of.queries ? lists[k].at[i] : c->of.queries)
                   : strcmp(name, "graph_indptr") == 0 && c->of.keys == 0 ? 0
                                                                          : lists[k].at[i];
    fail_msg("no numbers for %s", name);
    return 0;
}

static bool is_integer(const char *name)
{
    return strstr(name, "lengths") || strstr(name, "_seg") || strstr(name, "graph") || strcmp(name, "offset") == 0 ||
           strcmp(name, "globals") == 0;
}

static bool is_bool(const char *name)
{
    return strcmp(name, "mask") == 0 || strcmp(name, "block_keep") == 0 || strcmp(name, "dropout_keep") == 0;
}

/* Where a learned number has a range, in it. */
static float float_of(const cell *c, const char *name, int64_t i)
{
    const double x = number_of(c, name, i);

    if (strcmp(name, "temperature") == 0 || strcmp(name, "tau") == 0)
        return (float)(1.2 + 0.4 * x);
    if (strcmp(name, "alpha") == 0)
        return (float)(1.5 + 0.3 * x);
    if (strcmp(name, "span") == 0)
        return (float)(0.3 + x);
    if (strcmp(name, "lambda") == 0)
        return (float)(0.5 + 0.2 * x);
    return (float)(1.5 * x);
}

static int64_t size_of(const cell *c, char letter)
{
    switch (letter) {
    case 'B': return c->of.batch;
    case 'H': return HEADS;
    case 'G': return c->key_heads;
    case 'q': return c->of.queries;
    case 'k': return c->of.keys;
    case 'D': return c->of.width;
    case 'p': return c->of.queries + 1;
    case 'e': return c->of.keys && c->of.queries ? EDGES : 0;
    case 'u': return (c->of.queries + 1) / 2;
    case 'v': return (c->of.keys + 2) / 3;
    case 'x': return (c->of.queries + 2) / 3;
    case 'y': return (c->of.keys + 1) / 2;
    case 'd': return c->width_k;
    case 'V': return c->of.values;
    case 'A': return HIDDEN;
    case 'S': return SHAW;
    case 'L': return XL;
    case 'T': return BUCKETS;
    default: return letter - '0';
    }
}

static void add_tensor(cell *c, const char *name, size_t name_size, const char *sizes, size_t rank)
{
    char *copy = trial_memory(name_size + 1, 1);
    heed_type t = { .rank = (int)rank };
    int64_t n;
    void *data;

    memcpy(copy, name, name_size);
    t.dtype = is_integer(copy) ? HEED_I64 : is_bool(copy) ? HEED_BOOL : HEED_F32;
    for (size_t i = 0; i < rank; i++)
        t.dims[i] = size_of(c, sizes[i]);
    n = heed_type_count(&t);
    data = trial_memory((size_t)n, heed_dtype_size(t.dtype));
    for (int64_t i = 0; i < n; i++)
        if (t.dtype == HEED_I64)
            ((int64_t *)data)[i] = integer_of(c, copy, i);
        else if (t.dtype == HEED_BOOL)
            ((bool *)data)[i] = number_of(c, copy, i) < 0.4;
        else
            ((float *)data)[i] = float_of(c, copy, i);
    assert_true(c->n < TENSORS_MOST);
    c->tensor[c->n++] = (heed_named_tensor){ copy, { t, data } };
}

static void add_tensors(cell *c, const char *list)
{
    while (*list) {
        const size_t name = strcspn(list, "="), sizes = strcspn(list + name + 1, " ");

        add_tensor(c, list, name, list + name + 1, sizes);
        list += name + 1 + sizes;
        list += strspn(list, " ");
    }
}

static cell make_cell(const int at[AXES], int n, const extent *of)
{
    cell c = { .number = n, .of = *of };
    size_t size = 1;

    memcpy(c.at, at, sizeof c.at);
    c.key_heads = n % 3 ? HEADS : 1;
    c.width_k = at[0] >= 2 && at[0] <= 4 && of->width ? WIDER : of->width;
    c.json[0] = '{';
    add_tensors(&c, "q=BHqD k=BGkd v=BGkV dout=BHqV dweights=BHqk");
    for (int a = 0; a < AXES; a++) {
        const option *o = &axes[a].at[at[a]];

        size += (size_t)snprintf(c.json + size, sizeof c.json - size, "%s%s", o->json[0] && size > 1 ? "," : "", o->json);
        add_tensors(&c, o->tensors);
    }
    (void)snprintf(c.json + size, sizeof c.json - size, "}");
    return c;
}

static void free_cell(cell *c)
{
    for (int i = 0; i < c->n; i++) {
        free((char *)(uintptr_t)c->tensor[i].name);
        free(c->tensor[i].tensor.data);
    }
}

static bool has_lse(const cell *c)
{
    const int n = c->at[3];
    return n < 4 || (n >= 10 && n <= 12);
}

static bool has_signed_weights(const cell *c)
{
    const int n = c->at[4];
    return n == 4 || n == 5 || n == 6 || n == 8;
}

/* ---- runs ---- */

static heed_tensor as_f64(const heed_tensor *t)
{
    heed_tensor wide = *t;
    const int64_t n = heed_type_count(&t->type);

    wide.type.dtype = HEED_F64;
    wide.data = trial_memory((size_t)n, sizeof(double));
    for (int64_t i = 0; i < n; i++)
        ((double *)wide.data)[i] = (double)((const float *)t->data)[i];
    return wide;
}

typedef struct way {
    heed_dtype dtype;
    heed_attend_kernel kernel;
    bool full; /* weights, probes, dweights and dlse too */
} way;

static heed_status open_cell(heed_attend **out, heed_context *ctx, const cell *c, const way *w, heed_error *err)
{
    heed_attend *a = NULL;
    heed_status st = heed_attend_new(&a, ctx, err);

    assert_int_equal(st, HEED_OK);
    for (int i = 0; i < c->n && st == HEED_OK; i++) {
        const heed_named_tensor *t = &c->tensor[i];
        heed_tensor wide = { .data = NULL };

        if (!w->full && strcmp(t->name, "dweights") == 0)
            continue;
        if (w->dtype == HEED_F64 && t->tensor.type.dtype == HEED_F32)
            wide = as_f64(&t->tensor);
        st = heed_attend_add(a, t->name, wide.data ? wide : t->tensor, err);
        free(wide.data);
    }
    assert_int_equal(st, HEED_OK);
    if (w->full && has_lse(c)) {
        cell lone = { .number = c->number, .of = c->of };
        heed_tensor wide;

        add_tensors(&lone, "dlse=BHq");
        wide = as_f64(&lone.tensor[0].tensor);
        assert_int_equal(heed_attend_add(a, "dlse", w->dtype == HEED_F64 ? wide : lone.tensor[0].tensor, err), HEED_OK);
        free(wide.data);
        free_cell(&lone);
    }
    *out = a;
    return HEED_OK;
}

static heed_status build_cell(heed_attend *a, const cell *c, const way *w, heed_error *err)
{
    char probe[100];

    (void)snprintf(probe, sizeof probe, "received,distance,mean,pooled:2x3,heads:1%s%s", c->of.queries > 3 ? ",rows:3+1" : "",
                   has_signed_weights(c) ? "" : ",entropy,topk:3");
    if (!w->full)
        (void)snprintf(probe, sizeof probe, "none");
    return heed_attend_build(a, &(heed_attend_opts){ .spec = c->json, .probe = probe, .kernel = w->kernel, .weights = w->full,
                                                     .grad = true }, err);
}

static double element(const heed_tensor *t, int64_t i)
{
    switch (t->type.dtype) {
    case HEED_F32: return (double)((const float *)t->data)[i];
    case HEED_F64: return ((const double *)t->data)[i];
    case HEED_I64: return (double)((const int64_t *)t->data)[i];
    default: fail_msg("no number"); return 0;
    }
}

static bool find_result(const heed_attend *a, const char *name, heed_tensor *t)
{
    for (int i = 0; i < heed_attend_results(a); i++)
        if (strcmp(heed_attend_result(a, i, t), name) == 0)
            return true;
    return false;
}

static int complaints;

static void complain(const cell *c, const char *what, const char *name, double got, double want)
{
    if (complaints++ < 40)
        print_message("cell %d %s: %s %s: %.9g, not %.9g\n", c->number, c->json, what, name, got, want);
}

/* The rule of vectors/README.md with its defaults times `slack`. */
static bool close_to(const cell *c, const char *what, const char *name, const heed_tensor *got, const double *want, int64_t n,
                     double slack)
{
    double most = 1;

    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i]))
            most = fmax(most, fabs(want[i]));
    if (heed_type_count(&got->type) != n) {
        complain(c, what, name, (double)heed_type_count(&got->type), (double)n);
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        const double g = element(got, i);

        if (isinf(want[i]) ? g != want[i] : !(fabs(g - want[i]) <= slack * (1e-5 * most + 1e-4 * fabs(want[i])))) {
            complain(c, what, name, g, want[i]);
            return false;
        }
    }
    return true;
}

/* ---- f64 against plain loops ---- */

#define FINE 1e-6 /* of the tolerance of f32 */

static double *mean_over_heads(const double *w)
{
    double *m = trial_memory(BATCH * QUERIES * KEYS, sizeof *m);

    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++)
            for (int n = 0; n < QUERIES * KEYS; n++)
                m[b * QUERIES * KEYS + n] += w[(b * HEADS + h) * QUERIES * KEYS + n] / HEADS;
    return m;
}

static int64_t offset_of(const cell *c, int b)
{
    return strstr(c->json, "\"offset\"") ? 3
           : strstr(masks[c->at[2]].tensors, "offset=") ? integer_of(c, "offset", b)
                                                       : KEYS - QUERIES;
}

/* Probes by their definitions (attention.md 8). */
static void check_probes(const cell *c, const heed_attend *a, const double *w)
{
    enum { ROWS = BATCH * HEADS * QUERIES };
    double received[BATCH * HEADS * KEYS] = { 0 }, distance[ROWS] = { 0 }, entropy[ROWS] = { 0 }, pooled[BATCH * HEADS * 9] = { 0 },
           picked[BATCH * 2 * KEYS], top[ROWS * 3], keys[ROWS * 3], *mean = mean_over_heads(w);
    const struct {
        const char *name;
        const double *want;
        int64_t n;
    } probes[] = { { "probe_received", received, BATCH * HEADS * KEYS }, { "probe_distance", distance, ROWS },
                   { "probe_entropy", entropy, ROWS },                   { "probe_pooled", pooled, BATCH * HEADS * 9 },
                   { "probe_rows", picked, BATCH * 2 * KEYS },           { "probe_topk_values", top, ROWS * 3 },
                   { "probe_topk_indices", keys, ROWS * 3 },             { "probe_mean", mean, BATCH * QUERIES * KEYS } };

    for (int r = 0; r < ROWS; r++) {
        const int bh = r / QUERIES, i = r % QUERIES;
        bool taken[KEYS] = { false };

        for (int j = 0; j < KEYS; j++) {
            const double x = w[r * KEYS + j];
            const int down = i / 2 == 2 ? 1 : 2, across = j / 3 == 2 ? 1 : 3;

            received[bh * KEYS + j] += x;
            distance[r] += x * fabs((double)(i + offset_of(c, bh / HEADS) - j));
            entropy[r] -= x > 0 ? x * log(x) : 0;
            pooled[(bh * 3 + i / 2) * 3 + j / 3] += x / (down * across);
        }
        for (int n = 0; n < 3; n++) {
            int best = -1;

            for (int j = 0; j < KEYS; j++)
                if (!taken[j] && w[r * KEYS + j] > 0 && (best < 0 || w[r * KEYS + j] > w[r * KEYS + best]))
                    best = j;
            top[r * 3 + n] = best < 0 ? 0 : w[r * KEYS + best];
            keys[r * 3 + n] = best;
            if (best >= 0)
                taken[best] = true;
        }
    }
    for (int b = 0; b < BATCH; b++)
        for (int n = 0; n < 2 * KEYS; n++)
            picked[b * 2 * KEYS + n] = w[((b * HEADS + 1) * QUERIES + (n < KEYS ? 3 : 1)) * KEYS + n % KEYS];
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        heed_tensor got;

        if (find_result(a, probes[i].name, &got))
            (void)close_to(c, "f64 against loops", probes[i].name, &got, probes[i].want, probes[i].n, FINE);
    }
    free(mean);
}

static void check_loops(const cell *c, heed_attend *a)
{
    heed_error err = { 0 };
    heed_tensor got;
    const double *lse;

    if (heed_attend_stages(a, &err) != HEED_OK)
        fail_msg("%s: %s", c->json, err.text);
    assert_true(find_result(a, "out", &got));
    (void)close_to(c, "f64 against loops", "out", &got, heed_attend_stage_at(a, 13).values, heed_type_count(&got.type), FINE);
    assert_true(find_result(a, "weights", &got));
    (void)close_to(c, "f64 against loops", "weights", &got, heed_attend_stage_at(a, 10).values, heed_type_count(&got.type), FINE);
    lse = heed_attend_log_sums(a, 0);
    assert_int_equal(lse != NULL, has_lse(c));
    if (lse) {
        assert_true(find_result(a, "lse", &got));
        (void)close_to(c, "f64 against loops", "lse", &got, lse, heed_type_count(&got.type), FINE);
    }
    if (find_result(a, "lse2", &got))
        (void)close_to(c, "f64 against loops", "lse2", &got, heed_attend_log_sums(a, 1), heed_type_count(&got.type), FINE);
    if (memcmp(&c->of, &usual, sizeof usual) == 0)
        check_probes(c, a, heed_attend_stage_at(a, 10).values);
}

/* ---- gradients against differences ---- */

static double loss_part(const heed_attend *a, const cell *c, const char *result, const char *upstream)
{
    cell lone = { .number = c->number, .of = c->of };
    heed_tensor y;
    double sum = 0;

    if (!find_result(a, result, &y))
        return 0;
    add_tensors(&lone, upstream);
    for (int64_t i = 0; i < heed_type_count(&y.type); i++)
        if (isfinite(element(&y, i)))
            sum += element(&y, i) * (double)((const float *)lone.tensor[0].tensor.data)[i];
    free_cell(&lone);
    return sum;
}

static double loss(heed_attend *a, const cell *c)
{
    heed_error err = { 0 };

    if (heed_attend_run(a, &err) != HEED_OK)
        fail_msg("%s: %s", c->json, err.text);
    return loss_part(a, c, "out", "dout=BHqV") + loss_part(a, c, "weights", "dweights=BHqk") + loss_part(a, c, "lse", "dlse=BHq");
}

/* Sparse normalisers bend sharply where the support is about to change: a smaller step then stays on one side. */
static const double step_sizes[] = { 1e-5, 1e-6, 1e-7 };

static double loss_at(heed_attend *a, const cell *c, const heed_named_tensor *x, const double *direction, double by)
{
    heed_tensor moved = as_f64(&x->tensor);
    double result;

    for (int64_t i = 0; i < heed_type_count(&x->tensor.type); i++)
        ((double *)moved.data)[i] += by * direction[i];
    assert_int_equal(heed_attend_add(a, x->name, moved, NULL), HEED_OK);
    result = loss(a, c);
    free(moved.data);
    return result;
}

static void check_direction(const cell *c, heed_attend *a, const heed_named_tensor *x, const double *gradient,
                            const double *direction, const char *what)
{
    double is = 0, differs = INFINITY, seen = 0;

    for (int64_t i = 0; i < heed_type_count(&x->tensor.type); i++)
        is += gradient[i] * direction[i];
    for (size_t k = 0; k < sizeof step_sizes / sizeof *step_sizes && differs > 2e-6 * fmax(1, fabs(is)); k++) {
        const double h = step_sizes[k];

        seen = (loss_at(a, c, x, direction, h) - loss_at(a, c, x, direction, -h)) / (2 * h);
        differs = fabs(seen - is);
    }
    if (!(differs <= 2e-6 * fmax(1, fabs(is))))
        complain(c, what, x->name, is, seen);
    (void)loss_at(a, c, x, direction, 0);
}

static void check_differences(const cell *c, heed_attend *a)
{
    for (int i = 0; i < c->n; i++) {
        const heed_named_tensor *x = &c->tensor[i];
        const int64_t n = heed_type_count(&x->tensor.type);
        double *gradient, *direction;
        char name[64];
        heed_tensor d;

        (void)snprintf(name, sizeof name, "d_%s", x->name);
        if (!find_result(a, name, &d))
            continue;
        assert_int_equal(heed_type_count(&d.type), n);
        gradient = trial_memory((size_t)n, sizeof *gradient);
        direction = trial_memory((size_t)n, sizeof *direction);
        memcpy(gradient, d.data, (size_t)n * sizeof *gradient);
        for (int64_t k = 0; k < n; k++)
            direction[k] = number_of(c, "direction", k);
        check_direction(c, a, x, gradient, direction, "gradient along a direction of");
        memset(direction, 0, (size_t)n * sizeof *direction);
        if (n > 0)
            direction[c->number % n] = 1;
        check_direction(c, a, x, gradient, direction, "gradient along a coordinate of");
        free(gradient);
        free(direction);
    }
}

/* ---- f32 against f64 ---- */

static void check_f32(heed_context *ctx, const cell *c, const heed_attend *exact, const way *w, const char *what)
{
    heed_error err = { 0 };
    heed_attend *a = NULL;

    assert_int_equal(open_cell(&a, ctx, c, w, &err), HEED_OK);
    if (build_cell(a, c, w, &err) != HEED_OK || heed_attend_run(a, &err) != HEED_OK)
        fail_msg("%s, %s: %s", c->json, what, err.text);
    for (int i = 0; i < heed_attend_results(a); i++) {
        heed_tensor got, want;
        const char *name = heed_attend_result(a, i, &got);
        double *numbers;

        assert_true(find_result(exact, name, &want));
        numbers = trial_memory((size_t)heed_type_count(&want.type), sizeof *numbers);
        for (int64_t k = 0; k < heed_type_count(&want.type); k++)
            numbers[k] = element(&want, k);
        (void)close_to(c, what, name, &got, numbers, heed_type_count(&want.type), 1);
        free(numbers);
    }
    heed_attend_free(a);
}

/* ---- cells ---- */

/* Every word of a name that stands in the sentence counts for its axis. */
static int axes_named(const cell *c, const char *sentence)
{
    int named = 0;

    for (int a = 0; a < AXES; a++) {
        const char *at = axes[a].at[c->at[a]].name;
        bool found = false;

        while (*at) {
            char word[64];
            const size_t n = strcspn(at, " ");

            (void)snprintf(word, sizeof word, "%.*s", (int)n, at);
            found = found || strstr(sentence, word);
            at += n + strspn(at + n, " ");
        }
        named += found;
    }
    return named;
}

typedef struct tally {
    int valid, refused;
    bool list;
} tally;

static void check_cell(heed_context *ctx, const cell *c, tally *t)
{
    const way exact = { HEED_F64, HEED_ATTEND_REFERENCE, true }, plain = { HEED_F64, HEED_ATTEND_REFERENCE, false };
    heed_error err = { 0 };
    heed_attend *a = NULL, *less = NULL;
    heed_status st;

    assert_int_equal(open_cell(&a, ctx, c, &exact, &err), HEED_OK);
    st = build_cell(a, c, &exact, &err);
    if (st != HEED_OK) {
        t->refused++;
        if (t->list)
            printf("%s\n    %s\n", c->json, err.text);
        if (heed_status_exit_code(st) != 3 || axes_named(c, err.text) < 2) {
            print_message("cell %d %s (%s | %s | %s): %s\n", c->number, c->json, axes[1].at[c->at[1]].tensors,
                          axes[2].at[c->at[2]].tensors, axes[4].at[c->at[4]].tensors, err.text);
            complaints++;
        }
        heed_attend_free(a);
        return;
    }
    t->valid++;
    if (heed_attend_run(a, &err) != HEED_OK)
        fail_msg("%s: %s", c->json, err.text);
    check_loops(c, a);
    check_differences(c, a);
    assert_int_equal(heed_attend_run(a, &err), HEED_OK);
    check_f32(ctx, c, a, &(way){ HEED_F32, HEED_ATTEND_REFERENCE, true }, "f32 composed");
    check_f32(ctx, c, a, &(way){ HEED_F32, HEED_ATTEND_AUTO, true }, "f32");
    assert_int_equal(open_cell(&less, ctx, c, &plain, &err), HEED_OK);
    assert_int_equal(build_cell(less, c, &plain, &err), HEED_OK);
    assert_int_equal(heed_attend_run(less, &err), HEED_OK);
    check_f32(ctx, c, less, &(way){ HEED_F32, HEED_ATTEND_AUTO, false }, "f32, out alone");
    heed_attend_free(less);
    heed_attend_free(a);
}

/* Every two values of every two axes, the other axes turning through theirs. */
static tally all_cells(bool list)
{
    tally t = { .list = list };
    heed_context *ctx = NULL;
    int n = 0;

    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    for (int first = 0; first < AXES; first++)
        for (int second = first + 1; second < AXES; second++)
            for (int x = 0; x < axes[first].n; x++)
                for (int y = 0; y < axes[second].n; y++, n++) {
                    int at[AXES];
                    cell c;

                    for (int a = 0; a < AXES; a++)
                        at[a] = n % 3 ? 0 : (int)(mixed((uint64_t)(n * AXES + a)) % (uint64_t)axes[a].n);
                    at[first] = x;
                    at[second] = y;
                    c = make_cell(at, n, &usual);
                    check_cell(ctx, &c, &t);
                    free_cell(&c);
                }
    heed_context_free(ctx);
    return t;
}

static void every_cell_is_right_or_refused_with_its_fields_named(void **state)
{
    const tally t = all_cells(false);

    (void)state;
    print_message("%d valid cells, %d refused, %d complaints\n", t.valid, t.refused, complaints);
    assert_true(t.valid >= CELLS_LEAST);
    assert_int_equal(complaints, 0);
}

/* Nothing at all, and little: each value of each axis by itself. */
static void sizes_of_zero_and_one_are_served(void **state)
{
    static const extent small[] = { { 0, 5, 7, 4, 3 }, { 2, 0, 7, 4, 3 }, { 2, 5, 0, 4, 3 }, { 2, 0, 0, 4, 3 },
                                   { 0, 0, 0, 4, 3 }, { 2, 5, 7, 4, 0 }, { 2, 1, 1, 4, 1 } };
    heed_context *ctx = NULL;
    tally t = { .list = false };
    int n = 7000;

    (void)state;
    complaints = 0;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    for (size_t k = 0; k < sizeof small / sizeof *small; k++)
        for (int axis = 0; axis < AXES; axis++)
            for (int x = 0; x < axes[axis].n; x++, n++) {
                int at[AXES] = { 0 };
                cell c;

                at[axis] = x;
                c = make_cell(at, n, &small[k]);
                if (c.of.queries < 5 && c.of.queries > 0 && strstr(masks[at[2]].tensors, "graph")) {
                    free_cell(&c); /* the list of edges is of five rows */
                    continue;
                }
                check_cell(ctx, &c, &t);
                free_cell(&c);
            }
    heed_context_free(ctx);
    print_message("%d valid cells, %d refused, %d complaints\n", t.valid, t.refused, complaints);
    assert_int_equal(complaints, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_is_right_or_refused_with_its_fields_named),
        cmocka_unit_test(sizes_of_zero_and_one_are_served),
    };

    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        (void)all_cells(true);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
