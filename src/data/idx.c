/* IDX, the format of MNIST: bytes 0, 0, a code for the element type, the number of dimensions; each size as
 * u32, big-endian; then the elements. Plain, or all of it in one gzip stream.
 *
 * The sizes decide how much there is: a plain file must have exactly that many bytes, a compressed one is
 * inflated in steps up to that many, and one more is an error. Memory is taken only for what the bytes at
 * hand could hold: deflate reaches 1,032 to 1 at most. Records are slices along the first dimension; only
 * those asked for are kept. */

#include "data/idx.h"
#include "base/context.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include <heed/data.h>

#include <inttypes.h>
#include <string.h>

#ifdef HEED_HAVE_GZIP
#define ZLIB_CONST
#include <zlib.h>
#endif

#define IDX_U8 8
#define IDX_HEAD_MOST (4 + 4 * HEED_MAX_RANK)
#define IDX_STEP 65536
#define IDX_DEFLATE_MOST 1032

/* ---- the header ---- */

typedef struct idx_head {
    heed_type type;
    uint64_t size;          /* of the header */
    uint64_t record, bytes; /* bytes of one record, of all */
} idx_head;

/* The four bytes that say how long the header is. */
static heed_status idx_magic(idx_head *h, const uint8_t magic[4], const char *path, heed_error *err)
{
    if (magic[0] != 0 || magic[1] != 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "at byte 0: an IDX file begins with two zero bytes");
    if (magic[2] != IDX_U8)
        return heed__fail_at(err, HEED_ERR_DTYPE, path,
                             "at byte 2: element type 0x%02x; only unsigned bytes (0x08) are read", magic[2]);
    if (magic[3] == 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "at byte 3: an IDX file has one dimension at least");
    if (magic[3] > HEED_MAX_RANK)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "at byte 3: %d dimensions; %d are the limit",
                             magic[3], HEED_MAX_RANK);
    h->type = (heed_type){ .dtype = HEED_U8, .rank = magic[3] };
    h->size = 4 + 4 * (uint64_t)magic[3];
    return HEED_OK;
}

static heed_status idx_sizes(idx_head *h, const uint8_t *sizes, const char *path, heed_error *err)
{
    cursor c = heed__cursor(sizes, (size_t)h->size - 4);

    for (int i = 0; i < h->type.rank; i++)
        h->type.dims[i] = (int64_t)heed__u32be(&c);
    if (heed_type_count(&h->type) < 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "at byte 4: the product of the sizes overflows");
    h->bytes = (uint64_t)heed_type_count(&h->type);
    h->record = h->type.dims[0] ? h->bytes / (uint64_t)h->type.dims[0] : 0;
    return heed__cursor_status(&c, path, err);
}

/* ---- which records ---- */

/* A number of up to 18 digits; false when there is none. */
static bool idx_number(const char **at, int64_t *out)
{
    int64_t value = 0;
    int digits = 0;

    for (; **at >= '0' && **at <= '9' && digits < 18; digits++)
        value = value * 10 + (*(*at)++ - '0');
    *out = value;
    return digits > 0;
}

/* Either number may be missing. */
size_t heed__idx_suffix(const char *path, idx_range *range)
{
    const char *at = strrchr(path, '[');
    idx_range r = { 0, -1 };

    if (!at || at == path)
        return strlen(path);
    at++;
    if (!idx_number(&at, &r.begin))
        r.begin = 0;
    if (*at++ != ':')
        return strlen(path);
    if (!idx_number(&at, &r.end))
        r.end = -1;
    if (strcmp(at, "]") != 0)
        return strlen(path);
    *range = r;
    return (size_t)(strrchr(path, '[') - path);
}

static heed_status idx_check_range(idx_range *r, const idx_head *h, const char *path, heed_error *err)
{
    const int64_t n = h->type.dims[0];

    if (r->end < 0)
        r->end = n;
    if (r->begin > r->end || r->end > n)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "records [%" PRId64 ":%" PRId64 "] of %" PRId64,
                             r->begin, r->end, n);
    return HEED_OK;
}

/* ---- reading ---- */

typedef struct idx_job {
    heed_context *ctx;
    const char *path;
    file_reader file;
    idx_range range;
    idx_head head;
    uint8_t *data; /* the records of the range */
    heed_error *err;
} idx_job;

static uint64_t idx_wanted_bytes(const idx_job *j)
{
    return (uint64_t)(j->range.end - j->range.begin) * j->head.record;
}

/* Memory for the records, once the file has been found long enough to hold them: `most` bytes at best. */
static heed_status idx_make_room(idx_job *j, uint64_t most)
{
    if (j->head.bytes > most)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "at byte 4: the sizes say %" PRIu64
                             " bytes of data, but the file holds %s%" PRIu64,
                             j->head.bytes, most == j->file.size - j->head.size ? "" : "at most ", most);
    if (j->head.bytes > j->ctx->limits.file_bytes)
        return heed__fail_at(j->err, HEED_ERR_LIMIT, j->path,
                             "%" PRIu64 " bytes of data are over the limit, %" PRIu64, j->head.bytes,
                             j->ctx->limits.file_bytes);
    TRY(idx_check_range(&j->range, &j->head, j->path, j->err));
    j->data = heed__alloc(j->ctx->heap, (size_t)idx_wanted_bytes(j), 1);
    return j->data ? HEED_OK : heed__fail_memory(j->err, idx_wanted_bytes(j));
}

static heed_status idx_read_plain(idx_job *j)
{
    uint8_t head[IDX_HEAD_MOST];

    TRY(heed__file_part(&j->file, j->path, head, 4, 0, j->err));
    TRY(idx_magic(&j->head, head, j->path, j->err));
    if (j->file.size < j->head.size)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "at byte 4: the file ends before its sizes are complete");
    TRY(heed__file_part(&j->file, j->path, head + 4, (size_t)j->head.size - 4, 4, j->err));
    TRY(idx_sizes(&j->head, head + 4, j->path, j->err));
    TRY(idx_make_room(j, j->file.size - j->head.size));
    if (j->head.bytes < j->file.size - j->head.size)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "at byte %" PRIu64 ": %" PRIu64 " bytes follow the data",
                             j->head.size + j->head.bytes, j->file.size - j->head.size - j->head.bytes);
    return heed__file_part(&j->file, j->path, j->data, (size_t)idx_wanted_bytes(j),
                           j->head.size + (uint64_t)j->range.begin * j->head.record, j->err);
}

#ifdef HEED_HAVE_GZIP

/* Takes inflated bytes as they come: first the header, then the records of the range. */
typedef struct idx_sink {
    uint8_t head[IDX_HEAD_MOST];
    uint64_t at; /* bytes taken */
} idx_sink;

static heed_status idx_sink_head(idx_job *j, idx_sink *s)
{
    const uint64_t ratio_most =
        j->file.size > UINT64_MAX / IDX_DEFLATE_MOST ? UINT64_MAX : j->file.size * IDX_DEFLATE_MOST;

    if (s->at == 4)
        return idx_magic(&j->head, s->head, j->path, j->err);
    if (s->at == j->head.size) {
        TRY(idx_sizes(&j->head, s->head + 4, j->path, j->err));
        return idx_make_room(j, ratio_most);
    }
    return HEED_OK;
}

static heed_status idx_sink_take(idx_job *j, idx_sink *s, const uint8_t *bytes, uint64_t n)
{
    while (n > 0 && (s->at < 4 || s->at < j->head.size)) {
        s->head[s->at++] = *bytes++;
        n--;
        TRY(idx_sink_head(j, s));
    }
    if (n > 0) {
        const uint64_t first = (uint64_t)j->range.begin * j->head.record,
                       end = (uint64_t)j->range.end * j->head.record;
        const uint64_t from = s->at - j->head.size; /* of the data */
        const uint64_t low = from > first ? from : first, high = from + n < end ? from + n : end;

        if (n > j->head.bytes - from)
            return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                                 "more data follows than the %" PRIu64 " bytes that the sizes say",
                                 j->head.bytes);
        if (low < high)
            memcpy(j->data + (low - first), bytes + (low - from), (size_t)(high - low));
        s->at += n;
    }
    return HEED_OK;
}

static voidpf idx_zlib_alloc(voidpf user, uInt n, uInt size)
{
    return heed__alloc(user, n, size);
}

static void idx_zlib_free(voidpf user, voidpf block)
{
    heed__release(user, block);
}

static heed_status idx_gzip_fail(const idx_job *j, int code, uint64_t at)
{
    if (code == Z_MEM_ERROR)
        return heed__fail_memory(j->err, 0);
    return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                         "near byte %" PRIu64 ": the gzip stream is damaged", at);
}

/* Inflates the whole file through `in` and `out`, IDX_STEP bytes each. */
static heed_status idx_inflate(idx_job *j, z_stream *z, uint8_t *in, uint8_t *out)
{
    idx_sink sink = { .at = 0 };
    uint64_t at = 0;
    int code = Z_OK;

    while (code != Z_STREAM_END) {
        if (z->avail_in == 0) {
            const uint64_t left = j->file.size - at;

            if (left == 0)
                return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path, "the gzip stream is cut off");
            z->avail_in = (uInt)(left < IDX_STEP ? left : IDX_STEP);
            z->next_in = in;
            TRY(heed__file_part(&j->file, j->path, in, z->avail_in, at, j->err));
            at += z->avail_in;
        }
        z->avail_out = IDX_STEP;
        z->next_out = out;
        code = inflate(z, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return idx_gzip_fail(j, code, at - z->avail_in);
        TRY(idx_sink_take(j, &sink, out, IDX_STEP - z->avail_out));
    }
    if (z->avail_in > 0 || at < j->file.size)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "at byte %" PRIu64 ": bytes follow the end of the gzip stream",
                             at - z->avail_in);
    if (sink.at < 4 || sink.at < j->head.size)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "the data ends before the IDX header is complete");
    if (sink.at - j->head.size < j->head.bytes)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path,
                             "the sizes say %" PRIu64 " bytes of data, but the file holds %" PRIu64,
                             j->head.bytes, sink.at - j->head.size);
    return HEED_OK;
}

static heed_status idx_read_gzip(idx_job *j)
{
    heap *h = j->ctx->heap;
    uint8_t *in = heed__alloc(h, IDX_STEP, 1), *out = heed__alloc(h, IDX_STEP, 1);
    z_stream z = { .zalloc = idx_zlib_alloc, .zfree = idx_zlib_free, .opaque = h };
    bool begun = false;
    heed_status st;
    int code;

    if (!in || !out) {
        st = heed__fail_memory(j->err, IDX_STEP);
        goto done;
    }
    code = inflateInit2(&z, 15 + 16); /* gzip only */
    if (code != Z_OK) {
        st = idx_gzip_fail(j, code, 0);
        goto done;
    }
    begun = true;
    STEP(idx_inflate(j, &z, in, out));
done:
    if (begun)
        inflateEnd(&z);
    heed__release(h, out);
    heed__release(h, in);
    return st;
}

#else

static heed_status idx_read_gzip(idx_job *j)
{
    return heed__fail_at(
        j->err, HEED_ERR_MISSING, j->path,
        "this file is compressed with gzip, and heed was built without zlib: "
                         "apt install zlib1g-dev, rebuild");
}

#endif

static heed_status idx_read(idx_job *j)
{
    uint8_t magic[2];

    if (j->file.size < 4)
        return heed__fail_at(j->err, HEED_ERR_FORMAT, j->path, "%" PRIu64 " bytes are no IDX file",
                             j->file.size);
    TRY(heed__file_part(&j->file, j->path, magic, sizeof magic, 0, j->err));
    return magic[0] == 0x1f && magic[1] == 0x8b ? idx_read_gzip(j) : idx_read_plain(j);
}

heed_status heed_idx_read(heed_tensor *out, heed_context *ctx, const char *path, int64_t begin, int64_t end,
                          heed_error *err)
{
    idx_job j = { .ctx = ctx, .file = { .fd = -1 }, .range = { begin, end }, .err = err };
    idx_range suffix = { 0, -1 };
    const size_t length = heed__idx_suffix(path, &suffix);
    char *file = heed__alloc(ctx->heap, length + 1, 1);
    heed_status st;

    if (!file)
        return heed__fail_memory(err, length + 1);
    memcpy(file, path, length);
    j.path = file;
    if (begin < 0 || end < -1 || (path[length] && (begin != 0 || end != -1))) {
        st = heed__fail_at(err, HEED_ERR_USAGE, path,
                           "records are given as begin >= 0 and end (-1: all), or as [begin:end] behind "
                           "the path, not both");
        goto done;
    }
    if (path[length])
        j.range = suffix;
    STEP(heed__file_open(&j.file, ctx, file, err));
    STEP(idx_read(&j));
    out->type = j.head.type;
    out->type.dims[0] = j.range.end - j.range.begin;
    out->data = j.data;
    j.data = NULL;
done:
    heed__release(ctx->heap, j.data);
    heed__file_close(&j.file);
    heed__release(ctx->heap, file);
    return st;
}

void heed_data_free(heed_context *ctx, heed_tensor *t)
{
    heed__release(ctx->heap, t->data);
    t->data = NULL;
}
