/* Every call to the operating system stands behind this header. The build picks the files: posix.c with
 * linux.c or unix.c, or windows.c; cpu.c everywhere. Tests replace the table of
 * file calls to count them and to make each fail in turn. */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <heed/base.h>
#include <stdarg.h>

/* What a name in a folder stands for; a link counts as what it leads to. */
typedef enum os_entry { OS_FILE = 0, OS_FOLDER, OS_OTHER } os_entry;
typedef bool os_entry_fn(void *to, const char *name, os_entry kind); /* false ends the listing */

/* File calls: results and errno as POSIX gives them; paths are UTF-8. */
typedef struct file_ops {
    int (*open_read)(void *user, const char *path);
    int (*open_new)(void *user, const char *path); /* O_CREAT | O_EXCL | O_CLOEXEC, 0666 */
    int (*open_append)(void *user, const char *path);
    int (*open_folder)(void *user, const char *path); /* fails when it is none */
    int64_t (*size)(void *user, int fd, bool *regular); /* fstat; -1 on failure */
    int64_t (*read)(void *user, int fd, void *to, size_t n, uint64_t offset); /* pread */
    int64_t (*write)(void *user, int fd, const void *from, size_t n);
    int (*sync)(void *user, int fd);
    int (*close)(void *user, int fd);
    int (*rename)(void *user, const char *from, const char *to);
    int (*unlink)(void *user, const char *path);
    int (*mkdir)(void *user, const char *path);
    /* Tells every name but . and .. in the system's order; -1 when the folder cannot be read to its end. */
    int (*list)(void *user, const char *path, os_entry_fn *each, void *to);
    int (*rmdir)(void *user, const char *path); /* of an empty folder */
    /* A file that is made when missing, and locked until it is closed or the process ends: nobody else can open it
     * so. errno EBUSY when another holds it; this process' id is written into it. */
    int (*open_lock)(void *user, const char *path);
    void *user;
} file_ops;

const file_ops *heed__file_ops(void);            /* the system's */
int64_t heed__os_free_bytes(const char *path);   /* room on that file system; -1 unknown */
bool heed__os_same(const char *a, const char *b); /* both are there and are the same file or folder */
bool heed__os_separates(char c);                 /* does it end a folder's name in a path */
bool heed__os_disk_full(int error);              /* an errno: no room, or the quota is used up */
int heed__os_process(void);                      /* the id of this process */
bool heed__os_lock_file(int fd);                 /* takes the file for this opening of it; false: another has it */
void heed__os_host(char name[64]);               /* of this machine, as the system says it; "" unknown */
void heed__os_error_text(char *to, size_t size, int error); /* the system's words for an errno */
int heed__os_cpus(void);                         /* CPUs this process may use, at least 1 */
double heed__os_seconds(void);                   /* monotonic clock */
double heed__os_wall_seconds(void);              /* since 1970 */
bool heed__os_cpu_has(heed_isa isa);             /* does this CPU run that level */
void heed__os_cpu_name(char name[96]);           /* for run folders and benchmarks */
uint64_t heed__os_peak_bytes(void);              /* resident high-water mark of the process; 0 unknown */

/* Floating-point control: the default rounding with denormals kept, and back. A host that set
 * flush-to-zero must not change our bits. */
uint64_t heed__os_float_enter(void);
void heed__os_float_leave(uint64_t saved);

/* Asks for huge pages; advice only. */
void heed__os_advise_huge(void *block, size_t bytes);

/* Text and numbers that do not depend on the host's locale: vsnprintf, "%.*g" and strtod as in the locale
 * "C". */
int heed__os_format(char *to, size_t size, const char *format, va_list args) HEED_PRINTF(3, 0);
void heed__os_print_number(char *to, size_t size, int digits, double value);
double heed__os_read_number(const char *text);

/* Threads. An os_thread stays where it is until it is joined. */
typedef struct os_thread {
    void (*fn)(void *user);
    void *user;
    uint64_t id;
} os_thread;

/* False when the system has no more. */
bool heed__os_thread_start(os_thread *t, void (*fn)(void *user), void *user);
void heed__os_thread_join(os_thread *t);
void heed__os_relax(void); /* a pause in a spin loop */

/* A gate: a mutex with one condition. wait is called with the lock held and may return without a reason. */
typedef union os_gate {
    uint8_t room[128];
    uint64_t aligned;
    void *aligned_too;
} os_gate;

void heed__os_gate_init(os_gate *g);
void heed__os_gate_release(os_gate *g);
void heed__os_gate_lock(os_gate *g);
void heed__os_gate_unlock(os_gate *g);
void heed__os_gate_wait(os_gate *g);
void heed__os_gate_wake(os_gate *g, int sleepers); /* 1: one of them; more: all */

#endif
