/* A trained run: its recipe says which architecture, config.json which sizes, classes and normalisation,
 * model.safetensors the weights. */

#include "base/files.h"
#include "base/sizes.h"
#include "tasks/config.h"
#include "tasks/recipe.h"

#include <math.h>
#include <string.h>

struct heed_run {
    heed_context *ctx;
    arena arena;
    heed_recipe *recipe;
    heed_model *model;
    run_config config;
};

static heed_status in_folder(char **out, heed_context *ctx, const char *folder, const char *name,
                             heed_error *err)
{
    *out = heed__path_join(ctx, folder, name);
    return *out ? HEED_OK : heed__fail_memory(err, 0);
}

heed_status heed_run_open(heed_run **out, heed_context *ctx, const char *folder, heed_error *err)
{
    heed_run *r = heed__alloc(ctx->heap, 1, sizeof *r);
    char *recipe = NULL, *weights = NULL;
    heed_status st;

    if (!r)
        return heed__fail_memory(err, sizeof *r);
    r->ctx = ctx;
    heed__arena_init(&r->arena, ctx->heap);
    if (!heed__folder_exists(ctx, folder)) {
        st = heed__fail_at(err, HEED_ERR_IO, folder,
                           "%s: there is no such folder; a run is what heed train --out makes", folder);
        goto done;
    }
    STEP(in_folder(&recipe, ctx, folder, "recipe.yaml", err));
    STEP(in_folder(&weights, ctx, folder, "model.safetensors", err));
    STEP(heed__config_read(&r->config, ctx, &r->arena, folder, err));
    STEP(heed_recipe_open(&r->recipe, ctx, recipe, NULL, err));
    if (strcmp(r->recipe->architecture->name, r->config.architecture) != 0) {
        st = heed__fail_at(err, HEED_ERR_FORMAT, folder, "%s: config.json says %s, recipe.yaml says %s",
                           folder, r->config.architecture, r->recipe->architecture->name);
        goto done;
    }
    STEP(heed__recipe_set_classes(r->recipe, r->config.classes, err));
    STEP(heed_model_new(&r->model, ctx, r->recipe->architecture->build, r->recipe->config,
                        &(heed_model_opts){ .seed = (uint64_t)r->config.seed }, err));
    {
        const heed_type input = heed_run_input_type(r, 1);

        STEP(heed_model_init(r->model, &input, 1, err));
    }
    STEP(heed_model_load(r->model, weights, err));
    *out = r;
    r = NULL;
done:
    heed__release(ctx->heap, recipe);
    heed__release(ctx->heap, weights);
    heed_run_free(r);
    return st;
}

void heed_run_free(heed_run *r)
{
    heap *h;

    if (!r)
        return;
    h = r->ctx->heap;
    heed_model_free(r->model);
    heed_recipe_free(r->recipe);
    heed__arena_release(&r->arena);
    heed__release(h, r);
}

heed_model *heed_run_model(heed_run *r)
{
    return r->model;
}

const heed_recipe *heed_run_recipe(const heed_run *r)
{
    return r->recipe;
}

const char *heed_run_class(const heed_run *r, int64_t i)
{
    return i >= 0 && i < r->config.classes ? r->config.class_names[i] : "";
}

int64_t heed_run_classes(const heed_run *r)
{
    return r->config.classes;
}

bool heed_run_mirrors(const heed_run *r)
{
    return r->config.mirror;
}

heed_type heed_run_input_type(const heed_run *r, int64_t batch)
{
    return heed_type_of(HEED_F32, 4,
                        (const int64_t[]){ batch, r->config.channels, r->config.height, r->config.width });
}

heed_status heed_run_evaluate(heed_evaluation *out, heed_run *r, const char *data, heed_error *err)
{
    const recipe_values *v = r->recipe->values;
    const char *folder = data ? data : v->data.path;
    heed_dataset *d = NULL;
    heed_loader *l = NULL;
    heed_type image;
    heed_status st;

    STEP(heed_dataset_open_idx(&d, r->ctx, folder, "test", err));
    image = heed_dataset_image_type(d);
    if (image.dims[0] != r->config.channels || image.dims[1] != r->config.height ||
        image.dims[2] != r->config.width) {
        st = heed__fail_at(err, HEED_ERR_SHAPE, folder,
                           "%s: pictures of %lld x %lld x %lld, the model takes %lld x %lld x %lld", folder,
                           (long long)image.dims[0], (long long)image.dims[1], (long long)image.dims[2],
                           (long long)r->config.channels, (long long)r->config.height,
                           (long long)r->config.width);
        goto done;
    }
    if (heed_dataset_classes(d) > r->config.classes) {
        st = heed__fail_at(err, HEED_ERR_SHAPE, folder, "%s: labels up to %lld, the model has %lld classes",
                           folder, (long long)heed_dataset_classes(d) - 1, (long long)r->config.classes);
        goto done;
    }
    STEP(heed_loader_new(
        &l, r->ctx, d, NULL, 0,
        &(heed_loader_opts){ .batch_size = i64_min(v->train.batch_size, i64_max(1, heed_dataset_count(d))),
                             .mean = r->config.mean,
                             .std = r->config.std },
        err));
    STEP(heed_evaluate(out, r->model, l, r->config.mirror ? HEED_AVERAGE_MIRROR : HEED_AVERAGE_NONE, err));
done:
    heed_loader_free(l);
    heed_dataset_free(d);
    return st;
}

/* ---- predicting ---- */

/* The arithmetic of the loader, so that predict and eval see the same numbers: (pixel / 255 - mean) / std. */
static void normalise(const heed_run *r, float *to, const uint8_t *from, int64_t n, bool mirrored)
{
    const int64_t plane = r->config.height * r->config.width, width = r->config.width;

    for (int64_t i = 0; i < n * r->config.channels; i++)
        for (int64_t j = 0; j < plane; j++) {
            const int64_t c = i % r->config.channels, column = j % width;
            const uint8_t pixel = from[i * plane + (mirrored ? j - column + width - 1 - column : j)];

            to[i * plane + j] = ((float)pixel / 255.0f - r->config.mean[c]) / r->config.std[c];
        }
}

/* log of the mean of two softmaxes, row by row, into a. */
static void average_logits(float *a, const float *b, int64_t rows_n, int64_t classes)
{
    for (int64_t i = 0; i < rows_n; i++) {
        float *x = a + i * classes;
        const float *y = b + i * classes;
        double top_x = -INFINITY, top_y = -INFINITY, sum_x = 0, sum_y = 0;

        for (int64_t c = 0; c < classes; c++) {
            top_x = fmax(top_x, (double)x[c]);
            top_y = fmax(top_y, (double)y[c]);
        }
        for (int64_t c = 0; c < classes; c++) {
            sum_x += exp((double)x[c] - top_x);
            sum_y += exp((double)y[c] - top_y);
        }
        for (int64_t c = 0; c < classes; c++)
            x[c] = (float)log(0.5 * (exp((double)x[c] - top_x) / sum_x + exp((double)y[c] - top_y) / sum_y));
    }
}

heed_status heed_run_predict(heed_run *r, heed_tensor pictures, heed_average average, float *logits,
                             heed_error *err)
{
    enum { BATCH = 128 };
    const int64_t n = pictures.type.rank > 0 ? pictures.type.dims[0] : 0, classes = r->config.classes;
    const int64_t size = r->config.channels * r->config.height * r->config.width;
    const heed_type input = heed_run_input_type(r, BATCH),
                    result = heed_type_of(HEED_F32, 2, (const int64_t[]){ BATCH, classes });
    const uint8_t *from = pictures.data;
    heap *h = r->ctx->heap;
    float *x, *y, *z;
    heed_status st = HEED_OK;

    if (pictures.type.dtype != HEED_U8 || pictures.type.rank < 3 || pictures.type.rank > 4 ||
        heed_type_count(&pictures.type) != n * size ||
        pictures.type.dims[pictures.type.rank - 1] != r->config.width ||
        pictures.type.dims[pictures.type.rank - 2] != r->config.height)
        return heed__fail(err, HEED_ERR_SHAPE, "predict: the model takes pictures u8 [n,%lld,%lld,%lld]",
                          (long long)r->config.channels, (long long)r->config.height,
                          (long long)r->config.width);
    x = heed__alloc(h, (size_t)heed_type_count(&input), sizeof *x);
    y = heed__alloc(h, (size_t)heed_type_count(&result), sizeof *y);
    z = heed__alloc(h, (size_t)heed_type_count(&result), sizeof *z);
    if (!x || !y || !z) {
        st = heed__fail_memory(err, (uint64_t)heed_type_count(&input) * sizeof *x);
        goto done;
    }
    for (int64_t i = 0; i < n; i += BATCH) {
        const int64_t count = i64_min(BATCH, n - i);

        normalise(r, x, from + i * size, count, false);
        STEP(heed_model_run(r->model, &(heed_tensor){ input, x }, 1, &(heed_tensor){ result, y }, 1, err));
        if (average == HEED_AVERAGE_MIRROR) {
            normalise(r, x, from + i * size, count, true);
            STEP(
                heed_model_run(r->model, &(heed_tensor){ input, x }, 1, &(heed_tensor){ result, z }, 1, err));
            average_logits(y, z, count, classes);
        }
        memcpy(logits + i * classes, y, (size_t)(count * classes) * sizeof *y);
    }
done:
    heed__release(h, x);
    heed__release(h, y);
    heed__release(h, z);
    return st;
}
