/* Metrics and curves against scikit-learn's (tests/golden/metrics, made by tools/corpus/metrics.py), to
 * 1e-12; what is refused; every allocation made to fail. */
#include "support/cmocka.h"
#include "support/fail_each.h"
#include "support/toy.h"
#include <heed/formats.h>
#include <heed/metrics.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cases[] = { "binary", "ten",      "ties",      "absent",       "perfect",
                                     "wrong",  "constant", "one_class", "one_of_three", "single" };
#define CASES ((int)(sizeof cases / sizeof *cases))

/* ---- golden files ---- */

static heed_safetensors *open_case(heed_context *ctx, const char *name)
{
    heed_safetensors *f = NULL;
    char path[256];

    snprintf(path, sizeof path, "%s/tests/golden/metrics/%s.safetensors", HEED_SOURCE_DIR, name);
    TOY_OK(heed_safetensors_open(&f, ctx, path, TOY_ERR));
    return f;
}

/* free() its data; data NULL: there is no such tensor. */
static heed_tensor get(heed_safetensors *f, const char *name)
{
    const int64_t i = heed_safetensors_find(f, name);
    heed_tensor t = { 0 };

    if (i < 0)
        return t;
    t.type = heed_safetensors_type(f, i);
    t.data = malloc((size_t)heed_safetensors_bytes(f, i) + 1);
    TOY_OK(heed_safetensors_read(f, i, t.data, TOY_ERR));
    return t;
}

static void near(const char *name, const char *what, double got, double wanted)
{
    if (isnan(wanted) ? !isnan(got)
                      : got != wanted && !(fabs(got - wanted) <= 1e-12 * fmax(fabs(wanted), 1e-300)))
        fail_msg("%s: %s is %.17g, not %.17g", name, what, got, wanted);
}

static void compare(const char *name, const heed_metrics *m, heed_safetensors *f)
{
    static const char *const scalar_names[] = { "accuracy",
                                                "balanced accuracy",
                                                "log loss",
                                                "majority",
                                                "ece",
                                                "roc_auc",
                                                "ap",
                                                "macro precision",
                                                "macro recall",
                                                "macro f1",
                                                "micro precision",
                                                "micro recall",
                                                "micro f1",
                                                "weighted precision",
                                                "weighted recall",
                                                "weighted f1" };
    const double got[16] = { m->accuracy,
                             m->balanced_accuracy,
                             m->log_loss,
                             m->majority,
                             m->ece,
                             m->roc_auc,
                             m->average_precision,
                             m->macro.precision,
                             m->macro.recall,
                             m->macro.f1,
                             m->micro.precision,
                             m->micro.recall,
                             m->micro.f1,
                             m->weighted.precision,
                             m->weighted.recall,
                             m->weighted.f1 };
    heed_tensor scalars = get(f, "scalars"), per_class = get(f, "per_class"), confusion = get(f, "confusion");
    const double *row = per_class.data;
    char what[64];

    for (int i = 0; i < 16; i++)
        near(name, scalar_names[i], got[i], ((const double *)scalars.data)[i]);
    for (int64_t c = 0; c < m->classes; c++, row += 7) {
        const heed_class_metrics *k = &m->per_class[c];
        const double seven[7] = { (double)k->support, (double)k->predicted, k->precision, k->recall, k->f1,
                                  k->roc_auc,         k->average_precision };

        for (int i = 0; i < 7; i++) {
            snprintf(what, sizeof what, "column %d of class %d", i, (int)c);
            near(name, what, seven[i], row[i]);
        }
    }
    assert_memory_equal(m->confusion, confusion.data, (size_t)(m->classes * m->classes) * sizeof(int64_t));
    free(scalars.data);
    free(per_class.data);
    free(confusion.data);
}

static void every_metric_is_scikit_learns(void **state)
{
    scratch *s = *state;

    for (int i = 0; i < CASES; i++) {
        heed_safetensors *f = open_case(s->ctx, cases[i]);
        heed_tensor p = get(f, "probability"), y = get(f, "labels");
        heed_metrics *m = NULL;

        TOY_OK(heed_metrics_new(&m, s->ctx, p, y, TOY_ERR));
        assert_int_equal(m->n, p.type.dims[0]);
        assert_int_equal(m->classes, p.type.dims[1]);
        compare(cases[i], m, f);
        heed_metrics_free(s->ctx, m);
        free(p.data);
        free(y.data);
        heed_safetensors_close(f);
    }
}

static int compare_curve(scratch *s, heed_safetensors *f, const char *file, heed_curve_kind kind,
                         int of_class)
{
    heed_tensor p, y, wanted;
    const double *x;
    heed_curve c;
    char name[32];

    snprintf(name, sizeof name, "%s.%d", kind == HEED_CURVE_ROC ? "roc" : "pr", of_class);
    wanted = get(f, name);
    if (!wanted.data)
        return 0;
    p = get(f, "probability");
    y = get(f, "labels");
    TOY_OK(heed_curve_make(&c, s->ctx, kind, p, y, of_class, TOY_ERR));
    assert_int_equal(c.n, wanted.type.dims[1]);
    x = wanted.data;
    for (int64_t i = 0; i < c.n; i++) {
        near(file, name, c.x[i], x[i]);
        near(file, name, c.y[i], x[c.n + i]);
        near(file, name, c.threshold[i], x[2 * c.n + i]);
    }
    heed_curve_release(s->ctx, &c);
    assert_null(c.x);
    free(p.data);
    free(y.data);
    free(wanted.data);
    return 1;
}

static void every_curve_is_scikit_learns(void **state)
{
    scratch *s = *state;
    int curves = 0;

    for (int i = 0; i < CASES; i++) {
        heed_safetensors *f = open_case(s->ctx, cases[i]);

        for (int c = 0; c < 10; c++)
            curves += compare_curve(s, f, cases[i], HEED_CURVE_ROC, c) +
                      compare_curve(s, f, cases[i], HEED_CURVE_PR, c);
        heed_safetensors_close(f);
    }
    assert_true(curves > 25);
}

static void a_curve_of_a_class_without_samples_is_no_number(void **state)
{
    scratch *s = *state;
    const float p[4] = { 0.25f, 0.75f, 0.5f, 0.5f };
    const int64_t y[2] = { 0, 0 };
    const heed_tensor probability = { HEED_TYPE(HEED_F32, 2, 2), (void *)(uintptr_t)p };
    const heed_tensor labels = { HEED_TYPE(HEED_I64, 2), (void *)(uintptr_t)y };
    heed_curve c;

    TOY_OK(heed_curve_make(&c, s->ctx, HEED_CURVE_PR, probability, labels, 1, TOY_ERR));
    assert_int_equal(c.n, 3);
    assert_true(isnan(c.x[0]) && isnan(c.x[2]) && c.y[2] == 1 && isinf(c.threshold[2]));
    heed_curve_release(s->ctx, &c);
    TOY_OK(heed_curve_make(&c, s->ctx, HEED_CURVE_ROC, probability, labels, 0, TOY_ERR));
    assert_true(isnan(c.x[0]) && isnan(c.x[2]) && c.y[0] == 0 && c.y[2] == 1);
    heed_curve_release(s->ctx, &c);
}

/* The order of samples changes nothing, however many are equal. */
static void the_order_of_samples_does_not_matter(void **state)
{
    enum { N = 300 };
    scratch *s = *state;
    heed_safetensors *f = open_case(s->ctx, "ties");
    heed_tensor p = get(f, "probability"), y = get(f, "labels");
    float backwards[N * 4];
    int64_t labels[N];
    heed_metrics *a = NULL, *b = NULL;

    for (int i = 0; i < N; i++) {
        memcpy(backwards + 4 * i, (const float *)p.data + 4 * (N - 1 - i), 4 * sizeof *backwards);
        labels[i] = ((const int64_t *)y.data)[N - 1 - i];
    }
    TOY_OK(heed_metrics_new(&a, s->ctx, p, y, TOY_ERR));
    TOY_OK(heed_metrics_new(&b, s->ctx, (heed_tensor){ p.type, backwards }, (heed_tensor){ y.type, labels },
                            TOY_ERR));
    for (int c = 0; c < 4; c++)
        assert_true(a->per_class[c].roc_auc == b->per_class[c].roc_auc &&
                    fabs(a->per_class[c].average_precision - b->per_class[c].average_precision) < 1e-15);
    assert_memory_equal(a->confusion, b->confusion, 16 * sizeof *a->confusion);
    heed_metrics_free(s->ctx, a);
    heed_metrics_free(s->ctx, b);
    free(p.data);
    free(y.data);
    heed_safetensors_close(f);
}

/* statsmodels' proportion_confint(right, n, method="wilson"). */
static void the_interval_is_wilsons(void **state)
{
    static const struct {
        int64_t right, n;
        double low, high;
    } rows[] = { { 50, 100, 0.4038315303659956, 0.5961684696340044 },
                 { 8944, 10000, 0.8882243448161122, 0.9002727572690981 },
                 { 0, 20, 0, 0.1611251580528194 },
                 { 20, 20, 0.8388748419471804, 1 },
                 { 0, 0, 0, 1 } };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double low, high;

        heed_wilson_interval(rows[i].right, rows[i].n, &low, &high);
        if (fabs(low - rows[i].low) > 1e-14 || fabs(high - rows[i].high) > 1e-14)
            fail_msg("%d of %d: %.16f to %.16f", (int)rows[i].right, (int)rows[i].n, low, high);
    }
}

/* ---- refusals ---- */

typedef struct trouble {
    float p[6];
    int64_t y[2];
    heed_status code;
    const char *says;
} trouble;

static void what_is_no_probability_or_label_is_refused_with_its_sample(void **state)
{
    static const trouble rows[] = {
        { { 1, 0, 0, 0, 1, 0 }, { 0, 3 }, HEED_ERR_LIMIT, "label 3 of sample 1, but there are 3 classes" },
        { { 1, 0, 0, 0, 1, 0 }, { -1, 0 }, HEED_ERR_LIMIT, "label -1 of sample 0" },
        { { 1, 0, 0, 2.5f, -1.5f, 0 },
          { 0, 1 },
          HEED_ERR_LIMIT,
          "2.5 for class 0 of sample 1 is no probability" },
        { { 1, 0, 0, 0.5f, 0.4f, 0 }, { 0, 1 }, HEED_ERR_LIMIT, "of sample 1 sum to 0.9, not to one" },
        { { 1, 0, 0, 0.5f, NAN, 0.5f }, { 0, 1 }, HEED_ERR_NUMERIC, "of class 1 of sample 1 is NaN" },
        { { 1, 0, 0, 0.5f, INFINITY, 0 }, { 0, 1 }, HEED_ERR_LIMIT, "inf for class 1" },
    };
    scratch *s = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const heed_tensor p = { HEED_TYPE(HEED_F32, 2, 3), (void *)(uintptr_t)rows[i].p };
        const heed_tensor y = { HEED_TYPE(HEED_I64, 2), (void *)(uintptr_t)rows[i].y };
        heed_error err = { 0 }, again = { 0 };
        heed_metrics *m = NULL;
        heed_curve c = { .n = 77 };

        assert_int_equal(heed_metrics_new(&m, s->ctx, p, y, &err), rows[i].code);
        if (!strstr(err.text, rows[i].says))
            fail_msg("\"%s\" does not say: %s", err.text, rows[i].says);
        assert_null(m);
        assert_int_equal(heed_curve_make(&c, s->ctx, HEED_CURVE_PR, p, y, 0, &again), rows[i].code);
        assert_int_equal(c.n, 77);
    }
}

static void types_that_do_not_fit_are_refused(void **state)
{
    scratch *s = *state;
    float p[4] = { 1, 0, 0, 1 };
    int64_t y[3] = { 0, 1, 0 };
    const heed_tensor good = { HEED_TYPE(HEED_F32, 2, 2), p }, labels = { HEED_TYPE(HEED_I64, 2), y };
    heed_metrics *m = NULL;
    heed_curve c;

    assert_int_equal(
        heed_metrics_new(&m, s->ctx, (heed_tensor){ HEED_TYPE(HEED_F64, 2, 2), p }, labels, NULL),
        HEED_ERR_DTYPE);
    assert_int_equal(heed_metrics_new(&m, s->ctx, good, (heed_tensor){ HEED_TYPE(HEED_I32, 2), y }, NULL),
                     HEED_ERR_DTYPE);
    assert_int_equal(heed_metrics_new(&m, s->ctx, (heed_tensor){ HEED_TYPE(HEED_F32, 4), p }, labels, NULL),
                     HEED_ERR_SHAPE);
    assert_int_equal(heed_metrics_new(&m, s->ctx, good, (heed_tensor){ HEED_TYPE(HEED_I64, 3), y }, NULL),
                     HEED_ERR_SHAPE);
    assert_int_equal(heed_metrics_new(&m, s->ctx, (heed_tensor){ HEED_TYPE(HEED_F32, 0, 2), p },
                                      (heed_tensor){ HEED_TYPE(HEED_I64, 0), y }, NULL),
                     HEED_ERR_SHAPE);
    assert_int_equal(heed_curve_make(&c, s->ctx, HEED_CURVE_ROC, good, labels, 2, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_curve_make(&c, s->ctx, HEED_CURVE_ROC, good, labels, -1, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed_curve_make(&c, s->ctx, (heed_curve_kind)2, good, labels, 0, NULL), HEED_ERR_USAGE);
}

/* ---- faults ---- */

static heed_status measure(heed_context *ctx, void *user, heed_error *err)
{
    static const float p[6] = { 0.5f, 0.5f, 1, 0, 0.25f, 0.75f };
    static const int64_t y[3] = { 0, 1, 1 };
    const heed_tensor probability = { HEED_TYPE(HEED_F32, 3, 2), (void *)(uintptr_t)p };
    const heed_tensor labels = { HEED_TYPE(HEED_I64, 3), (void *)(uintptr_t)y };
    heed_metrics *m = NULL;
    heed_curve c = { 0 };
    heed_status st = heed_metrics_new(&m, ctx, probability, labels, err);

    (void)user;
    if (st == HEED_OK)
        st = heed_curve_make(&c, ctx, HEED_CURVE_ROC, probability, labels, 1, err);
    heed_curve_release(ctx, &c);
    heed_metrics_free(ctx, m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    scratch *s = *state;
    const heed_scenario scenario = { .name = "metrics and a curve", .run = measure };
    heed_fail_report report;

    assert_true(heed_fail_each(&scenario, NULL, &report));
    assert_int_equal(report.calls, 8);
    (void)s;
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_metric_is_scikit_learns),
        UNIT(every_curve_is_scikit_learns),
        UNIT(a_curve_of_a_class_without_samples_is_no_number),
        UNIT(the_order_of_samples_does_not_matter),
        UNIT(the_interval_is_wilsons),
        UNIT(what_is_no_probability_or_label_is_refused_with_its_sample),
        UNIT(types_that_do_not_fit_are_refused),
        UNIT(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
