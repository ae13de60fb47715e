/* metrics.jsonl read back: a row an epoch. */
#ifndef TASKS_HISTORY_H
#define TASKS_HISTORY_H

#include "base/context.h"
#include "base/error.h"
#include <heed/doctor.h>

/* *rows from the heap, *n of them; none when the file is not there. A last line that was cut off is left
 * out: a log may lose its end with the power. HEED_ERR_FORMAT names file and line; HEED_ERR_MISSING without
 * jansson. */
heed_status heed__history_read(heed_history_row **rows, int64_t *n, heed_context *ctx, const char *path,
                               heed_error *err);

#endif
