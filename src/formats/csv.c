/* CSV by RFC 4180, row by row: rows are made in memory and go to the file in pieces of at least CSV_PIECE. */

#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include <heed/formats.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define CSV_PIECE 65536

struct heed_csv {
    heed_context *ctx;
    file_writer *file;
    text rows;           /* not yet in the file */
    int64_t fields, row; /* of the row that is being made */
    int64_t columns;     /* of the first row; 0: not known yet */
    heed_status failed;  /* of a row: commit must not succeed */
};

heed_status heed_csv_begin(heed_csv **out, heed_context *ctx, const char *path, heed_error *err)
{
    heed_csv *c = heed__alloc(ctx->heap, 1, sizeof *c);
    heed_status st;

    if (!c)
        return heed__fail_memory(err, sizeof *c);
    c->ctx = ctx;
    heed__text_init(&c->rows, ctx->heap, 0);
    st = heed__file_begin(&c->file, ctx, path, err);
    if (st != HEED_OK) {
        heed__release(ctx->heap, c);
        return st;
    }
    *out = c;
    return HEED_OK;
}

/* The comma before a field that is not the first. */
static void csv_field(heed_csv *c)
{
    if (c->fields++ > 0)
        heed__text_put(&c->rows, ",", 1);
}

void heed_csv_text(heed_csv *c, const char *field)
{
    csv_field(c);
    if (!field[strcspn(field, ",\"\r\n")]) {
        heed__text_put(&c->rows, field, strlen(field));
        return;
    }
    heed__text_put(&c->rows, "\"", 1);
    for (;;) {
        const size_t n = strcspn(field, "\"");

        heed__text_put(&c->rows, field, n);
        if (!field[n])
            break;
        heed__text_put(&c->rows, "\"\"", 2);
        field += n + 1;
    }
    heed__text_put(&c->rows, "\"", 1);
}

void heed_csv_integer(heed_csv *c, int64_t value)
{
    csv_field(c);
    heed__text_add(&c->rows, "%" PRId64, value);
}

static bool csv_special(heed_csv *c, double value)
{
    if (isfinite(value))
        return false;
    heed__text_add(&c->rows, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    return true;
}

void heed_csv_float(heed_csv *c, float value)
{
    csv_field(c);
    if (!csv_special(c, (double)value))
        heed__text_float(&c->rows, value);
}

void heed_csv_double(heed_csv *c, double value)
{
    csv_field(c);
    if (!csv_special(c, value))
        heed__text_number(&c->rows, value);
}

static heed_status csv_flush(heed_csv *c, heed_error *err)
{
    TRY(heed__file_put(c->file, c->rows.data, c->rows.size, err));
    heed__text_clear(&c->rows);
    return HEED_OK;
}

static heed_status csv_end_row(heed_csv *c, heed_error *err)
{
    heed__text_put(&c->rows, "\r\n", 2);
    if (c->rows.failed)
        return c->rows.failed == HEED_ERR_MEMORY
                   ? heed__fail_memory(err, c->rows.capacity)
                   : heed__fail(err, HEED_ERR_LIMIT, "a row of CSV is too long");
    if (c->columns == 0)
        c->columns = c->fields;
    if (c->fields != c->columns)
        return heed__fail(err, HEED_ERR_USAGE,
                          "row %" PRId64 " of the CSV has %" PRId64 " fields, the first one has %" PRId64,
                          c->row + 1, c->fields, c->columns);
    c->fields = 0;
    c->row++;
    return c->rows.size < CSV_PIECE ? HEED_OK : csv_flush(c, err);
}

heed_status heed_csv_row(heed_csv *c, heed_error *err)
{
    const heed_status st = csv_end_row(c, err);

    if (c->failed == HEED_OK)
        c->failed = st;
    return st;
}

static void csv_free(heed_csv *c)
{
    heed__text_release(&c->rows);
    heed__release(c->ctx->heap, c);
}

heed_status heed_csv_commit(heed_csv *c, heed_error *err)
{
    heed_status st = c->failed;

    if (st == HEED_OK && c->fields > 0)
        st = HEED_ERR_USAGE;
    if (st != HEED_OK)
        heed__fail(err, st, "an earlier row of this CSV failed, or the last one was not ended");
    else
        st = csv_flush(c, err);
    if (st == HEED_OK)
        st = heed__file_commit(c->file, err);
    else
        heed__file_cancel(c->file);
    csv_free(c);
    return st;
}

void heed_csv_cancel(heed_csv *c)
{
    if (!c)
        return;
    heed__file_cancel(c->file);
    csv_free(c);
}
