/* What a descriptor may say. Every refusal is one line of a table or one sentence below; nothing is ignored. */

#include "attention/spec.h"

#include <math.h>

#define T(m, kinds, d)                                                                                       \
    {                                                                                                        \
#m, offsetof(heed_attention_spec, in.m), kinds, d                                                    \
    }
const attention_tensor heed__attention_tensors[ATTENTION_TENSORS + 1] = {
    T(lengths, I64_ONLY, false),
    T(q_lengths, I64_ONLY, false),
    T(q_seg, I64_ONLY, false),
    T(k_seg, I64_ONLY, false),
    T(globals, I64_ONLY, false),
    T(block_keep, BOOLS, false),
    T(graph_indptr, I64_ONLY, false),
    T(graph_indices, I64_ONLY, false),
    T(mask, BOOLS, false),
    T(offset, I64_ONLY, false),
    T(score_w, FLOATS, true),
    T(add_wq, FLOATS, true),
    T(add_wk, FLOATS, true),
    T(add_v, FLOATS, true),
    T(add_b, FLOATS, true),
    T(prev, FLOATS, true),
    T(loc_kernel, FLOATS, true),
    T(loc_u, FLOATS, true),
    T(tau, FLOATS, true),
    T(shaw_k, FLOATS, true),
    T(shaw_v, FLOATS, true),
    T(xl_r, FLOATS, true),
    T(xl_u, FLOATS, true),
    T(xl_v, FLOATS, true),
    T(alibi_slopes, FLOATS, true),
    T(t5_table, FLOATS, true),
    T(bias, FLOATS, true),
    T(temperature, FLOATS, true),
    T(sink, FLOATS, true),
    T(sigmoid_bias, FLOATS, true),
    T(alpha, FLOATS, true),
    T(span, FLOATS, true),
    T(gate, FLOATS, true),
    T(talk_pre, FLOATS, true),
    T(talk_post, FLOATS, true),
    T(q2, FLOATS, true),
    T(k2, FLOATS, true),
    T(lambda, FLOATS, true),
    T(dropout_keep, BOOLS, false),
    T(rng, I64_ONLY, false),
    { NULL, 0, 0, false },
};

bool heed__spec_alibi(const heed_attention_spec *s)
{
    return s->position.alibi || s->in.alibi_slopes.id;
}

bool heed__spec_t5(const heed_attention_spec *s)
{
    return s->position.t5.kind != HEED_T5_OFF || s->in.t5_table.id;
}

bool heed__spec_rows(const heed_attention_spec *s)
{
    return s->probe.rows.v || s->probe.heads.v;
}

bool heed__spec_positions(const heed_attention_spec *s)
{
    return s->position.rope.on || heed__spec_alibi(s) || heed__spec_t5(s) || s->in.shaw_k.id ||
           s->in.xl_r.id || s->mask.causal || s->mask.window.on || s->mask.stride || s->in.globals.id ||
           s->normaliser.kind == HEED_NORMALISER_ADAPTIVE_SPAN || s->probe.distance;
}

bool heed__spec_stores(const heed_attention_spec *s)
{
    const heed_score_kind kind = s->score.kind;

    return s->normaliser.kind == HEED_NORMALISER_SOFTMAX && kind != HEED_SCORE_ADDITIVE &&
           kind != HEED_SCORE_NEG_SQ_DISTANCE && kind != HEED_SCORE_NEG_DISTANCE && !s->in.shaw_v.id && !s->in.gate.id &&
           !s->in.talk_pre.id && !s->in.talk_post.id && !s->in.q2.id;
}

/* The first rule that is broken. */
typedef struct refusal {
    heed_builder *b;
    bool broken;
} refusal;

static void refuse_if(refusal *r, bool wrong, const char *why)
{
    if (wrong && !r->broken) {
        r->broken = true;
        heed__poison(r->b, HEED_ERR_SPEC, "attention: %s", why);
    }
}

/* A tensor is given exactly where something uses it. */
static void needs(refusal *r, heed_value given, bool used, const char *name, const char *use)
{
    if (!r->broken && !given.id && used) {
        r->broken = true;
        heed__poison(r->b, HEED_ERR_SPEC, "attention: %s needs the tensor %s", use, name);
    }
}

static void only(refusal *r, heed_value given, bool used, const char *name, const char *use)
{
    if (!r->broken && given.id && !used) {
        r->broken = true;
        heed__poison(r->b, HEED_ERR_SPEC,
                     "attention: the tensor %s is given, but only %s uses it: leave it out", name, use);
    }
}

static void exactly(refusal *r, heed_value given, bool used, const char *name, const char *use)
{
    needs(r, given, used, name, use);
    only(r, given, used, name, use);
}

static bool finite_or_unset(heed_maybe_f32 x)
{
    return !x.set || isfinite(x.value);
}

static bool above_or_unset(heed_maybe_f32 x, float least)
{
    return !x.set || (isfinite(x.value) && x.value > least);
}

static void check_score(refusal *r, const heed_attention_spec *s)
{
    const heed_score_kind kind = s->score.kind;
    const bool additive = kind == HEED_SCORE_ADDITIVE || kind == HEED_SCORE_LOCATION,
               located = kind == HEED_SCORE_LOCATION;

    refuse_if(
        r, kind < HEED_SCORE_SCALED_DOT || kind > HEED_SCORE_NEG_DISTANCE,
        "score.kind is not known: it is scaled_dot, dot, general, additive, location, cosine, neg_sq_distance or "
        "neg_distance");
    refuse_if(r, !finite_or_unset(s->score.scale), "score.scale must be finite");
    refuse_if(r, !(s->softcap >= 0 && isfinite(s->softcap)), "softcap must be at least 0 and finite");
    exactly(r, s->in.score_w, kind == HEED_SCORE_GENERAL, "score_w", "score.kind general");
    exactly(r, s->in.add_wq, additive, "add_wq", "score.kind additive or location");
    exactly(r, s->in.add_wk, additive, "add_wk", "score.kind additive or location");
    exactly(r, s->in.add_v, additive, "add_v", "score.kind additive or location");
    only(r, s->in.add_b, additive, "add_b", "score.kind additive or location");
    exactly(r, s->in.prev, located, "prev", "score.kind location");
    exactly(r, s->in.loc_kernel, located, "loc_kernel", "score.kind location");
    exactly(r, s->in.loc_u, located, "loc_u", "score.kind location");
    only(r, s->in.tau, kind == HEED_SCORE_COSINE, "tau", "score.kind cosine");
}

static void check_position(refusal *r, const heed_attention_spec *s)
{
    const heed_score_kind kind = s->score.kind;
    const bool xl = s->in.xl_r.id || s->in.xl_u.id || s->in.xl_v.id || s->position.xl.on,
               shaw = s->in.shaw_k.id != 0,
               products = kind == HEED_SCORE_SCALED_DOT || kind == HEED_SCORE_DOT;
    const char *needs_xl = "position.xl";

    refuse_if(r, s->position.rope.on && (kind == HEED_SCORE_ADDITIVE || kind == HEED_SCORE_LOCATION),
              "position.rope has no meaning with score.kind additive and location");
    refuse_if(r, s->position.rope.on && (shaw || xl),
              "position.rope cannot stand with shaw_k or xl_r: use one of them");
    refuse_if(r,
              !s->position.rope.on && (s->position.rope.base.set || s->position.rope.dims.set ||
                                       s->position.rope.interleaved || s->position.rope.factor.set),
              "position.rope has base, dims, interleaved or factor, but is not on");
    refuse_if(r, s->position.xl.zero.set && !xl, "position.xl.zero is given without position.xl");
    refuse_if(r, shaw && xl, "shaw_k and xl_r cannot stand together: use one of them");
    refuse_if(r, (shaw || xl) && !products, "shaw_k and xl_r need score.kind dot or scaled_dot");
    only(r, s->in.shaw_v, shaw, "shaw_v", "shaw_k");
    needs(r, s->in.xl_r, xl, "xl_r", needs_xl);
    needs(r, s->in.xl_u, xl, "xl_u", needs_xl);
    needs(r, s->in.xl_v, xl, "xl_v", needs_xl);
    needs(r, s->in.t5_table, s->position.t5.kind != HEED_T5_OFF, "t5_table", "position.t5");
    refuse_if(r, s->position.t5.max_distance.set && !heed__spec_t5(s),
              "position.t5.max_distance is given without t5");
    refuse_if(r, s->offset.set && s->in.offset.id, "offset is given as a number and as a tensor: give one");
    refuse_if(r, (s->offset.set || s->in.offset.id) && !heed__spec_positions(s),
              "offset is given, but nothing looks at positions: leave it out");
}

static void check_mask(refusal *r, const heed_attention_spec *s)
{
    const bool block = s->mask.block[0] != 0 || s->mask.block[1] != 0,
               local = s->mask.window.on || s->mask.stride || block;

    refuse_if(r, s->mask.window.on && (s->mask.window.left < -1 || s->mask.window.right < -1),
              "mask.window holds two numbers of at least 0, or -1 for no limit");
    refuse_if(r, !s->mask.window.on && (s->mask.window.left || s->mask.window.right),
              "mask.window has left or right, but is not on");
    refuse_if(r, s->mask.stride < 0, "mask.stride must be at least 1");
    refuse_if(r, block && (s->mask.block[0] < 1 || s->mask.block[1] < 1),
              "mask.block must hold two sizes of at least 1");
    exactly(r, s->in.block_keep, block, "block_keep", "mask.block");
    only(r, s->in.globals, local, "globals", "mask.window, mask.stride or mask.block");
    needs(r, s->in.k_seg, s->in.q_seg.id != 0, "k_seg", "q_seg");
    needs(r, s->in.q_seg, s->in.k_seg.id != 0, "q_seg", "k_seg");
    needs(r, s->in.graph_indices, s->in.graph_indptr.id != 0, "graph_indices", "graph_indptr");
    needs(r, s->in.graph_indptr, s->in.graph_indices.id != 0, "graph_indptr", "graph_indices");
}

static void check_normaliser(refusal *r, const heed_attention_spec *s)
{
    const heed_normaliser_kind kind = s->normaliser.kind;
    const bool entmax = kind == HEED_NORMALISER_ENTMAX, softmax = kind == HEED_NORMALISER_SOFTMAX;

    refuse_if(
        r, kind < HEED_NORMALISER_SOFTMAX || kind > HEED_NORMALISER_LINEAR,
        "normaliser.kind is not known: it is softmax, sparsemax, entmax15, entmax, sigmoid, topk, hard, adaptive_span "
        "or linear");
    refuse_if(r, !above_or_unset(s->normaliser.temperature, 0),
              "normaliser.temperature must be above 0 and finite");
    refuse_if(r, s->normaliser.temperature.set && s->in.temperature.id,
              "temperature is given as a number and as a tensor: give one");
    refuse_if(r, s->normaliser.plus_one && s->in.sink.id,
              "normaliser.plus_one and sink cannot stand together");
    refuse_if(r, s->normaliser.plus_one && !softmax, "normaliser.plus_one needs normaliser.kind softmax");
    only(r, s->in.sink, softmax, "sink", "normaliser.kind softmax");
    refuse_if(r, kind == HEED_NORMALISER_TOPK && s->normaliser.k < 1, "normaliser.k must be at least 1");
    refuse_if(r, kind != HEED_NORMALISER_TOPK && s->normaliser.k != 0,
              "normaliser.k needs normaliser.kind topk");
    refuse_if(r, s->normaliser.alpha.set && !entmax, "normaliser.alpha needs normaliser.kind entmax");
    refuse_if(
        r, s->normaliser.alpha.set && !(s->normaliser.alpha.value >= 1.01f && s->normaliser.alpha.value <= 2),
        "normaliser.alpha must be 1.01 to 2");
    refuse_if(r, s->normaliser.alpha.set && s->in.alpha.id,
              "alpha is given as a number and as a tensor: give one");
    only(r, s->in.alpha, entmax, "alpha", "normaliser.kind entmax");
    refuse_if(r, s->normaliser.bias.set && kind != HEED_NORMALISER_SIGMOID,
              "normaliser.bias needs normaliser.kind sigmoid");
    refuse_if(r, !finite_or_unset(s->normaliser.bias), "normaliser.bias must be finite");
    refuse_if(r, s->normaliser.bias.set && s->in.sigmoid_bias.id,
              "normaliser.bias and the tensor sigmoid_bias cannot stand together");
    only(r, s->in.sigmoid_bias, kind == HEED_NORMALISER_SIGMOID, "sigmoid_bias", "normaliser.kind sigmoid");
    exactly(r, s->in.span, kind == HEED_NORMALISER_ADAPTIVE_SPAN, "span", "normaliser.kind adaptive_span");
    refuse_if(r, s->normaliser.ramp.set && kind != HEED_NORMALISER_ADAPTIVE_SPAN,
              "normaliser.ramp needs normaliser.kind adaptive_span");
    refuse_if(r, !above_or_unset(s->normaliser.ramp, 0), "normaliser.ramp must be above 0 and finite");
}

static bool talking(const heed_attention_spec *s)
{
    return s->in.talk_pre.id || s->in.talk_post.id;
}

static void check_linear(refusal *r, const heed_attention_spec *s)
{
    if (s->normaliser.kind != HEED_NORMALISER_LINEAR)
        return;
    refuse_if(r, s->score.kind != HEED_SCORE_SCALED_DOT || s->score.scale.set,
              "normaliser.kind linear has no score: leave out score.kind and score.scale");
    refuse_if(r,
              s->position.rope.on || heed__spec_alibi(s) || heed__spec_t5(s) || s->in.shaw_k.id ||
                  s->in.xl_r.id || s->in.bias.id,
              "normaliser.kind linear has no place for position terms and bias");
    refuse_if(r, s->softcap > 0 || s->normaliser.temperature.set || s->in.temperature.id,
              "normaliser.kind linear has no logits: leave out softcap and temperature");
    refuse_if(r,
              s->mask.window.on || s->mask.stride || s->mask.block[0] || s->in.globals.id || s->in.q_seg.id ||
                  s->in.graph_indptr.id || s->in.mask.id,
              "normaliser.kind linear allows mask.causal, lengths and q_lengths only");
    refuse_if(r, s->combine.dropout.p > 0,
              "normaliser.kind linear has no weights to drop: leave out combine.dropout");
    refuse_if(r, talking(s) || s->in.q2.id,
              "normaliser.kind linear cannot stand with talk_pre, talk_post or q2");
}

static void check_combine(refusal *r, const heed_attention_spec *s)
{
    const bool differential = s->in.q2.id || s->in.k2.id || s->in.lambda.id, drops = s->combine.dropout.p > 0;

    needs(r, s->in.q2, differential, "q2", "differential attention");
    needs(r, s->in.k2, differential, "k2", "differential attention");
    needs(r, s->in.lambda, differential, "lambda", "differential attention");
    refuse_if(r,
              differential && s->score.kind != HEED_SCORE_SCALED_DOT && s->score.kind != HEED_SCORE_DOT &&
                  s->score.kind != HEED_SCORE_COSINE,
              "q2 needs score.kind dot, scaled_dot or cosine");
    refuse_if(r,
              differential &&
                  (s->normaliser.kind != HEED_NORMALISER_SOFTMAX || s->in.sink.id || s->normaliser.plus_one),
              "q2 needs normaliser.kind softmax without a sink");
    refuse_if(r, differential && (talking(s) || s->in.shaw_k.id || s->in.xl_r.id),
              "q2 cannot stand with talk_pre, talk_post, shaw_k or xl_r");
    refuse_if(r, !(s->combine.dropout.p >= 0 && s->combine.dropout.p < 1),
              "combine.dropout.p must be at least 0 and below 1");
    refuse_if(r,
              s->combine.dropout.node.set &&
                  (s->combine.dropout.node.value < 0 || s->combine.dropout.node.value > UINT32_MAX),
              "combine.dropout.node must be 0 to 2^32 - 1");
    only(r, s->in.dropout_keep, drops, "dropout_keep", "combine.dropout.p above 0");
    only(r, s->in.rng, drops, "rng", "combine.dropout.p above 0");
    refuse_if(r, drops && !s->combine.dropout.name && !s->combine.dropout.node.set && !s->in.dropout_keep.id,
              "combine.dropout.p needs combine.dropout.name, the name of its random numbers");
}

static void check_stored(refusal *r, const heed_attention_spec *s)
{
    const bool any = s->stored.out.id || s->stored.lse.id || s->stored.lse_rest.id;

    needs(r, s->stored.out, any, "stored.out", "stored");
    needs(r, s->stored.lse, any, "stored.lse", "stored");
    needs(r, s->stored.lse_rest, any, "stored.lse_rest", "stored");
    refuse_if(r, any && !heed__spec_stores(s),
              "stored serves softmax of products without gate, talk_pre, talk_post, q2 and shaw_v: leave it out");
}

static bool list_within(const heed_attention_list *l, int64_t n)
{
    if (l->v && l->n < 0)
        return false;
    for (int64_t i = 0; i < l->n; i++)
        if (l->v[i] < 0 || l->v[i] >= n)
            return false;
    return true;
}

static void check_probe(refusal *r, heed_builder *b, heed_value q, const heed_attention_spec *s)
{
    const bool signed_weights = s->in.talk_post.id || s->in.q2.id;
    const attention_attrs a = { .normaliser = (int)s->normaliser.kind };

    refuse_if(r, signed_weights && s->probe.entropy,
              "probe.entropy has no meaning for the signed weights of talk_post and q2");
    refuse_if(r, signed_weights && s->probe.topk,
              "probe.topk has no meaning for the signed weights of talk_post and q2");
    refuse_if(r, s->probe.topk < 0, "probe.topk must be at least 1");
    refuse_if(r,
              (s->probe.pooled[0] != 0) != (s->probe.pooled[1] != 0) || s->probe.pooled[0] < 0 ||
                  s->probe.pooled[1] < 0,
              "probe.pooled must hold two sizes of at least 1");
    refuse_if(r, s->probe.lse && !heed__attention_has_lse(&a),
              "lse is not defined for sparsemax, entmax, sigmoid and linear");
    refuse_if(r, !list_within(&s->probe.rows, heed_dim(b, q, 2)),
              "probe.rows names a row that q does not have");
    refuse_if(r, !list_within(&s->probe.heads, heed_dim(b, q, 1)),
              "probe.heads names a head that q does not have");
}

bool heed__attention_spec_check(heed_builder *b, heed_value q, const heed_attention_spec *s)
{
    refusal r = { .b = b };

    check_score(&r, s);
    check_linear(&r, s);
    check_position(&r, s);
    check_mask(&r, s);
    check_normaliser(&r, s);
    check_combine(&r, s);
    check_stored(&r, s);
    check_probe(&r, b, q, s);
    return !r.broken;
}
