/* For tests of row primitives: the tables of all levels here, and floats by their bits. */
#ifndef TESTS_CPU_ROW_LEVELS_H
#define TESTS_CPU_ROW_LEVELS_H

#include "cpu/rows.h"
#include "cpu_levels.h"

#define LEVELS_MAX 4
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

typedef struct levels {
    int count;
    const row_ops *row[LEVELS_MAX];
    const char *name[LEVELS_MAX];
} levels;

static inline levels levels_here(void)
{
    levels found = { 0 };

    FOR_EACH_LEVEL(isa)
    {
        found.row[found.count] = heed__row_ops(isa);
        found.name[found.count++] = heed_isa_name(isa);
    }
    return found;
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
