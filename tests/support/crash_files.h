/* File calls of a process that dies, and of a machine that loses its power.
 *
 * dying_files    passes calls on until call number `at`; that one and all after it are refused, so what is on disk is
 *                what SIGKILL leaves. Descriptors are closed all the same, as the kernel would. `torn`: the last write
 *                still gets half of its bytes out. `kill`: SIGKILL comes in truth.
 * traced_files   writes down every call that changes something, with the bytes of writes. From the list, crash_states
 *                makes what a disk may hold when the power goes: between two fsyncs of a folder its names may have
 *                changed or not, each for itself; bytes that no fsync covered may be there, missing, zeros, or cut at
 *                512 or 4096. */
#ifndef TESTS_CRASH_FILES_H
#define TESTS_CRASH_FILES_H

#include "base/context.h"

typedef struct dying_files {
    file_ops ops;
    const file_ops *real;
    uint64_t calls, at; /* 0: it lives */
    bool torn, kill;
    int committed;      /* manifests that got their name */
    uint64_t commits[8]; /* the calls that gave it */
} dying_files;

void dying_files_init(dying_files *f, const file_ops *real);

typedef enum trace_kind { TRACE_NEW, TRACE_WRITE, TRACE_SYNC, TRACE_SYNC_FOLDER, TRACE_RENAME, TRACE_UNLINK,
                          TRACE_MKDIR, TRACE_RMDIR } trace_kind;

typedef struct trace_call {
    trace_kind kind;
    char path[256], to[256]; /* inside the root */
    uint8_t *bytes;
    size_t n;
} trace_call;

#define TRACE_MOST 600

typedef struct traced_files {
    file_ops ops;
    const file_ops *real;
    const char *root;
    trace_call calls[TRACE_MOST];
    int n;
    char open[64][256]; /* of a descriptor: what it is, "" when nothing of ours */
    bool folder[64];
} traced_files;

void traced_files_init(traced_files *f, const file_ops *real, const char *root);
void traced_files_release(traced_files *f);
/* A call a line: "sync step-2/model.safetensors"; a temporary name is "tmp". */
void traced_files_print(const traced_files *f, char *to, size_t room);

/* Calls `look` with `root` holding every state that is legal after calls 0 .. done - 1, and the number of them.
 * `begin` was on disk before, durable. drop: this call (a sync) is left out, as if the program had forgotten it; -1:
 * none. look returns false to stop. Returns how many states there were. */
typedef bool crash_look(void *user, int done);
int64_t crash_states(const traced_files *f, const char *begin, const char *root, int drop, crash_look *look,
                     void *user);

#endif
