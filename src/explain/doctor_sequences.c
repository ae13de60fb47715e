/* Rules that change tokens and look at what moves. What a model does not read changes no bit of its result,
 * whatever stands beside it, so the bound is rounding.
 *
 *   padding-seen    tokens from the length on are changed     the result (at counted times) must stay
 *   mask-polarity   ... and it moves, while tokens before the length move nothing
 *   future-seen     tokens from t on are changed              a causal result before t must stay
 *   causal-encoder  ... and one of both sides must move
 *
 * To name the layer, every value inside that has one axis of size T is made an output, the sequence and its
 * changed copy go through as two, and the first node whose values at protected times differ is the origin. */

#include "base/rng.h"
#include "explain/doctor_build.h"
#include "attention/attention.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SEQUENCES_MOST 8
#define CUTS 4

typedef struct change {
    doctor *d;
    const heed_doctor_sequences *s;
    int64_t n;                         /* sequences looked at */
    int64_t chosen[SEQUENCES_MOST];    /* which of those shown */
    heed_tensor in[DOCTOR_INPUTS + 1]; /* theirs; owned */
    heed_tensor changed;               /* tokens; owned */
    int64_t vocabulary;
    double spread; /* of f32 tokens */
    doctor_runner run;
    float *before; /* the result of the sequences as they are; owned */
} change;

/* Elements of sequence b of a tensor seen as [n, outer, T, inner]. */
typedef struct timed {
    int64_t outer, steps, inner;
} timed;

static timed timed_of(const heed_type *t, int axis)
{
    return (timed){ heed__dims_product(t, 1, axis), t->dims[axis], heed__dims_product(t, axis + 1, t->rank) };
}

/* From which time up to which, by sequence. */
typedef struct span {
    int64_t begin[SEQUENCES_MOST], end[SEQUENCES_MOST];
} span;

static int token_axis(const change *c)
{
    return c->s->time ? c->s->time : 1;
}

/* ---- what is shown ---- */

static int64_t length_of(const change *c, int64_t b)
{
    return heed__doctor_length(c->d, c->chosen[b]);
}

/* Copies the chosen sequences of every input. */
static heed_status gather(change *c)
{
    const doctor *d = c->d;

    for (int i = 0; i < d->n_all; i++) {
        const heed_type *t = &d->in[i].type;
        const size_t each = (size_t)(heed_type_count(t) / d->n) * heed_dtype_size(t->dtype);

        c->in[i].type = *t;
        c->in[i].type.dims[0] = c->n;
        c->in[i].data = heed__alloc(d->ctx->heap, (size_t)c->n * each + 1, 1);
        if (!c->in[i].data)
            return heed__fail_memory(d->err, (uint64_t)c->n * each);
        for (int64_t b = 0; b < c->n; b++)
            memcpy((char *)c->in[i].data + (size_t)b * each,
                   (const char *)d->in[i].data + (size_t)c->chosen[b] * each, each);
    }
    c->changed = c->in[c->s->tokens];
    c->changed.data = heed__alloc(d->ctx->heap, (size_t)heed_type_count(&c->changed.type) + 1,
                                  heed_dtype_size(c->changed.type.dtype));
    return c->changed.data ? HEED_OK : heed__fail_memory(d->err, (uint64_t)heed_type_count(&c->changed.type));
}

/* Largest id, or deviation from zero, of tokens within the lengths. */
static void measure(change *c)
{
    const heed_tensor *x = &c->in[c->s->tokens];
    const timed t = timed_of(&x->type, token_axis(c));
    double squares = 0, count = 0;
    int64_t most = 0;

    for (int64_t b = 0; b < c->n; b++)
        for (int64_t o = 0; o < t.outer; o++)
            for (int64_t i = 0; i < length_of(c, b) * t.inner; i++) {
                const int64_t at = (b * t.outer + o) * t.steps * t.inner + i;

                if (x->type.dtype == HEED_I64) {
                    most = i64_max(most, ((const int64_t *)x->data)[at]);
                } else {
                    squares += (double)((const float *)x->data)[at] * (double)((const float *)x->data)[at];
                    count++;
                }
            }
    c->vocabulary = c->s->vocabulary > 0 ? c->s->vocabulary : most + 1;
    c->spread = count > 0 && squares > 0 && isfinite(squares) ? sqrt(squares / count) : 1;
}

/* `changed` becomes the tokens with other ones at the times of the span. */
static void change_tokens(change *c, const span *at)
{
    const heed_tensor *x = &c->in[c->s->tokens];
    const timed t = timed_of(&x->type, token_axis(c));
    const rng r = heed__rng(0, 0, "doctor.change");

    memcpy(c->changed.data, x->data, (size_t)heed_type_count(&x->type) * heed_dtype_size(x->type.dtype));
    for (int64_t b = 0; b < c->n; b++)
        for (int64_t o = 0; o < t.outer; o++)
            for (int64_t i = at->begin[b] * t.inner; i < at->end[b] * t.inner; i++) {
                const int64_t e = (b * t.outer + o) * t.steps * t.inner + i;
                const uint32_t word = heed__rng_word(&r, (uint32_t)(b * t.outer + o), (uint32_t)i);

                if (x->type.dtype == HEED_I64) {
                    int64_t *id = (int64_t *)c->changed.data + e;
                    const int64_t by = c->vocabulary > 1 ? 1 + (int64_t)word % (c->vocabulary - 1) : 0;

                    *id = *id < 0 || *id >= c->vocabulary ? by % c->vocabulary : (*id + by) % c->vocabulary;
                } else {
                    float *v = (float *)c->changed.data + e;
                    const double by = c->spread * (1 + (double)heed__unit(word)) * (word & 1 ? 1 : -1);

                    *v = (float)(isfinite(*v) ? (double)*v + by : by);
                }
            }
}

/* ---- comparing ---- */

typedef struct moved {
    double by; /* largest difference, as a share of the largest number */
    int64_t sequence, time;
} moved;

/* Where y and z differ at the times of the span; axis -1: everywhere. */
static moved compare(const heed_type *type, int axis, int64_t n, const float *y, const float *z,
                     const span *at)
{
    const int64_t each = heed_type_count(type) / i64_max(1, type->dims[0]);
    const timed t = axis < 0 ? (timed){ 1, 1, each } : timed_of(type, axis);
    moved m = { .by = 0, .time = -1 };
    double size = 0;

    for (int64_t i = 0; i < n * each; i++)
        if (isfinite(y[i]))
            size = fmax(size, fabs((double)y[i]));
    for (int64_t b = 0; b < n; b++)
        for (int64_t o = 0; o < t.outer; o++)
            for (int64_t s = axis < 0 ? 0 : at->begin[b]; s < (axis < 0 ? 1 : at->end[b]); s++)
                for (int64_t i = 0; i < t.inner; i++) {
                    const int64_t e = b * each + (o * t.steps + s) * t.inner + i;
                    const double off = fabs((double)y[e] - (double)z[e]);
                    const double by = off <= 0 ? 0 : off < INFINITY && size > 0 ? off / size : INFINITY;

                    if (by > m.by)
                        m = (moved){ by, b, axis < 0 ? -1 : s };
                }
    return m;
}

static int result_axis(const change *c)
{
    return c->s->result_time.set ? (int)c->s->result_time.value : -1;
}

static heed_status begin(change *c)
{
    doctor_build build;
    heed_type y;
    heed_status st;

    TRY(gather(c));
    measure(c);
    TRY(heed__doctor_build(&build, c->d, HEED_EVAL, c->n));
    st = heed__doctor_output(&build, c->d, build.result);
    if (st == HEED_OK)
        st = heed__doctor_open(&c->run, c->d, &build);
    heed_builder_free(build.b);
    TRY(st);
    y = c->run.out[0].type;
    if (y.rank < 1 || y.dims[0] != c->n)
        return heed__fail(c->d->err, HEED_ERR_SHAPE,
                          "doctor: axis 0 of the result does not count the sequences");
    if (c->s->result_time.set &&
        (result_axis(c) < 1 || result_axis(c) >= y.rank || y.dims[result_axis(c)] != c->d->steps))
        return heed__fail(
            c->d->err, HEED_ERR_SHAPE,
            "doctor: sequences.result_time is %d; the result has rank %d and no such axis of size %lld",
            result_axis(c), y.rank, (long long)c->d->steps);
    TRY(heed__doctor_run(&c->run, c->in));
    c->before = heed__alloc(c->d->ctx->heap, (size_t)heed_type_count(&y) + 1, sizeof *c->before);
    if (!c->before)
        return heed__fail_memory(c->d->err, (uint64_t)heed_type_count(&y) * sizeof *c->before);
    memcpy(c->before, c->run.out[0].data, (size_t)heed_type_count(&y) * sizeof *c->before);
    return HEED_OK;
}

static void end(change *c)
{
    heap *h = c->d->ctx->heap;

    for (int i = 0; i < c->d->n_all; i++)
        heed__release(h, c->in[i].data);
    heed__release(h, c->changed.data);
    heed__release(h, c->before);
    heed__doctor_close(&c->run);
}

/* Changes tokens at the times of `at`; what moves at those of `kept`? */
static heed_status try_change(change *c, const span *at, const span *kept, moved *m)
{
    heed_tensor in[DOCTOR_INPUTS + 1];

    memcpy(in, c->in, sizeof in);
    change_tokens(c, at);
    in[c->s->tokens] = c->changed;
    TRY(heed__doctor_run(&c->run, in));
    *m = compare(&c->run.out[0].type, result_axis(c), c->n, c->before, c->run.out[0].data, kept);
    return HEED_OK;
}

/* ---- the layer where it begins ---- */

typedef struct origin {
    uint32_t *node; /* of each output; owned */
    int *axis;      /* owned */
    int n;
    char place[192];
    const char *op; /* NULL: not found */
} origin;

enum { NO_AXIS = -1, ONE_QUERY = -2, NOT_TOLD = -3 };

/* The axis of time of what a node gives: the only one of size T; of attention, that of queries. */
static int time_axis(const node *n, const heed_type *t, int64_t steps)
{
    int found = NO_AXIS;

    if (n->op == &heed__op_attention)
        return t->dims[2] == steps ? 2 : t->dims[2] == 1 ? ONE_QUERY : NOT_TOLD;
    for (int i = 1; i < t->rank; i++)
        if (t->dims[i] == steps)
            found = found == NO_AXIS ? i : NOT_TOLD;
    return found;
}

static heed_status add_values(change *c, doctor_build *build, origin *o)
{
    heap *h = c->d->ctx->heap;
    const heed_graph *g = heed__building(build->b);
    const uint32_t n = g->n_nodes;
    bool *needed = heed__alloc(h, (size_t)n + 1, sizeof *needed);
    heed_status st = HEED_OK;

    o->node = heed__alloc(h, (size_t)n + 1, sizeof *o->node);
    o->axis = heed__alloc(h, (size_t)n + 1, sizeof *o->axis);
    if (!needed || !o->node || !o->axis) {
        heed__release(h, needed);
        return heed__fail_memory(c->d->err, (uint64_t)n * sizeof *o->node);
    }
    needed[g->values[build->result.id].node] = true;
    for (uint32_t i = n; i-- > 0;)
        for (int j = 0; needed[i] && j < g->nodes[i].n_in; j++)
            if (g->nodes[i].in[j].id)
                needed[g->values[g->nodes[i].in[j].id].node] = true;
    for (uint32_t i = 0; i < n && st == HEED_OK; i++) {
        const node at = g->nodes[i];
        const heed_type t = heed_value_type(build->b, heed__out(&at, 0));
        const int axis = needed[i] && at.n_in > 0 && !(at.op->flags & OP_VIEW) &&
                                 DTYPE_BIT(t.dtype) & FLOATS && t.rank > 1 && t.dims[0] == 2
                             ? time_axis(&at, &t, c->d->steps)
                             : NOT_TOLD;

        if (axis == NOT_TOLD)
            continue;
        o->node[o->n] = i;
        o->axis[o->n++] = axis;
        st = heed__doctor_output(build, c->d, heed__out(&at, 0));
    }
    heed__release(h, needed);
    return st;
}

/* The sequence as it is and as it was changed, side by side. */
static heed_status show_both(change *c, doctor_runner *r, int64_t sequence)
{
    heap *h = c->d->ctx->heap;
    heed_tensor in[DOCTOR_INPUTS + 1] = { { .data = NULL } };
    heed_status st = HEED_OK;

    for (int i = 0; i < c->d->n_all && st == HEED_OK; i++) {
        const heed_tensor *from = &c->in[i], *other = i == c->s->tokens ? &c->changed : from;
        const size_t each = (size_t)(heed_type_count(&from->type) / c->n) * heed_dtype_size(from->type.dtype);

        in[i].type = from->type;
        in[i].type.dims[0] = 2;
        in[i].data = heed__alloc(h, 2 * each + 1, 1);
        if (!in[i].data) {
            st = heed__fail_memory(c->d->err, 2 * each);
            break;
        }
        memcpy(in[i].data, (const char *)from->data + (size_t)sequence * each, each);
        memcpy((char *)in[i].data + each, (const char *)other->data + (size_t)sequence * each, each);
    }
    if (st == HEED_OK)
        st = heed__doctor_run(r, in);
    for (int i = 0; i < c->d->n_all; i++)
        heed__release(h, in[i].data);
    return st;
}

/* Of which values: those that have times; the one query of a pooling attention too; all. */
typedef enum look { LOOK_AT_TIMES, LOOK_AT_QUERIES, LOOK_AT_ALL } look;

/* The first node whose values at protected times differ. */
static void first_moved(change *c, const doctor_runner *r, origin *o, const span *at, look of)
{
    for (int i = 0; i < o->n && !o->op; i++) {
        const heed_type *t = &r->out[i].type;
        const float *y = r->out[i].data;
        const node *n = &r->graph->nodes[o->node[i]];

        if ((o->axis[i] == ONE_QUERY && of == LOOK_AT_TIMES) || (o->axis[i] == NO_AXIS && of != LOOK_AT_ALL))
            continue;
        if (compare(t, o->axis[i], 1, y, y + heed_type_count(t) / 2, at).by >
            c->d->threshold[RULE_FUTURE_SEEN]) {
            o->op = n->op->name;
            (void)heed__doctor_place(o->place, r->graph, n);
        }
    }
}

/* Of padding nothing may move that has no time either; a value of one step may, so those come last. */
static heed_status find_origin(change *c, origin *o, int64_t sequence, int64_t kept, bool whole)
{
    const span at = { .end = { kept } };
    doctor_runner r = { 0 };
    doctor_build build;
    heed_status st;

    TRY(heed__doctor_build(&build, c->d, HEED_EVAL, 2));
    STEP(add_values(c, &build, o));
    if (o->n == 0)
        goto done;
    STEP(heed__doctor_open(&r, c->d, &build));
    STEP(show_both(c, &r, sequence));
    first_moved(c, &r, o, &at, whole ? LOOK_AT_QUERIES : LOOK_AT_TIMES);
    if (whole)
        first_moved(c, &r, o, &at, LOOK_AT_ALL);
done:
    heed__doctor_close(&r);
    heed_builder_free(build.b);
    return st;
}

static heed_status say_moved(change *c, doctor_rule rule, const moved *m, int64_t kept, bool whole,
                             const char *what)
{
    origin o = { .op = NULL };
    char when[48] = "";
    heed_status st;

    STEP(find_origin(c, &o, m->sequence, kept, whole));
    if (m->time >= 0)
        (void)snprintf(when, sizeof when, " at time %lld", (long long)m->time);
    st = heed__doctor_find(c->d, rule, m->by, o.op ? o.place : "the result",
                           "the result of sequence %lld%s moves by %.3g of its size when %s; first in %s",
                           (long long)c->chosen[m->sequence], when, m->by, what,
                           o.op ? o.op : "a layer that cannot be told");
done:
    heed__release(c->d->ctx->heap, o.node);
    heed__release(c->d->ctx->heap, o.axis);
    return st;
}

/* ---- padding ---- */

static heed_status look_at_padding(doctor *d)
{
    change c = { .d = d, .s = d->c->sequences };
    span inside = { { 0 }, { 0 } }, beyond = inside;
    moved by_padding, by_tokens;
    char what[80];
    heed_status st;

    if (!c.s->lengths.set)
        return HEED_OK;
    for (int64_t i = 0; i < d->n && c.n < SEQUENCES_MOST; i++)
        if (heed__doctor_length(d, i) > 0 && heed__doctor_length(d, i) < d->steps)
            c.chosen[c.n++] = i;
    if (c.n == 0)
        return HEED_OK;
    heed__doctor_looked(d, RULE_MASK_POLARITY);
    heed__doctor_looked(d, RULE_PADDING_SEEN);
    STEP(begin(&c));
    for (int64_t b = 0; b < c.n; b++) {
        inside.end[b] = beyond.begin[b] = length_of(&c, b);
        beyond.end[b] = d->steps;
    }
    STEP(try_change(&c, &inside, &inside, &by_tokens));
    STEP(try_change(&c, &beyond, &inside, &by_padding));
    if (by_padding.by <= d->threshold[RULE_PADDING_SEEN] || heed__doctor_found(d, RULE_MASK_POLARITY, NULL) ||
        heed__doctor_found(d, RULE_PADDING_SEEN, NULL))
        goto done; /* the weights have said it, with the layer */
    if (by_tokens.by <= d->threshold[RULE_PADDING_SEEN]) {
        st = heed__doctor_find(
            d, RULE_MASK_POLARITY, 1, "the result",
            "it depends on tokens beyond the lengths, and not on those before: changing them moves it by "
            "%.3g of its size and by nothing",
            by_padding.by);
        goto done;
    }
    (void)snprintf(what, sizeof what, "tokens from its length %lld on do",
                   (long long)length_of(&c, by_padding.sequence));
    st = say_moved(&c, RULE_PADDING_SEEN, &by_padding, length_of(&c, by_padding.sequence), true, what);
done:
    end(&c);
    return st;
}

/* ---- future ---- */

/* Cut number k of each sequence: the first behind token 0, the last before the last token. */
static heed_status try_cut(change *c, int64_t k, moved *m, int64_t *cut)
{
    span past = { { 0 }, { 0 } }, later = past;

    for (int64_t b = 0; b < c->n; b++) {
        past.end[b] = later.begin[b] = 1 + (length_of(c, b) - 2) * k / (CUTS - 1);
        later.end[b] = length_of(c, b);
    }
    TRY(try_change(c, &later, &past, m));
    *cut = past.end[m->sequence];
    return HEED_OK;
}

/* A causal result may not move before a cut at any; that of both sides must at one. */
static heed_status look_at_future(doctor *d)
{
    change c = { .d = d, .s = d->c->sequences };
    const bool causal = c.s->direction == HEED_DIRECTION_CAUSAL;
    const doctor_rule rule = causal ? RULE_FUTURE_SEEN : RULE_CAUSAL_ENCODER;
    double most = 0;
    char what[80];
    heed_status st;

    if (c.s->direction == HEED_DIRECTION_UNSAID || !c.s->result_time.set)
        return HEED_OK;
    for (int64_t i = 0; i < d->n && c.n < SEQUENCES_MOST; i++)
        if (heed__doctor_length(d, i) > 1)
            c.chosen[c.n++] = i;
    if (c.n == 0)
        return HEED_OK;
    heed__doctor_looked(d, rule);
    STEP(begin(&c));
    for (int64_t k = 0; k < CUTS && most <= d->threshold[rule]; k++) {
        int64_t cut;
        moved m;

        STEP(try_cut(&c, k, &m, &cut));
        most = fmax(most, m.by);
        (void)snprintf(what, sizeof what, "tokens from %lld on do", (long long)cut);
        if (most > d->threshold[rule] && causal)
            STEP(say_moved(&c, RULE_FUTURE_SEEN, &m, cut, false, what));
    }
    if (!causal && most <= d->threshold[rule] && !heed__doctor_found(d, rule, NULL))
        st = heed__doctor_find(
            d, rule, most, "the result",
            "no result depends on a later token, in a model that is said to see both sides");
done:
    end(&c);
    return st;
}

heed_status heed__doctor_sequences(doctor *d)
{
    if (!d->c->sequences || d->n == 0 || heed__doctor_found(d, RULE_NOT_FINITE, NULL) ||
        heed__doctor_found(d, RULE_NAN_ORIGIN, NULL))
        return HEED_OK;
    TRY(look_at_padding(d));
    return look_at_future(d);
}
