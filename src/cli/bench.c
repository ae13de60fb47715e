/* heed bench: what this machine gives, with its share of peaks that were measured in the same run. */

#include "cli/cli.h"

typedef struct bench_args {
    const char *filter, *profile;
    int64_t threads, milliseconds;
    int isa;
    bool force, json;
} bench_args;

static const cli_option bench_table[] = {
    STRING(bench_args, filter, .value = "TEXT",
           .doc = "only benchmarks with this in their name: gemm, conv, attention, op, model, start, row"),
    INTEGER(bench_args, milliseconds, .value = "N", .min = 1, .max = 600000, .fallback = "250",
            .doc = "time for each benchmark"),
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

static bool bench_json(void *user, const heed_bench_row *r)
{
    (void)user;
    printf("{\"name\":");
    heed__cli_json(stdout, r->name);
    printf(",\"threads\":%d,\"rounds\":%d,\"best\":", r->threads, r->rounds);
    heed__cli_number(stdout, r->best);
    printf(",\"median\":");
    heed__cli_number(stdout, r->median);
    printf(",\"p99\":");
    heed__cli_number(stdout, r->p99);
    printf(",\"unit\":\"%s\",\"rate\":", bench_units[r->unit]);
    heed__cli_number(stdout, r->rate);
    printf(",\"peak\":");
    heed__cli_number(stdout, r->peak);
    printf("}\n");
    return fflush(stdout) != 0;
}

static bool bench_text(void *user, const heed_bench_row *r)
{
    char best[32], median[32];

    (void)user;
    printf("%-46s %2d  %8s  %8s", r->name, r->threads, bench_seconds(best, r->best),
           bench_seconds(median, r->median));
    if (r->rate > 0)
        printf("  %8.1f %-7s", r->rate, bench_units[r->unit]);
    if (r->rate > 0 && r->peak > 0)
        printf("  %3.0f %%", 100 * r->rate / r->peak);
    if (r->p99 > 0)
        printf("  p99 %s", bench_seconds(best, r->p99));
    printf("\n");
    return fflush(stdout) != 0;
}

static heed_status bench_run(cli *c, const void *args)
{
    const bench_args *a = args;
    heed_profile *profile = NULL;
    char cpu[96];
    heed_status st;

    TRY(heed__cli_open(c, a->threads, a->isa));
    STEP(heed__cli_profile_begin(c, &profile, a->profile, a->force));
    heed_cpu_name(cpu);
    if (!a->json)
        printf("%sheed %s, %s, level %s, %d threads%s\n%-46s %2s  %8s  %8s  %16s  of peak\n", c->out.dim,
               HEED_VERSION, cpu, heed_isa_name(heed_context_isa(c->ctx)), heed_context_threads(c->ctx),
               c->out.off, "benchmark", "on", "best  ", "median ", "rate at best    ");
    STEP(heed_bench_run(c->ctx,
                        &(heed_bench_opts){ .filter = a->filter,
                                            .seconds = (double)a->milliseconds / 1000,
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
        "A benchmark is timed in seven rounds: the best says what the code can do, the median what it did. Peaks are measured at the"
        " start of the same run: multiply-adds in registers, reads from memory, and for row primitives reads from the first-level"
        " cache; each times the number of threads. Rates in GB/s count inputs and outputs once. Shared machines are noisy:"
        " compare numbers of one run only.\n"
        "gemm RxCxK: [R,K] x [K,C]. conv BxIxOxS: batch, channels in and out, side; 3 x 3. attention BxHxTxD."
        " attention decode step BxPxWxHxL: one more row for each of B sequences with P rows in the KV cache, width, heads, layers;"
        " its times are of single steps.\n",
    .example = "heed bench\n"
               "heed bench --filter gemm --threads 1 --json\n",
};
