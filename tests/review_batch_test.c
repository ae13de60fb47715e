/* Alone or in a batch: a sample's result has the same bytes. */
#include "support/cmocka.h"
#include "support/trial.h"

#include <heed/ops.h>

#include <string.h>

#define MOST 9
#define INNER (3 * 4 * 67)

typedef struct batch_case {
    int64_t batch;
    int64_t sizes[3];
    unsigned axes;
    heed_value (*fn)(heed_builder *b, heed_value x, unsigned axes, heed_keep keep);
} batch_case;

static void build(heed_builder *b, void *user)
{
    const batch_case *c = user;
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, c->batch, c->sizes[0], c->sizes[1], c->sizes[2]));

    heed_output(b, "y", c->fn(b, x, c->axes, HEED_KEEP_AXES));
}

/* Runs rows [first, first + batch) of the numbers; gives the bytes of the results. */
static size_t results(heed_context *ctx, batch_case *c, int first, float *to)
{
    static double x[MOST * INNER];
    const int64_t each = c->sizes[0] * c->sizes[1] * c->sizes[2];
    heed_error err = { 0 };
    size_t bytes;
    trial t;

    for (int64_t i = 0; i < c->batch * each; i++) {
        const uint32_t k = (uint32_t)(first * each + i) * 2654435761u;

        x[i] = (double)(k >> 8) / (1 << 24) - 0.4;
    }
    if (trial_open(&t, ctx, build, c, NULL, &err) != HEED_OK)
        fail_msg("%s", err.text);
    trial_set(&t, 0, x);
    if (trial_run(&t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    bytes = t.out[0].bytes;
    memcpy(to, t.out[0].tensor.data, bytes);
    trial_close(&t);
    return bytes;
}

static heed_value spread(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)
{
    heed_value centred = heed_sub(b, x, heed_mean(b, x, axes, HEED_KEEP_AXES));

    return heed_sqrt(b, heed_mean(b, heed_mul(b, centred, centred), axes, keep));
}

static void a_sample_is_reduced_alone_as_in_a_batch(void **state)
{
    static heed_value (*const fns[])(heed_builder *, heed_value, unsigned, heed_keep) = { heed_sum, heed_mean, heed_amax, spread };
    static const int64_t sizes[][3] = { { 3, 4, 67 }, { 3, 1, 67 }, { 1, 4, 67 }, { 67, 4, 1 }, { 134, 2, 3 } };
    static float all[MOST * INNER], one[INNER];
    heed_context *ctx = NULL;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 2 }, NULL), HEED_OK);
    for (size_t f = 0; f < sizeof fns / sizeof *fns; f++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (unsigned axes = 2; axes < 16; axes += 2) {
                batch_case c = { MOST, { sizes[s][0], sizes[s][1], sizes[s][2] }, axes, fns[f] };
                const size_t each = results(ctx, &c, 0, all) / MOST;

                c.batch = 1;
                for (int i = 0; i < MOST; i += 4)
                    if (results(ctx, &c, i, one) != each || memcmp((char *)all + (size_t)i * each, one, each) != 0)
                        fail_msg("function %d of sizes %d over 0x%x: sample %d alone is another than in the batch", (int)f, (int)s,
                                 axes, i);
            }
    heed_context_free(ctx);
}

/* ---- the other ops that add along an axis ---- */

static heed_value constant_of(heed_builder *b, int rank, const int64_t *dims)
{
    static float numbers[8 * 8 * 9];

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)(i * 29 % 31) / 31 - 0.5f;
    return heed_constant(b, (heed_tensor){ heed_type_of(HEED_F32, rank, dims), numbers });
}

static heed_value by_norms(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)
{
    (void)axes;
    (void)keep;
    x = heed_layer_norm(b, x, 2, (heed_value){ 0 }, (heed_value){ 0 }, 0);
    x = heed_rms_norm(b, heed_softmax(b, x, -1), 1, (heed_value){ 0 }, 0);
    x = heed_group_norm(b, heed_softmax(b, x, 1), 1, (heed_value){ 0 }, (heed_value){ 0 }, 0);
    return heed_cumsum(b, heed_log_softmax(b, x, 2), 1);
}
static heed_value by_products(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)
{
    const int64_t c = heed_dim(b, x, 1), h = heed_dim(b, x, 2), w = heed_dim(b, x, 3);
    heed_value y = heed_matmul(b, x, heed_transpose(b, x, 2, 3)), z;

    (void)axes;
    (void)keep;
    y = heed_matmul(b, y, constant_of(b, 2, (int64_t[]){ h, 7 }));                       /* [B,C,H,7] */
    z = heed_matmul(b, heed_reshape(b, heed_permute(b, x, (int[]){ 0, 2, 3, 1 }), 3, (int64_t[]){ -1, h * w, c }),
                    constant_of(b, 2, (int64_t[]){ c, 5 }));                             /* [B,HW,5] */
    return heed_concat(b, (heed_value[]){ heed_flatten(b, y, 1, 3), heed_flatten(b, z, 1, 2) }, 2, 1);
}
static heed_value by_windows(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)
{
    const int64_t c = heed_dim(b, x, 1);
    heed_value y = heed_conv(b, x, constant_of(b, 4, (int64_t[]){ 6, c, 3, 3 }), (heed_value){ 0 }, &(heed_conv_opts){ .pad = { 1, 1 } });

    (void)axes;
    (void)keep;
    y = heed_avg_pool(b, y, (int64_t[]){ 1, 2 }, NULL);
    y = heed_max_pool(b, y, (int64_t[]){ 1, 3 }, &(heed_pool_opts){ .stride = { 1, 2 } });
    y = heed_mul(b, y, heed_sigmoid(b, heed_global_avg_pool(b, y)));
    return heed_flatten(b, heed_logsumexp(b, y, 2, HEED_KEEP_AXES), 1, 3);
}

static void a_sample_passes_alone_as_in_a_batch(void **state)
{
    static heed_value (*const fns[])(heed_builder *, heed_value, unsigned, heed_keep) = { by_norms, by_products, by_windows };
    static const int64_t sizes[][3] = { { 3, 4, 67 }, { 3, 1, 67 }, { 1, 4, 67 }, { 6, 8, 7 } };
    static float all[MOST * INNER * 8], one[INNER * 8];
    heed_context *ctx = NULL;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, &(heed_context_opts){ .threads = 2 }, NULL), HEED_OK);
    for (size_t f = 0; f < sizeof fns / sizeof *fns; f++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            batch_case c = { MOST, { sizes[s][0], sizes[s][1], sizes[s][2] }, 0, fns[f] };
            const size_t each = results(ctx, &c, 0, all) / MOST;

            c.batch = 1;
            for (int i = 0; i < MOST; i += 4)
                if (results(ctx, &c, i, one) != each || memcmp((char *)all + (size_t)i * each, one, each) != 0)
                    fail_msg("function %d of sizes %d: sample %d alone is another than in the batch", (int)f, (int)s, i);
        }
    heed_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_is_reduced_alone_as_in_a_batch),
        cmocka_unit_test(a_sample_passes_alone_as_in_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
