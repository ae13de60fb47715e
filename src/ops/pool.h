/* Windows of pool_sum, pool_max and their gradients: output place p of an axis sees the elements p stride -
 * pad + k dilation, 0 <= k < kernel, that exist. x [B,C,(H,)W]. */
#ifndef OPS_POOL_H
#define OPS_POOL_H

#include "graph/op.h"
#include <heed/ops.h>

typedef struct pool_attrs {
    field_i64s kernel, stride, pad, dilation; /* by spatial axis */
    field_i64s size;                          /* of the result, by spatial axis */
} pool_attrs;

extern const op_field heed__pool_fields[];

/* Two axes; a missing first one has size 1. */
typedef struct pool_shape {
    int64_t planes, in[2], out[2], kernel[2], stride[2], pad[2], dilation[2];
} pool_shape;

/* `full` has the sizes of x, `pooled` those of y. */
pool_shape heed__pool_shape(const pool_attrs *a, const heed_type *full, const heed_type *pooled);

/* x of this op as `full` (grad: the result), y as `pooled`: sizes in range, every window with at least one
 * element. */
heed_status heed__pool_check(op_infer *t, const pool_attrs *a, const heed_type *full,
                             const heed_type *pooled);

/* t with its spatial sizes replaced by size. */
heed_status heed__pool_resized(op_infer *t, const pool_attrs *a, const heed_type *from, heed_type *to);

/* Attributes from the user's options with the sizes of the result; false after poisoning. */
bool heed__pool_attrs(heed_builder *b, pool_attrs *a, const heed_type *x, const int64_t *kernel,
                      const heed_pool_opts *o);

/* The first k whose element exists, and the first after it whose does not (k rises by one, elements by
 * dilation). */
static inline void heed__pool_window(const pool_shape *s, int axis, int64_t p, int64_t *first, int64_t *end)
{
    const int64_t from = p * s->stride[axis] - s->pad[axis];

    *first = from < 0 ? i64_ceil_div(-from, s->dilation[axis]) : 0;
    *end = 0;
    if (from < s->in[axis])
        *end = i64_min(s->kernel[axis], (s->in[axis] - 1 - from) / s->dilation[axis] + 1);
}

/* Padding as ONNX writes it, begins and then ends: behind, as much as the last window needs. */
static inline void heed__pool_onnx_pads(int64_t pads[4], const pool_attrs *a, const heed_type *x,
                                        const heed_type *y)
{
    for (int i = 0; i < a->pad.n && i < 2; i++) {
        pads[i] = a->pad.v[i];
        pads[a->pad.n + i] =
            i64_max(0, (y->dims[2 + i] - 1) * a->stride.v[i] + (a->kernel.v[i] - 1) * a->dilation.v[i] + 1 -
                           x->dims[2 + i] - a->pad.v[i]);
    }
}

/* Gradient of pool_max for an x of that type. */
heed_value heed__pool_max_grad(heed_builder *b, heed_value dy, heed_value indices, heed_type x);

/* Windows of 2 x 2 side by side, none of them cut. */
static inline bool heed__pool_quads(const pool_shape *s)
{
    bool quads = s->in[1] < INT32_MAX;

    for (int i = 0; i < 2; i++)
        quads = quads && s->kernel[i] == 2 && s->stride[i] == 2 && s->pad[i] == 0 && s->dilation[i] == 1 &&
                2 * s->out[i] <= s->in[i];
    return quads;
}

/* Where plane `item` of a view of rank 3 or 4 begins, and its strides along the two axes. */
typedef struct pool_plane {
    int64_t at, s[2];
} pool_plane;
pool_plane heed__pool_plane(const view *v, int64_t item);

#endif
