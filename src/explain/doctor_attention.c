/* Rules that read the nodes of attention in the graph, without running anything.
 *
 * The factor of a value is what it was multiplied by, walking back over what changes nothing else: views, casts, turns of
 * rope, rows set to zero, products with a constant. A score f_q q . f_k k, times scale, divided by the temperature, has
 *
 *   total = f_q f_k scale      should be 1/sqrt(d);  total / temperature = 1/d is the scale twice
 *
 * A distance has slope -scale (or what it was multiplied by before a softmax made by hand): above 0 the farthest key wins. */

#include "attention/attention.h"
#include "explain/doctor_build.h"
#include "graph/number.h"

#include <math.h>

/* ---- constants and factors ---- */

/* The number that all elements of v have, when it is known without running. */
static bool constant_of(double *to, const heed_graph *g, heed_value v)
{
    const heed_value from = heed__doctor_source(g, v);
    const heed_type *t = &heed__value(g, from)->type;
    const void *data = heed__constant_data(g, from);
    const node *n = heed__maker(g, from);

    if (n->op == &heed__op_sqrt && constant_of(to, g, n->in[0])) {
        *to = sqrt(*to);
        return true;
    }
    if (!data || heed_type_count(t) < 1 || !(DTYPE_BIT(t->dtype) & FLOATS))
        return false;
    *to = heed__number_get(t->dtype, data, 0);
    for (int64_t i = 1; i < heed_type_count(t); i++)
        if (fabs(heed__number_get(t->dtype, data, i) - *to) > 0)
            return false;
    return true;
}

/* One step back over a product or quotient with a constant, a sign, or a choice between v and a constant. */
static bool step_back(const heed_graph *g, heed_value *v, double *factor)
{
    const node *n = heed__maker(g, *v);
    double c;

    if (n->op == &heed__op_rope) {
        *v = n->in[0];
        return true;
    }
    if (n->op == &heed__op_neg) {
        *factor = -*factor;
        *v = n->in[0];
        return true;
    }
    if (n->op == &heed__op_select && constant_of(&c, g, n->in[2])) {
        *v = n->in[1];
        return true;
    }
    if (n->op == &heed__op_select && constant_of(&c, g, n->in[1])) {
        *v = n->in[2];
        return true;
    }
    if ((n->op == &heed__op_mul || n->op == &heed__op_div) && constant_of(&c, g, n->in[1])) {
        *factor = n->op == &heed__op_mul ? *factor * c : *factor / c;
        *v = n->in[0];
        return true;
    }
    if (n->op == &heed__op_mul && constant_of(&c, g, n->in[0])) {
        *factor *= c;
        *v = n->in[1];
        return true;
    }
    return false;
}

/* What is left of v without its factor. */
static heed_value without_factor(const heed_graph *g, heed_value v, double *factor)
{
    do
        v = heed__doctor_source(g, v);
    while (step_back(g, &v, factor));
    return v;
}

/* ---- scales ---- */

/* Divided by its own length: cosine. */
static bool is_unit(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, v);

    return n->op == &heed__op_div && heed__maker(g, heed__doctor_source(g, n->in[1]))->op == &heed__op_sqrt;
}

/* Multiplied by a learned matrix of each head: the general score, whose size is learned. */
static bool is_general(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, v);
    const heed_value by = n->op == &heed__op_matmul ? heed__doctor_source(g, n->in[1]) : (heed_value){ 0 };

    return by.id && heed__maker(g, by)->op == &heed__op_param && heed__value(g, by)->type.rank == 3;
}

static heed_status say_scale(doctor *d, const heed_graph *g, const node *n)
{
    const attention_attrs *a = n->attrs;
    const double width = (double)heed__value(g, n->in[AT_Q])->type.dims[3],
                 keys = (double)heed__value(g, n->in[AT_K])->type.dims[2];
    double by = 1, total, twice;
    char place[192];
    heed_value q, k;

    q = without_factor(g, n->in[AT_Q], &by);
    k = without_factor(g, n->in[AT_K], &by);
    if (a->score != ATTENTION_DOT || width < 1 || is_unit(g, k) || is_general(g, q))
        return HEED_OK;
    heed__doctor_looked(d, RULE_ATTENTION_SCALE);
    heed__doctor_looked(d, RULE_SCALE_TWICE);
    (void)heed__doctor_place(place, g, n);
    total = by * a->scale;
    twice = total / a->temperature * width;
    if (width > 1 && fabs(twice - 1) <= d->threshold[RULE_SCALE_TWICE] &&
        (fabs(by - 1) > 0.01 || fabs(a->temperature - 1) > 0.01))
        return heed__doctor_find(
            d, RULE_SCALE_TWICE, twice, place,
            "q and k are multiplied by %.4g, scores by %.4g and divided by %.4g: 1/%.0f in all", by, a->scale,
            a->temperature, width);
    if (fabs(total * sqrt(width) - 1) <= d->threshold[RULE_ATTENTION_SCALE])
        return HEED_OK;
    if (keys > 1 && fabs(total * sqrt(width * keys) - 1) <= d->threshold[RULE_ATTENTION_SCALE])
        return heed__doctor_find(
            d, RULE_ATTENTION_SCALE, total * sqrt(width), place,
            "scores are scaled by %.4g, which is 1/sqrt(d T) with T = %.0f keys: rows become nearly "
            "uniform; 1/sqrt(%.0f) is %.4g",
            total, keys, width, 1 / sqrt(width));
    return heed__doctor_find(d, RULE_ATTENTION_SCALE, total * sqrt(width), place,
                             "scores are scaled by %.4g; 1/sqrt(%.0f) is %.4g", total, width,
                             1 / sqrt(width));
}

/* ---- distances ---- */

#define DEEPEST 16 /* terms of a sum that are followed into each other */

static bool is_broadcast(const heed_graph *g, heed_value v)
{
    return heed__maker(g, v)->op == &heed__op_broadcast;
}

/* |q - k|, |q - k|^2 or their sum over features, each q meeting each k. */
static bool is_distance(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, heed__doctor_source(g, v)), *x;

    for (int i = 0; i < 3 && (n->op == &heed__op_sqrt || n->op == &heed__op_sum); i++)
        n = heed__maker(g, heed__doctor_source(g, n->in[0]));
    if (n->op == &heed__op_add) { /* sqrt(.. + epsilon) */
        double c;

        if (!constant_of(&c, g, n->in[1]))
            return false;
        n = heed__maker(g, heed__doctor_source(g, n->in[0]));
        for (int i = 0; i < 2 && n->op == &heed__op_sum; i++)
            n = heed__maker(g, heed__doctor_source(g, n->in[0]));
    }
    if (n->op != &heed__op_abs && !(n->op == &heed__op_mul && n->in[0].id == n->in[1].id))
        return false;
    x = heed__maker(g, heed__doctor_source(g, n->in[0]));
    return x->op == &heed__op_sub && is_broadcast(g, x->in[0]) && is_broadcast(g, x->in[1]);
}

/* The slope of a distance among the terms of v; 0: there is none. */
static double slope_of(const heed_graph *g, heed_value v, int depth)
{
    double slope = 1, inner;
    const node *n;

    v = without_factor(g, v, &slope);
    if (is_distance(g, v))
        return slope;
    n = heed__maker(g, v);
    if (depth >= DEEPEST || (n->op != &heed__op_add && n->op != &heed__op_sub))
        return 0;
    inner = slope_of(g, n->in[0], depth + 1);
    if (fabs(inner) > 0)
        return slope * inner;
    inner = slope_of(g, n->in[1], depth + 1);
    return n->op == &heed__op_add ? slope * inner : -slope * inner;
}

static heed_status say_distance(doctor *d, const heed_graph *g, const node *n, double slope)
{
    char place[192];

    if (!(fabs(slope) > 0))
        return HEED_OK;
    heed__doctor_looked(d, RULE_DISTANCE_SIGN);
    if (slope <= d->threshold[RULE_DISTANCE_SIGN])
        return HEED_OK;
    return heed__doctor_find(
        d, RULE_DISTANCE_SIGN, slope, heed__doctor_place(place, g, n),
        "scores are %.4g times a distance that is not negated: the farthest key gets the largest weight",
        slope);
}

/* ---- all ---- */

static heed_status say_direction(doctor *d, const heed_graph *g, const node *n)
{
    const attention_attrs *a = n->attrs;
    const heed_doctor_sequences *s = d->c->sequences;
    const int64_t tq = heed__value(g, n->in[AT_Q])->type.dims[2],
                  tk = heed__value(g, n->in[AT_K])->type.dims[2];
    char place[192];

    if (!s || s->direction != HEED_DIRECTION_BOTH_SIDES || tq < 2 || tk < 2)
        return HEED_OK;
    heed__doctor_looked(d, RULE_CAUSAL_ENCODER);
    if (!a->causal && !(a->window && a->right == 0))
        return HEED_OK;
    return heed__doctor_find(d, RULE_CAUSAL_ENCODER, 0, heed__doctor_place(place, g, n),
                             "%s hides every later token, in a model that is said to see both sides",
                             a->causal ? "mask.causal" : "mask.window");
}

heed_status heed__doctor_attention(doctor *d, const heed_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        const attention_attrs *a = n->attrs;

        if (n->op == &heed__op_softmax) {
            TRY(say_distance(d, g, n, slope_of(g, n->in[0], 0)));
        } else if (n->op == &heed__op_linear_attention) {
            TRY(say_direction(d, g, n));
        } else if (n->op == &heed__op_attention) {
            TRY(say_scale(d, g, n));
            TRY(say_direction(d, g, n));
            if (a->score == ATTENTION_DISTANCE || a->score == ATTENTION_SQ_DISTANCE)
                TRY(say_distance(d, g, n, -a->scale));
        }
    }
    return HEED_OK;
}
