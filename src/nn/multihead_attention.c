/* Multi-head attention, batch first: torch.nn.MultiheadAttention.
 *   x [B,Tq,E], key [B,Tk,kdim], value [B,Tk,vdim] -> [B,Tq,E]
 *   q = x Wq^T + bq and so on, split into heads; out = concat(heads) Wo^T + bo
 * in_proj_weight [3E,E] holds Wq, Wk, Wv when all widths are E, else q_/k_/v_proj_weight; in_proj_bias [3E];
 * bias_k, bias_v [1,1,E] add one learned key and value behind the sequence. Vaswani 2017. */

#include "attention/attention.h"
#include "nn/nn.h"

/* [B,T,E] -> [B,H,T,E/H], a view. */
static heed_value split_heads(heed_builder *b, heed_value x, int64_t heads)
{
    const int64_t width = heed_dim(b, x, 2);

    x = RESHAPE(b, x, heed_dim(b, x, 0), heed_dim(b, x, 1), heads, width / (heads > 0 ? heads : 1));
    return heed_permute(b, x, (int[]){ 0, 2, 1, 3 });
}

static heed_value join_heads(heed_builder *b, heed_value x)
{
    x = heed_permute(b, x, (int[]){ 0, 2, 1, 3 });
    return RESHAPE(b, x, heed_dim(b, x, 0), heed_dim(b, x, 1), heed_dim(b, x, 2) * heed_dim(b, x, 3));
}

/* Rows [part * E, (part + 1) * E) of a stacked parameter. */
static heed_value third(heed_builder *b, heed_value stacked, int part, int64_t width)
{
    return stacked.id ? heed_slice(b, stacked, 0, part * width, (part + 1) * width, 1) : (heed_value){ 0 };
}

static heed_value project(heed_builder *b, heed_value x, heed_value w, heed_value bias)
{
    heed_value y = heed_matmul(b, x, heed_transpose(b, w, 0, 1));

    return bias.id ? heed_add(b, y, bias) : y;
}

/* [B,heads,T,width/heads] each. */
typedef struct projected {
    heed_value q, k, v;
} projected;

static projected project_all(heed_builder *b, heed_value x, heed_value key, heed_value value, int64_t heads,
                             const heed_mha_opts *o)
{
    const heed_init xavier = { .kind = HEED_INIT_XAVIER_UNIFORM };
    const int64_t width = heed_dim(b, x, 2), kdim = heed_dim(b, key, 2), vdim = heed_dim(b, value, 2);
    const bool one = kdim == width && vdim == width, self = key.id == x.id && value.id == x.id;
    heed_value w = { 0 }, wq, wk, wv, bias = { 0 };

    if (one) {
        w = heed_param(b, "in_proj_weight", HEED_TYPE(HEED_F32, 3 * width, width), &xavier);
    } else {
        wq = heed_param(b, "q_proj_weight", HEED_TYPE(HEED_F32, width, width), &xavier);
        wk = heed_param(b, "k_proj_weight", HEED_TYPE(HEED_F32, width, kdim), &xavier);
        wv = heed_param(b, "v_proj_weight", HEED_TYPE(HEED_F32, width, vdim), &xavier);
    }
    if (o->bias == HEED_BIAS)
        bias = heed_param(b, "in_proj_bias", HEED_TYPE(HEED_F32, 3 * width), NULL);
    if (one && self) { /* one product for all three */
        heed_value parts[3];

        heed__qkv(b, project(b, x, w, bias), heads, parts);
        return (projected){ parts[0], parts[1], parts[2] };
    }
    if (one) {
        wq = third(b, w, 0, width);
        wk = third(b, w, 1, width);
        wv = third(b, w, 2, width);
    }
    return (projected){ split_heads(b, project(b, x, wq, third(b, bias, 0, width)), heads),
                        split_heads(b, project(b, key, wk, third(b, bias, 1, width)), heads),
                        split_heads(b, project(b, value, wv, third(b, bias, 2, width)), heads) };
}

/* x [B,heads,T,width/heads] with one learned row behind each sequence; the parameter is [1,1,width]. */
static heed_value add_row(heed_builder *b, const char *name, heed_value x)
{
    const heed_type t = heed_value_type(b, x);
    heed_value row = heed_param(b, name, HEED_TYPE(HEED_F32, 1, 1, t.dims[1] * t.dims[3]),
                                &(heed_init){ .kind = HEED_INIT_XAVIER_NORMAL });
    heed_value both[2] = { x, heed_broadcast(b, RESHAPE(b, row, 1, t.dims[1], 1, t.dims[3]), 4,
                                             (int64_t[]){ t.dims[0], t.dims[1], 1, t.dims[3] }) };

    return heed_concat(b, both, 2, 2);
}

/* Everybody sees the learned key, which stands behind the others: lengths, causality and mask of the first
 * `tk` keys become one mask with a column of true behind it. */
static void keep_learned_key(heed_builder *b, heed_attention_spec *spec, int64_t batch, int64_t tq,
                             int64_t tk)
{
    const heed_value i = heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, tq, 1), 2),
                     j = heed_iota(b, HEED_TYPE(HEED_I64, 1, 1, 1, tk), 3);
    heed_value keep = spec->in.mask, p, within;
    heed_type t;

    if (spec->in.lengths.id) {
        heed_scope_push(b, "lengths"); /* its name in a sentence */
        within = heed__check_range(b, spec->in.lengths, tk);
        heed_scope_pop(b);
        within = heed_lt(b, j, RESHAPE(b, within, batch, 1, 1, 1));
        keep = keep.id ? heed_and(b, keep, within) : within;
    }
    if (spec->mask.causal) {
        if (spec->in.offset.id)
            p = heed_add(b, i, RESHAPE(b, spec->in.offset, batch, 1, 1, 1));
        else
            p = heed_add_scalar(b, i, (double)(spec->offset.set ? spec->offset.value : tk - tq));
        within = heed_le(b, j, p);
        keep = keep.id ? heed_and(b, keep, within) : within;
    }
    if (keep.id) {
        t = heed_value_type(b, keep);
        if (t.rank == 4) {
            t.dims[3] = tk;
            keep = heed_broadcast(b, keep, 4, t.dims);
            t.dims[3] = 1;
        }
        keep = heed_concat(b, (heed_value[]){ keep, heed_full(b, t, 1) }, 2, 3);
    }
    spec->in.mask = keep;
    spec->in.lengths = spec->in.offset = (heed_value){ 0 };
    spec->mask.causal = spec->offset.set = false;
}

heed_value heed__attend_rows(heed_builder *b, const char *name, heed_value x, int64_t heads,
                             const heed_mha_opts *opts, heed_value *weights)
{
    static const heed_mha_opts plain;
    const heed_mha_opts *o = opts ? opts : &plain;
    heed_attention_spec spec = o->spec;
    heed_attended a;
    projected p;
    heed_value y;

    if (weights)
        *weights = (heed_value){ 0 };
    if (x.id && (heed_rank(b, x) != 3 || heads < 1 || heed_dim(b, x, 2) % heads))
        return heed__poison(b, HEED_ERR_SHAPE,
                            "%s: attention takes x [batch, time, width] and heads that divide the width",
                            name);
    if (o->cache && (o->key.id || o->value.id || o->bias_kv))
        return heed__poison(b, HEED_ERR_SPEC,
                            "%s: a cache holds the layer's own keys: leave out key, value and bias_kv", name);
    if (o->bias_kv && heed__by_place_of_keys(&spec))
        return heed__poison(
            b, HEED_ERR_SPEC,
            "%s: %s goes by the places of keys, and the one of bias_kv has none: leave it out", name,
            heed__by_place_of_keys(&spec));
    heed_scope_push(b, name);
    p = project_all(b, x, o->key.id ? o->key : x, o->value.id ? o->value : o->key.id ? o->key : x, heads, o);
    if (o->bias_kv) {
        keep_learned_key(b, &spec, heed_dim(b, p.k, 0), heed_dim(b, p.q, 2), heed_dim(b, p.k, 2));
        p.k = add_row(b, "bias_k", p.k);
        p.v = add_row(b, "bias_v", p.v);
    }
    spec.combine.dropout.p = o->dropout;
    spec.combine.dropout.name = "dropout";
    a = o->cache ? heed__kv_cache_attend(b, o->cache, p.q, p.k, p.v, &spec)
                 : heed_attention(b, p.q, p.k, p.v, &spec);
    heed_tap(b, "weights", a.weights);
    if (a.mean.id)
        heed_tap(b, "mean", a.mean);
    if (a.received.id)
        heed_tap(b, "received", a.received);
    if (a.pooled.id)
        heed_tap(b, "pooled", a.pooled);
    if (weights)
        *weights = a.weights;
    y = heed_linear(
        b, "out_proj", join_heads(b, a.out), heed_dim(b, x, 2),
        &(heed_linear_opts){ .bias = o->bias, .bias_init = &(heed_init){ .kind = HEED_INIT_ZEROS } });
    heed_scope_pop(b);
    return y;
}

heed_value heed_multihead_attention(heed_builder *b, const char *name, heed_value x, int64_t heads,
                                    const heed_mha_opts *opts, heed_value *weights)
{
    heed_mha_opts o = opts ? *opts : (heed_mha_opts){ 0 };
    const heed_value given = x;

    if (o.cache) /* nothing is learned here, and rows that do not count are not appended */
        return heed__attend_rows(b, name, x, heads, &o, weights);
    if ((!o.key.id && !o.value.id) || o.key.id == x.id || o.value.id == x.id)
        x = heed__without_padding(b, x, &o.spec);
    else
        x = heed__without_query_padding(b, x, &o.spec);
    if (o.key.id)
        o.key = o.key.id == given.id ? x : heed__without_key_padding(b, o.key, &o.spec);
    if (o.value.id)
        o.value = o.value.id == given.id ? x : heed__without_key_padding(b, o.value, &o.spec);
    return heed__attend_rows(b, name, x, heads, &o, weights);
}
