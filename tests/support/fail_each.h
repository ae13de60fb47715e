/* Makes every allocation and every file call of a scenario fail in turn.
 *
 * A scenario is run once unharmed to learn its N calls. Then for n = 1 .. N: call n fails once; call n and
 * all after it fail; and the scenario runs unharmed on the same context. After each run
 *
 *   memory      a failed allocation has ended with HEED_ERR_MEMORY and a text
 *   files       EIO, ENOSPC, EACCES, EAGAIN have ended with HEED_ERR_IO and a text, or `right` finds no
 *               harm done; a short count and one EINTR change nothing; EINTR for ever ends as the others do
 *   both        the heap holds as many bytes as before, as many descriptors are open, and `right` finds
 *               what should be there
 *
 * A row is printed for each scenario: its name, its calls, the runs with one fault and with all from there
 * on, ok or BAD. */
#ifndef TESTS_FAIL_EACH_H
#define TESTS_FAIL_EACH_H

#include "base/context.h"

typedef struct heed_scenario {
    const char *name;

    /* What is tried. Everything that it makes from the context is freed when it returns, also on failure. */
    heed_status (*run)(heed_context *ctx, void *user, heed_error *err);

    /* Optional: brings files back to the same beginning, before every run and without faults. */
    void (*prepare)(heed_context *ctx, void *user);

    /* Optional: is the state outside (files, outputs) right for a run that ended with this status? */
    bool (*right)(heed_context *ctx, void *user, heed_status st);
} heed_scenario;

typedef struct heed_fail_report {
    uint64_t calls, once, onward; /* calls of an unharmed run; runs of both sorts */
    uint64_t bad;
    char first_bad[256]; /* what the first bad run did */
} heed_fail_report;

/* True when no run was bad. */
bool heed_fail_each(const heed_scenario *s, void *user, heed_fail_report *report);
bool heed_fail_each_file(const heed_scenario *s, void *user, heed_fail_report *report);

/* Descriptors of this process that are open now. */
int heed_open_descriptors(void);

/* A table of file calls that counts, and fails on demand. `ops` goes into a context's `files`. */
typedef struct fault_files {
    file_ops ops;
    const file_ops *real;
    uint64_t calls, at; /* call number `at` fails, counted from 1; 0: none */
    bool onward;        /* and all after it */
    int error;          /* an errno, or FAULT_SHORT */
    uint64_t hits;      /* calls that failed */
} fault_files;

#define FAULT_SHORT (-1) /* reads and writes do half of what was asked; other calls are left alone */

void fault_files_init(fault_files *f, const file_ops *real);

#endif
