/* Row primitives: the vector code below every element-wise op, reduction and norm. One table per instruction
 * level.
 *
 * map primitives work on n elements; a step of 0 repeats the first element, 1 is dense. y may be the same
 * memory as an input of step 1. Names and order: cpu/rows.def. */
#ifndef CPU_ROWS_H
#define CPU_ROWS_H

#include "cpu/view.h"

struct rng; /* base/rng.h */

#define ROWS_MAX 16 /* rows handled by one call of a block primitive */

typedef enum row_unary {
#define ROW_UNARY(name) ROW_##name,
#define ROW_BINARY(name)
#include "cpu/rows.def"
#undef ROW_UNARY
#undef ROW_BINARY
    ROW_UNARY_COUNT
} row_unary;

typedef enum row_binary {
#define ROW_UNARY(name)
#define ROW_BINARY(name) ROW_##name,
#include "cpu/rows.def"
#undef ROW_UNARY
#undef ROW_BINARY
    ROW_BINARY_COUNT
} row_binary;

/* A block of `count` rows of n floats, `stride` floats apart. */
typedef struct rows {
    float *data;
    int64_t count, n, stride;
} rows;

typedef struct row_ops {
    /* y[i] = f(x[i]) */
    void (*unary[ROW_UNARY_COUNT])(float *y, const float *x, int64_t n);
    /* y[i] = f(a[i * as], b[i * bs]); as, bs are 0 or 1 */
    void (*binary[ROW_BINARY_COUNT])(float *y, const float *a, int64_t as, const float *b, int64_t bs,
                                     int64_t n);

    /* At most ROWS_MAX rows from `begin` on, none from `end` on, of a view of f32, f16 or bf16, all leading
     * axes flattened: the view's own memory where the rows are f32, dense and equally spaced, else widened or
     * gathered into scratch (heed__rows_scratch_bytes). `out` gives the place for results, which `commit`
     * takes to the view: it narrows what lies in scratch and does nothing for f32 in place. A view without
     * memory has scratch rows that commit drops. Any other dtype gives no rows. */
    rows (*in)(const view *v, int64_t begin, int64_t end, void *scratch);
    rows (*out)(const view *v, int64_t begin, int64_t end, void *scratch);
    void (*commit)(const view *v, int64_t begin, rows y);

    /* Reductions: one number a row. Element i goes to lane i mod 4 VL, lanes are added at fixed borders and
     * in a fixed tree: the order knows neither the number of rows nor where they lie, and zeros after a row
     * change no bit. */
    void (*max)(float *m, rows x); /* -inf for an empty row; NaN if one is there */
    void (*sum)(float *s, rows x);
    void (*dot)(float *s, rows x, rows y);
    void (*sum_squares)(float *s, rows x, const float *mean); /* sum (x - mean)^2; mean NULL: 0 */

    void (*exp_sum)(rows y, float *sum, rows x, const float *m);      /* y = exp(x - m), sum of y */
    void (*divide)(rows y, const float *s);                           /* y /= s */
    void (*subtract)(rows y, rows x, const float *s);                 /* y = x - s */
    void (*softmax_grad)(rows dx, rows y, rows dy, const float *dot); /* dx = y * (dy - dot) */
    void (*normalize)(rows y, rows x, const float *mean, const float *rstd, const float *weight,
                      const float *bias); /* y = (x - mean) * rstd * weight + bias; each may be NULL */
    void (*add_scaled)(float *y, const float *x, float a, int64_t n); /* y += a * x */
    void (*scale_to)(float *y, const float *x, float a, int64_t n);   /* y = a * x */
    float (*total)(const float *x, int64_t n); /* sum of n floats, the order of `sum` */

    /* Optimiser steps, one pass over p, its moments and g. c: the coefficients named below. */
    void (*adam)(float *p, float *m, float *v, float *vmax, const float *g, int64_t n, const float c[8]);
    void (*sgd)(float *p, float *buf, const float *g, int64_t n, const float c[8]);
    void (*rmsprop)(float *p, float *square, float *buf, const float *g, int64_t n, const float c[8]);

    /* Columns 0 .. n-1 of a row of dropout: y = x * scale where the word (base/rng.h) is at least `least`, else 0. */
    void (*dropout)(float *y, const float *x, int64_t n, const struct rng *r, uint32_t row, uint32_t least, float scale);

    /* n windows of 2 x 2 side by side: the largest of each and its index, first being that of the upper left element and
     * width a row's. grad writes both rows and is false when an index lies outside its window. */
    void (*max_quads)(float *y, int64_t *index, const float *upper, const float *lower, int64_t n, int64_t first,
                      int32_t width);
    bool (*max_quads_grad)(float *upper, float *lower, const float *dy, const int64_t *index, int64_t n, int64_t first,
                           int32_t width);

    void (*widen_f16)(float *y, const uint16_t *x, int64_t n);
    void (*narrow_f16)(uint16_t *y, const float *x, int64_t n); /* round to nearest even */
    void (*widen_bf16)(float *y, const uint16_t *x, int64_t n);
    void (*narrow_bf16)(uint16_t *y, const float *x, int64_t n);
} row_ops;

/* Coefficients of the optimiser steps, formulas of PyTorch's single-tensor implementations. 1 - beta is
 * handed over and not beta: 1 - 0.9999f is off by 2e-4, so the caller subtracts in double. clip multiplies g
 * first (1: none).
 *
 * adam: h = clip g + decay p;  p = keep p;  m += (h - m) (1 - beta1);  v += (h h - v) (1 - beta2);
 *       w = v, or vmax = max(vmax, v) when vmax is not NULL;  p -= step m / (sqrt(w) root + eps) */
enum {
    ADAM_STEP, /* lr / (1 - beta1^t) */
    ADAM_ONE_MINUS_BETA1,
    ADAM_ONE_MINUS_BETA2,
    ADAM_EPS,
    ADAM_ROOT,  /* 1 / sqrt(1 - beta2^t) */
    ADAM_DECAY, /* L2: weight_decay of Adam; 0 for AdamW */
    ADAM_KEEP,  /* decoupled: 1 - lr weight_decay of AdamW; 1 for Adam */
    ADAM_CLIP
};

/* sgd: h = clip g + decay p;  buf NULL: d = h;  else buf = first ? h : momentum buf + (1 - dampening) h,
 *      d = nesterov ? h + momentum buf : buf;  p -= lr d */
enum { SGD_LR, SGD_MOMENTUM, SGD_ONE_MINUS_DAMPENING, SGD_DECAY, SGD_NESTEROV, SGD_FIRST, SGD_CLIP = 7 };

/* rmsprop: h = clip g + decay p;  square += (h h - square) (1 - alpha);  d = h / (sqrt(square) + eps);
 *          buf NULL: p -= lr d;  else buf = momentum buf + d, p -= lr buf */
enum { RMSPROP_LR, RMSPROP_ONE_MINUS_ALPHA, RMSPROP_EPS, RMSPROP_DECAY, RMSPROP_MOMENTUM, RMSPROP_CLIP = 7 };

/* Bytes of one scratch area of in or out for rows of n elements; SIZE_MAX when that is no size. */
size_t heed__rows_scratch_bytes(int64_t n);

/* Floats from one row to the next in scratch: n rounded up to 64 bytes. */
int64_t heed__rows_scratch_stride(int64_t n);

/* The table of a level, NULL when it is not built in. */
const row_ops *heed__row_ops(heed_isa isa);

#endif
