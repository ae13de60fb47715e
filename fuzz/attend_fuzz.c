/* Any descriptor over any tensors (attend_making.h): refused with a sentence, or computed and right.
 *
 *   f64 composition      what heed_attend_stages says in plain loops; gradients are those of differences
 *   f32, kernels of one level, as the planner chooses
 *                        refused exactly when f64 is; otherwise its numbers, as far as they do not hang on a rounding: what
 *                        inputs changed by a last bit or two change is allowed many times over
 *   the same again       with three threads: the same bytes, and, by byte 14 / 3,
 *     0  without weights and probes         the same bytes of the rest
 *     1  the first sequence alone           the bytes that it has in the batch
 *     2  the first queries alone            the bytes that they have among all
 *     3  NaN behind the lengths             the same bytes
 *     4  NaN in one row of k and v          the same bytes of other sequences and head groups
 *     5  composed, in f32                   as the kernels
 *
 *   From 192 on the kernels compute in bf16, and only bytes are compared. */

#include "attend_making.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHECKS = 6, NUDGES = 2 };

/* How the tensors of a problem are given. */
typedef struct way {
    heed_dtype dtype;
    heed_isa isa;
    int threads;
    heed_attend_kernel kernel;
    bool plain;                 /* no weights, no probes */
    int64_t batch, queries;     /* so many of them; -1: all */
    bool poison_behind;         /* NaN behind lengths and q_lengths */
    int64_t poison_b, poison_g; /* NaN in the first row of k and v of this sequence and key head; -1: none */
    double nudge, along;        /* relative noise; a step along the direction of the differences */
    uint32_t seed;
} way;
#define AS_GIVEN .batch = -1, .queries = -1, .poison_b = -1, .poison_g = -1

typedef struct run {
    heed_context *ctx;
    heed_attend *a;
    heed_error err;
    heed_status st; /* of building, or of the run */
    bool built;
} run;

static void complain(const problem *p, const char *what, const char *name)
{
    fprintf(stderr, "%s: %s\n%s\nB %d Hkv %d Hq %d Tq %d Tk %d D %d Dv %d:", what, name, p->spec, (int)p->b,
            (int)p->g, (int)p->h, (int)p->q, (int)p->k, (int)p->d, (int)p->v);
    for (int i = 0; i < p->n; i++)
        fprintf(stderr, " %s", p->at[i].name);
    fprintf(stderr, "\n");
    check(false);
}

/* ---- giving ---- */

static const given *find(const problem *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->at[i].name, name) == 0)
            return &p->at[i];
    return NULL;
}

static bool differentiable(const given *t)
{
    return t->type.dtype == HEED_F64 && t->name[0] != 'd'; /* dout, dweights, dlse; dropout_keep is bool */
}

/* Element n stands in row i (of axis 2) of sequence b and head h. */
static void place(const given *t, int64_t n, int64_t *b, int64_t *h, int64_t *i)
{
    int64_t inner = 1;

    for (int k = 3; k < t->type.rank; k++)
        inner *= t->type.dims[k];
    *i = n / inner % t->type.dims[2];
    *h = n / inner / t->type.dims[2] % t->type.dims[1];
    *b = n / inner / t->type.dims[2] / t->type.dims[1];
}

static bool is_keys(const given *t)
{
    return strcmp(t->name, "k") == 0 || strcmp(t->name, "v") == 0 || strcmp(t->name, "k2") == 0;
}

static bool is_poisoned(const problem *p, const given *t, const way *w, int64_t n)
{
    const given *lengths =
        is_keys(t) ? find(p, "lengths")
        : strcmp(t->name, "q") == 0 || strcmp(t->name, "q2") == 0 || strcmp(t->name, "dout") == 0
            ? find(p, "q_lengths")
            : NULL;
    int64_t b, h, i;

    if ((!w->poison_behind || !lengths) && (w->poison_b < 0 || !is_keys(t)))
        return false;
    place(t, n, &b, &h, &i);
    return w->poison_behind ? i >= ((const int64_t *)lengths->data)[b]
                            : b == w->poison_b && h == w->poison_g && i == 0;
}

static double number_given(const problem *p, const given *t, const way *w, int64_t n, uint32_t *seed)
{
    double x = ((const double *)t->data)[n];

    if (is_poisoned(p, t, w, n))
        return NAN;
    if (w->nudge > 0)
        x = (double)(float)(x * (1 + w->nudge * ((double)mixed(seed) / (1 << 23) - 1)));
    if (w->along != 0 && differentiable(t))
        x += w->along * ((double)mixed(seed) / (1 << 23) - 1);
    return x;
}

/* Where element n of a tensor cut to `dims` was. */
static int64_t uncut(const heed_type *whole, const int64_t *dims, int64_t n)
{
    int64_t at = 0, step = 1;

    for (int i = whole->rank - 1; i >= 0; i--) {
        at += n % dims[i] * step;
        n /= dims[i];
        step *= whole->dims[i];
    }
    return at;
}

static heed_type cut(const problem *p, const given *t, const way *w)
{
    heed_type type = t->type;

    for (int i = 0; i < type.rank; i++)
        if (t->sizes[i] == 'B' && w->batch >= 0)
            type.dims[i] = i64_min(type.dims[i], w->batch);
        else if (t->sizes[i] == 'q' && w->queries >= 0)
            type.dims[i] = i64_min(type.dims[i], w->queries);
        else if (t->sizes[i] == 'u' && w->queries >= 0)
            type.dims[i] = i64_min(type.dims[i], i64_ceil_div(w->queries, p->block_q));
    return type;
}

static uint16_t bf16_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static bool give(const problem *p, const way *w, heed_attend *a)
{
    uint32_t seed = w->seed;

    for (int i = 0; i < p->n; i++) {
        const given *t = &p->at[i];
        heed_tensor x = { .type = cut(p, t, w) };
        const int64_t n = heed_type_count(&x.type);
        heed_status st;

        if (x.type.dtype == HEED_F64)
            x.type.dtype = w->dtype;
        x.data = calloc((size_t)n + 1, 8);
        if (!x.data)
            return false;
        for (int64_t k = 0; k < n; k++) {
            const int64_t from = uncut(&t->type, x.type.dims, k);

            if (x.type.dtype == HEED_I64)
                ((int64_t *)x.data)[k] = strcmp(t->name, "q_lengths") == 0 && w->queries >= 0
                                             ? i64_min(((const int64_t *)t->data)[from], w->queries)
                                             : ((const int64_t *)t->data)[from];
            else if (x.type.dtype == HEED_BOOL)
                ((bool *)x.data)[k] = ((const bool *)t->data)[from];
            else if (x.type.dtype == HEED_F64)
                ((double *)x.data)[k] = number_given(p, t, w, from, &seed);
            else if (x.type.dtype == HEED_F32)
                ((float *)x.data)[k] = (float)number_given(p, t, w, from, &seed);
            else
                ((uint16_t *)x.data)[k] = bf16_of((float)number_given(p, t, w, from, &seed));
        }
        st = heed_attend_add(a, t->name, x, NULL);
        free(x.data);
        if (st != HEED_OK)
            return false;
    }
    return true;
}

static void end(run *r)
{
    heed_attend_free(r->a);
    heed_context_free(r->ctx);
}

static run go(const problem *p, const way *w)
{
    const heed_context_opts opts = { .threads = w->threads,
                                     .isa = w->isa,
                                     .limits = { .memory_bytes = (uint64_t)192 << 20 } };
    const heed_attend_opts asked = { .spec = p->spec,
                                     .probe = w->plain ? "none" : NULL,
                                     .kernel = w->kernel,
                                     .weights = p->weights && !w->plain,
                                     .grad = p->grad };
    heed_attend_cost cost;
    run r = { .st = HEED_ERR_MEMORY };

    if (heed_context_new(&r.ctx, &opts, NULL) != HEED_OK || heed_attend_new(&r.a, r.ctx, NULL) != HEED_OK ||
        !give(p, w, r.a))
        return r;
    r.st = heed_attend_build(r.a, &asked, &r.err);
    r.built = r.st == HEED_OK;
    if (r.built)
        r.st = heed_attend_cost_of(r.a, &cost, &r.err) == HEED_OK ? heed_attend_run(r.a, &r.err) : r.err.code;
    if (r.st != r.err.code || (r.st == HEED_OK) != (r.err.text[0] == 0) || r.st == HEED_ERR_BUG)
        complain(p, "a status without its sentence", r.err.text);
    return r;
}

/* ---- results ---- */

static double number_at(const heed_tensor *t, int64_t i)
{
    switch (t->type.dtype) {
    case HEED_F64:
        return ((const double *)t->data)[i];
    case HEED_I64:
        return (double)((const int64_t *)t->data)[i];
    case HEED_F32:
        return (double)((const float *)t->data)[i];
    default: { /* bf16: the upper half of an f32 */
        const uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
        float x;

        memcpy(&x, &bits, sizeof x);
        return (double)x;
    }
    }
}

static bool result(const run *r, const char *name, heed_tensor *t)
{
    for (int i = 0; i < heed_attend_results(r->a); i++)
        if (strcmp(heed_attend_result(r->a, i, t), name) == 0)
            return true;
    return false;
}

/* The largest; infinite when one is not finite. A log-sum of a row with nothing to keep is -inf. */
static double most_of(const double *x, int64_t n, bool sums)
{
    double most = 0;

    for (int64_t i = 0; x && i < n; i++)
        if (!(sums && x[i] == -INFINITY))
            most = fmax(most, isfinite(x[i]) ? fabs(x[i]) : INFINITY);
    return most;
}

static bool is_sum(const char *name)
{
    return strncmp(name, "lse", 3) == 0;
}

/* Results of r held against numbers, both within allowed * max(1, most). */
static void compare(const problem *p, const run *r, const char *name, const double *want, double allowed,
                    const char *what)
{
    heed_tensor t;
    double most;

    if (!want || !result(r, name, &t))
        return;
    most = most_of(want, heed_type_count(&t.type), is_sum(name));
    for (int64_t i = 0; isfinite(most) && i < heed_type_count(&t.type); i++) {
        const double got = number_at(&t, i);

        if (want[i] == -INFINITY ? got != want[i] : !(fabs(got - want[i]) <= allowed * fmax(1, most))) {
            fprintf(stderr, "%s[%d] is %.9g, not %.9g\n", name, (int)i, got, want[i]);
            complain(p, what, name);
        }
    }
}

static double *numbers_of(const heed_tensor *t)
{
    const int64_t n = heed_type_count(&t->type);
    double *x = calloc((size_t)n + 1, sizeof *x);

    for (int64_t i = 0; x && i < n; i++)
        x[i] = number_at(t, i);
    return x;
}

/* ---- f64: loops and differences ---- */

static double loss_of(const problem *p, const run *r)
{
    static const char *const parts[] = { "out", "weights", "lse" };
    double sum = 0;

    for (int k = 0; k < 3; k++) {
        char name[24];
        const given *d;
        heed_tensor y;

        snprintf(name, sizeof name, "d%s", parts[k]);
        d = find(p, name);
        if (!d || !result(r, parts[k], &y))
            continue;
        for (int64_t i = 0; i < heed_type_count(&y.type); i++)
            if (number_at(&y, i) != -INFINITY)
                sum += number_at(&y, i) * ((const double *)d->data)[i];
    }
    return sum;
}

static double loss_along(const problem *p, run *r, double step)
{
    const way w = { .dtype = HEED_F64, .seed = p->seed, .along = step, AS_GIVEN };

    return give(p, &w, r->a) && heed_attend_run(r->a, NULL) == HEED_OK ? loss_of(p, r) : NAN;
}

/* The gradients along one direction of all inputs together. Where the two sides differ there is a kink, and nothing to say. */
static void check_differences(const problem *p, run *r)
{
    static const double steps[] = { 1e-4, 1e-5, 1e-6, 1e-7 };
    uint32_t seed = p->seed;
    double is = 0, size = 1, least = INFINITY, here;

    if (!p->grad || (find(p, "dweights") && !p->weights))
        return;
    for (int i = 0; i < p->n; i++) {
        char name[40];
        heed_tensor d;

        snprintf(name, sizeof name, "d_%s", p->at[i].name);
        if (!differentiable(&p->at[i]))
            continue;
        if (!result(r, name, &d))
            complain(p, "no gradient", name);
        for (int64_t k = 0; k < heed_type_count(&d.type); k++) {
            const double part = number_at(&d, k) * ((double)mixed(&seed) / (1 << 23) - 1);

            is += part;
            size += fabs(part);
        }
    }
    here = loss_of(p, r);
    if (!(size < 1e8) || !(fabs(here) < 1e8))
        return;
    for (size_t k = 0; k < sizeof steps / sizeof *steps && least > 1e-4 * size; k++) {
        const double up = loss_along(p, r, steps[k]), down = loss_along(p, r, -steps[k]);

        if (!isfinite(up) || !isfinite(down) || fabs(up - 2 * here + down) > 1e-3 * size * steps[k])
            continue;
        least = fmin(least, fabs((up - down) / (2 * steps[k]) - is));
    }
    if (isfinite(least) && least > 1e-4 * size + 1e-8 * fabs(here) / 1e-7) {
        fprintf(stderr, "the gradient along a direction is %.9g, by differences it differs by %.9g\n", is,
                least);
        complain(p, "gradients", "differences");
    }
    (void)loss_along(p, r, 0);
}

/* Are the numbers of a size at which f32 can be judged? */
static bool check_loops(const problem *p, run *r)
{
    heed_error err = { 0 };
    heed_attend_stage z;
    double most;

    if (heed_attend_stages(r->a, &err) != HEED_OK)
        return false;
    z = heed_attend_stage_at(r->a, 7);
    most = most_of(z.values, z.dims[0] * z.dims[1] * z.dims[2] * z.dims[3], false);
    if (!(most < 1e4))
        return false;
    compare(p, r, "weights", heed_attend_stage_at(r->a, 10).values, 1e-7, "f64 against loops");
    compare(p, r, "out", heed_attend_stage_at(r->a, 13).values, 1e-7, "f64 against loops");
    compare(p, r, "lse", heed_attend_log_sums(r->a, 0), 1e-7, "f64 against loops");
    compare(p, r, "lse2", heed_attend_log_sums(r->a, 1), 1e-7, "f64 against loops");
    return most < 1e3;
}

static bool inputs_are_tame(const problem *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->at[i].type.dtype == HEED_F64 &&
            !(most_of(p->at[i].data, heed_type_count(&p->at[i].type), false) < 1e3))
            return false;
    return true;
}

/* ---- f32 ---- */

/* What a last bit or two of the inputs change of each result of r (f64), which is left as it was. */
static bool spread_of(const problem *p, run *r, double *exact[], double spread[])
{
    const way as_is = { .dtype = HEED_F64, AS_GIVEN };
    bool done = true;

    for (int i = 0; i < heed_attend_results(r->a); i++) {
        heed_tensor t;

        (void)heed_attend_result(r->a, i, &t);
        exact[i] = numbers_of(&t);
        spread[i] = exact[i] ? 0 : INFINITY;
    }
    for (int k = 0; k < NUDGES && done; k++) {
        const way w = { .dtype = HEED_F64, .nudge = 3e-7, .seed = 77 + (uint32_t)k, AS_GIVEN };

        done = give(p, &w, r->a) && heed_attend_run(r->a, NULL) == HEED_OK;
        for (int i = 0; done && i < heed_attend_results(r->a); i++) {
            heed_tensor t;

            (void)heed_attend_result(r->a, i, &t);
            for (int64_t n = 0; exact[i] && n < heed_type_count(&t.type); n++)
                if (exact[i][n] != number_at(&t, n))
                    spread[i] = fmax(spread[i], fabs(exact[i][n] - number_at(&t, n)));
        }
    }
    return give(p, &as_is, r->a) && heed_attend_run(r->a, NULL) == HEED_OK && done;
}

/* Which key is chosen hangs on a rounding where tanh has made scores equal, which no change of the inputs shows. */
static bool chooses_blindly(const problem *p)
{
    return strstr(p->spec, "softcap") && (strstr(p->spec, "topk") || strstr(p->spec, "hard"));
}

static void check_numbers(const problem *p, const run *r, run *exact_run, const char *what)
{
    double *exact[64] = { NULL }, spread[64] = { 0 };

    if (!chooses_blindly(p) && spread_of(p, exact_run, exact, spread))
        for (int i = 0; i < heed_attend_results(exact_run->a); i++) {
            heed_tensor t;
            const char *name = heed_attend_result(exact_run->a, i, &t);
            const double most = fmax(1, most_of(exact[i], heed_type_count(&t.type), is_sum(name)));

            if (spread[i] < 1e-3 * most && strcmp(name, "probe_topk_indices") != 0)
                compare(p, r, name, exact[i], 2e-4 + 100 * spread[i] / most, what);
        }
    for (int i = 0; i < 64; i++)
        free(exact[i]);
}

/* Bytes of what r and s both have; where `first` sequences (or all) and queries of s stand in r. NULL: all names. */
static void check_bytes(const problem *p, const run *r, const run *s,
                        bool (*of)(const problem *, const char *), const char *what)
{
    for (int i = 0; i < heed_attend_results(s->a); i++) {
        heed_tensor x, y;
        const char *name = heed_attend_result(s->a, i, &y);
        size_t size;

        if (!result(r, name, &x) || (of && !of(p, name)))
            continue;
        size = heed_dtype_size(x.type.dtype);
        for (int64_t n = 0; n < heed_type_count(&y.type); n++)
            if (memcmp((const char *)x.data + (size_t)uncut(&x.type, y.type.dims, n) * size,
                       (const char *)y.data + (size_t)n * size, size)) {
                fprintf(stderr, "%s[%d] is %.9g, not %.9g\n", name, (int)n, number_at(&y, n),
                        number_at(&x, uncut(&x.type, y.type.dims, n)));
                complain(p, what, name);
            }
    }
}

static bool has_sequences(const problem *p, const char *name)
{
    const given *t = strncmp(name, "d_", 2) == 0 ? find(p, name + 2) : NULL;

    return strncmp(name, "d_", 2) != 0 || (t && t->sizes[0] == 'B');
}

static bool has_queries(const problem *p, const char *name)
{
    static const char *const names[] = { "out",
                                         "lse",
                                         "lse2",
                                         "weights",
                                         "d_q",
                                         "probe_topk_values",
                                         "probe_topk_indices",
                                         "probe_entropy",
                                         "probe_distance",
                                         "probe_mean" };

    (void)p;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Is the offset the same for fewer queries, and nothing else a function of their number? */
static bool queries_stand_alone(const problem *p)
{
    static const char *const by_position[] = { "\"causal\":true", "window", "stride", "rope",
                                               "alibi",           "t5",     "xl",     "distance",
                                               "adaptive" };

    if (find(p, "graph_indptr") || (strstr(p->spec, "dropout") && !find(p, "dropout_keep")))
        return false;
    if (strstr(p->spec, "\"offset\"") || find(p, "offset"))
        return true;
    for (size_t i = 0; i < sizeof by_position / sizeof *by_position; i++)
        if (strstr(p->spec, by_position[i]))
            return false;
    return !find(p, "shaw_k") && !find(p, "alibi_slopes") && !find(p, "t5_table") && !find(p, "xl_r") &&
           !find(p, "span");
}

/* Results of other sequences and groups than (b, g). */
static void check_others(const problem *p, const run *r, const run *s, int64_t b, int64_t g)
{
    for (int i = 0; i < heed_attend_results(s->a); i++) {
        heed_tensor x, y;
        const char *name = heed_attend_result(s->a, i, &y);
        const bool by_key_head =
            strcmp(name, "d_k") == 0 || strcmp(name, "d_v") == 0 || strcmp(name, "d_k2") == 0;
        int64_t heads, inner;

        if (!has_sequences(p, name) || !result(r, name, &x) || strcmp(name, "probe_rows") == 0)
            continue;
        heads = strcmp(name, "probe_mean") == 0 ? 1 : y.type.dims[1];
        inner = heed_type_count(&y.type) / i64_max(1, y.type.dims[0] * heads) *
                (int64_t)heed_dtype_size(y.type.dtype);
        for (int64_t n = 0; n < y.type.dims[0] * heads; n++)
            if ((n / heads != b ||
                 (heads > 1 && (by_key_head ? n % heads : n % heads / (p->h / p->g)) != g)) &&
                memcmp((const char *)x.data + n * inner, (const char *)y.data + n * inner, (size_t)inner) !=
                    0)
                complain(p, "NaN in another head changes", name);
    }
}

static void check_again(const problem *p, const way *as, const run *r, run *exact, int which, bool tame)
{
    way w = *as;
    run s;

    w.threads = 3;
    s = go(p, &w);
    if (s.st == HEED_OK)
        check_bytes(p, r, &s, NULL, "three threads change a byte");
    end(&s);
    w = *as;
    w.plain = which == 0;
    w.batch = which == 1 ? 1 : -1;
    w.queries = which == 2 ? i64_max(1, p->q / 2) : -1;
    w.poison_behind = which == 3;
    w.poison_b = which == 4 ? p->b - 1 : -1;
    w.poison_g = p->g - 1;
    w.kernel = which == 5 ? HEED_ATTEND_REFERENCE : HEED_ATTEND_AUTO;
    if ((which == 2 && !queries_stand_alone(p)) ||
        (which == 4 && (find(p, "talk_pre") || find(p, "talk_post"))) || p->b == 0)
        return;
    s = go(p, &w);
    if (s.st == HEED_OK && which == 4)
        check_others(p, r, &s, w.poison_b, w.poison_g);
    else if (s.st == HEED_OK && which == 5 && tame)
        check_numbers(p, &s, exact, "f32, composed, against f64");
    else if (s.st == HEED_OK && which < 4)
        check_bytes(p, r, &s,
                    which == 1   ? has_sequences
                    : which == 2 ? has_queries
                                 : NULL,
                    (const char *[]){ "asking for less changes a byte", "a sequence alone has other bytes",
                                      "queries alone have other bytes",
                                      "NaN behind the lengths changes a byte" }[which]);
    else if (s.st != HEED_OK && s.st != HEED_ERR_MEMORY && which != 2)
        complain(p, "refused the second time", s.err.text);
    end(&s);
}

/* A composition does not look at what it has no use for: anything where there are no scores, globals of a window without limits. */
static bool unseen(const problem *p)
{
    return p->b * p->q * p->k == 0 || (find(p, "globals") && strstr(p->spec, "\"window\":[-1,-1]"));
}

static void attend(const problem *p, uint8_t how)
{
    static const heed_isa levels[] = { HEED_ISA_PORTABLE, HEED_ISA_X86_64_V3, HEED_ISA_X86_64_V4 };
    const bool narrow = how >= 192; /* bytes only: its numbers are others */
    const heed_isa isa = heed_isa_available(levels[how % 3]) ? levels[how % 3] : HEED_ISA_AUTO;
    const way exactly = { .dtype = HEED_F64,
                          .isa = isa,
                          .threads = 1,
                          .kernel = HEED_ATTEND_REFERENCE,
                          AS_GIVEN },
              fast = { .dtype = narrow ? HEED_BF16 : HEED_F32, .isa = isa, .threads = 1, AS_GIVEN };
    run exact = go(p, &exactly), r;
    bool tame = inputs_are_tame(p);

    if (exact.st == HEED_OK) {
        tame = tame && check_loops(p, &exact);
        if (tame)
            check_differences(p, &exact);
    }
    r = go(p, &fast);
    if (exact.st != HEED_ERR_MEMORY && r.st != HEED_ERR_MEMORY && !(exact.built && r.built && unseen(p)) &&
        (exact.st != r.st || exact.built != r.built)) {
        fprintf(stderr, "f64: %s \"%s\"\nf32: %s \"%s\"\n", heed_status_name(exact.st), exact.err.text,
                heed_status_name(r.st), r.err.text);
        complain(p, "f64 and f32 end otherwise", "status");
    }
    if (exact.st == HEED_OK && r.st == HEED_OK) {
        tame = tame && !narrow;
        if (tame)
            check_numbers(p, &r, &exact, "f32 against f64");
        check_again(p, &fast, &r, &exact, how / 3 % CHECKS, tame);
    }
    end(&exact);
    end(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    problem *p;

    if (size < HEAD || size - HEAD >= SPEC_MOST)
        return 0;
    p = make_problem(data, size);
    if (p && p->spec[strspn(p->spec, " \t\r\n")] == '{') /* anything else names a file */
        attend(p, data[14]);
    if (p)
        free_problem(p);
    return 0;
}
