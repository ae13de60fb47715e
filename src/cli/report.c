/* heed report: one page on a run. */

#include "cli/cli.h"

typedef struct report_args {
    const char *run, *out, *data;
    cli_strings compare;
    heed_maybe_i64 mistakes, explained;
    int64_t threads;
    int isa;
    bool force;
} report_args;

static const cli_option report_table[] = {
    OPERAND(report_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    PATH(report_args, out, .value = "FILE", .doc = "where the page is written; default RUN/report.html"),
    PATH(report_args, data, .value = "DIR", .variable = "HEED_DATA",
         .doc = "data to evaluate on instead of the recipe's: its test part"),
    REPEATED(
        report_args, compare, .value = "FILE",
        .doc =
            "a file of results, as docs/results has them, to compare with; those of RUN/compare are taken anyway"),
    MAYBE(report_args, mistakes, .value = "N", .max = 64,
          .doc = "wrongly named pictures that are shown; default 12"),
    MAYBE(report_args, explained, .value = "N", .max = 64,
          .doc = "of them with maps of attention; default 6"),
    THREADS_OPTION(report_args),
    ISA_OPTION(report_args),
    FORCE_OPTION(report_args, "writes over a report that is there"),
    OPTIONS_END,
};

static heed_status report_run(cli *c, const void *args)
{
    const report_args *a = args;
    const heed_report_opts opts = { .data = a->data,
                                    .compare = a->compare.at,
                                    .mistakes = a->mistakes,
                                    .explained = a->explained,
                                    .force = a->force };
    heed_run *run = NULL;
    heed_status st;

    TRY(heed__cli_open(c, a->threads, a->isa));
    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    STEP(heed_run_report(run, a->out, &opts, &c->err));
    heed__cli_text(stdout, a->out ? a->out : a->run);
    printf("%s\n", a->out ? "" : "/report.html");
done:
    heed_run_free(run);
    return st;
}

const cli_command heed__cli_report = {
    .name = "report",
    .does = "write one page on a run: results, curves, mistakes, how to repeat it",
    .options = report_table,
    .args_size = sizeof(report_args),
    .run = report_run,
    .about =
        "Evaluates the test part and writes a page that loads nothing, in English and Chinese, light and dark: accuracy with its interval"
        " and what it is compared with, curves of training, every class, confusions, calibration, the worst mistakes with what the"
        " model attended to, parameters, data with digests, recipe, and the command that repeats the training.\n"
        "heed train writes such a page from the validation part (train.report: false in the recipe leaves it out).\n",
    .example = "heed report runs/fa --force\n"
               "heed report runs/fa --out fa.html --compare docs/results/fashion-linear.json\n",
};
