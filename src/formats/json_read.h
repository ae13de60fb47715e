/* JSON from files that heed reads: with jansson on a length, duplicates refused, nesting bounded. */
#ifndef FORMATS_JSON_READ_H
#define FORMATS_JSON_READ_H

#include <heed/base.h>

#include <stddef.h>

struct json_t;

/* The document, given back by json_decref. `path` is for messages. HEED_ERR_FORMAT with line and column,
 * HEED_ERR_LIMIT for brackets nested deeper than the context allows, HEED_ERR_MISSING without jansson. */
heed_status heed__json_read(struct json_t **out, heed_context *ctx, const void *bytes, size_t size,
                            const char *path, heed_error *err);

#endif
