/* A chart as SVG. In units of the picture, for a value v of [min, max] on an axis of n units:
 *
 *   place(v) = n (v - min) / (max - min)          (y is counted from the bottom)
 *
 * Ticks are multiples of 1, 2 or 5 times a power of ten. The names of the lines stand where the lines end,
 * pushed apart until none covers another, so that no legend has to be matched by colour. Colours are
 * presentation attributes: they hold without any style, and a page's variables or the style of a file of its
 * own change them.
 *
 * Numbers are written from integers (units of 1/10), so that no host's locale or printf shows. */
#include "explain/chart.h"
#include "explain/page.h"

#include <math.h>
#include <string.h>

#define WIDTH 480
#define LEFT 52
#define TOP 52
#define BOTTOM 44
#define PLOT_HEIGHT 200
#define LINE_HEIGHT 16.0 /* of a name beside the plot */
#define NAMES_MOST 150   /* units, for the longest name */
#define TICKS 5
#define COLOURS 8
#define LINES_MOST 64 /* more are not drawn: nobody could tell them apart */
#define TIGHT 0.4     /* units: a point nearer to the last one is left out of long lines */
#define LONG 400
#define MOST 1e300   /* ends of an axis: beyond them a span could be infinite */
#define LEAST 1e-300 /* a span: below it a step could be zero */
#define APART 1e-12  /* of the larger end: a smaller span is none, its ticks could not be counted */

static const char *const light[COLOURS] = { "#0072b2", "#d55e00", "#00835f", "#b0568c",
                                            "#b87a00", "#2f8fc4", "#7d5f2a", "#6b7280" };
static const char *const dark[COLOURS] = { "#5cb3ea", "#ff8f4a", "#2fc795", "#e79bc6",
                                           "#f2b632", "#9ad6f8", "#cdac6e", "#a3abb7" };

typedef struct axis {
    double min, max, step;
    int decimals; /* of a tick; -1: the shortest that reads back */
} axis;

typedef struct drawing {
    text *t;
    const chart *c;
    axis x, y;
    double width, height; /* of the plot */
    int n_lines;
    bool drawn; /* is there a value at all */
} drawing;

/* ---- numbers ---- */

/* value with `decimals` <= 6 places, without "-0"; |value| < 1e9. */
static void put_fixed(text *t, double value, int decimals)
{
    long long scale = 1, whole;

    for (int i = 0; i < decimals; i++)
        scale *= 10;
    whole = llround(value * (double)scale);
    if (whole < 0) {
        heed__text_put(t, "-", 1);
        whole = -whole;
    }
    heed__text_add(t, "%lld", whole / scale);
    if (decimals && whole % scale)
        heed__text_add(t, ".%0*lld", decimals, whole % scale);
}

static void put_unit(text *t, double value)
{
    put_fixed(t, value, 1);
}

/* Four significant digits, for people. */
static void put_shown(text *t, double value)
{
    const double size = fabs(value);
    const int power = size > 0 ? (int)floor(log10(size)) : 0;
    double scale;

    if (!isfinite(value)) {
        heed__text_add(t, "undefined");
        return;
    }
    scale = pow(10, 3 - power);
    heed__text_number(t, power > 3 || !isfinite(scale) ? round(value) : round(value * scale) / scale);
}

static void put_tick(text *t, const axis *a, double value)
{
    const size_t before = t->size;

    if (a->decimals < 0) {
        put_shown(t, value);
        return;
    }
    put_fixed(t, value, a->decimals);
    if (a->decimals && t->size > before && !memchr(t->data + before, '.', t->size - before)) {
        heed__text_put(t, ".", 1); /* 0.0 beside 0.5: ticks of one axis have the same places */
        for (int i = 0; i < a->decimals; i++)
            heed__text_put(t, "0", 1);
    }
}

/* ---- axes ---- */

static double round_step(double span)
{
    const double raw = span / TICKS, power = pow(10, floor(log10(raw))), first = raw / power;

    return power * (first <= 1 ? 1 : first <= 2 ? 2 : first <= 5 ? 5 : 10);
}

static void widen(double *min, double *max, const double *values, int64_t n)
{
    for (int64_t i = 0; values && i < n; i++)
        if (isfinite(values[i])) {
            *min = fmin(*min, fmax(values[i], -MOST));
            *max = fmax(*max, fmin(values[i], MOST));
        }
}

static bool whole_numbers(const double *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i]) && values[i] - floor(values[i]) > 0)
            return false;
    return true;
}

/* Ends given by the caller stay; those of the data become multiples of the step. whole: values are counted
 * (epochs), so that no tick stands between two of them. */
static axis make_axis(double min, double max, bool given, bool whole)
{
    const double size = fmax(fabs(min), fabs(max));
    axis a = { .min = min, .max = max };

    if (!(a.max - a.min > fmax(LEAST, APART * size))) { /* one value */
        const double around = whole && size < 1 / APART ? 1 : size > LEAST ? size / 2 : 0.5;

        a.max = a.min + around;
        a.min -= around;
        given = false;
    }
    a.step = round_step(a.max - a.min);
    if (whole && a.step < 1)
        a.step = 1;
    if (!given) {
        a.min = floor(a.min / a.step + 1e-9) * a.step;
        a.max = ceil(a.max / a.step - 1e-9) * a.step;
    }
    a.decimals = a.step >= 1 ? 0 : (int)-floor(log10(a.step) + 1e-9);
    if (a.decimals > 4 || fabs(a.min) >= 1e6 || fabs(a.max) >= 1e6)
        a.decimals = -1;
    return a;
}

static void find_axes(drawing *d)
{
    const chart *c = d->c;
    double x_min = INFINITY, x_max = -INFINITY, y_min = INFINITY, y_max = -INFINITY;
    const bool x_given = c->x_max > c->x_min, y_given = c->y_max > c->y_min;
    bool whole = true;

    for (int i = 0; i < d->n_lines; i++) {
        const chart_line *l = &c->lines[i];

        widen(&x_min, &x_max, l->x, l->n);
        widen(&y_min, &y_max, l->y, l->n);
        widen(&y_min, &y_max, l->low, l->n);
        widen(&y_min, &y_max, l->high, l->n);
        whole = whole && whole_numbers(l->x, l->n);
    }
    d->drawn = x_max >= x_min && y_max >= y_min;
    if (!d->drawn)
        x_min = y_min = 0, x_max = y_max = 1;
    d->x = x_given ? make_axis(c->x_min, c->x_max, true, false)
                   : make_axis(x_min, x_max, false, whole && d->drawn);
    d->y = y_given ? make_axis(c->y_min, c->y_max, true, false) : make_axis(y_min, y_max, false, false);
}

/* Values far outside given ends stay near them: the plot cuts them off, and numbers stay short. */
static double place(const axis *a, double units, double v)
{
    return fmax(-units, fmin(2 * units, units * (v - a->min) / (a->max - a->min)));
}

static double x_at(const drawing *d, double v)
{
    return place(&d->x, d->width, v);
}

static double y_at(const drawing *d, double v)
{
    return d->height - place(&d->y, d->height, v);
}

/* ---- marks ---- */

/* fill="..." or stroke="..." of colour i; -1: the ink, -2: the grid. */
static void put_colour(const drawing *d, const char *attribute, int i)
{
    const char *value = i == -1 ? "#333" : i == -2 ? "#d9dce1" : light[i % COLOURS];
    char name[24] = "chart-ink";

    if (i == -2)
        memcpy(name, "chart-grid", sizeof "chart-grid");
    else if (i >= 0)
        memcpy(name, (char[]){ 'c', 'h', 'a', 'r', 't', '-', (char)('1' + i % COLOURS), 0 }, 8);
    if (d->c->alone)
        heed__text_add(d->t, " class=\"%c-%s\" %s=\"%s\"", attribute[0], name, attribute, value);
    else
        heed__text_add(d->t, " %s=\"var(--%s, %s)\"", attribute, name, value);
}

static void put_point(text *t, char command, double x, double y)
{
    heed__text_put(t, &command, 1);
    put_unit(t, x);
    heed__text_put(t, ",", 1);
    put_unit(t, y);
}

static void put_text(const drawing *d, double x, double y, const char *anchor)
{
    heed__text_add(d->t, "<text x=\"");
    put_unit(d->t, x);
    heed__text_add(d->t, "\" y=\"");
    put_unit(d->t, y);
    heed__text_add(d->t, "\" text-anchor=\"%s\"", anchor);
    put_colour(d, "fill", -1);
    heed__text_put(d->t, ">", 1);
}

static void put_rule(const drawing *d, double x1, double y1, double x2, double y2, int colour)
{
    heed__text_add(d->t, "<path d=\"");
    put_point(d->t, 'M', x1, y1);
    put_point(d->t, 'L', x2, y2);
    heed__text_put(d->t, "\"", 1);
    put_colour(d, "stroke", colour);
    heed__text_add(d->t, "/>\n");
}

static void draw_ticks(const drawing *d)
{
    const axis *x = &d->x, *y = &d->y;

    for (double k = ceil(y->min / y->step - 1e-9); k * y->step <= y->max + y->step * 1e-9; k++) {
        const double at = TOP + y_at(d, k * y->step);

        put_rule(d, LEFT, at, LEFT + d->width, at, -2);
        put_text(d, LEFT - 6, at + 4, "end");
        put_tick(d->t, y, k * y->step);
        heed__text_add(d->t, "</text>\n");
    }
    for (double k = ceil(x->min / x->step - 1e-9); k * x->step <= x->max + x->step * 1e-9; k++) {
        const double at = LEFT + x_at(d, k * x->step);

        put_rule(d, at, TOP + d->height, at, TOP + d->height + 4, -1);
        put_text(d, at, TOP + d->height + 17, "middle");
        put_tick(d->t, x, k * x->step);
        heed__text_add(d->t, "</text>\n");
    }
    put_rule(d, LEFT, TOP + d->height, LEFT + d->width, TOP + d->height, -1);
}

static bool has(const chart_line *l, int64_t i)
{
    return isfinite(l->x[i]) && isfinite(l->y[i]);
}

static bool has_band(const chart_line *l, int64_t i)
{
    return isfinite(l->x[i]) && isfinite(l->low[i]) && isfinite(l->high[i]);
}

static void draw_band(const drawing *d, const chart_line *l, int colour)
{
    for (int64_t i = 0, end; i < l->n; i = end + 1) {
        for (end = i; end < l->n && has_band(l, end); end++) {
        }
        if (end == i)
            continue;
        heed__text_add(d->t, "<path d=\"");
        for (int64_t k = i; k < end; k++)
            put_point(d->t, k == i ? 'M' : 'L', x_at(d, l->x[k]), y_at(d, l->high[k]));
        for (int64_t k = end; k-- > i;)
            put_point(d->t, 'L', x_at(d, l->x[k]), y_at(d, l->low[k]));
        heed__text_add(d->t, "Z\" fill-opacity=\"0.18\" stroke=\"none\"");
        put_colour(d, "fill", colour);
        heed__text_add(d->t, "/>\n");
    }
}

static void draw_mark(const drawing *d, const chart_line *l, int64_t i, int colour)
{
    heed__text_add(d->t, "<circle cx=\"");
    put_unit(d->t, x_at(d, l->x[i]));
    heed__text_add(d->t, "\" cy=\"");
    put_unit(d->t, y_at(d, l->y[i]));
    heed__text_add(d->t, "\" r=\"2.6\" stroke=\"none\"");
    put_colour(d, "fill", colour);
    heed__text_add(d->t, "/>\n");
}

/* Runs of finite values as paths; a value between two gaps as a mark, or nobody would see it. */
static void draw_line(const drawing *d, const chart_line *l, int colour)
{
    for (int64_t i = 0, end; i < l->n; i = end + 1) {
        double last_x = -1e9, last_y = -1e9;

        for (end = i; end < l->n && has(l, end); end++) {
        }
        if (end - i == 1 && (!d->c->points || l->dashed))
            draw_mark(d, l, i, colour);
        if (end - i < 2)
            continue;
        heed__text_add(d->t, "<path d=\"");
        for (int64_t k = i; k < end; k++) {
            const double x = x_at(d, l->x[k]), y = y_at(d, l->y[k]);

            if (l->n > LONG && k > i && k + 1 < end && fabs(x - last_x) < TIGHT && fabs(y - last_y) < TIGHT)
                continue;
            put_point(d->t, k == i ? 'M' : 'L', x, y);
            last_x = x;
            last_y = y;
        }
        heed__text_add(d->t, "\" fill=\"none\" stroke-width=\"%s\" stroke-linejoin=\"round\"%s",
                       l->dashed ? "1.5" : "2", l->dashed ? " stroke-dasharray=\"5 4\"" : "");
        put_colour(d, "stroke", colour);
        heed__text_add(d->t, "/>\n");
    }
    for (int64_t i = 0; d->c->points && !l->dashed && i < l->n; i++)
        if (has(l, i))
            draw_mark(d, l, i, colour);
}

/* The lines lie in an <svg> of their own, which cuts off what lies outside; 4 units more for strokes and
 * marks. */
static void draw_lines(const drawing *d)
{
    heed__text_add(d->t, "<svg x=\"%d\" y=\"%d\" width=\"", LEFT - 4, TOP - 4);
    put_unit(d->t, d->width + 8);
    heed__text_add(d->t, "\" height=\"");
    put_unit(d->t, d->height + 8);
    heed__text_add(d->t, "\" viewBox=\"-4 -4 ");
    put_unit(d->t, d->width + 8);
    heed__text_put(d->t, " ", 1);
    put_unit(d->t, d->height + 8);
    heed__text_add(d->t, "\">\n");
    for (int i = 0; i < d->n_lines; i++)
        if (d->c->lines[i].low && d->c->lines[i].high)
            draw_band(d, &d->c->lines[i], i);
    for (int i = 0; i < d->n_lines; i++)
        draw_line(d, &d->c->lines[i], i);
    heed__text_add(d->t, "</svg>\n");
}

/* ---- names ---- */

/* About what a browser takes for 12 units of a plain font; wide scripts take a square. */
static double char_width(const char *at, size_t length)
{
    return length >= 3 ? 12 : strchr("iljtf.,:;|!'()[] ", *at) ? 4.2 : 7.4;
}

/* Bytes of `name` that fit into `room` units; *width is what they take. */
static size_t fitting(const char *name, double room, double *width)
{
    const size_t size = strlen(name);
    size_t at = 0;

    *width = 0;
    while (at < size) {
        const size_t length = heed__utf8_length(name + at, size - at);
        const double w = char_width(name + at, length);

        if (*width + w > room)
            break;
        *width += w;
        at += length ? length : 1;
    }
    return at;
}

/* As much of a name as fits, then "...". */
static void put_name(const drawing *d, const char *name, double room)
{
    char part[4 * NAMES_MOST + 1];
    double width;
    size_t n = fitting(name, room, &width);

    if (n == strlen(name) || n >= sizeof part) {
        heed__page_escape(d->t, name);
        return;
    }
    n = fitting(name, room - 10, &width);
    memcpy(part, name, n);
    part[n] = 0;
    heed__page_escape(d->t, part);
    heed__text_add(d->t, "\xe2\x80\xa6");
}

static double names_width(const chart *c, int n_lines)
{
    double most = 0;

    for (int i = 0; i < n_lines; i++) {
        double width;

        fitting(c->lines[i].name, NAMES_MOST, &width);
        most = fmax(most, width);
    }
    return n_lines > 1 ? most + 34 : 14;
}

/* y of the last value, or of the bottom. */
static double end_of(const drawing *d, const chart_line *l)
{
    for (int64_t i = l->n; i-- > 0;)
        if (has(l, i))
            return fmax(0, fmin(d->height, y_at(d, l->y[i])));
    return d->height;
}

/* Names in the order of their ends, each at its line's end or right below the one above; then from the bottom
 * up, so that none leaves the plot. */
static void place_names(const drawing *d, int order[LINES_MOST], double at[LINES_MOST])
{
    for (int i = 0; i < d->n_lines; i++) {
        int k = i;

        at[i] = end_of(d, &d->c->lines[i]);
        for (; k > 0 && at[order[k - 1]] > at[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (int k = 1; k < d->n_lines; k++)
        at[order[k]] = fmax(at[order[k]], at[order[k - 1]] + LINE_HEIGHT);
    for (int k = d->n_lines - 1; k >= 0; k--) {
        const double most = k == d->n_lines - 1 ? d->height : at[order[k + 1]] - LINE_HEIGHT;

        at[order[k]] = fmin(at[order[k]], most);
    }
}

static void draw_names(const drawing *d)
{
    int order[LINES_MOST];
    double at[LINES_MOST];

    if (d->n_lines < 2)
        return;
    place_names(d, order, at);
    for (int k = 0; k < d->n_lines; k++) {
        const chart_line *l = &d->c->lines[order[k]];
        const double x = LEFT + d->width + 8, y = TOP + at[order[k]];

        heed__text_add(d->t, "<g><title>");
        heed__page_escape(d->t, l->name);
        heed__text_add(d->t, "</title><path d=\"");
        put_point(d->t, 'M', x, y);
        put_point(d->t, 'L', x + 16, y);
        heed__text_add(d->t, "\" stroke-width=\"%s\"%s", l->dashed ? "2" : "3",
                       l->dashed ? " stroke-dasharray=\"4 2\"" : "");
        put_colour(d, "stroke", order[k]);
        heed__text_add(d->t, "/>");
        put_text(d, x + 20, y + 4, "start");
        put_name(d, l->name, NAMES_MOST);
        heed__text_add(d->t, "</text></g>\n");
    }
}

/* ---- what is read aloud ---- */

static void describe_line(const drawing *d, const chart_line *l)
{
    double min = INFINITY, max = -INFINITY;
    int64_t n = 0, first = 0, last = 0;

    for (int64_t i = 0; i < l->n; i++)
        if (has(l, i)) {
            first = n ? first : i;
            last = i;
            n++;
            min = fmin(min, l->y[i]);
            max = fmax(max, l->y[i]);
        }
    heed__text_put(d->t, " ", 1);
    heed__page_escape(d->t, l->name);
    if (n == 0) {
        heed__text_add(d->t, ": no values.");
        return;
    }
    heed__text_add(d->t, ": %lld values, first ", (long long)n);
    put_shown(d->t, l->y[first]);
    heed__text_add(d->t, ", last ");
    put_shown(d->t, l->y[last]);
    heed__text_add(d->t, ", least ");
    put_shown(d->t, min);
    heed__text_add(d->t, ", most ");
    put_shown(d->t, max);
    heed__text_put(d->t, ".", 1);
}

static void describe(const drawing *d)
{
    heed__text_add(d->t, "<title>");
    heed__page_escape(d->t, d->c->title);
    heed__text_add(d->t, "</title>\n<desc>");
    heed__page_escape(d->t, d->c->y_name);
    heed__text_add(d->t, " by ");
    heed__page_escape(d->t, d->c->x_name);
    heed__text_put(d->t, ".", 1);
    for (int i = 0; i < d->n_lines; i++)
        describe_line(d, &d->c->lines[i]);
    heed__text_add(d->t, "</desc>\n");
}

static void put_style(text *t)
{
    heed__text_add(t, "<style>@media (prefers-color-scheme: dark) { .f-chart-back { fill: #15171b } "
                      ".f-chart-ink { fill: #d7dae0 } .s-chart-ink { stroke: #d7dae0 } "
                      ".s-chart-grid { stroke: #363b44 }");
    for (int i = 0; i < COLOURS; i++)
        heed__text_add(t, " .s-chart-%d { stroke: %s } .f-chart-%d { fill: %s }", i + 1, dark[i], i + 1,
                       dark[i]);
    heed__text_add(t, " }</style>\n");
}

static void open_picture(const drawing *d, double height)
{
    heed__text_add(d->t, "<svg %sclass=\"chart\" role=\"img\" viewBox=\"0 0 %d ",
                   d->c->alone ? "xmlns=\"http://www.w3.org/2000/svg\" " : "", WIDTH);
    put_unit(d->t, height);
    heed__text_put(d->t, "\"", 1);
    if (d->c->alone) {
        heed__text_add(d->t, " width=\"%d\" height=\"", WIDTH);
        put_unit(d->t, height);
        heed__text_add(d->t, "\" font-family=\"system-ui, sans-serif\"");
    }
    heed__text_add(d->t, " font-size=\"12\">\n");
    describe(d);
    if (!d->c->alone)
        return;
    put_style(d->t);
    heed__text_add(d->t, "<rect class=\"f-chart-back\" fill=\"#fff\" width=\"%d\" height=\"", WIDTH);
    put_unit(d->t, height);
    heed__text_add(d->t, "\"/>\n");
}

void heed__chart_svg(text *t, const chart *c)
{
    drawing d = { .t = t, .c = c, .n_lines = c->n_lines < LINES_MOST ? c->n_lines : LINES_MOST };

    d.width = WIDTH - LEFT - names_width(c, d.n_lines);
    d.height = fmax(PLOT_HEIGHT, (d.n_lines - 1) * LINE_HEIGHT);
    find_axes(&d);
    open_picture(&d, TOP + d.height + BOTTOM);
    heed__text_add(t, "<g font-size=\"14\" font-weight=\"600\">");
    put_text(&d, 8, 18, "start");
    put_name(&d, c->title, WIDTH - 60);
    heed__text_add(t, "</text></g>\n");
    put_text(&d, 8, 38, "start");
    put_name(&d, c->y_name, WIDTH - 16);
    heed__text_add(t, "</text>\n");
    put_text(&d, LEFT + d.width / 2, TOP + d.height + 36, "middle");
    put_name(&d, c->x_name, d.width);
    heed__text_add(t, "</text>\n");
    draw_ticks(&d);
    if (d.drawn)
        draw_lines(&d);
    else {
        put_text(&d, LEFT + d.width / 2, TOP + d.height / 2, "middle");
        heed__text_add(t, "no values</text>\n");
    }
    draw_names(&d);
    heed__text_add(t, "</svg>\n");
}
