/* What a training run leaves behind, as a digest: a small network of the core alone is trained on XOR, at one level.
 *
 *   digest LEVEL [THREADS] [--values]      prints level, loss, answers and the SHA-256 of the weights
 *
 * The portable level must give the same digest from every compiler, C library and processor: tools/check/cross
 * compares them. Other levels are compared value by value. Attention, normalisation, GELU and dropout are there for
 * their sums, exponentials and random numbers: XOR needs none of them, and a hundred steps need not be enough. */
#include <heed/attention.h>
#include <heed/ops.h>
#include <heed/session.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 4, WIDTH = 16, STEPS = 100, PARAMS_MAX = 16 };

static heed_value linear(heed_builder *b, const char *name, heed_value x, int64_t to)
{
    const int64_t from = heed_dim(b, x, -1);
    heed_value w, bias;

    heed_scope_push(b, name);
    w = heed_param(b, "weight", HEED_TYPE(HEED_F32, from, to), &(heed_init){ .kind = HEED_INIT_XAVIER_UNIFORM });
    bias = heed_param(b, "bias", HEED_TYPE(HEED_F32, to), NULL);
    heed_scope_pop(b);
    return heed_add(b, heed_matmul(b, x, w), bias);
}

/* One for each attention kernel and what they add up besides: tiles, rows, linear. */
static const heed_attention_spec attentions[] = {
    { .normaliser.kind = HEED_NORMALISER_SOFTMAX },
    { .position = { .rope.on = true, .alibi = true },
      .mask = { .causal = true, .window = { true, 2, 0 } },
      .normaliser = { .plus_one = true, .temperature = HEED_SET(0.7f) },
      .softcap = 5,
      .combine.dropout = { 0.1, .name = "drop" } },
    { .normaliser = { .kind = HEED_NORMALISER_ENTMAX, .alpha = HEED_SET(1.3f) } },
    { .score.kind = HEED_SCORE_NEG_DISTANCE, .normaliser = { .kind = HEED_NORMALISER_SIGMOID, .bias = HEED_SET(-1) } },
    { .mask.causal = true, .normaliser.kind = HEED_NORMALISER_LINEAR },
};
enum { ATTENTIONS = sizeof attentions / sizeof *attentions };

/* What tokens [4,2,4,2] attend to: most of it by the first. */
static heed_value attended(heed_builder *b, heed_value tokens)
{
    heed_value sum = heed_attention(b, tokens, tokens, tokens, &attentions[0]).out, y;

    for (int i = 1; i < ATTENTIONS; i++) {
        heed_scope_push(b, (const char *[]){ "first", "second", "third", "fourth", "fifth" }[i]);
        y = heed_attention(b, tokens, tokens, tokens, &attentions[i]).out;
        heed_scope_pop(b);
        sum = heed_add(b, sum, heed_mul_scalar(b, y, 0.1));
    }
    return sum;
}

/* x [4,2] -> logits [4,2]. The hidden numbers of a point stand as 2 heads of 4 tokens of 2. */
static heed_value network(heed_builder *b, heed_value x)
{
    const heed_init ones = { .kind = HEED_INIT_CONSTANT, .a = 1 };
    heed_value h = heed_tanh(b, linear(b, "fc1", x, WIDTH)), tokens, gain, shift;

    tokens = heed_reshape(b, h, 4, (const int64_t[]){ POINTS, 2, 4, 2 });
    tokens = attended(b, tokens);
    h = heed_add(b, h, heed_reshape(b, tokens, 2, (const int64_t[]){ POINTS, WIDTH }));
    gain = heed_param(b, "norm.weight", HEED_TYPE(HEED_F32, WIDTH), &ones);
    shift = heed_param(b, "norm.bias", HEED_TYPE(HEED_F32, WIDTH), NULL);
    h = heed_layer_norm(b, h, 1, gain, shift, 1e-5);
    h = heed_gelu(b, linear(b, "fc2", h, WIDTH));
    h = heed_dropout(b, "drop", h, 0.1);
    return linear(b, "fc3", h, 2);
}

/* Loss, gradients, and the weights' step: p - 0.05 (0.9 m + g). */
static heed_status training_graph(heed_graph **out, heed_context *ctx, heed_error *err)
{
    heed_value params[PARAMS_MAX], grads[PARAMS_MAX], loss, logits, rng;
    heed_builder *b = NULL;
    heed_status st = heed_builder_new(&b, ctx, err);
    int n;

    if (st != HEED_OK)
        return st;
    heed_set_mode(b, HEED_TRAIN);
    logits = network(b, heed_input(b, "x", HEED_TYPE(HEED_F32, POINTS, 2)));
    loss = heed_cross_entropy(b, logits, heed_input(b, "labels", HEED_TYPE(HEED_I64, POINTS)), NULL);
    n = heed_params(b, params, PARAMS_MAX);
    heed_grad(b, loss, params, n, grads);
    for (int i = 0; i < n; i++) {
        char name[64];
        heed_value momentum;

        (void)snprintf(name, sizeof name, "optimizer.%s", heed_value_path(b, params[i]));
        momentum = heed_state(b, name, heed_value_type(b, params[i]), NULL);
        heed_assign(b, momentum, heed_add(b, heed_mul_scalar(b, momentum, 0.9), grads[i]));
        heed_assign(b, params[i],
                    heed_sub(b, params[i],
                             heed_mul_scalar(b, heed_add(b, heed_mul_scalar(b, momentum, 0.9), grads[i]), 0.05)));
    }
    rng = heed_rng(b); /* another mask at every step */
    heed_assign(b, rng, heed_add(b, rng, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 0, 1 } })));
    heed_output(b, "loss", loss);
    heed_output(b, "answer", heed_argmax(b, logits, -1));
    st = heed_builder_finish(out, b, err);
    heed_builder_free(b);
    return st;
}

static void print_values(const heed_weights *w)
{
    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name;
        const heed_tensor t = heed_weights_at(w, i, &name);

        for (int64_t k = 0; t.type.dtype == HEED_F32 && k < heed_type_count(&t.type); k++)
            printf("value %s[%d] %.9g\n", name, (int)k, (double)((const float *)t.data)[k]);
    }
}

int main(int argc, char **argv)
{
    float x[POINTS][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, loss = 0;
    int64_t labels[POINTS] = { 0, 1, 1, 0 }, answer[POINTS] = { 0 };
    const heed_tensor in[] = { { HEED_TYPE(HEED_F32, POINTS, 2), x }, { HEED_TYPE(HEED_I64, POINTS), labels } };
    const heed_tensor out[] = { { heed_type_of(HEED_F32, 0, NULL), &loss }, { HEED_TYPE(HEED_I64, POINTS), answer } };
    heed_context_opts opts = { .threads = argc > 2 && argv[2][0] != '-' ? atoi(argv[2]) : 1 };
    heed_context *ctx = NULL;
    heed_graph *g = NULL;
    heed_plan *plan = NULL;
    heed_weights *w = NULL;
    heed_session *s = NULL;
    heed_error err = { 0 };
    char sha[65];
    int id = 0;

    if (heed_isa_from_name(&opts.isa, argc > 1 ? argv[1] : "portable", &err) || heed_context_new(&ctx, &opts, &err) ||
        training_graph(&g, ctx, &err) || heed_plan_new(&plan, ctx, g, NULL, &err) || heed_weights_new(&w, ctx, &err) ||
        heed_session_new(&s, ctx, w, &(heed_session_opts){ .seed = 1 }, &err) || heed_session_add(s, plan, &id, &err))
        goto done;
    for (int step = 0; step < STEPS; step++)
        if (heed_session_run(s, id, in, 2, out, 2, &err))
            goto done;
    if (heed_weights_sha256(w, HEED_WEIGHTS_ALL, sha, &err))
        goto done;
    printf("level %s\n", heed_isa_name(heed_plan_describe(plan).isa));
    printf("loss %.9g\n", (double)loss);
    printf("answers %d %d %d %d\n", (int)answer[0], (int)answer[1], (int)answer[2], (int)answer[3]);
    printf("weights %s\n", sha);
    if (strcmp(argv[argc - 1], "--values") == 0)
        print_values(w);
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    heed_session_free(s);
    heed_plan_free(plan);
    heed_graph_free(g);
    heed_weights_free(w);
    heed_context_free(ctx);
    return err.code != 0;
}
