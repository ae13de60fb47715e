/* Attention of one key head by whole rows, backward; compiled once per instruction level.
 *
 *   z and w again; dw = dropped(dout v^T + drel_sums) + dweights; dz = the normaliser's own slope of dw; with ds = dz after
 *   temperature and softcap,  dq_i = scale sum_j ds_ij draw/dq,  dk_j = scale sum_i ds_ij draw/dk,  dv = dropped w^T dout
 *
 * Sums over queries are chains in rising i, head by head, so the height of a block changes no bit of dq, dk, dv and bias. */

#include "cpu/level/attention_rows.h"
#include "cpu/level/attention_level.h"

typedef struct backward_rows {
    rows_block b;
    float *d;              /* [height, step]: dw, then ds */
    float *dout, *dropped; /* panels */
    float *v_tile;         /* on end */
    float *k;              /* a tile's keys, rows of k_width floats */
    float *dq;             /* rows of k_width floats */
    float *dk,
        *dv; /* of all keys: rows of k_width and v_width floats; dk of all scores but dot lies in tiles on end */
    double *add_v;
    int64_t k_width, v_width;
    uint64_t *words; /* [tiles, ATTENTION_BLOCK]: keys at which a row of w is not zero; no other has a gradient */
    uint32_t few;    /* rows with few such keys */
} backward_rows;

/* Numbers of a head, summed in order of rows. */
typedef struct backward_numbers {
    double temperature, sink, sigmoid_bias, alpha, span;
} backward_numbers;

static size_t rows_areas(backward_rows *x, int64_t dk, int64_t dv, int64_t tk, void *const scratch[4])
{
    const int64_t height = attention_block(tk), step = panels(tk) * PANEL, k_width = whole_vectors(dk),
                  v_width = whole_vectors(dv), q = panels(dk) * height * PANEL,
                  dout = panels(dv) * height * PANEL, s = height * PANEL;

    if (x) {
        x->k_width = k_width;
        x->v_width = v_width;
        x->dk = scratch[0];
        x->dv = scratch[1];
        x->b = (rows_block){ .height = height, .step = step, .first = scratch[2] };
        x->b.z = (float *)(void *)(x->b.first + panels(tk) * 8); /* whole lines */
        x->b.w = x->b.z + height * step;
        x->d = x->b.w + height * step;
        x->b.order = (int32_t *)(void *)(x->d + height * step);
        x->words = (uint64_t *)(void *)(x->b.order + step);
        x->b.k_tile = scratch[3];
        x->k = x->b.k_tile + dk * PANEL;
        x->v_tile = x->k + k_width * PANEL;
        x->b.q = x->v_tile + dv * PANEL;
        x->dout = x->b.q + q;
        x->b.s = x->dout + dout;
        x->dropped = x->b.s + s;
        x->dq = x->dropped + s;
        x->add_v = (double *)(void *)(x->dq + height * k_width);
    }
    return (size_t)kernel_max(
               kernel_max(step * k_width, step * v_width),
               kernel_max((3 * height + 1) * step + panels(tk) * (16 + 2 * ATTENTION_BLOCK),
                          (dk + k_width + dv) * PANEL + q + dout + 2 * s + height * k_width + 2 * dk)) *
           sizeof(float);
}

size_t LEVEL_NAME(attention_rows_backward_bytes)(int64_t dk, int64_t dv, int64_t tk)
{
    return rows_areas(NULL, dk, dv, tk, NULL);
}

static int64_t tile_keys(const attention_head *h, int64_t first)
{
    return kernel_min(PANEL, h->mask.length - first);
}

/* ---- dw, and dv ---- */

/* x[j] += row[place of key j]. */
static void add_places(const attention_head *h, float *x, const float *row, int64_t query, int64_t first)
{
    const int64_t at = first - query - h->mask.offset + h->row_zero;

    for (int64_t v = 0; v < PANEL; v += VL)
        vstore(x + v, vload(x + v) + row_rel_vector(row, h->row_size, at + v));
}

/* Row r and tile t: from dout v^T in s to dw; the weights that met v. */
static void upstream_row(const attention_head *h, const attention_upstream *u, const backward_rows *x,
                         int64_t r, int64_t t)
{
    const int64_t i = x->b.begin + r, first = x->b.first[t], keys = tile_keys(h, first),
                  at = r * x->b.step + t * PANEL;
    float *s = x->b.s + r * PANEL, *dropped_w = x->dropped + r * PANEL, by[PANEL];

    if (!x->words[t * ATTENTION_BLOCK + r]) {
        row_fill(x->d + at, PANEL, 0);
        row_fill(dropped_w, PANEL, 0);
        return;
    }
    if (u->drel_sums)
        add_places(h, s, u->drel_sums + i * h->row_size, i, first);
    memcpy(dropped_w, x->b.w + at, PANEL * sizeof *s);
    if (h->drops) {
        drop_factors(h, by, i, first);
        for (int64_t v = 0; v < PANEL; v += VL) {
            vstore(s + v, vload(s + v) * vload(by + v));
            vstore(dropped_w + v, vload(dropped_w + v) * vload(by + v));
        }
    }
    if (u->dweights)
        add_terms(s, u->dweights + i * u->dweights_step + first, keys, kernel_ceil(keys, VL));
    for (int64_t v = 0; v < PANEL; v += VL) /* what is not kept may have any dweights */
        vstore(x->d + at + v, vselect((vi)(vload(x->b.z + at + v) == MINUS_INF), vsplat(0.0f), vload(s + v)));
}

/* s = dout v^T of a tile, where it counts. */
static void tile_upstream(const attention_head *h, const attention_upstream *u, const backward_rows *x, int64_t t,
                          bool *packed)
{
    const rows_block *b = &x->b;
    const uint64_t *words = x->words + t * ATTENTION_BLOCK;
    const float *v = h->v + b->first[t] * h->v_step;
    bool tile = false;

    for (int64_t r = 0, end; r < b->n; r = end) {
        end = rows_alike(x->few, r, b->n);
        if (!in_rows(x->few, r)) {
            if (!*packed)
                pack_panels(x->dout, b->height, u->dout + b->begin * u->dout_step, u->dout_step, b->n, h->dv, 1);
            if (!tile)
                pack_tile(x->v_tile, v, h->v_step, tile_keys(h, b->first[t]), h->dv);
            *packed = tile = true;
            product_scores(b->s + r * PANEL, x->dout + r * PANEL, b->height, x->v_tile, end - r, PANEL, h->dv);
            continue;
        }
        for (; r < end; r++)
            if (words[r])
                few_scores(b->s + r * PANEL, words[r], u->dout + (b->begin + r) * u->dout_step, v, h->v_step,
                           h->dv);
    }
}

/* dv += dropped w^T dout of a tile. */
static void tile_dv(const attention_head *h, const attention_upstream *u, const backward_rows *x, int64_t t)
{
    const rows_block *b = &x->b;
    const uint64_t *words = x->words + t * ATTENTION_BLOCK;
    float *dv = x->dv + b->first[t] * x->v_width;

    for (int64_t r = 0, end; r < b->n; r = end) {
        end = rows_alike(x->few, r, b->n);
        if (!in_rows(x->few, r)) {
            product_columns(dv, x->v_width, x->dropped + r * PANEL, x->dout + r * PANEL, b->height,
                            tile_keys(h, b->first[t]), h->dv, end - r);
            continue;
        }
        for (; r < end; r++)
            few_spread(dv, x->v_width, x->dropped + r * PANEL, words[r],
                       u->dout + (b->begin + r) * u->dout_step, h->dv);
    }
}

static void backward_upstream(const attention_head *h, const attention_upstream *u, backward_rows *x)
{
    const rows_block *b = &x->b;
    bool packed = false; /* dout */

    x->few = rows_with_few(b);
    for (int64_t t = 0; t < b->tiles; t++) {
        for (int64_t r = 0; r < b->n; r++)
            x->words[t * ATTENTION_BLOCK + r] = nonzero_word(b->w + r * b->step + t * PANEL);
        if (u->dout)
            tile_upstream(h, u, x, t, &packed);
        else
            clear_rows(b->s, PANEL, b->n, PANEL);
        for (int64_t r = 0; r < b->n; r++)
            upstream_row(h, u, x, r, t);
        if (u->dout)
            tile_dv(h, u, x, t);
    }
}

/* ---- dz ---- */

static float sum_of_products(const float *x, const float *y, int64_t n)
{
    vf sum[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++) sum[c] =
            vfma(vload(x + i + c * VL), vload(y + i + c * VL), sum[c]);
    }
    return row_sum(sum);
}

/* dz = p (dp - sum p dp + dlse): subtracted first, so that a single weight of 1 has a gradient of exactly dlse. */
static void slope_softmax(const attention_head *h, const rows_block *b, int64_t r, float *d, float dlse,
                          const rows_told *told, backward_numbers *numbers)
{
    const float *w = b->w + r * b->step;
    const int64_t n = b->tiles * PANEL;
    const float mean = sum_of_products(w, d, n);
    vf sum[CHAINS] = { { 0 } };

    if (h->has_sink && h->normaliser == HEAD_SOFTMAX)
        numbers->sink += (double)(told->sink * (dlse - mean));
    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const int64_t at = i + c * VL;
            const vf up = (vload(d + at) - mean) + dlse;

            if (h->normaliser == HEAD_SPAN) { /* strictly between the kinks of clip */
                const vf f = span_ramp(h, b->begin + r, b->first[at / PANEL] + at % PANEL);
                const vi inside = (vi)(f > 0.0f) & (vi)(f < 1.0f);

                sum[c] += (vf)(inside & (vi)(vload(w + at) / f * up));
            }
            vstore(d + at, vload(w + at) * up);
        }
    }
    if (h->normaliser == HEAD_SPAN)
        numbers->span += (double)(row_sum(sum) / h->ramp);
}

/* w^(2-alpha) on the support. */
VEC_INLINE vf entmax_share(vf w, float power)
{
    const vi some = (vi)(w > 0.0f);

    if (power == 0)
        return (vf)(some & (vi)vsplat(1.0f));
    return (vf)(some & (vi)(power == 0.5f ? vsqrt(w) : exp_down(vf_log(w) * power)));
}

static double sum_halves(const vd *sum)
{
    double all = 0;

    for (int c = 0; c < VL / 2; c++)
        all += sum[0][c] + sum[1][c];
    return all;
}

/* ln w and w^(2-alpha) of half a vector; 0 outside the support. */
VEC_INLINE vd share_halves(vd w, double power, vd *ln)
{
    const vq some = (vq)(w > 0.0);
    const vd log2 = vdselect(some, math_log2(vdselect(some, w, vdsplat(1.0))), vdsplat(0));

    *ln = log2 * 0x1.62e42fefa39efp-1;
    return vdselect(some, math_exp2(log2 * power), vdsplat(0));
}

/* sum dp ((w - s~)/(alpha-1)^2 + (h - s~ sum h)/(alpha-1)): differences that vanish as alpha nears 1, so in double, of weights
 * that sum to 1 in it. */
static double slope_alpha(const attention_head *h, const float *w, const float *d, int64_t n)
{
    const double less = (double)h->alpha - 1, power = 1 - less;
    vd sum_w[2] = { { 0 } }, sum_s[2] = { { 0 } }, sum_h[2] = { { 0 } }, da[2] = { { 0 } };
    double all, shares, entropy;

    for (int64_t i = 0; i < n; i += VL)
        for (int half = 0; half < 2; half++)
            sum_w[half] += vwiden(vload(w + i), half);
    all = sum_halves(sum_w);
    for (int64_t i = 0; i < n; i += VL)
        for (int half = 0; half < 2; half++) {
            const vd x = vwiden(vload(w + i), half) / all;
            vd ln;

            sum_s[half] += share_halves(x, power, &ln);
            sum_h[half] -= x * ln;
        }
    shares = sum_halves(sum_s);
    entropy = sum_halves(sum_h);
    for (int64_t i = 0; i < n; i += VL)
        for (int half = 0; half < 2; half++) {
            const vd x = vwiden(vload(w + i), half) / all;
            vd ln;
            const vd s = share_halves(x, power, &ln) / shares;

            da[half] +=
                vwiden(vload(d + i), half) * ((x - s) / (less * less) - (x * ln + s * entropy) / less);
        }
    return sum_halves(da);
}

static void slope_entmax(const attention_head *h, const float *w, float *d, int64_t n, bool learns,
                         backward_numbers *numbers)
{
    const float power = 2 - h->alpha;
    vf sum[CHAINS] = { { 0 } }, shares[CHAINS] = { { 0 } };
    float mean;

    if (learns)
        numbers->alpha += slope_alpha(h, w, d, n);
    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const vf s = entmax_share(vload(w + i + c * VL), power);

            shares[c] += s;
            sum[c] = vfma(s, vload(d + i + c * VL), sum[c]);
        }
    }
    mean = row_sum(sum) / row_sum(shares);
    for (int64_t i = 0; i < n; i += VL)
        vstore(d + i, entmax_share(vload(w + i), power) * (vload(d + i) - mean));
}

static void slope_sigmoid(const attention_head *h, const float *z, const float *w, float *d, int64_t n,
                          backward_numbers *numbers)
{
    vf sum[CHAINS] = { { 0 } };

    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const int64_t at = i + c * VL;
            const vf rest = vf_sigmoid(-(vload(z + at) + h->sigmoid_bias)); /* 1 - w without cancellation */
            const vf dz = vload(w + at) * rest * vload(d + at);

            vstore(d + at, dz);
            sum[c] += dz;
        }
    }
    numbers->sigmoid_bias += (double)row_sum(sum);
}

/* dz to ds, back through temperature and softcap. */
static void slope_logits(const attention_head *h, const float *z, float *d, int64_t n,
                         backward_numbers *numbers)
{
    vf sum[CHAINS] = { { 0 } };

    if (h->temperature == 1 && h->softcap == 0)
        return;
    for (int64_t i = 0; i < n; i += STRIDE) {
        UNROLL for (int c = 0; c < CHAINS; c++)
        {
            const vf from = vload(z + i + c * VL);
            const vf kept = vselect((vi)(from == MINUS_INF), vsplat(0.0f), from);
            vf ds = vload(d + i + c * VL);

            sum[c] = vfma(ds, kept, sum[c]);
            ds = ds / h->temperature;
            if (h->softcap > 0) {
                const vf t = kept * h->temperature / h->softcap;

                ds = ds * (1.0f - t * t);
            }
            vstore(d + i + c * VL, ds);
        }
    }
    numbers->temperature -= (double)(row_sum(sum) / h->temperature);
}

/* Row r of d: from dw to ds. */
static void backward_slope(const attention_head *h, const attention_upstream *u, const backward_rows *x,
                           int64_t r, const rows_told *told, backward_numbers *numbers)
{
    const rows_block *b = &x->b;
    const float *z = b->z + r * b->step, *w = b->w + r * b->step;
    const int64_t n = b->tiles * PANEL;
    float *d = x->d + r * b->step;

    if (h->normaliser == HEAD_SIGMOID) {
        slope_sigmoid(h, z, w, d, n, numbers);
    } else if (h->normaliser == HEAD_ENTMAX) {
        if (row_most(w, n) == 0) /* kept nothing: no sum to divide by */
            row_fill(d, n, 0);
        else
            slope_entmax(h, w, d, n, u->dalpha != NULL, numbers);
    } else if (told->lse == MINUS_INF) {
        row_fill(d, n, 0);
    } else {
        slope_softmax(h, b, r, d, u->dlse ? u->dlse[b->begin + r] : 0, told, numbers);
    }
    slope_logits(h, z, d, n, numbers);
}

/* ---- from ds to what made the scores ---- */

static void add_to_bias(const attention_upstream *u, const float *s, int64_t i, int64_t first, int64_t keys)
{
    float *to = u->dbias + i * u->dbias_row;
    vf sum = { 0 };

    for (int64_t j = 0; u->dbias_key && j < keys; j++)
        to[first + j] += s[j];
    for (int64_t v = 0; !u->dbias_key && v < PANEL; v += VL)
        sum += vload(s + v);
    if (!u->dbias_key)
        to[0] += vsum_lanes(sum);
}

/* The share of one query row and tile in dq, dk and add_v: ds holds dz draw/d(q + k) or the factor of q - k. */
VEC_INLINE void pair_row(const bool additive, const attention_head *h, const float *q, const float *ds,
                         const float *k_tile, float *dk_tile, float *dq, double *add_v)
{
    for (int64_t a = 0; a < h->dk; a++) {
        const vf x = vsplat(q[a]), by = vsplat(additive ? h->add_v[a] : 0);
        vf to_q[CHAINS] = { { 0 } }, to_v[CHAINS] = { { 0 } };

        for (int64_t j = a * PANEL; j < (a + 1) * PANEL; j += STRIDE) {
            UNROLL for (int c = 0; c < CHAINS; c++)
            {
                const vf up = vload(ds + j - a * PANEL + c * VL), key = vload(k_tile + j + c * VL);
                float *to = dk_tile + j + c * VL;

                if (additive) {
                    const vf t = vf_tanh(x + key), g = up * (by * (1.0f - t * t));

                    to_v[c] = vfma(up, t, to_v[c]);
                    to_q[c] += g;
                    vstore(to, vload(to) + g);
                } else {
                    const vf g = up * (x - key);

                    to_q[c] += g;
                    vstore(to, vload(to) - g);
                }
            }
        }
        dq[a] += row_sum(to_q);
        if (additive)
            add_v[a] += (double)row_sum(to_v);
    }
}

/* Distances: from ds to the factor of q - k, which is -2 ds, or -ds / |q - k|. */
static void distance_factors(const attention_head *h, const backward_rows *x, int64_t r)
{
    const rows_block *b = &x->b;
    float *s = b->s + r * PANEL, root[PANEL] = { 0 };

    if (h->score == HEAD_DISTANCE)
        raw_row(HEAD_DISTANCE, h, root, h->q + (b->begin + r) * h->q_step, b->k_tile, ~(uint64_t)0);
    for (int64_t v = 0; v < PANEL; v += VL)
        vstore(s + v, h->score == HEAD_DISTANCE ? vload(s + v) / vload(root + v) : vload(s + v) * -2.0f);
}

static bool all_zero(const float *s)
{
    vi any = { 0 };

    for (int64_t v = 0; v < PANEL; v += VL)
        any |= (vi)(vload(s + v) != 0.0f);
    return !vany(any);
}

static void backward_pairs(const attention_head *h, const backward_rows *x, int64_t first)
{
    const rows_block *b = &x->b;
    float *dk_tile = x->dk + first * h->dk;

    for (int64_t r = 0; r < b->n; r++) {
        const float *q = h->q + (b->begin + r) * h->q_step, *s = b->s + r * PANEL;

        if (all_zero(s))
            continue;
        if (h->score == HEAD_ADDITIVE) {
            pair_row(true, h, q, s, b->k_tile, dk_tile, x->dq + r * x->k_width, x->add_v);
        } else {
            distance_factors(h, x, r);
            pair_row(false, h, q, s, b->k_tile, dk_tile, x->dq + r * x->k_width, NULL);
        }
    }
}

/* ds of row r and tile t to what is added to the scores. */
static void terms_row(const attention_head *h, const attention_upstream *u, const float *s, int64_t i, int64_t first)
{
    const int64_t keys = tile_keys(h, first);

    if (u->dbias)
        add_to_bias(u, s, i, first, keys);
    for (int64_t j = 0; u->drel && j < keys; j++)
        u->drel[first - i + h->mask.tq - 1 + j] += s[j];
    if (u->drow_rel)
        add_by_place(h, u->drow_rel + i * h->row_size, s, i, first);
}

/* dq and dk of a dot product from scale ds in s. */
static void tile_dots(const attention_head *h, const backward_rows *x, int64_t t)
{
    const rows_block *b = &x->b;
    const uint64_t *words = x->words + t * ATTENTION_BLOCK;
    const int64_t first = b->first[t], keys = tile_keys(h, first);
    const float *k = h->k + first * h->k_step;
    float *dk = x->dk + first * x->k_width;
    bool packed = false;

    for (int64_t r = 0, end; r < b->n; r = end) {
        const float *s = b->s + r * PANEL;

        end = rows_alike(x->few, r, b->n);
        if (!in_rows(x->few, r)) {
            if (!packed)
                pack(x->k, x->k_width, k, h->k_step, keys, h->dk);
            packed = true;
            product(ROW, x->dq + r * x->k_width, x->k_width, s, x->k, x->k_width, end - r, x->k_width, keys,
                    true);
            product_columns(dk, x->k_width, s, b->q + r * PANEL, b->height, keys, h->dk, end - r);
            continue;
        }
        for (; r < end; r++, s += PANEL) {
            few_rows(x->dq + r * x->k_width, s, words[r], k, h->k_step, h->dk);
            few_spread(dk, x->k_width, s, words[r], h->q + (b->begin + r) * h->q_step, h->dk);
        }
    }
}

static void backward_scores(const attention_head *h, const attention_upstream *u, const backward_rows *x)
{
    const rows_block *b = &x->b;

    clear_rows(x->dq, x->k_width, b->n, x->k_width);
    for (int64_t t = 0; t < b->tiles; t++) {
        const int64_t first = b->first[t];
        uint64_t any = 0;

        for (int64_t r = 0; r < b->n; r++) {
            const uint64_t word = x->words[t * ATTENTION_BLOCK + r];
            float *s = b->s + r * PANEL;

            any |= word;
            memcpy(s, x->d + r * b->step + t * PANEL, PANEL * sizeof *s);
            if (word)
                terms_row(h, u, s, b->begin + r, first);
        }
        if (!any)
            continue;
        rows_scale(b, h->scale);
        if (h->score == HEAD_DOT) {
            tile_dots(h, x, t);
        } else {
            pack_tile(b->k_tile, h->k + first * h->k_step, h->k_step, tile_keys(h, first), h->dk);
            backward_pairs(h, x, first);
        }
    }
    if (u->dq)
        put_rows(u->dq + b->begin * h->dk, h->dk, x->dq, x->k_width, b->n, h->dk, false, vsplat(1.0f));
}

/* ---- heads ---- */

static void put_number(float *to, double sum)
{
    if (to)
        *to += (float)sum;
}

static void backward_head(const attention_head *h, const attention_upstream *u, int64_t begin, int64_t end,
                          backward_rows *x)
{
    const int64_t height = x->b.height;
    backward_numbers numbers = { 0 };

    if (u->dq && (end - begin) * h->dk > 0)
        memset(u->dq + begin * h->dk, 0, (size_t)((end - begin) * h->dk) * sizeof(float));
    for (int64_t a = 0; a < h->dk; a++)
        x->add_v[a] = 0;
    for (int64_t i = begin; i < kernel_min(end, h->mask.q_length); i += height) {
        rows_told told[ATTENTION_BLOCK];

        rows_logits(h, &x->b, i, kernel_min(end, i + height));
        for (int64_t r = 0; r < x->b.n; r++)
            told[r] = rows_normalise(h, &x->b, r);
        backward_upstream(h, u, x);
        for (int64_t r = 0; r < x->b.n; r++)
            backward_slope(h, u, x, r, &told[r], &numbers);
        backward_scores(h, u, x);
    }
    for (int64_t a = 0; u->dadd_v && a < h->dk; a++)
        u->dadd_v[a] += (float)x->add_v[a];
    put_number(u->dtemperature, numbers.temperature);
    put_number(u->dsink, numbers.sink);
    put_number(u->dsigmoid_bias, numbers.sigmoid_bias);
    put_number(u->dalpha, numbers.alpha);
    put_number(u->dspan, numbers.span);
}

static void put_keys(const attention_head *h, const backward_rows *x, const attention_keys *to)
{
    const int64_t length = h->mask.length, unread = to->adds ? 0 : h->mask.tk - length;
    const vf one = vsplat(1.0f);

    if (to->dk && unread * h->dk > 0)
        memset(to->dk + length * h->dk, 0, (size_t)(unread * h->dk) * sizeof(float));
    if (to->dv && unread * h->dv > 0)
        memset(to->dv + length * h->dv, 0, (size_t)(unread * h->dv) * sizeof(float));
    if (to->dv)
        put_rows(to->dv, h->dv, x->dv, x->v_width, length, h->dv, to->adds, one);
    if (to->dk && h->score == HEAD_DOT)
        put_rows(to->dk, h->dk, x->dk, x->k_width, length, h->dk, to->adds, one);
    for (int64_t first = 0; to->dk && h->score != HEAD_DOT && first < length; first += PANEL) {
        const int64_t keys = tile_keys(h, first);

        kernel_transpose(x->k, x->k_width, x->dk + first * h->dk, PANEL, h->dk, keys);
        put_rows(to->dk + first * h->dk, h->dk, x->k, x->k_width, keys, h->dk, to->adds, one);
    }
}

void LEVEL_NAME(attention_rows_backward)(const attention_head *heads, const attention_upstream *upstream,
                                         int64_t group, int64_t begin, int64_t end, const attention_keys *to,
                                         void *const scratch[4])
{
    const attention_head *h = heads;
    backward_rows x;

    (void)rows_areas(&x, h->dk, h->dv, h->mask.tk, scratch);
    clear_rows(x.dk, x.k_width, x.b.step, x.k_width);
    clear_rows(x.dv, x.v_width, x.b.step, x.v_width);
    for (int64_t g = 0; g < group; g++)
        backward_head(&heads[g], &upstream[g], begin, end, &x);
    put_keys(h, &x, to);
}
