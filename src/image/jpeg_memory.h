/* libjpeg's memory from the context's heap: counted, limited, and able to fail on demand. libjpeg's own
 * manager calls malloc; this one takes its place behind cinfo->mem once the struct has been made, and
 * gives it back at the end. */
#ifndef IMAGE_JPEG_MEMORY_H
#define IMAGE_JPEG_MEMORY_H

#include "base/heap.h"

#include <stdio.h>

#include <jpeglib.h>

typedef struct jpeg_memory {
    struct jpeg_memory_mgr calls; /* first: libjpeg's pointer to it is ours to the whole */
    struct jpeg_memory_mgr *theirs;
    heap *heap;
    struct jpeg_memory_block *pools[JPOOL_NUMPOOLS]; /* lists; what they hold is owned */
    struct jvirt_barray_control *planes;             /* a list, of blocks of the image pool */
} jpeg_memory;

/* After jpeg_create_decompress. `m` lives until jpeg_memory_leave. */
void heed__jpeg_memory_enter(jpeg_memory *m, heap *h, struct jpeg_decompress_struct *d);

/* Before jpeg_destroy_decompress, after any failure too; nothing happens without an enter. */
void heed__jpeg_memory_leave(jpeg_memory *m, struct jpeg_decompress_struct *d);

#endif
