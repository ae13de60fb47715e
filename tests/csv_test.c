/* CSV by RFC 4180: quoting, numbers, rows of one length, atomic writing, every call made to fail. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include <heed/formats.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void has(const char *path, const char *wanted)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n);

    assert_string_equal((char *)bytes, wanted);
    free(bytes);
}

static void fields_are_quoted_only_where_the_rule_asks_for_it(void **state)
{
    static const char *const fields[] = { "plain", "with space", "a,b", "say \"no\"", "two\nlines",
                                          "\r",    "",           "\"",  "\xc3\xa9" };
    scratch *s = *state;
    const char *path = scratch_path(s, "a.csv");
    heed_csv *c = NULL;

    TOY_OK(heed_csv_begin(&c, s->ctx, path, TOY_ERR));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        heed_csv_text(c, fields[i]);
    TOY_OK(heed_csv_row(c, TOY_ERR));
    TOY_OK(heed_csv_commit(c, TOY_ERR));
    has(path, "plain,with space,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\"\r\",,\"\"\"\",\xc3\xa9\r\n");
}

static void numbers_read_back_the_same(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "a.csv");
    heed_csv *c = NULL;

    TOY_OK(heed_csv_begin(&c, s->ctx, path, TOY_ERR));
    heed_csv_integer(c, INT64_MIN);
    heed_csv_float(c, 0.1f);
    heed_csv_double(c, 0.1);
    heed_csv_double(c, 1.0 / 3);
    heed_csv_double(c, (double)NAN);
    heed_csv_float(c, INFINITY);
    heed_csv_double(c, -(double)INFINITY);
    TOY_OK(heed_csv_row(c, TOY_ERR));
    TOY_OK(heed_csv_commit(c, TOY_ERR));
    has(path, "-9223372036854775808,0.1,0.1,0.3333333333333333,nan,inf,-inf\r\n");
}

static void a_row_of_another_length_spoils_the_file(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "a.csv");
    heed_csv *c = NULL;
    heed_error err = { 0 };

    TOY_OK(heed_csv_begin(&c, s->ctx, path, TOY_ERR));
    heed_csv_integer(c, 1);
    heed_csv_integer(c, 2);
    TOY_OK(heed_csv_row(c, TOY_ERR));
    heed_csv_integer(c, 1);
    assert_int_equal(heed_csv_row(c, &err), HEED_ERR_USAGE);
    assert_string_equal(err.text, "row 2 of the CSV has 1 fields, the first one has 2");
    assert_int_equal(heed_csv_commit(c, NULL), HEED_ERR_USAGE);
    assert_int_equal(scratch_entries(s->folder), 0);
}

static void a_row_that_was_not_ended_is_not_written(void **state)
{
    scratch *s = *state;
    heed_csv *c = NULL;

    TOY_OK(heed_csv_begin(&c, s->ctx, scratch_path(s, "a.csv"), TOY_ERR));
    heed_csv_text(c, "left over");
    assert_int_equal(heed_csv_commit(c, NULL), HEED_ERR_USAGE);
    assert_int_equal(scratch_entries(s->folder), 0);
}

static void what_is_cancelled_leaves_the_old_file(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "a.csv");
    heed_csv *c = NULL;

    scratch_put(path, "old", 3);
    TOY_OK(heed_csv_begin(&c, s->ctx, path, TOY_ERR));
    heed_csv_text(c, "new");
    TOY_OK(heed_csv_row(c, TOY_ERR));
    heed_csv_cancel(c);
    heed_csv_cancel(NULL);
    has(path, "old");
    assert_int_equal(scratch_entries(s->folder), 1);
}

/* ---- faults ---- */

#define ROWS 3000 /* several pieces */

static heed_status write_rows(heed_context *ctx, void *user, heed_error *err)
{
    heed_csv *c = NULL;
    heed_status st = heed_csv_begin(&c, ctx, user, err);

    for (int i = 0; i < ROWS && st == HEED_OK; i++) {
        heed_csv_text(c, "a field of some length, with a comma");
        heed_csv_integer(c, i);
        st = heed_csv_row(c, err);
    }
    if (st != HEED_OK) {
        heed_csv_cancel(c);
        return st;
    }
    return heed_csv_commit(c, err);
}

static void put_old(heed_context *ctx, void *user)
{
    (void)ctx;
    scratch_put(user, "old", 3);
}

static bool old_or_whole(heed_context *ctx, void *user, heed_status st)
{
    size_t n;
    uint8_t *bytes = scratch_get(user, &n);
    const bool whole = n > 6 && memcmp(bytes + n - 6, "2999\r\n", 6) == 0;
    const bool old = n == 3;

    (void)ctx;
    free(bytes);
    return st == HEED_OK ? whole : whole || old;
}

static void every_call_may_fail(void **state)
{
    scratch *s = *state;
    const heed_scenario scenario = { "csv", write_rows, put_old, old_or_whole };
    heed_fail_report report;
    char path[160];

    snprintf(path, sizeof path, "%s", scratch_path(s, "a.csv"));
    assert_true(heed_fail_each(&scenario, path, &report));
    assert_true(heed_fail_each_file(&scenario, path, &report));
    assert_true(report.calls > 8);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(fields_are_quoted_only_where_the_rule_asks_for_it),
        UNIT(numbers_read_back_the_same),
        UNIT(a_row_of_another_length_spoils_the_file),
        UNIT(a_row_that_was_not_ended_is_not_written),
        UNIT(what_is_cancelled_leaves_the_old_file),
        UNIT(every_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
