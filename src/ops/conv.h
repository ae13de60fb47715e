/* What conv, conv_dx and conv_dw share. They are one trilinear form <y, conv(x, w)> read from three sides,
 * so each one's gradient is made of the other two:
 *
 *   conv     (x, w)  -> y    y[b,o,p] = sum_{i,k} x[b,i, p stride - pad + k dilation] w[o,i,k]
 *   conv_dx  (dy, w) -> x's gradient: the transposed convolution
 *   conv_dw  (x, dy) -> w's gradient
 *
 * x [B,I,(H,)W], w [O,I/groups,(Kh,)Kw], y [B,O,(H',)W']; p and k are places along the spatial axes. */
#ifndef OPS_CONV_H
#define OPS_CONV_H

#include "cpu/gemm.h"
#include "graph/op.h"

typedef struct conv_attrs {
    field_i64s stride, pad, pad_after, dilation; /* by spatial axis */
    field_i64s size;                             /* conv_dx: that of x, conv_dw: that of w, by spatial axis */
    int64_t groups;
} conv_attrs;

extern const op_field heed__conv_fields[];

/* y's type from those of x and w, or a refusal. */
heed_status heed__conv_type(op_infer *t, const conv_attrs *a, const heed_type *x, const heed_type *w,
                            heed_type *y);

/* The three types as sizes in two dimensions: a missing first spatial axis has size 1. */
conv_shape heed__conv_shape(const conv_attrs *a, const heed_type *x, const heed_type *w, const heed_type *y);

/* Strides of a view of rank 3 or 4 as those of rank 4. */
typedef struct conv_strides {
    int64_t s[4];
} conv_strides;
conv_strides heed__conv_strides(const view *v);

/* The place in x, along spatial axis 0 or 1, that tap k of output p reads, or -1 when it lies in the
 * padding. */
static inline int64_t heed__conv_place(const conv_shape *s, int axis, int64_t p, int64_t k)
{
    const int64_t at = p * s->stride[axis] - s->pad[axis] + k * s->dilation[axis];
    return at < 0 || at >= s->in[axis] ? -1 : at;
}

/* Operations of the whole batch; a multiply-add counts 2. */
double heed__conv_flops(const conv_shape *s);

/* ONNX writes the begins of all axes, then the ends. */
static inline void heed__conv_onnx_pads(int64_t pads[4], const conv_attrs *a)
{
    for (int i = 0; i < a->pad.n && i < 2; i++) {
        pads[i] = a->pad.v[i];
        pads[a->pad.n + i] = a->pad_after.v[i];
    }
}

/* Nodes; size is taken from the value given. */
heed_value heed__conv(heed_builder *b, const conv_attrs *a, heed_value x, heed_value w);
heed_value heed__conv_dx(heed_builder *b, const conv_attrs *a, heed_value dy, heed_value w,
                         const int64_t *size);
heed_value heed__conv_dw(heed_builder *b, const conv_attrs *a, heed_value x, heed_value dy,
                         const int64_t *size);

#endif
