/* Pictures to try heed on, made here: PLANTED DATA, not photographs. In a noisy grey picture of 32 x 32 stands one
 * shape, plain or faint, in one of four corners; its kind is the class, its corner says nothing. Since we know where
 * it is, an explanation can be checked by eye: FOLDER/ring/014-top-left.png has its ring in the top left corner.
 *   folders FOLDER [PICTURES [SEED]] */
#include <heed/heed.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { SIDE = 32, SHAPE = 10, KINDS = 4 };

static const char *const kinds[KINDS] = { "cross", "disc", "ring", "stripes" };
static const char *const corners[4] = { "top-left", "top-right", "bottom-left", "bottom-right" };

/* Numbers that are the same everywhere, so that everybody's pictures are. */
static int below(unsigned *state, int n)
{
    *state = *state * 1664525u + 1013904223u;
    return (int)((*state >> 16) % (unsigned)n);
}

/* Is (x, y), both 0 .. SHAPE-1, part of the shape? */
static int marked(int kind, int x, int y)
{
    const int u = 2 * x - SHAPE + 1, v = 2 * y - SHAPE + 1, r = u * u + v * v; /* twice the way from the middle */

    switch (kind) {
    case 0: return abs(u) <= 2 || abs(v) <= 2;
    case 1: return r <= SHAPE * SHAPE;
    case 2: return r <= SHAPE * SHAPE && r >= SHAPE * SHAPE / 3;
    default: return y % 4 < 2;
    }
}

static void draw(unsigned char *pixels, int kind, int corner, unsigned *state)
{
    const int left = corner % 2 * SIDE / 2 + below(state, SIDE / 2 - SHAPE + 1);
    const int top = corner / 2 * SIDE / 2 + below(state, SIDE / 2 - SHAPE + 1);
    const int contrast = 40 + below(state, 96);

    for (int i = 0; i < SIDE * SIDE; i++)
        pixels[i] = (unsigned char)below(state, 120);
    for (int y = 0; y < SHAPE; y++)
        for (int x = 0; x < SHAPE; x++)
            if (marked(kind, x, y))
                pixels[(top + y) * SIDE + left + x] += (unsigned char)contrast;
}

static int folder(const char *path)
{
    return mkdir(path, 0777) && errno != EEXIST ? (perror(path), 1) : 0;
}

int main(int n, char **words)
{
    const long pictures = n > 2 ? strtol(words[2], NULL, 10) : 200;
    unsigned state = n > 3 ? (unsigned)strtol(words[3], NULL, 10) : 1;
    unsigned char pixels[SIDE * SIDE];
    heed_tensor picture = { HEED_TYPE(HEED_U8, 1, SIDE, SIDE), pixels };
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    char path[4096];

    if (n < 2)
        return fprintf(stderr, "folders FOLDER [PICTURES [SEED]]\n"), 2;
    if (folder(words[1]) || heed_context_new(&ctx, NULL, &err))
        goto done;
    for (long i = 0; i < pictures; i++) {
        const int kind = (int)(i % KINDS), corner = below(&state, 4);

        draw(pixels, kind, corner, &state);
        (void)snprintf(path, sizeof path, "%s/%s", words[1], kinds[kind]);
        if (folder(path))
            goto done;
        (void)snprintf(path, sizeof path, "%s/%s/%03ld-%s.png", words[1], kinds[kind], i, corners[corner]);
        if (heed_image_write_png(ctx, path, picture, &err))
            goto done;
    }
    heed_context_free(ctx);
    return 0;
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    heed_context_free(ctx);
    return 1;
}
