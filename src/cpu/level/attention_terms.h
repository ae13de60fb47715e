/* From scores to logits, the same in forward, in the second pass of probes and in backward:
 *
 *   s_ij += row_rel[i, clip(j - p + row_zero, 0, row_size - 1)] + rel[j - i + tq - 1] + bias_ij
 *   z_ij  = softcap tanh(s_ij / softcap) / temperature
 *
 * A head has few of these terms or none: each is a pass of its own over scores that lie in L1, and its branch stands outside of
 * the loops. Lanes behind the last key of a tile hold anything afterwards; nothing is read for them.
 *
 * Backward needs z alone: with s' = z temperature, dz/ds = (1 - (s'/softcap)^2) / temperature. */
#ifndef CPU_LEVEL_ATTENTION_TERMS_H
#define CPU_LEVEL_ATTENTION_TERMS_H

#include "cpu/level/attention_tile.h"

/* Does a head change its scores at all? Asked once a tile, so that plain attention pays nothing. */
static inline bool has_terms(const attention_head *h)
{
    return h->bias || h->rel || h->row_rel || h->softcap > 0 || h->temperature != 1;
}

/* Where the bias of query i and key j stands if it is read row by row: a matrix of size T x T comes from far. */
static inline const float *bias_ahead(const attention_head *h, int64_t i, int64_t j)
{
    return h->bias && h->bias_key ? h->bias + i * h->bias_row + j : NULL;
}

/* s[j] += from[j] for j < keys. */
VEC_INLINE void add_terms(float *s, const float *from, int64_t keys, int64_t vectors)
{
    for (int64_t v = 0; v < vectors; v++) {
        const int64_t left = keys - v * VL;
        const vf x = left >= VL ? vload(from + v * VL) : vload_part(from + v * VL, left);

        vstore(s + v * VL, vload(s + v * VL) + x);
    }
}

/* Relative positions are the row itself where the clip does nothing, and its ends beside it. */
VEC_INLINE vf row_rel_vector(const float *row, int64_t size, int64_t at)
{
    vf x;

    if (at >= 0 && at + VL <= size)
        return vload(row + at);
    if (at + VL <= 1 || at >= size - 1)
        return vsplat(at < 0 ? row[0] : row[size - 1]);
    for (int64_t lane = 0; lane < VL; lane++)
        x[lane] = row[kernel_max(0, kernel_min(at + lane, size - 1))];
    return x;
}

/* Queries i .. i+n-1 against the first `vectors` vectors of the tile that begins at key `first` and has `keys` keys: rows of 64
 * scores, already scaled, become logits. */
static inline void add_all_terms(const attention_head *h, float *s, int64_t i, int64_t n, int64_t first,
                                 int64_t keys, int64_t vectors)
{
    const attention_mask *m = &h->mask;

    for (int64_t r = 0; h->row_rel && r < n; r++) {
        const float *row = h->row_rel + (i + r) * h->row_size;
        const int64_t at = first - (i + r + m->offset) + h->row_zero;

        for (int64_t v = 0; v < vectors; v++)
            vstore(s + r * PANEL + v * VL,
                   vload(s + r * PANEL + v * VL) + row_rel_vector(row, h->row_size, at + v * VL));
    }
    for (int64_t r = 0; h->rel && r < n; r++)
        add_terms(s + r * PANEL, h->rel + first - (i + r) + m->tq - 1, keys, vectors);
    for (int64_t r = 0; h->bias && h->bias_key && r < n; r++)
        add_terms(s + r * PANEL, h->bias + (i + r) * h->bias_row + first, keys, vectors);
    for (int64_t r = 0; h->bias && !h->bias_key && r < n; r++)
        for (int64_t v = 0; v < vectors; v++)
            vstore(s + r * PANEL + v * VL,
                   vload(s + r * PANEL + v * VL) + vsplat(h->bias[(i + r) * h->bias_row]));
    for (int64_t r = 0; h->softcap > 0 && r < n; r++)
        for (int64_t v = 0; v < vectors; v++)
            vstore(s + r * PANEL + v * VL,
                   vf_tanh(vload(s + r * PANEL + v * VL) / vsplat(h->softcap)) * vsplat(h->softcap));
    for (int64_t r = 0; h->temperature != 1 && r < n; r++) /* divided: a reciprocal would round 1e4 away */
        for (int64_t v = 0; v < vectors; v++)
            vstore(s + r * PANEL + v * VL, vload(s + r * PANEL + v * VL) / vsplat(h->temperature));
}

#endif
