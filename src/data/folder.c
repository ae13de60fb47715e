/* A folder of pictures as a data set: scanned by names, its size chosen, every picture read, made [C,H,W] and
 * put on its side.
 *
 *   b = SHA-256 of the pixels as in the file, mod 10000        v, t = validation, test, times 10000
 *   validation  b < v            unless the folder has a validation part: then v = 0
 *   test        v <= b < v + t   unless it has a test part: then t = 0
 *
 * Sizes from the data: m = median of the shorter sides of up to 101 pictures evenly spread; the side is the
 * first of 32, 64, 96 that is >= m, else 96. */

#include "data/dataset.h"
#include "base/error.h"
#include "base/sizes.h"
#include "data/pictures.h"

#include <inttypes.h>
#include <string.h>

#define FOLDER_LOOKS 101

static const int64_t folder_sides[] = { 32, 64, 96 };
#define FOLDER_SIDES (sizeof folder_sides / sizeof *folder_sides)

typedef struct folder_job {
    heed_context *ctx;
    const heed_dataset_opts *opts;
    folder_scan scan;
    int64_t *which; /* samples to read; owned */
    int64_t n_which;
    picture_fit fit;
    uint16_t test_begin, test_end; /* buckets of the test part by rule */
    bool test_only, validation_own;
    heed_dataset *data;
    int64_t room; /* pictures that data has memory for */
    int64_t sides[FOLDER_LOOKS];
    int64_t looked, coloured;
} folder_job;

/* ---- what is asked for ---- */

static heed_status folder_check_opts(const heed_dataset_opts *o, const heed_context *ctx, heed_error *err)
{
    const int64_t most = (int64_t)ctx->limits.image_side;

    if (!(o->validation >= 0 && o->test >= 0 && o->validation + o->test <= 1))
        return heed__fail(
            err, HEED_ERR_LIMIT,
            "a validation part of %g and a test part of %g: both are shares of the data, together at most 1",
            o->validation, o->test);
    if (o->channels != 0 && o->channels != 1 && o->channels != 3)
        return heed__fail(err, HEED_ERR_LIMIT, "%" PRId64 " channels: pictures are grey (1) or coloured (3)",
                          o->channels);
    if ((o->height == 0) != (o->width == 0) || o->height < 0 || o->width < 0 || o->height > most ||
        o->width > most)
        return heed__fail(err, HEED_ERR_LIMIT,
                          "pictures of %" PRId64 " x %" PRId64 " pixels: both sides are 1 to %" PRId64
                          ", or both 0 to take the size from the data",
                          o->height, o->width, most);
    if (o->skip_bad < 0)
        return heed__fail(err, HEED_ERR_LIMIT, "%" PRId64 " bad pictures cannot be passed over", o->skip_bad);
    return HEED_OK;
}

static heed_status folder_check_classes(const folder_job *j, heed_error *err)
{
    const folder_scan *s = &j->scan;
    bool *seen;
    heed_status st = HEED_OK;

    if (j->opts->part != HEED_PART_TRAIN)
        return HEED_OK; /* a test part may lack a class */
    if (!s->parts[SCAN_RULE] && !s->parts[SCAN_TRAIN])
        return heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                             "%s has a test part but none to train on: %s/train is missing", s->root,
                             s->root);
    if (s->n_classes < 2)
        return heed__fail_at(
            err, HEED_ERR_FORMAT, s->root,
            "%s has one class only, %.60s; two or more can be told apart: a sub-folder for each", s->root,
            s->n_classes ? s->classes[0] : "");
    seen = heed__alloc(j->ctx->heap, (size_t)s->n_classes, sizeof *seen);
    if (!seen)
        return heed__fail_memory(err, (uint64_t)s->n_classes);
    for (int64_t i = 0; i < s->n; i++)
        if (s->samples[i].part == SCAN_RULE || s->samples[i].part == SCAN_TRAIN)
            seen[s->samples[i].label] = true;
    for (int32_t c = 0; c < s->n_classes && st == HEED_OK; c++)
        if (!seen[c])
            st = heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                               "%s: class %.60s has no picture to train on; add some or take its folder away",
                               s->root, s->classes[c]);
    heed__release(j->ctx->heap, seen);
    return st;
}

static bool folder_wants(const folder_job *j, scan_part part)
{
    const bool own_test = j->scan.parts[SCAN_TEST];

    switch (j->opts->part) {
    case HEED_PART_TRAIN:
        return part != SCAN_TEST;
    case HEED_PART_TEST:
        return own_test ? part == SCAN_TEST : part != SCAN_VALIDATION;
    default:
        return !own_test || part == SCAN_TEST;
    }
}

static heed_status folder_choose_samples(folder_job *j, heed_error *err)
{
    const heed_dataset_opts *o = j->opts;
    const folder_scan *s = &j->scan;
    const bool own_test = s->parts[SCAN_TEST];

    j->validation_own = s->parts[SCAN_VALIDATION];
    if (!own_test && o->part != HEED_PART_WHOLE) {
        const double begin = j->validation_own ? 0 : o->validation;

        j->test_begin = (uint16_t)__builtin_ceil(begin * SPLIT_BUCKETS);
        j->test_end = (uint16_t)__builtin_ceil((begin + o->test) * SPLIT_BUCKETS);
        j->test_only = o->part == HEED_PART_TEST;
        if (j->test_only && j->test_begin == j->test_end)
            return heed__fail_at(
                err, HEED_ERR_FORMAT, s->root,
                "%s has no test part: there is no folder %s/test, and data.test keeps none by rule", s->root,
                s->root);
    }
    j->which = heed__alloc(j->ctx->heap, (size_t)s->n, sizeof *j->which);
    if (!j->which)
        return heed__fail_memory(err, (uint64_t)s->n * sizeof *j->which);
    for (int64_t i = 0; i < s->n; i++)
        if (folder_wants(j, s->samples[i].part))
            j->which[j->n_which++] = i;
    if (j->n_which == 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                             "%s: there is no picture in the part that is asked for", s->root);
    return HEED_OK;
}

/* A picture is bad, as the number-th one. */
static heed_status folder_bad(const folder_job *j, const char *source, const picture *p, int64_t number,
                              heed_error *err)
{
    const int64_t allowed = j->opts->skip_bad;

    if (number <= allowed)
        return HEED_OK;
    if (allowed == 0)
        return heed__fail_at(err, p->st, source, "%s/%s: %s (data.skip_bad=N passes over N such pictures)",
                             j->scan.root, source, p->err.text);
    return heed__fail_at(err, p->st, source,
                         "%s/%s: %s; it is bad picture number %" PRId64 ", and data.skip_bad allows %" PRId64,
                         j->scan.root, source, p->err.text, number, allowed);
}

/* ---- sizes from the data ---- */

static heed_status folder_look(void *user, int64_t sample, const picture *p, heed_error *err)
{
    folder_job *j = user;
    int64_t side, at;

    if (p->st != HEED_OK) /* one that may be passed over is counted when it is read for good */
        return j->opts->skip_bad ? HEED_OK : folder_bad(j, j->scan.samples[sample].source, p, 1, err);
    side = i64_min(p->type.dims[1], p->type.dims[2]);
    for (at = j->looked++; at > 0 && j->sides[at - 1] > side; at--)
        j->sides[at] = j->sides[at - 1];
    j->sides[at] = side;
    j->coloured += p->type.dims[0] == 3;
    return HEED_OK;
}

static heed_status folder_choose_fit(folder_job *j, heed_error *err)
{
    const heed_dataset_opts *o = j->opts;
    int64_t looks[FOLDER_LOOKS], median;
    const int64_t n = i64_min(j->n_which, FOLDER_LOOKS);
    size_t side = 0;

    j->fit = (picture_fit){ .channels = o->channels,
                            .height = o->height,
                            .width = o->width,
                            .fit = o->fit,
                            .filter = o->filter,
                            .fill = o->fill };
    if (o->channels && o->height)
        return HEED_OK;
    for (int64_t i = 0; i < n; i++)
        looks[i] = j->which[i * (j->n_which / n) + i * (j->n_which % n) / n];
    TRY(heed__pictures_read(&j->scan,
                            &(pictures_opts){ .which = looks, .n = n, .take = folder_look, .user = j }, err));
    median = j->looked ? j->sides[j->looked / 2] : 0;
    while (side + 1 < FOLDER_SIDES && folder_sides[side] < median)
        side++;
    if (!o->height)
        j->fit.height = j->fit.width = folder_sides[side];
    if (!o->channels)
        j->fit.channels = j->coloured ? 3 : 1;
    return HEED_OK;
}

/* ---- reading ---- */

/* Memory for so many pictures; what was there stays. */
static heed_status folder_make_room(folder_job *j, int64_t room, heed_error *err)
{
    heed_dataset *d = j->data;
    heap *h = j->ctx->heap;
    uint8_t *images = heed__resize(h, d->images, (size_t)room, d->size);
    int64_t *labels = images ? heed__resize(h, d->labels, (size_t)room, sizeof *labels) : NULL;
    uint16_t *sides = labels ? heed__resize(h, d->sides, (size_t)room, sizeof *sides) : NULL;
    const char **sources = sides ? heed__resize(h, (void *)d->sources, (size_t)room, sizeof *sources) : NULL;

    d->images = images ? images : d->images;
    d->labels = labels ? labels : d->labels;
    d->sides = sides ? sides : d->sides;
    d->sources = sources ? sources : d->sources;
    if (!sources)
        return heed__fail_memory(err, (uint64_t)room * d->size);
    j->room = room;
    return HEED_OK;
}

/* Asked before memory is taken: the answer names what can be done. */
static heed_status folder_begin(folder_job *j, heed_error *err)
{
    const picture_fit *f = &j->fit;
    const uint64_t limit = j->ctx->limits.memory_bytes, used = heed__heap_bytes(j->ctx->heap);
    const double share = j->test_only ? j->opts->test : 1;
    const int64_t room =
        j->test_only ? i64_min(j->n_which, (int64_t)((double)j->n_which * share * 1.25) + 64) : j->n_which;
    size_t bytes, plane;
    heed_dataset *d;

    if (!heed__size_mul(&plane, (size_t)f->height, (size_t)f->width) ||
        !heed__size_mul(&plane, plane, (size_t)f->channels) || !heed__size_mul(&bytes, plane, (size_t)room) ||
        (limit && (bytes > limit || bytes > limit - u64_min(used, limit))))
        return heed__fail_at(
            err, HEED_ERR_LIMIT, j->scan.root,
            "%s: %" PRId64 " pictures of %" PRId64 " x %" PRId64 " x %" PRId64
            " need %.0f bytes, the memory limit leaves %" PRIu64
            "; lower the size of a picture with --set data.size=%" PRId64 ", or raise the limit",
            j->scan.root, room, f->channels, f->height, f->width,
            (double)room * (double)f->channels * (double)f->height * (double)f->width,
            limit ? limit - u64_min(used, limit) : (uint64_t)SIZE_MAX, i64_max(1, f->height / 2));
    d = j->data = heed__alloc(j->ctx->heap, 1, sizeof *d);
    if (!d)
        return heed__fail_memory(err, sizeof *d);
    *d = (heed_dataset){
        .ctx = j->ctx, .kind = HEED_DATASET_FOLDER, .size = plane, .classes = j->scan.n_classes
    };
    heed__arena_init(&d->arena, j->ctx->heap);
    d->picture = heed_type_of(HEED_U8, 3, (const int64_t[]){ f->channels, f->height, f->width });
    return folder_make_room(j, room, err);
}

static heed_status folder_take(void *user, int64_t sample, const picture *p, heed_error *err)
{
    folder_job *j = user;
    heed_dataset *d = j->data;
    const scan_sample *s = &j->scan.samples[sample];
    uint16_t bucket;
    bool test;

    if (p->st != HEED_OK)
        return folder_bad(j, s->source, p, ++d->skipped, err);
    bucket = heed__split_bucket(p->digest);
    test =
        s->part != SCAN_VALIDATION && s->part != SCAN_TEST && bucket >= j->test_begin && bucket < j->test_end;
    if (test != j->test_only)
        return HEED_OK;
    if (d->n == j->room)
        TRY(folder_make_room(j, i64_min(j->n_which, j->room + j->room / 4 + 64), err));
    memcpy(d->images + (size_t)d->n * d->size, p->fitted, d->size);
    d->labels[d->n] = s->label;
    d->sources[d->n] = s->source;
    d->sides[d->n] = s->part == SCAN_VALIDATION                   ? SIDE_VALIDATION
                     : s->part == SCAN_RULE || !j->validation_own ? bucket
                                                                  : SIDE_TRAIN;
    d->n++;
    return HEED_OK;
}

/* Names outlive the scan. */
static heed_status folder_end(folder_job *j, heed_error *err)
{
    heed_dataset *d = j->data;

    if (d->n == 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, j->scan.root,
                             "%s: no picture is left for this part; there are %" PRId64
                             " in all, and the rule by digest puts a share of them on each side",
                             j->scan.root, j->n_which);
    TRY(folder_make_room(j, d->n, err));
    d->outside = j->scan.outside;
    d->names = j->scan.classes;
    d->arena = j->scan.arena;
    heed__arena_init(&j->scan.arena, j->ctx->heap);
    return HEED_OK;
}

/* Everything before the pictures are read for good. */
static heed_status folder_prepare(folder_job *j, const char *path, heed_error *err)
{
    TRY(folder_check_opts(j->opts, j->ctx, err));
    TRY(heed__scan_folder(&j->scan, j->ctx, path, j->opts->classes, err));
    TRY(folder_check_classes(j, err));
    TRY(folder_choose_samples(j, err));
    return folder_choose_fit(j, err);
}

heed_status heed__folder_peek(folder_peek *out, heed_context *ctx, const char *path,
                              const heed_dataset_opts *opts, heed_error *err)
{
    folder_job j = { .ctx = ctx, .opts = opts };
    const heed_status st = folder_prepare(&j, path, err);

    if (st == HEED_OK)
        *out = (folder_peek){ j.n_which, j.scan.n_classes, j.fit.channels, j.fit.height, j.fit.width };
    heed__release(ctx->heap, j.which);
    heed__scan_release(&j.scan);
    return st;
}

heed_status heed_dataset_open_folder(heed_dataset **out, heed_context *ctx, const char *path,
                                     const heed_dataset_opts *opts, heed_error *err)
{
    const heed_dataset_opts none = { .kind = HEED_DATASET_FOLDER };
    folder_job j = { .ctx = ctx, .opts = opts ? opts : &none };
    heed_status st;

    STEP(folder_prepare(&j, path, err));
    STEP(folder_begin(&j, err));
    STEP(heed__pictures_read(&j.scan,
                             &(pictures_opts){ .which = j.which,
                                               .n = j.n_which,
                                               .fit = &j.fit,
                                               .take = folder_take,
                                               .user = &j,
                                               .progress = j.opts->progress,
                                               .progress_user = j.opts->user },
                             err));
    STEP(folder_end(&j, err));
    *out = j.data;
    j.data = NULL;
done:
    heed_dataset_free(j.data);
    heed__release(ctx->heap, j.which);
    heed__scan_release(&j.scan);
    return st;
}

heed_status heed_dataset_open(heed_dataset **out, heed_context *ctx, const char *path,
                              const heed_dataset_opts *opts, heed_error *err)
{
    heed_dataset_kind kind = opts ? opts->kind : HEED_DATASET_AUTO;
    bool idx;

    if (kind == HEED_DATASET_AUTO) {
        TRY(heed__scan_has_idx(&idx, ctx, path, err));
        kind = idx ? HEED_DATASET_IDX : HEED_DATASET_FOLDER;
    }
    if (kind == HEED_DATASET_FOLDER)
        return heed_dataset_open_folder(out, ctx, path, opts, err);
    return heed_dataset_open_idx(out, ctx, path, opts && opts->part != HEED_PART_TRAIN ? "test" : "train",
                                 err);
}
