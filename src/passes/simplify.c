/* simplify: one node for equal ones (same op, attributes and inputs: every op is a function of these, random ones too, whose
 * rng is an input), no views that change nothing, no dead nodes. Values keep their bits: nothing is re-associated. */

#include "base/digest.h"
#include "base/error.h"
#include "passes/passes.h"

#include <string.h>

typedef struct seen {
    uint32_t hash, made; /* index + 1 of the node in the new graph; 0: free */
} seen;

static uint32_t hash_node(const op_def *op, const void *attrs, const heed_value *in, int n_in)
{
    uint32_t crc = heed__crc32c_string(op->name);

    if (op == &heed__op_constant) {
        const leaf_attrs *a = attrs;

        crc = heed__crc32c(crc, &a->type.dtype, sizeof a->type.dtype);
        return heed__crc32c(crc, a->data, (size_t)heed_type_count(&a->type) * heed_dtype_size(a->type.dtype));
    }
    if (op->fields)
        crc = heed__fields_hash(op->fields, attrs, crc);
    return heed__crc32c(crc, in, (size_t)n_in * sizeof *in);
}

static bool same_node(const node *n, const op_def *op, const void *attrs, const heed_value *in, int n_in)
{
    if (n->op != op || n->n_in != n_in)
        return false;
    if (op == &heed__op_constant) {
        const leaf_attrs *a = n->attrs, *c = attrs;

        return heed_type_equal(&a->type, &c->type) &&
               memcmp(a->data, c->data, (size_t)heed_type_count(&a->type) * heed_dtype_size(a->type.dtype)) ==
                   0;
    }
    if (n_in > 0 && memcmp(n->in, in, (size_t)n_in * sizeof *in) != 0)
        return false;
    return !op->fields || heed__fields_equal(op->fields, n->attrs, attrs);
}

/* A view whose output has its input's type, strides and place. */
static bool changes_nothing(const heed_graph *g, const node *n)
{
    const heed_type *in = &heed__value(g, n->in[0])->type, *out = &heed__value(g, heed__out(n, 0))->type;
    view from = heed__view(NULL, in), to = { .type = *out };
    int64_t offset = 0;

    if (!heed_type_equal(in, out) || !n->op->view(n->attrs, &from, &to, &offset) || offset != 0)
        return false;
    for (int i = 0; i < in->rank; i++)
        if (in->dims[i] > 1 && from.strides[i] != to.strides[i])
            return false;
    return true;
}

heed_status heed__pass_simplify(heed_graph **out, const heed_graph *g, heed_error *err)
{
    heap *h = g->ctx->heap;
    uint32_t room = 64;
    seen *table;
    rewrite r;

    TRY(heed__rewrite_begin(&r, g, err));
    while (room < 2 * g->n_nodes)
        room *= 2;
    table = heed__alloc(h, room, sizeof *table);
    if (!table)
        heed__poison(r.b, HEED_ERR_MEMORY, "out of memory for %u nodes", (unsigned)room);
    for (uint32_t i = 0; table && i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        const bool can_merge = (!(n->op->flags & OP_LEAF) || n->op == &heed__op_constant) &&
                               n->n_in <= OP_IN_MAX && !n->body && !(n->op->flags & OP_EFFECT);
        heed_value in[OP_IN_MAX];
        uint32_t hash, at;

        if (!r.live[i])
            continue;
        if (n->op->flags & OP_VIEW && n->op->view && changes_nothing(g, n)) {
            r.map[n->first_out] = r.map[n->in[0].id];
            continue;
        }
        if (!can_merge) {
            heed__copy_node(r.b, n, r.map);
            continue;
        }
        for (int j = 0; j < n->n_in; j++)
            in[j] = r.map[n->in[j].id];
        hash = hash_node(n->op, n->attrs, in, n->n_in);
        for (at = hash & (room - 1); table[at].made; at = (at + 1) & (room - 1))
            if (table[at].hash == hash &&
                same_node(&heed__building(r.b)->nodes[table[at].made - 1], n->op, n->attrs, in, n->n_in))
                break;
        if (table[at].made) {
            for (int j = 0; j < n->n_out; j++)
                r.map[n->first_out + (uint32_t)j] =
                    heed__out(&heed__building(r.b)->nodes[table[at].made - 1], j);
            continue;
        }
        heed__copy_node(r.b, n, r.map);
        if (!heed__poisoned(r.b))
            table[at] = (seen){ hash, heed__building(r.b)->n_nodes };
    }
    heed__release(h, table);
    return heed__rewrite_end(&r, out, err);
}
