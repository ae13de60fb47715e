/* Sets of a training: what is written and in which order, what a crash, a power cut, a full disk or a changed
 * bit may do to them, and which one is used then. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "support/crash_files.h"
#include "support/fail_each.h"
#include "support/full_disk.h"
#include "support/toy.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A small store whose numbers say which version it is. */
static heed_weights *small_weights(heed_context *ctx, int version)
{
    static const char *const names[] = { "fc.weight", "fc.bias", "optimizer.exp_avg.fc.weight",
                                         "ema.fc.weight" };
    heed_weights *w = NULL;
    float x[12];
    int64_t step = version;

    TOY_OK(heed_weights_new(&w, ctx, TOY_ERR));
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 12; k++)
            x[k] = (float)(version * 100 + i * 12 + k);
        TOY_OK(heed_weights_put(w, names[i], (heed_tensor){ HEED_TYPE(HEED_F32, 4, 3), x }, TOY_ERR));
    }
    TOY_OK(heed_weights_put(w, "optimizer.step", (heed_tensor){ heed_type_of(HEED_I64, 0, NULL), &step },
                            TOY_ERR));
    TOY_OK(heed_weights_put(w, "rng", (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 5, version } },
                            TOY_ERR));
    return w;
}

static checkpoint_state small_state(int version)
{
    return (checkpoint_state){ .heed = "0",
                               .isa = "portable",
                               .recipe_sha256 = "r",
                               .data_sha256 = "d",
                               .step = version,
                               .loss_sum = version / 3.0,
                               .lr = 1e-3 * version,
                               .best_epoch = version > 1 ? 1 : 0,
                               .best_loss = 0.1 };
}

typedef struct witness {
    checkpoint_place at;
    int64_t keep;
    int notices;
    char said[400];
} witness;

static void hear(void *user, const char *sentence)
{
    witness *w = user;

    w->notices++;
    snprintf(w->said, sizeof w->said, "%s", sentence);
}

static void witness_init(witness *w, scratch *s, const char *folder)
{
    *w = (witness){ .at = { s->ctx, folder, hear, w }, .keep = 2 };
}

/* Saves version v; from version 2 on with version 1 as the best one. */
static heed_status save_version(witness *w, int version, heed_error *err)
{
    heed_weights *now = small_weights(w->at.ctx, version),
                 *best = version > 1 ? small_weights(w->at.ctx, 1) : NULL;
    const checkpoint_state s = small_state(version);
    const heed_status st = heed__checkpoint_save(&w->at, &s, now, best, w->keep, err);

    heed_weights_free(now);
    heed_weights_free(best);
    return st;
}

/* The version of the newest whole set, after its weights and state were compared number by number; 0: there
 * is none; -1: none of those that are there is whole; -2: it is not what was saved. */
static int found_version(witness *w, heed_error *err)
{
    heed_context *ctx = w->at.ctx;
    checkpoint_state s = { 0 };
    char *set = NULL, got[65], want[65];
    int version = 0;
    arena a;

    heed__arena_init(&a, ctx->heap);
    if (heed__checkpoint_find(&set, &s, &w->at, &a, err) != HEED_OK)
        version = -1;
    if (set) {
        heed_weights *loaded = small_weights(ctx, 99), *best = small_weights(ctx, 99), *as_saved;
        const checkpoint_state same = small_state((int)s.step);

        version = (int)s.step;
        as_saved = small_weights(ctx, version);
        TOY_OK(heed__checkpoint_load(set, ctx, loaded, TOY_ERR));
        TOY_OK(heed__checkpoint_load_best(set, ctx, best, TOY_ERR));
        TOY_OK(heed_weights_sha256(loaded, HEED_WEIGHTS_ALL, got, TOY_ERR));
        TOY_OK(heed_weights_sha256(as_saved, HEED_WEIGHTS_ALL, want, TOY_ERR));
        if (strcmp(got, want) != 0 || memcmp(&s.loss_sum, &same.loss_sum, sizeof s.loss_sum) != 0 ||
            memcmp(&s.lr, &same.lr, sizeof s.lr) != 0 || s.best_epoch != same.best_epoch)
            version = -2;
        heed_weights_free(as_saved);
        as_saved = small_weights(ctx, version > 1 ? 1 : 99);
        TOY_OK(heed_weights_sha256(best, HEED_WEIGHTS_MODEL, got, TOY_ERR));
        TOY_OK(heed_weights_sha256(as_saved, HEED_WEIGHTS_MODEL, want, TOY_ERR));
        if (strcmp(got, want) != 0)
            version = -2;
        heed_weights_free(loaded);
        heed_weights_free(best);
        heed_weights_free(as_saved);
    }
    heed__release(ctx->heap, set);
    heed__arena_release(&a);
    return version;
}

static const char *sets_of(scratch *s)
{
    static char folder[128];

    snprintf(folder, sizeof folder, "%s/checkpoints", s->folder);
    return folder;
}

static const char *in_sets(const char *folder, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* ---- sets ---- */

static void what_is_saved_is_found_and_old_sets_go(void **state)
{
    witness w;

    witness_init(&w, *state, sets_of(*state));
    assert_int_equal(found_version(&w, NULL), 0);
    for (int v = 1; v <= 5; v++) {
        TOY_OK(save_version(&w, v, TOY_ERR));
        assert_int_equal(found_version(&w, NULL), v);
        assert_int_equal(scratch_entries(w.at.folder), v < 2 ? v : 2);
    }
    w.keep = 1;
    TOY_OK(save_version(&w, 6, TOY_ERR));
    assert_int_equal(scratch_entries(w.at.folder), 1);
    TOY_OK(heed__checkpoint_clear(&w.at, TOY_ERR));
    assert_int_equal(scratch_entries(w.at.folder), 0);
    assert_int_equal(w.notices, 0);
}

static void a_second_set_of_one_step_stands_beside_the_first(void **state)
{
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 3, TOY_ERR));
    TOY_OK(save_version(&w, 3, TOY_ERR));
    assert_int_equal(access(in_sets(w.at.folder, "step-3-2/manifest.json"), F_OK), 0);
    scratch_put(in_sets(w.at.folder, "step-3-2/model.safetensors"), "x", 1);
    assert_int_equal(found_version(&w, NULL), 3);
    assert_int_equal(w.notices, 1);
    assert_non_null(strstr(w.said, "step-3-2 is not used"));
    TOY_OK(save_version(&w, 4, TOY_ERR));
    assert_int_equal(found_version(&w, NULL), 4);
}

/* Names that are none of ours are neither read nor removed. */
static void other_names_in_the_folder_are_left_alone(void **state)
{
    static const char *const names[] = { "step-",     "step-x",  "step-07",    "step-7-1",
                                         "step-7-01", "step-7-", "step-7-2-3", "step-9999999999999999",
                                         "step--1",   "Step-7",  "step-7 " };
    const size_t n = sizeof names / sizeof *names;
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(mkdir(in_sets(w.at.folder, names[i]), 0700), 0);
    scratch_put(in_sets(w.at.folder, "step-8"), "a file", 6);
    TOY_OK(save_version(&w, 2, TOY_ERR));
    assert_int_equal(found_version(&w, NULL), 2);
    TOY_OK(heed__checkpoint_clear(&w.at, TOY_ERR));
    assert_int_equal(scratch_entries(w.at.folder), (int)n + 1);
}

static void numbers_that_are_not_finite_are_never_committed(void **state)
{
    checkpoint_state s = small_state(2);
    heed_error err = { 0 };
    heed_weights *bad;
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    bad = small_weights(w.at.ctx, 2);
    ((float *)heed_weights_find(bad, "optimizer.exp_avg.fc.weight").data)[3] = INFINITY;
    assert_int_equal(heed__checkpoint_save(&w.at, &s, bad, NULL, 2, &err), HEED_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "exp_avg"));
    heed_weights_free(bad);
    bad = small_weights(w.at.ctx, 2);
    s.loss_sum = NAN;
    err = (heed_error){ 0 };
    assert_int_equal(heed__checkpoint_save(&w.at, &s, bad, NULL, 2, &err), HEED_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "loss_sum"));
    heed_weights_free(bad);
    assert_int_equal(scratch_entries(w.at.folder), 1);
    assert_int_equal(found_version(&w, NULL), 1);
}

/* Doubles go through the file without losing a bit. */
static void every_number_of_the_state_comes_back_to_the_bit(void **state)
{
    static const double numbers[] = { 0,    1.0 / 3, 5e-324, DBL_MIN, DBL_MAX, -DBL_MAX, 123456789012345678.0,
                                      1e22, -0.1 };
    witness w;

    witness_init(&w, *state, sets_of(*state));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        checkpoint_state s = small_state(1), got = { 0 };
        heed_weights *now = small_weights(w.at.ctx, 1);
        char *set = NULL;
        arena a;

        s.loss_sum = numbers[i];
        s.metrics_bytes = INT64_C(9000000000000000) - (int64_t)i;
        heed__arena_init(&a, w.at.ctx->heap);
        TOY_OK(heed__checkpoint_save(&w.at, &s, now, NULL, 1, TOY_ERR));
        TOY_OK(heed__checkpoint_find(&set, &got, &w.at, &a, TOY_ERR));
        assert_memory_equal(&got.loss_sum, &s.loss_sum, sizeof s.loss_sum);
        assert_int_equal(got.metrics_bytes, s.metrics_bytes);
        assert_string_equal(got.isa, "portable");
        heed__release(w.at.ctx->heap, set);
        heed__arena_release(&a);
        heed_weights_free(now);
    }
}

/* ---- damage ---- */

static const char *const files_of_a_set[] = { "model.safetensors", "optimizer.safetensors",
                                              "best.safetensors", "trainer.json", "manifest.json" };

/* With an older set beside it: that one is used, and the damage is told. */
static void expect_noticed(witness *w, const char *what, size_t at)
{
    w->notices = 0;
    if (found_version(w, NULL) != 2 || w->notices != 1 || !strstr(w->said, "step-3 is not used"))
        fail_msg("%s, byte %zu: %d notices \"%s\"", what, at, w->notices, w->said);
}

static void every_flipped_bit_and_every_truncation_is_noticed(void **state)
{
    int64_t flips = 0, cuts = 0;
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 2, TOY_ERR));
    TOY_OK(save_version(&w, 3, TOY_ERR));
    for (size_t f = 0; f < sizeof files_of_a_set / sizeof *files_of_a_set; f++) {
        char path[300];
        size_t n;
        uint8_t *bytes;

        snprintf(path, sizeof path, "%s/step-3/%s", w.at.folder, files_of_a_set[f]);
        bytes = scratch_get(path, &n);
        for (size_t i = 0; i < n; i++, flips++) { /* all bits of the manifest, one of each byte elsewhere */
            for (int bit = f == 4 ? 0 : (int)(i % 8); bit < (f == 4 ? 8 : (int)(i % 8) + 1); bit++) {
                bytes[i] ^= (uint8_t)(1 << bit);
                scratch_put(path, bytes, n);
                expect_noticed(&w, files_of_a_set[f], i);
                bytes[i] ^= (uint8_t)(1 << bit);
            }
        }
        for (size_t i = 0; i < n; i += f == 4 ? 1 : 7, cuts++) {
            scratch_put(path, bytes, i);
            expect_noticed(&w, files_of_a_set[f], i);
        }
        bytes[n] = '\n';
        scratch_put(path, bytes, n + 1);
        expect_noticed(&w, "a byte more", n);
        bytes[n] = '\0';
        scratch_put(path, bytes, n);
        free(bytes);
        w.notices = 0;
        assert_int_equal(found_version(&w, NULL), 3);
        assert_int_equal(w.notices, 0);
    }
    print_message("damage: %" PRId64 " bytes with flipped bits, %" PRId64 " truncations, all noticed\n",
                  flips, cuts);
}

static void a_missing_file_is_noticed(void **state)
{
    char path[300];
    witness w;

    witness_init(&w, *state, sets_of(*state));
    for (int i = 0; i < 4; i++) {
        TOY_OK(save_version(&w, 2, TOY_ERR));
        TOY_OK(save_version(&w, 3, TOY_ERR));
        snprintf(path, sizeof path, "%s/step-3/%s", w.at.folder, files_of_a_set[i]);
        assert_int_equal(unlink(path), 0);
        expect_noticed(&w, files_of_a_set[i], 0);
        TOY_OK(heed__checkpoint_clear(&w.at, TOY_ERR));
    }
}

static void where_no_set_is_whole_the_training_does_not_go_on(void **state)
{
    heed_error err = { 0 };
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    TOY_OK(save_version(&w, 2, TOY_ERR));
    scratch_put(in_sets(w.at.folder, "step-1/model.safetensors"), "", 0);
    scratch_put(in_sets(w.at.folder, "step-2/trainer.json"), "{}", 2);
    assert_int_equal(found_version(&w, &err), -1);
    assert_int_equal(w.notices, 2);
    assert_int_equal(err.code, HEED_ERR_FORMAT);
    assert_non_null(strstr(err.text, "--fresh begins anew"));
    assert_non_null(strstr(err.text, "trainer.json is not the file that"));
    assert_int_equal(scratch_entries(w.at.folder), 2); /* nothing is repaired, nothing removed */
}

/* A manifest that vouches for what is there now. */
static void vouch(const char *set, int step)
{
    char manifest[2000], hex[65], path[300];
    int used = snprintf(manifest, sizeof manifest, "{\"format\": 1, \"step\": %d, \"files\": [\n", step);
    bool first = true;

    for (int i = 0; i < 4; i++) {
        uint8_t digest[32], *bytes;
        sha256 sum;
        size_t n;

        snprintf(path, sizeof path, "%s/%s", set, files_of_a_set[i]);
        if (access(path, F_OK) != 0)
            continue;
        bytes = scratch_get(path, &n);
        heed__sha256_init(&sum);
        heed__sha256_add(&sum, bytes, n);
        heed__sha256_end(&sum, digest);
        heed__hex(hex, digest, 32);
        used +=
            snprintf(manifest + used, sizeof manifest - (size_t)used,
                     "%s {\"name\": \"%s\", \"size\": %zu, \"sha256\": \"%s\", \"crc32c\": [%" PRIu32 "]}",
                     first ? "" : ",\n", files_of_a_set[i], n, hex, heed__crc32c(0, bytes, n));
        first = false;
        free(bytes);
    }
    used += snprintf(manifest + used, sizeof manifest - (size_t)used, "\n]}\n");
    snprintf(path, sizeof path, "%s/manifest.json", set);
    scratch_put(path, manifest, (size_t)used);
}

/* The set's trainer.json with a part replaced, and a manifest that fits: what is said of it. */
static const char *state_with(witness *w, const char *from, const char *to, heed_error *err)
{
    const char *path = in_sets(w->at.folder, "step-1/trainer.json");
    char *good, changed[3000];
    const char *at;
    size_t n;

    good = (char *)scratch_get(path, &n);
    at = strstr(good, from);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    scratch_put(path, changed, strlen(changed));
    vouch(in_sets(w->at.folder, "step-1"), 1);
    *err = (heed_error){ 0 };
    assert_int_equal(found_version(w, err), -1);
    scratch_put(path, good, n);
    free(good);
    return err->text;
}

static void a_state_that_is_not_ours_is_refused_with_the_reason(void **state)
{
    static const struct {
        const char *from, *to, *words;
    } cases[] = {
        { "\"format\": 1", "\"format\": 2", "format 2 is of another version of heed; this one reads 1" },
        { "\"format\": 1", "\"format\": \"1\"", "\"format\" is missing or no integer" },
        { "\"epoch\": 0", "\"epochs\": 0", "\"epoch\" is missing or of another kind" },
        { "\"epoch\": 0", "\"epoch\": 0.5", "\"epoch\" is missing or of another kind" },
        { "\"epoch\": 0", "\"epoch\": -1", "\"epoch\" is -1, outside 0 to" },
        { "\"epoch\": 0", "\"epoch\": 9100000000000000", "outside 0 to" },
        { "\"epoch\": 0", "\"epoch\": 0, \"epoch\": 0", "a key stands twice" },
        { "\"epoch\": 0", "\"epoch\": 0, \"x\": 1", "unknown field \"x\"" },
        { "\"loss_sum\": ", "\"loss_sum\": null, \"y\": ", "\"loss_sum\" is missing or of another kind" },
        { "\"isa\": \"portable\"", "\"isa\": 1", "\"isa\" is missing or of another kind" },
        { "\"step\": 1", "\"step\": 2", "says step 2" },
        { "\"format\": 1", "[[[[", "this is not JSON" },
    };
    heed_error err;
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    vouch(in_sets(w.at.folder, "step-1"), 1); /* the test's own manifest is the one that is written */
    assert_int_equal(found_version(&w, NULL), 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strstr(state_with(&w, cases[i].from, cases[i].to, &err), cases[i].words))
            fail_msg("%s: %s", cases[i].to, err.text);
}

static void a_set_of_a_newer_version_is_refused_as_such(void **state)
{
    heed_error err = { 0 };
    uint8_t *bytes;
    const char *path;
    size_t n;
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    path = in_sets(w.at.folder, "step-1/manifest.json");
    bytes = scratch_get(path, &n);
    bytes[strlen("{\"format\": ")] = '2';
    scratch_put(path, bytes, n);
    free(bytes);
    assert_int_equal(found_version(&w, &err), -1);
    assert_non_null(strstr(err.text, "another version of heed wrote it; this one reads format 1"));
}

static void weights_of_another_shape_are_refused_by_name(void **state)
{
    heed_weights *other = NULL;
    heed_error err = { 0 };
    char set[200];
    float x[2] = { 0 };
    witness w;

    witness_init(&w, *state, sets_of(*state));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    snprintf(set, sizeof set, "%s/step-1", w.at.folder);
    TOY_OK(heed_weights_new(&other, w.at.ctx, TOY_ERR));
    TOY_OK(heed_weights_put(other, "fc.weight", (heed_tensor){ HEED_TYPE(HEED_F32, 2), x }, TOY_ERR));
    TOY_OK(heed_weights_put(other, "optimizer.lost", (heed_tensor){ HEED_TYPE(HEED_F32, 2), x }, TOY_ERR));
    assert_int_equal(heed__checkpoint_load(set, w.at.ctx, other, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "fc.bias"));
    heed_weights_free(other);
}

/* ---- the order of calls ---- */

static const char order_of_a_save[] =
    "mkdir step-2\n"
    "sync .\n"
    "new tmp\nwrite tmp\nsync tmp\nrename tmp step-2/model.safetensors\nsync step-2\n"
    "new tmp\nwrite tmp\nsync tmp\nrename tmp step-2/optimizer.safetensors\nsync step-2\n"
    "new tmp\nwrite tmp\nsync tmp\nrename tmp step-2/best.safetensors\nsync step-2\n"
    "new tmp\nwrite tmp\nsync tmp\nrename tmp step-2/trainer.json\nsync step-2\n"
    "new tmp\nwrite tmp\nsync tmp\nrename tmp step-2/manifest.json\nsync step-2\n"
    "unlink step-1/manifest.json\n"
    "unlink step-1/model.safetensors\n"
    "unlink step-1/optimizer.safetensors\n"
    "unlink step-1/trainer.json\n"
    "rmdir step-1\n";

/* Saves version 2 over version 1 with keep 1, traced; `begin` is a copy of the folder before. */
static void trace_a_save(traced_files *t, witness *w, const char *begin)
{
    const file_ops *real = w->at.ctx->files;
    char command[400];

    w->keep = 1;
    TOY_OK(save_version(w, 1, TOY_ERR));
    snprintf(command, sizeof command, "cp -r '%s' '%s'", w->at.folder, begin);
    assert_int_equal(system(command), 0);
    traced_files_init(t, real, w->at.folder);
    w->at.ctx->files = &t->ops;
    TOY_OK(save_version(w, 2, TOY_ERR));
    w->at.ctx->files = real;
}

static void a_save_makes_each_file_durable_then_the_manifest_then_drops_the_old_set(void **state)
{
    traced_files *t = calloc(1, sizeof *t);
    char got[4000];
    witness w;

    witness_init(&w, *state, sets_of(*state));
    trace_a_save(t, &w, scratch_path(*state, "begin"));
    traced_files_print(t, got, sizeof got);
    assert_string_equal(got, order_of_a_save);
    traced_files_release(t);
    free(t);
}

/* ---- power ---- */

typedef struct power {
    witness *w;
    int calls, lost, damaged, old, new;
    bool stop_at_bad;
} power;

/* The old set or the new one is found, the new one when the save had ended; and a crash alone never makes a
 * set that looks damaged. */
static bool look_at_disk(void *user, int done)
{
    power *p = user;
    int version;

    p->w->notices = 0;
    version = found_version(p->w, NULL);
    p->lost += version <= 0 || (done == p->calls && version != 2);
    p->damaged += p->w->notices > 0;
    p->old += version == 1;
    p->new += version == 2;
    return !(p->stop_at_bad && (p->lost || p->damaged));
}

static void no_power_cut_loses_a_checkpoint(void **state)
{
    traced_files *t = calloc(1, sizeof *t);
    char begin[200], disk[200];
    scratch *s = *state;
    witness w;
    power p;
    int64_t states;

    snprintf(begin, sizeof begin, "%s/begin", s->folder);
    snprintf(disk, sizeof disk, "%s/disk", s->folder);
    witness_init(&w, s, sets_of(s));
    trace_a_save(t, &w, begin);
    w.at.folder = disk;
    p = (power){ .w = &w, .calls = t->n };
    states = crash_states(t, begin, disk, -1, look_at_disk, &p);
    print_message("power: %" PRId64 " disks after %d calls: old set %d, new set %d, lost %d, damaged %d\n",
                  states, t->n, p.old, p.new, p.lost, p.damaged);
    assert_int_equal(p.lost, 0);
    assert_int_equal(p.damaged, 0);
    assert_true(states > 200 && p.old > 100 && p.new > 50);
    traced_files_release(t);
    free(t);
}

/* Sets on their way out are there or not, but none of them looks damaged. */
static bool look_at_clearing(void *user, int done)
{
    power *p = user;
    int version;

    p->w->notices = 0;
    version = found_version(p->w, NULL);
    p->lost += version < 0 || (done == p->calls && version != 0);
    p->damaged += p->w->notices > 0;
    return true;
}

static void a_power_cut_while_sets_are_cleared_damages_none(void **state)
{
    traced_files *t = calloc(1, sizeof *t);
    char begin[200], disk[200], command[400];
    scratch *s = *state;
    const file_ops *real = s->ctx->files;
    int64_t states;
    witness w;
    power p;

    snprintf(begin, sizeof begin, "%s/begin", s->folder);
    snprintf(disk, sizeof disk, "%s/disk", s->folder);
    witness_init(&w, s, sets_of(s));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    TOY_OK(save_version(&w, 2, TOY_ERR));
    snprintf(command, sizeof command, "cp -r '%s' '%s'", w.at.folder, begin);
    assert_int_equal(system(command), 0);
    traced_files_init(t, real, w.at.folder);
    s->ctx->files = &t->ops;
    TOY_OK(heed__checkpoint_clear(&w.at, TOY_ERR));
    s->ctx->files = real;
    w.at.folder = disk;
    p = (power){ .w = &w, .calls = t->n };
    states = crash_states(t, begin, disk, -1, look_at_clearing, &p);
    print_message("power: %" PRId64 " disks while sets are cleared: lost %d, damaged %d\n", states, p.lost,
                  p.damaged);
    assert_int_equal(p.lost + p.damaged, 0);
    traced_files_release(t);
    free(t);
}

/* Is the folder synced once more before the manifest gets its name? Then this sync is not needed. */
static bool synced_again(const traced_files *t, int at)
{
    if (t->calls[at].kind != TRACE_SYNC_FOLDER)
        return false;
    for (int i = at + 1;
         i < t->n && !(t->calls[i].kind == TRACE_RENAME && strstr(t->calls[i].to, "manifest")); i++)
        if (t->calls[i].kind == TRACE_SYNC_FOLDER && strcmp(t->calls[i].path, t->calls[at].path) == 0)
            return true;
    return false;
}

static void without_any_one_fsync_the_power_test_fails(void **state)
{
    traced_files *t = calloc(1, sizeof *t);
    char begin[200], disk[200];
    scratch *s = *state;
    int needed = 0, repeated = 0;
    witness w;

    snprintf(begin, sizeof begin, "%s/begin", s->folder);
    snprintf(disk, sizeof disk, "%s/disk", s->folder);
    witness_init(&w, s, sets_of(s));
    trace_a_save(t, &w, begin);
    w.at.folder = disk;
    for (int i = 0; i < t->n; i++) {
        power p = { .w = &w, .calls = t->n, .stop_at_bad = true };

        if (t->calls[i].kind != TRACE_SYNC && t->calls[i].kind != TRACE_SYNC_FOLDER)
            continue;
        if (synced_again(t, i)) {
            repeated++;
            continue;
        }
        needed++;
        crash_states(t, begin, disk, i, look_at_disk, &p);
        if (!p.lost && !p.damaged)
            fail_msg("call %d, sync of %s, may be left out and nothing is noticed", i, t->calls[i].path);
    }
    print_message("power: each of %d fsyncs is needed; %d of a folder are repeated before its manifest\n",
                  needed, repeated);
    assert_int_equal(needed, 8);
    assert_int_equal(repeated, 3);
    traced_files_release(t);
    free(t);
}

/* ---- kills, full disks, faults ---- */

static void a_death_at_any_call_of_a_save_leaves_the_old_set_or_the_new_one(void **state)
{
    scratch *s = *state;
    const file_ops *real = s->ctx->files;
    dying_files f;
    uint64_t calls;
    witness w;
    int old = 0, new = 0;

    witness_init(&w, s, sets_of(s));
    w.keep = 1;
    TOY_OK(save_version(&w, 1, TOY_ERR));
    dying_files_init(&f, real);
    s->ctx->files = &f.ops;
    TOY_OK(save_version(&w, 2, TOY_ERR));
    s->ctx->files = real;
    calls = f.calls;
    for (uint64_t n = 1; n <= calls; n++) {
        for (int torn = 0; torn < 2; torn++) {
            int version;

            scratch_clear(w.at.folder);
            TOY_OK(save_version(&w, 1, TOY_ERR));
            dying_files_init(&f, real);
            f.at = n;
            f.torn = torn;
            s->ctx->files = &f.ops;
            (void)save_version(&w, 2, NULL);
            s->ctx->files = real;
            w.notices = 0;
            version = found_version(&w, NULL);
            old += version == 1;
            new += version == 2;
            assert_true(version > 0);
            assert_int_equal(version, f.committed ? 2 : 1);
            assert_int_equal(w.notices, 0);
            TOY_OK(save_version(&w, 3, TOY_ERR)); /* and the next save cleans up */
            assert_int_equal(scratch_entries(w.at.folder), 1);
            assert_int_equal(found_version(&w, NULL), 3);
        }
    }
    print_message("death at each of %d calls of a save: old set %d, new set %d\n", (int)calls, old, new);
}

static void a_full_disk_is_named_and_costs_no_set(void **state)
{
    scratch *s = *state;
    full_disk disk;
    int failed = 0;
    witness w;

    witness_init(&w, s, sets_of(s));
    TOY_OK(save_version(&w, 1, TOY_ERR));
    for (uint64_t bytes = 0;; bytes += 64) { /* a set is smaller than 4 KiB here */
        heed_error err = { 0 };
        heed_status st;

        full_disk_in(&disk, s->ctx, bytes);
        st = save_version(&w, 2, &err);
        full_disk_out(&disk);
        if (st == HEED_OK)
            break;
        failed++;
        assert_int_equal(st, HEED_ERR_IO);
        assert_non_null(strstr(err.text, "the disk is full"));
        assert_non_null(strstr(err.text, "bytes more are needed"));
        assert_non_null(strstr(err.text, "are free on its file system"));
        assert_int_equal(scratch_entries(w.at.folder), 1); /* what was half written is gone again */
        assert_int_equal(found_version(&w, NULL), 1);
    }
    assert_true(failed > 20);
    assert_int_equal(found_version(&w, NULL), 2);
}

static char fail_folder[128];
static int fail_found;

static heed_status save_and_find(heed_context *ctx, void *user, heed_error *err)
{
    heed_weights *const *versions = user;
    const checkpoint_place at = { .ctx = ctx, .folder = fail_folder };
    const checkpoint_state s = small_state(2);
    checkpoint_state got = { 0 };
    heed_weights *loaded = NULL;
    char *set = NULL;
    heed_status st;
    arena a;

    heed__arena_init(&a, ctx->heap);
    fail_found = 0;
    st = heed_weights_new(&loaded, ctx, err);
    for (int64_t i = 0; i < heed_weights_count(versions[0]) && st == HEED_OK; i++) {
        const char *name;
        const heed_tensor x = heed_weights_at(versions[0], i, &name);

        st = heed_weights_put(loaded, name, x, err);
    }
    if (st == HEED_OK)
        st = heed__checkpoint_save(&at, &s, loaded, versions[1], 1, err);
    if (st == HEED_OK)
        st = heed__checkpoint_find(&set, &got, &at, &a, err);
    if (st == HEED_OK && !set) /* the folder could not be opened */
        st = heed__fail(err, HEED_ERR_IO, "no set was found");
    if (st == HEED_OK)
        st = heed__checkpoint_load(set, ctx, loaded, err);
    if (st == HEED_OK)
        fail_found = (int)got.step;
    heed__release(ctx->heap, set);
    heed_weights_free(loaded);
    heed__arena_release(&a);
    return st;
}

static void fail_prepare(heed_context *ctx, void *user)
{
    witness w = { .at = { .ctx = ctx, .folder = fail_folder }, .keep = 1 };

    (void)user;
    scratch_clear(fail_folder);
    TOY_OK(save_version(&w, 1, TOY_ERR));
}

/* Version 1 or version 2 is whole, whatever failed. */
static bool fail_right(heed_context *ctx, void *user, heed_status st)
{
    witness w = { .at = { .ctx = ctx, .folder = fail_folder } };
    const int version = found_version(&w, NULL);

    (void)user;
    return version == 2 || (version == 1 && (st != HEED_OK || fail_found == 1));
}

static void every_allocation_and_every_file_call_of_save_and_load_may_fail(void **state)
{
    const heed_scenario scenario = { .name = "checkpoint: save, find, load",
                                     .run = save_and_find,
                                     .prepare = fail_prepare,
                                     .right = fail_right };
    scratch *s = *state;
    heed_weights *versions[2] = { small_weights(s->ctx, 2), small_weights(s->ctx, 1) };
    heed_fail_report report;

    snprintf(fail_folder, sizeof fail_folder, "%s/checkpoints", s->folder);
    assert_true(heed_fail_each(&scenario, versions, &report));
    assert_true(heed_fail_each_file(&scenario, versions, &report));
    heed_weights_free(versions[0]);
    heed_weights_free(versions[1]);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(what_is_saved_is_found_and_old_sets_go),
        UNIT(a_second_set_of_one_step_stands_beside_the_first),
        UNIT(other_names_in_the_folder_are_left_alone),
        UNIT(numbers_that_are_not_finite_are_never_committed),
        UNIT(every_number_of_the_state_comes_back_to_the_bit),
        UNIT(every_flipped_bit_and_every_truncation_is_noticed),
        UNIT(a_missing_file_is_noticed),
        UNIT(where_no_set_is_whole_the_training_does_not_go_on),
        UNIT(a_state_that_is_not_ours_is_refused_with_the_reason),
        UNIT(a_set_of_a_newer_version_is_refused_as_such),
        UNIT(weights_of_another_shape_are_refused_by_name),
        UNIT(a_save_makes_each_file_durable_then_the_manifest_then_drops_the_old_set),
        UNIT(no_power_cut_loses_a_checkpoint),
        UNIT(a_power_cut_while_sets_are_cleared_damages_none),
        UNIT(without_any_one_fsync_the_power_test_fails),
        UNIT(a_death_at_any_call_of_a_save_leaves_the_old_set_or_the_new_one),
        UNIT(a_full_disk_is_named_and_costs_no_set),
        UNIT(every_allocation_and_every_file_call_of_save_and_load_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
