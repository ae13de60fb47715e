/* Inside heed_dataset, for the files that make one. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "base/arena.h"
#include "base/context.h"
#include <heed/data.h>

#define SPLIT_BUCKETS 10000

struct heed_dataset {
    heed_context *ctx;
    heed_dataset_kind kind;
    heed_type picture; /* u8 [C,H,W] */
    size_t size;       /* bytes of one picture */
    int64_t n, classes, skipped, outside;
    uint8_t *images; /* owned */
    int64_t *labels; /* owned */
    /* Folders of pictures; owned or NULL. A side is a bucket of the rule, or one of SIDE_. */
    uint16_t *sides;
    const char **sources;
    const char *const *names; /* of classes; in the arena */
    arena arena;
};

/* A part of its own in the folder: no rule is asked. */
#define SIDE_TRAIN UINT16_MAX
#define SIDE_VALIDATION (UINT16_MAX - 1)

/* The bucket of a digest: as one big-endian number, mod 10000. */
uint16_t heed__split_bucket(const uint8_t digest[32]);

/* What the names of a folder and a look at some pictures tell: pictures of the part (those of a test part by
 * rule among them), classes, and the [C,H,W] that samples would have. */
typedef struct folder_peek {
    int64_t pictures, classes, channels, height, width;
} folder_peek;
heed_status heed__folder_peek(folder_peek *out, heed_context *ctx, const char *path,
                              const heed_dataset_opts *opts, heed_error *err);

#endif
