/* An explanation as one page that loads nothing.
 *
 *   what was asked and answered: picture, classes as bars, verdict on all maps
 *   a card for each map: the picture under it, what it is, the deletion test in words and as curves
 *   heads by what the loss becomes without them, when that was asked
 *   every attention: a row for each, a column for each head; the chosen one large, with its numbers
 *
 * The page says all of it without script, but for the weights of single heads. Those are embedded as half
 * floats (11 significant bits) in base64, at most PAGE_WEIGHTS of them; a larger attention keeps its mean
 * over queries, and the page says so. */
#include "base/error.h"
#include "base/sizes.h"
#include "cpu/rows.h"
#include "explain/draw.h"
#include "explain/page.h"

#include <math.h>
#include <string.h>

#define PAGE_WEIGHTS 1048576 /* numbers; 2.8 MB of page */
#define PAGE_CLASSES 10

typedef struct html {
    text *t;
    heed_context *ctx;
    const heed_explanation *e;
} html;

/* ---- small parts ---- */

static void html_say(const html *h, const char *tag, const char *words)
{
    heed__page_say(h->t, tag, words, NULL, 0);
    heed__text_put(h->t, "\n", 1);
}

static void html_name(const html *h, const char *tag, const char *name)
{
    heed__text_add(h->t, "<%s>", tag);
    heed__page_escape(h->t, name);
    heed__text_add(h->t, "</%.*s>", (int)strcspn(tag, " "), tag);
}

static void html_fact(const html *h, const char *what, const char *value)
{
    heed__text_put(h->t, "<div>", 5);
    heed__page_say(h->t, "dt", what, NULL, 0);
    html_name(h, "dd", value);
    heed__text_add(h->t, "</div>\n");
}

static void html_bar(const html *h, int64_t i)
{
    const heed_explanation *e = h->e;
    const double p = fmin(fmax((double)e->probability[i], 0), 1);

    heed__text_add(h->t, "<div%s><dt title=\"", i == e->target ? " class=\"chosen\"" : "");
    heed__page_escape(h->t, heed__class_name(e, i));
    heed__text_add(h->t, "\">");
    heed__page_escape(h->t, heed__class_name(e, i));
    heed__text_add(h->t, "</dt><dd><i style=\"width:%.1f%%\"></i><span>%.4f</span>", p * 75, p);
    if (i == e->truth)
        heed__page_say(h->t, "small", "true class", NULL, 0);
    heed__text_add(h->t, "</dd></div>\n");
}

static void html_bars(const html *h)
{
    const heed_explanation *e = h->e;
    bool target = false, truth = e->truth < 0;
    int64_t at = -1;

    heed__text_add(h->t, "<dl class=\"bars\">\n");
    for (int k = 0; k < PAGE_CLASSES && (at = heed__draw_next_class(e, at)) >= 0; k++) {
        html_bar(h, at);
        target = target || at == e->target;
        truth = truth || at == e->truth;
    }
    if (!target && e->target >= 0 && e->target < e->classes)
        html_bar(h, e->target);
    if (!truth && e->truth != e->target && e->truth < e->classes)
        html_bar(h, e->truth);
    heed__text_add(h->t, "</dl>\n");
}

/* A picture or an overlay as inline SVG, so that it is there without libpng, too. */
static heed_status html_image(const html *h, const char *attributes, const heed_saliency *map,
                              heed_error *err)
{
    /* the plain picture is drawn once for each of its pixels: the browser enlarges it without blurring */
    const int64_t scale = map ? heed__draw_scale(h->e) : 1;
    pixels p = { 0 };
    heed_status st;

    if (map)
        STEP(heed__draw_overlay(&p, h->ctx, h->e, map, scale, err));
    else
        STEP(heed__draw_picture(&p, h->ctx, h->e, scale, err));
    heed__text_add(
        h->t,
        "<svg %s role=\"img\" viewBox=\"0 0 %lld %lld\" preserveAspectRatio=\"none\" "
        "style=\"aspect-ratio:%lld/%lld\" aria-label=\"",
        attributes, (long long)p.width, (long long)p.height, (long long)p.width, (long long)p.height);
    heed__page_escape(h->t, map ? heed__method_words(map->method)->title : h->e->input);
    heed__text_add(h->t, "\"><g%s>", map ? "" : " id=\"pixels\"");
    STEP(heed__draw_image(h->t, h->ctx, &p, err));
    heed__text_add(h->t, "</g></svg>\n");
done:
    heed__pixels_release(h->ctx, &p);
    return st;
}

/* ---- sections ---- */

static heed_status html_summary(const html *h, heed_error *err)
{
    const heed_explanation *e = h->e;
    const bool known = e->truth >= 0, right = e->truth == e->predicted;

    heed__text_add(h->t,
                   "<section class=\"summary\" aria-labelledby=\"answer\">\n<figure class=\"input\">\n");
    TRY(html_image(h, "id=\"picture\" class=\"picture\"", NULL, err));
    heed__text_add(h->t, "<figcaption>");
    heed__page_escape(h->t, e->input);
    heed__text_add(h->t, "</figcaption></figure>\n<div>\n");
    heed__page_say(h->t, "h2 id=\"answer\"",
                   !known  ? "The model says: {0}"
                   : right ? "The model says: {0}, and is right"
                           : "The model says: {0}, but it is: {1}",
                   (const char *const[]){ heed__class_name(e, e->predicted), heed__class_name(e, e->truth) },
                   known && !right ? 2 : 1);
    heed__text_add(h->t, "\n<dl class=\"facts\">\n");
    html_fact(h, "Explained class", heed__class_name(e, e->target));
    html_fact(h, "Model", e->model);
    if (e->edit[0])
        html_fact(h, "Edited", e->edit);
    heed__text_add(h->t, "</dl>\n");
    html_bars(h);
    heed__text_add(h->t, "</div>\n</section>\n");
    return HEED_OK;
}

static const char *html_style_of(heed_verdict v)
{
    return v == HEED_FAITHFUL ? "good" : v == HEED_WORSE ? "bad" : "none";
}

static void html_note(const html *h)
{
    heed__text_add(h->t, "<div class=\"note\">");
    html_say(h, "b", DRAW_NOTE);
    html_say(h, "span", heed__verdict_on_all(h->e));
    heed__text_add(h->t, "</div>\n");
}

static void html_verdict(const html *h, const heed_faithfulness *f)
{
    verdict_args args;

    heed__verdict_args(&args, f);
    heed__text_add(h->t, "<div class=\"verdict %s\">", html_style_of(f->verdict));
    heed__page_say(h->t, "b", heed__verdict_words(f->verdict)->title, NULL, 0);
    heed__page_say(h->t, "span", heed__verdict_words(f->verdict)->sentence, args.at, VERDICT_ARGS);
    heed__text_add(h->t, "</div>\n");
}

static heed_status html_map(const html *h, int i, heed_error *err)
{
    const heed_saliency *m = &h->e->maps[i];

    heed__text_add(h->t, "<article class=\"card map\" data-map=\"%d\">\n", i);
    heed__text_add(h->t, "<div class=\"where\"><div class=\"cells\">");
    TRY(html_image(h, "class=\"overlay\"", m, err));
    heed__text_add(
        h->t, "</div>\n<output class=\"readout\" aria-live=\"polite\"></output></div>\n<div class=\"what\">");
    html_say(h, "h3", heed__method_words(m->method)->title);
    heed__text_add(h->t, "<p class=\"about\">");
    heed__page_say(h->t, "span", heed__method_words(m->method)->about, NULL, 0);
    heed__text_put(h->t, " ", 1);
    html_name(h, "small", m->about);
    heed__text_add(h->t, "</p>\n");
    html_verdict(h, &m->faithful);
    heed__text_add(h->t, "</div>\n<div class=\"chart\">");
    heed__draw_deletion(h->t, m, false);
    heed__text_add(h->t, "</div>\n</article>\n");
    return HEED_OK;
}

static heed_status html_maps(const html *h, heed_error *err)
{
    heed__text_add(h->t, "<section aria-labelledby=\"maps\">\n");
    html_say(h, "h2 id=\"maps\"", "Where the maps point, and how far to trust them");
    html_say(
        h, "p",
        "The deletion test replaces cells by the mean picture, those that a map marks first, and watches the "
        "class. A map that knows what counts makes it fall sooner than removing cells in random order.");
    for (int i = 0; i < h->e->n_maps; i++)
        TRY(html_map(h, i, err));
    heed__text_add(h->t, "</section>\n");
    return HEED_OK;
}

static void html_ablation(const html *h)
{
    const heed_explanation *e = h->e;
    const heed_ablation *a = e->ablation;
    char number[24];
    ablation_args args;

    if (!a)
        return;
    heed__ablation_args(&args, e);
    heed__text_add(h->t, "<section aria-labelledby=\"ablation\">\n");
    html_say(h, "h2 id=\"ablation\"", ABLATION_TITLE);
    heed__page_say(h->t, "p", ABLATION_ABOUT, args.at, ABLATION_ARGS);
    heed__text_add(h->t, "\n<div class=\"wide\"><table class=\"data\">\n<thead><tr>");
    html_say(h, "th scope=\"col\"", "Attention");
    html_say(h, "th scope=\"col\"", "Head");
    html_say(h, "th scope=\"col\"", "Loss without it");
    html_say(h, "th scope=\"col\"", "Effect");
    heed__text_add(h->t, "<td></td></tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < heed__ablation_shown(a); i++) {
        const heed_head_effect *one = &a->heads[i];

        heed__text_add(h->t, "<tr>");
        html_name(h, "th scope=\"row\"", one->path);
        heed__text_add(h->t, "<td>%lld</td><td>%.4f</td><td>%+.4f</td><td><span class=\"effect\" style=\"width:%.1frem\"></span></td></tr>\n",
                       (long long)one->head, one->loss, one->effect, 6 * heed__ablation_share(a, i));
    }
    heed__text_add(h->t, "</tbody></table></div>\n");
    if (a->n > heed__ablation_shown(a)) {
        heed__format(number, sizeof number, "%lld", (long long)(a->n - heed__ablation_shown(a)));
        heed__page_say(h->t, "p", ABLATION_MORE, (const char *const[]){ number }, 1);
        heed__text_put(h->t, "\n", 1);
    }
    heed__text_add(h->t, "</section>\n");
}

/* The deletion tests once more, short: they stand beside the weights. */
static void html_tests(const html *h)
{
    const heed_explanation *e = h->e;

    if (e->n_maps == 0)
        return;
    heed__text_add(h->t, "<div class=\"wide\"><table class=\"data\">\n");
    html_say(h, "caption", "Deletion test: area under the class's probability; lower is better");
    heed__text_add(h->t, "<thead><tr>");
    html_say(h, "th scope=\"col\"", "Map");
    html_say(h, "th scope=\"col\"", "Area");
    html_say(h, "th scope=\"col\"", "Random");
    html_say(h, "th scope=\"col\" class=\"word\"", "Verdict");
    heed__text_add(h->t, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < e->n_maps; i++) {
        const heed_faithfulness *f = &e->maps[i].faithful;

        heed__text_add(h->t, "<tr>");
        heed__page_say(h->t, "th scope=\"row\"", heed__method_words(e->maps[i].method)->title, NULL, 0);
        heed__text_add(h->t, "<td>%.3f</td><td>%.3f \xc2\xb1 %.3f</td>", f->area, f->random_area,
                       f->random_std);
        heed__text_add(h->t, "<td class=\"word %s\">", html_style_of(f->verdict));
        heed__page_say(h->t, "span", heed__verdict_words(f->verdict)->title, NULL, 0);
        heed__text_add(h->t, "</td></tr>\n");
    }
    heed__text_add(h->t, "</tbody></table></div>\n");
}

static void html_attentions(const html *h)
{
    if (h->e->n_attentions == 0)
        return;
    heed__text_add(h->t, "<section aria-labelledby=\"heads\">\n");
    html_say(h, "h2 id=\"heads\"", "Every attention, head by head");
    html_note(h);
    heed__text_add(h->t, "<noscript>");
    html_say(h, "p", "The single heads need the page's script.");
    heed__text_add(h->t, "</noscript>\n<div id=\"attention\"></div>\n");
    html_tests(h);
    heed__text_add(h->t, "</section>\n");
}

/* ---- numbers for the script ---- */

/* Half floats: rounding is exact on every level, so the page has the same bytes everywhere. */
static heed_status html_halves(const html *h, text *json, const float *x, int64_t n, heed_error *err)
{
    uint16_t *half = heed__alloc(h->ctx->heap, (size_t)n, sizeof *half);

    if (!half)
        return heed__fail_memory(err, (uint64_t)n * sizeof *half);
    heed__row_ops(HEED_ISA_PORTABLE)->narrow_f16(half, x, n);
    heed__text_put(json, "\"", 1);
    heed__page_base64(json, half, (size_t)n * sizeof *half);
    heed__text_put(json, "\"", 1);
    heed__release(h->ctx->heap, half);
    return HEED_OK;
}

/* Mean over queries: [heads, keys]. */
static heed_status html_mean(const html *h, text *json, const heed_attention_record *a, heed_error *err)
{
    const int64_t n = a->heads * a->keys;
    float *mean = heed__alloc(h->ctx->heap, (size_t)n, sizeof *mean);
    heed_status st;

    if (!mean)
        return heed__fail_memory(err, (uint64_t)n * sizeof *mean);
    for (int64_t i = 0; i < a->heads * a->queries; i++)
        for (int64_t k = 0; k < a->keys; k++)
            mean[i / a->queries * a->keys + k] += a->weights[i * a->keys + k] / (float)a->queries;
    st = html_halves(h, json, mean, n, err);
    heed__release(h->ctx->heap, mean);
    return st;
}

/* What is kept: all weights when every attention's fit, else those of the attentions that are within an
 * equal share. */
static heed_status html_attention(const html *h, text *json, const heed_attention_record *a, int64_t share,
                                  heed_error *err)
{
    const int64_t n = a->heads * a->queries * a->keys;
    const bool all = n <= share, mean = !all && a->heads * a->keys <= share;

    heed__text_add(json, "{\"path\":");
    heed__text_json(json, a->path, strlen(a->path));
    heed__text_add(
        json,
        ",\"heads\":%lld,\"queries\":%lld,\"keys\":%lld,\"first\":%lld,\"rows\":%lld,\"cols\":%lld,"
         "\"kept\":\"%s\"",
        (long long)a->heads, (long long)a->queries, (long long)a->keys, (long long)a->grid.first,
        (long long)a->grid.rows, (long long)a->grid.cols,
        all    ? "all"
        : mean ? "mean"
               : "none");
    heed__text_add(json, ",\"weights\":");
    if (all)
        TRY(html_halves(h, json, a->weights, n, err));
    else if (mean)
        TRY(html_mean(h, json, a, err));
    else
        heed__text_put(json, "\"\"", 2);
    heed__text_put(json, "}", 1);
    return HEED_OK;
}

static heed_status html_json(const html *h, text *json, heed_error *err)
{
    const heed_explanation *e = h->e;
    colour table[COLOUR_STEPS];
    int64_t total = 0, share;

    for (int64_t i = 0; i < e->n_attentions; i++)
        total += e->attentions[i].heads * e->attentions[i].queries * e->attentions[i].keys;
    share = total <= PAGE_WEIGHTS ? total : PAGE_WEIGHTS / e->n_attentions;
    heed__colours(table);
    heed__text_add(json, "{\"colours\":\"");
    for (int i = 0; i < COLOUR_STEPS; i++)
        heed__text_add(json, "%02x%02x%02x", table[i].r, table[i].g, table[i].b);
    heed__text_add(json, "\",\"picture\":%s,\"maps\":[", e->picture.data ? "true" : "false");
    for (int i = 0; i < e->n_maps; i++) {
        const heed_saliency *m = &e->maps[i];

        heed__text_add(json, "%s{\"rows\":%lld,\"cols\":%lld,\"values\":", i ? "," : "", (long long)m->rows,
                       (long long)m->cols);
        TRY(html_halves(h, json, m->map, m->rows * m->cols, err));
        heed__text_put(json, "}", 1);
    }
    heed__text_add(json, "],\"attentions\":[");
    for (int64_t i = 0; i < e->n_attentions; i++) {
        if (i)
            heed__text_put(json, ",\n", 2);
        TRY(html_attention(h, json, &e->attentions[i], share, err));
    }
    heed__text_add(json, "]}");
    return HEED_OK;
}

static heed_status html_data(const html *h, heed_error *err)
{
    text json;
    heed_status st;

    heed__text_init(&json, h->t->heap, 0);
    st = html_json(h, &json, err);
    heed__page_data(h->t, "data", json.data, json.size);
    heed__page_follow(h->t, &json);
    heed__text_release(&json);
    return st;
}

heed_status heed__draw_html(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err)
{
    const html h = { t, ctx, e };
    const page p = { .title = "What the model attends to: {0}",
                     .args = &e->input,
                     .n_args = 1,
                     .style = &heed__asset_explain_css,
                     .script = &heed__asset_explain_js };

    heed__page_begin(t, &p);
    TRY(html_summary(&h, err));
    if (e->n_maps > 0) {
        html_note(&h);
        TRY(html_maps(&h, err));
    }
    html_ablation(&h);
    html_attentions(&h);
    TRY(html_data(&h, err));
    heed__page_end(t, &p);
    return HEED_OK;
}
