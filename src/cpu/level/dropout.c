/* Dropout of one row: y = x scale where the row's word for the column is at least `least`, else 0. Compiled
 * once per level. The words are those of base/rng.h; a last, shorter stretch is computed beside the row,
 * with the same words. */

#include "base/rng.h"
#include "cpu/level/philox.h"

#define STRETCH (4 * PHILOX_QUADS) /* columns of one call of philox_words: 2 VL */

VEC_INLINE void dropout_stretch(float *y, const float *x, const uint32_t *words, uint32_t least, float scale)
{
    for (int64_t i = 0; i < STRETCH; i += VL) {
        vu w;

        memcpy(&w, words + i, sizeof w);
        vstore(y + i, vselect((vi)(w >= least), vload(x + i) * scale, vsplat(0.0f)));
    }
}

void LEVEL_NAME(dropout)(float *y, const float *x, int64_t n, const rng *r, uint32_t row, uint32_t least,
                         float scale)
{
    uint32_t words[STRETCH];
    int64_t i = 0;

    for (; i <= n - STRETCH; i += STRETCH) {
        philox_words(words, r->seed, r->step, r->node, row, (uint32_t)(i / 4));
        dropout_stretch(y + i, x + i, words, least, scale);
    }
    if (i < n) {
        float rest[STRETCH] = { 0 };

        memcpy(rest, x + i, (size_t)(n - i) * sizeof *rest);
        philox_words(words, r->seed, r->step, r->node, row, (uint32_t)(i / 4));
        dropout_stretch(rest, rest, words, least, scale);
        memcpy(y + i, rest, (size_t)(n - i) * sizeof *rest);
    }
}
