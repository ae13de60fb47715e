/* heed/session.h: weights, plans and sessions: from a graph to numbers.
 *
 *   heed_weights   name -> tensor: parameters, running statistics, moments, rng. Outlives plans; shared by them.
 *   heed_plan      one graph with concrete shapes, lowered, ordered and packed: kernels, offsets, bytes known beforehand.
 *   heed_session   binds plans to one store of weights and one block of memory, and runs them without a heap call. */
#ifndef HEED_SESSION_H
#define HEED_SESSION_H

#include <heed/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- weights ---- */

typedef struct heed_weights heed_weights;

/** An empty store; counts references: heed_weights_keep adds one, heed_weights_free takes one away. One thread at a time. */
HEED_MUST_CHECK HEED_API heed_status heed_weights_new(heed_weights **out, heed_context *ctx, heed_error *err);
HEED_API heed_weights *heed_weights_keep(heed_weights *w);
HEED_API void heed_weights_free(heed_weights *w);

/** Number of tensors; name and tensor number i in order of their adding (*name is borrowed; the tensor borrows its data). */
HEED_API int64_t heed_weights_count(const heed_weights *w);
HEED_API heed_tensor heed_weights_at(const heed_weights *w, int64_t i, const char **name);

/** The tensor of that name, data NULL and rank -1 if there is none. Its data may be written while no session runs. */
HEED_API heed_tensor heed_weights_find(const heed_weights *w, const char *name);

/** Adds a copy of the tensor, or overwrites the one of that name, whose type must be the same (HEED_ERR_SHAPE, _DTYPE). */
HEED_MUST_CHECK HEED_API heed_status heed_weights_put(heed_weights *w, const char *name, heed_tensor tensor, heed_error *err);

/** Makes every parameter and state of the graph that is not there yet, initialised under `seed`; those there must have the graph's
 *  types. Initial values depend on seed and path only. */
HEED_MUST_CHECK HEED_API heed_status heed_weights_init(heed_weights *w, const heed_graph *g, uint64_t seed, heed_error *err);

/** What of a store is meant: the model file's tensors, everything, or what the model file leaves out (moments, averages, rng). */
typedef enum heed_weights_part { HEED_WEIGHTS_MODEL = 0, HEED_WEIGHTS_ALL, HEED_WEIGHTS_STATE } heed_weights_part;

/** SHA-256 over the tensors of a part (name, type, bytes; in order of name) as 64 hex digits and a terminator. */
HEED_MUST_CHECK HEED_API heed_status heed_weights_sha256(const heed_weights *w, heed_weights_part part, char out[65], heed_error *err);

/** True for names that belong to the model file: not "rng", "optimizer.*", "ema.*" or "kv_cache.*". */
HEED_API bool heed_weights_in_model(const char *name);

/* ---- plans ---- */

typedef struct heed_plan heed_plan;

typedef enum heed_kernels { HEED_KERNELS_FAST = 0, HEED_KERNELS_REFERENCE } heed_kernels;

/** COPIED: a result is copied to the caller when the run has succeeded. DIRECT: the caller gives memory for every output at every run,
 *  which overlaps no other output and no input; what may is then computed there, and takes neither room in the block nor a copy.
 *  A run that fails still leaves the memory as it was. */
typedef enum heed_results { HEED_RESULTS_COPIED = 0, HEED_RESULTS_DIRECT } heed_results;

typedef struct heed_plan_opts {
    const char *const *taps; /**< paths of taps to deliver after the outputs, ended by NULL; "encoder.*" takes all below */
    heed_kernels kernels;    /**< REFERENCE: every composite opened, the last kernel of each list: for proofs */
    heed_results results;
} heed_plan_opts;

/** Lowers the graph and plans it for this context's level and threads. The graph may be freed after. HEED_ERR_MISSING when no
 *  kernel serves a node, HEED_ERR_USAGE for an unknown tap. */
HEED_MUST_CHECK HEED_API heed_status heed_plan_new(heed_plan **out, heed_context *ctx, const heed_graph *g,
                                                   const heed_plan_opts *opts, heed_error *err);
HEED_API void heed_plan_free(heed_plan *p);

/** What a plan will need, known before anything is allocated for it. */
typedef struct heed_plan_report {
    int64_t steps, nodes, copies, in_place;
    uint64_t block_bytes;    /**< activations, scratch and sums: the one block a run works in */
    uint64_t sum_bytes;      /**< what the activations would need without sharing memory */
    uint64_t weight_bytes;   /**< parameters and states it reads */
    double flops;            /**< of one run; a multiply-add counts 2 */
    int threads;
    heed_isa isa;
} heed_plan_report;
HEED_API heed_plan_report heed_plan_describe(const heed_plan *p);

/** A step of a plan. Texts are borrowed from the plan. */
typedef struct heed_plan_step {
    int64_t index;           /**< place in the plan */
    const char *op, *kernel; /**< what it computes, and with what */
    const char *path;        /**< scope of its node; "" at the top */
    const char *passed_over; /**< kernels asked before that do not serve these types, separated by ", "; "" for none */
    heed_type type;          /**< of its first wanted output */
    int outputs;             /**< wanted ones */
    int64_t chunks, chunk;   /**< pieces of work, and items of one */
    uint64_t bytes;          /**< inputs and outputs, each once */
    uint64_t scratch_bytes;  /**< of all threads, and shared by chunks */
    int64_t offset;          /**< of the first output in the block; -1: in a weight or an input */
    double flops;
    bool in_place;           /**< its first output lies over one of its inputs */
} heed_plan_step;

/** Steps that do work, in order: fewer than report.steps, for copies that were written through are left out. */
HEED_API int64_t heed_plan_steps(const heed_plan *p);
HEED_API heed_plan_step heed_plan_step_at(const heed_plan *p, int64_t i);

/** A table with a line a step: op, kernel and why, type, place, bytes, FLOPs, scope. Given back by heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_plan_print(char **out, const heed_plan *p, heed_error *err);

/** Inputs in the order of heed_input; outputs in the order of heed_output, then the taps asked for. Names are borrowed. */
HEED_API int heed_plan_inputs(const heed_plan *p);
HEED_API int heed_plan_outputs(const heed_plan *p);
HEED_API const char *heed_plan_input_name(const heed_plan *p, int i);
HEED_API const char *heed_plan_output_name(const heed_plan *p, int i);
HEED_API heed_type heed_plan_input_type(const heed_plan *p, int i);
HEED_API heed_type heed_plan_output_type(const heed_plan *p, int i);

/* ---- sessions ---- */

typedef struct heed_session heed_session;

typedef struct heed_session_opts {
    uint64_t seed;         /**< of weights that plans need and the store lacks */
    void *block;           /**< the caller's memory to run in, aligned to 64; NULL: the session allocates */
    size_t block_bytes;    /**< its size; heed_session_add refuses plans that need more (HEED_ERR_LIMIT) */
} heed_session_opts;

/** A session over one store, which it keeps. One thread at a time. */
HEED_MUST_CHECK HEED_API heed_status heed_session_new(heed_session **out, heed_context *ctx, heed_weights *w,
                                                      const heed_session_opts *opts, heed_error *err);
HEED_API void heed_session_free(heed_session *s);

/** Binds a plan (kept alive by its owner until the session is freed) and gives its number in *id. All memory is taken here. */
HEED_MUST_CHECK HEED_API heed_status heed_session_add(heed_session *s, const heed_plan *p, int *id, heed_error *err);

/** Forgets a plan so that it may be freed. Its number may be given out again. */
HEED_API void heed_session_remove(heed_session *s, int id);

/** Runs plan `id`: inputs[i].data is read, outputs[i].data written (NULL: not wanted); types must be the plan's.
 *  No heap call is made. HEED_ERR_LIMIT for a bad index, HEED_ERR_NUMERIC from heed_check_finite: then states keep
 *  their old values and err names the node. */
HEED_MUST_CHECK HEED_API heed_status heed_session_run(heed_session *s, int id, const heed_tensor *inputs, int n_inputs,
                                                      const heed_tensor *outputs, int n_outputs, heed_error *err);

/** The same run, node by node, looking for the first value that is NaN or infinite: HEED_ERR_NUMERIC with its node's path, or
 *  HEED_OK. -inf that a mask brought in (a constant or an input that holds it, the log-sum of a row that keeps nothing) is
 *  none. No state is changed. Slow. */
HEED_MUST_CHECK HEED_API heed_status heed_session_find_bad(heed_session *s, int id, const heed_tensor *inputs, int n_inputs,
                                                           heed_error *err);

/* ---- profile: where the time of runs goes ---- */

/** Room for a number of events, taken once: recording makes no heap call and changes no bit of any result. Any number of
 *  sessions may share one, on one thread at a time. */
typedef struct heed_profile heed_profile;

typedef struct heed_profile_opts {
    int64_t events; /**< room; 0: 65,536. What comes after is counted, and dropped */
} heed_profile_opts;

HEED_MUST_CHECK HEED_API heed_status heed_profile_new(heed_profile **out, heed_context *ctx, const heed_profile_opts *opts,
                                                      heed_error *err);
HEED_API void heed_profile_free(heed_profile *p);

/** Records every later run of the session in p (borrowed); NULL: records nothing, and costs nothing. */
HEED_API void heed_session_profile(heed_session *s, heed_profile *p);

/** A profile that is off leaves runs alone though sessions have it. It begins on. */
typedef enum heed_profile_state { HEED_PROFILE_ON = 0, HEED_PROFILE_OFF } heed_profile_state;
HEED_API void heed_profile_switch(heed_profile *p, heed_profile_state state);

/** Later events belong to this (copied, 47 bytes at most): the name of a benchmark. NULL: nothing. At most 256 labels. */
HEED_API void heed_profile_label(heed_profile *p, const char *label);

/** A step of a plan, or a thread's share of it. */
typedef struct heed_profile_event {
    const char *op, *kernel;  /**< live as long as the program */
    const char *label;        /**< "" or that of heed_profile_label; lives as long as the profile */
    char path[64];            /**< scope of the node; the end of one that is longer */
    int64_t run, step;        /**< run since the profile was made; step of its plan */
    int lane;                 /**< -1: the step; else the thread whose share this is, first chunk to last */
    double begin, seconds;    /**< since the profile was made */
    double flops;             /**< of the step; a multiply-add counts 2 */
    uint64_t bytes;           /**< inputs and outputs, each once */
} heed_profile_event;

/** Events kept, one of them (borrowed), and how many had no room. */
HEED_API int64_t heed_profile_count(const heed_profile *p);
HEED_API const heed_profile_event *heed_profile_at(const heed_profile *p, int64_t i);
HEED_API int64_t heed_profile_dropped(const heed_profile *p);

/** Writes the events, atomically, as a Chrome trace: chrome://tracing and ui.perfetto.dev open it. */
HEED_MUST_CHECK HEED_API heed_status heed_profile_write(const heed_profile *p, const char *path, heed_error *err);

/** A table by kernel over all runs, dropped events too: share of the time, GFLOP/s and their share of the peak, which is
 *  measured for it (some 10 ms). Given back by heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_profile_summary(char **out, const heed_profile *p, heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
