/* check_within: y = x; a run in which some element is not in least .. most (both allowed), or not a number, ends at this node
 * (HEED_ERR_SPEC), with the place and the value of the first. What is learned passes through here where only a range of it has a
 * meaning: it is never clamped, which would stop its gradient and hide the mistake.
 *
 * Gradient: dx = dy. */

#include "attention/attention.h"
#include "base/text.h"
#include "graph/number.h"

#include <float.h>

static const op_slot check_within_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
                                           SLOT_END };
static const op_slot check_within_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct check_within_attrs {
    double least, most;
} check_within_attrs;
static const op_field check_within_fields[] = { FIELD_F64(check_within_attrs, least),
                                                FIELD_F64(check_within_attrs, most), FIELD_END };

static void check_within_gradient(op_grad *g)
{
    g->din[0] = g->dout[0];
}

static void check_within_run(const op_call *c, int64_t begin, int64_t end)
{
    const check_within_attrs *a = c->attrs;
    const view *x = &c->in[0], *y = &c->out[0];

    for (int64_t i = begin; i < end; i++) {
        const double value = heed__number_get(x->type.dtype, x->data, i);

        if (!(value >= a->least && value <= a->most))
            heed__fault_number(c, i, HEED_ERR_SPEC, value);
        if (y->data)
            heed__number_put(y->type.dtype, y->data, i, value);
    }
}

static void check_within_fault(const void *attrs, int64_t item, double value, char *to, size_t size)
{
    const check_within_attrs *a = attrs;

    if (a->least <= -DBL_MAX)
        heed__format(to, size, "element %lld has the value %.7g; it must be finite", (long long)item, value);
    else if (a->most >= DBL_MAX)
        heed__format(to, size, "element %lld has the value %.7g; it must be above 0 and finite", (long long)item,
                     value);
    else
        heed__format(to, size, "element %lld has the value %.7g; it must be %.7g to %.7g", (long long)item, value,
                     a->least, a->most);
}

static const op_kernel check_within_cpu[] = {
    { .name = "reference", .layout = DENSE, .chunk = 4096, .run = check_within_run },
    KERNEL_END,
};

static const op_sample check_within_samples[] = {
    { .in = { FILLED(FILL_UNIT, 5) }, .attrs = &(const check_within_attrs){ -2, 2 } },
    { .in = { FILLED(FILL_UNIT, 0) }, .attrs = &(const check_within_attrs){ -2, 2 } },
    { .in = { LENGTHS(9, 5) }, .attrs = &(const check_within_attrs){ -2, 2 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed__check_within(heed_builder *b, heed_value x, double least, double most)
{
    return heed__node(b, &heed__op_check_within, &(check_within_attrs){ least, most }, &x, 1);
}

const op_def heed__op_check_within = {
    .name = "check_within",
    .version = 1,
    .in = check_within_in,
    .out = check_within_out,
    .flags = OP_IN_PLACE | OP_FAULTS,
    .attrs_size = sizeof(check_within_attrs),
    .fields = check_within_fields,
    .grad = check_within_gradient,
    .cpu = check_within_cpu,
    .fault_text = check_within_fault,
    .onnx = { "Identity", 13 },
    .torch = "x",
    .samples = check_within_samples,
};
