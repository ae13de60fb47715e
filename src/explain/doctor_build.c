/* Building, and running what was built: see the header. */

#include "explain/doctor_build.h"
#include "attention/attention.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>

/* ---- building ---- */

static void doctor_loss(doctor_build *out, const heed_trainer_opts *t, heed_value target)
{
    heed_scope_push(out->b, "loss");
    if (t && t->loss)
        (void)t->loss(out->b, out->result, target, t->loss_config);
    else
        (void)heed_cross_entropy(
            out->b, out->result, target,
            &(heed_cross_entropy_opts){ .label_smoothing = t ? (double)t->label_smoothing : 0 });
    heed_scope_pop(out->b);
}

heed_status heed__doctor_build(doctor_build *out, doctor *d, heed_mode mode, int64_t batch)
{
    doctor_build made = { 0 };
    heed_value target = { 0 };
    heed_status st;

    TRY(heed_builder_new(&made.b, d->ctx, d->err));
    heed_set_mode(made.b, mode);
    for (int i = 0; i < d->n_all; i++) {
        heed_type t = d->in[i].type;
        char name[16];
        heed_value v;

        t.dims[0] = batch;
        (void)snprintf(name, sizeof name, i < d->n_in ? "x%d" : "target", i);
        v = heed_input(made.b, name, t);
        *(i < d->n_in ? &made.in[i] : &target) = v;
    }
    made.result = heed_model_build(d->c->model)(made.b, made.in, heed_model_config(d->c->model));
    made.loss_begin = heed__building(made.b)->n_nodes;
    if (target.id)
        doctor_loss(&made, d->c->training, target);
    st = heed_builder_status(made.b, d->err);
    if (st != HEED_OK) {
        heed_builder_free(made.b);
        return st;
    }
    *out = made;
    return HEED_OK;
}

heed_value heed__doctor_source(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, v);

    while (n->n_in > 0 &&
           (n->op->flags & OP_VIEW || n->op == &heed__op_cast || n->op == &heed__op_copy ||
            n->op == &heed__op_stop_grad || n->op == &heed__op_check_finite || n->op == &heed__op_dropout)) {
        v = n->in[0];
        n = heed__maker(g, v);
    }
    return v;
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

heed_status heed__doctor_output(doctor_build *build, doctor *d, heed_value v)
{
    char name[32];

    heed__format(name, sizeof name, "look%u", (unsigned)heed__building(build->b)->n_outputs);
    heed_output(build->b, name, heed__as(build->b, v, HEED_F32));
    return heed_builder_status(build->b, d->err);
}

/* ---- running ---- */

heed_status heed__doctor_finish(heed_graph **out, doctor *d, doctor_build *build)
{
    TRY(heed_builder_finish(out, build->b, d->err));
    (*out)->n_assigns = 0; /* caches and running statistics stay as they are */
    return HEED_OK;
}

heed_status heed__doctor_open(doctor_runner *r, doctor *d, doctor_build *build)
{
    *r = (doctor_runner){ .d = d };
    TRY(heed__doctor_finish(&r->graph, d, build));
    TRY(heed_plan_new(&r->plan, d->ctx, r->graph, NULL, d->err));
    TRY(heed_session_new(&r->session, d->ctx, heed_model_weights(d->c->model),
                         &(heed_session_opts){ .seed = heed_model_seed(d->c->model) }, d->err));
    TRY(heed_session_add(r->session, r->plan, &r->id, d->err));
    r->out = heed__alloc(d->ctx->heap, (size_t)heed_plan_outputs(r->plan) + 1, sizeof *r->out);
    if (!r->out)
        return heed__fail_memory(d->err, (uint64_t)heed_plan_outputs(r->plan) * sizeof *r->out);
    for (r->n = 0; r->n < heed_plan_outputs(r->plan); r->n++) {
        heed_tensor *t = &r->out[r->n];

        t->type = heed_plan_output_type(r->plan, r->n);
        t->data = heed__alloc(d->ctx->heap, (size_t)heed_type_count(&t->type) + 1, sizeof(float));
        if (!t->data)
            return heed__fail_memory(d->err, (uint64_t)heed_type_count(&t->type) * sizeof(float));
    }
    return HEED_OK;
}

heed_status heed__doctor_run(doctor_runner *r, const heed_tensor *in)
{
    return heed_session_run(r->session, r->id, in, r->d->n_all, r->out, r->n, r->d->err);
}

void heed__doctor_close(doctor_runner *r)
{
    if (!r->d)
        return;
    for (int i = 0; i < r->n; i++)
        heed__release(r->d->ctx->heap, r->out[i].data);
    heed__release(r->d->ctx->heap, r->out);
    heed_session_free(r->session);
    heed_plan_free(r->plan);
    heed_graph_free(r->graph);
}

void heed__doctor_some(const doctor *d, int64_t begin, int64_t count, heed_tensor in[DOCTOR_INPUTS + 1])
{
    for (int i = 0; i < d->n_all; i++) {
        const heed_type *t = &d->in[i].type;
        const size_t each = (size_t)(heed_type_count(t) / d->n) * heed_dtype_size(t->dtype);

        in[i] = d->in[i];
        in[i].type.dims[0] = count;
        in[i].data = (char *)d->in[i].data + (size_t)begin * each;
    }
}

int64_t heed__doctor_length(const doctor *d, int64_t i)
{
    const heed_doctor_sequences *s = d->c->sequences;

    return s && s->lengths.set ? ((const int64_t *)d->in[s->lengths.value].data)[i] : d->steps;
}

/* ---- numbers that are none ---- */

/* A batch whose result is not finite is run again, node by node. */
static heed_status say_origin(doctor *d, doctor_runner *r, const heed_tensor *in, int64_t bad)
{
    heed_error why = { 0 };
    const heed_status st = heed_session_find_bad(r->session, r->id, in, d->n_all, &why);

    if (st == HEED_OK)
        return heed__doctor_find(d, RULE_NAN_ORIGIN, (double)bad, "the result",
                                 "a constant or an input holds -inf, and it arrives at the result");
    if (st != HEED_ERR_NUMERIC)
        return heed__fail_at(d->err, st, why.path, "%s", why.text);
    return heed__doctor_find(d, RULE_NAN_ORIGIN, (double)bad, why.path[0] ? why.path : "the top", "%s",
                             why.text);
}

static heed_status look_at_batch(doctor *d, doctor_runner *r, int64_t begin)
{
    const heed_tensor *y = &r->out[0];
    const int64_t n = heed_type_count(&y->type);
    heed_tensor in[DOCTOR_INPUTS + 1];
    heed_error stopped = { 0 };
    heed_status st;
    int64_t bad = 0;

    heed__doctor_some(d, begin, heed__doctor_batch(d), in);
    st = heed_session_run(r->session, r->id, in, d->n_all, r->out, r->n, &stopped);
    if (st != HEED_OK && st != HEED_ERR_NUMERIC) /* NUMERIC: the model's own check */
        return heed__fail_at(d->err, st, stopped.path, "%s", stopped.text);
    for (int64_t j = 0; j < n && st == HEED_OK; j++)
        bad += !isfinite(((const float *)y->data)[j]);
    return bad > 0 || st != HEED_OK ? say_origin(d, r, in, st == HEED_OK ? bad : n) : HEED_OK;
}

heed_status heed__doctor_finite(doctor *d)
{
    doctor_runner r = { 0 };
    doctor_build build;
    heed_status st;

    if (!d->c->model || d->n == 0 || heed__doctor_found(d, RULE_NOT_FINITE, NULL))
        return HEED_OK;
    heed__doctor_looked(d, RULE_NAN_ORIGIN);
    TRY(heed__doctor_build(&build, d, HEED_EVAL, heed__doctor_batch(d)));
    STEP(heed__doctor_output(&build, d, build.result));
    STEP(heed__doctor_open(&r, d, &build));
    for (int64_t i = 0; i < heed__doctor_shown(d) && !heed__doctor_found(d, RULE_NAN_ORIGIN, NULL);
         i += heed__doctor_batch(d))
        STEP(look_at_batch(d, &r, i));
done:
    heed__doctor_close(&r);
    heed_builder_free(build.b);
    return st;
}
