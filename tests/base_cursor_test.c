/* The byte cursor: every read at its border, children, and the first failure. */
#include "support/cmocka.h"
#include "base/cursor.h"

#include <string.h>

static void numbers_are_read_in_their_byte_order(void **state)
{
    static const uint8_t data[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 };
    cursor c = heed__cursor(data, sizeof data);

    (void)state;
    assert_int_equal(heed__u8(&c), 1);
    assert_int_equal(heed__u16le(&c), 0x0302);
    assert_int_equal(heed__u32le(&c), 0x07060504);
    assert_true(heed__u64le(&c) == 0x0f0e0d0c0b0a0908u);
    assert_int_equal(heed__u32be(&c), 0x10111213);
    assert_int_equal(heed__cursor_left(&c), 0);
    assert_int_equal(heed__cursor_status(&c, "f", NULL), HEED_OK);
}

static void a_read_over_the_end_fails_and_gives_zero(void **state)
{
    static const uint8_t data[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };
    static const size_t sizes[] = { 1, 2, 4, 8, 4 };

    (void)state;
    for (size_t kind = 0; kind < 5; kind++) {
        for (size_t have = 0; have <= sizes[kind]; have++) {
            cursor c = heed__cursor(data, have);
            const uint64_t got = kind == 0   ? heed__u8(&c)
                                 : kind == 1 ? heed__u16le(&c)
                                 : kind == 2 ? heed__u32le(&c)
                                 : kind == 3 ? heed__u64le(&c)
                                             : heed__u32be(&c);

            assert_int_equal(got != 0, have == sizes[kind]);
            assert_int_equal(heed__cursor_status(&c, NULL, NULL),
                             have == sizes[kind] ? HEED_OK : HEED_ERR_FORMAT);
        }
    }
}

static void the_first_failure_sticks_with_its_offset(void **state)
{
    static const uint8_t data[] = { 1, 2, 3 };
    cursor c = heed__cursor(data, sizeof data);
    heed_error err = { 0 };

    (void)state;
    heed__u8(&c);
    heed__u32le(&c);
    assert_int_equal(heed__u8(&c), 0); /* bytes are there, but the reading is over */
    assert_int_equal(heed__peek(&c), -1);
    assert_int_equal(heed__cursor_left(&c), 0);
    assert_false(heed__literal(&c, ""));
    assert_null(heed__bytes(&c, 1));
    heed__cursor_fail(&c, HEED_ERR_LIMIT, "too late");
    assert_int_equal(heed__cursor_status(&c, "model.safetensors", &err), HEED_ERR_FORMAT);
    assert_string_equal(err.text, "at byte 1: the data ends before this is complete");
    assert_string_equal(err.path, "model.safetensors");
}

static void literals_are_consumed_only_where_they_stand(void **state)
{
    cursor c = heed__cursor("RIFFxx", 6);

    (void)state;
    assert_false(heed__literal(&c, "RIFX"));
    assert_int_equal(heed__peek(&c), 'R');
    assert_true(heed__literal(&c, "RIFF"));
    assert_false(heed__literal(&c, "xxx"));
    assert_true(heed__literal(&c, ""));
    assert_true(heed__literal(&c, "xx"));
    assert_int_equal(heed__peek(&c), -1);
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_OK);
}

static void bytes_are_borrowed_from_the_data(void **state)
{
    static const uint8_t data[] = { 1, 2, 3 };
    cursor c = heed__cursor(data, sizeof data);

    (void)state;
    assert_ptr_equal(heed__bytes(&c, 2), data);
    assert_null(heed__bytes(&c, 0));
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_OK);
    assert_null(heed__bytes(&c, UINT64_MAX));
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_ERR_FORMAT);
}

static void a_child_sees_only_its_bytes_and_knows_where_it_is(void **state)
{
    static const uint8_t data[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    cursor c = heed__cursor(data, sizeof data), child, grandchild;
    heed_error err = { 0 };

    (void)state;
    heed__u8(&c);
    child = heed__take(&c, 4, 4);
    assert_int_equal(heed__u8(&c), 5);
    heed__u8(&child);
    grandchild = heed__take(&child, 2, 100);
    assert_int_equal(heed__u8(&grandchild), 2);
    heed__u32le(&grandchild);
    assert_int_equal(heed__cursor_status(&grandchild, NULL, &err), HEED_ERR_FORMAT);
    assert_string_equal(err.text, "at byte 3: the data ends before this is complete");
    assert_int_equal(heed__cursor_status(&child, NULL, NULL), HEED_OK);
}

static void a_child_longer_than_the_rest_or_the_limit_fails_both(void **state)
{
    static const uint8_t data[4] = { 0 };
    cursor c = heed__cursor(data, sizeof data), child = heed__take(&c, 5, 100);

    (void)state;
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_ERR_FORMAT);
    assert_int_equal(heed__cursor_status(&child, NULL, NULL), HEED_ERR_FORMAT);
    assert_int_equal(heed__cursor_left(&child), 0);
    c = heed__cursor(data, sizeof data);
    child = heed__take(&c, 4, 3);
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed__cursor_status(&child, NULL, NULL), HEED_ERR_LIMIT);
    c = heed__cursor(data, sizeof data);
    child = heed__take(&c, UINT64_MAX, UINT64_MAX);
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_ERR_FORMAT);
    c = heed__cursor(data, sizeof data);
    child = heed__take(&c, 0, 0);
    assert_int_equal(heed__cursor_status(&child, NULL, NULL), HEED_OK);
}

static void no_data_is_an_empty_input(void **state)
{
    cursor c = heed__cursor(NULL, 0);

    (void)state;
    assert_int_equal(heed__peek(&c), -1);
    assert_true(heed__literal(&c, ""));
    assert_false(heed__literal(&c, "x"));
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_OK);
    assert_int_equal(heed__u8(&c), 0);
    assert_int_equal(heed__cursor_status(&c, NULL, NULL), HEED_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_in_their_byte_order),
        cmocka_unit_test(a_read_over_the_end_fails_and_gives_zero),
        cmocka_unit_test(the_first_failure_sticks_with_its_offset),
        cmocka_unit_test(literals_are_consumed_only_where_they_stand),
        cmocka_unit_test(bytes_are_borrowed_from_the_data),
        cmocka_unit_test(a_child_sees_only_its_bytes_and_knows_where_it_is),
        cmocka_unit_test(a_child_longer_than_the_rest_or_the_limit_fails_both),
        cmocka_unit_test(no_data_is_an_empty_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
