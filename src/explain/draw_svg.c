/* An explanation as one SVG file: the picture with the likeliest classes, then for each map the picture
 * under it, what it is, the verdict in words, and its deletion test; then heads by their effect. Columns of
 * equal width, three in a row. */
#include "base/error.h"
#include "base/sizes.h"
#include "explain/draw.h"
#include "explain/page.h"

#include <math.h>
#include <string.h>

#define SVG_COLUMN 300
#define SVG_GAP 28
#define SVG_MARGIN 24
#define SVG_IN_ROW 3
#define SVG_LINE 16
#define SVG_LETTERS 48 /* of 12 px in a column, about */
#define SVG_WORDS 8    /* lines of text between picture and chart */
#define SVG_CHART 188  /* height: that of heed__chart_svg at this width */
#define SVG_TOP 76
#define SVG_CLASSES 5

typedef struct sheet {
    text *t;
    const heed_explanation *e;
    int64_t picture; /* height of a picture at the width of a column */
} sheet;

static void svg_text(const sheet *s, int x, int64_t y, const char *style, const char *words)
{
    heed__text_add(s->t, "<text x=\"%d\" y=\"%lld\" %s>", x, (long long)y, style);
    heed__page_escape(s->t, words);
    heed__text_add(s->t, "</text>\n");
}

/* Lines of at most SVG_LETTERS letters; returns y of the line after the last. At most `most` lines. */
static int64_t svg_prose(const sheet *s, int64_t y, const char *style, const char *words, int most)
{
    for (int line = 0; *words && line < most; line++) {
        size_t size = strlen(words), end;
        char part[4 * SVG_LETTERS + 1];
        int letters = 0;

        for (end = 0; end < size && letters < SVG_LETTERS;) {
            const size_t length = heed__utf8_length(words + end, size - end);

            letters += length >= 3 ? 2 : 1;
            end += length ? length : 1;
        }
        while (end < size && end > SVG_LETTERS / 2 && words[end] != ' ')
            end--;
        if (end == SVG_LETTERS / 2 && end < size) /* one long word: cut between two characters */
            while (end < size && ((unsigned char)words[end] & 0xc0) == 0x80)
                end++;
        memcpy(part, words, end < sizeof part ? end : sizeof part - 1);
        part[end < sizeof part ? end : sizeof part - 1] = 0;
        svg_text(s, 0, y, style, part);
        y += SVG_LINE;
        words += end;
        words += strspn(words, " ");
    }
    return y;
}

static heed_status svg_image(const sheet *s, heed_context *ctx, const heed_saliency *map, heed_error *err)
{
    pixels p = { 0 };
    heed_status st;

    if (map)
        STEP(heed__draw_overlay(&p, ctx, s->e, map, heed__draw_scale(s->e), err));
    else
        STEP(heed__draw_picture(&p, ctx, s->e, heed__draw_scale(s->e), err));
    heed__text_add(
        s->t,
        "<svg y=\"12\" width=\"%d\" height=\"%lld\" viewBox=\"0 0 %lld %lld\" role=\"img\" aria-label=\"",
        SVG_COLUMN, (long long)s->picture, (long long)p.width, (long long)p.height);
    heed__page_escape(s->t, map ? heed__method_words(map->method)->title : s->e->input);
    heed__text_add(s->t, "\">\n");
    STEP(heed__draw_image(s->t, ctx, &p, err));
    heed__text_add(s->t, "</svg>\n");
done:
    heed__pixels_release(ctx, &p);
    return st;
}

/* The class with the k-th largest probability. */
static int64_t svg_ranked(const heed_explanation *e, int64_t k)
{
    for (int64_t i = 0; i < e->classes; i++) {
        int64_t before = 0;

        for (int64_t j = 0; j < e->classes; j++)
            before +=
                e->probability[j] > e->probability[i] || (j < i && e->probability[j] >= e->probability[i]);
        if (before == k)
            return i;
    }
    return -1;
}

static heed_status svg_picture(const sheet *s, heed_context *ctx, heed_error *err)
{
    const heed_explanation *e = s->e;
    int64_t y = s->picture + 34;

    svg_text(s, 0, 0, "class=\"f-chart-ink\" font-weight=\"600\" font-size=\"14\"", "Picture");
    TRY(svg_image(s, ctx, NULL, err));
    for (int64_t k = 0, i; k < SVG_CLASSES && (i = svg_ranked(e, k)) >= 0; k++, y += 22) {
        const double p = fmin(fmax((double)e->probability[i], 0), 1);
        char part[80];
        const size_t size = strlen(heed__class_name(e, i));
        size_t n = 0;

        while (n < size && n < 18)
            n += (size_t)i64_max(1, (int64_t)heed__utf8_length(heed__class_name(e, i) + n, size - n));
        memcpy(part, heed__class_name(e, i), n);
        part[n] = 0;
        svg_text(s, 0, y,
                 i == e->target ? "class=\"f-chart-ink\" font-weight=\"700\"" : "class=\"f-chart-ink\"",
                 part);
        heed__text_add(s->t, "<rect x=\"118\" y=\"%lld\" width=\"%lld\" height=\"12\" fill=\"%s\"/>\n",
                       (long long)y - 10, (long long)floor(p * 120 + 0.5) + 1,
                       i == e->target ? "#2456c4" : "#8a8d93");
        heed__text_add(s->t, "<text x=\"%lld\" y=\"%lld\" class=\"f-chart-ink\">%.4f%s</text>\n",
                       (long long)floor(p * 120 + 0.5) + 125, (long long)y, p, i == e->truth ? " *" : "");
    }
    svg_prose(s, y + 4, "class=\"f-muted\"",
              e->truth >= 0 ? "Bold: the class that is explained. *: the true class."
                            : "Bold: the class that is explained.",
              2);
    return HEED_OK;
}

static heed_status svg_map(const sheet *s, heed_context *ctx, const heed_saliency *m, heed_error *err)
{
    static const char *const styles[] = { "class=\"f-good\" font-weight=\"600\"",
                                          "class=\"f-warn\" font-weight=\"600\"",
                                          "class=\"f-bad\" font-weight=\"600\"" };
    const int verdict = m->faithful.verdict <= HEED_WORSE ? (int)m->faithful.verdict : HEED_NO_BETTER;
    const int64_t chart = s->picture + 12 + SVG_WORDS * SVG_LINE + 8;
    text words;
    int64_t y;

    svg_text(s, 0, 0, "class=\"f-chart-ink\" font-weight=\"600\" font-size=\"14\"",
             heed__method_words(m->method)->title);
    TRY(svg_image(s, ctx, m, err));
    y = svg_prose(s, s->picture + 32, "class=\"f-muted\"", m->about, 2);
    y = svg_prose(s, y + 4, styles[verdict], heed__verdict_words(m->faithful.verdict)->title, 2);
    heed__text_init(&words, s->t->heap, 0);
    heed__verdict_put(&words, &m->faithful);
    svg_prose(s, y, "class=\"f-chart-ink\"", words.data, 5);
    heed__page_follow(s->t, &words);
    heed__text_release(&words);
    heed__text_add(s->t, "<svg y=\"%lld\" width=\"%d\" height=\"%d\" class=\"deletion\">\n", (long long)chart,
                   SVG_COLUMN, SVG_CHART);
    heed__draw_deletion(s->t, m, false);
    heed__text_add(s->t, "</svg>\n");
    return HEED_OK;
}

/* Heads by their effect: as many bars as a column is high. */
static void svg_ablation(const sheet *s)
{
    const heed_explanation *e = s->e;
    const heed_ablation *a = e->ablation;
    const int64_t fit = (s->picture + SVG_WORDS * SVG_LINE + SVG_CHART - 150) / 20,
                  shown = i64_min(heed__ablation_shown(a), i64_max(5, fit));
    char number[24];
    ablation_args args;
    text words;
    int64_t y;

    svg_text(s, 0, 0, "class=\"f-chart-ink\" font-weight=\"600\" font-size=\"14\"", ABLATION_TITLE);
    heed__text_init(&words, s->t->heap, 0);
    heed__ablation_args(&args, e);
    heed__page_fill(&words, ABLATION_ABOUT, args.at, ABLATION_ARGS);
    y = svg_prose(s, 24, "class=\"f-muted\"", words.data, 6) + 8;
    for (int64_t i = 0; i < shown; i++, y += 20) {
        const size_t size = strlen(a->heads[i].path);
        size_t from = size > 20 ? size - 20 : 0; /* the end of a path tells more than its beginning */

        while (from < size && ((unsigned char)a->heads[i].path[from] & 0xc0) == 0x80)
            from++;
        heed__text_clear(&words);
        heed__text_add(&words, "%s head %lld", a->heads[i].path + from, (long long)a->heads[i].head);
        svg_text(s, 0, y, "class=\"f-chart-ink\"", words.data);
        heed__text_add(s->t, "<rect x=\"170\" y=\"%lld\" width=\"%lld\" height=\"12\" fill=\"%s\"/>\n",
                       (long long)y - 10, (long long)floor(heed__ablation_share(a, i) * 70 + 0.5) + 1,
                       a->heads[i].effect > 0 ? "#2456c4" : "#8a8d93");
        heed__format(number, sizeof number, "%+.4f", a->heads[i].effect);
        heed__text_add(s->t, "<text x=\"300\" y=\"%lld\" text-anchor=\"end\" class=\"f-chart-ink\">%s</text>\n",
                       (long long)y, number);
    }
    heed__text_clear(&words);
    if (a->n > shown) {
        heed__format(number, sizeof number, "%lld", (long long)(a->n - shown));
        heed__page_fill(&words, ABLATION_MORE, (const char *const[]){ number }, 1);
        svg_text(s, 0, y, "class=\"f-muted\"", words.data);
    }
    heed__page_follow(s->t, &words);
    heed__text_release(&words);
}

/* The colours of heed__chart_svg's classes and ours; the chart inside takes the variables. */
static void svg_style(text *t)
{
    heed__text_add(
        t,
        "<style>.paper { fill: #fff } .f-chart-ink { fill: #26292e } .f-muted { fill: #5c626c } .f-good { "
        "fill: #0b6b4f } .f-warn { fill: #7a5600 } .f-bad { fill: #a8321a }\n"
        "@media (prefers-color-scheme: dark) { :root { --chart-1: #8db1ff; --chart-2: #ff9f5a; --chart-grid: "
        "#2e343d; --chart-ink: #b4bac4 } .paper { fill: #14171c } .f-chart-ink { fill: #e8e6e1 } .f-muted { "
        "fill: #a3a9b3 } .f-good { fill: #6fd3ab } .f-warn { fill: #e6c067 } .f-bad { fill: #ff9c84 } "
        "}</style>\n");
}

heed_status heed__draw_svg(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err)
{
    const int64_t cells = 1 + e->n_maps + (e->ablation != NULL), columns = i64_min(SVG_IN_ROW, cells),
                  rows = i64_ceil_div(cells, SVG_IN_ROW);
    const int64_t width = 2 * SVG_MARGIN + columns * (SVG_COLUMN + SVG_GAP) - SVG_GAP;
    sheet s = { .t = t, .e = e };
    int64_t w, h, row;
    text words;

    heed__draw_size(e, &w, &h);
    s.picture = i64_max(1, (int64_t)floor((double)SVG_COLUMN * (double)h / (double)w + 0.5));
    row = s.picture + SVG_WORDS * SVG_LINE + SVG_CHART + 50;
    heed__text_add(
        t,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%lld\" height=\"%lld\" viewBox=\"0 0 %lld %lld\" "
        "font-family=\"system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif\" font-size=\"12\">\n",
        (long long)width, (long long)(SVG_TOP + rows * row + SVG_MARGIN), (long long)width,
        (long long)(SVG_TOP + rows * row + SVG_MARGIN));
    svg_style(t);
    heed__text_add(
        t,
        "<rect class=\"paper\" width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<g transform=\"translate(%d "
        "30)\">\n",
        SVG_MARGIN);
    heed__text_init(&words, t->heap, 0);
    heed__text_add(&words, "%s: %s", e->input, heed__class_name(e, e->predicted));
    svg_text(&s, 0, 0, "class=\"f-chart-ink\" font-weight=\"600\" font-size=\"18\"", words.data);
    heed__page_follow(t, &words);
    heed__text_clear(&words);
    heed__text_add(&words, "%s%s%s", e->model, e->edit[0] ? "; edited: " : "", e->edit);
    svg_text(&s, 0, 20, "class=\"f-muted\"", words.data);
    heed__page_follow(t, &words);
    heed__text_release(&words);
    heed__text_add(t, "</g>\n");
    for (int64_t i = 0; i < cells; i++) {
        heed__text_add(t, "<g transform=\"translate(%lld %lld)\">\n",
                       (long long)(SVG_MARGIN + i % SVG_IN_ROW * (SVG_COLUMN + SVG_GAP)),
                       (long long)(SVG_TOP + 6 + i / SVG_IN_ROW * row));
        if (i == 0)
            TRY(svg_picture(&s, ctx, err));
        else if (i > e->n_maps)
            svg_ablation(&s);
        else
            TRY(svg_map(&s, ctx, &e->maps[i - 1], err));
        heed__text_add(t, "</g>\n");
    }
    heed__text_add(t, "<g transform=\"translate(%d %lld)\">\n", SVG_MARGIN,
                   (long long)(SVG_TOP + rows * row + 8));
    svg_text(&s, 0, 0, "class=\"f-chart-ink\"", DRAW_NOTE);
    heed__text_add(t, "</g>\n</svg>\n");
    return HEED_OK;
}
