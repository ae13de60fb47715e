/* What the files of `heed bench` share: rounds, and a graph held ready to be run again and again. */
#ifndef TRAIN_BENCH_H
#define TRAIN_BENCH_H

#include "base/context.h"
#include <heed/bench.h>

#define BENCH_NAME 96
#define BENCH_BLOCK_MOST ((uint64_t)2 << 30) /* a plan that needs more is told, not run */

typedef struct bench {
    heed_context *ctx;
    heed_error *err;
    const char *filter;
    heed_bench_fn *each;
    void *user;
    double seconds;
    int rounds;
    bool list;
    double gflops, read_gbs, l1_gbs; /* peaks of one thread */
    heed_profile *profile;           /* off but for one run of each row; NULL: none */
    int told;
    bool peaks;
} bench;

/* What is timed: one run, again and again. */
typedef heed_status bench_fn(void *user, heed_error *err);

bool heed__bench_wanted(const bench *b, const char *name);

/* Measures the peaks unless that was done. */
heed_status heed__bench_peaks(bench *b);

/* Times a row and tells it. `work` and `peak`: operations or bytes of one run, and what all threads of the row could do in a
 * second. *best gets the seconds of the best round; NULL: not wanted. */
heed_status heed__bench_time(bench *b, heed_bench_row row, double work, double peak, bench_fn *fn, void *user,
                             double *best);

/* Tells a row. HEED_ERR_STOPPED when the listener has enough. */
heed_status heed__bench_tell(bench *b, const heed_bench_row *row);

/* Numbers in [-1, 1) that depend on the seed; indices 0 .. 9; true everywhere. */
void heed__bench_fill(heed_tensor *t, uint32_t seed);

/* A graph, planned, with a session and tensors for all inputs and outputs. */
typedef struct bench_graph {
    heed_context *ctx;
    heed_weights *weights;
    heed_plan *plan;
    heed_session *session; /* NULL: the plan needs more than BENCH_BLOCK_MOST, or none was asked for */
    heed_tensor *tensors;  /* inputs, then outputs */
    int id, n_in, n_out;
    double bytes;    /* of inputs and outputs */
    uint64_t before; /* bytes of the heap before anything of this was there */
} bench_graph;

typedef void bench_build_fn(heed_builder *b, const void *what);
typedef enum bench_depth { BENCH_PLAN, BENCH_SESSION } bench_depth; /* PLAN: no memory for runs is taken */

/* Builds in training mode; g is zeroed or released. Release it also when this fails. */
heed_status heed__bench_prepare(bench_graph *g, heed_context *ctx, bench_build_fn *build, const void *what,
                                const heed_plan_opts *opts, bench_depth depth, heed_error *err);
heed_status heed__bench_once(void *g, heed_error *err);
void heed__bench_release(bench_graph *g);

/* Fills in what a row says of the memory of one more run. */
heed_status heed__bench_memory(bench_graph *g, heed_bench_row *row, heed_error *err);

/* ---- attention ---- */

/* Every row of attention; growth last. */
heed_status heed__bench_attention(bench *b);

/* One row by its full name, for programs that measure heed beside others: the graph ready to run, with what is known before a
 * run in *row. row->name is borrowed from `name`. HEED_ERR_USAGE when there is no such row. */
heed_status heed__bench_attention_open(bench_graph *g, heed_context *ctx, const char *name,
                                       heed_bench_row *row, double *flops, heed_error *err);

#endif
