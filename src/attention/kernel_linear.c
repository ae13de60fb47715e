/* linear_attention and its gradient by running sums: items are heads, which go through their tiles in order. */

#include "attention/kernel.h"

#define LINEAR_DENSE (KERNEL_BIT(AT_LENGTHS) | KERNEL_BIT(AT_Q_LENGTHS) | KERNEL_BIT(AT_OFFSET))

static const char *linear_refuses(const op_call *c)
{
    if (!heed__all_f32(c))
        return "a dtype other than f32";
    return heed__attention_ops(c->isa) ? NULL : "this instruction level";
}

/* Two products a query and two a key, and those of one tile beside each. */
double heed__linear_attention_flops(const op_call *c)
{
    const double d = (double)kernel_size(c, AT_Q, 3), dv = (double)kernel_size(c, AT_V, 3) + 1,
                 heads = (double)(kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1));

    return 2 * heads *
           ((double)kernel_size(c, AT_Q, 2) * (d * dv + (d + dv) * ATTENTION_TILE / 2) +
            (double)kernel_size(c, AT_K, 2) * d * dv);
}

double heed__linear_attention_grad_flops(const op_call *c)
{
    return 4 * heed__linear_attention_flops(c);
}

/* ---- forward ---- */

static int64_t linear_count(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1);
}

static int64_t linear_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__linear_attention_flops(c), linear_count(c));
}

static size_t linear_scratch(const op_call *c)
{
    return heed__attention_ops(c->isa)->linear_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));
}

static void linear_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_Q, 1);

    for (int64_t item = begin; item < end; item++) {
        const attention_head h = heed__kernel_head(c, item / heads, item % heads, NULL);
        const attention_result to = { .out = heed__kernel_out(c, 0, item),
                                      .weights = heed__kernel_out(c, 1, item) };

        heed__attention_ops(c->isa)->linear_forward(&h, &to, c->scratch);
    }
}

const op_kernel heed__linear_attention_cpu[] = {
    { .name = "chunks",
      .layout = ROWS,
      .refuses = linear_refuses,
      .count = linear_count,
      .chunk_of = linear_chunk,
      .scratch = linear_scratch,
      .run = linear_run,
      .dense_in = LINEAR_DENSE },
    KERNEL_END,
};

/* ---- backward: key heads with all query heads that use them ---- */

static const char *back_refuses(const op_call *c)
{
    const char *why = linear_refuses(c);

    return why ? why : !kernel_given(c, LINEAR_DOUT) || kernel_given(c, LINEAR_DWEIGHTS) ? "dweights" : NULL;
}

static int64_t back_count(const op_call *c)
{
    return kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1);
}

static int64_t back_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__linear_attention_grad_flops(c), back_count(c));
}

static int64_t back_group(const op_call *c)
{
    return kernel_size(c, AT_Q, 1) / kernel_size(c, AT_K, 1);
}

/* Behind the level's own part of each area, the first holds the heads of a group and the second their upstream. */
static size_t back_bytes(const op_call *c)
{
    const size_t bytes = heed__attention_ops(c->isa)->linear_backward_bytes(
        kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3), back_group(c) * kernel_size(c, AT_Q, 2));

    return (bytes + 63) & ~(size_t)63;
}

static size_t back_scratch(const op_call *c)
{
    const size_t each = sizeof(attention_head) > sizeof(attention_upstream) ? sizeof(attention_head)
                                                                            : sizeof(attention_upstream);

    return back_bytes(c) + (size_t)i64_max(1, back_group(c)) * each;
}

static void back_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_K, 1), group = back_group(c);
    const size_t own = back_bytes(c);
    const view *dout = &c->in[LINEAR_DOUT];
    op_call shared = *c; /* behind these inputs attention has others */
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_upstream *u = (attention_upstream *)(void *)((char *)c->scratch[1] + own);

    shared.n_in = LINEAR_INPUTS;
    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / heads, key_head = item % heads;

        h[0] = (attention_head){ .dk = kernel_size(c, AT_K, 3),
                                 .dv = kernel_size(c, AT_V, 3),
                                 .mask.tk = kernel_size(c, AT_K, 2) }; /* of no query head: zeros */
        for (int64_t g = 0; g < group; g++) {
            const int64_t head = key_head * group + g;

            h[g] = heed__kernel_head(&shared, b, head, NULL);
            u[g] =
                (attention_upstream){ .dout = kernel_at(dout, b, head),
                                      .dout_step = dout->strides[2],
                                      .dq = heed__kernel_out(c, AT_Q, b * kernel_size(c, AT_Q, 1) + head) };
        }
        heed__attention_ops(c->isa)->linear_backward(h, u, group, heed__kernel_out(c, AT_K, item),
                                                     heed__kernel_out(c, AT_V, item), c->scratch);
    }
}

const op_kernel heed__linear_attention_grad_cpu[] = {
    { .name = "chunks",
      .layout = ROWS,
      .refuses = back_refuses,
      .count = back_count,
      .chunk_of = back_chunk,
      .scratch = back_scratch,
      .run = back_run,
      .dense_in = LINEAR_DENSE },
    KERNEL_END,
};
