/* The arena: chunks in a list, the newest first. A block that does not fit opens a chunk twice as large as
 * the last, up to 64 KiB; a block of its own size or more gets a chunk for itself, placed behind the
 * newest, whose rest stays in use. Chunks come zeroed from the heap and are never reused, so blocks are
 * zero too. */
#include "base/arena.h"
#include "base/sizes.h"
#include "base/os/os.h"

#include <stdarg.h>
#include <string.h>

#define ARENA_FIRST 1024
#define ARENA_MOST 65536
#define ARENA_ALIGN 16

struct arena_chunk {
    arena_chunk *older;
    size_t size; /* bytes after the head */
};

#define ARENA_HEAD ((sizeof(arena_chunk) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN)

static uint8_t *arena_bytes(arena_chunk *c)
{
    return (uint8_t *)c + ARENA_HEAD;
}

static arena_chunk *arena_chunk_new(arena *a, size_t size)
{
    size_t total;
    arena_chunk *c;

    if (!heed__size_add(&total, size, ARENA_HEAD))
        return NULL;
    c = heed__alloc(a->heap, total, 1);
    if (c)
        c->size = size;
    return c;
}

void heed__arena_init(arena *a, heap *h)
{
    *a = (arena){ .heap = h };
}

void heed__arena_release(arena *a)
{
    arena_chunk *c = a->chunk;

    while (c) {
        arena_chunk *older = c->older;
        heed__release(a->heap, c);
        c = older;
    }
    a->chunk = NULL;
    a->used = 0;
}

void *heed__arena_alloc(arena *a, size_t n, size_t size)
{
    size_t bytes, next;
    arena_chunk *c;
    void *block;

    if (!heed__size_mul(&bytes, n, size) || !heed__size_align(&bytes, bytes ? bytes : 1, ARENA_ALIGN))
        return NULL;
    if (a->chunk && bytes <= a->chunk->size - a->used) {
        block = arena_bytes(a->chunk) + a->used;
        a->used += bytes;
        return block;
    }
    next = a->chunk ? 2 * a->chunk->size : ARENA_FIRST;
    if (next > ARENA_MOST)
        next = ARENA_MOST;
    if (a->chunk && bytes >= next / 2) { /* a chunk for itself */
        c = arena_chunk_new(a, bytes);
        if (!c)
            return NULL;
        c->older = a->chunk->older;
        a->chunk->older = c;
        return arena_bytes(c);
    }
    c = arena_chunk_new(a, bytes > next ? bytes : next);
    if (!c)
        return NULL;
    c->older = a->chunk;
    a->chunk = c;
    a->used = bytes;
    return arena_bytes(c);
}

void *heed__arena_copy(arena *a, const void *bytes, size_t n)
{
    void *copy = heed__arena_alloc(a, n, 1);

    if (copy && n)
        memcpy(copy, bytes, n);
    return copy;
}

char *heed__arena_string(arena *a, const char *text)
{
    return text ? heed__arena_copy(a, text, strlen(text) + 1) : NULL;
}

char *heed__arena_format(arena *a, const char *format, ...)
{
    va_list args;
    char *out;
    int n;

    va_start(args, format);
    n = heed__os_format(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return NULL;
    out = heed__arena_alloc(a, (size_t)n + 1, 1);
    if (!out)
        return NULL;
    va_start(args, format);
    heed__os_format(out, (size_t)n + 1, format, args);
    va_end(args);
    return out;
}
