#include "support/harness.h"

#include "base/rng.h"
#include "graph/number.h"
#include "support/direct.h"
#include "support/sampled.h"

#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMERIC_EPS 1e-6
#define NUMERIC_RTOL 1e-5
#define NUMERIC_ATOL 1e-7
#define NUMERIC_COORDINATES 64
#define NUMERIC_FEWEST 8
#define NUMERIC_FLOPS 1e7 /* of all coordinates together, beyond the fewest */
#define NUMERIC_DIRECTIONS 4

static const struct {
    heed_dtype dtype;
    double atol, rtol, most;
} harness_rule[] = {
    { HEED_F32, 1e-5, 1e-4, FLT_MAX },
    { HEED_F16, 1e-3, 1e-3, 65504 },
    { HEED_BF16, 1.6e-2, 1.6e-2, 3.3895313892515355e38 },
    { HEED_F64, 1e-12, 1e-12, DBL_MAX }, /* the same arithmetic but for its order */
};
#define HARNESS_RULES ((int)(sizeof harness_rule / sizeof *harness_rule))

/* ---- results ---- */

static void harness_bad(harness_row *row, harness_check check, int sample, const char *format, ...) HEED_PRINTF(4, 5);
static void harness_bad(harness_row *row, harness_check check, int sample, const char *format, ...)
{
    char *to = row->text[row->texts];
    va_list args;
    int n;

    row->check[check].bad++;
    row->bad++;
    if (row->texts == HARNESS_TEXTS)
        return;
    n = snprintf(to, sizeof row->text[0], "sample %d: ", sample);
    va_start(args, format);
    vsnprintf(to + n, sizeof row->text[0] - (size_t)n, format, args);
    va_end(args);
    for (int i = 0; i < row->texts; i++)
        if (strcmp(row->text[i], to) == 0)
            return;
    row->texts++;
}

/* Counts a comparison; false and a line when it is beyond what is allowed. */
static bool harness_agree(harness_row *row, harness_check check, const sampled *s, double share, const char *what, int i)
{
    row->check[check].done++;
    row->check[check].worst = fmax(row->check[check].worst, share);
    if (share <= 1)
        return true;
    harness_bad(row, check, s->index, "%s%d differs by %.3g of what is allowed", what, i, share);
    return false;
}

static bool harness_intact(harness_row *row, harness_check check, const sampled *s, const trial *t)
{
    if (!t->broken[0])
        return true;
    harness_bad(row, check, s->index, "%s", t->broken);
    return false;
}

static double harness_most(heed_dtype dtype)
{
    for (int i = 0; i < HARNESS_RULES; i++)
        if (harness_rule[i].dtype == dtype)
            return harness_rule[i].most;
    return DBL_MAX;
}

static double harness_as(heed_dtype dtype, double x)
{
    return fabs(x) <= harness_most(dtype) || isnan(x) ? x : copysign(INFINITY, x);
}

double harness_share(const heed_type *type, const double *got, const double *want, double atol, double rtol)
{
    const int64_t count = heed_type_count(type);
    double largest = 1, share = 0;

    for (int64_t i = 0; i < count; i++)
        if (fabs(want[i]) <= harness_most(type->dtype))
            largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < count; i++) {
        const double w = harness_as(type->dtype, want[i]), g = got[i];

        if (!(DTYPE_BIT(type->dtype) & FLOATS) || isinf(w) || isnan(w) || isnan(g) || isinf(g))
            share = fmax(share, g == w || (isnan(g) && isnan(w)) ? 0 : INFINITY);
        else
            share = fmax(share, fabs(g - w) / (atol * largest + rtol * fabs(w)));
    }
    return share;
}

/* ---- runs whose results are kept ---- */

typedef struct kept {
    int n;
    heed_type type[TRIAL_VALUES];
    double *v[TRIAL_VALUES];
    unsigned char *bytes[TRIAL_VALUES];
} kept;

static void kept_free(kept *k)
{
    for (int i = 0; i < k->n; i++) {
        free(k->v[i]);
        free(k->bytes[i]);
    }
    *k = (kept){ 0 };
}

static void kept_take(kept *k, const trial *t)
{
    *k = (kept){ .n = t->n_out };
    for (int i = 0; i < k->n; i++) {
        k->type[i] = t->out[i].tensor.type;
        k->v[i] = trial_memory((size_t)heed_type_count(&k->type[i]), sizeof(double));
        trial_get(t, i, k->v[i]);
        k->bytes[i] = trial_memory(t->out[i].bytes, 1);
        memcpy(k->bytes[i], t->out[i].tensor.data, t->out[i].bytes);
    }
}

/* Opens, runs, keeps, closes. On failure one line under `check`. */
static bool harness_run(harness_row *row, harness_check check, sampled *s, heed_context *ctx, heed_dtype dtype, int order,
                        heed_kernels kernels, kept *out)
{
    heed_error err = { 0 };
    trial t;
    heed_status st = sampled_try(s, &t, ctx, dtype, order, kernels, &err);
    bool fine;

    if (st != HEED_OK) {
        harness_bad(row, check, s->index, "%s, order %d, %s kernels: %s: %.120s", heed_dtype_name(dtype), order,
                    kernels == HEED_KERNELS_FAST ? "fast" : "reference", heed_status_name(st), err.text);
        return false;
    }
    t.pattern = dtype == HEED_F64 ? 0x40 : 0xFF; /* 32.5 there and NaN here: what nobody writes does not agree */
    st = trial_run(&t, &err);
    fine = harness_intact(row, check, s, &t);
    if (st != HEED_OK) {
        harness_bad(row, check, s->index, "run in %s, order %d: %s: %.150s", heed_dtype_name(dtype), order, heed_status_name(st),
                    err.text);
        fine = false;
    }
    if (fine)
        kept_take(out, &t);
    trial_close(&t);
    return fine;
}

static void harness_compare(harness_row *row, harness_check check, const sampled *s, const kept *got, const kept *want,
                            const char *what, heed_dtype dtype)
{
    const int n = got->n < want->n ? got->n : want->n;
    double atol = 0, rtol = 0;

    for (int i = 0; i < HARNESS_RULES; i++)
        if (harness_rule[i].dtype == dtype) {
            atol = harness_rule[i].atol;
            rtol = harness_rule[i].rtol;
        }
    if (got->n != want->n)
        harness_bad(row, check, s->index, "%s gives %d results, the reference %d", what, got->n, want->n);
    for (int i = 0; i < n; i++)
        if (!harness_agree(row, check, s, harness_share(&got->type[i], got->v[i], want->v[i], atol, rtol), what, i))
            break;
}

static void harness_same_bytes(harness_row *row, harness_check check, const sampled *s, const kept *got, const kept *want,
                               const char *what)
{
    for (int i = 0; i < got->n && i < want->n; i++) {
        const size_t bytes = (size_t)heed_type_count(&got->type[i]) * heed_dtype_size(got->type[i].dtype);

        row->check[check].done++;
        if (memcmp(got->bytes[i], want->bytes[i], bytes) != 0) {
            harness_bad(row, check, s->index, "result %d is not the same bytes: %s", i, what);
            return;
        }
    }
}

/* ---- the checks ---- */

static void check_refused(harness *h, harness_row *row, sampled *s)
{
    heed_error err = { 0 };
    trial t;
    heed_status st = sampled_try(s, &t, h->one, HEED_F32, 0, HEED_KERNELS_FAST, &err);

    row->check[CHECK_REFUSED].done++;
    if (st == HEED_OK)
        trial_close(&t);
    if (st != s->sample->refused)
        harness_bad(row, CHECK_REFUSED, s->index, "ends with %s instead of %s (%.120s)", heed_status_name(st),
                    heed_status_name(s->sample->refused), err.text);
    else if (strlen(err.text) < 10)
        harness_bad(row, CHECK_REFUSED, s->index, "is refused without a sentence");
}

static bool harness_reference(harness *h, harness_row *row, sampled *s, int order, kept *out)
{
    const bool fine = harness_run(row, CHECK_REFERENCE, s, h->one, HEED_F64, order, HEED_KERNELS_REFERENCE, out);

    row->check[CHECK_REFERENCE].done += fine;
    return fine;
}

static void check_levels(harness *h, harness_row *row, sampled *s, const kept *want, harness_check check, int order)
{
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        kept got;

        if (!h->level[isa])
            continue;
        if (harness_run(row, check, s, h->level[isa], HEED_F32, order, HEED_KERNELS_FAST, &got)) {
            char what[64];

            snprintf(what, sizeof what, "f32 on %s: result ", heed_isa_name((heed_isa)isa));
            harness_compare(row, check, s, &got, want, what, HEED_F32);
            kept_free(&got);
        }
    }
}

static void check_fused(harness *h, harness_row *row, sampled *s)
{
    kept fast, open;

    if (!harness_run(row, CHECK_FUSED, s, h->one, HEED_F32, 0, HEED_KERNELS_FAST, &fast))
        return;
    if (harness_run(row, CHECK_FUSED, s, h->one, HEED_F32, 0, HEED_KERNELS_REFERENCE, &open)) {
        harness_compare(row, CHECK_FUSED, s, &fast, &open, "fused against decomposed: result ", HEED_F32);
        kept_free(&open);
    }
    kept_free(&fast);
}

static bool harness_takes(const sampled *s, heed_dtype dtype)
{
    for (int i = 0; i < s->n; i++)
        if (sampled_tested(s, i) && sampled_slot(s->op, i) && sampled_slot(s->op, i)->dtypes &&
            !(sampled_slot(s->op, i)->dtypes & DTYPE_BIT(dtype)))
            return false;
    return sampled_any_tested(s);
}

/* Results beyond f16 are infinite there and prove nothing about sums on the way, so a scaled sample stays with bf16. */
static void check_half(harness *h, harness_row *row, int index)
{
    for (int i = 0; i < HARNESS_RULES; i++) {
        const heed_dtype dtype = harness_rule[i].dtype;
        kept got, want;
        sampled s;

        if (dtype != HEED_F16 && dtype != HEED_BF16)
            continue;
        sampled_open(&s, row->op, index);
        s.rounded = dtype;
        sampled_fill(&s);
        if (harness_takes(&s, dtype) && (dtype == HEED_BF16 || s.sample->scale <= 1) &&
            harness_run(row, CHECK_HALF, &s, h->one, HEED_F64, 0, HEED_KERNELS_REFERENCE, &want)) {
            if (harness_run(row, CHECK_HALF, &s, h->one, dtype, 0, HEED_KERNELS_FAST, &got)) {
                harness_compare(row, CHECK_HALF, &s, &got, &want, dtype == HEED_F16 ? "f16: result " : "bf16: result ", dtype);
                kept_free(&got);
            }
            kept_free(&want);
        }
        sampled_close(&s);
    }
}

static void check_threads(harness *h, harness_row *row, sampled *s, int order)
{
    heed_context *const contexts[] = { h->one, h->two, h->seven };
    const char *const names[] = { "1 thread twice", "1 thread and 2", "1 thread and 7" };
    kept first;

    if (!harness_run(row, CHECK_THREADS, s, h->one, HEED_F32, order, HEED_KERNELS_FAST, &first))
        return;
    for (int i = 0; i < 3; i++) {
        heed_error err = { 0 };
        kept got;
        trial t;

        if (sampled_try(s, &t, contexts[i], HEED_F32, order, HEED_KERNELS_FAST, &err) != HEED_OK) {
            harness_bad(row, CHECK_THREADS, s->index, "%s: %.150s", names[i], err.text);
            continue;
        }
        t.pattern = 0x11 * (i + 1); /* what lay in the block before must not matter */
        if (trial_run(&t, &err) != HEED_OK)
            harness_bad(row, CHECK_THREADS, s->index, "%s: %.150s", names[i], err.text);
        harness_intact(row, CHECK_THREADS, s, &t);
        kept_take(&got, &t);
        trial_close(&t);
        harness_same_bytes(row, CHECK_THREADS, s, &got, &first, names[i]);
        kept_free(&got);
    }
    kept_free(&first);
}

static void check_views(harness *h, harness_row *row, sampled *s, int order)
{
    static const char *const names[ARRIVALS] = { "", "inputs permuted", "inputs spread along the last axis",
                                                 "inputs are a part of a larger tensor", "inputs may be overwritten" };
    kept dense, got;

    if (!harness_run(row, CHECK_VIEWS, s, h->one, HEED_F32, order, HEED_KERNELS_FAST, &dense))
        return;
    for (int i = ARRIVE_PERMUTED; i < ARRIVALS; i++) {
        s->arrives = (arrival)i;
        if (harness_run(row, CHECK_VIEWS, s, h->two, HEED_F32, order, HEED_KERNELS_FAST, &got)) {
            harness_same_bytes(row, CHECK_VIEWS, s, &got, &dense, names[i]);
            kept_free(&got);
        }
    }
    s->arrives = ARRIVE_DENSE;
    kept_free(&dense);
}

/* Input i is one row repeated: as numbers, and as a view with stride 0. */
static void check_repeated(harness *h, harness_row *row, int index)
{
    sampled s;
    int n;

    sampled_open(&s, row->op, index);
    n = s.n;
    sampled_close(&s);
    for (int i = 0; i < n; i++) {
        kept dense, got;
        int repeats = 1 << i;

        sampled_open(&s, row->op, index);
        if (s.type[i].rank < 1 || s.type[i].dims[0] < 2 || s.given[i].fill == FILL_RNG || s.given[i].fill == FILL_DISTINCT) {
            sampled_close(&s);
            continue;
        }
        s.repeats = repeats;
        sampled_fill(&s);
        s.repeats = 0; /* the numbers are repeated, the input is dense */
        if (harness_run(row, CHECK_VIEWS, &s, h->one, HEED_F32, 0, HEED_KERNELS_FAST, &dense)) {
            s.repeats = repeats;
            if (harness_run(row, CHECK_VIEWS, &s, h->one, HEED_F32, 0, HEED_KERNELS_FAST, &got)) {
                harness_same_bytes(row, CHECK_VIEWS, &s, &got, &dense, "an input is broadcast");
                kept_free(&got);
            }
            kept_free(&dense);
        }
        sampled_close(&s);
    }
}

/* ---- gradients by differences ---- */

/* sum over outputs of <weight, y(x + eps d) - y(x - eps d)> / 2 eps, and the sum of the terms' sizes. */
typedef struct difference {
    trial *t;
    int first_out, n_out;    /* outputs of the trial that are summed */
    double *const *weight;   /* of each */
    double *plus[OP_OUT_MAX + SAMPLED_IN];
    heed_error err;
    bool failed;
} difference;

static int64_t difference_count(const difference *d, int i)
{
    return heed_type_count(&d->t->out[d->first_out + i].tensor.type);
}

static double difference_along(difference *d, int input, const double *x, const double *direction, int64_t at, int64_t n)
{
    double *moved = trial_memory((size_t)n, sizeof *moved), *minus;
    double sum = 0;

    for (int side = 0; side < 2; side++) {
        const double eps = side ? -NUMERIC_EPS : NUMERIC_EPS;

        for (int64_t k = 0; k < n; k++)
            moved[k] = x[k] + (direction ? eps * direction[k] : k == at ? eps : 0);
        trial_set(d->t, input, moved);
        d->failed |= trial_run(d->t, &d->err) != HEED_OK;
        for (int i = 0; i < d->n_out && side == 0; i++) {
            d->plus[i] = trial_memory((size_t)difference_count(d, i), sizeof(double));
            trial_get(d->t, d->first_out + i, d->plus[i]);
        }
    }
    for (int i = 0; i < d->n_out; i++) {
        const int64_t count = difference_count(d, i);

        minus = trial_memory((size_t)count, sizeof *minus);
        trial_get(d->t, d->first_out + i, minus);
        for (int64_t k = 0; k < count; k++)
            if (d->plus[i][k] != minus[k]) /* infinities that do not move */
                sum += d->weight[i][k] * (d->plus[i][k] - minus[k]);
        free(minus);
        free(d->plus[i]);
    }
    trial_set(d->t, input, x);
    free(moved);
    return sum / (2 * NUMERIC_EPS);
}

static double difference_share(double numeric, double want, double terms)
{
    const double allowed = NUMERIC_ATOL * fmax(1, terms) + NUMERIC_RTOL * fabs(want);

    return isfinite(numeric) && isfinite(want) ? fabs(numeric - want) / allowed : INFINITY;
}

static void difference_check(harness_row *row, harness_check check, const sampled *s, difference *d, int input, const double *x,
                             const double *gradient, int64_t n, const char *what)
{
    double *direction = trial_memory((size_t)n, sizeof *direction);
    const rng r = heed__rng(9, (uint32_t)s->index, what);
    const double affordable = NUMERIC_FLOPS / (1 + heed_plan_describe(d->t->plan).flops);
    const int64_t most = (int64_t)fmin(NUMERIC_COORDINATES, fmax(NUMERIC_FEWEST, affordable));
    double worst = 0;
    int64_t worst_at = -1;

    for (int64_t c = 0; c < n && c < most; c++) {
        const int64_t at = n <= most ? c : (int64_t)(heed__rng_word(&r, 1, (uint32_t)c) % (uint64_t)n);
        const double share = difference_share(difference_along(d, input, x, NULL, at, n), gradient[at], fabs(gradient[at]));

        if (share > worst) {
            worst = share;
            worst_at = at;
        }
    }
    for (int c = 0; c < NUMERIC_DIRECTIONS && n > 1; c++) {
        double want = 0, terms = 0, share;

        for (int64_t k = 0; k < n; k++) {
            direction[k] = heed__rng_word(&r, 2 + (uint32_t)c, (uint32_t)k) & 0x100 ? 1 : -1;
            want += direction[k] * gradient[k];
            terms += fabs(gradient[k]);
        }
        share = difference_share(difference_along(d, input, x, direction, 0, n), want, terms);
        if (share > worst) {
            worst = share;
            worst_at = -1;
        }
    }
    free(direction);
    row->check[check].done++;
    row->check[check].worst = fmax(row->check[check].worst, worst);
    if (d->failed)
        harness_bad(row, check, s->index, "a run failed: %.150s", d->err.text);
    else if (worst > 1 && worst_at >= 0)
        harness_bad(row, check, s->index, "%s: element %lld differs from differences by %.3g of what is allowed (%.9g)", what,
                    (long long)worst_at, worst, gradient[worst_at]);
    else if (worst > 1)
        harness_bad(row, check, s->index, "%s: along a direction it differs from differences by %.3g of what is allowed", what, worst);
}

/* Number of input i among those of the trial. */
static int harness_position(const sampled *s, int input)
{
    int at = 0;

    for (int i = 0; i < input; i++)
        at += s->type[i].rank >= 0;
    return at;
}

static void check_gradient(harness *h, harness_row *row, sampled *s, const kept *first)
{
    double *weight[OP_OUT_MAX];
    difference d = { .weight = weight };
    trial t;

    if (sampled_try(s, &t, h->one, HEED_F64, 0, HEED_KERNELS_REFERENCE, &d.err) != HEED_OK) {
        harness_bad(row, CHECK_GRADIENT, s->index, "%.150s", d.err.text);
        return;
    }
    d.t = &t;
    d.n_out = s->n_out;
    for (int i = 0; i < s->n_out; i++)
        weight[i] = trial_memory((size_t)heed_type_count(&s->out[i]), sizeof(double));
    for (int i = 0; i < s->n_up; i++)
        memcpy(weight[s->up_of[i]], s->up[i], (size_t)heed_type_count(&s->out[s->up_of[i]]) * sizeof(double));
    for (int i = 0; i < s->n_wrt; i++) {
        const int x = s->wrt[i];
        char what[64];

        snprintf(what, sizeof what, "gradient by %s", sampled_slot(s->op, x)->name);
        difference_check(row, CHECK_GRADIENT, s, &d, harness_position(s, x), s->x[x], first->v[s->n_out + i],
                         heed_type_count(&s->type[x]), what);
    }
    for (int i = 0; i < s->n_out; i++)
        free(weight[i]);
    harness_intact(row, CHECK_GRADIENT, s, &t);
    trial_close(&t);
}

static void check_second(harness *h, harness_row *row, sampled *s)
{
    difference d = { .weight = s->v };
    kept second = { 0 };
    trial t;

    if (s->lacks) {
        row->note = "no second gradient";
        return;
    }
    if (!harness_run(row, CHECK_SECOND, s, h->one, HEED_F64, 2, HEED_KERNELS_REFERENCE, &second))
        return;
    if (sampled_try(s, &t, h->one, HEED_F64, 1, HEED_KERNELS_REFERENCE, &d.err) != HEED_OK) {
        harness_bad(row, CHECK_SECOND, s->index, "%.150s", d.err.text);
        kept_free(&second);
        return;
    }
    d.t = &t;
    d.first_out = s->n_out;
    d.n_out = s->n_wrt;
    for (int i = 0; i < s->n_wrt + s->n_up; i++) {
        const bool by_x = i < s->n_wrt;
        const int x = by_x ? s->wrt[i] : i - s->n_wrt;
        const heed_type *type = by_x ? &s->type[x] : &s->out[s->up_of[x]];
        const int inputs = harness_position(s, s->n);
        char what[80];

        snprintf(what, sizeof what, "second gradient by %s%s", by_x ? "" : "d_",
                 by_x ? sampled_slot(s->op, x)->name : s->op->out[s->up_of[x]].name);
        difference_check(row, CHECK_SECOND, s, &d, by_x ? harness_position(s, x) : inputs + x, by_x ? s->x[x] : s->up[x],
                         second.v[s->n_out + s->n_wrt + i], heed_type_count(type), what);
    }
    harness_intact(row, CHECK_SECOND, s, &t);
    trial_close(&t);
    kept_free(&second);
}

/* ---- kernels alone ---- */

typedef struct results {
    unsigned char *bytes[OP_OUT_MAX];
} results;

static void results_free(results *r)
{
    for (int i = 0; i < OP_OUT_MAX; i++)
        free(r->bytes[i]);
    *r = (results){ 0 };
}

typedef struct kernel_case {
    const op_kernel *k;
    heed_type out[OP_OUT_MAX];
    int n_out;
    results base;
} kernel_case;

static void kernel_wrong(harness_row *row, const sampled *s, const kernel_case *c, const direct_opts *o, const char *what, const char *how)
{
    harness_bad(row, CHECK_KERNEL, s->index, "kernel %s of %s on %s %s%s", c->k->name, heed_dtype_name(o->dtype),
                heed_isa_name(o->isa), what, how);
}

/* One more way of running it: the same bytes. */
static void kernel_again(harness_row *row, const sampled *s, const kernel_case *c, const direct_opts *o, const char *how)
{
    results now = { 0 };
    const char *wrong = direct_run(s, c->k, o, now.bytes);

    row->check[CHECK_KERNEL].done++;
    if (wrong)
        kernel_wrong(row, s, c, o, wrong, how);
    for (int i = 0; i < c->n_out && !wrong; i++)
        if (now.bytes[i] && memcmp(now.bytes[i], c->base.bytes[i],
                                   (size_t)heed_type_count(&c->out[i]) * heed_dtype_size(c->out[i].dtype)) != 0) {
            kernel_wrong(row, s, c, o, "gives other bytes", how);
            break;
        }
    results_free(&now);
}

static void kernel_numbers(harness_row *row, const sampled *s, const kernel_case *c, const direct_opts *o, const kept *want)
{
    for (int r = 0; r < HARNESS_RULES; r++)
        for (int i = 0; i < c->n_out && harness_rule[r].dtype == o->dtype && i < want->n; i++) {
            if (!c->base.bytes[i])
                continue;
            const int64_t count = heed_type_count(&c->out[i]);
            double *got = trial_memory((size_t)count, sizeof *got), share;

            for (int64_t k = 0; k < count; k++)
                got[k] = heed__number_get(c->out[i].dtype, c->base.bytes[i], k);
            share = harness_share(&c->out[i], got, want->v[i], harness_rule[r].atol, harness_rule[r].rtol);
            row->check[CHECK_KERNEL].worst = fmax(row->check[CHECK_KERNEL].worst, share);
            if (!(share <= 1)) {
                char how[64];

                snprintf(how, sizeof how, " by %.3g of what is allowed", share);
                kernel_wrong(row, s, c, o, "differs from the reference", how);
            }
            free(got);
        }
}

static void kernel_ways(harness_row *row, const sampled *s, kernel_case *c, direct_opts o, const kept *want)
{
    const direct_opts plain = o;
    const char *wrong = direct_run(s, c->k, &o, c->base.bytes);

    row->check[CHECK_KERNEL].done++;
    if (wrong) {
        kernel_wrong(row, s, c, &o, wrong, "");
        return;
    }
    if (want)
        kernel_numbers(row, s, c, &o, want);
    o.at_start = o.backward = true;
    o.pattern = 0x5A;
    kernel_again(row, s, c, &o, ", with chunks from last to first and other contents of memory");
    o = plain;
    o.gaps = true;
    if (c->k->layout != DENSE)
        kernel_again(row, s, c, &o, ", with gaps between elements");
    o = plain;
    for (int i = 0; i < c->n_out && c->n_out > 1; i++) {
        o.only = i;
        if (sampled_makes(s, i))
            kernel_again(row, s, c, &o, ", with one output wanted");
    }
    for (int i = 0; i < c->n_out; i++)
        for (int j = 0; j < s->n; j++) {
            heed_type in = s->type[j];

            if (in.rank < 0 || !direct_may_overwrite(s->op, i, j) || !sampled_makes(s, i))
                continue;
            in.dtype = sampled_dtype(s, j, plain.dtype);
            o = plain;
            o.over_out = i;
            o.over_in = j;
            if (heed_type_equal(&in, &c->out[i]))
                kernel_again(row, s, c, &o, ", in place");
        }
}

static void check_kernels(harness *h, harness_row *row, sampled *s, const kept *want, bool wants_numbers)
{
    static const heed_dtype dtypes[] = { HEED_F32, HEED_F64, HEED_F16, HEED_BF16 };
    const bool tested = sampled_any_tested(s);

    for (const op_kernel *k = s->op->cpu; k && k->name; k++)
        for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
            for (int i = 0; i < (tested ? 4 : 1); i++) {
                const direct_opts o = { .isa = (heed_isa)isa, .dtype = dtypes[i], .pattern = 0xA5, .only = -1, .over_out = -1, .over_in = -1 };
                kernel_case c = { .k = k };
                const bool exact = dtypes[i] == HEED_F32 || dtypes[i] == HEED_F64; /* numbers fit without rounding */

                if (!h->level[isa] || (tested && !harness_takes(s, dtypes[i])) || !direct_accepts(s, k, &o, c.out))
                    continue;
                while (s->op->out[c.n_out].name)
                    c.n_out++;
                kernel_ways(row, s, &c, o, exact && wants_numbers ? want : NULL);
                results_free(&c.base);
            }
}

/* ---- sizes of zero ---- */

static void zero_try(harness *h, harness_row *row, sampled *s, int order, const char *what)
{
    heed_error err = { 0 };
    kept want, got;
    trial t;
    heed_status st = sampled_try(s, &t, h->two, HEED_F32, order, HEED_KERNELS_FAST, &err);
    bool fine;

    row->check[CHECK_ZERO].done++;
    if (st != HEED_OK) {
        if (st == HEED_ERR_BUG || st == HEED_ERR_MEMORY || st == HEED_ERR_MISSING || strlen(err.text) < 10)
            harness_bad(row, CHECK_ZERO, s->index, "%s, order %d: %s: %.150s", what, order, heed_status_name(st), err.text);
        return;
    }
    st = trial_run(&t, &err);
    fine = harness_intact(row, CHECK_ZERO, s, &t);
    if (st != HEED_OK && (st != HEED_ERR_LIMIT || strlen(err.text) < 10))
        harness_bad(row, CHECK_ZERO, s->index, "%s: run: %s: %.150s", what, heed_status_name(st), err.text);
    if (st == HEED_OK && fine)
        kept_take(&got, &t);
    trial_close(&t);
    if (st != HEED_OK || !fine)
        return;
    if (harness_run(row, CHECK_ZERO, s, h->one, HEED_F64, order, HEED_KERNELS_REFERENCE, &want)) {
        harness_compare(row, CHECK_ZERO, s, &got, &want, what, HEED_F32);
        kept_free(&want);
    }
    kept_free(&got);
}

/* Every size d that occurs, wherever it occurs; then every single place. */
static void check_zero(harness *h, harness_row *row, int index)
{
    sampled s;
    int n;

    sampled_open(&s, row->op, index);
    n = s.n;
    sampled_close(&s);
    for (int i = 0; i < n; i++)
        for (int a = 0; a < heed__sample_inputs(&row->op->samples[index])[i].rank; a++)
            for (int everywhere = 0; everywhere < 2; everywhere++)
                for (int order = 0; order < 2; order++) {
                    char what[80];
                    int64_t size;

                    snprintf(what, sizeof what, "with size 0 of axis %d of input %d%s: result ", a, i, everywhere ? " and its equals" : "");
                    sampled_open(&s, row->op, index);
                    size = s.type[i].dims[a];
                    if (s.given[i].fill != FILL_RNG) {
                        s.type[i].dims[a] = 0;
                        for (int j = 0; j < n && everywhere; j++)
                            for (int k = 0; k < s.type[j].rank && s.given[j].fill != FILL_RNG; k++)
                                if (s.type[j].dims[k] == size)
                                    s.type[j].dims[k] = 0;
                        sampled_fill(&s);
                        zero_try(h, row, &s, order, what);
                    }
                    sampled_close(&s);
                }
}

/* ---- bad indices ---- */

/* Ops that give a meaning to every index. */
static const char *const index_meant[] = {
    "update_slice", /* start is clamped, so that the update fits */
    "put_rows",     /* a row that is not written */
    "one_hot",      /* a row of zeros */
    "softmax_cross_entropy_grad", /* no gradient: the loss before it has ended the run */
    NULL,
};

static bool index_slot(const sampled *s, int i)
{
    const op_slot *slot = sampled_slot(s->op, i);

    for (int k = 0; index_meant[k]; k++)
        if (strcmp(index_meant[k], s->op->name) == 0)
            return false;
    return s->type[i].rank >= 0 && slot && slot->dtypes == I64_ONLY && s->given[i].fill == FILL_INDEX && heed_type_count(&s->type[i]) > 0;
}

/* No kernel leaves its operands, even when nobody listens to its fault. */
static bool index_kernels(harness *h, harness_row *row, const sampled *s, const char *value)
{
    const int bad = row->bad;

    for (const op_kernel *k = s->op->cpu; k && k->name; k++)
        for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
            const direct_opts o = { .isa = (heed_isa)isa, .pattern = 0xA5, .only = -1, .over_out = -1, .over_in = -1 };
            heed_type out[OP_OUT_MAX];
            results ignored = { 0 };
            const char *wrong;

            if (!h->level[isa] || !direct_accepts(s, k, &o, out))
                continue;
            if ((wrong = direct_run(s, k, &o, ignored.bytes)))
                harness_bad(row, CHECK_INDEX, s->index, "index %s: kernel %s on %s %s", value, k->name, heed_isa_name(o.isa), wrong);
            results_free(&ignored);
        }
    return row->bad == bad;
}

static void index_run(harness *h, harness_row *row, sampled *s, const char *value, const char *element)
{
    heed_error err = { 0 };
    trial t;
    heed_status st = sampled_try(s, &t, h->two, HEED_F32, 0, HEED_KERNELS_FAST, &err);

    if (st == HEED_OK) {
        st = trial_run(&t, &err);
        harness_intact(row, CHECK_INDEX, s, &t);
        for (int k = 0; k < t.n_out; k++)
            for (size_t byte = 0; byte < t.out[k].bytes && st != HEED_OK; byte++)
                if (((unsigned char *)t.out[k].tensor.data)[byte] != 0xA5) {
                    harness_bad(row, CHECK_INDEX, s->index, "index %s: output %d was written all the same", value, k);
                    break;
                }
        trial_close(&t);
    }
    if (st != HEED_ERR_LIMIT)
        harness_bad(row, CHECK_INDEX, s->index, "index %s ends with %s: %.120s", value, heed_status_name(st), err.text);
    else if (!strstr(err.text, value) || !strstr(err.text, element))
        harness_bad(row, CHECK_INDEX, s->index, "index %s at element %s: the message does not say so: %.150s", value, element, err.text);
}

static void index_try(harness *h, harness_row *row, sampled *s, int i, double bad)
{
    const int64_t at = heed_type_count(&s->type[i]) / 2;
    const double good = s->x[i][at];
    char value[32], element[32];

    s->x[i][at] = bad;
    row->check[CHECK_INDEX].done++;
    snprintf(value, sizeof value, "%lld", (long long)bad);
    snprintf(element, sizeof element, "%lld", (long long)at);
    if (index_kernels(h, row, s, value))
        index_run(h, row, s, value, element);
    s->x[i][at] = good;
}

static void check_index(harness *h, harness_row *row, sampled *s)
{
    for (int i = 0; i < s->n; i++)
        if (index_slot(s, i)) {
            index_try(h, row, s, i, (double)s->given[i].n);
            index_try(h, row, s, i, -1);
            index_try(h, row, s, i, 1e15);
            index_try(h, row, s, i, -1e15);
        }
}

/* ---- failing allocations ---- */

static heed_status memory_once(heed_context *ctx, sampled *s, heed_error *err)
{
    trial t;
    heed_status st = sampled_try(s, &t, ctx, HEED_F32, 1, HEED_KERNELS_FAST, err);

    if (st != HEED_OK)
        return st;
    st = trial_run(&t, err);
    trial_close(&t);
    return st;
}

/* One call fails; all from one on fail; and it works again after. */
static void check_memory(harness *h, harness_row *row, sampled *s)
{
    heap *from = h->two->heap;
    const uint64_t bytes = heed__heap_bytes(from);
    uint64_t calls = heed__heap_calls(from);
    heed_error first = { 0 };

    if (memory_once(h->two, s, &first) != HEED_OK) {
        harness_bad(row, CHECK_MEMORY, s->index, "%.150s", first.text);
        return;
    }
    calls = heed__heap_calls(from) - calls;
    for (uint64_t n = 1; n <= calls; n++)
        for (int onward = 0; onward < 2; onward++) {
            heed_error err = { 0 };
            const uint64_t before = heed__heap_calls(from);
            heed_status st;

            heed__heap_fail_at(from, n, onward);
            st = memory_once(h->two, s, &err);
            heed__heap_fail_at(from, 0, false);
            row->check[CHECK_MEMORY].done++;
            if (heed__heap_calls(from) - before < n ? st != HEED_OK : st != HEED_ERR_MEMORY || !err.text[0])
                harness_bad(row, CHECK_MEMORY, s->index, "allocation %llu of %llu fails%s: %s \"%.80s\"", (unsigned long long)n,
                            (unsigned long long)calls, onward ? " and all after" : "", heed_status_name(st), err.text);
            if (heed__heap_bytes(from) != bytes)
                harness_bad(row, CHECK_MEMORY, s->index, "allocation %llu fails%s: %lld bytes are left over", (unsigned long long)n,
                            onward ? " and all after" : "", (long long)(heed__heap_bytes(from) - bytes));
            if (row->check[CHECK_MEMORY].bad > 3)
                return;
        }
    if (memory_once(h->two, s, &first) != HEED_OK)
        harness_bad(row, CHECK_MEMORY, s->index, "after failures it does not work again: %.120s", first.text);
}

/* ---- an op ---- */

/* Differences mean something: no large numbers, no kinks, and results that are as precise as f64. */
static bool harness_smooth(const sampled *s, const kept *first)
{
    bool fine = (s->sample->scale == 0 || s->sample->scale == 1) && !s->sample->no_numeric;

    for (int i = 0; i < s->n_up; i++)
        fine &= first->type[s->up_of[i]].dtype == HEED_F64;
    return fine;
}

static void harness_sample(harness *h, harness_row *row, int index, bool *memory_done)
{
    const int bad = row->bad;
    kept forward = { 0 }, first = { 0 };
    sampled s;

    row->sample = index;
    sampled_open(&s, row->op, index);
    if (s.sample->refused) {
        row->doing = CHECK_REFUSED;
        check_refused(h, row, &s);
        sampled_close(&s);
        return;
    }
    row->doing = CHECK_REFERENCE;
    if (harness_reference(h, row, &s, 0, &forward)) {
        row->doing = CHECK_LEVEL;
        check_levels(h, row, &s, &forward, CHECK_LEVEL, 0);
        row->doing = CHECK_FUSED;
        check_fused(h, row, &s);
        row->doing = CHECK_HALF;
        check_half(h, row, index);
        row->doing = CHECK_VIEWS;
        check_views(h, row, &s, 0);
        check_repeated(h, row, index);
        row->doing = CHECK_KERNEL;
        check_kernels(h, row, &s, &forward, true);
        row->doing = CHECK_INDEX;
        check_index(h, row, &s);
        row->doing = CHECK_THREADS;
        if (s.n_wrt > 0 && s.n_up > 0) {
            if (harness_run(row, CHECK_GRADIENT, &s, h->one, HEED_F64, 1, HEED_KERNELS_REFERENCE, &first)) {
                row->doing = CHECK_GRADIENT32;
                check_levels(h, row, &s, &first, CHECK_GRADIENT32, 1);
                if (harness_smooth(&s, &first)) {
                    row->doing = CHECK_GRADIENT;
                    check_gradient(h, row, &s, &first);
                    row->doing = CHECK_SECOND;
                    check_second(h, row, &s);
                }
                kept_free(&first);
            }
            row->doing = CHECK_THREADS;
            check_threads(h, row, &s, 1);
        } else {
            check_threads(h, row, &s, 0);
        }
        kept_free(&forward);
    }
    if (!*memory_done && row->bad == bad) {
        row->doing = CHECK_MEMORY;
        check_memory(h, row, &s);
        *memory_done = true;
    }
    sampled_close(&s);
    row->doing = CHECK_ZERO;
    if (row->bad == bad)
        check_zero(h, row, index);
}

void harness_op(harness *h, const op_def *op, harness_row *row)
{
    bool memory_done = false;

    *row = (harness_row){ .op = op, .samples = sampled_count(op) };
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        row->levels_run += h->level[isa] != NULL;
        row->levels_skipped += h->level[isa] == NULL;
    }
    if (op->flags & OP_NO_GRAD)
        row->note = "no gradient";
    if (row->samples == 0)
        harness_bad(row, CHECK_REFERENCE, 0, "there are no samples");
    for (int i = 0; i < row->samples; i++)
        harness_sample(h, row, i, &memory_done);
}

static void harness_crashed(harness_row *row, int status)
{
    const int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (sig)
        harness_bad(row, row->doing, row->sample, "it crashed here: signal %d (%s)", sig, strsignal(sig));
    else
        harness_bad(row, row->doing, row->sample, "the process of this op ended with exit code %d", WEXITSTATUS(status));
}

void harness_op_apart(const op_def *op, harness_row *row)
{
    harness_row *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t child;

    if (shared == MAP_FAILED) {
        fprintf(stderr, "no memory for a row\n");
        exit(1);
    }
    fflush(NULL);
    child = fork();
    if (child == 0) {
        static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
        harness h;

        for (int i = 0; i < 5; i++) /* a test framework's handlers are not for this process */
            signal(signals[i], SIG_DFL);
        harness_open(&h);
        harness_op(&h, op, shared);
        harness_close(&h);
        fflush(NULL);
        exit(0); /* through the exit handlers, so that a leak checker sees it */
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(1);
    }
    *row = *shared;
    row->op = op;
    if (status != 0)
        harness_crashed(row, status);
    munmap(shared, sizeof *shared);
}

/* ---- contexts ---- */

static heed_context *harness_context(int threads, heed_isa isa)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };

    if (heed_context_new(&ctx, &(heed_context_opts){ .threads = threads, .isa = isa }, &err) != HEED_OK) {
        fprintf(stderr, "no context: %s\n", err.text);
        exit(1);
    }
    return ctx;
}

void harness_open(harness *h)
{
    *h = (harness){ .one = harness_context(1, HEED_ISA_AUTO), .two = harness_context(2, HEED_ISA_AUTO),
                    .seven = harness_context(7, HEED_ISA_AUTO) };
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
        if (heed_isa_available((heed_isa)isa))
            h->level[isa] = harness_context(2, (heed_isa)isa);
}

void harness_close(harness *h)
{
    heed_context_free(h->one);
    heed_context_free(h->two);
    heed_context_free(h->seven);
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
        heed_context_free(h->level[isa]);
}

/* ---- the table ---- */

static const char *const harness_columns[HARNESS_CHECKS] = {
    [CHECK_REFUSED] = "refused", [CHECK_REFERENCE] = "f64",     [CHECK_LEVEL] = "level",     [CHECK_FUSED] = "fused",
    [CHECK_HALF] = "half",       [CHECK_GRADIENT] = "grad",     [CHECK_SECOND] = "grad2",    [CHECK_GRADIENT32] = "grad32",
    [CHECK_THREADS] = "threads", [CHECK_VIEWS] = "views",       [CHECK_KERNEL] = "kernel",   [CHECK_ZERO] = "zero",
    [CHECK_INDEX] = "index",     [CHECK_MEMORY] = "memory",
};

void harness_print_levels(FILE *to, const harness *h)
{
    fprintf(to, "levels:");
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
        fprintf(to, " %s%s", heed_isa_name((heed_isa)isa), h->level[isa] ? "" : " (skipped: this CPU or build lacks it)");
    fprintf(to, "\n");
}

/* Where a share of the allowed error has a meaning it stands behind the number of comparisons. */
static bool harness_has_share(harness_check c)
{
    return c == CHECK_LEVEL || c == CHECK_FUSED || c == CHECK_HALF || c == CHECK_GRADIENT || c == CHECK_SECOND || c == CHECK_GRADIENT32;
}

void harness_print_head(FILE *to)
{
    fprintf(to, "%-26s %7s %6s", "op", "samples", "levels");
    for (int c = 0; c < HARNESS_CHECKS; c++)
        fprintf(to, harness_has_share((harness_check)c) ? " %11s" : " %7s", harness_columns[c]);
    fprintf(to, "  worst\n");
}

void harness_print(FILE *to, const harness_row *row)
{
    double worst = 0;
    char levels[16];

    snprintf(levels, sizeof levels, "%d/%d", row->levels_run, row->levels_skipped);
    fprintf(to, "%-26s %7d %6s", row->op->name, row->samples, levels);
    for (int c = 0; c < HARNESS_CHECKS; c++) {
        const harness_cell *cell = &row->check[c];
        char shown[32] = "-";

        if (cell->bad)
            snprintf(shown, sizeof shown, "BAD %d", cell->bad);
        else if (cell->done && harness_has_share((harness_check)c))
            snprintf(shown, sizeof shown, "%d %.2g", cell->done, cell->worst);
        else if (cell->done)
            snprintf(shown, sizeof shown, "%d", cell->done);
        fprintf(to, harness_has_share((harness_check)c) ? " %11s" : " %7s", shown);
        worst = fmax(worst, cell->worst);
    }
    fprintf(to, "  %.2g %s%s%s\n", worst, row->bad ? "BAD" : "ok", row->note ? ", " : "", row->note ? row->note : "");
    for (int i = 0; i < row->texts; i++)
        fprintf(to, "    %s\n", row->text[i]);
}
