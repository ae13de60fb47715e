/* conv_dw: the weight's gradient of conv.
 *
 *   x [B,I,(H,)W], dy [B,O,(H',)W']  ->  dw [O,I/groups,(Kh,)Kw]
 *   dw[o,i,k] = sum_{b,p} dy[b,o,p] x[b,i, p stride - pad + k dilation]
 *
 * Kh and Kw are attributes. The batch is cut into at most 16 parts whose borders depend on the shape alone;
 * each part sums its items, and the parts are added in order. Gradient: conv_dx and conv (conv.h). */

#include "ops/conv.h"

#include "graph/number.h"
#include "ops/ops.h"

#include <string.h>

#define CONV_DW_PARTS 16
#define CONV_DW_FLOATS (4 << 20) /* of all parts together, unless four parts need more */

enum { X, DY };
static const op_slot conv_dw_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot conv_dw_out[] = { { .name = "dw" }, SLOT_END };

static heed_status conv_dw_infer(op_infer *t)
{
    const conv_attrs *a = t->attrs;
    const heed_type *x = &t->in[X], *dy = &t->in[DY];
    heed_type w = *x, y;

    if (x->rank < 3 || x->rank > 4 || dy->rank != x->rank || a->size.n != x->rank - 2)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "wants x [B,I,(H,)W] and dy of the same rank, got ranks %d and %d", x->rank,
                            dy->rank);
    w.dims[0] = dy->dims[1];
    w.dims[1] = a->groups > 0 ? x->dims[1] / a->groups : 0;
    for (int i = 0; i < a->size.n; i++)
        w.dims[2 + i] = a->size.v[i];
    TRY(heed__conv_type(t, a, x, &w, &y));
    if (!heed_type_equal(&y, dy))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "dy does not have the sizes that a convolution of x with such a weight gives");
    t->out[0] = w;
    return HEED_OK;
}

static void conv_dw_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[X]);

    if (g->need[X])
        g->din[X] = heed__conv_dx(g->b, g->attrs, g->in[DY], g->dout[0], x.dims + 2);
    if (g->need[DY])
        g->din[DY] = heed__conv(g->b, g->attrs, g->in[X], g->dout[0]);
}

static conv_shape conv_dw_shape(const op_call *c)
{
    return heed__conv_shape(c->attrs, &c->in[X].type, &c->out[0].type, &c->in[DY].type);
}

static double conv_dw_flops(const op_call *c)
{
    const conv_shape s = conv_dw_shape(c);
    return heed__conv_flops(&s);
}

static int64_t conv_dw_count(const op_call *c)
{
    return heed_type_count(&c->out[0].type) ? c->in[X].type.dims[0] : 0;
}

static int64_t conv_dw_chunk(const op_call *c)
{
    const int64_t floats = i64_max(1, heed_type_count(&c->out[0].type));
    const int64_t parts = i64_max(4, i64_min(CONV_DW_PARTS, CONV_DW_FLOATS / floats));

    return i64_max(1, i64_ceil_div(conv_dw_count(c), parts));
}

static size_t conv_dw_scratch(const op_call *c)
{
    const conv_shape s = conv_dw_shape(c);
    return c->gemm->conv_scratch_bytes(&s);
}

static size_t conv_dw_partial(const op_call *c)
{
    return (size_t)heed_type_count(&c->out[0].type) * sizeof(float);
}

static void conv_dw_run(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_dw_shape(c);

    c->gemm->conv_dw(c->partial, c->in[X].data, c->in[DY].data, &s, begin, end, c->scratch[0]);
}

static void conv_dw_finish(const op_call *c)
{
    const int64_t n = heed_type_count(&c->out[0].type);
    float *dw = c->out[0].data;

    memset(dw, 0, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < c->chunks; i++)
        c->row->add_scaled(
            dw, (const float *)(const void *)((const char *)c->partial + i * c->partial_stride), 1, n);
}

static int64_t conv_dw_reference_count(const op_call *c)
{
    return c->out[0].type.dims[0] * c->out[0].type.dims[1];
}

/* The taps from one input channel to one output channel an item. */
static void conv_dw_reference(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_dw_shape(c);
    const view *x = &c->in[X], *dy = &c->in[DY], *dw = &c->out[0];
    const conv_strides xs = heed__conv_strides(x), ys = heed__conv_strides(dy), ws = heed__conv_strides(dw);
    const heed_dtype dtype = x->type.dtype;
    const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups,
                  places = s.out[0] * s.out[1];

    for (int64_t item = begin; item < end; item++) {
        const int64_t o = item / in, i = item % in, channel = o / out * in + i;
        for (int64_t k = 0; k < s.kernel[0] * s.kernel[1]; k++) {
            const int64_t k0 = k / s.kernel[1], k1 = k % s.kernel[1];
            double sum = 0;
            for (int64_t bp = 0; bp < s.batch * places; bp++) {
                const int64_t b = bp / places, p0 = bp % places / s.out[1], p1 = bp % places % s.out[1];
                const int64_t at0 = heed__conv_place(&s, 0, p0, k0), at1 = heed__conv_place(&s, 1, p1, k1);
                if (at0 >= 0 && at1 >= 0)
                    sum += heed__number_get(dtype, dy->data,
                                            b * ys.s[0] + o * ys.s[1] + p0 * ys.s[2] + p1 * ys.s[3]) *
                           heed__number_get(dtype, x->data,
                                            b * xs.s[0] + channel * xs.s[1] + at0 * xs.s[2] + at1 * xs.s[3]);
            }
            heed__number_put(dtype, dw->data, o * ws.s[0] + i * ws.s[1] + k0 * ws.s[2] + k1 * ws.s[3], sum);
        }
    }
}

static const op_kernel conv_dw_cpu[] = {
    { .name = "gemm", .layout = DENSE, .accepts = heed__all_f32, .count = conv_dw_count,
      .chunk_of = conv_dw_chunk,
      .scratch = conv_dw_scratch, .partial = conv_dw_partial, .run = conv_dw_run, .finish = conv_dw_finish },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = conv_dw_reference_count,
      .run = conv_dw_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample conv_dw_samples[] = {
    { .in = { DIMS(3, 4, 9, 8), DIMS(3, 6, 9, 8) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(3, 3), 1 } },
    { .in = { DIMS(2, 4, 11, 7), DIMS(2, 6, 4, 7) },
      .attrs = &(const conv_attrs){ LIST(2, 1), LIST(1, 2), LIST(0, 1), LIST(2, 3), LIST(3, 2), 2 } },
    { .in = { DIMS(37, 3, 17), DIMS(37, 5, 6) },
      .attrs = &(const conv_attrs){ LIST(3), LIST(2), LIST(1), LIST(1), LIST(4), 1 } },
    { .in = { DIMS(2, 2, 10, 8), DIMS(2, 2, 3, 2) },
      .attrs = &(const conv_attrs){ LIST(3, 3), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(3, 3), 1 },
      .scale = 1e4 },
    { .in = { DIMS(0, 3, 8, 8), DIMS(0, 4, 6, 6) }, /* the empty sum: zeros */
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(3, 3), 1 } },
    { .in = { DIMS(1, 3, 8, 8), DIMS(1, 4, 5, 6) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), LIST(3, 3), 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__conv_dw(heed_builder *b, const conv_attrs *a, heed_value x, heed_value dy,
                         const int64_t *size)
{
    conv_attrs sized = *a;

    sized.size.n = a->stride.n;
    for (int i = 0; i < a->stride.n && i < FIELD_LIST_MAX; i++)
        sized.size.v[i] = size[i];
    return heed__node(b, &heed__op_conv_dw, &sized, (heed_value[]){ x, dy }, 2);
}

const op_def heed__op_conv_dw = {
    .name = "conv_dw", .version = 1, .in = conv_dw_in, .out = conv_dw_out, .attrs_size = sizeof(conv_attrs),
    .fields = heed__conv_fields, .infer = conv_dw_infer, .grad = conv_dw_grad, .cpu = conv_dw_cpu,
    .flops = conv_dw_flops,
    .torch = "torch.nn.grad.conv2d_weight(x, weight_size, dy, {stride}, {pad}, {dilation}, {groups})",
    .samples = conv_dw_samples,
};
