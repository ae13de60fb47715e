/* Checkpoints: sets from which a training goes on to the same bits.
 *
 * In FOLDER/step-N:
 *   model.safetensors       parameters and running statistics
 *   optimizer.safetensors   everything else of the store: moments, averages, sums of accumulation, rng
 *   best.safetensors        the best weights so far, where they are not those of this set
 *   trainer.json            checkpoint_state
 *   manifest.json           written last: size, SHA-256 and CRC-32C of each MiB of every file above
 *
 * A set is what a manifest vouches for. Each file is durable before the manifest is written, a set that is
 * there is never written over (a second one of the same step is step-N-2), and old ones go only when the new
 * one is durable. So at any instant, through any crash, the newest set whose files are those of its manifest
 * is whole and right. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "base/arena.h"
#include <heed/train.h>

/* Where a training stands between two batches. Everything that the next step depends on is here or in the
 * weights. */
typedef struct checkpoint_state {
    const char *heed, *isa, *recipe_sha256, *data_sha256; /* of what it is a state */
    int64_t seed;
    int64_t epoch, batch, step, samples; /* whole epochs; batches of the next one; steps and samples in all */
    double loss_sum; /* of this epoch, each sample's loss: exact, it is a double in the file */
    int64_t loss_samples;
    double lr, grad_norm, seconds;
    double validation_loss, validation_accuracy; /* of the last epoch; -1: none */
    int64_t metrics_bytes;                       /* of metrics.jsonl */
    int64_t best_epoch;                          /* 0: none yet */
    double best_loss, best_accuracy;
    int64_t bad_epochs;              /* since the best one */
    double plateau_lr, plateau_best; /* heed_plateau */
    int64_t plateau_bad;
} checkpoint_state;

typedef struct checkpoint_place {
    heed_context *ctx;
    const char *folder;     /* of the sets */
    heed_notice_fn *notice; /* may be NULL: what was odd, but ends nothing */
    void *user;
} checkpoint_place;

/* Writes a set of the weights and, where it is given, of the best ones, and then drops old sets until `keep`
 * (at least 1) are left. HEED_ERR_NUMERIC for weights that are not finite; on any failure the older sets are
 * as they were. */
heed_status heed__checkpoint_save(const checkpoint_place *at, const checkpoint_state *s,
                                  const heed_weights *w, const heed_weights *best, int64_t keep,
                                  heed_error *err);

/* The newest set that is whole: its folder in *set (heap memory, NULL when there is no set at all), its state
 * in *out (strings in the arena). A damaged set is told of and the one before is looked at; where none is
 * whole, the failure of the newest is returned. */
heed_status heed__checkpoint_find(char **set, checkpoint_state *out, const checkpoint_place *at, arena *a,
                                  heed_error *err);

/* Loads a set into weights of the same names and types; and what it has as the best, where it has it. */
heed_status heed__checkpoint_load(const char *set, heed_context *ctx, heed_weights *w, heed_error *err);
heed_status heed__checkpoint_load_best(const char *set, heed_context *ctx, heed_weights *best,
                                       heed_error *err);

/* Step of the newest set, whole or not, -1 when there is none. And all sets removed, half written too. */
heed_status heed__checkpoint_newest(int64_t *step, const checkpoint_place *at, heed_error *err);
heed_status heed__checkpoint_clear(const checkpoint_place *at, heed_error *err);

#endif
