/* TensorBoard's event files: what a training measures, as others show it.
 *
 *   events.out.tfevents.<seconds>.<host>.<process>.<n>  =  record ...
 *   record = length u64 | mask(crc(length)) u32 | bytes | mask(crc(bytes)) u32          little-endian
 *   mask(c) = rotate right (c, 15) + 0xa282ead8                                         crc: CRC-32C
 *
 * The bytes of a record are one Event, a protobuf message. The first one names the version of the format, the
 * second one begins a session. A tag's first
 * value carries which plugin shows it; later ones need not say so again.
 *
 * Records are kept in memory and appended whole, so that a crash between two flushes tears none; a record
 * that was torn all the same, by a full disk, ends what readers take from the file. Nothing is written after
 * it. */

#include "base/error.h"
#include <heed/formats.h>

#ifndef HEED_HAVE_PROTOBUF

static heed_status missing(heed_error *err)
{
    return heed__fail(
        err, HEED_ERR_MISSING,
        "heed was built without protobuf-c, which event files need: apt install libprotobuf-c-dev "
        "protobuf-c-compiler protobuf-compiler, rebuild");
}

heed_status heed_events_open(heed_events **out, heed_context *ctx, const char *folder,
                             const heed_events_opts *opts, heed_error *err)
{
    (void)out;
    (void)ctx;
    (void)folder;
    (void)opts;
    return missing(err);
}

heed_status heed_events_scalar(heed_events *e, const char *tag, int64_t step, double value, heed_error *err)
{
    (void)e;
    (void)tag;
    (void)step;
    (void)value;
    return missing(err);
}

heed_status heed_events_image(heed_events *e, const char *tag, int64_t step, const heed_event_image *images,
                              int n, heed_error *err)
{
    (void)e;
    (void)tag;
    (void)step;
    (void)images;
    (void)n;
    return missing(err);
}

heed_status heed_events_text(heed_events *e, const char *tag, int64_t step, const char *words,
                             heed_error *err)
{
    (void)e;
    (void)tag;
    (void)step;
    (void)words;
    return missing(err);
}

heed_status heed_events_flush(heed_events *e, heed_error *err)
{
    (void)e;
    return missing(err);
}

heed_status heed_events_close(heed_events *e, heed_error *err)
{
    (void)e;
    (void)err;
    return HEED_OK; /* none was opened */
}

const char *heed_events_path(const heed_events *e)
{
    (void)e;
    return "";
}

#else

#include "base/arena.h"
#include "base/digest.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/text.h"

#include <string.h>

#include <events.pb-c.h>

#define FLUSH_SECONDS 10
#define PENDING_MOST (1u << 20) /* more is written at once */
#define RECORD_MOST (1u << 28)
#define FILES_MOST 10000 /* of one process in one second */
#define IMAGES_MOST 256
#define DTYPE_FLOAT 1
#define DTYPE_STRING 7

/* Which plugin of TensorBoard shows a tag, and of what class its tensors are. */
typedef struct kind {
    const char *plugin;
    int data_class, dtype;
} kind;

static const kind scalars = { "scalars", 1, DTYPE_FLOAT };
static const kind images = { "images", 3, DTYPE_STRING };
static const kind texts = { "text", 2, DTYPE_STRING };

typedef struct tag {
    const char *name;
    const kind *kind;
    struct tag *next;
} tag;

struct heed_events {
    heed_context *ctx;
    arena arena;
    const char *path;
    tag *tags; /* those that this file has */
    uint8_t *pending;
    size_t size, room;
    heed_events_opts opts;
    double flushed;     /* monotonic seconds */
    heed_status failed; /* sticks: after a torn record nothing can be read */
};

/* ---- records ---- */

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

static void put_crc(uint8_t *to, const uint8_t *bytes, size_t n)
{
    const uint32_t c = heed__crc32c(0, bytes, n);

    put_u32(to, (c >> 15 | c << 17) + 0xa282ead8u);
}

static heed_status append(heed_events *e, const Event__Event *event, heed_error *err)
{
    const size_t n = event__event__get_packed_size(event);
    size_t room;
    uint8_t *at;

    if (n > RECORD_MOST)
        return heed__fail_at(err, HEED_ERR_LIMIT, e->path, "%s: a record of %zu bytes; %u are allowed",
                             e->path, n, RECORD_MOST);
    room = e->size + n + 16;
    if (room > e->room) {
        uint8_t *grown = heed__resize(e->ctx->heap, e->pending, 2 * room, 1);

        if (!grown)
            return heed__fail_memory(err, 2 * room);
        e->pending = grown;
        e->room = 2 * room;
    }
    at = e->pending + e->size;
    put_u32(at, (uint32_t)n);
    put_u32(at + 4, 0);
    put_crc(at + 8, at, 8);
    event__event__pack(event, at + 12);
    put_crc(at + 12 + n, at + 12, n);
    e->size = room;
    return HEED_OK;
}

heed_status heed_events_flush(heed_events *e, heed_error *err)
{
    if (e->failed)
        return heed__fail_at(err, e->failed, e->path, "%s: an earlier write failed, so nothing can follow",
                             e->path);
    e->flushed = heed__os_seconds();
    if (e->size)
        e->failed = heed__file_append(e->ctx, e->path, e->pending, e->size, err);
    e->size = 0;
    return e->failed;
}

static double now(const heed_events *e)
{
    return e->opts.clock ? e->opts.clock(e->opts.user) : heed__os_wall_seconds();
}

static heed_status add(heed_events *e, Event__Event *event, heed_error *err)
{
    if (e->failed)
        return heed_events_flush(e, err);
    event->has_wall_time = 1;
    event->wall_time = now(e);
    TRY(append(e, event, err));
    if (e->size > PENDING_MOST || heed__os_seconds() - e->flushed >= FLUSH_SECONDS)
        return heed_events_flush(e, err);
    return HEED_OK;
}

/* ---- values ---- */

/* NULL: the tag is new. */
static const tag *find_tag(const heed_events *e, const char *name)
{
    const tag *t = e->tags;

    while (t && strcmp(t->name, name) != 0)
        t = t->next;
    return t;
}

static heed_status check_tag(const heed_events *e, const char *name, const kind *k, const tag **known,
                             heed_error *err)
{
    const size_t size = name ? strlen(name) : 0;
    char shown[200];

    *known = NULL;
    if (size == 0)
        return heed__fail_at(err, HEED_ERR_USAGE, e->path, "a value of an event file needs a tag");
    if (!heed__is_utf8(name, size))
        return heed__fail_at(err, HEED_ERR_USAGE, e->path, "the tag \"%s\" is not UTF-8",
                             heed__shown(shown, name, size));
    *known = find_tag(e, name);
    if (*known && (*known)->kind != k)
        return heed__fail_at(err, HEED_ERR_USAGE, e->path,
                             "the tag \"%s\" holds %s already, so it cannot hold %s: give another name",
                             heed__shown(shown, name, size), (*known)->kind->plugin, k->plugin);
    return HEED_OK;
}

static heed_status remember_tag(heed_events *e, const char *name, const kind *k, heed_error *err)
{
    tag *t = heed__arena_alloc(&e->arena, 1, sizeof *t);

    if (!t)
        return heed__fail_memory(err, sizeof *t);
    *t = (tag){ .name = heed__arena_string(&e->arena, name), .kind = k, .next = e->tags };
    if (!t->name)
        return heed__fail_memory(err, strlen(name));
    e->tags = t;
    return HEED_OK;
}

/* protobuf-c's fields are not const; it only reads what it packs. */
static char *plain(const char *words)
{
    return (char *)(uintptr_t)words;
}

static heed_status add_value(heed_events *e, const char *name, int64_t step, const kind *k,
                             Event__Tensor *tensor, heed_error *err)
{
    Event__Metadata__PluginData plugin = EVENT__METADATA__PLUGIN_DATA__INIT;
    Event__Metadata metadata = EVENT__METADATA__INIT;
    Event__Summary__Value value = EVENT__SUMMARY__VALUE__INIT, *values = &value;
    Event__Summary summary = EVENT__SUMMARY__INIT;
    Event__Event event = EVENT__EVENT__INIT;
    const tag *known;

    TRY(check_tag(e, name, k, &known, err));
    tensor->has_dtype = 1;
    tensor->dtype = k->dtype;
    value.tag = plain(name);
    value.tensor = tensor;
    if (!known) {
        plugin.plugin_name = plain(k->plugin);
        metadata.plugin_data = &plugin;
        metadata.has_data_class = 1;
        metadata.data_class = k->data_class;
        value.metadata = &metadata;
    }
    summary.n_value = 1;
    summary.value = &values;
    event.has_step = 1;
    event.step = step;
    event.summary = &summary;
    if (!known)
        TRY(remember_tag(e, name, k, err));
    return add(e, &event, err);
}

heed_status heed_events_scalar(heed_events *e, const char *name, int64_t step, double value, heed_error *err)
{
    Event__Shape shape = EVENT__SHAPE__INIT;
    Event__Tensor tensor = EVENT__TENSOR__INIT;
    float number = (float)value;

    tensor.shape = &shape;
    tensor.n_float_val = 1;
    tensor.float_val = &number;
    return add_value(e, name, step, &scalars, &tensor, err);
}

static void put_number(char to[24], int64_t v)
{
    char digits[24];
    int n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    for (int i = 0; i < n; i++)
        to[i] = digits[n - 1 - i];
    to[n] = '\0';
}

static ProtobufCBinaryData bytes_of(const void *bytes, size_t n)
{
    return (ProtobufCBinaryData){ .len = n, .data = (uint8_t *)(uintptr_t)bytes };
}

/* width, height, then the pictures, as strings. */
heed_status heed_events_image(heed_events *e, const char *name, int64_t step, const heed_event_image *list,
                              int n, heed_error *err)
{
    ProtobufCBinaryData strings[IMAGES_MOST + 2];
    Event__Shape__Dim dim = EVENT__SHAPE__DIM__INIT, *dims = &dim;
    Event__Shape shape = EVENT__SHAPE__INIT;
    Event__Tensor tensor = EVENT__TENSOR__INIT;
    char width[24], height[24];

    if (n < 1 || n > IMAGES_MOST)
        return heed__fail_at(err, HEED_ERR_LIMIT, e->path, "%d pictures in one value; 1 to %d are allowed", n,
                             IMAGES_MOST);
    put_number(width, i64_max(0, list[0].width));
    put_number(height, i64_max(0, list[0].height));
    strings[0] = bytes_of(width, strlen(width));
    strings[1] = bytes_of(height, strlen(height));
    for (int i = 0; i < n; i++)
        strings[i + 2] = bytes_of(list[i].png, list[i].size);
    dim.has_size = 1;
    dim.size = n + 2;
    shape.n_dim = 1;
    shape.dim = &dims;
    tensor.shape = &shape;
    tensor.n_string_val = (size_t)n + 2;
    tensor.string_val = strings;
    return add_value(e, name, step, &images, &tensor, err);
}

heed_status heed_events_text(heed_events *e, const char *name, int64_t step, const char *words,
                             heed_error *err)
{
    ProtobufCBinaryData string = bytes_of(words, strlen(words));
    Event__Shape shape = EVENT__SHAPE__INIT;
    Event__Tensor tensor = EVENT__TENSOR__INIT;

    tensor.shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &string;
    return add_value(e, name, step, &texts, &tensor, err);
}

/* ---- the file ---- */

/* The first name that no file has. The clock may stand before 2001 or be broken: ten digits all the same. */
static heed_status choose_path(heed_events *e, const char *folder, heed_error *err)
{
    const double wall = now(e);
    const long long seconds = wall > 0 && wall < 9999999999.0 ? (long long)wall : 0;
    char host[64];

    heed__os_host(host);
    for (char *c = host; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", *c))
            *c = '-';
    for (int n = 0; n < FILES_MOST; n++) {
        const size_t length = strlen(folder);
        const char *between = length && heed__os_separates(folder[length - 1]) ? "" : "/";

        e->path = heed__arena_format(&e->arena, "%s%sevents.out.tfevents.%010lld.%s.%d.%d", folder, between,
                                     seconds, host[0] ? host : "host", heed__os_process(), n);
        if (!e->path)
            return heed__fail_memory(err, 0);
        if (!heed__file_exists(e->ctx, e->path))
            return HEED_OK;
    }
    return heed__fail_at(
        err, HEED_ERR_IO, folder,
        "%s: the %d names that an event file of this second may have are taken, or may not be looked at",
        folder, FILES_MOST);
}

/* A start of session makes readers forget the steps from its own on that older files of the folder tell of:
 * all of them for a new training. The first start they meet changes nothing, so every file needs one. */
static heed_status begin(heed_events *e, heed_error *err)
{
    Event__Event version = EVENT__EVENT__INIT, start = EVENT__EVENT__INIT;
    Event__SessionLog log = EVENT__SESSION_LOG__INIT;
    char name[] = "brain.Event:2";

    version.file_version = name;
    TRY(add(e, &version, err));
    log.has_status = 1;
    log.status = EVENT__SESSION_LOG__SESSION_STATUS__START;
    start.has_step = 1;
    start.step = e->opts.resumed.set ? e->opts.resumed.value + 1 : 0;
    start.session_log = &log;
    TRY(add(e, &start, err));
    return heed_events_flush(e, err); /* where nothing can be written, it is said now */
}

static void release(heed_events *e)
{
    heap *h = e->ctx->heap;

    heed__arena_release(&e->arena);
    heed__release(h, e->pending);
    heed__release(h, e);
}

heed_status heed_events_open(heed_events **out, heed_context *ctx, const char *folder,
                             const heed_events_opts *opts, heed_error *err)
{
    heed_events *e = heed__alloc(ctx->heap, 1, sizeof *e);
    heed_status st;

    if (!e)
        return heed__fail_memory(err, sizeof *e);
    e->ctx = ctx;
    e->opts = opts ? *opts : (heed_events_opts){ 0 };
    e->flushed = heed__os_seconds();
    heed__arena_init(&e->arena, ctx->heap);
    STEP(heed__folder_make(ctx, folder, err));
    STEP(choose_path(e, folder, err));
    STEP(begin(e, err));
    *out = e;
    e = NULL;
done:
    if (e)
        release(e);
    return st;
}

const char *heed_events_path(const heed_events *e)
{
    return e->path;
}

heed_status heed_events_close(heed_events *e, heed_error *err)
{
    heed_status st = HEED_OK;

    if (!e)
        return HEED_OK;
    if (!e->failed) /* a failure was told when it happened */
        st = heed_events_flush(e, err);
    release(e);
    return st;
}

#endif
