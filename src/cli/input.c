/* stdin as a file: the library's readers want to know a size before they take memory, so a stream is written
 * to a temporary file first. */

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

heed_status heed__cli_read_idx(cli *c, heed_tensor *out, const char *path)
{
    const char *folder = getenv("TMPDIR");
    char name[512];
    heed_status st;
    int fd;

    if (strcmp(path, "-") != 0)
        return heed_idx_read(out, c->ctx, path, 0, -1, &c->err);
    if (isatty(STDIN_FILENO))
        return heed__cli_fail(c, HEED_ERR_USAGE, "- reads an IDX stream from stdin, which is a terminal");
    (void)snprintf(name, sizeof name, "%.400s/heed-stdin-XXXXXX", folder && *folder ? folder : "/tmp");
    fd = mkstemp(name);
    if (fd < 0)
        return heed__cli_fail(c, HEED_ERR_IO, "cannot keep stdin in %s: %s", name, strerror(errno));
    STEP(input_spool(c, fd));
    STEP(heed_idx_read(out, c->ctx, name, 0, -1, &c->err));
done:
    (void)close(fd);
    (void)unlink(name);
    if (strcmp(c->err.path, name) == 0)
        (void)snprintf(c->err.path, sizeof c->err.path, "stdin");
    return st;
}
