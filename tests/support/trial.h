/* A graph run on plain numbers. Every buffer that the library sees lies between sentinel bytes, the block it works in is the
 * test's own, and both are filled with patterns before each run: a byte written outside, an input changed or an element that was never
 * written is noticed, and what was found stands in `broken`. */
#ifndef TESTS_TRIAL_H
#define TESTS_TRIAL_H

#include <heed/session.h>

#define TRIAL_VALUES 64 /* inputs, and outputs */

typedef struct guarded {
    heed_tensor tensor;
    unsigned char *memory;
    size_t bytes;
} guarded;

typedef struct trial {
    heed_context *ctx;
    heed_weights *weights;
    heed_plan *plan;
    heed_session *session;
    int id, n_in, n_out;
    guarded in[TRIAL_VALUES], out[TRIAL_VALUES], block;
    int pattern; /* what the block is filled with before a run; -1: left as it is */
    char broken[160];
} trial;

typedef void trial_build(heed_builder *b, void *user);

/* Builds, plans and binds; on failure the trial is closed. Inputs are in the order of heed_input. `seed`: of weights. */
heed_status trial_open(trial *t, heed_context *ctx, trial_build *build, void *user, const heed_plan_opts *opts, heed_error *err);
void trial_close(trial *t);

/* Numbers of input i, rounded to its dtype; of output i. */
void trial_set(trial *t, int i, const double *numbers);
void trial_get(const trial *t, int i, double *numbers);

/* One run. */
heed_status trial_run(trial *t, heed_error *err);

/* Memory that a test cannot do without: ends the program when there is none. Zeroed. */
void *trial_memory(size_t n, size_t size);

#endif
