/* pool_max: y[b,c,p] = the largest x[b,c,q] in the window of p (pool.h), the first of equals.
 *
 *   x [B,C,(H,)W]  ->  y [B,C,(H',)W'], indices i64 like y: q as row * W + column, as PyTorch counts them
 *
 * Padding never wins, a NaN always does. Gradient: dy goes to the element at its index (pool_max_grad). */

#include "ops/pool.h"

#include "graph/number.h"
#include "ops/ops.h"

#include <math.h>

enum { Y, INDICES };
static const op_slot pool_max_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot pool_max_out[] = { { .name = "y" }, { .name = "indices" }, SLOT_END };

static heed_status pool_max_infer(op_infer *t)
{
    TRY(heed__pool_resized(t, t->attrs, &t->in[0], &t->out[Y]));
    t->out[INDICES] = t->out[Y];
    t->out[INDICES].dtype = HEED_I64;
    return heed__pool_check(t, t->attrs, &t->in[0], &t->out[Y]);
}

static void pool_max_grad(op_grad *g)
{
    g->din[0] = heed__pool_max_grad(g->b, g->dout[Y], g->out[INDICES], heed_value_type(g->b, g->in[0]));
}

static int64_t pool_max_count(const op_call *c)
{
    return c->out[Y].type.dims[0] * c->out[Y].type.dims[1];
}

static int64_t pool_max_chunk(const op_call *c)
{
    const int64_t plane = heed__dims_product(&c->in[0].type, 2, c->in[0].type.rank);
    return 16384 / i64_max(1, plane) + 1;
}

/* One plane, any window. */
static void pool_max_plane(const pool_shape *s, const float *x, float *y, int64_t *indices)
{
    for (int64_t p = 0; p < s->out[0] * s->out[1]; p++) {
        const int64_t from0 = p / s->out[1] * s->stride[0] - s->pad[0],
                      from1 = p % s->out[1] * s->stride[1] - s->pad[1];
        int64_t first0, end0, first1, end1, at = -1;
        float most = 0;
        heed__pool_window(s, 0, p / s->out[1], &first0, &end0);
        heed__pool_window(s, 1, p % s->out[1], &first1, &end1);
        for (int64_t k0 = first0; k0 < end0; k0++)
            for (int64_t k1 = first1; k1 < end1; k1++) {
                const int64_t q = (from0 + k0 * s->dilation[0]) * s->in[1] + from1 + k1 * s->dilation[1];
                if (at < 0 || x[q] > most || isnan(x[q])) {
                    most = x[q];
                    at = q;
                }
            }
        if (y)
            y[p] = most;
        if (indices)
            indices[p] = at;
    }
}

/* A row of y or of indices that nobody wants. */
static size_t pool_max_scratch(const op_call *c)
{
    return (size_t)c->out[Y].type.dims[c->out[Y].type.rank - 1] * sizeof(int64_t);
}

static void pool_max_run(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->in[0].type, &c->out[Y].type);
    const int64_t in = s.in[0] * s.in[1], out = s.out[0] * s.out[1];
    const bool quads = heed__pool_quads(&s);

    for (int64_t item = begin; item < end; item++) {
        const float *x = (const float *)c->in[0].data + item * in;
        float *y = c->out[Y].data ? (float *)c->out[Y].data + item * out : NULL;
        int64_t *indices = c->out[INDICES].data ? (int64_t *)c->out[INDICES].data + item * out : NULL;
        for (int64_t p = 0; quads && p < s.out[0]; p++)
            c->row->max_quads(y ? y + p * s.out[1] : c->scratch[0],
                              indices ? indices + p * s.out[1] : c->scratch[1], x + 2 * p * s.in[1],
                              x + (2 * p + 1) * s.in[1], s.out[1], 2 * p * s.in[1], (int32_t)s.in[1]);
        if (!quads)
            pool_max_plane(&s, x, y, indices);
    }
}

static void pool_max_reference(const op_call *c, int64_t begin, int64_t end)
{
    const pool_shape s = heed__pool_shape(c->attrs, &c->in[0].type, &c->out[Y].type);
    const heed_dtype dtype = c->in[0].type.dtype;

    for (int64_t item = begin; item < end; item++) {
        const pool_plane x = heed__pool_plane(&c->in[0], item), y = heed__pool_plane(&c->out[Y], item);
        const pool_plane indices = heed__pool_plane(&c->out[INDICES], item);
        for (int64_t p = 0; p < s.out[0] * s.out[1]; p++) {
            const int64_t p0 = p / s.out[1], p1 = p % s.out[1];
            int64_t first0, end0, first1, end1, at = -1;
            double most = 0;
            heed__pool_window(&s, 0, p0, &first0, &end0);
            heed__pool_window(&s, 1, p1, &first1, &end1);
            for (int64_t k0 = first0; k0 < end0; k0++)
                for (int64_t k1 = first1; k1 < end1; k1++) {
                    const int64_t q0 = p0 * s.stride[0] - s.pad[0] + k0 * s.dilation[0],
                                  q1 = p1 * s.stride[1] - s.pad[1] + k1 * s.dilation[1];
                    const double v = heed__number_get(dtype, c->in[0].data, x.at + q0 * x.s[0] + q1 * x.s[1]);
                    if (at < 0 || v > most || isnan(v)) {
                        most = v;
                        at = q0 * s.in[1] + q1;
                    }
                }
            if (c->out[Y].data)
                heed__number_put(dtype, c->out[Y].data, y.at + p0 * y.s[0] + p1 * y.s[1], most);
            if (c->out[INDICES].data)
                ((int64_t *)c->out[INDICES].data)[indices.at + p0 * indices.s[0] + p1 * indices.s[1]] = at;
        }
    }
}

static const op_kernel pool_max_cpu[] = {
    { .name = "planes", .layout = DENSE, .accepts = heed__all_f32, .count = pool_max_count,
      .chunk_of = pool_max_chunk,
      .scratch = pool_max_scratch, .run = pool_max_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = pool_max_count,
      .run = pool_max_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample pool_max_samples[] = {
    { .in = { FILLED(FILL_DISTINCT, 2, 3, 6, 7) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(3, 3) } },
    { .in = { FILLED(FILL_DISTINCT, 2, 2, 7, 6) },
      .attrs = &(const pool_attrs){ LIST(3, 3), LIST(2, 2), LIST(1, 1), LIST(1, 1), LIST(4, 3) } },
    { .in = { FILLED(FILL_DISTINCT, 2, 3, 12) },
      .attrs = &(const pool_attrs){ LIST(3), LIST(2), LIST(0), LIST(2), LIST(4) } },
    { .in = { FILLED(FILL_DISTINCT, 1, 2, 5, 5) }, /* ceil_mode: the last windows are cut */
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(3, 3) } },
    { .in = { DIMS(1, 2, 8, 8) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(4, 4) },
      .scale = 1e4 },
    { .in = { DIMS(0, 2, 4, 4) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(2, 2) } },
    { .in = { DIMS(1, 2, 4, 4) },
      .attrs = &(const pool_attrs){ LIST(2, 2), LIST(2, 2), LIST(0, 0), LIST(1, 1), LIST(3, 2) },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_max_pool(heed_builder *b, heed_value x, const int64_t *kernel, const heed_pool_opts *opts)
{
    const heed_type type = heed_value_type(b, x);
    pool_attrs a;

    if (!heed__pool_attrs(b, &a, &type, kernel, opts))
        return (heed_value){ 0 };
    return heed__node(b, &heed__op_pool_max, &a, &x, 1);
}

/* ONNX's indices count through the whole tensor. */
static void pool_max_onnx(onnx_emit *e)
{
    const pool_attrs *a = e->attrs;
    int64_t pads[4] = { 0 };

    if (e->want[INDICES]) {
        e->to->refuse(e, "its indices are counted otherwise in ONNX");
        return;
    }
    heed__pool_onnx_pads(pads, a, &e->in[0], &e->out[Y]);
    heed__onnx_node(e, (onnx_attr[]){ ONNX_INTS("kernel_shape", a->kernel.v, a->kernel.n),
                                      ONNX_INTS("strides", a->stride.v, a->stride.n),
                                      ONNX_INTS("dilations", a->dilation.v, a->dilation.n),
                                      ONNX_INTS("pads", pads, 2 * a->pad.n), ONNX_END });
}

const op_def heed__op_pool_max = {
    .name = "pool_max", .version = 1, .in = pool_max_in, .out = pool_max_out,
    .attrs_size = sizeof(pool_attrs),
    .fields = heed__pool_fields, .infer = pool_max_infer, .grad = pool_max_grad, .cpu = pool_max_cpu,
    .onnx = { "MaxPool", 12 }, .onnx_emit = pool_max_onnx,
    .torch = "max_pool2d(x, {kernel}, {stride}, {pad}, {dilation}, return_indices=True)",
    .samples = pool_max_samples,
};
