/* rmsprop: one step for one parameter, in one pass over p, g and the moments.
 *
 *   h = clip g + weight_decay p
 *   square = square + (h^2 - square) (1 - alpha);   d = h / (sqrt(square) + eps)
 *   without buf   p = p - lr d
 *   with buf      buf = momentum buf + d;   p = p - lr buf
 *
 * lr and clip are f32 scalars. The outputs may overwrite p, square, buf. PyTorch's formulas, not centred.
 * Hinton 2012. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

enum { P, G, SQUARE, BUF, LR, CLIP };
static const op_slot rmsprop_in[] = {
    { .name = "p", .dtypes = FLOATS },
    { .name = "g", .dtypes = FLOATS, .same_as = "p" },
    { .name = "square", .dtypes = FLOATS, .same_as = "p" },
    { .name = "buf", .dtypes = FLOATS, .flags = OPTIONAL, .same_as = "p" },
    { .name = "lr", .dtypes = DTYPE_BIT(HEED_F32) },
    { .name = "clip", .dtypes = DTYPE_BIT(HEED_F32), .flags = OPTIONAL },
    SLOT_END,
};
enum { NEW_P, NEW_SQUARE, NEW_BUF };
static const op_slot rmsprop_out[] = {
    { .name = "new_p", .same_as = "p", .over = "p" },
    { .name = "new_square", .same_as = "p", .over = "square" },
    { .name = "new_buf", .same_as = "p", .over = "buf" },
    SLOT_END,
};

static const op_field rmsprop_fields[] = {
    FIELD_F64(rmsprop_hyper, alpha), FIELD_F64(rmsprop_hyper, eps), FIELD_F64(rmsprop_hyper, weight_decay),
    FIELD_F64(rmsprop_hyper, momentum), FIELD_END,
};

static heed_status rmsprop_infer(op_infer *t)
{
    const rmsprop_hyper *h = t->attrs;

    for (int i = G; i <= BUF; i++)
        if (heed__given(t, i) && !heed_type_equal(&t->in[i], &t->in[P]))
            return heed__refuse(t, HEED_ERR_SHAPE, "p, g, square and buf must have one shape");
    for (int i = LR; i <= CLIP; i++)
        if (heed__given(t, i) && t->in[i].rank != 0)
            return heed__refuse(t, HEED_ERR_SHAPE, "lr and clip must be scalars");
    if ((h->momentum > 0) != heed__given(t, BUF))
        return heed__refuse(t, HEED_ERR_SPEC, "buf belongs to momentum, and momentum needs it");
    return HEED_OK;
}

static void rmsprop_decompose(op_decompose *d)
{
    const rmsprop_hyper *h = d->attrs;
    heed_builder *b = d->b;
    const heed_dtype dtype = heed_value_type(b, d->in[P]).dtype, sums = heed__sum_dtype(dtype);
    heed_value p = heed__as(b, d->in[P], sums), g = heed__as(b, d->in[G], sums);
    heed_value square = heed__as(b, d->in[SQUARE], sums), move;

    if (d->n_in > CLIP && d->in[CLIP].id)
        g = heed_mul(b, g, heed__as(b, d->in[CLIP], sums));
    if (h->weight_decay > 0)
        g = heed_add(b, g, heed_mul_scalar(b, p, h->weight_decay));
    square = heed_add(b, square, heed_mul_scalar(b, heed_sub(b, heed_mul(b, g, g), square), 1 - h->alpha));
    move = heed_div(b, g, heed_add_scalar(b, heed_sqrt(b, square), h->eps));
    d->out[NEW_SQUARE] = heed__as(b, square, dtype);
    d->out[NEW_BUF] = d->in[G]; /* means nothing without momentum, but is defined */
    if (h->momentum > 0) {
        move = heed_add(b, heed_mul_scalar(b, heed__as(b, d->in[BUF], sums), h->momentum), move);
        d->out[NEW_BUF] = heed__as(b, move, dtype);
    }
    d->out[NEW_P] = heed__as(b, heed_sub(b, p, heed_mul(b, move, heed__as(b, d->in[LR], sums))), dtype);
}

static int64_t rmsprop_count(const op_call *c)
{
    return heed_type_count(&c->in[P].type);
}

static size_t rmsprop_scratch(const op_call *c)
{
    (void)c;
    return STEP_BLOCK * sizeof(float);
}

static void rmsprop_run(const op_call *c, int64_t begin, int64_t end)
{
    const rmsprop_hyper *h = c->attrs;
    const bool clips = c->n_in > CLIP && c->in[CLIP].data;
    const float k[8] = {
        [RMSPROP_LR] = *(const float *)c->in[LR].data,
        [RMSPROP_ONE_MINUS_ALPHA] = (float)(1 - h->alpha),
        [RMSPROP_EPS] = (float)h->eps,
        [RMSPROP_DECAY] = (float)h->weight_decay,
        [RMSPROP_MOMENTUM] = (float)h->momentum,
        [RMSPROP_CLIP] = clips ? *(const float *)c->in[CLIP].data : 1,
    };

    for (int64_t i = begin, n; i < end; i += n) {
        n = i64_min(end - i, STEP_BLOCK);
        float *p = heed__step_block(c, NEW_P, P, i, n),
              *square = heed__step_block(c, NEW_SQUARE, SQUARE, i, n);
        float *buf = h->momentum > 0 ? heed__step_block(c, NEW_BUF, BUF, i, n) : NULL;
        if (!buf && c->out[NEW_BUF].data) /* means nothing, but is defined */
            c->row->unary[ROW_COPY]((float *)c->out[NEW_BUF].data + i, (const float *)c->in[G].data + i, n);
        c->row->rmsprop(p, square, buf, (const float *)c->in[G].data + i, n, k);
    }
}

static const op_kernel rmsprop_cpu[] = {
    { .name = "fused", .layout = DENSE, .chunk = 16384, .accepts = heed__all_f32, .count = rmsprop_count,
      .scratch = rmsprop_scratch, .run = rmsprop_run },
    KERNEL_END,
};

#define POSITIVE() { .rank = 0, .fill = FILL_POSITIVE, .given = true }
static const op_sample rmsprop_samples[] = {
    { .in = { DIMS(5, 7), DIMS(5, 7), FILLED(FILL_POSITIVE, 5, 7), ABSENT(), POSITIVE() },
      .attrs = &(const rmsprop_hyper){ 0.99, 1e-8, 0, 0 } },
    { .in = { DIMS(5003), DIMS(5003), FILLED(FILL_POSITIVE, 5003), DIMS(5003), POSITIVE(), POSITIVE() },
      .attrs = &(const rmsprop_hyper){ 0.9, 1e-8, 0.01, 0.9 } },
    { .in = { DIMS(9), DIMS(9), FILLED(FILL_POSITIVE, 9), ABSENT(), POSITIVE() },
      .attrs = &(const rmsprop_hyper){ 0.99, 1e-8, 0, 0 }, .scale = 1e4 },
    { .in = { DIMS(0), DIMS(0), DIMS(0), ABSENT(), POSITIVE() },
      .attrs = &(const rmsprop_hyper){ 0.99, 1e-8, 0, 0 } },
    { .in = { DIMS(3), DIMS(4), DIMS(3), ABSENT(), POSITIVE() },
      .attrs = &(const rmsprop_hyper){ 0.99, 1e-8, 0, 0 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__rmsprop(heed_builder *b, const rmsprop_hyper *h, heed_value p, heed_value g,
                         heed_value *square, heed_value *buf, heed_value lr, heed_value clip)
{
    const bool keeps = h->momentum > 0 && buf;
    heed_value in[] = { p, g, *square, keeps ? *buf : (heed_value){ 0 }, lr, clip }, out[3];

    heed__nodes(b, &heed__op_rmsprop, h, in, 6, out);
    *square = out[NEW_SQUARE];
    if (keeps)
        *buf = out[NEW_BUF];
    return out[NEW_P];
}

const op_def heed__op_rmsprop = {
    .name = "rmsprop", .version = 1, .in = rmsprop_in, .out = rmsprop_out, .flags = OP_NO_GRAD,
    .attrs_size = sizeof(rmsprop_hyper), .fields = rmsprop_fields,
    .infer = rmsprop_infer, .decompose = rmsprop_decompose, .cpu = rmsprop_cpu,
    .torch = "torch.optim.RMSprop: step()", .samples = rmsprop_samples,
};
