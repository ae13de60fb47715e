#include "cpu/peak.h"

#include "base/os/os.h"

extern const peak_ops heed__peak_ops_portable;
#if defined(HEED_LEVELS_X86)
extern const peak_ops heed__peak_ops_v3, heed__peak_ops_v4;
#endif
#if defined(HEED_LEVELS_NEON)
extern const peak_ops heed__peak_ops_neon;
#endif

const peak_ops *heed__peak_ops(heed_isa isa)
{
    static const peak_ops *const tables[] = {
        [HEED_ISA_PORTABLE] = &heed__peak_ops_portable,
#if defined(HEED_LEVELS_X86)
        [HEED_ISA_X86_64_V3] = &heed__peak_ops_v3,
        [HEED_ISA_X86_64_V4] = &heed__peak_ops_v4,
#endif
#if defined(HEED_LEVELS_NEON)
        [HEED_ISA_NEON] = &heed__peak_ops_neon,
#endif
        [HEED_ISA_NEON + 1] = NULL, /* as long on every machine */
    };

    return (int)isa >= 0 && (int)isa <= HEED_ISA_NEON ? tables[isa] : NULL;
}

enum { RUNS = 9 };
static const double run_seconds = 1e-3;

/* A result that nobody needs still has to be computed. */
static void peak_keep(float x)
{
    volatile float kept = x;

    (void)kept;
}

double heed__peak_gflops(heed_isa isa)
{
    const peak_ops *ops = heed__peak_ops(isa);
    int64_t rounds = 1000;
    double best = 0.0;

    if (!ops || !heed_isa_available(isa))
        return 0.0;
    for (int run = 0; run < RUNS;) {
        const double start = heed__os_seconds();

        peak_keep(ops->multiply_add(rounds));
        const double seconds = heed__os_seconds() - start;

        if (seconds < run_seconds && rounds < INT64_C(1) << 40) {
            rounds *= 2;
            continue;
        }
        const double rate = (double)ops->flops * (double)rounds / seconds * 1e-9;

        best = rate > best ? rate : best;
        run++;
    }
    return best;
}

double heed__peak_read_gbs(heed_isa isa, const float *block, int64_t n)
{
    const peak_ops *ops = heed__peak_ops(isa);
    double best = 0.0;

    if (!ops || !heed_isa_available(isa) || n < 1)
        return 0.0;
    for (int run = 0; run < RUNS; run++) {
        int64_t passes = 0;
        const double start = heed__os_seconds();
        double seconds;

        do {
            peak_keep(ops->read(block, n));
            passes++;
            seconds = heed__os_seconds() - start;
        } while (seconds < run_seconds);
        const double rate = (double)n * sizeof(float) * (double)passes / seconds * 1e-9;

        best = rate > best ? rate : best;
    }
    return best;
}
