/* --edit, which several commands have, and how their outputs say so. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

heed_status heed__cli_edit(cli *c, heed_run *run, const cli_strings *edits)
{
    return edits->n > 0 ? heed_run_edit(run, edits->at, &c->err) : HEED_OK;
}

char *heed__cli_edits_text(heed_run *run)
{
    const heed_model *m = heed_run_model(run);
    const int n = heed_model_edits(m, NULL);
    size_t size = 1;
    char *words, *at;

    for (int i = 0; i < n; i++)
        size += strlen(heed_model_edit_text(m, i)) + 2;
    words = at = calloc(size, 1);
    for (int i = 0; words && i < n; i++)
        at += snprintf(at, size - (size_t)(at - words), "%s%s", i ? "; " : "", heed_model_edit_text(m, i));
    return words;
}

void heed__cli_edits_line(FILE *f, heed_run *run, const char *before)
{
    const heed_model *m = heed_run_model(run);

    for (int i = 0; i < heed_model_edits(m, NULL); i++) {
        fputs(i ? "; " : before, f);
        heed__cli_text(f, heed_model_edit_text(m, i));
    }
    if (heed_model_edits(m, NULL) > 0)
        putc('\n', f);
}

void heed__cli_edits_json(FILE *f, heed_run *run)
{
    const heed_model *m = heed_run_model(run);

    for (int i = 0; i < heed_model_edits(m, NULL); i++) {
        fputs(i ? "," : ",\"edits\":[", f);
        heed__cli_json(f, heed_model_edit_text(m, i));
    }
    if (heed_model_edits(m, NULL) > 0)
        putc(']', f);
}
