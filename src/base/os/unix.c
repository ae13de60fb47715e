/* What linux.c says, for the other systems of POSIX: macOS and the BSDs. */
#define _DARWIN_C_SOURCE /* _SC_NPROCESSORS_ONLN, ru_maxrss */
#include "base/os/os.h"

#include <errno.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __APPLE__
#define UNIX_MAXRSS 1 /* macOS counts bytes, the others KiB */
#else
#define UNIX_MAXRSS 1024
#endif

int heed__os_cpus(void)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);

    return online < 1 ? 1 : online > 1 << 20 ? 1 << 20 : (int)online;
}

uint64_t heed__os_peak_bytes(void)
{
    struct rusage use;

    if (getrusage(RUSAGE_SELF, &use) != 0 || use.ru_maxrss < 0)
        return 0;
    return (uint64_t)use.ru_maxrss * UNIX_MAXRSS;
}

void heed__os_advise_huge(void *block, size_t bytes)
{
    (void)block; /* the system decides by itself */
    (void)bytes;
}

/* flock belongs to the opening of the file, so two trainers of one process exclude each other too, and the kernel
 * gives it back when a process is killed. A file system without locks cannot refuse anybody. */
bool heed__os_lock_file(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}
