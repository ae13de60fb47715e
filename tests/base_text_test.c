/* Texts: growth, limits, JSON, UTF-8 and numbers, also where the host writes 0,5. */
#include "support/cmocka.h"
#include "base/error.h"
#include "base/text.h"
#include "support/fail_each.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    *state = heed__heap_new(NULL, 0);
    return 0;
}

static int teardown(void **state)
{
    const uint64_t left = heed__heap_bytes(*state);

    heed__heap_free(*state);
    return left != 0;
}

static void a_text_grows_and_stays_terminated(void **state)
{
    text t;

    heed__text_init(&t, *state, 0);
    assert_string_equal(t.data, "");
    for (int i = 0; i < 1000; i++) {
        heed__text_add(&t, "%d,", i);
        assert_int_equal(strlen(t.data), t.size);
    }
    assert_int_equal(t.size, 10 * 2 + 90 * 3 + 900 * 4);
    heed__text_put(&t, "\0x", 2);
    assert_int_equal(t.data[t.size - 1], 'x');
    heed__text_clear(&t);
    assert_string_equal(t.data, "");
    heed__text_release(&t);
    heed__text_release(&t);
    assert_string_equal(t.data, "");
}

static void a_text_over_its_limit_fails_and_keeps_what_it_had(void **state)
{
    text t;

    heed__text_init(&t, *state, 5);
    heed__text_put(&t, "12345", 5);
    assert_int_equal(t.failed, HEED_OK);
    heed__text_add(&t, "%c", '6');
    assert_int_equal(t.failed, HEED_ERR_LIMIT);
    heed__text_put(&t, "", 0);
    assert_string_equal(t.data, "12345");
    assert_null(heed__text_take(&t));
    heed__text_clear(&t);
    heed__text_add(&t, "ok");
    assert_string_equal(t.data, "ok");
    heed__text_release(&t);
}

static void taking_a_text_leaves_an_empty_one(void **state)
{
    text t;
    char *taken;

    heed__text_init(&t, *state, 0);
    taken = heed__text_take(&t);
    assert_string_equal(taken, "");
    heed__release(*state, taken);
    heed__text_add(&t, "abc");
    taken = heed__text_take(&t);
    assert_string_equal(taken, "abc");
    assert_string_equal(t.data, "");
    heed__release(*state, taken);
}

static void json_strings_are_escaped(void **state)
{
    static const char raw[] = "a\"\\\b\f\n\r\t\x01\x1f\0/\x7f\xc3\xa9\xff\xed\xa0\x80";
    text t;

    heed__text_init(&t, *state, 0);
    heed__text_json(&t, raw, sizeof raw - 1);
    assert_string_equal(
        t.data, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\\u0000/\x7f\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\"");
    heed__text_release(&t);
}

static void only_well_formed_utf8_has_a_length(void **state)
{
    static const struct {
        const char *bytes;
        size_t left, length;
    } cases[] = {
        { "", 0, 0 },
        { "a", 1, 1 },
        { "\xc2\x80", 2, 2 },
        { "\xc1\xbf", 2, 0 },
        { "\xc3", 1, 0 },
        { "\xc3\xa9", 1, 0 },
        { "\xe0\xa0\x80", 3, 3 },
        { "\xe0\x9f\xbf", 3, 0 },
        { "\xed\x9f\xbf", 3, 3 },
        { "\xed\xa0\x80", 3, 0 },
        { "\xef\xbf\xbf", 3, 3 },
        { "\xf0\x90\x80\x80", 4, 4 },
        { "\xf0\x8f\xbf\xbf", 4, 0 },
        { "\xf4\x8f\xbf\xbf", 4, 4 },
        { "\xf4\x90\x80\x80", 4, 0 },
        { "\xf5\x80\x80\x80", 4, 0 },
        { "\x80", 1, 0 },
        { "\xe2\x82", 2, 0 },
        { "\xe2\x82\x41", 3, 0 },
        { "\xff", 1, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(heed__utf8_length(cases[i].bytes, cases[i].left), cases[i].length);
}

static void numbers_are_as_short_as_they_can_be(void **state)
{
    static const struct {
        double value;
        const char *shown;
    } cases[] = {
        { 0, "0" },
        { -0.0, "-0" },
        { 0.1, "0.1" },
        { 1.0 / 3, "0.3333333333333333" },
        { 1e300, "1e+300" },
        { 100, "100" },
        { 12, "12" },
        { 1e14, "100000000000000" },
        { 1e15, "1e+15" },
        { 1e-5, "1e-05" },
        { 0.25e-3, "0.00025" },
        { -123456789, "-123456789" },
        { 5e-324, "5e-324" },
        { DBL_MAX, "1.7976931348623157e+308" },
        { -2.5, "-2.5" },
        { 0.1 + 0.2, "0.30000000000000004" },
        { (double)NAN, "null" },
        { (double)INFINITY, "null" },
        { -(double)INFINITY, "null" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text t;

        heed__text_init(&t, *state, 0);
        heed__text_number(&t, cases[i].value);
        assert_string_equal(t.data, cases[i].shown);
        heed__text_release(&t);
    }
}

static void floats_need_fewer_digits_than_doubles(void **state)
{
    text t;

    heed__text_init(&t, *state, 0);
    heed__text_float(&t, 0.1f);
    heed__text_put(&t, " ", 1);
    heed__text_float(&t, FLT_MAX);
    heed__text_put(&t, " ", 1);
    heed__text_float(&t, (float)INFINITY);
    assert_string_equal(t.data, "0.1 3.4028235e+38 null");
    heed__text_release(&t);
}

/* A cheap sequence of bit patterns. */
static uint64_t mixed(uint64_t i)
{
    i = (i + 1) * 0x9E3779B97F4A7C15u;
    i = (i ^ i >> 30) * 0xBF58476D1CE4E5B9u;
    i = (i ^ i >> 27) * 0x94D049BB133111EBu;
    return i ^ i >> 31;
}

static void any_number_reads_back_the_same(void **state)
{
    text t;

    heed__text_init(&t, *state, 0);
    for (uint64_t i = 0; i < 20000; i++) {
        const uint64_t bits = mixed(i);
        const uint32_t half = (uint32_t)bits;
        double d, back;
        float f;

        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &half, sizeof f);
        if (isfinite(d)) {
            heed__text_clear(&t);
            heed__text_number(&t, d);
            back = strtod(t.data, NULL);
            assert_memory_equal(&back, &d, sizeof d);
        }
        if (isfinite(f)) {
            const float read = (heed__text_clear(&t), heed__text_float(&t, f), strtof(t.data, NULL));
            assert_memory_equal(&read, &f, sizeof f);
        }
    }
    heed__text_release(&t);
}

static void a_star_ends_a_beginning_and_stands_for_itself_elsewhere(void **state)
{
    (void)state;
    assert_true(heed__name_matches("stem.*", "stem.conv"));
    assert_true(heed__name_matches("stem.*", "stem."));
    assert_false(heed__name_matches("stem.*", "stem"));
    assert_true(heed__name_matches("*", ""));
    assert_true(heed__name_matches("stem", "stem"));
    assert_false(heed__name_matches("stem", "stem.conv"));
    assert_false(heed__name_matches("*.conv", "stem.conv"));
    assert_true(heed__name_matches("", ""));
    assert_false(heed__name_matches("", "stem"));
}

static void what_does_not_fit_is_cut_and_what_is_no_text_is_known(void **state)
{
    char out[4];

    (void)state;
    heed__format(out, sizeof out, "%d", 12345);
    assert_string_equal(out, "123");
    assert_true(heed__is_utf8("", 0) && heed__is_utf8("\xe4\xb8\xad", 3));
    assert_false(heed__is_utf8("a\xe4\xb8", 3) || heed__is_utf8("\xff", 1));
}

static bool comma_is_set(const char *name)
{
    return setlocale(LC_ALL, name) && strcmp(localeconv()->decimal_point, ",") == 0;
}

/* Takes a locale that writes 0,5: an installed one, or one made for this test where the system has the
 * sources. */
static bool comma_locale(void)
{
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "de_DE" };
    char folder[] = "/tmp/heed_locale_XXXXXX", command[256];
    bool found;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (comma_is_set(names[i]))
            return true;
    if (!mkdtemp(folder))
        return false;
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", folder);
    setenv("LOCPATH", folder, 1);
    found = system(command) == 0 && comma_is_set("de_DE.UTF-8"); /* loaded: the files may go */
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 && found;
}

static void a_host_that_writes_commas_changes_nothing(void **state)
{
    heed_error err = { 0 };
    char out[40];
    text t;

    if (!comma_locale()) {
        print_message("no locale with a comma is installed\n");
        skip();
    }
    snprintf(out, sizeof out, "%g", 0.5);
    assert_string_equal(out, "0,5"); /* the host's own calls do write it */
    heed__text_init(&t, *state, 0);
    heed__text_number(&t, 0.5);
    heed__text_add(&t, " %.2f", 0.25);
    assert_string_equal(t.data, "0.5 0.25");
    heed__text_release(&t);
    heed__format(out, sizeof out, "share %g", 0.5);
    assert_string_equal(out, "share 0.5");
    heed__fail(&err, HEED_ERR_LIMIT, "%g", 1.5);
    assert_string_equal(err.text, "1.5");
    assert_true(heed__os_read_number("2.5") == 2.5);
    snprintf(out, sizeof out, "%g", 0.5);
    assert_string_equal(out, "0,5"); /* and still do */
    setlocale(LC_ALL, "C");
}

static heed_status text_run(heed_context *ctx, void *user, heed_error *err)
{
    heed_status st = HEED_OK;
    char *taken;
    text t;

    (void)user;
    heed__text_init(&t, ctx->heap, 0);
    for (int i = 0; i < 100; i++)
        heed__text_add(&t, "%d", i);
    heed__text_json(&t, "q\n", 2);
    heed__text_number(&t, 0.1);
    taken = heed__text_take(&t);
    if (!taken)
        st = heed__fail_memory(err, 0);
    heed__release(ctx->heap, taken);
    heed__text_release(&t);
    return st;
}

static void a_text_survives_each_failing_allocation(void **state)
{
    const heed_scenario s = { .name = "text", .run = text_run };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_grows_and_stays_terminated),
        cmocka_unit_test(a_text_over_its_limit_fails_and_keeps_what_it_had),
        cmocka_unit_test(taking_a_text_leaves_an_empty_one),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(only_well_formed_utf8_has_a_length),
        cmocka_unit_test(numbers_are_as_short_as_they_can_be),
        cmocka_unit_test(floats_need_fewer_digits_than_doubles),
        cmocka_unit_test(any_number_reads_back_the_same),
        cmocka_unit_test(a_star_ends_a_beginning_and_stands_for_itself_elsewhere),
        cmocka_unit_test(what_does_not_fit_is_cut_and_what_is_no_text_is_known),
        cmocka_unit_test(a_host_that_writes_commas_changes_nothing),
        cmocka_unit_test(a_text_survives_each_failing_allocation),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
