/* Vectors for the files of cpu/level/, which are compiled once per instruction level.
 *
 *   level      compiled with           VL   multiply-add
 *   portable   no vector flags          4   a * b + c, rounded twice
 *   v3         -march=x86-64-v3         8   _mm256_fmadd_ps
 *   v4         -march=x86-64-v4        16   _mm512_fmadd_ps
 *   neon       -march=armv8-a           4   vfmaq_f32
 *
 * Vector types are the compilers' vector extensions, so + - * / & | < and ?: are lane-wise IEEE operations and give the same
 * bits from gcc and clang. A multiply-add is always written vfma: compiled with -std=c11 -ffp-contract=off neither
 * compiler fuses by itself, and rounding is then the same everywhere.
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

static inline vf vload(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v); /* any alignment; one instruction */
    return v;
}

static inline void vstore(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

static inline vf vsplat(float x)
{
    return x - (vf){ 0 }; /* x - 0 keeps the sign of zero */
}

/* a * b + c: fused from v3 and NEON on, rounded twice at the portable level. */
static inline vf vfma(vf a, vf b, vf c)
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
static inline float sfma(float a, float b, float c)
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
static inline vf vselect(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* The larger; a NaN in either gives NaN (PyTorch's rule for max). */
static inline vf vmax(vf a, vf b)
{
    return vselect((a > b) | (a != a), a, b);
}

static inline vf vmin(vf a, vf b)
{
    return vselect((a < b) | (a != a), a, b);
}

static inline vf vabs(vf a)
{
    return (vf)((vi)a & 0x7fffffff);
}

#endif
