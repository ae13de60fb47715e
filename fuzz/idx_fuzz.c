/* Any bytes as an IDX file, plain or gzip: refused with a sentence, or as many bytes as its type says. The
 * file lies in memory; the file calls of the context read it there. */

#include "memory_file.h"
#include <heed/data.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = {
        .threads = 1, .limits = { .memory_bytes = (uint64_t)64 << 20, .file_bytes = 1 << 20 }
    };
    memory b = { data, size };
    const file_ops files = memory_files(&b);
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
