/* Fields: the strict grammar, printing, comparing, near names. */
#include "support/cmocka.h"
#include "base/arena.h"
#include "base/fields.h"
#include "support/fail_each.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inner {
    float lr;
    int optimizer;
} inner;

typedef struct sample {
    int axis;
    int64_t count;
    float scale;
    double eps;
    bool causal;
    int kind;
    unsigned formats;
    const char *name;
    field_i64s axes;
    heed_maybe_i64 window;
    heed_maybe_f32 temperature;
    inner train;
} sample;

static const field inner_fields[] = {
    { FIELD_(inner, lr, FIELD_F32_), .min = 0, .max = 10, .fallback = "3e-4" },
    { FIELD_(inner, optimizer, FIELD_ENUM_), .choices = "sgd|adam|adamw", .fallback = "adamw" },
    FIELD_END,
};

static const field sample_fields[] = {
    { FIELD_(sample, axis, FIELD_INT_), .min = -8, .max = 8, .fallback = "-1" },
    FIELD_I64(sample, count),
    FIELD_F32(sample, scale),
    { FIELD_(sample, eps, FIELD_F64_), .fallback = "1e-5" },
    FIELD_BOOL(sample, causal),
    FIELD_ENUM(sample, kind, "dot|scaled_dot|additive"),
    { FIELD_(sample, formats, FIELD_FLAGS_), .choices = "png,svg,html", .fallback = "png" },
    { FIELD_(sample, name, FIELD_STRING_), .fallback = "fc" },
    FIELD_I64S(sample, axes),
    FIELD_MAYBE_I64(sample, window),
    FIELD_MAYBE_F32(sample, temperature),
    FIELD_GROUP(sample, train, inner_fields),
    FIELD_END,
};

typedef struct fixture {
    heap *h;
    arena a;
    sample s;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);

    f->h = heed__heap_new(NULL, 0);
    heed__arena_init(&f->a, f->h);
    *state = f;
    return heed__fields_default(sample_fields, &f->s, &f->a, NULL) != HEED_OK;
}

static int teardown(void **state)
{
    fixture *f = *state;
    uint64_t left;

    heed__arena_release(&f->a);
    left = heed__heap_bytes(f->h);
    heed__heap_free(f->h);
    free(f);
    return left != 0;
}

static heed_status set(fixture *f, const char *name, const char *value, heed_error *err)
{
    void *object = &f->s;
    const field *row = heed__field_find(sample_fields, name, &object, NULL);

    assert_non_null(row);
    return heed__field_set(row, object, value, &f->a, name, err);
}

static void defaults_come_from_the_table(void **state)
{
    fixture *f = *state;

    assert_int_equal(f->s.axis, -1);
    assert_int_equal(f->s.count, 0);
    assert_true(f->s.eps == 1e-5);
    assert_int_equal(f->s.formats, 1);
    assert_string_equal(f->s.name, "fc");
    assert_false(f->s.window.set);
    assert_true(f->s.train.lr == 3e-4f);
    assert_int_equal(f->s.train.optimizer, 2);
}

static void values_are_set_by_dotted_names(void **state)
{
    fixture *f = *state;

    assert_int_equal(set(f, "axis", "3", NULL), HEED_OK);
    assert_int_equal(set(f, "count", "-9223372036854775808", NULL), HEED_OK);
    assert_int_equal(set(f, "scale", "0.125", NULL), HEED_OK);
    assert_int_equal(set(f, "causal", "true", NULL), HEED_OK);
    assert_int_equal(set(f, "kind", "additive", NULL), HEED_OK);
    assert_int_equal(set(f, "formats", "html,png", NULL), HEED_OK);
    assert_int_equal(set(f, "name", "a, \"b\"", NULL), HEED_OK);
    assert_int_equal(set(f, "axes", "0,-2,1", NULL), HEED_OK);
    assert_int_equal(set(f, "window", "0", NULL), HEED_OK);
    assert_int_equal(set(f, "train.optimizer", "sgd", NULL), HEED_OK);
    assert_int_equal(f->s.axis, 3);
    assert_true(f->s.count == INT64_MIN);
    assert_true(f->s.scale == 0.125f);
    assert_true(f->s.causal);
    assert_int_equal(f->s.kind, 2);
    assert_int_equal(f->s.formats, 5);
    assert_string_equal(f->s.name, "a, \"b\"");
    assert_int_equal(f->s.axes.n, 3);
    assert_int_equal(f->s.axes.v[1], -2);
    assert_true(f->s.window.set && f->s.window.value == 0);
    assert_int_equal(f->s.train.optimizer, 0);
    assert_int_equal(set(f, "window", "none", NULL), HEED_OK);
    assert_false(f->s.window.set);
    assert_int_equal(set(f, "axes", "", NULL), HEED_OK);
    assert_int_equal(f->s.axes.n, 0);
    assert_int_equal(set(f, "formats", "", NULL), HEED_OK);
    assert_int_equal(f->s.formats, 0);
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const numbers[] = {
        "",  " 1",  "1 ",  "+1",   "01",  "1.",    ".5",    "1e",  "1e+", "0x10", "nan",  "inf",
        "-", "--1", "1,0", "1e5x", "-01", "1.5.2", "1_000", "1d5", "NaN", "-inf", "1e5.", "infinity"
    };
    static const char *const integers[] = { "1.0", "1e3", "-0", "1.5", "12a", "" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_int_equal(set(f, "scale", numbers[i], NULL), HEED_ERR_USAGE);
        assert_int_equal(set(f, "eps", numbers[i], NULL), HEED_ERR_USAGE);
        assert_int_equal(set(f, "count", numbers[i], NULL), HEED_ERR_USAGE);
        assert_int_equal(set(f, "temperature", numbers[i], NULL), HEED_ERR_USAGE);
    }
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        assert_int_equal(set(f, "axis", integers[i], NULL), HEED_ERR_USAGE);
        assert_int_equal(set(f, "window", integers[i], NULL), HEED_ERR_USAGE);
    }
    assert_true(f->s.scale == 0 && f->s.eps == 1e-5 && f->s.axis == -1);
}

static void numbers_have_their_exact_value(void **state)
{
    static const char *const texts[] = { "0",
                                         "-0",
                                         "-0.0",
                                         "1",
                                         "1.5",
                                         "3e-4",
                                         "1E5",
                                         "1e+5",
                                         "0.1",
                                         "123456789.123456789",
                                         "1e-400",
                                         "2.2250738585072011e-308",
                                         "179769313486231570000e288",
                                         "0e0" };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const double want = strtod(texts[i], NULL);

        assert_int_equal(set(f, "eps", texts[i], NULL), HEED_OK);
        assert_memory_equal(&f->s.eps, &want, sizeof want);
    }
}

static void numbers_out_of_range_are_refused_with_the_range(void **state)
{
    static const struct {
        const char *name, *good, *bad;
    } cases[] = {
        { "axis", "8", "9" },
        { "axis", "-8", "-9" },
        { "axis", "0", "99999999999999999999" },
        { "count", "9223372036854775807", "9223372036854775808" },
        { "count", "-9223372036854775808", "-9223372036854775809" },
        { "scale", "3.4028234e38", "3.5e38" },
        { "eps", "1.7e308", "1e309" },
        { "eps", "-1.7e308", "-1e999" },
        { "train.lr", "10", "10.0001" },
        { "train.lr", "0", "-0.1" },
    };
    fixture *f = *state;
    heed_error err = { 0 };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(set(f, cases[i].name, cases[i].good, NULL), HEED_OK);
        assert_int_equal(set(f, cases[i].name, cases[i].bad, NULL), HEED_ERR_LIMIT);
    }
    set(f, "train.lr", "12", &err);
    assert_string_equal(err.text, "train.lr: 12 is outside 0 to 10");
}

static void words_lists_and_groups_are_strict(void **state)
{
    static const char *const cases[][2] = {
        { "causal", "1" },    { "causal", "True" }, { "causal", "" },      { "kind", "dots" },
        { "kind", "" },       { "kind", "0" },      { "formats", "png," }, { "formats", "png,png" },
        { "formats", "gif" }, { "formats", "," },   { "axes", "1,,2" },    { "axes", "1," },
        { "axes", "1;2" },    { "axes", "a" },      { "train", "x" },
    };
    fixture *f = *state;
    heed_error err = { 0 };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(set(f, cases[i][0], cases[i][1], NULL), HEED_ERR_USAGE);
    assert_int_equal(set(f, "axes", "1,2,3,4,5,6,7,8", NULL), HEED_OK);
    assert_int_equal(set(f, "axes", "1,2,3,4,5,6,7,8,9", NULL), HEED_ERR_LIMIT);
    assert_int_equal(f->s.axes.n, 8);
    set(f, "kind", "scaled\n", &err);
    assert_string_equal(err.text, "kind: \"scaled\\x0a\" is none of dot|scaled_dot|additive");
}

static void printing_names_every_member_or_only_what_differs(void **state)
{
    fixture *f = *state;
    text t;

    heed__text_init(&t, f->h, 0);
    heed__fields_print(&t, sample_fields, &f->s, false);
    assert_string_equal(
        t.data, "axis=-1, count=0, scale=0, eps=1e-05, causal=false, kind=dot, formats=png, name=fc, axes=, "
                "window=none, temperature=none, train.lr=0.0003, train.optimizer=adamw");
    heed__text_clear(&t);
    heed__fields_print(&t, sample_fields, &f->s, true);
    assert_string_equal(t.data, "");
    f->s.axes = (field_i64s){ 2, { 1, 0 } };
    f->s.name = "a b";
    f->s.train.lr = 0.1f;
    f->s.kind = 7; /* no such word: shown as it is */
    f->s.count = 100;
    heed__fields_print(&t, sample_fields, &f->s, true);
    assert_string_equal(t.data, "count=100, kind=7, name=\"a b\", axes=1,0, train.lr=0.1");
    heed__text_release(&t);
}

static void what_is_printed_reads_back_equal(void **state)
{
    static const char *const given[][2] = {
        { "axis", "-8" },          { "count", "1234567890123456789" },
        { "scale", "0.1" },        { "eps", "0.30000000000000004" },
        { "causal", "true" },      { "kind", "additive" },
        { "formats", "svg,html" }, { "name", "x, \"y\"" },
        { "axes", "3,1,2" },       { "window", "0" },
        { "temperature", "-0" },   { "train.lr", "1e-40" },
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        const sample before = f->s;
        sample again;
        void *object = &f->s;
        const field *row = heed__field_find(sample_fields, given[i][0], &object, NULL);
        text t;

        assert_int_equal(heed__field_set(row, object, given[i][1], &f->a, NULL, NULL), HEED_OK);
        assert_false(heed__fields_equal(sample_fields, &before, &f->s));
        assert_int_not_equal(heed__fields_hash(sample_fields, &before, 0),
                             heed__fields_hash(sample_fields, &f->s, 0));
        heed__text_init(&t, f->h, 0);
        heed__field_print(&t, row, object);
        again = before;
        object = (uint8_t *)&again + ((uint8_t *)object - (uint8_t *)&f->s);
        assert_int_equal(heed__field_set(row, object, t.data, &f->a, NULL, NULL), HEED_OK);
        assert_true(heed__fields_equal(sample_fields, &again, &f->s));
        assert_int_equal(heed__fields_hash(sample_fields, &again, 0),
                         heed__fields_hash(sample_fields, &f->s, 0));
        heed__text_release(&t);
    }
}

static void padding_and_unused_places_do_not_count(void **state)
{
    fixture *f = *state;
    sample other;

    memset(&other, 0xff, sizeof other);
    assert_int_equal(heed__fields_default(sample_fields, &other, &f->a, NULL), HEED_OK);
    other.axes.v[5] = 9;
    other.window.value = 9;
    assert_true(heed__fields_equal(sample_fields, &f->s, &other));
    assert_int_equal(heed__fields_hash(sample_fields, &f->s, 7), heed__fields_hash(sample_fields, &other, 7));
    other.name = NULL;
    f->s.name = "";
    assert_true(heed__fields_equal(sample_fields, &f->s, &other));
    assert_int_equal(heed__fields_hash(sample_fields, &f->s, 7), heed__fields_hash(sample_fields, &other, 7));
}

static void a_misspelt_name_finds_the_nearest(void **state)
{
    static const char *const cases[][2] = {
        { "axs", "axis" },
        { "train.optimiser", "train.optimizer" },
        { "lr", "train.lr" },
        { "tempreature", "temperature" },
        { "completely_else", "" },
        { "", "" },
        { "train.", "train.lr" },
        { "Causal", "causal" },
        { "train.lr.x", "train.lr" },
        { "axis.x", "axis" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char nearest[64] = "?";
        void *object = NULL;

        assert_null(heed__field_find(sample_fields, cases[i][0], &object, nearest));
        assert_string_equal(nearest, cases[i][1]);
    }
}

static void a_group_is_found_and_cannot_be_set(void **state)
{
    fixture *f = *state;
    void *object = &f->s;
    const field *row = heed__field_find(sample_fields, "train", &object, NULL);

    assert_non_null(row);
    assert_int_equal(row->kind, FIELD_GROUP_);
    assert_ptr_equal(object, &f->s);
}

static void words_are_near_within_three_edits(void **state)
{
    static const char *const words[] = { "softmax", "sparsemax", "sigmoid", "entmax", NULL };
    char many[200];

    (void)state;
    assert_string_equal(heed__nearest("sofmax", words), "softmax");
    assert_string_equal(heed__nearest("spasemaxx", words), "sparsemax");
    assert_null(heed__nearest("relu", words));
    assert_null(heed__nearest("shaw", (const char *const[]){ "scale", NULL }));
    assert_null(heed__nearest("--bogus", (const char *const[]){ "--out", NULL }));
    assert_string_equal(heed__nearest("--fcore", (const char *const[]){ "--out", "--force", NULL }), "--force");
    assert_null(heed__nearest("", words));
    assert_string_equal(heed__nearest("softmax", words), "softmax");
    memset(many, 's', 199);
    many[199] = '\0';
    assert_null(heed__nearest(many, words));
}

static heed_status fields_run(heed_context *ctx, void *user, heed_error *err)
{
    arena a;
    sample s;
    heed_status st;

    (void)user;
    heed__arena_init(&a, ctx->heap);
    st = heed__fields_default(sample_fields, &s, &a, err);
    heed__arena_release(&a);
    return st;
}

static void fields_survive_each_failing_allocation(void **state)
{
    const heed_scenario s = { .name = "fields", .run = fields_run };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(defaults_come_from_the_table),
        EACH(values_are_set_by_dotted_names),
        EACH(what_is_no_number_is_refused),
        EACH(numbers_have_their_exact_value),
        EACH(numbers_out_of_range_are_refused_with_the_range),
        EACH(words_lists_and_groups_are_strict),
        EACH(printing_names_every_member_or_only_what_differs),
        EACH(what_is_printed_reads_back_equal),
        EACH(padding_and_unused_places_do_not_count),
        EACH(a_misspelt_name_finds_the_nearest),
        EACH(a_group_is_found_and_cannot_be_set),
        EACH(words_are_near_within_three_edits),
        EACH(fields_survive_each_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
