/* What lies in a folder of pictures: classes, parts and the files of each, by names alone. */
#ifndef DATA_SCAN_H
#define DATA_SCAN_H

#include "base/arena.h"
#include "base/context.h"

/* RULE: no parts of its own, the digest decides. */
typedef enum scan_part { SCAN_RULE = 0, SCAN_TRAIN, SCAN_VALIDATION, SCAN_TEST, SCAN_PARTS } scan_part;

typedef struct scan_sample {
    const char *source; /* "train/cat/1.png", below the root; in the arena */
    int32_t label;
    scan_part part;
} scan_sample;

typedef struct folder_scan {
    heed_context *ctx;
    arena arena;
    const char *root;
    const char **classes; /* in the arena */
    int32_t n_classes;
    scan_sample *samples; /* owned; in the order of parts, classes and names */
    int64_t n, room;
    bool parts[SCAN_PARTS];          /* which are there */
    int64_t hidden, others, outside; /* names passed over */
} folder_scan;

/* IDX files under their usual names lie in the folder. HEED_ERR_IO with a sentence when it is none. */
heed_status heed__scan_has_idx(bool *out, heed_context *ctx, const char *folder, heed_error *err);

/* classes (ended by NULL): the folders that count, in the order of their numbers; every other one is an
 * error. NULL: all. Released also after a failure. */
heed_status heed__scan_folder(folder_scan *out, heed_context *ctx, const char *root,
                              const char *const *classes, heed_error *err);
void heed__scan_release(folder_scan *s);

#endif
