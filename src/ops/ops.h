/* Parts that ops share: internal builders and the reference loops. */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include "graph/op.h"
#include <heed/ops.h>

/* heed__op_NAME of every line of ops.def. */
#define OP(name) extern const op_def heed__op_##name;
#define OP_IN(name, file) OP(name)
#include "ops/ops.def"
#undef OP
#undef OP_IN

/* The dtype in which composites add: f32 for f16 and bf16, for the others their own. */
static inline heed_dtype heed__sum_dtype(heed_dtype dtype)
{
    return dtype == HEED_F16 || dtype == HEED_BF16 ? HEED_F32 : dtype;
}

/* x as `dtype`: itself when it is that already. */
static inline heed_value heed__as(heed_builder *b, heed_value x, heed_dtype dtype)
{
    return heed_value_type(b, x).dtype == dtype ? x : heed_cast(b, x, dtype);
}

/* Elements of dimensions begin .. end-1. */
static inline int64_t heed__dims_product(const heed_type *t, int begin, int end)
{
    int64_t product = 1;

    for (int i = begin; i < end; i++)
        product *= t->dims[i];
    return product;
}

/* The names of heed_dtype in its order: choices of attributes that are a dtype. */
#define DTYPE_WORDS "f32|f64|f16|bf16|i64|i32|u8|bool"

/* Reductions of one axis, kept with size 1, so that the result broadcasts back. */
heed_value heed__sum_axis(heed_builder *b, heed_value x, int axis);
heed_value heed__max_axis(heed_builder *b, heed_value x, int axis);

/* Both values broadcast to their common shape (the only place that adds broadcast nodes for binary ops). */
bool heed__broadcast_pair(heed_builder *b, heed_value *x, heed_value *y);

/* x summed back to `type`'s sizes: the gradient of broadcasting. */
heed_value heed__unbroadcast(heed_builder *b, heed_value x, const heed_type *type);

/* A norm op (ops/layer_norm.c) over the last `axes` axes, which become one; weight and bias may be {0}. */
heed_value heed__norm_over(heed_builder *b, const op_def *op, const void *attrs, heed_value x, int axes, heed_value weight,
                           heed_value bias);

/* Dropout whose node number is given (ops/dropout.c): several nodes may share their bits. rng is {seed, step}. */
heed_value heed__dropout(heed_builder *b, heed_value x, heed_value stream, double p, int64_t number);

/* [(alpha - 1) z - tau]+^(1/(alpha - 1)) along the last axis (ops/entmax.c); alpha broadcasts to z's rows, 1.01 .. 2. */
heed_value heed__entmax(heed_builder *b, heed_value z, heed_value alpha);

/* Zeros of a type (a broadcast scalar constant). */
heed_value heed__zeros(heed_builder *b, const heed_type *type);

/* Places of new rows in a KV cache, i64 [B,T], and the lengths after them (ops/cache_slots.c). start i64 [B]; count i64 [B] or {0}. */
typedef struct cache_slots_attrs {
    int64_t rows, capacity; /* T, C */
    int64_t sinks;          /* places of a ring that are kept for ever; -1: no ring, the cache ends */
} cache_slots_attrs;
heed_value heed__cache_slots(heed_builder *b, const cache_slots_attrs *a, heed_value start, heed_value count,
                             heed_value *total);

/* heed_put_rows where x has nothing that anybody reads: behind the length of a cache, which moves on when the run ends. */
heed_value heed__put_spare_rows(heed_builder *b, heed_value x, heed_value update, heed_value slot);

/* Element-wise nodes with a fused kernel over one row primitive, used by gradients: relu_grad and so on (ops/binary.c). */
heed_value heed__relu_grad(heed_builder *b, heed_value x, heed_value dy);
heed_value heed__sigmoid_grad(heed_builder *b, heed_value y, heed_value dy);
heed_value heed__tanh_grad(heed_builder *b, heed_value y, heed_value dy);
heed_value heed__silu_grad(heed_builder *b, heed_value x, heed_value dy);
heed_value heed__gelu_grad(heed_builder *b, heed_value x, heed_value dy);
heed_value heed__gelu_tanh_grad(heed_builder *b, heed_value x, heed_value dy);

/* Optimiser steps (ops/adam.c, sgd.c, rmsprop.c). Each returns the new parameter and writes the new moments to *m ... ; the outputs
 * may overwrite the inputs (op_slot.over). clip: f32 scalar that multiplies g first ({0}: 1); lr and step (1, 2, ...): f32 scalars. */
typedef struct adam_hyper {
    double beta1, beta2, eps, weight_decay;
    bool decoupled; /* AdamW; else the L2 form */
    bool amsgrad;
} adam_hyper;
typedef struct sgd_hyper {
    double momentum, dampening, weight_decay;
    bool nesterov;
} sgd_hyper;
typedef struct rmsprop_hyper {
    double alpha, eps, weight_decay, momentum;
} rmsprop_hyper;

/* Kernels of optimisers work in place on blocks of STEP_BLOCK elements: where elements i .. i+n-1 of output `out` lie, holding those of
 * input `in`. An output nobody uses lies in scratch. */
#define STEP_BLOCK 4096
static inline float *heed__step_block(const op_call *c, int out, int in, int64_t i, int64_t n)
{
    const float *from = (const float *)c->in[in].data + i;
    float *to = c->out[out].data ? (float *)c->out[out].data + i : c->scratch[out];

    if (to != from)
        c->row->unary[ROW_COPY](to, from, n);
    return to;
}

heed_value heed__adam(heed_builder *b, const adam_hyper *h, heed_value p, heed_value g, heed_value *m, heed_value *v,
                      heed_value *vmax, heed_value lr, heed_value step, heed_value clip);
heed_value heed__sgd(heed_builder *b, const sgd_hyper *h, heed_value p, heed_value g, heed_value *buf, heed_value lr,
                     heed_value step, heed_value clip);
heed_value heed__rmsprop(heed_builder *b, const rmsprop_hyper *h, heed_value p, heed_value g, heed_value *square,
                         heed_value *buf, heed_value lr, heed_value clip);

#endif
