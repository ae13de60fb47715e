/* Accuracy over seeds: mean, and half of the mean's 95 % interval, t(n - 1) s / sqrt(n) (Student). The
 * quantiles of t are those of tools/docs/results, so that page and report say the same: a table, and from 10
 * degrees on, with an error below 0.2 %,
 *
 *   t(d) = z + (z^3 + z) / 4d + (5 z^5 + 16 z^3 + 3 z) / 96 d^2,   z = 1.96        Abramowitz, Stegun 26.7.5 */

#include "tasks/rivals.h"
#include "base/files.h"
#include "formats/json_read.h"

#include <math.h>
#include <string.h>

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

#define SEEDS_MOST 1000
#define RIVALS_MOST 256

static double student(int64_t degrees)
{
    static const double t[] = { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262 };

    const double d = (double)degrees;

    return degrees <= (int64_t)(sizeof t / sizeof *t) ? t[degrees - 1]
                                                      : 1.96 + 2.3724 / d + 2.8225 / (d * d);
}

/* Numbers of "0.91 0.92"; -1 when something else stands there. */
static int64_t read_numbers(double *to, const char *words)
{
    int64_t n = 0;

    while (words[strspn(words, " ")] && n < SEEDS_MOST) {
        char one[40];
        size_t length;

        words += strspn(words, " ");
        length = strcspn(words, " ");
        if (length >= sizeof one || strspn(words, "0123456789.eE+-") < length)
            return -1;
        memcpy(one, words, length);
        one[length] = '\0';
        to[n++] = heed__os_read_number(one);
        words += length;
    }
    return n;
}

static heed_status take(report_rival *out, arena *a, const json_t *j, const char *path, heed_error *err)
{
    const json_t *name = json_object_get(j, "recipe"), *accuracy = json_object_get(j, "accuracy");
    const json_t *parameters = json_object_get(j, "parameters");
    double values[SEEDS_MOST], sum = 0, squares = 0;
    int64_t n = -1;

    if (json_is_number(accuracy)) {
        values[0] = json_number_value(accuracy);
        n = 1;
    } else if (json_is_string(accuracy)) {
        n = read_numbers(values, json_string_value(accuracy));
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(values[i] >= 0 && values[i] <= 1))
            n = -1;
        else
            sum += values[i];
    }
    if (!json_is_string(name) || n < 1)
        return heed__fail_at(
            err, HEED_ERR_FORMAT, path,
            "%s: a comparison is an object with \"recipe\", a name, and \"accuracy\", shares of 0 to 1",
            path);
    for (int64_t i = 0; i < n; i++)
        squares += (values[i] - sum / (double)n) * (values[i] - sum / (double)n);
    *out = (report_rival){
        .name = heed__arena_string(a, json_string_value(name)),
        .source = heed__arena_string(a, path),
        .accuracy = sum / (double)n,
        .interval = n > 1 ? student(n - 1) * sqrt(squares / (double)(n - 1) / (double)n) : (double)NAN,
        .parameters = json_is_integer(parameters) ? json_integer_value(parameters) : 0,
    };
    return out->name && out->source ? HEED_OK : heed__fail_memory(err, strlen(path));
}

static heed_status read_object(report_rival *out, heed_context *ctx, arena *a, const char *path,
                               heed_error *err)
{
    file_bytes file = { 0 };
    json_t *j = NULL;
    heed_status st;

    TRY(heed__file_read(&file, ctx, path, ctx->limits.json_bytes, err));
    STEP(heed__json_read(&j, ctx, file.data, file.size, path, err));
    st = take(out, a, j, path, err);
done:
    json_decref(j);
    heed__release(ctx->heap, file.data);
    return st;
}

heed_status heed__rival_read(rivals *to, heed_context *ctx, arena *a, const char *path, heed_error *err)
{
    report_rival *grown;

    if (to->n == RIVALS_MOST)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: a report compares with %d models at most", path,
                             RIVALS_MOST);
    grown = heed__resize(ctx->heap, to->list, (size_t)to->n + 1, sizeof *grown);
    if (!grown)
        return heed__fail_memory(err, sizeof *grown);
    to->list = grown;
    TRY(read_object(&grown[to->n], ctx, a, path, err));
    to->n++;
    return HEED_OK;
}

static bool named_json(const char *name)
{
    const size_t n = strlen(name);

    return n > 5 && name[0] != '.' && strcmp(name + n - 5, ".json") == 0;
}

heed_status heed__rivals_find(rivals *to, heed_context *ctx, arena *a, const char *run, heed_error *err)
{
    const char *folder = heed__arena_format(a, "%s/compare", run);
    folder_list list = { 0 };
    heed_status st = HEED_OK;

    if (!folder)
        return heed__fail_memory(err, strlen(run));
    if (!heed__folder_exists(ctx, folder))
        return HEED_OK;
    STEP(heed__folder_list(&list, ctx, folder, err));
    for (uint32_t i = 0; i < list.n; i++) {
        const char *path;

        if (!named_json(list.entries[i].name))
            continue;
        path = heed__arena_format(a, "%s/%s", folder, list.entries[i].name);
        if (!path) {
            st = heed__fail_memory(err, strlen(folder));
            goto done;
        }
        STEP(heed__rival_read(to, ctx, a, path, err));
    }
done:
    heed__folder_list_release(ctx, &list);
    return st;
}

#else

heed_status heed__rival_read(rivals *to, heed_context *ctx, arena *a, const char *path, heed_error *err)
{
    (void)to;
    (void)ctx;
    (void)a;
    return heed__fail_at(err, HEED_ERR_MISSING, path,
                         "%s: built without jansson: apt install libjansson-dev, then build again", path);
}

heed_status heed__rivals_find(rivals *to, heed_context *ctx, arena *a, const char *run, heed_error *err)
{
    (void)to;
    (void)ctx;
    (void)a;
    (void)run;
    (void)err;
    return HEED_OK; /* nothing that could be read is nothing that is shown */
}

#endif
