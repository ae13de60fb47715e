/* Any bytes as a safetensors file: it is refused with a sentence, or all that it says of itself holds and
 * each tensor can be read. Small limits, so that they are met. */

#include <heed/formats.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool rule)
{
    if (!rule)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = {
        .threads = 1, .limits = { .memory_bytes = (uint64_t)64 << 20, .name_bytes = 64, .nesting = 8 }
    };
    static uint8_t room[1 << 16];
    heed_context *ctx;
    heed_safetensors *f = NULL;
    heed_error err = { 0 };
    heed_status st;

    if (heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    st = heed_safetensors_open_memory(&f, ctx, data, size, &err);
    check(st == err.code && (st == HEED_OK) == (err.text[0] == 0));
    for (int64_t i = 0; f && i < heed_safetensors_count(f); i++) {
        const heed_type type = heed_safetensors_type(f, i);
        const char *name = heed_safetensors_name(f, i);

        check(heed_safetensors_find(f, name) == i && strlen(name) <= 64 && type.rank <= HEED_MAX_RANK);
        check(heed_type_count(&type) >= 0 || type.dtype == HEED_DTYPES);
        if (type.dtype == HEED_DTYPES)
            check(heed_safetensors_read(f, i, room, NULL) == HEED_ERR_DTYPE);
        else if ((uint64_t)heed_type_count(&type) * heed_dtype_size(type.dtype) <= sizeof room)
            st = heed_safetensors_read(f, i, room, NULL); /* FORMAT for a bad BOOL */
    }
    for (int64_t i = 0; f && i < heed_safetensors_metadata(f); i++) {
        const char *value = NULL;

        check(heed_safetensors_key(f, i, &value) != NULL && value != NULL);
    }
    heed_safetensors_close(f);
    heed_context_free(ctx);
    return 0;
}
