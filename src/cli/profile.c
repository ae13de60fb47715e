/* --profile FILE of commands that run models: the trace goes into the file, the table by kernel to stderr. */

#include "cli/cli.h"

heed_status heed__cli_profile_begin(cli *c, heed_profile **out, const char *path, bool force)
{
    if (!path)
        return HEED_OK;
    TRY(heed__cli_exists(c, path, force));
    return heed_profile_new(out, c->ctx, NULL, &c->err);
}

heed_status heed__cli_profile_end(cli *c, const heed_profile *p, const char *path)
{
    char *table = NULL;
    heed_status st;

    if (!p)
        return HEED_OK;
    STEP(heed_profile_summary(&table, p, &c->err));
    fprintf(stderr, "%sprofile%s  %s", c->log.bold, c->log.off, table);
    STEP(heed_profile_write(p, path, &c->err));
    fprintf(stderr, "trace    %s: %lld events; chrome://tracing and ui.perfetto.dev open it\n", path,
            (long long)heed_profile_count(p));
done:
    heed_text_free(c->ctx, table);
    return st;
}
