/* The deletion test: what the map calls important goes first; how fast does the probability of the class
 * fall?
 *
 *   p_i     probability of the target when the first round(i cells / (points - 1)) cells are blanked
 *   area    mean of p_0 .. p_(points-1): low when the first cells are those that count
 *   random  the same for `orders` orders drawn at random: order k is Philox's at step k of
 *           "explain.random"
 *   rank    share of random areas below the map's, a tie counting one half
 *
 * A map is faithful when rank <= 0.05: at most 5 of 100 random orders do as well; of fewer than 19 orders none is. What a random order loses
 * is the measure, because any blanking harms the answer. Petsiuk, Das, Saenko 2018 (deletion); Samek 2017
 * (random order as the baseline). Equal cells of a map come in an order of their own, "explain.ties": file
 * order would favour the top of the picture. A map of zeros has no order; it is no better than random.
 *
 * Cost: orders x (points - 2) + 2 runs of the model for all maps together, and points - 2 for each map. */

#include "base/error.h"
#include "base/rng.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "explain/explain.h"

#include <math.h>
#include <string.h>

#define SHARE_SURE 0.05
#define ORDERS_SURE 19 /* of fewer not even the best rank is rarer than 1 in 20 by chance: 1 / (orders + 1) */

static int64_t faithful_cells(const explaining *x)
{
    return x->grid.rows * x->grid.cols;
}

static int64_t faithful_removed(const explaining *x, int64_t point)
{
    const int64_t last = x->opts.points - 1;

    return (point * faithful_cells(x) + last / 2) / last;
}

static bool faithful_lower(const void *items, uint32_t a, uint32_t b)
{
    const double *v = items;

    return v[a] < v[b];
}

/* A permutation of the cells that depends on seed, name and number only. */
static void faithful_shuffle(uint32_t *order, int64_t *room, const explaining *x, const char *name, int64_t k)
{
    const rng r = heed__rng(x->opts.seed, (uint32_t)k, name);

    heed__shuffle(room, faithful_cells(x), &r);
    for (int64_t i = 0; i < faithful_cells(x); i++)
        order[i] = (uint32_t)room[i];
}

/* Asks for the points between the ends; those are the same for every order. */
static heed_status faithful_ask(explaining *x, double *log_p, const uint32_t *order, heed_error *err)
{
    const int64_t points = x->opts.points;

    log_p[0] = x->log_probability;
    log_p[points - 1] = x->log_empty;
    for (int64_t i = 1; i < points - 1; i++)
        TRY(heed__blanks_add(&x->blanks, order, faithful_removed(x, i), &log_p[i], err));
    return HEED_OK;
}

/* Logarithms become probabilities; their mean. */
static double faithful_area(double *p, int64_t points)
{
    double sum = 0;

    for (int64_t i = 0; i < points; i++)
        sum += p[i] = exp(p[i]);
    return sum / (double)points;
}

/* The value below which a share of n rising numbers lies, between neighbours linear. */
static double faithful_quantile(const double *v, const uint32_t *rising, int64_t n, double share)
{
    const double at = share * (double)(n - 1);
    const int64_t below = i64_min((int64_t)at, n - 1), above = i64_min(below + 1, n - 1);

    return v[rising[below]] + (at - (double)below) * (v[rising[above]] - v[rising[below]]);
}

/* Mean and percentiles of the random curves, point by point. */
static void faithful_band(explaining *x, const double *curves, double *column, uint32_t *rising,
                          uint32_t *room)
{
    const int64_t orders = x->opts.orders, points = x->opts.points;

    for (int64_t i = 0; i < points; i++) {
        double sum = 0;

        for (int64_t k = 0; k < orders; k++)
            sum += column[k] = curves[k * points + i];
        heed__sort(rising, room, (uint32_t)orders, faithful_lower, column);
        ((float *)(uintptr_t)x->random.random)[i] = (float)(sum / (double)orders);
        ((float *)(uintptr_t)x->random.random_low)[i] =
            (float)faithful_quantile(column, rising, orders, 0.05);
        ((float *)(uintptr_t)x->random.random_high)[i] =
            (float)faithful_quantile(column, rising, orders, 0.95);
    }
}

static void faithful_spread(explaining *x)
{
    const int64_t orders = x->opts.orders;
    double sum = 0, squares = 0;

    for (int64_t k = 0; k < orders; k++)
        sum += x->random_areas[k];
    x->random.random_area = sum / (double)orders;
    for (int64_t k = 0; k < orders; k++) {
        const double d = x->random_areas[k] - x->random.random_area;

        squares += d * d;
    }
    x->random.random_std = orders > 1 ? sqrt(squares / (double)(orders - 1)) : 0;
}

heed_status heed__faithful_random(explaining *x, heed_error *err)
{
    const int64_t cells = faithful_cells(x), orders = x->opts.orders, points = x->opts.points;
    heap *h = x->ctx->heap;
    double *curves = heed__alloc(h, (size_t)orders, (size_t)points * sizeof *curves);
    double *column = heed__alloc(h, (size_t)orders, sizeof *column);
    uint32_t *order = heed__alloc(h, (size_t)i64_max(cells, 2 * orders), sizeof *order);
    int64_t *room = heed__alloc(h, (size_t)cells, sizeof *room);
    heed_status st = HEED_OK;

    x->random =
        (heed_faithfulness){ .points = points,
                             .orders = orders,
                             .random = heed__arena_alloc(x->arena, (size_t)points, sizeof(float)),
                             .random_low = heed__arena_alloc(x->arena, (size_t)points, sizeof(float)),
                             .random_high = heed__arena_alloc(x->arena, (size_t)points, sizeof(float)) };
    x->random_areas = heed__arena_alloc(x->arena, (size_t)orders, sizeof *x->random_areas);
    if (!curves || !column || !order || !room || !x->random.random || !x->random.random_low ||
        !x->random.random_high || !x->random_areas) {
        st = heed__fail_memory(err, (uint64_t)orders * (uint64_t)points * sizeof *curves);
        goto done;
    }
    for (int64_t i = 0; i < cells; i++)
        order[i] = (uint32_t)i;
    STEP(heed__blanks_add(&x->blanks, order, cells, &x->log_empty, err));
    for (int64_t k = 0; k < orders; k++) {
        faithful_shuffle(order, room, x, "explain.random", k);
        STEP(faithful_ask(x, curves + k * points, order, err));
    }
    STEP(heed__blanks_end(&x->blanks, err));
    for (int64_t k = 0; k < orders; k++) {
        curves[(k + 1) * points - 1] = x->log_empty; /* known by now */
        x->random_areas[k] = faithful_area(curves + k * points, points);
    }
    faithful_spread(x);
    faithful_band(x, curves, column, order, order + orders);
done:
    heed__release(h, room);
    heed__release(h, order);
    heed__release(h, column);
    heed__release(h, curves);
    return st;
}

/* A map and the place of each cell among equals. */
typedef struct ranking {
    const float *map;
    const uint32_t *place;
} ranking;

static bool faithful_before(const void *items, uint32_t a, uint32_t b)
{
    const ranking *r = items;

    return r->map[a] > r->map[b] || (!(r->map[a] < r->map[b]) && r->place[a] < r->place[b]);
}

static bool faithful_is_zero(const float *map, int64_t cells)
{
    for (int64_t i = 0; i < cells; i++)
        if (map[i] > 0)
            return false;
    return true;
}

static void faithful_judge(heed_faithfulness *f, const explaining *x, bool ordered)
{
    double below = 0;

    for (int64_t k = 0; k < f->orders; k++)
        below += x->random_areas[k] < f->area ? 1 : x->random_areas[k] > f->area ? 0 : 0.5;
    f->rank = ordered ? below / (double)f->orders : 0.5;
    f->verdict = f->orders < ORDERS_SURE     ? HEED_NO_BETTER
                 : f->rank <= SHARE_SURE     ? HEED_FAITHFUL
                 : f->rank >= 1 - SHARE_SURE ? HEED_WORSE
                                             : HEED_NO_BETTER;
}

heed_status heed__faithful(heed_saliency *s, explaining *x, heed_error *err)
{
    const int64_t cells = faithful_cells(x), points = x->opts.points;
    heap *h = x->ctx->heap;
    double *curve = heed__alloc(h, (size_t)points, sizeof *curve);
    uint32_t *order = heed__alloc(h, (size_t)cells, 3 * sizeof *order), *place, *spare;
    int64_t *room = heed__alloc(h, (size_t)cells, sizeof *room);
    float *shown = heed__arena_alloc(x->arena, (size_t)points, sizeof *shown);
    heed_status st;

    s->faithful = x->random;
    s->faithful.probability = shown;
    if (!curve || !order || !room || !shown) {
        st = heed__fail_memory(err, (uint64_t)cells * 3 * sizeof *order);
        goto done;
    }
    place = order + cells;
    spare = place + cells;
    faithful_shuffle(order, room, x, "explain.ties", 0);
    for (int64_t i = 0; i < cells; i++)
        place[order[i]] = (uint32_t)i;
    heed__sort(order, spare, (uint32_t)cells, faithful_before, &(const ranking){ s->map, place });
    STEP(faithful_ask(x, curve, order, err));
    STEP(heed__blanks_end(&x->blanks, err));
    s->faithful.area = faithful_area(curve, points);
    for (int64_t i = 0; i < points; i++)
        shown[i] = (float)curve[i];
    faithful_judge(&s->faithful, x, !faithful_is_zero(s->map, cells));
done:
    heed__release(h, room);
    heed__release(h, order);
    heed__release(h, curve);
    return st;
}
