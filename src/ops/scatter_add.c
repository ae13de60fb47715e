/* scatter_add: zeros of a given size along one axis, to which slices are added at the places an index
 * names.
 *
 *   index [I..] i64, updates [A.., I.., C..] -> y [A.., size, C..]
 *   y[a, n, c] = sum over i with index[i] = n of updates[a, i, c]
 *
 * The transpose of gather, which is its gradient. Terms are added in rising i, in f32 also for f16 and
 * bf16, and a chunk owns rows of y: it looks at the whole index and takes what is its own, so the result
 * does not depend on threads and needs no atomics. An index outside 0 .. size-1 ends the run with
 * HEED_ERR_LIMIT. */

#include "base/error.h"
#include "ops/reference.h"

#include <string.h>

#define PARTS 16 /* chunks for one place of A: each reads the index once */

static const op_slot scatter_add_in[] = {
    { .name = "index", .dtypes = I64_ONLY },
    { .name = "updates", .dtypes = NUMBERS, .flags = DIFFERENTIABLE },
    SLOT_END,
};
static const op_slot scatter_add_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int axis;
    int64_t size;
} scatter_add_attrs;
static const op_field scatter_add_fields[] = {
    FIELD_INT(scatter_add_attrs, axis),
    FIELD_I64(scatter_add_attrs, size),
    FIELD_END,
};

static heed_status scatter_add_infer(op_infer *t)
{
    const scatter_add_attrs *a = t->attrs;
    const heed_type *index = &t->in[0], *u = &t->in[1];
    heed_type *y = &t->out[0];

    if (a->axis < 0 || a->axis > u->rank - index->rank || u->rank - index->rank + 1 > HEED_MAX_RANK)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "an index of rank %d does not fit into updates of rank %d at axis %d",
                            index->rank, u->rank, a->axis);
    for (int i = 0; i < index->rank; i++)
        if (u->dims[a->axis + i] != index->dims[i])
            return heed__refuse(t, HEED_ERR_SHAPE,
                                "axis %d of updates has size %lld, axis %d of the index %lld", a->axis + i,
                                (long long)u->dims[a->axis + i], i, (long long)index->dims[i]);
    if (a->size < 0)
        return heed__refuse(t, HEED_ERR_SHAPE, "size %lld", (long long)a->size);
    *y = heed_type_of(u->dtype, 0, NULL);
    for (int i = 0; i < a->axis; i++)
        y->dims[y->rank++] = u->dims[i];
    y->dims[y->rank++] = a->size;
    for (int i = a->axis + index->rank; i < u->rank; i++)
        y->dims[y->rank++] = u->dims[i];
    return HEED_OK;
}

static void scatter_add_grad(op_grad *g)
{
    g->din[1] = heed_gather(g->b, g->dout[0], g->in[0], ((const scatter_add_attrs *)g->attrs)->axis);
}

static int64_t scatter_add_inner(const op_call *c)
{
    const scatter_add_attrs *a = c->attrs;
    return heed__dims_product(&c->out[0].type, a->axis + 1, c->out[0].type.rank);
}

/* Rows of y that belong to one item; items are (place of A, part of the rows), a chunk one of them. */
static int64_t scatter_add_rows(const op_call *c)
{
    return i64_ceil_div(((const scatter_add_attrs *)c->attrs)->size, PARTS);
}

static int64_t scatter_add_count(const op_call *c)
{
    const scatter_add_attrs *a = c->attrs;
    const int64_t parts = a->size > 0 ? i64_ceil_div(a->size, scatter_add_rows(c)) : 0;

    return heed__dims_product(&c->out[0].type, 0, a->axis) * parts;
}

/* f16 and bf16: the item's rows in f32, and one slice of updates. */
static size_t scatter_add_scratch(const op_call *c)
{
    if (!heed__computes_in_f32(&c->out[0]) || c->out[0].type.dtype == HEED_F32)
        return 0;
    return (size_t)(scatter_add_rows(c) * scatter_add_inner(c)) * sizeof(float);
}

/* to += from, n dense elements of one dtype; `wide` is scratch of n floats. */
static void scatter_add_slice(const op_call *c, void *to, const void *from, int64_t n, float *wide)
{
    const heed_dtype d = c->out[0].type.dtype;

    if (d == HEED_F32) {
        c->row->binary[ROW_ADD](to, to, 1, from, 1, n);
    } else if (heed__computes_in_f32(&c->out[0])) {
        heed__widen(wide, d, from, n, c->row);
        c->row->binary[ROW_ADD](to, to, 1, wide, 1, n);
    } else if (d == HEED_F64) {
        const double *x = from;

        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i] += x[i];
    } else {
        const int64_t width = (int64_t)heed_dtype_size(d);

        for (int64_t i = 0; i < n; i++) {
            int64_t x, y;

            heed__load_i64(&x, d, (const char *)from + i * width, 1, 1);
            heed__load_i64(&y, d, (char *)to + i * width, 1, 1);
            y = WRAP(y, +, x);
            heed__store_i64((char *)to + i * width, d, 1, &y, 1, c->row);
        }
    }
}

static void scatter_add_run(const op_call *c, int64_t begin, int64_t end)
{
    const scatter_add_attrs *a = c->attrs;
    const heed_dtype d = c->out[0].type.dtype;
    const bool half = d != HEED_F32 && heed__computes_in_f32(&c->out[0]);
    const int64_t width = (int64_t)heed_dtype_size(d), held = half ? (int64_t)sizeof(float) : width;
    const int64_t inner = scatter_add_inner(c), rows_each = scatter_add_rows(c);
    const int64_t parts = i64_ceil_div(a->size, rows_each);
    const int64_t places = heed_type_count(&c->in[0].type), *index = c->in[0].data;

    for (int64_t i = begin; i < end; i++) {
        const int64_t outer = i / parts, first = i % parts * rows_each;
        const int64_t count = i64_min(rows_each, a->size - first);
        const char *updates = (const char *)c->in[1].data + outer * places * inner * width;
        char *y = (char *)c->out[0].data + (outer * a->size + first) * inner * width;
        char *sums = half ? c->scratch[0] : y;

        memset(sums, 0, (size_t)(count * inner * held));
        for (int64_t k = 0; k < places; k++) {
            if (index[k] < 0 || index[k] >= a->size)
                heed__fault(c, k, HEED_ERR_LIMIT, index[k]);
            else if (index[k] >= first && index[k] < first + count)
                scatter_add_slice(c, sums + (index[k] - first) * inner * held, updates + k * inner * width,
                                  inner, c->scratch[1]);
        }
        if (half)
            heed__narrow(y, d, c->scratch[0], count * inner, c->row);
    }
}

static double scatter_add_flops(const op_call *c)
{
    return (double)heed_type_count(&c->in[1].type);
}

static const op_kernel scatter_add_cpu[] = {
    { .name = "rows", .chunk = 1, .count = scatter_add_count, .scratch = scatter_add_scratch,
      .run = scatter_add_run },
    KERNEL_END,
};

static const op_sample scatter_add_samples[] = {
    { .in = { INDEX(50, 4, 7), DIMS(4, 7, 33) }, .attrs = &(const scatter_add_attrs){ 0, 50 } },
    { .in = { INDEX(5, 9), DIMS(3, 9, 7) }, .attrs = &(const scatter_add_attrs){ 1, 5 }, .scale = 1e4 },
    { .in = { INDEX(3, 200), DIMS(200) }, .attrs = &(const scatter_add_attrs){ 0, 3 } },
    { .in = { INDEX(9, 5), INDEX(9, 5, 2) }, .attrs = &(const scatter_add_attrs){ 0, 9 } },
    { .in = { INDEX(5, 0), DIMS(0, 3) }, .attrs = &(const scatter_add_attrs){ 0, 5 } },
    { .in = { INDEX(5, 4), DIMS(3, 4) }, .attrs = &(const scatter_add_attrs){ 0, 5 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_scatter_add(heed_builder *b, heed_value index, heed_value updates, int axis, int64_t size)
{
    const scatter_add_attrs a = { axis < 0 ? axis + 1 + heed_rank(b, updates) - heed_rank(b, index) : axis,
                                  size };
    return heed__node(b, &heed__op_scatter_add, &a, (heed_value[]){ index, updates }, 2);
}

const op_def heed__op_scatter_add = {
    .name = "scatter_add", .version = 1, .in = scatter_add_in, .out = scatter_add_out,
    .flags = OP_FAULTS, .attrs_size = sizeof(scatter_add_attrs), .fields = scatter_add_fields, .infer = scatter_add_infer,
    .grad = scatter_add_grad, .cpu = scatter_add_cpu, .flops = scatter_add_flops,
    .torch = "torch.zeros(...).index_add({axis}, index, updates)", .samples = scatter_add_samples,
};
