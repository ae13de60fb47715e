/* Charts as SVG: loss by epoch, ROC and precision-recall curves, deletion curves. One look for pages, files and light
 * and dark: colours come from CSS variables with values of their own for a file that stands alone. */
#ifndef EXPLAIN_CHART_H
#define EXPLAIN_CHART_H

#include "base/text.h"

typedef struct chart_line {
    const char *name;     /* in the legend */
    const double *x, *y;  /* n each; NaN leaves a gap */
    int64_t n;
    const double *low, *high; /* a band around it; NULL: none */
    bool dashed;              /* a reference: chance, a baseline */
} chart_line;

typedef struct chart {
    const char *title, *x_name, *y_name; /* also the text for screen readers */
    const chart_line *lines;
    int n_lines;
    double x_min, x_max, y_min, y_max; /* both zero: from the data, with round ends */
    bool points;                       /* a mark at each value */
    bool alone;                        /* a file of its own: with xmlns, fonts and colours inside */
} chart;

/* Appends one <svg> element; numbers and names are escaped. The same bytes for the same chart. */
void heed__chart_svg(text *t, const chart *c);

#endif
