/* dropout: y = keep x / (1 - p), keep = 0 with probability p.
 *
 *   x any shape, rng i64 [2] = {seed, step}  ->  y like x
 *
 * keep is a function of (seed, step, node, row, column) alone: word >= floor(p 2^32) of Philox
 * (base/rng.h), row being all leading axes flattened, column the last one. So no mask is stored: the
 * gradient is the same op on dy, and any recomputation agrees. Srivastava et al. 2014. */

#include "base/rng.h"
#include "cpu/rows.h"
#include "graph/number.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <string.h>

enum { X, RNG_STATE };
static const op_slot dropout_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "rng", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot dropout_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct {
    double p;
    int64_t node;
} dropout_attrs;
static const op_field dropout_fields[] = { FIELD_F64(dropout_attrs, p), FIELD_I64(dropout_attrs, node),
  FIELD_END };

static heed_status dropout_infer(op_infer *t)
{
    const dropout_attrs *a = t->attrs;

    if (!(a->p >= 0 && a->p <= 1))
        return heed__refuse(t, HEED_ERR_LIMIT, "p = %g is not in 0 .. 1", a->p);
    if (t->in[RNG_STATE].rank != 1 || t->in[RNG_STATE].dims[0] != 2)
        return heed__refuse(t, HEED_ERR_SHAPE, "rng must be {seed, step}");
    return HEED_OK;
}

static void dropout_grad(op_grad *g)
{
    g->din[X] =
        heed__node(g->b, &heed__op_dropout, g->attrs, (heed_value[]){ g->dout[0], g->in[RNG_STATE] }, 2);
}

static rng dropout_stream(const op_call *c)
{
    const dropout_attrs *a = c->attrs;
    const int64_t *state = c->in[RNG_STATE].data;

    return (rng){ (uint64_t)state[0], (uint32_t)state[1], (uint32_t)a->node };
}

static uint64_t dropout_floor(const dropout_attrs *a)
{
    return (uint64_t)(a->p * 0x1p32);
}

static double dropout_scale(const dropout_attrs *a)
{
    return a->p < 1 ? 1 / (1 - a->p) : 0;
}

static bool dropout_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[X]) && c->in[X].type.rank > 0;
}

static void dropout_run(const op_call *c, int64_t begin, int64_t end)
{
    const dropout_attrs *a = c->attrs;
    const rng stream = dropout_stream(c);
    const uint64_t least = dropout_floor(a);
    const float scale = (float)dropout_scale(a);

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        const rows x = c->row->in(&c->in[X], i, last, c->scratch[0]);
        const rows y = c->row->out(&c->out[0], i, last, c->scratch[1]);
        for (int64_t r = 0; r < x.count; r++) {
            float *to = y.data + r * y.stride;
            if (least > UINT32_MAX) /* p = 1 */
                memset(to, 0, (size_t)x.n * sizeof(float));
            else
                c->row->dropout(to, x.data + r * x.stride, x.n, &stream, (uint32_t)(i + r), (uint32_t)least,
                                scale);
        }
        c->row->commit(&c->out[0], i, y);
    }
}

static int64_t dropout_reference_count(const op_call *c)
{
    const heed_type *t = &c->in[X].type;
    return t->rank ? heed__dims_product(t, 0, t->rank - 1) : 1;
}

static void dropout_reference(const op_call *c, int64_t begin, int64_t end)
{
    const dropout_attrs *a = c->attrs;
    const view *x = &c->in[X], *y = &c->out[0];
    const int last = x->type.rank - 1;
    const rng stream = dropout_stream(c);

    for (int64_t i = begin; i < end; i++) {
        int64_t x0 = 0, y0 = 0, rest = i;
        for (int d = last - 1; d >= 0; d--) {
            x0 += rest % x->type.dims[d] * x->strides[d];
            y0 += rest % x->type.dims[d] * y->strides[d];
            rest /= x->type.dims[d];
        }
        for (int64_t j = 0; j < (last < 0 ? 1 : x->type.dims[last]); j++) {
            const bool keep = heed__rng_word(&stream, (uint32_t)i, (uint32_t)j) >= dropout_floor(a);
            const int64_t from = last < 0 ? 0 : x0 + j * x->strides[last],
                          to = last < 0 ? 0 : y0 + j * y->strides[last];
            heed__number_put(y->type.dtype, y->data, to,
                             keep ? heed__number_get(x->type.dtype, x->data, from) * dropout_scale(a) : 0);
        }
    }
}

static const op_kernel dropout_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = dropout_accepts, .count = heed__row_count,
      .scratch = heed__row_scratch,
      .run = dropout_run, .dense_in = 1u << RNG_STATE },
    { .name = "reference", .layout = STRIDED, .chunk = 16, .count = dropout_reference_count,
      .run = dropout_reference,
      .dense_in = 1u << RNG_STATE },
    KERNEL_END,
};

static const op_sample dropout_samples[] = {
    { .in = { DIMS(33, 67), RNG() }, .attrs = &(const dropout_attrs){ 0.3, 0x12345678 } },
    { .in = { DIMS(2, 3, 5), RNG() }, .attrs = &(const dropout_attrs){ 0.5, 7 } },
    { .in = { SCALAR(), RNG() }, .attrs = &(const dropout_attrs){ 0.5, 7 } },
    /* nothing is left, and no 0 * infinity */
    { .in = { DIMS(4, 9), RNG() }, .attrs = &(const dropout_attrs){ 1, 7 } },
    { .in = { DIMS(8, 40), RNG() }, .attrs = &(const dropout_attrs){ 0.1, 99 }, .scale = 1e4 },
    { .in = { DIMS(0, 4), RNG() }, .attrs = &(const dropout_attrs){ 0.1, 99 } },
    { .in = { DIMS(3, 4), RNG() }, .attrs = &(const dropout_attrs){ 1.5, 99 }, .refused = HEED_ERR_LIMIT },
    SAMPLE_END,
};

heed_value heed__dropout(heed_builder *b, heed_value x, heed_value stream, double p, int64_t number)
{
    return heed__node(b, &heed__op_dropout, &(dropout_attrs){ p, number }, (heed_value[]){ x, stream }, 2);
}

heed_value heed_dropout(heed_builder *b, const char *name, heed_value x, double p)
{
    if (heed__poisoned(b) || (p >= 0 && p <= 1 && (!(p > 0) || heed_get_mode(b) == HEED_EVAL)))
        return x;
    return heed__dropout(b, x, heed_rng(b), p, heed__random_node(b, name));
}

const op_def heed__op_dropout = {
    .name = "dropout", .version = 1, .in = dropout_in, .out = dropout_out, .flags = OP_IN_PLACE | OP_RANDOM,
    .attrs_size = sizeof(dropout_attrs), .fields = dropout_fields, .infer = dropout_infer,
    .grad = dropout_grad,
    .cpu = dropout_cpu, .torch = "dropout(x, {p})", .samples = dropout_samples,
};
