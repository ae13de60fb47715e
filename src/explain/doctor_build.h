/* The model and its loss in a builder that is still open, so that a rule can read its nodes and add outputs. */
#ifndef EXPLAIN_DOCTOR_BUILD_H
#define EXPLAIN_DOCTOR_BUILD_H

#include "explain/doctor.h"
#include "ops/ops.h"

typedef struct doctor_build {
    heed_builder *b; /* owned by the caller on success */
    heed_value result;
    uint32_t loss_begin; /* the first node of the loss */
} doctor_build;

/* For `batch` samples of d's shape. */
heed_status heed__doctor_build(doctor_build *out, doctor *d, heed_mode mode, int64_t batch);

/* Where a node stands, for people: its scope; "after fc" at the top, where fc is the nearest layer before it. */
const char *heed__doctor_place(char to[192], const heed_graph *g, const node *n);

#endif
