/* The graph itself: nodes, values, names. Immutable once finished; passes make new ones. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/context.h"
#include <heed/graph.h>

struct op_def;

typedef struct node {
    const struct op_def *op;
    const char *path; /* leaves: the full name. Others: the scope they were made in, "" at the top */
    const void *attrs;
    const heed_value *in;
    int n_in, n_out;
    uint32_t first_out;      /* its values are first_out .. first_out + n_out - 1 */
    const heed_graph *body;  /* scan; NULL for all else. Owned by the graph */
} node;

typedef struct value_info {
    heed_type type;
    uint32_t node; /* index of the node that makes it */
    int slot;
} value_info;

typedef struct named_value {
    const char *name;
    heed_value value;
} named_value;

typedef struct assign {
    heed_value state, value;
} assign;

struct heed_graph {
    heed_context *ctx;
    arena arena; /* nodes, attributes, names, constants */
    node *nodes;
    value_info *values; /* [0] is unused */
    named_value *outputs, *taps;
    assign *assigns;
    uint32_t n_nodes, n_values, n_outputs, n_taps, n_assigns;
    uint32_t room_nodes, room_values, room_outputs, room_taps, room_assigns;
};

static inline const value_info *heed__value(const heed_graph *g, heed_value v)
{
    return &g->values[v.id];
}

static inline const node *heed__maker(const heed_graph *g, heed_value v)
{
    return &g->nodes[g->values[v.id].node];
}

static inline heed_value heed__out(const node *n, int slot)
{
    return (heed_value){ n->first_out + (uint32_t)slot };
}

/* Leaves: graph/leaves.c. */
typedef struct leaf_attrs {
    heed_type type;
    heed_init init;   /* params and states */
    const void *data; /* constants: dense */
} leaf_attrs;

extern const struct op_def heed__op_input, heed__op_constant, heed__op_param, heed__op_state;
bool heed__is_leaf(const node *n, const struct op_def *kind);

/* Every rule a graph must keep: topological order, slots, types equal to what infer gives, names. HEED_ERR_BUG names the node. */
heed_status heed__verify(const heed_graph *g, heed_error *err);

/* Elements of a constant value, or NULL when it is none; for simplify and constant folding. */
const void *heed__constant_data(const heed_graph *g, heed_value v);

/* The graph under construction, and a builder that goes on with a copy of a finished graph's structure (passes). */
const heed_graph *heed__building(const heed_builder *b);

/* Passes copy node by node: maps old values to new ones. map has n_values entries, map[0] = {0}. Leaves keep their names. */
void heed__copy_node(heed_builder *b, const node *n, heed_value *map);

/* A graph of its own with the same nodes, names and bodies. */
heed_status heed__graph_copy(heed_graph **out, const heed_graph *from, heed_error *err);

/* Copies outputs, taps and assigns of `from` through the map, those whose value was copied. */
void heed__copy_names(heed_builder *b, const heed_graph *from, const heed_value *map);

/* The scope path used for nodes made from now on: set to that of the node being rewritten; NULL goes back to the stack's. */
void heed__set_path(heed_builder *b, const char *path);
void heed__enter_path(heed_builder *b, const char *path); /* the same with a copy in the builder's memory */

#endif
