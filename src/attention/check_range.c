/* check_range: y = x, i64; a run in which some element is outside 0 .. most ends at this node
 * (HEED_ERR_LIMIT), with the place and the value of the first. Lengths pass through here, so that nothing
 * after them need doubt them. */

#include "attention/attention.h"
#include "base/text.h"

static const op_slot check_range_in[] = { { .name = "x", .dtypes = I64_ONLY }, SLOT_END };
static const op_slot check_range_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

typedef struct check_range_attrs {
    int64_t most;
} check_range_attrs;
static const op_field check_range_fields[] = { FIELD_I64(check_range_attrs, most), FIELD_END };

static void check_range_run(const op_call *c, int64_t begin, int64_t end)
{
    const check_range_attrs *a = c->attrs;
    const int64_t *x = c->in[0].data;
    int64_t *y = c->out[0].data;

    for (int64_t i = begin; i < end; i++) {
        if (x[i] < 0 || x[i] > a->most)
            heed__fault(c, i, HEED_ERR_LIMIT, x[i]);
        if (y)
            y[i] = x[i];
    }
}

static void check_range_fault(const void *attrs, int64_t item, double value, char *to, size_t size)
{
    const check_range_attrs *a = attrs;

    if (a->most == INT64_MAX)
        heed__format(to, size, "element %lld has the value %.17g; it must be 0 or more", (long long)item, value);
    else
        heed__format(to, size, "element %lld has the value %.17g; it must be 0 to %lld", (long long)item, value,
                     (long long)a->most);
}

static const op_kernel check_range_cpu[] = {
    { .name = "loop", .layout = DENSE, .chunk = 4096, .run = check_range_run },
    KERNEL_END,
};

static const op_sample check_range_samples[] = {
    { .in = { LENGTHS(9, 5) }, .attrs = &(const check_range_attrs){ 9 } },
    { .in = { LENGTHS(9, 0) }, .attrs = &(const check_range_attrs){ 9 } },
    { .in = { DIMS(3) }, .attrs = &(const check_range_attrs){ 9 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed__check_range(heed_builder *b, heed_value x, int64_t most)
{
    return heed__node(b, &heed__op_check_range, &(check_range_attrs){ most }, &x, 1);
}

const op_def heed__op_check_range = {
    .name = "check_range",
    .version = 1,
    .in = check_range_in,
    .out = check_range_out,
    .flags = OP_IN_PLACE | OP_NO_GRAD | OP_FAULTS,
    .attrs_size = sizeof(check_range_attrs),
    .fields = check_range_fields,
    .cpu = check_range_cpu,
    .fault_text = check_range_fault,
    .onnx = { "Identity", 13 },
    .torch = "x",
    .samples = check_range_samples,
};
