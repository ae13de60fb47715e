/* put_rows: x with rows written at the places that an index names, for each sequence its own.
 *
 *   x [B,H,C,D], update [B,H,T,D], slot i64 [B,T] -> y like x,   y[b,h,slot[b,i],:] = update[b,h,i,:]
 *
 * A slot outside 0 .. C-1 is a row that is not written; of rows with one slot the last stays. A KV cache
 * appends with it: y may overwrite x, and then only the new rows are written. Gradient: dx is dy with zeros
 * written there; d_update is dy at the slots, for the rows that stayed.
 *
 * spare: where the slots are, x has nothing that anybody reads, nor y as long as the run has not ended: rows
 * behind the length of a cache. Such rows may be written before a later step ends the run. */

#include "ops/ops.h"
#include "ops/reference.h"

#include <string.h>

static const op_slot put_rows_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    { .name = "update", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE, .same_as = "x" },
    { .name = "slot", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot put_rows_out[] = { { .name = "y", .same_as = "x", .over = "x" }, SLOT_END };

typedef struct put_rows_attrs {
    bool spare;
} put_rows_attrs;

static const op_field put_rows_fields[] = { FIELD_BOOL(put_rows_attrs, spare), FIELD_END };

static bool put_rows_spare(const void *attrs)
{
    return ((const put_rows_attrs *)attrs)->spare;
}

static heed_status put_rows_infer(op_infer *t)
{
    const heed_type *x = &t->in[0], *u = &t->in[1], *slot = &t->in[2];

    if (x->rank != 4 || u->rank != 4 || slot->rank != 2)
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "x and update must be [B,H,rows,D] and slot [B,T]; their ranks are %d, %d and %d",
                            x->rank, u->rank, slot->rank);
    if (u->dims[0] != x->dims[0] || u->dims[1] != x->dims[1] || u->dims[3] != x->dims[3])
        return heed__refuse(t, HEED_ERR_SHAPE, "update may differ from x in its rows only (axis 2)");
    if (slot->dims[0] != u->dims[0] || slot->dims[1] != u->dims[2])
        return heed__refuse(t, HEED_ERR_SHAPE, "slot must be [%lld,%lld], one for each row of each sequence",
                            (long long)u->dims[0], (long long)u->dims[2]);
    return HEED_OK;
}

/* x [B,H,C,D] at the slots: [B,H,T,D]. What stands for a slot outside is some other row. */
static heed_value put_rows_read(heed_builder *b, heed_value x, heed_value slot)
{
    const heed_type t = heed_value_type(b, x);
    const int64_t first[] = { t.dims[0], 1 };
    heed_value lines = heed_reshape(b, heed_transpose(b, x, 1, 2), 3,
                                    (const int64_t[]){ t.dims[0] * t.dims[2], t.dims[1], t.dims[3] });
    heed_value sequence = heed_iota(b, heed_type_of(HEED_I64, 2, first), 0);

    slot = heed_min(b, slot, heed_scalar(b, HEED_I64, (double)(t.dims[2] - 1)));
    slot = heed_max(b, slot, heed_scalar(b, HEED_I64, 0));
    slot = heed_add(b, slot, heed_mul_scalar(b, sequence, (double)t.dims[2]));
    return heed_transpose(b, heed_gather(b, lines, slot, 0), 1, 2);
}

/* bool [B,1,T,1]: rows that y shows. Each writes its number over -1, and looks whether it still stands. */
static heed_value put_rows_stayed(heed_builder *b, heed_value slot, int64_t places)
{
    const heed_type t = heed_value_type(b, slot);
    const int64_t all[] = { t.dims[0], 1, places, 1 }, rows_n[] = { t.dims[0], 1, t.dims[1], 1 };
    heed_value number = heed_iota(b, heed_type_of(HEED_I64, 4, rows_n), 2), owner, inside;

    owner = heed_put_rows(b, heed_full(b, heed_type_of(HEED_I64, 4, all), -1), number, slot);
    inside = heed_and(b, heed_ge(b, slot, heed_scalar(b, HEED_I64, 0)),
                      heed_lt(b, slot, heed_scalar(b, HEED_I64, (double)places)));
    return heed_and(b, heed_eq(b, put_rows_read(b, owner, slot), number), heed_reshape(b, inside, 4, rows_n));
}

static void put_rows_grad(op_grad *g)
{
    const heed_type x = heed_value_type(g->b, g->in[0]), u = heed_value_type(g->b, g->in[1]);
    const heed_value zeros = heed__zeros(g->b, &u);

    if (g->need[0])
        g->din[0] = heed_put_rows(g->b, g->dout[0], zeros, g->in[2]);
    if (g->need[1] && (x.dims[2] == 0 || heed_type_count(&u) == 0))
        g->din[1] = zeros;
    else if (g->need[1])
        g->din[1] = heed_select(g->b, put_rows_stayed(g->b, g->in[2], x.dims[2]),
                                put_rows_read(g->b, g->dout[0], g->in[2]), zeros);
}

/* An item is one head of one sequence. */
static int64_t put_rows_count(const op_call *c)
{
    return heed__dims_product(&c->in[0].type, 0, 2);
}

static int64_t put_rows_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / i64_max(1, heed__dims_product(&c->in[1].type, 2, 4)));
}

static void put_rows_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *slot = &c->in[2];
    const int64_t heads = c->in[0].type.dims[1], places = c->in[0].type.dims[2], n = c->in[1].type.dims[2];
    const int64_t width = c->in[0].type.dims[3],
                  bytes = (int64_t)heed_dtype_size(c->in[0].type.dtype);

    for (int64_t item = begin; item < end; item++) {
        const view x = heed__item(&c->in[0], 2, item), u = heed__item(&c->in[1], 2, item);
        const view y = heed__item(&c->out[0], 2, item);
        const bool dense = width <= 1 || (u.strides[1] == 1 && y.strides[1] == 1);

        if (y.data != x.data)
            heed__copy_elements(&y, &x, 0, places * width);
        for (int64_t i = 0; i < n; i++) {
            const int64_t at =
                ((const int64_t *)slot->data)[item / heads * slot->strides[0] + i * slot->strides[1]];

            if (at < 0 || at >= places)
                continue;
            if (dense) {
                memcpy((char *)y.data + at * y.strides[0] * bytes,
                       (const char *)u.data + i * u.strides[0] * bytes, (size_t)(width * bytes));
            } else {
                const view to = heed__part(&y, 0, at, 1), from = heed__part(&u, 0, i, 1);

                heed__copy_elements(&to, &from, 0, width);
            }
        }
    }
}

/* Rows are moved; the rest of x may not even be touched. */
static double put_rows_flops(const op_call *c)
{
    return (double)heed_type_count(&c->in[1].type);
}

static const op_kernel put_rows_cpu[] = {
    { .name = "rows", .layout = STRIDED, .count = put_rows_count, .chunk_of = put_rows_chunk,
      .run = put_rows_run },
    KERNEL_END,
};

#define SEEN &(const put_rows_attrs){ false }
#define SPARE &(const put_rows_attrs){ true }
/* Slots reach beyond C: rows that are not written. Of eight rows for five places some meet. */
static const op_sample put_rows_samples[] = {
    { .in = { DIMS(3, 2, 7, 5), DIMS(3, 2, 1, 5), INDEX(9, 3, 1) }, .attrs = SPARE },
    { .in = { DIMS(2, 3, 5, 4), DIMS(2, 3, 8, 4), INDEX(6, 2, 8) }, .attrs = SEEN, .scale = 1e4 },
    { .in = { DIMS(2, 1, 6, 1), DIMS(2, 1, 4, 1), INDEX(6, 2, 4) }, .attrs = SEEN },
    { .in = { MASK(1, 2, 4, 3), MASK(1, 2, 2, 3), INDEX(4, 1, 2) }, .attrs = SEEN },
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 0, 4), INDEX(3, 2, 0) }, .attrs = SEEN },
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 1, 4), INDEX(3, 2, 2) }, .attrs = SEEN, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(2, 2, 3, 4), DIMS(2, 2, 1, 5), INDEX(3, 2, 1) }, .attrs = SEEN, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(2, 3, 4), DIMS(2, 1, 4), INDEX(3, 2, 1) }, .attrs = SEEN, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

heed_value heed_put_rows(heed_builder *b, heed_value x, heed_value update, heed_value slot)
{
    return heed__node(b, &heed__op_put_rows, SEEN, (heed_value[]){ x, update, slot }, 3);
}

heed_value heed__put_spare_rows(heed_builder *b, heed_value x, heed_value update, heed_value slot)
{
    return heed__node(b, &heed__op_put_rows, SPARE, (heed_value[]){ x, update, slot }, 3);
}

const op_def heed__op_put_rows = {
    .name = "put_rows", .version = 1, .in = put_rows_in, .out = put_rows_out,
    .flags = OP_PATCHES, .attrs_size = sizeof(put_rows_attrs), .fields = put_rows_fields, .infer = put_rows_infer,
    .spare = put_rows_spare,
    .grad = put_rows_grad, .cpu = put_rows_cpu, .flops = put_rows_flops,
    .torch = "x.scatter(2, slot[:, None, :, None].expand_as(update), update)",
    .samples = put_rows_samples,
};
