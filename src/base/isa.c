/* Instruction levels: names, and which of them this build has and this CPU runs. The build defines
 * HEED_LEVELS_X86 or HEED_LEVELS_NEON for the whole library when it compiles those kernels. */
#include "base/error.h"
#include "base/os/os.h"

#include <string.h>

#if defined(HEED_LEVELS_X86)
#define ISA_X86 true
#else
#define ISA_X86 false
#endif
#if defined(HEED_LEVELS_NEON)
#define ISA_NEON true
#else
#define ISA_NEON false
#endif

static const struct {
    const char *name;
    bool built;
} isa_table[] = {
    [HEED_ISA_AUTO] = { "auto", false },
    [HEED_ISA_PORTABLE] = { "portable", true },
    [HEED_ISA_X86_64_V3] = { "x86-64-v3", ISA_X86 },
    [HEED_ISA_X86_64_V4] = { "x86-64-v4", ISA_X86 },
    [HEED_ISA_NEON] = { "neon", ISA_NEON },
};
#define ISA_COUNT ((int)(sizeof isa_table / sizeof isa_table[0]))

const char *heed_isa_name(heed_isa isa)
{
    return (int)isa >= 0 && (int)isa < ISA_COUNT ? isa_table[isa].name : "?";
}

heed_status heed_isa_from_name(heed_isa *out, const char *name, heed_error *err)
{
    char shown[200];

    for (int i = 0; name && i < ISA_COUNT; i++) {
        if (strcmp(name, isa_table[i].name) == 0) {
            *out = (heed_isa)i;
            return HEED_OK;
        }
    }
    return heed__fail(err, HEED_ERR_USAGE,
                      "\"%s\" is no instruction level; use auto, portable, x86-64-v3, x86-64-v4 or neon",
                      heed__shown(shown, name ? name : "", name ? strlen(name) : 0));
}

bool heed_isa_available(heed_isa isa)
{
    return (int)isa >= 0 && (int)isa < ISA_COUNT && isa_table[isa].built && heed__os_cpu_has(isa);
}
