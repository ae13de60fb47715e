/* What the drawings of an explanation share: pictures with maps over them, and the words that judge a map.
 * draw_png.c, draw_svg.c, draw_html.c, draw_text.c and draw_json.c each make one form. */
#ifndef EXPLAIN_DRAW_H
#define EXPLAIN_DRAW_H

#include "base/context.h"
#include "base/text.h"
#include "explain/colour.h"
#include <heed/explain.h>

/* ---- words ---- */

#define DRAW_NOTE "Attention shows mixing weights, not causes."

/* English; pages find the Chinese under it. */
typedef struct method_words {
    const char *title, *about;
} method_words;
const method_words *heed__method_words(heed_explain_method m);

typedef struct verdict_words {
    const char *name;     /* "faithful": of JSON and of the page's style */
    const char *title;    /* "Better than random" */
    const char *sentence; /* {0} area, {1} of random orders, {2} deviation, {3} orders it beats, {4} orders */
} verdict_words;
const verdict_words *heed__verdict_words(heed_verdict v);

#define VERDICT_ARGS 5
typedef struct verdict_args {
    char text[VERDICT_ARGS][24];
    const char *at[VERDICT_ARGS];
} verdict_args;
void heed__verdict_args(verdict_args *out, const heed_faithfulness *f);

/* The sentence with its places filled. */
void heed__verdict_put(text *t, const heed_faithfulness *f);

/* Did any map that is made of attention do better than random? One sentence on all of them. */
const char *heed__verdict_on_all(const heed_explanation *e);

const char *heed__class_name(const heed_explanation *e, int64_t i); /* "" outside */

/* Heads by their effect, of an explanation that has them. Drawings show the first few; JSON has all. */
#define ABLATION_TITLE "What the model loses without each head"
#define ABLATION_ABOUT                                                                                       \
    "One head's weights are zeroed at a time. The loss, cross-entropy of {0}, is {1} with all heads and {2} " \
    "with none; the effect is what it gains. Heads that do the same work have little effect each."
#define ABLATION_MORE "{0} more heads have less effect."
#define ABLATION_SHOWN 20
#define ABLATION_ARGS 3
typedef struct ablation_args {
    char text[2][24];
    const char *at[ABLATION_ARGS];
} ablation_args;
void heed__ablation_args(ablation_args *out, const heed_explanation *e);
int64_t heed__ablation_shown(const heed_ablation *a);
/* Share of the largest effect, 0 to 1: the length of a bar. */
double heed__ablation_share(const heed_ablation *a, int64_t i);

/* ---- pictures ---- */

/* u8 [3,height,width], owned; heed__pixels_release. */
typedef struct pixels {
    uint8_t *data;
    int64_t width, height;
} pixels;
void heed__pixels_release(heed_context *ctx, pixels *p);

/* Size of what is drawn on: the picture, or, without one, a grey field with 16 x 16 for each cell of the
 * first map. */
void heed__draw_size(const heed_explanation *e, int64_t *width, int64_t *height);

/* The whole factor that makes the longer side at least 224. */
int64_t heed__draw_scale(const heed_explanation *e);

/* The picture, each pixel scale x scale large. */
heed_status heed__draw_picture(pixels *out, heed_context *ctx, const heed_explanation *e, int64_t scale,
                               heed_error *err);

/* The same under half of the map's colours: 0 to its largest value, bicubic between the cells' centres. A
 * map that is all zero leaves the picture as it is. */
heed_status heed__draw_overlay(pixels *out, heed_context *ctx, const heed_explanation *e,
                               const heed_saliency *s, int64_t scale, heed_error *err);

/* The map as values of 0..1 at each of width x height places; [height, width] in `to`. */
heed_status heed__draw_smooth(float *to, heed_context *ctx, const heed_saliency *s, int64_t width,
                              int64_t height, heed_error *err);

colour heed__picture_colour(const heed_explanation *e, int64_t x, int64_t y);

/* ---- forms ---- */

heed_status heed__draw_png(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err);
heed_status heed__draw_npz(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err);
heed_status heed__draw_svg(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err);
heed_status heed__draw_html(text *t, heed_context *ctx, const heed_explanation *e, heed_error *err);
heed_status heed__draw_text(text *t, heed_context *ctx, const heed_explanation *e, heed_terminal terminal,
                            int width, heed_error *err);
void heed__draw_json(text *t, const heed_explanation *e);

/* Inside SVG: the pixels as an <image> with a PNG in it, or, without libpng, as rectangles. */
heed_status heed__draw_image(text *t, heed_context *ctx, const pixels *p, heed_error *err);
heed_tensor heed__pixels_tensor(const pixels *p); /* borrows */

/* The deletion test of one map as a chart: with colours of its own when it stands alone. */
void heed__draw_deletion(text *t, const heed_saliency *s, bool alone);

/* The class with the next smaller probability than class `after` (-1: the largest); equal ones by number; -1 at the end. */
int64_t heed__draw_next_class(const heed_explanation *e, int64_t after);

#endif
