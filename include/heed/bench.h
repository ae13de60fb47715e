/* heed/bench.h: what this machine gives to heed: products, convolutions, row primitives, operations, whole training steps.
 *
 * Machines are shared and clocks move, so that a time alone says little: peaks are measured in the same run, and a row is
 * given with its share of them. Print these numbers; never test them. */
#ifndef HEED_BENCH_H
#define HEED_BENCH_H

#include <heed/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_bench_unit {
    HEED_BENCH_SECONDS = 0, /**< nothing to compare with: start-up */
    HEED_BENCH_GFLOPS,      /**< 1e9 operations a second; a multiply-add counts 2 */
    HEED_BENCH_GBS          /**< 1e9 bytes a second: inputs and outputs, each once */
} heed_bench_unit;

/** One benchmark. Texts are borrowed until the callback returns. */
typedef struct heed_bench_row {
    const char *name;       /**< "gemm 512x512x512" */
    int threads, rounds;    /**< a round is many runs */
    double best, median;    /**< seconds of one run, over the rounds */
    double p99;             /**< latency: 99 in 100 runs took no longer; rounds are single runs then. 0: not measured */
    heed_bench_unit unit;
    double rate, peak;      /**< of the best round, and what the machine gave in this run, both in `unit`; 0: none */
    const char *kernel;     /**< attention: what computes it, "tiles" or "composed"; NULL: not told */
    double kept;            /**< attention: share of all pairs of query and key that its mask keeps; 0: not told */
    uint64_t block_bytes;   /**< of the plan: activations, scratch and sums; 0: no plan */
    uint64_t tensor_bytes;  /**< inputs and outputs */
    uint64_t extra_bytes;   /**< the most that was alive beyond them during a run: the block, weights, the plan itself */
    int64_t allocations;    /**< of one run */
    double time_exponent, memory_exponent; /**< growth rows: fitted e of cost ~ tokens^e; memory is all that was alive */
    const char *skipped;    /**< why it did not run; NULL: it ran */
} heed_bench_row;

/** Return true to stop: heed_bench_run then returns HEED_ERR_STOPPED. */
typedef bool heed_bench_fn(void *user, const heed_bench_row *row);

typedef enum heed_bench_what {
    HEED_BENCH_RUN = 0,
    HEED_BENCH_LIST /**< plans and tells every row, runs none: rounds is 0 */
} heed_bench_what;

typedef struct heed_bench_opts {
    const char *filter; /**< only rows whose name contains this; NULL: all but the long ones of attention */
    double seconds;     /**< time for a row; 0: 0.25 */
    int rounds;         /**< equally long rounds of a row, at most 99; 0: 7 */
    heed_bench_what what;
    heed_profile *profile; /**< one more run of each graph and model is recorded under the row's name; NULL: none */
} heed_bench_opts;

/** Runs the benchmarks on the context's threads and level, and calls `each` after every one. A row whose plan
 *  needs more than 2 GiB is told with the reason and not run. HEED_ERR_USAGE when the filter leaves none. One thread at a time. */
HEED_MUST_CHECK HEED_API heed_status heed_bench_run(heed_context *ctx, const heed_bench_opts *opts, heed_bench_fn *each,
                                                    void *user, heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
