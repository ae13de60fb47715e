/* One number in any dtype, by way of double: slow and general. i64 above 2^53 is rounded. */
#ifndef GRAPH_NUMBER_H
#define GRAPH_NUMBER_H

#include "graph/op.h"

double heed__number_get(heed_dtype dtype, const void *data, int64_t index);

/* Rounds to nearest even; integers truncate and clamp, NaN becomes 0. */
void heed__number_put(heed_dtype dtype, void *data, int64_t index, double value);

#endif
