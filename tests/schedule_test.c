/* Learning rates against numbers from PyTorch's rules, worked out by hand:
 *
 *   warm-up  LinearLR(start_factor = 1/w, end_factor = 1, total_iters = w - 1): factor (i + 1) / w
 *   cosine   CosineAnnealingLR(T_max = steps - w, eta_min = least)
 *   linear   LinearLR(1, least / lr, total_iters = steps - w)
 *   step     StepLR(step_size = every, gamma)
 *   one-cycle  OneCycleLR(max_lr, total_steps), its defaults: pct_start 0.3, div_factor 25, final_div_factor 1e4
 *   plateau  ReduceLROnPlateau(mode, factor, patience, threshold): the rate after each step(value) */
#include "support/cmocka.h"

#include <heed/train.h>

#include <math.h>
#include <time.h>

typedef struct golden {
    int64_t step;
    double lr;
} golden;

static void assert_rates(const heed_schedule *s, const golden *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double lr = heed_schedule_lr(s, g[i].step);

        if (!(fabs(lr - g[i].lr) <= 1e-15 * (1 + fabs(g[i].lr))))
            fail_msg("step %lld: %.17g, not %.17g", (long long)g[i].step, lr, g[i].lr);
    }
}
#define RATES(s, ...)                                                                                        \
    assert_rates(&(s), (const golden[]){ __VA_ARGS__ }, sizeof((golden[]){ __VA_ARGS__ }) / sizeof(golden))

static void the_warm_up_rises_in_equal_steps_to_the_rate(void **state)
{
    (void)state;
    for (int kind = HEED_SCHEDULE_CONSTANT; kind <= HEED_SCHEDULE_PLATEAU; kind++) {
        const heed_schedule s = {
            .kind = (heed_schedule_kind)kind, .lr = 0.1, .warmup = 4, .steps = 12, .every = 3
        };

        RATES(s, { 0, 0.025 }, { 1, 0.05 }, { 2, 0.075 }, { 3, 0.1 }, { 4, 0.1 });
    }
}

static void a_constant_rate_stays(void **state)
{
    const heed_schedule s = { .lr = 0.3, .steps = 10, .least = 0.1 };

    (void)state;
    RATES(s, { 0, 0.3 }, { 5, 0.3 }, { 10, 0.3 }, { 1000000, 0.3 });
}

/* (1 + cos(pi / 8 k)) / 2 for k = 0, 1, 2, 4, 6, 8. */
static void a_cosine_falls_from_the_rate_to_the_least(void **state)
{
    const heed_schedule s = { .kind = HEED_SCHEDULE_COSINE, .lr = 0.1, .warmup = 4, .steps = 12 };
    const heed_schedule l = {
        .kind = HEED_SCHEDULE_COSINE, .lr = 0.1, .warmup = 4, .steps = 12, .least = 0.02
    };

    (void)state;
    RATES(s, { 4, 0.1 }, { 5, 0.1 * 0.96193976625564337 }, { 6, 0.1 * 0.85355339059327376 }, { 8, 0.05 },
          { 10, 0.1 * 0.14644660940672624 }, { 11, 0.1 * 0.038060233744356631 }, { 12, 0 }, { 13, 0 },
          { 99, 0 });
    RATES(l, { 4, 0.1 }, { 6, 0.02 + 0.08 * 0.85355339059327376 }, { 8, 0.06 }, { 12, 0.02 }, { 99, 0.02 });
}

static void a_line_falls_from_the_rate_to_the_least(void **state)
{
    const heed_schedule s = { .kind = HEED_SCHEDULE_LINEAR, .lr = 1, .warmup = 2, .steps = 10 };
    const heed_schedule l = { .kind = HEED_SCHEDULE_LINEAR, .lr = 1, .steps = 4, .least = 0.2 };

    (void)state;
    RATES(s, { 1, 1 }, { 2, 1 }, { 3, 0.875 }, { 6, 0.5 }, { 9, 0.125 }, { 10, 0 }, { 50, 0 });
    RATES(l, { 0, 1 }, { 1, 0.8 }, { 2, 0.6 }, { 3, 0.4 }, { 4, 0.2 }, { 5, 0.2 });
}

static void steps_multiply_by_gamma(void **state)
{
    const heed_schedule s = { .kind = HEED_SCHEDULE_STEP, .lr = 1, .every = 3, .gamma = 0.5, .steps = 100 };
    const heed_schedule d = { .kind = HEED_SCHEDULE_STEP, .lr = 1, .warmup = 2, .every = 2, .steps = 100 };
    const heed_schedule l = { .kind = HEED_SCHEDULE_STEP, .lr = 1, .every = 1, .gamma = 0.5, .least = 0.2 };
    const heed_schedule never = { .kind = HEED_SCHEDULE_STEP, .lr = 1, .gamma = 0.5 };

    (void)state;
    RATES(s, { 0, 1 }, { 2, 1 }, { 3, 0.5 }, { 5, 0.5 }, { 6, 0.25 }, { 9, 0.125 }, { 30, 1.0 / 1024 });
    RATES(d, { 2, 1 }, { 3, 1 }, { 4, 0.1 }, { 6, 0.01 }, { 8, 0.001 });
    RATES(l, { 0, 1 }, { 1, 0.5 }, { 2, 0.25 }, { 3, 0.2 }, { 60, 0.2 });
    RATES(never, { 0, 1 }, { 1000, 1 });
}

/* PyTorch: initial_lr = max_lr / 25, min_lr = initial_lr / 1e4; phases end at 0.3 total - 1 and total - 1. With 10 steps
 * they are [0, 2] and [2, 9]: half a cosine each. */
static void one_cycle_rises_and_falls_as_pytorch_does(void **state)
{
    const heed_schedule s = { .kind = HEED_SCHEDULE_ONE_CYCLE, .lr = 1, .steps = 10, .warmup = 7 };
    const heed_schedule own = {
        .kind = HEED_SCHEDULE_ONE_CYCLE, .lr = 0.2, .steps = 9, .rise = 0.5, .div = 2, .final_div = 10
    };

    (void)state;
    RATES(s, { 0, 0.04 }, { 1, 0.52 }, { 2, 1 },
          { 3, 4e-6 + (1 - 4e-6) * 0.5 * (1 + 0.90096886790241915) },   /* cos(pi / 7) */
          { 4, 4e-6 + (1 - 4e-6) * 0.5 * (1 + 0.62348980185873359) },   /* cos(2 pi / 7) */
          { 5, 4e-6 + (1 - 4e-6) * 0.5 * (1 + 0.22252093395631440) },
          { 6, 4e-6 + (1 - 4e-6) * 0.5 * (1 - 0.22252093395631440) },
          { 8, 4e-6 + (1 - 4e-6) * 0.5 * (1 - 0.90096886790241915) }, { 9, 4e-6 }, { 10, 4e-6 }, { 1000, 4e-6 });
    /* total 9, half of it rises: [0, 3.5], [3.5, 8] */
    RATES(own, { 0, 0.1 }, { 8, 0.01 }, { 7, 0.01 + 0.19 * 0.5 * (1 - 0.76604444311897804) }); /* cos(7 pi / 9) */
}

static void assert_plateau(heed_plateau p, const double *values, const double *rates, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double lr = heed_plateau_next(&p, values[i]);

        if (!(fabs(lr - rates[i]) <= 1e-15))
            fail_msg("value %zu: %.17g, not %.17g", i, lr, rates[i]);
    }
}
#define PLATEAU(p, values, ...)                                                                              \
    assert_plateau((p), (values), (const double[]){ __VA_ARGS__ }, sizeof(values) / sizeof *(values))

/* By PyTorch's step(): a value is better when it is below best * (1 - threshold); num_bad_epochs > patience multiplies
 * and begins to count anew; a fall of 1e-8 or less is none. */
static void a_plateau_lowers_the_rate_as_pytorch_does(void **state)
{
    static const double falling[] = { 1.0, 0.9, 0.95, 0.91, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.79995 };
    static const double rising[] = { 0.5, 0.6, 0.6, 0.6, 0.60005, 0.7, 0.69, 0.68 };
    static const double still[] = { 1, 1, 1, 1, 1 };
    static const double lost[] = { NAN, 1, 0.9, NAN, 0.8, 0.8 };

    (void)state;
    PLATEAU(((heed_plateau){ .factor = 0.5, .threshold = 1e-4, .lr = 1 }), lost, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125);
    PLATEAU(((heed_plateau){ .factor = 0.5, .patience = 2, .threshold = 1e-4, .lr = 1 }), falling, 1, 1, 1, 1, 0.5, 0.5,
            0.5, 0.5, 0.25, 0.25, 0.25, 0.25 * 0.5);
    PLATEAU(((heed_plateau){ .factor = 0.1, .patience = 1, .threshold = 1e-4, .lr = 1, .rises = true }), rising, 1, 1, 1,
            0.1, 0.1, 0.1, 0.1, 0.01);
    PLATEAU(((heed_plateau){ .factor = 0.1, .threshold = 1e-4, .lr = 1, .least = 0.05 }), still, 1, 0.1, 0.05, 0.05, 0.05);
    PLATEAU(((heed_plateau){ .factor = 0.1, .threshold = 1e-4, .lr = 1e-8 }), still, 1e-8, 1e-8, 1e-8, 1e-8, 1e-8);
}

static void a_schedule_ten_million_steps_long_is_as_quick(void **state)
{
    const heed_schedule s = {
        .kind = HEED_SCHEDULE_STEP, .lr = 1, .every = 1, .gamma = 1, .steps = 10000000
    };
    const clock_t began = clock();

    (void)state;
    for (int64_t i = 0; i < 1000; i++)
        assert_true(heed_schedule_lr(&s, 9999000 + i) == 1);
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 0.5);
}

static void a_warm_up_of_the_whole_training_has_no_fall(void **state)
{
    const heed_schedule s = { .kind = HEED_SCHEDULE_COSINE, .lr = 1, .warmup = 4, .steps = 4 };
    const heed_schedule longer = { .kind = HEED_SCHEDULE_LINEAR, .lr = 1, .warmup = 8, .steps = 4 };

    (void)state;
    RATES(s, { 0, 0.25 }, { 3, 1 }, { 4, 1 });
    RATES(longer, { 0, 0.125 }, { 3, 0.5 }, { 7, 1 });
}

static void a_kind_that_is_none_has_no_rate(void **state)
{
    const heed_schedule s = { .kind = (heed_schedule_kind)77, .lr = 1, .steps = 4 };

    (void)state;
    assert_true(isnan(heed_schedule_lr(&s, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_warm_up_rises_in_equal_steps_to_the_rate),
        cmocka_unit_test(a_constant_rate_stays),
        cmocka_unit_test(a_cosine_falls_from_the_rate_to_the_least),
        cmocka_unit_test(a_line_falls_from_the_rate_to_the_least),
        cmocka_unit_test(steps_multiply_by_gamma),
        cmocka_unit_test(one_cycle_rises_and_falls_as_pytorch_does),
        cmocka_unit_test(a_plateau_lowers_the_rate_as_pytorch_does),
        cmocka_unit_test(a_schedule_ten_million_steps_long_is_as_quick),
        cmocka_unit_test(a_warm_up_of_the_whole_training_has_no_fall),
        cmocka_unit_test(a_kind_that_is_none_has_no_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
