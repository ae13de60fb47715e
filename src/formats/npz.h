/* Reading arrays that NumPy wrote, for npy_read.c, npz_read.c and edits.c. */
#ifndef FORMATS_NPZ_H
#define FORMATS_NPZ_H

#include "base/arena.h"
#include "base/cursor.h"
#include <heed/tensor.h>

/* Type of the array whose NPY file begins at the cursor, which then stands before the data. Versions 1 to 3, little-endian,
 * C order; dtypes that heed has. On failure the cursor says why. */
heed_type heed__npy_type(cursor *c);

/* The whole array; data lie in the arena. `name`: of the file, for messages. */
heed_status heed__npy_read(heed_tensor *out, arena *a, cursor *c, const char *name, heed_error *err);

/* The array of the NPZ file under the first of `names` (ended by NULL) that is there. HEED_ERR_USAGE, with the names that are
 * there, when none is; HEED_ERR_FORMAT, HEED_ERR_LIMIT, HEED_ERR_IO; HEED_ERR_MISSING without libzip. */
heed_status heed__npz_read(heed_tensor *out, heed_context *ctx, arena *a, const char *path, const char *const *names,
                           heed_error *err);

#endif
