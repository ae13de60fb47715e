/* attention in tiles: items are blocks of ATTENTION_ROWS queries of each head. */

#include "attention/kernel_rows.h"

static const char *forward_refuses(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const char *why = heed__kernel_unserved(c);

    return why                                                                            ? why
           : a->topk || a->rows || a->entropy || a->distance ? "probes"
                                                                                          : NULL;
}

static int64_t forward_blocks(const op_call *c)
{
    return i64_ceil_div(kernel_size(c, AT_Q, 2), ATTENTION_ROWS);
}

static int64_t forward_count(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1) * forward_blocks(c);
}

static int64_t forward_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__attention_flops(c), forward_count(c));
}

static size_t forward_scratch(const op_call *c)
{
    return heed__attention_ops(c->isa)->forward_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));
}

static void forward_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2), blocks = forward_blocks(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / blocks, first = item % blocks * ATTENTION_ROWS;
        const attention_head h =
            heed__kernel_head(c, at / heads, at % heads, heed__kernel_sets(c, at / heads));
        const attention_result to = { .out = heed__kernel_out(c, AT_GET_OUT, at),
                                      .lse = heed__kernel_out(c, AT_GET_LSE, at),
                                      .weights = heed__kernel_out(c, AT_GET_WEIGHTS, at) };

        heed__attention_ops(c->isa)->forward(&h, &to, first, i64_min(tq, first + ATTENTION_ROWS), c->scratch);
    }
}

const op_kernel heed__attention_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .refuses = forward_refuses,
      .count = forward_count,
      .chunk_of = forward_chunk,
      .scratch = forward_scratch,
      .shared = heed__kernel_shared,
      .prepare_count = heed__kernel_prepare_count,
      .prepare = heed__kernel_prepare,
      .run = forward_run,
      .dense_in = KERNEL_DENSE },
    ROWS_FORWARD,
    KERNEL_END,
};
