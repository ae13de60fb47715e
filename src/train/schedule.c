/* Learning rates: linear warm-up to lr, then constant, cosine, linear or step fall.
 *   cosine  least + (lr - least) (1 + cos(pi t)) / 2,   t = (step - warmup) / (steps - warmup);
 *           Loshchilov 2017
 *   linear  lr + (least - lr) t
 *   step    lr gamma^floor((step - warmup) / every), not below least
 *   one-cycle  with b = lr / div, e = b / final_div, top = rise steps - 1:
 *           b + (lr - b) (1 - cos(pi step / top)) / 2 up to top, then
 *           e + (lr - e) (1 + cos(pi (step - top) / (steps - 1 - top))) / 2; PyTorch's OneCycleLR
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

/* From a to b along half a cosine. */
static double ease(double a, double b, double t)
{
    return b + (a - b) * 0.5 * (1 + heed__cos_turn(0.5 * t));
}

static double one_cycle(const heed_schedule *s, int64_t step)
{
    const double begin = s->lr / (s->div > 0 ? s->div : 25),
                 end = begin / (s->final_div > 0 ? s->final_div : 1e4);
    const double top = (s->rise > 0 ? s->rise : 0.3) * (double)s->steps - 1, last = (double)s->steps - 1;
    const double at = (double)step < last ? (double)step : last;

    if (at <= top)
        return top > 0 ? ease(begin, s->lr, at / top) : s->lr;
    return last > top ? ease(s->lr, end, (at - top) / (last - top)) : end;
}

double heed_plateau_next(heed_plateau *p, double value)
{
    const double bound = p->best * (p->rises ? 1 + p->threshold : 1 - p->threshold);
    const double lower = p->lr * p->factor;

    if (p->begun ? (p->rises ? value > bound : value < bound) : !isnan(value)) {
        p->best = value;
        p->bad = 0;
        p->begun = true;
    } else if (++p->bad > p->patience) {
        const double lr = lower > p->least ? lower : p->least;

        p->bad = 0;
        if (p->lr - lr > 1e-8) /* PyTorch's eps: a smaller fall is none */
            p->lr = lr;
    }
    return p->lr;
}

double heed_schedule_lr(const heed_schedule *s, int64_t step)
{
    static fall_fn *const falls[] = {
        [HEED_SCHEDULE_CONSTANT] = fall_constant,
        [HEED_SCHEDULE_COSINE] = fall_cosine,
        [HEED_SCHEDULE_LINEAR] = fall_linear,
        [HEED_SCHEDULE_STEP] = fall_step,
        [HEED_SCHEDULE_PLATEAU] = fall_constant,
        [HEED_SCHEDULE_ONE_CYCLE] = NULL, /* no warm-up and fall, but one curve */
    };
    const int64_t after = step - s->warmup, span = s->steps - s->warmup;
    double t = span > 0 ? (double)after / (double)span : 0;

    if ((unsigned)s->kind >= sizeof falls / sizeof *falls)
        return NAN;
    if (!falls[s->kind])
        return one_cycle(s, step);
    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return falls[s->kind](s, t, after);
}
