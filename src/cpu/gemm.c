/* Which levels are linked: HEED_LEVELS_X86 and HEED_LEVELS_NEON come from the build. */

#include "cpu/gemm.h"

extern const gemm_ops heed__gemm_ops_portable;
#if defined(HEED_LEVELS_X86)
extern const gemm_ops heed__gemm_ops_v3, heed__gemm_ops_v4;
#endif
#if defined(HEED_LEVELS_NEON)
extern const gemm_ops heed__gemm_ops_neon;
#endif

static const gemm_ops *const gemm_levels[] = {
    [HEED_ISA_PORTABLE] = &heed__gemm_ops_portable,
#if defined(HEED_LEVELS_X86)
    [HEED_ISA_X86_64_V3] = &heed__gemm_ops_v3,
    [HEED_ISA_X86_64_V4] = &heed__gemm_ops_v4,
#endif
#if defined(HEED_LEVELS_NEON)
    [HEED_ISA_NEON] = &heed__gemm_ops_neon,
#endif
};

const gemm_ops *heed__gemm_ops(heed_isa isa)
{
    return (size_t)isa < sizeof gemm_levels / sizeof *gemm_levels ? gemm_levels[isa] : NULL;
}
