/* qkv: the three parts of a projection, cut into heads.
 *
 *   x [B,T,3E]  ->  q, k, v, each [B,H,T,E/H]:   q[b,h,t,c] = x[b,t, 0 + h E/H + c],  k: E + ..., v: 2E + ...
 *
 * Always opened: the decomposition is slices and permutations, which are views. The op is there for its
 * gradient, which is one concat of dq, dk and dv instead of three padded tensors and their sum. */

#include "attention/attention.h"

static const op_slot qkv_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot qkv_out[] = { { .name = "q" }, { .name = "k" }, { .name = "v" }, SLOT_END };

typedef struct qkv_attrs {
    int64_t heads;
} qkv_attrs;
static const op_field qkv_fields[] = { FIELD_I64(qkv_attrs, heads), FIELD_END };

static heed_status qkv_infer(op_infer *t)
{
    const qkv_attrs *a = t->attrs;
    const heed_type *x = &t->in[0];

    if (x->rank != 3 || a->heads < 1 || x->dims[2] % (3 * a->heads) != 0)
        return heed__refuse(t, HEED_ERR_SHAPE, "x must be [B,T,3E] with E a multiple of the %lld heads",
                            (long long)a->heads);
    for (int i = 0; i < 3; i++)
        t->out[i] = heed_type_of(
            x->dtype, 4, (const int64_t[]){ x->dims[0], a->heads, x->dims[1], x->dims[2] / (3 * a->heads) });
    return HEED_OK;
}

static void qkv_decompose(op_decompose *d)
{
    const qkv_attrs *a = d->attrs;
    const heed_type x = heed_value_type(d->b, d->in[0]);
    const int64_t width = x.dims[2] / 3;

    for (int i = 0; i < 3; i++) {
        heed_value part = heed_slice(d->b, d->in[0], 2, i * width, (i + 1) * width, 1);

        part = heed_reshape(d->b, part, 4,
                            (const int64_t[]){ x.dims[0], x.dims[1], a->heads, width / a->heads });
        d->out[i] = heed_transpose(d->b, part, 1, 2);
    }
}

static void qkv_gradient(op_grad *g)
{
    const heed_type type = heed_value_type(g->b, g->out[0]), x = heed_value_type(g->b, g->in[0]);
    heed_value part[3];

    for (int i = 0; i < 3; i++) {
        part[i] = g->dout[i].id ? g->dout[i] : heed__zeros(g->b, &type);
        part[i] = heed_unsqueeze(g->b, heed_transpose(g->b, part[i], 1, 2), 2); /* [B,T,1,H,E/H] */
    }
    g->din[0] = heed_reshape(g->b, heed_concat(g->b, part, 3, 2), 3, x.dims);
}

static const op_sample qkv_samples[] = {
    { .in = { DIMS(2, 5, 24) }, .attrs = &(const qkv_attrs){ 2 } },
    { .in = { DIMS(3, 1, 9) }, .attrs = &(const qkv_attrs){ 3 } },
    { .in = { DIMS(2, 0, 12) }, .attrs = &(const qkv_attrs){ 2 } },
    { .in = { DIMS(2, 5, 24) }, .attrs = &(const qkv_attrs){ 5 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

void heed__qkv(heed_builder *b, heed_value x, int64_t heads, heed_value out[3])
{
    heed__nodes(b, &heed__op_qkv, &(qkv_attrs){ heads }, &x, 1, out);
}

const op_def heed__op_qkv = {
    .name = "qkv",
    .version = 1,
    .in = qkv_in,
    .out = qkv_out,
    .attrs_size = sizeof(qkv_attrs),
    .fields = qkv_fields,
    .infer = qkv_infer,
    .grad = qkv_gradient,
    .decompose = qkv_decompose,
    .torch = "x.unflatten(-1, (3, {heads}, -1)).permute(2, 0, 3, 1, 4)",
    .samples = qkv_samples,
};
