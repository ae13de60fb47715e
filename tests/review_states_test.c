/* States, views and memory that is shared: what a run reads and leaves, whoever lies in whose memory. */
#include "support/cmocka.h"
#include "support/trial.h"

#include <heed/ops.h>

#include <string.h>

typedef struct states_case {
    void (*build)(heed_builder *b);
} states_case;

static int setup(void **state)
{
    return heed_context_new((heed_context **)state, &(heed_context_opts){ .threads = 3 }, NULL);
}

static int teardown(void **state)
{
    heed_context_free(*state);
    return 0;
}

static void build_case(heed_builder *b, void *user)
{
    ((const states_case *)user)->build(b);
}

static trial opened(void **state, void (*build)(heed_builder *b))
{
    states_case c = { build };
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, *state, build_case, &c, NULL, &err) != HEED_OK)
        fail_msg("%s", err.text);
    return t;
}

static float *numbers(const trial *t, const char *name)
{
    const heed_tensor x = heed_weights_find(t->weights, name);

    assert_non_null(x.data);
    return x.data;
}

static void set(const trial *t, const char *name, int n, const float *values)
{
    memcpy(numbers(t, name), values, (size_t)n * sizeof *values);
}

static void ran(trial *t)
{
    heed_error err = { 0 };

    if (trial_run(t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_string_equal(t->broken, "");
}

static void holds(const trial *t, const char *name, int n, const float *want)
{
    const float *got = numbers(t, name);

    for (int i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s[%d] is %g, not %g", name, i, (double)got[i], (double)want[i]);
}

static void gave(const trial *t, int out, int n, const float *want)
{
    const float *got = t->out[out].tensor.data;

    for (int i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("output %d[%d] is %g, not %g", out, i, (double)got[i], (double)want[i]);
}

#define F(...) ((const float[]){ __VA_ARGS__ })

static heed_value state_of(heed_builder *b, const char *name, int rank, const int64_t *dims)
{
    return heed_state(b, name, heed_type_of(HEED_F32, rank, dims), NULL);
}
#define STATE(b, name, ...) \
    state_of(b, name, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

/* ---- one value, two states ---- */

static void build_sum_into_both(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3), y = STATE(b, "y", 3), sum = heed_add(b, x, y);

    heed_assign(b, x, sum);
    heed_assign(b, y, sum);
}

static void a_value_assigned_to_both_states_it_was_made_of_reaches_both(void **state)
{
    trial t = opened(state, build_sum_into_both);

    for (int i = 0; i < 2; i++) {
        set(&t, "x", 3, F(1, 2, 3));
        set(&t, "y", 3, F(10, 20, 30));
        ran(&t);
        holds(&t, "x", 3, F(11, 22, 33));
        holds(&t, "y", 3, F(11, 22, 33));
    }
    trial_close(&t);
}

static void build_sum_into_three(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3), y = STATE(b, "y", 3), z = STATE(b, "z", 3), sum = heed_add(b, x, y);

    heed_assign(b, z, heed_mul(b, z, x));
    heed_assign(b, y, sum);
    heed_assign(b, x, sum);
    heed_output(b, "sum", sum);
    heed_output(b, "x", x);
    heed_output(b, "view", heed_slice(b, y, 0, 1, 3, 1));
}

static void outputs_show_old_states_and_new_values(void **state)
{
    trial t = opened(state, build_sum_into_three);

    set(&t, "x", 3, F(1, 2, 3));
    set(&t, "y", 3, F(10, 20, 30));
    set(&t, "z", 3, F(1, 1, 1));
    ran(&t);
    holds(&t, "x", 3, F(11, 22, 33));
    holds(&t, "y", 3, F(11, 22, 33));
    holds(&t, "z", 3, F(1, 2, 3));
    gave(&t, 0, 3, F(11, 22, 33));
    gave(&t, 1, 3, F(1, 2, 3));
    gave(&t, 2, 2, F(20, 30));
    trial_close(&t);
}

/* ---- a state and views of itself ---- */

static void build_transpose(heed_builder *b)
{
    heed_value x = STATE(b, "x", 2, 2);

    heed_assign(b, x, heed_transpose(b, x, 0, 1));
}

static void a_state_can_become_its_own_transpose(void **state)
{
    trial t = opened(state, build_transpose);

    set(&t, "x", 4, F(1, 2, 3, 4));
    ran(&t);
    holds(&t, "x", 4, F(1, 3, 2, 4));
    ran(&t);
    holds(&t, "x", 4, F(1, 2, 3, 4));
    trial_close(&t);
}

static void build_first_row_everywhere(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3, 2);

    heed_assign(b, x, heed_broadcast(b, heed_slice(b, x, 0, 2, 3, 1), 2, (int64_t[]){ 3, 2 }));
}

static void a_state_can_become_one_of_its_rows_repeated(void **state)
{
    trial t = opened(state, build_first_row_everywhere);

    set(&t, "x", 6, F(1, 2, 3, 4, 5, 6));
    ran(&t);
    holds(&t, "x", 6, F(5, 6, 5, 6, 5, 6));
    trial_close(&t);
}

static void build_itself(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3, 2);

    heed_assign(b, x, heed_reshape(b, heed_reshape(b, x, 1, (int64_t[]){ 6 }), 2, (int64_t[]){ 3, 2 }));
    heed_output(b, "x", x);
}

static void a_state_assigned_itself_stays(void **state)
{
    trial t = opened(state, build_itself);

    set(&t, "x", 6, F(1, 2, 3, 4, 5, 6));
    ran(&t);
    holds(&t, "x", 6, F(1, 2, 3, 4, 5, 6));
    gave(&t, 0, 6, F(1, 2, 3, 4, 5, 6));
    trial_close(&t);
}

static void build_swap(heed_builder *b)
{
    heed_value x = STATE(b, "x", 2, 3), y = STATE(b, "y", 3, 2), z = STATE(b, "z", 3, 2);

    heed_assign(b, x, heed_transpose(b, y, 0, 1));
    heed_assign(b, y, heed_reshape(b, x, 2, (int64_t[]){ 3, 2 }));
    heed_assign(b, z, heed_transpose(b, x, 0, 1));
}

static void states_swap_through_views(void **state)
{
    trial t = opened(state, build_swap);

    set(&t, "x", 6, F(1, 2, 3, 4, 5, 6));
    set(&t, "y", 6, F(10, 20, 30, 40, 50, 60));
    ran(&t);
    holds(&t, "x", 6, F(10, 30, 50, 20, 40, 60));
    holds(&t, "y", 6, F(1, 2, 3, 4, 5, 6));
    holds(&t, "z", 6, F(1, 4, 2, 5, 3, 6));
    trial_close(&t);
}

/* ---- caches ---- */

static heed_value start_at(heed_builder *b, int64_t row)
{
    return heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ row, 0 } });
}

static void build_slide_down(heed_builder *b)
{
    heed_value x = STATE(b, "x", 4, 2);

    heed_assign(b, x, heed_update_slice(b, x, heed_slice(b, x, 0, 0, 3, 1), start_at(b, 1)));
}

static void a_cache_slides_onto_its_own_later_rows(void **state)
{
    trial t = opened(state, build_slide_down);

    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 1, 2, 3, 4, 5, 6));
    trial_close(&t);
}

/* Columns do not lie in one run, so they are written piece by piece. */
static void build_slide_right(heed_builder *b)
{
    heed_value x = STATE(b, "x", 2, 4), start = heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 1, 0 } });

    heed_assign(b, x, heed_update_slice(b, x, heed_slice(b, x, 0, 0, 1, 1), start));
}

static void a_cache_copies_a_row_of_itself(void **state)
{
    trial t = opened(state, build_slide_right);

    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 3, 4, 1, 2, 3, 4));
    trial_close(&t);
}

static void build_slide_wide(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3, 3);
    heed_value part = heed_reshape(b, heed_slice(b, heed_reshape(b, x, 1, (int64_t[]){ 9 }), 0, 0, 4, 1), 2, (int64_t[]){ 2, 2 });

    heed_assign(b, x, heed_update_slice(b, x, part, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 2), (int64_t[]){ 0, 1 } })));
}

static void an_update_may_be_any_view_of_what_it_updates(void **state)
{
    trial t = opened(state, build_slide_wide);

    set(&t, "x", 9, F(1, 2, 3, 4, 5, 6, 7, 8, 9));
    ran(&t);
    holds(&t, "x", 9, F(1, 1, 2, 4, 3, 4, 7, 8, 9));
    trial_close(&t);
}

static void build_append(heed_builder *b)
{
    heed_value x = STATE(b, "x", 4, 2), row = heed_input(b, "row", HEED_TYPE(HEED_F32, 1, 2));
    heed_value before = heed_slice(b, x, 0, 2, 3, 1), after = heed_update_slice(b, x, row, start_at(b, 2));

    heed_assign(b, x, after);
    heed_output(b, "difference", heed_sub(b, heed_slice(b, after, 0, 2, 3, 1), before));
}

static void a_view_made_before_the_write_shows_the_old_state(void **state)
{
    trial t = opened(state, build_append);

    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    trial_set(&t, 0, (const double[]){ 50, 70 });
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 3, 4, 50, 70, 7, 8));
    gave(&t, 0, 2, F(45, 64));
    trial_close(&t);
}

/* ---- a run that fails ---- */

static void build_bad_index(heed_builder *b)
{
    heed_value x = STATE(b, "x", 3), index = heed_input(b, "index", HEED_TYPE(HEED_I64, 1));
    heed_value y = heed_exp(b, heed_mul(b, x, x)), more = heed_add(b, x, heed_scalar(b, HEED_F32, 1));

    heed_assign(b, x, more);
    heed_output(b, "y", heed_gather(b, y, index, 0));
}

static void a_bad_index_leaves_states_as_they_were(void **state)
{
    trial t = opened(state, build_bad_index);
    heed_error err = { 0 };

    set(&t, "x", 3, F(1, 2, 3));
    trial_set(&t, 0, (const double[]){ 3 });
    assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
    holds(&t, "x", 3, F(1, 2, 3));
    trial_set(&t, 0, (const double[]){ 2 });
    ran(&t);
    holds(&t, "x", 3, F(2, 3, 4));
    trial_close(&t);
}

/* ---- rows put into a state ---- */

static void build_moved_rows(heed_builder *b)
{
    heed_value x = STATE(b, "x", 1, 1, 4, 2);

    heed_assign(b, x, heed_put_rows(b, x, x, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 1, 4), (int64_t[]){ 1, 2, 3, -1 } })));
}

static void rows_of_a_state_may_go_to_other_places_of_it(void **state)
{
    trial t = opened(state, build_moved_rows);

    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 1, 2, 3, 4, 5, 6));
    trial_close(&t);
}

/* Two layers: the second looks something up after the first has written. */
static heed_value put_row(heed_builder *b, const char *name, heed_value row)
{
    heed_value x = STATE(b, name, 1, 1, 4, 2), y;

    y = heed_put_rows(b, x, row, heed_constant(b, (heed_tensor){ HEED_TYPE(HEED_I64, 1, 1), (int64_t[]){ 2 } }));
    heed_assign(b, x, y);
    return heed_sum(b, y, 1 << 2, HEED_DROP_AXES);
}

static void build_late_check(heed_builder *b)
{
    heed_value index = heed_input(b, "index", HEED_TYPE(HEED_I64, 1)), table = STATE(b, "table", 3, 2), row;

    row = put_row(b, "x", heed_full(b, HEED_TYPE(HEED_F32, 1, 1, 1, 2), 9));
    row = heed_add(b, row, heed_exp(b, heed_gather(b, table, heed_add_scalar(b, index, 1), 0)));
    heed_output(b, "y", put_row(b, "z", heed_reshape(b, row, 4, (int64_t[]){ 1, 1, 1, 2 })));
}

static void a_check_behind_a_write_runs_before_it(void **state)
{
    trial t = opened(state, build_late_check);
    heed_error err = { 0 };

    assert_int_equal(heed_plan_describe(t.plan).copies, 0); /* both states are written where they lie */
    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    trial_set(&t, 0, (const double[]){ 2 });
    assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
    holds(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    trial_set(&t, 0, (const double[]){ 1 });
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 3, 4, 9, 9, 7, 8));
    holds(&t, "z", 8, F(0, 0, 0, 0, 21, 24, 0, 0));
    gave(&t, 0, 2, F(21, 24));
    trial_close(&t);
}

static void build_check_of_what_was_written(heed_builder *b)
{
    heed_value index = heed_input(b, "index", HEED_TYPE(HEED_I64, 1));
    heed_value row = put_row(b, "x", heed_full(b, HEED_TYPE(HEED_F32, 1, 1, 1, 2), 9));

    heed_output(b, "y", heed_gather(b, heed_reshape(b, row, 1, (int64_t[]){ 2 }), index, 0));
}

static void a_check_of_what_was_written_has_it_copied_at_the_end(void **state)
{
    trial t = opened(state, build_check_of_what_was_written);
    heed_error err = { 0 };

    assert_int_equal(heed_plan_describe(t.plan).copies, 1);
    set(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    trial_set(&t, 0, (const double[]){ 2 });
    assert_int_equal(trial_run(&t, &err), HEED_ERR_LIMIT);
    holds(&t, "x", 8, F(1, 2, 3, 4, 5, 6, 7, 8));
    trial_set(&t, 0, (const double[]){ 1 });
    ran(&t);
    holds(&t, "x", 8, F(1, 2, 3, 4, 9, 9, 7, 8));
    gave(&t, 0, 1, F(23));
    trial_close(&t);
}

/* ---- the block ---- */

static void build_huge(heed_builder *b)
{
    heed_value one = heed_input(b, "one", HEED_TYPE(HEED_F32, 1));
    heed_value many = heed_relu(b, heed_broadcast(b, one, 1, (int64_t[]){ ((int64_t)1 << 62) - 1 }));

    heed_output(b, "sum", heed_sum(b, heed_relu(b, heed_exp(b, many)), HEED_ALL_AXES, HEED_DROP_AXES));
}

static void build_huge_together(heed_builder *b)
{
    heed_value one = heed_input(b, "one", HEED_TYPE(HEED_F32, 1)), many[5], all;

    for (int i = 0; i < 5; i++)
        many[i] = heed_add_scalar(b, heed_broadcast(b, one, 1, (int64_t[]){ (int64_t)1 << 60 }), i);
    all = many[0];
    for (int i = 1; i < 5; i++)
        all = heed_add(b, all, many[i]);
    for (int i = 0; i < 5; i++)
        all = heed_add(b, all, many[i]);
    heed_output(b, "sum", heed_sum(b, all, HEED_ALL_AXES, HEED_DROP_AXES));
}

static void a_plan_beyond_the_address_space_is_refused(void **state)
{
    void (*const builds[])(heed_builder *b) = { build_huge, build_huge_together };

    for (int i = 0; i < 2; i++) {
        states_case c = { builds[i] };
        heed_error err = { 0 };
        trial t;

        assert_int_equal(trial_open(&t, *state, build_case, &c, NULL, &err), HEED_ERR_LIMIT);
        assert_true(strlen(err.text) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_value_assigned_to_both_states_it_was_made_of_reaches_both, setup, teardown),
        cmocka_unit_test_setup_teardown(outputs_show_old_states_and_new_values, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_can_become_its_own_transpose, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_can_become_one_of_its_rows_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_assigned_itself_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(states_swap_through_views, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cache_slides_onto_its_own_later_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cache_copies_a_row_of_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(an_update_may_be_any_view_of_what_it_updates, setup, teardown),
        cmocka_unit_test_setup_teardown(a_view_made_before_the_write_shows_the_old_state, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_index_leaves_states_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_of_a_state_may_go_to_other_places_of_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_check_behind_a_write_runs_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_check_of_what_was_written_has_it_copied_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_plan_beyond_the_address_space_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
