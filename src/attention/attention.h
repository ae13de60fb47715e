/* The core of the operator, which the ops attention, attention_grad and attention_probe share.
 *
 * heed_attention (build.c) checks its descriptor, turns what is a function of q or k alone into tensors (rope, cosine, general,
 * projections of the additive score), position terms into `rel` and `row_rel`, and makes one or two core nodes:
 *
 *   z_ij = cap(scale raw(q_i, k_j) + row_rel[i, clip(j - p + zero)] + rel[j - i + Tq - 1] + bias_ij) / temperature
 *   w    = normalise(z over kept keys),   out_i = sum_j drop(w)_ij v_j,   rel_sums[i, r] = sum of drop(w)_ij with clip(..) = r
 *
 * What comes behind (differential, talking heads, gate) are ordinary nodes again. So a kernel meets few cells, and each part of
 * the operator stands in one place. */
#ifndef ATTENTION_ATTENTION_H
#define ATTENTION_ATTENTION_H

#include "ops/ops.h"
#include <heed/attention.h>

#define OP(name) extern const op_def heed__op_##name;
#include "attention/ops.def"
#undef OP

/* Inputs of all three ops: name, dtypes, flags. "Per head" is [Hq] or [1].
 *   q [B,Hq,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv]
 *   rel [B or 1, Hq or 1, Tq+Tk-1]   added to the scaled score: element j - i + Tq - 1
 *   row_rel [B,Hq,Tq,R]              added to the scaled score: element clip(j - p + row_zero, 0, R - 1)
 *   add_v [Hq or 1, D]               additive: raw = sum_a add_v[a] tanh(q_ia + k_ja)
 * The others as in heed/attention.h. */
#define ATTENTION_INPUTS(X)                                                                                  \
    X(Q, "q", FLOATS, DIFFERENTIABLE)                                                                        \
    X(K, "k", FLOATS, DIFFERENTIABLE)                                                                        \
    X(V, "v", FLOATS, DIFFERENTIABLE)                                                                        \
    X(LENGTHS, "lengths", I64_ONLY, OPTIONAL)                                                                \
    X(Q_LENGTHS, "q_lengths", I64_ONLY, OPTIONAL)                                                            \
    X(OFFSET, "offset", I64_ONLY, OPTIONAL)                                                                  \
    X(MASK, "mask", BOOLS, OPTIONAL)                                                                         \
    X(BLOCK_KEEP, "block_keep", BOOLS, OPTIONAL)                                                             \
    X(GLOBALS, "globals", I64_ONLY, OPTIONAL)                                                                \
    X(Q_SEG, "q_seg", I64_ONLY, OPTIONAL)                                                                    \
    X(K_SEG, "k_seg", I64_ONLY, OPTIONAL)                                                                    \
    X(GRAPH_INDPTR, "graph_indptr", I64_ONLY, OPTIONAL)                                                      \
    X(GRAPH_INDICES, "graph_indices", I64_ONLY, OPTIONAL)                                                    \
    X(BIAS, "bias", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                       \
    X(REL, "rel", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                         \
    X(ROW_REL, "row_rel", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                 \
    X(ADD_V, "add_v", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                     \
    X(TEMPERATURE, "temperature", FLOATS, OPTIONAL | DIFFERENTIABLE)                                         \
    X(SINK, "sink", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                       \
    X(SIGMOID_BIAS, "sigmoid_bias", FLOATS, OPTIONAL | DIFFERENTIABLE)                                       \
    X(ALPHA, "alpha", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                     \
    X(SPAN, "span", FLOATS, OPTIONAL | DIFFERENTIABLE)                                                       \
    X(RNG, "rng", I64_ONLY, OPTIONAL)                                                                        \
    X(DROPOUT_KEEP, "dropout_keep", BOOLS, OPTIONAL)                                                         \
    X(PROBE_ROWS, "probe_rows", I64_ONLY, OPTIONAL)                                                          \
    X(PROBE_HEADS, "probe_heads", I64_ONLY, OPTIONAL)

#define ATTENTION_ENUM(id, name, dtypes, flags) AT_##id,
#define ATTENTION_SLOT(id, text, kinds, bits) { .name = text, .dtypes = kinds, .flags = bits },

/* Then what is given besides: to attention_probe lse and its rest; to attention what an earlier run stored, for its gradient; to
 * attention_grad the same, or what this run gave, and upstream gradients. */
enum {
    ATTENTION_INPUTS(ATTENTION_ENUM) AT_INPUTS,
    AT_LSE = AT_INPUTS,
    AT_LSE_REST,
    AT_PROBE_INPUTS,
    AT_OUT = AT_PROBE_INPUTS,
    AT_CORE_INPUTS,
    AT_REL_SUMS = AT_CORE_INPUTS,
    AT_DOUT,
    AT_DLSE,
    AT_DWEIGHTS,
    AT_DREL_SUMS,
    AT_GRAD_INPUTS
};

/* Outputs of attention. lse_rest [B,Hq,Tq]: what rounding took from lse, so that e^((z - lse) - lse_rest) is exact at any size of
 * the logits; zeros from the composition. It is 0 in exact arithmetic, and has no gradient. rel_sums [B,Hq,Tq,R] like row_rel (R = 0 without); rows [B,nh,nr,Tk]; topk [B,Hq,Tq,K], K = 0 without; entropy and distance [B,Hq,Tq]. What is not asked for has Tq = 0. */
#define ATTENTION_OUTPUTS(X)                                                                                 \
    X(OUT, "out")                                                                                            \
    X(LSE, "lse") X(LSE_REST, "lse_rest") X(REL_SUMS, "rel_sums") X(WEIGHTS, "weights") X(ROWS, "rows")                              \
        X(TOPK_VALUES, "topk_values") X(TOPK_INDICES, "topk_indices") X(ENTROPY, "entropy")                  \
            X(DISTANCE, "distance")
#define ATTENTION_GET(id, name) AT_GET_##id,
#define ATTENTION_NAME(id, name) name,
enum { ATTENTION_OUTPUTS(ATTENTION_GET) AT_OUTPUTS };

/* Outputs of attention_probe, which take a second pass: pooled [B,Hq,ceil(Tq/a),ceil(Tk/c)] (0 x 0 without), received [B,Hq,Tk],
 * mean [B,Tq,Tk]. */
enum { AT_GET_POOLED, AT_GET_RECEIVED, AT_GET_MEAN, AT_PROBE_OUTPUTS };

/* Outputs of attention_grad; the type of an input that is absent is f32 [0]. Behind them the probes that backward gives on its
 * way, as attention_probe has them, f32 [0] where the attributes do not ask: planning asks (passes/fold_probes.c). */
#define ATTENTION_GRADS(X)                                                                                   \
    X(Q) X(K) X(V) X(BIAS) X(REL) X(ROW_REL) X(ADD_V) X(TEMPERATURE) X(SINK) X(SIGMOID_BIAS) X(ALPHA) X(SPAN)
#define ATTENTION_D(id) AT_D##id,
#define ATTENTION_INPUT(id) AT_##id,
enum { ATTENTION_GRADS(ATTENTION_D) AT_GRADS, AT_GRAD_POOLED = AT_GRADS, AT_GRAD_RECEIVED, AT_GRAD_OUTPUTS };

typedef enum attention_score {
    ATTENTION_DOT,
    ATTENTION_ADDITIVE,
    ATTENTION_SQ_DISTANCE,
    ATTENTION_DISTANCE
} attention_score;

/* One set for all three ops. */
typedef struct attention_attrs {
    int score; /* attention_score; distances are negated: raw = -|q - k|^2, -sqrt(|q - k|^2 + 1e-12) */
    double scale;
    double softcap; /* 0: none */
    int64_t offset; /* of positions, unless the tensor is given */
    int64_t row_zero;
    bool
        rel_sums; /* somebody adds values by relative position: rel_sums is needed, and dropped weights act there too */
    bool causal;
    bool window;
    int64_t left, right; /* -1: no limit */
    int64_t stride;      /* 0: none */
    int64_t block_q, block_k;
    int normaliser;     /* heed_normaliser_kind, but for linear */
    double temperature; /* these numbers unless the tensor is given */
    bool plus_one;
    int64_t k;
    double alpha, bias, ramp;
    double dropout; /* p */
    int64_t node;   /* of its random numbers */
    bool rows, entropy, distance; /* probes that are asked for: without, their outputs hold nothing */
    int64_t topk;                 /* 0: none */
    int64_t pooled_q, pooled_k;   /* attention_grad: 0 without */
    bool received;                /* attention_grad */
} attention_attrs;
extern const op_field heed__attention_fields[];

/* Checks shapes of the shared inputs and the attributes. */
heed_status heed__attention_check(op_infer *t);

/* An offset beyond these bounds keeps and measures what the bound does up to what i64 holds: 2^40 either way. */
int64_t heed__attention_offset(int64_t offset);

/* [B,Hq,Tq], in the dtype of sums: lse. */
heed_type heed__attention_row_type(const heed_type *q);

/* Is lse defined for this normaliser? */
bool heed__attention_has_lse(const attention_attrs *a);

/* Does the gradient take lse and out? Else it makes whole rows of weights from the inputs alone. */
bool heed__attention_by_lse(const attention_attrs *a);

/* A core node with inputs given by slot, and all of its outputs. */
void heed__attention_core(heed_builder *b, const attention_attrs *a, const heed_value in[AT_CORE_INPUTS],
                          heed_value out[AT_OUTPUTS]);

/* Types of two outputs of attention_probe, for q and k. */
heed_type heed__attention_pooled_type(const attention_attrs *a, const heed_type *q, const heed_type *k);
heed_type heed__attention_received_type(const heed_type *q, const heed_type *k);

/* The probes that take a second pass over what the core gave. */
void heed__attention_probe(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS],
                           const heed_value core[AT_OUTPUTS], heed_value out[AT_PROBE_OUTPUTS]);

/* Probes of any weights w [B,Hq,Tq,Tk] (compose_probe.c), each as its output. distance: i64, j - p, broadcastable to w. */
heed_value heed__probe_rows(heed_builder *b, heed_value w, heed_value rows, heed_value heads);
heed_value heed__probe_topk(heed_builder *b, heed_value w, int64_t k, heed_value *indices);
heed_value heed__probe_pooled(heed_builder *b, heed_value w, int64_t q, int64_t k);
heed_value heed__probe_received(heed_builder *b, heed_value w);
heed_value heed__probe_mean(heed_builder *b, heed_value w);
heed_value heed__probe_entropy(heed_builder *b, heed_value w);
heed_value heed__probe_distance(heed_builder *b, heed_value w, heed_value distance);

/* ---- fused kernels ---- */
extern const op_kernel heed__attention_cpu[], heed__attention_grad_cpu[], heed__attention_probe_cpu[];
double heed__attention_flops(const op_call *c);
double heed__attention_grad_flops(const op_call *c);

/* ---- other ops of this room ---- */

/* x, i64: HEED_ERR_LIMIT when an element is outside 0 .. most. */
heed_value heed__check_range(heed_builder *b, heed_value x, int64_t most);

/* linear_attention is given the first inputs of attention, linear_attention_grad besides dout and dweights, each optional. */
enum { LINEAR_INPUTS = AT_OFFSET + 1, LINEAR_DOUT = LINEAR_INPUTS, LINEAR_DWEIGHTS, LINEAR_GRAD_INPUTS };
#define LINEAR_SLOTS                                                                                         \
    { .name = "q", .dtypes = FLOATS, .flags = DIFFERENTIABLE },                                              \
        { .name = "k", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "q" },                          \
        { .name = "v", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "q" },                          \
        { .name = "lengths", .dtypes = I64_ONLY, .flags = OPTIONAL },                                        \
        { .name = "q_lengths", .dtypes = I64_ONLY, .flags = OPTIONAL },                                      \
        { .name = "offset", .dtypes = I64_ONLY, .flags = OPTIONAL }
extern const op_kernel heed__linear_attention_cpu[], heed__linear_attention_grad_cpu[];
double heed__linear_attention_flops(const op_call *c);
double heed__linear_attention_grad_flops(const op_call *c);

/* phi(q).phi(k) in place of a score; uses q, k, v, lengths, q_lengths, offset of `in`, causal and offset of `a`. */
heed_value heed__linear_attention(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS],
                                  heed_value *weights);

/* x, float: HEED_ERR_SPEC when an element is not in least .. most. */
heed_value heed__check_within(heed_builder *b, heed_value x, double least, double most);

/* indices of a graph in rows: HEED_ERR_LIMIT unless the two lists are a rising CSR of keys below `keys`. */
heed_value heed__check_csr(heed_builder *b, heed_value indptr, heed_value indices, int64_t keys);

/* Rotary positions of x [B,H,T,D]; offset i64 [B], or {0} for the number. */
typedef struct rope_attrs {
    double base;
    int64_t dims;
    bool interleaved;
    double factor;
    int64_t offset;
    bool inverse; /* turns back */
} rope_attrs;
heed_value heed__rope(heed_builder *b, heed_value x, heed_value offset, const rope_attrs *a);
/* What a descriptor says of them, for heads of `width` numbers (the smaller of q's and k's). */
rope_attrs heed__rope_attrs(const heed_attention_spec *s, int64_t width);

/* What alibi and t5 add to the scores of q [B,Hq,..] at distances j - p, i64 [B or 1, 1, R], in the dtype of sums:
 * [B or 1, Hq or 1, R]. {0}: the descriptor has neither. */
heed_value heed__distance_terms(heed_builder *b, const heed_attention_spec *s, heed_value q, heed_value distance);

/* x [B,T,3E] to q, k, v, each [B,heads,T,E/heads]: views; their gradients come back by one concat. */
void heed__qkv(heed_builder *b, heed_value x, int64_t heads, heed_value out[3]);

#endif
