/* Whole scenarios in which every allocation and every file call fails in turn: no crash, no leak, the right
 * code, and an unharmed run on the same context afterwards. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/formats.h>
#include <heed/task.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct story {
    char folder[128], data[160], recipe[160], out[160], weights[160], digest[65], old[65];
    float x[10 * 64];
    int64_t y[10];
} story;

static const char *in_folder(const char *folder, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void open_story(story *w, scratch *s)
{
    uint8_t pixels[10 * 64];
    char words[1000];

    memset(w, 0, sizeof *w);
    toy_pictures(pixels, w->y, 10, 1);
    for (int i = 0; i < 10 * 64; i++)
        w->x[i] = (float)pixels[i] / 255.0f;
    snprintf(w->folder, sizeof w->folder, "%s", s->folder);
    snprintf(w->data, sizeof w->data, "%s/data", s->folder);
    snprintf(w->recipe, sizeof w->recipe, "%s/recipe.yaml", s->folder);
    snprintf(w->out, sizeof w->out, "%s/run", s->folder);
    snprintf(w->weights, sizeof w->weights, "%s/model.safetensors", s->folder);
    assert_int_equal(mkdir(w->data, 0700), 0);
    toy_write_idx(w->data, 20, 5);
    snprintf(words, sizeof words,
             "data: {path: %s, classes: [one, two, three], validation: 0.2, mirror: true}\n"
             "model: {name: mlp, hidden: [6], dropout: 0.1}\n"
             "train: {max_steps: 2, batch_size: 8, optimizer: adamw, clip_norm: 1, checkpoint_steps: 1, report: false}\n",
             w->data);
    scratch_put(w->recipe, words, strlen(words));
}

static heed_status new_model(heed_model **m, heed_context *ctx, uint64_t seed, heed_error *err)
{
    return heed_model_new(m, ctx, toy_conv_attention_build(), &toy_conv_attention,
                          &(heed_model_opts){ .seed = seed }, err);
}

/* ---- building, a step ---- */

static heed_status build_and_plan(heed_context *ctx, void *user, heed_error *err)
{
    const heed_type in = HEED_TYPE(HEED_F32, 10, 1, 8, 8);
    const heed_plan *p = NULL;
    heed_model *m = NULL;
    heed_status st;

    (void)user;
    STEP(new_model(&m, ctx, 1, err));
    STEP(heed_model_taps(m, (const char *const[]){ "pool.weights", NULL }, err));
    STEP(heed_model_plan(m, &in, 1, &p, err));
done:
    heed_model_free(m);
    return st;
}

static heed_status one_step(heed_context *ctx, void *user, int64_t accumulate, heed_error *err)
{
    story *w = user;
    const heed_tensor x = { HEED_TYPE(HEED_F32, 10, 1, 8, 8), w->x }, y = { HEED_TYPE(HEED_I64, 10), w->y };
    heed_model *m = NULL;
    heed_trainer *t = NULL;
    heed_status st;

    STEP(new_model(&m, ctx, 1, err));
    STEP(heed_trainer_new(
        &t, m,
        &(heed_trainer_opts){
            .optimizer = HEED_ADAMW, .amsgrad = true, .clip_norm = 1, .accumulate = accumulate },
        err));
    for (int64_t i = 0; i < accumulate; i++)
        STEP(heed_trainer_step(t, &x, 1, &y, NULL, err));
    STEP(heed_weights_sha256(heed_model_weights(m), HEED_WEIGHTS_MODEL, w->digest, err));
done:
    heed_trainer_free(t);
    heed_model_free(m);
    return st;
}

static heed_status train_step(heed_context *ctx, void *user, heed_error *err)
{
    return one_step(ctx, user, 1, err);
}

static heed_status train_accumulated(heed_context *ctx, void *user, heed_error *err)
{
    return one_step(ctx, user, 2, err);
}

/* A step that failed for memory is tried again on the same trainer: then it is the step it would have been. */
static heed_status step_again(heed_context *ctx, void *user, heed_error *err)
{
    story *w = user;
    const heed_tensor x = { HEED_TYPE(HEED_F32, 10, 1, 8, 8), w->x }, y = { HEED_TYPE(HEED_I64, 10), w->y };
    heed_model *m = NULL;
    heed_trainer *t = NULL;
    heed_status st, again = HEED_OK;

    STEP(new_model(&m, ctx, 1, err));
    STEP(heed_trainer_new(&t, m, NULL, err));
    again = heed_trainer_step(t, &x, 1, &y, NULL, err);
    if (again != HEED_OK && heed_trainer_step(t, &x, 1, &y, NULL, NULL) != HEED_OK)
        st = again; /* the fault lasts */
    else
        STEP(heed_weights_sha256(heed_model_weights(m), HEED_WEIGHTS_ALL, w->digest, err));
done:
    heed_trainer_free(t);
    heed_model_free(m);
    return st != HEED_OK ? st : again;
}

static bool same_digest(heed_context *ctx, void *user, heed_status st)
{
    static char first[65];
    story *w = user;

    (void)ctx;
    if (st == HEED_OK && !first[0])
        memcpy(first, w->digest, sizeof first);
    return !w->digest[0] || !first[0] || strcmp(first, w->digest) == 0;
}

/* ---- weights in files ---- */

static heed_status save(heed_context *ctx, void *user, heed_error *err)
{
    const heed_type in = HEED_TYPE(HEED_F32, 10, 1, 8, 8);
    const story *w = user;
    heed_model *m = NULL;
    heed_status st;

    STEP(new_model(&m, ctx, 2, err));
    STEP(heed_model_init(m, &in, 1, err));
    STEP(heed_model_save(m, w->weights, err));
done:
    heed_model_free(m);
    return st;
}

static heed_status load(heed_context *ctx, void *user, heed_error *err)
{
    const heed_type in = HEED_TYPE(HEED_F32, 10, 1, 8, 8);
    story *w = user;
    heed_model *m = NULL;
    heed_status st;

    STEP(new_model(&m, ctx, 3, err));
    STEP(heed_model_init(m, &in, 1, err));
    STEP(heed_model_load(m, w->weights, err));
    STEP(heed_weights_sha256(heed_model_weights(m), HEED_WEIGHTS_MODEL, w->digest, err));
done:
    heed_model_free(m);
    return st;
}

/* Closing a file that was only read may fail: what was read is right all the same. */
static bool loaded_is_old(heed_context *ctx, void *user, heed_status st)
{
    const story *w = user;

    (void)ctx;
    return st != HEED_OK || strcmp(w->digest, w->old) == 0;
}

/* Temporary files stay only where removing them failed. */
static void sweep(const char *folder)
{
    struct dirent *e;
    DIR *d = opendir(folder);

    while (d && (e = readdir(d)))
        if (e->d_name[0] == '.' && strstr(e->d_name, ".heed-"))
            unlink(in_folder(folder, e->d_name));
    if (d)
        closedir(d);
}

static void put_old_weights(heed_context *ctx, void *user)
{
    const heed_type in = HEED_TYPE(HEED_F32, 1, 1, 8, 8);
    story *w = user;
    heed_model *m = NULL;

    sweep(w->folder);
    TOY_OK(new_model(&m, ctx, 1, TOY_ERR));
    TOY_OK(heed_model_init(m, &in, 1, TOY_ERR));
    TOY_OK(heed_model_save(m, w->weights, TOY_ERR));
    toy_digest(w->old, m, HEED_WEIGHTS_MODEL);
    heed_model_free(m);
}

/* The weights of seed 1 or of seed 2, whole. */
static bool old_or_new(heed_context *ctx, void *user, heed_status st)
{
    story *w = user;
    char digest[3][65];
    heed_model *m = NULL;
    heed_error err = { 0 };

    for (uint64_t seed = 0; seed < 3; seed++) {
        TOY_OK(new_model(&m, ctx, seed, TOY_ERR));
        TOY_OK(heed_model_init(m, TYPE_AT(HEED_F32, 1, 1, 8, 8), 1, TOY_ERR));
        if (seed == 0 && heed_model_load(m, w->weights, &err) != HEED_OK)
            return false;
        toy_digest(digest[seed], m, HEED_WEIGHTS_MODEL);
        heed_model_free(m);
    }
    return strcmp(digest[0], digest[2]) == 0 || (st != HEED_OK && strcmp(digest[0], digest[1]) == 0);
}

/* ---- a run ---- */

static heed_status train_and_open(heed_context *ctx, void *user, heed_error *err)
{
    const story *w = user;
    heed_recipe *r = NULL;
    heed_run *run = NULL;
    heed_train_result result;
    heed_evaluation e = { 0 };
    uint8_t picture[64] = { 0 };
    float logits[3];
    heed_status st;

    STEP(heed_recipe_open(&r, ctx, w->recipe, (const char *const[]){ "train.seed=4", NULL }, err));
    st = heed_train(&result, ctx, r, &(heed_train_opts){ .out = w->out }, err);
    if (st == HEED_ERR_EXISTS) { /* a config.json that cannot be opened is taken for one that is there */
        *err = (heed_error){ 0 };
        st = heed__fail(err, HEED_ERR_IO, "cannot say whether there is a run");
    }
    STEP(st);
    STEP(heed_run_open(&run, ctx, w->out, err));
    STEP(heed_run_evaluate(&e, run, NULL, err));
    STEP(heed_run_predict(run, (heed_tensor){ HEED_TYPE(HEED_U8, 1, 8, 8), picture }, HEED_AVERAGE_MIRROR,
                          logits, err));
done:
    heed_evaluation_release(ctx, &e);
    heed_run_free(run);
    heed_recipe_free(r);
    return st;
}

static void no_run(heed_context *ctx, void *user)
{
    const story *w = user;

    (void)ctx;
    scratch_clear(w->out);
}

/* A folder with config.json is a run that opens; one without is none. */
static bool a_run_or_none(heed_context *ctx, void *user, heed_status st)
{
    const story *w = user;
    const bool whole = access(in_folder(w->out, "config.json"), F_OK) == 0;
    heed_run *run = NULL;
    heed_error err = { 0 };
    const heed_status open = heed_run_open(&run, ctx, w->out, &err);

    heed_run_free(run);
    return whole == (open == HEED_OK) && (st != HEED_OK || whole);
}

/* Training where a run is: refused whatever fails, and the run stays byte by byte. */
static heed_status train_over(heed_context *ctx, void *user, heed_error *err)
{
    const story *w = user;
    heed_recipe *r = NULL;
    heed_train_result result;
    heed_status st;

    STEP(heed_recipe_open(&r, ctx, w->recipe, (const char *const[]){ "train.seed=5", NULL }, err));
    st = heed_train(&result, ctx, r, &(heed_train_opts){ .out = w->out }, err);
    if (st == HEED_ERR_EXISTS)
        *err = (heed_error){ 0 };
done:
    heed_recipe_free(r);
    return st == HEED_ERR_EXISTS ? HEED_OK : st == HEED_OK ? heed__fail(err, HEED_ERR_BUG, "it trained") : st;
}

static bool run_is_old(heed_context *ctx, void *user, heed_status st)
{
    story *w = user;
    heed_run *run = NULL;
    char digest[65];

    (void)st;
    if (heed_run_open(&run, ctx, w->out, NULL) != HEED_OK)
        return false;
    toy_digest(digest, heed_run_model(run), HEED_WEIGHTS_MODEL);
    heed_run_free(run);
    return strcmp(digest, w->digest) == 0;
}

/* ---- tests ---- */

#define SCENARIO(n, ...)                                                                                     \
    {                                                                                                        \
        .name = n, __VA_ARGS__                                                                               \
    }

typedef bool fail_each(const heed_scenario *s, void *user, heed_fail_report *report);

static void run_each(scratch *s, const heed_scenario *scenarios, size_t n, fail_each *each)
{
    int bad = 0;
    story w;

    open_story(&w, s);
    for (size_t i = 0; i < n; i++) {
        heed_fail_report report;

        put_old_weights(s->ctx, &w); /* what is loaded */
        bad += !each(&scenarios[i], &w, &report);
        assert_true(report.calls > 20);
    }
    assert_int_equal(bad, 0);
}

static void every_allocation_may_fail(void **state)
{
    static const heed_scenario scenarios[] = {
        SCENARIO("a: build and plan", .run = build_and_plan),
        SCENARIO("b: training step", .run = train_step),
        SCENARIO("b: accumulated step", .run = train_accumulated),
        SCENARIO("c: save weights", .run = save, .prepare = put_old_weights, .right = old_or_new),
        SCENARIO("d: load weights", .run = load),
        SCENARIO("e: train, open, evaluate", .run = train_and_open, .prepare = no_run,
                 .right = a_run_or_none),
    };

    run_each(*state, scenarios, sizeof scenarios / sizeof *scenarios, heed_fail_each);
}

static void a_step_that_lacked_memory_is_the_same_step_when_tried_again(void **state)
{
    const heed_scenario again = { .name = "b: step tried again", .run = step_again, .right = same_digest };
    heed_fail_report report;
    story w;

    open_story(&w, *state);
    assert_true(heed_fail_each(&again, &w, &report));
}

static void every_file_call_may_fail(void **state)
{
    static const heed_scenario scenarios[] = {
        SCENARIO("c: save weights", .run = save, .prepare = put_old_weights, .right = old_or_new),
        SCENARIO("d: load weights", .run = load, .right = loaded_is_old),
        SCENARIO("e: train, open, evaluate", .run = train_and_open, .prepare = no_run,
                 .right = a_run_or_none),
    };

    run_each(*state, scenarios, sizeof scenarios / sizeof *scenarios, heed_fail_each_file);
}

static void no_failure_trains_over_a_run_that_is_there(void **state)
{
    const heed_scenario over = { .name = "e: train over a run", .run = train_over, .right = run_is_old };
    heed_fail_report report;
    heed_run *run = NULL;
    heed_error err = { 0 };
    scratch *s = *state;
    story w;

    open_story(&w, s);
    if (train_and_open(s->ctx, &w, &err) != HEED_OK)
        fail_msg("%s", err.text);
    TOY_OK(heed_run_open(&run, s->ctx, w.out, TOY_ERR));
    toy_digest(w.digest, heed_run_model(run), HEED_WEIGHTS_MODEL);
    heed_run_free(run);
    assert_true(heed_fail_each(&over, &w, &report));
    assert_true(heed_fail_each_file(&over, &w, &report));
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_allocation_may_fail),
        UNIT(a_step_that_lacked_memory_is_the_same_step_when_tried_again),
        UNIT(every_file_call_may_fail),
        UNIT(no_failure_trains_over_a_run_that_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
