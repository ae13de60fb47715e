/* heed_train: recipe -> data -> model -> steps -> run folder. The test part is never opened here.
 *
 * One thread calls; everything that is random is addressed by (seed, step or epoch, sample), so the weights
 * depend on the recipe and the instruction level only. */

#include "base/files.h"
#include "base/sizes.h"
#include "tasks/config.h"
#include "tasks/recipe.h"

#include <string.h>

/* Everything a training holds. */
typedef struct job {
    heed_context *ctx;
    heed_recipe *recipe;
    const heed_train_opts *opts;
    heed_error *err;
    arena arena;
    heed_dataset *data;
    heed_model *model;
    heed_trainer *trainer;
    heed_loader *train, *validation;
    int64_t *order, *held, n_train, n_held;
    run_config config;
    heed_schedule schedule;
    heed_progress progress;
    char *metrics; /* path of metrics.jsonl */
    double began, validation_loss, validation_accuracy;
    int64_t total_steps, seen;
    bool stopped;
} job;

/* Is there a run already? */
static heed_status check_folder(const job *j)
{
    char *config = heed__path_join(j->ctx, j->opts->out, "config.json");
    heed_status st = HEED_OK;

    if (!config)
        return heed__fail_memory(j->err, 0);
    if (heed__file_exists(j->ctx, config) && !j->opts->force)
        st = heed__fail_at(j->err, HEED_ERR_EXISTS, j->opts->out,
                           "%s holds a run already; --force overwrites it", j->opts->out);
    heed__release(j->ctx->heap, config);
    return st;
}

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
static heed_status prepare_data(job *j)
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
static heed_status measure_baseline(job *j, double *accuracy)
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

static heed_status prepare_model(job *j)
{
    const recipe_values *v = j->recipe->values;
    const recipe_train *t = &v->train;
    const heed_type input = heed_type_of(
        HEED_F32, 4,
        (const int64_t[]){ t->batch_size, j->config.channels, j->config.height, j->config.width });
    const heed_loader_opts loading = {
        .batch_size = t->batch_size, .seed = (uint64_t)t->seed, .mean = j->config.mean, .std = j->config.std
    };
    heed_loader_opts training = loading;

    TRY(heed__recipe_set_classes(j->recipe, j->config.classes, j->err));
    TRY(heed_model_new(&j->model, j->ctx, j->recipe->architecture->build, j->recipe->config,
                       &(heed_model_opts){ .seed = (uint64_t)t->seed }, j->err));
    TRY(heed_model_init(j->model, &input, 1, j->err));
    TRY(heed_trainer_new(&j->trainer, j->model,
                         &(heed_trainer_opts){ .optimizer = (heed_optimizer)t->optimizer,
                                               .lr = HEED_SET((float)t->lr),
                                               .weight_decay = t->weight_decay,
                                               .decay = (heed_decay)t->decay,
                                               .momentum = t->momentum,
                                               .beta1 = t->beta1,
                                               .beta2 = t->beta2,
                                               .eps = t->eps,
                                               .alpha = t->alpha,
                                               .nesterov = t->nesterov,
                                               .amsgrad = t->amsgrad,
                                               .clip_norm = t->clip_norm,
                                               .accumulate = t->accumulate,
                                               .label_smoothing = t->label_smoothing },
                         j->err));
    training.shuffle = true;
    training.mirror = v->data.mirror;
    training.shift = v->data.shift;
    TRY(heed_loader_new(&j->train, j->ctx, j->data, j->order, j->n_train, &training, j->err));
    if (j->n_held > 0)
        TRY(heed_loader_new(&j->validation, j->ctx, j->data, j->held, j->n_held, &loading, j->err));
    j->total_steps = t->epochs * heed_loader_batches(j->train) / t->accumulate;
    if (j->total_steps == 0)
        return heed__fail_at(
            j->err, HEED_ERR_SPEC, j->recipe->path,
            "%s: train.accumulate is %lld, but there are %lld batches in all: no step would be taken",
            j->recipe->path, (long long)t->accumulate,
            (long long)t->epochs * (long long)heed_loader_batches(j->train));
    if (t->max_steps > 0)
        j->total_steps = i64_min(j->total_steps, t->max_steps);
    j->schedule = (heed_schedule){ .kind = (heed_schedule_kind)t->schedule,
                                   .lr = t->lr,
                                   .warmup = (int64_t)(t->warmup * (double)j->total_steps),
                                   .steps = j->total_steps,
                                   .every = t->step_every,
                                   .gamma = t->step_gamma };
    return HEED_OK;
}

/* ---- writing ---- */

static heed_status put_text(job *j, const char *name, const char *bytes, size_t n)
{
    char *path = heed__path_join(j->ctx, j->opts->out, name);
    heed_status st = path ? heed__file_replace(j->ctx, path, bytes, n, j->err) : heed__fail_memory(j->err, 0);

    heed__release(j->ctx->heap, path);
    return st;
}

static heed_status put_weights(job *j)
{
    char *path = heed__path_join(j->ctx, j->opts->out, "model.safetensors");
    heed_status st = path ? heed_model_save(j->model, path, j->err) : heed__fail_memory(j->err, 0);

    heed__release(j->ctx->heap, path);
    return st;
}

/* The folder, and a log to which every epoch adds a line: where nothing can be written, training does not
 * begin. */
static heed_status start_folder(job *j)
{
    TRY(heed__folder_make(j->ctx, j->opts->out, j->err));
    j->metrics = heed__path_join(j->ctx, j->opts->out, "metrics.jsonl");
    if (!j->metrics)
        return heed__fail_memory(j->err, 0);
    return heed__file_replace(j->ctx, j->metrics, "", 0, j->err);
}

static heed_status put_card(job *j, const heed_train_result *r)
{
    heed_status st;
    text t;

    heed__text_init(&t, j->ctx->heap, 0);
    heed__text_add(&t, "# A %s, trained with heed %s\n\n", j->recipe->architecture->name, HEED_VERSION);
    heed__text_add(&t, "%s\n\n| | |\n|---|---|\n| parameters | %lld |\n| training samples | %lld |\n",
                   j->recipe->architecture->doc, (long long)r->parameters, (long long)j->n_train);
    heed__text_add(&t, "| validation samples | %lld |\n| epochs, steps | %lld, %lld |\n",
                   (long long)j->n_held, (long long)r->epochs, (long long)r->steps);
    if (r->validation_accuracy >= 0)
        heed__text_add(&t, "| validation accuracy | %.4f |\n| validation loss | %.4f |\n",
                       r->validation_accuracy, r->validation_loss);
    heed__text_add(&t, "| seed | %lld |\n| SHA-256 of the weights | %s |\n\n",
                   (long long)j->recipe->values->train.seed, r->sha256);
    heed__text_add(&t, "The test part was not read. `heed eval` of this folder reads it.\n");
    st = t.failed ? heed__fail_memory(j->err, 0) : put_text(j, "README.md", t.data, t.size);
    heed__text_release(&t);
    return st;
}

static heed_status put_run(job *j, heed_train_result *r)
{
    char *recipe = NULL;
    heed_status st;

    STEP(heed_weights_sha256(heed_model_weights(j->model), HEED_WEIGHTS_MODEL, r->sha256, j->err));
    j->config.architecture = j->recipe->architecture->name;
    j->config.sha256 = r->sha256;
    j->config.isa = heed_isa_name(j->ctx->isa);
    j->config.seed = j->recipe->values->train.seed;
    j->config.steps = r->steps;
    STEP(put_weights(j));
    STEP(heed_recipe_print(&recipe, j->recipe, j->err));
    STEP(put_text(j, "recipe.yaml", recipe, strlen(recipe)));
    STEP(put_card(j, r));
    /* last: a folder with config.json is whole */
    STEP(heed__config_write(j->ctx, j->opts->out, &j->config, j->err));
done:
    heed_text_free(j->ctx, recipe);
    return st;
}

/* ---- training ---- */

static void tell(job *j, bool epoch_ended)
{
    heed_progress *p = &j->progress;
    const double left = (double)(j->total_steps - p->step);

    p->seconds = heed__os_seconds() - j->began;
    p->rate = p->seconds > 0 ? (double)j->seen / p->seconds : 0;
    p->eta = p->step > 0 ? p->seconds / (double)p->step * left : 0;
    p->epoch_ended = epoch_ended;
    p->validation_loss = epoch_ended ? j->validation_loss : -1;
    p->validation_accuracy = epoch_ended ? j->validation_accuracy : -1;
    if (j->opts->progress && j->opts->progress(j->opts->user, p))
        j->stopped = true;
}

/* A line of metrics.jsonl. */
static heed_status log_epoch(job *j)
{
    const heed_progress *p = &j->progress;
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "train_loss", p->loss },
        { "val_loss", p->validation_loss },
        { "val_accuracy", p->validation_accuracy },
        { "lr", p->lr },
        { "grad_norm", p->grad_norm },
        { "seconds", p->seconds },
    };
    heed_status st;
    text t;

    heed__text_init(&t, j->ctx->heap, 0);
    heed__text_add(&t, "{\"epoch\":%lld,\"step\":%lld", (long long)p->epoch, (long long)p->step);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        heed__text_add(&t, ",\"%s\":", numbers[i].name);
        heed__text_number(&t, numbers[i].value);
    }
    heed__text_add(&t, "}\n");
    st = t.failed ? heed__fail_memory(j->err, t.size)
                  : heed__file_append(j->ctx, j->metrics, t.data, t.size, j->err);
    heed__text_release(&t);
    return st;
}

static heed_status end_epoch(job *j)
{
    if (j->validation) {
        heed_evaluation e;

        TRY(heed_evaluate(&e, j->model, j->validation, HEED_AVERAGE_NONE, j->err));
        j->validation_loss = e.loss;
        j->validation_accuracy = e.accuracy;
        heed_evaluation_release(j->ctx, &e);
    }
    tell(j, true);
    return log_epoch(j);
}

static heed_status train_epoch(job *j)
{
    const int64_t every = j->recipe->values->train.checkpoint_steps;
    heed_progress *p = &j->progress;
    double sum = 0;
    int64_t samples = 0;

    p->validation_loss = p->validation_accuracy = -1; /* those of the last epoch are not of these weights */
    TRY(heed_loader_start(j->train, p->epoch, 0, j->err));
    while (p->step < j->total_steps && !j->stopped) {
        heed_tensor x, y;
        int64_t count;
        float loss;

        TRY(heed_loader_next(j->train, &x, &y, &count, j->err));
        if (count == 0)
            break;
        p->lr = heed_schedule_lr(&j->schedule, heed_trainer_steps(j->trainer));
        heed_trainer_set_lr(j->trainer, (float)p->lr);
        TRY(heed_trainer_step(j->trainer, &x, 1, &y, &loss, j->err));
        sum += (double)loss * (double)count;
        samples += count;
        j->seen += count;
        p->samples = j->seen;
        p->loss = sum / (double)samples;
        p->grad_norm = (double)heed_trainer_grad_norm(j->trainer);
        if (p->step != heed_trainer_steps(j->trainer)) { /* not between micro-batches */
            p->step = heed_trainer_steps(j->trainer);
            if (every > 0 && p->step % every == 0)
                TRY(put_weights(j));
        }
        tell(j, false);
    }
    return HEED_OK;
}

static heed_status train_all(job *j)
{
    j->progress.epochs = j->recipe->values->train.epochs;
    j->progress.steps = j->total_steps;
    while (j->progress.epoch < j->progress.epochs && j->progress.step < j->total_steps && !j->stopped) {
        j->progress.epoch++;
        TRY(train_epoch(j));
        if (!j->stopped)
            TRY(end_epoch(j));
    }
    return HEED_OK;
}

heed_status heed_train(heed_train_result *out, heed_context *ctx, const heed_recipe *r,
                       const heed_train_opts *opts, heed_error *err)
{
    job j = { .ctx = ctx,
              .recipe = (heed_recipe *)(uintptr_t)r,
              .opts = opts,
              .err = err,
              .validation_loss = -1,
              .validation_accuracy = -1,
              .began = heed__os_seconds() };
    heed_train_result result = { 0 };
    heed_status st;

    if (!opts || !opts->out || !opts->out[0])
        return heed__fail(err, HEED_ERR_USAGE, "training needs the folder of the run");
    heed__arena_init(&j.arena, ctx->heap);
    heed_context_peak_reset(ctx);
    STEP(check_folder(&j));
    STEP(prepare_data(&j));
    STEP(prepare_model(&j));
    STEP(start_folder(&j));
    j.began = heed__os_seconds();
    STEP(train_all(&j));
    result = (heed_train_result){ .epochs = j.progress.epoch,
                                  .steps = j.progress.step,
                                  .parameters = heed_model_parameters(j.model),
                                  .seconds = heed__os_seconds() - j.began,
                                  .train_loss = j.progress.loss,
                                  .validation_loss = j.validation_loss,
                                  .validation_accuracy = j.validation_accuracy,
                                  .peak_bytes = heed_context_peak_bytes(ctx) };
    STEP(measure_baseline(&j, &result.baseline_accuracy));
    STEP(put_run(&j, &result));
    *out = result;
    if (j.stopped)
        st = heed__fail(err, HEED_ERR_STOPPED,
                        "training was stopped at step %lld of %lld; the weights so far are in %s",
                        (long long)j.progress.step, (long long)j.total_steps, opts->out);
done:
    heed_loader_free(j.train);
    heed_loader_free(j.validation);
    heed_trainer_free(j.trainer);
    heed_model_free(j.model);
    heed_dataset_free(j.data);
    heed__release(ctx->heap, j.order);
    heed__release(ctx->heap, j.held);
    heed__release(ctx->heap, j.metrics);
    heed__arena_release(&j.arena);
    return st;
}
