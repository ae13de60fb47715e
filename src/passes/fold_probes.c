/* fold_probes: received and pooled of a training graph come out of its backward pass.
 *
 * attention_probe computes every weight once more, after forward; attention_grad does so anyway. Where both stand for the same
 * attention, attention_grad gets the probe's outputs as its own and the probe goes. That is right when
 *
 *   - the probe's `mean` is not used (backward never has a row's weights of all heads at once),
 *   - one kernel family serves both, which sums in one order, so that no bit changes, and
 *   - attention_grad does not need the probe's results, not even by way of another pair that was folded.
 *
 * What uses the probe's results waits for attention_grad; all else keeps its order. */

#include "attention/attention.h"
#include "base/error.h"
#include "passes/passes.h"

/* Of each node. */
typedef struct folding {
    uint32_t into;              /* a probe that goes: its attention_grad, as index + 1. 0: stays */
    bool takes;                 /* an attention_grad that gets something */
    int64_t pooled_q, pooled_k; /* what it gets; 0: not pooled */
    bool received;
    bool needed; /* found by the search from an attention_grad */
    bool made;   /* in the new graph */
} folding;

typedef struct fold {
    const heed_graph *g;
    const bool *live;
    serves_fn *tiled;
    const void *user;
    folding *nodes;
    bool *used; /* values that a live node, an output, a tap or a state takes */
} fold;

static void mark_used(const fold *f)
{
    const heed_graph *g = f->g;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (int j = 0; f->live[i] && j < g->nodes[i].n_in; j++)
            f->used[g->nodes[i].in[j].id] = true;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        f->used[g->outputs[i].value.id] = true;
    for (uint32_t i = 0; i < g->n_taps; i++)
        f->used[g->taps[i].value.id] = true;
    for (uint32_t i = 0; i < g->n_assigns; i++)
        f->used[g->assigns[i].value.id] = true;
}

/* Does node `from` need node `what`? Nodes stand behind what they need, but for the folded. */
static bool needs(const fold *f, uint32_t from, uint32_t what)
{
    const heed_graph *g = f->g;
    bool more = true;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        f->nodes[i].needed = i == from;
    while (more) {
        more = false;
        for (uint32_t i = g->n_nodes; i-- > 0;) {
            const node *n = &g->nodes[i];

            if (!f->nodes[i].needed)
                continue;
            for (int j = 0; j < n->n_in; j++)
                if (n->in[j].id)
                    f->nodes[heed__value(g, n->in[j])->node].needed = true;
            if (f->nodes[i].into && !f->nodes[f->nodes[i].into - 1].needed)
                f->nodes[f->nodes[i].into - 1].needed = more = true;
        }
    }
    return f->nodes[what].needed;
}

/* Is it the same attention? What either is asked for does not count. */
static bool same_attention(const node *probe, const node *grad)
{
    const attention_attrs *p = probe->attrs;
    attention_attrs asked = *(const attention_attrs *)grad->attrs;

    for (int i = 0; i < AT_PROBE_INPUTS; i++) {
        const uint32_t x = i < probe->n_in ? probe->in[i].id : 0, y = i < grad->n_in ? grad->in[i].id : 0;

        if (x != y && i != AT_PROBE_ROWS && i != AT_PROBE_HEADS)
            return false;
    }
    asked.rows = p->rows;
    asked.entropy = p->entropy;
    asked.distance = p->distance;
    asked.topk = p->topk;
    asked.pooled_q = p->pooled_q;
    asked.pooled_k = p->pooled_k;
    asked.received = p->received;
    return heed__fields_equal(heed__attention_fields, p, &asked);
}

/* Can probe p go into attention_grad d, beside what is there already? */
static bool folds(const fold *f, uint32_t p, uint32_t d)
{
    const node *probe = &f->g->nodes[p], *grad = &f->g->nodes[d];
    const attention_attrs *a = probe->attrs;
    const folding *has = &f->nodes[d];

    if (f->used[heed__out(probe, AT_GET_POOLED).id] && has->pooled_q &&
        (has->pooled_q != a->pooled_q || has->pooled_k != a->pooled_k))
        return false;
    return same_attention(probe, grad) && f->tiled(f->user, f->g, grad) && !needs(f, d, p);
}

/* The first attention_grad that takes probe p. */
static void fold_probe(const fold *f, uint32_t p)
{
    const heed_graph *g = f->g;
    const node *probe = &g->nodes[p];
    const attention_attrs *a = probe->attrs;

    if (f->used[heed__out(probe, AT_GET_MEAN).id] || !f->tiled(f->user, g, probe))
        return;
    for (uint32_t d = 0; d < g->n_nodes; d++) {
        if (!f->live[d] || g->nodes[d].op != &heed__op_attention_grad || !folds(f, p, d))
            continue;
        if (f->used[heed__out(probe, AT_GET_POOLED).id]) {
            f->nodes[d].pooled_q = a->pooled_q;
            f->nodes[d].pooled_k = a->pooled_k;
        }
        f->nodes[d].received |= f->used[heed__out(probe, AT_GET_RECEIVED).id];
        f->nodes[d].takes = true;
        f->nodes[p].into = d + 1;
        return;
    }
}

/* ---- the new graph ---- */

static bool ready(const fold *f, const node *n)
{
    for (int j = 0; j < n->n_in; j++) {
        const uint32_t by = n->in[j].id ? heed__value(f->g, n->in[j])->node : 0;

        if (n->in[j].id && !f->nodes[f->nodes[by].into ? f->nodes[by].into - 1 : by].made)
            return false;
    }
    return true;
}

/* attention_grad d with the outputs of the probes that went into it. */
static void make_grad(const fold *f, rewrite *r, uint32_t d)
{
    const heed_graph *g = f->g;
    node n = g->nodes[d];
    attention_attrs a = *(const attention_attrs *)n.attrs;

    a.received = f->nodes[d].received;
    a.pooled_q = f->nodes[d].pooled_q;
    a.pooled_k = f->nodes[d].pooled_k;
    n.attrs = &a;
    heed__copy_node(r->b, &n, r->map);
    for (uint32_t p = 0; p < g->n_nodes; p++)
        if (f->nodes[p].into == d + 1) {
            r->map[heed__out(&g->nodes[p], AT_GET_POOLED).id] = r->map[heed__out(&n, AT_GRAD_POOLED).id];
            r->map[heed__out(&g->nodes[p], AT_GET_RECEIVED).id] = r->map[heed__out(&n, AT_GRAD_RECEIVED).id];
        }
}

/* Makes node i unless it has been made, goes or has to wait. True when others may have waited for it. */
static bool make(const fold *f, rewrite *r, uint32_t i)
{
    folding *x = &f->nodes[i];

    if (!r->live[i] || x->into || x->made || !ready(f, &f->g->nodes[i]))
        return false;
    if (x->takes)
        make_grad(f, r, i);
    else
        heed__copy_node(r->b, &f->g->nodes[i], r->map);
    x->made = true;
    return x->takes;
}

/* In order; what has waited for an attention_grad follows it, in order too. */
static void make_all(const fold *f, rewrite *r)
{
    for (uint32_t i = 0; i < f->g->n_nodes; i++) {
        bool more = make(f, r, i);

        while (more) {
            more = false;
            for (uint32_t w = 0; w < i; w++)
                more |= make(f, r, w);
        }
    }
}

static bool differentiates_attention(const heed_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &heed__op_attention_grad)
            return true;
    return false;
}

heed_status heed__pass_fold_probes(heed_graph **out, const heed_graph *g, serves_fn *tiled, const void *user,
                                   heed_error *err)
{
    heap *h = g->ctx->heap;
    folding *nodes = NULL;
    bool *used = NULL;
    rewrite r;

    *out = NULL;
    if (!differentiates_attention(g))
        return HEED_OK;
    TRY(heed__rewrite_begin(&r, g, err));
    nodes = heed__alloc(h, (size_t)g->n_nodes + 1, sizeof *nodes);
    used = heed__alloc(h, (size_t)g->n_values + 1, sizeof *used);
    if (nodes && used) {
        const fold f = { g, r.live, tiled, user, nodes, used };

        mark_used(&f);
        for (uint32_t i = 0; i < g->n_nodes; i++)
            if (r.live[i] && g->nodes[i].op == &heed__op_attention_probe)
                fold_probe(&f, i);
        make_all(&f, &r);
    } else {
        heed__poison(r.b, HEED_ERR_MEMORY, "out of memory for %u nodes", (unsigned)g->n_nodes);
    }
    heed__release(h, nodes);
    heed__release(h, used);
    return heed__rewrite_end(&r, out, err);
}
