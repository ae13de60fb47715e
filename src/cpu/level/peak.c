/* The loops behind cpu/peak.h; compiled once per instruction level. */

#include "cpu/peak.h"
#include "cpu/vec.h"

enum {
    CHAINS = 12,
    STREAMS = 8
}; /* enough to hide four cycles of latency at three a cycle; fits 16 registers */

static float peak_sum(vf v)
{
    float lane[VL], sum = 0.0f;

    memcpy(lane, &v, sizeof v);
    for (int i = 0; i < VL; i++)
        sum += lane[i];
    return sum;
}

/* r = 0.999999 r + 1e-6 stays near one. The constants are read from memory, or the compiler would solve the
 * recurrence. */
static float peak_multiply_add(int64_t rounds)
{
    const volatile float near_one = 0.999999f, small = 1e-6f;
    const vf a = vsplat(near_one), b = vsplat(small);
    vf r0 = b, r1 = b + b, r2 = b * a, r3 = a, r4 = a + b, r5 = a * a;
    vf r6 = a - b, r7 = b - a, r8 = a + a, r9 = b * b, ra = r8 + b, rb = r8 * b;

    for (int64_t i = 0; i < rounds; i++) {
        r0 = vfma(a, r0, b), r1 = vfma(a, r1, b), r2 = vfma(a, r2, b), r3 = vfma(a, r3, b);
        r4 = vfma(a, r4, b), r5 = vfma(a, r5, b), r6 = vfma(a, r6, b), r7 = vfma(a, r7, b);
        r8 = vfma(a, r8, b), r9 = vfma(a, r9, b), ra = vfma(a, ra, b), rb = vfma(a, rb, b);
    }
    return peak_sum(((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7)) + ((r8 + r9) + (ra + rb)));
}

static float peak_read(const float *x, int64_t n)
{
    const int64_t each = n / STREAMS / VL * VL;
    vf s[STREAMS] = { { 0 } };
    vf sum = { 0 };

    for (int64_t i = 0; i < each; i += VL)
        for (int j = 0; j < STREAMS; j++)
            s[j] += vload(x + j * each + i);
    for (int j = 0; j < STREAMS; j++)
        sum += s[j];
    return peak_sum(sum);
}

const peak_ops LEVEL_NAME(peak_ops) = {
    .flops = 2 * VL * CHAINS,
    .multiply_add = peak_multiply_add,
    .read = peak_read,
};
