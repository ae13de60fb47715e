/* config.json and preprocessor_config.json of a run: what it takes to use the weights again. */
#ifndef TASKS_CONFIG_H
#define TASKS_CONFIG_H

#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include <heed/image.h>
#include <heed/model.h>

#define CHANNELS_MAX 16
#define SELF_TEST_SAMPLES 3

typedef struct run_config {
    const char *version; /* of the heed that wrote it; NULL: not said */
    const char *architecture; /* "conv-attention" */
    int64_t channels, height, width, classes;
    const char *const *class_names; /* classes of them */
    float mean[CHANNELS_MAX], std[CHANNELS_MAX];
    bool mirror;
    heed_image_fit fit; /* how a picture of another size is made this one */
    heed_image_filter filter;
    const char *sha256, *isa;
    int64_t seed, train_samples, validation_samples, steps;
    int64_t self_test_seed;
    heed_self_test self_test; /* n 0: none */
} run_config;

/* config.json last: a folder that has it is whole. */
heed_status heed__config_write(heed_context *ctx, const char *folder, const run_config *c, heed_error *err);

/* Strings are put into the arena. HEED_ERR_FORMAT names file, field and rule; HEED_ERR_MISSING without
 * jansson. What writing alone uses (isa, steps) is not read back. */
heed_status heed__config_read(run_config *out, heed_context *ctx, arena *a, const char *folder,
                              heed_error *err);

/* Adds to an error of a run that a newer heed wrote: what is not understood may be of that version. */
void heed__config_blame(heed_error *err, const char *version);

/* The same from memory. */
typedef struct config_files {
    file_bytes model, picture;             /* config.json, preprocessor_config.json */
    const char *model_path, *picture_path; /* for messages */
} config_files;
heed_status heed__config_parse(run_config *out, heed_context *ctx, arena *a, const config_files *files,
                               heed_error *err);

#endif
