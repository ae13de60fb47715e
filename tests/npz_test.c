/* NPY and NPZ: numpy.save's bytes, the zip archive entry by entry, what is refused, every call made to
 * fail, and what NumPy itself reads (HEED_PYTHON names a Python that has it). */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include "support/toy.h"
#include <heed/formats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Element i is i mod 7 (bool: mod 2), as tools/corpus/npy.py has it. */
typedef struct array {
    const char *name;
    heed_dtype dtype;
    int rank;
    int64_t dims[8];
} array;

static const array arrays[] = {
    { "f32_2x3", HEED_F32, 2, { 2, 3 } },
    { "f64_scalar", HEED_F64, 0, { 0 } },
    { "f16_5", HEED_F16, 1, { 5 } },
    { "bf16_as_f32_4", HEED_BF16, 1, { 4 } },
    { "i64_9", HEED_I64, 1, { 9 } },
    { "i32_0x4", HEED_I32, 2, { 0, 4 } },
    { "u8_rank8", HEED_U8, 8, { 1, 2, 1, 2, 1, 2, 1, 3 } },
    { "bool_3x1", HEED_BOOL, 2, { 3, 1 } },
};
#define ARRAYS ((int)(sizeof arrays / sizeof *arrays))

/* 0 .. 6 in f16 and bf16. */
static const uint16_t halves[7] = { 0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600 };
static const uint16_t brains[7] = { 0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0 };

typedef union numbers {
    float f32[24];
    double f64[24];
    uint16_t u16[24];
    int64_t i64[24];
    int32_t i32[24];
    uint8_t u8[24];
} numbers;

static heed_tensor fill(numbers *to, const array *a)
{
    const heed_tensor t = { heed_type_of(a->dtype, a->rank, a->dims), to };

    for (int64_t i = 0; i < heed_type_count(&t.type); i++)
        switch (a->dtype) {
        case HEED_F32:
            to->f32[i] = (float)(i % 7);
            break;
        case HEED_F64:
            to->f64[i] = (double)(i % 7);
            break;
        case HEED_F16:
            to->u16[i] = halves[i % 7];
            break;
        case HEED_BF16:
            to->u16[i] = brains[i % 7];
            break;
        case HEED_I64:
            to->i64[i] = i % 7;
            break;
        case HEED_I32:
            to->i32[i] = (int32_t)(i % 7);
            break;
        case HEED_BOOL:
            to->u8[i] = (uint8_t)(i % 2);
            break;
        default:
            to->u8[i] = (uint8_t)(i % 7);
        }
    return t;
}

static uint8_t *golden(const array *a, size_t *n)
{
    char path[256];

    snprintf(path, sizeof path, "%s/tests/golden/npy/%s.npy", HEED_SOURCE_DIR, a->name);
    return scratch_get(path, n);
}

static void a_file_is_what_numpy_saves_byte_for_byte(void **state)
{
    scratch *s = *state;

    for (int i = 0; i < ARRAYS; i++) {
        const char *path = scratch_path(s, "a.npy");
        numbers data;
        size_t n, wanted_n;
        uint8_t *bytes, *wanted = golden(&arrays[i], &wanted_n);

        TOY_OK(heed_npy_write(s->ctx, path, fill(&data, &arrays[i]), TOY_ERR));
        bytes = scratch_get(path, &n);
        assert_int_equal(n, wanted_n);
        assert_memory_equal(bytes, wanted, n);
        free(bytes);
        free(wanted);
    }
}

static void the_largest_header_has_room(void **state)
{
    uint8_t header[HEED_NPY_HEADER_MOST];
    const heed_type wide = HEED_TYPE(HEED_F32, 1000000000, 1000000000, 1, 1, 1, 1, 1, 0);
    const heed_type tall = HEED_TYPE(HEED_F32, INT64_MAX);
    size_t size;

    (void)state;
    TOY_OK(heed_npy_header(header, &size, &wide, TOY_ERR));
    assert_true(size % 64 == 0 && size < sizeof header && header[size - 1] == '\n');
    TOY_OK(heed_npy_header(header, &size, &tall, TOY_ERR));
    assert_int_equal(size, 128);
    assert_int_equal(heed_npy_header(header, &size, TYPE_AT(HEED_F32, -1), NULL), HEED_ERR_SHAPE);
    assert_int_equal(heed_npy_header(header, &size, TYPE_AT(HEED_DTYPES, 1), NULL), HEED_ERR_DTYPE);
}

/* ---- the archive ---- */

static uint64_t little(const uint8_t *at, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* All arrays, their names in the archive as given or numbered. */
static void write_all(scratch *s, const char *path)
{
    heed_named_tensor list[ARRAYS];
    numbers data[ARRAYS];

    for (int i = 0; i < ARRAYS; i++)
        list[i] = (heed_named_tensor){ arrays[i].name, fill(&data[i], &arrays[i]) };
    TOY_OK(heed_npz_write(s->ctx, path, list, ARRAYS, TOY_ERR));
}

#ifdef HEED_HAVE_NPZ

static void an_archive_holds_each_file_stored_and_dated_1980(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "all.npz");
    size_t n;
    uint8_t *zip, *at;

    write_all(s, path);
    zip = scratch_get(path, &n);
    assert_true(n > 22);
    assert_memory_equal(zip + n - 22, "PK\5\6", 4); /* the end of the central directory, no comment */
    assert_int_equal(little(zip + n - 12, 2), ARRAYS);
    at = zip + little(zip + n - 6, 4);
    for (int i = 0; i < ARRAYS; i++) {
        size_t wanted_n, name = little(at + 28, 2);
        uint8_t *wanted = golden(&arrays[i], &wanted_n);
        const uint8_t *local = zip + little(at + 42, 4);
        char file[64];

        assert_memory_equal(at, "PK\1\2", 4);
        assert_int_equal(little(at + 10, 2), 0); /* stored */
        assert_int_equal(little(at + 12, 4), 0x21u << 16);
        assert_int_equal(little(at + 20, 4), wanted_n);
        assert_int_equal(little(at + 24, 4), wanted_n);
        snprintf(file, sizeof file, "%s.npy", arrays[i].name);
        assert_int_equal(name, strlen(file));
        assert_memory_equal(at + 46, file, name);
        assert_memory_equal(local, "PK\3\4", 4);
        assert_memory_equal(local + 30 + little(local + 26, 2) + little(local + 28, 2), wanted, wanted_n);
        at += 46 + name + little(at + 30, 2) + little(at + 32, 2);
        free(wanted);
    }
    free(zip);
}

static void the_same_tensors_give_the_same_bytes(void **state)
{
    scratch *s = *state;
    const char *a = scratch_path(s, "a.npz"), *b = scratch_path(s, "b.npz");

    write_all(s, a);
    write_all(s, b);
    assert_true(scratch_same(a, b));
}

static void a_large_array_comes_back_whole(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "large.npz");
    const int64_t count = 300000;
    float *x = malloc((size_t)count * sizeof *x);
    size_t n;
    uint8_t *zip;

    for (int64_t i = 0; i < count; i++)
        x[i] = (float)i;
    TOY_OK(heed_npz_write(
        s->ctx, path, &(heed_named_tensor){ "encoder.0/x", { HEED_TYPE(HEED_F32, count), x } }, 1, TOY_ERR));
    zip = scratch_get(path, &n);
    assert_memory_equal(zip + 30 + little(zip + 26, 2) + little(zip + 28, 2) + 128, x,
                        (size_t)count * sizeof *x);
    free(zip);
    free(x);
}

static void refuse(scratch *s, const heed_named_tensor *list, int64_t n, heed_status code, const char *says)
{
    heed_error err = { 0 };
    const char *path = scratch_path(s, "no.npz");

    assert_int_equal(heed_npz_write(s->ctx, path, list, n, &err), code);
    if (!strstr(err.text, says))
        fail_msg("\"%s\" does not say: %s", err.text, says);
    assert_string_equal(err.path, path);
    assert_int_equal(scratch_entries(s->folder), 0);
}

static void what_cannot_be_read_back_is_not_written(void **state)
{
    scratch *s = *state;
    float x[2] = { 1, 2 };
    const heed_tensor t = { HEED_TYPE(HEED_F32, 2), x };

    refuse(s, NULL, 0, HEED_ERR_USAGE, "1 to 65535 arrays");
    refuse(s, NULL, 65536, HEED_ERR_USAGE, "1 to 65535 arrays");
    refuse(s, &(heed_named_tensor){ "", t }, 1, HEED_ERR_USAGE, "cannot be the name");
    refuse(s, &(heed_named_tensor){ NULL, t }, 1, HEED_ERR_USAGE, "cannot be the name");
    refuse(s, &(heed_named_tensor){ "a\nb", t }, 1, HEED_ERR_USAGE, "\"a\\x0ab\" cannot be the name");
    refuse(s, &(heed_named_tensor){ "\xff", t }, 1, HEED_ERR_USAGE, "cannot be the name");
    refuse(s, (const heed_named_tensor[]){ { "a", t }, { "b", t }, { "a", t } }, 3, HEED_ERR_USAGE,
           "\"a\" was given twice");
    refuse(s, &(heed_named_tensor){ "x", { t.type, NULL } }, 1, HEED_ERR_USAGE, "tensor \"x\" has no data");
    refuse(s, &(heed_named_tensor){ "x", { HEED_TYPE(HEED_F32, -2), x } }, 1, HEED_ERR_SHAPE, "\"x\"");
    refuse(s, &(heed_named_tensor){ "x", { HEED_TYPE((heed_dtype)99, 2), x } }, 1, HEED_ERR_DTYPE, "\"x\"");
}

/* ---- faults ---- */

static heed_status write_two(heed_context *ctx, void *user, heed_error *err)
{
    const float x[3] = { 1, 2, 3 };
    const uint16_t half[2] = { 0x3f80, 0x4000 };

    return heed_npz_write(
        ctx, user,
        (const heed_named_tensor[]){ { "x", { HEED_TYPE(HEED_F32, 3), (void *)(uintptr_t)x } },
                                     { "half", { HEED_TYPE(HEED_BF16, 2), (void *)(uintptr_t)half } } },
        2, err);
}

static void put_old(heed_context *ctx, void *user)
{
    (void)ctx;
    scratch_put(user, "old", 3);
}

/* The old file, or all of the new one. */
static bool old_or_new(heed_context *ctx, void *user, heed_status st)
{
    size_t n;
    uint8_t *bytes = scratch_get(user, &n);
    const bool old = n == 3 && memcmp(bytes, "old", 3) == 0;
    const bool whole = n > 22 && memcmp(bytes + n - 22, "PK\5\6", 4) == 0;

    (void)ctx;
    free(bytes);
    return st == HEED_OK ? whole : old || whole;
}

static void every_call_may_fail(void **state)
{
    scratch *s = *state;
    char path[160];
    const heed_scenario archive = { "npz write", write_two, put_old, old_or_new };
    heed_fail_report report;

    snprintf(path, sizeof path, "%s", scratch_path(s, "two.npz"));
    assert_true(heed_fail_each(&archive, path, &report));
    assert_true(report.calls > 5);
    assert_true(heed_fail_each_file(&archive, path, &report));
    assert_true(report.calls > 5);
}

/* ---- NumPy ---- */

static void numpy_reads_what_was_written(void **state)
{
    static const char script[] =
        "import numpy, sys\n"
        "z = numpy.load(sys.argv[1])\n"
        "for name in z.files:\n"
        "    a, b = z[name], numpy.load(sys.argv[2] + '/' + name + '.npy')\n"
        "    assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), name\n"
        "assert len(z.files) == 8\n";
    scratch *s = *state;
    const char *python = getenv("HEED_PYTHON") ? getenv("HEED_PYTHON") : "python3";
    char command[1024], path[160];

    snprintf(command, sizeof command, "'%s' -c 'import numpy' 2>/dev/null", python);
    if (system(command) != 0) {
        print_message("python3 with numpy is not here: NumPy does not read the archive\n");
        skip();
    }
    snprintf(path, sizeof path, "%s", scratch_path(s, "all.npz"));
    write_all(s, path);
    scratch_put(scratch_path(s, "read.py"), script, sizeof script - 1);
    snprintf(command, sizeof command, "'%s' '%s' '%s' '%s/tests/golden/npy'", python,
             scratch_path(s, "read.py"), path, HEED_SOURCE_DIR);
    assert_int_equal(system(command), 0);
}

#else

static void without_libzip_the_package_is_named(void **state)
{
    scratch *s = *state;
    heed_error err = { 0 };
    float x = 1;

    (void)write_all;
    (void)little;
    assert_int_equal(heed_npz_write(s->ctx, scratch_path(s, "a.npz"),
                                    &(heed_named_tensor){ "x", { HEED_TYPE(HEED_F32, 1), &x } }, 1, &err),
                     HEED_ERR_MISSING);
    assert_non_null(strstr(err.text, "apt install libzip-dev"));
}

#endif

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_file_is_what_numpy_saves_byte_for_byte),
        UNIT(the_largest_header_has_room),
#ifdef HEED_HAVE_NPZ
        UNIT(an_archive_holds_each_file_stored_and_dated_1980),
        UNIT(the_same_tensors_give_the_same_bytes),
        UNIT(a_large_array_comes_back_whole),
        UNIT(what_cannot_be_read_back_is_not_written),
        UNIT(every_call_may_fail),
        UNIT(numpy_reads_what_was_written),
#else
        UNIT(without_libzip_the_package_is_named),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
