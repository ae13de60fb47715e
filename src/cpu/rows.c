/* The tables of row primitives that are built in, and the size of their scratch. */
#include "cpu/rows.h"

#include "base/sizes.h"

extern const row_ops heed__row_ops_portable;
#if defined(HEED_LEVELS_X86)
extern const row_ops heed__row_ops_v3, heed__row_ops_v4;
#endif
#if defined(HEED_LEVELS_NEON)
extern const row_ops heed__row_ops_neon;
#endif

const row_ops *heed__row_ops(heed_isa isa)
{
    static const row_ops *const tables[] = {
        [HEED_ISA_PORTABLE] = &heed__row_ops_portable,
#if defined(HEED_LEVELS_X86)
        [HEED_ISA_X86_64_V3] = &heed__row_ops_v3,
        [HEED_ISA_X86_64_V4] = &heed__row_ops_v4,
#endif
#if defined(HEED_LEVELS_NEON)
        [HEED_ISA_NEON] = &heed__row_ops_neon,
#endif
        [HEED_ISA_NEON + 1] = NULL, /* as long on every machine */
    };

    return (int)isa >= 0 && (int)isa <= HEED_ISA_NEON ? tables[isa] : NULL;
}

int64_t heed__rows_scratch_stride(int64_t n)
{
    return n > INT64_MAX - 15 ? INT64_MAX : (n + 15) / 16 * 16;
}

size_t heed__rows_scratch_bytes(int64_t n)
{
    size_t bytes;

    if (n < 0 || !heed__size_mul(&bytes, (size_t)heed__rows_scratch_stride(n), ROWS_MAX * sizeof(float)))
        return SIZE_MAX;
    return bytes;
}
