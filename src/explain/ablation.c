/* Ablation: what the loss becomes without one head.
 *
 *   loss(f)  = mean over samples of -ln softmax(logits(f))[label],   f [heads] of every attention multiplies its weights
 *   effect_h = loss(1, .. 0 at h .., 1) - loss(1, .. 1)
 *
 * f are inputs of one graph, edited once, so one plan serves every head, and both losses come from the same kernels.
 * Michel, Levy, Neubig 2019 (one head at a time). */

#include "attention/attention.h"
#include "base/error.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "explain/explain.h"
#include "passes/edit.h"
#include "passes/passes.h"
#include "train/mirror.h"

#include <string.h>

struct ablation_inside {
    heed_ablation a; /* handed out; first, so that one block is both */
    arena arena;
};

/* One attention whose heads are zeroed in turn. */
typedef struct ablation_factor {
    const char *path, *input; /* in the arena */
    int64_t heads;
    float *f; /* [heads], in the arena */
} ablation_factor;

typedef struct ablating {
    heed_context *ctx;
    heed_model *model;
    arena *arena;
    heed_graph *plain, *graph; /* own */
    heed_plan *plan;
    heed_session *session;
    int id;
    ablation_factor *factors;
    int64_t n_factors, n_heads;
    heed_tensor *in; /* [1 + n_factors] */
    heed_tensor logits;
    int64_t *labels;
    double *row;
} ablating;

static void ablation_release(ablating *x)
{
    heed_session_free(x->session);
    heed_plan_free(x->plan);
    heed_graph_free(x->graph);
    heed_graph_free(x->plain);
}

/* ---- which heads there are ---- */

static void ablation_set(ablating *x, float to)
{
    for (int64_t i = 0; i < x->n_factors; i++)
        for (int64_t h = 0; h < x->factors[i].heads; h++)
            x->factors[i].f[h] = to;
}

/* Is the node an attention that the result depends on? A tap alone does not count, and of differential attention, whose heads
 * are zeroed in both its parts, neither does the second part. */
static bool ablation_counts(const heed_graph *g, const bool *live, uint32_t i)
{
    uint32_t second;

    if (!live[i] || heed__edit_slot(&g->nodes[i]) < 0)
        return false;
    for (uint32_t k = 0; k < i; k++)
        if (heed__edit_slot(&g->nodes[k]) >= 0 && heed__edit_partner(g, k, &second) && second == i)
            return false;
    return true;
}

static heed_status ablation_add(ablating *x, uint32_t i, heed_error *err)
{
    const node *attention = &x->plain->nodes[i];
    ablation_factor *f = &x->factors[x->n_factors];

    f->heads = heed__value(x->plain, heed__out(attention, heed__edit_slot(attention)))->type.dims[1];
    f->path = heed__attention_path(x->arena, x->plain, i);
    f->input = heed__arena_format(x->arena, "heed.ablation.%lld", (long long)x->n_factors);
    f->f = heed__arena_alloc(x->arena, (size_t)f->heads, sizeof *f->f);
    if (!f->path || !f->input || !f->f)
        return heed__fail_memory(err, 0);
    x->n_heads += f->heads;
    x->n_factors++;
    return HEED_OK;
}

static heed_status ablation_find(ablating *x, heed_error *err)
{
    const heed_graph *g = x->plain;
    heed_graph bare = *g; /* the same arrays: nothing of it is freed */
    bool *live = heed__arena_alloc(x->arena, (size_t)g->n_nodes + 1, sizeof *live);
    int64_t n = 0;

    if (!live)
        return heed__fail_memory(err, g->n_nodes);
    bare.n_taps = 0;
    heed__live_nodes(&bare, live);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n += ablation_counts(g, live, i);
    if (n == 0)
        return heed__fail(err, HEED_ERR_SPEC, "ablation: it zeroes heads, and this model has no attention");
    x->factors = heed__arena_alloc(x->arena, (size_t)n, sizeof *x->factors);
    if (!x->factors)
        return heed__fail_memory(err, (uint64_t)n * sizeof *x->factors);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (ablation_counts(g, live, i))
            TRY(ablation_add(x, i, err));
    ablation_set(x, 1);
    return HEED_OK;
}

/* ---- the graph ---- */

/* The model's edits first, then a factor for each attention. */
static heed_status ablation_edit(ablating *x, heed_error *err)
{
    const heed_edit *of_model;
    const int n = heed_model_edits(x->model, &of_model);
    heed_edit *edits = heed__arena_alloc(x->arena, (size_t)n + (size_t)x->n_factors, sizeof *edits);

    if (!edits)
        return heed__fail_memory(err, 0);
    for (int i = 0; i < n; i++)
        edits[i] = of_model[i];
    for (int64_t i = 0; i < x->n_factors; i++)
        edits[n + i] =
            (heed_edit){ .at = x->factors[i].path, .kind = HEED_EDIT_FACTOR, .from = x->factors[i].input };
    return heed_graph_edit(&x->graph, x->plain, edits, n + (int)x->n_factors, err);
}

static heed_status ablation_plan(ablating *x, const heed_tensor *input, heed_error *err)
{
    heed_type y;

    TRY(heed_plan_new(&x->plan, x->ctx, x->graph, NULL, err));
    TRY(heed_session_new(&x->session, x->ctx, heed_model_weights(x->model),
                         &(heed_session_opts){ .seed = heed_model_seed(x->model) }, err));
    TRY(heed_session_add(x->session, x->plan, &x->id, err));
    y = heed_plan_output_type(x->plan, 0);
    if (y.dtype != HEED_F32 || y.rank != 2 || y.dims[0] != input->type.dims[0] || y.dims[1] < 1)
        return heed__fail(
            err, HEED_ERR_SPEC,
            "ablation: the model must give f32 [samples, classes], which only a classifier does");
    x->logits = (heed_tensor){ y, heed__arena_alloc(x->arena, (size_t)heed_type_count(&y), sizeof(float)) };
    x->row = heed__arena_alloc(x->arena, (size_t)y.dims[1], sizeof *x->row);
    x->labels = heed__arena_alloc(x->arena, (size_t)y.dims[0], sizeof *x->labels);
    x->in = heed__arena_alloc(x->arena, 1 + (size_t)x->n_factors, sizeof *x->in);
    if (!x->logits.data || !x->row || !x->labels || !x->in)
        return heed__fail_memory(err, (uint64_t)heed_type_count(&y) * sizeof(float));
    x->in[0] = *input;
    for (int64_t i = 0; i < x->n_factors; i++)
        x->in[i + 1] = (heed_tensor){ HEED_TYPE(HEED_F32, x->factors[i].heads), x->factors[i].f };
    return HEED_OK;
}

/* ---- runs ---- */

static heed_status ablation_run(ablating *x, heed_error *err)
{
    return heed_session_run(x->session, x->id, x->in, 1 + (int)x->n_factors, &x->logits, 1, err);
}

/* Of what the last run gave. */
static heed_status ablation_loss(ablating *x, double *out, heed_error *err)
{
    const int64_t samples = x->logits.type.dims[0], classes = x->logits.type.dims[1];
    double sum = 0;

    for (int64_t i = 0; i < samples; i++) {
        heed__log_softmax_row(x->row, (const float *)x->logits.data + i * classes, classes);
        if (!(x->row[x->labels[i]] <= 0))
            return heed__fail(err, HEED_ERR_NUMERIC, "ablation: the model's output is not finite");
        sum -= x->row[x->labels[i]];
    }
    *out = sum / (double)samples;
    return HEED_OK;
}

static heed_status ablation_labels(ablating *x, const int64_t *labels, heed_error *err)
{
    const int64_t samples = x->logits.type.dims[0], classes = x->logits.type.dims[1];

    for (int64_t i = 0; i < samples; i++) {
        x->labels[i] =
            labels ? labels[i] : heed__largest((const float *)x->logits.data + i * classes, classes);
        if (x->labels[i] < 0 || x->labels[i] >= classes)
            return heed__fail(err, HEED_ERR_USAGE,
                              "ablation: sample %lld: there is no class %lld: classes are 0 to %lld",
                              (long long)i, (long long)x->labels[i], (long long)classes - 1);
    }
    return HEED_OK;
}

static bool ablation_before(const void *items, uint32_t a, uint32_t b)
{
    const heed_head_effect *e = items;

    return e[a].effect > e[b].effect || (!(e[a].effect < e[b].effect) && a < b);
}

static heed_status ablation_rank(heed_ablation *out, ablating *x, const heed_head_effect *all,
                                 heed_error *err)
{
    heed_head_effect *ranked = heed__arena_alloc(x->arena, (size_t)x->n_heads, sizeof *ranked);
    uint32_t *order = heed__arena_alloc(x->arena, 2 * (size_t)x->n_heads, sizeof *order);

    if (!ranked || !order)
        return heed__fail_memory(err, (uint64_t)x->n_heads * sizeof *ranked);
    heed__sort(order, order + x->n_heads, (uint32_t)x->n_heads, ablation_before, all);
    for (int64_t i = 0; i < x->n_heads; i++)
        ranked[i] = all[order[i]];
    out->heads = ranked;
    out->n = x->n_heads;
    return HEED_OK;
}

static heed_status ablation_heads(heed_ablation *out, ablating *x, heed_error *err)
{
    heed_head_effect *all = heed__arena_alloc(x->arena, (size_t)x->n_heads, sizeof *all), *to = all;

    if (!all)
        return heed__fail_memory(err, (uint64_t)x->n_heads * sizeof *all);
    for (int64_t i = 0; i < x->n_factors; i++)
        for (int64_t h = 0; h < x->factors[i].heads; h++, to++) {
            *to = (heed_head_effect){ .path = x->factors[i].path, .attention = i, .head = h };
            x->factors[i].f[h] = 0;
            TRY(ablation_run(x, err));
            TRY(ablation_loss(x, &to->loss, err));
            to->effect = to->loss - out->loss;
            x->factors[i].f[h] = 1;
        }
    return ablation_rank(out, x, all, err);
}

heed_status heed_ablate(heed_ablation **out, heed_model *m, heed_tensor x, const int64_t *labels,
                        heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    ablating a = { .ctx = ctx, .model = m };
    struct ablation_inside *made = NULL;
    heed_status st;

    if (x.type.dtype != HEED_F32 || x.type.rank < 1 || heed_type_count(&x.type) < 1 || !x.data)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "ablation: x must be f32 [samples, ...], at least one, with its data");
    made = heed__alloc(ctx->heap, 1, sizeof *made);
    if (!made)
        return heed__fail_memory(err, sizeof *made);
    heed__arena_init(&made->arena, ctx->heap);
    a.arena = &made->arena;
    made->a.samples = x.type.dims[0];
    STEP(heed_model_graph(m, &x.type, 1, HEED_EVAL, &a.plain, err));
    STEP(ablation_find(&a, err));
    STEP(ablation_edit(&a, err));
    STEP(ablation_plan(&a, &x, err));
    STEP(ablation_run(&a, err));
    STEP(ablation_labels(&a, labels, err));
    made->a.labels = a.labels;
    STEP(ablation_loss(&a, &made->a.loss, err));
    STEP(ablation_heads(&made->a, &a, err));
    ablation_set(&a, 0);
    STEP(ablation_run(&a, err));
    STEP(ablation_loss(&a, &made->a.loss_without_all, err));
    *out = &made->a;
    made = NULL;
done:
    ablation_release(&a);
    if (made)
        heed_ablation_free(ctx, &made->a);
    return st;
}

void heed_ablation_free(heed_context *ctx, heed_ablation *a)
{
    struct ablation_inside *inside = (struct ablation_inside *)a;

    if (!a)
        return;
    heed__arena_release(&inside->arena);
    heed__release(ctx->heap, inside);
}
