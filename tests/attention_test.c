/* What holds of attention by construction (the stored cases are tests/attend_test.c's): a row's bytes do not depend on what stands beside it. */
#include "attention/attention.h"
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- same bytes ---- */

static const char *const gradient_names[] = { "d_q", "d_k", "d_v" };
enum { BATCH = 2, HEADS = 4, KEY_HEADS = 2, STEPS = 150, WIDTH = 24 };

typedef struct run {
    int64_t batch, queries, keys;
    bool causal, lengths, weights, gradients;
    int64_t offset;
    heed_tensor out[5]; /* out, lse, then weights or dq, dk, dv */
} run;

static void build_run(heed_builder *b, void *user)
{
    const run *r = user;
    heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F32, r->batch, HEADS, r->queries, WIDTH));
    heed_value k = heed_input(b, "k", HEED_TYPE(HEED_F32, r->batch, KEY_HEADS, r->keys, WIDTH));
    heed_value v = heed_input(b, "v", HEED_TYPE(HEED_F32, r->batch, KEY_HEADS, r->keys, WIDTH));
    heed_value dout = heed_input(b, "dout", HEED_TYPE(HEED_F32, r->batch, HEADS, r->queries, WIDTH)), d[3];
    heed_attention_spec spec = { .mask.causal = r->causal };
    heed_attended a;

    if (r->causal)
        spec.offset = (heed_maybe_i64)HEED_SET(r->offset);
    if (r->lengths) {
        spec.in.lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, r->batch));
        spec.in.q_lengths = heed_input(b, "q_lengths", HEED_TYPE(HEED_I64, r->batch));
    }
    a = heed_attention(b, q, k, v, &spec);
    heed_output(b, "out", a.out);
    heed_output(b, "lse", a.lse);
    if (r->weights)
        heed_output(b, "weights", a.weights);
    if (r->gradients) {
        heed_grad_of(b, &a.out, &dout, 1, (heed_value[]){ q, k, v }, 3, d);
        for (int i = 0; i < 3; i++)
            heed_output(b, gradient_names[i], d[i]);
    }
}

/* The number of element (b, h, t, c) of one of the inputs: the same wherever the element stands. */
static float number_of(int which, int64_t b, int64_t h, int64_t t, int64_t c)
{
    const uint32_t mixed = (uint32_t)(((which * 7 + b) * 11 + h) * 1009 + t * 131 + c) * 2654435761u;

    return (float)(mixed >> 8) * 0x1p-23f - 1;
}

/* Rows t of the tensor stand for rows first + t of the sequence; rows from `valid` on are poison. */
static void fill(heed_tensor *x, int which, int64_t first, int64_t valid)
{
    float *to = x->data;

    for (int64_t b = 0; b < x->type.dims[0]; b++)
        for (int64_t h = 0; h < x->type.dims[1]; h++)
            for (int64_t t = 0; t < x->type.dims[2]; t++)
                for (int64_t c = 0; c < x->type.dims[3]; c++)
                    *to++ = t < valid ? number_of(which, b, h, first + t, c) : NAN;
}

/* Runs; outputs are kept in r->out, to be freed. */
static void go(run *r, heed_context *ctx, int64_t first, int64_t valid_queries, int64_t valid_keys)
{
    trial t;

    TOY_OK(trial_open(&t, ctx, build_run, r, NULL, TOY_ERR));
    for (int i = 0; i < t.n_in; i++) {
        const bool query = i == 0 || i == 3;

        if (i < 4)
            fill(&t.in[i].tensor, i, query ? first : 0, query ? valid_queries : valid_keys);
        for (int64_t b = 0; i >= 4 && b < r->batch; b++)
            ((int64_t *)t.in[i].tensor.data)[b] = i == 4 ? valid_keys : valid_queries;
    }
    TOY_OK(trial_run(&t, TOY_ERR));
    assert_string_equal(t.broken, "");
    for (int i = 0; i < t.n_out; i++) {
        r->out[i].type = t.out[i].tensor.type;
        r->out[i].data = trial_memory(t.out[i].bytes, 1);
        memcpy(r->out[i].data, t.out[i].tensor.data, t.out[i].bytes);
    }
    trial_close(&t);
}

static void done(run *r)
{
    for (int i = 0; i < 5; i++)
        free(r->out[i].data);
}

/* Row t of head h of sequence b: `width` floats. */
static const float *row_of(const heed_tensor *x, int64_t b, int64_t h, int64_t t)
{
    const int64_t width = x->type.rank == 4 ? x->type.dims[3] : 1;

    return (const float *)x->data + ((b * x->type.dims[1] + h) * x->type.dims[2] + t) * width;
}

static void same_rows(const heed_tensor *x, const heed_tensor *y, int64_t x_first, int64_t y_first, int64_t n)
{
    const size_t width = x->type.rank == 4 ? (size_t)x->type.dims[3] : 1;

    for (int64_t b = 0; b < i64_min(x->type.dims[0], y->type.dims[0]); b++)
        for (int64_t h = 0; h < x->type.dims[1]; h++)
            for (int64_t t = 0; t < n; t++)
                assert_memory_equal(row_of(x, b, h, x_first + t), row_of(y, b, h, y_first + t),
                                    width * sizeof(float));
}

static void steps_over_a_cache_give_the_bytes_of_the_full_pass(void **state)
{
    const scratch *s = *state;
    run full = { .batch = BATCH, .queries = STEPS, .keys = STEPS, .causal = true };

    go(&full, s->ctx, 0, STEPS, STEPS);
    for (int64_t t = 0; t < STEPS; t += 13) {
        run alone = { .batch = BATCH, .queries = 1, .keys = t + 1, .causal = true, .offset = t };
        run roomy = { .batch = 1, .queries = 1, .keys = STEPS, .causal = true, .offset = t, .lengths = true };

        go(&alone, s->ctx, t, 1, t + 1);
        go(&roomy, s->ctx, t, 1, t + 1); /* a buffer with spare room, poison in it */
        for (int i = 0; i < 2; i++) {
            same_rows(&alone.out[i], &full.out[i], 0, t, 1);
            same_rows(&roomy.out[i], &full.out[i], 0, t, 1);
        }
        done(&alone);
        done(&roomy);
    }
    done(&full);
}

static void padding_and_poison_behind_the_lengths_change_no_byte(void **state)
{
    const scratch *s = *state;
    run exact = { .batch = BATCH, .queries = 70, .keys = 90, .gradients = true };
    run padded = { .batch = BATCH, .queries = 131, .keys = STEPS, .gradients = true, .lengths = true };

    go(&exact, s->ctx, 0, 70, 90);
    go(&padded, s->ctx, 0, 70, 90);
    for (int i = 0; i < 5; i++) {
        const int64_t rows_kept = i < 3 ? 70 : 90, rows_all = padded.out[i].type.dims[2];

        same_rows(&exact.out[i], &padded.out[i], 0, 0, rows_kept);
        for (int64_t t = rows_kept; t < rows_all; t++)
            assert_true(i == 1 ? *row_of(&padded.out[i], 1, 3, t) == -INFINITY
                               : *row_of(&padded.out[i], 1, 1, t) == 0);
    }
    done(&exact);
    done(&padded);
}

static void asking_for_weights_changes_no_bit(void **state)
{
    const scratch *s = *state;
    run plain = { .batch = BATCH, .queries = STEPS, .keys = STEPS, .causal = true };
    run asked = { .batch = BATCH, .queries = STEPS, .keys = STEPS, .causal = true, .weights = true };

    go(&plain, s->ctx, 0, STEPS, STEPS);
    go(&asked, s->ctx, 0, STEPS, STEPS);
    for (int i = 0; i < 2; i++)
        same_rows(&plain.out[i], &asked.out[i], 0, 0, STEPS);
    for (int64_t t = 0; t < STEPS; t++) {
        const float *w = row_of(&asked.out[2], 1, 2, t);
        double sum = 0;

        for (int64_t j = 0; j < STEPS; j++) {
            sum += (double)w[j];
            assert_true(j <= t || w[j] == 0);
        }
        assert_float_equal(sum, 1, 1e-5);
    }
    done(&plain);
    done(&asked);
}

/* ---- refusals ---- */

static void build_refused(heed_builder *b, const heed_attention_spec *spec)
{
    heed_value q = heed_input(b, "q", HEED_TYPE(HEED_F32, 2, 2, 5, 4)),
               k = heed_input(b, "k", HEED_TYPE(HEED_F32, 2, 2, 7, 4));
    heed_attention_spec with = *spec;

    if (with.in.offset.id)
        with.in.offset = heed_input(b, "offset", HEED_TYPE(HEED_I64, 2));
    if (with.in.mask.id)
        with.in.mask = heed_input(b, "mask", HEED_TYPE(HEED_BOOL, 2, 2, 7, 7));
    if (with.in.lengths.id)
        with.in.lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, 3));
    (void)heed_attention(b, q, k, k, &with);
}

static void a_spec_without_meaning_is_refused_with_its_fields_named(void **state)
{
    const scratch *s = *state;
    const heed_value given = { 1 };
    const struct {
        heed_attention_spec spec;
        heed_status code;
        const char *named;
    } refused[] = {
        { { .score.kind = (heed_score_kind)9 }, HEED_ERR_SPEC, "score.kind" },
        { { .score.scale = HEED_SET(INFINITY) }, HEED_ERR_SPEC, "score.scale" },
        { { .offset = HEED_SET(2) }, HEED_ERR_SPEC, "offset" },
        { { .mask.causal = true, .offset = HEED_SET(2), .in.offset = given }, HEED_ERR_SPEC, "offset" },
        { { .in.offset = given }, HEED_ERR_SPEC, "offset" },
        { { .in.mask = given }, HEED_ERR_SHAPE, "mask" },
        { { .in.lengths = given }, HEED_ERR_SHAPE, "lengths" },
        { { .combine.dropout = { .p = 1 } }, HEED_ERR_SPEC, "dropout.p" },
        { { .combine.dropout = { .p = 0.5 } }, HEED_ERR_SPEC, "dropout.name" },
    };

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        heed_builder *b = NULL;
        heed_error err = { 0 };

        TOY_OK(heed_builder_new(&b, s->ctx, TOY_ERR));
        heed_set_mode(b, HEED_TRAIN);
        build_refused(b, &refused[i].spec);
        assert_int_equal(heed_builder_status(b, &err), refused[i].code);
        if (!strstr(err.text, refused[i].named))
            fail_msg("\"%s\" does not name %s", err.text, refused[i].named);
        heed_builder_free(b);
    }
}

static void a_length_beyond_the_keys_ends_the_run(void **state)
{
    const scratch *s = *state;
    run r = { .batch = BATCH, .queries = 5, .keys = 7, .lengths = true };
    heed_error err = { 0 };
    trial t;

    TOY_OK(trial_open(&t, s->ctx, build_run, &r, NULL, TOY_ERR));
    ((int64_t *)t.in[4].tensor.data)[0] = 7;
    ((int64_t *)t.in[4].tensor.data)[1] = 8;
    ((int64_t *)t.in[5].tensor.data)[0] = ((int64_t *)t.in[5].tensor.data)[1] = 5;
    for (int i = 0; i < 4; i++)
        fill(&t.in[i].tensor, i, 0, 7);
    assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
    assert_string_equal(err.text, "lengths: element 1 has the value 8; it must be 0 to 7");
    trial_close(&t);
}

static void dropout_acts_in_training_only(void **state)
{
    const scratch *s = *state;

    for (int mode = HEED_EVAL; mode <= HEED_TRAIN; mode++) {
        heed_builder *b = NULL;
        heed_value q, out;

        TOY_OK(heed_builder_new(&b, s->ctx, TOY_ERR));
        heed_set_mode(b, (heed_mode)mode);
        q = heed_input(b, "q", HEED_TYPE(HEED_F32, 1, 1, 3, 4));
        out = heed_attention(b, q, q, q, &(heed_attention_spec){ .combine.dropout = { 0.5, "drop", { 0 } } }).out;
        assert_true(heed__maker(heed__building(b), out)->op == &heed__op_attention);
        assert_true(((const attention_attrs *)heed__maker(heed__building(b), out)->attrs)->dropout ==
                    (mode == HEED_TRAIN ? 0.5 : 0));
        heed_builder_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_over_a_cache_give_the_bytes_of_the_full_pass),
        cmocka_unit_test(padding_and_poison_behind_the_lengths_change_no_byte),
        cmocka_unit_test(asking_for_weights_changes_no_bit),
        cmocka_unit_test(a_spec_without_meaning_is_refused_with_its_fields_named),
        cmocka_unit_test(a_length_beyond_the_keys_ends_the_run),
        cmocka_unit_test(dropout_acts_in_training_only),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
