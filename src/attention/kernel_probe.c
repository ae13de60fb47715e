/* attention_probe in tiles: an item is a range of keys of a sequence, with all heads, so that every sum has one owner. What tiles
 * do not serve goes by rows. */

#include "attention/kernel_rows.h"

static const char *probe_refuses(const op_call *c)
{
    const char *why = heed__kernel_unserved(c);

    return why ? why : kernel_given(c, AT_LSE) ? NULL : "weights without lse";
}

/* Keys of an item. Packing queries is shared by so many, which is why they are not fewer, and parallel work is divided by them,
 * which is why they are not more. */
static int64_t probe_keys(const op_call *c)
{
    return heed__kernel_key_range(c, kernel_size(c, AT_K, 2) < 2048 ? 2 * ATTENTION_TILE : 4 * ATTENTION_TILE);
}

static int64_t probe_ranges(const op_call *c)
{
    return i64_ceil_div(kernel_size(c, AT_K, 2), i64_max(1, probe_keys(c)));
}

static int64_t probe_count(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * probe_ranges(c);
}

static int64_t probe_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__attention_flops(c), probe_count(c));
}

/* Behind the level's own part of each area, the first holds the heads of a sequence and the second where their sums go. */
static size_t probe_bytes(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const size_t bytes = heed__attention_ops(c->isa)->probe_bytes(
        kernel_size(c, AT_Q, 3), kernel_size(c, AT_Q, 1), probe_keys(c), a->pooled_q);

    return (bytes + 63) & ~(size_t)63;
}

static size_t probe_scratch(const op_call *c)
{
    return probe_bytes(c) + (size_t)kernel_size(c, AT_Q, 1) * sizeof(attention_head);
}

static void probe_run(const op_call *c, int64_t begin, int64_t end)
{
    const attention_attrs *a = c->attrs;
    const int64_t heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2),
                  keys = probe_keys(c), ranges = probe_ranges(c);
    const size_t own = probe_bytes(c);
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_second *to = (attention_second *)(void *)((char *)c->scratch[1] + own);

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / ranges, first = item % ranges * keys;

        for (int64_t g = 0; g < heads; g++) {
            const int64_t at = b * heads + g;

            h[g] = heed__kernel_head(c, b, g, heed__kernel_sets(c, b));
            to[g] = (attention_second){ .lse = (const float *)c->in[AT_LSE].data + at * tq,
                                        .lse_rest = kernel_rest(c, at),
                                        .received = heed__kernel_out(c, AT_GET_RECEIVED, at),
                                        .pooled = heed__kernel_out(c, AT_GET_POOLED, at),
                                        .pooled_q = a->pooled_q,
                                        .pooled_k = a->pooled_k };
        }
        heed__attention_ops(c->isa)->probe(
            h, to, heads, c->out[AT_GET_MEAN].data ? (float *)c->out[AT_GET_MEAN].data + b * tq * tk : NULL, first,
            i64_min(tk, first + keys), c->scratch);
    }
}

const op_kernel heed__attention_probe_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .refuses = probe_refuses,
      .count = probe_count,
      .chunk_of = probe_chunk,
      .scratch = probe_scratch,
      .shared = heed__kernel_shared,
      .prepare_count = heed__kernel_prepare_count,
      .prepare = heed__kernel_prepare,
      .run = probe_run,
      .dense_in = KERNEL_DENSE | KERNEL_BIT(AT_LSE) | KERNEL_BIT(AT_LSE_REST) },
    ROWS_PROBE,
    KERNEL_END,
};
