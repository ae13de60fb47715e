/* logsumexp: ln sum_j exp(x_j) along one axis = m + ln sum_j exp(x_j - m), m = max_j x_j.
 *
 * A composition. m is taken as 0 where it is infinite, so that infinities do not meet; a slice of -inf
 * alone gives -inf, and no gradient flows into it (PyTorch gives NaN there, of which nobody has use). */

#include "ops/ops.h"

#include <math.h>

heed_value heed_logsumexp(heed_builder *b, heed_value x, int axis, heed_keep keep)
{
    const int at = heed__axis(b, x, axis);
    const heed_dtype d = heed_value_type(b, x).dtype;
    heed_value zero = heed_scalar(b, d, 0), infinity = heed_scalar(b, d, INFINITY);
    heed_value m = heed_stop_grad(b, heed__max_axis(b, x, at));
    heed_value sum, empty, y;

    m = heed_select(b, heed_eq(b, heed_abs(b, m), infinity), zero, m);
    sum = heed__sum_axis(b, heed_exp(b, heed_sub(b, x, m)), at);
    empty = heed_eq(b, sum, zero);
    y = heed_add(b, m, heed_log(b, heed_select(b, empty, heed_scalar(b, d, 1), sum)));
    y = heed_select(b, empty, heed_neg(b, infinity), y);
    return keep == HEED_KEEP_AXES ? y : heed_squeeze(b, y, at);
}
