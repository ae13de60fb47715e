/* A disk of a given size for a test: writes fail with ENOSPC once its bytes are used up. */
#ifndef TESTS_FULL_DISK_H
#define TESTS_FULL_DISK_H

#include "base/context.h"

typedef struct full_disk {
    heed_context *ctx;
    const file_ops *real; /* what the context had */
    file_ops ops;
    uint64_t room; /* bytes left */
} full_disk;

/* From here on the context writes onto the disk. d stays where it is until it is taken out. */
void full_disk_in(full_disk *d, heed_context *ctx, uint64_t bytes);
void full_disk_out(full_disk *d);

#endif
