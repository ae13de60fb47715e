/* An explanation as a PNG: the plain picture, then each map over it, side by side on white.
 *
 * Of an edited model it has a strip below that says EDITED, which survives any viewer, and an iTXt chunk "Description" with
 * the edits:  length, "iTXt", keyword 0, 0 0 (not compressed), language 0, translated keyword 0, text, CRC-32. It
 * stands behind IHDR, which is always the first 33 bytes of a PNG. */
#include "base/error.h"
#include "base/files.h"
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

/* ---- an edited model ---- */

#define PNG_LETTERS 6
#define PNG_LETTER_WIDTH 6 /* with the gap behind it */
#define PNG_LETTER_HEIGHT 7
#define PNG_INK 40
#define PNG_HEAD 33 /* bytes of signature and IHDR */

/* Rows of five dots from the top, the left one in bit 4: E, D, I, T, E, D. */
static const uint8_t png_letters[PNG_LETTERS][PNG_LETTER_HEIGHT] = {
    { 31, 16, 16, 30, 16, 16, 31 }, { 30, 17, 17, 17, 17, 17, 30 }, { 14, 4, 4, 4, 4, 4, 14 },
    { 31, 4, 4, 4, 4, 4, 4 },       { 31, 16, 16, 30, 16, 16, 31 }, { 30, 17, 17, 17, 17, 17, 30 },
};

static int64_t png_strip(const heed_explanation *e)
{
    return e->edit[0] ? 2 * (PNG_LETTER_HEIGHT + 4) : 0;
}

/* The word, twice as large, in the strip that ends the picture. */
static void png_mark(pixels *p, int64_t strip)
{
    const int64_t top = p->height - strip + 4, left = 4;

    for (int64_t y = 0; y < 2 * PNG_LETTER_HEIGHT && strip > 0; y++)
        for (int64_t x = 0; x < 2 * PNG_LETTERS * PNG_LETTER_WIDTH && left + x < p->width; x++) {
            const int64_t letter = x / (2 * PNG_LETTER_WIDTH), column = x / 2 % PNG_LETTER_WIDTH;

            for (int64_t c = 0; column < 5 && png_letters[letter][y / 2] >> (4 - column) & 1 && c < 3; c++)
                p->data[(c * p->height + top + y) * p->width + left + x] = PNG_INK;
        }
}

static uint32_t png_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void png_put_u32(text *t, uint32_t v)
{
    const uint8_t bytes[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };

    heed__text_put(t, bytes, sizeof bytes);
}

static void png_describe(text *file, const char *edit)
{
    static const char head[] = "iTXtDescription\0\0\0\0"; /* and the literal's own zero ends the translated keyword */
    const size_t begin = file->size + 4, n = sizeof head + strlen("edited: ") + strlen(edit);

    png_put_u32(file, (uint32_t)(n - 4));
    heed__text_put(file, head, sizeof head);
    heed__text_add(file, "edited: %s", edit);
    if (!file->failed)
        png_put_u32(file, png_crc((const uint8_t *)file->data + begin, n));
}

static heed_status png_write(heed_context *ctx, const heed_explanation *e, const char *path, const pixels *p,
                             heed_error *err)
{
    void *bytes = NULL;
    size_t size = 0;
    heed_status st;
    text file;

    if (!e->edit[0])
        return heed_image_write_png(ctx, path, heed__pixels_tensor(p), err);
    TRY(heed_image_encode_png(&bytes, &size, ctx, heed__pixels_tensor(p), err));
    heed__text_init(&file, ctx->heap, 0);
    heed__text_put(&file, bytes, PNG_HEAD);
    png_describe(&file, e->edit);
    heed__text_put(&file, (const uint8_t *)bytes + PNG_HEAD, size - PNG_HEAD);
    st = file.failed ? heed__fail_memory(err, size) : heed__file_replace(ctx, path, file.data, file.size, err);
    heed__text_release(&file);
    heed_bytes_free(ctx, bytes);
    return st;
}

heed_status heed__draw_png(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err)
{
    const int64_t scale = heed__draw_scale(e), tiles = 1 + e->n_maps;
    pixels all = { 0 }, one = { 0 };
    int64_t bytes;
    heed_status st;

    STEP(heed__draw_picture(&one, ctx, e, scale, err));
    all.height = one.height + png_strip(e);
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
    png_mark(&all, png_strip(e));
    STEP(png_write(ctx, e, path, &all, err));
done:
    heed__pixels_release(ctx, &one);
    heed__pixels_release(ctx, &all);
    return st;
}
