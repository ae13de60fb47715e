/* gather: slices of x along one axis, at the places an index names.
 *
 *   x [A.., n, C..], index [I..] i64 -> y [A.., I.., C..],   y[a, i, c] = x[a, index[i], c]
 *
 * An index outside 0 .. n-1 ends the run with HEED_ERR_LIMIT, its place and value; its slice is zeros
 * until then. Gradient: scatter_add, the transpose. An embedding is gather along axis 0. */

#include "ops/reference.h"

#include <string.h>

static const op_slot gather_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    { .name = "index", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot gather_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int axis;
} gather_attrs;
static const op_field gather_fields[] = { FIELD_INT(gather_attrs, axis), FIELD_END };

static heed_status gather_infer(op_infer *t)
{
    const int axis = ((const gather_attrs *)t->attrs)->axis;
    const heed_type *x = &t->in[0], *index = &t->in[1];
    heed_type *y = &t->out[0];

    if (axis < 0 || axis >= x->rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", axis, x->rank);
    if (x->rank + index->rank - 1 > HEED_MAX_RANK)
        return heed__refuse(t, HEED_ERR_SHAPE, "ranks %d and %d make a result of rank %d; %d is the most",
                            x->rank,
                            index->rank, x->rank + index->rank - 1, HEED_MAX_RANK);
    *y = heed_type_of(x->dtype, 0, NULL);
    for (int i = 0; i < axis; i++)
        y->dims[y->rank++] = x->dims[i];
    for (int i = 0; i < index->rank; i++)
        y->dims[y->rank++] = index->dims[i];
    for (int i = axis + 1; i < x->rank; i++)
        y->dims[y->rank++] = x->dims[i];
    return HEED_OK;
}

static void gather_grad(op_grad *g)
{
    const int axis = ((const gather_attrs *)g->attrs)->axis;

    g->din[0] = heed_scatter_add(g->b, g->in[1], g->dout[0], axis, heed_dim(g->b, g->in[0], axis));
}

/* An item is one slice: a place of A and a place of the index. */
static int64_t gather_count(const op_call *c)
{
    const int axis = ((const gather_attrs *)c->attrs)->axis;
    return heed__dims_product(&c->in[0].type, 0, axis) * heed_type_count(&c->in[1].type);
}

static int64_t gather_chunk(const op_call *c)
{
    const int axis = ((const gather_attrs *)c->attrs)->axis;
    const int64_t inner = heed__dims_product(&c->in[0].type, axis + 1, c->in[0].type.rank);

    return i64_max(1, MAP_CHUNK / i64_max(1, inner));
}

static void gather_run(const op_call *c, int64_t begin, int64_t end)
{
    const int axis = ((const gather_attrs *)c->attrs)->axis;
    const view *x = &c->in[0], *index = &c->in[1];
    const int64_t places = heed_type_count(&index->type), size = x->type.dims[axis];
    const int64_t width = (int64_t)heed_dtype_size(x->type.dtype);
    const view lines = heed__without(x, axis), first_from = heed__item(&lines, axis, 0);
    const view first_to = heed__item(&c->out[0], axis + index->type.rank, 0);
    const int64_t inner = heed_type_count(&first_from.type);
    const bool flat = heed__view_dense(&first_from) && heed__view_dense(&c->out[0]);

    for (int64_t i = begin; i < end; i++) {
        const int64_t at = *(const int64_t *)heed__item(index, index->type.rank, i % places).data;
        const bool there = at >= 0 && at < size;
        char *to = flat ? (char *)c->out[0].data + i * inner * width
                        : heed__item(&c->out[0], axis + index->type.rank, i).data;
        const char *line = heed__item(&lines, axis, i / places).data;
        const char *from = line + (there ? at : 0) * x->strides[axis] * width;

        if (!there)
            heed__fault(c, i % places, HEED_ERR_LIMIT, at);
        if (flat && there) {
            if (inner > 0) /* else there may be no memory at all */
                memcpy(to, from, (size_t)(inner * width));
        } else {
            static const double zero = 0;
            view slice_to = first_to, slice_from = first_from;

            slice_to.data = to;
            slice_from.data = (void *)(uintptr_t)(there ? (const void *)from : &zero);
            if (!there)
                memset(slice_from.strides, 0, sizeof slice_from.strides);
            heed__copy_elements(&slice_to, &slice_from, 0, inner);
        }
    }
}

static const op_kernel gather_cpu[] = {
    { .name = "slices", .layout = STRIDED, .count = gather_count, .chunk_of = gather_chunk,
      .run = gather_run },
    KERNEL_END,
};

static const op_sample gather_samples[] = {
    { .in = { DIMS(50, 33), INDEX(50, 4, 7) }, .attrs = &(const gather_attrs){ 0 } },
    { .in = { DIMS(3, 5, 7), INDEX(5, 9) }, .attrs = &(const gather_attrs){ 1 }, .scale = 1e4 },
    { .in = { DIMS(6, 17), INDEX(17, 4) }, .attrs = &(const gather_attrs){ 1 } },
    { .in = { DIMS(5, 3), INDEX(5, 0) }, .attrs = &(const gather_attrs){ 0 } },
    { .in = { MASK(9), { .rank = 0, .dtype = HEED_I64, .fill = FILL_INDEX, .n = 9, .given = true } },
      .attrs = &(const gather_attrs){ 0 } },
    { .in = { DIMS(5), INDEX(5, 2) }, .attrs = &(const gather_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(5), DIMS(5) }, .attrs = &(const gather_attrs){ 0 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_gather(heed_builder *b, heed_value x, heed_value index, int axis)
{
    return heed__node(b, &heed__op_gather, &(gather_attrs){ heed__axis(b, x, axis) },
                      (heed_value[]){ x, index }, 2);
}

/* index == 0, 1, ..., classes - 1 along a new last axis. */
heed_value heed_one_hot(heed_builder *b, heed_value index, int64_t classes)
{
    heed_value numbers = heed_iota(b, heed_type_of(HEED_I64, 1, &classes), 0);
    return heed_cast(b, heed_eq(b, heed_unsqueeze(b, index, -1), numbers), HEED_F32);
}

static void gather_onnx(onnx_emit *e)
{
    const gather_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", a->axis), ONNX_END });
}

const op_def heed__op_gather = {
    .name = "gather", .version = 1, .in = gather_in, .out = gather_out, .flags = OP_FAULTS,
    .attrs_size = sizeof(gather_attrs),
    .fields = gather_fields, .infer = gather_infer, .grad = gather_grad, .cpu = gather_cpu,
    .onnx = { "Gather", 13 }, .onnx_emit = gather_onnx,
    .torch = "x[..., index, ...]", .samples = gather_samples,
};
