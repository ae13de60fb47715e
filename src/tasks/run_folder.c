/* See the header. */

#include "tasks/run_folder.h"
#include "base/files.h"
#include "train/checkpoint.h"

#include <string.h>

static heed_status join(char **out, heed_context *ctx, const char *folder, const char *name, heed_error *err)
{
    *out = heed__path_join(ctx, folder, name);
    return *out ? HEED_OK : heed__fail_memory(err, strlen(folder));
}

heed_status heed__run_has(bool *out, heed_context *ctx, const char *folder, const char *name, heed_error *err)
{
    char *path;

    TRY(join(&path, ctx, folder, name, err));
    *out = heed__file_exists(ctx, path);
    heed__release(ctx->heap, path);
    return HEED_OK;
}

heed_status heed__run_file(char **out, heed_context *ctx, const char *folder, const char *name,
                           heed_error *err)
{
    bool newer = false;
    char *next;
    heed_status st;

    TRY(join(&next, ctx, folder, RUN_NEXT, err));
    STEP(heed__run_has(&newer, ctx, next, RUN_CONFIG, err));
    if (newer)
        STEP(heed__run_has(&newer, ctx, next, name, err));
    STEP(join(out, ctx, newer ? next : folder, name, err));
done:
    heed__release(ctx->heap, next);
    return st;
}

heed_status heed__run_work(char **out, heed_context *ctx, const char *folder, heed_error *err)
{
    bool next_is_it = false;
    char *next;
    heed_status st;

    TRY(join(&next, ctx, folder, RUN_NEXT, err));
    STEP(heed__run_has(&next_is_it, ctx, next, RUN_RECIPE, err));
    *out = heed__copy_string(ctx->heap, next_is_it ? next : folder);
    if (!*out)
        st = heed__fail_memory(err, strlen(folder));
done:
    heed__release(ctx->heap, next);
    return st;
}

/* ---- whole folders ---- */

typedef heed_status entry_fn(heed_context *ctx, const char *folder, const char *name, const char *to,
                             heed_error *err);

/* Calls `each` for the files of a folder. */
static heed_status each_file(heed_context *ctx, const char *folder, entry_fn *each, const char *to,
                             heed_error *err)
{
    folder_list list = { .n = 0 };
    heed_status st;

    STEP(heed__folder_list(&list, ctx, folder, err));
    for (uint32_t i = 0; i < list.n; i++)
        if (list.entries[i].kind != OS_FOLDER)
            STEP(each(ctx, folder, list.entries[i].name, to, err));
done:
    heed__folder_list_release(ctx, &list);
    return st;
}

static heed_status remove_file(heed_context *ctx, const char *folder, const char *name, const char *to,
                               heed_error *err)
{
    char *path;
    heed_status st;

    (void)to;
    TRY(join(&path, ctx, folder, name, err));
    st = heed__file_remove(ctx, path, err);
    heed__release(ctx->heap, path);
    return st;
}

static heed_status remove_temporary(heed_context *ctx, const char *folder, const char *name, const char *to,
                                    heed_error *err)
{
    const size_t n = strlen(name);

    if (strncmp(name, ".heed-", 6) != 0 || n < 4 || strcmp(name + n - 4, ".tmp") != 0)
        return HEED_OK;
    return remove_file(ctx, folder, name, to, err);
}

/* folder/name to to/name. */
static heed_status move(heed_context *ctx, const char *folder, const char *name, const char *to,
                        heed_error *err)
{
    char *from = NULL, *target = NULL;
    heed_status st;

    STEP(join(&from, ctx, folder, name, err));
    STEP(join(&target, ctx, to, name, err));
    STEP(heed__file_move(ctx, from, target, err));
done:
    heed__release(ctx->heap, from);
    heed__release(ctx->heap, target);
    return st;
}

static heed_status move_all_but_config(heed_context *ctx, const char *folder, const char *name,
                                       const char *to, heed_error *err)
{
    return strcmp(name, RUN_CONFIG) == 0 ? HEED_OK : move(ctx, folder, name, to, err);
}

heed_status heed__run_sweep(heed_context *ctx, const char *folder, heed_error *err)
{
    return each_file(ctx, folder, remove_temporary, NULL, err);
}

/* The sets of a folder, and the folder of sets. */
static heed_status clear_sets(heed_context *ctx, const char *folder, heed_error *err)
{
    char *sets;
    heed_status st;

    TRY(join(&sets, ctx, folder, RUN_SETS, err));
    STEP(heed__checkpoint_clear(&(checkpoint_place){ .ctx = ctx, .folder = sets }, err));
    STEP(heed__folder_remove(ctx, sets, err));
done:
    heed__release(ctx->heap, sets);
    return st;
}

heed_status heed__run_clear(heed_context *ctx, const char *folder, heed_error *err)
{
    TRY(clear_sets(ctx, folder, err));
    TRY(each_file(ctx, folder, remove_file, NULL, err));
    return heed__folder_sync(ctx, folder, err);
}

static heed_status settle(heed_context *ctx, const char *folder, const char *next, const char *sets,
                          heed_error *err)
{
    TRY(remove_file(ctx, folder, RUN_REPORT, NULL, err)); /* it tells of the run that was written over */
    TRY(each_file(ctx, next, move_all_but_config, folder, err));
    if (heed__folder_exists(ctx, sets)) {
        TRY(clear_sets(ctx, folder, err));
        TRY(move(ctx, next, RUN_SETS, folder, err));
    }
    TRY(heed__folder_sync(ctx, folder, err));
    TRY(heed__folder_sync(ctx, next, err));
    TRY(move(ctx, next, RUN_CONFIG, folder, err)); /* now nothing of next/ counts any more */
    TRY(heed__folder_sync(ctx, folder, err));
    TRY(heed__folder_sync(ctx, next, err));
    TRY(heed__folder_remove(ctx, next, err));
    return heed__folder_sync(ctx, folder, err);
}

heed_status heed__run_settle(heed_context *ctx, const char *folder, heed_error *err)
{
    char *next = NULL, *sets = NULL;
    bool whole = false;
    heed_status st;

    STEP(join(&next, ctx, folder, RUN_NEXT, err));
    STEP(join(&sets, ctx, next, RUN_SETS, err));
    STEP(heed__run_has(&whole, ctx, next, RUN_CONFIG, err));
    if (whole)
        STEP(settle(ctx, folder, next, sets, err));
    else if (heed__folder_exists(ctx, next))
        (void)ctx->files->rmdir(ctx->files->user,
                                next); /* when it is empty: all was moved out, but for this */
done:
    heed__release(ctx->heap, next);
    heed__release(ctx->heap, sets);
    return st;
}
