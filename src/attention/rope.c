/* rope: rotary positions. The first `dims` numbers of each row turn in pairs by an angle that grows with the position.
 *
 *   x [B,H,T,D]; row i stands at p = i + offset;  t = p / factor * base^(-2m/dims)
 *   (a, b) -> (a cos t - b sin t, b cos t + a sin t)
 *   the pair is (m, m + dims/2), or (2m, 2m+1) when interleaved
 *
 * Angles are computed in double, then cos and sin are rounded: in f32 they are wrong by 0.01 at position 100 000. The gradient
 * turns back: it is the same op with `inverse`. Su 2021; factor: Chen 2023. */

#include "attention/attention.h"
#include "ops/reference.h"

#include <math.h>
#include <string.h>

static const op_slot rope_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
                                   { .name = "offset", .dtypes = I64_ONLY, .flags = OPTIONAL },
                                   SLOT_END };
static const op_slot rope_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

static const op_field rope_fields[] = {
    FIELD_F64(rope_attrs, base),
    FIELD_I64(rope_attrs, dims),
    FIELD_BOOL(rope_attrs, interleaved),
    FIELD_F64(rope_attrs, factor),
    FIELD_I64(rope_attrs, offset),
    FIELD_BOOL(rope_attrs, inverse),
    FIELD_END,
};

static heed_status rope_infer(op_infer *t)
{
    const rope_attrs *a = t->attrs;

    if (t->in[0].rank != 4)
        return heed__refuse(t, HEED_ERR_SHAPE, "x must be [B,H,T,D]; its rank is %d", t->in[0].rank);
    if (!(a->base > 1) || !isfinite(a->base))
        return heed__refuse(t, HEED_ERR_SPEC, "position.rope.base must be above 1 and finite");
    if (!(a->factor > 0) || !isfinite(a->factor))
        return heed__refuse(t, HEED_ERR_SPEC, "position.rope.factor must be above 0 and finite");
    if (a->dims < 2 || a->dims % 2 || a->dims > t->in[0].dims[3])
        return heed__refuse(t, HEED_ERR_SPEC, "position.rope.dims is %lld; it must be even and 2 to %lld",
                            (long long)a->dims, (long long)t->in[0].dims[3]);
    if (heed__given(t, 1) && (t->in[1].rank != 1 || t->in[1].dims[0] != t->in[0].dims[0]))
        return heed__refuse(t, HEED_ERR_SHAPE, "offset must have one number for each sequence");
    return HEED_OK;
}

static void rope_gradient(op_grad *g)
{
    rope_attrs a = *(const rope_attrs *)g->attrs;
    heed_value in[2] = { g->dout[0], g->n_in > 1 ? g->in[1] : (heed_value){ 0 } };

    a.inverse = !a.inverse;
    g->din[0] = heed__node(g->b, &heed__op_rope, &a, in, in[1].id ? 2 : 1);
}

/* One row of one position for all heads: cos and sin of each pair once. Items are (sequence, row). */
static int64_t rope_count(const op_call *c)
{
    return c->in[0].type.dims[0] * c->in[0].type.dims[2];
}

static size_t rope_scratch(const op_call *c)
{
    const rope_attrs *a = c->attrs;

    return (size_t)i64_max(a->dims, c->in[0].type.dims[3]) * sizeof(double);
}

static void rope_angles(const rope_attrs *a, int64_t position, bool narrow, double *cosines, double *sines)
{
    for (int64_t m = 0; m < a->dims / 2; m++) {
        const double t = (double)position / a->factor * pow(a->base, -2.0 * (double)m / (double)a->dims);
        const double turn = a->inverse ? -sin(t) : sin(t);

        cosines[m] = narrow ? (double)(float)cos(t) : cos(t);
        sines[m] = narrow ? (double)(float)turn : turn;
    }
}

static void rope_run(const op_call *c, int64_t begin, int64_t end)
{
    const rope_attrs *a = c->attrs;
    const view *x = &c->in[0], *y = &c->out[0];
    const int64_t steps = x->type.dims[2], heads = x->type.dims[1], width = x->type.dims[3],
                  half = a->dims / 2;
    const size_t size = heed_dtype_size(x->type.dtype);
    double *cosines = c->scratch[0], *sines = c->scratch[1], *row = c->scratch[2], *to = c->scratch[3];

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / steps, i = item % steps;
        const int64_t offset = c->n_in > 1 && c->in[1].data ? ((const int64_t *)c->in[1].data)[b] : a->offset;

        rope_angles(a, i + heed__attention_offset(offset), x->type.dtype != HEED_F64, cosines, sines);
        for (int64_t h = 0; y->data && h < heads; h++) {
            const int64_t from = b * x->strides[0] + h * x->strides[1] + i * x->strides[2];
            const int64_t at = b * y->strides[0] + h * y->strides[1] + i * y->strides[2];

            heed__load_f64(row, x->type.dtype, (const char *)x->data + from * (int64_t)size, x->strides[3],
                           width, c->row);
            memcpy(to, row, (size_t)width * sizeof *to);
            for (int64_t m = 0; m < half; m++) {
                const int64_t first = a->interleaved ? 2 * m : m,
                              second = a->interleaved ? 2 * m + 1 : m + half;

                to[first] = row[first] * cosines[m] - row[second] * sines[m];
                to[second] = row[second] * cosines[m] + row[first] * sines[m];
            }
            heed__store_f64((char *)y->data + at * (int64_t)size, y->type.dtype, y->strides[3], to, width,
                            c->row);
        }
    }
}

/* ---- f32: the angles of every position once, for all heads and, without offsets of their own, all sequences ---- */

static const char *table_refuses(const op_call *c)
{
    return heed__all_f32(c) ? NULL : "a dtype other than f32";
}

/* Sequences whose positions differ. */
static int64_t table_tables(const op_call *c)
{
    return c->n_in > 1 && c->in[1].type.rank >= 0 ? c->in[0].type.dims[0] : i64_min(1, c->in[0].type.dims[0]);
}

static int64_t table_prepare_count(const op_call *c)
{
    return table_tables(c) * c->in[0].type.dims[2];
}

static size_t table_shared(const op_call *c)
{
    return (size_t)(table_prepare_count(c) * ((const rope_attrs *)c->attrs)->dims) * sizeof(float);
}

static void table_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const rope_attrs *a = c->attrs;
    const int64_t steps = c->in[0].type.dims[2], half = a->dims / 2;
    double *cosines = c->scratch[0], *sines = c->scratch[1];

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / steps;
        const int64_t offset = c->n_in > 1 && c->in[1].data ? ((const int64_t *)c->in[1].data)[b] : a->offset;
        float *to = (float *)c->shared + item * a->dims;

        rope_angles(a, item % steps + heed__attention_offset(offset), true, cosines, sines);
        for (int64_t m = 0; m < half; m++) {
            to[m] = (float)cosines[m];
            to[half + m] = (float)sines[m];
        }
    }
}

static int64_t table_count(const op_call *c)
{
    return heed__dims_product(&c->in[0].type, 0, 3);
}

static void table_run(const op_call *c, int64_t begin, int64_t end)
{
    const rope_attrs *a = c->attrs;
    const view *x = &c->in[0], *y = &c->out[0];
    const int64_t heads = x->type.dims[1], steps = x->type.dims[2], width = x->type.dims[3], half = a->dims / 2,
                  tables = table_tables(c);

    for (int64_t item = begin; y->data && item < end; item++) {
        const int64_t b = item / (heads * steps), h = item / steps % heads, i = item % steps;
        const float *from = (const float *)x->data + b * x->strides[0] + h * x->strides[1] + i * x->strides[2];
        float *to = (float *)y->data + b * y->strides[0] + h * y->strides[1] + i * y->strides[2];
        const float *cosine = (const float *)c->shared + ((tables > 1 ? b : 0) * steps + i) * a->dims, *sine = cosine + half;

        for (int64_t m = 0; m < half; m++) {
            const int64_t first = a->interleaved ? 2 * m : m, second = a->interleaved ? 2 * m + 1 : m + half;
            const float p = from[first], q = from[second];

            to[first] = p * cosine[m] - q * sine[m];
            to[second] = q * cosine[m] + p * sine[m];
        }
        for (int64_t m = a->dims; m < width; m++)
            to[m] = from[m];
    }
}

static const op_kernel rope_cpu[] = {
    { .name = "table",
      .layout = ROWS,
      .chunk = 128,
      .refuses = table_refuses,
      .prepare_count = table_prepare_count,
      .prepare = table_prepare,
      .shared = table_shared,
      .count = table_count,
      .scratch = rope_scratch,
      .run = table_run,
      .dense_in = 1u << 1 },
    { .name = "reference",
      .layout = STRIDED,
      .chunk = 16,
      .count = rope_count,
      .scratch = rope_scratch,
      .run = rope_run,
      .dense_in = 1u << 1 },
    KERNEL_END,
};

static const op_sample rope_samples[] = {
    { .in = { DIMS(2, 3, 5, 8) }, .attrs = &(const rope_attrs){ .base = 10000, .dims = 8, .factor = 1 } },
    { .in = { DIMS(2, 3, 5, 6), LENGTHS(9, 2) },
      .attrs = &(const rope_attrs){ .base = 500, .dims = 4, .factor = 2, .interleaved = true } },
    { .in = { DIMS(2, 3, 0, 6) },
      .attrs = &(const rope_attrs){ .base = 500, .dims = 4, .factor = 1, .offset = 100000 } },
    { .in = { DIMS(2, 3, 2, 6) },
      .attrs = &(const rope_attrs){ .base = 500, .dims = 3, .factor = 1 },
      .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

rope_attrs heed__rope_attrs(const heed_attention_spec *s, int64_t width)
{
    return (rope_attrs){ .base = s->position.rope.base.set ? (double)s->position.rope.base.value : 10000,
                         .dims = s->position.rope.dims.set ? s->position.rope.dims.value : width,
                         .interleaved = s->position.rope.interleaved,
                         .factor = s->position.rope.factor.set ? (double)s->position.rope.factor.value : 1 };
}

heed_value heed__rope(heed_builder *b, heed_value x, heed_value offset, const rope_attrs *a)
{
    return heed__node(b, &heed__op_rope, a, (heed_value[]){ x, offset }, offset.id ? 2 : 1);
}

const op_def heed__op_rope = {
    .name = "rope",
    .version = 1,
    .in = rope_in,
    .out = rope_out,
    .attrs_size = sizeof(rope_attrs),
    .fields = rope_fields,
    .infer = rope_infer,
    .grad = rope_gradient,
    .cpu = rope_cpu,
    .torch = "x * cos + rotate_half(x) * sin",
    .samples = rope_samples,
};
