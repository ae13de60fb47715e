/* Event files: bytes that are known, what a tag says once, kinds that do not mix, files of one second, and
 * each call made to fail. tests/events_test.sh lets TensorBoard read one. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include <heed/formats.h>

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HEED_HAVE_PROTOBUF

static double ticking(void *user)
{
    double *at = user;

    return (*at)++;
}

static heed_events *open_at(scratch *s, double *clock, heed_maybe_i64 resumed)
{
    heed_events *e = NULL;

    TOY_OK(heed_events_open(&e, s->ctx, s->folder, &(heed_events_opts){ ticking, clock, resumed }, TOY_ERR));
    return e;
}

/* The file's bytes as digits; free() it. */
static char *digits_of(heed_events *e)
{
    char path[512], *digits;
    uint8_t *bytes;
    size_t n;

    snprintf(path, sizeof path, "%s", heed_events_path(e));
    TOY_OK(heed_events_close(e, TOY_ERR));
    bytes = scratch_get(path, &n);
    digits = calloc(2 * n + 1, 1);
    heed__hex(digits, bytes, n);
    free(bytes);
    return digits;
}

static void records_have_the_bytes_of_tensorflow(void **state)
{
    static const char version[] = "1800000000000000a37f4b22090000000000000000"
                                  "1a0d627261696e2e4576656e743a32eedf28a3";
    static const char scalar[] = "36000000000000004f578cef09000000000000f03f10012a290a27"
                                 "0a0a747261696e2f6c6f7373420a080112002a040000003f"
                                 "4a0d0a090a077363616c6172732001342071dd";
    double clock = -1; /* the name takes one */
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    char *digits;

    clock = 1; /* the next one's, after the version at 0 and the start of the session */
    assert_non_null(strstr(heed_events_path(e), "/events.out.tfevents.0000000000."));
    TOY_OK(heed_events_scalar(e, "train/loss", 1, 0.5, TOY_ERR));
    digits = digits_of(e);
    assert_memory_equal(digits, version, strlen(version));
    assert_string_equal(digits + strlen(digits) - strlen(scalar), scalar);
    assert_int_equal(strlen(digits), strlen(version) + 2 * (12 + 15 + 4) + strlen(scalar));
    free(digits);
}

static int count(const char *in, const char *words)
{
    int n = 0;

    for (; (in = strstr(in, words)); in += strlen(words))
        n++;
    return n;
}

static void a_tag_says_its_plugin_once_in_a_file(void **state)
{
    double clock = 5;
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    char *digits;

    for (int step = 1; step <= 3; step++) {
        TOY_OK(heed_events_scalar(e, "a", step, step, TOY_ERR));
        TOY_OK(heed_events_scalar(e, "b", step, NAN, TOY_ERR));
    }
    digits = digits_of(e);
    assert_int_equal(count(digits, "0a077363616c617273"), 2); /* "scalars" */
    free(digits);
}

static void going_on_is_a_start_of_session_at_that_step(void **state)
{
    double clock = 5;
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64)HEED_SET(300));
    char *digits = digits_of(e);

    assert_non_null(strstr(digits, "10ad02"      /* step 301: 300 is not forgotten */
                                   "3a020801")); /* session_log { status: START } */
    free(digits);
    e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    digits = digits_of(e);
    assert_non_null(strstr(digits, "10003a020801"));
    free(digits);
}

static void pictures_and_texts_are_tensors_of_strings(void **state)
{
    static const char png[] = "not looked into";
    const heed_event_image two[2] = { { png, 3, 28, 14 }, { png, 4, 28, 14 } };
    double clock = 5;
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    char *digits;

    TOY_OK(heed_events_image(e, "attention/L0/H0", 2, two, 2, TOY_ERR));
    TOY_OK(heed_events_text(e, "recipe", 2, "# hi", TOY_ERR));
    digits = digits_of(e);
    assert_non_null(strstr(digits, "0807120412020804" /* string, shape [4] */
                                   "42023238420231344203" /* "28" "14" */));
    assert_non_null(strstr(digits, "0a080a06696d616765732003")); /* images, blob */
    assert_non_null(strstr(digits, "08071200420423206869"));     /* string, shape [], "# hi" */
    assert_non_null(strstr(digits, "0a060a04746578742002"));     /* text, tensor */
    free(digits);
}

static void files_of_one_second_have_names_of_their_own(void **state)
{
    double clocks[2] = { 1.7e9, 1.7e9 };
    heed_events *a = open_at(*state, &clocks[0], (heed_maybe_i64){ 0 });
    heed_events *b = open_at(*state, &clocks[1], (heed_maybe_i64){ 0 });

    assert_string_not_equal(heed_events_path(a), heed_events_path(b));
    assert_non_null(strstr(heed_events_path(b), "tfevents.1700000000."));
    TOY_OK(heed_events_close(a, TOY_ERR));
    TOY_OK(heed_events_close(b, TOY_ERR));
    TOY_OK(heed_events_close(NULL, TOY_ERR));
}

static void what_waits_is_flushed_when_asked_and_when_it_is_much(void **state)
{
    double clock = 5;
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    char *words = calloc(1, (1 << 20) + 2);
    size_t n;

    free(scratch_get(heed_events_path(e), &n));
    assert_int_equal(n, 40 + 31);
    TOY_OK(heed_events_scalar(e, "a", 1, 1, TOY_ERR));
    free(scratch_get(heed_events_path(e), &n));
    assert_int_equal(n, 40 + 31);
    TOY_OK(heed_events_flush(e, TOY_ERR));
    free(scratch_get(heed_events_path(e), &n));
    assert_true(n > 80 && n < 200);
    memset(words, 'x', (1 << 20) + 1);
    TOY_OK(heed_events_text(e, "long", 1, words, TOY_ERR));
    free(scratch_get(heed_events_path(e), &n));
    assert_true(n > 1 << 20);
    free(words);
    TOY_OK(heed_events_close(e, TOY_ERR));
}

static void what_a_tag_cannot_hold_is_refused(void **state)
{
    const heed_event_image image = { "x", 1, 1, 1 };
    double clock = 5;
    heed_events *e = open_at(*state, &clock, (heed_maybe_i64){ 0 });
    heed_error err = { 0 };

    TOY_OK(heed_events_scalar(e, "a", 1, 1, TOY_ERR));
    assert_int_equal(heed_events_text(e, "a", 1, "words", &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "holds scalars already"));
    assert_int_equal(heed_events_scalar(e, "", 1, 1, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_events_scalar(e, NULL, 1, 1, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_events_scalar(e, "\xff", 1, 1, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_events_image(e, "i", 1, &image, 0, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_events_image(e, "i", 1, &image, 257, NULL), HEED_ERR_LIMIT);
    TOY_OK(heed_events_scalar(e, "a", 2, 1, TOY_ERR)); /* the file is none the worse */
    TOY_OK(heed_events_close(e, TOY_ERR));
}

static void a_folder_that_cannot_be_made_is_named(void **state)
{
    scratch *s = *state;
    heed_events *e = NULL;
    heed_error err = { 0 };
    char path[160];

    snprintf(path, sizeof path, "%s", scratch_path(s, "file"));
    scratch_put(path, "x", 1);
    strcat(path, "/logs");
    assert_int_equal(heed_events_open(&e, s->ctx, path, NULL, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.path, "file"));
}

/* ---- faults ---- */

static heed_status write_some(heed_context *ctx, void *user, heed_error *err)
{
    static const heed_event_image image = { "png", 3, 1, 1 };
    scratch *s = user;
    double clock = 7;
    heed_events *e = NULL;
    heed_status st =
        heed_events_open(&e, ctx, s->folder, &(heed_events_opts){ .clock = ticking, .user = &clock }, err);
    heed_status closed;

    for (int step = 0; st == HEED_OK && step < 3; step++) {
        st = heed_events_scalar(e, "train/loss", step, 1, err);
        if (st == HEED_OK)
            st = heed_events_image(e, "pictures", step, &image, 1, err);
        if (st == HEED_OK)
            st = heed_events_flush(e, err);
    }
    closed = heed_events_close(e, err);
    return st ? st : closed;
}

/* Bytes of the event files in the folder; with `away` they are removed. */
static int64_t event_bytes(const scratch *s, bool away)
{
    int64_t bytes = 0;
    char pattern[128];
    glob_t found;
    struct stat is;

    snprintf(pattern, sizeof pattern, "%s/events.*", s->folder);
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            assert_int_equal(stat(found.gl_pathv[i], &is), 0);
            bytes += is.st_size;
            if (away)
                assert_int_equal(unlink(found.gl_pathv[i]), 0);
        }
    globfree(&found);
    return bytes;
}

/* No more files than the names of a second allow. */
static void start_empty(heed_context *ctx, void *user)
{
    (void)ctx;
    event_bytes(user, true);
}

/* One file, of the bytes that an unharmed run writes. */
static bool is_whole(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    return st != HEED_OK || event_bytes(user, false) == 451;
}

static void every_call_may_fail(void **state)
{
    const heed_scenario scenario = {
        .name = "an event file", .run = write_some, .prepare = start_empty, .right = is_whole
    };
    heed_fail_report report;

    if (!heed_fail_each(&scenario, *state, &report))
        fail_msg("%s", report.first_bad);
    if (!heed_fail_each_file(&scenario, *state, &report))
        fail_msg("%s", report.first_bad);
}

static void nothing_follows_a_torn_record(void **state)
{
    scratch *s = *state;
    const file_ops *real = s->ctx->files;
    double clock = 5;
    heed_events *e = open_at(s, &clock, (heed_maybe_i64){ 0 });
    heed_error err = { 0 };
    fault_files faults;
    size_t before, after;

    fault_files_init(&faults, real);
    faults.at = 1;
    faults.onward = true;
    faults.error = 28; /* ENOSPC */
    TOY_OK(heed_events_scalar(e, "a", 1, 1, TOY_ERR));
    free(scratch_get(heed_events_path(e), &before));
    s->ctx->files = &faults.ops;
    assert_int_equal(heed_events_flush(e, &err), HEED_ERR_IO);
    s->ctx->files = real;
    err = (heed_error){ 0 };
    assert_int_equal(heed_events_scalar(e, "a", 2, 1, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "an earlier write failed"));
    free(scratch_get(heed_events_path(e), &after));
    assert_int_equal(before, after);
    TOY_OK(heed_events_close(e, TOY_ERR));
}

#else

static void without_protobuf_c_the_package_is_named(void **state)
{
    scratch *s = *state;
    heed_events *e = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_events_open(&e, s->ctx, s->folder, NULL, &err), HEED_ERR_MISSING);
    assert_non_null(strstr(err.text, "libprotobuf-c-dev"));
    assert_int_equal(heed_events_close(NULL, NULL), HEED_OK);
}

#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef HEED_HAVE_PROTOBUF
        TEST(records_have_the_bytes_of_tensorflow),
        TEST(a_tag_says_its_plugin_once_in_a_file),
        TEST(going_on_is_a_start_of_session_at_that_step),
        TEST(pictures_and_texts_are_tensors_of_strings),
        TEST(files_of_one_second_have_names_of_their_own),
        TEST(what_waits_is_flushed_when_asked_and_when_it_is_much),
        TEST(what_a_tag_cannot_hold_is_refused),
        TEST(a_folder_that_cannot_be_made_is_named),
        TEST(every_call_may_fail),
        TEST(nothing_follows_a_torn_record),
#else
        TEST(without_protobuf_c_the_package_is_named),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
