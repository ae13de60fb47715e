/* heed/tensor.h: element types, types (dtype and sizes) and tensors in memory.
 * Row-major, the last dimension is contiguous; a scalar has rank 0; sizes may be 0. */
#ifndef HEED_TENSOR_H
#define HEED_TENSOR_H

#include <heed/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEED_MAX_RANK 8

typedef enum heed_dtype {
    HEED_F32 = 0,
    HEED_F64,
    HEED_F16,  /**< storage: kernels widen to f32 and round at the op's border */
    HEED_BF16, /**< storage, as F16 */
    HEED_I64,
    HEED_I32,
    HEED_U8,
    HEED_BOOL, /**< one byte, 0 or 1 */
    HEED_DTYPES
} heed_dtype;

/** "f32", "f64", "f16", "bf16", "i64", "i32", "u8", "bool"; "?" for anything else. */
HEED_API const char *heed_dtype_name(heed_dtype dtype);

/** Bytes of one element; 0 for a number that is no dtype. */
HEED_API size_t heed_dtype_size(heed_dtype dtype);

/** Element type and sizes. */
typedef struct heed_type {
    heed_dtype dtype;
    int rank; /**< 0..8 */
    int64_t dims[HEED_MAX_RANK];
} heed_type;

/** Number of elements; -1 when a size or the rank is out of range, or when the product of the sizes, zeros taken as
 *  ones, does not fit into an int64: so every stride fits too. */
HEED_API int64_t heed_type_count(const heed_type *type);

/** Same dtype, rank and sizes. */
HEED_API bool heed_type_equal(const heed_type *a, const heed_type *b);

/** A tensor in memory. It borrows `data`: dense, row-major, heed_type_count elements. */
typedef struct heed_tensor {
    heed_type type;
    void *data;
} heed_tensor;

/** A type from a rank and its sizes: heed_type_of(HEED_F32, 2, (const int64_t[]){ 3, 4 }). A rank outside 0..8
 *  gives a type whose count is -1, which every call refuses. */
HEED_API heed_type heed_type_of(heed_dtype dtype, int rank, const int64_t *dims);

#ifndef __cplusplus
/** HEED_TYPE(HEED_F32, 3, 4): the same with the sizes spelled out. C only. */
#define HEED_TYPE(dtype, ...)                                                                                     \
    heed_type_of(dtype, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })
#endif

#ifdef __cplusplus
}
#endif
#endif
