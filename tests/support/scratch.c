/* See the header. */
#define _GNU_SOURCE
#include "support/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void scratch_stop(const char *what, const char *path)
{
    fprintf(stderr, "%s %s\n", what, path);
    abort();
}

int scratch_setup(void **state)
{
    scratch *s = calloc(1, sizeof *s);

    /* in memory where there is such a folder: fault injection calls fsync ten thousand times */
    strcpy(s->folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/heed_test_XXXXXX" : "/tmp/heed_test_XXXXXX");
    if (!mkdtemp(s->folder) ||
        heed_context_new(&s->ctx, &(heed_context_opts){ .threads = 1 }, NULL) != HEED_OK)
        return 1;
    *state = s;
    return 0;
}

static int scratch_remove(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void scratch_clear(const char *folder)
{
    if (access(folder, F_OK) == 0 && nftw(folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS) != 0)
        scratch_stop("cannot remove", folder);
}

int scratch_teardown(void **state)
{
    scratch *s = *state;
    int failed = nftw(s->folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
    const uint64_t before = heed_context_bytes(s->ctx);
    heed_context *fresh;

    if (heed_context_new(&fresh, &(heed_context_opts){ .threads = 1 }, NULL) != HEED_OK)
        return 1;
    if (before != heed_context_bytes(fresh)) {
        fprintf(stderr, "the heap holds %lld bytes more than a fresh one\n",
                (long long)(before - heed_context_bytes(fresh)));
        failed = 1;
    }
    heed_context_free(fresh);
    heed_context_free(s->ctx);
    free(s);
    return failed;
}

const char *scratch_path(scratch *s, const char *name)
{
    char *path = s->paths[s->next++ % 4];

    snprintf(path, sizeof s->paths[0], "%s/%s", s->folder, name);
    return path;
}

int scratch_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;

    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

void scratch_put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        scratch_stop("cannot write", path);
}

uint8_t *scratch_get(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes;
    long size;

    if (!f || fseek(f, 0, SEEK_END) != 0)
        scratch_stop("cannot read", path);
    size = ftell(f);
    rewind(f);
    bytes = calloc((size_t)size + 1, 1);
    if (fread(bytes, 1, (size_t)size, f) != (size_t)size)
        scratch_stop("cannot read", path);
    fclose(f);
    *n = (size_t)size;
    return bytes;
}

bool scratch_same(const char *path, const char *other)
{
    size_t n, m;
    uint8_t *a = scratch_get(path, &n), *b = scratch_get(other, &m);
    const bool same = n == m && memcmp(a, b, n) == 0;

    free(a);
    free(b);
    return same;
}
