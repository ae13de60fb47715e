/* For tests of src/cpu/: every level of this CPU, guarded buffers, numbers that are the same everywhere. */
#ifndef TESTS_CPU_LEVELS_H
#define TESTS_CPU_LEVELS_H

#include "cmocka_all.h"

#include <heed/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const heed_isa levels_all[] = { HEED_ISA_PORTABLE, HEED_ISA_X86_64_V3, HEED_ISA_X86_64_V4,
                                       HEED_ISA_NEON };

/* The next level that this build and this CPU have; start with i = 0. */
static inline heed_isa levels_next(size_t *i)
{
    while (*i < sizeof levels_all / sizeof *levels_all) {
        const heed_isa isa = levels_all[(*i)++];

        if (heed_isa_available(isa))
            return isa;
    }
    return HEED_ISA_AUTO;
}

#define FOR_EACH_LEVEL(isa)                                                                                  \
    for (size_t level_ = 0, once_ = 1; once_; once_ = 0)                                                     \
        for (heed_isa isa; (isa = levels_next(&level_)) != HEED_ISA_AUTO;)

/* Says which levels the tests that follow do not touch. */
static inline void levels_print_skipped(void)
{
    int skipped = 0;

    for (size_t i = 0; i < sizeof levels_all / sizeof *levels_all; i++)
        if (!heed_isa_available(levels_all[i])) {
            printf("# level %s is skipped: not built in, or this CPU lacks it\n",
                   heed_isa_name(levels_all[i]));
            skipped++;
        }
    printf("# %d of %zu levels skipped\n", skipped, sizeof levels_all / sizeof *levels_all);
}

/* A block of memory with sentinels on both sides. */
#define GUARD_BYTES 256
typedef struct guarded {
    unsigned char *base;
    size_t bytes;
} guarded;

static inline void *guarded_new(guarded *g, size_t bytes)
{
    const size_t whole = (bytes + 2 * GUARD_BYTES + 63) / 64 * 64;

    g->base = aligned_alloc(64, whole);
    g->bytes = bytes;
    assert_non_null(g->base);
    memset(g->base, 0x5a, whole);
    memset(g->base + GUARD_BYTES, 0xff, bytes); /* NaNs: what is read must have been written */
    return g->base + GUARD_BYTES;
}

static inline void guarded_free(guarded *g)
{
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (g->base[i] != 0x5a || g->base[GUARD_BYTES + g->bytes + i] != 0x5a)
            fail_msg("a byte outside a buffer of %zu bytes was written", g->bytes);
    free(g->base);
}

static inline float *guarded_floats(guarded *g, int64_t n)
{
    return guarded_new(g, (size_t)n * sizeof(float));
}

/* Multiples of 2^-24 in [-1, 1), from an integer generator. */
static inline float next_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int64_t)(*state >> 39) - (1 << 24)) / (float)(1 << 24);
}

static inline void fill_numbers(float *x, int64_t n, uint64_t *state)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = next_number(state);
}

/* FNV-1a over bytes, for digests that are constants of a test. */
static inline uint64_t digest_bytes(uint64_t digest, const void *data, size_t bytes)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < bytes; i++)
        digest = (digest ^ p[i]) * 0x100000001b3u;
    return digest;
}
#define DIGEST_START 0xcbf29ce484222325u

#endif
