/* Vector mathematics in float: exp, log, tanh, erf, sin, cos, pow and the activations built on them.
 *
 * Only lane-wise + - * /, square root, vfma, integer operations and selects are used, so every compiler gives
 * the same bits at a level, and no libm is asked. Polynomials are minimax fits of the error named beside
 * them; the bounds in ULP hold at every level (at the portable level vfma rounds twice) and are what
 * tests/cpu_math_test.c checks.
 *
 * A NaN gives a NaN. Unless a comment says more, infinities and results below FLT_MIN are right. */
#ifndef CPU_LEVEL_MATH_H
#define CPU_LEVEL_MATH_H

#include "cpu/vec.h"

#define MATH_INF (__builtin_inff())
#define MATH_LOG2E 0x1.715476p+0f
#define MATH_LN2_HI 0x1.62e4p-1f /* 15 bits: times an exponent of 8 bits it is exact without fma */
#define MATH_LN2_LO 0x1.7f7d1cp-20f
#define MATH_ROUND                                                                                           \
    0x1.8p23f /* x + this - this rounds |x| < 2^22 to an integer, which is left in the low bits */

VEC_INLINE vf vf_sign_of(vf magnitude, vf sign)
{
    return (vf)(((vi)magnitude & 0x7fffffff) | ((vi)sign & ~0x7fffffff));
}

/* The largest integer <= x. */
VEC_INLINE vf vf_floor(vf x)
{
    const vf magnitude = vabs(x);
    vf r = vf_sign_of((magnitude + vsplat(0x1p23f)) - vsplat(0x1p23f), x);

    r = vf_sign_of(vselect((vi)(r > x), r - vsplat(1.0f), r), x); /* floor(-0) is -0 */
    return vselect((vi)(magnitude < 0x1p23f), r, x);              /* beyond 2^23 all are integers */
}

/* (e^r - 1 - r) / r^2 for |r| <= ln2 / 2. */
VEC_INLINE vf math_exp_rest(vf r)
{
    vf p = vsplat(0x1.a032eep-13f);

    p = vfma(p, r, vsplat(0x1.6d755ep-10f));
    p = vfma(p, r, vsplat(0x1.11118cp-7f));
    p = vfma(p, r, vsplat(0x1.5554aep-5f));
    p = vfma(p, r, vsplat(0x1.555554p-3f));
    return vfma(p, r, vsplat(0.5f)); /* 2^-31 of e^r - 1 */
}

/* x = k ln2 + r, |r| <= ln2 / 2, for |x| < 2^15; *bits has k in its low bits. */
VEC_INLINE vf math_exp_reduce(vf x, vf *k, vu *bits)
{
    const vf t = vfma(x, vsplat(MATH_LOG2E), vsplat(MATH_ROUND));

    *bits = (vu)t;
    *k = t - vsplat(MATH_ROUND);
    return vfma(*k, vsplat(-MATH_LN2_LO), vfma(*k, vsplat(-MATH_LN2_HI), x));
}

/* e^x: at most 1.1 ULP, denormal results included; above 88.7228 infinity, below -103.9721 zero.
 *
 * 2^k is multiplied in two steps, because k reaches from -150 to 128. What would round to zero is made zero
 * by a mask: CPUs that handle denormals in microcode then lose no time on the -inf of a masked softmax. */
VEC_INLINE vf vf_exp(vf x)
{
    const vi vanishes = (vi)(x < -104.0f);
    const vf inside = vselect((vi)(x > 89.0f), vsplat(89.0f), vselect(vanishes, vsplat(-104.0f), x));
    vf k;
    vu bits;
    const vf r = math_exp_reduce(inside, &k, &bits);
    const vf y = vsplat(1.0f) + vfma(r * r, math_exp_rest(r), r);

#if LEVEL == 4
    return (vf)_mm512_maskz_scalef_ps((__mmask16)~_mm512_movepi32_mask((__m512i)vanishes), (__m512)y,
                                      (__m512)k);
#else
    const vu half = bits >> 1; /* the magic number is even, and its half vanishes when shifted by 23 */
    const vf first = (vf)((half << 23) + 0x3f800000u);
    const vf second = (vf)((vi)(((bits - half) << 23) + 0x3f800000u) & ~vanishes);

    return y * first * second;
#endif
}

/* e^x - 1 for |x| < 60: at most 2 ULP. */
VEC_INLINE vf math_expm1(vf x)
{
    vf k;
    vu bits;
    const vf r = math_exp_reduce(x, &k, &bits);
    const vf scale = (vf)((bits << 23) + 0x3f800000u);

    return vfma(scale, vfma(r * r, math_exp_rest(r), r), scale - vsplat(1.0f));
}

/* (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f between sqrt(1/2) and sqrt(2). */
VEC_INLINE vf math_log_rest(vf f)
{
    vf p = vsplat(0x1.1457a4p-4f);

    p = vfma(p, f, vsplat(-0x1.de3c12p-4f));
    p = vfma(p, f, vsplat(0x1.e6f06ap-4f));
    p = vfma(p, f, vsplat(-0x1.fc2208p-4f));
    p = vfma(p, f, vsplat(0x1.233768p-3f));
    p = vfma(p, f, vsplat(-0x1.555c4ep-3f));
    p = vfma(p, f, vsplat(0x1.99a4b6p-3f));
    p = vfma(p, f, vsplat(-0x1.000006p-2f));
    return vfma(p, f, vsplat(0x1.555548p-2f)); /* 2^-30 of log(1 + f) */
}

/* k ln2 + log(1 + f). */
VEC_INLINE vf math_log_sum(vf k, vf f)
{
    const vf square = f * f;
    vf y = f * square * math_log_rest(f);

    y = vfma(k, vsplat(MATH_LN2_LO), y);
    y = vfma(square, vsplat(-0.5f), y);
    return vfma(k, vsplat(MATH_LN2_HI), f + y);
}

/* Natural logarithm: at most 1 ULP; -inf at zero, NaN below, denormals are exact inputs. */
VEC_INLINE vf vf_log(vf x)
{
    const vi tiny = (vi)(x < 0x1p-126f);
    const vu bits = (vu)vselect(tiny, x * vsplat(0x1p23f), x) - 0x3f3504f3u; /* of sqrt(1/2) */
    const vf k = __builtin_convertvector((vi)bits >> 23, vf) - (vf)(tiny & (vi)vsplat(23.0f));
    const vf f = (vf)((bits & 0x7fffffu) + 0x3f3504f3u) - vsplat(1.0f);
    const vf below = vselect((vi)(x == 0.0f), vsplat(-MATH_INF), vsplat(__builtin_nanf("")));

    return vselect((vi)(x <= 0.0f), below, vselect((vi)(x < MATH_INF), math_log_sum(k, f), x));
}

/* tanh x = (e^2x - 1) / (e^2x + 1): at most 2.5 ULP; exactly +-1 from 9.02 on. */
VEC_INLINE vf vf_tanh(vf x)
{
    const vf a = vabs(x);
    const vf m = math_expm1(vselect((vi)(a > 9.5f), vsplat(19.0f), a + a));

    return vf_sign_of(m / (m + vsplat(2.0f)), x);
}

/* erf x = 1 - e^-q(|x|), q = -log erfc: at most 2.5 ULP; exactly +-1 from 3.92 on. */
VEC_INLINE vf vf_erf(vf x)
{
    const vf magnitude = vabs(x);
    const vf a = vselect((vi)(magnitude > 4.0f), vsplat(4.0f), magnitude);
    vf p = vsplat(-0x1.369678p-17f);

    p = vfma(p, a, vsplat(0x1.ed6c1ep-14f));
    p = vfma(p, a, vsplat(-0x1.4bc9d6p-11f));
    p = vfma(p, a, vsplat(0x1.b50042p-10f));
    p = vfma(p, a, vsplat(-0x1.505fap-13f));
    p = vfma(p, a, vsplat(-0x1.39cdc6p-6f));
    p = vfma(p, a, vsplat(0x1.a4fa5ep-4f));
    p = vfma(p, a, vsplat(0x1.45f2fap-1f));
    p = vfma(p, a, vsplat(-0x1.d0e2a4p-25f));
    p = vfma(a, vsplat(0x1.20dd76p+0f), a * p); /* q, to 2^-28 of erf; its first coefficient in two parts */
    return vf_sign_of(math_expm1(-p), x);
}

/* ---- Halves in double: sin, cos and pow need more bits than a float has; there a * b + c is enough ---- */

typedef double vd __attribute__((vector_size(VL * 4))); /* half the lanes of a vf */
typedef int64_t vq __attribute__((vector_size(VL * 4)));
typedef uint64_t vuq __attribute__((vector_size(VL * 4)));
typedef float vhalf __attribute__((vector_size(VL * 2)));

VEC_INLINE vd vdsplat(double x)
{
    return x - (vd){ 0 };
}

VEC_INLINE vd vdselect(vq mask, vd yes, vd no)
{
    return (vd)((mask & (vq)yes) | (~mask & (vq)no));
}

VEC_INLINE vd vwiden(vf x, int half)
{
    vhalf part;

    memcpy(&part, (const char *)&x + (size_t)half * sizeof part, sizeof part);
    return __builtin_convertvector(part, vd);
}

VEC_INLINE vf vnarrow(vd first, vd second)
{
    const vhalf low = __builtin_convertvector(first, vhalf), high = __builtin_convertvector(second, vhalf);
    vf y;

    memcpy(&y, &low, sizeof low);
    memcpy((char *)&y + sizeof low, &high, sizeof high);
    return y;
}

/* |x| >= 2^28, or no number: x mod pi/2 with 256 bits of 2/pi (Payne and Hanek 1983). x = m 2^e with an
 * integer m of 24 bits, so the bits of 2/pi that weigh 4 or more after the shift by e only add whole turns;
 * 96 bits from there on give the quadrant and a fraction that is right to 2^-60. */
static inline double math_reduce_large(float x, int64_t *quadrant)
{
    static const uint32_t two_over_pi[] = { 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                            0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561 };
    uint32_t bits;
    uint64_t word[3];

    memcpy(&bits, &x, sizeof bits);
    *quadrant = 0;
    if ((bits & 0x7fffffff) >= 0x7f800000)
        return __builtin_nan("");

    const uint64_t m = (bits & 0x7fffff) | 0x800000;
    const int at = (int)(bits >> 23 & 0xff) - 150 - 2; /* the first bit of 2/pi that counts: 3 .. 102 */
    for (int i = 0; i < 3; i++) {
        const uint32_t *const w = two_over_pi + at / 32 + i;
        word[i] = ((uint64_t)w[0] << 32 | w[1]) << (at % 32) >> 32;
    }
    const uint64_t turns =
        (m * word[0] << 32) + m * word[1] + (m * word[2] >> 32); /* 2^-62 quarters, mod 4 */
    const uint64_t whole = (turns + (UINT64_C(1) << 61)) >> 62;
    const double r = (double)(int64_t)(turns - (whole << 62)) * 0x1.921fb54442d18p-62;

    *quadrant = bits >> 31 ? -(int64_t)whole : (int64_t)whole;
    return bits >> 31 ? -r : r;
}

/* sin(r + quadrant pi/2) for |r| <= pi/4, to 2^-37. */
VEC_INLINE vd math_sin_quadrant(vd r, vq quadrant)
{
    const vd z = r * r;
    const vd s = ((z * 0x1.6cb802dc28c4ap-19 - 0x1.a00f11c17fcdcp-13) * z + 0x1.111107e1a4fc2p-7) * z -
                 0x1.5555554bb4324p-3;
    const vd c = ((z * -0x1.240b02d4be6c0p-22 + 0x1.a0107ea1b9f08p-16) * z - 0x1.6c16b795f08dap-10) * z +
                 0x1.5555554e4d505p-5;
    const vd y = vdselect(-(quadrant & 1), 1.0 - z * 0.5 + z * z * c, r * (1.0 + z * s));

    return (vd)((vuq)y ^ ((vuq)(quadrant & 2) << 62));
}

/* sin(x + turn pi/2). */
VEC_INLINE vf math_sin_turned(vf x, int64_t turn)
{
    const vi large = ~(vi)(vabs(x) < 0x1p28f);
    vd r[2];
    vq quadrant[2];

    for (int half = 0; half < 2; half++) {
        const vd wide = vwiden(x, half);
        const vd t = wide * 0x1.45f306dc9c883p-1 + 0x1.8p52;
        const vd k = t - 0x1.8p52;

        r[half] =
            (wide - k * 0x1.921fb5p+0) - k * 0x1.110b4611a6263p-26; /* k times 25 bits of pi/2 is exact */
        quadrant[half] = (vq)t;
    }
    if (vany(large)) {
        double lanes[VL];
        int64_t quadrants[VL];

        memcpy(lanes, r, sizeof lanes);
        memcpy(quadrants, quadrant, sizeof quadrants);
        for (int i = 0; i < VL; i++)
            if (large[i])
                lanes[i] = math_reduce_large(x[i], &quadrants[i]);
        memcpy(r, lanes, sizeof lanes);
        memcpy(quadrant, quadrants, sizeof quadrants);
    }
    return vnarrow(math_sin_quadrant(r[0], (quadrant[0] & 3) + turn),
                   math_sin_quadrant(r[1], (quadrant[1] & 3) + turn));
}

/* sin and cos: at most 0.51 ULP for every finite x; NaN at infinity. */
VEC_INLINE vf vf_sin(vf x)
{
    return math_sin_turned(x, 0);
}

VEC_INLINE vf vf_cos(vf x)
{
    return math_sin_turned(x, 1);
}

/* log2(x) for a float x >= 0: within 2^-50 (1 + |log2 x|). x = 2^k m with m between sqrt(1/2) and sqrt(2);
 * s = (m - 1) / (m + 1), log2 m = 2 atanh(s) / ln2. */
VEC_INLINE vd math_log2(vd x)
{
    const vuq bits = (vuq)x - 0x3fe6a09e667f3bcdu; /* of sqrt(1/2) */
    const vd k = (vd)((vuq)((vq)bits >> 52) + 0x4338000000000000u) - 0x1.8p52;
    const vd m = (vd)((bits & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu);
    const vd s = (m - 1.0) / (m + 1.0);
    const vd z = s * s;
    vd p = z * 0x1.f1a026af728d0p-3 + 0x1.0bb69e07cd296p-2;

    p = p * z + 0x1.484fb4f113a27p-2;
    p = p * z + 0x1.a61756577d871p-2;
    p = p * z + 0x1.2776c516c2b78p-1;
    p = p * z + 0x1.ec709dc39c8f9p-1;
    p = p * z + 0x1.71547652b82ffp+1;
    p = k + s * p;
    p = vdselect((vq)(x == 0.0), vdsplat(-__builtin_inf()), p);
    return vdselect((vq)(x < 0x1p1000), p, x);
}

/* 2^t within 2^-34; beyond |t| = 200, which no float reaches, 2^+-200. */
VEC_INLINE vd math_exp2(vd t)
{
    const vd inside =
        vdselect((vq)(t > 200.0), vdsplat(200.0), vdselect((vq)(t < -200.0), vdsplat(-200.0), t));
    const vd rounded = inside + 0x1.8p52;
    const vd r = inside - (rounded - 0x1.8p52);
    vd p = r * 0x1.fe161012e4620p-17 + 0x1.446b886623077p-13;

    p = p * r + 0x1.5d8a75460f1dbp-10;
    p = p * r + 0x1.3b29da82a604cp-7;
    p = p * r + 0x1.c6b08aa6fd06fp-5;
    p = p * r + 0x1.ebfbe0a6cca66p-3;
    p = p * r + 0x1.62e42ff11bfa9p-1;
    p = p * r + 0x1.ffffffffaa681p-1;
    return p * (vd)(((vuq)rounded << 52) + 0x3ff0000000000000u);
}

/* x^(1/2) as C's pow: unlike sqrt, +0 at -0 and infinity at -infinity. */
VEC_INLINE vf math_pow_root(vf x)
{
    const vf a = vabs(x);

    return vselect((vi)(x < 0.0f) & (vi)(a < MATH_INF), vsplat(__builtin_nanf("")), vsqrt(a));
}

/* x^y as C's pow: at most 0.51 ULP; x^-1/2 is 1 / sqrt(x), at most 1.5; x^2, x, 1/x and sqrt(x) are rounded
 * correctly. A negative x has a power for integer y only; x^0 = 1^y = 1 also beside a NaN. */
VEC_INLINE vf vf_pow(vf x, vf y)
{
    const vf a = vabs(x), half = y * 0.5f, none = vsplat(__builtin_nanf("")), root = math_pow_root(x);
    const vi whole = (vi)(vf_floor(y) == y);
    const vi odd = whole & (vi)(vf_floor(half) != half);
    vf r = vnarrow(math_exp2(math_log2(vwiden(a, 0)) * vwiden(y, 0)),
                   math_exp2(math_log2(vwiden(a, 1)) * vwiden(y, 1)));

    r = vselect((vi)(y == 2.0f), a * a, r);
    r = vselect((vi)(y == 1.0f), a, r);
    r = vselect((vi)(y == -1.0f), 1.0f / a, r);
    r = vselect((vi)(a == 1.0f), a, r); /* also 1^inf */
    r = vselect((vi)(x < 0.0f) & (vi)(a < MATH_INF) & ~whole, none, r);
    r = vselect((vi)(y == 0.5f), root, r);
    r = vselect((vi)(y == -0.5f), 1.0f / root, r);
    r = (vf)((vi)r | (odd & (vi)x & ~0x7fffffff));
    r = vselect((vi)(x != x) | (vi)(y != y), none, r);
    return vselect((vi)(x == 1.0f) | (vi)(y == 0.0f), vsplat(1.0f), r);
}

/* ---- Activations and their derivatives: finite x never overflows. ---- */

/* 1 / (1 + e^-x) = e^x / (1 + e^x), whichever has a power <= 1: at most 2.5 ULP. */
VEC_INLINE vf vf_sigmoid(vf x)
{
    const vf e = vf_exp(-vabs(x));

    return vselect((vi)(x < 0.0f), e, vsplat(1.0f)) / (1.0f + e);
}

/* The same, and *rest = 1 - sigmoid(x) without cancellation. */
VEC_INLINE vf math_sigmoid_pair(vf x, vf *rest)
{
    const vf e = vf_exp(-vabs(x));
    const vf large = 1.0f / (1.0f + e), small = e / (1.0f + e);
    const vi negative = (vi)(x < 0.0f);

    *rest = vselect(negative, large, small);
    return vselect(negative, small, large);
}

/* x sigmoid(x): at most 3.5 ULP; below -87, where e^x is denormal, within 2^-142. */
VEC_INLINE vf vf_silu(vf x)
{
    return x * vf_sigmoid(x);
}

VEC_INLINE vf vf_silu_slope(vf x)
{
    vf rest;
    const vf s = math_sigmoid_pair(x, &rest);

    return s * vfma(x, rest, vsplat(1.0f));
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|): at most 2 ULP. Above sqrt(2), 1 + e is halved, which is
 * exact. */
VEC_INLINE vf vf_softplus(vf x)
{
    const vf e = vf_exp(-vabs(x));
    const vi upper = (vi)(e > 0x1.a8279ap-2f); /* sqrt(2) - 1 */
    const vf f = vselect(upper, (e - 1.0f) * 0.5f, e);

    return (vf)((vi)x & (vi)(x > 0.0f)) + math_log_sum((vf)(upper & (vi)vsplat(1.0f)), f);
}

/* Phi(x), the normal distribution function, and *bell = e^(-x^2/2). With v = |x| / (|x| + 4),
 *   Phi(-|x|) = e^(-x^2/2) (1 - v) Q(v)   Q to 2^-26; rounding x^2/2 costs x^2/4 ULP
 * which keeps its relative precision where (1 + erf) / 2 would cancel. */
VEC_INLINE vf math_normal(vf x, vf *bell)
{
    const vf a = vabs(x), inverse = 1.0f / (a + 4.0f), v = a * inverse;
    vf p = vsplat(-0x1.340b2cp-6f);

    p = vfma(p, v, vsplat(0x1.815674p-4f));
    p = vfma(p, v, vsplat(-0x1.41c0c2p-3f));
    p = vfma(p, v, vsplat(0x1.0d2692p-5f));
    p = vfma(p, v, vsplat(0x1.3ebcdap-3f));
    p = vfma(p, v, vsplat(0x1.43f7a0p-4f));
    p = vfma(p, v, vsplat(-0x1.98f576p-1f));
    p = vfma(p, v, vsplat(0x1.4efa28p+0f));
    p = vfma(p, v, vsplat(-0x1.188464p+0f));
    p = vfma(p, v, vsplat(0.5f));
    *bell = vf_exp(x * x * -0.5f);
    p = *bell * (p * (inverse * 4.0f));
    return vselect((vi)(x < 0.0f), p, 1.0f - p);
}

/* x Phi(x): at most 5 ULP above zero, 5 + x^2/2 below. */
VEC_INLINE vf vf_gelu(vf x)
{
    vf bell;

    return x * math_normal(x, &bell);
}

VEC_INLINE vf vf_gelu_slope(vf x)
{
    vf bell;
    const vf phi = math_normal(x, &bell);

    return vfma(x * 0x1.988454p-2f, bell, phi); /* 1 / sqrt(2 pi) */
}

/* x (1 + tanh u) / 2 = x sigmoid(2u),  u = sqrt(2/pi) (x + 0.044715 x^3): at most 5 ULP, 5 + 8 |u| below
 * zero. */
VEC_INLINE vf vf_gelu_tanh(vf x)
{
    return x * vf_sigmoid(x * vfma(x * x, vsplat(0x1.2444f2p-4f), vsplat(0x1.988454p+0f)));
}

/* Beyond |x| = 32 the slope is 0 or 1 to the last bit; x^2 times 0 must not become inf times 0. */
VEC_INLINE vf vf_gelu_tanh_slope(vf x)
{
    const vf a = vselect((vi)(x > 32.0f), vsplat(32.0f), vselect((vi)(x < -32.0f), vsplat(-32.0f), x));
    const vf square = a * a;
    vf rest;
    const vf s = math_sigmoid_pair(a * vfma(square, vsplat(0x1.2444f2p-4f), vsplat(0x1.988454p+0f)), &rest);
    const vf inner = a * vfma(square, vsplat(0x1.b6676cp-3f), vsplat(0x1.988454p+0f));

    return vfma(inner * s, rest, s);
}

#endif
