/* The frame of every pass: a builder, a map from old values to new ones, and which nodes are live. */

#include "base/error.h"
#include "passes/passes.h"

void heed__live_nodes(const heed_graph *g, bool *live)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        live[i] = g->nodes[i].op->flags & OP_EFFECT || g->nodes[i].op == &heed__op_input;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        live[g->values[g->outputs[i].value.id].node] = true;
    for (uint32_t i = 0; i < g->n_taps; i++)
        live[g->values[g->taps[i].value.id].node] = true;
    for (uint32_t i = 0; i < g->n_assigns; i++) {
        live[g->values[g->assigns[i].state.id].node] = true;
        live[g->values[g->assigns[i].value.id].node] = true;
    }
    for (uint32_t i = g->n_nodes; i-- > 0;)
        for (int j = 0; live[i] && j < g->nodes[i].n_in; j++)
            if (g->nodes[i].in[j].id)
                live[g->values[g->nodes[i].in[j].id].node] = true;
}

heed_status heed__rewrite_begin(rewrite *r, const heed_graph *from, heed_error *err)
{
    heap *h = from->ctx->heap;

    *r = (rewrite){ .from = from };
    r->map = heed__alloc(h, from->n_values, sizeof *r->map);
    r->live = heed__alloc(h, from->n_nodes + 1, sizeof *r->live);
    if (!r->map || !r->live || heed_builder_new(&r->b, from->ctx, err) != HEED_OK) {
        heed__release(h, r->map);
        heed__release(h, r->live);
        return heed__fail_memory(err, from->n_values * sizeof *r->map);
    }
    heed__live_nodes(from, r->live);
    return HEED_OK;
}

void heed__rewrite_copy(rewrite *r)
{
    for (uint32_t i = 0; i < r->from->n_nodes; i++)
        if (r->live[i])
            heed__copy_node(r->b, &r->from->nodes[i], r->map);
}

void heed__rewrite_names(rewrite *r)
{
    heed__copy_names(r->b, r->from, r->map);
    r->named = true;
}

heed_status heed__rewrite_end(rewrite *r, heed_graph **out, heed_error *err)
{
    heap *h = r->from->ctx->heap;
    heed_status st;

    if (!r->named)
        heed__rewrite_names(r);
    st = heed_builder_finish(out, r->b, err);
    heed_builder_free(r->b);
    heed__release(h, r->map);
    heed__release(h, r->live);
    return st;
}
