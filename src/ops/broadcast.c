/* broadcast: x repeated to larger sizes by NumPy's rule: sizes are aligned from the right, 1 stretches. A
 * view with stride 0.
 *
 * Gradient: the sum over what was repeated (heed__unbroadcast), which stands here and nowhere else. */

#include "ops/reference.h"

#include <stdio.h>

static const op_slot broadcast_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot broadcast_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    field_i64s dims;
} broadcast_attrs;
static const op_field broadcast_fields[] = { FIELD_I64S(broadcast_attrs, dims), FIELD_END };

/* "[4, 3]" for messages. */
static const char *broadcast_sizes(char out[200], const heed_type *t)
{
    int n = snprintf(out, 200, "[");

    for (int i = 0; i < t->rank; i++)
        n += snprintf(out + n, (size_t)(200 - n), i ? ", %lld" : "%lld", (long long)t->dims[i]);
    (void)snprintf(out + n, (size_t)(200 - n), "]");
    return out;
}

static heed_status broadcast_infer(op_infer *t)
{
    const field_i64s *dims = &((const broadcast_attrs *)t->attrs)->dims;
    const heed_type *x = &t->in[0];
    const int extra = dims->n - x->rank;
    char from[200], to[200];

    if (dims->n > HEED_MAX_RANK)
        return heed__refuse(t, HEED_ERR_SHAPE, "rank %d is more than %d", dims->n, HEED_MAX_RANK);
    t->out[0] = heed_type_of(x->dtype, dims->n, dims->v);
    for (int i = 0; i < x->rank; i++)
        if (extra < 0 || (x->dims[i] != 1 && x->dims[i] != dims->v[extra + i]))
            return heed__refuse(t, HEED_ERR_SHAPE, "%s does not stretch to %s", broadcast_sizes(from, x),
                                broadcast_sizes(to, &t->out[0]));
    return HEED_OK;
}

static void broadcast_grad(op_grad *g)
{
    heed_type t = heed_value_type(g->b, g->in[0]);
    g->din[0] = heed__unbroadcast(g->b, g->dout[0], &t);
}

static bool broadcast_view(const void *attrs, const view *in, view *out, int64_t *offset)
{
    const int extra = out->type.rank - in->type.rank;

    (void)attrs;
    for (int i = 0; i < out->type.rank; i++)
        if (i < extra || in->type.dims[i - extra] != out->type.dims[i])
            out->strides[i] = 0;
        else
            out->strides[i] = in->strides[i - extra];
    *offset = 0;
    return true;
}

static void broadcast_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_view(c, begin, end, broadcast_view);
}

static const op_kernel broadcast_cpu[] = { COPY_KERNEL(broadcast_run), KERNEL_END };

static const op_sample broadcast_samples[] = {
    { .in = { DIMS(33) }, .attrs = &(const broadcast_attrs){ { 2, { 40, 33 } } } },
    { .in = { DIMS(3, 1, 7, 1) }, .attrs = &(const broadcast_attrs){ { 4, { 3, 5, 7, 2 } } }, .scale = 1e4 },
    { .in = { SCALAR() }, .attrs = &(const broadcast_attrs){ { 3, { 3, 1, 5 } } } },
    { .in = { DIMS(1, 3) }, .attrs = &(const broadcast_attrs){ { 2, { 0, 3 } } } },
    { .in = { DIMS(3) }, .attrs = &(const broadcast_attrs){ { 2, { 3, 4 } } }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_broadcast(heed_builder *b, heed_value x, int rank, const int64_t *dims)
{
    const heed_type t = heed_value_type(b, x);
    broadcast_attrs a = { { .n = rank } };
    heed_type to;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (rank < 0 || rank > HEED_MAX_RANK)
        return heed__poison(b, HEED_ERR_SHAPE, "broadcast: rank %d is outside 0 to %d", rank, HEED_MAX_RANK);
    for (int i = 0; i < rank; i++)
        a.dims.v[i] = dims[i];
    to = heed_type_of(t.dtype, rank, dims);
    if (x.id && heed_type_equal(&to, &t))
        return x;
    return heed__node(b, &heed__op_broadcast, &a, &x, 1);
}

bool heed__broadcast_pair(heed_builder *b, heed_value *x, heed_value *y)
{
    const heed_type tx = heed_value_type(b, *x), ty = heed_value_type(b, *y);
    const int rank = tx.rank > ty.rank ? tx.rank : ty.rank;
    int64_t dims[HEED_MAX_RANK] = { 0 };
    char from[200], to[200];

    if (heed__poisoned(b))
        return false;
    for (int i = 0; i < rank; i++) {
        const int64_t dx = i < rank - tx.rank ? 1 : tx.dims[i - (rank - tx.rank)];
        const int64_t dy = i < rank - ty.rank ? 1 : ty.dims[i - (rank - ty.rank)];

        if (dx != dy && dx != 1 && dy != 1) {
            heed__poison(b, HEED_ERR_SHAPE,
                         "sizes %s and %s do not fit together: aligned from the right, each pair must be "
                         "equal or have a 1", broadcast_sizes(from, &tx), broadcast_sizes(to, &ty));
            return false;
        }
        dims[i] = dx == 1 ? dy : dx;
    }
    *x = heed_broadcast(b, *x, rank, dims);
    *y = heed_broadcast(b, *y, rank, dims);
    return !heed__poisoned(b);
}

heed_value heed__unbroadcast(heed_builder *b, heed_value x, const heed_type *type)
{
    const heed_type t = heed_value_type(b, x);
    const int extra = t.rank - type->rank;
    unsigned axes = 0;

    for (int i = 0; i < t.rank; i++)
        if (i < extra || (type->dims[i - extra] == 1 && t.dims[i] != 1))
            axes |= 1u << i;
    if (axes)
        x = heed_sum(b, x, axes, HEED_KEEP_AXES);
    return heed_reshape(b, x, type->rank, type->dims);
}

heed_value heed__zeros(heed_builder *b, const heed_type *type)
{
    return heed_full(b, *type, 0);
}

heed_value heed_full(heed_builder *b, heed_type type, double value)
{
    return heed_broadcast(b, heed_scalar(b, type.dtype, value), type.rank, type.dims);
}

static void broadcast_onnx(onnx_emit *e)
{
    const char *shape = e->to->shape(e, &e->out[0]);

    heed__onnx_node_of(e, &shape, 1, NULL);
}

const op_def heed__op_broadcast = {
    .name = "broadcast", .version = 1, .in = broadcast_in, .out = broadcast_out, .flags = OP_VIEW,
    .attrs_size = sizeof(broadcast_attrs), .fields = broadcast_fields, .infer = broadcast_infer,
    .grad = broadcast_grad,
    .view = broadcast_view, .cpu = broadcast_cpu, .onnx = { "Expand", 13 }, .onnx_emit = broadcast_onnx,
    .torch = "x.expand({dims})",
    .samples = broadcast_samples,
};
