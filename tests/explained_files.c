/* Writes every hand-made explanation in every form: FOLDER/KIND.{png,svg,html,json,npz,txt,ansi}. For the
 * page test, and for looking. */
#include "support/explained.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = { "vit", "pool", "hostile", "plain", "large" };

static int put_text(heed_context *ctx, const heed_explanation *e, heed_terminal terminal, int width,
                    const char *path)
{
    char *text = NULL;
    FILE *f = fopen(path, "wb");

    if (!f || heed_explanation_text(&text, ctx, e, terminal, width, NULL) != HEED_OK)
        return 1;
    fputs(text, f);
    heed_text_free(ctx, text);
    return fclose(f);
}

int main(int argc, char **argv)
{
    static const char *const ends[HEED_EXPLAIN_FORMATS] = { "png", "svg", "html", "npz", "json" };
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    int failed = 0;

    if (argc != 2 || heed_context_new(&ctx, &(heed_context_opts){ .threads = 1 }, &err) != HEED_OK)
        return 2;
    for (int k = 0; k < 5; k++) {
        heed_explanation *e = explained_new((explained_kind)k);
        char path[512];

        for (int f = 0; f < HEED_EXPLAIN_FORMATS; f++) {
            heed_status st;

            if (f == HEED_EXPLAIN_NPZ && e->n_attentions == 0)
                continue;
            snprintf(path, sizeof path, "%s/%s.%s", argv[1], kinds[k], ends[f]);
            memset(&err, 0, sizeof err);
            st = heed_explanation_write(ctx, e, (heed_explain_format)f, path, &err);
            if (st != HEED_OK && st != HEED_ERR_MISSING) {
                fprintf(stderr, "%s: %s\n", path, err.text);
                failed = 1;
            }
        }
        snprintf(path, sizeof path, "%s/%s.txt", argv[1], kinds[k]);
        failed |= put_text(ctx, e, HEED_TERMINAL_ASCII, 80, path);
        snprintf(path, sizeof path, "%s/%s.ansi", argv[1], kinds[k]);
        failed |= put_text(ctx, e, HEED_TERMINAL_256, 100, path);
        explained_free(e);
    }
    heed_context_free(ctx);
    return failed;
}
