/* Training steps: what they compute, what they leave alone, and that a step which cannot be taken changes
 * nothing. */
#include "support/cmocka.h"
#include "support/toy.h"

#include <heed/formats.h>
#include <heed/nn.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- small models ---- */

/* x [B,2] -> tanh(8) -> 2 logits */
static heed_value xor_net(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "out", heed_tanh(b, heed_linear(b, "in", in[0], 8, NULL)), 2, NULL);
}

/* x [B,4] -> y [B,1] = x w^T + c */
static heed_value line(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "line", in[0], 1, NULL);
}

static heed_value sum_loss(heed_builder *b, heed_value result, heed_value target, const void *config)
{
    (void)target;
    (void)config;
    return heed_sum(b, result, HEED_ALL_AXES, HEED_DROP_AXES);
}

/* 0 with zero gradient. */
static heed_value no_loss(heed_builder *b, heed_value result, heed_value target, const void *config)
{
    return heed_mul_scalar(b, sum_loss(b, result, target, config), 0);
}

/* 0, but its derivative is 0 * infinity. */
static heed_value steep_loss(heed_builder *b, heed_value result, heed_value target, const void *config)
{
    return heed_sqrt(b, no_loss(b, result, target, config));
}

typedef struct bench {
    heed_model *m;
    heed_trainer *t;
} bench;

static bench open_bench(heed_context *ctx, heed_build_fn *build, const void *config,
                        const heed_trainer_opts *opts)
{
    bench w = { NULL, NULL };

    TOY_OK(heed_model_new(&w.m, ctx, build, config, &(heed_model_opts){ .seed = 7 }, TOY_ERR));
    TOY_OK(heed_trainer_new(&w.t, w.m, opts, TOY_ERR));
    return w;
}

static void close_bench(bench *w)
{
    heed_trainer_free(w->t);
    heed_model_free(w->m);
}

static heed_tensor weight(const bench *w, const char *name)
{
    const heed_tensor x = heed_weights_find(heed_model_weights(w->m), name);

    if (x.type.rank < 0)
        fail_msg("there is no %s", name);
    return x;
}

static float at(const bench *w, const char *name, int i)
{
    return ((const float *)weight(w, name).data)[i];
}

/* Batch number i of n toy pictures, as floats [n,1,8,8]. */
typedef struct batch {
    float x[16 * 64];
    int64_t y[16];
    heed_tensor in, target;
} batch;

static batch *toy_batch(int64_t n, uint32_t seed)
{
    batch *b = calloc(1, sizeof *b);
    uint8_t pixels[16 * 64];

    toy_pictures(pixels, b->y, n, seed);
    for (int64_t i = 0; i < n * 64; i++)
        b->x[i] = (float)pixels[i] / 255.0f;
    b->in = (heed_tensor){ HEED_TYPE(HEED_F32, n, 1, 8, 8), b->x };
    b->target = (heed_tensor){ HEED_TYPE(HEED_I64, n), b->y };
    return b;
}

static float step(const bench *w, const batch *b)
{
    float loss = NAN;

    TOY_OK(heed_trainer_step(w->t, &b->in, 1, &b->target, &loss, TOY_ERR));
    return loss;
}

/* The part [begin, begin + n) of a batch. */
static float micro_step(const bench *w, batch *b, int64_t begin, int64_t n)
{
    const heed_tensor x = { HEED_TYPE(HEED_F32, n, 1, 8, 8), b->x + begin * 64 };
    const heed_tensor y = { HEED_TYPE(HEED_I64, n), b->y + begin };
    float loss = NAN;

    TOY_OK(heed_trainer_step(w->t, &x, 1, &y, &loss, TOY_ERR));
    return loss;
}

/* ---- learning ---- */

static void xor_is_learned(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, xor_net, NULL,
                         &(heed_trainer_opts){ .optimizer = HEED_ADAM, .lr = HEED_SET(0.05f) });
    const heed_tensor x = { HEED_TYPE(HEED_F32, 4, 2), (float[]){ 0, 0, 0, 1, 1, 0, 1, 1 } };
    const heed_tensor y = { HEED_TYPE(HEED_I64, 4), (int64_t[]){ 0, 1, 1, 0 } };
    float logits[8], loss = 1;

    for (int i = 0; i < 200; i++)
        TOY_OK(heed_trainer_step(w.t, &x, 1, &y, &loss, TOY_ERR));
    assert_true(loss < 0.01f);
    assert_int_equal(heed_trainer_steps(w.t), 200);
    TOY_OK(heed_model_run(w.m, &x, 1, &(heed_tensor){ HEED_TYPE(HEED_F32, 4, 2), logits }, 1, TOY_ERR));
    for (int i = 0; i < 4; i++)
        assert_int_equal(logits[2 * i + 1] > logits[2 * i], ((const int64_t *)y.data)[i]);
    close_bench(&w);
}

static void every_optimiser_lowers_the_loss(void **state)
{
    static const struct {
        const char *name;
        heed_trainer_opts opts;
    } rules[] = {
        { "sgd", { .optimizer = HEED_SGD, .lr = { true, 0.2f } } },
        { "sgd, momentum", { .optimizer = HEED_SGD, .lr = { true, 0.05f }, .momentum = { true, 0.9f } } },
        { "sgd, nesterov",
          { .optimizer = HEED_SGD, .lr = { true, 0.05f }, .momentum = { true, 0.9f }, .nesterov = true } },
        { "rmsprop", { .optimizer = HEED_RMSPROP, .lr = { true, 0.003f } } },
        { "rmsprop, momentum",
          { .optimizer = HEED_RMSPROP, .lr = { true, 0.001f }, .momentum = { true, 0.9f } } },
        { "adam", { .optimizer = HEED_ADAM, .lr = { true, 0.01f } } },
        { "adam, amsgrad", { .optimizer = HEED_ADAM, .lr = { true, 0.01f }, .amsgrad = true } },
        { "adamw", { .optimizer = HEED_ADAMW, .lr = { true, 0.01f } } },
        { "adamw, amsgrad, accumulated",
          { .optimizer = HEED_ADAMW, .lr = { true, 0.01f }, .amsgrad = true, .accumulate = 2 } },
    };
    scratch *s = *state;
    batch *b = toy_batch(16, 1);

    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL, &rules[r].opts);
        float first = step(&w, b), last = first;

        for (int i = 0; i < 60; i++)
            last = step(&w, b);
        if (!(last < 0.5f * first))
            fail_msg("%s: %g after %g", rules[r].name, (double)last, (double)first);
        assert_true(heed_trainer_grad_norm(w.t) > 0);
        close_bench(&w);
    }
    free(b);
}

static void amsgrad_is_another_rule_than_adam(void **state)
{
    scratch *s = *state;
    batch *one = toy_batch(16, 1), *two = toy_batch(16, 9);
    char digests[2][65];

    for (int amsgrad = 0; amsgrad < 2; amsgrad++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL,
                             &(heed_trainer_opts){ .optimizer = HEED_ADAM, .amsgrad = amsgrad == 1 });

        for (int i = 0; i < 10; i++)
            step(&w, i < 3 ? one : two);
        toy_digest(digests[amsgrad], w.m, HEED_WEIGHTS_MODEL);
        close_bench(&w);
    }
    assert_string_not_equal(digests[0], digests[1]);
    free(one);
    free(two);
}

/* ---- the parts of a step ---- */

/* Loss = sum over 3 rows of w.x + c: gradient of w is the column sums, of c 3; norm sqrt(3^2 + 6^2 + 0 + 2^2
 * + 3^2). */
static const float rows[12] = { 1, 2, 0, 0, 1, 2, 0, 1, 1, 2, 0, 1 };
static const float column_sums[4] = { 3, 6, 0, 2 };

static void a_plain_step_is_the_gradient_times_the_rate(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, line, NULL, &(heed_trainer_opts){ .lr = HEED_SET(0.5f), .loss = sum_loss });
    const heed_tensor x = { HEED_TYPE(HEED_F32, 3, 4), (void *)(uintptr_t)rows },
                      y = { HEED_TYPE(HEED_I64, 3), (int64_t[3]){ 0 } };
    float before[4], bias, expected_loss = 0, loss;

    TOY_OK(heed_model_init(w.m, &x.type, 1, TOY_ERR));
    for (int i = 0; i < 4; i++) {
        before[i] = at(&w, "line.weight", i);
        expected_loss += before[i] * column_sums[i];
    }
    bias = at(&w, "line.bias", 0);
    TOY_OK(heed_trainer_step(w.t, &x, 1, &y, &loss, TOY_ERR));
    assert_float_equal(loss, expected_loss + 3 * bias, 1e-5);
    assert_float_equal(heed_trainer_grad_norm(w.t), sqrtf(9 + 36 + 4 + 9), 1e-5);
    for (int i = 0; i < 4; i++)
        assert_float_equal(at(&w, "line.weight", i), before[i] - 0.5f * column_sums[i], 1e-6);
    assert_float_equal(at(&w, "line.bias", 0), bias - 0.5f * 3, 1e-6);
    close_bench(&w);
}

static void clipping_bounds_the_norm_of_all_gradients_together(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, line, NULL,
                         &(heed_trainer_opts){ .lr = HEED_SET(1), .clip_norm = 0.25f, .loss = sum_loss });
    const heed_tensor x = { HEED_TYPE(HEED_F32, 3, 4), (void *)(uintptr_t)rows },
                      y = { HEED_TYPE(HEED_I64, 3), (int64_t[3]){ 0 } };
    const float norm = sqrtf(58), scale = 0.25f / (norm + 1e-6f);
    float before[4];

    TOY_OK(heed_model_init(w.m, &x.type, 1, TOY_ERR));
    for (int i = 0; i < 4; i++)
        before[i] = at(&w, "line.weight", i);
    TOY_OK(heed_trainer_step(w.t, &x, 1, &y, NULL, TOY_ERR));
    assert_float_equal(heed_trainer_grad_norm(w.t), norm, 1e-5);
    for (int i = 0; i < 4; i++)
        assert_float_equal(at(&w, "line.weight", i), before[i] - scale * column_sums[i], 1e-6);
    close_bench(&w);
}

static void a_gradient_within_the_bound_is_not_clipped(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    char digests[2][65];

    for (int clipped = 0; clipped < 2; clipped++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL, &(heed_trainer_opts){ .clip_norm = clipped ? 1e6f : 0 });

        step(&w, b);
        toy_digest(digests[clipped], w.m, HEED_WEIGHTS_MODEL);
        close_bench(&w);
    }
    assert_string_equal(digests[0], digests[1]);
    free(b);
}

static void vectors_do_not_decay_in_the_group_of_matrices(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, line, NULL,
                         &(heed_trainer_opts){ .optimizer = HEED_ADAMW,
                                               .lr = HEED_SET(0.5f),
                                               .weight_decay = HEED_SET(0.1f),
                                               .decay = HEED_DECAY_MATRICES,
                                               .loss = no_loss });
    const heed_tensor x = { HEED_TYPE(HEED_F32, 3, 4), (void *)(uintptr_t)rows },
                      y = { HEED_TYPE(HEED_I64, 3), (int64_t[3]){ 0 } };
    float before[4], bias;

    TOY_OK(heed_model_init(w.m, &x.type, 1, TOY_ERR));
    memcpy(before, weight(&w, "line.weight").data, sizeof before);
    bias = at(&w, "line.bias", 0);
    TOY_OK(heed_trainer_step(w.t, &x, 1, &y, NULL, TOY_ERR));
    for (int i = 0; i < 4; i++)
        assert_float_equal(at(&w, "line.weight", i), before[i] * (1 - 0.5f * 0.1f), 1e-7);
    assert_memory_equal(weight(&w, "line.bias").data, &bias, sizeof bias);
    close_bench(&w);
}

static void everything_decays_when_told_so(void **state)
{
    scratch *s = *state;
    bench w = open_bench(
        s->ctx, line, NULL,
        &(heed_trainer_opts){
            .optimizer = HEED_ADAMW, .lr = HEED_SET(0.5f), .weight_decay = HEED_SET(0.1f), .loss = no_loss });
    const heed_tensor x = { HEED_TYPE(HEED_F32, 3, 4), (void *)(uintptr_t)rows },
                      y = { HEED_TYPE(HEED_I64, 3), (int64_t[3]){ 0 } };
    float bias;

    TOY_OK(heed_model_init(w.m, &x.type, 1, TOY_ERR));
    bias = at(&w, "line.bias", 0);
    TOY_OK(heed_trainer_step(w.t, &x, 1, &y, NULL, TOY_ERR));
    assert_float_equal(at(&w, "line.bias", 0), bias * 0.95f, 1e-7);
    close_bench(&w);
}

static void frozen_parameters_keep_their_bytes(void **state)
{
    scratch *s = *state;
    const char *const frozen[] = { "stem.*", "block.0.norm1.weight", NULL };
    bench w = open_bench(s->ctx, toy_conv_attention_build(), &toy_conv_attention,
                         &(heed_trainer_opts){ .lr = HEED_SET(0.1f), .frozen = frozen });
    batch *b = toy_batch(16, 1);
    const char *const still[] = { "stem.0.conv.weight", "stem.1.norm.weight", "block.0.norm1.weight" };
    void *before[3];
    float moved;

    TOY_OK(heed_model_init(w.m, &b->in.type, 1, TOY_ERR));
    for (int i = 0; i < 3; i++) {
        const heed_tensor x = weight(&w, still[i]);

        before[i] = malloc((size_t)heed_type_count(&x.type) * 4);
        memcpy(before[i], x.data, (size_t)heed_type_count(&x.type) * 4);
    }
    moved = at(&w, "head.weight", 0);
    for (int i = 0; i < 3; i++)
        step(&w, b);
    for (int i = 0; i < 3; i++) {
        const heed_tensor x = weight(&w, still[i]);

        assert_memory_equal(before[i], x.data, (size_t)heed_type_count(&x.type) * 4);
        free(before[i]);
    }
    assert_true(at(&w, "head.weight", 0) != moved);
    assert_true(
        heed_weights_find(heed_model_weights(w.m), "optimizer.momentum_buffer.stem.0.conv.weight").type.rank <
        0);
    free(b);
    close_bench(&w);
}

/* ---- accumulation ---- */

/* toy_mlp without dropout, whose bits depend on the row within the batch. */
static heed_value plain_mlp(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "head", heed_relu(b, heed_linear(b, "fc", heed_flatten(b, in[0], 1, -1), 16, NULL)),
                       3, NULL);
}

static void micro_batches_add_up_to_one_large_batch(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    bench one =
        open_bench(s->ctx, plain_mlp, NULL, &(heed_trainer_opts){ .lr = HEED_SET(0.1f), .clip_norm = 1 });
    bench four = open_bench(s->ctx, plain_mlp, NULL,
                            &(heed_trainer_opts){ .lr = HEED_SET(0.1f), .clip_norm = 1, .accumulate = 4 });
    const char *const names[] = { "fc.weight", "fc.bias", "head.weight", "head.bias" };

    for (int round = 0; round < 3; round++) {
        float whole = step(&one, b), parts = 0;

        for (int i = 0; i < 4; i++) {
            assert_int_equal(heed_trainer_steps(four.t), round);
            parts += micro_step(&four, b, 4 * i, 4) / 4;
        }
        assert_int_equal(heed_trainer_steps(four.t), round + 1);
        assert_float_equal(whole, parts, 1e-6);
        assert_float_equal(heed_trainer_grad_norm(one.t), heed_trainer_grad_norm(four.t), 1e-6);
        for (size_t n = 0; n < 4; n++) {
            const heed_tensor x = weight(&one, names[n]), y = weight(&four, names[n]);

            for (int64_t i = 0; i < heed_type_count(&x.type); i++)
                assert_float_equal(((float *)x.data)[i], ((float *)y.data)[i], 1e-6);
        }
    }
    free(b);
    close_bench(&one);
    close_bench(&four);
}

static void a_new_trainer_goes_on_between_two_micro_batches(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    const heed_trainer_opts opts = { .optimizer = HEED_ADAMW, .accumulate = 3 };
    char digests[2][65];

    for (int interrupted = 0; interrupted < 2; interrupted++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL, &opts);

        for (int i = 0; i < 9; i++) {
            if (interrupted && i == 4) {
                heed_trainer_free(w.t);
                TOY_OK(heed_trainer_new(&w.t, w.m, &opts, TOY_ERR));
            }
            micro_step(&w, b, 4 * (i % 4), 4);
        }
        toy_digest(digests[interrupted], w.m, HEED_WEIGHTS_ALL);
        close_bench(&w);
    }
    assert_string_equal(digests[0], digests[1]);
    free(b);
}

/* ---- batches of other shapes, and going on ---- */

static void an_odd_last_batch_is_a_step_like_any_other(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    char digests[2][65];

    for (int other_first = 0; other_first < 2; other_first++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL, NULL);

        if (other_first) { /* a plan of another shape, on weights that are put back afterwards */
            const heed_type type = HEED_TYPE(HEED_F32, 5, 1, 8, 8);
            heed_weights *fresh;
            const char *name;

            micro_step(&w, b, 0, 16);
            TOY_OK(heed_weights_new(&fresh, s->ctx, TOY_ERR));
            heed_trainer_free(w.t);
            heed_model_free(w.m);
            TOY_OK(heed_model_new(&w.m, s->ctx, toy_mlp, NULL,
                                  &(heed_model_opts){ .seed = 7, .weights = fresh }, TOY_ERR));
            TOY_OK(heed_model_init(w.m, &type, 1, TOY_ERR));
            assert_non_null(heed_weights_at(fresh, 0, &name).data);
            TOY_OK(heed_trainer_new(&w.t, w.m, NULL, TOY_ERR));
            heed_weights_free(fresh);
        }
        micro_step(&w, b, 3, 5);
        micro_step(&w, b, 0, 8);
        micro_step(&w, b, 8, 5);
        toy_digest(digests[other_first], w.m, HEED_WEIGHTS_ALL);
        assert_int_equal(heed_trainer_steps(w.t), 3);
        close_bench(&w);
    }
    assert_string_equal(digests[0], digests[1]);
    free(b);
}

static void more_shapes_than_plans_are_kept_change_nothing(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    char digests[2][65];

    for (int renewed = 0; renewed < 2;
         renewed++) { /* one trainer that forgets plans; or a new one for each step */
        bench w = open_bench(s->ctx, toy_mlp, NULL, NULL);

        for (int round = 0; round < 2; round++)
            for (int64_t n = 1; n <= 11; n++) {
                if (renewed) {
                    heed_trainer_free(w.t);
                    TOY_OK(heed_trainer_new(&w.t, w.m, NULL, TOY_ERR));
                }
                micro_step(&w, b, 0, n);
            }
        toy_digest(digests[renewed], w.m, HEED_WEIGHTS_ALL);
        close_bench(&w);
    }
    assert_string_equal(digests[0], digests[1]);
    free(b);
}

static void a_saved_training_goes_on_to_the_same_bits(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    const heed_trainer_opts opts = {
        .optimizer = HEED_ADAMW, .lr = HEED_SET(0.01f), .amsgrad = true, .clip_norm = 1
    };
    const char *path = scratch_path(s, "all.safetensors");
    char straight[65], resumed[65];
    bench w = open_bench(s->ctx, toy_conv_attention_build(), &toy_conv_attention, &opts);

    for (int i = 0; i < 10; i++) {
        if (i == 5)
            TOY_OK(heed_weights_save(heed_model_weights(w.m), HEED_WEIGHTS_ALL, path, TOY_ERR));
        step(&w, b);
    }
    toy_digest(straight, w.m, HEED_WEIGHTS_ALL);
    close_bench(&w);
    w = open_bench(s->ctx, toy_conv_attention_build(), &toy_conv_attention, &opts);
    TOY_OK(heed_weights_load(heed_model_weights(w.m), HEED_WEIGHTS_ALL, path, TOY_ERR));
    for (int i = 5; i < 10; i++)
        step(&w, b);
    toy_digest(resumed, w.m, HEED_WEIGHTS_ALL);
    assert_string_equal(straight, resumed);
    close_bench(&w);
    free(b);
}

/* ---- averages ---- */

/* ema of the first step is the parameter, then ema + (1 - decay) (parameter - ema); PyTorch's AveragedModel with
 * get_ema_multi_avg_fn(decay), in float. */
static void the_average_follows_the_weights_as_pytorch_s_does(void **state)
{
    for (int64_t accumulate = 1; accumulate <= 2; accumulate++) {
        const heed_trainer_opts opts = { .optimizer = HEED_SGD, .lr = HEED_SET(0.1f), .accumulate = accumulate,
                                         .ema = 0.75f };
        scratch *s = *state;
        batch *b = toy_batch(16, 1);
        bench w = open_bench(s->ctx, toy_mlp, NULL, &opts);
        float mine[16 * 3], before[16 * 3];
        heed_tensor p, ema;

        for (int i = 0; i < 5; i++) {
            for (int64_t micro = 0; micro < accumulate; micro++)
                step(&w, b);
            p = heed_weights_find(heed_model_weights(w.m), "head.weight");
            ema = heed_weights_find(heed_model_weights(w.m), "ema.head.weight");
            assert_int_equal(heed_type_count(&p.type), 16 * 3);
            for (int k = 0; k < 16 * 3; k++) {
                const float now = ((const float *)p.data)[k];

                mine[k] = i == 0 ? now : mine[k] + 0.25f * (now - mine[k]);
                assert_true(fabsf(mine[k] - ((const float *)ema.data)[k]) <= 1e-6f);
            }
        }
        memcpy(before, p.data, sizeof before);
        memcpy(mine, ema.data, sizeof mine);
        heed_trainer_swap_average(w.t);
        assert_memory_equal(p.data, mine, sizeof mine);
        assert_memory_equal(ema.data, before, sizeof before);
        heed_trainer_swap_average(w.t);
        assert_memory_equal(p.data, before, sizeof before);
        close_bench(&w);
        free(b);
    }
}

static void an_average_changes_no_bit_of_the_training(void **state)
{
    scratch *s = *state;
    batch *b = toy_batch(16, 1);
    char digest[2][65];

    for (int with = 0; with < 2; with++) {
        bench w = open_bench(s->ctx, toy_mlp, NULL, &(heed_trainer_opts){ .optimizer = HEED_ADAMW, .ema = with ? 0.9f : 0 });

        heed_trainer_swap_average(w.t); /* before the first step there is nothing to swap */
        for (int i = 0; i < 4; i++)
            step(&w, b);
        toy_digest(digest[with], w.m, HEED_WEIGHTS_MODEL);
        close_bench(&w);
    }
    assert_string_equal(digest[0], digest[1]);
    free(b);
}

/* ---- what is refused ---- */

static void assert_bad_step(const bench *w, const batch *b, const char *path)
{
    char before[65], after[65];
    heed_error err = { 0 };
    float loss = 5;

    toy_digest(before, w->m, HEED_WEIGHTS_ALL);
    assert_int_equal(heed_trainer_step(w->t, &b->in, 1, &b->target, &loss, &err), HEED_ERR_NUMERIC);
    toy_digest(after, w->m, HEED_WEIGHTS_ALL);
    assert_string_equal(before, after);
    assert_int_equal(err.code, HEED_ERR_NUMERIC);
    if (!strstr(err.path, path))
        fail_msg("the path is \"%s\", the text \"%s\"", err.path, err.text);
    assert_true(loss == 5);
}

static void a_loss_that_is_not_finite_changes_no_byte(void **state)
{
    scratch *s = *state;
    const struct {
        heed_build_fn *build;
        const void *config;
    } models[] = { { toy_mlp, NULL }, { toy_conv_attention_build(), &toy_conv_attention } };

    for (int m = 0; m < 2; m++)
        for (int accumulate = 1; accumulate <= 2; accumulate++) {
            bench w = open_bench(
                s->ctx, models[m].build, models[m].config,
                &(heed_trainer_opts){
                    .optimizer = HEED_ADAMW, .amsgrad = true, .clip_norm = 1, .accumulate = accumulate });
            batch *b = toy_batch(16, 1);
            char twin_digest[65], digest[65];
            int64_t steps;

            step(&w, b);
            steps = heed_trainer_steps(w.t);
            b->x[17] = NAN;
            assert_bad_step(&w, b, "x");
            b->x[17] = INFINITY;
            assert_bad_step(&w, b, "x");
            assert_int_equal(heed_trainer_steps(w.t), steps);
            b->x[17] = 0.5f;
            for (int i = 0; i < 3; i++)
                step(&w, b);
            toy_digest(digest, w.m, HEED_WEIGHTS_ALL);
            close_bench(&w);
            w = open_bench(
                s->ctx, models[m].build, models[m].config,
                &(heed_trainer_opts){
                    .optimizer = HEED_ADAMW, .amsgrad = true, .clip_norm = 1, .accumulate = accumulate });
            {
                batch *fresh = toy_batch(16, 1);

                step(&w, fresh);
                free(fresh);
            }
            for (int i = 0; i < 3; i++)
                step(&w, b);
            toy_digest(twin_digest, w.m, HEED_WEIGHTS_ALL);
            assert_string_equal(digest, twin_digest); /* as if the bad steps had never been tried */
            close_bench(&w);
            free(b);
        }
}

/* One weight is so large that the first layer's result overflows. */
static void the_first_node_that_is_not_finite_is_named(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, toy_conv_attention_build(), &toy_conv_attention, NULL);
    batch *b = toy_batch(16, 1);
    heed_tensor x;

    step(&w, b);
    x = weight(&w, "block.0.linear1.weight");
    for (int64_t i = 0; i < heed_type_count(&x.type); i++)
        ((float *)x.data)[i] = 3e38f;
    assert_bad_step(&w, b, "block.0.linear1");
    x = weight(&w, "pool.query");
    ((float *)x.data)[0] = NAN;
    assert_bad_step(&w, b, "pool.query");
    close_bench(&w);
    free(b);
}

static void a_gradient_that_is_not_finite_changes_no_byte(void **state)
{
    scratch *s = *state;
    const heed_tensor x = { HEED_TYPE(HEED_F32, 3, 4), (void *)(uintptr_t)rows },
                      y = { HEED_TYPE(HEED_I64, 3), (int64_t[3]){ 0 } };

    for (int accumulate = 1; accumulate <= 2; accumulate++) {
        bench w = open_bench(
            s->ctx, line, NULL,
            &(heed_trainer_opts){ .loss = steep_loss, .optimizer = HEED_ADAM, .accumulate = accumulate });
        char before[65], after[65];

        TOY_OK(heed_model_init(w.m, &x.type, 1, TOY_ERR));
        toy_digest(before, w.m, HEED_WEIGHTS_MODEL);
        for (int round = 0; round < 3; round++) {
            heed_error err = { 0 };

            for (int i = 1; i < accumulate; i++)
                TOY_OK(heed_trainer_step(w.t, &x, 1, &y, NULL, TOY_ERR));
            assert_int_equal(heed_trainer_step(w.t, &x, 1, &y, NULL, &err), HEED_ERR_NUMERIC);
            assert_true(err.path[0]);
            toy_digest(after, w.m, HEED_WEIGHTS_MODEL);
            assert_string_equal(before, after);
        }
        assert_int_equal(heed_trainer_steps(w.t), 0);
        close_bench(&w);
    }
}

static void options_without_meaning_are_refused(void **state)
{
    static const struct {
        heed_trainer_opts opts;
        heed_status code;
        const char *word;
    } cases[] = {
        { { .optimizer = (heed_optimizer)9 }, HEED_ERR_USAGE, "optimizer" },
        { { .lr = { true, -1 } }, HEED_ERR_LIMIT, "lr" },
        { { .lr = { true, NAN } }, HEED_ERR_LIMIT, "lr" },
        { { .weight_decay = { true, -1 } }, HEED_ERR_LIMIT, "weight_decay" },
        { { .clip_norm = -1 }, HEED_ERR_LIMIT, "clip_norm" },
        { { .beta1 = { true, 1 } }, HEED_ERR_LIMIT, "betas" },
        { { .beta2 = { true, 1 } }, HEED_ERR_LIMIT, "betas" },
        { { .eps = { true, -1 } }, HEED_ERR_LIMIT, "eps" },
        { { .accumulate = -1 }, HEED_ERR_LIMIT, "accumulate" },
        { { .nesterov = true }, HEED_ERR_SPEC, "nesterov" },
    };
    scratch *s = *state;
    heed_model *m = NULL;

    TOY_OK(heed_model_new(&m, s->ctx, toy_mlp, NULL, NULL, TOY_ERR));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_trainer *t = NULL;
        heed_error err = { 0 };

        assert_int_equal(heed_trainer_new(&t, m, &cases[i].opts, &err), cases[i].code);
        assert_non_null(strstr(err.text, cases[i].word));
        assert_null(t);
    }
    heed_model_free(m);
}

static void a_step_that_cannot_be_taken_says_why(void **state)
{
    scratch *s = *state;
    const char *const all[] = { "*", NULL };
    bench w = open_bench(s->ctx, toy_mlp, NULL, NULL),
          ice = open_bench(s->ctx, toy_mlp, NULL, &(heed_trainer_opts){ .frozen = all });
    batch *b = toy_batch(16, 1);
    heed_tensor many[17];
    heed_error err = { 0 };
    char before[65], after[65];

    for (int i = 0; i < 17; i++)
        many[i] = b->in;
    step(&w, b);
    toy_digest(before, w.m, HEED_WEIGHTS_ALL);
    assert_int_equal(heed_trainer_step(w.t, many, 17, &b->target, NULL, &err), HEED_ERR_USAGE);
    assert_int_equal(heed_trainer_step(w.t, many, 0, &b->target, NULL, NULL), HEED_ERR_USAGE);
    heed_trainer_set_lr(w.t, NAN);
    assert_int_equal(heed_trainer_step(w.t, &b->in, 1, &b->target, NULL, NULL), HEED_ERR_LIMIT);
    heed_trainer_set_lr(w.t, 0.1f);
    b->y[3] = 3; /* there are the classes 0 to 2 */
    err = (heed_error){ 0 };
    assert_int_equal(heed_trainer_step(w.t, &b->in, 1, &b->target, NULL, &err), HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "value 3"));
    b->target.type = HEED_TYPE(HEED_I64, 15);
    assert_int_equal(heed_trainer_step(w.t, &b->in, 1, &b->target, NULL, NULL), HEED_ERR_SHAPE);
    b->target.type = HEED_TYPE(HEED_F32, 16);
    assert_int_not_equal(heed_trainer_step(w.t, &b->in, 1, &b->target, NULL, NULL), HEED_OK);
    toy_digest(after, w.m, HEED_WEIGHTS_ALL);
    assert_string_equal(before, after);
    b->target.type = HEED_TYPE(HEED_I64, 16);
    b->y[3] = 0;
    assert_true(heed_trainer_lr(w.t) == 0.1f);
    step(&w, b);
    err = (heed_error){ 0 };
    assert_int_equal(heed_trainer_step(ice.t, &b->in, 1, &b->target, NULL, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "no parameter"));
    free(b);
    close_bench(&w);
    close_bench(&ice);
}

static void the_report_is_that_of_the_training_plan(void **state)
{
    scratch *s = *state;
    bench w = open_bench(s->ctx, toy_mlp, NULL, NULL);
    batch *b = toy_batch(16, 1);

    assert_int_equal(heed_trainer_report(w.t).steps, 0);
    step(&w, b);
    assert_true(heed_trainer_report(w.t).steps > 0);
    assert_true(heed_trainer_report(w.t).flops >
                4.0 * 16 * 64 * 16); /* fc forward, and the gradient of its weight */
    free(b);
    close_bench(&w);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(xor_is_learned),
        UNIT(every_optimiser_lowers_the_loss),
        UNIT(amsgrad_is_another_rule_than_adam),
        UNIT(a_plain_step_is_the_gradient_times_the_rate),
        UNIT(clipping_bounds_the_norm_of_all_gradients_together),
        UNIT(a_gradient_within_the_bound_is_not_clipped),
        UNIT(vectors_do_not_decay_in_the_group_of_matrices),
        UNIT(everything_decays_when_told_so),
        UNIT(frozen_parameters_keep_their_bytes),
        UNIT(micro_batches_add_up_to_one_large_batch),
        UNIT(a_new_trainer_goes_on_between_two_micro_batches),
        UNIT(an_odd_last_batch_is_a_step_like_any_other),
        UNIT(more_shapes_than_plans_are_kept_change_nothing),
        UNIT(a_saved_training_goes_on_to_the_same_bits),
        UNIT(the_average_follows_the_weights_as_pytorch_s_does),
        UNIT(an_average_changes_no_bit_of_the_training),
        UNIT(a_loss_that_is_not_finite_changes_no_byte),
        UNIT(the_first_node_that_is_not_finite_is_named),
        UNIT(a_gradient_that_is_not_finite_changes_no_byte),
        UNIT(options_without_meaning_are_refused),
        UNIT(a_step_that_cannot_be_taken_says_why),
        UNIT(the_report_is_that_of_the_training_plan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
