/* Convolutions: right within rounding for every stride, dilation, padding and group, nothing written outside,
 * and the same bits for an item alone and among others. */

#include "cpu/gemm.h"
#include "cpu_levels.h"

#include <math.h>

#define DIGEST_PORTABLE 0x82a3be12df8234b3u

/* batch, in, out channels, groups; height, width; kernel; stride; dilation; padding before; padding after */
typedef struct sample {
    int64_t b, i, o, g, h, w, kh, kw, sh, sw, dh, dw, ph, pw, qh, qw;
} sample;

static const sample samples[] = {
    { 3, 1, 16, 1, 28, 28, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 }, /* the demo's first layers */
    { 2, 16, 32, 1, 14, 14, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },
    { 7, 32, 64, 1, 7, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },
    { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0 },
    { 2, 3, 5, 1, 9, 8, 3, 5, 2, 3, 1, 1, 1, 2, 1, 2 },     /* strides */
    { 2, 4, 3, 1, 11, 13, 3, 3, 1, 1, 2, 3, 2, 3, 2, 3 },   /* dilation */
    { 2, 4, 3, 1, 17, 15, 3, 3, 2, 3, 3, 2, 2, 3, 2, 3 },   /* both */
    { 2, 4, 3, 1, 17, 16, 3, 4, 4, 2, 2, 4, 3, 1, 3, 1 },   /* stride and dilation with a common factor */
    { 2, 6, 9, 3, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },     /* groups */
    { 2, 10, 10, 10, 12, 9, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1 }, /* depthwise */
    { 2, 5, 10, 5, 12, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },   /* depthwise, two results a channel */
    { 2, 10, 5, 5, 12, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },
    { 2, 3, 4, 1, 8, 8, 2, 4, 1, 1, 1, 1, 0, 1, 1, 2 }, /* even kernels, "same" padding */
    { 2, 3, 4, 1, 8, 8, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0 }, /* patches */
    { 2, 3, 8, 1, 16, 16, 4, 4, 4, 4, 1, 1, 0, 0, 0, 0 },
    { 2, 7, 11, 1, 1, 50, 1, 5, 1, 1, 1, 1, 0, 2, 0, 2 }, /* one-dimensional */
    { 2, 7, 11, 1, 1, 50, 1, 3, 1, 2, 1, 4, 0, 8, 0, 0 }, /* causal */
    { 2, 33, 20, 1, 6, 6, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0 }, /* 1 x 1 */
    { 2, 33, 20, 1, 7, 7, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0 }, /* pixels that no tap reaches */
    { 2, 4, 4, 1, 9, 9, 2, 2, 3, 3, 1, 1, 0, 0, 0, 0 },
    { 1, 2, 3, 1, 3, 3, 3, 3, 1, 1, 1, 1, 5, 4, 5, 4 },     /* padding wider than the kernel */
    { 1, 2, 3, 1, 5, 5, 5, 5, 1, 1, 1, 1, 0, 0, 0, 0 },     /* one output pixel */
    { 1, 60, 18, 1, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },   /* K over more than one block */
    { 1, 96, 4, 1, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },  /* several blocks of rows */
    { 1, 48, 4, 1, 1, 3000, 1, 3, 1, 1, 1, 1, 0, 1, 0, 1 }, /* several blocks of columns */
    { 1, 40, 3, 1, 5, 900, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1 },
    { 0, 2, 3, 1, 4, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 }, /* nothing to do */
};

static conv_shape shape_of(const sample *t)
{
    return (conv_shape){ .batch = t->b,
                         .in_channels = t->i,
                         .out_channels = t->o,
                         .groups = t->g,
                         .in = { t->h, t->w },
                         .out = { (t->h + t->ph + t->qh - (t->kh - 1) * t->dh - 1) / t->sh + 1,
                                  (t->w + t->pw + t->qw - (t->kw - 1) * t->dw - 1) / t->sw + 1 },
                         .kernel = { t->kh, t->kw },
                         .stride = { t->sh, t->sw },
                         .dilation = { t->dh, t->dw },
                         .pad = { t->ph, t->pw } };
}

/* Inputs, and the three results with the sum of their terms' sizes, in double. */
typedef struct problem {
    conv_shape s;
    int64_t nx, ny, nw;
    guarded gx, gy, gw, gb;
    float *x, *dy, *w, *bias;
    double *y, *dx, *dw, *y_size, *dx_size, *dw_size;
} problem;

static double *doubles(int64_t n)
{
    double *p = calloc((size_t)n + 1, sizeof *p);

    assert_non_null(p);
    return p;
}

/* y += w x, dx += w dy, dw += x dy for every pair that a tap joins. */
static void problem_solve(problem *p)
{
    const conv_shape *s = &p->s;
    const int64_t ig = s->in_channels / s->groups, og = s->out_channels / s->groups;

    for (int64_t q = 0; q < p->ny; q++) {
        const int64_t c = q % s->out[1], r = q / s->out[1] % s->out[0];
        const int64_t o = q / (s->out[0] * s->out[1]) % s->out_channels,
                      b = q / (s->out[0] * s->out[1] * s->out_channels);

        p->y[q] = (double)p->bias[o];
        p->y_size[q] = fabs(p->y[q]);
        for (int64_t i = 0; i < ig; i++)
            for (int64_t h = 0; h < s->kernel[0]; h++)
                for (int64_t w = 0; w < s->kernel[1]; w++) {
                    const int64_t xr = r * s->stride[0] + h * s->dilation[0] - s->pad[0];
                    const int64_t xc = c * s->stride[1] + w * s->dilation[1] - s->pad[1];
                    const int64_t wi = ((o * ig + i) * s->kernel[0] + h) * s->kernel[1] + w;
                    const int64_t xi =
                        ((b * s->in_channels + o / og * ig + i) * s->in[0] + xr) * s->in[1] + xc;

                    if (xr < 0 || xr >= s->in[0] || xc < 0 || xc >= s->in[1])
                        continue;
                    p->y[q] += (double)p->w[wi] * (double)p->x[xi];
                    p->y_size[q] += fabs((double)p->w[wi] * (double)p->x[xi]);
                    p->dx[xi] += (double)p->w[wi] * (double)p->dy[q];
                    p->dx_size[xi] += fabs((double)p->w[wi] * (double)p->dy[q]);
                    p->dw[wi] += (double)p->x[xi] * (double)p->dy[q];
                    p->dw_size[wi] += fabs((double)p->x[xi] * (double)p->dy[q]);
                }
    }
}

static problem *problem_new(const sample *t)
{
    problem *p = calloc(1, sizeof *p);
    uint64_t seed = 11;

    assert_non_null(p);
    p->s = shape_of(t);
    p->nx = t->b * t->i * t->h * t->w;
    p->ny = t->b * t->o * p->s.out[0] * p->s.out[1];
    p->nw = t->o * (t->i / t->g) * t->kh * t->kw;
    p->x = guarded_floats(&p->gx, p->nx);
    p->dy = guarded_floats(&p->gy, p->ny);
    p->w = guarded_floats(&p->gw, p->nw);
    p->bias = guarded_floats(&p->gb, t->o);
    fill_numbers(p->x, p->nx, &seed);
    fill_numbers(p->dy, p->ny, &seed);
    fill_numbers(p->w, p->nw, &seed);
    fill_numbers(p->bias, t->o, &seed);
    p->y = doubles(p->ny), p->y_size = doubles(p->ny);
    p->dx = doubles(p->nx), p->dx_size = doubles(p->nx);
    p->dw = doubles(p->nw), p->dw_size = doubles(p->nw);
    problem_solve(p);
    return p;
}

static void problem_free(problem *p)
{
    guarded_free(&p->gx);
    guarded_free(&p->gy);
    guarded_free(&p->gw);
    guarded_free(&p->gb);
    free(p->y), free(p->y_size);
    free(p->dx), free(p->dx_size);
    free(p->dw), free(p->dw_size);
    free(p);
}

typedef enum pass { FORWARD, DX, DW } pass;

/* One call for the items [begin, end). */
static void run(const gemm_ops *ops, const problem *p, pass which, float *out, int64_t begin, int64_t end)
{
    guarded gp, gs;
    float *packed = guarded_new(&gp, which == FORWARD ? ops->conv_packed_bytes(&p->s)
                                     : which == DX    ? ops->conv_dx_packed_bytes(&p->s)
                                                      : 0);
    void *scratch = guarded_new(&gs, ops->conv_scratch_bytes(&p->s));

    if (which == FORWARD) {
        ops->conv_prepare(packed, p->w, &p->s);
        ops->conv_forward(out, p->x, packed, p->bias, &p->s, begin, end, scratch);
    } else if (which == DX) {
        ops->conv_dx_prepare(packed, p->w, &p->s);
        ops->conv_dx(out, p->dy, packed, &p->s, begin, end, scratch);
    } else {
        ops->conv_dw(out, p->x, p->dy, &p->s, begin, end, scratch);
    }
    guarded_free(&gs);
    guarded_free(&gp);
}

static void check(const sample *t, heed_isa isa, const char *what, const float *got, const double *want,
                  const double *size, int64_t n, int64_t terms)
{
    const double unit = ldexp((double)(terms + 3), isa == HEED_ISA_PORTABLE ? -23 : -24);

    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= unit * size[i]))
            fail_msg("%s, sample %d, %s[%lld] = %.9g, not %.9g", heed_isa_name(isa), (int)(t - samples), what,
                     (long long)i, (double)got[i], want[i]);
}

static void check_sample(const sample *t)
{
    problem *p = problem_new(t);
    const int64_t taps = t->kh * t->kw;

    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        guarded gy, gx, gw;
        float *y = guarded_floats(&gy, p->ny), *dx = guarded_floats(&gx, p->nx),
              *dw = guarded_floats(&gw, p->nw);

        run(ops, p, FORWARD, y, 0, t->b);
        check(t, isa, "y", y, p->y, p->y_size, p->ny, t->i / t->g * taps);
        run(ops, p, DX, dx, 0, t->b);
        check(t, isa, "dx", dx, p->dx, p->dx_size, p->nx, t->o / t->g * taps);
        memset(dw, 0, (size_t)p->nw * sizeof(float));
        run(ops, p, DW, dw, 0, t->b);
        check(t, isa, "dw", dw, p->dw, p->dw_size, p->nw, t->b * p->s.out[0] * p->s.out[1]);
        guarded_free(&gw);
        guarded_free(&gx);
        guarded_free(&gy);
    }
    problem_free(p);
}

static void a_convolution_and_its_gradients_match_the_direct_sums(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        check_sample(&samples[i]);
}

static int64_t draw(uint64_t *seed, int64_t from, int64_t to)
{
    return from + (int64_t)((double)(next_number(seed) + 1.0f) / 2 * (double)(to - from + 1));
}

static void so_do_three_hundred_drawn_shapes(void **state)
{
    uint64_t seed = 2024;

    (void)state;
    for (int n = 0; n < 300;) {
        const int64_t g = draw(&seed, 1, 3);
        const sample t = { .b = draw(&seed, 1, 3),
                           .i = g * draw(&seed, 1, 5),
                           .o = g * draw(&seed, 1, 9),
                           .g = g,
                           .h = draw(&seed, 1, 12),
                           .w = draw(&seed, 1, 20),
                           .kh = draw(&seed, 1, 4),
                           .kw = draw(&seed, 1, 4),
                           .sh = draw(&seed, 1, 3),
                           .sw = draw(&seed, 1, 4),
                           .dh = draw(&seed, 1, 3),
                           .dw = draw(&seed, 1, 4),
                           .ph = draw(&seed, 0, 4),
                           .pw = draw(&seed, 0, 4),
                           .qh = draw(&seed, 0, 4),
                           .qw = draw(&seed, 0, 4) };

        if (t.h + t.ph + t.qh < (t.kh - 1) * t.dh + 1 || t.w + t.pw + t.qw < (t.kw - 1) * t.dw + 1)
            continue;
        check_sample(&t);
        n++;
    }
}

static void an_item_alone_has_the_bits_it_has_among_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        problem *p = problem_new(&samples[i]);

        FOR_EACH_LEVEL(isa)
        {
            const gemm_ops *ops = heed__gemm_ops(isa);
            guarded g, h;
            float *whole = guarded_floats(&g, p->nx + p->ny), *part = guarded_floats(&h, p->nx + p->ny);

            run(ops, p, FORWARD, whole, 0, p->s.batch);
            run(ops, p, DX, whole + p->ny, 0, p->s.batch);
            for (int64_t b = p->s.batch - 1; b >= 0; b--) {
                run(ops, p, FORWARD, part, b, b + 1);
                run(ops, p, DX, part + p->ny, b, b + 1);
            }
            assert_memory_equal(part, whole, (size_t)(p->nx + p->ny) * sizeof(float));
            guarded_free(&h);
            guarded_free(&g);
        }
        problem_free(p);
    }
}

static void an_output_channel_has_the_same_bits_without_the_others(void **state)
{
    problem *p = problem_new(&samples[1]);
    const int64_t pixels = p->s.out[0] * p->s.out[1], all = p->s.out_channels;

    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        guarded g, h;
        float *whole = guarded_floats(&g, p->ny), *part = guarded_floats(&h, p->ny);

        p->s.out_channels = all;
        run(ops, p, FORWARD, whole, 0, 1);
        for (p->s.out_channels = 1; p->s.out_channels < all; p->s.out_channels++) {
            run(ops, p, FORWARD, part, 0, 1);
            assert_memory_equal(part, whole, (size_t)(p->s.out_channels * pixels) * sizeof(float));
        }
        guarded_free(&h);
        guarded_free(&g);
    }
    problem_free(p);
}

static void a_convolution_of_one_pixel_has_the_bits_of_a_product(void **state)
{
    problem *p = problem_new(&samples[17]);
    const int64_t pixels = p->s.out[0] * p->s.out[1], m = p->s.out_channels, k = p->s.in_channels;

    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        guarded g, h, gp, gs;
        float *y = guarded_floats(&g, p->ny), *c = guarded_floats(&h, m * pixels);
        float *packed = guarded_new(&gp, ops->packed_bytes(k, pixels));

        memset(p->bias, 0, (size_t)m * sizeof(float));
        run(ops, p, FORWARD, y, 0, 1);
        ops->pack(packed, (matrix){ p->x, pixels, 1 }, k, pixels, 0, (pixels + ops->nr - 1) / ops->nr);
        ops->rows(c, pixels, (matrix){ p->w, k, 1 }, packed, 0, m, pixels, k, false,
                  guarded_new(&gs, ops->scratch_bytes()));
        assert_memory_equal(c, y, (size_t)(m * pixels) * sizeof(float));
        guarded_free(&gs);
        guarded_free(&gp);
        guarded_free(&h);
        guarded_free(&g);
    }
    problem_free(p);
}

static void without_a_bias_nothing_is_added(void **state)
{
    problem *p = problem_new(&samples[4]);

    (void)state;
    FOR_EACH_LEVEL(isa)
    {
        const gemm_ops *ops = heed__gemm_ops(isa);
        guarded g, h, gp, gs;
        float *zero = guarded_floats(&g, p->ny), *none = guarded_floats(&h, p->ny);
        float *packed = guarded_new(&gp, ops->conv_packed_bytes(&p->s));

        memset(p->bias, 0, (size_t)p->s.out_channels * sizeof(float));
        run(ops, p, FORWARD, zero, 0, p->s.batch);
        ops->conv_prepare(packed, p->w, &p->s);
        ops->conv_forward(none, p->x, packed, NULL, &p->s, 0, p->s.batch,
                          guarded_new(&gs, ops->conv_scratch_bytes(&p->s)));
        assert_memory_equal(none, zero, (size_t)p->ny * sizeof(float));
        guarded_free(&gs);
        guarded_free(&gp);
        guarded_free(&h);
        guarded_free(&g);
    }
    problem_free(p);
}

static void the_portable_level_gives_the_same_bits_everywhere(void **state)
{
    const gemm_ops *ops = heed__gemm_ops(HEED_ISA_PORTABLE);
    uint64_t digest = DIGEST_START;

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        problem *p = problem_new(&samples[i]);
        guarded gy, gx, gw;
        float *y = guarded_floats(&gy, p->ny), *dx = guarded_floats(&gx, p->nx),
              *dw = guarded_floats(&gw, p->nw);

        memset(dw, 0, (size_t)p->nw * sizeof(float));
        run(ops, p, FORWARD, y, 0, p->s.batch);
        run(ops, p, DX, dx, 0, p->s.batch);
        run(ops, p, DW, dw, 0, p->s.batch);
        digest = digest_bytes(digest, y, (size_t)p->ny * sizeof(float));
        digest = digest_bytes(digest, dx, (size_t)p->nx * sizeof(float));
        digest = digest_bytes(digest, dw, (size_t)p->nw * sizeof(float));
        guarded_free(&gw);
        guarded_free(&gx);
        guarded_free(&gy);
        problem_free(p);
    }
    if (digest != DIGEST_PORTABLE)
        fail_msg("digest 0x%llxu", (unsigned long long)digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_and_its_gradients_match_the_direct_sums),
        cmocka_unit_test(so_do_three_hundred_drawn_shapes),
        cmocka_unit_test(an_item_alone_has_the_bits_it_has_among_others),
        cmocka_unit_test(an_output_channel_has_the_same_bits_without_the_others),
        cmocka_unit_test(a_convolution_of_one_pixel_has_the_bits_of_a_product),
        cmocka_unit_test(without_a_bias_nothing_is_added),
        cmocka_unit_test(the_portable_level_gives_the_same_bits_everywhere),
    };

    levels_print_skipped();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
