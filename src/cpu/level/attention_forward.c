/* Softmax attention of one head, forward; compiled once per instruction level.
 *
 *   a tile of 64 keys at a time: S = Q K^T, m' = max(m, max S), P = e^(S - m'),
 *   l = l e^(m - m') + sum P, O = O e^(m - m') + P V    (Milakov, Gimelshein 2018; Dao 2022)
 *
 * Q is multiplied by the scale when it is packed: S then needs none. A sink is one more key without a value, the last of all.
 *
 * Probes ride along in the same way. With x = s - m, so that w = e^x / l:
 *
 *   entropy = ln l - sum P x / l,  where A = sum P x becomes e^(m - m') (A + l (m - m')) when the maximum moves;
 *   distance = sum P |p - j| / l;  the k largest scores of a row: those above a bound are collected;
 *   weights and rows: scores are stored, and become weights once m and l are known. */

#include "cpu/level/attention_largest.h"
#include "cpu/level/attention_level.h"
#include "cpu/level/attention_terms.h"

/* A block of queries on its way through the tiles. The shift is m, or 0 while no key was kept. */
typedef struct forward_block {
    int64_t begin, end;
    float *q, *s;              /* panels */
    float *k, *v, *out;        /* the tile on end, its values, the sums of a row: rows of `width` floats */
    float *m, *shift, *l;      /* a number a row; l: VL partial sums a row */
    float *entropy, *distance; /* VL partial sums a row: A and sum P |p - j| */
    float *kept, *total;       /* a number a row: the sum of l, and the denominator */
    int64_t width;
    bool terms, tracks, reports, drops;
    float *report[ATTENTION_ROWS];     /* where the scores of a row are stored for its weights, or NULL */
    int64_t collected[ATTENTION_ROWS]; /* scores of a row that may be among its many largest: above its bound */
    float bound[ATTENTION_ROWS + VL];
} forward_block;

/* Some queries of the block against a tile, or what they keep of it in whole vectors. */
typedef struct forward_part {
    int64_t i, at, n;             /* the first query, its place in the block, how many */
    int64_t skip;                 /* keys of the tile before the first */
    int64_t first, keys, vectors; /* from there on */
    int64_t lead, count;          /* the keys that any query keeps lie in [lead, lead + count) */
    const uint64_t *words;        /* of the tile; NULL: all keys are kept */
} forward_part;

/* Scores, -inf where not kept; most[r] = their maxima. */
static void forward_scores(const attention_head *h, const forward_block *b, const forward_part *t,
                           float *most)
{
    const uint64_t all = whole_word(t->keys);

    product_scores_ahead(b->s, b->q + t->at * PANEL, ATTENTION_ROWS, b->k + t->skip, t->n, t->vectors * VL, h->dk,
                         bias_ahead(h, t->i, t->first), h->bias_row);
    if (b->terms)
        add_all_terms(h, b->s, t->i, t->n, t->first, t->keys, t->vectors);
    for (int64_t r = 0; r < t->n; r++) {
        const uint64_t word = t->words ? t->words[r] >> t->skip : all;
        float *s = b->s + r * PANEL;
        vf m = vsplat(MINUS_INF);

        for (int64_t v = 0; v < t->vectors; v++) {
            vf z = vload(s + v * VL);

            if (!word_whole(word, v)) {
                z = vselect(word_lanes(word, v), z, vsplat(MINUS_INF));
                vstore(s + v * VL, z);
            }
            m = larger(z, m);
        }
        most[r] = largest(m);
    }
}

/* Moves m and shift on to the new maxima; moved[r] = shift - shift', change[r] = e^(m - m'). */
static void forward_maxima(const forward_block *b, const forward_part *t, const float *most, float *change,
                           float *moved)
{
    for (int64_t r = 0; r < t->n; r += VL) {
        float *const m = b->m + t->at + r, *const shift = b->shift + t->at + r;
        const int64_t left = t->n - r;
        const vf before = vload(m), now = larger(vload(most + r), before);
        const vf base = vselect((vi)(now == MINUS_INF), vsplat(0.0f), now);

        vstore(change + r, exp_down(before - base));
        vstore(moved + r, vload(shift) - base);
        if (left >= VL) {
            vstore(m, now);
            vstore(shift, base);
        } else {
            vstore_part(m, now, left);
            vstore_part(shift, base, left);
        }
    }
}

/* Row r: scores to weights e^(s - shift), and their sums. `drops` and `tracks` are constants where this is called. */
VEC_INLINE void forward_row(const attention_head *h, const forward_block *b, const forward_part *t, int64_t r,
                            float change, float moved, const bool drops, const bool tracks)
{
    const vf shift = vsplat(b->shift[t->at + r]);
    const int64_t behind = t->first - (t->i + r) - h->mask.offset; /* j - p of the first key */
    float *const s = b->s + r * PANEL, *const l = b->l + (t->at + r) * VL;
    float *const entropy = b->entropy + (t->at + r) * VL, *const distance = b->distance + (t->at + r) * VL;
    uint32_t words[PANEL + 2 * VL];
    vf sum = vload(l), x_sum = { 0 }, far_sum = { 0 };

    if (tracks) {
        x_sum = vfma(sum, vsplat(moved), vload(entropy)) * change;
        far_sum = vload(distance) * change;
    }
    sum = sum * change;
    if (drops)
        dropout_words(words, h, t->i + r, t->first, t->vectors);
    for (int64_t v = 0; v < t->vectors; v++) {
        const vf x = vload(s + v * VL) - shift, p = exp_down(x);

        sum += p;
        if (tracks) {
            x_sum = vfma(p, larger(x, vsplat(-104.0f)), x_sum);
            far_sum = vfma(p, vabs(vsplat((float)(behind + v * VL)) + lane_numbers()), far_sum);
        }
        vstore(s + v * VL, drops ? dropped(p, words + v * VL, h->threshold, h->kept) : p);
    }
    vstore(l, sum);
    if (tracks) {
        vstore(entropy, x_sum);
        vstore(distance, far_sum);
    }
}

static void forward_weights(const attention_head *h, const forward_block *b, const forward_part *t,
                            const float *change, const float *moved)
{
    for (int64_t r = 0; r < t->n; r++) {
        if (b->drops && b->tracks)
            forward_row(h, b, t, r, change[r], moved[r], true, true);
        else if (b->drops)
            forward_row(h, b, t, r, change[r], moved[r], true, false);
        else if (b->tracks)
            forward_row(h, b, t, r, change[r], moved[r], false, true);
        else
            forward_row(h, b, t, r, change[r], moved[r], false, false);
    }
}

/* ---- the largest weights: attention_largest.h says how ---- */

/* The same of one row for many. */
static void collect_row(forward_block *b, const forward_part *t, int64_t r, int64_t k, float *z, int32_t *key)
{
    int64_t n = b->collected[t->at + r];

    if (n > 2 * k + VL) {
        select_many(z, key, n, k);
        b->bound[t->at + r] = z[k - 1];
        n = k;
    }
    for (int64_t v = 0; v < t->vectors; v++)
        n = collect(z, key, n, vload(b->s + r * PANEL + v * VL), vsplat(b->bound[t->at + r]),
                    (int32_t)(t->first + v * VL));
    b->collected[t->at + r] = n;
}

static void forward_collect(forward_block *b, const forward_part *t, const attention_result *to, const float *most)
{
    const int64_t k = to->topk, room = ATTENTION_COLLECTED(k);
    uint32_t rows = 0; /* that have something above their bound */

    for (int64_t r = 0; r < t->n; r += VL)
        rows |= lane_bits((vi)(vload(most + r) > vload(b->bound + t->at + r))) << r;
    for (rows &= (uint32_t)(((uint64_t)1 << t->n) - 1); rows; rows &= rows - 1) {
        const int64_t r = __builtin_ctz(rows);
        float *const z = to->collected + (t->at + r) * room, *const s = b->s + r * PANEL;
        int32_t *const key = to->collected_keys + (t->at + r) * room;

        if (k <= VL)
            b->bound[t->at + r] = put_in(z, key, 1, k, s, t->vectors, (int32_t)t->first);
        else if (k <= 2 * VL)
            b->bound[t->at + r] = put_in(z, key, 2, k, s, t->vectors, (int32_t)t->first);
        else if (k <= FEW)
            b->bound[t->at + r] = put_in(z, key, FEW / VL, k, s, t->vectors, (int32_t)t->first);
        else
            collect_row(b, t, r, k, z, key);
    }
}

static void forward_collect_nothing(forward_block *b, const attention_result *to)
{
    for (int64_t r = 0; r < b->end - b->begin; r++) {
        const int64_t room = ATTENTION_COLLECTED(to->topk);

        b->collected[r] = 0;
        b->bound[r] = MINUS_INF;
        for (int64_t e = 0; to->topk <= FEW && e < FEW; e += VL) {
            vstore(to->collected + r * room + e, vsplat(MINUS_INF));
            memset(to->collected_keys + r * room + e, 0, VL * sizeof(int32_t));
        }
    }
}

/* Scores that differ may give one weight: then the lower key is first again. */
static void forward_list_largest(forward_block *b, const attention_result *to)
{
    for (int64_t row = 0; row < b->end - b->begin; row++) {
        const int64_t k = to->topk, at = (b->begin + row) * k, room = ATTENTION_COLLECTED(k);
        float *const z = to->collected + row * room;
        int32_t *const key = to->collected_keys + row * room;
        const int64_t some = k <= FEW ? k : kernel_min(k, b->collected[row]);
        int64_t n = 0;

        if (k > FEW)
            select_many(z, key, b->collected[row], some);
        for (int64_t i = 0; i < some; i += VL)
            vstore(z + i, exp_down(vload(z + i) - vsplat(b->shift[row])) / vsplat(b->total[row]));
        for (; n < some && z[n] > 0; n++)
            for (int64_t e = n; e > 0 && z[e - 1] == z[e] && key[e - 1] > key[e]; e--)
                swap_scores(z, key, e - 1, e);
        for (int64_t e = 0; e < k; e++) {
            if (to->topk_values)
                to->topk_values[at + e] = e < n ? z[e] : 0;
            if (to->topk_indices)
                to->topk_indices[at + e] = e < n ? key[e] : -1;
        }
    }
}

/* ---- scores that become weights ---- */

/* The rows of the block that are reported: the first place of each that is listed. */
static void forward_reported(const attention_head *h, forward_block *b, const attention_result *to)
{
    const int64_t tk = h->mask.tk, from = to->row_list ? 0 : b->begin,
                  until = to->row_list ? to->n_rows : b->end;

    b->reports = to->weights || to->rows;
    for (int64_t i = b->begin; b->reports && i < b->end; i++)
        b->report[i - b->begin] = to->weights ? to->weights + i * tk : NULL;
    for (int64_t n = from; to->rows && !to->weights && n < until; n++) {
        const int64_t i = to->row_list ? to->row_list[n] : n;

        if (i >= b->begin && i < b->end && !b->report[i - b->begin])
            b->report[i - b->begin] = to->rows + n * tk;
    }
    for (int64_t r = 0; b->reports && r < b->end - b->begin; r++)
        for (int64_t j = 0; b->report[r] && j < tk; j++)
            b->report[r][j] = MINUS_INF;
}

static void forward_store(const forward_block *b, const forward_part *t)
{
    for (int64_t r = 0; r < t->n; r++) {
        float *const to = b->report[t->at + r];

        for (int64_t v = 0; to && v < t->vectors; v++) {
            const int64_t left = t->keys - v * VL;

            if (left >= VL)
                vstore(to + t->first + v * VL, vload(b->s + r * PANEL + v * VL));
            else
                vstore_part(to + t->first + v * VL, vload(b->s + r * PANEL + v * VL), left);
        }
    }
}

static void forward_report(const attention_head *h, const forward_block *b, const attention_result *to)
{
    const int64_t tk = h->mask.tk, from = to->row_list ? 0 : b->begin,
                  until = to->row_list ? to->n_rows : b->end;

    for (int64_t r = 0; r < b->end - b->begin; r++) {
        const vf shift = vsplat(b->shift[r]), by = vsplat(b->total[r]);
        float *const w = b->report[r];

        for (int64_t j = 0; w && j < tk; j += VL) {
            const int64_t left = tk - j;
            const vf z = left >= VL ? vload(w + j) : vload_part(w + j, left);
            const vf y = (vf)(~(vi)(by == 0.0f) & (vi)(exp_down(z - shift) / by));

            if (left >= VL)
                vstore(w + j, y);
            else
                vstore_part(w + j, y, left);
        }
    }
    for (int64_t n = from; to->rows && n < until; n++) {
        const int64_t i = to->row_list ? to->row_list[n] : n;

        if (i >= b->begin && i < b->end && to->rows + n * tk != b->report[i - b->begin])
            memcpy(to->rows + n * tk, b->report[i - b->begin], (size_t)tk * sizeof(float));
    }
}

/* ---- the end ---- */

/* One number a row for queries at + r: to all of them, or none of the rest. */
VEC_INLINE void store_rows(float *to, vf x, int64_t left)
{
    if (left >= VL)
        vstore(to, x);
    else
        vstore_part(to, x, left);
}

/* Denominators, with the sink: m' = max(m, sink), total = l e^(m - m') + e^(sink - m'); a row that kept nothing has total 0.
 * What was summed up so far moves on to m'. */
static void forward_totals(const attention_head *h, const forward_block *b)
{
    const int64_t n = b->end - b->begin;
    const vf sink = vsplat(h->sink);
    float change[ATTENTION_ROWS + VL], moved[ATTENTION_ROWS + VL];

    for (int64_t r = 0; r < n; r++)
        b->kept[r] = b->total[r] = vsum_lanes(vload(b->l + r * VL));
    if (!h->has_sink)
        return;
    for (int64_t r = 0; r < n; r += VL) {
        const vf before = vload(b->m + r), m = larger(before, sink), c = exp_down(before - m);
        const vi some = ~(vi)(before == MINUS_INF);
        const vf kept = vload(b->kept + r) * c;

        vstore(change + r, c);
        vstore(moved + r, (vf)(some & (vi)(before - m)));
        vstore(b->kept + r, (vf)(some & (vi)kept));
        vstore(b->total + r, (vf)(some & (vi)(kept + exp_down(sink - m))));
        vstore(b->shift + r, (vf)(some & (vi)m));
    }
    scale_rows(b->out, b->width, n, change);
    for (int64_t r = 0; b->tracks && r < n; r++) {
        const vf l = vload(b->l + r * VL), x_sum = vload(b->entropy + r * VL);

        vstore(b->entropy + r * VL, vfma(l, vsplat(moved[r]), x_sum) * change[r]);
        vstore(b->distance + r * VL, vload(b->distance + r * VL) * change[r]);
    }
}

/* entropy = (kept / total) ln total - A / total, distance = sum P |p - j| / total. */
static void forward_tracked(const forward_block *b, const attention_result *to)
{
    const int64_t n = b->end - b->begin;
    float x_sum[ATTENTION_ROWS + VL], far_sum[ATTENTION_ROWS + VL];

    for (int64_t r = 0; r < n; r++) {
        x_sum[r] = vsum_lanes(vload(b->entropy + r * VL));
        far_sum[r] = vsum_lanes(vload(b->distance + r * VL));
    }
    for (int64_t r = 0; r < n; r += VL) {
        const vf total = vload(b->total + r);
        const vi some = ~(vi)(total == 0.0f);
        const vf entropy = vload(b->kept + r) / total * vf_log(total) - vload(x_sum + r) / total;

        if (to->entropy)
            store_rows(to->entropy + b->begin + r, (vf)(some & (vi)larger(vsplat(0.0f), entropy)), n - r);
        if (to->distance)
            store_rows(to->distance + b->begin + r, (vf)(some & (vi)(vload(far_sum + r) / total)), n - r);
    }
}

/* out = O / total and lse = shift + ln total; rows that kept nothing: zeros and -inf. */
static void forward_finish(const attention_head *h, const forward_block *b, const attention_result *to)
{
    const int64_t n = b->end - b->begin;

    for (int64_t r = 0; to->out && r < n; r++) {
        const float *o = b->out + r * b->width;
        float *y = to->out + (b->begin + r) * h->dv;
        const vf by = vsplat(b->total[r]);
        const vi some = ~(vi)(by == 0.0f);

        for (int64_t p = 0; p < h->dv; p += VL) /* divided: the rounding of a reciprocal is seen in gradients of huge logits */
            store_rows(y + p, (vf)(some & (vi)(vload(o + p) / by)), h->dv - p);
    }
    for (int64_t r = 0; (to->lse || to->lse_rest) && r < n; r += VL) {
        vf rest, lse = log_sum(vload(b->shift + r), vload(b->total + r), &rest);

        if (to->lse)
            store_rows(to->lse + b->begin + r, lse, n - r);
        if (to->lse_rest)
            store_rows(to->lse_rest + b->begin + r, rest, n - r);
    }
}

/* Where everything lies in the four areas; floats of the largest. */
static int64_t forward_areas(forward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
{
    const int64_t width = whole_vectors(dv), keys = (dk + width) * PANEL, out = width * ATTENTION_ROWS;
    const int64_t q = panels(dk) * ATTENTION_ROWS * PANEL,
                  numbers = GROUP * PANEL + ATTENTION_ROWS * (3 * VL + 4) + 4 * VL;

    if (b) {
        b->width = width;
        b->k = scratch[0];
        b->v = b->k + dk * PANEL;
        b->out = scratch[1];
        b->q = scratch[2];
        b->s = scratch[3];
        b->l = b->s + GROUP * PANEL;
        b->entropy = b->l + ATTENTION_ROWS * VL;
        b->distance = b->entropy + ATTENTION_ROWS * VL;
        b->m = b->distance + ATTENTION_ROWS * VL;
        b->shift = b->m + ATTENTION_ROWS + VL;
        b->kept = b->shift + ATTENTION_ROWS + VL;
        b->total = b->kept + ATTENTION_ROWS + VL;
    }
    return kernel_max(kernel_max(keys, out), kernel_max(q, numbers));
}

size_t LEVEL_NAME(attention_forward_bytes)(int64_t dk, int64_t dv)
{
    return (size_t)forward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* Queries i .. i+n-1 of the block; false: they keep nothing of the tile. */
static bool forward_part_of(forward_part *t, int64_t begin, int64_t i, int64_t n, int64_t first, int64_t keys,
                            const uint64_t *words)
{
    uint64_t any = words ? 0 : whole_word(keys);

    for (int64_t r = 0; words && r < n; r++)
        any |= words[i - begin + r];
    if (!any)
        return false;
    *t = (forward_part){ .i = i, .at = i - begin, .n = n, .words = words ? words + (i - begin) : NULL };
    t->skip = __builtin_ctzll(any) / VL * VL;
    t->first = first + t->skip;
    t->keys = keys - t->skip;
    t->vectors = word_vectors(any >> t->skip);
    t->lead = __builtin_ctzll(any) - t->skip;
    t->count = PANEL - __builtin_clzll(any) - __builtin_ctzll(any);
    return true;
}

/* How many of the next queries go together: those that keep nothing by themselves, many that keep the same, or a few, which keep
 * more nearly the same. */
static int64_t forward_group(const uint64_t *words, int64_t left)
{
    const int64_t few = kernel_min(GROUP / 2, left), many = kernel_min(GROUP, left);
    int64_t n = 1;

    if (!words)
        return many;
    while (n < (words[0] ? many : left) && words[n] == words[0])
        n++;
    if (!words[0] || n > few)
        return n;
    for (n = few; !words[n - 1];)
        n--;
    return n;
}

static void forward_begin(const attention_head *h, forward_block *b, const attention_result *to)
{
    const int64_t n = b->end - b->begin;

    b->terms = has_terms(h);
    b->drops = h->drops;
    b->tracks = to->entropy || to->distance;
    clear_rows(b->l, VL, n, VL);
    for (int64_t r = 0; r < n + VL; r++) {
        b->m[r] = MINUS_INF;
        b->shift[r] = 0;
    }
    if (b->tracks) {
        clear_rows(b->entropy, VL, n, VL);
        clear_rows(b->distance, VL, n, VL);
    }
    if (to->topk)
        forward_collect_nothing(b, to);
    forward_reported(h, b, to);
    pack_panels(b->q, ATTENTION_ROWS, h->q + b->begin * h->q_step, h->q_step,
                kernel_min(b->end, h->mask.q_length) - b->begin, h->dk, h->scale);
}

/* Does a maximum of n rows move? */
static bool moves(const float *change, int64_t n)
{
    uint32_t rows = 0;

    for (int64_t r = 0; r < n; r += VL)
        rows |= lane_bits((vi)(vload(change + r) != 1.0f)) << r;
    return rows << (32 - n) != 0;
}

/* Dense rows of whole vectors are used where they lie. Rows that are far apart may share their places in a cache. */
static bool packs_values(const attention_head *h)
{
    return h->dv % VL != 0 || h->v_step != h->dv;
}

void LEVEL_NAME(attention_forward)(const attention_head *h, const attention_result *to, int64_t begin,
                                   int64_t end, void *const scratch[4])
{
    const attention_mask *m = &h->mask;
    uint64_t words[ATTENTION_ROWS];
    bool any = false;
    forward_block b;

    (void)forward_areas(&b, h->dk, h->dv, scratch);
    b.begin = begin;
    b.end = end;
    forward_begin(h, &b, to);
    for (int64_t first = heed__attention_next(m, begin, end, 0); first < m->length;
         first = heed__attention_next(m, begin, end, first + PANEL)) {
        const int64_t keys = kernel_min(PANEL, m->length - first);
        const attention_tile kind = heed__attention_words(m, begin, end, first, words);

        if (kind == ATTENTION_SKIP)
            continue;
        const float *v = b.v;

        if (!any && kind == ATTENTION_PART) /* a first tile that all keep writes the sums itself */
            clear_rows(b.out, b.width, end - begin, b.width);
        any |= kind == ATTENTION_PART;
        pack_tile(b.k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        if (packs_values(h))
            pack(b.v, b.width, h->v + first * h->v_step, h->v_step, keys, h->dv);
        else
            v = h->v + first * h->v_step;
        for (int64_t i = begin, n; i < end; i += n) {
            float most[GROUP + VL], change[GROUP + VL], moved[GROUP + VL];
            forward_part t;

            n = forward_group(kind == ATTENTION_PART ? words + (i - begin) : NULL, end - i);
            if (!forward_part_of(&t, begin, i, n, first, keys, kind == ATTENTION_PART ? words : NULL))
                continue;
            forward_scores(h, &b, &t, most);
            if (b.reports)
                forward_store(&b, &t);
            if (to->topk)
                forward_collect(&b, &t, to, most);
            forward_maxima(&b, &t, most, change, moved);
            forward_weights(h, &b, &t, change, moved);
            product_as(ROW,
                       &(product_args){ .a = b.s + t.lead,
                                        .b = v + (t.skip + t.lead) * b.width,
                                        .c = b.out + t.at * b.width,
                                        .b_step = b.width,
                                        .c_step = b.width,
                                        .k = t.count,
                                        .add = any,
                                        .scale = any && moves(change, n) ? change : NULL },
                       n, b.width);
        }
        any = true;
    }
    if (!any)
        clear_rows(b.out, b.width, end - begin, b.width);
    forward_totals(h, &b);
    forward_finish(h, &b, to);
    if (b.tracks)
        forward_tracked(&b, to);
    if (to->topk)
        forward_list_largest(&b, to);
    if (b.reports)
        forward_report(h, &b, to);
}
