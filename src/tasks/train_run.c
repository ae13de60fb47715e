/* heed_train: recipe -> data -> model -> steps -> run folder. The test part is never opened here.
 *
 * One thread calls; everything that is random is addressed by (seed, step or epoch, sample), so the weights
 * depend on the recipe and the instruction level only. */

#include "tasks/job.h"

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
    const char *const *frozen = NULL;
    heed_trainer_opts training_opts;

    TRY(heed__recipe_set_classes(j->recipe, j->config.classes, j->err));
    TRY(heed_model_new(&j->model, j->ctx, j->recipe->architecture->build, j->recipe->config,
                       &(heed_model_opts){ .seed = (uint64_t)t->seed }, j->err));
    TRY(heed_model_init(j->model, &input, 1, j->err));
    TRY(heed__job_init(j));
    TRY(heed__job_frozen(j, &frozen));
    training_opts = (heed_trainer_opts){ .optimizer = (heed_optimizer)t->optimizer,
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
                                         .label_smoothing = t->label_smoothing,
                                         .frozen = frozen };
    TRY(heed__job_loss(j, &training_opts));
    TRY(heed_trainer_new(&j->trainer, j->model, &training_opts, j->err));
    training.shuffle = true;
    training.mirror = v->data.mirror;
    training.shift = v->data.shift;
    training.crop = v->data.crop;
    training.erase = v->data.erase;
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
    return heed__job_log_epoch(j);
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
                TRY(heed__job_put_weights(j));
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
    STEP(heed__job_check_folder(&j));
    STEP(heed__job_data(&j));
    STEP(prepare_model(&j));
    STEP(heed__job_start_folder(&j));
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
    STEP(heed__job_baseline(&j, &result.baseline_accuracy));
    STEP(heed__job_put_run(&j, &result));
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
