/* heed predict: what a run says of pictures, in the order of the files given. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"
#include "cli/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PREDICT_BATCH 128
#define REDRAW_SECONDS 0.2
#define MEBIBYTE ((uint64_t)1 << 20)

typedef struct predict_args {
    const char *run, *out, *npz, *profile;
    cli_strings files, tap, edit;
    int64_t top_k, skip_bad, tap_memory, threads;
    int average, isa;
    bool logits, json, force;
} predict_args;

static const cli_option predict_table[] = {
    OPERAND(predict_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    OPERANDS(predict_args, files, .value = "INPUT",
             .doc = "pictures (PNG, JPEG, PGM, PPM), folders of them, IDX files, gzip or not;"
                    " file.idx.gz[0:100] takes the first hundred, - reads one of these from stdin"),
    PATH(predict_args, out, .value = "FILE", .doc = "writes a CSV file instead of lines"),
    INTEGER(predict_args, top_k, .value = "K", .min = 1, .max = 1000000, .fallback = "3",
            .doc = "classes shown for a picture"),
    SWITCH(predict_args, logits, .doc = "adds the model's output for every class"),
    ONE_OF(predict_args, average, .words = "none|mirror", .fallback = "none",
           .doc = "mirror: of picture and mirror image; good where training mirrored"),
    REPEATED(predict_args, tap, .value = "NAME",
             .doc = "keeps a value inside the model: pool.weights, or encoder.* for all below; needs --npz"),
    PATH(predict_args, npz, .value = "FILE", .doc = "where what --tap names is written, as arrays for NumPy"),
    INTEGER(predict_args, tap_memory, .value = "N", .min = 1, .max = 1048576, .fallback = "1024",
            .doc = "MiB that taps may take until they are written"),
    EDIT_OPTION(predict_args),
    INTEGER(predict_args, skip_bad, .value = "N", .max = 1000000000, .fallback = "0",
            .doc = "passes over so many pictures that cannot be read"),
    FORCE_OPTION(predict_args, "writes over files that are there"),
    THREADS_OPTION(predict_args),
    ISA_OPTION(predict_args),
    PROFILE_OPTION(predict_args),
    JSON_OPTION(predict_args, "a JSON object a line, in the order of the input"),
    OPTIONS_END,
};

/* One picture being told about. */
typedef struct prediction {
    const char *input; /* the file, `input_size` bytes */
    int input_size;
    const char *stdin_name;
    int64_t index; /* of the record; -1: a picture file */
    const float *logits;
    double *probability; /* [classes], of softmax */
    int64_t *order;      /* [classes], the likeliest first; equal ones by number */
    int64_t classes;
} prediction;

typedef struct predict_job {
    cli *c;
    const predict_args *a;
    heed_run *run;
    heed_inputs *inputs;
    heed_taps *taps; /* NULL: none */
    heed_csv *csv;   /* NULL: lines */
    char *edits;     /* owned: what --edit says, "" for nothing */
    float *logits;   /* [PREDICT_BATCH, classes] */
    prediction p;
    int64_t n;
    bool live; /* progress is drawn */
    double began, drawn;
    char spooled[512]; /* stdin as a file, or "" */
} predict_job;

/* ---- one picture ---- */

static void predict_rank(prediction *p)
{
    double most = -INFINITY, sum = 0;

    for (int64_t i = 0; i < p->classes; i++)
        most = fmax(most, (double)p->logits[i]);
    for (int64_t i = 0; i < p->classes; i++)
        sum += p->probability[i] = exp((double)p->logits[i] - most);
    for (int64_t i = 0; i < p->classes; i++) {
        int64_t j = i;

        p->probability[i] /= sum;
        for (; j > 0 && p->probability[p->order[j - 1]] < p->probability[i]; j--)
            p->order[j] = p->order[j - 1];
        p->order[j] = i;
    }
}

/* "f.idx[7]" is record 7 of f.idx; anything else is a picture file. */
static void predict_split(prediction *p, const char *name)
{
    const char *bracket = strrchr(name, '[');
    const char *at = bracket ? bracket + 1 : "";
    int64_t index = 0;

    p->input = name;
    p->input_size = (int)strlen(name);
    p->index = -1;
    for (; *at >= '0' && *at <= '9' && index < INT64_MAX / 10 - 10; at++)
        index = index * 10 + (*at - '0');
    if (bracket && at > bracket + 1 && strcmp(at, "]") == 0) {
        p->input_size = (int)(bracket - name);
        p->index = index;
    }
    if (p->stdin_name[0] && strncmp(name, p->stdin_name, strlen(p->stdin_name)) == 0) {
        p->input = "-";
        p->input_size = 1;
    }
}

/* The file's name as text; "" when it does not fit. */
static const char *predict_input(const prediction *p, char *to, size_t size)
{
    return snprintf(to, size, "%.*s", p->input_size, p->input) < (int)size ? to : "";
}

static void predict_json(const predict_args *a, heed_run *run, const prediction *p, int64_t top)
{
    char input[4200];

    printf("{\"input\":");
    heed__cli_json(stdout, predict_input(p, input, sizeof input));
    printf(",\"index\":%lld,\"top\":[", (long long)(p->index < 0 ? 0 : p->index));
    for (int64_t i = 0; i < top; i++) {
        printf(i ? ",{\"label\":%lld,\"class\":" : "{\"label\":%lld,\"class\":", (long long)p->order[i]);
        heed__cli_json(stdout, heed_run_class(run, p->order[i]));
        printf(",\"probability\":");
        heed__cli_number(stdout, p->probability[p->order[i]]);
        putchar('}');
    }
    putchar(']');
    if (a->logits) {
        printf(",\"logits\":[");
        for (int64_t i = 0; i < p->classes; i++) {
            if (i)
                putchar(',');
            heed__cli_number(stdout, (double)p->logits[i]);
        }
        putchar(']');
    }
    heed__cli_edits_json(stdout, run);
    printf("}\n");
}

static void predict_text(const cli *c, const predict_args *a, const heed_run *run, const prediction *p,
                         int64_t top)
{
    char input[4200];

    heed__cli_text(stdout, predict_input(p, input, sizeof input));
    if (p->index >= 0)
        printf("[%lld]", (long long)p->index);
    for (int64_t i = 0; i < top; i++) {
        printf("  %s", i == 0 ? c->out.bold : "");
        heed__cli_text(stdout, heed_run_class(run, p->order[i]));
        printf(" %.4f%s", p->probability[p->order[i]], i == 0 ? c->out.off : "");
    }
    if (a->logits) {
        printf("  logits");
        for (int64_t i = 0; i < p->classes; i++)
            printf(" %.6g", (double)p->logits[i]);
    }
    putchar('\n');
}

/* ---- CSV ---- */

static void predict_column(const predict_job *j, const char *before, int64_t i)
{
    char name[600];

    (void)snprintf(name, sizeof name, "%s%.500s", before, heed_run_class(j->run, i));
    heed_csv_text(j->csv, name);
}

static heed_status predict_csv_head(predict_job *j)
{
    heed_csv_text(j->csv, "input");
    heed_csv_text(j->csv, "label");
    heed_csv_text(j->csv, "class");
    heed_csv_text(j->csv, "probability");
    for (int64_t i = 0; i < j->p.classes; i++)
        predict_column(j, "p_", i);
    for (int64_t i = 0; j->a->logits && i < j->p.classes; i++)
        predict_column(j, "logit_", i);
    if (*j->edits)
        heed_csv_text(j->csv, "edits");
    return heed_csv_row(j->csv, &j->c->err);
}

static heed_status predict_csv_row(predict_job *j, const char *name)
{
    const prediction *p = &j->p;
    char spooled[64];

    if (p->input_size == 1 && p->input[0] == '-' && p->index >= 0) {
        (void)snprintf(spooled, sizeof spooled, "-[%lld]", (long long)p->index);
        name = spooled;
    } else if (p->input_size == 1 && p->input[0] == '-') {
        name = "-";
    }
    heed_csv_text(j->csv, name);
    heed_csv_integer(j->csv, p->order[0]);
    heed_csv_text(j->csv, heed_run_class(j->run, p->order[0]));
    heed_csv_float(j->csv, (float)p->probability[p->order[0]]);
    for (int64_t i = 0; i < p->classes; i++)
        heed_csv_float(j->csv, (float)p->probability[i]);
    for (int64_t i = 0; j->a->logits && i < p->classes; i++)
        heed_csv_float(j->csv, p->logits[i]);
    if (*j->edits)
        heed_csv_text(j->csv, j->edits);
    return heed_csv_row(j->csv, &j->c->err);
}

/* ---- progress ---- */

static double predict_seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void predict_progress(predict_job *j)
{
    const double now = predict_seconds();
    char n[32], rate[32];

    if (!j->live || (now - j->drawn < REDRAW_SECONDS && j->drawn > 0))
        return;
    fprintf(stderr, "\r\033[K%s pictures, %s/s", heed__cli_count(n, j->n),
            heed__cli_count(rate, (int64_t)((double)j->n / fmax(now - j->began, 1e-9))));
    (void)fflush(stderr);
    j->drawn = now;
}

/* The line that stays: how many, how fast, what was passed over. One picture needs none. */
static void predict_summary(predict_job *j)
{
    const double seconds = predict_seconds() - j->began;
    const int64_t skipped = heed_inputs_skipped(j->inputs);
    char n[32], rate[32], time[32];

    if (j->live)
        fputs("\r\033[K", stderr);
    if (j->n == 1 && !j->csv && !j->taps && skipped == 0)
        return;
    fprintf(stderr, "%s picture%s in %s, %s/s\n", heed__cli_count(n, j->n), j->n == 1 ? "" : "s",
            heed__cli_seconds(time, seconds),
            heed__cli_count(rate, (int64_t)((double)j->n / fmax(seconds, 1e-9))));
    if (skipped > 0) {
        fprintf(stderr, "%s passed over; the last: ", heed__cli_count(n, skipped));
        heed__cli_text(stderr, heed_inputs_skipped_why(j->inputs));
        putc('\n', stderr);
    }
}

static void predict_written(const predict_job *j)
{
    if (j->a->out)
        fprintf(stderr, "%s: %lld rows\n", j->a->out, (long long)j->n);
    for (int i = 0; j->taps && i < heed_taps_count(j->taps); i++) {
        const heed_type t = heed_taps_type(j->taps, i);

        fprintf(stderr, "%s: %s %s [", j->a->npz, heed_taps_name(j->taps, i), heed_dtype_name(t.dtype));
        for (int d = 0; d < t.rank; d++)
            fprintf(stderr, d ? ", %lld" : "%lld", (long long)t.dims[d]);
        fputs("]\n", stderr);
    }
}

/* ---- all of them ---- */

static heed_status predict_tell(predict_job *j, const char *name)
{
    const predict_args *a = j->a;
    const int64_t top = a->top_k < j->p.classes ? a->top_k : j->p.classes;

    predict_split(&j->p, name);
    predict_rank(&j->p);
    if (j->csv)
        TRY(predict_csv_row(j, name));
    if (a->json)
        predict_json(a, j->run, &j->p, top);
    else if (!j->csv)
        predict_text(j->c, a, j->run, &j->p, top);
    return HEED_OK;
}

/* One batch; *more is false when there was none. */
static heed_status predict_some(predict_job *j, bool *more)
{
    const heed_average average = j->a->average ? HEED_AVERAGE_MIRROR : HEED_AVERAGE_NONE;
    heed_error *err = &j->c->err;
    const char *const *names;
    heed_tensor pictures;
    int64_t n;

    TRY(heed_inputs_next(j->inputs, PREDICT_BATCH, &pictures, &names, err));
    n = pictures.type.dims[0];
    *more = n > 0;
    if (n == 0)
        return HEED_OK;
    if (j->taps)
        TRY(heed_taps_predict(j->taps, pictures, j->logits, err));
    else
        TRY(heed_run_predict(j->run, pictures, average, j->logits, err));
    for (int64_t i = 0; i < n && !ferror(stdout); i++) {
        j->p.logits = j->logits + i * j->p.classes;
        TRY(predict_tell(j, names[i]));
    }
    j->n += n;
    predict_progress(j);
    if (heed__progress_interrupted())
        return heed__cli_fail(j->c, HEED_ERR_STOPPED, "stopped after %lld pictures", (long long)j->n);
    return HEED_OK;
}

static heed_status predict_loop(predict_job *j)
{
    const predict_args *a = j->a;
    bool more = true;

    if (a->tap.n > 0)
        TRY(heed_taps_open(&j->taps, j->run, a->tap.at, (uint64_t)a->tap_memory * MEBIBYTE, &j->c->err));
    if (a->out) {
        TRY(heed_csv_begin(&j->csv, j->c->ctx, a->out, &j->c->err));
        TRY(predict_csv_head(j));
    }
    if (!a->json && !a->out)
        heed__cli_edits_line(stdout, j->run, "edited: ");
    while (more && !ferror(stdout))
        TRY(predict_some(j, &more));
    predict_summary(j);
    if (j->csv) {
        heed_csv *csv = j->csv;

        j->csv = NULL; /* gone, whatever comes of it */
        TRY(heed_csv_commit(csv, &j->c->err));
    }
    if (j->taps)
        TRY(heed_taps_write(j->taps, a->npz, &j->c->err));
    predict_written(j);
    return HEED_OK;
}

/* Said before the pictures are gone through, not after. */
static heed_status predict_can_npz(cli *c)
{
    for (const heed_feature *f = heed_features(); f->name; f++)
        if (strcmp(f->name, "npz") == 0 && !f->present)
            return heed__cli_fail(c, HEED_ERR_MISSING,
                                  "heed was built without %s, which writes NPZ: apt install %s, rebuild",
                                  f->library, f->packages);
    return HEED_OK;
}

static heed_status predict_check(cli *c, const predict_args *a)
{
    if ((a->tap.n > 0) != (a->npz != NULL))
        return heed__cli_fail(c, HEED_ERR_USAGE,
                              a->npz ? "--npz needs --tap NAME: what is to be written"
                                     : "--tap needs --npz FILE: where its arrays go");
    if (a->tap.n > 0 && a->average)
        return heed__cli_fail(c, HEED_ERR_USAGE, "taps are of one pass; leave out --average mirror");
    if (a->npz)
        TRY(predict_can_npz(c));
    if (a->out)
        TRY(heed__cli_exists(c, a->out, a->force));
    return a->npz ? heed__cli_exists(c, a->npz, a->force) : HEED_OK;
}

static heed_status predict_run(cli *c, const void *args)
{
    const predict_args *a = args;
    predict_job j = { .c = c, .a = a };
    const char **paths = calloc((size_t)a->files.n + 1, sizeof *paths);
    const char *term = getenv("TERM");
    heed_profile *profile = NULL;
    heed_status st;

    STEP(predict_check(c, a));
    STEP(heed__cli_open(c, a->threads, a->isa));
    STEP(heed__cli_profile_begin(c, &profile, a->profile, a->force));
    STEP(heed_run_open(&j.run, c->ctx, a->run, &c->err));
    STEP(heed__cli_edit(c, j.run, &a->edit));
    j.edits = heed__cli_edits_text(j.run);
    heed_model_profile(heed_run_model(j.run), profile);
    j.p.classes = heed_run_classes(j.run);
    j.p.stdin_name = j.spooled;
    j.logits = calloc((size_t)j.p.classes * PREDICT_BATCH, sizeof *j.logits);
    j.p.probability = calloc((size_t)j.p.classes, sizeof *j.p.probability);
    j.p.order = calloc((size_t)j.p.classes, sizeof *j.p.order);
    if (!paths || !j.logits || !j.p.probability || !j.p.order || !j.edits) {
        st = heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for %lld classes", (long long)j.p.classes);
        goto done;
    }
    heed__progress_catch();
    STEP(heed__cli_paths(c, &a->files, paths, j.spooled));
    STEP(heed_inputs_open(&j.inputs, j.run, paths, a->skip_bad, &c->err));
    j.live =
        c->log_terminal && !(term && strcmp(term, "dumb") == 0) && (a->out || isatty(STDOUT_FILENO) != 1);
    j.began = predict_seconds();
    STEP(predict_loop(&j));
    STEP(heed__cli_profile_end(c, profile, a->profile));
done:
    if (st != HEED_OK && j.live && j.drawn > 0)
        fputs("\r\033[K", stderr);
    heed_csv_cancel(j.csv);
    heed_taps_close(j.taps);
    heed_inputs_close(j.inputs);
    heed_run_free(j.run);
    heed_profile_free(profile);
    heed__cli_forget(c, j.spooled);
    free(paths);
    free(j.edits);
    free(j.logits);
    free(j.p.probability);
    free(j.p.order);
    return st;
}

const cli_command heed__cli_predict = {
    .name = "predict",
    .does = "say what a run sees in pictures",
    .options = predict_table,
    .args_size = sizeof(predict_args),
    .run = predict_run,
    .about =
        "Pictures are made what the run was trained on: its channels and its size. What a file is is known by its first bytes; of a"
        " folder every picture below is taken, in bytewise order of names. Pictures are read as they are needed; an IDX file is in"
        " memory while it is read.\n"
        "With --json a line is {\"input\", \"index\", \"top\": [{\"label\", \"class\", \"probability\"}], \"logits\"}; index is the record of"
        " an IDX file, 0 for a picture; logits only with --logits. With --average mirror the logits are the logarithm of the mean"
        " probability.\n"
        "--out writes CSV by RFC 4180 (UTF-8, rows ended by CR LF) in one piece at the end: input, label, class, probability, then p_CLASS"
        " for every class in the order of labels and, with --logits, logit_CLASS. input is the file, file[record] of IDX. Nothing is"
        " printed on stdout then, but for --json.\n"
        "With --edit every output says so: a first line \"edited: ...\", \"edits\": [...] in JSON, a last column edits in CSV, and in NPZ"
        " the array heed.edits, the text as bytes.\n"
        "--tap may be given several times. The NPZ file has an array for each tap, [n, ...] in the order of the pictures. An unknown"
        " name is an error that lists the taps there are.\n",
    .example = "heed predict runs/fa cat.png pictures/\n"
               "heed predict runs/fa data/fashion-mnist/t10k-images-idx3-ubyte.gz[0:10]\n"
               "heed predict runs/fa pictures/ --out result.csv --skip-bad 10\n"
               "heed predict runs/fa cat.png --tap 'pool.*' --npz taps.npz\n"
               "heed predict runs/fa cat.png --edit pool:head=0:zero\n"
               "zcat pictures.gz | heed predict runs/fa - --top-k 1 --json\n",
};
