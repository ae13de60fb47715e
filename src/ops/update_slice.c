/* update_slice: x with a smaller tensor written over it, from the place `start` on.
 *
 *   x [d_0, ...], update [u_0, ...] with u_i <= d_i, start i64 [rank] -> y like x
 *
 * start_i is clamped to 0 .. d_i - u_i, so that the update fits whatever the number is. A cache appends
 * with it: y may overwrite x, and then only the update is written. Gradient: dx is dy with zeros written
 * there; d_update is that part of dy, gathered axis by axis. */

#include "ops/reference.h"

static const op_slot update_slice_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    { .name = "update", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE, .same_as = "x" },
    { .name = "start", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot update_slice_out[] = { { .name = "y", .same_as = "x", .over = "x" }, SLOT_END };

static heed_status update_slice_infer(op_infer *t)
{
    const heed_type *x = &t->in[0], *u = &t->in[1], *start = &t->in[2];

    if (u->rank != x->rank || start->rank != 1 || start->dims[0] != x->rank)
        return heed__refuse(t, HEED_ERR_SHAPE, "x of rank %d wants an update of that rank and so many starts",
                            x->rank);
    for (int i = 0; i < x->rank; i++)
        if (u->dims[i] > x->dims[i])
            return heed__refuse(t, HEED_ERR_SHAPE, "axis %d of the update has size %lld, of x only %lld", i,
                                (long long)u->dims[i], (long long)x->dims[i]);
    return HEED_OK;
}

static void update_slice_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[0]), u = heed_value_type(g->b, g->in[1]);

    if (g->need[0])
        g->din[0] = heed_update_slice(g->b, g->dout[0], heed__zeros(g->b, &u), g->in[2]);
    if (!g->need[1])
        return;
    g->din[1] = g->dout[0];
    for (int i = 0; i < x.rank; i++) {
        heed_value most = heed_scalar(g->b, HEED_I64, (double)(x.dims[i] - u.dims[i])), start;

        if (x.dims[i] == u.dims[i])
            continue;
        start = heed_min(g->b, heed_slice(g->b, g->in[2], 0, i, i + 1, 1), most);
        start = heed_max(g->b, start, heed_scalar(g->b, HEED_I64, 0));
        start = heed_add(g->b, start, heed_iota(g->b, heed_type_of(HEED_I64, 1, &u.dims[i]), 0));
        g->din[1] = heed_gather(g->b, g->din[1], start, i);
    }
}

static void update_slice_run(const op_call *c, int64_t begin, int64_t end)
{
    if (c->out[0].data != c->in[0].data)
        heed__copy_elements(&c->out[0], &c->in[0], begin, end);
}

static void update_slice_finish(const op_call *c)
{
    const view *start = &c->in[2];
    view part = c->out[0];

    for (int i = 0; i < part.type.rank; i++) {
        const int64_t size = c->in[1].type.dims[i], most = c->in[0].type.dims[i] - size;
        const int64_t at = ((const int64_t *)start->data)[i * start->strides[0]];

        part = heed__part(&part, i, i64_max(0, i64_min(at, most)), size);
    }
    heed__copy_elements(&part, &c->in[1], 0, heed_type_count(&part.type));
}

static const op_kernel update_slice_cpu[] = {
    { .name = "copy", .layout = STRIDED, .chunk = COPY_CHUNK, .count = heed__element_count,
      .run = update_slice_run,
      .finish = update_slice_finish },
    KERNEL_END,
};

static const op_sample update_slice_samples[] = {
    { .in = { DIMS(10, 33), DIMS(2, 33), INDEX(8, 2) } },
    /* starts beyond the end are clamped */
    { .in = { DIMS(4, 5, 7), DIMS(1, 5, 3), INDEX(9, 3) }, .scale = 1e4 },
    { .in = { MASK(9), MASK(4), INDEX(5, 1) } },
    { .in = { DIMS(3, 4), DIMS(0, 4), INDEX(2, 2) } },
    { .in = { DIMS(3), DIMS(4), INDEX(2, 1) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_update_slice(heed_builder *b, heed_value x, heed_value update, heed_value start)
{
    return heed__node(b, &heed__op_update_slice, NULL, (heed_value[]){ x, update, start }, 3);
}

const op_def heed__op_update_slice = {
    .name = "update_slice", .version = 1, .in = update_slice_in, .out = update_slice_out,
    .flags = OP_PATCHES, .infer = update_slice_infer,
    .grad = update_slice_grad, .cpu = update_slice_cpu, .torch = "x[start:start+size] = update",
    .samples = update_slice_samples,
};
