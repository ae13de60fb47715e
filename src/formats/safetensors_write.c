/* safetensors, writing: byte for byte what the reference writes (safetensors 0.8.0; with one pair of
 * metadata, for with more its order is random).
 *
 * __metadata__ comes first, then tensors by dtype rank, highest first, then by name, bytewise; so every
 * tensor is aligned to its element. No spaces in the JSON; the header is padded with spaces to a multiple of
 * 8. "format":"pt" is always there: many readers refuse files without it. */

#include "formats/safetensors.h"
#include "base/context.h"
#include "base/error.h"
#include "base/files.h"
#include "base/sort.h"
#include "base/text.h"

#include <inttypes.h>
#include <string.h>

static const safetensors_dtype *dtype_of(heed_dtype dtype)
{
    const safetensors_dtype *d = heed__safetensors_dtypes;

    while (d->name && (d->dtype != dtype || dtype == HEED_DTYPES))
        d++;
    return d;
}

static uint64_t tensor_bytes(const heed_tensor *t)
{
    return (uint64_t)heed_type_count(&t->type) * heed_dtype_size(t->type.dtype);
}

static bool name_before(const void *items, uint32_t a, uint32_t b)
{
    const heed_named_tensor *t = items;

    return strcmp(t[a].name, t[b].name) < 0;
}

static bool file_before(const void *items, uint32_t a, uint32_t b)
{
    const heed_named_tensor *t = items;
    const safetensors_dtype *rank_a = dtype_of(t[a].tensor.type.dtype),
                            *rank_b = dtype_of(t[b].tensor.type.dtype);

    return rank_a != rank_b ? rank_a > rank_b : strcmp(t[a].name, t[b].name) < 0;
}

static bool valid_text(const char *s)
{
    size_t left = strlen(s);

    while (left) {
        const size_t n = heed__utf8_length(s, left);

        if (!n)
            return false;
        s += n;
        left -= n;
    }
    return true;
}

/* A file is not begun that could not be read back. */
static heed_status check_tensor(const heed_context *ctx, const char *path, const heed_named_tensor *t,
                                heed_error *err)
{
    const int64_t count = heed_type_count(&t->tensor.type);
    uint64_t bytes;
    char shown[200];

    if (!t->name || !valid_text(t->name) || strcmp(t->name, SAFETENSORS_METADATA) == 0)
        return heed__fail_at(err, HEED_ERR_USAGE, path,
                             "\"%s\" cannot be the name of a tensor: UTF-8, and not __metadata__",
                             heed__shown(shown, t->name ? t->name : "", t->name ? strlen(t->name) : 0));
    heed__shown(shown, t->name, strlen(t->name));
    if (strlen(t->name) > ctx->limits.name_bytes)
        return heed__fail_at(err, HEED_ERR_LIMIT, path,
                             "tensor \"%s\": its name is longer than %" PRIu64 " bytes, the limit", shown,
                             ctx->limits.name_bytes);
    if (!dtype_of(t->tensor.type.dtype)->name)
        return heed__fail_at(err, HEED_ERR_DTYPE, path, "tensor \"%s\": its dtype is none", shown);
    if (count < 0 || __builtin_mul_overflow((uint64_t)count,
                                            (uint64_t)(8 * heed_dtype_size(t->tensor.type.dtype)), &bytes))
        return heed__fail_at(err, HEED_ERR_SHAPE, path, "tensor \"%s\": its sizes are not valid", shown);
    if (count > 0 && !t->tensor.data)
        return heed__fail_at(err, HEED_ERR_USAGE, path, "tensor \"%s\" has no data", shown);
    return HEED_OK;
}

static heed_status check_all(const heed_context *ctx, const char *path, const heed_named_tensor *tensors,
                             uint32_t n, const heed_pair *metadata, int64_t pairs, heed_error *err)
{
    char shown[200];

    for (uint32_t i = 0; i < n; i++)
        TRY(check_tensor(ctx, path, &tensors[i], err));
    for (int64_t i = 0; i < pairs; i++) {
        bool twice = false;

        if (!metadata[i].key || !metadata[i].value || !valid_text(metadata[i].key) ||
            !valid_text(metadata[i].value))
            return heed__fail_at(err, HEED_ERR_USAGE, path,
                                 "pair %" PRId64 " of the metadata is not valid UTF-8 text", i);
        for (int64_t k = 0; k < i; k++)
            twice = twice || strcmp(metadata[k].key, metadata[i].key) == 0;
        if (twice || strcmp(metadata[i].key, "format") == 0)
            return heed__fail_at(err, HEED_ERR_USAGE, path, "the key \"%s\" stands twice in the metadata",
                                 heed__shown(shown, metadata[i].key, strlen(metadata[i].key)));
    }
    return HEED_OK;
}

/* Order of the file, names checked to be different. */
static heed_status file_order(heed_context *ctx, const char *path, const heed_named_tensor *tensors,
                              uint32_t n, uint32_t *order, heed_error *err)
{
    uint32_t *room = heed__alloc(ctx->heap, n, sizeof *room);
    heed_status st = HEED_OK;
    char shown[200];

    if (!room)
        return heed__fail_memory(err, n * sizeof *room);
    heed__sort(order, room, n, name_before, tensors);
    for (uint32_t i = 1; i < n && st == HEED_OK; i++) {
        const char *name = tensors[order[i]].name;

        if (strcmp(tensors[order[i - 1]].name, name) == 0)
            st = heed__fail_at(err, HEED_ERR_USAGE, path, "the name \"%s\" was given twice",
                               heed__shown(shown, name, strlen(name)));
    }
    heed__sort(order, room, n, file_before, tensors);
    heed__release(ctx->heap, room);
    return st;
}

static void add_pair(text *t, const char *key, const char *value)
{
    heed__text_json(t, key, strlen(key));
    heed__text_put(t, ":", 1);
    heed__text_json(t, value, strlen(value));
}

/* The padded header. */
static heed_status write_header(text *t, const char *path, const heed_named_tensor *tensors,
                                const uint32_t *order, uint32_t n, const heed_pair *metadata, int64_t pairs,
                                heed_error *err)
{
    uint64_t end = 0;

    heed__text_add(t, "{\"" SAFETENSORS_METADATA "\":{");
    add_pair(t, "format", "pt");
    for (int64_t i = 0; i < pairs; i++) {
        heed__text_put(t, ",", 1);
        add_pair(t, metadata[i].key, metadata[i].value);
    }
    heed__text_put(t, "}", 1);
    for (uint32_t i = 0; i < n; i++) {
        const heed_named_tensor *x = &tensors[order[i]];
        const heed_type *type = &x->tensor.type;
        const uint64_t begin = end;

        if (__builtin_add_overflow(begin, tensor_bytes(&x->tensor), &end) || end > INT64_MAX)
            return heed__fail_at(err, HEED_ERR_LIMIT, path, "the tensors are larger than any file");
        heed__text_put(t, ",", 1);
        heed__text_json(t, x->name, strlen(x->name));
        heed__text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", dtype_of(type->dtype)->name);
        for (int k = 0; k < type->rank; k++)
            heed__text_add(t, "%s%" PRId64, k ? "," : "", type->dims[k]);
        heed__text_add(t, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, end);
    }
    heed__text_put(t, "}", 1);
    while (t->size % 8 && !t->failed)
        heed__text_put(t, " ", 1);
    if (t->failed == HEED_ERR_LIMIT)
        return heed__fail_at(err, HEED_ERR_LIMIT, path,
                             "%" PRIu32 " tensors need a header of more than %zu bytes, the limit", n,
                             t->most);
    return t->failed ? heed__fail_memory(err, t->capacity) : HEED_OK;
}

static heed_status write_file(heed_context *ctx, const char *path, const text *header,
                              const heed_named_tensor *tensors, const uint32_t *order, uint32_t n,
                              heed_error *err)
{
    const uint64_t length = header->size;
    uint8_t head[8];
    file_writer *w;
    heed_status st;

    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)(length >> (8 * i));
    TRY(heed__file_begin(&w, ctx, path, err));
    st = heed__file_put(w, head, sizeof head, err);
    if (st == HEED_OK)
        st = heed__file_put(w, header->data, header->size, err);
    for (uint32_t i = 0; i < n && st == HEED_OK; i++)
        st = heed__file_put(w, tensors[order[i]].tensor.data, (size_t)tensor_bytes(&tensors[order[i]].tensor),
                            err);
    if (st != HEED_OK) {
        heed__file_cancel(w);
        return st;
    }
    return heed__file_commit(w, err);
}

heed_status heed_safetensors_write(heed_context *ctx, const char *path, const heed_named_tensor *tensors,
                                   int64_t n, const heed_pair *metadata, int64_t pairs, heed_error *err)
{
    const uint64_t limit = ctx->limits.safetensors_header_bytes;
    uint32_t *order = NULL;
    text header;
    heed_status st;

    heed__text_init(&header, ctx->heap,
                    limit < SAFETENSORS_HEADER_MOST ? (size_t)limit : SAFETENSORS_HEADER_MOST);
    if (n < 0 || n > UINT32_MAX || pairs < 0) {
        st = heed__fail_at(err, HEED_ERR_USAGE, path,
                           "%" PRId64 " tensors and %" PRId64 " pairs cannot be written", n, pairs);
        goto done;
    }
    STEP(check_all(ctx, path, tensors, (uint32_t)n, metadata, pairs, err));
    order = heed__alloc(ctx->heap, (size_t)n, sizeof *order);
    if (!order) {
        st = heed__fail_memory(err, (uint64_t)n * sizeof *order);
        goto done;
    }
    STEP(file_order(ctx, path, tensors, (uint32_t)n, order, err));
    STEP(write_header(&header, path, tensors, order, (uint32_t)n, metadata, pairs, err));
    STEP(write_file(ctx, path, &header, tensors, order, (uint32_t)n, err));
done:
    heed__release(ctx->heap, order);
    heed__text_release(&header);
    return st;
}
