/* check_finite: y = x; a run in which some element is NaN or infinite ends at this node (HEED_ERR_NUMERIC), before any node after
 * it has run. The training graph passes its loss through here, so that a bad step changes no state.
 *
 * Gradient: dx = dy. */

#include "graph/number.h"
#include "ops/ops.h"
#include <heed/ops.h>

static const op_slot check_finite_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot check_finite_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

static void check_finite_grad(op_grad *g)
{
    g->din[0] = g->dout[0];
}

static void check_finite_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *x = &c->in[0], *y = &c->out[0];

    for (int64_t i = begin; i < end; i++) {
        const double value = heed__number_get(x->type.dtype, x->data, i);

        if (!(value - value == 0))
            heed__fault(c, i, HEED_ERR_NUMERIC, 0);
        if (y->data)
            heed__number_put(y->type.dtype, y->data, i, value);
    }
}

static const op_kernel check_finite_cpu[] = {
    { .name = "reference", .layout = DENSE, .chunk = 4096, .run = check_finite_run },
    KERNEL_END,
};

static const op_sample check_finite_samples[] = {
    { .in = { SCALAR() } },
    { .in = { DIMS(3, 5) } },
    { .in = { DIMS(0, 4) } },
    { .in = { DIMS(7) }, .scale = 1e4 },
    { .in = { INDEX(3, 4) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_check_finite(heed_builder *b, heed_value x)
{
    return heed__node(b, &heed__op_check_finite, NULL, &x, 1);
}

const op_def heed__op_check_finite = {
    .name = "check_finite", .version = 1, .in = check_finite_in, .out = check_finite_out, .flags = OP_IN_PLACE | OP_EFFECT | OP_FAULTS,
    .grad = check_finite_grad, .cpu = check_finite_cpu, .onnx = { "Identity", 13 }, .torch = "x", .samples = check_finite_samples,
};
