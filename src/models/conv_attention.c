/* conv-attention: a convolution stem, its pixels as tokens, self-attention blocks, attentive pooling.
 *   x [B,C,H,W] -> stem [B,d,h,w] -> tokens [B,h*w,d] + positions -> blocks -> layer norm
 *   -> pooling [B,d] -> dropout -> linear
 * Taps: block.N.self_attn.weights [B,heads,T,T], pool.weights [B,T]. */

#include "models/conv_attention.h"

#include "models/parts.h"

const field heed__conv_attention_fields[] = {
    { FIELD_(conv_attention_config, classes, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "10",
      .doc = "number of classes; taken from the data" },
    { FIELD_(conv_attention_config, stem, FIELD_STRING_), .fallback = "16 P 32 P 64",
      .doc = "channels of 3x3 convolutions, P for a 2x2 max-pool; the last is the width" },
    { FIELD_(conv_attention_config, blocks, FIELD_I64_), .min = 0, .max = 1000, .fallback = "1",
      .doc = "encoder blocks" },
    { FIELD_(conv_attention_config, heads, FIELD_I64_), .min = 1, .max = 1024, .fallback = "4",
      .doc = "attention heads; they divide the width" },
    { FIELD_(conv_attention_config, hidden, FIELD_I64_), .min = 0, .max = 1e6,
      .doc = "width inside a block's feed-forward part; 0: twice the width" },
    { FIELD_(conv_attention_config, dropout, FIELD_F32_), .min = 0, .max = 0.99, .fallback = "0.1",
      .doc = "on each residual branch and before the head" },
    FIELD_END,
};

heed_value heed__stem_tokens(heed_builder *b, heed_value x, const conv_attention_config *c)
{
    return heed__add_positions(b, "pos", heed__tokens(b, heed__stem(b, "stem", x, c->stem)));
}

static heed_value conv_attention_build(heed_builder *b, const heed_value *inputs, const void *config)
{
    const conv_attention_config *c = config;
    heed_value x = heed__stem_tokens(b, inputs[0], c);
    const int64_t hidden = c->hidden ? c->hidden : 2 * heed_dim(b, x, 2);

    for (int64_t i = 0; i < c->blocks; i++)
        x = heed__block(b, heed__numbered(b, "block", i), x, c->heads, hidden, c->dropout);
    x = heed_attention_pool(b, "pool", heed_layer_norm_layer(b, "norm", x, NULL), (heed_value){ 0 });
    return heed_linear(b, "head", heed_dropout_layer(b, "dropout", x, (double)c->dropout), c->classes, NULL);
}

const heed_architecture heed__model_conv_attention = {
    .name = "conv-attention",
    .doc = "A convolution stem, self-attention over its pixels, attentive pooling.",
    .fields = heed__conv_attention_fields,
    .config_size = sizeof(conv_attention_config),
    .build = conv_attention_build,
};
