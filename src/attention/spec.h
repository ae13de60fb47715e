/* The descriptor's tables and rules: names of its tensors, and what may stand together. */
#ifndef ATTENTION_SPEC_H
#define ATTENTION_SPEC_H

#include "attention/attention.h"

/* One line for each tensor of heed_attention_spec.in, in its order: the reserved names of a file beside q, k and v. */
typedef struct attention_tensor {
    const char *name;
    size_t offset;   /* of the handle in heed_attention_spec */
    unsigned dtypes; /* DTYPE_BITs */
    bool differentiable;
} attention_tensor;
extern const attention_tensor heed__attention_tensors[];
enum { ATTENTION_TENSORS = 40 };

static inline heed_value heed__attention_tensor(const heed_attention_spec *s, int i)
{
    return *(const heed_value *)(const void *)((const char *)s + heed__attention_tensors[i].offset);
}

/* False, and the builder poisoned with a sentence that names the fields, when the combination has no meaning. q is of rank
 * 4. */
bool heed__attention_spec_check(heed_builder *b, heed_value q, const heed_attention_spec *s);

/* What is used, a given tensor counting as asking for it. */
bool heed__spec_alibi(const heed_attention_spec *s);
bool heed__spec_t5(const heed_attention_spec *s);
bool heed__spec_rows(const heed_attention_spec *s); /* probe rows or heads */
bool heed__spec_positions(const heed_attention_spec *s);

/* Is out the core's, and its gradient made from it and lse? Then lse_rest is a result, and `stored` may be given. */
bool heed__spec_stores(const heed_attention_spec *s);

#endif
