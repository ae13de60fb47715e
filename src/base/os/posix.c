/* The operating system, by POSIX.1-2008 alone: every Unix. What systems do in their own ways stands beside
 * it, in linux.c or unix.c. */
#undef _GNU_SOURCE /* its strerror_r is another function */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE /* F_FULLFSYNC */
#define _FILE_OFFSET_BITS 64
#include "base/os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <xlocale.h> /* newlocale, uselocale */
#endif

#define POSIX_STACK_BYTES ((size_t)1 << 20)
#define POSIX_LOCK_TRIES 100

static int os_open_read(void *user, const char *path)
{
    (void)user;
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK |
                          O_NOCTTY); /* a pipe must not block; it is refused later */
}

static int os_open_new(void *user, const char *path)
{
    (void)user;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static int os_open_append(void *user, const char *path)
{
    (void)user;
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static int os_open_folder(void *user, const char *path)
{
    (void)user;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int64_t os_size(void *user, int fd, bool *regular)
{
    struct stat s;

    (void)user;
    if (fstat(fd, &s) != 0)
        return -1;
    *regular = S_ISREG(s.st_mode);
    return s.st_size;
}

static int64_t os_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    (void)user;
    return pread(fd, to, n, (off_t)offset);
}

static int64_t os_write(void *user, int fd, const void *from, size_t n)
{
    (void)user;
    return write(fd, from, n);
}

static int os_sync(void *user, int fd)
{
    (void)user;
#ifdef F_FULLFSYNC
    if (fcntl(fd, F_FULLFSYNC) == 0) /* there fsync leaves the bytes in the disk's own memory */
        return 0;
#endif
    return fsync(fd);
}

static int os_close(void *user, int fd)
{
    (void)user;
    return close(fd);
}

static int os_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to);
}

static int os_unlink(void *user, const char *path)
{
    (void)user;
    return unlink(path);
}

static int os_mkdir(void *user, const char *path)
{
    (void)user;
    return mkdir(path, 0777);
}

static int os_rmdir(void *user, const char *path)
{
    (void)user;
    return rmdir(path);
}

/* d_type is no part of POSIX, and a link must be followed anyway. */
static os_entry os_entry_of(int folder, const char *name)
{
    struct stat s;

    if (fstatat(folder, name, &s, 0) != 0)
        return OS_OTHER; /* a link to nowhere, or gone meanwhile */
    return S_ISDIR(s.st_mode) ? OS_FOLDER : S_ISREG(s.st_mode) ? OS_FILE : OS_OTHER;
}

static int os_list(void *user, const char *path, os_entry_fn *each, void *to)
{
    DIR *folder = opendir(path);
    int error = 0;

    (void)user;
    if (!folder)
        return -1;
    for (;;) {
        const struct dirent *e;

        errno = 0;
        e = readdir(folder); /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        if (!e) {
            error = errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!each(to, e->d_name, os_entry_of(dirfd(folder), e->d_name)))
            break;
    }
    (void)closedir(folder); /* it was only read */
    errno = error;
    return error ? -1 : 0;
}

/* The process' id, for whoever is refused; the lock does not depend on it. */
static void os_sign_lock(int fd)
{
    char id[16];
    const int n = snprintf(id, sizeof id, "%d\n", heed__os_process());

    if (ftruncate(fd, 0) == 0 && n > 0)
        (void)!write(fd, id, (size_t)n);
}

/* Whoever ends removes the file while holding it. So a lock counts only when the path still names what was
 * locked; else somebody removed it in between, and the next one is tried. */
static int os_open_lock(void *user, const char *path)
{
    (void)user;
    for (int i = 0; i < POSIX_LOCK_TRIES; i++) {
        struct stat held, named;
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);

        if (fd < 0)
            return -1;
        if (!heed__os_lock_file(fd)) {
            (void)close(fd);
            errno = EBUSY;
            return -1;
        }
        if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
            held.st_ino == named.st_ino) {
            os_sign_lock(fd);
            return fd;
        }
        (void)close(fd);
    }
    errno = EBUSY;
    return -1;
}

const file_ops *heed__file_ops(void)
{
    static const file_ops ops = {
        .open_read = os_open_read,
        .open_new = os_open_new,
        .open_append = os_open_append,
        .open_folder = os_open_folder,
        .size = os_size,
        .read = os_read,
        .write = os_write,
        .sync = os_sync,
        .close = os_close,
        .rename = os_rename,
        .unlink = os_unlink,
        .mkdir = os_mkdir,
        .rmdir = os_rmdir,
        .list = os_list,
        .open_lock = os_open_lock,
    };

    return &ops;
}

int64_t heed__os_free_bytes(const char *path)
{
    struct statvfs s;
    uint64_t bytes;

    if (statvfs(path, &s) != 0 || __builtin_mul_overflow((uint64_t)s.f_bavail, (uint64_t)s.f_frsize, &bytes))
        return -1;
    return bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
}

bool heed__os_same(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int heed__os_process(void)
{
    return (int)getpid();
}

void heed__os_host(char name[64])
{
    if (gethostname(name, 64) != 0)
        name[0] = '\0';
    name[63] = '\0'; /* a cut name need not be ended */
}

/* newlocale("C") hands out a constant of glibc and musl: no allocation, nothing to free. */
int heed__os_format(char *to, size_t size, const char *format, va_list args)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    const locale_t host = c ? uselocale(c) : (locale_t)0;
    const int n = vsnprintf(to, size, format, args);

    if (c) {
        uselocale(host);
        freelocale(c);
    }
    return n;
}

static int os_format(char *to, size_t size, const char *format, ...) HEED_PRINTF(3, 4);
static int os_format(char *to, size_t size, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = heed__os_format(to, size, format, args);
    va_end(args);
    return n;
}

bool heed__os_separates(char c)
{
    return c == '/';
}

bool heed__os_disk_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

void heed__os_error_text(char *to, size_t size, int error)
{
    if (strerror_r(error, to, size) != 0) /* the one of POSIX: 0, or an error number */
        os_format(to, size, "error %d", error);
}

static double os_clock(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) != 0)
        return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double heed__os_seconds(void)
{
    return os_clock(CLOCK_MONOTONIC);
}

double heed__os_wall_seconds(void)
{
    return os_clock(CLOCK_REALTIME);
}

void heed__os_print_number(char *to, size_t size, int digits, double value)
{
    os_format(to, size, "%.*g", digits, value);
}

double heed__os_read_number(const char *text)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    const locale_t host = c ? uselocale(c) : (locale_t)0;
    const double value = strtod(text, NULL);

    if (c) {
        uselocale(host);
        freelocale(c);
    }
    return value;
}

/* Threads. The gate's room is opaque, so that no header of the system leaks into ours. */

typedef struct os_pair {
    pthread_mutex_t mutex;
    pthread_cond_t news;
} os_pair;
_Static_assert(sizeof(os_pair) <= sizeof(os_gate), "a gate has room for a mutex and a condition");
_Static_assert(sizeof(pthread_t) <= sizeof(((os_thread *)0)->id), "a thread has room for its id");

static os_pair *os_pair_of(os_gate *g)
{
    return (os_pair *)(void *)g->room;
}

void heed__os_gate_init(os_gate *g)
{
    pthread_mutex_init(&os_pair_of(g)->mutex,
                       NULL); /* with default attributes there is nothing to run out of */
    pthread_cond_init(&os_pair_of(g)->news, NULL);
}

void heed__os_gate_release(os_gate *g)
{
    pthread_cond_destroy(&os_pair_of(g)->news);
    pthread_mutex_destroy(&os_pair_of(g)->mutex);
}

void heed__os_gate_lock(os_gate *g)
{
    pthread_mutex_lock(&os_pair_of(g)->mutex);
}

void heed__os_gate_unlock(os_gate *g)
{
    pthread_mutex_unlock(&os_pair_of(g)->mutex);
}

void heed__os_gate_wait(os_gate *g)
{
    pthread_cond_wait(&os_pair_of(g)->news, &os_pair_of(g)->mutex);
}

void heed__os_gate_wake(os_gate *g, int sleepers)
{
    if (sleepers > 1)
        pthread_cond_broadcast(&os_pair_of(g)->news);
    else
        pthread_cond_signal(&os_pair_of(g)->news);
}

static void *os_thread_main(void *of)
{
    const os_thread *t = of;

    t->fn(t->user);
    return NULL;
}

bool heed__os_thread_start(os_thread *t, void (*fn)(void *user), void *user)
{
    pthread_attr_t attr;
    pthread_t id;
    sigset_t all, before;
    int failed;

    t->fn = fn;
    t->user = user;
    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setstacksize(&attr, POSIX_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals belong to the host's threads */
    failed = pthread_create(&id, &attr, os_thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed)
        return false;
    memcpy(&t->id, &id, sizeof id);
    return true;
}

void heed__os_thread_join(os_thread *t)
{
    pthread_t id;

    memcpy(&id, &t->id, sizeof id);
    pthread_join(id, NULL);
}
