/* Softmax attention of one key head, backward; compiled once per instruction level.
 *
 *   S, P and dP = dO V^T again, P from lse;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
 *
 * Q is multiplied by the scale when it is packed: S then needs none, dK neither. */

#include "cpu/level/attention_tile.h"
#include "cpu/level/attention_level.h"

typedef struct backward_block {
    float *q, *dout, *p, *ds; /* panels */
    float *k_tile, *v_tile;   /* on end */
    float *k, *dk, *dq, *dv;  /* rows of k_width and v_width floats: keys, sums of a tile, dq of a block */
    float *delta;             /* a number a row */
    int64_t k_width, v_width;
} backward_block;

static int64_t backward_areas(backward_block *b, int64_t dk, int64_t dv, int64_t n_rows,
                              void *const scratch[4])
{
    const int64_t k_width = whole_vectors(dk), v_width = whole_vectors(dv);
    const bool narrow =
        dk <= PANEL / 2 && dv <= PANEL / 2; /* q and dout side by side: half as many lines of L1 */
    const int64_t q = panels(dk) * TILE_FLOATS, dout = panels(dv) * TILE_FLOATS;

    if (b) {
        b->k_width = k_width;
        b->v_width = v_width;
        b->k_tile = scratch[0];
        b->v_tile = b->k_tile + dk * PANEL;
        b->q = scratch[1];
        b->dout = b->q + (narrow ? PANEL / 2 : q);
        b->k = scratch[2];
        b->dk = b->k + k_width * PANEL;
        b->dq = b->dk + k_width * PANEL;
        b->dv = b->dq + k_width * PANEL;
        b->p = scratch[3];
        b->ds = b->p + TILE_FLOATS;
        b->delta = b->ds + TILE_FLOATS;
    }
    return kernel_max(kernel_max((dk + dv) * PANEL, narrow ? q : q + dout),
                      kernel_max((3 * k_width + v_width) * PANEL, 2 * TILE_FLOATS + n_rows));
}

size_t LEVEL_NAME(attention_backward_bytes)(int64_t dk, int64_t dv, int64_t n_rows)
{
    return (size_t)backward_areas(NULL, dk, dv, n_rows, NULL) * sizeof(float);
}

/* delta_i = sum dout_i out_i: one chain in rising d, as in dP. A row with one weight of 1 has out = v,
 * hence delta = dP to the bit and a gradient of exactly 0, however large v is. */
static void backward_deltas(const attention_head *h, const attention_upstream *u, float *delta)
{
    const int64_t rows = h->mask.q_length;

    for (int64_t i = 0; i < rows; i += 4) { /* four rows: their chains hide each other's latency */
        const float *x[4], *y[4];
        float sum[4] = { 0 };

        for (int64_t r = 0; r < 4; r++) {
            const int64_t row = kernel_min(i + r, rows - 1);

            x[r] = u->dout + row * u->dout_step;
            y[r] = u->out + row * h->dv;
        }
        for (int64_t p = 0; p < h->dv; p++) {
            UNROLL for (int r = 0; r < 4; r++) sum[r] = sfma(x[r][p], y[r][p], sum[r]);
        }
        for (int64_t r = 0; r < kernel_min(4, rows - i); r++)
            delta[i + r] = sum[r];
    }
}

/* What one row of weights has: drops and masked are constants where this is called, and its loops are made
 * for each. */
typedef struct backward_row {
    float *p, *ds; /* scores and dP, to become dropped weights and dS */
    vf lse, delta, dlse;
    uint32_t words[PANEL + 2 * VL]; /* of dropout */
    uint64_t word; /* kept keys */
} backward_row;

VEC_INLINE void backward_vector(const attention_head *h, const backward_row *x, int64_t v, const bool drops,
                                const bool masked)
{
    const vf z = vload(x->p + v * VL) - x->lse, dp = vload(x->ds + v * VL);
    const vi lanes = masked ? word_lanes(x->word, v) : (vi){ 0 };
    const vf e = exp_down(masked ? vselect(lanes, z, vsplat(MINUS_INF)) : z);
    const vf down = drops ? dropped(dp, x->words + v * VL, h->threshold, h->kept) : dp;
    const vf ds = e * (down - x->delta + x->dlse);

    vstore(x->p + v * VL, drops ? dropped(e, x->words + v * VL, h->threshold, h->kept) : e);
    vstore(x->ds + v * VL, masked ? (vf)(lanes & (vi)ds) : ds);
}

/* Row i: scores to weights (dropped), dP to dS, both zero where not kept. */
static void backward_weights(const attention_head *h, backward_row *x, int64_t i, int64_t first,
                             int64_t vectors)
{
    if (h->drops)
        dropout_words(x->words, h, i, first, vectors);
    for (int64_t v = 0; v < vectors; v++) {
        if (h->drops && word_whole(x->word, v))
            backward_vector(h, x, v, true, false);
        else if (h->drops)
            backward_vector(h, x, v, true, true);
        else if (word_whole(x->word, v))
            backward_vector(h, x, v, false, false);
        else
            backward_vector(h, x, v, false, true);
    }
}

/* Queries [i, end), at most 64, against the tile of keys from `first` on. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b,
                             const float *delta, int64_t i, int64_t end, int64_t first, const uint64_t *words)
{
    const int64_t n = end - i, keys = kernel_min(PANEL, h->mask.length - first);
    uint64_t any = words ? 0 : whole_word(keys);
    int64_t vectors, most;

    for (int64_t r = 0; words && r < n; r++)
        any |= words[r];
    vectors = word_vectors(any);
    most = kernel_min(keys, vectors * VL);
    pack_panels(b->q, PANEL, h->q + i * h->q_step, h->q_step, n, h->dk, h->scale);
    pack_panels(b->dout, PANEL, u->dout + i * u->dout_step, u->dout_step, n, h->dv, 1);
    product_scores(b->p, b->q, PANEL, b->k_tile, n, vectors * VL, h->dk);
    product_scores(b->ds, b->dout, PANEL, b->v_tile, n, vectors * VL, h->dv);
    for (int64_t r = 0; r < n; r++) {
        const int64_t row = i + r;
        backward_row x = { .p = b->p + r * PANEL,
                           .ds = b->ds + r * PANEL,
                           .word = words ? words[r] : whole_word(keys),
                           .lse = vsplat(u->lse[row]),
                           .delta = vsplat(delta[row]),
                           .dlse = vsplat(u->dlse ? u->dlse[row] : 0) };

        backward_weights(h, &x, row, first, vectors);
    }
    product_columns(b->dv, b->v_width, b->p, b->dout, PANEL, most, h->dv, n);
    product_columns(b->dk, b->k_width, b->ds, b->q, PANEL, most, h->dk, n);
    if (u->dq) {
        product(ROW, b->dq, b->k_width, b->ds, b->k, b->k_width, n, b->k_width, most, false);
        put_rows(u->dq + i * h->dk, h->dk, b->dq, b->k_width, n, h->dk, true, vsplat(h->scale));
    }
}

/* One tile of keys against all queries of the group: dk and dv of the tile, and its share of dq. */
static void backward_tile(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                          float *dk, float *dv, const backward_block *b, int64_t first)
{
    const attention_head *h = heads;
    const int64_t keys = kernel_min(PANEL, h->mask.length - first), tq = h->mask.tq;
    uint64_t words[PANEL];

    pack_tile(b->k_tile, h->k + first * h->k_step, h->k_step, keys, h->dk);
    pack_tile(b->v_tile, h->v + first * h->v_step, h->v_step, keys, h->dv);
    pack(b->k, b->k_width, h->k + first * h->k_step, h->k_step, keys, h->dk);
    clear_rows(b->dk, b->k_width, keys, b->k_width);
    clear_rows(b->dv, b->v_width, keys, b->v_width);
    for (int64_t g = 0; g < group; g++)
        for (int64_t i = 0; i < heads[g].mask.q_length; i += PANEL) {
            const int64_t end = kernel_min(heads[g].mask.q_length, i + PANEL);
            const attention_tile kind = heed__attention_words(&heads[g].mask, i, end, first, words);

            if (kind != ATTENTION_SKIP)
                backward_queries(&heads[g], &upstream[g], b, b->delta + g * tq, i, end, first,
                                 kind == ATTENTION_PART ? words : NULL);
        }
    if (dk)
        put_rows(dk + first * h->dk, h->dk, b->dk, b->k_width, keys, h->dk, false, vsplat(1.0f));
    if (dv)
        put_rows(dv + first * h->dv, h->dv, b->dv, b->v_width, keys, h->dv, false, vsplat(1.0f));
}

void LEVEL_NAME(attention_backward)(const attention_head *heads, const attention_upstream *upstream,
                                    int64_t group, float *dk, float *dv, void *const scratch[4])
{
    const attention_head *h = heads;
    const int64_t tq = h->mask.tq, length = h->mask.length, unread = h->mask.tk - length;
    backward_block b;

    (void)backward_areas(&b, h->dk, h->dv, group * tq, scratch);
    for (int64_t g = 0; g < group; g++) {
        if (upstream[g].dq)
            memset(upstream[g].dq, 0, (size_t)(tq * h->dk) * sizeof(float));
        backward_deltas(&heads[g], &upstream[g], b.delta + g * tq);
    }
    if (dk)
        memset(dk + length * h->dk, 0, (size_t)(unread * h->dk) * sizeof(float));
    if (dv)
        memset(dv + length * h->dv, 0, (size_t)(unread * h->dv) * sizeof(float));
    for (int64_t first = 0; first < length; first += PANEL)
        backward_tile(heads, upstream, group, dk, dv, &b, first);
}
