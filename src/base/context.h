/* What a context holds. It knows no ML word: graph, plan and session take from it the heap, the threads
 * and the level. */
#ifndef BASE_CONTEXT_H
#define BASE_CONTEXT_H

#include "base/heap.h"
#include "base/pool.h"
#include "base/os/os.h"

struct heed_context {
    struct heap *heap;
    struct pool *pool;
    heed_limits limits; /* no zero left but memory_bytes */
    const file_ops *files; /* the system's; tests put their own */
    heed_isa isa;       /* never HEED_ISA_AUTO */
};

#endif
