/* Rules that look at numbers inside the model. The evaluation graph is built with more outputs, each reduced
 * over the batch in the graph itself, so that little comes out:
 *
 *   ReLU       y [B,C,...]    max over everything but the unit           [C]
 *   attention  w [B,H,Tq,Tk]  max and -min over the batch                [H,Tq,Tk]
 *                             max |w_i - w_j| of each pair of heads      []
 *   loss       x [N,C]        max |1 - sum_c x_c| and -min x             []
 *
 * The samples go through in equal batches (what is left over is not shown), and the host keeps the maximum
 * of each. */

#include "attention/attention.h"
#include "explain/doctor.h"
#include "explain/doctor_build.h"
#include "train/mirror.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEADS_MOST 16 /* heads compared with each other */

/* ---- what is watched ---- */

typedef enum watch_kind {
    WATCH_RELU,
    WATCH_HIGH,
    WATCH_LOW,
    WATCH_PAIR,
    WATCH_SUM,
    WATCH_NEGATIVE
} watch_kind;

typedef struct watched {
    watch_kind kind;
    uint32_t node;     /* in the graph as it was before outputs were added */
    int first, second; /* heads of a pair */
    float *most;       /* the maximum so far; owned */
    float *now;        /* of this batch; owned */
    int64_t n;
} watched;

typedef struct watch {
    doctor *d;
    doctor_build build;
    int64_t batch, shown;
    watched *at;
    int64_t n, room;
    heed_graph *graph;
    heed_plan *plan;
    heed_session *session;
    heed_tensor *outputs; /* logits, then one for each watched */
    float *logits;        /* [shown, classes]; owned */
    int64_t classes;      /* 0: the result is not [B,C] of f32 */
} watch;

static heed_status watch_add(watch *w, watched what, heed_value v)
{
    char name[32];

    if (w->n == w->room) {
        watched *more = heed__resize(w->d->ctx->heap, w->at, (size_t)w->room + 32, sizeof *more);

        if (!more)
            return heed__fail_memory(w->d->err, ((size_t)w->room + 32) * sizeof *more);
        w->at = more;
        w->room += 32;
    }
    (void)snprintf(name, sizeof name, "watch%lld", (long long)w->n);
    v = heed_cast(w->build.b, v, HEED_F32);
    heed_output(w->build.b, name, v);
    w->at[w->n++] = what;
    return heed_builder_status(w->build.b, w->d->err);
}

/* The axis of the units: channels of pictures [B,C,H,W], features of anything else. */
static int unit_axis(const heed_type *t)
{
    return t->rank == 4 ? 1 : t->rank - 1;
}

static bool is_relu(const node *n)
{
    return n->op == &heed__op_relu || n->op == &heed__op_hardswish;
}

static heed_status watch_relu(watch *w, uint32_t i, heed_value y)
{
    const heed_type t = heed_value_type(w->build.b, y);
    const unsigned axes = ((1u << t.rank) - 1) & ~(1u << unit_axis(&t));

    if (t.rank < 2 || t.dims[unit_axis(&t)] < 2)
        return HEED_OK;
    return watch_add(w, (watched){ .kind = WATCH_RELU, .node = i },
                     heed_amax(w->build.b, y, axes, HEED_DROP_AXES));
}

static heed_status watch_attention(watch *w, uint32_t i, heed_value weights)
{
    heed_builder *b = w->build.b;
    const heed_type t = heed_value_type(b, weights);
    heed_value head[HEADS_MOST];
    const int heads = (int)i64_min(t.dims[1], HEADS_MOST);

    if (t.dims[3] < 2) /* one key has weight one, always */
        return HEED_OK;
    TRY(watch_add(w, (watched){ .kind = WATCH_HIGH, .node = i },
                  heed_amax(b, weights, 1u << 0, HEED_DROP_AXES)));
    TRY(watch_add(w, (watched){ .kind = WATCH_LOW, .node = i },
                  heed_amax(b, heed_neg(b, weights), 1u << 0, HEED_DROP_AXES)));
    for (int h = 0; h < heads; h++)
        head[h] = heed_slice(b, weights, 1, h, h + 1, 1);
    for (int h = 0; h < heads; h++)
        for (int k = h + 1; k < heads; k++)
            TRY(watch_add(
                w, (watched){ .kind = WATCH_PAIR, .node = i, .first = h, .second = k },
                heed_amax(b, heed_abs(b, heed_sub(b, head[h], head[k])), HEED_ALL_AXES, HEED_DROP_AXES)));
    return HEED_OK;
}

/* Logits into the loss: is each row a distribution already? */
static heed_status watch_loss(watch *w, uint32_t i, heed_value x)
{
    heed_builder *b = w->build.b;
    const heed_type t = heed_value_type(b, x);

    if (t.rank < 1 || t.dims[t.rank - 1] < 2)
        return HEED_OK;
    TRY(watch_add(
        w, (watched){ .kind = WATCH_SUM, .node = i },
        heed_amax(b, heed_abs(b, heed_add_scalar(b, heed_sum(b, x, 1u << (t.rank - 1), HEED_DROP_AXES), -1)),
                  HEED_ALL_AXES, HEED_DROP_AXES)));
    return watch_add(w, (watched){ .kind = WATCH_NEGATIVE, .node = i },
                     heed_amax(b, heed_neg(b, x), HEED_ALL_AXES, HEED_DROP_AXES));
}

static heed_status watch_all(watch *w)
{
    const uint32_t n = heed__building(w->build.b)->n_nodes; /* outputs add nodes behind these */
    bool loss = false;

    for (uint32_t i = 0; i < n; i++) {
        const node at = heed__building(w->build.b)->nodes[i]; /* the list may move */

        if (is_relu(&at))
            TRY(watch_relu(w, i, heed__out(&at, 0)));
        else if (at.op == &heed__op_attention)
            TRY(watch_attention(w, i, heed__out(&at, AT_GET_WEIGHTS)));
        else if (at.op == &heed__op_softmax_cross_entropy && i >= w->build.loss_begin && !loss) {
            loss = true;
            TRY(watch_loss(w, i, at.in[0]));
        }
    }
    return HEED_OK;
}

/* ---- running ---- */

static heed_status watch_room(watch *w)
{
    heap *h = w->d->ctx->heap;
    const heed_type result = heed_plan_output_type(w->plan, 0);
    const int64_t classes = result.rank == 2 && result.dtype == HEED_F32 ? result.dims[1] : 0;

    w->outputs = heed__alloc(h, (size_t)w->n + 1, sizeof *w->outputs);
    w->logits = heed__alloc(h, (size_t)(w->shown * classes) + 1, sizeof *w->logits);
    if (!w->outputs || !w->logits)
        return heed__fail_memory(w->d->err, (uint64_t)(w->shown * classes) * sizeof *w->logits);
    w->classes = classes;
    w->outputs[0].type = result;
    for (int64_t i = 0; i < w->n; i++) {
        watched *a = &w->at[i];

        w->outputs[i + 1].type = heed_plan_output_type(w->plan, (int)i + 1);
        a->n = heed_type_count(&w->outputs[i + 1].type);
        a->most = heed__alloc(h, (size_t)a->n + 1, sizeof *a->most);
        a->now = heed__alloc(h, (size_t)a->n + 1, sizeof *a->now);
        if (!a->most || !a->now)
            return heed__fail_memory(w->d->err, (uint64_t)a->n * sizeof *a->most);
        w->outputs[i + 1].data = a->now;
        for (int64_t j = 0; j < a->n; j++)
            a->most[j] = -FLT_MAX;
    }
    return HEED_OK;
}

static heed_status watch_prepare(watch *w)
{
    doctor *d = w->d;

    w->batch = heed__doctor_batch(d);
    w->shown = heed__doctor_shown(d);
    TRY(heed__doctor_build(&w->build, d, HEED_EVAL, w->batch));
    heed_output(w->build.b, "result", w->build.result);
    TRY(watch_all(w));
    TRY(heed__doctor_finish(&w->graph, d, &w->build));
    TRY(heed_plan_new(&w->plan, d->ctx, w->graph, NULL, d->err));
    return watch_room(w);
}

static heed_status watch_run(watch *w)
{
    doctor *d = w->d;
    heed_tensor in[DOCTOR_INPUTS + 1];
    int id;

    TRY(heed_session_new(&w->session, d->ctx, heed_model_weights(d->c->model),
                         &(heed_session_opts){ .seed = heed_model_seed(d->c->model) }, d->err));
    TRY(heed_session_add(w->session, w->plan, &id, d->err));
    for (int64_t i = 0; i < w->shown; i += w->batch) {
        heed__doctor_some(d, i, w->batch, in);
        w->outputs[0].data = w->classes ? w->logits + i * w->classes : NULL;
        TRY(heed_session_run(w->session, id, in, d->n_all, w->outputs, (int)w->n + 1, d->err));
        for (int64_t k = 0; k < w->n; k++)
            for (int64_t j = 0; j < w->at[k].n; j++)
                w->at[k].most[j] = fmaxf(w->at[k].most[j], w->at[k].now[j]);
    }
    return HEED_OK;
}

static void watch_release(watch *w)
{
    heap *h = w->d->ctx->heap;

    heed_session_free(w->session);
    heed_plan_free(w->plan);
    heed_builder_free(w->build.b);
    heed_graph_free(w->graph);
    for (int64_t i = 0; i < w->n; i++) {
        heed__release(h, w->at[i].most);
        heed__release(h, w->at[i].now);
    }
    heed__release(h, w->at);
    heed__release(h, w->outputs);
    heed__release(h, w->logits);
}

/* ---- what it says ---- */

static const char *watch_place(char to[192], const watch *w, const watched *a)
{
    return heed__doctor_place(to, w->graph, &w->graph->nodes[a->node]);
}

static heed_status say_relu(const watch *w, const watched *a)
{
    int64_t dead = 0;
    char place[192];

    heed__doctor_looked(w->d, RULE_DEAD_UNITS);
    for (int64_t i = 0; i < a->n; i++)
        dead += a->most[i] <= 0;
    if ((double)dead <= w->d->threshold[RULE_DEAD_UNITS] * (double)a->n)
        return HEED_OK;
    return heed__doctor_find(w->d, RULE_DEAD_UNITS, (double)dead / (double)a->n, watch_place(place, w, a),
                             "%lld of %lld units are zero for all %lld samples", (long long)dead,
                             (long long)a->n, (long long)w->shown);
}

/* high and low are neighbours in the list; pairs follow them. */
static heed_status say_heads(const watch *w, int64_t at)
{
    const watched *high = &w->at[at], *low = &w->at[at + 1];
    const heed_type *t = &w->outputs[at + 1].type; /* [H,Tq,Tk] */
    const int64_t each = t->dims[1] * t->dims[2];
    const double keys = (double)t->dims[2], bound = w->d->threshold[RULE_DEAD_HEADS];
    bool constant[HEADS_MOST] = { false };
    char place[192], layer[192];

    heed__doctor_looked(w->d, RULE_DEAD_HEADS);
    (void)watch_place(layer, w, high);
    for (int64_t h = 0; h < t->dims[0]; h++) {
        double range = 0;

        for (int64_t i = h * each; i < (h + 1) * each; i++)
            range = fmax(range, (double)high->most[i] + (double)low->most[i]);
        if (range * keys >= bound)
            continue;
        if (h < HEADS_MOST)
            constant[h] = true;
        (void)snprintf(place, sizeof place, "%.160s head %lld", layer, (long long)h);
        TRY(heed__doctor_find(w->d, RULE_DEAD_HEADS, range * keys, place,
                              "its weights are the same for all %lld samples: none changes by more than %.3g",
                              (long long)w->shown, range));
    }
    for (int64_t i = at + 2; i < w->n && w->at[i].kind == WATCH_PAIR; i++) {
        const watched *p = &w->at[i];

        if ((double)p->most[0] * keys >= bound || constant[p->first] || constant[p->second])
            continue;
        (void)snprintf(place, sizeof place, "%.150s heads %d and %d", layer, p->first, p->second);
        TRY(heed__doctor_find(w->d, RULE_DEAD_HEADS, (double)p->most[0] * keys, place,
                              "their weights are the same: they differ by at most %.3g", (double)p->most[0]));
    }
    return HEED_OK;
}

static heed_status say_loss(const watch *w, int64_t at)
{
    const double off = (double)w->at[at].most[0], least = -(double)w->at[at + 1].most[0];
    char place[192];

    heed__doctor_looked(w->d, RULE_DOUBLE_SOFTMAX);
    if (off > w->d->threshold[RULE_DOUBLE_SOFTMAX] || least < 0 ||
        heed__doctor_found(w->d, RULE_DOUBLE_SOFTMAX, NULL))
        return HEED_OK;
    return heed__doctor_find(
        w->d, RULE_DOUBLE_SOFTMAX, off, watch_place(place, w, &w->at[at]),
        "what the loss takes for logits are probabilities: all rows sum to one within %.2g", off);
}

/* One class for nearly all, or the same logits for all. */
static heed_status say_predictions(const watch *w)
{
    const int64_t *labels = w->d->y.data;
    int64_t *count = heed__alloc(w->d->ctx->heap, 2 * (size_t)w->classes, sizeof *count);
    int64_t commonest = 0, most = 0;
    double range = 0, size = 0;

    if (!count)
        return heed__fail_memory(w->d->err, 2 * (uint64_t)w->classes * sizeof *count);
    heed__doctor_looked(w->d, RULE_CONSTANT_PREDICTIONS);
    for (int64_t i = 0; i < w->shown; i++) {
        const float *row = w->logits + i * w->classes;
        const int64_t said = heed__largest(row, w->classes);

        count[said]++;
        most = count[said] > count[most] ? said : most;
        if (labels[i] >= 0 && labels[i] < w->classes)
            commonest = i64_max(commonest, ++count[w->classes + labels[i]]);
        for (int64_t c = 0; c < w->classes; c++) {
            range = fmax(range, fabs((double)row[c] - (double)w->logits[c]));
            size = fmax(size, fabs((double)row[c]));
        }
    }
    const double share = (double)count[most] / (double)w->shown,
                 labelled = (double)commonest / (double)w->shown;
    char place[64];

    heed__release(w->d->ctx->heap, count);
    (void)snprintf(place, sizeof place, "class %lld", (long long)most);
    if (range <= 1e-5 * size || size == 0)
        return heed__doctor_find(
            w->d, RULE_CONSTANT_PREDICTIONS, share, place,
            "the logits are the same for all %lld samples: they do not depend on the input",
            (long long)w->shown);
    if (share > w->d->threshold[RULE_CONSTANT_PREDICTIONS] && labelled <= 0.5)
        return heed__doctor_find(w->d, RULE_CONSTANT_PREDICTIONS, share, place,
                                 "it is said for %.1f %% of %lld samples; the commonest label has %.1f %%",
                                 100 * share, (long long)w->shown, 100 * labelled);
    return HEED_OK;
}

static heed_status watch_say(const watch *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        if (w->at[i].kind == WATCH_RELU)
            TRY(say_relu(w, &w->at[i]));
        else if (w->at[i].kind == WATCH_HIGH && w->shown > 1)
            TRY(say_heads(w, i));
        else if (w->at[i].kind == WATCH_SUM)
            TRY(say_loss(w, i));
    }
    return w->d->y.data && w->classes > 1 && w->shown >= 20 ? say_predictions(w) : HEED_OK;
}

heed_status heed__doctor_watch(doctor *d)
{
    watch w = { .d = d };
    heed_status st;

    if (!d->c->model || d->n == 0 || heed__doctor_found(d, RULE_NOT_FINITE, NULL) ||
        heed__doctor_found(d, RULE_NAN_ORIGIN, NULL))
        return HEED_OK;
    STEP(watch_prepare(&w));
    STEP(watch_run(&w));
    STEP(watch_say(&w));
done:
    watch_release(&w);
    return st;
}
