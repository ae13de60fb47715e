/* The weights of an explanation for other programs: an NPZ file with one array f32 [1, heads, queries,
 * keys] for each attention, under its path; and what was edited, as text. */
#include "base/error.h"
#include "explain/draw.h"
#include <heed/formats.h>

heed_status heed__draw_npz(heed_context *ctx, const heed_explanation *e, const char *path, heed_error *err)
{
    heed_named_tensor *arrays;
    heed_status st;
    text edits;

    if (e->n_attentions == 0)
        return heed__fail_at(err, HEED_ERR_SPEC, path,
                             "the model has no attention, so there are no weights to write: leave out npz");
    arrays = heed__alloc(ctx->heap, (size_t)e->n_attentions + 1, sizeof *arrays);
    if (!arrays)
        return heed__fail_memory(err, (uint64_t)e->n_attentions * sizeof *arrays);
    heed__text_init(&edits, ctx->heap, 0);
    for (int64_t i = 0; i < e->n_attentions; i++) {
        const heed_attention_record *a = &e->attentions[i];

        arrays[i] = (heed_named_tensor){
            a->path, { HEED_TYPE(HEED_F32, 1, a->heads, a->queries, a->keys), (void *)(uintptr_t)a->weights }
        };
    }
    for (int i = 0; i < e->n_edits; i++)
        heed__text_add(&edits, "%s\n", e->edits[i]);
    arrays[e->n_attentions] =
        (heed_named_tensor){ HEED_NPZ_EDITS, { HEED_TYPE(HEED_U8, (int64_t)edits.size), edits.data } };
    st = edits.failed ? heed__fail_memory(err, 0)
                      : heed_npz_write(ctx, path, arrays, e->n_attentions + (edits.size > 0), err);
    heed__text_release(&edits);
    heed__release(ctx->heap, arrays);
    return st;
}
