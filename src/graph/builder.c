/* The builder: adds nodes to one graph, keeps the first error, turns everything after it into poison.
 *
 * Invariant: nodes stand in topological order, because a node's inputs must exist when it is made. */

#include "graph/builder.h"
#include "base/digest.h"
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Room for one more element in a growing array of the heap; 0 on failure. */
static bool grow(heed_builder *b, void **array, uint32_t *room, uint32_t used, size_t size)
{
    uint32_t more = *room ? 2 * *room : 64;
    void *bigger;

    if (used < *room)
        return true;
    if (more <= *room || !(bigger = heed__resize(b->ctx->heap, *array, more, size))) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for %u nodes or values", (unsigned)more);
        return false;
    }
    *array = bigger;
    *room = more;
    return true;
}

heed_status heed_builder_new(heed_builder **out, heed_context *ctx, heed_error *err)
{
    heed_builder *b = heed__alloc(ctx->heap, 1, sizeof *b);

    if (!b)
        return heed__fail_memory(err, sizeof *b);
    b->ctx = ctx;
    b->g = heed__alloc(ctx->heap, 1, sizeof *b->g);
    if (!b->g) {
        heed__release(ctx->heap, b);
        return heed__fail_memory(err, sizeof *b->g);
    }
    b->g->ctx = ctx;
    b->g->n_values = 1; /* value 0 is poison */
    heed__arena_init(&b->g->arena, ctx->heap);
    if (!grow(b, (void **)&b->g->values, &b->g->room_values, 0, sizeof *b->g->values)) {
        heed_builder_free(b);
        return heed__fail_memory(err, 64 * sizeof *b->g->values);
    }
    *out = b;
    return HEED_OK;
}

void heed_builder_free(heed_builder *b)
{
    heap *h;

    if (!b)
        return;
    h = b->ctx->heap;
    heed_graph_free(b->g);
    heed__release(h, b->randoms);
    heed__release(h, b);
}

void heed_graph_free(heed_graph *g)
{
    heap *h;

    if (!g)
        return;
    h = g->ctx->heap;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        heed_graph_free((heed_graph *)(uintptr_t)g->nodes[i].body);
    heed__release(h, g->nodes);
    heed__release(h, g->values);
    heed__release(h, g->outputs);
    heed__release(h, g->taps);
    heed__release(h, g->assigns);
    heed__arena_release(&g->arena);
    heed__release(h, g);
}

heed_status heed_builder_finish(heed_graph **out, heed_builder *b, heed_error *err)
{
    if (b->err.code == HEED_OK && !b->g)
        return heed__fail(err, HEED_ERR_USAGE, "this builder was finished before; make a new one");
    if (b->err.code == HEED_OK && b->scope_depth > 0)
        heed__poison(b, HEED_ERR_USAGE, "scope \"%s\" is still open: heed_scope_pop is missing", b->scope);
    if (b->err.code == HEED_OK)
        (void)heed__verify(b->g, &b->err);
    if (b->err.code != HEED_OK)
        return heed_builder_status(b, err);
    *out = b->g;
    b->g = NULL;
    return HEED_OK;
}

heed_status heed_builder_status(const heed_builder *b, heed_error *err)
{
    if (b->err.code != HEED_OK && err && err->code == HEED_OK)
        *err = b->err;
    return b->err.code;
}

heed_value heed__poison(heed_builder *b, heed_status code, const char *format, ...)
{
    if (!heed__poisoned(b)) { /* a finished builder has no more to say than that it is finished */
        va_list args;

        va_start(args, format);
        (void)vsnprintf(b->err.text, sizeof b->err.text, format, args);
        va_end(args);
        (void)snprintf(b->err.path, sizeof b->err.path, "%.190s", b->path ? b->path : b->scope);
        b->err.code = code;
    }
    return (heed_value){ 0 };
}

bool heed__poisoned(const heed_builder *b)
{
    return b->err.code != HEED_OK || !b->g;
}

heed_context *heed__builder_context(heed_builder *b)
{
    return b->ctx;
}

const heed_graph *heed__building(const heed_builder *b)
{
    return b->g;
}

void heed_set_mode(heed_builder *b, heed_mode mode)
{
    b->mode = mode;
}

heed_mode heed_get_mode(const heed_builder *b)
{
    return b->mode;
}

/* ---- scopes ---- */

void heed_scope_push(heed_builder *b, const char *name)
{
    size_t n = strlen(b->scope), m = name ? strlen(name) : 0;

    if (heed__poisoned(b))
        return;
    if (m == 0 || n + m + 2 > sizeof b->scope || b->scope_depth == SCOPES_MAX) {
        heed__poison(b, HEED_ERR_LIMIT, "scope \"%.60s\": a scope's name is 1 to %d bytes, at most %d deep",
                     name ? name : "", (int)sizeof b->scope - 2, SCOPES_MAX);
        return;
    }
    b->scope_ends[b->scope_depth++] = n;
    if (n > 0)
        b->scope[n++] = '.';
    memcpy(b->scope + n, name, m + 1);
    b->scope_copy = NULL;
}

void heed_scope_pop(heed_builder *b)
{
    if (heed__poisoned(b))
        return;
    if (b->scope_depth == 0) {
        heed__poison(b, HEED_ERR_USAGE, "heed_scope_pop without a push");
        return;
    }
    b->scope[b->scope_ends[--b->scope_depth]] = '\0';
    b->scope_copy = NULL;
}

void heed__set_path(heed_builder *b, const char *path)
{
    b->path = path;
}

/* A name that stands for something; else the builder is poisoned. */
static bool named(heed_builder *b, const char *name, const char *what)
{
    if (!heed__poisoned(b) && (!name || !*name))
        heed__poison(b, HEED_ERR_USAGE, "%s must have a name of at least one byte", what);
    return !heed__poisoned(b);
}

const char *heed__scope_path(heed_builder *b, const char *name)
{
    const char *path;

    if (!named(b, name, "an input, parameter, state, tap or random operation"))
        return "";
    path = b->scope[0] ? heed__arena_format(&b->g->arena, "%s.%s", b->scope, name)
                       : heed__arena_string(&b->g->arena, name);
    if (!path) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for the name \"%.60s\"", name);
        return "";
    }
    return path;
}

/* The scope that a new node lies in, in the graph's memory. */
static const char *node_path(heed_builder *b)
{
    if (b->path)
        return b->path;
    if (!b->scope_copy) {
        b->scope_copy = heed__arena_string(&b->g->arena, b->scope);
        if (!b->scope_copy)
            heed__poison(b, HEED_ERR_MEMORY, "out of memory for a scope's name");
    }
    return b->scope_copy;
}

int64_t heed__random_node(heed_builder *b, const char *name)
{
    const char *path = heed__scope_path(b, name);
    uint32_t crc = heed__crc32c_string(path);

    if (heed__poisoned(b))
        return 0;
    for (uint32_t i = 0; i < b->n_randoms; i++)
        if (b->randoms[i].crc == crc) {
            bool same = strcmp(b->randoms[i].path, path) == 0;

            heed__poison(
                b, HEED_ERR_USAGE,
                same ? "two random operations have the name \"%s\": give each its own"
                     : "the names \"%s\" and \"%s\" of random operations have the same CRC-32C: rename one",
                path, b->randoms[i].path);
            return 0;
        }
    if (!grow(b, (void **)&b->randoms, &b->room_randoms, b->n_randoms, sizeof *b->randoms))
        return 0;
    b->randoms[b->n_randoms++] = (random_name){ path, crc };
    return (int64_t)crc;
}

/* ---- nodes ---- */

static const op_slot *slot_of(const op_def *op, int i)
{
    int n = 0;

    while (op->in[n].name)
        n++;
    if (i >= n)
        return op->flags & OP_VARIADIC && n > 0 ? &op->in[n - 1] : NULL;
    return &op->in[i];
}

static int slot_named(const op_slot *slots, const char *name)
{
    for (int i = 0; slots[i].name; i++)
        if (strcmp(slots[i].name, name) == 0)
            return i;
    return -1;
}

static int count_slots(const op_slot *slots)
{
    int n = 0;

    while (slots[n].name)
        n++;
    return n;
}

static void dtype_words(char *out, size_t size, unsigned bits)
{
    size_t n = 0;

    out[0] = '\0';
    for (int d = 0; d < HEED_DTYPES && n < size; d++)
        if (bits & DTYPE_BIT(d))
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", heed_dtype_name((heed_dtype)d));
}

heed_status heed__refuse(op_infer *t, heed_status code, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return heed__fail(t->err, code, "%s: %s", t->op, why);
}

/* Checks inputs against the slots and fills the types of the outputs. Also used by verify. */
heed_status heed__infer_node(const op_def *op, const void *attrs, const heed_type *in, int n_in,
                             heed_type *out, int n_out, const heed_graph *body, heed_error *err)
{
    op_infer t = { op->name, attrs, in, n_in, out, n_out, body, err };
    const int slots = count_slots(op->in);

    for (int i = 0; i < n_in; i++) {
        const op_slot *s = slot_of(op, i);

        if (!s)
            return heed__refuse(&t, HEED_ERR_USAGE, "takes %d inputs, got %d", slots, n_in);
        if (in[i].rank < 0) {
            if (!(s->flags & OPTIONAL))
                return heed__refuse(&t, HEED_ERR_USAGE, "the input %s is missing", s->name);
            continue;
        }
        if (s->dtypes && !(s->dtypes & DTYPE_BIT(in[i].dtype))) {
            char words[64];

            dtype_words(words, sizeof words, s->dtypes);
            return heed__refuse(&t, HEED_ERR_DTYPE, "%s is %s, but must be one of %s: use heed_cast", s->name,
                                heed_dtype_name(in[i].dtype), words);
        }
        if (s->same_as) {
            int j = slot_named(op->in, s->same_as);

            if (j >= 0 && j < n_in && in[j].rank >= 0 && in[j].dtype != in[i].dtype)
                return heed__refuse(&t, HEED_ERR_DTYPE,
                                    "%s is %s and %s is %s; dtypes do not mix by themselves: use heed_cast",
                                    s->same_as, heed_dtype_name(in[j].dtype), s->name,
                                    heed_dtype_name(in[i].dtype));
        }
    }
    for (int i = n_in; i < slots; i++)
        if (!(op->in[i].flags & OPTIONAL))
            return heed__refuse(&t, HEED_ERR_USAGE, "the input %s is missing", op->in[i].name);
    for (int i = 0; i < n_out; i++) {
        int j = op->out[i].same_as ? slot_named(op->in, op->out[i].same_as) : -1;

        out[i] = j >= 0 && j < n_in ? in[j] : (heed_type){ HEED_F32, 0, { 0 } };
    }
    if (op->infer)
        TRY(op->infer(&t));
    for (int i = 0; i < n_out; i++)
        if (heed_type_count(&out[i]) < 0)
            return heed__refuse(&t, HEED_ERR_LIMIT,
                                "the result %s has more elements than 63 bits count, or a negative size",
                                op->out[i].name);
    return HEED_OK;
}

static void fill_poison(heed_value *out, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (heed_value){ 0 };
}

static bool add_node(heed_builder *b, const op_def *op, const char *path, const void *attrs,
                     const heed_value *in, int n_in, const heed_type *out, int n_out)
{
    heed_graph *g = b->g;
    node *made;
    heed_value *inputs = NULL;

    if (!grow(b, (void **)&g->nodes, &g->room_nodes, g->n_nodes, sizeof *g->nodes))
        return false;
    for (int i = 0; i < n_out; i++)
        if (!grow(b, (void **)&g->values, &g->room_values, g->n_values + (uint32_t)i, sizeof *g->values))
            return false;
    if (n_in > 0 && !(inputs = heed__arena_copy(&g->arena, in, (size_t)n_in * sizeof *in))) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for a node");
        return false;
    }
    made = &g->nodes[g->n_nodes];
    *made = (node){ .op = op,
                    .path = path,
                    .attrs = attrs,
                    .in = inputs,
                    .n_in = n_in,
                    .n_out = n_out,
                    .first_out = g->n_values };
    for (int i = 0; i < n_out; i++)
        g->values[g->n_values++] = (value_info){ out[i], g->n_nodes, i };
    g->n_nodes++;
    return true;
}

/* Checks, infers and adds; false when the builder is poisoned, before or by this. */
static bool make_node(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n,
                      const heed_graph *body, heed_value *out)
{
    int n_out = count_slots(op->out);
    heed_type few[OP_IN_MAX], result[OP_OUT_MAX], *types = few;
    const char *path;
    void *kept = NULL;
    heed_error err = { 0 };

    fill_poison(out, n_out);
    if (heed__poisoned(b))
        return false;
    path = node_path(b);
    if (n > OP_IN_MAX)
        types = heed__arena_alloc(&b->g->arena, (size_t)n, sizeof *types);
    if (op->attrs_size)
        kept = heed__arena_copy(&b->g->arena, attrs, op->attrs_size);
    if (!path || !types || (op->attrs_size && !kept)) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for a node");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (in[i].id >= b->g->n_values) {
            heed__poison(b, HEED_ERR_USAGE, "%s: input %d is a value of another builder", op->name, i);
            return false;
        }
        if (in[i].id)
            types[i] = b->g->values[in[i].id].type;
        else
            types[i] = (heed_type){ .rank = -1 };
    }
    if (heed__infer_node(op, kept, types, n, result, n_out, body, &err) != HEED_OK) {
        heed__poison(b, err.code, "%s", err.text);
        return false;
    }
    if (!add_node(b, op, path, kept, in, n, result, n_out))
        return false;
    b->g->nodes[b->g->n_nodes - 1].body = body;
    for (int i = 0; i < n_out; i++)
        out[i] = heed__out(&b->g->nodes[b->g->n_nodes - 1], i);
    return true;
}

void heed__nodes_with_body(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n,
                           heed_graph *body, heed_value *out)
{
    if (!make_node(b, op, attrs, in, n, body, out))
        heed_graph_free(body);
}

void heed__nodes(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n,
                 heed_value *out)
{
    (void)make_node(b, op, attrs, in, n, NULL, out);
}

heed_value heed__node(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n)
{
    heed_value out[OP_OUT_MAX];

    heed__nodes(b, op, attrs, in, n, out);
    return out[0];
}

heed_value heed__leaf(heed_builder *b, const op_def *op, const char *path, const leaf_attrs *attrs)
{
    leaf_attrs *kept;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (attrs->type.rank < 0 || attrs->type.rank > HEED_MAX_RANK || attrs->type.dtype < 0 ||
        attrs->type.dtype >= HEED_DTYPES || heed_type_count(&attrs->type) < 0)
        return heed__poison(b, HEED_ERR_SHAPE,
                            "%s \"%s\": its type is not valid: rank 0 to %d, sizes of 0 or more", op->name,
                            path, HEED_MAX_RANK);
    kept = heed__arena_copy(&b->g->arena, attrs, sizeof *attrs);
    if (!kept)
        return heed__poison(b, HEED_ERR_MEMORY, "out of memory for \"%s\"", path);
    if (!add_node(b, op, path, kept, NULL, 0, &kept->type, 1))
        return (heed_value){ 0 };
    return heed__out(&b->g->nodes[b->g->n_nodes - 1], 0);
}

/* ---- roots ---- */

static bool taken(const named_value *names, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(names[i].name, name) == 0)
            return true;
    return false;
}

static void add_name(heed_builder *b, named_value **list, uint32_t *n, uint32_t *room, const char *name,
                     heed_value v, const char *what)
{
    if (heed__poisoned(b))
        return;
    if (v.id == 0 || v.id >= b->g->n_values) {
        heed__poison(b, HEED_ERR_USAGE, "%s \"%s\" names no value of this builder", what, name);
        return;
    }
    if (taken(*list, *n, name)) {
        heed__poison(b, HEED_ERR_USAGE, "two %ss have the name \"%s\"", what, name);
        return;
    }
    if (grow(b, (void **)list, room, *n, sizeof **list))
        (*list)[(*n)++] = (named_value){ name, v };
}

void heed_output(heed_builder *b, const char *name, heed_value value)
{
    char *kept;

    if (!named(b, name, "an output"))
        return;
    kept = heed__arena_string(&b->g->arena, name);
    if (!kept) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for a name");
        return;
    }
    add_name(b, &b->g->outputs, &b->g->n_outputs, &b->g->room_outputs, kept, value, "output");
}

void heed_tap(heed_builder *b, const char *name, heed_value value)
{
    const char *path = heed__scope_path(b, name);

    if (!heed__poisoned(b))
        add_name(b, &b->g->taps, &b->g->n_taps, &b->g->room_taps, path, value, "tap");
}

void heed_assign(heed_builder *b, heed_value state, heed_value value)
{
    heed_graph *g = b->g;

    if (heed__poisoned(b))
        return;
    if (state.id == 0 || value.id == 0 || state.id >= g->n_values || value.id >= g->n_values) {
        heed__poison(b, HEED_ERR_USAGE, "assign: a value is missing");
        return;
    }
    if (!heed__is_leaf(heed__maker(g, state), &heed__op_state) &&
        !heed__is_leaf(heed__maker(g, state), &heed__op_param)) {
        heed__poison(b, HEED_ERR_USAGE, "assign: only a state or a parameter can be assigned");
        return;
    }
    if (!heed_type_equal(&g->values[state.id].type, &g->values[value.id].type)) {
        heed__poison(b, HEED_ERR_SHAPE, "assign: \"%s\" and its new value differ in type",
                     heed__maker(g, state)->path);
        return;
    }
    for (uint32_t i = 0; i < g->n_assigns; i++)
        if (g->assigns[i].state.id == state.id) {
            heed__poison(b, HEED_ERR_USAGE, "assign: \"%s\" is assigned twice", heed__maker(g, state)->path);
            return;
        }
    if (grow(b, (void **)&g->assigns, &g->room_assigns, g->n_assigns, sizeof *g->assigns))
        g->assigns[g->n_assigns++] = (assign){ state, value };
}

/* ---- asking ---- */

heed_type heed_value_type(const heed_builder *b, heed_value v)
{
    return v.id && b->g && v.id < b->g->n_values ? b->g->values[v.id].type
                                                 : (heed_type){ HEED_F32, 0, { 0 } };
}

int heed_rank(const heed_builder *b, heed_value v)
{
    return heed_value_type(b, v).rank;
}

int heed__axis(heed_builder *b, heed_value x, int axis)
{
    int rank = heed_rank(b, x), a = axis < 0 ? axis + rank : axis;

    if (heed__poisoned(b) || x.id == 0)
        return 0;
    if (a < 0 || a >= rank) {
        heed__poison(b, HEED_ERR_SHAPE, "axis %d of a value of rank %d: it must be %d to %d", axis, rank,
                     -rank, rank - 1);
        return 0;
    }
    return a;
}

int64_t heed_dim(heed_builder *b, heed_value x, int axis)
{
    int a;

    if (heed__poisoned(b) || x.id == 0)
        return 0;
    a = heed__axis(b, x, axis);
    return heed__poisoned(b) ? 0 : heed_value_type(b, x).dims[a];
}

int heed_params(const heed_builder *b, heed_value *out, int most)
{
    int n = 0;

    for (uint32_t i = 0; b->g && i < b->g->n_nodes; i++)
        if (heed__is_leaf(&b->g->nodes[i], &heed__op_param)) {
            if (n < most)
                out[n] = heed__out(&b->g->nodes[i], 0);
            n++;
        }
    return n;
}

const char *heed_value_path(const heed_builder *b, heed_value v)
{
    if (!v.id || !b->g || v.id >= b->g->n_values || !(heed__maker(b->g, v)->op->flags & OP_LEAF))
        return "";
    return heed__maker(b->g, v)->path;
}

int64_t heed_graph_nodes(const heed_graph *g)
{
    return (int64_t)g->n_nodes;
}

/* ---- passes ---- */

void heed__copy_node(heed_builder *b, const node *n, heed_value *map)
{
    heed_value few[OP_IN_MAX], out[OP_OUT_MAX], *in = few;
    heed_graph *body = NULL;

    if (heed__poisoned(b))
        return;
    if (n->op->flags & OP_LEAF) {
        leaf_attrs attrs = *(const leaf_attrs *)n->attrs;
        const char *path = heed__arena_string(&b->g->arena, n->path);

        if (attrs.data) /* constants: the new graph owns its own copy */
            attrs.data =
                heed__arena_copy(&b->g->arena, attrs.data,
                                 (size_t)heed_type_count(&attrs.type) * heed_dtype_size(attrs.type.dtype));
        if (!path || (((const leaf_attrs *)n->attrs)->data && !attrs.data))
            heed__poison(b, HEED_ERR_MEMORY, "out of memory for \"%.60s\"", n->path);
        else
            map[n->first_out] = heed__leaf(b, n->op, path, &attrs);
        return;
    }
    if (n->n_in > OP_IN_MAX && !(in = heed__arena_alloc(&b->g->arena, (size_t)n->n_in, sizeof *in))) {
        heed__poison(b, HEED_ERR_MEMORY, "out of memory for a node");
        return;
    }
    if (n->body && heed__graph_copy(&body, n->body, &b->err) != HEED_OK)
        return;
    for (int i = 0; i < n->n_in; i++)
        in[i] = map[n->in[i].id];
    heed__enter_path(b, n->path);
    heed__nodes_with_body(b, n->op, n->attrs, in, n->n_in, body, out);
    heed__set_path(b, NULL);
    for (int i = 0; i < n->n_out; i++)
        map[n->first_out + (uint32_t)i] = out[i];
}

/* A node's path lives in its own graph; the copy keeps one string for a run of nodes of the same scope. */
void heed__enter_path(heed_builder *b, const char *path)
{
    if (heed__poisoned(b))
        return;
    if (!b->last_path || strcmp(b->last_path, path) != 0) {
        b->last_path = heed__arena_string(&b->g->arena, path);
        if (!b->last_path)
            heed__poison(b, HEED_ERR_MEMORY, "out of memory for a scope's name");
    }
    b->path = b->last_path;
}

void heed__copy_names(heed_builder *b, const heed_graph *from, const heed_value *map)
{
    for (uint32_t i = 0; i < from->n_outputs; i++)
        if (map[from->outputs[i].value.id].id)
            heed_output(b, from->outputs[i].name, map[from->outputs[i].value.id]);
    for (uint32_t i = 0; i < from->n_taps; i++)
        if (map[from->taps[i].value.id].id)
            heed_tap(b, from->taps[i].name, map[from->taps[i].value.id]);
    for (uint32_t i = 0; i < from->n_assigns; i++)
        if (map[from->assigns[i].state.id].id)
            heed_assign(b, map[from->assigns[i].state.id], map[from->assigns[i].value.id]);
}

heed_status heed__graph_copy(heed_graph **out, const heed_graph *from, heed_error *err)
{
    heap *h = from->ctx->heap;
    heed_value *map = heed__alloc(h, from->n_values, sizeof *map);
    heed_builder *b = NULL;
    heed_status st;

    if (!map)
        return heed__fail_memory(err, from->n_values * sizeof *map);
    STEP(heed_builder_new(&b, from->ctx, err));
    for (uint32_t i = 0; i < from->n_nodes; i++)
        heed__copy_node(b, &from->nodes[i], map);
    heed__copy_names(b, from, map);
    STEP(heed_builder_finish(out, b, err));
done:
    heed_builder_free(b);
    heed__release(h, map);
    return st;
}
