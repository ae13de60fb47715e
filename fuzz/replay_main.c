/* Runs a fuzz target over saved inputs, without libFuzzer: the same corpus is a test of every build.
 *
 *   NAME_replay PATH...      each PATH is a file or a folder (searched to any depth)
 *
 * The empty input always runs first. A target that returns has passed; crashes and sanitizer reports fail. */

#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long replayed;
static int replay_failed;

static void replay_bytes(const uint8_t *data, size_t size)
{
    LLVMFuzzerTestOneInput(data, size);
    replayed++;
}

static int replay_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
    size_t size = (size_t)st->st_size;
    uint8_t *data;
    FILE *f;

    (void)where;
    if (type != FTW_F)
        return 0;
    f = fopen(path, "rb");
    data = malloc(size ? size : 1);              /* exactly as long as the file, so that overruns are seen */
    if (!f || !data || fread(data, 1, size, f) != size) {
        fprintf(stderr, "cannot read %s\n", path);
        replay_failed = 1;
    } else {
        replay_bytes(data, size);
    }
    free(data);
    if (f)
        fclose(f);
    return 0;
}

int main(int argc, char **argv)
{
    struct stat st;

    replay_bytes((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        if (stat(argv[i], &st) != 0)
            printf("no corpus at %s\n", argv[i]);
        else if (nftw(argv[i], replay_file, 16, FTW_PHYS) != 0)
            replay_failed = 1;
    }
    printf("%lu inputs replayed\n", replayed);
    return replay_failed;
}
