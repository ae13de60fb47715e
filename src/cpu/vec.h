/* Vectors for the files of cpu/level/, which are compiled once per instruction level.
 *
 *   level      compiled with           VL   multiply-add
 *   portable   no vector flags          4   a * b + c, rounded twice
 *   v3         -march=x86-64-v3         8   _mm256_fmadd_ps
 *   v4         -march=x86-64-v4        16   _mm512_fmadd_ps
 *   neon       -march=armv8-a           4   vfmaq_f32
 *
 * Vector types are the compilers' vector extensions, so + - * / & | < and ?: are lane-wise IEEE operations
 * and give the same bits from gcc and clang. A multiply-add is always written vfma: compiled with -std=c11
 * -ffp-contract=off neither compiler fuses by itself, and rounding is then the same everywhere.
 *
 * HEED_LEVEL is portable, v3, v4 or neon; LEVEL_NAME(gemm) makes heed__gemm_v3 and so on. */
#ifndef CPU_VEC_H
#define CPU_VEC_H

#include <stdint.h>
#include <string.h>

#ifndef HEED_LEVEL
#define HEED_LEVEL portable
#endif
#define LEVEL_PASTE_(a, b) heed__##a##_##b
#define LEVEL_PASTE(a, b) LEVEL_PASTE_(a, b)
#define LEVEL_NAME(name) LEVEL_PASTE(name, HEED_LEVEL)

#define HEED_LEVEL_IS_portable 1
#define HEED_LEVEL_IS_v3 3
#define HEED_LEVEL_IS_v4 4
#define HEED_LEVEL_IS_neon 5
#define LEVEL_NUMBER_(a) HEED_LEVEL_IS_##a
#define LEVEL_NUMBER(a) LEVEL_NUMBER_(a)
#define LEVEL LEVEL_NUMBER(HEED_LEVEL)

#if LEVEL == 4
#include <immintrin.h>
#define VL 16
#elif LEVEL == 3
#include <immintrin.h>
#define VL 8
#elif LEVEL == 5
#include <arm_neon.h>
#define VL 4
#else
#define VL 4
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));

/* Small enough to be part of the loop that calls it, whatever the compiler's own measure says. */
#define VEC_INLINE static inline __attribute__((always_inline))

VEC_INLINE vf vload(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v); /* any alignment; one instruction */
    return v;
}

VEC_INLINE void vstore(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

VEC_INLINE vf vsplat(float x)
{
    return x - (vf){ 0 }; /* x - 0 keeps the sign of zero */
}

/* a * b + c: fused from v3 and NEON on, rounded twice at the portable level. */
VEC_INLINE vf vfma(vf a, vf b, vf c)
{
#if LEVEL == 4
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LEVEL == 3
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif LEVEL == 5
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

/* The same for one number, so that a tail has the bits of a lane. */
VEC_INLINE float sfma(float a, float b, float c)
{
#if LEVEL == 4 || LEVEL == 3
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
#elif LEVEL == 5
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* yes where the mask lane is all ones, no where it is zero. */
VEC_INLINE vf vselect(vi mask, vf yes, vf no)
{
#if LEVEL == 3
    return (vf)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask);
#else
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
#endif
}

/* The larger; a NaN in either gives NaN (PyTorch's rule for max). */
VEC_INLINE vf vmax(vf a, vf b)
{
    return vselect((a > b) | (a != a), a, b);
}

VEC_INLINE vf vmin(vf a, vf b)
{
    return vselect((a < b) | (a != a), a, b);
}

VEC_INLINE vf vabs(vf a)
{
    return (vf)((vi)a & 0x7fffffff);
}

/* Square root of each lane, correctly rounded. */
VEC_INLINE vf vsqrt(vf a)
{
#if LEVEL == 4
    return (vf)_mm512_sqrt_ps((__m512)a);
#elif LEVEL == 3
    return (vf)_mm256_sqrt_ps((__m256)a);
#elif LEVEL == 5
    return (vf)vsqrtq_f32((float32x4_t)a);
#else
    return (vf){ __builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3]) };
#endif
}

/* The first `count` of VL lanes (0 < count < VL): the rest of a row that is no multiple of VL long. Memory
 * behind them is neither read nor written; the other lanes are zero. So a tail has the bits of a full
 * vector. */
VEC_INLINE vi vfirst(int64_t count)
{
#if LEVEL == 4
    const vi lane = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
#elif LEVEL == 3
    const vi lane = { 0, 1, 2, 3, 4, 5, 6, 7 };
#else
    const vi lane = { 0, 1, 2, 3 };
#endif
    return (vi)(lane < (int32_t)count);
}

VEC_INLINE vf vload_part(const float *p, int64_t count)
{
#if LEVEL == 4
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#elif LEVEL == 3
    return (vf)_mm256_maskload_ps(p, (__m256i)vfirst(count));
#else
    return (vf){ p[0], count > 1 ? p[1] : 0, count > 2 ? p[2] : 0, 0 };
#endif
}

VEC_INLINE void vstore_part(float *p, vf v, int64_t count)
{
#if LEVEL == 4
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#elif LEVEL == 3
    _mm256_maskstore_ps(p, (__m256i)vfirst(count), (__m256)v);
#else
    p[0] = v[0];
    if (count > 1)
        p[1] = v[1];
    if (count > 2)
        p[2] = v[2];
#endif
}

/* Is any lane of the mask set? */
VEC_INLINE int vany(vi mask)
{
#if LEVEL == 4
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif LEVEL == 3
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

/* Lanes folded in halves: lane i with lane i + VL / 2, and so on. One tree for every compiler. */
VEC_INLINE float vsum_lanes(vf v)
{
#if LEVEL == 4 || LEVEL == 3
#if LEVEL == 4
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    const __m256 eight = (__m256)v;
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

/* The largest lane; NaN if there is one. */
VEC_INLINE float vmax_lanes(vf v)
{
    float lane[VL], most;

    if (vany((vi)(v != v)))
        return __builtin_nanf("");
#if LEVEL == 4 || LEVEL == 3
#if LEVEL == 4
    const __m256 eight =
        _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    const __m256 eight = (__m256)v;
#endif
    _mm_storeu_ps(lane, _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
#else
    memcpy(lane, &v, sizeof lane);
#endif
    most = lane[0];
    for (int i = 1; i < 4; i++)
        most = lane[i] > most ? lane[i] : most;
    return most;
}

#endif
