/* What a model attends to on one input, read out of the graph that it runs.
 *
 * The evaluation graph is copied with one output more for each attention: its weights. A kernel is never
 * chosen by which outputs are wanted, so the result keeps the bits of heed_model_run. Edits of the model are
 * made on that copy, after the attentions were found in it.
 *
 * For gradients the attentions of that graph are opened: out = w v with w a value like any other, and
 *
 *   d logit[target] / d w = sum_ij dy_target/d out_ij  v_j  + what reaches the logit through later attentions
 *
 * is what heed_grad gives with one-hot dy, an input, so that the graph does not depend on the target. */

#include "attention/attention.h"
#include "base/error.h"
#include "explain/explain.h"
#include "passes/edit.h"
#include "passes/passes.h"

#include <stdio.h>
#include <string.h>

/* ---- where keys lie ---- */

/* Sizes within a tenth of the picture's ratio. */
static bool has_ratio(const int64_t size[2], int64_t height, int64_t width)
{
    const double a = (double)size[0] * (double)width, b = (double)size[1] * (double)height;

    return a > 0 && b > 0 && a <= 1.1 * b && b <= 1.1 * a;
}

/* One whole step s from token to token makes rows x cols = H/s x W/s, both rounded down (pooling) or both up
 * (padded convolution). */
static bool grid_of(heed_token_grid *g, int64_t cells, int64_t height, int64_t width)
{
    for (int64_t s = 1; s <= i64_min(height, width); s++) {
        const int64_t down[2] = { height / s, width / s };
        const int64_t up[2] = { i64_ceil_div(height, s), i64_ceil_div(width, s) };
        const int64_t *size = down[0] * down[1] == cells ? down : up;

        if (size[0] * size[1] == cells && has_ratio(size, height, width)) {
            g->rows = size[0];
            g->cols = size[1];
            return true;
        }
    }
    return false;
}

heed_token_grid heed__token_grid(int64_t keys, int64_t height, int64_t width)
{
    for (int64_t first = 0; first <= 2; first++) {
        heed_token_grid g = { .first = first };

        if (keys - first >= 2 && grid_of(&g, keys - first, height, width))
            return g;
    }
    return (heed_token_grid){ 0, 0, 0 };
}

/* ---- graphs ---- */

static heed_status add_weights(heed_graph **out, const heed_graph *g, heed_error *err)
{
    rewrite r;
    int64_t n = 0;
    char name[40];

    TRY(heed__rewrite_begin(&r, g, err));
    heed__rewrite_copy(&r);
    heed__rewrite_names(&r);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (r.live[i] && g->nodes[i].op == &heed__op_attention) {
            (void)snprintf(name, sizeof name, "attention.%lld", (long long)n++);
            heed_output(r.b, name, r.map[heed__out(&g->nodes[i], AT_GET_WEIGHTS).id]);
        }
    return heed__rewrite_end(&r, out, err);
}

static bool is_closed(const void *user, const heed_graph *g, const node *n)
{
    (void)user;
    (void)g;
    return n->op != &heed__op_attention;
}

/* From a graph whose outputs are result and weights to one whose outputs are the gradients of the weights;
 * its last input is dy. */
static heed_status add_gradients(heed_graph **out, const heed_graph *weights, heed_error *err)
{
    heap *h = weights->ctx->heap;
    const uint32_t n = weights->n_outputs - 1;
    heed_value *values = heed__alloc(h, 2 * (size_t)n, sizeof *values), dy, y;
    heed_graph *opened = NULL, bare;
    heed_status st;
    rewrite r;
    char name[40];

    if (!values)
        return heed__fail_memory(err, 2 * (uint64_t)n * sizeof *values);
    STEP(heed__pass_open(&opened, weights, is_closed, NULL, err));
    STEP(heed__rewrite_begin(&r, opened, err));
    heed__rewrite_copy(&r);
    y = r.map[opened->outputs[0].value.id];
    for (uint32_t i = 0; i < n; i++)
        values[i] = r.map[opened->outputs[i + 1].value.id];
    dy = heed_input(r.b, "dy", heed_value_type(r.b, y));
    heed_grad_of(r.b, &y, &dy, 1, values, (int)n, values + n);
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "gradient.%u", (unsigned)i);
        heed_output(r.b, name, values[n + i]);
    }
    bare = *opened; /* the same arrays, but no names to copy: nothing of it is freed */
    bare.n_outputs = bare.n_taps = bare.n_assigns = 0;
    r.from = &bare;
    st = heed__rewrite_end(&r, out, err);
done:
    heed_graph_free(opened);
    heed__release(h, values);
    return st;
}

/* The model's edits, on the graph that has the weights as outputs: so these are the edited ones. */
static heed_status add_edits(records *r, heed_error *err)
{
    const heed_edit *edits;
    const int n = heed_model_edits(r->model, &edits);
    heed_graph *edited = NULL;

    if (n == 0)
        return HEED_OK;
    TRY(heed_graph_edit(&edited, r->graph, edits, n, err));
    heed_graph_free(r->graph);
    r->graph = edited;
    return HEED_OK;
}

/* Plans and runs a graph once on the model's weights. */
static heed_status run_once(const records *r, const heed_graph *g, const heed_tensor *in, int n_in,
                            const heed_tensor *out, int n_out, heed_error *err)
{
    heed_session *s = NULL;
    heed_plan *p = NULL;
    heed_status st;
    int id;

    STEP(heed_plan_new(&p, r->ctx, g, &(heed_plan_opts){ .results = HEED_RESULTS_DIRECT }, err));
    STEP(heed_session_new(&s, r->ctx, heed_model_weights(r->model),
                          &(heed_session_opts){ .seed = heed_model_seed(r->model) }, err));
    STEP(heed_session_add(s, p, &id, err));
    st = heed_session_run(s, id, in, n_in, out, n_out, err);
done:
    heed_session_free(s);
    heed_plan_free(p);
    return st;
}

/* ---- records ---- */

/* A name of its own for each attention: its scope, and #2 for the second in the same one. Edits know it by that. */
const char *heed__attention_path(arena *a, const heed_graph *g, uint32_t index)
{
    const char *scope = g->nodes[index].path;
    int64_t nth = 1;

    for (uint32_t i = 0; i < index; i++)
        nth += heed__edit_slot(&g->nodes[i]) >= 0 && strcmp(g->nodes[i].path, scope) == 0;
    scope = *scope ? scope : "attention";
    return nth == 1 ? heed__arena_string(a, scope) : heed__arena_format(a, "%s#%lld", scope, (long long)nth);
}

/* Attentions of several sequences (windows of one picture) count as heads that lie nowhere. */
static heed_status describe(records *r, int64_t i, uint32_t at, heed_error *err)
{
    const node *n = &r->graph->nodes[at];
    const heed_type *t = &heed__value(r->graph, r->graph->outputs[i + 1].value)->type;
    const int64_t height = r->x->type.dims[2], width = r->x->type.dims[3];
    heed_attention_record *to = &r->list[i];

    if (t->dtype != HEED_F32)
        return heed__fail_at(err, HEED_ERR_DTYPE, n->path,
                             "explain: the attention \"%.100s\" is %s; only f32 can be explained", n->path,
                             heed_dtype_name(t->dtype));
    *to = (heed_attention_record){
        .path = heed__attention_path(r->arena, r->graph, at),
        .heads = t->dims[0] * t->dims[1],
        .queries = t->dims[2],
        .keys = t->dims[3],
        .weights = heed__arena_alloc(r->arena, (size_t)heed_type_count(t), sizeof(float)),
        .gradient = heed__arena_alloc(r->arena, (size_t)heed_type_count(t), sizeof(float))
    };
    if (!to->path || !to->weights || !to->gradient)
        return heed__fail_memory(err, 2 * (uint64_t)heed_type_count(t) * sizeof(float));
    if (t->dims[0] == 1 && to->heads > 0 && to->queries > 0)
        to->grid = heed__token_grid(to->keys, height, width);
    return HEED_OK;
}

static heed_status describe_all(records *r, heed_error *err)
{
    const heed_type *y = &heed__value(r->graph, r->graph->outputs[0].value)->type;
    int64_t at = 0;

    if (y->dtype != HEED_F32 || y->rank != 2 || y->dims[0] != 1 || y->dims[1] < 1)
        return heed__fail(err, HEED_ERR_SPEC,
                          "explain: the model must give f32 [1, classes] for one picture, which only a "
                          "classifier does");
    r->classes = y->dims[1];
    r->n = (int64_t)r->graph->n_outputs - 1;
    r->logits = heed__arena_alloc(r->arena, (size_t)r->classes, sizeof *r->logits);
    r->list = heed__arena_alloc(r->arena, (size_t)r->n, sizeof *r->list);
    if (!r->logits || !r->list)
        return heed__fail_memory(err, (uint64_t)r->n * sizeof *r->list);
    for (uint32_t i = 0; i < r->graph->n_nodes; i++)
        if (r->graph->nodes[i].op == &heed__op_attention)
            TRY(describe(r, at++, i, err));
    return HEED_OK;
}

heed_status heed__records_take(records *r, heed_model *m, const heed_tensor *x, arena *a, heed_error *err)
{
    heed_graph *plain = NULL;
    heed_tensor *out = NULL;
    heed_status st;

    *r = (records){ .ctx = heed_model_context(m), .model = m, .x = x, .arena = a };
    STEP(heed_model_graph(m, &x->type, 1, HEED_EVAL, &plain, err));
    STEP(add_weights(&r->graph, plain, err));
    STEP(describe_all(r, err));
    STEP(add_edits(r, err));
    out = heed__alloc(r->ctx->heap, (size_t)r->n + 1, sizeof *out);
    if (!out) {
        st = heed__fail_memory(err, (uint64_t)r->n * sizeof *out);
        goto done;
    }
    for (int64_t i = 0; i <= r->n; i++)
        out[i] = (heed_tensor){ heed__value(r->graph, r->graph->outputs[i].value)->type,
                                i ? (void *)(uintptr_t)r->list[i - 1].weights : r->logits };
    st = run_once(r, r->graph, x, 1, out, (int)r->n + 1, err);
done:
    heed__release(r->ctx->heap, out);
    heed_graph_free(plain);
    return st;
}

heed_status heed__records_gradient(records *r, int64_t target, heed_error *err)
{
    heap *h = r->ctx->heap;
    heed_tensor in[2] = { *r->x, { .type = heed_type_of(HEED_F32, 2, (const int64_t[]){ 1, r->classes }) } };
    heed_tensor *out = NULL;
    heed_graph *g = NULL;
    heed_status st;

    if (r->n == 0)
        return HEED_OK;
    in[1].data = heed__alloc(h, (size_t)r->classes, sizeof(float));
    out = heed__alloc(h, (size_t)r->n, sizeof *out);
    if (!in[1].data || !out) {
        st = heed__fail_memory(err, (uint64_t)r->n * sizeof *out);
        goto done;
    }
    ((float *)in[1].data)[target] = 1;
    for (int64_t i = 0; i < r->n; i++)
        out[i] = (heed_tensor){ heed__value(r->graph, r->graph->outputs[i + 1].value)->type,
                                (void *)(uintptr_t)r->list[i].gradient };
    STEP(add_gradients(&g, r->graph, err));
    st = run_once(r, g, in, 2, out, (int)r->n, err);
done:
    heed_graph_free(g);
    heed__release(h, out);
    heed__release(h, in[1].data);
    return st;
}

void heed__records_release(records *r)
{
    heed_graph_free(r->graph);
    r->graph = NULL;
}
