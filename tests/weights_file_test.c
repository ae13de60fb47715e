/* Weights in files: what comes back, what is refused, and every call made to fail. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/formats.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(heed_weights *w, const char *name, heed_type type, const void *data)
{
    heed_error err = { 0 };
    const heed_status st = heed_weights_put(w, name, (heed_tensor){ type, (void *)data }, &err);

    if (st != HEED_OK)
        fail_msg("%s", err.text);
}

static heed_weights *empty(heed_context *ctx)
{
    heed_weights *w;

    assert_int_equal(heed_weights_new(&w, ctx, NULL), HEED_OK);
    return w;
}

/* Two weights of the model, one counter, and what a trainer keeps besides. */
static heed_weights *store(heed_context *ctx, float first)
{
    heed_weights *w = empty(ctx);

    put(w, "fc.weight", HEED_TYPE(HEED_F32, 2, 3), (float[]){ first, 2, 3, 4, 5, 6 });
    put(w, "fc.bias", HEED_TYPE(HEED_F32, 2), (float[]){ -first, 0 });
    put(w, "norm.num_batches_tracked", (heed_type){ HEED_I64, 0, { 0 } }, (int64_t[]){ 7 });
    put(w, "rng", HEED_TYPE(HEED_I64, 2), (int64_t[]){ 1, 2 });
    put(w, "optimizer.exp_avg.fc.bias", HEED_TYPE(HEED_F32, 2), (float[]){ 9, 8 });
    put(w, "ema.fc.bias", HEED_TYPE(HEED_F32, 2), (float[]){ 7, 6 });
    return w;
}

static void assert_same(const heed_weights *a, const heed_weights *b)
{
    char x[65], y[65];

    assert_int_equal(heed_weights_sha256(a, HEED_WEIGHTS_ALL, x, NULL), HEED_OK);
    assert_int_equal(heed_weights_sha256(b, HEED_WEIGHTS_ALL, y, NULL), HEED_OK);
    assert_string_equal(x, y);
}

static void an_empty_store_takes_what_the_file_has(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *back = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(back, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_count(back), 6);
    assert_same(w, back);
    heed_weights_free(w);
    heed_weights_free(back);
}

static void a_loaded_weight_stays_where_it_lies(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *other = store(s->ctx, 5);
    const char *path = scratch_path(s, "w.safetensors");
    const float *at = heed_weights_find(other, "fc.weight").data;

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(other, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_ptr_equal(heed_weights_find(other, "fc.weight").data, at);
    assert_true(at[0] == 1);
    assert_same(w, other);
    heed_weights_free(w);
    heed_weights_free(other);
}

static void a_load_from_memory_is_a_load_from_the_file(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *back = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");
    uint8_t *bytes;
    size_t n;

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    bytes = scratch_get(path, &n);
    assert_int_equal(heed_weights_load_memory(back, HEED_WEIGHTS_ALL, bytes, n, NULL), HEED_OK);
    free(bytes);
    assert_same(w, back);
    heed_weights_free(w);
    heed_weights_free(back);
}

static void writing_what_was_read_gives_the_same_bytes(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *back = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors"), *again = scratch_path(s, "again.safetensors");

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(back, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_save(back, HEED_WEIGHTS_ALL, again, NULL), HEED_OK);
    assert_true(scratch_same(path, again));
    heed_weights_free(w);
    heed_weights_free(back);
}

static void the_model_part_leaves_rng_moments_and_averages_out(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *back = empty(s->ctx);
    const char *path = scratch_path(s, "model.safetensors");

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(back, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_count(back), 3);
    assert_int_equal(heed_weights_load(w, HEED_WEIGHTS_MODEL, path, NULL),
                     HEED_OK); /* the others are not missed */
    heed_weights_free(w);
    heed_weights_free(back);
}

static void a_file_of_everything_is_no_model_file(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *back = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");
    heed_error err = { 0 };

    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_ALL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(back, HEED_WEIGHTS_MODEL, path, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "unexpected"));
    assert_non_null(strstr(err.text, "\"rng\""));
    assert_int_equal(heed_weights_count(back), 0);
    heed_weights_free(w);
    heed_weights_free(back);
}

static void missing_unexpected_and_misshaped_names_stand_in_one_sentence(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *other = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");
    heed_error err = { 0 };
    char before[65], after[65];

    put(other, "fc.weight", HEED_TYPE(HEED_F32, 3, 2), (float[]){ 1, 2, 3, 4, 5, 6 });
    put(other, "fc.scale", HEED_TYPE(HEED_F32, 2), (float[]){ 1, 1 });
    put(other, "norm.num_batches_tracked", (heed_type){ HEED_I64, 0, { 0 } }, (int64_t[]){ 0 });
    assert_int_equal(heed_weights_sha256(other, HEED_WEIGHTS_ALL, before, NULL), HEED_OK);
    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(other, HEED_WEIGHTS_MODEL, path, &err), HEED_ERR_SHAPE);
    assert_string_equal(
        err.text,
        "the file does not fit these weights: missing \"fc.scale\"; unexpected \"fc.bias\"; of another "
        "type \"fc.weight\" (F32 [2,3] in the file, f32 [3,2] here); nothing was loaded");
    assert_string_equal(err.path, path);
    assert_int_equal(heed_weights_sha256(other, HEED_WEIGHTS_ALL, after, NULL), HEED_OK);
    assert_string_equal(before, after);
    heed_weights_free(w);
    heed_weights_free(other);
}

static void a_long_list_is_cut_and_counted(void **state)
{
    scratch *s = *state;
    heed_weights *w = store(s->ctx, 1), *other = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");
    heed_error err = { 0 };
    char name[32];

    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "layers.%d.weight", i);
        put(other, name, HEED_TYPE(HEED_F32, 1), (float[]){ 1 });
    }
    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(other, HEED_WEIGHTS_MODEL, path, &err), HEED_ERR_SHAPE);
    assert_non_null(strstr(err.text, "\"layers.0.weight\", \"layers.1.weight\""));
    assert_non_null(strstr(err.text, " and 993 more; unexpected"));
    assert_non_null(strstr(err.text, "nothing was loaded"));
    heed_weights_free(w);
    heed_weights_free(other);
}

static void another_dtype_alone_is_a_dtype_error(void **state)
{
    scratch *s = *state;
    heed_weights *w = empty(s->ctx), *other = empty(s->ctx);
    const char *path = scratch_path(s, "w.safetensors");

    put(w, "x", HEED_TYPE(HEED_F64, 2), (double[]){ 1, 2 });
    put(other, "x", HEED_TYPE(HEED_F32, 2), (float[]){ 1, 2 });
    assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
    assert_int_equal(heed_weights_load(other, HEED_WEIGHTS_MODEL, path, NULL), HEED_ERR_DTYPE);
    heed_weights_free(w);
    heed_weights_free(other);
}

static void a_dtype_that_heed_has_not_is_named(void **state)
{
    static const char header[] = "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]}}";
    scratch *s = *state;
    heed_weights *w = empty(s->ctx);
    heed_error err = { 0 };
    uint8_t bytes[8 + sizeof header - 1 + 2] = { sizeof header - 1 };

    memcpy(bytes + 8, header, sizeof header - 1);
    assert_int_equal(heed_weights_load_memory(w, HEED_WEIGHTS_MODEL, bytes, sizeof bytes, &err),
                     HEED_ERR_DTYPE);
    assert_non_null(strstr(err.text, "F8_E4M3"));
    assert_int_equal(heed_weights_count(w), 0);
    heed_weights_free(w);
}

static void weights_that_are_not_finite_are_not_saved_and_the_old_file_stays(void **state)
{
    static const struct {
        heed_dtype dtype;
        uint64_t fine, bad;
    } cases[] = {
        { HEED_F32, 0x7f7fffff, 0x7f800000 },
        { HEED_F32, 0xff7fffff, 0xffc00001 },
        { HEED_F64, 0x7fefffffffffffff, 0x7ff0000000000000 },
        { HEED_F64, 0, 0xfff8000000000000 },
        { HEED_F16, 0x7bff, 0x7c00 },
        { HEED_F16, 0xfbff, 0xfe00 },
        { HEED_BF16, 0x7f7f, 0x7f80 },
        { HEED_BF16, 0xff7f, 0xffc0 },
    };
    scratch *s = *state;
    const char *path = scratch_path(s, "w.safetensors"), *old = scratch_path(s, "old");

    scratch_put(old, "the old file", 12);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        heed_weights *w = empty(s->ctx);
        const size_t size = heed_dtype_size(cases[i].dtype);
        uint8_t numbers[24] = { 0 };
        heed_error err = { 0 };

        memcpy(numbers + size, &cases[i].fine, size);
        put(w, "x.weight", HEED_TYPE(cases[i].dtype, 3), numbers);
        assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, NULL), HEED_OK);
        scratch_put(path, "the old file", 12);
        memcpy(numbers + size, &cases[i].bad, size);
        put(w, "x.weight", HEED_TYPE(cases[i].dtype, 3), numbers);
        assert_int_equal(heed_weights_save(w, HEED_WEIGHTS_MODEL, path, &err), HEED_ERR_NUMERIC);
        assert_non_null(strstr(err.text, "\"x.weight\""));
        assert_non_null(strstr(err.text, "element 1"));
        assert_true(scratch_same(path, old));
        heed_weights_free(w);
    }
    assert_int_equal(scratch_entries(s->folder), 2);
}

/* ---- every call fails in turn ---- */

typedef struct trial {
    char folder[64], path[96], good[96];
    int left; /* runs that left a temporary file */
} trial;

static heed_status save_run(heed_context *ctx, void *user, heed_error *err)
{
    trial *t = user;
    heed_weights *w = NULL;
    const float numbers[6] = { 1, 2, 3, 4, 5, 6 };
    heed_status st;

    STEP(heed_weights_new(&w, ctx, err));
    STEP(heed_weights_put(w, "fc.weight", (heed_tensor){ HEED_TYPE(HEED_F32, 2, 3), (void *)numbers }, err));
    STEP(heed_weights_put(w, "fc.bias", (heed_tensor){ HEED_TYPE(HEED_F32, 2), (void *)numbers }, err));
    STEP(heed_weights_save(w, HEED_WEIGHTS_MODEL, t->path, err));
done:
    heed_weights_free(w);
    return st;
}

static void save_prepare(heed_context *ctx, void *user)
{
    trial *t = user;

    (void)ctx;
    scratch_put(t->path, "old", 3);
}

/* The old file, or (also after a failed last step) the new one whole; nothing else in the folder. */
static bool save_right(heed_context *ctx, void *user, heed_status st)
{
    trial *t = user;
    size_t n;
    uint8_t *now = scratch_get(t->path, &n);
    const bool is_old = n == 3 && memcmp(now, "old", 3) == 0, is_new = scratch_same(t->path, t->good);

    (void)ctx;
    free(now);
    if (scratch_entries(t->folder) != 2) {
        char command[160];

        t->left++; /* a second failure, of unlink, may do that */
        snprintf(command, sizeof command, "rm -f %s/.heed-*.tmp", t->folder);
        if (st == HEED_OK || system(command) != 0)
            return false;
    }
    return st == HEED_OK ? is_new : is_old || is_new;
}

static heed_status load_run(heed_context *ctx, void *user, heed_error *err)
{
    trial *t = user;
    heed_weights *fresh = NULL, *full = NULL;
    const float numbers[6] = { 0 };
    char before[65], after[65];
    heed_status st;

    STEP(heed_weights_new(&fresh, ctx, err));
    STEP(heed_weights_new(&full, ctx, err));
    STEP(heed_weights_put(full, "fc.weight", (heed_tensor){ HEED_TYPE(HEED_F32, 2, 3), (void *)numbers },
                          err));
    STEP(heed_weights_put(full, "fc.bias", (heed_tensor){ HEED_TYPE(HEED_F32, 2), (void *)numbers }, err));
    STEP(heed_weights_sha256(full, HEED_WEIGHTS_ALL, before, err));
    st = heed_weights_load(fresh, HEED_WEIGHTS_MODEL, t->good, err);
    if (st != HEED_OK && heed_weights_count(fresh) != 0)
        st = HEED_ERR_BUG;
    if (st != HEED_OK)
        goto done;
    st = heed_weights_load(full, HEED_WEIGHTS_MODEL, t->good, err);
    if (st != HEED_OK) {
        const float *w = heed_weights_find(full, "fc.weight").data,
                    *b = heed_weights_find(full, "fc.bias").data;

        for (int i = 0; i < 6; i++)
            st = w[i] == 0 && b[i / 3] == 0 ? st : HEED_ERR_BUG;
        goto done;
    }
    STEP(heed_weights_sha256(full, HEED_WEIGHTS_ALL, after, err));
    if (strcmp(before, after) == 0)
        st = HEED_ERR_BUG;
done:
    heed_weights_free(full);
    heed_weights_free(fresh);
    return st;
}

static bool load_right(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    (void)st;
    return true; /* load_run looks itself; a close that fails after reading harms nothing */
}

static trial make_trial(scratch *s)
{
    trial t = { .left = 0 };
    heed_error err = { 0 };

    snprintf(t.folder, sizeof t.folder, "%.60s", s->folder);
    snprintf(t.path, sizeof t.path, "%.60s/w.safetensors", s->folder);
    snprintf(t.good, sizeof t.good, "%.60s/w.safetensors", s->folder);
    if (save_run(s->ctx, &t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    snprintf(t.good, sizeof t.good, "%.60s/good.safetensors", s->folder);
    assert_int_equal(rename(t.path, t.good), 0);
    return t;
}

static void saving_survives_each_failing_call(void **state)
{
    trial t = make_trial(*state);
    const heed_scenario s = { "weights_save", save_run, save_prepare, save_right };
    heed_fail_report report;

    assert_true(heed_fail_each(&s, &t, &report));
    assert_true(report.calls > 10);
    assert_int_equal(t.left, 0);
    assert_true(heed_fail_each_file(&s, &t, &report));
    assert_true(report.calls >= 10);
}

static void one_failing_file_call_leaves_no_temporary_file(void **state)
{
    scratch *s = *state;
    trial t = make_trial(s);
    fault_files f;
    uint64_t last = 0;

    for (uint64_t n = 1; n <= last + 1; n++) {
        heed_status st;

        save_prepare(s->ctx, &t);
        fault_files_init(&f, heed__file_ops());
        f.at = n;
        f.error = EIO;
        s->ctx->files = &f.ops;
        st = save_run(s->ctx, &t, NULL);
        s->ctx->files = f.real;
        assert_int_equal(scratch_entries(s->folder), 2);
        assert_true(save_right(s->ctx, &t, st));
        last = f.hits ? n : last;
    }
    assert_true(last >= 10);
    assert_int_equal(t.left, 0);
}

static void loading_survives_each_failing_call(void **state)
{
    trial t = make_trial(*state);
    const heed_scenario s = { "weights_load", load_run, NULL, load_right };
    heed_fail_report report;

    assert_true(heed_fail_each(&s, &t, &report));
    assert_true(report.calls > 20);
    assert_true(heed_fail_each_file(&s, &t, &report));
    assert_true(report.calls >= 8);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_store_takes_what_the_file_has),
        TEST(a_loaded_weight_stays_where_it_lies),
        TEST(a_load_from_memory_is_a_load_from_the_file),
        TEST(writing_what_was_read_gives_the_same_bytes),
        TEST(the_model_part_leaves_rng_moments_and_averages_out),
        TEST(a_file_of_everything_is_no_model_file),
        TEST(missing_unexpected_and_misshaped_names_stand_in_one_sentence),
        TEST(a_long_list_is_cut_and_counted),
        TEST(another_dtype_alone_is_a_dtype_error),
        TEST(a_dtype_that_heed_has_not_is_named),
        TEST(weights_that_are_not_finite_are_not_saved_and_the_old_file_stays),
        TEST(saving_survives_each_failing_call),
        TEST(one_failing_file_call_leaves_no_temporary_file),
        TEST(loading_survives_each_failing_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
