/* The frame of a page: head, style, script, switches for language and light or dark. A page is one file
 * that loads nothing: its policy lets only its own scripts run, each known by its digest, so that a name
 * that got through unescaped would still do nothing.
 *
 *   heed__page_begin(t, &p);                     up to <main>
 *   heed__page_say(t, "h2", "Loss", NULL, 0);    <h2 data-i18n>Loss</h2>; Chinese: the script's table
 *   heed__page_end(t, &p);
 *
 * assets/heed.css has the styles (tables, cards, bars, notes), assets/heed.js the words that pages share. */
#ifndef EXPLAIN_PAGE_H
#define EXPLAIN_PAGE_H

#include "base/asset.h"
#include "base/text.h"

typedef struct page {
    const char *title;       /* a sentence of ours with {0} for what differs; a key of the script's table */
    const char *const *args; /* for its places; names from outside are fine */
    int n_args;
    const heed_asset *style, *script; /* of this page alone, after heed.css and heed.js; NULL: none */
} page;

void heed__page_begin(text *t, const page *p);
void heed__page_end(text *t, const page *p);

/* <tag data-i18n>words</tag>: a sentence of ours in the reader's language; {0} to {9} are filled with
 * args, which are escaped. tag may carry attributes: "p class=\"note\"". */
void heed__page_say(text *t, const char *tag, const char *words, const char *const *args, int n_args);

/* Text from outside, for the content of an element or an attribute in double quotes, in HTML and SVG.
 * Bytes that no page can carry (control characters, bad UTF-8) become U+FFFD. */
void heed__page_escape(text *t, const char *words);

/* What was made beside t failed: so did t. Before a text is put, cleared or released. */
void heed__page_follow(text *t, const text *part);

/* The sentence with its places filled, not escaped: for what is no page. */
void heed__page_fill(text *t, const char *words, const char *const *args, int n_args);

/* <script type="application/json" id=...>: JSON that the page's script reads; it cannot end the element. */
void heed__page_data(text *t, const char *id, const char *json, size_t n);

void heed__page_base64(text *t, const void *bytes, size_t n);

#endif
