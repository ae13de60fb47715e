/* Errors and status codes: one table of names and exit codes, and the functions that fill a heed_error. */
#include "base/error.h"
#include "base/text.h"
#include "base/os/os.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} error_table[] = {
    /* index: minus the status */
    { "HEED_OK", 0 },          { "HEED_ERR_MEMORY", 1 },    { "HEED_ERR_USAGE", 2 },
    { "HEED_ERR_SHAPE", 3 },   { "HEED_ERR_DTYPE", 3 },     { "HEED_ERR_SPEC", 3 },
    { "HEED_ERR_FORMAT", 3 },  { "HEED_ERR_LIMIT", 3 },     { "HEED_ERR_IO", 3 },
    { "HEED_ERR_EXISTS", 2 },  { "HEED_ERR_MISSING", 4 },   { "HEED_ERR_DEVICE", 4 },
    { "HEED_ERR_NUMERIC", 1 }, { "HEED_ERR_STOPPED", 130 }, { "HEED_ERR_BUG", 1 },
};
#define ERROR_COUNT ((int)(sizeof error_table / sizeof error_table[0]))

static int error_index(heed_status status)
{
    const int at = -(int)status;

    return at >= 0 && at < ERROR_COUNT ? at : -1;
}

const char *heed_status_name(heed_status status)
{
    const int at = error_index(status);

    return at < 0 ? "HEED_ERR_?" : error_table[at].name;
}

int heed_status_exit_code(heed_status status)
{
    const int at = error_index(status);

    return at < 0 ? 1 : error_table[at].exit_code;
}

/* The bytes at `from` that are shown as they are: the length of a UTF-8 sequence that is no control character
 * (C0, DEL, C1), or 0: then one byte is escaped. */
static size_t error_plain(const char *from, size_t left)
{
    const size_t n = heed__utf8_length(from, left);
    const unsigned char *b = (const unsigned char *)from;

    if (n == 1 && (b[0] < 0x20 || b[0] == 0x7f))
        return 0;
    if (n == 2 && b[0] == 0xc2 && b[1] < 0xa0)
        return 0;
    return n;
}

/* Copies `n` bytes, escaped, as far as they fit into `room` with the terminator; returns how many of them
 * fitted. */
static size_t error_escape(char *to, size_t room, const char *from, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0, used = 0;

    while (at < n) {
        const size_t plain = error_plain(from + at, n - at);
        const size_t want = plain ? plain : 4;

        if (used + want >= room)
            break;
        if (plain) {
            memcpy(to + used, from + at, plain);
        } else {
            const unsigned char b = (unsigned char)from[at];
            const char hex[4] = { '\\', 'x', digits[b >> 4], digits[b & 15] };
            memcpy(to + used, hex, 4);
        }
        used += want;
        at += plain ? plain : 1;
    }
    to[used] = '\0';
    return at;
}

/* The end of a path says more than its beginning: a long one loses its head. */
static void error_place(char *to, size_t room, const char *path)
{
    size_t n = strlen(path), skip = 0;

    if (n >= room) {
        skip = n - (room - 4);
        while (skip < n &&
               ((unsigned char)path[skip] & 0xc0) == 0x80) /* not into the middle of a character */
            skip++;
        memcpy(to, "...", 3);
        to += 3;
        room -= 3;
    }
    error_escape(to, room, path + skip, n - skip);
}

static void error_fill(heed_error *err, heed_status code, const char *path, const char *format, va_list args)
{
    char plain[2 * sizeof err->text];
    int n;

    if (!err || err->code != HEED_OK)
        return;
    n = heed__os_format(plain, sizeof plain, format, args);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof plain)
        n = (int)sizeof plain - 1;
    err->code = code;
    error_escape(err->text, sizeof err->text, plain, (size_t)n);
    err->path[0] = '\0';
    if (path)
        error_place(err->path, sizeof err->path, path);
}

heed_status heed__fail(heed_error *err, heed_status code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error_fill(err, code, NULL, format, args);
    va_end(args);
    return code;
}

heed_status heed__fail_at(heed_error *err, heed_status code, const char *path, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error_fill(err, code, path, format, args);
    va_end(args);
    return code;
}

heed_status heed__fail_memory(heed_error *err, uint64_t bytes)
{
    if (!bytes)
        return heed__fail(err, HEED_ERR_MEMORY, "memory ran out; use smaller sizes or a higher memory limit");
    return heed__fail(err, HEED_ERR_MEMORY,
                      "memory ran out: %" PRIu64
                      " bytes more were needed; use smaller sizes or a higher memory limit",
                      bytes);
}

const char *heed__shown(char buffer[200], const char *from, size_t size)
{
    const size_t most = 64, room = 200 - 3;
    const size_t n = size < most ? size : most;
    size_t fitted = 0;

    /* A character that the cut at 64 bytes splits is left out instead of being escaped. */
    while (fitted < n) {
        const size_t plain = heed__utf8_length(from + fitted, size - fitted);
        if (fitted + (plain ? plain : 1) > n)
            break;
        fitted += plain ? plain : 1;
    }
    fitted = error_escape(buffer, room, from, fitted);
    if (fitted < size)
        memcpy(buffer + strlen(buffer), "...", 4);
    return buffer;
}
