/* libyaml's events, never its loader: the loader needs a minute for 200 kB of "[", events with a depth limit
 * refuse it at once. Limits: bytes, events, depth (heed_limits). */

#include "tasks/yaml.h"
#include "base/digest.h"
#include "base/text.h"

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
#define KEY_MOST 200 /* bytes of a dotted key */

/* A key that was met, of a value or of a mapping. Found by its digest first: a hostile file has thousands. */
typedef struct met_key {
    const char *key;
    uint32_t digest;
    int line;
} met_key;

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
    text list;          /* the items so far, joined by commas */
    met_key *met;       /* in the arena */
    int n_met, room_met;
    bool have_key, in_list;
    uint64_t events;
} reader;

static heed_status refuse(reader *r, const yaml_mark_t *at, heed_status code, const char *what)
{
    return heed__fail_at(r->err, code, r->name, "%s:%d:%d: %s", r->name, (int)at->line + 1,
                         (int)at->column + 1, what);
}

/* Remembers the key; a second one of that name is refused. */
static heed_status meet(reader *r, const char *key, const yaml_mark_t *at)
{
    const met_key made = { key, heed__crc32c_string(key), (int)at->line + 1 };
    char shown[200];

    for (int i = 0; i < r->n_met; i++)
        if (r->met[i].digest == made.digest && strcmp(r->met[i].key, key) == 0)
            return heed__fail_at(r->err, HEED_ERR_FORMAT, r->name,
                                 "%s:%d:%d: the key \"%s\" stands here twice, first in line %d", r->name,
                                 (int)at->line + 1, (int)at->column + 1, heed__shown(shown, key, strlen(key)),
                                 r->met[i].line);
    if (r->n_met == r->room_met) {
        const int room = 2 * r->room_met + 64;
        met_key *more = heed__arena_alloc(r->a, (size_t)room, sizeof *more);

        if (!more)
            return heed__fail_memory(r->err, (uint64_t)room * sizeof *more);
        if (r->n_met > 0)
            memcpy(more, r->met, (size_t)r->n_met * sizeof *more);
        r->met = more;
        r->room_met = room;
    }
    r->met[r->n_met++] = made;
    return HEED_OK;
}

static heed_status take_key(reader *r, const yaml_event_t *e)
{
    const char *parent = r->keys[r->depth - 1];
    char *key;

    if (e->data.scalar.length == 0 || e->data.scalar.length + strlen(parent) > KEY_MOST)
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                      "a key must have 1 to 200 bytes, those of its groups among them");
    key = parent[0] ? heed__arena_format(r->a, "%s.%s", parent, (const char *)e->data.scalar.value)
                    : heed__arena_string(r->a, (const char *)e->data.scalar.value);
    if (!key)
        return heed__fail_memory(r->err, e->data.scalar.length);
    TRY(meet(r, key, &e->start_mark));
    r->pending = (yaml_entry){ .key = key,
                               .line = (int)e->start_mark.line + 1,
                               .column = (int)e->start_mark.column + 1 };
    r->have_key = true;
    return HEED_OK;
}

/* An item joins the list's value. */
static heed_status take_item(reader *r, const yaml_event_t *e)
{
    const char *value = (const char *)e->data.scalar.value;

    if (!value[0] || strchr(value, ','))
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT,
                      "what stands in a list must not be empty and has no comma");
    heed__text_add(&r->list, "%s%s", r->list.size ? "," : "", value);
    return r->list.failed ? heed__fail_memory(r->err, e->data.scalar.length) : HEED_OK;
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
        return refuse(r, &e->start_mark, HEED_ERR_FORMAT, "a key or value holds a NUL byte");
    if (r->in_list)
        return take_item(r, e);
    if (!r->have_key)
        return take_key(r, e);
    if (e->data.scalar.length == 0 && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return heed__fail_at(r->err, HEED_ERR_FORMAT, r->name, "%s:%d:%d: the key \"%s\" has no value",
                             r->name, r->pending.line, r->pending.column,
                             heed__shown((char[200]){ 0 }, r->pending.key, strlen(r->pending.key)));
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
    heed__text_clear(&r->list);
    r->pending.value_line = (int)e->start_mark.line + 1;
    r->pending.value_column = (int)e->start_mark.column + 1;
    return HEED_OK;
}

static heed_status close_list(reader *r)
{
    r->in_list = false;
    r->have_key = false;
    r->pending.value = heed__arena_string(r->a, r->list.data);
    if (!r->pending.value)
        return heed__fail_memory(r->err, r->list.size);
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

/* What stops the parser: bytes that are no text are told by their offset, the rest by a mark. */
static heed_status not_yaml(const reader *r, const char *bytes, size_t size)
{
    const char *problem = r->parser.problem ? r->parser.problem : "this is not YAML";
    size_t line = r->parser.problem_mark.line, column = r->parser.problem_mark.column;

    if (r->parser.error == YAML_MEMORY_ERROR)
        return heed__fail_memory(r->err, 0);
    if (r->parser.error == YAML_READER_ERROR) {
        line = column = 0;
        for (size_t i = 0; i < size && i < r->parser.problem_offset; i++) {
            column = bytes[i] == '\n' ? 0 : column + (((unsigned char)bytes[i] & 0xc0) != 0x80);
            line += bytes[i] == '\n';
        }
    }
    return heed__fail_at(r->err, HEED_ERR_FORMAT, r->name, "%s:%d:%d: %s", r->name, (int)line + 1,
                         (int)column + 1, problem);
}

heed_status heed__yaml_flatten(yaml_list *out, heed_context *ctx, arena *a, const char *name,
                               const void *bytes, size_t size, heed_error *err)
{
    reader r = { .ctx = ctx, .a = a, .name = name, .out = out, .err = err };
    heed_status st = HEED_OK;
    int documents = 0;
    bool end = false;

    *out = (yaml_list){ 0 };
    heed__text_init(&r.list, ctx->heap, 0);
    if (size > ctx->limits.yaml_bytes)
        return heed__fail_at(err, HEED_ERR_LIMIT, name, "%s has %zu bytes; a recipe may have %llu", name,
                             size, (unsigned long long)ctx->limits.yaml_bytes);
    if (!yaml_parser_initialize(&r.parser))
        return heed__fail_memory(err, 0);
    yaml_parser_set_input_string(&r.parser, bytes, size);
    while (st == HEED_OK && !end) {
        yaml_event_t e;

        if (!yaml_parser_parse(&r.parser, &e)) {
            st = not_yaml(&r, bytes, size);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        st = ++r.events > ctx->limits.yaml_events
                 ? refuse(&r, &e.start_mark, HEED_ERR_LIMIT, "a recipe has too many parts")
                 : take_event(&r, &e, &documents);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&r.parser);
    heed__text_release(&r.list);
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
