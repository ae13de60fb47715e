/* Explanations written by hand: numbers like those of small models, without a model. Freed by
 * explained_free. */
#ifndef TESTS_EXPLAINED_H
#define TESTS_EXPLAINED_H

#include <heed/explain.h>

typedef enum explained_kind {
    EXPLAINED_VIT = 0, /* a class token and 7 x 7 cells, two attentions of 4 heads; every verdict */
    EXPLAINED_POOL,    /* one query over 7 x 7 cells; no map of attention is better than random */
    EXPLAINED_HOSTILE, /* names that try to be markup, script, terminal codes; a coloured picture */
    EXPLAINED_PLAIN,   /* no picture, no grid, no attention but one map that is all zero */
    EXPLAINED_LARGE    /* more weights than a page keeps */
} explained_kind;

heed_explanation *explained_new(explained_kind kind);
void explained_free(heed_explanation *e);

#endif
