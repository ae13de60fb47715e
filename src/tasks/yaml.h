/* YAML as a flat list: "train.lr" = "3e-3" at line 7, column 9. Only what recipes need: nested mappings,
 * scalars, and lists of scalars (joined by commas). Everything else of YAML is refused by name: anchors,
 * aliases, tags, second documents, duplicate keys. */
#ifndef TASKS_YAML_H
#define TASKS_YAML_H

#include "base/arena.h"
#include "base/context.h"
#include "base/error.h"

typedef struct yaml_entry {
    const char *key, *value; /* in the arena */
    const char *origin;      /* of an entry that is not from a file: "--set" */
    int line, column;        /* of the key, from 1; 0: not from a file */
    int value_line, value_column;
} yaml_entry;

typedef struct yaml_list {
    yaml_entry *entries; /* in the arena */
    int n, room;
} yaml_list;

/* Parses bytes; `name` is the file's, for messages: "recipe.yaml:3:1: ...". HEED_ERR_MISSING when built
 * without libyaml. */
heed_status heed__yaml_flatten(yaml_list *out, heed_context *ctx, arena *a, const char *name,
                               const void *bytes, size_t size, heed_error *err);

/* Adds an entry; the key must be new. */
heed_status heed__yaml_add(yaml_list *list, arena *a, const yaml_entry *entry, heed_error *err);

#endif
