/* Rules that read weights and graph without running anything. */

#include "attention/attention.h"
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

/* The node that made v, looked at through what changes no number: views, casts, copies, dropout. */
static const node *maker_of(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, v);

    while (n->n_in > 0 &&
           (n->op->flags & OP_VIEW || n->op == &heed__op_cast || n->op == &heed__op_copy ||
            n->op == &heed__op_stop_grad || n->op == &heed__op_check_finite || n->op == &heed__op_dropout))
        n = heed__maker(g, n->in[0]);
    return n;
}

const char *heed__doctor_place(char to[192], const heed_graph *g, const node *n)
{
    const char *how = "";

    while (!n->path[0] && n->n_in > 0 && n->in[0].id) {
        n = heed__maker(g, n->in[0]);
        how = "after ";
    }
    (void)snprintf(to, 192, "%s%.180s", n->path[0] ? how : "", n->path[0] ? n->path : "the top");
    return to;
}

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
        from = maker_of(g, n->in[0]);
        if (from->op == &heed__op_softmax && from != last)
            TRY(heed__doctor_find(d, RULE_DOUBLE_SOFTMAX, 0, heed__doctor_place(place, g, from),
                                  "the loss takes a softmax of the output of a softmax"));
        last = from; /* label smoothing reads the same logits twice */
    }
    return HEED_OK;
}

static heed_status attention_scales(doctor *d, const doctor_build *b)
{
    const heed_graph *g = heed__building(b->b);

    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        const attention_attrs *a = n->attrs;
        double width, measured;
        char place[192];

        if (n->op != &heed__op_attention)
            continue;
        heed__doctor_looked(d, RULE_ATTENTION_SCALE);
        width = (double)heed__value(g, n->in[AT_Q])->type.dims[3];
        measured = a->scale * sqrt(width);
        if (fabs(measured - 1) > d->threshold[RULE_ATTENTION_SCALE])
            TRY(heed__doctor_find(d, RULE_ATTENTION_SCALE, measured, heed__doctor_place(place, g, n),
                                  "scores are scaled by %.4g; 1/sqrt(%.0f) is %.4g", a->scale, width,
                                  1 / sqrt(width)));
    }
    return HEED_OK;
}

heed_status heed__doctor_graph(doctor *d)
{
    doctor_build b;
    heed_status st;

    if (!d->c->model || d->n == 0)
        return HEED_OK;
    TRY(heed__doctor_build(&b, d, HEED_TRAIN, i64_min(d->n, 2)));
    st = softmax_before_loss(d, &b);
    if (st == HEED_OK)
        st = attention_scales(d, &b);
    heed_builder_free(b.b);
    return st;
}
