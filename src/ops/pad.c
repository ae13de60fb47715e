/* pad: `before` and `after` elements of one value added along one axis. Gradient: the slice between them.
 *
 * y is three parts that do not overlap: what lies before, x, what lies after. Items are the elements of
 * the three in that order. */

#include "graph/number.h"
#include "ops/reference.h"

static const op_slot pad_in[] = { { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot pad_out[] = { { .name = "y", .flags = MINUS_INFINITY }, SLOT_END }; /* its value may be -inf */

typedef struct {
    int axis;
    int64_t before, after;
    double value;
} pad_attrs;
static const op_field pad_fields[] = {
    FIELD_INT(pad_attrs, axis), FIELD_I64(pad_attrs, before), FIELD_I64(pad_attrs, after),
    FIELD_F64(pad_attrs, value), FIELD_END,
};

static heed_status pad_infer(op_infer *t)
{
    const pad_attrs *a = t->attrs;
    int64_t size;

    if (a->axis < 0 || a->axis >= t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", a->axis, t->in[0].rank);
    if (a->before < 0 || a->after < 0)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "%lld before and %lld after: use heed_slice to take elements away",
                            (long long)a->before, (long long)a->after);
    if (__builtin_add_overflow(t->in[0].dims[a->axis], a->before, &size) ||
        __builtin_add_overflow(size, a->after, &size))
        return heed__refuse(t, HEED_ERR_LIMIT, "the size along axis %d does not fit into 63 bits", a->axis);
    t->out[0] = t->in[0];
    t->out[0].dims[a->axis] = size;
    return HEED_OK;
}

static void pad_grad(op_grad *g)
{
    const pad_attrs *a = g->attrs;
    const int64_t size = heed_dim(g->b, g->in[0], a->axis);

    g->din[0] = heed_slice(g->b, g->dout[0], a->axis, a->before, a->before + size, 1);
}

static void pad_run(const op_call *c, int64_t begin, int64_t end)
{
    const pad_attrs *a = c->attrs;
    const heed_dtype d = c->out[0].type.dtype;
    const int64_t size = c->in[0].type.dims[a->axis];
    double room = 0; /* the value, as large and as aligned as any element */
    view value[3] = { { .data = &room }, c->in[0], { .data = &room } };
    const view part[3] = {
        heed__part(&c->out[0], a->axis, 0, a->before),
        heed__part(&c->out[0], a->axis, a->before, size),
        heed__part(&c->out[0], a->axis, a->before + size, a->after),
    };

    heed__number_put(d, &room, 0, a->value);
    for (int i = 0; i < 3; i++) {
        const int64_t count = heed_type_count(&part[i].type);

        value[i].type = part[i].type; /* strides of 0 repeat the value */
        heed__copy_elements(&part[i], &value[i], i64_max(0, begin), i64_min(count, end));
        begin -= count;
        end -= count;
    }
}

static const op_kernel pad_cpu[] = { COPY_KERNEL(pad_run), KERNEL_END };

static const op_sample pad_samples[] = {
    { .in = { DIMS(40, 33) }, .attrs = &(const pad_attrs){ 1, 2, 3, 0 } },
    { .in = { DIMS(3, 5, 7) }, .attrs = &(const pad_attrs){ 1, 0, 4, -1.5 }, .scale = 1e4 },
    { .in = { INDEX(9, 6) }, .attrs = &(const pad_attrs){ 0, 1, 0, 7 } },
    { .in = { DIMS(0, 3) }, .attrs = &(const pad_attrs){ 0, 2, 0, 1 } },
    { .in = { DIMS(4) }, .attrs = &(const pad_attrs){ 0, -1, 0, 0 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_pad(heed_builder *b, heed_value x, int axis, int64_t before, int64_t after, double value)
{
    const pad_attrs a = { heed__axis(b, x, axis), before, after, value };

    if (x.id && before == 0 && after == 0 && !heed__poisoned(b))
        return x;
    return heed__node(b, &heed__op_pad, &a, &x, 1);
}

static void pad_onnx(onnx_emit *e)
{
    const pad_attrs *a = e->attrs;
    const int rank = e->in[0].rank;
    int64_t pads[2 * HEED_MAX_RANK] = { 0 };

    pads[a->axis] = a->before;
    pads[rank + a->axis] = a->after;
    heed__onnx_node_of(e,
                       (const char *[]){ e->to->i64s(e, pads, 2 * (int64_t)rank),
                                         e->to->scalar(e, e->in[0].dtype, a->value) },
                       2, NULL);
}

const op_def heed__op_pad = {
    .name = "pad", .version = 1, .in = pad_in, .out = pad_out, .attrs_size = sizeof(pad_attrs),
    .fields = pad_fields,
    .infer = pad_infer, .grad = pad_grad, .cpu = pad_cpu, .onnx = { "Pad", 13 }, .onnx_emit = pad_onnx,
    .torch = "F.pad(x, ..., value={value})", .samples = pad_samples,
};
