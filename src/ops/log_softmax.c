/* log_softmax: y_i = (x_i - m) - ln sum_j exp(x_j - m),  m = max_j x_j,  along one axis.
 *
 *   x [..., n, ...]  ->  y, same shape and dtype
 *
 * m is subtracted before the logarithm is: x_i - (m + ln s) would lose what the logarithm holds when m is
 * large. Gradient: dx_i = dy_i - exp(y_i) sum_j dy_j. It needs y only, so y may overwrite x. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

static const op_slot log_softmax_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot log_softmax_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    int axis; /* 0 .. rank-1 */
} log_softmax_attrs;
static const op_field log_softmax_fields[] = { FIELD_INT(log_softmax_attrs, axis), FIELD_END };

static heed_status log_softmax_infer(op_infer *t)
{
    const log_softmax_attrs *a = t->attrs;

    if (a->axis < 0 || a->axis >= t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "axis %d of a value of rank %d", a->axis, t->in[0].rank);
    return HEED_OK;
}

static void log_softmax_grad(op_grad *g)
{
    const log_softmax_attrs *a = g->attrs;
    const heed_dtype dtype = heed_value_type(g->b, g->in[0]).dtype;
    heed_value y = heed__as(g->b, g->out[0], heed__sum_dtype(dtype)),
               dy = heed__as(g->b, g->dout[0], heed__sum_dtype(dtype));
    heed_value share = heed_mul(g->b, heed_exp(g->b, y), heed__sum_axis(g->b, dy, a->axis));

    g->din[0] = heed__as(g->b, heed_sub(g->b, dy, share), dtype);
}

static void log_softmax_decompose(op_decompose *d)
{
    const log_softmax_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[0]);
    const heed_dtype dtype = type.dtype;

    if (type.dims[a->axis] == 0) { /* nothing has no maximum */
        d->out[0] = d->in[0];
        return;
    }
    heed_value x = heed__as(d->b, d->in[0], heed__sum_dtype(dtype));
    heed_value below = heed_sub(d->b, x, heed_stop_grad(d->b, heed__max_axis(d->b, x, a->axis)));
    heed_value log_sum = heed_log(d->b, heed__sum_axis(d->b, heed_exp(d->b, below), a->axis));

    d->out[0] = heed__as(d->b, heed_sub(d->b, below, log_sum), dtype);
}

static bool log_softmax_accepts(const op_call *c)
{
    const log_softmax_attrs *a = c->attrs;
    return heed__computes_in_f32(&c->in[0]) && a->axis == c->in[0].type.rank - 1;
}

static void log_softmax_run(const op_call *c, int64_t begin, int64_t end)
{
    const row_ops *row = c->row;
    float m[ROWS_MAX], sum[ROWS_MAX];

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[0], i, last, c->scratch[0]);
        rows y = row->out(&c->out[0], i, last, c->scratch[1]);
        rows e = { c->scratch[2], x.count, x.n, x.n }; /* only its sum is wanted */
        row->max(m, x);
        row->exp_sum(e, sum, x, m);
        row->unary[ROW_LOG](sum, sum, x.count);
        row->subtract(y, x, m);
        row->subtract(y, y, sum);
        row->commit(&c->out[0], i, y);
    }
}

static const op_kernel log_softmax_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = log_softmax_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = log_softmax_run },
    KERNEL_END,
};

static const op_sample log_softmax_samples[] = {
    { .in = { DIMS(4, 1000) }, .attrs = &(const log_softmax_attrs){ 1 }, .scale = 1e4 },
    { .in = { DIMS(5, 7, 33) }, .attrs = &(const log_softmax_attrs){ 1 } }, /* decomposed */
    { .in = { DIMS(21, 10) }, .attrs = &(const log_softmax_attrs){ 1 } },
    { .in = { DIMS(0, 3) }, .attrs = &(const log_softmax_attrs){ 1 } },
    { .in = { DIMS(2) }, .attrs = &(const log_softmax_attrs){ -1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_log_softmax(heed_builder *b, heed_value x, int axis)
{
    return heed__node(b, &heed__op_log_softmax, &(log_softmax_attrs){ heed__axis(b, x, axis) }, &x, 1);
}

static void log_softmax_onnx(onnx_emit *e)
{
    const log_softmax_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", a->axis), ONNX_END });
}

const op_def heed__op_log_softmax = {
    .name = "log_softmax", .version = 1, .in = log_softmax_in, .out = log_softmax_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(log_softmax_attrs), .fields = log_softmax_fields,
    .infer = log_softmax_infer, .grad = log_softmax_grad, .decompose = log_softmax_decompose,
    .cpu = log_softmax_cpu,
    .onnx = { "LogSoftmax", 13 }, .onnx_emit = log_softmax_onnx, .torch = "log_softmax(x, dim={axis})",
    .samples = log_softmax_samples,
};
