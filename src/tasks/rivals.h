/* What other models reached on the same data: files of one flat JSON object, as `make recipes` writes them to
 * docs/results: "recipe", "accuracy" (a number, or a text of one a seed with spaces between), "parameters".
 * */
#ifndef TASKS_RIVALS_H
#define TASKS_RIVALS_H

#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"
#include "explain/report.h"

typedef struct rivals {
    report_rival *list; /* of the heap; texts of the arena */
    int64_t n;
} rivals;

/* Adds the file's; HEED_ERR_FORMAT names file and key, HEED_ERR_MISSING without jansson. */
heed_status heed__rival_read(rivals *to, heed_context *ctx, arena *a, const char *path, heed_error *err);
/* Adds every *.json of RUN/compare, in the order of names; a run without such a folder has none. */
heed_status heed__rivals_find(rivals *to, heed_context *ctx, arena *a, const char *run, heed_error *err);

#endif
