/* The order of passes: keep the taps asked for -> fold probes into gradients -> open what no kernel serves -> simplify.
 * (Gradients were taken while building; fusion will stand between simplify and here.) */

#include "base/error.h"
#include "base/text.h"
#include "passes/passes.h"
#include "plan/plan.h"

#include <string.h>

typedef struct serving {
    heed_context *ctx;
    heed_kernels kernels;
} serving;

static const op_kernel *kernel_of(const serving *s, const heed_graph *g, const node *n)
{
    view in[OP_IN_MAX], out[OP_OUT_MAX];
    const op_call c = heed__plan_call(s->ctx, g, n, in, out);

    return heed__plan_kernel(n->op, &c, s->kernels, NULL);
}

static bool served(const void *user, const heed_graph *g, const node *n)
{
    const serving *s = user;

    if (s->kernels == HEED_KERNELS_REFERENCE && n->op->decompose)
        return false;
    return n->op->flags & OP_VIEW || kernel_of(s, g, n);
}

static bool tiled(const void *user, const heed_graph *g, const node *n)
{
    const serving *s = user;
    const op_kernel *k = s->kernels == HEED_KERNELS_FAST ? kernel_of(s, g, n) : NULL;

    return k && strcmp(k->name, "tiles") == 0;
}

/* The first of `taps` that asks for the name, or -1. */
static int64_t asked_by(const char *const *taps, const char *name)
{
    for (int64_t i = 0; taps && taps[i]; i++)
        if (heed__name_matches(taps[i], name))
            return i;
    return -1;
}

static heed_status check_taps(const heed_graph *g, const char *const *taps, heed_error *err)
{
    for (; taps && *taps; taps++) {
        const char *one[2] = { *taps, NULL };
        bool found = false;

        for (uint32_t i = 0; i < g->n_taps && !found; i++)
            found = asked_by(one, g->taps[i].name) == 0;
        if (!found)
            return heed__fail(err, HEED_ERR_USAGE,
                              "there is no tap \"%.100s\" in this model: heed info lists them", *taps);
    }
    return HEED_OK;
}

/* A copy in which the taps asked for are outputs after the graph's own, in the order asked (those of one pattern in the
 * graph's), each once; and no other tap is left. */
static heed_status keep_taps(heed_graph **out, const heed_graph *g, const char *const *taps, heed_error *err)
{
    heed_graph bare = *g; /* the same arrays, without taps: nothing of it is freed */
    rewrite r;

    bare.n_taps = 0;
    for (uint32_t i = 0; i < g->n_taps; i++)
        if (asked_by(taps, g->taps[i].name) >= 0)
            bare.n_taps = g->n_taps;
    TRY(heed__rewrite_begin(&r, &bare, err));
    bare.n_taps = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (r.live[i])
            heed__copy_node(r.b, &g->nodes[i], r.map);
    for (uint32_t i = 0; i < g->n_outputs; i++)
        heed_output(r.b, g->outputs[i].name, r.map[g->outputs[i].value.id]);
    for (int64_t k = 0; taps && taps[k]; k++)
        for (uint32_t i = 0; i < g->n_taps; i++)
            if (asked_by(taps, g->taps[i].name) == k)
                heed_output(r.b, g->taps[i].name, r.map[g->taps[i].value.id]);
    bare.n_outputs = 0;
    return heed__rewrite_end(&r, out, err);
}

heed_status heed__plan_fold(heed_graph **out, const heed_graph *g, heed_context *ctx, heed_kernels kernels,
                            heed_error *err)
{
    return heed__pass_fold_probes(out, g, tiled, &(const serving){ ctx, kernels }, err);
}

heed_status heed__plan_lower(heed_graph **out, const heed_graph *g, heed_context *ctx,
                             const heed_plan_opts *opts, heed_error *err)
{
    const serving s = { ctx, opts ? opts->kernels : HEED_KERNELS_FAST };
    heed_graph *kept = NULL, *folded = NULL, *opened = NULL;
    heed_status st;

    STEP(check_taps(g, opts ? opts->taps : NULL, err));
    STEP(keep_taps(&kept, g, opts ? opts->taps : NULL, err));
    STEP(heed__plan_fold(&folded, kept, ctx, s.kernels, err));
    STEP(heed__pass_open(&opened, folded ? folded : kept, served, &s, err));
    STEP(heed__pass_simplify(out, opened, err));
done:
    heed_graph_free(kept);
    heed_graph_free(folded);
    heed_graph_free(opened);
    return st;
}
