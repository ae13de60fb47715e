/* A diagnosis under way, as the files of the doctor share it. doctor.c holds the table and goes through the
 * groups: doctor_graph.c and doctor_attention.c read the graph of training; doctor_watch.c and doctor_rows.c
 * run the model with more outputs, by doctor_build.c; doctor_sequences.c changes tokens and compares;
 * doctor_curve.c reads the history or makes one, doctor_data.c looks at inputs, labels and duplicates. */
#ifndef EXPLAIN_DOCTOR_H
#define EXPLAIN_DOCTOR_H

#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include <heed/doctor.h>

/* The places of the rules in the table. */
typedef enum doctor_rule {
    RULE_NOT_FINITE,
    RULE_NAN_ORIGIN,
    RULE_SELF_TEST,
    RULE_DOUBLE_SOFTMAX,
    RULE_ATTENTION_SCALE,
    RULE_SCALE_TWICE,
    RULE_DISTANCE_SIGN,
    RULE_CAUSAL_ENCODER,
    RULE_GROWING_LOSS,
    RULE_EXPLODING_GRADIENT,
    RULE_CONSTANT_RATE,
    RULE_DEAD_UNITS,
    RULE_DEAD_HEADS,
    RULE_ROWS_UNIFORM,
    RULE_ENTROPY_COLLAPSE,
    RULE_SATURATED_SCORES,
    RULE_MASK_POLARITY,
    RULE_PADDING_SEEN,
    RULE_FUTURE_SEEN,
    RULE_CONSTANT_PREDICTIONS,
    RULE_RAW_INPUTS,
    RULE_CLASS_IMBALANCE,
    RULE_OVERLAP,
    RULE_COUNT
} doctor_rule;

#define DOCTOR_INPUTS 8

typedef struct diagnosis {
    heed_diagnosis told;    /* first, so that the caller's pointer is this one's */
    heed_finding *findings; /* owned; told.findings */
    int64_t room;
} diagnosis;

typedef struct doctor {
    heed_context *ctx;
    const heed_doctor_case *c;
    heed_error *err;
    diagnosis *d;
    double threshold[RULE_COUNT];
    int64_t trial;             /* steps */
    heed_tensor x, y;          /* samples f32 [n,...] and labels i64 [n] of a loader; owned */
    int64_t n;                 /* samples or sequences */
    heed_tensor in[DOCTOR_INPUTS + 1]; /* what the model takes, [n,...] each, and then what the loss takes; borrowed */
    int n_in, n_all;                   /* without and with the target; equal when there is none */
    int64_t steps;                     /* T of sequences */
    heed_history_row *history; /* of a trial; owned */
} doctor;

/* Marks a rule as looked at. */
void heed__doctor_looked(doctor *d, doctor_rule rule);
/* Was it found already? place NULL: anywhere. */
bool heed__doctor_found(const doctor *d, doctor_rule rule, const char *place);
/* Adds a finding: `format` makes its sentence. */
heed_status heed__doctor_find(doctor *d, doctor_rule rule, double measured, const char *place,
                              const char *format, ...) HEED_PRINTF(5, 6);

/* The same for those above this room: run_doctor.c adds what it found itself, in the order of the table. */
heed_status heed__diagnosis_add(heed_diagnosis *to, heed_context *ctx, doctor_rule rule, double measured,
                                const char *place, const char *text, heed_error *err);
void heed__diagnosis_looked(heed_diagnosis *to, doctor_rule rule);

/* The groups. */
heed_status heed__doctor_weights(doctor *d);
heed_status heed__doctor_graph(doctor *d);
heed_status heed__doctor_finite(doctor *d);
heed_status heed__doctor_watch(doctor *d);
heed_status heed__doctor_rows(doctor *d);
heed_status heed__doctor_sequences(doctor *d);
heed_status heed__doctor_curve(doctor *d);
heed_status heed__doctor_inputs(doctor *d);
heed_status heed__doctor_classes(doctor *d);
heed_status heed__doctor_overlap(doctor *d);

#endif
