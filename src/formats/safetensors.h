/* What reader and writer of safetensors share: the dtypes, in the format's ascending rank. */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <heed/formats.h>

#define SAFETENSORS_HEADER_MOST 100000000u /* the format's own limit */
#define SAFETENSORS_METADATA "__metadata__"

typedef struct safetensors_dtype {
    const char *name;
    unsigned bits;    /* of one element */
    heed_dtype dtype; /* HEED_DTYPES: heed has none for it */
} safetensors_dtype;

extern const safetensors_dtype heed__safetensors_dtypes[]; /* ended by NULL */

#endif
