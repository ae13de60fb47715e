/* Default limits: one row a limit. */
#include "base/limits.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static uint64_t limits_or(uint64_t given, uint64_t fallback)
{
    return given ? given : fallback;
}

heed_limits heed__limits(const heed_limits *given)
{
    const heed_limits none = { 0 };
    const heed_limits *g = given ? given : &none;

    return (heed_limits){
        .memory_bytes = g->memory_bytes, /* 0: no limit */
        .safetensors_header_bytes = limits_or(g->safetensors_header_bytes, 16 * MIB),
        .name_bytes = limits_or(g->name_bytes, 512),
        .json_bytes = limits_or(g->json_bytes, 16 * MIB),
        .yaml_bytes = limits_or(g->yaml_bytes, 256 * KIB),
        .yaml_events = limits_or(g->yaml_events, 20000),
        .nesting = limits_or(g->nesting, 64),
        .image_side = limits_or(g->image_side, 65535),
        .image_pixels = limits_or(g->image_pixels, 64000000),
        .file_bytes = limits_or(g->file_bytes, 4 * GIB),
    };
}
