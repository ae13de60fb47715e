#include "support/sampled.h"

#include "base/rng.h"
#include "graph/number.h"
#include <heed/ops.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLED_SEED 20261121

/* ---- numbers ---- */

int sampled_count(const op_def *op)
{
    int n = 0;

    while (op->samples && (op->samples[n].in[0].given || op->samples[n].all || op->samples[n].attrs || op->samples[n].refused))
        n++;
    return n;
}

const op_slot *sampled_slot(const op_def *op, int i)
{
    int n = 0;

    while (op->in[n].name)
        n++;
    if (i < n)
        return &op->in[i];
    return op->flags & OP_VARIADIC && n > 0 ? &op->in[n - 1] : NULL;
}

bool sampled_tested(const sampled *s, int i)
{
    const op_slot *slot = sampled_slot(s->op, i);

    return s->type[i].rank >= 0 && s->given[i].dtype == HEED_F32 && (!slot || !slot->dtypes || slot->dtypes & DTYPE_BIT(HEED_F64));
}

bool sampled_any_tested(const sampled *s)
{
    for (int i = 0; i < s->n; i++)
        if (sampled_tested(s, i))
            return true;
    return false;
}

static bool sampled_tied(const op_def *op, const op_slot *slot)
{
    bool alone = true;

    if (slot->same_as)
        return true;
    for (int i = 0; op->in[i].name; i++) {
        if (op->in[i].same_as && strcmp(op->in[i].same_as, slot->name) == 0)
            return true;
        alone &= &op->in[i] == slot || !(op->in[i].dtypes & FLOATS);
    }
    for (int i = 0; op->out[i].name; i++)
        if (op->out[i].same_as && strcmp(op->out[i].same_as, slot->name) == 0)
            return true;
    return alone;
}

heed_dtype sampled_dtype(const sampled *s, int i, heed_dtype dtype)
{
    const op_slot *slot = sampled_slot(s->op, i);

    if (!sampled_tested(s, i))
        return s->type[i].dtype;
    if ((dtype == HEED_F16 || dtype == HEED_BF16) && slot && !sampled_tied(s->op, slot))
        return HEED_F32;
    return dtype;
}

bool sampled_makes(const sampled *s, int out)
{
    const char *over = s->op->out[out].over;

    for (int i = 0; over && s->op->in[i].name; i++)
        if (strcmp(s->op->in[i].name, over) == 0)
            return i < s->n && s->type[i].rank >= 0;
    return true;
}

static double sampled_round(heed_dtype dtype, double x)
{
    union {
        double f64;
        int64_t i64;
    } one = { 0 };

    heed__number_put(dtype, &one, 0, x);
    return heed__number_get(dtype, &one, 0);
}

static void sampled_probabilities(double *x, const heed_type *type)
{
    const int64_t count = heed_type_count(type), n = type->rank ? type->dims[type->rank - 1] : 1;

    for (int64_t row = 0; n > 0 && row < count; row += n) {
        double sum = 0;

        for (int64_t i = 0; i < n; i++)
            sum += x[row + i] = exp(x[row + i]);
        for (int64_t i = 0; i < n; i++)
            x[row + i] /= sum;
    }
}

static void sampled_numbers(double *x, const heed_type *type, const sample_in *in, double scale, const rng *r)
{
    const int64_t count = heed_type_count(type);
    const double apart = fmax(0.01, fmin(0.5, 8.0 / (double)(count ? count : 1)));
    const bool is_float = DTYPE_BIT(type->dtype) & FLOATS;
    int64_t *order = NULL;

    if (in->fill == FILL_DISTINCT) {
        order = trial_memory((size_t)count, sizeof *order);
        heed__shuffle(order, count, r);
    }
    for (int64_t i = 0; i < count; i++) {
        uint32_t w[4];
        double normal;

        heed__rng_quad(w, r, (uint32_t)i, 0);
        normal = heed__normal_f64(w[0], w[1]);
        switch (in->fill) {
        case FILL_NORMAL:
            x[i] = is_float ? normal * scale : floor(normal * 3);
            break;
        case FILL_POSITIVE:
            x[i] = (0.1 + fabs(normal)) * scale;
            break;
        case FILL_INDEX:
            x[i] = in->n > 0 ? (double)(w[2] % (uint64_t)in->n) : 0;
            break;
        case FILL_LENGTHS:
            x[i] = (double)(w[2] % ((uint64_t)in->n + 1));
            break;
        case FILL_MASK:
            x[i] = w[2] % 4 != 0;
            break;
        case FILL_DISTINCT:
            x[i] = ((double)order[i] - (double)count / 2 + 0.4) * apart;
            break;
        case FILL_UNIT:
            x[i] = 0.9 * (2 * (double)heed__unit(w[2]) - 1);
            break;
        case FILL_ALPHA:
            x[i] = 1.1 + 0.9 * (double)heed__unit(w[2]);
            break;
        case FILL_RNG:
            x[i] = i ? 3 : 20261;
            break;
        case FILL_PROBABILITY:
            x[i] = normal;
            break;
        }
        if (type->dtype == HEED_BOOL)
            x[i] = w[2] % 4 != 0;
    }
    if (in->fill == FILL_PROBABILITY)
        sampled_probabilities(x, type);
    free(order);
}

/* Row 0 again in all rows of axis 0. */
static void sampled_repeat(double *x, const heed_type *type)
{
    const int64_t count = heed_type_count(type), n = type->dims[0] ? count / type->dims[0] : 0;

    for (int64_t i = n; i < count; i++)
        x[i] = x[i % n];
}

static bool sampled_repeats(const sampled *s, int i)
{
    return s->repeats >> i & 1 && s->type[i].rank > 0 && s->type[i].dims[0] > 1;
}

void sampled_fill(sampled *s)
{
    const double scale = s->sample->scale != 0 ? s->sample->scale : 1;

    for (int i = 0; i < s->n; i++) {
        char path[64];
        rng r;

        free(s->x[i]);
        s->x[i] = NULL;
        if (s->type[i].rank < 0)
            continue;
        snprintf(path, sizeof path, "sample.%d", i);
        r = heed__rng(SAMPLED_SEED, (uint32_t)s->index, path);
        s->x[i] = trial_memory((size_t)heed_type_count(&s->type[i]), sizeof(double));
        sampled_numbers(s->x[i], &s->type[i], &s->given[i], scale, &r);
        if (sampled_repeats(s, i))
            sampled_repeat(s->x[i], &s->type[i]);
        for (int64_t k = 0; s->given[i].dtype == HEED_F32 && k < heed_type_count(&s->type[i]); k++)
            s->x[i][k] = sampled_round(sampled_tested(s, i) ? s->rounded : HEED_F32, s->x[i][k]);
    }
}

void sampled_open(sampled *s, const op_def *op, int index)
{
    *s = (sampled){ .op = op, .sample = &op->samples[index], .index = index, .dtype = HEED_F32, .rounded = HEED_F32 };
    s->given = heed__sample_inputs(s->sample);
    while (s->n < (s->sample->all ? SAMPLED_IN : SAMPLE_IN_MAX) && s->given[s->n].given)
        s->n++;
    for (int i = 0; i < s->n; i++) {
        const sample_in *in = &s->given[i];

        s->type[i] = (heed_type){ .dtype = in->dtype, .rank = in->rank };
        for (int k = 0; k < HEED_MAX_RANK; k++)
            s->type[i].dims[k] = in->dims[k];
    }
    sampled_fill(s);
}

static void sampled_forget(sampled *s)
{
    for (int i = 0; i < OP_OUT_MAX; i++) {
        free(s->up[i]);
        s->up[i] = NULL;
    }
    for (int i = 0; i < SAMPLED_IN; i++) {
        free(s->v[i]);
        s->v[i] = NULL;
    }
}

void sampled_close(sampled *s)
{
    sampled_forget(s);
    for (int i = 0; i < SAMPLED_IN; i++)
        free(s->x[i]);
    *s = (sampled){ 0 };
}

static double *sampled_random(const sampled *s, const heed_type *type, const char *what, int i)
{
    const sample_in normal = { .fill = FILL_NORMAL };
    const heed_type as = { HEED_F64, type->rank, { 0 } };
    heed_type full = as;
    double *made = trial_memory((size_t)heed_type_count(type), sizeof *made);
    char path[64];
    rng r;

    memcpy(full.dims, type->dims, sizeof full.dims);
    snprintf(path, sizeof path, "%s.%d", what, i);
    r = heed__rng(SAMPLED_SEED, (uint32_t)s->index, path);
    sampled_numbers(made, &full, &normal, 1, &r);
    for (int64_t k = 0; k < heed_type_count(type); k++)
        made[k] = sampled_round(s->rounded, made[k]);
    return made;
}

/* ---- the graph ---- */

/* The type in which input i lies in memory. */
static heed_type sampled_raw(const sampled *s, int i)
{
    heed_type raw = s->type[i];

    raw.dtype = sampled_dtype(s, i, s->dtype);
    if (raw.rank == 0)
        return raw;
    if (sampled_repeats(s, i))
        raw.dims[0] = 1;
    else if (s->arrives == ARRIVE_PERMUTED)
        for (int k = 0; k < raw.rank; k++)
            raw.dims[k] = s->type[i].dims[raw.rank - 1 - k];
    else if (s->arrives == ARRIVE_SPREAD)
        raw.dims[raw.rank - 1] = 2 * raw.dims[raw.rank - 1] + 1;
    else if (s->arrives == ARRIVE_WITHIN)
        raw.dims[0] += 2;
    return raw;
}

static heed_value sampled_arrive(const sampled *s, heed_builder *b, int i, heed_value raw)
{
    const heed_type *type = &s->type[i];

    if (type->rank == 0 && s->arrives != ARRIVE_OWNED)
        return raw;
    if (sampled_repeats(s, i))
        return heed_broadcast(b, raw, type->rank, type->dims);
    if (s->arrives == ARRIVE_PERMUTED) {
        int axes[HEED_MAX_RANK];

        for (int k = 0; k < type->rank; k++)
            axes[k] = type->rank - 1 - k;
        return heed_permute(b, raw, axes);
    }
    if (s->arrives == ARRIVE_SPREAD)
        return heed_slice(b, raw, type->rank - 1, 1, 2 * type->dims[type->rank - 1] + 1, 2);
    if (s->arrives == ARRIVE_WITHIN)
        return heed_slice(b, raw, 0, 1, type->dims[0] + 1, 1);
    if (s->arrives == ARRIVE_OWNED && DTYPE_BIT(heed_value_type(b, raw).dtype) & FLOATS)
        return heed_neg(b, heed_neg(b, raw));
    return raw;
}

/* An op that gives floats made from floats and lets no gradient through, other than stop_grad itself. */
static const char *sampled_blocker(const heed_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        bool from = false, to = false;

        if (!(n->op->flags & OP_NO_GRAD) || n->op->flags & OP_LEAF || strcmp(n->op->name, "stop_grad") == 0)
            continue;
        for (int j = 0; j < n->n_in; j++)
            from |= n->in[j].id && DTYPE_BIT(heed__value(g, n->in[j])->type.dtype) & FLOATS;
        for (int j = 0; j < n->n_out; j++)
            to |= (DTYPE_BIT(heed__value(g, heed__out(n, j))->type.dtype) & FLOATS) != 0;
        if (from && to)
            return n->op->name;
    }
    return NULL;
}

static heed_value sampled_input(heed_builder *b, const char *what, int i, heed_type type)
{
    char name[32];

    snprintf(name, sizeof name, "%s%d", what, i);
    return heed_input(b, name, type);
}

static void sampled_output(heed_builder *b, const char *what, int i, heed_value v)
{
    char name[32];

    snprintf(name, sizeof name, "%s%d", what, i);
    heed_output(b, name, v);
}

void sampled_build(heed_builder *b, void *user)
{
    sampled *s = user;
    heed_value in[SAMPLED_IN] = { { 0 } }, out[OP_OUT_MAX], up[OP_OUT_MAX], up_to[OP_OUT_MAX];
    heed_value wrt[SAMPLED_IN + OP_OUT_MAX], d[SAMPLED_IN], v[SAMPLED_IN], dd[SAMPLED_IN + OP_OUT_MAX];
    heed_value raw[SAMPLED_IN] = { { 0 } };

    s->n_out = s->n_up = s->n_wrt = 0;
    while (s->op->out[s->n_out].name)
        s->n_out++;
    for (int i = 0; i < s->n; i++)
        if (s->type[i].rank >= 0)
            raw[i] = sampled_input(b, "x", i, sampled_raw(s, i));
    for (int i = 0; i < s->n; i++)
        if (s->type[i].rank >= 0)
            in[i] = sampled_arrive(s, b, i, raw[i]);
    heed__nodes(b, s->op, s->sample->attrs, in, s->n, out);
    if (heed__poisoned(b))
        return;
    for (int i = 0; i < s->n_out; i++) {
        if (!sampled_makes(s, i))
            out[i] = in[0]; /* keeps the numbers of the others */
        s->out[i] = heed_value_type(b, out[i]);
        sampled_output(b, "y", i, out[i]);
    }
    for (int i = 0; i < s->n; i++)
        if (sampled_slot(s->op, i) && sampled_slot(s->op, i)->flags & DIFFERENTIABLE && sampled_tested(s, i) &&
            !(s->op->flags & OP_NO_GRAD))
            s->wrt[s->n_wrt++] = i;
    for (int i = 0; i < s->n_out && s->n_wrt > 0; i++)
        if (DTYPE_BIT(s->out[i].dtype) & FLOATS)
            s->up_of[s->n_up++] = i;
    if (s->order < 1 || s->n_wrt == 0 || s->n_up == 0)
        return;

    for (int i = 0; i < s->n_up; i++) {
        up_to[i] = out[s->up_of[i]];
        up[i] = sampled_input(b, "up", i, s->out[s->up_of[i]]);
        if (!s->up[i])
            s->up[i] = sampled_random(s, &s->out[s->up_of[i]], "up", i);
    }
    for (int i = 0; i < s->n_wrt; i++)
        wrt[i] = in[s->wrt[i]];
    heed_grad_of(b, up_to, up, s->n_up, wrt, s->n_wrt, d);
    for (int i = 0; i < s->n_wrt; i++)
        sampled_output(b, "d", i, d[i]);
    if (heed__poisoned(b))
        return;
    s->lacks = sampled_blocker(heed__building(b));
    if (s->order < 2 || s->lacks)
        return;

    for (int i = 0; i < s->n_wrt; i++) {
        v[i] = sampled_input(b, "v", i, heed_value_type(b, d[i]));
        if (!s->v[i])
            s->v[i] = sampled_random(s, &s->type[s->wrt[i]], "v", i);
    }
    for (int i = 0; i < s->n_up; i++)
        wrt[s->n_wrt + i] = up[i];
    heed_grad_of(b, d, v, s->n_wrt, wrt, s->n_wrt + s->n_up, dd);
    for (int i = 0; i < s->n_wrt + s->n_up; i++)
        sampled_output(b, "dd", i, dd[i]);
}

/* ---- handing over ---- */

/* Place in raw memory of element k. */
static int64_t sampled_place(const sampled *s, int i, const heed_type *raw, int64_t k)
{
    const heed_type *type = &s->type[i];
    int64_t at[HEED_MAX_RANK], place = 0;

    for (int a = type->rank; a-- > 0; k /= type->dims[a])
        at[a] = k % type->dims[a];
    for (int a = 0; a < type->rank; a++) {
        int64_t x = at[a];

        if (sampled_repeats(s, i))
            x = a == 0 ? 0 : x;
        else if (s->arrives == ARRIVE_PERMUTED)
            x = at[type->rank - 1 - a];
        else if (s->arrives == ARRIVE_SPREAD && a == type->rank - 1)
            x = 2 * x + 1;
        else if (s->arrives == ARRIVE_WITHIN && a == 0)
            x = x + 1;
        place = place * raw->dims[a] + x;
    }
    return place;
}

void sampled_load(const sampled *s, trial *t)
{
    int at = 0;

    for (int i = 0; i < s->n; i++) {
        heed_type raw;
        double *numbers;

        if (s->type[i].rank < 0)
            continue;
        raw = sampled_raw(s, i);
        numbers = trial_memory((size_t)heed_type_count(&raw), sizeof *numbers);
        for (int64_t k = 0; k < heed_type_count(&raw); k++)
            numbers[k] = DTYPE_BIT(raw.dtype) & FLOATS ? NAN : raw.dtype == HEED_BOOL ? 1 : -7777777;
        for (int64_t k = 0; k < heed_type_count(&s->type[i]); k++)
            numbers[sampled_place(s, i, &raw, k)] = s->x[i][k];
        trial_set(t, at++, numbers);
        free(numbers);
    }
    for (int i = 0; i < s->n_up && at < t->n_in; i++)
        trial_set(t, at++, s->up[i]);
    for (int i = 0; i < s->n_wrt && at < t->n_in; i++)
        trial_set(t, at++, s->v[i]);
}

heed_status sampled_try(sampled *s, trial *t, heed_context *ctx, heed_dtype dtype, int order, heed_kernels kernels, heed_error *err)
{
    heed_status st;

    s->dtype = dtype;
    s->order = order;
    st = trial_open(t, ctx, sampled_build, s, &(heed_plan_opts){ .kernels = kernels }, err);
    if (st == HEED_OK)
        sampled_load(s, t);
    return st;
}
