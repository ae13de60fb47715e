/* The instruction levels that this build has and this CPU runs; the others are counted and printed. Numbers for tests. */
#ifndef TESTS_CPU_LEVELS_H
#define TESTS_CPU_LEVELS_H

#include "cpu/rows.h"

#include <stdio.h>
#include <string.h>

#define LEVELS_MAX 4
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

typedef struct levels {
    int count;
    const row_ops *row[LEVELS_MAX];
    const char *name[LEVELS_MAX];
} levels;

static inline levels levels_here(void)
{
    levels found = {0};

    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        const row_ops *const row = heed__row_ops((heed_isa)isa);

        if (row && heed_isa_available((heed_isa)isa)) {
            found.row[found.count] = row;
            found.name[found.count++] = heed_isa_name((heed_isa)isa);
        }
    }
    return found;
}

static inline void levels_print(void)
{
    const levels here = levels_here();

    printf("levels tested:");
    for (int i = 0; i < here.count; i++)
        printf(" %s", here.name[i]);
    printf("; skipped: %d\n", LEVELS_MAX - here.count);
}

/* A fixed sequence of 32-bit words (the generator of Numerical Recipes), the same everywhere. */
static inline uint32_t next_word(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state ^ *state >> 16;
}

/* Uniform in [low, high). */
static inline float next_float(uint32_t *state, float low, float high)
{
    return low + (high - low) * ((float)(next_word(state) >> 8) * 0x1p-24f);
}

static inline float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#endif
