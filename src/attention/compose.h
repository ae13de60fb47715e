/* The parts of the composition: one file a stage. All values are in the dtype of sums. */
#ifndef ATTENTION_COMPOSE_H
#define ATTENTION_COMPOSE_H

#include "attention/attention.h"

/* The values from which all is composed. */
typedef struct attention_parts {
    heed_builder *b;
    const attention_attrs *attrs;
    heed_dtype dtype;
    int64_t batch, heads, tq, tk;
    heed_value in[AT_INPUTS]; /* q, k, v: rows beyond the lengths zero, heads repeated */
    heed_value rows;          /* bool [B,1,Tq,1]: i < q_lengths[b]; {0}: all */
    heed_value at;            /* i64 [B or 1,1,Tq,1]: p */
    heed_value distance;      /* i64 [B or 1,1,Tq,Tk]: j - p */
    heed_value keep;          /* bool, broadcastable to [B,Hq,Tq,Tk]; {0}: all */
} attention_parts;
attention_parts heed__attention_parts(heed_builder *b, const attention_attrs *a, const heed_value *in, int n);

/* All outputs of attention. */
void heed__attention_compose(heed_builder *b, const attention_attrs *a, const heed_value *in, int n,
                             heed_value out[AT_OUTPUTS]);

/* keep of the masks (compose_mask.c); {0} when all are kept. */
heed_value heed__attention_keep(const attention_parts *p);

/* z [B,Hq,Tq,Tk] before masking (compose_score.c). */
heed_value heed__attention_logits(const attention_parts *p);

/* w and, where it is defined, lse [B,Hq,Tq,1], else -inf (compose_normalise.c). Empty rows: 0 and -inf. */
heed_value heed__attention_normalise(const attention_parts *p, heed_value z, heed_value *lse);

/* w after dropout; and its sums by relative position, [B,Hq,Tq,R], or of width 0 when the attributes ask for none. */
heed_value heed__attention_dropped(const attention_parts *p, heed_value w);
heed_value heed__attention_rel_sums(const attention_parts *p, heed_value w);

/* Linear attention: out and weights; and, for its gradient, a value under another name (attention_grad.c). */
void heed__linear_compose(heed_builder *b, const attention_attrs *a, const heed_value *in, int n, heed_value out[2]);
heed_value heed__attention_alias(heed_builder *b, heed_value x);

/* Small ones. */
heed_value heed__positions(heed_builder *b, int axis, int64_t n); /* 0 .. n-1 along one of four axes, i64 */
heed_value heed__per_head(heed_builder *b, heed_value x);         /* [n] as [1,n,1,1] */
heed_value heed__zero_unless(heed_builder *b, heed_value keep, heed_value x); /* keep {0}: x */
heed_value heed__bounded_offset(heed_builder *b, heed_value offset); /* heed__attention_offset of each, i64 */
heed_value heed__repeat_heads(heed_builder *b, heed_value x,
                              int64_t heads); /* key heads as often as query heads use them */
heed_value heed__within(heed_builder *b, heed_value lengths, int axis,
                        int64_t n); /* bool [B,..,n,..]: index < lengths[b] */

#endif
