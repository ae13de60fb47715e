/* Threads. Work is cut into chunks whose borders never depend on the number of threads; chunks are handed
 * out by an atomic counter, so the result may depend on nothing but the chunk. Calls do not nest: a chunk
 * never calls pool_run. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/heap.h"

typedef struct pool pool;

/* worker: 0 .. threads-1, the caller's thread is 0. */
typedef void pool_fn(void *user, int worker, int64_t chunk);

heed_status heed__pool_new(pool **out, heap *h, int threads, heed_error *err);
void heed__pool_free(pool *p);
int heed__pool_threads(const pool *p);

/* Runs fn for chunks 0 .. chunks-1 and returns when all are done. Everything written by chunks is visible
 * after. The caller works too; a second caller at the same time does all its chunks itself. No heap calls.
 * Floating-point control words of workers are the default ones and the caller's are left to session_run. */
void heed__pool_run(pool *p, pool_fn *fn, void *user, int64_t chunks);

#endif
