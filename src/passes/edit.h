/* Edits between files: their text, and copies of them. */
#ifndef PASSES_EDIT_H
#define PASSES_EDIT_H

#include "base/arena.h"
#include "base/text.h"
#include "graph/graph.h"
#include <heed/edit.h>

/* Reads PATH:SELECTION:KIND; SELECTION may be left out. What is made lies in the arena. Of a TAKE `from` is the file that is
 * named, and the tensor is left for the caller to read. HEED_ERR_USAGE with the text and what is wrong in it. */
heed_status heed__edit_parse(heed_edit *out, arena *a, const char *words, heed_error *err);

/* The same back. */
void heed__edit_print(text *t, const heed_edit *e);

/* A copy that borrows nothing. */
heed_status heed__edit_copy(heed_edit *out, arena *a, const heed_edit *e, heed_error *err);

/* The output of a node that is the weights of an attention; -1: it is none. */
int heed__edit_slot(const node *n);

/* Is the node the first of two attentions whose difference is taken? Then *second is the other. */
bool heed__edit_partner(const heed_graph *g, uint32_t first, uint32_t *second);

#endif
