/* Inside heed_run, for the files of tasks/ that work on an open run. */
#ifndef TASKS_RUN_H
#define TASKS_RUN_H

#include "tasks/config.h"
#include "tasks/recipe.h"

struct heed_run {
    heed_context *ctx;
    arena arena;
    const char *folder;
    heed_recipe *recipe;
    heed_model *model;
    run_config config;
};

#endif
