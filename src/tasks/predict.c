/* What a run says of pictures, and the values inside it that taps name.
 *
 * Pictures go through in batches of 1, 2, 4, ... 128, the last one filled up with what lay there before,
 * so that few plans serve any number; a sample's bits do not depend on its neighbours. A tap's first size
 * at batch 1 and 2 tells how often it has a picture: k and 2 k. */

#include "base/sizes.h"
#include "base/text.h"
#include "data/normal.h"
#include "graph/graph.h"
#include "tasks/run.h"
#include "train/mirror.h"

#include <inttypes.h>
#include <string.h>

#define PREDICT_BATCH 128
#define TAPS_MOST 256                         /* of one run */
#define TAPS_BATCH_BYTES ((uint64_t)64 << 20) /* of taps in one batch */
#define TAPS_BYTES ((uint64_t)1 << 30)        /* kept, when nothing is said */

void heed_run_normalise(const heed_run *r, heed_tensor pictures, float *to)
{
    const int64_t plane = r->config.height * r->config.width, size = r->config.channels * plane;
    const int64_t n = heed_type_count(&pictures.type) / i64_max(1, size);
    const uint8_t *from = pictures.data;
    float table[256];

    for (int64_t c = 0; c < r->config.channels; c++) {
        heed__normal_table(table, r->config.mean[c], r->config.std[c]);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i * size + c * plane, end = j + plane; j < end; j++)
                to[j] = table[from[j]];
    }
}

static heed_status check_pictures(const heed_run *r, const heed_type *t, heed_error *err)
{
    const run_config *c = &r->config;
    const int rank = t->rank;
    const bool fits = t->dtype == HEED_U8 && heed_type_count(t) >= 0 &&
                      (rank == 4 || (rank == 3 && c->channels == 1)) && t->dims[rank - 1] == c->width &&
                      t->dims[rank - 2] == c->height && (rank == 3 || t->dims[1] == c->channels);

    if (fits)
        return HEED_OK;
    return heed__fail(err, HEED_ERR_SHAPE, "predict: the model takes pictures u8 [n,%lld,%lld,%lld]",
                      (long long)c->channels, (long long)c->height, (long long)c->width);
}

/* The least power of two that n pictures fill, or the most. */
static int64_t predict_batch(int64_t n, int64_t most)
{
    int64_t batch = 1;

    while (batch < n && batch < most)
        batch *= 2;
    return batch;
}

/* ---- predicting ---- */

/* One batch of pictures: as the loader makes them, and what the network says. */
typedef struct prediction {
    heed_run *run;
    heed_average average;
    heed_taps *taps; /* NULL: none */
    int64_t batch;
    heed_tensor x, logits;
    float *flipped, *others; /* with mirror */
} prediction;

static heed_status predict_prepare(prediction *p, heed_error *err)
{
    heap *h = p->run->ctx->heap;
    size_t pixels, numbers;

    p->x.type = heed_run_input_type(p->run, p->batch);
    p->logits.type = heed_type_of(HEED_F32, 2, (const int64_t[]){ p->batch, p->run->config.classes });
    pixels = (size_t)heed_type_count(&p->x.type);
    numbers = (size_t)heed_type_count(&p->logits.type);
    p->x.data = heed__alloc(h, pixels, sizeof(float));
    p->logits.data = heed__alloc(h, numbers, sizeof(float));
    if (p->average == HEED_AVERAGE_MIRROR) {
        p->flipped = heed__alloc(h, pixels, sizeof(float));
        p->others = heed__alloc(h, numbers, sizeof(float));
    }
    if (!p->x.data || !p->logits.data || (p->average == HEED_AVERAGE_MIRROR && (!p->flipped || !p->others)))
        return heed__fail_memory(err, pixels * sizeof(float));
    return HEED_OK;
}

static void predict_release(prediction *p)
{
    heap *h = p->run->ctx->heap;

    heed__release(h, p->x.data);
    heed__release(h, p->logits.data);
    heed__release(h, p->flipped);
    heed__release(h, p->others);
}

static heed_status taps_run(heed_taps *t, const prediction *p, int64_t count, heed_error *err);

/* All pictures; logits has room for them. */
static heed_status predict_all(prediction *p, heed_tensor pictures, float *logits, heed_error *err)
{
    const heed_type input = heed_run_input_type(p->run, 1);
    const int64_t size = heed_type_count(&input), classes = p->run->config.classes, n = pictures.type.dims[0];
    heed_status st = HEED_OK;

    STEP(predict_prepare(p, err));
    for (int64_t i = 0; i < n; i += p->batch) {
        const int64_t count = i64_min(p->batch, n - i);
        const heed_tensor part = { heed_type_of(HEED_U8, 2, (const int64_t[]){ count, size }),
                                   (uint8_t *)pictures.data + i * size };

        heed_run_normalise(p->run, part, p->x.data);
        if (p->taps)
            STEP(taps_run(p->taps, p, count, err));
        else
            STEP(heed_model_run(p->run->model, &p->x, 1, &p->logits, 1, err));
        if (p->average == HEED_AVERAGE_MIRROR)
            STEP(heed__average_mirror(p->run->model, &p->x, &p->logits, p->flipped, p->others, err));
        memcpy(logits + i * classes, p->logits.data, (size_t)(count * classes) * sizeof *logits);
    }
done:
    predict_release(p);
    return st;
}

heed_status heed_run_predict(heed_run *r, heed_tensor pictures, heed_average average, float *logits,
                             heed_error *err)
{
    prediction p = { .run = r, .average = average };

    TRY(check_pictures(r, &pictures.type, err));
    p.batch = predict_batch(pictures.type.dims[0], PREDICT_BATCH);
    return predict_all(&p, pictures, logits, err);
}

/* ---- taps ---- */

typedef struct kept_tap {
    const char *name; /* in the arena */
    heed_type type;   /* at batch 1: [k, ...] */
    size_t bytes;     /* of one picture */
    uint8_t *batch;   /* one batch of it */
    uint8_t *kept;    /* [n] pictures */
    size_t room;      /* bytes of `kept` */
} kept_tap;

struct heed_taps {
    heed_run *run;
    arena arena;
    kept_tap *taps; /* [n_taps], in the order asked for, those of one pattern in the model's */
    int n_taps;
    uint64_t bytes; /* of one picture, all taps */
    uint64_t most;
    int64_t n, batch; /* pictures kept; pictures of a batch */
};

/* Says which names there are, as many as a message holds. */
static heed_status taps_unknown(const heed_taps *t, const heed_graph *g, const char *pattern, heed_error *err)
{
    const char **names = heed__alloc(t->run->ctx->heap, (size_t)g->n_taps + 1, sizeof *names), *near = NULL;
    heed_status st = HEED_ERR_USAGE;
    char shown[200];
    text list;

    heed__text_init(&list, t->run->ctx->heap, 0);
    if (!names) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    for (uint32_t i = 0; i < g->n_taps; i++) {
        names[i] = g->taps[i].name;
        if (list.size < 280)
            heed__text_add(&list, "%s%s", i ? ", " : "", g->taps[i].name);
        else if (i + 1 == g->n_taps)
            heed__text_add(&list, " and more");
    }
    near = heed__nearest(pattern, names);
    heed__shown(shown, pattern, strlen(pattern));
    if (list.failed)
        st = heed__fail_memory(err, 0);
    else if (g->n_taps == 0)
        heed__fail(err, st, "this model (%s) has no taps, so \"%s\" is none: its layers name no value inside",
                   t->run->config.architecture, shown);
    else
        heed__fail(err, st, "there is no tap \"%s\" in this model%s%s%s it has %s", shown,
                   near ? ": did you mean " : ";", near ? near : "", near ? "?" : "", list.data);
done:
    heed__text_release(&list);
    heed__release(t->run->ctx->heap, names);
    return st;
}

/* Puts tap i of the graphs for one picture and for two at the end of the list. */
static heed_status taps_add(heed_taps *t, const heed_graph *one, const heed_graph *two, uint32_t i,
                            heed_error *err)
{
    const heed_type *a = &heed__value(one, one->taps[i].value)->type,
                    *b = &heed__value(two, two->taps[i].value)->type;
    kept_tap *k = &t->taps[t->n_taps];
    bool of_pictures = a->rank == b->rank && a->rank > 0 && b->dims[0] == 2 * a->dims[0] && a->dims[0] > 0;

    for (int d = 1; of_pictures && d < a->rank; d++)
        of_pictures = a->dims[d] == b->dims[d];
    if (!of_pictures)
        return heed__fail(err, HEED_ERR_SPEC,
                          "tap \"%.100s\" is not of the pictures: its first size does not follow the batch",
                          one->taps[i].name);
    k->name = heed__arena_string(&t->arena, one->taps[i].name);
    if (!k->name)
        return heed__fail_memory(err, 0);
    k->type = *a;
    k->bytes = (size_t)heed_type_count(a) * heed_dtype_size(a->dtype);
    t->bytes += k->bytes;
    t->n_taps++;
    return HEED_OK;
}

static bool taps_have(const heed_taps *t, const char *name)
{
    for (int i = 0; i < t->n_taps; i++)
        if (strcmp(t->taps[i].name, name) == 0)
            return true;
    return false;
}

static heed_status taps_choose(heed_taps *t, const heed_graph *one, const heed_graph *two,
                               const char *const *patterns, heed_error *err)
{
    t->taps = heed__alloc(t->run->ctx->heap, (size_t)one->n_taps, sizeof *t->taps);
    if (!t->taps)
        return heed__fail_memory(err, one->n_taps * sizeof *t->taps);
    for (int64_t p = 0; patterns[p]; p++) {
        bool found = false;

        for (uint32_t i = 0; i < one->n_taps; i++) {
            if (!heed__name_matches(patterns[p], one->taps[i].name))
                continue;
            found = true;
            if (!taps_have(t, one->taps[i].name))
                TRY(taps_add(t, one, two, i, err));
        }
        if (!found)
            return taps_unknown(t, one, patterns[p], err);
    }
    if (t->n_taps == 0 || t->n_taps > TAPS_MOST)
        return heed__fail(err, HEED_ERR_USAGE, "%d taps were asked for; 1 to %d can be kept at a time",
                          t->n_taps, TAPS_MOST);
    return HEED_OK;
}

/* Tells the model, and takes the memory of one batch: fewer pictures where a picture has much. */
static heed_status taps_prepare(heed_taps *t, heed_error *err)
{
    const char *names[TAPS_MOST + 1] = { NULL };

    t->batch = PREDICT_BATCH;
    while (t->batch > 1 && (uint64_t)t->batch * t->bytes > TAPS_BATCH_BYTES)
        t->batch /= 2;
    for (int i = 0; i < t->n_taps; i++) {
        names[i] = t->taps[i].name;
        t->taps[i].batch = heed__alloc(t->run->ctx->heap, (size_t)t->batch, t->taps[i].bytes);
        if (!t->taps[i].batch)
            return heed__fail_memory(err, (uint64_t)t->batch * t->taps[i].bytes);
    }
    return heed_model_taps(t->run->model, names, err);
}

heed_status heed_taps_open(heed_taps **out, heed_run *r, const char *const *patterns, uint64_t most_bytes,
                           heed_error *err)
{
    const heed_type first = heed_run_input_type(r, 1), second = heed_run_input_type(r, 2);
    heed_taps *t = heed__alloc(r->ctx->heap, 1, sizeof *t);
    heed_graph *one = NULL, *two = NULL;
    heed_status st;

    if (!t)
        return heed__fail_memory(err, sizeof *t);
    t->run = r;
    t->most = most_bytes ? most_bytes : TAPS_BYTES;
    heed__arena_init(&t->arena, r->ctx->heap);
    STEP(heed_model_graph(r->model, &first, 1, HEED_EVAL, &one, err));
    STEP(heed_model_graph(r->model, &second, 1, HEED_EVAL, &two, err));
    STEP(taps_choose(t, one, two, patterns, err));
    STEP(taps_prepare(t, err));
    *out = t;
    t = NULL;
done:
    heed_graph_free(one);
    heed_graph_free(two);
    heed_taps_close(t);
    return st;
}

void heed_taps_close(heed_taps *t)
{
    heed_status ignored;
    heap *h;

    if (!t)
        return;
    h = t->run->ctx->heap;
    ignored = heed_model_taps(t->run->model, NULL, NULL); /* of none it cannot fail */
    (void)ignored;
    for (int i = 0; t->taps && i < t->n_taps; i++) {
        heed__release(h, t->taps[i].batch);
        heed__release(h, t->taps[i].kept);
    }
    heed__release(h, t->taps);
    heed__arena_release(&t->arena);
    heed__release(h, t);
}

/* Room for `count` pictures more, before anything is computed. */
static heed_status taps_make_room(heed_taps *t, int64_t count, heed_error *err)
{
    const int64_t n = t->n + count;

    if (t->bytes > 0 && (uint64_t)n > t->most / t->bytes)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "the taps take %" PRIu64 " bytes a picture: %" PRId64
                          " pictures are more than the %" PRIu64
                          " bytes that may be kept; ask for fewer taps or pictures, or allow more",
                          t->bytes, n, t->most);
    for (int i = 0; i < t->n_taps; i++) {
        kept_tap *k = &t->taps[i];
        const size_t needed = (size_t)n * k->bytes; /* <= most */
        size_t room;
        uint8_t *kept;

        if (needed <= k->room)
            continue;
        if (!heed__size_add(&room, needed, needed / 2))
            room = needed;
        kept = heed__resize(t->run->ctx->heap, k->kept, room, 1);
        if (!kept)
            return heed__fail_memory(err, room);
        k->kept = kept;
        k->room = room;
    }
    return HEED_OK;
}

static heed_type taps_type(const kept_tap *k, int64_t n)
{
    heed_type type = k->type;

    if (type.dims[0] > 1 && type.rank < HEED_MAX_RANK) { /* several a picture: [n, k, ...] */
        memmove(type.dims + 1, type.dims, (size_t)type.rank * sizeof *type.dims);
        type.rank++;
        type.dims[0] = 1;
    }
    type.dims[0] *= n;
    return type;
}

/* Runs one batch and keeps the taps of its first `count` pictures, for which there is room. */
static heed_status taps_run(heed_taps *t, const prediction *p, int64_t count, heed_error *err)
{
    heed_tensor out[TAPS_MOST + 1];

    out[0] = p->logits;
    for (int i = 0; i < t->n_taps; i++) {
        out[i + 1] = (heed_tensor){ t->taps[i].type, t->taps[i].batch };
        out[i + 1].type.dims[0] *= p->batch;
    }
    TRY(heed_model_run(t->run->model, &p->x, 1, out, t->n_taps + 1, err));
    for (int i = 0; i < t->n_taps; i++) {
        kept_tap *k = &t->taps[i];

        if (k->bytes > 0)
            memcpy(k->kept + (size_t)t->n * k->bytes, k->batch, (size_t)count * k->bytes);
    }
    t->n += count;
    return HEED_OK;
}

heed_status heed_taps_predict(heed_taps *t, heed_tensor pictures, float *logits, heed_error *err)
{
    prediction p = { .run = t->run, .taps = t };
    const int64_t before = t->n;
    heed_status st;

    TRY(check_pictures(t->run, &pictures.type, err));
    TRY(taps_make_room(t, pictures.type.dims[0], err));
    p.batch = predict_batch(pictures.type.dims[0], t->batch);
    st = predict_all(&p, pictures, logits, err);
    if (st != HEED_OK)
        t->n = before;
    return st;
}

heed_status heed_taps_write(const heed_taps *t, const char *path, heed_error *err)
{
    heed_named_tensor *list = heed__alloc(t->run->ctx->heap, (size_t)t->n_taps + 1, sizeof *list);
    heed_status st;
    text edits;

    if (!list)
        return heed__fail_memory(err, (size_t)t->n_taps * sizeof *list);
    heed__text_init(&edits, t->run->ctx->heap, 0);
    for (int i = 0; i < t->n_taps; i++)
        list[i] = (heed_named_tensor){ t->taps[i].name, { taps_type(&t->taps[i], t->n), t->taps[i].kept } };
    for (int i = 0; i < heed_model_edits(t->run->model, NULL); i++)
        heed__text_add(&edits, "%s\n", heed_model_edit_text(t->run->model, i));
    list[t->n_taps] = (heed_named_tensor){ HEED_NPZ_EDITS, { HEED_TYPE(HEED_U8, (int64_t)edits.size), edits.data } };
    st = edits.failed ? heed__fail_memory(err, 0)
                      : heed_npz_write(t->run->ctx, path, list, t->n_taps + (edits.size > 0), err);
    heed__text_release(&edits);
    heed__release(t->run->ctx->heap, list);
    return st;
}

int heed_taps_count(const heed_taps *t)
{
    return t->n_taps;
}

const char *heed_taps_name(const heed_taps *t, int i)
{
    return i >= 0 && i < t->n_taps ? t->taps[i].name : "";
}

heed_type heed_taps_type(const heed_taps *t, int i)
{
    return i >= 0 && i < t->n_taps ? taps_type(&t->taps[i], t->n) : heed_type_of(HEED_F32, -1, NULL);
}
