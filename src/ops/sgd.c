/* sgd: one step of stochastic gradient descent for one parameter, in one pass over p, g and the buffer.
 *
 *   h = clip g + weight_decay p
 *   without buf   p = p - lr h
 *   with buf      buf = h at step 1, then momentum buf + (1 - dampening) h
 *                 p = p - lr (nesterov ? h + momentum buf : buf)
 *
 * lr, step (from 1) and clip are f32 scalars. The outputs may overwrite p and buf. PyTorch's formulas. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

enum { P, G, BUF, LR, STEP, CLIP };
static const op_slot sgd_in[] = {
    { .name = "p", .dtypes = FLOATS },
    { .name = "g", .dtypes = FLOATS, .same_as = "p" },
    { .name = "buf", .dtypes = FLOATS, .flags = OPTIONAL, .same_as = "p" },
    { .name = "lr", .dtypes = DTYPE_BIT(HEED_F32) },
    { .name = "step", .dtypes = DTYPE_BIT(HEED_F32) },
    { .name = "clip", .dtypes = DTYPE_BIT(HEED_F32), .flags = OPTIONAL },
    SLOT_END,
};
enum { NEW_P, NEW_BUF };
static const op_slot sgd_out[] = {
    { .name = "new_p", .same_as = "p", .over = "p" },
    { .name = "new_buf", .same_as = "p", .over = "buf" },
    SLOT_END,
};

static const op_field sgd_fields[] = {
    FIELD_F64(sgd_hyper, momentum), FIELD_F64(sgd_hyper, dampening), FIELD_F64(sgd_hyper, weight_decay),
    FIELD_BOOL(sgd_hyper, nesterov), FIELD_END,
};

static heed_status sgd_infer(op_infer *t)
{
    const sgd_hyper *h = t->attrs;

    for (int i = G; i <= BUF; i++)
        if (heed__given(t, i) && !heed_type_equal(&t->in[i], &t->in[P]))
            return heed__refuse(t, HEED_ERR_SHAPE, "p, g and buf must have one shape");
    for (int i = LR; i <= CLIP; i++)
        if (heed__given(t, i) && t->in[i].rank != 0)
            return heed__refuse(t, HEED_ERR_SHAPE, "lr, step and clip must be scalars");
    if ((h->momentum > 0) != heed__given(t, BUF))
        return heed__refuse(t, HEED_ERR_SPEC, "buf belongs to momentum, and momentum needs it");
    if (h->nesterov && !(h->momentum > 0))
        return heed__refuse(t, HEED_ERR_SPEC, "nesterov wants momentum > 0");
    return HEED_OK;
}

static void sgd_decompose(op_decompose *d)
{
    const sgd_hyper *h = d->attrs;
    heed_builder *b = d->b;
    const heed_dtype dtype = heed_value_type(b, d->in[P]).dtype, sums = heed__sum_dtype(dtype);
    heed_value p = heed__as(b, d->in[P], sums), g = heed__as(b, d->in[G], sums), move;

    if (d->n_in > CLIP && d->in[CLIP].id)
        g = heed_mul(b, g, heed__as(b, d->in[CLIP], sums));
    if (h->weight_decay > 0)
        g = heed_add(b, g, heed_mul_scalar(b, p, h->weight_decay));
    move = g;
    d->out[NEW_BUF] = d->in[G]; /* means nothing without momentum, but is defined */
    if (h->momentum > 0) {
        heed_value later = heed_mul_scalar(b, heed__as(b, d->in[BUF], sums), h->momentum);
        heed_value first = heed_le(b, d->in[STEP], heed_scalar(b, HEED_F32, 1));
        move = heed_select(b, first, g, heed_add(b, later, heed_mul_scalar(b, g, 1 - h->dampening)));
        d->out[NEW_BUF] = heed__as(b, move, dtype);
        if (h->nesterov)
            move = heed_add(b, g, heed_mul_scalar(b, move, h->momentum));
    }
    d->out[NEW_P] = heed__as(b, heed_sub(b, p, heed_mul(b, move, heed__as(b, d->in[LR], sums))), dtype);
}

static int64_t sgd_count(const op_call *c)
{
    return heed_type_count(&c->in[P].type);
}

static size_t sgd_scratch(const op_call *c)
{
    (void)c;
    return STEP_BLOCK * sizeof(float);
}

static void sgd_run(const op_call *c, int64_t begin, int64_t end)
{
    const sgd_hyper *h = c->attrs;
    const bool clips = c->n_in > CLIP && c->in[CLIP].data;
    const float k[8] = {
        [SGD_LR] = *(const float *)c->in[LR].data,
        [SGD_MOMENTUM] = (float)h->momentum,
        [SGD_ONE_MINUS_DAMPENING] = (float)(1 - h->dampening),
        [SGD_DECAY] = (float)h->weight_decay,
        [SGD_NESTEROV] = h->nesterov ? 1 : 0,
        [SGD_FIRST] = *(const float *)c->in[STEP].data <= 1 ? 1 : 0,
        [SGD_CLIP] = clips ? *(const float *)c->in[CLIP].data : 1,
    };

    for (int64_t i = begin, n; i < end; i += n) {
        n = i64_min(end - i, STEP_BLOCK);
        float *p = heed__step_block(c, NEW_P, P, i, n);
        float *buf = h->momentum > 0 ? heed__step_block(c, NEW_BUF, BUF, i, n) : NULL;
        if (!buf && c->out[NEW_BUF].data) /* means nothing, but is defined */
            c->row->unary[ROW_COPY]((float *)c->out[NEW_BUF].data + i, (const float *)c->in[G].data + i, n);
        c->row->sgd(p, buf, (const float *)c->in[G].data + i, n, k);
    }
}

static const op_kernel sgd_cpu[] = {
    { .name = "fused", .layout = DENSE, .chunk = 16384, .accepts = heed__all_f32, .count = sgd_count,
      .scratch = sgd_scratch,
      .run = sgd_run },
    KERNEL_END,
};

#define POSITIVE() { .rank = 0, .fill = FILL_POSITIVE, .given = true }
static const op_sample sgd_samples[] = {
    { .in = { DIMS(5, 7), DIMS(5, 7), ABSENT(), POSITIVE(), POSITIVE() }, .attrs = &(const sgd_hyper){ 0 } },
    { .in = { DIMS(5003), DIMS(5003), DIMS(5003), POSITIVE(), POSITIVE(), POSITIVE() },
      .attrs = &(const sgd_hyper){ .momentum = 0.9, .weight_decay = 0.01, .nesterov = true } },
    { .in = { DIMS(9), DIMS(9), DIMS(9), POSITIVE(), POSITIVE() },
      .attrs = &(const sgd_hyper){ .momentum = 0.5, .dampening = 0.1 }, .scale = 1e4 },
    { .in = { DIMS(0), DIMS(0), DIMS(0), POSITIVE(), POSITIVE() },
      .attrs = &(const sgd_hyper){ .momentum = 0.9 } },
    { .in = { DIMS(3), DIMS(3), ABSENT(), POSITIVE(), POSITIVE() },
      .attrs = &(const sgd_hyper){ .momentum = 0.9 }, .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

heed_value heed__sgd(heed_builder *b, const sgd_hyper *h, heed_value p, heed_value g, heed_value *buf,
                     heed_value lr, heed_value step, heed_value clip)
{
    const bool keeps = h->momentum > 0 && buf;
    heed_value in[] = { p, g, keeps ? *buf : (heed_value){ 0 }, lr, step, clip }, out[2];

    heed__nodes(b, &heed__op_sgd, h, in, 6, out);
    if (keeps)
        *buf = out[NEW_BUF];
    return out[NEW_P];
}

const op_def heed__op_sgd = {
    .name = "sgd", .version = 1, .in = sgd_in, .out = sgd_out, .flags = OP_NO_GRAD,
    .attrs_size = sizeof(sgd_hyper), .fields = sgd_fields,
    .infer = sgd_infer, .decompose = sgd_decompose, .cpu = sgd_cpu, .torch = "torch.optim.SGD: step()",
    .samples = sgd_samples,
};
