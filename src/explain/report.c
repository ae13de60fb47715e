/* The page of a run: what was reached, against what, where it is wrong, of what it is made, and how to repeat
 * it.
 *
 * Every number that judges the model stands beside one to judge it by: the interval of its accuracy (Wilson,
 * 95 %), the share that always naming the commonest class reaches, other models on the same pictures.
 *
 *   calibration: bins of equal width of the largest probability; in each, mean probability against share
 * right */
#include "explain/report.h"
#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include "explain/chart.h"
#include "explain/draw.h"
#include "explain/page.h"
#include <heed/image.h>

#include <math.h>
#include <string.h>

#define MATRIX_MOST 40 /* classes; a larger matrix is no picture any more */
#define CURVES_MOST 6
#define CONFUSIONS_MOST 12
#define BINS 15
#define NONE "\xe2\x80\x93" /* a dash: no number */
#define MAP_SIDE 112        /* pixels, at least, of the longer side of a map */
#define TENSORS_OPEN 24     /* more are folded */

typedef struct writer {
    text *t;
    heed_context *ctx;
    const report *r;
    arena arena;
    bool short_of_memory;
    heed_error *err;
} writer;

/* ---- numbers and words ---- */

static const char *kept(writer *w, const char *words)
{
    if (!words)
        w->short_of_memory = true;
    return words ? words : "";
}

static const char *percent(writer *w, double share)
{
    if (!isfinite(share))
        return NONE;
    return kept(w, heed__arena_format(&w->arena,
                                      share > 0 && share < 0.001 ? "%.1g\xc2\xa0%%" : "%.1f\xc2\xa0%%",
                                      100 * share));
}

static const char *decimal(writer *w, double value)
{
    return isfinite(value) ? kept(w, heed__arena_format(&w->arena, "%.3f", value)) : NONE;
}

/* 65,018 */
static const char *counted(writer *w, int64_t n)
{
    char digits[40];
    int at = sizeof digits, used = 0;
    uint64_t left = n < 0 ? 0 : (uint64_t)n;

    digits[--at] = '\0';
    do {
        if (used && used % 3 == 0)
            digits[--at] = ',';
        digits[--at] = (char)('0' + left % 10);
        used++;
    } while ((left /= 10) > 0);
    return kept(w, heed__arena_string(&w->arena, digits + at));
}

static void raw(writer *w, const char *markup)
{
    heed__text_put(w->t, markup, strlen(markup));
}

static void say(writer *w, const char *tag, const char *words)
{
    heed__page_say(w->t, tag, words, NULL, 0);
    raw(w, "\n");
}

#define SAY(w, tag, words, ...)                                                                              \
    heed__page_say((w)->t, tag, words, (const char *const[]){ __VA_ARGS__ },                                 \
                   (int)(sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *)))

/* <tag>words from outside</tag> */
static void put(writer *w, const char *tag, const char *words)
{
    heed__text_add(w->t, "<%s>", tag);
    heed__page_escape(w->t, words);
    heed__text_add(w->t, "</%.*s>", (int)strcspn(tag, " "), tag);
}

static const char *class_name(const writer *w, int64_t i)
{
    return i >= 0 && i < w->r->classes && w->r->class_names ? w->r->class_names[i] : "";
}

/* A region that a keyboard can scroll. */
static void open_wide(writer *w, const char *label)
{
    heed__text_add(
        w->t,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" data-i18n-label=\"%s\" aria-label=\"%s\">\n",
        label, label);
}

static void open_section(writer *w, const char *id, const char *title)
{
    heed__text_add(w->t, "<section id=\"%s\">\n", id);
    say(w, "h2", title);
}

static void columns(writer *w, const char *const *names)
{
    raw(w, "<thead><tr>");
    for (; *names; names++)
        heed__page_say(w->t, "th scope=\"col\"", *names, NULL, 0);
    raw(w, "</tr></thead>\n<tbody>\n");
}

/* ---- what was reached ---- */

static void put_rival(writer *w, const char *name, bool ours, double accuracy, const char *interval,
                      int64_t parameters, const char *source)
{
    raw(w, "<tr>");
    if (ours)
        heed__page_say(w->t, "th scope=\"row\"", name, NULL, 0);
    else
        put(w, "th scope=\"row\"", name);
    put(w, "td", percent(w, accuracy));
    put(w, "td", interval);
    put(w, "td", parameters > 0 ? counted(w, parameters) : NONE);
    put(w, "td", source);
    raw(w, "</tr>\n");
}

/* Of few seeds Student's interval may leave what a share can be. */
static const char *around(writer *w, double low, double high)
{
    return kept(w, heed__arena_format(&w->arena, "%.1f \xe2\x80\x93 %.1f\xc2\xa0%%", 100 * fmax(low, 0),
                                      100 * fmin(high, 1)));
}

static void put_rivals(writer *w, double low, double high)
{
    const report *r = w->r;

    say(w, "h3", "Compared with");
    open_wide(w, "Comparison");
    raw(w, "<table class=\"data\">");
    columns(w, (const char *const[]){ "Model", "Accuracy", "95 % interval", "Parameters", "From", NULL });
    put_rival(w, "This run", true, r->metrics->accuracy, around(w, low, high), r->parameters, r->run);
    if (isfinite(r->majority))
        put_rival(w, "Always the commonest class", true, r->majority, NONE, 0,
                  r->majority_name ? r->majority_name : "");
    for (int64_t i = 0; i < r->n_rivals; i++) {
        const report_rival *o = &r->rivals[i];

        put_rival(w, o->name, false, o->accuracy,
                  isfinite(o->interval) ? around(w, o->accuracy - o->interval, o->accuracy + o->interval)
                                        : NONE,
                  o->parameters, o->source);
    }
    raw(w, "</tbody></table></div>\n");
}

static void put_number(writer *w, const char *name, const char *value)
{
    raw(w, "<div class=\"figure\">");
    put(w, "b", value);
    heed__page_say(w->t, "span", name, NULL, 0);
    raw(w, "</div>\n");
}

static void put_result(writer *w)
{
    const report *r = w->r;
    const heed_metrics *m = r->metrics;
    double low, high;

    open_section(w, "result", "Result");
    if (!m) {
        SAY(w, "p class=\"note\"", "The {0} part was not evaluated: {1}", r->part,
            r->no_metrics ? r->no_metrics : "");
        raw(w, "</section>\n");
        return;
    }
    heed_wilson_interval((int64_t)llround(m->accuracy * (double)m->n), m->n, &low, &high);
    SAY(w, "p class=\"result\"",
        "Right on {0} of {1} pictures of the {2} part; 95 % interval {3}. Always naming the commonest "
        "class would be right on {4}.",
        percent(w, m->accuracy), counted(w, m->n), r->part, around(w, low, high),
        percent(w, isfinite(r->majority) ? r->majority : m->majority));
    raw(w, "\n<div class=\"figures\">\n");
    put_number(w, "Accuracy", percent(w, m->accuracy));
    put_number(w, "Balanced accuracy", percent(w, m->balanced_accuracy));
    put_number(w, "F1, mean of classes", decimal(w, m->macro.f1));
    put_number(w, "ROC AUC, mean of classes", decimal(w, m->roc_auc));
    put_number(w, "Log loss", decimal(w, m->log_loss));
    put_number(w, "Calibration error", decimal(w, m->ece));
    raw(w, "</div>\n");
    if (strcmp(r->part, "validation") == 0)
        say(w, "p class=\"muted\"",
            "The validation part helped to choose; the test part was not read. heed report evaluates it.");
    put_rivals(w, low, high);
    raw(w, "</section>\n");
}

/* ---- curves of training ---- */

/* A member of all rows; NULL when none has a number. -1 says that there was no validation part. */
static double *series(writer *w, size_t member)
{
    const report *r = w->r;
    double *y = heed__arena_alloc(&w->arena, (size_t)r->n_history, sizeof *y);
    bool any = false;

    if (!y)
        w->short_of_memory = true;
    for (int64_t i = 0; y && i < r->n_history; i++) {
        memcpy(&y[i], (const char *)&r->history[i] + member, sizeof *y);
        if (y[i] < 0)
            y[i] = (double)NAN;
        any = any || isfinite(y[i]);
    }
    return any ? y : NULL;
}

#define SERIES(w, member) series(w, offsetof(heed_history_row, member))

static void put_chart(writer *w, const chart *c)
{
    raw(w, "<figure class=\"card\">\n");
    heed__chart_svg(w->t, c);
    raw(w, "</figure>\n");
}

static void put_training(writer *w)
{
    const report *r = w->r;
    double *epochs = heed__arena_alloc(&w->arena, (size_t)r->n_history + 1, sizeof *epochs);
    double *train = SERIES(w, train_loss), *held = SERIES(w, validation_loss);
    double *right = SERIES(w, validation_accuracy), *lr = SERIES(w, lr), *norm = SERIES(w, grad_norm),
           *floor_line;
    chart_line lines[2];
    int n = 0;

    open_section(w, "training", "Training");
    if (r->n_history == 0 || !epochs) {
        w->short_of_memory = w->short_of_memory || !epochs;
        say(w, "p class=\"note\"", "The run has no metrics.jsonl, so there are no curves.");
        raw(w, "</section>\n");
        return;
    }
    for (int64_t i = 0; i < r->n_history; i++)
        epochs[i] = (double)r->history[i].epoch;
    raw(w, "<div class=\"cards\">\n");
    if (train)
        lines[n++] = (chart_line){ .name = "training", .x = epochs, .y = train, .n = r->n_history };
    if (held)
        lines[n++] = (chart_line){ .name = "validation", .x = epochs, .y = held, .n = r->n_history };
    put_chart(w, &(chart){ .title = "Loss",
                           .x_name = "epoch",
                           .y_name = "cross-entropy",
                           .lines = lines,
                           .n_lines = n,
                           .points = r->n_history <= 30 });
    if (right) {
        floor_line = heed__arena_alloc(&w->arena, (size_t)r->n_history, sizeof *floor_line);
        n = 0;
        lines[n++] = (chart_line){ .name = "validation", .x = epochs, .y = right, .n = r->n_history };
        for (int64_t i = 0; floor_line && i < r->n_history; i++)
            floor_line[i] = r->majority_validation;
        if (floor_line && isfinite(r->majority_validation))
            lines[n++] = (chart_line){
                .name = "commonest class", .x = epochs, .y = floor_line, .n = r->n_history, .dashed = true
            };
        put_chart(w, &(chart){ .title = "Accuracy",
                               .x_name = "epoch",
                               .y_name = "share right",
                               .lines = lines,
                               .n_lines = n,
                               .points = r->n_history <= 30 });
    }
    if (lr) {
        lines[0] = (chart_line){ .name = "learning rate", .x = epochs, .y = lr, .n = r->n_history };
        put_chart(w, &(chart){ .title = "Learning rate",
                               .x_name = "epoch",
                               .y_name = "at the end of the epoch",
                               .lines = lines,
                               .n_lines = 1,
                               .points = r->n_history <= 30 });
    }
    if (norm) {
        lines[0] = (chart_line){ .name = "norm", .x = epochs, .y = norm, .n = r->n_history };
        put_chart(w, &(chart){ .title = "Norm of the gradient",
                               .x_name = "epoch",
                               .y_name = "at the end of the epoch",
                               .lines = lines,
                               .n_lines = 1,
                               .points = r->n_history <= 30 });
    }
    raw(w, "</div>\n</section>\n");
}

/* ---- classes ---- */

static void put_averages(writer *w, const char *name, const heed_prf *a)
{
    raw(w, "<tr>");
    heed__page_say(w->t, "th scope=\"row\"", name, NULL, 0);
    put(w, "td", counted(w, w->r->metrics->n));
    raw(w, "<td></td>");
    put(w, "td", decimal(w, a->precision));
    put(w, "td", decimal(w, a->recall));
    put(w, "td", decimal(w, a->f1));
    raw(w, "<td></td><td></td></tr>\n");
}

static void put_classes(writer *w)
{
    const heed_metrics *m = w->r->metrics;

    open_section(w, "classes", "Classes");
    say(w, "p",
        "Precision: of the pictures named so, the share that are. Recall: of the pictures that are, the "
        "share named so.");
    open_wide(w, "Classes");
    raw(w, "<table class=\"data\">");
    columns(w, (const char *const[]){ "Class", "Pictures", "Named so", "Precision", "Recall", "F1", "ROC AUC",
                                      "Average precision", NULL });
    for (int64_t i = 0; i < m->classes; i++) {
        const heed_class_metrics *c = &m->per_class[i];

        raw(w, "<tr>");
        put(w, "th scope=\"row\"", class_name(w, i));
        put(w, "td", counted(w, c->support));
        put(w, "td", counted(w, c->predicted));
        put(w, "td", decimal(w, c->precision));
        put(w, "td", decimal(w, c->recall));
        put(w, "td", decimal(w, c->f1));
        put(w, "td", decimal(w, c->roc_auc));
        put(w, "td", decimal(w, c->average_precision));
        raw(w, "</tr>\n");
    }
    raw(w, "</tbody>\n<tfoot>\n");
    put_averages(w, "Mean of classes", &m->macro);
    put_averages(w, "Mean weighted by pictures", &m->weighted);
    raw(w, "</tfoot></table></div>\n</section>\n");
}

/* ---- confusions ---- */

/* Errors are few beside what is right: their colour grows with the root of the share, or nobody would see
 * them. */
static void put_cell(writer *w, int64_t n, int64_t row, bool right)
{
    const double share = row > 0 ? (double)n / (double)row : 0;

    heed__text_add(w->t, "<td class=\"%s\" style=\"--heat:%.3f\">",
                   right ? "right"
                   : n   ? "wrong"
                         : "zero",
                   right ? share : sqrt(share));
    heed__text_add(w->t, "%lld</td>", (long long)n);
}

static void put_matrix(writer *w)
{
    const heed_metrics *m = w->r->metrics;

    open_wide(w, "Confusion matrix");
    raw(w, "<table class=\"data matrix\">\n");
    say(w, "caption", "Rows: what the picture is. Columns: what it was named.");
    raw(w, "<thead><tr>");
    heed__page_say(w->t, "th scope=\"col\"", "Is", NULL, 0);
    for (int64_t j = 0; j < m->classes; j++) {
        raw(w, "<th scope=\"col\"><span>");
        heed__page_escape(w->t, class_name(w, j));
        raw(w, "</span></th>");
    }
    raw(w, "</tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < m->classes; i++) {
        raw(w, "<tr>");
        put(w, "th scope=\"row\"", class_name(w, i));
        for (int64_t j = 0; j < m->classes; j++)
            put_cell(w, m->confusion[i * m->classes + j], m->per_class[i].support, i == j);
        raw(w, "</tr>\n");
    }
    raw(w, "</tbody></table></div>\n");
}

/* The largest cells off the diagonal, the largest first; the first of equal ones. */
static int64_t largest_confusions(const heed_metrics *m, int64_t at[CONFUSIONS_MOST])
{
    int64_t n = 0;

    for (int64_t i = 0; i < m->classes * m->classes; i++) {
        int64_t k = n;

        if (i / m->classes == i % m->classes || m->confusion[i] == 0)
            continue;
        while (k > 0 && m->confusion[at[k - 1]] < m->confusion[i])
            k--;
        if (k == CONFUSIONS_MOST)
            continue;
        n += n < CONFUSIONS_MOST;
        memmove(at + k + 1, at + k, (size_t)(n - 1 - k) * sizeof *at);
        at[k] = i;
    }
    return n;
}

static void put_confusions(writer *w)
{
    const heed_metrics *m = w->r->metrics;
    int64_t at[CONFUSIONS_MOST], n = largest_confusions(m, at);

    open_section(w, "confusions", "Confusions");
    if (m->classes <= MATRIX_MOST)
        put_matrix(w);
    if (n == 0)
        say(w, "p", "Every picture was named rightly.");
    else {
        say(w, "h3", "The commonest ones");
        open_wide(w, "Confusions");
        raw(w, "<table class=\"data names\">");
        columns(w, (const char *const[]){ "Is", "Was named", "Pictures", "Share of the class", NULL });
        for (int64_t k = 0; k < n; k++) {
            const int64_t i = at[k] / m->classes, count = m->confusion[at[k]];

            raw(w, "<tr>");
            put(w, "th scope=\"row\"", class_name(w, i));
            put(w, "td class=\"name\"", class_name(w, at[k] % m->classes));
            put(w, "td", counted(w, count));
            put(w, "td", percent(w, (double)count / (double)i64_max(1, m->per_class[i].support)));
            raw(w, "</tr>\n");
        }
        raw(w, "</tbody></table></div>\n");
    }
    raw(w, "</section>\n");
}

/* ---- ROC, precision and recall ---- */

/* The classes that are told apart worst by the area under ROC, worst first; those where it is defined. */
static int hardest(const heed_metrics *m, int64_t at[CURVES_MOST])
{
    int n = 0;

    for (int64_t i = 0; i < m->classes; i++) {
        const double area = m->per_class[i].roc_auc;
        int k = n;

        if (!isfinite(area))
            continue;
        while (k > 0 && m->per_class[at[k - 1]].roc_auc > area)
            k--;
        if (k == CURVES_MOST)
            continue;
        n += n < CURVES_MOST;
        memmove(at + k + 1, at + k, (size_t)(n - 1 - k) * sizeof *at);
        at[k] = i;
    }
    return n;
}

static heed_status put_curve(writer *w, heed_curve_kind kind, const int64_t *at, int n)
{
    static const double ends[2] = { 0, 1 };
    const report *r = w->r;
    heed_curve curves[CURVES_MOST] = { { 0 } };
    chart_line lines[CURVES_MOST + 1];
    heed_status st = HEED_OK;

    for (int i = 0; i < n; i++) {
        const heed_class_metrics *c = &r->metrics->per_class[at[i]];

        STEP(heed_curve_make(&curves[i], w->ctx, kind, r->probability, r->labels, at[i], w->err));
        lines[i] = (chart_line){
            .name = kept(w, heed__arena_format(&w->arena, "%s %.3f", class_name(w, at[i]),
                                               kind == HEED_CURVE_ROC ? c->roc_auc : c->average_precision)),
            .x = curves[i].x,
            .y = curves[i].y,
            .n = curves[i].n
        };
    }
    if (kind == HEED_CURVE_ROC)
        lines[n] = (chart_line){ .name = "chance", .x = ends, .y = ends, .n = 2, .dashed = true };
    put_chart(w, kind == HEED_CURVE_ROC
                     ? &(chart){ .title = "ROC, with the area under it",
                                 .x_name = "share of other pictures named so",
                                 .y_name = "recall",
                                 .lines = lines,
                                 .n_lines = n + 1,
                                 .x_max = 1,
                                 .y_max = 1 }
                     : &(chart){ .title = "Precision and recall, with the average precision",
                                 .x_name = "recall",
                                 .y_name = "precision",
                                 .lines = lines,
                                 .n_lines = n,
                                 .x_max = 1,
                                 .y_max = 1 });
done:
    for (int i = 0; i < n; i++)
        heed_curve_release(w->ctx, &curves[i]);
    return st;
}

static heed_status put_curves(writer *w)
{
    const heed_metrics *m = w->r->metrics;
    int64_t at[CURVES_MOST];
    const int n = hardest(m, at);
    heed_status st = HEED_OK;

    if (n == 0 || !w->r->probability.data)
        return HEED_OK;
    open_section(w, "curves", "One class against the others");
    if (n < m->classes)
        SAY(w, "p", "The {0} of {1} classes that are hardest to tell from the others.", counted(w, n),
            counted(w, m->classes));
    raw(w, "<div class=\"cards\">\n");
    STEP(put_curve(w, HEED_CURVE_ROC, at, n));
    STEP(put_curve(w, HEED_CURVE_PR, at, n));
done:
    raw(w, "</div>\n</section>\n");
    return st;
}

/* ---- calibration ---- */

typedef struct bin {
    int64_t n, right;
    double sum; /* of the largest probabilities */
} bin;

static void fill_bins(const report *r, bin bins[BINS])
{
    const int64_t n = r->probability.type.dims[0];
    const float *p = r->probability.data;
    const int64_t *labels = r->labels.data;

    memset(bins, 0, BINS * sizeof *bins);
    for (int64_t i = 0; i < n; i++, p += r->classes) {
        int64_t best = 0, b;

        for (int64_t j = 1; j < r->classes; j++)
            best = p[j] > p[best] ? j : best;
        b = (int64_t)ceil((double)p[best] * BINS) - 1; /* (i/15, (i+1)/15] */
        b = i64_max(0, i64_min(b, BINS - 1));
        bins[b].n++;
        bins[b].right += labels[i] == best;
        bins[b].sum += (double)p[best];
    }
}

static void put_calibration(writer *w)
{
    static const double ends[2] = { 0, 1 };
    const report *r = w->r;
    double x[BINS], y[BINS], low[BINS], high[BINS];
    bin bins[BINS];
    chart_line lines[2];
    int n = 0;

    if (!r->probability.data)
        return;
    open_section(w, "calibration", "Calibration");
    SAY(w, "p",
        "How often the model is right where it says so with a certain probability. Below the dashed line "
        "it is too sure. Expected calibration error: {0}.",
        decimal(w, r->metrics->ece));
    fill_bins(r, bins);
    for (int i = 0; i < BINS; i++)
        if (bins[i].n > 0) {
            x[n] = bins[i].sum / (double)bins[i].n;
            y[n] = (double)bins[i].right / (double)bins[i].n;
            heed_wilson_interval(bins[i].right, bins[i].n, &low[n], &high[n]);
            n++;
        }
    lines[0] = (chart_line){ .name = "this run", .x = x, .y = y, .n = n, .low = low, .high = high };
    lines[1] = (chart_line){ .name = "as sure as right", .x = ends, .y = ends, .n = 2, .dashed = true };
    raw(w, "<div class=\"cards\">\n");
    put_chart(w, &(chart){ .title = "Calibration, with 95 % intervals",
                           .x_name = "probability of the named class",
                           .y_name = "share right",
                           .lines = lines,
                           .n_lines = 2,
                           .x_max = 1,
                           .y_max = 1,
                           .points = true });
    raw(w,
        "<div class=\"card\"><div class=\"wide\" tabindex=\"0\" role=\"region\" "
        "data-i18n-label=\"Calibration\" "
        "aria-label=\"Calibration\"><table class=\"data\">");
    columns(w, (const char *const[]){ "Probability", "Pictures", "Said", "Right", NULL });
    for (int i = 0; i < BINS; i++) {
        if (bins[i].n == 0)
            continue;
        raw(w, "<tr>");
        put(w, "th scope=\"row\"",
            kept(w, heed__arena_format(&w->arena, "%.2f \xe2\x80\x93 %.2f", (double)i / BINS,
                                       (i + 1.0) / BINS)));
        put(w, "td", counted(w, bins[i].n));
        put(w, "td", percent(w, bins[i].sum / (double)bins[i].n));
        put(w, "td", percent(w, (double)bins[i].right / (double)bins[i].n));
        raw(w, "</tr>\n");
    }
    raw(w, "</tbody></table></div></div>\n</div>\n</section>\n");
}

/* ---- mistakes ---- */

static heed_status put_picture(writer *w, heed_tensor picture, const char *caption, const char *label)
{
    void *png = NULL;
    size_t size = 0;
    const heed_status st = heed_image_encode_png(&png, &size, w->ctx, picture, w->err);

    if (st != HEED_OK)
        return st;
    heed__text_add(w->t, "<figure><img class=\"pixels\" alt=\"");
    heed__page_escape(w->t, label);
    heed__text_add(w->t, "\" src=\"data:image/png;base64,");
    heed__page_base64(w->t, png, size);
    raw(w, "\">");
    heed__page_say(w->t, "figcaption", caption, NULL, 0);
    raw(w, "</figure>\n");
    heed_bytes_free(w->ctx, png);
    return HEED_OK;
}

/* The picture under each map; the verdict of the deletion test below. */
static heed_status put_maps(writer *w, const heed_explanation *e, const char *name)
{
    const int64_t side = i64_max(e->picture.type.dims[1], e->picture.type.dims[2]);

    for (int i = 0; i < e->n_maps; i++) {
        pixels p;
        heed_status st;

        TRY(heed__draw_overlay(&p, w->ctx, e, &e->maps[i], i64_ceil_div(MAP_SIDE, i64_max(1, side)), w->err));
        st = put_picture(w, heed__pixels_tensor(&p), heed__method_words(e->maps[i].method)->title, name);
        heed__pixels_release(w->ctx, &p);
        TRY(st);
    }
    return HEED_OK;
}

static void put_verdicts(writer *w, const heed_explanation *e)
{
    for (int i = 0; i < e->n_maps; i++) {
        const verdict_words *v = heed__verdict_words(e->maps[i].faithful.verdict);

        raw(w, "<p class=\"muted\">");
        heed__page_say(w->t, "span", heed__method_words(e->maps[i].method)->title, NULL, 0);
        raw(w, ": ");
        heed__page_say(w->t, "b", v->title, NULL, 0);
        raw(w, "</p>\n");
    }
}

static heed_status put_mistake(writer *w, const report_mistake *e)
{
    heed_status st = HEED_OK;

    raw(w, "<article class=\"card mistake\">\n");
    if (heed_has_feature("png")) {
        raw(w, "<div class=\"pictures\">\n");
        if (e->picture.data)
            st = put_picture(w, e->picture, "picture", e->name);
        if (st == HEED_OK && e->explanation)
            st = put_maps(w, e->explanation, e->name);
        raw(w, "</div>\n");
    }
    SAY(w, "p", "It is {0}; the model gave that {1}.", class_name(w, e->truth), percent(w, e->p_truth));
    SAY(w, "p", "It was named {0}, with {1}.", class_name(w, e->predicted), percent(w, e->p_predicted));
    if (e->explanation)
        put_verdicts(w, e->explanation);
    put(w, "p class=\"muted\"", e->name);
    raw(w, "</article>\n");
    return st;
}

static heed_status put_mistakes(writer *w)
{
    const report *r = w->r;

    if (r->all_mistakes == 0)
        return HEED_OK;
    open_section(w, "mistakes", "Worst mistakes");
    SAY(w, "p",
        "{0} pictures were named wrongly. These are the ones where the model gave the right class least.",
        counted(w, r->all_mistakes));
    if (r->n_mistakes > 0 && r->mistakes[0].explanation)
        say(w, "p class=\"note\"",
            "Attention shows mixing weights, not causes. The verdict below a picture is a deletion test: "
            "do the cells that "
            "the map marks count more for the named class than random ones?");
    raw(w, "<div class=\"cards mistakes\">\n");
    for (int64_t i = 0; i < r->n_mistakes; i++)
        TRY(put_mistake(w, &r->mistakes[i]));
    raw(w, "</div>\n</section>\n");
    return HEED_OK;
}

/* ---- of what it is made ---- */

static void put_pairs(writer *w, const char *label, const report_pair *pairs, int64_t n)
{
    if (n == 0)
        return;
    open_wide(w, label);
    raw(w, "<table class=\"data pairs\"><tbody>\n");
    for (int64_t i = 0; i < n; i++) {
        raw(w, "<tr>");
        heed__page_say(w->t, "th scope=\"row\"", pairs[i].name, NULL, 0);
        put(w, "td", pairs[i].value);
        raw(w, "</tr>\n");
    }
    raw(w, "</tbody></table></div>\n");
}

static int64_t all_numbers(const report *r)
{
    int64_t n = 0;

    for (int64_t i = 0; i < r->n_tensors; i++)
        n += r->tensors[i].count;
    return n;
}

static void put_model(writer *w)
{
    const report *r = w->r;

    open_section(w, "model", "Model");
    if (r->about && r->about[0]) {
        raw(w, "<p>");
        put(w, "b", r->model);
        raw(w, ": ");
        heed__page_escape(w->t, r->about);
        raw(w, "</p>\n");
    }
    put_pairs(w, "Cost", r->cost, r->n_cost);
    if (r->n_tensors > 0) {
        heed__text_add(w->t, "<details%s>", r->n_tensors <= TENSORS_OPEN ? " open" : "");
        SAY(w, "summary", "{0} numbers in {1} tensors", counted(w, all_numbers(r)), counted(w, r->n_tensors));
        open_wide(w, "Parameters");
        raw(w, "<table class=\"data names\">");
        columns(w, (const char *const[]){ "Tensor", "Shape", "Numbers", NULL });
        for (int64_t i = 0; i < r->n_tensors; i++) {
            raw(w, "<tr>");
            put(w, "th scope=\"row\"", r->tensors[i].name);
            put(w, "td class=\"name\"", r->tensors[i].shape);
            put(w, "td", counted(w, r->tensors[i].count));
            raw(w, "</tr>\n");
        }
        raw(w, "</tbody></table></div></details>\n");
    }
    raw(w, "</section>\n");
}

static void put_data(writer *w)
{
    const report *r = w->r;
    bool counts = false;

    open_section(w, "data", "Data");
    put_pairs(w, "Data", r->data, r->n_data);
    for (int64_t i = 0; i < r->n_parts; i++)
        counts = counts || r->parts[i].per_class;
    if (counts) {
        open_wide(w, "Pictures of each class");
        raw(w, "<table class=\"data\"><thead><tr>");
        heed__page_say(w->t, "th scope=\"col\"", "Class", NULL, 0);
        for (int64_t i = 0; i < r->n_parts; i++)
            heed__page_say(w->t, "th scope=\"col\"", r->parts[i].name, NULL, 0);
        raw(w, "</tr></thead>\n<tbody>\n");
        for (int64_t c = 0; c < r->classes; c++) {
            raw(w, "<tr>");
            put(w, "th scope=\"row\"", class_name(w, c));
            for (int64_t i = 0; i < r->n_parts; i++)
                put(w, "td", r->parts[i].per_class ? counted(w, r->parts[i].per_class[c]) : NONE);
            raw(w, "</tr>\n");
        }
        raw(w, "</tbody>\n<tfoot><tr>");
        heed__page_say(w->t, "th scope=\"row\"", "All", NULL, 0);
        for (int64_t i = 0; i < r->n_parts; i++)
            put(w, "td", counted(w, r->parts[i].n));
        raw(w, "</tr></tfoot></table></div>\n");
    }
    raw(w, "</section>\n");
}

static void put_code(writer *w, const char *label, const char *words)
{
    heed__text_add(w->t, "<pre tabindex=\"0\" data-i18n-label=\"%s\" aria-label=\"%s\"><code>", label, label);
    heed__page_escape(w->t, words);
    raw(w, "</code></pre>\n");
}

static void put_rest(writer *w)
{
    const report *r = w->r;

    open_section(w, "repeat", "How to repeat it");
    if (r->command && r->command[0])
        put_code(w, "Command", r->command);
    if (r->sha256 && r->sha256[0])
        SAY(w, "p", "The same build and instruction level give weights with this SHA-256: {0}", r->sha256);
    if (r->recipe && r->recipe[0]) {
        raw(w, "<details>");
        say(w, "summary", "Recipe: every value and where it came from");
        put_code(w, "Recipe", r->recipe);
        raw(w, "</details>\n");
    }
    say(w, "h3", "Environment of this report");
    put_pairs(w, "Environment", r->environment, r->n_environment);
    raw(w, "</section>\n");
}

/* ---- the page ---- */

static void put_nav(writer *w)
{
    static const struct {
        const char *id, *words;
        bool metrics;
    } links[] = {
        { "result", "Result", false },
        { "training", "Training", false },
        { "classes", "Classes", true },
        { "confusions", "Confusions", true },
        { "calibration", "Calibration", true },
        { "mistakes", "Worst mistakes", true },
        { "model", "Model", false },
        { "data", "Data", false },
        { "repeat", "How to repeat it", false },
    };

    raw(w, "<nav data-i18n-label=\"On this page\" aria-label=\"On this page\">");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (links[i].metrics && !w->r->metrics)
            continue;
        if (strcmp(links[i].id, "mistakes") == 0 && w->r->all_mistakes == 0)
            continue;
        heed__text_add(w->t, "<a href=\"#%s\" data-i18n>%s</a> ", links[i].id, links[i].words);
    }
    raw(w, "</nav>\n");
}

static heed_status put_page(writer *w)
{
    const char *const args[] = { w->r->model, w->r->run };
    const page p = { .title = "{0}: {1}",
                     .args = args,
                     .n_args = 2,
                     .style = &heed__asset_report_css,
                     .script = &heed__asset_report_js };

    heed__page_begin(w->t, &p);
    put_nav(w);
    put_result(w);
    put_training(w);
    if (w->r->metrics) {
        put_classes(w);
        put_confusions(w);
        TRY(put_curves(w));
        put_calibration(w);
        TRY(put_mistakes(w));
    }
    put_model(w);
    put_data(w);
    put_rest(w);
    heed__page_end(w->t, &p);
    return HEED_OK;
}

heed_status heed__report_html(text *t, heed_context *ctx, const report *r, heed_error *err)
{
    writer w = { .t = t, .ctx = ctx, .r = r, .err = err };
    heed_status st;

    heed__arena_init(&w.arena, ctx->heap);
    st = put_page(&w);
    heed__arena_release(&w.arena);
    if (st == HEED_OK && (w.short_of_memory || t->failed == HEED_ERR_MEMORY))
        st = heed__fail_memory(err, t->size);
    if (st == HEED_OK && t->failed)
        st = heed__fail(err, t->failed, "the report is larger than %zu bytes", t->most);
    return st;
}
