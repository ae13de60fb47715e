/* linear: y = x W^T + b over the last axis.
 *   x [..., in], weight [out, in], bias [out] -> [..., out]
 * torch.nn.Linear: both begin U(+-1/sqrt(in)). */

#include "nn/nn.h"

heed_value heed__nn_weight(heed_builder *b, const char *name, heed_type type, int64_t fan_in,
                           const heed_init *init)
{
    const float bound = fan_in > 0 ? 1.0f / __builtin_sqrtf((float)fan_in) : 0.0f;

    return heed_param(b, name, type,
                      init ? init : &(heed_init){ .kind = HEED_INIT_UNIFORM, .a = -bound, .b = bound });
}

heed_value heed__nn_constant(heed_builder *b, const char *name, int64_t n, float value)
{
    return heed_param(b, name, HEED_TYPE(HEED_F32, n),
                      &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = value });
}

heed_value heed_linear(heed_builder *b, const char *name, heed_value x, int64_t out,
                       const heed_linear_opts *opts)
{
    const int64_t in = heed_dim(b, x, -1);
    heed_value w, y;

    heed_scope_push(b, name);
    w = heed__nn_weight(b, "weight", HEED_TYPE(HEED_F32, out, in), in, OPT(opts, weight_init, NULL));
    y = heed_matmul(b, x, heed_transpose(b, w, 0, 1));
    if (!opts || opts->bias == HEED_BIAS)
        y = heed_add(b, y,
                     heed__nn_weight(b, "bias", HEED_TYPE(HEED_F32, out), in, OPT(opts, bias_init, NULL)));
    heed_scope_pop(b);
    return y;
}
