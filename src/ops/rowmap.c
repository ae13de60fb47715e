/* Element-wise ops by row primitives: f32 in and out, f16 and bf16 widened on the way in and narrowed on
 * the way out.
 *
 * An operand that is f32 with step 1 (or 0: broadcast) is handed to the primitive where it lies, one run
 * at a time when runs are long. Everything else, short runs too, is first gathered into a tile of scratch,
 * so that the primitive always works on long rows. Elements do not depend on each other, hence how they
 * are cut changes no bit. */

#include "ops/reference.h"

#include <string.h>

#define LONG_RUN 256

typedef struct operand {
    pieces p;
    heed_dtype dtype;
    bool in_place; /* f32 with a step that the primitive takes */
    float *scratch;
} operand;

static void operand_begin(operand *o, const view *v, int64_t begin, bool repeats, void *scratch)
{
    heed__pieces(&o->p, 1, &v, begin);
    o->dtype = v->type.dtype;
    o->in_place = o->dtype == HEED_F32 && (o->p.w.step[0] == 1 || (repeats && o->p.w.step[0] == 0));
    o->scratch = scratch;
}

static int64_t operand_left(const operand *o)
{
    return o->p.length - o->p.taken;
}

/* How many elements to handle next, at most n. */
static int64_t operand_length(const operand *o, int64_t n)
{
    if (o->in_place && (o->p.length >= LONG_RUN || operand_left(o) >= n))
        return i64_min(n, operand_left(o));
    return i64_min(n, TILE);
}

static void gather(float *to, heed_dtype d, const void *from, int64_t step, int64_t n, const row_ops *row)
{
    const float *x = from;
    const uint16_t *half = from;
    uint16_t some[64];

    if (step == 1)
        heed__widen(to, d, from, n, row);
    else if (d == HEED_F32)
        for (int64_t i = 0; i < n; i++)
            to[i] = x[i * step];
    else
        for (int64_t i = 0; i < n; i += 64) {
            const int64_t m = i64_min(64, n - i);

            for (int64_t j = 0; j < m; j++)
                some[j] = half[(i + j) * step];
            heed__widen(to + i, d, some, m, row);
        }
}

static void scatter(void *to, heed_dtype d, int64_t step, const float *from, int64_t n, const row_ops *row)
{
    float *y = to;
    uint16_t *half = to, some[64];

    if (step == 1)
        heed__narrow(to, d, from, n, row);
    else if (d == HEED_F32)
        for (int64_t i = 0; i < n; i++)
            y[i * step] = from[i];
    else
        for (int64_t i = 0; i < n; i += 64) {
            const int64_t m = i64_min(64, n - i);

            heed__narrow(some, d, from + i, m, row);
            for (int64_t j = 0; j < m; j++)
                half[(i + j) * step] = some[j];
        }
}

/* The next n elements as floats with *step 1 or 0. */
static const float *operand_read(operand *o, int64_t n, int64_t *step, const row_ops *row)
{
    void *at[WALK_VIEWS];

    *step = 1;
    if (o->in_place && operand_left(o) >= n) {
        *step = o->p.w.step[0];
        (void)heed__take_piece(&o->p, n, at);
        return at[0];
    }
    for (int64_t done = 0, m; done < n; done += m) {
        m = heed__take_piece(&o->p, n - done, at);
        gather(o->scratch + done, o->dtype, at[0], o->p.w.step[0], m, row);
    }
    return o->scratch;
}

/* Where the next n results go; operand_write brings them home and moves on. */
static float *operand_room(const operand *o, int64_t n)
{
    if (o->in_place && operand_left(o) >= n)
        return (float *)(void *)o->p.run[0] + o->p.taken;
    return o->scratch;
}

static void operand_write(operand *o, int64_t n, const float *from, const row_ops *row)
{
    const bool there = from != o->scratch;
    void *at[WALK_VIEWS];

    for (int64_t done = 0, m; done < n; done += m) {
        m = heed__take_piece(&o->p, n - done, at);
        if (!there)
            scatter(at[0], o->dtype, o->p.w.step[0], from + done, m, row);
    }
}

void heed__unary_rows(const op_call *c, int64_t begin, int64_t end, row_unary f)
{
    operand x, y;

    operand_begin(&x, &c->in[0], begin, false, c->scratch[0]);
    operand_begin(&y, &c->out[0], begin, false, c->scratch[1]);
    for (int64_t n; begin < end; begin += n) {
        const float *from;
        float *to;
        int64_t step;

        n = operand_length(&x, operand_length(&y, end - begin));
        from = operand_read(&x, n, &step, c->row);
        to = operand_room(&y, n);
        c->row->unary[f](to, from, n);
        operand_write(&y, n, to, c->row);
    }
}

void heed__binary_rows(const op_call *c, int64_t begin, int64_t end, row_binary f)
{
    operand a, b, y;

    operand_begin(&a, &c->in[0], begin, true, c->scratch[0]);
    operand_begin(&b, &c->in[1], begin, true, c->scratch[1]);
    operand_begin(&y, &c->out[0], begin, false, c->scratch[2]);
    for (int64_t n; begin < end; begin += n) {
        const float *from_a, *from_b;
        float *to;
        int64_t step_a, step_b;

        n = operand_length(&a, operand_length(&b, operand_length(&y, end - begin)));
        from_a = operand_read(&a, n, &step_a, c->row);
        from_b = operand_read(&b, n, &step_b, c->row);
        to = operand_room(&y, n);
        c->row->binary[f](to, from_a, step_a, from_b, step_b, n);
        operand_write(&y, n, to, c->row);
    }
}
