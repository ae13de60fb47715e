/* Files: whole reads, atomic writes, and every call of the system made to fail. */
#define _GNU_SOURCE
#include "support/cmocka.h"
#include "base/files.h"
#include "support/fail_each.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    heed_context *ctx;
    char folder[64], file[96];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);

    strcpy(f->folder, "/tmp/heed_files_XXXXXX");
    if (!mkdtemp(f->folder) ||
        heed_context_new(&f->ctx, &(heed_context_opts){ .threads = 1 }, NULL) != HEED_OK)
        return 1;
    snprintf(f->file, sizeof f->file, "%s/file", f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    char command[192];
    int failed;

    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", f->folder, f->folder);
    failed = system(command);
    heed_context_free(f->ctx);
    free(f);
    return failed;
}

static void put_file(const char *path, const char *content)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    fputs(content, f);
    fclose(f);
}

static bool holds(heed_context *ctx, const char *path, const char *content)
{
    file_bytes b = { 0 };
    bool same;

    if (heed__file_read(&b, ctx, path, 1 << 20, NULL) != HEED_OK)
        return false;
    same = b.size == strlen(content) && memcmp(b.data, content, b.size) == 0;
    heed__release(ctx->heap, b.data);
    return same;
}

/* Entries of a folder without "." and "..". */
static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void what_was_written_is_read_back(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };

    assert_int_equal(heed__file_replace(f->ctx, f->file, "attention", 9, &err), HEED_OK);
    assert_true(holds(f->ctx, f->file, "attention"));
    assert_int_equal(heed__file_replace(f->ctx, f->file, "", 0, &err), HEED_OK);
    assert_true(holds(f->ctx, f->file, ""));
    assert_int_equal(entries(f->folder), 1);
}

static void a_file_is_written_in_pieces_and_appears_at_once(void **state)
{
    fixture *f = *state;
    file_writer *w;
    heed_error err = { 0 };

    put_file(f->file, "old");
    assert_int_equal(heed__file_begin(&w, f->ctx, f->file, &err), HEED_OK);
    assert_int_equal(heed__file_put(w, "ne", 2, &err), HEED_OK);
    assert_int_equal(heed__file_put(w, NULL, 0, &err), HEED_OK);
    assert_true(holds(f->ctx, f->file, "old"));
    assert_int_equal(heed__file_put(w, "w", 1, &err), HEED_OK);
    assert_int_equal(heed__file_commit(w, &err), HEED_OK);
    assert_true(holds(f->ctx, f->file, "new"));
    assert_int_equal(entries(f->folder), 1);
}

static void a_cancelled_file_leaves_no_trace(void **state)
{
    fixture *f = *state;
    file_writer *w, *v;

    put_file(f->file, "old");
    assert_int_equal(heed__file_begin(&w, f->ctx, f->file, NULL), HEED_OK);
    assert_int_equal(heed__file_begin(&v, f->ctx, f->file, NULL), HEED_OK); /* another temporary name */
    assert_int_equal(heed__file_put(w, "new", 3, NULL), HEED_OK);
    heed__file_cancel(w);
    heed__file_cancel(v);
    heed__file_cancel(NULL);
    assert_true(holds(f->ctx, f->file, "old"));
    assert_int_equal(entries(f->folder), 1);
}

static void a_name_as_long_as_the_system_allows_can_be_written(void **state)
{
    fixture *f = *state;
    char path[400];

    snprintf(path, sizeof path, "%s/", f->folder);
    memset(path + strlen(path), 'n', 255);
    path[strlen(f->folder) + 1 + 255] = '\0';
    assert_int_equal(heed__file_replace(f->ctx, path, "x", 1, NULL), HEED_OK);
    assert_true(holds(f->ctx, path, "x"));
}

static void a_file_in_the_working_folder_needs_no_folder_name(void **state)
{
    fixture *f = *state;
    char *before = getcwd(NULL, 0);

    assert_int_equal(chdir(f->folder), 0);
    assert_int_equal(heed__file_replace(f->ctx, "plain", "x", 1, NULL), HEED_OK);
    assert_true(holds(f->ctx, "plain", "x"));
    assert_int_equal(chdir(before), 0);
    free(before);
}

static void a_file_over_the_limit_is_refused(void **state)
{
    fixture *f = *state;
    file_bytes b = { 0 };
    heed_error err = { 0 };

    put_file(f->file, "12345");
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 5, &err), HEED_OK);
    heed__release(f->ctx->heap, b.data);
    b = (file_bytes){ 0 };
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 4, &err), HEED_ERR_LIMIT);
    assert_null(b.data);
    assert_string_equal(err.path, f->file);
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 0, NULL), HEED_ERR_LIMIT);
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, UINT64_MAX, NULL), HEED_OK);
    heed__release(f->ctx->heap, b.data);
}

static void only_regular_files_are_read(void **state)
{
    fixture *f = *state;
    file_bytes b = { 0 };
    heed_error err = { 0 };
    char pipe_path[96];

    assert_int_equal(heed__file_read(&b, f->ctx, f->folder, 100, &err), HEED_ERR_IO);
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", f->folder);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(heed__file_read(&b, f->ctx, pipe_path, 100, NULL), HEED_ERR_IO); /* and does not block */
    assert_int_equal(heed__file_read(&b, f->ctx, "/dev/zero", 100, NULL), HEED_ERR_IO);
    err = (heed_error){ 0 };
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 100, &err), HEED_ERR_IO);
    assert_string_equal(err.text, "the file cannot be opened: No such file or directory");
}

/* A file whose size is said to be something else: it grew or shrank after the question. */
typedef struct lying {
    file_ops ops;
    int64_t said;
} lying;

static int64_t lying_size(void *user, int fd, bool *regular)
{
    (void)fd;
    *regular = true;
    return ((lying *)user)->said;
}

static void a_file_that_grows_or_shrinks_is_read_to_its_end(void **state)
{
    fixture *f = *state;
    lying l = { .ops = *heed__file_ops() };
    char big[200001];
    file_bytes b = { 0 };

    memset(big, 'g', 200000);
    big[200000] = '\0';
    put_file(f->file, big);
    l.ops.size = lying_size;
    l.ops.user = &l;
    f->ctx->files = &l.ops;
    for (l.said = 0; l.said < 500000; l.said += 99999) {
        assert_int_equal(heed__file_read(&b, f->ctx, f->file, 1 << 20, NULL), HEED_OK);
        assert_int_equal(b.size, 200000);
        assert_memory_equal(b.data, big, 200000);
        heed__release(f->ctx->heap, b.data);
    }
    l.said = 10;
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 200000, NULL), HEED_OK);
    heed__release(f->ctx->heap, b.data);
    assert_int_equal(heed__file_read(&b, f->ctx, f->file, 199999, NULL), HEED_ERR_LIMIT);
    f->ctx->files = heed__file_ops();
}

static void appending_makes_the_file_and_keeps_what_is_there(void **state)
{
    fixture *f = *state;

    assert_int_equal(heed__file_append(f->ctx, f->file, "a\n", 2, NULL), HEED_OK);
    assert_int_equal(heed__file_append(f->ctx, f->file, "b\n", 2, NULL), HEED_OK);
    assert_true(holds(f->ctx, f->file, "a\nb\n"));
    assert_int_equal(heed__file_append(f->ctx, f->folder, "x", 1, NULL), HEED_ERR_IO);
}

static void existing_means_there_even_if_unreadable(void **state)
{
    fixture *f = *state;

    assert_false(heed__file_exists(f->ctx, f->file));
    assert_false(heed__folder_exists(f->ctx, f->file));
    put_file(f->file, "x");
    assert_true(heed__file_exists(f->ctx, f->file));
    assert_false(heed__folder_exists(f->ctx, f->file));
    assert_int_equal(chmod(f->file, 0), 0);
    assert_true(heed__file_exists(f->ctx, f->file));
    assert_true(heed__folder_exists(f->ctx, f->folder));
    assert_false(heed__file_exists(f->ctx, f->folder));
}

static void folders_are_made_with_their_parents(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };
    char path[128];

    snprintf(path, sizeof path, "%s/a//b/c/", f->folder);
    assert_int_equal(heed__folder_make(f->ctx, path, &err), HEED_OK);
    assert_true(heed__folder_exists(f->ctx, path));
    assert_int_equal(heed__folder_make(f->ctx, path, &err), HEED_OK);
    assert_int_equal(heed__folder_make(f->ctx, "/", &err), HEED_OK);
    assert_int_equal(heed__folder_make(f->ctx, ".", &err), HEED_OK);
    assert_int_equal(heed__folder_make(f->ctx, "", NULL), HEED_ERR_USAGE);
    put_file(f->file, "x");
    snprintf(path, sizeof path, "%s/file/below", f->folder);
    assert_int_equal(heed__folder_make(f->ctx, path, &err), HEED_ERR_IO);
}

static void paths_are_joined_with_one_slash(void **state)
{
    fixture *f = *state;
    static const char *const cases[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "/", "b", "/b" }, { "a", "", "a/" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = heed__path_join(f->ctx, cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        heed__release(f->ctx->heap, joined);
    }
}

static void a_full_disk_names_the_bytes(void **state)
{
    fixture *f = *state;
    fault_files faults;
    file_writer *w;
    heed_error err = { 0 };

    fault_files_init(&faults, heed__file_ops());
    f->ctx->files = &faults.ops;
    assert_int_equal(heed__file_begin(&w, f->ctx, f->file, &err), HEED_OK);
    faults.error = ENOSPC;
    faults.at = faults.calls + 1;
    assert_int_equal(heed__file_put(w, "12345", 5, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "5 bytes more are needed"));
    assert_non_null(strstr(err.text, "are free on its file system"));
    assert_int_equal(heed__file_put(w, "6", 1, NULL), HEED_ERR_IO); /* the file is spoilt */
    assert_int_equal(heed__file_commit(w, NULL), HEED_ERR_IO);
    f->ctx->files = heed__file_ops();
    assert_false(heed__file_exists(f->ctx, f->file));
    assert_int_equal(entries(f->folder), 0);
}

/* Writes down the order of calls. */
typedef struct trace {
    file_ops ops;
    const file_ops *real;
    char calls[256];
} trace;

static void note(trace *t, const char *call)
{
    strncat(t->calls, call, sizeof t->calls - strlen(t->calls) - 1);
}

static int trace_open_new(void *user, const char *path)
{
    note(user, "new ");
    return ((trace *)user)->real->open_new(NULL, path);
}

static int trace_open_folder(void *user, const char *path)
{
    note(user, "folder ");
    return ((trace *)user)->real->open_folder(NULL, path);
}

static int64_t trace_write(void *user, int fd, const void *from, size_t n)
{
    note(user, "write ");
    return ((trace *)user)->real->write(NULL, fd, from, n);
}

static int trace_sync(void *user, int fd)
{
    note(user, "sync ");
    return ((trace *)user)->real->sync(NULL, fd);
}

static int trace_close(void *user, int fd)
{
    note(user, "close ");
    return ((trace *)user)->real->close(NULL, fd);
}

static int trace_rename(void *user, const char *from, const char *to)
{
    note(user, "rename ");
    return ((trace *)user)->real->rename(NULL, from, to);
}

static void a_write_is_durable_before_it_gets_its_name_and_its_name_after(void **state)
{
    fixture *f = *state;
    trace t = { .real = heed__file_ops() };

    t.ops = *t.real;
    t.ops.user = &t;
    t.ops.open_new = trace_open_new;
    t.ops.open_folder = trace_open_folder;
    t.ops.write = trace_write;
    t.ops.sync = trace_sync;
    t.ops.close = trace_close;
    t.ops.rename = trace_rename;
    f->ctx->files = &t.ops;
    assert_int_equal(heed__file_replace(f->ctx, f->file, "x", 1, NULL), HEED_OK);
    f->ctx->files = heed__file_ops();
    assert_string_equal(t.calls, "new write sync close rename folder sync close ");
}

/* ---- listing ---- */

static void a_folder_is_listed_in_bytewise_order_with_links_followed(void **state)
{
    static const char *const names[] = { ".hidden", "B", "a", "a10", "a2", "sub", "to_nowhere", "to_sub", "\xc3\xa4" };
    fixture *f = *state;
    folder_list list;
    char path[192], target[192];

    for (size_t i = 0; i < 9; i++) {
        snprintf(path, sizeof path, "%s/%s", f->folder, names[8 - i]);
        snprintf(target, sizeof target, "%s/sub", f->folder);
        if (strncmp(names[8 - i], "to_", 3) == 0)
            assert_int_equal(symlink(names[8 - i][3] == 's' ? target : "nowhere", path), 0);
        else if (strcmp(names[8 - i], "sub") == 0)
            assert_int_equal(mkdir(path, 0700), 0);
        else
            put_file(path, "x");
    }
    assert_int_equal(heed__folder_list(&list, f->ctx, f->folder, NULL), HEED_OK);
    assert_int_equal(list.n, 9);
    for (size_t i = 0; i < 9; i++)
        assert_string_equal(list.entries[i].name, names[i]);
    assert_int_equal(list.entries[0].kind, OS_FILE);
    assert_int_equal(list.entries[5].kind, OS_FOLDER);
    assert_int_equal(list.entries[6].kind, OS_OTHER);
    assert_int_equal(list.entries[7].kind, OS_FOLDER);
    heed__folder_list_release(f->ctx, &list);
    snprintf(path, sizeof path, "%s/sub", f->folder);
    assert_int_equal(heed__folder_list(&list, f->ctx, path, NULL), HEED_OK);
    assert_int_equal(list.n, 0);
    heed__folder_list_release(f->ctx, &list);
}

static void what_is_no_folder_cannot_be_listed(void **state)
{
    fixture *f = *state;
    heed_error err = { 0 };
    folder_list list;

    put_file(f->file, "x");
    assert_int_equal(heed__folder_list(&list, f->ctx, f->file, &err), HEED_ERR_IO);
    assert_non_null(strstr(err.text, "cannot be read"));
    assert_string_equal(err.path, f->file);
}

static void the_same_folder_is_known_by_any_name(void **state)
{
    fixture *f = *state;
    char path[192];

    snprintf(path, sizeof path, "%s/../%s/.", f->folder, f->folder + strlen("/tmp/"));
    assert_true(heed__os_same(f->folder, path));
    assert_false(heed__os_same(f->folder, "/tmp"));
    assert_false(heed__os_same(f->file, f->file)); /* neither is there */
}

/* ---- scenarios ---- */

static void prepare_old(heed_context *ctx, void *user)
{
    fixture *f = user;
    char command[192];

    (void)ctx;
    snprintf(command, sizeof command, "%s/.heed-%d-0.tmp", f->folder, (int)getpid());
    unlink(command); /* what a run left whose unlink was made to fail */
    put_file(f->file, "old");
}

static heed_status replace_run(heed_context *ctx, void *user, heed_error *err)
{
    return heed__file_replace(ctx, ((fixture *)user)->file, "new content", 11, err);
}

/* Whole in any case; new if the run says so, and old unless only the last step failed. */
static bool replace_right(heed_context *ctx, void *user, heed_status st)
{
    fixture *f = user;

    if (st == HEED_OK)
        return holds(ctx, f->file, "new content") && entries(f->folder) == 1;
    return holds(ctx, f->file, "old") || holds(ctx, f->file, "new content");
}

static heed_status read_run(heed_context *ctx, void *user, heed_error *err)
{
    heed_status st = HEED_OK;
    file_bytes b;

    TRY(heed__file_read(&b, ctx, ((fixture *)user)->file, 100, err));
    if (b.size != 3 || memcmp(b.data, "old", 3) != 0)
        st = heed__fail(err, HEED_ERR_BUG, "other bytes than the file's");
    heed__release(ctx->heap, b.data);
    return st;
}

/* An interrupted close is harmless; read_run itself has looked at the bytes. */
static bool read_right(heed_context *ctx, void *user, heed_status st)
{
    (void)ctx;
    (void)user;
    return st != HEED_ERR_BUG;
}

static heed_status append_run(heed_context *ctx, void *user, heed_error *err)
{
    return heed__file_append(ctx, ((fixture *)user)->file, " and more", 9, err);
}

static bool append_right(heed_context *ctx, void *user, heed_status st)
{
    return st != HEED_OK || holds(ctx, ((fixture *)user)->file, "old and more");
}

static heed_status folder_run(heed_context *ctx, void *user, heed_error *err)
{
    char *path = heed__path_join(ctx, ((fixture *)user)->folder, "deep/deeper");
    heed_status st = path ? heed__folder_make(ctx, path, err) : heed__fail_memory(err, 0);

    heed__release(ctx->heap, path);
    return st;
}

static void folder_prepare(heed_context *ctx, void *user)
{
    char path[128];

    (void)ctx;
    snprintf(path, sizeof path, "%s/deep/deeper", ((fixture *)user)->folder);
    rmdir(path);
    snprintf(path, sizeof path, "%s/deep", ((fixture *)user)->folder);
    rmdir(path);
}

static bool folder_right(heed_context *ctx, void *user, heed_status st)
{
    char path[128];

    snprintf(path, sizeof path, "%s/deep/deeper", ((fixture *)user)->folder);
    return st != HEED_OK || heed__folder_exists(ctx, path);
}

static void list_prepare(heed_context *ctx, void *user)
{
    char path[192];

    (void)ctx;
    snprintf(path, sizeof path, "%s/sub", ((fixture *)user)->folder);
    (void)mkdir(path, 0700);
    for (const char *name = "cab"; *name; name++) {
        snprintf(path, sizeof path, "%s/%c", ((fixture *)user)->folder, *name);
        put_file(path, "");
    }
}

static heed_status list_run(heed_context *ctx, void *user, heed_error *err)
{
    folder_list list = { .n = 0 };
    heed_status st = heed__folder_list(&list, ctx, ((fixture *)user)->folder, err);

    heed__folder_list_release(ctx, &list);
    return st;
}

static const heed_scenario scenarios[] = {
    { "file_replace", replace_run, prepare_old, replace_right },
    { "file_read", read_run, prepare_old, read_right },
    { "file_append", append_run, prepare_old, append_right },
    { "folder_make", folder_run, folder_prepare, folder_right },
    { "folder_list", list_run, list_prepare, NULL },
};

static void files_survive_each_failing_allocation(void **state)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        heed_fail_report report;
        assert_true(heed_fail_each(&scenarios[i], *state, &report));
    }
}

static void files_survive_each_failing_call(void **state)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        heed_fail_report report;
        assert_true(heed_fail_each_file(&scenarios[i], *state, &report));
        assert_true(report.calls > 0);
    }
}

static void before_the_rename_every_fault_leaves_the_old_file(void **state)
{
    fixture *f = *state;

    for (uint64_t n = 1; n <= 5; n++) { /* new write sync close rename */
        fault_files faults;

        prepare_old(f->ctx, f);
        fault_files_init(&faults, heed__file_ops());
        faults.error = EIO;
        faults.at = n;
        f->ctx->files = &faults.ops;
        assert_int_equal(heed__file_replace(f->ctx, f->file, "new content", 11, NULL), HEED_ERR_IO);
        f->ctx->files = heed__file_ops();
        assert_true(holds(f->ctx, f->file, "old"));
        assert_int_equal(entries(f->folder), 1); /* and no temporary file */
    }
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(what_was_written_is_read_back),
        EACH(a_file_is_written_in_pieces_and_appears_at_once),
        EACH(a_cancelled_file_leaves_no_trace),
        EACH(a_name_as_long_as_the_system_allows_can_be_written),
        EACH(a_file_in_the_working_folder_needs_no_folder_name),
        EACH(a_file_over_the_limit_is_refused),
        EACH(only_regular_files_are_read),
        EACH(a_file_that_grows_or_shrinks_is_read_to_its_end),
        EACH(appending_makes_the_file_and_keeps_what_is_there),
        EACH(existing_means_there_even_if_unreadable),
        EACH(folders_are_made_with_their_parents),
        EACH(paths_are_joined_with_one_slash),
        EACH(a_folder_is_listed_in_bytewise_order_with_links_followed),
        EACH(what_is_no_folder_cannot_be_listed),
        EACH(the_same_folder_is_known_by_any_name),
        EACH(a_full_disk_names_the_bytes),
        EACH(a_write_is_durable_before_it_gets_its_name_and_its_name_after),
        EACH(files_survive_each_failing_allocation),
        EACH(files_survive_each_failing_call),
        EACH(before_the_rename_every_fault_leaves_the_old_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
