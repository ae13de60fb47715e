/* Activations by name, and dropout as a layer: dropout in training, x itself in evaluation. */

#include "nn/nn.h"

heed_value heed_activate(heed_builder *b, heed_value x, heed_activation activation)
{
    static heed_value (*const functions[])(heed_builder *, heed_value) = {
        [HEED_RELU] = heed_relu, [HEED_GELU] = heed_gelu, [HEED_GELU_TANH] = heed_gelu_tanh,
        [HEED_SILU] = heed_silu, [HEED_TANH] = heed_tanh,
    };

    if ((size_t)activation >= sizeof functions / sizeof *functions)
        return heed__poison(b, HEED_ERR_USAGE, "activation %d is not known", (int)activation);
    return functions[activation](b, x);
}

heed_value heed_dropout_layer(heed_builder *b, const char *name, heed_value x, double p)
{
    return heed_get_mode(b) == HEED_TRAIN && p > 0 ? heed_dropout(b, name, x, p) : x;
}
