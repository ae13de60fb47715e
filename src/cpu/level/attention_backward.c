/* Softmax attention of one key head, backward; compiled once per instruction level.
 *
 *   S, P and dP = dO V^T again, P from lse;  dV += P^T dO,  dK += dS^T Q,  dQ += dS K
 *
 * in blocks of 64 queries by 64 keys; terms that are added to the scores get sums of dS along rows, columns or diagonals. Q is
 * multiplied by the scale when it is packed: S then needs none, dK neither. */

#include "cpu/level/attention_level.h"
#include "cpu/level/attention_terms.h"

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
static void backward_deltas(const attention_head *h, const attention_upstream *u, int64_t begin, int64_t end)
{
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

void LEVEL_NAME(attention_deltas)(const attention_head *h, const attention_upstream *u, int64_t begin,
                                  int64_t end)
{
    const int64_t last = kernel_max(begin, kernel_min(end, h->mask.q_length));

    backward_deltas(h, u, begin, last);
    for (int64_t i = begin; u->dsink_rows && i < end; i++) {
        const bool empty = i >= last || u->lse[i] == MINUS_INF;

        u->dsink_rows[i] = empty ? 0
                                 : vf_exp(vsplat(h->sink - u->lse[i]))[0] *
                                       ((u->dlse ? u->dlse[i] : 0) - u->delta[i]);
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

/* What one row of weights has: drops, masked and shaped are constants where this is called, and its loops are made for each. */
typedef struct backward_row {
    float *p, *ds; /* logits and dP, to become dropped weights and dS */
    vf lse, delta, dlse;
    vf heat;                        /* sum of dz z */
    uint32_t words[PANEL + 2 * VL]; /* of dropout */
    uint64_t word;                  /* kept keys */
} backward_row;

VEC_INLINE void backward_vector(const attention_head *h, backward_row *x, int64_t v, const bool drops,
                                const bool masked, const bool shaped)
{
    const vf z = vload(x->p + v * VL), dp = vload(x->ds + v * VL);
    const vi lanes = masked ? word_lanes(x->word, v) : (vi){ 0 };
    const vf down_from = z - x->lse;
    const vf e = exp_down(masked ? vselect(lanes, down_from, vsplat(MINUS_INF)) : down_from);
    const vf down = drops ? dropped(dp, x->words + v * VL, h->threshold, h->kept) : dp;
    vf ds = e * (down - x->delta + x->dlse);

    vstore(x->p + v * VL, drops ? dropped(e, x->words + v * VL, h->threshold, h->kept) : e);
    if (shaped) {
        const vf heat = ds * z, capped = h->softcap > 0 ? z * vsplat(h->temperature / h->softcap) : (vf){ 0 };

        x->heat += masked ? (vf)(lanes & (vi)heat) : heat;
        ds = ds * (vsplat(1.0f) - capped * capped) / vsplat(h->temperature);
    }
    vstore(x->ds + v * VL, masked ? (vf)(lanes & (vi)ds) : ds);
}

/* Row i: logits to weights (dropped), dP to dS, both zero where not kept, in vectors [begin, end). */
VEC_INLINE void backward_vectors(const attention_head *h, backward_row *x, int64_t begin, int64_t end,
                                 const bool drops, const bool shaped)
{
    for (int64_t v = begin; v < end; v++) {
        if (word_whole(x->word, v))
            backward_vector(h, x, v, drops, false, shaped);
        else
            backward_vector(h, x, v, drops, true, shaped);
    }
}

static void backward_weights(const attention_head *h, backward_row *x, int64_t i, int64_t first,
                             int64_t begin, int64_t end, bool shaped)
{
    if (h->drops)
        dropout_words(x->words + begin * VL, h, i, first + begin * VL, end - begin);
    if (shaped && h->drops)
        backward_vectors(h, x, begin, end, true, true);
    else if (shaped)
        backward_vectors(h, x, begin, end, false, true);
    else if (h->drops)
        backward_vectors(h, x, begin, end, true, false);
    else
        backward_vectors(h, x, begin, end, false, false);
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
    const bool terms = has_terms(h), shaped = h->softcap > 0 || h->temperature != 1 || u->dtemperature_rows;

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
        if (terms)
            add_all_terms(h, b->p + at * PANEL + from, i + at, end - at, first + from, keys - from,
                          width / VL);
        for (int64_t row = at; row < end; row++) {
            backward_row y = { .p = b->p + row * PANEL,
                               .ds = b->ds + row * PANEL,
                               .word = words ? words[row] : whole_word(keys),
                               .lse = vsplat(u->lse[i + row]),
                               .delta = vsplat(u->delta[i + row]),
                               .dlse = vsplat(u->dlse ? u->dlse[i + row] : 0) };

            backward_weights(h, &y, i + row, first, from / VL, (from + width) / VL, shaped);
            if (u->dtemperature_rows)
                u->dtemperature_rows[i + row] -= vsum_lanes(y.heat) / h->temperature;
        }
    }
}

/* ---- what terms get ---- */

/* to[j] += from[j], j < n. */
static void add_row(float *to, const float *from, int64_t n)
{
    int64_t j = 0;

    for (; j + VL <= n; j += VL)
        vstore(to + j, vload(to + j) + vload(from + j));
    if (j < n)
        vstore_part(to + j, vload_part(to + j, n - j) + vload(from + j), n - j);
}

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

/* Queries [i, end), at most 64, against the tile of keys from `first` on. */
static void backward_queries(const attention_head *h, const attention_upstream *u, const backward_block *b,
                             int64_t i, int64_t end, int64_t first, const uint64_t *words, bool dk, bool dv)
{
    const int64_t n = end - i, keys = kernel_min(PANEL, h->mask.length - first);
    const backward_cells x = cells_of(words, n, whole_word(keys));
    const bool terms = u->dbias || u->drel || u->drow_rel;

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
    for (int64_t r = 0, next; (u->dq || terms) && r * CELL < n; r = next) {
        const int64_t at = r * CELL, from = x.from[r] * CELL, width = kernel_min(keys, x.to[r] * CELL) - from;

        next = cells_alike(x.from, x.to, r);
        if (width <= 0)
            continue;
        const int64_t rows = kernel_min(n, next * CELL) - at;
        const float *ds = b->ds + at * PANEL + from;
        if (u->dq) {
            product(ROW, b->dq, b->k_width, ds, b->k + from * b->k_width, b->k_width, rows, b->k_width, width,
                    false);
            put_rows(u->dq + (i + at) * h->dk, h->dk, b->dq, b->k_width, rows, h->dk, true, vsplat(h->scale));
        }
        if (terms)
            backward_terms(h, u, ds, i + at, rows, first + from, keys - from, whole_vectors(width));
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
