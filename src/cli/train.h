/* What `heed demo` shares with `heed train` and `heed eval`. */
#ifndef CLI_TRAIN_H
#define CLI_TRAIN_H

#include "cli/cli.h"

typedef struct train_args {
    const char *recipe, *out, *profile, *task, *data, *init;
    cli_strings freeze, set;
    heed_maybe_i64 seed, threads;
    int isa;
    bool force, resume, fresh, json, print_config;
} train_args;

typedef struct eval_args {
    const char *run, *data, *curves;
    int64_t threads;
    int isa, average;
    bool json, force;
    cli_strings edit;
} eval_args;

heed_status heed__cli_train_run(cli *c, const train_args *a);
heed_status heed__cli_eval_run(cli *c, const eval_args *a);

#endif
