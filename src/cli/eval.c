/* heed eval: a run on test data. */

#include "cli/train.h"

#include <string.h>

static const cli_option eval_table[] = {
    OPERAND(eval_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    PATH(eval_args, data, .value = "DIR", .variable = "HEED_DATA",
         .doc = "data to evaluate on instead of the recipe's: its test part"),
    THREADS_OPTION(eval_args),
    ISA_OPTION(eval_args),
    JSON_OPTION(eval_args, "one JSON document"),
    OPTIONS_END,
};

static void eval_json(const heed_evaluation *e)
{
    printf("{\"n\":%lld,\"metrics\":{\"accuracy\":", (long long)e->n);
    heed__cli_number(stdout, e->accuracy);
    printf(",\"loss\":");
    heed__cli_number(stdout, e->loss);
    if (e->accuracy_mirror >= 0) {
        printf(",\"accuracy_mirror\":");
        heed__cli_number(stdout, e->accuracy_mirror);
    }
    printf("},\"confusion\":[");
    for (int64_t i = 0; i < e->classes; i++) {
        printf(i ? ",[" : "[");
        for (int64_t j = 0; j < e->classes; j++)
            printf(j ? ",%lld" : "%lld", (long long)e->confusion[i * e->classes + j]);
        putchar(']');
    }
    printf("]}\n");
}

/* Share of the commonest true class: what always naming it would reach. */
static double eval_baseline(const heed_evaluation *e)
{
    int64_t most = 0;

    for (int64_t i = 0; i < e->classes; i++) {
        int64_t row = 0;

        for (int64_t j = 0; j < e->classes; j++)
            row += e->confusion[i * e->classes + j];
        most = row > most ? row : most;
    }
    return e->n > 0 ? (double)most / (double)e->n : 0;
}

static void eval_confusion(const cli *c, const heed_run *run, const heed_evaluation *e)
{
    printf("\n%srow: true class; column: what the model said%s\n%16s", c->out.dim, c->out.off, "");
    for (int64_t j = 0; j < e->classes; j++)
        printf(" %5lld", (long long)j);
    printf("   right\n");
    for (int64_t i = 0; i < e->classes; i++) {
        const int64_t *row = e->confusion + i * e->classes;
        int64_t sum = 0;

        printf("%3lld %-12.12s", (long long)i, heed_run_class(run, i));
        for (int64_t j = 0; j < e->classes; j++) {
            printf(i == j ? " %s%5lld%s" : " %s%5lld%s",
                   i == j   ? c->out.green
                   : row[j] ? ""
                            : c->out.dim,
                   (long long)row[j], c->out.off);
            sum += row[j];
        }
        printf("  %6.4f\n", sum > 0 ? (double)row[i] / (double)sum : 0);
    }
}

static void eval_text(const cli *c, const heed_run *run, const heed_evaluation *e)
{
    char n[32];

    printf("samples   %s\n", heed__cli_count(n, e->n));
    printf("accuracy  %s%.4f%s, one pass (always naming the commonest class: %.4f)\n", c->out.bold,
           e->accuracy, c->out.off, eval_baseline(e));
    if (e->accuracy_mirror >= 0)
        printf("accuracy  %s%.4f%s, mean of picture and mirror image\n", c->out.bold, e->accuracy_mirror,
               c->out.off);
    printf("loss      %.4f\n", e->loss);
    if (e->classes <= 20)
        eval_confusion(c, run, e);
}

heed_status heed__cli_eval_run(cli *c, const eval_args *a)
{
    heed_run *run = NULL;
    heed_evaluation e = { 0 };
    heed_status st;

    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    STEP(heed_run_evaluate(&e, run, a->data, &c->err));
    if (a->json)
        eval_json(&e);
    else
        eval_text(c, run, &e);
done:
    heed_evaluation_release(c->ctx, &e);
    heed_run_free(run);
    return st;
}

static heed_status eval_run(cli *c, const void *args)
{
    const eval_args *a = args;

    TRY(heed__cli_open(c, a->threads, a->isa));
    return heed__cli_eval_run(c, a);
}

const cli_command heed__cli_eval = {
    .name = "eval",
    .does = "say how often a run is right on test data",
    .options = eval_table,
    .args_size = sizeof(eval_args),
    .run = eval_run,
    .about =
        "Where training used mirror images, the accuracy of the mean over picture and mirror image is printed beside that of one pass.\n"
        "With --json: {\"n\", \"metrics\": {\"accuracy\", \"loss\", \"accuracy_mirror\"}, \"confusion\"}; a row of confusion is a true"
        " class, a column what the model said. accuracy_mirror is missing where training did not mirror.\n",
    .example = "heed eval runs/fa\n"
               "heed eval runs/fa --data data/fashion-mnist --json\n",
};
