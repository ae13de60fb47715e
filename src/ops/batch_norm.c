/* batch_norm: y = (x - mean) rstd weight + bias for each channel,  mean and var over the batch and all
 * places, rstd = 1 / sqrt(var + eps).
 *
 *   x [B,C,...], weight [C], bias [C]  ->  y like x,  mean [C], var [C] (biased) in the dtype of sums
 *
 * The variance takes a second pass over the channel: mean x^2 - mean^2 would be wrong for a mean far from
 * zero. Sums run over rows [b,c,:] and then over b, in double, in rising order. Gradient, the op
 * batch_norm_grad, with u = (x - mean) rstd and n = B * places:
 *
 *   dweight = sum dy u,  dbias = sum dy,  dx = rstd weight (dy - dbias / n - u dweight / n)
 *
 * Evaluation (heed_batch_norm_eval) is x * scale + shift, of which scale and shift are [C]. Ioffe, Szegedy
 * 2015. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <math.h>

enum { X, WEIGHT, BIAS };
static const op_slot batch_norm_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    { .name = "bias", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    SLOT_END,
};
enum { Y, MEAN, VAR };
static const op_slot batch_norm_out[] = {
    { .name = "y", .same_as = "x" },
    { .name = "mean" },
    { .name = "var" },
    SLOT_END,
};

typedef struct {
    double eps;
} batch_norm_attrs;
static const op_field batch_norm_fields[] = { FIELD_F64(batch_norm_attrs, eps), FIELD_END };

static bool batch_norm_is_vector(const heed_type *t, const heed_type *x)
{
    return t->rank == 1 && t->dims[0] == x->dims[1];
}

static heed_status batch_norm_infer(op_infer *t)
{
    const heed_type *x = &t->in[X];

    if (x->rank < 2)
        return heed__refuse(t, HEED_ERR_SHAPE, "wants x [B,C,...], got rank %d", x->rank);
    for (int i = WEIGHT; i <= BIAS; i++)
        if (heed__given(t, i) && !batch_norm_is_vector(&t->in[i], x))
            return heed__refuse(t, HEED_ERR_SHAPE,
                                "weight and bias must have one number for each of %lld channels",
                                (long long)x->dims[1]);
    t->out[MEAN] = t->out[VAR] = heed_type_of(heed__sum_dtype(x->dtype), 1, &x->dims[1]);
    return HEED_OK;
}

/* ---- as primitives ---- */

static unsigned batch_norm_axes(int rank)
{
    return ((1u << rank) - 1u) & ~2u; /* all but the channels */
}

/* [C] to [C,1,...], which broadcasts against x; {0} stays. */
static heed_value batch_norm_spread(heed_builder *b, heed_value v, int rank)
{
    int64_t dims[HEED_MAX_RANK] = { heed_value_type(b, v).dims[0], 1, 1, 1, 1, 1, 1, 1 };
    return rank == 2 ? v : heed_reshape(b, v, rank - 1, dims);
}

static double batch_norm_number(const heed_type *x)
{
    const int64_t n = x->dims[1] ? heed_type_count(x) / x->dims[1] : 0;
    return (double)n;
}

static heed_value batch_norm_rstd(heed_builder *b, heed_value var, double eps)
{
    const heed_dtype dtype = heed_value_type(b, var).dtype;
    return heed_div(b, heed_scalar(b, dtype, 1), heed_sqrt(b, heed_add_scalar(b, var, eps)));
}

static void batch_norm_decompose(op_decompose *d)
{
    const batch_norm_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[X]);
    const heed_dtype sums = heed__sum_dtype(type.dtype);
    heed_value x = heed__as(d->b, d->in[X], sums);
    heed_value mean = heed_mean(d->b, x, batch_norm_axes(type.rank), HEED_DROP_AXES);
    heed_value u = heed_sub(d->b, x, batch_norm_spread(d->b, mean, type.rank));
    heed_value var = heed_mean(d->b, heed_mul(d->b, u, u), batch_norm_axes(type.rank), HEED_DROP_AXES);
    heed_value y = heed_mul(d->b, u, batch_norm_spread(d->b, batch_norm_rstd(d->b, var, a->eps), type.rank));

    if (d->n_in > WEIGHT && d->in[WEIGHT].id)
        y = heed_mul(d->b, y, heed__as(d->b, batch_norm_spread(d->b, d->in[WEIGHT], type.rank), sums));
    if (d->n_in > BIAS && d->in[BIAS].id)
        y = heed_add(d->b, y, heed__as(d->b, batch_norm_spread(d->b, d->in[BIAS], type.rank), sums));
    d->out[Y] = heed__as(d->b, y, type.dtype);
    d->out[MEAN] = mean;
    d->out[VAR] = var;
}

/* Gradients that arrive at mean and var themselves add  dmean / n + dvar 2 (x - mean) / n. */
static void batch_norm_grad(op_grad *g)
{
    const heed_type type = heed_value_type(g->b, g->in[X]);
    const double n = batch_norm_number(&type);
    heed_value in[] = { g->dout[Y], g->in[X], g->out[MEAN], g->out[VAR],
                        g->n_in > WEIGHT ? g->in[WEIGHT] : (heed_value){ 0 } };
    heed_value out[3], more = { 0 };

    if (g->dout[Y].id) {
        heed__nodes(g->b, &heed__op_batch_norm_grad, g->attrs, in, 5, out);
        for (int i = 0; i < g->n_in; i++)
            g->din[i] = out[i];
    }
    if (g->dout[MEAN].id)
        more = heed_broadcast(g->b,
                              batch_norm_spread(g->b, heed_mul_scalar(g->b, g->dout[MEAN], 1 / n), type.rank),
                              type.rank, type.dims);
    if (g->dout[VAR].id) {
        heed_value x = heed__as(g->b, g->in[X], heed__sum_dtype(type.dtype));
        heed_value u = heed_sub(g->b, x, batch_norm_spread(g->b, g->out[MEAN], type.rank));
        u = heed_mul(g->b, u, batch_norm_spread(g->b, heed_mul_scalar(g->b, g->dout[VAR], 2 / n), type.rank));
        more = more.id ? heed_add(g->b, more, u) : u;
    }
    if (more.id) {
        more = heed__as(g->b, more, type.dtype);
        g->din[X] = g->din[X].id ? heed_add(g->b, g->din[X], more) : more;
    }
}

/* ---- in one go, f32: an item is a channel ---- */

typedef struct {
    int64_t batch, channels, places;
    int64_t block; /* rows of a channel that stay in L1 together */
} batch_norm_size;

static batch_norm_size batch_norm_sizes(const view *x)
{
    batch_norm_size s = { x->type.dims[0], x->type.dims[1], heed__dims_product(&x->type, 2, x->type.rank),
                          1 };

    s.block = i64_max(1, i64_min(ROWS_MAX, 4096 / i64_max(1, s.places)));
    return s;
}

/* Rows b .. b+count-1 of channel c. */
static rows batch_norm_rows(const batch_norm_size *s, const view *v, int64_t c, int64_t b)
{
    return (rows){ (float *)v->data + (b * s->channels + c) * s->places, i64_min(s->block, s->batch - b),
                   s->places, s->channels * s->places };
}

static double batch_norm_total(const float *each, int64_t count)
{
    double total = 0;

    for (int64_t i = 0; i < count; i++)
        total += (double)each[i];
    return total;
}

static void batch_norm_fill(float to[ROWS_MAX], float x)
{
    for (int i = 0; i < ROWS_MAX; i++)
        to[i] = x;
}

/* The kernels read whole rows of places; a place alone would be a row of one number. */
static bool batch_norm_accepts(const op_call *c)
{
    return heed__all_f32(c) && heed__dims_product(&c->in[X].type, 2, c->in[X].type.rank) >= 4;
}

static int64_t batch_norm_count(const op_call *c)
{
    return c->in[X].type.dims[1];
}

static void batch_norm_run(const op_call *c, int64_t begin, int64_t end)
{
    const batch_norm_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const batch_norm_size s = batch_norm_sizes(&c->in[X]);
    const double n = (double)(s.batch * s.places);
    const float *weight = c->n_in > WEIGHT ? c->in[WEIGHT].data : NULL,
                *bias = c->n_in > BIAS ? c->in[BIAS].data : NULL;

    for (int64_t i = begin; i < end; i++) {
        float each[ROWS_MAX], mean[ROWS_MAX], scale[ROWS_MAX];
        double sum = 0, squares = 0;

        for (int64_t b = 0; b < s.batch; b += s.block) {
            const rows x = batch_norm_rows(&s, &c->in[X], i, b);
            row->sum(each, x);
            sum += batch_norm_total(each, x.count);
        }
        batch_norm_fill(mean, (float)(sum / n));
        for (int64_t b = 0; b < s.batch; b += s.block) {
            const rows x = batch_norm_rows(&s, &c->in[X], i, b);
            row->sum_squares(each, x, mean);
            squares += batch_norm_total(each, x.count);
        }
        const float var = (float)(squares / n), rstd = 1 / sqrtf(var + (float)a->eps);
        if (c->out[MEAN].data)
            ((float *)c->out[MEAN].data)[i] = mean[0];
        if (c->out[VAR].data)
            ((float *)c->out[VAR].data)[i] = var;
        batch_norm_fill(scale, weight ? rstd * weight[i] : rstd);
        batch_norm_fill(each, bias ? -bias[i] : 0);
        for (int64_t b = 0; c->out[Y].data && b < s.batch; b += s.block) {
            const rows y = batch_norm_rows(&s, &c->out[Y], i, b);
            row->normalize(y, batch_norm_rows(&s, &c->in[X], i, b), mean, scale, NULL, NULL);
            if (bias)
                row->subtract(y, y, each);
        }
    }
}

static const op_kernel batch_norm_cpu[] = {
    { .name = "channels", .layout = DENSE, .chunk = 1, .accepts = batch_norm_accepts,
      .count = batch_norm_count, .run = batch_norm_run },
    KERNEL_END,
};

static const op_sample batch_norm_samples[] = {
    { .in = { DIMS(5, 3, 4, 7), DIMS(3), DIMS(3) }, .attrs = &(const batch_norm_attrs){ 1e-5 } },
    { .in = { DIMS(37, 4, 5), DIMS(4) }, .attrs = &(const batch_norm_attrs){ 1e-3 } },
    { .in = { DIMS(9, 6), DIMS(6), DIMS(6) }, .attrs = &(const batch_norm_attrs){ 1e-5 } }, /* decomposed */
    { .in = { DIMS(2, 3, 64, 65), DIMS(3), DIMS(3) }, .attrs = &(const batch_norm_attrs){ 1e-5 },
      .scale = 1e4 },
    { .in = { DIMS(4, 0, 8), DIMS(0), DIMS(0) }, .attrs = &(const batch_norm_attrs){ 1e-5 } },
    { .in = { DIMS(4, 3, 8), DIMS(4) }, .attrs = &(const batch_norm_attrs){ 1e-5 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_batch_normed heed_batch_norm_train(heed_builder *b, heed_value x, heed_value weight, heed_value bias,
                                        double eps)
{
    const batch_norm_attrs a = { eps > 0 ? eps : 1e-5 };
    const int n = bias.id ? 3 : weight.id ? 2 : 1;
    heed_value out[3];

    heed__nodes(b, &heed__op_batch_norm, &a, (heed_value[]){ x, weight, bias }, n, out);
    return (heed_batch_normed){ out[Y], out[MEAN], out[VAR] };
}

heed_value heed_batch_norm_eval(heed_builder *b, heed_value x, heed_value mean, heed_value var,
                                heed_value weight, heed_value bias, double eps)
{
    const heed_type type = heed_value_type(b, x);
    heed_value scale, shift;

    if (!heed__poisoned(b) && type.rank < 2)
        return heed__poison(b, HEED_ERR_SHAPE, "batch_norm wants x [B,C,...], got rank %d", type.rank);
    scale = batch_norm_rstd(b, var, eps > 0 ? eps : 1e-5);
    if (weight.id)
        scale = heed_mul(b, scale, weight);
    shift = heed_mul(b, mean, scale);
    shift = bias.id ? heed_sub(b, bias, shift) : heed_neg(b, shift);
    scale = heed__as(b, scale, type.dtype);
    shift = heed__as(b, shift, type.dtype);
    return heed_add(b, heed_mul(b, x, batch_norm_spread(b, scale, type.rank)),
                    batch_norm_spread(b, shift, type.rank));
}

const op_def heed__op_batch_norm = {
    .name = "batch_norm", .version = 1, .in = batch_norm_in, .out = batch_norm_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(batch_norm_attrs), .fields = batch_norm_fields,
    .infer = batch_norm_infer, .grad = batch_norm_grad, .decompose = batch_norm_decompose,
    .cpu = batch_norm_cpu,
    .torch = "batch_norm(x, None, None, weight, bias, training=True, eps={eps})",
    .samples = batch_norm_samples,
};

/* ---- batch_norm_grad ---- */

enum { G_DY, G_X, G_MEAN, G_VAR, G_WEIGHT };
static const op_slot batch_norm_grad_in[] = {
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "dy" },
    { .name = "mean", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "var", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "dy" },
    SLOT_END,
};
enum { DX, DWEIGHT, DBIAS };
static const op_slot batch_norm_grad_out[] = {
    { .name = "dx", .same_as = "x" },
    { .name = "dweight" },
    { .name = "dbias" },
    SLOT_END,
};

static heed_status batch_norm_grad_infer(op_infer *t)
{
    const heed_type *x = &t->in[G_X];

    if (x->rank < 2 || !heed_type_equal(&t->in[G_DY], x))
        return heed__refuse(t, HEED_ERR_SHAPE, "wants x and dy [B,C,...] of one shape");
    for (int i = G_MEAN; i <= G_WEIGHT; i++)
        if (heed__given(t, i) && !batch_norm_is_vector(&t->in[i], x))
            return heed__refuse(t, HEED_ERR_SHAPE,
                                "mean, var and weight must have one number for each channel");
    t->out[DWEIGHT] = t->out[DBIAS] = heed_type_of(x->dtype, 1, &x->dims[1]);
    return HEED_OK;
}

static void batch_norm_grad_decompose(op_decompose *d)
{
    const batch_norm_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[G_X]);
    const heed_dtype sums = heed__sum_dtype(type.dtype);
    const double n = batch_norm_number(&type), share = n > 0 ? 1 / n : 0;
    heed_value dy = heed__as(d->b, d->in[G_DY], sums), x = heed__as(d->b, d->in[G_X], sums);
    heed_value rstd = batch_norm_rstd(d->b, heed__as(d->b, d->in[G_VAR], sums), a->eps);
    heed_value mean = batch_norm_spread(d->b, heed__as(d->b, d->in[G_MEAN], sums), type.rank);
    heed_value u = heed_mul(d->b, heed_sub(d->b, x, mean), batch_norm_spread(d->b, rstd, type.rank));
    heed_value dweight = heed_sum(d->b, heed_mul(d->b, dy, u), batch_norm_axes(type.rank), HEED_DROP_AXES);
    heed_value dbias = heed_sum(d->b, dy, batch_norm_axes(type.rank), HEED_DROP_AXES), scale = rstd;
    heed_value along =
        heed_mul(d->b, u, batch_norm_spread(d->b, heed_mul_scalar(d->b, dweight, share), type.rank));
    heed_value dx = heed_sub(
        d->b, heed_sub(d->b, dy, batch_norm_spread(d->b, heed_mul_scalar(d->b, dbias, share), type.rank)),
        along);

    if (d->n_in > G_WEIGHT && d->in[G_WEIGHT].id)
        scale = heed_mul(d->b, scale, heed__as(d->b, d->in[G_WEIGHT], sums));
    d->out[DX] = heed__as(d->b, heed_mul(d->b, dx, batch_norm_spread(d->b, scale, type.rank)), type.dtype);
    d->out[DWEIGHT] = heed__as(d->b, dweight, type.dtype);
    d->out[DBIAS] = heed__as(d->b, dbias, type.dtype);
}

static bool batch_norm_grad_accepts(const op_call *c)
{
    return heed__all_f32(c) && heed__dims_product(&c->in[G_X].type, 2, c->in[G_X].type.rank) >= 4;
}

static int64_t batch_norm_grad_count(const op_call *c)
{
    return c->in[G_X].type.dims[1];
}

static size_t batch_norm_grad_scratch(const op_call *c)
{
    const batch_norm_size s = batch_norm_sizes(&c->in[G_X]);
    return (size_t)(s.block * s.places) * sizeof(float);
}

static void batch_norm_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const batch_norm_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const batch_norm_size s = batch_norm_sizes(&c->in[G_X]);
    const double n = (double)(s.batch * s.places);
    const float *weight = c->n_in > G_WEIGHT ? c->in[G_WEIGHT].data : NULL;

    for (int64_t i = begin; i < end; i++) {
        const float rstd_i = 1 / sqrtf(((const float *)c->in[G_VAR].data)[i] + (float)a->eps);
        float each[ROWS_MAX], mean[ROWS_MAX], rstd[ROWS_MAX];
        double dweight = 0, dbias = 0;

        batch_norm_fill(mean, ((const float *)c->in[G_MEAN].data)[i]);
        batch_norm_fill(rstd, rstd_i);
        for (int64_t b = 0; b < s.batch; b += s.block) {
            const rows x = batch_norm_rows(&s, &c->in[G_X], i, b),
                       dy = batch_norm_rows(&s, &c->in[G_DY], i, b);
            const rows u = { c->scratch[0], x.count, s.places, s.places };
            row->normalize(u, x, mean, rstd, NULL, NULL);
            row->dot(each, dy, u);
            dweight += batch_norm_total(each, x.count);
            row->sum(each, dy);
            dbias += batch_norm_total(each, x.count);
        }
        if (c->out[DWEIGHT].data)
            ((float *)c->out[DWEIGHT].data)[i] = (float)dweight;
        if (c->out[DBIAS].data)
            ((float *)c->out[DBIAS].data)[i] = (float)dbias;
        if (!c->out[DX].data)
            continue;
        /* u dweight / n = (x - mean) along, so that dx = (dy - dbias / n - (x - mean) along) scale */
        const float along = (float)((double)rstd_i * dweight / n),
                    scale = weight ? rstd_i * weight[i] : rstd_i;
        float shift[ROWS_MAX], scales[ROWS_MAX];
        batch_norm_fill(shift, (float)(dbias / n));
        batch_norm_fill(scales, scale);
        for (int64_t b = 0; b < s.batch; b += s.block) {
            const rows x = batch_norm_rows(&s, &c->in[G_X], i, b),
                       dx = batch_norm_rows(&s, &c->out[DX], i, b);
            const rows u = { c->scratch[0], x.count, s.places, s.places },
                       t = { c->scratch[1], x.count, s.places, s.places };
            row->subtract(u, x, mean);
            row->subtract(t, batch_norm_rows(&s, &c->in[G_DY], i, b), shift);
            row->add_scaled(t.data, u.data, -along, x.count * s.places);
            row->normalize(dx, t, NULL, scales, NULL, NULL);
        }
    }
}

static const op_kernel batch_norm_grad_cpu[] = {
    { .name = "channels", .layout = DENSE, .chunk = 1, .accepts = batch_norm_grad_accepts,
      .count = batch_norm_grad_count,
      .scratch = batch_norm_grad_scratch, .run = batch_norm_grad_run },
    KERNEL_END,
};

static const op_sample batch_norm_grad_samples[] = {
    { .in = { DIMS(5, 3, 4, 7), DIMS(5, 3, 4, 7), DIMS(3), FILLED(FILL_POSITIVE, 3), DIMS(3) },
      .attrs = &(const batch_norm_attrs){ 1e-5 } },
    { .in = { DIMS(37, 4, 5), DIMS(37, 4, 5), DIMS(4), FILLED(FILL_POSITIVE, 4) },
      .attrs = &(const batch_norm_attrs){ 1e-3 } },
    { .in = { DIMS(9, 6), DIMS(9, 6), DIMS(6), FILLED(FILL_POSITIVE, 6), DIMS(6) },
      .attrs = &(const batch_norm_attrs){ 1e-5 } },
    { .in = { DIMS(2, 3, 8, 9), DIMS(2, 3, 8, 9), DIMS(3), FILLED(FILL_POSITIVE, 3), DIMS(3) },
      .attrs = &(const batch_norm_attrs){ 1e-5 }, .scale = 1e4 },
    { .in = { DIMS(4, 0, 8), DIMS(4, 0, 8), DIMS(0), DIMS(0), DIMS(0) },
      .attrs = &(const batch_norm_attrs){ 1e-5 } },
    { .in = { DIMS(4, 3, 8), DIMS(4, 3, 8), DIMS(4), DIMS(4) }, .attrs = &(const batch_norm_attrs){ 1e-5 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_batch_norm_grad = {
    .name = "batch_norm_grad", .version = 1, .in = batch_norm_grad_in, .out = batch_norm_grad_out,
    .flags = OP_IN_PLACE,
    .attrs_size = sizeof(batch_norm_attrs), .fields = batch_norm_fields, .infer = batch_norm_grad_infer,
    .decompose = batch_norm_grad_decompose, .cpu = batch_norm_grad_cpu, .torch = "native_batch_norm_backward",
    .samples = batch_norm_grad_samples,
};
