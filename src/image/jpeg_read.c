/* JPEG through libjpeg (-turbo): grey, or YCbCr and RGB as RGB; baseline and progressive, Huffman coded, 8
 * bits. The slow integer DCT and fancy upsampling are PIL's defaults too, and give the same bytes on every
 * CPU. EXIF is not looked at, so a rotation that it asks for is not applied.
 *
 * libjpeg fills what is missing or damaged with grey and only warns: here a warning is a refusal. Two
 * bombs are stopped: a header that promises more than the file holds (each block of 8 x 8 takes a bit at
 * least, so blocks / 8 bytes), before memory is taken; and scan after scan that cost next to nothing to
 * write (100 are the limit). */

#include "image/image.h"

#ifdef HEED_HAVE_JPEG

#include "image/jpeg_memory.h"

#include <setjmp.h>

#include <jerror.h>

#define JPEG_SCANS_MOST 100

/* All that must survive the jump; locals changed after setjmp do not. */
typedef struct jpeg_job {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jpeg_memory memory;
    jmp_buf back;
    image_job *image;
    uint8_t *row; /* owned */
    heed_status failed;
    char said[JMSG_LENGTH_MAX]; /* what libjpeg said first */
} jpeg_job;

static void jpeg_read_say(jpeg_job *j)
{
    if (!j->said[0])
        j->errors.format_message((j_common_ptr)&j->d, j->said);
}

static void jpeg_read_fail(j_common_ptr c)
{
    jpeg_job *j = c->client_data;

    j->failed = c->err->msg_code == JERR_OUT_OF_MEMORY   ? HEED_ERR_MEMORY
                : c->err->msg_code == JERR_IMAGE_TOO_BIG ? HEED_ERR_LIMIT
                                                         : HEED_ERR_FORMAT;
    jpeg_read_say(j);
    longjmp(j->back, 1);
}

/* Level -1 is a warning; the others are a trace. */
static void jpeg_read_warn(j_common_ptr c, int level)
{
    if (level >= 0)
        return;
    c->err->num_warnings++;
    jpeg_read_say(c->client_data);
}

static void jpeg_read_print(j_common_ptr c)
{
    (void)c; /* the library never prints */
}

static void jpeg_read_watch(j_common_ptr c)
{
    jpeg_job *j = c->client_data;

    if (((j_decompress_ptr)c)->input_scan_number > JPEG_SCANS_MOST) {
        j->failed = HEED_ERR_LIMIT;
        snprintf(j->said, sizeof j->said, "more than %d scans, the limit", JPEG_SCANS_MOST);
        longjmp(j->back, 1);
    }
}

static heed_status jpeg_read_status(const jpeg_job *j)
{
    const image_job *i = j->image;

    if (j->failed == HEED_ERR_MEMORY)
        return heed__fail_memory(i->err, 0);
    if (j->failed == HEED_ERR_LIMIT)
        return heed__fail_at(i->err, HEED_ERR_LIMIT, i->name, "%s", j->said);
    return heed__image_refuse(i, "libjpeg cannot read all of this: %s", j->said);
}

static void jpeg_read_open(jpeg_job *j)
{
    jpeg_create_decompress(&j->d); /* keeps err and client_data, clears the rest */
    heed__jpeg_memory_enter(&j->memory, j->image->ctx->heap, &j->d);
    j->d.progress = &j->progress;
    jpeg_mem_src(&j->d, j->image->bytes, (unsigned long)j->image->size);
    jpeg_read_header(&j->d, TRUE);
}

static heed_status jpeg_read_colours(const jpeg_job *j)
{
    switch (j->d.jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_RGB:
    case JCS_YCbCr:
        return HEED_OK;
    case JCS_CMYK:
    case JCS_YCCK:
        return heed__image_refuse(
            j->image, "a JPEG for printing (CMYK), of which the screen colours depend on the printer: "
                      "convert it (ImageMagick: convert in.jpg -colorspace sRGB out.jpg)");
    default:
        return heed__image_refuse(j->image, "a JPEG of %d components; 1 (grey) and 3 (colour) are read",
                                  j->d.num_components);
    }
}

static heed_status jpeg_read_check(const jpeg_job *j)
{
    const image_job *i = j->image;
    uint64_t blocks = 0;

    TRY(heed__image_allowed(i->ctx, i->name, j->d.image_width, j->d.image_height, i->err));
    TRY(jpeg_read_colours(j));
    if (j->d.arith_code)
        return heed__image_refuse(i, "a JPEG with arithmetic coding; Huffman coding is read: convert it "
                                     "(jpegtran in.jpg > out.jpg)");
    for (int c = 0; c < j->d.num_components; c++)
        blocks += (uint64_t)j->d.comp_info[c].width_in_blocks * j->d.comp_info[c].height_in_blocks;
    if (blocks / 8 > i->size)
        return heed__image_refuse(i, "%u x %u pixels are more than %zu bytes can hold", j->d.image_width,
                                  j->d.image_height, i->size);
    return HEED_OK;
}

/* libjpeg takes a component without any scan for grey, in silence. */
static heed_status jpeg_read_finish(jpeg_job *j)
{
    for (int c = 0; c < j->d.num_components; c++)
        if (!j->d.comp_info[c].quant_table)
            return heed__image_refuse(j->image, "component %d of the JPEG has no scan", c + 1);
    jpeg_finish_decompress(&j->d);
    return j->errors.num_warnings ? jpeg_read_status(j) : HEED_OK;
}

/* Owns nothing: its caller releases j, always. */
static heed_status jpeg_read_steps(jpeg_job *j)
{
    if (setjmp(j->back))
        return jpeg_read_status(j);
    jpeg_read_open(j);
    TRY(jpeg_read_check(j));
    j->d.out_color_space = j->d.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    j->d.dct_method = JDCT_ISLOW;
    j->row = heed__alloc(j->image->ctx->heap, j->d.image_width, 3);
    if (!j->row)
        return heed__fail_memory(j->image->err, (uint64_t)j->d.image_width * 3);
    TRY(heed__image_begin(j->image, j->d.image_width, j->d.image_height,
                          j->d.out_color_space == JCS_GRAYSCALE ? 1 : 3));
    jpeg_start_decompress(&j->d);
    while (j->d.output_scanline < j->d.output_height) {
        if (jpeg_read_scanlines(&j->d, &j->row, 1) != 1)
            return heed__image_refuse(j->image, "libjpeg gives no row %u", j->d.output_scanline);
        heed__image_row(j->image, (int64_t)j->d.output_scanline - 1, j->row);
    }
    return jpeg_read_finish(j);
}

heed_status heed__jpeg_read(image_job *i)
{
    jpeg_job j = { .image = i, .progress.progress_monitor = jpeg_read_watch };
    heed_status st;

    j.d.err = jpeg_std_error(&j.errors);
    j.d.client_data = &j;
    j.errors.error_exit = jpeg_read_fail;
    j.errors.emit_message = jpeg_read_warn;
    j.errors.output_message = jpeg_read_print;
    st = jpeg_read_steps(&j);
    heed__jpeg_memory_leave(&j.memory, &j.d);
    jpeg_destroy_decompress(&j.d);
    heed__release(i->ctx->heap, j.row);
    return st;
}

#else

heed_status heed__jpeg_read(image_job *j)
{
    return heed__fail_at(
        j->err, HEED_ERR_MISSING, j->name,
        "a JPEG picture, and heed was built without libjpeg: apt install libjpeg-dev, rebuild");
}

#endif
