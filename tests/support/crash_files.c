/* See the header. */
#define _GNU_SOURCE
#include "support/crash_files.h"
#include "support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a process that dies ---- */

/* Counts the call; true when the process is dead. */
static bool dying_now(dying_files *f)
{
    f->calls++;
    if (!f->at || f->calls < f->at)
        return false;
    if (f->kill)
        (void)kill(getpid(), SIGKILL);
    errno = EIO;
    return true;
}

#define DYING(call)                                                                                          \
    static int dying_##call(void *user, const char *path)                                                    \
    {                                                                                                        \
        dying_files *f = user;                                                                               \
        return dying_now(f) ? -1 : f->real->call(f->real->user, path);                                       \
    }
DYING(open_read)
DYING(open_new)
DYING(open_append)
DYING(open_folder)
DYING(open_lock)
DYING(mkdir)
DYING(rmdir)
DYING(unlink)

static int64_t dying_size(void *user, int fd, bool *regular)
{
    dying_files *f = user;
    return dying_now(f) ? -1 : f->real->size(f->real->user, fd, regular);
}

static int64_t dying_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    dying_files *f = user;
    return dying_now(f) ? -1 : f->real->read(f->real->user, fd, to, n, offset);
}

static int64_t dying_write(void *user, int fd, const void *from, size_t n)
{
    dying_files *f = user;
    const bool last = f->calls + 1 == f->at;

    if (last && f->torn)
        (void)f->real->write(f->real->user, fd, from, n / 2);
    return dying_now(f) ? -1 : f->real->write(f->real->user, fd, from, n);
}

static int dying_sync(void *user, int fd)
{
    dying_files *f = user;
    return dying_now(f) ? -1 : f->real->sync(f->real->user, fd);
}

static int dying_close(void *user, int fd)
{
    dying_files *f = user;
    const bool dead = dying_now(f);
    const int closed = f->real->close(f->real->user, fd);

    return dead ? -1 : closed;
}

static int dying_rename(void *user, const char *from, const char *to)
{
    dying_files *f = user;

    if (dying_now(f))
        return -1;
    if (strstr(to, "/manifest.json") && f->committed < 8)
        f->commits[f->committed++] = f->calls;
    return f->real->rename(f->real->user, from, to);
}

static int dying_list(void *user, const char *path, os_entry_fn *each, void *to)
{
    dying_files *f = user;
    return dying_now(f) ? -1 : f->real->list(f->real->user, path, each, to);
}

void dying_files_init(dying_files *f, const file_ops *real)
{
    *f = (dying_files){ .real = real };
    f->ops = (file_ops){
        .open_read = dying_open_read, .open_new = dying_open_new, .open_append = dying_open_append,
        .open_folder = dying_open_folder, .size = dying_size, .read = dying_read, .write = dying_write,
        .sync = dying_sync, .close = dying_close, .rename = dying_rename, .unlink = dying_unlink,
        .mkdir = dying_mkdir, .list = dying_list, .rmdir = dying_rmdir, .open_lock = dying_open_lock, .user = f,
    };
}

/* ---- a trace ---- */

/* The path below the root; "" for the root itself, NULL for what lies elsewhere. */
static const char *trace_below(const traced_files *f, const char *path)
{
    const size_t n = strlen(f->root);

    if (strncmp(path, f->root, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    return path[n] ? path + n + 1 : path + n;
}

static void trace_put(traced_files *f, trace_kind kind, const char *path, const char *to, const void *bytes, size_t n)
{
    const char *below = trace_below(f, path);
    trace_call *c = &f->calls[f->n];

    if (!below || f->n == TRACE_MOST)
        return;
    *c = (trace_call){ .kind = kind, .n = n };
    snprintf(c->path, sizeof c->path, "%s", below);
    if (to)
        snprintf(c->to, sizeof c->to, "%s", trace_below(f, to) ? trace_below(f, to) : to);
    if (bytes) {
        c->bytes = malloc(n + 1);
        memcpy(c->bytes, bytes, n);
    }
    f->n++;
}

static int trace_opened(traced_files *f, int fd, const char *path, bool folder)
{
    if (fd >= 0 && fd < 64) {
        snprintf(f->open[fd], sizeof f->open[fd], "%s", path);
        f->folder[fd] = folder;
    }
    return fd;
}

static int traced_open_read(void *user, const char *path)
{
    traced_files *f = user;
    return trace_opened(f, f->real->open_read(f->real->user, path), "", false);
}

static int traced_open_new(void *user, const char *path)
{
    traced_files *f = user;
    const int fd = trace_opened(f, f->real->open_new(f->real->user, path), path, false);

    if (fd >= 0)
        trace_put(f, TRACE_NEW, path, NULL, NULL, 0);
    return fd;
}

static int traced_open_append(void *user, const char *path)
{
    traced_files *f = user;
    return trace_opened(f, f->real->open_append(f->real->user, path), path, false);
}

static int traced_open_folder(void *user, const char *path)
{
    traced_files *f = user;
    return trace_opened(f, f->real->open_folder(f->real->user, path), path, true);
}

static int traced_open_lock(void *user, const char *path)
{
    traced_files *f = user;
    return trace_opened(f, f->real->open_lock(f->real->user, path), "", false);
}

static int64_t traced_size(void *user, int fd, bool *regular)
{
    traced_files *f = user;
    return f->real->size(f->real->user, fd, regular);
}

static int64_t traced_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    traced_files *f = user;
    return f->real->read(f->real->user, fd, to, n, offset);
}

static int64_t traced_write(void *user, int fd, const void *from, size_t n)
{
    traced_files *f = user;

    if (fd < 64 && f->open[fd][0])
        trace_put(f, TRACE_WRITE, f->open[fd], NULL, from, n);
    return f->real->write(f->real->user, fd, from, n);
}

static int traced_sync(void *user, int fd)
{
    traced_files *f = user;

    if (fd < 64 && f->open[fd][0])
        trace_put(f, f->folder[fd] ? TRACE_SYNC_FOLDER : TRACE_SYNC, f->open[fd], NULL, NULL, 0);
    return f->real->sync(f->real->user, fd);
}

static int traced_close(void *user, int fd)
{
    traced_files *f = user;

    if (fd < 64)
        f->open[fd][0] = '\0';
    return f->real->close(f->real->user, fd);
}

static int traced_rename(void *user, const char *from, const char *to)
{
    traced_files *f = user;

    trace_put(f, TRACE_RENAME, from, to, NULL, 0);
    return f->real->rename(f->real->user, from, to);
}

static int trace_done(traced_files *f, trace_kind kind, const char *path, int failed)
{
    if (!failed)
        trace_put(f, kind, path, NULL, NULL, 0);
    return failed;
}

static int traced_unlink(void *user, const char *path)
{
    traced_files *f = user;
    return trace_done(f, TRACE_UNLINK, path, f->real->unlink(f->real->user, path));
}

static int traced_mkdir(void *user, const char *path)
{
    traced_files *f = user;
    return trace_done(f, TRACE_MKDIR, path, f->real->mkdir(f->real->user, path));
}

static int traced_rmdir(void *user, const char *path)
{
    traced_files *f = user;
    return trace_done(f, TRACE_RMDIR, path, f->real->rmdir(f->real->user, path));
}

static int traced_list(void *user, const char *path, os_entry_fn *each, void *to)
{
    traced_files *f = user;
    return f->real->list(f->real->user, path, each, to);
}

void traced_files_init(traced_files *f, const file_ops *real, const char *root)
{
    memset(f, 0, sizeof *f);
    f->real = real;
    f->root = root;
    f->ops = (file_ops){
        .open_read = traced_open_read, .open_new = traced_open_new, .open_append = traced_open_append,
        .open_folder = traced_open_folder, .size = traced_size, .read = traced_read, .write = traced_write,
        .sync = traced_sync, .close = traced_close, .rename = traced_rename, .unlink = traced_unlink,
        .mkdir = traced_mkdir, .list = traced_list, .rmdir = traced_rmdir, .open_lock = traced_open_lock, .user = f,
    };
}

void traced_files_release(traced_files *f)
{
    for (int i = 0; i < f->n; i++)
        free(f->calls[i].bytes);
    f->n = 0;
}

static const char *trace_name(const char *path)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

    return strncmp(name, ".heed-", 6) == 0 ? "tmp" : path[0] ? path : ".";
}

void traced_files_print(const traced_files *f, char *to, size_t room)
{
    static const char *const words[] = { "new", "write", "sync", "sync", "rename", "unlink", "mkdir", "rmdir" };
    size_t used = 0;

    to[0] = '\0';
    for (int i = 0; i < f->n && used < room; i++) {
        const trace_call *c = &f->calls[i];

        if (c->kind == TRACE_WRITE && i > 0 && f->calls[i - 1].kind == TRACE_WRITE)
            continue; /* one line for the writes of a file */
        used += (size_t)snprintf(to + used, room - used, "%s %s%s%s\n", words[c->kind], trace_name(c->path),
                                 c->kind == TRACE_RENAME ? " " : "", c->kind == TRACE_RENAME ? c->to : "");
    }
}

/* ---- what a disk may hold ---- */

#define DISK_MOST 200

typedef struct disk_file {
    uint8_t *bytes;
    size_t n;
    bool synced;
} disk_file;

typedef struct disk_name {
    char path[256];
    int file; /* -1: a folder */
} disk_name;

typedef struct disk_tree {
    disk_name names[DISK_MOST];
    int n;
} disk_tree;

/* A change of names: `gone` leaves, `made` comes (either may be empty). */
typedef struct disk_change {
    char gone[256], made[256];
    int file;
} disk_change;

typedef struct disk {
    disk_file files[DISK_MOST];
    int n_files;
    disk_tree now, durable;
    disk_change pending[DISK_MOST];
    int n_pending;
} disk;

static int tree_find(const disk_tree *t, const char *path)
{
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->names[i].path, path) == 0)
            return i;
    return -1;
}

static void tree_apply(disk_tree *t, const disk_change *c)
{
    int at = c->gone[0] ? tree_find(t, c->gone) : -1;

    if (at >= 0)
        t->names[at] = t->names[--t->n];
    if (!c->made[0])
        return;
    at = tree_find(t, c->made);
    if (at < 0)
        at = t->n++;
    snprintf(t->names[at].path, sizeof t->names[at].path, "%s", c->made);
    t->names[at].file = c->file;
}

static void disk_change_names(disk *d, const char *gone, const char *made, int file)
{
    disk_change *c = &d->pending[d->n_pending++];

    *c = (disk_change){ .file = file };
    snprintf(c->gone, sizeof c->gone, "%s", gone);
    snprintf(c->made, sizeof c->made, "%s", made);
    tree_apply(&d->now, c);
}

/* Does the path lie in the folder, and not deeper? */
static bool disk_within(const char *path, const char *folder)
{
    const size_t n = strlen(folder);

    if (n == 0)
        return !strchr(path, '/');
    return strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static void disk_sync_folder(disk *d, const char *folder)
{
    int left = 0;

    for (int i = 0; i < d->n_pending; i++) {
        const disk_change *c = &d->pending[i];

        if (disk_within(c->made[0] ? c->made : c->gone, folder))
            tree_apply(&d->durable, c);
        else
            d->pending[left++] = *c;
    }
    d->n_pending = left;
}

static int disk_add_file(disk *d, const void *bytes, size_t n, bool synced)
{
    disk_file *f = &d->files[d->n_files];

    *f = (disk_file){ malloc(n + 1), n, synced };
    if (n)
        memcpy(f->bytes, bytes, n);
    return d->n_files++;
}

static void disk_do(disk *d, const trace_call *c)
{
    const int at = tree_find(&d->now, c->path);
    disk_file *f = at >= 0 && d->now.names[at].file >= 0 ? &d->files[d->now.names[at].file] : NULL;

    switch (c->kind) {
    case TRACE_NEW:
        disk_change_names(d, "", c->path, disk_add_file(d, NULL, 0, false));
        break;
    case TRACE_WRITE:
        f->bytes = realloc(f->bytes, f->n + c->n + 1);
        memcpy(f->bytes + f->n, c->bytes, c->n);
        f->n += c->n;
        f->synced = false;
        break;
    case TRACE_SYNC:
        if (f)
            f->synced = true;
        break;
    case TRACE_SYNC_FOLDER:
        disk_sync_folder(d, c->path);
        break;
    case TRACE_RENAME:
        disk_change_names(d, c->path, c->to, d->now.names[at].file);
        break;
    case TRACE_UNLINK:
    case TRACE_RMDIR:
        disk_change_names(d, c->path, "", -1);
        break;
    case TRACE_MKDIR:
        disk_change_names(d, "", c->path, -1);
        break;
    }
}

static void disk_load(disk *d, const char *root, const char *below)
{
    char folder[512];
    struct dirent *e;
    DIR *dir;

    snprintf(folder, sizeof folder, "%s%s%s", root, below[0] ? "/" : "", below);
    dir = opendir(folder);
    while (dir && (e = readdir(dir))) {
        disk_change c = { .file = -1 };
        char path[1024];
        struct stat s;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(c.made, sizeof c.made, "%.120s%s%.120s", below, below[0] ? "/" : "", e->d_name);
        snprintf(path, sizeof path, "%s/%s", root, c.made);
        if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
            tree_apply(&d->durable, &c);
            disk_load(d, root, c.made);
        } else {
            size_t n;
            uint8_t *bytes = scratch_get(path, &n);

            c.file = disk_add_file(d, bytes, n, true);
            free(bytes);
            tree_apply(&d->durable, &c);
        }
    }
    if (dir)
        closedir(dir);
}

/* What may have become of bytes that no fsync covered. */
enum { BYTES_ALL, BYTES_NONE, BYTES_ZEROS, BYTES_512, BYTES_4096, BYTES_HOLE, BYTES_SORTS };

static void disk_write_file(const char *path, const disk_file *f, int sort)
{
    uint8_t *bytes = calloc(f->n + 1, 1);
    size_t n = f->n;

    memcpy(bytes, f->bytes, f->n);
    if (!f->synced && sort == BYTES_NONE)
        n = 0;
    else if (!f->synced && sort == BYTES_ZEROS)
        memset(bytes, 0, n);
    else if (!f->synced && sort == BYTES_512)
        n = n ? (n - 1) / 512 * 512 : 0;
    else if (!f->synced && sort == BYTES_4096)
        n = n ? (n - 1) / 4096 * 4096 : 0;
    else if (!f->synced && sort == BYTES_HOLE)
        memset(bytes, 0, n < 512 ? n : 512);
    scratch_put(path, bytes, n);
    free(bytes);
}

/* The tree below root; what stands in a folder that is not there went with it. */
static void disk_materialise(const disk *d, const disk_tree *t, const char *root, int sort)
{
    char path[600];

    scratch_clear(root);
    mkdir(root, 0700);
    for (int depth = 0; depth < 4; depth++)
        for (int i = 0; i < t->n; i++) {
            const char *at = t->names[i].path;
            int slashes = 0;
            char *end;
            struct stat s;

            for (const char *p = at; *p; p++)
                slashes += *p == '/';
            if (slashes != depth)
                continue;
            snprintf(path, sizeof path, "%s/%s", root, at);
            end = strrchr(path, '/');
            *end = '\0';
            if (stat(path, &s) != 0)
                continue;
            *end = '/';
            if (t->names[i].file < 0)
                mkdir(path, 0700);
            else
                disk_write_file(path, &d->files[t->names[i].file], sort);
        }
}

static bool disk_has_loose_bytes(const disk *d, const disk_tree *t)
{
    for (int i = 0; i < t->n; i++)
        if (t->names[i].file >= 0 && !d->files[t->names[i].file].synced)
            return true;
    return false;
}

/* Every subset of the changes that no fsync covered, and every sort of loose bytes. */
static int64_t disk_states(const disk *d, const char *root, int done, crash_look *look, void *user, bool *go_on)
{
    const int most = d->n_pending < 12 ? d->n_pending : 12; /* the older ones happened */
    int64_t states = 0;

    for (int64_t mask = 0; mask < (int64_t)1 << most && *go_on; mask++) {
        disk_tree t = d->durable;

        for (int i = 0; i < d->n_pending; i++)
            if (i < d->n_pending - most || mask >> (i - (d->n_pending - most)) & 1)
                tree_apply(&t, &d->pending[i]);
        for (int sort = 0; sort < (disk_has_loose_bytes(d, &t) ? BYTES_SORTS : 1) && *go_on; sort++) {
            disk_materialise(d, &t, root, sort);
            states++;
            *go_on = look(user, done);
        }
    }
    return states;
}

int64_t crash_states(const traced_files *f, const char *begin, const char *root, int drop, crash_look *look,
                     void *user)
{
    disk *d = calloc(1, sizeof *d);
    bool go_on = true;
    int64_t states = 0;

    disk_load(d, begin, "");
    d->now = d->durable;
    for (int done = 0; done <= f->n && go_on; done++) {
        states += disk_states(d, root, done, look, user, &go_on);
        if (done < f->n && done != drop)
            disk_do(d, &f->calls[done]);
    }
    for (int i = 0; i < d->n_files; i++)
        free(d->files[i].bytes);
    free(d);
    return states;
}
