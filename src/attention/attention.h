/* What attention and its gradient share: inputs, attributes, and the values from which both are composed. */
#ifndef ATTENTION_ATTENTION_H
#define ATTENTION_ATTENTION_H

#include "ops/ops.h"
#include <heed/attention.h>

#define OP(name) extern const op_def heed__op_##name;
#include "attention/ops.def"
#undef OP

/* Inputs of both, then those of the gradient alone. */
enum {
    AT_Q,
    AT_K,
    AT_V,
    AT_LENGTHS,
    AT_Q_LENGTHS,
    AT_MASK,
    AT_OFFSET,
    AT_RNG,
    AT_INPUTS,
    AT_OUT = AT_INPUTS,
    AT_LSE,
    AT_DOUT,
    AT_DLSE,
    AT_DWEIGHTS,
    AT_GRAD_INPUTS
};
enum { AT_GET_OUT, AT_GET_LSE, AT_GET_WEIGHTS, AT_OUTPUTS };
enum { AT_DQ, AT_DK, AT_DV };

typedef struct attention_attrs {
    int score; /* heed_score_kind */
    double scale;
    bool causal;
    int64_t offset; /* unless the tensor is given */
    double dropout; /* p */
    int64_t node;   /* of its random numbers */
} attention_attrs;
extern const op_field heed__attention_fields[];

#define ATTENTION_SLOTS                                                                                      \
    { .name = "q", .dtypes = FLOATS, .flags = DIFFERENTIABLE },                                              \
        { .name = "k", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "q" },                          \
        { .name = "v", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "q" },                          \
        { .name = "lengths", .dtypes = I64_ONLY, .flags = OPTIONAL },                                        \
        { .name = "q_lengths", .dtypes = I64_ONLY, .flags = OPTIONAL },                                      \
        { .name = "mask", .dtypes = BOOLS, .flags = OPTIONAL },                                              \
        { .name = "offset", .dtypes = I64_ONLY, .flags = OPTIONAL },                                         \
    {                                                                                                        \
        .name = "rng", .dtypes = I64_ONLY, .flags = OPTIONAL                                                 \
    }

/* Checks shapes of the shared inputs and the attributes. */
heed_status heed__attention_check(op_infer *t);

/* An offset beyond these bounds keeps what the bound keeps; within them i + offset cannot overflow. */
int64_t heed__attention_offset(int64_t offset, int64_t tq, int64_t tk);

/* [B,Hq,Tq], in the dtype of sums: lse. */
heed_type heed__attention_row_type(const heed_type *q);

/* A node with all of its inputs given by slot, and all of its outputs. */
heed_attended heed__attention(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS]);

/* The values from which forward and gradient are composed, in the dtype of sums. */
typedef struct attention_parts {
    heed_dtype dtype;
    heed_type q_type, k_type, v_type; /* as given */
    heed_value q, k, v;               /* [B,Hq,T,D]: heads repeated, rows beyond the lengths zero */
    heed_value rows;                  /* bool [B,1,Tq,1]: i < q_lengths[b]; {0}: all */
    heed_value z; /* scaled scores [B,Hq,Tq,Tk], -inf where not kept; {0} when there are no keys */
} attention_parts;
attention_parts heed__attention_parts(op_decompose *d);

/* Rows that count, zeros for the others. */
heed_value heed__attention_rows(heed_builder *b, const attention_parts *p, heed_value x);

/* Dropout of weights, or of their gradient, by the node's own bits. */
heed_value heed__attention_dropout(op_decompose *d, heed_value w);

/* Fused kernels: kernel.c. */
extern const op_kernel heed__attention_cpu[], heed__attention_grad_cpu[];
double heed__attention_flops(const op_call *c);
double heed__attention_grad_flops(const op_call *c);

/* x, i64: HEED_ERR_LIMIT when an element is outside 0 .. most. */
heed_value heed__check_range(heed_builder *b, heed_value x, int64_t most);

/* x [B,T,3E] to q, k, v, each [B,heads,T,E/heads]: views; their gradients come back by one concat. */
void heed__qkv(heed_builder *b, heed_value x, int64_t heads, heed_value out[3]);

#endif
