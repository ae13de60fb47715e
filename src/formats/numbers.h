/* Arrays of numbers from files that people make: NPY and CSV, read as f32. Data are given back by heed__release. */
#ifndef FORMATS_NUMBERS_H
#define FORMATS_NUMBERS_H

#include <heed/tensor.h>

/* Versions 1 to 3, little-endian, C order, real numbers of any size. HEED_ERR_FORMAT with the rule that is broken. */
heed_status heed__npy_floats(heed_tensor *out, heed_context *ctx, const char *path, heed_error *err);

/* Rows of numbers split by commas, all of one length and without a head: [rows, columns]. Empty lines are passed over.
 * HEED_ERR_FORMAT with line and column. */
heed_status heed__csv_read(heed_tensor *out, heed_context *ctx, const char *path, heed_error *err);

#endif
