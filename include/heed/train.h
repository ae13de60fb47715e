/* heed/train.h: training. A step - forward, gradient, clipping, optimiser, state - is one graph run by one
 * plan. */
#ifndef HEED_TRAIN_H
#define HEED_TRAIN_H

#include <heed/data.h>
#include <heed/model.h>
#include <heed/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_optimizer { HEED_SGD = 0, HEED_RMSPROP, HEED_ADAM, HEED_ADAMW } heed_optimizer;
typedef enum heed_decay { HEED_DECAY_ALL = 0, HEED_DECAY_MATRICES } heed_decay;

/** Loss from the network's result and the target. NULL in the options: mean cross-entropy of logits
 * [B,C,...]. */
typedef heed_value heed_loss_fn(heed_builder *b, heed_value result, heed_value target, const void *config);

typedef struct heed_trainer_opts {
    heed_optimizer optimizer;
    heed_maybe_f32 lr;           /**< defaults are PyTorch's: 1e-3; RMSprop 1e-2 */
    heed_maybe_f32 weight_decay; /**< 0; AdamW 0.01 */
    heed_decay decay;            /**< MATRICES: tensors of rank >= 2 only */
    heed_maybe_f32 momentum, beta1, beta2, eps, alpha;
    bool nesterov, amsgrad;
    float clip_norm;       /**< bound of the gradient's norm; 0: none */
    int64_t accumulate;    /**< micro-batches a step; 0: 1 */
    float label_smoothing; /**< of the default loss */
    heed_loss_fn *loss;
    const void *loss_config;
    float ema; /**< decay of an exponential moving average of the weights; 0: none. See heed_trainer_swap_average */
    const char *const *frozen; /**< patterns of parameters left alone, "stem.*", ended by NULL */
} heed_trainer_opts;

typedef struct heed_trainer heed_trainer;

/** A trainer of the model (borrowed). Moments live in the model's weights as optimizer.exp_avg.<name> and so
 * on. */
HEED_MUST_CHECK HEED_API heed_status heed_trainer_new(heed_trainer **out, heed_model *m,
                                                      const heed_trainer_opts *opts, heed_error *err);
HEED_API void heed_trainer_free(heed_trainer *t);

/** One step (or one micro-batch of it) on inputs and target. *loss (may be NULL) is that of before the step.
 * HEED_ERR_NUMERIC when the loss or the gradient's norm is not finite: nothing was changed and err names the
 * first bad node; with accumulation, sums that are not finite are forgotten. */
HEED_MUST_CHECK HEED_API heed_status heed_trainer_step(heed_trainer *t, const heed_tensor *inputs,
                                                       int n_inputs, const heed_tensor *target, float *loss,
                                                       heed_error *err);
/** Makes the plan for steps on these types, and with it every moment that such a step keeps: what a file of moments is
 * loaded into. A step does so by itself. */
HEED_MUST_CHECK HEED_API heed_status heed_trainer_prepare(heed_trainer *t, const heed_type *inputs, int n_inputs,
                                                          const heed_type *target, heed_error *err);
/** Exchanges the trained parameters with their averages (states ema.<name>; after step 1 the parameters, then
 * ema + (1 - decay) (parameter - ema), as PyTorch's AveragedModel). Call it again to go on with training. Running
 * statistics are not averaged. Without options.ema, or before the first step, nothing happens. */
HEED_API void heed_trainer_swap_average(heed_trainer *t);
HEED_API void heed_trainer_set_lr(heed_trainer *t, float lr);
HEED_API float heed_trainer_lr(const heed_trainer *t);
HEED_API float heed_trainer_grad_norm(const heed_trainer *t); /**< of the last step, before clipping */
HEED_API int64_t heed_trainer_steps(const heed_trainer *t);   /**< whole steps since the trainer was made */
/** Records later steps in the profile (borrowed); NULL: nothing. */
HEED_API void heed_trainer_profile(heed_trainer *t, heed_profile *p);
/** Bytes of the training plan for the shapes of the last step. */
HEED_API heed_plan_report heed_trainer_report(const heed_trainer *t);

/* ---- schedules ---- */

typedef enum heed_schedule_kind {
    HEED_SCHEDULE_CONSTANT = 0,
    HEED_SCHEDULE_COSINE,
    HEED_SCHEDULE_LINEAR,
    HEED_SCHEDULE_STEP,
    HEED_SCHEDULE_PLATEAU,  /**< constant here; heed_plateau_next says when `lr` falls */
    HEED_SCHEDULE_ONE_CYCLE /**< PyTorch's OneCycleLR with cosines; it has a rise of its own in place of `warmup` */
} heed_schedule_kind;
typedef struct heed_schedule {
    heed_schedule_kind kind;
    double lr;
    int64_t warmup, steps; /**< linear from lr/warmup to lr, then the kind's fall until `steps` */
    int64_t every;         /**< STEP: times `gamma` every so many steps */
    double gamma;          /**< 0: 0.1 */
    double least;          /**< the fall ends here */
    double rise;           /**< ONE_CYCLE: share of the steps that rise; 0: 0.3 */
    double div, final_div; /**< ONE_CYCLE: it begins at lr / div (0: 25) and ends at lr / div / final_div (0: 1e4) */
} heed_schedule;
/** Rate of step 0, 1, ...; NaN when `kind` is none of the kinds. */
HEED_API double heed_schedule_lr(const heed_schedule *s, int64_t step);

/** PyTorch's ReduceLROnPlateau, relative threshold: lr becomes max(least, lr * factor) after more than `patience` values
 * in a row that were not better than the best one. */
typedef struct heed_plateau {
    double factor;    /**< PyTorch: 0.1 */
    int64_t patience; /**< PyTorch: 10 */
    double threshold; /**< better is below best (1 - threshold), or with `rises` above best (1 + threshold); PyTorch: 1e-4 */
    double least;
    bool rises;    /**< the value is one that should rise, such as accuracy */
    double lr;     /**< the rate now; set it before the first value */
    double best;   /**< the rest is the rule's own */
    int64_t bad;
    bool begun;
} heed_plateau;
/** Takes the value of an epoch and returns the rate from there on. NaN is never better. */
HEED_API double heed_plateau_next(heed_plateau *p, double value);

/** Something odd that ends nothing: a sentence. */
typedef void heed_notice_fn(void *user, const char *sentence);

/* ---- evaluation ---- */

/** What a model says of samples whose labels are known. The arrays are owned: heed_evaluation_release. They are what
 * heed_metrics_new and heed_curve_make take, so that every number and "worst mistakes" come from one run. */
typedef struct heed_evaluation {
    int64_t n, classes;
    double loss, accuracy;     /**< loss: mean cross-entropy of the logits */
    double accuracy_mirror;    /**< of the mean probabilities of picture and mirror image; -1: not asked for */
    int64_t *confusion;        /**< [classes * classes], row = true class */
    float *probability;        /**< [n * classes] in the loader's order, of one pass; NULL when n is 0 */
    float *probability_mirror; /**< the same, mean over picture and mirror image; NULL: not asked for */
    int64_t *labels;           /**< [n] */
    char part[256];            /**< which samples these are, for people: heed_run_evaluate says; else "" */
} heed_evaluation;
typedef enum heed_average { HEED_AVERAGE_NONE = 0, HEED_AVERAGE_MIRROR } heed_average;
/** Runs the model over the loader's samples in order: 4 * classes bytes of memory a sample (8 with the mirror). */
HEED_MUST_CHECK HEED_API heed_status heed_evaluate(heed_evaluation *out, heed_model *m, heed_loader *l,
                                                   heed_average average, heed_error *err);
HEED_API void heed_evaluation_release(heed_context *ctx, heed_evaluation *e);
/** The arrays as tensors for heed/metrics.h: f32 [n,classes] and i64 [n], borrowed from e. MIRROR: the averaged
 * probabilities, or those of one pass when there are none. */
HEED_API void heed_evaluation_tensors(const heed_evaluation *e, heed_average average, heed_tensor *probability,
                                      heed_tensor *labels);

#ifdef __cplusplus
}
#endif
#endif
