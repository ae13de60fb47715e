/* Leaves: what a graph is given. input: at each run. constant: in the graph. param, state: in heed_weights under their path;
 * a param is trained, a state (running statistics, moments, rng, caches) is changed by heed_assign only. */

#include "graph/builder.h"

#include <string.h>

static const op_slot leaf_in[] = { SLOT_END };
static const op_slot leaf_out[] = { { .name = "y" }, SLOT_END };

static heed_status leaf_infer(op_infer *t)
{
    t->out[0] = ((const leaf_attrs *)t->attrs)->type;
    return HEED_OK;
}

#define LEAF(word, more)                                                                                     \
    const op_def heed__op_##word = {                                                                         \
        .name = #word,                                                                                       \
        .version = 1,                                                                                        \
        .in = leaf_in,                                                                                       \
        .out = leaf_out,                                                                                     \
        .flags = OP_LEAF | (more),                                                                           \
        .attrs_size = sizeof(leaf_attrs),                                                                    \
        .infer = leaf_infer,                                                                                 \
    }

LEAF(input, 0);
LEAF(constant, OP_NO_GRAD);
LEAF(param, 0);
LEAF(state, 0);

bool heed__is_leaf(const node *n, const op_def *kind)
{
    return n->op == kind;
}

/* A leaf named `name` in the current scope; the same path twice is refused. */
static heed_value named_leaf(heed_builder *b, const op_def *op, const char *path, heed_type type,
                             const heed_init *init)
{
    if (heed__poisoned(b))
        return (heed_value){ 0 };
    for (uint32_t i = 0; i < b->g->n_nodes; i++) {
        const node *n = &b->g->nodes[i];

        if (n->op->flags & OP_LEAF && n->op != &heed__op_constant && strcmp(n->path, path) == 0)
            return heed__poison(
                b, HEED_ERR_USAGE,
                "two leaves have the path \"%s\": rename one, or share it with heed_param_tie", path);
    }
    return heed__leaf(b, op, path, &(leaf_attrs){ .type = type, .init = init ? *init : (heed_init){ 0 } });
}

heed_value heed_input(heed_builder *b, const char *name, heed_type type)
{
    return named_leaf(b, &heed__op_input, heed__scope_path(b, name), type, NULL);
}

heed_value heed_param(heed_builder *b, const char *name, heed_type type, const heed_init *init)
{
    return named_leaf(b, &heed__op_param, heed__scope_path(b, name), type, init);
}

heed_value heed_state(heed_builder *b, const char *name, heed_type type, const heed_init *init)
{
    return named_leaf(b, &heed__op_state, heed__scope_path(b, name), type, init);
}

heed_value heed__state_under(heed_builder *b, const char *root, const char *name, heed_type type,
                             const heed_init *init)
{
    const char *path = heed__scope_path(b, name);

    if (!heed__poisoned(b) && !(path = heed__arena_format(&b->g->arena, "%s.%s", root, path)))
        return heed__poison(b, HEED_ERR_MEMORY, "out of memory for the name \"%.60s\"", name);
    return named_leaf(b, &heed__op_state, path, type, init);
}

heed_value heed_param_tie(heed_builder *b, const char *path)
{
    if (heed__poisoned(b))
        return (heed_value){ 0 };
    for (uint32_t i = 0; path && i < b->g->n_nodes; i++)
        if (b->g->nodes[i].op == &heed__op_param && strcmp(b->g->nodes[i].path, path) == 0)
            return heed__out(&b->g->nodes[i], 0);
    return heed__poison(b, HEED_ERR_USAGE, "heed_param_tie: there is no parameter \"%.100s\" yet",
                        path ? path : "");
}

heed_value heed_rng(heed_builder *b)
{
    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (!b->rng.id)
        b->rng =
            named_leaf(b, &heed__op_state, "rng", heed_type_of(HEED_I64, 1, (const int64_t[]){ 2 }), NULL);
    return b->rng;
}

heed_value heed_constant(heed_builder *b, heed_tensor tensor)
{
    int64_t count = heed_type_count(&tensor.type);
    void *data;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (count < 0 || (count > 0 && !tensor.data))
        return heed__poison(b, HEED_ERR_SHAPE, "constant: its type is not valid or its data is missing");
    data = heed__arena_copy(&b->g->arena, tensor.data ? tensor.data : "",
                            (size_t)count * heed_dtype_size(tensor.type.dtype));
    if (!data)
        return heed__poison(b, HEED_ERR_MEMORY, "out of memory for a constant");
    return heed__leaf(b, &heed__op_constant, "", &(leaf_attrs){ .type = tensor.type, .data = data });
}

const void *heed__constant_data(const heed_graph *g, heed_value v)
{
    const node *n = heed__maker(g, v);

    return n->op == &heed__op_constant ? ((const leaf_attrs *)n->attrs)->data : NULL;
}
