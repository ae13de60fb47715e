/* What others watch a training with: TensorBoard's event files in the folder of the run, beside
 * metrics.jsonl.
 *
 * Each epoch gives a number for each tag. Every few epochs a few pictures of the validation part, always the
 * same, show where each head of each attention looks: what key k gets, mean over queries q of w[h, q, k],
 * over the picture. The model is asked as it is evaluated, so no bit of the training depends on it.
 *
 * Without protobuf-c no file is made, and without libpng no picture: a run is whole without them. */

#include "tasks/job.h"
#include "explain/draw.h"
#include "explain/explain.h"

#include <stdio.h>
#include <string.h>

#define EVENTS_NAME "events.out.tfevents."
#define PICTURES 4
#define PICTURE_SIDE 112 /* pixels, at least, of the longer side */
#define TAGS_MOST 64 /* heads of all attentions; of models with more the mean of each attention is shown */

/* The recipe as Markdown, so that curves of many runs can be told apart. */
static heed_status put_recipe(job *j)
{
    char *recipe = NULL;
    heed_status st;
    text t;

    heed__text_init(&t, j->ctx->heap, 0);
    STEP(heed_recipe_print(&recipe, j->recipe, j->err));
    heed__text_add(&t, "```yaml\n%s```\n", recipe);
    st = t.failed ? heed__fail_memory(j->err, t.size)
                  : heed_events_text(j->events, "recipe", j->begun_at, t.data, j->err);
done:
    heed_text_free(j->ctx, recipe);
    heed__text_release(&t);
    return st;
}

/* ---- files ---- */

static bool is_listed(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static bool is_event_file(const folder_entry *e)
{
    return e->kind != OS_FOLDER && strncmp(e->name, EVENTS_NAME, strlen(EVENTS_NAME)) == 0;
}

/* Removes the event files of a folder but for those listed: they tell of a training that is no more. */
static heed_status remove_others(job *j, const char *folder, const char *const *kept)
{
    folder_list list = { .n = 0 };
    heed_status st;

    STEP(heed__folder_list(&list, j->ctx, folder, j->err));
    for (uint32_t i = 0; i < list.n; i++) {
        const char *path;

        if (!is_event_file(&list.entries[i]) || is_listed(kept, list.entries[i].name))
            continue;
        path = heed__arena_format(&j->arena, "%s/%s", folder, list.entries[i].name);
        if (!path) {
            st = heed__fail_memory(j->err, strlen(folder));
            goto done;
        }
        STEP(heed__file_remove(j->ctx, path, j->err));
    }
done:
    heed__folder_list_release(j->ctx, &list);
    return st;
}

/* The event files of this training, which moves to another folder when it is whole. */
static heed_status list_own(job *j)
{
    folder_list list = { .n = 0 };
    const char **names;
    heed_status st;
    uint32_t n = 0;

    STEP(heed__folder_list(&list, j->ctx, j->work, j->err));
    names = heed__arena_alloc(&j->arena, (size_t)list.n + 1, sizeof *names);
    for (uint32_t i = 0; names && i < list.n; i++)
        if (is_event_file(&list.entries[i])) {
            names[n] = heed__arena_string(&j->arena, list.entries[i].name);
            if (!names[n++])
                names = NULL;
        }
    if (!names)
        st = heed__fail_memory(j->err, 0);
    j->event_files = names;
done:
    heed__folder_list_release(j->ctx, &list);
    return st;
}

static heed_status begin(job *j)
{
    const heed_events_opts resumed = { .resumed = HEED_SET(j->begun_at) };

    if (j->begun_at == 0)
        TRY(remove_others(j, j->work, NULL));
    TRY(heed_events_open(&j->events, j->ctx, j->work, j->begun_at > 0 ? &resumed : NULL, j->err));
    return put_recipe(j);
}

/* ---- numbers ---- */

static heed_status put_numbers(job *j)
{
    const checkpoint_state *at = &j->at;
    const struct {
        const char *tag;
        double value;
        bool known;
    } numbers[] = {
        { "train/loss", j->progress.loss, true },
        { "val/loss", at->validation_loss, j->validation != NULL },
        { "val/accuracy", at->validation_accuracy, j->validation != NULL },
        { "lr", at->lr, true },
        { "grad_norm", at->grad_norm, true },
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].known)
            TRY(heed_events_scalar(j->events, numbers[i].tag, at->step, numbers[i].value, j->err));
    return HEED_OK;
}

/* ---- pictures ---- */

/* What a model attends to on some pictures. */
typedef struct looks {
    arena arena;
    records at[PICTURES];
    heed_tensor picture[PICTURES]; /* u8 [C,H,W] */
    int n;
} looks;

static heed_status take_looks(looks *l, job *j)
{
    const heed_type image = heed_dataset_image_type(j->data);
    const int64_t numbers = heed_type_count(&image);
    heed_tensor x, y;
    int64_t count;

    TRY(heed_loader_start(j->validation, 0, 0, j->err));
    TRY(heed_loader_next(j->validation, &x, &y, &count, j->err));
    for (int i = 0; i < PICTURES && i < count; i++) {
        const heed_tensor one = { .type = heed_type_of(
                                      HEED_F32, 4,
                                      (const int64_t[]){ 1, image.dims[0], image.dims[1], image.dims[2] }),
                                  .data = (float *)x.data + i * numbers };

        l->picture[i] = (heed_tensor){ .type = image,
                                       .data = (void *)(uintptr_t)heed_dataset_image(j->data, j->held[i]) };
        l->n = i + 1; /* released in any case */
        TRY(heed__records_take(&l->at[i], j->model, &one, &l->arena, j->err));
    }
    return HEED_OK;
}

/* Mean over queries, and over heads when head is -1; of the keys that lie on the picture. */
static void map_of(float *map, const heed_attention_record *a, int64_t head)
{
    const int64_t cells = a->grid.rows * a->grid.cols, first = head < 0 ? 0 : head,
                  end = head < 0 ? a->heads : head + 1;
    double sum = 0;

    for (int64_t k = 0; k < cells; k++) {
        double got = 0;

        for (int64_t h = first; h < end; h++)
            for (int64_t q = 0; q < a->queries; q++)
                got += (double)a->weights[(h * a->queries + q) * a->keys + a->grid.first + k];
        map[k] = (float)got;
        sum += got;
    }
    for (int64_t k = 0; k < cells && sum > 0; k++)
        map[k] = (float)((double)map[k] / sum);
}

/* The PNG of a map over its picture. */
static heed_status draw(heed_event_image *out, job *j, heed_tensor picture, const heed_attention_record *a,
                        int64_t head, float *map)
{
    const heed_explanation e = { .picture = picture };
    const heed_saliency s = { .rows = a->grid.rows, .cols = a->grid.cols, .map = map };
    const int64_t side = i64_max(picture.type.dims[1], picture.type.dims[2]);
    pixels p = { 0 };
    void *png = NULL;
    heed_status st;

    map_of(map, a, head);
    STEP(heed__draw_overlay(&p, j->ctx, &e, &s, i64_ceil_div(PICTURE_SIDE, side), j->err));
    STEP(heed_image_encode_png(&png, &out->size, j->ctx, heed__pixels_tensor(&p), j->err));
    out->png = png;
    out->width = p.width;
    out->height = p.height;
done:
    heed__pixels_release(j->ctx, &p);
    return st;
}

static heed_status put_head(job *j, const looks *l, int64_t layer, int64_t head, float *map)
{
    heed_event_image images[PICTURES] = { { 0 } };
    char tag[64];
    heed_status st = HEED_OK;

    if (head < 0)
        (void)snprintf(tag, sizeof tag, "attention/L%lld", (long long)layer);
    else
        (void)snprintf(tag, sizeof tag, "attention/L%lld/H%lld", (long long)layer, (long long)head);
    for (int i = 0; i < l->n; i++)
        STEP(draw(&images[i], j, l->picture[i], &l->at[i].list[layer], head, map));
    STEP(heed_events_image(j->events, tag, j->at.step, images, l->n, j->err));
done:
    for (int i = 0; i < l->n; i++)
        heed_bytes_free(j->ctx, (void *)(uintptr_t)images[i].png);
    return st;
}

static heed_status put_looks(job *j, looks *l)
{
    const records *r = &l->at[0];
    int64_t tags = 0, cells = 0;
    float *map;

    for (int64_t i = 0; i < r->n; i++) {
        tags += r->list[i].heads;
        cells = i64_max(cells, r->list[i].grid.rows * r->list[i].grid.cols);
    }
    if (cells == 0) /* no attention, or none that lies on the picture */
        return HEED_OK;
    map = heed__arena_alloc(&l->arena, (size_t)cells, sizeof *map);
    if (!map)
        return heed__fail_memory(j->err, (uint64_t)cells * sizeof *map);
    for (int64_t i = 0; i < r->n; i++) {
        if (r->list[i].grid.rows == 0)
            continue;
        if (tags > TAGS_MOST)
            TRY(put_head(j, l, i, -1, map));
        for (int64_t h = 0; tags <= TAGS_MOST && h < r->list[i].heads; h++)
            TRY(put_head(j, l, i, h, map));
    }
    return HEED_OK;
}

static heed_status put_pictures(job *j)
{
    const int64_t every = j->recipe->values->train.tensorboard_pictures;
    looks l = { .n = 0 };
    heed_status st;

    if (!j->validation || every == 0 || j->at.epoch % every != 0 || !heed_has_feature("png"))
        return HEED_OK;
    heed__arena_init(&l.arena, j->ctx->heap);
    STEP(take_looks(&l, j));
    STEP(put_looks(j, &l));
done:
    for (int i = 0; i < l.n; i++)
        heed__records_release(&l.at[i]);
    heed__arena_release(&l.arena);
    return st;
}

/* ---- calls of a training ---- */

heed_status heed__job_events_epoch(job *j)
{
    heed_status st;

    if (!j->recipe->values->train.tensorboard || !heed_has_feature("protobuf"))
        return HEED_OK;
    if (!j->events)
        TRY(begin(j));
    TRY(put_numbers(j));
    heed_trainer_swap_average(j->trainer); /* what was evaluated is what is looked into */
    st = put_pictures(j);
    heed_trainer_swap_average(j->trainer);
    return st == HEED_OK ? heed_events_flush(j->events, j->err) : st;
}

heed_status heed__job_events_end(job *j)
{
    heed_events *e = j->events;

    j->events = NULL;
    TRY(heed_events_close(e, j->err));
    return list_own(j);
}

heed_status heed__job_events_settled(job *j)
{
    return remove_others(j, j->opts->out, j->event_files);
}
