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

/* ---- which pairs fold ---- */

#define TOKENS 150
#define HEADS 2

/* One attention by its core, so that it can be probed more than once. */
typedef struct told {
    heed_value in[AT_CORE_INPUTS], out[AT_OUTPUTS];
    attention_attrs attrs;
} told;

static told tell(heed_builder *b, const char *q, heed_value k)
{
    told t = { .attrs = { .scale = 0.4, .temperature = 1, .causal = true } };

    t.in[AT_Q] = heed_input(b, q, HEED_TYPE(HEED_F32, 2, HEADS, TOKENS, 8));
    t.in[AT_K] = t.in[AT_V] = k;
    heed__attention_core(b, &t.attrs, t.in, t.out);
    return t;
}

static void probe(heed_builder *b, told *t, int64_t pooled, heed_value to[AT_PROBE_OUTPUTS])
{
    t->attrs.pooled_q = t->attrs.pooled_k = pooled;
    heed__attention_probe(b, &t->attrs, t->in, t->out, to);
}

static void put_gradient(heed_builder *b, const char *name, const told *t, heed_value dout)
{
    heed_value d;

    heed_grad_of(b, &t->out[AT_GET_OUT], &dout, 1, &t->in[AT_Q], 1, &d);
    heed_output(b, name, d);
}

/* One number of a probe. */
static heed_value size_of(heed_builder *b, heed_value x)
{
    return heed_mean(b, x, (1u << heed_value_type(b, x).rank) - 1, HEED_KEEP_AXES);
}

typedef struct given {
    heed_value k, dout;
} given;

static given give(heed_builder *b)
{
    given g = { heed_input(b, "k", HEED_TYPE(HEED_F32, 2, HEADS, TOKENS, 8)),
                heed_input(b, "dout", HEED_TYPE(HEED_F32, 2, HEADS, TOKENS, 8)) };

    return g;
}

static heed_value scaled(heed_builder *b, heed_value x, heed_value by)
{
    return heed_mul(b, x, heed_reshape(b, size_of(b, by), 4, (const int64_t[]){ 1, 1, 1, 1 }));
}

static void users_in_front(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS], twice;

    (void)user;
    probe(b, &t, 16, x);
    twice = heed_add(b, x[AT_GET_RECEIVED], x[AT_GET_RECEIVED]);
    heed_output(b, "twice", twice);
    heed_tap(b, "tapped", x[AT_GET_POOLED]);
    heed_output(b, "size", size_of(b, heed_exp(b, twice)));
    put_gradient(b, "dq", &t, g.dout);
}

static void two_probes(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS], y[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    probe(b, &t, 0, y);
    heed_output(b, "pooled", x[AT_GET_POOLED]);
    heed_output(b, "received", y[AT_GET_RECEIVED]);
    heed_output(b, "received again", x[AT_GET_RECEIVED]);
    put_gradient(b, "dq", &t, g.dout);
}

static void two_sizes(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS], y[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    probe(b, &t, 50, y);
    heed_output(b, "pooled", x[AT_GET_POOLED]);
    heed_output(b, "pooled larger", y[AT_GET_POOLED]);
    put_gradient(b, "dq", &t, g.dout);
}

static void two_gradients(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    heed_output(b, "received", x[AT_GET_RECEIVED]);
    put_gradient(b, "dq", &t, g.dout);
    put_gradient(b, "dq of more", &t, heed_exp(b, g.dout));
}

static void gradient_that_waits(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    put_gradient(b, "dq", &t, scaled(b, g.dout, x[AT_GET_RECEIVED]));
}

/* The second of two gradients needs the probe; the first does not, and takes it. */
static void one_of_two_waits(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    put_gradient(b, "dq of more", &t, scaled(b, g.dout, x[AT_GET_POOLED]));
    put_gradient(b, "dq", &t, g.dout);
}

/* Each gradient needs the probe of the other: one of them can fold. */
static void crossed(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k), u = tell(b, "q2", g.k);
    heed_value x[AT_PROBE_OUTPUTS], y[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    probe(b, &u, 16, y);
    put_gradient(b, "dq", &t, scaled(b, g.dout, y[AT_GET_RECEIVED]));
    put_gradient(b, "dq2", &u, scaled(b, g.dout, x[AT_GET_RECEIVED]));
}

/* A gradient waits for a probe that another gradient gives, and gives one that an earlier node waits for. */
static void in_a_row(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k), u = tell(b, "q2", g.k);
    heed_value x[AT_PROBE_OUTPUTS], y[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    probe(b, &u, 16, y);
    heed_output(b, "last", heed_exp(b, y[AT_GET_POOLED]));
    put_gradient(b, "dq2", &u, scaled(b, g.dout, x[AT_GET_RECEIVED]));
    put_gradient(b, "dq", &t, g.dout);
}

static void mean_beside(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    probe(b, &t, 16, x);
    heed_output(b, "received", x[AT_GET_RECEIVED]);
    heed_output(b, "mean", x[AT_GET_MEAN]);
    put_gradient(b, "dq", &t, g.dout);
}

static void other_attention(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k), u = t;
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    u.attrs.softcap = 2;
    heed__attention_core(b, &u.attrs, u.in, u.out);
    probe(b, &u, 16, x);
    heed_output(b, "received", x[AT_GET_RECEIVED]);
    put_gradient(b, "dq", &t, g.dout);
}

static void other_kernel(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = { .attrs = { .scale = 0.4, .temperature = 1, .normaliser = HEED_NORMALISER_SPARSEMAX } };
    heed_value x[AT_PROBE_OUTPUTS];

    (void)user;
    t.in[AT_Q] = g.dout;
    t.in[AT_K] = t.in[AT_V] = g.k;
    heed__attention_core(b, &t.attrs, t.in, t.out);
    t.attrs.pooled_q = t.attrs.pooled_k = 16;
    heed__attention_probe(b, &t.attrs, t.in, t.out, x);
    heed_output(b, "received", x[AT_GET_RECEIVED]);
    put_gradient(b, "dq", &t, g.dout);
}

/* A loss of a probe differentiates the weights. */
static void loss_of_a_probe(heed_builder *b, void *user)
{
    const given g = give(b);
    told t = tell(b, "q", g.k);
    heed_value x[AT_PROBE_OUTPUTS], loss, d[2];

    (void)user;
    probe(b, &t, 16, x);
    loss = heed_add(b, heed_mean(b, heed_mul(b, t.out[AT_GET_OUT], g.dout), 15, HEED_DROP_AXES),
                    heed_mean(b, heed_mul(b, x[AT_GET_RECEIVED], x[AT_GET_RECEIVED]), 7, HEED_DROP_AXES));
    heed_output(b, "loss", loss);
    heed_grad(b, loss, (const heed_value[]){ t.in[AT_Q], g.k }, 2, d);
    heed_output(b, "dq", d[0]);
    heed_output(b, "dk", d[1]);
}

static const struct graph {
    const char *name;
    trial_build *build;
    int probes; /* nodes that stay */
} graphs[] = {
    { "users in front", users_in_front, 0 },
    { "two probes", two_probes, 0 },
    { "two sizes", two_sizes, 1 },
    { "two gradients", two_gradients, 0 },
    { "a gradient that waits", gradient_that_waits, 1 },
    { "one of two gradients waits", one_of_two_waits, 0 },
    { "crossed", crossed, 1 },
    { "in a row", in_a_row, 0 },
    { "a mean beside them", mean_beside, 1 },
    { "the probe of another attention", other_attention, 1 },
    { "another kernel", other_kernel, 1 },
    { "a loss of a probe", loss_of_a_probe, 0 }, /* its own gradient is composed; what comes from out is not */
};
enum { GRAPHS = sizeof graphs / sizeof *graphs };

static void only_what_backward_can_give_is_folded(void **state)
{
    static const char *const all[] = { "*", NULL };
    const scratch *s = *state;
    const cell c = { "graph", 2, HEADS, HEADS, TOKENS, TOKENS, 8, PLAIN, 0 };

    for (int i = 0; i < GRAPHS; i++) {
        const char *const *taps = graphs[i].build == users_in_front ? all : NULL;
        trial got, want;

        TOY_OK(trial_open(&want, s->ctx, graphs[i].build, NULL,
                          &(heed_plan_opts){ .kernels = HEED_KERNELS_REFERENCE, .taps = taps }, TOY_ERR));
        TOY_OK(trial_open(&got, s->ctx, graphs[i].build, NULL, &(heed_plan_opts){ .taps = taps }, TOY_ERR));
        fill(&want, &c);
        fill(&got, &c);
        TOY_OK(trial_run(&want, TOY_ERR));
        TOY_OK(trial_run(&got, TOY_ERR));
        assert_string_equal(got.broken, "");
        if (steps_of(&got, "attention_probe") != graphs[i].probes)
            fail_msg("%s: %d probes stay, not %d", graphs[i].name, steps_of(&got, "attention_probe"),
                     graphs[i].probes);
        assert_int_equal(got.n_out, want.n_out);
        for (int k = 0; k < got.n_out; k++) {
            const float *x = got.out[k].tensor.data, *y = want.out[k].tensor.data;
            float most = 0;

            assert_string_equal(heed_plan_output_name(got.plan, k), heed_plan_output_name(want.plan, k));
            for (int64_t e = 0; e < heed_type_count(&want.out[k].tensor.type); e++)
                most = fmaxf(most, fabsf(y[e]));
            for (int64_t e = 0; e < heed_type_count(&want.out[k].tensor.type); e++)
                if (!(fabsf(x[e] - y[e]) <= 2e-4f * most))
                    fail_msg("%s: %s[%lld] is %g, not %g", graphs[i].name, heed_plan_output_name(got.plan, k),
                             (long long)e, (double)x[e], (double)y[e]);
        }
        trial_close(&got);
        trial_close(&want);
    }
}

/* ---- failures ---- */

static heed_status plan_all(heed_context *ctx, void *user, heed_error *err)
{
    (void)user;
    for (int i = 0; i < GRAPHS; i += 7) { /* users in front, in a row */
        heed_builder *b = NULL;
        heed_graph *g = NULL;
        heed_plan *p = NULL;
        heed_status st = heed_builder_new(&b, ctx, err);

        if (st == HEED_OK) {
            graphs[i].build(b, NULL);
            st = heed_builder_finish(&g, b, err);
        }
        if (st == HEED_OK)
            st = heed_plan_new(&p, ctx, g, NULL, err);
        heed_plan_free(p);
        heed_graph_free(g);
        heed_builder_free(b);
        if (st != HEED_OK)
            return st;
    }
    return HEED_OK;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "folding probes", .run = plan_all };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_probes_have_the_bytes_of_a_second_pass_on_every_level),
        cmocka_unit_test(threads_change_no_byte_of_folded_probes),
        cmocka_unit_test(only_what_backward_can_give_is_folded),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
