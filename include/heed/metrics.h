/* heed/metrics.h: what is said of a classifier, by scikit-learn's names and definitions. */
#ifndef HEED_METRICS_H
#define HEED_METRICS_H

#include <heed/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One class against all others. A ratio whose denominator is zero is 0, as with zero_division=0: recall and f1 of a
 * class without samples, precision of one that is never named. roc_auc is NaN when the class has no sample or all of
 * them, average_precision when it has none. */
typedef struct heed_class_metrics {
    int64_t support, predicted; /**< samples of the class; samples named so */
    double precision, recall, f1, roc_auc, average_precision;
} heed_class_metrics;

typedef struct heed_prf {
    double precision, recall, f1;
} heed_prf;

typedef struct heed_metrics {
    int64_t n, classes;
    double accuracy;
    double balanced_accuracy; /**< mean recall of the classes that have samples */
    double log_loss;          /**< mean of -ln p[label]; p is kept within [2^-23, 1 - 2^-23], scikit-learn's bounds for f32,
                                   but logarithm and mean are those of f64 */
    double majority;          /**< accuracy of always naming the commonest class of these labels */
    double ece;               /**< expected calibration error: bins (i/15, (i+1)/15] of the largest p. Guo 2017 */
    double roc_auc;           /**< one-vs-rest, mean over the classes where it is defined; NaN: none */
    double average_precision; /**< the same mean */
    heed_prf macro, micro, weighted; /**< over all classes; micro is accuracy three times */
    const heed_class_metrics *per_class; /**< [classes] */
    const int64_t *confusion;            /**< [classes, classes], row = true class */
} heed_metrics;

/** Metrics of probabilities f32 [n,classes] and labels i64 [n], n >= 1. The predicted class is the first of the largest.
 * HEED_ERR_SHAPE, HEED_ERR_DTYPE; HEED_ERR_LIMIT for a label outside 0 .. classes - 1, a number outside 0 .. 1 and a row
 * whose sum is not one to 1e-3 (logits, for example); HEED_ERR_NUMERIC for NaN; each names the sample.
 * *out: heed_metrics_free. */
HEED_MUST_CHECK HEED_API heed_status heed_metrics_new(heed_metrics **out, heed_context *ctx, heed_tensor probability,
                                                      heed_tensor labels, heed_error *err);
HEED_API void heed_metrics_free(heed_context *ctx, heed_metrics *m);

/** The interval that holds the true share of successes with probability 95 %, when `right` of `n` succeeded. Wilson
 * 1927: it stays within [0, 1] and is sound for few samples and for shares near 0 and 1. n 0: 0 and 1. */
HEED_API void heed_wilson_interval(int64_t right, int64_t n, double *low, double *high);

/** A curve of one class against all others, a point for every different probability (scikit-learn's with
 * drop_intermediate=False); threshold[i] belongs to point i: those of at least that probability are called the class.
 *
 *   ROC  x = false positive rate, y = recall, from (0, 0) with threshold +inf to (1, 1), threshold falling
 *   PR   x = recall, y = precision, threshold rising, ended by (0, 1) with threshold +inf
 *
 * A rate without samples (no sample of the class: recall; no other sample: false positives) is NaN at all points. The
 * arrays are one block, given back by heed_curve_release. Errors as heed_metrics_new; HEED_ERR_LIMIT for no such class. */
typedef enum heed_curve_kind { HEED_CURVE_ROC = 0, HEED_CURVE_PR } heed_curve_kind;
typedef struct heed_curve {
    int64_t n;
    double *x, *y, *threshold;
} heed_curve;
HEED_MUST_CHECK HEED_API heed_status heed_curve_make(heed_curve *out, heed_context *ctx, heed_curve_kind kind,
                                                     heed_tensor probability, heed_tensor labels, int64_t of_class,
                                                     heed_error *err);
HEED_API void heed_curve_release(heed_context *ctx, heed_curve *c);

#ifdef __cplusplus
}
#endif
#endif
