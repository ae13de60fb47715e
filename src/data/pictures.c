/* Files are read one after the other, as a disk likes it and as tests count calls; then the threads of the
 * context decode, digest and fit a batch of them, a picture a chunk; then the batch is handed on in order.
 * What comes out depends on no thread. A batch ends at so many pictures or bytes of files. */

#include "data/pictures.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/files.h"

#include <inttypes.h>

#define PICTURES_BATCH 64
#define PICTURES_BATCH_BYTES ((size_t)32 << 20)

typedef struct pictures_slot {
    file_bytes file; /* owned */
    const char *source;
    picture picture;
} pictures_slot;

typedef struct pictures_job {
    const folder_scan *scan;
    heed_context *ctx;
    const pictures_opts *opts;
    size_t size; /* of a fitted picture */
    pictures_slot *slots;
    uint8_t *fitted; /* PICTURES_BATCH of them */
    int64_t filled;
} pictures_job;

static int64_t pictures_sample(const pictures_opts *o, int64_t i)
{
    return o->which ? o->which[i] : i;
}

static void pictures_decode(void *user, int worker, int64_t chunk)
{
    pictures_job *j = user;
    pictures_slot *slot = &j->slots[chunk];
    picture *p = &slot->picture;
    heed_tensor decoded = { .data = NULL };
    sha256 s;

    (void)worker;
    if (p->st != HEED_OK)
        return;
    p->st = heed_image_decode(&decoded, j->ctx, slot->file.data, slot->file.size, slot->source,
                              HEED_IMAGE_AS_IS, &p->err);
    if (p->st != HEED_OK)
        return;
    p->type = decoded.type;
    heed__sha256_init(&s);
    heed__sha256_add(&s, decoded.data, (size_t)heed_type_count(&decoded.type));
    heed__sha256_end(&s, p->digest);
    if (j->opts->fit) {
        p->fitted = j->fitted + (size_t)chunk * j->size;
        p->st = heed__fit_into(p->fitted, j->ctx, decoded, j->opts->fit, &p->err);
    }
    heed_data_free(j->ctx, &decoded);
}

static void pictures_forget(pictures_job *j)
{
    for (int64_t i = 0; i < j->filled; i++) {
        heed__release(j->ctx->heap, j->slots[i].file.data);
        j->slots[i] = (pictures_slot){ .source = NULL };
    }
    j->filled = 0;
}

/* Files from number `first` on into the slots. */
static heed_status pictures_fetch(pictures_job *j, int64_t first, heed_error *err)
{
    size_t bytes = 0;

    while (j->filled < PICTURES_BATCH && first + j->filled < j->opts->n && bytes < PICTURES_BATCH_BYTES) {
        pictures_slot *slot = &j->slots[j->filled++];
        char *path;

        slot->source = j->scan->samples[pictures_sample(j->opts, first + j->filled - 1)].source;
        path = heed__path_join(j->ctx, j->scan->root, slot->source);
        if (!path)
            return heed__fail_memory(err, 0);
        slot->picture.st =
            heed__file_read(&slot->file, j->ctx, path, j->ctx->limits.file_bytes, &slot->picture.err);
        heed__release(j->ctx->heap, path);
        bytes += slot->file.size;
    }
    return HEED_OK;
}

static heed_status pictures_hand_on(pictures_job *j, int64_t first, heed_error *err)
{
    const pictures_opts *o = j->opts;

    for (int64_t i = 0; i < j->filled; i++) {
        const picture *p = &j->slots[i].picture;

        if (p->st == HEED_ERR_MEMORY)
            return heed__fail_at(err, p->st, j->slots[i].source, "%s/%s: %s", j->scan->root,
                                 j->slots[i].source, p->err.text);
        TRY(o->take(o->user, pictures_sample(o, first + i), p, err));
    }
    if (o->progress && o->progress(o->progress_user, first + j->filled, o->n))
        return heed__fail_at(err, HEED_ERR_STOPPED, j->scan->root,
                             "reading %s was stopped at picture %" PRId64 " of %" PRId64, j->scan->root,
                             first + j->filled, o->n);
    return HEED_OK;
}

heed_status heed__pictures_read(const folder_scan *s, const pictures_opts *opts, heed_error *err)
{
    const picture_fit *f = opts->fit;
    pictures_job j = { .scan = s, .ctx = s->ctx, .opts = opts };
    heap *h = s->ctx->heap;
    heed_status st = HEED_OK;

    j.size = f ? (size_t)(f->channels * f->height * f->width) : 0;
    j.slots = heed__alloc(h, PICTURES_BATCH, sizeof *j.slots);
    j.fitted = heed__alloc(h, PICTURES_BATCH, j.size);
    if (!j.slots || !j.fitted) {
        st = heed__fail_memory(err, PICTURES_BATCH * j.size);
        goto done;
    }
    for (int64_t first = 0, taken; first < opts->n; first += taken) {
        STEP(pictures_fetch(&j, first, err));
        heed__pool_run(s->ctx->pool, pictures_decode, &j, j.filled);
        STEP(pictures_hand_on(&j, first, err));
        taken = j.filled;
        pictures_forget(&j);
    }
done:
    if (j.slots)
        pictures_forget(&j);
    heed__release(h, j.fitted);
    heed__release(h, j.slots);
    return st;
}
