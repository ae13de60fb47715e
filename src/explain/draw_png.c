/* An explanation as a PNG: the plain picture, then each map over it, side by side on white. */
#include "base/error.h"
#include "base/sizes.h"
#include "explain/draw.h"
#include <heed/image.h>

#include <string.h>

#define PNG_GAP 8

static void png_copy(pixels *to, const pixels *from, int64_t x)
{
    for (int64_t c = 0; c < 3; c++)
        for (int64_t y = 0; y < from->height; y++)
            memcpy(to->data + (c * to->height + y) * to->width + x,
                   from->data + (c * from->height + y) * from->width, (size_t)from->width);
}

heed_status heed__draw_png(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err)
{
    const int64_t scale = heed__draw_scale(e), tiles = 1 + e->n_maps;
    pixels all = { 0 }, one = { 0 };
    int64_t bytes;
    heed_status st;

    STEP(heed__draw_picture(&one, ctx, e, scale, err));
    all.height = one.height;
    all.width = tiles * one.width + (tiles - 1) * PNG_GAP;
    if (!heed__i64_mul(&bytes, all.width, all.height) || !heed__i64_mul(&bytes, bytes, 3)) {
        st = heed__fail(err, HEED_ERR_LIMIT, "%d maps of %lld x %lld pixels are too large for a picture",
                        e->n_maps, (long long)one.width, (long long)one.height);
        goto done;
    }
    all.data = heed__alloc(ctx->heap, (size_t)bytes, 1);
    if (!all.data) {
        st = heed__fail_memory(err, (uint64_t)bytes);
        goto done;
    }
    memset(all.data, 255, (size_t)bytes);
    png_copy(&all, &one, 0);
    for (int64_t i = 1; i < tiles; i++) {
        heed__pixels_release(ctx, &one);
        STEP(heed__draw_overlay(&one, ctx, e, &e->maps[i - 1], scale, err));
        png_copy(&all, &one, i * (one.width + PNG_GAP));
    }
    STEP(heed_image_write_png(ctx, path, heed__pixels_tensor(&all), err));
done:
    heed__pixels_release(ctx, &one);
    heed__pixels_release(ctx, &all);
    return st;
}
