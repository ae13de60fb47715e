/* Convolutions: torch.nn.Conv1d, Conv2d, ConvTranspose2d.
 *   x [B,C,(H,)W]; weight [out, C/groups, (Kh,) Kw], transposed [C, out/groups, (Kh,) Kw]; bias [out]
 * weight and bias begin U(+-1/sqrt(fan_in)), fan_in = weight.dims[1] * kernel. padding='same' puts the odd
 * zero behind. */

#include "nn/nn.h"

static heed_value convolve(heed_builder *b, const char *name, heed_value x, int64_t out,
                           const heed_conv_layer_opts *opts, int axes, bool transposed)
{
    static const heed_conv_layer_opts plain;
    const heed_conv_layer_opts *o = opts ? opts : &plain;
    const int64_t in = heed_dim(b, x, 1), groups = o->conv.groups ? o->conv.groups : 1;
    heed_conv_opts conv = o->conv;
    heed_type type = { HEED_F32, axes + 2, { transposed ? in : out, (transposed ? out : in) / groups } };
    int64_t fan_in = type.dims[1];
    heed_value w, bias = { 0 }, y;

    if (heed_rank(b, x) != axes + 2 && x.id)
        return heed__poison(b, HEED_ERR_SHAPE, "%s: a convolution over %d axes takes rank %d, x has rank %d",
                            name, axes, axes + 2, heed_rank(b, x));
    if (in % groups || out % groups)
        return heed__poison(b, HEED_ERR_SHAPE,
                            "%s: %lld groups do not divide %lld input and %lld output channels", name,
                            (long long)groups, (long long)in, (long long)out);
    for (int i = 0; i < axes; i++) {
        const int64_t dilation = conv.dilation[i] ? conv.dilation[i] : 1;

        if (o->same && (transposed || conv.stride[i] > 1))
            return heed__poison(b, HEED_ERR_SPEC, "%s: padding 'same' is for convolutions of stride 1", name);
        type.dims[i + 2] = o->kernel[i] ? o->kernel[i] : 1;
        fan_in *= type.dims[i + 2];
        if (o->same) {
            const int64_t zeros = dilation * (type.dims[i + 2] - 1);

            conv.pad[i] = zeros / 2;
            conv.pad_after[i] = (heed_maybe_i64){ true, zeros - zeros / 2 };
        }
    }
    heed_scope_push(b, name);
    w = heed__nn_weight(b, "weight", type, fan_in, NULL);
    if (o->bias == HEED_BIAS)
        bias = heed__nn_weight(b, "bias", HEED_TYPE(HEED_F32, out), fan_in, NULL);
    y = transposed ? heed_conv_transpose(b, x, w, bias, &conv, o->output_pad)
                   : heed_conv(b, x, w, bias, &conv);
    heed_scope_pop(b);
    return y;
}

heed_value heed_conv1d(heed_builder *b, const char *name, heed_value x, int64_t out,
                       const heed_conv_layer_opts *opts)
{
    return convolve(b, name, x, out, opts, 1, false);
}

heed_value heed_conv2d(heed_builder *b, const char *name, heed_value x, int64_t out,
                       const heed_conv_layer_opts *opts)
{
    return convolve(b, name, x, out, opts, 2, false);
}

heed_value heed_conv_transpose2d(heed_builder *b, const char *name, heed_value x, int64_t out,
                                 const heed_conv_layer_opts *opts)
{
    return convolve(b, name, x, out, opts, 2, true);
}
