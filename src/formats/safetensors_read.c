/* safetensors, reading.
 *
 *   bytes 0-7    N, the length of the header, u64 little-endian
 *   N bytes      JSON in UTF-8: {"__metadata__": {string: string ...},
 *                name: {"dtype", "shape", "data_offsets"} ...}
 *   the rest     data: dense, row-major, little-endian; offsets count from its beginning
 *
 * The header is read once, by a cursor, with a grammar of two levels; nothing recurses. The data is covered
 * without holes or overlap: sorted by begin, each tensor begins where the last one ended, and the last ends
 * at the end of the file.
 *
 * Every file that the reference (safetensors 0.8.0) accepts is accepted, but for: a name or key that stands
 * twice (there the last wins), white space before the {, a zero byte in a name, an entry written as an array
 * or a dtype as an object, unknown values nested deeper than 64, names over the limit, more than 8
 * dimensions, sizes whose product overflows when zeros are taken as ones. And reading refuses a BOOL that is
 * neither 0 nor 1. tests/corpus/safetensors.tsv has a file for each rule. */

#include "formats/safetensors.h"
#include "base/context.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/sort.h"
#include "base/text.h"

#include <inttypes.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "data is copied as it lies in the file");

#define LENGTH_BYTES 8
#define NESTING_MOST 64

const safetensors_dtype heed__safetensors_dtypes[] = {
    { "BOOL", 8, HEED_BOOL },
    { "F4", 4, HEED_DTYPES },
    { "F6_E2M3", 6, HEED_DTYPES },
    { "F6_E3M2", 6, HEED_DTYPES },
    { "U8", 8, HEED_U8 },
    { "I8", 8, HEED_DTYPES },
    { "F8_E5M2", 8, HEED_DTYPES },
    { "F8_E4M3", 8, HEED_DTYPES },
    { "F8_E8M0", 8, HEED_DTYPES },
    { "F8_E4M3FNUZ", 8, HEED_DTYPES },
    { "F8_E5M2FNUZ", 8, HEED_DTYPES },
    { "I16", 16, HEED_DTYPES },
    { "U16", 16, HEED_DTYPES },
    { "F16", 16, HEED_F16 },
    { "BF16", 16, HEED_BF16 },
    { "I32", 32, HEED_I32 },
    { "U32", 32, HEED_DTYPES },
    { "F32", 32, HEED_F32 },
    { "C64", 64, HEED_DTYPES },
    { "F64", 64, HEED_F64 },
    { "I64", 64, HEED_I64 },
    { "U64", 64, HEED_DTYPES },
    { NULL, 0, HEED_DTYPES },
};

typedef struct entry {
    const char *name; /* in f->strings */
    const safetensors_dtype *dtype;
    heed_type type;
    uint64_t begin, end; /* in the data */
    uint64_t at;         /* where its name stands in the file, for messages */
} entry;

struct heed_safetensors {
    heed_context *ctx;
    char *path;           /* NULL: in memory */
    const uint8_t *bytes; /* borrowed; NULL: read from `file` */
    file_reader file;
    uint64_t size, data_at;
    char *strings; /* all names, keys and values, decoded: never longer than the header */
    entry *list;   /* in order of data */
    heed_pair *pairs;
    uint32_t *by_name;
    uint32_t n, room, n_pairs, room_pairs;
};

/* ---- the grammar ---- */

typedef struct parser {
    heed_safetensors *f;
    cursor c;
    size_t used;        /* of f->strings */
    const char *tensor; /* the entry being read, for messages; NULL: none */
    bool metadata;      /* it has been there */
} parser;

static void refuse(parser *p, heed_status code, const char *rule)
{
    heed__cursor_fail(&p->c, code, rule);
}

static void skip_white(parser *p)
{
    int next;

    while ((next = heed__peek(&p->c)) == ' ' || next == '\t' || next == '\n' || next == '\r')
        heed__u8(&p->c);
}

/* White space, then this character, which is part of the structure. */
static bool expect(parser *p, char what, const char *rule)
{
    skip_white(p);
    if (heed__peek(&p->c) != what) {
        refuse(p, HEED_ERR_FORMAT, rule);
        return false;
    }
    heed__u8(&p->c);
    return true;
}

/* After an element: a comma (true) or the closing bracket (false, as after a failure). */
static bool more(parser *p, char close, const char *rule)
{
    skip_white(p);
    if (heed__peek(&p->c) == ',') {
        heed__u8(&p->c);
        return true;
    }
    expect(p, close, rule);
    return false;
}

/* True when the bracket closes at once. */
static bool closes(parser *p, char close)
{
    skip_white(p);
    if (heed__peek(&p->c) != close)
        return false;
    heed__u8(&p->c);
    return true;
}

static uint32_t hex4(parser *p)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        const int c = heed__peek(&p->c);
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;

        if (digit < 0) {
            refuse(p, HEED_ERR_FORMAT, "\\u needs four hexadecimal digits");
            return 0;
        }
        value = value * 16 + (uint32_t)digit;
        heed__u8(&p->c);
    }
    return value;
}

static void put(parser *p, uint32_t byte)
{
    p->f->strings[p->used++] = (char)(uint8_t)byte;
}

static void put_character(parser *p, uint32_t code)
{
    if (code < 0x80) {
        put(p, code);
    } else if (code < 0x800) {
        put(p, 0xc0 | code >> 6);
        put(p, 0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        put(p, 0xe0 | code >> 12);
        put(p, 0x80 | (code >> 6 & 0x3f));
        put(p, 0x80 | (code & 0x3f));
    } else {
        put(p, 0xf0 | code >> 18);
        put(p, 0x80 | (code >> 12 & 0x3f));
        put(p, 0x80 | (code >> 6 & 0x3f));
        put(p, 0x80 | (code & 0x3f));
    }
}

/* What stands behind a backslash. */
static void read_escape(parser *p)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const int c = heed__peek(&p->c);
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    uint32_t code, low;

    if (letter) {
        heed__u8(&p->c);
        put(p, (uint8_t)meanings[letter - letters]);
        return;
    }
    if (!heed__literal(&p->c, "u")) {
        refuse(p, HEED_ERR_FORMAT, "a string has an escape that JSON does not know");
        return;
    }
    code = hex4(p);
    if (code >= 0xd800 && code < 0xdc00 && heed__literal(&p->c, "\\u")) {
        low = hex4(p);
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xd800;
    }
    if (p->c.failed)
        return;
    if (code >= 0xd800 && code < 0xe000)
        refuse(p, HEED_ERR_FORMAT, "half of a surrogate pair stands alone");
    else if (!code)
        refuse(p, HEED_ERR_FORMAT, "a string holds a zero byte");
    else
        put_character(p, code);
}

/* A string, decoded and terminated in f->strings: it takes no more bytes there than between its quotes and
 * the closing one. */
static const char *read_string(parser *p, const char *rule)
{
    const size_t from = p->used;

    if (!expect(p, '"', rule))
        return "";
    for (;;) {
        const int c = heed__peek(&p->c);
        size_t n;

        if (c == '"' || c < 0)
            break;
        if (c == '\\') {
            heed__u8(&p->c);
            read_escape(p);
            continue;
        }
        n = heed__utf8_length((const char *)p->c.data + p->c.at, heed__cursor_left(&p->c));
        if (c < 0x20)
            refuse(p, HEED_ERR_FORMAT, "a control character stands in a string");
        else if (!n)
            refuse(p, HEED_ERR_FORMAT, "the header is not valid UTF-8");
        for (size_t i = 0; i < n && !p->c.failed; i++)
            put(p, heed__u8(&p->c));
    }
    if (!expect(p, '"', "a string has no end"))
        return "";
    put(p, 0);
    return p->f->strings + from;
}

static bool digit_next(const parser *p)
{
    const int c = heed__peek(&p->c);

    return c >= '0' && c <= '9';
}

/* A whole number that is not negative, in its only spelling. */
static uint64_t read_whole(parser *p)
{
    uint64_t value = 0;

    skip_white(p);
    if (!digit_next(p))
        refuse(p, HEED_ERR_FORMAT, "a whole number, not negative, must stand here");
    if (heed__literal(&p->c, "0")) {
        if (digit_next(p))
            refuse(p, HEED_ERR_FORMAT, "a number begins with a needless zero");
        return 0;
    }
    while (digit_next(p)) {
        const uint64_t digit = (uint64_t)(heed__u8(&p->c) - '0');

        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            refuse(p, HEED_ERR_FORMAT, "a number needs more than 64 bits");
    }
    return value;
}

static void skip_digits(parser *p)
{
    if (!digit_next(p))
        refuse(p, HEED_ERR_FORMAT, "a number lacks a digit");
    while (digit_next(p))
        heed__u8(&p->c);
}

static void skip_scalar(parser *p)
{
    const size_t used = p->used;

    if (heed__peek(&p->c) == '"') {
        read_string(p, "");
        p->used = used;
        return;
    }
    if (heed__literal(&p->c, "true") || heed__literal(&p->c, "false") || heed__literal(&p->c, "null"))
        return;
    if (!heed__literal(&p->c, "-") && !digit_next(p)) {
        refuse(p, HEED_ERR_FORMAT, "a value must stand here");
        return;
    }
    if (!heed__literal(&p->c, "0"))
        skip_digits(p);
    else if (digit_next(p))
        refuse(p, HEED_ERR_FORMAT, "a number begins with a needless zero");
    if (heed__literal(&p->c, "."))
        skip_digits(p);
    if (heed__literal(&p->c, "e") || heed__literal(&p->c, "E")) {
        if (!heed__literal(&p->c, "+"))
            heed__literal(&p->c, "-");
        skip_digits(p);
    }
}

static void skip_key(parser *p)
{
    const size_t used = p->used;

    read_string(p, "a key in quotes must stand here");
    p->used = used;
    expect(p, ':', "a colon must follow a key");
}

/* Any value, checked and forgotten. The stack holds the brackets that are open. */
static void skip_value(parser *p)
{
    char closing[NESTING_MOST];
    const uint64_t limit = p->f->ctx->limits.nesting;
    const size_t most = limit < NESTING_MOST ? (size_t)limit : NESTING_MOST;
    size_t depth = 0;

    do {
        int c;
        bool opened = false;

        skip_white(p);
        c = heed__peek(&p->c);
        if (c == '{' || c == '[') {
            if (depth == most) {
                refuse(p, HEED_ERR_LIMIT, "values are nested deeper than the limit");
                return;
            }
            heed__u8(&p->c);
            closing[depth] = c == '{' ? '}' : ']';
            opened = !closes(p, closing[depth]);
            depth += opened;
        } else {
            skip_scalar(p);
        }
        while (!opened && depth > 0 &&
               !more(p, closing[depth - 1], "a comma or the closing bracket must follow a value"))
            depth--;
        if (depth > 0 && closing[depth - 1] == '}')
            skip_key(p);
    } while (depth > 0 && !p->c.failed);
}

/* ---- entries ---- */

static void read_shape(parser *p, entry *e)
{
    if (!expect(p, '[', "shape must be an array") || closes(p, ']'))
        return;
    do {
        const uint64_t size = read_whole(p);
        int64_t dim = 0;

        if (!heed__i64_from_u64(&dim, size))
            refuse(p, HEED_ERR_LIMIT, "a size is over 2^63 - 1");
        if (e->type.rank == HEED_MAX_RANK)
            refuse(p, HEED_ERR_LIMIT, "a tensor has more than 8 dimensions");
        if (p->c.failed)
            return;
        e->type.dims[e->type.rank++] = dim;
    } while (more(p, ']', "a comma or ] must follow a size"));
}

static void read_offsets(parser *p, entry *e)
{
    if (!expect(p, '[', "data_offsets must be an array of two numbers"))
        return;
    e->begin = read_whole(p);
    expect(p, ',', "data_offsets must be an array of two numbers");
    e->end = read_whole(p);
    expect(p, ']', "data_offsets must be an array of two numbers");
}

static const safetensors_dtype *find_dtype(const char *name)
{
    const safetensors_dtype *d = heed__safetensors_dtypes;

    while (d->name && strcmp(d->name, name) != 0)
        d++;
    return d->name ? d : NULL;
}

static void read_dtype(parser *p, entry *e)
{
    const size_t used = p->used;

    e->dtype = find_dtype(read_string(p, "dtype must be a string"));
    p->used = used;
    if (!e->dtype)
        refuse(p, HEED_ERR_FORMAT, "the format knows no such dtype");
    else
        e->type.dtype = e->dtype->dtype;
}

/* What the fields of one entry say about each other. */
static void check_entry(parser *p, const entry *e)
{
    const heed_type sizes = { HEED_U8,
                              e->type.rank,
                              { e->type.dims[0], e->type.dims[1], e->type.dims[2], e->type.dims[3],
                                e->type.dims[4], e->type.dims[5], e->type.dims[6], e->type.dims[7] } };
    uint64_t bits = 1;
    bool fits = true;

    for (int i = 0; i < e->type.rank; i++)
        fits = fits && !__builtin_mul_overflow(bits, (uint64_t)e->type.dims[i], &bits);
    if (!fits || __builtin_mul_overflow(bits, (uint64_t)e->dtype->bits, &bits))
        refuse(p, HEED_ERR_FORMAT, "the product of the sizes overflows");
    else if (heed_type_count(&sizes) < 0)
        refuse(p, HEED_ERR_LIMIT, "the product of the sizes, zeros taken as ones, is over 2^63 - 1");
    else if (bits % 8)
        refuse(p, HEED_ERR_FORMAT, "the elements do not fill whole bytes");
    else if (e->begin > e->end)
        refuse(p, HEED_ERR_FORMAT, "data_offsets end before they begin");
    else if (e->end - e->begin != bits / 8)
        refuse(p, HEED_ERR_FORMAT, "data_offsets do not hold as many bytes as dtype and shape need");
}

static void add_entry(parser *p, const entry *e)
{
    heed_safetensors *f = p->f;

    if (f->n == f->room) {
        entry *grown = heed__resize(f->ctx->heap, f->list, 2 * (size_t)f->room + 16, sizeof *grown);

        if (!grown) {
            refuse(p, HEED_ERR_MEMORY, "memory ran out");
            return;
        }
        f->list = grown;
        f->room = 2 * f->room + 16;
    }
    f->list[f->n++] = *e;
}

static void read_entry(parser *p, const char *name, uint64_t at)
{
    entry e = { .name = name, .at = at };
    bool dtype = false, shape = false, offsets = false;

    if (!expect(p, '{', "a tensor's entry must be an object"))
        return;
    if (!closes(p, '}')) {
        do {
            const size_t used = p->used;
            const char *key = read_string(p, "a field's name in quotes must stand here");
            const bool is_dtype = strcmp(key, "dtype") == 0, is_shape = strcmp(key, "shape") == 0,
                       is_offsets = strcmp(key, "data_offsets") == 0;

            p->used = used;
            expect(p, ':', "a colon must follow a field's name");
            if ((is_dtype && dtype) || (is_shape && shape) || (is_offsets && offsets))
                refuse(p, HEED_ERR_FORMAT, "a field stands twice");
            else if (is_dtype)
                read_dtype(p, &e);
            else if (is_shape)
                read_shape(p, &e);
            else if (is_offsets)
                read_offsets(p, &e);
            else
                skip_value(p);
            dtype |= is_dtype;
            shape |= is_shape;
            offsets |= is_offsets;
        } while (more(p, '}', "a comma or } must follow a field"));
    }
    if (!dtype || !shape || !offsets)
        refuse(p, HEED_ERR_FORMAT, "dtype, shape or data_offsets is missing");
    if (!p->c.failed)
        check_entry(p, &e);
    if (!p->c.failed)
        add_entry(p, &e);
}

static void read_metadata(parser *p)
{
    heed_safetensors *f = p->f;

    if (p->metadata)
        refuse(p, HEED_ERR_FORMAT, "__metadata__ stands twice");
    p->metadata = true;
    skip_white(p);
    if (heed__literal(&p->c, "null")) /* as the reference reads it: none */
        return;
    if (!expect(p, '{', "__metadata__ must be an object") || closes(p, '}'))
        return;
    do {
        heed_pair pair;

        pair.key = read_string(p, "a key in quotes must stand here");
        expect(p, ':', "a colon must follow a key");
        pair.value = read_string(p, "__metadata__ holds strings only");
        if (p->c.failed)
            return;
        if (f->n_pairs == f->room_pairs) {
            heed_pair *grown =
                heed__resize(f->ctx->heap, f->pairs, 2 * (size_t)f->room_pairs + 4, sizeof *grown);

            if (!grown) {
                refuse(p, HEED_ERR_MEMORY, "memory ran out");
                return;
            }
            f->pairs = grown;
            f->room_pairs = 2 * f->room_pairs + 4;
        }
        f->pairs[f->n_pairs++] = pair;
    } while (more(p, '}', "a comma or } must follow a pair"));
}

static void read_header(parser *p)
{
    if (heed__peek(&p->c) != '{')
        refuse(p, HEED_ERR_FORMAT, "the header must begin with {");
    heed__u8(&p->c);
    if (!closes(p, '}')) {
        do {
            uint64_t at;
            const char *name;

            skip_white(p);
            at = p->c.origin + p->c.at;
            p->tensor = NULL;
            name = read_string(p, "a name in quotes must stand here");
            p->tensor = name;
            if (strlen(name) > p->f->ctx->limits.name_bytes)
                refuse(p, HEED_ERR_LIMIT, "a name is longer than the limit");
            expect(p, ':', "a colon must follow a name");
            if (strcmp(name, SAFETENSORS_METADATA) == 0)
                read_metadata(p);
            else
                read_entry(p, name, at);
        } while (more(p, '}', "a comma or } must follow an entry"));
    }
    if (!p->c.failed)
        p->tensor = NULL;
    skip_white(p);
    if (heed__cursor_left(&p->c))
        refuse(p, HEED_ERR_FORMAT, "something stands behind the header's closing }");
}

/* The parser's first failure as a sentence. */
static heed_status parser_status(const parser *p, heed_error *err)
{
    char shown[200];

    if (!p->c.failed || !p->tensor)
        return heed__cursor_status(&p->c, p->f->path, err);
    return heed__fail_at(err, p->c.failed, p->f->path, "at byte %" PRIu64 ", tensor \"%s\": %s",
                         p->c.failed_at, heed__shown(shown, p->tensor, strlen(p->tensor)), p->c.rule);
}

/* ---- rules between entries ---- */

static bool data_before(const void *items, uint32_t a, uint32_t b)
{
    const entry *e = items;

    return e[a].begin != e[b].begin ? e[a].begin < e[b].begin : e[a].end < e[b].end;
}

static bool name_before(const void *items, uint32_t a, uint32_t b)
{
    const entry *e = items;

    return strcmp(e[a].name, e[b].name) < 0;
}

static bool key_before(const void *items, uint32_t a, uint32_t b)
{
    const heed_pair *pair = items;

    return strcmp(pair[a].key, pair[b].key) < 0;
}

static heed_status entry_fail(const heed_safetensors *f, const entry *e, const char *rule, heed_error *err)
{
    char shown[200];

    return heed__fail_at(err, HEED_ERR_FORMAT, f->path, "at byte %" PRIu64 ", tensor \"%s\": %s", e->at,
                         heed__shown(shown, e->name, strlen(e->name)), rule);
}

/* Puts the list into the order of data and checks that it covers the data. */
static heed_status check_coverage(heed_safetensors *f, uint32_t *order, uint32_t *room, heed_error *err)
{
    const uint64_t bytes = f->size - f->data_at;
    entry *sorted = heed__alloc(f->ctx->heap, (size_t)f->n, sizeof *sorted);
    uint64_t end = 0;

    if (!sorted)
        return heed__fail_memory(err, f->n * sizeof *sorted);
    heed__sort(order, room, f->n, data_before, f->list);
    for (uint32_t i = 0; i < f->n; i++)
        sorted[i] = f->list[order[i]];
    heed__release(f->ctx->heap, f->list);
    f->list = sorted;
    for (uint32_t i = 0; i < f->n; i++) {
        const entry *e = &f->list[i];

        if (e->end > bytes)
            return entry_fail(f, e, "its data reaches behind the end of the file", err);
        if (e->begin != end)
            return entry_fail(
                f, e, e->begin < end ? "its data overlaps another's" : "there is a hole before its data",
                err);
        end = e->end;
    }
    if (end != bytes)
        return heed__fail_at(err, HEED_ERR_FORMAT, f->path,
                             "%" PRIu64 " bytes at the end belong to no tensor", bytes - end);
    return HEED_OK;
}

static heed_status check_names(heed_safetensors *f, uint32_t *order, uint32_t *room, heed_error *err)
{
    char shown[200];

    heed__sort(f->by_name, room, f->n, name_before, f->list);
    for (uint32_t i = 1; i < f->n; i++) {
        const entry *a = &f->list[f->by_name[i - 1]], *b = &f->list[f->by_name[i]];

        if (strcmp(a->name, b->name) == 0)
            return entry_fail(f, a->at > b->at ? a : b, "this name stands twice", err);
    }
    heed__sort(order, room, f->n_pairs, key_before, f->pairs);
    for (uint32_t i = 1; i < f->n_pairs; i++) {
        const char *key = f->pairs[order[i]].key;

        if (strcmp(f->pairs[order[i - 1]].key, key) == 0)
            return heed__fail_at(err, HEED_ERR_FORMAT, f->path, "the key \"%s\" stands twice in __metadata__",
                                 heed__shown(shown, key, strlen(key)));
    }
    return HEED_OK;
}

static heed_status check_entries(heed_safetensors *f, heed_error *err)
{
    heap *h = f->ctx->heap;
    const size_t n = f->n > f->n_pairs ? f->n : f->n_pairs;
    uint32_t *order = heed__alloc(h, n, sizeof *order), *room = heed__alloc(h, n, sizeof *room);
    heed_status st;

    f->by_name = heed__alloc(h, f->n, sizeof *f->by_name);
    if (!order || !room || !f->by_name) {
        st = heed__fail_memory(err, 3 * n * sizeof *order);
        goto done;
    }
    STEP(check_coverage(f, order, room, err));
    STEP(check_names(f, order, room, err));
done:
    heed__release(h, room);
    heed__release(h, order);
    return st;
}

/* ---- opening ---- */

static heed_status part(const heed_safetensors *f, void *to, size_t n, uint64_t offset, heed_error *err)
{
    if (f->bytes) {
        if (n)
            memcpy(to, f->bytes + offset, n);
        return HEED_OK;
    }
    return heed__file_part(&f->file, f->path, to, n, offset, err);
}

/* The header's length, believed only as far as the file's size and the limits go. */
static heed_status header_length(const heed_safetensors *f, size_t *out, heed_error *err)
{
    const uint64_t limit = f->ctx->limits.safetensors_header_bytes;
    uint8_t head[LENGTH_BYTES];
    cursor c;
    uint64_t n;

    if (f->size < LENGTH_BYTES)
        return heed__fail_at(err, HEED_ERR_FORMAT, f->path,
                             "%" PRIu64 " bytes are no safetensors file: it has 16 at least", f->size);
    TRY(part(f, head, sizeof head, 0, err));
    c = heed__cursor(head, sizeof head);
    n = heed__u64le(&c);
    if (n > SAFETENSORS_HEADER_MOST)
        return heed__fail_at(err, HEED_ERR_FORMAT, f->path,
                             "at byte 0: a header of %" PRIu64
                             " bytes; the format allows %u. Is this a safetensors file?",
                             n, SAFETENSORS_HEADER_MOST);
    if (n > f->size - LENGTH_BYTES)
        return heed__fail_at(err, HEED_ERR_FORMAT, f->path,
                             "at byte 0: the header should have %" PRIu64 " bytes, but %" PRIu64
                             " follow; is the file cut off?",
                             n, f->size - LENGTH_BYTES);
    if (n > limit)
        return heed__fail_at(err, HEED_ERR_LIMIT, f->path,
                             "at byte 0: a header of %" PRIu64 " bytes is over the limit, %" PRIu64, n,
                             limit);
    *out = (size_t)n;
    return HEED_OK;
}

static heed_status open_parts(heed_safetensors *f, heed_error *err)
{
    heap *h = f->ctx->heap;
    parser p = { .f = f };
    size_t n = 0;
    uint8_t *header;
    heed_status st;

    TRY(header_length(f, &n, err));
    f->data_at = LENGTH_BYTES + n;
    f->strings = heed__alloc(h, n, 1);
    header = heed__alloc(h, n, 1);
    if (!f->strings || !header) {
        heed__release(h, header);
        return heed__fail_memory(err, n);
    }
    st = part(f, header, n, LENGTH_BYTES, err);
    if (st == HEED_OK) {
        p.c = heed__cursor(header, n);
        p.c.origin = LENGTH_BYTES;
        read_header(&p);
        st = parser_status(&p, err);
    }
    heed__release(h, header);
    return st == HEED_OK ? check_entries(f, err) : st;
}

static heed_status finish_open(heed_safetensors **out, heed_safetensors *f, heed_status st, heed_error *err)
{
    if (st == HEED_OK)
        st = open_parts(f, err);
    if (st != HEED_OK) {
        heed_safetensors_close(f);
        return st;
    }
    *out = f;
    return HEED_OK;
}

heed_status heed_safetensors_open(heed_safetensors **out, heed_context *ctx, const char *path,
                                  heed_error *err)
{
    heed_safetensors *f = heed__alloc(ctx->heap, 1, sizeof *f);
    heed_status st = HEED_OK;

    if (!f)
        return heed__fail_memory(err, sizeof *f);
    *f = (heed_safetensors){ .ctx = ctx, .file = { .fd = -1 }, .path = heed__copy_string(ctx->heap, path) };
    if (!f->path)
        st = heed__fail_memory(err, 0);
    else
        st = heed__file_open(&f->file, ctx, path, err);
    f->size = f->file.size;
    return finish_open(out, f, st, err);
}

heed_status heed_safetensors_open_memory(heed_safetensors **out, heed_context *ctx, const void *bytes,
                                         size_t size, heed_error *err)
{
    heed_safetensors *f = heed__alloc(ctx->heap, 1, sizeof *f);

    if (!f)
        return heed__fail_memory(err, sizeof *f);
    *f = (heed_safetensors){ .ctx = ctx, .file = { .fd = -1 }, .bytes = bytes, .size = bytes ? size : 0 };
    if (!bytes)
        f->bytes = (const uint8_t *)""; /* of size 0: refused as too short */
    return finish_open(out, f, HEED_OK, err);
}

void heed_safetensors_close(heed_safetensors *f)
{
    heap *h;

    if (!f)
        return;
    h = f->ctx->heap;
    heed__file_close(&f->file);
    heed__release(h, f->by_name);
    heed__release(h, f->pairs);
    heed__release(h, f->list);
    heed__release(h, f->strings);
    heed__release(h, f->path);
    heed__release(h, f);
}

/* ---- asking ---- */

static const entry *entry_at(const heed_safetensors *f, int64_t i)
{
    return i >= 0 && i < (int64_t)f->n ? &f->list[i] : NULL;
}

int64_t heed_safetensors_count(const heed_safetensors *f)
{
    return (int64_t)f->n;
}

const char *heed_safetensors_name(const heed_safetensors *f, int64_t i)
{
    const entry *e = entry_at(f, i);

    return e ? e->name : NULL;
}

const char *heed_safetensors_dtype(const heed_safetensors *f, int64_t i)
{
    const entry *e = entry_at(f, i);

    return e ? e->dtype->name : NULL;
}

heed_type heed_safetensors_type(const heed_safetensors *f, int64_t i)
{
    const entry *e = entry_at(f, i);

    return e ? e->type : (heed_type){ .dtype = HEED_DTYPES, .rank = -1 };
}

uint64_t heed_safetensors_bytes(const heed_safetensors *f, int64_t i)
{
    const entry *e = entry_at(f, i);

    return e ? e->end - e->begin : 0;
}

int64_t heed_safetensors_find(const heed_safetensors *f, const char *name)
{
    uint32_t low = 0, high = f->n;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(f->list[f->by_name[middle]].name, name);

        if (order == 0)
            return (int64_t)f->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

int64_t heed_safetensors_metadata(const heed_safetensors *f)
{
    return (int64_t)f->n_pairs;
}

const char *heed_safetensors_key(const heed_safetensors *f, int64_t i, const char **value)
{
    if (i < 0 || i >= (int64_t)f->n_pairs)
        return NULL;
    if (value)
        *value = f->pairs[i].value;
    return f->pairs[i].key;
}

heed_status heed_safetensors_read(heed_safetensors *f, int64_t i, void *to, heed_error *err)
{
    const entry *e = entry_at(f, i);
    const uint8_t *bytes = to;
    char shown[200];

    if (!e)
        return heed__fail_at(err, HEED_ERR_USAGE, f->path,
                             "there is no tensor number %" PRId64 ": the file has %" PRIu32, i, f->n);
    if (e->dtype->dtype == HEED_DTYPES)
        return heed__fail_at(err, HEED_ERR_DTYPE, f->path,
                             "tensor \"%s\" is %s, which heed does not compute with; convert it to F32",
                             heed__shown(shown, e->name, strlen(e->name)), e->dtype->name);
    TRY(part(f, to, (size_t)(e->end - e->begin), f->data_at + e->begin, err));
    if (e->dtype->dtype == HEED_BOOL)
        for (uint64_t at = 0; at < e->end - e->begin; at++)
            if (bytes[at] > 1)
                return heed__fail_at(err, HEED_ERR_FORMAT, f->path,
                                     "at byte %" PRIu64 ", tensor \"%s\": a BOOL is neither 0 nor 1",
                                     f->data_at + e->begin + at,
                                     heed__shown(shown, e->name, strlen(e->name)));
    return HEED_OK;
}
