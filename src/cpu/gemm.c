/* The tables of matrix products that are built in. */
#include "cpu/gemm.h"

extern const gemm_ops heed__gemm_ops_portable;
#if defined(HEED_LEVELS_X86)
extern const gemm_ops heed__gemm_ops_v3, heed__gemm_ops_v4;
#endif
#if defined(HEED_LEVELS_NEON)
extern const gemm_ops heed__gemm_ops_neon;
#endif

const gemm_ops *heed__gemm_ops(heed_isa isa)
{
    static const gemm_ops *const tables[] = {
        [HEED_ISA_PORTABLE] = &heed__gemm_ops_portable,
#if defined(HEED_LEVELS_X86)
        [HEED_ISA_X86_64_V3] = &heed__gemm_ops_v3,
        [HEED_ISA_X86_64_V4] = &heed__gemm_ops_v4,
#endif
#if defined(HEED_LEVELS_NEON)
        [HEED_ISA_NEON] = &heed__gemm_ops_neon,
#endif
        [HEED_ISA_NEON + 1] = NULL, /* as long on every machine */
    };

    return (int)isa >= 0 && (int)isa <= HEED_ISA_NEON ? tables[isa] : NULL;
}
