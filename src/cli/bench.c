/* heed bench: what this machine gives, with its share of peaks that were measured in the same run. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <unistd.h>

#define DRIVER "bench/peers"

typedef struct bench_args {
    const char *filter, *profile, *against;
    int64_t threads, milliseconds, rounds;
    int isa;
    bool list, force, json;
} bench_args;

static const cli_option bench_table[] = {
    STRING(bench_args, filter, .value = "TEXT",
           .doc = "only benchmarks with this in their name: gemm, conv, attention, op, model, start, row"),
    INTEGER(bench_args, milliseconds, .value = "N", .min = 1, .max = 600000, .fallback = "250",
            .doc = "time for each benchmark"),
    INTEGER(bench_args, rounds, .value = "N", .min = 1, .max = 99, .fallback = "7",
            .doc = "rounds that this time is cut into; a round is one run at least"),
    SWITCH(bench_args, list, .doc = "plans and lists the benchmarks, with kernels and memory, and runs none"),
    STRING(bench_args, against, .value = "LIST",
           .doc =
               "attention beside others in the same rounds: pytorch,flex,onnxruntime (in heed's repository)"),
    THREADS_OPTION(bench_args),
    ISA_OPTION(bench_args),
    PROFILE_OPTION(bench_args),
    FORCE_OPTION(bench_args, "writes over a trace that is there"),
    JSON_OPTION(bench_args, "a JSON object a line"),
    OPTIONS_END,
};

static const char *const bench_units[] = { "s", "GFLOP/s", "GB/s" };

/* "1.23 ms" in eight columns. */
static const char *bench_seconds(char text[32], double seconds)
{
    static const char *const units[] = { "s ", "ms", "us", "ns" };
    int unit = 0;

    for (; seconds < 1 && unit < 3; unit++)
        seconds *= 1000;
    (void)snprintf(text, 32,
                   seconds < 10    ? "%.2f %s"
                   : seconds < 100 ? "%.1f %s"
                                   : "%.0f %s",
                   seconds, units[unit]);
    return text;
}

static void bench_json_number(const char *key, double value)
{
    printf(",\"%s\":", key);
    heed__cli_number(stdout, value);
}

static bool bench_json(void *user, const heed_bench_row *r)
{
    (void)user;
    printf("{\"name\":");
    heed__cli_json(stdout, r->name);
    printf(",\"threads\":%d", r->threads);
    if (r->skipped) {
        printf(",\"skipped\":");
        heed__cli_json(stdout, r->skipped);
    }
    if (r->time_exponent != 0) {
        bench_json_number("time_exponent", r->time_exponent);
        bench_json_number("memory_exponent", r->memory_exponent);
    }
    if (r->rounds > 0) {
        printf(",\"rounds\":%d", r->rounds);
        bench_json_number("best", r->best);
        bench_json_number("median", r->median);
        if (r->p99 > 0)
            bench_json_number("p99", r->p99);
        printf(",\"unit\":\"%s\"", bench_units[r->unit]);
        bench_json_number("rate", r->rate);
        bench_json_number("peak", r->peak);
    }
    if (r->kernel) {
        printf(",\"kernel\":");
        heed__cli_json(stdout, r->kernel);
    }
    if (r->kept > 0)
        bench_json_number("kept", r->kept);
    if (r->block_bytes > 0)
        bench_json_number("block_bytes", (double)r->block_bytes);
    if (r->tensor_bytes > 0) {
        bench_json_number("tensor_bytes", (double)r->tensor_bytes);
        bench_json_number("extra_bytes", (double)r->extra_bytes);
        printf(",\"allocations\":%lld", (long long)r->allocations);
    }
    printf("}\n");
    return fflush(stdout) != 0;
}

/* "12.3 MiB" */
static const char *bench_bytes(char text[32], uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
    double n = (double)bytes;
    int unit = 0;

    for (; n >= 1024 && unit < 3; unit++)
        n /= 1024;
    (void)snprintf(text, 32, n < 10 && unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
    return text;
}

static bool bench_text(void *user, const heed_bench_row *r)
{
    char best[32], median[32], extra[32];

    (void)user;
    printf("%-54s %2d", r->name, r->threads);
    if (r->rounds > 0)
        printf("  %8s  %8s", bench_seconds(best, r->best), bench_seconds(median, r->median));
    if (r->rate > 0)
        printf("  %8.1f %-7s", r->rate, bench_units[r->unit]);
    if (r->rate > 0 && r->peak > 0)
        printf("  %3.0f %%", 100 * r->rate / r->peak);
    if (r->tensor_bytes > 0)
        printf("  %8s, %lld allocations", bench_bytes(extra, r->extra_bytes), (long long)r->allocations);
    else if (r->block_bytes > 0)
        printf("  %8s", bench_bytes(extra, r->block_bytes));
    if (r->kernel)
        printf("  %s", r->kernel);
    if (r->time_exponent != 0)
        printf("  time ~ T^%.2f, memory ~ T^%.2f", r->time_exponent, r->memory_exponent);
    if (r->skipped)
        printf("  not run: %s", r->skipped);
    if (r->p99 > 0)
        printf("  p99 %s", bench_seconds(best, r->p99));
    printf("\n");
    return fflush(stdout) != 0;
}

/* The driver takes the place of this process: it starts heed and its peers by turns. Returns on failure only. */
static heed_status bench_against(cli *c, const bench_args *a)
{
    char threads[32], rounds[32];
    const char *words[12] = { DRIVER, "--against", a->against };
    int n = 3;

    if (access(DRIVER, X_OK) != 0)
        return heed__cli_fail(c, HEED_ERR_MISSING,
                              "--against needs " DRIVER
                              " of heed's repository, which is not in this folder: run it in the"
                              " repository, after `" DRIVER " --setup`");
    if (a->filter) {
        words[n++] = "--filter";
        words[n++] = a->filter;
    }
    if (heed__cli_given(c, bench_table, "threads")) {
        (void)snprintf(threads, sizeof threads, "%lld", (long long)a->threads);
        words[n++] = "--threads";
        words[n++] = threads;
    }
    if (heed__cli_given(c, bench_table, "rounds")) {
        (void)snprintf(rounds, sizeof rounds, "%lld", (long long)a->rounds);
        words[n++] = "--rounds";
        words[n++] = rounds;
    }
    if (a->json)
        words[n++] = "--json";
    words[n] = NULL;
    execv(DRIVER, (char *const *)(uintptr_t)words);
    return heed__cli_fail(c, HEED_ERR_MISSING, DRIVER " cannot be started");
}

static heed_status bench_run(cli *c, const void *args)
{
    const bench_args *a = args;
    heed_profile *profile = NULL;
    char cpu[96];
    heed_status st;

    if (a->against)
        return bench_against(c, a);
    TRY(heed__cli_open(c, a->threads, a->isa));
    STEP(heed__cli_profile_begin(c, &profile, a->profile, a->force));
    heed_cpu_name(cpu);
    if (!a->json)
        printf(
            "%sheed %s, %s, level %s, %d threads%s\n%-54s %2s  %8s  %8s  %16s  of peak  beyond inputs and outputs\n",
            c->out.dim, HEED_VERSION, cpu, heed_isa_name(heed_context_isa(c->ctx)),
            heed_context_threads(c->ctx), c->out.off, "benchmark", "on", "best  ", "median ",
            "rate at best    ");
    STEP(heed_bench_run(c->ctx,
                        &(heed_bench_opts){ .filter = a->filter,
                                            .seconds = (double)a->milliseconds / 1000,
                                            .rounds = (int)a->rounds,
                                            .what = a->list ? HEED_BENCH_LIST : HEED_BENCH_RUN,
                                            .profile = profile },
                        a->json ? bench_json : bench_text, c, &c->err));
    STEP(heed__cli_profile_end(c, profile, a->profile));
done:
    heed_profile_free(profile);
    return st;
}

const cli_command heed__cli_bench = {
    .name = "bench",
    .does = "measure this machine: products, convolutions, attention, operations, training",
    .options = bench_table,
    .args_size = sizeof(bench_args),
    .run = bench_run,
    .about =
        "A benchmark is timed in rounds: the best says what the code can do, the median what it did. Peaks are measured at the"
        " start of the same run: multiply-adds in registers, reads from memory, and for row primitives reads from the first-level"
        " cache; each times the number of threads. Rates in GB/s count inputs and outputs once. Shared machines are noisy:"
        " compare numbers of one run only.\n"
        "gemm RxCxK: [R,K] x [K,C]. conv BxIxOxS: batch, channels in and out, side; 3 x 3. attention BxHxTxD: batch, heads,"
        " tokens, columns of a head; \"both\" is forward and backward; work is counted on pairs that the mask keeps. Behind a row"
        " stand the bytes that were alive beyond inputs and outputs, and the kernel; \"composed\" is made of primitives. Growth rows"
        " end with fitted exponents of time and memory. Without --filter attention is measured at 512 tokens only. A row whose plan"
        " needs more than 2 GiB is not run."
        " attention decode step BxPxWxHxL: one more row for each of B sequences with P rows in the KV cache, width, heads, layers;"
        " its times are of single steps.\n",
    .example = "heed bench\n"
               "heed bench --filter gemm --threads 1 --json\n"
               "heed bench --filter \"attention causal\"\n"
               "heed bench --filter attention --list\n"
               "heed bench --filter attention --against pytorch,onnxruntime\n",
};
