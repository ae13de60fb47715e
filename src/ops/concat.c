/* concat: values one after another along one axis. Gradient: slices of dy.
 *
 * y is as many parts as there are inputs; items are the elements of the parts in order. */

#include "ops/reference.h"

#include <string.h>

static const op_slot concat_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot concat_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int axis;
} concat_attrs;
static const op_field concat_fields[] = { FIELD_INT(concat_attrs, axis), FIELD_END };

static heed_status concat_infer(op_infer *t)
{
    const int axis = ((const concat_attrs *)t->attrs)->axis;
    heed_type y = t->in[0];

    if (axis < 0 || axis >= y.rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", axis, y.rank);
    for (int i = 1; i < t->n_in; i++) {
        heed_type x = t->in[i];

        if (x.rank != y.rank || x.dtype != y.dtype ||
            __builtin_add_overflow(y.dims[axis], x.dims[axis], &y.dims[axis]))
            return heed__refuse(t, HEED_ERR_SHAPE,
                                "input %d is of another rank, or the sum of sizes too large", i);
        x.dims[axis] = y.dims[axis];
        if (!heed_type_equal(&x, &y))
            return heed__refuse(t, HEED_ERR_SHAPE, "input %d differs from input 0 in more than axis %d", i,
                                axis);
    }
    t->out[0] = y;
    return HEED_OK;
}

static void concat_grad(op_grad *g)
{
    const int axis = ((const concat_attrs *)g->attrs)->axis;
    int64_t begin = 0;

    for (int i = 0; i < g->n_in; i++) {
        const int64_t size = heed_dim(g->b, g->in[i], axis);

        if (g->need[i])
            g->din[i] = heed_slice(g->b, g->dout[0], axis, begin, begin + size, 1);
        begin += size;
    }
}

static void concat_run(const op_call *c, int64_t begin, int64_t end)
{
    const int axis = ((const concat_attrs *)c->attrs)->axis;
    int64_t at = 0;

    for (int i = 0; i < c->n_in && end > 0; i++) {
        const int64_t size = c->in[i].type.dims[axis], count = heed_type_count(&c->in[i].type);

        if (begin < count) {
            const view part = heed__part(&c->out[0], axis, at, size);
            heed__copy_elements(&part, &c->in[i], i64_max(0, begin), i64_min(count, end));
        }
        at += size;
        begin -= count;
        end -= count;
    }
}

static const op_kernel concat_cpu[] = { COPY_KERNEL(concat_run), KERNEL_END };

static const op_sample concat_samples[] = {
    { .in = { DIMS(40, 33), DIMS(40, 7) }, .attrs = &(const concat_attrs){ 1 } },
    { .in = { DIMS(2, 3, 5), DIMS(2, 1, 5), DIMS(2, 4, 5) }, .attrs = &(const concat_attrs){ 1 }, .scale = 1e4 },
    { .in = { INDEX(9, 6), INDEX(9, 3) }, .attrs = &(const concat_attrs){ 0 } },
    { .in = { DIMS(0, 3), DIMS(2, 3) }, .attrs = &(const concat_attrs){ 0 } },
    { .in = { DIMS(4, 3) }, .attrs = &(const concat_attrs){ 0 } },
    { .in = { DIMS(4, 3), DIMS(4, 2) }, .attrs = &(const concat_attrs){ 0 }, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(4), INDEX(3, 4) }, .attrs = &(const concat_attrs){ 0 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

/* More values than a node takes: what there is so far and the next ones, again and again. */
heed_value heed_concat(heed_builder *b, const heed_value *xs, int n, int axis)
{
    heed_value some[OP_IN_MAX];
    concat_attrs attrs;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (n < 1)
        return heed__poison(b, HEED_ERR_USAGE, "concat: %d values; at least one is needed", n);
    attrs.axis = heed__axis(b, xs[0], axis);
    if (n <= OP_IN_MAX)
        return heed__node(b, &heed__op_concat, &attrs, xs, n);
    some[0] = heed__node(b, &heed__op_concat, &attrs, xs, OP_IN_MAX);
    for (int at = OP_IN_MAX; at < n; at += OP_IN_MAX - 1) {
        const int more = n - at < OP_IN_MAX - 1 ? n - at : OP_IN_MAX - 1;

        memcpy(some + 1, xs + at, (size_t)more * sizeof *xs);
        some[0] = heed__node(b, &heed__op_concat, &attrs, some, 1 + more);
    }
    return some[0];
}

static void concat_onnx(onnx_emit *e)
{
    const concat_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", a->axis), ONNX_END });
}

const op_def heed__op_concat = {
    .name = "concat", .version = 1, .in = concat_in, .out = concat_out, .flags = OP_VARIADIC,
    .attrs_size = sizeof(concat_attrs), .fields = concat_fields, .infer = concat_infer, .grad = concat_grad,
    .cpu = concat_cpu, .onnx = { "Concat", 13 }, .onnx_emit = concat_onnx,
    .torch = "torch.cat(xs, dim={axis})",
    .samples = concat_samples,
};
