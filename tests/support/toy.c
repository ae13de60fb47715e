/* See the header. */
#include "support/cmocka.h"
#include "support/toy.h"

#include "heed/nn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t toy_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

void toy_pictures(uint8_t *pixels, int64_t *labels, int64_t n, uint32_t seed)
{
    uint32_t state = seed;

    for (int64_t i = 0; i < n; i++) {
        uint8_t *p = pixels + i * TOY_SIDE * TOY_SIDE;
        const int64_t label = toy_random(&state) % TOY_CLASSES;

        for (int j = 0; j < TOY_SIDE * TOY_SIDE; j++)
            p[j] = (uint8_t)(toy_random(&state) % 64);
        for (int j = 0; j < TOY_SIDE / 2; j++)
            p[(1 + 2 * label) * TOY_SIDE + j] = (uint8_t)(160 + toy_random(&state) % 90);
        labels[i] = label;
    }
}

heed_dataset *toy_dataset(heed_context *ctx, int64_t n, uint32_t seed)
{
    uint8_t *pixels = calloc((size_t)n, TOY_SIDE * TOY_SIDE);
    int64_t *labels = calloc((size_t)n, sizeof *labels);
    heed_dataset *d = NULL;

    toy_pictures(pixels, labels, n, seed);
    TOY_OK(heed_dataset_from_memory(&d, ctx,
                                    (heed_tensor){ HEED_TYPE(HEED_U8, n, TOY_SIDE, TOY_SIDE), pixels },
                                    (heed_tensor){ HEED_TYPE(HEED_I64, n), labels }, TOY_CLASSES, TOY_ERR));
    free(pixels);
    free(labels);
    return d;
}

void toy_write_idx_file(const char *path, const uint32_t *dims, const uint8_t *bytes)
{
    FILE *f = fopen(path, "wb");
    size_t n = 1;
    int rank = 0;

    if (!f)
        fail_msg("cannot write %s", path);
    while (dims[rank])
        rank++;
    fwrite((const uint8_t[]){ 0, 0, 8, (uint8_t)rank }, 1, 4, f);
    for (int i = 0; i < rank; i++) {
        const uint8_t size[4] = { (uint8_t)(dims[i] >> 24), (uint8_t)(dims[i] >> 16), (uint8_t)(dims[i] >> 8),
                                  (uint8_t)dims[i] };

        fwrite(size, 1, 4, f);
        n *= dims[i];
    }
    fwrite(bytes, 1, n, f);
    fclose(f);
}

static void toy_write_part(const char *folder, const char *part, int64_t n, uint32_t seed)
{
    uint8_t *pixels = calloc((size_t)n, TOY_SIDE * TOY_SIDE), *small = calloc((size_t)n, 1);
    int64_t *labels = calloc((size_t)n, sizeof *labels);
    char path[256];

    toy_pictures(pixels, labels, n, seed);
    for (int64_t i = 0; i < n; i++)
        small[i] = (uint8_t)labels[i];
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte", folder, part);
    toy_write_idx_file(path, (const uint32_t[]){ (uint32_t)n, TOY_SIDE, TOY_SIDE, 0 }, pixels);
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", folder, part);
    toy_write_idx_file(path, (const uint32_t[]){ (uint32_t)n, 0 }, small);
    free(pixels);
    free(small);
    free(labels);
}

void toy_write_idx(const char *folder, int64_t train, int64_t test)
{
    toy_write_part(folder, "train", train, 1);
    toy_write_part(folder, "t10k", test, 2);
}

heed_value toy_mlp(heed_builder *b, const heed_value *inputs, const void *config)
{
    heed_value x = heed_flatten(b, inputs[0], 1, -1);

    (void)config;
    x = heed_relu(b, heed_linear(b, "fc", x, 16, NULL));
    heed_tap(b, "hidden", x);
    x = heed_dropout_layer(b, "dropout", x, 0.2);
    return heed_linear(b, "head", x, TOY_CLASSES, NULL);
}

const conv_attention_config toy_conv_attention = {
    .classes = TOY_CLASSES, .stem = "4 P 8", .blocks = 1, .heads = 2, .hidden = 12, .dropout = 0.1f
};

heed_build_fn *toy_conv_attention_build(void)
{
    return heed__architecture("conv-attention")->build;
}

heed_context *toy_context(int threads, heed_isa isa)
{
    heed_context *ctx = NULL;

    TOY_OK(heed_context_new(&ctx, &(heed_context_opts){ .threads = threads, .isa = isa }, TOY_ERR));
    return ctx;
}

void toy_digest(char digest[65], heed_model *m, heed_weights_part part)
{
    TOY_OK(heed_weights_sha256(heed_model_weights(m), part, digest, TOY_ERR));
}

void toy_train_digest(char digest[65], heed_context *ctx, heed_build_fn *build, const void *config,
                      int64_t steps)
{
    heed_dataset *d = toy_dataset(ctx, 47, 5);
    heed_model *m = NULL;
    heed_trainer *t = NULL;
    heed_loader *l = NULL;
    int64_t done = 0;

    TOY_OK(heed_model_new(&m, ctx, build, config, &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    TOY_OK(heed_trainer_new(
        &t, m,
        &(heed_trainer_opts){
            .optimizer = HEED_ADAMW, .lr = HEED_SET(0.01f), .clip_norm = 1, .decay = HEED_DECAY_MATRICES },
        TOY_ERR));
    TOY_OK(heed_loader_new(
        &l, ctx, d, NULL, 0,
        &(heed_loader_opts){ .batch_size = 10, .seed = 4, .shuffle = true, .mirror = true, .shift = 1 },
        TOY_ERR));
    for (int64_t epoch = 0; done < steps; epoch++) {
        TOY_OK(heed_loader_start(l, epoch, 0, TOY_ERR));
        while (done < steps) {
            heed_tensor x, y;
            int64_t count;

            TOY_OK(heed_loader_next(l, &x, &y, &count, TOY_ERR));
            if (count == 0)
                break;
            TOY_OK(heed_trainer_step(t, &x, 1, &y, NULL, TOY_ERR));
            done++;
        }
    }
    toy_digest(digest, m, HEED_WEIGHTS_ALL);
    heed_loader_free(l);
    heed_trainer_free(t);
    heed_model_free(m);
    heed_dataset_free(d);
}

void toy_ok(heed_status st, const heed_error *err)
{
    if (st != HEED_OK)
        fail_msg("%s: %s (%s)", heed_status_name(st), err->text, err->path);
}
