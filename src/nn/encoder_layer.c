/* A Transformer encoder layer, batch first: torch.nn.TransformerEncoderLayer.
 *   post-norm  x = norm1(x + drop(attn(x)));   x = norm2(x + drop(W2 drop(act(W1 x))))     Vaswani 2017
 *   pre-norm   x = x + drop(attn(norm1(x)));   x = x + drop(W2 drop(act(W1 norm2(x))))     Xiong 2020
 * Names: self_attn.*, linear1, linear2, norm1, norm2. */

#include "nn/nn.h"

static heed_value feed_forward(heed_builder *b, heed_value x, const heed_encoder_layer_opts *o, double p)
{
    heed_value h =
        heed_activate(b, heed_linear(b, "linear1", x, OPT(o, feedforward, 2048), NULL), o->activation);

    if (o->hidden_dropout == HEED_DROP_HIDDEN)
        h = heed_dropout_layer(b, "dropout", h, p);
    return heed_dropout_layer(b, "dropout2", heed_linear(b, "linear2", h, heed_dim(b, x, 2), NULL), p);
}

heed_value heed_encoder_layer(heed_builder *b, const char *name, heed_value x, int64_t heads,
                              const heed_encoder_layer_opts *opts)
{
    static const heed_encoder_layer_opts plain;
    const heed_encoder_layer_opts *o = opts ? opts : &plain;
    const double p = o->dropout.set ? (double)o->dropout.value : 0.1;
    const heed_norm_opts norm = { .eps = o->eps };
    const heed_mha_opts attn = { .spec = o->spec,
                                 .cache = o->cache,
                                 .dropout = o->weights_dropout == HEED_DROP_WEIGHTS ? p : 0 };
    heed_value h;

    heed_scope_push(b, name);
    if (!o->cache)
        x = heed__without_padding(b, x, &o->spec);
    h = o->norm == HEED_PRE_NORM ? heed_layer_norm_layer(b, "norm1", x, &norm) : x;
    x = heed_add(b, x,
                 heed_dropout_layer(b, "dropout1",
                                    heed__attend_rows(b, "self_attn", h, heads, &attn, NULL), p));
    if (o->norm == HEED_PRE_NORM) {
        x = heed_add(b, x, feed_forward(b, heed_layer_norm_layer(b, "norm2", x, &norm), o, p));
    } else {
        x = heed_layer_norm_layer(b, "norm1", x, &norm);
        x = heed_layer_norm_layer(b, "norm2", heed_add(b, x, feed_forward(b, x, o, p)), &norm);
    }
    heed_scope_pop(b);
    return x;
}
