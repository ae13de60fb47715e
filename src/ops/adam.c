/* adam: one step of Adam or AdamW for one parameter, in one pass over p, g, m, v.
 *
 *   h = clip g, plus weight_decay p unless decoupled;   if decoupled p = p (1 - lr weight_decay)
 *   m = m + (h - m) (1 - beta1);   v = v + (h^2 - v) (1 - beta2)
 *   amsgrad: vmax = max(vmax, v), which stands for v below
 *   p = p - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
 *
 * step counts 1, 2, ... lr, step, clip are f32 scalars; powers of beta are taken in double. The outputs may
 * overwrite p, m, v, vmax. PyTorch's formulas. Kingma, Ba 2015; Loshchilov, Hutter 2019; Reddi, Kale, Kumar
 * 2018. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <math.h>

enum { P, G, M, V, VMAX, LR, STEP, CLIP };
static const op_slot adam_in[] = {
    { .name = "p", .dtypes = FLOATS },
    { .name = "g", .dtypes = FLOATS, .same_as = "p" },
    { .name = "m", .dtypes = FLOATS, .same_as = "p" },
    { .name = "v", .dtypes = FLOATS, .same_as = "p" },
    { .name = "vmax", .dtypes = FLOATS, .flags = OPTIONAL, .same_as = "p" },
    { .name = "lr", .dtypes = DTYPE_BIT(HEED_F32) },
    { .name = "step", .dtypes = DTYPE_BIT(HEED_F32) },
    { .name = "clip", .dtypes = DTYPE_BIT(HEED_F32), .flags = OPTIONAL },
    SLOT_END,
};
enum { NEW_P, NEW_M, NEW_V, NEW_VMAX };
static const op_slot adam_out[] = {
    { .name = "new_p", .same_as = "p", .over = "p" },
    { .name = "new_m", .same_as = "p", .over = "m" },
    { .name = "new_v", .same_as = "p", .over = "v" },
    { .name = "new_vmax", .same_as = "p", .over = "vmax" },
    SLOT_END,
};

static const op_field adam_fields[] = {
    FIELD_F64(adam_hyper, beta1), FIELD_F64(adam_hyper, beta2), FIELD_F64(adam_hyper, eps),
    FIELD_F64(adam_hyper, weight_decay),
    FIELD_BOOL(adam_hyper, decoupled), FIELD_BOOL(adam_hyper, amsgrad), FIELD_END,
};

static heed_status adam_infer(op_infer *t)
{
    const adam_hyper *h = t->attrs;

    for (int i = G; i <= VMAX; i++)
        if (heed__given(t, i) && !heed_type_equal(&t->in[i], &t->in[P]))
            return heed__refuse(t, HEED_ERR_SHAPE, "p, g, m, v and vmax must have one shape");
    for (int i = LR; i <= CLIP; i++)
        if (heed__given(t, i) && t->in[i].rank != 0)
            return heed__refuse(t, HEED_ERR_SHAPE, "lr, step and clip must be scalars");
    if (h->amsgrad != heed__given(t, VMAX))
        return heed__refuse(t, HEED_ERR_SPEC, "vmax belongs to amsgrad, and amsgrad needs it");
    return HEED_OK;
}

/* 1 - beta^step in double, as p's dtype; step is rounded up to a whole number. */
static heed_value adam_correction(heed_builder *b, double beta, heed_value step, heed_dtype dtype)
{
    heed_value whole = heed_neg(b, heed_floor(b, heed_neg(b, heed_cast(b, step, HEED_F64))));
    heed_value power = heed_pow(b, heed_scalar(b, HEED_F64, beta), whole);
    return heed__as(b, heed_sub(b, heed_scalar(b, HEED_F64, 1), power), dtype);
}

/* x moved toward y by a share of their distance. */
static heed_value adam_toward(heed_builder *b, heed_value x, heed_value y, double share)
{
    return heed_add(b, x, heed_mul_scalar(b, heed_sub(b, y, x), share));
}

static void adam_decompose(op_decompose *d)
{
    const adam_hyper *h = d->attrs;
    heed_builder *b = d->b;
    const heed_dtype dtype = heed_value_type(b, d->in[P]).dtype, sums = heed__sum_dtype(dtype);
    heed_value p = heed__as(b, d->in[P], sums), g = heed__as(b, d->in[G], sums),
               lr = heed__as(b, d->in[LR], sums), m, v, root;

    if (d->n_in > CLIP && d->in[CLIP].id)
        g = heed_mul(b, g, heed__as(b, d->in[CLIP], sums));
    if (h->weight_decay > 0 && h->decoupled)
        p = heed_sub(b, p, heed_mul(b, p, heed_mul_scalar(b, lr, h->weight_decay)));
    else if (h->weight_decay > 0)
        g = heed_add(b, g, heed_mul_scalar(b, p, h->weight_decay));
    m = adam_toward(b, heed__as(b, d->in[M], sums), g, 1 - h->beta1);
    v = adam_toward(b, heed__as(b, d->in[V], sums), heed_mul(b, g, g), 1 - h->beta2);
    d->out[NEW_M] = heed__as(b, m, dtype);
    d->out[NEW_V] = heed__as(b, v, dtype);
    d->out[NEW_VMAX] = d->out[NEW_V];
    if (h->amsgrad) {
        v = heed_max(b, heed__as(b, d->in[VMAX], sums), v);
        d->out[NEW_VMAX] = heed__as(b, v, dtype);
    }
    root = heed_div(b, heed_sqrt(b, v), heed_sqrt(b, adam_correction(b, h->beta2, d->in[STEP], sums)));
    root = heed_add_scalar(b, root, h->eps);
    lr = heed_div(b, lr, adam_correction(b, h->beta1, d->in[STEP], sums));
    d->out[NEW_P] = heed__as(b, heed_sub(b, p, heed_mul(b, lr, heed_div(b, m, root))), dtype);
}

static int64_t adam_count(const op_call *c)
{
    return heed_type_count(&c->in[P].type);
}

static size_t adam_scratch(const op_call *c)
{
    (void)c;
    return STEP_BLOCK * sizeof(float);
}

/* x^n by squaring: the same bits with every libm. */
static double adam_power(double x, int64_t n)
{
    double result = 1;

    for (; n > 0; n >>= 1, x *= x)
        if (n & 1)
            result *= x;
    return result;
}

static void adam_run(const op_call *c, int64_t begin, int64_t end)
{
    const adam_hyper *h = c->attrs;
    const double lr = (double)*(const float *)c->in[LR].data;
    const int64_t step = (int64_t)ceilf(*(const float *)c->in[STEP].data);
    const bool clips = c->n_in > CLIP && c->in[CLIP].data;
    const float k[8] = {
        [ADAM_STEP] = (float)(lr / (1 - adam_power(h->beta1, step))),
        [ADAM_ONE_MINUS_BETA1] = (float)(1 - h->beta1),
        [ADAM_ONE_MINUS_BETA2] = (float)(1 - h->beta2),
        [ADAM_EPS] = (float)h->eps,
        [ADAM_ROOT] = (float)(1 / sqrt(1 - adam_power(h->beta2, step))),
        [ADAM_DECAY] = h->decoupled ? 0 : (float)h->weight_decay,
        [ADAM_KEEP] = h->decoupled ? (float)(1 - lr * h->weight_decay) : 1,
        [ADAM_CLIP] = clips ? *(const float *)c->in[CLIP].data : 1,
    };

    for (int64_t i = begin, n; i < end; i += n) {
        n = i64_min(end - i, STEP_BLOCK);
        float *p = heed__step_block(c, NEW_P, P, i, n), *m = heed__step_block(c, NEW_M, M, i, n);
        float *v = heed__step_block(c, NEW_V, V, i, n);
        float *vmax = h->amsgrad ? heed__step_block(c, NEW_VMAX, VMAX, i, n) : NULL;
        c->row->adam(p, m, v, vmax, (const float *)c->in[G].data + i, n, k);
        if (!h->amsgrad && c->out[NEW_VMAX].data) /* means nothing, but is defined */
            c->row->unary[ROW_COPY]((float *)c->out[NEW_VMAX].data + i, v, n);
    }
}

static const op_kernel adam_cpu[] = {
    { .name = "fused", .layout = DENSE, .chunk = 16384, .accepts = heed__all_f32, .count = adam_count,
      .scratch = adam_scratch,
      .run = adam_run },
    KERNEL_END,
};

/* p, g, m, v of one shape; lr and step are positive scalars */
#define ADAM_IN(max, ...)                                                                                    \
    DIMS(__VA_ARGS__), DIMS(__VA_ARGS__), DIMS(__VA_ARGS__), FILLED(FILL_POSITIVE, __VA_ARGS__), max,        \
        POSITIVE(), POSITIVE()
#define POSITIVE() { .rank = 0, .fill = FILL_POSITIVE, .given = true }
#define HYPER(decay, apart, max) &(const adam_hyper){ 0.9, 0.999, 1e-8, decay, apart, max }

static const op_sample adam_samples[] = {
    { .in = { ADAM_IN(ABSENT(), 5, 7) }, .attrs = HYPER(0, false, false) },
    /* more than STEP_BLOCK, clipped */
    { .in = { ADAM_IN(ABSENT(), 5003), POSITIVE() }, .attrs = HYPER(0.01, true, false) },
    { .in = { ADAM_IN(FILLED(FILL_POSITIVE, 3, 11), 3, 11) }, .attrs = HYPER(0.1, false, true) },
    { .in = { ADAM_IN(ABSENT(), 9) }, .attrs = HYPER(0, false, false), .scale = 1e4 },
    { .in = { ADAM_IN(ABSENT(), 0) }, .attrs = HYPER(0, false, false) },
    { .in = { ADAM_IN(ABSENT(), 4) }, .attrs = HYPER(0, false, true), .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

heed_value heed__adam(heed_builder *b, const adam_hyper *h, heed_value p, heed_value g, heed_value *m,
                      heed_value *v, heed_value *vmax, heed_value lr, heed_value step, heed_value clip)
{
    heed_value in[] = { p, g, *m, *v, h->amsgrad && vmax ? *vmax : (heed_value){ 0 }, lr, step, clip },
               out[4];

    heed__nodes(b, &heed__op_adam, h, in, 8, out);
    *m = out[NEW_M];
    *v = out[NEW_V];
    if (h->amsgrad && vmax)
        *vmax = out[NEW_VMAX];
    return out[NEW_P];
}

const op_def heed__op_adam = {
    .name = "adam", .version = 1, .in = adam_in, .out = adam_out, .flags = OP_NO_GRAD,
    .attrs_size = sizeof(adam_hyper), .fields = adam_fields,
    .infer = adam_infer, .decompose = adam_decompose, .cpu = adam_cpu,
    .torch = "torch.optim.Adam, AdamW: step()", .samples = adam_samples,
};
