/* Softmax attention of one key head, backward; compiled once per instruction level.
 *
 *   S, P and dP = dO V^T again, P from lse and what its rounding left;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
 *
 * in blocks of 64 queries by 64 keys; terms that are added to the scores get sums of dS along rows, columns or diagonals. Q is
 * multiplied by the scale when it is packed: S then needs none, dK neither.
 *
 * received and pooled are sums of P, which is here anyway. Their chains are those of attention_probe.c. */

#include "cpu/level/attention_level.h"
#include "cpu/level/attention_terms.h"

/* A tile of keys: on end, in rows, and the sums of its rows; rows of k_width and v_width floats. And sums of each key's weights:
 * of the queries of ATTENTION_ROWS, and of those of a block of pooled, which ends before query *until (0: none has begun). */
typedef struct backward_keys {
    float *k_tile, *v_tile, *k, *dk, *dv;
    float *received, *pooled;
    int64_t *until;
    int64_t first, keys;
} backward_keys;

#define TOGETHER 2 /* tiles for which a block of queries is packed once */

typedef struct backward_block {
    float *q, *dout, *p, *ds, *dq; /* panels; dq in rows */
    backward_keys tile[TOGETHER];
    int64_t k_width, v_width;
} backward_block;

static int64_t backward_areas(backward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
{
    const int64_t k_width = whole_vectors(dk), v_width = whole_vectors(dv);
    const bool narrow =
        dk <= PANEL / 2 && dv <= PANEL / 2; /* q and dout side by side: half as many lines of L1 */
    const int64_t q = panels(dk) * TILE_FLOATS, dout = panels(dv) * TILE_FLOATS;
    const int64_t keys = (dk + dv + k_width) * PANEL, sums = (k_width + v_width) * PANEL;

    if (b) {
        b->k_width = k_width;
        b->v_width = v_width;
        for (int64_t t = 0; t < TOGETHER; t++) {
            backward_keys *tile = &b->tile[t];

            tile->k = (float *)scratch[0] + t * keys;
            tile->k_tile = tile->k + k_width * PANEL;
            tile->v_tile = tile->k_tile + dk * PANEL;
            tile->dk = (float *)scratch[2] + t * sums;
            tile->dv = tile->dk + k_width * PANEL;
            tile->received = (float *)scratch[2] + TOGETHER * sums + t * 2 * PANEL;
            tile->pooled = tile->received + PANEL;
        }
        b->q = scratch[1];
        b->dout = b->q + (narrow ? PANEL / 2 : q);
        b->p = scratch[3];
        b->ds = b->p + TILE_FLOATS;
        b->dq = b->ds + TILE_FLOATS;
    }
    return kernel_max(kernel_max(TOGETHER * keys, narrow ? q : q + dout),
                      kernel_max(TOGETHER * (sums + 2 * PANEL), 2 * TILE_FLOATS + k_width * PANEL));
}

size_t LEVEL_NAME(attention_backward_bytes)(int64_t dk, int64_t dv)
{
    return (size_t)backward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* Rows that are soon needed, on their way from memory while other work is done: tiles are read column by column, which the CPU does
 * not foresee. */
static void backward_fetch(const float *x, int64_t step, int64_t begin, int64_t end, int64_t n)
{
    for (int64_t i = begin; i < end; i++)
        for (int64_t p = 0; p < n; p += 16)
            __builtin_prefetch(x + i * step + p, 0, 2);
}

/* delta_i = sum dout_i out_i: one chain in rising d, as in dP. A row with one weight of 1 has out = v, hence delta = dP to the
 * bit and a gradient of exactly 0, however large v is. */
static void backward_deltas(const attention_head *h, const attention_upstream *u, int64_t begin, int64_t end)
{
    /* So many columns are turned on end at a time: rows are lanes, and hide each other's latency. */
    enum { COLUMNS = 16 };
    float x[COLUMNS * PANEL], y[COLUMNS * PANEL];

    for (int64_t i = begin; i < end; i += PANEL) {
        const int64_t n = kernel_min(PANEL, end - i), vectors = kernel_ceil(n, VL);
        vf sum[PANEL / VL] = { { 0 } };

        for (int64_t p = 0; p < h->dv; p += COLUMNS) {
            const int64_t width = kernel_min(COLUMNS, h->dv - p);

            pack_tile(x, u->dout + i * u->dout_step + p, u->dout_step, n, width);
            pack_tile(y, u->out + i * h->dv + p, h->dv, n, width);
            for (int64_t v = 0; v < vectors; v++)
                for (int64_t q = 0; q < width; q++)
                    sum[v] = vfma(vload(x + q * PANEL + v * VL), vload(y + q * PANEL + v * VL), sum[v]);
        }
        memcpy(u->delta + i, sum, (size_t)n * sizeof(float));
    }
}

void LEVEL_NAME(attention_deltas)(const attention_head *h, const attention_upstream *u, int64_t begin,
                                  int64_t end)
{
    const int64_t last = kernel_max(begin, kernel_min(end, h->mask.q_length)),
                  keys = kernel_min(h->mask.length, TOGETHER * PANEL);

    if (begin == 0) {
        backward_fetch(h->k, h->k_step, 0, keys, h->dk);
        backward_fetch(h->v, h->v_step, 0, keys, h->dv);
        backward_fetch(h->q, h->q_step, 0, kernel_min(last, PANEL), h->dk);
    }
    backward_deltas(h, u, begin, last);
    for (int64_t i = begin; u->dsink_rows && i < end; i++) {
        const bool empty = i >= last || u->lse[i] == MINUS_INF;

        const float down = h->sink - u->lse[i] - (u->lse_rest ? u->lse_rest[i] : 0);

        u->dsink_rows[i] = empty ? 0 : vf_exp(vsplat(down))[0] * ((u->dlse ? u->dlse[i] : 0) - u->delta[i]);
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

/* What one row of weights has: what `way` says is constant where this is called, and its loops are made for each. */
typedef struct backward_row {
    float *p, *ds;            /* logits and dP, to become dropped weights and dS */
    float *received, *pooled; /* to which weights are added; NULL: not wanted */
    vf lse, rest, delta; /* delta - dlse */
    vf heat;                        /* sum of dz z */
    uint32_t words[PANEL + 2 * VL]; /* of dropout */
    uint64_t word;                  /* kept keys */
} backward_row;

enum { DROPS = 1, SHAPED = 2, SHOWN = 4, MASKED = 8 };

VEC_INLINE void backward_vector(const attention_head *h, backward_row *x, int64_t v, const int way)
{
    const bool drops = way & DROPS, shaped = way & SHAPED, masked = way & MASKED;
    const vf z = vload(x->p + v * VL), dp = vload(x->ds + v * VL);
    const vi lanes = masked ? word_lanes(x->word, v) : (vi){ 0 };
    const vf down_from = z - x->lse - x->rest;
    const vf e = exp_down(masked ? vselect(lanes, down_from, vsplat(MINUS_INF)) : down_from);
    const vf down = drops ? dropped(dp, x->words + v * VL, h->threshold, h->kept) : dp;
    vf ds = e * (down - x->delta);

    vstore(x->p + v * VL, drops ? dropped(e, x->words + v * VL, h->threshold, h->kept) : e);
    if (way & SHOWN && x->received)
        vstore(x->received + v * VL, vload(x->received + v * VL) + e);
    if (way & SHOWN && x->pooled)
        vstore(x->pooled + v * VL, vload(x->pooled + v * VL) + e);
    if (shaped) {
        const vf heat = ds * z, capped = h->softcap > 0 ? z * vsplat(h->temperature / h->softcap) : (vf){ 0 };

        x->heat += masked ? (vf)(lanes & (vi)heat) : heat;
        ds = ds * (vsplat(1.0f) - capped * capped) / vsplat(h->temperature);
    }
    vstore(x->ds + v * VL, masked ? (vf)(lanes & (vi)ds) : ds);
}

/* Row i: logits to weights (dropped), dP to dS, both zero where not kept, in vectors [begin, end). */
VEC_INLINE void backward_vectors(const attention_head *h, backward_row *x, int64_t begin, int64_t end,
                                 const int way)
{
    for (int64_t v = begin; v < end; v++) {
        if (word_whole(x->word, v))
            backward_vector(h, x, v, way);
        else
            backward_vector(h, x, v, way | MASKED);
    }
}

#define WAY(way)                                                                                             \
    static void backward_vectors_##way(const attention_head *h, backward_row *x, int64_t begin, int64_t end) \
    {                                                                                                        \
        backward_vectors(h, x, begin, end, way);                                                             \
    }
#define WAYS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
WAYS(WAY)
#define WAY_NAME(way) backward_vectors_##way,
static void (*const backward_ways[])(const attention_head *h, backward_row *x, int64_t begin,
                                     int64_t end) = { WAYS(WAY_NAME) };

static void backward_weights(const attention_head *h, backward_row *x, int64_t i, int64_t first,
                             int64_t begin, int64_t end, int way)
{
    if (h->drops)
        dropout_words(x->words + begin * VL, h, i, first + begin * VL, end - begin);
    backward_ways[way](h, x, begin, end);
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

/* ---- probes ---- */

/* to[j] += from[j], j < n. */
static void add_row(float *to, const float *from, int64_t n)
{
    int64_t j = 0;

    for (; j + VL <= n; j += VL)
        vstore(to + j, vload(to + j) + vload(from + j));
    if (j < n)
        vstore_part(to + j, vload_part(to + j, n - j) + vload(from + j), n - j);
}

/* The tile's block of pooled is complete: sums over the keys of each cell go on where the tile before has left them. */
static void backward_pool(const attention_upstream *u, const backward_keys *tile, int64_t tk)
{
    const int64_t c = u->pooled_k, block = (*tile->until - 1) / u->pooled_q;
    float *const cells = u->pooled + block * kernel_ceil(tk, c);

    for (int64_t j = 0; j < tile->keys;) {
        const int64_t cell = (tile->first + j) / c,
                      end = kernel_min(tile->keys, (cell + 1) * c - tile->first);
        float sum = cells[cell];

        for (; j < end; j++)
            sum += tile->pooled[j];
        cells[cell] = sum;
    }
    memset(tile->pooled, 0, PANEL * sizeof(float));
    *tile->until = 0;
}

/* Query i begins another block of pooled. Tiles in front of this one that are in the same block go first: they meet no further
 * query of it. */
static void backward_turn(const attention_upstream *u, const backward_block *b, const backward_keys *tile,
                          int64_t i, int64_t tk)
{
    const int64_t until = *tile->until;

    for (const backward_keys *t = b->tile; until && t <= tile; t++)
        if (*t->until == until)
            backward_pool(u, t, tk);
    *tile->until = (i / u->pooled_q + 1) * u->pooled_q;
}

/* After some queries of a head: received gets the sums of each ATTENTION_ROWS, at the end all gets what is left. */
static void backward_probes(const attention_head *h, const attention_upstream *u, const backward_block *b,
                            int64_t tiles, int64_t queries, bool end)
{
    for (const backward_keys *t = b->tile; t < b->tile + tiles; t++) {
        if (u->received && (end || queries % ATTENTION_ROWS == 0)) {
            add_row(u->received + t->first, t->received, t->keys);
            memset(t->received, 0, PANEL * sizeof(float));
        }
        if (u->pooled && end && *t->until)
            backward_pool(u, t, h->mask.tk);
    }
}

/* Zeros where queries of the keys of a part will be summed, and then means in place of the sums of pooled. */
static void backward_probes_begin(const attention_head *h, const attention_upstream *u,
                                  const attention_part *part)
{
    const int64_t c = u->pooled_k, n_rows = u->pooled ? kernel_ceil(h->mask.tq, u->pooled_q) : 0;

    if (u->received)
        memset(u->received + part->key, 0, (size_t)(part->key_end - part->key) * sizeof(float));
    for (int64_t r = 0; r < n_rows; r++)
        memset(u->pooled + r * kernel_ceil(h->mask.tk, c) + part->key / c, 0,
               (size_t)(kernel_ceil(part->key_end, c) - part->key / c) * sizeof(float));
}

static void backward_probes_end(const attention_head *h, const attention_upstream *u,
                                const attention_part *part)
{
    const int64_t a = u->pooled_q, c = u->pooled_k, tq = h->mask.tq, tk = h->mask.tk;

    for (int64_t i = 0; u->pooled && i < tq; i += a)
        for (int64_t j = part->key; j < part->key_end; j += c)
            u->pooled[i / a * kernel_ceil(tk, c) + j / c] /=
                (float)(kernel_min(i + a, tq) - i) * (float)(kernel_min(j + c, tk) - j);
}

/* ---- one block, on ---- */

/* Where dS of query i and key j goes if it goes row by row. */
static const float *dbias_ahead(const attention_upstream *u, int64_t i, int64_t j)
{
    return u->dbias && u->dbias_key ? u->dbias + i * u->dbias_row + j : NULL;
}

/* p and ds of queries [i, i + n) and the tile. */
static void backward_scores(const attention_head *h, const attention_upstream *u, const backward_block *b,
                            const backward_keys *tile, const backward_cells *x, int64_t i, int64_t n,
                            const uint64_t *words)
{
    const bool terms = has_terms(h), shaped = h->softcap > 0 || h->temperature != 1 || u->dtemperature_rows;
    const int way = (h->drops ? DROPS : 0) | (shaped ? SHAPED : 0) | (u->received || u->pooled ? SHOWN : 0);
    backward_row y = { .received = u->received ? tile->received : NULL,
                       .pooled = u->pooled ? tile->pooled : NULL };

    for (int64_t r = 0, next; r * CELL < n; r = next) {
        const int64_t at = r * CELL, from = x->from[r] * CELL,
                      width = whole_vectors(kernel_min(tile->keys, x->to[r] * CELL)) - from;

        next = cells_alike(x->from, x->to, r);
        if (width <= 0)
            continue;
        const int64_t end = kernel_min(n, next * CELL);
        product_scores_ahead(b->p + at * PANEL + from, b->q + at * PANEL, PANEL, tile->k_tile + from, end - at,
                             width, h->dk, bias_ahead(h, i + at, tile->first + from), h->bias_row);
        product_scores_ahead(b->ds + at * PANEL + from, b->dout + at * PANEL, PANEL, tile->v_tile + from, end - at,
                             width, h->dv, dbias_ahead(u, i + at, tile->first + from), u->dbias_row);
        if (terms)
            add_all_terms(h, b->p + at * PANEL + from, i + at, end - at, tile->first + from,
                          tile->keys - from, width / VL);
        for (int64_t row = at; row < end; row++) {
            y.p = b->p + row * PANEL;
            y.ds = b->ds + row * PANEL;
            y.word = words ? words[row] : whole_word(tile->keys);
            y.lse = vsplat(u->lse[i + row]);
            y.rest = vsplat(u->lse_rest ? u->lse_rest[i + row] : 0);
            y.delta = vsplat(u->delta[i + row] - (u->dlse ? u->dlse[i + row] : 0));
            y.heat = (vf){ 0 };
            if (u->pooled && i + row >= *tile->until)
                backward_turn(u, b, tile, i + row, h->mask.tk);
            backward_weights(h, &y, i + row, tile->first, from / VL, (from + width) / VL, way);
            if (u->dtemperature_rows)
                u->dtemperature_rows[i + row] -= vsum_lanes(y.heat) / h->temperature;
        }
    }
}

/* ---- what terms get ---- */

static float row_sum(const float *x, int64_t width)
{
    vf sum = { 0 };

    for (int64_t j = 0; j < width; j += VL)
        sum += vload(x + j);
    return vsum_lanes(sum);
}

/* drel[j - r] += ds_rj for n rows r and `width` keys j, each number in rising r. Lanes that a vector meets outside of a row are
 * made zero; in front of the first row lies the panel of p. */
static void add_diagonals(float *drel, const float *ds, int64_t n, int64_t width)
{
    for (int64_t at = 1 - n; at < width; at += VL) { /* VL diagonals */
        const int64_t begin = kernel_max(0, 1 - VL - at), end = kernel_min(n, width - at),
                      count = kernel_min(VL, width - at);
        vf sum = count < VL ? vload_part(drel + at, count) : vload(drel + at);

        for (int64_t r = begin; r < end; r++) {
            const int64_t j = at + r;
            const float *x = ds + r * PANEL + j;
            const vf y = j + VL > width ? vload_part(x, width - j) : vload(x);

            sum += j < 0 ? (vf)(~vfirst(-j) & (vi)y) : y;
        }
        if (count < VL)
            vstore_part(drel + at, sum, count);
        else
            vstore(drel + at, sum);
    }
}

/* drow_rel[clip(at + j, 0, size - 1)] += ds_j, j < width, a multiple of VL: what is clipped is summed first. */
static void add_relative(float *to, int64_t size, const float *ds, int64_t at, int64_t width)
{
    vf low = { 0 }, high = { 0 };

    for (int64_t j = 0; j < width; j += VL) {
        const vf x = vload(ds + j);
        const int64_t place = at + j;

        if (place + VL <= 1)
            low += x;
        else if (place >= size - 1)
            high += x;
        else if (place > 0 && place + VL < size)
            vstore(to + place, vload(to + place) + x);
        else
            for (int64_t l = 0; l < VL; l++)
                to[kernel_max(0, kernel_min(place + l, size - 1))] += x[l];
    }
    to[0] += vsum_lanes(low);
    to[size - 1] += vsum_lanes(high);
}

/* dS of n queries from i on and `width` keys from `first` on, of which `keys` exist, to every term that is asked for. */
static void backward_terms(const attention_head *h, const attention_upstream *u, const float *ds, int64_t i,
                           int64_t n, int64_t first, int64_t keys, int64_t width)
{
    const attention_mask *m = &h->mask;

    for (int64_t r = 0; u->dbias && r < n; r++) {
        if (u->dbias_key)
            add_row(u->dbias + (i + r) * u->dbias_row + first, ds + r * PANEL, kernel_min(keys, width));
        else
            u->dbias[(i + r) * u->dbias_row] += row_sum(ds + r * PANEL, width);
    }
    if (u->drel)
        add_diagonals(u->drel + first - i + m->tq - 1, ds, n, kernel_min(keys, width));
    for (int64_t r = 0; u->drow_rel && r < n; r++)
        add_relative(u->drow_rel + (i + r) * h->row_size, h->row_size, ds + r * PANEL,
                     first - (i + r + m->offset) + h->row_zero, width);
}

/* dQ rows i .. i+n-1 += scale dS K for `width` keys of the tile from `from` on. */
static void backward_dq(const attention_head *h, const attention_upstream *u, const backward_block *b,
                        const backward_keys *tile, const float *ds, int64_t i, int64_t n, int64_t from,
                        int64_t width)
{
    const bool whole = h->dk == b->k_width;
    const product_args to = { .a = ds,
                              .b = tile->k + from * b->k_width,
                              .b_step = b->k_width,
                              .c = whole ? u->dq + i * h->dk : b->dq,
                              .c_step = b->k_width,
                              .k = width,
                              .onto = whole,
                              .by = h->scale };

    product_as(ROW, &to, n, b->k_width);
    if (!whole)
        put_rows(u->dq + i * h->dk, h->dk, b->dq, b->k_width, n, h->dk, true, vsplat(h->scale));
}

/* Packed queries [i, i + n), at most 64, against a tile. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b,
                             const backward_keys *tile, int64_t i, int64_t n, const uint64_t *words, bool dk,
                             bool dv)
{
    const int64_t keys = tile->keys;
    const backward_cells x = cells_of(words, n, whole_word(keys));
    const bool terms = u->dbias || u->drel || u->drow_rel;

    backward_scores(h, u, b, tile, &x, i, n, words);
    if (words && (dk || dv))
        backward_holes(b, &x, n);
    for (int64_t c = 0, next; c * CELL < keys; c = next) {
        const int64_t at = c * CELL, row = x.begin[c] * CELL, rows = kernel_min(n, x.end[c] * CELL) - row;

        next = cells_alike(x.begin, x.end, c);
        const int64_t width = kernel_min(keys, next * CELL) - at;
        if (dv && rows > 0)
            product_columns(tile->dv + at * b->v_width, b->v_width, b->p + row * PANEL + at,
                            b->dout + row * PANEL, PANEL, width, h->dv, rows);
        if (dk && rows > 0)
            product_columns(tile->dk + at * b->k_width, b->k_width, b->ds + row * PANEL + at,
                            b->q + row * PANEL, PANEL, width, h->dk, rows);
    }
    for (int64_t r = 0, next; (u->dq || terms) && r * CELL < n; r = next) {
        const int64_t at = r * CELL, from = x.from[r] * CELL, width = kernel_min(keys, x.to[r] * CELL) - from;

        next = cells_alike(x.from, x.to, r);
        if (width <= 0)
            continue;
        const int64_t rows = kernel_min(n, next * CELL) - at;
        const float *ds = b->ds + at * PANEL + from;
        if (u->dq)
            backward_dq(h, u, b, tile, ds, i + at, rows, from, width);
        if (terms)
            backward_terms(h, u, ds, i + at, rows, tile->first + from, keys - from, whole_vectors(width));
    }
}

/* Queries [i, end), at most 64, against tiles whose keys have been packed, or are now. */
static void backward_tiles(const attention_head *h, const attention_upstream *u, const backward_block *b,
                           int64_t tiles, bool packed[TOGETHER], int64_t i, int64_t end, bool dk, bool dv)
{
    uint64_t words[PANEL];
    bool fresh = true;

    for (int64_t t = 0; t < tiles; t++) {
        const backward_keys *tile = &b->tile[t];
        const attention_tile kind = heed__attention_words(&h->mask, i, end, tile->first, words);

        if (kind == ATTENTION_SKIP)
            continue;
        if (fresh) {
            pack_panels(b->q, PANEL, h->q + i * h->q_step, h->q_step, end - i, h->dk, h->scale);
            pack_panels(b->dout, PANEL, u->dout + i * u->dout_step, u->dout_step, end - i, h->dv, 1);
            fresh = false;
        }
        if (!packed[t]) {
            pack_tile(tile->k_tile, h->k + tile->first * h->k_step, h->k_step, tile->keys, h->dk);
            pack_tile(tile->v_tile, h->v + tile->first * h->v_step, h->v_step, tile->keys, h->dv);
            pack(tile->k, b->k_width, h->k + tile->first * h->k_step, h->k_step, tile->keys, h->dk);
            packed[t] = true;
        }
        backward_queries(h, u, b, tile, i, end - i, kind == ATTENTION_PART ? words : NULL, dk, dv);
    }
}

/* TOGETHER tiles of keys from `first` on against the queries of a part: dk and dv of the tiles, and their share of dq. */
static void backward_sweep(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                           const attention_part *part, float *dk, float *dv, backward_block *b, int64_t first,
                           int64_t last)
{
    const attention_head *h = heads;
    const int64_t tiles = kernel_min(TOGETHER, kernel_ceil(last - first, PANEL)),
                  end = kernel_min(last, first + tiles * PANEL),
                  ahead = kernel_min(last, end + TOGETHER * PANEL);
    bool packed[TOGETHER] = { false };
    int64_t until[TOGETHER] = { 0 };

    for (int64_t t = 0; t < tiles; t++) {
        backward_keys *tile = &b->tile[t];

        memset(tile->received, 0, 2 * PANEL * sizeof(float));
        tile->until = &until[t];
        tile->first = first + t * PANEL;
        tile->keys = kernel_min(PANEL, h->mask.length - tile->first);
        if (dk)
            clear_rows(tile->dk, b->k_width, tile->keys, b->k_width);
        if (dv)
            clear_rows(tile->dv, b->v_width, tile->keys, b->v_width);
    }
    backward_fetch(h->k, h->k_step, end, ahead, h->dk);
    backward_fetch(h->v, h->v_step, end, ahead, h->dv);
    if (dk)
        backward_fetch(dk, h->dk, first, end, h->dk);
    if (dv)
        backward_fetch(dv, h->dv, first, end, h->dv);
    for (int64_t g = 0; g < group; g++) {
        const attention_head *x = &heads[g];
        const int64_t stop = kernel_min(x->mask.q_length, part->query_end);

        for (int64_t i = part->query; i < stop; i += PANEL) {
            if (first == part->key)
                backward_fetch(x->q, x->q_step, i + PANEL, kernel_min(stop, i + 2 * PANEL), x->dk);
            backward_tiles(x, &upstream[g], b, tiles, packed, i, kernel_min(stop, i + PANEL), dk, dv);
            backward_probes(x, &upstream[g], b, tiles, i + PANEL, i + PANEL >= stop);
        }
    }
    for (int64_t t = 0; t < tiles; t++) {
        const backward_keys *tile = &b->tile[t];

        if (dk)
            put_rows(dk + tile->first * h->dk, h->dk, tile->dk, b->k_width, tile->keys, h->dk, false,
                     vsplat(1.0f));
        if (dv)
            put_rows(dv + tile->first * h->dv, h->dv, tile->dv, b->v_width, tile->keys, h->dv, false,
                     vsplat(1.0f));
    }
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
    for (int64_t g = 0; g < group; g++) {
        backward_zero(upstream[g].dq, part->query, part->query_end, h->dk);
        backward_probes_begin(&heads[g], &upstream[g], part);
    }
    backward_zero(dk, kernel_max(part->key, length), part->key_end, h->dk);
    backward_zero(dv, kernel_max(part->key, length), part->key_end, h->dv);
    for (int64_t first = part->key; first < last; first += TOGETHER * PANEL)
        backward_sweep(heads, upstream, group, part, dk, dv, &b, first, last);
    for (int64_t g = 0; g < group; g++)
        backward_probes_end(&heads[g], &upstream[g], part);
}
