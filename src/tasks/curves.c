/* ROC and precision-recall curves of a run as files: every point of every class as CSV, and charts. A chart
 * names at most CURVES_DRAWN classes, those whose area is smallest: they are what one looks for. Curves are
 * made one after the other, and only those that are drawn stay in memory. */

#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "explain/chart.h"
#include "tasks/run.h"
#include <heed/task.h>

#include <math.h>

#define CURVES_DRAWN 10

typedef struct curve_kind {
    heed_curve_kind kind;
    const char *csv, *svg, *title, *x_name, *y_name, *area; /* area: what the number in a name is */
} curve_kind;

static const curve_kind curve_kinds[] = {
    { HEED_CURVE_ROC, "roc.csv", "roc.svg", "ROC", "false positive rate", "recall", "area under the curve" },
    { HEED_CURVE_PR, "pr.csv", "pr.svg", "Precision and recall", "recall", "precision", "average precision" },
};

typedef struct curve_job {
    const heed_run *run;
    heed_context *ctx;
    const char *folder;
    heed_tensor probability, labels;
    const heed_metrics *metrics;
    const curve_kind *kind;
    uint32_t *order; /* [2 * classes], the smallest area first, and room to sort */
    heed_curve drawn[CURVES_DRAWN];
    chart_line lines[CURVES_DRAWN + 1];
    arena names;
} curve_job;

static double curve_area(const curve_job *j, uint32_t c)
{
    const heed_class_metrics *m = &j->metrics->per_class[c];

    return j->kind->kind == HEED_CURVE_ROC ? m->roc_auc : m->average_precision;
}

/* Areas that are not defined come last. */
static bool curve_before(const void *items, uint32_t a, uint32_t b)
{
    const double x = curve_area(items, a), y = curve_area(items, b);

    return isnan(y) ? !isnan(x) : x < y;
}

static int64_t curves_drawn(const curve_job *j)
{
    return i64_min(CURVES_DRAWN, j->metrics->classes);
}

static heed_status curve_rows(heed_csv *csv, const char *name, const heed_curve *c, heed_error *err)
{
    for (int64_t i = 0; i < c->n; i++) {
        heed_csv_text(csv, name);
        heed_csv_double(csv, c->x[i]);
        heed_csv_double(csv, c->y[i]);
        heed_csv_float(csv, (float)c->threshold[i]);
        TRY(heed_csv_row(csv, err));
    }
    return HEED_OK;
}

/* One class: its rows, and its place among those that are drawn. */
static heed_status curve_add(curve_job *j, heed_csv *csv, int64_t of_class, heed_error *err)
{
    heed_curve c = { 0 };
    heed_status st;

    STEP(heed_curve_make(&c, j->ctx, j->kind->kind, j->probability, j->labels, of_class, err));
    STEP(curve_rows(csv, heed_run_class(j->run, of_class), &c, err));
    for (int64_t i = 0; i < curves_drawn(j); i++)
        if (j->order[i] == (uint32_t)of_class && !isnan(curve_area(j, j->order[i]))) {
            char *name = heed__arena_format(&j->names, "%s %.3f", heed_run_class(j->run, of_class),
                                            curve_area(j, (uint32_t)of_class));

            if (!name) {
                st = heed__fail_memory(err, 0);
                goto done;
            }
            j->drawn[i] = c;
            j->lines[i] = (chart_line){ .name = name, .x = c.x, .y = c.y, .n = c.n };
            c = (heed_curve){ 0 };
        }
done:
    heed_curve_release(j->ctx, &c);
    return st;
}

static heed_status curve_table(curve_job *j, const char *path, heed_error *err)
{
    heed_csv *csv = NULL;
    heed_status st;

    STEP(heed_csv_begin(&csv, j->ctx, path, err));
    heed_csv_text(csv, "class");
    heed_csv_text(csv, "x");
    heed_csv_text(csv, "y");
    heed_csv_text(csv, "threshold");
    STEP(heed_csv_row(csv, err));
    for (int64_t c = 0; c < j->metrics->classes; c++)
        STEP(curve_add(j, csv, c, err));
    st = heed_csv_commit(csv, err);
    csv = NULL;
done:
    heed_csv_cancel(csv);
    return st;
}

static heed_status curve_chart(curve_job *j, const char *path, heed_error *err)
{
    static const double chance[2] = { 0, 1 };
    const int64_t drawn = curves_drawn(j);
    int n = 0;
    text svg;
    char *title =
        drawn < j->metrics->classes
            ? heed__arena_format(&j->names, "%s of the %d classes (of %lld) with the least %s",
                                 j->kind->title, (int)drawn, (long long)j->metrics->classes, j->kind->area)
            : heed__arena_format(&j->names, "%s of each class, and %s", j->kind->title, j->kind->area);
    heed_status st;

    heed__text_init(&svg, j->ctx->heap, 0);
    for (int64_t i = 0; i < drawn; i++)
        if (j->lines[i].name)
            j->lines[n++] = j->lines[i];
    if (j->kind->kind == HEED_CURVE_ROC)
        j->lines[n++] = (chart_line){ .name = "chance", .x = chance, .y = chance, .n = 2, .dashed = true };
    if (!title) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    heed__chart_svg(&svg, &(chart){ .title = title,
                                    .x_name = j->kind->x_name,
                                    .y_name = j->kind->y_name,
                                    .lines = j->lines,
                                    .n_lines = n,
                                    .x_max = 1,
                                    .y_max = 1,
                                    .alone = true });
    if (svg.failed) {
        st = heed__fail_memory(err, svg.capacity);
        goto done;
    }
    STEP(heed__file_replace(j->ctx, path, svg.data, svg.size, err));
done:
    heed__text_release(&svg);
    return st;
}

static heed_status curve_files(curve_job *j, heed_error *err)
{
    const uint32_t classes = (uint32_t)j->metrics->classes;
    char *csv = heed__path_join(j->ctx, j->folder, j->kind->csv);
    char *svg = heed__path_join(j->ctx, j->folder, j->kind->svg);
    heed_status st;

    heed__arena_init(&j->names, j->ctx->heap);
    if (!csv || !svg) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    heed__sort(j->order, j->order + classes, classes, curve_before, j);
    STEP(curve_table(j, csv, err));
    STEP(curve_chart(j, svg, err));
done:
    for (int i = 0; i < CURVES_DRAWN; i++) {
        heed_curve_release(j->ctx, &j->drawn[i]);
        j->lines[i] = (chart_line){ .name = NULL };
    }
    heed__arena_release(&j->names);
    heed__release(j->ctx->heap, csv);
    heed__release(j->ctx->heap, svg);
    return st;
}

heed_status heed_run_curves(const heed_run *r, const char *folder, heed_tensor probability,
                            heed_tensor labels, heed_error *err)
{
    curve_job j = {
        .run = r, .ctx = heed_run_context(r), .folder = folder, .probability = probability, .labels = labels
    };
    heed_metrics *m = NULL;
    heed_status st;

    TRY(heed__run_unedited(r, "a folder of curves", err));
    STEP(heed_metrics_new(&m, j.ctx, probability, labels, err));
    j.metrics = m;
    if (m->classes != heed_run_classes(r)) {
        st = heed__fail(err, HEED_ERR_SHAPE, "probabilities of %lld classes, the run has %lld",
                        (long long)m->classes, (long long)heed_run_classes(r));
        goto done;
    }
    j.order = heed__alloc(j.ctx->heap, (size_t)m->classes, 2 * sizeof *j.order);
    if (!j.order) {
        st = heed__fail_memory(err, (uint64_t)m->classes * 2 * sizeof *j.order);
        goto done;
    }
    STEP(heed__folder_make(j.ctx, folder, err));
    for (size_t i = 0; i < sizeof curve_kinds / sizeof *curve_kinds; i++) {
        j.kind = &curve_kinds[i];
        STEP(curve_files(&j, err));
    }
done:
    heed__release(j.ctx->heap, j.order);
    heed_metrics_free(j.ctx, m);
    return st;
}
