/* The operating system, by POSIX.1-2008 and a few calls of Linux where there is nothing better. */
#define _GNU_SOURCE /* sched_getaffinity, madvise, strtod_l */
#include "base/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define POSIX_STACK_BYTES ((size_t)1 << 20)

static int posix_open_read(void *user, const char *path)
{
    (void)user;
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK |
                          O_NOCTTY); /* a pipe must not block; it is refused later */
}

static int posix_open_new(void *user, const char *path)
{
    (void)user;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static int posix_open_append(void *user, const char *path)
{
    (void)user;
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static int posix_open_folder(void *user, const char *path)
{
    (void)user;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int64_t posix_size(void *user, int fd, bool *regular)
{
    struct stat s;

    (void)user;
    if (fstat(fd, &s) != 0)
        return -1;
    *regular = S_ISREG(s.st_mode);
    return s.st_size;
}

static int64_t posix_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    (void)user;
    return pread(fd, to, n, (off_t)offset);
}

static int64_t posix_write(void *user, int fd, const void *from, size_t n)
{
    (void)user;
    return write(fd, from, n);
}

static int posix_sync(void *user, int fd)
{
    (void)user;
    return fsync(fd);
}

static int posix_close(void *user, int fd)
{
    (void)user;
    return close(fd);
}

static int posix_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to);
}

static int posix_unlink(void *user, const char *path)
{
    (void)user;
    return unlink(path);
}

static int posix_mkdir(void *user, const char *path)
{
    (void)user;
    return mkdir(path, 0777);
}

const file_ops *heed__file_ops(void)
{
    static const file_ops ops = {
        .open_read = posix_open_read,
        .open_new = posix_open_new,
        .open_append = posix_open_append,
        .open_folder = posix_open_folder,
        .size = posix_size,
        .read = posix_read,
        .write = posix_write,
        .sync = posix_sync,
        .close = posix_close,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .mkdir = posix_mkdir,
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

int heed__os_process(void)
{
    return (int)getpid();
}

void heed__os_error_text(char *to, size_t size, int error)
{
    char room[128];
    const char *said = strerror_r(error, room, sizeof room); /* the GNU one: it returns the text */
    const size_t n = strnlen(said, size - 1);

    memcpy(to, said, n);
    to[n] = '\0';
}

int heed__os_cpus(void)
{
    cpu_set_t set;
    long online;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than the set has bits */
    return online < 1 ? 1 : online > 1 << 20 ? 1 << 20 : (int)online;
}

static double posix_clock(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) != 0)
        return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double heed__os_seconds(void)
{
    return posix_clock(CLOCK_MONOTONIC);
}

double heed__os_wall_seconds(void)
{
    return posix_clock(CLOCK_REALTIME);
}

uint64_t heed__os_peak_bytes(void)
{
    struct rusage use;

    if (getrusage(RUSAGE_SELF, &use) != 0 || use.ru_maxrss < 0)
        return 0;
    return (uint64_t)use.ru_maxrss * 1024; /* Linux counts KiB */
}

void heed__os_advise_huge(void *block, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    const size_t page = 4096;
    const uintptr_t first = ((uintptr_t)block + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)block + bytes) / page * page;

    if (end > first)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE); /* advice: a refusal changes nothing */
#else
    (void)block;
    (void)bytes;
#endif
}

/* newlocale("C") hands out a constant of the C library: no allocation, nothing to free. */
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

static int posix_format(char *to, size_t size, const char *format, ...) HEED_PRINTF(3, 4);
static int posix_format(char *to, size_t size, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = heed__os_format(to, size, format, args);
    va_end(args);
    return n;
}

void heed__os_print_number(char *to, size_t size, int digits, double value)
{
    posix_format(to, size, "%.*g", digits, value);
}

double heed__os_read_number(const char *text)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    const double value = c ? strtod_l(text, NULL, c) : strtod(text, NULL);

    if (c)
        freelocale(c);
    return value;
}

/* Threads. The gate's room is opaque, so that no header of the system leaks into ours. */

typedef struct posix_gate {
    pthread_mutex_t mutex;
    pthread_cond_t news;
} posix_gate;
_Static_assert(sizeof(posix_gate) <= sizeof(os_gate), "a gate has room for a mutex and a condition");
_Static_assert(sizeof(pthread_t) <= sizeof(((os_thread *)0)->id), "a thread has room for its id");

static posix_gate *posix_gate_of(os_gate *g)
{
    return (posix_gate *)(void *)g->room;
}

void heed__os_gate_init(os_gate *g)
{
    pthread_mutex_init(&posix_gate_of(g)->mutex, NULL); /* cannot fail with default attributes on Linux */
    pthread_cond_init(&posix_gate_of(g)->news, NULL);
}

void heed__os_gate_release(os_gate *g)
{
    pthread_cond_destroy(&posix_gate_of(g)->news);
    pthread_mutex_destroy(&posix_gate_of(g)->mutex);
}

void heed__os_gate_lock(os_gate *g)
{
    pthread_mutex_lock(&posix_gate_of(g)->mutex);
}

void heed__os_gate_unlock(os_gate *g)
{
    pthread_mutex_unlock(&posix_gate_of(g)->mutex);
}

void heed__os_gate_wait(os_gate *g)
{
    pthread_cond_wait(&posix_gate_of(g)->news, &posix_gate_of(g)->mutex);
}

void heed__os_gate_wake(os_gate *g, int sleepers)
{
    if (sleepers > 1)
        pthread_cond_broadcast(&posix_gate_of(g)->news);
    else
        pthread_cond_signal(&posix_gate_of(g)->news);
}

static void *posix_thread_main(void *of)
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
    failed = pthread_create(&id, &attr, posix_thread_main, t);
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
