/* config.json and preprocessor_config.json: one pair a rule in tests/corpus/config, and what is written reads
 * back the same. */
#include "support/cmocka.h"
#include "support/corpus.h"
#include "support/scratch.h"
#include "tasks/config.h"

#include <stdlib.h>
#include <string.h>

/* A file of the corpus holds both, parted by a byte 0xff. */
static heed_status read_pair(heed_context *ctx, const char *path, heed_error *err)
{
    size_t n;
    uint8_t *bytes = scratch_get(path, &n), *mark = memchr(bytes, 0xff, n);
    run_config c;
    arena a;
    config_files files = { .model_path = "config.json", .picture_path = "preprocessor_config.json" };
    heed_status st;

    assert_non_null(mark);
    files.model = (file_bytes){ bytes, (size_t)(mark - bytes) };
    files.picture = (file_bytes){ mark + 1, n - files.model.size - 1 };
    heed__arena_init(&a, ctx->heap);
    st = heed__config_parse(&c, ctx, &a, &files, err);
    heed__arena_release(&a);
    free(bytes);
    return st;
}

static void every_pair_of_the_corpus_does_what_its_line_says(void **state)
{
    scratch *s = *state;
    int files = 0;

    assert_int_equal(corpus_replay_words(s->ctx, "config", ".json2", read_pair, &files), 0);
    assert_true(files >= 50);
}

static void what_is_written_reads_back_the_same(void **state)
{
    scratch *s = *state;
    const char *names[] = { "a, b", "\"\\\n\x7f", "\xc3\xa4\xe2\x80\xa8", "", "</script>" };
    const float outputs[] = { 0.1f, -1e-30f, 3.4028e38f };
    const run_config c = { .architecture = "vit",
                           .channels = 2,
                           .height = 65535,
                           .width = 1,
                           .classes = 5,
                           .class_names = names,
                           .mean = { 0.1f, -1e6f },
                           .std = { 1e-6f, 3.4028e5f },
                           .mirror = true,
                           .sha256 = "abc",
                           .isa = "portable",
                           .seed = 9000000000000000,
                           .train_samples = 1,
                           .validation_samples = 2,
                           .steps = 3,
                           .self_test_seed = 9000000000000000,
                           .self_test = { .isa = HEED_ISA_PORTABLE,
                                          .sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                                          .n = 3,
                                          .outputs = outputs } };
    run_config back;
    heed_error err = { 0 };
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    assert_int_equal(heed__config_write(s->ctx, s->folder, &c, &err), HEED_OK);
    if (heed__config_read(&back, s->ctx, &a, s->folder, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_string_equal(back.architecture, "vit");
    assert_int_equal(back.channels, 2);
    assert_int_equal(back.height, 65535);
    assert_int_equal(back.width, 1);
    assert_int_equal(back.classes, 5);
    for (int i = 0; i < 5; i++)
        assert_string_equal(back.class_names[i], names[i]);
    assert_memory_equal(back.mean, c.mean, sizeof c.mean);
    assert_memory_equal(back.std, c.std, sizeof c.std);
    assert_true(back.mirror);
    assert_true(back.seed == c.seed);
    assert_string_equal(back.sha256, "abc");
    assert_true(back.self_test_seed == c.self_test_seed && back.self_test.isa == HEED_ISA_PORTABLE);
    assert_string_equal(back.self_test.sha256, c.self_test.sha256);
    assert_int_equal(back.self_test.n, 3);
    assert_memory_equal(back.self_test.outputs, outputs, sizeof outputs);
    heed__arena_release(&a);
}

static void a_missing_file_is_named(void **state)
{
    scratch *s = *state;
    const char *model = scratch_path(s, "config.json");
    run_config c;
    heed_error err = { 0 };
    arena a;

    heed__arena_init(&a, s->ctx->heap);
    assert_int_equal(heed__config_read(&c, s->ctx, &a, s->folder, &err), HEED_ERR_IO);
    assert_string_equal(err.path, model);
    scratch_put(model, "{}", 2);
    err = (heed_error){ 0 };
    assert_int_equal(heed__config_read(&c, s->ctx, &a, s->folder, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.path, "preprocessor_config.json"));
    heed__arena_release(&a);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_pair_of_the_corpus_does_what_its_line_says),
        UNIT(what_is_written_reads_back_the_same),
        UNIT(a_missing_file_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
