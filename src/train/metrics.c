/* Metrics of a classifier, from probabilities p [n,C] and labels [n]. TP, FP count at a threshold t:
 * samples with p >= t that are of the class, that are not; P, N are all of the class, all others.
 *
 *   precision = TP / (TP + FP)    recall = TP / P    F1 = 2 TP / (2 TP + FP + FN)
 *   ROC-AUC   = area under (FP/N, TP/P) by trapezoids between different thresholds
 *             = sum dFP (TP' + TP) / (2 P N), a sum of whole numbers, hence exact up to the division
 *   AP        = sum dTP / P * TP / (TP + FP), thresholds falling
 *   ECE       = sum over bins |samples right - sum of confidences| / n
 *   log loss  = - mean ln p[label]
 *
 * Equal probabilities cross a threshold together, so their order in the file does not matter. Long sums of
 * fractions carry their rounding error along (Neumaier 1974). */

#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include "base/sort.h"
#include <heed/metrics.h>

#include <float.h>
#include <math.h>
#include <string.h>

#define ECE_BINS 15
#define ROW_TOLERANCE 1e-3
#define NORMAL_975 1.9599639845400545 /* 97.5 % of a normal distribution lie below */

/* ---- a sum that keeps what rounding takes ---- */

typedef struct long_sum {
    double sum, lost;
} long_sum;

static void sum_add(long_sum *s, double x)
{
    const double t = s->sum + x;

    s->lost += fabs(s->sum) >= fabs(x) ? (s->sum - t) + x : (x - t) + s->sum;
    s->sum = t;
}

static double sum_of(const long_sum *s)
{
    return s->sum + s->lost;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

void heed_wilson_interval(int64_t right, int64_t n, double *low, double *high)
{
    const double z = NORMAL_975, count = (double)n, p = ratio((double)right, count);
    const double middle = p + z * z / (2 * count);
    const double half = z * sqrt(p * (1 - p) / count + z * z / (4 * count * count));

    *low = n > 0 && right > 0 ? fmax(0, (middle - half) / (1 + z * z / count)) : 0;
    *high = n > 0 && right < n ? fmin(1, (middle + half) / (1 + z * z / count)) : 1;
}

/* ---- what is measured ---- */

typedef struct samples {
    const float *p; /* [n, classes] */
    const int64_t *labels;
    int64_t n, classes;
} samples;

static heed_status check_types(samples *out, const heed_tensor *probability, const heed_tensor *labels,
                               heed_error *err)
{
    const heed_type *p = &probability->type, *y = &labels->type;

    if (p->dtype != HEED_F32 || y->dtype != HEED_I64)
        return heed__fail(err, HEED_ERR_DTYPE, "metrics need probabilities f32 and labels i64, not %s and %s",
                          heed_dtype_name(p->dtype), heed_dtype_name(y->dtype));
    if (p->rank != 2 || y->rank != 1 || heed_type_count(p) < 1 || y->dims[0] != p->dims[0])
        return heed__fail(err, HEED_ERR_SHAPE,
                          "metrics need probabilities [n,classes] and labels [n], at least one of each");
    if (p->dims[0] > UINT32_MAX)
        return heed__fail(err, HEED_ERR_LIMIT, "metrics of %lld samples: the most are %lld",
                          (long long)p->dims[0], (long long)UINT32_MAX);
    *out = (samples){ probability->data, labels->data, p->dims[0], p->dims[1] };
    return HEED_OK;
}

static heed_status check_row(const samples *s, int64_t i, heed_error *err)
{
    const float *p = s->p + i * s->classes;
    double sum = 0;

    if (s->labels[i] < 0 || s->labels[i] >= s->classes)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "metrics: label %lld of sample %lld, but there are %lld classes",
                          (long long)s->labels[i], (long long)i, (long long)s->classes);
    for (int64_t c = 0; c < s->classes; c++) {
        if (isnan(p[c]))
            return heed__fail(err, HEED_ERR_NUMERIC,
                              "metrics: the probability of class %lld of sample %lld is NaN", (long long)c,
                              (long long)i);
        if (!(p[c] >= 0 && p[c] <= 1))
            return heed__fail(
                err, HEED_ERR_LIMIT,
                "metrics: %g for class %lld of sample %lld is no probability; logits go through a "
                "softmax first",
                (double)p[c], (long long)c, (long long)i);
        sum += (double)p[c];
    }
    if (fabs(sum - 1) > ROW_TOLERANCE)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "metrics: the probabilities of sample %lld sum to %g, not to one", (long long)i,
                          sum);
    return HEED_OK;
}

static heed_status check_samples(samples *out, const heed_tensor *probability, const heed_tensor *labels,
                                 heed_error *err)
{
    TRY(check_types(out, probability, labels, err));
    for (int64_t i = 0; i < out->n; i++)
        TRY(check_row(out, i, err));
    return HEED_OK;
}

/* ---- thresholds, from the highest probability of a class down ---- */

typedef struct sweep {
    float *score;           /* [n] of one class */
    uint32_t *order, *room; /* [n] each: the highest score first */
    const int64_t *labels;
    int64_t n, of_class;
    int64_t at, tp, fp; /* samples passed, and of which kind */
} sweep;

static bool sweep_before(const void *scores, uint32_t a, uint32_t b)
{
    const float *score = scores;

    return score[a] > score[b];
}

static heed_status sweep_new(sweep *w, heap *h, const samples *s, heed_error *err)
{
    const size_t n = (size_t)s->n;

    *w = (sweep){ .labels = s->labels, .n = s->n };
    w->score = heed__alloc(h, n, sizeof *w->score);
    w->order = heed__alloc(h, n, sizeof *w->order);
    w->room = heed__alloc(h, n, sizeof *w->room);
    return w->score && w->order && w->room ? HEED_OK : heed__fail_memory(err, n * 3 * sizeof *w->order);
}

static void sweep_release(sweep *w, heap *h)
{
    heed__release(h, w->score);
    heed__release(h, w->order);
    heed__release(h, w->room);
}

static void sweep_rewind(sweep *w)
{
    w->at = w->tp = w->fp = 0;
}

static void sweep_start(sweep *w, const samples *s, int64_t of_class)
{
    for (int64_t i = 0; i < s->n; i++)
        w->score[i] = s->p[i * s->classes + of_class];
    heed__sort(w->order, w->room, (uint32_t)w->n, sweep_before, w->score);
    w->of_class = of_class;
    sweep_rewind(w);
}

/* Passes all samples of the next lower probability; false when there are none. */
static bool sweep_next(sweep *w, float *threshold)
{
    if (w->at >= w->n)
        return false;
    *threshold = w->score[w->order[w->at]];
    for (; w->at < w->n && !(w->score[w->order[w->at]] < *threshold); w->at++)
        if (w->labels[w->order[w->at]] == w->of_class)
            w->tp++;
        else
            w->fp++;
    return true;
}

/* ---- metrics ---- */

/* One block: what the caller gets stands first. */
typedef struct metrics_block {
    heed_metrics m;
    heed_class_metrics *per_class;
    int64_t *confusion;
} metrics_block;

static heed_status block_new(metrics_block **out, heap *h, const samples *s, heed_error *err)
{
    const size_t classes = (size_t)s->classes;
    size_t rows, cells, bytes;
    metrics_block *b;

    if (!heed__size_mul(&rows, classes, sizeof *b->per_class) || !heed__size_mul(&cells, classes, classes) ||
        !heed__size_mul(&cells, cells, sizeof *b->confusion) || !heed__size_add(&bytes, rows, cells) ||
        !heed__size_add(&bytes, bytes, sizeof *b))
        return heed__fail(err, HEED_ERR_LIMIT,
                          "metrics of %lld classes: their confusion is larger than memory",
                          (long long)s->classes);
    b = heed__alloc(h, 1, bytes);
    if (!b)
        return heed__fail_memory(err, bytes);
    b->per_class = (heed_class_metrics *)(b + 1);
    b->confusion = (int64_t *)(b->per_class + classes);
    b->m = (heed_metrics){
        .n = s->n, .classes = s->classes, .per_class = b->per_class, .confusion = b->confusion
    };
    *out = b;
    return HEED_OK;
}

/* Confusion, log loss and calibration: all that is said of one sample after the other. */
static void measure_samples(metrics_block *b, const samples *s)
{
    const double least = FLT_EPSILON, most = 1 - (double)FLT_EPSILON;
    long_sum loss = { 0, 0 }, confidence[ECE_BINS] = { { 0, 0 } }, ece = { 0, 0 };
    int64_t right[ECE_BINS] = { 0 };

    for (int64_t i = 0; i < s->n; i++) {
        const float *p = s->p + i * s->classes;
        int64_t best = 0;
        int bin = 0;

        for (int64_t c = 1; c < s->classes; c++)
            if (p[c] > p[best])
                best = c;
        b->confusion[s->labels[i] * s->classes + best]++;
        sum_add(&loss, -log(fmin(most, fmax(least, (double)p[s->labels[i]]))));
        while (bin + 1 < ECE_BINS && (double)p[best] > (bin + 1.0) / ECE_BINS)
            bin++;
        sum_add(&confidence[bin], (double)p[best]);
        right[bin] += best == s->labels[i];
    }
    for (int bin = 0; bin < ECE_BINS; bin++)
        sum_add(&ece, fabs((double)right[bin] - sum_of(&confidence[bin])));
    b->m.log_loss = sum_of(&loss) / (double)s->n;
    b->m.ece = sum_of(&ece) / (double)s->n;
}

/* Support and predicted from the confusion, and what follows from counts. */
static void measure_counts(metrics_block *b)
{
    heed_metrics *m = &b->m;
    const double classes = (double)m->classes;
    int64_t right = 0, most = 0, present = 0;

    for (int64_t i = 0; i < m->classes; i++)
        for (int64_t j = 0; j < m->classes; j++) {
            b->per_class[i].support += b->confusion[i * m->classes + j];
            b->per_class[j].predicted += b->confusion[i * m->classes + j];
        }
    for (int64_t i = 0; i < m->classes; i++) {
        heed_class_metrics *c = &b->per_class[i];
        const int64_t hits = b->confusion[i * m->classes + i];
        const double share = (double)c->support / (double)m->n;

        c->precision = ratio((double)hits, (double)c->predicted);
        c->recall = ratio((double)hits, (double)c->support);
        c->f1 = ratio(2 * (double)hits, (double)c->support + (double)c->predicted);
        m->macro.precision += c->precision / classes;
        m->macro.recall += c->recall / classes;
        m->macro.f1 += c->f1 / classes;
        m->weighted.precision += share * c->precision;
        m->weighted.f1 += share * c->f1;
        m->balanced_accuracy += c->recall;
        right += hits;
        present += c->support > 0;
        most = i64_max(most, c->support);
    }
    m->accuracy = (double)right / (double)m->n;
    m->weighted.recall = m->accuracy; /* sum support / n * hits / support */
    m->balanced_accuracy /= (double)present;
    m->majority = (double)most / (double)m->n;
    m->micro = (heed_prf){ m->accuracy, m->accuracy, m->accuracy };
}

/* Area under ROC, and average precision, of one class. */
static void measure_ranking(heed_class_metrics *c, sweep *w)
{
    const double of = (double)c->support, others = (double)(w->n - c->support);
    uint64_t twice_area = 0; /* at most 2 P N < 2^63 */
    long_sum ap = { 0, 0 };
    float threshold;

    for (int64_t tp = 0, fp = 0; sweep_next(w, &threshold); tp = w->tp, fp = w->fp) {
        twice_area += (uint64_t)(w->fp - fp) * (uint64_t)(tp + w->tp);
        sum_add(&ap, (double)(w->tp - tp) * ((double)w->tp / (double)w->at));
    }
    c->roc_auc = of > 0 && others > 0 ? (double)twice_area / (2 * of * others) : (double)NAN;
    c->average_precision = of > 0 ? sum_of(&ap) / of : (double)NAN;
}

static void measure_rankings(metrics_block *b, sweep *w, const samples *s)
{
    long_sum auc = { 0, 0 }, ap = { 0, 0 };
    double aucs = 0, aps = 0;

    for (int64_t i = 0; i < s->classes; i++) {
        heed_class_metrics *c = &b->per_class[i];

        sweep_start(w, s, i);
        measure_ranking(c, w);
        if (!isnan(c->roc_auc)) {
            sum_add(&auc, c->roc_auc);
            aucs++;
        }
        if (!isnan(c->average_precision)) {
            sum_add(&ap, c->average_precision);
            aps++;
        }
    }
    b->m.roc_auc = aucs > 0 ? sum_of(&auc) / aucs : (double)NAN;
    b->m.average_precision = aps > 0 ? sum_of(&ap) / aps : (double)NAN;
}

heed_status heed_metrics_new(heed_metrics **out, heed_context *ctx, heed_tensor probability,
                             heed_tensor labels, heed_error *err)
{
    metrics_block *b = NULL;
    sweep w = { .score = NULL };
    samples s;
    heed_status st;

    TRY(check_samples(&s, &probability, &labels, err));
    STEP(block_new(&b, ctx->heap, &s, err));
    STEP(sweep_new(&w, ctx->heap, &s, err));
    measure_samples(b, &s);
    measure_counts(b);
    measure_rankings(b, &w, &s);
    *out = &b->m;
    b = NULL;
done:
    sweep_release(&w, ctx->heap);
    heed__release(ctx->heap, b);
    return st;
}

void heed_metrics_free(heed_context *ctx, heed_metrics *m)
{
    heed__release(ctx->heap, m);
}

/* ---- curves ---- */

static void curve_fill(heed_curve *c, heed_curve_kind kind, sweep *w, double of, double others)
{
    /* PR runs from the lowest threshold up, so it is filled from its end. */
    const bool roc = kind == HEED_CURVE_ROC;
    const int64_t step = roc ? 1 : -1;
    int64_t i = roc ? 0 : c->n - 1;
    float threshold;

    c->x[i] = (roc ? others : of) > 0 ? 0 : (double)NAN;
    c->y[i] = !roc ? 1 : of > 0 ? 0 : (double)NAN;
    c->threshold[i] = (double)INFINITY;
    while (sweep_next(w, &threshold)) {
        const double recall = of > 0 ? (double)w->tp / of : (double)NAN;

        i += step;
        c->threshold[i] = (double)threshold;
        c->x[i] = !roc ? recall : others > 0 ? (double)w->fp / others : (double)NAN;
        c->y[i] = roc ? recall : (double)w->tp / (double)w->at;
    }
}

heed_status heed_curve_make(heed_curve *out, heed_context *ctx, heed_curve_kind kind, heed_tensor probability,
                            heed_tensor labels, int64_t of_class, heed_error *err)
{
    heed_curve c = { .n = 1 };
    sweep w = { .score = NULL };
    float threshold;
    samples s;
    heed_status st;

    TRY(check_samples(&s, &probability, &labels, err));
    if (kind != HEED_CURVE_ROC && kind != HEED_CURVE_PR)
        return heed__fail(err, HEED_ERR_USAGE, "%d is no kind of curve: ROC is 0, PR is 1", (int)kind);
    if (of_class < 0 || of_class >= s.classes)
        return heed__fail(err, HEED_ERR_LIMIT, "a curve of class %lld: there are classes 0 to %lld",
                          (long long)of_class, (long long)s.classes - 1);
    STEP(sweep_new(&w, ctx->heap, &s, err));
    sweep_start(&w, &s, of_class);
    while (sweep_next(&w, &threshold))
        c.n++;
    c.x = heed__alloc(ctx->heap, (size_t)c.n, 3 * sizeof *c.x);
    if (!c.x) {
        st = heed__fail_memory(err, (uint64_t)c.n * 3 * sizeof *c.x);
        goto done;
    }
    c.y = c.x + c.n;
    c.threshold = c.y + c.n;
    sweep_rewind(&w);
    {
        int64_t of = 0;

        for (int64_t i = 0; i < s.n; i++)
            of += s.labels[i] == of_class;
        curve_fill(&c, kind, &w, (double)of, (double)(s.n - of));
    }
    *out = c;
done:
    sweep_release(&w, ctx->heap);
    return st;
}

void heed_curve_release(heed_context *ctx, heed_curve *c)
{
    heed__release(ctx->heap, c->x);
    *c = (heed_curve){ 0 };
}
