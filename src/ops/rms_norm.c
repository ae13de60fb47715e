/* rms_norm: y = x rstd weight over the last axis,  rstd = 1 / sqrt(mean x^2 + eps).
 *
 *   x [..., n], weight [n]  ->  y like x,  rstd [..., 1] in the dtype of sums
 *
 * Gradient: layer_norm_grad without a mean. Zhang, Sennrich 2019. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <float.h>
#include <math.h>

static const op_slot rms_norm_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    SLOT_END,
};
static const op_slot rms_norm_out[] = { { .name = "y", .same_as = "x" }, { .name = "rstd" }, SLOT_END };

typedef struct {
    double eps;
} rms_norm_attrs;
static const op_field rms_norm_fields[] = { FIELD_F64(rms_norm_attrs, eps), FIELD_END };

static heed_status rms_norm_infer(op_infer *t)
{
    const heed_type *x = &t->in[0];

    if (x->rank < 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "x has no axis");
    if (heed__given(t, 1) && (t->in[1].rank != 1 || t->in[1].dims[0] != x->dims[x->rank - 1]))
        return heed__refuse(t, HEED_ERR_SHAPE, "weight must have the %lld elements of x's last axis",
                            (long long)x->dims[x->rank - 1]);
    t->out[1] = *x;
    t->out[1].dtype = heed__sum_dtype(x->dtype);
    t->out[1].dims[x->rank - 1] = 1;
    return HEED_OK;
}

static heed_value rms_norm_mean(heed_builder *b, heed_value x)
{
    return heed_mean(b, x, 1u << (heed_rank(b, x) - 1), HEED_KEEP_AXES);
}

/* A gradient that arrives at rstd itself adds  -drstd rstd^3 x / n. */
static void rms_norm_grad(op_grad *g)
{
    const heed_type type = heed_value_type(g->b, g->in[0]);
    const double n = (double)type.dims[type.rank - 1];
    heed_value in[] = { g->dout[0], g->in[0], { 0 }, g->out[1], g->n_in > 1 ? g->in[1] : (heed_value){ 0 } };
    heed_value out[3];

    if (g->dout[0].id) {
        heed__nodes(g->b, &heed__op_layer_norm_grad, NULL, in, 5, out);
        for (int i = 0; i < g->n_in; i++)
            g->din[i] = out[i];
    }
    if (g->dout[1].id) {
        heed_value cube = heed_mul(g->b, g->out[1], heed_mul(g->b, g->out[1], g->out[1]));
        heed_value by_row = heed_mul_scalar(g->b, heed_mul(g->b, g->dout[1], cube), -1 / n);
        heed_value more = heed_mul(g->b, heed__as(g->b, g->in[0], heed__sum_dtype(type.dtype)), by_row);
        more = heed__as(g->b, more, type.dtype);
        g->din[0] = g->din[0].id ? heed_add(g->b, g->din[0], more) : more;
    }
}

static void rms_norm_decompose(op_decompose *d)
{
    const rms_norm_attrs *a = d->attrs;
    const heed_dtype dtype = heed_value_type(d->b, d->in[0]).dtype, sums = heed__sum_dtype(dtype);
    heed_value x = heed__as(d->b, d->in[0], sums);
    heed_value root =
        heed_sqrt(d->b, heed_add_scalar(d->b, rms_norm_mean(d->b, heed_mul(d->b, x, x)), a->eps));
    heed_value rstd = heed_div(d->b, heed_scalar(d->b, sums, 1), root);
    heed_value y = heed_mul(d->b, x, rstd);

    if (d->n_in > 1 && d->in[1].id)
        y = heed_mul(d->b, y, heed__as(d->b, d->in[1], sums));
    d->out[0] = heed__as(d->b, y, dtype);
    d->out[1] = rstd;
}

static bool rms_norm_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[0]);
}

static void rms_norm_run(const op_call *c, int64_t begin, int64_t end)
{
    const rms_norm_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const float *weight = c->n_in > 1 && c->in[1].data ? row->in(&c->in[1], 0, 1, c->scratch[2]).data : NULL;
    float *rstds = c->out[1].data, rstd[ROWS_MAX];

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[0], i, last, c->scratch[0]);
        row->sum_squares(rstd, x, NULL);
        for (int64_t r = 0; r < x.count; r++) {
            rstd[r] = 1 / sqrtf(rstd[r] / (float)x.n + (float)a->eps);
            if (rstds)
                rstds[i + r] = rstd[r];
        }
        if (c->out[0].data) {
            rows y = row->out(&c->out[0], i, last, c->scratch[1]);
            row->normalize(y, x, NULL, rstd, weight, NULL);
            row->commit(&c->out[0], i, y);
        }
    }
}

static const op_kernel rms_norm_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = rms_norm_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = rms_norm_run },
    KERNEL_END,
};

static const op_sample rms_norm_samples[] = {
    { .in = { DIMS(6, 5, 64), DIMS(64) }, .attrs = &(const rms_norm_attrs){ 1e-6 } },
    { .in = { DIMS(35, 13) }, .attrs = &(const rms_norm_attrs){ 1e-6 } },
    { .in = { DIMS(4, 100), DIMS(100) }, .attrs = &(const rms_norm_attrs){ 1e-5 }, .scale = 1e4 },
    { .in = { DIMS(0, 8), DIMS(8) }, .attrs = &(const rms_norm_attrs){ 1e-5 } },
    { .in = { DIMS(4, 6), DIMS(4) }, .attrs = &(const rms_norm_attrs){ 1e-5 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_rms_norm(heed_builder *b, heed_value x, int axes, heed_value weight, double eps)
{
    static const double machine[HEED_DTYPES] = {
        [HEED_F32] = FLT_EPSILON, [HEED_F64] = DBL_EPSILON, [HEED_F16] = 0x1p-10, [HEED_BF16] = 0x1p-7
    };
    rms_norm_attrs a = { eps > 0 ? eps : machine[heed_value_type(b, x).dtype] };

    return heed__norm_over(b, &heed__op_rms_norm, &a, x, axes, weight, (heed_value){ 0 });
}

const op_def heed__op_rms_norm = {
    .name = "rms_norm", .version = 1, .in = rms_norm_in, .out = rms_norm_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(rms_norm_attrs), .fields = rms_norm_fields,
    .infer = rms_norm_infer, .grad = rms_norm_grad, .decompose = rms_norm_decompose, .cpu = rms_norm_cpu,
    .onnx = { "RMSNormalization", 23 }, .torch = "rms_norm(x, x.shape[-1:], weight, {eps})",
    .samples = rms_norm_samples,
};
