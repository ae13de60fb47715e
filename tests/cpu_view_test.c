/* Views and the walk over several of them; sizes small enough to follow by hand. */
#include "cpu/view.h"
#include "cmocka_all.h"

static view dense(void *data, heed_type type)
{
    return heed__view(data, &type);
}

/* x with axes i and j exchanged. */
static view exchanged(view x, int i, int j)
{
    view y = x;

    y.type.dims[i] = x.type.dims[j];
    y.type.dims[j] = x.type.dims[i];
    y.strides[i] = x.strides[j];
    y.strides[j] = x.strides[i];
    return y;
}

static void a_dense_view_has_row_major_strides(void **state)
{
    const view v = dense(NULL, HEED_TYPE(HEED_F32, 2, 3, 4));

    (void)state;
    assert_int_equal(v.strides[0], 12);
    assert_int_equal(v.strides[1], 4);
    assert_int_equal(v.strides[2], 1);
    assert_true(heed__view_dense(&v));
}

static void strides_of_axes_of_one_element_do_not_count(void **state)
{
    view v = dense(NULL, HEED_TYPE(HEED_F32, 2, 1, 4));

    (void)state;
    v.strides[1] = 99;
    assert_true(heed__view_dense(&v));
    v = exchanged(v, 0, 2);
    assert_false(heed__view_dense(&v));
}

static void empty_and_scalar_views_are_dense(void **state)
{
    view empty = dense(NULL, HEED_TYPE(HEED_F32, 3, 0));
    const view scalar = dense(NULL, heed_type_of(HEED_F32, 0, NULL));

    (void)state;
    empty.strides[0] = 7;
    assert_true(heed__view_dense(&empty));
    assert_true(heed__view_dense(&scalar));
    assert_int_equal(heed__view_rows(&scalar), 1);
    assert_int_equal(heed__view_row_length(&scalar), 1);
    assert_int_equal(heed__view_rows(&empty), 3);
    assert_int_equal(heed__view_row_length(&empty), 0);
}

static void row_offsets_carry_over_all_leading_axes(void **state)
{
    const view x = dense(NULL, HEED_TYPE(HEED_F32, 2, 3, 4));
    const view y = exchanged(x, 0, 1); /* [3,2,4]: rows 0 12 4 16 8 20 */
    int64_t at[4];

    (void)state;
    heed__view_row_offsets(&y, 1, 4, at);
    assert_int_equal(at[0], 12);
    assert_int_equal(at[1], 4);
    assert_int_equal(at[2], 16);
    assert_int_equal(at[3], 8);
    assert_int_equal(heed__view_rows(&y), 6);
}

static void rows_are_equally_spaced_when_leading_axes_merge(void **state)
{
    const view x = dense(NULL, HEED_TYPE(HEED_F32, 2, 3, 1, 4)), swapped = exchanged(x, 0, 1);
    const view column = exchanged(x, 1, 3), one = dense(NULL, HEED_TYPE(HEED_F32, 1, 1, 4));
    int64_t stride;

    (void)state;
    assert_true(heed__view_row_stride(&x, &stride));
    assert_int_equal(stride, 4);
    assert_false(heed__view_row_stride(&swapped, &stride));
    assert_false(heed__view_row_stride(&column, &stride)); /* [2,4,1,3]: 12, then 1 */
    assert_true(heed__view_row_stride(&one, &stride));
}

static void dense_views_walk_as_one_run(void **state)
{
    float a[24], b[24];
    const view va = dense(a, HEED_TYPE(HEED_F32, 2, 3, 4)), vb = dense(b, HEED_TYPE(HEED_F32, 2, 3, 4));
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    heed__walk(&w, 2, (const view *const[]){ &va, &vb });
    assert_int_equal(w.outer, 1);
    assert_int_equal(w.inner, 24);
    assert_int_equal(w.step[0], 1);
    assert_int_equal(heed__walk_at(&w, 0, at), 24);
    assert_ptr_equal(at[0], a);
    assert_ptr_equal(at[1], b);
}

static void broadcast_axes_merge_with_each_other(void **state)
{
    float a[24], b[4];
    const view va = dense(a, HEED_TYPE(HEED_F32, 2, 3, 4));
    view vb = dense(b, HEED_TYPE(HEED_F32, 2, 3, 4));
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    vb.strides[0] = vb.strides[1] = 0; /* a bias: [4] seen as [2,3,4] */
    heed__walk(&w, 2, (const view *const[]){ &va, &vb });
    assert_int_equal(w.rank, 1);
    assert_int_equal(w.outer, 6);
    assert_int_equal(w.inner, 4);
    assert_int_equal(heed__walk_at(&w, 5, at), 4);
    assert_ptr_equal(at[0], a + 20);
    assert_ptr_equal(at[1], b);

    vb.strides[2] = 0; /* a scalar: all merges, with a step of 0 */
    heed__walk(&w, 2, (const view *const[]){ &va, &vb });
    assert_int_equal(w.outer, 1);
    assert_int_equal(w.inner, 24);
    assert_int_equal(w.step[1], 0);
}

static void a_transposed_view_is_visited_in_the_order_of_the_first(void **state)
{
    float a[6];
    int8_t mask[6];
    const view va = dense(a, HEED_TYPE(HEED_F32, 2, 3));
    const view vb = exchanged(dense(mask, HEED_TYPE(HEED_BOOL, 3, 2)), 0, 1);
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    heed__walk(&w, 2, (const view *const[]){ &va, &vb });
    assert_int_equal(w.outer, 2);
    assert_int_equal(w.inner, 3);
    assert_int_equal(w.step[1], 2);
    assert_int_equal(heed__walk_at(&w, 1, at), 3);
    assert_ptr_equal(at[0], a + 3);
    assert_ptr_equal(at[1], mask + 1); /* elements of one byte */
}

static void a_walk_over_nothing_has_no_runs(void **state)
{
    const view v = dense(NULL, HEED_TYPE(HEED_F32, 4, 0, 2));
    walk w;

    (void)state;
    heed__walk(&w, 1, (const view *const[]){ &v });
    heed__walk_split(&w, 16);
    assert_int_equal(w.outer, 0);
    assert_int_equal(w.inner, 0);
}

static void a_scalar_and_axes_of_one_walk_as_one_element(void **state)
{
    float x = 0.0f;
    const view scalar = dense(&x, heed_type_of(HEED_F32, 0, NULL)),
               ones = dense(&x, HEED_TYPE(HEED_F32, 1, 1, 1));
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    heed__walk(&w, 1, (const view *const[]){ &scalar });
    assert_int_equal(w.outer, 1);
    assert_int_equal(heed__walk_at(&w, 0, at), 1);
    assert_ptr_equal(at[0], &x);
    heed__walk(&w, 1, (const view *const[]){ &ones });
    assert_int_equal(w.outer, 1);
    assert_int_equal(w.inner, 1);
}

static void a_split_run_ends_with_a_shorter_piece(void **state)
{
    float a[20];
    view v = dense(a, HEED_TYPE(HEED_F32, 2, 7));
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    v.strides[0] = 10;
    heed__walk(&w, 1, (const view *const[]){ &v });
    heed__walk_split(&w, 3);
    assert_int_equal(w.outer, 6); /* 3 3 1, 3 3 1 */
    assert_int_equal(heed__walk_at(&w, 1, at), 3);
    assert_ptr_equal(at[0], a + 3);
    assert_int_equal(heed__walk_at(&w, 2, at), 1);
    assert_ptr_equal(at[0], a + 6);
    assert_int_equal(heed__walk_at(&w, 3, at), 3);
    assert_ptr_equal(at[0], a + 10);
}

static void every_element_is_visited_once_however_it_is_cut(void **state)
{
    int32_t data[120] = { 0 };
    const view x = dense(data, HEED_TYPE(HEED_I32, 2, 3, 4, 5));

    (void)state;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            for (int64_t most = 1; most < 130; most += 4) {
                const view y = exchanged(x, i, j);
                walk w;

                heed__walk(&w, 1, (const view *const[]){ &y });
                heed__walk_split(&w, most);
                for (int64_t run = 0; run < w.outer; run++) {
                    void *at[WALK_VIEWS];
                    const int64_t n = heed__walk_at(&w, run, at);

                    for (int64_t k = 0; k < n; k++)
                        ((int32_t *)at[0])[k * w.step[0]]++;
                }
                for (int k = 0; k < 120; k++) {
                    assert_int_equal(data[k], 1);
                    data[k] = 0;
                }
            }
        }
    }
}

static void a_view_without_memory_stays_without(void **state)
{
    const view v = dense(NULL, HEED_TYPE(HEED_F32, 4));
    void *at[WALK_VIEWS];
    walk w;

    (void)state;
    heed__walk(&w, 1, (const view *const[]){ &v });
    heed__walk_split(&w, 2);
    assert_int_equal(heed__walk_at(&w, 1, at), 2);
    assert_null(at[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dense_view_has_row_major_strides),
        cmocka_unit_test(strides_of_axes_of_one_element_do_not_count),
        cmocka_unit_test(empty_and_scalar_views_are_dense),
        cmocka_unit_test(row_offsets_carry_over_all_leading_axes),
        cmocka_unit_test(rows_are_equally_spaced_when_leading_axes_merge),
        cmocka_unit_test(dense_views_walk_as_one_run),
        cmocka_unit_test(broadcast_axes_merge_with_each_other),
        cmocka_unit_test(a_transposed_view_is_visited_in_the_order_of_the_first),
        cmocka_unit_test(a_walk_over_nothing_has_no_runs),
        cmocka_unit_test(a_scalar_and_axes_of_one_walk_as_one_element),
        cmocka_unit_test(a_split_run_ends_with_a_shorter_piece),
        cmocka_unit_test(every_element_is_visited_once_however_it_is_cut),
        cmocka_unit_test(a_view_without_memory_stays_without),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
