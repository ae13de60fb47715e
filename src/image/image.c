/* Pictures by their first bytes: a table of readers, and what all of them share.
 *
 *   grey = (19595 R + 38470 G + 7471 B + 32768) >> 16
 *
 * are the weights 0.299, 0.587, 0.114 of ITU-R BT.601 in 16 fractional bits, rounded to nearest, as in
 * PIL; they add up to 65536, so grey colours keep their value. */

#include "image/image.h"
#include "base/files.h"
#include "base/sizes.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- formats ---- */

/* Formats without a reader are here so that the refusal can name them. */
static const struct image_format {
    const char *magic;
    size_t magic_at, magic_size;
    heed_status (*read)(image_job *j);
    const char *name;
} image_formats[] = {
    { "\x89PNG\r\n\x1a\n", 0, 8, heed__png_read, "PNG" },
    { "\xff\xd8\xff", 0, 3, heed__jpeg_read, "JPEG" },
    { "P2", 0, 2, heed__pnm_read, "PGM" },
    { "P3", 0, 2, heed__pnm_read, "PPM" },
    { "P5", 0, 2, heed__pnm_read, "PGM" },
    { "P6", 0, 2, heed__pnm_read, "PPM" },
    { "P1", 0, 2, NULL, "PBM" },
    { "P4", 0, 2, NULL, "PBM" },
    { "P7", 0, 2, NULL, "PAM" },
    { "GIF8", 0, 4, NULL, "GIF" },
    { "BM", 0, 2, NULL, "BMP" },
    { "II*\0", 0, 4, NULL, "TIFF" },
    { "MM\0*", 0, 4, NULL, "TIFF" },
    { "WEBP", 8, 4, NULL, "WebP" },
    { "ftyp", 4, 4, NULL, "HEIF or AVIF" },
};

static const struct image_format *image_format_of(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof image_formats / sizeof image_formats[0]; i++) {
        const struct image_format *f = &image_formats[i];

        if (size >= f->magic_at + f->magic_size && memcmp(bytes + f->magic_at, f->magic, f->magic_size) == 0)
            return f;
    }
    return NULL;
}

bool heed_image_named(const char *path)
{
    static const char *const endings[] = { "png", "jpg", "jpeg", "pgm", "ppm", "pnm" };
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++) {
        const char *a = dot + 1, *b = endings[i];

        while (*b && (*a == *b || *a == *b - 'a' + 'A'))
            a++, b++;
        if (!*a && !*b)
            return dot != path && dot[-1] != '/'; /* ".png" is a hidden file without an ending */
    }
    return false;
}

/* ---- what readers share ---- */

heed_status heed__image_refuse(const image_job *j, const char *format, ...)
{
    char said[256];
    va_list args;

    va_start(args, format);
    vsnprintf(said, sizeof said, format, args);
    va_end(args);
    return heed__fail_at(j->err, HEED_ERR_FORMAT, j->name, "%s", said);
}

heed_status heed__image_allowed(const heed_context *ctx, const char *name, uint64_t width, uint64_t height,
                                heed_error *err)
{
    const uint64_t side = ctx->limits.image_side, pixels = ctx->limits.image_pixels;

    if (width == 0 || height == 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, name,
                             "a picture of %" PRIu64 " x %" PRIu64 " pixels has no pixels", width, height);
    if (width > side || height > side || width > INT32_MAX || height > INT32_MAX)
        return heed__fail_at(err, HEED_ERR_LIMIT, name,
                             "%" PRIu64 " x %" PRIu64 " pixels: a side is over the limit, %" PRIu64
                             " (image_side)",
                             width, height, side);
    if (width * height > pixels)
        return heed__fail_at(err, HEED_ERR_LIMIT, name,
                             "%" PRIu64 " x %" PRIu64 " pixels are over the limit, %" PRIu64
                             " (image_pixels)",
                             width, height, pixels);
    return HEED_OK;
}

heed_status heed__image_begin(image_job *j, uint64_t width, uint64_t height, int channels)
{
    static const int wanted[] = { [HEED_IMAGE_GREY] = 1, [HEED_IMAGE_RGB] = 3 };
    const int kept = j->colour == HEED_IMAGE_AS_IS ? channels : wanted[j->colour];
    size_t plane, bytes;

    if (!heed__size_mul(&plane, (size_t)width, (size_t)height) ||
        !heed__size_mul(&bytes, plane, (size_t)kept))
        return heed__fail_memory(j->err, 0);
    j->out.data = heed__alloc(j->ctx->heap, bytes, 1);
    if (!j->out.data)
        return heed__fail_memory(j->err, bytes);
    j->out.type = (heed_type){ HEED_U8, 3, { kept, (int64_t)height, (int64_t)width } };
    j->channels = channels;
    return HEED_OK;
}

static void image_row_grey(uint8_t *restrict y, const uint8_t *restrict rgb, int64_t n)
{
    for (int64_t x = 0; x < n; x++) {
        const uint32_t sum = 19595u * rgb[3 * x] + 38470u * rgb[3 * x + 1] + 7471u * rgb[3 * x + 2];

        y[x] = (uint8_t)((sum + 32768) >> 16);
    }
}

static void image_row_split(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b,
                            const uint8_t *restrict rgb, int64_t n)
{
    for (int64_t x = 0; x < n; x++) {
        r[x] = rgb[3 * x];
        g[x] = rgb[3 * x + 1];
        b[x] = rgb[3 * x + 2];
    }
}

void heed__image_row(image_job *j, int64_t y, const uint8_t *samples)
{
    const int64_t kept = j->out.type.dims[0], width = j->out.type.dims[2];
    const int64_t plane = j->out.type.dims[1] * width;
    uint8_t *to = (uint8_t *)j->out.data + y * width;

    if (j->channels == 1)
        for (int64_t c = 0; c < kept; c++)
            memcpy(to + c * plane, samples, (size_t)width);
    else if (kept == 1)
        image_row_grey(to, samples, width);
    else
        image_row_split(to, to + plane, to + 2 * plane, samples, width);
}

/* ---- the calls ---- */

heed_status heed_image_decode(heed_tensor *out, heed_context *ctx, const void *bytes, size_t size,
                              const char *name, heed_image_colour colour, heed_error *err)
{
    image_job j = { .ctx = ctx, .bytes = bytes, .size = size, .name = name, .colour = colour, .err = err };
    const struct image_format *f = image_format_of(bytes, size);
    heed_status st;

    if (colour < HEED_IMAGE_AS_IS || colour > HEED_IMAGE_RGB)
        return heed__fail(err, HEED_ERR_USAGE, "%d is no heed_image_colour", (int)colour);
    if (!f)
        return heed__image_refuse(&j, size ? "this is no picture: PNG, JPEG, PGM and PPM are read"
                                           : "an empty file is no picture");
    if (!f->read)
        return heed__image_refuse(&j,
                                  "a %s picture; PNG, JPEG, PGM and PPM are read: convert it "
                                  "(ImageMagick: convert in out.png)",
                                  f->name);
    STEP(f->read(&j));
    *out = j.out;
    j.out.data = NULL;
done:
    heed__release(ctx->heap, j.out.data);
    return st;
}

heed_status heed_image_read(heed_tensor *out, heed_context *ctx, const char *path, heed_image_colour colour,
                            heed_error *err)
{
    file_bytes file = { NULL, 0 };
    heed_status st;

    STEP(heed__file_read(&file, ctx, path, ctx->limits.file_bytes, err));
    STEP(heed_image_decode(out, ctx, file.data, file.size, path, colour, err));
done:
    heed__release(ctx->heap, file.data);
    return st;
}

void heed_bytes_free(heed_context *ctx, void *bytes)
{
    heed__release(ctx->heap, bytes);
}
