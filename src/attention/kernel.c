/* The fused kernels of attention: from views to the heads that cpu/attention.h computes.
 *
 * Forward shares out blocks of ATTENTION_ROWS queries of each head; backward shares out key heads, each
 * with all query heads that use it, so that every sum has one owner and a fixed order. */

#include "attention/attention.h"
#include "cpu/attention.h"

#include <math.h>

#define GRAIN 400e3 /* operations that are worth a chunk */

static bool kernel_accepts(const op_call *c)
{
    return heed__all_f32(c) && heed__attention_ops(c->isa);
}

static int64_t kernel_size(const op_call *c, int slot, int axis)
{
    return c->in[slot].type.dims[axis];
}

static bool kernel_given(const op_call *c, int slot)
{
    return slot < c->n_in && c->in[slot].type.rank >= 0;
}

/* Query and key pairs of one head that causality leaves. */
static double kernel_pairs(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const int64_t tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2);
    const int64_t offset = heed__attention_offset(a->offset, tq, tk);
    double pairs = 0;

    if (!a->causal || kernel_given(c, AT_OFFSET))
        return (double)tq * (double)tk;
    for (int64_t i = 0; i < tq; i++)
        pairs += (double)i64_max(0, i64_min(tk, i + offset + 1));
    return pairs;
}

static double kernel_heads(const op_call *c)
{
    return (double)kernel_size(c, AT_Q, 0) * (double)kernel_size(c, AT_Q, 1);
}

double heed__attention_flops(const op_call *c)
{
    return 2 * kernel_heads(c) * kernel_pairs(c) *
           (double)(kernel_size(c, AT_Q, 3) + kernel_size(c, AT_V, 3));
}

double heed__attention_grad_flops(const op_call *c)
{
    return 2 * kernel_heads(c) * kernel_pairs(c) *
           (double)(3 * kernel_size(c, AT_Q, 3) + 2 * kernel_size(c, AT_V, 3));
}

static int64_t kernel_chunk(double flops, int64_t items)
{
    const double each = flops / (double)i64_max(1, items);

    return each >= GRAIN ? 1
                         : i64_min(i64_max(1, i64_ceil_div(items, 16)), (int64_t)(GRAIN / (each + 1)) + 1);
}

static const void *kernel_at(const view *v, int64_t b, int64_t h)
{
    return (const char *)v->data +
           (b * v->strides[0] + h * v->strides[1]) * (int64_t)heed_dtype_size(v->type.dtype);
}

static int64_t kernel_number(const op_call *c, int slot, int64_t b, int64_t otherwise)
{
    return kernel_given(c, slot) ? ((const int64_t *)c->in[slot].data)[b] : otherwise;
}

/* Steps of an axis of size 1 are 0: it stands for all. */
static int64_t kernel_mask_step(const view *v, int axis)
{
    return v->type.dims[axis] > 1 ? v->strides[axis] : 0;
}

/* Query head h of sequence b and its key head. */
static attention_head kernel_head(const op_call *c, int64_t b, int64_t h)
{
    const attention_attrs *a = c->attrs;
    const view *q = &c->in[AT_Q], *k = &c->in[AT_K], *v = &c->in[AT_V];
    const int64_t group = i64_max(1, q->type.dims[1] / k->type.dims[1]), tq = q->type.dims[2],
                  tk = k->type.dims[2];
    attention_head head = {
        .q = kernel_at(q, b, h),
        .k = kernel_at(k, b, h / group),
        .v = kernel_at(v, b, h / group),
        .q_step = q->strides[2],
        .k_step = k->strides[2],
        .v_step = v->strides[2],
        .q_head = q->strides[1],
        .tq = tq,
        .tk = tk,
        .dk = q->type.dims[3],
        .dv = v->type.dims[3],
        .group = 1,
        .length = i64_max(0, i64_min(tk, kernel_number(c, AT_LENGTHS, b, tk))),
        .q_length = i64_max(0, i64_min(tq, kernel_number(c, AT_Q_LENGTHS, b, tq))),
        .offset = heed__attention_offset(kernel_number(c, AT_OFFSET, b, a->offset), tq, tk),
        .causal = a->causal,
        .scale = (float)a->scale,
    };

    if (kernel_given(c, AT_MASK)) {
        const view *m = &c->in[AT_MASK];

        head.mask_head = kernel_mask_step(m, 1);
        head.mask_row = kernel_mask_step(m, 2);
        head.mask_key = kernel_mask_step(m, 3);
        head.mask = (const bool *)m->data + b * kernel_mask_step(m, 0) + h * head.mask_head;
    }
    if (a->dropout > 0) {
        const int64_t *rng = c->in[AT_RNG].data;

        head.drops = true;
        head.threshold = (uint32_t)floor(a->dropout * 0x1p32);
        head.kept = (float)(1 / (1 - a->dropout));
        head.seed = (uint64_t)rng[0];
        head.step = (uint32_t)rng[1];
        head.node = (uint32_t)a->node;
        head.row = (uint32_t)((b * q->type.dims[1] + h) * tq);
    }
    return head;
}

/* ---- forward: items are blocks of queries ---- */

static int64_t forward_blocks(const op_call *c)
{
    return i64_ceil_div(kernel_size(c, AT_Q, 2), ATTENTION_ROWS);
}

static int64_t forward_count(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1) * forward_blocks(c);
}

static int64_t forward_chunk(const op_call *c)
{
    return kernel_chunk(heed__attention_flops(c), forward_count(c));
}

static size_t forward_scratch(const op_call *c)
{
    return heed__attention_ops(c->isa)->forward_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));
}

static float *forward_out(const op_call *c, int out, int64_t head)
{
    const heed_type *t = &c->out[out].type;
    const int64_t each = t->dims[2] * (t->rank == 4 ? t->dims[3] : 1);

    return c->out[out].data ? (float *)c->out[out].data + head * each : NULL;
}

static void forward_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2), blocks = forward_blocks(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / blocks, first = item % blocks * ATTENTION_ROWS;
        const attention_head h = kernel_head(c, at / heads, at % heads);
        const attention_result to = { .out = forward_out(c, AT_GET_OUT, at),
                                      .lse = forward_out(c, AT_GET_LSE, at),
                                      .weights = forward_out(c, AT_GET_WEIGHTS, at) };

        heed__attention_ops(c->isa)->forward(&h, &to, first, i64_min(tq, first + ATTENTION_ROWS), c->scratch);
    }
}

const op_kernel heed__attention_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .accepts = kernel_accepts,
      .count = forward_count,
      .chunk_of = forward_chunk,
      .scratch = forward_scratch,
      .run = forward_run,
      .dense_in = 1u << AT_LENGTHS | 1u << AT_Q_LENGTHS | 1u << AT_OFFSET | 1u << AT_RNG },
    KERNEL_END,
};

/* ---- backward: items are key heads ---- */

static bool backward_accepts(const op_call *c)
{
    return kernel_accepts(c) && kernel_given(c, AT_DOUT) && !kernel_given(c, AT_DWEIGHTS);
}

static int64_t backward_count(const op_call *c)
{
    return kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1);
}

static int64_t backward_chunk(const op_call *c)
{
    return kernel_chunk(heed__attention_grad_flops(c), backward_count(c));
}

static size_t backward_scratch(const op_call *c)
{
    const int64_t group = kernel_size(c, AT_Q, 1) / kernel_size(c, AT_K, 1);

    return heed__attention_ops(c->isa)->backward_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3),
                                                       group * kernel_size(c, AT_Q, 2));
}

static void backward_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_K, 1), group = kernel_size(c, AT_Q, 1) / heads,
                  tq = kernel_size(c, AT_Q, 2);
    const view *dout = &c->in[AT_DOUT];

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / heads, first = item * group; /* query head, counted over all sequences */
        attention_head h = kernel_head(c, b, item % heads * group);
        const attention_upstream u = {
            .out = (const float *)c->in[AT_OUT].data + first * tq * h.dv,
            .lse = (const float *)c->in[AT_LSE].data + first * tq,
            .dout = kernel_at(dout, b, item % heads * group),
            .dout_step = dout->strides[2],
            .dout_head = dout->strides[1],
            .dlse = kernel_given(c, AT_DLSE) ? (const float *)c->in[AT_DLSE].data + first * tq : NULL,
            .dq = c->out[AT_DQ].data ? (float *)c->out[AT_DQ].data + first * tq * h.dk : NULL,
            .dk = forward_out(c, AT_DK, item),
            .dv = forward_out(c, AT_DV, item),
        };

        h.group = group;
        heed__attention_ops(c->isa)->backward(&h, &u, c->scratch);
    }
}

const op_kernel heed__attention_grad_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .accepts = backward_accepts,
      .count = backward_count,
      .chunk_of = backward_chunk,
      .scratch = backward_scratch,
      .run = backward_run,
      .dense_in = 1u << AT_LENGTHS | 1u << AT_Q_LENGTHS | 1u << AT_OFFSET | 1u << AT_RNG | 1u << AT_OUT |
                  1u << AT_LSE | 1u << AT_DLSE },
    KERNEL_END,
};
