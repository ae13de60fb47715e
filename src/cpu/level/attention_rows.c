/* Attention of one head by whole rows, forward; compiled once per instruction level. attention_rows.h has the rows. */

#include "cpu/level/attention_rows.h"
#include "cpu/level/attention_level.h"

typedef struct forward_rows {
    rows_block b;
    float *v, *out; /* values of a tile, sums of a row: rows of `width` floats */
    int64_t width;
    uint32_t few;   /* rows with few weights */
    float *values; /* of a row, as they are sorted, with their keys */
    int64_t *keys;
} forward_rows;

/* Where everything lies in the four areas; bytes of the largest. */
static size_t rows_areas(forward_rows *f, int64_t dk, int64_t dv, int64_t tk, void *const scratch[4])
{
    const int64_t height = attention_block(tk), step = panels(tk) * PANEL, width = whole_vectors(dv);
    const int64_t z = height * step, q = panels(dk) * height * PANEL, s = height * PANEL;

    if (f) {
        f->width = width;
        f->b = (rows_block){ .height = height, .step = step, .z = scratch[0], .w = scratch[0] };
        f->b.first = scratch[1];
        f->keys = f->b.first + panels(tk);
        f->values = (float *)(void *)(f->keys + step);
        f->b.order = (int32_t *)(void *)(f->values + step);
        f->b.k_tile = scratch[2];
        f->v = f->b.k_tile + dk * PANEL;
        f->b.s = scratch[3];
        f->b.q = f->b.s + s;
        f->out = f->b.q + q;
    }
    return (size_t)kernel_max(kernel_max(z, 4 * step + 2 * panels(tk)),
                              kernel_max((dk + width) * PANEL, s + q + height * width)) *
           sizeof(float);
}

size_t LEVEL_NAME(attention_rows_bytes)(int64_t dk, int64_t dv, int64_t tk)
{
    return rows_areas(NULL, dk, dv, tk, NULL);
}

static int64_t tile_keys(const attention_head *h, int64_t first)
{
    return kernel_min(PANEL, h->mask.length - first);
}

/* ---- out ---- */

/* Dropped weights of row r and tile t; the keys at which they are not zero. */
static uint64_t dropped_weights(const attention_head *h, const rows_block *b, int64_t r, int64_t t, float *to)
{
    const float *w = b->w + r * b->step + t * PANEL;
    float by[PANEL];

    if (h->drops)
        drop_factors(h, by, b->begin + r, b->first[t]);
    for (int64_t v = 0; v < PANEL; v += VL)
        vstore(to + v, h->drops ? vload(w + v) * vload(by + v) : vload(w + v));
    return nonzero_word(to);
}

/* out += weights in s times the values of a tile. */
static void tile_values(const attention_head *h, const forward_rows *f, int64_t first, const uint64_t *words)
{
    const rows_block *b = &f->b;
    const int64_t keys = tile_keys(h, first);
    const float *v = h->v + first * h->v_step;
    bool packed = false;

    for (int64_t r = 0, end; r < b->n; r = end) {
        end = rows_alike(f->few, r, b->n);
        if (!in_rows(f->few, r)) {
            if (!packed)
                pack(f->v, f->width, v, h->v_step, keys, h->dv);
            packed = true;
            product(ROW, f->out + r * f->width, f->width, b->s + r * PANEL, f->v, f->width, end - r, f->width,
                    keys, true);
            continue;
        }
        for (; r < end; r++)
            few_rows(f->out + r * f->width, b->s + r * PANEL, words[r], v, h->v_step, h->dv);
    }
}

static void forward_values(const attention_head *h, forward_rows *f, const attention_result *to)
{
    const rows_block *b = &f->b;

    f->few = rows_with_few(b);
    clear_rows(f->out, f->width, b->n, f->width);
    for (int64_t t = 0; t < b->tiles; t++) {
        const int64_t first = b->first[t];
        uint64_t words[ATTENTION_BLOCK];

        for (int64_t r = 0; r < b->n; r++) {
            words[r] = dropped_weights(h, b, r, t, b->s + r * PANEL);
            if (to->rel_sums)
                add_by_place(h, to->rel_sums + (b->begin + r) * h->row_size, b->s + r * PANEL, b->begin + r,
                             first);
        }
        if (to->out)
            tile_values(h, f, first, words);
    }
    if (to->out)
        put_rows(to->out + b->begin * h->dv, h->dv, f->out, f->width, b->n, h->dv, false, vsplat(1.0f));
}

/* ---- what is told of a row of weights ---- */

static void zero_floats(float *x, int64_t n)
{
    if (x && n > 0)
        memset(x, 0, (size_t)n * sizeof *x);
}

/* A row of tk numbers, zeroed before. */
static void spread(const attention_head *h, const rows_block *b, int64_t r, float *to)
{
    for (int64_t t = 0; t < b->tiles; t++)
        memcpy(to + b->first[t], b->w + r * b->step + t * PANEL,
               (size_t)tile_keys(h, b->first[t]) * sizeof *to);
}

/* Place x comes before place y in a list of falling weights; ties to the lower key. */
static bool comes_first(const float *values, const int64_t *keys, int64_t x, int64_t y)
{
    return values[x] > values[y] || (values[x] == values[y] && keys[x] < keys[y]);
}

static void swap(float *values, int64_t *keys, int64_t x, int64_t y)
{
    const float value = values[x];
    const int64_t key = keys[x];

    values[x] = values[y];
    keys[x] = keys[y];
    values[y] = value;
    keys[y] = key;
}

/* Below `at` all are in order of a heap whose top comes last. */
static void sink_down(float *values, int64_t *keys, int64_t at, int64_t n)
{
    for (int64_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
        if (child + 1 < n && comes_first(values, keys, child, child + 1))
            child++;
        if (!comes_first(values, keys, at, child))
            return;
        swap(values, keys, at, child);
    }
}

static void sort_falling(float *values, int64_t *keys, int64_t n)
{
    for (int64_t i = n / 2; i-- > 0;)
        sink_down(values, keys, i, n);
    for (int64_t last = n - 1; last > 0; last--) {
        swap(values, keys, 0, last);
        sink_down(values, keys, 0, last);
    }
}

static void tell_largest(const forward_rows *f, int64_t r, const attention_result *to)
{
    const rows_block *b = &f->b;
    const float *w = b->w + r * b->step;
    const int64_t n = b->tiles * PANEL, begin = (b->begin + r) * to->topk;
    int64_t ties, found = 0;
    int32_t at;

    for (int64_t i = 0; i < n; i += VL) {
        const vi x = ordered(vload(w + i));

        memcpy(b->order + i, &x, sizeof x);
    }
    at = order_of_largest(b->order, n, to->topk, 0, &ties); /* weights above 0 only */
    for (int64_t i = 0; i < n; i++)
        if (b->order[i] > at || (b->order[i] == at && ties-- > 0)) {
            f->values[found] = w[i];
            f->keys[found++] = b->first[i / PANEL] + i % PANEL;
        }
    sort_falling(f->values, f->keys, found);
    if (to->topk_values)
        memcpy(to->topk_values + begin, f->values, (size_t)found * sizeof *f->values);
    if (to->topk_indices)
        memcpy(to->topk_indices + begin, f->keys, (size_t)found * sizeof *f->keys);
}

static float entropy_of(const rows_block *b, int64_t r)
{
    const float *w = b->w + r * b->step;
    vf sum[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < b->tiles * PANEL; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const vf x = vload(w + i + c * VL);

            sum[c] -= x * vf_log(vselect((vi)(x == 0.0f), vsplat(1.0f), x));
        }
    }
    return row_sum(sum);
}

static float distance_of(const attention_head *h, const rows_block *b, int64_t r)
{
    const float *w = b->w + r * b->step;
    vf sum[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < b->tiles * PANEL; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const int64_t at = i + c * VL;

            sum[c] =
                vfma(vload(w + at), distances(h, b->begin + r, b->first[at / PANEL] + at % PANEL), sum[c]);
        }
    }
    return row_sum(sum);
}

/* Results of rows that keep nothing: the others are written over them. */
static void tell_nothing(const attention_head *h, const attention_result *to, int64_t begin, int64_t end)
{
    const int64_t n = end - begin, tk = h->mask.tk;

    if (to->out)
        zero_floats(to->out + begin * h->dv, n * h->dv);
    if (to->weights)
        zero_floats(to->weights + begin * tk, n * tk);
    if (to->rel_sums)
        zero_floats(to->rel_sums + begin * h->row_size, n * h->row_size);
    if (to->entropy)
        zero_floats(to->entropy + begin, n);
    if (to->distance)
        zero_floats(to->distance + begin, n);
    for (int64_t i = begin; to->lse && i < end; i++)
        to->lse[i] = MINUS_INF;
    if (to->lse_rest)
        zero_floats(to->lse_rest + begin, n);
    for (int64_t i = begin * to->topk; to->topk_values && i < end * to->topk; i++)
        to->topk_values[i] = 0;
    for (int64_t i = begin * to->topk; to->topk_indices && i < end * to->topk; i++)
        to->topk_indices[i] = -1;
    for (int64_t l = 0; to->rows && l < to->n_rows; l++) {
        const int64_t i = to->row_list ? to->row_list[l] : l;

        if (i >= begin && i < end)
            zero_floats(to->rows + l * tk, tk);
    }
}

static void tell_row(const attention_head *h, const forward_rows *f, int64_t r, const attention_result *to)
{
    const rows_block *b = &f->b;
    const int64_t i = b->begin + r, tk = h->mask.tk;

    if (to->weights)
        spread(h, b, r, to->weights + i * tk);
    for (int64_t l = 0; to->rows && l < to->n_rows; l++)
        if ((to->row_list ? to->row_list[l] : l) == i)
            spread(h, b, r, to->rows + l * tk);
    if (to->topk > 0 && (to->topk_values || to->topk_indices))
        tell_largest(f, r, to);
    if (to->entropy)
        to->entropy[i] = entropy_of(b, r);
    if (to->distance)
        to->distance[i] = distance_of(h, b, r);
}

void LEVEL_NAME(attention_rows_forward)(const attention_head *h, const attention_result *to, int64_t begin,
                                        int64_t end, void *const scratch[4])
{
    forward_rows f;

    (void)rows_areas(&f, h->dk, h->dv, h->mask.tk, scratch);
    tell_nothing(h, to, begin, end);
    rows_logits(h, &f.b, begin, end);
    for (int64_t r = 0; r < f.b.n; r++) {
        const rows_told told = rows_normalise(h, &f.b, r);

        if (to->lse)
            to->lse[begin + r] = told.lse;
        if (to->lse_rest)
            to->lse_rest[begin + r] = told.lse_rest;
        tell_row(h, &f, r, to);
    }
    if (to->out || to->rel_sums)
        forward_values(h, &f, to);
}

/* ---- the second pass of probes ---- */

static void add_floats(float *to, const float *x, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] += x[j];
}

/* Adds weights of keys first .. to the sums of their blocks. */
static void add_pooled(float *sums, int64_t size, const float *w, int64_t first, int64_t keys)
{
    for (int64_t j = 0; j < keys;) {
        const int64_t block = (first + j) / size, end = kernel_min(keys, (block + 1) * size - first);
        float sum = 0;

        for (; j < end; j++)
            sum += w[j];
        sums[block] += sum;
    }
}

void LEVEL_NAME(attention_rows_sums)(const attention_head *h, const attention_sums *to, int64_t begin,
                                     int64_t end, void *const scratch[4])
{
    forward_rows f;
    const rows_block *b = &f.b;
    const int64_t tk = h->mask.tk;

    (void)rows_areas(&f, h->dk, h->dv, tk, scratch);
    rows_logits(h, &f.b, begin, end);
    for (int64_t r = 0; r < b->n; r++) {
        const int64_t i = begin + r;

        (void)rows_normalise(h, b, r);
        for (int64_t t = 0; t < b->tiles; t++) {
            const float *w = b->w + r * b->step + t * PANEL;
            const int64_t first = b->first[t], keys = tile_keys(h, first);

            if (to->received)
                add_floats(to->received + first, w, keys);
            if (to->mean)
                add_floats(to->mean + i * tk + first, w, keys);
            if (to->pooled)
                add_pooled(to->pooled + i / to->pooled_q * kernel_ceil(tk, to->pooled_k), to->pooled_k, w,
                           first, keys);
        }
    }
}
