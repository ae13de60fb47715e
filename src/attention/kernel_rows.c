/* attention, attention_grad and attention_probe by whole rows of weights: every cell in f32 (cpu/attention.h).
 *
 * Gradients of what heads and sequences share: each head's own sums lie in its chunk's partial memory and are added up in order
 * of sequences and heads. A bias of size 1 on one of these axes has one owner instead, which goes through all of them. */

#include "attention/kernel_rows.h"

#include <string.h>

const char *heed__rows_refuses(const op_call *c)
{
    if (!heed__all_f32(c))
        return "a dtype other than f32";
    return heed__attention_ops(c->isa) ? NULL : "this instruction level";
}

static int64_t row_blocks(const op_call *c)
{
    return i64_ceil_div(kernel_size(c, AT_Q, 2), attention_block(kernel_size(c, AT_K, 2)));
}

size_t heed__rows_scratch(const op_call *c)
{
    return heed__attention_ops(c->isa)->rows_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3),
                                                   kernel_size(c, AT_K, 2));
}

/* ---- forward: items are blocks of queries of each head ---- */

int64_t heed__rows_count(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1) * row_blocks(c);
}

int64_t heed__rows_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__attention_flops(c), heed__rows_count(c));
}

static attention_result rows_result(const op_call *c, int64_t b, int64_t h)
{
    const int64_t at = b * kernel_size(c, AT_Q, 1) + h;

    return (attention_result){
        .out = heed__kernel_out(c, AT_GET_OUT, at),
        .lse = heed__kernel_out(c, AT_GET_LSE, at),
        .weights = heed__kernel_out(c, AT_GET_WEIGHTS, at),
        .rel_sums = heed__kernel_out(c, AT_GET_REL_SUMS, at),
        .entropy = heed__kernel_out(c, AT_GET_ENTROPY, at),
        .distance = heed__kernel_out(c, AT_GET_DISTANCE, at),
        .topk_values = heed__kernel_out(c, AT_GET_TOPK_VALUES, at),
        .topk_indices = heed__kernel_out(c, AT_GET_TOPK_INDICES, at),
        .topk = ((const attention_attrs *)c->attrs)->topk,
        .rows = heed__kernel_listed_rows(c, b, h),
        .row_list = kernel_given(c, AT_PROBE_ROWS) ? c->in[AT_PROBE_ROWS].data : NULL,
        .n_rows = c->out[AT_GET_ROWS].type.dims[2],
    };
}

void heed__rows_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2), blocks = row_blocks(c),
                  height = attention_block(kernel_size(c, AT_K, 2));

    for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / blocks / heads, h = item / blocks % heads, first = item % blocks * height,
                      last = i64_min(tq, first + height);
        const attention_head head = heed__kernel_head(c, b, h, heed__kernel_sets(c, b));
        const attention_result to = rows_result(c, b, h);

        heed__attention_ops(c->isa)->rows_forward(&head, &to, first, last, c->scratch);
        heed__kernel_repeat_rows(c, &to, b, h, first, last);
    }
}

/* ---- second pass: an item is a head, for sums over its queries, or behind them a block of queries, for the mean of heads ---- */

static int64_t probe_heads(const op_call *c)
{
    return kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1);
}

int64_t heed__rows_probe_count(const op_call *c)
{
    return probe_heads(c) + kernel_size(c, AT_Q, 0) * row_blocks(c);
}

/* Sums to means: edge blocks have fewer cells. */
static void divide_by_cells(const op_call *c, float *pooled)
{
    const attention_attrs *a = c->attrs;
    const int64_t tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2);

    for (int64_t i = 0; i < tq; i += a->pooled_q)
        for (int64_t j = 0; j < tk; j += a->pooled_k)
            *pooled++ /= (float)(i64_min(a->pooled_q, tq - i) * i64_min(a->pooled_k, tk - j));
}

static void sum_queries(const op_call *c, int64_t b, int64_t h)
{
    const attention_attrs *a = c->attrs;
    const int64_t at = b * kernel_size(c, AT_Q, 1) + h, tq = kernel_size(c, AT_Q, 2),
                  tk = kernel_size(c, AT_K, 2), height = attention_block(tk);
    const attention_head head = heed__kernel_head(c, b, h, heed__kernel_sets(c, b));
    const attention_sums to = { .received = heed__kernel_out(c, AT_GET_RECEIVED, at),
                                .pooled = heed__kernel_out(c, AT_GET_POOLED, at),
                                .pooled_q = a->pooled_q,
                                .pooled_k = a->pooled_k };

    if (to.received)
        memset(to.received, 0, (size_t)tk * sizeof(float));
    if (to.pooled)
        memset(to.pooled, 0,
               (size_t)(i64_ceil_div(tq, a->pooled_q) * i64_ceil_div(tk, a->pooled_k)) * sizeof(float));
    for (int64_t i = 0; (to.received || to.pooled) && i < tq; i += height)
        heed__attention_ops(c->isa)->rows_sums(&head, &to, i, i64_min(tq, i + height), c->scratch);
    if (to.pooled)
        divide_by_cells(c, to.pooled);
}

static void mean_of_heads(const op_call *c, int64_t b, int64_t block)
{
    const int64_t heads = kernel_size(c, AT_Q, 1), tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2),
                  height = attention_block(tk), begin = block * height, end = i64_min(tq, begin + height);
    const view *mean = &c->out[AT_GET_MEAN];

    if (!mean->data || tk == 0)
        return;
    const attention_sums to = { .mean = (float *)mean->data + b * tq * tk };

    memset(to.mean + begin * tk, 0, (size_t)((end - begin) * tk) * sizeof(float));
    for (int64_t h = 0; h < heads; h++) {
        const attention_head head = heed__kernel_head(c, b, h, heed__kernel_sets(c, b));

        heed__attention_ops(c->isa)->rows_sums(&head, &to, begin, end, c->scratch);
    }
    for (int64_t i = begin * tk; i < end * tk; i++)
        to.mean[i] /= (float)heads;
}

void heed__rows_probe_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t heads = kernel_size(c, AT_Q, 1), sums = probe_heads(c), blocks = row_blocks(c);

    for (int64_t item = begin; item < end; item++) {
        if (item < sums)
            sum_queries(c, item / heads, item % heads);
        else
            mean_of_heads(c, (item - sums) / blocks, (item - sums) % blocks);
    }
}

/* ---- backward ---- */

/* An item goes through `batch` sequences and `heads` key heads, `group` query heads each. */
typedef struct item_shape {
    int64_t batch, heads, group;
    int64_t batches, across; /* items along the two axes */
} item_shape;

static item_shape grad_items(const op_call *c)
{
    const int64_t batch = kernel_size(c, AT_K, 0), heads = kernel_size(c, AT_K, 1);
    const bool all_batch = kernel_given(c, AT_BIAS) && kernel_size(c, AT_BIAS, 0) == 1,
               all_heads = kernel_given(c, AT_BIAS) && kernel_size(c, AT_BIAS, 1) == 1;
    item_shape s = { .batch = all_batch ? batch : 1,
                     .heads = all_heads ? heads : 1,
                     .group = kernel_size(c, AT_Q, 1) / heads };

    s.batches = batch / i64_max(1, s.batch);
    s.across = heads / s.heads;
    return s;
}

int64_t heed__rows_grad_count(const op_call *c)
{
    const item_shape s = grad_items(c);

    return s.batches * s.across;
}

static size_t own_bytes(const op_call *c)
{
    const size_t bytes = heed__attention_ops(c->isa)->rows_backward_bytes(
        kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3), kernel_size(c, AT_K, 2));

    return (bytes + 63) & ~(size_t)63;
}

/* Behind the level's own part of each area, the first holds the heads of a group and the second their upstream. */
size_t heed__rows_grad_scratch(const op_call *c)
{
    const size_t each = sizeof(attention_head) > sizeof(attention_upstream) ? sizeof(attention_head)
                                                                            : sizeof(attention_upstream);

    return own_bytes(c) + (size_t)grad_items(c).group * each;
}

/* A head's own sums of what is shared. */
enum { TEMPERATURE_SUM, SINK_SUM, SIGMOID_BIAS_SUM, ALPHA_SUM, SPAN_SUM, NUMBER_SUMS };

static int64_t add_v_sums(const op_call *c)
{
    return kernel_given(c, AT_ADD_V) ? kernel_size(c, AT_ADD_V, 1) : 0;
}

static int64_t rel_sums(const op_call *c)
{
    return kernel_given(c, AT_REL) ? kernel_size(c, AT_REL, 2) : 0;
}

static int64_t head_sums(const op_call *c)
{
    return NUMBER_SUMS + add_v_sums(c) + rel_sums(c);
}

size_t heed__rows_grad_partial(const op_call *c)
{
    const item_shape s = grad_items(c);

    return (size_t)(s.batch * s.heads * s.group * head_sums(c)) * sizeof(float);
}

static float *own_number(const op_call *c, int slot, float *sums, int which)
{
    return kernel_given(c, slot) ? sums + which : NULL;
}

static attention_upstream grad_upstream(const op_call *c, int64_t b, int64_t head, float *sums)
{
    const int64_t tq = kernel_size(c, AT_Q, 2), at = b * kernel_size(c, AT_Q, 1) + head;
    attention_upstream u = {
        .dlse = kernel_given(c, AT_DLSE) ? (const float *)c->in[AT_DLSE].data + at * tq : NULL,
        .dq = heed__kernel_out(c, AT_DQ, at),
        .dtemperature = own_number(c, AT_TEMPERATURE, sums, TEMPERATURE_SUM),
        .dsink = own_number(c, AT_SINK, sums, SINK_SUM),
        .dsigmoid_bias = own_number(c, AT_SIGMOID_BIAS, sums, SIGMOID_BIAS_SUM),
        .dalpha = own_number(c, AT_ALPHA, sums, ALPHA_SUM),
        .dspan = own_number(c, AT_SPAN, sums, SPAN_SUM),
        .dadd_v = own_number(c, AT_ADD_V, sums, NUMBER_SUMS),
        .drel = kernel_given(c, AT_REL) ? sums + NUMBER_SUMS + add_v_sums(c) : NULL,
    };

    if (kernel_given(c, AT_DOUT)) {
        u.dout = kernel_at(&c->in[AT_DOUT], b, head);
        u.dout_step = c->in[AT_DOUT].strides[2];
    }
    if (kernel_given(c, AT_DWEIGHTS)) {
        u.dweights = kernel_at(&c->in[AT_DWEIGHTS], b, head);
        u.dweights_step = c->in[AT_DWEIGHTS].strides[2];
    }
    if (kernel_given(c, AT_DREL_SUMS) && kernel_size(c, AT_DREL_SUMS, 3) > 0)
        u.drel_sums = kernel_at(&c->in[AT_DREL_SUMS], b, head);
    if (c->out[AT_DBIAS].data && kernel_given(c, AT_BIAS)) {
        const heed_type *t = &c->out[AT_DBIAS].type;
        const int64_t place = (t->dims[0] > 1 ? b : 0) * t->dims[1] + (t->dims[1] > 1 ? head : 0);

        u.dbias = heed__kernel_out(c, AT_DBIAS, place);
        u.dbias_row = t->dims[2] > 1 ? t->dims[3] : 0;
        u.dbias_key = t->dims[3] > 1;
    }
    if (c->out[AT_DROW_REL].data && kernel_given(c, AT_ROW_REL))
        u.drow_rel = heed__kernel_out(c, AT_DROW_REL, at);
    return u;
}

/* Zeroes what heads add to: an item's own part of dbias the first time that it comes to it. */
static void begin_head(const op_call *c, const attention_upstream *u, int64_t head, bool begins)
{
    const heed_type *bias = &c->out[AT_DBIAS].type, *relative = &c->out[AT_DROW_REL].type;

    if (u->dbias && begins && (bias->dims[1] > 1 || head == 0))
        memset(u->dbias, 0, (size_t)(bias->dims[2] * bias->dims[3]) * sizeof(float));
    if (u->drow_rel)
        memset(u->drow_rel, 0, (size_t)(relative->dims[2] * relative->dims[3]) * sizeof(float));
}

/* One key head of sequence b. */
static void grad_group(const op_call *c, const item_shape *s, int64_t b, int64_t key_head, float *sums,
                       bool begins)
{
    const size_t own = own_bytes(c);
    const int64_t at = b * kernel_size(c, AT_K, 1) + key_head;
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_upstream *u = (attention_upstream *)(void *)((char *)c->scratch[1] + own);

    for (int64_t g = 0; g < s->group; g++) {
        const int64_t head = key_head * s->group + g;

        h[g] = heed__kernel_head(c, b, head, heed__kernel_sets(c, b));
        u[g] = grad_upstream(c, b, head, sums + g * head_sums(c));
        begin_head(c, &u[g], head, begins);
    }
    if (s->group > 0)
        heed__attention_ops(c->isa)->rows_backward(h, u, s->group, heed__kernel_out(c, AT_DK, at),
                                                   heed__kernel_out(c, AT_DV, at), c->scratch);
}

/* Without a sequence nobody has zeroed it before. */
static void zero_out(const op_call *c, int out)
{
    const view *v = &c->out[out];

    if (v->data)
        memset(v->data, 0, (size_t)heed_type_count(&v->type) * sizeof(float));
}

void heed__rows_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const item_shape s = grad_items(c);

    for (int64_t item = begin; item < end; item++) {
        float *sums = c->partial; /* one item a chunk */
        const int64_t first_b = item / s.across * s.batch, first_h = item % s.across * s.heads;

        for (int64_t b = first_b; b < first_b + s.batch; b++)
            for (int64_t h = first_h; h < first_h + s.heads; h++, sums += s.group * head_sums(c))
                grad_group(c, &s, b, h, sums, b == first_b);
    }
}

/* The sums of query head h of sequence b. */
static const float *sums_of(const op_call *c, const item_shape *s, int64_t b, int64_t h)
{
    const int64_t key_head = h / s->group, item = b / s->batch * s->across + key_head / s->heads,
                  local = (b % s->batch * s->heads + key_head % s->heads) * s->group + h % s->group;

    return (const float *)(const void *)((const char *)c->partial + item * c->partial_stride) +
           local * head_sums(c);
}

/* Output `out` [1 or B, 1 or Hq, n]: sums of n numbers that begin at `from` of each head's. */
static void add_up(const op_call *c, const item_shape *s, int out, int64_t by_batch, bool by_head, int64_t n,
                   int64_t from)
{
    float *to = c->out[out].data;

    if (!to)
        return;
    memset(to, 0, (size_t)heed_type_count(&c->out[out].type) * sizeof *to);
    for (int64_t b = 0; b < kernel_size(c, AT_Q, 0); b++)
        for (int64_t h = 0; h < kernel_size(c, AT_Q, 1); h++) {
            float *sum = to + (b * by_batch + (by_head ? h : 0)) * n;
            const float *x = sums_of(c, s, b, h) + from;

            for (int64_t j = 0; j < n; j++)
                sum[j] += x[j];
        }
}

void heed__rows_grad_finish(const op_call *c)
{
    static const struct {
        int slot, out, sum;
    } numbers[] = { { AT_TEMPERATURE, AT_DTEMPERATURE, TEMPERATURE_SUM },
                    { AT_SINK, AT_DSINK, SINK_SUM },
                    { AT_SIGMOID_BIAS, AT_DSIGMOID_BIAS, SIGMOID_BIAS_SUM },
                    { AT_ALPHA, AT_DALPHA, ALPHA_SUM },
                    { AT_SPAN, AT_DSPAN, SPAN_SUM } };
    const item_shape s = grad_items(c);

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (kernel_given(c, numbers[i].slot))
            add_up(c, &s, numbers[i].out, 0, kernel_size(c, numbers[i].slot, 0) > 1, 1, numbers[i].sum);
    if (kernel_given(c, AT_ADD_V))
        add_up(c, &s, AT_DADD_V, 0, kernel_size(c, AT_ADD_V, 0) > 1, add_v_sums(c), NUMBER_SUMS);
    if (kernel_given(c, AT_REL)) {
        const int64_t each = kernel_size(c, AT_REL, 1);

        add_up(c, &s, AT_DREL, kernel_size(c, AT_REL, 0) > 1 ? each : 0, each > 1, rel_sums(c),
               NUMBER_SUMS + add_v_sums(c));
    }
    if (kernel_given(c, AT_BIAS) && heed__rows_grad_count(c) == 0)
        zero_out(c, AT_DBIAS);
}
