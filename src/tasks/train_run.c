/* heed_train: recipe -> data -> model -> steps -> run folder. The test part is never opened here.
 *
 * One thread calls; everything that is random is addressed by (seed, step or epoch, sample), so the weights
 * depend on the recipe and the instruction level only. */

#include "tasks/job.h"

#include <math.h>

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
    if (!j->opts->resume) /* a checkpoint has the weights; their first ones may be gone by now */
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
                                         .ema = t->ema,
                                         .frozen = frozen };
    TRY(heed__job_loss(j, &training_opts));
    TRY(heed_trainer_new(&j->trainer, j->model, &training_opts, j->err));
    heed_model_profile(j->model, j->opts->profile);
    heed_trainer_profile(j->trainer, j->opts->profile);
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
                                   .gamma = t->step_gamma,
                                   .rise = t->warmup };
    j->plateau = (heed_plateau){ .factor = t->plateau_factor,
                                 .patience = t->plateau_patience,
                                 .threshold = t->plateau_threshold,
                                 .rises = t->monitor == RECIPE_MONITOR_ACCURACY,
                                 .lr = t->lr };
    if (!j->validation && (t->patience > 0 || t->schedule == HEED_SCHEDULE_PLATEAU))
        return heed__fail_at(j->err, HEED_ERR_SPEC, j->recipe->path,
                             "%s: %s goes by validation, and there is no validation part: data.validation",
                             j->recipe->path, t->patience > 0 ? "train.patience" : "train.schedule plateau");
    return HEED_OK;
}

static void tell(job *j, bool epoch_ended)
{
    heed_progress *p = &j->progress;
    const checkpoint_state *at = &j->at;
    const double since = heed__os_seconds() - j->began;

    p->epoch = at->epoch + !epoch_ended;
    p->step = at->step;
    p->samples = at->samples;
    p->loss = at->loss_samples ? at->loss_sum / (double)at->loss_samples : 0;
    p->lr = at->lr;
    p->grad_norm = at->grad_norm;
    p->seconds = since;
    p->rate = since > 0 ? (double)at->samples / since : 0;
    p->eta = at->step > 0 ? since / (double)at->step * (double)(j->total_steps - at->step) : 0;
    p->epoch_ended = epoch_ended;
    p->validation_loss = epoch_ended ? at->validation_loss : -1;
    p->validation_accuracy = epoch_ended ? at->validation_accuracy : -1;
    if (j->opts->progress && j->opts->progress(j->opts->user, p))
        j->stopped = true;
}

/* ---- the end of an epoch ---- */

/* Loss and accuracy of the weights, or of their averages, on the validation part; is it the best epoch? */
static heed_status validate(job *j)
{
    heed_evaluation e;
    heed_status st;

    heed_trainer_swap_average(j->trainer);
    st = heed_evaluate(&e, j->model, j->validation, HEED_AVERAGE_NONE, j->err);
    if (st == HEED_OK) {
        j->at.validation_loss = e.loss;
        j->at.validation_accuracy = e.accuracy;
        heed_evaluation_release(j->ctx, &e);
        st = isfinite(e.loss) ? heed__job_judge(j)
                              : heed__fail(j->err, HEED_ERR_NUMERIC,
                                           "the validation loss of epoch %lld is not finite: the last steps threw "
                                           "the weights far off; lower train.lr or set train.clip_norm: 1",
                                           (long long)j->at.epoch);
    }
    heed_trainer_swap_average(j->trainer);
    return st;
}

static bool out_of_patience(const job *j)
{
    const int64_t patience = j->recipe->values->train.patience;

    return patience > 0 && j->at.bad_epochs >= patience;
}

/* The last step was taken and its epoch has ended. */
static bool finished(const job *j)
{
    return j->at.epoch >= j->progress.epochs || (j->at.step >= j->total_steps && j->at.batch == 0) ||
           out_of_patience(j);
}

static heed_status end_epoch(job *j)
{
    const int64_t every = j->recipe->values->train.checkpoint_epochs;

    j->at.epoch++;
    j->at.batch = 0;
    if (j->validation)
        TRY(validate(j));
    tell(j, true);
    TRY(heed__job_log_epoch(j));
    TRY(heed__job_events_epoch(j));
    if (finished(j) || (every > 0 && j->at.epoch % every == 0))
        TRY(heed__job_save(j));
    return HEED_OK;
}

/* ---- steps ---- */

static heed_status take_step(job *j, const heed_tensor *x, const heed_tensor *y, int64_t count)
{
    checkpoint_state *at = &j->at;
    float loss;

    at->lr = heed_schedule_lr(&j->schedule, at->step);
    heed_trainer_set_lr(j->trainer, (float)at->lr);
    TRY(heed_trainer_step(j->trainer, x, 1, y, &loss, j->err));
    at->loss_sum += (double)loss * (double)count;
    at->loss_samples += count;
    at->samples += count;
    at->batch++;
    if (j->begun_at + heed_trainer_steps(j->trainer) != at->step) { /* not between micro-batches */
        at->step++;
        at->grad_norm = (double)heed_trainer_grad_norm(j->trainer);
    }
    return HEED_OK;
}

/* Is it time for a checkpoint? Not just before the end of an epoch, which may bring one. */
static bool save_is_due(const job *j)
{
    const recipe_train *t = &j->recipe->values->train;
    const checkpoint_state *at = &j->at;

    if (at->batch == heed_loader_batches(j->train) || at->step >= j->total_steps)
        return false;
    return (t->checkpoint_steps > 0 && at->step != j->saved_step && at->step > 0 &&
            at->step % t->checkpoint_steps == 0) ||
           (t->checkpoint_minutes > 0 &&
            heed__os_seconds() - j->began - j->saved_seconds >= 60 * t->checkpoint_minutes);
}

static heed_status train_epoch(job *j)
{
    checkpoint_state *at = &j->at;

    if (at->batch == 0)
        at->loss_sum = 0, at->loss_samples = 0;
    at->validation_loss = at->validation_accuracy = -1; /* those of the last epoch are not of these weights */
    TRY(heed_loader_start(j->train, at->epoch + 1, at->batch, j->err));
    while (at->step < j->total_steps && !j->stopped) {
        heed_tensor x, y;
        int64_t count;

        TRY(heed_loader_next(j->train, &x, &y, &count, j->err));
        if (count == 0)
            break;
        TRY(take_step(j, &x, &y, count));
        tell(j, false);
        if (!j->stopped && save_is_due(j))
            TRY(heed__job_save(j));
    }
    return HEED_OK;
}

static heed_status train_all(job *j)
{
    const checkpoint_state *at = &j->at;

    while (!finished(j) && !j->stopped) {
        TRY(train_epoch(j));
        if (!j->stopped)
            TRY(end_epoch(j));
    }
    if (finished(j) ||
        (at->step == j->saved_step && at->batch == j->saved_batch && at->epoch == j->saved_epoch))
        return HEED_OK;
    return heed__job_save(j);
}

/* ---- the end of a training ---- */

static heed_status end_run(job *j, heed_train_result *r)
{
    TRY(heed__job_baseline(j, &r->baseline_accuracy));
    TRY(heed__job_choose(j, r));
    TRY(heed__job_events_end(j));
    TRY(heed__job_put_run(j, r));
    TRY(heed__job_events_settled(j));
    return heed__job_report(j);
}

static heed_train_result result_of(const job *j)
{
    const checkpoint_state *at = &j->at;

    return (heed_train_result){ .epochs = at->epoch + (at->batch > 0),
                                .steps = at->step,
                                .parameters = heed_model_parameters(j->model),
                                .seconds = heed__os_seconds() - j->began,
                                .train_loss = at->loss_samples ? at->loss_sum / (double)at->loss_samples : 0,
                                .validation_loss = at->validation_loss,
                                .validation_accuracy = at->validation_accuracy,
                                .best_epoch = at->best_epoch,
                                .baseline_accuracy = -1,
                                .peak_bytes = heed_context_peak_bytes(j->ctx) };
}

heed_status heed_train(heed_train_result *out, heed_context *ctx, const heed_recipe *r,
                       const heed_train_opts *opts, heed_error *err)
{
    job j = { .ctx = ctx,
              .recipe = (heed_recipe *)(uintptr_t)r,
              .opts = opts,
              .err = err,
              .lock = -1,
              .at = { .validation_loss = -1, .validation_accuracy = -1 },
              .saved_step = -1 };
    heed_train_result result = { 0 };
    heed_status st;

    if (!opts || !opts->out || !opts->out[0])
        return heed__fail(err, HEED_ERR_USAGE, "training needs the folder of the run");
    heed__arena_init(&j.arena, ctx->heap);
    heed_context_peak_reset(ctx);
    STEP(heed__job_check_folder(&j));
    STEP(heed__job_data(&j));
    STEP(prepare_model(&j));
    STEP(heed__job_take_folder(&j));
    j.began = heed__os_seconds() - j.at.seconds;
    j.progress.epochs = j.recipe->values->train.epochs;
    j.progress.steps = j.total_steps;
    STEP(train_all(&j));
    result = result_of(&j);
    if (finished(&j))
        STEP(end_run(&j, &result));
    *out = result;
    if (!finished(&j))
        st = heed__fail(err, HEED_ERR_STOPPED,
                        "training was stopped at step %lld of %lld; to go on: heed train --out %s --resume",
                        (long long)j.at.step, (long long)j.total_steps, opts->out);
done:
    heed_events_close(j.events, NULL); /* of a training that was stopped: each epoch was flushed */
    heed_loader_free(j.train);
    heed_loader_free(j.validation);
    heed_trainer_free(j.trainer);
    heed_weights_free(j.best);
    heed_model_free(j.model);
    heed_dataset_free(j.data);
    heed__release(ctx->heap, j.order);
    heed__release(ctx->heap, j.held);
    heed__job_leave_folder(&j);
    heed__arena_release(&j.arena);
    return st;
}
