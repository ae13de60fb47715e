/* A report on samples that are open already: training has its validation part at hand, heed_run_report opens
 * the test part. */
#ifndef TASKS_RUN_REPORT_H
#define TASKS_RUN_REPORT_H

#include "tasks/run.h"
#include <heed/data.h>

typedef struct report_samples {
    const char *part;         /* "validation", "test" */
    const char *which;        /* the same for people, with the folder; NULL: the recipe's */
    const heed_dataset *data; /* NULL: nothing is evaluated, for the reason in `why` */
    const char *why;
    const int64_t *order; /* NULL: all of data */
    int64_t n;
    const heed_dataset *training; /* for counts and the commonest class; NULL: not known */
    const int64_t *train, *validation;
    int64_t n_train, n_validation;
} report_samples;

/* Writes the page; a file that is there is replaced. */
heed_status heed__run_report(heed_run *r, const report_samples *s, const char *path,
                             const heed_report_opts *opts, heed_error *err);

#endif
