/* NPZ: a zip archive of NPY files, stored. libzip makes the archive, in memory of the context: it goes back
 * to each entry's header when the entry is written, which a file that is only appended to does not allow.
 * Then the archive is written as any other file is.
 *
 * Dates are those of 1980-01-01, where zip's begin, and modes those of a plain file, so that the same tensors
 * give the same bytes. */

#include "formats/npy.h"
#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "base/text.h"
#include <heed/formats.h>

#ifndef HEED_HAVE_NPZ

heed_status heed_npz_write(heed_context *ctx, const char *path, const heed_named_tensor *tensors, int64_t n,
                           heed_error *err)
{
    (void)ctx;
    (void)tensors;
    (void)n;
    return heed__fail_at(err, HEED_ERR_MISSING, path,
                         "heed was built without libzip, which writes NPZ: apt install libzip-dev, rebuild");
}

#else

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <zip.h>

#define NPZ_ENTRIES_MOST 65535
#define NPZ_DATE 0x21 /* 1980-01-01 */
#define NPZ_GROWTH 65536

/* ---- the archive in memory, as libzip's source and sink ---- */

typedef struct npz_archive {
    heap *heap;
    uint8_t *data;
    size_t size, room, at; /* `at`: where libzip writes next */
    bool written;          /* committed: before that there is no archive to be looked at */
    zip_error_t error;
    bool no_memory; /* the heap gave nothing */
} npz_archive;

static zip_int64_t archive_fail(npz_archive *a, int code, int system)
{
    zip_error_set(&a->error, code, system);
    return -1;
}

static zip_int64_t archive_write(npz_archive *a, const void *bytes, zip_uint64_t n)
{
    size_t end, room;

    if (n > SIZE_MAX || !heed__size_add(&end, a->at, (size_t)n) ||
        !heed__size_add(&room, end, end / 2 + NPZ_GROWTH))
        return archive_fail(a, ZIP_ER_WRITE, EFBIG);
    if (end > a->room) {
        uint8_t *data = heed__resize(a->heap, a->data, room, 1);

        a->no_memory = !data;
        if (!data)
            return archive_fail(a, ZIP_ER_MEMORY, 0);
        a->data = data;
        a->room = room;
    }
    memcpy(a->data + a->at, bytes, (size_t)n);
    a->at = end;
    if (a->size < end)
        a->size = end;
    return (zip_int64_t)n;
}

static zip_int64_t archive_seek(npz_archive *a, void *data, zip_uint64_t n)
{
    const zip_int64_t to = zip_source_seek_compute_offset(a->at, a->size, data, n, &a->error);

    if (to < 0)
        return -1;
    a->at = (size_t)to;
    return 0;
}

/* What libzip asks of a place it writes to. Nothing is read before something was written. */
static zip_int64_t archive_do(void *user, void *data, zip_uint64_t n, zip_source_cmd_t what)
{
    npz_archive *a = user;

    switch (what) {
    case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_WRITABLE;
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&a->error, data, n);
    case ZIP_SOURCE_STAT:
        return archive_fail(a, ZIP_ER_READ, ENOENT);
    case ZIP_SOURCE_BEGIN_WRITE:
        a->size = a->at = 0;
        return 0;
    case ZIP_SOURCE_WRITE:
        return archive_write(a, data, n);
    case ZIP_SOURCE_SEEK_WRITE:
        return archive_seek(a, data, n);
    case ZIP_SOURCE_TELL_WRITE:
        return (zip_int64_t)a->at;
    case ZIP_SOURCE_COMMIT_WRITE:
        a->written = true;
        return 0;
    case ZIP_SOURCE_ROLLBACK_WRITE:
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    default:
        return archive_fail(a, ZIP_ER_OPNOTSUPP, 0);
    }
}

static heed_status npz_fail(heed_error *err, const char *path, const npz_archive *a, zip_error_t *error)
{
    if (a->no_memory || zip_error_code_zip(error) == ZIP_ER_MEMORY)
        return heed__fail_memory(err, a->room);
    return heed__fail_at(err, HEED_ERR_IO, path, "%s: libzip cannot make the archive: %s", path,
                         zip_error_strerror(error));
}

/* ---- names ---- */

static bool npz_name(const char *name)
{
    size_t left = name ? strlen(name) : 0;

    if (left == 0)
        return false;
    for (const char *s = name; left;) {
        const size_t n = heed__utf8_length(s, left);

        if (n == 0 || (uint8_t)*s < 0x20 || *s == 0x7f)
            return false;
        s += n;
        left -= n;
    }
    return true;
}

static bool npz_before(const void *items, uint32_t a, uint32_t b)
{
    const heed_named_tensor *t = items;

    return strcmp(t[a].name, t[b].name) < 0;
}

static heed_status npz_check(heed_context *ctx, const char *path, const heed_named_tensor *t, uint32_t n,
                             heed_error *err)
{
    uint32_t *order = heed__alloc(ctx->heap, n, 2 * sizeof *order);
    heed_status st = HEED_OK;
    char shown[200];

    if (!order)
        return heed__fail_memory(err, 2 * n * sizeof *order);
    for (uint32_t i = 0; i < n && st == HEED_OK; i++)
        if (!npz_name(t[i].name) || strlen(t[i].name) > ctx->limits.name_bytes)
            st = heed__fail_at(
                err, HEED_ERR_USAGE, path,
                "\"%s\" cannot be the name of an array: 1 to %" PRIu64
                " bytes of UTF-8 without control characters",
                heed__shown(shown, t[i].name ? t[i].name : "", t[i].name ? strlen(t[i].name) : 0),
                ctx->limits.name_bytes);
    if (st == HEED_OK)
        heed__sort(order, order + n, n, npz_before, t);
    for (uint32_t i = 1; i < n && st == HEED_OK; i++)
        if (strcmp(t[order[i - 1]].name, t[order[i]].name) == 0)
            st = heed__fail_at(err, HEED_ERR_USAGE, path, "the name \"%s\" was given twice",
                               heed__shown(shown, t[order[i]].name, strlen(t[order[i]].name)));
    heed__release(ctx->heap, order);
    return st;
}

/* ---- writing ---- */

/* One entry. A source belongs to the archive once it is added; its bytes are borrowed until zip_close. */
static heed_status npz_add(zip_t *z, const npz_archive *archive, const char *path, const char *name,
                           text *entry, const npy_array *a, heed_error *err)
{
    const zip_buffer_fragment_t parts[2] = { { (zip_uint8_t *)(uintptr_t)a->header, a->header_size },
                                             { (zip_uint8_t *)(uintptr_t)a->data, a->data_size } };
    zip_source_t *from = zip_source_buffer_fragment(z, parts, a->data_size > 0 ? 2 : 1, 0);
    zip_int64_t at;

    heed__text_clear(entry);
    heed__text_add(entry, "%s.npy", name);
    if (entry->failed || !from) {
        zip_source_free(from);
        return entry->failed ? heed__fail_memory(err, 0) : npz_fail(err, path, archive, zip_get_error(z));
    }
    at = zip_file_add(z, entry->data, from, ZIP_FL_ENC_UTF_8);
    if (at < 0)
        zip_source_free(from);
    if (at < 0 || zip_set_file_compression(z, (zip_uint64_t)at, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(z, (zip_uint64_t)at, 0, NPZ_DATE, 0) != 0 ||
        zip_file_set_external_attributes(z, (zip_uint64_t)at, 0, ZIP_OPSYS_UNIX, 0100644u << 16) != 0)
        return npz_fail(err, path, archive, zip_get_error(z));
    return HEED_OK;
}

/* All entries into archive->data. */
static heed_status npz_make(npz_archive *archive, const char *path, const heed_named_tensor *tensors,
                            const npy_array *arrays, uint32_t n, heed_error *err)
{
    zip_source_t *place = NULL;
    zip_t *z = NULL;
    zip_error_t error;
    heed_status st;
    text entry;

    heed__text_init(&entry, archive->heap, 0);
    zip_error_init(&error);
    place = zip_source_function_create(archive_do, archive, &error);
    z = place ? zip_open_from_source(place, ZIP_CREATE | ZIP_TRUNCATE, &error) : NULL;
    if (!z) {
        st = npz_fail(err, path, archive, &error);
        zip_source_free(place); /* otherwise it belongs to z */
        goto done;
    }
    for (uint32_t i = 0; i < n; i++)
        STEP(npz_add(z, archive, path, tensors[i].name, &entry, &arrays[i], err));
    st = zip_close(z) == 0 && archive->written ? HEED_OK : npz_fail(err, path, archive, zip_get_error(z));
    if (st == HEED_OK)
        z = NULL;
done:
    if (z)
        zip_discard(z);
    zip_error_fini(&error);
    heed__text_release(&entry);
    return st;
}

heed_status heed_npz_write(heed_context *ctx, const char *path, const heed_named_tensor *tensors, int64_t n,
                           heed_error *err)
{
    npz_archive archive = { .heap = ctx->heap };
    npy_array *arrays = NULL;
    heed_status st;

    if (n < 1 || n > NPZ_ENTRIES_MOST)
        return heed__fail_at(err, HEED_ERR_USAGE, path,
                             "%s: an NPZ file has 1 to %d arrays; %" PRId64 " were given", path,
                             NPZ_ENTRIES_MOST, n);
    zip_error_init(&archive.error);
    STEP(npz_check(ctx, path, tensors, (uint32_t)n, err));
    arrays = heed__alloc(ctx->heap, (size_t)n, sizeof *arrays);
    if (!arrays) {
        st = heed__fail_memory(err, (uint64_t)n * sizeof *arrays);
        goto done;
    }
    for (int64_t i = 0; i < n; i++)
        STEP(heed__npy_array(&arrays[i], ctx->heap, path, tensors[i].name, &tensors[i].tensor, err));
    STEP(npz_make(&archive, path, tensors, arrays, (uint32_t)n, err));
    STEP(heed__file_replace(ctx, path, archive.data, archive.size, err));
done:
    for (int64_t i = 0; arrays && i < n; i++)
        heed__npy_array_release(&arrays[i], ctx->heap);
    heed__release(ctx->heap, arrays);
    heed__release(ctx->heap, archive.data);
    zip_error_fini(&archive.error);
    return st;
}

#endif
