/* Charts: a whole one against a file, ticks, gaps, names from outside, and what has no values. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/fail_each.h"
#include "explain/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 6

static const double epochs[N] = { 1, 2, 3, 4, 5, 6 };
static const double training[N] = { 2.31, 1.2, 0.8, 0.62, 0.55, 0.51 };
static const double validation[N] = { 2.1, 1.3, NAN, 0.9, 0.87, 0.885 };
static const double low[N] = { 1.9, 1.1, NAN, 0.8, 0.8, 0.8 };
static const double high[N] = { 2.3, 1.5, NAN, 1, 0.95, 0.97 };
static const double chance[N] = { 2.303, 2.303, 2.303, 2.303, 2.303, 2.303 };

static int setup(void **state)
{
    heed_context *ctx = NULL;

    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, NULL), HEED_OK);
    *state = ctx;
    return 0;
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

static chart losses(chart_line lines[3])
{
    lines[0] = (chart_line){ .name = "training", .x = epochs, .y = training, .n = N };
    lines[1] =
        (chart_line){ .name = "validation", .x = epochs, .y = validation, .n = N, .low = low, .high = high };
    lines[2] = (chart_line){ .name = "chance", .x = epochs, .y = chance, .n = N, .dashed = true };
    return (chart){ .title = "Loss",
                    .x_name = "epoch",
                    .y_name = "cross-entropy",
                    .lines = lines,
                    .n_lines = 3,
                    .points = true };
}

/* Owned by the text. */
static void draw(text *t, void **state, const chart *c)
{
    heed__text_init(t, ((heed_context *)*state)->heap, 0);
    heed__chart_svg(t, c);
    assert_int_equal(t->failed, HEED_OK);
    assert_null(strstr(t->data, "nan"));
    assert_null(strstr(t->data, "inf"));
}

static int count(const char *in, const char *words)
{
    int n = 0;

    for (; (in = strstr(in, words)); in += strlen(words))
        n++;
    return n;
}

/* A change that is meant: look at the new one, then copy it over the old one. */
static void a_chart_is_the_one_that_was_looked_at(void **state)
{
    static const char *const path = HEED_SOURCE_DIR "/tests/golden/chart/loss.svg";
    chart_line lines[3];
    chart c = losses(lines);
    char *golden = calloc(1, 1 << 20);
    FILE *file = fopen(path, "rb");
    text t;

    c.alone = true;
    draw(&t, state, &c);
    if (file) {
        golden[fread(golden, 1, (1 << 20) - 1, file)] = 0;
        fclose(file);
    }
    if (strcmp(golden, t.data) != 0) {
        file = fopen(HEED_BUILD_DIR "/loss.svg", "wb");
        assert_non_null(file);
        fwrite(t.data, 1, t.size, file);
        fclose(file);
        fail_msg("%s/loss.svg differs from %s", HEED_BUILD_DIR, path);
    }
    free(golden);
    heed__text_release(&t);
}

static void names_from_outside_stay_text(void **state)
{
    const chart_line lines[2] = {
        { .name = "<script>alert(1)</script>", .x = epochs, .y = training, .n = N },
        { .name = "\" onload='x' \xff\x01 & \xe6\xb3\xa8\xe6\x84\x8f", .x = epochs, .y = training, .n = N },
    };
    const chart c = {
        .title = "</svg><b>", .x_name = "<i>", .y_name = "a\"b'c&d", .lines = lines, .n_lines = 2
    };
    text t;

    draw(&t, state, &c);
    assert_null(strstr(t.data, "<script"));
    assert_null(strstr(t.data, "<b>"));
    assert_null(strstr(t.data, "<i>"));
    assert_null(strchr(t.data, '\''));
    assert_null(strchr(t.data, '\x01'));
    assert_int_equal(count(t.data, "</svg>"), 2); /* the plot and the chart */
    assert_non_null(strstr(t.data, "a&#34;b&#39;c&#38;d"));
    assert_non_null(strstr(t.data, "&#34; onload=&#39;x&#39; \xef\xbf\xbd\xef\xbf\xbd &#38; \xe6\xb3\xa8"));
    heed__text_release(&t);
}

static void long_names_are_cut_and_kept_whole_in_their_title(void **state)
{
    const char *name = "a name of a class that is so long that no chart has room for it beside its lines";
    const chart_line lines[2] = { { .name = name, .x = epochs, .y = training, .n = N },
                                  { .name = "b", .x = epochs, .y = training, .n = N } };
    const chart c = { .title = "t", .x_name = "x", .y_name = "y", .lines = lines, .n_lines = 2 };
    text t;

    draw(&t, state, &c);
    assert_int_equal(count(t.data, name), 2); /* <desc> and <title> */
    assert_int_equal(count(t.data, "\xe2\x80\xa6"), 1);
    heed__text_release(&t);
}

static void ticks_are_round_and_epochs_whole(void **state)
{
    const double x[2] = { 1, 2 }, y[2] = { 0.013, 0.487 };
    const chart_line line = { .name = "lr", .x = x, .y = y, .n = 2 };
    const chart c = { .title = "t", .x_name = "epoch", .y_name = "lr", .lines = &line, .n_lines = 1 };
    text t;

    draw(&t, state, &c);
    for (const char *const *tick = (const char *const[]){ "0.0", "0.1", "0.5", "1", "2", NULL }; *tick;
         tick++) {
        char in[16];

        snprintf(in, sizeof in, ">%s</text>", *tick);
        assert_int_equal(count(t.data, in), 1);
    }
    assert_null(strstr(t.data, ">1.5<"));
    heed__text_release(&t);
}

static void very_small_and_very_large_values_keep_short_ticks(void **state)
{
    const double x[2] = { 0, 5e9 }, y[2] = { 1e-7, 9e-7 };
    const chart_line line = { .name = "lr", .x = x, .y = y, .n = 2 };
    const chart c = { .title = "t", .x_name = "step", .y_name = "lr", .lines = &line, .n_lines = 1 };
    text t;

    draw(&t, state, &c);
    assert_non_null(strstr(t.data, ">2e-07</text>"));
    assert_non_null(strstr(t.data, ">1000000000</text>"));
    heed__text_release(&t);
}

static void a_gap_parts_the_line_and_a_lonely_value_is_a_mark(void **state)
{
    const double x[5] = { 1, 2, 3, 4, 5 }, y[5] = { 1, 2, NAN, 4, NAN };
    const chart_line line = { .name = "a", .x = x, .y = y, .n = 5 };
    const chart c = { .title = "t", .x_name = "x", .y_name = "y", .lines = &line, .n_lines = 1 };
    text t;

    draw(&t, state, &c);
    assert_int_equal(count(t.data, "<circle"), 1);
    assert_int_equal(count(t.data, "stroke-linejoin"), 1);
    heed__text_release(&t);
}

static void without_values_the_chart_says_so(void **state)
{
    const double none[2] = { NAN, INFINITY }, same[2] = { 3, 3 };
    chart_line line = { .name = "a", .x = none, .y = none, .n = 2 };
    chart c = { .title = "t", .x_name = "x", .y_name = "y", .lines = &line, .n_lines = 1 };
    text t;

    draw(&t, state, &c);
    assert_non_null(strstr(t.data, "no values</text>"));
    heed__text_release(&t);
    c.n_lines = 0;
    draw(&t, state, &c);
    assert_non_null(strstr(t.data, "no values</text>"));
    heed__text_release(&t);
    c.n_lines = 1; /* one point: ends are made around it */
    line.x = line.y = same;
    line.n = 1;
    draw(&t, state, &c);
    assert_int_equal(count(t.data, "<circle"), 1);
    heed__text_release(&t);
}

static void long_curves_take_few_bytes(void **state)
{
    enum { POINTS = 20000 };
    double *x = calloc(POINTS, sizeof *x);
    chart_line line = { .name = "roc", .x = x, .y = x, .n = POINTS };
    const chart c = {
        .title = "t", .x_name = "x", .y_name = "y", .lines = &line, .n_lines = 1, .x_max = 1, .y_max = 1
    };
    text t;

    for (int i = 0; i < POINTS; i++)
        x[i] = (double)i / (POINTS - 1);
    draw(&t, state, &c);
    assert_true(t.size < 20000);
    assert_non_null(strstr(t.data, "L414,0\"")); /* the last one is there */
    heed__text_release(&t);
    free(x);
}

/* Beyond 2^53 steps a count no longer moves by one; metrics.jsonl of somebody else may hold such numbers. */
static void values_that_differ_in_their_last_digits_are_one_value(void **state)
{
    static const double beside[][2] = { { 1e17, 1e17 + 16 }, { -1e300, -1e300 }, { 0, 5e-324 },
                                        { 5e-324, 5e-324 }, { -1e-310, 1e-310 }, { 1e308, 1e308 },
                                        { -1.7e308, 1.7e308 } };

    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        const chart_line line = { .name = "a", .x = epochs, .y = beside[i], .n = 2 };
        text t;

        draw(&t, state, &(chart){ .title = "Loss", .x_name = "x", .y_name = "y", .lines = &line, .n_lines = 1 });
        assert_true(t.size < 8000);
        heed__text_release(&t);
    }
}

static heed_status draw_losses(heed_context *ctx, void *user, heed_error *err)
{
    chart_line lines[3];
    const chart c = losses(lines);
    heed_status st;
    text t;

    (void)user;
    heed__text_init(&t, ctx->heap, 0);
    heed__chart_svg(&t, &c);
    st = t.failed ? heed__fail(err, t.failed, "no room for a chart") : HEED_OK;
    heed__text_release(&t);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&(heed_scenario){ .name = "a chart", .run = draw_losses }, NULL, &report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_chart_is_the_one_that_was_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(names_from_outside_stay_text, setup, teardown),
        cmocka_unit_test_setup_teardown(long_names_are_cut_and_kept_whole_in_their_title, setup, teardown),
        cmocka_unit_test_setup_teardown(ticks_are_round_and_epochs_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(very_small_and_very_large_values_keep_short_ticks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gap_parts_the_line_and_a_lonely_value_is_a_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(without_values_the_chart_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(long_curves_take_few_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(values_that_differ_in_their_last_digits_are_one_value, setup, teardown),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
