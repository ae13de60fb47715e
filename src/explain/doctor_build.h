/* The model and its loss in a builder that is still open, so that a rule can read its nodes and add outputs;
 * and the finished graph, run on some of what is shown. */
#ifndef EXPLAIN_DOCTOR_BUILD_H
#define EXPLAIN_DOCTOR_BUILD_H

#include "explain/doctor.h"
#include "ops/ops.h"

typedef struct doctor_build {
    heed_builder *b; /* owned by the caller on success */
    heed_value in[DOCTOR_INPUTS];
    heed_value result;
    uint32_t loss_begin; /* the first node of the loss; the end when there is no target */
} doctor_build;

/* For `batch` samples of d's shape. */
heed_status heed__doctor_build(doctor_build *out, doctor *d, heed_mode mode, int64_t batch);

/* Where a node stands, for people: its scope; "after fc" at the top, where fc is the nearest layer before it. */
const char *heed__doctor_place(char to[192], const heed_graph *g, const node *n);

/* The value that v is but for views, casts, copies and dropout. */
heed_value heed__doctor_source(const heed_graph *g, heed_value v);

/* An output in f32; names are given in order. HEED_OK, or the builder's first error. */
heed_status heed__doctor_output(doctor_build *build, doctor *d, heed_value v);

/* The graph, without what it would write into states. */
heed_status heed__doctor_finish(heed_graph **out, doctor *d, doctor_build *build);

/* A graph of outputs in f32, ready to run; out[i] holds what the last run gave. */
typedef struct doctor_runner {
    doctor *d;
    heed_graph *graph;
    heed_plan *plan;
    heed_session *session;
    heed_tensor *out;
    int n, id;
} doctor_runner;

/* Finishes the builder. To be closed on failure too. */
heed_status heed__doctor_open(doctor_runner *r, doctor *d, doctor_build *build);
heed_status heed__doctor_run(doctor_runner *r, const heed_tensor *in);
void heed__doctor_close(doctor_runner *r);

/* What is shown from sample `begin` on, `count` of them. */
void heed__doctor_some(const doctor *d, int64_t begin, int64_t count, heed_tensor in[DOCTOR_INPUTS + 1]);

/* Samples of a batch, and how many all whole batches show. */
#define DOCTOR_BATCH 32
static inline int64_t heed__doctor_batch(const doctor *d)
{
    return i64_min(d->n, DOCTOR_BATCH);
}
static inline int64_t heed__doctor_shown(const doctor *d)
{
    return d->n / heed__doctor_batch(d) * heed__doctor_batch(d);
}

/* Tokens of sequence i: its length, or all. */
int64_t heed__doctor_length(const doctor *d, int64_t i);

/* Rules that read nodes of attention in the graph of training. */
heed_status heed__doctor_attention(doctor *d, const heed_graph *g);

#endif
