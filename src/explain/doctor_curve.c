/* Rules that read a history: rows of loss, rate and gradient norm. Where none was given, a trial of some
 * steps on a copy of the weights makes one.
 *
 * A window is a quarter of the rows. With L(w) the mean loss over a window w:
 *
 *   growing   L(last) > bound * min_w L(w)   and   L(last) - min_w L(w) > L(first) / 20 */

#include "explain/doctor.h"

#include <math.h>
#include <stdio.h>

/* ---- a trial ---- */

static heed_status copy_weights(heed_weights *to, const heed_weights *from, heed_error *err)
{
    for (int64_t i = 0; i < heed_weights_count(from); i++) {
        const char *name;
        const heed_tensor t = heed_weights_at(from, i, &name);

        TRY(heed_weights_put(to, name, t, err));
    }
    return HEED_OK;
}

/* Steps until the trial is over; *rows is how many there were. A number that is not finite ends it: that is
 * a finding. */
static heed_status trial_steps(doctor *d, heed_trainer *t, int64_t *rows_n)
{
    int64_t epoch = 1, n = 0;
    bool fresh = true;

    TRY(heed_loader_start(d->c->samples, epoch, 0, d->err));
    while (n < d->trial) {
        heed_error stop = { 0 };
        heed_tensor x, y;
        int64_t count;
        float loss;
        heed_status st;

        TRY(heed_loader_next(d->c->samples, &x, &y, &count, d->err));
        if (count == 0) {
            if (fresh)
                break; /* an epoch of nothing */
            TRY(heed_loader_start(d->c->samples, ++epoch, 0, d->err));
            fresh = true;
            continue;
        }
        fresh = false;
        st = heed_trainer_step(t, &x, 1, &y, &loss, &stop);
        if (st == HEED_ERR_NUMERIC) {
            *rows_n = n;
            heed__doctor_looked(d, RULE_EXPLODING_GRADIENT);
            return heed__doctor_find(d, RULE_EXPLODING_GRADIENT, NAN, stop.path,
                                     "step %lld of a trial: %.200s", (long long)n + 1, stop.text);
        }
        if (st != HEED_OK)
            return heed__fail_at(d->err, st, stop.path, "%s", stop.text);
        d->history[n] = (heed_history_row){ .epoch = n + 1,
                                            .train_loss = (double)loss,
                                            .validation_loss = NAN,
                                            .lr = (double)heed_trainer_lr(t),
                                            .grad_norm = (double)heed_trainer_grad_norm(t) };
        n++;
    }
    *rows_n = n;
    return HEED_OK;
}

static heed_status trial(doctor *d, int64_t *rows_n)
{
    heed_model *m = d->c->model, *copy = NULL;
    heed_weights *w = NULL;
    heed_trainer *t = NULL;
    heed_status st;

    d->history = heed__alloc(d->ctx->heap, (size_t)d->trial, sizeof *d->history);
    if (!d->history)
        return heed__fail_memory(d->err, (uint64_t)d->trial * sizeof *d->history);
    STEP(heed_weights_new(&w, d->ctx, d->err));
    STEP(copy_weights(w, heed_model_weights(m), d->err));
    STEP(heed_model_new(&copy, d->ctx, heed_model_build(m), heed_model_config(m),
                        &(heed_model_opts){ .seed = heed_model_seed(m), .weights = w }, d->err));
    STEP(heed_trainer_new(&t, copy, d->c->training, d->err));
    STEP(trial_steps(d, t, rows_n));
done:
    heed_trainer_free(t);
    heed_model_free(copy);
    heed_weights_free(w);
    return st;
}

/* ---- reading ---- */

typedef struct curve {
    const heed_history_row *row;
    int64_t n, window;
    int64_t stride; /* of very many rows one in so many is looked at: the cost grows with their square */
    bool steps;     /* rows are steps of a trial */
} curve;

#define ROWS_LOOKED 4096

static double curve_loss(const curve *c, int64_t begin)
{
    double sum = 0;

    for (int64_t i = begin; i < begin + c->window; i++)
        sum += c->row[i].train_loss;
    return sum / (double)c->window;
}

/* "epoch 7", "step 12 of a trial" */
static const char *curve_place(char to[64], const curve *c, int64_t i)
{
    (void)snprintf(to, 64, c->steps ? "step %lld of a trial" : "epoch %lld", (long long)c->row[i].epoch);
    return to;
}

static heed_status growing_loss(doctor *d, const curve *c)
{
    char place[64];
    double first, last, best = INFINITY;
    int64_t at = 0;

    heed__doctor_looked(d, RULE_GROWING_LOSS);
    for (int64_t i = 0; i < c->n; i++)
        if (!isfinite(c->row[i].train_loss))
            return heed__doctor_find(d, RULE_GROWING_LOSS, c->row[i].train_loss, curve_place(place, c, i),
                                     "the training loss is not finite");
    first = curve_loss(c, 0);
    last = curve_loss(c, c->n - c->window);
    for (int64_t i = 0; i + c->window <= c->n; i += c->stride) {
        const double loss = curve_loss(c, i);

        if (loss < best) {
            best = loss;
            at = i + c->window - 1;
        }
    }
    if (!(last > d->threshold[RULE_GROWING_LOSS] * best && last - best > first / 20))
        return HEED_OK;
    return heed__doctor_find(
        d, RULE_GROWING_LOSS, best > 0 ? last / best : INFINITY, curve_place(place, c, c->n - 1),
        "the training loss rose from its best, %.4g after row %lld, to %.4g", best, (long long)at + 1, last);
}

/* The middle of the norms that are known, by counting: no row is moved. */
static double median_norm(const curve *c)
{
    int64_t known = 0;

    for (int64_t i = 0; i < c->n; i += c->stride)
        known += !isnan(c->row[i].grad_norm);
    for (int64_t i = 0; i < c->n; i += c->stride) {
        int64_t below = 0, equal = 0;

        for (int64_t j = 0; j < c->n; j += c->stride) {
            below += c->row[j].grad_norm < c->row[i].grad_norm;
            equal += c->row[j].grad_norm == c->row[i].grad_norm;
        }
        if (below <= known / 2 && known / 2 < below + equal)
            return c->row[i].grad_norm;
    }
    return NAN;
}

#define NORM_MOST 1e4
#define NORM_JUMP 10

static heed_status exploding_gradient(doctor *d, const curve *c)
{
    const bool clipped = d->c->training && d->c->training->clip_norm > 0; /* then a jump moved no weight far */
    double worst = -1, median;
    int64_t at = 0;
    char place[64];

    for (int64_t i = 0; i < c->n; i++)
        if (c->row[i].grad_norm > worst) { /* NaN is above nothing */
            worst = c->row[i].grad_norm;
            at = i;
        }
    if (worst < 0)
        return HEED_OK;
    heed__doctor_looked(d, RULE_EXPLODING_GRADIENT);
    median = median_norm(c);
    if (worst > NORM_MOST ||
        (!clipped && worst > d->threshold[RULE_EXPLODING_GRADIENT] && worst > NORM_JUMP * median))
        return heed__doctor_find(d, RULE_EXPLODING_GRADIENT, worst, curve_place(place, c, at),
                                 "the norm of the gradient is %.4g, its median %.4g", worst, median);
    return HEED_OK;
}

#define RATE_ROWS 8

static heed_status constant_rate(doctor *d, const curve *c)
{
    const int64_t half = c->n / 2;
    double highest = 0, fall, rises = 0;
    char place[64];

    if (c->steps || c->n < RATE_ROWS)
        return HEED_OK;
    heed__doctor_looked(d, RULE_CONSTANT_RATE);
    for (int64_t i = 0; i < c->n; i++)
        highest = fmax(highest, c->row[i].lr);
    for (int64_t i = half; i < c->n; i++)
        rises += c->row[i].train_loss > c->row[i - 1].train_loss;
    rises /= (double)(c->n - half);
    fall = curve_loss(c, half - c->window) - curve_loss(c, c->n - c->window);
    if (heed__doctor_found(d, RULE_GROWING_LOSS, NULL) || !(c->row[c->n - 1].lr >= 0.99 * highest) ||
        rises < d->threshold[RULE_CONSTANT_RATE] || fall > 0.05 * curve_loss(c, half - c->window) ||
        curve_loss(c, c->n - c->window) < 0.05 * curve_loss(c, 0))
        return HEED_OK;
    return heed__doctor_find(d, RULE_CONSTANT_RATE, rises, curve_place(place, c, half),
                             "the rate stays at %.4g and the loss about %.4g: %.0f %% of the epochs since "
                             "raised it",
                             highest, curve_loss(c, c->n - c->window), 100 * rises);
}

heed_status heed__doctor_curve(doctor *d)
{
    curve c = { .row = d->c->history, .n = d->c->n_history };

    if (c.n == 0 && d->c->model && d->c->samples && d->c->training && d->trial > 0 && d->n > 0 &&
        !heed__doctor_found(d, RULE_NOT_FINITE, NULL)) {
        TRY(trial(d, &c.n));
        c.row = d->history;
        c.steps = true;
    }
    if (c.n == 0)
        return HEED_OK;
    c.window = i64_max(1, c.n / 4);
    c.stride = i64_ceil_div(c.n, ROWS_LOOKED);
    TRY(growing_loss(d, &c));
    if (!heed__doctor_found(d, RULE_EXPLODING_GRADIENT, NULL)) /* the trial may have ended in it */
        TRY(exploding_gradient(d, &c));
    return constant_rate(d, &c);
}
