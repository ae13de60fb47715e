/* The weights of an explanation for other programs: an NPZ file with one array f32 [1, heads, queries,
 * keys] for each attention, under its path. */
#include "base/error.h"
#include "explain/draw.h"
#include <heed/formats.h>

heed_status heed__draw_npz(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err)
{
    heed_named_tensor *arrays;
    heed_status st;

    if (e->n_attentions == 0)
        return heed__fail_at(err, HEED_ERR_SPEC, path,
                             "the model has no attention, so there are no weights to write: leave out npz");
    arrays = heed__alloc(ctx->heap, (size_t)e->n_attentions, sizeof *arrays);
    if (!arrays)
        return heed__fail_memory(err, (uint64_t)e->n_attentions * sizeof *arrays);
    for (int64_t i = 0; i < e->n_attentions; i++) {
        const heed_attention_record *a = &e->attentions[i];

        arrays[i] = (heed_named_tensor){
            a->path, { HEED_TYPE(HEED_F32, 1, a->heads, a->queries, a->keys), (void *)(uintptr_t)a->weights }
        };
    }
    st = heed_npz_write(ctx, path, arrays, e->n_attentions, err);
    heed__release(ctx->heap, arrays);
    return st;
}
