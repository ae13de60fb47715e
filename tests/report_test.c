/* Reports: names from outside, what is missing, the same bytes, files to compare with, and each call made to
 * fail. tests/report_page_test.sh opens one in a browser. */
#include "support/cmocka.h"
#include "explain/report.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include <heed/task.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVIL "<script>alert(1)</script>\"' onload='x"

/* A page of a struct; heed_text_free. */
static char *page_of(heed_context *ctx, const report *r)
{
    heed_error err = { 0 };
    text t;

    heed__text_init(&t, ctx->heap, 0);
    if (heed__report_html(&t, ctx, r, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return heed__text_take(&t);
}

static int count(const char *in, const char *words)
{
    int n = 0;

    for (; (in = strstr(in, words)); in += strlen(words))
        n++;
    return n;
}

/* Three samples of two classes, one wrong, and a picture of it. */
typedef struct small {
    float p[6];
    int64_t labels[3];
    uint8_t picture[4];
    heed_metrics *metrics;
    report r;
    report_mistake mistake;
    heed_history_row rows[2];
    report_tensor tensor;
    report_rival rival;
    report_part part;
    int64_t counts[2];
    report_pair pair;
    const char *names[2];
} small;

static heed_status make_small(small *s, heed_context *ctx, const char *name, heed_error *err)
{
    *s = (small){ .p = { 0.9f, 0.1f, 0.2f, 0.8f, 0.7f, 0.3f },
                  .labels = { 0, 1, 1 },
                  .picture = { 0, 80, 160, 255 } };
    s->names[0] = name;
    s->names[1] = "b";
    s->mistake = (report_mistake){ .name = name,
                                   .truth = 1,
                                   .predicted = 0,
                                   .p_truth = 0.3,
                                   .p_predicted = 0.7,
                                   .picture = { HEED_TYPE(HEED_U8, 1, 2, 2), s->picture } };
    s->rows[0] = (heed_history_row){ .epoch = 1,
                                     .train_loss = 1,
                                     .validation_loss = -1,
                                     .validation_accuracy = -1,
                                     .lr = 1e-3,
                                     .grad_norm = NAN };
    s->rows[1] = s->rows[0];
    s->rows[1].epoch = 2;
    s->rows[1].train_loss = 0.5;
    s->tensor = (report_tensor){ name, "2", 2 };
    s->rival = (report_rival){ .name = name, .source = name, .accuracy = 0.5, .interval = NAN };
    s->counts[0] = 4;
    s->part = (report_part){ "training", 4, s->counts };
    s->pair = (report_pair){ "Folder", name };
    s->r = (report){ .run = name,
                     .model = name,
                     .about = name,
                     .part = "test",
                     .classes = 2,
                     .class_names = s->names,
                     .probability = { HEED_TYPE(HEED_F32, 3, 2), s->p },
                     .labels = { HEED_TYPE(HEED_I64, 3), s->labels },
                     .majority = 0.33,
                     .majority_validation = NAN,
                     .majority_name = name,
                     .rivals = &s->rival,
                     .n_rivals = 1,
                     .history = s->rows,
                     .n_history = 2,
                     .mistakes = &s->mistake,
                     .n_mistakes = 1,
                     .all_mistakes = 1,
                     .tensors = &s->tensor,
                     .n_tensors = 1,
                     .parts = &s->part,
                     .n_parts = 1,
                     .data = &s->pair,
                     .n_data = 1,
                     .cost = &s->pair,
                     .n_cost = 1,
                     .environment = &s->pair,
                     .n_environment = 1,
                     .recipe = name,
                     .command = name,
                     .sha256 = name };
    if (heed_metrics_new(&s->metrics, ctx, s->r.probability, s->r.labels, err) != HEED_OK)
        return HEED_ERR_MEMORY;
    s->r.metrics = s->metrics;
    return HEED_OK;
}

static void names_from_outside_stay_text(void **state)
{
    scratch *f = *state;
    heed_error err = { 0 };
    char *page;
    small s;

    assert_int_equal(make_small(&s, f->ctx, EVIL, &err), HEED_OK);
    page = page_of(f->ctx, &s.r);
    assert_null(strstr(page, "<script>alert"));
    assert_null(strstr(page, "onload='x"));
    assert_true(count(page, "&#60;script&#62;alert(1)") >= 12);
    assert_null(strstr(page, ">nan"));
    assert_null(strstr(page, "src=\"http"));
    heed_text_free(f->ctx, page);
    heed_metrics_free(f->ctx, s.metrics);
}

static void what_is_missing_is_left_out_and_said(void **state)
{
    static const char *const names[] = { "a", "b" };
    scratch *f = *state;
    const report empty = { .run = "runs/x",
                           .model = "mlp",
                           .part = "test",
                           .classes = 2,
                           .class_names = names,
                           .no_metrics = "the folder is gone.",
                           .majority = NAN,
                           .majority_validation = NAN };
    char *page = page_of(f->ctx, &empty);

    assert_non_null(strstr(page, "The test part was not evaluated: the folder is gone."));
    assert_non_null(strstr(page, "no metrics.jsonl"));
    assert_null(strstr(page, "id=\"confusions\""));
    assert_null(strstr(page, "<svg"));
    assert_null(strstr(page, ">nan"));
    heed_text_free(f->ctx, page);
}

static heed_status write_small(heed_context *ctx, void *user, heed_error *err)
{
    heed_status st;
    text t;
    small s;

    (void)user;
    st = make_small(&s, ctx, "a", err);
    heed__text_init(&t, ctx->heap, 0);
    if (st == HEED_OK)
        st = heed__report_html(&t, ctx, &s.r, err);
    heed__text_release(&t);
    heed_metrics_free(ctx, s.metrics);
    return st;
}

/* ---- runs ---- */

typedef struct trained {
    scratch *s;
    char data[128], recipe[128], out[128], page[160];
} trained;

static trained train(scratch *s, const char *model, const char *override)
{
    trained t = { .s = s };
    heed_train_result result;
    heed_recipe *r = NULL;
    char words[600];

    snprintf(t.data, sizeof t.data, "%s/data", s->folder);
    snprintf(t.recipe, sizeof t.recipe, "%s/recipe.yaml", s->folder);
    snprintf(t.out, sizeof t.out, "%s/run", s->folder);
    snprintf(t.page, sizeof t.page, "%s/report.html", t.out);
    assert_int_equal(mkdir(t.data, 0700), 0);
    toy_write_idx(t.data, 40, 20);
    snprintf(words, sizeof words,
             "data: {path: %s, classes: \"one, two, <three>\", validation: 0.2}\nmodel: {name: %s}\n"
             "train: {epochs: 2, batch_size: 16, lr: 0.01, seed: 5, tensorboard_pictures: 1}\n",
             t.data, model);
    scratch_put(t.recipe, words, strlen(words));
    TOY_OK(heed_recipe_open(&r, s->ctx, t.recipe, (const char *const[]){ override, NULL }, TOY_ERR));
    TOY_OK(heed_train(&result, s->ctx, r, &(heed_train_opts){ .out = t.out }, TOY_ERR));
    heed_recipe_free(r);
    return t;
}

static heed_status report_to(const trained *t, heed_context *ctx, const char *path,
                             const heed_report_opts *opts, heed_error *err)
{
    heed_run *run = NULL;
    heed_status st = heed_run_open(&run, ctx, t->out, err);

    if (st == HEED_OK)
        st = heed_run_report(run, path, opts, err);
    heed_run_free(run);
    return st;
}

#define MLP "mlp, hidden: [12]"
#define CONV "conv-attention, stem: 4 P 8, heads: 2"

static void training_leaves_a_report_of_the_validation_part(void **state)
{
    const trained t = train(*state, CONV, NULL);
    size_t n;
    char *page = (char *)scratch_get(t.page, &n);

    assert_non_null(strstr(page, "pictures of the validation part"));
    assert_non_null(strstr(page, "&#60;three&#62;"));
    assert_null(strstr(page, "<three>"));
    assert_non_null(strstr(page, "recipe.yaml --out "));
    free(page);
}

static void a_key_leaves_the_report_out(void **state)
{
    const trained t = train(*state, MLP, "train.report=false");
    size_t n;

    assert_int_not_equal(access(t.page, F_OK), 0);
    free(scratch_get(scratch_path(*state, "run/config.json"), &n));
}

static void the_same_run_gives_the_same_bytes(void **state)
{
    const trained t = train(*state, CONV, NULL);
    scratch *s = *state;
    char a[160], b[160];

    snprintf(a, sizeof a, "%s", scratch_path(s, "a.html"));
    snprintf(b, sizeof b, "%s", scratch_path(s, "b.html"));
    TOY_OK(report_to(&t, s->ctx, a, NULL, TOY_ERR));
    TOY_OK(report_to(&t, s->ctx, b, NULL, TOY_ERR));
    assert_true(scratch_same(a, b));
}

static void a_report_that_is_there_stays_unless_forced(void **state)
{
    const trained t = train(*state, MLP, NULL);
    heed_error err = { 0 };
    size_t n;
    char *page;

    assert_int_equal(report_to(&t, t.s->ctx, NULL, NULL, &err), HEED_ERR_EXISTS);
    assert_non_null(strstr(err.text, "--force"));
    TOY_OK(report_to(&t, t.s->ctx, NULL, &(heed_report_opts){ .force = true }, TOY_ERR));
    page = (char *)scratch_get(t.page, &n);
    assert_non_null(strstr(page, "20 pictures of the test part"));
    free(page);
}

static void data_that_are_gone_leave_the_evaluation_out(void **state)
{
    const trained t = train(*state, MLP, NULL);
    char away[160];
    heed_error err = { 0 };
    size_t n;
    char *page;

    snprintf(away, sizeof away, "%s.away", t.data);
    assert_int_equal(rename(t.data, away), 0);
    TOY_OK(report_to(&t, t.s->ctx, NULL, &(heed_report_opts){ .force = true }, TOY_ERR));
    page = (char *)scratch_get(t.page, &n);
    assert_non_null(strstr(page, "The test part was not evaluated"));
    assert_non_null(strstr(page, "<svg")); /* the curves are there all the same */
    free(page);
    assert_int_not_equal(
        report_to(&t, t.s->ctx, NULL, &(heed_report_opts){ .data = t.data, .force = true }, &err), HEED_OK);
    TOY_OK(report_to(&t, t.s->ctx, NULL, &(heed_report_opts){ .data = away, .force = true }, TOY_ERR));
}

static void results_of_others_stand_beside_the_run_s(void **state)
{
    static const char one[] = "{\"recipe\": \"no <attention>\", \"accuracy\": 0.5}";
    static const char many[] = "{\"recipe\": \"eleven\", \"accuracy\": \"0.4 0.6 0.4 0.6 0.4 0.6 0.4 0.6 0.4 0.6 0.5\"}";
    static const char two[] = "{\"recipe\": \"linear\", \"accuracy\": \"0.8 0.9\", \"parameters\": 1234}";
    const trained t = train(*state, MLP, NULL);
    char folder[160], own[200], given[160];
    const heed_report_opts opts = { .compare = (const char *const[]){ given, NULL }, .force = true };
    heed_error err = { 0 };
    size_t n;
    char *page;

    snprintf(folder, sizeof folder, "%s/compare", t.out);
    snprintf(given, sizeof given, "%s", scratch_path(*state, "linear.json"));
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(own, sizeof own, "%s/eleven.json", folder);
    scratch_put(own, many, strlen(many));
    snprintf(own, sizeof own, "%s/no-attention.json", folder);
    scratch_put(own, one, strlen(one));
    scratch_put(given, two, strlen(two));
    TOY_OK(report_to(&t, t.s->ctx, NULL, &opts, TOY_ERR));
    page = (char *)scratch_get(t.page, &n);
    assert_non_null(strstr(page, "no &#60;attention&#62;"));
    assert_non_null(strstr(page, "1,234"));
    assert_non_null(strstr(page, "85.0\xc2\xa0%"));
    assert_non_null(strstr(page, "21.5 \xe2\x80\x93 100.0\xc2\xa0%")); /* 12.706 * 0.05: more than all is none */
    assert_non_null(strstr(page, "43.3 \xe2\x80\x93 56.7\xc2\xa0%")); /* 2.228 * 0.1 / sqrt(11) */
    free(page);
    for (const char *const *bad =
             (const char *const[]){ "[]", "{", "{\"recipe\": \"a\", \"accuracy\": \"0.5 x\"}",
                                    "{\"recipe\": \"a\", \"accuracy\": 2}", "{\"accuracy\": \"0.5\"}",
                                    "{\"recipe\": \"a\"}", NULL };
         *bad; bad++) {
        scratch_put(given, *bad, strlen(*bad));
        err = (heed_error){ 0 };
        assert_int_equal(report_to(&t, t.s->ctx, NULL, &opts, &err), HEED_ERR_FORMAT);
        assert_non_null(strstr(err.text, "linear.json"));
    }
}

/* ---- faults ---- */

static heed_status report_again(heed_context *ctx, void *user, heed_error *err)
{
    return report_to(user, ctx, NULL, &(heed_report_opts){ .explained = HEED_SET(1), .force = true }, err);
}

/* Whatever failed, a page is whole. */
static bool page_is_whole(heed_context *ctx, void *user, heed_status st)
{
    const trained *t = user;
    size_t n;
    char *page = (char *)scratch_get(t->page, &n);
    const bool whole = n > 8 && strcmp(page + n - 8, "</html>\n") == 0;

    (void)ctx;
    (void)st;
    free(page);
    return whole;
}

static void every_call_may_fail(void **state)
{
    trained t = train(*state, MLP, NULL);
    const heed_scenario whole = { .name = "a report", .run = report_again, .right = page_is_whole };
    heed_fail_report told;

    if (!heed_fail_each(&(heed_scenario){ .name = "a page", .run = write_small }, NULL, &told))
        fail_msg("%s", told.first_bad);
    if (!heed_fail_each(&whole, &t, &told))
        fail_msg("%s", told.first_bad);
    if (!heed_fail_each_file(&whole, &t, &told))
        fail_msg("%s", told.first_bad);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_from_outside_stay_text),
        TEST(what_is_missing_is_left_out_and_said),
        TEST(training_leaves_a_report_of_the_validation_part),
        TEST(a_key_leaves_the_report_out),
        TEST(the_same_run_gives_the_same_bytes),
        TEST(a_report_that_is_there_stays_unless_forced),
        TEST(data_that_are_gone_leave_the_evaluation_out),
        TEST(results_of_others_stand_beside_the_run_s),
        TEST(every_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
