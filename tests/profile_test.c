/* Profiles: nothing but time is spent on them, they never grow, and what they write is a trace that others
 * read. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"

#include <heed/session.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON
#include <jansson.h>
#endif

#define BATCH 10

typedef struct rig {
    heed_model *model;
    heed_trainer *trainer;
    float x[BATCH * 64];
    int64_t y[BATCH];
    heed_tensor in, target;
} rig;

static void open_rig(rig *r, heed_context *ctx)
{
    uint8_t pixels[BATCH * 64];

    memset(r, 0, sizeof *r);
    toy_pictures(pixels, r->y, BATCH, 1);
    for (int i = 0; i < BATCH * 64; i++)
        r->x[i] = (float)pixels[i] / 255.0f;
    r->in = (heed_tensor){ HEED_TYPE(HEED_F32, BATCH, 1, 8, 8), r->x };
    r->target = (heed_tensor){ HEED_TYPE(HEED_I64, BATCH), r->y };
    TOY_OK(heed_model_new(&r->model, ctx, toy_conv_attention_build(), &toy_conv_attention,
                          &(heed_model_opts){ .seed = 3 }, TOY_ERR));
    TOY_OK(heed_trainer_new(&r->trainer, r->model,
                            &(heed_trainer_opts){ .optimizer = HEED_ADAMW, .clip_norm = 1 }, TOY_ERR));
}

static void close_rig(rig *r)
{
    heed_trainer_free(r->trainer);
    heed_model_free(r->model);
}

static void steps(rig *r, int n)
{
    for (int i = 0; i < n; i++)
        TOY_OK(heed_trainer_step(r->trainer, &r->in, 1, &r->target, NULL, TOY_ERR));
}

static heed_profile *profile_of(heed_context *ctx, int64_t events)
{
    heed_profile *p = NULL;

    TOY_OK(heed_profile_new(&p, ctx, &(heed_profile_opts){ .events = events }, TOY_ERR));
    return p;
}

static void a_profile_changes_no_bit_for_any_number_of_threads(void **state)
{
    char with[65], without[65];

    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        heed_context *ctx = toy_context(threads, HEED_ISA_AUTO);
        heed_profile *p = profile_of(ctx, 0);
        rig r;

        open_rig(&r, ctx);
        steps(&r, 5);
        toy_digest(without, r.model, HEED_WEIGHTS_ALL);
        close_rig(&r);
        open_rig(&r, ctx);
        heed_trainer_profile(r.trainer, p);
        steps(&r, 5);
        toy_digest(with, r.model, HEED_WEIGHTS_ALL);
        close_rig(&r);
        assert_string_equal(with, without);
        assert_true(heed_profile_count(p) > 100);
        assert_int_equal(heed_profile_dropped(p), 0);
        heed_profile_free(p);
        heed_context_free(ctx);
    }
}

static void recording_makes_no_heap_call_and_never_grows(void **state)
{
    scratch *s = *state;
    heed_profile *p = profile_of(s->ctx, 50);
    char *table = NULL;
    uint64_t before;
    rig r;

    open_rig(&r, s->ctx);
    steps(&r, 1); /* the plan is made */
    heed_trainer_profile(r.trainer, p);
    before = heed__heap_calls(s->ctx->heap);
    steps(&r, 4);
    assert_int_equal(heed__heap_calls(s->ctx->heap), before);
    assert_int_equal(heed_profile_count(p), 50);
    assert_true(heed_profile_dropped(p) > 0);
    TOY_OK(heed_profile_summary(&table, p, TOY_ERR));
    assert_non_null(strstr(table, "4 runs"));
    assert_non_null(strstr(table, "first 50 events"));
    heed_text_free(s->ctx, table);
    close_rig(&r);
    heed_profile_free(p);
}

static void a_session_without_a_profile_or_with_one_that_is_off_records_nothing(void **state)
{
    scratch *s = *state;
    heed_profile *p = profile_of(s->ctx, 0);
    int64_t n;
    rig r;

    open_rig(&r, s->ctx);
    heed_trainer_profile(r.trainer, p);
    heed_profile_switch(p, HEED_PROFILE_OFF);
    steps(&r, 1);
    assert_int_equal(heed_profile_count(p), 0);
    heed_profile_switch(p, HEED_PROFILE_ON);
    steps(&r, 1);
    n = heed_profile_count(p);
    assert_true(n > 0);
    heed_trainer_profile(r.trainer, NULL);
    steps(&r, 1);
    assert_int_equal(heed_profile_count(p), n);
    close_rig(&r);
    heed_profile_free(p);
}

static void shares_of_threads_lie_within_their_step(void **state)
{
    heed_context *ctx = toy_context(3, HEED_ISA_AUTO);
    heed_profile *p = profile_of(ctx, 0);
    const heed_profile_event *step = NULL;
    int64_t whole = 0;
    double last = 0;
    rig r;

    (void)state;
    open_rig(&r, ctx);
    heed_trainer_profile(r.trainer, p);
    heed_profile_label(p, "training");
    steps(&r, 2);
    for (int64_t i = 0; i < heed_profile_count(p); i++) {
        const heed_profile_event *e = heed_profile_at(p, i);

        assert_true(e->op[0] && e->kernel[0] && e->seconds >= 0 && e->begin >= 0);
        assert_string_equal(e->label, "training");
        if (e->lane < 0) {
            assert_true(e->begin >= last);
            last = e->begin + e->seconds;
            step = e;
            whole++;
            continue;
        }
        assert_non_null(step);
        assert_true(e->lane < 3 && e->run == step->run && e->step == step->step);
        assert_true(e->begin >= step->begin && e->begin + e->seconds <= step->begin + step->seconds + 1e-12);
    }
    assert_true(whole > 100 && heed_profile_at(p, heed_profile_count(p) - 1)->run == 2);
    close_rig(&r);
    heed_profile_free(p);
    heed_context_free(ctx);
}

static void the_trace_is_json_with_a_time_and_a_place_for_each_step(void **state)
{
#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON
    scratch *s = *state;
    heed_profile *p = profile_of(s->ctx, 0);
    const char *path = scratch_path(s, "trace.json");
    const json_t *all, *e;
    json_t *j;
    json_error_t why;
    size_t i, steps_n = 0;
    bool attention = false;
    uint8_t *bytes;
    size_t n;
    rig r;

    open_rig(&r, s->ctx);
    heed_trainer_profile(r.trainer, p);
    steps(&r, 2);
    heed_profile_label(p, "\"quoted\"\n\\");
    heed_model_profile(r.model, p);
    TOY_OK(heed_model_run(r.model, &r.in, 1, NULL, 0, TOY_ERR));
    TOY_OK(heed_profile_write(p, path, TOY_ERR));
    bytes = scratch_get(path, &n);
    j = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, &why);
    if (!j)
        fail_msg("%d:%d %s", why.line, why.column, why.text);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "otherData"), "runs")), 3);
    all = json_object_get(j, "traceEvents");
    assert_true(json_array_size(all) > (size_t)heed_profile_count(p));
    for (i = 0; i < json_array_size(all); i++) {
        const json_t *args;

        e = json_array_get(all, i);
        args = json_object_get(e, "args");
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0)
            continue;
        assert_true(json_is_number(json_object_get(e, "ts")) && json_is_number(json_object_get(e, "dur")));
        assert_true(json_is_string(json_object_get(args, "path")) &&
                    json_is_string(json_object_get(args, "kernel")));
        if (strcmp(json_string_value(json_object_get(e, "cat")), "step") == 0) {
            assert_true(json_is_number(json_object_get(args, "gflops")) &&
                        json_is_number(json_object_get(args, "bytes")));
            steps_n++;
        }
        attention |= strcmp(json_string_value(json_object_get(args, "path")), "block.0.self_attn") == 0;
    }
    assert_true(steps_n > 100 && attention);
    json_decref(j);
    free(bytes);
    close_rig(&r);
    heed_profile_free(p);
#else
    (void)state;
    print_message("built without jansson: nobody reads the trace\n");
    skip();
#endif
}

static void room_outside_its_bounds_is_refused(void **state)
{
    scratch *s = *state;
    heed_profile *p = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_profile_new(&p, s->ctx, &(heed_profile_opts){ .events = -1 }, &err),
                     HEED_ERR_LIMIT);
    assert_null(p);
    heed_profile_free(NULL);
}

/* The file is whole whenever it is there. */
static bool whole_or_none(heed_context *ctx, void *user, heed_status st)
{
    FILE *f = fopen(user, "rb");
    char tail[5] = "";
    bool whole;

    (void)ctx;
    if (!f)
        return st != HEED_OK;
    fseek(f, -4, SEEK_END);
    whole = fread(tail, 1, 4, f) == 4 && strcmp(tail, "\n]}\n") == 0;
    fclose(f);
    return whole;
}

static heed_status record_and_write(heed_context *ctx, void *user, heed_error *err)
{
    heed_profile *p = NULL;
    char *table = NULL;
    heed_status st = heed_profile_new(&p, ctx, &(heed_profile_opts){ .events = 16 }, err);

    if (st == HEED_OK)
        st = heed_profile_write(p, user, err);
    if (st == HEED_OK)
        st = heed_profile_summary(&table, p, err);
    heed_text_free(ctx, table);
    heed_profile_free(p);
    return st;
}

static void every_failing_call_leaves_no_half_trace(void **state)
{
    scratch *s = *state;
    char path[160];
    heed_fail_report report;

    snprintf(path, sizeof path, "%s", scratch_path(s, "trace.json"));
    assert_true(
        heed_fail_each(&(heed_scenario){ .name = "profile", .run = record_and_write, .right = whole_or_none },
                       path, &report));
    assert_true(heed_fail_each_file(
        &(heed_scenario){ .name = "profile, files", .run = record_and_write, .right = whole_or_none }, path,
        &report));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_profile_changes_no_bit_for_any_number_of_threads),
        TEST(recording_makes_no_heap_call_and_never_grows),
        TEST(a_session_without_a_profile_or_with_one_that_is_off_records_nothing),
        TEST(shares_of_threads_lie_within_their_step),
        TEST(the_trace_is_json_with_a_time_and_a_place_for_each_step),
        TEST(room_outside_its_bounds_is_refused),
        TEST(every_failing_call_leaves_no_half_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
