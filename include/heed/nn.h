/* heed/nn.h: layers: functions that add nodes and make parameters under PyTorch's state_dict names and layouts, with
 * PyTorch's initial laws. A layer's name is its scope: heed_linear(b, "head", ...) makes head.weight and head.bias.
 * An empty or NULL opts is PyTorch's default. Layers read the builder's mode (heed_set_mode): dropout and batch norm. */
#ifndef HEED_NN_H
#define HEED_NN_H

#include <heed/attention.h>
#include <heed/ops.h>

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

typedef struct heed_mha_opts {
    heed_value key, value;      /**< {0}: the query (self-attention) */
    int64_t kdim, vdim;         /**< read from key and value */
    heed_bias bias;
    bool bias_kv;               /**< bias_k, bias_v [1,1,E]: a learned extra key */
    double dropout;             /**< of the weights, in training */
    heed_attention_spec spec;   /**< masks and scores; dropout is set from above */
} heed_mha_opts;
/** Multi-head attention, batch first: x [B,T,E] -> [B,T,E]. in_proj_weight [3E,E] (or q_/k_/v_proj_weight when widths differ),
 *  in_proj_bias [3E], out_proj.weight, out_proj.bias. Taps "weights" [B,H,Tq,Tk] per head before dropout, and
 *  with spec.probe.mean "mean" [B,Tq,Tk], which never makes the weights of each head. *weights may be NULL. */
HEED_API heed_value heed_multihead_attention(heed_builder *b, const char *name, heed_value x, int64_t heads,
                                             const heed_mha_opts *opts, heed_value *weights);

/** Attentive pooling, scaled dot with a learned query: e_t = query . (key x_t + bias) / sqrt(E), a = softmax(e over kept t),
 *  z = sum a_t x_t. x [B,T,E] -> [B,E]; query [E], key.weight [E,E], key.bias [E]; tap "weights" [B,T]. lengths i64 [B] or {0}. */
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
    enum { HEED_DROP_WEIGHTS = 0, HEED_KEEP_WEIGHTS } weights_dropout; /**< KEEP: no dropout of attention weights */
    enum { HEED_DROP_HIDDEN = 0, HEED_KEEP_HIDDEN } hidden_dropout;    /**< KEEP: none between the two linear maps */
} heed_encoder_layer_opts;
/** torch.nn.TransformerEncoderLayer, batch first: self_attn.*, linear1, linear2, norm1, norm2. x [B,T,E]. */
HEED_API heed_value heed_encoder_layer(heed_builder *b, const char *name, heed_value x, int64_t heads, const heed_encoder_layer_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
