/* The data of a training: opened, split by rule, measured. The test part is never opened here. */

#include "tasks/job.h"

#include <stdio.h>

/* The folders' names; or data.classes; or numbers. */
static heed_status name_classes(job *j)
{
    const int64_t classes = j->config.classes;
    const char **names = heed__arena_alloc(&j->arena, (size_t)classes, sizeof *names);
    const char *const *words;
    int64_t n;

    if (!names)
        return heed__fail_memory(j->err, (uint64_t)classes * sizeof *names);
    TRY(heed__recipe_words(&words, &n, j->recipe, j->recipe->values->data.classes, j->err));
    if (n > 0 && n < classes)
        return heed__fail(j->err, HEED_ERR_FORMAT, "data.classes names %lld classes, the data has %lld",
                          (long long)n, (long long)classes);
    if (n > classes)
        return heed__fail(j->err, HEED_ERR_FORMAT, "data.classes names more classes than the data's %lld",
                          (long long)classes);
    for (int64_t i = 0; i < classes; i++) {
        const char *folder = heed_dataset_class(j->data, i);

        names[i] = folder[0] ? heed__arena_string(&j->arena, folder)
                   : n       ? heed__arena_string(&j->arena, words[i])
                             : heed__arena_format(&j->arena, "%lld", (long long)i);
        if (!names[i])
            return heed__fail_memory(j->err, 0);
    }
    j->config.class_names = names;
    return HEED_OK;
}

/* The resolved recipe says what the data were made into; IDX pictures are what they are. */
static heed_status settle_size(job *j, const heed_type *image)
{
    int64_t height, width;
    char size[64];

    if (heed_dataset_kind_of(j->data) != HEED_DATASET_FOLDER) {
        heed__recipe_size(j->recipe, &height, &width);
        if ((height && (height != image->dims[1] || width != image->dims[2])) ||
            (heed__recipe_channels(j->recipe) && heed__recipe_channels(j->recipe) != image->dims[0]))
            return heed__fail(j->err, HEED_ERR_SPEC,
                              "data.size and data.channels are for folders of pictures; the IDX pictures are "
                              "%lld x %lld x %lld and stay so",
                              (long long)image->dims[0], (long long)image->dims[1],
                              (long long)image->dims[2]);
        return HEED_OK;
    }
    (void)snprintf(size, sizeof size, "%lldx%lld", (long long)image->dims[1], (long long)image->dims[2]);
    TRY(heed__recipe_choose(j->recipe, "data.size", size, "from the data", j->err));
    return heed__recipe_choose(j->recipe, "data.channels", image->dims[0] == 3 ? "3" : "1", "from the data",
                               j->err);
}

/* "3 pictures of my_photos <what> were passed over; <hint>", where there are such. */
static heed_status tell_left_out(job *j, int64_t n, const char *what, const char *hint)
{
    const char *sentence;

    if (n == 0 || !j->opts->notice)
        return HEED_OK;
    sentence = heed__arena_format(&j->arena, "%lld picture%s of %s %s %s passed over; %s", (long long)n,
                                  n == 1 ? "" : "s", j->recipe->values->data.path, what,
                                  n == 1 ? "was" : "were", hint);
    if (!sentence)
        return heed__fail_memory(j->err, 0);
    j->opts->notice(j->opts->user, sentence);
    return HEED_OK;
}

/* Opens the training part, splits it by rule, measures or takes mean and deviation. */
heed_status heed__job_data(job *j)
{
    const recipe_data *d = &j->recipe->values->data;
    heed_type image;
    heed_dataset_opts opts;
    double mean[CHANNELS_MAX], std[CHANNELS_MAX];
    int64_t n;

    TRY(heed__recipe_dataset(&opts, j->recipe, HEED_PART_TRAIN, j->err));
    opts.progress = j->opts->reading;
    opts.user = j->opts->user;
    TRY(heed_dataset_open(&j->data, j->ctx, d->path, &opts, j->err));
    TRY(tell_left_out(j, heed_dataset_skipped(j->data), "could not be read and", "heed data check names them"));
    TRY(tell_left_out(j, heed_dataset_outside(j->data), "that lie in no class", "a class is a sub-folder"));
    image = heed_dataset_image_type(j->data);
    n = heed_dataset_count(j->data);
    TRY(settle_size(j, &image));
    j->config.channels = image.dims[0];
    j->config.height = image.dims[1];
    j->config.width = image.dims[2];
    j->config.fit = opts.fit;
    j->config.filter = opts.filter;
    j->config.classes = heed_dataset_classes(j->data);
    if (j->config.channels > CHANNELS_MAX)
        return heed__fail(j->err, HEED_ERR_LIMIT, "pictures of %lld channels; at most %d",
                          (long long)j->config.channels, CHANNELS_MAX);
    j->order = heed__alloc(j->ctx->heap, (size_t)n + 1, sizeof *j->order);
    j->held = heed__alloc(j->ctx->heap, (size_t)n + 1, sizeof *j->held);
    if (!j->order || !j->held)
        return heed__fail_memory(j->err, (uint64_t)n * sizeof *j->order);
    TRY(heed_dataset_split(j->data, d->validation, j->order, &j->n_train, j->held, &j->n_held, j->err));
    if (d->limit > 0)
        j->n_train = i64_min(j->n_train, d->limit);
    if (j->n_train == 0)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, d->path, "%s: no sample is left to train on", d->path);
    heed_dataset_moments(j->data, j->order, j->n_train, mean, std);
    for (int64_t c = 0; c < j->config.channels; c++) {
        j->config.mean[c] = d->mean.set ? d->mean.value : (float)mean[c];
        j->config.std[c] = d->std.set ? d->std.value : (float)(std[c] > 0 ? std[c] : 1);
    }
    j->config.train_samples = j->n_train;
    j->config.validation_samples = j->n_held;
    j->config.mirror = d->mirror;
    return name_classes(j);
}

/* Accuracy on the validation part of always naming the training part's commonest class (the first one). */
heed_status heed__job_baseline(job *j, double *accuracy)
{
    int64_t *counts = heed__alloc(j->ctx->heap, (size_t)j->config.classes, sizeof *counts);
    int64_t most = 0, right = 0;

    if (!counts)
        return heed__fail_memory(j->err, (uint64_t)j->config.classes * sizeof *counts);
    for (int64_t i = 0; i < j->n_train; i++)
        counts[heed_dataset_label(j->data, j->order[i])]++;
    for (int64_t c = 1; c < j->config.classes; c++)
        most = counts[c] > counts[most] ? c : most;
    for (int64_t i = 0; i < j->n_held; i++)
        right += heed_dataset_label(j->data, j->held[i]) == most;
    heed__release(j->ctx->heap, counts);
    *accuracy = j->n_held > 0 ? (double)right / (double)j->n_held : -1;
    return HEED_OK;
}
