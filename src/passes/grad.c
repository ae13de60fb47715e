/* Reverse-mode differentiation, graph to graph: new nodes in the same builder, so a gradient can be differentiated again.
 *
 * Walks the nodes from the last to the first; each hands the gradients of its outputs to its inputs, where they are added in
 * the order of arrival, which is fixed. A composite without a rule is opened on the spot: its decomposition is added to
 * the graph and differentiated; the copy that the forward pass makes of it later is the same nodes, and simplify merges them.
 * Broadcast is a node, so un-broadcasting stands in its gradient and nowhere else. */

#include "base/error.h"
#include "ops/ops.h"
#include "passes/passes.h"

typedef struct tape {
    heed_builder *b;
    heed_value *d; /* gradient of each value */
    bool *need;    /* does the value depend on what we differentiate by */
    uint32_t room;
} tape;

static bool tape_room(tape *t)
{
    heap *h = heed__builder_context(t->b)->heap;
    const uint32_t n = heed__building(t->b)->n_values;
    const uint32_t more = 2 * n + 64;
    heed_value *d;
    bool *need;

    if (n <= t->room)
        return true;
    d = heed__resize(h, t->d, more, sizeof *d);
    if (d)
        t->d = d;
    need = d ? heed__resize(h, t->need, more, sizeof *need) : NULL;
    if (!need) {
        heed__poison(t->b, HEED_ERR_MEMORY, "out of memory for gradients of %u values", (unsigned)more);
        return false;
    }
    t->need = need;
    t->room = more;
    return true;
}

static void add_gradient(tape *t, heed_value v, heed_value d)
{
    if (v.id == 0 || d.id == 0)
        return;
    t->d[v.id] = t->d[v.id].id ? heed_add(t->b, t->d[v.id], d) : d;
}

/* Marks what nodes [begin, end) make out of needed values. */
static void mark_needed(tape *t, uint32_t begin, uint32_t end)
{
    const heed_graph *g = heed__building(t->b);

    for (uint32_t i = begin; i < end; i++) {
        const node *n = &g->nodes[i];
        bool any = false;

        if (n->op->flags & OP_NO_GRAD)
            continue;
        for (int j = 0; j < n->n_in && !any; j++)
            any = n->in[j].id && t->need[n->in[j].id] &&
                  DTYPE_BIT(heed__value(g, n->in[j])->type.dtype) & FLOATS;
        for (int j = 0; any && j < n->n_out; j++)
            t->need[n->first_out + (uint32_t)j] |=
                (DTYPE_BIT(heed__value(g, heed__out(n, j))->type.dtype) & FLOATS) != 0;
    }
}

static void back_range(tape *t, uint32_t begin, uint32_t end);

/* A composite without a rule: its decomposition takes over. The arrays hold copies, because adding nodes moves the graph's. */
static void back_opened(tape *t, const node *n, const heed_value *in, const heed_value *dout)
{
    const uint32_t first = heed__building(t->b)->n_nodes;
    heed_value out[OP_OUT_MAX] = { { 0 } };
    bool want[OP_OUT_MAX];
    op_decompose o = {
        .b = t->b, .attrs = n->attrs, .in = in, .out = out, .want = want, .n_in = n->n_in, .n_out = n->n_out
    };

    for (int i = 0; i < n->n_out; i++)
        want[i] = dout[i].id != 0;
    n->op->decompose(&o);
    if (heed__poisoned(t->b) || !tape_room(t))
        return;
    mark_needed(t, first, heed__building(t->b)->n_nodes);
    {
        const uint32_t last = heed__building(t->b)->n_nodes;

        for (int i = 0; i < n->n_out; i++)
            if (dout[i].id)
                add_gradient(t, out[i], dout[i]);
        if (!heed__poisoned(t->b) && tape_room(t))
            back_range(t, first, last);
    }
}

static void back_node(tape *t, uint32_t index)
{
    const node n = heed__building(t->b)->nodes[index];
    heed_value in[OP_IN_MAX], out[OP_OUT_MAX], dout[OP_OUT_MAX], din[OP_IN_MAX] = { { 0 } };
    heed_value *many = NULL;
    bool need[OP_IN_MAX], arrives = false, wanted = false;
    heap *h = heed__builder_context(t->b)->heap;
    op_grad g = { .b = t->b,
                  .attrs = n.attrs,
                  .in = n.in,
                  .out = out,
                  .dout = dout,
                  .din = din,
                  .need = need,
                  .n_in = n.n_in,
                  .n_out = n.n_out,
                  .body = n.body };
    bool *many_need = NULL;

    for (int i = 0; i < n.n_out; i++) {
        out[i] = heed__out(&n, i);
        dout[i] = t->d[out[i].id];
        arrives |= dout[i].id != 0;
    }
    if (!arrives || n.op->flags & (OP_NO_GRAD | OP_LEAF))
        return;
    if (n.n_in > OP_IN_MAX) { /* a variadic op with very many inputs */
        many = heed__alloc(h, (size_t)n.n_in, sizeof *many);
        many_need = heed__alloc(h, (size_t)n.n_in, sizeof *many_need);
        if (!many || !many_need) {
            heed__poison(t->b, HEED_ERR_MEMORY, "out of memory for gradients of %d inputs", n.n_in);
            goto done;
        }
        g.din = many;
        g.need = many_need;
    }
    for (int i = 0; i < n.n_in; i++) {
        ((bool *)(uintptr_t)g.need)[i] = n.in[i].id && t->need[n.in[i].id];
        wanted |= g.need[i];
        if (!many)
            in[i] = n.in[i];
    }
    if (!wanted)
        goto done;
    heed__enter_path(t->b, n.path);
    if (n.op->grad) {
        n.op->grad(&g);
        if (!heed__poisoned(t->b) &&
            tape_room(t)) /* new values do not depend on wrt in this walk: need stays false */
            for (int i = 0; i < n.n_in; i++)
                if (g.need[i])
                    add_gradient(t, n.in[i], g.din[i]);
    } else if (n.op->decompose && !many) {
        back_opened(t, &n, in, dout);
    } else {
        heed__poison(t->b, HEED_ERR_BUG,
                     "%s has neither a gradient nor a decomposition, and does not say that it has none",
                     n.op->name);
    }
    heed__set_path(t->b, NULL);
done:
    heed__release(h, many);
    heed__release(h, many_need);
}

static void back_range(tape *t, uint32_t begin, uint32_t end)
{
    for (uint32_t i = end; i-- > begin && !heed__poisoned(t->b);)
        if (tape_room(t))
            back_node(t, i);
}

static bool is_value(heed_builder *b, heed_value v, const char *what, int i)
{
    if (v.id && v.id < heed__building(b)->n_values)
        return true;
    heed__poison(b, HEED_ERR_USAGE, "heed_grad: %s %d is no value of this builder", what, i);
    return false;
}

/* What is differentiated, by what, and with which upstream. */
static bool check_request(heed_builder *b, const heed_value *y, const heed_value *dy, int outputs,
                          const heed_value *wrt, int n)
{
    for (int i = 0; i < outputs; i++) {
        heed_type type, upstream;

        if (!is_value(b, y[i], "the result", i))
            return false;
        type = heed_value_type(b, y[i]);
        if (!(DTYPE_BIT(type.dtype) & FLOATS)) {
            heed__poison(b, HEED_ERR_DTYPE, "heed_grad: the result %d is %s, so it has no derivative", i,
                         heed_dtype_name(type.dtype));
            return false;
        }
        if (!dy[i].id) /* nothing arrives */
            continue;
        if (!is_value(b, dy[i], "the upstream", i))
            return false;
        upstream = heed_value_type(b, dy[i]);
        if (!heed_type_equal(&type, &upstream)) {
            heed__poison(b, type.dtype != upstream.dtype ? HEED_ERR_DTYPE : HEED_ERR_SHAPE,
                         "heed_grad: the upstream %d differs in type from its result", i);
            return false;
        }
    }
    for (int i = 0; i < n; i++) {
        if (!is_value(b, wrt[i], "the variable", i))
            return false;
        if (!(DTYPE_BIT(heed_value_type(b, wrt[i]).dtype) & FLOATS)) {
            heed__poison(b, HEED_ERR_DTYPE, "heed_grad: the variable %d is not of a floating dtype", i);
            return false;
        }
    }
    return true;
}

void heed_grad_of(heed_builder *b, const heed_value *y, const heed_value *dy, int outputs,
                  const heed_value *wrt, int n, heed_value *dwrt)
{
    heap *h = heed__builder_context(b)->heap;
    tape t = { .b = b };
    uint32_t end;

    for (int i = 0; i < n; i++)
        dwrt[i] = (heed_value){ 0 };
    if (heed__poisoned(b) || !check_request(b, y, dy, outputs, wrt, n) || !tape_room(&t))
        goto done;
    end = heed__building(b)->n_nodes;
    for (int i = 0; i < n; i++)
        t.need[wrt[i].id] = true;
    mark_needed(&t, 0, end);
    for (int i = 0; i < outputs; i++)
        add_gradient(&t, y[i], dy[i]);
    if (!heed__poisoned(b) && tape_room(&t))
        back_range(&t, 0, end);
    for (int i = 0; i < n && !heed__poisoned(b); i++) {
        const heed_type type = heed_value_type(b, wrt[i]);

        dwrt[i] = t.d[wrt[i].id].id ? t.d[wrt[i].id] : heed__zeros(b, &type);
    }
done:
    heed__release(h, t.d);
    heed__release(h, t.need);
}

void heed_grad(heed_builder *b, heed_value loss, const heed_value *wrt, int n, heed_value *dwrt)
{
    const heed_type type = heed_value_type(b, loss);
    heed_value one;

    if (!heed__poisoned(b) && is_value(b, loss, "the loss", 0) && heed_type_count(&type) != 1)
        heed__poison(b, HEED_ERR_SHAPE, "heed_grad: the loss must be one number, this one has %lld",
                     (long long)heed_type_count(&type));
    one = heed_full(b, type, 1);
    heed_grad_of(b, &loss, &one, 1, wrt, n, dwrt);
}
