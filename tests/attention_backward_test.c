/* attention_grad in tiles: held against the composition in f64, and byte by byte against itself. */
#include "attention/attention.h"
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cells ---- */

typedef struct cell {
    const char *name;
    int64_t b, hq, hk, tq, tk, d, dv;
    attention_attrs attrs;
    int64_t bias[4], rel[2], row_size; /* 0: none */
    int64_t temperature, sink;         /* numbers of it, 0: none */
    bool dlse, lengths, mask, segments, globals, keep;
    bool huge; /* logits around 1e4, exact in f32 */
} cell;

#define ATTRS .scale = 0.4, .temperature = 1
static const cell cells[] = {
    { "plain, odd sizes", 2, 2, 2, 131, 150, 24, 17, .attrs = { ATTRS }, .dlse = true },
    { "grouped heads, causal", 1, 4, 2, 150, 150, 24, 24, .attrs = { ATTRS, .causal = true }, .dlse = true },
    { "one key head", 1, 3, 1, 70, 140, 7, 9, .attrs = { ATTRS, .causal = true, .offset = 70 } },
    { "a window", 1, 2, 2, 300, 300, 16, 16,
      .attrs = { ATTRS, .causal = true, .window = true, .left = 70, .right = -1 } },
    { "a narrow window", 2, 1, 1, 150, 150, 16, 16,
      .attrs = { ATTRS, .window = true, .left = 3, .right = 9 } },
    { "lengths, and empty rows", 3, 2, 1, 70, 90, 12, 12, .attrs = { ATTRS, .causal = true, .offset = -5 },
      .lengths = true, .dlse = true },
    { "a mask with holes", 2, 2, 2, 66, 190, 20, 20, .attrs = { ATTRS }, .mask = true },
    { "segments", 2, 2, 2, 150, 150, 8, 8, .attrs = { ATTRS }, .segments = true },
    { "globals and a window", 1, 2, 2, 200, 200, 8, 8,
      .attrs = { ATTRS, .window = true, .left = 5, .right = 5 }, .globals = true },
    { "a stride", 1, 2, 2, 200, 200, 8, 8, .attrs = { ATTRS, .causal = true, .stride = 19 } },
    { "dropout", 1, 2, 2, 80, 130, 16, 16, .attrs = { ATTRS, .dropout = 0.3, .node = 5 }, .dlse = true },
    { "dropout with given bits", 1, 2, 2, 80, 130, 16, 16, .attrs = { ATTRS, .dropout = 0.3 }, .keep = true },
    { "softcap", 1, 2, 1, 80, 130, 16, 16, .attrs = { .scale = 2, .temperature = 1, .softcap = 3 },
      .dlse = true },
    { "softcap and temperature", 1, 2, 1, 80, 130, 16, 16,
      .attrs = { .scale = 2, .temperature = 1.7, .softcap = 3, .causal = true, .offset = 50 } },
    { "a temperature a head", 2, 2, 1, 80, 70, 16, 16, .attrs = { .scale = 1, .temperature = 1 },
      .temperature = 2, .dlse = true },
    { "one temperature, softcap, dropout", 2, 2, 2, 80, 70, 16, 16,
      .attrs = { .scale = 1, .temperature = 1, .softcap = 2, .dropout = 0.2 }, .temperature = 1, .sink = 1 },
    { "a sink a head", 2, 3, 1, 70, 70, 16, 16, .attrs = { ATTRS, .causal = true }, .sink = 3, .dlse = true },
    { "one sink, lengths", 2, 2, 2, 70, 70, 16, 16, .attrs = { ATTRS }, .sink = 1, .lengths = true },
    { "plus one", 1, 2, 2, 70, 70, 16, 16, .attrs = { ATTRS, .plus_one = true } },
    { "bias, full", 2, 2, 1, 70, 130, 16, 16, .attrs = { ATTRS }, .bias = { 2, 2, 70, 130 } },
    { "bias, shared by sequences", 3, 2, 2, 70, 130, 16, 16, .attrs = { ATTRS, .causal = true, .offset = 60 },
      .bias = { 1, 2, 70, 130 }, .lengths = true },
    { "bias, shared by heads", 2, 4, 2, 140, 70, 16, 16, .attrs = { ATTRS }, .bias = { 2, 1, 140, 70 } },
    { "bias, shared by sequences, owners sweep", 3, 16, 8, 70, 66, 8, 8, .attrs = { ATTRS, .softcap = 2 },
      .bias = { 1, 16, 70, 66 }, .rel = { 1, 1 } },
    { "bias, shared by heads, owners sweep", 8, 4, 2, 40, 66, 8, 8, .attrs = { ATTRS },
      .bias = { 8, 1, 40, 66 } },
    { "bias, shared by all", 5, 2, 2, 70, 70, 16, 16, .attrs = { ATTRS, .softcap = 2 },
      .bias = { 1, 1, 70, 70 }, .rel = { 1, 2 }, .dlse = true },
    { "bias of keys", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS }, .bias = { 2, 1, 1, 140 },
      .lengths = true },
    { "bias of keys a head", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS }, .bias = { 1, 2, 1, 140 } },
    { "bias of queries", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS, .softcap = 2 },
      .bias = { 1, 2, 130, 1 }, .dlse = true },
    { "bias of heads", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS, .softcap = 2 }, .bias = { 1, 2, 1, 1 },
      .dlse = true },
    { "rel of heads", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS }, .rel = { 1, 2 } },
    { "rel of sequences and heads, causal", 2, 2, 2, 70, 150, 16, 16,
      .attrs = { ATTRS, .causal = true, .offset = 80 }, .rel = { 2, 2 }, .lengths = true },
    { "one rel in a window", 2, 2, 2, 150, 150, 16, 16,
      .attrs = { ATTRS, .window = true, .left = 20, .right = 2 }, .rel = { 1, 1 } },
    { "row_rel", 2, 2, 1, 130, 140, 16, 16, .attrs = { ATTRS, .row_zero = 20 }, .row_size = 41 },
    { "row_rel of one", 1, 2, 1, 70, 80, 16, 16, .attrs = { ATTRS, .causal = true, .offset = 10 },
      .row_size = 1, .dlse = true },
    { "row_rel wide, softcap", 1, 2, 2, 70, 80, 16, 16, .attrs = { ATTRS, .softcap = 1, .row_zero = 100 },
      .row_size = 220 },
    { "everything", 2, 4, 2, 140, 150, 20, 12,
      .attrs = { .scale = 1,
                 .temperature = 1,
                 .softcap = 2,
                 .causal = true,
                 .offset = 10,
                 .row_zero = 9,
                 .dropout = 0.1 },
      .bias = { 1, 4, 140, 150 }, .rel = { 2, 1 }, .row_size = 19, .temperature = 4, .sink = 4, .dlse = true,
      .lengths = true },
    { "one query", 2, 2, 1, 1, 70, 16, 16, .attrs = { ATTRS }, .bias = { 1, 2, 1, 70 }, .rel = { 1, 1 } },
    { "no keys", 2, 2, 1, 5, 0, 4, 4, .attrs = { ATTRS } },
    { "no sequences", 0, 2, 1, 5, 6, 4, 4, .attrs = { ATTRS }, .bias = { 1, 2, 5, 6 }, .sink = 2 },
    { "few heads, long", 1, 2, 1, 400, 420, 32, 32, .attrs = { ATTRS, .causal = true, .offset = 20 },
      .dlse = true, .rel = { 1, 2 }, .row_size = 5, .bias = { 1, 2, 1, 420 }, .temperature = 1, .sink = 2 },
    { "few heads, long, a bias of all", 1, 2, 1, 400, 420, 32, 32, .attrs = { ATTRS },
      .bias = { 1, 1, 400, 420 }, .rel = { 1, 2 } },
};
enum { CELLS = sizeof cells / sizeof *cells };

#define GRAD_NAME(id) "d" #id,
#define GRAD_SLOT(id) AT_##id,
static const char *const grad_names[] = { ATTENTION_GRADS(GRAD_NAME) };
static const int grad_slots[] = { ATTENTION_GRADS(GRAD_SLOT) };

/* ---- a graph of a cell ---- */

typedef struct built {
    const cell *cell;
    heed_dtype dtype;
    bool forward;              /* out and lse are computed and put out; else they are inputs */
    bool rounded;              /* lse without what rounding took from it */
    uint32_t want;             /* bits of gradients */
    int slots[AT_GRAD_INPUTS]; /* of the inputs, in order */
    int n;
} built;

static heed_value given(heed_builder *b, built *t, int slot, const char *name, heed_type type)
{
    t->slots[t->n++] = slot;
    return heed_input(b, name, type);
}

static void build(heed_builder *b, void *user)
{
    built *t = user;
    const cell *c = t->cell;
    const heed_dtype f = t->dtype;
    heed_value in[AT_GRAD_INPUTS] = { { 0 } }, out[AT_OUTPUTS], d[AT_GRAD_OUTPUTS];

    t->n = 0;
#define GIVEN(slot, name, ...) in[slot] = given(b, t, slot, name, HEED_TYPE(__VA_ARGS__))
    GIVEN(AT_Q, "q", f, c->b, c->hq, c->tq, c->d);
    GIVEN(AT_K, "k", f, c->b, c->hk, c->tk, c->d);
    GIVEN(AT_V, "v", f, c->b, c->hk, c->tk, c->dv);
    if (c->lengths) {
        GIVEN(AT_LENGTHS, "lengths", HEED_I64, c->b);
        GIVEN(AT_Q_LENGTHS, "q_lengths", HEED_I64, c->b);
    }
    if (c->mask)
        GIVEN(AT_MASK, "mask", HEED_BOOL, c->b, 1, c->tq, c->tk);
    if (c->segments) {
        GIVEN(AT_Q_SEG, "q_seg", HEED_I64, c->b, c->tq);
        GIVEN(AT_K_SEG, "k_seg", HEED_I64, c->b, c->tk);
    }
    if (c->globals)
        GIVEN(AT_GLOBALS, "globals", HEED_I64, 2);
    if (c->bias[0])
        GIVEN(AT_BIAS, "bias", f, c->bias[0], c->bias[1], c->bias[2], c->bias[3]);
    if (c->rel[0])
        GIVEN(AT_REL, "rel", f, c->rel[0], c->rel[1], c->tq + c->tk - 1);
    if (c->row_size)
        GIVEN(AT_ROW_REL, "row_rel", f, c->b, c->hq, c->tq, c->row_size);
    if (c->temperature)
        GIVEN(AT_TEMPERATURE, "temperature", f, c->temperature);
    if (c->sink)
        GIVEN(AT_SINK, "sink", f, c->sink);
    if (c->keep)
        GIVEN(AT_DROPOUT_KEEP, "dropout_keep", HEED_BOOL, c->b, c->hq, c->tq, c->tk);
    else if (c->attrs.dropout > 0)
        GIVEN(AT_RNG, "rng", HEED_I64, 2);
    GIVEN(AT_DOUT, "dout", f, c->b, c->hq, c->tq, c->dv);
    if (c->dlse)
        GIVEN(AT_DLSE, "dlse", f, c->b, c->hq, c->tq);
    if (t->forward) {
        heed__attention_core(b, &c->attrs, in, out);
        in[AT_OUT] = out[AT_GET_OUT];
        in[AT_LSE] = out[AT_GET_LSE];
        in[AT_LSE_REST] = t->rounded ? (heed_value){ 0 } : out[AT_GET_LSE_REST];
        heed_output(b, "out", in[AT_OUT]);
        heed_output(b, "lse", in[AT_LSE]);
    } else {
        GIVEN(AT_OUT, "out", f, c->b, c->hq, c->tq, c->dv);
        GIVEN(AT_LSE, "lse", f, c->b, c->hq, c->tq);
        if (!t->rounded)
            GIVEN(AT_LSE_REST, "lse_rest", f, c->b, c->hq, c->tq);
    }
#undef GIVEN
    heed__nodes(b, &heed__op_attention_grad, &c->attrs, in, AT_GRAD_INPUTS, d);
    for (int i = 0; i < AT_GRADS; i++)
        if (in[grad_slots[i]].id && t->want >> i & 1)
            heed_output(b, grad_names[i], d[i]);
}

/* Number i of an input, for all sizes and dtypes the same. */
static double number_of(const cell *c, int slot, int64_t i)
{
    const uint32_t mixed = ((uint32_t)slot * 40503u + (uint32_t)i) * 2654435761u;
    const uint32_t twice = (mixed ^ mixed >> 15) * 2246822519u;
    const double x = (double)((twice ^ twice >> 13) >> 8) * 0x1p-23 - 1;

    if (c->huge && (slot == AT_Q || slot == AT_K))
        return i % c->d == 0 ? 100 : (double)(int)(x * 8) / 4;
    if (c->huge && slot == AT_SINK)
        return 10000 + 4 * x;
    switch (slot) {
    case AT_LENGTHS:
        return (double)(i == 1 ? 0 : c->tk - 3 - 7 * i); /* one sequence without keys */
    case AT_Q_LENGTHS:
        return (double)(c->tq - 2 * i);
    case AT_MASK:
        return i / c->tk % 5 == 3 || x < -0.8
                   ? 0
                   : i % c->tk / 16 % 3 != 1; /* empty rows, empty columns of cells */
    case AT_Q_SEG:
    case AT_K_SEG:
        return (double)(i % c->tk / 60) - (i % 37 == 0);
    case AT_GLOBALS:
        return i ? 130 : 0;
    case AT_TEMPERATURE:
        return 1.3 + 0.4 * x;
    case AT_DROPOUT_KEEP:
        return x < 0.4;
    case AT_RNG:
        return i ? 3 : 77;
    default:
        return x;
    }
}

/* ---- runs ---- */

typedef struct result {
    heed_tensor out[AT_GRADS + 2];
    int n;
    int64_t chunks; /* of attention_grad in tiles */
} result;

static void result_free(result *r)
{
    for (int i = 0; i < r->n; i++)
        free(r->out[i].data);
}

/* Rows behind the lengths are NaN where they are not to be read. */
static bool poisoned(const cell *c, int slot, int64_t i)
{
    const bool key = slot == AT_K || slot == AT_V, query = slot == AT_Q || slot == AT_DOUT;
    const int64_t heads = key ? c->hk : c->hq, n_rows = key ? c->tk : c->tq,
                  width = slot == AT_Q || slot == AT_K ? c->d : c->dv;
    const int64_t b = i / (heads * n_rows * width);

    return c->lengths && (key || query) &&
           i / width % n_rows >= (int64_t)number_of(c, key ? AT_LENGTHS : AT_Q_LENGTHS, b);
}

/* Element k of out, lse or the rest of lse of a result. */
static double of_forward(const result *r, int slot, int64_t k)
{
    const double y = ((const double *)r->out[slot != AT_OUT].data)[k];

    return slot != AT_LSE_REST ? y : isinf(y) ? 0 : y - (double)(float)y;
}

/* Runs a built cell. `before`: a result that begins with out and lse, when they are inputs. */
static result go(heed_context *ctx, built *t, const result *before, heed_kernels kernels)
{
    result r = { .n = 0 };
    trial x;

    TOY_OK(trial_open(&x, ctx, build, t, &(heed_plan_opts){ .kernels = kernels }, TOY_ERR));
    for (int i = 0; i < x.n_in; i++) {
        const int64_t n = heed_type_count(&x.in[i].tensor.type);
        double *numbers = trial_memory((size_t)n, sizeof *numbers);
        const int slot = t->slots[i];

        for (int64_t k = 0; k < n; k++)
            numbers[k] = slot == AT_OUT || slot == AT_LSE || slot == AT_LSE_REST ? of_forward(before, slot, k)
                         : poisoned(t->cell, slot, k) ? (double)NAN
                                                      : number_of(t->cell, slot, k);
        if (t->dtype == HEED_F64) /* both dtypes get the numbers that f32 holds */
            for (int64_t k = 0; k < n; k++)
                numbers[k] = (double)(float)numbers[k];
        trial_set(&x, i, numbers);
        free(numbers);
    }
    if (kernels == HEED_KERNELS_FAST && x.n_out > 0) {
        for (int64_t i = 0; i < heed_plan_steps(x.plan); i++)
            if (strcmp(heed_plan_step_at(x.plan, i).kernel, "tiles") == 0)
                r.chunks = heed_plan_step_at(x.plan, i).chunks;
        if (r.chunks == 0 && t->cell->b > 0 && t->want == ~0u)
            fail_msg("%s is not served", t->cell->name);
    }
    TOY_OK(trial_run(&x, TOY_ERR));
    assert_string_equal(x.broken, "");
    for (int i = 0; i < x.n_out; i++) {
        r.out[i].type = x.out[i].tensor.type;
        r.out[i].data = trial_memory(x.out[i].bytes, 1);
        memcpy(r.out[i].data, x.out[i].tensor.data, x.out[i].bytes);
    }
    r.n = x.n_out;
    trial_close(&x);
    return r;
}

static result reference(heed_context *ctx, const cell *c)
{
    return go(ctx, &(built){ .cell = c, .dtype = HEED_F64, .forward = true, .want = ~0u }, NULL,
              HEED_KERNELS_REFERENCE);
}

static result tiles(heed_context *ctx, const cell *c, const result *before, uint32_t want)
{
    return go(ctx, &(built){ .cell = c, .dtype = HEED_F32, .want = want }, before, HEED_KERNELS_FAST);
}

/* ---- tests ---- */

static void close_to(const char *cell_name, int which, const heed_tensor *got, const heed_tensor *want)
{
    const int64_t n = heed_type_count(&want->type);
    const double *w = want->data;
    const float *g = got->data;
    double most = 1;

    assert_int_equal(heed_type_count(&got->type), n);
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(w[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)g[i] - w[i]) <= 1e-5 * most + 1e-4 * fabs(w[i])))
            fail_msg("%s: output %d, element %lld is %.9g, not %.9g", cell_name, which, (long long)i,
                     (double)g[i], w[i]);
}

static void every_cell_agrees_with_the_composition_in_f64(void **state)
{
    const scratch *s = *state;

    for (size_t i = 0; i < CELLS; i++) {
        result want = reference(s->ctx, &cells[i]), got = tiles(s->ctx, &cells[i], &want, ~0u);

        assert_int_equal(got.n + 2, want.n);
        for (int k = 0; k < got.n; k++)
            close_to(cells[i].name, k, &got.out[k], &want.out[k + 2]);
        result_free(&want);
        result_free(&got);
    }
}

static void same_bytes(const cell *c, const char *what, const heed_tensor *x, const heed_tensor *y)
{
    if (memcmp(x->data, y->data, (size_t)heed_type_count(&x->type) * sizeof(float)) != 0)
        fail_msg("%s: %s changes bytes", c->name, what);
}

static void neither_threads_nor_unwanted_outputs_change_a_byte(void **state)
{
    const scratch *s = *state;
    heed_context *threads[] = { toy_context(1, HEED_ISA_AUTO), toy_context(2, HEED_ISA_AUTO),
                                toy_context(7, HEED_ISA_AUTO) };

    for (size_t i = 0; i < CELLS; i++) {
        result before = reference(s->ctx, &cells[i]), all = tiles(threads[0], &cells[i], &before, ~0u);

        for (int t = 1; t < 3; t++) {
            result got = tiles(threads[t], &cells[i], &before, ~0u);

            for (int k = 0; k < all.n; k++)
                same_bytes(&cells[i], "another number of threads", &all.out[k], &got.out[k]);
            result_free(&got);
        }
        for (int g = 0, k = 0; g < AT_GRADS; g++) {
            result alone = tiles(threads[1], &cells[i], &before, 1u << g);

            if (alone.n)
                same_bytes(&cells[i], "asking for one gradient alone", &all.out[k++], &alone.out[0]);
            result_free(&alone);
        }
        result_free(&before);
        result_free(&all);
    }
    for (int t = 0; t < 3; t++)
        heed_context_free(threads[t]);
}

/* The largest error of a number, as a part of the largest number beside it. */
static double worst(const heed_tensor *got, const heed_tensor *want)
{
    double error = 0, most = 0;

    for (int64_t i = 0; i < heed_type_count(&want->type); i++) {
        error = fmax(error, fabs((double)((const float *)got->data)[i] - ((const double *)want->data)[i]));
        most = fmax(most, fabs(((const double *)want->data)[i]));
    }
    return error / most;
}

/* f32 has 1e-3 between two numbers of that size: lse alone is off by half of it, and so is every weight. */
static void logits_of_ten_thousand_lose_no_digit_of_a_gradient(void **state)
{
    static const cell huge[] = {
        { "plain", 2, 2, 2, 131, 150, 24, 17, .attrs = { .scale = 1, .temperature = 1 }, .dlse = true, .huge = true },
        { "causal, grouped, sinks", 2, 4, 2, 150, 150, 16, 16,
          .attrs = { .scale = 1, .temperature = 1, .causal = true }, .sink = 4, .dlse = true, .huge = true },
        { "few heads, long", 1, 2, 1, 400, 420, 32, 32,
          .attrs = { .scale = 1, .temperature = 1, .causal = true, .offset = 20 }, .sink = 2, .dlse = true,
          .huge = true },
    };
    const scratch *s = *state;

    for (heed_isa isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        heed_context *ctx = heed_isa_available(isa) ? toy_context(1, isa) : NULL;

        for (size_t i = 0; ctx && i < sizeof huge / sizeof *huge; i++) {
            built whole = { .cell = &huge[i], .dtype = HEED_F32, .forward = true, .want = ~0u }, less = whole;

            less.rounded = true;
            result want = reference(s->ctx, &huge[i]), exact = go(ctx, &whole, NULL, HEED_KERNELS_FAST),
                   rounded = go(ctx, &less, NULL, HEED_KERNELS_FAST);

            for (int k = 0; k < 2; k++)
                same_bytes(&huge[i], "asking for the rest of lse", &exact.out[k], &rounded.out[k]);
            for (int k = 2; k < exact.n; k++) {
                const double now = worst(&exact.out[k], &want.out[k]), alone = worst(&rounded.out[k], &want.out[k]);

                printf("%s, %s, %s: off by %.1e of the largest number, without the rest of lse by %.1e\n",
                       huge[i].name, heed_isa_name(isa), k < 5 ? grad_names[k - 2] : "dsink", now, alone);
                if (!(now <= 3e-6 && (alone >= 2e-5 || alone >= 10 * now)))
                    fail_msg("%s: output %d is off by %.3g", huge[i].name, k, now);
            }
            result_free(&want);
            result_free(&exact);
            result_free(&rounded);
        }
        heed_context_free(ctx);
    }
}

/* One sequence with one key head is cut by keys and queries, unless there is one thread for it; eight of them are swept. */
static void a_head_that_is_cut_has_the_bytes_of_one_that_is_swept(void **state)
{
    const scratch *s = *state;
    const cell cut = { "cut",
                       1,
                       2,
                       1,
                       400,
                       420,
                       32,
                       24,
                       .attrs = { ATTRS, .causal = true, .offset = 20 },
                       .row_size = 9,
                       .sink = 1,
                       .dlse = true };
    cell swept = cut;
    swept.b = 8;
    result before[2] = { reference(s->ctx, &cut), reference(s->ctx, &swept) };
    heed_context *many = toy_context(7, HEED_ISA_AUTO), *one = toy_context(1, HEED_ISA_AUTO);
    result x = tiles(many, &cut, &before[0], ~0u), y = tiles(s->ctx, &swept, &before[1], ~0u),
           z = tiles(one, &cut, &before[0], ~0u);

    assert_true(x.chunks > 8 && z.chunks == x.chunks && y.chunks <= 8);
    for (int k = 0; k < 4; k++) { /* dq, dk, dv and drow_rel of the first sequence */
        same_bytes(&cut, "cutting", &x.out[k], &y.out[k]);
        same_bytes(&cut, "one thread", &x.out[k], &z.out[k]);
    }
    for (int i = 0; i < 2; i++)
        result_free(&before[i]);
    result_free(&x);
    result_free(&y);
    result_free(&z);
    heed_context_free(many);
    heed_context_free(one);
}

static void rows_of_dq_do_not_depend_on_their_neighbours(void **state)
{
    const scratch *s = *state;
    const cell all = { "all", 1, 1, 1, 150, 150, 16, 16, .attrs = { ATTRS, .causal = true }, .row_size = 30 };
    cell few = all;
    result before = reference(s->ctx, &all), x = tiles(s->ctx, &all, &before, ~0u), y;

    few.tq = 77; /* offset 0 in both: the first queries */
    y = tiles(s->ctx, &few, &before, ~0u);
    for (int k = 0; k < 4; k += 3)
        same_bytes(&few, "fewer queries", &y.out[k], &x.out[k]);
    result_free(&before);
    result_free(&x);
    result_free(&y);
}

static void behind_the_lengths_gradients_are_zero(void **state)
{
    const scratch *s = *state;
    const cell c = { "lengths",      3, 2, 1, 70, 90, 12, 12, .attrs = { ATTRS }, .bias = { 3, 2, 70, 90 },
                     .lengths = true };
    result before = reference(s->ctx, &c), x = tiles(s->ctx, &c, &before, ~0u);

    for (int k = 0; k < 4; k++) {
        const heed_type *t = &x.out[k].type;
        const float *d = x.out[k].data;

        for (int64_t i = 0; i < heed_type_count(t); i++) {
            const int64_t width = t->dims[3], n_rows = t->dims[2], b = i / (t->dims[1] * n_rows * width),
                          row = i / width % n_rows, length = (int64_t)number_of(&c, AT_LENGTHS, b),
                          q_length = (int64_t)number_of(&c, AT_Q_LENGTHS, b);

            if (row >= (n_rows == 90 ? length : q_length) || (k == 3 && i % width >= length))
                assert_true(d[i] == 0);
        }
    }
    result_free(&before);
    result_free(&x);
}

static void every_level_agrees_with_the_composition(void **state)
{
    const scratch *s = *state;

    for (heed_isa isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        heed_context *ctx;

        if (!heed_isa_available(isa))
            continue;
        ctx = toy_context(1, isa);
        for (size_t i = 0; i < CELLS; i += 3) {
            result want = reference(s->ctx, &cells[i]), got = tiles(ctx, &cells[i], &want, ~0u);

            for (int k = 0; k < got.n; k++)
                close_to(cells[i].name, k, &got.out[k], &want.out[k + 2]);
            result_free(&want);
            result_free(&got);
        }
        heed_context_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_agrees_with_the_composition_in_f64),
        cmocka_unit_test(every_level_agrees_with_the_composition),
        cmocka_unit_test(neither_threads_nor_unwanted_outputs_change_a_byte),
        cmocka_unit_test(logits_of_ten_thousand_lose_no_digit_of_a_gradient),
        cmocka_unit_test(a_head_that_is_cut_has_the_bytes_of_one_that_is_swept),
        cmocka_unit_test(rows_of_dq_do_not_depend_on_their_neighbours),
        cmocka_unit_test(behind_the_lengths_gradients_are_zero),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
