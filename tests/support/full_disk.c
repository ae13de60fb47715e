#include "support/full_disk.h"

#include <errno.h>

static int64_t full_disk_write(void *user, int fd, const void *from, size_t n)
{
    full_disk *d = user;

    if (n > d->room) {
        errno = ENOSPC;
        return -1;
    }
    d->room -= n;
    return d->real->write(d->real->user, fd, from, n);
}

/* The other calls go to the system's, whose user is not looked at. */
void full_disk_in(full_disk *d, heed_context *ctx, uint64_t bytes)
{
    *d = (full_disk){ .ctx = ctx, .real = ctx->files, .ops = *ctx->files, .room = bytes };
    d->ops.user = d;
    d->ops.write = full_disk_write;
    ctx->files = &d->ops;
}

void full_disk_out(full_disk *d)
{
    d->ctx->files = d->real;
}
