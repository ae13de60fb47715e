/* heed explain: what a run attends to in pictures, and whether to believe it: on the terminal, as files,
 * as JSON lines. */

#define _XOPEN_SOURCE 700 /* also what POSIX 2008 has */
#define _DEFAULT_SOURCE   /* the size of a terminal */

#include "cli/cli.h"
#include "cli/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct explain_args {
    const char *run, *out, *target;
    cli_strings inputs, edit;
    heed_maybe_i64 layer, head;
    unsigned method, format;
    int64_t orders, seed, skip_bad, threads;
    int isa;
    bool force, json;
} explain_args;

#define EXPLAIN_MAPS ((1u << HEED_EXPLAIN_METHODS) - 1)
#define EXPLAIN_ALL (2u << HEED_EXPLAIN_ABLATION)
#define EXPLAIN_TERM (1u << HEED_EXPLAIN_FORMATS)

static const cli_option explain_table[] = {
    OPERAND(explain_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    OPERANDS(
        explain_args, inputs, .value = "INPUT",
        .doc =
            "pictures (PNG, JPEG, PGM, PPM), folders of them, IDX files; file.idx.gz[7:8] takes number 7, - "
            "reads one of these from stdin"),
    PATH(explain_args, out, .value = "DIR",
         .doc = "where the files go, one for each input and format; made when it is missing"),
    FLAGS(
        explain_args, format, .words = "png|svg|html|npz|json|term",
        .doc =
            "what to make; all but term and json need --out. term is the default without --out, html with "
            "it"),
    FLAGS(explain_args, method, .words = "raw|rollout|gradient|received|occlusion|ablation|all",
          .fallback = "all",
          .doc = "how maps are made, all of them, or what the model loses without each head (heed help explain)"),
    MAYBE(explain_args, layer, .value = "N", .max = 1000000,
          .doc = "number of an attention: raw shows it, others go from the input to it; the last by itself"),
    MAYBE(explain_args, head, .value = "N", .max = 1000000,
          .doc = "only that head; the mean of all by itself"),
    STRING(explain_args, target, .value = "CLASS",
           .doc = "the class to explain, by name or number; the predicted one by itself"),
    EDIT_OPTION(explain_args),
    INTEGER(explain_args, orders, .value = "N", .min = 1, .max = 10000, .fallback = "100",
            .doc = "random orders that the deletion test compares a map with"),
    INTEGER(explain_args, seed, .value = "N", .max = 4294967295, .fallback = "0",
            .doc = "of the random orders"),
    INTEGER(explain_args, skip_bad, .value = "N", .max = 1000000000, .fallback = "0",
            .doc = "passes over so many pictures that cannot be read"),
    FORCE_OPTION(explain_args, "writes over files that are there"),
    THREADS_OPTION(explain_args),
    ISA_OPTION(explain_args),
    JSON_OPTION(explain_args, "a JSON object a line, in the order of the input"),
    OPTIONS_END,
};

typedef struct explain_job {
    cli *c;
    const explain_args *a;
    heed_run *run;
    heed_inputs *inputs;
    heed_explain_opts opts;
    unsigned format;
    bool json;          /* lines on stdout */
    const char *folder; /* "" for none */
    char **names;       /* owns: stems of the files made so far, each once */
    int64_t n_names, room;
    char spooled[512];
} explain_job;

/* ---- names of files ---- */

/* A stem from the name of an input: what stands behind the last slash; letters, digits, . - _ and what is
 * not ASCII stay, brackets around a number vanish, all else becomes _. No stem is hidden, empty or longer
 * than 120 bytes. */
static void explain_stem(char to[140], const char *name)
{
    const char *slash = strrchr(name, '/');
    size_t n = 0;

    for (name = slash ? slash + 1 : name; *name && n < 120; name++) {
        const unsigned char c = (unsigned char)*name;
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (c == ']' && !name[1])
            break;
        to[n] = letter || strchr("-_", c) || c >= 0x80 || (c == '.' && n > 0) ? (char)c : '_';
        n++;
    }
    while (n > 0 && *name && ((unsigned char)*name & 0xc0) == 0x80 && ((unsigned char)to[n - 1] & 0x80)) {
        n--; /* a character that was cut in two goes whole */
        if (((unsigned char)to[n] & 0xc0) == 0xc0)
            break;
    }
    if (n == 0)
        to[n++] = '_';
    to[n] = 0;
}

static bool explain_known(const explain_job *j, const char *stem)
{
    for (int64_t i = 0; i < j->n_names; i++)
        if (strcasecmp(j->names[i], stem) == 0) /* some file systems see no case */
            return true;
    return false;
}

/* The stem of this input; a second cat.png is cat.png_2. */
static heed_status explain_name(explain_job *j, const char *input, const char **out)
{
    char first[140], stem[164];

    explain_stem(first, input);
    (void)snprintf(stem, sizeof stem, "%s", first);
    for (int64_t i = 2; explain_known(j, stem); i++)
        (void)snprintf(stem, sizeof stem, "%s_%lld", first, (long long)i);
    if (j->n_names == j->room) {
        char **grown = realloc(j->names, (size_t)(2 * j->room + 16) * sizeof *grown);

        if (!grown)
            return heed__cli_fail(j->c, HEED_ERR_MEMORY, "no memory for the names of files");
        j->names = grown;
        j->room = 2 * j->room + 16;
    }
    j->names[j->n_names] = strdup(stem);
    if (!j->names[j->n_names])
        return heed__cli_fail(j->c, HEED_ERR_MEMORY, "no memory for the names of files");
    *out = j->names[j->n_names++];
    return HEED_OK;
}

/* "DIR/STEM.html" */
static heed_status explain_path(const explain_job *j, char to[4096], const char *stem, int format)
{
    static const char *const ends[HEED_EXPLAIN_FORMATS] = { "png", "svg", "html", "npz", "json" };
    const size_t n = strlen(j->folder);
    const int size = snprintf(to, 4096, "%s%s%s.%s", j->folder, n && j->folder[n - 1] == '/' ? "" : "/", stem,
                              ends[format]);

    return size < 4096 ? HEED_OK
                       : heed__cli_fail(j->c, HEED_ERR_USAGE, "--out: the folder's name is too long");
}

static heed_status explain_folder(cli *c, const char *path)
{
    char part[4096];
    int error;

    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--out: the folder's name is too long");
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(part, 0777); /* the last one tells */
        *slash = '/';
    }
    if (mkdir(part, 0777) == 0)
        return HEED_OK;
    error = errno; /* looking whether it is there has reasons of its own */
    if (heed__cli_is_folder(path))
        return HEED_OK;
    return heed__cli_fail(c, HEED_ERR_IO, "cannot make the folder %.300s: %s", path,
                          error == EEXIST ? "a file has that name" : strerror(error));
}

/* ---- words of the command line ---- */

/* What is asked for, and that it can be done, before anything is read. */
static heed_status explain_check(explain_job *j)
{
    const explain_args *a = j->a;
    const unsigned in_files = (1u << HEED_EXPLAIN_FORMATS) - 1, json = 1u << HEED_EXPLAIN_JSON;

    j->folder = a->out ? a->out : "";
    j->format = a->format;
    if (!j->format && a->out)
        j->format = 1u << HEED_EXPLAIN_HTML;
    else if (!j->format && !a->json)
        j->format = EXPLAIN_TERM;
    j->json = a->json || (!a->out && (j->format & json));
    if (!a->out)
        j->format &= ~json;
    if ((j->format & in_files) && !a->out)
        return heed__cli_fail(j->c, HEED_ERR_USAGE,
                              "--format png, svg, html and npz need --out DIR: the folder for the files");
    if (a->out && !(j->format & in_files))
        return heed__cli_fail(j->c, HEED_ERR_USAGE,
                              "--out is given, but no format that is a file: --format html, say");
    if (j->json && (j->format & EXPLAIN_TERM))
        return heed__cli_fail(j->c, HEED_ERR_USAGE,
                              "stdout carries either JSON lines or the view of a terminal, not both");
    j->opts = (heed_explain_opts){
        .layer = a->layer, .head = a->head, .orders = a->orders, .seed = (uint64_t)a->seed
    };
    j->opts.methods = a->method & EXPLAIN_ALL ? a->method & ~EXPLAIN_ALL & ~EXPLAIN_MAPS : a->method;
    if (a->method & EXPLAIN_ALL)
        j->opts.methods |= EXPLAIN_MAPS;
    return HEED_OK;
}

/* A class by its name, else by its number. */
static heed_status explain_target(explain_job *j)
{
    const int64_t classes = heed_run_classes(j->run);
    const char *word = j->a->target;
    const char **names;
    int64_t number = 0;
    heed_status st;

    for (int64_t i = 0; i < classes; i++)
        if (strcmp(heed_run_class(j->run, i), word) == 0) {
            j->opts.target = (heed_maybe_i64)HEED_SET(i);
            return HEED_OK;
        }
    if (*word && word[strspn(word, "0123456789")] == 0) {
        for (const char *at = word; *at && number < classes; at++)
            number = number * 10 + (*at - '0');
        if (number >= classes)
            return heed__cli_fail(j->c, HEED_ERR_USAGE,
                                  "--target: there is no class %.20s: classes are 0 to %lld", word,
                                  (long long)classes - 1);
        j->opts.target = (heed_maybe_i64)HEED_SET(number);
        return HEED_OK;
    }
    names = calloc((size_t)classes + 1, sizeof *names);
    if (!names)
        return heed__cli_fail(j->c, HEED_ERR_MEMORY, "no memory for %lld names of classes",
                              (long long)classes);
    for (int64_t i = 0; i < classes; i++)
        names[i] = heed_run_class(j->run, i);
    word = heed_nearest(j->a->target, names);
    st = word ? heed__cli_fail(j->c, HEED_ERR_USAGE,
                               "--target: no class is called \"%.60s\"; did you mean %.60s?", j->a->target,
                               word)
              : heed__cli_fail(j->c, HEED_ERR_USAGE,
                               "--target: no class is called \"%.60s\"; the first is %.60s", j->a->target,
                               names[0] ? names[0] : "");
    free(names);
    return st;
}

/* ---- one picture ---- */

static int explain_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int n = 0;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    for (; columns && *columns >= '0' && *columns <= '9' && n < 1000; columns++)
        n = n * 10 + (*columns - '0');
    return n > 0 ? n : 80;
}

static heed_status explain_show(const explain_job *j, const heed_explanation *e, bool first)
{
    const heed_terminal terminal = j->c->out.bold[0] ? HEED_TERMINAL_256 : HEED_TERMINAL_ASCII;
    char *words = NULL;

    TRY(heed_explanation_text(&words, j->c->ctx, e, terminal, explain_width(), &j->c->err));
    printf("%s%s", first ? "" : "\n", words);
    heed_text_free(j->c->ctx, words);
    return HEED_OK;
}

static heed_status explain_line(const explain_job *j, const heed_explanation *e)
{
    char *words = NULL;

    TRY(heed_explanation_json(&words, j->c->ctx, e, &j->c->err));
    puts(words);
    heed_text_free(j->c->ctx, words);
    return HEED_OK;
}

/* Files are looked for before the work, so that a refusal comes at once. */
static heed_status explain_may_write(const explain_job *j, const char *stem)
{
    char path[4096];

    for (int f = 0; f < HEED_EXPLAIN_FORMATS; f++) {
        if (!(j->format & 1u << f))
            continue;
        TRY(explain_path(j, path, stem, f));
        TRY(heed__cli_exists(j->c, path, j->a->force));
    }
    return HEED_OK;
}

static heed_status explain_write(const explain_job *j, const heed_explanation *e, const char *stem)
{
    char path[4096];

    for (int f = 0; f < HEED_EXPLAIN_FORMATS; f++) {
        if (!(j->format & 1u << f))
            continue;
        TRY(explain_path(j, path, stem, f));
        TRY(heed_explanation_write(j->c->ctx, e, (heed_explain_format)f, path, &j->c->err));
        if (!j->json) {
            heed__cli_text(stdout, path);
            putchar('\n');
        }
    }
    return HEED_OK;
}

static heed_status explain_one(explain_job *j, heed_tensor pictures, const char *name, bool first)
{
    heed_tensor picture = { .type = heed_type_of(pictures.type.dtype, 3, pictures.type.dims + 1),
                            .data = pictures.data };
    const bool spooled = j->spooled[0] && strncmp(name, j->spooled, strlen(j->spooled)) == 0;
    char shown[64];
    heed_explanation *e = NULL;
    const char *stem = "";
    heed_status st;

    if (spooled) {
        (void)snprintf(shown, sizeof shown, "stdin%.50s", name + strlen(j->spooled));
        name = shown;
    }
    STEP(explain_name(j, name, &stem));
    STEP(explain_may_write(j, stem));
    STEP(heed_run_explain(&e, j->run, picture, name, -1, &j->opts, &j->c->err));
    if (j->format & EXPLAIN_TERM)
        STEP(explain_show(j, e, first));
    if (j->json)
        STEP(explain_line(j, e));
    STEP(explain_write(j, e, stem));
done:
    heed_explanation_free(j->c->ctx, e);
    return st;
}

static heed_status explain_all(explain_job *j)
{
    const char *const *names;
    heed_tensor pictures;
    int64_t n = 0;

    for (;; n++) {
        TRY(heed_inputs_next(j->inputs, 1, &pictures, &names, &j->c->err));
        if (pictures.type.dims[0] == 0)
            break;
        TRY(explain_one(j, pictures, names[0], n == 0));
        if (ferror(stdout))
            return HEED_OK; /* the flush tells */
        if (fflush(stdout) == 0 && heed__progress_interrupted())
            return heed__cli_fail(j->c, HEED_ERR_STOPPED, "stopped after %lld pictures", (long long)n + 1);
    }
    if (heed_inputs_skipped(j->inputs) > 0)
        fprintf(stderr, "%lld pictures could not be read and were passed over\n",
                (long long)heed_inputs_skipped(j->inputs));
    if (n == 0)
        return heed__cli_fail(j->c, HEED_ERR_USAGE, "there is no picture in what was given");
    return HEED_OK;
}

static heed_status explain_run(cli *c, const void *args)
{
    const explain_args *a = args;
    explain_job j = { .c = c, .a = a };
    const char **paths = calloc((size_t)a->inputs.n + 1, sizeof *paths);
    heed_status st;

    if (!paths)
        return heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for %d names", a->inputs.n);
    STEP(explain_check(&j));
    STEP(heed__cli_open(c, a->threads, a->isa));
    STEP(heed_run_open(&j.run, c->ctx, a->run, &c->err));
    STEP(heed__cli_edit(c, j.run, &a->edit));
    if (a->target)
        STEP(explain_target(&j));
    if (a->out)
        STEP(explain_folder(c, a->out));
    heed__progress_catch();
    STEP(heed__cli_paths(c, &a->inputs, paths, j.spooled));
    STEP(heed_inputs_open(&j.inputs, j.run, paths, a->skip_bad, &c->err));
    STEP(explain_all(&j));
done:
    heed_inputs_close(j.inputs);
    heed_run_free(j.run);
    heed__cli_forget(c, j.spooled);
    for (int64_t i = 0; i < j.n_names; i++)
        free(j.names[i]);
    free(j.names);
    free(paths);
    return st;
}

const cli_command heed__cli_explain = {
    .name = "explain",
    .does = "show what a run attends to, and whether to believe it",
    .options = explain_table,
    .args_size = sizeof(explain_args),
    .run = explain_run,
    .about =
        "Attention shows mixing weights, not causes. So each map comes with a deletion test: the cells that "
        "it marks are replaced by the mean picture, the most important first, and the probability of the "
        "class is watched. The area under that curve is compared with random orders: better than random, no "
        "better, or worse.\n"
        "Maps:\n"
        "  raw        the weights of one attention, of the query that is read\n"
        "  rollout    weights of all layers multiplied (Abnar, Zuidema 2020)\n"
        "  gradient   weights that would raise the class if they grew (Chefer 2021)\n"
        "  received   how much weight each cell gets from all queries\n"
        "  occlusion  how far the class falls when a cell is blanked; uses no attention\n"
        "all is all maps. ablation is none: it zeroes each head in turn and ranks heads by what the loss of the "
        "class gains; all,ablation gives both.\n"
        "--edit explains a changed model, and every output says so (heed help edit).\n"
        "Formats:\n"
        "  term  for this terminal: colours, or letters where there are none\n"
        "  png   picture and maps side by side, no heads\n"
        "  svg   the same with verdicts and curves\n"
        "  html  one page that needs no network: every head, with its numbers\n"
        "  npz   weights for NumPy: [1, heads, queries, keys] for each attention\n"
        "  json  all of it; a line for each picture on stdout where --out is missing\n"
        "A file is called after its input: cat.png.html, t10k-images-idx3-ubyte.gz_7.svg; a second cat.png "
        "is cat.png_2. The files' names are printed on stdout.\n",
    .example =
        "heed explain runs/fa cat.png\n"
        "heed explain runs/fa cat.png dog.png --method rollout,occlusion --format png,html --out maps\n"
        "heed explain runs/fa cat.png --method ablation\n"
        "heed explain runs/fa cat.png --edit pool:head=0:zero\n"
        "heed explain runs/fa pictures/ --target Bag --json --skip-bad 10\n",
};
