/* softmax: y_i = exp(x_i - m) / sum_j exp(x_j - m),  m = max_j x_j,  along one axis.
 *
 *   x [..., n, ...]  ->  y, same shape and dtype
 *
 * Subtracting m changes nothing in exact arithmetic and keeps every exponent <= 0, so y is finite for
 * any finite x. A slice of -inf gives NaN, as in PyTorch; attention has its own rule and gives zeros.
 *
 * Gradient: dy_i/dx_j = y_i (1[i=j] - y_j), hence  dx_i = y_i (dy_i - sum_j dy_j y_j), the op softmax_grad.
 * It needs y only, so y may overwrite x. Before opset 13 ONNX meant something else: onnx_import.c. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

/* Slots give dtype checks, y's type, printed names, "d_x" and docs. An OPTIONAL input may be absent. */
static const op_slot softmax_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot softmax_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    int axis; /* 0 .. rank-1 */
} softmax_attrs;
static const op_field softmax_fields[] = { FIELD_INT(softmax_attrs, axis), FIELD_END };

static heed_status softmax_infer(op_infer *t) /* only what the slots cannot say */
{
    const softmax_attrs *a = t->attrs;

    if (a->axis < 0 || a->axis >= t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "axis %d of a value of rank %d", a->axis, t->in[0].rank);
    return HEED_OK;
}

static void softmax_grad(op_grad *g)
{
    g->din[0] =
        heed__node(g->b, &heed__op_softmax_grad, g->attrs, (heed_value[]){ g->out[0], g->dout[0] }, 2);
}

static void softmax_decompose(op_decompose *d)
{
    const softmax_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[0]);
    const heed_dtype dtype = type.dtype;

    if (type.dims[a->axis] == 0) { /* nothing has no maximum */
        d->out[0] = d->in[0];
        return;
    }
    heed_value x = heed__as(d->b, d->in[0], heed__sum_dtype(dtype));
    heed_value m = heed_stop_grad(d->b, heed__max_axis(d->b, x, a->axis));
    heed_value e = heed_exp(d->b, heed_sub(d->b, x, m));

    d->out[0] = heed__as(d->b, heed_div(d->b, e, heed__sum_axis(d->b, e, a->axis)), dtype);
}

/* The last axis in f32, f16, bf16; the rest is decomposed. f64 is for proofs: only primitives have it. */
static bool softmax_accepts(const op_call *c)
{
    const softmax_attrs *a = c->attrs;
    return heed__computes_in_f32(&c->in[0]) && a->axis == c->in[0].type.rank - 1;
}

static void softmax_run(const op_call *c, int64_t begin, int64_t end)
{
    const row_ops *row = c->row; /* vector code picked for this CPU */
    float m[ROWS_MAX], sum[ROWS_MAX]; /* one number a row */

    for (int64_t i = begin; i < end; i += ROWS_MAX) { /* in blocks: short rows cost no calls */
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[0], i, last, c->scratch[0]); /* bf16 and f16 widen into scratch */
        rows y = row->out(&c->out[0], i, last, c->scratch[1]);
        row->max(m, x);
        row->exp_sum(y, sum, x, m); /* y = exp(x - m); y == x is fine */
        row->divide(y, sum);
        row->commit(&c->out[0], i, y); /* narrows back; nothing to do for f32 */
    }
}

static const op_kernel softmax_cpu[] = { /* first that accepts wins */
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = softmax_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = softmax_run },
    KERNEL_END,
};

static const op_sample softmax_samples[] = {
    { .in = { DIMS(4, 1000) }, .attrs = &(const softmax_attrs){ 1 }, .scale = 1e4 }, /* must not overflow */
    { .in = { DIMS(5, 7, 33) }, .attrs = &(const softmax_attrs){ 1 } },             /* decomposed */
    { .in = { DIMS(3, 2, 19) }, .attrs = &(const softmax_attrs){ 2 } },
    { .in = { DIMS(70, 1) }, .attrs = &(const softmax_attrs){ 1 } },
    { .in = { DIMS(3, 0) }, .attrs = &(const softmax_attrs){ 1 } }, /* nothing to do */
    { .in = { DIMS(2) }, .attrs = &(const softmax_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_softmax(heed_builder *b, heed_value x, int axis)
{
    return heed__node(b, &heed__op_softmax, &(softmax_attrs){ heed__axis(b, x, axis) }, &x, 1);
}

static void softmax_onnx(onnx_emit *e)
{
    const softmax_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", a->axis), ONNX_END });
}

const op_def heed__op_softmax = {
    .name = "softmax", .version = 1, .in = softmax_in, .out = softmax_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(softmax_attrs), .fields = softmax_fields,
    .infer = softmax_infer, .grad = softmax_grad, .decompose = softmax_decompose, .cpu = softmax_cpu,
    .onnx = { "Softmax", 13 }, .onnx_emit = softmax_onnx, .torch = "softmax(x, dim={axis})",
    .samples = softmax_samples,
};

/* ---- softmax_grad: dx = y (dy - sum dy y); its own gradient is that of the decomposition ---- */

static const op_slot softmax_grad_in[] = {
    { .name = "y", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "y" },
    SLOT_END,
};
static const op_slot softmax_grad_out[] = { { .name = "dx", .same_as = "y" }, SLOT_END };

static heed_status softmax_grad_infer(op_infer *t)
{
    if (!heed_type_equal(&t->in[0], &t->in[1]))
        return heed__refuse(t, HEED_ERR_SHAPE, "y and dy differ in shape");
    return softmax_infer(t);
}

static void softmax_grad_decompose(op_decompose *d)
{
    const softmax_attrs *a = d->attrs;
    const heed_dtype dtype = heed_value_type(d->b, d->in[0]).dtype;
    heed_value y = heed__as(d->b, d->in[0], heed__sum_dtype(dtype)),
               dy = heed__as(d->b, d->in[1], heed__sum_dtype(dtype));
    heed_value dot = heed__sum_axis(d->b, heed_mul(d->b, dy, y), a->axis);

    d->out[0] = heed__as(d->b, heed_mul(d->b, y, heed_sub(d->b, dy, dot)), dtype);
}

static void softmax_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const row_ops *row = c->row;
    float dot[ROWS_MAX];

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows y = row->in(&c->in[0], i, last, c->scratch[0]);
        rows dy = row->in(&c->in[1], i, last, c->scratch[1]);
        rows dx = row->out(&c->out[0], i, last, c->scratch[2]);
        row->dot(dot, dy, y);
        row->softmax_grad(dx, y, dy, dot);
        row->commit(&c->out[0], i, dx);
    }
}

static const op_kernel softmax_grad_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = softmax_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = softmax_grad_run },
    KERNEL_END,
};

static const op_sample softmax_grad_samples[] = {
    { .in = { FILLED(FILL_PROBABILITY, 6, 49), DIMS(6, 49) }, .attrs = &(const softmax_attrs){ 1 } },
    { .in = { DIMS(5, 7, 3), DIMS(5, 7, 3) }, .attrs = &(const softmax_attrs){ 0 } }, /* decomposed */
    { .in = { FILLED(FILL_PROBABILITY, 2, 65), DIMS(2, 65) }, .attrs = &(const softmax_attrs){ 1 },
      .scale = 1e4 },
    { .in = { DIMS(0, 4), DIMS(0, 4) }, .attrs = &(const softmax_attrs){ 1 } },
    { .in = { DIMS(3, 4), DIMS(4, 3) }, .attrs = &(const softmax_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_softmax_grad = {
    .name = "softmax_grad", .version = 1, .in = softmax_grad_in, .out = softmax_grad_out,
    .flags = OP_IN_PLACE,
    .attrs_size = sizeof(softmax_attrs), .fields = softmax_fields,
    .infer = softmax_grad_infer, .decompose = softmax_grad_decompose, .cpu = softmax_grad_cpu,
    .torch = "y * (dy - (dy * y).sum({axis}, keepdim=True))", .samples = softmax_grad_samples,
};
