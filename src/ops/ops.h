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

/* Reductions of one axis, kept with size 1, so that the result broadcasts back. */
heed_value heed__sum_axis(heed_builder *b, heed_value x, int axis);
heed_value heed__max_axis(heed_builder *b, heed_value x, int axis);

/* Both values broadcast to their common shape (the only place that adds broadcast nodes for binary ops). */
bool heed__broadcast_pair(heed_builder *b, heed_value *x, heed_value *y);

/* x summed back to `type`'s sizes: the gradient of broadcasting. */
heed_value heed__unbroadcast(heed_builder *b, heed_value x, const heed_type *type);

/* Zeros of a type (a broadcast scalar constant). */
heed_value heed__zeros(heed_builder *b, const heed_type *type);

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
    float beta1, beta2, eps, weight_decay; /* decoupled: AdamW, else the L2 form */
    int decoupled, amsgrad;
} adam_hyper;
typedef struct sgd_hyper {
    float momentum, dampening, weight_decay;
    int nesterov;
} sgd_hyper;
typedef struct rmsprop_hyper {
    float alpha, eps, weight_decay, momentum;
} rmsprop_hyper;
heed_value heed__adam(heed_builder *b, const adam_hyper *h, heed_value p, heed_value g, heed_value *m, heed_value *v,
                      heed_value *vmax, heed_value lr, heed_value step, heed_value clip);
heed_value heed__sgd(heed_builder *b, const sgd_hyper *h, heed_value p, heed_value g, heed_value *buf, heed_value lr,
                     heed_value step, heed_value clip);
heed_value heed__rmsprop(heed_builder *b, const rmsprop_hyper *h, heed_value p, heed_value g, heed_value *square,
                         heed_value *buf, heed_value lr, heed_value clip);

#endif
