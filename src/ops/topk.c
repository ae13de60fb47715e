/* topk: the k largest elements of each row, falling, and where they stood. NaN counts as largest; ties go
 * to the lower index.
 *
 *   x [.., n] -> values [.., k], indices [.., k] i64
 *
 * A heap of k places whose top is the worst so far; the rest of the row is held against it. Gradient: dy
 * goes back to the places named by the indices, which no row names twice. */

#include "ops/reference.h"

#include <math.h>

static const op_slot topk_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot topk_out[] = { { .name = "values" }, { .name = "indices" }, SLOT_END };

typedef struct {
    int64_t k;
} topk_attrs;
static const op_field topk_fields[] = { FIELD_I64(topk_attrs, k), FIELD_END };

static heed_status topk_infer(op_infer *t)
{
    const topk_attrs *a = t->attrs;
    const heed_type *x = &t->in[0];

    if (x->rank == 0 || a->k < 0 || a->k > x->dims[x->rank - 1])
        return heed__refuse(t, HEED_ERR_SHAPE, "the %lld largest of %lld", (long long)a->k,
                            (long long)(x->rank ? x->dims[x->rank - 1] : 1));
    t->out[0] = *x;
    t->out[0].dims[x->rank - 1] = a->k;
    t->out[1] = t->out[0];
    t->out[1].dtype = HEED_I64;
    return HEED_OK;
}

/* With rows numbered r, element indices[r, j] of x is element r n + indices[r, j] of x made flat. */
static void topk_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[0]), y = heed_value_type(g->b, g->dout[0]);
    const int64_t n = x.dims[x.rank - 1], k = y.dims[y.rank - 1];
    const int64_t rows_ = heed__dims_product(&x, 0, x.rank - 1);
    heed_value row = heed_iota(g->b, heed_type_of(HEED_I64, 2, (int64_t[]){ rows_, 1 }), 0);
    heed_value places = heed_reshape(g->b, g->out[1], 2, (int64_t[]){ rows_, k });
    heed_value flat;

    places = heed_add(g->b, places, heed_mul(g->b, row, heed_scalar(g->b, HEED_I64, (double)n)));
    places = heed_reshape(g->b, places, 1, (int64_t[]){ rows_ * k });
    flat = heed_reshape(g->b, g->dout[0], 1, (int64_t[]){ rows_ * k });
    flat = heed_scatter_add(g->b, places, flat, 0, rows_ * n);
    g->din[0] = heed_reshape(g->b, flat, x.rank, x.dims);
}

/* True when element i comes after element j in the result. */
static bool topk_after(const double *x, int64_t i, int64_t j)
{
    if (isnan(x[i]) || isnan(x[j]))
        return isnan(x[i]) && isnan(x[j]) ? i > j : !isnan(x[i]);
    if (x[i] < x[j] || x[i] > x[j])
        return x[i] < x[j];
    return i > j;
}

/* Lets the entry at `at` sink until both entries below it come before it. */
static void topk_sink(const double *x, int64_t *best, int64_t n, int64_t at)
{
    for (;;) {
        int64_t last = at, moved = best[at];

        for (int64_t below = 2 * at + 1; below <= 2 * at + 2 && below < n; below++)
            if (topk_after(x, best[below], best[last]))
                last = below;
        if (last == at)
            return;
        best[at] = best[last];
        best[last] = moved;
        at = last;
    }
}

static void topk_row(const double *x, int64_t n, int64_t *best, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        best[i] = i;
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        topk_sink(x, best, k, i);
    for (int64_t i = k; i < n; i++)
        if (topk_after(x, best[0], i)) {
            best[0] = i;
            topk_sink(x, best, k, 0);
        }
    for (int64_t i = k - 1; i > 0; i--) { /* the worst goes to the end */
        const int64_t worst = best[0];

        best[0] = best[i];
        best[i] = worst;
        topk_sink(x, best, i, 0);
    }
}

static int64_t topk_count(const op_call *c)
{
    const heed_type *x = &c->in[0].type;

    return ((const topk_attrs *)c->attrs)->k > 0 ? heed__dims_product(x, 0, x->rank - 1) : 0;
}

static int64_t topk_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / i64_max(1, c->in[0].type.dims[c->in[0].type.rank - 1]));
}

static size_t topk_scratch(const op_call *c) /* [0] the row, [1] the heap, [2] the values */
{
    return (size_t)c->in[0].type.dims[c->in[0].type.rank - 1] * sizeof(double);
}

static void topk_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *x = &c->in[0], *y = &c->out[0], *places = &c->out[1];
    const int last = x->type.rank - 1;
    const int64_t n = x->type.dims[last], k = y->type.dims[last];
    double *row = c->scratch[0], *values = c->scratch[2];
    int64_t *best = c->scratch[1];

    for (int64_t i = begin; i < end; i++) {
        heed__load_f64(row, x->type.dtype, heed__item(x, last, i).data, x->strides[last], n, c->row);
        topk_row(row, n, best, k);
        for (int64_t j = 0; j < k; j++)
            values[j] = row[best[j]];
        if (y->data)
            heed__store_f64(heed__item(y, last, i).data, y->type.dtype, y->strides[last], values, k, c->row);
        if (places->data)
            heed__store_i64(heed__item(places, last, i).data, HEED_I64, places->strides[last], best, k,
                            c->row);
    }
}

static const op_kernel topk_cpu[] = {
    { .name = "heap", .layout = STRIDED, .count = topk_count, .chunk_of = topk_chunk, .scratch = topk_scratch,
      .run = topk_run },
    KERNEL_END,
};

static const op_sample topk_samples[] = {
    { .in = { FILLED(FILL_DISTINCT, 20, 100) }, .attrs = &(const topk_attrs){ 5 } },
    { .in = { FILLED(FILL_DISTINCT, 3, 5, 7) }, .attrs = &(const topk_attrs){ 7 } },
    { .in = { DIMS(4, 33) }, .attrs = &(const topk_attrs){ 1 }, .scale = 1e4 },
    { .in = { DIMS(3, 5) }, .attrs = &(const topk_attrs){ 0 } },
    { .in = { DIMS(0, 5) }, .attrs = &(const topk_attrs){ 2 } },
    { .in = { DIMS(3, 5) }, .attrs = &(const topk_attrs){ 6 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_topk(heed_builder *b, heed_value x, int64_t k, heed_value *indices)
{
    heed_value out[2];

    heed__nodes(b, &heed__op_topk, &(topk_attrs){ k }, &x, 1, out);
    if (indices)
        *indices = out[1];
    return out[0];
}

static void topk_onnx(onnx_emit *e)
{
    const char *k = e->to->i64s(e, &((const topk_attrs *)e->attrs)->k, 1);

    heed__onnx_node_of(
        e, &k, 1,
        (onnx_attr[]){ ONNX_INT("axis", -1), ONNX_INT("largest", 1), ONNX_INT("sorted", 1), ONNX_END });
}

const op_def heed__op_topk = {
    .name = "topk", .version = 1, .in = topk_in, .out = topk_out, .attrs_size = sizeof(topk_attrs),
    .fields = topk_fields,
    .infer = topk_infer, .grad = topk_grad, .cpu = topk_cpu, .onnx = { "TopK", 11 }, .onnx_emit = topk_onnx,
    .torch = "x.topk({k})",
    .samples = topk_samples,
};
