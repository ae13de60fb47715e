/* Every case of tests/golden/attention, computed in every way that must agree with it: the composition, what the planner chooses
 * and, where they serve, the fused kernels; every instruction level of this CPU; 1, 2 and 7 threads, with the same bytes. */
#include "support/cmocka.h"
#include "support/scratch.h"
#include <heed/heed.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER HEED_SOURCE_DIR "/tests/golden/attention"
enum { CASES_LEAST = 98 };

typedef struct cases {
    char *name[256];
    int n;
} cases;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cases all_cases(void)
{
    cases c = { .n = 0 };
    DIR *d = opendir(FOLDER);

    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, ".safetensors")) {
            const size_t size = strlen(FOLDER) + strlen(e->d_name) + 2;

            assert_true(c.n < 256);
            c.name[c.n] = malloc(size);
            assert_non_null(c.name[c.n]);
            (void)snprintf(c.name[c.n++], size, "%s/%s", FOLDER, e->d_name);
        }
    closedir(d);
    qsort(c.name, (size_t)c.n, sizeof *c.name, by_name);
    return c;
}

static void free_cases(cases *c)
{
    for (int i = 0; i < c->n; i++)
        free(c->name[i]);
}

static const char *short_name(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Computes what is expected. False, and a line for each tensor that is wrong, when something is. *made: 0 when the kernel does not
 * serve the case. */
static bool check(heed_context *ctx, const char *path, heed_attend_kernel kernel, heed_attend **made)
{
    static const char *const kernels[] = { "auto", "reference", "streaming" };
    heed_error err = { 0 };
    heed_attend *a = NULL;
    heed_status st = heed_attend_open(&a, ctx, path, &err);
    bool ok = true, refused;

    *made = NULL;
    assert_int_equal(st, HEED_OK);
    st = heed_attend_build(a, &(heed_attend_opts){ .kernel = kernel, .expected = true }, &err);
    if (st == HEED_ERR_MISSING && kernel == HEED_ATTEND_STREAMING) {
        heed_attend_free(a);
        return true;
    }
    if (st == HEED_OK)
        st = heed_attend_run(a, &err);
    refused = heed_attend_refusal_expected(a, NULL);
    if (refused ? heed_status_exit_code(st) != 3 : st != HEED_OK) {
        print_message("%s, %s, %s: %s%s\n", short_name(path), kernels[kernel],
                      heed_isa_name(heed_context_isa(ctx)), heed_status_name(st), err.text);
        ok = false;
    }
    for (int i = 0; !refused && st == HEED_OK && i < heed_attend_expected(a); i++) {
        const heed_attend_line l = heed_attend_compare(a, i);

        if (!l.ok)
            print_message("%s, %s, %s: %s %s, off by %g, %g of what is allowed\n", short_name(path),
                          kernels[kernel], heed_isa_name(heed_context_isa(ctx)), l.name, l.why, l.worst,
                          l.share);
        ok = ok && l.ok;
    }
    *made = a;
    return ok;
}

static heed_context *context(heed_isa isa, int threads)
{
    heed_context *ctx = NULL;

    assert_int_equal(
        heed_context_new(&ctx, &(heed_context_opts){ .threads = threads, .isa = isa }, NULL), HEED_OK);
    return ctx;
}

static void every_case_is_met_by_every_kernel_on_every_level(void **state)
{
    cases c = all_cases();
    int bad = 0, streamed = 0;

    (void)state;
    assert_true(c.n >= CASES_LEAST);
    for (heed_isa isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        heed_context *ctx;

        if (!heed_isa_available(isa))
            continue;
        ctx = context(isa, 1);
        for (int i = 0; i < c.n; i++)
            for (heed_attend_kernel k = HEED_ATTEND_AUTO; k <= HEED_ATTEND_STREAMING; k++) {
                heed_attend *a;

                bad += !check(ctx, c.name[i], k, &a);
                streamed += k == HEED_ATTEND_STREAMING && a;
                heed_attend_free(a);
            }
        heed_context_free(ctx);
    }
    print_message("%d cases, %d runs by fused kernels alone\n", c.n, streamed);
    free_cases(&c);
    assert_int_equal(bad, 0);
}

static size_t bytes_of(const heed_tensor *t)
{
    return (size_t)heed_type_count(&t->type) * heed_dtype_size(t->type.dtype);
}

static void threads_change_no_byte(void **state)
{
    static const int threads[] = { 1, 2, 7 };
    cases c = all_cases();
    heed_context *ctx[3];

    (void)state;
    for (int t = 0; t < 3; t++)
        ctx[t] = context(HEED_ISA_AUTO, threads[t]);
    for (int i = 0; i < c.n; i++) {
        heed_attend *a[3];

        for (int t = 0; t < 3; t++) {
            (void)check(ctx[t], c.name[i], HEED_ATTEND_AUTO, &a[t]);
            assert_int_equal(heed_attend_results(a[t]), heed_attend_results(a[0]));
            for (int r = 0; r < heed_attend_results(a[t]); r++) {
                heed_tensor x, y;

                (void)heed_attend_result(a[0], r, &x);
                (void)heed_attend_result(a[t], r, &y);
                assert_memory_equal(x.data, y.data, bytes_of(&x));
            }
        }
        for (int t = 0; t < 3; t++)
            heed_attend_free(a[t]);
    }
    for (int t = 0; t < 3; t++)
        heed_context_free(ctx[t]);
    free_cases(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_met_by_every_kernel_on_every_level),
        cmocka_unit_test(threads_change_no_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
