/* A context and a folder of its own for a test; both gone afterwards. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include "base/context.h"

typedef struct scratch {
    heed_context *ctx;
    char folder[64];
    char paths[4][160]; /* the last four that were asked for */
    int next;
} scratch;

/* For cmocka's setup and teardown: *state becomes a scratch. The teardown fails when the heap is not empty.
 */
int scratch_setup(void **state);
int scratch_teardown(void **state);

const char *scratch_path(scratch *s, const char *name); /* inside the folder; good for four more calls */
void scratch_clear(const char *folder);                 /* removes it with all that is in it; fine when missing */
int scratch_entries(const char *folder);                /* files and folders in it */

/* Whole files; a failure stops the program. scratch_get: free() it; ends with a zero byte that is not
 * counted. */
void scratch_put(const char *path, const void *bytes, size_t n);
uint8_t *scratch_get(const char *path, size_t *n);
bool scratch_same(const char *path, const char *other);

#endif
