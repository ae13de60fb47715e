/* One query head of a call, as the level's kernels take it. */

#include "attention/kernel.h"

#include <math.h>
#include <string.h>

/* ---- what is served ---- */

const char *heed__kernel_unserved(const op_call *c)
{
    const attention_attrs *a = c->attrs;

    if (!heed__all_f32(c))
        return "a dtype other than f32";
    if (!heed__attention_ops(c->isa))
        return "this instruction level";
    if (a->score != ATTENTION_DOT)
        return "this score";
    if (a->normaliser != HEED_NORMALISER_SOFTMAX)
        return "this normaliser";
    return NULL;
}

/* ---- sizes ---- */

double heed__kernel_pairs(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const int64_t tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2);
    double pairs = 0;

    if (kernel_given(c, AT_OFFSET) || !(a->causal || a->window))
        return (double)tq * (double)tk;
    for (int64_t i = 0; i < tq; i++) {
        const int64_t p = i + a->offset;
        int64_t from = 0, to = tk;

        if (a->causal)
            to = i64_min(to, p + 1);
        if (a->window && a->left >= 0)
            from = i64_max(from, p - a->left);
        if (a->window && a->right >= 0)
            to = i64_min(to, p + a->right + 1);
        pairs += (double)i64_max(0, to - from);
    }
    return pairs;
}

static double kernel_heads(const op_call *c)
{
    return (double)kernel_size(c, AT_Q, 0) * (double)kernel_size(c, AT_Q, 1);
}

double heed__attention_flops(const op_call *c)
{
    return 2 * kernel_heads(c) * heed__kernel_pairs(c) *
           (double)(kernel_size(c, AT_Q, 3) + kernel_size(c, AT_V, 3));
}

double heed__attention_grad_flops(const op_call *c)
{
    return 2 * kernel_heads(c) * heed__kernel_pairs(c) *
           (double)(3 * kernel_size(c, AT_Q, 3) + 2 * kernel_size(c, AT_V, 3));
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

int64_t heed__kernel_key_range(const op_call *c, int64_t least)
{
    const attention_attrs *a = c->attrs;
    const int64_t tk = kernel_size(c, AT_K, 2), block = i64_max(1, a->pooled_k),
                  tiles = block / common_divisor(ATTENTION_TILE, block);

    if (tiles > tk / ATTENTION_TILE)
        return tk;
    return i64_min(tk, i64_ceil_div(least, tiles * ATTENTION_TILE) * tiles * ATTENTION_TILE);
}

bool heed__kernel_bias_is_matrix(const op_call *c)
{
    return kernel_given(c, AT_BIAS) && kernel_size(c, AT_BIAS, 2) > 1 && kernel_size(c, AT_BIAS, 3) > 1;
}

int64_t heed__kernel_chunk(double flops, int64_t items)
{
    const double each = flops / (double)i64_max(1, items);

    return each >= KERNEL_GRAIN
               ? 1
               : i64_min(i64_max(1, i64_ceil_div(items, 16)), (int64_t)(KERNEL_GRAIN / (each + 1)) + 1);
}

void *heed__kernel_out(const op_call *c, int out, int64_t head)
{
    const view *v = &c->out[out];
    const int64_t at = head * heed__dims_product(&v->type, 2, v->type.rank);

    return v->data && heed_type_count(&v->type) > 0
               ? (char *)v->data + at * (int64_t)heed_dtype_size(v->type.dtype)
               : NULL;
}

/* ---- rows that a probe lists ---- */

/* The next place from `from` on at which the probe lists head h, -1: none. */
static int64_t listed_at(const op_call *c, int64_t h, int64_t from)
{
    if (!kernel_given(c, AT_PROBE_HEADS))
        return from <= h ? h : -1;
    for (int64_t n = from; n < kernel_size(c, AT_PROBE_HEADS, 0); n++)
        if (((const int64_t *)c->in[AT_PROBE_HEADS].data)[n] == h)
            return n;
    return -1;
}

static float *rows_at(const op_call *c, int64_t b, int64_t place)
{
    return place < 0 ? NULL : heed__kernel_out(c, AT_GET_ROWS, b * c->out[AT_GET_ROWS].type.dims[1] + place);
}

float *heed__kernel_listed_rows(const op_call *c, int64_t b, int64_t h)
{
    return rows_at(c, b, listed_at(c, h, 0));
}

void heed__kernel_repeat_rows(const op_call *c, const attention_result *r, int64_t b, int64_t h,
                              int64_t begin, int64_t end)
{
    const int64_t tk = kernel_size(c, AT_K, 2), first = listed_at(c, h, 0);

    for (int64_t place = listed_at(c, h, first + 1); r->rows && place >= 0;
         place = listed_at(c, h, place + 1)) {
        float *to = rows_at(c, b, place);

        for (int64_t l = 0; l < r->n_rows; l++) {
            const int64_t i = r->row_list ? r->row_list[l] : l;

            if (i >= begin && i < end)
                memcpy(to + l * tk, r->rows + l * tk, (size_t)tk * sizeof *to);
        }
    }
}

/* ---- sets of global keys and rows ---- */

static int64_t set_words(const op_call *c)
{
    return ATTENTION_SET_WORDS(kernel_size(c, AT_K, 2)) + ATTENTION_SET_WORDS(kernel_size(c, AT_Q, 2));
}

static int64_t kernel_offset(const op_call *c, int64_t b)
{
    const attention_attrs *a = c->attrs;

    return heed__attention_offset(kernel_given(c, AT_OFFSET) ? ((const int64_t *)c->in[AT_OFFSET].data)[b]
                                                             : a->offset);
}

size_t heed__kernel_shared(const op_call *c)
{
    return kernel_given(c, AT_GLOBALS) ? (size_t)(kernel_size(c, AT_Q, 0) * set_words(c)) * sizeof(uint64_t)
                                       : 0;
}

int64_t heed__kernel_prepare_count(const op_call *c)
{
    return kernel_given(c, AT_GLOBALS) && set_words(c) > 0 ? kernel_size(c, AT_Q, 0) : 0;
}

void heed__kernel_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t tk = kernel_size(c, AT_K, 2), tq = kernel_size(c, AT_Q, 2), n = set_words(c);

    for (int64_t b = begin; b < end; b++) {
        uint64_t *keys = (uint64_t *)c->shared + b * n;

        memset(keys, 0, (size_t)n * sizeof *keys);
        heed__attention_globals(keys, keys + ATTENTION_SET_WORDS(tk), c->in[AT_GLOBALS].data,
                                kernel_size(c, AT_GLOBALS, 0), tk, tq, kernel_offset(c, b));
    }
}

const uint64_t *heed__kernel_sets(const op_call *c, int64_t b)
{
    return kernel_given(c, AT_GLOBALS) ? (const uint64_t *)c->shared + b * set_words(c) : NULL;
}

/* ---- one head ---- */

static int64_t kernel_length(const op_call *c, int slot, int64_t b, int64_t most)
{
    return kernel_given(c, slot) ? i64_max(0, i64_min(most, ((const int64_t *)c->in[slot].data)[b])) : most;
}

static attention_mask kernel_mask(const op_call *c, int64_t b, int64_t h, const uint64_t *sets)
{
    const attention_attrs *a = c->attrs;
    const int64_t tq = kernel_size(c, AT_Q, 2), tk = kernel_size(c, AT_K, 2);
    attention_mask m = { .tq = tq,
                         .tk = tk,
                         .length = kernel_length(c, AT_LENGTHS, b, tk),
                         .q_length = kernel_length(c, AT_Q_LENGTHS, b, tq),
                         .offset = kernel_offset(c, b),
                         .causal = a->causal,
                         .windowed = a->window,
                         .left = a->left,
                         .right = a->right,
                         .stride = a->stride };

    if (kernel_given(c, AT_BLOCK_KEEP)) {
        const view *v = &c->in[AT_BLOCK_KEEP];
        const int64_t each = i64_ceil_div(tq, a->block_q) * i64_ceil_div(tk, a->block_k);

        m.block = (const bool *)v->data + (v->type.rank == 3 ? h * each : 0);
        m.block_q = a->block_q;
        m.block_k = a->block_k;
    }
    if (sets) {
        m.global_keys = sets;
        m.global_rows = sets + ATTENTION_SET_WORDS(tk);
    }
    if (kernel_given(c, AT_Q_SEG)) {
        m.q_seg = (const int64_t *)c->in[AT_Q_SEG].data + b * tq;
        m.k_seg = (const int64_t *)c->in[AT_K_SEG].data + b * tk;
    }
    if (kernel_given(c, AT_GRAPH_INDPTR)) {
        m.indptr = c->in[AT_GRAPH_INDPTR].data;
        m.indices = c->in[AT_GRAPH_INDICES].data;
    }
    if (kernel_given(c, AT_MASK)) {
        const view *v = &c->in[AT_MASK];

        m.keep = kernel_at(v, b, h);
        m.keep_row = kernel_step(v, 2);
        m.keep_key = kernel_step(v, 3);
    }
    return m;
}

/* Number h of a tensor per head, [Hq] or [1], or the attribute. */
static float per_head(const op_call *c, int slot, int64_t h, double otherwise)
{
    return kernel_given(c, slot) ? ((const float *)c->in[slot].data)[kernel_size(c, slot, 0) > 1 ? h : 0]
                                 : (float)otherwise;
}

static enum attention_head_normaliser kernel_normaliser(int kind)
{
    static const enum attention_head_normaliser of[] = {
        [HEED_NORMALISER_SOFTMAX] = HEAD_SOFTMAX, [HEED_NORMALISER_SPARSEMAX] = HEAD_ENTMAX,
        [HEED_NORMALISER_ENTMAX15] = HEAD_ENTMAX, [HEED_NORMALISER_ENTMAX] = HEAD_ENTMAX,
        [HEED_NORMALISER_SIGMOID] = HEAD_SIGMOID, [HEED_NORMALISER_TOPK] = HEAD_TOPK,
        [HEED_NORMALISER_HARD] = HEAD_TOPK,       [HEED_NORMALISER_ADAPTIVE_SPAN] = HEAD_SPAN,
    };

    return of[kind];
}

attention_head heed__kernel_head(const op_call *c, int64_t b, int64_t h, const uint64_t *sets)
{
    const attention_attrs *a = c->attrs;
    const view *q = &c->in[AT_Q], *k = &c->in[AT_K], *v = &c->in[AT_V];
    const int64_t heads = q->type.dims[1], group = i64_max(1, heads / k->type.dims[1]), tq = q->type.dims[2],
                  tk = k->type.dims[2];
    attention_head head = {
        .q = kernel_at(q, b, h),
        .k = kernel_at(k, b, h / group),
        .v = kernel_at(v, b, h / group),
        .q_step = q->strides[2],
        .k_step = k->strides[2],
        .v_step = v->strides[2],
        .dk = q->type.dims[3],
        .dv = v->type.dims[3],
        .mask = kernel_mask(c, b, h, sets),
        .score = (enum attention_head_score)a->score,
        .scale = (float)a->scale,
        .softcap = (float)a->softcap,
        .temperature = per_head(c, AT_TEMPERATURE, h, a->temperature),
        .normaliser = kernel_normaliser(a->normaliser),
        .has_sink = a->plus_one || kernel_given(c, AT_SINK),
        .sink = per_head(c, AT_SINK, h, 0),
        .sigmoid_bias = per_head(c, AT_SIGMOID_BIAS, h, a->bias),
        .alpha = per_head(c, AT_ALPHA, h, a->normaliser == HEED_NORMALISER_SPARSEMAX ? 2 : a->alpha),
        .span = per_head(c, AT_SPAN, h, 0),
        .ramp = (float)a->ramp,
        .k_most = a->normaliser == HEED_NORMALISER_HARD ? 1 : a->k,
        .hard = a->normaliser == HEED_NORMALISER_HARD,
        .row_zero = a->row_zero,
    };

    if (kernel_given(c, AT_ADD_V))
        head.add_v =
            (const float *)c->in[AT_ADD_V].data + (kernel_size(c, AT_ADD_V, 0) > 1 ? h * head.dk : 0);
    if (kernel_given(c, AT_BIAS)) {
        head.bias = kernel_at(&c->in[AT_BIAS], b, h);
        head.bias_row = kernel_step(&c->in[AT_BIAS], 2);
        head.bias_key = kernel_step(&c->in[AT_BIAS], 3);
    }
    if (kernel_given(c, AT_REL))
        head.rel = kernel_at(&c->in[AT_REL], b, h);
    if (kernel_given(c, AT_ROW_REL)) {
        head.row_size = kernel_size(c, AT_ROW_REL, 3);
        head.row_rel = kernel_at(&c->in[AT_ROW_REL], b, h);
    }
    if (a->dropout > 0) {
        head.drops = true;
        head.threshold = (uint32_t)floor(a->dropout * 0x1p32);
        head.kept = (float)(1 / (1 - a->dropout));
        head.node = (uint32_t)a->node;
        head.row = (uint32_t)((b * heads + h) * tq);
        if (kernel_given(c, AT_DROPOUT_KEEP)) {
            head.threshold = 1; /* what is kept has the largest word, what is not has 0 */
            head.dropout_keep = (const bool *)c->in[AT_DROPOUT_KEEP].data + (b * heads + h) * tq * tk;
        } else {
            const int64_t *rng = c->in[AT_RNG].data;

            head.seed = (uint64_t)rng[0];
            head.step = (uint32_t)rng[1];
        }
    }
    return head;
}
