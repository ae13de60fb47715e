/* Recipes: one file a rule in tests/corpus/recipe with its code and words in recipe.tsv, and what no small
 * file can show. */
#include "support/cmocka.h"
#include "support/corpus.h"
#include "support/scratch.h"

#include <heed/task.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GOOD "data:\n  path: somewhere\nmodel:\n  name: mlp\n"

static heed_status open_text(heed_recipe **r, scratch *s, const char *text, size_t n,
                             const char *const *overrides, heed_error *err)
{
    const char *path = scratch_path(s, "recipe.yaml");

    scratch_put(path, text, n);
    return heed_recipe_open(r, s->ctx, path, overrides, err);
}

/* Refused with this code, and these words are in the message. */
static void assert_refused(scratch *s, const char *text, const char *const *overrides, heed_status code,
                           const char *words)
{
    heed_recipe *r = NULL;
    heed_error err = { 0 };
    const heed_status st = open_text(&r, s, text, strlen(text), overrides, &err);

    if (st != code || !strstr(err.text, words) || err.code != code)
        fail_msg("%s, \"%s\" instead of %s, \"%s\"", heed_status_name(st), err.text, heed_status_name(code),
                 words);
    assert_null(r);
}

static heed_recipe *opened(scratch *s, const char *text, const char *const *overrides)
{
    heed_recipe *r = NULL;
    heed_error err = { 0 };

    if (open_text(&r, s, text, strlen(text), overrides, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return r;
}

/* ---- the corpus ---- */

static heed_status read_one(heed_context *ctx, const char *path, heed_error *err)
{
    heed_recipe *r = NULL;
    const heed_status st = heed_recipe_open(&r, ctx, path, NULL, err);

    if (st != HEED_OK)
        assert_string_equal(err->path, path);
    heed_recipe_free(r);
    return st;
}

static void every_file_of_the_corpus_does_what_its_line_says(void **state)
{
    scratch *s = *state;
    int files = 0;

    assert_int_equal(corpus_replay_words(s->ctx, "recipe", ".yaml", read_one, &files), 0);
    assert_true(files >= 100);
}

static void what_is_read_has_its_value(void **state)
{
    static const struct {
        const char *file, *key, *value;
    } cases[] = {
        { "minimal", "model.name", "mlp" },
        { "minimal_flow", "data.path", "somewhere" },
        { "minimal_json", "train.epochs", "7" },
        { "default_value", "train.lr", "0.001" },
        { "no_newline_at_the_end", "train.epochs", "4" },
        { "crlf", "train.epochs", "4" },
        { "byte_order_mark", "data.path", "somewhere" },
        { "comments", "model.name", "mlp" },
        { "utf8_value", "data.path", "däta/日本" },
        { "list_of_numbers", "model.hidden", "7,5" },
        { "list_of_lines", "model.hidden", "7,5" },
        { "dotted_key", "train.lr", "0.5" },
        { "quoted_empty_value", "data.classes", "" },
        { "empty_group", "train.epochs", "5" },
        { "largest_beta", "train.beta1", "0.9999999" },
        { "number_at_its_end", "train.warmup", "1" },
        { "long_value", "data.path", "pppppppppppppppppppppppppppppppppppppppp" },
        { "folded_value", "data.path", "some where" },
        { "word_of_a_list", "train.optimizer", "sgd" },
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_recipe *r = NULL;
        heed_error err = { 0 };
        char path[512];

        snprintf(path, sizeof path, HEED_SOURCE_DIR "/tests/corpus/recipe/%s.yaml", cases[i].file);
        if (heed_recipe_open(&r, s->ctx, path, NULL, &err) != HEED_OK)
            fail_msg("%s", err.text);
        if (strncmp(heed_recipe_get(r, cases[i].key), cases[i].value, strlen(cases[i].value)) != 0)
            fail_msg("%s: %s is %.60s", path, cases[i].key, heed_recipe_get(r, cases[i].key));
        heed_recipe_free(r);
    }
}

/* ---- limits that need large files ---- */

/* As many bytes as a recipe may have, and one more: a comment fills it up. */
static void a_recipe_of_256_kib_is_read_and_one_byte_more_refused(void **state)
{
    scratch *s = *state;
    const size_t most = 256 * 1024, n = strlen(GOOD);
    char *text = malloc(most + 2);
    heed_recipe *r = NULL;
    heed_error err = { 0 };

    memset(text, '#', most + 2);
    memcpy(text, GOOD, n);
    assert_int_equal(open_text(&r, s, text, most, NULL, &err), HEED_OK);
    heed_recipe_free(r);
    r = NULL;
    assert_int_equal(open_text(&r, s, text, most + 1, NULL, &err), HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "262144"));
    assert_null(r);
    free(text);
}

/* Repeats `part` until the text has n bytes. */
static char *repeated(const char *head, const char *part, size_t n)
{
    char *text = calloc(n + 1, 1);
    size_t used = strlen(head);

    memcpy(text, head, used);
    for (; used + strlen(part) <= n; used += strlen(part))
        memcpy(text + used, part, strlen(part));
    return text;
}

/* Hostile recipes of full size: refused, within a second and a little memory. */
static void bombs_are_refused_quickly_and_in_little_memory(void **state)
{
    static const struct {
        const char *head, *part, *words;
        heed_status code;
    } bombs[] = {
        { "", "[", "a list can only be", HEED_ERR_FORMAT },
        { "a: ", "[", "a list can only be", HEED_ERR_FORMAT },
        { "", "{a: ", "nested too deep", HEED_ERR_LIMIT },
        { "", "? ", "a key must be a word", HEED_ERR_FORMAT },
        { "", "- ", "a list can only be", HEED_ERR_FORMAT },
        { "", "- - ", "a list can only be", HEED_ERR_FORMAT },
        { "hidden: [", "1,", "too many parts", HEED_ERR_LIMIT },
        { "hidden: [", "1234567890123,", "did not find expected", HEED_ERR_FORMAT },
        { "a: &a [x]\nb: [", "*a,", "anchors", HEED_ERR_FORMAT },
        { "", "&a ", "anchor", HEED_ERR_FORMAT },
        { "", "!", "tag", HEED_ERR_FORMAT },
        { "", "\"", "", HEED_ERR_FORMAT },
        { "", "---\n", "", HEED_ERR_FORMAT },
        { "a: |\n", " x\n", "", HEED_ERR_FORMAT },
        { "", "%TAG ! tag:x\n", "", HEED_ERR_FORMAT },
        { "", "%YAML 1.1\n", "", HEED_ERR_FORMAT },
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        char *text = repeated(bombs[i].head, bombs[i].part, 256 * 1024 - 8);
        const clock_t began = clock();
        double seconds;

        heed_context_peak_reset(s->ctx);
        assert_refused(s, text, NULL, bombs[i].code, bombs[i].words);
        seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        if (seconds > 1 || heed_context_peak_bytes(s->ctx) > 18 * 1024 * 1024)
            fail_msg("%s%s...: %.1f s, %llu bytes", bombs[i].head, bombs[i].part, seconds,
                     (unsigned long long)heed_context_peak_bytes(s->ctx));
        free(text);
    }
}

/* 9,990 keys are 19,980 events of the 20,000 allowed. */
static void thousands_of_keys_are_read_before_the_first_unknown_one_is_named(void **state)
{
    scratch *s = *state;
    char *text = calloc(1, 256 * 1024);
    size_t used = 0;
    clock_t began;

    for (int i = 0; i < 9990; i++)
        used += (size_t)snprintf(text + used, 64, "k%d: 1\n", i);
    began = clock();
    assert_refused(s, text, NULL, HEED_ERR_FORMAT, "model.name is missing");
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 1);
    for (int i = 0; i < 100; i++)
        used += (size_t)snprintf(text + used, 64, "l%d: 1\n", i);
    assert_refused(s, text, NULL, HEED_ERR_LIMIT, "a recipe has too many parts");
    free(text);
}

static void a_key_s_groups_count_among_its_bytes(void **state)
{
    scratch *s = *state;
    char text[600];

    snprintf(text, sizeof text, "%0100d: {%099d: 1}\n", 0, 0);
    assert_refused(s, text, NULL, HEED_ERR_FORMAT, "model.name is missing");
    snprintf(text, sizeof text, "%0100d: {%0101d: 1}\n", 0, 0);
    assert_refused(s, text, NULL, HEED_ERR_FORMAT,
                   ":1:104: a key must have 1 to 200 bytes, those of its groups");
}

static void a_missing_recipe_is_named(void **state)
{
    scratch *s = *state;
    heed_recipe *r = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_recipe_open(&r, s->ctx, "/nowhere/recipe.yaml", NULL, &err), HEED_ERR_IO);
    assert_string_equal(err.path, "/nowhere/recipe.yaml");
    assert_int_equal(heed_recipe_open(&r, s->ctx, s->folder, NULL, NULL), HEED_ERR_IO);
    assert_null(r);
}

static void what_a_message_quotes_is_escaped_and_cut(void **state)
{
    scratch *s = *state;
    char text[1000];
    heed_recipe *r = NULL;
    heed_error err = { 0 };

    snprintf(text, sizeof text, GOOD "? \"a\\e[31m\\x07%0150d\"\n: 3\n", 0);
    assert_int_equal(open_text(&r, s, text, strlen(text), NULL, &err), HEED_ERR_FORMAT);
    assert_non_null(strstr(err.text, "unknown key \"a\\x1b[31m\\x07000"));
    assert_null(strchr(err.text, 0x1b));
    assert_true(strlen(err.text) < 64 + 40 + strlen(s->folder) + 60);
}

/* ---- overrides ---- */

static void overrides_replace_what_the_file_says(void **state)
{
    scratch *s = *state;
    heed_recipe *r = opened(s, GOOD "train:\n  lr: 0.1\n  epochs: 4\n",
                            (const char *[]){ "train.lr=0.2", "train.seed=9", "train.seed=10",
                                              "data.classes=a=b,c", "model.hidden=3,4", NULL });

    assert_string_equal(heed_recipe_get(r, "train.lr"), "0.2");
    assert_string_equal(heed_recipe_get(r, "train.epochs"), "4");
    assert_string_equal(heed_recipe_get(r, "train.seed"), "10");
    assert_string_equal(heed_recipe_get(r, "data.classes"), "a=b,c");
    assert_string_equal(heed_recipe_get(r, "model.hidden"), "3,4");
    heed_recipe_free(r);
}

static void an_override_can_change_the_architecture_and_name_the_data(void **state)
{
    scratch *s = *state;
    heed_recipe *r = opened(s, "model:\n  name: mlp\n",
                            (const char *[]){ "model.name=vit", "model.patch=7", "data.path=there", NULL });

    assert_string_equal(heed_recipe_get(r, "model.name"), "vit");
    assert_string_equal(heed_recipe_get(r, "model.patch"), "7");
    assert_string_equal(heed_recipe_get(r, "data.path"), "there");
    heed_recipe_free(r);
}

static void a_mistake_in_an_override_is_the_command_s(void **state)
{
    static const struct {
        const char *override, *words;
    } cases[] = {
        { "train.epochs", "--set takes key=value, as in train.epochs=3; \"train.epochs\" is not that" },
        { "=3", "--set takes key=value" },
        { "", "--set takes key=value" },
        { "train.epoches=3",
          "--set train.epoches: unknown key \"train.epoches\"; did you mean \"train.epochs\"?" },
        { "epochs=3", "--set epochs: unknown key \"epochs\"; did you mean \"train.epochs\"?" },
        { "train=3", "--set train: \"train\" is a group of keys" },
        { "train.epochs=", "--set train.epochs: train.epochs: \"\" is no integer" },
        { "train.epochs=many", "--set train.epochs: train.epochs: \"many\" is no integer" },
        { "train.epochs=0", "--set train.epochs: train.epochs: 0 is outside 1 to 1000000" },
        { "train.optimizer=adma", "--set train.optimizer: train.optimizer: \"adma\" is none of" },
        { "model.name=vti",
          "--set model.name: model.name: there is no architecture \"vti\"; did you mean \"vit\"?" },
        { "train.lr =3", "unknown key \"train.lr \"; did you mean \"train.lr\"?" },
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(s, GOOD, (const char *[]){ cases[i].override, NULL }, HEED_ERR_USAGE, cases[i].words);
}

/* ---- showing ---- */

static void every_key_is_shown_with_where_it_came_from(void **state)
{
    scratch *s = *state;
    heed_recipe *r = opened(s, GOOD "train:\n  lr: 0.1\n", (const char *[]){ "train.seed=9", NULL });
    heed_error err = { 0 };
    char *text = NULL, line[300];

    assert_int_equal(heed_recipe_print(&text, r, &err), HEED_OK);
    snprintf(line, sizeof line, "  lr: 0.1  # %s/recipe.yaml:6\n", s->folder);
    assert_non_null(strstr(text, line));
    assert_non_null(strstr(text, "  seed: 9  # --set\n"));
    assert_non_null(strstr(text, "  epochs: 5  # default\n"));
    assert_non_null(strstr(text, "  hidden: [256,128]  # default\n"));
    assert_null(strstr(text, "weight_decay")); /* not set: its default depends on the optimiser */
    heed_text_free(s->ctx, text);
    heed_recipe_free(r);
}

/* The values of a shown recipe, without their origins. */
static char *shown(scratch *s, heed_recipe *r)
{
    char *text = NULL, *to;

    assert_int_equal(heed_recipe_print(&text, r, NULL), HEED_OK);
    to = calloc(strlen(text) + 1, 1);
    for (char *line = text, *out = to; *line; line += strcspn(line, "\n") + 1) {
        const char *end = strstr(line, "  # ");
        const size_t n = end && end < line + strcspn(line, "\n") ? (size_t)(end - line) : strcspn(line, "\n");

        memcpy(out, line, n);
        out[n] = '\n';
        out += n + 1;
    }
    heed_text_free(s->ctx, text);
    return to;
}

static void a_shown_recipe_reads_back_the_same(void **state)
{
    static const char *const texts[] = {
        GOOD,
        "data:\n  path: \"a b: #c\\n\\t\\\"d\\\"\\\\ {x} [y] 'z' \u00e4\"\n  classes: [no, \"1e3\", ~, \"null\"]\n"
        "model:\n  name: vit\n  stem: 4 P 8\ntrain:\n  lr: 1e-7\n  beta1: 0.1\n  nesterov: true\n  schedule: step\n",
        "data:\n  path: \"- x\"\n  mean: 0.1\n  std: 1e-6\nmodel:\n  name: conv-attention\n  dropout: 0.3\n",
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        heed_recipe *r = opened(s, texts[i], NULL), *again;
        char *first = shown(s, r), *second;

        again = opened(s, first, NULL);
        second = shown(s, again);
        assert_string_equal(first, second);
        assert_string_equal(heed_recipe_get(r, "train.lr"), heed_recipe_get(again, "train.lr"));
        heed_recipe_free(r);
        heed_recipe_free(again);
        free(first);
        free(second);
    }
}

/* The name of the file stands in the comments of what is shown: it must not end them. */
static void a_strange_name_of_the_file_stays_in_the_comment(void **state)
{
    scratch *s = *state;
    const char *path = scratch_path(s, "a\nb: c #.yaml"), *copy = scratch_path(s, "copy.yaml");
    heed_recipe *r = NULL;
    heed_error err = { 0 };
    char *text = NULL;

    scratch_put(path, GOOD, strlen(GOOD));
    assert_int_equal(heed_recipe_open(&r, s->ctx, path, NULL, &err), HEED_OK);
    assert_int_equal(heed_recipe_print(&text, r, &err), HEED_OK);
    heed_recipe_free(r);
    scratch_put(copy, text, strlen(text));
    heed_text_free(s->ctx, text);
    r = NULL;
    if (heed_recipe_open(&r, s->ctx, copy, NULL, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_string_equal(heed_recipe_get(r, "data.path"), "somewhere");
    heed_recipe_free(r);
}

static void a_key_that_is_not_there_has_no_value(void **state)
{
    scratch *s = *state;
    heed_recipe *r = opened(s, GOOD, NULL);

    assert_string_equal(heed_recipe_get(r, "train"), "");
    assert_string_equal(heed_recipe_get(r, "nothing"), "");
    assert_string_equal(heed_recipe_get(r, "model.patch"), "");
    assert_string_equal(heed_recipe_get(r, ""), "");
    heed_recipe_free(r);
}

static void the_recipes_that_come_with_heed_are_read(void **state)
{
    scratch *s = *state;
    DIR *d = opendir(HEED_SOURCE_DIR "/recipes");
    const struct dirent *e;
    int n = 0;

    assert_non_null(d);
    while ((e = readdir(d))) {
        char path[512];
        heed_recipe *r = NULL;
        heed_error err = { 0 };

        if (!strstr(e->d_name, ".yaml"))
            continue;
        snprintf(path, sizeof path, HEED_SOURCE_DIR "/recipes/%s", e->d_name);
        if (heed_recipe_open(&r, s->ctx, path, NULL, &err) != HEED_OK)
            fail_msg("%s", err.text);
        heed_recipe_free(r);
        n++;
    }
    closedir(d);
    assert_true(n > 0);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_file_of_the_corpus_does_what_its_line_says),
        UNIT(what_is_read_has_its_value),
        UNIT(a_recipe_of_256_kib_is_read_and_one_byte_more_refused),
        UNIT(bombs_are_refused_quickly_and_in_little_memory),
        UNIT(thousands_of_keys_are_read_before_the_first_unknown_one_is_named),
        UNIT(a_key_s_groups_count_among_its_bytes),
        UNIT(a_missing_recipe_is_named),
        UNIT(what_a_message_quotes_is_escaped_and_cut),
        UNIT(overrides_replace_what_the_file_says),
        UNIT(an_override_can_change_the_architecture_and_name_the_data),
        UNIT(a_mistake_in_an_override_is_the_command_s),
        UNIT(every_key_is_shown_with_where_it_came_from),
        UNIT(a_shown_recipe_reads_back_the_same),
        UNIT(a_strange_name_of_the_file_stays_in_the_comment),
        UNIT(a_key_that_is_not_there_has_no_value),
        UNIT(the_recipes_that_come_with_heed_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
