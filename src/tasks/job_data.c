/* The data of a training: opened, split by rule, measured. The test part is never opened here. */

#include "tasks/job.h"

#include <string.h>

/* "shirt, bag" -> names; numbers where there are none. */
static heed_status name_classes(job *j)
{
    const char *at = j->recipe->values->data.classes ? j->recipe->values->data.classes : "";
    const char **names = heed__arena_alloc(&j->arena, (size_t)j->config.classes, sizeof *names);
    const bool given = at[0] != '\0';

    for (int64_t i = 0; names && i < j->config.classes; i++) {
        size_t n = strcspn(at, ",");
        char *name;

        if (given && n == 0)
            return heed__fail(j->err, HEED_ERR_FORMAT, "data.classes names %lld classes, the data has %lld",
                              (long long)i, (long long)j->config.classes);
        name = given ? heed__arena_copy(&j->arena, at, n + 1)
                     : heed__arena_format(&j->arena, "%lld", (long long)i);
        if (!name)
            return heed__fail_memory(j->err, n);
        if (given) {
            name[n] = '\0';
            at += n;
            at += strspn(at, ", ");
        }
        names[i] = name;
    }
    if (!names)
        return heed__fail_memory(j->err, (uint64_t)j->config.classes * sizeof *names);
    if (given && at[0])
        return heed__fail(j->err, HEED_ERR_FORMAT, "data.classes names more classes than the data's %lld",
                          (long long)j->config.classes);
    j->config.class_names = names;
    return HEED_OK;
}

/* Opens the training part, splits it by rule, measures or takes mean and deviation. */
heed_status heed__job_data(job *j)
{
    const recipe_data *d = &j->recipe->values->data;
    heed_type image;
    double mean[CHANNELS_MAX], std[CHANNELS_MAX];
    int64_t n;

    TRY(heed_dataset_open_idx(&j->data, j->ctx, d->path, "train", j->err));
    image = heed_dataset_image_type(j->data);
    n = heed_dataset_count(j->data);
    j->config.channels = image.dims[0];
    j->config.height = image.dims[1];
    j->config.width = image.dims[2];
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
