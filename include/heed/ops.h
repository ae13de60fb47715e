/* heed/ops.h: the operations. Each adds nodes to a builder and returns a value; poison in, poison out.
 *
 * Broadcasting follows NumPy and PyTorch: sizes are aligned from the right, 1 stretches. Dtypes never mix by themselves:
 * cast says so. Axes may be negative (from the end). A gradient exists for every floating input unless its comment says no.
 * Errors of all: HEED_ERR_SHAPE, HEED_ERR_DTYPE, HEED_ERR_LIMIT, HEED_ERR_MEMORY, kept by the builder. */
#ifndef HEED_OPS_H
#define HEED_OPS_H

#include <heed/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- element by element ---- */

/** -x, e^x, ln x, square root, sine, cosine, hyperbolic tangent, error function, |x|, largest integer <= x. Floating dtypes
 *  (neg and abs: i64 and i32 too). Gradient of abs at 0 is 0, of floor 0. */
HEED_API heed_value heed_neg(heed_builder *b, heed_value x);
HEED_API heed_value heed_exp(heed_builder *b, heed_value x);
HEED_API heed_value heed_log(heed_builder *b, heed_value x);
HEED_API heed_value heed_sqrt(heed_builder *b, heed_value x);
HEED_API heed_value heed_sin(heed_builder *b, heed_value x);
HEED_API heed_value heed_cos(heed_builder *b, heed_value x);
HEED_API heed_value heed_tanh(heed_builder *b, heed_value x);
HEED_API heed_value heed_erf(heed_builder *b, heed_value x);
HEED_API heed_value heed_abs(heed_builder *b, heed_value x);
HEED_API heed_value heed_floor(heed_builder *b, heed_value x);

/** a + b and so on, broadcast. div of integers is refused (cast first); pow(a, b) = a^b; the gradient of max and min at a tie
 *  goes half to each side (PyTorch's rule). */
HEED_API heed_value heed_add(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_sub(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_mul(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_div(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_pow(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_max(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_min(heed_builder *b, heed_value x, heed_value y);

/** The same with a number, which takes x's dtype. */
HEED_API heed_value heed_add_scalar(heed_builder *b, heed_value x, double y);
HEED_API heed_value heed_mul_scalar(heed_builder *b, heed_value x, double y);
HEED_API heed_value heed_pow_scalar(heed_builder *b, heed_value x, double y);

/** Comparisons give bool, broadcast, no gradient. */
HEED_API heed_value heed_eq(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_lt(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_le(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_gt(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_ge(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_and(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_or(heed_builder *b, heed_value x, heed_value y);
HEED_API heed_value heed_not(heed_builder *b, heed_value x);

/** condition ? x : y, element by element, all three broadcast; condition is bool. */
HEED_API heed_value heed_select(heed_builder *b, heed_value condition, heed_value x, heed_value y);

/** To another dtype: float to integer truncates toward zero, clamps, NaN becomes 0; to bool: not equal to 0. */
HEED_API heed_value heed_cast(heed_builder *b, heed_value x, heed_dtype dtype);

/** x itself; a run in which an element is NaN or infinite ends here with HEED_ERR_NUMERIC, before any state changes. */
HEED_API heed_value heed_check_finite(heed_builder *b, heed_value x);

/** x, through which no gradient flows. */
HEED_API heed_value heed_stop_grad(heed_builder *b, heed_value x);

/** max(0, x); 1/(1+e^-x); x sigmoid(x); x Phi(x) exact and in the tanh form; ln(1+e^x); ELU; leaky ReLU; hard swish; mish. */
HEED_API heed_value heed_relu(heed_builder *b, heed_value x);
HEED_API heed_value heed_sigmoid(heed_builder *b, heed_value x);
HEED_API heed_value heed_silu(heed_builder *b, heed_value x);
HEED_API heed_value heed_gelu(heed_builder *b, heed_value x);
HEED_API heed_value heed_gelu_tanh(heed_builder *b, heed_value x);
HEED_API heed_value heed_softplus(heed_builder *b, heed_value x);
HEED_API heed_value heed_elu(heed_builder *b, heed_value x, double alpha);
HEED_API heed_value heed_leaky_relu(heed_builder *b, heed_value x, double slope);
HEED_API heed_value heed_hardswish(heed_builder *b, heed_value x);
HEED_API heed_value heed_mish(heed_builder *b, heed_value x);

/** Halves x along `axis`: first * sigmoid(second). Dauphin 2017. */
HEED_API heed_value heed_glu(heed_builder *b, heed_value x, int axis);

/* ---- made from nothing ---- */

/** 0, 1, 2, ... along `axis` of a tensor of this type (i64, i32 or floating). */
HEED_API heed_value heed_iota(heed_builder *b, heed_type type, int axis);

/** All elements equal `value`. */
HEED_API heed_value heed_full(heed_builder *b, heed_type type, double value);

/** Uniform numbers in [0, 1) or standard normal ones, f32, addressed by (seed, step, scope path of name, row, column). */
HEED_API heed_value heed_random_uniform(heed_builder *b, const char *name, int rank, const int64_t *dims);
HEED_API heed_value heed_random_normal(heed_builder *b, const char *name, int rank, const int64_t *dims);

/* ---- shape ---- */

/** Same elements in row-major order under other sizes; one size may be -1. */
HEED_API heed_value heed_reshape(heed_builder *b, heed_value x, int rank, const int64_t *dims);
/** Axis i of the result is axis axes[i] of x. */
HEED_API heed_value heed_permute(heed_builder *b, heed_value x, const int *axes);
HEED_API heed_value heed_transpose(heed_builder *b, heed_value x, int axis_a, int axis_b);
/** To these sizes by NumPy's rule. */
HEED_API heed_value heed_broadcast(heed_builder *b, heed_value x, int rank, const int64_t *dims);
/** Elements begin, begin+step, ... below end along one axis; end -1 is the last size, negative begin counts from the end. step >= 1. */
HEED_API heed_value heed_slice(heed_builder *b, heed_value x, int axis, int64_t begin, int64_t end, int64_t step);
/** `before` and `after` elements of `value` added along one axis. */
HEED_API heed_value heed_pad(heed_builder *b, heed_value x, int axis, int64_t before, int64_t after, double value);
HEED_API heed_value heed_concat(heed_builder *b, const heed_value *xs, int n, int axis);
HEED_API heed_value heed_reverse(heed_builder *b, heed_value x, int axis);
/** A dimension of 1 put in at `axis` / taken out. */
HEED_API heed_value heed_unsqueeze(heed_builder *b, heed_value x, int axis);
HEED_API heed_value heed_squeeze(heed_builder *b, heed_value x, int axis);
/** Dimensions first..last made one. */
HEED_API heed_value heed_flatten(heed_builder *b, heed_value x, int first, int last);

/* ---- reductions ---- */

enum { HEED_ALL_AXES = 0 };

/** Over the axes whose bits are set in `axes` (1u << axis; HEED_ALL_AXES: all). keep: reduced axes stay with size 1. The maximum of
 *  nothing is refused; its gradient at ties is shared equally. */
typedef enum heed_keep { HEED_DROP_AXES = 0, HEED_KEEP_AXES } heed_keep;
HEED_API heed_value heed_sum(heed_builder *b, heed_value x, unsigned axes, heed_keep keep);
HEED_API heed_value heed_mean(heed_builder *b, heed_value x, unsigned axes, heed_keep keep);
HEED_API heed_value heed_amax(heed_builder *b, heed_value x, unsigned axes, heed_keep keep);
/** Index (i64) of the first largest element along `axis`, which is dropped. No gradient. */
HEED_API heed_value heed_argmax(heed_builder *b, heed_value x, int axis);
HEED_API heed_value heed_cumsum(heed_builder *b, heed_value x, int axis);
HEED_API heed_value heed_logsumexp(heed_builder *b, heed_value x, int axis, heed_keep keep);

/** Softmax along `axis`: exp(x) / sum exp(x), computed without overflow for any finite x.
 *
 *  x     any shape of rank >= 1, floating dtype
 *  axis  0 .. rank-1, or -1 for the last
 *
 *  Returns y, same shape and dtype as x; each slice along `axis` sums to one. Poison when x is poison,
 *  not floating (HEED_ERR_DTYPE) or has no such axis (HEED_ERR_SHAPE). The builder belongs to one thread. */
HEED_API heed_value heed_softmax(heed_builder *b, heed_value x, int axis);
HEED_API heed_value heed_log_softmax(heed_builder *b, heed_value x, int axis);

/* ---- products ---- */

/** [..., M, K] x [..., K, N] -> [..., M, N]; leading sizes broadcast; rank 1 as in torch.matmul. */
HEED_API heed_value heed_matmul(heed_builder *b, heed_value x, heed_value y);

/** Zero options mean stride 1, no padding, dilation 1, groups 1. Arrays are per spatial axis; a one-dimensional convolution uses [0].
 *  pad_after: zeros behind the last element, default = pad (PyTorch's 'same' with an even kernel needs one more). */
typedef struct heed_conv_opts {
    int64_t stride[2], pad[2], dilation[2], groups;
    heed_maybe_i64 pad_after[2];
} heed_conv_opts;

/** Cross-correlation as PyTorch's conv1d/conv2d. x [B,I,(H,)W], w [O,I/groups,(Kh,)Kw] -> [B,O,(H',)W']; bias [O] or {0}. */
HEED_API heed_value heed_conv(heed_builder *b, heed_value x, heed_value w, heed_value bias, const heed_conv_opts *opts);

/** Its transpose (PyTorch's conv_transpose): w [I,O/groups,(Kh,)Kw]; output_pad adds sizes behind. */
HEED_API heed_value heed_conv_transpose(heed_builder *b, heed_value x, heed_value w, heed_value bias,
                                        const heed_conv_opts *opts, const int64_t *output_pad);

/* ---- pooling ---- */

typedef struct heed_pool_opts {
    int64_t stride[2]; /* 0: the kernel's size */
    int64_t pad[2];
    int64_t dilation[2]; /* max only */
    bool ceil_mode;
    bool exclude_pad; /* average: divide by the elements that exist (count_include_pad=False) */
} heed_pool_opts;

/** x [B,C,(H,)W]; kernel per spatial axis. max: the first of equals gets the gradient. */
HEED_API heed_value heed_max_pool(heed_builder *b, heed_value x, const int64_t *kernel, const heed_pool_opts *opts);
HEED_API heed_value heed_avg_pool(heed_builder *b, heed_value x, const int64_t *kernel, const heed_pool_opts *opts);
/** PyTorch's regions: from floor(i*in/out) to ceil((i+1)*in/out). */
HEED_API heed_value heed_adaptive_avg_pool(heed_builder *b, heed_value x, const int64_t *out);
/** Mean over all spatial axes, kept as size 1. */
HEED_API heed_value heed_global_avg_pool(heed_builder *b, heed_value x);

/* ---- by index ---- */

/** Slices of x along `axis` at index (i64, any shape): x.dims[:axis] + index.dims + x.dims[axis+1:]. An index outside the axis ends the
 *  run with HEED_ERR_LIMIT, naming place and value. */
HEED_API heed_value heed_gather(heed_builder *b, heed_value x, heed_value index, int axis);
/** Zeros of x's size along `axis` = size, to which updates are added at index: the transpose of gather, in rising order. */
HEED_API heed_value heed_scatter_add(heed_builder *b, heed_value index, heed_value updates, int axis, int64_t size);
/** The k largest along the last axis, falling; ties to the lower index. *indices (i64) may be NULL. */
HEED_API heed_value heed_topk(heed_builder *b, heed_value x, int64_t k, heed_value *indices);
/** x with `update` written at `start` (i64 [rank]); start is clamped so that it fits. */
HEED_API heed_value heed_update_slice(heed_builder *b, heed_value x, heed_value update, heed_value start);
/** x [B,H,C,D] with the rows of `update` [B,H,T,D] written at `slot` (i64 [B,T]): y[b,h,slot[b,i]] = update[b,h,i]. A row whose slot is
 *  outside 0 .. C-1 is not written; of rows with one slot the last stays. */
HEED_API heed_value heed_put_rows(heed_builder *b, heed_value x, heed_value update, heed_value slot);
/** One-hot f32 rows [..., classes] of an i64 index. No gradient. */
HEED_API heed_value heed_one_hot(heed_builder *b, heed_value index, int64_t classes);

/* ---- norms (affine parts may be {0}) ---- */

/** y = (x - mean) * rstd * weight + bias over the last `axes` axes, variance biased. eps 1e-5 where 0 is given. Ba 2016. */
HEED_API heed_value heed_layer_norm(heed_builder *b, heed_value x, int axes, heed_value weight, heed_value bias, double eps);
/** y = x * rsqrt(mean x^2 + eps) * weight over the last `axes` axes. eps 0: machine epsilon of the dtype. Zhang 2019. */
HEED_API heed_value heed_rms_norm(heed_builder *b, heed_value x, int axes, heed_value weight, double eps);
/** Groups of channels of x [B,C,...]. Wu 2018. */
HEED_API heed_value heed_group_norm(heed_builder *b, heed_value x, int64_t groups, heed_value weight, heed_value bias, double eps);

typedef struct heed_batch_normed {
    heed_value y, mean, var; /* mean and biased variance [C] of this batch */
} heed_batch_normed;
/** x [B,C,...] by the statistics of the batch (training). Ioffe 2015. */
HEED_API heed_batch_normed heed_batch_norm_train(heed_builder *b, heed_value x, heed_value weight, heed_value bias, double eps);
/** x [B,C,...] by given mean and variance [C] (evaluation). */
HEED_API heed_value heed_batch_norm_eval(heed_builder *b, heed_value x, heed_value mean, heed_value var,
                                         heed_value weight, heed_value bias, double eps);

/** Inverted dropout: x * keep / (1 - p), keep decided by (seed, step, scope path of name, row, column). Srivastava 2014. */
HEED_API heed_value heed_dropout(heed_builder *b, const char *name, heed_value x, double p);

/* ---- losses, from logits ---- */

typedef enum heed_reduction { HEED_REDUCE_MEAN = 0, HEED_REDUCE_SUM, HEED_REDUCE_NONE, HEED_REDUCE_BATCH_MEAN } heed_reduction;

typedef struct heed_cross_entropy_opts {
    heed_value weight;          /* [classes] */
    double label_smoothing;     /* 0 .. 1 */
    heed_maybe_i64 ignore_index; /* default -100 */
    heed_reduction reduction;
    int axis;                   /* class axis; 0 means PyTorch's: 1, or 0 for rank 1 */
} heed_cross_entropy_opts;

/** -log softmax(logits)[target]. logits [N,C,...]; target i64 [N,...], or probabilities of logits' shape. As
 *  torch.nn.functional.cross_entropy; the weighted mean divides by the sum of the targets' weights. */
HEED_API heed_value heed_cross_entropy(heed_builder *b, heed_value logits, heed_value target, const heed_cross_entropy_opts *opts);
/** Binary cross-entropy with logits; pos_weight {0} or broadcast. */
HEED_API heed_value heed_bce_with_logits(heed_builder *b, heed_value x, heed_value target, heed_value pos_weight, heed_reduction r);
HEED_API heed_value heed_mse_loss(heed_builder *b, heed_value x, heed_value target, heed_reduction r);
HEED_API heed_value heed_l1_loss(heed_builder *b, heed_value x, heed_value target, heed_reduction r);
HEED_API heed_value heed_smooth_l1_loss(heed_builder *b, heed_value x, heed_value target, double beta, heed_reduction r);
HEED_API heed_value heed_huber_loss(heed_builder *b, heed_value x, heed_value target, double delta, heed_reduction r);
/** target (ln target - x), x holding log-probabilities; 0 where target is 0. */
HEED_API heed_value heed_kl_div(heed_builder *b, heed_value x, heed_value target, heed_reduction r);

#ifdef __cplusplus
}
#endif
#endif
