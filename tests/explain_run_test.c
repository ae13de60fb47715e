/* heed_run_explain: what a run says of a picture and what is explained are the same answer. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/task.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct trained {
    scratch *s;
    char folder[128];
    uint8_t pixels[TOY_SIDE * TOY_SIDE];
    int64_t label;
} trained;

/* A run of one epoch on toy pictures, and one picture more. */
static void train(trained *t, scratch *s)
{
    char words[512], data[96];
    heed_recipe *r = NULL;
    heed_train_result result;

    *t = (trained){ .s = s };
    snprintf(data, sizeof data, "%s/data", s->folder);
    snprintf(t->folder, sizeof t->folder, "%s/run", s->folder);
    assert_int_equal(mkdir(data, 0700), 0);
    toy_write_idx(data, 60, 20);
    snprintf(
        words, sizeof words,
        "data:\n  path: %s\n  classes: one, two, three\n"
        "model:\n  name: conv-attention\n  stem: 4 P 8\n  heads: 2\ntrain:\n  epochs: 1\n  batch_size: 20\n",
        data);
    scratch_put(scratch_path(s, "recipe.yaml"), words, strlen(words));
    TOY_OK(heed_recipe_open(&r, s->ctx, scratch_path(s, "recipe.yaml"), NULL, TOY_ERR));
    TOY_OK(heed_train(&result, s->ctx, r, &(heed_train_opts){ .out = t->folder }, TOY_ERR));
    heed_recipe_free(r);
    toy_pictures(t->pixels, &t->label, 1, 9);
}

static heed_tensor picture_of(const trained *t)
{
    return (heed_tensor){ HEED_TYPE(HEED_U8, 1, TOY_SIDE, TOY_SIDE), (void *)(uintptr_t)t->pixels };
}

static void a_run_explains_the_answer_that_it_gives(void **state)
{
    heed_explanation *e = NULL;
    heed_run *r = NULL;
    heed_error err = { 0 };
    float logits[3];
    double sum = 0;
    trained t;

    train(&t, *state);
    TOY_OK(heed_run_open(&r, t.s->ctx, t.folder, TOY_ERR));
    TOY_OK(heed_run_explain(&e, r, picture_of(&t), "bar.png", t.label, &(heed_explain_opts){ .orders = 5 },
                            TOY_ERR));
    TOY_OK(heed_run_predict(r, picture_of(&t), HEED_AVERAGE_NONE, logits, TOY_ERR));
    for (int i = 0; i < 3; i++)
        sum += exp((double)logits[i]);
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)e->probability[i] - exp((double)logits[i]) / sum) < 1e-7);
    assert_string_equal(e->class_names[1], "two");
    assert_string_equal(e->input, "bar.png");
    assert_non_null(strstr(e->model, "conv-attention, /"));
    assert_non_null(strstr(e->model, "/run"));
    assert_int_equal(e->truth, t.label);
    assert_memory_equal(e->picture.data, t.pixels, sizeof t.pixels);
    assert_int_equal(e->n_maps, HEED_EXPLAIN_METHODS);
    assert_int_equal(e->maps[0].rows, 4);
    heed_explanation_free(t.s->ctx, e);
    e = NULL;
    assert_int_equal(
        heed_run_explain(&e, r, (heed_tensor){ HEED_TYPE(HEED_U8, 1, 4, 4), t.pixels }, "", -1, NULL, &err),
        HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "one picture u8 [1,8,8]"));
    heed_run_free(r);
}

static heed_status open_and_explain(heed_context *ctx, void *user, heed_error *err)
{
    const trained *t = user;
    heed_explanation *e = NULL;
    heed_run *r = NULL;
    heed_status st = heed_run_open(&r, ctx, t->folder, err);

    if (st == HEED_OK)
        st = heed_run_explain(&e, r, picture_of(t), "bar.png", -1,
                              &(heed_explain_opts){ .orders = 1, .points = 2 }, err);
    heed_explanation_free(ctx, e);
    heed_run_free(r);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "open a run, explain", .run = open_and_explain };
    heed_fail_report report;
    trained t;

    train(&t, *state);
    assert_true(heed_fail_each(&s, &t, &report));
    assert_true(report.calls > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_explains_the_answer_that_it_gives, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
