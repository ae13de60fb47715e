/* Comparisons and logic: two operands of one shape -> bool. No gradient. NaN equals nothing and is less
 * than nothing.
 *
 *   eq, lt    numbers (eq: bool too); le, gt and ge are compositions, so that NaN makes all of them false
 *   and, or   bool */

#include "ops/reference.h"

static const op_slot compare_eq_in[] = {
    { .name = "x", .dtypes = ANY_DTYPE },
    { .name = "y", .dtypes = ANY_DTYPE, .same_as = "x" },
    SLOT_END,
};
static const op_slot compare_lt_in[] = {
    { .name = "x", .dtypes = NUMBERS },
    { .name = "y", .dtypes = NUMBERS, .same_as = "x" },
    SLOT_END,
};
static const op_slot compare_bool_in[] = {
    { .name = "x", .dtypes = BOOLS },
    { .name = "y", .dtypes = BOOLS, .same_as = "x" },
    SLOT_END,
};
static const op_slot compare_out[] = { { .name = "truth" }, SLOT_END };

static const op_sample compare_samples[] = {
    { .in = { DIMS(4, 1000), DIMS(4, 1000) } },
    { .in = { DIMS(3, 5, 17), DIMS(3, 5, 17) }, .scale = 1e4 },
    { .in = { INDEX(3, 7, 33), INDEX(3, 7, 33) } },
    { .in = { DIMS(0, 4), DIMS(0, 4) } },
    { .in = { DIMS(3), DIMS(4) }, .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(3), INDEX(9, 3) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};
static const op_sample compare_bool_samples[] = {
    { .in = { MASK(4, 1000), MASK(4, 1000) } },
    { .in = { MASK(3, 5, 17), MASK(3, 5, 17) } },
    { .in = { MASK(0), MASK(0) } },
    { .in = { DIMS(3), DIMS(3) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

static heed_status compare_infer(op_infer *t)
{
    if (!heed_type_equal(&t->in[0], &t->in[1]))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "both sides must have the same sizes here; heed_%s broadcasts them", t->op);
    t->out[0] = t->in[0];
    t->out[0].dtype = HEED_BOOL;
    return HEED_OK;
}

/* One stretch in the operands' own dtype: masks are built from large f32 and i64 values, for which the
 * reference is slow. */
typedef void compare_loop(uint8_t *z, int64_t step_z, const void *x, int64_t step_x, const void *y,
                          int64_t step_y, int64_t n);

#define COMPARE_LOOP(function, type, operator_)                                                              \
    static void function(uint8_t *z, int64_t step_z, const void *from_x, int64_t step_x, const void *from_y, \
                         int64_t step_y, int64_t n)                                                          \
    {                                                                                                        \
        const type *x = from_x, *y = from_y;                                                                 \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            type a[LANES], b[LANES];                                                                         \
            uint8_t truth[LANES];                                                                            \
                                                                                                             \
            LOAD_LANES(a, x + i * step_x, step_x);                                                           \
            LOAD_LANES(b, y + i * step_y, step_y);                                                           \
            for (int j = 0; j < LANES; j++)                                                                  \
                truth[j] = a[j] operator_ b[j];                                                              \
            STORE_LANES(z + i * step_z, step_z, truth);                                                      \
        }                                                                                                    \
        for (; i < n; i++)                                                                                   \
            z[i * step_z] = x[i * step_x] operator_ y[i * step_y];                                           \
    }

static void compare_walk(const op_call *c, int64_t begin, int64_t end, compare_loop *loop)
{
    const view *v[] = { &c->out[0], &c->in[0], &c->in[1] };
    void *at[WALK_VIEWS];
    pieces p;

    heed__pieces(&p, 3, v, begin);
    for (int64_t n; begin < end; begin += n) {
        n = heed__take_piece(&p, end - begin, at);
        loop(at[0], p.w.step[0], at[1], p.w.step[1], at[2], p.w.step[2], n);
    }
}

/* The kernel over NAME_loops, which lists the dtypes that have a loop. */
#define COMPARE_KERNEL(op_name)                                                                              \
    static bool compare_##op_name##_accepts(const op_call *c)                                                \
    {                                                                                                        \
        return compare_##op_name##_loops[c->in[0].type.dtype] != NULL;                                       \
    }                                                                                                        \
    static void compare_##op_name##_run(const op_call *c, int64_t begin, int64_t end)                        \
    {                                                                                                        \
        compare_walk(c, begin, end, compare_##op_name##_loops[c->in[0].type.dtype]);                         \
    }
#define COMPARE_ENTRY(op_name)                                                                               \
    { .name = "loop", .layout = STRIDED, .chunk = MAP_CHUNK, .accepts = compare_##op_name##_accepts,         \
      .count = heed__element_count, .run = compare_##op_name##_run }

/* f16 and bf16 too, by way of double. */
#define COMPARE_REFERENCE(op_name, operator_)                                                                \
    FORMULA_F64(compare_##op_name##_in_f64, 2, (x operator_ y) ? 1 : 0)                                      \
    FORMULA_I64(compare_##op_name##_in_i64, 2, x operator_ y)                                                \
    static void compare_##op_name##_reference(const op_call *c, int64_t begin, int64_t end)                  \
    {                                                                                                        \
        heed__reference(c, begin, end, &(formula){ compare_##op_name##_in_f64, compare_##op_name##_in_i64 });\
    }

/* name, slots, samples, ONNX name and opset, PyTorch */
#define COMPARE(op_name, slots, some, onnx_, since, torch_)                                                  \
    heed_value heed_##op_name(heed_builder *b, heed_value x, heed_value y)                                   \
    {                                                                                                        \
        if (!heed__broadcast_pair(b, &x, &y))                                                                \
            return (heed_value){ 0 };                                                                        \
        return heed__node(b, &heed__op_##op_name, NULL, (heed_value[]){ x, y }, 2);                          \
    }                                                                                                        \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = slots, .out = compare_out,                                     \
        .flags = OP_NO_GRAD | OP_IN_PLACE | OP_STRETCHES,                                                    \
        .infer = compare_infer, .cpu = compare_##op_name##_cpu, .onnx = { onnx_, since }, .torch = torch_,   \
        .samples = some,                                                                                     \
    };

COMPARE_LOOP(compare_eq_f32, float, ==)
COMPARE_LOOP(compare_eq_f64, double, ==)
COMPARE_LOOP(compare_eq_i64, int64_t, ==)
COMPARE_LOOP(compare_eq_i32, int32_t, ==)
COMPARE_LOOP(compare_eq_u8, uint8_t, ==)
COMPARE_LOOP(compare_lt_f32, float, <)
COMPARE_LOOP(compare_lt_f64, double, <)
COMPARE_LOOP(compare_lt_i64, int64_t, <)
COMPARE_LOOP(compare_lt_i32, int32_t, <)
COMPARE_LOOP(compare_lt_u8, uint8_t, <)
COMPARE_LOOP(compare_and_u8, uint8_t, &)
COMPARE_LOOP(compare_or_u8, uint8_t, |)

static compare_loop *const compare_eq_loops[HEED_DTYPES] = {
    [HEED_F32] = compare_eq_f32, [HEED_F64] = compare_eq_f64, [HEED_I64] = compare_eq_i64,
    [HEED_I32] = compare_eq_i32, [HEED_U8] = compare_eq_u8,   [HEED_BOOL] = compare_eq_u8,
};
static compare_loop *const compare_lt_loops[HEED_DTYPES] = {
    [HEED_F32] = compare_lt_f32, [HEED_F64] = compare_lt_f64, [HEED_I64] = compare_lt_i64,
    [HEED_I32] = compare_lt_i32, [HEED_U8] = compare_lt_u8,
};
static compare_loop *const compare_and_loops[HEED_DTYPES] = { [HEED_BOOL] = compare_and_u8 };
static compare_loop *const compare_or_loops[HEED_DTYPES] = { [HEED_BOOL] = compare_or_u8 };

COMPARE_KERNEL(eq)
COMPARE_KERNEL(lt)
COMPARE_KERNEL(and)
COMPARE_KERNEL(or)
COMPARE_REFERENCE(eq, ==)
COMPARE_REFERENCE(lt, <)

static const op_kernel compare_eq_cpu[] = {
    COMPARE_ENTRY(eq),
    REFERENCE_KERNEL(compare_eq_reference),
    KERNEL_END,
};
static const op_kernel compare_lt_cpu[] = {
    COMPARE_ENTRY(lt),
    REFERENCE_KERNEL(compare_lt_reference),
    KERNEL_END,
};
static const op_kernel compare_and_cpu[] = { COMPARE_ENTRY(and), KERNEL_END };
static const op_kernel compare_or_cpu[] = { COMPARE_ENTRY(or), KERNEL_END };

COMPARE(eq, compare_eq_in, compare_samples, "Equal", 13, "x == y")
COMPARE(lt, compare_lt_in, compare_samples, "Less", 13, "x < y")
COMPARE(and, compare_bool_in, compare_bool_samples, "And", 7, "x & y")
COMPARE(or, compare_bool_in, compare_bool_samples, "Or", 7, "x | y")

heed_value heed_gt(heed_builder *b, heed_value x, heed_value y)
{
    return heed_lt(b, y, x);
}

heed_value heed_le(heed_builder *b, heed_value x, heed_value y)
{
    return heed_or(b, heed_lt(b, x, y), heed_eq(b, x, y));
}

heed_value heed_ge(heed_builder *b, heed_value x, heed_value y)
{
    return heed_le(b, y, x);
}
