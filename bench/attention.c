/* The attention kernels alone: GFLOP/s of one thread, forward and forward + backward, at shapes that models
 * have.
 *
 *   bench/attention [ROUNDS [FIRST LAST]]     rows FIRST .. LAST of the table
 *
 * Counted: 2 multiply-adds a kept score forward, 5 backward. Percent are of the level's measured peak. */

#include "cpu/attention.h"
#include "cpu/peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct shape {
    int64_t b, h, t, d;
    bool causal;
    float dropout;
    int64_t window; /* 0: none */
    bool bias;      /* [H,T,T], learned: its gradient adds up over sequences */
} shape;

static const shape shapes[] = {
    { 128, 4, 49, 16, false, 0, 0, false }, { 128, 4, 49, 16, false, 0.1f, 0, false },
    { 64, 3, 65, 64, false, 0, 0, false },  { 4, 8, 128, 64, false, 0, 0, false },
    { 4, 8, 128, 64, true, 0, 0, false },   { 4, 8, 512, 64, false, 0, 0, false },
    { 4, 8, 512, 64, true, 0, 0, false },   { 4, 8, 512, 64, false, 0.1f, 0, false },
    { 4, 8, 512, 64, false, 0, 0, true },   { 2, 8, 2048, 64, false, 0, 0, false },
    { 2, 8, 2048, 64, true, 0, 0, false },  { 2, 8, 2048, 64, true, 0, 256, false },
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* of this thread: others may be busy */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *numbers(int64_t n)
{
    float *x = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);

    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)rand() / RAND_MAX - 0.5);
    return x;
}

static double pairs(const shape *s)
{
    double n = 0;

    for (int64_t i = 0; i < s->t; i++)
        n += (double)(!s->causal ? s->t : s->window && i >= s->window ? s->window : i + 1);
    return n;
}

static void measure(heed_isa isa, const shape *s, int rounds)
{
    const attention_ops *ops = heed__attention_ops(isa);
    const int64_t heads = s->b * s->h, n = s->t * s->d;
    float *q = numbers(heads * n), *k = numbers(heads * n), *v = numbers(heads * n),
          *out = numbers(heads * n);
    float *dout = numbers(heads * n), *dq = numbers(heads * n), *dk = numbers(heads * n),
          *dv = numbers(heads * n);
    float *lse = numbers(heads * s->t), *delta = numbers(s->t);
    float *bias = numbers(s->bias ? s->h * s->t * s->t : 1),
          *dbias = numbers(s->bias ? s->h * s->t * s->t : 1);
    const size_t forward = ops->forward_bytes(s->d, s->d), backward = ops->backward_bytes(s->d, s->d);
    const size_t bytes = ((forward > backward ? forward : backward) + 63) / 64 * 64;
    void *scratch[4];
    double best[2] = { 1e9, 1e9 }, kept = pairs(s);

    for (int i = 0; i < 4; i++)
        scratch[i] = aligned_alloc(64, bytes);
    for (int round = 0; round < rounds; round++) {
        const double begin = now();
        double middle = 0;

        for (int part = 0; part < 2; part++) {
            for (int64_t i = 0; i < heads; i++) {
                const attention_head h = {
                    .q = q + i * n,
                    .k = k + i * n,
                    .v = v + i * n,
                    .q_step = s->d,
                    .k_step = s->d,
                    .v_step = s->d,
                    .dk = s->d,
                    .dv = s->d,
                    .mask = { .tq = s->t,
                              .tk = s->t,
                              .length = s->t,
                              .q_length = s->t,
                              .causal = s->causal,
                              .windowed = s->window > 0,
                              .left = s->window - 1,
                              .right = -1 },
                    .bias = s->bias ? bias + i % s->h * s->t * s->t : NULL,
                    .bias_row = s->t,
                    .bias_key = 1,
                    .scale = 1 / sqrtf((float)s->d),
                    .temperature = 1,
                    .drops = s->dropout > 0,
                    .threshold = (uint32_t)(s->dropout * 0x1p32f),
                    .kept = 1 / (1 - s->dropout),
                    .row = (uint32_t)(i * s->t),
                    .seed = 1,
                };

                for (int64_t r = 0; r < s->t && part == 0; r += ATTENTION_ROWS)
                    ops->forward(&h, &(attention_result){ .out = out + i * n, .lse = lse + i * s->t }, r,
                                 r + ATTENTION_ROWS < s->t ? r + ATTENTION_ROWS : s->t, scratch);
                const attention_upstream u = { .out = out + i * n,
                                               .lse = lse + i * s->t,
                                               .dout = dout + i * n,
                                               .dout_step = s->d,
                                               .delta = delta,
                                               .dq = dq + i * n,
                                               .dbias = s->bias ? dbias + i % s->h * s->t * s->t : NULL,
                                               .dbias_row = s->t,
                                               .dbias_key = 1 };

                if (part == 1) {
                    ops->deltas(&h, &u, 0, s->t);
                    ops->backward(&h, &u, 1, &(attention_part){ 0, s->t, 0, s->t }, dk + i * n, dv + i * n,
                                  scratch);
                }
            }
            if (part == 0)
                middle = now();
        }
        best[0] = fmin(best[0], middle - begin);
        best[1] = fmin(best[1], now() - middle);
    }
    const double flops = 4 * kept * (double)s->d * (double)heads * 1e-9, peak = heed__peak_gflops(isa);

    printf("B%-4lld H%-2lld T%-5lld D%-3lld %-6s %-7s %-6s %-4s forward %6.2f ms %6.1f GFLOP/s (%2.0f %%)"
           "   backward %6.2f ms %6.1f GFLOP/s (%2.0f %%)\n",
           (long long)s->b, (long long)s->h, (long long)s->t, (long long)s->d, s->causal ? "causal" : "full",
           s->dropout > 0 ? "dropout" : "", s->window ? "window" : "", s->bias ? "bias" : "", best[0] * 1e3,
           flops / best[0], 100 * flops / best[0] / peak, best[1] * 1e3, 2.5 * flops / best[1],
           100 * 2.5 * flops / best[1] / peak);
    for (int i = 0; i < 4; i++)
        free(scratch[i]);
    free(q), free(k), free(v), free(out), free(dout), free(dq), free(dk), free(dv), free(lse), free(delta),
        free(bias), free(dbias);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 9, first = argc > 2 ? atoi(argv[2]) : 0,
              last = argc > 3 ? atoi(argv[3]) : (int)(sizeof shapes / sizeof *shapes) - 1;

    for (heed_isa isa = HEED_ISA_X86_64_V4; isa >= HEED_ISA_PORTABLE; isa--) {
        if (!heed_isa_available(isa))
            continue;
        printf("%s, peak %.0f GFLOP/s, one thread, best of %d\n", heed_isa_name(isa), heed__peak_gflops(isa),
               rounds);
        for (int i = first; i <= last; i++)
            measure(isa, &shapes[i], rounds);
    }
    return 0;
}
