/* Inside heed_run, for the files of tasks/ that work on an open run. */
#ifndef TASKS_RUN_H
#define TASKS_RUN_H

#include "data/fit.h"
#include "tasks/config.h"
#include "tasks/recipe.h"
#include <heed/data.h>
#include <heed/task.h>

struct heed_run {
    heed_context *ctx;
    arena arena;
    const char *folder;
    heed_recipe *recipe;
    heed_model *model;
    run_config config;
};

/* HEED_ERR_USAGE when the run is edited: `what` is said of runs as they were trained. */
heed_status heed__run_unedited(const heed_run *r, const char *what, heed_error *err);

/* How a picture from outside becomes one that the run was trained on. */
picture_fit heed__run_fit(const heed_run *r);

/* Opens the test part of the folder, checked against what the model takes; part: which samples that are, for people. See
 * heed_run_evaluate. */
heed_status heed__run_test(heed_dataset **out, char part[256], const heed_run *r, const char *folder, heed_error *err);

#endif
