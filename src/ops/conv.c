/* conv: y[b,o,p] = bias[o] + sum_{i,k} x[b,i, p stride - pad + k dilation] w[o,i,k], zeros outside x
 * (cross-correlation).
 *
 *   x [B,I,(H,)W], w [O,I/groups,(Kh,)Kw], bias [O]  ->  y [B,O,(H',)W']
 *   H' = (H + pad + pad_after - dilation (Kh - 1) - 1) / stride + 1
 *
 * The f32 kernel is a GEMM whose columns are never written down (cpu/level/conv.c); an element has the same
 * bits whatever the batch is. Gradient: conv_dx, conv_dw, and the sum of dy for the bias (see conv.h). */

#include "ops/conv.h"

#include "graph/number.h"
#include "ops/ops.h"

#define CONV_GRAIN 1e6 /* operations that are worth a chunk */
#define CONV_MOST INT32_MAX

enum { X, W, BIAS };
static const op_slot conv_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "x" },
    { .name = "bias", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    SLOT_END,
};
static const op_slot conv_out[] = { { .name = "y" }, SLOT_END };

const op_field heed__conv_fields[] = {
    FIELD_I64S(conv_attrs, stride), FIELD_I64S(conv_attrs, pad),  FIELD_I64S(conv_attrs, pad_after),
    FIELD_I64S(conv_attrs, dilation), FIELD_I64S(conv_attrs, size), FIELD_I64(conv_attrs, groups), FIELD_END,
};

/* ---- types and shapes of all three ops ---- */

static bool conv_list_ok(const field_i64s *l, int n, int64_t least)
{
    if (l->n != n)
        return false;
    for (int i = 0; i < n; i++)
        if (l->v[i] < least || l->v[i] > CONV_MOST)
            return false;
    return true;
}

heed_status heed__conv_type(op_infer *t, const conv_attrs *a, const heed_type *x, const heed_type *w,
                            heed_type *y)
{
    const int axes = x->rank - 2;
    int64_t channels;

    if (axes < 1 || axes > 2 || w->rank != x->rank)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "wants x [B,I,(H,)W] and a weight of the same rank, got ranks %d and %d", x->rank,
                            w->rank);
    if (!conv_list_ok(&a->stride, axes, 1) || !conv_list_ok(&a->dilation, axes, 1) ||
        !conv_list_ok(&a->pad, axes, 0) || !conv_list_ok(&a->pad_after, axes, 0) || a->groups < 1 ||
        a->groups > CONV_MOST)
        return heed__refuse(t, HEED_ERR_LIMIT,
                            "strides, dilations and groups begin at 1, padding at 0; each is at most %d",
                            CONV_MOST);
    if (!heed__i64_mul(&channels, w->dims[1], a->groups) || channels != x->dims[1] ||
        w->dims[0] % a->groups != 0)
        return heed__refuse(
            t, HEED_ERR_SHAPE, "a weight [%lld,%lld,...] with %lld groups does not fit %lld channels",
            (long long)w->dims[0], (long long)w->dims[1], (long long)a->groups, (long long)x->dims[1]);
    *y = *x;
    y->dims[1] = w->dims[0];
    for (int i = 0; i < axes; i++) {
        const int64_t padded = x->dims[2 + i] + a->pad.v[i] + a->pad_after.v[i], taps = w->dims[2 + i];
        int64_t reach;

        if (taps < 1 || x->dims[2 + i] > INT64_MAX / 2 ||
            !heed__i64_mul(&reach, a->dilation.v[i], taps - 1) || reach >= padded)
            return heed__refuse(
                t, HEED_ERR_SHAPE,
                "a kernel of %lld taps with dilation %lld does not fit into %lld padded elements",
                (long long)taps, (long long)a->dilation.v[i], (long long)padded);
        y->dims[2 + i] = (padded - reach - 1) / a->stride.v[i] + 1;
    }
    return HEED_OK;
}

conv_shape heed__conv_shape(const conv_attrs *a, const heed_type *x, const heed_type *w, const heed_type *y)
{
    conv_shape s = { .batch = x->dims[0],
                     .in_channels = x->dims[1],
                     .out_channels = w->dims[0],
                     .groups = a->groups,
                     .in = { 1, 1 },
                     .out = { 1, 1 },
                     .kernel = { 1, 1 },
                     .stride = { 1, 1 },
                     .dilation = { 1, 1 } };
    const int axes = x->rank - 2;

    for (int i = 0; i < axes; i++) {
        const int to = 2 - axes + i;
        s.in[to] = x->dims[2 + i];
        s.out[to] = y->dims[2 + i];
        s.kernel[to] = w->dims[2 + i];
        s.stride[to] = a->stride.v[i];
        s.dilation[to] = a->dilation.v[i];
        s.pad[to] = a->pad.v[i];
    }
    return s;
}

conv_strides heed__conv_strides(const view *v)
{
    const bool flat = v->type.rank == 3;
    return (conv_strides){
        { v->strides[0], v->strides[1], flat ? 0 : v->strides[2], v->strides[flat ? 2 : 3] }
    };
}

double heed__conv_flops(const conv_shape *s)
{
    const int64_t in = s->in_channels / s->groups;

    return 2.0 * (double)s->batch * (double)s->out_channels * (double)(s->out[0] * s->out[1]) * (double)in *
           (double)(s->kernel[0] * s->kernel[1]);
}

/* ---- conv ---- */

static heed_status conv_infer(op_infer *t)
{
    if (heed__given(t, BIAS) && (t->in[BIAS].rank != 1 || t->in[BIAS].dims[0] != t->in[W].dims[0]))
        return heed__refuse(t, HEED_ERR_SHAPE, "bias must have one number for each output channel");
    return heed__conv_type(t, t->attrs, &t->in[X], &t->in[W], &t->out[0]);
}

static void conv_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[X]), w = heed_value_type(g->b, g->in[W]);

    if (g->need[X])
        g->din[X] = heed__conv_dx(g->b, g->attrs, g->dout[0], g->in[W], x.dims + 2);
    if (g->need[W])
        g->din[W] = heed__conv_dw(g->b, g->attrs, g->in[X], g->dout[0], w.dims + 2);
    if (g->n_in > BIAS && g->need[BIAS]) /* all axes but the channels */
        g->din[BIAS] = heed_sum(g->b, g->dout[0], ((1u << x.rank) - 1u) & ~2u, HEED_DROP_AXES);
}

static conv_shape conv_call_shape(const op_call *c)
{
    return heed__conv_shape(c->attrs, &c->in[X].type, &c->in[W].type, &c->out[0].type);
}

static double conv_flops(const op_call *c)
{
    const conv_shape s = conv_call_shape(c);
    return heed__conv_flops(&s);
}

static int64_t conv_count(const op_call *c)
{
    return heed_type_count(&c->out[0].type) ? c->out[0].type.dims[0] : 0;
}

static int64_t conv_chunk(const op_call *c)
{
    return (int64_t)(CONV_GRAIN * (double)conv_count(c) / (conv_flops(c) + 1)) + 1;
}

static size_t conv_scratch(const op_call *c)
{
    const conv_shape s = conv_call_shape(c);
    return c->gemm->conv_scratch_bytes(&s);
}

static size_t conv_shared(const op_call *c)
{
    const conv_shape s = conv_call_shape(c);
    return c->gemm->conv_packed_bytes(&s);
}

static int64_t conv_prepare_count(const op_call *c)
{
    return conv_count(c) > 0;
}

static void conv_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_call_shape(c);

    (void)begin;
    (void)end;
    c->gemm->conv_prepare(c->shared, c->in[W].data, &s);
}

static void conv_run(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_call_shape(c);
    const float *bias = c->n_in > BIAS ? c->in[BIAS].data : NULL;

    c->gemm->conv_forward(c->out[0].data, c->in[X].data, c->shared, bias, &s, begin, end, c->scratch[0]);
}

static int64_t conv_reference_count(const op_call *c)
{
    return c->out[0].type.dims[0] * c->out[0].type.dims[1];
}

/* One plane of y an item. */
static void conv_reference(const op_call *c, int64_t begin, int64_t end)
{
    const conv_shape s = conv_call_shape(c);
    const view *x = &c->in[X], *w = &c->in[W], *y = &c->out[0];
    const conv_strides xs = heed__conv_strides(x), ws = heed__conv_strides(w), ys = heed__conv_strides(y);
    const heed_dtype dtype = x->type.dtype;
    const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups;
    const bool biased = c->n_in > BIAS && c->in[BIAS].data;

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / s.out_channels, o = item % s.out_channels, first = o / out * in;
        for (int64_t p = 0; p < s.out[0] * s.out[1]; p++) {
            const int64_t p0 = p / s.out[1], p1 = p % s.out[1];
            double sum = biased ? heed__number_get(dtype, c->in[BIAS].data, o * c->in[BIAS].strides[0]) : 0;
            for (int64_t i = 0; i < in; i++)
                for (int64_t k = 0; k < s.kernel[0] * s.kernel[1]; k++) {
                    const int64_t k0 = k / s.kernel[1], k1 = k % s.kernel[1];
                    const int64_t at0 = heed__conv_place(&s, 0, p0, k0),
                                  at1 = heed__conv_place(&s, 1, p1, k1);
                    if (at0 >= 0 && at1 >= 0)
                        sum += heed__number_get(dtype, x->data,
                                                b * xs.s[0] + (first + i) * xs.s[1] + at0 * xs.s[2] +
                                                    at1 * xs.s[3]) *
                               heed__number_get(dtype, w->data,
                                                o * ws.s[0] + i * ws.s[1] + k0 * ws.s[2] + k1 * ws.s[3]);
                }
            heed__number_put(dtype, y->data, b * ys.s[0] + o * ys.s[1] + p0 * ys.s[2] + p1 * ys.s[3], sum);
        }
    }
}

static const op_kernel conv_cpu[] = {
    { .name = "gemm", .layout = DENSE, .accepts = heed__all_f32, .count = conv_count,
      .chunk_of = conv_chunk, .scratch = conv_scratch,
      .shared = conv_shared, .prepare_count = conv_prepare_count, .prepare = conv_prepare, .run = conv_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = conv_reference_count,
      .run = conv_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample conv_samples[] = {
    { .in = { DIMS(3, 4, 9, 8), DIMS(6, 4, 3, 3), DIMS(6) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(1, 1), .groups = 1 } },
    { .in = { DIMS(2, 4, 11, 7), DIMS(6, 2, 3, 2) }, /* everything odd */
      .attrs = &(const conv_attrs){ LIST(2, 1), LIST(1, 2), LIST(0, 1), LIST(2, 3), .groups = 2 } },
    { .in = { DIMS(2, 3, 17), DIMS(5, 3, 4), DIMS(5) }, /* one-dimensional */
      .attrs = &(const conv_attrs){ LIST(3), LIST(2), LIST(1), LIST(1), .groups = 1 } },
    { .in = { DIMS(2, 5, 6, 6), DIMS(5, 1, 3, 3) }, /* depthwise */
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(1, 1), .groups = 5 } },
    { .in = { DIMS(1, 32, 5, 5), DIMS(3, 32, 3, 3) }, /* the sum is longer than GEMM_KC */
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), .groups = 1 },
      .scale = 1e4 },
    { .in = { DIMS(0, 3, 8, 8), DIMS(4, 3, 3, 3), DIMS(4) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), .groups = 1 } },
    { .in = { DIMS(1, 3, 2, 8), DIMS(4, 3, 3, 3) },
      .attrs = &(const conv_attrs){ LIST(1, 1), LIST(0, 0), LIST(0, 0), LIST(1, 1), .groups = 1 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__conv(heed_builder *b, const conv_attrs *a, heed_value x, heed_value w)
{
    conv_attrs plain = *a;

    plain.size = (field_i64s){ 0 };
    return heed__node(b, &heed__op_conv, &plain, (heed_value[]){ x, w }, 2);
}

static conv_attrs conv_attrs_of(const heed_conv_opts *o, int axes)
{
    conv_attrs a = { .groups = OPT(o, groups, 1) };

    for (int i = 0; i < axes && i < 2; i++) {
        a.stride.v[i] = OPT(o, stride[i], 1);
        a.dilation.v[i] = OPT(o, dilation[i], 1);
        a.pad.v[i] = OPT(o, pad[i], 0);
        a.pad_after.v[i] = o && o->pad_after[i].set ? o->pad_after[i].value : a.pad.v[i];
    }
    a.stride.n = a.dilation.n = a.pad.n = a.pad_after.n = axes;
    return a;
}

heed_value heed_conv(heed_builder *b, heed_value x, heed_value w, heed_value bias, const heed_conv_opts *opts)
{
    const conv_attrs a = conv_attrs_of(opts, heed_rank(b, x) - 2);

    return heed__node(b, &heed__op_conv, &a, (heed_value[]){ x, w, bias }, bias.id ? 3 : 2);
}

heed_value heed_conv_transpose(heed_builder *b, heed_value x, heed_value w, heed_value bias,
                               const heed_conv_opts *opts, const int64_t *output_pad)
{
    const heed_type tx = heed_value_type(b, x), tw = heed_value_type(b, w);
    const int axes = tx.rank - 2;
    const conv_attrs a = conv_attrs_of(opts, axes);
    int64_t size[2] = { 0 }, dims[HEED_MAX_RANK] = { 1, 1, 1, 1 };

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (axes < 1 || axes > 2 || tw.rank != tx.rank)
        return heed__poison(
            b, HEED_ERR_SHAPE,
            "conv_transpose: wants x [B,I,(H,)W] and a weight of the same rank, got ranks %d and %d", tx.rank,
            tw.rank);
    for (int i = 0; i < axes; i++) {
        const int64_t behind = output_pad ? output_pad[i] : 0;

        if (!conv_list_ok(&a.stride, axes, 1) || !conv_list_ok(&a.dilation, axes, 1) ||
            !conv_list_ok(&a.pad, axes, 0) || !conv_list_ok(&a.pad_after, axes, 0) ||
            tx.dims[2 + i] > CONV_MOST || tw.dims[2 + i] > CONV_MOST)
            return heed__poison(
                b, HEED_ERR_LIMIT,
                "conv_transpose: strides and dilations begin at 1, padding at 0; all stay below 2^31");
        if (behind < 0 || behind >= i64_max(a.stride.v[i], a.dilation.v[i]))
            return heed__poison(b, HEED_ERR_LIMIT,
                                "conv_transpose: output_pad must be smaller than stride or dilation");
        size[i] = (tx.dims[2 + i] - 1) * a.stride.v[i] - a.pad.v[i] - a.pad_after.v[i] +
                  a.dilation.v[i] * (tw.dims[2 + i] - 1) + behind + 1;
        if (size[i] < 1)
            return heed__poison(b, HEED_ERR_SHAPE,
                                "conv_transpose: the result would have no elements along spatial axis %d", i);
    }
    x = heed__conv_dx(b, &a, x, w, size);
    if (!bias.id)
        return x;
    dims[1] = heed_dim(b, bias, 0);
    return heed_add(b, x, heed_reshape(b, bias, tx.rank, dims));
}

static void conv_onnx(onnx_emit *e)
{
    const conv_attrs *a = e->attrs;
    int64_t pads[4] = { 0 };

    heed__conv_onnx_pads(pads, a);
    heed__onnx_node(e, (onnx_attr[]){ ONNX_INTS("strides", a->stride.v, a->stride.n),
                                      ONNX_INTS("dilations", a->dilation.v, a->dilation.n),
                                      ONNX_INTS("pads", pads, 2 * a->pad.n), ONNX_INT("group", a->groups),
                                      ONNX_END });
}

const op_def heed__op_conv = {
    .name = "conv", .version = 1, .in = conv_in, .out = conv_out, .attrs_size = sizeof(conv_attrs),
    .fields = heed__conv_fields,
    .infer = conv_infer, .grad = conv_grad, .cpu = conv_cpu, .flops = conv_flops, .onnx = { "Conv", 11 },
    .onnx_emit = conv_onnx,
    .torch = "conv2d(x, weight, bias, {stride}, {pad}, {dilation}, {groups})", .samples = conv_samples,
};
