/* Hugging Face's shape: config.json (model_type, id2label ...) and preprocessor_config.json (rescale_factor,
 * image_mean ...). Unknown keys are left alone. */

#include "tasks/config.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/text.h"
#include "data/normal.h"
#include "formats/json_read.h"
#include "tasks/run_folder.h"

#include <string.h>

/* PIL's numbers of heed_image_filter; our words of heed_image_fit. */
static const int resample_numbers[] = { [HEED_IMAGE_BILINEAR] = 2, [HEED_IMAGE_BICUBIC] = 3, [HEED_IMAGE_NEAREST] = 0 };
static const char *const fit_words[] = { "stretch", "crop", "pad" };
#define RESAMPLES (sizeof resample_numbers / sizeof *resample_numbers)
#define FITS (sizeof fit_words / sizeof *fit_words)

static heed_status put_file(heed_context *ctx, const char *folder, const char *name, text *t, heed_error *err)
{
    char *path = heed__path_join(ctx, folder, name);
    heed_status st = t->failed != HEED_OK || !path ? heed__fail_memory(err, t->size)
                                                   : heed__file_replace(ctx, path, t->data, t->size, err);

    heed__release(ctx->heap, path);
    return st;
}

static void put_numbers(text *t, const char *key, const float *x, int64_t n)
{
    heed__text_add(t, "  \"%s\": [", key);
    for (int64_t i = 0; i < n; i++) {
        heed__text_add(t, "%s", i ? ", " : "");
        heed__text_number(t, (double)x[i]);
    }
    heed__text_add(t, "]");
}

/* Seed and digest, and the numbers for those who compute at another level. */
static void put_self_test(text *t, const run_config *c)
{
    const heed_self_test *s = &c->self_test;

    if (s->n == 0)
        return;
    heed__text_add(t, "  \"self_test\": {\n    \"seed\": %lld,\n    \"isa\": \"%s\",\n    \"sha256\": \"%s\",\n",
                   (long long)c->self_test_seed, heed_isa_name(s->isa), s->sha256);
    heed__text_add(t, "    \"outputs\": [");
    for (int64_t i = 0; i < s->n; i++) {
        heed__text_add(t, "%s", i ? ", " : "");
        heed__text_float(t, s->outputs[i]);
    }
    heed__text_add(t, "]\n  },\n");
}

static heed_status write_model(heed_context *ctx, const char *folder, const run_config *c, heed_error *err)
{
    heed_status st;
    text t;

    heed__text_init(&t, ctx->heap, 0);
    heed__text_add(&t, "{\n  \"architectures\": [");
    heed__text_json(&t, c->architecture, strlen(c->architecture));
    heed__text_add(&t, "],\n  \"model_type\": \"heed\",\n  \"heed_version\": \"%s\",\n", HEED_VERSION);
    heed__text_add(&t, "  \"num_channels\": %lld,\n  \"image_size\": [%lld, %lld],\n", (long long)c->channels,
                   (long long)c->height, (long long)c->width);
    heed__text_add(&t, "  \"num_labels\": %lld,\n  \"id2label\": {", (long long)c->classes);
    for (int64_t i = 0; i < c->classes; i++) {
        heed__text_add(&t, "%s\n    \"%lld\": ", i ? "," : "", (long long)i);
        heed__text_json(&t, c->class_names[i], strlen(c->class_names[i]));
    }
    heed__text_add(&t, "\n  },\n  \"train_mirror\": %s,\n  \"seed\": %lld,\n  \"steps\": %lld,\n",
                   c->mirror ? "true" : "false", (long long)c->seed, (long long)c->steps);
    heed__text_add(&t, "  \"train_samples\": %lld,\n  \"validation_samples\": %lld,\n",
                   (long long)c->train_samples, (long long)c->validation_samples);
    put_self_test(&t, c);
    heed__text_add(&t, "  \"isa\": \"%s\",\n  \"weights_sha256\": \"%s\"\n}\n", c->isa, c->sha256);
    st = put_file(ctx, folder, "config.json", &t, err);
    heed__text_release(&t);
    return st;
}

static heed_status write_picture(heed_context *ctx, const char *folder, const run_config *c, heed_error *err)
{
    heed_status st;
    text t;

    heed__text_init(&t, ctx->heap, 0);
    heed__text_add(&t, "{\n  \"do_rescale\": true,\n  \"rescale_factor\": 0.00392156862745098,\n"
                       "  \"do_normalize\": true,\n");
    put_numbers(&t, "image_mean", c->mean, c->channels);
    heed__text_add(&t, ",\n");
    put_numbers(&t, "image_std", c->std, c->channels);
    heed__text_add(&t,
                   ",\n  \"do_resize\": true,\n  \"size\": { \"height\": %lld, \"width\": %lld },\n"
                   "  \"resample\": %d,\n  \"fit\": \"%s\",\n  \"do_convert_rgb\": %s\n}\n",
                   (long long)c->height, (long long)c->width, resample_numbers[c->filter], fit_words[c->fit],
                   c->channels == 3 ? "true" : "false");
    st = put_file(ctx, folder, "preprocessor_config.json", &t, err);
    heed__text_release(&t);
    return st;
}

heed_status heed__config_write(heed_context *ctx, const char *folder, const run_config *c, heed_error *err)
{
    TRY(write_picture(ctx, folder, c, err));
    return write_model(ctx, folder, c, err);
}

/* 1.20.3 as 1020003: enough to order versions; -1 for what is none. */
static int64_t version_number(const char *version)
{
    int64_t number = 0, part = 0;
    int parts = 1;

    for (const char *p = version;; p++) {
        if (*p >= '0' && *p <= '9' && part < 100000) {
            part = part * 10 + (*p - '0');
            continue;
        }
        number = number * 1000 + i64_min(part, 999);
        part = 0;
        if (*p != '.' || parts == 3)
            break;
        parts++;
    }
    return parts == 3 ? number : -1;
}

void heed__config_blame(heed_error *err, const char *version)
{
    heed_error why;

    if (!err || !version || version_number(version) <= version_number(HEED_VERSION))
        return;
    why = *err;
    *err = (heed_error){ 0 };
    heed__fail_at(err, why.code, why.path, "%s (heed %.20s wrote this run, this is %s: take that version)", why.text,
                  version, HEED_VERSION);
}

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>
#include <math.h>

static heed_status get_int(int64_t *out, const json_t *from, const char *key, const char *path, int64_t min,
                           int64_t max, heed_error *err)
{
    if (!json_is_integer(from))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"%s\" is missing or no integer", path, key);
    *out = json_integer_value(from);
    if (*out < min || *out > max)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: \"%s\" is %lld, outside %lld to %lld", path, key,
                             (long long)*out, (long long)min, (long long)max);
    return HEED_OK;
}

static heed_status get_string(const char **out, arena *a, const json_t *from, const char *key,
                              const char *path, heed_error *err)
{
    if (!json_is_string(from))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"%s\" is missing or no string", path, key);
    *out = heed__arena_string(a, json_string_value(from));
    return *out ? HEED_OK : heed__fail_memory(err, json_string_length(from));
}

static heed_status get_numbers(float *out, const json_t *from, const char *key, int64_t n, const char *path,
                               heed_error *err)
{
    if (!json_is_array(from) || json_array_size(from) != (size_t)n)
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"%s\" must be a list of %lld numbers", path,
                             key, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(from, (size_t)i);

        if (!json_is_number(x))
            return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"%s\" must hold numbers only", path, key);
        out[i] = (float)json_number_value(x);
    }
    return HEED_OK;
}

static heed_status read_names(run_config *c, arena *a, const json_t *from, const char *path, heed_error *err)
{
    const char **names;

    if (!json_is_object(from) || json_object_size(from) != (size_t)c->classes)
        return heed__fail_at(err, HEED_ERR_FORMAT, path,
                             "%s: \"id2label\" must name %lld classes, \"num_labels\" of them", path,
                             (long long)c->classes);
    names = heed__arena_alloc(a, (size_t)c->classes, sizeof *names);
    if (!names)
        return heed__fail_memory(err, (uint64_t)c->classes * sizeof *names);
    for (int64_t i = 0; i < c->classes; i++) {
        const char *key = heed__arena_format(a, "%lld", (long long)i);

        if (!key)
            return heed__fail_memory(err, 0);
        TRY(get_string(&names[i], a, json_object_get(from, key), "id2label", path, err));
    }
    c->class_names = names;
    return HEED_OK;
}

/* Runs of older versions have none. */
static heed_status read_self_test(run_config *c, arena *a, const json_t *j, const char *path, heed_error *err)
{
    const json_t *outputs = json_object_get(j, "outputs");
    const char *isa, *digest;
    float *numbers;

    if (!j)
        return HEED_OK;
    if (!json_is_object(j) || !json_is_array(outputs) || json_array_size(outputs) < 1 ||
        json_array_size(outputs) > SELF_TEST_SAMPLES * (1u << 20))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"self_test\" has no list of \"outputs\"", path);
    TRY(get_int(&c->self_test_seed, json_object_get(j, "seed"), "self_test.seed", path, 0, INT64_MAX, err));
    TRY(get_string(&isa, a, json_object_get(j, "isa"), "self_test.isa", path, err));
    TRY(get_string(&digest, a, json_object_get(j, "sha256"), "self_test.sha256", path, err));
    if (strlen(digest) != 64)
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"self_test.sha256\" is no SHA-256", path);
    if (heed_isa_from_name(&c->self_test.isa, isa, NULL) != HEED_OK)
        c->self_test.isa = HEED_ISA_AUTO; /* a level of a later version: the numbers still hold */
    memcpy(c->self_test.sha256, digest, 65);
    numbers = heed__arena_alloc(a, json_array_size(outputs), sizeof *numbers);
    if (!numbers)
        return heed__fail_memory(err, json_array_size(outputs) * sizeof *numbers);
    TRY(get_numbers(numbers, outputs, "self_test.outputs", (int64_t)json_array_size(outputs), path, err));
    for (size_t i = 0; i < json_array_size(outputs); i++)
        if (!isfinite(numbers[i]))
            return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: \"self_test.outputs\" holds what no float can", path);
    c->self_test.outputs = numbers;
    c->self_test.n = (int64_t)json_array_size(outputs);
    return HEED_OK;
}

static heed_status read_model(run_config *c, arena *a, const json_t *j, const char *path, heed_error *err)
{
    const json_t *size = json_object_get(j, "image_size"), *mirror = json_object_get(j, "train_mirror");

    TRY(get_string(&c->architecture, a, json_array_get(json_object_get(j, "architectures"), 0),
                   "architectures", path, err));
    TRY(get_int(&c->channels, json_object_get(j, "num_channels"), "num_channels", path, 1, CHANNELS_MAX,
                err));
    TRY(get_int(&c->height, json_array_get(size, 0), "image_size", path, 1, 65535, err));
    TRY(get_int(&c->width, json_array_get(size, 1), "image_size", path, 1, 65535, err));
    TRY(get_int(&c->classes, json_object_get(j, "num_labels"), "num_labels", path, 1, 1 << 20, err));
    TRY(get_int(&c->seed, json_object_get(j, "seed"), "seed", path, 0, INT64_MAX, err));
    TRY(get_string(&c->sha256, a, json_object_get(j, "weights_sha256"), "weights_sha256", path, err));
    if (!json_is_boolean(mirror))
        return heed__fail_at(err, HEED_ERR_FORMAT, path,
                             "%s: \"train_mirror\" is missing or neither true nor false", path);
    c->mirror = json_is_true(mirror);
    c->train_samples = json_integer_value(json_object_get(j, "train_samples")); /* 0: not said */
    c->validation_samples = json_integer_value(json_object_get(j, "validation_samples"));
    TRY(read_self_test(c, a, json_object_get(j, "self_test"), path, err));
    return read_names(c, a, json_object_get(j, "id2label"), path, err);
}

/* Runs written before there were folders of pictures have neither: their pictures were never resized. */
static heed_status read_fit(run_config *c, const json_t *j, const char *path, heed_error *err)
{
    const json_t *resample = json_object_get(j, "resample"), *fit = json_object_get(j, "fit");
    size_t f = 0, w = 0;

    if (resample) {
        while (f < RESAMPLES && !(json_is_integer(resample) && json_integer_value(resample) == resample_numbers[f]))
            f++;
        if (f == RESAMPLES)
            return heed__fail_at(err, HEED_ERR_FORMAT, path,
                                 "%s: \"resample\" is not 0 (nearest), 2 (bilinear) or 3 (bicubic)", path);
    }
    if (fit) {
        while (w < FITS && !(json_is_string(fit) && strcmp(json_string_value(fit), fit_words[w]) == 0))
            w++;
        if (w == FITS)
            return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"fit\" is not stretch, crop or pad", path);
    }
    c->filter = (heed_image_filter)f;
    c->fit = (heed_image_fit)w;
    return HEED_OK;
}

/* The pixels of all who read this run are (pixel / 255 - mean) / std: another factor would go unseen. */
static heed_status read_picture(run_config *c, const json_t *j, const char *path, heed_error *err)
{
    const json_t *factor = json_object_get(j, "rescale_factor");

    if (!json_is_number(factor) || !(fabs(json_number_value(factor) * 255 - 1) < 1e-6))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"rescale_factor\" is missing or not 1/255",
                             path);
    TRY(read_fit(c, j, path, err));
    TRY(get_numbers(c->mean, json_object_get(j, "image_mean"), "image_mean", c->channels, path, err));
    TRY(get_numbers(c->std, json_object_get(j, "image_std"), "image_std", c->channels, path, err));
    for (int64_t i = 0; i < c->channels; i++)
        if (!(fabsf(c->mean[i]) <= NORMAL_MEAN_MOST && c->std[i] >= NORMAL_STD_LEAST &&
              c->std[i] <= NORMAL_STD_MOST))
            return heed__fail_at(
                err, HEED_ERR_LIMIT, path,
                "%s: \"image_mean\" %g or \"image_std\" %g is no use: -1e6 to 1e6, 1e-6 to 1e6", path,
                (double)c->mean[i], (double)c->std[i]);
    return HEED_OK;
}

heed_status heed__config_parse(run_config *out, heed_context *ctx, arena *a, const config_files *files,
                               heed_error *err)
{
    json_t *j = NULL, *p = NULL;
    run_config c = { 0 };
    const json_t *version;
    heed_status st;

    STEP(heed__json_read(&j, ctx, files->model.data, files->model.size, files->model_path, err));
    version = json_object_get(j, "heed_version");
    if (json_is_string(version))
        STEP(get_string(&c.version, a, version, "heed_version", files->model_path, err));
    STEP(heed__json_read(&p, ctx, files->picture.data, files->picture.size, files->picture_path, err));
    STEP(read_model(&c, a, j, files->model_path, err));
    STEP(read_picture(&c, p, files->picture_path, err));
    *out = c;
done:
    if (st != HEED_OK && st != HEED_ERR_MEMORY)
        heed__config_blame(err, c.version);
    json_decref(j);
    json_decref(p);
    return st;
}

#else

heed_status heed__config_parse(run_config *out, heed_context *ctx, arena *a, const config_files *files,
                               heed_error *err)
{
    (void)out;
    (void)a;
    return heed__json_read(NULL, ctx, files->model.data, files->model.size, files->model_path, err);
}

#endif

heed_status heed__config_read(run_config *out, heed_context *ctx, arena *a, const char *folder,
                              heed_error *err)
{
    char *model = NULL, *picture = NULL;
    config_files files = { .model_path = NULL };
    heed_status st;

    STEP(heed__run_file(&model, ctx, folder, RUN_CONFIG, err));
    STEP(heed__run_file(&picture, ctx, folder, "preprocessor_config.json", err));
    files.model_path = model;
    files.picture_path = picture;
    STEP(heed__file_read(&files.model, ctx, model, ctx->limits.json_bytes, err));
    STEP(heed__file_read(&files.picture, ctx, picture, ctx->limits.json_bytes, err));
    STEP(heed__config_parse(out, ctx, a, &files, err));
done:
    heed__release(ctx->heap, files.model.data);
    heed__release(ctx->heap, files.picture.data);
    heed__release(ctx->heap, model);
    heed__release(ctx->heap, picture);
    return st;
}
