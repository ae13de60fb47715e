/* Errors: the first failure fills an empty heed_error; later ones leave it alone.
 *
 *   TRY(call)   returns the status of a failed call: for functions that own nothing
 *   STEP(call)  sets the local `st` and goes to `done:`, where everything is freed in reverse */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <heed/base.h>

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        heed_status try_ = (call);                                                                           \
        if (try_ != HEED_OK)                                                                                 \
            return try_;                                                                                     \
    } while (0)

#define STEP(call)                                                                                           \
    do {                                                                                                     \
        st = (call);                                                                                         \
        if (st != HEED_OK)                                                                                   \
            goto done;                                                                                       \
    } while (0)

/* Fills *err when err is given and still empty; returns code. Control characters in the text are escaped. */
heed_status heed__fail(heed_error *err, heed_status code, const char *format, ...) HEED_PRINTF(3, 4);

/* The same with the place (scope path or file) put into err->path. */
heed_status heed__fail_at(heed_error *err, heed_status code, const char *path, const char *format, ...)
    HEED_PRINTF(4, 5);

/* HEED_ERR_MEMORY with the size that was wanted, if known (0: not). */
heed_status heed__fail_memory(heed_error *err, uint64_t bytes);

/* Text from outside made safe to show: control and non-UTF-8 bytes escaped, cut at 64 bytes with "...".
 * Writes into buffer (at least 200 bytes) and returns it. */
const char *heed__shown(char buffer[200], const char *text, size_t size);

#endif
