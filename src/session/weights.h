/* Inside heed_weights. */
#ifndef SESSION_WEIGHTS_H
#define SESSION_WEIGHTS_H

#include "graph/graph.h"
#include <heed/session.h>

typedef struct weight {
    char *name;
    heed_tensor tensor; /* owns data */
} weight;

struct heed_weights {
    heed_context *ctx;
    weight *list;
    uint32_t n, room, references;
    uint32_t *index; /* open addressing by CRC-32C of the name: position + 1 */
    uint32_t index_room;
};

/* The tensor of that path, made and initialised by the leaf's rule when missing. */
heed_status heed__weights_ensure(heed_weights *w, const char *path, const leaf_attrs *leaf, uint64_t seed, heed_tensor *out,
                                 heed_error *err);

/* A tensor of zeros under a name that is not there yet. */
heed_status heed__weights_add(heed_weights *w, const char *name, const heed_type *type, heed_tensor *out, heed_error *err);

/* Moves all tensors of `from`, a store of the same context that nobody else keeps, into w and frees it:
 * names that are there get the bytes, where they lie. Takes everything or, on failure, nothing; then `from`
 * is still the caller's. */
heed_status heed__weights_take(heed_weights *w, heed_weights *from, heed_error *err);

bool heed__weights_in_part(const char *name, heed_weights_part part);

/* Positions of the tensors of a part in order of name: n of them, in heap memory. */
heed_status heed__weights_sorted(const heed_weights *w, heed_weights_part part, uint32_t **out, uint32_t *n, heed_error *err);

#endif
