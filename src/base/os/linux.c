/* What Linux says better than POSIX does, or alone. */
#define _GNU_SOURCE /* sched_getaffinity, madvise */
#include "base/os/os.h"

#include <errno.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

int heed__os_cpus(void)
{
    cpu_set_t set;
    long online;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than the set has bits */
    return online < 1 ? 1 : online > 1 << 20 ? 1 << 20 : (int)online;
}

uint64_t heed__os_peak_bytes(void)
{
    struct rusage use;

    if (getrusage(RUSAGE_SELF, &use) != 0 || use.ru_maxrss < 0)
        return 0;
    return (uint64_t)use.ru_maxrss * 1024; /* it counts KiB */
}

void heed__os_advise_huge(void *block, size_t bytes)
{
    const size_t page = 4096;
    const uintptr_t first = ((uintptr_t)block + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)block + bytes) / page * page;

    if (end > first)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE); /* advice: a refusal changes nothing */
}

/* flock belongs to the opening of the file, so two trainers of one process exclude each other too, and the kernel
 * gives it back when a process is killed. A file system without locks cannot refuse anybody. */
bool heed__os_lock_file(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}
