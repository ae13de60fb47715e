/* Typed input: "[[1,2],[3,4]]", a .json, .npy or .csv file, as q, k or v [B,H,T,D]. It is read and computed in f64, so that six
 * decimals are the same on every machine. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/text.h"
#include "formats/json_read.h"
#include "formats/numbers.h"

#include <string.h>

/* [T] are rows of one number; heads and sequences of one are added in front. */
static heed_status type_add(heed_attend *a, const char *name, heed_tensor t, heed_error *err)
{
    heed_type to = { .dtype = HEED_F64, .rank = 4, .dims = { 1, 1, 1, 1 } };
    const int first = t.type.rank == 1 ? 2 : 4 - t.type.rank;

    if (t.type.rank < 1 || t.type.rank > 4)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "--%s has %d levels; one to four are rows, [T,D], [H,T,D] and [B,H,T,D]", name,
                          t.type.rank);
    for (int i = 0; i < t.type.rank; i++)
        to.dims[first + i] = t.type.dims[i];
    t.type = to;
    return heed_attend_add(a, name, t, err);
}

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

/* Sizes of the first element of each level: the others must have the same. */
static heed_status type_sizes(heed_type *t, const char *name, const json_t *j, heed_error *err)
{
    *t = (heed_type){ .dtype = HEED_F64 };
    for (; json_is_array(j); j = json_array_get(j, 0)) {
        if (t->rank == 4)
            return heed__fail(err, HEED_ERR_SHAPE, "--%s has more than four levels of brackets", name);
        t->dims[t->rank++] = (int64_t)json_array_size(j);
        if (json_array_size(j) == 0)
            break;
    }
    return t->rank ? HEED_OK
                   : heed__fail(err, HEED_ERR_FORMAT,
                                "--%s must be a list of numbers: [1,2] or [[1,2],[3,4]]", name);
}

static heed_status type_fill(double **to, const char *name, const heed_type *t, int level, const json_t *j,
                             heed_error *err)
{
    if (level == t->rank) {
        if (!json_is_number(j))
            return heed__fail(err, HEED_ERR_FORMAT, "--%s: something %s stands where a number should", name,
                              json_is_array(j) ? "in brackets" : "that is no number");
        *(*to)++ = json_number_value(j);
        return HEED_OK;
    }
    if (!json_is_array(j))
        return heed__fail(err, HEED_ERR_FORMAT,
                          "--%s is no matrix: on level %d a list of %lld stands beside something that is none", name,
                          level + 1, (long long)t->dims[level]);
    if ((int64_t)json_array_size(j) != t->dims[level])
        return heed__fail(err, HEED_ERR_FORMAT,
                          "--%s is no matrix: on level %d one list has %lld and another %lld elements", name,
                          level + 1, (long long)t->dims[level], (long long)json_array_size(j));
    for (size_t i = 0; i < json_array_size(j); i++)
        TRY(type_fill(to, name, t, level + 1, json_array_get(j, i), err));
    return HEED_OK;
}

static heed_status type_json(heed_attend *a, const char *name, const char *json, size_t size, heed_error *err)
{
    json_t *j = NULL;
    heed_tensor t = { .data = NULL };
    double *at;
    heed_status st;

    STEP(heed__json_read(&j, a->ctx, json, size, name, err));
    STEP(type_sizes(&t.type, name, j, err));
    t.data = at = heed__alloc(a->ctx->heap, (size_t)heed_type_count(&t.type), sizeof *at);
    if (!at)
        STEP(heed__fail_memory(err, (uint64_t)heed_type_count(&t.type) * sizeof *at));
    STEP(type_fill(&at, name, &t.type, 0, j, err));
    STEP(type_add(a, name, t, err));
done:
    heed__release(a->ctx->heap, t.data);
    json_decref(j);
    return st;
}

#else

static heed_status type_json(heed_attend *a, const char *name, const char *json, size_t size, heed_error *err)
{
    return heed__json_read(NULL, a->ctx, json, size, name, err);
}

#endif

static bool type_ends(const char *path, const char *end)
{
    const size_t n = strlen(path), m = strlen(end);

    return n > m && strcmp(path + n - m, end) == 0;
}

/* The same numbers as doubles, in a block of their own. */
static heed_status type_widen(heed_attend *a, heed_tensor *t, heed_error *err)
{
    const int64_t n = heed_type_count(&t->type);
    double *wide = heed__alloc(a->ctx->heap, (size_t)n, sizeof *wide);

    if (!wide)
        return heed__fail_memory(err, (uint64_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)((const float *)t->data)[i];
    heed__release(a->ctx->heap, t->data);
    t->data = wide;
    return HEED_OK;
}

static heed_status type_file(heed_attend *a, const char *name, const char *path, heed_error *err)
{
    file_bytes file = { NULL, 0 };
    heed_tensor t = { .data = NULL };
    heed_status st;

    if (type_ends(path, ".json")) {
        STEP(heed__file_read(&file, a->ctx, path, a->ctx->limits.json_bytes, err));
        STEP(type_json(a, name, (const char *)file.data, file.size, err));
    } else {
        STEP(type_ends(path, ".npy") ? heed__npy_floats(&t, a->ctx, path, err)
                                     : heed__csv_read(&t, a->ctx, path, err));
        STEP(type_widen(a, &t, err));
        STEP(type_add(a, name, t, err));
    }
done:
    heed__release(a->ctx->heap, t.data);
    heed__release(a->ctx->heap, file.data);
    return st;
}

heed_status heed_attend_type(heed_attend *a, const char *name, const char *given, heed_error *err)
{
    const char *at = given + strspn(given, " \t\r\n");

    if (strcmp(name, "q") != 0 && strcmp(name, "k") != 0 && strcmp(name, "v") != 0)
        return heed__fail(err, HEED_ERR_USAGE, "q, k and v may be typed, %s may not", name);
    if (type_ends(given, ".npy") || type_ends(given, ".csv") || type_ends(given, ".json"))
        return type_file(a, name, given, err);
    if (*at == '[')
        return type_json(a, name, given, strlen(given), err);
    return heed__fail(
        err, HEED_ERR_USAGE,
        "--%s: write numbers, like [1,2] or [[1,2],[3,4]], or the path of a .npy, .csv or .json file", name);
}
