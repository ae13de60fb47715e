/* From the views of a call to the heads that cpu/attention.h computes. */
#ifndef ATTENTION_KERNEL_H
#define ATTENTION_KERNEL_H

#include "attention/attention.h"
#include "cpu/attention.h"

#define KERNEL_GRAIN 400e3 /* operations that are worth a chunk */

static inline int64_t kernel_size(const op_call *c, int slot, int axis)
{
    return c->in[slot].type.dims[axis];
}

static inline bool kernel_given(const op_call *c, int slot)
{
    return slot < c->n_in && c->in[slot].type.rank >= 0;
}

/* Element (b, h) of the first two axes of a view; an axis of size 1 stands for all. */
static inline const void *kernel_at(const view *v, int64_t b, int64_t h)
{
    const int64_t at =
        (v->type.dims[0] > 1 ? b * v->strides[0] : 0) + (v->type.dims[1] > 1 ? h * v->strides[1] : 0);

    return (const char *)v->data + at * (int64_t)heed_dtype_size(v->type.dtype);
}

/* The step of an axis, 0 where one element stands for all. */
static inline int64_t kernel_step(const view *v, int axis)
{
    return v->type.dims[axis] > 1 ? v->strides[axis] : 0;
}

/* Query head h of sequence b with its key head. `sets`: kernel_set_words(c) words of this sequence when globals are given. */
attention_head heed__kernel_head(const op_call *c, int64_t b, int64_t h, const uint64_t *sets);

/* Bit sets of global keys and rows, made in `prepare` into c->shared, one sequence an item. */
size_t heed__kernel_shared(const op_call *c);
int64_t heed__kernel_prepare_count(const op_call *c);
void heed__kernel_prepare(const op_call *c, int64_t begin, int64_t end);
const uint64_t *heed__kernel_sets(const op_call *c, int64_t b);

/* Why the tiles kernels do not serve a cell, NULL when they do: a clause behind "it does not serve ". */
const char *heed__kernel_unserved(const op_call *c);

/* Query and key pairs that the masks leave, as far as types and attributes tell. */
double heed__kernel_pairs(const op_call *c);

/* How many keys an item owns that sums over their queries: at least `least` (but no more than there are), whole tiles and whole
 * blocks of pooled. */
int64_t heed__kernel_key_range(const op_call *c, int64_t least);

/* Is there a bias with rows and keys? */
bool heed__kernel_bias_is_matrix(const op_call *c);

/* Items of a chunk. */
int64_t heed__kernel_chunk(double flops, int64_t items);

/* Where head number `head` of a dense output [B,H,...] begins; NULL when nobody wants it, or it holds nothing. */
void *heed__kernel_out(const op_call *c, int out, int64_t head);

/* Where the rows that the probe lists of query head h go, the first time that it is listed; NULL: nowhere. */
float *heed__kernel_listed_rows(const op_call *c, int64_t b, int64_t h);

/* A head that is listed more than once: the rows of queries [begin, end) again. */
void heed__kernel_repeat_rows(const op_call *c, const attention_result *r, int64_t b, int64_t h,
                              int64_t begin, int64_t end);

/* lse_rest of head number `head`, NULL when it is not given: zeros. */
static inline const float *kernel_rest(const op_call *c, int64_t head)
{
    return kernel_given(c, AT_LSE_REST)
               ? (const float *)c->in[AT_LSE_REST].data + head * kernel_size(c, AT_Q, 2)
               : NULL;
}

#define KERNEL_BIT(slot) ((uint64_t)1 << (slot))

/* Inputs of small tensors, which must be dense. */
#define KERNEL_DENSE                                                                                         \
    (KERNEL_BIT(AT_LENGTHS) | KERNEL_BIT(AT_Q_LENGTHS) | KERNEL_BIT(AT_OFFSET) | KERNEL_BIT(AT_BLOCK_KEEP) | \
     KERNEL_BIT(AT_GLOBALS) | KERNEL_BIT(AT_Q_SEG) | KERNEL_BIT(AT_K_SEG) | KERNEL_BIT(AT_GRAPH_INDPTR) |    \
     KERNEL_BIT(AT_GRAPH_INDICES) | KERNEL_BIT(AT_REL) | KERNEL_BIT(AT_ROW_REL) | KERNEL_BIT(AT_ADD_V) |     \
     KERNEL_BIT(AT_TEMPERATURE) | KERNEL_BIT(AT_SINK) | KERNEL_BIT(AT_SIGMOID_BIAS) | KERNEL_BIT(AT_ALPHA) | \
     KERNEL_BIT(AT_SPAN) | KERNEL_BIT(AT_RNG) | KERNEL_BIT(AT_DROPOUT_KEEP) | KERNEL_BIT(AT_PROBE_ROWS) |    \
     KERNEL_BIT(AT_PROBE_HEADS))

#endif
