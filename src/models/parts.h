/* Parts that architectures for pictures share. */
#ifndef MODELS_PARTS_H
#define MODELS_PARTS_H

#include "graph/op.h"
#include "models/models.h"
#include <heed/nn.h>

/* A convolution stem from words: "16 P 32 P 64" is C(16) P C(32) P C(64), where C(o) = conv 3x3, pad 1, no bias -> batch norm ->
 * ReLU and P = max-pool 2x2. x [B,C,H,W]; layers are <name>.0, <name>.1, ... */
heed_value heed__stem(heed_builder *b, const char *name, heed_value x, const char *words);

/* [B,C,H,W] -> [B,H*W,C]. */
heed_value heed__tokens(heed_builder *b, heed_value x);

/* x [B,T,E] + a learned table [T,E] of the given name, begun N(0, 0.02^2). */
heed_value heed__add_positions(heed_builder *b, const char *name, heed_value x);

/* A pre-norm encoder block with GELU, dropout only on the two residual branches. */
heed_value heed__block(heed_builder *b, const char *name, heed_value x, int64_t heads, int64_t hidden, float dropout);

/* "block.3" in the builder's memory. */
const char *heed__numbered(heed_builder *b, const char *name, int64_t i);

#endif
