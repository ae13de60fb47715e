/* A training under way, as the files of tasks/ share it: job_data.c fills the data in, job_folder.c takes
 * the folder and goes on where an earlier training stopped, job_best.c judges epochs, job_write.c writes,
 * train_run.c makes the model and goes through the steps. */
#ifndef TASKS_JOB_H
#define TASKS_JOB_H

#include "base/files.h"
#include "base/sizes.h"
#include "tasks/config.h"
#include "tasks/recipe.h"
#include "tasks/run_folder.h"
#include "train/checkpoint.h"

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
    heed_plateau plateau;
    heed_progress progress;
    char *work;           /* the folder that is written into: see run_folder.h */
    char *sets, *metrics; /* in it: the checkpoints, metrics.jsonl */
    char *lock_path;
    int lock;             /* -1: not held */
    heed_weights *best;   /* those of the best epoch so far; NULL: not kept, or none yet */
    checkpoint_state at;  /* where the training stands */
    int64_t begun_at;     /* the step this trainer began at */
    double began, saved_seconds; /* of the clock; of the training */
    int64_t saved_step, saved_batch, saved_epoch; /* of the newest checkpoint; -1: there is none */
    char recipe_sha256[65], data_sha256[65];
    int64_t total_steps;
    heed_events *events; /* NULL: none yet, or none at all */
    const char *const *event_files; /* names, ended by NULL, once the last one was ended */
    bool stopped;
} job;

/* job_data.c: the training part opened and split by rule; mean, deviation and names of classes in config. */
heed_status heed__job_data(job *j);
/* Accuracy on the validation part of always naming the training part's commonest class; -1 without one. */
heed_status heed__job_baseline(job *j, double *accuracy);

/* job_folder.c. Refuses what may not be written over; looks only. */
heed_status heed__job_check_folder(job *j);
/* The folder, its lock, and either the recipe and an empty log, or weights, log and position of a checkpoint. */
heed_status heed__job_take_folder(job *j);
/* A checkpoint of where the training stands. */
heed_status heed__job_save(job *j);
void heed__job_leave_folder(job *j);

/* job_best.c. After an epoch was validated, its weights (or their averages) being the model's: is it the best one?
 * Keeps a copy if so, counts what patience and plateau go by. */
heed_status heed__job_judge(job *j);
bool heed__job_keeps_best(const job *j);
/* The best weights of a checkpoint; the model has those of the checkpoint, or their averages. */
heed_status heed__job_load_best(job *j, const char *set);
/* What the run will have becomes the model's; loss, accuracy and epochs of the result follow. */
heed_status heed__job_choose(job *j, heed_train_result *r);

/* job_events.c: numbers and pictures of an epoch for TensorBoard; the file ended, while it lies in j->work; the files of
 * the run that was written over removed. */
heed_status heed__job_events_epoch(job *j);
heed_status heed__job_events_end(job *j);
heed_status heed__job_events_settled(job *j);

/* job_report.c: report.html of the finished run, from the validation part. */
heed_status heed__job_report(job *j);

/* job_init.c. Patterns of train.freeze, each of which names a parameter; in the arena. NULL: none. */
heed_status heed__job_frozen(job *j, const char *const **out);
/* Fills train.init into the fresh model. */
heed_status heed__job_init(job *j);
/* The loss of train.class_weights into opts; plain cross-entropy is left alone. */
heed_status heed__job_loss(job *j, heed_trainer_opts *opts);

/* job_write.c: a line of the log; and all files of the run, config.json last. */
heed_status heed__job_log_epoch(job *j);
heed_status heed__job_put_text(job *j, const char *name, const char *bytes, size_t n);
heed_status heed__job_put_run(job *j, heed_train_result *r);

#endif
