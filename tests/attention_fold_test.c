/* Probes of a training graph out of its backward pass: the bytes of the second pass, which goes; gradients keep theirs. And the pass
 * that folds: what it takes, and what it leaves alone. */
#include "attention/attention.h"
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include "support/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- cells ---- */

enum { BIAS = 1, MASK = 2, BLOCK = 4, SEGMENTS = 8, LENGTHS = 16, GLOBALS = 32, SINK = 64, TEMPERATURE = 128, KEEP = 256 };

typedef struct cell {
    const char *name;
    int64_t b, hq, hk, tq, tk, d;
    heed_attention_spec spec;
    unsigned in;
} cell;

#define PLAIN { .mask.causal = false }
static const cell cells[] = {
    { "plain, odd sizes", 2, 2, 2, 131, 150, 24, PLAIN, 0 },
    { "grouped heads, causal", 1, 4, 2, 300, 300, 16, { .mask.causal = true }, 0 },
    { "one key head, offset", 1, 3, 1, 70, 140, 7, { .mask.causal = true, .offset = HEED_SET(70) }, 0 },
    { "a window", 1, 2, 2, 300, 300, 16, { .mask = { .causal = true, .window = { true, 70, -1 } } }, 0 },
    { "a narrow window", 2, 2, 2, 400, 400, 8, { .mask.window = { true, 3, 9 } }, 0 },
    { "blocks", 2, 2, 2, 200, 230, 16, { .mask.block = { 16, 24 } }, BLOCK },
    { "segments", 2, 2, 2, 150, 150, 8, { .mask.causal = true }, SEGMENTS },
    { "lengths, and a sequence without keys", 3, 2, 1, 200, 170, 12, { .mask.causal = true, .offset = HEED_SET(-5) }, LENGTHS },
    { "globals and a window", 1, 2, 2, 200, 200, 8, { .mask.window = { true, 5, 5 } }, GLOBALS },
    { "a stride", 1, 2, 2, 200, 200, 8, { .mask = { .causal = true, .stride = 19 } }, 0 },
    { "a mask", 2, 2, 2, 66, 190, 20, PLAIN, MASK },
    { "dropout", 1, 2, 2, 80, 230, 16, { .combine.dropout = { 0.3, "drop", HEED_SET(5) } }, 0 },
    { "dropout with given bits", 1, 2, 1, 80, 130, 16, { .combine.dropout.p = 0.3 }, KEEP },
    { "softcap and temperature", 1, 2, 1, 180, 130, 16, { .softcap = 3, .normaliser.temperature = HEED_SET(1.7f) }, 0 },
    { "all that is added and learned", 2, 4, 2, 140, 150, 20,
      { .position.alibi = true, .softcap = 2, .mask.causal = true, .offset = HEED_SET(10), .combine.dropout = { 0.1, "drop", HEED_SET(5) } },
      BIAS | SINK | TEMPERATURE | LENGTHS },
    { "few heads, long", 1, 2, 1, 500, 900, 32, { .mask.causal = true, .offset = HEED_SET(400) }, 0 },
    { "few heads, a bias of all", 1, 1, 1, 400, 420, 32, PLAIN, BIAS },
    { "one query", 2, 2, 1, 1, 70, 16, PLAIN, 0 },
    { "no keys", 2, 2, 1, 5, 0, 4, PLAIN, 0 },
    { "no queries", 2, 2, 1, 0, 7, 4, PLAIN, 0 },
    { "no sequences", 0, 2, 1, 5, 7, 4, PLAIN, 0 },
};
enum { CELLS = sizeof cells / sizeof *cells };

static const int64_t sizes[][2] = { { 64, 64 }, { 16, 16 }, { 7, 5 }, { 200, 300 }, { 1, 1 }, { 96, 100 } };
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- graphs ---- */

typedef struct asked {
    const cell *cell;
    int64_t pooled[2];
    bool probes, received, pools, gradients;
} asked;

static void build(heed_builder *b, void *user)
{
    static const char *const names[] = { "dq", "dk", "dv", "dbias" };
    const asked *a = user;
    const cell *c = a->cell;
    heed_attention_spec spec = c->spec;
    heed_value x[4] = { heed_input(b, "q", HEED_TYPE(HEED_F32, c->b, c->hq, c->tq, c->d)),
                        heed_input(b, "k", HEED_TYPE(HEED_F32, c->b, c->hk, c->tk, c->d)),
                        heed_input(b, "v", HEED_TYPE(HEED_F32, c->b, c->hk, c->tk, c->d)) },
               dout = heed_input(b, "dout", HEED_TYPE(HEED_F32, c->b, c->hq, c->tq, c->d)), d[4];
    heed_attended y;
    int n = 3;

#define GIVE(bit, slot, ...)                                                                                 \
    if (c->in & (bit))                                                                                       \
        spec.in.slot = heed_input(b, #slot, HEED_TYPE(__VA_ARGS__));
    GIVE(BIAS, bias, HEED_F32, 1, 1, c->tq, c->tk)
    GIVE(MASK, mask, HEED_BOOL, c->b, 1, c->tq, c->tk)
    GIVE(BLOCK, block_keep, HEED_BOOL, (c->tq + 15) / 16, (c->tk + 23) / 24)
    GIVE(SEGMENTS, q_seg, HEED_I64, c->b, c->tq)
    GIVE(SEGMENTS, k_seg, HEED_I64, c->b, c->tk)
    GIVE(LENGTHS, lengths, HEED_I64, c->b)
    GIVE(LENGTHS, q_lengths, HEED_I64, c->b)
    GIVE(GLOBALS, globals, HEED_I64, 2)
    GIVE(SINK, sink, HEED_F32, c->hq)
    GIVE(TEMPERATURE, temperature, HEED_F32, c->hq)
    GIVE(KEEP, dropout_keep, HEED_BOOL, c->b, c->hq, c->tq, c->tk)
    if (a->probes && a->pools)
        memcpy(spec.probe.pooled, a->pooled, sizeof spec.probe.pooled);
    spec.probe.received = a->probes && a->received;
    y = heed_attention(b, x[0], x[1], x[2], &spec);
    heed_output(b, "out", y.out);
    if (y.received.id)
        heed_output(b, "received", y.received);
    if (y.pooled.id)
        heed_output(b, "pooled", y.pooled);
    if (!a->gradients)
        return;
    if (spec.in.bias.id)
        x[n++] = spec.in.bias;
    heed_grad_of(b, &y.out, &dout, 1, x, n, d);
    for (int i = 0; i < n; i++)
        heed_output(b, names[i], d[i]);
}

static double number(const char *name, const cell *c, int64_t i)
{
    const uint32_t mixed = ((uint32_t)name[0] * 40503u + (uint32_t)strlen(name) * 977u + (uint32_t)i) * 2654435761u;
    const uint32_t twice = (mixed ^ mixed >> 15) * 2246822519u;
    const double x = (double)((twice ^ twice >> 13) >> 8) * 0x1p-23 - 1;

    if (strcmp(name, "lengths") == 0)
        return (double)(i == 1 ? 0 : c->tk - 3 - 7 * i);
    if (strcmp(name, "q_lengths") == 0)
        return (double)(c->tq - 40 * i);
    if (strcmp(name, "mask") == 0)
        return i / c->tk % 5 == 3 || x < -0.8 ? 0 : i % c->tk / 16 % 3 != 1;
    if (strcmp(name, "block_keep") == 0 || strcmp(name, "dropout_keep") == 0)
        return x < 0.4;
    if (strcmp(name, "q_seg") == 0 || strcmp(name, "k_seg") == 0)
        return (double)(i % 150 / 60);
    if (strcmp(name, "globals") == 0)
        return i ? 130 : 0;
    if (strcmp(name, "temperature") == 0)
        return 1.3 + 0.4 * x;
    return 2 * x;
}

static void fill(trial *t, const cell *c)
{
    for (int i = 0; i < t->n_in; i++) {
        const int64_t n = heed_type_count(&t->in[i].tensor.type);
        double *numbers = trial_memory((size_t)n, sizeof *numbers);

        for (int64_t k = 0; k < n; k++)
            numbers[k] = number(heed_plan_input_name(t->plan, i), c, k);
        trial_set(t, i, numbers);
        free(numbers);
    }
}

static int steps_of(const trial *t, const char *op)
{
    int n = 0;

    for (int64_t i = 0; i < heed_plan_steps(t->plan); i++)
        n += strcmp(heed_plan_step_at(t->plan, i).op, op) == 0;
    return n;
}

static void run(trial *t, asked *a, heed_context *ctx, heed_kernels kernels)
{
    TOY_OK(trial_open(t, ctx, build, a, &(heed_plan_opts){ .kernels = kernels }, TOY_ERR));
    fill(t, a->cell);
    TOY_OK(trial_run(t, TOY_ERR));
    assert_string_equal(t->broken, "");
}

static const guarded *output(const trial *t, const char *name)
{
    for (int i = 0; i < t->n_out; i++)
        if (strcmp(heed_plan_output_name(t->plan, i), name) == 0)
            return &t->out[i];
    return NULL;
}

/* What both put out. */
static void same_bytes(const asked *a, const char *what, const trial *x, const trial *y)
{
    int n = 0;

    for (int i = 0; i < x->n_out; i++) {
        const guarded *other = output(y, heed_plan_output_name(x->plan, i));

        if (!other)
            continue;
        n++;
        if (other->bytes != x->out[i].bytes ||
            memcmp(other->tensor.data, x->out[i].tensor.data, other->bytes) != 0)
            fail_msg("%s, pooled %lld x %lld: %s changes %s", a->cell->name, (long long)a->pooled[0],
                     (long long)a->pooled[1], what, heed_plan_output_name(x->plan, i));
    }
    assert_true(n > 1);
}

/* ---- bytes ---- */

static void compare(asked a, heed_context *ctx, const trial *bare)
{
    trial folded, second;

    a.gradients = a.probes = true;
    run(&folded, &a, ctx, HEED_KERNELS_FAST);
    a.gradients = false;
    run(&second, &a, ctx, HEED_KERNELS_FAST);
    assert_int_equal(steps_of(&second, "attention_probe"), 1);
    if (steps_of(&folded, "attention_probe") != 0 || steps_of(&folded, "attention_grad") != 1)
        fail_msg("%s: the probes are not folded", a.cell->name);
    same_bytes(&a, "folding", &second, &folded);
    same_bytes(&a, "a probe", bare, &folded);
    trial_close(&folded);
    trial_close(&second);
}

static void folded_probes_have_the_bytes_of_a_second_pass_on_every_level(void **state)
{
    (void)state;
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        heed_context *ctx = heed_isa_available((heed_isa)isa) ? toy_context(2, (heed_isa)isa) : NULL;

        for (int c = 0; ctx && c < CELLS; c++) {
            asked a = { .cell = &cells[c], .gradients = true };
            trial bare;

            run(&bare, &a, ctx, HEED_KERNELS_FAST);
            for (int s = 0; s < SIZES; s++) {
                memcpy(a.pooled, sizes[s], sizeof a.pooled);
                a.pools = true;
                a.received = s % 2 == 0;
                compare(a, ctx, &bare);
            }
            a.pools = false;
            a.received = true;
            compare(a, ctx, &bare);
            trial_close(&bare);
        }
        heed_context_free(ctx);
    }
}

static void threads_change_no_byte_of_folded_probes(void **state)
{
    static const int threads[] = { 2, 7 };
    heed_context *one = toy_context(1, HEED_ISA_AUTO);

    (void)state;
    for (size_t n = 0; n < sizeof threads / sizeof *threads; n++) {
        heed_context *many = toy_context(threads[n], HEED_ISA_AUTO);

        for (int c = 0; c < CELLS; c++)
            for (int s = 0; s < SIZES; s += 2) {
                asked a = { &cells[c], { sizes[s][0], sizes[s][1] }, true, true, true, true };
                trial x, y;

                run(&x, &a, one, HEED_KERNELS_FAST);
                run(&y, &a, many, HEED_KERNELS_FAST);
                same_bytes(&a, "another number of threads", &x, &y);
                trial_close(&x);
                trial_close(&y);
            }
        heed_context_free(many);
    }
    heed_context_free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_probes_have_the_bytes_of_a_second_pass_on_every_level),
        cmocka_unit_test(threads_change_no_byte_of_folded_probes),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
