/* Pictures for a run, in the order of the paths given. A folder is walked with a stack of listings, as deep
 * as the limit of nesting allows, since a link may lead back; an IDX file is read once and its records are
 * handed on. */

#include "base/arena.h"
#include "base/files.h"
#include "base/sizes.h"
#include "data/idx.h"
#include "tasks/run.h"

#include <inttypes.h>
#include <string.h>

typedef struct inputs_level {
    folder_list list;
    uint32_t at;
    char *path; /* owned */
} inputs_level;

struct heed_inputs {
    heed_context *ctx;
    picture_fit fit;
    size_t size; /* of a fitted picture */

    arena arena; /* paths */
    const char **paths;
    int64_t n_paths, path;

    inputs_level *levels; /* [nesting]; the folder being walked */
    uint64_t depth;
    int64_t found; /* pictures met in it */

    heed_tensor records;   /* of the IDX file being read; data NULL: none */
    int64_t record, first; /* next of them; number of the first in its file */
    const char *file;
    size_t file_length; /* without the range */

    int64_t skip_bad, skipped;
    heed_error why; /* of the last one skipped */

    uint8_t *pixels; /* [room] pictures */
    const char **names;
    int64_t room, n;
    arena name_arena;
};

/* ---- opening ---- */

static heed_status inputs_copy_paths(heed_inputs *in, const char *const *paths, heed_error *err)
{
    while (paths[in->n_paths])
        in->n_paths++;
    if (in->n_paths == 0)
        return heed__fail(err, HEED_ERR_USAGE, "no pictures are named: give files or folders");
    in->paths = heed__arena_alloc(&in->arena, (size_t)in->n_paths, sizeof *in->paths);
    for (int64_t i = 0; in->paths && i < in->n_paths; i++) {
        if (strcmp(paths[i], "-") == 0)
            return heed__fail(err, HEED_ERR_USAGE,
                              "- is standard input, which a library does not read: give a file");
        in->paths[i] = heed__arena_string(&in->arena, paths[i]);
        if (!in->paths[i])
            return heed__fail_memory(err, strlen(paths[i]));
    }
    return in->paths ? HEED_OK : heed__fail_memory(err, 0);
}

heed_status heed_inputs_open(heed_inputs **out, heed_run *r, const char *const *paths, int64_t skip_bad,
                             heed_error *err)
{
    heed_inputs *in = heed__alloc(r->ctx->heap, 1, sizeof *in);
    heed_status st;

    if (!in)
        return heed__fail_memory(err, sizeof *in);
    in->ctx = r->ctx;
    in->fit = heed__run_fit(r);
    in->size = (size_t)(in->fit.channels * in->fit.height * in->fit.width);
    in->skip_bad = skip_bad;
    heed__arena_init(&in->arena, r->ctx->heap);
    heed__arena_init(&in->name_arena, r->ctx->heap);
    STEP(inputs_copy_paths(in, paths, err));
    in->levels = heed__alloc(r->ctx->heap, (size_t)r->ctx->limits.nesting, sizeof *in->levels);
    if (!in->levels) {
        st = heed__fail_memory(err, r->ctx->limits.nesting * sizeof *in->levels);
        goto done;
    }
    *out = in;
    in = NULL;
done:
    heed_inputs_close(in);
    return st;
}

static void inputs_leave(heed_inputs *in)
{
    inputs_level *l = &in->levels[--in->depth];

    heed__folder_list_release(in->ctx, &l->list);
    heed__release(in->ctx->heap, l->path);
    *l = (inputs_level){ .at = 0 };
}

void heed_inputs_close(heed_inputs *in)
{
    heap *h;

    if (!in)
        return;
    h = in->ctx->heap;
    while (in->depth > 0)
        inputs_leave(in);
    heed_data_free(in->ctx, &in->records);
    heed__release(h, in->levels);
    heed__release(h, in->pixels);
    heed__release(h, in->names);
    heed__arena_release(&in->arena);
    heed__arena_release(&in->name_arena);
    heed__release(h, in);
}

int64_t heed_inputs_skipped(const heed_inputs *in)
{
    return in->skipped;
}

const char *heed_inputs_skipped_why(const heed_inputs *in)
{
    return in->why.text;
}

/* ---- one picture ---- */

/* The text of an error with the file it is about. */
static heed_status inputs_fail(heed_error *err, heed_status st, const char *path, const heed_error *why)
{
    return heed__fail_at(err, st, path, "%s%s%s", strstr(why->text, path) ? "" : path,
                         strstr(why->text, path) ? "" : ": ", why->text);
}

/* What is wrong with a picture itself: these are passed over when that was asked for. */
static bool inputs_bad(heed_status st)
{
    return st == HEED_ERR_FORMAT || st == HEED_ERR_LIMIT || st == HEED_ERR_SHAPE || st == HEED_ERR_DTYPE ||
           st == HEED_ERR_IO;
}

static heed_status inputs_name(heed_inputs *in, const char *name, heed_error *err)
{
    if (!name)
        return heed__fail_memory(err, 0);
    in->names[in->n++] = name;
    return HEED_OK;
}

static heed_status inputs_picture(heed_inputs *in, const char *path, heed_error *err)
{
    heed_tensor picture = { .data = NULL };
    heed_status st;

    STEP(heed_image_read(&picture, in->ctx, path, HEED_IMAGE_AS_IS, err));
    STEP(heed__fit_into(in->pixels + (size_t)in->n * in->size, in->ctx, picture, &in->fit, err));
    STEP(inputs_name(in, heed__arena_string(&in->name_arena, path), err));
done:
    heed_data_free(in->ctx, &picture);
    return st;
}

static heed_status inputs_try_picture(heed_inputs *in, const char *path, heed_error *err)
{
    heed_error why = { 0 };
    const heed_status st = inputs_picture(in, path, &why);

    if (st == HEED_OK)
        return HEED_OK;
    if (!inputs_bad(st) || in->skipped == in->skip_bad) {
        if (inputs_bad(st) && in->skip_bad > 0)
            return heed__fail_at(err, st, path,
                                 "%s: %s (%" PRId64 " bad pictures were passed over before it)", path,
                                 why.text, in->skipped);
        if (inputs_bad(st) && in->depth > 0)
            return heed__fail_at(err, st, path, "%s: %s (--skip-bad N passes over N such pictures)", path, why.text);
        return inputs_fail(err, st, path, &why);
    }
    in->skipped++;
    in->why = (heed_error){ 0 };
    inputs_fail(&in->why, st, path, &why);
    return HEED_OK;
}

/* ---- IDX ---- */

/* By its first bytes: two zeros, or a gzip stream. What is not there is left to the reader, which knows
 * ranges. */
static heed_status inputs_is_idx(bool *out, heed_inputs *in, const char *path, heed_error *err)
{
    uint8_t head[2] = { 0 };
    file_reader f;
    heed_status st = HEED_OK;

    *out = true;
    if (!heed__file_exists(in->ctx, path))
        return HEED_OK;
    TRY(heed__file_open(&f, in->ctx, path, err));
    if (f.size >= sizeof head)
        st = heed__file_part(&f, path, head, sizeof head, 0, err);
    heed__file_close(&f);
    *out = f.size >= sizeof head && ((head[0] == 0 && head[1] == 0) || (head[0] == 0x1f && head[1] == 0x8b));
    return st;
}

static heed_status inputs_open_idx(heed_inputs *in, const char *path, heed_error *err)
{
    idx_range range = { 0, -1 };
    heed_type *t = &in->records.type;

    in->file = path;
    in->file_length = heed__idx_suffix(path, &range);
    in->first = range.begin;
    in->record = 0;
    TRY(heed_idx_read(&in->records, in->ctx, path, 0, -1, err));
    if (t->rank == 3 || t->rank == 4)
        return HEED_OK;
    heed_data_free(in->ctx, &in->records);
    return heed__fail_at(err, HEED_ERR_SHAPE, path,
                         "%s: IDX pictures are [n,H,W] or [n,C,H,W]; these records have %d dimensions%s",
                         path, t->rank, t->rank == 1 ? ": labels, probably" : "");
}

static heed_status inputs_record(heed_inputs *in, heed_error *err)
{
    const heed_type *t = &in->records.type;
    const int64_t channels = t->rank == 4 ? t->dims[1] : 1, h = t->dims[t->rank - 2],
                  w = t->dims[t->rank - 1];
    heed_tensor one = { heed_type_of(HEED_U8, 3, (const int64_t[]){ channels, h, w }), in->records.data };
    heed_error why = { 0 };
    heed_status st;

    if (in->record == t->dims[0]) {
        heed_data_free(in->ctx, &in->records);
        in->records.data = NULL;
        return HEED_OK;
    }
    one.data = (uint8_t *)one.data + (size_t)in->record * (size_t)(channels * h * w);
    st = heed__fit_into(in->pixels + (size_t)in->n * in->size, in->ctx, one, &in->fit, &why);
    if (st != HEED_OK)
        return inputs_fail(err, st, in->file, &why);
    st = inputs_name(in,
                     heed__arena_format(&in->name_arena, "%.*s[%" PRId64 "]", (int)in->file_length, in->file,
                                        in->first + in->record),
                     err);
    in->record++;
    return st;
}

/* ---- folders ---- */

/* The first folder on the way that was met before tells where the link is; looked for here only. */
static heed_status inputs_too_deep(const heed_inputs *in, const char *path, heed_error *err)
{
    for (uint64_t at = 1; at < in->depth; at++)
        for (uint64_t i = 0; i < at; i++)
            if (heed__os_same(in->levels[at].path, in->levels[i].path))
                return heed__fail_at(err, HEED_ERR_FORMAT, in->levels[at].path,
                                     "%s: a link leads back to %s, which it lies in; take the link away",
                                     in->levels[at].path, in->levels[i].path);
    return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: folders are nested deeper than %" PRIu64 ", the limit", path,
                         in->ctx->limits.nesting);
}

static heed_status inputs_enter(heed_inputs *in, const char *path, heed_error *err)
{
    inputs_level *l = &in->levels[in->depth];
    heed_error why = { 0 };
    heed_status st;

    if (in->depth == in->ctx->limits.nesting)
        return inputs_too_deep(in, path, err);
    l->path = heed__copy_string(in->ctx->heap, path);
    if (!l->path)
        return heed__fail_memory(err, strlen(path));
    st = heed__folder_list(&l->list, in->ctx, path, &why);
    if (st != HEED_OK) {
        heed__release(in->ctx->heap, l->path);
        l->path = NULL;
        return inputs_fail(err, st, path, &why);
    }
    in->depth++;
    return HEED_OK;
}

/* The next name of the folder that is being walked. */
static heed_status inputs_walk(heed_inputs *in, heed_error *err)
{
    inputs_level *l = &in->levels[in->depth - 1];
    const folder_entry *e = &l->list.entries[l->at];
    heed_status st = HEED_OK;
    char *path;

    if (l->at == l->list.n) {
        if (in->depth == 1 && in->found == 0)
            return heed__fail_at(err, HEED_ERR_FORMAT, l->path,
                                 "%s: there is no picture in this folder (.png .jpg .jpeg .pgm .ppm .pnm)",
                                 l->path);
        inputs_leave(in);
        return HEED_OK;
    }
    l->at++;
    if (e->name[0] == '.' || (e->kind != OS_FOLDER && !heed_image_named(e->name)))
        return HEED_OK;
    path = heed__path_join(in->ctx, l->path, e->name);
    if (!path)
        return heed__fail_memory(err, 0);
    if (e->kind == OS_FOLDER) {
        st = inputs_enter(in, path, err);
    } else {
        in->found++;
        st = inputs_try_picture(in, path, err);
    }
    heed__release(in->ctx->heap, path);
    return st;
}

/* ---- all of them ---- */

static heed_status inputs_path(heed_inputs *in, const char *path, heed_error *err)
{
    bool idx;

    if (heed__folder_exists(in->ctx, path)) {
        in->found = 0;
        return inputs_enter(in, path, err);
    }
    TRY(inputs_is_idx(&idx, in, path, err));
    return idx ? inputs_open_idx(in, path, err) : inputs_try_picture(in, path, err);
}

static heed_status inputs_make_room(heed_inputs *in, int64_t most, heed_error *err)
{
    uint8_t *pixels;
    const char **names;

    in->n = 0;
    heed__arena_release(&in->name_arena);
    if (most < 1)
        return heed__fail(err, HEED_ERR_USAGE, "%" PRId64 " pictures at a time: at least one is needed",
                          most);
    if (most <= in->room)
        return HEED_OK;
    pixels = heed__alloc(in->ctx->heap, (size_t)most, in->size);
    names = heed__alloc(in->ctx->heap, (size_t)most, sizeof *names);
    if (!pixels || !names) {
        heed__release(in->ctx->heap, pixels);
        heed__release(in->ctx->heap, names);
        return heed__fail_memory(err, (uint64_t)most * in->size);
    }
    heed__release(in->ctx->heap, in->pixels);
    heed__release(in->ctx->heap, in->names);
    in->pixels = pixels;
    in->names = names;
    in->room = most;
    return HEED_OK;
}

heed_status heed_inputs_next(heed_inputs *in, int64_t most, heed_tensor *pictures, const char *const **names,
                             heed_error *err)
{
    TRY(inputs_make_room(in, most, err));
    while (in->n < most) {
        if (in->records.data)
            TRY(inputs_record(in, err));
        else if (in->depth > 0)
            TRY(inputs_walk(in, err));
        else if (in->path < in->n_paths)
            TRY(inputs_path(in, in->paths[in->path++], err));
        else
            break;
    }
    *pictures = (heed_tensor){
        heed_type_of(HEED_U8, 4, (const int64_t[]){ in->n, in->fit.channels, in->fit.height, in->fit.width }),
        in->pixels
    };
    *names = in->names;
    return HEED_OK;
}
