/* Softmax attention of one key head, backward; compiled once per instruction level.
 *
 *   S, P and dP = dO V^T again, P from lse;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
 *
 * in blocks of 64 queries by 64 keys. Q is multiplied by the scale when it is packed: S then needs none, dK neither. */

#include "cpu/level/attention_tile.h"
#include "cpu/level/attention_level.h"

typedef struct backward_block {
    float *q, *dout, *p, *ds; /* panels */
    float *k_tile, *v_tile;   /* on end */
    float *k, *dk, *dq, *dv;  /* rows of k_width and v_width floats: keys, sums of a tile, dq of a block */
    int64_t k_width, v_width;
} backward_block;

static int64_t backward_areas(backward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
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
    }
    return kernel_max(kernel_max((dk + dv) * PANEL, narrow ? q : q + dout),
                      kernel_max((3 * k_width + v_width) * PANEL, 2 * TILE_FLOATS));
}

size_t LEVEL_NAME(attention_backward_bytes)(int64_t dk, int64_t dv)
{
    return (size_t)backward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* delta_i = sum dout_i out_i: one chain in rising d, as in dP. A row with one weight of 1 has out = v, hence delta = dP to the
 * bit and a gradient of exactly 0, however large v is. */
void LEVEL_NAME(attention_deltas)(const attention_head *h, const attention_upstream *u, int64_t begin,
                                  int64_t end)
{
    end = kernel_min(end, h->mask.q_length);
    for (int64_t i = begin; i < end; i += 4) { /* four rows: their chains hide each other's latency */
        const float *x[4], *y[4];
        float sum[4] = { 0 };

        for (int64_t r = 0; r < 4; r++) {
            const int64_t row = kernel_min(i + r, end - 1);

            x[r] = u->dout + row * u->dout_step;
            y[r] = u->out + row * h->dv;
        }
        for (int64_t p = 0; p < h->dv; p++) {
            UNROLL for (int r = 0; r < 4; r++) sum[r] = sfma(x[r][p], y[r][p], sum[r]);
        }
        for (int64_t r = 0; r < kernel_min(4, end - i); r++)
            u->delta[i + r] = sum[r];
    }
}

/* ---- which cells of a block are worth computing ---- */

#define CELL 16 /* queries and keys of a cell: whole vectors at every level */
#define CELLS (PANEL / CELL)

/* A row of cells has kept keys in cells [from[r], to[r]) only, a column in cells [begin[c], end[c]). Products leave out the
 * rest, in which p and ds are zero: a chain of fma is not changed by terms that are zero. */
typedef struct backward_cells {
    int64_t from[CELLS], to[CELLS], begin[CELLS], end[CELLS];
} backward_cells;

static backward_cells cells_of(const uint64_t *words, int64_t n, uint64_t all)
{
    const uint64_t cell = ~(uint64_t)0 >> (PANEL - CELL);
    backward_cells x = { .from = { 0 } };

    for (int64_t r = 0; r * CELL < n; r++) {
        uint64_t any = words ? 0 : all;

        for (int64_t i = r * CELL; words && i < kernel_min(n, (r + 1) * CELL); i++)
            any |= words[i];
        if (any == 0)
            continue;
        x.from[r] = __builtin_ctzll(any) / CELL;
        x.to[r] = (PANEL - 1 - __builtin_clzll(any)) / CELL + 1;
        for (int64_t c = x.from[r]; c < x.to[r]; c++)
            if (any & cell << (c * CELL)) {
                if (x.end[c] == 0)
                    x.begin[c] = r;
                x.end[c] = r + 1;
            }
    }
    return x;
}

/* The end of the cells from `at` on that have the same bounds, so that one product does them all. */
static int64_t cells_alike(const int64_t *from, const int64_t *to, int64_t at)
{
    int64_t next = at + 1;

    while (next < CELLS && from[next] == from[at] && to[next] == to[at])
        next++;
    return next;
}

/* ---- one block ---- */

/* What one row of weights has: drops and masked are constants where this is called, and its loops are made
 * for each. */
typedef struct backward_row {
    float *p, *ds; /* scores and dP, to become dropped weights and dS */
    vf lse, delta, dlse;
    uint32_t words[PANEL + 2 * VL]; /* of dropout */
    uint64_t word;                  /* kept keys */
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

/* Row i: scores to weights (dropped), dP to dS, both zero where not kept, in vectors [begin, end). */
static void backward_weights(const attention_head *h, backward_row *x, int64_t i, int64_t first,
                             int64_t begin, int64_t end)
{
    if (h->drops)
        dropout_words(x->words + begin * VL, h, i, first + begin * VL, end - begin);
    for (int64_t v = begin; v < end; v++) {
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

/* Zeros in p and ds where a column of cells has kept keys above and below, but the row of cells has none. */
static void backward_holes(const backward_block *b, const backward_cells *x, int64_t n)
{
    for (int64_t c = 0; c < CELLS; c++)
        for (int64_t r = x->begin[c]; r < x->end[c]; r++)
            if (c < x->from[r] || c >= x->to[r]) {
                const int64_t at = r * CELL * PANEL + c * CELL, rows = kernel_min(CELL, n - r * CELL);

                clear_rows(b->p + at, PANEL, rows, CELL);
                clear_rows(b->ds + at, PANEL, rows, CELL);
            }
}

/* p and ds of queries [i, i + n) and the tile. */
static void backward_scores(const attention_head *h, const attention_upstream *u, const backward_block *b,
                            const backward_cells *x, int64_t i, int64_t n, int64_t first, int64_t keys,
                            const uint64_t *words)
{
    for (int64_t r = 0, next; r * CELL < n; r = next) {
        const int64_t at = r * CELL, from = x->from[r] * CELL,
                      width = whole_vectors(kernel_min(keys, x->to[r] * CELL)) - from;

        next = cells_alike(x->from, x->to, r);
        if (width <= 0)
            continue;
        const int64_t end = kernel_min(n, next * CELL);
        product_scores(b->p + at * PANEL + from, b->q + at * PANEL, PANEL, b->k_tile + from, end - at, width,
                       h->dk);
        product_scores(b->ds + at * PANEL + from, b->dout + at * PANEL, PANEL, b->v_tile + from, end - at,
                       width, h->dv);
        for (int64_t row = at; row < end; row++) {
            backward_row y = { .p = b->p + row * PANEL,
                               .ds = b->ds + row * PANEL,
                               .word = words ? words[row] : whole_word(keys),
                               .lse = vsplat(u->lse[i + row]),
                               .delta = vsplat(u->delta[i + row]),
                               .dlse = vsplat(u->dlse ? u->dlse[i + row] : 0) };

            backward_weights(h, &y, i + row, first, from / VL, (from + width) / VL);
        }
    }
}

/* Queries [i, end), at most 64, against the tile of keys from `first` on. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b,
                             int64_t i, int64_t end, int64_t first, const uint64_t *words, bool dk, bool dv)
{
    const int64_t n = end - i, keys = kernel_min(PANEL, h->mask.length - first);
    const backward_cells x = cells_of(words, n, whole_word(keys));

    pack_panels(b->q, PANEL, h->q + i * h->q_step, h->q_step, n, h->dk, h->scale);
    pack_panels(b->dout, PANEL, u->dout + i * u->dout_step, u->dout_step, n, h->dv, 1);
    backward_scores(h, u, b, &x, i, n, first, keys, words);
    if (words && (dk || dv))
        backward_holes(b, &x, n);
    for (int64_t c = 0, next; c * CELL < keys; c = next) {
        const int64_t at = c * CELL, row = x.begin[c] * CELL, rows = kernel_min(n, x.end[c] * CELL) - row;

        next = cells_alike(x.begin, x.end, c);
        const int64_t width = kernel_min(keys, next * CELL) - at;
        if (dv && rows > 0)
            product_columns(b->dv + at * b->v_width, b->v_width, b->p + row * PANEL + at,
                            b->dout + row * PANEL, PANEL, width, h->dv, rows);
        if (dk && rows > 0)
            product_columns(b->dk + at * b->k_width, b->k_width, b->ds + row * PANEL + at, b->q + row * PANEL,
                            PANEL, width, h->dk, rows);
    }
    for (int64_t r = 0, next; u->dq && r * CELL < n; r = next) {
        const int64_t at = r * CELL, from = x.from[r] * CELL, width = kernel_min(keys, x.to[r] * CELL) - from;

        next = cells_alike(x.from, x.to, r);
        if (width <= 0)
            continue;
        const int64_t rows = kernel_min(n, next * CELL) - at;
        product(ROW, b->dq, b->k_width, b->ds + at * PANEL + from, b->k + from * b->k_width, b->k_width, rows,
                b->k_width, width, false);
        put_rows(u->dq + (i + at) * h->dk, h->dk, b->dq, b->k_width, rows, h->dk, true, vsplat(h->scale));
    }
}

/* One tile of keys against the queries of a part: dk and dv of the tile, and its share of dq. */
static void backward_tile(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                          const attention_part *part, float *dk, float *dv, const backward_block *b,
                          int64_t first)
{
    const attention_head *h = heads;
    const int64_t keys = kernel_min(PANEL, h->mask.length - first);
    bool packed = false;
    uint64_t words[PANEL];

    if (dk)
        clear_rows(b->dk, b->k_width, keys, b->k_width);
    if (dv)
        clear_rows(b->dv, b->v_width, keys, b->v_width);
    for (int64_t g = 0; g < group; g++) {
        const int64_t last = kernel_min(heads[g].mask.q_length, part->query_end);

        for (int64_t i = part->query; i < last; i += PANEL) {
            const int64_t end = kernel_min(last, i + PANEL);
            const attention_tile kind = heed__attention_words(&heads[g].mask, i, end, first, words);

            if (kind == ATTENTION_SKIP)
                continue;
            if (!packed) {
                pack_tile(b->k_tile, h->k + first * h->k_step, h->k_step, keys, h->dk);
                pack_tile(b->v_tile, h->v + first * h->v_step, h->v_step, keys, h->dv);
                pack(b->k, b->k_width, h->k + first * h->k_step, h->k_step, keys, h->dk);
                packed = true;
            }
            backward_queries(&heads[g], &upstream[g], b, i, end, first,
                             kind == ATTENTION_PART ? words : NULL, dk, dv);
        }
    }
    if (dk)
        put_rows(dk + first * h->dk, h->dk, b->dk, b->k_width, keys, h->dk, false, vsplat(1.0f));
    if (dv)
        put_rows(dv + first * h->dv, h->dv, b->dv, b->v_width, keys, h->dv, false, vsplat(1.0f));
}

/* Rows [begin, end) of width n. */
static void backward_zero(float *x, int64_t begin, int64_t end, int64_t n)
{
    if (x && begin < end)
        memset(x + begin * n, 0, (size_t)((end - begin) * n) * sizeof *x);
}

void LEVEL_NAME(attention_backward)(const attention_head *heads, const attention_upstream *upstream,
                                    int64_t group, const attention_part *part, float *dk, float *dv,
                                    void *const scratch[4])
{
    const attention_head *h = heads;
    const int64_t length = h->mask.length, last = kernel_min(length, part->key_end);
    backward_block b;

    (void)backward_areas(&b, h->dk, h->dv, scratch);
    for (int64_t g = 0; g < group; g++)
        backward_zero(upstream[g].dq, part->query, part->query_end, h->dk);
    backward_zero(dk, kernel_max(part->key, length), part->key_end, h->dk);
    backward_zero(dv, kernel_max(part->key, length), part->key_end, h->dv);
    for (int64_t first = part->key; first < last; first += PANEL)
        backward_tile(heads, upstream, group, part, dk, dv, &b, first);
}
