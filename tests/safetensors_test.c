/* safetensors: the corpus, the limits, files of the reference, and every call made to fail. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/corpus.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/formats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const golden[] = { "random_3", "random_7", "random_10", "random_20", "random_33" };

static void golden_path(char path[256], const char *name)
{
    snprintf(path, 256, "%s/tests/golden/safetensors/%s.safetensors", HEED_SOURCE_DIR, name);
}

/* A header and data as one file in memory. */
static uint8_t *make(const char *header, const void *data, size_t n, size_t *size)
{
    const size_t length = strlen(header);
    uint8_t *bytes = calloc(1, 8 + length + n);

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, data, n);
    *size = 8 + length + n;
    return bytes;
}

static heed_safetensors *open_header(heed_context *ctx, const char *header, uint8_t **bytes)
{
    heed_safetensors *f;
    heed_error err = { 0 };
    size_t size;

    *bytes = make(header, "", 0, &size);
    if (heed_safetensors_open_memory(&f, ctx, *bytes, size, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return f;
}

/* Every tensor of an open file. */
static heed_status read_each(heed_context *ctx, heed_safetensors *f, heed_error *err)
{
    heed_status st = HEED_OK;

    for (int64_t i = 0; i < heed_safetensors_count(f) && st == HEED_OK; i++) {
        const heed_type type = heed_safetensors_type(f, i);
        const bool known = type.dtype != HEED_DTYPES;
        void *to = known ? heed__alloc(ctx->heap, (size_t)heed_type_count(&type), heed_dtype_size(type.dtype))
                         : NULL;

        st = known && !to ? heed__fail_memory(err, 0) : heed_safetensors_read(f, i, to, err);
        heed__release(ctx->heap, to);
    }
    return st;
}

static heed_status read_path(heed_context *ctx, const char *path, heed_error *err)
{
    heed_safetensors *f;
    heed_status st;

    TRY(heed_safetensors_open(&f, ctx, path, err));
    st = read_each(ctx, f, err);
    heed_safetensors_close(f);
    return st;
}

static heed_status read_memory(heed_context *ctx, const char *path, heed_error *err)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n), *exact = malloc(n ? n : 1);
    heed_safetensors *f;
    heed_status st;

    memcpy(exact, bytes, n); /* no byte more, so that overruns are seen */
    free(bytes);
    st = heed_safetensors_open_memory(&f, ctx, exact, n, err);
    if (st == HEED_OK) {
        st = read_each(ctx, f, err);
        heed_safetensors_close(f);
    }
    free(exact);
    return st;
}

/* Writes what a file holds, in an order that is not the file's. */
static heed_status rewrite(heed_context *ctx, const char *from, const char *to, heed_error *err)
{
    heed_named_tensor *list = NULL;
    heed_safetensors *f;
    heed_status st;
    int64_t n;

    TRY(heed_safetensors_open(&f, ctx, from, err));
    n = heed_safetensors_count(f);
    list = heed__alloc(ctx->heap, (size_t)n, sizeof *list);
    if (!list) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        heed_named_tensor *x = &list[n - 1 - i];

        x->name = heed_safetensors_name(f, i);
        x->tensor.type = heed_safetensors_type(f, i);
        x->tensor.data = heed__alloc(ctx->heap, (size_t)heed_type_count(&x->tensor.type),
                                     heed_dtype_size(x->tensor.type.dtype));
        if (!x->tensor.data) {
            st = heed__fail_memory(err, 0);
            goto done;
        }
        STEP(heed_safetensors_read(f, i, x->tensor.data, err));
    }
    STEP(heed_safetensors_write(ctx, to, list, n, NULL, 0, err));
done:
    for (int64_t i = 0; list && i < n; i++)
        heed__release(ctx->heap, list[i].tensor.data);
    heed__release(ctx->heap, list);
    heed_safetensors_close(f);
    return st;
}

/* ---- the corpus ---- */

static void each_rule_has_files_that_end_with_its_code(void **state)
{
    scratch *s = *state;
    int files;

    assert_int_equal(corpus_replay(s->ctx, "safetensors", ".safetensors", read_path, &files), 0);
    assert_true(files >= 150);
}

static void memory_and_file_end_with_the_same_code(void **state)
{
    scratch *s = *state;
    int files;

    assert_int_equal(corpus_replay(s->ctx, "safetensors", ".safetensors", read_memory, &files), 0);
}

/* ---- the reference ---- */

static void files_of_the_reference_are_written_byte_for_byte(void **state)
{
    scratch *s = *state;
    const char *out = scratch_path(s, "out.safetensors"), *again = scratch_path(s, "again.safetensors");

    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        char path[256];

        golden_path(path, golden[i]);
        assert_int_equal(rewrite(s->ctx, path, out, NULL), HEED_OK);
        assert_true(scratch_same(path, out));
        assert_int_equal(rewrite(s->ctx, out, again, NULL), HEED_OK);
        assert_true(scratch_same(out, again));
    }
}

static void the_smallest_file_has_the_format_key(void **state)
{
    static const char expected[] = "\x20\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}}";
    scratch *s = *state;
    const char *path = scratch_path(s, "empty.safetensors");
    uint8_t *bytes;
    size_t n;

    assert_int_equal(heed_safetensors_write(s->ctx, path, NULL, 0, NULL, 0, NULL), HEED_OK);
    bytes = scratch_get(path, &n);
    assert_int_equal(n, sizeof expected - 1);
    assert_memory_equal(bytes, expected, n);
    free(bytes);
}

static void metadata_follows_the_format_key_in_the_order_given(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "meta.safetensors"), *value;
    const heed_pair pairs[] = { { "z", "\"1\"\n" }, { "a", "\xc3\xa9" } };
    heed_safetensors *f;

    assert_int_equal(heed_safetensors_write(s->ctx, path, NULL, 0, pairs, 2, NULL), HEED_OK);
    assert_int_equal(heed_safetensors_open(&f, s->ctx, path, NULL), HEED_OK);
    assert_int_equal(heed_safetensors_metadata(f), 3);
    assert_string_equal(heed_safetensors_key(f, 0, &value), "format");
    assert_string_equal(value, "pt");
    assert_string_equal(heed_safetensors_key(f, 1, &value), "z");
    assert_string_equal(value, "\"1\"\n");
    assert_string_equal(heed_safetensors_key(f, 2, &value), "a");
    assert_string_equal(value, "\xc3\xa9");
    assert_null(heed_safetensors_key(f, 3, &value));
    assert_null(heed_safetensors_key(f, -1, NULL));
    heed_safetensors_close(f);
}

/* ---- what a file says of itself ---- */

static void tensors_stand_in_the_order_of_their_data(void **state)
{
    scratch *s = *state;
    const char *header = "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
                         "\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1],\"data_offsets\":[0,1]}}";
    heed_safetensors *f;
    heed_error err = { 0 };
    heed_type type;
    uint8_t two[2];
    size_t size;
    uint8_t *bytes = make(header, "xyz", 3, &size);

    assert_int_equal(heed_safetensors_open_memory(&f, s->ctx, bytes, size, NULL), HEED_OK);
    assert_int_equal(heed_safetensors_count(f), 2);
    assert_string_equal(heed_safetensors_name(f, 0), "a");
    assert_string_equal(heed_safetensors_dtype(f, 0), "F8_E4M3");
    type = heed_safetensors_type(f, 0);
    assert_int_equal(type.dtype, HEED_DTYPES);
    assert_int_equal(type.rank, 2);
    assert_int_equal(heed_safetensors_read(f, 0, two, &err), HEED_ERR_DTYPE);
    assert_non_null(strstr(err.text, "F8_E4M3"));
    assert_int_equal(heed_safetensors_find(f, "b"), 1);
    assert_int_equal(heed_safetensors_find(f, "c"), -1);
    assert_int_equal(heed_safetensors_find(f, ""), -1);
    assert_int_equal(heed_safetensors_read(f, 1, two, NULL), HEED_OK);
    assert_memory_equal(two, "yz", 2);
    assert_int_equal(heed_safetensors_read(f, 2, two, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_safetensors_read(f, -1, two, NULL), HEED_ERR_USAGE);
    assert_null(heed_safetensors_name(f, 2));
    assert_null(heed_safetensors_dtype(f, -1));
    assert_int_equal(heed_safetensors_type(f, 2).rank, -1);
    heed_safetensors_close(f);
    heed_safetensors_close(NULL);
    free(bytes);
}

static void names_are_decoded(void **state)
{
    scratch *s = *state;
    uint8_t *bytes;
    heed_safetensors *f = open_header(
        s->ctx,
        "{\"\\u00e9\\ud83d\\ude00\\\"\\/\\u6f22\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
        &bytes);

    assert_string_equal(heed_safetensors_name(f, 0), "\xc3\xa9\xf0\x9f\x98\x80\"/\xe6\xbc\xa2");
    heed_safetensors_close(f);
    free(bytes);
}

static void an_error_names_file_offset_tensor_and_rule(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "bad.safetensors");
    heed_safetensors *f;
    heed_error err = { 0 };
    size_t size;
    uint8_t *bytes =
        make("{\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "", 0, &size);

    scratch_put(path, bytes, size);
    free(bytes);
    assert_int_equal(heed_safetensors_open(&f, s->ctx, path, &err), HEED_ERR_FORMAT);
    assert_string_equal(err.path, path);
    assert_string_equal(err.text, "at byte 69, tensor \"fc.weight\": data_offsets end before they begin");
}

static void what_is_no_file_is_an_io_error(void **state)
{
    scratch *s = *state;
    heed_safetensors *f;

    assert_int_equal(heed_safetensors_open(&f, s->ctx, scratch_path(s, "nothing"), NULL), HEED_ERR_IO);
    assert_int_equal(heed_safetensors_open(&f, s->ctx, s->folder, NULL), HEED_ERR_IO);
}

static void a_file_that_shrinks_while_open_is_an_io_error(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "w.safetensors");
    uint8_t numbers[64] = { 0 };
    const heed_named_tensor x = { "x", { HEED_TYPE(HEED_U8, 64), numbers } };
    heed_safetensors *f;
    heed_error err = { 0 };
    size_t n;
    uint8_t *bytes;

    assert_int_equal(heed_safetensors_write(s->ctx, path, &x, 1, NULL, 0, NULL), HEED_OK);
    bytes = scratch_get(path, &n);
    free(bytes);
    assert_int_equal(heed_safetensors_open(&f, s->ctx, path, NULL), HEED_OK);
    assert_int_equal(truncate(path, (off_t)n - 1), 0);
    assert_int_equal(heed_safetensors_read(f, 0, numbers, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "shorter"));
    heed_safetensors_close(f);
}

/* Each cut of a good file is refused: there is no prefix that is a file too. */
static void every_truncation_is_noticed(void **state)
{
    scratch *s = *state;

    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        char path[256];
        uint8_t *bytes;
        size_t n;

        golden_path(path, golden[i]);
        bytes = scratch_get(path, &n);
        for (size_t cut = 0; cut < n; cut++) {
            heed_safetensors *f;
            heed_error err = { 0 };

            assert_int_equal(heed_safetensors_open_memory(&f, s->ctx, bytes, cut, &err), HEED_ERR_FORMAT);
            assert_true(err.text[0] != 0);
        }
        free(bytes);
    }
}

/* ---- limits ---- */

static heed_context *limited(heed_limits limits)
{
    heed_context *ctx;

    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1, .limits = limits }, NULL),
                     HEED_OK);
    return ctx;
}

static heed_status open_status(heed_limits limits, const char *header)
{
    heed_context *ctx = limited(limits);
    heed_safetensors *f = NULL;
    size_t size;
    uint8_t *bytes = make(header, "", 0, &size);
    const heed_status st = heed_safetensors_open_memory(&f, ctx, bytes, size, NULL);

    heed_safetensors_close(f);
    heed_context_free(ctx);
    free(bytes);
    return st;
}

static void a_header_at_the_limit_is_read_and_one_byte_more_is_not(void **state)
{
    (void)state;
    assert_int_equal(open_status((heed_limits){ .safetensors_header_bytes = 16 }, "{}              "),
                     HEED_OK);
    assert_int_equal(open_status((heed_limits){ .safetensors_header_bytes = 15 }, "{}              "),
                     HEED_ERR_LIMIT);
}

static void the_default_limit_of_a_header_is_16_mib(void **state)
{
    const size_t most = (size_t)16 << 20;
    char *header = malloc(most + 2);

    (void)state;
    memset(header, ' ', most + 2);
    memcpy(header, "{}", 2);
    header[most] = '\0';
    assert_int_equal(open_status((heed_limits){ 0 }, header), HEED_OK);
    header[most] = ' ';
    header[most + 1] = '\0';
    assert_int_equal(open_status((heed_limits){ 0 }, header), HEED_ERR_LIMIT);
    free(header);
}

static void a_name_at_the_limit_is_read_and_one_byte_more_is_not(void **state)
{
    const char *header =
        "{\"\\u00e9abc\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"; /* 5 bytes decoded */

    (void)state;
    assert_int_equal(open_status((heed_limits){ .name_bytes = 5 }, header), HEED_OK);
    assert_int_equal(open_status((heed_limits){ .name_bytes = 4 }, header), HEED_ERR_LIMIT);
}

static void nesting_at_the_limit_is_skipped_and_one_level_more_is_not(void **state)
{
    const char *header = "{\"a\":{\"x\":[[[]]],\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";

    (void)state;
    assert_int_equal(open_status((heed_limits){ .nesting = 3 }, header), HEED_OK);
    assert_int_equal(open_status((heed_limits){ .nesting = 2 }, header), HEED_ERR_LIMIT);
}

/* 100,000 entries of one byte each: time and memory grow with the header, not with its square. */
static void a_crowded_header_is_read_in_memory_that_its_bytes_justify(void **state)
{
    const size_t n = 100000;
    char *header = malloc(n * 80), *at = header;
    uint8_t *bytes, *data = calloc(n, 1);
    heed_context *ctx = limited((heed_limits){ 0 });
    heed_safetensors *f;
    size_t size;

    (void)state;
    at += sprintf(at, "{");
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, "%s\"%zu\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                      i ? "," : "", i, n - 1 - i, n - i);
    sprintf(at, "}");
    bytes = make(header, data, n, &size);
    heed_context_peak_reset(ctx);
    assert_int_equal(heed_safetensors_open_memory(&f, ctx, bytes, size, NULL), HEED_OK);
    assert_true(heed_context_peak_bytes(ctx) < ((uint64_t)16 << 20) + 4 * size);
    assert_int_equal(heed_safetensors_find(f, "99999"), 0);
    assert_int_equal(heed_safetensors_find(f, "0"), n - 1);
    heed_safetensors_close(f);
    heed_context_free(ctx);
    free(bytes);
    free(data);
    free(header);
}

/* ---- what is not written ---- */

static heed_status write_status(scratch *s, const heed_named_tensor *list, int64_t n, const heed_pair *pairs,
                                int64_t n_pairs)
{
    const char *path = scratch_path(s, "refused.safetensors");
    heed_error err = { 0 };
    const heed_status st = heed_safetensors_write(s->ctx, path, list, n, pairs, n_pairs, &err);

    assert_int_equal(err.code, st);
    assert_int_equal(scratch_entries(s->folder), st == HEED_OK);
    if (st == HEED_OK)
        assert_int_equal(remove(path), 0);
    else
        assert_true(err.text[0] != 0);
    return st;
}

static void what_could_not_be_read_back_is_not_written(void **state)
{
    scratch *s = *state;
    float one = 1;
    char long_name[514];
    const heed_tensor x = { HEED_TYPE(HEED_F32, 1), &one };
    const heed_tensor no_data = { HEED_TYPE(HEED_F32, 1), NULL },
                      no_type = { HEED_TYPE(HEED_DTYPES, 1), &one };
    const heed_tensor negative = { HEED_TYPE(HEED_F32, -1), &one },
                      huge = { HEED_TYPE(HEED_F32, INT64_MAX), &one };
    const heed_tensor nothing = { HEED_TYPE(HEED_F32, 0), NULL };

    memset(long_name, 'n', sizeof long_name);
    long_name[512] = '\0';
    assert_int_equal(write_status(s, &(heed_named_tensor){ long_name, x }, 1, NULL, 0), HEED_OK);
    long_name[512] = 'n';
    long_name[513] = '\0';
    assert_int_equal(write_status(s, &(heed_named_tensor){ long_name, x }, 1, NULL, 0), HEED_ERR_LIMIT);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "x", nothing }, 1, NULL, 0), HEED_OK);
    assert_int_equal(write_status(s, &(heed_named_tensor){ NULL, x }, 1, NULL, 0), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "\xff", x }, 1, NULL, 0), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "__metadata__", x }, 1, NULL, 0), HEED_ERR_USAGE);
    assert_int_equal(
        write_status(s, (heed_named_tensor[]){ { "a", x }, { "b", x }, { "a", nothing } }, 3, NULL, 0),
        HEED_ERR_USAGE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "x", no_data }, 1, NULL, 0), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "x", no_type }, 1, NULL, 0), HEED_ERR_DTYPE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "x", negative }, 1, NULL, 0), HEED_ERR_SHAPE);
    assert_int_equal(write_status(s, &(heed_named_tensor){ "x", huge }, 1, NULL, 0), HEED_ERR_SHAPE);
    assert_int_equal(write_status(s, NULL, -1, NULL, 0), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, NULL, 0, NULL, -1), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, NULL, 0, &(heed_pair){ "a", "\xff" }, 1), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, NULL, 0, &(heed_pair){ NULL, "" }, 1), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, NULL, 0, &(heed_pair){ "format", "tf" }, 1), HEED_ERR_USAGE);
    assert_int_equal(write_status(s, NULL, 0, (heed_pair[]){ { "a", "" }, { "a", "b" } }, 2), HEED_ERR_USAGE);
}

static void a_header_over_the_limit_is_not_written(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "w.safetensors");
    heed_context *ctx = limited((heed_limits){ .safetensors_header_bytes = 32 });
    const heed_pair pair = { "a", "b" };

    assert_int_equal(heed_safetensors_write(ctx, path, NULL, 0, NULL, 0, NULL), HEED_OK); /* 32 bytes */
    assert_int_equal(heed_safetensors_write(ctx, path, NULL, 0, &pair, 1, NULL), HEED_ERR_LIMIT);
    heed_context_free(ctx);
}

/* ---- every call fails in turn ---- */

typedef struct trial {
    char folder[64], path[256], good[256];
} trial;

static trial make_trial(const scratch *s)
{
    trial t;

    snprintf(t.folder, sizeof t.folder, "%.60s", s->folder);
    snprintf(t.path, sizeof t.path, "%.60s/out.safetensors", s->folder);
    golden_path(t.good, golden[0]);
    return t;
}

static heed_status rewrite_run(heed_context *ctx, void *user, heed_error *err)
{
    const trial *t = user;

    return rewrite(ctx, t->good, t->path, err);
}

static void rewrite_prepare(heed_context *ctx, void *user)
{
    (void)ctx;
    scratch_put(((const trial *)user)->path, "old", 3);
}

static bool rewrite_right(heed_context *ctx, void *user, heed_status st)
{
    const trial *t = user;
    size_t n;
    uint8_t *now = scratch_get(t->path, &n);
    const bool is_old = n == 3 && memcmp(now, "old", 3) == 0, is_new = scratch_same(t->path, t->good);

    (void)ctx;
    free(now);
    return st == HEED_OK ? is_new : is_old || is_new;
}

static void reading_and_writing_survive_each_failing_call(void **state)
{
    trial t = make_trial(*state);
    const heed_scenario s = { "safetensors_rewrite", rewrite_run, rewrite_prepare, rewrite_right };
    heed_fail_report report;

    assert_true(heed_fail_each(&s, &t, &report));
    assert_true(report.calls > 15);
    assert_true(heed_fail_each_file(&s, &t, &report));
    assert_true(report.calls > 15);
}

static heed_status memory_run(heed_context *ctx, void *user, heed_error *err)
{
    return read_memory(ctx, ((const trial *)user)->good, err);
}

static void reading_from_memory_survives_each_failing_allocation(void **state)
{
    trial t = make_trial(*state);
    const heed_scenario s = { "safetensors_memory", memory_run, NULL, NULL };
    heed_fail_report report;

    assert_true(heed_fail_each(&s, &t, &report));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_rule_has_files_that_end_with_its_code),
        TEST(memory_and_file_end_with_the_same_code),
        TEST(files_of_the_reference_are_written_byte_for_byte),
        TEST(the_smallest_file_has_the_format_key),
        TEST(metadata_follows_the_format_key_in_the_order_given),
        TEST(tensors_stand_in_the_order_of_their_data),
        TEST(names_are_decoded),
        TEST(an_error_names_file_offset_tensor_and_rule),
        TEST(what_is_no_file_is_an_io_error),
        TEST(a_file_that_shrinks_while_open_is_an_io_error),
        TEST(every_truncation_is_noticed),
        TEST(a_header_at_the_limit_is_read_and_one_byte_more_is_not),
        TEST(the_default_limit_of_a_header_is_16_mib),
        TEST(a_name_at_the_limit_is_read_and_one_byte_more_is_not),
        TEST(nesting_at_the_limit_is_skipped_and_one_level_more_is_not),
        TEST(a_crowded_header_is_read_in_memory_that_its_bytes_justify),
        TEST(what_could_not_be_read_back_is_not_written),
        TEST(a_header_over_the_limit_is_not_written),
        TEST(reading_and_writing_survive_each_failing_call),
        TEST(reading_from_memory_survives_each_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
