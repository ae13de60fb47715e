/* The folder of a training: taken, gone on in, saved to.
 *
 * A training goes on only where everything that its result depends on is what it was: the recipe (named key
 * by key), the data (a digest of which samples train, which are held back, their labels and normalisation),
 * and the level. */

#include "tasks/job.h"
#include "base/digest.h"

#include <string.h>

static checkpoint_place place(const job *j)
{
    return (checkpoint_place){ j->ctx, j->sets, j->opts->notice, j->opts->user };
}

static heed_status in_folder(job *j, char **out, const char *folder, const char *name)
{
    *out = heed__path_join(j->ctx, folder, name);
    return *out ? HEED_OK : heed__fail_memory(j->err, strlen(folder));
}

static void tell(const job *j, const char *sentence)
{
    if (j->opts->notice)
        j->opts->notice(j->opts->user, sentence);
}

static void release_work(job *j)
{
    heap *h = j->ctx->heap;

    heed__release(h, j->work);
    heed__release(h, j->sets);
    heed__release(h, j->metrics);
    j->work = j->sets = j->metrics = NULL;
}

/* ---- what is there ---- */

static heed_status refuse_run(job *j)
{
    char *config;
    heed_status st = HEED_OK;

    TRY(heed__run_file(&config, j->ctx, j->opts->out, RUN_CONFIG, j->err));
    if (heed__file_exists(j->ctx, config))
        st = heed__fail_at(j->err, HEED_ERR_EXISTS, j->opts->out,
                           "%s holds a run already; --force writes over it", j->opts->out);
    heed__release(j->ctx->heap, config);
    return st;
}

static heed_status refuse_training(job *j)
{
    checkpoint_place at = place(j);
    int64_t step = -1;
    char *sets;
    heed_status st;

    TRY(in_folder(j, &sets, j->opts->out, RUN_SETS));
    at.folder = sets;
    STEP(heed__checkpoint_newest(&step, &at, j->err));
    if (step >= 0)
        st = heed__fail_at(
            j->err, HEED_ERR_EXISTS, j->opts->out,
            "%s holds a training that was interrupted after step %lld; --resume goes on, --force "
            "begins anew",
            j->opts->out, (long long)step);
done:
    heed__release(j->ctx->heap, sets);
    return st;
}

/* Known before the data are read, and told as what it is: what another training writes is not interrupted. */
static heed_status refuse_busy(job *j)
{
    heed_error why = { 0 };
    char *path;
    int lock;
    heed_status st = HEED_OK;

    if (j->lock >= 0)
        return HEED_OK;
    TRY(in_folder(j, &path, j->opts->out, RUN_LOCK));
    if (heed__file_exists(j->ctx, path)) {
        st = heed__file_lock(&lock, j->ctx, path, &why);
        if (st == HEED_OK)
            heed__file_unlock(lock, j->ctx, path);
        else if (st == HEED_ERR_EXISTS)
            heed__fail_at(j->err, st, path, "%s", why.text);
        else
            st = HEED_OK; /* whatever it is, taking the folder will say so */
    }
    heed__release(j->ctx->heap, path);
    return st;
}

heed_status heed__job_check_folder(job *j)
{
    TRY(refuse_busy(j));
    if (j->opts->resume && !j->opts->fresh && !heed__folder_exists(j->ctx, j->opts->out))
        return heed__fail_at(j->err, HEED_ERR_IO, j->opts->out, "there is no training in %s to go on with",
                             j->opts->out);
    if (j->opts->resume || j->opts->force)
        return HEED_OK;
    TRY(refuse_run(j));
    return refuse_training(j);
}

/* ---- digests ---- */

/* Which samples, in which order, with which labels; how pixels become numbers. */
static void digest_data(job *j)
{
    const run_config *c = &j->config;
    const int64_t sizes[] = { c->channels, c->height, c->width, c->classes, j->n_train, j->n_held };
    uint8_t digest[32];
    sha256 sum;

    heed__sha256_init(&sum);
    heed__sha256_add(&sum, sizes, sizeof sizes);
    heed__sha256_add(&sum, j->order, (size_t)j->n_train * sizeof *j->order);
    heed__sha256_add(&sum, j->held, (size_t)j->n_held * sizeof *j->held);
    for (int64_t i = 0; i < heed_dataset_count(j->data); i++) {
        const int64_t label = heed_dataset_label(j->data, i);

        heed__sha256_add(&sum, &label, sizeof label);
    }
    heed__sha256_add(&sum, c->mean, (size_t)c->channels * sizeof *c->mean);
    heed__sha256_add(&sum, c->std, (size_t)c->channels * sizeof *c->std);
    heed__sha256_end(&sum, digest);
    heed__hex(j->data_sha256, digest, sizeof digest);
}

/* What the training is, into the state that checkpoints keep. */
static heed_status name_training(job *j)
{
    TRY(heed__recipe_digest(j->recipe, j->recipe_sha256, j->err));
    digest_data(j);
    j->at.heed = HEED_VERSION;
    j->at.isa = heed_isa_name(j->ctx->isa);
    j->at.recipe_sha256 = j->recipe_sha256;
    j->at.data_sha256 = j->data_sha256;
    j->at.seed = j->recipe->values->train.seed;
    return HEED_OK;
}

/* ---- a new training ---- */

static heed_status begin_anew(job *j)
{
    char *recipe = NULL;
    heed_status st;

    if (strcmp(j->work, j->opts->out) != 0) {
        STEP(heed__run_clear(j->ctx, j->work, j->err)); /* of a training over this run that was given up */
    } else {
        checkpoint_place at = place(j);

        STEP(heed__checkpoint_clear(&at, j->err));
    }
    STEP(heed_recipe_print(&recipe, j->recipe, j->err));
    STEP(heed__job_put_text(j, RUN_RECIPE, recipe, strlen(recipe)));
    STEP(heed__job_put_text(j, RUN_METRICS, "", 0));
done:
    heed_text_free(j->ctx, recipe);
    return st;
}

/* ---- going on ---- */

static heed_status same_recipe(job *j, const checkpoint_state *s)
{
    heed_recipe *then = NULL;
    char *path = NULL;
    heed_status st;

    STEP(in_folder(j, &path, j->work, RUN_RECIPE));
    STEP(heed_recipe_open(&then, j->ctx, path, NULL, j->err));
    STEP(heed__recipe_set_classes(then, j->config.classes, j->err));
    STEP(heed__recipe_same(j->recipe, then, j->err));
    if (strcmp(j->recipe_sha256, s->recipe_sha256) != 0)
        st = heed__fail_at(j->err, HEED_ERR_SPEC, path, "%s was changed after the checkpoint was written",
                           path);
done:
    heed_recipe_free(then);
    heed__release(j->ctx->heap, path);
    return st;
}

static heed_status same_training(job *j, const checkpoint_state *s)
{
    TRY(same_recipe(j, s));
    if (strcmp(j->data_sha256, s->data_sha256) != 0)
        return heed__fail_at(
            j->err, HEED_ERR_SPEC, j->recipe->values->data.path,
            "%s: these are not the data that the training began with; give it those back, or begin "
            "anew with --force",
            j->recipe->values->data.path);
    if (strcmp(j->at.isa, s->isa) != 0)
        return heed__fail_at(
            j->err, HEED_ERR_SPEC, j->opts->out,
            "the training began at level %.32s, this is %s, which rounds otherwise; --isa %.32s "
            "goes on",
            s->isa, j->at.isa, s->isa);
    if (strcmp(j->at.heed, s->heed) != 0)
        tell(
            j,
            "the checkpoint is from another version of heed; the training goes on, its bits may be others");
    return HEED_OK;
}

/* metrics.jsonl as it was at the checkpoint: what was logged after it will be logged again. */
static heed_status cut_log(job *j, int64_t bytes)
{
    file_bytes log = { 0 };
    heed_status st = HEED_OK;

    if (heed__file_exists(j->ctx, j->metrics))
        TRY(heed__file_read(&log, j->ctx, j->metrics, INT64_MAX, j->err));
    if ((int64_t)log.size < bytes)
        tell(j, "metrics.jsonl is shorter than it was at the checkpoint; it goes on with what is there");
    if ((int64_t)log.size != bytes)
        st = heed__file_replace(j->ctx, j->metrics, log.data ? (const void *)log.data : "",
                                (size_t)i64_min((int64_t)log.size, bytes), j->err);
    if (st == HEED_OK)
        j->at.metrics_bytes = i64_min((int64_t)log.size, bytes);
    heed__release(j->ctx->heap, log.data);
    return st;
}

static void take_state(job *j, const checkpoint_state *s)
{
    const checkpoint_state now = j->at;

    j->at = *s;
    j->at.heed = now.heed;
    j->at.isa = now.isa;
    j->at.recipe_sha256 = now.recipe_sha256;
    j->at.data_sha256 = now.data_sha256;
    j->begun_at = s->step;
    j->saved_step = s->step;
    j->saved_batch = s->batch;
    j->saved_epoch = s->epoch;
    j->saved_seconds = s->seconds;
    if (s->plateau_lr > 0) {
        j->plateau.lr = j->schedule.lr = s->plateau_lr;
        j->plateau.best = s->plateau_best;
        j->plateau.bad = s->plateau_bad;
        j->plateau.begun = true;
    }
}

static heed_status load_set(job *j, const char *set, const checkpoint_state *s)
{
    const heed_type input =
        heed_type_of(HEED_F32, 4,
                     (const int64_t[]){ i64_min(j->recipe->values->train.batch_size, j->n_train),
                                        j->config.channels, j->config.height, j->config.width });
    const heed_type target = heed_type_of(HEED_I64, 1, input.dims);
    heed_status st = HEED_OK;

    TRY(same_training(j, s));
    TRY(heed_trainer_prepare(j->trainer, &input, 1, &target, j->err));
    TRY(heed__checkpoint_load(set, j->ctx, heed_model_weights(j->model), j->err));
    take_state(j, s);
    if (heed__job_keeps_best(j) && s->best_epoch > 0) {
        heed_trainer_swap_average(j->trainer);
        st = heed__job_load_best(j, set);
        heed_trainer_swap_average(j->trainer);
    }
    return st == HEED_OK ? cut_log(j, s->metrics_bytes) : st;
}

/* The names of what lies in the folder that is worked in, which job_leave_folder gives back. */
static heed_status name_work(job *j)
{
    TRY(in_folder(j, &j->sets, j->work, RUN_SETS));
    return in_folder(j, &j->metrics, j->work, RUN_METRICS);
}

/* --fresh, and nothing to go on from. A run that is there is written over as by any training: with force, and
 * in next/. */
static heed_status begin_fresh(job *j)
{
    bool run = false;

    if (strcmp(j->work, j->opts->out) == 0)
        TRY(heed__run_has(&run, j->ctx, j->opts->out, RUN_CONFIG, j->err));
    if (run && !j->opts->force)
        return refuse_run(j);
    if (run) {
        release_work(j);
        TRY(in_folder(j, &j->work, j->opts->out, RUN_NEXT));
        TRY(heed__folder_make(j->ctx, j->work, j->err));
        TRY(name_work(j));
    }
    TRY(heed__job_init(j));
    tell(j, "no checkpoint can be used; the training begins anew");
    return begin_anew(j);
}

static heed_status go_on(job *j)
{
    const checkpoint_place at = place(j);
    checkpoint_state s;
    char *set = NULL;
    heed_status st = heed__checkpoint_find(&set, &s, &at, &j->arena, j->err);

    if (st == HEED_OK && set)
        st = load_set(j, set, &s);
    else if (st != HEED_ERR_MEMORY && st != HEED_ERR_MISSING && j->opts->fresh) {
        if (j->err)
            *j->err = (heed_error){ 0 };
        st = begin_fresh(j);
    } else if (st == HEED_OK) {
        st = heed__fail_at(j->err, HEED_ERR_IO, j->sets,
                           "there is no checkpoint in %s to go on from; leave --resume out, or add --fresh",
                           j->sets);
    }
    heed__release(j->ctx->heap, set);
    return st;
}

/* ---- the folder ---- */

static heed_status pick_work(job *j)
{
    bool run = false;

    if (j->opts->resume)
        return heed__run_work(&j->work, j->ctx, j->opts->out, j->err);
    TRY(heed__run_has(&run, j->ctx, j->opts->out, RUN_CONFIG, j->err));
    if (run)
        return in_folder(j, &j->work, j->opts->out, RUN_NEXT);
    j->work = heed__copy_string(j->ctx->heap, j->opts->out);
    return j->work ? HEED_OK : heed__fail_memory(j->err, 0);
}

heed_status heed__job_take_folder(job *j)
{
    const char *out = j->opts->out;

    TRY(name_training(j));
    TRY(heed__folder_make(j->ctx, out, j->err));
    TRY(in_folder(j, &j->lock_path, out, RUN_LOCK));
    TRY(heed__file_lock(&j->lock, j->ctx, j->lock_path, j->err));
    TRY(heed__job_check_folder(j)); /* nobody else changes it from here on */
    TRY(heed__run_settle(j->ctx, out, j->err));
    TRY(pick_work(j));
    TRY(heed__folder_make(j->ctx, j->work, j->err));
    TRY(heed__run_sweep(j->ctx, j->work, j->err));
    TRY(name_work(j));
    return j->opts->resume ? go_on(j) : begin_anew(j);
}

void heed__job_leave_folder(job *j)
{
    if (j->lock >= 0)
        heed__file_unlock(j->lock, j->ctx, j->lock_path);
    heed__release(j->ctx->heap, j->lock_path);
    release_work(j);
}

heed_status heed__job_save(job *j)
{
    const checkpoint_place where = place(j);
    checkpoint_state *at = &j->at;
    const bool is_best =
        at->batch == 0 && at->best_epoch == at->epoch; /* then the set's own weights are the best */

    at->seconds = heed__os_seconds() - j->began;
    TRY(heed__file_sync(j->ctx, j->metrics, j->err));
    TRY(heed__checkpoint_save(&where, at, heed_model_weights(j->model), is_best ? NULL : j->best,
                              j->recipe->values->train.keep, j->err));
    j->saved_step = at->step;
    j->saved_batch = at->batch;
    j->saved_epoch = at->epoch;
    j->saved_seconds = at->seconds;
    return HEED_OK;
}

heed_status heed_train_recipe(char **out, heed_context *ctx, const char *folder, heed_error *err)
{
    char *work = NULL, *path = NULL;
    heed_status st;

    STEP(heed__run_work(&work, ctx, folder, err));
    path = heed__path_join(ctx, work, RUN_RECIPE);
    if (!path) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    if (!heed__file_exists(ctx, path)) {
        st = heed__fail_at(err, HEED_ERR_IO, folder, "there is no training in %s to go on with", folder);
        goto done;
    }
    *out = path;
    path = NULL;
done:
    heed__release(ctx->heap, work);
    heed__release(ctx->heap, path);
    return st;
}
