/* What layers share. */
#ifndef NN_NN_H
#define NN_NN_H

#include "graph/op.h"
#include <heed/nn.h>

/* A parameter with PyTorch's usual law U(+-1/sqrt(fan_in)); init overrides it. */
heed_value heed__nn_weight(heed_builder *b, const char *name, heed_type type, int64_t fan_in, const heed_init *init);

/* A parameter of n equal numbers. */
heed_value heed__nn_constant(heed_builder *b, const char *name, int64_t n, float value);

#define KV_CACHE_ROOT "kv_cache" /* states of caches are "kv_cache.<name>.<what>" */

/* heed_kv_cache_attend for the layer whose scope is open. */
heed_attended heed__kv_cache_attend(heed_builder *b, const heed_kv_cache *cache, heed_value q, heed_value k,
                                    heed_value v, const heed_attention_spec *spec);

/* The first thing in a descriptor that goes by where keys stand, but for causality, lengths and mask; NULL: nothing. */
const char *heed__by_place_of_keys(const heed_attention_spec *s);

/* heed_multihead_attention of rows that hold numbers also where they are padding: it clears none. */
heed_value heed__attend_rows(heed_builder *b, const char *name, heed_value x, int64_t heads, const heed_mha_opts *opts,
                             heed_value *weights);

/* x [B,T,E] with zeros where the descriptor says that a row is padding: of self-attention, of queries, of keys and values. */
heed_value heed__without_padding(heed_builder *b, heed_value x, const heed_attention_spec *s);
heed_value heed__without_query_padding(heed_builder *b, heed_value x, const heed_attention_spec *s);
heed_value heed__without_key_padding(heed_builder *b, heed_value x, const heed_attention_spec *s);

/* x reshaped to `rank` sizes given as an argument list. */
#define RESHAPE(b, x, ...) heed_reshape(b, x, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

#endif
