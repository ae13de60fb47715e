/* argmax: index of the first largest element along one axis, which is dropped. NaN counts as largest, as
 * in PyTorch.
 *
 *   x [..., n, ...] -> y [..., ...] i64.   No gradient. */

#include "ops/reference.h"

#include <math.h>

static const op_slot argmax_in[] = { { .name = "x", .dtypes = NUMBERS }, SLOT_END };
static const op_slot argmax_out[] = { { .name = "index" }, SLOT_END };

typedef struct {
    int axis;
} argmax_attrs;
static const op_field argmax_fields[] = { FIELD_INT(argmax_attrs, axis), FIELD_END };

static heed_status argmax_infer(op_infer *t)
{
    const int axis = ((const argmax_attrs *)t->attrs)->axis;
    const heed_type *x = &t->in[0];

    if (axis < 0 || axis >= x->rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "there is no axis %d in rank %d", axis, x->rank);
    if (x->dims[axis] == 0)
        return heed__refuse(t, HEED_ERR_SHAPE, "axis %d has size 0, and nothing has no maximum", axis);
    t->out[0] = heed_type_of(HEED_I64, 0, NULL);
    for (int i = 0; i < x->rank; i++)
        if (i != axis)
            t->out[0].dims[t->out[0].rank++] = x->dims[i];
    return HEED_OK;
}

static int64_t argmax_f64(const op_call *c, const void *line, int64_t step, int64_t n)
{
    const heed_dtype d = c->in[0].type.dtype;
    const char *from = line;
    double most = 0, x[ELEMENTS];
    int64_t index = -1;

    for (int64_t i = 0; i < n; i += ELEMENTS) {
        const int64_t m = i64_min(ELEMENTS, n - i);

        heed__load_f64(x, d, from + i * step * (int64_t)heed_dtype_size(d), step, m, c->row);
        for (int64_t j = 0; j < m; j++)
            if (index < 0 || x[j] > most || (isnan(x[j]) && !isnan(most))) {
                most = x[j];
                index = i + j;
            }
    }
    return index;
}

static int64_t argmax_i64(const op_call *c, const void *line, int64_t step, int64_t n)
{
    const heed_dtype d = c->in[0].type.dtype;
    const char *from = line;
    int64_t most = 0, x[ELEMENTS], index = -1;

    for (int64_t i = 0; i < n; i += ELEMENTS) {
        const int64_t m = i64_min(ELEMENTS, n - i);

        heed__load_i64(x, d, from + i * step * (int64_t)heed_dtype_size(d), step, m);
        for (int64_t j = 0; j < m; j++)
            if (index < 0 || x[j] > most) {
                most = x[j];
                index = i + j;
            }
    }
    return index;
}

static void argmax_run(const op_call *c, int64_t begin, int64_t end)
{
    const int axis = ((const argmax_attrs *)c->attrs)->axis;
    const view *x = &c->in[0];
    const view lines = heed__without(x, axis);

    for (int64_t i = begin; i < end; i++) {
        const void *line = heed__item(&lines, lines.type.rank, i).data;
        int64_t *y = heed__item(&c->out[0], c->out[0].type.rank, i).data;

        *y = heed__floating(x->type.dtype) ? argmax_f64(c, line, x->strides[axis], x->type.dims[axis])
                                           : argmax_i64(c, line, x->strides[axis], x->type.dims[axis]);
    }
}

static int64_t argmax_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / i64_max(1, c->in[0].type.dims[((const argmax_attrs *)c->attrs)->axis]));
}

static const op_kernel argmax_cpu[] = {
    { .name = "reference", .layout = STRIDED, .count = heed__element_count, .chunk_of = argmax_chunk,
      .run = argmax_run },
    KERNEL_END,
};

static const op_sample argmax_samples[] = {
    { .in = { DIMS(40, 1000) }, .attrs = &(const argmax_attrs){ 1 } },
    { .in = { DIMS(3, 7, 5) }, .attrs = &(const argmax_attrs){ 1 }, .scale = 1e4 },
    { .in = { INDEX(3, 17) }, .attrs = &(const argmax_attrs){ 0 } }, /* ties: the first */
    { .in = { DIMS(0, 3) }, .attrs = &(const argmax_attrs){ 1 } },
    { .in = { DIMS(3, 0) }, .attrs = &(const argmax_attrs){ 1 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_argmax(heed_builder *b, heed_value x, int axis)
{
    return heed__node(b, &heed__op_argmax, &(argmax_attrs){ heed__axis(b, x, axis) }, &x, 1);
}

static void argmax_onnx(onnx_emit *e)
{
    const argmax_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", a->axis), ONNX_INT("keepdims", 0), ONNX_END });
}

const op_def heed__op_argmax = {
    .name = "argmax", .version = 1, .in = argmax_in, .out = argmax_out, .flags = OP_NO_GRAD,
    .attrs_size = sizeof(argmax_attrs), .fields = argmax_fields, .infer = argmax_infer, .cpu = argmax_cpu,
    .onnx = { "ArgMax", 13 }, .onnx_emit = argmax_onnx, .torch = "x.argmax(dim={axis})",
    .samples = argmax_samples,
};
