/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Each
 * of ten rounds multiplies two words by constants, exchanges the halves and mixes in the key, which a
 * constant moves on. */
#include "base/rng.h"
#include "base/digest.h"

#include <math.h>
#include <string.h>

void heed__philox(uint32_t out[4], const uint32_t counter[4], uint64_t key)
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (int i = 0; i < 10; i++) {
        const uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;

        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

rng heed__rng(uint64_t seed, uint32_t step, const char *path)
{
    return (rng){ .seed = seed, .step = step, .node = heed__crc32c_string(path) };
}

void heed__rng_quad(uint32_t out[4], const rng *r, uint32_t row, uint32_t quad)
{
    const uint32_t counter[4] = { quad, row, r->step, r->node };

    heed__philox(out, counter, r->seed);
}

uint32_t heed__rng_word(const rng *r, uint32_t row, uint32_t column)
{
    uint32_t words[4];

    heed__rng_quad(words, r, row, column / 4);
    return words[column % 4];
}

/* ln u for a normal u > 0: u = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s) with s = (m - 1) /
 * (m + 1), whose square is below 0.0295, so that twelve terms of the series leave less than 1e-19. */
static double rng_ln(double u)
{
    uint64_t bits;
    int e;
    double m, s, z, sum = 0;

    memcpy(&bits, &u, sizeof bits);
    e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m = m * 0.5;
        e++;
    }
    s = (m - 1) / (m + 1);
    z = s * s;
    for (int k = 11; k >= 0; k--)
        sum = sum * z + 1.0 / (2 * k + 1);
    return 2 * s * sum + e * 0.69314718055994531;
}

/* cos(2 pi u) for u in [0, 1): 4 u = q + r with |r| <= 1/2, exactly; then cos or sin of x = r pi / 2 by
 * its series. */
double heed__cos_turn(double u)
{
    const double t = 4 * u;
    const int q = (int)(t + 0.5);
    const double x = (t - q) * 1.5707963267948966, z = x * x;
    const int odd = q & 1; /* sin: x (1 - z/(2 3) + ...), cos: 1 - z/(1 2) + ... */
    double sum = 1;

    for (int k = 9; k >= 1; k--)
        sum = 1 - sum * z / ((2 * k - 1 + odd) * (2 * k + odd));
    if (odd)
        sum = sum * x;
    return q % 4 == 1 || q % 4 == 2 ? -sum : sum;
}

double heed__normal_f64(uint32_t a, uint32_t b)
{
    const double u1 = (a + 0.5) * 0x1p-32, u2 = (b + 0.5) * 0x1p-32;

    return sqrt(-2 * rng_ln(u1)) * heed__cos_turn(u2);
}

float heed__normal(uint32_t a, uint32_t b)
{
    return (float)heed__normal_f64(a, b);
}

void heed__shuffle(int64_t *order, int64_t n, const rng *r)
{
    uint32_t words[4] = { 0 };

    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j, moved;

        if (i % 4 == 3 || i == n - 1)
            heed__rng_quad(words, r, 0, (uint32_t)(i / 4));
        j = (int64_t)((uint64_t)words[i % 4] * (uint64_t)(i + 1) >> 32); /* 0 .. i */
        moved = order[i];
        order[i] = order[j];
        order[j] = moved;
    }
}
