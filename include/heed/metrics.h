/* heed/metrics.h: what is said of a classifier, by scikit-learn's names and definitions. */
#ifndef HEED_METRICS_H
#define HEED_METRICS_H

#include <heed/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One class against all others. NaN where it is not defined (no sample of the class: recall, f1 are 0 as
 * zero_division=0 gives; roc_auc and average_precision are NaN). */
typedef struct heed_class_metrics {
    int64_t support, predicted; /**< samples of the class; samples named so */
    double precision, recall, f1, roc_auc, average_precision;
} heed_class_metrics;

typedef struct heed_prf {
    double precision, recall, f1;
} heed_prf;

typedef struct heed_metrics {
    int64_t n, classes;
    double accuracy, balanced_accuracy, log_loss;
    double majority;          /**< accuracy of always naming the commonest class of these labels */
    double ece;               /**< expected calibration error, 15 bins of equal width. Guo 2017 */
    double roc_auc;           /**< one-vs-rest, mean over the classes where it is defined */
    double average_precision; /**< the same mean */
    heed_prf macro, micro, weighted;
    const heed_class_metrics *per_class; /**< [classes] */
    const int64_t *confusion;            /**< [classes, classes], row = true class */
} heed_metrics;

/** Metrics of probabilities f32 [n,classes] (rows sum to one) and labels i64 [n], 0 <= label < classes
 * (HEED_ERR_LIMIT). The predicted class is the first of the largest. *out: heed_metrics_free. */
HEED_MUST_CHECK HEED_API heed_status heed_metrics_new(heed_metrics **out, heed_context *ctx, heed_tensor probability,
                                                      heed_tensor labels, heed_error *err);
HEED_API void heed_metrics_free(heed_context *ctx, heed_metrics *m);

/** A curve of one class against all others. ROC: x = false positive rate, y = recall, from (0,0); PR: x = recall,
 * y = precision, threshold falling, ended by recall 0, precision 1 as scikit-learn's. threshold[i] belongs to point i
 * (ROC: the first is +inf). Arrays in one block, given back by heed_curve_release. */
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
