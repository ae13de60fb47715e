/* permute: axis i of y is axis axes[i] of x. A view. Gradient: the inverse permutation. */

#include "ops/reference.h"

static const op_slot permute_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot permute_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    field_i64s axes;
} permute_attrs;
static const op_field permute_fields[] = { FIELD_I64S(permute_attrs, axes), FIELD_END };

static heed_status permute_infer(op_infer *t)
{
    const field_i64s *axes = &((const permute_attrs *)t->attrs)->axes;
    unsigned seen = 0;

    if (axes->n != t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "%d axes for a value of rank %d", axes->n, t->in[0].rank);
    t->out[0] = t->in[0];
    for (int i = 0; i < axes->n; i++) {
        if (axes->v[i] < 0 || axes->v[i] >= axes->n || seen >> axes->v[i] & 1)
            return heed__refuse(t, HEED_ERR_SHAPE, "axis %lld is out of range or named twice",
                                (long long)axes->v[i]);
        seen |= 1u << axes->v[i];
        t->out[0].dims[i] = t->in[0].dims[axes->v[i]];
    }
    return HEED_OK;
}

static void permute_grad(op_grad *g)
{
    const field_i64s *axes = &((const permute_attrs *)g->attrs)->axes;
    int back[HEED_MAX_RANK] = { 0 };

    for (int i = 0; i < axes->n; i++)
        back[axes->v[i]] = i;
    g->din[0] = heed_permute(g->b, g->dout[0], back);
}

static bool permute_view(const void *attrs, const view *in, view *out, int64_t *offset)
{
    const field_i64s *axes = &((const permute_attrs *)attrs)->axes;

    for (int i = 0; i < axes->n; i++)
        out->strides[i] = in->strides[axes->v[i]];
    *offset = 0;
    return true;
}

static void permute_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_view(c, begin, end, permute_view);
}

static const op_kernel permute_cpu[] = { COPY_KERNEL(permute_run), KERNEL_END };

static const op_sample permute_samples[] = {
    { .in = { DIMS(40, 33) }, .attrs = &(const permute_attrs){ { 2, { 1, 0 } } } },
    { .in = { DIMS(3, 5, 7, 2) }, .attrs = &(const permute_attrs){ { 4, { 2, 0, 3, 1 } } }, .scale = 1e4 },
    { .in = { INDEX(9, 5, 1, 3) }, .attrs = &(const permute_attrs){ { 3, { 0, 2, 1 } } } },
    { .in = { DIMS(3, 0, 2) }, .attrs = &(const permute_attrs){ { 3, { 2, 1, 0 } } } },
    { .in = { DIMS(3, 2) }, .attrs = &(const permute_attrs){ { 2, { 0, 0 } } }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_permute(heed_builder *b, heed_value x, const int *axes)
{
    permute_attrs a = { { .n = heed_rank(b, x) } };
    bool same = true;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    for (int i = 0; i < a.axes.n; i++) {
        a.axes.v[i] = heed__axis(b, x, axes[i]);
        same = same && a.axes.v[i] == i;
    }
    if (x.id && same)
        return x;
    return heed__node(b, &heed__op_permute, &a, &x, 1);
}

heed_value heed_transpose(heed_builder *b, heed_value x, int axis_a, int axis_b)
{
    const int first = heed__axis(b, x, axis_a), second = heed__axis(b, x, axis_b);
    int axes[HEED_MAX_RANK];

    for (int i = 0; i < HEED_MAX_RANK; i++)
        axes[i] = i == first ? second : i == second ? first : i;
    return heed_permute(b, x, axes);
}

static void permute_onnx(onnx_emit *e)
{
    const field_i64s *axes = &((const permute_attrs *)e->attrs)->axes;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INTS("perm", axes->v, axes->n), ONNX_END });
}

const op_def heed__op_permute = {
    .name = "permute", .version = 1, .in = permute_in, .out = permute_out, .flags = OP_VIEW,
    .attrs_size = sizeof(permute_attrs), .fields = permute_fields, .infer = permute_infer,
    .grad = permute_grad,
    .view = permute_view, .cpu = permute_cpu, .onnx = { "Transpose", 13 }, .onnx_emit = permute_onnx,
    .torch = "x.permute({axes})",
    .samples = permute_samples,
};
