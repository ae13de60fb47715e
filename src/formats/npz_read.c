/* NPZ, reading: a zip archive of NPY files, as numpy.savez and numpy.savez_compressed write it. The archive is in memory
 * whole; libzip finds the entry and inflates it into a block of the size that the archive says, which is within the
 * context's limits, and checks its CRC. */

#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "formats/npz.h"

#include <string.h>

#ifndef HEED_HAVE_NPZ

heed_status heed__npz_read(heed_tensor *out, heed_context *ctx, arena *a, const char *path,
                           const char *const *names, heed_error *err)
{
    (void)out;
    (void)ctx;
    (void)a;
    (void)names;
    return heed__fail_at(err, HEED_ERR_MISSING, path,
                         "heed was built without libzip, which reads NPZ: apt install libzip-dev, rebuild");
}

#else

#include <zip.h>

#define NAMES_SHOWN 280

static heed_status npz_open(zip_t **out, const file_bytes *file, const char *path, heed_error *err)
{
    zip_error_t error;
    zip_source_t *from;
    zip_t *z;
    heed_status st = HEED_OK;

    zip_error_init(&error);
    from = zip_source_buffer_create(file->data, file->size, 0, &error);
    z = from ? zip_open_from_source(from, ZIP_RDONLY | ZIP_CHECKCONS, &error) : NULL;
    if (!z) {
        st = zip_error_code_zip(&error) == ZIP_ER_MEMORY
                 ? heed__fail_memory(err, 0)
                 : heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: this is no NPZ file: %s", path,
                                 zip_error_strerror(&error));
        zip_source_free(from);
    }
    zip_error_fini(&error);
    *out = z;
    return st;
}

/* Index of "NAME.npy", or -1. */
static zip_int64_t npz_find(zip_t *z, text *entry, const char *name)
{
    heed__text_clear(entry);
    heed__text_add(entry, "%s.npy", name);
    return entry->failed ? -1 : zip_name_locate(z, entry->data, ZIP_FL_ENC_UTF_8);
}

static heed_status npz_unknown(zip_t *z, text *list, const char *path, const char *name, heed_error *err)
{
    const zip_int64_t n = zip_get_num_entries(z, 0);
    char shown[200], wanted[200];

    heed__text_clear(list);
    for (zip_int64_t i = 0; i < n; i++) {
        const char *entry = zip_get_name(z, (zip_uint64_t)i, ZIP_FL_ENC_UTF_8);
        const size_t size = entry ? strlen(entry) : 0;

        if (list->size < NAMES_SHOWN)
            heed__text_add(list, "%s%s", i ? ", " : "",
                           heed__shown(shown, entry ? entry : "",
                                       size > 4 && strcmp(entry + size - 4, ".npy") == 0 ? size - 4 : size));
        else if (i + 1 == n)
            heed__text_add(list, " and more");
    }
    if (list->failed)
        return heed__fail_memory(err, 0);
    return heed__fail_at(err, HEED_ERR_USAGE, path, "%s has no array \"%s\": it has %s", path,
                         heed__shown(wanted, name, strlen(name)), n > 0 ? list->data : "none");
}

/* The entry's bytes; *data is the caller's. */
static heed_status npz_bytes(uint8_t **data, size_t *size, zip_t *z, zip_int64_t at, heed_context *ctx,
                             const char *path, heed_error *err)
{
    zip_stat_t s;
    zip_file_t *f = NULL;
    uint8_t *bytes = NULL, extra;
    heed_status st = HEED_OK;

    if (zip_stat_index(z, (zip_uint64_t)at, 0, &s) != 0 || !(s.valid & ZIP_STAT_SIZE))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: an entry has no size", path);
    if (s.size > ctx->limits.file_bytes || s.size > SIZE_MAX)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: an array is larger than the limit of %llu bytes",
                             path, (unsigned long long)ctx->limits.file_bytes);
    bytes = heed__alloc(ctx->heap, (size_t)s.size, 1);
    if (!bytes)
        return heed__fail_memory(err, s.size);
    f = zip_fopen_index(z, (zip_uint64_t)at, 0);
    /* one byte more than there is: at the end libzip compares the CRC */
    if (!f || zip_fread(f, bytes, s.size) != (zip_int64_t)s.size || zip_fread(f, &extra, 1) != 0)
        st = heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: an array cannot be read out of the archive: %s",
                           path, f ? zip_file_strerror(f) : zip_strerror(z));
    if (f)
        (void)zip_fclose(f);
    if (st != HEED_OK) {
        heed__release(ctx->heap, bytes);
        return st;
    }
    *data = bytes;
    *size = (size_t)s.size;
    return HEED_OK;
}

heed_status heed__npz_read(heed_tensor *out, heed_context *ctx, arena *a, const char *path,
                           const char *const *names, heed_error *err)
{
    file_bytes file = { .size = 0 };
    zip_t *z = NULL;
    zip_int64_t at = -1;
    uint8_t *bytes = NULL;
    size_t size = 0;
    heed_status st;
    text words;
    cursor c;

    heed__text_init(&words, ctx->heap, 0);
    STEP(heed__file_read(&file, ctx, path, ctx->limits.file_bytes, err));
    STEP(npz_open(&z, &file, path, err));
    for (int64_t i = 0; names[i] && at < 0 && !words.failed; i++)
        at = npz_find(z, &words, names[i]);
    if (words.failed) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    if (at < 0) {
        st = npz_unknown(z, &words, path, names[0], err);
        goto done;
    }
    STEP(npz_bytes(&bytes, &size, z, at, ctx, path, err));
    c = heed__cursor(bytes, size);
    st = heed__npy_read(out, a, &c, path, err);
done:
    heed__release(ctx->heap, bytes);
    if (z)
        zip_discard(z);
    heed__release(ctx->heap, file.data);
    heed__text_release(&words);
    return st;
}

#endif
