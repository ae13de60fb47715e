/* From a lowered graph to steps: views become strides, operands a kernel cannot take get one copy, states that cannot be
 * written through get a copy at the end. memory.c then decides what shares memory. */

#include "base/error.h"
#include "plan/plan.h"

#include <string.h>

/* While planning: where each value of the graph lies. */
typedef struct planner {
    heed_plan *p;
    operand *place; /* by value; storage NO_STORAGE: not made */
    operand *dense; /* a dense copy of a view, made once */
    uint32_t *order; /* nodes of the graph as they run */
    bool *used;     /* some step, output or assign reads it */
    const heed_graph *g;
    heed_kernels kernels;
} planner;

static bool grow(heed_plan *p, void **array, uint32_t *room, uint32_t used, size_t size)
{
    void *bigger;

    if (used < *room)
        return true;
    bigger = heed__resize(p->ctx->heap, *array, 2 * (size_t)*room + 64, size);
    if (!bigger)
        return false;
    *array = bigger;
    *room = 2 * *room + 64;
    return true;
}

static heed_status new_storage(heed_plan *p, uint32_t *out, storage_kind kind, uint64_t bytes,
                               heed_error *err)
{
    if (!grow(p, (void **)&p->storages, &p->room_storages, p->n_storages, sizeof *p->storages))
        return heed__fail_memory(err, 0);
    p->storages[p->n_storages] = (storage){ .kind = kind,
                                            .bytes = bytes,
                                            .first = (int32_t)p->n_steps,
                                            .last = (int32_t)p->n_steps,
                                            .merged = p->n_storages };
    *out = p->n_storages++;
    return HEED_OK;
}

static heed_status type_bytes(uint64_t *out, const heed_type *type, heed_error *err)
{
    size_t bytes;

    if (!heed__size_mul(&bytes, (size_t)heed_type_count(type), heed_dtype_size(type->dtype)) ||
        bytes > PLAN_BYTES_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "a tensor of this plan has more bytes than can be addressed");
    *out = bytes;
    return HEED_OK;
}

/* A dense value of its own in the block. */
static heed_status new_value(heed_plan *p, operand *out, const heed_type *type, heed_error *err)
{
    uint64_t bytes = 0;

    *out = (operand){ .view = heed__view(NULL, type) };
    TRY(type_bytes(&bytes, type, err));
    return new_storage(p, &out->storage, STORAGE_BLOCK, bytes, err);
}

static heed_status new_step(heed_plan *p, step **out, const op_def *op, const op_kernel *kernel,
                            const void *attrs, const char *path, int n_in, int n_out, heed_error *err)
{
    step *s;

    if (!grow(p, (void **)&p->steps, &p->room_steps, p->n_steps, sizeof *p->steps))
        return heed__fail_memory(err, 0);
    s = &p->steps[p->n_steps];
    *s = (step){ .op = op,
                 .kernel = kernel,
                 .attrs = attrs,
                 .path = path,
                 .n_in = n_in,
                 .n_out = n_out,
                 .scratch = NO_STORAGE,
                 .shared = NO_STORAGE,
                 .partial = NO_STORAGE };
    s->in = heed__arena_alloc(&p->arena, (size_t)n_in, sizeof *s->in);
    s->out = heed__arena_alloc(&p->arena, (size_t)n_out, sizeof *s->out);
    if (!s->in || !s->out)
        return heed__fail_memory(err, 0);
    *out = s;
    return HEED_OK;
}

/* Nothing to write, however many rows without elements there are, and nothing to look for. */
static bool without_work(const step *s)
{
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i].storage != NO_STORAGE && heed_type_count(&s->out[i].view.type) > 0)
            return false;
    return !(s->op->flags & OP_FAULTS);
}

/* Sizes of the step's work and scratch, from the call it will get. Ends the step. */
static heed_status finish_step(heed_plan *p, step *s, heed_error *err)
{
    view *in = heed__alloc(p->ctx->heap, (size_t)s->n_in + 1, sizeof *in), out[OP_OUT_MAX];
    op_call c;
    size_t bytes;

    if (!in)
        return heed__fail_memory(err, 0);
    for (int i = 0; i < s->n_in; i++)
        in[i] = s->in[i].view;
    for (int i = 0; i < s->n_out; i++)
        out[i] = s->out[i].view;
    c = (op_call){ .attrs = s->attrs,
                   .in = in,
                   .out = out,
                   .n_in = s->n_in,
                   .n_out = s->n_out,
                   .isa = p->ctx->isa,
                   .row = heed__row_ops(p->ctx->isa),
                   .gemm = heed__gemm_ops(p->ctx->isa) };
    s->count = without_work(s) ? 0 : s->kernel->count ? s->kernel->count(&c) : heed_type_count(&out[0].type);
    s->chunk = s->kernel->chunk_of ? s->kernel->chunk_of(&c) : s->kernel->chunk;
    s->chunk = i64_max(1, s->chunk ? s->chunk : s->count);
    s->chunks = i64_ceil_div(s->count, s->chunk);
    s->prepare_count = s->kernel->prepare_count ? s->kernel->prepare_count(&c) : 0;
    s->gather_count = s->kernel->gather_count ? s->kernel->gather_count(&c) : 0;
    s->scratch_bytes = s->kernel->scratch ? s->kernel->scratch(&c) : 0;
    s->shared_bytes = s->kernel->shared ? s->kernel->shared(&c) : 0;
    s->partial_stride = s->kernel->partial ? s->kernel->partial(&c) : 0;
    s->flops = s->op->flops             ? s->op->flops(&c)
               : s->op->flags & OP_VIEW ? 0
                                        : (double)heed_type_count(&out[0].type);
    heed__release(p->ctx->heap, in);
    if (s->scratch_bytes > PLAN_BYTES_MOST || s->shared_bytes > PLAN_BYTES_MOST ||
        s->partial_stride > PLAN_BYTES_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "%s: scratch memory has more bytes than can be addressed",
                          s->op->name);
    s->scratch_bytes = (s->scratch_bytes + 63) & ~(uint64_t)63;
    s->partial_stride = (s->partial_stride + 63) & ~(uint64_t)63;
    if (s->scratch_bytes) {
        if (!heed__size_mul(&bytes, s->scratch_bytes,
                            (size_t)SCRATCH_AREAS * (size_t)heed__pool_threads(p->ctx->pool)) ||
            bytes > PLAN_BYTES_MOST)
            return heed__fail(err, HEED_ERR_LIMIT, "%s: scratch memory has more bytes than can be addressed",
                              s->op->name);
        TRY(new_storage(p, &s->scratch, STORAGE_BLOCK, bytes, err));
    }
    if (s->shared_bytes)
        TRY(new_storage(p, &s->shared, STORAGE_BLOCK, s->shared_bytes, err));
    if (s->partial_stride) {
        if (!heed__size_mul(&bytes, s->partial_stride, (size_t)s->chunks) || bytes > PLAN_BYTES_MOST)
            return heed__fail(err, HEED_ERR_LIMIT, "%s: partial sums have more bytes than can be addressed",
                              s->op->name);
        TRY(new_storage(p, &s->partial, STORAGE_BLOCK, bytes, err));
    }
    p->report.flops += s->flops;
    p->n_steps++;
    return HEED_OK;
}

/* ---- copies ---- */

static heed_status add_copy(heed_plan *p, const operand *from, operand *to, const char *path, heed_error *err)
{
    const op_def *copy = heed__op_find("copy");
    view in = from->view, out = to->view;
    op_call c = {
        .in = &in, .out = &out, .n_in = 1, .n_out = 1, .isa = p->ctx->isa, .row = heed__row_ops(p->ctx->isa)
    };
    const op_kernel *kernel = copy ? heed__plan_kernel(copy, &c, HEED_KERNELS_FAST, NULL) : NULL;
    step *s;

    if (!kernel)
        return heed__fail(err, HEED_ERR_BUG, "there is no kernel that copies");
    TRY(new_step(p, &s, copy, kernel, NULL, path, 1, 1, err));
    s->in[0] = *from;
    s->out[0] = *to;
    p->report.copies++;
    return finish_step(p, s, err);
}

static bool last_axis_dense(const view *v)
{
    return v->type.rank == 0 || v->type.dims[v->type.rank - 1] <= 1 || v->strides[v->type.rank - 1] == 1;
}

static bool layout_fits(const view *v, enum kernel_layout layout)
{
    return layout == STRIDED || (layout == ROWS ? last_axis_dense(v) : heed__view_dense(v));
}

/* The value as the kernel takes it: itself, or its one dense copy. */
static heed_status fitting(planner *w, operand *out, heed_value v, enum kernel_layout layout,
                           const char *path, heed_error *err)
{
    if (layout_fits(&w->place[v.id].view, layout)) {
        *out = w->place[v.id];
        return HEED_OK;
    }
    if (w->dense[v.id].storage == NO_STORAGE) {
        operand made;

        TRY(new_value(w->p, &made, &w->place[v.id].view.type, err));
        TRY(add_copy(w->p, &w->place[v.id], &made, path, err));
        w->dense[v.id] = made;
    }
    *out = w->dense[v.id];
    return HEED_OK;
}

/* ---- nodes ---- */

static heed_status plan_leaf(planner *w, const node *n, heed_error *err)
{
    heed_plan *p = w->p;
    const heed_value v = heed__out(n, 0);
    const leaf_attrs *a = n->attrs;
    operand *at = &w->place[v.id];
    uint64_t bytes = 0;

    *at = (operand){ .view = heed__view(NULL, &a->type) };
    TRY(type_bytes(&bytes, &a->type, err));
    if (n->op == &heed__op_constant) {
        TRY(new_storage(p, &at->storage, STORAGE_CONSTANT, bytes, err));
        p->storages[at->storage].data = a->data;
    } else if (n->op == &heed__op_input) {
        TRY(new_storage(p, &at->storage, STORAGE_INPUT, bytes, err));
        p->storages[at->storage].index = p->n_inputs;
        p->inputs[p->n_inputs++] = (plan_name){ n->path, *at };
    } else {
        TRY(new_storage(p, &at->storage, STORAGE_WEIGHT, bytes, err));
        p->storages[at->storage].index = p->n_weights;
        p->weights[p->n_weights++] = (plan_weight){ n->path, *a, n->op == &heed__op_param };
        p->report.weight_bytes += bytes;
    }
    return HEED_OK;
}

static bool try_view(planner *w, const node *n, const operand *from)
{
    operand *at = &w->place[n->first_out];
    view out = { .type = heed__value(w->g, heed__out(n, 0))->type };
    int64_t offset = 0;

    if (!n->op->view(n->attrs, &from->view, &out, &offset))
        return false;
    *at = (operand){ .view = out,
                     .storage = from->storage,
                     .offset = from->offset + offset * (int64_t)heed_dtype_size(out.type.dtype) };
    return true;
}

static heed_status plan_view(planner *w, const node *n, heed_error *err)
{
    uint64_t bytes;
    operand from;

    TRY(type_bytes(&bytes, &heed__value(w->g, heed__out(n, 0))->type,
                   err)); /* a kernel may go by the size it sees */
    if (try_view(w, n, &w->place[n->in[0].id]))
        return HEED_OK;
    TRY(fitting(w, &from, n->in[0], DENSE, n->path, err));
    if (!try_view(w, n, &from))
        return heed__fail_at(err, HEED_ERR_BUG, n->path, "%s: a dense tensor cannot be viewed", n->op->name);
    return HEED_OK;
}

static heed_status plan_node(planner *w, const node *n, heed_error *err)
{
    heed_plan *p = w->p;
    view in_few[OP_IN_MAX], out[OP_OUT_MAX], *in = in_few;
    const op_kernel *kernel;
    text passed;
    op_call c;
    step made = { .n_in = n->n_in }, *s;
    bool lost;
    operand *operands = heed__arena_alloc(&p->arena, (size_t)n->n_in, sizeof *operands);

    if (n->n_in > OP_IN_MAX)
        in = heed__arena_alloc(&p->arena, (size_t)n->n_in, sizeof *in);
    if (!operands || !in)
        return heed__fail_memory(err, 0);
    heed__text_init(&passed, p->ctx->heap, 256);
    c = heed__plan_call(p->ctx, w->g, n, in, out);
    kernel = heed__plan_kernel(n->op, &c, w->kernels, &passed);
    made.passed_over = passed.size ? heed__arena_string(&p->arena, passed.data) : NULL;
    lost = passed.failed == HEED_ERR_MEMORY || (passed.size && !made.passed_over);
    heed__text_release(&passed);
    if (lost)
        return heed__fail_memory(err, 0);
    if (!kernel)
        return heed__fail_at(err, HEED_ERR_MISSING, n->path,
                             "%s of %s: no kernel serves this; cast to f32 first", n->op->name,
                             heed_dtype_name(out[0].type.dtype));
    for (int i = 0; i < n->n_in; i++) {
        operands[i] = (operand){ .storage = NO_STORAGE, .view.type.rank = -1 };
        if (n->in[i].id)
            TRY(fitting(w, &operands[i], n->in[i],
                        i < 64 && kernel->dense_in >> i & 1 ? DENSE : kernel->layout, n->path, err));
    }
    TRY(new_step(p, &s, n->op, kernel, n->attrs, n->path, n->n_in, n->n_out, err));
    s->passed_over = made.passed_over;
    if (n->n_in > 0)
        memcpy(s->in, operands, (size_t)n->n_in * sizeof *operands);
    for (int i = 0; i < n->n_out; i++) {
        const heed_value v = heed__out(n, i);

        s->out[i] = (operand){ .view = heed__view(NULL, &heed__value(w->g, v)->type), .storage = NO_STORAGE };
        if (w->used[v.id]) {
            TRY(new_value(p, &s->out[i], &heed__value(w->g, v)->type, err));
            w->place[v.id] = s->out[i];
        }
    }
    return finish_step(p, s, err);
}

/* ---- the end of a run ---- */

static bool is_assigned(const heed_graph *g, const heed_plan *p, uint32_t storage_id)
{
    const storage *st = &p->storages[storage_id];

    for (uint32_t i = 0; st->kind == STORAGE_WEIGHT && i < g->n_assigns; i++)
        if (strcmp(heed__maker(g, g->assigns[i].state)->path, p->weights[st->index].path) == 0)
            return true;
    return false;
}

/* Outputs are copied out dense; one that lies in a state about to change is copied before. */
static heed_status plan_outputs(planner *w, heed_error *err)
{
    heed_plan *p = w->p;

    for (uint32_t i = 0; i < w->g->n_outputs; i++) {
        const heed_value v = w->g->outputs[i].value;
        operand *at = &w->place[v.id], made;

        if (!heed__view_dense(&at->view) || is_assigned(w->g, p, at->storage)) {
            TRY(new_value(p, &made, &at->view.type, err));
            TRY(add_copy(p, at, &made, "outputs", err));
            at = &made;
        }
        p->outputs[p->n_outputs++] = (plan_name){ w->g->outputs[i].name, *at };
    }
    return HEED_OK;
}

/* All of the state, as it lies in memory: nothing to copy. */
static bool is_itself(const operand *value, const operand *state)
{
    return value->storage == state->storage && value->offset == 0 && heed__view_dense(&value->view);
}

/* state <- value, after all else. A value that lies in an assigned state (another one, or other places of the same) is saved
 * first: all see the old values. */
static heed_status plan_assigns(planner *w, heed_error *err)
{
    const heed_graph *g = w->g;
    operand *from = heed__arena_alloc(&w->p->arena, (size_t)g->n_assigns + 1, sizeof *from);

    if (!from)
        return heed__fail_memory(err, g->n_assigns * sizeof *from);
    for (uint32_t i = 0; i < g->n_assigns; i++) {
        from[i] = w->place[g->assigns[i].value.id];
        if (is_assigned(g, w->p, from[i].storage) &&
            !is_itself(&from[i], &w->place[g->assigns[i].state.id])) {
            operand saved;

            TRY(new_value(w->p, &saved, &from[i].view.type, err));
            TRY(add_copy(w->p, &from[i], &saved, "assign", err));
            from[i] = saved;
        }
    }
    for (uint32_t i = 0; i < g->n_assigns; i++) {
        operand *state = &w->place[g->assigns[i].state.id];

        if (!is_itself(&from[i], state))
            TRY(add_copy(w->p, &from[i], state, heed__maker(g, g->assigns[i].state)->path, err));
    }
    return HEED_OK;
}

static void mark_used(planner *w)
{
    for (uint32_t i = 0; i < w->g->n_nodes; i++)
        for (int j = 0; j < w->g->nodes[i].n_in; j++)
            w->used[w->g->nodes[i].in[j].id] = true;
    for (uint32_t i = 0; i < w->g->n_outputs; i++)
        w->used[w->g->outputs[i].value.id] = true;
    for (uint32_t i = 0; i < w->g->n_assigns; i++)
        w->used[w->g->assigns[i].value.id] = true;
}

static heed_status plan_steps(planner *w, heed_error *err)
{
    for (uint32_t i = 0; i < w->g->n_nodes; i++) {
        const node *n = &w->g->nodes[w->order[i]];

        if (n->op->flags & OP_LEAF)
            TRY(plan_leaf(w, n, err));
        else if (n->op->flags & OP_VIEW)
            TRY(plan_view(w, n, err));
        else
            TRY(plan_node(w, n, err));
    }
    TRY(plan_outputs(w, err));
    return plan_assigns(w, err);
}

heed_status heed_plan_new(heed_plan **out, heed_context *ctx, const heed_graph *g, const heed_plan_opts *opts,
                          heed_error *err)
{
    heap *h = ctx->heap;
    heed_plan *p = heed__alloc(h, 1, sizeof *p);
    planner w = { .p = p, .kernels = opts ? opts->kernels : HEED_KERNELS_FAST };
    heed_status st;

    if (!p)
        return heed__fail_memory(err, sizeof *p);
    p->ctx = ctx;
    p->direct = opts && opts->results == HEED_RESULTS_DIRECT;
    heed__arena_init(&p->arena, h);
    STEP(heed__plan_lower(&p->graph, g, ctx, opts, err));
    w.g = p->graph;
    w.place = heed__alloc(h, w.g->n_values, sizeof *w.place);
    w.dense = heed__alloc(h, w.g->n_values, sizeof *w.dense);
    w.used = heed__alloc(h, w.g->n_values, sizeof *w.used);
    w.order = heed__alloc(h, (size_t)w.g->n_nodes + 1, sizeof *w.order);
    p->inputs = heed__arena_alloc(&p->arena, w.g->n_nodes + 1, sizeof *p->inputs);
    p->weights = heed__arena_alloc(&p->arena, w.g->n_nodes + 1, sizeof *p->weights);
    p->outputs = heed__arena_alloc(&p->arena, w.g->n_outputs + 1, sizeof *p->outputs);
    if (!w.place || !w.dense || !w.used || !w.order || !p->inputs || !p->weights || !p->outputs) {
        st = heed__fail_memory(err, w.g->n_values * sizeof *w.place);
        goto done;
    }
    for (uint32_t i = 0; i < w.g->n_values; i++)
        w.place[i].storage = w.dense[i].storage = NO_STORAGE;
    mark_used(&w);
    STEP(heed__plan_order(w.order, ctx, w.g, err));
    STEP(plan_steps(&w, err));
    p->report.nodes = (int64_t)w.g->n_nodes;
    p->report.steps = (int64_t)p->n_steps;
    p->report.threads = heed__pool_threads(ctx->pool);
    p->report.isa = ctx->isa;
    STEP(heed__plan_memory(p, err));
    *out = p;
    p = NULL;
done:
    heed__release(h, w.place);
    heed__release(h, w.dense);
    heed__release(h, w.used);
    heed__release(h, w.order);
    heed_plan_free(p);
    return st;
}

void heed_plan_free(heed_plan *p)
{
    heap *h;

    if (!p)
        return;
    h = p->ctx->heap;
    heed_graph_free(p->graph);
    heed__arena_release(&p->arena);
    heed__release(h, p->steps);
    heed__release(h, p->storages);
    heed__release(h, p);
}

heed_plan_report heed_plan_describe(const heed_plan *p)
{
    return p->report;
}

int heed_plan_inputs(const heed_plan *p)
{
    return (int)p->n_inputs;
}

int heed_plan_outputs(const heed_plan *p)
{
    return (int)p->n_outputs;
}

const char *heed_plan_input_name(const heed_plan *p, int i)
{
    return i >= 0 && i < (int)p->n_inputs ? p->inputs[i].name : "";
}

const char *heed_plan_output_name(const heed_plan *p, int i)
{
    return i >= 0 && i < (int)p->n_outputs ? p->outputs[i].name : "";
}

heed_type heed_plan_input_type(const heed_plan *p, int i)
{
    return i >= 0 && i < (int)p->n_inputs ? p->inputs[i].operand.view.type
                                          : (heed_type){ HEED_F32, 0, { 0 } };
}

heed_type heed_plan_output_type(const heed_plan *p, int i)
{
    return i >= 0 && i < (int)p->n_outputs ? p->outputs[i].operand.view.type
                                           : (heed_type){ HEED_F32, 0, { 0 } };
}
