/* Softmax attention of one head, forward; compiled once per instruction level.
 *
 *   a tile of 64 keys at a time: S = Q K^T, m' = max(m, max S), P = e^(S - m'),
 *   l = l e^(m - m') + sum P, O = O e^(m - m') + P V    (Milakov, Gimelshein 2018; Dao 2022)
 *
 * Q is multiplied by the scale when it is packed: S then needs none. */

#include "cpu/level/attention_tile.h"
#include "cpu/level/attention_level.h"

/* A block of queries on its way through the tiles. The shift is m, or 0 while no key was kept. */
typedef struct forward_block {
    float *q, *s;         /* panels */
    float *k, *v, *out;   /* the tile on end, its values, the sums of a row: rows of `width` floats */
    float *m, *shift, *l; /* a number a row; l: VL partial sums a row */
    int64_t width;
} forward_block;

/* Scores of queries i .. i+n-1 and one tile, -inf where not kept; most[r] = their maxima. words NULL: all keys are kept. */
static void forward_scores(const attention_head *h, const forward_block *b, int64_t begin, int64_t i,
                           int64_t n, int64_t vectors, uint64_t all, const uint64_t *words, float *most)
{
    product_scores(b->s, b->q + (i - begin) * PANEL, ATTENTION_ROWS, b->k, n, vectors * VL, h->dk);
    for (int64_t r = 0; r < n; r++) {
        const uint64_t word = words ? words[r] : all;
        float *s = b->s + r * PANEL;
        vf m = vsplat(MINUS_INF);

        for (int64_t v = 0; v < vectors; v++) {
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

/* Moves m and shift on to the new maxima; change[r] = e^(m - m'). */
static void forward_maxima(const forward_block *b, int64_t at, int64_t n, const float *most, float *change)
{
    float m[GROUP + VL], shift[GROUP + VL];

    memcpy(m, b->m + at, (size_t)n * sizeof *m);
    for (int64_t r = 0; r < n; r += VL) {
        const vf before = vload(m + r), now = larger(vload(most + r), before);
        const vf base = vselect((vi)(now == MINUS_INF), vsplat(0.0f), now);

        vstore(change + r, exp_down(before - base));
        vstore(m + r, now);
        vstore(shift + r, base);
    }
    memcpy(b->m + at, m, (size_t)n * sizeof *m);
    memcpy(b->shift + at, shift, (size_t)n * sizeof *m);
}

/* Scores to weights e^(s - shift), and their sums. */
static void forward_weights(const attention_head *h, const forward_block *b, int64_t begin, int64_t i,
                            int64_t n, int64_t first, int64_t vectors, const float *change)
{
    for (int64_t r = 0; r < n; r++) {
        const vf shift = vsplat(b->shift[i - begin + r]);
        float *s = b->s + r * PANEL, *l = b->l + (i - begin + r) * VL;
        vf sum = vload(l) * change[r];

        if (h->drops) {
            uint32_t words[PANEL + 2 * VL];

            dropout_words(words, h, i + r, first, vectors);
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = exp_down(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, dropped(p, words + v * VL, h->threshold, h->kept));
            }
        } else {
            for (int64_t v = 0; v < vectors; v++) {
                const vf p = exp_down(vload(s + v * VL) - shift);

                sum += p;
                vstore(s + v * VL, p);
            }
        }
        vstore(l, sum);
    }
}

/* out = O / l and lse = shift + ln l; rows that kept nothing: zeros and -inf. */
static void forward_finish(const attention_head *h, const forward_block *b, const attention_result *to,
                           int64_t begin, int64_t end)
{
    float l[ATTENTION_ROWS + VL];

    for (int64_t i = begin; i < end; i++) {
        const int64_t r = i - begin;
        const float *o = b->out + r * b->width;

        l[r] = vsum_lanes(vload(b->l + r * VL));
        const vf by = vsplat(l[r]);
        const vi none = (vi)(by == 0.0f);
        for (int64_t p = 0; to->out && p < h->dv; p += VL) {
            const vf y = (vf)(~none & (vi)(vload(o + p) / by));

            if (p + VL <= h->dv)
                vstore(to->out + i * h->dv + p, y);
            else
                vstore_part(to->out + i * h->dv + p, y, h->dv - p);
        }
    }
    for (int64_t i = begin; to->lse && i < end; i += VL) {
        const vf sum = vload(l + (i - begin));
        const vf lse = vload(b->shift + (i - begin)) + vf_log(sum); /* ln 0 = -inf */

        if (i + VL <= end)
            vstore(to->lse + i, lse);
        else
            vstore_part(to->lse + i, lse, end - i);
    }
}

/* Where everything lies in the four areas; floats of the largest. */
static int64_t forward_areas(forward_block *b, int64_t dk, int64_t dv, void *const scratch[4])
{
    const int64_t width = whole_vectors(dv), keys = (dk + width) * PANEL, out = width * ATTENTION_ROWS;
    const int64_t q = panels(dk) * ATTENTION_ROWS * PANEL,
                  numbers = GROUP * PANEL + ATTENTION_ROWS * (VL + 2) + 2 * VL;

    if (b) {
        b->width = width;
        b->k = scratch[0];
        b->v = b->k + dk * PANEL;
        b->out = scratch[1];
        b->q = scratch[2];
        b->s = scratch[3];
        b->l = b->s + GROUP * PANEL;
        b->m = b->l + ATTENTION_ROWS * VL;
        b->shift = b->m + ATTENTION_ROWS + VL;
    }
    return kernel_max(kernel_max(keys, out), kernel_max(q, numbers));
}

size_t LEVEL_NAME(attention_forward_bytes)(int64_t dk, int64_t dv)
{
    return (size_t)forward_areas(NULL, dk, dv, NULL) * sizeof(float);
}

/* The vectors that hold kept keys of n rows. */
static int64_t forward_vectors(const uint64_t *words, int64_t n, uint64_t all)
{
    uint64_t any = words ? 0 : all;

    for (int64_t r = 0; words && r < n; r++)
        any |= words[r];
    return word_vectors(any);
}

/* The weights, from final maxima and sums: scores once more, e^(s - shift) / l. */
static void forward_report(const attention_head *h, const forward_block *b, float *weights, int64_t begin,
                           int64_t end)
{
    const attention_mask *m = &h->mask;
    uint64_t words[ATTENTION_ROWS];

    memset(weights + begin * m->tk, 0, (size_t)((end - begin) * m->tk) * sizeof *weights);
    for (int64_t first = heed__attention_next(m, begin, end, 0); first < m->length;
         first = heed__attention_next(m, begin, end, first + PANEL)) {
        const int64_t keys = kernel_min(PANEL, m->length - first);
        const attention_tile kind = heed__attention_words(m, begin, end, first, words);

        if (kind == ATTENTION_SKIP)
            continue;
        pack_tile(b->k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        for (int64_t i = begin; i < end; i += GROUP) {
            const int64_t n = kernel_min(GROUP, end - i);
            float most[GROUP + VL];

            forward_scores(h, b, begin, i, n, kernel_ceil(keys, VL), whole_word(keys),
                           kind == ATTENTION_PART ? words + (i - begin) : NULL, most);
            for (int64_t r = 0; r < n; r++) {
                const vf shift = vsplat(b->shift[i - begin + r]),
                         by = vsplat(vsum_lanes(vload(b->l + (i - begin + r) * VL)));
                float *to = weights + (i + r) * m->tk + first;

                for (int64_t v = 0; v < keys && by[0] != 0; v += VL) {
                    const vf w = exp_down(vload(b->s + r * PANEL + v) - shift) / by;

                    if (v + VL <= keys)
                        vstore(to + v, w);
                    else
                        vstore_part(to + v, w, keys - v);
                }
            }
        }
    }
}

void LEVEL_NAME(attention_forward)(const attention_head *h, const attention_result *to, int64_t begin,
                                   int64_t end, void *const scratch[4])
{
    const attention_mask *m = &h->mask;
    const int64_t n_rows = end - begin;
    uint64_t words[ATTENTION_ROWS];
    bool any = false;
    forward_block b;

    (void)forward_areas(&b, h->dk, h->dv, scratch);
    clear_rows(b.out, b.width, n_rows, b.width);
    clear_rows(b.l, VL, n_rows, VL);
    for (int64_t r = 0; r < n_rows + VL; r++) {
        b.m[r] = MINUS_INF;
        b.shift[r] = 0;
    }
    pack_panels(b.q, ATTENTION_ROWS, h->q + begin * h->q_step, h->q_step,
                kernel_min(end, m->q_length) - begin, h->dk, h->scale);
    for (int64_t first = heed__attention_next(m, begin, end, 0); first < m->length;
         first = heed__attention_next(m, begin, end, first + PANEL)) {
        const int64_t keys = kernel_min(PANEL, m->length - first);
        const attention_tile kind = heed__attention_words(m, begin, end, first, words);

        if (kind == ATTENTION_SKIP)
            continue;
        pack_tile(b.k, h->k + first * h->k_step, h->k_step, keys, h->dk);
        pack(b.v, b.width, h->v + first * h->v_step, h->v_step, keys, h->dv);
        for (int64_t i = begin; i < end; i += GROUP) {
            const int64_t n = kernel_min(GROUP, end - i), at = i - begin;
            const uint64_t *row_words = kind == ATTENTION_PART ? words + at : NULL;
            const int64_t vectors = forward_vectors(row_words, n, whole_word(keys));
            float most[GROUP + VL], change[GROUP + VL];

            if (vectors == 0)
                continue;
            forward_scores(h, &b, begin, i, n, vectors, whole_word(keys), row_words, most);
            forward_maxima(&b, at, n, most, change);
            forward_weights(h, &b, begin, i, n, first, vectors, change);
            if (any)
                scale_rows(b.out + at * b.width, b.width, n, change);
            product(ROW, b.out + at * b.width, b.width, b.s, b.v, b.width, n, b.width,
                    kernel_min(keys, vectors * VL), true);
        }
        any = true;
    }
    forward_finish(h, &b, to, begin, end);
    if (to->weights)
        forward_report(h, &b, to->weights, begin, end);
}
