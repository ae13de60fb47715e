/* Reading CSV of numbers: rows of one length, split by commas, without a head. */

#include "formats/numbers.h"

#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "base/sizes.h"

#include <math.h>
#include <string.h>

#define FIELD_MOST 64

typedef struct csv_reading {
    heed_context *ctx;
    const char *path;
    heed_error *err;
    float *at; /* owned; n numbers, room for `room` */
    size_t n, room;
} csv_reading;

static heed_status csv_number(csv_reading *r, const char *begin, size_t size, int64_t line, int64_t column)
{
    static const field row = { .name = "number", .kind = FIELD_F64_ };
    char word[FIELD_MOST + 1], shown[200];
    double value = 0;

    while (size > 0 && (*begin == ' ' || *begin == '\t')) {
        begin++;
        size--;
    }
    while (size > 0 && (begin[size - 1] == ' ' || begin[size - 1] == '\t'))
        size--;
    memcpy(word, begin, size < FIELD_MOST ? size : FIELD_MOST);
    word[size < FIELD_MOST ? size : FIELD_MOST] = 0;
    if (size > FIELD_MOST || memchr(word, 0, size) ||
        heed__field_set(&row, &value, word, NULL, NULL, NULL) != HEED_OK || !isfinite((float)value))
        return heed__fail_at(r->err, HEED_ERR_FORMAT, r->path,
                             "%s:%lld:%lld: \"%s\" is no number of f32; rows of numbers, split by commas and "
                             "without a head, are read",
                             r->path, (long long)line, (long long)column, heed__shown(shown, begin, size));
    if (r->n == r->room) {
        const size_t room = r->room ? 2 * r->room : 256;
        float *grown = heed__resize(r->ctx->heap, r->at, room, sizeof *grown);

        if (!grown)
            return heed__fail_memory(r->err, room * sizeof *grown);
        r->at = grown;
        r->room = room;
    }
    r->at[r->n++] = (float)value;
    return HEED_OK;
}

static heed_status csv_line(csv_reading *r, const char *at, const char *end, int64_t line, int64_t *columns)
{
    int64_t n = 0;

    for (;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));

        TRY(csv_number(r, at, (size_t)((comma ? comma : end) - at), line, ++n));
        if (!comma)
            break;
        at = comma + 1;
    }
    if (*columns && n != *columns)
        return heed__fail_at(r->err, HEED_ERR_FORMAT, r->path,
                             "%s:%lld: this row has %lld numbers, the first has %lld", r->path,
                             (long long)line, (long long)n, (long long)*columns);
    *columns = n;
    return HEED_OK;
}

static heed_status csv_rows(csv_reading *r, const file_bytes *file, heed_type *type)
{
    const char *at = (const char *)file->data, *end = at + file->size;

    *type = (heed_type){ .dtype = HEED_F32, .rank = 2 };
    for (int64_t line = 1; at < end; line++) {
        const char *next = memchr(at, '\n', (size_t)(end - at)), *stop = next ? next : end;

        if (stop > at && stop[-1] == '\r')
            stop--;
        if (stop > at) {
            TRY(csv_line(r, at, stop, line, &type->dims[1]));
            type->dims[0]++;
        }
        at = next ? next + 1 : end;
    }
    return type->dims[0]
               ? HEED_OK
               : heed__fail_at(r->err, HEED_ERR_FORMAT, r->path, "%s: there is no row in it", r->path);
}

heed_status heed__csv_read(heed_tensor *out, heed_context *ctx, const char *path, heed_error *err)
{
    csv_reading r = { .ctx = ctx, .path = path, .err = err };
    file_bytes file = { NULL, 0 };
    heed_type type;
    heed_status st;

    STEP(heed__file_read(&file, ctx, path, ctx->limits.file_bytes, err));
    STEP(csv_rows(&r, &file, &type));
    *out = (heed_tensor){ type, r.at };
    r.at = NULL;
done:
    heed__release(ctx->heap, r.at);
    heed__release(ctx->heap, file.data);
    return st;
}
