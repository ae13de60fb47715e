/* f16 and bf16 as storage: widened to float exactly, narrowed to the nearest, ties to even.
 *
 * The levels that have conversion instructions (F16C) use them; the others compute the same bits: overflow
 * gives infinity, small numbers become denormal, a NaN stays one, quiet, with the upper bits of its
 * payload. */
#ifndef CPU_LEVEL_HALF_H
#define CPU_LEVEL_HALF_H

#include "cpu/vec.h"

typedef uint16_t vhu __attribute__((vector_size(VL * 2)));

VEC_INLINE vhu vhload(const uint16_t *p)
{
    vhu v;
    memcpy(&v, p, sizeof v);
    return v;
}

VEC_INLINE void vhstore(uint16_t *p, vhu v)
{
    memcpy(p, &v, sizeof v);
}

VEC_INLINE vf vf_from_bf16(vhu x)
{
    return (vf)(__builtin_convertvector(x, vu) << 16);
}

VEC_INLINE vhu vf_to_bf16(vf x)
{
    const vu u = (vu)x;
    const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const vu quiet = (u >> 16) | 0x40u;

    return __builtin_convertvector((vu)vselect((vi)(x != x), (vf)quiet, (vf)rounded), vhu);
}

VEC_INLINE vf vf_from_f16(vhu x)
{
#if LEVEL == 4
    return (vf)_mm512_cvtph_ps((__m256i)x);
#elif LEVEL == 3
    return (vf)_mm256_cvtph_ps((__m128i)x);
#else
    const vu u = __builtin_convertvector(x, vu);
    const vu magnitude = (u & 0x7fffu) << 13;
    const vi special = (vi)(magnitude >= 0x0f800000u); /* infinity, NaN */
    const vi denormal = (vi)(magnitude < 0x00800000u);
    const vu moved =
        magnitude + 0x38000000u + ((vu)special & 0x38000000u); /* exponent bias 15 -> 127, 31 -> 255 */
    const vf small = (vf)(magnitude + 0x38800000u) - 0x1p-14f; /* 2^-14 (1 + fraction) - 2^-14 */
    const vu quiet = (vu)(vi)(magnitude > 0x0f800000u) & 0x00400000u;

    return (vf)((vu)vselect(denormal, small, (vf)(moved | quiet)) | ((u & 0x8000u) << 16));
#endif
}

VEC_INLINE vhu vf_to_f16(vf x)
{
#if LEVEL == 4
    return (vhu)_mm512_maskz_cvtps_ph((__mmask16)0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT);
#elif LEVEL == 3
    return (vhu)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#else
    const vu sign = ((vu)x >> 16) & 0x8000u, u = (vu)x & 0x7fffffffu;
    const vu normal = (u - 0x38000000u + 0xfffu + ((u >> 13) & 1u)) >> 13;
    const vu small =
        (vu)((vf)u + 0.5f) - 0x3f000000u; /* 1/2 has the ulp of the smallest f16: the addition rounds */
    const vu nan = 0x7e00u | ((u >> 13) & 0x1ffu);
    vu y = (vu)vselect((vi)(u < 0x38800000u), (vf)small, (vf)normal);

    y = (vu)vselect((vi)(u >= 0x47800000u), (vf)(y - y + 0x7c00u), (vf)y); /* 65536 and more */
    y = (vu)vselect((vi)(u > 0x7f800000u), (vf)nan, (vf)y);
    return __builtin_convertvector(y | sign, vhu);
#endif
}

#endif
