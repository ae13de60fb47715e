/* Rows of padding are taken as zeros before a layer computes anything of them.
 *
 * Attention itself never reads beyond the lengths, but the projections before it do: a row x_t of padding
 * gives rows of q, k and v, and where their gradients are 0, the weight's gradient sum_t x_t^T dq_t still
 * has 0 * NaN in it. A product cannot know which of its rows count, so x does: y_t = x_t where t counts,
 * else 0, and so is the gradient.
 *
 *   a row of key, value   counts where t < lengths, k_seg >= 0, and a mask of keys [B,1,1,Tk] keeps it
 *   a row of the query    counts where t < q_lengths and q_seg >= 0
 *   a row that is both    (self-attention) counts where either does; lengths alone are those of the rows.
 *                         A mask says which keys are kept and nothing of queries, so without another word
 *                         each row counts.
 *
 * Whatever the operator would refuse is left to it: then every row counts here. */

#include "nn/nn.h"

typedef struct padding {
    int64_t batch, rows;
    heed_value counts; /* bool [B,rows,1]; {0}: every row counts */
} padding;

static bool padding_is(heed_builder *b, heed_value x, heed_dtype dtype, int rank, const int64_t *dims)
{
    const heed_type want = heed_type_of(dtype, rank, dims), t = heed_value_type(b, x);

    return x.id && !heed__poisoned(b) && heed_type_equal(&t, &want);
}

static void padding_and(heed_builder *b, padding *p, heed_value counts)
{
    p->counts = p->counts.id ? heed_and(b, p->counts, counts) : counts;
}

static void padding_lengths(heed_builder *b, padding *p, heed_value lengths)
{
    if (padding_is(b, lengths, HEED_I64, 1, &p->batch))
        padding_and(b, p,
                    heed_lt(b, heed_iota(b, HEED_TYPE(HEED_I64, 1, p->rows, 1), 1),
                            RESHAPE(b, lengths, p->batch, 1, 1)));
}

static void padding_segments(heed_builder *b, padding *p, heed_value seg)
{
    if (padding_is(b, seg, HEED_I64, 2, (int64_t[]){ p->batch, p->rows }))
        padding_and(b, p,
                    heed_ge(b, RESHAPE(b, seg, p->batch, p->rows, 1), heed_scalar(b, HEED_I64, 0)));
}

static void padding_mask(heed_builder *b, padding *p, heed_value mask)
{
    if (padding_is(b, mask, HEED_BOOL, 4, (int64_t[]){ p->batch, 1, 1, p->rows }))
        padding_and(b, p, RESHAPE(b, mask, p->batch, p->rows, 1));
}

static heed_value padding_clear(heed_builder *b, heed_value x, const padding *p)
{
    const heed_type t = heed_value_type(b, x);

    if (!p->counts.id || heed__poisoned(b) || t.rank != 3 || t.dims[0] != p->batch || t.dims[1] != p->rows)
        return x;
    return heed_select(b, p->counts, x, heed_scalar(b, t.dtype, 0));
}

static padding padding_of(heed_builder *b, heed_value x)
{
    const heed_type t = heed_value_type(b, x);

    return t.rank == 3 ? (padding){ .batch = t.dims[0], .rows = t.dims[1] } : (padding){ 0 };
}

heed_value heed__without_padding(heed_builder *b, heed_value x, const heed_attention_spec *s)
{
    padding keys = padding_of(b, x), queries = keys;

    padding_lengths(b, &keys, s->in.lengths);
    padding_segments(b, &keys, s->in.k_seg);
    padding_lengths(b, &queries, s->in.q_lengths);
    padding_segments(b, &queries, s->in.q_seg);
    if (queries.counts.id && keys.counts.id)
        keys.counts = heed_or(b, keys.counts, queries.counts);
    else if (queries.counts.id)
        return x; /* all rows are read as keys */
    return padding_clear(b, x, &keys);
}

heed_value heed__without_query_padding(heed_builder *b, heed_value x, const heed_attention_spec *s)
{
    padding p = padding_of(b, x);

    padding_lengths(b, &p, s->in.q_lengths);
    padding_segments(b, &p, s->in.q_seg);
    return padding_clear(b, x, &p);
}

heed_value heed__without_key_padding(heed_builder *b, heed_value x, const heed_attention_spec *s)
{
    padding p = padding_of(b, x);

    padding_lengths(b, &p, s->in.lengths);
    padding_segments(b, &p, s->in.k_seg);
    padding_mask(b, &p, s->in.mask);
    return padding_clear(b, x, &p);
}
