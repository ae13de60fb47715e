/* cmocka for systems that have none, as far as tests of src/cpu and of single ops use it: tools/check/cross builds
 * those for other processors. A failed assertion ends its test, any other test still runs. */
#ifndef STAND_IN_CMOCKA_H
#define STAND_IN_CMOCKA_H

#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

static jmp_buf stand_in_end __attribute__((unused));

#define fail_msg(...)                                                                                        \
    do {                                                                                                     \
        printf("%s:%d: ", __FILE__, __LINE__);                                                               \
        printf(__VA_ARGS__);                                                                                 \
        printf("\n");                                                                                        \
        longjmp(stand_in_end, 1);                                                                            \
    } while (0)
#define stand_in_assert(holds)                                                                               \
    do {                                                                                                     \
        if (!(holds))                                                                                        \
            fail_msg("not so: %s", #holds);                                                                  \
    } while (0)
#define assert_true(x) stand_in_assert(x)
#define assert_false(x) stand_in_assert(!(x))
#define assert_null(p) stand_in_assert((p) == NULL)
#define assert_non_null(p) stand_in_assert((p) != NULL)
#define assert_ptr_equal(a, b) stand_in_assert((const void *)(a) == (const void *)(b))
#define assert_int_equal(a, b) stand_in_assert((long long)(a) == (long long)(b))
#define assert_memory_equal(a, b, n) stand_in_assert(memcmp((a), (b), (n)) == 0)

#define cmocka_unit_test(f) { #f, f }
#define cmocka_run_group_tests(tests, setup, teardown) stand_in_run((tests), sizeof(tests) / sizeof *(tests))

static inline int stand_in_run(const struct CMUnitTest *tests, size_t n)
{
    volatile int failed = 0;

    for (volatile size_t i = 0; i < n; i++) {
        void *state = NULL;

        if (setjmp(stand_in_end) == 0) {
            tests[i].run(&state);
        } else {
            printf("failed: %s\n", tests[i].name);
            failed = failed + 1;
        }
    }
    printf("%d of %d passed\n", (int)n - failed, (int)n);
    return failed;
}

#endif
