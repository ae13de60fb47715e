/* A trained run in a program: what is on each picture?
 *   cc predict.c $(pkg-config --cflags --libs heed) -o predict && ./predict RUN PICTURE... */
#include <heed/heed.h>
#include <stdio.h>
#include <stdlib.h>

int main(int n, char **words)
{
    const char *const *name = NULL;
    float *logits = NULL;
    heed_tensor picture = { 0 };
    heed_context *ctx = NULL;
    heed_run *run = NULL;
    heed_inputs *in = NULL;
    heed_error err = { 0 };

    if (n < 3)
        return fprintf(stderr, "predict RUN PICTURE...\n"), 2;
    if (heed_context_new(&ctx, NULL, &err) || heed_run_open(&run, ctx, words[1], &err) ||
        heed_inputs_open(&in, run, (const char *const *)words + 2, 0, &err))
        goto done;
    if (!(logits = calloc((size_t)heed_run_classes(run), sizeof *logits))) {
        err.code = HEED_ERR_MEMORY;
        goto done;
    }
    while (!heed_inputs_next(in, 1, &picture, &name, &err) && picture.type.dims[0] == 1) {
        int64_t best = 0;

        if (heed_run_predict(run, picture, HEED_AVERAGE_NONE, logits, &err))
            goto done;
        for (int64_t i = 1; i < heed_run_classes(run); i++)
            best = logits[i] > logits[best] ? i : best;
        printf("%s: %s\n", name[0], heed_run_class(run, best));
    }
done:
    if (err.code)
        fprintf(stderr, "%s (%s, %s)\n", err.text, err.path, heed_status_name(err.code));
    free(logits);
    heed_inputs_close(in);
    heed_run_free(run);
    heed_context_free(ctx);
    return err.code != 0;
}
