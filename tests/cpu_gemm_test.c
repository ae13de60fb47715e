/* Packed matrix products: right within rounding, nothing written outside, and the same bits however the work
 * is cut. */

#include "cpu/gemm.h"
#include "cpu_levels.h"

#include <math.h>

#define DIGEST_PORTABLE 0xf557f1c757031198u

typedef enum layout { BY_ROWS, BY_COLUMNS, SPREAD } layout; /* SPREAD: gaps in both directions */

static matrix lay_out(float *data, layout how, int64_t rows, int64_t cols)
{
    switch (how) {
    case BY_ROWS:
        return (matrix){ data, cols + 3, 1 };
    case BY_COLUMNS:
        return (matrix){ data, 1, rows + 5 };
    default:
        return (matrix){ data, 2 * cols + 1, 2 };
    }
}

static int64_t room_for(layout how, int64_t rows, int64_t cols)
{
    return rows && cols ? (how == BY_COLUMNS ? (rows + 5) * cols : (2 * cols + 3) * rows) : 0;
}

static float at(matrix m, int64_t i, int64_t j)
{
    return m.data[i * m.rs + j * m.cs];
}

static void multiply(const gemm_ops *ops, float *c, int64_t ldc, matrix a, matrix b, int64_t begin,
                     int64_t end, int64_t n, int64_t k, bool add)
{
    guarded gp, gs;
    float *packed = guarded_new(&gp, ops->packed_bytes(k, n));
    void *scratch = guarded_new(&gs, ops->scratch_bytes());

    ops->pack(packed, b, k, n, 0, (n + ops->nr - 1) / ops->nr);
    ops->rows(c, ldc, a, packed, begin, end, n, k, add, scratch);
    guarded_free(&gs);
    guarded_free(&gp);
}

/* |c - reference| <= (longest chain + number of K blocks + 2) 2^-24 sum |terms|; twice that where products
 * round too. */
static void check(const gemm_ops *ops, heed_isa isa, int64_t m, int64_t n, int64_t k, layout la, layout lb,
                  bool add)
{
    const int64_t ldc = n + 2;
    const double unit = ldexp((double)(k % GEMM_KC + k / GEMM_KC + (k < GEMM_KC ? 0 : GEMM_KC) + 2),
                              isa == HEED_ISA_PORTABLE ? -23 : -24);
    uint64_t seed = (uint64_t)(m * 1000003 + n * 1009 + k);
    guarded ga, gb, gc;
    float *ad = guarded_floats(&ga, room_for(la, m, k)), *bd = guarded_floats(&gb, room_for(lb, k, n));
    float *c = guarded_floats(&gc, m * ldc);
    float *before = malloc((size_t)(m * ldc + 1) * sizeof(float));
    const matrix a = lay_out(ad, la, m, k), b = lay_out(bd, lb, k, n);

    assert_non_null(before);
    for (int64_t i = 0; i < m; i++)
        for (int64_t p = 0; p < k; p++)
            ad[i * a.rs + p * a.cs] = next_number(&seed);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++)
            bd[p * b.rs + j * b.cs] = next_number(&seed);
    fill_numbers(c, m * ldc, &seed);
    memcpy(before, c, (size_t)(m * ldc) * sizeof(float));

    multiply(ops, c, ldc, a, b, 0, m, n, k, add);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = add ? (double)before[i * ldc + j] : 0.0, size = fabs(sum);

            for (int64_t p = 0; p < k; p++) {
                sum += (double)at(a, i, p) * (double)at(b, p, j);
                size += fabs((double)at(a, i, p) * (double)at(b, p, j));
            }
            if (!(fabs((double)c[i * ldc + j] - sum) <= unit * size))
                fail_msg("%s %lld x %lld x %lld layouts %d %d add %d: c[%lld,%lld] = %.9g, not %.9g",
                         heed_isa_name(isa), (long long)m, (long long)n, (long long)k, (int)la, (int)lb, add,
                         (long long)i, (long long)j, (double)c[i * ldc + j], sum);
        }
        assert_memory_equal(c + i * ldc + n, before + i * ldc + n, 2 * sizeof(float));
    }
    free(before);
    guarded_free(&gc);
    guarded_free(&gb);
    guarded_free(&ga);
}

static void a_product_is_right_for_every_shape_and_layout(void **state)
{
    static const int64_t ms[] = { 0, 1, 2, 3, 4, 5, 7, 8, 13, 15, 29, 97, 113 };
    static const int64_t ns[] = { 0, 1, 7, 8, 9, 16, 17, 31, 33, 64, 65, 150, 300 };
    static const int64_t ks[] = { 0, 1, 2, 5, 16, 33, 256, 257, 515 };

    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        int turn = 0;

        for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
            for (size_t j = 0; j < sizeof ns / sizeof *ns; j++)
                for (size_t p = 0; p < sizeof ks / sizeof *ks; p++, turn++)
                    check(ops, isa, ms[i], ns[j], ks[p], (layout)(turn % 3), (layout)(turn / 3 % 3),
                          turn / 9 % 2);
        for (turn = 0; turn < 18; turn++)
            check(ops, isa, 31, 67, 261, (layout)(turn % 3), (layout)(turn / 3 % 3), turn / 9);
    }
}

/* One 100 x 90 x 300 product, the parts of which are compared below. */
enum { M = 100, N = 90, K = 300 };
typedef struct problem {
    float a[M * K], b[K * N], c[M * N], part[M * N];
} problem;

static problem *problem_new(const gemm_ops *ops)
{
    problem *p = malloc(sizeof *p);
    uint64_t seed = 7;

    assert_non_null(p);
    fill_numbers(p->a, M * K, &seed);
    fill_numbers(p->b, K * N, &seed);
    multiply(ops, p->c, N, (matrix){ p->a, K, 1 }, (matrix){ p->b, N, 1 }, 0, M, N, K, false);
    return p;
}

static void a_row_alone_has_the_bits_it_has_among_others(void **state)
{
    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        problem *p = problem_new(ops);

        for (int64_t m = 1; m < 20; m++)
            for (int64_t i = 0; i + m <= M; i += 13) {
                multiply(ops, p->part, N, (matrix){ p->a + i * K, K, 1 }, (matrix){ p->b, N, 1 }, 0, m, N, K,
                         false);
                assert_memory_equal(p->part, p->c + i * N, (size_t)(m * N) * sizeof(float));
            }
        free(p);
    }
}

static void columns_alone_have_the_bits_they_have_among_others(void **state)
{
    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        problem *p = problem_new(ops);

        for (int64_t n = 1; n < N; n += 6)
            for (int64_t j = 0; j + n <= N; j += 17) {
                multiply(ops, p->part, n, (matrix){ p->a, K, 1 }, (matrix){ p->b + j, N, 1 }, 0, M, n, K,
                         false);
                for (int64_t i = 0; i < M; i++)
                    assert_memory_equal(p->part + i * n, p->c + i * N + j, (size_t)n * sizeof(float));
            }
        free(p);
    }
}

static void rows_have_the_same_bits_however_they_are_split(void **state)
{
    static const int64_t cuts[][4] = { { 0, 1, 2, M }, { 0, 50, 50, M }, { 0, 7, 64, M }, { 0, 33, 99, M } };

    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        problem *p = problem_new(ops);

        for (size_t t = 0; t < sizeof cuts / sizeof *cuts; t++) {
            memset(p->part, 0xff, sizeof p->part);
            for (int q = 2; q >= 0; q--)
                multiply(ops, p->part, N, (matrix){ p->a, K, 1 }, (matrix){ p->b, N, 1 }, cuts[t][q],
                         cuts[t][q + 1], N, K, false);
            assert_memory_equal(p->part, p->c, sizeof p->c);
        }
        free(p);
    }
}

static void bits_do_not_depend_on_how_the_matrices_lie(void **state)
{
    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        problem *p = problem_new(ops);
        float *a = malloc(sizeof(float) * M * K), *b = malloc(sizeof(float) * K * N);

        assert_non_null(a);
        assert_non_null(b);
        for (int64_t q = 0; q < K; q++) {
            for (int64_t i = 0; i < M; i++)
                a[q * M + i] = p->a[i * K + q];
            for (int64_t j = 0; j < N; j++)
                b[j * K + q] = p->b[q * N + j];
        }
        multiply(ops, p->part, N, (matrix){ a, 1, M }, (matrix){ b, 1, K }, 0, M, N, K, false);
        assert_memory_equal(p->part, p->c, sizeof p->c);
        for (int64_t i = 0; i + 3 <= M; i += 3) {
            multiply(ops, p->part, N, (matrix){ a + i, 1, M }, (matrix){ b, 1, K }, 0, 3, N, K, false);
            assert_memory_equal(p->part, p->c + i * N, 3 * N * sizeof(float));
        }
        free(b);
        free(a);
        free(p);
    }
}

static void adding_gives_the_bits_of_a_longer_k(void **state)
{
    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        problem *p = problem_new(ops);

        multiply(ops, p->part, N, (matrix){ p->a, K, 1 }, (matrix){ p->b, N, 1 }, 0, M, N, GEMM_KC, false);
        multiply(ops, p->part, N, (matrix){ p->a + GEMM_KC, K, 1 }, (matrix){ p->b + GEMM_KC * N, N, 1 }, 0,
                 M, N, K - GEMM_KC, true);
        assert_memory_equal(p->part, p->c, sizeof p->c);
        free(p);
    }
}

static void panels_can_be_packed_in_any_order(void **state)
{
    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        const int64_t panels = (N + ops->nr - 1) / ops->nr;
        const size_t bytes = ops->packed_bytes(K, N);
        problem *p = problem_new(ops);
        guarded g, h;
        float *whole = guarded_new(&g, bytes), *parts = guarded_new(&h, bytes);

        ops->pack(whole, (matrix){ p->b, N, 1 }, K, N, 0, panels);
        for (int64_t j = panels - 1; j >= 0; j--)
            ops->pack(parts, (matrix){ p->b, N, 1 }, K, N, j, j + 1);
        assert_memory_equal(whole, parts, bytes);
        guarded_free(&h);
        guarded_free(&g);
        free(p);
    }
}

static void the_portable_level_gives_the_same_bits_everywhere(void **state)
{
    problem *p = problem_new(heed__gemm_ops(HEED_ISA_PORTABLE));
    const uint64_t digest = digest_bytes(DIGEST_START, p->c, sizeof p->c);

    (void)state;
    free(p);
    if (digest != DIGEST_PORTABLE)
        fail_msg("digest 0x%llxu", (unsigned long long)digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_right_for_every_shape_and_layout),
        cmocka_unit_test(a_row_alone_has_the_bits_it_has_among_others),
        cmocka_unit_test(columns_alone_have_the_bits_they_have_among_others),
        cmocka_unit_test(rows_have_the_same_bits_however_they_are_split),
        cmocka_unit_test(bits_do_not_depend_on_how_the_matrices_lie),
        cmocka_unit_test(adding_gives_the_bits_of_a_longer_k),
        cmocka_unit_test(panels_can_be_packed_in_any_order),
        cmocka_unit_test(the_portable_level_gives_the_same_bits_everywhere),
    };

    levels_print_skipped();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
