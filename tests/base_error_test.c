/* Errors, types, instruction levels and the context. */
#include "support/cmocka.h"
#include "base/context.h"
#include "base/error.h"
#include "base/limits.h"
#include "support/fail_each.h"
#include <heed/tensor.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void status_numbers_names_and_exit_codes_are_pinned(void **state)
{
    static const struct {
        heed_status status;
        int number, exit_code;
        const char *name;
    } pinned[] = {
        { HEED_OK, 0, 0, "HEED_OK" },
        { HEED_ERR_MEMORY, -1, 1, "HEED_ERR_MEMORY" },
        { HEED_ERR_USAGE, -2, 2, "HEED_ERR_USAGE" },
        { HEED_ERR_SHAPE, -3, 3, "HEED_ERR_SHAPE" },
        { HEED_ERR_DTYPE, -4, 3, "HEED_ERR_DTYPE" },
        { HEED_ERR_SPEC, -5, 3, "HEED_ERR_SPEC" },
        { HEED_ERR_FORMAT, -6, 3, "HEED_ERR_FORMAT" },
        { HEED_ERR_LIMIT, -7, 3, "HEED_ERR_LIMIT" },
        { HEED_ERR_IO, -8, 3, "HEED_ERR_IO" },
        { HEED_ERR_EXISTS, -9, 2, "HEED_ERR_EXISTS" },
        { HEED_ERR_MISSING, -10, 4, "HEED_ERR_MISSING" },
        { HEED_ERR_DEVICE, -11, 4, "HEED_ERR_DEVICE" },
        { HEED_ERR_NUMERIC, -12, 1, "HEED_ERR_NUMERIC" },
        { HEED_ERR_STOPPED, -13, 130, "HEED_ERR_STOPPED" },
        { HEED_ERR_BUG, -14, 1, "HEED_ERR_BUG" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        assert_int_equal(pinned[i].status, pinned[i].number);
        assert_string_equal(heed_status_name(pinned[i].status), pinned[i].name);
        assert_int_equal(heed_status_exit_code(pinned[i].status), pinned[i].exit_code);
    }
    assert_string_equal(heed_status_name((heed_status)1), "HEED_ERR_?");
    assert_string_equal(heed_status_name((heed_status)-15), "HEED_ERR_?");
    assert_int_equal(heed_status_exit_code((heed_status)-15), 1);
}

static void the_first_error_stays(void **state)
{
    heed_error err = { 0 };

    (void)state;
    assert_int_equal(heed__fail(&err, HEED_ERR_SHAPE, "%d rows", 3), HEED_ERR_SHAPE);
    assert_int_equal(heed__fail_at(&err, HEED_ERR_IO, "place", "later"), HEED_ERR_IO);
    assert_int_equal(err.code, HEED_ERR_SHAPE);
    assert_string_equal(err.text, "3 rows");
    assert_string_equal(err.path, "");
    assert_int_equal(heed__fail(NULL, HEED_ERR_BUG, "nobody listens"), HEED_ERR_BUG);
}

static void an_error_text_holds_no_control_characters(void **state)
{
    heed_error err = { 0 };

    (void)state;
    heed__fail_at(&err, HEED_ERR_FORMAT, "a\nb", "x\033[31m \xff \xc2\x9b \x7f caf\xc3\xa9");
    assert_string_equal(err.text, "x\\x1b[31m \\xff \\xc2\\x9b \\x7f caf\xc3\xa9");
    assert_string_equal(err.path, "a\\x0ab");
}

static void a_long_text_is_cut_and_a_long_path_loses_its_head(void **state)
{
    heed_error err = { 0 };
    char many[2000];

    (void)state;
    memset(many, 'a', sizeof many);
    memcpy(many + sizeof many - 6, "/tail", 6);
    for (size_t i = 0; i + 1 < 510; i += 2)
        memcpy(many + i, "\xc3\xa9", 2);
    heed__fail_at(&err, HEED_ERR_FORMAT, many, "x%s", many); /* 511 bytes would end in half a character */
    assert_int_equal(strlen(err.text), 511);
    memmove(err.text, err.text + 1, 510);
    assert_memory_equal(err.text, many, 510);
    assert_int_equal(strlen(err.path), sizeof err.path - 1);
    assert_memory_equal(err.path, "...aaa", 6);
    assert_string_equal(err.path + strlen(err.path) - 5, "/tail");
    err = (heed_error){ 0 };
    heed__fail(&err, HEED_ERR_FORMAT, "%s%s", "xx", many);
    assert_int_equal(strlen(err.text), 510);
}

static void shown_text_is_escaped_and_cut_at_64_bytes(void **state)
{
    char buffer[200], many[100];

    (void)state;
    assert_string_equal(heed__shown(buffer, "caf\xc3\xa9", 5), "caf\xc3\xa9");
    assert_string_equal(heed__shown(buffer, "a\0b\n", 4), "a\\x00b\\x0a");
    assert_string_equal(heed__shown(buffer, "", 0), "");
    memset(many, 'x', sizeof many);
    heed__shown(buffer, many, 64);
    assert_int_equal(strlen(buffer), 64);
    heed__shown(buffer, many, 65);
    assert_int_equal(strlen(buffer), 67);
    assert_string_equal(buffer + 61, "xxx...");
    memcpy(many + 63, "\xc3\xa9", 2); /* the cut does not part a character */
    heed__shown(buffer, many, sizeof many);
    assert_int_equal(strlen(buffer), 66);
    memset(many, 1, sizeof many);
    heed__shown(buffer, many, sizeof many); /* 64 escapes of 4 bytes do not fit: fewer are shown */
    assert_true(strlen(buffer) < 200);
    assert_string_equal(buffer + strlen(buffer) - 3, "...");
}

static void running_out_of_memory_names_the_bytes(void **state)
{
    heed_error err = { 0 };

    (void)state;
    assert_int_equal(heed__fail_memory(&err, 12345), HEED_ERR_MEMORY);
    assert_non_null(strstr(err.text, "12345 bytes"));
    err = (heed_error){ 0 };
    heed__fail_memory(&err, 0);
    assert_null(strstr(err.text, "bytes"));
}

static void dtypes_have_names_and_sizes(void **state)
{
    static const struct {
        heed_dtype dtype;
        const char *name;
        size_t size;
    } all[HEED_DTYPES] = {
        { HEED_F32, "f32", 4 }, { HEED_F64, "f64", 8 }, { HEED_F16, "f16", 2 }, { HEED_BF16, "bf16", 2 },
        { HEED_I64, "i64", 8 }, { HEED_I32, "i32", 4 }, { HEED_U8, "u8", 1 },   { HEED_BOOL, "bool", 1 },
    };

    (void)state;
    for (int i = 0; i < HEED_DTYPES; i++) {
        assert_int_equal(all[i].dtype, i);
        assert_string_equal(heed_dtype_name(all[i].dtype), all[i].name);
        assert_int_equal(heed_dtype_size(all[i].dtype), all[i].size);
    }
    assert_string_equal(heed_dtype_name(HEED_DTYPES), "?");
    assert_int_equal(heed_dtype_size((heed_dtype)-1), 0);
}

static void a_count_fits_or_is_minus_one(void **state)
{
    const int64_t big = (int64_t)1 << 40;
    heed_type t = HEED_TYPE(HEED_F32, 2, 3, 4);

    (void)state;
    assert_int_equal(heed_type_count(&t), 24);
    t = heed_type_of(HEED_F32, 0, NULL);
    assert_int_equal(heed_type_count(&t), 1);
    t = HEED_TYPE(HEED_F32, 3, 0);
    assert_int_equal(heed_type_count(&t), 0);
    t = HEED_TYPE(HEED_F32, 3, -1);
    assert_int_equal(heed_type_count(&t), -1);
    t = HEED_TYPE(HEED_F32, big, big);
    assert_int_equal(heed_type_count(&t), -1);
    t = HEED_TYPE(HEED_F32, big, big, 0); /* the strides would not fit */
    assert_int_equal(heed_type_count(&t), -1);
    t = HEED_TYPE(HEED_F32, INT64_MAX);
    assert_int_equal(heed_type_count(&t), INT64_MAX);
    t = heed_type_of(HEED_F32, 9, (const int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 });
    assert_int_equal(heed_type_count(&t), -1);
    t = heed_type_of(HEED_F32, -3, NULL);
    assert_int_equal(heed_type_count(&t), -1);
    t.rank = 100;
    assert_int_equal(heed_type_count(&t), -1);
}

static void types_are_equal_when_dtype_rank_and_sizes_are(void **state)
{
    const heed_type a = HEED_TYPE(HEED_F32, 2, 3);
    heed_type b = HEED_TYPE(HEED_F32, 2, 3);

    (void)state;
    b.dims[5] = 7; /* behind the rank: nobody looks */
    assert_true(heed_type_equal(&a, &b));
    b.dims[1] = 4;
    assert_false(heed_type_equal(&a, &b));
    b = HEED_TYPE(HEED_F32, 2, 3, 1);
    assert_false(heed_type_equal(&a, &b));
    b = HEED_TYPE(HEED_F64, 2, 3);
    assert_false(heed_type_equal(&a, &b));
}

static void levels_are_found_by_name(void **state)
{
    heed_error err = { 0 };
    heed_isa isa;

    (void)state;
    for (int i = HEED_ISA_AUTO; i <= HEED_ISA_NEON; i++) {
        assert_int_equal(heed_isa_from_name(&isa, heed_isa_name((heed_isa)i), &err), HEED_OK);
        assert_int_equal(isa, i);
    }
    assert_int_equal(heed_isa_from_name(&isa, "avx", &err), HEED_ERR_USAGE);
    assert_int_equal(heed_isa_from_name(&isa, NULL, NULL), HEED_ERR_USAGE);
    assert_string_equal(heed_isa_name((heed_isa)99), "?");
    assert_true(heed_isa_available(HEED_ISA_PORTABLE));
    assert_false(heed_isa_available(HEED_ISA_AUTO));
    assert_false(heed_isa_available((heed_isa)99));
#if defined(__x86_64__)
    assert_false(heed_isa_available(HEED_ISA_NEON));
    assert_int_equal(heed__os_cpu_has(HEED_ISA_X86_64_V3),
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    assert_int_equal(heed__os_cpu_has(HEED_ISA_X86_64_V4),
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"));
#endif
}

static void a_context_takes_defaults_for_zeros(void **state)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };

    (void)state;
    assert_int_equal(heed_context_new(&ctx, NULL, &err), HEED_OK);
    assert_int_equal(heed_context_threads(ctx), heed__os_cpus());
    assert_int_not_equal(heed_context_isa(ctx), HEED_ISA_AUTO);
    assert_true(heed_isa_available(heed_context_isa(ctx)));
    assert_int_equal(ctx->limits.safetensors_header_bytes, 16 << 20);
    assert_int_equal(ctx->limits.nesting, 64);
    assert_int_equal(ctx->limits.memory_bytes, 0);
    assert_true(heed_context_bytes(ctx) > 0);
    assert_true(heed_context_peak_bytes(ctx) >= heed_context_bytes(ctx));
    heed_context_peak_reset(ctx);
    assert_int_equal(heed_context_peak_bytes(ctx), heed_context_bytes(ctx));
    heed_context_free(ctx);
    heed_context_free(NULL);
}

static void given_limits_replace_defaults_one_by_one(void **state)
{
    const heed_limits given = { .json_bytes = 7, .memory_bytes = 9 };
    const heed_limits l = heed__limits(&given), d = heed__limits(NULL);

    (void)state;
    assert_int_equal(l.json_bytes, 7);
    assert_int_equal(l.memory_bytes, 9);
    assert_int_equal(l.yaml_bytes, d.yaml_bytes);
    assert_int_equal(d.json_bytes, 16 << 20);
}

static void a_context_refuses_what_it_cannot_have(void **state)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1025 }, &err), HEED_ERR_LIMIT);
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = -1 }, NULL), HEED_ERR_LIMIT);
    err = (heed_error){ 0 };
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .isa = (heed_isa)99 }, &err),
                     HEED_ERR_DEVICE);
#if defined(__x86_64__)
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .isa = HEED_ISA_NEON }, NULL),
                     HEED_ERR_DEVICE);
#endif
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .limits.memory_bytes = 100 }, NULL),
                     HEED_ERR_MEMORY);
    assert_null(ctx);
}

/* An allocator whose n-th growth fails. */
typedef struct failing {
    int left;
    int64_t alive;
} failing;

static void *failing_resize(void *user, void *block, size_t old_size, size_t new_size)
{
    failing *f = user;

    if (new_size && f->left-- == 0)
        return NULL;
    f->alive += (int64_t)new_size - (int64_t)old_size;
    if (new_size)
        return realloc(block, new_size);
    free(block);
    return NULL;
}

static void making_a_context_survives_each_failing_allocation(void **state)
{
    heed_status st = HEED_ERR_MEMORY;
    int n = 0;

    (void)state;
    for (; st != HEED_OK; n++) {
        failing f = { .left = n };
        const heed_allocator allocator = { failing_resize, &f };
        heed_context *ctx = NULL;
        heed_error err = { 0 };

        st = heed_context_new(&ctx, &(heed_context_opts){ .threads = 3, .allocator = &allocator }, &err);
        assert_int_equal(st, ctx ? HEED_OK : HEED_ERR_MEMORY);
        assert_int_equal(err.code, st);
        heed_context_free(ctx);
        assert_int_equal(f.alive, 0);
    }
    assert_true(n > 3);
}

static void the_system_tells_about_itself(void **state)
{
    char name[96];

    (void)state;
    heed__os_cpu_name(name);
    assert_true(strlen(name) > 0);
    assert_true(heed__os_seconds() <= heed__os_seconds());
    assert_true(heed__os_wall_seconds() > 1.6e9);
    assert_true(heed__os_peak_bytes() > 0);
    assert_true(heed__os_free_bytes("/") > 0);
    assert_int_equal(heed__os_free_bytes("/no/such/place"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_numbers_names_and_exit_codes_are_pinned),
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(an_error_text_holds_no_control_characters),
        cmocka_unit_test(a_long_text_is_cut_and_a_long_path_loses_its_head),
        cmocka_unit_test(shown_text_is_escaped_and_cut_at_64_bytes),
        cmocka_unit_test(running_out_of_memory_names_the_bytes),
        cmocka_unit_test(dtypes_have_names_and_sizes),
        cmocka_unit_test(a_count_fits_or_is_minus_one),
        cmocka_unit_test(types_are_equal_when_dtype_rank_and_sizes_are),
        cmocka_unit_test(levels_are_found_by_name),
        cmocka_unit_test(a_context_takes_defaults_for_zeros),
        cmocka_unit_test(given_limits_replace_defaults_one_by_one),
        cmocka_unit_test(a_context_refuses_what_it_cannot_have),
        cmocka_unit_test(making_a_context_survives_each_failing_allocation),
        cmocka_unit_test(the_system_tells_about_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
