/* Progress of training on stderr, and Ctrl-C. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli/cli.h"

typedef struct progress {
    cli_style style;
    bool bar, utf8, drawn;
    double drawn_at, line_at; /* seconds of training */
    double read_at;           /* when reading was last told, by the clock; 0: not yet */
} progress;

/* From now on the first SIGINT or SIGTERM sets a flag, which heed__progress_show returns as well. */
void heed__progress_catch(void);
bool heed__progress_interrupted(void);

void heed__progress_init(progress *p, const cli *c);
bool heed__progress_show(progress *p, const heed_progress *h); /* true: stop */
/* Pictures read, before training; nothing is shown of what takes less than a second. */
bool heed__progress_read(progress *p, int64_t done, int64_t total);
void heed__progress_note(progress *p, const char *sentence);
void heed__progress_end(progress *p);                          /* takes the bar away */

#endif
