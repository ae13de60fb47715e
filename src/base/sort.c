/* Merge sort from below: runs of 1, 2, 4, ... are merged from one array into the other. */
#include "base/sort.h"

#include <string.h>

static void sort_merge(uint32_t *to, const uint32_t *from, uint32_t left, uint32_t middle, uint32_t end,
                       sort_before *before, const void *items)
{
    uint32_t a = left, b = middle;

    for (uint32_t i = left; i < end; i++)
        to[i] = a < middle && (b >= end || !before(items, from[b], from[a])) ? from[a++] : from[b++];
}

void heed__sort(uint32_t *order, uint32_t *room, uint32_t n, sort_before *before, const void *items)
{
    uint32_t *from = order, *to = room, *other;

    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint64_t run = 1; run < n; run *= 2) {
        for (uint64_t left = 0; left < n; left += 2 * run) {
            const uint64_t middle = left + run < n ? left + run : n,
                           end = left + 2 * run < n ? left + 2 * run : n;

            sort_merge(to, from, (uint32_t)left, (uint32_t)middle, (uint32_t)end, before, items);
        }
        other = from;
        from = to;
        to = other;
    }
    if (from != order)
        memcpy(order, from, (size_t)n * sizeof *order);
}
