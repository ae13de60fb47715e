/* Pictures whose evidence is known: one object in one cell tells the class, everything else is noise. The
 * last class is that of pictures without an object, so that a model which lost sight of the object says so.
 *
 * 24 x 24 pixels, 6 x 6 cells of 4 x 4. The object is a pattern of eight bright pixels (bars across, bars
 * upright, a chequerboard, two blocks), so that its brightness says nothing; ten other cells have eight
 * bright pixels in places drawn at random. The object's cell is drawn at random, too. */
#ifndef TESTS_PLANTED_H
#define TESTS_PLANTED_H

#include <heed/data.h>
#include <heed/explain.h>
#include <heed/train.h>

#define PLANTED_SIDE 24
#define PLANTED_CELLS 6 /* a side */
#define PLANTED_CLASSES 5
#define PLANTED_PIXELS (PLANTED_SIDE * PLANTED_SIDE)

/* Normalisation: (pixel / 255 - mean) / std. */
#define PLANTED_MEAN 0.21f
#define PLANTED_STD 0.23f

/* n pictures u8 [n,24,24], their classes, and the cell (row * 6 + column) of each object, -1 for none; cells
 * may be NULL. */
void planted_pictures(uint8_t *pixels, int64_t *labels, int64_t *cells, int64_t n, uint32_t seed);

/* One picture normalised. */
void planted_normalise(float *x, const uint8_t *pixels);

/* Trains `steps` batches of 32 fresh pictures with Adam. In every second one cells of noise are blanked, so
 * that the deletion test shows the model nothing that it has not seen. */
void planted_train(heed_model *m, int64_t steps, float lr);

/* Share of n pictures that the model names rightly. */
double planted_accuracy(heed_model *m, int64_t n, uint32_t seed);

#endif
