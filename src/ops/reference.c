/* Pieces and elements (reference.h): the loops below every reference kernel. */

#include "ops/reference.h"

#include <string.h>

/* ---- pieces ---- */

void heed__pieces(pieces *p, int views, const view *const *v, int64_t begin)
{
    void *at[WALK_VIEWS];
    int64_t run;

    heed__walk(&p->w, views, v);
    run = p->w.inner > 0 ? begin / p->w.inner : 0;
    p->taken = p->w.inner > 0 ? begin % p->w.inner : 0;
    p->length = heed__walk_at(&p->w, run, at);
    for (int i = 0; i < views; i++) {
        p->run[i] = at[i];
        p->width[i] = (int64_t)heed_dtype_size(v[i]->type.dtype);
    }
    for (int d = p->w.rank - 1; d >= 0; d--) {
        p->index[d] = p->w.dims[d] > 0 ? run % p->w.dims[d] : 0;
        run = p->w.dims[d] > 0 ? run / p->w.dims[d] : 0;
    }
}

static void next_run(pieces *p)
{
    p->taken = 0;
    for (int d = p->w.rank - 1; d >= 0; d--) {
        const int64_t back = ++p->index[d] < p->w.dims[d] ? 0 : p->w.dims[d];

        for (int i = 0; i < p->w.views; i++)
            p->run[i] += (1 - back) * p->w.strides[i][d];
        if (back == 0)
            return;
        p->index[d] = 0;
    }
}

int64_t heed__take_piece(pieces *p, int64_t most, void **at)
{
    const int64_t n = i64_min(most, p->length - p->taken);

    for (int i = 0; i < p->w.views; i++)
        at[i] = p->run[i] + p->taken * p->w.step[i] * p->width[i];
    p->taken += n;
    if (p->taken == p->length)
        next_run(p);
    return n;
}

/* ---- elements ---- */

#define HALVES 64 /* 16-bit floats turned at a time */

void heed__widen(float *to, heed_dtype d, const void *from, int64_t n, const row_ops *row)
{
    if (d == HEED_F16)
        row->widen_f16(to, from, n);
    else if (d == HEED_BF16)
        row->widen_bf16(to, from, n);
    else
        memcpy(to, from, (size_t)n * sizeof *to);
}

void heed__narrow(void *to, heed_dtype d, const float *from, int64_t n, const row_ops *row)
{
    if (d == HEED_F16)
        row->narrow_f16(to, from, n);
    else if (d == HEED_BF16)
        row->narrow_bf16(to, from, n);
    else
        memcpy(to, from, (size_t)n * sizeof *from);
}

/* Toward zero, clamped; NaN gives 0. The limits are powers of two, or exact in double. */
static int64_t whole(double x, int64_t low, int64_t high)
{
    if (x != x)
        return 0;
    if (x <= (double)low)
        return low;
    return x >= (double)high ? high : (int64_t)x;
}

static void load_halves(double *to, heed_dtype d, const uint16_t *from, int64_t step, int64_t n,
                        const row_ops *row)
{
    uint16_t half[HALVES];
    float wide[HALVES];

    for (int64_t i = 0; i < n; i += HALVES) {
        const int64_t m = i64_min(HALVES, n - i);

        for (int64_t j = 0; j < m; j++)
            half[j] = from[(i + j) * step];
        heed__widen(wide, d, half, m, row);
        for (int64_t j = 0; j < m; j++)
            to[i + j] = (double)wide[j];
    }
}

static void store_halves(uint16_t *to, heed_dtype d, int64_t step, const float *from, int64_t n,
                         const row_ops *row)
{
    uint16_t half[HALVES];

    for (int64_t i = 0; i < n; i += HALVES) {
        const int64_t m = i64_min(HALVES, n - i);

        heed__narrow(half, d, from + i, m, row);
        for (int64_t j = 0; j < m; j++)
            to[(i + j) * step] = half[j];
    }
}

typedef void load_f64(double *to, const void *from, int64_t step, int64_t n, const row_ops *row);
typedef void load_i64(int64_t *to, const void *from, int64_t step, int64_t n);
typedef void store_f64(void *to, int64_t step, const double *from, int64_t n, const row_ops *row);
typedef void store_i64(void *to, int64_t step, const int64_t *from, int64_t n, const row_ops *row);

#define LOAD_FLOAT(word, type)                                                                               \
    static void load_f64_##word(double *to, const void *from, int64_t step, int64_t n, const row_ops *row)   \
    {                                                                                                        \
        const type *x = from;                                                                                \
                                                                                                             \
        (void)row;                                                                                           \
        for (int64_t i = 0; i < n; i++)                                                                      \
            to[i] = (double)x[i * step];                                                                     \
    }
#define LOAD_INT(word, type)                                                                                 \
    static void load_i64_##word(int64_t *to, const void *from, int64_t step, int64_t n)                      \
    {                                                                                                        \
        const type *x = from;                                                                                \
                                                                                                             \
        for (int64_t i = 0; i < n; i++)                                                                      \
            to[i] = (int64_t)x[i * step];                                                                    \
    }
#define LOAD_HALF(word, dtype)                                                                               \
    static void load_f64_##word(double *to, const void *from, int64_t step, int64_t n, const row_ops *row)   \
    {                                                                                                        \
        load_halves(to, dtype, from, step, n, row);                                                          \
    }
/* v is the value to be stored, in `from`'s type. */
#define STORE(from_word, from_type, word, type, value)                                                       \
    static void store_##from_word##_##word(void *to, int64_t step, const from_type *from, int64_t n,         \
                                           const row_ops *row)                                               \
    {                                                                                                        \
        type *y = to;                                                                                        \
                                                                                                             \
        (void)row;                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const from_type v = from[i];                                                                     \
                                                                                                             \
            y[i * step] = (type)(value);                                                                     \
        }                                                                                                    \
    }
#define STORE_HALF(from_word, from_type, word, dtype)                                                        \
    static void store_##from_word##_##word(void *to, int64_t step, const from_type *from, int64_t n,         \
                                           const row_ops *row)                                               \
    {                                                                                                        \
        float v[HALVES];                                                                                     \
                                                                                                             \
        for (int64_t i = 0; i < n; i += HALVES) {                                                            \
            const int64_t m = i64_min(HALVES, n - i);                                                        \
                                                                                                             \
            for (int64_t j = 0; j < m; j++)                                                                  \
                v[j] = (float)from[i + j];                                                                   \
            store_halves((uint16_t *)to + i * step, dtype, step, v, m, row);                                 \
        }                                                                                                    \
    }

LOAD_FLOAT(f32, float)
LOAD_FLOAT(f64, double)
LOAD_HALF(f16, HEED_F16)
LOAD_HALF(bf16, HEED_BF16)
LOAD_INT(i64, int64_t)
LOAD_INT(i32, int32_t)
LOAD_INT(u8, uint8_t)
STORE(f64, double, f32, float, v)
STORE(f64, double, f64, double, v)
STORE_HALF(f64, double, f16, HEED_F16)
STORE_HALF(f64, double, bf16, HEED_BF16)
STORE(f64, double, i64, int64_t, whole(v, INT64_MIN, INT64_MAX))
STORE(f64, double, i32, int32_t, whole(v, INT32_MIN, INT32_MAX))
STORE(f64, double, u8, uint8_t, whole(v, 0, UINT8_MAX))
STORE(f64, double, bool, uint8_t, v != 0)
STORE(i64, int64_t, f32, float, v)
STORE(i64, int64_t, f64, double, v)
STORE_HALF(i64, int64_t, f16, HEED_F16)
STORE_HALF(i64, int64_t, bf16, HEED_BF16)
STORE(i64, int64_t, i64, int64_t, v)
STORE(i64, int64_t, i32, int32_t, v)
STORE(i64, int64_t, u8, uint8_t, v)
STORE(i64, int64_t, bool, uint8_t, v != 0)

#define FLOAT_ENTRY(word)                                                                                    \
    .load_f64 = load_f64_##word, .store_f64 = store_f64_##word, .store_i64 = store_i64_##word
#define INT_ENTRY(word, from)                                                                                \
    .load_i64 = load_i64_##from, .store_f64 = store_f64_##word, .store_i64 = store_i64_##word

static const struct {
    load_f64 *load_f64;
    load_i64 *load_i64;
    store_f64 *store_f64;
    store_i64 *store_i64;
} elements[HEED_DTYPES] = {
    [HEED_F32] = { FLOAT_ENTRY(f32) },      [HEED_F64] = { FLOAT_ENTRY(f64) },
    [HEED_F16] = { FLOAT_ENTRY(f16) },      [HEED_BF16] = { FLOAT_ENTRY(bf16) },
    [HEED_I64] = { INT_ENTRY(i64, i64) },   [HEED_I32] = { INT_ENTRY(i32, i32) },
    [HEED_U8] = { INT_ENTRY(u8, u8) },      [HEED_BOOL] = { INT_ENTRY(bool, u8) },
};

void heed__load_f64(double *to, heed_dtype d, const void *from, int64_t step, int64_t n, const row_ops *row)
{
    elements[d].load_f64(to, from, step, n, row);
}

void heed__load_i64(int64_t *to, heed_dtype d, const void *from, int64_t step, int64_t n)
{
    elements[d].load_i64(to, from, step, n);
}

void heed__store_f64(void *to, heed_dtype d, int64_t step, const double *from, int64_t n, const row_ops *row)
{
    elements[d].store_f64(to, step, from, n, row);
}

void heed__store_i64(void *to, heed_dtype d, int64_t step, const int64_t *from, int64_t n, const row_ops *row)
{
    elements[d].store_i64(to, step, from, n, row);
}

/* ---- element by element ---- */

#define INPUTS 3

void heed__reference(const op_call *c, int64_t begin, int64_t end, const formula *f)
{
    union {
        double f64[ELEMENTS];
        int64_t i64[ELEMENTS];
    } x[INPUTS], y;
    double *xf[INPUTS];
    int64_t *xi[INPUTS];
    const view *v[1 + INPUTS] = { &c->out[0] };
    const heed_dtype in = c->in[0].type.dtype, out = c->out[0].type.dtype;
    void *at[WALK_VIEWS];
    pieces p;

    for (int i = 0; i < c->n_in; i++) {
        v[1 + i] = &c->in[i];
        xf[i] = x[i].f64;
        xi[i] = x[i].i64;
    }
    heed__pieces(&p, 1 + c->n_in, v, begin);
    while (begin < end) {
        const int64_t n = heed__take_piece(&p, i64_min(ELEMENTS, end - begin), at);

        if (heed__floating(in)) {
            for (int i = 0; i < c->n_in; i++)
                heed__load_f64(xf[i], in, at[1 + i], p.w.step[1 + i], n, c->row);
            f->f64(y.f64, xf, n);
            heed__store_f64(at[0], out, p.w.step[0], y.f64, n, c->row);
        } else {
            for (int i = 0; i < c->n_in; i++)
                heed__load_i64(xi[i], in, at[1 + i], p.w.step[1 + i], n);
            f->i64(y.i64, xi, n);
            heed__store_i64(at[0], out, p.w.step[0], y.i64, n, c->row);
        }
        begin += n;
    }
}

bool heed__floats_in_f32(const op_call *c)
{
    return heed__computes_in_f32(&c->in[0]);
}

int64_t heed__element_count(const op_call *c)
{
    return heed_type_count(&c->out[0].type);
}

size_t heed__tile_scratch(const op_call *c)
{
    (void)c;
    return TILE * sizeof(float);
}
