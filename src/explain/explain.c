/* An explanation from beginning to end: what was asked is checked, the model's attentions are recorded, each
 * method makes a map and each map stands the deletion test. All that is handed out lies in one
 * arena. */

#include "explain/explain.h"

#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include "train/mirror.h"

#include <math.h>
#include <string.h>

#define EXPLAIN_MAPS ((1u << HEED_EXPLAIN_METHODS) - 1)
#define EXPLAIN_ORDERS 100
#define EXPLAIN_POINTS 21
#define EXPLAIN_CELLS 7 /* on the shorter side, where no attention says */
#define EXPLAIN_ORDERS_MOST 100000
#define EXPLAIN_POINTS_MOST 10001

struct heed_explanation_inside {
    heed_explanation e; /* handed out; first, so that one block is both */
    arena arena;
    heed_ablation *ablation; /* owns */
};

/* ---- what was asked ---- */

static heed_status check_input(const heed_explain_input *in, heed_error *err)
{
    const heed_type *x = &in->x.type, *p = &in->picture.type;

    if (x->dtype != HEED_F32 || x->rank != 4 || x->dims[0] != 1 || heed_type_count(x) < 1 || !in->x.data)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "explain: x must be one picture, f32 [1,C,H,W], with its data");
    if (in->picture.data && (p->dtype != HEED_U8 || p->rank != 3 || p->dims[1] != x->dims[2] ||
                             p->dims[2] != x->dims[3] || p->dims[0] < 1))
        return heed__fail(err, HEED_ERR_SHAPE,
                          "explain: picture must be u8 [C,%lld,%lld], of the size that the model sees",
                          (long long)x->dims[2], (long long)x->dims[3]);
    return HEED_OK;
}

static heed_status check_opts(const heed_explain_opts *o, heed_error *err)
{
    if (o->methods & ~(EXPLAIN_MAPS | 1u << HEED_EXPLAIN_ABLATION))
        return heed__fail(err, HEED_ERR_USAGE,
                          "explain: methods 0x%x has bits that name no method: there are %d", o->methods,
                          (int)HEED_EXPLAIN_METHODS + 1);
    if (o->orders < 0 || o->orders > EXPLAIN_ORDERS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "explain: %lld random orders; 1 to %d are possible, 0 is %d",
                          (long long)o->orders, EXPLAIN_ORDERS_MOST, EXPLAIN_ORDERS);
    if (o->points < 0 || o->points == 1 || o->points > EXPLAIN_POINTS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "explain: a curve of %lld points; 2 to %d are possible, 0 is at most %d",
                          (long long)o->points, EXPLAIN_POINTS_MOST, EXPLAIN_POINTS);
    return HEED_OK;
}

static heed_status check_layer(const explaining *x, heed_error *err)
{
    const int64_t n = x->n_attentions, layer = x->opts.layer.value;

    if (!x->opts.layer.set)
        return HEED_OK;
    if (n == 0)
        return heed__fail(err, HEED_ERR_SPEC,
                          "explain: layer %lld was asked for, but this model has no attention",
                          (long long)layer);
    if (layer < 0 || layer >= n)
        return heed__fail(
            err, HEED_ERR_USAGE,
            "explain: there is no attention %lld: this model has %lld, numbered from 0 (\"%.60s\") "
            "to %lld (\"%.60s\")",
            (long long)layer, (long long)n, x->attentions[0].path, (long long)n - 1,
            x->attentions[n - 1].path);
    if (x->attentions[layer].grid.rows == 0)
        return heed__fail(err, HEED_ERR_SPEC,
                          "explain: attention %lld (\"%.100s\") has %lld keys, which lie in no grid on the "
                          "picture: choose another layer",
                          (long long)layer, x->attentions[layer].path, (long long)x->attentions[layer].keys);
    return HEED_OK;
}

static heed_status check_head(const explaining *x, heed_error *err)
{
    const int64_t head = x->opts.head.value;
    int64_t most = 0, least = INT64_MAX;

    if (!x->opts.head.set)
        return HEED_OK;
    if (x->n_attentions == 0)
        return heed__fail(err, HEED_ERR_SPEC,
                          "explain: head %lld was asked for, but this model has no attention",
                          (long long)head);
    for (int64_t i = 0; i <= x->last; i++) {
        most = i64_max(most, x->attentions[i].heads);
        if (x->attentions[i].heads > 1)
            least = i64_min(least, x->attentions[i].heads);
    }
    least = i64_min(least, i64_max(1, most));
    if (head < 0 || head >= least)
        return heed__fail(err, HEED_ERR_USAGE, "explain: there is no head %lld: heads are 0 to %lld",
                          (long long)head, (long long)least - 1);
    return HEED_OK;
}

/* The attention that is read: the one asked for, or the last on the picture. */
static heed_status choose_grid(explaining *x, const heed_type *picture, heed_error *err)
{
    const int64_t height = picture->dims[2], width = picture->dims[3];
    const int64_t side = i64_ceil_div(i64_min(height, width), EXPLAIN_CELLS);

    TRY(check_layer(x, err));
    x->last = -1;
    for (int64_t i = 0; i < x->n_attentions; i++)
        if (x->attentions[i].grid.rows > 0 && (!x->opts.layer.set || i == x->opts.layer.value))
            x->last = i;
    x->grid = x->last >= 0 ? x->attentions[x->last].grid
                           : (heed_token_grid){ 0, i64_max(1, height / side), i64_max(1, width / side) };
    TRY(check_head(x, err));
    for (int m = 0; m < HEED_EXPLAIN_METHODS; m++)
        if (x->opts.methods & 1u << m && heed__explain_methods[m].needs == NEEDS_ATTENTION && x->last < 0)
            return heed__fail(
                err, HEED_ERR_SPEC,
                x->n_attentions == 0
                    ? "explain: %s reads attention, and this model has none: ask for occlusion alone"
                    : "explain: %s reads attention, and no attention of this model lies on the "
                      "picture: ask for occlusion alone",
                heed__explain_methods[m].name);
    return HEED_OK;
}

static void fill_opts(explaining *x)
{
    heed_explain_opts *o = &x->opts;
    const int64_t most = x->grid.rows * x->grid.cols + 1;

    o->orders = o->orders ? o->orders : EXPLAIN_ORDERS;
    o->points = i64_max(2, i64_min(o->points ? o->points : EXPLAIN_POINTS, most));
}

/* ---- what is told of model and input ---- */

static heed_status copy_names(heed_explanation *e, arena *a, const heed_explain_input *in, heed_error *err)
{
    const char **names = heed__arena_alloc(a, (size_t)e->classes, sizeof *names);
    const heed_type *p = &in->picture.type;

    if (!names)
        return heed__fail_memory(err, (uint64_t)e->classes * sizeof *names);
    for (int64_t i = 0; i < e->classes; i++) {
        names[i] = in->class_names ? heed__arena_string(a, in->class_names[i])
                                   : heed__arena_format(a, "%lld", (long long)i);
        if (!names[i])
            return heed__fail_memory(err, 0);
    }
    e->class_names = names;
    e->input = heed__arena_string(a, in->name ? in->name : "");
    e->model = heed__arena_string(a, in->model ? in->model : "");
    e->picture.type = *p;
    if (in->picture.data)
        e->picture.data = heed__arena_copy(a, in->picture.data, (size_t)heed_type_count(p));
    if (!e->input || !e->model || (in->picture.data && !e->picture.data))
        return heed__fail_memory(err, 0);
    return HEED_OK;
}

/* What the model was edited by: one by one, and all in a line. */
static heed_status copy_edits(heed_explanation *e, arena *a, const heed_model *m, heed_error *err)
{
    const int n = heed_model_edits(m, NULL);
    const char **edits = heed__arena_alloc(a, (size_t)n, sizeof *edits), *all = "";

    if (!edits)
        return heed__fail_memory(err, (uint64_t)n * sizeof *edits);
    for (int i = 0; i < n; i++) {
        edits[i] = heed__arena_string(a, heed_model_edit_text(m, i));
        all = edits[i] ? heed__arena_format(a, "%s%s%s", all, i ? "; " : "", edits[i]) : NULL;
        if (!all)
            return heed__fail_memory(err, 0);
    }
    e->edit = all;
    e->edits = edits;
    e->n_edits = n;
    return HEED_OK;
}

/* Probabilities of all classes, the one predicted and the one explained. */
static heed_status read_result(heed_explanation *e, explaining *x, const records *r,
                               const heed_explain_input *in, heed_error *err)
{
    double *log_p = heed__arena_alloc(x->arena, (size_t)r->classes, sizeof *log_p);
    float *p = heed__arena_alloc(x->arena, (size_t)r->classes, sizeof *p);

    if (!log_p || !p)
        return heed__fail_memory(err, (uint64_t)r->classes * sizeof *log_p);
    heed__log_softmax_row(log_p, r->logits, r->classes);
    for (int64_t i = 0; i < r->classes; i++) {
        if (!(log_p[i] <= 0))
            return heed__fail(
                err, HEED_ERR_NUMERIC,
                "explain: the model's output for this input is not finite: look at the input and "
                "at the weights");
        p[i] = (float)exp(log_p[i]);
    }
    e->classes = r->classes;
    e->probability = p;
    e->predicted = heed__largest(r->logits, r->classes);
    e->target = x->opts.target.set ? x->opts.target.value : e->predicted;
    e->truth = in->truth.set ? in->truth.value : -1;
    if (e->target < 0 || e->target >= e->classes)
        return heed__fail(err, HEED_ERR_USAGE, "explain: there is no class %lld: classes are 0 to %lld",
                          (long long)e->target, (long long)e->classes - 1);
    x->log_probability = log_p[e->target];
    return HEED_OK;
}

static heed_status make_maps(heed_explanation *e, explaining *x, heed_error *err)
{
    heed_saliency *maps = heed__arena_alloc(x->arena, HEED_EXPLAIN_METHODS, sizeof *maps);

    if (!maps)
        return heed__fail_memory(err, HEED_EXPLAIN_METHODS * sizeof *maps);
    e->maps = maps;
    if (!(x->opts.methods & EXPLAIN_MAPS))
        return HEED_OK;
    TRY(heed__faithful_random(x, err));
    for (int m = 0; m < HEED_EXPLAIN_METHODS; m++) {
        if (!(x->opts.methods & 1u << m))
            continue;
        TRY(heed__saliency(&maps[e->n_maps], x, (heed_explain_method)m, err));
        TRY(heed__faithful(&maps[e->n_maps], x, err));
        e->n_maps++;
    }
    return HEED_OK;
}

static heed_status make_ablation(struct heed_explanation_inside *made, const explaining *x, heed_model *m,
                                 heed_tensor picture, heed_error *err)
{
    const heed_explanation *e = &made->e;
    const int64_t label = e->truth >= 0 && !x->opts.target.set ? e->truth : e->target;

    if (!(x->opts.methods & 1u << HEED_EXPLAIN_ABLATION))
        return HEED_OK;
    TRY(heed_ablate(&made->ablation, m, picture, &label, err));
    made->e.ablation = made->ablation;
    return HEED_OK;
}

heed_status heed_explain(heed_explanation **out, heed_model *m, const heed_explain_input *in,
                         const heed_explain_opts *opts, heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    struct heed_explanation_inside *made = NULL;
    records r = { .graph = NULL };
    explaining x = { .ctx = ctx, .opts = opts ? *opts : (heed_explain_opts){ .methods = 0 } };
    heed_status st;

    TRY(check_input(in, err));
    TRY(check_opts(&x.opts, err));
    if (x.opts.methods == 0)
        x.opts.methods = EXPLAIN_MAPS;
    made = heed__alloc(ctx->heap, 1, sizeof *made);
    if (!made)
        return heed__fail_memory(err, sizeof *made);
    heed__arena_init(&made->arena, ctx->heap);
    made->e.inside = made;
    x.arena = &made->arena;
    STEP(heed__records_take(&r, m, &in->x, x.arena, err));
    x.attentions = made->e.attentions = r.list;
    x.n_attentions = made->e.n_attentions = r.n;
    STEP(choose_grid(&x, &in->x.type, err));
    fill_opts(&x);
    STEP(read_result(&made->e, &x, &r, in, err));
    STEP(copy_names(&made->e, x.arena, in, err));
    STEP(copy_edits(&made->e, x.arena, m, err));
    STEP(heed__records_gradient(&r, made->e.target, err));
    STEP(heed__blanks_open(&x.blanks, m, in, &x.grid, r.classes, made->e.target, err));
    STEP(make_maps(&made->e, &x, err));
    STEP(make_ablation(made, &x, m, in->x, err));
    *out = &made->e;
    made = NULL;
done:
    heed__blanks_release(&x.blanks);
    heed__records_release(&r);
    if (made)
        heed_explanation_free(ctx, &made->e);
    return st;
}

void heed_explanation_free(heed_context *ctx, heed_explanation *e)
{
    if (!e)
        return;
    heed_ablation_free(ctx, e->inside->ablation);
    heed__arena_release(&e->inside->arena);
    heed__release(ctx->heap, e->inside);
}
