/* heed eval: a run on test data. */

#include "cli/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH 12     /* of a class in tables */
#define MATRIX_WIDTH 100  /* columns of a terminal that a confusion matrix fills before it is folded */
#define MATRIX_CLASSES 40 /* with more only the commonest mistakes are shown */
#define MISTAKES 10

static const cli_option eval_table[] = {
    OPERAND(eval_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    PATH(eval_args, data, .value = "DIR", .variable = "HEED_DATA",
         .doc = "data to evaluate on instead of the recipe's: its test part"),
    PATH(eval_args, curves, .value = "DIR",
         .doc = "writes roc.csv, pr.csv, roc.svg and pr.svg there: each class against the others"),
    SWITCH(eval_args, force, .doc = "writes over curves that are there"),
    ONE_OF(eval_args, average, .words = "none|mirror", .fallback = "none",
           .doc = "what metrics and curves are of: one pass, or the mean of picture and mirror image"),
    EDIT_OPTION(eval_args),
    THREADS_OPTION(eval_args),
    ISA_OPTION(eval_args),
    JSON_OPTION(eval_args, "one JSON document"),
    OPTIONS_END,
};

/* What is told about. */
typedef struct eval_report {
    heed_run *run;
    const heed_evaluation *e;
    const heed_metrics *m;
    double low, high; /* of the accuracy */
} eval_report;

/* ---- JSON ---- */

static void eval_key(const char *before, const char *key, double value)
{
    printf("%s\"%s\":", before, key);
    heed__cli_number(stdout, value);
}

static void eval_json_prf(const char *name, const heed_prf *p)
{
    printf(",\"%s\":{", name);
    eval_key("", "precision", p->precision);
    eval_key(",", "recall", p->recall);
    eval_key(",", "f1", p->f1);
    putchar('}');
}

static void eval_json_class(const eval_report *r, int64_t i)
{
    const heed_class_metrics *c = &r->m->per_class[i];

    printf("{\"label\":%lld,\"class\":", (long long)i);
    heed__cli_json(stdout, heed_run_class(r->run, i));
    printf(",\"support\":%lld,\"predicted\":%lld", (long long)c->support, (long long)c->predicted);
    eval_key(",", "precision", c->precision);
    eval_key(",", "recall", c->recall);
    eval_key(",", "f1", c->f1);
    eval_key(",", "roc_auc", c->roc_auc);
    eval_key(",", "average_precision", c->average_precision);
    putchar('}');
}

static void eval_json(const eval_args *a, const eval_report *r)
{
    const heed_metrics *m = r->m;

    printf("{\"n\":%lld,\"metrics\":{", (long long)m->n);
    eval_key("", "accuracy", r->e->accuracy);
    eval_key(",", "loss", r->e->loss);
    if (r->e->accuracy_mirror >= 0)
        eval_key(",", "accuracy_mirror", r->e->accuracy_mirror);
    printf(",\"accuracy_interval\":[");
    heed__cli_number(stdout, r->low);
    putchar(',');
    heed__cli_number(stdout, r->high);
    putchar(']');
    eval_key(",", "majority", m->majority);
    eval_key(",", "balanced_accuracy", m->balanced_accuracy);
    eval_key(",", "log_loss", m->log_loss);
    eval_key(",", "ece", m->ece);
    eval_key(",", "roc_auc", m->roc_auc);
    eval_key(",", "average_precision", m->average_precision);
    eval_json_prf("macro", &m->macro);
    eval_json_prf("micro", &m->micro);
    eval_json_prf("weighted", &m->weighted);
    printf("},\"average\":\"%s\",\"part\":", a->average ? "mirror" : "none");
    heed__cli_json(stdout, r->e->part);
    printf(",\"classes\":[");
    for (int64_t i = 0; i < m->classes; i++) {
        if (i)
            putchar(',');
        eval_json_class(r, i);
    }
    printf("],\"confusion\":[");
    for (int64_t i = 0; i < m->classes; i++) {
        printf(i ? ",[" : "[");
        for (int64_t j = 0; j < m->classes; j++)
            printf(j ? ",%lld" : "%lld", (long long)m->confusion[i * m->classes + j]);
        putchar(']');
    }
    putchar(']');
    heed__cli_edits_json(stdout, r->run);
    printf("}\n");
}

/* ---- text ---- */

/* A number of four decimals, or a dash where it is not defined. */
static void eval_cell(double value)
{
    if (isnan(value))
        printf("  %9s", "-");
    else
        printf("  %9.4f", value);
}

static void eval_summary(const cli *c, const eval_args *a, const eval_report *r)
{
    const heed_metrics *m = r->m;
    char n[32];

    heed__cli_edits_line(stdout, r->run, "edited    ");
    printf("samples   %s, ", heed__cli_count(n, m->n));
    heed__cli_text(stdout, r->e->part);
    printf("\naccuracy  %s%.4f%s, one pass (always naming the commonest class: %.4f)\n", c->out.bold,
           r->e->accuracy, c->out.off, m->majority);
    if (r->e->accuracy_mirror >= 0)
        printf("accuracy  %s%.4f%s, mean of picture and mirror image\n", c->out.bold, r->e->accuracy_mirror,
               c->out.off);
    printf("          %.4f to %.4f: 95 %% interval of %s (Wilson)\n", r->low, r->high,
           a->average ? "the mean" : "one pass");
    if (a->average)
        printf("What follows is of the mean of picture and mirror image.\n");
    printf("balanced  %.4f, mean recall of the classes\n", m->balanced_accuracy);
    printf("log loss  %.4f (a guess among equals: %.4f)\n", m->log_loss, log((double)m->classes));
    printf("ECE       %.4f, calibration error over 15 bins\n", m->ece);
}

static void eval_mean(const char *name, const heed_prf *p)
{
    printf("%8s %-*s", "", NAME_WIDTH, name);
    eval_cell(p->precision);
    eval_cell(p->recall);
    eval_cell(p->f1);
}

static void eval_classes(const cli *c, const eval_report *r)
{
    const heed_metrics *m = r->m;

    printf("\n%s%8s %-*s  %9s  %9s  %9s  %9s  %9s%s\n", c->out.dim, "samples", NAME_WIDTH, "class",
           "precision", "recall", "F1", "ROC-AUC", "AP", c->out.off);
    for (int64_t i = 0; i < m->classes; i++) {
        const heed_class_metrics *k = &m->per_class[i];

        printf("%8lld ", (long long)k->support);
        heed__cli_cell(stdout, heed_run_class(r->run, i), NAME_WIDTH);
        eval_cell(k->precision);
        eval_cell(k->recall);
        eval_cell(k->f1);
        eval_cell(k->roc_auc);
        eval_cell(k->average_precision);
        putchar('\n');
    }
    eval_mean("macro mean", &m->macro);
    eval_cell(m->roc_auc);
    eval_cell(m->average_precision);
    putchar('\n');
    eval_mean("weighted", &m->weighted);
    putchar('\n');
    eval_mean("micro", &m->micro);
    putchar('\n');
}

static int eval_digits(int64_t n)
{
    int digits = 1;

    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

/* Columns [begin, end) of the matrix. */
static void eval_block(const cli *c, const eval_report *r, int64_t begin, int64_t end, int width)
{
    const heed_metrics *m = r->m;

    printf("%*s", NAME_WIDTH + 4, "");
    for (int64_t j = begin; j < end; j++)
        printf(" %*lld", width, (long long)j);
    putchar('\n');
    for (int64_t i = 0; i < m->classes; i++) {
        printf("%3lld ", (long long)i);
        heed__cli_cell(stdout, heed_run_class(r->run, i), NAME_WIDTH);
        for (int64_t j = begin; j < end; j++) {
            const int64_t count = m->confusion[i * m->classes + j];

            printf(" %s%*lld%s",
                   i == j  ? c->out.green
                   : count ? ""
                           : c->out.dim,
                   width, (long long)count, c->out.off);
        }
        putchar('\n');
    }
}

static void eval_matrix(const cli *c, const eval_report *r)
{
    const heed_metrics *m = r->m;
    int width = 2;
    int64_t columns;

    for (int64_t i = 0; i < m->classes * m->classes; i++)
        if (eval_digits(m->confusion[i]) > width)
            width = eval_digits(m->confusion[i]);
    columns = (MATRIX_WIDTH - NAME_WIDTH - 4) / (width + 1);
    printf("\n%srow: true class; column: what the model said%s\n", c->out.dim, c->out.off);
    for (int64_t j = 0; j < m->classes; j += columns)
        eval_block(c, r, j, j + columns < m->classes ? j + columns : m->classes, width);
}

/* The mistakes made most often, in place of a matrix that nobody could read. */
static void eval_mistakes(const cli *c, const eval_report *r)
{
    const heed_metrics *m = r->m;
    int64_t last = INT64_MAX, last_at = -1;

    printf("\n%sthe commonest mistakes%s\n", c->out.dim, c->out.off);
    for (int shown = 0; shown < MISTAKES; shown++) {
        int64_t most = 0, at = -1;

        for (int64_t i = 0; i < m->classes * m->classes; i++) {
            const int64_t count = m->confusion[i];

            if (i / m->classes != i % m->classes && count > most &&
                (count < last || (count == last && i > last_at))) {
                most = count;
                at = i;
            }
        }
        if (at < 0)
            return;
        printf("%8lld  ", (long long)most);
        heed__cli_text(stdout, heed_run_class(r->run, at / m->classes));
        printf(" taken for ");
        heed__cli_text(stdout, heed_run_class(r->run, at % m->classes));
        putchar('\n');
        last = most;
        last_at = at;
    }
}

static void eval_text(const cli *c, const eval_args *a, const eval_report *r)
{
    eval_summary(c, a, r);
    eval_classes(c, r);
    if (r->m->classes <= MATRIX_CLASSES)
        eval_matrix(c, r);
    else
        eval_mistakes(c, r);
    if (a->curves) {
        printf("\ncurves    ");
        heed__cli_text(stdout, a->curves);
        printf(": roc.svg, pr.svg, roc.csv, pr.csv\n");
    }
}

/* ---- the command ---- */

/* Nothing is overwritten without --force; asked before anything is evaluated. */
static heed_status eval_may_write(cli *c, const eval_args *a)
{
    static const char *const names[] = { "roc.csv", "pr.csv", "roc.svg", "pr.svg" };
    char path[4096];

    for (size_t i = 0; a->curves && i < sizeof names / sizeof *names; i++) {
        if (snprintf(path, sizeof path, "%s/%s", a->curves, names[i]) >= (int)sizeof path)
            return heed__cli_fail(c, HEED_ERR_USAGE, "--curves: the folder's name is too long");
        TRY(heed__cli_exists(c, path, a->force));
    }
    return HEED_OK;
}

heed_status heed__cli_eval_run(cli *c, const eval_args *a)
{
    const heed_average average = a->average ? HEED_AVERAGE_MIRROR : HEED_AVERAGE_NONE;
    heed_run *run = NULL;
    heed_metrics *m = NULL;
    heed_evaluation e = { 0 };
    heed_tensor probability, labels;
    eval_report r = { .e = &e };
    heed_status st;

    if (a->curves && a->edit.n > 0) {
        st = heed__cli_fail(c, HEED_ERR_USAGE, "--curves are of a run as it was trained; leave out --edit");
        goto done;
    }
    STEP(eval_may_write(c, a));
    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    STEP(heed__cli_edit(c, run, &a->edit));
    if (a->average && !heed_run_mirrors(run)) {
        st = heed__cli_fail(c, HEED_ERR_USAGE,
                            "%.300s was trained without mirror images; leave out --average mirror", a->run);
        goto done;
    }
    STEP(heed_run_evaluate(&e, run, a->data, &c->err));
    heed_evaluation_tensors(&e, average, &probability, &labels);
    STEP(heed_metrics_new(&m, c->ctx, probability, labels, &c->err));
    r.run = run;
    r.m = m;
    heed_wilson_interval((int64_t)llround(m->accuracy * (double)m->n), m->n, &r.low, &r.high);
    if (a->curves)
        STEP(heed_run_curves(run, a->curves, probability, labels, &c->err));
    if (a->json)
        eval_json(a, &r);
    else
        eval_text(c, a, &r);
done:
    heed_metrics_free(c->ctx, m);
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
    .does = "say how often, and how, a run is right on test data",
    .options = eval_table,
    .args_size = sizeof(eval_args),
    .run = eval_run,
    .about =
        "Names and definitions are scikit-learn's, with zero_division=0; ROC-AUC and AP (average precision) are of each class against the"
        " others, and missing (- or null) for a class without samples. ECE is the expected calibration error over 15 bins of equal width."
        " The interval is Wilson's. Where training used mirror images, the accuracy of the mean over picture and mirror image is printed"
        " beside that of one pass; --average mirror takes all metrics and curves of that mean.\n"
        "With --json: {\"n\", \"metrics\": {\"accuracy\", \"loss\", \"accuracy_mirror\", \"accuracy_interval\": [low, high], \"majority\","
        " \"balanced_accuracy\", \"log_loss\", \"ece\", \"roc_auc\", \"average_precision\", \"macro\": {\"precision\", \"recall\", \"f1\"},"
        " \"micro\", \"weighted\"}, \"average\", \"part\", \"classes\": [{\"label\", \"class\", \"support\", \"predicted\", \"precision\","
        " \"recall\", \"f1\", \"roc_auc\", \"average_precision\"}], \"confusion\"}; a row of confusion is a true class, a column what the"
        " model said. accuracy and loss are of one pass, the loss from logits; what follows them is of what \"average\" says, log_loss of"
        " probabilities clipped as scikit-learn does. accuracy_mirror is missing where training did not mirror.\n"
        "--edit evaluates a changed model, \"what is the accuracy without head 3\"; a line \"edited\", or \"edits\": [...] in JSON, says"
        " so.\n"
        "--curves: CSV by RFC 4180 with the columns class, x, y, threshold. roc: false positive rate and recall, from threshold inf down;"
        " pr: recall and precision, thresholds rising. Every different probability is a point.\n",
    .example = "heed eval runs/fa\n"
               "heed eval runs/fa --data data/fashion-mnist --json\n"
               "heed eval runs/fa --edit pool:head=0:zero\n"
               "heed eval runs/fa --curves runs/fa/curves\n",
};
