/* Passes: each takes a graph const and returns a new one. */
#ifndef PASSES_PASSES_H
#define PASSES_PASSES_H

#include "graph/op.h"

/* True when some kernel serves the node as it stands. */
typedef bool serves_fn(const void *user, const heed_graph *g, const node *n);

/* Replaces every composite that is not served by its decomposition, until none is left. Dead nodes are left out. Names of
 * its outputs go over to the values that stand for them: so whoever wants to look into a composite, names an output of
 * it, opens it and no other, and finds the value inside. */
heed_status heed__pass_open(heed_graph **out, const heed_graph *g, serves_fn *serves, const void *user, heed_error *err);

/* Probes that the backward pass of the same attention can give (fold_probes.c): received and pooled of attention_probe become
 * outputs of attention_grad. `tiled`: is the node served by the kernel "tiles"? *out is NULL when there is no attention_grad. */
heed_status heed__pass_fold_probes(heed_graph **out, const heed_graph *g, serves_fn *tiled, const void *user,
                                   heed_error *err);

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
    bool named;      /* outputs, taps and assigns are copied */
} rewrite;
heed_status heed__rewrite_begin(rewrite *r, const heed_graph *from, heed_error *err);
/* Every live node as it is, for passes that add to a graph. */
void heed__rewrite_copy(rewrite *r);
/* Copies outputs, taps and assigns now, so that further outputs come behind them; else the end does it. */
void heed__rewrite_names(rewrite *r);
heed_status heed__rewrite_end(rewrite *r, heed_graph **out, heed_error *err); /* copies names; frees all but *out */

#endif
