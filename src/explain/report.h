/* report.html of a run: one page from one struct. tasks/run_report.c fills the struct; what is NULL, empty or
 * NaN is left out of the page, with a sentence where a reader would miss it. */
#ifndef EXPLAIN_REPORT_H
#define EXPLAIN_REPORT_H

#include "base/text.h"
#include <heed/doctor.h>
#include <heed/explain.h>
#include <heed/metrics.h>

/* A line of a small table; names are sentences of ours, values come from outside. */
typedef struct report_pair {
    const char *name, *value;
} report_pair;

/* A picture that the model named wrongly. */
typedef struct report_mistake {
    const char *name;    /* "cat/12.png", "test[7]" */
    heed_tensor picture; /* u8 [C,H,W]; data NULL: none */
    int64_t truth, predicted;
    double p_truth, p_predicted;
    const heed_explanation *explanation; /* NULL: none */
} report_mistake;

typedef struct report_tensor {
    const char *name, *shape; /* "[8, 1, 3, 3]" */
    int64_t count;
} report_tensor;

/* What another model reaches on the same part. */
typedef struct report_rival {
    const char *name, *source;
    double accuracy, interval; /* half of it; NaN: not known */
    int64_t parameters;        /* 0: not known */
} report_rival;

typedef struct report_part {
    const char *name; /* "training", "validation", "test" */
    int64_t n;
    const int64_t *per_class; /* [classes]; NULL: not counted */
} report_part;

typedef struct report {
    const char *run;           /* the folder, as it was named */
    const char *model, *about; /* "conv-attention"; what that is */
    const char *part;          /* evaluated: "validation" or "test" */
    int64_t classes;
    const char *const *class_names;

    const heed_metrics *metrics; /* of the part; NULL: it was not evaluated, with the reason in no_metrics */
    const char *no_metrics;
    heed_tensor probability, labels; /* f32 [n,classes], i64 [n]: for curves and calibration */
    double majority; /* accuracy of always naming the training part's commonest class; NaN: not known */
    double majority_validation; /* the same on the validation part, which the curves of training are of */
    const char *majority_name;  /* that class */
    const report_rival *rivals;
    int64_t n_rivals;

    const heed_history_row *history;
    int64_t n_history;
    const report_mistake *mistakes; /* the worst first */
    int64_t n_mistakes, all_mistakes;
    int64_t parameters;           /* trained numbers */
    const report_tensor *tensors; /* of the weights: trained numbers and running statistics */
    int64_t n_tensors;
    const report_part *parts;
    int64_t n_parts;
    const report_pair *data, *cost, *environment;
    int64_t n_data, n_cost, n_environment;
    const char *recipe;  /* YAML with origins */
    const char *command; /* that repeats the training */
    const char *sha256;  /* of the weights that it gives */
} report;

/* The same bytes for the same struct and versions of heed and libpng. Pictures are left out without libpng.
 * */
heed_status heed__report_html(text *t, heed_context *ctx, const report *r, heed_error *err);

#endif
