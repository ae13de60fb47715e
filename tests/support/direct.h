/* One kernel called by itself, without planner or session, on memory that ends (or begins) at a page that faults: a read or write
 * one element too far is caught, not hoped for. */
#ifndef TESTS_DIRECT_H
#define TESTS_DIRECT_H

#include "support/sampled.h"

typedef struct direct_opts {
    heed_isa isa;
    heed_dtype dtype;   /* of what is under test */
    bool at_start;      /* buffers begin at a page's start instead of ending at its end */
    bool gaps;          /* operands as far from dense as the kernel's layout allows, with NaN between */
    bool backward;      /* chunks from the last to the first */
    int pattern;        /* what outputs, scratch and shared memory hold before; scratch before every chunk */
    int only;           /* -1: all outputs wanted; else this one */
    int over_out, over_in; /* output over_out lies in input over_in's memory; -1: none */
} direct_opts;

/* Does the kernel accept the sample, in this dtype, on this level? Then *out are the types of its outputs. */
bool direct_accepts(const sampled *s, const op_kernel *k, const direct_opts *o, heed_type out[OP_OUT_MAX]);

/* Runs it; results[j] gets the bytes of output j (NULL for those not wanted), to be freed. NULL, or what went wrong: a static text. */
const char *direct_run(const sampled *s, const op_kernel *k, const direct_opts *o, unsigned char *results[OP_OUT_MAX]);

/* True when op's output j may overwrite input i, as the planner sees it. */
bool direct_may_overwrite(const op_def *op, int out, int in);

#endif
