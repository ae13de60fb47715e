/* Folders of pictures: what is a class, a part and a picture; what each becomes; and the sentence for whatever is
 * wrong. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- making folders ---- */

/* Makes the folders of a path below the scratch folder, and gives the path. */
static const char *place(scratch *s, const char *name)
{
    static char path[400];

    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    for (char *c = path + strlen(s->folder) + 1; *c; c++)
        if (*c == '/') {
            *c = 0;
            (void)mkdir(path, 0700);
            *c = '/';
        }
    return path;
}

/* A PGM or PPM whose pixel k is (seed + 7 k) mod 256; channels 1 or 3. */
static void put_picture(scratch *s, const char *name, int channels, int height, int width, int seed)
{
    uint8_t *bytes = malloc(64 + (size_t)(channels * height * width));
    int n = sprintf((char *)bytes, "P%d\n%d %d\n255\n", channels == 1 ? 5 : 6, width, height);

    for (int k = 0; k < channels * height * width; k++)
        bytes[n++] = (uint8_t)(seed + 7 * k);
    scratch_put(place(s, name), bytes, (size_t)n);
    free(bytes);
}

/* n grey pictures side x side in set/CLASS/000.pgm ... for three classes; seeds are all different. */
static void put_classes(scratch *s, const char *set, int n, int side)
{
    static const char *const classes[] = { "ant", "bee", "cat" };
    char name[200];

    for (int c = 0; c < 3; c++)
        for (int i = 0; i < n; i++) {
            snprintf(name, sizeof name, "%s/%s/%03d.pgm", set, classes[c], i);
            put_picture(s, name, 1, side, side, 1 + c + 3 * i);
        }
}

static const char *at(const scratch *s, const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    return path;
}

static heed_dataset *opened(scratch *s, const char *name, heed_dataset_opts opts)
{
    heed_dataset *d = NULL;

    TOY_OK(heed_dataset_open(&d, s->ctx, at(s, name), &opts, TOY_ERR));
    return d;
}

static void assert_refused(scratch *s, const char *name, heed_dataset_opts opts, heed_status code,
                           const char *words)
{
    heed_dataset *d = NULL;
    heed_error err = { 0 };
    const heed_status st = heed_dataset_open(&d, s->ctx, at(s, name), &opts, &err);

    if (st != code || err.code != code || !strstr(err.text, words))
        fail_msg("%s: %s \"%s\" (%s) instead of %s \"%s\"", name, heed_status_name(st), err.text, err.path,
                 heed_status_name(code), words);
    assert_null(d);
}

#define SIZE(c, h, w) .channels = c, .height = h, .width = w

/* ---- layouts ---- */

static void classes_are_folders_in_bytewise_order_and_pictures_in_that_of_names(void **state)
{
    scratch *s = *state;
    heed_dataset *d;
    static const char *const sources[] = { "B/x.pgm", "a/10.pgm", "a/2.pgm", "a/deep/er/1.ppm", "b/1.PNM" };

    put_picture(s, "set/a/2.pgm", 1, 4, 4, 1);
    put_picture(s, "set/a/10.pgm", 1, 4, 4, 2);
    put_picture(s, "set/a/deep/er/1.ppm", 3, 4, 4, 3);
    put_picture(s, "set/B/x.pgm", 1, 4, 4, 4);
    put_picture(s, "set/b/1.PNM", 1, 4, 4, 5);
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) });
    assert_int_equal(heed_dataset_kind_of(d), HEED_DATASET_FOLDER);
    assert_int_equal(heed_dataset_classes(d), 3);
    assert_string_equal(heed_dataset_class(d, 0), "B");
    assert_string_equal(heed_dataset_class(d, 1), "a");
    assert_string_equal(heed_dataset_class(d, 2), "b");
    assert_string_equal(heed_dataset_class(d, 3), "");
    assert_string_equal(heed_dataset_class(d, -1), "");
    assert_int_equal(heed_dataset_count(d), 5);
    for (int i = 0; i < 5; i++)
        assert_string_equal(heed_dataset_source(d, i), sources[i]);
    assert_int_equal(heed_dataset_label(d, 0), 0);
    assert_int_equal(heed_dataset_label(d, 3), 1);
    assert_int_equal(heed_dataset_label(d, 4), 2);
    assert_string_equal(heed_dataset_source(d, 5), "");
    heed_dataset_free(d);
}

static void hidden_names_and_files_that_are_no_pictures_are_passed_over_and_counted(void **state)
{
    scratch *s = *state;
    heed_data_report *r = NULL;
    heed_dataset *d;

    put_classes(s, "set", 2, 4);
    put_picture(s, "set/ant/.hidden.pgm", 1, 4, 4, 99);
    put_picture(s, "set/.git/x.pgm", 1, 4, 4, 99);
    put_picture(s, "set/top.pgm", 1, 4, 4, 99);
    scratch_put(place(s, "set/ant/notes.txt"), "x", 1);
    scratch_put(place(s, "set/README"), "x", 1);
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) });
    assert_int_equal(heed_dataset_count(d), 6);
    heed_dataset_free(d);
    TOY_OK(heed_data_check(&r, s->ctx, at(s, "set"), NULL, TOY_ERR));
    assert_int_equal(r->pictures, 6);
    assert_int_equal(r->hidden, 2);
    assert_int_equal(r->others, 2);
    assert_int_equal(r->outside, 1);
    heed_data_report_free(s->ctx, r);
}

static void parts_of_its_own_are_what_they_are(void **state)
{
    static const char *const names[] = { "val", "valid", "validation" };
    scratch *s = *state;
    heed_dataset *d;
    char set[32], part[64];

    for (int k = 0; k < 3; k++) {
        int64_t train[20], held[20], n_train, n_held;

        snprintf(set, sizeof set, "set%d", k);
        snprintf(part, sizeof part, "%s/train", set);
        put_classes(s, part, 4, 4);
        snprintf(part, sizeof part, "%s/%s", set, names[k]);
        put_classes(s, part, 2, 5);
        snprintf(part, sizeof part, "%s/test", set);
        put_classes(s, part, 1, 6);
        d = opened(s, set, (heed_dataset_opts){ SIZE(1, 4, 4), .validation = 0.5, .test = 0.5 });
        assert_int_equal(heed_dataset_count(d), 18);
        TOY_OK(heed_dataset_split(d, 0.5, train, &n_train, held, &n_held, TOY_ERR));
        assert_int_equal(n_train, 12);
        assert_int_equal(n_held, 6);
        for (int i = 0; i < 6; i++)
            assert_non_null(strstr(heed_dataset_source(d, held[i]), names[k]));
        heed_dataset_free(d);
        d = opened(s, set, (heed_dataset_opts){ SIZE(1, 4, 4), .part = HEED_PART_TEST, .validation = 0.5 });
        assert_int_equal(heed_dataset_count(d), 3);
        assert_string_equal(heed_dataset_source(d, 2), "test/cat/000.pgm");
        assert_int_equal(heed_dataset_label(d, 2), 2);
        heed_dataset_free(d);
    }
}

static void a_class_may_be_called_train(void **state)
{
    scratch *s = *state;
    heed_dataset *d;

    put_picture(s, "set/train/1.pgm", 1, 4, 4, 1);
    put_picture(s, "set/bus/1.pgm", 1, 4, 4, 2);
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) });
    assert_int_equal(heed_dataset_classes(d), 2);
    assert_string_equal(heed_dataset_class(d, 1), "train");
    heed_dataset_free(d);
}

static void idx_files_are_recognised(void **state)
{
    scratch *s = *state;
    heed_dataset *d;

    place(s, "idx/");
    toy_write_idx(at(s, "idx"), 10, 5);
    d = opened(s, "idx", (heed_dataset_opts){ .part = HEED_PART_TRAIN });
    assert_int_equal(heed_dataset_kind_of(d), HEED_DATASET_IDX);
    assert_int_equal(heed_dataset_count(d), 10);
    assert_string_equal(heed_dataset_class(d, 0), "");
    assert_string_equal(heed_dataset_source(d, 0), "");
    heed_dataset_free(d);
    d = opened(s, "idx", (heed_dataset_opts){ .part = HEED_PART_WHOLE });
    assert_int_equal(heed_dataset_count(d), 5);
    heed_dataset_free(d);
    assert_refused(s, "idx", (heed_dataset_opts){ .kind = HEED_DATASET_FOLDER }, HEED_ERR_FORMAT,
                   "no picture in it");
}

static void given_classes_keep_their_numbers(void **state)
{
    scratch *s = *state;
    heed_dataset *d;

    put_classes(s, "set", 1, 4);
    d = opened(
        s, "set",
        (heed_dataset_opts){ SIZE(1, 4, 4), .classes = (const char *const[]){ "cat", "ant", "bee", NULL } });
    assert_string_equal(heed_dataset_class(d, 0), "cat");
    assert_int_equal(heed_dataset_label(d, 0), 1);
    assert_string_equal(heed_dataset_source(d, 0), "ant/000.pgm");
    heed_dataset_free(d);
    assert_refused(
        s, "set",
        (heed_dataset_opts){ SIZE(1, 4, 4), .classes = (const char *const[]){ "cat", "ant", NULL } },
        HEED_ERR_FORMAT, "bee is no class that is known: the folder has ant, bee, cat; known are cat, ant");
    assert_refused(s, "set",
                   (heed_dataset_opts){
                       SIZE(1, 4, 4), .classes = (const char *const[]){ "ant", "bee", "cat", "dog", NULL } },
                   HEED_ERR_FORMAT, "class dog has no picture to train on");
}

/* ---- pictures ---- */

static void pictures_get_the_channels_and_size_that_are_asked_for(void **state)
{
    scratch *s = *state;
    heed_dataset *d;
    heed_tensor whole, sized;
    const uint8_t *p;

    put_picture(s, "set/a/colour.ppm", 3, 4, 4, 10);
    put_picture(s, "set/b/large.pgm", 1, 9, 7, 20);
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) });
    p = heed_dataset_image(d, 0);
    for (int k = 0; k < 16; k++) {
        const unsigned r = (uint8_t)(10 + 21 * k), g = (uint8_t)(17 + 21 * k), b = (uint8_t)(24 + 21 * k);

        assert_int_equal(p[k], (19595 * r + 38470 * g + 7471 * b + 32768) >> 16);
    }
    TOY_OK(heed_image_read(&whole, s->ctx, at(s, "set/b/large.pgm"), HEED_IMAGE_AS_IS, TOY_ERR));
    TOY_OK(heed_image_resize(&sized, s->ctx, whole, 4, 4, NULL, TOY_ERR));
    assert_memory_equal(heed_dataset_image(d, 1), sized.data, 16);
    heed_data_free(s->ctx, &sized);
    heed_dataset_free(d);
    for (int fit = HEED_IMAGE_STRETCH; fit <= HEED_IMAGE_PAD; fit++) {
        d = opened(s, "set", (heed_dataset_opts){ SIZE(3, 6, 6), .fit = (heed_image_fit)fit });
        TOY_OK(heed_image_resize(&sized, s->ctx, whole, 6, 6,
                                 &(heed_resize_opts){ .fit = (heed_image_fit)fit }, TOY_ERR));
        for (int c = 0; c < 3; c++)
            assert_memory_equal(heed_dataset_image(d, 1) + 36 * c, sized.data, 36);
        heed_data_free(s->ctx, &sized);
        heed_dataset_free(d);
    }
    heed_data_free(s->ctx, &whole);
}

static void without_a_size_the_median_picture_decides(void **state)
{
    static const struct {
        int height, width;
        int64_t side;
    } cases[] = { { 20, 40, 32 }, { 32, 32, 32 }, { 33, 80, 64 }, { 70, 65, 96 }, { 200, 150, 96 } };
    scratch *s = *state;
    char set[32], name[64];
    heed_type t;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_dataset *d;

        snprintf(set, sizeof set, "set%zu", i);
        for (int k = 0; k < 6; k++) { /* one of six is far off, and does not count */
            snprintf(name, sizeof name, "%s/%d/%d.pgm", set, k % 2, k);
            put_picture(s, name, k == 5 && i == 4 ? 3 : 1, k == 0 ? 400 : cases[i].height,
                        k == 0 ? 400 : cases[i].width, k);
        }
        d = opened(s, set, (heed_dataset_opts){ .channels = 0 });
        t = heed_dataset_image_type(d);
        assert_int_equal(t.dims[1], cases[i].side);
        assert_int_equal(t.dims[2], cases[i].side);
        assert_int_equal(t.dims[0], i == 4 ? 3 : 1);
        heed_dataset_free(d);
    }
}

static void digest_of(const heed_dataset *d, uint8_t out[32])
{
    const heed_type t = heed_dataset_image_type(d);
    sha256 h;

    heed__sha256_init(&h);
    for (int64_t i = 0; i < heed_dataset_count(d); i++) {
        const int64_t label = heed_dataset_label(d, i);

        heed__sha256_add(&h, heed_dataset_image(d, i), (size_t)heed_type_count(&t));
        heed__sha256_add(&h, &label, sizeof label);
        heed__sha256_add(&h, heed_dataset_source(d, i), strlen(heed_dataset_source(d, i)));
    }
    heed__sha256_end(&h, out);
}

static void any_number_of_threads_gives_the_same_set(void **state)
{
    scratch *s = *state;
    uint8_t first[32], other[32];
    heed_dataset *d;

    put_classes(s, "set", 50, 11); /* more than one batch of files */
    d = opened(s, "set", (heed_dataset_opts){ SIZE(3, 8, 9) });
    digest_of(d, first);
    heed_dataset_free(d);
    for (int threads = 2; threads <= 5; threads += 3) {
        heed_context *ctx = toy_context(threads, HEED_ISA_AUTO);

        TOY_OK(heed_dataset_open(&d, ctx, at(s, "set"), &(heed_dataset_opts){ SIZE(3, 8, 9) }, TOY_ERR));
        digest_of(d, other);
        assert_memory_equal(first, other, 32);
        heed_dataset_free(d);
        heed_context_free(ctx);
    }
}

/* ---- splits ---- */

/* Which side each of the 60 pictures of set/ is on: 't', 'v' or 'x'; by source, in the order of reading. */
static void sides(scratch *s, const char *set, int64_t side, char out[61])
{
    const heed_dataset_opts opts = { SIZE(1, side, side), .validation = 0.2, .test = 0.3 };
    heed_dataset_opts whole = opts, test = opts;
    int64_t train[60], held[60], n_train, n_held;
    heed_dataset *all, *d, *x;

    whole.part = HEED_PART_WHOLE;
    test.part = HEED_PART_TEST;
    all = opened(s, set, whole);
    d = opened(s, set, opts);
    x = opened(s, set, test);
    assert_int_equal(heed_dataset_count(all), 60);
    assert_int_equal(heed_dataset_count(d) + heed_dataset_count(x), 60);
    TOY_OK(heed_dataset_split(d, 0.2, train, &n_train, held, &n_held, TOY_ERR));
    memset(out, '?', 60);
    out[60] = 0;
    for (int i = 0; i < 60; i++) {
        for (int64_t k = 0; k < n_train; k++)
            if (strcmp(heed_dataset_source(all, i), heed_dataset_source(d, train[k])) == 0)
                out[i] = 't';
        for (int64_t k = 0; k < n_held; k++)
            if (strcmp(heed_dataset_source(all, i), heed_dataset_source(d, held[k])) == 0)
                out[i] = 'v';
        for (int64_t k = 0; k < heed_dataset_count(x); k++)
            if (strcmp(heed_dataset_source(all, i), heed_dataset_source(x, k)) == 0) {
                assert_int_equal(out[i], '?');
                out[i] = 'x';
            }
        assert_int_not_equal(out[i], '?');
    }
    heed_dataset_free(x);
    heed_dataset_free(d);
    heed_dataset_free(all);
}

static void every_picture_is_on_one_side_whatever_its_size_and_name(void **state)
{
    scratch *s = *state;
    char eight[61], five[61], renamed[61];

    put_classes(s, "set", 20, 8);
    sides(s, "set", 8, eight);
    sides(s, "set", 5, five);
    assert_string_equal(eight, five);
    assert_non_null(strchr(eight, 't'));
    assert_non_null(strchr(eight, 'v'));
    assert_non_null(strchr(eight, 'x'));
    for (int i = 0; i < 20; i++) { /* backwards: the same pictures in another order */
        static const char *const classes[] = { "ant", "bee", "cat" };
        char name[64];

        for (int c = 0; c < 3; c++) {
            snprintf(name, sizeof name, "other/%s/%03d.pgm", classes[c], 19 - i);
            put_picture(s, name, 1, 8, 8, 1 + c + 3 * i);
        }
    }
    sides(s, "other", 8, renamed);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 20; i++)
            assert_int_equal(eight[20 * c + i], renamed[20 * c + 19 - i]);
}

static void a_picture_of_an_idx_file_is_on_the_side_of_the_same_one_in_a_folder(void **state)
{
    scratch *s = *state;
    uint8_t pixels[60 * 64];
    int64_t train[60], held[60], n_train, n_held, first, n;
    heed_dataset *d;

    put_classes(s, "set", 20, 8);
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 8, 8) });
    for (int i = 0; i < 60; i++)
        memcpy(pixels + 64 * i, heed_dataset_image(d, i), 64);
    TOY_OK(heed_dataset_split(d, 0.3, train, &n_train, held, &n_held, TOY_ERR));
    first = held[0];
    n = n_held;
    heed_dataset_free(d);
    TOY_OK(heed_dataset_from_memory(&d, s->ctx, (heed_tensor){ HEED_TYPE(HEED_U8, 60, 8, 8), pixels },
                                    (heed_tensor){ HEED_TYPE(HEED_I64, 60), (int64_t[60]){ 1 } }, 0,
                                    TOY_ERR));
    TOY_OK(heed_dataset_split(d, 0.3, train, &n_train, held, &n_held, TOY_ERR));
    assert_int_equal(n_held, n);
    assert_int_equal(held[0], first);
    heed_dataset_free(d);
}

/* ---- what is wrong ---- */

static void whatever_is_wrong_has_its_sentence(void **state)
{
    scratch *s = *state;
    const heed_dataset_opts size = { SIZE(1, 4, 4) };
    heed_dataset_opts o;

    assert_refused(s, "nowhere", size, HEED_ERR_IO, "nowhere: the folder cannot be read: No such file");
    scratch_put(place(s, "file"), "x", 1);
    assert_refused(s, "file", size, HEED_ERR_IO, "file is a file; data is a folder");
    place(s, "empty/");
    assert_refused(s, "empty", size, HEED_ERR_FORMAT, "there is no picture in it");
    place(s, "hollow/a/");
    assert_refused(s, "hollow", size, HEED_ERR_FORMAT, "there is no picture in it");
    put_picture(s, "flat/1.pgm", 1, 4, 4, 1);
    put_picture(s, "flat/2.pgm", 1, 4, 4, 2);
    assert_refused(s, "flat", size, HEED_ERR_FORMAT, "its 2 pictures lie in no class");
    put_picture(s, "one/cats/1.pgm", 1, 4, 4, 1);
    assert_refused(s, "one", size, HEED_ERR_FORMAT, "has one class only, cats");
    place(s, "one/dogs/");
    assert_refused(s, "one", size, HEED_ERR_FORMAT, "class dogs has no picture to train on");
    put_classes(s, "parts/test", 1, 4);
    assert_refused(s, "parts", size, HEED_ERR_FORMAT, "has a test part but none to train on");
    put_classes(s, "parts/train", 1, 4);
    put_picture(s, "parts/test/dog/1.pgm", 1, 4, 4, 77);
    o = size;
    o.part = HEED_PART_TEST;
    assert_refused(s, "parts", o, HEED_ERR_FORMAT, "test/dog is no class that is known");
    put_classes(s, "twice/train", 1, 4);
    put_classes(s, "twice/val", 1, 4);
    put_classes(s, "twice/valid", 1, 4);
    assert_refused(s, "twice", size, HEED_ERR_FORMAT, "two validation parts");
    put_classes(s, "plain", 1, 4);
    assert_refused(s, "plain", o, HEED_ERR_FORMAT, "has no test part");
    put_classes(s, "bytes", 1, 4);
    put_picture(s, "bytes/h\xe4n/1.pgm", 1, 4, 4, 99); /* Latin-1 */
    assert_refused(s, "bytes", size, HEED_ERR_FORMAT, "is not UTF-8; a class is called by it");
}

static void options_out_of_range_are_refused(void **state)
{
    scratch *s = *state;

    put_classes(s, "set", 1, 4);
    assert_refused(s, "set", (heed_dataset_opts){ .validation = -0.1 }, HEED_ERR_LIMIT, "together at most 1");
    assert_refused(s, "set", (heed_dataset_opts){ .validation = 0.6, .test = 0.6 }, HEED_ERR_LIMIT,
                   "together at most 1");
    assert_refused(s, "set", (heed_dataset_opts){ .channels = 2 }, HEED_ERR_LIMIT,
                   "grey (1) or coloured (3)");
    assert_refused(s, "set", (heed_dataset_opts){ .height = 4 }, HEED_ERR_LIMIT,
                   "both 0 to take the size from the data");
    assert_refused(s, "set", (heed_dataset_opts){ .height = 4, .width = 70000 }, HEED_ERR_LIMIT,
                   "1 to 65535");
    assert_refused(s, "set", (heed_dataset_opts){ .skip_bad = -1 }, HEED_ERR_LIMIT, "passed over");
}

static void a_bad_picture_is_named_and_some_may_be_passed_over(void **state)
{
    scratch *s = *state;
    heed_dataset *d;

    put_classes(s, "set", 3, 4);
    scratch_put(place(s, "set/bee/cut.pgm"), "P5\n4 4\n255\nabc", 14);
    assert_refused(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) }, HEED_ERR_FORMAT, "bee/cut.pgm: ");
    assert_refused(s, "set", (heed_dataset_opts){ .channels = 0 }, HEED_ERR_FORMAT,
                   "data.skip_bad=N passes over");
    d = opened(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4), .skip_bad = 1 });
    assert_int_equal(heed_dataset_count(d), 9);
    assert_int_equal(heed_dataset_skipped(d), 1);
    heed_dataset_free(d);
    scratch_put(place(s, "set/cat/text.png"), "no picture", 10);
    assert_refused(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4), .skip_bad = 1 }, HEED_ERR_FORMAT,
                   "it is bad picture number 2, and data.skip_bad allows 1");
}

static void a_file_that_may_not_be_read_is_named(void **state)
{
    scratch *s = *state;

    if (getuid() == 0)
        skip(); /* root may read everything; folders_survive_each_failing_file_call does not care who runs it */
    put_classes(s, "set", 1, 4);
    assert_int_equal(chmod(place(s, "set/bee/000.pgm"), 0), 0);
    assert_refused(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) }, HEED_ERR_IO,
                   "bee/000.pgm: the file cannot be opened");
}

static void a_link_that_leads_back_is_found(void **state)
{
    scratch *s = *state;
    char target[200];

    put_classes(s, "set", 1, 4);
    snprintf(target, sizeof target, "%s", at(s, "set/ant"));
    assert_int_equal(symlink(target, place(s, "set/ant/round")), 0);
    assert_refused(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4) }, HEED_ERR_FORMAT, "take the link away");
}

static void what_does_not_fit_into_the_memory_limit_is_refused_before_it_is_read(void **state)
{
    scratch *s = *state;
    heed_context *ctx;
    heed_dataset *d = NULL;
    heed_error err = { 0 };

    put_classes(s, "set", 10, 4);
    TOY_OK(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1, .limits.memory_bytes = 8 << 20 },
                            TOY_ERR));
    assert_int_equal(
        heed_dataset_open(&d, ctx, at(s, "set"), &(heed_dataset_opts){ SIZE(3, 512, 512) }, &err),
        HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "30 pictures of 3 x 512 x 512 need 23592960 bytes"));
    assert_non_null(strstr(err.text, "--set data.size=256"));
    heed_context_free(ctx);
}

static bool stop_at_once(void *user, int64_t done, int64_t total)
{
    int64_t *seen = user;

    seen[0] = done;
    seen[1] = total;
    return true;
}

static void reading_tells_how_far_it_is_and_can_be_stopped(void **state)
{
    scratch *s = *state;
    int64_t seen[2] = { 0 };

    put_classes(s, "set", 30, 4);
    assert_refused(s, "set", (heed_dataset_opts){ SIZE(1, 4, 4), .progress = stop_at_once, .user = seen },
                   HEED_ERR_STOPPED, "was stopped at picture");
    assert_true(seen[0] > 0 && seen[0] < 90);
    assert_int_equal(seen[1], 90);
}

/* ---- checking ---- */

static void a_check_counts_classes_sizes_twins_and_bad_files(void **state)
{
    scratch *s = *state;
    heed_data_report *r = NULL;

    put_classes(s, "set/train", 4, 8);
    put_classes(s, "set/test", 2, 6);
    put_picture(s, "set/test/ant/copy.pgm", 1, 8, 8, 1);   /* train/ant/000.pgm */
    put_picture(s, "set/train/cat/wrong.pgm", 1, 8, 8, 5); /* train/bee/001.pgm */
    put_picture(s, "set/train/cat/again.pgm", 1, 8, 8, 3); /* train/cat/000.pgm */
    put_picture(s, "set/train/ant/colour.ppm", 3, 9, 5, 200);
    scratch_put(place(s, "set/train/bee/bad.png"), "nothing", 7);
    scratch_put(place(s, "set/test/bee/worse.jpg"), "", 0);
    TOY_OK(heed_data_check(&r, s->ctx, at(s, "set"), NULL, TOY_ERR));
    assert_int_equal(r->kind, HEED_DATASET_FOLDER);
    assert_true(r->own_test && !r->own_validation);
    assert_int_equal(r->pictures, 12 + 6 + 4);
    assert_int_equal(r->n_classes, 3);
    assert_string_equal(r->classes[2].name, "cat");
    assert_int_equal(r->classes[2].train, 6);
    assert_int_equal(r->classes[0].train, 5);
    assert_int_equal(r->classes[0].test, 3);
    assert_int_equal(r->n_sizes, 3);
    assert_int_equal(r->sizes[0].height, 8);
    assert_int_equal(r->sizes[0].pictures, 15);
    assert_int_equal(r->sizes[2].channels, 3);
    assert_int_equal(r->sizes[2].width, 5);
    assert_int_equal(r->n_bad, 2);
    assert_string_equal(r->bad[0].source, "train/bee/bad.png");
    assert_non_null(strstr(r->bad[0].why, "no picture"));
    assert_non_null(strstr(r->bad[1].why, "empty"));
    assert_int_equal(r->n_twins, 3);
    for (int i = 0; i < 3; i++) {
        const heed_data_twin *t = &r->twins[i];

        if (t->across_parts)
            assert_string_equal(t->source, "test/ant/copy.pgm");
        else if (t->across_classes)
            assert_string_equal(t->source, "train/cat/wrong.pgm");
        else
            assert_string_equal(t->source, "train/cat/again.pgm");
    }
    heed_data_report_free(s->ctx, r);
    heed_data_report_free(s->ctx, NULL);
}

static void idx_files_are_checked_too(void **state)
{
    scratch *s = *state;
    heed_data_report *r = NULL;

    place(s, "idx/");
    toy_write_idx(at(s, "idx"), 30, 9);
    TOY_OK(heed_data_check(&r, s->ctx, at(s, "idx"), &(heed_dataset_opts){ .validation = 0.5 }, TOY_ERR));
    assert_int_equal(r->kind, HEED_DATASET_IDX);
    assert_int_equal(r->pictures, 39);
    assert_int_equal(r->classes[0].test + r->classes[1].test + r->classes[2].test, 9);
    assert_true(r->classes[0].validation + r->classes[1].validation + r->classes[2].validation > 3);
    assert_int_equal(r->n_sizes, 1);
    assert_int_equal(r->n_bad, 0);
    heed_data_report_free(s->ctx, r);
    scratch_put(at(s, "idx/t10k-labels-idx1-ubyte"), "x", 1);
    TOY_OK(heed_data_check(&r, s->ctx, at(s, "idx"), NULL, TOY_ERR));
    assert_int_equal(r->n_bad, 1);
    assert_int_equal(r->pictures, 30);
    heed_data_report_free(s->ctx, r);
}

/* ---- faults ---- */

static heed_status open_train_part(heed_context *ctx, void *user, heed_error *err)
{
    heed_dataset *d = NULL;
    const heed_status st =
        heed_dataset_open(&d, ctx, at(user, "set"), &(heed_dataset_opts){ .test = 0.2 }, err);

    heed_dataset_free(d);
    return st;
}

static heed_status open_test_part(heed_context *ctx, void *user, heed_error *err)
{
    heed_dataset *d = NULL;
    const heed_status st =
        heed_dataset_open(&d, ctx, at(user, "set"),
                          &(heed_dataset_opts){ SIZE(3, 7, 5), .part = HEED_PART_TEST, .test = 0.9 }, err);

    heed_dataset_free(d);
    return st;
}

static heed_status check_parts(heed_context *ctx, void *user, heed_error *err)
{
    heed_data_report *r = NULL;
    const heed_status st = heed_data_check(&r, ctx, at(user, "parts"), NULL, err);

    if (st == HEED_OK && r->n_bad > 0) { /* a file that cannot be read is what a check finds */
        heed_data_report_free(ctx, r);
        return err->code = HEED_ERR_IO, snprintf(err->text, sizeof err->text, "bad"), HEED_ERR_IO;
    }
    heed_data_report_free(ctx, r);
    return st;
}

/* Reading leaves nothing behind; an interrupted close after the last byte is no failure. */
static bool nothing_changed(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)st;
    return scratch_entries(at(user, "set")) == 3 && scratch_entries(at(user, "parts")) == 2;
}

static const heed_scenario scenarios[] = {
    { "dataset_open folder", open_train_part, NULL, nothing_changed },
    { "dataset_open test part", open_test_part, NULL, nothing_changed },
    { "data_check", check_parts, NULL, nothing_changed },
};

static void put_scenario(scratch *s)
{
    put_classes(s, "set", 2, 6);
    put_picture(s, "set/ant/deep/er/x.ppm", 3, 5, 4, 90);
    put_classes(s, "parts/train", 1, 5);
    put_classes(s, "parts/test", 1, 5);
}

static void folders_survive_each_failing_allocation(void **state)
{
    put_scenario(*state);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        heed_fail_report report;

        assert_true(heed_fail_each(&scenarios[i], *state, &report));
        assert_true(report.calls > 10);
    }
}

static void folders_survive_each_failing_file_call(void **state)
{
    put_scenario(*state);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        heed_fail_report report;

        assert_true(heed_fail_each_file(&scenarios[i], *state, &report));
        assert_true(report.calls > 10);
    }
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(classes_are_folders_in_bytewise_order_and_pictures_in_that_of_names),
        EACH(hidden_names_and_files_that_are_no_pictures_are_passed_over_and_counted),
        EACH(parts_of_its_own_are_what_they_are),
        EACH(a_class_may_be_called_train),
        EACH(idx_files_are_recognised),
        EACH(given_classes_keep_their_numbers),
        EACH(pictures_get_the_channels_and_size_that_are_asked_for),
        EACH(without_a_size_the_median_picture_decides),
        EACH(any_number_of_threads_gives_the_same_set),
        EACH(every_picture_is_on_one_side_whatever_its_size_and_name),
        EACH(a_picture_of_an_idx_file_is_on_the_side_of_the_same_one_in_a_folder),
        EACH(whatever_is_wrong_has_its_sentence),
        EACH(options_out_of_range_are_refused),
        EACH(a_bad_picture_is_named_and_some_may_be_passed_over),
        EACH(a_file_that_may_not_be_read_is_named),
        EACH(a_link_that_leads_back_is_found),
        EACH(what_does_not_fit_into_the_memory_limit_is_refused_before_it_is_read),
        EACH(reading_tells_how_far_it_is_and_can_be_stopped),
        EACH(a_check_counts_classes_sizes_twins_and_bad_files),
        EACH(idx_files_are_checked_too),
        EACH(folders_survive_each_failing_allocation),
        EACH(folders_survive_each_failing_file_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
