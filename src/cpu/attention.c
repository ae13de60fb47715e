/* The tables of attention kernels that are built in. */
#include "cpu/attention.h"

extern const attention_ops heed__attention_ops_portable;
#if defined(HEED_LEVELS_X86)
extern const attention_ops heed__attention_ops_v3, heed__attention_ops_v4;
#endif
#if defined(HEED_LEVELS_NEON)
extern const attention_ops heed__attention_ops_neon;
#endif

const attention_ops *heed__attention_ops(heed_isa isa)
{
    static const attention_ops *const tables[] = {
        [HEED_ISA_PORTABLE] = &heed__attention_ops_portable,
#if defined(HEED_LEVELS_X86)
        [HEED_ISA_X86_64_V3] = &heed__attention_ops_v3,
        [HEED_ISA_X86_64_V4] = &heed__attention_ops_v4,
#endif
#if defined(HEED_LEVELS_NEON)
        [HEED_ISA_NEON] = &heed__attention_ops_neon,
#endif
        [HEED_ISA_NEON + 1] = NULL, /* as long on every machine */
    };

    return (int)isa >= 0 && (int)isa <= HEED_ISA_NEON ? tables[isa] : NULL;
}
