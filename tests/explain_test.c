/* Explanations: what is recorded is what the model computed, methods give what their formulas say, maps of pictures
 * whose evidence was planted point at it, and the deletion test knows a map that does not. */
#include "support/cmocka.h"
#include "support/planted.h"
#include "support/toy.h"

#include <heed/nn.h>

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

/* Patches of one cell as tokens, each through two layers, read by attention: 4 x 4 tokens. */
static heed_value patches(heed_builder *b, heed_value x)
{
    x = heed_conv2d(b, "patch", x, 32, &(heed_conv_layer_opts){ .kernel = { 4, 4 }, .conv.stride = { 4, 4 } });
    x = heed_transpose(b, heed_flatten(b, x, 2, 3), 1, 2);
    return heed_gelu(b, heed_linear(b, "fc", heed_gelu(b, x), 32, NULL));
}

static heed_value pooled(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "head", heed_attention_pool(b, "pool", patches(b, in[0]), (heed_value){ 0 }),
                       PLANTED_CLASSES, NULL);
}

static heed_value blocks(heed_builder *b, const heed_value *in, const void *config)
{
    heed_value x = patches(b, in[0]);
    (void)config;
    x = heed_encoder_layer(b, "block", x, 4, &(heed_encoder_layer_opts){ .feedforward = 32, .norm = HEED_PRE_NORM, .dropout = HEED_SET(0) });
    return heed_linear(b, "head", heed_attention_pool(b, "pool", x, (heed_value){ 0 }),
                       PLANTED_CLASSES, NULL);
}

static void planted(heed_context *ctx, heed_build_fn *build, const void *config, int steps, float lr)
{
    heed_model *m = NULL;
    enum { N = 100 };
    static uint8_t pixels[N * PLANTED_PIXELS];
    int64_t labels[N], cells[N], hits[HEED_EXPLAIN_METHODS] = { 0 }, faithful[HEED_EXPLAIN_METHODS] = { 0 };

    TOY_OK(heed_model_new(&m, ctx, build, config, &(heed_model_opts){ .seed = 1 }, TOY_ERR));
    planted_train(m, steps, lr);
    printf("accuracy %.3f\n", planted_accuracy(m, 500, 7));
    planted_pictures(pixels, labels, cells, N, 77);
    for (int i = 0; i < N; i++) {
        if (cells[i] < 0) continue;
        float x[PLANTED_PIXELS];
        heed_explanation *e = NULL;
        planted_normalise(x, pixels + i * PLANTED_PIXELS);
        TOY_OK(heed_explain(&e, m, &(heed_explain_input){ .x = { HEED_TYPE(HEED_F32, 1, 1, PLANTED_SIDE, PLANTED_SIDE), x } },
                            &(heed_explain_opts){ .orders = 100, .points = 37 }, TOY_ERR));
        if (i < 3) for (int k = 0; k < 5; k+=4) { printf("cell %d top %g:", (int)cells[i], e->maps[k].map[cells[i]]); for (int c = 0; c < 21; c++) printf(" %.2f/%.2f", e->maps[k].faithful.probability[c], e->maps[k].faithful.random[c]); printf("\n"); }
        for (int k = 0; k < e->n_maps; k++) {
            int best = 0;
            for (int c = 1; c < e->maps[k].rows * e->maps[k].cols; c++)
                best = e->maps[k].map[c] > e->maps[k].map[best] ? c : best;
            hits[k] += best == cells[i];
            faithful[k] += e->maps[k].faithful.verdict == HEED_FAITHFUL;
            if (i == 0)
                printf("%s: %s\n", heed_explain_method_name(e->maps[k].method), e->maps[k].about);
        }
        heed_explanation_free(ctx, e);
    }
    for (int k = 0; k < 5; k++)
        printf("%s hit %d faithful %d\n", heed_explain_method_name(k), (int)hits[k], (int)faithful[k]);
    heed_model_free(m);
}

static void first(void **state)
{
    scratch *s = *state;

    planted(s->ctx, pooled, NULL, 400, 3e-3f);
    planted(s->ctx, blocks, NULL, 400, 3e-3f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
