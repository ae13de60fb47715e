/* Drawings of explanations: the same bytes each time, sizes, nothing that gets out of its quotes, the
 * terminal's view against a file, and every allocation and file call made to fail. */
#include "support/cmocka.h"
#include "base/error.h"
#include "explain/colour.h"
#include "explain/draw.h"
#include "explain/page.h"
#include "support/explained.h"
#include "support/fail_each.h"
#include "support/scratch.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ends[HEED_EXPLAIN_FORMATS] = { "png", "svg", "html", "npz", "json" };

/* ---- colours ---- */

static double linear(int byte)
{
    const double x = byte / 255.0;

    return x <= 0.04045 ? x / 12.92 : pow((x + 0.055) / 1.055, 2.4);
}

/* sRGB to OKLab by the matrices of Ottosson 2020: the other way round than the table is made. */
static void lab_of(double to[3], colour c)
{
    const double r = linear(c.r), g = linear(c.g), b = linear(c.b);
    const double l = cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
    const double m = cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
    const double s = cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);

    to[0] = 0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s;
    to[1] = 1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s;
    to[2] = 0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s;
}

/* Over 16 steps of the table, so that rounding to bytes does not count. */
static void the_map_is_uniform_and_grows_lighter_all_the_way(void **state)
{
    colour table[COLOUR_STEPS];
    double lab[16][3], length[15], mean = 0;

    (void)state;
    heed__colours(table);
    for (int i = 0; i < 16; i++)
        lab_of(lab[i], table[i * 17]);
    for (int i = 0; i < 15; i++) {
        double square = 0;

        for (int k = 0; k < 3; k++)
            square += (lab[i + 1][k] - lab[i][k]) * (lab[i + 1][k] - lab[i][k]);
        length[i] = sqrt(square);
        mean += length[i] / 15;
        assert_true(lab[i + 1][0] > lab[i][0] + 0.04);
    }
    for (int i = 0; i < 15; i++)
        assert_true(length[i] > 0.85 * mean && length[i] < 1.15 * mean);
}

static void a_colour_of_the_terminal_is_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(heed__colour_terminal((colour){ 0, 0, 0 }), 16);
    assert_int_equal(heed__colour_terminal((colour){ 255, 255, 255 }), 231);
    assert_int_equal(heed__colour_terminal((colour){ 255, 0, 0 }), 196);
    assert_int_equal(heed__colour_terminal((colour){ 128, 128, 128 }), 244);
    assert_int_equal(heed__colour_terminal((colour){ 96, 134, 176 }), 67);
    assert_int_equal(heed__colour_at(-1), 0);
    assert_int_equal(heed__colour_at(NAN), 0);
    assert_int_equal(heed__colour_at(2), 255);
}

static void a_map_keeps_its_values_where_its_cells_are(void **state)
{
    scratch *s = *state;
    const float map[6] = { 0.1F, 0.2F, 0.3F, 0.1F, 0.2F, 0.1F }, same[4] = { 0.25F, 0.25F, 0.25F, 0.25F };
    heed_saliency m = { .rows = 2, .cols = 3, .map = map };
    float to[64];

    assert_int_equal(heed__draw_smooth(to, s->ctx, &m, 3, 2, NULL), HEED_OK);
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(to[i] - map[i] / 0.3F) < 1e-6F);
    m = (heed_saliency){ .rows = 2, .cols = 2, .map = same };
    assert_int_equal(heed__draw_smooth(to, s->ctx, &m, 8, 8, NULL), HEED_OK);
    for (int i = 0; i < 64; i++)
        assert_true(fabsf(to[i] - 1) < 1e-6F);
}

/* ---- files ---- */

static void write_one(scratch *s, explained_kind kind, heed_explain_format format, const char *path)
{
    heed_explanation *e = explained_new(kind);
    heed_error err = { 0 };

    if (heed_explanation_write(s->ctx, e, format, path, &err) != HEED_OK)
        fail_msg("%s", err.text);
    explained_free(e);
}

static char *written(scratch *s, explained_kind kind, heed_explain_format format)
{
    const char *path = scratch_path(s, "written");
    size_t n;

    write_one(s, kind, format, path);
    return (char *)scratch_get(path, &n);
}

static bool built(heed_explain_format format)
{
#ifndef HEED_HAVE_PNG
    if (format == HEED_EXPLAIN_PNG)
        return false;
#endif
#ifndef HEED_HAVE_NPZ
    if (format == HEED_EXPLAIN_NPZ)
        return false;
#endif
    return format < HEED_EXPLAIN_FORMATS;
}

static void a_drawing_has_the_same_bytes_each_time(void **state)
{
    scratch *s = *state;

    for (int f = 0; f < HEED_EXPLAIN_FORMATS; f++) {
        if (!built((heed_explain_format)f))
            continue;
        write_one(s, EXPLAINED_VIT, (heed_explain_format)f, scratch_path(s, "one"));
        write_one(s, EXPLAINED_VIT, (heed_explain_format)f, scratch_path(s, "two"));
        assert_true(scratch_same(scratch_path(s, "one"), scratch_path(s, "two")));
    }
    assert_int_equal(heed_explanation_write(s->ctx, NULL, HEED_EXPLAIN_FORMATS, "x", NULL), HEED_ERR_USAGE);
}

static unsigned big_endian(const uint8_t *at)
{
    return (unsigned)at[0] << 24 | (unsigned)at[1] << 16 | (unsigned)at[2] << 8 | at[3];
}

static void a_png_has_the_picture_and_each_map_beside_it(void **state)
{
    scratch *s = *state;
    uint8_t *png;
    size_t n;

    if (!built(HEED_EXPLAIN_PNG))
        skip();
    write_one(s, EXPLAINED_VIT, HEED_EXPLAIN_PNG, scratch_path(s, "a.png"));
    png = scratch_get(scratch_path(s, "a.png"), &n);
    assert_memory_equal(png, "\x89PNG", 4);
    assert_int_equal(big_endian(png + 16), 6 * 224 + 5 * 8);
    assert_int_equal(big_endian(png + 20), 224);
    free(png);
}

static int count(const char *in, const char *words)
{
    int n = 0;

    for (; (in = strstr(in, words)) != NULL; in += strlen(words))
        n++;
    return n;
}

/* The names of the hostile explanation as they must never stand in a page. */
static const char *const attacks[] = { "<script>alert", "<img src=x", "</script><b>", "</td><script>",
                                       "--><script>",   "\"><img",    "\033" };

static void names_from_outside_stay_words(void **state)
{
    scratch *s = *state;
    static const heed_explain_format formats[2] = { HEED_EXPLAIN_HTML, HEED_EXPLAIN_SVG };

    for (int f = 0; f < 2; f++) {
        char *made = written(s, EXPLAINED_HOSTILE, formats[f]);

        for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++)
            if (strstr(made, attacks[i]))
                fail_msg("%s: %s", ends[formats[f]], attacks[i]);
        assert_non_null(strstr(made, "&#60;script&#62;alert("));
        free(made);
    }
}

static void a_page_has_three_scripts_and_they_are_its_own(void **state)
{
    char *made = written(*state, EXPLAINED_HOSTILE, HEED_EXPLAIN_HTML);

    assert_int_equal(count(made, "<script"), 3); /* data, heed.js, explain.js */
    assert_int_equal(count(made, "</script"), 3);
    assert_int_equal(count(made, "'sha256-"), 2);
    assert_non_null(strstr(made, "default-src 'none'"));
    assert_null(strstr(made, "unsafe-eval"));
    free(made);
}

/* Nothing is loaded: the only addresses are names of SVG, and references stay inside. */
static void a_page_refers_to_nothing_outside(void **state)
{
    for (int k = EXPLAINED_VIT; k <= EXPLAINED_LARGE; k++) {
        char *made = written(*state, (explained_kind)k, HEED_EXPLAIN_HTML);
        char *style = strstr(made, "<style>");

        assert_non_null(style);
        assert_int_equal(count(made, "http://"), count(made, "http://www.w3.org/2000/svg"));
        assert_int_equal(count(made, "https://"), 0);
        assert_int_equal(count(made, " src="), count(made, "&#60;img src=x"));
        assert_int_equal(count(made, "href=\""),
                         count(made, "href=\"data:image/png") + count(made, "href=\"#"));
        assert_null(strstr(made, "<link"));
        assert_null(strstr(made, "@import"));
        assert_null(strstr(made, "url("));
        free(made);
    }
}

static void every_view_says_that_weights_are_no_causes(void **state)
{
    scratch *s = *state;
    static const heed_explain_format formats[] = { HEED_EXPLAIN_HTML, HEED_EXPLAIN_SVG, HEED_EXPLAIN_JSON };
    heed_explanation *e = explained_new(EXPLAINED_POOL);
    char *words = NULL;

    for (size_t i = 0; i < 3; i++) {
        char *made = written(s, EXPLAINED_POOL, formats[i]);

        assert_non_null(strstr(made, "ttention shows mixing weights, not causes"));
        if (formats[i] != HEED_EXPLAIN_SVG)
            assert_non_null(strstr(made, "no map made of attention does better than random"));
        free(made);
    }
    assert_int_equal(heed_explanation_text(&words, s->ctx, e, HEED_TERMINAL_ASCII, 80, NULL), HEED_OK);
    assert_non_null(strstr(words, "ttention shows mixing weights, not causes"));
    assert_non_null(strstr(words, "no map made of attention does better than random"));
    heed_text_free(s->ctx, words);
    explained_free(e);
}

static void a_page_says_what_it_left_out(void **state)
{
    char *made = written(*state, EXPLAINED_LARGE, HEED_EXPLAIN_HTML);

    assert_non_null(strstr(
        made, "\"heads\":2,\"queries\":700,\"keys\":700,\"first\":0,\"rows\":0,\"cols\":0,\"kept\":\"all\""));
    assert_true(strlen(made) < 4000000);
    free(made);
}

/* A million weights are kept in all; beyond, an attention has its share or its mean. */
static void weights_beyond_a_million_become_means(void **state)
{
    scratch *s = *state;
    heed_explanation *e = explained_new(EXPLAINED_LARGE);
    heed_attention_record three[3] = { e->attentions[0], e->attentions[0], e->attentions[1] };
    size_t n;
    char *made;

    e->attentions = three;
    e->n_attentions = 3;
    assert_int_equal(heed_explanation_write(s->ctx, e, HEED_EXPLAIN_HTML, scratch_path(s, "l.html"), NULL),
                     HEED_OK);
    made = (char *)scratch_get(scratch_path(s, "l.html"), &n);
    assert_int_equal(count(made, "\"kept\":\"mean\""), 2);
    assert_int_equal(count(made, "\"kept\":\"all\""), 1);
    assert_true(n < 300000);
    free(made);
    explained_free(e);
}

static void no_picture_and_no_attention_are_drawn_as_far_as_they_go(void **state)
{
    scratch *s = *state;
    heed_explanation *e = explained_new(EXPLAINED_PLAIN);
    heed_error err = { 0 };
    char *made = written(s, EXPLAINED_PLAIN, HEED_EXPLAIN_HTML),
         *svg = written(s, EXPLAINED_PLAIN, HEED_EXPLAIN_SVG);
    char *json = written(s, EXPLAINED_PLAIN, HEED_EXPLAIN_JSON);

    assert_null(strstr(made, "id=\"attention\""));
    assert_non_null(strstr(json, "\"attentions\":[]}"));
    assert_null(strstr(json, "truth"));
    assert_null(strstr(svg, "nan"));
    assert_int_equal(heed_explanation_write(s->ctx, e, HEED_EXPLAIN_NPZ, "x.npz", &err), HEED_ERR_SPEC);
    assert_non_null(strstr(err.text, "no attention"));
    explained_free(e);
    free(made);
    free(svg);
    free(json);
}

static void json_has_the_shape_in_which_attention_is_exchanged(void **state)
{
    char *json = written(*state, EXPLAINED_POOL, HEED_EXPLAIN_JSON);
    const char *weights = strstr(json, "\"path\":\"pool\"");

    assert_non_null(weights);
    weights = strstr(weights, "\"weights\":");
    assert_memory_equal(weights, "\"weights\":[[[[", 14); /* [1][heads][queries][keys] */
    assert_non_null(strstr(json, "\"predicted\":{\"label\":8,\"class\":\"Bag\",\"probability\":0.62}"));
    assert_int_equal(count(json, "\n"), 1);
    assert_int_equal(json[strlen(json) - 1], '\n');
    free(json);
}

/* ---- the terminal ---- */

static void the_terminal_shows_what_the_file_says(void **state)
{
    static const char *const path = HEED_SOURCE_DIR "/tests/golden/draw/vit.txt";
    scratch *s = *state;
    heed_explanation *e = explained_new(EXPLAINED_VIT);
    char *words = NULL, *golden;
    size_t n;

    assert_int_equal(heed_explanation_text(&words, s->ctx, e, HEED_TERMINAL_ASCII, 80, NULL), HEED_OK);
    golden = (char *)scratch_get(path, &n);
    if (strcmp(words, golden) != 0) {
        scratch_put("vit.txt", words, strlen(words));
        fail_msg("the view differs from %s; what came out is in vit.txt", path);
    }
    free(golden);
    heed_text_free(s->ctx, words);
    explained_free(e);
}

static void no_line_is_wider_than_asked(void **state)
{
    scratch *s = *state;

    for (int k = EXPLAINED_VIT; k <= EXPLAINED_PLAIN; k++)
        for (int width = 20; width <= 200; width += width < 40 ? 1 : 37) {
            heed_explanation *e = explained_new((explained_kind)k);
            char *words = NULL;
            int columns = 0;

            assert_int_equal(heed_explanation_text(&words, s->ctx, e, HEED_TERMINAL_ASCII, width, NULL),
                             HEED_OK);
            for (const char *c = words; *c; c++) {
                columns = *c == '\n' ? 0 : columns + (((unsigned char)*c & 0xc0) != 0x80);
                if (columns > width)
                    fail_msg("kind %d, width %d: a line has %d columns", k, width, columns);
                assert_true(*c == '\n' || (unsigned char)*c >= 0x20);
            }
            heed_text_free(s->ctx, words);
            explained_free(e);
        }
}

/* Colours only: no name can move the cursor or clear the screen. */
static void a_terminal_gets_colours_and_no_other_code(void **state)
{
    scratch *s = *state;
    heed_explanation *e = explained_new(EXPLAINED_HOSTILE);
    char *words = NULL;

    assert_int_equal(heed_explanation_text(&words, s->ctx, e, HEED_TERMINAL_256, 100, NULL), HEED_OK);
    for (const char *c = words; (c = strchr(c, '\033')) != NULL;) {
        assert_int_equal(c[1], '[');
        for (c += 2; isdigit((unsigned char)*c) || *c == ';'; c++) {
        }
        assert_int_equal(*c, 'm');
    }
    assert_non_null(strstr(words, "\xe2\x96\x80"));
    heed_text_free(s->ctx, words);
    explained_free(e);
}

/* ---- sentences ---- */

static void a_sentence_is_filled_and_carries_its_key(void **state)
{
    scratch *s = *state;
    text t;

    heed__text_init(&t, s->ctx->heap, 0);
    heed__page_say(&t, "p class=\"x\"", "{0} of {1}, {2}", (const char *const[]){ "<a>", "\"b\"" }, 2);
    assert_string_equal(t.data,
                        "<p class=\"x\" data-i18n=\"{0} of {1}, {2}\" data-args=\"[&#34;&#60;a&#62;&#34;,"
                        "&#34;\\&#34;b\\&#34;&#34;]\">&#60;a&#62; of &#34;b&#34;, {2}</p>");
    heed__text_clear(&t);
    heed__page_base64(&t, "attention", 8);
    assert_string_equal(t.data, "YXR0ZW50aW8=");
    heed__text_clear(&t);
    heed__page_data(&t, "d", "[\"</script>\"]", 13);
    assert_string_equal(t.data,
                        "<script type=\"application/json\" id=\"d\">[\"\\u003c/script>\"]</script>\n");
    heed__text_release(&t);
}

/* ---- failures ---- */

typedef struct draw_story {
    heed_explanation *e;
    heed_explain_format format;
    char path[200];
} draw_story;

static heed_status draw_file(heed_context *ctx, void *user, heed_error *err)
{
    draw_story *w = user;
    return heed_explanation_write(ctx, w->e, w->format, w->path, err);
}

static void put_old(heed_context *ctx, void *user)
{
    draw_story *w = user;

    (void)ctx;
    scratch_put(w->path, "old", 3);
}

/* After a failure the old file is there; only the very last call may fail behind the new one. */
static bool old_or_whole(heed_context *ctx, void *user, heed_status st)
{
    draw_story *w = user;
    size_t n;
    uint8_t *now = scratch_get(w->path, &n);
    const bool old = n == 3 && memcmp(now, "old", 3) == 0;

    (void)ctx;
    free(now);
    return st == HEED_OK ? !old : old || n > 300;
}

static heed_status draw_words(heed_context *ctx, void *user, heed_error *err)
{
    draw_story *w = user;
    char *words = NULL, *json = NULL;
    heed_status st;

    STEP(heed_explanation_text(&words, ctx, w->e, HEED_TERMINAL_256, 70, err));
    STEP(heed_explanation_json(&json, ctx, w->e, err));
done:
    heed_text_free(ctx, words);
    heed_text_free(ctx, json);
    return st;
}

static void whatever_fails_the_old_file_stays(void **state)
{
    scratch *s = *state;
    draw_story w = { .e = explained_new(EXPLAINED_POOL) };
    heed_fail_report report;

    w.e->n_maps = 1; /* compressing pictures is what takes the time */

    for (int f = 0; f < HEED_EXPLAIN_FORMATS; f++) {
        char name[32];

        if (!built((heed_explain_format)f))
            continue;
        w.format = (heed_explain_format)f;
        snprintf(name, sizeof name, "explanation %s", ends[f]);
        snprintf(w.path, sizeof w.path, "%s/fail.%s", s->folder, ends[f]);
        assert_true(heed_fail_each(&(heed_scenario){ name, draw_file, put_old, old_or_whole }, &w, &report));
        assert_true(
            heed_fail_each_file(&(heed_scenario){ name, draw_file, put_old, old_or_whole }, &w, &report));
    }
    assert_true(heed_fail_each(&(heed_scenario){ "explanation text", draw_words, NULL, NULL }, &w, &report));
    explained_free(w.e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_is_uniform_and_grows_lighter_all_the_way),
        cmocka_unit_test(a_colour_of_the_terminal_is_the_nearest),
        cmocka_unit_test_setup_teardown(a_map_keeps_its_values_where_its_cells_are, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_drawing_has_the_same_bytes_each_time, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_png_has_the_picture_and_each_map_beside_it, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(names_from_outside_stay_words, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_page_has_three_scripts_and_they_are_its_own, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_page_refers_to_nothing_outside, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(every_view_says_that_weights_are_no_causes, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_page_says_what_it_left_out, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(weights_beyond_a_million_become_means, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(no_picture_and_no_attention_are_drawn_as_far_as_they_go,
                                        scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(json_has_the_shape_in_which_attention_is_exchanged, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(the_terminal_shows_what_the_file_says, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(no_line_is_wider_than_asked, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_terminal_gets_colours_and_no_other_code, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_sentence_is_filled_and_carries_its_key, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(whatever_fails_the_old_file_stays, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
