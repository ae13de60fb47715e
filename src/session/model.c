/* A model meets shapes: for each set of input types it builds the evaluation graph once, plans it and keeps
 * the plan; the least recently used one goes first. All plans work on one store of weights and in one block.
 * A plan computes results in the caller's memory (HEED_RESULTS_DIRECT). The first run that leaves some out, or
 * gives memory that overlaps, puts one in its place that copies them, which serves every run. */

#include "base/context.h"
#include "base/error.h"
#include "graph/graph.h"
#include "passes/edit.h"
#include "session/results.h"
#include "session/weights.h"
#include <heed/model.h>

#include <stdio.h>
#include <string.h>

#define INPUTS_MAX 16

/* Copies of what heed_model_edit was given. */
typedef struct kept_edits {
    arena arena; /* all of it */
    heed_edit *list;
    const char **texts;
    int n;
} kept_edits;

typedef struct kept_plan {
    heed_plan *plan; /* NULL: free */
    heed_type inputs[INPUTS_MAX];
    int n_inputs, id;
    heed_results results;
    uint64_t used;
} kept_plan;

struct heed_model {
    heed_context *ctx;
    heed_build_fn *build;
    const void *config;
    heed_weights *weights;
    heed_session *session;
    kept_plan *plans;
    int room;
    uint64_t clock, seed;
    int64_t parameters;
    char **taps; /* ended by NULL */
    kept_edits edits;
};

heed_status heed_model_new(heed_model **out, heed_context *ctx, heed_build_fn *build, const void *config,
                           const heed_model_opts *opts, heed_error *err)
{
    heed_model *m = heed__alloc(ctx->heap, 1, sizeof *m);
    heed_status st;

    if (!m)
        return heed__fail_memory(err, sizeof *m);
    m->ctx = ctx;
    heed__arena_init(&m->edits.arena, ctx->heap);
    m->build = build;
    m->config = config;
    m->room = opts && opts->plans > 0 ? opts->plans : 8;
    m->seed = opts ? opts->seed : 0;
    m->plans = heed__alloc(ctx->heap, (size_t)m->room, sizeof *m->plans);
    if (!m->plans) {
        st = heed__fail_memory(err, (uint64_t)m->room * sizeof *m->plans);
        goto done;
    }
    if (opts && opts->weights)
        m->weights = heed_weights_keep(opts->weights);
    else
        STEP(heed_weights_new(&m->weights, ctx, err));
    STEP(heed_session_new(&m->session, ctx, m->weights, &(heed_session_opts){ .seed = m->seed }, err));
    *out = m;
    return HEED_OK;
done:
    heed_model_free(m);
    return st;
}

static void forget_plans(heed_model *m)
{
    for (int i = 0; m->plans && i < m->room; i++)
        if (m->plans[i].plan) {
            heed_session_remove(m->session, m->plans[i].id);
            heed_plan_free(m->plans[i].plan);
            m->plans[i] = (kept_plan){ 0 };
        }
}

static void free_taps(heed_context *ctx, char **taps)
{
    for (char **t = taps; t && *t; t++)
        heed__release(ctx->heap, *t);
    heed__release(ctx->heap, taps);
}

void heed_model_free(heed_model *m)
{
    heap *h;

    if (!m)
        return;
    h = m->ctx->heap;
    forget_plans(m);
    heed_session_free(m->session);
    heed_weights_free(m->weights);
    free_taps(m->ctx, m->taps);
    heed__arena_release(&m->edits.arena);
    heed__release(h, m->plans);
    heed__release(h, m);
}

heed_status heed_model_taps(heed_model *m, const char *const *taps, heed_error *err)
{
    char **copy = NULL;
    size_t n = 0;

    while (taps && taps[n])
        n++;
    if (n > 0) {
        copy = heed__alloc(m->ctx->heap, n + 1, sizeof *copy);
        if (!copy)
            return heed__fail_memory(err, n * sizeof *copy);
        for (size_t i = 0; i < n; i++)
            if (!(copy[i] = heed__copy_string(m->ctx->heap, taps[i]))) {
                free_taps(m->ctx, copy);
                return heed__fail_memory(err, strlen(taps[i]));
            }
    }
    free_taps(m->ctx, m->taps);
    m->taps = copy;
    forget_plans(m);
    return HEED_OK;
}

static heed_status copy_edits(kept_edits *to, const heed_edit *edits, int n, heed_error *err)
{
    text words;

    to->list = heed__arena_alloc(&to->arena, (size_t)n, sizeof *to->list);
    to->texts = heed__arena_alloc(&to->arena, (size_t)n, sizeof *to->texts);
    if (!to->list || !to->texts)
        return heed__fail_memory(err, (uint64_t)n * sizeof *to->list);
    for (int i = 0; i < n; i++) {
        TRY(heed__edit_copy(&to->list[i], &to->arena, &edits[i], err));
        heed__text_init(&words, to->arena.heap, 0);
        heed__edit_print(&words, &edits[i]);
        to->texts[i] = words.failed ? NULL : heed__arena_string(&to->arena, words.data);
        heed__text_release(&words);
        if (!to->texts[i])
            return heed__fail_memory(err, 0);
    }
    to->n = n;
    return HEED_OK;
}

heed_status heed_model_edit(heed_model *m, const heed_edit *edits, int n, heed_error *err)
{
    kept_edits made = { .n = 0 };
    heed_status st;

    heed__arena_init(&made.arena, m->ctx->heap);
    st = n > 0 ? copy_edits(&made, edits, n, err) : HEED_OK;
    if (st != HEED_OK) {
        heed__arena_release(&made.arena);
        return st;
    }
    heed__arena_release(&m->edits.arena);
    m->edits = made;
    forget_plans(m);
    return HEED_OK;
}

int heed_model_edits(const heed_model *m, const heed_edit **edits)
{
    if (edits)
        *edits = m->edits.list;
    return m->edits.n;
}

const char *heed_model_edit_text(const heed_model *m, int i)
{
    return i >= 0 && i < m->edits.n ? m->edits.texts[i] : "";
}

heed_status heed_model_graph(heed_model *m, const heed_type *inputs, int n, heed_mode mode, heed_graph **out,
                             heed_error *err)
{
    heed_value in[INPUTS_MAX];
    heed_builder *b;
    heed_status st;

    if (n < 1 || n > INPUTS_MAX)
        return heed__fail(err, HEED_ERR_USAGE, "a model takes 1 to %d inputs, %d were given", INPUTS_MAX, n);
    TRY(heed_builder_new(&b, m->ctx, err));
    heed_set_mode(b, mode);
    for (int i = 0; i < n; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, i ? "x%d" : "x", i);
        in[i] = heed_input(b, name, inputs[i]);
    }
    heed_output(b, "y", m->build(b, in, m->config));
    st = heed_builder_finish(out, b, err);
    heed_builder_free(b);
    return st;
}

static int64_t count_parameters(const heed_graph *g)
{
    int64_t n = 0;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (heed__is_leaf(&g->nodes[i], &heed__op_param))
            n += heed_type_count(&((const leaf_attrs *)g->nodes[i].attrs)->type);
    return n;
}

static bool same_inputs(const kept_plan *k, const heed_type *inputs, int n)
{
    if (!k->plan || k->n_inputs != n)
        return false;
    for (int i = 0; i < n; i++)
        if (!heed_type_equal(&k->inputs[i], &inputs[i]))
            return false;
    return true;
}

/* Plans for these types, in the place of another plan or of none. */
static heed_status plan_in(heed_model *m, kept_plan *place, const heed_type *inputs, int n, heed_results results,
                           heed_error *err)
{
    const heed_plan_opts with = { .taps = (const char *const *)m->taps, .results = results };
    kept_plan made = { .n_inputs = n, .results = results };
    heed_graph *g = NULL, *edited = NULL;
    heed_status st;

    STEP(heed_model_graph(m, inputs, n, HEED_EVAL, &g, err));
    if (m->edits.n > 0)
        STEP(heed_graph_edit(&edited, g, m->edits.list, m->edits.n, err));
    STEP(heed_plan_new(&made.plan, m->ctx, edited ? edited : g, &with, err));
    STEP(heed_session_add(m->session, made.plan, &made.id, err));
    m->parameters = count_parameters(g);
    memcpy(made.inputs, inputs, (size_t)n * sizeof *inputs);
    made.used = ++m->clock;
    if (place->plan) {
        heed_session_remove(m->session, place->id);
        heed_plan_free(place->plan);
    }
    *place = made;
    made.plan = NULL;
done:
    heed_plan_free(made.plan);
    heed_graph_free(edited);
    heed_graph_free(g);
    return st;
}

/* The plan for these types: found, or made in the place of the one not used for longest. */
static heed_status plan_for(heed_model *m, const heed_type *inputs, int n, kept_plan **out, heed_error *err)
{
    kept_plan *place = &m->plans[0];

    for (int i = 0; i < m->room; i++) {
        kept_plan *k = &m->plans[i];

        if (same_inputs(k, inputs, n)) {
            k->used = ++m->clock;
            *out = k;
            return HEED_OK;
        }
        if (place->plan && (!k->plan || k->used < place->used))
            place = k;
    }
    TRY(plan_in(m, place, inputs, n, HEED_RESULTS_DIRECT, err));
    *out = place;
    return HEED_OK;
}

heed_status heed_model_run(heed_model *m, const heed_tensor *inputs, int n_inputs, const heed_tensor *outputs,
                           int n_outputs, heed_error *err)
{
    heed_type types[INPUTS_MAX];
    kept_plan *k;

    for (int i = 0; i < n_inputs && i < INPUTS_MAX; i++)
        types[i] = inputs[i].type;
    TRY(plan_for(m, types, n_inputs, &k, err));
    if (k->results == HEED_RESULTS_DIRECT &&
        heed__results_need_copies(k->plan, inputs, n_inputs, outputs, n_outputs))
        TRY(plan_in(m, k, types, n_inputs, HEED_RESULTS_COPIED, err));
    return heed_session_run(m->session, k->id, inputs, n_inputs, outputs, n_outputs, err);
}

heed_status heed_model_plan(heed_model *m, const heed_type *inputs, int n_inputs, const heed_plan **out,
                            heed_error *err)
{
    kept_plan *k;

    TRY(plan_for(m, inputs, n_inputs, &k, err));
    *out = k->plan;
    return HEED_OK;
}

heed_status heed_model_init(heed_model *m, const heed_type *inputs, int n_inputs, heed_error *err)
{
    heed_graph *g;
    heed_status st;

    /* training has states that evaluation may lack */
    TRY(heed_model_graph(m, inputs, n_inputs, HEED_TRAIN, &g, err));
    m->parameters = count_parameters(g);
    st = heed_weights_init(m->weights, g, m->seed, err);
    heed_graph_free(g);
    return st;
}

heed_status heed_model_output_type(heed_model *m, const heed_type *inputs, int n_inputs, int output,
                                   heed_type *out, heed_error *err)
{
    kept_plan *k;

    TRY(plan_for(m, inputs, n_inputs, &k, err));
    if (output < 0 || output >= heed_plan_outputs(k->plan))
        return heed__fail(err, HEED_ERR_USAGE, "the model has %d outputs, number %d was asked for",
                          heed_plan_outputs(k->plan), output);
    *out = heed_plan_output_type(k->plan, output);
    return HEED_OK;
}

void heed_model_profile(heed_model *m, heed_profile *p)
{
    heed_session_profile(m->session, p);
}

heed_context *heed_model_context(const heed_model *m)
{
    return m->ctx;
}

heed_weights *heed_model_weights(heed_model *m)
{
    return m->weights;
}

heed_build_fn *heed_model_build(const heed_model *m)
{
    return m->build;
}

const void *heed_model_config(const heed_model *m)
{
    return m->config;
}

uint64_t heed_model_seed(const heed_model *m)
{
    return m->seed;
}

int64_t heed_model_parameters(const heed_model *m)
{
    return m->parameters;
}
