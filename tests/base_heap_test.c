/* The heap and the arena: contents, counters, limits and faults. */
#include "support/cmocka.h"
#include "base/arena.h"
#include "base/error.h"
#include "support/fail_each.h"

#include <stdlib.h>
#include <string.h>

static bool all_zero(const void *block, size_t n)
{
    const uint8_t *b = block;

    for (size_t i = 0; i < n; i++)
        if (b[i])
            return false;
    return true;
}

static void a_block_is_zeroed_and_aligned_to_16(void **state)
{
    heap *h = heed__heap_new(NULL, 0);

    (void)state;
    for (int round = 0; round < 2; round++) { /* the second one meets used memory */
        uint8_t *block = heed__alloc(h, 100, 3);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 16, 0);
        assert_true(all_zero(block, 300));
        memset(block, 0xff, 300);
        heed__release(h, block);
    }
    heed__heap_free(h);
}

static void an_empty_block_is_a_valid_pointer(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint8_t *a = heed__alloc(h, 0, 8), *b = heed__alloc(h, 8, 0);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    *a = *b = 1;
    heed__release(h, a);
    heed__release(h, b);
    heed__release(h, NULL);
    assert_int_equal(heed__heap_bytes(h), 0);
    heed__heap_free(h);
}

static void a_raw_block_has_the_alignment_that_was_asked_for(void **state)
{
    heap *h = heed__heap_new(NULL, 0);

    (void)state;
    for (size_t align = 1; align <= 4096; align *= 2) {
        uint8_t *block = heed__alloc_raw(h, 1000, 1, align);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % align, 0);
        memset(block, 1, 1000);
        heed__release(h, block);
    }
    assert_null(heed__alloc_raw(h, 1, 1, 8192));
    assert_null(heed__alloc_raw(h, 1, 1, 48));
    assert_int_equal(heed__heap_bytes(h), 0);
    heed__heap_free(h);
}

static void sizes_that_overflow_give_nothing(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint8_t *block = heed__alloc(h, 4, 1);

    (void)state;
    assert_null(heed__alloc(h, SIZE_MAX / 2, 3));
    assert_null(heed__alloc(h, SIZE_MAX, 1));
    assert_null(heed__alloc(h, SIZE_MAX - 8, 1));
    assert_null(heed__alloc_raw(h, SIZE_MAX - 4000, 1, 4096));
    assert_null(heed__resize(h, block, SIZE_MAX / 2, 4));
    assert_null(heed__resize(h, block, SIZE_MAX, 1));
    assert_int_equal(heed__heap_bytes(h), heed__heap_cost(4, 16));
    heed__release(h, block);
    heed__heap_free(h);
}

static void growing_keeps_the_bytes_and_zeroes_the_new_ones(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint8_t *block = heed__resize(h, NULL, 10, 1);

    (void)state;
    memset(block, 7, 10);
    block = heed__resize(h, block, 100000, 1);
    assert_non_null(block);
    for (int i = 0; i < 10; i++)
        assert_int_equal(block[i], 7);
    assert_true(all_zero(block + 10, 99990));
    memset(block, 9, 100000);
    block = heed__resize(h, block, 5, 1);
    block = heed__resize(h, block, 20, 1);
    assert_int_equal(block[4], 9);
    assert_true(all_zero(block + 5, 15));
    assert_int_equal(heed__heap_bytes(h), heed__heap_cost(20, 16));
    heed__release(h, block);
    heed__heap_free(h);
}

static void a_huge_block_is_aligned_and_counted_like_any_other(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint8_t *block = heed__alloc_raw(h, (size_t)8 << 20, 1, 64);

    (void)state;
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 64, 0);
    block[0] = block[(8 << 20) - 1] = 1;
    assert_int_equal(heed__heap_bytes(h), heed__heap_cost((size_t)8 << 20, 64));
    heed__release(h, block);
    heed__heap_free(h);
}

/* An allocator that counts by itself, to compare with. */
typedef struct counting {
    uint64_t bytes, peak;
    bool wrong; /* a size that is not the one given before */
} counting;

static void *counting_resize(void *user, void *block, size_t old_size, size_t new_size)
{
    counting *c = user;
    uint8_t *base = block ? (uint8_t *)block - 16 : NULL;
    size_t known;

    if (base) {
        memcpy(&known, base, sizeof known);
        c->wrong = c->wrong || known != old_size;
    }
    c->bytes += new_size;
    c->bytes -= old_size;
    c->peak = c->bytes > c->peak ? c->bytes : c->peak;
    if (!new_size) {
        free(base);
        return NULL;
    }
    base = realloc(base, new_size + 16);
    memcpy(base, &new_size, sizeof new_size);
    return base + 16;
}

static void the_counters_say_what_the_allocator_gave(void **state)
{
    counting c = { 0 };
    const heed_allocator allocator = { counting_resize, &c };
    heap *h = heed__heap_new(&allocator, 0);
    const uint64_t own = c.bytes; /* the heap itself */
    void *a, *b;

    (void)state;
    a = heed__alloc(h, 1000, 1);
    b = heed__alloc_raw(h, 5000, 1, 256);
    assert_int_equal(heed__heap_bytes(h), c.bytes - own);
    a = heed__resize(h, a, 9000, 1);
    assert_int_equal(heed__heap_bytes(h), c.bytes - own);
    assert_int_equal(heed__heap_bytes(h), heed__heap_cost(9000, 16) + heed__heap_cost(5000, 256));
    heed__release(h, b);
    assert_int_equal(heed__heap_peak(h), c.peak - own);
    heed__heap_peak_reset(h);
    assert_int_equal(heed__heap_peak(h), heed__heap_cost(9000, 16));
    heed__release(h, a);
    assert_int_equal(heed__heap_bytes(h), 0);
    assert_false(c.wrong);
    heed__heap_free(h);
    assert_int_equal(c.bytes, 0);
}

static void the_limit_is_kept_to_the_byte(void **state)
{
    heap *h = heed__heap_new(NULL, heed__heap_cost(100, 16) + heed__heap_cost(50, 16));
    uint8_t *a = heed__alloc(h, 100, 1), *b = heed__alloc(h, 51, 1);

    (void)state;
    assert_non_null(a);
    assert_null(b);
    b = heed__alloc(h, 50, 1);
    assert_non_null(b);
    assert_null(heed__resize(h, b, 51, 1));
    heed__release(h, a);
    b = heed__resize(h, b, 51, 1);
    assert_non_null(b);
    heed__release(h, b);
    heed__heap_free(h);
}

static void the_nth_allocation_fails_when_a_test_asks(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint8_t *a, *b;

    (void)state;
    heed__heap_fail_at(h, 2, false);
    a = heed__alloc(h, 1, 1);
    assert_non_null(a);
    a[0] = 5;
    assert_null(heed__resize(h, a, 100, 1));
    assert_int_equal(a[0], 5);
    b = heed__alloc(h, 1, 1);
    assert_non_null(b);
    heed__heap_fail_at(h, 1, true);
    assert_null(heed__alloc(h, 1, 1));
    assert_null(heed__alloc_raw(h, 1, 1, 64));
    heed__heap_fail_at(h, 0, false);
    heed__release(h, b);
    b = heed__alloc(h, 1, 1);
    assert_non_null(b);
    heed__release(h, a);
    heed__release(h, b);
    assert_int_equal(heed__heap_calls(h), 6);
    heed__heap_free(h);
}

static void copying_no_string_gives_no_string(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    char *copy = heed__copy_string(h, "attend");

    (void)state;
    assert_string_equal(copy, "attend");
    assert_null(heed__copy_string(h, NULL));
    heed__release(h, copy);
    heed__heap_free(h);
}

static void arena_blocks_are_zeroed_apart_and_freed_together(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    arena a;
    uint8_t *blocks[600];

    (void)state;
    heed__arena_init(&a, h);
    for (size_t i = 0; i < 600; i++) {
        const size_t n = i * 37 % 2500; /* small ones, some as large as chunks */
        blocks[i] = heed__arena_alloc(&a, n, 1);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(all_zero(blocks[i], n));
        memset(blocks[i], (int)(i % 251) + 1, n);
    }
    for (size_t i = 0; i < 600; i++)
        for (size_t k = 0; k < i * 37 % 2500; k++)
            assert_int_equal(blocks[i][k], i % 251 + 1);
    heed__arena_release(&a);
    assert_int_equal(heed__heap_bytes(h), 0);
    assert_non_null(heed__arena_alloc(&a, 1, 1)); /* it may be used again */
    heed__arena_release(&a);
    heed__heap_free(h);
}

static void an_arena_keeps_strings(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    arena a;

    (void)state;
    heed__arena_init(&a, h);
    assert_string_equal(heed__arena_string(&a, "query"), "query");
    assert_null(heed__arena_string(&a, NULL));
    assert_string_equal(heed__arena_format(&a, "%s.%d", "layer", 12), "layer.12");
    assert_memory_equal(heed__arena_copy(&a, "\0\1\2", 3), "\0\1\2", 3);
    assert_non_null(heed__arena_copy(&a, NULL, 0));
    assert_null(heed__arena_alloc(&a, SIZE_MAX / 4, 8));
    assert_null(heed__arena_alloc(&a, SIZE_MAX - 3, 1));
    heed__arena_release(&a);
    heed__heap_free(h);
}

static heed_status arena_run(heed_context *ctx, void *user, heed_error *err)
{
    heed_status st = HEED_OK;
    arena a;

    (void)user;
    heed__arena_init(&a, ctx->heap);
    for (size_t i = 0; i < 40 && st == HEED_OK; i++)
        if (!heed__arena_alloc(&a, i * 100, 1) || !heed__arena_format(&a, "%zu", i))
            st = heed__fail_memory(err, i * 100);
    heed__arena_release(&a);
    return st;
}

static void an_arena_survives_each_failing_allocation(void **state)
{
    const heed_scenario s = { .name = "arena", .run = arena_run };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
    assert_true(report.calls > 3);
}

static heed_status careless_run(heed_context *ctx, void *user, heed_error *err)
{
    void *block = heed__alloc(ctx->heap, 1, 1);

    (void)user;
    (void)err;
    heed__release(ctx->heap, block);
    return HEED_OK;
}

static heed_status leaking_run(heed_context *ctx, void *user, heed_error *err)
{
    void **kept = user;

    kept[0] = heed__alloc(ctx->heap, 1, 1);
    if (!kept[0])
        return heed__fail_memory(err, 1);
    kept[1] = heed__alloc(ctx->heap, 1, 1);
    if (!kept[1])
        return heed__fail_memory(err, 1); /* forgets kept[0] */
    heed__release(ctx->heap, kept[1]);
    heed__release(ctx->heap, kept[0]);
    kept[0] = NULL;
    return HEED_OK;
}

static void leaking_prepare(heed_context *ctx, void *user)
{
    void **kept = user;

    heed__release(ctx->heap, kept[0]);
    kept[0] = NULL;
}

static void fail_each_notices_a_swallowed_failure_and_a_leak(void **state)
{
    const heed_scenario careless = { .name = "careless (must be BAD)", .run = careless_run };
    const heed_scenario leaking = { .name = "leaking (must be BAD)",
                                    .run = leaking_run,
                                    .prepare = leaking_prepare };
    heed_fail_report report;
    void *kept[2] = { NULL, NULL };

    (void)state;
    assert_false(heed_fail_each(&careless, NULL, &report));
    assert_false(heed_fail_each(&leaking, kept, &report));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_zeroed_and_aligned_to_16),
        cmocka_unit_test(an_empty_block_is_a_valid_pointer),
        cmocka_unit_test(a_raw_block_has_the_alignment_that_was_asked_for),
        cmocka_unit_test(sizes_that_overflow_give_nothing),
        cmocka_unit_test(growing_keeps_the_bytes_and_zeroes_the_new_ones),
        cmocka_unit_test(a_huge_block_is_aligned_and_counted_like_any_other),
        cmocka_unit_test(the_counters_say_what_the_allocator_gave),
        cmocka_unit_test(the_limit_is_kept_to_the_byte),
        cmocka_unit_test(the_nth_allocation_fails_when_a_test_asks),
        cmocka_unit_test(copying_no_string_gives_no_string),
        cmocka_unit_test(arena_blocks_are_zeroed_apart_and_freed_together),
        cmocka_unit_test(an_arena_keeps_strings),
        cmocka_unit_test(an_arena_survives_each_failing_allocation),
        cmocka_unit_test(fail_each_notices_a_swallowed_failure_and_a_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
