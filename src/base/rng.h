/* Random numbers are addressed, never drawn: Philox4x32-10 (Salmon et al. 2011).
 *
 *   key     = low and high half of the seed
 *   counter = (floor(column / 4), row, step, node),   word = column mod 4
 *   node    = CRC-32C of the scope path
 *
 * Data order and augmentation: node = CRC-32C of "data.<stream>", step = epoch, row = sample.
 *
 * This header is the only place that knows the rule. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* Ten rounds on `counter` under `key`. */
void heed__philox(uint32_t out[4], const uint32_t counter[4], uint64_t key);

/* A stream: everything but row and column. */
typedef struct rng {
    uint64_t seed;
    uint32_t step, node;
} rng;

rng heed__rng(uint64_t seed, uint32_t step, const char *path); /* node = CRC-32C of path */

/* Four words: columns 4 * quad .. 4 * quad + 3 of a row. */
void heed__rng_quad(uint32_t out[4], const rng *r, uint32_t row, uint32_t quad);
uint32_t heed__rng_word(const rng *r, uint32_t row, uint32_t column);

/* Uniform in [0, 1): the upper 24 bits of a word. */
static inline float heed__unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* A standard normal number from two words by Box-Muller: sqrt(-2 ln u1) cos(2 pi u2) with u = (word + 1/2)
 * / 2^32. ln and cos are series in rng.c, in double, with + - * / and sqrt only: the same bits from every
 * compiler. Error < 1e-12. */
double heed__normal_f64(uint32_t a, uint32_t b);
float heed__normal(uint32_t a, uint32_t b); /* rounded to float */

/* cos(2 pi u) for u in [0, 1) in double arithmetic that is the same on every compiler and CPU: for schedules too. */
double heed__cos_turn(double u);

/* Fisher-Yates: a permutation of 0 .. n-1, decided by r alone (n <= 2^32). Place i is exchanged with place
 * floor(word * (i + 1) / 2^32), word = column i of row 0. No word is rejected, so that each has its place;
 * the chance of one place differs from 1/(i + 1) by less than 2^-32, and by a factor within 1 +- 2^-32 n. */
void heed__shuffle(int64_t *order, int64_t n, const rng *r);

#endif
