/* Row primitives: tails, steps, in place, the order of sums, rows through scratch, f16 and bf16, optimiser
 * steps. */
#include "cpu/reference.h"
#include "cpu_row_levels.h"

#include <math.h>

#define LONGEST 67 /* more than four vectors of 16 lanes and a part */
#define GUARD 16
#define SENTINEL 12345.678f

static void fill(float *x, int n, uint32_t seed, float low, float high)
{
    for (int i = 0; i < n; i++)
        x[i] = next_float(&seed, low, high);
}

static void fill_sentinels(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = SENTINEL;
}

/* y[GUARD .. GUARD + n) was written; nothing around it was. */
static void check_guards(const float *y, int n)
{
    for (int i = 0; i < LONGEST + 2 * GUARD; i++)
        if (i < GUARD || i >= GUARD + n)
            assert_true(y[i] == SENTINEL);
}

static void every_map_of_any_length_writes_its_row_only(void **state)
{
    float x[LONGEST + 1], one[LONGEST], y[LONGEST + 2 * GUARD];
    const levels here = levels_here();

    (void)state;
    fill(x, LONGEST + 1, 1, 0.1f, 3.0f);
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < ROW_UNARY_COUNT; f++) {
            for (int i = 0; i < LONGEST; i++) /* each element alone: what it must be anywhere */
                here.row[l]->unary[f](one + i, x + 1 + i, 1);
            for (int n = 0; n <= LONGEST; n++) {
                fill_sentinels(y, COUNT(y));
                here.row[l]->unary[f](y + GUARD, x + 1, n);
                check_guards(y, n);
                assert_memory_equal(y + GUARD, one, (size_t)n * sizeof *y);
            }
        }
    }
}

static void a_map_may_overwrite_its_input(void **state)
{
    float x[LONGEST], y[LONGEST], z[LONGEST], b[LONGEST];
    const levels here = levels_here();

    (void)state;
    fill(x, LONGEST, 2, 0.1f, 3.0f);
    fill(b, LONGEST, 3, 0.1f, 3.0f);
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < ROW_UNARY_COUNT; f++) {
            here.row[l]->unary[f](y, x, LONGEST);
            memcpy(z, x, sizeof z);
            here.row[l]->unary[f](z, z, LONGEST);
            assert_memory_equal(y, z, sizeof z);
        }
        for (int f = 0; f < ROW_BINARY_COUNT; f++) {
            here.row[l]->binary[f](y, x, 1, b, 1, LONGEST);
            memcpy(z, x, sizeof z);
            here.row[l]->binary[f](z, z, 1, b, 1, LONGEST);
            assert_memory_equal(y, z, sizeof z);
            memcpy(z, b, sizeof z);
            here.row[l]->binary[f](z, x, 1, z, 1, LONGEST);
            assert_memory_equal(y, z, sizeof z);
        }
    }
}

static void a_step_of_zero_repeats_the_first_element(void **state)
{
    float a[LONGEST], b[LONGEST], wide_a[LONGEST], wide_b[LONGEST], want[LONGEST], y[LONGEST + 2 * GUARD];
    const levels here = levels_here();

    (void)state;
    fill(a, LONGEST, 4, 0.1f, 3.0f);
    fill(b, LONGEST, 5, -3.0f, 3.0f);
    b[0] = 2.0f; /* a power with a short way */
    for (int i = 0; i < LONGEST; i++) {
        wide_a[i] = a[0];
        wide_b[i] = b[0];
    }
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < ROW_BINARY_COUNT; f++) {
            for (int steps = 0; steps < 4; steps++) {
                const int as = steps & 1, bs = steps >> 1;

                for (int n = 0; n <= LONGEST; n++) {
                    here.row[l]->binary[f](want, as ? a : wide_a, 1, bs ? b : wide_b, 1, n);
                    fill_sentinels(y, COUNT(y));
                    here.row[l]->binary[f](y + GUARD, a, as, b, bs, n);
                    check_guards(y, n);
                    assert_memory_equal(y + GUARD, want, (size_t)n * sizeof *y);
                }
            }
        }
    }
}

static void simple_maps_of_two_are_exact(void **state)
{
    const row_binary exact[] = { ROW_ADD, ROW_SUB, ROW_MUL, ROW_DIV, ROW_MAX, ROW_MIN, ROW_RELU_GRAD };
    float a[LONGEST], b[LONGEST], y[LONGEST];
    const levels here = levels_here();

    (void)state;
    fill(a, LONGEST, 6, -3.0f, 3.0f);
    fill(b, LONGEST, 7, -3.0f, 3.0f);
    for (int l = 0; l < here.count; l++) {
        for (int f = 0; f < COUNT(exact); f++) {
            here.row[l]->binary[exact[f]](y, a, 1, b, 1, LONGEST);
            for (int i = 0; i < LONGEST; i++)
                assert_int_equal(bits_of(y[i]),
                                 bits_of((float)ref_binary(exact[f], (double)a[i], (double)b[i])));
        }
        here.row[l]->binary[ROW_SIGMOID_GRAD](y, a, 1, b, 1, LONGEST);
        for (int i = 0; i < LONGEST; i++)
            assert_true(fabs((double)y[i] - ref_sigmoid_grad((double)a[i], (double)b[i])) < 1e-5);
        here.row[l]->binary[ROW_TANH_GRAD](y, a, 1, b, 1, LONGEST);
        for (int i = 0; i < LONGEST; i++)
            assert_true(fabs((double)y[i] - ref_tanh_grad((double)a[i], (double)b[i])) < 1e-5);
    }
}

static void a_nan_survives_max_min_and_relu(void **state)
{
    const float a[] = { NAN, 1.0f, NAN, 2.0f }, b[] = { 1.0f, NAN, NAN, 3.0f };
    const levels here = levels_here();
    float y[4];

    (void)state;
    for (int l = 0; l < here.count; l++) {
        here.row[l]->binary[ROW_MAX](y, a, 1, b, 1, 4);
        assert_true(isnan(y[0]) && isnan(y[1]) && isnan(y[2]) && y[3] == 3.0f);
        here.row[l]->binary[ROW_MIN](y, a, 1, b, 1, 4);
        assert_true(isnan(y[0]) && isnan(y[1]) && isnan(y[2]) && y[3] == 2.0f);
        here.row[l]->unary[ROW_RELU](y, a, 4);
        assert_true(isnan(y[0]) && y[1] == 1.0f);
    }
}

static void sums_are_close_to_exact(void **state)
{
    static float x[100000], y[100000];
    const int sizes[] = { 0, 1, 7, 49, 64, 1000, 4096, 4097, 100000 };
    const levels here = levels_here();

    (void)state;
    fill(x, COUNT(x), 8, -1.0f, 1.5f);
    fill(y, COUNT(y), 9, -1.0f, 1.0f);
    for (int l = 0; l < here.count; l++) {
        for (int k = 0; k < COUNT(sizes); k++) {
            const int n = sizes[k];
            const float mean = 0.25f;
            double sum = 0.0, dot = 0.0, squares = 0.0, terms = 0.0;
            float got[3];

            for (int i = 0; i < n; i++) {
                sum += (double)x[i];
                terms += fabs((double)x[i]);
                dot += (double)x[i] * (double)y[i];
                squares += ((double)x[i] - 0.25) * ((double)x[i] - 0.25);
            }
            here.row[l]->sum(got, (rows){ x, 1, n, n });
            here.row[l]->dot(got + 1, (rows){ x, 1, n, n }, (rows){ y, 1, n, n });
            here.row[l]->sum_squares(got + 2, (rows){ x, 1, n, n }, &mean);
            assert_true(fabs((double)got[0] - sum) <= 1e-6 * terms);
            assert_true(fabs((double)got[1] - dot) <= 1e-6 * terms);
            assert_true(fabs((double)got[2] - squares) <= 2e-6 * squares);
            assert_true(here.row[l]->total(x, n) == got[0]);
        }
    }
}

/* The same row alone, among others, at another address, and with zeros behind it. */
static void a_sum_does_not_know_where_its_row_lies(void **state)
{
    static float x[9000], moved[9001], padded[9300];
    const levels here = levels_here();

    (void)state;
    fill(x, COUNT(x), 10, -1.0f, 1.0f);
    for (int l = 0; l < here.count; l++) {
        for (int n = 1; n <= 9000; n = n * 3 / 2 + 1) {
            float alone, block[3], other, behind_zeros;

            memcpy(moved + 1, x, (size_t)n * sizeof *x);
            memcpy(padded, x, (size_t)n * sizeof *x);
            memset(padded + n, 0, (COUNT(padded) - (size_t)n) * sizeof *x);
            here.row[l]->sum(&alone, (rows){ x, 1, n, n });
            here.row[l]->sum(block, (rows){ x, 3, n, 0 }); /* stride 0: one row three times */
            here.row[l]->sum(&other, (rows){ moved + 1, 1, n, n });
            here.row[l]->sum(&behind_zeros, (rows){ padded, 1, n + 300, n + 300 });
            assert_true(alone == block[0] && alone == block[1] && alone == block[2]);
            assert_true(alone == other);
            assert_true(alone == behind_zeros);
        }
    }
}

static void the_maximum_is_found_anywhere(void **state)
{
    float x[LONGEST], m;
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        here.row[l]->max(&m, (rows){ x, 1, 0, 0 });
        assert_true(m == -INFINITY);
        for (int n = 1; n <= LONGEST; n++) {
            for (int at = 0; at < n; at++) {
                fill(x, LONGEST, 11, -9.0f, -1.0f);
                x[at] = -0.5f;
                here.row[l]->max(&m, (rows){ x, 1, n, n });
                assert_true(m == -0.5f);
                x[at] = NAN;
                here.row[l]->max(&m, (rows){ x, 1, n, n });
                assert_true(isnan(m));
            }
        }
    }
}

static void softmax_of_primitives_sums_to_one(void **state)
{
    static float x[3 * 1000], y[3 * 1000], dy[3 * 1000], dx[3 * 1000];
    const int sizes[] = { 1, 16, 49, 64, 67, 1000 };
    const levels here = levels_here();

    (void)state;
    fill(x, COUNT(x), 12, -1e4f, 1e4f);
    fill(x, 1500, 13, -5.0f, 5.0f);
    fill(dy, COUNT(dy), 14, -1.0f, 1.0f);
    for (int l = 0; l < here.count; l++) {
        for (int k = 0; k < COUNT(sizes); k++) {
            const int n = sizes[k];
            const rows from = { x, 3, n, n }, to = { y, 3, n, n }, grad = { dy, 3, n, n };
            float m[3], s[3], dot[3];

            here.row[l]->max(m, from);
            here.row[l]->exp_sum(to, s, from, m);
            here.row[l]->divide(to, s);
            here.row[l]->dot(dot, to, grad);
            here.row[l]->softmax_grad((rows){ dx, 3, n, n }, to, grad, dot);
            for (int r = 0; r < 3; r++) {
                double sum = 0.0, exact_dot = 0.0, all = 0.0;

                for (int i = 0; i < n; i++)
                    sum += exp((double)x[r * n + i] - (double)m[r]);
                for (int i = 0; i < n; i++) {
                    const double p = exp((double)x[r * n + i] - (double)m[r]) / sum;

                    assert_true(fabs((double)y[r * n + i] - p) < 1e-6 * p + 1e-37);
                    exact_dot += p * (double)dy[r * n + i];
                    all += (double)y[r * n + i];
                }
                assert_true(fabs(all - 1.0) < 1e-6);
                for (int i = 0; i < n; i++) {
                    const double p = exp((double)x[r * n + i] - (double)m[r]) / sum;
                    assert_true(fabs((double)dx[r * n + i] - p * ((double)dy[r * n + i] - exact_dot)) < 1e-6);
                }
            }
        }
    }
}

static void masked_elements_vanish_and_a_row_of_them_is_nan(void **state)
{
    const float x[] = { -INFINITY, 1.0f, -INFINITY, 1.0f }, none[] = { -INFINITY, -INFINITY };
    const levels here = levels_here();
    float y[4], m, s;

    (void)state;
    for (int l = 0; l < here.count; l++) {
        memcpy(y, x, sizeof y);
        here.row[l]->max(&m, (rows){ y, 1, 4, 4 });
        here.row[l]->exp_sum((rows){ y, 1, 4, 4 }, &s, (rows){ y, 1, 4, 4 }, &m);
        here.row[l]->divide((rows){ y, 1, 4, 4 }, &s);
        assert_true(y[0] == 0.0f && y[1] == 0.5f && y[2] == 0.0f && y[3] == 0.5f);
        memcpy(y, none, sizeof none);
        here.row[l]->max(&m, (rows){ y, 1, 2, 2 });
        here.row[l]->exp_sum((rows){ y, 1, 2, 2 }, &s, (rows){ y, 1, 2, 2 }, &m);
        assert_true(isnan(y[0]) && isnan(s));
    }
}

static void normalize_takes_any_of_its_four_parts(void **state)
{
    float x[2 * 50], y[2 * 50], weight[50], bias[50];
    const float mean[] = { 0.5f, -1.0f }, rstd[] = { 2.0f, 0.3f };
    const levels here = levels_here();

    (void)state;
    fill(x, COUNT(x), 15, -2.0f, 2.0f);
    fill(weight, 50, 16, -2.0f, 2.0f);
    fill(bias, 50, 17, -2.0f, 2.0f);
    for (int l = 0; l < here.count; l++) {
        for (int n = 0; n <= 50; n += n < 34 ? 1 : 16) {
            for (int parts = 0; parts < 16; parts++) {
                here.row[l]->normalize((rows){ y, 2, n, n }, (rows){ x, 2, n, n }, parts & 1 ? mean : NULL,
                                       parts & 2 ? rstd : NULL, parts & 4 ? weight : NULL,
                                       parts & 8 ? bias : NULL);
                for (int i = 0; i < 2 * n; i++) {
                    double want = (double)x[i];

                    want -= parts & 1 ? (double)mean[i / n] : 0.0;
                    want *= parts & 2 ? (double)rstd[i / n] : 1.0;
                    want *= parts & 4 ? (double)weight[i % n] : 1.0;
                    want += parts & 8 ? (double)bias[i % n] : 0.0;
                    assert_true(fabs((double)y[i] - want) < 2e-6);
                }
            }
        }
    }
}

static void scaled_rows_are_added_and_subtracted(void **state)
{
    float x[LONGEST], y[LONGEST + 2 * GUARD], z[LONGEST];
    const float s[] = { 0.5f, -1.0f };
    const levels here = levels_here();

    (void)state;
    fill(x, LONGEST, 18, -1.0f, 1.0f);
    for (int l = 0; l < here.count; l++) {
        for (int n = 0; n <= LONGEST; n++) {
            fill_sentinels(y, COUNT(y));
            here.row[l]->scale_to(y + GUARD, x, 3.0f, n);
            here.row[l]->add_scaled(y + GUARD, x, -2.0f, n);
            check_guards(y, n);
            for (int i = 0; i < n; i++)
                assert_true(fabsf(y[GUARD + i] - x[i]) < 1e-6f);
        }
        here.row[l]->subtract((rows){ z, 2, 33, 33 }, (rows){ x, 2, 33, 33 }, s);
        for (int i = 0; i < 66; i++)
            assert_true(z[i] == x[i] - s[i / 33]);
    }
}

/* ---- Rows of views ---- */

static void rows_of_a_dense_view_are_its_own_memory(void **state)
{
    float data[40 * 5], scratch[1];
    const heed_type type = HEED_TYPE(HEED_F32, 4, 10, 5);
    const view v = heed__view(data, &type);
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        const rows x = here.row[l]->in(&v, 7, 40, scratch), last = here.row[l]->out(&v, 30, 40, scratch);

        assert_ptr_equal(x.data, data + 35);
        assert_int_equal(x.count, ROWS_MAX);
        assert_int_equal(x.n, 5);
        assert_int_equal(x.stride, 5);
        assert_ptr_equal(last.data, data + 150);
        assert_int_equal(last.count, 10);
    }
}

/* [2,3,4] seen as [3,2,4]: rows 0 12 4 16 8 20, which are not equally spaced; and one column of it, [3,2]
 * with step 4. */
static void rows_that_are_not_equally_spaced_go_through_scratch(void **state)
{
    float data[24], copy[24], scratch[ROWS_MAX * 16];
    const heed_type type = HEED_TYPE(HEED_F32, 2, 3, 4);
    view v = heed__view(data, &type);
    const levels here = levels_here();

    (void)state;
    v.type = HEED_TYPE(HEED_F32, 3, 2, 4);
    v.strides[0] = 4;
    v.strides[1] = 12;
    for (int l = 0; l < here.count; l++) {
        for (int i = 0; i < 24; i++)
            copy[i] = data[i] = (float)i;
        rows x = here.row[l]->in(&v, 1, 6, scratch);
        assert_int_equal(x.count, 5);
        assert_ptr_equal(x.data, scratch);
        for (int j = 0; j < 4; j++) {
            assert_true(x.data[j] == (float)(12 + j));
            assert_true(x.data[4 * x.stride + j] == (float)(20 + j));
        }
        x = here.row[l]->out(&v, 2, 4, scratch);
        assert_int_equal(x.count, 2);
        for (int j = 0; j < 4; j++)
            x.data[j] = x.data[x.stride + j] = copy[4 + j] = copy[16 + j] = -1.0f;
        here.row[l]->commit(&v, 2, x);
        assert_memory_equal(data, copy, sizeof data);

        view column = v;
        column.type.rank = 2;
        column.strides[0] = 4;
        column.strides[1] = 12;
        x = here.row[l]->in(&column, 0, 3, scratch);
        assert_true(x.data[0] == 0.0f && x.data[1] == 12.0f && x.data[2 * x.stride] == 8.0f);
        x.data[1] = 99.0f;
        here.row[l]->commit(&column, 0, x);
        assert_true(data[12] == 99.0f);
    }
}

static void halves_are_widened_and_narrowed_on_the_way(void **state)
{
    const uint16_t one_two[] = { 0x3c00, 0x4000, 0x3f80, 0x4000 }; /* 1 2 as f16, then as bf16 */
    float scratch[ROWS_MAX * 16];
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int kind = 0; kind < 2; kind++) {
            uint16_t data[2 * 3];
            const heed_type type = HEED_TYPE(kind ? HEED_BF16 : HEED_F16, 2, 3);
            const view v = heed__view(data, &type);

            for (int i = 0; i < 6; i++)
                data[i] = one_two[2 * kind + i % 2];
            rows x = here.row[l]->in(&v, 0, 2, scratch);
            assert_int_equal(x.count, 2);
            assert_true(x.data[0] == 1.0f && x.data[1] == 2.0f && x.data[x.stride] == 2.0f);
            x = here.row[l]->out(&v, 1, 2, scratch);
            x.data[0] = x.data[2] = 1.0f;
            x.data[1] = 2.0f;
            here.row[l]->commit(&v, 1, x);
            assert_int_equal(data[3], one_two[2 * kind]);
            assert_int_equal(data[4], one_two[2 * kind + 1]);
            assert_int_equal(data[2], one_two[2 * kind]);
        }
    }
}

static void an_output_without_memory_has_scratch_rows(void **state)
{
    float scratch[ROWS_MAX * 16] = { 0 };
    const heed_type type = HEED_TYPE(HEED_F32, 3, 4), numbers = HEED_TYPE(HEED_I64, 3, 4);
    const view v = heed__view(NULL, &type), other = heed__view(scratch, &numbers);
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        const rows y = here.row[l]->out(&v, 0, 3, scratch);

        assert_ptr_equal(y.data, scratch);
        assert_int_equal(y.count, 3);
        here.row[l]->commit(&v, 0, y);
        assert_int_equal(here.row[l]->in(&v, 0, 3, scratch).count, 0);
        assert_int_equal(here.row[l]->in(&other, 0, 3, scratch).count, 0);
        assert_int_equal(here.row[l]->in(&v, 3, 3, scratch).count, 0);
    }
}

static void scratch_holds_a_block_of_rows(void **state)
{
    (void)state;
    assert_int_equal(heed__rows_scratch_bytes(1), ROWS_MAX * 16 * sizeof(float));
    assert_int_equal(heed__rows_scratch_bytes(17), ROWS_MAX * 32 * sizeof(float));
    assert_int_equal(heed__rows_scratch_bytes(0), 0);
    assert_true(heed__rows_scratch_bytes(-1) == SIZE_MAX);
    assert_true(heed__rows_scratch_bytes(INT64_MAX) == SIZE_MAX);
}

/* ---- f16 and bf16 ---- */

/* The value of an f16, by its definition. */
static float f16_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                             : exponent == 0 ? ldexp(fraction, -24)
                                             : ldexp(1024 + fraction, exponent - 25);

    return (float)(h >> 15 ? -magnitude : magnitude);
}

static void every_f16_and_bf16_survives_widening_and_narrowing(void **state)
{
    static uint16_t all[65536], back[65536];
    static float wide[65536];
    const levels here = levels_here();

    (void)state;
    for (int i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (int l = 0; l < here.count; l++) {
        here.row[l]->widen_f16(wide, all, 65536);
        here.row[l]->narrow_f16(back, wide, 65536);
        for (int i = 0; i < 65536; i++) {
            const float want = f16_value(all[i]);

            assert_true(isnan(want) ? isnan(wide[i]) : bits_of(wide[i]) == bits_of(want));
            assert_int_equal(back[i], isnan(want) ? i | 0x200 : i); /* a NaN becomes quiet */
        }
        here.row[l]->widen_bf16(wide, all, 65536);
        here.row[l]->narrow_bf16(back, wide, 65536);
        for (int i = 0; i < 65536; i++) {
            assert_int_equal(bits_of(wide[i]), (uint32_t)i << 16);
            assert_int_equal(back[i], isnan(wide[i]) ? i | 0x40 : i);
        }
    }
}

/* Around the middle between two neighbours: ties go to the even one. */
static void narrowing_rounds_to_the_nearest_and_ties_to_even(void **state)
{
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int h = 0; h < 0x7c00; h++) {
            const float low = f16_value((uint16_t)h),
                        high = h == 0x7bff ? 65536.0f : f16_value((uint16_t)(h + 1));
            const float middle = 0.5f * (low + high);
            const float x[] = { float_of(bits_of(middle) - 1), middle, float_of(bits_of(middle) + 1),
                                -middle };
            const int even = h + (h & 1);
            uint16_t y[4];

            here.row[l]->narrow_f16(y, x, 4);
            assert_int_equal(y[0], h);
            assert_int_equal(y[1], even);
            assert_int_equal(y[2], h + 1);
            assert_int_equal(y[3], even | 0x8000);
        }
        for (uint32_t h = 0; h < 0x7f80; h++) {
            const uint32_t middle = h << 16 | 0x8000;
            const float x[] = { float_of(middle - 1), float_of(middle), float_of(middle + 1) };
            uint16_t y[3];

            here.row[l]->narrow_bf16(y, x, 3);
            assert_int_equal(y[0], h);
            assert_int_equal(y[1], h + (h & 1));
            assert_int_equal(y[2], h + 1);
        }
    }
}

static void levels_narrow_any_float_to_the_same_bits(void **state)
{
    static float x[5003];
    static uint16_t want[5003], got[5003];
    const levels here = levels_here();
    uint32_t seed = 19;

    (void)state;
    for (int pass = 0; pass < 100; pass++) {
        for (int i = 0; i < COUNT(x); i++)
            x[i] = float_of(next_word(&seed));
        for (int l = 0; l < here.count; l++) {
            here.row[l]->narrow_f16(l ? got : want, x, COUNT(x));
            if (l)
                assert_memory_equal(got, want, sizeof got);
        }
        for (int l = 0; l < here.count; l++) {
            here.row[l]->narrow_bf16(l ? got : want, x, COUNT(x));
            if (l)
                assert_memory_equal(got, want, sizeof got);
        }
    }
}

static void short_halves_write_their_row_only(void **state)
{
    uint16_t y[LONGEST + 2 * GUARD];
    float x[LONGEST];
    const levels here = levels_here();

    (void)state;
    for (int i = 0; i < LONGEST; i++)
        x[i] = 1.0f;
    for (int l = 0; l < here.count; l++) {
        for (int n = 0; n <= LONGEST; n++) {
            for (int i = 0; i < COUNT(y); i++)
                y[i] = 0x1234;
            here.row[l]->narrow_f16(y + GUARD, x, n);
            for (int i = 0; i < COUNT(y); i++)
                assert_int_equal(y[i], i >= GUARD && i < GUARD + n ? 0x3c00 : 0x1234);
        }
    }
}

/* ---- Optimisers: ten steps against the formulas of cpu/rows.h in double ---- */

#define PARAMS 37
#define STEPS 10

static void adam_follows_its_formula(void **state)
{
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int kind = 0; kind < 4; kind++) { /* bit 0: amsgrad; bit 1: AdamW, else Adam with L2 */
            float p[PARAMS], m[PARAMS] = { 0 }, v[PARAMS] = { 0 }, most[PARAMS] = { 0 }, g[PARAMS];
            double rp[PARAMS], rm[PARAMS] = { 0 }, rv[PARAMS] = { 0 }, rmost[PARAMS] = { 0 };

            fill(p, PARAMS, 20, -1.0f, 1.0f);
            for (int i = 0; i < PARAMS; i++)
                rp[i] = (double)p[i];
            for (int t = 1; t <= STEPS; t++) {
                const double lr = 0.01, beta1 = 0.9, beta2 = 0.9999, eps = 1e-8, decay = 0.1, clip = 0.5;
                const double bias1 = 1.0 - pow(beta1, t), root = 1.0 / sqrt(1.0 - pow(beta2, t));
                const float c[8] = {
                    [ADAM_STEP] = (float)(lr / bias1),
                    [ADAM_ONE_MINUS_BETA1] = (float)(1.0 - beta1),
                    [ADAM_ONE_MINUS_BETA2] = (float)(1.0 - beta2),
                    [ADAM_EPS] = (float)eps,
                    [ADAM_ROOT] = (float)root,
                    [ADAM_DECAY] = kind & 2 ? 0.0f : (float)decay,
                    [ADAM_KEEP] = kind & 2 ? (float)(1.0 - lr * decay) : 1.0f,
                    [ADAM_CLIP] = (float)clip,
                };

                fill(g, PARAMS, 30 + (uint32_t)t, -1.0f, 1.0f);
                here.row[l]->adam(p, m, v, kind & 1 ? most : NULL, g, PARAMS, c);
                for (int i = 0; i < PARAMS; i++) {
                    const double h = clip * (double)g[i] + (kind & 2 ? 0.0 : decay * rp[i]);

                    rp[i] *= kind & 2 ? 1.0 - lr * decay : 1.0;
                    rm[i] = beta1 * rm[i] + (1.0 - beta1) * h;
                    rv[i] = beta2 * rv[i] + (1.0 - beta2) * h * h;
                    rmost[i] = fmax(rmost[i], rv[i]);
                    rp[i] -= lr / bias1 * rm[i] / (sqrt(kind & 1 ? rmost[i] : rv[i]) * root + eps);
                }
            }
            for (int i = 0; i < PARAMS; i++) {
                assert_true(fabs((double)p[i] - rp[i]) < 1e-6);
                assert_true(fabs((double)v[i] - rv[i]) < 1e-6 * rv[i]);
                assert_true(!(kind & 1) || fabs((double)most[i] - rmost[i]) < 1e-6 * rmost[i]);
            }
        }
    }
}

static void sgd_follows_its_formula(void **state)
{
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int kind = 0; kind < 3; kind++) { /* plain, momentum, nesterov */
            const double lr = 0.05, momentum = 0.9, dampening = kind == 1 ? 0.2 : 0.0, decay = 0.01,
                         clip = 0.5;
            float p[PARAMS], buf[PARAMS], g[PARAMS];
            double rp[PARAMS], rbuf[PARAMS] = { 0 };

            fill(p, PARAMS, 21, -1.0f, 1.0f);
            fill(buf, PARAMS, 22, -1.0f, 1.0f); /* the first step does not read it */
            for (int i = 0; i < PARAMS; i++)
                rp[i] = (double)p[i];
            for (int t = 0; t < STEPS; t++) {
                const float c[8] = {
                    [SGD_LR] = (float)lr,
                    [SGD_MOMENTUM] = (float)momentum,
                    [SGD_ONE_MINUS_DAMPENING] = (float)(1.0 - dampening),
                    [SGD_DECAY] = (float)decay,
                    [SGD_NESTEROV] = kind == 2,
                    [SGD_FIRST] = t == 0,
                    [SGD_CLIP] = (float)clip,
                };

                fill(g, PARAMS, 40 + (uint32_t)t, -1.0f, 1.0f);
                here.row[l]->sgd(p, kind ? buf : NULL, g, PARAMS, c);
                for (int i = 0; i < PARAMS; i++) {
                    const double h = clip * (double)g[i] + decay * rp[i];

                    rbuf[i] = t == 0 ? h : momentum * rbuf[i] + (1.0 - dampening) * h;
                    rp[i] -= lr * (kind == 0 ? h : kind == 1 ? rbuf[i] : h + momentum * rbuf[i]);
                }
            }
            for (int i = 0; i < PARAMS; i++)
                assert_true(fabs((double)p[i] - rp[i]) < 2e-6);
        }
    }
}

static void rmsprop_follows_its_formula(void **state)
{
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        for (int kind = 0; kind < 2; kind++) { /* without and with momentum */
            const double lr = 0.01, alpha = 0.99, eps = 1e-8, decay = 0.01, momentum = 0.9, clip = 0.5;
            const float c[8] = {
                [RMSPROP_LR] = (float)lr,
                [RMSPROP_ONE_MINUS_ALPHA] = (float)(1.0 - alpha),
                [RMSPROP_EPS] = (float)eps,
                [RMSPROP_DECAY] = (float)decay,
                [RMSPROP_MOMENTUM] = (float)momentum,
                [RMSPROP_CLIP] = (float)clip,
            };
            float p[PARAMS], square[PARAMS] = { 0 }, buf[PARAMS] = { 0 }, g[PARAMS];
            double rp[PARAMS], rsquare[PARAMS] = { 0 }, rbuf[PARAMS] = { 0 };

            fill(p, PARAMS, 23, -1.0f, 1.0f);
            for (int i = 0; i < PARAMS; i++)
                rp[i] = (double)p[i];
            for (int t = 0; t < STEPS; t++) {
                fill(g, PARAMS, 50 + (uint32_t)t, 0.1f, 1.0f);
                here.row[l]->rmsprop(p, square, kind ? buf : NULL, g, PARAMS, c);
                for (int i = 0; i < PARAMS; i++) {
                    const double h = clip * (double)g[i] + decay * rp[i];

                    rsquare[i] = alpha * rsquare[i] + (1.0 - alpha) * h * h;
                    rbuf[i] = (kind ? momentum * rbuf[i] : 0.0) + h / (sqrt(rsquare[i]) + eps);
                    rp[i] -= lr * rbuf[i];
                }
            }
            for (int i = 0; i < PARAMS; i++)
                assert_true(fabs((double)p[i] - rp[i]) < 5e-6);
        }
    }
}

static void a_level_that_is_not_built_has_no_table(void **state)
{
    (void)state;
    assert_non_null(heed__row_ops(HEED_ISA_PORTABLE));
    assert_null(heed__row_ops(HEED_ISA_AUTO));
    assert_null(heed__row_ops((heed_isa)99));
    assert_null(heed__row_ops((heed_isa)-1));
}

static void every_table_is_complete(void **state)
{
    const levels here = levels_here();

    (void)state;
    for (int l = 0; l < here.count; l++) {
        void (*entries[sizeof(row_ops) / sizeof(void (*)(void))])(void);

        memcpy(entries, here.row[l], sizeof(row_ops));
        for (int i = 0; i < COUNT(entries); i++)
            assert_true(entries[i] != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_map_of_any_length_writes_its_row_only),
        cmocka_unit_test(a_map_may_overwrite_its_input),
        cmocka_unit_test(a_step_of_zero_repeats_the_first_element),
        cmocka_unit_test(simple_maps_of_two_are_exact),
        cmocka_unit_test(a_nan_survives_max_min_and_relu),
        cmocka_unit_test(sums_are_close_to_exact),
        cmocka_unit_test(a_sum_does_not_know_where_its_row_lies),
        cmocka_unit_test(the_maximum_is_found_anywhere),
        cmocka_unit_test(softmax_of_primitives_sums_to_one),
        cmocka_unit_test(masked_elements_vanish_and_a_row_of_them_is_nan),
        cmocka_unit_test(normalize_takes_any_of_its_four_parts),
        cmocka_unit_test(scaled_rows_are_added_and_subtracted),
        cmocka_unit_test(rows_of_a_dense_view_are_its_own_memory),
        cmocka_unit_test(rows_that_are_not_equally_spaced_go_through_scratch),
        cmocka_unit_test(halves_are_widened_and_narrowed_on_the_way),
        cmocka_unit_test(an_output_without_memory_has_scratch_rows),
        cmocka_unit_test(scratch_holds_a_block_of_rows),
        cmocka_unit_test(every_f16_and_bf16_survives_widening_and_narrowing),
        cmocka_unit_test(narrowing_rounds_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(levels_narrow_any_float_to_the_same_bits),
        cmocka_unit_test(short_halves_write_their_row_only),
        cmocka_unit_test(adam_follows_its_formula),
        cmocka_unit_test(sgd_follows_its_formula),
        cmocka_unit_test(rmsprop_follows_its_formula),
        cmocka_unit_test(a_level_that_is_not_built_has_no_table),
        cmocka_unit_test(every_table_is_complete),
    };

    levels_print_skipped();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
