/* picture u8 [C,H,W] -> channels -> size.
 *
 *   1 of 3   (19595 R + 38470 G + 7471 B + 32768) >> 16, as PIL's convert("L")
 *   3 of 1   the same plane three times
 *
 * Channels come first, as in PIL: grey values are then averaged, not rounded twice. A picture that has the
 * size already keeps its bytes. */

#include "data/fit.h"
#include "base/error.h"
#include <heed/data.h>

#include <inttypes.h>
#include <string.h>

static heed_status fit_check(const heed_type *t, const picture_fit *f, heed_error *err)
{
    if (t->dtype != HEED_U8)
        return heed__fail(err, HEED_ERR_DTYPE, "a picture is %s; u8 is needed", heed_dtype_name(t->dtype));
    if (t->rank != 3 || heed_type_count(t) < 1)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "a picture has %d dimensions; [C,H,W] is needed, none of them 0", t->rank);
    if (t->dims[0] != f->channels && !(t->dims[0] == 3 && f->channels == 1) &&
        !(t->dims[0] == 1 && f->channels == 3))
        return heed__fail(err, HEED_ERR_SHAPE,
                          "a picture of %" PRId64 " channels cannot become one of %" PRId64
                          "; grey and colour become each other",
                          t->dims[0], f->channels);
    return HEED_OK;
}

/* Writes channels * plane bytes. */
static void fit_channels(uint8_t *to, const uint8_t *from, int64_t had, int64_t channels, size_t plane)
{
    if (had == channels) {
        memcpy(to, from, (size_t)channels * plane);
    } else if (had == 1) {
        for (int64_t c = 0; c < channels; c++)
            memcpy(to + (size_t)c * plane, from, plane);
    } else {
        const uint8_t *red = from, *green = from + plane, *blue = from + 2 * plane;

        for (size_t i = 0; i < plane; i++)
            to[i] = (uint8_t)((19595u * red[i] + 38470u * green[i] + 7471u * blue[i] + 32768u) >> 16);
    }
}

heed_status heed__fit_into(uint8_t *to, heed_context *ctx, heed_tensor picture, const picture_fit *fit,
                           heed_error *err)
{
    const heed_resize_opts opts = { .fit = fit->fit, .filter = fit->filter, .fill = fit->fill };
    heed_tensor own = { .data = NULL }, sized = { .data = NULL };
    const heed_type *t = &picture.type;
    const bool same_size = t->dims[1] == fit->height && t->dims[2] == fit->width;
    heed_status st = HEED_OK;
    size_t plane;

    TRY(fit_check(t, fit, err));
    plane = (size_t)(t->dims[1] * t->dims[2]);
    if (same_size) {
        fit_channels(to, picture.data, t->dims[0], fit->channels, plane);
        return HEED_OK;
    }
    if (t->dims[0] != fit->channels) {
        own.type = heed_type_of(HEED_U8, 3, (const int64_t[]){ fit->channels, t->dims[1], t->dims[2] });
        own.data = heed__alloc(ctx->heap, (size_t)fit->channels, plane);
        if (!own.data)
            return heed__fail_memory(err, (uint64_t)fit->channels * plane);
        fit_channels(own.data, picture.data, t->dims[0], fit->channels, plane);
    }
    STEP(heed_image_resize(&sized, ctx, own.data ? own : picture, fit->height, fit->width, &opts, err));
    memcpy(to, sized.data, (size_t)(fit->channels * fit->height * fit->width));
done:
    heed_data_free(ctx, &sized);
    heed_data_free(ctx, &own);
    return st;
}

heed_status heed__fit_picture(heed_tensor *out, heed_context *ctx, heed_tensor picture,
                              const picture_fit *fit, heed_error *err)
{
    const heed_type type =
        heed_type_of(HEED_U8, 3, (const int64_t[]){ fit->channels, fit->height, fit->width });
    const int64_t bytes = heed_type_count(&type);
    uint8_t *to;
    heed_status st;

    if (bytes < 1)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "no picture has %" PRId64 " channels of %" PRId64 " x %" PRId64 " pixels",
                          fit->channels, fit->height, fit->width);
    to = heed__alloc(ctx->heap, (size_t)bytes, 1);
    if (!to)
        return heed__fail_memory(err, (uint64_t)bytes);
    st = heed__fit_into(to, ctx, picture, fit, err);
    if (st != HEED_OK) {
        heed__release(ctx->heap, to);
        return st;
    }
    *out = (heed_tensor){ type, to };
    return HEED_OK;
}
