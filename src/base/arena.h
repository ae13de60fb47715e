/* An arena: many small blocks with one life. Blocks are zeroed, aligned to 16, and freed together. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/heap.h"

typedef struct arena_chunk arena_chunk;
typedef struct arena {
    struct heap *heap;  /* borrowed */
    arena_chunk *chunk; /* newest first */
    size_t used;        /* bytes of the newest chunk */
} arena;

void heed__arena_init(arena *a, heap *h);
void heed__arena_release(arena *a); /* frees everything; the arena may be used again */
void *heed__arena_alloc(arena *a, size_t n, size_t size);
void *heed__arena_copy(arena *a, const void *bytes, size_t n);
char *heed__arena_string(arena *a, const char *text); /* NULL gives NULL */
char *heed__arena_format(arena *a, const char *format, ...) HEED_PRINTF(2, 3);

#endif
