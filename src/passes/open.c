/* open: a composite that no kernel serves becomes its decomposition, which may contain composites again; repeated until
 * every node is a primitive or served. Depth is bounded, so a cycle of decompositions is found, not followed. */

#include "base/error.h"
#include "passes/passes.h"

#define OPEN_DEPTH 32

/* Makes the decomposition of n in the new graph. */
static void open_node(rewrite *r, const node *n)
{
    heed_value in[OP_IN_MAX], out[OP_OUT_MAX] = { { 0 } };
    bool want[OP_OUT_MAX];
    op_decompose d = {
        .b = r->b, .attrs = n->attrs, .in = in, .out = out, .want = want, .n_in = n->n_in, .n_out = n->n_out
    };

    for (int i = 0; i < n->n_in; i++)
        in[i] = r->map[n->in[i].id];
    for (int i = 0; i < n->n_out; i++)
        want[i] = true;
    heed__enter_path(r->b, n->path);
    n->op->decompose(&d);
    heed__set_path(r->b, NULL);
    for (int i = 0; i < n->n_out; i++) {
        const heed_value v = { n->first_out + (uint32_t)i };
        const heed_type got = heed_value_type(r->b, out[i]), wanted = heed__value(r->from, v)->type;

        if (out[i].id && !heed_type_equal(&got, &wanted))
            heed__poison(r->b, HEED_ERR_BUG, "%s: output %d of the decomposition has another type",
                         n->op->name, i);
        r->map[v.id] = out[i];
    }
}

/* One round; *opened says whether anything was. */
static heed_status open_once(heed_graph **out, const heed_graph *g, serves_fn *serves, const void *user,
                             bool *opened, heed_error *err)
{
    rewrite r;

    TRY(heed__rewrite_begin(&r, g, err));
    *opened = false;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];

        if (!r.live[i])
            continue;
        if (n->op->decompose && n->n_in <= OP_IN_MAX && !serves(user, g, n)) {
            open_node(&r, n);
            *opened = true;
        } else {
            heed__copy_node(r.b, n, r.map);
        }
    }
    return heed__rewrite_end(&r, out, err);
}

heed_status heed__pass_open(heed_graph **out, const heed_graph *g, serves_fn *serves, const void *user,
                            heed_error *err)
{
    heed_graph *now = NULL;
    bool opened;

    TRY(open_once(&now, g, serves, user, &opened, err));
    for (int depth = 0; opened; depth++) {
        heed_graph *next = NULL;
        heed_status st = depth < OPEN_DEPTH ? open_once(&next, now, serves, user, &opened, err)
                                            : heed__fail(err, HEED_ERR_BUG, "decompositions do not end");
        heed_graph_free(now);
        if (st != HEED_OK)
            return st;
        now = next;
    }
    *out = now;
    return HEED_OK;
}
