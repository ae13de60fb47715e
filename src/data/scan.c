/* Two layouts, told apart by names:
 *
 *   ROOT/CLASS/.../picture        no parts
 *   ROOT/PART/CLASS/.../picture   PART is train, test, val, valid or validation
 *
 * The second one it is when train or test is there, has sub-folders and no picture of its own; a class may
 * still be called "train". Folders below a class are walked with a stack of listings of bounded depth: a
 * link may lead back. */

#include "data/scan.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include <heed/image.h>

#include <inttypes.h>
#include <string.h>

static const struct {
    const char *name;
    scan_part part;
} scan_parts[] = {
    { "train", SCAN_TRAIN },           { "val", SCAN_VALIDATION }, { "valid", SCAN_VALIDATION },
    { "validation", SCAN_VALIDATION }, { "test", SCAN_TEST },
};
#define SCAN_NAMES (sizeof scan_parts / sizeof *scan_parts)
#define SCAN_DEPTH 32

/* ---- listing ---- */

static heed_status scan_list_root(folder_list *out, heed_context *ctx, const char *root, heed_error *err)
{
    heed_error why = { 0 };
    const heed_status st = heed__folder_list(out, ctx, root, &why);

    if (st == HEED_ERR_IO && heed__file_exists(ctx, root))
        return heed__fail_at(
            err, st, root,
            "%s is a file; data is a folder: a sub-folder of pictures for each class, or the four "
            "IDX files",
            root);
    if (st != HEED_OK)
        return heed__fail_at(err, st, why.path, "%s%s%s", why.path, why.path[0] ? ": " : "", why.text);
    return HEED_OK;
}

/* "a/b", or "b" below the root itself. */
static const char *scan_join(folder_scan *s, const char *folder, const char *name)
{
    return folder[0] ? heed__arena_format(&s->arena, "%s/%s", folder, name)
                     : heed__arena_string(&s->arena, name);
}

/* "root/a/b" in the arena. */
static const char *scan_path(folder_scan *s, const char *source)
{
    return heed__arena_format(&s->arena, "%s/%s", s->root, source);
}

/* Lists a folder below the root; *source is its name below the root, in the arena. */
static heed_status scan_list(folder_list *out, folder_scan *s, const char *source, heed_error *err)
{
    char *path = heed__path_join(s->ctx, s->root, source);
    heed_error why = { 0 };
    heed_status st = path ? heed__folder_list(out, s->ctx, path, &why) : heed__fail_memory(&why, 0);

    if (st != HEED_OK)
        heed__fail_at(err, st, why.path, "%s%s%s", why.path, why.path[0] ? ": " : "", why.text);
    heed__release(s->ctx->heap, path);
    return st;
}

static bool scan_visible_folder(const folder_entry *e)
{
    return e->kind == OS_FOLDER && e->name[0] != '.';
}

/* A name that is neither a picture nor a folder to look into. */
static void scan_pass_over(folder_scan *s, const folder_entry *e)
{
    if (e->name[0] == '.')
        s->hidden++;
    else if (e->kind == OS_FILE && heed_image_named(e->name))
        s->outside++;
    else
        s->others++;
}

heed_status heed__scan_has_idx(bool *out, heed_context *ctx, const char *folder, heed_error *err)
{
    static const char *const names[] = { "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz",
                                         "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz" };
    folder_list list = { .n = 0 };

    TRY(scan_list_root(&list, ctx, folder, err));
    *out = false;
    for (uint32_t i = 0; i < list.n; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            *out = *out || strcmp(list.entries[i].name, names[k]) == 0;
    heed__folder_list_release(ctx, &list);
    return HEED_OK;
}

/* ---- the pictures of a class ---- */

static heed_status scan_add_sample(folder_scan *s, const char *source, int32_t label, scan_part part,
                                   heed_error *err)
{
    if (!source)
        return heed__fail_memory(err, 0);
    if (s->n == s->room) {
        const int64_t room = s->room ? 2 * s->room : 64;
        scan_sample *grown = heed__resize(s->ctx->heap, s->samples, (size_t)room, sizeof *grown);

        if (!grown)
            return heed__fail_memory(err, (uint64_t)room * sizeof *grown);
        s->samples = grown;
        s->room = room;
    }
    s->samples[s->n++] = (scan_sample){ source, label, part };
    return HEED_OK;
}

/* A folder on the way from the class to a picture: its names, and which of them comes next. */
typedef struct scan_level {
    folder_list list;
    uint32_t next;
    const char *source;
} scan_level;

/* Is this level the root, or a folder that it lies in? *which is that one's name; NULL when memory ran out. */
static bool scan_leads_back(const char **which, folder_scan *s, const scan_level *levels, int at)
{
    const char *path = scan_path(s, levels[at].source);

    *which = s->root;
    for (int i = -1; path && *which && i < at; i++) {
        *which = i < 0 ? s->root : scan_path(s, levels[i].source);
        if (*which && heed__os_same(path, *which))
            return true;
    }
    return false;
}

/* The first folder on the way that was met before tells where the link is; looked for here only. */
static heed_status scan_too_deep(folder_scan *s, const scan_level *levels, const char *source, heed_error *err)
{
    const char *back = NULL;

    for (int at = 0; at < SCAN_DEPTH; at++)
        if (scan_leads_back(&back, s, levels, at))
            return heed__fail_at(err, HEED_ERR_FORMAT, levels[at].source,
                                 "%s/%s: a link leads back to %s, which it lies in; take the link away", s->root,
                                 levels[at].source, back);
    return heed__fail_at(err, HEED_ERR_LIMIT, source, "%s/%s: folders lie deeper than %d in each other, the limit",
                         s->root, source, SCAN_DEPTH);
}

/* One name of the deepest folder: a picture is taken, a folder becomes the deepest. */
static heed_status scan_step(folder_scan *s, scan_level *levels, int *depth, int32_t label, scan_part part,
                             heed_error *err)
{
    scan_level *top = &levels[*depth - 1];
    const folder_entry *e = &top->list.entries[top->next++];
    const char *source;

    if (e->kind != OS_FOLDER && e->name[0] != '.' && heed_image_named(e->name))
        return scan_add_sample(s, scan_join(s, top->source, e->name), label, part, err);
    if (!scan_visible_folder(e)) {
        scan_pass_over(s, e);
        return HEED_OK;
    }
    source = scan_join(s, top->source, e->name);
    if (!source)
        return heed__fail_memory(err, 0);
    if (*depth == SCAN_DEPTH)
        return scan_too_deep(s, levels, source, err);
    levels[*depth] = (scan_level){ .source = source };
    TRY(scan_list(&levels[*depth].list, s, source, err));
    ++*depth;
    return HEED_OK;
}

static heed_status scan_class(folder_scan *s, const char *source, int32_t label, scan_part part,
                              heed_error *err)
{
    scan_level levels[SCAN_DEPTH] = { { .source = source } };
    int depth = 0;
    heed_status st;

    STEP(scan_list(&levels[0].list, s, source, err));
    depth = 1;
    while (depth > 0) {
        scan_level *top = &levels[depth - 1];

        if (top->next < top->list.n) {
            STEP(scan_step(s, levels, &depth, label, part, err));
            continue;
        }
        heed__folder_list_release(s->ctx, &top->list);
        depth--;
    }
done:
    while (depth > 0)
        heed__folder_list_release(s->ctx, &levels[--depth].list);
    return st;
}

/* ---- classes ---- */

static int32_t scan_find_class(const folder_scan *s, const char *name)
{
    for (int32_t i = 0; i < s->n_classes; i++)
        if (strcmp(s->classes[i], name) == 0)
            return i;
    return -1;
}

#define SCAN_SHOWN 8 /* classes named in a message */

/* "cat, dog and 7 more": a name more, of which `shown` stand there already. */
static void scan_show_name(text *t, const char *name, int64_t shown)
{
    if (shown < SCAN_SHOWN)
        heed__text_add(t, "%s%.24s", shown ? ", " : "", name);
}

/* Says what is there and what should be. */
static heed_status scan_unknown_class(const folder_scan *s, const char *source, const folder_list *list,
                                      heed_error *err)
{
    int64_t there = 0;
    heed_status st;
    text t;

    heed__text_init(&t, s->ctx->heap, 0);
    for (uint32_t i = 0; i < list->n; i++)
        if (scan_visible_folder(&list->entries[i]))
            scan_show_name(&t, list->entries[i].name, there++);
    if (there > SCAN_SHOWN)
        heed__text_add(&t, " and %" PRId64 " more", there - SCAN_SHOWN);
    heed__text_add(&t, "; known are ");
    for (int32_t i = 0; i < s->n_classes; i++)
        scan_show_name(&t, s->classes[i], i);
    if (s->n_classes > SCAN_SHOWN)
        heed__text_add(&t, " and %d more", s->n_classes - SCAN_SHOWN);
    st = t.failed
             ? heed__fail_memory(err, 0)
             : heed__fail_at(err, HEED_ERR_FORMAT, source,
                             "%s/%s is no class that is known: the folder has %s", s->root, source, t.data);
    heed__text_release(&t);
    return st;
}

/* Names of classes go into config.json, which holds text only: other bytes would not be found again. */
static heed_status scan_check_class(const folder_scan *s, const char *name, heed_error *err)
{
    char shown[200];

    if (heed__is_utf8(name, strlen(name)))
        return HEED_OK;
    return heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                         "%s: the name of the folder \"%s\" is not UTF-8; a class is called by it: rename it",
                         s->root, heed__shown(shown, name, strlen(name)));
}

/* The classes are the sub-folders of this one. */
static heed_status scan_name_classes(folder_scan *s, const folder_list *list, heed_error *err)
{
    s->classes = heed__arena_alloc(&s->arena, (size_t)list->n + 1, sizeof *s->classes);
    if (!s->classes)
        return heed__fail_memory(err, (uint64_t)list->n * sizeof *s->classes);
    for (uint32_t i = 0; i < list->n; i++) {
        if (!scan_visible_folder(&list->entries[i]))
            continue;
        TRY(scan_check_class(s, list->entries[i].name, err));
        s->classes[s->n_classes] = heed__arena_string(&s->arena, list->entries[i].name);
        if (!s->classes[s->n_classes++])
            return heed__fail_memory(err, 0);
    }
    return HEED_OK;
}

static heed_status scan_copy_classes(folder_scan *s, const char *const *classes, heed_error *err)
{
    size_t n = 0;

    while (classes[n])
        n++;
    s->classes = heed__arena_alloc(&s->arena, n + 1, sizeof *s->classes);
    for (size_t i = 0; s->classes && i < n; i++) {
        s->classes[i] = heed__arena_string(&s->arena, classes[i]);
        if (!s->classes[i])
            return heed__fail_memory(err, 0);
        s->n_classes++;
    }
    return s->classes ? HEED_OK : heed__fail_memory(err, n * sizeof *classes);
}

/* A folder of classes: the root, or a part. */
static heed_status scan_classes(folder_scan *s, const char *source, const folder_list *list, scan_part part,
                                heed_error *err)
{
    if (!s->classes)
        TRY(scan_name_classes(s, list, err));
    s->parts[part] = true;
    for (uint32_t i = 0; i < list->n; i++) {
        const folder_entry *e = &list->entries[i];
        const char *class_source;
        int32_t label;

        if (!scan_visible_folder(e)) {
            scan_pass_over(s, e);
            continue;
        }
        class_source = scan_join(s, source, e->name);
        if (!class_source)
            return heed__fail_memory(err, 0);
        label = scan_find_class(s, e->name);
        if (label < 0)
            return scan_unknown_class(s, class_source, list, err);
        TRY(scan_class(s, class_source, label, part, err));
    }
    return HEED_OK;
}

/* ---- layouts ---- */

static bool scan_holds_classes(const folder_list *list)
{
    bool folders = false, pictures = false;

    for (uint32_t i = 0; i < list->n; i++) {
        const folder_entry *e = &list->entries[i];

        folders = folders || scan_visible_folder(e);
        pictures = pictures || (e->kind == OS_FILE && e->name[0] != '.' && heed_image_named(e->name));
    }
    return folders && !pictures;
}

/* The folders of the parts that are there, by row of the table. */
typedef struct scan_layout {
    folder_list lists[SCAN_NAMES];
    bool there[SCAN_NAMES], parts;
} scan_layout;

static heed_status scan_find_parts(scan_layout *l, folder_scan *s, const folder_list *root, heed_error *err)
{
    for (size_t k = 0; k < SCAN_NAMES; k++)
        for (uint32_t i = 0; i < root->n; i++)
            if (root->entries[i].kind == OS_FOLDER &&
                strcmp(root->entries[i].name, scan_parts[k].name) == 0) {
                TRY(scan_list(&l->lists[k], s, scan_parts[k].name, err));
                l->there[k] = true;
                if (scan_parts[k].part != SCAN_VALIDATION && scan_holds_classes(&l->lists[k]))
                    l->parts = true;
            }
    return HEED_OK;
}

static heed_status scan_all_parts(folder_scan *s, scan_layout *l, heed_error *err)
{
    for (size_t k = 0; k < SCAN_NAMES; k++) {
        if (!l->there[k])
            continue;
        if (s->parts[scan_parts[k].part])
            return heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                                 "%s has two validation parts; val, valid and validation mean the same",
                                 s->root);
        TRY(scan_classes(s, scan_parts[k].name, &l->lists[k], scan_parts[k].part, err));
    }
    return HEED_OK;
}

/* What stands beside the parts is passed over. */
static void scan_beside_parts(folder_scan *s, const folder_list *root)
{
    for (uint32_t i = 0; i < root->n; i++) {
        bool part = false;

        for (size_t k = 0; k < SCAN_NAMES; k++)
            part = part || (root->entries[i].kind == OS_FOLDER &&
                            strcmp(root->entries[i].name, scan_parts[k].name) == 0);
        if (!part)
            scan_pass_over(s, &root->entries[i]);
    }
}

static heed_status scan_is_something(const folder_scan *s, heed_error *err)
{
    if (s->n > 0)
        return HEED_OK;
    if (s->outside > 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, s->root,
                             "%s: its %" PRId64
                             " pictures lie in no class; put those of each class into a folder of its own",
                             s->root, s->outside);
    return heed__fail_at(
        err, HEED_ERR_FORMAT, s->root,
        "%s: there is no picture in it; a data set is a folder for each class with PNG, JPEG, PGM or PPM "
        "files, or the four IDX files",
        s->root);
}

heed_status heed__scan_folder(folder_scan *out, heed_context *ctx, const char *root,
                              const char *const *classes, heed_error *err)
{
    folder_list list = { .n = 0 };
    scan_layout layout = { .parts = false };
    heed_status st;

    *out = (folder_scan){ .ctx = ctx };
    heed__arena_init(&out->arena, ctx->heap);
    out->root = heed__arena_string(&out->arena, root);
    if (!out->root)
        return heed__fail_memory(err, strlen(root));
    if (classes)
        TRY(scan_copy_classes(out, classes, err));
    STEP(scan_list_root(&list, ctx, root, err));
    STEP(scan_find_parts(&layout, out, &list, err));
    if (layout.parts) {
        scan_beside_parts(out, &list);
        STEP(scan_all_parts(out, &layout, err));
    } else {
        STEP(scan_classes(out, "", &list, SCAN_RULE, err));
    }
    STEP(scan_is_something(out, err));
done:
    for (size_t k = 0; k < SCAN_NAMES; k++)
        heed__folder_list_release(ctx, &layout.lists[k]);
    heed__folder_list_release(ctx, &list);
    return st;
}

void heed__scan_release(folder_scan *s)
{
    if (!s->ctx)
        return;
    heed__release(s->ctx->heap, s->samples);
    heed__arena_release(&s->arena);
    s->ctx = NULL;
}
