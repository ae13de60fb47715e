/* Pictures for a run from files, folders and IDX; taps over them as NPZ; curves. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include <heed/task.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEST 23

typedef struct trip {
    scratch *s;
    heed_run *run;
    char idx[192], folder[128], out[128];
    uint8_t pixels[TEST * 64]; /* of the test part */
    int64_t met; /* pictures that came in the last run of a scenario, and whether all were right */
    bool right;
} trip;

static const char *at(const trip *t, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", t->folder, name);
    return path;
}

static void put_pnm(const char *path, int channels, int side, const uint8_t *pixels)
{
    uint8_t bytes[32 + 3 * 16 * 16];
    const int head = snprintf((char *)bytes, 32, "P%d\n%d %d\n255\n", channels == 3 ? 6 : 5, side, side);

    memcpy(bytes + head, pixels, (size_t)(channels * side * side));
    scratch_put(path, bytes, (size_t)(head + channels * side * side));
}

static trip open_trip(scratch *s, const char *model)
{
    trip t = { .s = s };
    char data[128], recipe[128], words[600];
    heed_train_result result;
    heed_recipe *r = NULL;
    uint8_t *file;
    size_t n;

    snprintf(data, sizeof data, "%s/data", s->folder);
    snprintf(t.out, sizeof t.out, "%s/run", s->folder);
    snprintf(recipe, sizeof recipe, "%s/recipe.yaml", s->folder);
    snprintf(t.folder, sizeof t.folder, "%s/pictures", s->folder);
    snprintf(t.idx, sizeof t.idx, "%s/t10k-images-idx3-ubyte", data);
    mkdir(data, 0700);
    mkdir(t.folder, 0700);
    toy_write_idx(data, 60, TEST);
    snprintf(
        words, sizeof words,
        "data:\n  path: %s\n  classes: one, two, three\n  validation: 0.2\n  mirror: true\nmodel:\n  name: %s\n"
        "train:\n  epochs: 1\n  batch_size: 16\n  lr: 0.01\n  seed: 5\n",
        data, model);
    scratch_put(recipe, words, strlen(words));
    TOY_OK(heed_recipe_open(&r, s->ctx, recipe, NULL, TOY_ERR));
    TOY_OK(heed_train(&result, s->ctx, r, &(heed_train_opts){ .out = t.out }, TOY_ERR));
    heed_recipe_free(r);
    TOY_OK(heed_run_open(&t.run, s->ctx, t.out, TOY_ERR));
    file = scratch_get(t.idx, &n);
    assert_int_equal(n, 16 + sizeof t.pixels);
    memcpy(t.pixels, file + 16, sizeof t.pixels);
    free(file);
    return t;
}

#define MLP "mlp\n  hidden: [8]"
#define CONV "conv-attention\n  stem: 4 P 8\n  heads: 2"

/* A folder of records 0, 1 and 2: b.pgm, sub/a.PGM, sub/deep/x.ppm; and what is no picture or hidden. */
static void put_folder(const trip *t)
{
    uint8_t rgb[3 * 64];

    put_pnm(at(t, "b.pgm"), 1, 8, t->pixels);
    mkdir(at(t, "sub"), 0700);
    mkdir(at(t, "sub/deep"), 0700);
    put_pnm(at(t, "sub/a.PGM"), 1, 8, t->pixels + 64);
    for (int i = 0; i < 64; i++)
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = t->pixels[2 * 64 + i];
    put_pnm(at(t, "sub/deep/x.ppm"), 3, 8, rgb);
    scratch_put(at(t, "notes.txt"), "x", 1);
    put_pnm(at(t, ".hidden.pgm"), 1, 8, t->pixels);
}

static heed_inputs *open_inputs(const trip *t, int64_t skip_bad, const char *first, const char *second)
{
    heed_inputs *in = NULL;

    TOY_OK(heed_inputs_open(&in, t->run, (const char *const[]){ first, second, NULL }, skip_bad, TOY_ERR));
    return in;
}

/* ---- what comes out ---- */

static void records_files_and_folders_come_in_order_with_their_names(void **state)
{
    trip t = open_trip(*state, MLP);
    char range[224], name[224];
    const char *const *names;
    heed_inputs *in;
    heed_tensor x;

    put_folder(&t);
    snprintf(range, sizeof range, "%s[2:4]", t.idx);
    in = open_inputs(&t, 0, range, t.folder);
    TOY_OK(heed_inputs_next(in, 100, &x, &names, TOY_ERR));
    assert_true(heed_type_equal(&x.type, TYPE_AT(HEED_U8, 5, 1, 8, 8)));
    snprintf(name, sizeof name, "%s[2]", t.idx);
    assert_string_equal(names[0], name);
    assert_memory_equal(x.data, t.pixels + 2 * 64, 2 * 64);
    assert_string_equal(names[2], at(&t, "b.pgm"));
    assert_string_equal(names[3], at(&t, "sub/a.PGM"));
    assert_string_equal(names[4], at(&t, "sub/deep/x.ppm"));
    assert_memory_equal((uint8_t *)x.data + 2 * 64, t.pixels, 3 * 64);
    TOY_OK(heed_inputs_next(in, 100, &x, &names, TOY_ERR));
    assert_int_equal(x.type.dims[0], 0);
    assert_int_equal(heed_inputs_skipped(in), 0);
    heed_inputs_close(in);
    heed_run_free(t.run);
}

static void the_size_of_a_batch_changes_nothing(void **state)
{
    trip t = open_trip(*state, MLP);
    uint8_t seen[(TEST + 3) * 64];

    put_folder(&t);
    for (int64_t most = 1; most < 30; most += 4) {
        heed_inputs *in = open_inputs(&t, 0, t.idx, t.folder);
        const char *const *names;
        heed_tensor x;
        int64_t n = 0;

        do {
            TOY_OK(heed_inputs_next(in, most, &x, &names, TOY_ERR));
            assert_true(x.type.dims[0] <= most && n + x.type.dims[0] <= TEST + 3);
            memcpy(seen + n * 64, x.data, (size_t)(x.type.dims[0] * 64));
            n += x.type.dims[0];
        } while (x.type.dims[0] > 0);
        assert_int_equal(n, TEST + 3);
        assert_memory_equal(seen, t.pixels, sizeof t.pixels);
        assert_memory_equal(seen + TEST * 64, t.pixels, 3 * 64);
        heed_inputs_close(in);
    }
    heed_run_free(t.run);
}

static void other_sizes_are_made_the_runs(void **state)
{
    trip t = open_trip(*state, MLP);
    const char *const *names;
    uint8_t large[256];
    heed_inputs *in;
    heed_tensor x;

    memset(large, 77, sizeof large);
    put_pnm(at(&t, "large.pgm"), 1, 16, large);
    toy_write_idx_file(at(&t, "large.idx"), (const uint32_t[]){ 1, 16, 16, 0 }, large);
    in = open_inputs(&t, 0, at(&t, "large.pgm"), at(&t, "large.idx"));
    TOY_OK(heed_inputs_next(in, 9, &x, &names, TOY_ERR));
    assert_true(heed_type_equal(&x.type, TYPE_AT(HEED_U8, 2, 1, 8, 8)));
    for (int i = 0; i < 128; i++)
        assert_int_equal(((uint8_t *)x.data)[i], 77);
    heed_inputs_close(in);
    heed_run_free(t.run);
}

/* Prediction of one alone, of a part and of all: the same bits. */
static void a_picture_is_told_the_same_alone_and_among_others(void **state)
{
    trip t = open_trip(*state, CONV);
    float all[TEST * 3], one[3];

    TOY_OK(heed_run_predict(t.run, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), t.pixels },
                            HEED_AVERAGE_NONE, all, TOY_ERR));
    for (int i = 0; i < TEST; i++) {
        TOY_OK(heed_run_predict(t.run, (heed_tensor){ HEED_TYPE(HEED_U8, 1, 8, 8), t.pixels + i * 64 },
                                HEED_AVERAGE_NONE, one, TOY_ERR));
        assert_memory_equal(one, all + i * 3, sizeof one);
    }
    heed_run_free(t.run);
}

/* ---- what is refused, and what is passed over ---- */

static void refused(const trip *t, const char *path, int64_t skip_bad, heed_status code, const char *says)
{
    heed_inputs *in = open_inputs(t, skip_bad, path, NULL);
    const char *const *names;
    heed_error err = { 0 };
    heed_tensor x;
    heed_status st;

    do
        st = heed_inputs_next(in, 2, &x, &names, &err);
    while (st == HEED_OK && x.type.dims[0] > 0);
    assert_int_equal(st, code);
    if (!strstr(err.text, says) && !strstr(err.path, says))
        fail_msg("\"%s\" (%s) does not say: %s", err.text, err.path, says);
    heed_inputs_close(in);
}

static void what_is_no_picture_is_refused_by_name(void **state)
{
    trip t = open_trip(*state, MLP);
    heed_inputs *in = NULL;

    refused(&t, at(&t, "none.png"), 9, HEED_ERR_IO, "none.png");
    refused(&t, t.folder, 9, HEED_ERR_FORMAT, "there is no picture in this folder");
    scratch_put(at(&t, "a.txt"), "words", 5);
    refused(&t, at(&t, "a.txt"), 0, HEED_ERR_FORMAT, "a.txt: this is no picture");
    scratch_put(at(&t, "empty"), "", 0);
    refused(&t, at(&t, "empty"), 0, HEED_ERR_FORMAT, "empty");
    toy_write_idx_file(at(&t, "labels"), (const uint32_t[]){ 3, 0 }, (const uint8_t[]){ 0, 1, 2 });
    refused(&t, at(&t, "labels"), 9, HEED_ERR_SHAPE, "labels, probably");
    toy_write_idx_file(at(&t, "four"), (const uint32_t[]){ 1, 4, 1, 1, 0 }, (const uint8_t[]){ 0, 1, 2, 3 });
    refused(&t, at(&t, "four"), 9, HEED_ERR_SHAPE, "4 channels");
    assert_int_equal(heed_inputs_open(&in, t.run, (const char *const[]){ NULL }, 0, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_inputs_open(&in, t.run, (const char *const[]){ "-", NULL }, 0, NULL),
                     HEED_ERR_USAGE);
    assert_null(in);
    in = open_inputs(&t, 0, t.idx, NULL);
    assert_int_equal(heed_inputs_next(in, 0, &(heed_tensor){ 0 }, &(const char *const *){ NULL }, NULL),
                     HEED_ERR_USAGE);
    heed_inputs_close(in);
    heed_run_free(t.run);
}

static void so_many_bad_pictures_are_passed_over_and_no_more(void **state)
{
    trip t = open_trip(*state, MLP);
    const char *const *names;
    heed_inputs *in;
    heed_tensor x;

    put_folder(&t);
    scratch_put(at(&t, "a-bad.png"), "no", 2);
    scratch_put(at(&t, "sub/z-bad.jpg"), "no", 2);
    in = open_inputs(&t, 2, t.folder, NULL);
    TOY_OK(heed_inputs_next(in, 100, &x, &names, TOY_ERR));
    assert_int_equal(x.type.dims[0], 3);
    assert_memory_equal(x.data, t.pixels, 3 * 64);
    assert_int_equal(heed_inputs_skipped(in), 2);
    assert_non_null(strstr(heed_inputs_skipped_why(in), "z-bad.jpg: this is no picture"));
    heed_inputs_close(in);
    refused(&t, t.folder, 0, HEED_ERR_FORMAT, "a-bad.png");
    refused(&t, t.folder, 1, HEED_ERR_FORMAT, "(1 bad pictures were passed over before it)");
    heed_run_free(t.run);
}

static void folders_in_folders_without_end_are_refused(void **state)
{
    trip t = open_trip(*state, MLP);
    char path[512];
    int n = snprintf(path, sizeof path, "%s", t.folder);

    for (int i = 0; i < 66; i++) {
        n += snprintf(path + n, sizeof path - (size_t)n, "/d");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    refused(&t, t.folder, 0, HEED_ERR_LIMIT, "nested deeper than 64");
    for (; n > (int)strlen(t.folder); n -= 2) {
        path[n] = 0;
        rmdir(path);
    }
    heed_run_free(t.run);
}

/* ---- taps ---- */

static heed_taps *open_taps(const trip *t, const char *first, const char *second)
{
    heed_taps *taps = NULL;

    TOY_OK(heed_taps_open(&taps, t->run, (const char *const[]){ first, second, NULL }, 0, TOY_ERR));
    return taps;
}

static void taps_over_many_pictures_are_those_of_each(void **state)
{
    trip t = open_trip(*state, CONV);
    float plain[TEST * 3], logits[TEST * 3];
    heed_taps *whole, *parts;
    const char *a = at(&t, "a.npz"), *b = at(&t, "b.npz");

    TOY_OK(heed_run_predict(t.run, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), t.pixels },
                            HEED_AVERAGE_NONE, plain, TOY_ERR));
    whole = open_taps(&t, "*", "pool.weights"); /* each once */
    TOY_OK(
        heed_taps_predict(whole, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), t.pixels }, logits, TOY_ERR));
    assert_memory_equal(plain, logits, sizeof plain);
    assert_int_equal(heed_taps_count(whole), 2);
    assert_string_equal(heed_taps_name(whole, 0), "block.0.self_attn.weights");
    assert_string_equal(heed_taps_name(whole, 1), "pool.weights");
    assert_string_equal(heed_taps_name(whole, 2), "");
    assert_true(heed_taps_type(whole, 0).rank == 4 && heed_taps_type(whole, 0).dims[0] == TEST);
    assert_true(heed_taps_type(whole, 1).rank == 2 && heed_taps_type(whole, 1).dims[0] == TEST);
#ifdef HEED_HAVE_NPZ
    TOY_OK(heed_taps_write(whole, a, TOY_ERR));
#endif
    heed_taps_close(whole);
    parts = open_taps(&t, "block.*", "pool.weights");
    for (int64_t i = 0, n = 1; i < TEST; i += n, n = n % 5 + 1) {
        n = n < TEST - i ? n : TEST - i;
        TOY_OK(heed_taps_predict(parts, (heed_tensor){ HEED_TYPE(HEED_U8, n, 8, 8), t.pixels + i * 64 },
                                 logits, TOY_ERR));
    }
#ifdef HEED_HAVE_NPZ
    TOY_OK(heed_taps_write(parts, b, TOY_ERR));
    assert_true(scratch_same(a, b));
#else
    assert_int_equal(heed_taps_write(parts, b, NULL), HEED_ERR_MISSING);
    (void)a;
#endif
    heed_taps_close(parts);
    TOY_OK(heed_run_predict(t.run, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), t.pixels },
                            HEED_AVERAGE_MIRROR, logits, TOY_ERR)); /* the model is free again */
    heed_run_free(t.run);
}

static void unknown_taps_are_answered_with_those_there_are(void **state)
{
    trip t = open_trip(*state, CONV);
    heed_taps *taps = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_taps_open(&taps, t.run, (const char *const[]){ "pool.weight", NULL }, 0, &err),
                     HEED_ERR_USAGE);
    assert_string_equal(err.text,
                        "there is no tap \"pool.weight\" in this model: did you mean pool.weights? it has "
                        "block.0.self_attn.weights, pool.weights");
    err = (heed_error){ 0 };
    assert_int_equal(
        heed_taps_open(&taps, t.run, (const char *const[]){ "nothing.like.it.*", NULL }, 0, &err),
        HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "in this model; it has block.0"));
    assert_int_equal(heed_taps_open(&taps, t.run, (const char *const[]){ NULL }, 0, NULL), HEED_ERR_USAGE);
    assert_null(taps);
    heed_run_free(t.run);
}

static void a_model_without_taps_says_so(void **state)
{
    trip t = open_trip(*state, MLP);
    heed_taps *taps = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_taps_open(&taps, t.run, (const char *const[]){ "*", NULL }, 0, &err),
                     HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "this model (mlp) has no taps"));
    heed_run_free(t.run);
}

static void taps_beyond_the_memory_allowed_are_refused_and_nothing_is_lost(void **state)
{
    trip t = open_trip(*state, CONV);
    float logits[TEST * 3];
    heed_taps *taps = open_taps(&t, "pool.weights", NULL), *few = NULL;
    const heed_tensor two = { HEED_TYPE(HEED_U8, 2, 8, 8), t.pixels };
    heed_error err = { 0 };
    uint64_t bytes;

    TOY_OK(heed_taps_predict(taps, two, logits, TOY_ERR));
    bytes = (uint64_t)heed_taps_type(taps, 0).dims[1] * sizeof(float);
    heed_taps_close(taps);
    TOY_OK(heed_taps_open(&few, t.run, (const char *const[]){ "pool.weights", NULL }, 3 * bytes, TOY_ERR));
    TOY_OK(heed_taps_predict(few, two, logits, TOY_ERR));
    assert_int_equal(heed_taps_predict(few, two, logits, &err), HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "4 pictures are more than"));
    assert_int_equal(heed_taps_type(few, 0).dims[0], 2);
    heed_taps_close(few);
    heed_run_free(t.run);
}

/* ---- curves ---- */

static void curves_are_written_for_every_class(void **state)
{
    trip t = open_trip(*state, MLP);
    static const char *const files[] = { "roc.csv", "pr.csv", "roc.svg", "pr.svg" };
    heed_tensor probability, labels;
    heed_evaluation e = { 0 };
    char folder[160], path[200];

    TOY_OK(heed_run_evaluate(&e, t.run, NULL, TOY_ERR));
    assert_non_null(strstr(e.part, "test part of "));
    heed_evaluation_tensors(&e, HEED_AVERAGE_NONE, &probability, &labels);
    snprintf(folder, sizeof folder, "%s/deep/curves", t.folder);
    TOY_OK(heed_run_curves(t.run, folder, probability, labels, TOY_ERR));
    for (int i = 0; i < 4; i++) {
        uint8_t *bytes;
        size_t n;

        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        bytes = scratch_get(path, &n);
        if (strstr(files[i], ".csv")) {
            assert_memory_equal(bytes, "class,x,y,threshold\r\n", 21);
            assert_non_null(strstr((char *)bytes, "\r\nthree,"));
            assert_non_null(strstr((char *)bytes, i == 0 ? "one,0,0,inf\r\n" : "one,0,1,inf\r\n"));
        } else {
            assert_memory_equal(bytes, "<svg", 4);
            assert_non_null(strstr((char *)bytes, "three"));
        }
        free(bytes);
    }
    labels.type.dims[0]--;
    assert_int_equal(heed_run_curves(t.run, folder, probability, labels, NULL), HEED_ERR_SHAPE);
    heed_evaluation_release(t.s->ctx, &e);
    heed_run_free(t.run);
}

/* ---- faults ---- */

static heed_status look_at_all(heed_context *ctx, void *user, heed_error *err)
{
    trip *t = user;
    heed_run *run = NULL;
    heed_inputs *in = NULL;
    heed_tensor x;
    const char *const *names;
    heed_status st = heed_run_open(&run, ctx, t->out, err);

    if (st == HEED_OK)
        st = heed_inputs_open(&in, run, (const char *const[]){ t->idx, t->folder, NULL }, 0, err);
    while (st == HEED_OK) {
        st = heed_inputs_next(in, 1, &x, &names, err);
        if (st != HEED_OK || x.type.dims[0] == 0)
            break;
        t->right = t->right && memcmp(x.data, t->pixels + t->met % TEST * 64, 64) == 0;
        t->met++;
    }
    heed_inputs_close(in);
    heed_run_free(run);
    return st;
}

static void look_again(heed_context *ctx, void *user)
{
    trip *t = user;

    (void)ctx;
    t->met = 0;
    t->right = true;
}

/* A close that fails after reading harms nothing. */
static bool all_were_seen(heed_context *ctx, void *user, heed_status st)
{
    const trip *t = user;

    (void)ctx;
    return t->right && (st != HEED_OK || t->met == TEST + 3);
}

static heed_status tap_two(heed_context *ctx, void *user, heed_error *err)
{
    trip *t = user;
    heed_run *run = NULL;
    heed_taps *taps = NULL;
    float logits[6];
    heed_status st = heed_run_open(&run, ctx, t->out, err);

    if (st == HEED_OK)
        st = heed_taps_open(&taps, run, (const char *const[]){ "pool.*", NULL }, 0, err);
    if (st == HEED_OK)
        st = heed_taps_predict(taps, (heed_tensor){ HEED_TYPE(HEED_U8, 2, 8, 8), t->pixels }, logits, err);
#ifdef HEED_HAVE_NPZ
    if (st == HEED_OK)
        st = heed_taps_write(taps, at(t, "t.npz"), err);
#endif
    heed_taps_close(taps);
    heed_run_free(run);
    return st;
}

static heed_status draw_curves(heed_context *ctx, void *user, heed_error *err)
{
    static const int64_t labels[4] = { 0, 1, 2, 0 };
    static const float p[12] = { 0.5f, 0.25f, 0.25f, 0, 1, 0, 0, 0, 1, 0.25f, 0.25f, 0.5f };
    const trip *t = user;
    heed_run *run = NULL;
    heed_status st = heed_run_open(&run, ctx, t->out, err);

    if (st == HEED_OK)
        st = heed_run_curves(run, t->folder, (heed_tensor){ HEED_TYPE(HEED_F32, 4, 3), (void *)(uintptr_t)p },
                             (heed_tensor){ HEED_TYPE(HEED_I64, 4), (void *)(uintptr_t)labels }, err);
    heed_run_free(run);
    return st;
}

/* All four, or the call failed; no file is half there. */
static bool curves_are_whole(heed_context *ctx, void *user, heed_status st)
{
    static const char *const files[] = { "roc.csv", "pr.csv", "roc.svg", "pr.svg" };
    const trip *t = user;
    bool right = true;

    (void)ctx;
    for (int i = 0; i < 4; i++) {
        const bool there = access(at(t, files[i]), F_OK) == 0;
        size_t n = 0;
        uint8_t *bytes = there ? scratch_get(at(t, files[i]), &n) : NULL;

        right = right && (there || st != HEED_OK) &&
                (!there || memcmp(bytes + n - 2, i < 2 ? "\r\n" : ">\n", 2) == 0 || bytes[n - 1] == '>');
        free(bytes);
    }
    return right;
}

static void every_call_may_fail(void **state)
{
    static const heed_scenario looking = {
        .name = "inputs of a run", .run = look_at_all, .prepare = look_again, .right = all_were_seen
    };
    static const heed_scenario tapping = { .name = "taps of a run", .run = tap_two };
    static const heed_scenario drawing = { .name = "curves of a run",
                                           .run = draw_curves,
                                           .right = curves_are_whole };
    trip t = open_trip(*state, CONV);
    heed_fail_report report;

    put_folder(&t);
    assert_true(heed_fail_each(&looking, &t, &report));
    assert_true(heed_fail_each(&drawing, &t, &report));
    assert_true(heed_fail_each(&tapping, &t, &report));
    assert_true(heed_fail_each_file(&drawing, &t, &report));
    heed_run_free(t.run);
}

/* A listing or a look that fails may take a path for another kind; the call still ends in an error. */
static void every_file_call_may_fail(void **state)
{
    static const heed_scenario looking = {
        .name = "inputs of a run", .run = look_at_all, .prepare = look_again, .right = all_were_seen
    };
    trip t = open_trip(*state, MLP);
    heed_fail_report report;

    put_folder(&t);
    assert_true(heed_fail_each_file(&looking, &t, &report));
    heed_run_free(t.run);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(records_files_and_folders_come_in_order_with_their_names),
        UNIT(the_size_of_a_batch_changes_nothing),
        UNIT(other_sizes_are_made_the_runs),
        UNIT(a_picture_is_told_the_same_alone_and_among_others),
        UNIT(what_is_no_picture_is_refused_by_name),
        UNIT(so_many_bad_pictures_are_passed_over_and_no_more),
        UNIT(folders_in_folders_without_end_are_refused),
        UNIT(taps_over_many_pictures_are_those_of_each),
        UNIT(unknown_taps_are_answered_with_those_there_are),
        UNIT(a_model_without_taps_says_so),
        UNIT(taps_beyond_the_memory_allowed_are_refused_and_nothing_is_lost),
        UNIT(curves_are_written_for_every_class),
        UNIT(every_call_may_fail),
        UNIT(every_file_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
