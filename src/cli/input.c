/* stdin as a file: a stream is written to a temporary one. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static heed_status input_spool(cli *c, int to)
{
    char bytes[65536];

    for (;;) {
        const ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);

        if (n == 0)
            return HEED_OK;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return heed__cli_fail(c, HEED_ERR_IO, "cannot read stdin: %s", strerror(errno));
        for (ssize_t at = 0; at < n;) {
            const ssize_t put = write(to, bytes + at, (size_t)(n - at));

            if (put < 0 && errno != EINTR)
                return heed__cli_fail(c, HEED_ERR_IO, "cannot keep stdin in a temporary file: %s",
                                      strerror(errno));
            at += put > 0 ? put : 0;
        }
    }
}

heed_status heed__cli_spool(cli *c, char path[512])
{
    const char *folder = getenv("TMPDIR");
    heed_status st;
    int fd;

    path[0] = 0;
    if (isatty(STDIN_FILENO))
        return heed__cli_fail(c, HEED_ERR_USAGE, "- reads a file from stdin, which is a terminal");
    (void)snprintf(path, 512, "%.400s/heed-stdin-XXXXXX", folder && *folder ? folder : "/tmp");
    fd = mkstemp(path);
    if (fd < 0) {
        st = heed__cli_fail(c, HEED_ERR_IO, "cannot keep stdin in %s: %s", path, strerror(errno));
        path[0] = 0;
        return st;
    }
    st = input_spool(c, fd);
    (void)close(fd);
    if (st != HEED_OK)
        heed__cli_forget(c, path);
    return st;
}

heed_status heed__cli_paths(cli *c, const cli_strings *given, const char **paths, char spooled[512])
{
    for (int i = 0; i < given->n; i++) {
        paths[i] = given->at[i];
        if (strcmp(paths[i], "-") != 0)
            continue;
        if (spooled[0])
            return heed__cli_fail(c, HEED_ERR_USAGE, "- stands twice, and stdin can be read once");
        TRY(heed__cli_spool(c, spooled));
        paths[i] = spooled;
    }
    paths[given->n] = NULL;
    return HEED_OK;
}

/* Every occurrence of `name` in a text becomes "stdin", which is shorter. */
static void input_rename(char *text, const char *name)
{
    static const char stdin_name[] = "stdin";
    const size_t n = strlen(name);

    for (char *at = strstr(text, name); at; at = strstr(at, name)) {
        memcpy(at, stdin_name, sizeof stdin_name - 1);
        memmove(at + sizeof stdin_name - 1, at + n, strlen(at + n) + 1);
    }
}

void heed__cli_forget(cli *c, char path[512])
{
    if (!path[0])
        return;
    (void)unlink(path);
    input_rename(c->err.text, path);
    input_rename(c->err.path, path);
    path[0] = 0;
}
