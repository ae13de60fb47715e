/* heed's side of the side-by-side benchmark: stays warm between rounds and does what lines on stdin say; bench/side.py is at the
 * other end. Each line is answered by one JSON object on stdout.
 *
 *   open NAME      a row of `heed bench --filter attention`, built and run once
 *   save FILE      its inputs, outputs and weights as safetensors
 *   time SECONDS   runs it at least once and until the seconds are over: the mean and the shortest of these runs
 *   close          forgets it
 *   peak           GFLOP/s of all threads together
 *
 *   bench/side [--threads N]             answers lines
 *   bench/side [--threads N] --rss NAME  resident KiB before the session is made, and at most until it has run */

#include "base/error.h"
#include "cpu/peak.h"
#include "train/bench.h"
#include <heed/formats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENSORS_MOST 32

typedef struct side {
    heed_context *ctx;
    bench_graph graph;
    char name[BENCH_NAME];
    bool open;
    heed_error err;
} side;

/* {"KEY": "TEXT"} */
static void side_say(const char *key, const char *words)
{
    printf("{\"%s\": \"", key);
    for (; *words; words++)
        printf(*words == '"' || *words == '\\' ? "\\%c" : "%c", *words);
    printf("\"}\n");
}

static heed_status side_open(side *s, const char *name)
{
    heed_bench_row row;
    double flops = 0;

    if (s->open)
        heed__bench_release(&s->graph);
    s->open = true;
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    TRY(heed__bench_attention_open(&s->graph, s->ctx, s->name, &row, &flops, &s->err));
    if (row.skipped) {
        side_say("skipped", row.skipped);
        return HEED_OK;
    }
    TRY(heed__bench_once(&s->graph, &s->err));
    TRY(heed__bench_memory(&s->graph, &row, &s->err));
    printf(
        "{\"kernel\": \"%s\", \"flops\": %.17g, \"kept\": %.9g, \"block_bytes\": %llu, \"extra_bytes\": %llu,"
        " \"allocations\": %lld}\n",
        row.kernel, flops, row.kept, (unsigned long long)row.block_bytes, (unsigned long long)row.extra_bytes,
        (long long)row.allocations);
    return HEED_OK;
}

static heed_status side_save(side *s, const char *path)
{
    const bench_graph *g = &s->graph;
    heed_named_tensor tensors[TENSORS_MOST];
    const int n_io = g->n_in + g->n_out, n = n_io + (int)heed_weights_count(g->weights);

    if (n > TENSORS_MOST)
        return heed__fail(&s->err, HEED_ERR_LIMIT, "%d tensors are more than %d", n, TENSORS_MOST);
    for (int i = n_io; i < n; i++)
        tensors[i].tensor = heed_weights_at(g->weights, i - n_io, &tensors[i].name);
    for (int i = 0; i < n_io; i++)
        tensors[i] = (heed_named_tensor){ i < g->n_in ? heed_plan_input_name(g->plan, i)
                                                      : heed_plan_output_name(g->plan, i - g->n_in),
                                          g->tensors[i] };
    TRY(heed_safetensors_write(s->ctx, path, tensors, n, NULL, 0, &s->err));
    printf("{}\n");
    return HEED_OK;
}

static heed_status side_time(side *s, double seconds)
{
    const double start = heed__os_seconds();
    double before = start, best = 1e30, now;
    int runs = 0;

    do {
        TRY(heed__bench_once(&s->graph, &s->err));
        now = heed__os_seconds();
        best = now - before < best ? now - before : best;
        before = now;
        runs++;
    } while (now - start < seconds);
    printf("{\"runs\": %d, \"mean\": %.9g, \"best\": %.9g}\n", runs, (now - start) / runs, best);
    return HEED_OK;
}

static heed_status side_line(side *s, char *line)
{
    char *word = strchr(line, ' ');

    if (word)
        *word++ = '\0';
    if (strcmp(line, "open") == 0 && word)
        return side_open(s, word);
    if (strcmp(line, "peak") == 0) {
        printf("{\"gflops\": %.6g}\n", heed_context_threads(s->ctx) * heed__peak_gflops(s->ctx->isa));
        return HEED_OK;
    }
    if (!s->open || !s->graph.session)
        return heed__fail(&s->err, HEED_ERR_USAGE, "%.20s before open", line);
    if (strcmp(line, "save") == 0 && word)
        return side_save(s, word);
    if (strcmp(line, "time") == 0 && word)
        return side_time(s, heed__os_read_number(word));
    if (strcmp(line, "close") == 0) {
        heed__bench_release(&s->graph);
        s->open = false;
        printf("{}\n");
        return HEED_OK;
    }
    return heed__fail(&s->err, HEED_ERR_USAGE, "no request %.20s", line);
}

static long resident(const char *key)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtol(line + strlen(key) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

/* Inputs and outputs are touched before: what comes on top is what computing takes. */
static heed_status side_resident(side *s, const char *name)
{
    heed_bench_row row;
    double flops;
    long before;

    TRY(heed__bench_attention_open(&s->graph, s->ctx, name, &row, &flops, &s->err));
    if (row.skipped)
        return heed__fail(&s->err, HEED_ERR_LIMIT, "%s", row.skipped);
    heed_session_free(s->graph.session); /* gives its block back; a new one is made below */
    s->graph.session = NULL;
    before = resident("VmRSS");
    TRY(heed_session_new(&s->graph.session, s->ctx, s->graph.weights, NULL, &s->err));
    TRY(heed_session_add(s->graph.session, s->graph.plan, &s->graph.id, &s->err));
    TRY(heed__bench_once(&s->graph, &s->err));
    printf("{\"before\": %ld, \"most\": %ld}\n", before, resident("VmHWM"));
    return HEED_OK;
}

int main(int argc, char **argv)
{
    side s = { 0 };
    char line[4096];
    const char *rss = NULL;
    int threads = 0, rc = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = (int)heed__os_read_number(argv[i + 1]);
        else if (strcmp(argv[i], "--rss") == 0)
            rss = argv[i + 1];
    }
    if (heed_context_new(&s.ctx, &(heed_context_opts){ .threads = threads }, &s.err) != HEED_OK) {
        fprintf(stderr, "side: %s\n", s.err.text);
        return 1;
    }
    if (rss && side_resident(&s, rss) != HEED_OK) {
        side_say("error", s.err.text);
        rc = 1;
    }
    while (!rss && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        s.err = (heed_error){ 0 };
        if (side_line(&s, line) != HEED_OK)
            side_say("error", s.err.text);
        fflush(stdout);
    }
    heed__bench_release(&s.graph);
    heed_context_free(s.ctx);
    return rc;
}
