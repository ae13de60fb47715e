/* Builders in the hands of someone who errs: each mistake is an error with a sentence, and a builder that holds one does no harm. */
#include "support/cmocka.h"
#include "support/trial.h"

#include <heed/nn.h>
#include <heed/ops.h>

#include <string.h>

static int setup(void **state)
{
    return heed_context_new((heed_context **)state, &(heed_context_opts){ .threads = 2 }, NULL);
}

static int teardown(void **state)
{
    heed_context *ctx = *state;
    const int left = heed_context_bytes(ctx) > 64 * 1024; /* the context itself is small */

    heed_context_free(ctx);
    return left;
}

typedef void mistake(heed_builder *b);

/* The mistake poisons, with this code and a text; everything after it is quiet. */
static void refused(void **state, mistake *make, heed_status code)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_error err = { 0 };

    assert_int_equal(heed_builder_new(&b, *state, &err), HEED_OK);
    make(b);
    heed_output(b, "late", heed_input(b, "late", HEED_TYPE(HEED_F32, 2)));
    assert_int_equal(heed_builder_finish(&g, b, &err), code);
    assert_null(g);
    assert_true(strlen(err.text) > 0);
    heed_builder_free(b);
}

static heed_value x34(heed_builder *b)
{
    return heed_input(b, "x", HEED_TYPE(HEED_F32, 3, 4));
}

/* ---- names ---- */

static void null_input(heed_builder *b)
{
    heed_input(b, NULL, HEED_TYPE(HEED_F32, 2));
}
static void null_input_in_scope(heed_builder *b)
{
    heed_scope_push(b, "here");
    heed_input(b, NULL, HEED_TYPE(HEED_F32, 2));
    heed_scope_pop(b);
}
static void null_param(heed_builder *b)
{
    heed_param(b, NULL, HEED_TYPE(HEED_F32, 2), NULL);
}
static void null_state(heed_builder *b)
{
    heed_state(b, NULL, HEED_TYPE(HEED_F32, 2), NULL);
}
static void null_output(heed_builder *b)
{
    heed_output(b, NULL, x34(b));
}
static void null_tap(heed_builder *b)
{
    heed_tap(b, NULL, x34(b));
}
static void null_scope(heed_builder *b)
{
    heed_scope_push(b, NULL);
}
static void null_tie(heed_builder *b)
{
    heed_param(b, "p", HEED_TYPE(HEED_F32, 2), NULL);
    heed_param_tie(b, NULL);
}
static void null_random(heed_builder *b)
{
    heed_random_normal(b, NULL, 1, (int64_t[]){ 3 });
}
static void null_dropout(heed_builder *b)
{
    heed_set_mode(b, HEED_TRAIN);
    heed_dropout(b, NULL, x34(b), 0.5);
}
static void null_layer(heed_builder *b)
{
    heed_linear(b, NULL, x34(b), 3, NULL);
}
static void empty_input(heed_builder *b)
{
    heed_input(b, "", HEED_TYPE(HEED_F32, 2));
}
static void empty_param(heed_builder *b)
{
    heed_scope_push(b, "a");
    heed_param(b, "", HEED_TYPE(HEED_F32, 2), NULL);
    heed_scope_pop(b);
}
static void empty_output(heed_builder *b)
{
    heed_output(b, "", x34(b));
}
static void empty_tap(heed_builder *b)
{
    heed_tap(b, "", x34(b));
}

static void names_that_are_missing_are_refused(void **state)
{
    static mistake *const all[] = { null_input, null_input_in_scope, null_param, null_state, null_output, null_tap, null_tie,
                                    null_random, null_dropout, empty_input, empty_param, empty_output, empty_tap };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        refused(state, all[i], HEED_ERR_USAGE);
    refused(state, null_scope, HEED_ERR_LIMIT);
    refused(state, null_layer, HEED_ERR_LIMIT);
}

static void long_and_dotted_names_are_kept_whole(void **state)
{
    char name[2000];
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_value p;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    name[7] = '.';
    assert_int_equal(heed_builder_new(&b, *state, NULL), HEED_OK);
    p = heed_param(b, name, HEED_TYPE(HEED_F32, 2), NULL);
    assert_string_equal(heed_value_path(b, p), name);
    heed_output(b, name, heed_param_tie(b, name));
    heed_tap(b, name, p);
    assert_int_equal(heed_builder_finish(&g, b, NULL), HEED_OK);
    heed_graph_free(g);
    heed_builder_free(b);
}

/* ---- values of another builder ---- */

/* A number that no value of this builder has. */
static const heed_value foreign = { 100000 };

static void foreign_op(heed_builder *b)
{
    heed_add(b, x34(b), foreign);
}
static void foreign_wrt(heed_builder *b)
{
    heed_value d[1], loss = heed_sum(b, x34(b), HEED_ALL_AXES, HEED_DROP_AXES);

    heed_grad(b, loss, &foreign, 1, d);
}
static void foreign_loss(heed_builder *b)
{
    heed_value d[1], x = x34(b);

    heed_grad(b, foreign, &x, 1, d);
}
static void foreign_upstream(heed_builder *b)
{
    heed_value d[1], x = x34(b), y = heed_exp(b, x);

    heed_grad_of(b, &y, &foreign, 1, &x, 1, d);
}
static void foreign_y(heed_builder *b)
{
    heed_value d[1], x = x34(b);

    heed_grad_of(b, &foreign, &x, 1, &x, 1, d);
}
static void foreign_output(heed_builder *b)
{
    heed_output(b, "y", foreign);
}
static void foreign_tap(heed_builder *b)
{
    heed_tap(b, "y", foreign);
}
static void foreign_assign(heed_builder *b)
{
    heed_assign(b, foreign, x34(b));
}

static void values_of_another_builder_are_refused(void **state)
{
    static mistake *const all[] = { foreign_op, foreign_wrt, foreign_loss, foreign_upstream, foreign_y, foreign_output,
                                    foreign_tap, foreign_assign };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        refused(state, all[i], HEED_ERR_USAGE);
}

/* ---- gradients ---- */

static void loss_of_nothing(heed_builder *b)
{
    heed_value d[1], x = x34(b);

    heed_grad(b, (heed_value){ 0 }, &x, 1, d);
}
static void loss_of_whole_numbers(heed_builder *b)
{
    heed_value d[1], x = x34(b);

    heed_grad(b, heed_argmax(b, heed_flatten(b, x, 0, 1), 0), &x, 1, d);
}
static void loss_of_many(heed_builder *b)
{
    heed_value d[1], x = x34(b);

    heed_grad(b, x, &x, 1, d);
}
static void upstream_of_other_sizes(heed_builder *b)
{
    heed_value d[1], x = x34(b), y = heed_exp(b, x), one = heed_scalar(b, HEED_F32, 1);

    heed_grad_of(b, &y, &one, 1, &x, 1, d);
}
static void upstream_of_other_dtype(heed_builder *b)
{
    heed_value d[1], x = x34(b), y = heed_exp(b, x), dy = heed_cast(b, y, HEED_F64);

    heed_grad_of(b, &y, &dy, 1, &x, 1, d);
}
static void wrt_whole_numbers(heed_builder *b)
{
    heed_value d[1], loss = heed_sum(b, x34(b), HEED_ALL_AXES, HEED_DROP_AXES), i = heed_input(b, "i", HEED_TYPE(HEED_I64, 2));

    heed_grad(b, loss, &i, 1, d);
}

static void gradients_without_meaning_are_refused(void **state)
{
    refused(state, loss_of_nothing, HEED_ERR_USAGE);
    refused(state, loss_of_whole_numbers, HEED_ERR_DTYPE);
    refused(state, loss_of_many, HEED_ERR_SHAPE);
    refused(state, upstream_of_other_sizes, HEED_ERR_SHAPE);
    refused(state, upstream_of_other_dtype, HEED_ERR_DTYPE);
    refused(state, wrt_whole_numbers, HEED_ERR_DTYPE);
}

/* ---- axes and sizes ---- */

static void axis_low(heed_builder *b)
{
    heed_softmax(b, x34(b), -3);
}
static void axis_high(heed_builder *b)
{
    heed_cumsum(b, x34(b), 2);
}
static void axis_of_scalar(heed_builder *b)
{
    heed_softmax(b, heed_scalar(b, HEED_F32, 1), -1);
}
static void axes_beyond(heed_builder *b)
{
    heed_sum(b, x34(b), 1u << 5, HEED_DROP_AXES);
}
static void transposed_scalar(heed_builder *b)
{
    heed_transpose(b, heed_scalar(b, HEED_F32, 1), 0, 1);
}
static void permuted_twice(heed_builder *b)
{
    heed_permute(b, x34(b), (int[]){ 1, 1 });
}
static void reshape_two_open(heed_builder *b)
{
    heed_reshape(b, x34(b), 2, (int64_t[]){ -1, -1 });
}
static void reshape_open_beside_zero(heed_builder *b)
{
    heed_reshape(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 0, 4)), 2, (int64_t[]){ -1, 0 });
}
static void reshape_wraps(heed_builder *b)
{
    heed_reshape(b, x34(b), 3, (int64_t[]){ (int64_t)1 << 40, (int64_t)1 << 40, -1 });
}
static void rank_nine(heed_builder *b)
{
    heed_reshape(b, x34(b), 9, (int64_t[]){ 3, 4, 1, 1, 1, 1, 1, 1, 1 });
}
static void ninth_axis(heed_builder *b)
{
    heed_unsqueeze(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 1, 1, 1, 1, 1, 1)), 0);
}
static void slice_behind(heed_builder *b)
{
    heed_slice(b, x34(b), 1, 2, 5, 1);
}
static void slice_backwards(heed_builder *b)
{
    heed_slice(b, x34(b), 1, 3, 2, 1);
}
static void slice_standing(heed_builder *b)
{
    heed_slice(b, x34(b), 1, 0, 4, 0);
}
static void slice_before(heed_builder *b)
{
    heed_slice(b, x34(b), 1, INT64_MIN, 4, 1);
}
static void squeeze_four(heed_builder *b)
{
    heed_squeeze(b, x34(b), 1);
}
static void flatten_backwards(heed_builder *b)
{
    heed_flatten(b, x34(b), 1, 0);
}
static void concat_nothing(heed_builder *b)
{
    heed_concat(b, NULL, 0, 0);
}
static void pad_less(heed_builder *b)
{
    heed_pad(b, x34(b), 1, -1, 0, 0);
}
static void pad_wraps(heed_builder *b)
{
    heed_pad(b, x34(b), 1, INT64_MAX, INT64_MAX, 0);
}
static void broadcast_negative(heed_builder *b)
{
    heed_broadcast(b, heed_scalar(b, HEED_F32, 1), 1, (int64_t[]){ -3 });
}
static void topk_too_many(heed_builder *b)
{
    heed_topk(b, x34(b), 5, NULL);
}
static void topk_negative(heed_builder *b)
{
    heed_topk(b, x34(b), -1, NULL);
}
static void gather_scalar(heed_builder *b)
{
    heed_gather(b, heed_scalar(b, HEED_F32, 1), heed_scalar(b, HEED_I64, 0), 0);
}
static void scatter_negative(heed_builder *b)
{
    heed_scatter_add(b, heed_input(b, "i", HEED_TYPE(HEED_I64, 3)), x34(b), 0, -2);
}
static void scatter_axis(heed_builder *b)
{
    heed_scatter_add(b, heed_input(b, "i", HEED_TYPE(HEED_I64, 3)), x34(b), INT32_MAX, 5);
}
static void one_hot_negative(heed_builder *b)
{
    heed_one_hot(b, heed_input(b, "i", HEED_TYPE(HEED_I64, 3)), -1);
}
static void matmul_scalar(heed_builder *b)
{
    heed_matmul(b, heed_scalar(b, HEED_F32, 1), x34(b));
}
static void conv_kernel_too_large(heed_builder *b)
{
    heed_conv(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), heed_input(b, "w", HEED_TYPE(HEED_F32, 1, 1, 5)), (heed_value){ 0 },
              NULL);
}
static void conv_pad_wraps(heed_builder *b)
{
    heed_conv(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), heed_input(b, "w", HEED_TYPE(HEED_F32, 1, 1, 2)), (heed_value){ 0 },
              &(heed_conv_opts){ .pad = { INT64_MAX } });
}
static void conv_dilation_wraps(heed_builder *b)
{
    heed_conv(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), heed_input(b, "w", HEED_TYPE(HEED_F32, 1, 1, 3)), (heed_value){ 0 },
              &(heed_conv_opts){ .dilation = { INT64_MAX / 2 + 1 } });
}
static void conv_stride_negative(heed_builder *b)
{
    heed_conv(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), heed_input(b, "w", HEED_TYPE(HEED_F32, 1, 1, 2)), (heed_value){ 0 },
              &(heed_conv_opts){ .stride = { -1 } });
}
static void pool_kernel_negative(heed_builder *b)
{
    heed_max_pool(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), (int64_t[]){ -2 }, NULL);
}
static void pool_pad_wraps(heed_builder *b)
{
    heed_max_pool(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 1, 3)), (int64_t[]){ INT64_MAX }, &(heed_pool_opts){ .pad = { INT64_MAX / 2 } });
}
static void groups_of_zero(heed_builder *b)
{
    heed_group_norm(b, heed_input(b, "x", HEED_TYPE(HEED_F32, 1, 4, 3)), -1, (heed_value){ 0 }, (heed_value){ 0 }, 0);
}
static void norm_over_nine(heed_builder *b)
{
    heed_layer_norm(b, x34(b), 9, (heed_value){ 0 }, (heed_value){ 0 }, 0);
}
static void norm_over_minus(heed_builder *b)
{
    heed_rms_norm(b, x34(b), -1, (heed_value){ 0 }, 0);
}
static void type_of_rank_nine(heed_builder *b)
{
    heed_input(b, "x", heed_type_of(HEED_F32, 9, (int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 }));
}
static void type_too_large(heed_builder *b)
{
    heed_input(b, "x", HEED_TYPE(HEED_F32, (int64_t)1 << 40, (int64_t)1 << 40, 0));
}
static void type_of_no_dtype(heed_builder *b)
{
    heed_input(b, "x", HEED_TYPE((heed_dtype)77, 2));
}
static void constant_of_no_dtype(heed_builder *b)
{
    heed_constant(b, (heed_tensor){ HEED_TYPE((heed_dtype)77, 2), (int64_t[]){ 1, 2 } });
}
static void cast_to_no_dtype(heed_builder *b)
{
    heed_cast(b, x34(b), (heed_dtype)77);
}
static void full_of_rank_nine(heed_builder *b)
{
    heed_full(b, (heed_type){ HEED_F32, 12, { 0 } }, 1);
}
static void random_of_rank_nine(heed_builder *b)
{
    heed_random_normal(b, "r", 9, (int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 });
}

static void sizes_without_meaning_are_refused(void **state)
{
    static mistake *const all[] = {
        axis_low, axis_high, axis_of_scalar, axes_beyond, transposed_scalar, permuted_twice, reshape_two_open,
        reshape_open_beside_zero, reshape_wraps, rank_nine, ninth_axis, slice_behind, slice_backwards, slice_standing, slice_before,
        squeeze_four, flatten_backwards, concat_nothing, pad_less, pad_wraps, broadcast_negative, topk_too_many, topk_negative,
        gather_scalar, scatter_negative, scatter_axis, one_hot_negative, matmul_scalar, conv_kernel_too_large, conv_pad_wraps,
        conv_dilation_wraps, conv_stride_negative, pool_kernel_negative, pool_pad_wraps, groups_of_zero, norm_over_nine,
        norm_over_minus, type_of_rank_nine, type_too_large, type_of_no_dtype, constant_of_no_dtype, cast_to_no_dtype,
        full_of_rank_nine, random_of_rank_nine,
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        heed_builder *b = NULL;
        heed_graph *g = NULL;
        heed_error err = { 0 };
        heed_status st;

        assert_int_equal(heed_builder_new(&b, *state, &err), HEED_OK);
        all[i](b);
        st = heed_builder_finish(&g, b, &err);
        if (st == HEED_OK || st == HEED_ERR_BUG || st == HEED_ERR_MEMORY || !err.text[0])
            fail_msg("mistake %d: status %d, \"%s\"", (int)i, (int)st, err.text);
        heed_builder_free(b);
    }
}

/* ---- weights ---- */

static void weights_without_name_data_or_size_are_refused(void **state)
{
    heed_weights *w = NULL;
    float one = 1;
    const heed_tensor good = { HEED_TYPE(HEED_F32, 1), &one }, none = { HEED_TYPE(HEED_F32, 1), NULL };
    const heed_tensor bad = { HEED_TYPE(HEED_F32, -1), &one }, empty = { HEED_TYPE(HEED_F32, 0), NULL };

    assert_int_equal(heed_weights_new(&w, *state, NULL), HEED_OK);
    assert_int_equal(heed_weights_put(w, NULL, good, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_weights_put(w, "", good, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_weights_put(w, "x", none, NULL), HEED_ERR_USAGE);
    assert_int_equal(heed_weights_put(w, "x", bad, NULL), HEED_ERR_SHAPE);
    assert_int_equal(heed_weights_count(w), 0);
    assert_int_equal(heed_weights_put(w, "x", empty, NULL), HEED_OK);
    assert_int_equal(heed_weights_put(w, "x", good, NULL), HEED_ERR_SHAPE);
    assert_int_equal(heed_weights_find(w, "y").type.rank, -1);
    heed_weights_free(w);
}

/* ---- after the end ---- */

static void a_finished_builder_takes_every_call_and_does_nothing(void **state)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL, *again = NULL;
    heed_value x, d[1];

    assert_int_equal(heed_builder_new(&b, *state, NULL), HEED_OK);
    x = x34(b);
    heed_output(b, "y", x);
    assert_int_equal(heed_builder_finish(&g, b, NULL), HEED_OK);
    assert_int_equal(heed_add(b, x, x).id, 0);
    assert_int_equal(heed_input(b, "z", HEED_TYPE(HEED_F32, 2)).id, 0);
    assert_int_equal(heed_param_tie(b, "z").id, 0);
    assert_int_equal(heed_rng(b).id, 0);
    heed_grad(b, x, &x, 1, d);
    assert_int_equal(d[0].id, 0);
    heed_output(b, "z", x);
    heed_tap(b, "z", x);
    heed_assign(b, x, x);
    heed_scope_push(b, "s");
    heed_scope_pop(b);
    (void)heed_linear(b, "fc", x, 3, NULL);
    (void)heed_batch_norm_train(b, x, x, x, 0);
    (void)heed_max_pool(b, x, (int64_t[]){ 1 }, NULL);
    assert_int_equal(heed_rank(b, x), 0);
    assert_int_equal(heed_dim(b, x, 1), 0);
    assert_int_equal(heed_params(b, d, 1), 0);
    assert_string_equal(heed_value_path(b, x), "");
    assert_int_equal(heed_builder_finish(&again, b, NULL), HEED_ERR_USAGE);
    assert_null(again);
    heed_graph_free(g);
    heed_builder_free(b);
}

/* ---- sizes of many rows without elements ---- */

static void build_empty(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, (int64_t)1 << 61, 0));

    (void)user;
    heed_output(b, "a", heed_softmax(b, x, 1));
    heed_output(b, "b", heed_exp(b, x));
    heed_output(b, "c", heed_sum(b, x, 1u << 0, HEED_DROP_AXES));
    heed_output(b, "d", heed_sum(b, x, HEED_ALL_AXES, HEED_DROP_AXES));
    heed_output(b, "e", heed_layer_norm(b, x, 1, (heed_value){ 0 }, (heed_value){ 0 }, 0));
    heed_output(b, "f", heed_transpose(b, x, 0, 1));
    heed_output(b, "g", heed_cumsum(b, x, 0));
    heed_output(b, "h", heed_slice(b, heed_concat(b, (heed_value[]){ x, x }, 2, 1), 0, 0, -1, (int64_t)1 << 60));
}

static void rows_without_elements_cost_no_time(void **state)
{
    heed_error err = { 0 };
    trial t;

    if (trial_open(&t, *state, build_empty, NULL, NULL, &err) != HEED_OK || trial_run(&t, &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_true(((const float *)t.out[3].tensor.data)[0] == 0);
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_that_are_missing_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(long_and_dotted_names_are_kept_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(values_of_another_builder_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(gradients_without_meaning_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_without_meaning_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(weights_without_name_data_or_size_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_finished_builder_takes_every_call_and_does_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_without_elements_cost_no_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
