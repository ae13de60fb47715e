/* Any bytes as config.json and preprocessor_config.json, parted by a byte 0xff (which is in no JSON): refused
 * with a sentence, or read with as many class names as classes and with numbers that can be used. */

#include "memory_file.h"
#include "data/normal.h"
#include "tasks/config.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const run_config *c)
{
    check(c->architecture && c->sha256 && c->classes >= 1 && c->channels >= 1 && c->channels <= CHANNELS_MAX);
    check(c->height >= 1 && c->height <= 65535 && c->width >= 1 && c->width <= 65535);
    for (int64_t i = 0; i < c->classes; i++)
        check(c->class_names[i] != NULL && strlen(c->class_names[i]) < SIZE_MAX);
    for (int64_t i = 0; i < c->channels; i++)
        check(fabsf(c->mean[i]) <= NORMAL_MEAN_MOST && c->std[i] >= NORMAL_STD_LEAST &&
              c->std[i] <= NORMAL_STD_MOST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = { .threads = 1, .limits = { .memory_bytes = (uint64_t)32 << 20 } };
    const uint8_t *mark = size ? memchr(data, 0xff, size) : NULL;
    const size_t first = mark ? (size_t)(mark - data) : size, rest = mark ? size - first - 1 : 0;
    uint8_t *copy = malloc(size + 2); /* each its own block, so that a byte too far is seen */
    uint8_t *second = malloc(rest + 1);
    run_config c = { 0 };
    heed_error err = { 0 };
    heed_context *ctx;
    arena a;

    if (copy && second && heed_context_new(&ctx, &opts, NULL) == HEED_OK) {
        config_files files = { { copy, first }, { second, rest }, "config.json", "preprocessor_config.json" };
        heed_status st;

        if (first)
            memcpy(copy, data, first);
        if (rest)
            memcpy(second, mark + 1, rest);
        heed__arena_init(&a, ctx->heap);
        st = heed__config_parse(&c, ctx, &a, &files, &err);
        check(st == err.code && (st == HEED_OK) == (err.text[0] == 0));
        if (st == HEED_OK)
            check_config(&c);
        heed__arena_release(&a);
        heed_context_free(ctx);
    }
    free(copy);
    free(second);
    return 0;
}
