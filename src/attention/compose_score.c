/* z_ij = cap(scale raw(q_i, k_j) + row_rel[i, clip(j - p + zero)] + rel[j - i + Tq - 1] + bias_ij) / temperature
 *
 * Distances are sums of squared differences, not |q|^2 + |k|^2 - 2 q.k, which loses all digits where vectors share a large
 * offset. */

#include "attention/compose.h"

/* f(q_i, k_j) [B,Hq,Tq,Tk,D]: q as [B,H,Tq,1,D] and k as [B,H,1,Tk,D]. */
static heed_value raw(const attention_parts *p)
{
    heed_builder *b = p->b;
    const heed_value q = p->in[AT_Q], k = p->in[AT_K];
    heed_value x;

    switch ((attention_score)p->attrs->score) {
    case ATTENTION_ADDITIVE:
        x = p->in[AT_ADD_V];
        x = heed_reshape(b, x, 4, (const int64_t[]){ heed_dim(b, x, 0), 1, 1, heed_dim(b, x, 1) });
        x = heed_mul(b, heed_tanh(b, heed_add(b, heed_unsqueeze(b, q, 3), heed_unsqueeze(b, k, 2))), x);
        return heed_sum(b, x, 1u << 4, HEED_DROP_AXES);
    case ATTENTION_SQ_DISTANCE:
    case ATTENTION_DISTANCE:
        x = heed_sub(b, heed_unsqueeze(b, q, 3), heed_unsqueeze(b, k, 2));
        x = heed_sum(b, heed_mul(b, x, x), 1u << 4, HEED_DROP_AXES);
        if (p->attrs->score == ATTENTION_DISTANCE)
            x = heed_sqrt(b, heed_add_scalar(b, x, 1e-12));
        return heed_neg(b, x);
    default:
        return heed_matmul(b, q, heed_transpose(b, k, 2, 3));
    }
}

/* Places of [B,Hq,Tq,Tk] in row_rel made flat: ((b Hq + h) Tq + i) R + clip(j - p + zero, 0, R - 1). */
static heed_value relative_places(const attention_parts *p)
{
    heed_builder *b = p->b;
    const int64_t dims[4] = { p->batch, p->heads, p->tq, 1 }, size = heed_dim(b, p->in[AT_ROW_REL], 3);
    heed_value row =
        heed_reshape(b, heed_iota(b, HEED_TYPE(HEED_I64, p->batch * p->heads * p->tq), 0), 4, dims);
    heed_value at = heed_add_scalar(b, p->distance, (double)p->attrs->row_zero);

    at = heed_max(b, heed_min(b, at, heed_scalar(b, HEED_I64, (double)(size - 1))),
                  heed_scalar(b, HEED_I64, 0));
    at = heed_add(b, at, heed_mul(b, row, heed_scalar(b, HEED_I64, (double)size)));
    return heed_broadcast(b, at, 4, (const int64_t[]){ p->batch, p->heads, p->tq, p->tk });
}

static heed_value flat(heed_builder *b, heed_value x)
{
    const heed_type t = heed_value_type(b, x);

    return heed_reshape(b, x, 1, (const int64_t[]){ heed_type_count(&t) });
}

heed_value heed__attention_rel_sums(const attention_parts *p, heed_value w)
{
    heed_builder *b = p->b;
    heed_type t = heed_value_type(b, w);
    heed_value sums;

    t.dims[3] = p->attrs->rel_sums ? heed_dim(b, p->in[AT_ROW_REL], 3) : 0;
    if (!p->attrs->rel_sums)
        return heed__zeros(b, &t);
    sums = heed_scatter_add(b, flat(b, relative_places(p)), flat(b, w), 0, heed_type_count(&t));
    return heed_reshape(b, sums, 4, t.dims);
}

/* By division as it stands: 1 / by may be infinite where by is very small, and 0 times it is no number. */
static heed_value divided(const attention_parts *p, heed_value z, double by)
{
    return heed_div(p->b, z, heed_scalar(p->b, p->dtype, by));
}

heed_value heed__attention_logits(const attention_parts *p)
{
    heed_builder *b = p->b;
    const attention_attrs *a = p->attrs;
    heed_value z = heed_mul_scalar(b, raw(p), a->scale), at;

    if (p->in[AT_ROW_REL].id)
        z = heed_add(b, z, heed_gather(b, flat(b, p->in[AT_ROW_REL]), relative_places(p), 0));
    if (p->in[AT_REL].id && p->tq > 0 && p->tk > 0) {
        at = heed_sub(b, heed_iota(b, HEED_TYPE(HEED_I64, 1, p->tk), 1),
                      heed_iota(b, HEED_TYPE(HEED_I64, p->tq, 1), 0));
        z = heed_add(b, z, heed_gather(b, p->in[AT_REL], heed_add_scalar(b, at, (double)(p->tq - 1)), 2));
    }
    if (p->in[AT_BIAS].id)
        z = heed_add(b, z, p->in[AT_BIAS]);
    if (a->softcap > 0)
        z = heed_mul_scalar(b, heed_tanh(b, divided(p, z, a->softcap)), a->softcap);
    if (p->in[AT_TEMPERATURE].id)
        return heed_div(b, z, heed__per_head(b, p->in[AT_TEMPERATURE]));
    return a->temperature == 1 ? z : divided(p, z, a->temperature);
}
