/* Maxima of 2 x 2 windows side by side, and their gradient; compiled once per level.
 *
 *   a b   from the upper row     the result is the first of the largest, in the order a b c d; a NaN wins
 *   c d   from the lower row     its index is first + 2 p + { 0, 1, width, width + 1 }
 *
 * No branch depends on the numbers: with noise in them every second one would be guessed wrong. */

#include <stdbool.h>

#include "cpu/vec.h"

typedef int64_t vlong __attribute__((vector_size(VL * 8)));

/* Even and odd elements of 2 VL floats, and the way back. */
#if VL == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif VL == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define LANES 0, 1, 2, 3, 4, 5, 6, 7
#else
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define LANES 0, 1, 2, 3
#endif

/* All ones where y takes x's place. */
VEC_INLINE vi pool_beats(vf y, vf x)
{
    return (y > x) | (y != y);
}

VEC_INLINE void pool_window(float *y, int64_t *index, const float *upper, const float *lower, int64_t first,
                            int32_t width)
{
    const vf u0 = vload(upper), u1 = vload(upper + VL), l0 = vload(lower), l1 = vload(lower + VL);
    const vf a = __builtin_shufflevector(u0, u1, EVEN), b = __builtin_shufflevector(u0, u1, ODD);
    const vf c = __builtin_shufflevector(l0, l1, EVEN), d = __builtin_shufflevector(l0, l1, ODD);
    const vi right = pool_beats(b, a), under_right = pool_beats(d, c);
    const vf top = vselect(right, b, a), bottom = vselect(under_right, d, c);
    const vi under = pool_beats(bottom, top), lanes = { LANES };
    const vi off = 2 * lanes + ((~under & right) & 1) + (under & (width + (under_right & 1)));
    const vlong at = __builtin_convertvector(off, vlong) + first;

    vstore(y, vselect(under, bottom, top));
    memcpy(index, &at, sizeof at);
}

void LEVEL_NAME(max_quads)(float *y, int64_t *index, const float *upper, const float *lower, int64_t n,
                           int64_t first, int32_t width)
{
    float pair[2][2 * VL] = { { 0 } }, most[VL];
    int64_t at[VL], p = 0;

    for (; p <= n - VL; p += VL)
        pool_window(y + p, index + p, upper + 2 * p, lower + 2 * p, first + 2 * p, width);
    if (p < n) {
        const size_t left = (size_t)(n - p);

        memcpy(pair[0], upper + 2 * p, 2 * left * sizeof(float));
        memcpy(pair[1], lower + 2 * p, 2 * left * sizeof(float));
        pool_window(most, at, pair[0], pair[1], first + 2 * p, width);
        memcpy(y + p, most, left * sizeof *y);
        memcpy(index + p, at, left * sizeof *index);
    }
}

/* False when an index lies outside its window. */
VEC_INLINE bool pool_spread(float *upper, float *lower, const float *dy, const int64_t *index, int64_t first,
                            int32_t width)
{
    const vi lanes = { LANES };
    const vf up = vload(dy), none = vsplat(0.0f);
    vi off, found;
    vlong at;
    vf a, b, c, d;

    memcpy(&at, index, sizeof at);
    off = __builtin_convertvector(at - first, vi) - 2 * lanes;
    found = (off == 0) | (off == 1) | (off == width) | (off == width + 1);
    a = vselect(off == 0, up, none);
    b = vselect(off == 1, up, none);
    c = vselect(off == width, up, none);
    d = vselect(off == width + 1, up, none);
    vstore(upper, __builtin_shufflevector(a, b, LOW));
    vstore(upper + VL, __builtin_shufflevector(a, b, HIGH));
    vstore(lower, __builtin_shufflevector(c, d, LOW));
    vstore(lower + VL, __builtin_shufflevector(c, d, HIGH));
    for (int i = 0; i < VL; i++)
        if (!found[i])
            return false;
    return true;
}

bool LEVEL_NAME(max_quads_grad)(float *upper, float *lower, const float *dy, const int64_t *index, int64_t n,
                                int64_t first, int32_t width)
{
    float pair[2][2 * VL], up[VL] = { 0 };
    int64_t at[VL], p = 0;
    bool inside = true;

    for (; p <= n - VL; p += VL)
        inside &= pool_spread(upper + 2 * p, lower + 2 * p, dy + p, index + p, first + 2 * p, width);
    if (p < n) {
        const size_t left = (size_t)(n - p);

        for (int64_t i = 0; i < VL; i++)
            at[i] = p + i < n ? index[p + i] : first + 2 * (p + i);
        memcpy(up, dy + p, left * sizeof *up);
        inside &= pool_spread(pair[0], pair[1], up, at, first + 2 * p, width);
        memcpy(upper + 2 * p, pair[0], 2 * left * sizeof(float));
        memcpy(lower + 2 * p, pair[1], 2 * left * sizeof(float));
    }
    return inside;
}
