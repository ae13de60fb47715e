/* Measured peaks: numbers for levels of this CPU, zero for the others. */

#include "cpu/peak.h"
#include "cpu_levels.h"

static void a_level_of_this_cpu_has_a_peak_and_others_have_none(void **state)
{
    float block[4096] = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof levels_all / sizeof *levels_all; i++) {
        const heed_isa isa = levels_all[i];

        assert_int_equal(heed__peak_gflops(isa) > 0.0, heed_isa_available(isa));
        assert_int_equal(heed__peak_read_gbs(isa, block, 4096) > 0.0, heed_isa_available(isa));
    }
}

static void a_read_adds_up_every_float_of_the_block(void **state)
{
    float block[1024];

    (void)state;
    for (int i = 0; i < 1024; i++)
        block[i] = (float)i;
    FOR_EACH_LEVEL(isa)
    {
        assert_true(heed__peak_ops(isa)->read(block, 1024) == 1023.0f * 512.0f);
    }
}

static void nothing_to_read_has_no_rate(void **state)
{
    const float one = 1.0f;

    (void)state;
    assert_true(heed__peak_read_gbs(HEED_ISA_PORTABLE, &one, 0) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_of_this_cpu_has_a_peak_and_others_have_none),
        cmocka_unit_test(a_read_adds_up_every_float_of_the_block),
        cmocka_unit_test(nothing_to_read_has_no_rate),
    };

    levels_print_skipped();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
