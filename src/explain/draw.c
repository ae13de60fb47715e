/* Words and pictures that all drawings share, and the public calls that choose one. */
#include "explain/draw.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "explain/chart.h"
#include "explain/page.h"
#include <heed/image.h>

#include <math.h>
#include <string.h>

/* ---- words ---- */

const method_words *heed__method_words(heed_explain_method m)
{
    static const method_words words[HEED_EXPLAIN_METHODS] = {
        [HEED_EXPLAIN_RAW] = { "Attention weights",
                               "The weights of one attention, as the model mixes by them." },
        [HEED_EXPLAIN_ROLLOUT] = { "Attention rollout",
                                   "Weights of all layers multiplied, half of each layer passing straight "
                                   "on." },
        [HEED_EXPLAIN_GRADIENT] = { "Gradient \xc3\x97 attention",
                                    "Weights that would raise the class if they grew, through all layers." },
        [HEED_EXPLAIN_RECEIVED] = { "Attention received",
                                    "How much weight each cell gets from all queries together." },
        [HEED_EXPLAIN_OCCLUSION] = { "Occlusion",
                                     "How far the class falls when a cell is blanked. Uses no attention." },
    };
    static const method_words none = { "?", "" };

    return (int)m >= 0 && m < HEED_EXPLAIN_METHODS ? &words[m] : &none;
}

const verdict_words *heed__verdict_words(heed_verdict v)
{
    static const verdict_words words[] = {
        [HEED_FAITHFUL] = { "faithful", "Better than random",
                            "Deletion area {0}, random {1} \xc2\xb1 {2}: lower than {3} of {4} random "
                            "orders. Removing what the map marks makes the class fall." },
        [HEED_NO_BETTER] = { "no-better", "No better than random: do not trust this map",
                             "Deletion area {0}, random {1} \xc2\xb1 {2}: lower than {3} of {4} random "
                             "orders; to trust it takes 95 % of 19 or more." },
        [HEED_WORSE] = { "worse", "Worse than random: it points away from what counts",
                         "Deletion area {0}, random {1} \xc2\xb1 {2}: lower than only {3} of {4} random "
                         "orders. Removing other cells hurts the class more." },
    };

    return &words[(int)v >= 0 && v <= HEED_WORSE ? v : HEED_NO_BETTER];
}

void heed__verdict_args(verdict_args *out, const heed_faithfulness *f)
{
    const double beaten = isfinite(f->rank) ? fmin(fmax(1 - f->rank, 0), 1) : 0;

    heed__format(out->text[0], sizeof out->text[0], "%.3f", f->area);
    heed__format(out->text[1], sizeof out->text[1], "%.3f", f->random_area);
    heed__format(out->text[2], sizeof out->text[2], "%.3f", f->random_std);
    heed__format(out->text[3], sizeof out->text[3], "%lld", (long long)llround(beaten * (double)f->orders));
    heed__format(out->text[4], sizeof out->text[4], "%lld", (long long)f->orders);
    for (int i = 0; i < VERDICT_ARGS; i++)
        out->at[i] = out->text[i];
}

void heed__verdict_put(text *t, const heed_faithfulness *f)
{
    verdict_args args;

    heed__verdict_args(&args, f);
    heed__page_fill(t, heed__verdict_words(f->verdict)->sentence, args.at, VERDICT_ARGS);
}

const char *heed__verdict_on_all(const heed_explanation *e)
{
    int of_attention = 0, good = 0;

    for (int i = 0; i < e->n_maps; i++) {
        of_attention += e->maps[i].method != HEED_EXPLAIN_OCCLUSION;
        good += e->maps[i].method != HEED_EXPLAIN_OCCLUSION && e->maps[i].faithful.verdict == HEED_FAITHFUL;
    }
    if (of_attention == 0)
        return "No map here is made of attention.";
    if (good == 0)
        return "On this picture no map made of attention does better than random cells: do not read it as "
               "a reason.";
    if (good < of_attention)
        return "On this picture some maps made of attention do better than random cells and some do not: "
               "see the deletion test of each.";
    return "On this picture every map made of attention does better than random cells.";
}

const char *heed__class_name(const heed_explanation *e, int64_t i)
{
    return i >= 0 && i < e->classes ? e->class_names[i] : "";
}

/* ---- heads ---- */

void heed__ablation_args(ablation_args *out, const heed_explanation *e)
{
    heed__format(out->text[0], sizeof out->text[0], "%.4f", e->ablation->loss);
    heed__format(out->text[1], sizeof out->text[1], "%.4f", e->ablation->loss_without_all);
    out->at[0] = heed__class_name(e, e->ablation->labels[0]);
    out->at[1] = out->text[0];
    out->at[2] = out->text[1];
}

int64_t heed__ablation_shown(const heed_ablation *a)
{
    return i64_min(a->n, ABLATION_SHOWN);
}

double heed__ablation_share(const heed_ablation *a, int64_t i)
{
    double most = 0;

    for (int64_t k = 0; k < a->n; k++)
        most = fmax(most, fabs(a->heads[k].effect));
    return most > 0 ? fabs(a->heads[i].effect) / most : 0;
}

void heed__draw_deletion(text *t, const heed_saliency *s, bool alone)
{
    /* curves are short (21 points); a longer one is thinned to what can be seen */
    enum { MOST = 101 };
    const heed_faithfulness *f = &s->faithful;
    double x[MOST], map[MOST], random[MOST], low[MOST], high[MOST];
    const int64_t n = i64_min(f->points, MOST);
    const chart_line lines[2] = {
        { .name = "this map", .x = x, .y = map, .n = n },
        { .name = "random cells", .x = x, .y = random, .n = n, .low = low, .high = high, .dashed = true },
    };

    for (int64_t i = 0; i < n; i++) {
        const int64_t at = n > 1 ? i * (f->points - 1) / (n - 1) : 0;

        x[i] = f->points > 1 ? (double)at / (double)(f->points - 1) : 0;
        map[i] = (double)f->probability[at];
        random[i] = (double)f->random[at];
        low[i] = (double)f->random_low[at];
        high[i] = (double)f->random_high[at];
    }
    heed__chart_svg(t, &(chart){ .title = "Deletion test",
                                 .x_name = "share of cells removed",
                                 .y_name = "probability of the class",
                                 .lines = lines,
                                 .n_lines = 2,
                                 .x_max = 1,
                                 .y_max = 1,
                                 .alone = alone });
}

/* ---- pictures ---- */

void heed__pixels_release(heed_context *ctx, pixels *p)
{
    heed__release(ctx->heap, p->data);
    *p = (pixels){ 0 };
}

static bool draw_has_picture(const heed_explanation *e)
{
    return e->picture.data && heed_type_count(&e->picture.type) > 0 && e->picture.type.rank == 3;
}

#define DRAW_CELL 16

void heed__draw_size(const heed_explanation *e, int64_t *width, int64_t *height)
{
    const bool map = e->n_maps > 0 && e->maps[0].rows > 0 && e->maps[0].cols > 0;

    *height = draw_has_picture(e) ? e->picture.type.dims[1] : map ? e->maps[0].rows * DRAW_CELL : DRAW_CELL;
    *width = draw_has_picture(e) ? e->picture.type.dims[2] : map ? e->maps[0].cols * DRAW_CELL : DRAW_CELL;
}

#define DRAW_SIDE 224

int64_t heed__draw_scale(const heed_explanation *e)
{
    int64_t width, height;

    heed__draw_size(e, &width, &height);
    return i64_max(1, i64_ceil_div(DRAW_SIDE, i64_max(width, height)));
}

colour heed__picture_colour(const heed_explanation *e, int64_t x, int64_t y)
{
    const uint8_t *at = e->picture.data;
    const int64_t *dims = e->picture.type.dims;
    int64_t plane;

    if (!draw_has_picture(e))
        return (colour){ 128, 128, 128 };
    plane = dims[1] * dims[2];
    at += y * dims[2] + x;
    return dims[0] < 3 ? (colour){ at[0], at[0], at[0] } : (colour){ at[0], at[plane], at[2 * plane] };
}

static heed_status draw_new(pixels *out, heed_context *ctx, const heed_explanation *e, int64_t scale,
                            heed_error *err)
{
    int64_t width, height, count = 0;

    heed__draw_size(e, &width, &height);
    if (!heed__i64_mul(&width, width, scale) || !heed__i64_mul(&height, height, scale) ||
        !heed__i64_mul(&count, width, height) || !heed__i64_mul(&count, count, 3))
        return heed__fail(err, HEED_ERR_LIMIT, "a drawing of %lld x %lld pixels is too large",
                          (long long)width, (long long)height);
    *out = (pixels){ heed__alloc(ctx->heap, (size_t)count, 1), width, height };
    return out->data ? HEED_OK : heed__fail_memory(err, (uint64_t)count);
}

static void draw_put(pixels *p, int64_t x, int64_t y, colour c)
{
    const int64_t at = y * p->width + x, plane = p->width * p->height;

    p->data[at] = c.r;
    p->data[at + plane] = c.g;
    p->data[at + 2 * plane] = c.b;
}

heed_status heed__draw_picture(pixels *out, heed_context *ctx, const heed_explanation *e, int64_t scale,
                               heed_error *err)
{
    pixels p;

    TRY(draw_new(&p, ctx, e, scale, err));
    for (int64_t y = 0; y < p.height; y++)
        for (int64_t x = 0; x < p.width; x++)
            draw_put(&p, x, y, heed__picture_colour(e, x / scale, y / scale));
    *out = p;
    return HEED_OK;
}

/* The four weights of Catmull-Rom interpolation (cubic, a = -1/2) at f between the second and third
 * sample. */
static void draw_cubic(float w[4], float f)
{
    w[0] = f * (-0.5F + f * (1 - 0.5F * f));
    w[1] = 1 + f * f * (1.5F * f - 2.5F);
    w[2] = f * (0.5F + f * (2 - 1.5F * f));
    w[3] = f * f * (0.5F * f - 0.5F);
}

/* y of place i of n that look at m samples: centres match ((i + 1/2) m / n - 1/2), ends repeat. */
static float draw_sample(const float *x, int64_t step, int64_t m, int64_t i, int64_t n)
{
    const float at = ((float)i + 0.5F) * (float)m / (float)n - 0.5F, whole = floorf(at);
    float w[4], sum = 0;

    draw_cubic(w, at - whole);
    for (int64_t k = 0; k < 4; k++)
        sum += w[k] * x[i64_max(0, i64_min(m - 1, (int64_t)whole - 1 + k)) * step];
    return sum;
}

heed_status heed__draw_smooth(float *to, heed_context *ctx, const heed_saliency *s, int64_t width,
                              int64_t height, heed_error *err)
{
    float *wide, most = 0;

    for (int64_t i = 0; i < s->rows * s->cols; i++)
        most = fmaxf(most, s->map[i]);
    if (!(most > 0)) {
        memset(to, 0, (size_t)(width * height) * sizeof *to);
        return HEED_OK;
    }
    wide = heed__alloc(ctx->heap, (size_t)s->rows, (size_t)width * sizeof *wide);
    if (!wide)
        return heed__fail_memory(err, (uint64_t)s->rows * (uint64_t)width * sizeof *wide);
    for (int64_t y = 0; y < s->rows; y++)
        for (int64_t x = 0; x < width; x++)
            wide[y * width + x] = draw_sample(s->map + y * s->cols, 1, s->cols, x, width);
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            to[y * width + x] = fminf(fmaxf(draw_sample(wide + x, width, s->rows, y, height) / most, 0), 1);
    heed__release(ctx->heap, wide);
    return HEED_OK;
}

heed_status heed__draw_overlay(pixels *out, heed_context *ctx, const heed_explanation *e,
                               const heed_saliency *s, int64_t scale, heed_error *err)
{
    colour table[COLOUR_STEPS];
    pixels p = { 0 };
    float *map = NULL, most = 0;
    heed_status st;

    STEP(heed__draw_picture(&p, ctx, e, scale, err));
    map = heed__alloc(ctx->heap, (size_t)(p.width * p.height), sizeof *map);
    st = map ? HEED_OK : heed__fail_memory(err, (uint64_t)(p.width * p.height) * sizeof *map);
    if (st == HEED_OK)
        st = heed__draw_smooth(map, ctx, s, p.width, p.height, err);
    if (st != HEED_OK)
        goto done;
    heed__colours(table);
    for (int64_t i = 0; i < s->rows * s->cols; i++)
        most = fmaxf(most, s->map[i]);
    for (int64_t y = 0; most > 0 && y < p.height; y++)
        for (int64_t x = 0; x < p.width; x++) {
            const colour under = heed__picture_colour(e, x / scale, y / scale);
            const colour over = table[heed__colour_at((double)map[y * p.width + x])];

            draw_put(&p, x, y, heed__colour_mix(under, over));
        }
    *out = p;
    p.data = NULL;
done:
    heed__release(ctx->heap, map);
    heed__release(ctx->heap, p.data);
    return st;
}

/* Without libpng: one rectangle for each run of one colour in a row. */
static void draw_rectangles(text *t, const pixels *p)
{
    const int64_t plane = p->width * p->height;

    for (int64_t y = 0; y < p->height; y++)
        for (int64_t x = 0, end; x < p->width; x = end) {
            const uint8_t *c = p->data + y * p->width + x;

            for (end = x + 1; end < p->width && c[0] == c[end - x] && c[plane] == c[plane + end - x] &&
                              c[2 * plane] == c[2 * plane + end - x];
                 end++) {
            }
            heed__text_add(
                t, "<rect x=\"%lld\" y=\"%lld\" width=\"%lld\" height=\"1\" fill=\"#%02x%02x%02x\"/>\n",
                (long long)x, (long long)y, (long long)(end - x), c[0], c[plane], c[2 * plane]);
        }
}

heed_tensor heed__pixels_tensor(const pixels *p)
{
    return (heed_tensor){ HEED_TYPE(HEED_U8, 3, p->height, p->width), p->data };
}

heed_status heed__draw_image(text *t, heed_context *ctx, const pixels *p, heed_error *err)
{
    heed_error none = { 0 };
    void *png = NULL;
    size_t size = 0;
    heed_status st = heed_image_encode_png(&png, &size, ctx, heed__pixels_tensor(p), &none);

    if (st == HEED_ERR_MISSING) {
        heed__text_add(t, "<g shape-rendering=\"crispEdges\">\n");
        draw_rectangles(t, p);
        heed__text_add(t, "</g>\n");
        return HEED_OK;
    }
    if (st != HEED_OK)
        return heed__fail(err, st, "%s", none.text);
    heed__text_add(t, "<image width=\"%lld\" height=\"%lld\" href=\"data:image/png;base64,",
                   (long long)p->width, (long long)p->height);
    heed__page_base64(t, png, size);
    heed__text_add(t, "\"/>\n");
    heed_bytes_free(ctx, png);
    return HEED_OK;
}

/* ---- the public calls ---- */

/* A text that was filled becomes the result, or says why it could not. */
static heed_status draw_finish(text *t, heed_status st, heed_error *err)
{
    if (st != HEED_OK)
        return st;
    if (t->failed == HEED_ERR_LIMIT)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "the drawing is larger than 1 GiB: draw fewer methods or a smaller picture");
    return t->failed ? heed__fail_memory(err, 0) : HEED_OK;
}

static heed_status draw_take(char **out, text *t, heed_status st, heed_error *err)
{
    char *taken = NULL;

    st = draw_finish(t, st, err);
    if (st == HEED_OK && !(taken = heed__text_take(t)))
        st = heed__fail_memory(err, 1);
    if (st == HEED_OK)
        *out = taken;
    heed__text_release(t);
    return st;
}

heed_status heed_explanation_json(char **out, heed_context *ctx, const heed_explanation *e, heed_error *err)
{
    text t;

    heed__text_init(&t, ctx->heap, 0);
    heed__draw_json(&t, e);
    return draw_take(out, &t, HEED_OK, err);
}

heed_status heed_explanation_text(char **out, heed_context *ctx, const heed_explanation *e,
                                  heed_terminal terminal, int width, heed_error *err)
{
    text t;
    heed_status st;

    heed__text_init(&t, ctx->heap, 0);
    st = heed__draw_text(&t, ctx, e, terminal, width, err);
    return draw_take(out, &t, st, err);
}

static heed_status draw_json_file(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err)
{
    (void)ctx;
    (void)err;
    heed__draw_json(t, e);
    heed__text_put(t, "\n", 1);
    return HEED_OK;
}

/* A format makes a text that becomes the file, or writes the file itself. */
typedef struct draw_format {
    heed_status (*fill)(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err);
    heed_status (*write)(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err);
} draw_format;

static const draw_format draw_formats[HEED_EXPLAIN_FORMATS] = {
    [HEED_EXPLAIN_PNG] = { .write = heed__draw_png },  [HEED_EXPLAIN_SVG] = { .fill = heed__draw_svg },
    [HEED_EXPLAIN_HTML] = { .fill = heed__draw_html }, [HEED_EXPLAIN_NPZ] = { .write = heed__draw_npz },
    [HEED_EXPLAIN_JSON] = { .fill = draw_json_file },
};

heed_status heed_explanation_write(heed_context *ctx, const heed_explanation *e, heed_explain_format format,
                                   const char *path, heed_error *err)
{
    const draw_format *f;
    heed_status st;
    text t;

    if ((int)format < 0 || format >= HEED_EXPLAIN_FORMATS)
        return heed__fail(err, HEED_ERR_USAGE, "%d is no format of an explanation", (int)format);
    f = &draw_formats[format];
    if (f->write)
        return f->write(ctx, e, path, err);
    heed__text_init(&t, ctx->heap, 0);
    st = draw_finish(&t, f->fill(&t, ctx, e, err), err);
    if (st == HEED_OK)
        st = heed__file_replace(ctx, path, t.data, t.size, err);
    heed__text_release(&t);
    return st;
}

int64_t heed__draw_next_class(const heed_explanation *e, int64_t after)
{
    int64_t best = -1;

    for (int64_t i = 0; i < e->classes; i++) {
        const bool later = after < 0 || e->probability[i] < e->probability[after] ||
                           (e->probability[i] <= e->probability[after] && i > after);

        if (later && (best < 0 || e->probability[i] > e->probability[best]))
            best = i;
    }
    return best;
}
