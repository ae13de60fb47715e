/* Attentive pooling: one vector of a sequence, by a learned query.
 *   e_t = query . (key.weight x_t + key.bias) / sqrt(E),   a = softmax(e over kept t),   z = sum_t a_t x_t
 *   x [B,T,E] -> [B,E];  values are x_t itself.
 * One head of the attention operator with one query row, so masks, taps and explanations are those of
 * attention. */

#include "nn/nn.h"

heed_value heed_attention_pool(heed_builder *b, const char *name, heed_value x, heed_value lengths)
{
    const int64_t batch = heed_dim(b, x, 0), steps = heed_dim(b, x, 1), width = heed_dim(b, x, 2);
    const float bound = width > 0 ? 1.0f / __builtin_sqrtf((float)width) : 0;
    heed_value query, key, z;
    heed_attended a;

    heed_scope_push(b, name);
    x = heed__without_padding(b, x, &(heed_attention_spec){ .in.lengths = lengths });
    query = heed_param(b, "query", HEED_TYPE(HEED_F32, width),
                       &(heed_init){ .kind = HEED_INIT_UNIFORM, .a = -bound, .b = bound });
    key = heed_linear(b, "key", x, width, NULL);
    a = heed_attention(b, heed_broadcast(b, query, 4, (int64_t[]){ batch, 1, 1, width }),
                       RESHAPE(b, key, batch, 1, steps, width), RESHAPE(b, x, batch, 1, steps, width),
                       &(heed_attention_spec){ .in.lengths = lengths });
    heed_tap(b, "weights", RESHAPE(b, a.weights, batch, steps));
    z = RESHAPE(b, a.out, batch, width);
    heed_scope_pop(b);
    return z;
}
