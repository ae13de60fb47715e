/* Passes: each takes a graph const and returns a new one. */
#ifndef PASSES_PASSES_H
#define PASSES_PASSES_H

#include "graph/op.h"

/* True when some kernel serves the node as it stands. */
typedef bool serves_fn(const void *user, const heed_graph *g, const node *n);

/* Replaces every composite that is not served by its decomposition, until none is left. Dead nodes are left out. */
heed_status heed__pass_open(heed_graph **out, const heed_graph *g, serves_fn *serves, const void *user, heed_error *err);

/* Merges equal nodes, drops views that change nothing and dead nodes. */
heed_status heed__pass_simplify(heed_graph **out, const heed_graph *g, heed_error *err);

/* live[i]: node i is needed by an output, an assign, a tap or an effect. n_nodes bools. */
void heed__live_nodes(const heed_graph *g, bool *live);

/* A new builder holding a copy of `g` up to nothing: begin, copy nodes through `map`, finish. */
typedef struct rewrite {
    heed_builder *b;
    const heed_graph *from;
    heed_value *map; /* n_values */
    bool *live;      /* n_nodes */
} rewrite;
heed_status heed__rewrite_begin(rewrite *r, const heed_graph *from, heed_error *err);
heed_status heed__rewrite_end(rewrite *r, heed_graph **out, heed_error *err); /* copies names; frees all but *out */

#endif
