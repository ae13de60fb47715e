/* heed version: what this build can do on this machine. */

#include "cli/cli.h"

#include <string.h>

typedef struct version_args {
    bool json;
} version_args;

static const cli_option version_table[] = {
    JSON_OPTION(version_args, "one JSON document"),
    OPTIONS_END,
};

static void version_json(const char *cpu)
{
    printf("{\"version\":\"%s\",\"cpu\":", HEED_VERSION);
    heed__cli_json(stdout, cpu);
    printf(",\"levels\":{");
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
        printf("%s\"%s\":%s", isa > HEED_ISA_PORTABLE ? "," : "", heed_isa_name((heed_isa)isa),
               heed_isa_available((heed_isa)isa) ? "true" : "false");
    printf("},\"features\":{");
    for (const heed_feature *f = heed_features(); f->name; f++)
        printf("%s\"%s\":{\"present\":%s,\"library\":\"%s\",\"version\":\"%s\",\"packages\":\"%s\"}",
               f == heed_features() ? "" : ",", f->name, f->present ? "true" : "false", f->library,
               f->version, f->packages);
    printf("}}\n");
}

static heed_status version_run(cli *c, const void *args)
{
    const version_args *a = args;
    char cpu[96];

    heed_cpu_name(cpu);
    if (a->json) {
        version_json(cpu);
        return HEED_OK;
    }
    printf("heed %s\n\ncpu      %s\nlevels  ", HEED_VERSION, cpu[0] ? cpu : "unknown");
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++)
        if (heed_isa_available((heed_isa)isa))
            printf(" %s", heed_isa_name((heed_isa)isa));
    printf("\n\n");
    for (const heed_feature *f = heed_features(); f->name; f++)
        if (f->present)
            printf("%s%-12s%s %s %s\n", c->out.green, f->name, c->out.off, f->library, f->version);
        else
            printf("%s%-12s%s missing: apt install %s, then rebuild\n", c->out.red, f->name, c->out.off,
                   f->packages);
    return HEED_OK;
}

const cli_command heed__cli_version = {
    .name = "version",
    .does = "print version, libraries, instruction levels and CPU",
    .options = version_table,
    .args_size = sizeof(version_args),
    .run = version_run,
    .example = "heed --version\nheed version --json\n",
};
