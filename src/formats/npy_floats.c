/* An NPY file of real numbers of any kind, as f32. */

#include "formats/numbers.h"

#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "formats/npz.h"
#include "graph/number.h"

heed_status heed__npy_floats(heed_tensor *out, heed_context *ctx, const char *path, heed_error *err)
{
    file_bytes file = { NULL, 0 };
    heed_tensor read = { .data = NULL };
    float *to = NULL;
    arena a;
    cursor c;
    heed_status st;

    heed__arena_init(&a, ctx->heap);
    STEP(heed__file_read(&file, ctx, path, ctx->limits.file_bytes, err));
    c = heed__cursor(file.data, file.size);
    STEP(heed__npy_read(&read, &a, &c, path, err));
    const size_t n = (size_t)heed_type_count(&read.type);

    to = heed__alloc(ctx->heap, n, sizeof *to);
    if (!to)
        STEP(heed__fail_memory(err, n * sizeof *to));
    for (size_t i = 0; i < n; i++)
        to[i] = (float)heed__number_get(read.type.dtype, read.data, (int64_t)i);
    read.type.dtype = HEED_F32;
    *out = (heed_tensor){ read.type, to };
done:
    heed__arena_release(&a);
    heed__release(ctx->heap, file.data);
    return st;
}
