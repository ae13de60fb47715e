/* The rules a graph keeps, checked after building and after each pass in debug builds and tests:
 * inputs come before their node; types are what the op infers; leaves have unique paths; roots exist. */

#include "base/error.h"
#include "graph/builder.h"

#include <string.h>

static heed_status verify_node(const heed_graph *g, uint32_t index, heed_error *err)
{
    const node *n = &g->nodes[index];
    heed_type in[OP_IN_MAX], out[OP_OUT_MAX];

    if (!n->op || !n->path || n->n_out < 1 || n->n_out > OP_OUT_MAX)
        return heed__fail(err, HEED_ERR_BUG, "node %u has no op, path or outputs", (unsigned)index);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i].id >= n->first_out)
            return heed__fail_at(err, HEED_ERR_BUG, n->path, "%s: input %d comes after the node", n->op->name,
                                 i);
    for (int i = 0; i < n->n_out; i++)
        if (g->values[n->first_out + (uint32_t)i].node != index ||
            g->values[n->first_out + (uint32_t)i].slot != i)
            return heed__fail_at(err, HEED_ERR_BUG, n->path, "%s: output %d belongs to another node",
                                 n->op->name, i);
    if (n->n_in > OP_IN_MAX) /* variadic: checked when it was made */
        return HEED_OK;
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i].id ? g->values[n->in[i].id].type : (heed_type){ .rank = -1 };
    TRY(heed__infer_node(n->op, n->attrs, in, n->n_in, out, n->n_out, n->body, err));
    for (int i = 0; i < n->n_out; i++)
        if (!heed_type_equal(&out[i], &g->values[n->first_out + (uint32_t)i].type))
            return heed__fail_at(err, HEED_ERR_BUG, n->path,
                                 "%s: output %d has another type than the op infers", n->op->name, i);
    return HEED_OK;
}

heed_status heed__verify(const heed_graph *g, heed_error *err)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        TRY(verify_node(g, i, err));
        if (g->nodes[i].body)
            TRY(heed__verify(g->nodes[i].body, err));
    }
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i].value.id == 0 || g->outputs[i].value.id >= g->n_values)
            return heed__fail(err, HEED_ERR_BUG, "output \"%s\" names no value", g->outputs[i].name);
    for (uint32_t i = 0; i < g->n_assigns; i++)
        if (!heed_type_equal(&g->values[g->assigns[i].state.id].type,
                             &g->values[g->assigns[i].value.id].type))
            return heed__fail(err, HEED_ERR_BUG, "assign %u: types differ", (unsigned)i);
    return HEED_OK;
}
