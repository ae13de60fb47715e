#include "support/trial.h"

#include "graph/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIAL_GUARD 256
#define TRIAL_SENTINEL 0xA5

void *trial_memory(size_t n, size_t size)
{
    void *made = calloc(n ? n : 1, size ? size : 1);

    if (!made) {
        fprintf(stderr, "out of memory in the test itself\n");
        exit(1);
    }
    return made;
}

static void guarded_open(guarded *g, size_t bytes)
{
    void *made = NULL;

    if (posix_memalign(&made, 256, bytes + 2 * TRIAL_GUARD) != 0)
        trial_memory(SIZE_MAX / 2, 1);
    g->memory = made;
    g->bytes = bytes;
    memset(g->memory, TRIAL_SENTINEL, bytes + 2 * TRIAL_GUARD);
    g->tensor.data = g->memory + TRIAL_GUARD;
}

static void guarded_type(guarded *g, heed_type type)
{
    guarded_open(g, (size_t)heed_type_count(&type) * heed_dtype_size(type.dtype));
    g->tensor.type = type;
}

static bool guarded_whole(const guarded *g)
{
    for (size_t i = 0; i < TRIAL_GUARD; i++)
        if (g->memory[i] != TRIAL_SENTINEL || g->memory[TRIAL_GUARD + g->bytes + i] != TRIAL_SENTINEL)
            return false;
    return true;
}

static heed_status trial_plan(trial *t, trial_build *build, void *user, const heed_plan_opts *opts, heed_error *err)
{
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_status st = heed_builder_new(&b, t->ctx, err);

    if (st != HEED_OK)
        return st;
    build(b, user);
    st = heed_builder_finish(&g, b, err);
    heed_builder_free(b);
    if (st == HEED_OK)
        st = heed_plan_new(&t->plan, t->ctx, g, opts, err);
    heed_graph_free(g);
    return st;
}

static heed_status trial_bind(trial *t, heed_error *err)
{
    heed_session_opts opts = { .seed = 5 };
    heed_status st = heed_weights_new(&t->weights, t->ctx, err);

    if (st != HEED_OK)
        return st;
    guarded_open(&t->block, (size_t)heed_plan_describe(t->plan).block_bytes);
    opts.block = t->block.tensor.data;
    opts.block_bytes = t->block.bytes;
    st = heed_session_new(&t->session, t->ctx, t->weights, &opts, err);
    return st == HEED_OK ? heed_session_add(t->session, t->plan, &t->id, err) : st;
}

heed_status trial_open(trial *t, heed_context *ctx, trial_build *build, void *user, const heed_plan_opts *opts, heed_error *err)
{
    heed_status st;

    *t = (trial){ .ctx = ctx, .pattern = 0xFF };
    st = trial_plan(t, build, user, opts, err);
    if (st == HEED_OK)
        st = trial_bind(t, err);
    if (st != HEED_OK) {
        trial_close(t);
        return st;
    }
    t->n_in = heed_plan_inputs(t->plan);
    t->n_out = heed_plan_outputs(t->plan);
    if (t->n_in > TRIAL_VALUES || t->n_out > TRIAL_VALUES) {
        fprintf(stderr, "a trial takes %d inputs and outputs\n", TRIAL_VALUES);
        exit(1);
    }
    for (int i = 0; i < t->n_in; i++)
        guarded_type(&t->in[i], heed_plan_input_type(t->plan, i));
    for (int i = 0; i < t->n_out; i++)
        guarded_type(&t->out[i], heed_plan_output_type(t->plan, i));
    return HEED_OK;
}

void trial_close(trial *t)
{
    for (int i = 0; i < TRIAL_VALUES; i++) {
        free(t->in[i].memory);
        free(t->out[i].memory);
    }
    heed_session_free(t->session);
    heed_weights_free(t->weights);
    heed_plan_free(t->plan);
    free(t->block.memory);
    *t = (trial){ 0 };
}

void trial_set(trial *t, int i, const double *numbers)
{
    const heed_tensor *x = &t->in[i].tensor;

    for (int64_t k = 0; k < heed_type_count(&x->type); k++)
        heed__number_put(x->type.dtype, x->data, k, numbers[k]);
}

void trial_get(const trial *t, int i, double *numbers)
{
    const heed_tensor *y = &t->out[i].tensor;

    for (int64_t k = 0; k < heed_type_count(&y->type); k++)
        numbers[k] = heed__number_get(y->type.dtype, y->data, k);
}

static void trial_broke(trial *t, const char *what, const char *name)
{
    if (!t->broken[0])
        snprintf(t->broken, sizeof t->broken, "%s %s", what, name);
}

heed_status trial_run(trial *t, heed_error *err)
{
    heed_tensor in[TRIAL_VALUES], out[TRIAL_VALUES];
    unsigned char *before[TRIAL_VALUES];
    heed_status st;

    for (int i = 0; i < t->n_in; i++) {
        in[i] = t->in[i].tensor;
        before[i] = trial_memory(t->in[i].bytes, 1);
        memcpy(before[i], in[i].data, t->in[i].bytes);
    }
    for (int i = 0; i < t->n_out; i++) {
        out[i] = t->out[i].tensor;
        memset(out[i].data, TRIAL_SENTINEL, t->out[i].bytes);
    }
    if (t->pattern >= 0)
        memset(t->block.tensor.data, t->pattern, t->block.bytes);
    st = heed_session_run(t->session, t->id, in, t->n_in, out, t->n_out, err);
    for (int i = 0; i < t->n_in; i++) {
        if (memcmp(before[i], in[i].data, t->in[i].bytes) != 0)
            trial_broke(t, "the run changed its input", heed_plan_input_name(t->plan, i));
        if (!guarded_whole(&t->in[i]))
            trial_broke(t, "the run wrote beside its input", heed_plan_input_name(t->plan, i));
        free(before[i]);
    }
    for (int i = 0; i < t->n_out; i++)
        if (!guarded_whole(&t->out[i]))
            trial_broke(t, "the run wrote beside its output", heed_plan_output_name(t->plan, i));
    if (!guarded_whole(&t->block))
        trial_broke(t, "the run wrote beside", "its block");
    return st;
}
