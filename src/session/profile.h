/* A profile as a session writes it: a fixed list of events, a table by kernel, a lane for each thread. */
#ifndef SESSION_PROFILE_H
#define SESSION_PROFILE_H

#include "base/context.h"
#include "plan/plan.h"

#define PROFILE_LANES 64 /* threads beyond are counted in the step alone */
#define PROFILE_KERNELS 256
#define PROFILE_LABELS 256

/* What a thread did of the step that runs now; each on a line of the cache of its own. */
typedef struct profile_lane {
    _Alignas(64) double begin, end; /* begin 0: nothing */
} profile_lane;

typedef struct profile_kernel {
    const char *op, *kernel;
    int64_t calls;
    double seconds, flops, bytes;
} profile_kernel;

struct heed_profile {
    heed_context *ctx;
    heed_profile_event *events; /* owned */
    profile_lane *lanes;        /* owned; PROFILE_LANES */
    profile_kernel kernels[PROFILE_KERNELS];
    char labels[PROFILE_LABELS][48]; /* [0] is "" */
    int64_t room, n, dropped, runs, steps;
    int n_kernels, n_labels, label, threads;
    heed_profile_state state;
    double zero, step_began;
};

/* p, or NULL when nothing is to be recorded. */
static inline heed_profile *heed__profile_on(heed_profile *p)
{
    return p && p->state == HEED_PROFILE_ON ? p : NULL;
}

void heed__profile_run(heed_profile *p);
void heed__profile_step_begin(heed_profile *p);
void heed__profile_chunk(heed_profile *p, int worker, double began); /* ended now; from any thread */
void heed__profile_step_end(heed_profile *p, const step *t, int64_t index);

#endif
