/* conv_dx: x's gradient of conv, which is also the transposed convolution of dy.
 *
 *   dy [B,O,(H',)W'], w [O,I/groups,(Kh,)Kw]  ->  dx [B,I,(H,)W]
 *   dx[b,i,q] = sum of dy[b,o,p] w[o,i,k] over all p, k with p stride - pad + k dilation = q
 *
 * H and W are attributes, because with a stride several sizes of x give the same y. Gradient: conv and
 * conv_dw (conv.h). */

#include "ops/conv.h"

#include "graph/number.h"
#include "ops/ops.h"

#define CONV_DX_GRAIN 1e6 /* operations that are worth a chunk */

enum { DY, W };
static const op_slot conv_dx_in[] = {
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "dy" },
    SLOT_END,
};
static const op_slot conv_dx_out[] = { { .name = "dx" }, SLOT_END };

static heed_status conv_dx_infer(op_infer *t)
{
    const conv_attrs *a = t->attrs;
    const heed_type *dy = &t->in[DY], *w = &t->in[W];
    heed_type x = *dy, y;

    if (dy->rank < 3 || dy->rank > 4 || w->rank != dy->rank || a->size.n != dy->rank - 2)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "wants dy [B,O,(H,)W] and a weight of the same rank, got ranks %d and %d",
                            dy->rank, w->rank);
    if (!heed__i64_mul(&x.dims[1], w->dims[1], a->groups))
        return heed__refuse(t, HEED_ERR_LIMIT, "too many channels");
    for (int i = 0; i < a->size.n; i++)
        x.dims[2 + i] = a->size.v[i];
    TRY(heed__conv_type(t, a, &x, w, &y));
    if (!heed_type_equal(&y, dy))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "dy does not have the sizes that a convolution of x and weight gives");
    t->out[0] = x;
    return HEED_OK;
}

static void conv_dx_grad(op_grad *g)
{
    const heed_type w = heed_value_type(g->b, g->in[W]);

    if (g->need[DY])
        g->din[DY] = heed__conv(g->b, g->attrs, g->dout[0], g->in[W]);
    if (g->need[W])
        g->din[W] = heed__conv_dw(g->b, g->attrs, g->dout[0], g->in[DY], w.dims + 2);
}

static conv_shape conv_dx_shape(const op_call *c)
{
    return heed__conv_shape(c->attrs, &c->out[0].type, &c->in[W].type, &c->in[DY].type);
}

static double conv_dx_flops(const op_call *c)
{
    const conv_shape s = conv_dx_shape(c);
    return heed__conv_flops(&s);
}

static int64_t conv_dx_count(const op_call *c)
{
    return heed_type_count(&c->out[0].type) ? c->out[0].type.dims[0] : 0;
}

static int64_t conv_dx_chunk(const op_call *c)
{
    return (int64_t)(CONV_DX_GRAIN * (double)conv_dx_count(c) / (conv_dx_flops(c) + 1)) + 1;
}

static size_t conv_dx_scratch(const op_call *c)
{
    const conv_shape s = conv_dx_shape(c);
    return c->gemm->conv_scratch_bytes(&s);
}

static size_t conv_dx_shared(const op_call *c)
{
    const conv_shape s = conv_dx_shape(c);
    return c->gemm->conv_dx_packed_bytes(&s);
}

static int64_t conv_dx_prepare_count(const op_call *c)
{
    return conv_dx_count(c) > 0;
}

static void conv_dx_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_dx_shape(c);

    (void)begin;
    (void)end;
    c->gemm->conv_dx_prepare(c->shared, c->in[W].data, &s);
}

static void conv_dx_run(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_dx_shape(c);

    c->gemm->conv_dx(c->out[0].data, c->in[DY].data, c->shared, &s, begin, end, c->scratch[0]);
}

static int64_t conv_dx_reference_count(const op_call *c)
{
    return c->out[0].type.dims[0] * c->out[0].type.dims[1];
}

/* The output place along an axis whose tap k reads q, or -1. */
static int64_t conv_dx_place(const conv_shape *s, int axis, int64_t q, int64_t k)
{
    const int64_t from = q + s->pad[axis] - k * s->dilation[axis];

    if (from < 0 || from % s->stride[axis] != 0)
        return -1;
    return from / s->stride[axis] < s->out[axis] ? from / s->stride[axis] : -1;
}

/* One plane of dx an item. */
static void conv_dx_reference(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_dx_shape(c);
    const view *dy = &c->in[DY], *w = &c->in[W], *dx = &c->out[0];
    const conv_strides ys = heed__conv_strides(dy), ws = heed__conv_strides(w), xs = heed__conv_strides(dx);
    const heed_dtype dtype = dy->type.dtype;
    const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups;

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / s.in_channels, i = item % s.in_channels, first = i / in * out;
        for (int64_t q = 0; q < s.in[0] * s.in[1]; q++) {
            const int64_t q0 = q / s.in[1], q1 = q % s.in[1];
            double sum = 0;
            for (int64_t o = first; o < first + out; o++)
                for (int64_t k = 0; k < s.kernel[0] * s.kernel[1]; k++) {
                    const int64_t k0 = k / s.kernel[1], k1 = k % s.kernel[1];
                    const int64_t at0 = conv_dx_place(&s, 0, q0, k0), at1 = conv_dx_place(&s, 1, q1, k1);
                    if (at0 >= 0 && at1 >= 0)
                        sum += heed__number_get(dtype, dy->data,
                                                b * ys.s[0] + o * ys.s[1] + at0 * ys.s[2] + at1 * ys.s[3]) *
                               heed__number_get(dtype, w->data,
                                                o * ws.s[0] + i % in * ws.s[1] + k0 * ws.s[2] + k1 * ws.s[3]);
                }
            heed__number_put(dtype, dx->data, b * xs.s[0] + i * xs.s[1] + q0 * xs.s[2] + q1 * xs.s[3], sum);
        }
    }
}

static const op_kernel conv_dx_cpu[] = {
    { .name = "gemm", .layout = DENSE, .accepts = heed__all_f32, .count = conv_dx_count,
      .chunk_of = conv_dx_chunk,
      .scratch = conv_dx_scratch, .shared = conv_dx_shared, .prepare_count = conv_dx_prepare_count,
      .prepare = conv_dx_prepare,
      .run = conv_dx_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = conv_dx_reference_count,
      .run = conv_dx_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample conv_dx_samples[] = {
    { .in = { DIMS(3, 6, 9, 8), DIMS(6, 4, 3, 3) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(9, 8), 1 } },
    { .in = { DIMS(2, 6, 4, 7), DIMS(6, 2, 3, 2) },
      .attrs = &(const conv_attrs){ LIST(2, 1), LIST(1, 2), LIST(0, 1), LIST(2, 3), LIST(11, 7), 2 } },
    { .in = { DIMS(2, 5, 6), DIMS(5, 3, 4) },
      .attrs = &(const conv_attrs){ LIST(3), LIST(2), LIST(1), LIST(1), LIST(17), 1 } },
    /* a stride as wide as the kernel: what is left over gets zeros */
    { .in = { DIMS(1, 2, 3, 2), DIMS(2, 2, 3, 3) },
      .attrs = &(const conv_attrs){ LIST(3, 3), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(10, 8), 1 },
      .scale = 1e4 },
    { .in = { DIMS(0, 4, 6, 6), DIMS(4, 3, 3, 3) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(8, 8), 1 } },
    { .in = { DIMS(1, 4, 5, 6), DIMS(4, 3, 3, 3) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(8, 8), 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__conv_dx(heed_builder *b, const conv_attrs *a, heed_value dy, heed_value w,
                         const int64_t *size)
{
    conv_attrs sized = *a;

    sized.size.n = a->stride.n;
    for (int i = 0; i < a->stride.n && i < FIELD_LIST_MAX; i++)
        sized.size.v[i] = size[i];
    return heed__node(b, &heed__op_conv_dx, &sized, (heed_value[]){ dy, w }, 2);
}

/* output_padding is what the size asks for beyond the last place that a tap reaches. */
static void conv_dx_onnx(onnx_emit *e)
{
    const conv_attrs *a = e->attrs;
    int64_t pads[4] = { 0 }, beyond[2] = { 0 };

    heed__conv_onnx_pads(pads, a);
    for (int i = 0; i < a->stride.n && i < 2; i++)
        beyond[i] = a->size.v[i] + a->pad.v[i] + a->pad_after.v[i] -
                    (a->stride.v[i] * (e->in[DY].dims[2 + i] - 1) +
                     a->dilation.v[i] * (e->in[W].dims[2 + i] - 1) + 1);
    heed__onnx_node(e, (onnx_attr[]){ ONNX_INTS("strides", a->stride.v, a->stride.n),
                                      ONNX_INTS("dilations", a->dilation.v, a->dilation.n),
                                      ONNX_INTS("pads", pads, 2 * a->pad.n),
                                      ONNX_INTS("output_padding", beyond, a->stride.n),
                                      ONNX_INT("group", a->groups), ONNX_END });
}

const op_def heed__op_conv_dx = {
    .name = "conv_dx", .version = 1, .in = conv_dx_in, .out = conv_dx_out, .attrs_size = sizeof(conv_attrs),
    .fields = heed__conv_fields, .infer = conv_dx_infer, .grad = conv_dx_grad, .cpu = conv_dx_cpu,
    .flops = conv_dx_flops,
    .onnx = { "ConvTranspose", 11 }, .onnx_emit = conv_dx_onnx,
    .torch = "conv_transpose2d(dy, weight, None, {stride}, {pad}, 0, {groups}, {dilation})",
    .samples = conv_dx_samples,
};
