/* Rules that read weights and graph without running anything. */

#include "explain/doctor.h"
#include "explain/doctor_build.h"
#include "graph/number.h"

#include <math.h>
#include <stdio.h>

/* ---- weights ---- */

heed_status heed__doctor_weights(doctor *d)
{
    const heed_weights *w;

    if (!d->c->model)
        return HEED_OK;
    heed__doctor_looked(d, RULE_NOT_FINITE);
    w = heed_model_weights(d->c->model);
    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name;
        const heed_tensor t = heed_weights_at(w, i, &name);
        const int64_t n = heed_type_count(&t.type);
        int64_t bad = 0;

        if (!(DTYPE_BIT(t.type.dtype) & FLOATS))
            continue;
        for (int64_t j = 0; j < n; j++)
            bad += !isfinite(heed__number_get(t.type.dtype, t.data, j));
        if (bad > 0)
            TRY(heed__doctor_find(d, RULE_NOT_FINITE, (double)bad, name,
                                  "%lld of %lld numbers are NaN or infinite", (long long)bad, (long long)n));
    }
    return HEED_OK;
}

/* ---- the graph of training ---- */

static heed_status softmax_before_loss(doctor *d, const doctor_build *b)
{
    const heed_graph *g = heed__building(b->b);
    const node *last = NULL;
    char place[192];

    heed__doctor_looked(d, RULE_DOUBLE_SOFTMAX);
    for (uint32_t i = b->loss_begin; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i], *from;

        if (n->op != &heed__op_softmax_cross_entropy && n->op != &heed__op_log_softmax)
            continue;
        from = heed__maker(g, heed__doctor_source(g, n->in[0]));
        if (from->op == &heed__op_softmax && from != last)
            TRY(heed__doctor_find(d, RULE_DOUBLE_SOFTMAX, 0, heed__doctor_place(place, g, from),
                                  "the loss takes a softmax of the output of a softmax"));
        last = from; /* label smoothing reads the same logits twice */
    }
    return HEED_OK;
}

heed_status heed__doctor_graph(doctor *d)
{
    heed_status st;
    doctor_build b;

    if (!d->c->model || d->n == 0)
        return HEED_OK;
    TRY(heed__doctor_build(&b, d, HEED_TRAIN, i64_min(d->n, 2)));
    st = d->n_all > d->n_in ? softmax_before_loss(d, &b) : HEED_OK;
    if (st == HEED_OK)
        st = heed__doctor_attention(d, heed__building(b.b));
    heed_builder_free(b.b);
    return st;
}
