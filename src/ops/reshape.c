/* reshape: the same elements in row-major order under other sizes. A view where x's strides allow it.
 *
 *   x [a, b, ...] -> y [c, d, ...],  a b ... = c d ...
 *
 * Both lists of sizes are cut into the shortest groups of equal product; a group of y can be addressed
 * inside x when x's dimensions of that group follow each other without gaps. flatten, squeeze and
 * unsqueeze are compositions. */

#include "ops/reference.h"

static const op_slot reshape_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot reshape_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    field_i64s dims;
} reshape_attrs;
static const op_field reshape_fields[] = { FIELD_I64S(reshape_attrs, dims), FIELD_END };

static heed_status reshape_infer(op_infer *t)
{
    const reshape_attrs *a = t->attrs;
    heed_type y;

    if (a->dims.n < 0 || a->dims.n > HEED_MAX_RANK)
        return heed__refuse(t, HEED_ERR_SHAPE, "rank %d is outside 0 to %d", a->dims.n, HEED_MAX_RANK);
    y = heed_type_of(t->in[0].dtype, a->dims.n, a->dims.v);
    if (heed_type_count(&y) != heed_type_count(&t->in[0]))
        return heed__refuse(t, HEED_ERR_SHAPE, "%lld elements cannot become %lld",
                            (long long)heed_type_count(&t->in[0]),
                            (long long)heed_type_count(&y));
    t->out[0] = y;
    return HEED_OK;
}

static void reshape_grad(op_grad *g)
{
    heed_type t = heed_value_type(g->b, g->in[0]);
    g->din[0] = heed_reshape(g->b, g->dout[0], t.rank, t.dims);
}

static void reshape_dense(view *v)
{
    int64_t step = 1;

    for (int i = v->type.rank - 1; i >= 0; i--) {
        v->strides[i] = step;
        step *= v->type.dims[i];
    }
}

/* True when dimensions [begin, end) of v are one run of steps of size *step; those of size 1 do not count. */
static bool reshape_run_of(const view *v, int begin, int end, int64_t *step)
{
    int64_t next = 0;
    bool any = false;

    *step = 1;
    for (int i = end - 1; i >= begin; i--) {
        if (v->type.dims[i] == 1)
            continue;
        if (any && v->strides[i] != next)
            return false;
        if (!any)
            *step = v->strides[i];
        any = true;
        next = v->strides[i] * v->type.dims[i];
    }
    return true;
}

static bool reshape_view(const void *attrs, const view *in, view *out, int64_t *offset)
{
    const int rank_in = in->type.rank, rank_out = out->type.rank;
    int i = 0, j = 0;

    (void)attrs;
    *offset = 0;
    reshape_dense(out);
    if (heed_type_count(&in->type) == 0)
        return true;
    while (i < rank_in && j < rank_out) {
        const int first_in = i, first_out = j;
        int64_t a = in->type.dims[i++], b = out->type.dims[j++], step;

        while (a != b) { /* the products of all sizes are equal, so both sides end together */
            if (a < b)
                a *= in->type.dims[i++];
            else
                b *= out->type.dims[j++];
        }
        if (!reshape_run_of(in, first_in, i, &step))
            return false;
        for (int k = j - 1; k >= first_out; k--) {
            out->strides[k] = step;
            step *= out->type.dims[k];
        }
    }
    return true; /* what is left on either side has size 1 */
}

static void reshape_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_view(c, begin, end, reshape_view);
}

static const op_kernel reshape_cpu[] = {
    { .name = "copy", .layout = DENSE, .chunk = COPY_CHUNK, .count = heed__element_count,
      .run = reshape_run },
    KERNEL_END,
};

static const op_sample reshape_samples[] = {
    { .in = { DIMS(6, 35) }, .attrs = &(const reshape_attrs){ { 3, { 2, 21, 5 } } } },
    { .in = { DIMS(4, 3, 1, 5) }, .attrs = &(const reshape_attrs){ { 1, { 60 } } }, .scale = 1e4 },
    { .in = { DIMS(1, 1) }, .attrs = &(const reshape_attrs){ { 0, { 0 } } } },
    { .in = { DIMS(3, 0) }, .attrs = &(const reshape_attrs){ { 3, { 0, 5, 7 } } } },
    { .in = { DIMS(6) }, .attrs = &(const reshape_attrs){ { 2, { 2, 4 } } }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_reshape(heed_builder *b, heed_value x, int rank, const int64_t *dims)
{
    const heed_type t = heed_value_type(b, x);
    reshape_attrs a = { { 0 } };
    int64_t known = 1;
    int open = -1;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (rank < 0 || rank > HEED_MAX_RANK)
        return heed__poison(b, HEED_ERR_SHAPE, "reshape: rank %d is outside 0 to %d", rank, HEED_MAX_RANK);
    a.dims.n = rank;
    for (int i = 0; i < rank; i++) {
        a.dims.v[i] = dims[i];
        if (dims[i] == -1 && open < 0)
            open = i;
        else if (dims[i] < 0 || !heed__i64_mul(&known, known, dims[i]))
            return heed__poison(b, HEED_ERR_SHAPE,
                                "reshape: size %lld of axis %d; one size may be -1, no other negative",
                                (long long)dims[i], i);
    }
    if (open >= 0) {
        if (known == 0 || heed_type_count(&t) % known != 0)
            return heed__poison(b, HEED_ERR_SHAPE,
                                "reshape: %lld elements do not fill rows of %lld, so -1 has no value",
                                (long long)heed_type_count(&t), (long long)known);
        a.dims.v[open] = heed_type_count(&t) / known;
    }
    if (x.id && rank == t.rank) {
        const heed_type same = heed_type_of(t.dtype, rank, a.dims.v);

        if (heed_type_equal(&same, &t))
            return x;
    }
    return heed__node(b, &heed__op_reshape, &a, &x, 1);
}

heed_value heed_unsqueeze(heed_builder *b, heed_value x, int axis)
{
    const heed_type t = heed_value_type(b, x);
    const int at = axis < 0 ? axis + t.rank + 1 : axis;
    int64_t dims[HEED_MAX_RANK + 1];

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (at < 0 || at > t.rank || t.rank == HEED_MAX_RANK)
        return heed__poison(b, HEED_ERR_SHAPE, "unsqueeze: a new axis %d in a value of rank %d", axis,
                            t.rank);
    for (int i = 0; i <= t.rank; i++)
        dims[i] = i < at ? t.dims[i] : i == at ? 1 : t.dims[i - 1];
    return heed_reshape(b, x, t.rank + 1, dims);
}

heed_value heed_squeeze(heed_builder *b, heed_value x, int axis)
{
    const heed_type t = heed_value_type(b, x);
    const int at = heed__axis(b, x, axis);
    int64_t dims[HEED_MAX_RANK] = { 0 };

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (t.dims[at] != 1)
        return heed__poison(b, HEED_ERR_SHAPE, "squeeze: axis %d has size %lld, not 1", axis,
                            (long long)t.dims[at]);
    for (int i = 0, n = 0; i < t.rank; i++)
        if (i != at)
            dims[n++] = t.dims[i];
    return heed_reshape(b, x, t.rank - 1, dims);
}

heed_value heed_flatten(heed_builder *b, heed_value x, int first, int last)
{
    const heed_type t = heed_value_type(b, x);
    const int from = heed__axis(b, x, first), to = heed__axis(b, x, last);
    int64_t dims[HEED_MAX_RANK] = { 0 };
    int n = 0;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (from > to)
        return heed__poison(b, HEED_ERR_SHAPE, "flatten: axis %d comes after axis %d", first, last);
    for (int i = 0; i < t.rank; i++)
        if (i > from && i <= to)
            dims[n - 1] *= t.dims[i];
        else
            dims[n++] = t.dims[i];
    return heed_reshape(b, x, n, dims);
}

/* With one open size -1 stands for it; it is 0, "as in x", where it stays in its place. */
static void reshape_onnx(onnx_emit *e)
{
    const heed_type *x = &e->in[0], *y = &e->out[0];
    int64_t dims[HEED_MAX_RANK];
    int open = 0, empty = 0;
    const char *shape;

    for (int i = 0; i < y->rank; i++) {
        const bool is_open = e->to->open(e, y->dims[i]);

        open += is_open;
        empty += y->dims[i] == 0;
        dims[i] = !is_open ? y->dims[i] : i < x->rank && x->dims[i] == y->dims[i] ? 0 : -1;
    }
    shape = open == 1 && !empty ? e->to->i64s(e, dims, y->rank) : e->to->shape(e, y);
    heed__onnx_node_of(e, &shape, 1, (onnx_attr[]){ ONNX_INT("allowzero", empty > 0), ONNX_END });
}

const op_def heed__op_reshape = {
    .name = "reshape", .version = 1, .in = reshape_in, .out = reshape_out, .flags = OP_VIEW,
    .attrs_size = sizeof(reshape_attrs), .fields = reshape_fields, .infer = reshape_infer,
    .grad = reshape_grad,
    .view = reshape_view, .cpu = reshape_cpu, .onnx = { "Reshape", 14 }, .onnx_emit = reshape_onnx,
    .torch = "x.reshape({dims})",
    .samples = reshape_samples,
};
