/* attention in tiles: items are blocks of ATTENTION_ROWS queries of each head. */

#include "attention/kernel_rows.h"

#include <string.h>

static const char *forward_refuses(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const char *why = heed__kernel_unserved(c);

    if (!why && a->topk && kernel_size(c, AT_K, 2) > INT32_MAX)
        return "topk of more than 2^31 keys";
    return why ? why : a->rel_sums ? "shaw_v" : NULL;
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

/* Behind the level's own part of each area, the first two hold what topk collects. */
static size_t forward_bytes(const op_call *c)
{
    const size_t bytes =
        heed__attention_ops(c->isa)->forward_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));

    return (bytes + 63) & ~(size_t)63;
}

static size_t forward_scratch(const op_call *c)
{
    const attention_attrs *a = c->attrs;

    return forward_bytes(c) +
           (a->topk ? (size_t)(ATTENTION_ROWS * ATTENTION_COLLECTED(a->topk)) * sizeof(float) : 0);
}

static attention_result forward_result(const op_call *c, int64_t at)
{
    const attention_attrs *a = c->attrs;
    const int64_t heads = kernel_size(c, AT_Q, 1);
    const size_t own = forward_bytes(c);
    attention_result to = { .out = heed__kernel_out(c, AT_GET_OUT, at),
                            .lse = heed__kernel_out(c, AT_GET_LSE, at),
                            .lse_rest = heed__kernel_out(c, AT_GET_LSE_REST, at),
                            .weights = heed__kernel_out(c, AT_GET_WEIGHTS, at) };

    if (a->entropy)
        to.entropy = heed__kernel_out(c, AT_GET_ENTROPY, at);
    if (a->distance)
        to.distance = heed__kernel_out(c, AT_GET_DISTANCE, at);
    if (a->topk && (c->out[AT_GET_TOPK_VALUES].data || c->out[AT_GET_TOPK_INDICES].data)) {
        to.topk = a->topk;
        to.topk_values = heed__kernel_out(c, AT_GET_TOPK_VALUES, at);
        to.topk_indices = heed__kernel_out(c, AT_GET_TOPK_INDICES, at);
        to.collected = (float *)(void *)((char *)c->scratch[0] + own);
        to.collected_keys = (int32_t *)(void *)((char *)c->scratch[1] + own);
    }
    if (a->rows && c->out[AT_GET_ROWS].data) {
        to.row_list = kernel_given(c, AT_PROBE_ROWS) ? c->in[AT_PROBE_ROWS].data : NULL;
        to.n_rows = c->out[AT_GET_ROWS].type.dims[2];
        to.rows = heed__kernel_listed_rows(c, at / heads, at % heads);
    }
    return to;
}

/* Do sequences share a bias of rows and keys? Then items of the same head and rows follow one another over sequences, so that the
 * bias is fetched from memory once for all of them. */
static bool bias_is_shared(const op_call *c)
{
    return heed__kernel_bias_is_matrix(c) && kernel_size(c, AT_BIAS, 0) < kernel_size(c, AT_Q, 0);
}

static void forward_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t batch = kernel_size(c, AT_Q, 0), heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2),
                  blocks = forward_blocks(c);
    const bool together = bias_is_shared(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = together ? item % batch : item / blocks / heads,
                      block = (together ? item / batch : item) % blocks,
                      head = together ? item / batch / blocks : item / blocks % heads,
                      first = block * ATTENTION_ROWS, last = i64_min(tq, first + ATTENTION_ROWS);
        const attention_head h = heed__kernel_head(c, b, head, heed__kernel_sets(c, b));
        const attention_result to = forward_result(c, b * heads + head);

        heed__attention_ops(c->isa)->forward(&h, &to, first, last, c->scratch);
        heed__kernel_repeat_rows(c, &to, b, head, first, last);
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
