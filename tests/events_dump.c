/* Writes an event file for tests/events_test.sh: events_dump FOLDER. Prints what went wrong. */
#include <heed/formats.h>

#include <stdio.h>

/* A grey picture of 2 x 1 pixels, made by Python's zlib. */
static const unsigned char png[] = {
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0xd1, 0x49, 0x20, 0x56, 0x00,
    0x00, 0x00, 0x0b, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x70, 0x38, 0x00, 0x00, 0x01, 0x43, 0x01,
    0x01, 0x96, 0xb5, 0x00, 0x9b, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

static heed_status dump(heed_context *ctx, const char *folder, heed_error *err)
{
    const heed_event_image image = { png, sizeof png, 2, 1 };
    heed_events *e = NULL;
    heed_status st = heed_events_open(&e, ctx, folder, NULL, err), closed;

    for (int step = 1; st == HEED_OK && step <= 20; step++) {
        st = heed_events_scalar(e, "train/loss", step, 1.0 / step, err);
        if (st == HEED_OK)
            st = heed_events_scalar(e, "val/accuracy", step, 1 - 1.0 / step, err);
    }
    if (st == HEED_OK)
        st = heed_events_image(e, "attention/L0/H0", 20, (const heed_event_image[]){ image, image }, 2, err);
    if (st == HEED_OK)
        st = heed_events_text(e, "recipe", 20, "# a recipe\n\nof \xe4\xb8\xad\xe6\x96\x87", err);
    closed = heed_events_close(e, err);
    e = NULL;
    if (st == HEED_OK && closed == HEED_OK) /* a second file, after a crash at step 21 and back to 10 */
        st = heed_events_open(&e, ctx, folder, &(heed_events_opts){ .resumed = HEED_SET(10) }, err);
    if (st == HEED_OK && e)
        st = heed_events_scalar(e, "train/loss", 11, 42, err);
    return st ? st : heed_events_close(e, err);
}

int main(int n, char **args)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    heed_status st;

    if (n != 2 || heed_context_new(&ctx, NULL, &err) != HEED_OK)
        return 2;
    st = dump(ctx, args[1], &err);
    if (st != HEED_OK)
        printf("%s\n", err.text);
    heed_context_free(ctx);
    return st == HEED_OK ? 0 : 1;
}
