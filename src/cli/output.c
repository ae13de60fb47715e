/* What stdout and stderr are, and numbers as people and programs read them. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

heed_status heed__cli_fail(cli *c, heed_status code, const char *format, ...)
{
    va_list args;

    if (c->err.code != HEED_OK)
        return code;
    c->err.code = code;
    va_start(args, format);
    (void)vsnprintf(c->err.text, sizeof c->err.text, format, args);
    va_end(args);
    return code;
}

/* auto: NO_COLOR (any value) turns colour off, FORCE_COLOR on; else a terminal that is not "dumb" has it. */
static bool output_colours(const cli *c, int fd)
{
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR");

    if (c->common.color == 1)
        return true;
    if (c->common.color == 2 || (no && *no))
        return false;
    if (force && *force)
        return strcmp(force, "0") != 0;
    return isatty(fd) && term && strcmp(term, "dumb") != 0;
}

void heed__cli_style(cli *c)
{
    static const cli_style plain = { "", "", "", "", "", "" };
    static const cli_style colours = { "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[36m", "\033[0m" };

    c->out = output_colours(c, STDOUT_FILENO) ? colours : plain;
    c->log = output_colours(c, STDERR_FILENO) ? colours : plain;
    c->log_terminal = isatty(STDERR_FILENO) == 1;
}

heed_status heed__cli_flush(cli *c, bool *closed)
{
    struct pollfd reader = { .fd = STDOUT_FILENO };
    int error = 0;

    *closed = false;
    errno = 0;
    if (fflush(stdout) != 0)
        error = errno ? errno : EIO;
    else if (ferror(stdout))
        error = EIO; /* an earlier write failed, its errno is gone */
    if (!error)
        return HEED_OK;
    *closed = error == EPIPE || (error == EIO && poll(&reader, 1, 0) == 1 && reader.revents & POLLERR);
    return heed__cli_fail(c, HEED_ERR_IO, "cannot write the result: %s", strerror(error));
}

/* Length of the UTF-8 character at p, 0 for a byte that begins none. */
static size_t output_utf8(const unsigned char *p)
{
    const size_t n = p[0] < 0x80                    ? 1
                     : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                     : (p[0] & 0xf0) == 0xe0        ? 3
                     : p[0] <= 0xf4                 ? 4
                                                    : 0;

    if (p[0] >= 0x80 && p[0] < 0xc2)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
        return 0;
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
        return 0;
    return n;
}

void heed__cli_json(FILE *f, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    (void)putc('"', f);
    while (*p) {
        const size_t n = output_utf8(p);

        if (n == 0)
            fputs("\\ufffd", f); /* JSON cannot carry such a byte */
        else if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            fprintf(f, "\\u%04x", *p);
        else
            (void)fwrite(p, 1, n, f);
        p += n ? n : 1;
    }
    (void)putc('"', f);
}

void heed__cli_text(FILE *f, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        const size_t n = output_utf8(p);
        const bool control = *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);

        if (n == 0 || control)
            fprintf(f, "\\x%02x", *p);
        if (n == 2 && control)
            fprintf(f, "\\x%02x", p[1]);
        else if (n > 0 && !control)
            (void)fwrite(p, 1, n, f);
        p += n ? n : 1;
    }
}

void heed__cli_word(FILE *f, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:@%=";
    const char *rest = text;

    if (*text && text[strspn(text, plain)] == 0) {
        fputs(text, f);
        return;
    }
    (void)putc('\'', f);
    for (const char *quote; (quote = strchr(rest, '\'')) != NULL; rest = quote + 1) {
        char before[4096];

        (void)snprintf(before, sizeof before, "%.*s", (int)(quote - rest), rest);
        heed__cli_text(f, before);
        fputs("'\\''", f);
    }
    heed__cli_text(f, rest);
    (void)putc('\'', f);
}

/* Columns that a character takes: wcwidth() would ask the locale, which need not be UTF-8. Combining marks
 * take none; East Asian wide characters and pictographs two (Unicode 15, EastAsianWidth.txt, by blocks). */
static int output_columns(const unsigned char *p, size_t n)
{
    static const struct {
        uint32_t first, last;
        int columns;
    } ranges[] = {
        { 0x0300, 0x036f, 0 },   { 0x200b, 0x200f, 0 },   { 0xfe00, 0xfe0f, 0 },   { 0x1100, 0x115f, 2 },
        { 0x2e80, 0x303e, 2 },   { 0x3041, 0xa4cf, 2 },   { 0xa960, 0xa97c, 2 },   { 0xac00, 0xd7a3, 2 },
        { 0xf900, 0xfaff, 2 },   { 0xfe30, 0xfe6f, 2 },   { 0xff01, 0xff60, 2 },   { 0xffe0, 0xffe6, 2 },
        { 0x1f300, 0x1f64f, 2 }, { 0x1f680, 0x1f6ff, 2 }, { 0x1f900, 0x1f9ff, 2 }, { 0x20000, 0x3fffd, 2 },
    };
    uint32_t code = n == 1 ? p[0] : (uint32_t)(p[0] & (0xff >> (n + 1)));

    for (size_t i = 1; i < n; i++)
        code = code << 6 | (p[i] & 0x3f);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return ranges[i].columns;
    return 1;
}

/* Control characters and bytes that are no UTF-8 are shown as '?': an escape would take more than its column. */
void heed__cli_cell(FILE *f, const char *text, int columns)
{
    const unsigned char *p = (const unsigned char *)text;
    int left = columns;

    while (*p) {
        const size_t n = output_utf8(p);
        const bool shown = n > 0 && *p >= 0x20 && *p != 0x7f && !(n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
        const int width = shown ? output_columns(p, n) : 1;

        if (width > left)
            break;
        if (shown)
            (void)fwrite(p, 1, n, f);
        else
            (void)putc('?', f);
        left -= width;
        p += n ? n : 1;
    }
    fprintf(f, "%*s", left, "");
}

/* The fewest digits that read back as the same double. */
void heed__cli_number(FILE *f, double value)
{
    char text[40];

    if (!isfinite(value)) {
        fputs("null", f);
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, f);
}

const char *heed__cli_count(char text[32], int64_t n)
{
    char digits[24];
    const int size = snprintf(digits, sizeof digits, "%lld", (long long)n);
    char *to = text;

    for (int i = 0; i < size; i++) {
        *to++ = digits[i];
        if ((size - 1 - i) % 3 == 0 && i + 1 < size && digits[i] != '-')
            *to++ = ',';
    }
    *to = 0;
    return text;
}

const char *heed__cli_bytes(char text[32], uint64_t n)
{
    static const char *const units[] = { "kB", "MB", "GB", "TB" };
    double value = (double)n / 1000;
    int unit = 0;

    if (n < 1000) {
        (void)snprintf(text, 32, "%d bytes", (int)n);
        return text;
    }
    while (value >= 1000 && unit < 3) {
        value /= 1000;
        unit++;
    }
    (void)snprintf(text, 32,
                   value < 10    ? "%.2f %s"
                   : value < 100 ? "%.1f %s"
                                 : "%.0f %s",
                   value, units[unit]);
    return text;
}

const char *heed__cli_seconds(char text[32], double seconds)
{
    const double whole = floor(seconds + 0.5);
    const long long s = whole >= 0 && whole < 1e15 ? (long long)whole : 0;

    if (!(seconds >= 0 && seconds < 1e15))
        (void)snprintf(text, 32, "-");
    else if (seconds < 60)
        (void)snprintf(text, 32, "%.1f s", seconds);
    else if (s < 3600)
        (void)snprintf(text, 32, "%lld:%02lld", s / 60, s % 60);
    else
        (void)snprintf(text, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return text;
}

bool heed__cli_is_there(const char *path)
{
    struct stat s;

    return lstat(path, &s) == 0;
}

bool heed__cli_is_folder(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

heed_status heed__cli_exists(cli *c, const char *path, bool force)
{
    if (force || !heed__cli_is_there(path))
        return HEED_OK;
    return heed__cli_fail(c, HEED_ERR_EXISTS, "%.300s is there already; --force writes over it", path);
}
