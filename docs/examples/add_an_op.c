/* hardtanh: y = min(max(x, low), high), element by element.
 *
 *   x of any shape -> y, same shape and dtype
 *
 * Gradient: dx = dy where low < y < high, else 0; at the two borders 0, PyTorch's rule. It needs y only, so y
 * may overwrite x. low = 0, high = 6 is ReLU6. Collobert 2004. */

#include "ops/ops.h"

static const op_slot hardtanh_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot hardtanh_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    double low, high;
} hardtanh_attrs;
static const op_field hardtanh_fields[] = {
    FIELD_F64(hardtanh_attrs, low),
    FIELD_F64(hardtanh_attrs, high),
    FIELD_END,
};

static heed_status hardtanh_infer(op_infer *t) /* only what the slots cannot say */
{
    const hardtanh_attrs *a = t->attrs;

    if (!(a->low < a->high))
        return heed__refuse(t, HEED_ERR_LIMIT, "low %g must lie below high %g", a->low, a->high);
    return HEED_OK;
}

/* A number in the dtype of v. */
static heed_value hardtanh_number(heed_builder *b, heed_value v, double number)
{
    return heed_scalar(b, heed_value_type(b, v).dtype, number);
}

static void hardtanh_grad(op_grad *g)
{
    const hardtanh_attrs *a = g->attrs;
    heed_value y = g->out[0], dy = g->dout[0];
    heed_value above = heed_lt(g->b, hardtanh_number(g->b, y, a->low), y);
    heed_value below = heed_lt(g->b, y, hardtanh_number(g->b, y, a->high));

    g->din[0] = heed_select(g->b, heed_and(g->b, above, below), dy, hardtanh_number(g->b, dy, 0));
}

static void hardtanh_decompose(op_decompose *d)
{
    const hardtanh_attrs *a = d->attrs;
    heed_value x = d->in[0];
    heed_value bounded = heed_max(d->b, x, hardtanh_number(d->b, x, a->low));

    d->out[0] = heed_min(d->b, bounded, hardtanh_number(d->b, x, a->high));
}

/* f32, f16, bf16; f64 is for proofs, and decomposed. */
static bool hardtanh_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[0]);
}

/* Two row primitives on a block of rows while it is in the cache. */
static void hardtanh_run(const op_call *c, int64_t begin, int64_t end)
{
    const hardtanh_attrs *a = c->attrs;
    const float low = (float)a->low, high = (float)a->high;
    const row_ops *row = c->row; /* vector code picked for this CPU */

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[0], i, last, c->scratch[0]); /* bf16 and f16 widen into scratch */
        rows y = row->out(&c->out[0], i, last, c->scratch[1]);

        for (int64_t r = 0; r < y.count; r++) {
            float *to = y.data + r * y.stride;

            row->binary[ROW_MAX](to, x.data + r * x.stride, 1, &low, 0, y.n); /* a step of 0 repeats low */
            row->binary[ROW_MIN](to, to, 1, &high, 0, y.n);
        }
        row->commit(&c->out[0], i, y); /* narrows back; nothing to do for f32 */
    }
}

static const op_kernel hardtanh_cpu[] = { /* first that accepts wins */
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = hardtanh_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch, .run = hardtanh_run },
    KERNEL_END,
};

static const op_sample hardtanh_samples[] = {
    { .in = { DIMS(4, 1000) }, .attrs = &(const hardtanh_attrs){ -1, 1 } },
    { .in = { DIMS(3, 5, 17) }, .attrs = &(const hardtanh_attrs){ 0, 6 }, .scale = 1e4 }, /* far outside */
    { .in = { SCALAR() }, .attrs = &(const hardtanh_attrs){ -1, 1 } },
    { .in = { DIMS(3, 0) }, .attrs = &(const hardtanh_attrs){ -1, 1 } }, /* nothing to do */
    { .in = { DIMS(2) }, .attrs = &(const hardtanh_attrs){ 1, 1 }, .refused = HEED_ERR_LIMIT },
    { .in = { MASK(5) }, .attrs = &(const hardtanh_attrs){ -1, 1 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_hardtanh(heed_builder *b, heed_value x, double low, double high)
{
    return heed__node(b, &heed__op_hardtanh, &(hardtanh_attrs){ low, high }, &x, 1);
}

const op_def heed__op_hardtanh = {
    .name = "hardtanh", .version = 1, .in = hardtanh_in, .out = hardtanh_out, .flags = OP_IN_PLACE,
    .attrs_size = sizeof(hardtanh_attrs), .fields = hardtanh_fields, .infer = hardtanh_infer,
    .grad = hardtanh_grad, .decompose = hardtanh_decompose, .cpu = hardtanh_cpu,
    .torch = "F.hardtanh(x, {low}, {high})", .samples = hardtanh_samples,
};
