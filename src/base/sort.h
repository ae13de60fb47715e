/* A stable sort of positions: merge sort, n log n for any input, no heap call. */
#ifndef BASE_SORT_H
#define BASE_SORT_H

#include <stdbool.h>
#include <stdint.h>

/* Does the item at position a come before the one at position b? A strict order. */
typedef bool sort_before(const void *items, uint32_t a, uint32_t b);

/* Fills order[0..n) with 0..n-1 so that no later item comes before an earlier one; equal items keep their
 * order. `room` has n places too. */
void heed__sort(uint32_t *order, uint32_t *room, uint32_t n, sort_before *before, const void *items);

#endif
