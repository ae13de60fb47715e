/* One sample of an op as numbers and as a graph: filled from Philox, built in any floating dtype, with gradients of the
 * first and second order, its inputs arriving dense or as views. */
#ifndef TESTS_SAMPLED_H
#define TESTS_SAMPLED_H

#include "graph/op.h"
#include "support/trial.h"

#define SAMPLED_IN 40

/* How an input reaches the op. The numbers are the same; what lies between them is NaN, or an index that is out of range. */
typedef enum arrival {
    ARRIVE_DENSE = 0,
    ARRIVE_PERMUTED, /* all axes reversed in memory */
    ARRIVE_SPREAD,   /* every second element of the last axis */
    ARRIVE_WITHIN,   /* rows 1 .. n of n + 2 */
    ARRIVE_OWNED,    /* in the block and read here for the last time, so that the op may overwrite it */
    ARRIVALS
} arrival;

typedef struct sampled {
    const op_def *op;
    const op_sample *sample;
    int index;            /* of the sample: decides the numbers */
    heed_dtype dtype;     /* of what is under test */
    heed_dtype rounded;   /* the numbers are exact in this one */
    int order;            /* 0: the op, 1: its gradient too, 2: the gradient of that */
    arrival arrives;
    int repeats;          /* bit i: input i is one row, repeated along axis 0, and arrives as a broadcast view */

    int n;
    const sample_in *given;
    heed_type type[SAMPLED_IN]; /* rank -1: absent */
    double *x[SAMPLED_IN];

    /* known once it was built */
    int n_out, n_up, n_wrt;
    int up_of[OP_OUT_MAX], wrt[SAMPLED_IN];
    heed_type out[OP_OUT_MAX];
    double *up[OP_OUT_MAX], *v[SAMPLED_IN]; /* of outputs up_of[i]; of gradients by wrt[i] */
    const char *lacks;                      /* an op on the way that stops gradients, or NULL */
} sampled;

/* Numbers of a sample, with `rounded` HEED_F32. */
void sampled_open(sampled *s, const op_def *op, int index);
void sampled_close(sampled *s);

/* False for an output that would be the new value of an input that is absent: nobody asks for it. */
bool sampled_makes(const sampled *s, int out);

/* New numbers after types or `rounded` were changed. */
void sampled_fill(sampled *s);

/* True for inputs whose dtype is the one under test. */
bool sampled_tested(const sampled *s, int i);
bool sampled_any_tested(const sampled *s);

/* The dtype of input i when `dtype` is under test. f16 and bf16 are for tensors; an input that the slots do not tie to another by
 * same_as (a norm's mean, a loss' upstream gradient) is a number that a kernel computed, and stays f32 beside them. */
heed_dtype sampled_dtype(const sampled *s, int i, heed_dtype dtype);
const op_slot *sampled_slot(const op_def *op, int i);

/* A trial_build: inputs x, upstream gradients, directions; outputs y, first gradients, second gradients. */
void sampled_build(heed_builder *b, void *sampled);

/* Opens a trial in a dtype and hands over the numbers. */
heed_status sampled_try(sampled *s, trial *t, heed_context *ctx, heed_dtype dtype, int order, heed_kernels kernels, heed_error *err);
void sampled_load(const sampled *s, trial *t);

int sampled_count(const op_def *op);

#endif
