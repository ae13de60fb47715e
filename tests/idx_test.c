/* IDX files and the data sets made of them: the corpus, ranges, splits, moments, and every call made to
 * fail. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/corpus.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/data.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HEED_HAVE_GZIP
#include <zlib.h>
#endif

static heed_status read_all(heed_context *ctx, const char *path, heed_error *err)
{
    heed_tensor t;

    TRY(heed_idx_read(&t, ctx, path, 0, -1, err));
    heed_data_free(ctx, &t);
    return HEED_OK;
}

/* Writes an IDX file of n records; byte k of the data is k mod 251. Gzip when the name says so. */
static void put_idx(const char *path, int rank, const int64_t *sizes)
{
    uint8_t *bytes, *at;
    size_t n = 1;

    for (int i = 0; i < rank; i++)
        n *= (size_t)sizes[i];
    bytes = at = calloc(n + 64, 1);
    *at++ = 0;
    *at++ = 0;
    *at++ = 8;
    *at++ = (uint8_t)rank;
    for (int i = 0; i < rank; i++)
        for (int k = 3; k >= 0; k--)
            *at++ = (uint8_t)(sizes[i] >> (8 * k));
    for (size_t k = 0; k < n; k++)
        *at++ = (uint8_t)(k % 251);
#ifdef HEED_HAVE_GZIP
    if (strstr(path, ".gz")) {
        gzFile f = gzopen(path, "wb");

        assert_int_equal(gzwrite(f, bytes, (unsigned)(at - bytes)), at - bytes);
        assert_int_equal(gzclose(f), Z_OK);
    } else
#endif
        scratch_put(path, bytes, (size_t)(at - bytes));
    free(bytes);
}
#define SIZES(...)                                                                                           \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[])                                 \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

/* ---- files ---- */

static void each_rule_has_files_that_end_with_its_code(void **state)
{
#ifdef HEED_HAVE_GZIP
    scratch *s = *state;
    int files;

    assert_int_equal(corpus_replay(s->ctx, "idx", "", read_all, &files), 0);
    assert_true(files >= 50);
#else
    (void)state;
    skip();
#endif
}

static void without_zlib_a_gzip_file_names_the_package(void **state)
{
#ifdef HEED_HAVE_GZIP
    (void)state;
    skip();
#else
    scratch *s = *state;
    heed_error err = { 0 };
    char path[256];

    snprintf(path, sizeof path, "%s/tests/corpus/idx/gzip", HEED_SOURCE_DIR);
    assert_int_equal(read_all(s->ctx, path, &err), HEED_ERR_MISSING);
    assert_non_null(strstr(err.text, "zlib1g-dev"));
#endif
}

static void assert_records(scratch *s, const char *path, int64_t begin, int64_t end, int64_t first, int64_t n)
{
    heed_tensor t;
    heed_error err = { 0 };

    if (heed_idx_read(&t, s->ctx, path, begin, end, &err) != HEED_OK)
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(t.type.dtype, HEED_U8);
    assert_int_equal(t.type.rank, 3);
    assert_int_equal(t.type.dims[0], n);
    assert_int_equal(t.type.dims[1], 40);
    assert_int_equal(t.type.dims[2], 50);
    for (int64_t k = 0; k < n * 2000; k++)
        assert_int_equal(((uint8_t *)t.data)[k], (first * 2000 + k) % 251);
    heed_data_free(s->ctx, &t);
    assert_null(t.data);
}

static void ranges(scratch *s, const char *path)
{
    char sliced[200];

    put_idx(path, SIZES(100, 40, 50)); /* 200,000 bytes: several steps of inflating */
    assert_records(s, path, 0, -1, 0, 100);
    assert_records(s, path, 0, 1, 0, 1);
    assert_records(s, path, 31, 35, 31, 4);
    assert_records(s, path, 99, -1, 99, 1);
    assert_records(s, path, 100, 100, 100, 0);
    assert_records(s, path, 5, 5, 5, 0);
    snprintf(sliced, sizeof sliced, "%s[31:70]", path);
    assert_records(s, sliced, 0, -1, 31, 39);
    snprintf(sliced, sizeof sliced, "%s[:2]", path);
    assert_records(s, sliced, 0, -1, 0, 2);
    snprintf(sliced, sizeof sliced, "%s[98:]", path);
    assert_records(s, sliced, 0, -1, 98, 2);
    snprintf(sliced, sizeof sliced, "%s[:]", path);
    assert_records(s, sliced, 0, -1, 0, 100);
}

static void a_range_takes_those_records_of_a_plain_file(void **state)
{
    scratch *s = *state;

    ranges(s, scratch_path(s, "pictures"));
}

static void a_range_takes_those_records_of_a_gzip_file(void **state)
{
#ifdef HEED_HAVE_GZIP
    scratch *s = *state;

    ranges(s, scratch_path(s, "pictures.gz"));
#else
    (void)state;
    skip();
#endif
}

static void a_range_that_is_not_there_is_refused(void **state)
{
    static const struct {
        const char *suffix;
        int64_t begin, end;
        heed_status status;
    } cases[] = {
        { "", 0, 6, HEED_ERR_LIMIT },
        { "", 6, -1, HEED_ERR_LIMIT },
        { "", 3, 2, HEED_ERR_LIMIT },
        { "", -1, -1, HEED_ERR_USAGE },
        { "", 0, -2, HEED_ERR_USAGE },
        { "[0:6]", 0, -1, HEED_ERR_LIMIT },
        { "[4:3]", 0, -1, HEED_ERR_LIMIT },
        { "[0:5]", 1, -1, HEED_ERR_USAGE },
        { "[0:5]", 0, 5, HEED_ERR_USAGE },
        { "[0:5] ", 0, -1, HEED_ERR_IO },
        { "[-1:5]", 0, -1, HEED_ERR_IO },
        { "[0]", 0, -1, HEED_ERR_IO },
        { "[0:1:2]", 0, -1, HEED_ERR_IO },
        { "[a:b]", 0, -1, HEED_ERR_IO },
        { "[0:9999999999999999999]", 0, -1, HEED_ERR_IO },
        { "[0:999999999999999999]", 0, -1, HEED_ERR_LIMIT },
    };
    scratch *s = *state;
    const char *path = scratch_path(s, "labels");

    put_idx(path, SIZES(5));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char sliced[200];
        heed_tensor t;
        heed_error err = { 0 };

        snprintf(sliced, sizeof sliced, "%s%s", path, cases[i].suffix);
        assert_int_equal(heed_idx_read(&t, s->ctx, sliced, cases[i].begin, cases[i].end, &err),
                         cases[i].status);
        assert_int_equal(err.code, cases[i].status);
    }
}

static void a_file_over_the_limit_is_refused(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "labels");
    heed_context *ctx;
    heed_tensor t;

    put_idx(path, SIZES(101));
    assert_int_equal(
        heed_context_new(&ctx, &(heed_context_opts){ .threads = 1, .limits.file_bytes = 100 }, NULL),
        HEED_OK);
    assert_int_equal(heed_idx_read(&t, ctx, path, 0, -1, NULL), HEED_ERR_LIMIT);
    put_idx(path, SIZES(100));
    assert_int_equal(heed_idx_read(&t, ctx, path, 0, -1, NULL), HEED_OK);
    heed_data_free(ctx, &t);
    heed_context_free(ctx);
}

/* ---- data sets ---- */

/* 300 pictures of 2 x 3; labels are bytes of the file: k mod 251. */
static void put_set(scratch *s, const char *ending)
{
    char name[64];

    snprintf(name, sizeof name, "train-images-idx3-ubyte%s", ending);
    put_idx(scratch_path(s, name), SIZES(300, 2, 3));
    snprintf(name, sizeof name, "train-labels-idx1-ubyte%s", ending);
    put_idx(scratch_path(s, name), SIZES(300));
    snprintf(name, sizeof name, "t10k-images-idx3-ubyte%s", ending);
    put_idx(scratch_path(s, name), SIZES(7, 2, 3));
    snprintf(name, sizeof name, "t10k-labels-idx1-ubyte%s", ending);
    put_idx(scratch_path(s, name), SIZES(7));
}

static void look_at_set(scratch *s)
{
    heed_dataset *d;
    heed_error err = { 0 };
    const heed_type expected = HEED_TYPE(HEED_U8, 1, 2, 3);
    heed_type type;

    if (heed_dataset_open_idx(&d, s->ctx, s->folder, "train", &err) != HEED_OK)
        fail_msg("%s: %s", err.path, err.text);
    type = heed_dataset_image_type(d);
    assert_true(heed_type_equal(&type, &expected));
    assert_int_equal(heed_dataset_count(d), 300);
    assert_int_equal(heed_dataset_classes(d), 251);
    assert_int_equal(heed_dataset_image(d, 41)[5], (41 * 6 + 5) % 251);
    assert_int_equal(heed_dataset_label(d, 299), 48);
    assert_null(heed_dataset_image(d, 300));
    assert_null(heed_dataset_image(d, -1));
    assert_int_equal(heed_dataset_label(d, 300), -1);
    heed_dataset_free(d);
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "test", NULL), HEED_OK);
    assert_int_equal(heed_dataset_count(d), 7);
    heed_dataset_free(d);
    heed_dataset_free(NULL);
}

static void a_folder_of_plain_idx_files_is_a_data_set(void **state)
{
    scratch *s = *state;

    put_set(s, "");
    look_at_set(s);
}

static void a_folder_of_gzip_idx_files_is_the_same_data_set(void **state)
{
#ifdef HEED_HAVE_GZIP
    scratch *s = *state;

    put_set(s, ".gz");
    look_at_set(s);
#else
    (void)state;
    skip();
#endif
}

static void a_data_set_that_does_not_fit_together_is_refused(void **state)
{
    scratch *s = *state;
    heed_dataset *d;

    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "train", NULL), HEED_ERR_IO);
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "validation", NULL), HEED_ERR_USAGE);
    put_set(s, "");
    put_idx(scratch_path(s, "train-labels-idx1-ubyte"), SIZES(299));
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "train", NULL), HEED_ERR_SHAPE);
    put_idx(scratch_path(s, "train-labels-idx1-ubyte"), SIZES(300, 1));
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "train", NULL), HEED_ERR_SHAPE);
    put_idx(scratch_path(s, "train-images-idx3-ubyte"), SIZES(300, 6));
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "train", NULL), HEED_ERR_SHAPE);
    put_idx(scratch_path(s, "train-images-idx3-ubyte"), SIZES(300, 0, 6));
    assert_int_equal(heed_dataset_open_idx(&d, s->ctx, s->folder, "train", NULL), HEED_ERR_LIMIT);
}

static heed_status from_memory(scratch *s, heed_type images, heed_type labels, const int64_t *values,
                               int64_t classes)
{
    uint8_t pixels[64] = { 0 };
    heed_dataset *d = NULL;
    const heed_status st = heed_dataset_from_memory(&d, s->ctx, (heed_tensor){ images, pixels },
                                                    (heed_tensor){ labels, (void *)values }, classes, NULL);

    heed_dataset_free(d);
    return st;
}

static void a_data_set_from_memory_has_valid_labels(void **state)
{
    scratch *s = *state;
    const heed_type images = HEED_TYPE(HEED_U8, 3, 2, 2), four = HEED_TYPE(HEED_U8, 3, 2, 2, 2),
                    labels = HEED_TYPE(HEED_I64, 3);
    const int64_t good[] = { 0, 4, 2 }, negative[] = { 0, -1, 2 }, huge[] = { 0, INT64_MAX, 2 },
                  most[] = { 0, INT32_MAX - 1, 0 };

    assert_int_equal(from_memory(s, images, labels, good, 0), HEED_OK);
    assert_int_equal(from_memory(s, four, labels, good, 5), HEED_OK);
    assert_int_equal(from_memory(s, images, labels, good, 4), HEED_ERR_LIMIT);
    assert_int_equal(from_memory(s, images, labels, good, -1), HEED_ERR_LIMIT);
    assert_int_equal(from_memory(s, images, labels, negative, 0), HEED_ERR_LIMIT);
    assert_int_equal(from_memory(s, images, labels, huge, 0), HEED_ERR_LIMIT);
    assert_int_equal(from_memory(s, images, labels, most, 0), HEED_OK);
    assert_int_equal(from_memory(s, images, HEED_TYPE(HEED_I64, 2), good, 0), HEED_ERR_SHAPE);
    assert_int_equal(from_memory(s, images, HEED_TYPE(HEED_F64, 3), good, 0), HEED_ERR_DTYPE);
    assert_int_equal(from_memory(s, HEED_TYPE(HEED_BOOL, 3, 2, 2), labels, good, 0), HEED_ERR_DTYPE);
    assert_int_equal(from_memory(s, HEED_TYPE(HEED_U8, 3, 4), labels, good, 0), HEED_ERR_SHAPE);
    assert_int_equal(from_memory(s, HEED_TYPE(HEED_U8, 3, -2, 2), labels, good, 0), HEED_ERR_SHAPE);
    assert_int_equal(from_memory(s, HEED_TYPE(HEED_U8, 0, 2, 2), HEED_TYPE(HEED_I64, 0), good, 0), HEED_OK);
}

static void moments_are_those_of_pixels_over_255(void **state)
{
    scratch *s = *state;
    const uint8_t pixels[] = { 0, 255, 51, 51, /* second picture */ 255, 255, 102, 204 };
    const int64_t labels[] = { 0, 1 }, second[] = { 1 };
    heed_dataset *d;
    double mean[2], std[2];

    assert_int_equal(
        heed_dataset_from_memory(&d, s->ctx, (heed_tensor){ HEED_TYPE(HEED_U8, 2, 2, 1, 2), (void *)pixels },
                                 (heed_tensor){ HEED_TYPE(HEED_I64, 2), (void *)labels }, 0, NULL),
        HEED_OK);
    heed_dataset_moments(d, NULL, 0, mean, std);
    assert_true(fabs(mean[0] - 0.75) < 1e-15 && fabs(std[0] - sqrt(0.1875)) < 1e-15);
    assert_true(fabs(mean[1] - 0.4) < 1e-15 && fabs(std[1] - sqrt((0.04 + 0.04 + 0 + 0.16) / 4)) < 1e-15);
    heed_dataset_moments(d, second, 1, mean, std);
    assert_true(mean[0] == 1 && std[0] == 0);
    heed_dataset_moments(d, second, 0, mean, std);
    assert_true(mean[0] == 0 && std[0] == 0);
    heed_dataset_free(d);
}

/* SHA-256 of one byte b, mod 10000 (by another program): 0 -> 8157, 1 -> 2602, 2 -> 7206. */
static void a_split_follows_the_sha_256_of_the_picture(void **state)
{
    scratch *s = *state;
    const uint8_t pixels[] = { 0, 1, 2, 1 };
    const int64_t labels[] = { 0, 0, 0, 1 };
    int64_t train[4], held[4], n_train, n_held;
    heed_dataset *d;

    assert_int_equal(
        heed_dataset_from_memory(&d, s->ctx, (heed_tensor){ HEED_TYPE(HEED_U8, 4, 1, 1), (void *)pixels },
                                 (heed_tensor){ HEED_TYPE(HEED_I64, 4), (void *)labels }, 0, NULL),
        HEED_OK);
    assert_int_equal(heed_dataset_split(d, 0.26, train, &n_train, held, &n_held, NULL), HEED_OK);
    assert_int_equal(n_train, 4);
    assert_int_equal(n_held, 0);
    assert_int_equal(heed_dataset_split(d, 0.2603, train, &n_train, held, &n_held, NULL), HEED_OK);
    assert_int_equal(n_held, 2); /* the same picture twice, with two labels */
    assert_int_equal(held[0], 1);
    assert_int_equal(held[1], 3);
    assert_int_equal(train[0], 0);
    assert_int_equal(train[1], 2);
    assert_int_equal(heed_dataset_split(d, 1, train, &n_train, held, &n_held, NULL), HEED_OK);
    assert_int_equal(n_held, 4);
    assert_int_equal(heed_dataset_split(d, 0, train, &n_train, held, &n_held, NULL), HEED_OK);
    assert_int_equal(n_held, 0);
    assert_int_equal(heed_dataset_split(d, 1.1, train, &n_train, held, &n_held, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_dataset_split(d, -0.1, train, &n_train, held, &n_held, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_dataset_split(d, NAN, train, &n_train, held, &n_held, NULL), HEED_ERR_LIMIT);
    heed_dataset_free(d);
}

/* ---- every call fails in turn ---- */

static heed_status open_run(heed_context *ctx, void *user, heed_error *err)
{
    heed_dataset *d;

    TRY(heed_dataset_open_idx(&d, ctx, user, "train", err));
    heed_dataset_free(d);
    return HEED_OK;
}

static bool open_right(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    (void)st;
    return true; /* nothing is written; a close that fails after reading harms nothing */
}

static void survives(scratch *s, const char *ending)
{
    const heed_scenario scenario = { ending[0] ? "dataset_open_gzip" : "dataset_open", open_run, NULL,
                                     open_right };
    heed_fail_report report;

    put_set(s, ending);
    assert_true(heed_fail_each(&scenario, s->folder, &report));
    assert_true(report.calls >= 9);
    assert_true(heed_fail_each_file(&scenario, s->folder, &report));
    assert_true(report.calls >= 10);
}

static void opening_survives_each_failing_call(void **state)
{
    survives(*state, "");
}

static void opening_gzip_survives_each_failing_call(void **state)
{
#ifdef HEED_HAVE_GZIP
    survives(*state, ".gz");
#else
    (void)state;
    skip();
#endif
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_rule_has_files_that_end_with_its_code),
        TEST(without_zlib_a_gzip_file_names_the_package),
        TEST(a_range_takes_those_records_of_a_plain_file),
        TEST(a_range_takes_those_records_of_a_gzip_file),
        TEST(a_range_that_is_not_there_is_refused),
        TEST(a_file_over_the_limit_is_refused),
        TEST(a_folder_of_plain_idx_files_is_a_data_set),
        TEST(a_folder_of_gzip_idx_files_is_the_same_data_set),
        TEST(a_data_set_that_does_not_fit_together_is_refused),
        TEST(a_data_set_from_memory_has_valid_labels),
        TEST(moments_are_those_of_pixels_over_255),
        TEST(a_split_follows_the_sha_256_of_the_picture),
        TEST(opening_survives_each_failing_call),
        TEST(opening_gzip_survives_each_failing_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
