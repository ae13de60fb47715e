/* Stem, tokens, positions and blocks of picture models: Dosovitskiy 2021 for tokens and positions, recipes
 * in docs/. */

#include "models/parts.h"
#include "base/arena.h"

#include <string.h>

const char *heed__numbered(heed_builder *b, const char *name, int64_t i)
{
    const char *made = heed__poisoned(b) ? ""
                                         : heed__arena_format((arena *)(uintptr_t)&heed__building(b)->arena,
                                                              "%s.%lld", name, (long long)i);

    if (!made)
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for a name");
    return made ? made : "";
}

static heed_value stem_layer(heed_builder *b, const char *name, heed_value x, int64_t channels)
{
    heed_scope_push(b, name);
    x = heed_conv2d(
        b, "conv", x, channels,
        &(heed_conv_layer_opts){ .kernel = { 3, 3 }, .conv.pad = { 1, 1 }, .bias = HEED_NO_BIAS });
    x = heed_relu(b, heed_batch_norm_layer(b, "norm", x, NULL));
    heed_scope_pop(b);
    return x;
}

heed_value heed__stem(heed_builder *b, const char *name, heed_value x, const char *words)
{
    int64_t layer = 0;

    for (const char *at = words; *at && !heed__poisoned(b);) {
        int64_t channels = 0;

        if (*at == ' ') {
            at++;
        } else if (*at == 'P') {
            x = heed_max_pool(b, x, (int64_t[]){ 2, 2 }, NULL);
            at++;
        } else if (*at >= '1' && *at <= '9') {
            while (*at >= '0' && *at <= '9' && channels < 100000)
                channels = 10 * channels + (*at++ - '0');
            x = stem_layer(b, heed__numbered(b, name, layer++), x, channels);
        } else {
            return heed__poison(
                b, HEED_ERR_SPEC,
                "stem \"%.60s\": it is numbers of channels and P for a 2x2 pool, as in \"16 P 32 P 64\"",
                words);
        }
    }
    return x;
}

heed_value heed__tokens(heed_builder *b, heed_value x)
{
    return heed_transpose(b, heed_flatten(b, x, 2, 3), 1, 2);
}

heed_value heed__add_positions(heed_builder *b, const char *name, heed_value x)
{
    const heed_init init = { .kind = HEED_INIT_NORMAL, .b = 0.02f };

    return heed_add(b, x,
                    heed_param(b, name, HEED_TYPE(HEED_F32, heed_dim(b, x, 1), heed_dim(b, x, 2)), &init));
}

heed_value heed__block(heed_builder *b, const char *name, heed_value x, int64_t heads, int64_t hidden,
                       float dropout)
{
    return heed_encoder_layer(b, name, x, heads,
                              &(heed_encoder_layer_opts){ .feedforward = hidden,
                                                          .dropout = HEED_SET(dropout),
                                                          .activation = HEED_GELU,
                                                          .norm = HEED_PRE_NORM,
                                                          .weights_dropout = HEED_KEEP_WEIGHTS,
                                                          .hidden_dropout = HEED_KEEP_HIDDEN });
}
