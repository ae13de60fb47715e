/* Losses that are compositions, with PyTorch's formulas. z = x - target:
 *
 *   mse        z^2                     l1    |z|
 *   smooth_l1  z^2 / (2 beta)  where |z| < beta,   |z| - beta/2           elsewhere
 *   huber      z^2 / 2         where |z| <= delta, delta (|z| - delta/2)  elsewhere
 *   bce        (1 - t) x + (1 + (w - 1) t) ln(1 + e^-x),  t the target, w = pos_weight
 *   kl_div     t (ln t - x) where t > 0, else 0
 *
 * The mean is over elements; batch mean divides the sum by the size of axis 0. Cross entropy has a file of
 * its own. */

#include "ops/ops.h"
#include <heed/ops.h>

static heed_value loss_reduce(heed_builder *b, heed_value each, heed_reduction how)
{
    const heed_type t = heed_value_type(b, each);

    switch (how) {
    case HEED_REDUCE_NONE:
        return each;
    case HEED_REDUCE_SUM:
        return heed_sum(b, each, HEED_ALL_AXES, HEED_DROP_AXES);
    case HEED_REDUCE_BATCH_MEAN:
        return heed_mul_scalar(b, heed_sum(b, each, HEED_ALL_AXES, HEED_DROP_AXES),
                               1 / (double)(t.rank > 0 ? t.dims[0] : 1));
    case HEED_REDUCE_MEAN:
    default:
        return heed_mean(b, each, HEED_ALL_AXES, HEED_DROP_AXES);
    }
}

heed_value heed_mse_loss(heed_builder *b, heed_value x, heed_value target, heed_reduction r)
{
    heed_value z = heed_sub(b, x, target);
    return loss_reduce(b, heed_mul(b, z, z), r);
}

heed_value heed_l1_loss(heed_builder *b, heed_value x, heed_value target, heed_reduction r)
{
    return loss_reduce(b, heed_abs(b, heed_sub(b, x, target)), r);
}

heed_value heed_smooth_l1_loss(heed_builder *b, heed_value x, heed_value target, double beta,
                               heed_reduction r)
{
    heed_value z = heed_sub(b, x, target), far = heed_abs(b, z), near;

    if (!(beta >= 0))
        return heed__poison(b, HEED_ERR_LIMIT, "smooth_l1_loss: beta %g is negative", beta);
    if (!(beta > 0))
        return loss_reduce(b, far, r);
    near = heed_mul_scalar(b, heed_mul(b, z, z), 0.5 / beta);
    near = heed_select(b, heed_lt(b, far, heed_scalar(b, heed_value_type(b, far).dtype, beta)), near,
                       heed_add_scalar(b, far, -0.5 * beta));
    return loss_reduce(b, near, r);
}

heed_value heed_huber_loss(heed_builder *b, heed_value x, heed_value target, double delta, heed_reduction r)
{
    heed_value z = heed_sub(b, x, target), far = heed_abs(b, z),
               near = heed_mul_scalar(b, heed_mul(b, z, z), 0.5);

    if (!(delta > 0))
        return heed__poison(b, HEED_ERR_LIMIT, "huber_loss: delta %g is not positive", delta);
    near = heed_select(b, heed_le(b, far, heed_scalar(b, heed_value_type(b, far).dtype, delta)), near,
                       heed_mul_scalar(b, heed_add_scalar(b, far, -0.5 * delta), delta));
    return loss_reduce(b, near, r);
}

heed_value heed_bce_with_logits(heed_builder *b, heed_value x, heed_value target, heed_value pos_weight,
                                heed_reduction r)
{
    heed_value log_rest = heed_softplus(b, heed_neg(b, x)); /* -ln sigmoid(x), finite for any x */

    if (pos_weight.id)
        log_rest = heed_mul(b, log_rest,
                            heed_add_scalar(b, heed_mul(b, heed_add_scalar(b, pos_weight, -1), target), 1));
    return loss_reduce(b, heed_add(b, heed_sub(b, x, heed_mul(b, x, target)), log_rest), r);
}

heed_value heed_kl_div(heed_builder *b, heed_value x, heed_value target, heed_reduction r)
{
    const heed_dtype dtype = heed_value_type(b, target).dtype;
    heed_value zero = heed_scalar(b, dtype, 0), counts = heed_gt(b, target, zero);
    heed_value log_target = heed_log(b, heed_select(b, counts, target, heed_scalar(b, dtype, 1)));

    return loss_reduce(b, heed_select(b, counts, heed_mul(b, target, heed_sub(b, log_target, x)), zero), r);
}
