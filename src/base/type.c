/* Element types and types: one table, and arithmetic on sizes. */
#include "base/sizes.h"
#include <heed/tensor.h>

static const struct {
    const char *name;
    size_t size;
} type_table[HEED_DTYPES] = {
    [HEED_F32] = { "f32", 4 },   [HEED_F64] = { "f64", 8 },   [HEED_F16] = { "f16", 2 },
    [HEED_BF16] = { "bf16", 2 }, [HEED_I64] = { "i64", 8 },   [HEED_I32] = { "i32", 4 },
    [HEED_U8] = { "u8", 1 },     [HEED_BOOL] = { "bool", 1 },
};

static bool type_is_dtype(heed_dtype dtype)
{
    return (int)dtype >= 0 && (int)dtype < HEED_DTYPES;
}

const char *heed_dtype_name(heed_dtype dtype)
{
    return type_is_dtype(dtype) ? type_table[dtype].name : "?";
}

size_t heed_dtype_size(heed_dtype dtype)
{
    return type_is_dtype(dtype) ? type_table[dtype].size : 0;
}

int64_t heed_type_count(const heed_type *type)
{
    int64_t count = 1;
    bool empty = false;

    if (type->rank < 0 || type->rank > HEED_MAX_RANK)
        return -1;
    for (int i = 0; i < type->rank; i++) {
        if (type->dims[i] < 0)
            return -1;
        empty = empty || type->dims[i] == 0;
        if (!heed__i64_mul(&count, count,
                           i64_max(type->dims[i], 1))) /* strides must fit also beside a zero */
            return -1;
    }
    return empty ? 0 : count;
}

bool heed_type_equal(const heed_type *a, const heed_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank && i < HEED_MAX_RANK; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

heed_type heed_type_of(heed_dtype dtype, int rank, const int64_t *dims)
{
    heed_type type = { .dtype = dtype, .rank = rank < 0 || rank > HEED_MAX_RANK ? -1 : rank };

    for (int i = 0; i < type.rank; i++)
        type.dims[i] = dims[i];
    return type;
}
