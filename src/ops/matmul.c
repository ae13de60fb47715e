/* matmul: c_ij = sum_k a_ik b_kj, for each item of the leading dimensions.
 *
 *   a [..., M, K], b [..., K, N]  ->  c [..., M, N]
 *
 * Each element is one chain of multiply-adds in rising k, cut at multiples of GEMM_KC, whatever M, the
 * batch or the thread are (cpu/gemm.h), so the three f32 kernels differ in what they pack, not in bits:
 *
 *   split    only for nodes whose K counts rows of data (the gradient of a weight): K is cut every
 *            MATMUL_SPLIT rows, each piece makes a whole C, and the pieces are added in order. So all
 *            threads work though C is small.
 *   batched  many small products: each packs its own B into the thread's scratch.
 *   packed   B is packed once for all, then rows of C are shared out.
 *
 * Gradient: dA = dC B^T, dB = A^T dC. The node wants equal leading dimensions; heed_matmul broadcasts, and
 * makes one product of [B,T,K] x [K,N] so that a linear layer and the gradient of its weight are one GEMM
 * each. */

#include "graph/number.h"
#include "graph/op.h"
#include "ops/ops.h"

#include <string.h>

#define MATMUL_SPLIT 512
#define MATMUL_SPLIT_MOST 32768 /* elements of C; larger ones have rows enough for all threads */
#define MATMUL_GRAIN 400e3      /* operations that are worth a chunk: some 4 microseconds */

static const op_slot matmul_in[] = {
    { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "y", .dtypes = FLOATS, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot matmul_out[] = { { .name = "product" }, SLOT_END };

typedef struct {
    bool split; /* K counts rows of data */
} matmul_attrs;
static const op_field matmul_fields[] = { FIELD_BOOL(matmul_attrs, split), FIELD_END };

static heed_status matmul_infer(op_infer *t)
{
    const heed_type *x = &t->in[0], *y = &t->in[1];
    const int r = x->rank;

    if (r < 2 || y->rank != r)
        return heed__refuse(t, HEED_ERR_SHAPE, "wants two values of one rank >= 2, got ranks %d and %d", r,
                            y->rank);
    for (int i = 0; i < r - 2; i++)
        if (x->dims[i] != y->dims[i])
            return heed__refuse(t, HEED_ERR_SHAPE, "leading sizes differ on axis %d: %lld and %lld", i,
                                (long long)x->dims[i], (long long)y->dims[i]);
    if (x->dims[r - 1] != y->dims[r - 2])
        return heed__refuse(t, HEED_ERR_SHAPE, "the left side has %lld columns but the right side %lld rows",
                            (long long)x->dims[r - 1], (long long)y->dims[r - 2]);
    t->out[0] = *x;
    t->out[0].dims[r - 1] = y->dims[r - 1];
    return HEED_OK;
}

static heed_value matmul_node(heed_builder *b, heed_value x, heed_value y, bool split)
{
    return heed__node(b, &heed__op_matmul, &(matmul_attrs){ split }, (heed_value[]){ x, y }, 2);
}

static void matmul_grad(op_grad *g)
{
    heed_value dc = g->dout[0];

    if (g->need[0])
        g->din[0] = matmul_node(g->b, dc, heed_transpose(g->b, g->in[1], -2, -1), false);
    if (g->need[1])
        g->din[1] = matmul_node(g->b, heed_transpose(g->b, g->in[0], -2, -1), dc, true);
}

typedef struct {
    int64_t batch, m, n, k;
} matmul_size;

static matmul_size matmul_sizes(const op_call *c)
{
    const heed_type *x = &c->in[0].type;
    const int r = x->rank;

    return (matmul_size){ heed__dims_product(x, 0, r - 2), x->dims[r - 2], c->in[1].type.dims[r - 1],
                          x->dims[r - 1] };
}

static double matmul_flops(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    return 2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k;
}

/* Where the matrix of one item of the leading dimensions begins, in elements. */
static int64_t matmul_offset(const view *v, int64_t item)
{
    int64_t offset = 0;

    for (int i = v->type.rank - 3; i >= 0; i--) {
        offset += item % v->type.dims[i] * v->strides[i];
        item /= v->type.dims[i];
    }
    return offset;
}

static matrix matmul_matrix(const view *v, int64_t item)
{
    const int r = v->type.rank;
    return (matrix){ (const float *)v->data + matmul_offset(v, item), v->strides[r - 2], v->strides[r - 1] };
}

static float *matmul_c(const op_call *c, const matmul_size *s, int64_t item)
{
    return (float *)c->out[0].data + item * s->m * s->n;
}

/* C rows [begin, end) of one item; an empty sum is zero. */
static void matmul_rows(const op_call *c, const matmul_size *s, int64_t item, const float *packed,
                        int64_t begin, int64_t end)
{
    float *to = matmul_c(c, s, item);

    if (s->k == 0)
        memset(to + begin * s->n, 0, (size_t)((end - begin) * s->n) * sizeof(float));
    else
        c->gemm->rows(to, s->n, matmul_matrix(&c->in[0], item), packed, begin, end, s->n, s->k, false,
                      c->scratch[0]);
}

/* ---- packed: items are row tiles of the micro-kernel's height ---- */

static size_t matmul_packed_bytes(const op_call *c, int64_t k, int64_t n)
{
    return (c->gemm->packed_bytes(k, n) + 63) & ~(size_t)63;
}

static int64_t matmul_tiles(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    return s.n ? s.batch * i64_ceil_div(s.m, c->gemm->mr) : 0;
}

static int64_t matmul_tile_chunk(const op_call *c)
{
    const int64_t tiles = matmul_tiles(c);
    const double each = matmul_flops(c) / (double)i64_max(1, tiles);
    const int64_t worth = each < MATMUL_GRAIN ? (int64_t)(MATMUL_GRAIN / (each + 1)) + 1 : 1;

    return i64_max(worth, i64_min(6, i64_ceil_div(tiles, 16)));
}

static size_t matmul_scratch(const op_call *c)
{
    return c->gemm->scratch_bytes();
}

static size_t matmul_shared(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    return matmul_packed_bytes(c, s.k, s.n) * (size_t)s.batch;
}

static float *matmul_packed_at(const op_call *c, const matmul_size *s, int64_t item)
{
    return (float *)(void *)((char *)c->shared + matmul_packed_bytes(c, s->k, s->n) * (size_t)item);
}

/* The first item that has the same B: one that is broadcast along all leading dimensions is packed once. */
static int64_t matmul_packed_item(const view *y, int64_t item)
{
    for (int i = 0; i < y->type.rank - 2; i++)
        if (y->strides[i] != 0 && y->type.dims[i] > 1)
            return item;
    return 0;
}

static int64_t matmul_panels(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    return s.m && s.k ? s.batch * i64_ceil_div(s.n, c->gemm->nr) : 0;
}

static void matmul_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const matmul_size s = matmul_sizes(c);
    const int64_t panels = i64_ceil_div(s.n, c->gemm->nr);

    for (int64_t i = begin; i < end; i++) {
        const int64_t item = i / panels, panel = i % panels;
        if (matmul_packed_item(&c->in[1], item) == item)
            c->gemm->pack(matmul_packed_at(c, &s, item), matmul_matrix(&c->in[1], item), s.k, s.n, panel,
                          panel + 1);
    }
}

static void matmul_run(const op_call *c, int64_t begin, int64_t end)
{
    const matmul_size s = matmul_sizes(c);
    const int64_t mr = c->gemm->mr, tiles = i64_ceil_div(s.m, mr);

    for (int64_t i = begin, next; i < end; i = next) {
        const int64_t item = i / tiles, first = i % tiles;
        const int64_t last = i64_min(tiles, first + (end - i));
        matmul_rows(c, &s, item, matmul_packed_at(c, &s, matmul_packed_item(&c->in[1], item)), first * mr,
                    i64_min(s.m, last * mr));
        next = i + (last - first);
    }
}

/* ---- batched: items are whole products ---- */

static bool matmul_batched_accepts(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);

    return heed__all_f32(c) && s.batch >= 8 && c->gemm->packed_bytes(s.k, s.n) <= 256 * 1024;
}

static int64_t matmul_batched_count(const op_call *c)
{
    return heed_type_count(&c->out[0].type) ? matmul_sizes(c).batch : 0;
}

static int64_t matmul_batched_chunk(const op_call *c)
{
    const int64_t batch = matmul_sizes(c).batch;
    return i64_min(i64_ceil_div(batch, 2),
                   (int64_t)(MATMUL_GRAIN * (double)batch / (matmul_flops(c) + 1)) + 1);
}

static size_t matmul_batched_scratch(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    const size_t a = c->gemm->scratch_bytes(), b = c->gemm->packed_bytes(s.k, s.n);
    return a > b ? a : b;
}

static void matmul_batched_run(const op_call *c, int64_t begin, int64_t end)
{
    const matmul_size s = matmul_sizes(c);
    const float *packed = NULL;

    for (int64_t i = begin; i < end; i++) {
        const matrix y = matmul_matrix(&c->in[1], i);
        if (y.data != packed)
            c->gemm->pack(c->scratch[1], y, s.k, s.n, 0, i64_ceil_div(s.n, c->gemm->nr));
        packed = y.data;
        matmul_rows(c, &s, i, c->scratch[1], 0, s.m);
    }
}

/* ---- split: items are pieces of K ---- */

static bool matmul_split_accepts(const op_call *c)
{
    const matmul_attrs *a = c->attrs;
    return a->split && heed__all_f32(c) && c->in[0].type.rank == 2 &&
           heed_type_count(&c->out[0].type) <= MATMUL_SPLIT_MOST;
}

static int64_t matmul_split_count(const op_call *c)
{
    return i64_ceil_div(matmul_sizes(c).k, MATMUL_SPLIT);
}

static size_t matmul_split_scratch(const op_call *c)
{
    const size_t a = c->gemm->scratch_bytes(), b = c->gemm->packed_bytes(MATMUL_SPLIT, matmul_sizes(c).n);
    return a > b ? a : b;
}

static size_t matmul_split_partial(const op_call *c)
{
    return (size_t)heed_type_count(&c->out[0].type) * sizeof(float);
}

static void matmul_split_run(const op_call *c, int64_t begin, int64_t end)
{
    const matmul_size s = matmul_sizes(c);

    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i * MATMUL_SPLIT, k = i64_min(s.k - first, MATMUL_SPLIT);
        matrix x = matmul_matrix(&c->in[0], 0), y = matmul_matrix(&c->in[1], 0);
        x.data += first * x.cs;
        y.data += first * y.rs;
        c->gemm->pack(c->scratch[1], y, k, s.n, 0, i64_ceil_div(s.n, c->gemm->nr));
        c->gemm->rows(c->partial, s.n, x, c->scratch[1], 0, s.m, s.n, k, false, c->scratch[0]);
    }
}

static void matmul_split_finish(const op_call *c)
{
    const int64_t n = heed_type_count(&c->out[0].type);
    float *to = c->out[0].data;

    memset(to, 0, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < c->chunks; i++)
        c->row->add_scaled(
            to, (const float *)(const void *)((const char *)c->partial + i * c->partial_stride), 1, n);
}

/* ---- reference: one chain in rising k, any dtype and strides ---- */

static int64_t matmul_reference_count(const op_call *c)
{
    const matmul_size s = matmul_sizes(c);
    return s.batch * s.m;
}

static void matmul_reference(const op_call *c, int64_t begin, int64_t end)
{
    const matmul_size s = matmul_sizes(c);
    const view *x = &c->in[0], *y = &c->in[1], *z = &c->out[0];
    const heed_dtype dtype = x->type.dtype;
    const int row = x->type.rank - 2, column = row + 1;

    for (int64_t i = begin; i < end; i++) {
        const int64_t item = i / s.m, at = i % s.m;
        const int64_t x0 = matmul_offset(x, item) + at * x->strides[row], y0 = matmul_offset(y, item);
        const int64_t z0 = matmul_offset(z, item) + at * z->strides[row];
        for (int64_t j = 0; j < s.n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < s.k; k++)
                sum += heed__number_get(dtype, x->data, x0 + k * x->strides[column]) *
                       heed__number_get(dtype, y->data, y0 + k * y->strides[row] + j * y->strides[column]);
            heed__number_put(dtype, z->data, z0 + j * z->strides[column], sum);
        }
    }
}

static const op_kernel matmul_cpu[] = {
    { .name = "split", .layout = STRIDED, .chunk = 1, .accepts = matmul_split_accepts,
      .count = matmul_split_count,
      .scratch = matmul_split_scratch, .partial = matmul_split_partial, .run = matmul_split_run,
      .finish = matmul_split_finish },
    { .name = "batched", .layout = STRIDED, .accepts = matmul_batched_accepts, .count = matmul_batched_count,
      .chunk_of = matmul_batched_chunk, .scratch = matmul_batched_scratch, .run = matmul_batched_run },
    { .name = "packed", .layout = STRIDED, .accepts = heed__all_f32, .count = matmul_tiles,
      .chunk_of = matmul_tile_chunk,
      .scratch = matmul_scratch, .shared = matmul_shared, .prepare_count = matmul_panels,
      .prepare = matmul_prepare,
      .run = matmul_run },
    { .name = "reference", .layout = STRIDED, .chunk = 8, .count = matmul_reference_count,
      .run = matmul_reference },
    KERNEL_END,
};

static const op_sample matmul_samples[] = {
    { .in = { DIMS(33, 47), DIMS(47, 29) }, .attrs = &(const matmul_attrs){ 0 } },
    /* K is cut at GEMM_KC */
    { .in = { DIMS(5, 600), DIMS(600, 7) }, .attrs = &(const matmul_attrs){ 0 } },
    /* and at MATMUL_SPLIT */
    { .in = { DIMS(6, 1100), DIMS(1100, 5) }, .attrs = &(const matmul_attrs){ true } },
    { .in = { DIMS(3, 4, 9, 5), DIMS(3, 4, 5, 17) }, .attrs = &(const matmul_attrs){ 0 } }, /* batched */
    { .in = { DIMS(2, 70, 31), DIMS(2, 31, 65) }, .attrs = &(const matmul_attrs){ true } },
    { .in = { DIMS(1, 300), DIMS(300, 40) }, .attrs = &(const matmul_attrs){ 0 }, .scale = 1e4 },
    /* empty sums are zeros */
    { .in = { DIMS(4, 0), DIMS(0, 3) }, .attrs = &(const matmul_attrs){ 0 } },
    { .in = { DIMS(0, 4), DIMS(4, 3) }, .attrs = &(const matmul_attrs){ true } },
    { .in = { DIMS(2, 3), DIMS(4, 3) }, .attrs = &(const matmul_attrs){ 0 }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

/* Leading sizes of both by NumPy's rule into dims; their number, or -1 when they do not fit. */
static int matmul_leading(const heed_type *x, const heed_type *y, int64_t dims[HEED_MAX_RANK])
{
    const int rank = x->rank > y->rank ? x->rank - 2 : y->rank - 2;

    for (int i = 0; i < rank; i++) {
        const int ix = i - (rank - (x->rank - 2)), iy = i - (rank - (y->rank - 2));
        const int64_t nx = ix < 0 ? 1 : x->dims[ix], ny = iy < 0 ? 1 : y->dims[iy];
        if (nx != ny && nx != 1 && ny != 1)
            return -1;
        dims[i] = nx == 1 ? ny : nx;
    }
    return rank;
}

static heed_value matmul_stretch(heed_builder *b, heed_value x, int leading, int64_t dims[HEED_MAX_RANK])
{
    const heed_type t = heed_value_type(b, x);

    dims[leading] = t.dims[t.rank - 2];
    dims[leading + 1] = t.dims[t.rank - 1];
    if (t.rank == leading + 2 && memcmp(t.dims, dims, (size_t)t.rank * sizeof *dims) == 0)
        return x;
    return heed_broadcast(b, x, leading + 2, dims);
}

heed_value heed_matmul(heed_builder *b, heed_value x, heed_value y)
{
    heed_type tx = heed_value_type(b, x), ty = heed_value_type(b, y);
    const bool row = tx.rank == 1,
               column = ty.rank == 1; /* vectors: a size of 1 is put in and taken out again */
    int64_t dims[HEED_MAX_RANK];
    heed_value z;

    if (heed__poisoned(b) || tx.rank == 0 || ty.rank == 0)
        return heed__poison(b, HEED_ERR_SHAPE, "matmul: wants values of rank >= 1, got ranks %d and %d",
                            tx.rank, ty.rank);
    if (row)
        x = heed_unsqueeze(b, x, 0);
    if (column)
        y = heed_unsqueeze(b, y, 1);
    tx = heed_value_type(b, x);
    ty = heed_value_type(b, y);

    if (ty.rank == 2 && tx.rank > 2) {
        const int64_t k = tx.dims[tx.rank - 1];
        z = heed_reshape(b, x, 2, (const int64_t[]){ heed__dims_product(&tx, 0, tx.rank - 1), k });
        z = matmul_node(b, z, y, false);
        tx.dims[tx.rank - 1] = ty.dims[1];
        z = heed_reshape(b, z, tx.rank, tx.dims);
    } else {
        const int leading = matmul_leading(&tx, &ty, dims);
        if (leading < 0)
            return heed__poison(b, HEED_ERR_SHAPE, "matmul: leading sizes do not broadcast");
        x = matmul_stretch(b, x, leading, dims);
        y = matmul_stretch(b, y, leading, dims);
        z = matmul_node(b, x, y, false);
    }
    if (column)
        z = heed_squeeze(b, z, -1);
    return row ? heed_squeeze(b, z, column ? -1 : -2) : z;
}

const op_def heed__op_matmul = {
    .name = "matmul", .version = 1, .in = matmul_in, .out = matmul_out, .attrs_size = sizeof(matmul_attrs),
    .fields = matmul_fields, .flags = OP_STRETCHES_LEADING, .infer = matmul_infer, .grad = matmul_grad,
    .cpu = matmul_cpu,
    .flops = matmul_flops,
    .onnx = { "MatMul", 13 }, .torch = "matmul(x, y)", .samples = matmul_samples,
};
