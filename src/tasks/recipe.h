/* Inside heed_recipe: the values, the tables that read them, and where each came from. */
#ifndef TASKS_RECIPE_H
#define TASKS_RECIPE_H

#include "base/fields.h"
#include "models/models.h"
#include "tasks/yaml.h"
#include <heed/task.h>

typedef struct recipe_data {
    int kind; /* heed_dataset_kind */
    const char *path;
    const char *size; /* "64", "48x64" (rows first); "": from the data */
    int channels;     /* auto, 1, 3 */
    int fit;          /* heed_image_fit */
    const char *classes; /* names of the classes, separated by commas; "": numbers */
    double validation;   /* share of the training part */
    double test;         /* share of a folder that has no test part */
    int64_t limit;       /* training samples used; 0: all */
    int64_t skip_bad;
    bool mirror;
    int64_t shift;
    double crop, erase;
    heed_maybe_f32 mean, std;
} recipe_data;

typedef struct recipe_train {
    int64_t epochs, max_steps, batch_size, seed, threads, accumulate, step_every;
    int64_t checkpoint_epochs, checkpoint_steps, keep, patience, plateau_patience;
    int optimizer, decay, schedule, select, monitor, class_weights;
    double lr, warmup, step_gamma, checkpoint_minutes, plateau_factor, plateau_threshold;
    float ema;
    heed_maybe_f32 weight_decay, momentum, beta1, beta2, eps, alpha;
    bool nesterov, amsgrad, tensorboard, report;
    int64_t tensorboard_pictures;
    float clip_norm, label_smoothing;
    const char *init, *freeze; /* a file of weights; patterns, separated by commas */
} recipe_train;

enum { CLASS_WEIGHTS_NONE = 0, CLASS_WEIGHTS_BALANCED };
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

/* From bytes instead of a file; `data` (NULL: none) becomes data.path. */
heed_status heed__recipe_open_bytes(heed_recipe **out, heed_context *ctx, const char *name, const void *bytes,
                                    size_t size, const char *const *overrides, const char *data, heed_error *err);

/* Gives a key that neither file nor override gave a value; `origin` is what heed_recipe_print says of it. */
heed_status heed__recipe_choose(heed_recipe *r, const char *key, const char *value, const char *origin,
                                heed_error *err);
bool heed__recipe_gives(const heed_recipe *r, const char *key);

/* data.size as numbers; 0, 0 when it is empty. */
void heed__recipe_size(const heed_recipe *r, int64_t *height, int64_t *width);
int64_t heed__recipe_channels(const heed_recipe *r); /* 0: auto */

/* The words of a text with commas, ended by NULL and counted; in the recipe's arena. */
heed_status heed__recipe_words(const char *const **out, int64_t *n, heed_recipe *r, const char *words,
                               heed_error *err);

/* How the data are opened. */
heed_status heed__recipe_dataset(heed_dataset_opts *out, heed_recipe *r, heed_part part, heed_error *err);

/* Sets the architecture's number of classes. */
heed_status heed__recipe_set_classes(heed_recipe *r, int64_t classes, heed_error *err);

/* SHA-256, as hex digits, of every key and value that the weights depend on. */
heed_status heed__recipe_digest(const heed_recipe *r, char out[65], heed_error *err);
/* HEED_ERR_SPEC with the first such key in which `now` differs from `then`. Both know their number of classes. */
heed_status heed__recipe_same(const heed_recipe *now, const heed_recipe *then, heed_error *err);

#endif
