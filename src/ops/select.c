/* select: z = condition ? x : y, element by element; the three have one shape (heed_select broadcasts).
 *
 * Gradient: d_x = condition ? dz : 0, d_y = condition ? 0 : dz. What was not chosen has no influence at
 * all, be it NaN. */

#include "ops/reference.h"

#include <string.h>

static const op_slot select_in[] = {
    { .name = "condition", .dtypes = BOOLS },
    { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE },
    { .name = "y", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE, .same_as = "x" },
    SLOT_END,
};
static const op_slot select_out[] = { { .name = "z", .same_as = "x" }, SLOT_END };

static heed_status select_infer(op_infer *t)
{
    heed_type c = t->in[0];

    c.dtype = t->in[1].dtype;
    if (!heed_type_equal(&c, &t->in[1]) || !heed_type_equal(&t->in[1], &t->in[2]))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "all three must have the same sizes here; heed_select broadcasts them");
    return HEED_OK;
}

static void select_grad(op_grad *g)
{
    heed_type t = heed_value_type(g->b, g->dout[0]);
    heed_value zero = heed__zeros(g->b, &t);

    if (g->need[1])
        g->din[1] = heed_select(g->b, g->in[0], g->dout[0], zero);
    if (g->need[2])
        g->din[2] = heed_select(g->b, g->in[0], zero, g->dout[0]);
}

/* Elements are moved, not understood: one loop for each width. */
typedef void select_loop(void *z, const uint8_t *c, const void *x, const void *y, const int64_t step[4],
                         int64_t n);

#define SELECT_LOOP(type)                                                                                    \
    static void select_##type(void *to, const uint8_t *c, const void *from_x, const void *from_y,            \
                              const int64_t step[4], int64_t n)                                              \
    {                                                                                                        \
        const int64_t sz = step[0], sc = step[1], sx = step[2], sy = step[3];                                \
        const type *x = from_x, *y = from_y;                                                                 \
        type *z = to;                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            type yes[LANES], no[LANES];                                                                      \
            uint8_t keep[LANES];                                                                             \
                                                                                                             \
            LOAD_LANES(keep, c + i * sc, sc);                                                                \
            LOAD_LANES(yes, x + i * sx, sx);                                                                 \
            LOAD_LANES(no, y + i * sy, sy);                                                                  \
            for (int j = 0; j < LANES; j++)                                                                  \
                yes[j] = keep[j] ? yes[j] : no[j];                                                           \
            STORE_LANES(z + i * sz, sz, yes);                                                                \
        }                                                                                                    \
        for (; i < n; i++)                                                                                   \
            z[i * sz] = c[i * sc] ? x[i * sx] : y[i * sy];                                                   \
    }                                                                                                        \
                                                                                                             \
    static void copy_##type(void *to, const void *from, int64_t sz, int64_t sx, int64_t n)                   \
    {                                                                                                        \
        type *z = to;                                                                                        \
        const type *x = from;                                                                                \
                                                                                                             \
        if (sx == 0) {                                                                                       \
            const type same = *x;                                                                            \
                                                                                                             \
            for (int64_t i = 0; i < n; i++)                                                                  \
                z[i * sz] = same;                                                                            \
        } else {                                                                                             \
            for (int64_t i = 0; i < n; i++)                                                                  \
                z[i * sz] = x[i * sx];                                                                       \
        }                                                                                                    \
    }

SELECT_LOOP(uint8_t)
SELECT_LOOP(uint16_t)
SELECT_LOOP(uint32_t)
SELECT_LOOP(uint64_t)

typedef void copy_loop(void *z, const void *x, int64_t step_z, int64_t step_x, int64_t n);

static copy_loop *const copy_width[] = { [1] = copy_uint8_t, [2] = copy_uint16_t, [4] = copy_uint32_t, [8] = copy_uint64_t };

static select_loop *const select_width[] = {
    [1] = select_uint8_t, [2] = select_uint16_t, [4] = select_uint32_t, [8] = select_uint64_t
};

/* One condition for n elements, as of a mask of rows: they are moved, and where they lie already nothing is. Rows of padding that
 * are cleared in place cost what the padding does. */
static void select_one(const pieces *p, void *const *at, int64_t n)
{
    const int from = *(const uint8_t *)at[1] ? 2 : 3;

    if (at[from] == at[0] && p->w.step[from] == p->w.step[0])
        return;
    if (p->w.step[0] == 1 && p->w.step[from] == 1)
        memmove(at[0], at[from], (size_t)(n * p->width[0]));
    else
        copy_width[p->width[0]](at[0], at[from], p->w.step[0], p->w.step[from], n);
}

static void select_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *v[] = { &c->out[0], &c->in[0], &c->in[1], &c->in[2] };
    void *at[WALK_VIEWS];
    pieces p;

    heed__pieces(&p, 4, v, begin);
    for (int64_t n; begin < end; begin += n) {
        n = heed__take_piece(&p, end - begin, at);
        if (p.w.step[1] == 0)
            select_one(&p, at, n);
        else
            select_width[p.width[0]](at[0], at[1], at[2], at[3], p.w.step, n);
    }
}

static const op_kernel select_cpu[] = {
    { .name = "loop", .layout = STRIDED, .chunk = MAP_CHUNK, .count = heed__element_count,
      .run = select_run },
    KERNEL_END,
};

static const op_sample select_samples[] = {
    { .in = { MASK(4, 1000), DIMS(4, 1000), DIMS(4, 1000) } },
    { .in = { MASK(3, 5, 17), DIMS(3, 5, 17), DIMS(3, 5, 17) }, .scale = 1e4 },
    { .in = { MASK(33), INDEX(100, 33), INDEX(100, 33) } },
    { .in = { MASK(2, 0), DIMS(2, 0), DIMS(2, 0) } },
    { .in = { MASK(3), DIMS(4), DIMS(4) }, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(4), DIMS(4), DIMS(4) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_select(heed_builder *b, heed_value condition, heed_value x, heed_value y)
{
    if (!heed__broadcast_pair(b, &x, &y) || !heed__broadcast_pair(b, &condition, &x) ||
        !heed__broadcast_pair(b, &x, &y))
        return (heed_value){ 0 };
    return heed__node(b, &heed__op_select, NULL, (heed_value[]){ condition, x, y }, 3);
}

const op_def heed__op_select = {
    .name = "select", .version = 1, .in = select_in, .out = select_out, .flags = OP_IN_PLACE | OP_STRETCHES,
    .infer = select_infer,
    .grad = select_grad, .cpu = select_cpu, .onnx = { "Where", 16 }, .torch = "torch.where(condition, x, y)",
    .samples = select_samples,
};
