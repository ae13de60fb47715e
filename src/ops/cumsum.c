/* cumsum: y_i = x_0 + ... + x_i along one axis, summed in double and rounded at each element.
 *
 * Gradient: dx_i = dy_i + dy_{i+1} + ..., the same sum from the other end. */

#include "ops/reference.h"

static const op_slot cumsum_in[] = { { .name = "x", .dtypes = NUMBERS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot cumsum_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    int axis;
} cumsum_attrs;
static const op_field cumsum_fields[] = { FIELD_INT(cumsum_attrs, axis), FIELD_END };

static heed_status cumsum_infer(op_infer *t)
{
    const int axis = ((const cumsum_attrs *)t->attrs)->axis;

    if (axis < 0 || axis >= t->in[0].rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", axis, t->in[0].rank);
    return HEED_OK;
}

static void cumsum_grad(op_grad *g)
{
    const int axis = ((const cumsum_attrs *)g->attrs)->axis;
    g->din[0] = heed_reverse(g->b, heed_cumsum(g->b, heed_reverse(g->b, g->dout[0], axis), axis), axis);
}

static void cumsum_f64(const op_call *c, char *y, int64_t step_y, const char *x, int64_t step_x, int64_t n)
{
    const heed_dtype d = c->in[0].type.dtype;
    const int64_t size = (int64_t)heed_dtype_size(d);
    double total = 0, some[ELEMENTS];

    for (int64_t i = 0; i < n; i += ELEMENTS) {
        const int64_t m = i64_min(ELEMENTS, n - i);

        heed__load_f64(some, d, x + i * step_x * size, step_x, m, c->row);
        for (int64_t j = 0; j < m; j++)
            some[j] = total += some[j];
        heed__store_f64(y + i * step_y * size, d, step_y, some, m, c->row);
    }
}

static void cumsum_i64(const op_call *c, char *y, int64_t step_y, const char *x, int64_t step_x, int64_t n)
{
    const heed_dtype d = c->in[0].type.dtype;
    const int64_t size = (int64_t)heed_dtype_size(d);
    int64_t total = 0, some[ELEMENTS];

    for (int64_t i = 0; i < n; i += ELEMENTS) {
        const int64_t m = i64_min(ELEMENTS, n - i);

        heed__load_i64(some, d, x + i * step_x * size, step_x, m);
        for (int64_t j = 0; j < m; j++)
            some[j] = total = WRAP(total, +, some[j]);
        heed__store_i64(y + i * step_y * size, d, step_y, some, m, c->row);
    }
}

static int64_t cumsum_length(const op_call *c)
{
    return c->in[0].type.dims[((const cumsum_attrs *)c->attrs)->axis];
}

/* An item is a line along the axis. */
static int64_t cumsum_count(const op_call *c)
{
    return heed_type_count(&c->in[0].type) / i64_max(1, cumsum_length(c));
}

static int64_t cumsum_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / i64_max(1, cumsum_length(c)));
}

static void cumsum_run(const op_call *c, int64_t begin, int64_t end)
{
    const int axis = ((const cumsum_attrs *)c->attrs)->axis;
    const view *x = &c->in[0], *y = &c->out[0];
    const view from = heed__without(x, axis), to = heed__without(y, axis);
    const int64_t n = cumsum_length(c);

    for (int64_t i = begin; i < end; i++) {
        char *at_y = heed__item(&to, to.type.rank, i).data;
        const char *at_x = heed__item(&from, from.type.rank, i).data;

        if (heed__floating(x->type.dtype))
            cumsum_f64(c, at_y, y->strides[axis], at_x, x->strides[axis], n);
        else
            cumsum_i64(c, at_y, y->strides[axis], at_x, x->strides[axis], n);
    }
}

static const op_kernel cumsum_cpu[] = {
    { .name = "reference", .layout = STRIDED, .count = cumsum_count, .chunk_of = cumsum_chunk,
      .run = cumsum_run },
    KERNEL_END,
};

static const op_sample cumsum_samples[] = {
    { .in = { DIMS(40, 300) }, .attrs = &(const cumsum_attrs){ 1 } },
    { .in = { DIMS(3, 7, 5) }, .attrs = &(const cumsum_attrs){ 1 }, .scale = 1e4 },
    { .in = { INDEX(9, 17) }, .attrs = &(const cumsum_attrs){ 0 } },
    { .in = { DIMS(3, 0) }, .attrs = &(const cumsum_attrs){ 1 } },
    { .in = { DIMS(3) }, .attrs = &(const cumsum_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_cumsum(heed_builder *b, heed_value x, int axis)
{
    return heed__node(b, &heed__op_cumsum, &(cumsum_attrs){ heed__axis(b, x, axis) }, &x, 1);
}

static void cumsum_onnx(onnx_emit *e)
{
    const char *axis = e->to->scalar(e, HEED_I64, ((const cumsum_attrs *)e->attrs)->axis);

    heed__onnx_node_of(e, &axis, 1, NULL);
}

const op_def heed__op_cumsum = {
    .name = "cumsum", .version = 1, .in = cumsum_in, .out = cumsum_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(cumsum_attrs), .fields = cumsum_fields, .infer = cumsum_infer, .grad = cumsum_grad,
    .cpu = cumsum_cpu, .onnx = { "CumSum", 14 }, .onnx_emit = cumsum_onnx, .torch = "x.cumsum(dim={axis})",
    .samples = cumsum_samples,
};
