/* pool_sum: y[b,c,p] = sum of x[b,c,q] over the window of p (pool.h); elements in the padding count as 0.
 *
 *   x [B,C,(H,)W]  ->  y [B,C,(H',)W'], the sizes of y being an attribute because of PyTorch's ceil_mode
 *
 * Its gradient pool_sum_grad gives each element the sum of dy over the windows it lies in; the two are each
 * other's transpose. Average pooling divides by the sizes of windows, which are constants. Adaptive
 * pooling, whose regions overlap and differ in size, is a product with a constant matrix along each axis. */

#include "ops/pool.h"

#include "base/context.h"
#include "graph/number.h"
#include "ops/ops.h"

#include <string.h>

#define POOL_MOST INT32_MAX

const op_field heed__pool_fields[] = {
    FIELD_I64S(pool_attrs, kernel),   FIELD_I64S(pool_attrs, stride), FIELD_I64S(pool_attrs, pad),
    FIELD_I64S(pool_attrs, dilation), FIELD_I64S(pool_attrs, size),   FIELD_END,
};

/* ---- windows ---- */

pool_shape heed__pool_shape(const pool_attrs *a, const heed_type *full, const heed_type *pooled)
{
    pool_shape s = { .planes = full->dims[0] * full->dims[1],
                     .in = { 1, 1 },
                     .out = { 1, 1 },
                     .kernel = { 1, 1 },
                     .stride = { 1, 1 },
                     .dilation = { 1, 1 } };
    const int axes = full->rank - 2;

    for (int i = 0; i < axes; i++) {
        const int to = 2 - axes + i;
        s.in[to] = full->dims[2 + i];
        s.out[to] = pooled->dims[2 + i];
        s.kernel[to] = a->kernel.v[i];
        s.stride[to] = a->stride.v[i];
        s.pad[to] = a->pad.v[i];
        s.dilation[to] = a->dilation.v[i];
    }
    return s;
}

static bool pool_list_ok(const field_i64s *l, int n, int64_t least)
{
    if (l->n != n)
        return false;
    for (int i = 0; i < n; i++)
        if (l->v[i] < least || l->v[i] > POOL_MOST)
            return false;
    return true;
}

heed_status heed__pool_resized(op_infer *t, const pool_attrs *a, const heed_type *from, heed_type *to)
{
    const int axes = from->rank - 2;

    if (axes < 1 || axes > 2)
        return heed__refuse(t, HEED_ERR_SHAPE, "wants x [B,C,(H,)W], got rank %d", from->rank);
    if (!pool_list_ok(&a->kernel, axes, 1) || !pool_list_ok(&a->stride, axes, 1) ||
        !pool_list_ok(&a->dilation, axes, 1) || !pool_list_ok(&a->pad, axes, 0) ||
        !pool_list_ok(&a->size, axes, 1))
        return heed__refuse(t, HEED_ERR_LIMIT,
                            "kernel, stride, dilation and size begin at 1, padding at 0; each is at most %d",
                            POOL_MOST);
    *to = *from;
    for (int i = 0; i < axes; i++)
        to->dims[2 + i] = a->size.v[i];
    return HEED_OK;
}

heed_status heed__pool_check(op_infer *t, const pool_attrs *a, const heed_type *full, const heed_type *pooled)
{
    pool_shape s;

    if (pooled->rank != full->rank || pooled->dims[0] != full->dims[0] || pooled->dims[1] != full->dims[1])
        return heed__refuse(t, HEED_ERR_SHAPE, "batch and channels differ");
    s = heed__pool_shape(a, full, pooled);
    for (int axis = 0; axis < 2; axis++) {
        const int64_t before = i64_min(s.out[axis], i64_ceil_div(s.pad[axis], s.stride[axis]));
        bool empty = s.out[axis] > 0 && (s.out[axis] - 1) * s.stride[axis] - s.pad[axis] >= s.in[axis];
        for (int64_t p = 0; p < before && !empty;
             p++) { /* only windows that begin in the padding can miss x */
            int64_t first, end;
            heed__pool_window(&s, axis, p, &first, &end);
            empty = first >= end;
        }
        if (empty)
            return heed__refuse(t, HEED_ERR_SHAPE, "a window lies in the padding alone");
    }
    return HEED_OK;
}

pool_plane heed__pool_plane(const view *v, int64_t item)
{
    const bool flat = v->type.rank == 3;
    const int64_t channels = v->type.dims[1];

    return (pool_plane){ item / channels * v->strides[0] + item % channels * v->strides[1],
                         { flat ? 0 : v->strides[2], v->strides[flat ? 2 : 3] } };
}

/* PyTorch's sizes: rounded up in ceil_mode, but the last window must begin inside x or in the padding
 * before it. */
static int64_t pool_size(int64_t in, int64_t reach, int64_t stride, int64_t pad, bool up)
{
    int64_t n = (in + 2 * pad - reach - 1 + (up ? stride - 1 : 0)) / stride + 1;

    if (up && (n - 1) * stride >= in + pad)
        n--;
    return n;
}

bool heed__pool_attrs(heed_builder *b, pool_attrs *a, const heed_type *x, const int64_t *kernel,
                      const heed_pool_opts *o)
{
    const int axes = x->rank - 2;

    *a = (pool_attrs){ 0 };
    if (heed__poisoned(b))
        return false;
    if (axes < 1 || axes > 2) {
        heed__poison(b, HEED_ERR_SHAPE, "pooling wants x [B,C,(H,)W], got rank %d", x->rank);
        return false;
    }
    a->kernel.n = a->stride.n = a->pad.n = a->dilation.n = a->size.n = axes;
    for (int i = 0; i < axes; i++) {
        const int64_t in = x->dims[2 + i];
        a->kernel.v[i] = kernel[i];
        a->stride.v[i] = OPT(o, stride[i], kernel[i]);
        a->dilation.v[i] = OPT(o, dilation[i], 1);
        a->pad.v[i] = OPT(o, pad[i], 0);
        if (kernel[i] < 1 || kernel[i] > POOL_MOST || a->stride.v[i] < 1 || a->stride.v[i] > POOL_MOST ||
            a->dilation.v[i] < 1 || a->dilation.v[i] > POOL_MOST || in > POOL_MOST || a->pad.v[i] < 0) {
            heed__poison(
                b, HEED_ERR_LIMIT,
                "pooling: kernel, stride and dilation begin at 1, padding at 0, and all are below 2^31");
            return false;
        }
        const int64_t reach = (kernel[i] - 1) * a->dilation.v[i];
        if (a->pad.v[i] > (reach + 1) / 2) {
            heed__poison(b, HEED_ERR_LIMIT, "pooling: padding %lld is more than half of the window",
                         (long long)a->pad.v[i]);
            return false;
        }
        if (in + 2 * a->pad.v[i] <= reach) {
            heed__poison(b, HEED_ERR_SHAPE, "pooling: a window of %lld elements does not fit into %lld",
                         (long long)reach + 1, (long long)in);
            return false;
        }
        a->size.v[i] = pool_size(in, reach, a->stride.v[i], a->pad.v[i], o && o->ceil_mode);
    }
    return true;
}

/* ---- pool_sum ---- */

static const op_slot pool_sum_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot pool_sum_out[] = { { .name = "y" }, SLOT_END };

static heed_status pool_sum_infer(op_infer *t)
{
    TRY(heed__pool_resized(t, t->attrs, &t->in[0], &t->out[0]));
    return heed__pool_check(t, t->attrs, &t->in[0], &t->out[0]);
}

static heed_value pool_node(heed_builder *b, const op_def *op, const pool_attrs *a, heed_value x,
                            const int64_t *size)
{
    pool_attrs sized = *a;

    for (int i = 0; i < a->size.n && i < 2; i++)
        sized.size.v[i] = size[i];
    return heed__node(b, op, &sized, &x, 1);
}

static void pool_sum_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[0]);
    g->din[0] = pool_node(g->b, &heed__op_pool_sum_grad, g->attrs, g->dout[0], x.dims + 2);
}

static int64_t pool_sum_count(const op_call *c)
{
    return c->out[0].type.dims[0] * c->out[0].type.dims[1];
}

static int64_t pool_sum_chunk(const op_call *c)
{
    const int64_t plane = heed__dims_product(&c->out[0].type, 2, c->out[0].type.rank);
    return 4096 / i64_max(1, plane) + 1;
}

static void pool_sum_run(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->in[0].type, &c->out[0].type);

    for (int64_t item = begin; item < end; item++) {
        const float *x = (const float *)c->in[0].data + item * s.in[0] * s.in[1];
        float *y = (float *)c->out[0].data + item * s.out[0] * s.out[1];
        for (int64_t p0 = 0; p0 < s.out[0]; p0++) {
            int64_t first0, end0;
            heed__pool_window(&s, 0, p0, &first0, &end0);
            for (int64_t p1 = 0; p1 < s.out[1]; p1++) {
                int64_t first1, end1;
                float sum = 0;
                heed__pool_window(&s, 1, p1, &first1, &end1);
                for (int64_t k0 = first0; k0 < end0; k0++) {
                    const float *row = x + (p0 * s.stride[0] - s.pad[0] + k0 * s.dilation[0]) * s.in[1] +
                                       p1 * s.stride[1] - s.pad[1];
                    for (int64_t k1 = first1; k1 < end1; k1++)
                        sum += row[k1 * s.dilation[1]];
                }
                y[p0 * s.out[1] + p1] = sum;
            }
        }
    }
}

static void pool_sum_reference(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->in[0].type, &c->out[0].type);
    const heed_dtype dtype = c->in[0].type.dtype;

    for (int64_t item = begin; item < end; item++) {
        const pool_plane x = heed__pool_plane(&c->in[0], item), y = heed__pool_plane(&c->out[0], item);
        for (int64_t p = 0; p < s.out[0] * s.out[1]; p++) {
            const int64_t p0 = p / s.out[1], p1 = p % s.out[1];
            int64_t first0, end0, first1, end1;
            double sum = 0;
            heed__pool_window(&s, 0, p0, &first0, &end0);
            heed__pool_window(&s, 1, p1, &first1, &end1);
            for (int64_t k0 = first0; k0 < end0; k0++)
                for (int64_t k1 = first1; k1 < end1; k1++)
                    sum +=
                        heed__number_get(dtype, c->in[0].data,
                                         x.at + (p0 * s.stride[0] - s.pad[0] + k0 * s.dilation[0]) * x.s[0] +
                                             (p1 * s.stride[1] - s.pad[1] + k1 * s.dilation[1]) * x.s[1]);
            heed__number_put(dtype, c->out[0].data, y.at + p0 * y.s[0] + p1 * y.s[1], sum);
        }
    }
}

static const op_kernel pool_sum_cpu[] = {
    { .name = "planes", .layout = DENSE, .accepts = heed__all_f32, .count = pool_sum_count,
      .chunk_of = pool_sum_chunk,
      .run = pool_sum_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = pool_sum_count,
      .run = pool_sum_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample pool_sum_samples[] = {
    { .in = { DIMS(2, 3, 6, 7) },
      .attrs = &(const pool_attrs){ LIST(2, 3), LIST(2, 2), LIST(1, 1), LIST(1, 1), LIST(4, 4) } },
    { .in = { DIMS(2, 3, 5, 5) },
      .attrs = &(const pool_attrs){ LIST(3, 3), LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(5, 5) } },
    /* ceil_mode: the last window is cut */
    { .in = { DIMS(3, 2, 11) }, .attrs = &(const pool_attrs){ LIST(3), LIST(2), LIST(0), LIST(1), LIST(6) } },
    { .in = { DIMS(1, 2, 8, 8) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(3, 3), LIST(3, 3) },
      .scale = 1e4 },
    { .in = { DIMS(0, 2, 4, 4) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(2, 2) } },
    { .in = { DIMS(1, 2, 4, 4) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(3, 2) },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

/* The mean over whole windows, padding counted, times their size. */
static void pool_sum_onnx(onnx_emit *e)
{
    const pool_attrs *a = e->attrs;
    const char *mean = e->to->fresh(e);
    int64_t pads[4] = { 0 };
    double size = 1;

    for (int i = 0; i < a->kernel.n; i++) {
        size *= (double)a->kernel.v[i];
        if (a->dilation.v[i] != 1) {
            e->to->refuse(e, "a dilated sum of windows is not known before opset 19");
            return;
        }
    }
    heed__pool_onnx_pads(pads, a, &e->in[0], &e->out[0]);
    e->to->node(e, e->name, e->in_name, 1, &mean, 1,
                (onnx_attr[]){ ONNX_INTS("kernel_shape", a->kernel.v, a->kernel.n),
                               ONNX_INTS("strides", a->stride.v, a->stride.n),
                               ONNX_INTS("pads", pads, 2 * a->pad.n), ONNX_INT("count_include_pad", 1),
                               ONNX_END });
    e->to->node(e, "Mul", (const char *[]){ mean, e->to->scalar(e, e->in[0].dtype, size) }, 2, e->out_name, 1,
                NULL);
}

const op_def heed__op_pool_sum = {
    .name = "pool_sum", .version = 1, .in = pool_sum_in, .out = pool_sum_out,
    .attrs_size = sizeof(pool_attrs),
    .fields = heed__pool_fields, .infer = pool_sum_infer, .grad = pool_sum_grad, .cpu = pool_sum_cpu,
    .onnx = { "AveragePool", 11 }, .onnx_emit = pool_sum_onnx,
    .torch = "avg_pool2d(x, {kernel}, {stride}, {pad}, divisor_override=1)", .samples = pool_sum_samples,
};

/* ---- pool_sum_grad ---- */

static const op_slot pool_sum_grad_in[] = {
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot pool_sum_grad_out[] = { { .name = "dx" }, SLOT_END };

static heed_status pool_sum_grad_infer(op_infer *t)
{
    TRY(heed__pool_resized(t, t->attrs, &t->in[0], &t->out[0]));
    return heed__pool_check(t, t->attrs, &t->out[0], &t->in[0]);
}

static void pool_sum_grad_grad(op_grad *g)
{
    const heed_type dy = heed_value_type(g->b, g->in[0]);
    g->din[0] = pool_node(g->b, &heed__op_pool_sum, g->attrs, g->dout[0], dy.dims + 2);
}

static void pool_sum_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->out[0].type, &c->in[0].type);

    for (int64_t item = begin; item < end; item++) {
        const float *dy = (const float *)c->in[0].data + item * s.out[0] * s.out[1];
        float *dx = (float *)c->out[0].data + item * s.in[0] * s.in[1];
        memset(dx, 0, (size_t)(s.in[0] * s.in[1]) * sizeof(float));
        for (int64_t p0 = 0; p0 < s.out[0]; p0++) {
            int64_t first0, end0;
            heed__pool_window(&s, 0, p0, &first0, &end0);
            for (int64_t p1 = 0; p1 < s.out[1]; p1++) {
                const float up = dy[p0 * s.out[1] + p1];
                int64_t first1, end1;
                heed__pool_window(&s, 1, p1, &first1, &end1);
                for (int64_t k0 = first0; k0 < end0; k0++) {
                    float *row = dx + (p0 * s.stride[0] - s.pad[0] + k0 * s.dilation[0]) * s.in[1] +
                                 p1 * s.stride[1] - s.pad[1];
                    for (int64_t k1 = first1; k1 < end1; k1++)
                        row[k1 * s.dilation[1]] += up;
                }
            }
        }
    }
}

/* The sum for one element of dx, so that half precision rounds once. */
static double pool_sum_grad_at(const op_call *c, const pool_shape *s, const pool_plane *dy, int64_t q0,
                               int64_t q1)
{
    double sum = 0;

    for (int64_t k = 0; k < s->kernel[0] * s->kernel[1]; k++) {
        const int64_t from0 = q0 + s->pad[0] - k / s->kernel[1] * s->dilation[0],
                      from1 = q1 + s->pad[1] - k % s->kernel[1] * s->dilation[1];
        const int64_t p0 = from0 / s->stride[0], p1 = from1 / s->stride[1];
        if (from0 >= 0 && from1 >= 0 && from0 % s->stride[0] == 0 && from1 % s->stride[1] == 0 &&
            p0 < s->out[0] && p1 < s->out[1])
            sum +=
                heed__number_get(c->in[0].type.dtype, c->in[0].data, dy->at + p0 * dy->s[0] + p1 * dy->s[1]);
    }
    return sum;
}

static void pool_sum_grad_reference(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->out[0].type, &c->in[0].type);

    for (int64_t item = begin; item < end; item++) {
        const pool_plane dy = heed__pool_plane(&c->in[0], item), dx = heed__pool_plane(&c->out[0], item);
        for (int64_t q = 0; q < s.in[0] * s.in[1]; q++)
            heed__number_put(c->out[0].type.dtype, c->out[0].data,
                             dx.at + q / s.in[1] * dx.s[0] + q % s.in[1] * dx.s[1],
                             pool_sum_grad_at(c, &s, &dy, q / s.in[1], q % s.in[1]));
    }
}

static const op_kernel pool_sum_grad_cpu[] = {
    { .name = "planes", .layout = DENSE, .accepts = heed__all_f32, .count = pool_sum_count,
      .chunk_of = pool_sum_chunk,
      .run = pool_sum_grad_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = pool_sum_count,
      .run = pool_sum_grad_reference },
    KERNEL_END,
};

static const op_sample pool_sum_grad_samples[] = {
    { .in = { DIMS(2, 3, 4, 4) },
      .attrs = &(const pool_attrs){ LIST(2, 3), LIST(2, 2), LIST(1, 1), LIST(1, 1), LIST(6, 7) } },
    { .in = { DIMS(2, 3, 5, 5) },
      .attrs = &(const pool_attrs){ LIST(3, 3), LIST(1, 1), LIST(1, 1), LIST(1, 1), LIST(5, 5) } },
    { .in = { DIMS(3, 2, 6) }, .attrs = &(const pool_attrs){ LIST(3), LIST(2), LIST(0), LIST(1), LIST(11) },
      .scale = 1e4 },
    { .in = { DIMS(0, 2, 2, 2) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(4, 4) } },
    { .in = { DIMS(1, 2, 3, 2) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(4, 4) },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_pool_sum_grad = {
    .name = "pool_sum_grad", .version = 1, .in = pool_sum_grad_in, .out = pool_sum_grad_out,
    .attrs_size = sizeof(pool_attrs),
    .fields = heed__pool_fields, .infer = pool_sum_grad_infer, .grad = pool_sum_grad_grad,
    .cpu = pool_sum_grad_cpu,
    .torch = "the gradient of avg_pool2d(x, {kernel}, {stride}, {pad}, divisor_override=1)",
    .samples = pool_sum_grad_samples,
};

/* ---- averages ---- */

/* What window p of an axis is divided by: PyTorch counts padding, but not what ceil_mode adds behind it. */
static int64_t pool_divisor(int64_t in, int64_t kernel, int64_t from, int64_t pad, bool exclude_pad)
{
    const int64_t begin = exclude_pad ? i64_max(from, 0) : from;
    return i64_min(from + kernel, exclude_pad ? in : in + pad) - begin;
}

/* A constant of one axis from numbers[n]; it broadcasts against values of rank axis + 1 + behind. */
static heed_value pool_constant(heed_builder *b, heed_dtype dtype, int rank, const int64_t *dims,
                                double (*at)(const void *user, int64_t i), const void *user)
{
    heap *h = heed__builder_context(b)->heap;
    const heed_type type = heed_type_of(dtype, rank, dims);
    const int64_t n = heed_type_count(&type);
    void *data = heed__alloc(h, (size_t)i64_max(n, 1), heed_dtype_size(dtype));
    heed_value v;

    if (!data)
        return heed__poison(b, HEED_ERR_MEMORY, "out of memory for %lld numbers", (long long)n);
    for (int64_t i = 0; i < n; i++)
        heed__number_put(dtype, data, i, at(user, i));
    v = heed_constant(b, (heed_tensor){ type, data });
    heed__release(h, data);
    return v;
}

typedef struct pool_average {
    int64_t in, out, kernel, stride, pad;
    bool exclude_pad;
} pool_average;

static double pool_average_at(const void *user, int64_t p)
{
    const pool_average *a = user;
    return 1.0 / (double)pool_divisor(a->in, a->kernel, p * a->stride - a->pad, a->pad, a->exclude_pad);
}

heed_value heed_avg_pool(heed_builder *b, heed_value x, const int64_t *kernel, const heed_pool_opts *opts)
{
    const heed_type type = heed_value_type(b, x);
    const int axes = type.rank - 2;
    double factor = 1;
    pool_attrs a;

    if (!heed__pool_attrs(b, &a, &type, kernel, opts))
        return (heed_value){ 0 };
    x = heed__node(b, &heed__op_pool_sum, &a, &x, 1);
    for (int i = 0; i < axes; i++) {
        const pool_average axis = { type.dims[2 + i], a.size.v[i], a.kernel.v[i],
                                    a.stride.v[i],    a.pad.v[i],  opts && opts->exclude_pad };
        const int64_t dims[2] = { axis.out, 1 };
        const int64_t last = (axis.out - 1) * axis.stride - axis.pad;

        if (a.dilation.v[i] != 1)
            return heed__poison(b, HEED_ERR_SPEC, "avg_pool has no dilation");
        if ((axis.pad == 0 || !axis.exclude_pad) && last + axis.kernel <= axis.in + axis.pad)
            factor /= (double)axis.kernel; /* all windows are whole */
        else
            x = heed_mul(b, x, pool_constant(b, type.dtype, axes - i, dims, pool_average_at, &axis));
    }
    return heed_mul_scalar(b, x, factor);
}

/* Element (q, p) of the matrix [in, out] that averages along an axis: 1 / size of region p, where q lies in
 * it. */
static double pool_adaptive_at(const void *user, int64_t i)
{
    const pool_average *a = user;
    const int64_t q = i / a->out, p = i % a->out;
    const int64_t begin = p * a->in / a->out, end = i64_ceil_div((p + 1) * a->in, a->out);

    return q >= begin && q < end ? 1.0 / (double)(end - begin) : 0;
}

heed_value heed_adaptive_avg_pool(heed_builder *b, heed_value x, const int64_t *out)
{
    const heed_type type = heed_value_type(b, x);
    const int axes = type.rank - 2;
    int64_t kernel[2] = { 1, 1 };
    bool even = true;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (axes < 1 || axes > 2)
        return heed__poison(b, HEED_ERR_SHAPE, "adaptive_avg_pool wants x [B,C,(H,)W], got rank %d",
                            type.rank);
    for (int i = 0; i < axes; i++) {
        const int64_t in = type.dims[2 + i];
        if (out[i] < 1 || in < 1 || in > POOL_MOST || out[i] > POOL_MOST)
            return heed__poison(b, HEED_ERR_SHAPE, "adaptive_avg_pool from %lld to %lld elements",
                                (long long)in, (long long)out[i]);
        even = even && in % out[i] == 0;
        kernel[i] = in / out[i];
    }
    if (even)
        return heed_avg_pool(b, x, kernel, NULL);
    for (int i = 0; i < axes; i++) {
        const pool_average axis = { .in = type.dims[2 + i], .out = out[i] };
        const int64_t dims[2] = { axis.in, axis.out };
        heed_value average = pool_constant(b, type.dtype, 2, dims, pool_adaptive_at, &axis);
        const bool last = i == axes - 1;

        x = heed_matmul(b, last ? x : heed_transpose(b, x, -2, -1), average);
        x = last ? x : heed_transpose(b, x, -2, -1);
    }
    return x;
}

heed_value heed_global_avg_pool(heed_builder *b, heed_value x)
{
    const int rank = heed_rank(b, x);

    if (!heed__poisoned(b) && rank < 3)
        return heed__poison(b, HEED_ERR_SHAPE, "global_avg_pool wants x [B,C,...], got rank %d", rank);
    return heed_mean(b, x, ((1u << rank) - 1u) & ~3u, HEED_KEEP_AXES);
}
