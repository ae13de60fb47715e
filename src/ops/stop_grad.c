/* stop_grad: x itself, through which no gradient flows. */

#include "ops/reference.h"

#include <string.h>

static const op_slot stop_grad_in[] = { { .name = "x", .dtypes = ANY_DTYPE }, SLOT_END };
static const op_slot stop_grad_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

static bool stop_grad_view(const void *attrs, const view *in, view *out, int64_t *offset)
{
    (void)attrs;
    memcpy(out->strides, in->strides, sizeof out->strides);
    *offset = 0;
    return true;
}

static void stop_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_view(c, begin, end, stop_grad_view);
}

static const op_kernel stop_grad_cpu[] = { COPY_KERNEL(stop_grad_run), KERNEL_END };

static const op_sample stop_grad_samples[] = {
    { .in = { DIMS(4, 100) } },
    { .in = { DIMS(3, 5, 7) }, .scale = 1e4 },
    { .in = { INDEX(9, 33) } },
    { .in = { DIMS(0) } },
    SAMPLE_END,
};

heed_value heed_stop_grad(heed_builder *b, heed_value x)
{
    return heed__node(b, &heed__op_stop_grad, NULL, &x, 1);
}

const op_def heed__op_stop_grad = {
    .name = "stop_grad", .version = 1, .in = stop_grad_in, .out = stop_grad_out,
    .flags = OP_VIEW | OP_NO_GRAD,
    .view = stop_grad_view, .cpu = stop_grad_cpu, .onnx = { "Identity", 13 }, .torch = "x.detach()",
    .samples = stop_grad_samples,
};
