/* What lies in padding reaches nothing: with NaN and infinities in rows that do not count, layers give the bytes, of results and of
 * every gradient, that they give with zeros there. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include "support/trial.h"

#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3, STEPS = 7, KEYS = 9, WIDTH = 8, OTHER = 6, HEADS = 2 };

/* What a layer is given, and where a row of x and of key counts. A network leaves out of `x`, `key` and `value` what it does not use. */
typedef struct given {
    heed_value x, key, value, lengths, k_lengths, x_seg, k_seg, keep, target; /* target: -100 in padding */
} given;

typedef struct network {
    const char *name;
    heed_value (*build)(heed_builder *b, const given *g);
    enum { BY_LENGTHS, BY_SEGMENTS } rows; /* which rows of x are padding */
} network;

#define MHA(...) heed_multihead_attention(b, "attn", g->x, HEADS, &(heed_mha_opts){ __VA_ARGS__ }, NULL)

static heed_value build_self(heed_builder *b, const given *g)
{
    return MHA(.spec.in.lengths = g->lengths);
}

static heed_value build_self_causal(heed_builder *b, const given *g)
{
    return MHA(.dropout = 0.3, .spec = { .mask.causal = true, .in.lengths = g->lengths });
}

static heed_value build_self_both(heed_builder *b, const given *g)
{
    return MHA(.spec.in = { .lengths = g->lengths, .q_lengths = g->lengths });
}

static heed_value build_self_segments(heed_builder *b, const given *g)
{
    return MHA(.spec.in = { .q_seg = g->x_seg, .k_seg = g->x_seg });
}

static heed_value build_learned_key(heed_builder *b, const given *g)
{
    return MHA(.bias_kv = true, .spec.in.lengths = g->lengths);
}

static heed_value build_cross(heed_builder *b, const given *g)
{
    return MHA(.key = g->key, .spec.in = { .lengths = g->k_lengths, .q_lengths = g->lengths });
}

static heed_value build_cross_values(heed_builder *b, const given *g)
{
    return MHA(.key = g->key, .value = g->value,
               .spec = { .score.kind = HEED_SCORE_COSINE, .in = { .lengths = g->k_lengths, .q_lengths = g->lengths } });
}

static heed_value build_cross_mask(heed_builder *b, const given *g)
{
    return MHA(.key = g->key, .spec.in = { .mask = g->keep, .q_lengths = g->lengths });
}

static heed_value build_cross_segments(heed_builder *b, const given *g)
{
    return MHA(.key = g->key, .spec.in = { .q_seg = g->x_seg, .k_seg = g->k_seg });
}

static heed_value build_encoder(heed_builder *b, const given *g)
{
    heed_encoder_layer_opts o = { .feedforward = 12, .activation = HEED_GELU, .spec.in.lengths = g->lengths };

    return heed_encoder_layer(b, "1", heed_encoder_layer(b, "0", g->x, HEADS, &o), HEADS, &o);
}

static heed_value build_encoder_pre_norm(heed_builder *b, const given *g)
{
    heed_encoder_layer_opts o = { .feedforward = 12, .norm = HEED_PRE_NORM, .spec = { .position.alibi = true, .in.lengths = g->lengths } };

    return heed_encoder_layer(b, "1", heed_encoder_layer(b, "0", g->x, HEADS, &o), HEADS, &o);
}

static heed_value build_encoder_segments(heed_builder *b, const given *g)
{
    return heed_encoder_layer(b, "0", g->x, HEADS,
                              &(heed_encoder_layer_opts){ .feedforward = 12, .spec.in = { .q_seg = g->x_seg, .k_seg = g->x_seg } });
}

static heed_value build_pool(heed_builder *b, const given *g)
{
    return heed_attention_pool(b, "pool", g->x, g->lengths);
}

static heed_value build_loss(heed_builder *b, const given *g)
{
    return heed_cross_entropy(b, g->x, g->target, &(heed_cross_entropy_opts){ .axis = 2 });
}

static heed_value build_smooth_loss(heed_builder *b, const given *g)
{
    return heed_cross_entropy(b, g->x, g->target, &(heed_cross_entropy_opts){ .axis = 2, .label_smoothing = 0.1 });
}

static heed_value build_tagger(heed_builder *b, const given *g)
{
    heed_encoder_layer_opts o = { .feedforward = 12, .spec.in.lengths = g->lengths };
    heed_value x = heed_encoder_layer(b, "0", g->x, HEADS, &o);

    return heed_cross_entropy(b, heed_linear(b, "head", x, 5, NULL), g->target, &(heed_cross_entropy_opts){ .axis = 2 });
}

static const network networks[] = {
    { "self-attention", build_self, BY_LENGTHS },
    { "causal self-attention with dropout", build_self_causal, BY_LENGTHS },
    { "self-attention with lengths of both sides", build_self_both, BY_LENGTHS },
    { "self-attention with segments", build_self_segments, BY_SEGMENTS },
    { "self-attention with a learned key", build_learned_key, BY_LENGTHS },
    { "cross-attention", build_cross, BY_LENGTHS },
    { "cross-attention, values of another width", build_cross_values, BY_LENGTHS },
    { "cross-attention with a mask of keys", build_cross_mask, BY_LENGTHS },
    { "cross-attention with segments", build_cross_segments, BY_SEGMENTS },
    { "two encoder layers", build_encoder, BY_LENGTHS },
    { "two encoder layers, norm first", build_encoder_pre_norm, BY_LENGTHS },
    { "encoder layer with segments", build_encoder_segments, BY_SEGMENTS },
    { "attentive pooling", build_pool, BY_LENGTHS },
    { "cross entropy", build_loss, BY_LENGTHS },
    { "cross entropy with smoothing", build_smooth_loss, BY_SEGMENTS },
    { "a tagger and its loss", build_tagger, BY_LENGTHS },
};

/* x_seg counts a row where it is not negative; padding is at both ends of a sequence. */
static bool counts(const network *n, int64_t b, int64_t t)
{
    static const int64_t lengths[BATCH] = { 4, STEPS, 0 };

    return n->rows == BY_LENGTHS ? t < lengths[b] : t > b && t < STEPS - 1;
}

static bool counts_key(const network *n, int64_t b, int64_t t)
{
    static const int64_t lengths[BATCH] = { KEYS, 5, 1 };

    return n->rows == BY_LENGTHS ? t < lengths[b] : t >= 2 - b && t < KEYS - 2;
}

enum { IN_X, IN_KEY, IN_VALUE, IN_DY, IN_LENGTHS, IN_K_LENGTHS, IN_X_SEG, IN_K_SEG, IN_KEEP, IN_TARGET };

static void build_all(heed_builder *b, void *user)
{
    const network *n = user;
    const heed_type x = HEED_TYPE(HEED_F32, BATCH, STEPS, WIDTH);
    heed_value wrt[40], d[40], y, dy;
    given g;
    int parameters;

    heed_set_mode(b, HEED_TRAIN);
    g.x = wrt[0] = heed_input(b, "x", x);
    g.key = wrt[1] = heed_input(b, "key", HEED_TYPE(HEED_F32, BATCH, KEYS, WIDTH));
    g.value = wrt[2] = heed_input(b, "value", HEED_TYPE(HEED_F32, BATCH, KEYS, OTHER));
    dy = heed_input(b, "dy", x);
    g.lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, BATCH));
    g.k_lengths = heed_input(b, "k_lengths", HEED_TYPE(HEED_I64, BATCH));
    g.x_seg = heed_input(b, "x_seg", HEED_TYPE(HEED_I64, BATCH, STEPS));
    g.k_seg = heed_input(b, "k_seg", HEED_TYPE(HEED_I64, BATCH, KEYS));
    g.keep = heed_input(b, "keep", HEED_TYPE(HEED_BOOL, BATCH, 1, 1, KEYS));
    g.target = heed_input(b, "target", HEED_TYPE(HEED_I64, BATCH, STEPS));
    y = n->build(b, &g);
    if (heed_rank(b, y) == 0)
        dy = heed_scalar(b, HEED_F32, 1);
    else if (heed_rank(b, y) == 2) {
        dy = heed_slice(b, dy, 1, 0, 1, 1);
        dy = heed_reshape(b, dy, 2, (const int64_t[]){ BATCH, WIDTH });
    }
    parameters = heed_params(b, wrt + 3, 37);
    heed_grad_of(b, &y, &dy, 1, wrt, 3 + parameters, d);
    heed_output(b, "y", y);
    for (int i = 0; i < 3 + parameters; i++) {
        char name[80];

        (void)snprintf(name, sizeof name, "d_%s", heed_value_path(b, wrt[i]));
        heed_output(b, name, d[i]);
    }
}

static void put_rows(float *to, const network *n, bool (*row_counts)(const network *, int64_t, int64_t), int64_t rows,
                     int64_t width, float padding)
{
    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t t = 0; t < rows; t++)
            for (int64_t i = 0; i < width; i++, to++)
                *to = row_counts(n, b, t) ? sinf((float)(b * 131 + t * 17 + i * 5)) : padding;
}

static void fill(trial *t, const network *n, float padding)
{
    int64_t *lengths = t->in[IN_LENGTHS].tensor.data, *k_lengths = t->in[IN_K_LENGTHS].tensor.data,
            *x_seg = t->in[IN_X_SEG].tensor.data, *k_seg = t->in[IN_K_SEG].tensor.data, *target = t->in[IN_TARGET].tensor.data;
    bool *keep = t->in[IN_KEEP].tensor.data;

    put_rows(t->in[IN_X].tensor.data, n, counts, STEPS, WIDTH, padding);
    put_rows(t->in[IN_KEY].tensor.data, n, counts_key, KEYS, WIDTH, padding);
    put_rows(t->in[IN_VALUE].tensor.data, n, counts_key, KEYS, OTHER, padding);
    put_rows(t->in[IN_DY].tensor.data, n, counts, STEPS, WIDTH, 0); /* a loss that looks at rows that count */
    for (int64_t b = 0; b < BATCH; b++) {
        lengths[b] = k_lengths[b] = 0;
        for (int64_t i = 0; i < STEPS; i++) {
            lengths[b] += counts(n, b, i);
            x_seg[b * STEPS + i] = counts(n, b, i) ? i / 3 : -1;
            target[b * STEPS + i] = counts(n, b, i) ? (b + i) % 5 : -100;
        }
        for (int64_t i = 0; i < KEYS; i++) {
            k_lengths[b] += counts_key(n, b, i);
            k_seg[b * KEYS + i] = counts_key(n, b, i) ? i / 3 : -1 - i;
            keep[b * KEYS + i] = counts_key(n, b, i);
        }
    }
}

static void padding_changes_nothing(const scratch *s, heed_kernels kernels)
{
    const float padding[] = { NAN, INFINITY, -INFINITY, 3e38f };

    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const network *n = &networks[i];
        heed_tensor want[TRIAL_VALUES];
        bool any = false;
        trial t;

        TOY_OK(trial_open(&t, s->ctx, build_all, (void *)(uintptr_t)n, &(heed_plan_opts){ .kernels = kernels }, TOY_ERR));
        fill(&t, n, 0);
        TOY_OK(trial_run(&t, TOY_ERR));
        for (int j = 0; j < t.n_out; j++) {
            want[j].data = trial_memory(t.out[j].bytes + 1, 1);
            memcpy(want[j].data, t.out[j].tensor.data, t.out[j].bytes);
            for (size_t k = 0; k < t.out[j].bytes / sizeof(float); k++) {
                const float x = ((float *)want[j].data)[k];

                any = any || x != 0;
                if (!(x - x == 0))
                    fail_msg("%s: %s is not finite with zeros for padding", n->name, heed_plan_output_name(t.plan, j));
            }
        }
        assert_true(any);
        for (size_t p = 0; p < sizeof padding / sizeof *padding; p++) {
            fill(&t, n, padding[p]);
            TOY_OK(trial_run(&t, TOY_ERR));
            assert_string_equal(t.broken, "");
            for (int j = 0; j < t.n_out; j++)
                if (memcmp(want[j].data, t.out[j].tensor.data, t.out[j].bytes) != 0)
                    fail_msg("%s: %g in padding changes %s", n->name, (double)padding[p], heed_plan_output_name(t.plan, j));
        }
        for (int j = 0; j < t.n_out; j++)
            free(want[j].data);
        trial_close(&t);
    }
}

static void what_lies_in_padding_changes_no_byte_of_results_and_gradients(void **state)
{
    padding_changes_nothing(*state, HEED_KERNELS_FAST);
    padding_changes_nothing(*state, HEED_KERNELS_REFERENCE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lies_in_padding_changes_no_byte_of_results_and_gradients),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
