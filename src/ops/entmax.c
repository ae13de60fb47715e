/* entmax: y = [(alpha - 1) z - tau]+^(1/(alpha - 1)) along the last axis, tau such that the sum is 1. alpha 2 is sparsemax.
 *
 *   z [.., n], alpha broadcastable to [.., 1]  ->  y like z;  -inf has weight 0, a row of nothing else is 0
 *
 * With x = (alpha - 1)(z - max z), tau lies in [-1, 0]: at -1 the largest term alone is 1, at 0 all are 0. It is bisected in
 * double, which serves every alpha. With s = y^(2-alpha) on the support, s~ = s / sum s and h = -y ln y:
 *   dz     = s (dy - sum s dy / sum s)
 *   dalpha = sum dy ((y - s~)/(alpha-1)^2 + (h - s~ sum h)/(alpha-1))
 * Martins 2016; Peters 2019; Correia 2019. */

#include "ops/reference.h"

#include <math.h>

#define BISECTIONS 52

static const op_slot entmax_in[] = {
    { .name = "z", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "alpha", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "z" },
    SLOT_END
};
static const op_slot entmax_out[] = { { .name = "y", .same_as = "z" }, SLOT_END };

static heed_status entmax_infer(op_infer *t)
{
    const heed_type *z = &t->in[0], *alpha = &t->in[1];

    if (z->rank < 1 || alpha->rank != z->rank || alpha->dims[z->rank - 1] != 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "alpha must have z's sizes with 1 for the last");
    for (int i = 0; i + 1 < z->rank; i++)
        if (alpha->dims[i] != z->dims[i])
            return heed__refuse(t, HEED_ERR_SHAPE, "alpha has size %lld on axis %d where z has %lld",
                                (long long)alpha->dims[i], i, (long long)z->dims[i]);
    return HEED_OK;
}

/* alpha = 2 makes 0^0 of what is outside the support: selected away. */
static void entmax_gradient(op_grad *g)
{
    heed_builder *b = g->b;
    const heed_value y = g->out[0], dy = g->dout[0], alpha = g->in[1];
    const heed_dtype dtype = heed_value_type(b, y).dtype;
    const int last = heed_rank(b, y) - 1;
    const heed_value zero = heed_scalar(b, dtype, 0), one = heed_scalar(b, dtype, 1),
                     some = heed_gt(b, y, zero);
    const heed_value inside = heed_select(b, some, y, one), less = heed_add_scalar(b, alpha, -1);
    heed_value s = heed_select(b, some, heed_pow(b, inside, heed_add_scalar(b, heed_neg(b, alpha), 2)), zero),
               sum, h, da;

    sum = heed__sum_axis(b, s, last);
    sum = heed_select(b, heed_gt(b, sum, zero), sum, one);
    g->din[0] =
        heed_mul(b, s, heed_sub(b, dy, heed_div(b, heed__sum_axis(b, heed_mul(b, s, dy), last), sum)));
    if (!g->need[1])
        return;
    s = heed_div(b, s, sum);
    h = heed_neg(b, heed_mul(b, y, heed_log(b, inside)));
    da = heed_add(b, heed_div(b, heed_sub(b, y, s), heed_mul(b, less, less)),
                  heed_div(b, heed_sub(b, h, heed_mul(b, s, heed__sum_axis(b, h, last))), less));
    g->din[1] = heed__sum_axis(b, heed_mul(b, dy, da), last);
}

/* [x - tau]+^power of a row. In f32 the power is exp and log of this level: libm differs between machines. */
static double entmax_terms(double *y, float *wide, const double *x, int64_t n, double tau, double power,
                           const row_ops *row)
{
    double sum = 0;

    if (power == 1 || power == 2) {
        for (int64_t j = 0; j < n; j++) {
            const double d = fmax(x[j] - tau, 0);

            y[j] = power == 1 ? d : d * d;
            sum += y[j];
        }
        return sum;
    }
    if (!wide) {
        for (int64_t j = 0; j < n; j++) {
            y[j] = x[j] > tau ? pow(x[j] - tau, power) : 0;
            sum += y[j];
        }
        return sum;
    }
    for (int64_t j = 0; j < n; j++)
        wide[j] = (float)fmax(x[j] - tau, 0);
    row->unary[ROW_LOG](wide, wide, n);
    for (int64_t j = 0; j < n; j++)
        wide[j] = (float)(power * (double)wide[j]);
    row->unary[ROW_EXP](wide, wide, n);
    for (int64_t j = 0; j < n; j++) {
        y[j] = (double)wide[j];
        sum += y[j];
    }
    return sum;
}

static void entmax_row(double *y, double *x, float *wide, int64_t n, double alpha, const row_ops *row)
{
    double most = -INFINITY, low = -1, high = 0, sum;
    const double power = 1 / (alpha - 1);

    for (int64_t j = 0; j < n; j++)
        most = x[j] > most || isnan(x[j]) ? x[j] : most;
    if (!isfinite(most)) { /* nothing is kept, or there is no answer */
        for (int64_t j = 0; j < n; j++)
            y[j] = most < 0 ? 0 : NAN;
        return;
    }
    for (int64_t j = 0; j < n; j++)
        x[j] = (alpha - 1) * (x[j] - most);
    for (int k = 0; k < BISECTIONS; k++) {
        const double middle = 0.5 * (low + high);

        if (entmax_terms(y, wide, x, n, middle, power, row) >= 1)
            low = middle;
        else
            high = middle;
    }
    sum = entmax_terms(y, wide, x, n, low, power, row);
    for (int64_t j = 0; j < n; j++)
        y[j] /= sum;
}

static int64_t entmax_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / 64 / i64_max(1, c->in[0].type.dims[c->in[0].type.rank - 1]));
}

static size_t entmax_scratch(const op_call *c)
{
    return (size_t)c->in[0].type.dims[c->in[0].type.rank - 1] * sizeof(double);
}

static void entmax_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *z = &c->in[0], *alpha = &c->in[1], *y = &c->out[0];
    const int last = z->type.rank - 1;
    const int64_t n = z->type.dims[last];
    double *x = c->scratch[0], *to = c->scratch[1], power;

    for (int64_t i = begin; y->data && i < end; i++) {
        heed__load_f64(x, z->type.dtype, heed__item(z, last, i).data, z->strides[last], n, c->row);
        heed__load_f64(&power, alpha->type.dtype, heed__item(alpha, last, i).data, 1, 1, c->row);
        entmax_row(to, x, z->type.dtype == HEED_F64 ? NULL : c->scratch[2], n, power, c->row);
        heed__store_f64(heed__item(y, last, i).data, y->type.dtype, y->strides[last], to, n, c->row);
    }
}

static const op_kernel entmax_cpu[] = {
    { .name = "bisection",
      .layout = STRIDED,
      .count = heed__row_count,
      .chunk_of = entmax_chunk,
      .scratch = entmax_scratch,
      .run = entmax_run },
    KERNEL_END,
};

static const op_sample entmax_samples[] = {
    { .in = { DIMS(4, 9), FILLED(FILL_ALPHA, 4, 1) }, .no_numeric = true }, /* kinks where the support changes */
    { .in = { DIMS(3, 0), FILLED(FILL_ALPHA, 3, 1) } },
    { .in = { DIMS(3, 5), DIMS(2, 1) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__entmax(heed_builder *b, heed_value z, heed_value alpha)
{
    heed_type t = heed_value_type(b, z);

    t.dims[t.rank - 1] = 1;
    return heed__node(b, &heed__op_entmax, NULL,
                      (heed_value[]){ z, heed_broadcast(b, alpha, t.rank, t.dims) }, 2);
}

const op_def heed__op_entmax = {
    .name = "entmax",
    .version = 1,
    .in = entmax_in,
    .out = entmax_out,
    .infer = entmax_infer,
    .grad = entmax_gradient,
    .cpu = entmax_cpu,
    .torch = "entmax.entmax_bisect(z, alpha)",
    .samples = entmax_samples,
};
