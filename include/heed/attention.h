/* heed/attention.h: the attention operator. One function; a descriptor chooses score, position, mask, normaliser, combination and
 * probes. This version has its first cells: scaled dot and dot scores; lengths, causal, offset and arbitrary keep-masks; softmax;
 * weights and log-sums as outputs. Anything else is refused with a sentence, never replaced. */
#ifndef HEED_ATTENTION_H
#define HEED_ATTENTION_H

#include <heed/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_score_kind { HEED_SCORE_SCALED_DOT = 0, HEED_SCORE_DOT } heed_score_kind;

/** A zeroed descriptor is scaled dot-product attention without a mask. Masks say what to keep and are combined by AND. */
typedef struct heed_attention_spec {
    struct {
        heed_score_kind kind;
        heed_maybe_f32 scale; /**< default 1/sqrt(Dk) for scaled_dot, 1 for dot; finite */
    } score;
    heed_maybe_i64 offset; /**< query row i stands at position i + offset; default Tk - Tq. Needs something that looks at positions */
    struct {
        bool causal; /**< keeps j <= i + offset */
    } mask;
    struct {
        heed_value lengths;   /**< i64 [B]: keeps j < lengths[b]; k and v beyond are never read */
        heed_value q_lengths; /**< i64 [B]: keeps i < q_lengths[b] */
        heed_value mask;      /**< bool, 4 dimensions, each full or 1 against [B,Hq,Tq,Tk]: keeps where true */
        heed_value offset;    /**< i64 [B]: an offset for each sequence, in place of the number */
    } in;
    struct {
        double p;         /**< dropout of the weights in training, 0 <= p < 1; never in weights or lse */
        const char *name; /**< scope name of its random numbers; needed when p > 0 */
    } dropout;
} heed_attention_spec;

typedef struct heed_attended {
    heed_value out;     /**< [B,Hq,Tq,Dv] */
    heed_value lse;     /**< [B,Hq,Tq], -inf for a row with nothing to keep */
    heed_value weights; /**< [B,Hq,Tq,Tk], before dropout, after the mask; costs memory only when used */
} heed_attended;

/** q [B,Hq,Tq,Dk], k [B,Hkv,Tk,Dk], v [B,Hkv,Tk,Dv], floating; Hq a multiple of Hkv: query head h uses key head h / (Hq/Hkv).
 *  weights = softmax over kept keys of scale * q k^T, out = weights v. A row with nothing to keep gives zeros and no gradient.
 *  lse is f32 (f64 for f64). A length outside its axis ends the run with HEED_ERR_LIMIT. Vaswani 2017; grouped heads: Ainslie 2023.
 *  Poison with HEED_ERR_SHAPE, _DTYPE, _SPEC. */
HEED_API heed_attended heed_attention(heed_builder *b, heed_value q, heed_value k, heed_value v,
                                      const heed_attention_spec *spec);

#ifdef __cplusplus
}
#endif
#endif
