/* A graph as an ONNX file: nodes by the ops' own rules (graph/onnx.h), weights as initialisers under their
 * paths.
 *
 * First every composite that ONNX does not know at this opset is opened; then nodes are written in their
 * order. A broadcast is written only for consumers that do not stretch by themselves. With an open batch,
 * sizes that are multiples of HEED_ONNX_BATCH are multiples of the first size of input 0 when the file is
 * run.
 *
 * protobuf-c packs the tree of structs piece by piece into the file; weights are not copied. */

#include "base/error.h"
#include <heed/formats.h>

#ifndef HEED_HAVE_PROTOBUF

heed_status heed_onnx_write(heed_context *ctx, const char *path, const heed_graph *g, const heed_weights *w,
                            const heed_onnx_opts *opts, heed_error *err)
{
    (void)ctx;
    (void)g;
    (void)w;
    (void)opts;
    return heed__fail_at(
        err, HEED_ERR_MISSING, path,
        "heed was built without protobuf-c: apt install libprotobuf-c-dev protobuf-c-compiler "
        "protobuf-compiler, rebuild");
}

#else

#include "base/files.h"
#include "graph/number.h"
#include "ops/ops.h"
#include "passes/passes.h"

#include <inttypes.h>
#include <string.h>

#include <onnx.pb-c.h>

#define OPSET_LEAST 17
#define OPSET_MOST 20
#define BYTES_MOST INT32_MAX /* protobuf's limit of a message */
#define OPERANDS_MOST 1024
#define BATCH_NAME "batch"
#define SIZES_NAME "heed/sizes_" /* paths of weights hold no slash */

typedef struct pointers {
    void **list;
    size_t n, room;
} pointers;

typedef struct writer {
    heed_context *ctx;
    const heed_graph *g;
    const heed_weights *weights;
    const node *now;    /* being written */
    arena arena;        /* all of the tree */
    const char **names; /* by value; NULL: not written yet */
    bool *live;         /* by node */
    pointers nodes, initializers, inputs, outputs;
    const char *batch; /* i64 [1], the size of the batch when it runs */
    int opset;
    bool open;
    uint32_t fresh;
    heed_status failed;
    heed_error *err;
} writer;

/* ---- failures and memory ---- */

static void out_of_memory(writer *w)
{
    if (!w->failed)
        w->failed = heed__fail_memory(w->err, 0);
}

static void *make(writer *w, size_t n, size_t size)
{
    void *p = w->failed ? NULL : heed__arena_alloc(&w->arena, n, size);

    if (!p)
        out_of_memory(w);
    return p;
}

static char *copy_text(writer *w, const char *from)
{
    char *p = w->failed ? NULL : heed__arena_string(&w->arena, from);

    if (!p)
        out_of_memory(w);
    return p;
}

static void push(writer *w, pointers *list, void *item)
{
    if (w->failed || !item)
        return;
    if (list->n == list->room) {
        void **grown = make(w, 2 * list->room + 32, sizeof *grown); /* the old one stays in the arena */

        if (!grown)
            return;
        if (list->n)
            memcpy(grown, list->list, list->n * sizeof *grown);
        list->list = grown;
        list->room = 2 * list->room + 32;
    }
    list->list[list->n++] = item;
}

/* ---- what ops ask for ---- */

static int64_t onnx_dtype(heed_dtype dtype)
{
    static const int64_t numbers[HEED_DTYPES] = {
        [HEED_F32] = 1,  [HEED_U8] = 2,   [HEED_I32] = 6,  [HEED_I64] = 7,
        [HEED_BOOL] = 9, [HEED_F16] = 10, [HEED_F64] = 11, [HEED_BF16] = 16
    };

    return dtype < HEED_DTYPES ? numbers[dtype] : 0;
}

static bool is_open(const writer *w, int64_t size)
{
    return w->open && size > 0 && size % HEED_ONNX_BATCH == 0;
}

static bool call_open(const onnx_emit *e, int64_t size)
{
    return is_open(e->writer, size);
}

static const char *fresh_name(writer *w, const char *what)
{
    const char *scope = w->now && w->now->path ? w->now->path : "";
    char *name = w->failed ? NULL
                           : heed__arena_format(&w->arena, "%s%s%s_%" PRIu32, scope, scope[0] ? "/" : "",
                                                what, w->fresh++);

    if (!name)
        out_of_memory(w);
    return name ? name : "";
}

static const char *call_fresh(onnx_emit *e)
{
    return fresh_name(e->writer, e->name ? e->name : "value");
}

static void call_refuse(onnx_emit *e, const char *why)
{
    writer *w = e->writer;

    if (!w->failed)
        w->failed = heed__fail_at(w->err, HEED_ERR_SPEC, w->now->path, "%s cannot be written to ONNX: %s",
                                  w->now->op->name, why);
}

static Onnx__AttributeProto *attribute(writer *w, const onnx_attr *a)
{
    Onnx__AttributeProto *p = make(w, 1, sizeof *p);

    if (!p)
        return NULL;
    onnx__attribute_proto__init(p);
    p->name = copy_text(w, a->name);
    p->has_type = 1;
    if (a->kind == ONNX_INT_) {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        p->has_i = 1;
        p->i = a->i;
    } else if (a->kind == ONNX_FLOAT_) {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        p->has_f = 1;
        p->f = (float)a->f;
    } else {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        p->n_ints = (size_t)a->n;
        p->ints = make(w, (size_t)a->n, sizeof *p->ints);
        if (p->ints && a->n)
            memcpy(p->ints, a->list, (size_t)a->n * sizeof *p->ints);
    }
    return p;
}

/* Names without the absent ones at the end. */
static char **name_list(writer *w, const char *const *names, int n, size_t *out_n)
{
    char **list;

    while (n > 0 && !names[n - 1][0])
        n--;
    list = make(w, (size_t)n, sizeof *list);
    for (int i = 0; list && i < n; i++)
        list[i] = copy_text(w, names[i]);
    *out_n = (size_t)n;
    return list;
}

static void add_node(writer *w, const char *op, const char *const *in, int n_in, const char *const *out,
                     int n_out, const onnx_attr *attrs)
{
    Onnx__NodeProto *p = make(w, 1, sizeof *p);
    int n = 0;

    if (!p)
        return;
    onnx__node_proto__init(p);
    p->name = (char *)(uintptr_t)fresh_name(w, op);
    p->op_type = copy_text(w, op);
    p->input = name_list(w, in, n_in, &p->n_input);
    p->output = name_list(w, out, n_out, &p->n_output);
    while (attrs && attrs[n].name)
        n++;
    p->attribute = make(w, (size_t)n, sizeof(Onnx__AttributeProto *));
    for (int i = 0; p->attribute && i < n; i++)
        p->attribute[i] = attribute(w, &attrs[i]);
    p->n_attribute = (size_t)n;
    push(w, &w->nodes, p);
}

static void call_node(onnx_emit *e, const char *op, const char *const *in, int n_in, const char *const *out,
                      int n_out, const onnx_attr *attrs)
{
    add_node(e->writer, op, in, n_in, out, n_out, attrs);
}

/* Borrows the bytes. */
static void add_initializer(writer *w, const char *name, const heed_type *type, const void *data)
{
    Onnx__TensorProto *p = make(w, 1, sizeof *p);

    if (!p)
        return;
    onnx__tensor_proto__init(p);
    p->name = copy_text(w, name);
    p->has_data_type = 1;
    p->data_type = (int32_t)onnx_dtype(type->dtype);
    p->n_dims = (size_t)type->rank;
    p->dims = make(w, (size_t)type->rank, sizeof *p->dims);
    if (p->dims && type->rank)
        memcpy(p->dims, type->dims, (size_t)type->rank * sizeof *p->dims);
    p->has_raw_data = 1;
    p->raw_data.len = (size_t)heed_type_count(type) * heed_dtype_size(type->dtype);
    p->raw_data.data = (uint8_t *)(uintptr_t)data;
    push(w, &w->initializers, p);
}

/* The same list is written once. */
static const char *add_i64s(writer *w, const int64_t *list, int64_t n)
{
    const heed_type type = HEED_TYPE(HEED_I64, n);
    const size_t bytes = (size_t)n * sizeof *list;
    const char *name;
    int64_t *copy;

    for (size_t i = 0; i < w->initializers.n; i++) {
        const Onnx__TensorProto *p = w->initializers.list[i];

        if (p->data_type == (int32_t)onnx_dtype(HEED_I64) && p->n_dims == 1 && p->raw_data.len == bytes &&
            strncmp(p->name, SIZES_NAME, strlen(SIZES_NAME)) == 0 &&
            (!bytes || memcmp(p->raw_data.data, list, bytes) == 0))
            return p->name;
    }
    copy = make(w, (size_t)n, sizeof *copy);
    name = w->failed ? "" : heed__arena_format(&w->arena, SIZES_NAME "%" PRIu32, w->fresh++);
    if (!copy || !name) {
        out_of_memory(w);
        return "";
    }
    if (bytes)
        memcpy(copy, list, bytes);
    add_initializer(w, name, &type, copy);
    return name;
}

static const char *call_i64s(onnx_emit *e, const int64_t *list, int64_t n)
{
    return add_i64s(e->writer, list, n);
}

static const char *call_counting(onnx_emit *e, int64_t n)
{
    int64_t *list = make(e->writer, (size_t)n, sizeof *list);

    if (!list)
        return "";
    for (int64_t i = 0; i < n; i++)
        list[i] = i;
    return add_i64s(e->writer, list, n);
}

static const char *call_scalar(onnx_emit *e, heed_dtype dtype, double value)
{
    writer *w = e->writer;
    const heed_type type = heed_type_of(dtype, 0, NULL);
    const char *name = fresh_name(w, "number");
    void *data = make(w, 1, 8);

    if (!data)
        return "";
    heed__number_put(dtype, data, 0, value);
    add_initializer(w, name, &type, data);
    return name;
}

/* i64 [1]: the first size of input 0. */
static const char *batch_size(writer *w)
{
    if (!w->batch) {
        const int64_t begin = 0, end = 1;
        const char *in = NULL, *shape = fresh_name(w, "shape"), *batch = fresh_name(w, BATCH_NAME);

        for (uint32_t i = 0; i < w->g->n_nodes && !in; i++)
            if (heed__is_leaf(&w->g->nodes[i], &heed__op_input))
                in = w->names[w->g->nodes[i].first_out];
        if (!in)
            return "";
        add_node(w, "Shape", &in, 1, &shape, 1, NULL);
        add_node(w, "Slice", (const char *[]){ shape, add_i64s(w, &begin, 1), add_i64s(w, &end, 1) }, 3,
                 &batch, 1, NULL);
        w->batch = batch;
    }
    return w->batch;
}

static const char *call_shape(onnx_emit *e, const heed_type *t)
{
    writer *w = e->writer;
    const char *parts[HEED_MAX_RANK], *whole;
    int n = 0;

    for (int i = 0; i < t->rank;) {
        if (is_open(w, t->dims[i])) {
            const int64_t times = t->dims[i++] / HEED_ONNX_BATCH;

            parts[n] = batch_size(w);
            if (times != 1) {
                const char *product = fresh_name(w, "size");

                add_node(w, "Mul", (const char *[]){ parts[n], add_i64s(w, &times, 1) }, 2, &product, 1,
                         NULL);
                parts[n] = product;
            }
            n++;
        } else {
            int end = i;

            while (end < t->rank && !is_open(w, t->dims[end]))
                end++;
            parts[n++] = add_i64s(w, t->dims + i, end - i);
            i = end;
        }
    }
    if (n == 1)
        return parts[0];
    if (n == 0)
        return add_i64s(w, NULL, 0);
    whole = fresh_name(w, "sizes");
    add_node(w, "Concat", parts, n, &whole, 1, (onnx_attr[]){ ONNX_INT("axis", 0), ONNX_END });
    return whole;
}

static const onnx_calls writer_calls = {
    .node = call_node,
    .fresh = call_fresh,
    .i64s = call_i64s,
    .counting = call_counting,
    .scalar = call_scalar,
    .shape = call_shape,
    .dtype = onnx_dtype,
    .open = call_open,
    .refuse = call_refuse,
};

/* ---- which nodes ONNX knows ---- */

static bool is_used(const heed_graph *g, heed_value v)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i].value.id == v.id)
            return true;
    for (uint32_t i = g->values[v.id].node + 1; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k].id == v.id)
                return true;
    return false;
}

/* What the op's functions look at, but for names. */
typedef struct operands {
    heed_type in[OPERANDS_MOST], out[OP_OUT_MAX];
    bool want[OP_OUT_MAX];
} operands;

static onnx_emit look_at(writer *w, operands *o, const heed_graph *g, const node *n)
{
    for (int i = 0; i < n->n_in; i++)
        o->in[i] = n->in[i].id ? heed__value(g, n->in[i])->type : heed_type_of(HEED_F32, -1, NULL);
    for (int i = 0; i < n->n_out; i++) {
        o->out[i] = heed__value(g, heed__out(n, i))->type;
        o->want[i] = is_used(g, heed__out(n, i));
    }
    return (onnx_emit){ .name = n->op->onnx.name,
                        .attrs = n->attrs,
                        .in = o->in,
                        .out = o->out,
                        .want = o->want,
                        .n_in = n->n_in,
                        .n_out = n->n_out,
                        .opset = w->opset,
                        .to = &writer_calls,
                        .writer = w };
}

static bool knows(writer *w, operands *o, const heed_graph *g, const node *n)
{
    onnx_emit e;

    if (!n->op->onnx.name || n->op->onnx.since > w->opset || n->n_in > OPERANDS_MOST)
        return false;
    if (!n->op->onnx_accepts)
        return true;
    e = look_at(w, o, g, n);
    return n->op->onnx_accepts(&e);
}

typedef struct served {
    writer *w;
    operands *o;
} served;

static bool serves(const void *user, const heed_graph *g, const node *n)
{
    const served *s = user;

    return knows(s->w, s->o, g, n);
}

/* ---- nodes ---- */

static const node *stretched_by(const writer *w, heed_value v)
{
    const node *maker = heed__maker(w->g, v);

    return v.id && maker->op == &heed__op_broadcast ? maker : NULL;
}

static const char *name_of(writer *w, operands *o, heed_value v);

static void emit_node(writer *w, operands *o, const node *n, const char *const *in, const char *const *out)
{
    onnx_emit e = look_at(w, o, w->g, n);

    e.in_name = in;
    e.out_name = out;
    w->now = n;
    if (n->op->onnx_emit)
        n->op->onnx_emit(&e);
    else
        heed__onnx_node(&e, NULL);
}

/* A value's name. A broadcast is written when somebody asks for it. */
static const char *name_of(writer *w, operands *o, heed_value v)
{
    if (!v.id)
        return "";
    if (!w->names[v.id]) { /* then it is a broadcast, of what is written or of another one */
        const node *n = heed__maker(w->g, v);
        const char *in = name_of(w, o, n->in[0]), *out = fresh_name(w, "Expand");

        emit_node(w, o, n, &in, &out);
        w->names[v.id] = out;
    }
    return w->names[v.id];
}

/* Would NumPy's rule, on all axes but the last `kept`, make `out` of these operands as they are before
 * broadcasting? */
static bool stretch_agrees(const writer *w, const node *n, int kept)
{
    const heed_type *out = &heed__value(w->g, heed__out(n, 0))->type;

    for (int k = 0; k < out->rank - kept; k++) { /* from the right, behind those kept */
        const int axis = out->rank - kept - 1 - k;
        int64_t joined = 1;

        for (int i = 0; i < n->n_in; i++) {
            const node *b = stretched_by(w, n->in[i]);
            const heed_type *t = &heed__value(w->g, b ? b->in[0] : n->in[i])->type;
            const int at = t->rank - kept - 1 - k;

            if (at >= 0 && t->dims[at] != 1)
                joined = t->dims[at];
        }
        if (joined != out->dims[axis])
            return false;
    }
    for (int i = 0; i < n->n_in && kept; i++) {
        const node *b = stretched_by(w, n->in[i]);
        const heed_type *whole = &heed__value(w->g, n->in[i])->type,
                        *t = b ? &heed__value(w->g, b->in[0])->type : whole;

        for (int k = 1; k <= kept; k++)
            if (t->rank < kept || t->dims[t->rank - k] != whole->dims[whole->rank - k])
                return false;
    }
    return true;
}

static void write_node(writer *w, operands *o, const node *n)
{
    const int kept = n->op->flags & OP_STRETCHES ? 0 : n->op->flags & OP_STRETCHES_LEADING ? 2 : -1;
    const bool stretches = kept >= 0 && stretch_agrees(w, n, kept);
    const char **in = make(w, (size_t)n->n_in, sizeof *in), *out[OP_OUT_MAX];

    if (!in)
        return;
    for (int i = 0; i < n->n_in; i++) {
        const node *b = stretches ? stretched_by(w, n->in[i]) : NULL;

        in[i] = name_of(w, o, b ? b->in[0] : n->in[i]);
    }
    w->now = n;
    for (int i = 0; i < n->n_out; i++) {
        const heed_value v = heed__out(n, i);

        out[i] = is_used(w->g, v) ? w->names[v.id] : "";
        if (is_used(w->g, v) && !out[i])
            out[i] = w->names[v.id] = fresh_name(w, n->op->onnx.name);
    }
    emit_node(w, o, n, in, out);
}

/* ---- the ends of the graph ---- */

static Onnx__ValueInfoProto *value_info_of(writer *w, const char *name, const heed_type *type)
{
    Onnx__ValueInfoProto *p = make(w, 1, sizeof *p);
    Onnx__TypeProto *t = make(w, 1, sizeof *t);
    Onnx__TypeProto__Tensor *tensor = make(w, 1, sizeof *tensor);
    Onnx__TensorShapeProto *shape = make(w, 1, sizeof *shape);

    if (w->failed)
        return NULL;
    onnx__value_info_proto__init(p);
    onnx__type_proto__init(t);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    p->name = copy_text(w, name);
    p->type = t;
    t->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = (int32_t)onnx_dtype(type->dtype);
    tensor->shape = shape;
    shape->n_dim = (size_t)type->rank;
    shape->dim = make(w, (size_t)type->rank, sizeof(Onnx__TensorShapeProto__Dimension *));
    for (int i = 0; shape->dim && i < type->rank; i++) {
        Onnx__TensorShapeProto__Dimension *d = make(w, 1, sizeof *d);

        if (!d)
            return NULL;
        onnx__tensor_shape_proto__dimension__init(d);
        shape->dim[i] = d;
        if (!is_open(w, type->dims[i])) {
            d->has_dim_value = 1;
            d->dim_value = type->dims[i];
        } else if (type->dims[i] == HEED_ONNX_BATCH) {
            d->dim_param = copy_text(w, BATCH_NAME);
        }
    }
    return p;
}

static void write_input(writer *w, const node *n, const char *name)
{
    const heed_type *type = &heed__value(w->g, heed__out(n, 0))->type;

    if (w->open && (type->rank == 0 || type->dims[0] != HEED_ONNX_BATCH)) {
        w->failed = heed__fail_at(
            w->err, HEED_ERR_USAGE, n->path,
            "an open batch needs a graph built for %d rows (HEED_ONNX_BATCH): input \"%.60s\" has "
            "another first size",
            HEED_ONNX_BATCH, n->path);
        return;
    }
    w->names[n->first_out] = copy_text(w, name);
    push(w, &w->inputs, value_info_of(w, name, type));
}

static void write_constant(writer *w, const node *n, const heed_type *type, const char *name,
                           const void *data)
{
    for (int i = 0; i < type->rank && !w->failed; i++)
        if (is_open(w, type->dims[i]))
            w->failed = heed__fail_at(w->err, HEED_ERR_SPEC, n->path,
                                      "\"%.60s\" has a size of %" PRId64
                                      ", which cannot be told from the open batch; use fixed_batch",
                                      name, type->dims[i]);
    w->names[n->first_out] = name;
    add_initializer(w, name, type, data);
}

static void write_leaf(writer *w, const node *n)
{
    const heed_type *type = &heed__value(w->g, heed__out(n, 0))->type;
    heed_tensor t;

    if (heed__is_leaf(n, &heed__op_constant)) {
        w->now = n;
        write_constant(w, n, type, fresh_name(w, "constant"), heed__constant_data(w->g, heed__out(n, 0)));
        return;
    }
    t = heed_weights_find(w->weights, n->path);
    if (!heed_type_equal(&t.type, type))
        w->failed = heed__fail_at(
            w->err, HEED_ERR_USAGE, n->path,
            "the weights have no \"%.100s\" of the graph's type; make or load them first", n->path);
    else
        write_constant(w, n, type, n->path, t.data);
}

/* Nodes that outputs need. */
static void find_live(writer *w)
{
    const heed_graph *g = w->g;

    for (uint32_t i = 0; i < g->n_outputs; i++)
        w->live[g->values[g->outputs[i].value.id].node] = true;
    for (uint32_t i = g->n_nodes; i-- > 0;)
        for (int k = 0; w->live[i] && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k].id)
                w->live[g->values[g->nodes[i].in[k].id].node] = true;
}

/* An output's name goes to the value itself, unless that has a name: then a copy gets it. */
static void name_outputs(writer *w, const char *const *names)
{
    for (uint32_t i = 0; i < w->g->n_outputs; i++) {
        const heed_value v = w->g->outputs[i].value;
        const node *maker = heed__maker(w->g, v);

        if (!w->names[v.id] && !(maker->op->flags & OP_LEAF) && maker->op != &heed__op_broadcast)
            w->names[v.id] = names ? names[i] : w->g->outputs[i].name;
    }
}

/* Names of inputs, weights and outputs are the user's: no two may be equal. */
static void check_output_name(writer *w, const char *name)
{
    bool taken = false;

    for (size_t i = 0; i < w->inputs.n; i++)
        taken = taken || strcmp(((const Onnx__ValueInfoProto *)w->inputs.list[i])->name, name) == 0;
    for (size_t i = 0; i < w->outputs.n; i++)
        taken = taken || strcmp(((const Onnx__ValueInfoProto *)w->outputs.list[i])->name, name) == 0;
    for (size_t i = 0; i < w->initializers.n; i++)
        taken = taken || strcmp(((const Onnx__TensorProto *)w->initializers.list[i])->name, name) == 0;
    if (taken && !w->failed)
        w->failed =
            heed__fail_at(w->err, HEED_ERR_USAGE, name,
                          "the output's name \"%.60s\" is also that of an input, a weight or another output; "
                          "give others by output_names",
                          name);
}

static void write_outputs(writer *w, operands *o, const char *const *names)
{
    for (uint32_t i = 0; i < w->g->n_outputs; i++) {
        const heed_value v = w->g->outputs[i].value;
        const char *name = names ? names[i] : w->g->outputs[i].name, *have = name_of(w, o, v);

        check_output_name(w, name);
        if (have != name)
            add_node(w, "Identity", &have, 1, &name, 1, NULL);
        push(w, &w->outputs, value_info_of(w, name, &heed__value(w->g, v)->type));
    }
}

static heed_status write_graph(writer *w, operands *o, const heed_onnx_opts *opts)
{
    const char *const *in_names = opts ? opts->input_names : NULL, *const *out_names =
                                                                       opts ? opts->output_names : NULL;
    uint32_t inputs = 0;

    find_live(w);
    name_outputs(w, out_names);
    for (uint32_t i = 0; i < w->g->n_nodes && !w->failed; i++) {
        const node *n = &w->g->nodes[i];

        if (heed__is_leaf(n, &heed__op_input)) {
            write_input(w, n, in_names ? in_names[inputs] : n->path);
            inputs++;
        } else if (!w->live[i]) {
            continue;
        } else if (n->op->flags & OP_LEAF) {
            write_leaf(w, n);
        } else if (!knows(w, o, w->g, n)) {
            w->failed = heed__fail_at(w->err, HEED_ERR_MISSING, n->path,
                                      "%s has no counterpart in ONNX at opset %d", n->op->name, w->opset);
        } else if (n->op != &heed__op_broadcast) {
            write_node(w, o, n);
        }
    }
    if (!w->failed)
        write_outputs(w, o, out_names);
    return w->failed;
}

/* ---- the file ---- */

/* Collects small pieces; large ones go straight to the file. */
typedef struct sink {
    ProtobufCBuffer base; /* first: protobuf-c hands it back */
    file_writer *file;
    heed_status failed;
    heed_error *err;
    size_t used;
    uint8_t block[65536];
} sink;

static void sink_flush(sink *s)
{
    if (!s->failed && s->used)
        s->failed = heed__file_put(s->file, s->block, s->used, s->err);
    s->used = 0;
}

static void sink_append(ProtobufCBuffer *buffer, size_t n, const uint8_t *bytes)
{
    sink *s = (sink *)buffer;

    if (n > sizeof s->block - s->used)
        sink_flush(s);
    if (n > sizeof s->block) {
        if (!s->failed)
            s->failed = heed__file_put(s->file, bytes, n, s->err);
    } else if (n) {
        memcpy(s->block + s->used, bytes, n);
        s->used += n;
    }
}

static heed_status write_model(writer *w, const char *path, const Onnx__ModelProto *model)
{
    sink *s = heed__alloc(w->ctx->heap, 1, sizeof *s);
    heed_status st;

    if (!s)
        return heed__fail_memory(w->err, sizeof *s);
    s->base.append = sink_append;
    s->err = w->err;
    st = heed__file_begin(&s->file, w->ctx, path, w->err);
    if (st == HEED_OK) {
        onnx__model_proto__pack_to_buffer(model, &s->base);
        sink_flush(s);
        st = s->failed;
        if (st == HEED_OK)
            st = heed__file_commit(s->file, w->err);
        else
            heed__file_cancel(s->file);
    }
    heed__release(w->ctx->heap, s);
    return st;
}

static uint64_t initializer_bytes(const writer *w)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < w->initializers.n; i++)
        bytes += ((const Onnx__TensorProto *)w->initializers.list[i])->raw_data.len;
    return bytes;
}

static heed_status write_tree(writer *w, const char *path)
{
    char domain[] = "", producer[] = "heed", version[] = HEED_VERSION, name[] = "heed";
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = { &opset };
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;

    opset.domain = domain;
    opset.has_version = 1;
    opset.version = w->opset;
    graph.name = name;
    graph.node = (Onnx__NodeProto **)w->nodes.list;
    graph.n_node = w->nodes.n;
    graph.initializer = (Onnx__TensorProto **)w->initializers.list;
    graph.n_initializer = w->initializers.n;
    graph.input = (Onnx__ValueInfoProto **)w->inputs.list;
    graph.n_input = w->inputs.n;
    graph.output = (Onnx__ValueInfoProto **)w->outputs.list;
    graph.n_output = w->outputs.n;
    model.has_ir_version = 1;
    model.ir_version = w->opset >= 19 ? 9 : 8;
    model.producer_name = producer;
    model.producer_version = version;
    model.graph = &graph;
    model.opset_import = opsets;
    model.n_opset_import = 1;
    if (initializer_bytes(w) > BYTES_MOST || onnx__model_proto__get_packed_size(&model) > BYTES_MOST)
        return heed__fail_at(w->err, HEED_ERR_LIMIT, path,
                             "an ONNX file has at most 2 GiB, and these weights need more");
    return write_model(w, path, &model);
}

static heed_status check_call(const heed_graph *g, const char *path, const heed_onnx_opts *opts, int *opset,
                              heed_error *err)
{
    *opset = opts && opts->opset ? opts->opset : OPSET_LEAST;
    if (*opset < OPSET_LEAST || *opset > OPSET_MOST)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "opset %d is outside %d to %d", *opset, OPSET_LEAST,
                             OPSET_MOST);
    if (g->n_assigns > 0)
        return heed__fail_at(err, HEED_ERR_SPEC, path,
                             "the graph changes states, as in training; build it for evaluation (HEED_EVAL)");
    return HEED_OK;
}

heed_status heed_onnx_write(heed_context *ctx, const char *path, const heed_graph *g,
                            const heed_weights *weights, const heed_onnx_opts *opts, heed_error *err)
{
    writer w = { .ctx = ctx, .weights = weights, .open = !(opts && opts->fixed_batch), .err = err };
    operands *o = heed__alloc(ctx->heap, 1, sizeof *o);
    heed_graph *opened = NULL, *simple = NULL;
    heed_status st;

    heed__arena_init(&w.arena, ctx->heap);
    if (!o) {
        st = heed__fail_memory(err, sizeof *o);
        goto done;
    }
    STEP(check_call(g, path, opts, &w.opset, err));
    STEP(heed__pass_open(&opened, g, serves, &(served){ &w, o }, err));
    STEP(heed__pass_simplify(&simple, opened, err));
    w.g = simple;
    w.names = heed__arena_alloc(&w.arena, simple->n_values, sizeof *w.names);
    w.live = heed__arena_alloc(&w.arena, simple->n_nodes, sizeof *w.live);
    if (!w.names || !w.live) {
        st = heed__fail_memory(err, simple->n_values * sizeof *w.names);
        goto done;
    }
    STEP(write_graph(&w, o, opts));
    STEP(write_tree(&w, path));
done:
    heed_graph_free(simple);
    heed_graph_free(opened);
    heed__arena_release(&w.arena);
    heed__release(ctx->heap, o);
    return st;
}

#endif
