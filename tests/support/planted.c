/* See the header. */
#include "support/cmocka.h"
#include "support/planted.h"
#include "support/toy.h"

#include <stdlib.h>
#include <string.h>

#define CELL (PLANTED_SIDE / PLANTED_CELLS)
#define DISTRACTORS 10
#define BATCH 32

static const char *const patterns[PLANTED_CLASSES - 1] = {
    "####...."
    "####....",
    "#.#.#.#."
    "#.#.#.#.",
    "#.#..#.#"
    "#.#..#.#",
    "##..##.."
    "..##..##",
};

static uint32_t planted_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

/* `bright` has 16 marks, row by row. */
static void draw(uint8_t *picture, int64_t cell, const char *bright, uint32_t *state)
{
    uint8_t *at = picture + cell / PLANTED_CELLS * CELL * PLANTED_SIDE + cell % PLANTED_CELLS * CELL;

    for (int i = 0; i < CELL * CELL; i++)
        if (bright[i] == '#')
            at[i / CELL * PLANTED_SIDE + i % CELL] = (uint8_t)(180 + planted_random(state) % 70);
}

static void distract(uint8_t *picture, int64_t cell, uint32_t *state)
{
    char bright[CELL * CELL];

    memset(bright, '.', sizeof bright);
    for (int marks = 0; marks < 8;) {
        const uint32_t i = planted_random(state) % (CELL * CELL);

        marks += bright[i] == '.';
        bright[i] = '#';
    }
    draw(picture, cell, bright, state);
}

void planted_pictures(uint8_t *pixels, int64_t *labels, int64_t *cells, int64_t n, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;

    for (int64_t i = 0; i < n; i++) {
        uint8_t *p = pixels + i * PLANTED_PIXELS;
        const int64_t cell = planted_random(&state) % (PLANTED_CELLS * PLANTED_CELLS);

        labels[i] = planted_random(&state) % PLANTED_CLASSES;
        for (int j = 0; j < PLANTED_PIXELS; j++)
            p[j] = (uint8_t)(planted_random(&state) % 64);
        for (int j = 0; j < DISTRACTORS; j++)
            distract(p,
                     (cell + 1 + planted_random(&state) % (PLANTED_CELLS * PLANTED_CELLS - 1)) %
                         (PLANTED_CELLS * PLANTED_CELLS),
                     &state);
        for (int j = 0; j < CELL * CELL; j++)
            p[(cell / PLANTED_CELLS * CELL + j / CELL) * PLANTED_SIDE + cell % PLANTED_CELLS * CELL +
              j % CELL] = (uint8_t)(planted_random(&state) % 64);
        if (labels[i] < PLANTED_CLASSES - 1)
            draw(p, cell, patterns[labels[i]], &state);
        if (cells)
            cells[i] = labels[i] < PLANTED_CLASSES - 1 ? cell : -1;
    }
}

void planted_normalise(float *x, const uint8_t *pixels)
{
    for (int i = 0; i < PLANTED_PIXELS; i++)
        x[i] = ((float)pixels[i] / 255 - PLANTED_MEAN) / PLANTED_STD;
}

/* Cells of noise go, a share of them drawn for each picture; the object stays. */
static void thin_out(float *x, int64_t cell, uint32_t *state)
{
    const uint32_t share = planted_random(state);

    for (int64_t c = 0; c < PLANTED_CELLS * PLANTED_CELLS; c++) {
        float *at = x + c / PLANTED_CELLS * CELL * PLANTED_SIDE + c % PLANTED_CELLS * CELL;

        if (planted_random(state) >= share || c == cell)
            continue;
        for (int i = 0; i < CELL * CELL; i++)
            at[i / CELL * PLANTED_SIDE + i % CELL] = 0;
    }
}

void planted_train(heed_model *m, int64_t steps, float lr)
{
    static uint8_t pixels[BATCH * PLANTED_PIXELS];
    static float x[BATCH * PLANTED_PIXELS];
    int64_t labels[BATCH], cells[BATCH];
    uint32_t state = 1;
    const heed_tensor in = { HEED_TYPE(HEED_F32, BATCH, 1, PLANTED_SIDE, PLANTED_SIDE), x },
                      target = { HEED_TYPE(HEED_I64, BATCH), labels };
    heed_trainer *t = NULL;

    TOY_OK(
        heed_trainer_new(&t, m, &(heed_trainer_opts){ .optimizer = HEED_ADAM, .lr = HEED_SET(lr) }, TOY_ERR));
    for (int64_t step = 0; step < steps; step++) {
        planted_pictures(pixels, labels, cells, BATCH, (uint32_t)step + 1000);
        for (int i = 0; i < BATCH; i++) {
            planted_normalise(x + i * PLANTED_PIXELS, pixels + i * PLANTED_PIXELS);
            if (i % 2)
                thin_out(x + i * PLANTED_PIXELS, cells[i], &state);
        }
        heed_trainer_set_lr(t, lr * (step < steps / 2 ? 1 : 2 * (1 - (float)step / (float)steps)));
        TOY_OK(heed_trainer_step(t, &in, 1, &target, NULL, TOY_ERR));
    }
    heed_trainer_free(t);
}

double planted_accuracy(heed_model *m, int64_t n, uint32_t seed)
{
    uint8_t *pixels = malloc((size_t)n * PLANTED_PIXELS);
    float *x = malloc((size_t)n * PLANTED_PIXELS * sizeof *x);
    float *y = malloc((size_t)n * PLANTED_CLASSES * sizeof *y);
    int64_t *labels = malloc((size_t)n * sizeof *labels), right = 0;
    const heed_tensor in = { HEED_TYPE(HEED_F32, n, 1, PLANTED_SIDE, PLANTED_SIDE), x },
                      out = { HEED_TYPE(HEED_F32, n, PLANTED_CLASSES), y };

    planted_pictures(pixels, labels, NULL, n, seed);
    for (int64_t i = 0; i < n; i++)
        planted_normalise(x + i * PLANTED_PIXELS, pixels + i * PLANTED_PIXELS);
    TOY_OK(heed_model_run(m, &in, 1, &out, 1, TOY_ERR));
    for (int64_t i = 0; i < n; i++) {
        int64_t best = 0;

        for (int64_t c = 1; c < PLANTED_CLASSES; c++)
            best = y[i * PLANTED_CLASSES + c] > y[i * PLANTED_CLASSES + best] ? c : best;
        right += best == labels[i];
    }
    free(pixels);
    free(x);
    free(y);
    free(labels);
    return (double)right / (double)n;
}
