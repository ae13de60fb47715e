/* Checked arithmetic on sizes, and narrowing that can fail. True means the result is right and stored. */
#ifndef BASE_SIZES_H
#define BASE_SIZES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool heed__size_add(size_t *out, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool heed__size_mul(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* a rounded up to a multiple of `align`, a power of two. */
static inline bool heed__size_align(size_t *out, size_t a, size_t align)
{
    size_t sum;

    if (__builtin_add_overflow(a, align - 1, &sum))
        return false;
    *out = sum & ~(align - 1);
    return true;
}

static inline bool heed__i64_mul(int64_t *out, int64_t a, int64_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool heed__i64_from_u64(int64_t *out, uint64_t a)
{
    *out = (int64_t)a;
    return a <= INT64_MAX;
}

static inline int64_t i64_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t i64_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* a divided by b > 0, rounded up, for a >= 0. */
static inline int64_t i64_ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

#endif
