/* Rules on rows of attention: what comes out of each head, a few numbers a row and never T x T.
 *
 * Beside each core node two more are added to the evaluation graph, of the same q, k and masks:
 *
 *   probe    entropy H_i and largest weight of row i, and as its out the weight on padding: v is 1 where a key
 *            lies beyond its sequence's length and 0 elsewhere, so sum_j w_ij v_j is that weight
 *   silent   scores all 0, so that its log-sum is ln n_i, n_i being the number of kept keys
 *
 * H_i / ln n_i is 0 for a row on one key and 1 for a uniform one. Rows with fewer than two keys to choose from
 * and rows of queries beyond the length do not count. Only a plain softmax is judged by its entropy: sparse
 * normalisers mean to choose few keys, a sink or plus_one lets a head rest. */

#include "attention/compose.h"
#include "explain/doctor_build.h"

#include <math.h>
#include <stdio.h>

typedef struct head_rows {
    double rows, entropy, saturated; /* entropy: sum of H / ln n */
} head_rows;

/* One node of attention, and which outputs are its. -1: not asked for. */
typedef struct watched_rows {
    uint32_t node;
    int entropy, largest, kept, sum, padding;
    int64_t heads, tq;
    double softcap, temperature;
    head_rows *head;                                /* [heads]; owned */
    double padding_rows, padding_sum, padding_most; /* rows of sequences that have padding, weight on it */
} watched_rows;

typedef struct rows_look {
    doctor *d;
    doctor_build build;
    doctor_runner run;
    watched_rows *at;
    int64_t n;
    heed_value padding; /* f32 [B,1,T,1], 1 beyond the length; {0}: no lengths */
} rows_look;

/* ---- building ---- */

/* Scores of 0 under the same masks. */
static heed_value kept_keys(heed_builder *b, const attention_attrs *a, const heed_value in[AT_CORE_INPUTS])
{
    static const int kept[] = {
        AT_Q,          AT_K,       AT_V,     AT_LENGTHS, AT_Q_LENGTHS,    AT_OFFSET,       AT_MASK,
        AT_BLOCK_KEEP, AT_GLOBALS, AT_Q_SEG, AT_K_SEG,   AT_GRAPH_INDPTR, AT_GRAPH_INDICES
    };
    attention_attrs silent = *a;
    heed_value of[AT_CORE_INPUTS] = { { 0 } }, out[AT_OUTPUTS];

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        of[kept[i]] = in[kept[i]];
    silent.score = ATTENTION_DOT;
    silent.scale = silent.softcap = silent.dropout = 0;
    silent.row_zero = silent.topk = silent.pooled_q = silent.pooled_k = 0;
    silent.normaliser = HEED_NORMALISER_SOFTMAX;
    silent.temperature = 1;
    silent.plus_one = silent.rows = silent.entropy = silent.distance = silent.rel_sums = false;
    heed__attention_core(b, &silent, of, out);
    return out[AT_GET_LSE];
}

static heed_status add_output(rows_look *l, heed_value v, int *at)
{
    *at = (int)heed__building(l->build.b)->n_outputs;
    return heed__doctor_output(&l->build, l->d, v);
}

/* Which inputs a value is made of, a bit each. */
static heed_status inputs_of(rows_look *l, heed_value v, unsigned *made_of)
{
    const heed_graph *g = heed__building(l->build.b);
    heap *h = l->d->ctx->heap;
    const uint32_t last = g->values[v.id].node;
    bool *needed = heed__alloc(h, (size_t)last + 1, sizeof *needed);

    if (!needed)
        return heed__fail_memory(l->d->err, (uint64_t)last + 1);
    needed[last] = true;
    *made_of = 0;
    for (uint32_t i = last + 1; i-- > 0;) {
        for (int j = 0; needed[i] && j < g->nodes[i].n_in; j++)
            if (g->nodes[i].in[j].id)
                needed[g->values[g->nodes[i].in[j].id].node] = true;
        for (int j = 0; needed[i] && j < l->d->n_in; j++)
            *made_of |= (unsigned)(g->values[l->build.in[j].id].node == i) << j;
    }
    heed__release(h, needed);
    return HEED_OK;
}

/* Is v made of the tokens, and of no other sequence that may have lengths of its own? */
static heed_status is_of_tokens(rows_look *l, heed_value v, bool *yes)
{
    const heed_doctor_sequences *s = l->d->c->sequences;
    unsigned made_of = 0;

    TRY(inputs_of(l, v, &made_of));
    *yes = made_of >> s->tokens & 1;
    for (int i = 0; i < l->d->n_in; i++)
        if (i != s->tokens && made_of >> i & 1 && l->d->in[i].type.rank > 1)
            *yes = false;
    return HEED_OK;
}

/* v for the probe; {0}: keys are not the tokens. */
static heed_value padding_as_values(rows_look *l, const heed_type *k, heed_dtype dtype)
{
    heed_builder *b = l->build.b;

    if (!l->padding.id || k->dims[0] != heed_dim(b, l->padding, 0) || k->dims[2] != l->d->steps)
        return (heed_value){ 0 };
    return heed__as(
        b, heed_broadcast(b, l->padding, 4, (const int64_t[]){ k->dims[0], k->dims[1], k->dims[2], 1 }),
        dtype);
}

static heed_status watch_node(rows_look *l, uint32_t index)
{
    heed_builder *b = l->build.b;
    const node n = heed__building(b)->nodes[index]; /* the list may move */
    attention_attrs a = *(const attention_attrs *)n.attrs;
    heed_value in[AT_CORE_INPUTS] = { { 0 } }, out[AT_OUTPUTS], v;
    const heed_type q = heed_value_type(b, n.in[AT_Q]), k = heed_value_type(b, n.in[AT_K]);
    watched_rows *w = &l->at[l->n];
    bool plain, of_tokens = false;

    for (int i = 0; i < n.n_in; i++)
        in[i] = n.in[i];
    plain = a.normaliser == HEED_NORMALISER_SOFTMAX && !a.plus_one && !in[AT_SINK].id && k.dims[2] > 1;
    v = padding_as_values(l, &k, q.dtype);
    if (v.id) {
        TRY(is_of_tokens(l, in[AT_K], &of_tokens));
        v = of_tokens ? v : (heed_value){ 0 };
    }
    if (!plain && !v.id)
        return HEED_OK;
    *w = (watched_rows){ .node = index,
                         .entropy = -1,
                         .padding = -1,
                         .sum = -1,
                         .heads = q.dims[1],
                         .tq = q.dims[2],
                         .softcap = in[AT_TEMPERATURE].id ? 0 : a.softcap,
                         .temperature = a.temperature };
    w->head = heed__alloc(l->d->ctx->heap, (size_t)w->heads + 1, sizeof *w->head);
    if (!w->head)
        return heed__fail_memory(l->d->err, (uint64_t)w->heads * sizeof *w->head);
    l->n++;
    in[AT_V] = v.id ? v : in[AT_V];
    in[AT_RNG] = in[AT_DROPOUT_KEEP] = in[AT_PROBE_ROWS] = in[AT_PROBE_HEADS] = (heed_value){ 0 };
    a.dropout = 0;
    a.pooled_q = a.pooled_k = 0;
    a.rows = a.distance = a.rel_sums = false;
    a.entropy = plain;
    a.topk = plain;
    heed__attention_core(b, &a, in, out);
    if (v.id)
        TRY(add_output(l, out[AT_GET_OUT], &w->padding));
    if (!plain)
        return HEED_OK;
    TRY(add_output(l, out[AT_GET_ENTROPY], &w->entropy));
    TRY(add_output(l, out[AT_GET_TOPK_VALUES], &w->largest));
    TRY(add_output(l, kept_keys(b, &a, in), &w->kept));
    return w->softcap > 0 ? add_output(l, out[AT_GET_LSE], &w->sum) : HEED_OK;
}

static heed_status watch_nodes(rows_look *l)
{
    const uint32_t n = heed__building(l->build.b)->n_nodes;
    const heed_doctor_sequences *s = l->d->c->sequences;
    heed_builder *b = l->build.b;
    int64_t found = 0;

    for (uint32_t i = 0; i < n; i++)
        found += heed__building(b)->nodes[i].op == &heed__op_attention;
    l->at = heed__alloc(l->d->ctx->heap, (size_t)found + 1, sizeof *l->at);
    if (!l->at)
        return heed__fail_memory(l->d->err, (uint64_t)found * sizeof *l->at);
    if (s && s->lengths.set)
        l->padding = heed_select(b, heed__within(b, l->build.in[s->lengths.value], 2, l->d->steps),
                                 heed_scalar(b, HEED_F32, 0), heed_scalar(b, HEED_F32, 1));
    for (uint32_t i = 0; i < n; i++)
        if (heed__building(b)->nodes[i].op == &heed__op_attention)
            TRY(watch_node(l, i));
    return HEED_OK;
}

/* ---- counting ---- */

#define LN_OF_TWO_KEYS 0.4054651081081644 /* ln 1.5: above it there are two keys to choose from */
#define WEIGHT_OF_ONE 0.999
#define SHARE_OF_CAP 0.99

static const float *output_of(const rows_look *l, int i)
{
    return i < 0 ? NULL : l->run.out[i].data;
}

static void count_row(watched_rows *w, head_rows *h, const rows_look *l, int64_t at)
{
    const double kept = (double)output_of(l, w->kept)[at], largest = (double)output_of(l, w->largest)[at];
    bool saturated = largest > WEIGHT_OF_ONE;

    if (!(kept > LN_OF_TWO_KEYS))
        return;
    if (w->sum >= 0) /* the largest z: its weight is e^(z - lse) */
        saturated = saturated || fabs((double)output_of(l, w->sum)[at] + log(largest)) * w->temperature >=
                                     SHARE_OF_CAP * w->softcap;
    h->rows++;
    h->entropy += (double)output_of(l, w->entropy)[at] / kept;
    h->saturated += saturated;
}

/* Rows of one batch, which began at sample `begin`. */
static void count_rows(const rows_look *l, watched_rows *w, int64_t begin, int64_t batch)
{
    const int output = w->entropy >= 0 ? w->entropy : w->padding;
    const int64_t sequences = l->run.out[output].type.dims[0];

    for (int64_t b = 0; b < sequences; b++) {
        const bool ours = sequences == batch && l->d->steps > 0;
        const int64_t length = ours ? heed__doctor_length(l->d, begin + b) : w->tq;
        const int64_t counted = w->tq == l->d->steps ? i64_min(w->tq, length) : w->tq;

        for (int64_t h = 0; h < w->heads; h++)
            for (int64_t i = 0; i < counted; i++) {
                const int64_t at = (b * w->heads + h) * w->tq + i;

                if (w->entropy >= 0)
                    count_row(w, &w->head[h], l, at);
                if (w->padding >= 0 && length < l->d->steps && length > 0) {
                    const double on = (double)output_of(l, w->padding)[at];

                    w->padding_rows++;
                    w->padding_sum += on;
                    w->padding_most = fmax(w->padding_most, on);
                }
            }
    }
}

static heed_status count_all(rows_look *l)
{
    const int64_t batch = heed__doctor_batch(l->d);
    heed_tensor in[DOCTOR_INPUTS + 1];

    for (int64_t i = 0; i < heed__doctor_shown(l->d); i += batch) {
        heed__doctor_some(l->d, i, batch, in);
        TRY(heed__doctor_run(&l->run, in));
        for (int64_t k = 0; k < l->n; k++)
            count_rows(l, &l->at[k], i, batch);
    }
    return HEED_OK;
}

/* ---- what it says ---- */

static heed_status say_head(rows_look *l, const watched_rows *w, const head_rows *h, const char *place)
{
    doctor *d = l->d;
    const double entropy = h->entropy / h->rows, saturated = h->saturated / h->rows;

    if (entropy < d->threshold[RULE_ENTROPY_COLLAPSE])
        return heed__doctor_find(
            d, RULE_ENTROPY_COLLAPSE, entropy, place,
            "its %.0f rows fall on one key each: their entropy is %.3g of what equal weights have", h->rows,
            entropy);
    if (saturated > d->threshold[RULE_SATURATED_SCORES])
        return heed__doctor_find(
            d, RULE_SATURATED_SCORES, saturated, place,
            "%.1f %% of its %.0f rows have a weight above 0.999 or a score at softcap: almost no "
            "gradient passes there",
            100 * saturated, h->rows);
    if (entropy > d->threshold[RULE_ROWS_UNIFORM] && w->tq > 1 &&
        !heed__doctor_found(d, RULE_DEAD_HEADS, place))
        return heed__doctor_find(
            d, RULE_ROWS_UNIFORM, entropy, place,
            "its %.0f rows are nearly uniform: their entropy is %.5g of what equal weights have", h->rows,
            entropy);
    return HEED_OK;
}

static heed_status say_padding(rows_look *l, const watched_rows *w, const char *layer)
{
    doctor *d = l->d;
    const double share = w->padding_sum / w->padding_rows;

    if (share > d->threshold[RULE_MASK_POLARITY])
        return heed__doctor_find(d, RULE_MASK_POLARITY, share, layer,
                                 "%.4g %% of the weight lies on padding: the mask keeps what it should hide",
                                 100 * share);
    if (w->padding_most > d->threshold[RULE_PADDING_SEEN])
        return heed__doctor_find(d, RULE_PADDING_SEEN, w->padding_most, layer,
                                 "padding has up to %.3g of the weight of a row", w->padding_most);
    return HEED_OK;
}

/* Rows go as the scores do: what the graph has told already is not told again of every head. */
static bool cause_is_known(const doctor *d, const char *layer)
{
    return heed__doctor_found(d, RULE_ATTENTION_SCALE, layer) ||
           heed__doctor_found(d, RULE_SCALE_TWICE, layer) || heed__doctor_found(d, RULE_DISTANCE_SIGN, layer);
}

static heed_status say_all(rows_look *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        const watched_rows *w = &l->at[i];
        char layer[192], place[192];

        (void)heed__doctor_place(layer, l->run.graph, &l->run.graph->nodes[w->node]);
        for (int64_t h = 0; h < w->heads; h++) {
            if (!(w->head[h].rows > 0) || cause_is_known(l->d, layer))
                continue;
            if (w->tq > 1)
                heed__doctor_looked(l->d, RULE_ROWS_UNIFORM);
            heed__doctor_looked(l->d, RULE_ENTROPY_COLLAPSE);
            heed__doctor_looked(l->d, RULE_SATURATED_SCORES);
            (void)snprintf(place, sizeof place, "%.160s head %lld", layer, (long long)h);
            TRY(say_head(l, w, &w->head[h], place));
        }
        if (w->padding_rows > 0) {
            heed__doctor_looked(l->d, RULE_MASK_POLARITY);
            heed__doctor_looked(l->d, RULE_PADDING_SEEN);
            TRY(say_padding(l, w, layer));
        }
    }
    return HEED_OK;
}

heed_status heed__doctor_rows(doctor *d)
{
    rows_look l = { .d = d };
    heed_status st;

    if (!d->c->model || d->n == 0 || heed__doctor_found(d, RULE_NOT_FINITE, NULL) ||
        heed__doctor_found(d, RULE_NAN_ORIGIN, NULL))
        return HEED_OK;
    TRY(heed__doctor_build(&l.build, d, HEED_EVAL, heed__doctor_batch(d)));
    STEP(watch_nodes(&l));
    if (l.n > 0) {
        STEP(heed__doctor_open(&l.run, d, &l.build));
        STEP(count_all(&l));
        STEP(say_all(&l));
    }
done:
    for (int64_t i = 0; i < l.n; i++)
        heed__release(d->ctx->heap, l.at[i].head);
    heed__release(d->ctx->heap, l.at);
    heed__doctor_close(&l.run);
    heed_builder_free(l.build.b);
    return st;
}
