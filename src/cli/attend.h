/* Inside heed attend: what it prints. */
#ifndef CLI_ATTEND_H
#define CLI_ATTEND_H

#include "cli/cli.h"

/* Scores, weights and out as three tables, or as one JSON object; after a run with weights. HEED_ERR_LIMIT when they are too
 * large to read. */
heed_status heed__attend_show(cli *c, heed_attend *x, bool json);

/* Which kernels, why, and what it costs. */
heed_status heed__attend_explain(cli *c, const heed_attend *x, bool json);

#endif
