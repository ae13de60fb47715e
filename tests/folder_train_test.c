/* Training on folders of pictures: the built-in recipe, what it takes from the data, the test part found again, weights
 * to begin with, frozen parameters, weights of classes. */
#include "support/cmocka.h"
#include "support/toy.h"

#include <heed/formats.h>
#include <heed/task.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PICTURES 90

/* PICTURES toy pictures as PGM files in NAME/CLASS/; the class of each is told by a bright bar. */
static void put_toys(scratch *s, const char *name, const char *const classes[3], uint32_t seed)
{
    uint8_t pixels[PICTURES * 64], file[64 + 64];
    int64_t labels[PICTURES];
    char path[200];

    toy_pictures(pixels, labels, PICTURES, seed);
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    (void)mkdir(path, 0700);
    for (int i = 0; i < PICTURES; i++) {
        const int n = sprintf((char *)file, "P5\n8 8\n255\n");

        snprintf(path, sizeof path, "%s/%s/%s", s->folder, name, classes[labels[i]]);
        (void)mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/%s/%s/%03d.pgm", s->folder, name, classes[labels[i]], i);
        memcpy(file + n, pixels + 64 * i, 64);
        scratch_put(path, file, (size_t)n + 64);
    }
}

static const char *const abc[] = { "a", "b", "c" };

static heed_recipe *task_recipe(scratch *s, const char *data, const char *const *overrides)
{
    heed_recipe *r = NULL;
    char path[200];

    snprintf(path, sizeof path, "%s/%s", s->folder, data);
    TOY_OK(heed_recipe_open_task(&r, s->ctx, "image-classification", path, overrides, TOY_ERR));
    return r;
}

/* Few steps of a small model. */
#define QUICK "train.epochs=8", "model.name=mlp", "data.size=8", "train.lr=0.01", "data.crop=0", "data.mirror=false"

typedef struct notes {
    char all[2000]; /* sentences */
    int64_t read;
} notes;

static void note_it(void *user, const char *sentence)
{
    notes *n = user;

    snprintf(n->all + strlen(n->all), sizeof n->all - strlen(n->all), "%s\n", sentence);
}

static bool read_it(void *user, int64_t done, int64_t total)
{
    ((notes *)user)->read = done;
    return done > total;
}

static heed_status train_to(scratch *s, const char *out, const char *data, const char *const *overrides, notes *n,
                            heed_train_result *result, heed_error *err)
{
    heed_recipe *r = task_recipe(s, data, overrides);
    heed_train_result ignored;
    notes unheard = { .read = 0 };
    char path[200];
    heed_status st;

    snprintf(path, sizeof path, "%s/%s", s->folder, out);
    st = heed_train(result ? result : &ignored, s->ctx, r,
                    &(heed_train_opts){ .out = path, .notice = note_it, .reading = read_it, .user = n ? n : &unheard },
                    err);
    heed_recipe_free(r);
    return st;
}

static heed_run *run_of(scratch *s, const char *name)
{
    heed_run *r = NULL;
    char path[200];

    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    TOY_OK(heed_run_open(&r, s->ctx, path, TOY_ERR));
    return r;
}

/* ---- the recipe ---- */

static void what_nobody_says_is_chosen_from_the_data(void **state)
{
    scratch *s = *state;
    heed_recipe *r;
    char *shown;

    put_toys(s, "set", abc, 1);
    r = task_recipe(s, "set", NULL);
    assert_string_equal(heed_recipe_get(r, "data.size"), "32x32");
    assert_string_equal(heed_recipe_get(r, "data.channels"), "1");
    assert_string_equal(heed_recipe_get(r, "model.stem"), "16 P 32 P 64");
    assert_string_equal(heed_recipe_get(r, "train.epochs"), "60");
    assert_string_equal(heed_recipe_get(r, "train.batch_size"), "16");
    TOY_OK(heed_recipe_print(&shown, r, TOY_ERR));
    assert_non_null(strstr(shown, "epochs: 60  # from the data: 90 pictures\n"));
    assert_non_null(strstr(shown, "size: \"32x32\"  # from the data: a look at 90 of 90 pictures\n"));
    assert_non_null(strstr(shown, "/set\"  # --data\n"));
    heed_text_free(s->ctx, shown);
    heed_recipe_free(r);
    r = task_recipe(s, "set", (const char *const[]){ "data.size=96", "train.epochs=3", NULL });
    assert_string_equal(heed_recipe_get(r, "data.size"), "96");
    assert_string_equal(heed_recipe_get(r, "model.stem"), "16 P 32 P 64 P 64");
    assert_string_equal(heed_recipe_get(r, "train.epochs"), "3");
    heed_recipe_free(r);
}

static void a_recipe_of_a_task_takes_idx_files_too(void **state)
{
    scratch *s = *state;
    heed_recipe *r;
    char path[200];

    snprintf(path, sizeof path, "%s/idx", s->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    toy_write_idx(path, 60, 20);
    r = task_recipe(s, "idx", NULL);
    assert_string_equal(heed_recipe_get(r, "data.size"), "");
    assert_string_equal(heed_recipe_get(r, "model.stem"), "16 32 64");
    heed_recipe_free(r);
}

static void tasks_and_sizes_that_are_none_are_refused(void **state)
{
    static const struct {
        const char *task, *override, *words;
        heed_status code;
    } cases[] = {
        { "image-classificatoin", NULL, "did you mean \"image-classification\"?", HEED_ERR_USAGE },
        { "translation", NULL, "it is \"image-classification\"", HEED_ERR_USAGE },
        { "image-classification", "data.size=big", "\"big\" is no size; it is a side, as in 64", HEED_ERR_USAGE },
        { "image-classification", "data.size=4x", "\"4x\" is no size", HEED_ERR_USAGE },
        { "image-classification", "data.size=0", "\"0\" is no size", HEED_ERR_USAGE },
        { "image-classification", "data.size=65536", "is no size", HEED_ERR_USAGE },
        { "image-classification", "data.size=4x4x4", "is no size", HEED_ERR_USAGE },
        { "image-classification", "data.fit=sqeeze", "data.fit", HEED_ERR_USAGE },
        { "image-classification", "data.path=/nowhere", "/nowhere: the folder cannot be read", HEED_ERR_IO },
    };
    scratch *s = *state;
    char path[200];

    put_toys(s, "set", abc, 1);
    snprintf(path, sizeof path, "%s/set", s->folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_recipe *r = NULL;
        heed_error err = { 0 };
        const heed_status st = heed_recipe_open_task(&r, s->ctx, cases[i].task, path,
                                                     (const char *const[]){ cases[i].override, NULL }, &err);

        if (st != cases[i].code || !strstr(err.text, cases[i].words))
            fail_msg("%s %s: %s %s", cases[i].task, cases[i].override, heed_status_name(st), err.text);
    }
    assert_int_equal(heed_recipe_open_task(&(heed_recipe *){ NULL }, s->ctx, "image-classification", "", NULL, NULL),
                     HEED_ERR_USAGE);
}

/* ---- training and evaluating ---- */

static void eval_finds_the_part_that_training_left_alone(void **state)
{
    scratch *s = *state;
    heed_train_result result;
    heed_evaluation e;
    char path[200], resolved[200];
    notes n = { .read = 0 };
    heed_run *r;
    int64_t left;

    put_toys(s, "set", abc, 1);
    put_toys(s, "more", abc, 2);
    TOY_OK(train_to(s, "run", "set", (const char *const[]){ QUICK, "data.test=0.3", NULL }, &n, &result, TOY_ERR));
    assert_int_equal(n.read, PICTURES);
    r = run_of(s, "run");
    assert_string_equal(heed_run_class(r, 2), "c");
    assert_string_equal(heed_recipe_get(heed_run_recipe(r), "data.channels"), "1");
    TOY_OK(heed_run_evaluate(&e, r, NULL, TOY_ERR));
    left = e.n;
    assert_true(left > 10 && left < 60);
    assert_true(e.accuracy > 0.6);
    heed_evaluation_release(s->ctx, &e);
    snprintf(path, sizeof path, "%s/run/../set/.", s->folder); /* the same folder by another name */
    TOY_OK(heed_run_evaluate(&e, r, path, TOY_ERR));
    assert_int_equal(e.n, left);
    heed_evaluation_release(s->ctx, &e);
    snprintf(path, sizeof path, "%s/more", s->folder); /* another one: all of it */
    TOY_OK(heed_run_evaluate(&e, r, path, TOY_ERR));
    assert_int_equal(e.n, PICTURES);
    assert_true(e.accuracy > 0.6);
    heed_evaluation_release(s->ctx, &e);
    snprintf(path, sizeof path, "%s/more/d", s->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/more", s->folder);
    {
        heed_error err = { 0 };

        assert_int_equal(heed_run_evaluate(&e, r, path, &err), HEED_ERR_FORMAT);
        assert_non_null(strstr(err.text, "more/d is no class that is known"));
    }
    heed_run_free(r);
    snprintf(resolved, sizeof resolved, "%s/run/recipe.yaml", s->folder); /* what was chosen stands in it */
    {
        heed_recipe *again = NULL;
        heed_train_result same;

        TOY_OK(heed_recipe_open(&again, s->ctx, resolved, NULL, TOY_ERR));
        snprintf(path, sizeof path, "%s/again", s->folder);
        TOY_OK(heed_train(&same, s->ctx, again, &(heed_train_opts){ .out = path }, TOY_ERR));
        assert_string_equal(same.sha256, result.sha256);
        heed_recipe_free(again);
    }
}

static void augmented_trainings_give_the_same_weights_for_any_threads(void **state)
{
    static const char *const overrides[] = { "train.epochs=2", "data.size=12x10", "data.channels=3", "data.crop=0.5",
                                             "data.erase=0.3", "data.shift=1", "data.fit=pad", "model.stem=4 P 8",
                                             NULL };
    scratch *s = *state;
    heed_train_result one, many;
    heed_recipe *r = NULL;
    heed_context *ctx = toy_context(3, HEED_ISA_AUTO);
    char path[200], out[200];

    put_toys(s, "set", abc, 1);
    TOY_OK(train_to(s, "one", "set", overrides, NULL, &one, TOY_ERR));
    snprintf(path, sizeof path, "%s/set", s->folder);
    snprintf(out, sizeof out, "%s/many", s->folder);
    TOY_OK(heed_recipe_open_task(&r, ctx, "image-classification", path, overrides, TOY_ERR));
    TOY_OK(heed_train(&many, ctx, r, &(heed_train_opts){ .out = out }, TOY_ERR));
    assert_string_equal(one.sha256, many.sha256);
    heed_recipe_free(r);
    heed_context_free(ctx);
}

/* ---- beginning with weights ---- */

static void a_training_begins_with_the_weights_of_another_one(void **state)
{
    static const char *const other_classes[] = { "x", "y", "x" };
    scratch *s = *state;
    char init[200], freeze[] = "train.freeze=hidden.*";
    notes n = { .read = 0 };
    heed_error err = { 0 };
    heed_run *a, *b;
    heed_tensor before, after;

    put_toys(s, "set", abc, 1);
    put_toys(s, "two", other_classes, 3);
    TOY_OK(train_to(s, "first", "set", (const char *const[]){ QUICK, NULL }, NULL, NULL, TOY_ERR));
    snprintf(init, sizeof init, "train.init=%s/first/model.safetensors", s->folder);
    TOY_OK(train_to(s, "second", "two", (const char *const[]){ QUICK, init, freeze, NULL }, &n, NULL, TOY_ERR));
    assert_non_null(strstr(n.all, "its head is of other classes, so head.weight, head.bias stay fresh"));
    a = run_of(s, "first");
    b = run_of(s, "second");
    assert_int_equal(heed_run_classes(b), 2);
    before = heed_weights_find(heed_model_weights(heed_run_model(a)), "hidden.0.fc.weight");
    after = heed_weights_find(heed_model_weights(heed_run_model(b)), "hidden.0.fc.weight");
    assert_true(before.type.rank == 2 && heed_type_equal(&before.type, &after.type));
    assert_memory_equal(before.data, after.data, (size_t)heed_type_count(&before.type) * sizeof(float));
    heed_run_free(a);
    heed_run_free(b);
    TOY_OK(train_to(s, "third", "set", (const char *const[]){ QUICK, init, NULL }, &n, NULL, TOY_ERR));
    assert_non_null(strstr(n.all, "all of them"));
    assert_int_equal(train_to(s, "fourth", "set", (const char *const[]){ QUICK, init, "model.hidden=256,128,8", NULL }, NULL, NULL,
                              &err),
                     HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "missing in it: hidden.2.fc.weight, hidden.2.fc.bias; of another type: head.weight"));
    err = (heed_error){ 0 };
    assert_int_equal(train_to(s, "fourth", "set", (const char *const[]){ QUICK, "train.freeze=stem.*", NULL }, NULL, NULL,
                              &err),
                     HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "no parameter is called \"stem.*\""));
    err = (heed_error){ 0 };
    assert_int_equal(train_to(s, "fourth", "set", (const char *const[]){ QUICK, "train.init=/nowhere", NULL }, NULL, NULL,
                              &err),
                     HEED_ERR_IO);
}

/* With balanced weights a class that is rare counts as much: the weights differ, and the training is still a function
 * of the recipe. */
static void balanced_weights_change_the_training(void **state)
{
    static const char *const skewed[] = { "x", "y", "x" };
    scratch *s = *state;
    heed_train_result plain, balanced;

    put_toys(s, "set", skewed, 1);
    TOY_OK(train_to(s, "plain", "set", (const char *const[]){ QUICK, NULL }, NULL, &plain, TOY_ERR));
    TOY_OK(train_to(s, "balanced", "set", (const char *const[]){ QUICK, "train.class_weights=balanced", NULL }, NULL,
                    &balanced, TOY_ERR));
    assert_string_not_equal(plain.sha256, balanced.sha256);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(what_nobody_says_is_chosen_from_the_data),
        EACH(a_recipe_of_a_task_takes_idx_files_too),
        EACH(tasks_and_sizes_that_are_none_are_refused),
        EACH(eval_finds_the_part_that_training_left_alone),
        EACH(augmented_trainings_give_the_same_weights_for_any_threads),
        EACH(a_training_begins_with_the_weights_of_another_one),
        EACH(balanced_weights_change_the_training),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
