/* See the header. */
#ifdef HEED_HAVE_PNG

#include "image/libpng.h"

#include <stdio.h>

void heed__libpng_fail(png_structp png, png_const_charp said)
{
    libpng *l = png_get_error_ptr(png);

    snprintf(l->said, sizeof l->said, "%s", said);
    longjmp(l->back, 1);
}

/* Warnings are about what does not change a sample: chunks out of order, profiles, times. */
void heed__libpng_warn(png_structp png, png_const_charp said)
{
    (void)png;
    (void)said;
}

png_voidp heed__libpng_alloc(png_structp png, png_alloc_size_t bytes)
{
    libpng *l = png_get_mem_ptr(png);
    void *block = heed__alloc(l->heap, bytes, 1);

    if (!block)
        l->starved = true;
    return block;
}

void heed__libpng_release(png_structp png, png_voidp block)
{
    libpng *l = png_get_mem_ptr(png);

    heed__release(l->heap, block);
}

heed_status heed__libpng_status(const libpng *l, heed_status code, const char *name, const char *what,
                                heed_error *err)
{
    if (l->starved)
        return heed__fail_memory(err, 0);
    return heed__fail_at(err, code, name, "%s: libpng: %.100s", what, l->said);
}

#else
typedef int libpng_is_missing;
#endif
