/* Small things to train: pictures that can be told apart, as arrays, data sets and IDX files, and models for
 * them. */
#ifndef TESTS_TOY_H
#define TESTS_TOY_H

#include "models/conv_attention.h"
#include "support/scratch.h"
#include <heed/data.h>
#include <heed/train.h>

#define TOY_SIDE 8
#define TOY_CLASSES 3

/* n pictures u8 [n,8,8]: noise, and a bright bar whose row tells the class, in the left half. */
void toy_pictures(uint8_t *pixels, int64_t *labels, int64_t n, uint32_t seed);
heed_dataset *toy_dataset(heed_context *ctx, int64_t n, uint32_t seed);

/* Writes the four files of a data set into the folder. */
void toy_write_idx(const char *folder, int64_t train, int64_t test);

/* A file of unsigned bytes in IDX, dims ended by 0. */
void toy_write_idx_file(const char *path, const uint32_t *dims, const uint8_t *bytes);

/* 8x8 pictures -> 3 classes: linear 64-16, ReLU, dropout 0.2, linear. Config is not used. */
heed_value toy_mlp(heed_builder *b, const heed_value *inputs, const void *config);

/* conv-attention of 3 classes: batch norm, pooling, attention, dropout. */
extern const conv_attention_config toy_conv_attention;
heed_build_fn *toy_conv_attention_build(void);

/* The context, or the test fails. level HEED_ISA_AUTO: the best. */
heed_context *toy_context(int threads, heed_isa isa);

/* Trains `steps` batches of 10 of 47 mirrored and shifted pictures (the last of an epoch has 7), and gives
 * the digest of everything in the weights. */
void toy_train_digest(char digest[65], heed_context *ctx, heed_build_fn *build, const void *config,
                      int64_t steps);

/* Digest of the weights: all of them, or those of the model. */
void toy_digest(char digest[65], heed_model *m, heed_weights_part part);

/* The address of a type. */
#define TYPE_AT(...)                                                                                         \
    (heed_type[1])                                                                                           \
    {                                                                                                        \
        HEED_TYPE(__VA_ARGS__)                                                                               \
    }

/* Fails the test with the error's words. */
void toy_ok(heed_status st, const heed_error *err);
#define TOY_OK(call)                                                                                         \
    do {                                                                                                     \
        heed_error toy_err_ = { 0 };                                                                         \
        toy_ok((call), &toy_err_);                                                                           \
    } while (0)
#define TOY_ERR (&toy_err_)

#endif
