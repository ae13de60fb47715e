/* A trained run: its recipe says which architecture, config.json which sizes, classes and normalisation,
 * model.safetensors the weights. */

#include "tasks/run.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/text.h"
#include "graph/graph.h"
#include "tasks/run_folder.h"

#include <string.h>

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

/* A recipe without config.json is what a training leaves that was interrupted; without both it is no run. */
static heed_status check_finished(heed_context *ctx, const char *folder, const char *recipe, heed_error *err)
{
    char *config;
    heed_status st = HEED_OK;

    TRY(heed__run_file(&config, ctx, folder, RUN_CONFIG, err));
    if (!heed__file_exists(ctx, config))
        st = heed__file_exists(ctx, recipe)
                 ? heed__fail_at(err, HEED_ERR_IO, config,
                                 "the training in %s is not finished; heed train --out %s --resume goes on", folder,
                                 folder)
                 : heed__fail_at(err, HEED_ERR_IO, config,
                                 "there is no such file, so %s is no run; a run is what heed train --out makes",
                                 folder);
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
    r->folder = heed__arena_string(&r->arena, folder);
    if (!r->folder) {
        st = heed__fail_memory(err, strlen(folder));
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
    if (st != HEED_OK && st != HEED_ERR_MEMORY)
        heed__config_blame(err, r->config.version);
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

heed_context *heed_run_context(const heed_run *r)
{
    return r->ctx;
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

heed_status heed_run_self_test(heed_self_test_result *out, heed_run *r, heed_error *err)
{
    const heed_self_test_inputs in = { .type = heed_run_input_type(r, SELF_TEST_SAMPLES),
                                       .seed = (uint64_t)r->config.self_test_seed,
                                       .mean = r->config.mean,
                                       .std = r->config.std };

    TRY(heed__run_unedited(r, "a self-test", err));
    return heed_model_self_test(out, r->model, &in, &r->config.self_test, err);
}

picture_fit heed__run_fit(const heed_run *r)
{
    return (picture_fit){ .channels = r->config.channels, .height = r->config.height, .width = r->config.width,
                          .fit = r->config.fit, .filter = r->config.filter };
}

/* Which samples open_test gives, for people. */
static heed_status name_part(char part[256], const heed_run *r, const char *folder, heed_dataset_kind kind,
                             heed_part which, heed_error *err)
{
    const recipe_data *d = &r->recipe->values->data;
    char *own = heed__path_join(r->ctx, folder, "test");
    const bool has_own = kind != HEED_DATASET_FOLDER || (own && heed__folder_exists(r->ctx, own));

    if (!own)
        return heed__fail_memory(err, 0);
    heed__release(r->ctx->heap, own);
    if (has_own)
        heed__format(part, 256, "test part of %s", folder);
    else if (which == HEED_PART_TEST)
        heed__format(part, 256, "test part of %s: the share of %g that the digest of a picture puts aside", folder,
                     d->test);
    else
        heed__format(part, 256, "all of %s", folder);
    return HEED_OK;
}

static heed_status open_part(heed_dataset **out, const heed_run *r, const char *folder, heed_part part, heed_error *err)
{
    const recipe_data *d = &r->recipe->values->data;
    const run_config *c = &r->config;
    const char **classes = heed__alloc(r->ctx->heap, (size_t)c->classes + 1, sizeof *classes);
    const heed_dataset_opts opts = { .kind = part == HEED_PART_TEST ? (heed_dataset_kind)d->kind : HEED_DATASET_AUTO,
                                     .part = part,
                                     .validation = d->validation,
                                     .test = d->test,
                                     .channels = c->channels,
                                     .height = c->height,
                                     .width = c->width,
                                     .fit = c->fit,
                                     .filter = c->filter,
                                     .classes = classes,
                                     .skip_bad = d->skip_bad };
    heed_status st;

    if (!classes)
        return heed__fail_memory(err, (uint64_t)c->classes * sizeof *classes);
    for (int64_t i = 0; i < c->classes; i++)
        classes[i] = c->class_names[i];
    st = heed_dataset_open(out, r->ctx, folder, &opts, err);
    heed__release(r->ctx->heap, classes);
    return st;
}

/* Are these all the pictures of the training, moved or copied elsewhere? The rule would put as many of them
 * on each side as the training had there; other pictures do so by accident at most, and then lose a share,
 * nothing else. Without this question what was trained on would be taken for a test. */
static heed_status was_trained_on(bool *out, const heed_run *r, const heed_dataset *all, heed_error *err)
{
    const recipe_data *d = &r->recipe->values->data;
    const int64_t n = heed_dataset_count(all);
    int64_t *samples = heed__alloc(r->ctx->heap, 2 * (size_t)n, sizeof *samples);
    int64_t train, held, validation;
    heed_status st;

    if (!samples)
        return heed__fail_memory(err, 2 * (uint64_t)n * sizeof *samples);
    STEP(heed_dataset_split(all, d->validation, samples, &train, samples + n, &validation, err));
    STEP(heed_dataset_split(all, d->validation + d->test, samples, &train, samples + n, &held, err));
    if (d->limit > 0)
        train = i64_min(train, d->limit);
    *out = d->test > 0 && held > validation && train == r->config.train_samples &&
           validation == r->config.validation_samples;
done:
    heed__release(r->ctx->heap, samples);
    return st;
}

/* The test part that training left alone: of the recipe's folder by the same rule, under whatever name it is
 * given and wherever it was moved. Of another folder its own test part, or all of it. Pictures are fitted as
 * the run's were; classes are found by name, so that the number of a class is the same. */
static heed_status open_test(heed_dataset **out, heed_part *part, const heed_run *r, const char *folder,
                             heed_error *err)
{
    const recipe_data *d = &r->recipe->values->data;
    heed_dataset *all = NULL;
    bool moved = false;
    heed_status st;

    if (strcmp(folder, d->path) == 0 || heed__os_same(folder, d->path)) {
        *part = HEED_PART_TEST;
        return open_part(out, r, folder, HEED_PART_TEST, err);
    }
    STEP(open_part(&all, r, folder, HEED_PART_WHOLE, err));
    if (heed_dataset_kind_of(all) == HEED_DATASET_FOLDER)
        STEP(was_trained_on(&moved, r, all, err));
    *part = moved ? HEED_PART_TEST : HEED_PART_WHOLE;
    if (moved) {
        heed_dataset_free(all);
        all = NULL;
        STEP(open_part(&all, r, folder, HEED_PART_TEST, err));
    }
    *out = all;
    all = NULL;
done:
    heed_dataset_free(all);
    return st;
}

heed_status heed__run_test(heed_dataset **out, char part[256], const heed_run *r, const char *folder, heed_error *err)
{
    const run_config *c = &r->config;
    heed_dataset *d = NULL;
    heed_part which = HEED_PART_TEST;
    heed_type image;
    heed_status st;

    STEP(open_test(&d, &which, r, folder, err));
    image = heed_dataset_image_type(d);
    if (image.dims[0] != c->channels || image.dims[1] != c->height || image.dims[2] != c->width) {
        st = heed__fail_at(err, HEED_ERR_SHAPE, folder,
                           "%s: pictures of %lld x %lld x %lld, the model takes %lld x %lld x %lld", folder,
                           (long long)image.dims[0], (long long)image.dims[1], (long long)image.dims[2],
                           (long long)c->channels, (long long)c->height, (long long)c->width);
        goto done;
    }
    if (heed_dataset_classes(d) > c->classes) {
        st = heed__fail_at(err, HEED_ERR_SHAPE, folder, "%s: labels up to %lld, the model has %lld classes",
                           folder, (long long)heed_dataset_classes(d) - 1, (long long)c->classes);
        goto done;
    }
    STEP(name_part(part, r, folder, heed_dataset_kind_of(d), which, err));
    *out = d;
    d = NULL;
done:
    heed_dataset_free(d);
    return st;
}

heed_status heed_run_evaluate(heed_evaluation *out, heed_run *r, const char *data, heed_error *err)
{
    const recipe_values *v = r->recipe->values;
    const char *folder = data ? data : v->data.path;
    heed_dataset *d = NULL;
    heed_loader *l = NULL;
    char part[256];
    heed_status st;

    if (!data && !heed__folder_exists(r->ctx, folder)) {
        st = heed__fail_at(err, HEED_ERR_IO, folder,
                           "%s: the data that the run was trained on are not there; --data DIR names where they are",
                           folder);
        goto done;
    }
    STEP(heed__run_test(&d, part, r, folder, err));
    STEP(heed_loader_new(
        &l, r->ctx, d, NULL, 0,
        &(heed_loader_opts){ .batch_size = i64_min(v->train.batch_size, i64_max(1, heed_dataset_count(d))),
                             .mean = r->config.mean,
                             .std = r->config.std },
        err));
    STEP(heed_evaluate(out, r->model, l, r->config.mirror ? HEED_AVERAGE_MIRROR : HEED_AVERAGE_NONE, err));
    memcpy(out->part, part, sizeof part);
done:
    heed_loader_free(l);
    heed_dataset_free(d);
    return st;
}
