/* See the header. The manifest is never parsed: the one that the files of a set would give is made again and
 * compared byte by byte, so no change of any byte of it, or of any file it vouches for, can go unseen. */

#include "train/checkpoint.h"
#include "base/context.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "base/text.h"
#include "formats/json_read.h"
#include <heed/formats.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define FORMAT 1
#define MIB ((size_t)1 << 20)
#define MANIFEST "manifest.json"
#define STATE "trainer.json"
#define BEST "best.safetensors"
#define STEP_DIGITS 15
#define SERIAL_DIGITS 6

/* What a set may hold, in the order of the manifest. */
static const char *const set_files[] = { "model.safetensors", "optimizer.safetensors", BEST, STATE };
#define SET_FILES (int)(sizeof set_files / sizeof *set_files)

/* ---- names ---- */

typedef struct set_name {
    int64_t step, serial; /* "step-7" has serial 1, "step-7-2" serial 2 */
    bool whole;           /* it has a manifest */
} set_name;

typedef struct set_list {
    set_name *sets; /* oldest first; owned */
    size_t n;
} set_list;

/* Digits without a leading zero; -1 when there are none, or too many. */
static int64_t set_number(const char **at, int most)
{
    int64_t n = 0;
    int digits = 0;

    if (**at == '0' && (*at)[1] >= '0' && (*at)[1] <= '9')
        return -1;
    for (; **at >= '0' && **at <= '9' && digits <= most; digits++)
        n = n * 10 + (*(*at)++ - '0');
    return digits == 0 || digits > most ? -1 : n;
}

static bool set_of_name(set_name *out, const char *name)
{
    set_name s = { .serial = 1 };

    if (strncmp(name, "step-", 5) != 0)
        return false;
    name += 5;
    s.step = set_number(&name, STEP_DIGITS);
    if (*name == '-') {
        name++;
        s.serial = set_number(&name, SERIAL_DIGITS);
        if (s.serial < 2)
            return false;
    }
    if (s.step < 0 || *name)
        return false;
    *out = s;
    return true;
}

static bool set_before(const set_name *a, const set_name *b)
{
    return a->step != b->step ? a->step < b->step : a->serial < b->serial;
}

static char *set_path(const checkpoint_place *at, const set_name *s)
{
    text t;
    char *out;

    heed__text_init(&t, at->ctx->heap, 0);
    heed__text_add(&t, "%s/step-%" PRId64, at->folder, s->step);
    if (s->serial > 1)
        heed__text_add(&t, "-%" PRId64, s->serial);
    out = heed__text_take(&t);
    heed__text_release(&t);
    return out;
}

/* Is name in folder? A file that cannot be opened is there too. */
static heed_status set_has(bool *out, heed_context *ctx, const char *set, const char *name, heed_error *err)
{
    char *path = heed__path_join(ctx, set, name);

    if (!path)
        return heed__fail_memory(err, 0);
    *out = heed__file_exists(ctx, path);
    heed__release(ctx->heap, path);
    return HEED_OK;
}

/* The sets of a listing, in order. */
static heed_status set_sort(set_list *l, heed_context *ctx, const folder_list *names, heed_error *err)
{
    l->sets = heed__alloc(ctx->heap, names->n, sizeof *l->sets);
    if (!l->sets)
        return heed__fail_memory(err, names->n * sizeof *l->sets);
    for (uint32_t i = 0; i < names->n; i++) {
        set_name s;
        size_t at;

        if (names->entries[i].kind != OS_FOLDER || !set_of_name(&s, names->entries[i].name))
            continue;
        for (at = l->n++; at > 0 && set_before(&s, &l->sets[at - 1]); at--)
            l->sets[at] = l->sets[at - 1];
        l->sets[at] = s;
    }
    return HEED_OK;
}

/* Every set of the folder, half written ones too. l->sets is the caller's, also on failure. */
static heed_status set_find_all(set_list *l, const checkpoint_place *at, heed_error *err)
{
    folder_list names = { .n = 0 };
    heed_status st;

    *l = (set_list){ .n = 0 };
    if (!heed__folder_exists(at->ctx, at->folder))
        return HEED_OK;
    TRY(heed__folder_list(&names, at->ctx, at->folder, err));
    st = set_sort(l, at->ctx, &names, err);
    for (size_t i = 0; i < l->n && st == HEED_OK; i++) {
        char *path = set_path(at, &l->sets[i]);

        st = path ? set_has(&l->sets[i].whole, at->ctx, path, MANIFEST, err) : heed__fail_memory(err, 0);
        heed__release(at->ctx->heap, path);
    }
    heed__folder_list_release(at->ctx, &names);
    return st;
}

static void set_notice(const checkpoint_place *at, const text *t)
{
    if (at->notice && !t->failed)
        at->notice(at->user, t->data);
}

/* ---- removing ---- */

static heed_status set_remove_file(heed_context *ctx, const char *set, const char *name, heed_error *err)
{
    char *path = heed__path_join(ctx, set, name);
    const heed_status st = path ? heed__file_remove(ctx, path, err) : heed__fail_memory(err, 0);

    heed__release(ctx->heap, path);
    return st;
}

/* The manifest first. Who removes the newest set makes that durable before: heed__checkpoint_clear. */
static heed_status set_remove(const checkpoint_place *at, const set_name *s, heed_error *err)
{
    heed_context *ctx = at->ctx;
    char *path = set_path(at, s);
    folder_list files = { .n = 0 };
    heed_status st;

    if (!path)
        return heed__fail_memory(err, 0);
    if (s->whole)
        STEP(set_remove_file(ctx, path, MANIFEST, err));
    STEP(heed__folder_list(&files, ctx, path, err));
    for (uint32_t i = 0; i < files.n; i++)
        STEP(set_remove_file(ctx, path, files.entries[i].name, err));
    STEP(heed__folder_remove(ctx, path, err));
done:
    heed__folder_list_release(ctx, &files);
    heed__release(ctx->heap, path);
    return st;
}

/* A set without a manifest is none, one without its files is damaged: what a crash leaves shall be the
 * former. */
static heed_status set_disown(const checkpoint_place *at, set_name *s, heed_error *err)
{
    char *path = set_path(at, s);
    heed_status st;

    if (!path)
        return heed__fail_memory(err, 0);
    STEP(set_remove_file(at->ctx, path, MANIFEST, err));
    STEP(heed__folder_sync(at->ctx, path, err));
    s->whole = false;
done:
    heed__release(at->ctx->heap, path);
    return st;
}

heed_status heed__checkpoint_clear(const checkpoint_place *at, heed_error *err)
{
    set_list l;
    heed_status st = set_find_all(&l, at, err);

    for (size_t i = 0; i < l.n && st == HEED_OK; i++)
        if (l.sets[i].whole)
            st = set_disown(at, &l.sets[i], err);
    for (size_t i = 0; i < l.n && st == HEED_OK; i++)
        st = set_remove(at, &l.sets[i], err);
    if (st == HEED_OK && l.n > 0)
        st = heed__folder_sync(at->ctx, at->folder, err);
    heed__release(at->ctx->heap, l.sets);
    return st;
}

heed_status heed__checkpoint_newest(int64_t *step, const checkpoint_place *at, heed_error *err)
{
    set_list l;
    const heed_status st = set_find_all(&l, at, err);

    if (st == HEED_OK)
        *step = -1;
    for (size_t i = 0; i < l.n && st == HEED_OK; i++)
        *step = l.sets[i].whole ? l.sets[i].step : *step;
    heed__release(at->ctx->heap, l.sets);
    return st;
}

/* ---- the manifest ---- */

/* One line: {"name": ..., "size": ..., "sha256": ..., "crc32c": [...]}. */
static heed_status manifest_add(text *t, heed_context *ctx, const char *path, const char *name,
                                heed_error *err)
{
    file_reader file = { .fd = -1 };
    uint8_t *block = NULL, digest[32];
    char hex[65];
    sha256 sum;
    text crcs;
    heed_status st;

    heed__text_init(&crcs, ctx->heap, 0);
    STEP(heed__file_open(&file, ctx, path, err));
    block = heed__alloc(ctx->heap, file.size < MIB ? (size_t)file.size : MIB, 1);
    if (!block) {
        st = heed__fail_memory(err, MIB);
        goto done;
    }
    heed__sha256_init(&sum);
    for (uint64_t from = 0; from < file.size; from += MIB) {
        const size_t n = file.size - from < MIB ? (size_t)(file.size - from) : MIB;

        STEP(heed__file_part(&file, path, block, n, from, err));
        heed__sha256_add(&sum, block, n);
        heed__text_add(&crcs, "%s%" PRIu32, from ? "," : "", heed__crc32c(0, block, n));
    }
    heed__sha256_end(&sum, digest);
    heed__hex(hex, digest, sizeof digest);
    heed__text_add(t, " {\"name\": \"%s\", \"size\": %" PRIu64 ", \"sha256\": \"%s\", \"crc32c\": [%s]}",
                   name, file.size, hex, crcs.data);
    if (crcs.failed || t->failed)
        st = heed__fail_memory(err, t->size);
done:
    heed__file_close(&file);
    heed__text_release(&crcs);
    heed__release(ctx->heap, block);
    return st;
}

#define MANIFEST_BEGIN "{\"format\": "

/* What the files of the set give. */
static heed_status manifest_make(text *t, heed_context *ctx, const char *set, int64_t step, heed_error *err)
{
    bool first = true;

    heed__text_add(t, MANIFEST_BEGIN "%d, \"step\": %" PRId64 ", \"files\": [\n", FORMAT, step);
    for (int i = 0; i < SET_FILES; i++) {
        char *path = heed__path_join(ctx, set, set_files[i]);
        bool there = strcmp(set_files[i], BEST) != 0; /* the others must be */
        heed_status st = HEED_OK;

        if (!path)
            return heed__fail_memory(err, 0);
        there = there || heed__file_exists(ctx, path);
        if (there && !first)
            heed__text_add(t, ",\n");
        if (there)
            st = manifest_add(t, ctx, path, set_files[i], err);
        first = first && !there;
        heed__release(ctx->heap, path);
        TRY(st);
    }
    heed__text_add(t, "\n]}\n");
    return t->failed ? heed__fail_memory(err, t->size) : HEED_OK;
}

/* Which line differs tells which file it is: the format's, a file's, or the manifest's own. */
static heed_status manifest_differs(const char *path, const file_bytes *have, const text *want,
                                    heed_error *err)
{
    const size_t head = sizeof MANIFEST_BEGIN - 1;
    size_t line = 0, same = 0;

    while (same < have->size && same < want->size && have->data[same] == (uint8_t)want->data[same])
        if (want->data[same++] == '\n')
            line = same;
    if (same == head && have->size > head && have->data[head] >= '0' && have->data[head] <= '9')
        return heed__fail_at(err, HEED_ERR_FORMAT, path,
                             "%s: another version of heed wrote it; this one reads format %d", path, FORMAT);
    for (int i = 0; i < SET_FILES; i++) {
        const char *at = strstr(want->data + line, set_files[i]);

        if (at && (size_t)(at - want->data) < line + 20)
            return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s is not the file that %s vouches for",
                                 set_files[i], path);
    }
    return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s is damaged", path);
}

static heed_status manifest_check(heed_context *ctx, const char *set, int64_t step, heed_error *err)
{
    char *path = heed__path_join(ctx, set, MANIFEST);
    file_bytes have = { 0 };
    text want;
    heed_status st;

    heed__text_init(&want, ctx->heap, 0);
    if (!path) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    STEP(heed__file_read(&have, ctx, path, ctx->limits.json_bytes, err));
    STEP(manifest_make(&want, ctx, set, step, err));
    if (have.size != want.size || memcmp(have.data, want.data, want.size) != 0)
        st = manifest_differs(path, &have, &want, err);
done:
    heed__text_release(&want);
    heed__release(ctx->heap, have.data);
    heed__release(ctx->heap, path);
    return st;
}

/* ---- trainer.json ---- */

#define COUNT(m)                                                                                             \
    {                                                                                                        \
        FIELD_(checkpoint_state, m, FIELD_I64_), .max = 9e15                                                 \
    }
#define NUMBER(m) FIELD_F64(checkpoint_state, m)
#define WORD(m) FIELD_STRING(checkpoint_state, m)

static const field state_fields[] = {
    WORD(heed),
    WORD(isa),
    WORD(recipe_sha256),
    WORD(data_sha256),
    COUNT(seed),
    COUNT(epoch),
    COUNT(batch),
    COUNT(step),
    COUNT(samples),
    NUMBER(loss_sum),
    COUNT(loss_samples),
    NUMBER(lr),
    NUMBER(grad_norm),
    NUMBER(seconds),
    NUMBER(validation_loss),
    NUMBER(validation_accuracy),
    COUNT(metrics_bytes),
    COUNT(best_epoch),
    NUMBER(best_loss),
    NUMBER(best_accuracy),
    COUNT(bad_epochs),
    NUMBER(plateau_lr),
    NUMBER(plateau_best),
    COUNT(plateau_bad),
    FIELD_END,
};

static heed_status state_write(heed_context *ctx, const char *set, const checkpoint_state *s, heed_error *err)
{
    char *path = heed__path_join(ctx, set, STATE);
    heed_status st;
    text t;

    heed__text_init(&t, ctx->heap, 0);
    heed__text_add(&t, "{\n  \"format\": %d", FORMAT);
    for (const field *f = state_fields; f->kind != FIELD_END_; f++) {
        const char *at = (const char *)s + f->offset;

        heed__text_add(&t, ",\n  \"%s\": ", f->name);
        if (f->kind == FIELD_I64_)
            heed__text_add(&t, "%" PRId64, *(const int64_t *)(const void *)at);
        else if (f->kind == FIELD_F64_) /* the shortest decimal that reads back the same */
            heed__text_number(&t, *(const double *)(const void *)at);
        else
            heed__text_json(&t, *(const char *const *)(const void *)at,
                            strlen(*(const char *const *)(const void *)at));
    }
    heed__text_add(&t, "\n}\n");
    st = t.failed || !path ? heed__fail_memory(err, t.size)
                           : heed__file_replace(ctx, path, t.data, t.size, err);
    heed__text_release(&t);
    heed__release(ctx->heap, path);
    return st;
}

#if defined(HEED_HAVE_JSON) && HEED_HAVE_JSON

#include <jansson.h>

static heed_status state_field(checkpoint_state *s, const field *f, const json_t *from, arena *a,
                               const char *path, heed_error *err)
{
    void *at = (char *)s + f->offset;

    if (f->kind == FIELD_I64_ && json_is_integer(from)) {
        const json_int_t n = json_integer_value(from);

        if (n < 0 || n > (json_int_t)f->max)
            return heed__fail_at(err, HEED_ERR_LIMIT, path, "%s: \"%s\" is %lld, outside 0 to %.0f", path,
                                 f->name, (long long)n, f->max);
        *(int64_t *)at = n;
    } else if (f->kind == FIELD_F64_ && json_is_number(from)) {
        *(double *)at = json_number_value(from);
    } else if (f->kind == FIELD_STRING_ && json_is_string(from)) {
        *(const char **)at = heed__arena_string(a, json_string_value(from));
        if (!*(const char **)at)
            return heed__fail_memory(err, json_string_length(from));
    } else {
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"%s\" is missing or of another kind", path,
                             f->name);
    }
    return HEED_OK;
}

static heed_status state_fill(checkpoint_state *s, json_t *j, arena *a, const char *path, heed_error *err)
{
    const json_t *format = json_object_get(j, "format");
    const char *key;
    json_t *value;

    if (!json_is_integer(format))
        return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: \"format\" is missing or no integer", path);
    if (json_integer_value(format) != FORMAT)
        return heed__fail_at(err, HEED_ERR_FORMAT, path,
                             "%s: format %lld is of another version of heed; this one reads %d", path,
                             (long long)json_integer_value(format), FORMAT);
    for (const field *f = state_fields; f->kind != FIELD_END_; f++)
        TRY(state_field(s, f, json_object_get(j, f->name), a, path, err));
    json_object_foreach(j, key, value)
    {
        const field *f = state_fields;
        char shown[200];

        while (f->kind != FIELD_END_ && strcmp(f->name, key) != 0)
            f++;
        if (f->kind == FIELD_END_ && strcmp(key, "format") != 0)
            return heed__fail_at(err, HEED_ERR_FORMAT, path, "%s: unknown field \"%s\"", path,
                                 heed__shown(shown, key, strlen(key)));
    }
    return HEED_OK;
}

static heed_status state_parse(checkpoint_state *s, heed_context *ctx, const file_bytes *file, arena *a,
                               const char *path, heed_error *err)
{
    json_t *j;
    heed_status st;

    TRY(heed__json_read(&j, ctx, file->data, file->size, path, err));
    st = state_fill(s, j, a, path, err);
    json_decref(j);
    return st;
}

#else

static heed_status state_parse(checkpoint_state *s, heed_context *ctx, const file_bytes *file, arena *a,
                               const char *path, heed_error *err)
{
    (void)s;
    (void)a;
    return heed__json_read(NULL, ctx, file->data, file->size, path, err);
}

#endif

static heed_status state_read(checkpoint_state *out, heed_context *ctx, const char *set, arena *a,
                              heed_error *err)
{
    char *path = heed__path_join(ctx, set, STATE);
    checkpoint_state s = { 0 };
    file_bytes file = { 0 };
    heed_status st;

    if (!path)
        return heed__fail_memory(err, 0);
    STEP(heed__file_read(&file, ctx, path, ctx->limits.json_bytes, err));
    STEP(state_parse(&s, ctx, &file, a, path, err));
    *out = s;
done:
    heed__release(ctx->heap, file.data);
    heed__release(ctx->heap, path);
    return st;
}

/* Numbers that no JSON has would make a set that nobody can read. */
static heed_status state_check(const checkpoint_state *s, heed_error *err)
{
    for (const field *f = state_fields; f->kind != FIELD_END_; f++)
        if (f->kind == FIELD_F64_ && !isfinite(*(const double *)(const void *)((const char *)s + f->offset)))
            return heed__fail(err, HEED_ERR_NUMERIC,
                              "a checkpoint whose %s is NaN or infinite is not written", f->name);
    return HEED_OK;
}

/* ---- writing a set ---- */

static heed_status put_weights(heed_context *ctx, const heed_weights *w, heed_weights_part part,
                               const char *set, const char *name, heed_error *err)
{
    char *path = heed__path_join(ctx, set, name);
    const heed_status st = path ? heed_weights_save(w, part, path, err) : heed__fail_memory(err, 0);

    heed__release(ctx->heap, path);
    return st;
}

static heed_status put_manifest(heed_context *ctx, const char *set, int64_t step, heed_error *err)
{
    char *path = heed__path_join(ctx, set, MANIFEST);
    heed_status st;
    text t;

    heed__text_init(&t, ctx->heap, 0);
    if (!path) {
        st = heed__fail_memory(err, 0);
        goto done;
    }
    STEP(manifest_make(&t, ctx, set, step, err));
    STEP(heed__file_replace(ctx, path, t.data, t.size, err));
done:
    heed__text_release(&t);
    heed__release(ctx->heap, path);
    return st;
}

static heed_status put_set(const checkpoint_place *at, const set_name *name, const checkpoint_state *s,
                           const heed_weights *w, const heed_weights *best, heed_error *err)
{
    char *set = set_path(at, name);
    heed_status st;

    if (!set)
        return heed__fail_memory(err, 0);
    STEP(heed__folder_make(at->ctx, set, err));
    STEP(put_weights(at->ctx, w, HEED_WEIGHTS_MODEL, set, set_files[0], err));
    STEP(put_weights(at->ctx, w, HEED_WEIGHTS_STATE, set, set_files[1], err));
    if (best)
        STEP(put_weights(at->ctx, best, HEED_WEIGHTS_MODEL, set, BEST, err));
    STEP(state_write(at->ctx, set, s, err));
    STEP(put_manifest(at->ctx, set, name->step, err)); /* last: now it is a set */
done:
    heed__release(at->ctx->heap, set);
    return st;
}

/* The new set is durable. What is newer by number was damaged when training went on from before it. Of the
 * rest the newest stay. A set that cannot be removed is no reason to stop. */
static heed_status drop_old(const checkpoint_place *at, const set_list *l, const set_name *made, int64_t keep,
                            heed_error *err)
{
    int64_t kept = 1;

    for (size_t i = l->n; i-- > 0;) {
        heed_error why = { 0 };
        text t;

        if (l->sets[i].whole && set_before(&l->sets[i], made) && kept++ < keep)
            continue;
        if (set_remove(at, &l->sets[i], &why) == HEED_OK)
            continue;
        if (why.code == HEED_ERR_MEMORY)
            return heed__fail(err, why.code, "%s", why.text);
        heed__text_init(&t, at->ctx->heap, 0);
        heed__text_add(&t, "an old checkpoint of step %" PRId64 " cannot be removed: %s", l->sets[i].step,
                       why.text);
        set_notice(at, &t);
        heed__text_release(&t);
    }
    return HEED_OK;
}

heed_status heed__checkpoint_save(const checkpoint_place *at, const checkpoint_state *s,
                                  const heed_weights *w, const heed_weights *best, int64_t keep,
                                  heed_error *err)
{
    set_name made = { .step = s->step, .serial = 1 };
    set_list l = { .n = 0 };
    heed_status st;

    STEP(state_check(s, err));
    STEP(heed__folder_make(at->ctx, at->folder, err));
    STEP(set_find_all(&l, at, err));
    for (size_t i = 0; i < l.n; i++)
        if (l.sets[i].step == made.step)
            made.serial = l.sets[i].serial + 1;
    st = put_set(at, &made, s, w, best, err);
    if (st != HEED_OK) {
        (void)set_remove(at, &made, NULL); /* its room is wanted; a set without a manifest is none anyway */
        goto done;
    }
    st = drop_old(at, &l, &made, keep, err);
done:
    heed__release(at->ctx->heap, l.sets);
    return st;
}

/* ---- reading a set ---- */

static heed_status open_set(checkpoint_state *out, const checkpoint_place *at, const char *set, int64_t step,
                            arena *a, heed_error *err)
{
    TRY(manifest_check(at->ctx, set, step, err));
    TRY(state_read(out, at->ctx, set, a, err));
    if (out->step != step)
        return heed__fail_at(err, HEED_ERR_FORMAT, set, "%s says step %" PRId64 " in " STATE, set, out->step);
    return HEED_OK;
}

static void tell_damage(const checkpoint_place *at, const char *set, const heed_error *why)
{
    text t;

    heed__text_init(&t, at->ctx->heap, 0);
    heed__text_add(&t, "checkpoint %s is not used: %s", set, why->text);
    set_notice(at, &t);
    heed__text_release(&t);
}

heed_status heed__checkpoint_find(char **set, checkpoint_state *out, const checkpoint_place *at, arena *a,
                                  heed_error *err)
{
    heed_error newest = { 0 };
    set_list l;
    heed_status st = set_find_all(&l, at, err);

    *set = NULL;
    for (size_t i = l.n; i-- > 0 && st == HEED_OK && !*set;) {
        heed_error why = { 0 };
        char *path;

        if (!l.sets[i].whole) /* a save that did not end */
            continue;
        path = set_path(at, &l.sets[i]);
        if (!path) {
            st = heed__fail_memory(err, 0);
        } else if (open_set(out, at, path, l.sets[i].step, a, &why) == HEED_OK) {
            *set = path;
            continue;
        } else if (why.code == HEED_ERR_MEMORY || why.code == HEED_ERR_MISSING) {
            st = heed__fail_at(err, why.code, path, "%s", why.text);
        } else {
            tell_damage(at, path, &why);
            newest = newest.code == HEED_OK ? why : newest;
        }
        heed__release(at->ctx->heap, path);
    }
    if (st == HEED_OK && !*set && newest.code != HEED_OK)
        st = heed__fail_at(err, newest.code, at->folder,
                           "no checkpoint in %s can be used (the newest: %s); --fresh begins anew",
                           at->folder, newest.text);
    heed__release(at->ctx->heap, l.sets);
    return st;
}

static heed_status take_weights(heed_context *ctx, heed_weights *w, heed_weights_part part, const char *set,
                                const char *name, heed_error *err)
{
    char *path = heed__path_join(ctx, set, name);
    const heed_status st = path ? heed_weights_load(w, part, path, err) : heed__fail_memory(err, 0);

    heed__release(ctx->heap, path);
    return st;
}

heed_status heed__checkpoint_load(const char *set, heed_context *ctx, heed_weights *w, heed_error *err)
{
    TRY(take_weights(ctx, w, HEED_WEIGHTS_MODEL, set, set_files[0], err));
    return take_weights(ctx, w, HEED_WEIGHTS_STATE, set, set_files[1], err);
}

heed_status heed__checkpoint_load_best(const char *set, heed_context *ctx, heed_weights *best,
                                       heed_error *err)
{
    bool there = false;

    TRY(set_has(&there, ctx, set, BEST, err));
    return there ? take_weights(ctx, best, HEED_WEIGHTS_MODEL, set, BEST, err) : HEED_OK;
}
