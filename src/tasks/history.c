/* metrics.jsonl: one JSON object a line. A number that is null or not there is NaN. */

#include "tasks/history.h"
#include "base/files.h"
#include "base/sizes.h"
#include "formats/json_read.h"
#include "tasks/run_folder.h"

#include <math.h>
#include <string.h>

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

static double number_of(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);

    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static heed_status read_line(heed_history_row *row, heed_context *ctx, const char *line, size_t n)
{
    const json_t *epoch;
    json_t *j;

    TRY(heed__json_read(&j, ctx, line, n, RUN_METRICS, NULL));
    epoch = json_object_get(j, "epoch");
    *row = (heed_history_row){ .epoch = json_is_integer(epoch) ? json_integer_value(epoch) : 0,
                               .train_loss = number_of(j, "train_loss"),
                               .validation_loss = number_of(j, "val_loss"),
                               .lr = number_of(j, "lr"),
                               .grad_norm = number_of(j, "grad_norm"),
                               .validation_accuracy = number_of(j, "val_accuracy"),
                               .seconds = number_of(j, "seconds"),
                               .peak_bytes = number_of(j, "peak_bytes") };
    json_decref(j);
    return HEED_OK;
}

heed_status heed__history_read(heed_history_row **rows_out, int64_t *n_out, heed_context *ctx,
                               const char *path, heed_error *err)
{
    heed_history_row *made = NULL;
    file_bytes file = { 0 };
    int64_t lines = 0, n = 0;
    const char *at, *end;
    heed_status st = HEED_OK;

    *rows_out = NULL;
    *n_out = 0;
    if (!heed__file_exists(ctx, path))
        return HEED_OK;
    TRY(heed__file_read(&file, ctx, path, ctx->limits.json_bytes, err));
    at = (const char *)file.data;
    end = at + file.size;
    for (size_t i = 0; i < file.size; i++)
        lines += file.data[i] == '\n';
    made = heed__alloc(ctx->heap, (size_t)lines, sizeof *made);
    if (!made) {
        st = heed__fail_memory(err, (uint64_t)lines * sizeof *made);
        goto done;
    }
    while (n < lines) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));

        st = read_line(&made[n], ctx, at, (size_t)(stop - at));
        if (st == HEED_ERR_MEMORY)
            heed__fail_memory(err, (uint64_t)(stop - at));
        else if (st != HEED_OK)
            heed__fail_at(err, st, path, "%s:%lld: this is not a JSON object", path, (long long)n + 1);
        if (st != HEED_OK)
            goto done;
        n++;
        at = stop + 1;
    }
    *rows_out = made;
    *n_out = n;
    made = NULL;
done:
    heed__release(ctx->heap, made);
    heed__release(ctx->heap, file.data);
    return st;
}

#else

heed_status heed__history_read(heed_history_row **rows_out, int64_t *n_out, heed_context *ctx,
                               const char *path, heed_error *err)
{
    *rows_out = NULL;
    *n_out = 0;
    (void)ctx;
    return heed__fail_at(err, HEED_ERR_MISSING, path,
                         "%s: built without jansson: apt install libjansson-dev, then build again", path);
}

#endif
