/* The op of docs/add-an-op.md, from the very files that the page shows: it goes through the harness like every
 * op of the library, and gives the numbers that its first line promises. */
#include "support/cmocka.h"
#include "support/harness.h"
#include "support/trial.h"

#include <heed/ops.h>

/* What the line OP(hardtanh) in ops.def and the prototype in <heed/ops.h> would say. */
extern const op_def heed__op_hardtanh;
#include "docs/examples/add_an_op.h"

#include "docs/examples/add_an_op.c"

static void the_op_of_the_page_passes_the_harness(void **state)
{
    static harness_row row;
    harness h;

    (void)state;
    harness_open(&h);
    harness_op(&h, &heed__op_hardtanh, &row);
    harness_print_head(stdout);
    harness_print(stdout, &row);
    harness_close(&h);
    assert_int_equal(row.bad, 0);
    assert_true(row.check[CHECK_REFUSED].done > 0 && row.check[CHECK_LEVEL].done > 0 && row.check[CHECK_FUSED].done > 0 &&
                row.check[CHECK_GRADIENT].done > 0 && row.check[CHECK_MEMORY].done > 0);
}

static void network(heed_builder *b, void *user)
{
    heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 5)), y = heed_hardtanh(b, x, -1, 1), dx;

    (void)user;
    heed_output(b, "y", y);
    heed_grad(b, heed_sum(b, y, HEED_ALL_AXES, HEED_DROP_AXES), &x, 1, &dx);
    heed_output(b, "dx", dx);
}

static void it_bounds_and_its_gradient_is_zero_at_the_borders(void **state)
{
    const double x[5] = { -3, -1, 0.5, 1, 7 }, y[5] = { -1, -1, 0.5, 1, 1 }, dx[5] = { 0, 0, 1, 0, 0 };
    double got[5];
    heed_context *ctx = NULL;
    heed_error err = { 0 };
    trial t;

    (void)state;
    assert_int_equal(heed_context_new(&ctx, NULL, &err), HEED_OK);
    assert_int_equal(trial_open(&t, ctx, network, NULL, NULL, &err), HEED_OK);
    trial_set(&t, 0, x);
    assert_int_equal(trial_run(&t, &err), HEED_OK);
    trial_get(&t, 0, got);
    assert_memory_equal(got, y, sizeof y);
    trial_get(&t, 1, got);
    assert_memory_equal(got, dx, sizeof dx);
    trial_close(&t);
    heed_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_op_of_the_page_passes_the_harness),
        cmocka_unit_test(it_bounds_and_its_gradient_is_zero_at_the_borders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
