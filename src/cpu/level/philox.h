/* Philox4x32-10 (base/rng.h) for many columns of one row at a time. A 64-bit lane holds one 32-bit word of the counter; its
 * upper half may hold rubbish, because the multiplication reads the lower half only. */
#ifndef CPU_LEVEL_PHILOX_H
#define CPU_LEVEL_PHILOX_H

#include "cpu/vec.h"

#define PHILOX_QUADS (VL / 2) /* counters at a time, of four words each */

typedef uint64_t vu64 __attribute__((vector_size(VL * 4)));

/* Products of the lower halves. */
VEC_INLINE vu64 philox_mul(vu64 a, uint32_t m)
{
    const vu64 b = (uint64_t)m - (vu64){ 0 };

#if LEVEL == 4
    return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif LEVEL == 3
    return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
    return (a & 0xffffffffu) * b;
#endif
}

/* The lanes of two vectors by turns: the first half, then the second. */
VEC_INLINE void philox_zip(vu64 a, vu64 b, vu64 *first, vu64 *second)
{
#if LEVEL == 4
    const __m512i low = { 0, 8, 1, 9, 2, 10, 3, 11 }, high = { 4, 12, 5, 13, 6, 14, 7, 15 };

    *first = (vu64)_mm512_permutex2var_epi64((__m512i)a, low, (__m512i)b);
    *second = (vu64)_mm512_permutex2var_epi64((__m512i)a, high, (__m512i)b);
#elif LEVEL == 3
    const __m256i low = _mm256_unpacklo_epi64((__m256i)a, (__m256i)b),
                  high = _mm256_unpackhi_epi64((__m256i)a, (__m256i)b);

    *first = (vu64)_mm256_permute2x128_si256(low, high, 0x20);
    *second = (vu64)_mm256_permute2x128_si256(low, high, 0x31);
#else
    *first = (vu64){ a[0], b[0] };
    *second = (vu64){ a[1], b[1] };
#endif
}

/* Words of columns 4 * quad .. of a row, in order of columns: 4 * PHILOX_QUADS of them (those of heed__rng_quad). */
VEC_INLINE void philox_words(uint32_t *to, uint64_t seed, uint32_t step, uint32_t node, uint32_t row,
                             uint32_t quad)
{
#if LEVEL == 4
    vu64 c0 = (vu64){ 0, 1, 2, 3, 4, 5, 6, 7 } + quad;
#elif LEVEL == 3
    vu64 c0 = (vu64){ 0, 1, 2, 3 } + quad;
#else
    vu64 c0 = (vu64){ 0, 1 } + quad;
#endif
    vu64 c1 = row - (vu64){ 0 }, c2 = step - (vu64){ 0 }, c3 = node - (vu64){ 0 }, first, second;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

    for (int i = 0; i < 10; i++) {
        const vu64 a = philox_mul(c0, 0xD2511F53u), b = philox_mul(c2, 0xCD9E8D57u);

        c0 = (b >> 32) ^ c1 ^ k0;
        c1 = b;
        c2 = (a >> 32) ^ c3 ^ k1;
        c3 = a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    philox_zip((c0 & 0xffffffffu) | c1 << 32, (c2 & 0xffffffffu) | c3 << 32, &first, &second);
    memcpy(to, &first, sizeof first);
    memcpy(to + VL, &second, sizeof second);
}

#endif
