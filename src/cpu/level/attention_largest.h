/* The largest numbers of a row that comes a tile at a time, with their keys.
 *
 * Up to FEW of them are a list in falling order that lies in registers while a tile of a row is looked at; most tiles have no
 * score above its last and cost one compare. x is put in by
 *
 *   z_e = max(z_e, min(z_e-1, x)),  z_-1 = +inf,
 *
 * which leaves z as it is when x does not belong there. More are collected: scores above a bound, with their keys; when there are
 * too many, the k largest of them stay in a heap and the least of those is the new bound. Either way keys come in rising order and
 * one that only equals what is there is behind it, so ties go to the lower key. */
#ifndef CPU_LEVEL_ATTENTION_LARGEST_H
#define CPU_LEVEL_ATTENTION_LARGEST_H

#include "cpu/level/attention_tile.h"

enum { FEW = 32, RENEW = 8 }; /* RENEW: so many are put in before the rest of a tile is compared again */

/* The lanes of a mask as bits. */
VEC_INLINE uint32_t lane_bits(vi mask)
{
#if LEVEL == 4
    return (uint32_t)_mm512_movepi32_mask((__m512i)mask);
#elif LEVEL == 3
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    return (uint32_t)((mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8));
#endif
}

/* The lanes of x one place up, behind the last of `before`. */
VEC_INLINE vi lanes_up(vi x, vi before)
{
#if LEVEL == 4
    return (vi)_mm512_alignr_epi32((__m512i)x, (__m512i)before, VL - 1);
#elif LEVEL == 3
    const __m256i up = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);

    return (vi)_mm256_blend_epi32(_mm256_permutevar8x32_epi32((__m256i)x, up),
                                  _mm256_permutevar8x32_epi32((__m256i)before, up), 1);
#else
    return (vi){ before[VL - 1], x[0], x[1], x[2] };
#endif
}

/* The keys of a row's tile whose scores are above the bound, as bits. */
VEC_INLINE uint64_t above_bound(const float *s, int64_t vectors, float bound)
{
    uint64_t word = 0;

    for (int64_t v = 0; v < vectors; v++)
        word |= (uint64_t)lane_bits((vi)(vload(s + v * VL) > vsplat(bound))) << (v * VL);
    return word;
}

/* Puts what a row's tile has above the k-th of its list into the list of w vectors; the new k-th. */
VEC_INLINE float put_in(float *list, int32_t *list_keys, const int64_t w, int64_t k, const float *s, int64_t vectors,
                        int32_t first)
{
    vf z[FEW / VL];
    vi key[FEW / VL];
    int renew = RENEW;

    UNROLL for (int64_t v = 0; v < w; v++)
    {
        z[v] = vload(list + v * VL);
        memcpy(&key[v], list_keys + v * VL, sizeof key[v]);
    }
    for (uint64_t word = above_bound(s, vectors, list[k - 1]); word;) {
        const int at = __builtin_ctzll(word);
        const vf x = vsplat(s[at]);
        vf z_before = vsplat(-MINUS_INF);
        vi key_before = { 0 };

        UNROLL for (int64_t v = 0; v < w; v++)
        {
            const vf z_here = z[v], z_up = (vf)lanes_up((vi)z_here, (vi)z_before);
            const vi key_here = key[v], key_up = lanes_up(key_here, key_before);

            z[v] = larger(z_here, smaller(z_up, x));
            key[v] = (vi)vselect((vi)(x > z_here), vselect((vi)(x > z_up), (vf)key_up, (vf)(first + at - (vi){ 0 })),
                                 (vf)key_here);
            z_before = z_here;
            key_before = key_here;
        }
        word &= word - 1;
        if (--renew == 0) {
            UNROLL for (int64_t v = 0; v < w; v++) vstore(list + v * VL, z[v]);
            word &= above_bound(s, vectors, list[k - 1]);
            renew = RENEW;
        }
    }
    UNROLL for (int64_t v = 0; v < w; v++)
    {
        vstore(list + v * VL, z[v]);
        memcpy(list_keys + v * VL, &key[v], sizeof key[v]);
    }
    return list[k - 1];
}

static void swap_scores(float *z, int32_t *key, int64_t a, int64_t b)
{
    const float x = z[a];
    const int32_t j = key[a];

    z[a] = z[b];
    key[a] = key[b];
    z[b] = x;
    key[b] = j;
}

/* A heap whose root is the least; of equals the higher key is less. */
static bool heap_less(const float *z, const int32_t *key, int64_t a, int64_t b)
{
    return z[a] < z[b] || (!(z[b] < z[a]) && key[a] > key[b]);
}

static void heap_sink(float *z, int32_t *key, int64_t n, int64_t at)
{
    for (int64_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && heap_less(z, key, child + 1, child))
            child++;
        if (!heap_less(z, key, child, at))
            return;
        swap_scores(z, key, child, at);
        at = child;
    }
}

/* Takes the k largest of n out, in falling order. */
static void select_many(float *z, int32_t *key, int64_t n, int64_t k)
{
    for (int64_t at = k / 2; at >= 0; at--)
        heap_sink(z, key, k, at);
    for (int64_t i = k; i < n; i++)
        if (heap_less(z, key, 0, i)) {
            swap_scores(z, key, 0, i);
            heap_sink(z, key, k, 0);
        }
    for (int64_t left = k - 1; left > 0; left--) {
        swap_scores(z, key, 0, left);
        heap_sink(z, key, left, 0);
    }
}

/* Adds the scores of a vector that are above the bound, and their keys; a vector behind them is written. */
VEC_INLINE int64_t collect(float *z, int32_t *key, int64_t n, vf x, vf bound, int32_t first)
{
#if LEVEL == 4
    const __mmask16 above = _mm512_cmp_ps_mask((__m512)x, (__m512)bound, _CMP_GT_OQ);
    const __m512i keys = _mm512_cvtps_epi32((__m512)lane_numbers());

    _mm512_storeu_ps(z + n, _mm512_maskz_compress_ps(above, (__m512)x));
    _mm512_storeu_si512(key + n, _mm512_maskz_compress_epi32(above, _mm512_add_epi32(keys, _mm512_set1_epi32(first))));
    return n + __builtin_popcount(above);
#else
    for (uint32_t above = lane_bits((vi)(x > bound)); above; above &= above - 1) {
        const int lane = __builtin_ctz(above);

        z[n] = x[lane];
        key[n++] = first + lane;
    }
    return n;
#endif
}

#endif
