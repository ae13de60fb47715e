/* Where the files of a run lie, while it is made too.
 *
 * A training where no run is writes into the folder itself, config.json last. One that writes over a run
 * works in DIR/next until that is a whole run, so the old one can be used until then. next/config.json,
 * written last, is the moment at which the new run counts: from then on a file of next/ comes before the one
 * of the same name outside, and moving them all out, config.json last again, changes nothing that a reader
 * sees. */
#ifndef TASKS_RUN_FOLDER_H
#define TASKS_RUN_FOLDER_H

#include "base/context.h"
#include "base/error.h"

#define RUN_CONFIG "config.json"
#define RUN_RECIPE "recipe.yaml"
#define RUN_WEIGHTS "model.safetensors"
#define RUN_METRICS "metrics.jsonl"
#define RUN_REPORT "report.html"
#define RUN_SETS "checkpoints"
#define RUN_NEXT "next"
#define RUN_LOCK "lock"

/* The path of a file of the run in `folder`, in heap memory. */
heed_status heed__run_file(char **out, heed_context *ctx, const char *folder, const char *name,
                           heed_error *err);

/* Is there `folder/name`, a file? */
heed_status heed__run_has(bool *out, heed_context *ctx, const char *folder, const char *name,
                          heed_error *err);

/* The folder that a training in `folder` goes on in: next/ when it has a recipe, else the folder itself. */
heed_status heed__run_work(char **out, heed_context *ctx, const char *folder, heed_error *err);

/* Moves a whole next/ out; nothing to do where there is none. The caller holds the lock. */
heed_status heed__run_settle(heed_context *ctx, const char *folder, heed_error *err);

/* Removes the files of a folder and its checkpoints. */
heed_status heed__run_clear(heed_context *ctx, const char *folder, heed_error *err);

/* Removes temporary files that a killed writer left. */
heed_status heed__run_sweep(heed_context *ctx, const char *folder, heed_error *err);

#endif
