/* An explanation for a terminal. A character is about twice as high as wide, so it stands for two pixels
 * above each other: with colours the upper half block, its colour over that of the ground; without, a
 * letter that is the denser the brighter the place.
 *
 *   what, prediction             in words
 *   picture and maps             side by side as far as `width` goes, names above
 *   the likeliest classes        as bars
 *   the deletion test of each map, and what it means, in words
 *   heads by their effect        as bars */
#include "base/error.h"
#include "base/os/os.h"
#include "base/sizes.h"
#include "explain/draw.h"
#include "explain/page.h"

#include <math.h>
#include <string.h>

#define TEXT_TILE 32   /* columns of a picture at most */
#define TEXT_GAP 2     /* columns between pictures */
#define TEXT_NARROW 20 /* columns that are always taken */
#define TEXT_WIDEST 500
#define TEXT_CLASSES 5

/* A picture of brightness or colour for each half character. */
typedef struct tile {
    const char *name;
    colour *at; /* [height, width]; height is even */
} tile;

typedef struct screen {
    text *t;
    const heed_explanation *e;
    bool colours;
    int width;                       /* columns in all */
    int64_t tile_width, tile_height; /* of a picture: columns, halves of lines */
} screen;

/* ---- words of any script ---- */

/* Columns of the character at `at`: East Asian wide ones take two, marks that join the letter before them
 * none. */
static int text_columns_of(const char *at, size_t length)
{
    const unsigned char *b = (const unsigned char *)at;
    uint32_t c = b[0];

    if (length == 2)
        c = (b[0] & 0x1fU) << 6 | (b[1] & 0x3fU);
    else if (length == 3)
        c = (b[0] & 0x0fU) << 12 | (b[1] & 0x3fU) << 6 | (b[2] & 0x3fU);
    else if (length == 4)
        c = (b[0] & 7U) << 18 | (b[1] & 0x3fU) << 12 | (b[2] & 0x3fU) << 6 | (b[3] & 0x3fU);
    if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c < 0x2010) || (c >= 0xfe00 && c < 0xfe10))
        return 0;
    return (c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) || (c >= 0xac00 && c < 0xd7a4) ||
                   (c >= 0xf900 && c < 0xfb00) || (c >= 0xfe30 && c < 0xfe70) ||
                   (c >= 0xff00 && c < 0xff61) || (c >= 0x1f300 && c < 0x1fb00) ||
                   (c >= 0x20000 && c < 0x3fffe)
               ? 2
               : 1;
}

/* As much of a name as `room` columns hold; then spaces up to them. What could move the cursor becomes
 * "?". */
static void text_name(text *t, const char *name, int room)
{
    size_t left = strlen(name);

    while (left && room > 0) {
        const size_t length = heed__utf8_length(name, left);
        const bool control = !length || (length == 1 && ((unsigned char)*name < 0x20 || *name == 0x7f)) ||
                             (length == 2 && (unsigned char)name[0] == 0xc2 && (unsigned char)name[1] < 0xa0);
        const int columns = control ? 1 : text_columns_of(name, length);

        if (columns > room)
            break;
        heed__text_put(t, control ? "?" : name, control ? 1 : length);
        room -= columns;
        name += length ? length : 1;
        left -= length ? length : 1;
    }
    heed__text_add(t, "%*s", room, "");
}

static int text_columns(const char *name)
{
    size_t left = strlen(name);
    int columns = 0;

    while (left) {
        const size_t length = heed__utf8_length(name, left);

        columns += length ? text_columns_of(name, length) : 1;
        name += length ? length : 1;
        left -= length ? length : 1;
    }
    return columns;
}

/* Signs of ours that ASCII has not. */
static void text_plain(const screen *s, text *words)
{
    char *at;

    while (!s->colours && !words->failed && (at = strstr(words->data, "\xc2\xb1")) != NULL)
        memcpy(at, "+-", 2); /* as many bytes as the plus-minus sign */
}

/* Words broken into lines of the screen, each moved in by `indent`; a word that is longer than a line is
 * cut. */
static void text_prose(const screen *s, int indent, const char *words)
{
    int column = 0;

    while (*words) {
        const size_t size = strcspn(words, " ");
        char word[256];
        int columns;

        memcpy(word, words, size < sizeof word ? size : sizeof word - 1);
        word[size < sizeof word ? size : sizeof word - 1] = 0;
        columns = text_columns(word);
        columns = columns > s->width - indent ? s->width - indent : columns;
        if (column && column + 1 + columns > s->width) {
            heed__text_put(s->t, "\n", 1);
            column = 0;
        }
        if (column)
            heed__text_put(s->t, " ", 1);
        else
            heed__text_add(s->t, "%*s", indent, "");
        text_name(s->t, word, columns);
        column += columns + (column ? 1 : indent);
        words += size;
        words += strspn(words, " ");
    }
    heed__text_put(s->t, "\n", 1);
}

/* The end of a line, without the spaces before it. */
static void text_end(const screen *s)
{
    text *t = s->t;

    while (!t->failed && t->size && t->data[t->size - 1] == ' ')
        t->data[--t->size] = 0;
    heed__text_put(t, "\n", 1);
}

static void text_style(const screen *s, const char *code)
{
    if (s->colours)
        heed__text_add(s->t, "\033[%sm", code);
}

/* ---- pictures ---- */

/* Mean of the picture's pixels under place x, y of a tile. */
static colour text_mean(const screen *s, int64_t x, int64_t y)
{
    int64_t width, height, sum[3] = { 0 }, n = 0;

    heed__draw_size(s->e, &width, &height);
    for (int64_t j = y * height / s->tile_height;
         j < i64_max((y + 1) * height / s->tile_height, y * height / s->tile_height + 1); j++)
        for (int64_t i = x * width / s->tile_width;
             i < i64_max((x + 1) * width / s->tile_width, x * width / s->tile_width + 1); i++) {
            const colour c = heed__picture_colour(s->e, i, j);

            sum[0] += c.r;
            sum[1] += c.g;
            sum[2] += c.b;
            n++;
        }
    return (colour){ (uint8_t)(sum[0] / n), (uint8_t)(sum[1] / n), (uint8_t)(sum[2] / n) };
}

static void text_line_of(const screen *s, const tile *p, int64_t y)
{
    static const char ramp[] = " .:-=+*#%@";
    int upper = -1, lower = -1;

    for (int64_t x = 0; x < s->tile_width; x++) {
        const colour a = p->at[y * s->tile_width + x], b = p->at[(y + 1) * s->tile_width + x];
        const int up = heed__colour_terminal(a), low = heed__colour_terminal(b);

        if (!s->colours) {
            const int light = (54 * (a.r + b.r) + 183 * (a.g + b.g) + 19 * (a.b + b.b)) / 512;

            heed__text_put(s->t, &ramp[light * 9 / 254 > 9 ? 9 : light * 9 / 254], 1);
            continue;
        }
        if (up != upper)
            heed__text_add(s->t, "\033[38;5;%dm", up);
        if (low != lower)
            heed__text_add(s->t, "\033[48;5;%dm", low);
        heed__text_put(s->t, "\xe2\x96\x80", 3); /* upper half block */
        upper = up;
        lower = low;
    }
    text_style(s, "0");
}

/* Tiles [from, to) beside each other under their names. */
static void text_row_of_tiles(const screen *s, const tile *tiles, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        if (i > from)
            heed__text_add(s->t, "%*s", TEXT_GAP, "");
        text_style(s, "1");
        text_name(s->t, tiles[i].name, (int)s->tile_width);
        text_style(s, "0");
    }
    text_end(s);
    for (int64_t y = 0; y < s->tile_height; y += 2) {
        for (int64_t i = from; i < to; i++) {
            if (i > from)
                heed__text_add(s->t, "%*s", TEXT_GAP, "");
            text_line_of(s, &tiles[i], y);
        }
        text_end(s);
    }
    heed__text_put(s->t, "\n", 1);
}

/* With colours a map lies over the picture, three parts to one: 256 colours have few dark ones; a letter says
 * one thing only, so there it is the map alone. */
static heed_status text_map_tile(const screen *s, heed_context *ctx, colour *to, const colour *picture,
                                 const heed_saliency *map, heed_error *err)
{
    const int64_t n = s->tile_width * s->tile_height;
    colour table[COLOUR_STEPS];
    float *value = heed__alloc(ctx->heap, (size_t)n, sizeof *value);
    heed_status st = value ? heed__draw_smooth(value, ctx, map, s->tile_width, s->tile_height, err)
                           : heed__fail_memory(err, (uint64_t)n * sizeof *value);

    heed__colours(table);
    for (int64_t i = 0; st == HEED_OK && i < n; i++) {
        const int at = heed__colour_at((double)value[i]);
        const uint8_t grey = (uint8_t)at;

        to[i] = s->colours ? heed__colour_mix(heed__colour_mix(picture[i], table[at]), table[at])
                           : (colour){ grey, grey, grey };
    }
    heed__release(ctx->heap, value);
    return st;
}

static heed_status text_tiles(const screen *s, heed_context *ctx, heed_error *err)
{
    const int64_t n = s->tile_width * s->tile_height, tiles = 1 + s->e->n_maps;
    const int64_t in_row = i64_max(1, (s->width + TEXT_GAP) / (s->tile_width + TEXT_GAP));
    tile *all = heed__alloc(ctx->heap, (size_t)tiles, sizeof *all);
    colour *places = heed__alloc(ctx->heap, (size_t)(tiles * n), sizeof *places);
    heed_status st = all && places ? HEED_OK : heed__fail_memory(err, (uint64_t)(tiles * n) * sizeof *places);

    if (st != HEED_OK)
        goto done;
    all[0] = (tile){ "picture", places };
    for (int64_t i = 0; i < n; i++)
        places[i] = text_mean(s, i % s->tile_width, i / s->tile_width);
    for (int64_t i = 1; i < tiles; i++) {
        all[i] = (tile){ heed_explain_method_name(s->e->maps[i - 1].method), places + i * n };
        STEP(text_map_tile(s, ctx, all[i].at, places, &s->e->maps[i - 1], err));
    }
    for (int64_t i = 0; i < tiles; i += in_row)
        text_row_of_tiles(s, all, i, i64_min(tiles, i + in_row));
done:
    heed__release(ctx->heap, all);
    heed__release(ctx->heap, places);
    return st;
}

/* ---- classes and verdicts ---- */

static void text_bar(const screen *s, int64_t i, int name)
{
    const heed_explanation *e = s->e;
    const int room = s->width - name - 1 - 8 - 2;
    const double p = fmin(fmax((double)e->probability[i], 0), 1);
    const int full = room > 0 ? (int)floor(p * (room < 40 ? room : 40) + 0.5) : 0;

    heed__text_put(s->t, i == e->target ? "> " : "  ", 2);
    if (i == e->target)
        text_style(s, "1");
    text_name(s->t, heed__class_name(e, i), name);
    if (i == e->target)
        text_style(s, "0");
    heed__text_add(s->t, " %.4f ", p);
    text_style(s, i == e->target ? "38;5;75" : "38;5;245");
    for (int k = 0; k < full; k++)
        heed__text_put(s->t, s->colours ? "\xe2\x96\x88" : "#", s->colours ? 3 : 1);
    text_style(s, "0");
    if (i == e->truth)
        heed__text_put(s->t, full + 2 <= room ? " *" : "", full + 2 <= room ? 2 : 0);
    text_end(s);
}

/* The likeliest classes, then the explained and the true one when they are not among them. */
static void text_classes(const screen *s)
{
    const heed_explanation *e = s->e;
    int64_t shown[TEXT_CLASSES + 2], at = -1;
    int n = 0, name = 0;

    while (n < TEXT_CLASSES && (at = heed__draw_next_class(e, at)) >= 0)
        shown[n++] = at;
    for (int k = 0; k < 2; k++) {
        const int64_t extra = k ? e->truth : e->target;
        bool seen = extra < 0 || extra >= e->classes;

        for (int i = 0; i < n && !seen; i++)
            seen = shown[i] == extra;
        if (!seen)
            shown[n++] = extra;
    }
    for (int i = 0; i < n; i++)
        name = (int)i64_max(name, text_columns(heed__class_name(e, shown[i])));
    name = (int)i64_min(name, s->width / 2 - 4);
    for (int i = 0; i < n; i++)
        text_bar(s, shown[i], name);
    text_style(s, "2");
    text_prose(s, 0,
               e->truth >= 0 ? "> the class that is explained; * the true class"
                             : "> the class that is explained");
    text_style(s, "0");
}

static void text_verdicts(const screen *s)
{
    static const char *const shades[] = {
        [HEED_FAITHFUL] = "32", [HEED_NO_BETTER] = "33", [HEED_WORSE] = "31"
    };

    for (int i = 0; i < s->e->n_maps; i++) {
        const heed_saliency *m = &s->e->maps[i];
        text words;

        heed__text_init(&words, s->t->heap, 0);
        heed__text_put(s->t, "\n", 1);
        heed__text_add(&words, "%s (%s): ", heed_explain_method_name(m->method), m->about);
        heed__text_add(&words, "%s.", heed__verdict_words(m->faithful.verdict)->title);
        text_style(s, shades[m->faithful.verdict <= HEED_WORSE ? m->faithful.verdict : HEED_NO_BETTER]);
        text_prose(s, 0, words.data);
        text_style(s, "0");
        heed__page_follow(s->t, &words);
        heed__text_clear(&words);
        heed__verdict_put(&words, &m->faithful);
        text_plain(s, &words);
        text_prose(s, 2, words.data);
        heed__page_follow(s->t, &words);
        heed__text_release(&words);
    }
}

static void text_ablation(const screen *s)
{
    const heed_ablation *a = s->e->ablation;
    const bool narrow = s->width < 40;
    char number[24], more[24];
    ablation_args args;
    int name = 0, room;
    text words;

    if (!a)
        return;
    heed__text_init(&words, s->t->heap, 0);
    heed__text_put(s->t, "\n", 1);
    text_style(s, "1");
    text_prose(s, 0, ABLATION_TITLE);
    text_style(s, "0");
    heed__ablation_args(&args, s->e);
    heed__page_fill(&words, ABLATION_ABOUT, args.at, ABLATION_ARGS);
    text_prose(s, 0, words.data);
    heed__page_follow(s->t, &words);
    for (int64_t i = 0; i < heed__ablation_shown(a); i++)
        name = (int)i64_max(name, text_columns(a->heads[i].path));
    name = (int)i64_min(name, narrow ? s->width - 16 : s->width / 2 - 8);
    room = (int)i64_min(40, s->width - name - 22);
    for (int64_t i = 0; i < heed__ablation_shown(a); i++) {
        const int full = room > 0 ? (int)floor(heed__ablation_share(a, i) * room + 0.5) : 0;

        heed__text_put(s->t, "  ", 2);
        text_name(s->t, a->heads[i].path, name);
        heed__format(number, sizeof number, "%lld", (long long)a->heads[i].head);
        heed__text_add(s->t, narrow ? " %-3s %+8.4f " : " head %-3s %+8.4f ", number, a->heads[i].effect);
        text_style(s, a->heads[i].effect > 0 ? "38;5;75" : "38;5;245");
        for (int k = 0; k < full; k++)
            heed__text_put(s->t, s->colours ? "\xe2\x96\x88" : "#", s->colours ? 3 : 1);
        text_style(s, "0");
        text_end(s);
    }
    heed__text_clear(&words);
    if (a->n > heed__ablation_shown(a)) {
        heed__format(more, sizeof more, "%lld", (long long)(a->n - heed__ablation_shown(a)));
        heed__page_fill(&words, ABLATION_MORE, (const char *const[]){ more }, 1);
        text_prose(s, 2, words.data);
    }
    heed__page_follow(s->t, &words);
    heed__text_release(&words);
}

static void text_head(const screen *s)
{
    const heed_explanation *e = s->e;
    text words;

    heed__text_init(&words, s->t->heap, 0);
    heed__text_add(&words, "%s: %s %.4f", e->input, heed__class_name(e, e->predicted),
                   e->predicted >= 0 && e->predicted < e->classes ? (double)e->probability[e->predicted] : 0);
    if (e->truth >= 0 && e->truth == e->predicted)
        heed__text_add(&words, ", which is right");
    else if (e->truth >= 0)
        heed__text_add(&words, ", which is wrong: it is %s", heed__class_name(e, e->truth));
    text_style(s, "1");
    text_prose(s, 0, words.data);
    text_style(s, "0");
    heed__page_follow(s->t, &words);
    heed__text_clear(&words);
    heed__text_add(&words, "model %s%s%s", e->model, e->edit[0] ? "; edited: " : "", e->edit);
    if (e->target != e->predicted)
        heed__text_add(&words, "; explained is %s", heed__class_name(e, e->target));
    text_prose(s, 0, words.data);
    heed__text_put(s->t, "\n", 1);
    heed__page_follow(s->t, &words);
    heed__text_release(&words);
}

heed_status heed__draw_text(text *t, heed_context *ctx, const heed_explanation *e, heed_terminal terminal,
                            int width, heed_error *err)
{
    screen s = { .t = t, .e = e, .colours = terminal == HEED_TERMINAL_256 };
    int64_t w, h;

    s.width = width < TEXT_NARROW ? TEXT_NARROW : width > TEXT_WIDEST ? TEXT_WIDEST : width;
    heed__draw_size(e, &w, &h);
    s.tile_width = i64_min(i64_min(w, TEXT_TILE), s.width);
    s.tile_height = (i64_max(1, i64_min(h, 2 * w) * s.tile_width / w) + 1) / 2 * 2; /* a tower is pressed */
    text_head(&s);
    TRY(text_tiles(&s, ctx, err));
    text_classes(&s);
    text_verdicts(&s);
    text_ablation(&s);
    heed__text_put(t, "\n", 1);
    if (e->n_maps > 0)
        text_prose(&s, 0, heed__verdict_on_all(e));
    text_prose(&s, 0, DRAW_NOTE);
    return HEED_OK;
}
