/* The KV cache: however a sequence is cut into runs, and whoever else is in the batch, its rows have the
 * bytes of one causal pass; rings have its numbers. Steps make no heap call, copy no cache, and a run that
 * fails has appended nothing. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "base/context.h"
#include "base/rng.h"
#include "plan/plan.h"
#include <heed/nn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 3
#define LONGEST 150 /* three tiles of keys, the last in part */
#define VOCAB 23
#define WIDTH 24
#define LAYERS 2

static const int64_t lengths[BATCH] = { 150, 64, 97 };

/* ---- two decoders ---- */

/* What the descriptor says besides being causal. */
typedef enum position_terms {
    PLAIN = 0,
    ROPE,
    ROPE_AND_WINDOW,
    ALIBI,
    T5_AND_SOFTCAP,
    SHAW,
    TERMS
} position_terms;

typedef struct shape {
    int64_t batch, rows;   /* of tokens */
    int64_t capacity;      /* 0: no cache, one causal pass */
    int64_t window, sinks; /* of the ring, or of the pass */
    bool grouped;          /* four query heads on two key heads, and no feed-forward part */
    position_terms terms;  /* of grouped ones */
    const char *broken;    /* what is built wrongly */
    bool checked;          /* logits that are not finite end the run */
} shape;

static heed_value heads_of(heed_builder *b, const char *name, heed_value x, int64_t heads)
{
    x = heed_linear(b, name, x, heads * 6, NULL);
    x = heed_reshape(b, x, 4, (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), heads, 6 });
    return heed_transpose(b, x, 1, 2);
}

static heed_value grouped_layer(heed_builder *b, const char *name, heed_value x, const heed_kv_cache *cache,
                                heed_attention_spec spec)
{
    const heed_init normal = { .kind = HEED_INIT_NORMAL, .b = 1 };
    heed_value h, q, k, v;

    heed_scope_push(b, name);
    h = heed_rms_norm_layer(b, "norm", x, NULL);
    q = heads_of(b, "q", h, 4);
    k = heads_of(b, "k", h, 2);
    v = heads_of(b, "v", h, 2);
    if (spec.position.t5.kind != HEED_T5_OFF)
        spec.in.t5_table = heed_param(b, "t5", HEED_TYPE(HEED_F32, 8, 4), &normal);
    if (spec.score.kind == HEED_SCORE_DOT)
        spec.in.shaw_k = heed_param(b, "shaw", HEED_TYPE(HEED_F32, 11, 6), &normal);
    h = cache ? heed_kv_cache_attend(b, cache, "attn", q, k, v, &spec).out
              : heed_attention(b, q, k, v, &spec).out;
    h = heed_transpose(b, h, 1, 2);
    h = heed_reshape(b, h, 3, (int64_t[]){ heed_dim(b, x, 0), heed_dim(b, x, 1), WIDTH });
    x = heed_add(b, x, heed_linear(b, "out", h, WIDTH, NULL));
    heed_scope_pop(b);
    return x;
}

static heed_attention_spec spec_of(const shape *s)
{
    static const heed_attention_spec of[TERMS] = {
        [ROPE] = { .position.rope = { .on = true, .factor = HEED_SET(2) } },
        [ROPE_AND_WINDOW] = { .position.rope = { .on = true, .dims = HEED_SET(4), .interleaved = true },
                              .mask.window = { .on = true, .left = 30, .right = 0 } },
        [ALIBI] = { .position.alibi = true },
        [T5_AND_SOFTCAP] = { .position.t5 = { HEED_T5_UNIDIRECTIONAL, HEED_SET(40) }, .softcap = 3 },
        [SHAW] = { .score.kind = HEED_SCORE_DOT },
    };
    heed_attention_spec spec = of[s->terms];

    spec.mask.causal = s->capacity == 0;
    return spec;
}

/* What a full pass keeps of a ring's window: j <= i and (j > i - window or j < sinks). */
static heed_value window_mask(heed_builder *b, const shape *s)
{
    static bool keep[LONGEST * LONGEST];

    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->rows; j++)
            keep[i * s->rows + j] = j <= i && (j > i - s->window || j < s->sinks);
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_BOOL, 1, 1, s->rows, s->rows), keep });
}

static void build(heed_builder *b, const shape *s)
{
    heed_value tokens = heed_input(b, "tokens", HEED_TYPE(HEED_I64, s->batch, s->rows)), positions, x;
    heed_attention_spec spec = spec_of(s);
    heed_kv_cache cache = { 0 };

    if (s->capacity > 0) {
        heed_kv_cache_opts opts = { .window = s->window, .sinks = s->sinks };

        opts.new_lengths = heed_input(b, "new", HEED_TYPE(HEED_I64, s->batch));
        cache = heed_kv_cache_open(b, "decoder", s->batch, s->rows, s->capacity, &opts);
        positions = cache.positions;
    } else {
        positions = heed_iota(b, HEED_TYPE(HEED_I64, 1, s->rows), 1);
        if (s->window > 0)
            spec.in.mask = window_mask(b, s);
    }
    x = heed_add(b, heed_embedding(b, "embed", tokens, VOCAB, WIDTH, NULL),
                 heed_embedding(b, "place", positions, LONGEST, WIDTH, NULL));
    for (int i = 0; i < LAYERS; i++) {
        const heed_kv_cache *use = s->capacity > 0 ? &cache : NULL;
        char name[16];

        snprintf(name, sizeof name, "layers.%d", i);
        x = s->grouped ? grouped_layer(b, name, x, use, spec)
                       : heed_encoder_layer(b, name, x, 4,
                                            &(heed_encoder_layer_opts){ .feedforward = 40,
                                                                        .norm = HEED_PRE_NORM,
                                                                        .activation = HEED_GELU,
                                                                        .spec = spec,
                                                                        .cache = use });
    }
    x = heed_linear(b, "head", x, VOCAB, NULL);
    heed_output(b, "logits", s->checked ? heed_check_finite(b, x) : x);
}

/* ---- plans over one store ---- */

#define PLANS 8

typedef struct rig {
    heed_context *ctx;
    heed_weights *weights;
    heed_session *session;
    heed_plan *plan[PLANS];
    shape shape[PLANS];
    int id[PLANS], n;
} rig;

static void rig_open(rig *r, int threads, heed_isa isa)
{
    *r = (rig){ 0 };
    assert_int_equal(heed_context_new(&r->ctx, &(heed_context_opts){ .threads = threads, .isa = isa }, NULL),
                     HEED_OK);
    assert_int_equal(heed_weights_new(&r->weights, r->ctx, NULL), HEED_OK);
    assert_int_equal(
        heed_session_new(&r->session, r->ctx, r->weights, &(heed_session_opts){ .seed = 3 }, NULL), HEED_OK);
}

static void rig_close(rig *r)
{
    heed_session_free(r->session);
    for (int i = 0; i < r->n; i++)
        heed_plan_free(r->plan[i]);
    heed_weights_free(r->weights);
    heed_context_free(r->ctx);
}

/* The plan of this shape, made when it is new. */
static int plan_of(rig *r, const shape *s)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_error err = { 0 };

    for (int i = 0; i < r->n; i++)
        if (memcmp(&r->shape[i], s, sizeof *s) == 0)
            return i;
    assert_true(r->n < PLANS);
    assert_int_equal(heed_builder_new(&b, r->ctx, &err), HEED_OK);
    build(b, s);
    if (heed_builder_finish(&g, b, &err) != HEED_OK ||
        heed_plan_new(&r->plan[r->n], r->ctx, g, NULL, &err) != HEED_OK)
        fail_msg("%s: %s", err.path, err.text);
    heed_builder_free(b);
    heed_graph_free(g);
    r->shape[r->n] = *s;
    r->n++;
    if (heed_session_add(r->session, r->plan[r->n - 1], &r->id[r->n - 1], &err) != HEED_OK)
        fail_msg("%s", err.text);
    return r->n - 1;
}

static heed_status try_run(rig *r, const shape *s, const int64_t *tokens, const int64_t *news, float *logits,
                           heed_error *err)
{
    const int at = plan_of(r, s);
    const heed_tensor in[] = { { HEED_TYPE(HEED_I64, s->batch, s->rows), (void *)(uintptr_t)tokens },
                               { HEED_TYPE(HEED_I64, s->batch), (void *)(uintptr_t)news } };

    return heed_session_run(r->session, r->id[at], in, s->capacity > 0 ? 2 : 1,
                            &(heed_tensor){ HEED_TYPE(HEED_F32, s->batch, s->rows, VOCAB), logits }, 1, err);
}

static void run(rig *r, const shape *s, const int64_t *tokens, const int64_t *news, float *logits)
{
    heed_error err = { 0 };

    if (try_run(r, s, tokens, news, logits, &err) != HEED_OK)
        fail_msg("%s: %s", err.path, err.text);
}

/* ---- a text for each sequence, and the ways through it ---- */

static int64_t token(int64_t sequence, int64_t position)
{
    const rng r = heed__rng(1, (uint32_t)sequence, "kv_cache_test");

    return heed__rng_word(&r, 0, (uint32_t)position) % VOCAB;
}

typedef float row[VOCAB];
typedef row text_rows[LONGEST]; /* logits of one sequence */

/* One pass over all sequences of the batch. */
static void pass(rig *r, shape s, text_rows *to)
{
    static int64_t tokens[BATCH * LONGEST];

    s.batch = BATCH;
    s.rows = LONGEST;
    for (int64_t i = 0; i < BATCH * LONGEST; i++)
        tokens[i] = token(i / LONGEST, i % LONGEST);
    run(r, &s, tokens, NULL, (float *)to);
}

/* One run of `rows` rows: sequence b gives its next news[b] tokens, and rubbish behind. */
static void feed(rig *r, shape s, int64_t rows_n, const int64_t *which, const int64_t *news, text_rows *to)
{
    static int64_t tokens[BATCH * LONGEST];
    static float logits[BATCH * LONGEST * VOCAB];
    int64_t had[BATCH];

    s.rows = rows_n;
    plan_of(r, &s);
    for (int64_t b = 0; b < s.batch; b++) {
        had[b] = heed_kv_cache_length(r->weights, "decoder", b);
        for (int64_t i = 0; i < rows_n; i++)
            tokens[b * rows_n + i] = i < news[b] ? token(which[b], had[b] + i) : (i * 7 + b) % VOCAB;
    }
    run(r, &s, tokens, news, logits);
    for (int64_t b = 0; b < s.batch; b++) {
        assert_int_equal(heed_kv_cache_length(r->weights, "decoder", b), had[b] + news[b]);
        memcpy(to[b][had[b]], &logits[b * rows_n * VOCAB], (size_t)news[b] * sizeof(row));
    }
}

static const int64_t everyone[BATCH] = { 0, 1, 2 };

/* Prompts of unequal length in two chunks, then single steps until each text ends. */
static void decode(rig *r, const shape *s, text_rows *to)
{
    feed(r, *s, 40, everyone, (int64_t[]){ 40, 17, 33 }, to);
    feed(r, *s, 40, everyone, (int64_t[]){ 25, 40, 0 }, to);
    for (int64_t left = LONGEST; left > 0;) {
        int64_t news[BATCH];

        left = 0;
        for (int64_t b = 0; b < BATCH; b++) {
            const int64_t rest = lengths[b] - heed_kv_cache_length(r->weights, "decoder", b);

            news[b] = rest > 0;
            left = rest > left ? rest : left;
        }
        if (left > 0)
            feed(r, *s, 1, everyone, news, to);
    }
}

static text_rows whole[BATCH], stepped[BATCH];

static void same_rows(const text_rows *got, const text_rows *want, int64_t b, int64_t of)
{
    for (int64_t i = 0; i < lengths[of]; i++)
        if (memcmp(got[b][i], want[of][i], sizeof(row)) != 0)
            fail_msg("sequence %d, row %d has other bytes: %.9g and %.9g", (int)of, (int)i,
                     (double)got[b][i][0], (double)want[of][i][0]);
}

/* ---- append ---- */

static void steps_have_the_bytes_of(bool grouped, position_terms terms)
{
    static const int threads[] = { 1, 2, 7 };
    const shape s = { .batch = BATCH, .capacity = 160, .grouped = grouped, .terms = terms };

    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        if (!heed_isa_available((heed_isa)isa))
            continue;
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            rig r;

            rig_open(&r, threads[t], (heed_isa)isa);
            pass(&r, (shape){ .grouped = grouped, .terms = terms }, whole);
            memset(stepped, 0, sizeof stepped);
            decode(&r, &s, stepped);
            for (int64_t b = 0; b < BATCH; b++)
                same_rows(stepped, whole, b, b);
            rig_close(&r);
        }
    }
}

static void prompts_and_steps_have_the_bytes_of_one_causal_pass(void **state)
{
    (void)state;
    steps_have_the_bytes_of(false, PLAIN);
}

static void grouped_heads_too(void **state)
{
    (void)state;
    steps_have_the_bytes_of(true, PLAIN);
}

static void rows_turned_once_too(void **state)
{
    (void)state;
    steps_have_the_bytes_of(true, ROPE);
    steps_have_the_bytes_of(true, ROPE_AND_WINDOW);
}

static void near_rows(const text_rows *got, const text_rows *want, const char *what);

/* Composed of primitives, sums over keys are cut by their number: there the numbers agree, not the bytes. */
static void steps_have_the_numbers_of_a_pass_under_every_position_term(void **state)
{
    static const char *const names[TERMS] = {
        "plain", "rope", "rope, window", "alibi", "t5, softcap", "shaw"
    };

    (void)state;
    for (int t = 0; t < TERMS; t++) {
        rig r;

        rig_open(&r, 2, HEED_ISA_AUTO);
        pass(&r, (shape){ .grouped = true, .terms = (position_terms)t }, whole);
        decode(&r, &(shape){ .batch = BATCH, .capacity = 160, .grouped = true, .terms = (position_terms)t },
               stepped);
        near_rows(stepped, whole, names[t]);
        rig_close(&r);
    }
}

static void a_sequence_in_a_batch_has_the_bytes_it_has_alone(void **state)
{
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    pass(&r, (shape){ 0 }, whole);
    rig_close(&r);
    for (int64_t b = 0; b < BATCH; b++) {
        const shape s = { .batch = 1, .capacity = LONGEST };

        rig_open(&r, 2, HEED_ISA_AUTO);
        for (int64_t at = 0; at < lengths[b]; at += 30)
            feed(&r, s, 30, &b, (int64_t[]){ lengths[b] - at < 30 ? lengths[b] - at : 30 }, stepped);
        same_rows(stepped, whole, 0, b);
        rig_close(&r);
    }
}

static void a_sequence_may_begin_again_while_others_go_on(void **state)
{
    const shape s = { .batch = BATCH, .capacity = 160 };
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    pass(&r, (shape){ 0 }, whole);
    feed(&r, s, 40, everyone, (int64_t[]){ 40, 30, 20 }, stepped);
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 1, 0, NULL), HEED_OK);
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 2, 11, NULL), HEED_OK);
    memset(stepped[1], 0, sizeof stepped[1]);
    feed(&r, s, 40, (int64_t[]){ 0, 2, 2 }, (int64_t[]){ 3, 37, 6 }, stepped);
    assert_memory_equal(stepped[0], whole[0], 43 * sizeof(row));
    assert_memory_equal(stepped[1], whole[2], 37 * sizeof(row)); /* another text in the place of the second */
    assert_memory_equal(stepped[2], whole[2], 17 * sizeof(row));
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", HEED_EVERY_SEQUENCE, 0, NULL), HEED_OK);
    decode(&r, &s, stepped);
    for (int64_t b = 0; b < BATCH; b++)
        same_rows(stepped, whole, b, b);
    rig_close(&r);
}

static void a_cache_can_be_saved_and_gone_on_with(void **state)
{
    const shape s = { .batch = BATCH, .capacity = 160 };
    rig r, other;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    pass(&r, (shape){ 0 }, whole);
    feed(&r, s, 40, everyone, (int64_t[]){ 40, 30, 20 }, stepped);
    rig_open(&other, 2, HEED_ISA_AUTO);
    for (int64_t i = 0; i < heed_weights_count(r.weights); i++) {
        const char *name = NULL;
        const heed_tensor x = heed_weights_at(r.weights, i, &name);

        assert_int_equal(heed_weights_in_model(name), strncmp(name, "kv_cache.", 9) != 0);
        assert_int_equal(heed_weights_put(other.weights, name, x, NULL), HEED_OK);
    }
    assert_int_equal(heed_kv_cache_length(other.weights, "decoder", 1), 30);
    decode(&other, &s, stepped);
    for (int64_t b = 0; b < BATCH; b++)
        assert_memory_equal(stepped[b][lengths[b] - 1], whole[b][lengths[b] - 1], sizeof(row));
    rig_close(&other);
    rig_close(&r);
}

/* ---- ring ---- */

static void near_rows(const text_rows *got, const text_rows *want, const char *what)
{
    double worst = 0;

    for (int64_t b = 0; b < BATCH; b++)
        for (int64_t i = 0; i < lengths[b]; i++)
            for (int c = 0; c < VOCAB; c++) {
                const double w = (double)want[b][i][c],
                             off = fabs((double)got[b][i][c] - w) / (1e-5 + 1e-4 * fabs(w));

                if (!(off <= 1))
                    fail_msg("sequence %d, row %d: %.9g, not %.9g", (int)b, (int)i, (double)got[b][i][c], w);
                worst = off > worst ? off : worst;
            }
    print_message("%-12s %.2g of the tolerance\n", what, worst);
}

static void a_ring_gives_the_numbers_of_a_window_and_sinks(void **state)
{
    static const shape rings[] = {
        { .batch = BATCH, .window = 20, .sinks = 4, .capacity = 63 },
        { .batch = BATCH, .window = 70, .sinks = 0, .capacity = 109, .grouped = true, .terms = ROPE },
        { .batch = BATCH, .window = 20, .sinks = 4, .capacity = 63, .grouped = true, .terms = ALIBI },
        { .batch = BATCH, .window = 70, .sinks = 1, .capacity = 110, .grouped = true, .terms = T5_AND_SOFTCAP },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rings / sizeof *rings; i++) {
        shape whole_ring = rings[i];
        rig r;

        rig_open(&r, 2, HEED_ISA_AUTO);
        whole_ring.batch = whole_ring.capacity = 0;
        pass(&r, whole_ring, whole);
        decode(&r, &rings[i], stepped);
        near_rows(stepped, whole, "ring");
        assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", HEED_EVERY_SEQUENCE, 0, NULL), HEED_OK);
        memset(stepped, 0, sizeof stepped);
        decode(&r, &rings[i], stepped); /* over what the first time left */
        near_rows(stepped, whole, "ring");
        rig_close(&r);
        memcpy(whole, stepped, sizeof whole);
        rig_open(&r, 7, HEED_ISA_AUTO);
        decode(&r, &rings[i], stepped);
        for (int64_t b = 0; b < BATCH; b++)
            same_rows(stepped, whole, b, b);
        rig_close(&r);
    }
}

static void what_a_dead_sequence_left_in_a_ring_reaches_nobody(void **state)
{
    const shape s = { .batch = BATCH, .window = 20, .sinks = 4, .capacity = 63 };
    heed_tensor v;
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    pass(&r, (shape){ .window = 20, .sinks = 4 }, whole);
    decode(&r, &s, stepped);
    v = heed_weights_find(r.weights, "kv_cache.layers.0.self_attn.v");
    assert_non_null(v.data);
    for (int64_t i = 0; i < heed_type_count(&v.type); i++)
        ((float *)v.data)[i] = NAN;
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", HEED_EVERY_SEQUENCE, 0, NULL), HEED_OK);
    decode(&r, &s, stepped);
    near_rows(stepped, whole, "ring");
    rig_close(&r);
}

static void a_ring_that_has_turned_cannot_be_rewound_but_to_nothing(void **state)
{
    const shape s = { .batch = BATCH, .window = 20, .sinks = 4, .capacity = 63 };
    heed_error err = { 0 };
    rig r;

    (void)state;
    rig_open(&r, 1, HEED_ISA_AUTO);
    pass(&r, (shape){ .window = 20, .sinks = 4 }, whole);
    feed(&r, s, 40, everyone, (int64_t[]){ 40, 40, 40 }, stepped);
    feed(&r, s, 40, everyone, (int64_t[]){ 23, 24, 0 }, stepped);
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 0, 62, &err),
                     HEED_OK); /* full, nothing lost */
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 1, 64, NULL), HEED_OK);
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", HEED_EVERY_SEQUENCE, 39, &err),
                     HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "sequence 1 cannot be rewound to 39"));
    assert_int_equal(heed_kv_cache_length(r.weights, "decoder", 0), 62); /* all or none */
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 1, 0, NULL), HEED_OK);
    feed(&r, s, 1, everyone, (int64_t[]){ 1, 1, 1 }, stepped);
    for (int c = 0; c < VOCAB; c++)
        assert_true(fabsf(stepped[0][62][c] - whole[0][62][c]) < 1e-4f);
    rig_close(&r);
}

/* ---- what a step costs ---- */

static void a_step_writes_its_rows_and_copies_no_cache(void **state)
{
    static const shape steps[] = {
        { .batch = BATCH, .rows = 1, .capacity = 2048 },
        { .batch = BATCH, .rows = 1, .capacity = 2048, .grouped = true },
        { .batch = BATCH, .rows = 1, .capacity = 2048, .window = 1000, .sinks = 4 },
        { .batch = BATCH, .rows = 1, .capacity = 2048, .checked = true },
    };
    enum { ROOM = 100 << 10 }; /* for masks of a ring; a cache of the smallest has 288 KiB */
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const heed_plan *p, *less;
        shape small = steps[i];
        int appends = 0;
        rig r, other;

        rig_open(&r, 2, HEED_ISA_AUTO);
        rig_open(&other, 2, HEED_ISA_AUTO);
        p = r.plan[plan_of(&r, &steps[i])];
        for (uint32_t k = 0; k < p->n_steps; k++) {
            const step *t = &p->steps[k];

            if (strcmp(t->op->name, "put_rows") == 0) { /* y lies over x: what is written is the update */
                assert_true(t->in_place);
                assert_true(heed__step_bytes(t) <= 2 * BATCH * (WIDTH * sizeof(float) + sizeof(int64_t)));
                assert_int_equal(p->storages[heed__storage_root(p, t->out[0].storage)].kind, STORAGE_WEIGHT);
                appends++;
            } else if (strcmp(t->op->name, "copy") == 0 && t->chunks > 0) { /* lengths may be */
                assert_true(heed__step_bytes(t) <= 2 * BATCH * sizeof(int64_t));
            }
        }
        assert_int_equal(appends, 2 * LAYERS + (steps[i].window > 0));
        small.capacity = small.window ? 80 : 64;
        small.window = small.window ? 70 : 0;
        less = other.plan[plan_of(&other, &small)];
        assert_true(heed_plan_describe(p).block_bytes < heed_plan_describe(less).block_bytes + ROOM);
        rig_close(&other);
        rig_close(&r);
    }
}

static void a_step_makes_no_heap_call(void **state)
{
    const shape s = { .batch = BATCH, .rows = 1, .capacity = 160 };
    const int64_t tokens[BATCH] = { 1, 2, 3 }, news[BATCH] = { 1, 1, 0 };
    static float logits[BATCH * VOCAB];
    heed_error err = { 0 };
    uint64_t calls;
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    run(&r, &s, tokens, news, logits);
    calls = heed__heap_calls(r.ctx->heap);
    for (int i = 0; i < 100; i++)
        assert_int_equal(try_run(&r, &s, tokens, news, logits, &err), HEED_OK);
    assert_int_equal(heed__heap_calls(r.ctx->heap), calls);
    assert_int_equal(heed_kv_cache_length(r.weights, "decoder", 0), 101);
    rig_close(&r);
}

/* ---- what cannot be ---- */

static void a_full_cache_ends_the_run_and_names_the_sequence(void **state)
{
    const shape s = { .batch = BATCH, .capacity = 50 }, one = { .batch = BATCH, .rows = 1, .capacity = 50 };
    const int64_t tokens[BATCH] = { 1, 2, 3 };
    static float logits[BATCH * VOCAB];
    heed_error err = { 0 };
    char before[65], after[65];
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    feed(&r, s, 30, everyone, (int64_t[]){ 30, 20, 10 }, stepped);
    feed(&r, s, 30, everyone, (int64_t[]){ 0, 30, 0 }, stepped);
    plan_of(&r, &one);
    assert_int_equal(heed_weights_sha256(r.weights, HEED_WEIGHTS_ALL, before, NULL), HEED_OK);
    assert_int_equal(try_run(&r, &one, tokens, (int64_t[]){ 1, 1, 1 }, logits, &err), HEED_ERR_LIMIT);
    assert_string_equal(err.text,
                        "decoder: sequence 1 would have 51 rows, and the cache has room for 50: rewind it,"
                        " or make it with a larger capacity or a window");
    assert_string_equal(err.path, "decoder");
    err = (heed_error){ 0 };
    assert_int_equal(try_run(&r, &one, tokens, (int64_t[]){ 1, 0, 2 }, logits, &err), HEED_ERR_LIMIT);
    assert_string_equal(err.text, "decoder: sequence 2 is to append 2 rows; at most 1 are given to it");
    err = (heed_error){ 0 };
    assert_int_equal(try_run(&r, &one, (int64_t[]){ 1, 2, VOCAB }, (int64_t[]){ 1, 0, 1 }, logits, &err),
                     HEED_ERR_LIMIT);
    assert_non_null(strstr(err.path, "embed")); /* a bad token, found before anything was written */
    assert_int_equal(heed_weights_sha256(r.weights, HEED_WEIGHTS_ALL, after, NULL), HEED_OK);
    assert_string_equal(before, after);
    *(int64_t *)heed_weights_find(r.weights, "kv_cache.decoder.length").data = -5;
    err = (heed_error){ 0 };
    assert_int_equal(try_run(&r, &one, tokens, (int64_t[]){ 1, 0, 1 }, logits, &err), HEED_ERR_LIMIT);
    assert_string_equal(err.text, "decoder: sequence 0 has the length -5: rewind the cache to what it holds");
    rig_close(&r);
}

/* Logits are looked at after all rows were appended, in place: rows behind the lengths, which stay as they were. */
static void a_run_whose_logits_are_not_finite_has_appended_nothing(void **state)
{
    const shape s = { .batch = BATCH, .capacity = 160, .checked = true }, one = { .batch = BATCH, .rows = 1, .capacity = 160, .checked = true };
    const int64_t tokens[BATCH] = { 1, 2, 3 };
    static float logits[BATCH * VOCAB];
    heed_error err = { 0 };
    heed_tensor embed;
    float kept;
    rig r;

    (void)state;
    rig_open(&r, 2, HEED_ISA_AUTO);
    pass(&r, (shape){ 0 }, whole);
    feed(&r, s, 40, everyone, (int64_t[]){ 40, 17, 33 }, stepped);
    embed = heed_weights_find(r.weights, "embed.weight");
    kept = ((float *)embed.data)[2 * WIDTH];
    ((float *)embed.data)[2 * WIDTH] = NAN; /* token 2, of sequence 1 */
    plan_of(&r, &one);
    for (int i = 0; i < 3; i++)
        assert_int_equal(try_run(&r, &one, tokens, (int64_t[]){ 1, 1, 1 }, logits, &err), HEED_ERR_NUMERIC);
    ((float *)embed.data)[2 * WIDTH] = kept;
    for (int64_t b = 0; b < BATCH; b++)
        assert_int_equal(heed_kv_cache_length(r.weights, "decoder", b), ((int64_t[]){ 40, 17, 33 })[b]);
    decode(&r, &s, stepped);
    for (int64_t b = 0; b < BATCH; b++)
        same_rows(stepped, whole, b, b);
    rig_close(&r);
}

/* ---- other sequences ---- */

static void beams_go_on_with_the_bytes_of_the_sequence_they_were_made_of(void **state)
{
    static const struct {
        int64_t from[BATCH], then[BATCH];
    } turns[] = { { { 2, 2, 0 }, { 1, 2, 0 } }, { { 0, 0, 0 }, { 2, 1, 0 } }, { { 1, 0, 2 }, { 1, 1, 0 } } };
    const shape s = { .batch = BATCH, .capacity = 160 }, ring = { .batch = BATCH, .window = 20, .sinks = 4, .capacity = 63 };
    static text_rows ring_whole[BATCH];

    (void)state;
    for (size_t t = 0; t < sizeof turns / sizeof *turns; t++)
        for (int rings = 0; rings < 2; rings++) {
            const shape *of = rings ? &ring : &s;
            int64_t now[BATCH], next[BATCH], had[BATCH];
            uint64_t calls;
            rig r;

            rig_open(&r, 2, HEED_ISA_AUTO);
            pass(&r, rings ? (shape){ .window = 20, .sinks = 4 } : (shape){ 0 }, rings ? ring_whole : whole);
            feed(&r, *of, 40, everyone, (int64_t[]){ 40, 17, 33 }, stepped);
            feed(&r, *of, 40, everyone, (int64_t[]){ 35, 9, 0 }, stepped); /* rings have turned, or not */
            memcpy(now, everyone, sizeof now);
            for (int k = 0; k < 2; k++) {
                const int64_t *from = k ? turns[t].then : turns[t].from;

                calls = heed__heap_calls(r.ctx->heap);
                assert_int_equal(heed_kv_cache_reorder(r.weights, from, BATCH, NULL), HEED_OK);
                assert_int_equal(heed__heap_calls(r.ctx->heap), calls);
                for (int b = 0; b < BATCH; b++)
                    next[b] = now[from[b]];
                memcpy(now, next, sizeof now);
                for (int b = 0; b < BATCH; b++)
                    had[b] = heed_kv_cache_length(r.weights, "decoder", b);
                for (int i = 0; i < 5; i++)
                    feed(&r, *of, 1, now, (int64_t[]){ 1, 1, 1 }, stepped);
                for (int b = 0; b < BATCH; b++)
                    for (int64_t i = had[b]; i < had[b] + 5; i++)
                        for (int c = 0; c < VOCAB; c++)
                            if (rings ? !(fabsf(stepped[b][i][c] - ring_whole[now[b]][i][c]) < 1e-4f)
                                      : stepped[b][i][c] != whole[now[b]][i][c])
                                fail_msg("turn %d of %d: sequence %d, now %d, differs in row %d", k, (int)t, b, (int)now[b],
                                         (int)i);
            }
            rig_close(&r);
        }
}

static void every_reordering_is_that_of_a_copy(void **state)
{
    enum { MOST = 9, PLACES = 4 };
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    const rng random = heed__rng(5, 0, "reorder");

    (void)state;
    assert_int_equal(heed_context_new(&ctx, NULL, NULL), HEED_OK);
    for (uint32_t round = 0; round < 400; round++) {
        const int64_t n = 1 + (int64_t)(round % MOST);
        int64_t from[MOST], length[MOST];
        float k[MOST][2][PLACES][300], alone[MOST + 1] = { 0 }; /* a row longer than what is swapped at once */
        heed_weights *w;
        heed_tensor got;

        assert_int_equal(heed_weights_new(&w, ctx, NULL), HEED_OK);
        for (int64_t b = 0; b < n; b++) {
            from[b] = heed__rng_word(&random, round, (uint32_t)b) % (uint32_t)n;
            length[b] = PLACES - b % 2;
        }
        for (size_t i = 0; i < sizeof k / sizeof(float); i++)
            ((float *)k)[i] = (float)i;
        assert_int_equal(heed_weights_put(w, "kv_cache.c.length", (heed_tensor){ HEED_TYPE(HEED_I64, n), length }, NULL), HEED_OK);
        assert_int_equal(heed_weights_put(w, "kv_cache.layer.k", (heed_tensor){ HEED_TYPE(HEED_F32, n, 2, PLACES, 300), k }, NULL),
                         HEED_OK);
        assert_int_equal(heed_weights_put(w, "kv_cache.other.k", (heed_tensor){ HEED_TYPE(HEED_F32, n + 1, 1, 1, 1), alone }, NULL),
                         HEED_OK);
        assert_int_equal(heed_kv_cache_reorder(w, from, n, &err), HEED_OK);
        got = heed_weights_find(w, "kv_cache.layer.k");
        for (int64_t b = 0; b < n; b++) {
            assert_memory_equal((float *)got.data + b * 2 * PLACES * 300, k[from[b]], sizeof k[0]);
            assert_int_equal(heed_kv_cache_length(w, "c", b), length[from[b]]);
        }
        assert_memory_equal(heed_weights_find(w, "kv_cache.other.k").data, alone, (size_t)(n + 1) * sizeof(float));
        from[n - 1] = n;
        assert_int_equal(heed_kv_cache_reorder(w, from, n, &err), HEED_ERR_USAGE);
        err = (heed_error){ 0 };
        assert_int_equal(heed_kv_cache_reorder(w, from, n + 1, &err), HEED_ERR_USAGE);
        assert_non_null(strstr(err.text, "there is no cache of"));
        err = (heed_error){ 0 };
        heed_weights_free(w);
    }
    heed_context_free(ctx);
}

static void rewinds_that_cannot_be_say_why(void **state)
{
    const shape s = { .batch = BATCH, .capacity = 50 };
    heed_error err = { 0 };
    rig r;

    (void)state;
    rig_open(&r, 1, HEED_ISA_AUTO);
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 0, 0, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "there is no cache \"decoder\""));
    assert_int_equal(heed_kv_cache_length(r.weights, "decoder", 0), -1);
    feed(&r, s, 30, everyone, (int64_t[]){ 30, 20, 10 }, stepped);
    err = (heed_error){ 0 };
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 1, 21, &err), HEED_ERR_LIMIT);
    assert_non_null(strstr(err.text, "sequence 1 has 20 rows and cannot be rewound to 21"));
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", 1, -1, NULL), HEED_ERR_LIMIT);
    err = (heed_error){ 0 };
    assert_int_equal(heed_kv_cache_rewind(r.weights, "decoder", BATCH, 0, &err), HEED_ERR_USAGE);
    assert_non_null(strstr(err.text, "has 3 sequences, there is no 3"));
    assert_int_equal(heed_kv_cache_length(r.weights, "decoder", BATCH), -1);
    assert_int_equal(heed_kv_cache_length(r.weights, NULL, 0), -1);
    rig_close(&r);
}

typedef struct refused_case {
    void (*build)(heed_builder *b);
    heed_status code;
    const char *says;
} refused_case;

static void sinks_alone(heed_builder *b)
{
    (void)heed_kv_cache_open(b, "c", 2, 1, 8, &(heed_kv_cache_opts){ .sinks = 2 });
}

static void a_small_ring(heed_builder *b)
{
    (void)heed_kv_cache_open(b, "c", 2, 4, 12, &(heed_kv_cache_opts){ .sinks = 2, .window = 8 });
}

static void no_rows(heed_builder *b)
{
    (void)heed_kv_cache_open(b, "c", 2, 0, 12, NULL);
}

static void other_rows(heed_builder *b)
{
    const heed_kv_cache c = heed_kv_cache_open(b, "c", 2, 1, 12, NULL);
    heed_value k = heed_input(b, "k", HEED_TYPE(HEED_F32, 2, 1, 2, 4)), v = k;

    heed_kv_cache_append(b, &c, "layer", &k, &v);
}

static void other_lengths(heed_builder *b)
{
    const heed_kv_cache c = heed_kv_cache_open(b, "c", 2, 1, 12, NULL);
    heed_attention_spec spec = { .in.lengths = c.lengths };

    heed_kv_cache_see(b, &c, &spec);
}

static void a_table_of_distances_over_a_ring(heed_builder *b)
{
    const heed_kv_cache c = heed_kv_cache_open(b, "c", 2, 1, 12, &(heed_kv_cache_opts){ .window = 8 });
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 1, 1, 4));

    (void)heed_kv_cache_attend(b, &c, "layer", x, x, x, &(heed_attention_spec){ .in.shaw_k = heed_input(b, "shaw", HEED_TYPE(HEED_F32, 3, 4)) });
}

static void second_keys(heed_builder *b)
{
    const heed_kv_cache c = heed_kv_cache_open(b, "c", 2, 1, 12, NULL);
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 1, 1, 4));

    (void)heed_kv_cache_attend(b, &c, "layer", x, x, x, &(heed_attention_spec){ .in.k2 = x, .in.q2 = x });
}

static void other_keys(heed_builder *b)
{
    const heed_kv_cache c = heed_kv_cache_open(b, "c", 2, 1, 12, NULL);
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 2, 1, 4));

    (void)heed_multihead_attention(b, "attn", x, 2, &(heed_mha_opts){ .cache = &c, .key = x }, NULL);
}

static void what_makes_no_cache_is_refused(void **state)
{
    static const refused_case cases[] = {
        { sinks_alone, HEED_ERR_SPEC, "sinks stay beside a window: give opts.window" },
        { a_small_ring, HEED_ERR_SPEC, "12 places cannot hold 2 sinks, a window of 8 and 4 rows at once" },
        { no_rows, HEED_ERR_SPEC, "rows and capacity must be at least 1" },
        { other_rows, HEED_ERR_SHAPE, "k must be [2,H,1,D], as the cache was opened" },
        { other_lengths, HEED_ERR_SPEC, "lengths, q_lengths and offset come from the cache" },
        { a_table_of_distances_over_a_ring, HEED_ERR_SPEC, "shaw_k goes by the places of keys" },
        { second_keys, HEED_ERR_SPEC, "k2 needs a place of its own" },
        { other_keys, HEED_ERR_SPEC, "a cache holds the layer's own keys" },
    };
    heed_context *ctx = NULL;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, NULL, NULL), HEED_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heed_builder *b = NULL;
        heed_graph *g = NULL;
        heed_error err = { 0 };

        assert_int_equal(heed_builder_new(&b, ctx, NULL), HEED_OK);
        cases[i].build(b);
        assert_int_equal(heed_builder_finish(&g, b, &err), cases[i].code);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s", err.text);
        heed_builder_free(b);
    }
    heed_context_free(ctx);
}

/* ---- without memory ---- */

static heed_status build_plan_and_step(heed_context *ctx, void *user, heed_error *err)
{
    const shape s = { .batch = 2, .rows = 1, .capacity = 12, .window = 8, .sinks = 2 };
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_weights *w = NULL;
    heed_session *session = NULL;
    heed_status st = heed_builder_new(&b, ctx, err);
    int id = 0;
    int64_t tokens[2] = { 1, 2 }, news[2] = { 1, 1 };
    const heed_tensor in[] = { { HEED_TYPE(HEED_I64, 2, 1), tokens }, { HEED_TYPE(HEED_I64, 2), news } };

    (void)user;
    if (st == HEED_OK) {
        build(b, &s);
        st = heed_builder_finish(&g, b, err);
    }
    if (st == HEED_OK)
        st = heed_plan_new(&p, ctx, g, NULL, err);
    if (st == HEED_OK)
        st = heed_weights_new(&w, ctx, err);
    if (st == HEED_OK)
        st = heed_session_new(&session, ctx, w, NULL, err);
    if (st == HEED_OK)
        st = heed_session_add(session, p, &id, err);
    if (st == HEED_OK)
        st = heed_session_run(session, id, in, 2, NULL, 0, err);
    if (st == HEED_OK)
        st = heed_kv_cache_rewind(w, "decoder", HEED_EVERY_SEQUENCE, 0, err);
    heed_session_free(session);
    heed_weights_free(w);
    heed_plan_free(p);
    heed_graph_free(g);
    heed_builder_free(b);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const heed_scenario s = { .name = "kv cache", .run = build_plan_and_step };
    heed_fail_report report;

    (void)state;
    if (!heed_fail_each(&s, NULL, &report))
        fail_msg("%s", report.first_bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_and_steps_have_the_bytes_of_one_causal_pass),
        cmocka_unit_test(grouped_heads_too),
        cmocka_unit_test(rows_turned_once_too),
        cmocka_unit_test(steps_have_the_numbers_of_a_pass_under_every_position_term),
        cmocka_unit_test(a_sequence_in_a_batch_has_the_bytes_it_has_alone),
        cmocka_unit_test(a_sequence_may_begin_again_while_others_go_on),
        cmocka_unit_test(a_cache_can_be_saved_and_gone_on_with),
        cmocka_unit_test(a_ring_gives_the_numbers_of_a_window_and_sinks),
        cmocka_unit_test(what_a_dead_sequence_left_in_a_ring_reaches_nobody),
        cmocka_unit_test(a_ring_that_has_turned_cannot_be_rewound_but_to_nothing),
        cmocka_unit_test(a_step_writes_its_rows_and_copies_no_cache),
        cmocka_unit_test(a_step_makes_no_heap_call),
        cmocka_unit_test(a_full_cache_ends_the_run_and_names_the_sequence),
        cmocka_unit_test(a_run_whose_logits_are_not_finite_has_appended_nothing),
        cmocka_unit_test(beams_go_on_with_the_bytes_of_the_sequence_they_were_made_of),
        cmocka_unit_test(every_reordering_is_that_of_a_copy),
        cmocka_unit_test(rewinds_that_cannot_be_say_why),
        cmocka_unit_test(what_makes_no_cache_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
