/* What kernels of this room are made of.
 *
 *   pieces     several views of one shape, walked together in stretches on which each has one step
 *   elements   stretches of any dtype, read and written as doubles or as int64s
 *   formula    an element-wise op said once, in double and int64; heed__reference runs it on every dtype
 *   rows       the same op by a row primitive in f32: the fast way for f32, f16 and bf16
 *
 * The reference computes in double and rounds once, so in f32 it is the best answer there is. */
#ifndef OPS_REFERENCE_H
#define OPS_REFERENCE_H

#include "ops/ops.h"

#include <string.h>

#define TILE 1024      /* floats that go through scratch at a time */
#define ELEMENTS 256   /* doubles or int64s on the stack at a time */
#define MAP_CHUNK 16384 /* elements of a chunk of an element-wise op */

/* ---- pieces ---- */
typedef struct pieces {
    walk w;
    int64_t width[WALK_VIEWS];     /* bytes of an element */
    int64_t index[HEED_MAX_RANK];  /* of the run */
    char *run[WALK_VIEWS];         /* its first elements */
    int64_t length, taken;         /* elements of the run, and those that lie behind us */
} pieces;

/* Begins at element `begin` (row-major) of views that have the sizes of v[0]. */
void heed__pieces(pieces *p, int views, const view *const *v, int64_t begin);

/* The next elements of the run, at most `most` > 0: pointers to the first, and how many. p->w.step leads
 * from one to the next. */
int64_t heed__take_piece(pieces *p, int64_t most, void **at);

/* ---- elements ---- */
static inline bool heed__floating(heed_dtype d)
{
    return (FLOATS & DTYPE_BIT(d)) != 0;
}

/* to[i] = from[i * step]; the first for floating dtypes, the second for integers and bool. */
void heed__load_f64(double *to, heed_dtype d, const void *from, int64_t step, int64_t n, const row_ops *row);
void heed__load_i64(int64_t *to, heed_dtype d, const void *from, int64_t step, int64_t n);

/* to[i * step] = from[i] as heed_cast defines it. */
void heed__store_f64(void *to, heed_dtype d, int64_t step, const double *from, int64_t n, const row_ops *row);
void heed__store_i64(void *to, heed_dtype d, int64_t step, const int64_t *from, int64_t n,
                     const row_ops *row);

/* Floats of f32, f16 or bf16, dense on both sides. */
void heed__widen(float *to, heed_dtype d, const void *from, int64_t n, const row_ops *row);
void heed__narrow(void *to, heed_dtype d, const float *from, int64_t n, const row_ops *row);

/* ---- element-wise kernels: items are the elements of output 0 ---- */
typedef struct formula {
    void (*f64)(double *y, double *const *x, int64_t n);   /* y[i] from x[0][i], x[1][i] ... */
    void (*i64)(int64_t *y, int64_t *const *x, int64_t n); /* NULL: the op has no integers */
} formula;

void heed__reference(const op_call *c, int64_t begin, int64_t end, const formula *f);
void heed__unary_rows(const op_call *c, int64_t begin, int64_t end, row_unary f);
void heed__binary_rows(const op_call *c, int64_t begin, int64_t end, row_binary f);

bool heed__floats_in_f32(const op_call *c);        /* accepts: input 0 is f32, f16 or bf16 */
int64_t heed__element_count(const op_call *c);     /* count: elements of output 0 */
size_t heed__tile_scratch(const op_call *c);       /* scratch of the row kernels */

#define FORMULA_F64(function, inputs, formula_)                                                              \
    static void function(double *to, double *const *in, int64_t n)                                           \
    {                                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const double x = in[0][i], y = in[(inputs) - 1][i];                                              \
                                                                                                             \
            (void)y;                                                                                         \
            to[i] = (formula_);                                                                              \
        }                                                                                                    \
    }
#define FORMULA_I64(function, inputs, formula_)                                                              \
    static void function(int64_t *to, int64_t *const *in, int64_t n)                                         \
    {                                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const int64_t x = in[0][i], y = in[(inputs) - 1][i];                                             \
                                                                                                             \
            (void)y;                                                                                         \
            to[i] = (formula_);                                                                              \
        }                                                                                                    \
    }

/* Integers wrap around, as in PyTorch; in C only unsigned ones may. */
#define WRAP(a, operator_, b) ((int64_t)((uint64_t)(a) operator_ (uint64_t)(b)))

/* The kernel lists of element-wise ops. FILE_NAME_reference and so on must exist. */
#define REFERENCE_KERNEL(run_)                                                                               \
    { .name = "reference", .layout = STRIDED, .chunk = MAP_CHUNK, .count = heed__element_count, .run = run_ }
#define ROWS_KERNEL(run_)                                                                                    \
    { .name = "rows", .layout = STRIDED, .chunk = MAP_CHUNK, .accepts = heed__floats_in_f32,                 \
      .count = heed__element_count, .scratch = heed__tile_scratch, .run = run_ }

/* Elements of one block of a fast loop: a constant, so that every compiler makes vectors of it, and local
 * arrays, so that it need not ask whether results overlap operands. */
#define LANES 32
#define LOAD_LANES(to, from, step)                                                                           \
    do {                                                                                                     \
        if ((step) == 1)                                                                                     \
            memcpy(to, from, sizeof(to));                                                                    \
        else if ((step) == 0)                                                                                \
            for (int64_t lane = 0; lane < LANES; lane++)                                                     \
                (to)[lane] = *(from);                                                                        \
        else                                                                                                 \
            for (int64_t lane = 0; lane < LANES; lane++)                                                     \
                (to)[lane] = (from)[lane * (step)];                                                          \
    } while (0)
#define STORE_LANES(to, step, from)                                                                          \
    do {                                                                                                     \
        if ((step) == 1)                                                                                     \
            memcpy(to, from, sizeof(from));                                                                  \
        else                                                                                                 \
            for (int64_t lane = 0; lane < LANES; lane++)                                                     \
                (to)[lane * (step)] = (from)[lane];                                                          \
    } while (0)

/* ---- copies ---- */

/* Elements [begin, end) of views of the same sizes and dtype; any strides. They may be the same memory,
 * but not overlap otherwise. */
void heed__copy_elements(const view *to, const view *from, int64_t begin, int64_t end);

/* Elements begin, begin + 1, ... of an axis: a view into v. */
view heed__part(const view *v, int axis, int64_t begin, int64_t count);

/* One item of the leading `axes` dimensions, row-major: what is left of v. */
view heed__item(const view *v, int axes, int64_t item);

/* The first elements of v's lines along an axis, as a view without that axis. */
view heed__without(const view *v, int axis);

#define COPY_CHUNK 65536 /* elements */
#define COPY_KERNEL(run_)                                                                                    \
    { .name = "copy", .layout = STRIDED, .chunk = COPY_CHUNK, .count = heed__element_count, .run = run_ }

/* run of a view op that was not aliased: copies what its view function describes. */
void heed__copy_view(const op_call *c, int64_t begin, int64_t end, op_view_fn *describe);

#endif
