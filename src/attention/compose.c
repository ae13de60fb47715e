/* The core composed of primitives: inputs as they are used, and the order of the stages. */

#include "attention/compose.h"

/* i64 [B] as [B,1,1,1]. */
static heed_value by_sequence(heed_builder *b, heed_value x)
{
    return heed_reshape(b, x, 4, (const int64_t[]){ heed_dim(b, x, 0), 1, 1, 1 });
}

heed_value heed__positions(heed_builder *b, int axis, int64_t n)
{
    int64_t dims[4] = { 1, 1, 1, 1 };

    dims[axis] = n;
    return heed_iota(b, heed_type_of(HEED_I64, 4, dims), axis);
}

heed_value heed__per_head(heed_builder *b, heed_value x)
{
    return heed_reshape(b, x, 4, (const int64_t[]){ 1, heed_dim(b, x, 0), 1, 1 });
}

heed_value heed__zero_unless(heed_builder *b, heed_value keep, heed_value x)
{
    return keep.id ? heed_select(b, keep, x, heed_scalar(b, heed_value_type(b, x).dtype, 0)) : x;
}

heed_value heed__within(heed_builder *b, heed_value lengths, int axis, int64_t n)
{
    return heed_lt(b, heed__positions(b, axis, n), by_sequence(b, lengths));
}

heed_value heed__bounded_offset(heed_builder *b, heed_value offset)
{
    const heed_value most = heed_scalar(b, HEED_I64, (double)heed__attention_offset(INT64_MAX));

    return heed_max(b, heed_min(b, offset, most), heed_neg(b, most));
}

heed_value heed__repeat_heads(heed_builder *b, heed_value x, int64_t heads)
{
    const heed_type t = heed_value_type(b, x);
    const int64_t times = t.dims[1] ? heads / t.dims[1] : 1;

    if (times == 1)
        return x;
    x = heed_broadcast(b, heed_unsqueeze(b, x, 2), 5,
                       (const int64_t[]){ t.dims[0], t.dims[1], times, t.dims[2], t.dims[3] });
    return heed_reshape(b, x, 4, (const int64_t[]){ t.dims[0], heads, t.dims[2], t.dims[3] });
}

attention_parts heed__attention_parts(heed_builder *b, const attention_attrs *a, const heed_value *in, int n)
{
    const heed_type q = heed_value_type(b, in[AT_Q]);
    attention_parts p = { .b = b,
                          .attrs = a,
                          .dtype = heed__sum_dtype(q.dtype),
                          .batch = q.dims[0],
                          .heads = q.dims[1],
                          .tq = q.dims[2],
                          .tk = heed_dim(b, in[AT_K], 2) };
    heed_value within = { 0 }, at;

    for (int i = 0; i < AT_INPUTS && i < n; i++)
        p.in[i] = in[i].id && DTYPE_BIT(heed_value_type(b, in[i]).dtype) & FLOATS
                      ? heed__as(b, in[i], p.dtype)
                      : in[i];
    if (p.in[AT_LENGTHS].id) /* [B,1,Tk,1]: rows of k and v */
        within = heed__within(b, p.in[AT_LENGTHS], 2, p.tk);
    if (p.in[AT_Q_LENGTHS].id)
        p.rows = heed__within(b, p.in[AT_Q_LENGTHS], 2, p.tq);
    p.in[AT_Q] = heed__zero_unless(b, p.rows, p.in[AT_Q]);
    p.in[AT_K] = heed__repeat_heads(b, heed__zero_unless(b, within, p.in[AT_K]), p.heads);
    p.in[AT_V] = heed__repeat_heads(b, heed__zero_unless(b, within, p.in[AT_V]), p.heads);
    at = heed__positions(b, 2, p.tq);
    if (p.in[AT_OFFSET].id)
        p.at = heed_add(b, at, by_sequence(b, heed__bounded_offset(b, p.in[AT_OFFSET])));
    else
        p.at = heed_add_scalar(b, at, (double)heed__attention_offset(a->offset));
    p.distance = heed_sub(b, heed__positions(b, 3, p.tk), p.at);
    p.keep = heed__attention_keep(&p);
    return p;
}

heed_value heed__attention_dropped(const attention_parts *p, heed_value w)
{
    const attention_attrs *a = p->attrs;

    if (!(a->dropout > 0))
        return w;
    if (p->in[AT_DROPOUT_KEEP].id)
        return heed_mul_scalar(p->b, heed__zero_unless(p->b, p->in[AT_DROPOUT_KEEP], w),
                               1 / (1 - a->dropout));
    return heed__dropout(p->b, w, p->in[AT_RNG], a->dropout, a->node);
}

/* What nobody asked for: x without rows. */
static heed_value nothing(heed_builder *b, heed_value x)
{
    return heed_slice(b, x, 2, 0, 0, 1);
}

void heed__attention_compose(heed_builder *b, const attention_attrs *a, const heed_value *in, int n,
                             heed_value out[AT_OUTPUTS])
{
    const attention_parts p = heed__attention_parts(b, a, in, n);
    const heed_dtype dtype = heed_value_type(b, in[AT_Q]).dtype;
    heed_value lse, w = heed__attention_normalise(&p, heed__attention_logits(&p), &lse), dropped;

    dropped = heed__attention_dropped(&p, w);
    out[AT_GET_OUT] = heed__as(b, heed__zero_unless(b, p.rows, heed_matmul(b, dropped, p.in[AT_V])), dtype);
    out[AT_GET_LSE] = heed_squeeze(b, lse, 3);
    out[AT_GET_LSE_REST] = heed_full(b, heed_value_type(b, out[AT_GET_LSE]), 0); /* it rounds where it is used */
    out[AT_GET_REL_SUMS] = heed__as(b, heed__attention_rel_sums(&p, dropped), dtype);
    out[AT_GET_WEIGHTS] = heed__as(b, w, dtype);
    out[AT_GET_ROWS] = heed__as(b, heed__probe_rows(b, w, p.in[AT_PROBE_ROWS], p.in[AT_PROBE_HEADS]), dtype);
    if (!a->rows)
        out[AT_GET_ROWS] = nothing(b, out[AT_GET_ROWS]);
    out[AT_GET_TOPK_VALUES] = heed__as(b, heed__probe_topk(b, w, a->topk, &out[AT_GET_TOPK_INDICES]), dtype);
    out[AT_GET_ENTROPY] = heed__probe_entropy(b, w);
    if (!a->entropy)
        out[AT_GET_ENTROPY] = nothing(b, out[AT_GET_ENTROPY]);
    out[AT_GET_DISTANCE] = heed__probe_distance(b, w, p.distance);
    if (!a->distance)
        out[AT_GET_DISTANCE] = nothing(b, out[AT_GET_DISTANCE]);
}
