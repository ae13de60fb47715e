/* A data set looked at whole: what heed data check tells. Pixels are not kept; a digest and a type for each
 * picture are, and two sorts find what is the same. */

#include "data/dataset.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/sort.h"
#include "data/pictures.h"

#include <inttypes.h>
#include <string.h>

/* One picture that can be read. */
typedef struct check_item {
    uint8_t digest[32];
    const char *source;
    int64_t channels, height, width, label;
    scan_part part; /* as it is used: never SCAN_RULE */
} check_item;

typedef struct check_job {
    heed_data_report report; /* first: the caller's pointer is ours */
    heed_context *ctx;
    arena arena;
    const heed_dataset_opts *opts;
    folder_scan scan;
    check_item *items; /* owned */
    int64_t n, room, bad_room;
    uint32_t *order, *sort_room; /* owned */
} check_job;

/* ---- collecting ---- */

static heed_status check_add(check_job *j, const check_item *item, heed_error *err)
{
    if (j->n == j->room) {
        const int64_t room = j->room ? 2 * j->room : 256;
        check_item *grown = heed__resize(j->ctx->heap, j->items, (size_t)room, sizeof *grown);

        if (!grown)
            return heed__fail_memory(err, (uint64_t)room * sizeof *grown);
        j->items = grown;
        j->room = room;
    }
    j->items[j->n++] = *item;
    return HEED_OK;
}

static heed_status check_add_bad(check_job *j, const char *source, const char *why, heed_error *err)
{
    heed_data_report *r = &j->report;
    heed_data_bad bad = { heed__arena_string(&j->arena, source), heed__arena_string(&j->arena, why) };

    if (!bad.source || !bad.why)
        return heed__fail_memory(err, strlen(why));
    if (r->n_bad == j->bad_room) {
        const int64_t room = j->bad_room ? 2 * j->bad_room : 16;
        heed_data_bad *grown = heed__resize(j->ctx->heap, r->bad, (size_t)room, sizeof *grown);

        if (!grown)
            return heed__fail_memory(err, (uint64_t)room * sizeof *grown);
        r->bad = grown;
        j->bad_room = room;
    }
    r->bad[r->n_bad++] = bad;
    return HEED_OK;
}

/* The part that a picture of the training folder is used in. */
static scan_part check_side(const check_job *j, const uint8_t digest[32])
{
    const double bucket = (double)heed__split_bucket(digest);
    const double v = j->report.own_validation ? 0 : j->opts->validation,
                 t = j->report.own_test ? 0 : j->opts->test;

    return bucket < v * SPLIT_BUCKETS         ? SCAN_VALIDATION
           : bucket < (v + t) * SPLIT_BUCKETS ? SCAN_TEST
                                              : SCAN_TRAIN;
}

static heed_status check_take(void *user, int64_t sample, const picture *p, heed_error *err)
{
    check_job *j = user;
    const scan_sample *s = &j->scan.samples[sample];
    check_item item = { .source = s->source, .label = s->label, .part = s->part };

    if (p->st != HEED_OK)
        return check_add_bad(j, s->source, p->err.text, err);
    memcpy(item.digest, p->digest, sizeof item.digest);
    item.channels = p->type.dims[0];
    item.height = p->type.dims[1];
    item.width = p->type.dims[2];
    if (s->part == SCAN_RULE || s->part == SCAN_TRAIN)
        item.part = check_side(j, p->digest);
    return check_add(j, &item, err);
}

static heed_status check_name_classes(check_job *j, int64_t n, const char *const *names, heed_error *err)
{
    heed_data_report *r = &j->report;

    r->classes = heed__arena_alloc(&j->arena, (size_t)n, sizeof *r->classes);
    if (!r->classes)
        return heed__fail_memory(err, (uint64_t)n * sizeof *r->classes);
    r->n_classes = n;
    for (int64_t i = 0; i < n; i++) {
        r->classes[i].name =
            names ? heed__arena_string(&j->arena, names[i]) : heed__arena_format(&j->arena, "%" PRId64, i);
        if (!r->classes[i].name)
            return heed__fail_memory(err, 0);
    }
    return HEED_OK;
}

static heed_status check_folder(check_job *j, const char *path, heed_error *err)
{
    heed_data_report *r = &j->report;
    folder_scan *s = &j->scan;

    TRY(heed__scan_folder(s, j->ctx, path, j->opts->classes, err));
    r->own_validation = s->parts[SCAN_VALIDATION];
    r->own_test = s->parts[SCAN_TEST];
    r->hidden = s->hidden;
    r->others = s->others;
    r->outside = s->outside;
    TRY(check_name_classes(j, s->n_classes, s->classes, err));
    return heed__pictures_read(s,
                               &(pictures_opts){ .n = s->n,
                                                 .take = check_take,
                                                 .user = j,
                                                 .progress = j->opts->progress,
                                                 .progress_user = j->opts->user },
                               err);
}

/* ---- IDX ---- */

static heed_status check_idx_items(check_job *j, const heed_dataset *d, const char *name, heed_error *err)
{
    const heed_type t = heed_dataset_image_type(d);

    for (int64_t i = 0; i < heed_dataset_count(d); i++) {
        check_item item = { .label = heed_dataset_label(d, i),
                            .channels = t.dims[0],
                            .height = t.dims[1],
                            .width = t.dims[2],
                            .part = SCAN_TEST };
        sha256 s;

        heed__sha256_init(&s);
        heed__sha256_add(&s, heed_dataset_image(d, i), (size_t)heed_type_count(&t));
        heed__sha256_end(&s, item.digest);
        if (strcmp(name, "train") == 0)
            item.part = check_side(j, item.digest);
        item.source = heed__arena_format(&j->arena, "%s[%" PRId64 "]", name, i);
        if (!item.source)
            return heed__fail_memory(err, 0);
        TRY(check_add(j, &item, err));
    }
    return HEED_OK;
}

static heed_status check_idx(check_job *j, const char *path, heed_error *err)
{
    static const char *const parts[] = { "train", "test" };
    int64_t classes = 0;

    j->report.own_test = true;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        heed_dataset *d = NULL;
        heed_error why = { 0 };
        heed_status st = heed_dataset_open_idx(&d, j->ctx, path, parts[k], &why);

        if (st == HEED_ERR_MEMORY)
            return heed__fail_at(err, st, path, "%s", why.text);
        if (st != HEED_OK) {
            TRY(check_add_bad(j, why.path[0] ? why.path : parts[k], why.text, err));
            continue;
        }
        classes = heed_dataset_classes(d) > classes ? heed_dataset_classes(d) : classes;
        st = check_idx_items(j, d, parts[k], err);
        heed_dataset_free(d);
        TRY(st);
    }
    return check_name_classes(j, classes, NULL, err);
}

/* ---- what is the same ---- */

static int check_compare_size(const check_item *a, const check_item *b)
{
    return a->channels != b->channels ? (a->channels < b->channels ? -1 : 1)
           : a->height != b->height   ? (a->height < b->height ? -1 : 1)
           : a->width != b->width     ? (a->width < b->width ? -1 : 1)
                                      : 0;
}

static bool check_size_before(const void *items, uint32_t a, uint32_t b)
{
    const check_item *i = items;

    return check_compare_size(&i[a], &i[b]) < 0;
}

static bool check_digest_before(const void *items, uint32_t a, uint32_t b)
{
    const check_item *i = items;

    return memcmp(i[a].digest, i[b].digest, sizeof i[a].digest) < 0;
}

static bool check_commoner(const void *items, uint32_t a, uint32_t b)
{
    const heed_data_size *s = items;

    return s[a].pictures > s[b].pictures;
}

static heed_status check_sizes(check_job *j, heed_error *err)
{
    heed_data_report *r = &j->report;
    heed_data_size *found = heed__alloc(j->ctx->heap, (size_t)j->n, sizeof *found);

    r->sizes = heed__arena_alloc(&j->arena, (size_t)j->n, sizeof *r->sizes);
    if (!found || !r->sizes) {
        heed__release(j->ctx->heap, found);
        return heed__fail_memory(err, (uint64_t)j->n * sizeof *found);
    }
    heed__sort(j->order, j->sort_room, (uint32_t)j->n, check_size_before, j->items);
    for (int64_t i = 0; i < j->n; i++) {
        const check_item *item = &j->items[j->order[i]];

        if (i == 0 || check_compare_size(item, &j->items[j->order[i - 1]]) != 0)
            found[r->n_sizes++] = (heed_data_size){ item->channels, item->height, item->width, 0 };
        found[r->n_sizes - 1].pictures++;
    }
    heed__sort(j->order, j->sort_room, (uint32_t)r->n_sizes, check_commoner, found);
    for (int64_t i = 0; i < r->n_sizes; i++)
        r->sizes[i] = found[j->order[i]];
    heed__release(j->ctx->heap, found);
    return HEED_OK;
}

/* The sort is stable, so the first of equal digests is the first in the folder. */
static heed_status check_twins(check_job *j, heed_error *err)
{
    heed_data_report *r = &j->report;
    int64_t twins = 0, first = 0;

    heed__sort(j->order, j->sort_room, (uint32_t)j->n, check_digest_before, j->items);
    for (int64_t i = 1; i < j->n; i++)
        twins += memcmp(j->items[j->order[i]].digest, j->items[j->order[i - 1]].digest, 32) == 0;
    r->twins = heed__arena_alloc(&j->arena, (size_t)twins, sizeof *r->twins);
    if (!r->twins)
        return heed__fail_memory(err, (uint64_t)twins * sizeof *r->twins);
    for (int64_t i = 1; i < j->n; i++) {
        const check_item *item = &j->items[j->order[i]], *other = &j->items[j->order[first]];
        heed_data_twin *t = &r->twins[r->n_twins];

        if (memcmp(item->digest, other->digest, sizeof item->digest) != 0) {
            first = i;
            continue;
        }
        *t = (heed_data_twin){ .across_parts = item->part != other->part,
                               .across_classes = item->label != other->label };
        t->source = heed__arena_string(&j->arena, item->source);
        t->other = heed__arena_string(&j->arena, other->source);
        if (!t->source || !t->other)
            return heed__fail_memory(err, 0);
        r->n_twins++;
    }
    return HEED_OK;
}

static heed_status check_sum_up(check_job *j, heed_error *err)
{
    heed_data_report *r = &j->report;

    if (j->n > UINT32_MAX)
        return heed__fail(err, HEED_ERR_LIMIT, "%" PRId64 " pictures are more than can be compared", j->n);
    r->pictures = j->n;
    for (int64_t i = 0; i < j->n; i++) {
        heed_data_class *c = &r->classes[j->items[i].label];

        c->train += j->items[i].part == SCAN_TRAIN;
        c->validation += j->items[i].part == SCAN_VALIDATION;
        c->test += j->items[i].part == SCAN_TEST;
    }
    j->order = heed__alloc(j->ctx->heap, (size_t)j->n, sizeof *j->order);
    j->sort_room = heed__alloc(j->ctx->heap, (size_t)j->n, sizeof *j->sort_room);
    if (!j->order || !j->sort_room)
        return heed__fail_memory(err, (uint64_t)j->n * sizeof *j->order);
    TRY(check_sizes(j, err));
    return check_twins(j, err);
}

/* ---- the calls ---- */

static void check_end(check_job *j)
{
    heed__scan_release(&j->scan);
    heed__release(j->ctx->heap, j->items);
    heed__release(j->ctx->heap, j->order);
    heed__release(j->ctx->heap, j->sort_room);
    j->items = NULL;
    j->order = j->sort_room = NULL;
}

heed_status heed_data_check(heed_data_report **out, heed_context *ctx, const char *path,
                            const heed_dataset_opts *opts, heed_error *err)
{
    const heed_dataset_opts none = { .kind = HEED_DATASET_AUTO };
    check_job *j = heed__alloc(ctx->heap, 1, sizeof *j);
    heed_status st;
    bool idx;

    if (!j)
        return heed__fail_memory(err, sizeof *j);
    *j = (check_job){ .ctx = ctx, .opts = opts ? opts : &none };
    heed__arena_init(&j->arena, ctx->heap);
    j->report.kind = j->opts->kind;
    if (j->report.kind == HEED_DATASET_AUTO) {
        STEP(heed__scan_has_idx(&idx, ctx, path, err));
        j->report.kind = idx ? HEED_DATASET_IDX : HEED_DATASET_FOLDER;
    }
    STEP(j->report.kind == HEED_DATASET_IDX ? check_idx(j, path, err) : check_folder(j, path, err));
    STEP(check_sum_up(j, err));
    check_end(j);
    *out = &j->report;
    return HEED_OK;
done:
    check_end(j);
    heed_data_report_free(ctx, &j->report);
    return st;
}

void heed_data_report_free(heed_context *ctx, heed_data_report *r)
{
    check_job *j = (check_job *)(void *)r;

    if (!r)
        return;
    heed__release(ctx->heap, r->bad);
    heed__arena_release(&j->arena);
    heed__release(ctx->heap, j);
}
