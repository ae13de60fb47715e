/* Which kernel runs each part of the operator, why each faster one does not, and what it costs: from the graph as it was built,
 * in which a part is one node whether a kernel serves it or it will be opened; but probes that backward gives are folded. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"
#include "cpu/attention.h"
#include "plan/plan.h"

#include <string.h>

static bool plan_is_part(const op_def *op)
{
    return op == &heed__op_attention || op == &heed__op_attention_grad || op == &heed__op_attention_probe ||
           op == &heed__op_linear_attention || op == &heed__op_linear_attention_grad;
}

/* Nodes that a result needs: marked from the outputs back. */
static bool *plan_live(const heed_attend *a, const heed_graph *g)
{
    bool *live = heed__alloc(a->ctx->heap, (size_t)g->n_nodes + 1, sizeof *live);

    if (!live)
        return NULL;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        live[heed__value(g, g->outputs[i].value)->node] = true;
    for (uint32_t i = g->n_nodes; i-- > 0;)
        for (int k = 0; live[i] && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k].id)
                live[heed__value(g, g->nodes[i].in[k])->node] = true;
    return live;
}

static const char *plan_gives(const node *n)
{
    const attention_attrs *a = n->op == &heed__op_attention_grad ? n->attrs : NULL;

    return !a                          ? ""
           : a->pooled_q && a->received ? "pooled, received"
           : a->pooled_q                ? "pooled"
           : a->received                ? "received"
                                        : "";
}

/* What serves a node of g, and what does not. */
static heed_status plan_describe(heed_attend *a, const heed_graph *g, const node *n, heed_attend_part *p,
                                 heed_error *err)
{
    view in[OP_IN_MAX], out[OP_OUT_MAX];
    const op_call c = heed__plan_call(a->ctx, g, n, in, out);
    const op_kernel *k;
    text passed;
    bool lost;

    heed__text_init(&passed, a->ctx->heap, 0);
    k = heed__plan_kernel(n->op, &c, HEED_KERNELS_FAST, &passed);
    *p = (heed_attend_part){ .op = n->op->name,
                             .kernel = k ? k->name : "reference",
                             .passed_over = heed__arena_string(&a->build, passed.data),
                             .gives = plan_gives(n),
                             .flops = n->op->flops ? n->op->flops(&c) : 0 };
    if (a->opts.kernel == HEED_ATTEND_REFERENCE) {
        p->kernel = "reference";
        p->passed_over = "";
    }
    lost = passed.failed || !p->passed_over;
    heed__text_release(&passed);
    return lost ? heed__fail_memory(err, sizeof *p) : HEED_OK;
}

heed_status heed__attend_parts(heed_attend *a, heed_error *err)
{
    heed_graph *folded = NULL;
    const heed_graph *g = a->graph;
    bool *live = NULL;
    heed_status st;

    a->n_parts = 0;
    if (a->opts.kernel != HEED_ATTEND_REFERENCE)
        STEP(heed__plan_fold(&folded, a->graph, a->ctx, HEED_KERNELS_FAST, err));
    g = folded ? folded : a->graph;
    live = plan_live(a, g);
    if (!live) {
        st = heed__fail_memory(err, g->n_nodes);
        goto done;
    }
    for (uint32_t i = 0; i < g->n_nodes && a->n_parts < ATTEND_PARTS_MOST; i++)
        if (live[i] && plan_is_part(g->nodes[i].op))
            STEP(plan_describe(a, g, &g->nodes[i], &a->parts[a->n_parts++], err));
    st = HEED_OK;
done:
    heed__release(a->ctx->heap, live);
    heed_graph_free(folded);
    return st;
}

heed_attend_part heed_attend_part_at(const heed_attend *a, int i)
{
    return i >= 0 && i < a->n_parts ? a->parts[i] : (heed_attend_part){ "", "", "", "", 0 };
}

heed_status heed__attend_streams(const heed_attend *a, heed_error *err)
{
    for (int i = 0; i < a->n_parts; i++)
        if (strcmp(a->parts[i].kernel, "reference") == 0)
            return heed__fail(
                err, HEED_ERR_MISSING,
                "--kernel streaming does not serve this %s: %s; auto takes the reference", a->parts[i].op,
                a->parts[i].passed_over[0] ? a->parts[i].passed_over : "it has no streaming kernel");
    return HEED_OK;
}

/* ---- tiles ---- */

static int slot_of(const char *name)
{
    for (int i = 0; i < ATTEND_INPUTS; i++)
        if (heed__attend_name(i) && strcmp(heed__attend_name(i), name) == 0)
            return i;
    return -1;
}

static const heed_tensor *tensor_of(const heed_attend *a, const char *name)
{
    const heed_tensor *t = &a->given[slot_of(name)];

    return t->data ? t : NULL;
}

static int64_t integer_of(const heed_attend *a, const char *name, int64_t i, int64_t otherwise)
{
    return tensor_of(a, name) ? ((const int64_t *)tensor_of(a, name)->data)[i] : otherwise;
}

/* The lists are followed below, before any run has looked at them. */
static heed_status tiles_check_graph(const heed_attend *a, int64_t tk, heed_error *err)
{
    const heed_tensor *indptr = tensor_of(a, "graph_indptr"), *indices = tensor_of(a, "graph_indices");
    const int64_t edges = indices ? indices->type.dims[0] : 0;
    const int64_t *p = indptr ? indptr->data : NULL, *k = indices ? indices->data : NULL;
    bool good = true;

    if (!p || !k)
        return HEED_OK;
    for (int64_t i = 0; i + 1 < indptr->type.dims[0]; i++)
        good = good && p[i] >= 0 && p[i] <= p[i + 1] && p[i + 1] <= edges;
    for (int64_t e = 0; e < edges; e++)
        good = good && k[e] >= 0 && k[e] < tk;
    return good ? HEED_OK
                : heed__fail(err, HEED_ERR_LIMIT, "graph_indptr and graph_indices are no CSR of the keys");
}

static attention_mask tiles_mask(const heed_attend *a, int64_t b, int64_t h)
{
    const heed_attention_spec *s = &a->text->spec;
    const heed_tensor *keep = tensor_of(a, "mask"), *block = tensor_of(a, "block_keep");
    attention_mask m = { .tq = a->given[ATTEND_Q].type.dims[2],
                         .tk = a->given[ATTEND_K].type.dims[2],
                         .causal = s->mask.causal,
                         .windowed = s->mask.window.on,
                         .left = s->mask.window.left,
                         .right = s->mask.window.right,
                         .stride = s->mask.stride };

    m.length = i64_max(0, i64_min(m.tk, integer_of(a, "lengths", b, m.tk)));
    m.q_length = i64_max(0, i64_min(m.tq, integer_of(a, "q_lengths", b, m.tq)));
    m.offset =
        heed__attention_offset(integer_of(a, "offset", b, s->offset.set ? s->offset.value : m.tk - m.tq));
    m.left = i64_min(m.left, (int64_t)1 << 40);
    m.right = i64_min(m.right, (int64_t)1 << 40);
    m.stride = i64_min(m.stride, (int64_t)1 << 40);
    if (block) {
        m.block_q = i64_min(s->mask.block[0], (int64_t)1 << 40);
        m.block_k = i64_min(s->mask.block[1], (int64_t)1 << 40);
        m.block = (const bool *)block->data +
                  (block->type.rank == 3 ? h * block->type.dims[1] * block->type.dims[2] : 0);
    }
    if (tensor_of(a, "q_seg")) {
        m.q_seg = (const int64_t *)tensor_of(a, "q_seg")->data + b * m.tq;
        m.k_seg = (const int64_t *)tensor_of(a, "k_seg")->data + b * m.tk;
    }
    if (tensor_of(a, "graph_indptr")) {
        m.indptr = tensor_of(a, "graph_indptr")->data;
        m.indices = tensor_of(a, "graph_indices")->data;
    }
    if (keep) {
        const int64_t *d = keep->type.dims;

        m.keep = (const bool *)keep->data + ((d[0] > 1 ? b * d[1] : 0) + (d[1] > 1 ? h : 0)) * d[2] * d[3];
        m.keep_row = d[2] > 1 ? d[3] : 0;
        m.keep_key = d[3] > 1 ? 1 : 0;
    }
    return m;
}

static void tiles_count(const attention_mask *m, heed_attend_cost *c)
{
    uint64_t words[ATTENTION_ROWS];

    for (int64_t i = 0; i < m->tq; i += ATTENTION_ROWS) {
        const int64_t end = i64_min(m->tq, i + ATTENTION_ROWS);

        c->tiles += i64_ceil_div(m->tk, ATTENTION_TILE);
        for (int64_t j = heed__attention_next(m, i, end, 0); j < m->length;
             j = heed__attention_next(m, i, end, j + ATTENTION_TILE))
            c->kept += heed__attention_words(m, i, end, j, words) != ATTENTION_SKIP;
    }
}

/* Over all heads; globals need two bit sets a sequence. */
static heed_status tiles_all(const heed_attend *a, heed_attend_cost *c, heed_error *err)
{
    const int64_t *q = a->given[ATTEND_Q].type.dims, tk = a->given[ATTEND_K].type.dims[2];
    const heed_tensor *globals = tensor_of(a, "globals");
    const size_t keys = (size_t)ATTENTION_SET_WORDS(tk), n = keys + (size_t)ATTENTION_SET_WORDS(q[2]);
    uint64_t *sets = heed__alloc(a->ctx->heap, n, sizeof *sets);

    if (!sets)
        return heed__fail_memory(err, n * sizeof *sets);
    for (int64_t b = 0; b < q[0]; b++) {
        memset(sets, 0, n * sizeof *sets);
        for (int64_t h = 0; h < q[1]; h++) {
            attention_mask m = tiles_mask(a, b, h);

            if (globals && h == 0)
                heed__attention_globals(sets, sets + keys, globals->data, globals->type.dims[0], tk, q[2],
                                        m.offset);
            if (globals) {
                m.global_keys = sets;
                m.global_rows = sets + keys;
            }
            tiles_count(&m, c);
        }
    }
    heed__release(a->ctx->heap, sets);
    return HEED_OK;
}

heed_status heed_attend_cost_of(const heed_attend *a, heed_attend_cost *out, heed_error *err)
{
    heed_attend_cost c = { .parts = a->n_parts };
    heed_plan_report r;

    if (!a->plan)
        return heed__fail(err, HEED_ERR_USAGE,
                          "nothing is built: call heed_attend_build before heed_attend_cost_of");
    TRY(tiles_check_graph(a, a->given[ATTEND_K].type.dims[2], err));
    TRY(tiles_all(a, &c, err));
    r = heed_plan_describe(a->plan);
    c.flops = r.flops;
    c.block_bytes = r.block_bytes;
    c.steps = (int)heed_plan_steps(a->plan);
    for (int64_t i = 0; i < c.steps; i++)
        c.bytes += heed_plan_step_at(a->plan, i).bytes;
    *out = c;
    return HEED_OK;
}
