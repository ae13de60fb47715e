/* The numbers that pixels become, for everyone who feeds pictures to a model: batches in training and
 * evaluation, and single pictures in prediction. One function, so that all see the same bits. */
#ifndef DATA_NORMAL_H
#define DATA_NORMAL_H

/* What mean and deviation may be: finite, and a deviation that can divide. */
#define NORMAL_MEAN_MOST 1e6f
#define NORMAL_STD_LEAST 1e-6f
#define NORMAL_STD_MOST 1e6f

/* table[v] = (v / 255 - mean) / std, in double, rounded once. */
void heed__normal_table(float table[256], float mean, float std);

#endif
