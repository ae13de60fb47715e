/* The pictures of docs/attention.md: the weights of 24 tokens under every variant of the operator, a PNG each.
 *   attention_gallery DIR        writes DIR/NAME.png     attention_gallery        prints a line a variant
 * Tokens belong to three topics, written 000111222000..., and attend from rows (queries) to columns (keys). */
#include <heed/heed.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 24, D = 8, H = 2, CELL = 8, A = 6 };

/* ---- made-up numbers ---- */

static float noise(uint32_t i)
{
    i = (i ^ 61u ^ i >> 16) * 9u;
    i = (i ^ i >> 4) * 0x27d4eb2du;
    return (float)(i ^ i >> 15) * 0x1p-31f - 1;
}

static heed_value numbers(heed_builder *b, heed_type type, uint32_t seed, float scale, float shift)
{
    const int64_t n = heed_type_count(&type);
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    heed_value v = { 0 };

    for (int64_t i = 0; x && i < n; i++)
        x[i] = shift + scale * noise(seed * 977u + (uint32_t)i);
    if (x)
        v = heed_constant(b, (heed_tensor){ type, x });
    free(x);
    return v;
}
#define NUMBERS(seed, scale, shift, ...) numbers(b, HEED_TYPE(HEED_F32, __VA_ARGS__), seed, scale, shift)

static heed_value integers(heed_builder *b, int64_t n, const int64_t *x)
{
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, n), (void *)(uintptr_t)x });
}
#define INTEGERS(...)                                                                                        \
    integers(b, (int64_t)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

/* A topic's direction, and a little of its own: [1,H,T,D]. */
static heed_value tokens(heed_builder *b, uint32_t seed)
{
    float x[H * T * D];

    for (int i = 0; i < H * T * D; i++) {
        const int topic = i / D % T / 3 % 3, d = i % D;

        x[i] = (d % 3 == topic ? 1.6f : -0.4f) + 0.7f * noise(seed * 31u + (uint32_t)i);
    }
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, H, T, D), x });
}

/* ---- the variants ---- */

typedef struct variant {
    const char *name;
    void (*say)(heed_builder *b, heed_attention_spec *s);
} variant;

#define VARIANT(id, ...)                                                                                     \
    static void id(heed_builder *b, heed_attention_spec *s)                                                  \
    {                                                                                                        \
        (void)b;                                                                                             \
        __VA_ARGS__;                                                                                         \
    }

static void additive_parts(heed_builder *b, heed_attention_spec *s)
{
    s->in.add_wq = NUMBERS(1, 1, 0, 1, A, D);
    s->in.add_wk = NUMBERS(2, 1, 0, 1, A, D);
    s->in.add_v = NUMBERS(3, 2, 0, 1, A);
    s->in.add_b = NUMBERS(4, 0.3f, 0, 1, A);
}

/* What was attended to before: the key four places back. */
static heed_value previous(heed_builder *b)
{
    float x[H * T * T] = { 0 };

    for (int i = 0; i < H * T; i++)
        x[i * T + (i % T + T - 4) % T] = 1;
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_F32, 1, H, T, T), x });
}

static heed_value checkerboard(heed_builder *b, int64_t n)
{
    bool x[T * T];

    for (int i = 0; i < n * n; i++)
        x[i] = (i / n + i % n) % 2 == 0;
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_BOOL, n, n), x });
}

/* A ring in which everyone sees the two next, as rows of keys. */
static void ring(heed_builder *b, heed_attention_spec *s)
{
    int64_t indptr[T + 1], indices[2 * T];

    for (int64_t i = 0; i <= T; i++)
        indptr[i] = 2 * i;
    for (int64_t i = 0; i < T; i++) {
        const int64_t x = (i + 1) % T, y = (i + 2) % T;

        indices[2 * i] = x < y ? x : y;
        indices[2 * i + 1] = x < y ? y : x;
    }
    s->in.graph_indptr = integers(b, T + 1, indptr);
    s->in.graph_indices = integers(b, 2 * T, indices);
}

static heed_value segments(heed_builder *b)
{
    int64_t x[T];

    for (int i = 0; i < T; i++)
        x[i] = i < 9 ? 0 : i < 20 ? 1 : -1;
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 1, T), x });
}

VARIANT(scaled_dot, (void)s)
VARIANT(dot, s->score.kind = HEED_SCORE_DOT)
VARIANT(general, s->score.kind = HEED_SCORE_GENERAL; s->in.score_w = NUMBERS(5, 0.4f, 0, 1, D, D))
VARIANT(additive, s->score.kind = HEED_SCORE_ADDITIVE; additive_parts(b, s))
VARIANT(location, s->score.kind = HEED_SCORE_LOCATION; additive_parts(b, s); s->in.prev = previous(b);
        s->in.loc_kernel = NUMBERS(6, 1, 1, 2, 3); s->in.loc_u = NUMBERS(7, 4, 0, 1, A, 2))
VARIANT(cosine, s->score.kind = HEED_SCORE_COSINE; s->in.tau = NUMBERS(8, 0, 4, 1))
VARIANT(neg_sq_distance, s->score.kind = HEED_SCORE_NEG_SQ_DISTANCE; s->score.scale = (heed_maybe_f32)HEED_SET(0.2f))
VARIANT(neg_distance, s->score.kind = HEED_SCORE_NEG_DISTANCE)
VARIANT(softcap, s->score.kind = HEED_SCORE_DOT; s->softcap = 2)
VARIANT(rope, s->position.rope.on = true)
VARIANT(alibi, s->position.alibi = true)
VARIANT(t5, s->in.t5_table = NUMBERS(9, 2, 0, 8, H); s->position.t5.max_distance = (heed_maybe_i64)HEED_SET(16))
VARIANT(shaw, s->in.shaw_k = NUMBERS(10, 2, 0, 9, D))
VARIANT(xl, s->in.xl_r = NUMBERS(11, 2, 0, T, H, D); s->in.xl_u = NUMBERS(12, 1, 0, H, D);
        s->in.xl_v = NUMBERS(13, 1, 0, H, D); s->mask.causal = true)
VARIANT(bias, s->in.bias = NUMBERS(14, 3, 0, 1, 1, 1, T))
VARIANT(causal, s->mask.causal = true)
VARIANT(window, s->mask.window.on = true; s->mask.window.left = 4; s->mask.window.right = 4)
VARIANT(stride, s->mask.stride = 5; s->mask.causal = true)
VARIANT(block, s->mask.block[0] = s->mask.block[1] = 4; s->in.block_keep = checkerboard(b, T / 4))
VARIANT(globals, s->mask.window.on = true; s->mask.window.left = s->mask.window.right = 2; s->in.globals = INTEGERS(0, 12))
VARIANT(lengths, s->in.lengths = INTEGERS(15); s->in.q_lengths = INTEGERS(20))
VARIANT(segs, s->in.q_seg = s->in.k_seg = segments(b))
VARIANT(graph, ring(b, s))
VARIANT(temperature, s->normaliser.temperature = (heed_maybe_f32)HEED_SET(0.3f))
VARIANT(sink, s->in.sink = NUMBERS(15, 0, 4, H))
VARIANT(sparsemax, s->normaliser.kind = HEED_NORMALISER_SPARSEMAX)
VARIANT(entmax15, s->normaliser.kind = HEED_NORMALISER_ENTMAX15)
VARIANT(sigmoid, s->normaliser.kind = HEED_NORMALISER_SIGMOID; s->normaliser.bias = (heed_maybe_f32)HEED_SET(-3))
VARIANT(topk, s->normaliser.kind = HEED_NORMALISER_TOPK; s->normaliser.k = 4)
VARIANT(hard, s->normaliser.kind = HEED_NORMALISER_HARD)
VARIANT(adaptive_span, s->normaliser.kind = HEED_NORMALISER_ADAPTIVE_SPAN; s->in.span = NUMBERS(16, 0, 3, 1);
        s->normaliser.ramp = (heed_maybe_f32)HEED_SET(4); s->mask.causal = true)
VARIANT(linear, s->normaliser.kind = HEED_NORMALISER_LINEAR)
VARIANT(talking, s->in.talk_post = NUMBERS(17, 0.3f, 0.5f, H, H))
VARIANT(differential, s->in.q2 = tokens(b, 5); s->in.k2 = tokens(b, 6); s->in.lambda = NUMBERS(18, 0, 0.6f, H))

#define ROW(name) { #name, name }
static const variant variants[] = {
    ROW(scaled_dot),  ROW(dot),       ROW(general),  ROW(additive),      ROW(location), ROW(cosine),  ROW(neg_sq_distance),
    ROW(neg_distance), ROW(softcap),  ROW(rope),     ROW(alibi),         ROW(t5),       ROW(shaw),    ROW(xl),
    ROW(bias),        ROW(causal),    ROW(window),   ROW(stride),        ROW(block),    ROW(globals), ROW(lengths),
    ROW(segs),        ROW(graph),     ROW(temperature), ROW(sink),       ROW(sparsemax), ROW(entmax15), ROW(sigmoid),
    ROW(topk),        ROW(hard),      ROW(adaptive_span), ROW(linear),   ROW(talking),  ROW(differential),
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* ---- from a variant to its weights ---- */

static heed_status weights_of(float w[T * T], heed_context *ctx, const variant *v, heed_error *err)
{
    static const int64_t first_head[] = { 0 };
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *plan = NULL;
    heed_session *session = NULL;
    heed_weights *none = NULL;
    heed_tensor out = { HEED_TYPE(HEED_F32, 1, 1, T, T), w };
    heed_attention_spec spec = { .probe.heads = { first_head, 1 } };
    int id;

    if (heed_builder_new(&b, ctx, err))
        return err->code;
    v->say(b, &spec);
    heed_output(b, "w", heed_attention(b, tokens(b, 1), tokens(b, 2), tokens(b, 3), &spec).rows);
    if (!heed_builder_finish(&g, b, err) && !heed_plan_new(&plan, ctx, g, NULL, err) &&
        !heed_weights_new(&none, ctx, err) && !heed_session_new(&session, ctx, none, NULL, err) &&
        !heed_session_add(session, plan, &id, err) && heed_session_run(session, id, NULL, 0, &out, 1, err))
        err->code = err->code ? err->code : HEED_ERR_BUG;
    heed_session_free(session);
    heed_weights_free(none);
    heed_plan_free(plan);
    heed_graph_free(g);
    heed_builder_free(b);
    return err->code;
}

/* White is 0, blue is the largest weight; a negative weight is red. */
static heed_status draw(heed_context *ctx, const char *path, const float w[T * T], heed_error *err)
{
    static uint8_t pixels[3][T * CELL][T * CELL];
    float most = 1e-9f;

    for (int i = 0; i < T * T; i++)
        most = fmaxf(most, fabsf(w[i]));
    for (int y = 0; y < T * CELL; y++)
        for (int x = 0; x < T * CELL; x++) {
            const float share = w[y / CELL * T + x / CELL] / most, up = fmaxf(share, 0), down = fmaxf(-share, 0);
            const bool edge = y % CELL == CELL - 1 || x % CELL == CELL - 1;

            pixels[0][y][x] = (uint8_t)(edge ? 236 : 255 - 225 * up - 40 * down);
            pixels[1][y][x] = (uint8_t)(edge ? 236 : 255 - 165 * up - 200 * down);
            pixels[2][y][x] = (uint8_t)(edge ? 236 : 255 - 60 * up - 210 * down);
        }
    return heed_image_write_png(ctx, path, (heed_tensor){ HEED_TYPE(HEED_U8, 3, T * CELL, T * CELL), pixels }, err);
}

int main(int n, char **words)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    float w[T * T];

    if (heed_context_new(&ctx, &(heed_context_opts){ .isa = HEED_ISA_PORTABLE }, &err)) /* the same pictures everywhere */
        goto done;
    for (int i = 0; i < VARIANTS; i++) {
        char path[1024];
        int kept = 0;

        if (weights_of(w, ctx, &variants[i], &err)) {
            fprintf(stderr, "%s: ", variants[i].name);
            goto done;
        }
        for (int k = 0; k < T * T; k++)
            kept += w[k] > 1e-6f || w[k] < -1e-6f;
        snprintf(path, sizeof path, "%s/%s.png", n > 1 ? words[1] : "", variants[i].name);
        if (n < 2)
            printf("%-16s %3d of %d weights\n", variants[i].name, kept, T * T);
        else if (draw(ctx, path, w, &err))
            goto done;
    }
done:
    if (err.code)
        fprintf(stderr, "%s (%s)\n", err.text, heed_status_name(err.code));
    heed_context_free(ctx);
    return err.code != 0;
}
