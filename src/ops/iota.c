/* iota: 0, 1, 2, ... along one axis of a tensor of a given type. Made from nothing, so it has no gradient. */

#include "ops/reference.h"

static const op_slot iota_in[] = { SLOT_END };
static const op_slot iota_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int dtype, axis;
    field_i64s dims;
} iota_attrs;
static const op_field iota_fields[] = {
    FIELD_ENUM(iota_attrs, dtype, DTYPE_WORDS), FIELD_INT(iota_attrs, axis), FIELD_I64S(iota_attrs, dims),
    FIELD_END,
};

static heed_status iota_infer(op_infer *t)
{
    const iota_attrs *a = t->attrs;

    if (a->dtype < 0 || a->dtype >= HEED_DTYPES || !(NUMBERS & DTYPE_BIT(a->dtype)))
        return heed__refuse(t, HEED_ERR_DTYPE, "counts in integers and floats only");
    if (a->dims.n < 1 || a->dims.n > HEED_MAX_RANK || a->axis < 0 || a->axis >= a->dims.n)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", a->axis, a->dims.n);
    t->out[0] = heed_type_of((heed_dtype)a->dtype, a->dims.n, a->dims.v);
    return HEED_OK;
}

static void iota_run(const op_call *c, int64_t begin, int64_t end)
{
    const iota_attrs *a = c->attrs;
    const heed_type *t = &c->out[0].type;
    const view *y = &c->out[0];
    int64_t inner = 1, some[ELEMENTS];
    void *at[WALK_VIEWS];
    pieces p;

    for (int i = a->axis + 1; i < t->rank; i++)
        inner *= t->dims[i];
    heed__pieces(&p, 1, &y, begin);
    for (int64_t n; begin < end; begin += n) {
        n = heed__take_piece(&p, i64_min(ELEMENTS, end - begin), at);
        for (int64_t i = 0; i < n; i++)
            some[i] = (begin + i) / inner % t->dims[a->axis];
        heed__store_i64(at[0], t->dtype, p.w.step[0], some, n, c->row);
    }
}

static const op_kernel iota_cpu[] = { REFERENCE_KERNEL(iota_run), KERNEL_END };

static const op_sample iota_samples[] = {
    { .attrs = &(const iota_attrs){ HEED_I64, 0, { 1, { 1000 } } } },
    { .attrs = &(const iota_attrs){ HEED_F32, 1, { 3, { 4, 5, 7 } } } },
    { .attrs = &(const iota_attrs){ HEED_I32, 0, { 2, { 33, 3 } } } },
    { .attrs = &(const iota_attrs){ HEED_I64, 1, { 2, { 3, 0 } } } },
    { .attrs = &(const iota_attrs){ HEED_BOOL, 0, { 1, { 3 } } }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_iota(heed_builder *b, heed_type type, int axis)
{
    iota_attrs a = { (int)type.dtype, axis < 0 ? axis + type.rank : axis, { .n = type.rank } };

    for (int i = 0; i < type.rank && i < HEED_MAX_RANK; i++)
        a.dims.v[i] = type.dims[i];
    return heed__node(b, &heed__op_iota, &a, NULL, 0);
}

/* A list of numbers, put along its axis and stretched to the other sizes. */
static void iota_onnx(onnx_emit *e)
{
    const iota_attrs *a = e->attrs;
    const heed_type *t = &e->out[0];
    const int64_t n = t->dims[a->axis];
    int64_t dims[HEED_MAX_RANK] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    heed_type line = *t;
    const char *list, *cast = e->to->fresh(e), *placed = e->to->fresh(e), *shape;

    if (e->to->open(e, n)) {
        e->to->refuse(e, "the batch cannot be counted while its size is open");
        return;
    }
    dims[a->axis] = n;
    line = heed_type_of(t->dtype, t->rank, dims);
    list = e->to->counting(e, n);
    e->to->node(e, "Cast", &list, 1, &cast, 1,
                (onnx_attr[]){ ONNX_INT("to", e->to->dtype(t->dtype)), ONNX_END });
    shape = e->to->i64s(e, dims, t->rank);
    if (heed_type_equal(&line, t))
        placed = e->out_name[0];
    e->to->node(e, "Reshape", (const char *[]){ cast, shape }, 2, &placed, 1,
                (onnx_attr[]){ ONNX_INT("allowzero", 1), ONNX_END });
    shape = e->to->shape(e, t);
    if (!heed_type_equal(&line, t))
        e->to->node(e, "Expand", (const char *[]){ placed, shape }, 2, e->out_name, 1, NULL);
}

const op_def heed__op_iota = {
    .name = "iota", .version = 1, .in = iota_in, .out = iota_out, .flags = OP_NO_GRAD,
    .attrs_size = sizeof(iota_attrs),
    .fields = iota_fields, .infer = iota_infer, .cpu = iota_cpu, .onnx = { "Expand", 13 },
    .onnx_emit = iota_onnx, .torch = "torch.arange(...)",
    .samples = iota_samples,
};
