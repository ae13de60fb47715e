/* Which epoch was best on validation, and whose weights the run gets. Of equal accuracies the one with less
 * loss is better (a small part has few accuracies), of equal losses the earlier one. An epoch counts for
 * train.patience exactly when it does not become the best. */

#include "tasks/job.h"

#include <string.h>

bool heed__job_keeps_best(const job *j)
{
    return j->validation && j->recipe->values->train.select == RECIPE_SELECT_BEST;
}

/* Copies what belongs to a model file from one store to another. */
static heed_status copy_model(heed_weights *to, const heed_weights *from, heed_error *err)
{
    for (int64_t i = 0; i < heed_weights_count(from); i++) {
        const char *name;
        const heed_tensor x = heed_weights_at(from, i, &name);

        if (heed_weights_in_model(name))
            TRY(heed_weights_put(to, name, x, err));
    }
    return HEED_OK;
}

static heed_status keep_best(job *j)
{
    if (!j->best)
        TRY(heed_weights_new(&j->best, j->ctx, j->err));
    return copy_model(j->best, heed_model_weights(j->model), j->err);
}

heed_status heed__job_load_best(job *j, const char *set)
{
    TRY(keep_best(j));
    return heed__checkpoint_load_best(set, j->ctx, j->best, j->err);
}

heed_status heed__job_judge(job *j)
{
    const recipe_train *t = &j->recipe->values->train;
    const bool by_loss = t->monitor == RECIPE_MONITOR_LOSS;
    checkpoint_state *at = &j->at;
    const bool less_loss = at->validation_loss < at->best_loss;
    const bool better =
        at->best_epoch == 0 || (by_loss ? less_loss
                                        : at->validation_accuracy > at->best_accuracy ||
                                              (at->validation_accuracy >= at->best_accuracy && less_loss));

    at->bad_epochs++;
    if (t->schedule == HEED_SCHEDULE_PLATEAU) {
        j->schedule.lr =
            heed_plateau_next(&j->plateau, by_loss ? at->validation_loss : at->validation_accuracy);
        at->plateau_lr = j->plateau.lr;
        at->plateau_best = j->plateau.best;
        at->plateau_bad = j->plateau.bad;
    }
    if (!better)
        return HEED_OK;
    at->best_epoch = at->epoch;
    at->best_loss = at->validation_loss;
    at->best_accuracy = at->validation_accuracy;
    at->bad_epochs = 0;
    return heed__job_keeps_best(j) ? keep_best(j) : HEED_OK;
}

heed_status heed__job_choose(job *j, heed_train_result *r)
{
    const checkpoint_state *at = &j->at;

    r->best_epoch = at->best_epoch;
    if (!heed__job_keeps_best(j)) {
        r->weights_epoch = at->epoch;
        r->validation_loss = at->validation_loss;
        r->validation_accuracy = at->validation_accuracy;
        heed_trainer_swap_average(j->trainer); /* for good */
        return HEED_OK;
    }
    r->weights_epoch = at->best_epoch;
    r->validation_loss = at->best_loss;
    r->validation_accuracy = at->best_accuracy;
    return copy_model(heed_model_weights(j->model), j->best, j->err);
}
