/* heed/attention.h: the attention operator. One function; a descriptor chooses score, position, mask, normaliser, combination
 * and probes. What is not served is refused with a sentence, never replaced. docs/attention.md has a paragraph a variant.
 *
 *    1  s_ij = raw(q_i, k_j)                    score (rope has turned q and k before)
 *    2  s    = s + shaw + xl terms              position
 *    3  s    = scale s
 *    4  s    = s + alibi + t5 + bias            position
 *    5  s    = softcap tanh(s / softcap)        if softcap > 0
 *    6  s_h  = sum_g talk_pre[h,g] s_g          if given
 *    7  z    = s / temperature
 *    8  w    = normalise(z over kept keys)      mask, normaliser
 *    9  w    = w(q,k) - lambda_h w(q2,k2)       if given
 *   10  w_h  = sum_g talk_post[h,g] w_g         if given; w is what `weights` and every probe report
 *   11  w~   = w keep / (1 - p)                 dropout
 *   12  out  = sum_j w~_ij (v_j + shaw_v[..])
 *   13  out  = sigmoid(gate) out                if given
 *
 * b, h, i, j are batch, query head, query row, key. Key j stands at position j, query i at position p = i + offset. */
#ifndef HEED_ATTENTION_H
#define HEED_ATTENTION_H

#include <heed/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_score_kind {
    HEED_SCORE_SCALED_DOT = 0,  /**< q . k / sqrt(Dk). Vaswani 2017 */
    HEED_SCORE_DOT,             /**< q . k. Luong 2015 */
    HEED_SCORE_GENERAL,         /**< q^T W_h k, score_w. Luong 2015 */
    HEED_SCORE_ADDITIVE,        /**< a_h^T tanh(Wq q + Wk k + b), add_*. Bahdanau 2015 */
    HEED_SCORE_LOCATION,        /**< additive, with what was attended to before: prev, loc_*. Chorowski 2015 */
    HEED_SCORE_COSINE,          /**< tau_h cos(q, k). Graves 2014, Henry 2020 */
    HEED_SCORE_NEG_SQ_DISTANCE, /**< -|q - k|^2. Kim 2021 */
    HEED_SCORE_NEG_DISTANCE     /**< -sqrt(|q - k|^2 + 1e-12) */
} heed_score_kind;

typedef enum heed_normaliser_kind {
    HEED_NORMALISER_SOFTMAX = 0,
    HEED_NORMALISER_SPARSEMAX,     /**< Martins 2016 */
    HEED_NORMALISER_ENTMAX15,      /**< Peters 2019 */
    HEED_NORMALISER_ENTMAX,        /**< alpha, 1.01 .. 2. Correia 2019 */
    HEED_NORMALISER_SIGMOID,       /**< each key for itself. Ramapuram 2024 */
    HEED_NORMALISER_TOPK,          /**< softmax over the k largest, ties to the lower key. Zhao 2019 */
    HEED_NORMALISER_HARD,          /**< the largest has weight 1, no gradient to q and k. Xu 2015 */
    HEED_NORMALISER_ADAPTIVE_SPAN, /**< softmax times a learned soft window. Sukhbaatar 2019 */
    HEED_NORMALISER_LINEAR         /**< phi(q).phi(k) / sum, phi = elu + 1: no score. Katharopoulos 2020 */
} heed_normaliser_kind;

typedef enum heed_t5_kind {
    HEED_T5_OFF = 0, /**< bidirectional all the same when in.t5_table is given */
    HEED_T5_BIDIRECTIONAL,
    HEED_T5_UNIDIRECTIONAL /**< keys of the future share bucket 0 */
} heed_t5_kind;

/** A short list of numbers; v NULL: all of them. */
typedef struct heed_attention_list {
    const int64_t *v;
    int64_t n;
} heed_attention_list;

/** A zeroed descriptor is scaled dot-product attention without a mask. Tensors are handles under their names in `in`: one that
 *  is given is used, and one that the rest of the descriptor has no use for is refused. "Per head" means [Hq] or [1]; marks:
 *  (d) has a gradient. */
typedef struct heed_attention_spec {
    struct {
        heed_score_kind kind;
        heed_maybe_f32 scale; /**< multiplies every kind; default 1/sqrt(Dk) for scaled_dot, else 1; finite */
    } score;
    float softcap;         /**< > 0: s becomes softcap tanh(s / softcap). Bello 2017, Gemma 2 2024 */
    heed_maybe_i64 offset; /**< position of query row 0; default Tk - Tq. Needs something that looks at positions */
    struct {
        struct {
            bool on;
            heed_maybe_f32 base;   /**< default 10000, > 1 */
            heed_maybe_i64 dims;   /**< the first so many of q and k turn; even, default min(Dq, Dk) */
            bool interleaved;      /**< pairs (2m, 2m+1) instead of (m, m + dims/2) */
            heed_maybe_f32 factor; /**< positions are divided by it; default 1, > 0. Chen 2023 */
        } rope;                    /**< Su 2021 */
        bool alibi;                /**< s -= m_h |p - j|; in.alibi_slopes or powers of two. Press 2022 */
        struct {
            heed_t5_kind kind;
            heed_maybe_i64 max_distance; /**< default 128 */
        } t5;                            /**< s += t5_table[bucket(j - p), h]. Raffel 2020 */
        struct {
            bool on;
            heed_maybe_i64 zero; /**< index of distance 0 in xl_r; default 0 */
        } xl;                    /**< in.xl_*. Dai 2019 */
    } position;
    struct {
        bool causal; /**< keeps j <= p */
        struct {
            bool on;
            int64_t left, right; /**< keeps -left <= j - p <= right; -1: no limit on that side. Beltagy 2020 */
        } window;
        int64_t stride;   /**< n >= 1: keeps |p - j| < n, or (p - j) divisible by n; 0: off. Child 2019 */
        int64_t block[2]; /**< [sq, sk]: keeps in.block_keep[i/sq][j/sk]; 0: off. Zaheer 2020 */
    } mask;
    struct {
        heed_normaliser_kind kind;
        heed_maybe_f32 temperature; /**< divides the logits; default 1, > 0 */
        bool plus_one;              /**< softmax: 1 is added to the denominator. Miller 2023 */
        int64_t k;                  /**< topk */
        heed_maybe_f32 alpha;       /**< entmax; default 1.5 */
        heed_maybe_f32 bias;        /**< sigmoid; default 0 */
        heed_maybe_f32 ramp;        /**< adaptive_span; default 32, > 0 */
    } normaliser;
    struct {
        struct {
            double p;            /**< dropout of the weights in training, 0 <= p < 1; never in weights, lse or probes */
            const char *name;    /**< scope name of its random numbers; needed when p > 0, unless node is set */
            heed_maybe_i64 node; /**< the number of its stream instead of the name's; then dropout acts in every mode */
        } dropout;
    } combine;
    struct {
        heed_attention_list rows, heads; /**< probe_rows: w of these heads and rows; either list asks for it */
        int64_t topk;                    /**< the K largest weights of a row, with their keys */
        int64_t pooled[2];               /**< mean of w over blocks [a, c] */
        bool received;                   /**< sum_i w_ij */
        bool entropy;                    /**< -sum_j w ln w, nats */
        bool distance;                   /**< sum_j w |p - j| */
        bool lse;                        /**< refuse where lse is not defined */
        bool mean;                       /**< mean of w over heads, without w of each */
    } probe;
    struct {
        /* masks: what to keep, combined by AND */
        heed_value lengths;       /**< i64 [B]: keeps j < lengths[b]; k and v beyond are never read */
        heed_value q_lengths;     /**< i64 [B]: keeps i < q_lengths[b]; q beyond is never read */
        heed_value q_seg, k_seg;  /**< i64 [B,Tq], [B,Tk]: keeps equal ids >= 0. Krell 2021 */
        heed_value globals;       /**< i64 [G]: j or p in it is kept whatever window, stride and block say */
        heed_value block_keep;    /**< bool [nq,nk] or [Hq,nq,nk], nq = ceil(Tq/sq) */
        heed_value graph_indptr;  /**< i64 [Tq+1], with graph_indices: keeps the keys in row i's list (CSR, rising) */
        heed_value graph_indices; /**< i64. Velickovic 2018 */
        heed_value mask;          /**< bool, 4 dimensions, each full or 1 against [B,Hq,Tq,Tk] */
        heed_value offset;        /**< i64 [B]: an offset for each sequence, in place of the number */
        /* score */
        heed_value score_w;                      /**< (d) [Hq or 1, Dq, Dk] */
        heed_value add_wq, add_wk, add_v, add_b; /**< (d) [Hq or 1, A, Dq], [., A, Dk], [., A], optional [., A] */
        heed_value prev;                         /**< (d) [B,Hq,Tq,Tk]: weights of the step before */
        heed_value loc_kernel, loc_u;            /**< (d) [C,K], K odd; [Hq or 1, A, C] */
        heed_value tau;                          /**< (d) per head; default 1 */
        /* position */
        heed_value shaw_k, shaw_v;     /**< (d) [2w+1,Dk]; optional [2w+1,Dv]. Shaw 2018 */
        heed_value xl_r, xl_u, xl_v;   /**< (d) [L,Hq,Dk]; [Hq,Dk] */
        heed_value alibi_slopes;       /**< (d) per head */
        heed_value t5_table;           /**< (d) [buckets,Hq] */
        heed_value bias;               /**< (d) 4 dimensions, each full or 1 against [B,Hq,Tq,Tk]; finite */
        /* normaliser */
        heed_value temperature, sink, sigmoid_bias, alpha, span; /**< (d) per head */
        /* combine */
        heed_value gate;                /**< (d) 4 dimensions, each full or 1 against [B,Hq,Tq,Dv] */
        heed_value talk_pre, talk_post; /**< (d) [Hq,Hq], row = receiving head. Shazeer 2020 */
        heed_value q2, k2, lambda;      /**< (d) like q, like k, per head: differential attention. Ye 2024 */
        heed_value dropout_keep;        /**< bool [B,Hq,Tq,Tk]: given instead of drawn */
        heed_value rng;                 /**< i64 [2] {seed, step}; default the builder's */
    } in;
    /** What an earlier run of the same attention gave, in place of what this one would compute for its gradient: a graph that
     *  wants gradients alone then has no forward pass. All three or none, and only where lse_rest is defined. They are believed:
     *  of other inputs they give other numbers. */
    struct {
        heed_value out, lse, lse_rest;
    } stored;
} heed_attention_spec;

/** What attention gives. {0} where it was not asked for or is not defined. A value that nobody uses costs nothing, and using one
 *  changes no bit of the others. */
typedef struct heed_attended {
    heed_value out;          /**< [B,Hq,Tq,Dv] */
    heed_value lse;          /**< [B,Hq,Tq]: ln of the denominator, -inf for a row with nothing to keep; f32 (f64 for f64) */
    heed_value lse_rest;     /**< [B,Hq,Tq]: what rounding took from lse: 0 in exact arithmetic, without a gradient. With out and
                                  lse all that a gradient needs of a forward pass (`stored`). {0} where it needs less or more:
                                  additive and neg_*distance, normalisers but softmax, gate, talk_*, q2, shaw_v */
    heed_value lse2;         /**< the same as lse of q2 and k2 */
    heed_value weights;      /**< [B,Hq,Tq,Tk]: w, before dropout; always defined */
    heed_value rows;         /**< [B,nh,nr,Tk] */
    heed_value topk_values;  /**< [B,Hq,Tq,K]: falling, ties to the lower key; 0 where fewer are above 0 */
    heed_value topk_indices; /**< i64, -1 there */
    heed_value pooled;       /**< [B,Hq,ceil(Tq/a),ceil(Tk/c)] */
    heed_value received;     /**< [B,Hq,Tk] */
    heed_value entropy;      /**< [B,Hq,Tq] */
    heed_value distance;     /**< [B,Hq,Tq] */
    heed_value mean;         /**< [B,Tq,Tk] */
} heed_attended;

/** q [B,Hq,Tq,Dq], k [B,Hkv,Tk,Dk], v [B,Hkv,Tk,Dv], floating, of one dtype; Hq, at least 1, a multiple of Hkv: query head
 *  h uses key head h / (Hq/Hkv) (Shazeer 2019, Ainslie 2023). Dq = Dk but for general, additive and location. B, Tq and Tk may be 0.
 *
 *  A row with nothing to keep gives zeros, lse = -inf and no gradient. Rows beyond the lengths are never read and have gradients
 *  of exactly 0. Gradients: `out`, `lse` and `weights` by every input marked (d). A probe is to be looked at: where it has a
 *  gradient it costs whole weights, and where it has none (rows, topk, entropy, distance) a loss of it is refused.
 *
 *  Poison with HEED_ERR_SHAPE, _DTYPE, _SPEC (a combination without meaning: the sentence names the fields). When run: a length
 *  or index out of range, or a graph that is no rising CSR, ends with HEED_ERR_LIMIT; a learned temperature <= 0, alpha out of
 *  range or span that is not finite with HEED_ERR_SPEC; both name tensor, place and value. */
HEED_API heed_attended heed_attention(heed_builder *b, heed_value q, heed_value k, heed_value v,
                                      const heed_attention_spec *spec);

#ifdef __cplusplus
}
#endif
#endif
