/* Reading NPY: "\x93NUMPY", version, the header's length, a Python dictionary with three keys in any order, the data. */

#include "formats/numbers.h"

#include "base/context.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include "base/text.h"
#include "graph/number.h"

#include <math.h>
#include <string.h>

#define HEADER_MOST 65536

static const struct {
    const char *name;
    heed_dtype dtype;
} npy_names[] = { { "'<f4'", HEED_F32 }, { "'<f8'", HEED_F64 }, { "'<f2'", HEED_F16 }, { "'<i8'", HEED_I64 },
                  { "'<i4'", HEED_I32 }, { "'|u1'", HEED_U8 },  { "'|b1'", HEED_BOOL } };

static void npy_spaces(cursor *c)
{
    while (heed__peek(c) == ' ' || heed__peek(c) == '\n')
        (void)heed__u8(c);
}

static void npy_expect(cursor *c, const char *mark, const char *rule)
{
    npy_spaces(c);
    if (!heed__literal(c, mark))
        heed__cursor_fail(c, HEED_ERR_FORMAT, rule);
    npy_spaces(c);
}

static void npy_descr(cursor *c, heed_type *t)
{
    for (size_t i = 0; i < sizeof npy_names / sizeof *npy_names; i++)
        if (heed__literal(c, npy_names[i].name)) {
            t->dtype = npy_names[i].dtype;
            return;
        }
    heed__cursor_fail(c, HEED_ERR_FORMAT, "descr is one of '<f4' '<f8' '<f2' '<i8' '<i4' '|u1' '|b1'");
}

static int64_t npy_size(cursor *c)
{
    int64_t n = 0;
    bool any = false;

    for (; heed__peek(c) >= '0' && heed__peek(c) <= '9'; any = true) {
        const int digit = heed__u8(c) - '0';

        if (n > (INT64_MAX - digit) / 10)
            heed__cursor_fail(c, HEED_ERR_FORMAT, "a size fits into 63 bits");
        else
            n = n * 10 + digit;
    }
    if (!any)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "shape is a tuple of sizes");
    return n;
}

static void npy_shape(cursor *c, heed_type *t)
{
    npy_expect(c, "(", "shape is a tuple of sizes");
    while (c->failed == HEED_OK && heed__peek(c) != ')') {
        if (t->rank == HEED_MAX_RANK) {
            heed__cursor_fail(c, HEED_ERR_FORMAT, "an array has at most 8 axes");
            return;
        }
        t->dims[t->rank++] = npy_size(c);
        npy_spaces(c);
        if (heed__peek(c) != ')')
            npy_expect(c, ",", "sizes are split by commas");
    }
    npy_expect(c, ")", "shape is a tuple of sizes");
}

static heed_type npy_dictionary(cursor *c)
{
    heed_type t = { .dtype = HEED_F32 };
    unsigned seen = 0;

    npy_expect(c, "{", "the header is a dictionary");
    while (c->failed == HEED_OK && heed__peek(c) != '}') {
        const unsigned key = heed__literal(c, "'descr'")           ? 1
                             : heed__literal(c, "'fortran_order'") ? 2
                             : heed__literal(c, "'shape'")         ? 4
                                                                   : 0;

        if (key == 0 || seen & key)
            heed__cursor_fail(c, HEED_ERR_FORMAT, "the header has the keys descr, fortran_order and shape, each once");
        seen |= key;
        npy_expect(c, ":", "a colon stands behind a key");
        if (key == 1)
            npy_descr(c, &t);
        else if (key == 4)
            npy_shape(c, &t);
        else if (!heed__literal(c, "False"))
            heed__cursor_fail(c, HEED_ERR_FORMAT,
                              "the array is in C order: save numpy.ascontiguousarray of it");
        npy_spaces(c);
        if (heed__peek(c) != '}')
            npy_expect(c, ",", "entries are split by commas");
    }
    npy_expect(c, "}", "the header is a dictionary");
    if (seen != 7)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the header has the keys descr, fortran_order and shape, each once");
    return t;
}

static const uint8_t *npy_parse(cursor *c, heed_type *type)
{
    cursor head;
    int64_t count;
    size_t bytes = 0;

    if (!heed__literal(c, "\x93NUMPY"))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "an NPY file begins with \\x93NUMPY");
    const int version = heed__u8(c);

    (void)heed__u8(c);
    if (version < 1 || version > 3)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the version is 1, 2 or 3");
    head = heed__take(c, version == 1 ? heed__u16le(c) : heed__u32le(c), HEADER_MOST);
    *type = npy_dictionary(&head);
    npy_spaces(&head);
    if (head.failed == HEED_OK && heed__cursor_left(&head) > 0)
        heed__cursor_fail(&head, HEED_ERR_FORMAT, "nothing stands behind the dictionary");
    if (head.failed != HEED_OK && c->failed == HEED_OK)
        *c = head;
    count = heed_type_count(type);
    if (count < 0 || !heed__size_mul(&bytes, (size_t)count, heed_dtype_size(type->dtype)))
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the sizes' product fits into 63 bits");
    if (c->failed == HEED_OK && heed__cursor_left(c) != bytes)
        heed__cursor_fail(c, HEED_ERR_FORMAT, "the data are as long as the header says");
    return heed__bytes(c, bytes);
}

heed_status heed__npy_read(heed_tensor *out, heed_context *ctx, const char *path, heed_error *err)
{
    file_bytes file = { NULL, 0 };
    const uint8_t *data;
    heed_type type = { .dtype = HEED_F32 };
    float *to = NULL;
    void *copy = NULL;
    cursor c;
    heed_status st;

    STEP(heed__file_read(&file, ctx, path, ctx->limits.file_bytes, err));
    c = heed__cursor(file.data, file.size);
    data = npy_parse(&c, &type);
    STEP(heed__cursor_status(&c, path, err));
    const size_t n = (size_t)heed_type_count(&type), bytes = n * heed_dtype_size(type.dtype);

    to = heed__alloc(ctx->heap, n, sizeof *to);
    copy = heed__alloc(ctx->heap, bytes, 1); /* aligned for its numbers */
    if (!to || !copy)
        STEP(heed__fail_memory(err, n * sizeof *to));
    if (bytes > 0)
        memcpy(copy, data, bytes);
    for (size_t i = 0; i < n; i++)
        to[i] = (float)heed__number_get(type.dtype, copy, (int64_t)i);
    type.dtype = HEED_F32;
    *out = (heed_tensor){ type, to };
    to = NULL;
done:
    heed__release(ctx->heap, to);
    heed__release(ctx->heap, copy);
    heed__release(ctx->heap, file.data);
    return st;
}
