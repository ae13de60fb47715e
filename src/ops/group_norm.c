/* group_norm: layer norm over each group of channels with all its places, then weight and bias by channel.
 *
 *   x [B,C,...], weight [C], bias [C]  ->  y like x
 *
 * A composition: [B,C,...] is [B G, C/G ...] to layer_norm. One group an image is layer norm, one a channel
 * instance norm. Wu, He 2018. */

#include "ops/ops.h"
#include <heed/ops.h>

/* [C] as [C,1,...], which broadcasts against x. */
static heed_value group_norm_spread(heed_builder *b, heed_value v, int rank)
{
    int64_t dims[HEED_MAX_RANK] = { heed_value_type(b, v).dims[0], 1, 1, 1, 1, 1, 1, 1 };
    return heed_reshape(b, v, rank - 1, dims);
}

heed_value heed_group_norm(heed_builder *b, heed_value x, int64_t groups, heed_value weight, heed_value bias,
                           double eps)
{
    const heed_type t = heed_value_type(b, x);
    heed_value y;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (t.rank < 2 || groups < 1 || t.dims[1] % groups != 0)
        return heed__poison(
            b, HEED_ERR_SHAPE,
            "group_norm: x [B,C,...] of rank %d with %lld channels does not fall into %lld groups", t.rank,
            t.rank < 2 ? 0LL : (long long)t.dims[1], (long long)groups);
    const int64_t each = t.dims[1] / groups * heed__dims_product(&t, 2, t.rank);
    y = heed_reshape(b, x, 2, (const int64_t[]){ t.dims[0] * groups, each });
    y = heed_layer_norm(b, y, 1, (heed_value){ 0 }, (heed_value){ 0 }, eps);
    y = heed_reshape(b, y, t.rank, t.dims);
    if (weight.id)
        y = heed_mul(b, y, group_norm_spread(b, weight, t.rank));
    return bias.id ? heed_add(b, y, group_norm_spread(b, bias, t.rank)) : y;
}
