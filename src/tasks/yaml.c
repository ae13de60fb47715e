/* libyaml's events, never its loader: the loader needs a minute for 200 kB of "[", events with a depth limit
 * refuse it at once. Limits: bytes, events, depth (heed_limits). */

#include "tasks/yaml.h"

#include <string.h>

heed_status heed__yaml_add(yaml_list *list, arena *a, const yaml_entry *entry, heed_error *err)
{
    if (list->n == list->room) {
        const int room = 2 * list->room + 32;
        yaml_entry *more = heed__arena_alloc(a, (size_t)room, sizeof *more);

        if (!more)
            return heed__fail_memory(err, (uint64_t)room * sizeof *more);
        if (list->n > 0)
            memcpy(more, list->entries, (size_t)list->n * sizeof *more);
        list->entries = more;
        list->room = room;
    }
    list->entries[list->n++] = *entry;
    return HEED_OK;
}

#if defined(HEED_HAVE_YAML) && HEED_HAVE_YAML

#include <yaml.h>

#define DEPTH_MAX 64

/* What has been read so far: the dotted path of the open mappings and the list being joined. */
typedef struct reader {
    yaml_parser_t parser;
    heed_context *ctx;
    arena *a;
    const char *name;
    yaml_list *out;
    heed_error *err;
    const char *keys[DEPTH_MAX]; /* path of each open mapping; keys[0] = "" */
    int depth;
    yaml_entry pending; /* a key that waits for its value */
    bool have_key, in_list;
    uint64_t events;
} reader;

static heed_status refuse(reader *r, const yaml_mark_t *at, heed_status code, const char *what)
{
    return heed__fail_at(r->err, code, r->name, "%s:%d:%d: %s", r->name, (int)at->line + 1,
                         (int)at->column + 1, what);
}

static heed_status take_key(reader *r, const yaml_event_t *e)
{
    const char *parent = r->keys[r->depth - 1];
    char *key;

    if (e->data.scalar.length == 0 || e->data.scalar.length > 200 ||
        memchr(e->data.scalar.value, 0, e->data.scalar.length))
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a key must have 1 to 200 bytes and no NUL");
    key = parent[0] ? heed__arena_format(r->a, "%s.%s", parent, (const char *)e->data.scalar.value)
                    : heed__arena_string(r->a, (const char *)e->data.scalar.value);
    if (!key)
        return heed__fail_memory(r->err, e->data.scalar.length);
    for (int i = 0; i < r->out->n; i++) {
        const char *had = r->out->entries[i].key;
        const size_t n = strlen(key);

        if (strncmp(had, key, n) == 0 && (had[n] == '\0' || had[n] == '.'))
            return heed__fail_at(r->err, HEED_ERR_FORMAT, r->name,
                                 "%s:%d:%d: the key \"%s\" stands here twice, first in line %d", r->name,
                                 (int)e->start_mark.line + 1, (int)e->start_mark.column + 1, key,
                                 r->out->entries[i].line);
    }
    r->pending = (yaml_entry){ .key = key,
                               .line = (int)e->start_mark.line + 1,
                               .column = (int)e->start_mark.column + 1 };
    r->have_key = true;
    return HEED_OK;
}

static heed_status take_scalar(reader *r, const yaml_event_t *e)
{
    const char *value = (const char *)e->data.scalar.value;

    if (e->data.scalar.anchor || e->data.scalar.tag)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                      "anchors and tags are not used in recipes; write the value out");
    if (r->depth == 0)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a recipe is a mapping of keys to values");
    if (memchr(value, 0, e->data.scalar.length))
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a value holds a NUL byte");
    if (r->in_list) {
        const char *joined = r->pending.value[0] ? heed__arena_format(r->a, "%s,%s", r->pending.value, value)
                                                 : heed__arena_string(r->a, value);

        if (!joined)
            return heed__fail_memory(r->err, e->data.scalar.length);
        r->pending.value = joined;
        return HEED_OK;
    }
    if (!r->have_key)
        return take_key(r, e);
    r->pending.value = heed__arena_string(r->a, value);
    r->pending.value_line = (int)e->start_mark.line + 1;
    r->pending.value_column = (int)e->start_mark.column + 1;
    r->have_key = false;
    if (!r->pending.value)
        return heed__fail_memory(r->err, e->data.scalar.length);
    return heed__yaml_add(r->out, r->a, &r->pending, r->err);
}

static heed_status open_mapping(reader *r, const yaml_event_t *e)
{
    if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "anchors and tags are not used in recipes");
    if (r->in_list)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a list holds plain values only");
    if (r->depth > 0 && !r->have_key)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a key must be a word");
    if (r->depth == DEPTH_MAX || (uint64_t)r->depth >= r->ctx->limits.nesting)
        return refuse(r, &e->start_mark, HEED_ERR_LIMIT, "mappings are nested too deep");
    r->keys[r->depth++] = r->have_key ? r->pending.key : "";
    r->have_key = false;
    return HEED_OK;
}

static heed_status open_list(reader *r, const yaml_event_t *e)
{
    if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "anchors and tags are not used in recipes");
    if (r->in_list || !r->have_key)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                      "a list can only be the value of a key, and holds plain values only");
    r->in_list = true;
    r->pending.value = "";
    r->pending.value_line = (int)e->start_mark.line + 1;
    r->pending.value_column = (int)e->start_mark.column + 1;
    return HEED_OK;
}

static heed_status close_list(reader *r)
{
    r->in_list = false;
    r->have_key = false;
    return heed__yaml_add(r->out, r->a, &r->pending, r->err);
}

static heed_status take_event(reader *r, const yaml_event_t *e, int *documents)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return ++*documents > 1 ? refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                                         "a recipe is one document; a second one begins here")
                                : HEED_OK;
    case YAML_ALIAS_EVENT:
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                      "aliases are not used in recipes; write the value out");
    case YAML_SCALAR_EVENT:
        return take_scalar(r, e);
    case YAML_MAPPING_START_EVENT:
        return open_mapping(r, e);
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        return HEED_OK;
    case YAML_SEQUENCE_START_EVENT:
        return open_list(r, e);
    case YAML_SEQUENCE_END_EVENT:
        return close_list(r);
    default:
        return HEED_OK;
    }
}

heed_status heed__yaml_flatten(yaml_list *out, heed_context *ctx, arena *a, const char *name,
                               const void *bytes, size_t size, heed_error *err)
{
    reader r = { .ctx = ctx, .a = a, .name = name, .out = out, .err = err };
    heed_status st = HEED_OK;
    int documents = 0;
    bool end = false;

    *out = (yaml_list){ 0 };
    if (size > ctx->limits.yaml_bytes)
        return heed__fail_at(err, HEED_ERR_LIMIT, name, "%s has %zu bytes; a recipe may have %llu", name,
                             size, (unsigned long long)ctx->limits.yaml_bytes);
    if (!yaml_parser_initialize(&r.parser))
        return heed__fail_memory(err, 0);
    yaml_parser_set_input_string(&r.parser, bytes, size);
    while (st == HEED_OK && !end) {
        yaml_event_t e;

        if (!yaml_parser_parse(&r.parser, &e)) {
            st = r.parser.error == YAML_MEMORY_ERROR
                     ? heed__fail_memory(err, 0)
                     : heed__fail_at(err, HEED_ERR_FORMAT, name, "%s:%d:%d: %s", name,
                                     (int)r.parser.problem_mark.line + 1,
                                     (int)r.parser.problem_mark.column + 1,
                                     r.parser.problem ? r.parser.problem : "this is not YAML");
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        st = ++r.events > ctx->limits.yaml_events
                 ? refuse(&r, &e.start_mark, HEED_ERR_LIMIT, "a recipe has too many parts")
                 : take_event(&r, &e, &documents);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&r.parser);
    if (st == HEED_OK && out->n == 0)
        return heed__fail_at(err, HEED_ERR_FORMAT, name,
                             "%s is empty: a recipe needs at least data, model and train", name);
    return st;
}

#else

heed_status heed__yaml_flatten(yaml_list *out, heed_context *ctx, arena *a, const char *name,
                               const void *bytes, size_t size, heed_error *err)
{
    (void)out;
    (void)ctx;
    (void)a;
    (void)bytes;
    (void)size;
    return heed__fail_at(err, HEED_ERR_MISSING, name,
                         "%s: built without libyaml: apt install libyaml-dev, then build again", name);
}

#endif
