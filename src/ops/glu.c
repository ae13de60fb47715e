/* glu: the first half of x along an axis times the sigmoid of the second. A composition. Dauphin et al.
 * 2017. */

#include "ops/ops.h"
#include <heed/ops.h>

heed_value heed_glu(heed_builder *b, heed_value x, int axis)
{
    const int at = heed__axis(b, x, axis);
    const int64_t n = heed_value_type(b, x).dims[at];

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (n % 2 != 0)
        return heed__poison(b, HEED_ERR_SHAPE, "glu halves axis %d, whose size %lld is odd", at,
                            (long long)n);
    return heed_mul(b, heed_slice(b, x, at, 0, n / 2, 1), heed_sigmoid(b, heed_slice(b, x, at, n / 2, n, 1)));
}
