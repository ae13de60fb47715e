/* Our side of libpng, shared by reader and writer: memory from the context's heap, errors by a jump into
 * this struct, which owns everything that must survive it. */
#ifndef IMAGE_LIBPNG_H
#define IMAGE_LIBPNG_H

#include "image/image.h"

#include <png.h>
#include <setjmp.h>

typedef struct libpng {
    heap *heap;
    png_structp png; /* owned */
    png_infop info;  /* owned */
    jmp_buf back;
    bool starved;   /* an allocation failed */
    char said[128]; /* what libpng said when it gave up */
} libpng;

/* The callbacks of png_create_*_struct_2; `user` is the libpng. */
void heed__libpng_fail(png_structp png, png_const_charp said);
void heed__libpng_warn(png_structp png, png_const_charp said);
png_voidp heed__libpng_alloc(png_structp png, png_alloc_size_t bytes);
void heed__libpng_release(png_structp png, png_voidp block);

/* After a jump: HEED_ERR_MEMORY, or `code` with `what` and libpng's words. */
heed_status heed__libpng_status(const libpng *l, heed_status code, const char *name, const char *what,
                                heed_error *err);

#endif
