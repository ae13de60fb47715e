/* cast: y = x in another dtype.
 *
 * Float to integer truncates toward zero and clamps, NaN becomes 0; integers narrow by wrapping around; to
 * bool: x != 0. To a narrower float rounds to nearest even (f64 to f16 and bf16 by way of f32, as PyTorch
 * does). Gradient: dy cast back; none where either side is no float. */

#include "ops/reference.h"

static const op_slot cast_in[] = { { .name = "x", .dtypes = ANY_DTYPE, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot cast_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int dtype;
} cast_attrs;
static const op_field cast_fields[] = { FIELD_ENUM(cast_attrs, dtype, DTYPE_WORDS), FIELD_END };

static heed_status cast_infer(op_infer *t)
{
    const cast_attrs *a = t->attrs;

    if (a->dtype < 0 || a->dtype >= HEED_DTYPES)
        return heed__refuse(t, HEED_ERR_DTYPE, "%d is no dtype", a->dtype);
    t->out[0] = t->in[0];
    t->out[0].dtype = (heed_dtype)a->dtype;
    return HEED_OK;
}

static void cast_grad(op_grad *g)
{
    const heed_dtype from = heed_value_type(g->b, g->in[0]).dtype;

    if (heed__floating(from) && heed__floating((heed_dtype)((const cast_attrs *)g->attrs)->dtype))
        g->din[0] = heed_cast(g->b, g->dout[0], from);
}

static bool cast_rows_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[0]) && heed__computes_in_f32(&c->out[0]);
}

static void cast_rows(const op_call *c, int64_t begin, int64_t end)
{
    heed__unary_rows(c, begin, end, ROW_COPY);
}

/* Masks and indices to f32. */
typedef void cast_loop(float *y, int64_t step_y, const void *from, int64_t step_x, int64_t n);

#define CAST_LOOP(type)                                                                                      \
    static void cast_##type(float *y, int64_t step_y, const void *from, int64_t step_x, int64_t n)           \
    {                                                                                                        \
        const type *x = from;                                                                                \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            type a[LANES];                                                                                   \
            float b[LANES];                                                                                  \
                                                                                                             \
            LOAD_LANES(a, x + i * step_x, step_x);                                                           \
            for (int j = 0; j < LANES; j++)                                                                  \
                b[j] = (float)a[j];                                                                          \
            STORE_LANES(y + i * step_y, step_y, b);                                                          \
        }                                                                                                    \
        for (; i < n; i++)                                                                                   \
            y[i * step_y] = (float)x[i * step_x];                                                            \
    }

CAST_LOOP(uint8_t)
CAST_LOOP(int32_t)
CAST_LOOP(int64_t)

static cast_loop *const cast_loops[HEED_DTYPES] = {
    [HEED_I64] = cast_int64_t, [HEED_I32] = cast_int32_t,
    [HEED_U8] = cast_uint8_t,  [HEED_BOOL] = cast_uint8_t,
};

static bool cast_loop_accepts(const op_call *c)
{
    return c->out[0].type.dtype == HEED_F32 && cast_loops[c->in[0].type.dtype] != NULL;
}

static void cast_loop_run(const op_call *c, int64_t begin, int64_t end)
{
    const view *v[] = { &c->out[0], &c->in[0] };
    void *at[WALK_VIEWS];
    pieces p;

    heed__pieces(&p, 2, v, begin);
    for (int64_t n; begin < end; begin += n) {
        n = heed__take_piece(&p, end - begin, at);
        cast_loops[v[1]->type.dtype](at[0], p.w.step[0], at[1], p.w.step[1], n);
    }
}

static void cast_reference(const op_call *c, int64_t begin, int64_t end)
{
    const heed_dtype in = c->in[0].type.dtype, out = c->out[0].type.dtype;
    const view *v[] = { &c->out[0], &c->in[0] };
    void *at[WALK_VIEWS];
    pieces p;

    heed__pieces(&p, 2, v, begin);
    for (int64_t n; begin < end; begin += n) {
        n = heed__take_piece(&p, i64_min(ELEMENTS, end - begin), at);
        if (heed__floating(in)) {
            double x[ELEMENTS];

            heed__load_f64(x, in, at[1], p.w.step[1], n, c->row);
            heed__store_f64(at[0], out, p.w.step[0], x, n, c->row);
        } else {
            int64_t x[ELEMENTS];

            heed__load_i64(x, in, at[1], p.w.step[1], n);
            heed__store_i64(at[0], out, p.w.step[0], x, n, c->row);
        }
    }
}

static const op_kernel cast_cpu[] = {
    { .name = "rows", .layout = STRIDED, .chunk = MAP_CHUNK, .accepts = cast_rows_accepts,
      .count = heed__element_count,
      .scratch = heed__tile_scratch, .run = cast_rows },
    { .name = "loop", .layout = STRIDED, .chunk = MAP_CHUNK, .accepts = cast_loop_accepts,
      .count = heed__element_count,
      .run = cast_loop_run },
    REFERENCE_KERNEL(cast_reference),
    KERNEL_END,
};

static const op_sample cast_samples[] = {
    /* f32 hides steps of 1e-6 */
    { .in = { DIMS(4, 1000) }, .attrs = &(const cast_attrs){ HEED_F32 }, .no_numeric = true },
    { .in = { DIMS(3, 5, 17) }, .attrs = &(const cast_attrs){ HEED_I64 }, .scale = 1e4 },
    { .in = { DIMS(33, 7) }, .attrs = &(const cast_attrs){ HEED_BOOL } },
    { .in = { MASK(9, 31) }, .attrs = &(const cast_attrs){ HEED_F32 } },
    { .in = { INDEX(300, 77) }, .attrs = &(const cast_attrs){ HEED_U8 } },
    { .in = { INDEX(1000000, 77) }, .attrs = &(const cast_attrs){ HEED_F64 } },
    { .in = { DIMS(2, 0) }, .attrs = &(const cast_attrs){ HEED_I32 } },
    { .in = { DIMS(2) }, .attrs = &(const cast_attrs){ HEED_DTYPES }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed_cast(heed_builder *b, heed_value x, heed_dtype dtype)
{
    if (x.id && heed_value_type(b, x).dtype == dtype)
        return x;
    return heed__node(b, &heed__op_cast, &(cast_attrs){ (int)dtype }, &x, 1);
}

static void cast_onnx(onnx_emit *e)
{
    heed__onnx_node(e, (onnx_attr[]){ ONNX_INT("to", e->to->dtype(e->out[0].dtype)), ONNX_END });
}

const op_def heed__op_cast = {
    .name = "cast", .version = 1, .in = cast_in, .out = cast_out, .attrs_size = sizeof(cast_attrs),
    .fields = cast_fields,
    .infer = cast_infer, .grad = cast_grad, .cpu = cast_cpu, .onnx = { "Cast", 13 }, .onnx_emit = cast_onnx,
    .torch = "x.to({dtype})",
    .samples = cast_samples,
};
