/* heed data check: what lies in a folder, before anybody trains on it. */

#include "cli/progress.h"

#include <string.h>

typedef struct data_args {
    const char *verb, *path;
    int64_t threads;
    bool all, json;
} data_args;

static const cli_option data_table[] = {
    OPERAND(data_args, verb, .value = "check", .doc = "what to do"),
    OPERAND(data_args, path, .value = "PATH",
            .doc = "a folder of pictures for each class, or of the four IDX files"),
    SWITCH(data_args, all, .doc = "lists every bad file and every duplicate, not the first ones"),
    THREADS_OPTION(data_args),
    JSON_OPTION(data_args, "one JSON document, everything listed"),
    OPTIONS_END,
};

#define DATA_SHOWN 5

/* What makes the data bad: exit code 3. */
typedef struct data_faults {
    int64_t bad, empty, across_parts, across_classes;
    const char *first_empty;
    bool one_class;
} data_faults;

static data_faults data_judge(const heed_data_report *r)
{
    data_faults f = { .bad = r->n_bad, .one_class = r->n_classes < 2 };

    for (int64_t i = 0; i < r->n_classes; i++)
        if (r->classes[i].train == 0 && f.empty++ == 0)
            f.first_empty = r->classes[i].name;
    for (int64_t i = 0; i < r->n_twins; i++) {
        f.across_parts += r->twins[i].across_parts;
        f.across_classes += r->twins[i].across_classes;
    }
    return f;
}

/* ---- JSON ---- */

static void data_pair(const char *name, int64_t n)
{
    printf(",\"%s\":%lld", name, (long long)n);
}

static void data_json(const data_args *a, const heed_data_report *r)
{
    printf("{\"path\":");
    heed__cli_json(stdout, a->path);
    printf(",\"kind\":\"%s\"", r->kind == HEED_DATASET_IDX ? "idx" : "folder");
    data_pair("pictures", r->pictures);
    printf(",\"own_validation\":%s,\"own_test\":%s,\"classes\":[", r->own_validation ? "true" : "false",
           r->own_test ? "true" : "false");
    for (int64_t i = 0; i < r->n_classes; i++) {
        printf(i ? ",{\"name\":" : "{\"name\":");
        heed__cli_json(stdout, r->classes[i].name);
        data_pair("train", r->classes[i].train);
        data_pair("validation", r->classes[i].validation);
        data_pair("test", r->classes[i].test);
        putchar('}');
    }
    printf("],\"sizes\":[");
    for (int64_t i = 0; i < r->n_sizes; i++)
        printf("%s{\"channels\":%lld,\"height\":%lld,\"width\":%lld,\"pictures\":%lld}", i ? "," : "",
               (long long)r->sizes[i].channels, (long long)r->sizes[i].height, (long long)r->sizes[i].width,
               (long long)r->sizes[i].pictures);
    printf("],\"bad\":[");
    for (int64_t i = 0; i < r->n_bad; i++) {
        printf(i ? ",{\"source\":" : "{\"source\":");
        heed__cli_json(stdout, r->bad[i].source);
        printf(",\"why\":");
        heed__cli_json(stdout, r->bad[i].why);
        putchar('}');
    }
    printf("],\"duplicates\":[");
    for (int64_t i = 0; i < r->n_twins; i++) {
        printf(i ? ",{\"source\":" : "{\"source\":");
        heed__cli_json(stdout, r->twins[i].source);
        printf(",\"same_as\":");
        heed__cli_json(stdout, r->twins[i].other);
        printf(",\"across_parts\":%s,\"across_classes\":%s}", r->twins[i].across_parts ? "true" : "false",
               r->twins[i].across_classes ? "true" : "false");
    }
    putchar(']');
    data_pair("hidden", r->hidden);
    data_pair("no_pictures", r->others);
    data_pair("outside", r->outside);
    printf("}\n");
}

/* ---- text ---- */

/* "s" of the plural */
static const char *data_many(int64_t n)
{
    return n == 1 ? "" : "s";
}

static void data_row(const char *name, int64_t train, int64_t validation, int64_t test)
{
    char a[32], b[32], c[32];

    heed__cli_cell(stdout, name, 24);
    printf(" %9s %11s %9s\n", heed__cli_count(a, train), heed__cli_count(b, validation),
           heed__cli_count(c, test));
}

static void data_classes(const cli *c, const heed_data_report *r)
{
    int64_t train = 0, validation = 0, test = 0;

    printf("%s%-24s %9s %11s %9s%s\n", c->out.dim, "class", "train", "validation", "test", c->out.off);
    for (int64_t i = 0; i < r->n_classes; i++) {
        data_row(r->classes[i].name, r->classes[i].train, r->classes[i].validation, r->classes[i].test);
        train += r->classes[i].train;
        validation += r->classes[i].validation;
        test += r->classes[i].test;
    }
    data_row("all", train, validation, test);
    printf("\n");
}

static void data_sizes(const heed_data_report *r)
{
    char n[32];

    for (int64_t i = 0; i < r->n_sizes && i < DATA_SHOWN; i++)
        printf("%s%lld x %lld %s: %s", i ? ", " : "sizes       ", (long long)r->sizes[i].height,
               (long long)r->sizes[i].width, r->sizes[i].channels == 1 ? "grey" : "colour",
               heed__cli_count(n, r->sizes[i].pictures));
    if (r->n_sizes > DATA_SHOWN)
        printf(", and %s more size%s", heed__cli_count(n, r->n_sizes - DATA_SHOWN),
               data_many(r->n_sizes - DATA_SHOWN));
    if (r->n_sizes)
        printf(" (rows x columns)\n");
}

static void data_twins(const cli *c, const data_args *a, const heed_data_report *r, const data_faults *f)
{
    const int64_t most = a->all ? r->n_twins : DATA_SHOWN;
    int64_t shown = 0;

    if (!r->n_twins)
        return;
    printf("duplicates  %lld %s the pixels of another one", (long long)r->n_twins,
           r->n_twins == 1 ? "file has" : "files have");
    if (f->across_parts || f->across_classes)
        printf(": %s%lld in another part, %lld in another class%s", c->out.red, (long long)f->across_parts,
               (long long)f->across_classes, c->out.off);
    printf("\n");
    for (int pass = 0; pass < 2; pass++) /* the harmful ones first */
        for (int64_t i = 0; i < r->n_twins && shown < most; i++) {
            const heed_data_twin *t = &r->twins[i];

            if ((t->across_parts || t->across_classes) != (pass == 0))
                continue;
            printf("            ");
            heed__cli_text(stdout, t->source);
            printf(" = ");
            heed__cli_text(stdout, t->other);
            printf("\n");
            shown++;
        }
    if (shown < r->n_twins)
        printf("            and %lld more (--all)\n", (long long)(r->n_twins - shown));
}

static void data_bad(const cli *c, const data_args *a, const heed_data_report *r)
{
    const int64_t most = a->all ? r->n_bad : 1;

    for (int64_t i = 0; i < r->n_bad && i < most; i++) {
        printf("%sbad%s         ", c->out.red, c->out.off);
        heed__cli_text(stdout, r->bad[i].source);
        printf(": ");
        heed__cli_text(stdout, r->bad[i].why);
        printf("\n");
    }
    if (r->n_bad > most)
        printf("            and %lld more bad file%s (--all)\n", (long long)(r->n_bad - most),
               data_many(r->n_bad - most));
}

static void data_text(const cli *c, const data_args *a, const heed_data_report *r, const data_faults *f)
{
    char n[32];

    printf("%s: ", a->path);
    if (r->kind == HEED_DATASET_IDX)
        printf("IDX files, the format of MNIST");
    else
        printf("a folder of pictures for each class");
    printf("; %s picture%s, %lld class%s\n", heed__cli_count(n, r->pictures), data_many(r->pictures),
           (long long)r->n_classes, r->n_classes == 1 ? "" : "es");
    printf("validation part %s, test part %s\n\n", r->own_validation ? "of its own" : "one in ten by digest",
           r->own_test ? "of its own" : "one in ten by digest");
    data_classes(c, r);
    data_sizes(r);
    if (r->hidden || r->others || r->outside)
        printf("passed over hidden names: %lld, files that are no pictures: %lld, pictures in no class: %lld\n",
               (long long)r->hidden, (long long)r->others, (long long)r->outside);
    data_twins(c, a, r, f);
    data_bad(c, a, r);
}

static heed_status data_verdict(cli *c, const data_args *a, const data_faults *f)
{
    if (f->bad)
        return heed__cli_fail(c, HEED_ERR_FORMAT,
                              "%.200s: %lld file%s cannot be read; mend, take away, or pass over with "
                              "--set data.skip_bad=%lld",
                              a->path, (long long)f->bad, data_many(f->bad), (long long)f->bad);
    if (f->one_class)
        return heed__cli_fail(c, HEED_ERR_FORMAT,
                              "%.200s: one class only; two or more can be told apart: a sub-folder for each", a->path);
    if (f->empty == 1)
        return heed__cli_fail(c, HEED_ERR_FORMAT,
                              "%.200s: class %.60s has no picture to train on; add some or take its folder away",
                              a->path, f->first_empty);
    if (f->empty)
        return heed__cli_fail(c, HEED_ERR_FORMAT,
                              "%.200s: %lld classes have no picture to train on, the first of them %.60s; add some "
                              "or take their folders away",
                              a->path, (long long)f->empty, f->first_empty);
    if (f->across_parts)
        return heed__cli_fail(c, HEED_ERR_FORMAT,
                              "%.200s: %lld picture%s in two parts, so that a test would ask what was "
                              "trained on; keep one copy",
                              a->path, (long long)f->across_parts, f->across_parts == 1 ? " is" : "s are");
    if (f->across_classes)
        return heed__cli_fail(c, HEED_ERR_FORMAT, "%.200s: %lld picture%s in two classes; keep the right one", a->path,
                              (long long)f->across_classes, f->across_classes == 1 ? " is" : "s are");
    return HEED_OK;
}

static bool data_reading(void *user, int64_t done, int64_t total)
{
    return heed__progress_read(user, done, total);
}

static heed_status data_run(cli *c, const void *args)
{
    const data_args *a = args;
    heed_data_report *r = NULL;
    progress p;
    data_faults faults;
    heed_status st;

    if (strcmp(a->verb, "check") != 0)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed data knows no \"%.40s\"; it is: heed data check PATH",
                              a->verb);
    TRY(heed__cli_open(c, a->threads, HEED_ISA_AUTO));
    heed__progress_init(&p, c);
    heed__progress_catch();
    st = heed_data_check(
        &r, c->ctx, a->path,
        &(heed_dataset_opts){ .validation = 0.1, .test = 0.1, .progress = data_reading, .user = &p },
        &c->err);
    heed__progress_end(&p);
    if (st != HEED_OK)
        return st;
    faults = data_judge(r);
    if (a->json)
        data_json(a, r);
    else
        data_text(c, a, r, &faults);
    st = data_verdict(c, a, &faults);
    heed_data_report_free(c->ctx, r);
    return st;
}

const cli_command heed__cli_data = {
    .name = "data",
    .does = "look at pictures before training on them",
    .options = data_table,
    .args_size = sizeof(data_args),
    .run = data_run,
    .about =
        "heed data check reads every picture and says what was recognised: classes and how many pictures each part has of them, sizes,"
        " duplicates by pixels, files that cannot be read. The exit code is 3 when something is bad: a file that cannot be read, one"
        " class only, a class without pictures, the same picture in two parts or in two classes.\n"
        "A folder has a sub-folder for each class, PATH/CLASS/..., or parts of such: PATH/train/CLASS, PATH/test/CLASS and PATH/val/CLASS"
        " (valid and validation are the same). Classes are in the bytewise order of their names; folders below a class count as"
        " that class; hidden files and what is not named .png .jpg .jpeg .pgm .ppm .pnm are passed over.\n"
        "With --json: {\"path\", \"kind\", \"pictures\", \"own_validation\", \"own_test\", \"classes\": [{\"name\", \"train\","
        " \"validation\", \"test\"}], \"sizes\": [{\"channels\", \"height\", \"width\", \"pictures\"}], \"bad\": [{\"source\", \"why\"}],"
        " \"duplicates\": [{\"source\", \"same_as\", \"across_parts\", \"across_classes\"}], \"hidden\", \"no_pictures\", \"outside\"}.\n",
    .example = "heed data check my_photos\n"
               "heed data check my_photos --all --json\n",
};
