/* attention, attention_grad and attention_probe by whole rows of weights: every cell in f32 (cpu/attention.h).
 *
 * Gradients of what heads and sequences share: each head's own sums lie in its chunk's partial memory and are added up in order
 * of sequences and heads. A bias with rows of size 1 on one of these axes has one owner instead, which goes through all of them. */

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
        .lse_rest = heed__kernel_out(c, AT_GET_LSE_REST, at),
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

const char *heed__rows_grad_refuses(const op_call *c)
{
    const attention_attrs *a = c->attrs;

    return a->pooled_q || a->received ? "probes on the way back" : heed__rows_refuses(c);
}

/* The queries of a head come in parts, whose sums over queries (dk, dv and what heads share) are made one by one and added up in
 * order. Parts depend on Tq alone, so it changes no bit whether an item goes through all of them or there is an item for each:
 * where there are few heads. Of dk and dv each part then has a copy in `shared`, which gather adds up. */
#define PARTS_MOST 8
#define PART_ROWS 256       /* at least */
#define FEW_OWNERS 8        /* fewer items than this are cut ... */
#define FEW_OWNERS_WORK 4e6 /* ... when one has so many operations */
#define GATHER_KEYS 256

/* An owner goes through `batch` sequences and `heads` key heads, `group` query heads each. */
typedef struct grad_plan {
    int64_t batch, heads, group;
    int64_t batches, across;  /* owners along the two axes */
    int64_t parts, part_rows; /* of queries */
    bool cut;                 /* an item for each part */
} grad_plan;

/* A bias with rows: its gradient is added to where it stands, by the one that owns its rows. */
static bool bias_has_rows(const op_call *c)
{
    return kernel_given(c, AT_BIAS) && kernel_size(c, AT_BIAS, 2) > 1;
}

static grad_plan grad_cut(const op_call *c)
{
    const int64_t batch = kernel_size(c, AT_K, 0), heads = kernel_size(c, AT_K, 1),
                  tq = kernel_size(c, AT_Q, 2);
    const bool all_batch = bias_has_rows(c) && kernel_size(c, AT_BIAS, 0) == 1,
               all_heads = bias_has_rows(c) && kernel_size(c, AT_BIAS, 1) == 1;
    grad_plan p = { .batch = all_batch ? batch : 1,
                    .heads = all_heads ? heads : 1,
                    .group = kernel_size(c, AT_Q, 1) / heads };
    int64_t owners;

    p.batches = batch / i64_max(1, p.batch);
    p.across = heads / p.heads;
    p.part_rows = i64_ceil_div(i64_ceil_div(tq, PARTS_MOST), ATTENTION_TILE) * ATTENTION_TILE;
    p.part_rows = i64_max(PART_ROWS, p.part_rows);
    p.parts = i64_max(1, i64_ceil_div(tq, p.part_rows));
    owners = p.batches * p.across;
    p.cut = p.parts > 1 && p.group > 0 && owners < FEW_OWNERS &&
            heed__attention_grad_flops(c) >= FEW_OWNERS_WORK * (double)owners;
    return p;
}

int64_t heed__rows_grad_count(const op_call *c)
{
    const grad_plan p = grad_cut(c);

    return p.batches * p.across * (p.cut ? p.parts : 1);
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

    return own_bytes(c) + (size_t)grad_cut(c).group * each;
}

/* ---- dk and dv of parts, behind the sets of global keys ---- */

static size_t grad_sets(const op_call *c)
{
    return (heed__kernel_shared(c) + 63) & ~(size_t)63;
}

/* Floats of dk, or of dv, of one key head. */
static int64_t grad_floats(const op_call *c, int slot)
{
    return kernel_size(c, slot, 2) * kernel_size(c, slot, 3);
}

size_t heed__rows_grad_shared(const op_call *c)
{
    const grad_plan p = grad_cut(c);
    const int64_t heads = kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1);

    if (!p.cut)
        return heed__kernel_shared(c);
    return grad_sets(c) +
           (size_t)(p.parts * heads * (grad_floats(c, AT_K) + grad_floats(c, AT_V))) * sizeof(float);
}

/* Where part 0 of key head `at` lies; part n is n times as much further as all heads have. */
static float *part_copy(const op_call *c, int slot, int64_t at)
{
    const grad_plan p = grad_cut(c);
    const int64_t heads = kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1);
    float *first = (float *)(void *)((char *)c->shared + grad_sets(c));

    return first + (slot == AT_V ? p.parts * heads * grad_floats(c, AT_K) : 0) + at * grad_floats(c, slot);
}

static int64_t part_step(const op_call *c, int slot)
{
    return kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1) * grad_floats(c, slot);
}

/* Where part `part` of key head `at` goes: to its copy, or to what the parts before have made. */
static attention_keys part_keys(const op_call *c, const grad_plan *p, int64_t at, int64_t part)
{
    attention_keys to = { .dk = heed__kernel_out(c, AT_DK, at),
                          .dv = heed__kernel_out(c, AT_DV, at),
                          .adds = !p->cut && part > 0 };

    if (p->cut && to.dk)
        to.dk = part_copy(c, AT_K, at) + part * part_step(c, AT_K);
    if (p->cut && to.dv)
        to.dv = part_copy(c, AT_V, at) + part * part_step(c, AT_V);
    return to;
}

int64_t heed__rows_grad_gather_count(const op_call *c)
{
    return grad_cut(c).cut ? kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1) *
                                 i64_ceil_div(kernel_size(c, AT_K, 2), GATHER_KEYS)
                           : 0;
}

static void gather_keys(const op_call *c, int slot, int out, int64_t parts, int64_t at, int64_t begin,
                        int64_t end)
{
    const int64_t width = kernel_size(c, slot, 3), step = part_step(c, slot);
    float *to = heed__kernel_out(c, out, at);
    const float *from;

    if (!to)
        return;
    from = part_copy(c, slot, at);
    memcpy(to + begin * width, from + begin * width, (size_t)((end - begin) * width) * sizeof *to);
    for (int64_t part = 1; part < parts; part++) {
        from += step;
        for (int64_t i = begin * width; i < end * width; i++)
            to[i] += from[i];
    }
}

void heed__rows_grad_gather(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t tk = kernel_size(c, AT_K, 2), blocks = i64_ceil_div(tk, GATHER_KEYS),
                  parts = grad_cut(c).parts;

    for (int64_t item = begin; item < end; item++) {
        const int64_t first = item % blocks * GATHER_KEYS, last = i64_min(tk, first + GATHER_KEYS);

        gather_keys(c, AT_K, AT_DK, parts, item / blocks, first, last);
        gather_keys(c, AT_V, AT_DV, parts, item / blocks, first, last);
    }
}

/* ---- sums of what heads share, of one head and part: numbers, then add_v, rel, a bias without rows ---- */

enum { TEMPERATURE_SUM, SINK_SUM, SIGMOID_BIAS_SUM, ALPHA_SUM, SPAN_SUM, NUMBER_SUMS };

static int64_t add_v_sums(const op_call *c)
{
    return kernel_given(c, AT_ADD_V) ? kernel_size(c, AT_ADD_V, 1) : 0;
}

static int64_t rel_sums(const op_call *c)
{
    return kernel_given(c, AT_REL) ? kernel_size(c, AT_REL, 2) : 0;
}

static int64_t bias_sums(const op_call *c)
{
    return kernel_given(c, AT_BIAS) && !bias_has_rows(c) ? kernel_size(c, AT_BIAS, 3) : 0;
}

static int64_t head_sums(const op_call *c)
{
    return NUMBER_SUMS + add_v_sums(c) + rel_sums(c) + bias_sums(c);
}

/* Of an item: parts, sequences, key heads, query heads. */
size_t heed__rows_grad_partial(const op_call *c)
{
    const grad_plan p = grad_cut(c);

    return (size_t)((p.cut ? 1 : p.parts) * p.batch * p.heads * p.group * head_sums(c)) * sizeof(float);
}

static float *own_number(const op_call *c, int slot, float *sums, int which)
{
    return kernel_given(c, slot) ? sums + which : NULL;
}

static void bias_upstream(const op_call *c, int64_t b, int64_t head, float *sums, attention_upstream *u)
{
    const heed_type *t = &c->out[AT_DBIAS].type;

    if (!c->out[AT_DBIAS].data || !kernel_given(c, AT_BIAS))
        return;
    u->dbias_key = t->dims[3] > 1;
    if (!bias_has_rows(c)) {
        u->dbias = sums + NUMBER_SUMS + add_v_sums(c) + rel_sums(c);
        return;
    }
    u->dbias =
        heed__kernel_out(c, AT_DBIAS, (t->dims[0] > 1 ? b : 0) * t->dims[1] + (t->dims[1] > 1 ? head : 0));
    u->dbias_row = t->dims[3];
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
    bias_upstream(c, b, head, sums, &u);
    if (c->out[AT_DROW_REL].data && kernel_given(c, AT_ROW_REL))
        u.drow_rel = heed__kernel_out(c, AT_DROW_REL, at);
    return u;
}

/* Zeroes what queries [begin, end) add to: rows of dbias the first time that an owner comes to them. */
static void zero_rows(const op_call *c, const attention_upstream *u, int64_t head, bool begins, int64_t begin,
                      int64_t end)
{
    const heed_type *bias = &c->out[AT_DBIAS].type, *relative = &c->out[AT_DROW_REL].type;

    if (u->dbias && u->dbias_row && begins && (bias->dims[1] > 1 || head == 0))
        memset(u->dbias + begin * u->dbias_row, 0, (size_t)((end - begin) * u->dbias_row) * sizeof(float));
    if (u->drow_rel)
        memset(u->drow_rel + begin * relative->dims[3], 0,
               (size_t)((end - begin) * relative->dims[3]) * sizeof(float));
}

/* Queries of one part of one key head of sequence b. */
static void grad_group(const op_call *c, const grad_plan *p, int64_t b, int64_t key_head, int64_t part,
                       float *sums, bool begins)
{
    const size_t own = own_bytes(c);
    const int64_t tq = kernel_size(c, AT_Q, 2), begin = part * p->part_rows,
                  end = i64_min(tq, begin + p->part_rows);
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_upstream *u = (attention_upstream *)(void *)((char *)c->scratch[1] + own);
    const attention_keys to = part_keys(c, p, b * kernel_size(c, AT_K, 1) + key_head, part);

    for (int64_t g = 0; g < p->group; g++) {
        const int64_t head = key_head * p->group + g;

        h[g] = heed__kernel_head(c, b, head, heed__kernel_sets(c, b));
        u[g] = grad_upstream(c, b, head, sums + g * head_sums(c));
        zero_rows(c, &u[g], head, begins, begin, end);
    }
    if (p->group > 0)
        heed__attention_ops(c->isa)->rows_backward(h, u, p->group, begin, end, &to, c->scratch);
}

/* Without a sequence nobody has zeroed it before. */
static void zero_out(const op_call *c, int out)
{
    const view *v = &c->out[out];

    if (v->data)
        memset(v->data, 0, (size_t)heed_type_count(&v->type) * sizeof(float));
}

/* Of its parts an owner begins with the last, which sees most where the future is masked. */
static int64_t item_part(const grad_plan *p, int64_t item)
{
    return p->parts - 1 - item % p->parts;
}

void heed__rows_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const grad_plan p = grad_cut(c);

    for (int64_t item = begin; item < end; item++) {
        float *sums = c->partial; /* one item a chunk */
        const int64_t owner = p.cut ? item / p.parts : item, part = p.cut ? item_part(&p, item) : 0,
                      first_b = owner / p.across * p.batch, first_h = owner % p.across * p.heads;

        for (int64_t n = part; n < (p.cut ? part + 1 : p.parts); n++)
            for (int64_t b = first_b; b < first_b + p.batch; b++)
                for (int64_t h = first_h; h < first_h + p.heads; h++, sums += p.group * head_sums(c))
                    grad_group(c, &p, b, h, n, sums, b == first_b);
    }
}

/* The sums of part `part` of query head h of sequence b. */
static const float *sums_of(const op_call *c, const grad_plan *p, int64_t b, int64_t h, int64_t part)
{
    const int64_t key_head = h / p->group, owner = b / p->batch * p->across + key_head / p->heads,
                  item = p->cut ? owner * p->parts + p->parts - 1 - part : owner,
                  each = p->batch * p->heads * p->group,
                  local = (b % p->batch * p->heads + key_head % p->heads) * p->group + h % p->group;

    return (const float *)(const void *)((const char *)c->partial + item * c->partial_stride) +
           ((p->cut ? 0 : part * each) + local) * head_sums(c);
}

/* Output `out` [1 or B, 1 or Hq, n]: sums of n numbers that begin at `from` of each head's. */
static void add_up(const op_call *c, const grad_plan *p, int out, int64_t by_batch, bool by_head, int64_t n,
                   int64_t from)
{
    float *to = c->out[out].data;

    if (!to)
        return;
    memset(to, 0, (size_t)heed_type_count(&c->out[out].type) * sizeof *to);
    for (int64_t b = 0; b < kernel_size(c, AT_Q, 0); b++)
        for (int64_t h = 0; h < kernel_size(c, AT_Q, 1); h++)
            for (int64_t part = 0; part < p->parts; part++) {
                float *sum = to + (b * by_batch + (by_head ? h : 0)) * n;
                const float *x = sums_of(c, p, b, h, part) + from;

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
    const grad_plan p = grad_cut(c);

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (kernel_given(c, numbers[i].slot))
            add_up(c, &p, numbers[i].out, 0, kernel_size(c, numbers[i].slot, 0) > 1, 1, numbers[i].sum);
    if (kernel_given(c, AT_ADD_V))
        add_up(c, &p, AT_DADD_V, 0, kernel_size(c, AT_ADD_V, 0) > 1, add_v_sums(c), NUMBER_SUMS);
    if (kernel_given(c, AT_REL)) {
        const int64_t each = kernel_size(c, AT_REL, 1);

        add_up(c, &p, AT_DREL, kernel_size(c, AT_REL, 0) > 1 ? each : 0, each > 1, rel_sums(c),
               NUMBER_SUMS + add_v_sums(c));
    }
    if (kernel_given(c, AT_BIAS) && !bias_has_rows(c)) {
        const int64_t each = kernel_size(c, AT_BIAS, 1);

        add_up(c, &p, AT_DBIAS, kernel_size(c, AT_BIAS, 0) > 1 ? each : 0, each > 1, bias_sums(c),
               NUMBER_SUMS + add_v_sums(c) + rel_sums(c));
    } else if (kernel_given(c, AT_BIAS) && heed__rows_grad_count(c) == 0) {
        zero_out(c, AT_DBIAS);
    }
}
