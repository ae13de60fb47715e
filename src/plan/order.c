/* The order of nodes: that of building, but for checks behind the first state that could be written where
 * it lies.
 *
 * A run that ends at a fault leaves every state as it was. So a state can be written in place only when
 * nothing that may end the run comes after, and one check in the tenth layer of a decoder would make nine
 * layers copy their caches. Checks of what a run is given (tokens, lengths) do not depend on what earlier
 * layers compute: they and all they need are moved in front of the first such write. One that does depend
 * on a state's new value stays, and the value is copied at the end of the run. */

#include "base/error.h"
#include "plan/plan.h"

#define ON_STATE 1 /* makes the new value of a state, and could write it there; or needs a node that does */
#define EARLY 2    /* a check that can be moved, or something it needs */

/* Element-wise ops could write a state too, but those are as small as a counter: only ops that say .over
 * are worth moving others for. */
static void mark_makers(const heed_graph *g, uint8_t *marks)
{
    for (uint32_t i = 0; i < g->n_assigns; i++) {
        const value_info *made = heed__value(g, g->assigns[i].value);
        const node *n = &g->nodes[made->node];
        const int over = heed__written_over(n->op, made->slot);

        if (over >= 0 && over < n->n_in && n->in[over].id == g->assigns[i].state.id)
            marks[made->node] |= ON_STATE;
    }
}

/* Marks nodes; returns the first that makes a state, or the number of nodes. */
static uint32_t mark(const heed_graph *g, uint8_t *marks)
{
    uint32_t first = g->n_nodes;

    mark_makers(g, marks);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];

        if (marks[i] & ON_STATE && i < first)
            first = i;
        for (int j = 0; j < n->n_in; j++)
            if (n->in[j].id)
                marks[i] |= marks[heed__value(g, n->in[j])->node] & ON_STATE;
        if (i > first && n->op->flags & OP_FAULTS && !(marks[i] & ON_STATE))
            marks[i] |= EARLY;
    }
    for (uint32_t i = g->n_nodes; i-- > 0;)
        for (int j = 0; marks[i] & EARLY && j < g->nodes[i].n_in; j++)
            if (g->nodes[i].in[j].id)
                marks[heed__value(g, g->nodes[i].in[j])->node] |= EARLY;
    return first;
}

heed_status heed__plan_order(uint32_t *order, heed_context *ctx, const heed_graph *g, heed_error *err)
{
    uint8_t *marks = heed__alloc(ctx->heap, (size_t)g->n_nodes + 1, 1);
    uint32_t first, n = 0;

    if (!marks)
        return heed__fail_memory(err, g->n_nodes);
    first = mark(g, marks);
    for (uint32_t i = 0; i < first; i++)
        order[n++] = i;
    for (uint32_t i = first; i < g->n_nodes; i++)
        if (marks[i] & EARLY)
            order[n++] = i;
    for (uint32_t i = first; i < g->n_nodes; i++)
        if (!(marks[i] & EARLY))
            order[n++] = i;
    heed__release(ctx->heap, marks);
    return HEED_OK;
}
