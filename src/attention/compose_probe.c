/* Probes of reported weights w [B,Hq,Tq,Tk]; heed/attention.h says what each is. They have no gradient. */

#include "attention/attention.h"

heed_value heed__probe_rows(heed_builder *b, heed_value w, heed_value list, heed_value heads)
{
    if (list.id)
        w = heed_gather(b, w, list, 2);
    return heads.id ? heed_gather(b, w, heads, 1) : w;
}

/* Only weights above 0 are listed; the rest is (0, -1). */
heed_value heed__probe_topk(heed_builder *b, heed_value w, int64_t k, heed_value *indices)
{
    const heed_type t = heed_value_type(b, w);
    const int64_t most = i64_min(k, t.dims[3]);
    heed_value places, values = heed_topk(b, w, most, &places), listed;

    listed = heed_gt(b, values, heed_scalar(b, t.dtype, 0));
    values = heed_select(b, listed, values, heed_scalar(b, t.dtype, 0));
    places = heed_select(b, listed, places, heed_scalar(b, HEED_I64, -1));
    *indices = most < k ? heed_pad(b, places, 3, 0, k - most, -1) : places;
    return most < k ? heed_pad(b, values, 3, 0, k - most, 0) : values;
}

/* n cells in blocks of `by` along an axis of size 1 elsewhere: how many each block has. */
static heed_value block_cells(heed_builder *b, heed_dtype dtype, int axis, int64_t n, int64_t by)
{
    int64_t dims[4] = { 1, 1, 1, 1 };
    heed_value left;

    dims[axis] = i64_ceil_div(n, by);
    left = heed_iota(b, heed_type_of(dtype, 4, dims), axis);
    left = heed_add_scalar(b, heed_mul_scalar(b, left, (double)-by), (double)n);
    return heed_min(b, left, heed_scalar(b, dtype, (double)by));
}

/* A block larger than the whole is the whole: so that little is padded. */
heed_value heed__probe_pooled(heed_builder *b, heed_value w, int64_t q, int64_t k)
{
    const heed_type t = heed_value_type(b, w);

    q = i64_min(q, i64_max(1, t.dims[2]));
    k = i64_min(k, i64_max(1, t.dims[3]));
    const int64_t nq = i64_ceil_div(t.dims[2], q), nk = i64_ceil_div(t.dims[3], k);
    heed_value sum;

    w = heed_pad(b, heed_pad(b, w, 2, 0, nq * q - t.dims[2], 0), 3, 0, nk * k - t.dims[3], 0);
    w = heed_reshape(b, w, 6, (const int64_t[]){ t.dims[0], t.dims[1], nq, q, nk, k });
    sum = heed_sum(b, w, 1u << 3 | 1u << 5, HEED_DROP_AXES);
    return heed_div(
        b, sum,
        heed_mul(b, block_cells(b, t.dtype, 2, t.dims[2], q), block_cells(b, t.dtype, 3, t.dims[3], k)));
}

heed_value heed__probe_received(heed_builder *b, heed_value w)
{
    return heed_sum(b, w, 1u << 2, HEED_DROP_AXES);
}

heed_value heed__probe_mean(heed_builder *b, heed_value w)
{
    /* Heads as the last axis: the order of a cell's sum then knows nothing of how many rows there are. */
    return heed_mean(b, heed_transpose(b, heed_transpose(b, w, 1, 2), 2, 3), 1u << 3, HEED_DROP_AXES);
}

heed_value heed__probe_entropy(heed_builder *b, heed_value w)
{
    const heed_dtype dtype = heed_value_type(b, w).dtype;
    const heed_value zero = heed_scalar(b, dtype, 0), some = heed_gt(b, w, zero);
    heed_value ln = heed_log(b, heed_select(b, some, w, heed_scalar(b, dtype, 1)));

    return heed_neg(b, heed_sum(b, heed_mul(b, w, ln), 1u << 3, HEED_DROP_AXES));
}

heed_value heed__probe_distance(heed_builder *b, heed_value w, heed_value distance)
{
    const heed_value far = heed_cast(b, heed_abs(b, distance), heed_value_type(b, w).dtype);

    return heed_sum(b, heed_mul(b, w, far), 1u << 3, HEED_DROP_AXES);
}
