/* The same bits whatever the number of threads: 200 training steps of an MLP and of a small conv-attention
 * with dropout, mirrored and shifted pictures and an odd last batch, on every level of this CPU. The digests
 * are printed. */
#include "support/cmocka.h"
#include "support/toy.h"

#include <string.h>

static void the_number_of_threads_changes_no_bit_of(const char *name, heed_build_fn *build,
                                                    const void *config)
{
    static const int threads[] = { 1, 2, 3, 7 };

    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        char first[65] = "", digest[65];

        if (!heed_isa_available((heed_isa)isa)) {
            print_message("%-14s %-10s skipped: not on this CPU\n", name, heed_isa_name((heed_isa)isa));
            continue;
        }
        for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
            heed_context *ctx = toy_context(threads[i], (heed_isa)isa);

            toy_train_digest(digest, ctx, build, config, 200);
            heed_context_free(ctx);
            if (i == 0)
                memcpy(first, digest, sizeof first);
            assert_string_equal(first, digest);
        }
        print_message("%-14s %-10s 1, 2, 3, 7 threads, 200 steps: %s\n", name, heed_isa_name((heed_isa)isa),
                      first);
    }
}

static void threads_change_no_bit_of_an_mlp(void **state)
{
    (void)state;
    the_number_of_threads_changes_no_bit_of("mlp", toy_mlp, NULL);
}

static void threads_change_no_bit_of_conv_attention(void **state)
{
    (void)state;
    the_number_of_threads_changes_no_bit_of("conv-attention", toy_conv_attention_build(),
                                            &toy_conv_attention);
}

/* A test that cannot fail proves nothing: one more step gives another digest. */
static void the_digest_tells_200_steps_from_201(void **state)
{
    heed_context *ctx = toy_context(1, HEED_ISA_AUTO);
    char a[65], b[65];

    (void)state;
    toy_train_digest(a, ctx, toy_mlp, NULL, 200);
    toy_train_digest(b, ctx, toy_mlp, NULL, 201);
    heed_context_free(ctx);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit_of_an_mlp),
        cmocka_unit_test(threads_change_no_bit_of_conv_attention),
        cmocka_unit_test(the_digest_tells_200_steps_from_201),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
