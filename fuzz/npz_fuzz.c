/* Any bytes as an NPZ archive, and as an NPY array: refused with a sentence, or as many elements as its type says. The file
 * lies in memory; the file calls of the context read it there. */

#include "formats/npz.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(heed_status st, const heed_error *err, const heed_tensor *t)
{
    uint64_t sum = 0;

    check(st == err->code && (st == HEED_OK) == (err->text[0] == 0));
    if (st != HEED_OK)
        return;
    check(t->type.rank >= 0 && t->type.rank <= HEED_MAX_RANK && heed_type_count(&t->type) >= 0);
    for (uint64_t i = 0; i < (uint64_t)heed_type_count(&t->type) * heed_dtype_size(t->type.dtype); i++)
        sum += ((const uint8_t *)t->data)[i]; /* every byte is there */
    check(sum <= (uint64_t)255 << 26);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = {
        .threads = 1, .limits = { .memory_bytes = (uint64_t)64 << 20, .file_bytes = 1 << 20 }
    };
    memory b = { data, size };
    const file_ops files = memory_files(&b);
    heed_error whole = { 0 }, one = { 0 };
    heed_tensor t = { 0 };
    heed_context *ctx;
    heed_status st;
    cursor c = heed__cursor(data, size);
    arena a;

    if (heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    ctx->files = &files;
    heed__arena_init(&a, ctx->heap);
    st = heed__npz_read(&t, ctx, &a, "file", (const char *const[]){ "a", "b.weights", NULL }, &whole);
    look(st, &whole, &t);
    st = heed__npy_read(&t, &a, &c, "file", &one);
    look(st, &one, &t);
    heed__arena_release(&a);
    heed_context_free(ctx);
    return 0;
}
