/* A plan: the lowered graph as a flat list of kernel calls over places in memory. */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include "graph/op.h"
#include <heed/session.h>

/* Where a value lies. Views share the storage of what they look at. */
typedef enum storage_kind {
    STORAGE_BLOCK,
    STORAGE_INPUT,
    STORAGE_WEIGHT,
    STORAGE_CONSTANT,
    STORAGE_OUTPUT /* the caller's memory for a result */
} storage_kind;

typedef struct storage {
    storage_kind kind;
    uint32_t index;        /* input, weight or output number */
    const void *data;      /* constant */
    uint64_t bytes, offset; /* block: place in the block */
    int32_t first, last;   /* block: steps between which it is alive */
    uint32_t merged;       /* storage it was merged into (in place), itself otherwise */
} storage;

#define NO_STORAGE UINT32_MAX
#define PLAN_BYTES_MOST ((uint64_t)1 << 56) /* of a tensor, a storage, the block: what CPUs address, and far from where sums wrap */

typedef struct operand {
    view view;        /* data is NULL until bound */
    uint32_t storage; /* NO_STORAGE: absent or unwanted */
    int64_t offset;   /* bytes into the storage */
} operand;

typedef struct step {
    const op_def *op;
    const op_kernel *kernel;
    const void *attrs;
    const char *path;
    operand *in, *out;
    int n_in, n_out;
    int64_t count, chunk, chunks, prepare_count, gather_count;
    uint64_t scratch_bytes; /* one area of one thread */
    uint64_t shared_bytes, partial_stride;
    uint32_t scratch, shared, partial; /* storages in the block; NO_STORAGE: none */
    double flops;
    bool in_place;
    const char *passed_over; /* names of faster kernels that did not accept, or NULL */
} step;

typedef struct plan_weight {
    const char *path;
    leaf_attrs attrs;
    bool param;
} plan_weight;

typedef struct plan_name {
    const char *name;
    operand operand;
} plan_name;

struct heed_plan {
    heed_context *ctx;
    heed_graph *graph; /* lowered: owns attributes, paths, constants */
    arena arena;
    step *steps;
    storage *storages;
    plan_weight *weights;
    plan_name *inputs, *outputs;
    uint32_t n_steps, n_storages, n_weights, n_inputs, n_outputs;
    uint32_t room_steps, room_storages;
    heed_plan_report report;
    bool direct; /* HEED_RESULTS_DIRECT */
};

static inline uint32_t heed__storage_root(const heed_plan *p, uint32_t s)
{
    while (p->storages[s].merged != s)
        s = p->storages[s].merged;
    return s;
}

/* plan/report.c: inputs and outputs of a step, each once; of a patch in place only what is written. */
uint64_t heed__step_bytes(const step *s);

/* plan/order.c: the nodes in the order of running; `order` has room for all of them. */
heed_status heed__plan_order(uint32_t *order, heed_context *ctx, const heed_graph *g, heed_error *err);

/* plan/lower.c: passes in order. */
heed_status heed__plan_lower(heed_graph **out, const heed_graph *g, heed_context *ctx, const heed_plan_opts *opts, heed_error *err);

/* The pass fold_probes with the kernels that would serve; *out NULL when nothing is differentiated. */
heed_status heed__plan_fold(heed_graph **out, const heed_graph *g, heed_context *ctx, heed_kernels kernels, heed_error *err);

/* The kernel for a call with types and attributes; *passed gets the names that did not accept. NULL: none serves. */
const op_kernel *heed__plan_kernel(const op_def *op, const op_call *c, heed_kernels kernels, text *passed);

/* A call as `accepts` sees it: types and level only. in and out have room for n views. */
op_call heed__plan_call(heed_context *ctx, const heed_graph *g, const node *n, view *in, view *out);

/* plan/memory.c: the input that output k of an op is made to lie over (op_slot.over), or -1. */
int heed__written_over(const op_def *op, int k);

/* plan/memory.c: in-place and write-through, lifetimes, offsets. */
heed_status heed__plan_memory(heed_plan *p, heed_error *err);

#endif
