/* NPY, reading:
 *
 *   "\x93NUMPY"  major  minor  length (u16 of version 1, u32 of 2 and 3)  dictionary  data
 *   dictionary = { 'descr': '<f4' , 'fortran_order': False , 'shape': (2, 3) , }
 *
 * The dictionary is Python's: its three keys in any order, in single or double quotes, spaces anywhere between, a comma
 * after the last. Nothing else is a key. The header is read by the cursor and cannot reach behind its length. */

#include "base/arena.h"
#include "base/error.h"
#include "base/sizes.h"
#include "formats/npz.h"

#include <string.h>

#define HEADER_MOST 65536

static const struct npy_dtype {
    const char *name;
    heed_dtype dtype;
} npy_names[] = {
    { "<f4", HEED_F32 }, { "<f8", HEED_F64 }, { "<f2", HEED_F16 },  { "<i8", HEED_I64 },
    { "<i4", HEED_I32 }, { "|u1", HEED_U8 },  { "|b1", HEED_BOOL },
};

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static void npy_space(cursor *c)
{
    while (heed__peek(c) == ' ' || heed__peek(c) == '\n' || heed__peek(c) == '\t')
        heed__u8(c);
}

static bool npy_sign(cursor *c, const char *sign)
{
    npy_space(c);
    return heed__literal(c, sign);
}

/* A string in quotes into `to`; "" for anything else. */
static void npy_string(cursor *c, char to[32])
{
    size_t n = 0;
    int quote;

    npy_space(c);
    quote = heed__peek(c);
    *to = 0;
    if (quote != '\'' && quote != '"')
        return;
    heed__u8(c);
    while (heed__peek(c) != quote && heed__peek(c) >= 0 && n + 1 < 32)
        to[n++] = (char)heed__u8(c);
    to[n] = 0;
    if (heed__peek(c) != quote)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the header has a string that does not end");
    else
        heed__u8(c);
}

static void npy_descr(cursor *c, heed_type *t)
{
    char name[32];

    npy_string(c, name);
    for (size_t i = 0; i < sizeof npy_names / sizeof *npy_names; i++)
        if (strcmp(name, npy_names[i].name) == 0) {
            t->dtype = npy_names[i].dtype;
            return;
        }
    heed__cursor_fail(c, HEED_ERR_DTYPE, "heed reads arrays of <f4, <f8, <f2, <i8, <i4, |u1 and |b1 only");
}

static int64_t npy_size(cursor *c)
{
    int64_t size = 0;

    npy_space(c);
    if (heed__peek(c) < '0' || heed__peek(c) > '9')
        heed__cursor_fail(c, HEED_ERR_FORMAT, "a size of the shape is no number");
    while (heed__peek(c) >= '0' && heed__peek(c) <= '9') {
        const int64_t digit = heed__u8(c) - '0';

        if (!heed__i64_mul(&size, size, 10) || __builtin_add_overflow(size, digit, &size))
            heed__cursor_fail(c, HEED_ERR_LIMIT, "a size of the shape is too large");
    }
    return size;
}

static void npy_shape(cursor *c, heed_type *t)
{
    t->rank = 0;
    if (!npy_sign(c, "("))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the shape is no tuple");
    while (!c->failed && !npy_sign(c, ")")) {
        if (t->rank == HEED_MAX_RANK) {
            heed__cursor_fail(c, HEED_ERR_LIMIT, "the array has more than 8 dimensions");
            return;
        }
        t->dims[t->rank++] = npy_size(c);
        if (!npy_sign(c, ",")) {
            if (!npy_sign(c, ")"))
                heed__cursor_fail(c, HEED_ERR_FORMAT, "the shape is no tuple");
            return;
        }
    }
}

/* One key with its value; its bit. */
static int npy_pair(cursor *c, heed_type *t)
{
    char key[32];

    npy_string(c, key);
    if (!npy_sign(c, ":")) {
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the header is no dictionary of strings");
        return 0;
    }
    npy_space(c);
    if (strcmp(key, "descr") == 0) {
        npy_descr(c, t);
        return KEY_DESCR;
    }
    if (strcmp(key, "shape") == 0) {
        npy_shape(c, t);
        return KEY_SHAPE;
    }
    if (strcmp(key, "fortran_order") != 0)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the header has a key that is none of NPY");
    else if (heed__literal(c, "True"))
        heed__cursor_fail(c, HEED_ERR_FORMAT,
                          "the array is in Fortran's order; save numpy.ascontiguousarray of it");
    else if (!heed__literal(c, "False"))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "fortran_order is neither True nor False");
    return KEY_ORDER;
}

static heed_type npy_dictionary(cursor *c)
{
    heed_type t = { .rank = 0 };
    int seen = 0;

    if (!npy_sign(c, "{"))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the header is no dictionary");
    while (!c->failed && !npy_sign(c, "}")) {
        const int key = npy_pair(c, &t);

        if (seen & key)
            heed__cursor_fail(c, HEED_ERR_FORMAT, "the header has a key twice");
        seen |= key;
        if (!npy_sign(c, ",")) {
            if (!npy_sign(c, "}"))
                heed__cursor_fail(c, HEED_ERR_FORMAT, "the header's dictionary does not end");
            break;
        }
    }
    npy_space(c);
    if (seen != KEY_ALL || heed__cursor_left(c) > 0)
        heed__cursor_fail(c, HEED_ERR_FORMAT,
                          "the header has descr, fortran_order and shape, and nothing else");
    return t;
}

heed_type heed__npy_type(cursor *c)
{
    const bool magic = heed__literal(c, "\x93NUMPY");
    const int major = heed__u8(c);
    heed_type t;
    cursor header;

    heed__u8(c); /* minor */
    if (!magic || major < 1 || major > 3)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "this is no NPY array of version 1, 2 or 3");
    header = heed__take(c, major == 1 ? heed__u16le(c) : heed__u32le(c), HEADER_MOST);
    t = npy_dictionary(&header);
    if (!header.failed && heed_type_count(&t) < 0)
        heed__cursor_fail(&header, HEED_ERR_LIMIT, "the sizes of the shape are too large together");
    if (header.failed && !c->failed) {
        c->failed = header.failed;
        c->failed_at = header.failed_at;
        c->rule = header.rule;
    }
    return t;
}

heed_status heed__npy_read(heed_tensor *out, arena *a, cursor *c, const char *name, heed_error *err)
{
    const heed_type t = heed__npy_type(c);
    const uint64_t count = c->failed ? 0 : (uint64_t)heed_type_count(&t), left = heed__cursor_left(c);
    const size_t each = heed_dtype_size(t.dtype);
    const uint8_t *data;
    heed_tensor made = { .type = t };

    if (!c->failed && (left % each != 0 || left / each != count))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the data are not as many as the shape says");
    data = c->failed ? NULL : heed__bytes(c, left);
    TRY(heed__cursor_status(c, name, err));
    made.data = heed__arena_alloc(a, (size_t)count, each);
    if (!made.data)
        return heed__fail_memory(err, left);
    if (count)
        memcpy(made.data, data, (size_t)left);
    for (uint64_t i = 0; t.dtype == HEED_BOOL && i < count; i++)
        if (data[i] > 1)
            return heed__fail_at(err, HEED_ERR_FORMAT, name, "%s: a BOOL that is neither 0 nor 1", name);
    *out = made;
    return HEED_OK;
}
