/* Inside heed_attend, for the files of tasks/attend*.c. */
#ifndef TASKS_ATTEND_H
#define TASKS_ATTEND_H

#include "attention/spec.h"
#include "base/arena.h"
#include "base/context.h"
#include <heed/attend.h>

/* q, k, v, one for each member of heed_attention_spec.in but rng, dout, dweights, dlse. */
enum {
    ATTEND_Q,
    ATTEND_K,
    ATTEND_V,
    ATTEND_TENSORS,
    ATTEND_DOUT = ATTEND_TENSORS + ATTENTION_TENSORS,
    ATTEND_DWEIGHTS,
    ATTEND_DLSE,
    ATTEND_INPUTS
};

/* Names of results: d_NAME of each input that has a gradient behind the first. */
enum { ATTEND_RESULTS_MOST = 16 + ATTEND_INPUTS };

typedef struct attend_named {
    const char *name;
    heed_tensor tensor;
} attend_named;

typedef struct attend_list {
    attend_named *at; /* owned */
    int n;
} attend_list;

enum { ATTEND_PARTS_MOST = 8 }; /* two cores, their gradients and probes */

typedef struct attend_stages attend_stages;

struct heed_attend {
    heed_context *ctx;
    arena arena;                      /* names, tensors that were given */
    heed_tensor given[ATTEND_INPUTS]; /* data NULL: not given */
    const char *unknown;              /* the first name that is none, or NULL: refused when it is built */
    attend_list expected;
    const char *spec, *expect, *reason, *note; /* metadata; spec NULL: none */
    double atol, rtol;

    /* of the last build */
    arena build;
    heed_attention_text *text;
    heed_attend_opts opts;
    char *json; /* owned: the descriptor used */
    heed_graph *graph;
    heed_plan *plan;
    heed_weights *weights;
    heed_session *session;
    int id;
    attend_list results;
    int bound[ATTEND_INPUTS + 1]; /* the input of the plan's i-th */
    int64_t rng[2];
    bool ran;
    heed_attend_part parts[ATTEND_PARTS_MOST];
    int n_parts;
    attend_stages *stages; /* NULL: not computed */
};

/* Name, dtypes and gradient of input i; NULL for rng, which is written as numbers. */
const char *heed__attend_name(int i);
bool heed__attend_differentiable(int i);

/* Memory of the arena that holds a tensor of this type; NULL when there is none. */
void *heed__attend_memory(heed_attend *a, const heed_type *type);

/* "entropy,topk:8" into the descriptor's probes, in place of those there. */
heed_status heed__attend_probe(heed_context *ctx, heed_attention_text *t, const char *list, heed_error *err);

/* The result of that name after a run, or NULL. */
const attend_named *heed__attend_result(const heed_attend *a, const char *name);

void heed__attend_stages_free(heed_attend *a);

/* Fills a->parts from the graph. */
heed_status heed__attend_parts(heed_attend *a, heed_error *err);

/* Reasons for HEED_ATTEND_STREAMING to be refused; HEED_OK when fused kernels serve every part. */
heed_status heed__attend_streams(const heed_attend *a, heed_error *err);

#endif
