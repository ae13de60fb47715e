/* u8 [C,H,W] as PNG: grey, RGB or RGBA, 8 bits, not interlaced, no text and no time: the bytes are a
 * function of the picture and of the versions of libpng and zlib. */

#include "image/image.h"
#include "base/files.h"
#include "base/sizes.h"

#ifdef HEED_HAVE_PNG

#include "image/libpng.h"

#include <inttypes.h>
#include <string.h>

#define PNG_WRITE_FIRST 4096

typedef struct png_writing {
    heed_tensor image;
    libpng lib;
    uint8_t *row, *bytes; /* owned */
    size_t size, room;
} png_writing;

/* png_rw_ptr. */
static void png_write_put(png_structp png, png_bytep from, size_t n)
{
    png_writing *w = png_get_io_ptr(png);
    size_t need, room = w->room;

    if (!heed__size_add(&need, w->size, n))
        png_error(png, "too long");
    if (need > room) {
        const size_t grown = room < SIZE_MAX / 2 ? 2 * room : SIZE_MAX;
        uint8_t *bytes;

        room = need > grown ? need : grown;
        room = room > PNG_WRITE_FIRST ? room : PNG_WRITE_FIRST;
        bytes = heed__resize(w->lib.heap, w->bytes, room, 1);
        if (!bytes) {
            w->lib.starved = true;
            png_error(png, "out of memory");
        }
        w->bytes = bytes;
        w->room = room;
    }
    memcpy(w->bytes + w->size, from, n);
    w->size += n;
}

static void png_write_nothing(png_structp png)
{
    (void)png; /* there is no buffer to flush */
}

static void png_write_open(png_writing *w)
{
    png_structp png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w->lib, heed__libpng_fail, heed__libpng_warn,
                                  &w->lib, heed__libpng_alloc, heed__libpng_release);

    if (!png)
        longjmp(w->lib.back, 1);
    w->lib.png = png;
    w->lib.info = png_create_info_struct(png);
    if (!w->lib.info)
        longjmp(w->lib.back, 1);
    png_set_write_fn(png, w, png_write_put, png_write_nothing);
}

static void png_write_pixels(png_writing *w)
{
    static const int types[] = {
        [1] = PNG_COLOR_TYPE_GRAY, [3] = PNG_COLOR_TYPE_RGB, [4] = PNG_COLOR_TYPE_RGBA
    };
    const int64_t channels = w->image.type.dims[0], height = w->image.type.dims[1],
                  width = w->image.type.dims[2];
    png_structp png = w->lib.png;

    png_set_user_limits(png, (png_uint_32)width, (png_uint_32)height);
    png_set_IHDR(png, w->lib.info, (png_uint_32)width, (png_uint_32)height, 8, types[channels],
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, w->lib.info);
    for (int64_t y = 0; y < height; y++) {
        for (int64_t c = 0; c < channels; c++) {
            const uint8_t *from = (const uint8_t *)w->image.data + (c * height + y) * width;

            for (int64_t x = 0; x < width; x++)
                w->row[x * channels + c] = from[x];
        }
        png_write_row(png, w->row);
    }
    png_write_end(png, NULL);
}

/* Owns nothing, as png_read_steps. */
static heed_status png_write_steps(png_writing *w, heed_error *err)
{
    if (setjmp(w->lib.back))
        return heed__libpng_status(&w->lib, HEED_ERR_BUG, NULL, "the picture cannot be written as PNG", err);
    png_write_open(w);
    png_write_pixels(w);
    return HEED_OK;
}

static heed_status png_write_check(const heed_context *ctx, const heed_type *t, heed_error *err)
{
    if (t->dtype != HEED_U8)
        return heed__fail(err, HEED_ERR_DTYPE, "a picture to write is %s; u8 is needed",
                          heed_dtype_name(t->dtype));
    if (t->rank != 3 || heed_type_count(t) < 0 || (t->dims[0] != 1 && t->dims[0] != 3 && t->dims[0] != 4))
        return heed__fail(err, HEED_ERR_SHAPE, "a picture to write is u8 [C,H,W], C 1, 3 or 4");
    if (t->dims[1] < 1 || t->dims[2] < 1)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "a picture of %" PRId64 " x %" PRId64 " pixels cannot be written", t->dims[2],
                          t->dims[1]);
    return heed__image_allowed(ctx, NULL, (uint64_t)t->dims[2], (uint64_t)t->dims[1], err);
}

heed_status heed_image_encode_png(void **out, size_t *size, heed_context *ctx, heed_tensor image,
                                  heed_error *err)
{
    png_writing w = { .image = image, .lib = { .heap = ctx->heap } };
    heed_status st;

    STEP(png_write_check(ctx, &image.type, err));
    w.row = heed__alloc(ctx->heap, (size_t)image.type.dims[2], (size_t)image.type.dims[0]);
    if (!w.row) {
        st = heed__fail_memory(err, (uint64_t)image.type.dims[2] * (uint64_t)image.type.dims[0]);
        goto done;
    }
    STEP(png_write_steps(&w, err));
    *out = w.bytes;
    *size = w.size;
    w.bytes = NULL;
done:
    if (w.lib.png)
        png_destroy_write_struct(&w.lib.png, &w.lib.info);
    heed__release(ctx->heap, w.row);
    heed__release(ctx->heap, w.bytes);
    return st;
}

#else

heed_status heed_image_encode_png(void **out, size_t *size, heed_context *ctx, heed_tensor image,
                                  heed_error *err)
{
    (void)out;
    (void)size;
    (void)ctx;
    (void)image;
    return heed__fail(
        err, HEED_ERR_MISSING,
        "PNG cannot be written, heed was built without libpng: apt install libpng-dev, rebuild");
}

#endif

heed_status heed_image_write_png(heed_context *ctx, const char *path, heed_tensor image, heed_error *err)
{
    void *bytes = NULL;
    size_t size = 0;
    heed_status st;

    STEP(heed_image_encode_png(&bytes, &size, ctx, image, err));
    STEP(heed__file_replace(ctx, path, bytes, size, err));
done:
    heed_bytes_free(ctx, bytes);
    return st;
}
