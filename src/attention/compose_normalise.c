/* w = normalise(z over kept keys); lse = ln of the denominator where there is one.
 *
 *   softmax        e^z / (sum e^z + e^sink)
 *   topk, hard     softmax over the k largest kept z, ties to the lower key; its gradient goes to the chosen ones
 *   sparsemax ...  [(alpha - 1) z - tau]+^(1/(alpha - 1)), sum 1: ops/entmax.c
 *   sigmoid        sigmoid(z + bias), each key for itself
 *   adaptive_span  softmax of z + ln m,  m = clip((ramp + span - |p - j|) / ramp, 0, 1)
 *
 * The largest kept z (and the sink) is taken off before anything rounds. A row that keeps nothing has weights 0 and lse -inf,
 * and no gradient flows from it. */

#include "attention/compose.h"

#include <math.h>

static heed_value minus_inf(const attention_parts *p)
{
    return heed_scalar(p->b, p->dtype, -INFINITY);
}

/* e^z / (sum e^z + e^sink) along the last axis, z = -inf where not kept; the sink may be {0}: it is one key more. w and lse
 * come from nodes of their own, so that the gradients of a large w and of lse are not added before the large part is gone. */
static heed_value softmax(const attention_parts *p, heed_value z, heed_value sink, heed_value *lse)
{
    heed_builder *b = p->b;
    const heed_type t = heed_value_type(b, z);
    const int64_t column[4] = { t.dims[0], t.dims[1], t.dims[2], 1 };
    const heed_value zero = heed_scalar(b, p->dtype, 0);
    const heed_value none = heed_eq(b, heed_stop_grad(b, heed__max_axis(b, z, 3)), minus_inf(p));
    heed_value w;

    if (sink.id)
        z = heed_concat(b, (heed_value[]){ z, heed_broadcast(b, sink, 4, column) }, 2, 3);
    z = heed_select(b, none, zero, z);
    w = heed_softmax(b, z, 3);
    if (sink.id)
        w = heed_slice(b, w, 3, 0, t.dims[3], 1);
    *lse = heed_select(b, none, minus_inf(p), heed_logsumexp(b, z, 3, HEED_KEEP_AXES));
    return heed_select(b, none, zero, w);
}

/* The values chosen, made weights and put back where they stood: row r of n keys has its key j at r n + j. */
static heed_value of_topk(const attention_parts *p, heed_value z, int64_t k, heed_value *lse)
{
    heed_builder *b = p->b;
    const heed_type t = heed_value_type(b, z);
    const int64_t n_rows = t.dims[0] * t.dims[1] * t.dims[2], n = t.dims[3], most = i64_min(k, n);
    heed_value places,
        w = softmax(p, heed_topk(b, z, most, &places), (heed_value){ 0 }, lse);
    heed_value row = heed_iota(b, HEED_TYPE(HEED_I64, n_rows, 1), 0);

    places = heed_add(b, heed_reshape(b, places, 2, (const int64_t[]){ n_rows, most }),
                      heed_mul(b, row, heed_scalar(b, HEED_I64, (double)n)));
    w = heed_scatter_add(b, heed_reshape(b, places, 1, (const int64_t[]){ n_rows * most }),
                         heed_reshape(b, w, 1, (const int64_t[]){ n_rows * most }), 0, n_rows * n);
    return heed_reshape(b, w, 4, t.dims);
}

/* At the kinks of clip the derivative is 0, so x itself is taken strictly between them only. */
static heed_value of_span(const attention_parts *p, heed_value z, heed_value *lse)
{
    heed_builder *b = p->b;
    const heed_value zero = heed_scalar(b, p->dtype, 0), one = heed_scalar(b, p->dtype, 1);
    const heed_value far = heed_abs(b, heed_cast(b, p->distance, p->dtype));
    heed_value x = heed_sub(b, heed_add_scalar(b, heed__per_head(b, p->in[AT_SPAN]), p->attrs->ramp), far), m;

    x = heed_div(b, x, heed_scalar(b, p->dtype, p->attrs->ramp));
    m = heed_select(b, heed_and(b, heed_gt(b, x, zero), heed_lt(b, x, one)), x,
                    heed_stop_grad(b, heed_max(b, heed_min(b, x, one), zero)));
    z = heed_add(b, z, heed_log(b, heed_select(b, heed_gt(b, m, zero), m, one)));
    z = heed_select(b, heed_gt(b, m, zero), z, minus_inf(p));
    return softmax(p, z, (heed_value){ 0 }, lse);
}

static heed_value of_entmax(const attention_parts *p, heed_value z)
{
    const attention_attrs *a = p->attrs;
    const heed_type t = { .dtype = p->dtype };
    heed_value alpha = p->in[AT_ALPHA];

    if (!alpha.id)
        alpha = heed_full(p->b, t,
                          a->normaliser == HEED_NORMALISER_SPARSEMAX  ? 2
                          : a->normaliser == HEED_NORMALISER_ENTMAX15 ? 1.5
                                                                      : a->alpha);
    else
        alpha = heed__per_head(p->b, alpha);
    return heed__entmax(p->b, z, alpha);
}

static heed_value of_sigmoid(const attention_parts *p, heed_value z)
{
    heed_builder *b = p->b;

    if (p->in[AT_SIGMOID_BIAS].id)
        z = heed_add(b, z, heed__per_head(b, p->in[AT_SIGMOID_BIAS]));
    else if (p->attrs->bias != 0)
        z = heed_add_scalar(b, z, p->attrs->bias);
    return heed__zero_unless(b, p->keep, heed_sigmoid(b, z));
}

static heed_value of_softmax(const attention_parts *p, heed_value z, heed_value *lse)
{
    const int64_t dims[4] = { 1, 1, 1, 1 };
    heed_value sink = { 0 };

    if (p->in[AT_SINK].id)
        sink = heed__per_head(p->b, p->in[AT_SINK]);
    else if (p->attrs->plus_one)
        sink = heed_full(p->b, heed_type_of(p->dtype, 4, dims), 0);
    return softmax(p, z, sink, lse);
}

heed_value heed__attention_normalise(const attention_parts *p, heed_value z, heed_value *lse)
{
    heed_builder *b = p->b;
    const int64_t n_rows[4] = { p->batch, p->heads, p->tq, 1 };
    heed_type t = heed_value_type(b, z);

    *lse = heed_full(b, heed_type_of(p->dtype, 4, n_rows), -INFINITY);
    if (p->tk == 0)
        return heed__zeros(b, &t);
    if (p->attrs->normaliser == HEED_NORMALISER_SIGMOID)
        return of_sigmoid(p, z);
    if (p->keep.id)
        z = heed_select(b, p->keep, z, minus_inf(p));
    switch ((heed_normaliser_kind)p->attrs->normaliser) {
    case HEED_NORMALISER_TOPK:
        return of_topk(p, z, p->attrs->k, lse);
    case HEED_NORMALISER_HARD:
        return of_topk(p, z, 1, lse);
    case HEED_NORMALISER_ADAPTIVE_SPAN:
        return of_span(p, z, lse);
    case HEED_NORMALISER_SPARSEMAX:
    case HEED_NORMALISER_ENTMAX15:
    case HEED_NORMALISER_ENTMAX:
        return of_entmax(p, z);
    default:
        return of_softmax(p, z, lse);
    }
}
