/* A picture and its mirror image read as one: the mean of the two probabilities. Evaluation and prediction
 * both take it from here, so that they agree to the bit. */
#ifndef TRAIN_MIRROR_H
#define TRAIN_MIRROR_H

#include <heed/model.h>

/* ln softmax(x) of one row, in double. */
void heed__log_softmax_row(double *out, const float *x, int64_t n);

/* The first largest of a row. */
int64_t heed__largest(const float *x, int64_t n);

/* logits [B,classes] of x [B,...,W] become ln((softmax(logits) + softmax(logits of x mirrored left to right))
 * / 2). flipped and others: room for as many floats as x and logits. */
heed_status heed__average_mirror(heed_model *m, const heed_tensor *x, const heed_tensor *logits,
                                 float *flipped, float *others, heed_error *err);

#endif
