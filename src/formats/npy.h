/* Arrays as NumPy writes them, for npy.c and npz.c. */
#ifndef FORMATS_NPY_H
#define FORMATS_NPY_H

#include "base/heap.h"
#include <heed/tensor.h>

/* An array ready to be written: header, and data that are the tensor's own or widened. */
typedef struct npy_array {
    uint8_t header[384]; /* HEED_NPY_HEADER_MOST */
    size_t header_size, data_size;
    const void *data; /* borrowed, or `widened` */
    float *widened;   /* owned; of bf16 */
} npy_array;

/* name: of the tensor, for messages; path: of the file. */
heed_status heed__npy_array(npy_array *out, heap *h, const char *path, const char *name, const heed_tensor *t,
                            heed_error *err);
void heed__npy_array_release(npy_array *a, heap *h);

#endif
