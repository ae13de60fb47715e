/* The recipe of a task, finished from the data. With n pictures of H x W:
 *
 *   stem       3x3 convolutions of 16, 32, 64, 64, ... channels, each followed by a 2x2 pool as long as there
 *              are more than 160 places (160 tokens of attention) and sides of 4 or more
 *   batch, lr  16 and 0.001 below 400 pictures, 32 and 0.002 below 4,000, 128 and 0.004 from there
 *   epochs     ceil(40000 / n), at least 5 and at most 60: enough for a small set, minutes for a large one
 *   patience   15 from 100 pictures on: a few hundred are learned by heart long before the last epoch. With
 *              fewer, or with data.validation 0, there may be no picture to validate on
 *
 * Whatever the user says stays as said. */

#include "tasks/recipe.h"
#include "base/asset.h"
#include "base/sizes.h"
#include "data/dataset.h"
#include "data/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TASK_TOKENS 160
#define TASK_VALIDATED 100 /* one in ten of so many is at least one but for 1 case in 40,000 */

static const struct {
    const char *name, *file;
    const heed_asset *recipe;
} tasks[] = {
    { "image-classification", "default-image-classification.yaml",
      &heed__asset_default_image_classification_yaml },
};
#define TASKS (sizeof tasks / sizeof *tasks)

static heed_status task_unknown(const char *task, heed_error *err)
{
    const char *names[TASKS + 1] = { NULL }, *near;
    char shown[200];

    for (size_t i = 0; i < TASKS; i++)
        names[i] = tasks[i].name;
    near = heed__nearest(task, names);
    return heed__fail(err, HEED_ERR_USAGE, "there is no task \"%s\"; %s \"%s\"%s",
                      heed__shown(shown, task, strlen(task)), near ? "did you mean" : "it is",
                      near ? near : names[0], near ? "?" : "");
}

/* "16 P 32 P 64" for 28 x 28. */
static void task_stem(char stem[128], int64_t height, int64_t width)
{
    int layers = 0, pools = 0;
    size_t n = 0;

    while (layers < 3 || pools > layers - 1) {
        static const int channels[] = { 16, 32, 64 };

        n +=
            (size_t)snprintf(stem + n, 128 - n, "%s%d", layers ? " " : "", channels[layers < 2 ? layers : 2]);
        layers++;
        if (height * width > TASK_TOKENS && height >= 4 && width >= 4 && n < 100) {
            n += (size_t)snprintf(stem + n, 128 - n, " P");
            pools++;
            height /= 2;
            width /= 2;
        }
    }
}

/* What there is to train on; *folder: pictures in folders, whose size may be chosen. */
static heed_status task_look(folder_peek *out, bool *folder, heed_recipe *r, heed_error *err)
{
    const recipe_data *d = &r->values->data;
    bool is_idx = d->kind == HEED_DATASET_IDX;
    heed_dataset_opts opts;
    heed_dataset *idx = NULL;
    heed_type picture;

    TRY(heed__recipe_dataset(&opts, r, HEED_PART_TRAIN, err));
    if (d->kind == HEED_DATASET_AUTO)
        TRY(heed__scan_has_idx(&is_idx, r->ctx, d->path, err));
    *folder = !is_idx;
    if (!is_idx)
        return heed__folder_peek(out, r->ctx, d->path, &opts, err);
    TRY(heed_dataset_open(&idx, r->ctx, d->path, &opts, err));
    picture = heed_dataset_image_type(idx);
    *out = (folder_peek){ heed_dataset_count(idx), heed_dataset_classes(idx), picture.dims[0],
                          picture.dims[1], picture.dims[2] };
    heed_dataset_free(idx);
    return HEED_OK;
}

static heed_status task_choose(heed_recipe *r, const folder_peek *p, bool folder, heed_error *err)
{
    const int64_t n = p->pictures, batch = n < 400 ? 16 : n < 4000 ? 32 : 128;
    char origin[96], number[128];

    (void)snprintf(origin, sizeof origin, "from the data: %" PRId64 " pictures", n);
    (void)snprintf(number, sizeof number, "%" PRId64,
                   i64_min(60, i64_max(5, i64_ceil_div(40000, i64_max(n, 1)))));
    TRY(heed__recipe_choose(r, "train.epochs", number, origin, err));
    (void)snprintf(number, sizeof number, "%" PRId64, batch);
    TRY(heed__recipe_choose(r, "train.batch_size", number, origin, err));
    TRY(heed__recipe_choose(r, "train.lr",
                            batch == 16   ? "0.001"
                            : batch == 32 ? "0.002"
                                          : "0.004",
                            origin, err));
    if (n >= TASK_VALIDATED && r->values->data.validation > 0)
        TRY(heed__recipe_choose(r, "train.patience", "15", origin, err));
    (void)snprintf(origin, sizeof origin, "from the data: its classes");
    (void)snprintf(number, sizeof number, "%" PRId64, p->classes);
    TRY(heed__recipe_choose(r, "model.classes", number, origin, err));
    if (folder) {
        (void)snprintf(origin, sizeof origin, "from the data: a look at %" PRId64 " of %" PRId64 " pictures",
                       i64_min(n, 101), n);
        (void)snprintf(number, sizeof number, "%" PRId64 "x%" PRId64, p->height, p->width);
        TRY(heed__recipe_choose(r, "data.size", number, origin, err));
        TRY(heed__recipe_choose(r, "data.channels", p->channels == 3 ? "3" : "1", origin, err));
    }
    if (strcmp(r->architecture->name, "conv-attention") != 0)
        return HEED_OK;
    (void)snprintf(origin, sizeof origin, "from the data: pictures of %" PRId64 " x %" PRId64, p->height,
                   p->width);
    task_stem(number, p->height, p->width);
    return heed__recipe_choose(r, "model.stem", number, origin, err);
}

heed_status heed_recipe_open_task(heed_recipe **out, heed_context *ctx, const char *task, const char *data,
                                  const char *const *overrides, heed_error *err)
{
    heed_recipe *r = NULL;
    folder_peek peek;
    heed_status st;
    size_t i = 0;
    bool folder;

    while (i < TASKS && strcmp(tasks[i].name, task) != 0)
        i++;
    if (i == TASKS)
        return task_unknown(task, err);
    if (!data || !data[0])
        return heed__fail(err, HEED_ERR_USAGE,
                          "a task needs data: a folder with a sub-folder of pictures for each "
                          "class, or with the four IDX files");
    TRY(heed__recipe_open_bytes(&r, ctx, tasks[i].file, tasks[i].recipe->text, tasks[i].recipe->size,
                                overrides, data, err));
    STEP(task_look(&peek, &folder, r, err));
    STEP(task_choose(r, &peek, folder, err));
    *out = r;
    r = NULL;
done:
    heed_recipe_free(r);
    return st;
}
