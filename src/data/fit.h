/* How a picture becomes a sample: its channels first, then its size. Data sets, evaluation, prediction and
 * explanation all come here, so that a run sees every picture as it was trained. */
#ifndef DATA_FIT_H
#define DATA_FIT_H

#include "base/context.h"
#include <heed/image.h>

typedef struct picture_fit {
    int64_t channels, height, width; /* channels 1 or 3, or as many as the picture has */
    heed_image_fit fit;
    heed_image_filter filter;
    uint8_t fill; /* of HEED_IMAGE_PAD */
} picture_fit;

/* u8 [C,H,W] -> u8 [channels,height,width], a new picture (heed_data_free). HEED_ERR_DTYPE, HEED_ERR_SHAPE
 * when channels cannot be made from C: 1, 3 and C itself can. */
heed_status heed__fit_picture(heed_tensor *out, heed_context *ctx, heed_tensor picture,
                              const picture_fit *fit, heed_error *err);

/* The same into `to`, which has room for channels * height * width bytes. */
heed_status heed__fit_into(uint8_t *to, heed_context *ctx, heed_tensor picture, const picture_fit *fit,
                           heed_error *err);

#endif
