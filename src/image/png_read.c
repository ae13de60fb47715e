/* PNG through libpng: every depth, colour type and interlacing becomes rows of 1 or 3 bytes a pixel.
 *
 *   1, 2, 4 bits   grey: times 255, 85, 17; palette: looked up (an index behind its end is black)
 *   16 bits        (v * 255 + 32895) >> 16: v / 257 to the nearest number
 *   transparency   dropped: alpha channels, and the tRNS chunk is not looked at
 *   gamma, profile not applied
 *
 * Only IHDR, PLTE, tRNS, IDAT and IEND are looked into; libpng skips all others by their length, so
 * nothing in them is inflated. What follows IEND is left alone. Deflate reaches 1,032 to 1, so a header
 * that promises more rows than the file could hold is refused before memory is taken. */

#include "image/image.h"
#include "base/cursor.h"

#ifdef HEED_HAVE_PNG

#include "image/libpng.h"

#include <inttypes.h>
#include <string.h>

#define PNG_READ_DEFLATE_MOST 1032
#define PNG_READ_CHUNKS_MOST 64
#define PNG_READ_CHUNK_BYTES 8388608

typedef struct png_reading {
    image_job *image;
    libpng lib;
    cursor in;
    uint32_t width, height;
    int channels, passes;
    uint8_t *rows; /* owned: one row, or all of them when they come in several passes */
    size_t row;    /* bytes of a row */
} png_reading;

/* png_rw_ptr. */
static void png_read_take(png_structp png, png_bytep to, size_t n)
{
    png_reading *r = png_get_io_ptr(png);
    const uint8_t *from = heed__bytes(&r->in, n);

    if (r->in.failed)
        png_error(png, "the file ends early");
    if (n)
        memcpy(to, from, n);
}

/* The sizes, before libpng sees a byte: over our limits is another code than against the rules. */
static heed_status png_read_head(png_reading *r)
{
    image_job *j = r->image;
    cursor c = r->in;
    uint32_t length, type;

    heed__bytes(&c, 8);
    length = heed__u32be(&c);
    type = heed__u32be(&c);
    r->width = heed__u32be(&c);
    r->height = heed__u32be(&c);
    TRY(heed__cursor_status(&c, j->name, j->err));
    if (length != 13 || type != 0x49484452)
        return heed__image_refuse(j, "at byte 8: the first chunk must be IHDR, of 13 bytes");
    return heed__image_allowed(j->ctx, j->name, r->width, r->height, j->err);
}

static void png_read_open(png_reading *r)
{
    png_structp png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &r->lib, heed__libpng_fail, heed__libpng_warn,
                                 &r->lib, heed__libpng_alloc, heed__libpng_release);

    if (!png)
        longjmp(r->lib.back, 1);
    r->lib.png = png;
    r->lib.info = png_create_info_struct(png);
    if (!r->lib.info)
        longjmp(r->lib.back, 1);
    png_set_user_limits(png, r->width, r->height);
    png_set_chunk_cache_max(png, PNG_READ_CHUNKS_MOST);
    png_set_chunk_malloc_max(png, PNG_READ_CHUNK_BYTES);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL,
                                -1); /* -1: known ones that change no sample too */
    png_set_read_fn(png, r, png_read_take);
}

/* Asks libpng for 1 or 3 bytes a pixel. */
static void png_read_ask(png_reading *r, int depth, int type)
{
    png_structp png = r->lib.png;

    if (depth == 16)
        png_set_scale_16(png);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    r->channels = type & PNG_COLOR_MASK_COLOR ? 3 : 1;
    r->passes = png_set_interlace_handling(png);
    png_read_update_info(png, r->lib.info);
}

static heed_status png_read_begin(png_reading *r)
{
    image_job *j = r->image;
    png_structp png = r->lib.png;
    uint64_t packed;
    int depth, type;

    png_read_info(png, r->lib.info);
    depth = png_get_bit_depth(png, r->lib.info);
    type = png_get_color_type(png, r->lib.info);
    packed = ((uint64_t)r->width * (uint64_t)depth * png_get_channels(png, r->lib.info) + 7) / 8 * r->height;
    if (packed > (uint64_t)j->size * PNG_READ_DEFLATE_MOST)
        return heed__image_refuse(j, "%" PRIu32 " x %" PRIu32 " pixels are more than %zu bytes can hold",
                                  r->width, r->height, j->size);
    png_read_ask(r, depth, type);
    r->row = (size_t)r->width * (size_t)r->channels;
    if (png_get_rowbytes(png, r->lib.info) != r->row)
        return heed__fail_at(j->err, HEED_ERR_BUG, j->name,
                             "libpng gives rows of %zu bytes; %zu were expected",
                             png_get_rowbytes(png, r->lib.info), r->row);
    r->rows = heed__alloc(j->ctx->heap, r->passes > 1 ? r->height : 1, r->row);
    if (!r->rows)
        return heed__fail_memory(j->err, (uint64_t)(r->passes > 1 ? r->height : 1) * r->row);
    return heed__image_begin(j, r->width, r->height, r->channels);
}

/* Rows of an interlaced picture are complete after the last pass. */
static void png_read_pixels(png_reading *r)
{
    for (int pass = 0; pass < r->passes; pass++)
        for (uint32_t y = 0; y < r->height; y++) {
            uint8_t *row = r->passes > 1 ? r->rows + (size_t)y * r->row : r->rows;

            png_read_row(r->lib.png, row, NULL);
            if (pass == r->passes - 1)
                heed__image_row(r->image, y, row);
        }
    png_read_end(r->lib.png, NULL);
}

/* Owns nothing: whatever libpng jumps away from is in r, which the caller releases. */
static heed_status png_read_steps(png_reading *r)
{
    if (setjmp(r->lib.back))
        return r->in.failed ? heed__cursor_status(&r->in, r->image->name, r->image->err)
                            : heed__libpng_status(&r->lib, HEED_ERR_FORMAT, r->image->name,
                                                  "this PNG file cannot be read", r->image->err);
    png_read_open(r);
    TRY(png_read_begin(r));
    png_read_pixels(r);
    return HEED_OK;
}

heed_status heed__png_read(image_job *j)
{
    png_reading r = { .image = j, .lib = { .heap = j->ctx->heap }, .in = heed__cursor(j->bytes, j->size) };
    heed_status st;

    STEP(png_read_head(&r));
    STEP(png_read_steps(&r));
done:
    if (r.lib.png)
        png_destroy_read_struct(&r.lib.png, &r.lib.info, NULL);
    heed__release(j->ctx->heap, r.rows);
    return st;
}

#else

heed_status heed__png_read(image_job *j)
{
    return heed__fail_at(j->err, HEED_ERR_MISSING, j->name,
                         "a PNG picture, and heed was built without libpng: apt install libpng-dev, rebuild");
}

#endif
