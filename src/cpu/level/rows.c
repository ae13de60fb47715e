/* Row primitives, compiled once per instruction level: element-wise maps, row reductions, optimiser steps.
 *
 * Every loop runs over full vectors and ends with a part of one (vload_part), computed by the same code, so
 * an element has the same bits wherever it stands in a row. */
#include "cpu/level/half.h"
#include "cpu/level/math.h"
#include "cpu/rows.h"

#include "base/sizes.h"

/* ---- Maps ---- */

/* y[i] = VALUE, an expression of the vector x. */
#define UNARY(NAME, VALUE)                                                                                   \
    static void unary_##NAME(float *to, const float *from, int64_t n)                                        \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i <= n - VL; i += VL) {                                                                       \
            const vf x = vload(from + i);                                                                    \
            vstore(to + i, VALUE);                                                                           \
        }                                                                                                    \
        if (i < n) {                                                                                         \
            const vf x = vload_part(from + i, n - i);                                                        \
            vstore_part(to + i, VALUE, n - i);                                                               \
        }                                                                                                    \
    }

UNARY(COPY, x)
UNARY(NEG, -x)
UNARY(ABS, vabs(x))
UNARY(FLOOR, vf_floor(x))
UNARY(SQRT, vsqrt(x))
UNARY(RSQRT, 1.0f / vsqrt(x))
UNARY(EXP, vf_exp(x))
UNARY(LOG, vf_log(x))
UNARY(SIN, vf_sin(x))
UNARY(COS, vf_cos(x))
UNARY(TANH, vf_tanh(x))
UNARY(ERF, vf_erf(x))
UNARY(RELU, vmax(x, (vf){ 0 }))
UNARY(SIGMOID, vf_sigmoid(x))
UNARY(SILU, vf_silu(x))
UNARY(GELU, vf_gelu(x))
UNARY(GELU_TANH, vf_gelu_tanh(x))
UNARY(SOFTPLUS, vf_softplus(x))

/* y[i] = VALUE, an expression of the vectors a and b; A and B load them. */
#define BINARY_LOOP(A, A_PART, B, B_PART, VALUE)                                                             \
    do {                                                                                                     \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i <= n - VL; i += VL) {                                                                       \
            const vf a = A, b = B;                                                                           \
            vstore(to + i, VALUE);                                                                           \
        }                                                                                                    \
        if (i < n) {                                                                                         \
            const vf a = A_PART, b = B_PART;                                                                 \
            vstore_part(to + i, VALUE, n - i);                                                               \
        }                                                                                                    \
    } while (0)

/* A step of 0 repeats the first element: one loop for each of the four cases. */
#define BINARY(NAME, VALUE)                                                                                  \
    static void binary_##NAME(float *to, const float *pa, int64_t as, const float *pb, int64_t bs,           \
                              int64_t n)                                                                     \
    {                                                                                                        \
        if (n <= 0)                                                                                          \
            return;                                                                                          \
        const vf a0 = vsplat(pa[0]), b0 = vsplat(pb[0]);                                                     \
        if (as && bs)                                                                                        \
            BINARY_LOOP(vload(pa + i), vload_part(pa + i, n - i), vload(pb + i), vload_part(pb + i, n - i),  \
                        VALUE);                                                                              \
        else if (as)                                                                                         \
            BINARY_LOOP(vload(pa + i), vload_part(pa + i, n - i), b0, b0, VALUE);                            \
        else if (bs)                                                                                         \
            BINARY_LOOP(a0, a0, vload(pb + i), vload_part(pb + i, n - i), VALUE);                            \
        else                                                                                                 \
            BINARY_LOOP(a0, a0, b0, b0, VALUE);                                                              \
    }

BINARY(ADD, a + b)
BINARY(SUB, a - b)
BINARY(MUL, a *b)
BINARY(DIV, a / b)
BINARY(MAX, vmax(a, b))
BINARY(MIN, vmin(a, b))
BINARY(RELU_GRAD, (vf)((vi)b &(vi)(a > 0.0f)))
BINARY(SIGMOID_GRAD, b *a *(1.0f - a))
BINARY(TANH_GRAD, b *(1.0f - a * a))
BINARY(SILU_GRAD, b *vf_silu_slope(a))
BINARY(GELU_GRAD, b *vf_gelu_slope(a))
BINARY(GELU_TANH_GRAD, b *vf_gelu_tanh_slope(a))
BINARY(POW_ANY, vf_pow(a, b))

/* One exponent for all, as in x^2, takes a short way with the bits of vf_pow. */
UNARY(POW_2, x *x)
UNARY(POW_HALF, math_pow_root(x))
UNARY(POW_MINUS_HALF, 1.0f / math_pow_root(x))
UNARY(POW_MINUS_1, 1.0f / x)

static const struct {
    float exponent;
    void (*row)(float *y, const float *x, int64_t n);
} pow_rows[] = {
    { 2.0f, unary_POW_2 },
    { 0.5f, unary_POW_HALF },
    { -0.5f, unary_POW_MINUS_HALF },
    { -1.0f, unary_POW_MINUS_1 },
};

static void binary_POW(float *to, const float *pa, int64_t as, const float *pb, int64_t bs, int64_t n)
{
    for (size_t i = 0; n > 0 && as && !bs && i < sizeof pow_rows / sizeof pow_rows[0]; i++) {
        if (*pb == pow_rows[i].exponent) {
            pow_rows[i].row(to, pa, n);
            return;
        }
    }
    binary_POW_ANY(to, pa, as, pb, bs, n);
}

static void rows_add_scaled(float *y, const float *x, float a, int64_t n)
{
    const vf by = vsplat(a);
    int64_t i = 0;

    for (; i <= n - VL; i += VL)
        vstore(y + i, vfma(by, vload(x + i), vload(y + i)));
    if (i < n)
        vstore_part(y + i, vfma(by, vload_part(x + i, n - i), vload_part(y + i, n - i)), n - i);
}

static void rows_scale_to(float *y, const float *x, float a, int64_t n)
{
    binary_MUL(y, x, 1, &a, 0, n);
}

/* ---- Storage: f16 and bf16 ---- */

#define STORAGE(NAME)                                                                                        \
    static void widen_##NAME(float *y, const uint16_t *x, int64_t n)                                         \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i <= n - VL; i += VL)                                                                         \
            vstore(y + i, vf_from_##NAME(vhload(x + i)));                                                    \
        if (i < n) {                                                                                         \
            uint16_t part[VL] = { 0 };                                                                       \
            for (int64_t j = 0; j < n - i; j++)                                                              \
                part[j] = x[i + j];                                                                          \
            vstore_part(y + i, vf_from_##NAME(vhload(part)), n - i);                                         \
        }                                                                                                    \
    }                                                                                                        \
    static void narrow_##NAME(uint16_t *y, const float *x, int64_t n)                                        \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i <= n - VL; i += VL)                                                                         \
            vhstore(y + i, vf_to_##NAME(vload(x + i)));                                                      \
        if (i < n) {                                                                                         \
            uint16_t part[VL];                                                                               \
            vhstore(part, vf_to_##NAME(vload_part(x + i, n - i)));                                           \
            for (int64_t j = 0; j < n - i; j++)                                                              \
                y[i + j] = part[j];                                                                          \
        }                                                                                                    \
    }                                                                                                        \
    static void load_##NAME(float *y, const void *x, int64_t n)                                              \
    {                                                                                                        \
        widen_##NAME(y, x, n);                                                                               \
    }                                                                                                        \
    static void store_##NAME(void *y, const float *x, int64_t n)                                             \
    {                                                                                                        \
        narrow_##NAME(y, x, n);                                                                              \
    }

STORAGE(f16)
STORAGE(bf16)

static void load_f32(float *y, const void *x, int64_t n)
{
    unary_COPY(y, x, n);
}

static void store_f32(void *y, const float *x, int64_t n)
{
    unary_COPY(y, x, n);
}

static const struct {
    void (*load)(float *y, const void *x, int64_t n);
    void (*store)(void *y, const float *x, int64_t n);
    int64_t size;
} storage[HEED_DTYPES] = {
    [HEED_F32] = { load_f32, store_f32, 4 },
    [HEED_F16] = { load_f16, store_f16, 2 },
    [HEED_BF16] = { load_bf16, store_bf16, 2 },
};

/* Where a block of rows lies in a view. */
typedef struct block {
    int64_t count, n, step; /* step: elements from one column to the next */
    int64_t at[ROWS_MAX];   /* elements from the view's data to each row */
    int64_t stride;         /* between rows, when `even` */
    bool even;
} block;

static block rows_locate(const view *v, int64_t begin, int64_t end)
{
    block b = {
        .count = i64_min(end - begin, ROWS_MAX), .n = heed__view_row_length(v), .step = 1, .even = true
    };

    if (b.count <= 0)
        return (block){ .n = b.n, .step = 1, .even = true };
    if (b.n > 1)
        b.step = v->strides[v->type.rank - 1];
    if (heed__view_row_stride(v, &b.stride)) {
        for (int64_t i = 0; i < b.count; i++)
            b.at[i] = (begin + i) * b.stride;
        return b;
    }
    heed__view_row_offsets(v, begin, b.count, b.at);
    b.stride = b.count > 1 ? b.at[1] - b.at[0] : 0;
    for (int64_t i = 2; i < b.count; i++)
        b.even = b.even && b.at[i] - b.at[i - 1] == b.stride;
    return b;
}

static bool rows_in_place(const view *v, const block *b)
{
    return v->type.dtype == HEED_F32 && v->data && b->even && b->step == 1;
}

static rows rows_scratch(const block *b, void *scratch)
{
    return (rows){ scratch, b->count, b->n, heed__rows_scratch_stride(b->n) };
}

static rows rows_in(const view *v, int64_t begin, int64_t end, void *scratch)
{
    const block b = rows_locate(v, begin, end);
    const int64_t size = storage[v->type.dtype].size;

    if (rows_in_place(v, &b))
        return (rows){ (float *)v->data + b.at[0], b.count, b.n, b.stride };
    if (!v->data || size == 0)
        return (rows){ .n = b.n };

    const rows x = rows_scratch(&b, scratch);
    for (int64_t i = 0; i < b.count; i++) {
        const char *const from = (const char *)v->data + b.at[i] * size;
        float *const to = x.data + i * x.stride;

        if (b.step == 1)
            storage[v->type.dtype].load(to, from, b.n);
        else
            for (int64_t j = 0; j < b.n; j++)
                storage[v->type.dtype].load(to + j, from + j * b.step * size, 1);
    }
    return x;
}

static rows rows_out(const view *v, int64_t begin, int64_t end, void *scratch)
{
    const block b = rows_locate(v, begin, end);

    if (rows_in_place(v, &b))
        return (rows){ (float *)v->data + b.at[0], b.count, b.n, b.stride };
    if (storage[v->type.dtype].size == 0)
        return (rows){ .n = b.n };
    return rows_scratch(&b, scratch);
}

static void rows_commit(const view *v, int64_t begin, rows y)
{
    const block b = rows_locate(v, begin, begin + y.count);
    const int64_t size = storage[v->type.dtype].size;

    if (!v->data || size == 0 || rows_in_place(v, &b))
        return;
    for (int64_t i = 0; i < b.count; i++) {
        char *const to = (char *)v->data + b.at[i] * size;
        const float *const from = y.data + i * y.stride;

        if (b.step == 1)
            storage[v->type.dtype].store(to, from, b.n);
        else
            for (int64_t j = 0; j < b.n; j++)
                storage[v->type.dtype].store(to + j * b.step * size, from + j, 1);
    }
}

/* ---- Reductions ---- */

/* Four vectors of partial sums. Element i belongs to lane i mod 4 VL; every BLOCK elements the partial sums
 * are moved to a second set, which keeps the rounding error of long sums small. */
#define BLOCK (64 * 4 * VL)

VEC_INLINE vf load_some(const float *p, int64_t left)
{
    return left >= VL ? vload(p) : vload_part(p, left);
}

/* What lies beyond a row's end adds nothing, whatever the term makes of the zeros that were loaded there. */
VEC_INLINE vf keep_some(vf v, int64_t left)
{
    return left >= VL ? v : (vf)((vi)v & vfirst(left));
}

typedef vf sum_term(vf a, vf b, vf c);

VEC_INLINE vf term_plain(vf a, vf b, vf c)
{
    (void)b, (void)c;
    return a;
}

VEC_INLINE vf term_product(vf a, vf b, vf c)
{
    (void)c;
    return a * b;
}

VEC_INLINE vf term_square(vf a, vf b, vf c)
{
    (void)b;
    return (a - c) * (a - c);
}

/* Sum over i of term(a[i], b[i], c). */
VEC_INLINE float row_sum(const float *a, const float *b, vf c, int64_t n, sum_term *term)
{
    vf total0 = { 0 }, total1 = { 0 }, total2 = { 0 }, total3 = { 0 };

    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = i64_min(n, start + BLOCK);
        vf sum0 = { 0 }, sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };
        int64_t i = start, left;

        for (; i <= end - 4 * VL; i += 4 * VL) {
            sum0 += term(vload(a + i), vload(b + i), c);
            sum1 += term(vload(a + i + VL), vload(b + i + VL), c);
            sum2 += term(vload(a + i + 2 * VL), vload(b + i + 2 * VL), c);
            sum3 += term(vload(a + i + 3 * VL), vload(b + i + 3 * VL), c);
        }
        left = end - i;
        if (left > 0)
            sum0 += keep_some(term(load_some(a + i, left), load_some(b + i, left), c), left);
        i += VL, left -= VL;
        if (left > 0)
            sum1 += keep_some(term(load_some(a + i, left), load_some(b + i, left), c), left);
        i += VL, left -= VL;
        if (left > 0)
            sum2 += keep_some(term(load_some(a + i, left), load_some(b + i, left), c), left);
        i += VL, left -= VL;
        if (left > 0)
            sum3 += keep_some(term(load_some(a + i, left), load_some(b + i, left), c), left);
        total0 += sum0, total1 += sum1, total2 += sum2, total3 += sum3;
    }
    return vsum_lanes((total0 + total1) + (total2 + total3));
}

static void rows_sum(float *s, rows x)
{
    for (int64_t i = 0; i < x.count; i++) {
        const float *const row = x.data + i * x.stride;
        s[i] = row_sum(row, row, (vf){ 0 }, x.n, term_plain);
    }
}

static float rows_total(const float *x, int64_t n)
{
    return row_sum(x, x, (vf){ 0 }, n, term_plain);
}

static void rows_dot(float *s, rows x, rows y)
{
    for (int64_t i = 0; i < x.count; i++)
        s[i] = row_sum(x.data + i * x.stride, y.data + i * y.stride, (vf){ 0 }, x.n, term_product);
}

static void rows_sum_squares(float *s, rows x, const float *mean)
{
    for (int64_t i = 0; i < x.count; i++) {
        const float *const row = x.data + i * x.stride;
        s[i] = row_sum(row, row, vsplat(mean ? mean[i] : 0.0f), x.n, term_square);
    }
}

static void rows_max(float *m, rows x)
{
    const vf lowest = vsplat(-MATH_INF);

    for (int64_t r = 0; r < x.count; r++) {
        const float *const row = x.data + r * x.stride;
        vf most0 = lowest, most1 = lowest, most2 = lowest, most3 = lowest;
        int64_t i = 0;

        for (; i <= x.n - 4 * VL; i += 4 * VL) {
            most0 = vmax(most0, vload(row + i));
            most1 = vmax(most1, vload(row + i + VL));
            most2 = vmax(most2, vload(row + i + 2 * VL));
            most3 = vmax(most3, vload(row + i + 3 * VL));
        }
        for (; i <= x.n - VL; i += VL)
            most0 = vmax(most0, vload(row + i));
        if (i < x.n)
            most1 = vmax(most1, vselect(vfirst(x.n - i), vload_part(row + i, x.n - i), lowest));
        m[r] = vmax_lanes(vmax(vmax(most0, most1), vmax(most2, most3)));
    }
}

/* Two short loops a row: the second finds what the first left in L1. */
static void rows_exp_sum(rows y, float *s, rows x, const float *m)
{
    for (int64_t r = 0; r < x.count; r++) {
        const float *const from = x.data + r * x.stride;
        float *const to = y.data + r * y.stride;
        const vf most = vsplat(m[r]);
        int64_t i = 0;

        for (; i <= x.n - VL; i += VL)
            vstore(to + i, vf_exp(vload(from + i) - most));
        if (i < x.n)
            vstore_part(to + i, vf_exp(vload_part(from + i, x.n - i) - most), x.n - i);
        s[r] = row_sum(to, to, (vf){ 0 }, x.n, term_plain);
    }
}

/* ---- Rows with one number each ---- */

static void rows_divide(rows y, const float *s)
{
    for (int64_t r = 0; r < y.count; r++)
        binary_DIV(y.data + r * y.stride, y.data + r * y.stride, 1, s + r, 0, y.n);
}

static void rows_subtract(rows y, rows x, const float *s)
{
    for (int64_t r = 0; r < y.count; r++)
        binary_SUB(y.data + r * y.stride, x.data + r * x.stride, 1, s + r, 0, y.n);
}

static void rows_softmax_grad(rows dx, rows y, rows dy, const float *dot)
{
    for (int64_t r = 0; r < dx.count; r++) {
        const float *const py = y.data + r * y.stride, *const pdy = dy.data + r * dy.stride;
        float *const to = dx.data + r * dx.stride;
        const vf d = vsplat(dot[r]);
        int64_t i = 0;

        for (; i <= dx.n - VL; i += VL)
            vstore(to + i, vload(py + i) * (vload(pdy + i) - d));
        if (i < dx.n)
            vstore_part(to + i, vload_part(py + i, dx.n - i) * (vload_part(pdy + i, dx.n - i) - d), dx.n - i);
    }
}

static void rows_normalize(rows y, rows x, const float *mean, const float *rstd, const float *weight,
                           const float *bias)
{
    for (int64_t r = 0; r < y.count; r++) {
        const float *const from = x.data + r * x.stride;
        float *const to = y.data + r * y.stride;
        const vf center = vsplat(mean ? mean[r] : 0.0f), scale = vsplat(rstd ? rstd[r] : 1.0f);

        for (int64_t i = 0; i < y.n; i += VL) {
            const int64_t left = y.n - i;
            vf v = (load_some(from + i, left) - center) * scale;

            if (weight && bias)
                v = vfma(v, load_some(weight + i, left), load_some(bias + i, left));
            else if (weight)
                v = v * load_some(weight + i, left);
            else if (bias)
                v = v + load_some(bias + i, left);
            if (left >= VL)
                vstore(to + i, v);
            else
                vstore_part(to + i, v, left);
        }
    }
}

/* ---- Optimiser steps: the formulas stand in cpu/rows.h ---- */

VEC_INLINE void store_some(float *p, vf v, int64_t left)
{
    if (left >= VL)
        vstore(p, v);
    else
        vstore_part(p, v, left);
}

static void rows_adam(float *p, float *m, float *v, float *vmax_of, const float *g, int64_t n,
                      const float c[8])
{
    const vf step = vsplat(-c[ADAM_STEP]), eps = vsplat(c[ADAM_EPS]), root = vsplat(c[ADAM_ROOT]);
    const vf to_m = vsplat(c[ADAM_ONE_MINUS_BETA1]), to_v = vsplat(c[ADAM_ONE_MINUS_BETA2]);
    const vf decay = vsplat(c[ADAM_DECAY]), keep = vsplat(c[ADAM_KEEP]), clip = vsplat(c[ADAM_CLIP]);

    for (int64_t i = 0; i < n; i += VL) {
        const int64_t left = n - i;
        const vf old = load_some(p + i, left);
        const vf h = vfma(decay, old, clip * load_some(g + i, left));
        vf mi = load_some(m + i, left), vi_ = load_some(v + i, left), w;

        mi = vfma(h - mi, to_m, mi);
        vi_ = vfma(vfma(h, h, -vi_), to_v, vi_);
        w = vi_;
        if (vmax_of) {
            w = vmax(load_some(vmax_of + i, left), vi_);
            store_some(vmax_of + i, w, left);
        }
        store_some(m + i, mi, left);
        store_some(v + i, vi_, left);
        store_some(p + i, vfma(step, mi / vfma(vsqrt(w), root, eps), keep * old), left);
    }
}

static void rows_sgd(float *p, float *buf, const float *g, int64_t n, const float c[8])
{
    const vf rate = vsplat(-c[SGD_LR]), decay = vsplat(c[SGD_DECAY]), clip = vsplat(c[SGD_CLIP]);
    const vf momentum = vsplat(c[SGD_MOMENTUM]), damped = vsplat(c[SGD_ONE_MINUS_DAMPENING]);
    const bool nesterov = c[SGD_NESTEROV] > 0.0f, first = c[SGD_FIRST] > 0.0f;

    for (int64_t i = 0; i < n; i += VL) {
        const int64_t left = n - i;
        const vf old = load_some(p + i, left);
        const vf h = vfma(decay, old, clip * load_some(g + i, left));
        vf d = h;

        if (buf) {
            const vf b = first ? h : vfma(momentum, load_some(buf + i, left), damped * h);
            store_some(buf + i, b, left);
            d = nesterov ? vfma(momentum, b, h) : b;
        }
        store_some(p + i, vfma(rate, d, old), left);
    }
}

static void rows_rmsprop(float *p, float *square, float *buf, const float *g, int64_t n, const float c[8])
{
    const vf rate = vsplat(-c[RMSPROP_LR]), decay = vsplat(c[RMSPROP_DECAY]), clip = vsplat(c[RMSPROP_CLIP]);
    const vf to_square = vsplat(c[RMSPROP_ONE_MINUS_ALPHA]), eps = vsplat(c[RMSPROP_EPS]);
    const vf momentum = vsplat(c[RMSPROP_MOMENTUM]);

    for (int64_t i = 0; i < n; i += VL) {
        const int64_t left = n - i;
        const vf old = load_some(p + i, left), s = load_some(square + i, left);
        const vf h = vfma(decay, old, clip * load_some(g + i, left));
        const vf now = vfma(vfma(h, h, -s), to_square, s);
        vf d = h / (vsqrt(now) + eps);

        store_some(square + i, now, left);
        if (buf) {
            d = vfma(momentum, load_some(buf + i, left), d);
            store_some(buf + i, d, left);
        }
        store_some(p + i, vfma(rate, d, old), left);
    }
}

/* ---- The table ---- */

/* dropout.c, pool.c */
void LEVEL_NAME(dropout)(float *y, const float *x, int64_t n, const struct rng *r, uint32_t row, uint32_t least, float scale);
void LEVEL_NAME(max_quads)(float *y, int64_t *index, const float *upper, const float *lower, int64_t n, int64_t first,
                           int32_t width);
bool LEVEL_NAME(max_quads_grad)(float *upper, float *lower, const float *dy, const int64_t *index, int64_t n, int64_t first,
                                int32_t width);

const row_ops LEVEL_NAME(row_ops) = {
#define ROW_UNARY(name) .unary[ROW_##name] = unary_##name,
#define ROW_BINARY(name) .binary[ROW_##name] = binary_##name,
#include "cpu/rows.def"
#undef ROW_UNARY
#undef ROW_BINARY
    .in = rows_in,
    .out = rows_out,
    .commit = rows_commit,
    .max = rows_max,
    .sum = rows_sum,
    .dot = rows_dot,
    .sum_squares = rows_sum_squares,
    .exp_sum = rows_exp_sum,
    .divide = rows_divide,
    .subtract = rows_subtract,
    .softmax_grad = rows_softmax_grad,
    .normalize = rows_normalize,
    .add_scaled = rows_add_scaled,
    .scale_to = rows_scale_to,
    .total = rows_total,
    .adam = rows_adam,
    .sgd = rows_sgd,
    .rmsprop = rows_rmsprop,
    .dropout = LEVEL_NAME(dropout),
    .max_quads = LEVEL_NAME(max_quads),
    .max_quads_grad = LEVEL_NAME(max_quads_grad),
    .widen_f16 = widen_f16,
    .narrow_f16 = narrow_f16,
    .widen_bf16 = widen_bf16,
    .narrow_bf16 = narrow_bf16,
};
