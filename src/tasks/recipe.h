/* Inside heed_recipe: the values, the tables that read them, and where each came from. */
#ifndef TASKS_RECIPE_H
#define TASKS_RECIPE_H

#include "base/fields.h"
#include "models/models.h"
#include "tasks/yaml.h"
#include <heed/task.h>

typedef struct recipe_data {
    int kind; /* idx */
    const char *path;
    const char *classes; /* names of the classes, separated by commas; "": numbers */
    double validation;   /* share of the training part */
    int64_t limit;       /* training samples used; 0: all */
    bool mirror;
    int64_t shift;
    heed_maybe_f32 mean, std;
} recipe_data;

typedef struct recipe_train {
    int64_t epochs, max_steps, batch_size, seed, threads, accumulate, step_every;
    int64_t checkpoint_epochs, checkpoint_steps, keep, patience, plateau_patience;
    int optimizer, decay, schedule, select, monitor;
    double lr, warmup, step_gamma, checkpoint_minutes, plateau_factor, plateau_threshold;
    float ema;
    heed_maybe_f32 weight_decay, momentum, beta1, beta2, eps, alpha;
    bool nesterov, amsgrad;
    float clip_norm, label_smoothing;
} recipe_train;

enum { RECIPE_SELECT_BEST, RECIPE_SELECT_LAST };           /* train.select */
enum { RECIPE_MONITOR_ACCURACY, RECIPE_MONITOR_LOSS };     /* train.monitor */

/* One object for all tables; the architecture's configuration follows it. */
typedef struct recipe_values {
    int task;
    recipe_data data;
    recipe_train train;
    const char *model_name;
} recipe_values;

struct heed_recipe {
    heed_context *ctx;
    arena arena;
    const char *path;
    recipe_values *values;
    const heed_architecture *architecture;
    void *config;    /* the architecture's, behind values */
    field *rows;     /* task, data, model, train */
    yaml_list given; /* from the file and from overrides, with lines */
    text shown;      /* of heed_recipe_get */
};

/* Sets the architecture's number of classes. */
heed_status heed__recipe_set_classes(heed_recipe *r, int64_t classes, heed_error *err);

/* SHA-256, as hex digits, of every key and value that the weights depend on. */
heed_status heed__recipe_digest(const heed_recipe *r, char out[65], heed_error *err);
/* HEED_ERR_SPEC with the first such key in which `now` differs from `then`. Both know their number of classes. */
heed_status heed__recipe_same(const heed_recipe *now, const heed_recipe *then, heed_error *err);

#endif
