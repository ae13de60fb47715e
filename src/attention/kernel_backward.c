/* attention_grad in tiles: items are key heads, each with all query heads that use it, so that every sum has one owner and a
 * fixed order. */

#include "attention/kernel_rows.h"

static const char *backward_refuses(const op_call *c)
{
    const char *why = heed__kernel_unserved(c);

    return why ? why : !kernel_given(c, AT_DOUT) || kernel_given(c, AT_DWEIGHTS) ? "dweights" : NULL;
}

static int64_t backward_count(const op_call *c)
{
    return kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1);
}

static int64_t backward_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__attention_grad_flops(c), backward_count(c));
}

/* Behind the level's own part of each area, the first holds the heads of a group and the second their upstream. */
static int64_t backward_group(const op_call *c)
{
    return kernel_size(c, AT_Q, 1) / kernel_size(c, AT_K, 1);
}

static size_t backward_bytes(const op_call *c)
{
    const size_t bytes = heed__attention_ops(c->isa)->backward_bytes(
        kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3), backward_group(c) * kernel_size(c, AT_Q, 2));

    return (bytes + 63) & ~(size_t)63;
}

static size_t backward_scratch(const op_call *c)
{
    const size_t each = sizeof(attention_head) > sizeof(attention_upstream) ? sizeof(attention_head)
                                                                            : sizeof(attention_upstream);

    return backward_bytes(c) + (size_t)backward_group(c) * each;
}

static attention_upstream backward_upstream(const op_call *c, const attention_head *h, int64_t b,
                                            int64_t head)
{
    const view *dout = &c->in[AT_DOUT];
    const int64_t tq = h->mask.tq, at = b * kernel_size(c, AT_Q, 1) + head;

    return (attention_upstream){ .out = (const float *)c->in[AT_OUT].data + at * tq * h->dv,
                                 .lse = (const float *)c->in[AT_LSE].data + at * tq,
                                 .dout = kernel_at(dout, b, head),
                                 .dout_step = dout->strides[2],
                                 .dlse = kernel_given(c, AT_DLSE)
                                             ? (const float *)c->in[AT_DLSE].data + at * tq
                                             : NULL,
                                 .dq = heed__kernel_out(c, AT_DQ, at) };
}

static void backward_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_K, 1), group = backward_group(c);
    const size_t own = backward_bytes(c);
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_upstream *u = (attention_upstream *)(void *)((char *)c->scratch[1] + own);

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / heads;

        for (int64_t g = 0; g < group; g++) {
            h[g] = heed__kernel_head(c, b, item % heads * group + g, heed__kernel_sets(c, b));
            u[g] = backward_upstream(c, &h[g], b, item % heads * group + g);
        }
        heed__attention_ops(c->isa)->backward(h, u, group, heed__kernel_out(c, AT_DK, item),
                                              heed__kernel_out(c, AT_DV, item), c->scratch);
    }
}

const op_kernel heed__attention_grad_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .refuses = backward_refuses,
      .count = backward_count,
      .chunk_of = backward_chunk,
      .scratch = backward_scratch,
      .shared = heed__kernel_shared,
      .prepare_count = heed__kernel_prepare_count,
      .prepare = heed__kernel_prepare,
      .run = backward_run,
      .dense_in = KERNEL_DENSE | KERNEL_BIT(AT_OUT) | KERNEL_BIT(AT_LSE) | KERNEL_BIT(AT_DLSE) },
    ROWS_BACKWARD,
    KERNEL_END,
};
