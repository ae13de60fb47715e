/* The training graph: loss -> gradients -> (sum over processes) -> clip -> one optimiser node for each
 * parameter -> states.
 *
 * One plan runs it for each set of shapes. Loss and gradient norm pass through check_finite before anything
 * is written, so a step that ends in HEED_ERR_NUMERIC leaves weights and moments as they were; the same
 * inputs are then run again node by node to name the first bad one. With accumulation there are two plans
 * over the same weights: `micro` adds gradients up, `update` uses and clears them.
 *
 * The average of a parameter p is a state like a moment, moved in the same graph by the new p:
 *   ema' = ema + w (p - ema),   w = 1 in the first step, then 1 - decay. */

#include "base/context.h"
#include "base/error.h"
#include "base/text.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/train.h>

#include <float.h>
#include <stdio.h>
#include <string.h>

#define INPUTS_MAX 16
#define PLANS_MAX 8
#define PARAMS_MAX 4096
#define MICRO "optimizer.micro" /* states of accumulation */
#define GRAD_SUM "optimizer.grad."
#define AVERAGE "ema."

typedef struct step_plan {
    heed_plan *plan;                 /* NULL: free */
    heed_type types[INPUTS_MAX + 1]; /* inputs, then the target */
    int n_types, id;
    uint64_t used;
} step_plan;

struct heed_trainer {
    heed_context *ctx;
    heed_model *model;
    heed_trainer_opts opts; /* defaults filled in */
    heed_session *session;
    step_plan plans[PLANS_MAX];
    step_plan update; /* with accumulation only */
    uint64_t clock;
    int64_t steps;
    float lr, grad_norm;
    heed_plan_report report;
};

/* ---- options ---- */

/* PyTorch's defaults. */
static const struct {
    float lr, weight_decay, momentum, beta1, beta2, eps, alpha;
} defaults[] = {
    [HEED_SGD] = { 1e-3f, 0, 0, 0, 0, 0, 0 },
    [HEED_RMSPROP] = { 1e-2f, 0, 0, 0, 0, 1e-8f, 0.99f },
    [HEED_ADAM] = { 1e-3f, 0, 0, 0.9f, 0.999f, 1e-8f, 0 },
    [HEED_ADAMW] = { 1e-3f, 0.01f, 0, 0.9f, 0.999f, 1e-8f, 0 },
};

static void settle(heed_maybe_f32 *number, float fallback)
{
    if (!number->set)
        *number = (heed_maybe_f32){ true, fallback };
}

static heed_status settle_options(heed_trainer_opts *o, heed_error *err)
{
    if ((unsigned)o->optimizer >= sizeof defaults / sizeof *defaults)
        return heed__fail(err, HEED_ERR_USAGE, "optimizer %d is not known", (int)o->optimizer);
    settle(&o->lr, defaults[o->optimizer].lr);
    settle(&o->weight_decay, defaults[o->optimizer].weight_decay);
    settle(&o->momentum, defaults[o->optimizer].momentum);
    settle(&o->beta1, defaults[o->optimizer].beta1);
    settle(&o->beta2, defaults[o->optimizer].beta2);
    settle(&o->eps, defaults[o->optimizer].eps);
    settle(&o->alpha, defaults[o->optimizer].alpha);
    if (!(o->lr.value >= 0) || !(o->weight_decay.value >= 0) || !(o->clip_norm >= 0) ||
        !(o->eps.value >= 0) || !(o->beta1.value >= 0 && o->beta1.value < 1) ||
        !(o->beta2.value >= 0 && o->beta2.value < 1) || o->accumulate < 0 || !(o->ema >= 0 && o->ema < 1))
        return heed__fail(
            err, HEED_ERR_LIMIT,
            "training: lr, weight_decay, clip_norm, eps and accumulate must be 0 or more, betas and ema "
            "0 to below 1");
    if (o->nesterov && o->momentum.value <= 0)
        return heed__fail(err, HEED_ERR_SPEC, "training: nesterov needs a momentum above 0");
    o->accumulate = o->accumulate ? o->accumulate : 1;
    return HEED_OK;
}

heed_status heed_trainer_new(heed_trainer **out, heed_model *m, const heed_trainer_opts *opts,
                             heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    heed_trainer_opts settled = opts ? *opts : (heed_trainer_opts){ 0 };
    heed_trainer *t;
    heed_status st;

    TRY(settle_options(&settled, err));
    t = heed__alloc(ctx->heap, 1, sizeof *t);
    if (!t)
        return heed__fail_memory(err, sizeof *t);
    t->ctx = ctx;
    t->model = m;
    t->opts = settled;
    t->lr = settled.lr.value;
    st = heed_session_new(&t->session, ctx, heed_model_weights(m),
                          &(heed_session_opts){ .seed = heed_model_seed(m) }, err);
    if (st != HEED_OK) {
        heed__release(ctx->heap, t);
        return st;
    }
    *out = t;
    return HEED_OK;
}

void heed_trainer_free(heed_trainer *t)
{
    if (!t)
        return;
    heed_session_free(t->session);
    for (int i = 0; i < PLANS_MAX; i++)
        heed_plan_free(t->plans[i].plan);
    heed_plan_free(t->update.plan);
    heed__release(t->ctx->heap, t);
}

/* ---- the graph ---- */

/* Where gradients of several processes will be added; one process has nothing to add. */
static void sync_gradients(heed_builder *b, heed_value *grads, int n)
{
    (void)b;
    (void)grads;
    (void)n;
}

static bool frozen(const heed_trainer_opts *o, const char *path)
{
    for (const char *const *p = o->frozen; p && *p; p++)
        if (heed__name_matches(*p, path))
            return true;
    return false;
}

/* A state "optimizer.<kind>.<path>" like p. */
static heed_value moment(heed_builder *b, const char *kind, heed_value p)
{
    const heed_type type = heed_value_type(b, p);
    char name[600];

    if (snprintf(name, sizeof name, "optimizer.%s.%s", kind, heed_value_path(b, p)) >= (int)sizeof name)
        return heed__poison(b, HEED_ERR_LIMIT, "the name of a moment is longer than %d bytes",
                            (int)sizeof name - 1);
    return heed_state(b, name, type, NULL);
}

typedef struct update_inputs {
    heed_value lr, step, clip;
} update_inputs;

/* A moment's new value, into the state it came from. */
static heed_value kept(heed_builder *b, heed_value state, heed_value new_value)
{
    heed_assign(b, state, new_value);
    return new_value;
}

static heed_value step_adam(heed_builder *b, const heed_trainer_opts *o, heed_value p, heed_value g,
                            float decay, const update_inputs *u)
{
    const adam_hyper h = { o->beta1.value, o->beta2.value, o->eps.value, decay, o->optimizer == HEED_ADAMW,
                           o->amsgrad };
    heed_value m = moment(b, "exp_avg", p), v = moment(b, "exp_avg_sq", p);
    heed_value most = o->amsgrad ? moment(b, "max_exp_avg_sq", p) : (heed_value){ 0 };
    heed_value m1 = m, v1 = v, most1 = most;
    heed_value p1 = heed__adam(b, &h, p, g, &m1, &v1, &most1, u->lr, u->step, u->clip);

    kept(b, m, m1);
    kept(b, v, v1);
    if (o->amsgrad)
        kept(b, most, most1);
    return p1;
}

static heed_value step_sgd(heed_builder *b, const heed_trainer_opts *o, heed_value p, heed_value g,
                           float decay, const update_inputs *u)
{
    const sgd_hyper h = { o->momentum.value, 0, decay, o->nesterov };
    heed_value buf = o->momentum.value > 0 ? moment(b, "momentum_buffer", p) : (heed_value){ 0 }, buf1 = buf;
    heed_value p1 = heed__sgd(b, &h, p, g, &buf1, u->lr, u->step, u->clip);

    if (buf.id)
        kept(b, buf, buf1);
    return p1;
}

static heed_value step_rmsprop(heed_builder *b, const heed_trainer_opts *o, heed_value p, heed_value g,
                               float decay, const update_inputs *u)
{
    const rmsprop_hyper h = { o->alpha.value, o->eps.value, decay, o->momentum.value };
    heed_value square = moment(b, "square_avg", p), square1 = square;
    heed_value buf = o->momentum.value > 0 ? moment(b, "momentum_buffer", p) : (heed_value){ 0 }, buf1 = buf;
    heed_value p1 = heed__rmsprop(b, &h, p, g, &square1, &buf1, u->lr, u->clip);

    kept(b, square, square1);
    if (buf.id)
        kept(b, buf, buf1);
    return p1;
}

typedef heed_value step_fn(heed_builder *b, const heed_trainer_opts *o, heed_value p, heed_value g,
                           float decay, const update_inputs *u);
static step_fn *const step_fns[] = {
    [HEED_SGD] = step_sgd, [HEED_RMSPROP] = step_rmsprop, [HEED_ADAM] = step_adam, [HEED_ADAMW] = step_adam
};

/* sqrt of the sum of all squares, added in the order of the parameters; ends the run when not finite. */
static heed_value norm_of(heed_builder *b, const heed_value *g, int n)
{
    heed_value sum = heed_scalar(b, HEED_F32, 0), norm;

    heed_scope_push(b, "grad_norm");
    for (int i = 0; i < n; i++)
        sum = heed_add(b, sum, heed_sum(b, heed_mul(b, g[i], g[i]), HEED_ALL_AXES, HEED_DROP_AXES));
    norm = heed_check_finite(b, heed_sqrt(b, sum));
    heed_scope_pop(b);
    return norm;
}

/* The average follows the parameter's new value. */
static void add_average(heed_builder *b, heed_value p, heed_value p1, heed_value weight)
{
    char name[600];
    heed_value ema;

    if (snprintf(name, sizeof name, AVERAGE "%s", heed_value_path(b, p)) >= (int)sizeof name) {
        heed__poison(b, HEED_ERR_LIMIT, "the name of an average is longer than %d bytes",
                     (int)sizeof name - 1);
        return;
    }
    ema = heed_state(b, name, heed_value_type(b, p), NULL);
    heed_assign(b, ema, heed_add(b, ema, heed_mul(b, weight, heed_sub(b, p1, ema))));
}

/* Clip, then every parameter takes its step. PyTorch: scale = min(1, bound / (norm + 1e-6)). */
static void add_update(heed_builder *b, const heed_trainer_opts *o, const heed_value *p, heed_value *g, int n)
{
    heed_value count = heed_state(b, "optimizer.step", heed_type_of(HEED_I64, 0, NULL), NULL);
    heed_value one = heed_add(b, count, heed_scalar(b, HEED_I64, 1));
    heed_value norm = norm_of(b, g, n), weight = { 0 };
    update_inputs u = { .lr = heed_input(b, "lr", heed_type_of(HEED_F32, 0, NULL)),
                        .step = heed_cast(b, one, HEED_F32) };

    if (o->clip_norm > 0)
        u.clip = heed_min(
            b, heed_scalar(b, HEED_F32, 1),
            heed_div(b, heed_scalar(b, HEED_F32, (double)o->clip_norm), heed_add_scalar(b, norm, 1e-6)));
    heed_output(b, "grad_norm", norm);
    if (o->ema > 0)
        weight = heed_select(b, heed_eq(b, one, heed_scalar(b, HEED_I64, 1)), heed_scalar(b, HEED_F32, 1),
                             heed_scalar(b, HEED_F32, 1 - (double)o->ema));
    for (int i = 0; i < n; i++) {
        const bool decays = o->decay == HEED_DECAY_ALL || heed_rank(b, p[i]) >= 2;
        heed_value p1 = step_fns[o->optimizer](b, o, p[i], g[i], decays ? o->weight_decay.value : 0, &u);

        heed_assign(b, p[i], p1);
        if (o->ema > 0)
            add_average(b, p[i], p1, weight);
    }
    heed_assign(b, count, one);
}

/* Every random op of the next step shall draw other numbers: step + 1. */
static void advance_rng(heed_builder *b)
{
    const heed_value rng = heed_rng(b);
    heed_value ahead = heed_constant(
        b, (heed_tensor){ heed_type_of(HEED_I64, 1, (const int64_t[]){ 2 }), (int64_t[]){ 0, 1 } });

    heed_assign(b, rng, heed_add(b, rng, ahead));
}

static int trained(heed_builder *b, const heed_trainer_opts *o, heed_value *params)
{
    const int all = heed_params(b, params, PARAMS_MAX);
    int n = 0;

    if (all > PARAMS_MAX) {
        heed__poison(b, HEED_ERR_LIMIT, "the model has %d parameter tensors, training takes at most %d", all,
                     PARAMS_MAX);
        return 0;
    }
    for (int i = 0; i < all; i++)
        if (!frozen(o, heed_value_path(b, params[i])))
            params[n++] = params[i];
    if (n == 0)
        heed__poison(b, HEED_ERR_USAGE, "training: there is no parameter to train");
    return n;
}

static heed_value default_loss(heed_builder *b, heed_value result, heed_value target, float smoothing)
{
    return heed_cross_entropy(b, result, target,
                              &(heed_cross_entropy_opts){ .label_smoothing = (double)smoothing });
}

/* Forward and backward; then the update, or the sums of accumulation. types: inputs, then the target. */
static heed_status build_step(heed_trainer *t, const heed_type *types, int n_types, heed_graph **out,
                              heed_error *err)
{
    heed_value *params = heed__alloc(t->ctx->heap, 2 * PARAMS_MAX, sizeof *params), *grads;
    heed_value in[INPUTS_MAX], target, loss;
    heed_builder *b = NULL;
    heed_status st;
    int n;

    if (!params)
        return heed__fail_memory(err, 2 * PARAMS_MAX * sizeof *params);
    grads = params + PARAMS_MAX;
    STEP(heed_builder_new(&b, t->ctx, err));
    heed_set_mode(b, HEED_TRAIN);
    for (int i = 0; i + 1 < n_types; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, i ? "x%d" : "x", i);
        in[i] = heed_input(b, name, types[i]);
    }
    target = heed_input(b, "target", types[n_types - 1]);
    {
        heed_value result = heed_model_build(t->model)(b, in, heed_model_config(t->model));

        heed_scope_push(b, "loss"); /* the name of what is not finite in it */
        loss = t->opts.loss ? t->opts.loss(b, result, target, t->opts.loss_config)
                            : default_loss(b, result, target, t->opts.label_smoothing);
        loss = heed_check_finite(b, loss);
        heed_scope_pop(b);
    }
    heed_output(b, "loss", loss);
    n = trained(b, &t->opts, params);
    heed_grad(b, loss, params, n, grads);
    sync_gradients(b, grads, n);
    if (t->opts.accumulate == 1) {
        add_update(b, &t->opts, params, grads, n);
    } else {
        const heed_value micro = heed_state(b, MICRO, heed_type_of(HEED_I64, 0, NULL), NULL);

        heed_assign(b, micro, heed_add(b, micro, heed_scalar(b, HEED_I64, 1)));
        for (int i = 0; i < n; i++) {
            heed_value sum = moment(b, "grad", params[i]);

            heed_assign(b, sum,
                        heed_add(b, sum, heed_mul_scalar(b, grads[i], 1.0 / (double)t->opts.accumulate)));
        }
    }
    advance_rng(b);
    STEP(heed_builder_finish(out, b, err));
done:
    heed_builder_free(b);
    heed__release(t->ctx->heap, params);
    return st;
}

/* The update of accumulated gradients: parameters are taken from the step's graph, so that names and types
 * agree. */
static heed_status build_update(heed_trainer *t, const heed_graph *from, heed_graph **out, heed_error *err)
{
    heed_value *params = heed__alloc(t->ctx->heap, 2 * PARAMS_MAX, sizeof *params), *sums;
    heed_builder *b = NULL;
    heed_status st;
    int n = 0;

    if (!params)
        return heed__fail_memory(err, 2 * PARAMS_MAX * sizeof *params);
    sums = params + PARAMS_MAX;
    STEP(heed_builder_new(&b, t->ctx, err));
    for (uint32_t i = 0; i < from->n_nodes; i++)
        if (heed__is_leaf(&from->nodes[i], &heed__op_param) && !frozen(&t->opts, from->nodes[i].path)) {
            const leaf_attrs *a = from->nodes[i].attrs;

            params[n] = heed_param(b, from->nodes[i].path, a->type, &a->init);
            sums[n] = moment(b, "grad", params[n]);
            n++;
        }
    add_update(b, &t->opts, params, sums, n);
    heed_assign(b, heed_state(b, MICRO, heed_type_of(HEED_I64, 0, NULL), NULL), heed_scalar(b, HEED_I64, 0));
    for (int i = 0; i < n; i++) {
        const heed_type type = heed_value_type(b, sums[i]);

        heed_assign(b, sums[i], heed__zeros(b, &type));
    }
    STEP(heed_builder_finish(out, b, err));
done:
    heed_builder_free(b);
    heed__release(t->ctx->heap, params);
    return st;
}

/* ---- steps ---- */

static heed_status make_plan(heed_trainer *t, step_plan *at, const heed_graph *g, heed_error *err)
{
    heed_status st;

    TRY(heed_plan_new(&at->plan, t->ctx, g, NULL, err));
    st = heed_session_add(t->session, at->plan, &at->id, err);
    if (st != HEED_OK) {
        heed_plan_free(at->plan);
        at->plan = NULL;
    }
    return st;
}

static heed_status plan_for(heed_trainer *t, const heed_type *types, int n, step_plan **out, heed_error *err)
{
    step_plan made = { .n_types = n }, *place = &t->plans[0];
    heed_graph *g = NULL, *u = NULL;
    heed_status st = HEED_OK;

    for (int i = 0; i < PLANS_MAX; i++) {
        step_plan *p = &t->plans[i];
        bool same = p->plan && p->n_types == n;

        for (int j = 0; same && j < n; j++)
            same = heed_type_equal(&p->types[j], &types[j]);
        if (same) {
            p->used = ++t->clock;
            *out = p;
            return HEED_OK;
        }
        if (place->plan && (!p->plan || p->used < place->used))
            place = p;
    }
    STEP(build_step(t, types, n, &g, err));
    if (t->opts.accumulate > 1 && !t->update.plan) {
        STEP(build_update(t, g, &u, err));
        STEP(make_plan(t, &t->update, u, err));
    }
    STEP(make_plan(t, &made, g, err));
    memcpy(made.types, types, (size_t)n * sizeof *types);
    made.used = ++t->clock;
    if (place->plan) {
        heed_session_remove(t->session, place->id);
        heed_plan_free(place->plan);
    }
    *place = made;
    *out = place;
done:
    heed_graph_free(g);
    heed_graph_free(u);
    return st;
}

/* Runs a plan; when a number is not finite, err names the first node that made one. */
static heed_status run_plan(heed_trainer *t, const step_plan *p, const heed_tensor *in, int n_in,
                            const heed_tensor *out, int n_out, heed_error *err)
{
    const heed_status st = heed_session_run(t->session, p->id, in, n_in, out, n_out, err);
    heed_error where = { 0 };

    if (st == HEED_ERR_NUMERIC && err &&
        heed_session_find_bad(t->session, p->id, in, n_in, &where) == HEED_ERR_NUMERIC)
        *err = where;
    return st;
}

/* Micro-batches whose gradients are summed up; the weights know it, so that a new trainer goes on where this
 * ends. */
static int64_t *micro_of(const heed_trainer *t)
{
    return heed_weights_find(heed_model_weights(t->model), MICRO).data;
}

/* Forgets the sums of accumulation. */
static void drop_gradients(heed_trainer *t)
{
    const heed_weights *w = heed_model_weights(t->model);

    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name;
        const heed_tensor x = heed_weights_at(w, i, &name);

        if (strncmp(name, GRAD_SUM, sizeof GRAD_SUM - 1) == 0)
            memset(x.data, 0, (size_t)heed_type_count(&x.type) * heed_dtype_size(x.type.dtype));
    }
    *micro_of(t) = 0;
}

heed_status heed_trainer_prepare(heed_trainer *t, const heed_type *inputs, int n_inputs,
                                 const heed_type *target, heed_error *err)
{
    heed_type types[INPUTS_MAX + 1];
    step_plan *made;

    if (n_inputs < 1 || n_inputs > INPUTS_MAX)
        return heed__fail(err, HEED_ERR_USAGE, "a training step takes 1 to %d inputs, %d were given",
                          INPUTS_MAX, n_inputs);
    for (int i = 0; i < n_inputs; i++)
        types[i] = inputs[i];
    types[n_inputs] = *target;
    return plan_for(t, types, n_inputs + 1, &made, err);
}

void heed_trainer_swap_average(heed_trainer *t)
{
    const heed_weights *w = heed_model_weights(t->model);
    const heed_tensor count = heed_weights_find(w, "optimizer.step");
    const size_t prefix = sizeof AVERAGE - 1;

    if (!count.data || *(const int64_t *)count.data == 0)
        return;
    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name;
        const heed_tensor ema = heed_weights_at(w, i, &name);
        uint8_t *a = ema.data, *b;

        if (strncmp(name, AVERAGE, prefix) != 0)
            continue;
        b = heed_weights_find(w, name + prefix).data;
        for (size_t j = (size_t)heed_type_count(&ema.type) * heed_dtype_size(ema.type.dtype); b && j-- > 0;) {
            const uint8_t byte = a[j];

            a[j] = b[j];
            b[j] = byte;
        }
    }
}

heed_status heed_trainer_step(heed_trainer *t, const heed_tensor *inputs, int n_inputs,
                              const heed_tensor *target, float *loss, heed_error *err)
{
    heed_tensor in[INPUTS_MAX + 2];
    heed_type types[INPUTS_MAX + 1];
    const heed_type scalar = heed_type_of(HEED_F32, 0, NULL);
    float got_loss = 0, norm = 0;
    const heed_tensor out[2] = { { scalar, &got_loss }, { scalar, &norm } }, rate = { scalar, &t->lr };
    const bool whole = t->opts.accumulate == 1;
    step_plan *p;

    if (n_inputs < 1 || n_inputs > INPUTS_MAX)
        return heed__fail(err, HEED_ERR_USAGE, "a training step takes 1 to %d inputs, %d were given",
                          INPUTS_MAX, n_inputs);
    if (!(t->lr >= 0 && t->lr <= FLT_MAX))
        return heed__fail(err, HEED_ERR_LIMIT, "training: a learning rate of %g is no use", (double)t->lr);
    for (int i = 0; i < n_inputs; i++)
        in[i] = inputs[i];
    in[n_inputs] = *target;
    in[n_inputs + 1] = rate;
    for (int i = 0; i <= n_inputs; i++)
        types[i] = in[i].type;
    TRY(plan_for(t, types, n_inputs + 1, &p, err));
    TRY(run_plan(t, p, in, n_inputs + (whole ? 2 : 1), out, whole ? 2 : 1, err));
    t->report = heed_plan_describe(p->plan);
    if (!whole && *micro_of(t) >= t->opts.accumulate) {
        const heed_status st = run_plan(t, &t->update, &rate, 1, &out[1], 1, err);

        if (st != HEED_OK) {
            drop_gradients(t);
            return st;
        }
    }
    if (whole || *micro_of(t) == 0) {
        t->grad_norm = norm;
        t->steps++;
    }
    if (loss)
        *loss = got_loss;
    return HEED_OK;
}

void heed_trainer_profile(heed_trainer *t, heed_profile *p)
{
    heed_session_profile(t->session, p);
}

void heed_trainer_set_lr(heed_trainer *t, float lr)
{
    t->lr = lr;
}

float heed_trainer_lr(const heed_trainer *t)
{
    return t->lr;
}

float heed_trainer_grad_norm(const heed_trainer *t)
{
    return t->grad_norm;
}

int64_t heed_trainer_steps(const heed_trainer *t)
{
    return t->steps;
}

heed_plan_report heed_trainer_report(const heed_trainer *t)
{
    return t->report;
}
