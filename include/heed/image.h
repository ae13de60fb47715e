/* heed/image.h: pictures from files and back: PNG, JPEG, PGM, PPM; resizing.
 *
 * A picture is a tensor u8 [C,H,W], C = 1 (grey) or 3 (red, green, blue), owned by the caller:
 * heed_data_free (heed/data.h). Transparency is dropped and palettes are looked up, as PIL's convert("L")
 * and convert("RGB") do; 16-bit samples of a PNG become (v * 255 + 32895) >> 16, which is v / 257 rounded,
 * samples of a PGM or PPM whose largest is m become v * 255 / m rounded. EXIF is not looked at: no picture
 * is turned. */
#ifndef HEED_IMAGE_H
#define HEED_IMAGE_H

#include <heed/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Channels of a picture that is read. GREY of a coloured file: (19595 R + 38470 G + 7471 B + 32768) >> 16,
 * as PIL; RGB of a grey one: the same three times. */
typedef enum heed_image_colour { HEED_IMAGE_AS_IS = 0, HEED_IMAGE_GREY, HEED_IMAGE_RGB } heed_image_colour;

/** Reads a picture whole; its kind is known by its first bytes, not by its name. HEED_ERR_IO;
 * HEED_ERR_FORMAT with file and rule (a truncated or damaged JPEG too, and a file that cannot hold the
 * pixels it promises); HEED_ERR_LIMIT (context limits image_side, image_pixels; 100 scans of a JPEG)
 * before memory is taken; HEED_ERR_MISSING names the package of a reader that is not built in. */
HEED_MUST_CHECK HEED_API heed_status heed_image_read(heed_tensor *out, heed_context *ctx, const char *path,
                                                     heed_image_colour colour, heed_error *err);
/** The same from memory; `name` is for messages. */
HEED_MUST_CHECK HEED_API heed_status heed_image_decode(heed_tensor *out, heed_context *ctx, const void *bytes,
                                                       size_t size, const char *name, heed_image_colour colour,
                                                       heed_error *err);
/** Does a file of that name look like a picture (.png .jpg .jpeg .pgm .ppm .pnm, upper case too)? */
HEED_API bool heed_image_named(const char *path);

/** How a picture fills another size. STRETCH: both sides scaled on their own; CROP: scaled until it covers,
 * the middle taken; PAD: scaled until it fits, the rest filled with `fill`. The side that does not decide
 * is in proportion, rounded, halves up, 1 at least; what is cut off or filled on the left and above is
 * half, rounded down. */
typedef enum heed_image_fit { HEED_IMAGE_STRETCH = 0, HEED_IMAGE_CROP, HEED_IMAGE_PAD } heed_image_fit;
typedef enum heed_image_filter { HEED_IMAGE_BILINEAR = 0, HEED_IMAGE_BICUBIC, HEED_IMAGE_NEAREST } heed_image_filter;
typedef struct heed_resize_opts {
    heed_image_fit fit;
    heed_image_filter filter; /**< bilinear and bicubic widen when they shrink (antialias), as PIL does */
    uint8_t fill;             /**< of PAD */
} heed_resize_opts;
/** u8 [C,H,W], any C -> u8 [C,height,width] (a new picture: heed_data_free), the bytes that Image.resize of
 * Pillow 13.0 gives. opts NULL: zeros. HEED_ERR_DTYPE, HEED_ERR_SHAPE (a size of 0 too); HEED_ERR_LIMIT
 * when a picture is over image_side or image_pixels, or would be wider than image_side when it covers
 * (CROP of a very long picture). */
HEED_MUST_CHECK HEED_API heed_status heed_image_resize(heed_tensor *out, heed_context *ctx, heed_tensor image,
                                                       int64_t height, int64_t width, const heed_resize_opts *opts,
                                                       heed_error *err);

/** A PNG of u8 [C,H,W], C 1, 3 or 4: in a block given back by heed_bytes_free, or as a file, atomically.
 * The bytes depend on the picture and the libraries' versions only. HEED_ERR_MISSING when built without
 * libpng. */
HEED_MUST_CHECK HEED_API heed_status heed_image_encode_png(void **out, size_t *size, heed_context *ctx,
                                                           heed_tensor image, heed_error *err);
HEED_MUST_CHECK HEED_API heed_status heed_image_write_png(heed_context *ctx, const char *path, heed_tensor image,
                                                          heed_error *err);
HEED_API void heed_bytes_free(heed_context *ctx, void *bytes);

#ifdef __cplusplus
}
#endif
#endif
