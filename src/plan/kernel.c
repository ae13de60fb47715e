/* Kernel choice: the first of the op's list that accepts; it sees types, attributes and the level, nothing else. */

#include "plan/plan.h"

op_call heed__plan_call(heed_context *ctx, const heed_graph *g, const node *n, view *in, view *out)
{
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i].id ? heed__view(NULL, &heed__value(g, n->in[i])->type) : (view){ .type.rank = -1 };
    for (int i = 0; i < n->n_out; i++)
        out[i] = heed__view(NULL, &heed__value(g, heed__out(n, i))->type);
    return (op_call){ .attrs = n->attrs, .in = in, .out = out, .n_in = n->n_in, .n_out = n->n_out, .isa = ctx->isa,
                      .row = heed__row_ops(ctx->isa), .gemm = heed__gemm_ops(ctx->isa) };
}

const op_kernel *heed__plan_kernel(const op_def *op, const op_call *c, heed_kernels kernels, text *passed)
{
    const op_kernel *last = NULL;

    for (const op_kernel *k = op->cpu; k && k->name; k++) {
        const char *why = k->refuses ? k->refuses(c) : NULL;

        if (!why && (!k->accepts || k->accepts(c))) {
            if (kernels == HEED_KERNELS_FAST)
                return k;
            last = k;
        } else if (passed) {
            heed__text_add(passed, "%s%s", passed->size ? ", " : "", k->name);
            if (why)
                heed__text_add(passed, " (%s)", why);
        }
    }
    return last;
}
