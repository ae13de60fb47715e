/* Runs: what heed_train writes, heed_run_open reads, and evaluation and prediction make of it; and what each
 * refuses. */
#include "support/cmocka.h"
#include "support/full_disk.h"
#include "support/toy.h"
#include "tasks/config.h"

#include <heed/task.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRAIN 60
#define TEST 23

/* Six files, the checkpoints, report.html and events.out.tfevents.*. */
#ifdef HEED_HAVE_PROTOBUF
#define RUN_ENTRIES 9
#else
#define RUN_ENTRIES 8
#endif

/* A folder with data and a recipe that trains it; overrides may change it. */
typedef struct field_day {
    scratch *s;
    char data[128], recipe[128], out[128];
} field_day;

static void write_text(const char *path, const char *words)
{
    scratch_put(path, words, strlen(words));
}

static field_day open_day(scratch *s, const char *model)
{
    field_day d = { .s = s };
    char words[1000];

    snprintf(d.data, sizeof d.data, "%s/data", s->folder);
    snprintf(d.recipe, sizeof d.recipe, "%s/recipe.yaml", s->folder);
    snprintf(d.out, sizeof d.out, "%s/runs/first", s->folder);
    assert_int_equal(mkdir(d.data, 0700), 0);
    toy_write_idx(d.data, TRAIN, TEST);
    snprintf(
        words, sizeof words,
        "data:\n  path: %s\n  classes: one, two, three\n  validation: 0.2\n  mirror: true\n"
             "model:\n  name: %s\n"
        "train:\n  epochs: 3\n  batch_size: 16\n  lr: 0.01\n  warmup: 0.2\n  clip_norm: 1\n  seed: 5\n",
        d.data, model);
    write_text(d.recipe, words);
    return d;
}

static const char *in_run(const field_day *d, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", d->out, name);
    return path;
}

static heed_status train_with(heed_train_result *result, const field_day *d, const char *const *overrides,
                              const heed_train_opts *opts, heed_error *err)
{
    heed_train_opts o = opts ? *opts : (heed_train_opts){ 0 };
    heed_train_result ignored;
    heed_recipe *r = NULL;
    heed_status st;

    o.out = o.out ? o.out : d->out;
    st = heed_recipe_open(&r, d->s->ctx, d->recipe, overrides, err);
    if (st == HEED_OK)
        st = heed_train(result ? result : &ignored, d->s->ctx, r, &o, err);
    heed_recipe_free(r);
    return st;
}

static heed_run *open_run(const field_day *d)
{
    heed_run *r = NULL;

    TOY_OK(heed_run_open(&r, d->s->ctx, d->out, TOY_ERR));
    return r;
}

#define MLP "mlp\n  hidden: [12]"
#define CONV "conv-attention\n  stem: 4 P 8\n  heads: 2"

/* ---- a run ---- */

static void a_run_is_a_folder_with_everything_that_using_it_takes(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_train_result result;
    char digest[65];
    uint8_t *file;
    heed_run *r;
    size_t n;
    int lines = 0;

    TOY_OK(train_with(&result, &d, NULL, NULL, TOY_ERR));
    assert_int_equal(scratch_entries(d.out), RUN_ENTRIES);
    assert_int_equal(result.epochs, 3);
    assert_int_equal(result.parameters, 64 * 12 + 12 + 12 * 3 + 3);
    assert_true(result.validation_accuracy >= 0 && result.baseline_accuracy >= 0 && result.peak_bytes > 0);
    assert_true(result.train_loss < 1.1);
    file = scratch_get(in_run(&d, "metrics.jsonl"), &n);
    for (size_t i = 0; i < n; i++)
        lines += file[i] == '\n';
    assert_int_equal(lines, 3);
    free(file);
    file = scratch_get(in_run(&d, "README.md"), &n);
    assert_non_null(strstr((char *)file, result.sha256));
    free(file);
    r = open_run(&d);
    toy_digest(digest, heed_run_model(r), HEED_WEIGHTS_MODEL);
    assert_string_equal(digest, result.sha256);
    assert_int_equal(heed_run_classes(r), 3);
    assert_string_equal(heed_run_class(r, 0), "one");
    assert_string_equal(heed_run_class(r, 2), "three");
    assert_string_equal(heed_run_class(r, 3), "");
    assert_string_equal(heed_run_class(r, -1), "");
    assert_true(heed_run_mirrors(r));
    assert_string_equal(heed_recipe_get(heed_run_recipe(r), "train.epochs"), "3");
    assert_string_equal(heed_recipe_get(heed_run_recipe(r), "model.classes"), "3");
    assert_int_equal(heed_model_parameters(heed_run_model(r)), result.parameters);
    heed_run_free(r);
}

static void the_same_recipe_gives_the_same_weights(void **state)
{
    field_day d = open_day(*state, CONV);
    heed_train_result a, b, c, resolved;
    char copy[128];

    TOY_OK(train_with(&a, &d, NULL, NULL, TOY_ERR));
    TOY_OK(train_with(&b, &d, NULL, &(heed_train_opts){ .force = true }, TOY_ERR));
    assert_string_equal(a.sha256, b.sha256);
    TOY_OK(train_with(&c, &d, (const char *const[]){ "train.seed=6", NULL },
                      &(heed_train_opts){ .force = true }, TOY_ERR));
    assert_string_not_equal(a.sha256, c.sha256);
    snprintf(copy, sizeof copy, "%s/copy.yaml", d.s->folder); /* the resolved recipe of a run is a recipe */
    assert_int_equal(rename(in_run(&d, "recipe.yaml"), copy), 0);
    strcpy(d.recipe, copy);
    TOY_OK(train_with(&resolved, &d, NULL, &(heed_train_opts){ .force = true }, TOY_ERR));
    assert_string_equal(resolved.sha256, c.sha256);
}

/* Pixels and labels of a part of the data. */
static void part(uint8_t *pixels, int64_t *labels, bool test)
{
    toy_pictures(pixels, labels, test ? TEST : TRAIN, test ? 2 : 1);
}

static int64_t argmax(const float *x)
{
    return x[0] >= x[1] && x[0] >= x[2] ? 0 : x[1] >= x[2] ? 1 : 2;
}

static void predicting_agrees_with_evaluating(void **state)
{
    field_day d = open_day(*state, CONV);
    uint8_t pixels[TEST * 64];
    int64_t labels[TEST];
    float logits[TEST * 3];
    heed_evaluation e;
    heed_run *r;

    TOY_OK(train_with(NULL, &d, NULL, NULL, TOY_ERR));
    part(pixels, labels, true);
    r = open_run(&d);
    TOY_OK(heed_run_evaluate(&e, r, NULL, TOY_ERR));
    assert_int_equal(e.n, TEST);
    assert_int_equal(e.classes, 3);
    for (int average = HEED_AVERAGE_NONE; average <= HEED_AVERAGE_MIRROR; average++) {
        double loss = 0;
        int right = 0;

        TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), pixels },
                                (heed_average)average, logits, TOY_ERR));
        for (int i = 0; i < TEST; i++) {
            const float *x = logits + 3 * i;

            right += argmax(x) == labels[i];
            loss += log(exp((double)x[0]) + exp((double)x[1]) + exp((double)x[2])) - (double)x[labels[i]];
        }
        assert_true((double)right / TEST == (average ? e.accuracy_mirror : e.accuracy));
        if (!average)
            assert_true(fabs(loss / TEST - e.loss) < 1e-6);
        else
            for (int i = 0; i < TEST; i++) /* logarithms of probabilities */
                assert_true(fabs(exp((double)logits[3 * i]) + exp((double)logits[3 * i + 1]) +
                                 exp((double)logits[3 * i + 2]) - 1) < 1e-5);
    }
    assert_true(e.accuracy > 0.5); /* it has learned something */
    heed_evaluation_release(d.s->ctx, &e);
    TOY_OK(heed_run_evaluate(&e, r, d.data, TOY_ERR)); /* the same folder, by name */
    assert_int_equal(e.n, TEST);
    heed_evaluation_release(d.s->ctx, &e);
    heed_run_free(r);
}

static void a_picture_alone_has_the_bytes_of_one_among_many(void **state)
{
    field_day d = open_day(*state, CONV);
    uint8_t pixels[130 * 64];
    int64_t labels[130];
    float all[130 * 3], one[3], few[5 * 3];
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    toy_pictures(pixels, labels, 130, 9);
    r = open_run(&d);
    for (int average = HEED_AVERAGE_NONE; average <= HEED_AVERAGE_MIRROR; average++) {
        TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, 130, 8, 8), pixels },
                                (heed_average)average, all, TOY_ERR));
        for (int i = 0; i < 130; i += 43) {
            TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, 1, 1, 8, 8), pixels + 64 * i },
                                    (heed_average)average, one, TOY_ERR));
            assert_memory_equal(one, all + 3 * i, sizeof one);
        }
        TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, 5, 8, 8), pixels + 64 * 125 },
                                (heed_average)average, few, TOY_ERR));
        assert_memory_equal(few, all + 3 * 125, sizeof few);
    }
    TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, 0, 8, 8), pixels }, HEED_AVERAGE_MIRROR,
                            NULL, TOY_ERR));
    heed_run_free(r);
}

/* The numbers that go into the network are those of the loader, bit by bit: a network that hands them out
 * shows it. */
static void predicting_normalises_as_the_loader_does(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_dataset *data = NULL;
    heed_loader *l = NULL;
    heed_tensor x, y;
    float *const tapped = calloc(TEST, 3 * sizeof(float)), *const predicted = calloc(TEST, 3 * sizeof(float));
    uint8_t pixels[TEST * 64];
    int64_t labels[TEST], count;
    run_config c;
    arena a;
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    r = open_run(&d);
    heed__arena_init(&a, d.s->ctx->heap);
    TOY_OK(heed__config_read(&c, d.s->ctx, &a, d.out, TOY_ERR));
    TOY_OK(heed_dataset_open_idx(&data, d.s->ctx, d.data, "test", TOY_ERR));
    TOY_OK(heed_loader_new(&l, d.s->ctx, data, NULL, 0,
                           &(heed_loader_opts){ .batch_size = TEST, .mean = c.mean, .std = c.std }, TOY_ERR));
    TOY_OK(heed_loader_start(l, 0, 0, TOY_ERR));
    TOY_OK(heed_loader_next(l, &x, &y, &count, TOY_ERR));
    TOY_OK(heed_model_run(heed_run_model(r), &x, 1, &(heed_tensor){ HEED_TYPE(HEED_F32, TEST, 3), tapped }, 1,
                          TOY_ERR));
    part(pixels, labels, true);
    TOY_OK(heed_run_predict(r, (heed_tensor){ HEED_TYPE(HEED_U8, TEST, 8, 8), pixels }, HEED_AVERAGE_NONE,
                            predicted, TOY_ERR));
    assert_memory_equal(tapped, predicted, TEST * 3 * sizeof(float));
    assert_true(c.mean[0] > 0 && c.std[0] > 0);
    heed__arena_release(&a);
    heed_loader_free(l);
    heed_dataset_free(data);
    heed_run_free(r);
    free(tapped);
    free(predicted);
}

static void pictures_of_another_shape_are_refused(void **state)
{
    static const heed_type types[] = {
        { HEED_U8, 3, { 2, 8, 7 } },         { HEED_U8, 3, { 2, 7, 8 } },
        { HEED_U8, 4, { 2, 2, 8, 8 } },      { HEED_U8, 4, { 2, 0, 8, 8 } },
        { HEED_F32, 3, { 2, 8, 8 } },        { HEED_U8, 2, { 8, 8 } },
        { HEED_U8, 3, { -1, 8, 8 } },        { HEED_U8, 5, { 1, 1, 1, 8, 8 } },
        { HEED_U8, 3, { INT64_MAX, 8, 8 } }, { HEED_U8, 0, { 0 } },
    };
    field_day d = open_day(*state, MLP);
    uint8_t pixels[1000] = { 0 };
    float logits[30];
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    r = open_run(&d);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        heed_error err = { 0 };

        assert_int_equal(
            heed_run_predict(r, (heed_tensor){ types[i], pixels }, HEED_AVERAGE_NONE, logits, &err),
            HEED_ERR_SHAPE);
        assert_string_equal(err.text, "predict: the model takes pictures u8 [n,1,8,8]");
    }
    heed_run_free(r);
}

/* ---- training ---- */

typedef struct watch {
    int calls, ended, stop_at;
    heed_progress last;
    bool right;
} watch;

static bool watch_it(void *user, const heed_progress *p)
{
    watch *w = user;

    w->calls++;
    w->ended += p->epoch_ended;
    w->right = w->right && p->epoch >= 1 && p->epoch <= p->epochs && p->step <= p->steps &&
               isfinite(p->loss) && p->epoch_ended == (p->validation_accuracy >= 0) && p->seconds >= 0 &&
               p->samples >= w->last.samples;
    w->last = *p;
    return w->calls == w->stop_at;
}

static void progress_tells_every_step_and_the_end_of_every_epoch(void **state)
{
    field_day d = open_day(*state, MLP);
    watch w = { .right = true };
    heed_train_result result;

    TOY_OK(train_with(&result, &d, (const char *const[]){ "train.select=last", NULL },
                      &(heed_train_opts){ .progress = watch_it, .user = &w }, TOY_ERR));
    assert_true(w.right);
    assert_int_equal(w.ended, 3);
    assert_int_equal(w.calls, result.steps + 3);
    assert_int_equal(w.last.step, result.steps);
    assert_true(w.last.validation_loss == result.validation_loss);
}

static void a_training_that_is_stopped_goes_on_to_the_same_weights(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_train_result straight, result;

    TOY_OK(train_with(&straight, &d, NULL, NULL, TOY_ERR));
    for (int at = 1; at <= 9; at += 4) { /* in the first epoch, in a later one */
        watch w = { .right = true, .stop_at = at };
        heed_error err = { 0 };
        heed_run *r = NULL;

        scratch_clear(d.out);
        assert_int_equal(
            train_with(&result, &d, NULL, &(heed_train_opts){ .progress = watch_it, .user = &w }, &err),
            HEED_ERR_STOPPED);
        assert_int_equal(w.calls, at);
        assert_non_null(strstr(err.text, "was stopped at step"));
        assert_non_null(strstr(err.text, "--resume"));
        assert_int_equal(result.steps, w.last.step);
        if (at == 1)
            assert_true(result.validation_accuracy == -1);
        assert_int_equal(heed_run_open(&r, d.s->ctx, d.out, NULL), HEED_ERR_IO); /* not a run yet */
        TOY_OK(train_with(&result, &d, NULL, &(heed_train_opts){ .resume = true }, TOY_ERR));
        assert_string_equal(result.sha256, straight.sha256);
        heed_run_free(open_run(&d));
    }
}

static void max_steps_ends_training_in_the_middle_of_an_epoch(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_train_result result;

    TOY_OK(train_with(&result, &d, (const char *const[]){ "train.max_steps=5", NULL }, NULL, TOY_ERR));
    assert_int_equal(result.steps, 5);
    assert_true(result.validation_accuracy >= 0);
}

static void without_a_validation_part_there_is_no_accuracy(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_train_result result;

    TOY_OK(train_with(&result, &d, (const char *const[]){ "data.validation=0", "data.limit=10", NULL }, NULL,
                      TOY_ERR));
    assert_true(result.validation_accuracy == -1 && result.validation_loss == -1 &&
                result.baseline_accuracy == -1);
    assert_int_equal(result.steps, 3); /* ten samples are one batch */
}

static void batches_accumulate_across_the_end_of_an_epoch(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_train_result result;
    heed_error err = { 0 };

    TOY_OK(train_with(&result, &d,
                      (const char *const[]){ "data.limit=30", "train.batch_size=10", "train.accumulate=2",
                                             "train.checkpoint_steps=1", NULL },
                      NULL, TOY_ERR));
    assert_int_equal(result.steps, 4); /* 9 batches */
    assert_int_equal(train_with(NULL, &d,
                                (const char *const[]){ "data.limit=30", "train.batch_size=10",
                                                       "train.accumulate=10", NULL },
                                &(heed_train_opts){ .force = true }, &err),
                     HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "train.accumulate is 10, but there are 9 batches in all"));
}

static void a_checkpoint_is_the_run_s_weights_so_far(void **state)
{
    field_day d = open_day(*state, MLP);
    watch w = { .right = true, .stop_at = 3 };
    heed_model *m = NULL;
    heed_train_result result;

    assert_int_equal(train_with(&result, &d, (const char *const[]){ "train.checkpoint_steps=2", NULL },
                                &(heed_train_opts){ .progress = watch_it, .user = &w }, NULL),
                     HEED_ERR_STOPPED);
    assert_int_equal(access(in_run(&d, "model.safetensors"), F_OK), -1);
    TOY_OK(heed_model_new(&m, d.s->ctx, toy_mlp, NULL, NULL, TOY_ERR));
    TOY_OK(heed_model_load(m, in_run(&d, "checkpoints/step-2/model.safetensors"), TOY_ERR));
    heed_model_free(m);
}

/* ---- what is refused ---- */

static void a_run_is_not_overwritten_unless_forced(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_error err = { 0 };
    char before[65], after[65];
    heed_run *r;

    TOY_OK(train_with(NULL, &d, NULL, NULL, TOY_ERR));
    r = open_run(&d);
    toy_digest(before, heed_run_model(r), HEED_WEIGHTS_MODEL);
    heed_run_free(r);
    assert_int_equal(train_with(NULL, &d, (const char *const[]){ "train.seed=8", NULL }, NULL, &err),
                     HEED_ERR_EXISTS);
    assert_non_null(strstr(err.text, "--force"));
    assert_int_equal(scratch_entries(d.out), RUN_ENTRIES);
    r = open_run(&d);
    toy_digest(after, heed_run_model(r), HEED_WEIGHTS_MODEL);
    assert_string_equal(before, after);
    heed_run_free(r);
}

static void a_mistake_is_found_before_anything_is_written(void **state)
{
    static const struct {
        const char *override, *words;
        heed_status code;
    } cases[] = {
        { "data.path=/nowhere", "/nowhere: the folder cannot be read", HEED_ERR_IO },
        { "data.classes=one, two", "data.classes names 2 classes, the data has 3", HEED_ERR_FORMAT },
        { "data.classes=a, b, c, d", "data.classes names more classes than the data's 3", HEED_ERR_FORMAT },
        { "train.nesterov=true", "nesterov needs a momentum", HEED_ERR_SPEC },
        { "train.accumulate=1000", "no step would be taken", HEED_ERR_SPEC },
    };
    field_day d = open_day(*state, MLP);
    const int entries = scratch_entries(d.s->folder);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_error err = { 0 };
        const heed_status st =
            train_with(NULL, &d, (const char *const[]){ cases[i].override, NULL }, NULL, &err);

        if (st != cases[i].code || !(strstr(err.text, cases[i].words) || strstr(err.path, cases[i].words)))
            fail_msg("%s: %s %s (%s)", cases[i].override, heed_status_name(st), err.text, err.path);
        assert_int_equal(scratch_entries(d.s->folder), entries);
    }
    assert_int_equal(heed_train(NULL, d.s->ctx, NULL, NULL, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_train(NULL, d.s->ctx, NULL, &(heed_train_opts){ .out = "" }, NULL), HEED_ERR_USAGE);
}

static void a_folder_that_cannot_be_written_is_found_before_training(void **state)
{
    field_day d = open_day(*state, MLP);
    watch w = { .right = true };
    char file[160], below[200];
    heed_error err = { 0 };

    snprintf(file, sizeof file, "%s/file", d.s->folder);
    snprintf(below, sizeof below, "%s/run", file);
    write_text(file, "x");
    assert_int_equal(train_with(NULL, &d, NULL,
                                &(heed_train_opts){ .out = below, .progress = watch_it, .user = &w }, &err),
                     HEED_ERR_IO);
    assert_non_null(strstr(err.path, "/file"));
    assert_int_equal(w.calls, 0);
}

static int open_new_read_only(void *user, const char *path)
{
    (void)user;
    (void)path;
    errno = EROFS;
    return -1;
}

/* Made by the calls of the context, so that root sees it too. */
static void a_read_only_folder_is_found_before_training(void **state)
{
    field_day d = open_day(*state, MLP);
    const file_ops *real = d.s->ctx->files;
    file_ops read_only = *real;
    watch w = { .right = true };
    heed_error err = { 0 };

    read_only.open_new = open_new_read_only;
    d.s->ctx->files = &read_only;
    assert_int_equal(train_with(NULL, &d, NULL, &(heed_train_opts){ .progress = watch_it, .user = &w }, &err),
                     HEED_ERR_IO);
    d.s->ctx->files = real;
    assert_non_null(strstr(err.path, "recipe.yaml"));
    assert_int_equal(w.calls, 0);
    assert_int_equal(scratch_entries(d.out), 0);
}

/* ---- damage ---- */

static void spoil(const char *path, size_t at, int bit)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n);

    bytes[at < n ? at : n - 1] ^= (uint8_t)(1 << bit);
    scratch_put(path, bytes, n);
    free(bytes);
}

static void cut(const char *path)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n);

    scratch_put(path, bytes, n / 2);
    free(bytes);
}

static void assert_damaged(const field_day *d, const char *name, heed_status code)
{
    heed_run *r = NULL;
    heed_error err = { 0 };
    const heed_status st = heed_run_open(&r, d->s->ctx, d->out, &err);

    if (st != code || !strstr(err.path, name) || !err.text[0])
        fail_msg("%s: %s %s (%s)", name, heed_status_name(st), err.text, err.path);
    assert_null(r);
}

static void damage_of_each_file_is_noticed_and_names_it(void **state)
{
    static const char *const names[] = { "config.json", "preprocessor_config.json", "recipe.yaml",
                                         "model.safetensors" };
    field_day d = open_day(*state, MLP);
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    for (size_t i = 0; i < 4; i++) {
        size_t n;
        uint8_t *good = scratch_get(in_run(&d, names[i]), &n);

        cut(in_run(&d, names[i]));
        if (i == 2) /* half a recipe may be one, but no model then */
            write_text(in_run(&d, names[i]), "data:\n  path: [\n");
        assert_damaged(&d, names[i], HEED_ERR_FORMAT);
        scratch_put(in_run(&d, names[i]), "", 0);
        assert_damaged(&d, names[i], HEED_ERR_FORMAT);
        assert_int_equal(unlink(in_run(&d, names[i])), 0);
        assert_damaged(&d, names[i], HEED_ERR_IO);
        scratch_put(in_run(&d, names[i]), good, n);
        free(good);
        r = open_run(&d);
        heed_run_free(r);
    }
}

/* Any bit of the numbers: the file is a valid one all the same. */
static void a_bit_of_the_weights_that_changed_is_noticed(void **state)
{
    field_day d = open_day(*state, MLP);
    const char *path;
    size_t n;
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    path = in_run(&d, "model.safetensors");
    free(scratch_get(path, &n));
    for (int i = 0; i < 20; i++) {
        spoil(path, n - 1 - (size_t)i * 97, i % 8);
        assert_damaged(&d, "model.safetensors", HEED_ERR_FORMAT);
        spoil(path, n - 1 - (size_t)i * 97, i % 8);
    }
    r = open_run(&d);
    heed_run_free(r);
}

static void files_of_two_runs_are_not_taken_for_one(void **state)
{
    field_day d = open_day(*state, MLP);
    char other[128], from[200];
    static const char *const names[] = { "model.safetensors", "recipe.yaml" };

    snprintf(other, sizeof other, "%s/runs/second", d.s->folder);
    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", "model.hidden=9", NULL },
                      &(heed_train_opts){ .out = other }, TOY_ERR));
    for (int i = 0; i < 2; i++) { /* the weights first, then the recipe that goes with them */
        snprintf(from, sizeof from, "%s/%s", other, names[i]);
        assert_int_equal(rename(from, in_run(&d, names[i])), 0);
        assert_damaged(&d, "model.safetensors", i == 0 ? HEED_ERR_SHAPE : HEED_ERR_FORMAT);
    }
    write_text(in_run(&d, "recipe.yaml"), "data:\n  path: a\nmodel:\n  name: vit\n");
    {
        heed_run *r = NULL;
        heed_error err = { 0 };

        assert_int_equal(heed_run_open(&r, d.s->ctx, d.out, &err), HEED_ERR_FORMAT);
        assert_non_null(strstr(err.text, "config.json says mlp, recipe.yaml says vit"));
    }
}

/* Sizes come from files: a recipe or config.json that asks for terabytes is refused before any memory is
 * taken. */
static void a_model_far_larger_than_its_weights_is_refused_before_memory_is_taken(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_run *r = NULL;
    heed_error err = { 0 };

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    write_text(in_run(&d, "recipe.yaml"),
               "data:\n  path: a\nmodel:\n  name: mlp\n  hidden: [1000000, 1000000, 1000000]\n");
    heed_context_peak_reset(d.s->ctx);
    assert_int_equal(heed_run_open(&r, d.s->ctx, d.out, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.path, "model.safetensors"));
    assert_true(heed_context_peak_bytes(d.s->ctx) < 16 << 20);
}

static void a_folder_that_is_no_run_is_refused(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_run *r = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_run_open(&r, d.s->ctx, "/nowhere", &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "there is no such folder"));
    assert_int_equal(heed_run_open(&r, d.s->ctx, d.data, NULL), HEED_ERR_IO);
    assert_int_equal(heed_run_open(&r, d.s->ctx, d.recipe, NULL), HEED_ERR_IO);
    assert_null(r);
    heed_run_free(NULL);
}

/* ---- data ---- */

static void data_of_another_size_or_with_more_classes_is_refused(void **state)
{
    field_day d = open_day(*state, MLP);
    uint8_t pixels[2 * 81] = { 0 };
    heed_evaluation e = { .n = 5 };
    char other[160], path[256];
    heed_error err = { 0 };
    heed_run *r;

    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
    snprintf(other, sizeof other, "%s/other", d.s->folder);
    assert_int_equal(mkdir(other, 0700), 0);
    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte", other);
    toy_write_idx_file(path, (const uint32_t[]){ 2, 9, 9, 0 }, pixels);
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", other);
    toy_write_idx_file(path, (const uint32_t[]){ 2, 0 }, (const uint8_t[]){ 0, 1 });
    r = open_run(&d);
    assert_int_equal(heed_run_evaluate(&e, r, other, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "pictures of 1 x 9 x 9, the model takes 1 x 8 x 8"));
    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte", other);
    toy_write_idx_file(path, (const uint32_t[]){ 2, 8, 8, 0 }, pixels);
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", other);
    toy_write_idx_file(path, (const uint32_t[]){ 2, 0 }, (const uint8_t[]){ 0, 3 });
    err = (heed_error){ 0 };
    assert_int_equal(heed_run_evaluate(&e, r, other, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "labels up to 3, the model has 3 classes"));
    assert_int_equal(heed_run_evaluate(&e, r, "/nowhere", NULL), HEED_ERR_IO);
    assert_int_equal(e.n, 5);
    heed_run_free(r);
}

static void the_test_part_is_not_needed_for_training(void **state)
{
    field_day d = open_day(*state, MLP);
    char path[256];

    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte", d.data);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", d.data);
    assert_int_equal(unlink(path), 0);
    TOY_OK(train_with(NULL, &d, (const char *const[]){ "train.epochs=1", NULL }, NULL, TOY_ERR));
}

static void a_loss_that_is_not_finite_stops_training_and_names_the_node(void **state)
{
    field_day d = open_day(*state, MLP);
    heed_error err = { 0 };

    assert_int_equal(
        train_with(NULL, &d,
                   (const char *const[]){ "train.optimizer=sgd", "train.lr=1000", "train.clip_norm=0",
                                          "train.schedule=constant", "train.warmup=0", "train.epochs=200",
                                          "data.std=0.000001", NULL },
                   NULL, &err),
        HEED_ERR_NUMERIC);
    assert_true(err.path[0]);
    assert_non_null(strstr(err.text, "NaN or an infinity"));
    assert_false(access(in_run(&d, "config.json"), F_OK) == 0);
}

/* ---- a full disk ---- */

/* Bytes of disk from none to enough: HEED_ERR_IO with words, and the old run as it was, until the new one is whole. */
static void a_full_disk_leaves_the_old_run_at_every_size(void **state)
{
    field_day d = open_day(*state, MLP);
    full_disk disk;
    heed_train_result old, got;
    int failed = 0;

    TOY_OK(train_with(&old, &d, (const char *const[]){ "train.epochs=1", "train.report=false", NULL }, NULL,
                      TOY_ERR));
    for (uint64_t bytes = 0; bytes < 256 << 10; bytes += 512) {
        heed_error err = { 0 };
        heed_status st;
        heed_run *r;
        char digest[65];

        full_disk_in(&disk, d.s->ctx, bytes);
        st = train_with(&got, &d, (const char *const[]){ "train.epochs=1", "train.seed=77", "train.report=false", NULL },
                        &(heed_train_opts){ .force = true }, &err);
        full_disk_out(&disk);
        if (st == HEED_OK)
            break;
        assert_int_equal(st, HEED_ERR_IO);
        assert_non_null(strstr(err.text, "bytes more are needed"));
        assert_true(err.path[0]);
        assert_int_equal(scratch_entries(d.out), RUN_ENTRIES); /* the run without report.html, and next/ */
        failed++;
        r = open_run(&d);
        toy_digest(digest, heed_run_model(r), HEED_WEIGHTS_MODEL);
        assert_string_equal(digest, old.sha256);
        heed_run_free(r);
    }
    print_message("full disk: %d trainings failed, the old run opened after each\n", failed);
    assert_true(failed > 20);
    assert_string_not_equal(old.sha256, got.sha256);
    assert_int_equal(scratch_entries(d.out), RUN_ENTRIES - 1);
    heed_run_free(open_run(&d));
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_run_is_a_folder_with_everything_that_using_it_takes),
        UNIT(the_same_recipe_gives_the_same_weights),
        UNIT(predicting_agrees_with_evaluating),
        UNIT(a_picture_alone_has_the_bytes_of_one_among_many),
        UNIT(predicting_normalises_as_the_loader_does),
        UNIT(pictures_of_another_shape_are_refused),
        UNIT(progress_tells_every_step_and_the_end_of_every_epoch),
        UNIT(a_training_that_is_stopped_goes_on_to_the_same_weights),
        UNIT(max_steps_ends_training_in_the_middle_of_an_epoch),
        UNIT(without_a_validation_part_there_is_no_accuracy),
        UNIT(batches_accumulate_across_the_end_of_an_epoch),
        UNIT(a_checkpoint_is_the_run_s_weights_so_far),
        UNIT(a_run_is_not_overwritten_unless_forced),
        UNIT(a_mistake_is_found_before_anything_is_written),
        UNIT(a_folder_that_cannot_be_written_is_found_before_training),
        UNIT(a_read_only_folder_is_found_before_training),
        UNIT(damage_of_each_file_is_noticed_and_names_it),
        UNIT(a_bit_of_the_weights_that_changed_is_noticed),
        UNIT(files_of_two_runs_are_not_taken_for_one),
        UNIT(a_model_far_larger_than_its_weights_is_refused_before_memory_is_taken),
        UNIT(a_folder_that_is_no_run_is_refused),
        UNIT(data_of_another_size_or_with_more_classes_is_refused),
        UNIT(the_test_part_is_not_needed_for_training),
        UNIT(a_loss_that_is_not_finite_stops_training_and_names_the_node),
        UNIT(a_full_disk_leaves_the_old_run_at_every_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
