/* Whole files in, atomic files out. All system calls go through ctx->files, which tests replace to count them
 * and to make each fail.
 *
 * Writing is: temporary file in the same folder -> all bytes -> fsync -> close -> rename -> fsync of the
 * folder. A failure at any point leaves the old file as it was and removes the temporary one; only when
 * the last step fails the new file, complete, stands there already. The system's words are in err->text,
 * the path is in err->path. */
#ifndef BASE_FILES_H
#define BASE_FILES_H

#include "base/context.h"
#include "base/error.h"

typedef struct file_bytes {
    uint8_t *data; /* owned; heed__release */
    size_t size;
} file_bytes;

/* Reads a regular file whole. HEED_ERR_IO (missing, unreadable, a folder), HEED_ERR_LIMIT over `limit`
 * bytes. A file that grows or shrinks meanwhile is read up to the end that is met. data is never NULL,
 * also for an empty file. */
heed_status heed__file_read(file_bytes *out, heed_context *ctx, const char *path, uint64_t limit,
                            heed_error *err);

/* Parts of a regular file, read by offset and never mapped: a file that shrinks meanwhile is an error, not a signal. */
typedef struct file_reader {
    heed_context *ctx;
    int fd;
    uint64_t size; /* when it was opened */
} file_reader;
heed_status heed__file_open(file_reader *out, heed_context *ctx, const char *path, heed_error *err);
heed_status heed__file_part(const file_reader *r, const char *path, void *to, size_t n, uint64_t offset,
                            heed_error *err);
void heed__file_close(file_reader *r); /* nothing was written, so its failure says nothing */

/* Writing one file: begin, put as often as needed, then commit or cancel (either ends it; cancel after a
 * failure). */
typedef struct file_writer file_writer;
heed_status heed__file_begin(file_writer **out, heed_context *ctx, const char *path, heed_error *err);
heed_status heed__file_put(file_writer *w, const void *bytes, size_t n, heed_error *err);
heed_status heed__file_commit(file_writer *w, heed_error *err);
void heed__file_cancel(file_writer *w); /* NULL is fine */

/* begin + put + commit. */
heed_status heed__file_replace(heed_context *ctx, const char *path, const void *bytes, size_t n,
                               heed_error *err);

/* Appends to a log (metrics.jsonl); made when missing. Not made durable: a log may lose its end with the
 * power. */
heed_status heed__file_append(heed_context *ctx, const char *path, const void *bytes, size_t n,
                              heed_error *err);

/* Something of that name is there and is no folder (it may be unreadable); a folder of that name is there. */
bool heed__file_exists(heed_context *ctx, const char *path);
bool heed__folder_exists(heed_context *ctx, const char *path);

/* The names in a folder, in bytewise order; a link counts as what it leads to. */
typedef struct folder_entry {
    const char *name;
    os_entry kind;
} folder_entry;
typedef struct folder_list {
    folder_entry *entries; /* owned */
    char *names;           /* owned: the bytes behind them */
    uint32_t n;
} folder_list;
/* HEED_ERR_IO: no such folder, a file, not readable; HEED_ERR_LIMIT from 2^24 names on. */
heed_status heed__folder_list(folder_list *out, heed_context *ctx, const char *path, heed_error *err);
void heed__folder_list_release(heed_context *ctx, folder_list *list);

/* Makes a folder with its parents; fine when it exists. */
heed_status heed__folder_make(heed_context *ctx, const char *path, heed_error *err);

/* Each of these changes names only; heed__folder_sync makes the names of a folder durable. */
heed_status heed__file_remove(heed_context *ctx, const char *path, heed_error *err);   /* fine when it is missing */
heed_status heed__folder_remove(heed_context *ctx, const char *path, heed_error *err); /* empty, or missing */
heed_status heed__file_move(heed_context *ctx, const char *from, const char *to, heed_error *err); /* folders too */
heed_status heed__folder_sync(heed_context *ctx, const char *path, heed_error *err);

/* Makes what was appended to a log durable. */
heed_status heed__file_sync(heed_context *ctx, const char *path, heed_error *err);

/* A file that says "somebody works here": locked from here to heed__file_unlock, which removes it, or to the end of
 * the process, however it ends. A file without such a lock is a left-over and is taken over; the process id in it
 * is for messages. HEED_ERR_EXISTS, with that id, while another holds it. */
heed_status heed__file_lock(int *lock, heed_context *ctx, const char *path, heed_error *err);
void heed__file_unlock(int lock, heed_context *ctx, const char *path);

/* "folder/name" in heap memory, NULL when memory ran out. */
char *heed__path_join(heed_context *ctx, const char *folder, const char *name);

#endif
