/* Edits from texts: what passes/edit_text.c reads, and the records that "take" names.
 *
 * An explanation's NPZ has weights under the attention's scope, that of taps under the tap's name. So for the edit
 * "pool.weights" or "pool" both names are looked for. */

#include "base/context.h"
#include "base/error.h"
#include "formats/npz.h"
#include "passes/edit.h"
#include <heed/formats.h>

#include <string.h>

#define WEIGHTS ".weights"

struct heed_edits {
    heed_context *ctx;
    arena arena; /* all that follows */
    heed_edit *list;
    int n;
};

static heed_status edits_take(heed_edits *e, heed_edit *edit, heed_error *err)
{
    const size_t n = strlen(edit->at), end = strlen(WEIGHTS);
    const bool tap = n > end && strcmp(edit->at + n - end, WEIGHTS) == 0;
    char *other = heed__arena_format(&e->arena, "%s%s", edit->at, tap ? "" : WEIGHTS);

    if (!other)
        return heed__fail_memory(err, n);
    if (tap)
        other[n - end] = 0;
    return heed__npz_read(&edit->tensor, e->ctx, &e->arena, edit->from,
                          (const char *const[]){ edit->at, other, NULL }, err);
}

heed_status heed_edits_open(heed_edits **out, heed_context *ctx, const char *const *texts, heed_error *err)
{
    heed_edits *e = heed__alloc(ctx->heap, 1, sizeof *e);
    int64_t n = 0;
    heed_status st = HEED_OK;

    if (!e)
        return heed__fail_memory(err, sizeof *e);
    e->ctx = ctx;
    heed__arena_init(&e->arena, ctx->heap);
    while (texts && texts[n])
        n++;
    if (n > HEED_EDITS_MOST) {
        st = heed__fail(err, HEED_ERR_LIMIT, "%lld edits; %d are possible", (long long)n, HEED_EDITS_MOST);
        goto done;
    }
    e->list = heed__arena_alloc(&e->arena, (size_t)n, sizeof *e->list);
    if (!e->list) {
        st = heed__fail_memory(err, (uint64_t)n * sizeof *e->list);
        goto done;
    }
    for (; e->n < n; e->n++) {
        STEP(heed__edit_parse(&e->list[e->n], &e->arena, texts[e->n], err));
        if (e->list[e->n].kind == HEED_EDIT_TAKE)
            STEP(edits_take(e, &e->list[e->n], err));
    }
    *out = e;
    return HEED_OK;
done:
    heed_edits_close(e);
    return st;
}

void heed_edits_close(heed_edits *e)
{
    heap *h;

    if (!e)
        return;
    h = e->ctx->heap;
    heed__arena_release(&e->arena);
    heed__release(h, e);
}

const heed_edit *heed_edits_list(const heed_edits *e, int *n)
{
    *n = e->n;
    return e->list;
}
