/* A picture on its way from bytes to u8 [C,H,W]. A reader looks at its header, asks whether the size is
 * allowed, makes sure that the bytes at hand could hold so much, begins, and gives rows from wherever it
 * likes: each row is turned into the colours that the caller wants while it is split into planes. */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "base/context.h"
#include "base/error.h"
#include <heed/image.h>

typedef struct image_job {
    heed_context *ctx;
    const uint8_t *bytes; /* borrowed, as the name */
    size_t size;
    const char *name;
    heed_image_colour colour;
    heed_error *err;
    int channels;    /* of the rows that the reader gives: 1 or 3 */
    heed_tensor out; /* owned, from heed__image_begin on */
} image_job;

/* Is a picture of that size allowed? HEED_ERR_FORMAT when a side is 0, HEED_ERR_LIMIT over image_side or
 * image_pixels: so a count of samples fits into 64 bits with room to spare. */
heed_status heed__image_allowed(const heed_context *ctx, const char *name, uint64_t width, uint64_t height,
                                heed_error *err);

/* Takes the memory of the picture: after heed__image_allowed, and after the reader knows that the file can
 * be long enough for it. */
heed_status heed__image_begin(image_job *j, uint64_t width, uint64_t height, int channels);

/* Row y, 0 <= y < height: width * channels samples, the channels of a pixel side by side. */
void heed__image_row(image_job *j, int64_t y, const uint8_t *samples);

/* The file breaks a rule of its format. */
heed_status heed__image_refuse(const image_job *j, const char *format, ...) HEED_PRINTF(2, 3);

/* Readers: everything but j->out stays with the caller, who frees that too when a reader fails. */
heed_status heed__pnm_read(image_job *j);
heed_status heed__png_read(image_job *j);
heed_status heed__jpeg_read(image_job *j);

#endif
