/* Fault injection: see the header. */
#include "support/fail_each.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int heed_open_descriptors(void)
{
    int open_now = 0;

    for (int fd = 0; fd < 1024; fd++)
        open_now += fcntl(fd, F_GETFD) != -1;
    return open_now;
}

/* ---- file calls ---- */

static bool fault_at(const fault_files *f)
{
    return f->at && (f->calls == f->at || (f->onward && f->calls > f->at));
}

/* Counts the call; true when it must fail, with errno set. */
static bool fault_now(fault_files *f)
{
    f->calls++;
    if (f->error == FAULT_SHORT || !fault_at(f))
        return false;
    f->hits++;
    errno = f->error;
    return true;
}

/* Bytes that this call may move. */
static size_t fault_short(fault_files *f, size_t n)
{
    if (f->error != FAULT_SHORT || !fault_at(f) || n < 2)
        return n;
    f->hits++;
    return n / 2;
}

static int fault_open_read(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->open_read(f->real->user, path);
}

static int fault_open_new(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->open_new(f->real->user, path);
}

static int fault_open_append(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->open_append(f->real->user, path);
}

static int fault_open_folder(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->open_folder(f->real->user, path);
}

static int64_t fault_size(void *user, int fd, bool *regular)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->size(f->real->user, fd, regular);
}

static int64_t fault_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->read(f->real->user, fd, to, fault_short(f, n), offset);
}

static int64_t fault_write(void *user, int fd, const void *from, size_t n)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->write(f->real->user, fd, from, fault_short(f, n));
}

static int fault_sync(void *user, int fd)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->sync(f->real->user, fd);
}

static int fault_close(void *user, int fd)
{
    fault_files *f = user;
    const int closed = f->real->close(f->real->user, fd); /* as in a real system: the descriptor is gone */

    return fault_now(f) ? -1 : closed;
}

static int fault_rename(void *user, const char *from, const char *to)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->rename(f->real->user, from, to);
}

static int fault_unlink(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->unlink(f->real->user, path);
}

static int fault_mkdir(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->mkdir(f->real->user, path);
}

static int fault_rmdir(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->rmdir(f->real->user, path);
}

static int fault_list(void *user, const char *path, os_entry_fn *each, void *to)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->list(f->real->user, path, each, to);
}

static int fault_open_lock(void *user, const char *path)
{
    fault_files *f = user;
    return fault_now(f) ? -1 : f->real->open_lock(f->real->user, path);
}

void fault_files_init(fault_files *f, const file_ops *real)
{
    *f = (fault_files){ .real = real };
    f->ops = (file_ops){
        .open_read = fault_open_read,
        .open_new = fault_open_new,
        .open_append = fault_open_append,
        .open_folder = fault_open_folder,
        .size = fault_size,
        .read = fault_read,
        .write = fault_write,
        .sync = fault_sync,
        .close = fault_close,
        .rename = fault_rename,
        .unlink = fault_unlink,
        .mkdir = fault_mkdir,
        .rmdir = fault_rmdir,
        .list = fault_list,
        .open_lock = fault_open_lock,
        .user = f,
    };
}

/* ---- runs ---- */

typedef struct fail_job {
    const heed_scenario *s;
    void *user;
    heed_context *ctx;
    heed_fail_report *report;
} fail_job;

static void fail_bad(fail_job *j, const char *format, ...) HEED_PRINTF(2, 3);
static void fail_bad(fail_job *j, const char *format, ...)
{
    va_list args;

    if (j->report->bad++)
        return;
    va_start(args, format);
    vsnprintf(j->report->first_bad, sizeof j->report->first_bad, format, args);
    va_end(args);
}

static void fail_prepare(fail_job *j)
{
    if (j->s->prepare)
        j->s->prepare(j->ctx, j->user);
}

/* One run; `what` and n name it. Checks what holds for every run and returns the status. */
static heed_status fail_run(fail_job *j, const char *what, uint64_t n)
{
    const uint64_t bytes = heed__heap_bytes(j->ctx->heap);
    const int descriptors = heed_open_descriptors();
    heed_error err = { 0 };
    const heed_status st = j->s->run(j->ctx, j->user, &err);
    const uint64_t left = heed__heap_bytes(j->ctx->heap);
    const int open_now = heed_open_descriptors();

    if (left != bytes)
        fail_bad(j, "%s %llu: %lld bytes leaked", what, (unsigned long long)n, (long long)(left - bytes));
    if (open_now != descriptors)
        fail_bad(j, "%s %llu: %d descriptors leaked", what, (unsigned long long)n, open_now - descriptors);
    if (st != HEED_OK && (err.code != st || !err.text[0]))
        fail_bad(j, "%s %llu: it ends with %s, but the error says %s \"%.64s\"", what, (unsigned long long)n,
                 heed_status_name(st), heed_status_name(err.code), err.text);
    return st;
}

static void fail_look(fail_job *j, const char *what, uint64_t n, heed_status st)
{
    if (j->s->right && !j->s->right(j->ctx, j->user, st))
        fail_bad(j, "%s %llu: after %s the state is wrong", what, (unsigned long long)n,
                 heed_status_name(st));
}

static void fail_unharmed(fail_job *j, uint64_t n)
{
    const char *what = "unharmed run after fault";
    heed_status st;

    fail_prepare(j);
    st = fail_run(j, what, n);
    if (st != HEED_OK)
        fail_bad(j, "%s %llu: %s", what, (unsigned long long)n, heed_status_name(st));
    fail_look(j, what, n, st);
}

static bool fail_open(fail_job *j, const heed_scenario *s, void *user, heed_fail_report *report)
{
    heed_error err = { 0 };

    *report = (heed_fail_report){ 0 };
    *j = (fail_job){ .s = s, .user = user, .report = report };
    if (heed_context_new(&j->ctx, &(heed_context_opts){ .threads = 2 }, &err) == HEED_OK)
        return true;
    fail_bad(j, "no context: %.200s", err.text);
    return false;
}

static bool fail_close(fail_job *j, const char *sort)
{
    const heed_fail_report *r = j->report;

    heed_context_free(j->ctx);
    printf("%-32s %-6s %6llu calls %6llu once %6llu onward  %s%s\n", j->s->name, sort,
           (unsigned long long)r->calls, (unsigned long long)r->once, (unsigned long long)r->onward,
           r->bad ? "BAD: " : "ok", r->first_bad);
    fflush(stdout);
    return r->bad == 0;
}

static void fail_memory_run(fail_job *j, uint64_t n, bool onward)
{
    const char *what = onward ? "allocations from" : "allocation";
    heap *h = j->ctx->heap;
    uint64_t before;
    bool hit;
    heed_status st;

    fail_prepare(j);
    before = heed__heap_calls(h);
    heed__heap_fail_at(h, n, onward);
    st = fail_run(j, what, n);
    heed__heap_fail_at(h, 0, false);
    hit = heed__heap_calls(h) - before >= n;
    if (st != (hit ? HEED_ERR_MEMORY : HEED_OK))
        fail_bad(j, "%s %llu: %s", what, (unsigned long long)n, heed_status_name(st));
    fail_look(j, what, n, st);
    *(onward ? &j->report->onward : &j->report->once) += 1;
}

bool heed_fail_each(const heed_scenario *s, void *user, heed_fail_report *report)
{
    fail_job j;
    uint64_t before;

    if (!fail_open(&j, s, user, report))
        return false;
    fail_unharmed(&j, 0); /* what is cached in the first run is not counted */
    fail_prepare(&j);
    before = heed__heap_calls(j.ctx->heap);
    fail_run(&j, "counted run", 0);
    report->calls = heed__heap_calls(j.ctx->heap) - before;
    for (uint64_t n = 1; n <= report->calls; n++) {
        fail_memory_run(&j, n, false);
        fail_memory_run(&j, n, true);
        fail_unharmed(&j, n);
    }
    return fail_close(&j, "memory");
}

static const struct {
    int error;
    const char *name;
    bool harmless_once, harmless_onward;
} fail_errors[] = {
    { EIO, "EIO", false, false },       { ENOSPC, "ENOSPC", false, false },
    { EACCES, "EACCES", false, false }, { EAGAIN, "EAGAIN", false, false },
    { EINTR, "EINTR", true, false },    { FAULT_SHORT, "short count", true, true },
};

static void fail_file_run(fail_job *j, fault_files *f, size_t error, uint64_t n, bool onward)
{
    const bool harmless = onward ? fail_errors[error].harmless_onward : fail_errors[error].harmless_once;
    char what[64];
    heed_status st;

    snprintf(what, sizeof what, "%s %s file call", fail_errors[error].name, onward ? "from" : "at");
    fail_prepare(j);
    fault_files_init(f, f->real);
    f->at = n;
    f->onward = onward;
    f->error = fail_errors[error].error;
    j->ctx->files = &f->ops;
    st = fail_run(j, what, n);
    j->ctx->files = f->real;
    if (harmless || !f->hits ? st != HEED_OK : st != HEED_ERR_IO && !(st == HEED_OK && j->s->right))
        fail_bad(j, "%s %llu: %s", what, (unsigned long long)n, heed_status_name(st));
    fail_look(j, what, n, st);
    *(onward ? &j->report->onward : &j->report->once) += 1;
}

bool heed_fail_each_file(const heed_scenario *s, void *user, heed_fail_report *report)
{
    fail_job j;
    fault_files f;

    if (!fail_open(&j, s, user, report))
        return false;
    fault_files_init(&f, j.ctx->files);
    fail_unharmed(&j, 0);
    fail_prepare(&j);
    j.ctx->files = &f.ops;
    fail_run(&j, "counted run", 0);
    j.ctx->files = f.real;
    report->calls = f.calls;
    for (uint64_t n = 1; n <= report->calls; n++) {
        for (size_t e = 0; e < sizeof fail_errors / sizeof fail_errors[0]; e++) {
            fail_file_run(&j, &f, e, n, false);
            fail_file_run(&j, &f, e, n, true);
        }
        fail_unharmed(&j, n);
    }
    return fail_close(&j, "files");
}
