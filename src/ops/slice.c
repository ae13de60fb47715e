/* slice: elements begin, begin + step, ... below end along one axis. A view.
 *
 * Gradient: dy put back between zeros. With a step s > 1 each dy is followed by s - 1 zeros first:
 *
 *   [.., m, ..] -> [.., m, 1, ..] -> pad -> [.., m, s, ..] -> [.., m s, ..]
 *
 * whose last s - 1 zeros may stick out and are cut off. */

#include "ops/reference.h"

static const op_slot slice_in[] = { { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot slice_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int axis;
    int64_t begin, end, step;
} slice_attrs;
static const op_field slice_fields[] = {
    FIELD_INT(slice_attrs, axis), FIELD_I64(slice_attrs, begin), FIELD_I64(slice_attrs, end),
    FIELD_I64(slice_attrs, step), FIELD_END,
};

static heed_status slice_infer(op_infer *t)
{
    const slice_attrs *a = t->attrs;
    const heed_type *x = &t->in[0];

    if (a->axis < 0 || a->axis >= x->rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", a->axis, x->rank);
    if (a->step < 1 || a->begin < 0 || a->begin > a->end || a->end > x->dims[a->axis])
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "%lld to %lld in steps of %lld is no part of an axis of size %lld",
                            (long long)a->begin, (long long)a->end, (long long)a->step,
                            (long long)x->dims[a->axis]);
    t->out[0] = *x;
    t->out[0].dims[a->axis] = i64_ceil_div(a->end - a->begin, a->step);
    return HEED_OK;
}

static void slice_grad(op_grad *g)
{
    const slice_attrs *a = g->attrs;
    const int64_t size = heed_dim(g->b, g->in[0], a->axis);
    heed_value dy = g->dout[0];
    int64_t m = heed_dim(g->b, dy, a->axis);

    if (a->step > 1 && m > 0) {
        dy = heed_unsqueeze(g->b, dy, a->axis + 1);
        dy = heed_pad(g->b, dy, a->axis + 1, 0, a->step - 1, 0);
        dy = heed_flatten(g->b, dy, a->axis, a->axis + 1);
        m = i64_min(m * a->step, size - a->begin);
        dy = heed_slice(g->b, dy, a->axis, 0, m, 1);
    }
    g->din[0] = heed_pad(g->b, dy, a->axis, a->begin, size - a->begin - m, 0);
}

static bool slice_view(const void *attrs, const view *in, view *out, int64_t *offset)
{
    const slice_attrs *a = attrs;

    for (int i = 0; i < in->type.rank; i++)
        out->strides[i] = in->strides[i];
    out->strides[a->axis] *= a->step;
    *offset = a->begin * in->strides[a->axis];
    return true;
}

static void slice_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_view(c, begin, end, slice_view);
}

static const op_kernel slice_cpu[] = { COPY_KERNEL(slice_run), KERNEL_END };

static const op_sample slice_samples[] = {
    { .in = { DIMS(40, 33) }, .attrs = &(const slice_attrs){ 1, 3, 30, 1 } },
    { .in = { DIMS(5, 17, 3) }, .attrs = &(const slice_attrs){ 1, 2, 17, 4 }, .scale = 1e4 },
    { .in = { DIMS(10) }, .attrs = &(const slice_attrs){ 0, 1, 9, 3 } },
    { .in = { INDEX(9, 6, 2) }, .attrs = &(const slice_attrs){ 0, 0, 5, 2 } },
    { .in = { DIMS(4, 3) }, .attrs = &(const slice_attrs){ 0, 2, 2, 1 } },
    { .in = { DIMS(4, 3) }, .attrs = &(const slice_attrs){ 1, 2, 4, 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_slice(heed_builder *b, heed_value x, int axis, int64_t begin, int64_t end, int64_t step)
{
    const int at = heed__axis(b, x, axis);
    const int64_t size = heed_dim(b, x, at);
    /* a step beyond the size takes the first element only; cut down, its strides cannot wrap */
    const slice_attrs a = { at, begin < 0 ? begin + size : begin, end == -1 ? size : end,
                            i64_min(step, i64_max(1, size)) };

    if (x.id && a.begin == 0 && a.end == size && a.step == 1 && !heed__poisoned(b))
        return x;
    return heed__node(b, &heed__op_slice, &a, &x, 1);
}

static void slice_onnx(onnx_emit *e)
{
    const slice_attrs *a = e->attrs;
    const int64_t size = e->in[0].dims[a->axis], axis = a->axis, end = a->end == size ? INT64_MAX : a->end;

    if (e->to->open(e, size) && a->end != size) {
        e->to->refuse(e, "a part of the batch cannot be taken while its size is open");
        return;
    }
    heed__onnx_node_of(e,
                       (const char *[]){ e->to->i64s(e, &a->begin, 1), e->to->i64s(e, &end, 1),
                                         e->to->i64s(e, &axis, 1), e->to->i64s(e, &a->step, 1) },
                       4, NULL);
}

const op_def heed__op_slice = {
    .name = "slice", .version = 1, .in = slice_in, .out = slice_out, .flags = OP_VIEW,
    .attrs_size = sizeof(slice_attrs),
    .fields = slice_fields, .infer = slice_infer, .grad = slice_grad, .view = slice_view, .cpu = slice_cpu,
    .onnx = { "Slice", 13 }, .onnx_emit = slice_onnx, .torch = "x[..., {begin}:{end}:{step}, ...]",
    .samples = slice_samples,
};
