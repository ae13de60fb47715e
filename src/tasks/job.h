/* A training under way, as the files of tasks/ share it: job_data.c fills the data in, job_write.c writes the
 * folder, train_run.c makes the model and goes through the steps. */
#ifndef TASKS_JOB_H
#define TASKS_JOB_H

#include "base/files.h"
#include "base/sizes.h"
#include "tasks/config.h"
#include "tasks/recipe.h"

/* Everything a training holds. */
typedef struct job {
    heed_context *ctx;
    heed_recipe *recipe;
    const heed_train_opts *opts;
    heed_error *err;
    arena arena;
    heed_dataset *data;
    heed_model *model;
    heed_trainer *trainer;
    heed_loader *train, *validation;
    int64_t *order, *held, n_train, n_held;
    run_config config;
    heed_schedule schedule;
    heed_progress progress;
    char *metrics; /* path of metrics.jsonl */
    double began, validation_loss, validation_accuracy;
    int64_t total_steps, seen;
    bool stopped;
} job;

/* job_data.c: the training part opened and split by rule; mean, deviation and names of classes in config. */
heed_status heed__job_data(job *j);
/* Accuracy on the validation part of always naming the training part's commonest class; -1 without one. */
heed_status heed__job_baseline(job *j, double *accuracy);

/* job_init.c. Patterns of train.freeze, each of which names a parameter; in the arena. NULL: none. */
heed_status heed__job_frozen(job *j, const char *const **out);
/* Fills train.init into the fresh model. */
heed_status heed__job_init(job *j);
/* The loss of train.class_weights into opts; plain cross-entropy is left alone. */
heed_status heed__job_loss(job *j, heed_trainer_opts *opts);

/* job_write.c. Refuses a folder that holds a run, unless forced. */
heed_status heed__job_check_folder(const job *j);
/* The folder, and a log to which every epoch adds a line. */
heed_status heed__job_start_folder(job *j);
heed_status heed__job_log_epoch(job *j);
heed_status heed__job_put_weights(job *j);
/* All files of the run; config.json last. */
heed_status heed__job_put_run(job *j, heed_train_result *r);

#endif
