/* The frame of a page: see page.h. */
#include "explain/page.h"
#include "base/digest.h"

#include <string.h>

void heed__page_base64(text *t, const void *bytes, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    char out[256];
    size_t used = 0;

    for (size_t i = 0; i < n; i += 3) {
        const uint32_t left = n - i < 3 ? (uint32_t)(n - i) : 3;
        const uint32_t group = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                               (left > 2 ? (uint32_t)from[i + 2] : 0);

        out[used++] = letters[group >> 18];
        out[used++] = letters[group >> 12 & 63];
        out[used++] = left > 1 ? letters[group >> 6 & 63] : '=';
        out[used++] = left > 2 ? letters[group & 63] : '=';
        if (used == sizeof out) {
            heed__text_put(t, out, used);
            used = 0;
        }
    }
    heed__text_put(t, out, used);
}

/* Runs of plain bytes are put whole: pages are mostly such runs. */
void heed__page_escape(text *t, const char *words)
{
    const size_t n = strlen(words);
    size_t plain = 0, at = 0;

    while (at < n && !t->failed) {
        const unsigned char c = (unsigned char)words[at];
        const size_t length = heed__utf8_length(words + at, n - at);
        const bool control = (length == 1 && (c < 0x20 || c == 0x7f) && c != '\n' && c != '\t') ||
                             (length == 2 && c == 0xc2 && (unsigned char)words[at + 1] < 0xa0);

        if (length && !control && !strchr("<>&\"'", c)) {
            at += length;
            continue;
        }
        heed__text_put(t, words + plain, at - plain);
        if (!length || control)
            heed__text_put(t, "\xef\xbf\xbd", 3); /* U+FFFD */
        else
            heed__text_add(t, "&#%d;", c);
        at += length ? length : 1;
        plain = at;
    }
    heed__text_put(t, words + plain, at - plain);
}

void heed__page_fill(text *t, const char *words, const char *const *args, int n_args)
{
    const char *at = words;

    for (const char *place = at; (place = strchr(place, '{')) != NULL; place++) {
        const int i = place[1] - '0';

        if (i < 0 || i >= n_args || place[2] != '}')
            continue;
        heed__text_put(t, at, (size_t)(place - at));
        heed__text_put(t, args[i], strlen(args[i]));
        at = place + 3;
    }
    heed__text_put(t, at, strlen(at));
}

void heed__page_follow(text *t, const text *part)
{
    if (part->failed && !t->failed)
        t->failed = part->failed;
}

/* What stands in a text of its own before it is escaped. */
static void page_put_markup(text *t, const text *words)
{
    heed__page_follow(t, words);
    heed__page_escape(t, words->data);
}

/* The attributes that let the script say the same again in another language. */
static void page_key(text *t, const char *words, const char *const *args, int n_args)
{
    text json;

    if (n_args == 0) {
        heed__text_add(t, " data-i18n");
        return;
    }
    heed__text_add(t, " data-i18n=\"");
    heed__page_escape(t, words);
    heed__text_init(&json, t->heap, 0);
    for (int i = 0; i < n_args; i++) {
        heed__text_put(&json, i ? "," : "[", 1);
        heed__text_json(&json, args[i], strlen(args[i]));
    }
    heed__text_add(t, "\" data-args=\"");
    page_put_markup(t, &json);
    heed__text_add(t, "]\"");
    heed__text_release(&json);
}

void heed__page_say(text *t, const char *tag, const char *words, const char *const *args, int n_args)
{
    text filled;

    heed__text_init(&filled, t->heap, 0);
    heed__page_fill(&filled, words, args, n_args);
    heed__text_add(t, "<%s", tag);
    page_key(t, words, args, n_args);
    heed__text_put(t, ">", 1);
    page_put_markup(t, &filled);
    heed__text_release(&filled);
    heed__text_add(t, "</%.*s>", (int)strcspn(tag, " "), tag);
}

void heed__page_data(text *t, const char *id, const char *json, size_t n)
{
    size_t plain = 0;

    heed__text_add(t, "<script type=\"application/json\" id=\"%s\">", id);
    for (size_t i = 0; i < n; i++) {
        if (json[i] !=
            '<') /* within a string, the only place where JSON has it: "</script>" and "<!--" end here */
            continue;
        heed__text_put(t, json + plain, i - plain);
        heed__text_add(t, "\\u003c");
        plain = i + 1;
    }
    heed__text_put(t, json + plain, n - plain);
    heed__text_add(t, "</script>\n");
}

/* 'sha256-...' of a script, as Content Security Policy names it. */
static void page_digest(text *t, const heed_asset *script)
{
    sha256 s;
    uint8_t sum[32];

    if (!script)
        return;
    heed__sha256_init(&s);
    heed__sha256_add(&s, script->text, script->size);
    heed__sha256_end(&s, sum);
    heed__text_add(t, " 'sha256-");
    heed__page_base64(t, sum, sizeof sum);
    heed__text_put(t, "'", 1);
}

void heed__page_begin(text *t, const page *p)
{
    heed__text_add(
        t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
           "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src");
    page_digest(t, &heed__asset_heed_js);
    page_digest(t, p->script);
    heed__text_add(t, "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    heed__page_say(t, "title", p->title, p->args, p->n_args);
    heed__text_add(t, "\n<style>\n");
    heed__text_put(t, heed__asset_heed_css.text, heed__asset_heed_css.size);
    if (p->style)
        heed__text_put(t, p->style->text, p->style->size);
    heed__text_add(
        t,
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\" data-i18n>Skip to the content</a>\n"
        "<header>\n");
    heed__page_say(t, "h1", p->title, p->args, p->n_args);
    heed__text_add(t, "\n<div class=\"switches scripted\">"
                      "<button id=\"theme\" type=\"button\">Dark</button> "
                      "<button id=\"language\" type=\"button\">\xe4\xb8\xad\xe6\x96\x87</button></div>\n"
                      "</header>\n<main id=\"content\" tabindex=\"-1\">\n");
}

void heed__page_end(text *t, const page *p)
{
    heed__text_add(t, "</main>\n<footer>\n");
    heed__page_say(t, "p", "Written by heed {0}. This page is one file: it loads nothing and sends nothing.",
                   (const char *const[]){ HEED_VERSION }, 1);
    heed__text_add(t, "\n</footer>\n<script>");
    heed__text_put(t, heed__asset_heed_js.text, heed__asset_heed_js.size);
    if (p->script) {
        heed__text_add(t, "</script>\n<script>");
        heed__text_put(t, p->script->text, p->script->size);
    }
    heed__text_add(t, "</script>\n</body>\n</html>\n");
}
