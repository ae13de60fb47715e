/* check_csr: indices of a graph in rows, after a look at the whole: indptr begins with 0, never falls and ends with the number
 * of indices; inside a row indices rise and lie in 0 .. keys - 1. Otherwise the run ends here (HEED_ERR_LIMIT) with the row and
 * the number that is wrong. */

#include "attention/attention.h"
#include "base/text.h"

#include <string.h>

static const op_slot check_csr_in[] = { { .name = "indptr", .dtypes = I64_ONLY },
                                        { .name = "indices", .dtypes = I64_ONLY },
                                        SLOT_END };
static const op_slot check_csr_out[] = { { .name = "y", .same_as = "indices" }, SLOT_END };

typedef struct check_csr_attrs {
    int64_t keys;
} check_csr_attrs;
static const op_field check_csr_fields[] = { FIELD_I64(check_csr_attrs, keys), FIELD_END };

static heed_status check_csr_infer(op_infer *t)
{
    if (t->in[0].rank != 1 || t->in[1].rank != 1 || t->in[0].dims[0] < 1)
        return heed__refuse(t, HEED_ERR_SHAPE, "graph_indptr [Tq+1] and graph_indices [E] must be two lists");
    return HEED_OK;
}

static int64_t check_csr_count(const op_call *c)
{
    return c->in[0].type.dims[0]; /* the rows, and the end */
}

/* A fault is item 2 row: where the row begins; 2 row + 1: one of its indices. */
static void check_csr_row(const op_call *c, const int64_t *indptr, const int64_t *indices, int64_t row)
{
    const int64_t keys = ((const check_csr_attrs *)c->attrs)->keys, edges = c->in[1].type.dims[0];
    const int64_t last = c->in[0].type.dims[0] - 1, begin = indptr[row],
                  end = row < last ? indptr[row + 1] : begin;

    if (begin < 0 || begin > edges || (row == 0 && begin != 0) || (row == last && begin != edges) ||
        end < begin) {
        heed__fault(c, 2 * row, HEED_ERR_LIMIT, begin);
        return;
    }
    for (int64_t e = begin; e < i64_min(end, edges); e++)
        if (indices[e] < 0 || indices[e] >= keys || (e > begin && indices[e] <= indices[e - 1])) {
            heed__fault(c, 2 * row + 1, HEED_ERR_LIMIT, indices[e]);
            return;
        }
}

static void check_csr_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t *indptr = c->in[0].data, *indices = c->in[1].data;

    for (int64_t row = begin; row < end; row++)
        check_csr_row(c, indptr, indices, row);
    if (begin == 0 && c->in[1].type.dims[0] > 0 && c->out[0].data && c->out[0].data != c->in[1].data)
        memcpy(c->out[0].data, indices, (size_t)c->in[1].type.dims[0] * sizeof *indices);
}

static void check_csr_fault(const void *attrs, int64_t item, double value, char *to, size_t size)
{
    const check_csr_attrs *a = attrs;

    if (item % 2 == 0)
        heed__format(
            to, size,
            "graph_indptr[%lld] is %.0f; graph_indptr must begin with 0, never fall and end with the "
            "number of indices",
            (long long)(item / 2), value);
    else
        heed__format(to, size, "row %lld has the index %.0f; indices must rise inside a row and be 0 to %lld",
                     (long long)(item / 2), value, (long long)a->keys - 1);
}

static const op_kernel check_csr_cpu[] = {
    { .name = "reference", .layout = DENSE, .chunk = 1024, .count = check_csr_count, .run = check_csr_run },
    KERNEL_END,
};

static const op_sample check_csr_samples[] = {
    { .in = { LENGTHS(0, 4), INDEX(3, 0) }, .attrs = &(const check_csr_attrs){ 3 } }, /* rows without edges */
    { .in = { DIMS(4), INDEX(3, 2) }, .attrs = &(const check_csr_attrs){ 3 }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed__check_csr(heed_builder *b, heed_value indptr, heed_value indices, int64_t keys)
{
    return heed__node(b, &heed__op_check_csr, &(check_csr_attrs){ keys }, (heed_value[]){ indptr, indices },
                      2);
}

const op_def heed__op_check_csr = {
    .name = "check_csr",
    .version = 1,
    .in = check_csr_in,
    .out = check_csr_out,
    .flags = OP_NO_GRAD | OP_FAULTS,
    .attrs_size = sizeof(check_csr_attrs),
    .fields = check_csr_fields,
    .infer = check_csr_infer,
    .cpu = check_csr_cpu,
    .fault_text = check_csr_fault,
    .torch = "indices",
    .samples = check_csr_samples,
};
