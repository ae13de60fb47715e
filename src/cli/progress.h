/* Progress of training on stderr, and Ctrl-C. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli/cli.h"

typedef struct progress {
    cli_style style;
    bool bar, utf8, drawn;
    double drawn_at, line_at; /* seconds of training */
} progress;

/* From now on the first SIGINT or SIGTERM sets a flag that heed__progress_show returns. */
void heed__progress_catch(void);

void heed__progress_init(progress *p, const cli *c);
bool heed__progress_show(progress *p, const heed_progress *h); /* true: stop */
void heed__progress_note(progress *p, const char *sentence);   /* a line that stays */
void heed__progress_end(progress *p);                          /* takes the bar away */

#endif
