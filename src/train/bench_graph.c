/* A graph held ready: built, planned, bound to memory, with numbers for its inputs. */

#include "base/error.h"
#include "train/bench.h"

void heed__bench_release(bench_graph *g)
{
    for (int i = 0; g->tensors && i < g->n_in + g->n_out; i++)
        heed__release(g->ctx->heap, g->tensors[i].data);
    if (g->ctx)
        heed__release(g->ctx->heap, g->tensors);
    heed_session_free(g->session);
    heed_plan_free(g->plan);
    heed_weights_free(g->weights);
    *g = (bench_graph){ 0 };
}

void heed__bench_fill(heed_tensor *t, uint32_t state)
{
    const int64_t n = heed_type_count(&t->type);

    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        if (t->type.dtype == HEED_I64)
            ((int64_t *)t->data)[i] = i % 10;
        else if (t->type.dtype == HEED_BOOL)
            ((uint8_t *)t->data)[i] = 1;
        else
            ((float *)t->data)[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

static heed_status graph_tensors(bench_graph *g, heed_error *err)
{
    heap *h = g->ctx->heap;

    g->n_in = heed_plan_inputs(g->plan);
    g->n_out = heed_plan_outputs(g->plan);
    g->tensors = heed__alloc(h, (size_t)g->n_in + (size_t)g->n_out, sizeof *g->tensors);
    if (!g->tensors)
        return heed__fail_memory(err, 0);
    for (int i = 0; i < g->n_in + g->n_out; i++) {
        heed_tensor *t = &g->tensors[i];

        t->type =
            i < g->n_in ? heed_plan_input_type(g->plan, i) : heed_plan_output_type(g->plan, i - g->n_in);
        t->data = heed__alloc(h, (size_t)heed_type_count(&t->type), heed_dtype_size(t->type.dtype));
        if (!t->data)
            return heed__fail_memory(err, (uint64_t)heed_type_count(&t->type));
        heed__bench_fill(t, 1 + 2654435769u * (uint32_t)i);
        g->bytes += (double)heed_type_count(&t->type) * (double)heed_dtype_size(t->type.dtype);
    }
    return HEED_OK;
}

heed_status heed__bench_prepare(bench_graph *g, heed_context *ctx, bench_build_fn *build, const void *what,
                                const heed_plan_opts *opts, bench_depth depth, heed_error *err)
{
    heed_builder *builder = NULL;
    heed_graph *graph = NULL;
    heed_status st;

    *g = (bench_graph){ .ctx = ctx, .before = heed__heap_bytes(ctx->heap) };
    STEP(heed_builder_new(&builder, ctx, err));
    heed_set_mode(builder, HEED_TRAIN);
    build(builder, what);
    STEP(heed_builder_finish(&graph, builder, err));
    STEP(heed_plan_new(&g->plan, ctx, graph, opts, err));
    if (depth == BENCH_PLAN || heed_plan_describe(g->plan).block_bytes > BENCH_BLOCK_MOST)
        goto done;
    STEP(heed_weights_new(&g->weights, ctx, err));
    STEP(heed_weights_init(g->weights, graph, 0, err));
    STEP(heed_session_new(&g->session, ctx, g->weights, NULL, err));
    STEP(heed_session_add(g->session, g->plan, &g->id, err));
    STEP(graph_tensors(g, err));
done:
    heed_graph_free(graph);
    heed_builder_free(builder);
    return st;
}

heed_status heed__bench_once(void *user, heed_error *err)
{
    bench_graph *g = user;

    return heed_session_run(g->session, g->id, g->tensors, g->n_in, g->tensors + g->n_in, g->n_out, err);
}

heed_status heed__bench_memory(bench_graph *g, heed_bench_row *row, heed_error *err)
{
    heap *h = g->ctx->heap;
    const uint64_t calls = heed__heap_calls(h);
    uint64_t tensors;

    heed__heap_peak_reset(h);
    TRY(heed__bench_once(g, err));
    tensors = g->before + (uint64_t)g->bytes;
    row->allocations = (int64_t)(heed__heap_calls(h) - calls);
    row->tensor_bytes = (uint64_t)g->bytes;
    row->extra_bytes = heed__heap_peak(h) > tensors ? heed__heap_peak(h) - tensors : 0;
    return HEED_OK;
}
