/* heed/doctor.h: mistakes that train without a word: a table of rules, each with what it measures, its
 * bound, why that bound, and what to do. A finding names rule, place and number. */
#ifndef HEED_DOCTOR_H
#define HEED_DOCTOR_H

#include <heed/data.h>
#include <heed/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_severity {
    HEED_SEVERITY_NOTE = 0, /**< may be meant; worth a look */
    HEED_SEVERITY_WARNING,  /**< costs quality */
    HEED_SEVERITY_FAULT     /**< the numbers are wrong or mean something else */
} heed_severity;
/** "note", "warning", "fault". */
HEED_API const char *heed_severity_name(heed_severity s);

/** One rule. Texts live as long as the program. */
typedef struct heed_doctor_rule {
    const char *name; /**< "double-softmax"; NULL ends the table */
    heed_severity severity;
    const char *looks_at; /**< "training graph" */
    const char *finds;    /**< what is measured and when it is a finding */
    double threshold;
    const char *why; /**< why this bound */
    const char *remedy;
} heed_doctor_rule;
/** All rules, ended by a row without a name. */
HEED_API const heed_doctor_rule *heed_doctor_rules(void);
/** The rule of that name, or NULL. */
HEED_API const heed_doctor_rule *heed_doctor_rule_find(const char *name);

typedef struct heed_finding {
    const heed_doctor_rule *rule;
    char place[192]; /**< "stem.0", "epoch 7", "validation sample 12" */
    char text[256];  /**< one sentence with the numbers */
    double measured; /**< to compare with rule->threshold */
} heed_finding;

/** A row of a training's history: an epoch, or a step of a trial. NaN: not known; of train_loss, that it was none. */
typedef struct heed_history_row {
    int64_t epoch; /**< from 1 */
    double train_loss, validation_loss, lr, grad_norm;
    double validation_accuracy, seconds; /**< since training began */
    double peak_bytes;                   /**< of the context's memory, so far */
} heed_history_row;

/** Whether the loss makes up for rare classes. A loss of one's own is taken to. */
typedef enum heed_weighing { HEED_WEIGHS_ALIKE = 0, HEED_WEIGHS_CLASSES } heed_weighing;

/** What a model of sequences is said to be. */
typedef enum heed_direction {
    HEED_DIRECTION_UNSAID = 0,
    HEED_DIRECTION_CAUSAL,    /**< a decoder: the result at a time depends on tokens up to that time alone */
    HEED_DIRECTION_BOTH_SIDES /**< an encoder: every position may see all others */
} heed_direction;

/** Sequences, for models whose inputs no loader makes: tensors in the order of the build function. Axis 0 of each counts
 * sequences; n of them, T tokens each. What lies beyond a sequence's length may be anything. */
typedef struct heed_doctor_sequences {
    const heed_tensor *inputs;
    int n_inputs;             /**< at most 8 */
    int tokens;               /**< which input has the tokens: i64 ids, or f32 */
    int time;                 /**< the axis of it that is time; 0: 1 */
    heed_maybe_i64 lengths;   /**< which input says how many of its tokens each sequence has: i64 [n], 0 .. T */
    heed_maybe_i64 result_time; /**< the axis of the result that is time, of size T; not set: it has none */
    heed_direction direction;
    int64_t vocabulary; /**< ids are 0 .. vocabulary-1; 0: up to the largest that is shown */
    heed_tensor target; /**< what the loss takes; without data no rule looks at the loss */
} heed_doctor_sequences;

/** What is examined; all of it is borrowed. What is missing is not looked at. */
typedef struct heed_doctor_case {
    heed_model *model;
    heed_loader *samples;              /**< what the model is shown; also the batches of a trial */
    const heed_doctor_sequences *sequences; /**< what it is shown in place of samples */
    const heed_trainer_opts *training; /**< loss and optimiser; NULL: cross-entropy of logits, and no trial */
    const heed_history_row *history;   /**< by epoch; NULL: a trial on a copy of the weights stands for it */
    int64_t n_history;
    const heed_dataset *data; /**< for duplicates and classes, with the parts as sample numbers */
    const int64_t *train, *validation;
    int64_t n_train, n_validation;
    heed_weighing weighing;
} heed_doctor_case;

typedef struct heed_doctor_opts {
    int64_t samples; /**< shown to the model; 0: 256 */
    int64_t trial;   /**< steps of a trial; 0: 40; -1: none */
} heed_doctor_opts;

typedef struct heed_diagnosis {
    int64_t n;
    const heed_finding *findings; /**< in the order of the rules */
    uint64_t looked;              /**< bit i: rule i had something to look at */
    int64_t samples;              /**< shown to the model */
} heed_diagnosis;

/** Looks for every rule of the table. The model's weights stay as they are; those that training has and
 * evaluation lacks are made. *out: heed_diagnosis_free. */
HEED_MUST_CHECK HEED_API heed_status heed_doctor(heed_diagnosis **out, heed_context *ctx,
                                                 const heed_doctor_case *c, const heed_doctor_opts *opts,
                                                 heed_error *err);
HEED_API void heed_diagnosis_free(heed_context *ctx, heed_diagnosis *d);

#ifdef __cplusplus
}
#endif
#endif
