/* copy: y = x, dense. The planner puts it before kernels that cannot take the strides of a view; all
 * moving of elements in this room (pad, concat, reverse, slice ...) goes through the same loop.
 *
 * A transposed x is read in blocks of BLOCK x BLOCK elements, so that each line of memory fetched is used
 * whole. */

#include "ops/reference.h"

#include <string.h>

#define BLOCK 16

static const op_slot copy_in[] = { { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot copy_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

/* One loop for each width of an element: steps in elements, and so many lines, row_y and row_x elements
 * apart. */
typedef void copy_lines(void *to, const void *from, int64_t step_y, int64_t step_x, int64_t n, int64_t row_y,
                        int64_t row_x, int64_t lines);

#define COPY_LINES(type)                                                                                     \
    static void copy_##type(void *to, const void *from, int64_t step_y, int64_t step_x, int64_t n,           \
                            int64_t row_y,                                                                   \
                            int64_t row_x, int64_t lines)                                                    \
    {                                                                                                        \
        const int64_t block = lines > 1 ? BLOCK : n;                                                         \
                                                                                                             \
        for (int64_t j = 0; j < n; j += block)                                                               \
            for (int64_t r = 0; r < lines; r++) {                                                            \
                const int64_t last = i64_min(n, j + block);                                                  \
                type *y = (type *)to + r * row_y;                                                            \
                const type *x = (const type *)from + r * row_x;                                              \
                                                                                                             \
                for (int64_t i = j; i < last; i++)                                                           \
                    y[i * step_y] = x[i * step_x];                                                           \
            }                                                                                                \
    }

COPY_LINES(uint8_t)
COPY_LINES(uint16_t)
COPY_LINES(uint32_t)
COPY_LINES(uint64_t)

static copy_lines *const copy_width[] = { [1] = copy_uint8_t, [2] = copy_uint16_t, [4] = copy_uint32_t,
                                          [8] = copy_uint64_t };

/* Lines that lie BLOCK deep in memory order of `from`: how many whole runs may be taken together, 1 for
 * none. */
static int64_t lines_together(const pieces *p, int64_t left)
{
    const int d = p->w.rank - 1;

    if (d < 0 || p->taken > 0 || p->w.step[1] == 1 || p->w.strides[1][d] != p->width[1])
        return 1;
    return i64_max(1, i64_min(i64_min(BLOCK, p->w.dims[d] - p->index[d]), left / p->length));
}

void heed__copy_elements(const view *to, const view *from, int64_t begin, int64_t end)
{
    const view *v[] = { to, from };
    void *at[WALK_VIEWS], *skipped[WALK_VIEWS];
    pieces p;

    if (begin >= end)
        return;
    heed__pieces(&p, 2, v, begin);
    while (begin < end) {
        const int64_t lines = lines_together(&p, end - begin), d = p.w.rank - 1;
        const int64_t n = heed__take_piece(&p, end - begin, at);

        for (int64_t i = 1; i < lines; i++)
            (void)heed__take_piece(&p, n, skipped);
        if (p.w.step[0] == 1 && p.w.step[1] == 1)
            memmove(at[0], at[1], (size_t)(n * p.width[0]));
        else
            copy_width[p.width[0]](at[0], at[1], p.w.step[0], p.w.step[1], n,
                                   lines > 1 ? p.w.strides[0][d] / p.width[0] : 0, 1, lines);
        begin += n * lines;
    }
}

view heed__part(const view *v, int axis, int64_t begin, int64_t count)
{
    view part = *v;

    part.data = (char *)v->data + begin * v->strides[axis] * (int64_t)heed_dtype_size(v->type.dtype);
    part.type.dims[axis] = count;
    return part;
}

view heed__item(const view *v, int axes, int64_t item)
{
    view rest = { .type = { .dtype = v->type.dtype, .rank = v->type.rank - axes } };
    int64_t offset = 0;

    for (int i = axes - 1; i >= 0; i--) {
        offset += item % v->type.dims[i] * v->strides[i];
        item /= v->type.dims[i];
    }
    for (int i = axes; i < v->type.rank; i++) {
        rest.type.dims[i - axes] = v->type.dims[i];
        rest.strides[i - axes] = v->strides[i];
    }
    rest.data = (char *)v->data + offset * (int64_t)heed_dtype_size(v->type.dtype);
    return rest;
}

view heed__without(const view *v, int axis)
{
    view rest = { .data = v->data, .type = { .dtype = v->type.dtype } };

    for (int i = 0; i < v->type.rank; i++)
        if (i != axis) {
            rest.strides[rest.type.rank] = v->strides[i];
            rest.type.dims[rest.type.rank++] = v->type.dims[i];
        }
    return rest;
}

void heed__copy_view(const op_call *c, int64_t begin, int64_t end, op_view_fn *describe)
{
    view alias = { .type = c->out[0].type };
    int64_t offset = 0;

    if (!describe(c->attrs, &c->in[0], &alias, &offset))
        return; /* only reshape says no, and it asks for DENSE */
    alias.data = (char *)c->in[0].data + offset * (int64_t)heed_dtype_size(alias.type.dtype);
    heed__copy_elements(&c->out[0], &alias, begin, end);
}

/* Whole lines of blocks where rows are short enough. */
static int64_t copy_chunk(const op_call *c)
{
    const heed_type *t = &c->out[0].type;
    const int64_t row = t->rank > 0 ? t->dims[t->rank - 1] : 1;

    return i64_max(MAP_CHUNK, i64_min(2 * BLOCK, (1 << 18) / i64_max(1, row)) * row);
}

static void copy_run(const op_call *c, int64_t begin, int64_t end)
{
    heed__copy_elements(&c->out[0], &c->in[0], begin, end);
}

static const op_kernel copy_cpu[] = {
    { .name = "copy", .layout = STRIDED, .count = heed__element_count, .chunk_of = copy_chunk,
      .run = copy_run },
    KERNEL_END,
};

static void copy_grad(op_grad *g)
{
    g->din[0] = g->dout[0];
}

static const op_sample copy_samples[] = {
    { .in = { DIMS(40, 33) } },
    { .in = { DIMS(3, 5, 17, 2) }, .scale = 1e4 },
    { .in = { MASK(7, 9) } },
    { .in = { INDEX(100, 130, 20) } },
    { .in = { DIMS(4, 0, 3) } },
    SAMPLE_END,
};

const op_def heed__op_copy = {
    .name = "copy", .version = 1, .in = copy_in, .out = copy_out, .grad = copy_grad, .cpu = copy_cpu,
    .onnx = { "Identity", 13 }, .torch = "x.contiguous()", .samples = copy_samples,
};
