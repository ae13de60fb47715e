/* One number in any dtype: constants, fills and comparisons of tests read and write elements through this table. */

#include "graph/number.h"

#include <math.h>
#include <string.h>

/* Rounds to the nearest f16, ties to even; overflow gives infinity. */
static uint16_t f16_from(double x)
{
    const double a = fabs(x);
    uint16_t sign = signbit(x) ? 0x8000u : 0;
    int exponent;
    double fraction, scaled;

    if (isnan(x))
        return 0x7e00u;
    if (a >= 65520.0)
        return (uint16_t)(sign | 0x7c00u);
    fraction = frexp(a, &exponent); /* a = fraction * 2^exponent, fraction in [0.5, 1) */
    (void)fraction;
    if (a == 0 || exponent < -13) { /* denormal: multiples of 2^-24 */
        scaled = nearbyint(a * 0x1p24);
        return (uint16_t)(sign | (uint16_t)scaled);
    }
    scaled = nearbyint(ldexp(a, 11 - exponent)); /* 1024 .. 2048 */
    return (uint16_t)(sign | (((uint16_t)(exponent + 14) << 10) + (uint16_t)(scaled - 1024.0)));
}

static double f16_to(uint16_t h)
{
    const int exponent = h >> 10 & 31;
    const double fraction = h & 1023;
    double a;

    if (exponent == 31)
        a = fraction != 0 ? NAN : INFINITY;
    else
        a = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000u ? -a : a;
}

static uint16_t bf16_from(double x)
{
    const float f = (float)x;
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if (f != f)
        return 0x7fc0u;
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static double bf16_to(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* NaN gives 0, the rest is clamped. */
static int64_t whole(double x, double low, double high)
{
    if (!(x == x))
        return 0;
    if (x <= low)
        return (int64_t)low;
    return x >= high ? (high >= 0x1p63 ? INT64_MAX : (int64_t)high) : (int64_t)x;
}

#define NUMBER(name, type, get, put)                                                                              \
    static double get_##name(const void *p)                                                                       \
    {                                                                                                             \
        type x;                                                                                                   \
                                                                                                                  \
        memcpy(&x, p, sizeof x);                                                                                  \
        return get;                                                                                               \
    }                                                                                                             \
    static void put_##name(void *p, double v)                                                                     \
    {                                                                                                             \
        const type x = put;                                                                                       \
                                                                                                                  \
        memcpy(p, &x, sizeof x);                                                                                  \
    }

NUMBER(f32, float, (double)x, (float)v)
NUMBER(f64, double, x, v)
NUMBER(f16, uint16_t, f16_to(x), f16_from(v))
NUMBER(bf16, uint16_t, bf16_to(x), bf16_from(v))
NUMBER(i64, int64_t, (double)x, whole(v, -0x1p63, 0x1p63))
NUMBER(i32, int32_t, (double)x, (int32_t)whole(v, -2147483648.0, 2147483647.0))
NUMBER(u8, uint8_t, (double)x, (uint8_t)whole(v, 0, 255))
NUMBER(bool, uint8_t, (double)x, v != 0 ? 1 : 0)

static const struct {
    double (*get)(const void *p);
    void (*put)(void *p, double v);
} numbers[HEED_DTYPES] = {
    [HEED_F32] = { get_f32, put_f32 }, [HEED_F64] = { get_f64, put_f64 },    [HEED_F16] = { get_f16, put_f16 },
    [HEED_BF16] = { get_bf16, put_bf16 }, [HEED_I64] = { get_i64, put_i64 }, [HEED_I32] = { get_i32, put_i32 },
    [HEED_U8] = { get_u8, put_u8 },    [HEED_BOOL] = { get_bool, put_bool },
};

double heed__number_get(heed_dtype dtype, const void *data, int64_t index)
{
    return numbers[dtype].get((const char *)data + index * (int64_t)heed_dtype_size(dtype));
}

void heed__number_put(heed_dtype dtype, void *data, int64_t index, double value)
{
    numbers[dtype].put((char *)data + index * (int64_t)heed_dtype_size(dtype), value);
}

heed_value heed_scalar(heed_builder *b, heed_dtype dtype, double value)
{
    double room = 0; /* as large and as aligned as any element */

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (dtype < 0 || dtype >= HEED_DTYPES)
        return heed__poison(b, HEED_ERR_DTYPE, "heed_scalar: %d is no dtype", (int)dtype);
    heed__number_put(dtype, &room, 0, value);
    return heed_constant(b, (heed_tensor){ { dtype, 0, { 0 } }, &room });
}
