/* A trained run: its recipe says which architecture, config.json which sizes, classes and normalisation,
 * model.safetensors the weights. */

#include "base/files.h"
#include "base/sizes.h"
#include "data/normal.h"
#include "graph/graph.h"
#include "tasks/config.h"
#include "tasks/recipe.h"
#include "tasks/run_folder.h"
#include "train/mirror.h"

#include <string.h>

struct heed_run {
    heed_context *ctx;
    arena arena;
    heed_recipe *recipe;
    heed_model *model;
    run_config config;
};

/* Bytes of the model's own tensors in a graph. */
static double graph_bytes(const heed_graph *g)
{
    double sum = 0;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        if ((heed__is_leaf(&g->nodes[i], &heed__op_param) || heed__is_leaf(&g->nodes[i], &heed__op_state)) &&
            heed_weights_in_model(g->nodes[i].path)) {
            const heed_type *t = &((const leaf_attrs *)g->nodes[i].attrs)->type;

            sum += (double)heed_type_count(t) * (double)heed_dtype_size(t->dtype);
        }
    return sum;
}

/* Recipe and config.json are files too: no memory is taken for weights that their file cannot fill. */
static heed_status weights_fit(heed_run *r, const char *path, heed_error *err)
{
    const heed_type input = heed_run_input_type(r, 1);
    heed_safetensors *file = NULL;
    heed_graph *g = NULL;
    double held = 0, wanted;
    heed_status st;

    STEP(heed_safetensors_open(&file, r->ctx, path, err));
    STEP(heed_model_graph(r->model, &input, 1, HEED_TRAIN, &g, err));
    wanted = graph_bytes(g);
    for (int64_t i = 0; i < heed_safetensors_count(file); i++)
        held += (double)heed_safetensors_bytes(file, i);
    if (wanted > 2 * held + 65536)
        st =
            heed__fail_at(err, HEED_ERR_SHAPE, path,
                          "%s holds %.0f bytes of weights; the model of recipe.yaml and config.json has %.0f",
                          path, held, wanted);
done:
    heed_graph_free(g);
    heed_safetensors_close(file);
    return st;
}

/* The digest in config.json ties the two files together: weights of another training, or with one bit
 * changed, are not taken for this run's. */
static heed_status load_weights(heed_run *r, const char *path, heed_error *err)
{
    const heed_type input = heed_run_input_type(r, 1);
    char digest[65];

    TRY(weights_fit(r, path, err));
    TRY(heed_model_init(r->model, &input, 1, err));
    TRY(heed_model_load(r->model, path, err));
    TRY(heed_weights_sha256(heed_model_weights(r->model), HEED_WEIGHTS_MODEL, digest, err));
    if (strcmp(digest, r->config.sha256) != 0)
        return heed__fail_at(
            err, HEED_ERR_FORMAT, path,
            "%s: these are not the weights that config.json names (their SHA-256 is %.12s..., not "
            "%.12s...): damaged, or of another run",
            path, digest, r->config.sha256);
    return HEED_OK;
}

/* A recipe without config.json is what a training leaves that was interrupted. */
static heed_status check_finished(heed_context *ctx, const char *folder, const char *recipe, heed_error *err)
{
    char *config;
    heed_status st = HEED_OK;

    TRY(heed__run_file(&config, ctx, folder, RUN_CONFIG, err));
    if (!heed__file_exists(ctx, config) && heed__file_exists(ctx, recipe))
        st = heed__fail_at(err, HEED_ERR_IO, config,
                           "%s: the training is not finished; heed train --out %s --resume goes on", folder, folder);
    heed__release(ctx->heap, config);
    return st;
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
    STEP(heed__run_file(&recipe, ctx, folder, RUN_RECIPE, err));
    STEP(heed__run_file(&weights, ctx, folder, RUN_WEIGHTS, err));
    STEP(check_finished(ctx, folder, recipe, err));
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
    STEP(load_weights(r, weights, err));
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

#define PREDICT_BATCH 128

/* One batch of pictures: as the loader makes them, and what the network says. */
typedef struct prediction {
    heed_tensor x, logits;
    float *tables;           /* [channels][256] */
    float *flipped, *others; /* with mirror */
} prediction;

static heed_status check_pictures(const heed_run *r, const heed_type *t, heed_error *err)
{
    const run_config *c = &r->config;
    const int rank = t->rank;
    const bool fits = t->dtype == HEED_U8 && heed_type_count(t) >= 0 &&
                      (rank == 4 || (rank == 3 && c->channels == 1)) && t->dims[rank - 1] == c->width &&
                      t->dims[rank - 2] == c->height && (rank == 3 || t->dims[1] == c->channels);

    if (fits)
        return HEED_OK;
    return heed__fail(err, HEED_ERR_SHAPE, "predict: the model takes pictures u8 [n,%lld,%lld,%lld]",
                      (long long)c->channels, (long long)c->height, (long long)c->width);
}

static heed_status prepare_prediction(prediction *p, const heed_run *r, heed_average average, heed_error *err)
{
    heap *h = r->ctx->heap;
    size_t pixels, numbers;

    p->x.type = heed_run_input_type(r, PREDICT_BATCH);
    p->logits.type = heed_type_of(HEED_F32, 2, (const int64_t[]){ PREDICT_BATCH, r->config.classes });
    pixels = (size_t)heed_type_count(&p->x.type);
    numbers = (size_t)heed_type_count(&p->logits.type);
    p->x.data = heed__alloc(h, pixels, sizeof(float));
    p->logits.data = heed__alloc(h, numbers, sizeof(float));
    p->tables = heed__alloc(h, (size_t)r->config.channels, 256 * sizeof(float));
    if (average == HEED_AVERAGE_MIRROR) {
        p->flipped = heed__alloc(h, pixels, sizeof(float));
        p->others = heed__alloc(h, numbers, sizeof(float));
    }
    if (!p->x.data || !p->logits.data || !p->tables ||
        (average == HEED_AVERAGE_MIRROR && (!p->flipped || !p->others)))
        return heed__fail_memory(err, pixels * sizeof(float));
    for (int64_t c = 0; c < r->config.channels; c++)
        heed__normal_table(p->tables + c * 256, r->config.mean[c], r->config.std[c]);
    return HEED_OK;
}

static void fill_prediction(const prediction *p, const heed_run *r, const uint8_t *from, int64_t n)
{
    const int64_t plane = r->config.height * r->config.width;
    float *to = p->x.data;

    for (int64_t i = 0; i < n * r->config.channels; i++) {
        const float *table = p->tables + i % r->config.channels * 256;

        for (int64_t j = i * plane; j < (i + 1) * plane; j++)
            to[j] = table[from[j]];
    }
}

heed_status heed_run_predict(heed_run *r, heed_tensor pictures, heed_average average, float *logits,
                             heed_error *err)
{
    const int64_t size = r->config.channels * r->config.height * r->config.width, classes = r->config.classes;
    heap *h = r->ctx->heap;
    prediction p = { .tables = NULL };
    heed_status st;

    TRY(check_pictures(r, &pictures.type, err));
    STEP(prepare_prediction(&p, r, average, err));
    for (int64_t i = 0; i < pictures.type.dims[0]; i += PREDICT_BATCH) {
        const int64_t count = i64_min(PREDICT_BATCH, pictures.type.dims[0] - i);

        fill_prediction(&p, r, (const uint8_t *)pictures.data + i * size, count);
        STEP(heed_model_run(r->model, &p.x, 1, &p.logits, 1, err));
        if (average == HEED_AVERAGE_MIRROR)
            STEP(heed__average_mirror(r->model, &p.x, &p.logits, p.flipped, p.others, err));
        memcpy(logits + i * classes, p.logits.data, (size_t)(count * classes) * sizeof *logits);
    }
done:
    heed__release(h, p.x.data);
    heed__release(h, p.logits.data);
    heed__release(h, p.tables);
    heed__release(h, p.flipped);
    heed__release(h, p.others);
    return st;
}
