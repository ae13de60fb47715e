/* The context: heap, threads, limits, file calls and the instruction level, made in this order and freed
 * in reverse. */
#include "base/context.h"
#include "base/error.h"
#include "base/limits.h"

#define CONTEXT_THREADS_MOST 1024

static heed_isa context_best_isa(void)
{
    static const heed_isa best_first[] = { HEED_ISA_X86_64_V4, HEED_ISA_X86_64_V3, HEED_ISA_NEON };

    for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
        if (heed_isa_available(best_first[i]))
            return best_first[i];
    return HEED_ISA_PORTABLE;
}

heed_status heed_context_new(heed_context **out, const heed_context_opts *opts, heed_error *err)
{
    const heed_context_opts none = { 0 };
    const heed_context_opts *o = opts ? opts : &none;
    const heed_isa isa = o->isa == HEED_ISA_AUTO ? context_best_isa() : o->isa;
    const int threads = o->threads ? o->threads : heed__os_cpus();
    heap *h;
    heed_context *ctx;
    heed_status st;

    if (o->threads < 0 || o->threads > CONTEXT_THREADS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "%d threads are outside 0 to %d", o->threads,
                          CONTEXT_THREADS_MOST);
    if (!heed_isa_available(isa))
        return heed__fail(err, HEED_ERR_DEVICE,
                          "the instruction level %s is not available here; use %s or auto",
                          heed_isa_name(isa), heed_isa_name(context_best_isa()));
    h = heed__heap_new(o->allocator, o->limits.memory_bytes);
    if (!h)
        return heed__fail_memory(err, 0);
    ctx = heed__alloc(h, 1, sizeof *ctx);
    if (!ctx) {
        heed__heap_free(h);
        return heed__fail_memory(err, sizeof *ctx);
    }
    ctx->heap = h;
    ctx->limits = heed__limits(&o->limits);
    ctx->files = heed__file_ops();
    ctx->isa = isa;
    st = heed__pool_new(&ctx->pool, h, threads < CONTEXT_THREADS_MOST ? threads : CONTEXT_THREADS_MOST, err);
    if (st != HEED_OK) {
        heed_context_free(ctx);
        return st;
    }
    *out = ctx;
    return HEED_OK;
}

void heed_context_free(heed_context *ctx)
{
    heap *h;

    if (!ctx)
        return;
    h = ctx->heap;
    heed__pool_free(ctx->pool);
    heed__release(h, ctx);
    heed__heap_free(h);
}

int heed_context_threads(const heed_context *ctx)
{
    return heed__pool_threads(ctx->pool);
}

heed_isa heed_context_isa(const heed_context *ctx)
{
    return ctx->isa;
}

uint64_t heed_context_bytes(const heed_context *ctx)
{
    return heed__heap_bytes(ctx->heap);
}

uint64_t heed_context_peak_bytes(const heed_context *ctx)
{
    return heed__heap_peak(ctx->heap);
}

void heed_context_peak_reset(heed_context *ctx)
{
    heed__heap_peak_reset(ctx->heap);
}
