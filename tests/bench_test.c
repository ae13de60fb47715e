/* Benchmarks: what is told without measuring. No time is ever tested. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/scratch.h"
#include "train/bench.h"

#include <math.h>
#include <string.h>

typedef struct told {
    const char *name; /* the row wanted */
    heed_bench_row row;
    int rows, found;
} told;

static bool keep_row(void *user, const heed_bench_row *row)
{
    told *t = user;

    t->rows++;
    if (t->name && strcmp(row->name, t->name) == 0) {
        t->row = *row;
        t->found++;
    }
    return false;
}

static heed_bench_row listed(heed_context *ctx, const char *name)
{
    told t = { .name = name };
    heed_error err = { 0 };

    if (heed_bench_run(ctx, &(heed_bench_opts){ .filter = name, .what = HEED_BENCH_LIST }, keep_row, &t,
                       &err) != HEED_OK)
        fail_msg("%s", err.text);
    assert_int_equal(t.found, 1);
    return t.row;
}

static void work_is_counted_on_the_pairs_that_a_mask_keeps(void **state)
{
    const scratch *s = *state;
    const double t = 512;

    assert_true(listed(s->ctx, "attention full forward 4x8x512x64").kept == 1);
    assert_true(fabs(listed(s->ctx, "attention causal forward 4x8x512x64").kept - (t + 1) / (2 * t)) < 1e-12);
    /* 256 rows that grow from 1 to 256, then 256 of 256 */
    assert_true(fabs(listed(s->ctx, "attention window 256 both 4x8x512x64").kept -
                     (256 * 257 / 2 + 256 * 256) / (t * t)) < 1e-12);
    /* rows 256, 257, 258, 259 see 1, 2, 3, 4 keys more, and all behind them 4 */
    assert_true(fabs(listed(s->ctx, "attention window 256 and globals both 4x8x512x64").kept -
                     (256 * 257 / 2 + 256 * 256 + 1 + 2 + 3 + 253 * 4) / (t * t)) < 1e-12);
    /* 8 x 8 blocks: one of each row, which for half of the rows is the diagonal's */
    assert_true(listed(s->ctx, "attention block 64 forward 4x8x512x64").kept > 8.0 / 64);
    assert_true(listed(s->ctx, "attention block 64 forward 4x8x512x64").kept <= 16.0 / 64);
}

static void nothing_is_measured_when_rows_are_listed(void **state)
{
    const scratch *s = *state;
    const heed_bench_row row = listed(s->ctx, "attention full both 4x8x4096x64");

    assert_int_equal(row.rounds, 0);
    assert_true(row.best == 0 && row.rate == 0 && row.peak == 0);
    assert_true(row.block_bytes > 0 && row.extra_bytes == 0);
    assert_true(heed_context_peak_bytes(s->ctx) < row.block_bytes);
}

static void long_rows_of_attention_are_for_those_who_ask(void **state)
{
    const scratch *s = *state;
    heed_error err = { 0 };
    told all = { .name = "attention full both 4x8x4096x64" }, some = all;

    assert_int_equal(
        heed_bench_run(s->ctx, &(heed_bench_opts){ .what = HEED_BENCH_LIST }, keep_row, &all, &err), HEED_OK);
    assert_int_equal(all.found, 0);
    assert_int_equal(heed_bench_run(s->ctx,
                                    &(heed_bench_opts){ .filter = "attention", .what = HEED_BENCH_LIST },
                                    keep_row, &some, &err),
                     HEED_OK);
    assert_int_equal(some.found, 1);
}

static heed_status open_and_run(heed_context *ctx, void *user, heed_error *err)
{
    bench_graph g = { 0 };
    heed_bench_row row;
    double flops;
    heed_status st = heed__bench_attention_open(&g, ctx, user, &row, &flops, err);

    if (st == HEED_OK)
        st = heed__bench_once(&g, err);
    heed__bench_release(&g);
    return st;
}

static heed_status list_some(heed_context *ctx, void *user, heed_error *err)
{
    told t = { 0 };

    return heed_bench_run(ctx, &(heed_bench_opts){ .filter = user, .what = HEED_BENCH_LIST }, keep_row, &t,
                          err);
}

static void every_allocation_may_fail(void **state)
{
    static char layer[] = "attention layer, mean weights both 4x8x128x64",
                block[] = "attention block 64 both 4x8x128x64";
    const heed_scenario open = { .name = "bench: open and run", .run = open_and_run },
                        list = { .name = "bench: list", .run = list_some };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&open, block, &report));
    assert_true(report.calls > 20);
    assert_true(heed_fail_each(&list, layer, &report));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(work_is_counted_on_the_pairs_that_a_mask_keeps),
        TEST(nothing_is_measured_when_rows_are_listed),
        TEST(long_rows_of_attention_are_for_those_who_ask),
        TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
