/* Random numbers: known answers, the rule of addresses, normals against libm, permutations. */
#include "support/cmocka.h"
#include "base/digest.h"
#include "base/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t words[4];
    } known[] = {
        /* kat_vectors of Random123 */
        { { 0, 0, 0, 0 }, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          0xffffffffffffffff,
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          0x299f31d0a4093822,
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t words[4];

        heed__philox(words, known[i].counter, known[i].key);
        assert_memory_equal(words, known[i].words, sizeof words);
    }
}

static void a_word_is_found_by_column_row_step_and_path(void **state)
{
    const rng r = heed__rng(0x0123456789abcdefu, 7, "encoder.dropout");
    const uint32_t counter[4] = { 1000003 / 4, 42, 7, heed__crc32c_string("encoder.dropout") };
    uint32_t want[4], quad[4];

    (void)state;
    heed__philox(want, counter, 0x0123456789abcdefu);
    assert_int_equal(heed__rng_word(&r, 42, 1000003), want[3]);
    heed__rng_quad(quad, &r, 42, 1000003 / 4);
    assert_memory_equal(quad, want, sizeof want);
}

static void uniform_numbers_begin_at_zero_and_stay_below_one(void **state)
{
    (void)state;
    assert_true(heed__unit(0) == 0.0f);
    assert_true(heed__unit(UINT32_MAX) == 1 - 0x1p-24f);
    assert_true(heed__unit(0x80000000u) == 0.5f);
}

static double normal_by_libm(uint32_t a, uint32_t b)
{
    const long double u1 = ((long double)a + 0.5L) / 4294967296.0L,
                      u2 = ((long double)b + 0.5L) / 4294967296.0L;

    return (double)(sqrtl(-2 * logl(u1)) * cosl(6.283185307179586476925286766559L * u2));
}

static void normal_numbers_are_as_libm_would_have_them(void **state)
{
    static const uint32_t edges[] = { 0,          1,          2,          0x3fffffff, 0x40000000,
                                      0x40000001, 0x5a827999, 0xb504f333, 0x7fffffff, 0x80000000,
                                      0xbfffffff, 0xc0000000, 0xfffffffe, 0xffffffff };
    const rng r = heed__rng(1, 0, "test");
    double worst = 0;

    (void)state;
    for (size_t i = 0; i < 14; i++)
        for (size_t k = 0; k < 14; k++)
            worst =
                fmax(worst, fabs(heed__normal_f64(edges[i], edges[k]) - normal_by_libm(edges[i], edges[k])));
    for (uint32_t i = 0; i < 200000; i++) {
        const uint32_t a = heed__rng_word(&r, 0, i), b = heed__rng_word(&r, 1, i);
        worst = fmax(worst, fabs(heed__normal_f64(a, b) - normal_by_libm(a, b)));
    }
    print_message("largest difference from libm: %.2e\n", worst);
    assert_true(worst < 1e-12);
}

static void normal_numbers_have_mean_zero_and_variance_one(void **state)
{
    const rng r = heed__rng(3, 1, "moments");
    const int n = 400000;
    double sum = 0, squares = 0, fourths = 0;

    (void)state;
    for (int i = 0; i < n; i++) {
        const double z =
            (double)heed__normal(heed__rng_word(&r, 0, (uint32_t)i), heed__rng_word(&r, 1, (uint32_t)i));
        sum += z;
        squares += z * z;
        fourths += z * z * z * z;
    }
    assert_true(fabs(sum / n) < 5 / sqrt(n)); /* five standard errors */
    assert_true(fabs(squares / n - 1) < 5 * sqrt(2.0 / n));
    assert_true(fabs(fourths / n - 3) < 5 * sqrt(96.0 / n));
}

static void a_shuffle_is_a_permutation_by_the_rule(void **state)
{
    const rng r = heed__rng(5, 2, "data.train");
    int64_t order[1000], want[1000];
    bool seen[1000] = { false };

    (void)state;
    heed__shuffle(order, 1000, &r);
    for (int64_t i = 0; i < 1000; i++) {
        assert_in_range(order[i], 0, 999);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        want[i] = i;
    }
    for (int64_t i = 999; i > 0; i--) { /* word by word, as the header says */
        const int64_t j = (int64_t)((uint64_t)heed__rng_word(&r, 0, (uint32_t)i) * (uint64_t)(i + 1) >> 32);
        const int64_t moved = want[i];
        want[i] = want[j];
        want[j] = moved;
    }
    assert_memory_equal(order, want, sizeof want);
    heed__shuffle(order, 0, &r);
    heed__shuffle(order, 1, &r);
    assert_int_equal(order[0], 0);
}

static void every_permutation_of_four_comes_equally_often(void **state)
{
    int count[256] = { 0 };
    const int n = 24000;

    (void)state;
    for (int i = 0; i < n; i++) {
        const rng r = heed__rng(9, (uint32_t)i, "data.small");
        int64_t o[4];

        heed__shuffle(o, 4, &r);
        count[o[0] + 4 * o[1] + 16 * o[2] + 64 * o[3]]++;
    }
    for (int i = 0; i < 256; i++)
        assert_true(count[i] == 0 || (count[i] > 1000 - 160 && count[i] < 1000 + 160)); /* five sigma: 155 */
}

static void another_seed_step_or_path_gives_other_words(void **state)
{
    const rng base = heed__rng(1, 1, "a"), seed = heed__rng(2, 1, "a"), step = heed__rng(1, 2, "a"),
              path = heed__rng(1, 1, "b");
    const uint32_t w = heed__rng_word(&base, 0, 0);

    (void)state;
    assert_int_not_equal(w, heed__rng_word(&seed, 0, 0));
    assert_int_not_equal(w, heed__rng_word(&step, 0, 0));
    assert_int_not_equal(w, heed__rng_word(&path, 0, 0));
    assert_int_not_equal(w, heed__rng_word(&base, 1, 0));
    assert_int_not_equal(w, heed__rng_word(&base, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(a_word_is_found_by_column_row_step_and_path),
        cmocka_unit_test(uniform_numbers_begin_at_zero_and_stay_below_one),
        cmocka_unit_test(normal_numbers_are_as_libm_would_have_them),
        cmocka_unit_test(normal_numbers_have_mean_zero_and_variance_one),
        cmocka_unit_test(a_shuffle_is_a_permutation_by_the_rule),
        cmocka_unit_test(every_permutation_of_four_comes_equally_often),
        cmocka_unit_test(another_seed_step_or_path_gives_other_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
