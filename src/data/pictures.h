/* Many picture files, read in order and decoded by all threads. */
#ifndef DATA_PICTURES_H
#define DATA_PICTURES_H

#include "data/fit.h"
#include "data/scan.h"
#include <heed/data.h>

/* One picture, as its consumer sees it. */
typedef struct picture {
    heed_status st; /* what is wrong with it: everything but HEED_ERR_MEMORY */
    heed_error err;
    heed_type type;     /* u8 [C,H,W], as in the file */
    uint8_t digest[32]; /* SHA-256 of those pixels */
    uint8_t *fitted;    /* as `fit` wants it, or NULL */
} picture;

typedef heed_status picture_take(void *user, int64_t sample, const picture *p, heed_error *err);

typedef struct pictures_opts {
    const int64_t *which;   /* samples of the scan; NULL: all */
    int64_t n;              /* of them */
    const picture_fit *fit; /* NULL: pixels are not kept */
    picture_take *take;     /* called in order on this thread, bad pictures too */
    void *user;
    heed_read_fn *progress;
    void *progress_user;
} pictures_opts;

/* HEED_ERR_MEMORY, HEED_ERR_STOPPED by progress, or what `take` returns. */
heed_status heed__pictures_read(const folder_scan *s, const pictures_opts *opts, heed_error *err);

#endif
