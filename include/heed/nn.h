/* heed/nn.h: layers: functions that add nodes and make parameters under PyTorch's state_dict names and layouts, with
 * PyTorch's initial laws. A layer's name is its scope: heed_linear(b, "head", ...) makes head.weight and head.bias.
 * An empty or NULL opts is PyTorch's default. Layers read the builder's mode (heed_set_mode): dropout and batch norm. */
#ifndef HEED_NN_H
#define HEED_NN_H

#include <heed/attention.h>
#include <heed/ops.h>
#include <heed/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_bias { HEED_BIAS = 0, HEED_NO_BIAS } heed_bias;

typedef struct heed_linear_opts {
    heed_bias bias;
    heed_init *weight_init, *bias_init; /**< NULL: U(+-1/sqrt(fan_in)) */
} heed_linear_opts;
/** y = x W^T + b over the last axis: weight [out,in], bias [out]. */
HEED_API heed_value heed_linear(heed_builder *b, const char *name, heed_value x, int64_t out, const heed_linear_opts *opts);

typedef struct heed_conv_layer_opts {
    int64_t kernel[2];  /**< 0: 1 */
    heed_conv_opts conv;
    bool same;          /**< padding='same': output as large as the input, stride 1 */
    heed_bias bias;
    int64_t output_pad[2]; /**< transposed only */
} heed_conv_layer_opts;
/** Convolution of x [B,C,(H,)W] (rank 3: conv1d, rank 4: conv2d): weight [out,in/groups,(Kh,)Kw], bias [out]. */
HEED_API heed_value heed_conv1d(heed_builder *b, const char *name, heed_value x, int64_t out, const heed_conv_layer_opts *opts);
HEED_API heed_value heed_conv2d(heed_builder *b, const char *name, heed_value x, int64_t out, const heed_conv_layer_opts *opts);
/** Transposed: weight [in,out/groups,(Kh,)Kw]. */
HEED_API heed_value heed_conv_transpose2d(heed_builder *b, const char *name, heed_value x, int64_t out, const heed_conv_layer_opts *opts);

typedef struct heed_norm_opts {
    double eps;              /**< 0: 1e-5 (rms: machine epsilon) */
    int axes;                /**< layer and RMS norm: last axes, 0: 1 */
    bool no_affine, no_bias;
} heed_norm_opts;
HEED_API heed_value heed_layer_norm_layer(heed_builder *b, const char *name, heed_value x, const heed_norm_opts *opts);
HEED_API heed_value heed_rms_norm_layer(heed_builder *b, const char *name, heed_value x, const heed_norm_opts *opts);
HEED_API heed_value heed_group_norm_layer(heed_builder *b, const char *name, heed_value x, int64_t groups, const heed_norm_opts *opts);

typedef struct heed_batch_norm_opts {
    double eps;                /**< 0: 1e-5 */
    heed_maybe_f32 momentum;   /**< weight of the new, 0.1 */
    bool cumulative;           /**< momentum=None: average over all batches so far */
    bool no_affine, no_running; /**< no_running: always the batch's statistics */
} heed_batch_norm_opts;
/** Batch norm of x [B,C,...]: weight, bias, running_mean, running_var (unbiased), num_batches_tracked (i64 scalar). In training the
 *  statistics of the batch and an update of the running ones, in evaluation the running ones. */
HEED_API heed_value heed_batch_norm_layer(heed_builder *b, const char *name, heed_value x, const heed_batch_norm_opts *opts);

typedef struct heed_embedding_opts {
    heed_maybe_i64 padding_idx; /**< a row that starts as zeros and gets no gradient */
    heed_init *init;            /**< NULL: N(0,1) */
} heed_embedding_opts;
/** weight [rows,width]; ids i64 of any shape -> [...,width]. */
HEED_API heed_value heed_embedding(heed_builder *b, const char *name, heed_value ids, int64_t rows, int64_t width,
                                   const heed_embedding_opts *opts);

/** Dropout in training, x itself in evaluation. */
HEED_API heed_value heed_dropout_layer(heed_builder *b, const char *name, heed_value x, double p);

/* ---- KV cache ---- */

/** Keys and values of earlier runs, kept in states, for decoding: a run appends the rows of its T new tokens and attends
 *  to all.
 *
 *    heed_kv_cache c = heed_kv_cache_open(b, "decoder", B, T, 512, NULL);            // once a graph
 *    ... tokens, and c.positions where positions are learned, to x; in each layer q, k, v [B,H,T,D] ...
 *    out = heed_kv_cache_attend(b, &c, "layers.0", q, k, v, &spec).out;              // [B,H,T,D]
 *
 *  Graphs of any T (a long one for prompts, T = 1 for steps) share the cache through the store of weights, when batch,
 *  capacity, window and sinks are the same. Without a window the cache ends when it is full, and any division of a
 *  sequence into runs gives the bytes of one causal pass over it. With a window it is a ring, and gives the numbers of a
 *  pass in which a row at p keeps the `window` rows up to p and the first `sinks`. A run writes its new rows only. One
 *  that ends with an error has appended nothing. docs/kv-cache.md */
typedef struct heed_kv_cache_opts {
    int64_t window;         /**< 0: no ring. Capacity is at least sinks + window + rows - 1 */
    int64_t sinks;          /**< rings: so many first positions are kept for ever */
    heed_value new_lengths; /**< i64 [B], 0 .. rows: how many of its new rows each sequence appends; {0}: all */
} heed_kv_cache_opts;

typedef struct heed_kv_cache {
    int64_t batch, rows, capacity, window, sinks;
    heed_value positions;   /**< i64 [B,rows]: where each new row stands, from 0 */
    heed_value start;       /**< i64 [B]: rows each sequence had before this run */
    heed_value lengths;     /**< i64 [B]: places in use after it */
    heed_value new_lengths; /**< as given */
    heed_value slots;       /**< i64 [B,rows]: the place of each new row; -1: not appended */
    heed_value mask;        /**< rings: bool [B,1,rows,capacity]; else {0} */
    heed_value stands;      /**< rings: i64 [B,1,1,capacity]: where the row in each place stands, 2^62 where there is none; else {0} */
} heed_kv_cache;

/** Begins a run's append of `rows` new rows to each of `batch` sequences. Lengths are the state "kv_cache.<name>.length", which
 *  moves on when the run ends. A run that would exceed the capacity ends with HEED_ERR_LIMIT, naming the sequence.
 *  Poison with HEED_ERR_SPEC for sizes that do not fit each other. */
HEED_API heed_kv_cache heed_kv_cache_open(heed_builder *b, const char *name, int64_t batch, int64_t rows, int64_t capacity,
                                          const heed_kv_cache_opts *opts);

/** Attention of a layer's new rows to all rows so far: q [B,Hq,rows,D], k and v [B,Hkv,rows,D] of the new rows alone; k
 *  and v are appended to the states "kv_cache.<scope>.<name>.k" and ".v". Rope turns new rows by their positions, once.
 *  The descriptor is causal by itself; lengths, q_lengths and offset come from the cache. Over a ring
 *  alibi and t5 become a bias [B,Hq,rows,capacity] of true distances; what else goes by the places of keys is refused: shaw, xl,
 *  windows, strides, blocks, globals. Poison with HEED_ERR_SHAPE, _SPEC. */
HEED_API heed_attended heed_kv_cache_attend(heed_builder *b, const heed_kv_cache *cache, const char *name, heed_value q,
                                            heed_value k, heed_value v, const heed_attention_spec *spec);

/** The same in parts. Appends k and v (turned, if they are) and gives all rows so far: [B,Hkv,capacity,D]. */
HEED_API void heed_kv_cache_append(heed_builder *b, const heed_kv_cache *cache, const char *name, heed_value *k,
                                   heed_value *v);

/** And what new rows may see of them: sets lengths, q_lengths, and causal with offset, or the ring's mask (with the
 *  descriptor's own). */
HEED_API void heed_kv_cache_see(heed_builder *b, const heed_kv_cache *cache, heed_attention_spec *spec);

/** Rows that a sequence has had, -1 when there is no such cache or sequence. */
HEED_API int64_t heed_kv_cache_length(const heed_weights *w, const char *name, int64_t sequence);

#define HEED_EVERY_SEQUENCE (-1)
/** Takes back all rows of a sequence from `length` on: 0 begins a new one, fewer than it has drops its last. While no session runs.
 *  HEED_ERR_LIMIT when it has fewer, or when a ring has written over rows before `length`; then nothing is changed. */
HEED_MUST_CHECK HEED_API heed_status heed_kv_cache_rewind(heed_weights *w, const char *name, int64_t sequence, int64_t length,
                                                          heed_error *err);

/** Sequence b of every cache of n sequences in these weights goes on as sequence from[b] was, for all b at once: {0,0,0,0} makes four
 *  beams of one prompt, {1,0} swaps two. Rows in use are moved, without memory. While no session runs. HEED_ERR_USAGE when no cache has
 *  n sequences, or from names one that is not there; then nothing is changed. Caches of another number of sequences stay as they are. */
HEED_MUST_CHECK HEED_API heed_status heed_kv_cache_reorder(heed_weights *w, const int64_t *from, int64_t n, heed_error *err);

typedef struct heed_mha_opts {
    heed_value key, value;      /**< {0}: the query (self-attention) */
    int64_t kdim, vdim;         /**< read from key and value */
    heed_bias bias;
    bool bias_kv;               /**< bias_k, bias_v [1,1,E]: a learned extra key, which has no place: beside it lengths, causality and
                                     mask, and nothing else that goes by the places of keys */
    double dropout;             /**< of the weights, in training */
    heed_attention_spec spec;   /**< masks and scores; dropout is set from above */
    const heed_kv_cache *cache; /**< self-attention over all rows so far: kv_cache.<layer>.k and .v; NULL: none */
} heed_mha_opts;
/** Multi-head attention, batch first: x [B,T,E] -> [B,T,E]. in_proj_weight [3E,E] (or q_/k_/v_proj_weight when widths differ),
 *  in_proj_bias [3E], out_proj.weight, out_proj.bias. Taps "weights" [B,H,Tq,Tk] per head before dropout, and
 *  with spec.probe.mean "mean" [B,Tq,Tk], which never makes the weights of each head; with spec.probe.received and pooled
 *  "received" [B,H,Tk] and "pooled", which cost next to nothing where attention is differentiated. *weights may be NULL.
 *
 *  Rows of padding are taken as zeros, whatever lies there, and have gradients of 0, so that nothing of them reaches a result, a weight
 *  or its gradient. A row of key and value is padding from spec.in.lengths on, where k_seg is negative, and where a mask [B,1,1,Tk] does
 *  not keep it; a row of x from q_lengths on and where q_seg is negative. In self-attention a row is padding that is so as key and as
 *  query: lengths alone say it for both, a mask only of keys. What comes out of such a row of x is finite and means nothing. */
HEED_API heed_value heed_multihead_attention(heed_builder *b, const char *name, heed_value x, int64_t heads,
                                             const heed_mha_opts *opts, heed_value *weights);

/** Attentive pooling, scaled dot with a learned query: e_t = query . (key x_t + bias) / sqrt(E), a = softmax(e over kept t),
 *  z = sum a_t x_t. x [B,T,E] -> [B,E]; query [E], key.weight [E,E], key.bias [E]; tap "weights" [B,T]. lengths i64 [B] or {0}: rows
 *  beyond are never read. */
HEED_API heed_value heed_attention_pool(heed_builder *b, const char *name, heed_value x, heed_value lengths);

typedef enum heed_activation { HEED_RELU = 0, HEED_GELU, HEED_GELU_TANH, HEED_SILU, HEED_TANH } heed_activation;
HEED_API heed_value heed_activate(heed_builder *b, heed_value x, heed_activation activation);

typedef enum heed_norm_place { HEED_POST_NORM = 0, HEED_PRE_NORM } heed_norm_place;
typedef struct heed_encoder_layer_opts {
    int64_t feedforward;        /**< 0: 2048 */
    heed_maybe_f32 dropout;     /**< 0.1; on attention weights, after attention, inside and after the feed-forward part */
    heed_activation activation;
    heed_norm_place norm;
    double eps;
    heed_attention_spec spec;   /**< masks: lengths, causal, mask */
    const heed_kv_cache *cache; /**< causal decoding: x are new rows; NULL: none */
    enum { HEED_DROP_WEIGHTS = 0, HEED_KEEP_WEIGHTS } weights_dropout; /**< KEEP: no dropout of attention weights */
    enum { HEED_DROP_HIDDEN = 0, HEED_KEEP_HIDDEN } hidden_dropout;    /**< KEEP: none between the two linear maps */
} heed_encoder_layer_opts;
/** torch.nn.TransformerEncoderLayer, batch first: self_attn.*, linear1, linear2, norm1, norm2. x [B,T,E]. Rows of padding, as
 *  heed_multihead_attention says, are taken as zeros, and come out finite. */
HEED_API heed_value heed_encoder_layer(heed_builder *b, const char *name, heed_value x, int64_t heads, const heed_encoder_layer_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
