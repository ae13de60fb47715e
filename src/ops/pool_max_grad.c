/* pool_max_grad: dx[b,c,q] = sum of dy[b,c,p] over the p whose index is q, in rising p.
 *
 *   dy, indices [B,C,(H',)W']  ->  dx [B,C,(H,)W], H and W being attributes
 *
 * It is linear in dy; its transpose picks the elements at the indices, which is a gather. */

#include "graph/number.h"
#include "graph/op.h"
#include "ops/ops.h"
#include "ops/pool.h"

#include <string.h>

enum { DY, INDICES };
static const op_slot pool_max_grad_in[] = {
    { .name = "dy", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "indices", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot pool_max_grad_out[] = { { .name = "dx" }, SLOT_END };

typedef struct {
    field_i64s size; /* of dx, by spatial axis */
} pool_max_grad_attrs;
static const op_field pool_max_grad_fields[] = { FIELD_I64S(pool_max_grad_attrs, size), FIELD_END };

static heed_status pool_max_grad_infer(op_infer *t)
{
    const pool_max_grad_attrs *a = t->attrs;
    const heed_type *dy = &t->in[DY];
    heed_type like = t->in[INDICES];

    like.dtype = dy->dtype;
    if (!heed_type_equal(&like, dy) || dy->rank < 3 || dy->rank > 4 || a->size.n != dy->rank - 2)
        return heed__refuse(t, HEED_ERR_SHAPE, "wants dy and indices [B,C,(H,)W] of one shape");
    t->out[0] = *dy;
    for (int i = 0; i < a->size.n; i++)
        t->out[0].dims[2 + i] = a->size.v[i];
    return HEED_OK;
}

/* Index within a plane to index in the whole tensor, then a gather from all of it. */
static void pool_max_grad_grad(op_grad *g)
{
    const heed_type full = heed_value_type(g->b, g->dout[0]), pooled = heed_value_type(g->b, g->in[INDICES]);
    const int64_t planes = full.dims[0] * full.dims[1], plane = heed__dims_product(&full, 2, full.rank);
    const heed_type by_plane =
        heed_type_of(HEED_I64, 2, (const int64_t[]){ planes, heed__dims_product(&pooled, 2, pooled.rank) });
    heed_value first = heed_mul_scalar(g->b, heed_iota(g->b, by_plane, 0), (double)plane);
    heed_value index = heed_add(g->b, heed_reshape(g->b, g->in[INDICES], 2, by_plane.dims), first);
    heed_value flat = heed_reshape(g->b, g->dout[0], 1, (const int64_t[]){ planes * plane });

    g->din[DY] = heed_reshape(g->b, heed_gather(g->b, flat, index, 0), pooled.rank, pooled.dims);
}

static int64_t pool_max_grad_count(const op_call *c)
{
    return c->out[0].type.dims[0] * c->out[0].type.dims[1];
}

static int64_t pool_max_grad_chunk(const op_call *c)
{
    const int64_t plane = heed__dims_product(&c->out[0].type, 2, c->out[0].type.rank);
    return 16384 / i64_max(1, plane) + 1;
}

/* One plane, any indices; `first` is the number of its first one. */
static void pool_max_grad_plane(const op_call *c, float *dx, int64_t in, const float *dy,
                                const int64_t *index, int64_t out, int64_t first)
{
    memset(dx, 0, (size_t)in * sizeof(float));
    for (int64_t p = 0; p < out; p++) {
        if (index[p] >= 0 && index[p] < in)
            dx[index[p]] += dy[p];
        else
            heed__fault(c, first + p, HEED_ERR_LIMIT, index[p]);
    }
}

/* One plane as windows of 2 x 2 side by side; false when it is not, and dx is then unfinished. */
static bool pool_max_grad_quads(const op_call *c, float *dx, const int64_t in[2], const float *dy,
                                const int64_t *index, const int64_t out[2])
{
    for (int64_t p = 0; p < out[0]; p++) {
        float *upper = dx + 2 * p * in[1], *lower = upper + in[1];
        if (!c->row->max_quads_grad(upper, lower, dy + p * out[1], index + p * out[1], out[1], 2 * p * in[1],
                                    (int32_t)in[1]))
            return false;
        if (2 * out[1] < in[1]) /* a last odd column */
            upper[in[1] - 1] = lower[in[1] - 1] = 0;
    }
    memset(dx + 2 * out[0] * in[1], 0, (size_t)((in[0] - 2 * out[0]) * in[1]) * sizeof(float));
    return true;
}

static void pool_max_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const heed_type *full = &c->out[0].type, *pooled = &c->in[DY].type;
    const int64_t in[2] = { heed__dims_product(full, 2, full->rank - 1), full->dims[full->rank - 1] };
    const int64_t out[2] = { heed__dims_product(pooled, 2, full->rank - 1), pooled->dims[full->rank - 1] };
    const bool halves = in[0] / 2 == out[0] && in[1] / 2 == out[1] && in[1] < INT32_MAX;

    for (int64_t item = begin; item < end; item++) {
        const float *dy = (const float *)c->in[DY].data + item * out[0] * out[1];
        const int64_t *index = (const int64_t *)c->in[INDICES].data + item * out[0] * out[1];
        float *dx = (float *)c->out[0].data + item * in[0] * in[1];
        if (!halves || !pool_max_grad_quads(c, dx, in, dy, index, out))
            pool_max_grad_plane(c, dx, in[0] * in[1], dy, index, out[0] * out[1], item * out[0] * out[1]);
    }
}

static void pool_max_grad_reference(const op_call *c, int64_t begin, int64_t end)
{
    const heed_type *full = &c->out[0].type, *pooled = &c->in[DY].type;
    const heed_dtype dtype = full->dtype;
    const int64_t width = full->dims[full->rank - 1], height = heed__dims_product(full, 2, full->rank - 1);
    const int64_t columns = pooled->dims[full->rank - 1],
                  out = columns * heed__dims_product(pooled, 2, full->rank - 1);

    for (int64_t item = begin; item < end; item++) {
        const pool_plane dy = heed__pool_plane(&c->in[DY], item),
                         index = heed__pool_plane(&c->in[INDICES], item);
        const pool_plane dx = heed__pool_plane(&c->out[0], item);
        for (int64_t q = 0; q < height * width;
             q++) { /* one element of dx at a time, so that half precision rounds once */
            double sum = 0;
            for (int64_t p = 0; p < out; p++) {
                const int64_t to =
                    ((const int64_t *)c->in[INDICES]
                         .data)[index.at + p / columns * index.s[0] + p % columns * index.s[1]];
                if (to == q)
                    sum += heed__number_get(dtype, c->in[DY].data,
                                            dy.at + p / columns * dy.s[0] + p % columns * dy.s[1]);
                else if (to < 0 || to >= height * width)
                    heed__fault(c, item * out + p, HEED_ERR_LIMIT, to);
            }
            heed__number_put(dtype, c->out[0].data, dx.at + q / width * dx.s[0] + q % width * dx.s[1], sum);
        }
    }
}

static const op_kernel pool_max_grad_cpu[] = {
    { .name = "planes", .layout = DENSE, .accepts = heed__all_f32, .count = pool_max_grad_count,
      .chunk_of = pool_max_grad_chunk,
      .run = pool_max_grad_run },
    { .name = "reference", .layout = STRIDED, .chunk = 1, .count = pool_max_grad_count,
      .run = pool_max_grad_reference },
    KERNEL_END,
};

#define LIST(...) { (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } }
static const op_sample pool_max_grad_samples[] = {
    { .in = { DIMS(2, 3, 3, 3), INDEX(42, 2, 3, 3, 3) },
      .attrs = &(const pool_max_grad_attrs){ LIST(6, 7) } },
    /* several p to one q */
    { .in = { DIMS(3, 2, 9), INDEX(5, 3, 2, 9) }, .attrs = &(const pool_max_grad_attrs){ LIST(5) } },
    { .in = { DIMS(1, 2, 4, 4), INDEX(64, 1, 2, 4, 4) },
      .attrs = &(const pool_max_grad_attrs){ LIST(8, 8) }, .scale = 1e4 },
    { .in = { DIMS(0, 2, 2, 2), INDEX(16, 0, 2, 2, 2) },
      .attrs = &(const pool_max_grad_attrs){ LIST(4, 4) } },
    { .in = { DIMS(1, 2, 2, 2), INDEX(16, 1, 2, 2, 1) },
      .attrs = &(const pool_max_grad_attrs){ LIST(4, 4) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed__pool_max_grad(heed_builder *b, heed_value dy, heed_value indices, heed_type x)
{
    pool_max_grad_attrs a = { .size.n = x.rank - 2 };

    for (int i = 0; i < a.size.n && i < 2; i++)
        a.size.v[i] = x.dims[2 + i];
    return heed__node(b, &heed__op_pool_max_grad, &a, (heed_value[]){ dy, indices }, 2);
}

const op_def heed__op_pool_max_grad = {
    .name = "pool_max_grad", .version = 1, .in = pool_max_grad_in, .out = pool_max_grad_out,
    .flags = OP_FAULTS, .attrs_size = sizeof(pool_max_grad_attrs), .fields = pool_max_grad_fields, .infer = pool_max_grad_infer,
    .grad = pool_max_grad_grad, .cpu = pool_max_grad_cpu,
    .torch = "max_unpool2d with sums where windows overlap",
    .samples = pool_max_grad_samples,
};
