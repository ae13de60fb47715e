/* A graph as SVG, for heed_graph_print. */
#ifndef GRAPH_DRAW_H
#define GRAPH_DRAW_H

#include "base/text.h"
#include "graph/graph.h"

/* Appends the drawing. HEED_ERR_MEMORY, HEED_ERR_LIMIT for a graph too large to look at. */
heed_status heed__graph_draw(text *t, const heed_graph *g, heed_error *err);

#endif
