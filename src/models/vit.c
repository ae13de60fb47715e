/* vit: Vision Transformer. Dosovitskiy 2021.
 *   x [B,C,H,W] -> patches p x p as tokens (a convolution with stride p, or a stem) -> class token in front
 *   -> + positions -> pre-norm blocks -> layer norm -> class token -> linear
 * Taps: block.N.self_attn.weights [B,heads,T,T], token 0 being the class token. */

#include "models/parts.h"

typedef struct vit_config {
    int64_t classes, patch, width, blocks, heads, hidden;
    const char *stem;
    float dropout;
} vit_config;

static const field vit_fields[] = {
    { FIELD_(vit_config, classes, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "10",
      .doc = "number of classes; taken from the data" },
    { FIELD_(vit_config, patch, FIELD_I64_), .min = 1, .max = 1024, .fallback = "4",
      .doc = "side of a patch" },
    { FIELD_(vit_config, width, FIELD_I64_), .min = 1, .max = 1e5, .fallback = "64",
      .doc = "width of a token" },
    { FIELD_(vit_config, blocks, FIELD_I64_), .min = 0, .max = 1000, .fallback = "2",
      .doc = "encoder blocks" },
    { FIELD_(vit_config, heads, FIELD_I64_), .min = 1, .max = 1024, .fallback = "4",
      .doc = "attention heads; they divide the width" },
    { FIELD_(vit_config, hidden, FIELD_I64_), .min = 0, .max = 1e6,
      .doc = "width inside the feed-forward part; 0: twice the width" },
    { FIELD_(vit_config, stem, FIELD_STRING_),
      .doc = "a convolution stem before the patches, as in conv-attention; the patch is then usually 1" },
    { FIELD_(vit_config, dropout, FIELD_F32_), .min = 0, .max = 0.99, .fallback = "0.1",
      .doc = "on each residual branch" },
    FIELD_END,
};

static heed_value vit_build(heed_builder *b, const heed_value *inputs, const void *config)
{
    const vit_config *c = config;
    const int64_t hidden = c->hidden ? c->hidden : 2 * c->width;
    heed_value x = c->stem ? heed__stem(b, "stem", inputs[0], c->stem) : inputs[0], token;

    x = heed__tokens(b, heed_conv2d(b, "patch_embed", x, c->width,
                                    &(heed_conv_layer_opts){ .kernel = { c->patch, c->patch },
                                                             .conv.stride = { c->patch, c->patch } }));
    token = heed_param(b, "cls_token", HEED_TYPE(HEED_F32, 1, 1, c->width),
                       &(heed_init){ .kind = HEED_INIT_NORMAL, .b = 0.02f });
    x = heed_concat(
        b, (heed_value[]){ heed_broadcast(b, token, 3, (int64_t[]){ heed_dim(b, x, 0), 1, c->width }), x }, 2,
        1);
    x = heed__add_positions(b, "pos", x);
    for (int64_t i = 0; i < c->blocks; i++)
        x = heed__block(b, heed__numbered(b, "block", i), x, c->heads, hidden, c->dropout);
    x = heed_squeeze(b, heed_slice(b, heed_layer_norm_layer(b, "norm", x, NULL), 1, 0, 1, 1), 1);
    return heed_linear(b, "head", x, c->classes, NULL);
}

const heed_architecture heed__model_vit = {
    .name = "vit",
    .doc = "A Vision Transformer: patches, class token, encoder blocks.",
    .fields = vit_fields,
    .config_size = sizeof(vit_config),
    .build = vit_build,
};
