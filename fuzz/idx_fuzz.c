/* Any bytes as an IDX file, plain or gzip: refused with a sentence, or as many bytes as its type says. The
 * file lies in memory; the file calls of the context read it there. */

#include "base/context.h"
#include <heed/data.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct bytes {
    const uint8_t *data;
    size_t size;
} bytes;

static int bytes_open(void *user, const char *path)
{
    (void)user;
    (void)path;
    return 1000;
}

static int64_t bytes_size(void *user, int fd, bool *regular)
{
    (void)fd;
    *regular = true;
    return (int64_t)((const bytes *)user)->size;
}

static int64_t bytes_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    const bytes *b = user;
    const size_t left = offset < b->size ? b->size - (size_t)offset : 0;

    (void)fd;
    n = n < left ? n : left;
    if (n)
        memcpy(to, b->data + offset, n);
    return (int64_t)n;
}

static int bytes_close(void *user, int fd)
{
    (void)user;
    (void)fd;
    return 0;
}

static void check(bool rule)
{
    if (!rule)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = {
        .threads = 1, .limits = { .memory_bytes = (uint64_t)64 << 20, .file_bytes = 1 << 20 }
    };
    bytes b = { data, size };
    const file_ops files = {
        .open_read = bytes_open, .size = bytes_size, .read = bytes_read, .close = bytes_close, .user = &b
    };
    heed_context *ctx;
    heed_tensor t;

    if (heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    ctx->files = &files;
    for (int part = 0; part < 3; part++) { /* all, the first two records, from the second on */
        heed_error err = { 0 };
        uint64_t sum = 0;
        const heed_status st = heed_idx_read(&t, ctx, "file", part == 2, part == 1 ? 2 : -1, &err);

        check(st == err.code && (st == HEED_OK) == (err.text[0] == 0));
        if (st != HEED_OK)
            continue;
        check(t.type.dtype == HEED_U8 && t.type.rank >= 1 && heed_type_count(&t.type) >= 0);
        for (int64_t i = 0; i < heed_type_count(&t.type); i++)
            sum += ((const uint8_t *)t.data)[i]; /* every byte is there */
        check(sum <= (uint64_t)255 * (1 << 20));
        heed_data_free(ctx, &t);
    }
    heed_context_free(ctx);
    return 0;
}
