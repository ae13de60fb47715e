/* Any bytes as a picture, in each colour: refused with a sentence, or as many bytes as its type says. What
 * was read is resized each way, and comes back the same from a PNG. */

#include "memory_file.h"
#include <heed/data.h>
#include <heed/image.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_resized(heed_context *ctx, heed_tensor t)
{
    for (int i = 0; i < 9; i++) {
        const heed_resize_opts opts = { .fit = (heed_image_fit)(i / 3),
                                        .filter = (heed_image_filter)(i % 3),
                                        .fill = 1 };
        heed_tensor small;
        heed_error err = { 0 };
        const heed_status st = heed_image_resize(&small, ctx, t, 5, 7, &opts, &err);

        check(st == HEED_OK || ((st == HEED_ERR_LIMIT || st == HEED_ERR_MEMORY) && err.text[0]));
        if (st != HEED_OK)
            continue;
        check(heed_type_count(&small.type) == t.type.dims[0] * 35);
        heed_data_free(ctx, &small);
    }
}

static void look_written(heed_context *ctx, heed_tensor t)
{
    heed_tensor back;
    void *bytes;
    size_t n;
    const heed_status st = heed_image_encode_png(&bytes, &n, ctx, t, NULL);

    check(st == HEED_OK || st == HEED_ERR_MEMORY || st == HEED_ERR_MISSING);
    if (st != HEED_OK)
        return;
    if (heed_image_decode(&back, ctx, bytes, n, "again", HEED_IMAGE_AS_IS, NULL) == HEED_OK) {
        check(heed_type_equal(&t.type, &back.type));
        check(memcmp(t.data, back.data, (size_t)heed_type_count(&t.type)) == 0);
        heed_data_free(ctx, &back);
    }
    heed_bytes_free(ctx, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = {
        .threads = 1,
        .limits = { .memory_bytes = (uint64_t)32 << 20, .image_side = 2000, .image_pixels = 200000 },
    };
    heed_context *ctx;
    uint64_t bytes;

    if (heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    bytes = heed_context_bytes(ctx);
    for (int colour = HEED_IMAGE_AS_IS; colour <= HEED_IMAGE_RGB; colour++) {
        heed_tensor t;
        heed_error err = { 0 };
        const heed_status st =
            heed_image_decode(&t, ctx, data, size, "file", (heed_image_colour)colour, &err);

        check(st == err.code && (st == HEED_OK) == (err.text[0] == 0) && st != HEED_ERR_BUG);
        if (st != HEED_OK)
            continue;
        check(t.type.dtype == HEED_U8 && t.type.rank == 3 && heed_type_count(&t.type) > 0);
        check(t.type.dims[0] == (colour == HEED_IMAGE_GREY  ? 1
                                 : colour == HEED_IMAGE_RGB ? 3
                                                            : t.type.dims[0]));
        if (colour == HEED_IMAGE_AS_IS) {
            look_resized(ctx, t);
            look_written(ctx, t);
        }
        heed_data_free(ctx, &t);
    }
    check(heed_context_bytes(ctx) == bytes);
    heed_context_free(ctx);
    return 0;
}
