/* The operating system, by Win32 and the universal C runtime: Windows 8 and later. File descriptors are the
 * runtime's, made from handles, so that a file can be opened in ways that the runtime's own open does not know:
 * others may go on reading, replace and remove what we have open, as POSIX lets them. */
#undef _WIN32_WINNT
#define _WIN32_WINNT 0x0602 /* GetSystemTimePreciseAsFileTime */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "base/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <locale.h>
#include <process.h>
#include <psapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOWS_PATH 4096 /* UTF-16 units of a path */
#define WINDOWS_STACK_BYTES (1u << 20)
#define WINDOWS_SHARE (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
#define WINDOWS_CALL_BYTES ((size_t)1 << 30) /* of one read or write */

/* The errno of the last failure; returns -1, which every caller hands on. */
static int windows_fail(void)
{
    static const struct {
        DWORD code;
        int error;
    } table[] = {
        { ERROR_FILE_NOT_FOUND, ENOENT },
        { ERROR_PATH_NOT_FOUND, ENOENT },
        { ERROR_INVALID_NAME, ENOENT },
        { ERROR_BAD_PATHNAME, ENOENT },
        { ERROR_BAD_NETPATH, ENOENT },
        { ERROR_BAD_NET_NAME, ENOENT },
        { ERROR_INVALID_DRIVE, ENOENT },
        { ERROR_DIRECTORY, ENOTDIR },
        { ERROR_ACCESS_DENIED, EACCES },
        { ERROR_SHARING_VIOLATION, EACCES },
        { ERROR_LOCK_VIOLATION, EACCES },
        { ERROR_WRITE_PROTECT, EROFS },
        { ERROR_FILE_EXISTS, EEXIST },
        { ERROR_ALREADY_EXISTS, EEXIST },
        { ERROR_DISK_FULL, ENOSPC },
        { ERROR_HANDLE_DISK_FULL, ENOSPC },
        { ERROR_DISK_QUOTA_EXCEEDED, ENOSPC },
        { ERROR_TOO_MANY_OPEN_FILES, EMFILE },
        { ERROR_NOT_ENOUGH_MEMORY, ENOMEM },
        { ERROR_OUTOFMEMORY, ENOMEM },
        { ERROR_INVALID_HANDLE, EBADF },
        { ERROR_NOT_SAME_DEVICE, EXDEV },
        { ERROR_FILENAME_EXCED_RANGE, ENAMETOOLONG },
        { ERROR_BROKEN_PIPE, EPIPE },
    };
    const DWORD code = GetLastError();

    errno = EIO;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].code == code)
            errno = table[i].error;
    return -1;
}

static bool windows_path(wchar_t to[WINDOWS_PATH], const char *path)
{
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, to, WINDOWS_PATH) > 0)
        return true;
    errno = GetLastError() == ERROR_INSUFFICIENT_BUFFER ? ENAMETOOLONG : ENOENT;
    return false;
}

static HANDLE windows_handle(int fd)
{
    return (HANDLE)_get_osfhandle(fd);
}

/* FILE_FLAG_BACKUP_SEMANTICS opens folders too: what is none of what the caller wants is told apart later. */
static int windows_open(const char *path, DWORD access, DWORD how, int flags)
{
    wchar_t wide[WINDOWS_PATH];
    HANDLE h;
    int fd;

    if (!windows_path(wide, path))
        return -1;
    h = CreateFileW(wide, access, WINDOWS_SHARE, NULL, how,
                    FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (h == INVALID_HANDLE_VALUE)
        return windows_fail();
    fd = _open_osfhandle((intptr_t)h, flags | _O_BINARY | _O_NOINHERIT);
    if (fd < 0) {
        CloseHandle(h);
        errno = EMFILE;
    }
    return fd;
}

static bool windows_is_folder(HANDLE h)
{
    BY_HANDLE_FILE_INFORMATION info;

    return GetFileInformationByHandle(h, &info) && (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY);
}

static int windows_open_read(void *user, const char *path)
{
    (void)user;
    return windows_open(path, GENERIC_READ, OPEN_EXISTING, _O_RDONLY);
}

static int windows_open_new(void *user, const char *path)
{
    (void)user;
    return windows_open(path, GENERIC_WRITE, CREATE_NEW, _O_WRONLY);
}

static int windows_open_append(void *user, const char *path)
{
    (void)user;
    return windows_open(path, FILE_APPEND_DATA | SYNCHRONIZE, OPEN_ALWAYS, _O_WRONLY | _O_APPEND);
}

static int windows_open_folder(void *user, const char *path)
{
    const int fd = windows_open(path, FILE_READ_ATTRIBUTES, OPEN_EXISTING, _O_RDONLY);

    (void)user;
    if (fd >= 0 && !windows_is_folder(windows_handle(fd))) {
        _close(fd);
        errno = ENOTDIR;
        return -1;
    }
    return fd;
}

static int64_t windows_size(void *user, int fd, bool *regular)
{
    const HANDLE h = windows_handle(fd);
    LARGE_INTEGER size;

    (void)user;
    *regular = GetFileType(h) == FILE_TYPE_DISK && !windows_is_folder(h);
    if (!*regular)
        return 0;
    return GetFileSizeEx(h, &size) ? size.QuadPart : windows_fail();
}

static int64_t windows_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    OVERLAPPED at = { .Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32) };
    DWORD got = 0;

    (void)user;
    if (ReadFile(windows_handle(fd), to, (DWORD)(n < WINDOWS_CALL_BYTES ? n : WINDOWS_CALL_BYTES), &got, &at))
        return got;
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : windows_fail();
}

static int64_t windows_write(void *user, int fd, const void *from, size_t n)
{
    DWORD put = 0;

    (void)user;
    if (WriteFile(windows_handle(fd), from, (DWORD)(n < WINDOWS_CALL_BYTES ? n : WINDOWS_CALL_BYTES), &put,
                  NULL))
        return put;
    return windows_fail();
}

static int windows_sync(void *user, int fd)
{
    const HANDLE h = windows_handle(fd);

    (void)user;
    if (windows_is_folder(h)) /* windows_rename has made the name durable */
        return 0;
    return FlushFileBuffers(h) ? 0 : windows_fail();
}

static int windows_close(void *user, int fd)
{
    (void)user;
    return _close(fd);
}

static int windows_rename(void *user, const char *from, const char *to)
{
    wchar_t wide_from[WINDOWS_PATH], wide_to[WINDOWS_PATH];

    (void)user;
    if (!windows_path(wide_from, from) || !windows_path(wide_to, to))
        return -1;
    return MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)
               ? 0
               : windows_fail();
}

static int windows_unlink(void *user, const char *path)
{
    wchar_t wide[WINDOWS_PATH];

    (void)user;
    if (!windows_path(wide, path))
        return -1;
    return DeleteFileW(wide) ? 0 : windows_fail();
}

static int windows_mkdir(void *user, const char *path)
{
    wchar_t wide[WINDOWS_PATH];

    (void)user;
    if (!windows_path(wide, path))
        return -1;
    return CreateDirectoryW(wide, NULL) ? 0 : windows_fail();
}

static int windows_rmdir(void *user, const char *path)
{
    wchar_t wide[WINDOWS_PATH];

    (void)user;
    if (!windows_path(wide, path))
        return -1;
    return RemoveDirectoryW(wide) ? 0 : windows_fail();
}

/* A name of the system as UTF-8; what has no such form is passed over: no call could open it. */
static bool windows_entry(const WIN32_FIND_DATAW *found, os_entry_fn *each, void *to)
{
    char name[3 * MAX_PATH + 1];
    const DWORD what = found->dwFileAttributes;

    if (wcscmp(found->cFileName, L".") == 0 || wcscmp(found->cFileName, L"..") == 0 ||
        WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, found->cFileName, -1, name, sizeof name, NULL,
                            NULL) <= 0)
        return true;
    return each(to, name,
                what & FILE_ATTRIBUTE_DIRECTORY ? OS_FOLDER
                : what & FILE_ATTRIBUTE_DEVICE  ? OS_OTHER
                                                : OS_FILE);
}

static int windows_list(void *user, const char *path, os_entry_fn *each, void *to)
{
    wchar_t wide[WINDOWS_PATH];
    WIN32_FIND_DATAW found;
    HANDLE h;
    size_t n;
    bool more = true;

    (void)user;
    if (!windows_path(wide, path))
        return -1;
    n = wcslen(wide);
    if (n + 3 > WINDOWS_PATH) {
        errno = ENAMETOOLONG;
        return -1;
    }
    wcscpy(wide + n, L"\\*");
    h = FindFirstFileW(wide, &found);
    if (h == INVALID_HANDLE_VALUE)
        return windows_fail();
    while (more && windows_entry(&found, each, to))
        more = FindNextFileW(h, &found);
    if (!more && GetLastError() != ERROR_NO_MORE_FILES) {
        (void)windows_fail();
        FindClose(h);
        return -1;
    }
    FindClose(h);
    return 0;
}

/* The lock covers a byte far behind the end, so that others can read the id. */
bool heed__os_lock_file(int fd)
{
    OVERLAPPED far = { .OffsetHigh = 1 };

    return LockFileEx(windows_handle(fd), LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &far) ||
           GetLastError() != ERROR_LOCK_VIOLATION;
}

static int windows_open_lock(void *user, const char *path)
{
    const int fd = windows_open(path, GENERIC_READ | GENERIC_WRITE | DELETE, OPEN_ALWAYS, _O_RDWR);
    char id[16];
    int n;

    (void)user;
    if (fd < 0)
        return -1;
    if (!heed__os_lock_file(fd)) {
        _close(fd);
        errno = EBUSY;
        return -1;
    }
    n = snprintf(id, sizeof id, "%d\n", heed__os_process());
    if (_chsize_s(fd, 0) == 0 && n > 0)
        (void)_write(fd, id, (unsigned)n);
    return fd;
}

const file_ops *heed__file_ops(void)
{
    static const file_ops ops = {
        .open_read = windows_open_read,
        .open_new = windows_open_new,
        .open_append = windows_open_append,
        .open_folder = windows_open_folder,
        .size = windows_size,
        .read = windows_read,
        .write = windows_write,
        .sync = windows_sync,
        .close = windows_close,
        .rename = windows_rename,
        .unlink = windows_unlink,
        .mkdir = windows_mkdir,
        .rmdir = windows_rmdir,
        .list = windows_list,
        .open_lock = windows_open_lock,
    };

    return &ops;
}

int64_t heed__os_free_bytes(const char *path)
{
    wchar_t wide[WINDOWS_PATH];
    ULARGE_INTEGER bytes;

    if (!windows_path(wide, path) || !GetDiskFreeSpaceExW(wide, &bytes, NULL, NULL))
        return -1;
    return bytes.QuadPart > INT64_MAX ? INT64_MAX : (int64_t)bytes.QuadPart;
}

bool heed__os_separates(char c)
{
    return c == '/' || c == '\\';
}

bool heed__os_disk_full(int error)
{
    return error == ENOSPC;
}

bool heed__os_same(const char *a, const char *b)
{
    const int x = windows_open(a, FILE_READ_ATTRIBUTES, OPEN_EXISTING, _O_RDONLY),
              y = windows_open(b, FILE_READ_ATTRIBUTES, OPEN_EXISTING, _O_RDONLY);
    BY_HANDLE_FILE_INFORMATION i, j;
    const bool same = x >= 0 && y >= 0 && GetFileInformationByHandle(windows_handle(x), &i) &&
                      GetFileInformationByHandle(windows_handle(y), &j) &&
                      i.dwVolumeSerialNumber == j.dwVolumeSerialNumber &&
                      i.nFileIndexHigh == j.nFileIndexHigh && i.nFileIndexLow == j.nFileIndexLow;

    if (x >= 0)
        _close(x);
    if (y >= 0)
        _close(y);
    return same;
}

int heed__os_process(void)
{
    return (int)(GetCurrentProcessId() & INT32_MAX);
}

void heed__os_host(char name[64])
{
    DWORD size = 64;

    if (!GetComputerNameA(name, &size))
        name[0] = '\0';
}

void heed__os_error_text(char *to, size_t size, int error)
{
    if (strerror_s(to, size, error) != 0)
        to[0] = '\0';
}

/* The affinity mask speaks of one group of at most 64 CPUs; it is zero for a process of several groups. */
int heed__os_cpus(void)
{
    const DWORD all = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    DWORD_PTR ours = 0, system = 0;

    if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &system) && ours &&
        (ours != system || GetActiveProcessorGroupCount() == 1))
        return __builtin_popcountll(ours);
    return all < 1 ? 1 : all > 1u << 20 ? 1 << 20 : (int)all;
}

double heed__os_seconds(void)
{
    LARGE_INTEGER ticks, rate;

    QueryPerformanceCounter(&ticks); /* neither call fails since Windows XP */
    QueryPerformanceFrequency(&rate);
    return (double)ticks.QuadPart / (double)rate.QuadPart;
}

double heed__os_wall_seconds(void)
{
    const double to_1970 = 11644473600.0; /* seconds since 1601, when Windows begins to count */
    FILETIME now;

    GetSystemTimePreciseAsFileTime(&now);
    return 1e-7 * (double)((uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime) - to_1970;
}

uint64_t heed__os_peak_bytes(void)
{
    PROCESS_MEMORY_COUNTERS use;

    if (!K32GetProcessMemoryInfo(GetCurrentProcess(), &use, sizeof use))
        return 0;
    return use.PeakWorkingSetSize;
}

void heed__os_advise_huge(void *block, size_t bytes)
{
    (void)block; /* large pages need a privilege here */
    (void)bytes;
}

int heed__os_format(char *to, size_t size, const char *format, va_list args)
{
    const _locale_t c = _create_locale(LC_ALL, "C");
    const int n =
        __stdio_common_vsprintf(_CRT_INTERNAL_PRINTF_STANDARD_SNPRINTF_BEHAVIOR, to, size, format, c, args);

    _free_locale(c);
    return n;
}

static int windows_format(char *to, size_t size, const char *format, ...) HEED_PRINTF(3, 4);
static int windows_format(char *to, size_t size, const char *format, ...)
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
    windows_format(to, size, "%.*g", digits, value);
}

double heed__os_read_number(const char *text)
{
    const _locale_t c = _create_locale(LC_ALL, "C");
    const double value = _strtod_l(text, NULL, c);

    _free_locale(c);
    return value;
}

/* Threads. */

typedef struct windows_gate {
    SRWLOCK lock;
    CONDITION_VARIABLE news;
} windows_gate;
_Static_assert(sizeof(windows_gate) <= sizeof(os_gate), "a gate has room for a lock and a condition");
_Static_assert(sizeof(uintptr_t) <= sizeof(((os_thread *)0)->id), "a thread has room for its handle");

static windows_gate *windows_gate_of(os_gate *g)
{
    return (windows_gate *)(void *)g->room;
}

void heed__os_gate_init(os_gate *g)
{
    InitializeSRWLock(&windows_gate_of(g)->lock);
    InitializeConditionVariable(&windows_gate_of(g)->news);
}

void heed__os_gate_release(os_gate *g)
{
    (void)g; /* neither holds anything of the system */
}

void heed__os_gate_lock(os_gate *g)
{
    AcquireSRWLockExclusive(&windows_gate_of(g)->lock);
}

void heed__os_gate_unlock(os_gate *g)
{
    ReleaseSRWLockExclusive(&windows_gate_of(g)->lock);
}

void heed__os_gate_wait(os_gate *g)
{
    SleepConditionVariableSRW(&windows_gate_of(g)->news, &windows_gate_of(g)->lock, INFINITE, 0);
}

void heed__os_gate_wake(os_gate *g, int sleepers)
{
    if (sleepers > 1)
        WakeAllConditionVariable(&windows_gate_of(g)->news);
    else
        WakeConditionVariable(&windows_gate_of(g)->news);
}

static unsigned __stdcall windows_thread_main(void *of)
{
    const os_thread *t = of;

    t->fn(t->user);
    return 0;
}

/* _beginthreadex is CreateThread for those who use the C runtime. */
bool heed__os_thread_start(os_thread *t, void (*fn)(void *user), void *user)
{
    t->fn = fn;
    t->user = user;
    t->id = _beginthreadex(NULL, WINDOWS_STACK_BYTES, windows_thread_main, t,
                           STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return t->id != 0;
}

void heed__os_thread_join(os_thread *t)
{
    const HANDLE h = (HANDLE)(uintptr_t)t->id;

    WaitForSingleObject(h, INFINITE);
    CloseHandle(h);
}
