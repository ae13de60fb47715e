/* Fuzz targets of readers that take a path: every path is one file, and that lies in memory. */
#ifndef FUZZ_MEMORY_FILE_H
#define FUZZ_MEMORY_FILE_H

#include "base/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct memory {
    const uint8_t *data;
    size_t size;
} memory;

static inline int memory_open(void *user, const char *path)
{
    (void)user;
    (void)path;
    return 1000;
}

static inline int64_t memory_size(void *user, int fd, bool *regular)
{
    (void)fd;
    *regular = true;
    return (int64_t)((const memory *)user)->size;
}

static inline int64_t memory_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    const memory *b = user;
    const size_t left = offset < b->size ? b->size - (size_t)offset : 0;

    (void)fd;
    n = n < left ? n : left;
    if (n)
        memcpy(to, b->data + offset, n);
    return (int64_t)n;
}

static inline int memory_close(void *user, int fd)
{
    (void)user;
    (void)fd;
    return 0;
}

/* There is no folder of that name. */
static inline int memory_open_folder(void *user, const char *path)
{
    (void)user;
    (void)path;
    errno = ENOTDIR;
    return -1;
}

/* File calls over b. */
static inline file_ops memory_files(memory *b)
{
    return (file_ops){ .open_read = memory_open,
                       .open_folder = memory_open_folder,
                       .size = memory_size,
                       .read = memory_read,
                       .close = memory_close,
                       .user = b };
}

/* What the target promises. */
static inline void check(bool rule)
{
    if (!rule)
        abort();
}

#endif
