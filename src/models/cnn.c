/* cnn: the ablation of conv-attention. The same stem, positions and blocks, but in place of self-attention
 * each block has one more token-wise layer W2 GELU(W1 x), and the mean over tokens stands for attentive
 * pooling: no token sees another but by convolution. */

#include "models/conv_attention.h"
#include "models/parts.h"

/* x + drop(W2 GELU(W1 LN x)) */
static heed_value branch(heed_builder *b, const char *name, heed_value x, int64_t hidden, float dropout)
{
    const int64_t width = heed_dim(b, x, 2);
    heed_value h;

    heed_scope_push(b, name);
    h = heed_linear(b, "linear1", heed_layer_norm_layer(b, "norm", x, NULL), hidden, NULL);
    h = heed_linear(b, "linear2", heed_gelu(b, h), width, NULL);
    x = heed_add(b, x, heed_dropout_layer(b, "dropout", h, (double)dropout));
    heed_scope_pop(b);
    return x;
}

static heed_value cnn_build(heed_builder *b, const heed_value *inputs, const void *config)
{
    const conv_attention_config *c = config;
    heed_value x = heed__stem_tokens(b, inputs[0], c);
    const int64_t hidden = c->hidden ? c->hidden : 2 * heed_dim(b, x, 2);

    for (int64_t i = 0; i < c->blocks; i++) {
        heed_scope_push(b, heed__numbered(b, "block", i));
        x = branch(b, "mix", x, hidden, c->dropout);
        x = branch(b, "feedforward", x, hidden, c->dropout);
        heed_scope_pop(b);
    }
    x = heed_mean(b, heed_layer_norm_layer(b, "norm", x, NULL), 1u << 1, HEED_DROP_AXES);
    return heed_linear(b, "head", heed_dropout_layer(b, "dropout", x, (double)c->dropout), c->classes, NULL);
}

const heed_architecture heed__model_cnn = {
    .name = "cnn",
    .doc = "conv-attention without attention: its ablation.",
    .fields = heed__conv_attention_fields,
    .config_size = sizeof(conv_attention_config),
    .build = cnn_build,
};
