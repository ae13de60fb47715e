/* Files. Each call of the system is tried again when a signal interrupted it, a bounded number of times,
 * so that a system that only interrupts cannot hang us. */
#include "base/files.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FILES_RETRIES 100
#define FILES_NAMES 1000             /* temporary names that are tried */
#define FILES_STEP ((size_t)1 << 30) /* bytes of one call */
#define FILES_GROWTH 65536           /* a file that grows while it is read */

struct file_writer {
    heed_context *ctx;
    char *path, *folder, *temp;
    int fd;
    heed_status failed; /* a put failed: commit must not succeed */
};

static heed_status files_fail(heed_error *err, const char *path, const char *what, int error)
{
    char said[128];

    heed__os_error_text(said, sizeof said, error);
    return heed__fail_at(err, HEED_ERR_IO, path, "%s: %s", what, said);
}

static int files_open(const file_ops *f, int (*open)(void *user, const char *path), const char *path)
{
    int fd = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        fd = open(f->user, path);
        if (fd >= 0 || errno != EINTR)
            break;
    }
    return fd;
}

/* The descriptor is gone after an interrupted close too; what was written is safe by fsync. */
static int files_close(const file_ops *f, int fd)
{
    return f->close(f->user, fd) != 0 && errno != EINTR ? -1 : 0;
}

static int files_sync(const file_ops *f, int fd)
{
    int failed = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        failed = f->sync(f->user, fd);
        if (failed == 0 || errno != EINTR)
            break;
    }
    return failed;
}

static int64_t files_size(const file_ops *f, int fd, bool *regular)
{
    int64_t size = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        size = f->size(f->user, fd, regular);
        if (size >= 0 || errno != EINTR)
            break;
    }
    return size;
}

/* Reads up to n bytes; fewer only at the end of the file. -1 on failure. */
static int64_t files_read(const file_ops *f, int fd, uint8_t *to, size_t n, uint64_t offset)
{
    size_t done = 0;
    int interrupted = 0;

    while (done < n) {
        const size_t step = n - done < FILES_STEP ? n - done : FILES_STEP;
        const int64_t got = f->read(f->user, fd, to + done, step, offset + done);

        if (got < 0 && errno == EINTR && ++interrupted < FILES_RETRIES)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        interrupted = 0;
        done += (size_t)got;
    }
    return (int64_t)done;
}

/* Writes all n bytes or returns how many were written, with errno set. */
static size_t files_write(const file_ops *f, int fd, const uint8_t *from, size_t n)
{
    size_t done = 0;
    int interrupted = 0;

    while (done < n) {
        const size_t step = n - done < FILES_STEP ? n - done : FILES_STEP;
        const int64_t put = f->write(f->user, fd, from + done, step);

        if (put < 0 && errno == EINTR && ++interrupted < FILES_RETRIES)
            continue;
        if (put == 0)
            errno = ENOSPC; /* no error and no progress */
        if (put <= 0)
            break;
        interrupted = 0;
        done += (size_t)put;
    }
    return done;
}

/* The last steps of reading: the size at opening is a hint, the end of the file decides. */
static heed_status files_read_all(file_bytes *out, heed_context *ctx, int fd, const char *path,
                                  uint64_t limit, heed_error *err)
{
    const file_ops *f = ctx->files;
    bool regular = false;
    const int64_t hint = files_size(f, fd, &regular);
    uint64_t room = hint < 0 ? 0 : (uint64_t)hint;
    uint64_t used = 0;

    if (hint < 0)
        return files_fail(err, path, "the file's size cannot be asked for", errno);
    if (!regular)
        return heed__fail_at(err, HEED_ERR_IO, path, "this is no regular file; name a file");
    room += 1; /* one byte more shows the end */
    for (;;) {
        uint8_t *data;
        int64_t got;

        if (room - 1 > limit)
            return heed__fail_at(err, HEED_ERR_LIMIT, path,
                                 "the file has more than %" PRIu64 " bytes, the limit", limit);
        data = room <= SIZE_MAX ? heed__resize(ctx->heap, out->data, (size_t)room, 1) : NULL;
        if (!data)
            return heed__fail_memory(err, room);
        out->data = data;
        got = files_read(f, fd, data + used, (size_t)(room - used), used);
        if (got < 0)
            return files_fail(err, path, "the file cannot be read", errno);
        used += (uint64_t)got;
        out->size = (size_t)used;
        if (used < room)
            return HEED_OK;
        room += used / 2 < FILES_GROWTH ? FILES_GROWTH : used / 2;
        if (room - 1 > limit && used <= limit)
            room = limit + 1;
    }
}

heed_status heed__file_read(file_bytes *out, heed_context *ctx, const char *path, uint64_t limit,
                            heed_error *err)
{
    const file_ops *f = ctx->files;
    file_bytes bytes = { 0 };
    const int fd = files_open(f, f->open_read, path);
    heed_status st;

    if (limit > INT64_MAX - 1)
        limit = INT64_MAX - 1;
    if (fd < 0)
        return files_fail(err, path, "the file cannot be opened", errno);
    st = files_read_all(&bytes, ctx, fd, path, limit, err);
    if (files_close(f, fd) != 0 && st == HEED_OK)
        st = files_fail(err, path, "the file cannot be closed", errno);
    if (st != HEED_OK) {
        heed__release(ctx->heap, bytes.data);
        return st;
    }
    *out = bytes;
    return HEED_OK;
}

heed_status heed__file_open(file_reader *out, heed_context *ctx, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    file_reader r = { .ctx = ctx, .fd = files_open(f, f->open_read, path) };
    bool regular = false;
    int64_t size;

    if (r.fd < 0)
        return files_fail(err, path, "the file cannot be opened", errno);
    size = files_size(f, r.fd, &regular);
    if (size < 0 || !regular) {
        const heed_status st = size < 0
                                   ? files_fail(err, path, "the file's size cannot be asked for", errno)
                                   : heed__fail_at(err, HEED_ERR_IO, path, "this is no regular file; name a file");

        heed__file_close(&r);
        return st;
    }
    r.size = (uint64_t)size;
    *out = r;
    return HEED_OK;
}

heed_status heed__file_part(const file_reader *r, const char *path, void *to, size_t n, uint64_t offset, heed_error *err)
{
    const int64_t got = files_read(r->ctx->files, r->fd, to, n, offset);

    if (got < 0)
        return files_fail(err, path, "the file cannot be read", errno);
    if ((size_t)got < n)
        return heed__fail_at(err, HEED_ERR_IO, path, "the file became shorter while it was read");
    return HEED_OK;
}

void heed__file_close(file_reader *r)
{
    if (r->fd >= 0)
        (void)files_close(r->ctx->files, r->fd);
    r->fd = -1;
}

/* The bytes of a path before the name it ends with: 4 for "a/b/c", 0 for "c". */
static size_t files_name_at(const char *path)
{
    size_t n = strlen(path);

    while (n && !heed__os_separates(path[n - 1]))
        n--;
    return n;
}

/* The folder of a path in heap memory: "a/b" for "a/b/c", "." for "c", "/" for "/c". */
static char *files_folder(heap *h, const char *path)
{
    size_t n = files_name_at(path);
    char *folder;

    if (!n)
        return heed__copy_string(h, ".");
    if (n > 1)
        n--;
    folder = heed__alloc(h, n + 1, 1);
    if (folder)
        memcpy(folder, path, n);
    return folder;
}

static void files_writer_free(file_writer *w)
{
    heap *h = w->ctx->heap;

    heed__release(h, w->temp);
    heed__release(h, w->folder);
    heed__release(h, w->path);
    heed__release(h, w);
}

static void files_unlink(const file_ops *f, const char *path)
{
    for (int i = 0; i < FILES_RETRIES; i++)
        if (f->unlink(f->user, path) == 0 || errno != EINTR)
            return;
}

/* A name in the same folder that nobody has: ".heed-<process>-<number>.tmp". Opens it. */
static heed_status files_open_temp(file_writer *w, heed_error *err)
{
    const file_ops *f = w->ctx->files;
    const size_t name_at = files_name_at(w->path);
    const int folder = name_at < INT32_MAX ? (int)name_at : INT32_MAX;

    for (int i = 0; i < FILES_NAMES; i++) {
        text name;

        heed__text_init(&name, w->ctx->heap, 0);
        heed__text_add(&name, "%.*s.heed-%d-%d.tmp", folder, w->path, heed__os_process(), i);
        w->temp = heed__text_take(&name);
        if (!w->temp) {
            heed__text_release(&name);
            return heed__fail_memory(err, (uint64_t)folder);
        }
        w->fd = files_open(f, f->open_new, w->temp);
        if (w->fd >= 0)
            return HEED_OK;
        if (errno != EEXIST)
            break;
        heed__release(w->ctx->heap, w->temp);
        w->temp = NULL;
        errno = EEXIST;
    }
    return files_fail(err, w->path, "a temporary file cannot be made in its folder", errno);
}

heed_status heed__file_begin(file_writer **out, heed_context *ctx, const char *path, heed_error *err)
{
    file_writer *w = heed__alloc(ctx->heap, 1, sizeof *w);
    heed_status st;

    if (!w) {
        heed__fail_memory(err, sizeof *w);
        return HEED_ERR_MEMORY;
    }
    *w = (file_writer){ .ctx = ctx, .fd = -1 };
    w->path = heed__copy_string(ctx->heap, path);
    w->folder = w->path ? files_folder(ctx->heap, path) : NULL;
    st = w->folder ? files_open_temp(w, err) : heed__fail_memory(err, strlen(path));
    if (st != HEED_OK) {
        files_writer_free(w);
        return st;
    }
    *out = w;
    return HEED_OK;
}

static heed_status files_write_failed(heed_error *err, const char *path, const char *folder, size_t missing,
                                      int error)
{
    if (heed__os_disk_full(error)) {
        const int64_t room = heed__os_free_bytes(folder);

        if (room >= 0)
            return heed__fail_at(err, HEED_ERR_IO, path,
                                 "the disk is full: %zu bytes more are needed, %" PRId64
                                 " are free on its file system; make room or write elsewhere",
                                 missing, room);
        return heed__fail_at(err, HEED_ERR_IO, path,
                             "the disk is full: %zu bytes more are needed; make room or write elsewhere",
                             missing);
    }
    return files_fail(err, path, "the file cannot be written", error);
}

heed_status heed__file_put(file_writer *w, const void *bytes, size_t n, heed_error *err)
{
    size_t done;

    if (w->failed)
        return heed__fail_at(err, w->failed, w->path, "an earlier write to this file failed");
    done = files_write(w->ctx->files, w->fd, bytes, n);
    if (done < n)
        w->failed = files_write_failed(err, w->path, w->folder, n - done, errno);
    return w->failed;
}

void heed__file_cancel(file_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        (void)files_close(w->ctx->files, w->fd); /* the file goes away anyway */
    files_unlink(w->ctx->files, w->temp);
    files_writer_free(w);
}

/* Makes names in a folder durable. File systems without this notion say EINVAL. `path` is what messages name. */
static heed_status files_sync_folder(heed_context *ctx, const char *folder, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_folder, folder);
    int error = 0;

    if (fd < 0)
        return files_fail(err, path, "its folder cannot be opened", errno);
    if (files_sync(f, fd) != 0 && errno != EINVAL)
        error = errno;
    if (files_close(f, fd) != 0 && !error)
        error = errno;
    return error ? files_fail(err, path, "its folder cannot be made durable (fsync)", error) : HEED_OK;
}

heed_status heed__file_commit(file_writer *w, heed_error *err)
{
    const file_ops *f = w->ctx->files;
    heed_status st = w->failed;
    int failed = -1;

    if (st != HEED_OK) {
        heed__fail_at(err, st, w->path, "an earlier write to this file failed");
        heed__file_cancel(w);
        return st;
    }
    /* After a failed fsync the pages count as clean: trying again would prove nothing. The file is
     * dropped. */
    if (files_sync(f, w->fd) != 0) {
        st = heed__os_disk_full(errno) ? files_write_failed(err, w->path, w->folder, 0, errno)
                                                : files_fail(err, w->path, "fsync failed", errno);
        heed__file_cancel(w);
        return st;
    }
    failed = files_close(f, w->fd);
    w->fd = -1;
    if (failed) {
        st = files_fail(err, w->path, "the file cannot be closed", errno);
        heed__file_cancel(w);
        return st;
    }
    for (int i = 0; i < FILES_RETRIES; i++) {
        failed = f->rename(f->user, w->temp, w->path);
        if (!failed || errno != EINTR)
            break;
    }
    if (failed) {
        st = files_fail(err, w->path, "the finished file cannot be moved to its name", errno);
        heed__file_cancel(w);
        return st;
    }
    st = files_sync_folder(w->ctx, w->folder, w->path, err);
    files_writer_free(w);
    return st;
}

heed_status heed__file_replace(heed_context *ctx, const char *path, const void *bytes, size_t n,
                               heed_error *err)
{
    file_writer *w = NULL;
    heed_status st;

    TRY(heed__file_begin(&w, ctx, path, err));
    st = heed__file_put(w, bytes, n, err);
    if (st != HEED_OK) {
        heed__file_cancel(w);
        return st;
    }
    return heed__file_commit(w, err);
}

heed_status heed__file_append(heed_context *ctx, const char *path, const void *bytes, size_t n,
                              heed_error *err)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_append, path);
    heed_status st = HEED_OK;
    size_t done;

    if (fd < 0)
        return files_fail(err, path, "the file cannot be opened for appending", errno);
    done = files_write(f, fd, bytes, n);
    if (done < n)
        st = files_write_failed(err, path, path, n - done, errno);
    if (files_close(f, fd) != 0 && st == HEED_OK)
        st = files_fail(err, path, "the file cannot be closed", errno);
    return st;
}

heed_status heed__folder_sync(heed_context *ctx, const char *path, heed_error *err)
{
    return files_sync_folder(ctx, path, path, err);
}

heed_status heed__file_sync(heed_context *ctx, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_append, path);
    int error = 0;

    if (fd < 0)
        return files_fail(err, path, "the file cannot be opened", errno);
    if (files_sync(f, fd) != 0)
        error = errno;
    if (files_close(f, fd) != 0 && !error)
        error = errno;
    return error ? files_fail(err, path, "the file cannot be made durable (fsync)", error) : HEED_OK;
}

static heed_status files_drop(heed_context *ctx, int (*drop)(void *user, const char *path), const char *path,
                              const char *what, heed_error *err)
{
    int failed = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        failed = drop(ctx->files->user, path);
        if (!failed || errno != EINTR)
            break;
    }
    return failed && errno != ENOENT ? files_fail(err, path, what, errno) : HEED_OK;
}

heed_status heed__file_remove(heed_context *ctx, const char *path, heed_error *err)
{
    return files_drop(ctx, ctx->files->unlink, path, "the file cannot be removed", err);
}

heed_status heed__folder_remove(heed_context *ctx, const char *path, heed_error *err)
{
    return files_drop(ctx, ctx->files->rmdir, path, "the folder cannot be removed", err);
}

heed_status heed__file_move(heed_context *ctx, const char *from, const char *to, heed_error *err)
{
    const file_ops *f = ctx->files;
    int failed = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        failed = f->rename(f->user, from, to);
        if (!failed || errno != EINTR)
            break;
    }
    return failed ? files_fail(err, to, "a file cannot be moved to this name", errno) : HEED_OK;
}

/* The number that a lock file begins with; 0 when there is none. */
static int files_lock_holder(heed_context *ctx, const char *path)
{
    file_bytes bytes = { 0 };
    int id = 0;

    if (heed__file_read(&bytes, ctx, path, 64, NULL) == HEED_OK)
        for (size_t i = 0; i < bytes.size && bytes.data[i] >= '0' && bytes.data[i] <= '9' && id < 100000000; i++)
            id = id * 10 + (bytes.data[i] - '0');
    heed__release(ctx->heap, bytes.data);
    return id;
}

heed_status heed__file_lock(int *lock, heed_context *ctx, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_lock, path);

    if (fd < 0 && errno == EBUSY)
        return heed__fail_at(err, HEED_ERR_EXISTS, path,
                             "another training (process %d) works in this folder; wait for it, or choose another one",
                             files_lock_holder(ctx, path));
    if (fd < 0)
        return files_fail(err, path, "the file cannot be made", errno);
    *lock = fd;
    return HEED_OK;
}

void heed__file_unlock(int lock, heed_context *ctx, const char *path)
{
    files_unlink(ctx->files, path); /* while it is held: see open_lock */
    (void)files_close(ctx->files, lock);
}

bool heed__folder_exists(heed_context *ctx, const char *path)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_folder, path);

    if (fd < 0)
        return false;
    (void)files_close(f, fd);
    return true;
}

bool heed__file_exists(heed_context *ctx, const char *path)
{
    const file_ops *f = ctx->files;
    const int fd = files_open(f, f->open_read, path);

    if (fd < 0)
        return errno != ENOENT && errno != ENOTDIR; /* what may not be read is there all the same */
    (void)files_close(f, fd);
    return !heed__folder_exists(ctx, path);
}

/* One folder; its name is made durable in its parent. */
static heed_status files_make_one(heed_context *ctx, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    char *parent;
    heed_status st;
    int failed = -1;

    for (int i = 0; i < FILES_RETRIES; i++) {
        failed = f->mkdir(f->user, path);
        if (!failed || errno != EINTR)
            break;
    }
    if (failed) {
        const int error = errno;

        /* EEXIST and EACCES: a folder into which we may not look (a file would be ENOTDIR); inside it may
         * be well. */
        if (heed__folder_exists(ctx, path) || (error == EEXIST && errno == EACCES))
            return HEED_OK;
        if (error == EEXIST)
            return heed__fail_at(err, HEED_ERR_IO, path, "the folder cannot be made: a file has this name");
        return files_fail(err, path, "the folder cannot be made", error);
    }
    parent = files_folder(ctx->heap, path);
    if (!parent)
        return heed__fail_memory(err, 0);
    st = files_sync_folder(ctx, parent, path, err);
    heed__release(ctx->heap, parent);
    return st;
}

heed_status heed__folder_make(heed_context *ctx, const char *path, heed_error *err)
{
    char *prefix;
    size_t n = strlen(path);
    heed_status st = HEED_OK;

    while (n > 1 && heed__os_separates(path[n - 1]))
        n--;
    if (!n)
        return heed__fail(err, HEED_ERR_USAGE, "an empty path names no folder");
    prefix = heed__alloc(ctx->heap, n + 1, 1);
    if (!prefix)
        return heed__fail_memory(err, n + 1);
    for (size_t i = 0; i < n && st == HEED_OK; i++) {
        prefix[i] = path[i];
        if (i + 1 == n || (heed__os_separates(path[i + 1]) && !heed__os_separates(path[i])))
            st = files_make_one(ctx, prefix, err);
    }
    heed__release(ctx->heap, prefix);
    return st;
}

/* ---- listing ---- */

#define FILES_ENTRIES ((uint32_t)1 << 24)

/* While a folder is read: names end to end, each behind a byte that tells its kind. */
typedef struct listing {
    text names;
    uint32_t n;
} listing;

static bool files_add_entry(void *to, const char *name, os_entry kind)
{
    listing *l = to;
    const char byte = (char)kind;

    heed__text_put(&l->names, &byte, 1);
    heed__text_put(&l->names, name, strlen(name) + 1);
    return l->names.failed == HEED_OK && ++l->n < FILES_ENTRIES;
}

static bool files_name_before(const void *items, uint32_t a, uint32_t b)
{
    const folder_entry *e = items;

    return strcmp(e[a].name, e[b].name) < 0; /* bytes, in no language's order */
}

/* Entries in the order of names. */
static heed_status files_sort_entries(folder_list *out, heed_context *ctx, listing *l, heed_error *err)
{
    heap *h = ctx->heap;
    folder_entry *found = heed__alloc(h, l->n, sizeof *found);
    uint32_t *order = heed__alloc(h, 2 * (size_t)l->n, sizeof *order);
    folder_list list = { .n = l->n };
    heed_status st = HEED_OK;
    const char *at;

    list.entries = heed__alloc(h, l->n, sizeof *list.entries);
    list.names = list.entries && found && order ? heed__text_take(&l->names) : NULL;
    if (!list.names) {
        st = heed__fail_memory(err, l->n * sizeof *found);
        heed__folder_list_release(ctx, &list);
        goto done;
    }
    at = list.names;
    for (uint32_t i = 0; i < l->n; i++) {
        found[i] = (folder_entry){ at + 1, (os_entry)at[0] };
        at += strlen(at + 1) + 2;
    }
    heed__sort(order, order + l->n, l->n, files_name_before, found);
    for (uint32_t i = 0; i < l->n; i++)
        list.entries[i] = found[order[i]];
    *out = list;
done:
    heed__release(h, order);
    heed__release(h, found);
    return st;
}

heed_status heed__folder_list(folder_list *out, heed_context *ctx, const char *path, heed_error *err)
{
    const file_ops *f = ctx->files;
    heed_status st = HEED_OK;
    listing l = { .n = 0 };
    int failed = -1;

    heed__text_init(&l.names, ctx->heap, 0);
    for (int i = 0; i < FILES_RETRIES && failed; i++) {
        heed__text_clear(&l.names); /* an interrupted listing begins again */
        l.n = 0;
        failed = f->list(f->user, path, files_add_entry, &l);
        if (failed && errno != EINTR)
            break;
    }
    if (failed)
        st = files_fail(err, path, "the folder cannot be read", errno);
    else if (l.names.failed)
        st = heed__fail_memory(err, l.names.size);
    else if (l.n >= FILES_ENTRIES)
        st = heed__fail_at(err, HEED_ERR_LIMIT, path, "the folder has more than %u names", FILES_ENTRIES - 1);
    else
        st = files_sort_entries(out, ctx, &l, err);
    heed__text_release(&l.names);
    return st;
}

void heed__folder_list_release(heed_context *ctx, folder_list *list)
{
    heed__release(ctx->heap, list->entries);
    heed__release(ctx->heap, list->names);
    *list = (folder_list){ .n = 0 };
}

char *heed__path_join(heed_context *ctx, const char *folder, const char *name)
{
    const size_t n = strlen(folder);
    text joined;
    char *out;

    heed__text_init(&joined, ctx->heap, 0);
    heed__text_add(&joined, "%s%s%s", folder, n && !heed__os_separates(folder[n - 1]) ? "/" : "", name);
    out = heed__text_take(&joined);
    heed__text_release(&joined);
    return out;
}
