/* See the header. */
#define _GNU_SOURCE
#include "support/corpus.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int corpus_one(heed_context *ctx, const char *path, const char *code, const char *why, corpus_run *run, bool words)
{
    const uint64_t bytes = heed_context_bytes(ctx);
    heed_error err = { 0 };
    const heed_status st = run(ctx, path, &err);
    const char *name = heed_status_name(st);

    name += strncmp(name, "HEED_ERR_", 9) == 0 ? 9 : 5;
    if (strcmp(name, code) == 0 && (st == HEED_OK || (err.code == st && err.text[0] && (!words || strstr(err.text, why)))) &&
        heed_context_bytes(ctx) == bytes)
        return 0;
    printf("%s: %s, the table says %s (%s): %s; %lld bytes leaked\n", path, name, code, why, err.text,
           (long long)(heed_context_bytes(ctx) - bytes));
    return 1;
}

static int corpus_table(heed_context *ctx, const char *name, const char *ending, corpus_run *run, int *files, bool words)
{
    char path[512], line[512];
    FILE *table;
    int wrong = 0, n = 0;

    snprintf(path, sizeof path, "%s/tests/corpus/%s.tsv", HEED_SOURCE_DIR, name);
    table = fopen(path, "r");
    if (!table) {
        printf("cannot read %s\n", path);
        return 1;
    }
    while (fgets(line, sizeof line, table)) {
        char *save = NULL;
        const char *file = strtok_r(line, "\t\n", &save), *code = strtok_r(NULL, "\t\n", &save),
                   *why = strtok_r(NULL, "\t\n", &save);

        if (!file || file[0] == '#' || !code || !why)
            continue;
        snprintf(path, sizeof path, "%s/tests/corpus/%s/%s%s", HEED_SOURCE_DIR, name, file, ending);
        wrong += corpus_one(ctx, path, code, why, run, words);
        n++;
    }
    fclose(table);
    snprintf(path, sizeof path, "%s/tests/corpus/%s", HEED_SOURCE_DIR, name);
    if (scratch_entries(path) != n) {
        printf("%s: %d files, %d lines in the table\n", path, scratch_entries(path), n);
        wrong++;
    }
    *files = n;
    printf("%s: %d files, %d wrong\n", name, n, wrong);
    return wrong;
}

int corpus_replay(heed_context *ctx, const char *name, const char *ending, corpus_run *run, int *files)
{
    return corpus_table(ctx, name, ending, run, files, false);
}

int corpus_replay_words(heed_context *ctx, const char *name, const char *ending, corpus_run *run, int *files)
{
    return corpus_table(ctx, name, ending, run, files, true);
}
