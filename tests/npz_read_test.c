/* NPY and NPZ, reading: what heed and NumPy write comes back, headers that break a rule are refused by that rule, and damage of
 * any byte is refused or harmless. */
#include "formats/npz.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include "support/toy.h"
#include <heed/formats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- headers ---- */

/* A file of version 1 with this dictionary and `bytes` of data. */
static size_t file_of(uint8_t to[1024], const char *dictionary, size_t bytes)
{
    const size_t n = strlen(dictionary);

    memcpy(to, "\x93NUMPY\x01\x00", 8);
    to[8] = (uint8_t)n;
    to[9] = (uint8_t)(n >> 8);
    memcpy(to + 10, dictionary, n);
    memset(to + 10 + n, 1, bytes);
    return 10 + n + bytes;
}

static void a_header_is_a_dictionary_of_three_keys_in_any_order(void **state)
{
    static const struct {
        const char *dictionary;
        heed_dtype dtype;
        int rank;
        int64_t count;
    } good[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }        \n", HEED_F32, 2, 6 },
        { "{'shape': (), 'fortran_order': False, 'descr': '<f8'}", HEED_F64, 0, 1 },
        { "{\"descr\":\"|u1\",\"fortran_order\":False,\"shape\":(5,)}", HEED_U8, 1, 5 },
        { "{ 'descr' : '|b1' ,'shape':( 1 , 0 ),'fortran_order' :False , }", HEED_BOOL, 2, 0 },
        { "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 2), }", HEED_F16, 8, 2 },
        { "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", HEED_I64, 1, 2 },
        { "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}\n", HEED_I32, 1, 2 },
    };
    const scratch *s = *state;
    uint8_t file[1024];
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const size_t n =
            file_of(file, good[i].dictionary, (size_t)good[i].count * heed_dtype_size(good[i].dtype));
        cursor c = heed__cursor(file, n);
        heed_tensor t;

        TOY_OK(heed__npy_read(&t, &a, &c, "good.npy", TOY_ERR));
        assert_int_equal(t.type.dtype, good[i].dtype);
        assert_int_equal(t.type.rank, good[i].rank);
        assert_int_equal(heed_type_count(&t.type), good[i].count);
        assert_memory_equal(t.data, file + n - (size_t)good[i].count * heed_dtype_size(good[i].dtype),
                            (size_t)good[i].count * heed_dtype_size(good[i].dtype));
    }
    heed__arena_release(&a);
}

static void a_header_that_breaks_a_rule_is_refused_by_it(void **state)
{
#define REST "'fortran_order': False, 'shape': (1,)"
    static const struct {
        const char *dictionary;
        heed_status code;
        const char *says;
    } bad[] = {
        { "", HEED_ERR_FORMAT, "no dictionary" },
        { "[1]", HEED_ERR_FORMAT, "no dictionary" },
        { "{", HEED_ERR_FORMAT, "no dictionary of strings" },
        { "{}", HEED_ERR_FORMAT, "has descr, fortran_order and shape" },
        { "{'descr': '<f4', 'fortran_order': False}", HEED_ERR_FORMAT, "has descr, fortran_order and shape" },
        { "{'descr': '<f4', " REST "} x", HEED_ERR_FORMAT, "and nothing else" },
        { "{'descr': '<f4', " REST, HEED_ERR_FORMAT, "does not end" },
        { "{'descr': '<f4', " REST ", 'x': 1}", HEED_ERR_FORMAT, "a key that is none of NPY" },
        { "{'descr': '<f4', 'descr': '<f4', " REST "}", HEED_ERR_FORMAT, "a key twice" },
        { "{'descr: '<f4', " REST "}", HEED_ERR_FORMAT, "no dictionary of strings" },
        { "{'descr", HEED_ERR_FORMAT, "a string that does not end" },
        { "{'descr': '>f4', " REST "}", HEED_ERR_DTYPE, "heed reads arrays of" },
        { "{'descr': '|O', " REST "}", HEED_ERR_DTYPE, "heed reads arrays of" },
        { "{'descr': [('a', '<f4')], " REST "}", HEED_ERR_DTYPE, "heed reads arrays of" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", HEED_ERR_FORMAT, "Fortran's order" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", HEED_ERR_FORMAT, "neither True nor False" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': 1}", HEED_ERR_FORMAT, "no tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", HEED_ERR_FORMAT, "no tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", HEED_ERR_FORMAT, "no number" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,)}", HEED_ERR_FORMAT, "no number" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", HEED_ERR_LIMIT,
          "too large" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 3)}", HEED_ERR_LIMIT,
          "too large together" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", HEED_ERR_LIMIT,
          "more than 8" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", HEED_ERR_FORMAT,
          "not as many as the shape says" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", HEED_ERR_FORMAT,
          "not as many as the shape says" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", HEED_ERR_FORMAT,
          "not as many as the shape says" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", HEED_ERR_FORMAT,
          "not as many" },
    };
#undef REST
    const scratch *s = *state;
    uint8_t file[1024];
    heed_tensor t;
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cursor c = heed__cursor(file, file_of(file, bad[i].dictionary, 4));
        heed_error err = { 0 };

        if (heed__npy_read(&t, &a, &c, "bad.npy", &err) != bad[i].code || !strstr(err.text, bad[i].says))
            fail_msg("%s: %d, \"%s\"", bad[i].dictionary, (int)err.code, err.text);
    }
    heed__arena_release(&a);
}

static void every_part_of_a_file_is_refused(void **state)
{
    const scratch *s = *state;
    uint8_t file[1024];
    const size_t n = file_of(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24);
    heed_tensor t;
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    for (size_t size = 0; size < n; size++) {
        uint8_t *part = malloc(size + 1); /* of its own, so that reading behind it is seen */
        cursor c;

        memcpy(part, file, size);
        c = heed__cursor(part, size);
        assert_int_equal(heed__npy_read(&t, &a, &c, "part.npy", NULL), HEED_ERR_FORMAT);
        free(part);
    }
    for (int version = 0; version < 256; version++) {
        cursor c = heed__cursor(file, n);

        file[6] = (uint8_t)version;
        assert_int_equal(heed__npy_read(&t, &a, &c, "part.npy", NULL) == HEED_OK, version == 1);
    }
    heed__arena_release(&a);
}

/* ---- archives ---- */

static heed_status read_one(heed_tensor *out, scratch *s, arena *a, const char *file, const char *name,
                            heed_error *err)
{
    return heed__npz_read(out, s->ctx, a, scratch_path(s, file), (const char *const[]){ name, NULL }, err);
}

#ifdef HEED_HAVE_NPZ

static const float six[6] = { 1, -2, 3.5f, 0, 1e-30f, 6 };
static const uint8_t truth[3] = { 1, 0, 1 };

static void put_two(heed_context *ctx, const char *path)
{
    const heed_named_tensor list[] = { { "block.0", { HEED_TYPE(HEED_F32, 2, 3), (void *)(uintptr_t)six } },
                                       { "kept", { HEED_TYPE(HEED_BOOL, 3), (void *)(uintptr_t)truth } } };

    TOY_OK(heed_npz_write(ctx, path, list, 2, TOY_ERR));
}

static void what_was_written_comes_back(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };
    heed_tensor t;
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    put_two(s->ctx, scratch_path(s, "two.npz"));
    TOY_OK(read_one(&t, s, &a, "two.npz", "block.0", TOY_ERR));
    assert_int_equal(t.type.rank, 2);
    assert_memory_equal(t.data, six, sizeof six);
    TOY_OK(heed__npz_read(&t, s->ctx, &a, scratch_path(s, "two.npz"),
                          (const char *const[]){ "no", "kept", NULL }, TOY_ERR));
    assert_int_equal(t.type.dtype, HEED_BOOL);
    assert_memory_equal(t.data, truth, sizeof truth);
    assert_int_equal(read_one(&t, s, &a, "two.npz", "block", &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "has no array \"block\": it has block.0, kept"));
    err = (heed_error){ 0 };
    assert_int_equal(read_one(&t, s, &a, "none.npz", "block", &err), HEED_ERR_IO);
    heed__arena_release(&a);
}

/* A damaged archive is refused with a sentence, or what comes is what was written: the zip's CRC guards the data. */
static void damage_of_any_byte_is_refused_or_harmless(void **state)
{
    scratch *s = *state;
    size_t n;
    uint8_t *bytes;

    put_two(s->ctx, scratch_path(s, "two.npz"));
    bytes = scratch_get(scratch_path(s, "two.npz"), &n);
    for (size_t i = 0; i < n; i++) {
        heed_error err = { 0 };
        heed_tensor t = { 0 };
        heed_status st;
        arena a;

        heed__arena_init(&a, s->ctx->heap);
        bytes[i] ^= 0x55;
        scratch_put(scratch_path(s, "bad.npz"), bytes, n);
        bytes[i] ^= 0x55;
        st = read_one(&t, s, &a, "bad.npz", "block.0", &err);
        assert_true(st != HEED_OK || memcmp(t.data, six, sizeof six) == 0);
        assert_int_equal(st == HEED_OK, err.text[0] == 0);
        scratch_put(scratch_path(s, "bad.npz"), bytes, i);
        assert_int_not_equal(read_one(&t, s, &a, "bad.npz", "block.0", NULL), HEED_OK);
        heed__arena_release(&a);
    }
    free(bytes);
}

static void what_numpy_writes_is_read(void **state)
{
    static const char script[] =
        "import numpy, sys\n"
        "x = numpy.arange(40000, dtype='f4').reshape(1, 2, 200, 100)\n"
        "numpy.savez(sys.argv[1] + '/plain.npz', **{'a.b': x})\n"
        "numpy.savez_compressed(sys.argv[1] + '/small.npz', **{'a.b': x})\n"
        "numpy.savez(sys.argv[1] + '/turned.npz', **{'a.b': numpy.asfortranarray(x)})\n";
    static const char *const files[] = { "plain.npz", "small.npz" };
    scratch *s = *state;
    const char *python = getenv("HEED_PYTHON") ? getenv("HEED_PYTHON") : "python3";
    char command[1024];
    heed_error err = { 0 };
    heed_tensor t;
    arena a;

    snprintf(command, sizeof command, "'%s' -c 'import numpy' 2>/dev/null", python);
    if (system(command) != 0) {
        print_message("python3 with numpy is not here: nothing of NumPy is read\n");
        skip();
    }
    scratch_put(scratch_path(s, "write.py"), script, sizeof script - 1);
    snprintf(command, sizeof command, "'%s' '%s' '%s'", python, scratch_path(s, "write.py"), s->folder);
    assert_int_equal(system(command), 0);
    heed__arena_init(&a, s->ctx->heap);
    for (int i = 0; i < 2; i++) {
        TOY_OK(read_one(&t, s, &a, files[i], "a.b", TOY_ERR));
        assert_int_equal(heed_type_count(&t.type), 40000);
        for (int k = 0; k < 40000; k++)
            assert_true(((float *)t.data)[k] == (float)k);
    }
    assert_int_equal(read_one(&t, s, &a, "turned.npz", "a.b", &err), HEED_ERR_FORMAT);
    assert_non_null(strstr(err.text, "Fortran"));
    heed__arena_release(&a);
}

static heed_status take_scenario(heed_context *ctx, void *user, heed_error *err)
{
    char words[300];
    heed_edits *e = NULL;
    heed_status st;

    snprintf(words, sizeof words, "block.0.weights:head=0:take=%s", (const char *)user);
    st = heed_edits_open(&e, ctx, (const char *const[]){ "a:zero", words, NULL }, err);
    heed_edits_close(e);
    return st;
}

/* Nothing is written, and a file that was read may be closed badly. */
static bool harmless(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    (void)st;
    return true;
}

static void every_call_may_fail(void **state)
{
    scratch *s = *state;
    char path[160];
    const heed_scenario take = { .name = "edits that take", .run = take_scenario, .right = harmless };
    heed_fail_report report;

    snprintf(path, sizeof path, "%s", scratch_path(s, "two.npz"));
    put_two(s->ctx, path);
    assert_true(heed_fail_each(&take, path, &report));
    assert_true(report.calls > 4);
    assert_true(heed_fail_each_file(&take, path, &report));
}

#else

static void without_libzip_the_package_is_named(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };
    heed_tensor t;
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    assert_int_equal(read_one(&t, s, &a, "a.npz", "x", &err), HEED_ERR_MISSING);
    assert_non_null(strstr(err.text, "apt install libzip-dev"));
    heed__arena_release(&a);
}

#endif

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_header_is_a_dictionary_of_three_keys_in_any_order),
        UNIT(a_header_that_breaks_a_rule_is_refused_by_it),
        UNIT(every_part_of_a_file_is_refused),
#ifdef HEED_HAVE_NPZ
        UNIT(what_was_written_comes_back),
        UNIT(damage_of_any_byte_is_refused_or_harmless),
        UNIT(what_numpy_writes_is_read),
        UNIT(every_call_may_fail),
#else
        UNIT(without_libzip_the_package_is_named),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
