/* Probes of softmax weights that sum over queries or heads, by a second pass over saved log-sums; compiled once per instruction
 * level.
 *
 *   w_ij = e^((z_ij - lse_i) - rest_i);  received_j = sum_i w_ij,  pooled = mean of w over blocks,  mean_ij = sum_h w_ij / H
 *
 * A call owns some keys of a sequence, so that each sum is of one thread and in the order of rising queries: over the queries of a
 * block first, then over blocks. */

#include "cpu/level/attention_terms.h"
#include "cpu/level/attention_level.h"

typedef struct probe_area {
    float *k, *q, *s; /* tiles on end, one after another; panels */
    int64_t wide;     /* keys, in whole tiles; sums are rows of so many numbers */
    float *block;     /* of the queries of a block */
    float *received;  /* of each head, all queries so far */
    float *pooled;    /* of each head, a block of pooled that goes on in the next block of queries */
    float *cells;     /* of each block of pooled that lies in a block of queries */
} probe_area;

/* Blocks of `pooled_q` queries that a block of queries may touch. */
static int64_t probe_slots(int64_t pooled_q)
{
    return (ATTENTION_ROWS - 1) / pooled_q + 2;
}

static int64_t probe_areas(probe_area *a, int64_t dk, int64_t heads, int64_t keys, int64_t pooled_q,
                           void *const scratch[4])
{
    const int64_t wide = kernel_ceil(keys, PANEL) * PANEL, q = panels(dk) * ATTENTION_ROWS * PANEL,
                  cells = probe_slots(pooled_q) * wide, sums = GROUP * PANEL + wide;

    if (a) {
        a->wide = wide;
        a->k = scratch[0];
        a->q = scratch[1];
        a->cells = a->q + q;
        a->received = scratch[2];
        a->pooled = a->received + heads * wide;
        a->s = scratch[3];
        a->block = a->s + GROUP * PANEL;
    }
    return kernel_max(kernel_max(dk * wide, q + cells), kernel_max(2 * heads * wide, sums));
}

size_t LEVEL_NAME(attention_probe_bytes)(int64_t dk, int64_t heads, int64_t keys, int64_t pooled_q)
{
    return (size_t)probe_areas(NULL, dk, heads, keys, pooled_q, NULL) * sizeof(float);
}

/* One head, one block of queries, the keys of the call. */
typedef struct probe_part {
    const attention_head *h;
    const attention_second *to;
    const probe_area *area;
    float *received, *pooled; /* of this head; NULL: not wanted */
    float *mean;              /* NULL: not wanted */
    int64_t begin, end;       /* queries */
    int64_t first, last;      /* keys */
} probe_part;

/* Scores of a row to weights, added to sums that may be NULL; `masked` is a constant where this is called. */
VEC_INLINE void probe_row(const float *s, vf lse, vf rest, uint64_t word, int64_t vectors, int64_t keys,
                          float *block, float *cells, float *mean, const bool masked)
{
    for (int64_t v = 0; v < vectors; v++) {
        const vf z = vload(s + v * VL) - lse - rest;
        const vf w = exp_down(masked ? vselect(word_lanes(word, v), z, vsplat(MINUS_INF)) : z);
        const int64_t left = keys - v * VL;

        if (block)
            vstore(block + v * VL, vload(block + v * VL) + w);
        if (cells)
            vstore(cells + v * VL, vload(cells + v * VL) + w);
        if (mean && left >= VL)
            vstore(mean + v * VL, vload(mean + v * VL) + w);
        else if (mean)
            vstore_part(mean + v * VL, vload_part(mean + v * VL, left) + w, left);
    }
}

/* Queries against one tile, whose keys are packed at k. */
static void probe_tile(const probe_part *t, const float *k, int64_t tile, int64_t keys, const uint64_t *words)
{
    const attention_head *h = t->h;
    const probe_area *a = t->area;
    const int64_t until = kernel_min(t->end, h->mask.q_length), at = tile - t->first;
    const bool terms = has_terms(h);

    for (int64_t i = t->begin; i < until; i += GROUP) {
        const int64_t n = kernel_min(GROUP, until - i), vectors = kernel_ceil(keys, VL);

        product_scores(a->s, a->q + (i - t->begin) * PANEL, ATTENTION_ROWS, k, n, vectors * VL, h->dk);
        if (terms)
            add_all_terms(h, a->s, i, n, tile, keys, vectors);
        for (int64_t r = 0; r < n; r++) {
            const float *s = a->s + r * PANEL;
            const uint64_t word = words ? words[i - t->begin + r] : whole_word(keys);
            const int64_t slot = t->pooled ? (i + r) / t->to->pooled_q - t->begin / t->to->pooled_q : 0;
            float *const block = t->received ? a->block + at : NULL,
                         *const cells = t->pooled ? a->cells + slot * a->wide + at : NULL,
                         *const mean = t->mean ? t->mean + (i + r) * h->mask.tk + tile : NULL;

            const vf lse = vsplat(t->to->lse[i + r]),
                     rest = vsplat(t->to->lse_rest ? t->to->lse_rest[i + r] : 0);

            if (word == ~(uint64_t)0)
                probe_row(s, lse, rest, word, vectors, keys, block, cells, mean, false);
            else
                probe_row(s, lse, rest, word, word_vectors(word), keys, block, cells, mean, true);
        }
    }
}

/* All tiles of keys, for every block of queries: the first one that uses a tile need not be the first one. */
static void probe_pack(const attention_head *h, const probe_area *a, int64_t first, int64_t last)
{
    const int64_t end = kernel_min(h->mask.length, last);

    for (int64_t tile = first; tile < end; tile += PANEL)
        pack_tile(a->k + (tile - first) * h->dk, h->k + tile * h->k_step, h->k_step,
                  kernel_min(PANEL, h->mask.length - tile), h->dk);
}

static void probe_tiles(const probe_part *t)
{
    const attention_head *h = t->h;
    const attention_mask *m = &h->mask;
    const int64_t last = kernel_min(m->length, t->last), until = kernel_min(t->end, m->q_length);
    uint64_t words[ATTENTION_ROWS];
    bool any = false;

    for (int64_t tile = heed__attention_next(m, t->begin, t->end, t->first); tile < last;
         tile = heed__attention_next(m, t->begin, t->end, tile + PANEL)) {
        const int64_t keys = kernel_min(PANEL, m->length - tile);
        const attention_tile kind = heed__attention_words(m, t->begin, until, tile, words);
        float *k = t->area->k + (tile - t->first) * h->dk;

        if (kind == ATTENTION_SKIP)
            continue;
        if (!any)
            pack_panels(t->area->q, ATTENTION_ROWS, h->q + t->begin * h->q_step, h->q_step, until - t->begin,
                        h->dk, h->scale);
        any = true;
        if (t->mean)
            pack_tile(k, h->k + tile * h->k_step, h->k_step, keys, h->dk);
        probe_tile(t, k, tile, keys, kind == ATTENTION_PART ? words : NULL);
    }
}

/* The cells of a block of pooled are known: sums over c keys each, by what the block has inside of tq x tk. */
static void probe_cells(const probe_part *t, const float *sums, int64_t block)
{
    const int64_t tq = t->h->mask.tq, tk = t->h->mask.tk, a = t->to->pooled_q, c = t->to->pooled_k;
    const float n_rows = (float)(kernel_min((block + 1) * a, tq) - block * a);
    float *cells = t->to->pooled + block * kernel_ceil(tk, c);

    for (int64_t j = t->first; j < t->last; j += c) {
        const int64_t until = kernel_min(j + c, tk);
        float sum = 0;

        for (int64_t x = j; x < until; x++)
            sum += sums[x - t->first];
        cells[j / c] = sum / (n_rows * (float)(until - j));
    }
}

/* A block of queries with all of its sums. */
static void probe_queries(const probe_part *t)
{
    const probe_area *a = t->area;
    const int64_t of = t->pooled ? t->to->pooled_q : 1, from = t->begin / of, until = (t->end - 1) / of;
    const size_t bytes = (size_t)a->wide * sizeof(float);

    if (t->received)
        memset(a->block, 0, bytes);
    if (t->pooled) {
        memset(a->cells, 0, (size_t)(until - from + 1) * bytes);
        if (t->begin % of)
            memcpy(a->cells, t->pooled, bytes);
    }
    probe_tiles(t);
    for (int64_t j = 0; t->received && j < a->wide; j += VL)
        vstore(t->received + j, vload(t->received + j) + vload(a->block + j));
    for (int64_t block = from; t->pooled && block <= until; block++) {
        const float *sums = a->cells + (block - from) * a->wide;

        if ((block + 1) * of <= t->end || t->end == t->h->mask.tq)
            probe_cells(t, sums, block);
        else
            memcpy(t->pooled, sums, bytes);
    }
}

/* Rows of mean begin with zeros, and are sums over heads that are divided at last. */
static void probe_mean(float *mean, int64_t step, int64_t n, int64_t keys, float heads)
{
    for (int64_t i = 0; i < n; i++) {
        if (heads == 0)
            memset(mean + i * step, 0, (size_t)keys * sizeof *mean);
        for (int64_t j = 0; heads > 0 && j < keys; j++)
            mean[i * step + j] /= heads;
    }
}

void LEVEL_NAME(attention_probe)(const attention_head *heads, const attention_second *to, int64_t n_heads,
                                 float *mean, int64_t first, int64_t last, void *const scratch[4])
{
    const int64_t tq = heads->mask.tq, tk = heads->mask.tk, blocks = kernel_ceil(tq, ATTENTION_ROWS);
    probe_area a;

    (void)probe_areas(&a, heads->dk, n_heads, last - first, to->pooled_q, scratch);
    memset(a.received, 0, (size_t)(2 * n_heads * a.wide) * sizeof(float));
    /* With a mean its part stays in a cache while heads pass by; else the packed keys of a head stay. */
    for (int64_t item = 0; item < blocks * n_heads; item++) {
        const int64_t g = mean ? item % n_heads : item / blocks,
                      block = mean ? item / n_heads : item % blocks, begin = block * ATTENTION_ROWS,
                      end = kernel_min(tq, begin + ATTENTION_ROWS);
        float *const rows = mean ? mean + begin * tk + first : NULL;

        if (!mean && block == 0)
            probe_pack(&heads[g], &a, first, last);
        if (mean && g == 0)
            probe_mean(rows, tk, end - begin, last - first, 0);
        probe_queries(&(probe_part){ .h = &heads[g],
                                     .to = &to[g],
                                     .area = &a,
                                     .received = to[g].received ? a.received + g * a.wide : NULL,
                                     .pooled = to[g].pooled ? a.pooled + g * a.wide : NULL,
                                     .mean = mean,
                                     .begin = begin,
                                     .end = end,
                                     .first = first,
                                     .last = last });
        if (mean && g == n_heads - 1)
            probe_mean(rows, tk, end - begin, last - first, (float)n_heads);
    }
    for (int64_t g = 0; g < n_heads; g++)
        if (to[g].received)
            memcpy(to[g].received + first, a.received + g * a.wide, (size_t)(last - first) * sizeof(float));
}
