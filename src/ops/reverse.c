/* reverse: the elements along one axis in the opposite order. Its own gradient. Reading backwards is a
 * negative stride. */

#include "ops/reference.h"

static const op_slot reverse_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot reverse_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    int axis;
} reverse_attrs;
static const op_field reverse_fields[] = { FIELD_INT(reverse_attrs, axis), FIELD_END };

static heed_status reverse_infer(op_infer *t)
{
    const int axis = ((const reverse_attrs *)t->attrs)->axis;

    if (axis < 0 || axis >= t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", axis, t->in[0].rank);
    return HEED_OK;
}

static void reverse_grad(op_grad *g)
{
    g->din[0] = heed_reverse(g->b, g->dout[0], ((const reverse_attrs *)g->attrs)->axis);
}

static void reverse_run(const op_call *c, int64_t begin, int64_t end)
{
    const int axis = ((const reverse_attrs *)c->attrs)->axis;
    view x = c->in[0];

    x.data = heed__part(&x, axis, x.type.dims[axis] - 1, 1).data;
    x.strides[axis] = -x.strides[axis];
    heed__copy_elements(&c->out[0], &x, begin, end);
}

static const op_kernel reverse_cpu[] = { COPY_KERNEL(reverse_run), KERNEL_END };

static const op_sample reverse_samples[] = {
    { .in = { DIMS(40, 33) }, .attrs = &(const reverse_attrs){ 0 } },
    { .in = { DIMS(3, 5, 7) }, .attrs = &(const reverse_attrs){ 2 }, .scale = 1e4 },
    { .in = { INDEX(9, 1, 4) }, .attrs = &(const reverse_attrs){ 1 } },
    { .in = { DIMS(0, 3) }, .attrs = &(const reverse_attrs){ 0 } },
    { .in = { DIMS(3) }, .attrs = &(const reverse_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_reverse(heed_builder *b, heed_value x, int axis)
{
    return heed__node(b, &heed__op_reverse, &(reverse_attrs){ heed__axis(b, x, axis) }, &x, 1);
}

static void reverse_onnx(onnx_emit *e)
{
    const int64_t axis = ((const reverse_attrs *)e->attrs)->axis, begin = -1, end = -INT64_MAX, step = -1;

    heed__onnx_node_of(e,
                       (const char *[]){ e->to->i64s(e, &begin, 1), e->to->i64s(e, &end, 1),
                                         e->to->i64s(e, &axis, 1), e->to->i64s(e, &step, 1) },
                       4, NULL);
}

const op_def heed__op_reverse = {
    .name = "reverse", .version = 1, .in = reverse_in, .out = reverse_out,
    .attrs_size = sizeof(reverse_attrs),
    .fields = reverse_fields, .infer = reverse_infer, .grad = reverse_grad, .cpu = reverse_cpu,
    .onnx = { "Slice", 13 }, .onnx_emit = reverse_onnx, .torch = "torch.flip(x, [{axis}])",
    .samples = reverse_samples,
};
