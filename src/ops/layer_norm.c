/* layer_norm: y = (x - mean) rstd weight + bias over the last axis,
 * rstd = 1 / sqrt(mean (x - mean)^2 + eps).
 *
 *   x [..., n], weight [n], bias [n]  ->  y like x,  mean and rstd [..., 1] in the dtype of sums
 *
 * The variance takes a second pass over the row, which is in the cache: mean x^2 - mean^2 would be wrong
 * for a mean far from zero. heed_layer_norm makes one axis of several. mean and rstd are kept for the
 * gradient, the op layer_norm_grad:
 *
 *   u = (x - mean) rstd,  g = dy weight,  dweight = sum_rows dy u,  dbias = sum_rows dy
 *   dx = rstd (g - mean g - u mean(g u))
 *
 * Without a mean (RMS norm) u = x rstd and the term mean g falls away, so rms_norm.c uses the same op.
 * Ba, Kiros, Hinton 2016. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <math.h>
#include <string.h>

enum { X, WEIGHT, BIAS };
static const op_slot layer_norm_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    { .name = "bias", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "x" },
    SLOT_END,
};
enum { Y, MEAN, RSTD };
static const op_slot layer_norm_out[] = {
    { .name = "y", .same_as = "x" },
    { .name = "mean" },
    { .name = "rstd" },
    SLOT_END,
};

typedef struct {
    double eps;
} layer_norm_attrs;
static const op_field layer_norm_fields[] = { FIELD_F64(layer_norm_attrs, eps), FIELD_END };

static heed_status layer_norm_affine(op_infer *t, int slot, const char *name, const heed_type *x)
{
    if (heed__given(t, slot) && (t->in[slot].rank != 1 || t->in[slot].dims[0] != x->dims[x->rank - 1]))
        return heed__refuse(t, HEED_ERR_SHAPE, "%s must have the %lld elements of x's last axis", name,
                            (long long)x->dims[x->rank - 1]);
    return HEED_OK;
}

static heed_type layer_norm_row_type(const heed_type *x)
{
    heed_type t = *x;

    t.dtype = heed__sum_dtype(x->dtype);
    t.dims[t.rank - 1] = 1;
    return t;
}

static heed_status layer_norm_infer(op_infer *t)
{
    if (t->in[X].rank < 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "x has no axis");
    TRY(layer_norm_affine(t, WEIGHT, "weight", &t->in[X]));
    TRY(layer_norm_affine(t, BIAS, "bias", &t->in[X]));
    t->out[MEAN] = t->out[RSTD] = layer_norm_row_type(&t->in[X]);
    return HEED_OK;
}

/* Row by row: sum divided by n. */
static heed_value layer_norm_mean(heed_builder *b, heed_value x)
{
    const heed_type t = heed_value_type(b, x);
    return heed_mean(b, x, 1u << (t.rank - 1), HEED_KEEP_AXES);
}

/* y depends on x through mean and rstd too; what layer_norm_grad returns counts that. Gradients that arrive
 * at mean and rstd themselves (from a second derivative) add  dmean / n - drstd rstd^3 (x - mean) / n. */
static void layer_norm_grad(op_grad *g)
{
    heed_value in[] = { g->dout[Y], g->in[X], g->out[MEAN], g->out[RSTD],
                        g->n_in > WEIGHT ? g->in[WEIGHT] : (heed_value){ 0 } };
    heed_value out[3], more = { 0 };
    const heed_type type = heed_value_type(g->b, g->in[X]);
    const double n = (double)type.dims[type.rank - 1];

    if (g->dout[Y].id) {
        heed__nodes(g->b, &heed__op_layer_norm_grad, NULL, in, 5, out);
        for (int i = 0; i < g->n_in; i++)
            g->din[i] = out[i];
    }
    if (g->dout[MEAN].id)
        more = heed_broadcast(g->b, heed_mul_scalar(g->b, g->dout[MEAN], 1 / n), type.rank, type.dims);
    if (g->dout[RSTD].id) {
        heed_value from_mean =
            heed_sub(g->b, heed__as(g->b, g->in[X], heed__sum_dtype(type.dtype)), g->out[MEAN]);
        heed_value cube = heed_mul(g->b, g->out[RSTD], heed_mul(g->b, g->out[RSTD], g->out[RSTD]));
        heed_value by_rstd =
            heed_mul(g->b, from_mean, heed_mul_scalar(g->b, heed_mul(g->b, g->dout[RSTD], cube), -1 / n));
        more = more.id ? heed_add(g->b, more, by_rstd) : by_rstd;
    }
    if (more.id) {
        more = heed__as(g->b, more, type.dtype);
        g->din[X] = g->din[X].id ? heed_add(g->b, g->din[X], more) : more;
    }
}

static void layer_norm_decompose(op_decompose *d)
{
    const layer_norm_attrs *a = d->attrs;
    const heed_dtype dtype = heed_value_type(d->b, d->in[X]).dtype, sums = heed__sum_dtype(dtype);
    heed_value x = heed__as(d->b, d->in[X], sums);
    heed_value mean = layer_norm_mean(d->b, x);
    heed_value u = heed_sub(d->b, x, mean);
    heed_value var = layer_norm_mean(d->b, heed_mul(d->b, u, u));
    heed_value rstd =
        heed_div(d->b, heed_scalar(d->b, sums, 1), heed_sqrt(d->b, heed_add_scalar(d->b, var, a->eps)));

    u = heed_mul(d->b, u, rstd);
    if (d->n_in > WEIGHT && d->in[WEIGHT].id)
        u = heed_mul(d->b, u, heed__as(d->b, d->in[WEIGHT], sums));
    if (d->n_in > BIAS && d->in[BIAS].id)
        u = heed_add(d->b, u, heed__as(d->b, d->in[BIAS], sums));
    d->out[Y] = heed__as(d->b, u, dtype);
    d->out[MEAN] = mean;
    d->out[RSTD] = rstd;
}

static bool layer_norm_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[X]);
}

/* A vector of n floats, or NULL. */
static const float *layer_norm_vector(const op_call *c, int slot, void *scratch)
{
    if (slot >= c->n_in || !c->in[slot].data)
        return NULL;
    return c->row->in(&c->in[slot], 0, 1, scratch).data;
}

static void layer_norm_run(const op_call *c, int64_t begin, int64_t end)
{
    const layer_norm_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const float *weight = layer_norm_vector(c, WEIGHT, c->scratch[2]),
                *bias = layer_norm_vector(c, BIAS, c->scratch[3]);
    float *means = c->out[MEAN].data, *rstds = c->out[RSTD].data;
    float mean[ROWS_MAX], rstd[ROWS_MAX];

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[X], i, last, c->scratch[0]);
        const float n = (float)x.n;
        row->sum(mean, x);
        for (int64_t r = 0; r < x.count; r++)
            mean[r] /= n;
        row->sum_squares(rstd, x, mean);
        for (int64_t r = 0; r < x.count; r++) {
            rstd[r] = 1 / sqrtf(rstd[r] / n + (float)a->eps);
            if (means)
                means[i + r] = mean[r];
            if (rstds)
                rstds[i + r] = rstd[r];
        }
        if (c->out[Y].data) {
            rows y = row->out(&c->out[Y], i, last, c->scratch[1]);
            row->normalize(y, x, mean, rstd, weight, bias);
            row->commit(&c->out[Y], i, y);
        }
    }
}

static const op_kernel layer_norm_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = layer_norm_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = layer_norm_run },
    KERNEL_END,
};

static const op_sample layer_norm_samples[] = {
    { .in = { DIMS(6, 5, 64), DIMS(64), DIMS(64) }, .attrs = &(const layer_norm_attrs){ 1e-5 } },
    { .in = { DIMS(37, 13), DIMS(13) }, .attrs = &(const layer_norm_attrs){ 1e-3 } },
    { .in = { DIMS(3, 7), ABSENT(), DIMS(7) }, .attrs = &(const layer_norm_attrs){ 1e-5 } },
    { .in = { DIMS(4, 100) }, .attrs = &(const layer_norm_attrs){ 1e-5 }, .scale = 1e4 },
    { .in = { DIMS(0, 8), DIMS(8), DIMS(8) }, .attrs = &(const layer_norm_attrs){ 1e-5 } },
    { .in = { DIMS(4, 6), DIMS(4) }, .attrs = &(const layer_norm_attrs){ 1e-5 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

/* The last `axes` axes of v as one; *before is its type. Poisons when there are not so many. */
static heed_value layer_norm_flat(heed_builder *b, heed_value v, int axes, heed_type *before)
{
    *before = heed_value_type(b, v);
    if (axes < 1 || axes > before->rank)
        return heed__poison(b, HEED_ERR_SHAPE, "norm over the last %d axes of a value of rank %d", axes,
                            before->rank);
    return axes == 1 ? v : heed_flatten(b, v, before->rank - axes, -1);
}

heed_value heed__norm_over(heed_builder *b, const op_def *op, const void *attrs, heed_value x, int axes,
                           heed_value weight, heed_value bias)
{
    heed_type type, same;
    heed_value in[3] = { layer_norm_flat(b, x, axes, &type) };

    if (weight.id)
        in[WEIGHT] = layer_norm_flat(b, weight, axes, &same);
    if (bias.id)
        in[BIAS] = layer_norm_flat(b, bias, axes, &same);
    heed_value y = heed__node(b, op, attrs, in, bias.id ? 3 : weight.id ? 2 : 1);
    return axes == 1 ? y : heed_reshape(b, y, type.rank, type.dims);
}

heed_value heed_layer_norm(heed_builder *b, heed_value x, int axes, heed_value weight, heed_value bias,
                           double eps)
{
    return heed__norm_over(b, &heed__op_layer_norm, &(layer_norm_attrs){ eps > 0 ? eps : 1e-5 }, x, axes,
                           weight, bias);
}

static bool layer_norm_onnx_accepts(const onnx_emit *e)
{
    return e->n_in > WEIGHT && e->in[WEIGHT].rank >= 0 && !e->want[MEAN] && !e->want[RSTD];
}

static void layer_norm_onnx(onnx_emit *e)
{
    const layer_norm_attrs *a = e->attrs;

    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("axis", -1), ONNX_FLOAT("epsilon", a->eps), ONNX_END });
}

const op_def heed__op_layer_norm = {
    .name = "layer_norm", .version = 1, .in = layer_norm_in, .out = layer_norm_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(layer_norm_attrs), .fields = layer_norm_fields,
    .infer = layer_norm_infer, .grad = layer_norm_grad, .decompose = layer_norm_decompose,
    .cpu = layer_norm_cpu,
    .onnx = { "LayerNormalization", 17 }, .onnx_accepts = layer_norm_onnx_accepts,
    .onnx_emit = layer_norm_onnx, .torch = "layer_norm(x, x.shape[-1:], weight, bias, {eps})",
    .samples = layer_norm_samples,
};

/* ---- layer_norm_grad ---- */

enum { G_DY, G_X, G_MEAN, G_RSTD, G_WEIGHT };
static const op_slot layer_norm_grad_in[] = {
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "dy" },
    { .name = "mean", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "rstd", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "weight", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL, .same_as = "dy" },
    SLOT_END,
};
enum { DX, DWEIGHT, DBIAS };
static const op_slot layer_norm_grad_out[] = {
    { .name = "dx", .same_as = "x" },
    { .name = "dweight" },
    { .name = "dbias" },
    SLOT_END,
};

static heed_status layer_norm_grad_infer(op_infer *t)
{
    const heed_type *x = &t->in[G_X];
    heed_type a_row;

    if (!heed_type_equal(&t->in[G_DY], x) || x->rank < 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "x and dy differ in shape, or have no axis");
    for (int i = G_MEAN; i <= G_RSTD; i++) {
        a_row = layer_norm_row_type(x);
        a_row.dtype = t->in[i].dtype;
        if (heed__given(t, i) && !heed_type_equal(&t->in[i], &a_row))
            return heed__refuse(t, HEED_ERR_SHAPE, "mean and rstd must have one number for each row of x");
    }
    t->out[DWEIGHT] = t->out[DBIAS] = heed_type_of(x->dtype, 1, &x->dims[x->rank - 1]);
    return layer_norm_affine(t, G_WEIGHT, "weight", x);
}

static heed_value layer_norm_columns(heed_builder *b, heed_value x, heed_dtype dtype)
{
    const int rank = heed_rank(b, x);

    if (rank > 1)
        x = heed_sum(b, x, (1u << (rank - 1)) - 1u, HEED_DROP_AXES);
    return heed__as(b, x, dtype);
}

static void layer_norm_grad_decompose(op_decompose *d)
{
    const heed_dtype dtype = heed_value_type(d->b, d->in[G_X]).dtype, sums = heed__sum_dtype(dtype);
    const bool centred = d->in[G_MEAN].id != 0;
    heed_value rstd = heed__as(d->b, d->in[G_RSTD], sums), dy = heed__as(d->b, d->in[G_DY], sums),
               u = heed__as(d->b, d->in[G_X], sums), g = dy;

    if (centred)
        u = heed_sub(d->b, u, heed__as(d->b, d->in[G_MEAN], sums));
    u = heed_mul(d->b, u, rstd);
    if (d->n_in > G_WEIGHT && d->in[G_WEIGHT].id)
        g = heed_mul(d->b, g, heed__as(d->b, d->in[G_WEIGHT], sums));
    d->out[DWEIGHT] = layer_norm_columns(d->b, heed_mul(d->b, dy, u), dtype);
    d->out[DBIAS] = layer_norm_columns(d->b, dy, dtype);

    heed_value along = heed_mul(d->b, u, layer_norm_mean(d->b, heed_mul(d->b, g, u)));
    if (centred)
        g = heed_sub(d->b, g, layer_norm_mean(d->b, g));
    d->out[DX] = heed__as(d->b, heed_mul(d->b, heed_sub(d->b, g, along), rstd), dtype);
}

static bool layer_norm_grad_accepts(const op_call *c)
{
    const bool centred = c->in[G_MEAN].type.rank >= 0;
    return heed__computes_in_f32(&c->in[G_X]) && c->in[G_RSTD].type.dtype == HEED_F32 &&
           (!centred || c->in[G_MEAN].type.dtype == HEED_F32);
}

static int64_t layer_norm_grad_count(const op_call *c)
{
    return heed__dims_product(&c->in[G_X].type, 0, c->in[G_X].type.rank - 1);
}

/* About 64 chunks, so that the sums over rows stay small beside x. */
static int64_t layer_norm_grad_chunk(const op_call *c)
{
    return i64_max(4, i64_ceil_div(layer_norm_grad_count(c), 64 * ROWS_MAX)) * ROWS_MAX;
}

static size_t layer_norm_grad_partial(const op_call *c)
{
    return 2 * sizeof(float) * (size_t)c->in[G_X].type.dims[c->in[G_X].type.rank - 1];
}

/* Means of the rows of this block; given numbers may be broadcast. */
static void layer_norm_take(float *to, const view *from, int64_t begin, int64_t count)
{
    const float *x = from->data;

    for (int64_t r = 0; r < count; r++)
        to[r] = x[begin + r];
}

static void layer_norm_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const row_ops *row = c->row;
    const bool centred = c->in[G_MEAN].data != NULL;
    const float *weight = layer_norm_vector(c, G_WEIGHT, c->scratch[3]);
    float mean[ROWS_MAX], rstd[ROWS_MAX], sum[ROWS_MAX], dot[ROWS_MAX];
    const int64_t n = c->in[G_X].type.dims[c->in[G_X].type.rank - 1];
    float *dweight = c->partial, *dbias = dweight + n;

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows dy = row->in(&c->in[G_DY], i, last, c->scratch[0]);
        rows x = row->in(&c->in[G_X], i, last, c->scratch[1]);
        rows u = { c->scratch[1], x.count, n, n }; /* over the widened x if there is one */
        rows g = { c->scratch[2], x.count, n, n };

        if (centred)
            layer_norm_take(mean, &c->in[G_MEAN], i, x.count);
        layer_norm_take(rstd, &c->in[G_RSTD], i, x.count);
        row->normalize(u, x, centred ? mean : NULL, rstd, NULL, NULL);
        for (int64_t r = 0; r < x.count; r++) {
            const float *from = dy.data + r * dy.stride;
            row->binary[ROW_MUL](g.data + r * n, from, 1, u.data + r * n, 1, n);
            row->add_scaled(dweight, g.data + r * n, 1, n);
            row->add_scaled(dbias, from, 1, n);
            if (weight)
                row->binary[ROW_MUL](g.data + r * n, from, 1, weight, 1, n);
            else
                row->unary[ROW_COPY](g.data + r * n, from, n);
        }
        if (!c->out[DX].data)
            continue;
        row->sum(sum, g);
        row->dot(dot, g, u);
        rows dx = row->out(&c->out[DX], i, last, c->scratch[0]);
        if (centred) {
            for (int64_t r = 0; r < x.count; r++)
                sum[r] /= (float)n;
            row->subtract(g, g, sum);
        }
        for (int64_t r = 0; r < x.count; r++) {
            row->add_scaled(g.data + r * n, u.data + r * n, -dot[r] / (float)n, n);
            row->scale_to(dx.data + r * dx.stride, g.data + r * n, rstd[r], n);
        }
        row->commit(&c->out[DX], i, dx);
    }
}

static void layer_norm_grad_finish(const op_call *c)
{
    const int64_t n = c->in[G_X].type.dims[c->in[G_X].type.rank - 1];
    float *total = c->partial; /* of the first chunk */

    for (int64_t i = 1; i < c->chunks; i++)
        c->row->add_scaled(
            total, (const float *)(const void *)((const char *)c->partial + i * c->partial_stride), 1, 2 * n);
    for (int i = DWEIGHT; i <= DBIAS; i++)
        if (c->out[i].data) {
            rows d = c->row->out(&c->out[i], 0, 1, c->scratch[0]);
            if (c->chunks)
                c->row->unary[ROW_COPY](d.data, total + (i - DWEIGHT) * n, n);
            else
                memset(d.data, 0, (size_t)n * sizeof(float));
            c->row->commit(&c->out[i], 0, d);
        }
}

static const op_kernel layer_norm_grad_cpu[] = {
    { .name = "rows", .layout = ROWS, .accepts = layer_norm_grad_accepts, .count = layer_norm_grad_count,
      .chunk_of = layer_norm_grad_chunk, .scratch = heed__row_scratch, .partial = layer_norm_grad_partial,
      .run = layer_norm_grad_run, .finish = layer_norm_grad_finish, .dense_in = 1u << G_MEAN | 1u << G_RSTD },
    KERNEL_END,
};

static const op_sample layer_norm_grad_samples[] = {
    { .in = { DIMS(6, 5, 64), DIMS(6, 5, 64), DIMS(6, 5, 1), FILLED(FILL_POSITIVE, 6, 5, 1), DIMS(64) } },
    { .in = { DIMS(83, 13), DIMS(83, 13), ABSENT(), FILLED(FILL_POSITIVE, 83, 1), DIMS(13) } }, /* RMS norm */
    { .in = { DIMS(3, 7), DIMS(3, 7), DIMS(3, 1), FILLED(FILL_POSITIVE, 3, 1) } },
    { .in = { DIMS(4, 50), DIMS(4, 50), DIMS(4, 1), FILLED(FILL_POSITIVE, 4, 1), DIMS(50) }, .scale = 1e4 },
    { .in = { DIMS(0, 8), DIMS(0, 8), DIMS(0, 1), FILLED(FILL_POSITIVE, 0, 1), DIMS(8) } },
    { .in = { DIMS(3, 7), DIMS(3, 7), DIMS(3), FILLED(FILL_POSITIVE, 3, 1) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_layer_norm_grad = {
    .name = "layer_norm_grad", .version = 1, .in = layer_norm_grad_in, .out = layer_norm_grad_out,
    .flags = OP_IN_PLACE,
    .infer = layer_norm_grad_infer, .decompose = layer_norm_grad_decompose, .cpu = layer_norm_grad_cpu,
    .torch = "native_layer_norm_backward", .samples = layer_norm_grad_samples,
};
