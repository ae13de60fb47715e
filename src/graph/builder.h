/* The builder's own state; passes and ops go through graph/op.h and graph/graph.h. */
#ifndef GRAPH_BUILDER_H
#define GRAPH_BUILDER_H

#include "graph/op.h"

#define SCOPES_MAX 64

typedef struct random_name {
    const char *path;
    uint32_t crc;
} random_name;

struct heed_builder {
    heed_context *ctx; /* borrowed */
    heed_graph *g;     /* owned until finished */
    heed_error err;
    char scope[512];   /* "encoder.layers.0" */
    size_t scope_ends[SCOPES_MAX];
    int scope_depth;
    const char *scope_copy; /* the scope in the graph's memory; NULL: not copied since it changed */
    const char *path;       /* set by passes: overrides the scope */
    const char *last_path;
    heed_value rng;
    heed_mode mode;
    random_name *randoms;
    uint32_t n_randoms, room_randoms;
};

heed_value heed__leaf(heed_builder *b, const op_def *op, const char *path, const leaf_attrs *attrs);
heed_status heed__infer_node(const op_def *op, const void *attrs, const heed_type *in, int n_in, heed_type *out,
                             int n_out, const heed_graph *body, heed_error *err);

#endif
