/* Everything that is proved about an op, from the samples beside it. One rule decides whether numbers agree:
 *
 *     |got - want| <= atol max(1, max|want| over the finite elements of that tensor) + rtol |want|
 *
 * with atol 1e-5, rtol 1e-4 for f32 against the f64 reference; 1e-3 both for f16 and 1.6e-2 both for bf16, whose inputs are rounded
 * first. A number beyond the dtype's range must become the infinity of its sign, NaN must be NaN, integers and bools are equal.
 * A gradient by differences (f64, central, eps 1e-6) agrees within 1e-7 max(1, sum |terms|) + 1e-5 |want|, where the
 * terms are those of the sum over coordinates that a direction takes (one for a single coordinate).
 *
 * What is derived from a sample, and the name of its column:
 *
 *   refused   a sample that must be refused is, with that code and a sentence
 *   f64       the f64 run with reference kernels, all composites open: the reference of all below
 *   level     f32, fast kernels, on every level of this CPU, against it
 *   fused     f32, fast kernels, against f32 with everything decomposed
 *   half      f16 and bf16 against f64
 *   grad      f64 gradient against differences: at most 64 coordinates (8 where a run is long) and 4 directions an input
 *   grad2     gradient of the gradient, the same way
 *   grad32    f32 gradient, fast kernels, on every level, against f64
 *   threads   1, 2 and 7 threads, other contents of the block: same bytes, gradients too
 *   views     inputs that arrive permuted, spread, as a part, repeated, or free to be overwritten: same bytes
 *   kernel    each kernel alone between pages that fault: operands at either end of a page, with gaps, chunks in either
 *             order, other contents of scratch, one output at a time, in place: same bytes, and the numbers of f64
 *   zero      every size set to 0 in turn: refused with a sentence, or run with the numbers of f64
 *   index     an index that is out of range: HEED_ERR_LIMIT naming element and value, and no access outside
 *   memory    every allocation of build, plan, bind and run fails in turn
 *
 * Every run also looks at the bytes around inputs, outputs and the block. */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include "graph/op.h"

#include <stdio.h>

typedef enum harness_check {
    CHECK_REFUSED,
    CHECK_REFERENCE,
    CHECK_LEVEL,
    CHECK_FUSED,
    CHECK_HALF,
    CHECK_GRADIENT,
    CHECK_SECOND,
    CHECK_GRADIENT32,
    CHECK_THREADS,
    CHECK_VIEWS,
    CHECK_KERNEL,
    CHECK_ZERO,
    CHECK_INDEX,
    CHECK_MEMORY,
    HARNESS_CHECKS
} harness_check;

typedef struct harness_cell {
    int done, bad;
    double worst; /* largest share of the allowed error; 1 is the limit */
} harness_cell;

#define HARNESS_TEXTS 12

typedef struct harness_row {
    const op_def *op;
    int samples, levels_run, levels_skipped;
    harness_cell check[HARNESS_CHECKS];
    const char *note; /* why a column is empty, or NULL */
    char text[HARNESS_TEXTS][240];
    int texts, bad;
    int sample;          /* being tried */
    harness_check doing; /* what is being tried: for the report of a crash */
} harness_row;

typedef struct harness {
    heed_context *one, *two, *seven;        /* threads, the best level */
    heed_context *level[HEED_ISA_NEON + 1]; /* NULL: this CPU lacks it */
} harness;

void harness_open(harness *h);
void harness_close(harness *h);

void harness_op(harness *h, const op_def *op, harness_row *row);

/* The same in a process of its own: a crash is one more thing that is wrong with the op. */
void harness_op_apart(const op_def *op, harness_row *row);

void harness_print_head(FILE *to);
void harness_print(FILE *to, const harness_row *row); /* one line, and one for each thing that is wrong */
void harness_print_levels(FILE *to, const harness *h);

/* Largest share of the allowed error; INFINITY where infinities, NaN or integers differ. */
double harness_share(const heed_type *type, const double *got, const double *want, double atol, double rtol);

#endif
