/* Which kernel runs each part of the operator, why each faster one does not, and what it costs: from the graph as it was built,
 * in which a part is one node whether a kernel serves it or it will be opened. */

#include "tasks/attend.h"

#include "attention/kernel.h"
#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"
#include "plan/plan.h"

#include <string.h>

static bool plan_is_part(const op_def *op)
{
    return op == &heed__op_attention || op == &heed__op_attention_grad || op == &heed__op_attention_probe ||
           op == &heed__op_linear_attention;
}

/* Nodes that a result needs: marked from the outputs back. */
static bool *plan_live(const heed_attend *a)
{
    const heed_graph *g = a->graph;
    bool *live = heed__alloc(a->ctx->heap, (size_t)g->n_nodes + 1, sizeof *live);

    if (!live)
        return NULL;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        live[heed__value(g, g->outputs[i].value)->node] = true;
    for (uint32_t i = g->n_nodes; i-- > 0;)
        for (int k = 0; live[i] && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k].id)
                live[heed__value(g, g->nodes[i].in[k])->node] = true;
    return live;
}

/* Number `wanted` of the parts, or NULL; *n: how many there are. */
static const node *plan_part(const heed_attend *a, int wanted, int *n)
{
    bool *live = plan_live(a);
    const node *found = NULL;

    *n = live ? 0 : -1;
    for (uint32_t i = 0; live && i < a->graph->n_nodes; i++)
        if (live[i] && plan_is_part(a->graph->nodes[i].op) && (*n)++ == wanted)
            found = &a->graph->nodes[i];
    heed__release(a->ctx->heap, live);
    return found;
}

/* The fused kernel of a part, or NULL; what does not serve goes to `passed`. */
static const op_kernel *plan_kernel(const heed_attend *a, const node *n, text *passed)
{
    view in[OP_IN_MAX], out[OP_OUT_MAX];
    const op_call c = heed__plan_call(a->ctx, a->graph, n, in, out);

    return heed__plan_kernel(n->op, &c, HEED_KERNELS_FAST, passed);
}

heed_status heed__attend_streams(const heed_attend *a, heed_error *err)
{
    int n = 1;
    heed_status st = HEED_OK;

    for (int i = 0; i < n && st == HEED_OK; i++) {
        const node *part = plan_part(a, i, &n);
        text passed;

        if (n < 0)
            return heed__fail_memory(err, a->graph->n_nodes);
        if (!part)
            break;
        heed__text_init(&passed, a->ctx->heap, 0);
        if (!plan_kernel(a, part, &passed))
            st = heed__fail(err, HEED_ERR_MISSING,
                            "no streaming kernel serves this %s: %s; --kernel auto takes the reference",
                            part->op->name, passed.size ? passed.data : "there is none");
        heed__text_release(&passed);
    }
    return st;
}
