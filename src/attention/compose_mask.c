/* keep = ((window and stride and block) or globals) and causal and lengths and segments and graph and mask; q_lengths too.
 * heed/attention.h says what each keeps; {0} stands for "all". */

#include "attention/compose.h"

static heed_value both(heed_builder *b, heed_value x, heed_value y)
{
    return x.id && y.id ? heed_and(b, x, y) : x.id ? x : y;
}

static heed_value number(heed_builder *b, int64_t n)
{
    return heed_scalar(b, HEED_I64, (double)n);
}

/* x / by rounded down, exact below 2^53. */
static heed_value divided(heed_builder *b, heed_value x, int64_t by)
{
    x = heed_floor(b, heed_div(b, heed_cast(b, x, HEED_F64), heed_scalar(b, HEED_F64, (double)by)));
    return heed_cast(b, x, HEED_I64);
}

static heed_value keep_window(const attention_parts *p)
{
    const attention_attrs *a = p->attrs;
    heed_value keep = { 0 };

    if (a->window && a->left >= 0)
        keep = heed_ge(p->b, p->distance, number(p->b, -a->left));
    if (a->window && a->right >= 0)
        keep = both(p->b, keep, heed_le(p->b, p->distance, number(p->b, a->right)));
    return keep;
}

static heed_value keep_stride(const attention_parts *p)
{
    heed_builder *b = p->b;
    const int64_t n = p->attrs->stride;
    const heed_value d = p->distance;

    if (n == 0)
        return (heed_value){ 0 };
    return heed_or(b, heed_and(b, heed_lt(b, d, number(b, n)), heed_gt(b, d, number(b, -n))),
                   heed_eq(b, heed_mul(b, divided(b, d, n), number(b, n)), d));
}

/* block_keep with every block as large as it is: [1, 1 or Hq, Tq, Tk]. */
static heed_value keep_block(const attention_parts *p)
{
    heed_builder *b = p->b;
    heed_value keep = p->in[AT_BLOCK_KEEP];

    if (!keep.id)
        return keep;
    if (heed_rank(b, keep) == 2)
        keep = heed_unsqueeze(b, keep, 0);
    keep =
        heed_gather(b, keep, divided(b, heed_iota(b, HEED_TYPE(HEED_I64, p->tq), 0), p->attrs->block_q), 1);
    keep =
        heed_gather(b, keep, divided(b, heed_iota(b, HEED_TYPE(HEED_I64, p->tk), 0), p->attrs->block_k), 2);
    return heed_unsqueeze(b, keep, 0);
}

/* Is x (i64, its last axis of size 1) in the list? A bool of x's sizes. */
static heed_value listed(heed_builder *b, heed_value x, heed_value list)
{
    const int axis = heed_rank(b, x) - 1;
    heed_value hits = heed_cast(b, heed_eq(b, x, list), HEED_F32);

    return heed_gt(b, heed__sum_axis(b, hits, axis), heed_scalar(b, HEED_F32, 0));
}

static heed_value keep_globals(const attention_parts *p)
{
    heed_builder *b = p->b;
    const heed_value j = heed_transpose(b, heed__positions(b, 3, p->tk), 2, 3);

    return heed_or(b, heed_transpose(b, listed(b, j, p->in[AT_GLOBALS]), 2, 3),
                   listed(b, p->at, p->in[AT_GLOBALS]));
}

static heed_value keep_segments(const attention_parts *p)
{
    heed_builder *b = p->b;
    heed_value q, k;

    if (!p->in[AT_Q_SEG].id)
        return (heed_value){ 0 };
    q = heed_reshape(b, p->in[AT_Q_SEG], 4, (const int64_t[]){ p->batch, 1, p->tq, 1 });
    k = heed_reshape(b, p->in[AT_K_SEG], 4, (const int64_t[]){ p->batch, 1, 1, p->tk });
    return heed_and(b, heed_eq(b, q, k), heed_ge(b, q, number(b, 0)));
}

/* Edge e belongs to the row that so many ends of rows stand at or before; its place in [Tq,Tk] is counted flat. */
static heed_value keep_graph(const attention_parts *p)
{
    heed_builder *b = p->b;
    const heed_value indices = p->in[AT_GRAPH_INDICES];
    heed_value ends, row, count;
    int64_t edges;

    if (!indices.id)
        return indices;
    edges = heed_dim(b, indices, 0);
    ends = heed_slice(b, p->in[AT_GRAPH_INDPTR], 0, 1, p->tq + 1, 1);
    row = heed_le(b, ends, heed_iota(b, HEED_TYPE(HEED_I64, edges, 1), 0));
    row = heed_sum(b, heed_cast(b, row, HEED_F64), 1u << 1, HEED_DROP_AXES);
    row = heed_mul(b, heed_cast(b, row, HEED_I64), number(b, p->tk));
    count = heed_scatter_add(b, heed_add(b, row, indices), heed_full(b, HEED_TYPE(HEED_F32, edges), 1), 0,
                             p->tq * p->tk);
    count = heed_reshape(b, count, 4, (const int64_t[]){ 1, 1, p->tq, p->tk });
    return heed_gt(b, count, heed_scalar(b, HEED_F32, 0));
}

heed_value heed__attention_keep(const attention_parts *p)
{
    heed_builder *b = p->b;
    heed_value keep = both(b, both(b, keep_window(p), keep_stride(p)), keep_block(p));

    if (p->in[AT_GLOBALS].id && keep.id)
        keep = heed_or(b, keep, keep_globals(p));
    if (p->attrs->causal)
        keep = both(b, keep, heed_le(b, p->distance, number(b, 0)));
    if (p->in[AT_LENGTHS].id)
        keep = both(b, keep, heed__within(b, p->in[AT_LENGTHS], 3, p->tk));
    keep = both(b, keep, p->rows);
    keep = both(b, keep, keep_segments(p));
    keep = both(b, keep, keep_graph(p));
    return both(b, keep, p->in[AT_MASK]);
}
