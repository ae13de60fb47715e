/* Learning rates: linear warm-up to lr, then constant, cosine, linear or step fall.
 *   cosine  least + (lr - least) (1 + cos(pi t)) / 2,   t = (step - warmup) / (steps - warmup);
 *           Loshchilov 2017
 *   linear  lr + (least - lr) t
 *   step    lr gamma^floor((step - warmup) / every), not below least
 * Double arithmetic with our own cosine, so that every machine gets the same rate. */

#include "base/rng.h"
#include <heed/train.h>

#include <math.h>

typedef double fall_fn(const heed_schedule *s, double t, int64_t after);

static double fall_constant(const heed_schedule *s, double t, int64_t after)
{
    (void)t;
    (void)after;
    return s->lr;
}

static double fall_cosine(const heed_schedule *s, double t, int64_t after)
{
    (void)after;
    return s->least + (s->lr - s->least) * 0.5 * (1 + heed__cos_turn(0.5 * t));
}

static double fall_linear(const heed_schedule *s, double t, int64_t after)
{
    (void)after;
    return s->lr + (s->least - s->lr) * t;
}

static double fall_step(const heed_schedule *s, double t, int64_t after)
{
    double lr = s->lr, factor = s->gamma > 0 ? s->gamma : 0.1;

    (void)t;
    for (int64_t falls = s->every > 0 && after > 0 ? after / s->every : 0; falls > 0; falls /= 2) {
        if (falls % 2)
            lr *= factor; /* gamma^falls by squares: as quick after a million falls */
        factor *= factor;
    }
    return lr > s->least ? lr : s->least;
}

double heed_schedule_lr(const heed_schedule *s, int64_t step)
{
    static fall_fn *const falls[] = {
        [HEED_SCHEDULE_CONSTANT] = fall_constant,
        [HEED_SCHEDULE_COSINE] = fall_cosine,
        [HEED_SCHEDULE_LINEAR] = fall_linear,
        [HEED_SCHEDULE_STEP] = fall_step,
    };
    const int64_t after = step - s->warmup, span = s->steps - s->warmup;
    double t = span > 0 ? (double)after / (double)span : 0;

    if ((unsigned)s->kind >= sizeof falls / sizeof *falls)
        return NAN;
    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return falls[s->kind](s, t, after);
}
