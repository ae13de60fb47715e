/* Pictures: what Pillow reads and makes of them, a corpus of rules, limits, and every call made to fail. */
#include "support/cmocka.h"
#include "base/error.h"
#include "support/corpus.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include <heed/data.h>
#include <heed/image.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(HEED_HAVE_PNG) && defined(HEED_HAVE_JPEG)
#define ALL_READERS 1
#else
#define ALL_READERS 0
#endif

#define GOLDEN HEED_SOURCE_DIR "/tests/golden/image/"

static heed_status read_as_is(heed_context *ctx, const char *path, heed_error *err)
{
    heed_tensor t;

    TRY(heed_image_read(&t, ctx, path, HEED_IMAGE_AS_IS, err));
    heed_data_free(ctx, &t);
    return HEED_OK;
}

/* A picture whose samples are (a * i + b) mod 251, in memory of its own: free its data. */
static heed_tensor pattern(int64_t c, int64_t h, int64_t w, int a, int b)
{
    heed_tensor t = { HEED_TYPE(HEED_U8, c, h, w), calloc((size_t)(c * h * w), 1) };

    for (int64_t i = 0; i < c * h * w; i++)
        ((uint8_t *)t.data)[i] = (uint8_t)((a * i + b) % 251);
    return t;
}

static void assert_type(heed_tensor t, int64_t c, int64_t h, int64_t w)
{
    const heed_type expected = HEED_TYPE(HEED_U8, c, h, w);

    assert_true(heed_type_equal(&t.type, &expected));
}

/* ---- what Pillow says ---- */

/* Reads `path` in a colour and compares with the next bytes of `golden`. */
static void assert_decoded(scratch *s, const char *path, heed_image_colour colour, int64_t c, int64_t h,
                           int64_t w, const uint8_t **golden)
{
    heed_tensor t;
    heed_error err = { 0 };

    if (heed_image_read(&t, s->ctx, path, colour, &err) != HEED_OK)
        fail_msg("%s: %s", path, err.text);
    assert_type(t, c, h, w);
    for (int64_t i = 0; i < c * h * w; i++)
        if (((uint8_t *)t.data)[i] != (*golden)[i])
            fail_msg("%s, colour %d: sample %d is %d, Pillow says %d", path, (int)colour, (int)i,
                     ((uint8_t *)t.data)[i], (*golden)[i]);
    *golden += c * h * w;
    heed_data_free(s->ctx, &t);
}

static bool reader_is_there(const char *name)
{
    const char *dot = strrchr(name, '.');

    for (const heed_feature *f = heed_features(); f->name; f++)
        if ((strcmp(dot, ".png") == 0 && strcmp(f->name, "png") == 0) ||
            (strcmp(dot, ".jpg") == 0 && strcmp(f->name, "jpeg") == 0))
            return f->present;
    return true;
}

static void every_picture_has_the_bytes_that_pillow_gives(void **state)
{
    scratch *s = *state;
    size_t n;
    uint8_t *bytes = scratch_get(GOLDEN "decode.bin", &n);
    const uint8_t *at = bytes;
    char line[200], path[400], name[100];
    FILE *table = fopen(GOLDEN "decode.tsv", "r");
    int files = 0, c, h, w;

    assert_non_null(table);
    while (fgets(line, sizeof line, table) && sscanf(line, "%99s %d %d %d", name, &c, &h, &w) == 4) {
        files++;
        if (!reader_is_there(name)) {
            at += (size_t)(c + 1 + 3) * (size_t)(h * w);
            continue;
        }
        snprintf(path, sizeof path, GOLDEN "%s", name);
        assert_decoded(s, path, HEED_IMAGE_AS_IS, c, h, w, &at);
        assert_decoded(s, path, HEED_IMAGE_GREY, 1, h, w, &at);
        assert_decoded(s, path, HEED_IMAGE_RGB, 3, h, w, &at);
    }
    fclose(table);
    assert_true(files >= 70);
    assert_int_equal(at - bytes, n);
    free(bytes);
}

static int word_of(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    fail_msg("%s", word);
    return -1;
}

static void every_resized_picture_has_the_bytes_that_pillow_gives(void **state)
{
    static const char *const filters[] = { "bilinear", "bicubic", "nearest", NULL }, *const fits[] = {
        "stretch", "crop", "pad", NULL
    };
    scratch *s = *state;
    size_t n;
    uint8_t *bytes = scratch_get(GOLDEN "resize.bin", &n);
    const uint8_t *at = bytes;
    char line[200], path[400], name[100], filter[20], fit[20];
    FILE *table = fopen(GOLDEN "resize.tsv", "r");
    int rows = 0, h, w, fill;

    assert_non_null(table);
    while (fgets(line, sizeof line, table) &&
           sscanf(line, "%99s %d %d %19s %19s %d", name, &h, &w, filter, fit, &fill) == 6) {
        heed_resize_opts opts = { .fill = (uint8_t)fill };
        heed_tensor from, to;
        heed_error err = { 0 };

        opts.filter = (heed_image_filter)word_of(filter, filters);
        opts.fit = (heed_image_fit)word_of(fit, fits);
        snprintf(path, sizeof path, GOLDEN "%s", name);
        if (!reader_is_there(name))
            break;
        assert_int_equal(heed_image_read(&from, s->ctx, path, HEED_IMAGE_AS_IS, NULL), HEED_OK);
        if (heed_image_resize(&to, s->ctx, from, h, w, &opts, &err) != HEED_OK)
            fail_msg("%s: %s", line, err.text);
        assert_type(to, from.type.dims[0], h, w);
        if (memcmp(to.data, at, (size_t)heed_type_count(&to.type)) != 0)
            fail_msg("%s: other bytes than Pillow's", line);
        at += heed_type_count(&to.type);
        heed_data_free(s->ctx, &to);
        heed_data_free(s->ctx, &from);
        rows++;
    }
    fclose(table);
    assert_true(!reader_is_there(".png") || (rows >= 150 && at == bytes + n));
    free(bytes);
}

/* ---- rules and limits of files ---- */

static void each_rule_has_files_that_end_with_its_code(void **state)
{
    scratch *s = *state;
    int files;

    if (!ALL_READERS)
        skip();
    assert_int_equal(corpus_replay(s->ctx, "image", "", read_as_is, &files), 0);
    assert_true(files >= 180);
}

static void a_reader_that_is_not_built_in_names_its_package(void **state)
{
    static const struct {
        const char *file, *package;
    } cases[] = { { GOLDEN "one_pixel.png", "libpng-dev" }, { GOLDEN "one_pixel.jpg", "libjpeg-dev" } };
    scratch *s = *state;

    if (ALL_READERS)
        skip();
    for (size_t i = 0; i < 2; i++) {
        heed_error err = { 0 };

        if (reader_is_there(cases[i].file))
            continue;
        assert_int_equal(read_as_is(s->ctx, cases[i].file, &err), HEED_ERR_MISSING);
        assert_non_null(strstr(err.text, cases[i].package));
    }
}

static heed_status read_with(const heed_limits *limits, const char *file)
{
    heed_context *ctx;
    heed_error err = { 0 };
    heed_status st;
    uint64_t bytes;

    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1, .limits = *limits }, NULL),
                     HEED_OK);
    bytes = heed_context_bytes(ctx);
    st = read_as_is(ctx, file, &err);
    assert_int_equal(heed_context_bytes(ctx), bytes);
    assert_int_equal(err.code, st);
    heed_context_free(ctx);
    return st;
}

/* 35 rows of 45 pixels. */
static void a_picture_at_a_limit_is_read_and_one_over_it_is_not(void **state)
{
    static const char *const files[] = { GOLDEN "420.jpg", GOLDEN "444_progressive.jpg" };

    (void)state;
    for (size_t i = 0; i < 2 && reader_is_there(".jpg"); i++) {
        assert_int_equal(read_with(&(heed_limits){ .image_side = 45 }, files[i]), HEED_OK);
        assert_int_equal(read_with(&(heed_limits){ .image_side = 44 }, files[i]), HEED_ERR_LIMIT);
        assert_int_equal(read_with(&(heed_limits){ .image_pixels = 35 * 45 }, files[i]), HEED_OK);
        assert_int_equal(read_with(&(heed_limits){ .image_pixels = 35 * 45 - 1 }, files[i]), HEED_ERR_LIMIT);
    }
    /* 41 rows of 67 pixels; 7 of 13 */
    assert_int_equal(read_with(&(heed_limits){ .image_side = 67 }, GOLDEN "noise.ppm"), HEED_OK);
    assert_int_equal(read_with(&(heed_limits){ .image_side = 66 }, GOLDEN "noise.ppm"), HEED_ERR_LIMIT);
    assert_int_equal(read_with(&(heed_limits){ .image_pixels = 41 * 67 - 1 }, GOLDEN "noise.ppm"),
                     HEED_ERR_LIMIT);
    assert_int_equal(read_with(&(heed_limits){ .file_bytes = 90 }, GOLDEN "noise.ppm"), HEED_ERR_LIMIT);
    if (reader_is_there(".png")) {
        assert_int_equal(read_with(&(heed_limits){ .image_side = 13 }, GOLDEN "rgb16.png"), HEED_OK);
        assert_int_equal(read_with(&(heed_limits){ .image_side = 12 }, GOLDEN "rgb16.png"), HEED_ERR_LIMIT);
        assert_int_equal(read_with(&(heed_limits){ .image_pixels = 7 * 13 }, GOLDEN "rgb16_interlaced.png"),
                         HEED_OK);
        assert_int_equal(
            read_with(&(heed_limits){ .image_pixels = 7 * 13 - 1 }, GOLDEN "rgb16_interlaced.png"),
            HEED_ERR_LIMIT);
    }
}

static void the_memory_of_libraries_counts_against_the_limit(void **state)
{
    (void)state;
    if (reader_is_there(".png"))
        assert_int_equal(read_with(&(heed_limits){ .memory_bytes = 30000 }, GOLDEN "filters.png"),
                         HEED_ERR_MEMORY);
    if (reader_is_there(".jpg"))
        assert_int_equal(read_with(&(heed_limits){ .memory_bytes = 20000 }, GOLDEN "444_progressive.jpg"),
                         HEED_ERR_MEMORY);
}

static void a_picture_is_known_by_its_name(void **state)
{
    static const char *const yes[] = { "a.png",  "a.PNG", "b/c.d.Jpg", "x.jpeg",
                                       "x.JPEG", "x.pgm", "x.ppm",     "x.pnm" },
                             *const no[] = { "",     "png",   ".png",   "a/.png",   "a.pngx",
                                             "a.pn", "a.gif", "a.png/", "a.png.gz", "a.p\xeeg" };

    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        assert_true(heed_image_named(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        assert_false(heed_image_named(no[i]));
}

static void grey_is_the_weighted_sum_and_rgb_of_grey_is_three_times_it(void **state)
{
    static const char colours[] = "P6 4 1 255\n\377\0\0\0\377\0\0\0\377\200\201\202",
                      grey[] = "P5 2 1 255\n\7\377";
    scratch *s = *state;
    heed_tensor t;

    assert_int_equal(heed_image_decode(&t, s->ctx, colours, sizeof colours - 1, NULL, HEED_IMAGE_GREY, NULL),
                     HEED_OK);
    assert_type(t, 1, 1, 4);
    assert_memory_equal(t.data, "\x4c\x96\x1d\x81", 4); /* 76, 150, 29; 0.299 128 + 0.587 129 + 0.114 130 */
    heed_data_free(s->ctx, &t);
    assert_int_equal(heed_image_decode(&t, s->ctx, colours, sizeof colours - 1, NULL, HEED_IMAGE_RGB, NULL),
                     HEED_OK);
    assert_memory_equal(t.data, "\377\0\0\200\0\377\0\201\0\0\377\202", 12);
    heed_data_free(s->ctx, &t);
    assert_int_equal(heed_image_decode(&t, s->ctx, grey, sizeof grey - 1, NULL, HEED_IMAGE_RGB, NULL),
                     HEED_OK);
    assert_type(t, 3, 1, 2);
    assert_memory_equal(t.data, "\7\377\7\377\7\377", 6);
    heed_data_free(s->ctx, &t);
}

static void a_refusal_names_the_file_and_leaves_the_output_alone(void **state)
{
    scratch *s = *state;
    heed_tensor t = { .data = s };
    heed_error err = { 0 };

    assert_int_equal(heed_image_decode(&t, s->ctx, "P5 2 2 255\nabc", 14, "cat.pgm", HEED_IMAGE_AS_IS, &err),
                     HEED_ERR_FORMAT);
    assert_string_equal(err.path, "cat.pgm");
    assert_non_null(strstr(err.text, "4 bytes"));
    assert_ptr_equal(t.data, s);
    assert_int_equal(heed_image_decode(&t, s->ctx, NULL, 0, NULL, HEED_IMAGE_AS_IS, NULL), HEED_ERR_FORMAT);
    assert_int_equal(heed_image_decode(&t, s->ctx, "P5 1 1 255\na", 12, NULL, (heed_image_colour)3, NULL),
                     HEED_ERR_USAGE);
    assert_int_equal(heed_image_read(&t, s->ctx, "/nowhere/at.png", HEED_IMAGE_AS_IS, NULL), HEED_ERR_IO);
    assert_ptr_equal(t.data, s);
}

/* ---- PNG out ---- */

static void a_png_reads_back_as_it_was_and_its_bytes_do_not_change(void **state)
{
    static const int64_t shapes[][3] = { { 1, 1, 1 },  { 3, 1, 1 },     { 1, 7, 300 },
                                         { 3, 64, 5 }, { 3, 130, 131 }, { 1, 1, 5000 } };
    scratch *s = *state;

    if (!reader_is_there(".png"))
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        heed_tensor from = pattern(shapes[i][0], shapes[i][1], shapes[i][2], 7 + (int)i * 31, 3), to;
        void *first, *second;
        size_t n, m;

        assert_int_equal(heed_image_encode_png(&first, &n, s->ctx, from, NULL), HEED_OK);
        assert_int_equal(heed_image_encode_png(&second, &m, s->ctx, from, NULL), HEED_OK);
        assert_int_equal(n, m);
        assert_memory_equal(first, second, n);
        assert_int_equal(heed_image_decode(&to, s->ctx, first, n, NULL, HEED_IMAGE_AS_IS, NULL), HEED_OK);
        assert_true(heed_type_equal(&from.type, &to.type));
        assert_memory_equal(from.data, to.data, (size_t)heed_type_count(&to.type));
        heed_data_free(s->ctx, &to);
        heed_bytes_free(s->ctx, first);
        heed_bytes_free(s->ctx, second);
        free(from.data);
    }
}

static void the_fourth_channel_is_written_as_alpha(void **state)
{
    scratch *s = *state;
    heed_tensor from = pattern(4, 3, 5, 11, 0), to;
    const char *path = scratch_path(s, "rgba.png");

    if (!reader_is_there(".png"))
        skip();
    assert_int_equal(heed_image_write_png(s->ctx, path, from, NULL), HEED_OK);
    assert_int_equal(heed_image_read(&to, s->ctx, path, HEED_IMAGE_AS_IS, NULL), HEED_OK);
    assert_type(to, 3, 3, 5);
    assert_memory_equal(from.data, to.data, 45);
    heed_data_free(s->ctx, &to);
    free(from.data);
}

static void what_is_no_picture_is_not_written(void **state)
{
    scratch *s = *state;
    heed_tensor t = pattern(3, 4, 4, 1, 0);
    void *bytes = s;
    size_t n = 7;

    if (!reader_is_there(".png"))
        skip();
    t.type = HEED_TYPE(HEED_F32, 1, 2, 2);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_DTYPE);
    t.type = HEED_TYPE(HEED_U8, 4, 4);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_SHAPE);
    t.type = HEED_TYPE(HEED_U8, 2, 4, 4);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_SHAPE);
    t.type = HEED_TYPE(HEED_U8, 1, 0, 4);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_SHAPE);
    t.type = HEED_TYPE(HEED_U8, 1, -1, 4);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_SHAPE);
    t.type = HEED_TYPE(HEED_U8, 1, 1, 65536);
    assert_int_equal(heed_image_encode_png(&bytes, &n, s->ctx, t, NULL), HEED_ERR_LIMIT);
    assert_ptr_equal(bytes, s);
    assert_int_equal(n, 7);
    free(t.data);
    heed_bytes_free(s->ctx, NULL);
}

/* ---- another size ---- */

static void the_same_size_gives_the_same_bytes(void **state)
{
    scratch *s = *state;
    heed_tensor from = pattern(3, 37, 300, 101, 5), to;

    for (int filter = HEED_IMAGE_BILINEAR; filter <= HEED_IMAGE_NEAREST; filter++)
        for (int fit = HEED_IMAGE_STRETCH; fit <= HEED_IMAGE_PAD; fit++) {
            const heed_resize_opts opts = { .fit = (heed_image_fit)fit,
                                            .filter = (heed_image_filter)filter,
                                            .fill = 9 };

            assert_int_equal(heed_image_resize(&to, s->ctx, from, 37, 300, &opts, NULL), HEED_OK);
            assert_memory_equal(from.data, to.data, 3 * 37 * 300);
            heed_data_free(s->ctx, &to);
        }
    free(from.data);
}

static void an_even_colour_stays_that_colour(void **state)
{
    static const int64_t sizes[][2] = {
        { 1, 1 }, { 3, 7 }, { 300, 2 }, { 2, 300 }, { 17, 1000 }, { 100, 100 }
    };
    scratch *s = *state;

    for (int v = 0; v <= 255; v += 51)
        for (size_t i = 0; i < 36; i++) {
            const int64_t *a = sizes[i / 6], *b = sizes[i % 6];
            const heed_resize_opts opts = { .filter = (heed_image_filter)(i % 3) };
            heed_tensor from = pattern(1, a[0], a[1], 0, 0), to;

            memset(from.data, v, (size_t)(a[0] * a[1]));
            assert_int_equal(heed_image_resize(&to, s->ctx, from, b[0], b[1], &opts, NULL), HEED_OK);
            for (int64_t k = 0; k < b[0] * b[1]; k++)
                assert_int_equal(((uint8_t *)to.data)[k], v);
            heed_data_free(s->ctx, &to);
            free(from.data);
        }
}

/* 2 x 4 pixels into 4 x 4: the picture fills rows 1 and 2. Into 2 x 2: the columns in the middle. */
static void pad_centres_and_fills_and_crop_takes_the_middle(void **state)
{
    scratch *s = *state;
    uint8_t samples[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    const heed_tensor from = { HEED_TYPE(HEED_U8, 1, 2, 4), samples };
    heed_resize_opts opts = { .fit = HEED_IMAGE_PAD, .fill = 77 };
    heed_tensor to;

    assert_int_equal(heed_image_resize(&to, s->ctx, from, 4, 4, &opts, NULL), HEED_OK);
    assert_memory_equal(to.data, "MMMM\1\2\3\4\5\6\7\10MMMM", 16);
    heed_data_free(s->ctx, &to);
    opts.fit = HEED_IMAGE_CROP;
    assert_int_equal(heed_image_resize(&to, s->ctx, from, 2, 2, &opts, NULL), HEED_OK);
    assert_memory_equal(to.data, "\2\3\6\7", 4);
    heed_data_free(s->ctx, &to);
}

static heed_status resize_to(scratch *s, heed_type type, int64_t h, int64_t w, heed_image_fit fit, int filter)
{
    uint8_t samples[4096] = { 0 };
    const heed_resize_opts opts = { .fit = fit, .filter = (heed_image_filter)filter };
    heed_tensor to = { .data = NULL };
    const heed_status st = heed_image_resize(&to, s->ctx, (heed_tensor){ type, samples }, h, w, &opts, NULL);

    heed_data_free(s->ctx, &to);
    return st;
}

static void sizes_that_no_picture_has_are_refused(void **state)
{
    scratch *s = *state;
    const heed_type t = HEED_TYPE(HEED_U8, 1, 4, 4), wide = HEED_TYPE(HEED_U8, 1, 1, 4096);

    assert_int_equal(resize_to(s, t, 0, 4, HEED_IMAGE_STRETCH, 0), HEED_ERR_SHAPE);
    assert_int_equal(resize_to(s, t, 4, -1, HEED_IMAGE_STRETCH, 0), HEED_ERR_SHAPE);
    assert_int_equal(resize_to(s, t, 1, 65535, HEED_IMAGE_STRETCH, 0), HEED_OK);
    assert_int_equal(resize_to(s, t, 1, 65536, HEED_IMAGE_STRETCH, 0), HEED_ERR_LIMIT);
    assert_int_equal(resize_to(s, t, 8001, 8000, HEED_IMAGE_STRETCH, 0), HEED_ERR_LIMIT);
    assert_int_equal(resize_to(s, t, INT64_MAX, INT64_MAX, HEED_IMAGE_PAD, 0), HEED_ERR_LIMIT);
    assert_int_equal(resize_to(s, HEED_TYPE(HEED_F32, 1, 4, 4), 4, 4, HEED_IMAGE_STRETCH, 0), HEED_ERR_DTYPE);
    assert_int_equal(resize_to(s, HEED_TYPE(HEED_U8, 4, 4), 4, 4, HEED_IMAGE_STRETCH, 0), HEED_ERR_SHAPE);
    assert_int_equal(resize_to(s, HEED_TYPE(HEED_U8, 1, 0, 4), 4, 4, HEED_IMAGE_STRETCH, 0), HEED_ERR_SHAPE);
    assert_int_equal(resize_to(s, t, 4, 4, (heed_image_fit)3, 0), HEED_ERR_USAGE);
    assert_int_equal(resize_to(s, t, 4, 4, HEED_IMAGE_PAD, 3), HEED_ERR_USAGE);
    /* 4096 x 1 that covers 15 rows is 61440 wide; 16 rows: 65536 */
    assert_int_equal(resize_to(s, wide, 15, 15, HEED_IMAGE_CROP, 2), HEED_OK);
    assert_int_equal(resize_to(s, wide, 15, 15, HEED_IMAGE_CROP, 1), HEED_OK);
    assert_int_equal(resize_to(s, wide, 16, 16, HEED_IMAGE_CROP, 2), HEED_ERR_LIMIT);
    assert_int_equal(resize_to(s, wide, 16, 16, HEED_IMAGE_PAD, 1), HEED_OK);
}

/* One row of 20,000 pixels to one column of 20,000: what lies between would be a picture of 400 million. */
static void no_pair_of_sizes_takes_more_memory_than_its_pictures(void **state)
{
    scratch *s = *state;
    heed_tensor flat = pattern(1, 1, 20000, 1, 0), tall = flat, to;

    tall.type = HEED_TYPE(HEED_U8, 1, 20000, 1);
    heed_context_peak_reset(s->ctx);
    for (int filter = HEED_IMAGE_BILINEAR; filter <= HEED_IMAGE_BICUBIC; filter++) {
        const heed_resize_opts opts = { .filter = (heed_image_filter)filter };

        assert_int_equal(heed_image_resize(&to, s->ctx, flat, 20000, 1, &opts, NULL), HEED_OK);
        heed_data_free(s->ctx, &to);
        assert_int_equal(heed_image_resize(&to, s->ctx, tall, 1, 20000, &opts, NULL), HEED_OK);
        heed_data_free(s->ctx, &to);
    }
    assert_true(heed_context_peak_bytes(s->ctx) < 8 << 20);
    free(flat.data);
}

/* ---- every call fails in turn ---- */

static heed_status scenario_read(heed_context *ctx, void *user, heed_error *err)
{
    heed_tensor t;

    TRY(heed_image_read(&t, ctx, user, HEED_IMAGE_GREY, err));
    heed_data_free(ctx, &t);
    return HEED_OK;
}

static heed_status scenario_resize(heed_context *ctx, void *user, heed_error *err)
{
    const heed_resize_opts opts = { .fit = HEED_IMAGE_CROP, .filter = *(const heed_image_filter *)user };
    heed_tensor from = pattern(3, 40, 50, 7, 1), to = { .data = NULL };
    const heed_status st = heed_image_resize(&to, ctx, from, 9, 30, &opts, err);

    heed_data_free(ctx, &to);
    free(from.data);
    return st;
}

static heed_status scenario_write(heed_context *ctx, void *user, heed_error *err)
{
    heed_tensor from = pattern(3, 40, 300, 7, 1);
    const heed_status st = heed_image_write_png(ctx, user, from, err);

    free(from.data);
    return st;
}

static void write_prepare(heed_context *ctx, void *user)
{
    (void)ctx;
    scratch_put(user, "old", 3);
}

static bool nothing_outside_changes(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    (void)st;
    return true; /* a close that fails after reading harms nothing */
}

/* The old bytes, or the whole new picture: which may stand there although the last step failed. */
static bool old_or_new(heed_context *ctx, void *user, heed_status st)
{
    size_t n;
    uint8_t *bytes = scratch_get(user, &n);
    heed_tensor t;
    const bool old = n == 3 && memcmp(bytes, "old", 3) == 0;
    bool whole = false;

    free(bytes);
    if (!old) {
        heed_context *other;

        (void)ctx; /* its calls fail on purpose */
        whole = heed_context_new(&other, &(heed_context_opts){ .threads = 1 }, NULL) == HEED_OK;
        whole = whole && heed_image_read(&t, other, user, HEED_IMAGE_AS_IS, NULL) == HEED_OK;
        if (whole)
            heed_data_free(other, &t);
        heed_context_free(other);
    }
    return st == HEED_OK ? whole : old || whole;
}

static void reading_survives_each_failing_call(void **state)
{
    static const struct {
        const char *file;
        uint64_t calls;
    } cases[] = {
        { GOLDEN "most_6.pgm", 3 }, { GOLDEN "binary.ppm", 3 },
        { GOLDEN "rgb16.png", 6 },  { GOLDEN "palette4_interlaced.png", 6 },
        { GOLDEN "420.jpg", 20 },   { GOLDEN "444_progressive.jpg", 20 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const heed_scenario scenario = { strrchr(cases[i].file, '/') + 1, scenario_read, NULL,
                                         nothing_outside_changes };
        heed_fail_report report;

        if (!reader_is_there(cases[i].file))
            continue;
        if (!heed_fail_each(&scenario, (void *)cases[i].file, &report))
            fail_msg("%s", report.first_bad);
        assert_true(report.calls >= cases[i].calls);
        assert_true(heed_fail_each_file(&scenario, (void *)cases[i].file, &report));
    }
}

static void resizing_survives_each_failing_call(void **state)
{
    (void)state;
    for (int filter = HEED_IMAGE_BILINEAR; filter <= HEED_IMAGE_NEAREST; filter++) {
        heed_image_filter user = (heed_image_filter)filter;
        const heed_scenario scenario = { "image_resize", scenario_resize, NULL, NULL };
        heed_fail_report report;

        assert_true(heed_fail_each(&scenario, &user, &report));
        assert_true(report.calls >= 3);
    }
}

static void writing_survives_each_failing_call(void **state)
{
    scratch *s = *state;
    char path[200];
    const heed_scenario scenario = { "image_write_png", scenario_write, write_prepare, old_or_new };
    heed_fail_report report;

    if (!reader_is_there(".png"))
        skip();
    snprintf(path, sizeof path, "%s", scratch_path(s, "out.png"));
    if (!heed_fail_each(&scenario, path, &report))
        fail_msg("%s", report.first_bad);
    assert_true(report.calls >= 6);
    if (!heed_fail_each_file(&scenario, path, &report))
        fail_msg("%s", report.first_bad);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_picture_has_the_bytes_that_pillow_gives),
        TEST(every_resized_picture_has_the_bytes_that_pillow_gives),
        TEST(each_rule_has_files_that_end_with_its_code),
        TEST(a_reader_that_is_not_built_in_names_its_package),
        TEST(a_picture_at_a_limit_is_read_and_one_over_it_is_not),
        TEST(the_memory_of_libraries_counts_against_the_limit),
        TEST(a_picture_is_known_by_its_name),
        TEST(grey_is_the_weighted_sum_and_rgb_of_grey_is_three_times_it),
        TEST(a_refusal_names_the_file_and_leaves_the_output_alone),
        TEST(a_png_reads_back_as_it_was_and_its_bytes_do_not_change),
        TEST(the_fourth_channel_is_written_as_alpha),
        TEST(what_is_no_picture_is_not_written),
        TEST(the_same_size_gives_the_same_bytes),
        TEST(an_even_colour_stays_that_colour),
        TEST(pad_centres_and_fills_and_crop_takes_the_middle),
        TEST(sizes_that_no_picture_has_are_refused),
        TEST(no_pair_of_sizes_takes_more_memory_than_its_pictures),
        TEST(reading_survives_each_failing_call),
        TEST(resizing_survives_each_failing_call),
        TEST(writing_survives_each_failing_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
