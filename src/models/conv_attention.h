/* What conv-attention and its ablation share. */
#ifndef MODELS_CONV_ATTENTION_H
#define MODELS_CONV_ATTENTION_H

#include "models/models.h"

typedef struct conv_attention_config {
    int64_t classes;
    const char *stem;
    int64_t blocks, heads, hidden;
    float dropout;
} conv_attention_config;

extern const field heed__conv_attention_fields[];

/* Pictures -> tokens with positions [B,T,d]. */
heed_value heed__stem_tokens(heed_builder *b, heed_value x, const conv_attention_config *c);

#endif
