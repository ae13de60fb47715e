/* What the CPU can do, its name, and its floating-point control word. The only file with instructions of
 * one CPU outside of the kernels. */
#include "base/os/os.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

/* The feature bits of x86-64-v3 and v4 (psABI); lzcnt is ABM. */
#define CPU_1C_V3 (1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29) /* fma movbe osxsave avx f16c */
#define CPU_7B_V3 (1u << 3 | 1u << 5 | 1u << 8)                          /* bmi1 avx2 bmi2 */
#define CPU_7B_V4 (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) /* avx512 f dq cd bw vl */
#define CPU_EXT_C_V3 (1u << 5)                                           /* lzcnt */
#define CPU_XCR_V3 0x06u                                                 /* the system saves xmm and ymm */
#define CPU_XCR_V4 0xe6u                                                 /* and zmm and mask registers */
#define CPU_MXCSR_DEFAULT 0x1f80u

static bool cpu_all(unsigned have, unsigned want)
{
    return (have & want) == want;
}

static bool cpu_x86(bool v4)
{
    unsigned a, b, c, d, low, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !cpu_all(c, CPU_1C_V3))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* allowed: osxsave is set */
    if (!cpu_all(low, v4 ? CPU_XCR_V4 : CPU_XCR_V3))
        return false;
    if (!__get_cpuid(0x80000001u, &a, &b, &c, &d) || !cpu_all(c, CPU_EXT_C_V3))
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !cpu_all(b, CPU_7B_V3))
        return false;
    return !v4 || cpu_all(b, CPU_7B_V4);
}

bool heed__os_cpu_has(heed_isa isa)
{
    if (isa == HEED_ISA_X86_64_V3 || isa == HEED_ISA_X86_64_V4)
        return cpu_x86(isa == HEED_ISA_X86_64_V4);
    return isa == HEED_ISA_PORTABLE;
}

void heed__os_cpu_name(char name[96])
{
    unsigned words[12];
    char brand[sizeof words + 1];
    const char *from = brand;
    size_t n;

    brand[0] = '\0';
    for (unsigned i = 0; i < 3; i++) {
        unsigned *w = words + 4 * i;
        if (!__get_cpuid(0x80000002u + i, &w[0], &w[1], &w[2], &w[3]))
            memset(w, 0, 4 * sizeof *w);
    }
    memcpy(brand, words, sizeof words);
    brand[sizeof words] = '\0';
    while (*from == ' ')
        from++;
    n = strlen(from);
    while (n && from[n - 1] == ' ')
        n--;
    if (!n) {
        from = "x86-64";
        n = strlen(from);
    }
    memcpy(name, from, n);
    name[n] = '\0';
}

uint64_t heed__os_float_enter(void)
{
    const unsigned saved = _mm_getcsr();

    _mm_setcsr(CPU_MXCSR_DEFAULT);
    return saved;
}

void heed__os_float_leave(uint64_t saved)
{
    _mm_setcsr((unsigned)saved);
}

void heed__os_relax(void)
{
    _mm_pause();
}

#elif defined(__aarch64__)

bool heed__os_cpu_has(heed_isa isa)
{
    return isa == HEED_ISA_PORTABLE || isa == HEED_ISA_NEON; /* part of the base architecture */
}

void heed__os_cpu_name(char name[96])
{
    memcpy(name, "aarch64", sizeof "aarch64");
}

uint64_t heed__os_float_enter(void)
{
    uint64_t saved;

    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return saved;
}

void heed__os_float_leave(uint64_t saved)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
}

void heed__os_relax(void)
{
    __asm__ volatile("yield");
}

#else

bool heed__os_cpu_has(heed_isa isa)
{
    return isa == HEED_ISA_PORTABLE;
}

void heed__os_cpu_name(char name[96])
{
    memcpy(name, "unknown", sizeof "unknown");
}

uint64_t heed__os_float_enter(void)
{
    return 0;
}

void heed__os_float_leave(uint64_t saved)
{
    (void)saved;
}

void heed__os_relax(void)
{
}

#endif
