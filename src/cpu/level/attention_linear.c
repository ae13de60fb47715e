/* Linear attention of one head, forward and backward; compiled once per instruction level.
 *
 *   a_ij = phi(q_i).phi(k_j),  D_i = sum_j a_ij,  out_i = sum_j a_ij v_j / D_i      (Katharopoulos 2020)
 *
 * With V' = [v, 1] numerator and denominator are one product. Row i keeps its first m_i keys: those of whole tiles of 64 come from
 * the running sums S = sum phi(k) V'^T, the rest of the tile in which m_i lies one by one. S at a tile is the same sum for every
 * row, so a row's bytes do not depend on its neighbours: the sums of whole stretches of keys one after another, and to them the chain
 * of the tiles in the stretch that is open. So whoever has the sums of stretches may begin anywhere.
 *
 * Backward: dO' = [dout / D, -dout.out / D], da_ij = dO'_i.V'_j, hence  dphi(q_i) = S dO'_i  and, walking back over tiles with
 * R = sum phi(q) dO'^T of the rows that keep a tile as a whole,  dphi(k_j) = R V'_j,  dv_j = R^T phi(k_j). R too is made of
 * stretches, of queries, the last first. */

#include "cpu/level/attention_tile.h"
#include "cpu/level/attention_level.h"

/* Rows of a tile or a block of queries, 64 at most, as products want them. */
typedef struct linear_rows {
    float *flat;   /* rows of whole vectors, filled up with zeros */
    float *panels; /* of 64 rows */
    float *turned; /* on end */
    int64_t n, width, step;
} linear_rows;

typedef struct linear_block {
    linear_rows k, v, q, d; /* phi(k), V', phi(q), dO' */
    float *s, *s_turned;    /* S [dk, dv + 1] and its transpose; or R. Forward: the latter is NULL */
    float *base, *open;     /* S = sum of whole stretches + of the one that is open */
    float *out;             /* [64, dv + 1] */
    float *a, *da;          /* panels: a of one tile, and its gradient */
    float *dq, *dk, *dv;    /* of a block of queries, of a tile */
} linear_block;

/* ---- memory ---- */

/* An area of scratch; without memory it is only measured. */
typedef struct linear_area {
    float *memory;
    int64_t used;
} linear_area;

static float *take(linear_area *from, int64_t n)
{
    float *x = from->memory ? from->memory + from->used : NULL;

    from->used += kernel_ceil(n, 16) * 16;
    return x;
}

static linear_rows take_rows(linear_area *from, int64_t width)
{
    linear_rows x = { .width = width, .step = whole_vectors(width) };

    x.flat = take(from, PANEL * x.step);
    x.panels = take(from, panels(width) * TILE_FLOATS);
    x.turned = take(from, width * PANEL);
    return x;
}

/* Where everything lies in the four areas; floats of the largest. */
static int64_t linear_areas(linear_block *b, int64_t dk, int64_t dv, bool backward, void *const scratch[4])
{
    linear_area sums = { 0 }, keys = { 0 }, queries = { 0 }, rest = { 0 };

    if (scratch) {
        sums.memory = scratch[0];
        keys.memory = scratch[1];
        queries.memory = scratch[2];
        rest.memory = scratch[3];
    }
    b->s = take(&sums, dk * whole_vectors(dv + 1));
    b->base = take(&sums, dk * whole_vectors(dv + 1));
    b->open = take(&sums, dk * whole_vectors(dv + 1));
    b->s_turned = NULL;
    b->k = take_rows(&keys, dk);
    b->v = take_rows(&keys, dv + 1);
    b->q = take_rows(&queries, dk);
    b->out = take(&rest, PANEL * whole_vectors(dv + 1));
    b->a = take(&rest, TILE_FLOATS);
    if (backward) {
        b->s_turned = take(&sums, (dv + 1) * whole_vectors(dk));
        b->d = take_rows(&queries, dv + 1);
        b->dq = take(&rest, PANEL * whole_vectors(dk));
        b->da = take(&rest, TILE_FLOATS);
        b->dk = take(&rest, PANEL * whole_vectors(dk));
        b->dv = take(&rest, PANEL * whole_vectors(dv + 1));
    }
    return kernel_max(kernel_max(sums.used, keys.used), kernel_max(queries.used, rest.used));
}

size_t LEVEL_NAME(attention_linear_bytes)(int64_t dk, int64_t dv)
{
    linear_block b;

    return (size_t)linear_areas(&b, dk, dv, false, NULL) * sizeof(float);
}

size_t LEVEL_NAME(attention_linear_backward_bytes)(int64_t dk, int64_t dv)
{
    linear_block b;

    return (size_t)linear_areas(&b, dk, dv, true, NULL) * sizeof(float);
}

/* ---- rows ---- */

/* phi(x) = x + 1 above 0, e^x below. */
VEC_INLINE vf phi(vf x)
{
    return vselect((vi)(x > 0.0f), x + 1.0f, vf_exp(x));
}

VEC_INLINE vf phi_slope(vf x)
{
    return vselect((vi)(x > 0.0f), vsplat(1.0f), vf_exp(x));
}

/* The other forms of what stands in the flat rows. */
static void linear_forms(const linear_rows *x)
{
    pack_panels(x->panels, PANEL, x->flat, x->step, x->n, x->width, 1);
    pack_tile(x->turned, x->flat, x->step, x->n, x->width);
}

static void linear_phi(linear_rows *x, const float *from, int64_t step, int64_t n)
{
    x->n = n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < x->width; p += VL) {
            float *to = x->flat + i * x->step + p;

            if (p + VL <= x->width)
                vstore(to, phi(vload(from + i * step + p)));
            else
                vstore(to,
                       (vf)(vfirst(x->width - p) & (vi)phi(vload_part(from + i * step + p, x->width - p))));
        }
    linear_forms(x);
}

/* V' = [v, 1] */
static void linear_values(linear_rows *x, const float *from, int64_t step, int64_t n)
{
    x->n = n;
    clear_rows(x->flat, x->step, n, x->step);
    for (int64_t i = 0; i < n; i++) {
        memcpy(x->flat + i * x->step, from + i * step, (size_t)(x->width - 1) * sizeof *from);
        x->flat[i * x->step + x->width - 1] = 1;
    }
    linear_forms(x);
}

static int64_t tile_keys(const attention_head *h, int64_t t)
{
    return kernel_min(PANEL, h->mask.length - t * PANEL);
}

static void linear_tile(const attention_head *h, linear_block *b, int64_t t)
{
    const int64_t first = t * PANEL, keys = tile_keys(h, t);

    linear_phi(&b->k, h->k + first * h->k_step, h->k_step, keys);
    linear_values(&b->v, h->v + first * h->v_step, h->v_step, keys);
}

/* ---- products ---- */

/* C [x.n, n] = X B (+ C), B in rows of `step` = columns of C in whole vectors. */
static void linear_times(float *c, const linear_rows *x, const float *b, int64_t step, bool add)
{
    if (!add)
        clear_rows(c, step, x->n, step);
    for (int64_t p = 0; p < x->width; p += PANEL)
        product(ROW, c, step, x->panels + p * PANEL, b + p * step, step, x->n, step,
                kernel_min(PANEL, x->width - p), true);
}

/* C [x.width, y.width] += X^T Y */
static void linear_outer(float *c, const linear_rows *x, const linear_rows *y)
{
    for (int64_t p = 0; p < x->width; p += PANEL)
        product(COLUMN, c + p * y->step, y->step, x->panels + p * PANEL, y->flat, y->step,
                kernel_min(PANEL, x->width - p), y->step, x->n, true);
}

/* ---- which rows keep which keys ---- */

static int64_t kept_keys(const attention_head *h, int64_t i)
{
    const attention_mask *m = &h->mask;

    return kernel_max(0, m->causal ? kernel_min(m->length, i + m->offset + 1) : m->length);
}

/* The first query that keeps all keys of the tiles before t. */
static int64_t first_row(const attention_head *h, int64_t t)
{
    const attention_mask *m = &h->mask;

    if (t == 0)
        return 0;
    if (m->length < t * PANEL)
        return m->q_length;
    return m->causal ? kernel_max(0, kernel_min(m->q_length, t * PANEL - 1 - m->offset)) : 0;
}

/* The tile in which the keys of query i end. */
static int64_t tile_of(const attention_head *h, int64_t i)
{
    return kept_keys(h, i) / PANEL;
}

/* Zeroes what queries from `begin` on do not keep of tile t. */
static void linear_mask(const attention_head *h, float *a, int64_t t, int64_t begin, int64_t n)
{
    for (int64_t r = 0; r < n; r++) {
        const int64_t left = kernel_max(0, kernel_min(PANEL, kept_keys(h, begin + r) - t * PANEL));
        const uint64_t word = left ? whole_word(left) : 0;

        for (int64_t v = 0; v < PANEL / VL; v++) {
            float *x = a + r * PANEL + v * VL;

            vstore(x, (vf)(word_lanes(word, v) & (vi)vload(x)));
        }
    }
}

/* Does any of these queries keep a part of tile t? */
static bool keeps_part(const attention_head *h, int64_t t, int64_t end)
{
    return kept_keys(h, end - 1) > t * PANEL;
}

/* [sum a v, D] of queries whose tiles before t are in S; tile t is packed when one of them keeps a part of it. */
static void linear_sums(const attention_head *h, linear_block *b, int64_t t, int64_t begin, int64_t n)
{
    linear_phi(&b->q, h->q + begin * h->q_step, h->q_step, n);
    linear_times(b->out, &b->q, b->s, b->v.step, false);
    if (!keeps_part(h, t, begin + n))
        return;
    product_scores(b->a, b->q.panels, PANEL, b->k.turned, n, PANEL, h->dk);
    linear_mask(h, b->a, t, begin, n);
    product(ROW, b->out, b->v.step, b->a, b->v.flat, b->v.step, n, b->v.step, b->v.n, true);
}

/* ---- S, before tile after tile of keys ---- */

#define STRETCH_TILES (ATTENTION_STRETCH / PANEL)

static int64_t sum_floats(const linear_block *b)
{
    return b->k.width * b->v.step;
}

static void add_sum(float *to, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore(to + i, vload(to + i) + vload(x + i));
}

static void clear_sums(const linear_block *b)
{
    clear_rows(b->base, b->v.step, b->k.width, b->v.step);
    clear_rows(b->open, b->v.step, b->k.width, b->v.step);
    if (b->s_turned)
        clear_rows(b->s_turned, b->k.step, b->v.width, b->k.step);
}

static void close_stretch(const linear_block *b)
{
    add_sum(b->base, b->open, sum_floats(b));
    clear_rows(b->open, b->v.step, b->k.width, b->v.step);
}

/* S of its two parts, and its transpose. */
static void make_sum(const linear_block *b)
{
    for (int64_t i = 0; i < sum_floats(b); i += VL)
        vstore(b->s + i, vload(b->base + i) + vload(b->open + i));
    if (b->s_turned)
        kernel_transpose(b->s_turned, b->k.step, b->s, b->v.step, b->k.width, b->v.width);
}

/* Behind tile t, which is packed and whole. */
static void pass_tile(linear_block *b, int64_t t)
{
    linear_outer(b->open, &b->k, &b->v);
    if ((t + 1) % STRETCH_TILES == 0)
        close_stretch(b);
}

/* S before tile t. */
static void sums_before(const attention_head *h, linear_block *b, const attention_linear *l, int64_t t)
{
    const int64_t whole = l->key_sums ? t / STRETCH_TILES : 0;

    clear_sums(b);
    for (int64_t stretch = 0; stretch < whole; stretch++)
        add_sum(b->base, l->key_sums + stretch * attention_linear_floats(h->dk, h->dv), sum_floats(b));
    for (int64_t x = whole * STRETCH_TILES; x < t; x++) {
        linear_tile(h, b, x);
        pass_tile(b, x);
    }
    make_sum(b);
}

void LEVEL_NAME(attention_linear_keys)(const attention_head *h, int64_t stretch, float *to, void *const scratch[4])
{
    linear_block b;

    if ((stretch + 1) * ATTENTION_STRETCH > h->mask.length)
        return; /* nobody asks for it */
    (void)linear_areas(&b, h->dk, h->dv, false, scratch);
    clear_sums(&b);
    for (int64_t t = stretch * STRETCH_TILES; t < (stretch + 1) * STRETCH_TILES; t++) {
        linear_tile(h, &b, t);
        linear_outer(b.open, &b.k, &b.v);
    }
    memcpy(to, b.open, (size_t)sum_floats(&b) * sizeof *to);
}

/* ---- forward ---- */

static float reciprocal(float x)
{
    return x > 0 ? 1 / x : x == 0 ? 0 : x; /* no number stays one */
}

static void put_out(const attention_head *h, const linear_block *b, float *out, int64_t begin, int64_t n)
{
    for (int64_t r = 0; r < n; r++) {
        const float *from = b->out + r * b->v.step;
        const float by = reciprocal(from[h->dv]);

        for (int64_t c = 0; c < h->dv; c++)
            out[(begin + r) * h->dv + c] = from[c] * by;
    }
}

/* w of the block's queries, all tiles once more: the block's own tile has to be packed again afterwards. */
static void put_weights(const attention_head *h, linear_block *b, float *weights, int64_t begin, int64_t n)
{
    const int64_t tk = h->mask.tk, most = kept_keys(h, begin + n - 1);

    for (int64_t t = 0; t * PANEL < most; t++) {
        const int64_t keys = tile_keys(h, t);

        linear_tile(h, b, t);
        product_scores(b->a, b->q.panels, PANEL, b->k.turned, n, PANEL, h->dk);
        linear_mask(h, b->a, t, begin, n);
        for (int64_t r = 0; r < n; r++) {
            const float by = reciprocal(b->out[r * b->v.step + h->dv]);

            for (int64_t j = 0; j < keys; j++)
                weights[(begin + r) * tk + t * PANEL + j] = b->a[r * PANEL + j] * by;
        }
    }
}

/* Rows [begin, end) of n numbers. */
static void zero_rows(float *x, int64_t begin, int64_t end, int64_t n)
{
    if (x && begin < end && n > 0)
        memset(x + begin * n, 0, (size_t)((end - begin) * n) * sizeof *x);
}

void LEVEL_NAME(attention_linear_forward)(const attention_head *h, const attention_result *to,
                                          const attention_linear *l, int64_t begin, int64_t end,
                                          void *const scratch[4])
{
    const attention_mask *m = &h->mask;
    linear_block b;

    (void)linear_areas(&b, h->dk, h->dv, false, scratch);
    zero_rows(to->out, begin, end, h->dv);
    zero_rows(to->weights, begin, end, m->tk);
    end = kernel_min(end, m->q_length);
    if (begin >= end)
        return;
    sums_before(h, &b, l, tile_of(h, begin));
    for (int64_t t = tile_of(h, begin), i = begin; i < end; t++) {
        const int64_t stop = kernel_min(end, first_row(h, t + 1));
        const bool some = tile_keys(h, t) > 0;

        if (some)
            linear_tile(h, &b, t);
        for (; i < stop; i = kernel_min(stop, i + PANEL)) {
            const int64_t n = kernel_min(PANEL, stop - i);

            linear_sums(h, &b, t, i, n);
            if (to->out)
                put_out(h, &b, to->out, i, n);
            if (to->weights) {
                put_weights(h, &b, to->weights, i, n);
                if (some)
                    linear_tile(h, &b, t);
            }
        }
        if (i < end) { /* somebody keeps the whole tile */
            pass_tile(&b, t);
            make_sum(&b);
        }
    }
}

/* ---- backward ---- */

/* dO' of queries from begin on, from the numbers of the first walk. */
static void linear_upstream(const attention_head *h, const attention_upstream *u, linear_block *b,
                            const float *by, const float *slope, int64_t begin, int64_t n)
{
    b->d.n = n;
    clear_rows(b->d.flat, b->d.step, n, b->d.step);
    for (int64_t r = 0; r < n; r++) {
        const float *dout = u->dout + (begin + r) * u->dout_step;
        float *to = b->d.flat + r * b->d.step;

        for (int64_t c = 0; c < h->dv; c++)
            to[c] = dout[c] * by[begin + r];
        to[h->dv] = slope[begin + r];
    }
    linear_forms(&b->d);
}

static void linear_numbers(const attention_head *h, const attention_upstream *u, const linear_block *b,
                           float *by, float *slope, int64_t begin, int64_t n)
{
    for (int64_t r = 0; r < n; r++) {
        const float *from = b->out + r * b->v.step, *dout = u->dout + (begin + r) * u->dout_step;
        const float each = reciprocal(from[h->dv]);
        float sum = 0;

        for (int64_t c = 0; c < h->dv; c++)
            sum = sfma(dout[c], from[c] * each, sum);
        by[begin + r] = each;
        slope[begin + r] = -sum * each;
    }
}

/* x phi'(from), into rows of the output. */
static void put_slopes(float *to, const float *x, int64_t x_step, const float *from, int64_t step, int64_t n,
                       int64_t width)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < width; p += VL) {
            const vf y = vload(x + i * x_step + p);

            if (p + VL <= width)
                vstore(to + i * width + p, y * phi_slope(vload(from + i * step + p)));
            else
                vstore_part(to + i * width + p, y * phi_slope(vload_part(from + i * step + p, width - p)),
                            width - p);
        }
}

/* dq of queries begin .., whose tiles before t are in S. */
static void linear_dq(const attention_head *h, const attention_upstream *u, linear_block *b, float *by,
                      float *slope, int64_t t, int64_t begin, int64_t n)
{
    linear_sums(h, b, t, begin, n);
    linear_numbers(h, u, b, by, slope, begin, n);
    linear_upstream(h, u, b, by, slope, begin, n);
    linear_times(b->dq, &b->d, b->s_turned, b->k.step, false);
    if (keeps_part(h, t, begin + n)) {
        product_scores(b->da, b->d.panels, PANEL, b->v.turned, n, PANEL, b->d.width);
        linear_mask(h, b->da, t, begin, n);
        product(ROW, b->dq, b->k.step, b->da, b->k.flat, b->k.step, n, b->k.step, b->k.n, true);
    }
    if (u->dq)
        put_slopes(u->dq + begin * h->dk, b->dq, b->k.step, h->q + begin * h->q_step, h->q_step, n, h->dk);
}

/* The numbers of query head g. */
static const float *of_head(const attention_head *h, const float *numbers, int64_t g)
{
    return numbers + g * h->mask.tq;
}

static void first_walk(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                       const attention_linear *l, int64_t begin, int64_t end, linear_block *b)
{
    const attention_head *h = heads;
    const int64_t tq = h->mask.tq;

    sums_before(h, b, l, tile_of(h, begin));
    for (int64_t t = tile_of(h, begin), first = begin; first < end; t++) {
        const int64_t stop = kernel_min(end, first_row(h, t + 1));

        if (tile_keys(h, t) > 0)
            linear_tile(h, b, t);
        for (int64_t g = 0; g < group; g++)
            for (int64_t i = first; i < stop; i += PANEL)
                linear_dq(&heads[g], &upstream[g], b, l->by + g * tq, l->slope + g * tq, t, i,
                          kernel_min(PANEL, stop - i));
        first = kernel_max(first, stop);
        if (first < end) {
            pass_tile(b, t);
            make_sum(b);
        }
    }
}

/* Queries that keep a part of tile t: their shares of its dk and dv. */
static void linear_back(const attention_head *h, linear_block *b, int64_t t, int64_t begin, int64_t n)
{
    if (!keeps_part(h, t, begin + n))
        return;
    product_scores(b->a, b->q.panels, PANEL, b->k.turned, n, PANEL, h->dk);
    product_scores(b->da, b->d.panels, PANEL, b->v.turned, n, PANEL, b->d.width);
    linear_mask(h, b->a, t, begin, n);
    linear_mask(h, b->da, t, begin, n);
    product(COLUMN, b->dk, b->k.step, b->da, b->q.flat, b->q.step, b->k.n, b->k.step, n, true);
    product(COLUMN, b->dv, b->v.step, b->a, b->d.flat, b->d.step, b->k.n, b->v.step, n, true);
}

/* Queries [begin, end), whose keys end in tile t, into R, the last stretch first, and into dk and dv of the tile when it is packed. A
 * stretch is closed when its first query has come. */
static void pass_queries(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                         const attention_linear *l, linear_block *b, int64_t t, bool packed, int64_t begin,
                         int64_t end)
{
    const attention_head *h = heads;

    for (int64_t first; end > begin; end = first) {
        first = kernel_max(begin, (end - 1) / ATTENTION_STRETCH * ATTENTION_STRETCH);
        for (int64_t g = 0; g < group; g++)
            for (int64_t i = first; i < end; i += PANEL) {
                const int64_t n = kernel_min(PANEL, end - i);

                linear_phi(&b->q, heads[g].q + i * heads[g].q_step, heads[g].q_step, n);
                linear_upstream(h, &upstream[g], b, of_head(h, l->by, g), of_head(h, l->slope, g), i, n);
                if (packed)
                    linear_back(&heads[g], b, t, i, n);
                linear_outer(b->open, &b->q, &b->d);
            }
        if (first % ATTENTION_STRETCH == 0)
            close_stretch(b);
    }
}

/* Queries [begin, end) into R, tile by tile from the last on. */
static void pass_rows(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                      const attention_linear *l, linear_block *b, int64_t begin, int64_t end)
{
    for (int64_t first; end > begin; end = first) {
        const int64_t t = tile_of(heads, end - 1);

        first = kernel_max(begin, first_row(heads, t));
        pass_queries(heads, upstream, group, l, b, t, false, first, end);
    }
}

void LEVEL_NAME(attention_linear_back_queries)(const attention_head *heads, const attention_upstream *upstream,
                                               int64_t group, const attention_linear *l, int64_t begin,
                                               int64_t end, void *const scratch[4])
{
    const attention_head *h = heads;
    const int64_t floats = attention_linear_floats(h->dk, h->dv);
    linear_block b;

    (void)linear_areas(&b, h->dk, h->dv, true, scratch);
    for (int64_t g = 0; g < group; g++)
        zero_rows(upstream[g].dq, begin, end, h->dk);
    end = kernel_min(end, h->mask.q_length);
    if (begin >= end)
        return;
    first_walk(heads, upstream, group, l, begin, end, &b);
    for (int64_t i = begin; l->query_sums && i < end; i += ATTENTION_STRETCH) {
        clear_sums(&b);
        pass_rows(heads, upstream, group, l, &b, i, kernel_min(end, i + ATTENTION_STRETCH));
        memcpy(l->query_sums + i / ATTENTION_STRETCH * floats, b.base, (size_t)sum_floats(&b) * sizeof(float));
    }
}

/* R of queries [begin, q_length). */
static void sums_behind(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                        const attention_linear *l, linear_block *b, int64_t begin)
{
    const attention_head *h = heads;
    const int64_t length = h->mask.q_length,
                  next = kernel_ceil(begin, ATTENTION_STRETCH), last = kernel_ceil(length, ATTENTION_STRETCH);

    clear_sums(b);
    for (int64_t stretch = last - 1; l->query_sums && stretch >= next; stretch--)
        add_sum(b->base, l->query_sums + stretch * attention_linear_floats(h->dk, h->dv), sum_floats(b));
    pass_rows(heads, upstream, group, l, b, begin,
              l->query_sums ? kernel_min(length, next * ATTENTION_STRETCH) : length);
    make_sum(b);
}

/* Tile t: dk and dv of its keys. R holds the queries that keep it as a whole, and gets the others afterwards. */
static void second_walk_tile(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                             const attention_linear *l, linear_block *b, float *dk, float *dv, int64_t t)
{
    const attention_head *h = heads;
    const int64_t keys = kernel_max(0, tile_keys(h, t)), first = t * PANEL;

    if (keys > 0) {
        linear_tile(h, b, t);
        linear_times(b->dk, &b->v, b->s_turned, b->k.step, false);
        linear_times(b->dv, &b->k, b->s, b->v.step, false);
    }
    pass_queries(heads, upstream, group, l, b, t, keys > 0, first_row(h, t), first_row(h, t + 1));
    make_sum(b);
    if (keys > 0 && dk)
        put_slopes(dk + first * h->dk, b->dk, b->k.step, h->k + first * h->k_step, h->k_step, keys, h->dk);
    if (keys > 0 && dv)
        put_rows(dv + first * h->dv, h->dv, b->dv, b->v.step, keys, h->dv, false, vsplat(1.0f));
}

void LEVEL_NAME(attention_linear_back_keys)(const attention_head *heads, const attention_upstream *upstream,
                                            int64_t group, const attention_linear *l, float *dk, float *dv,
                                            int64_t begin, int64_t end, void *const scratch[4])
{
    const attention_head *h = heads;
    const int64_t length = h->mask.length, behind = kernel_ceil(end, PANEL);
    linear_block b;

    (void)linear_areas(&b, h->dk, h->dv, true, scratch);
    zero_rows(dk, kernel_max(begin, length), end, h->dk);
    zero_rows(dv, kernel_max(begin, length), end, h->dv);
    sums_behind(heads, upstream, group, l, &b, first_row(h, behind));
    for (int64_t t = kernel_min(behind - 1, length / PANEL); t >= begin / PANEL; t--)
        second_walk_tile(heads, upstream, group, l, &b, dk, dv, t);
}
