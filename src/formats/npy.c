/* NPY: "\x93NUMPY", version 1.0, the header's length as u16, a Python dictionary, the data.
 *
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
 *
 * NumPy leaves room for the first size to grow to 21 digits and then pads with spaces and one line feed to a
 * multiple of 64, by 64 where it would be none; so do we, and the files are the same byte for byte. */

#include "formats/npy.h"
#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sizes.h"
#include <heed/formats.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NPY_ALIGN 64
#define NPY_PREFIX 10 /* magic, version, length */
#define NPY_GROWTH 21

_Static_assert(sizeof((npy_array *)0)->header == HEED_NPY_HEADER_MOST, "npy.h and heed/formats.h agree");

/* NumPy's names of our dtypes; bf16 is written as f32. */
static const char *const npy_dtypes[HEED_DTYPES] = {
    [HEED_F32] = "<f4", [HEED_F64] = "<f8", [HEED_F16] = "<f2", [HEED_BF16] = "<f4",
    [HEED_I64] = "<i8", [HEED_I32] = "<i4", [HEED_U8] = "|u1",  [HEED_BOOL] = "|b1",
};

/* The dictionary, rank 8 with 19 digits each fits well: 2 + 8 * 21 + 51 bytes. */
static size_t npy_dictionary(char to[HEED_NPY_HEADER_MOST], const heed_type *t)
{
    size_t n = (size_t)snprintf(to, HEED_NPY_HEADER_MOST,
                                "{'descr': '%s', 'fortran_order': False, 'shape': (", npy_dtypes[t->dtype]);

    for (int i = 0; i < t->rank; i++)
        n += (size_t)snprintf(to + n, HEED_NPY_HEADER_MOST - n, i ? ", %" PRId64 : "%" PRId64, t->dims[i]);
    n += (size_t)snprintf(to + n, HEED_NPY_HEADER_MOST - n, t->rank == 1 ? ",), }" : "), }");
    return n;
}

heed_status heed_npy_header(uint8_t to[HEED_NPY_HEADER_MOST], size_t *size, const heed_type *type,
                            heed_error *err)
{
    char text[HEED_NPY_HEADER_MOST], first[24];
    size_t n, total;

    if ((int)type->dtype < 0 || type->dtype >= HEED_DTYPES)
        return heed__fail(err, HEED_ERR_DTYPE, "an NPY header needs a dtype, and %d is none",
                          (int)type->dtype);
    if (heed_type_count(type) < 0)
        return heed__fail(err, HEED_ERR_SHAPE,
                          "an NPY header needs sizes that are valid: rank 0 to %d, none negative, their "
                          "product within 64 bits",
                          HEED_MAX_RANK);
    n = npy_dictionary(text, type);
    if (type->rank > 0)
        n += NPY_GROWTH - (size_t)snprintf(first, sizeof first, "%" PRId64, type->dims[0]);
    n += 1; /* the line feed */
    total = NPY_PREFIX + n + NPY_ALIGN - (NPY_PREFIX + n) % NPY_ALIGN;
    memset(to, ' ', total);
    memcpy(to, "\x93NUMPY\x01\x00", 8);
    to[8] = (uint8_t)(total - NPY_PREFIX);
    to[9] = (uint8_t)((total - NPY_PREFIX) >> 8);
    memcpy(to + NPY_PREFIX, text, strlen(text));
    to[total - 1] = '\n';
    *size = total;
    return HEED_OK;
}

/* bf16 is the upper half of an f32. */
static float *npy_widen(heap *h, const uint16_t *from, size_t n)
{
    float *to = heed__alloc(h, n, sizeof *to);

    for (size_t i = 0; to && i < n; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;

        memcpy(to + i, &bits, sizeof bits);
    }
    return to;
}

heed_status heed__npy_array(npy_array *out, heap *h, const char *path, const char *name, const heed_tensor *t,
                            heed_error *err)
{
    const int64_t count = heed_type_count(&t->type);
    npy_array a = { .data = t->data };
    heed_error why = { 0 };
    const heed_status st = heed_npy_header(a.header, &a.header_size, &t->type, &why);
    char shown[200];

    heed__shown(shown, name, strlen(name));
    if (st != HEED_OK)
        return heed__fail_at(err, st, path, "tensor \"%s\": %s", shown, why.text);
    if (count > 0 && !t->data)
        return heed__fail_at(err, HEED_ERR_USAGE, path, "tensor \"%s\" has no data", shown);
    if (!heed__size_mul(&a.data_size, (size_t)count,
                        t->type.dtype == HEED_BF16 ? sizeof(float) : heed_dtype_size(t->type.dtype)) ||
        a.data_size > INT64_MAX)
        return heed__fail_at(err, HEED_ERR_LIMIT, path, "tensor \"%s\" is larger than any file", shown);
    if (t->type.dtype == HEED_BF16) {
        a.data = a.widened = npy_widen(h, t->data, (size_t)count);
        if (!a.widened)
            return heed__fail_memory(err, a.data_size);
    }
    *out = a;
    return HEED_OK;
}

void heed__npy_array_release(npy_array *a, heap *h)
{
    heed__release(h, a->widened);
    a->widened = NULL;
}

heed_status heed_npy_write(heed_context *ctx, const char *path, heed_tensor tensor, heed_error *err)
{
    file_writer *w = NULL;
    npy_array a;
    heed_status st;

    TRY(heed__npy_array(&a, ctx->heap, path, path, &tensor, err));
    STEP(heed__file_begin(&w, ctx, path, err));
    STEP(heed__file_put(w, a.header, a.header_size, err));
    STEP(heed__file_put(w, a.data, a.data_size, err));
    st = heed__file_commit(w, err);
    w = NULL;
done:
    heed__file_cancel(w);
    heed__npy_array_release(&a, ctx->heap);
    return st;
}
