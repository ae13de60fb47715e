/* HEED_RESULTS_DIRECT: results are computed where the caller wants them, with the bytes of those that are copied; and who uses it. */
#include "support/cmocka.h"
#include "support/toy.h"
#include "support/trial.h"

#include <heed/attend.h>
#include <heed/formats.h>
#include <heed/ops.h>

#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, HEADS = 3, STEPS = 40, WIDTH = 8 };

/* Results of every kind: made by a kernel, read by a later step, made in place of another, an input itself, a view of another
 * layout, two names of one value. */
static void build_all(heed_builder *b, void *user)
{
    const heed_type type = HEED_TYPE(HEED_F32, BATCH, HEADS, STEPS, WIDTH);
    heed_value q = heed_input(b, "q", type), k = heed_input(b, "k", type), v = heed_input(b, "v", type);
    const heed_attention_spec spec = { .in.lengths = heed_input(b, "lengths", HEED_TYPE(HEED_I64, BATCH)) };
    const heed_attended a = heed_attention(b, q, k, v, &spec);

    (void)user;
    heed_output(b, "out", a.out);
    heed_output(b, "lse", a.lse);
    heed_output(b, "later", heed_exp(b, heed_mul(b, a.out, v)));
    heed_output(b, "input", q);
    heed_output(b, "turned", heed_transpose(b, a.out, 1, 2));
    heed_output(b, "again", a.out);
    heed_output(b, "chain", heed_relu(b, heed_neg(b, heed_add(b, q, k))));
}

static void fill(trial *t, int64_t length)
{
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < BATCH * HEADS * STEPS * WIDTH; j++)
            ((float *)t->in[i].tensor.data)[j] = (float)((j * 37 + i * 11) % 101) * 0.02f - 1;
    for (int i = 0; i < BATCH; i++)
        ((int64_t *)t->in[3].tensor.data)[i] = length - i;
}

static void direct_results_have_the_bytes_of_copied_ones_and_take_less_memory(void **state)
{
    const scratch *s = *state;
    trial copied, direct;

    TOY_OK(trial_open(&copied, s->ctx, build_all, NULL, NULL, TOY_ERR));
    TOY_OK(trial_open(&direct, s->ctx, build_all, NULL, &(heed_plan_opts){ .results = HEED_RESULTS_DIRECT }, TOY_ERR));
    for (int round = 0; round < 3; round++) { /* the places of results move from run to run */
        fill(&copied, STEPS - round);
        fill(&direct, STEPS - round);
        TOY_OK(trial_run(&copied, TOY_ERR));
        TOY_OK(trial_run(&direct, TOY_ERR));
        assert_string_equal(direct.broken, "");
        for (int i = 0; i < copied.n_out; i++)
            assert_memory_equal(copied.out[i].tensor.data, direct.out[i].tensor.data, copied.out[i].bytes);
    }
    assert_true(heed_plan_describe(direct.plan).block_bytes < heed_plan_describe(copied.plan).block_bytes);
    assert_true(heed_plan_describe(direct.plan).sum_bytes + copied.out[2].bytes <=
                heed_plan_describe(copied.plan).sum_bytes);
    trial_close(&copied);
    trial_close(&direct);
}

static void a_run_that_fails_leaves_the_memory_as_it_was(void **state)
{
    const scratch *s = *state;
    heed_error err = { 0 };
    trial t;

    TOY_OK(trial_open(&t, s->ctx, build_all, NULL, &(heed_plan_opts){ .results = HEED_RESULTS_DIRECT }, TOY_ERR));
    fill(&t, STEPS + 5);
    assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
    assert_string_equal(t.broken, "");
    trial_close(&t);
}

static void memory_that_is_missing_or_shared_is_refused_by_name(void **state)
{
    const scratch *s = *state;
    heed_tensor in[4], out[7];
    trial t;

    TOY_OK(trial_open(&t, s->ctx, build_all, NULL, &(heed_plan_opts){ .results = HEED_RESULTS_DIRECT }, TOY_ERR));
    fill(&t, STEPS);
    for (int fault = 0; fault < 4; fault++) {
        heed_error err = { 0 };

        for (int i = 0; i < 4; i++)
            in[i] = t.in[i].tensor;
        for (int i = 0; i < 7; i++)
            out[i] = t.out[i].tensor;
        if (fault == 1)
            out[2].data = NULL;
        else if (fault == 2)
            out[2].data = (float *)in[1].data + 3;
        else if (fault == 3)
            out[2].data = (float *)out[0].data + 3;
        assert_int_equal(heed_session_run(t.session, t.id, in, 4, out, fault ? 7 : 2, &err), HEED_ERR_USAGE);
        assert_non_null(strstr(err.text, "\"later\""));
    }
    assert_int_equal(heed_session_find_bad(t.session, t.id, in, 4, NULL), HEED_ERR_USAGE);
    trial_close(&t);
}

static uint64_t bytes_of(heed_type type)
{
    return (uint64_t)heed_type_count(&type) * heed_dtype_size(type.dtype);
}

/* `heed attend`: reading a file, planning, computing and writing, with the memory of all of it. */
static void attend_takes_inputs_results_and_at_most_a_mebibyte(void **state)
{
    static const char *const probes[] = { NULL, "mean", "received,entropy,distance,topk:8", "pooled:16x16,rows:0+5" };
    enum { T = 1024 };
    scratch *s = *state;
    const heed_type type = HEED_TYPE(HEED_F32, 1, 1, T, 64);
    float *numbers = trial_memory(T * 64, sizeof *numbers);
    const char *in = scratch_path(s, "in.safetensors"), *out = scratch_path(s, "out.safetensors");
    const heed_named_tensor named[] = { { "q", { type, numbers } }, { "k", { type, numbers } }, { "v", { type, numbers } } };

    for (int i = 0; i < T * 64; i++)
        numbers[i] = (float)(i * 37 % 101) * 0.02f - 1;
    TOY_OK(heed_safetensors_write(s->ctx, in, named, 3, NULL, 0, TOY_ERR));
    free(numbers);
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        uint64_t most = 3 * bytes_of(type) + (1 << 20);
        heed_attend *a;

        heed_context_peak_reset(s->ctx);
        TOY_OK(heed_attend_open(&a, s->ctx, in, TOY_ERR));
        TOY_OK(heed_attend_build(a, &(heed_attend_opts){ .weights = i == 0, .probe = probes[i] }, TOY_ERR));
        TOY_OK(heed_attend_run(a, TOY_ERR));
        TOY_OK(heed_attend_write(a, out, TOY_ERR));
        for (int r = 0; r < heed_attend_results(a); r++) {
            heed_tensor result;

            (void)heed_attend_result(a, r, &result);
            most += bytes_of(result.type);
        }
        if (heed_context_peak_bytes(s->ctx) > most)
            fail_msg("%s: %llu bytes, of at most %llu", probes[i] ? probes[i] : "weights",
                     (unsigned long long)heed_context_peak_bytes(s->ctx), (unsigned long long)most);
        heed_attend_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(direct_results_have_the_bytes_of_copied_ones_and_take_less_memory),
        cmocka_unit_test(a_run_that_fails_leaves_the_memory_as_it_was),
        cmocka_unit_test(memory_that_is_missing_or_shared_is_refused_by_name),
        cmocka_unit_test(attend_takes_inputs_results_and_at_most_a_mebibyte),
        cmocka_unit_test(attend_takes_inputs_results_and_at_most_a_mebibyte),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
