/* What `heed help TOPIC` explains beside the commands. What can be read from a table is read from it. */

#include "cli/cli.h"

#include <string.h>

static heed_status topics_exit_codes(cli *c, FILE *f, help_form form)
{
    static const char *const means[] = {
        [2] = "the command line is wrong, or the output is there and --force is not",
        [3] = "the input is bad: a file, a shape, a limit, a disk",
        [4] = "something is not built in, or this machine cannot do it",
        [130] = "interrupted; what was trained so far is saved",
        [1] = "the work failed: memory, a number that is not finite, a mistake in heed",
        [0] = "done",
    };
    static const int codes[] = { 0, 1, 2, 3, 4, 130 };
    char texts[6][512], numbers[6][8];
    const char *cells[12];

    (void)c;
    for (int i = 0; i < 6; i++) {
        size_t n = (size_t)snprintf(texts[i], sizeof texts[i], "%s", means[codes[i]]);

        for (int status = HEED_ERR_MEMORY; status >= HEED_ERR_BUG && n < sizeof texts[i]; status--)
            if (heed_status_exit_code((heed_status)status) == codes[i])
                n += (size_t)snprintf(texts[i] + n, sizeof texts[i] - n, "%s%s",
                                      strchr(texts[i], '_') ? ", " : " (",
                                      heed_status_name((heed_status)status));
        if (strchr(texts[i], '(') && n < sizeof texts[i])
            (void)snprintf(texts[i] + n, sizeof texts[i] - n, ")");
        (void)snprintf(numbers[i], sizeof numbers[i], "%d", codes[i]);
        cells[2 * i] = numbers[i];
        cells[2 * i + 1] = texts[i];
    }
    heed__cli_table(f, cells, 6, 2, form);
    return HEED_OK;
}

static heed_status topics_environment(cli *c, FILE *f, help_form form)
{
    static const char *const more[][2] = {
        { "NO_COLOR", "no colour, whatever its value" },
        { "FORCE_COLOR", "colour also where there is no terminal; 0 turns it off" },
        { "TERM", "\"dumb\" has no colour and no bar" },
        { "COLUMNS", "width of the progress bar where the terminal does not tell it" },
    };
    char docs[32][256];
    const char *cells[2 * 40];
    int n = 0;

    (void)c;
    for (const cli_option *row; n < 32 && (row = heed__cli_variable(n)); n++) {
        char flag[48];

        heed__cli_flag(flag, row);
        (void)snprintf(docs[n], sizeof docs[n], "stands in for %s: %s", flag, row->doc);
        cells[2 * n] = row->variable;
        cells[2 * n + 1] = docs[n];
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++, n++) {
        cells[2 * n] = more[i][0];
        cells[2 * n + 1] = more[i][1];
    }
    heed__cli_table(f, cells, n, 2, form);
    return HEED_OK;
}

/* ---- recipes: a table for each group and each architecture ---- */

enum { KEY_ROWS = 64 };

typedef struct key_page {
    FILE *f;
    help_form form;
    char keys[KEY_ROWS][64], docs[KEY_ROWS][384];
    const char *group, *architecture;
    int n;
} key_page;

static void topics_keys_end(key_page *p)
{
    const char *cells[2 * KEY_ROWS];

    for (int i = 0; i < p->n; i++) {
        cells[2 * i] = p->keys[i];
        cells[2 * i + 1] = p->docs[i];
    }
    if (p->n > 0)
        heed__cli_table(p->f, cells, p->n, 2, p->form);
    p->n = 0;
}

/* 1000000, not 1e+06; but 1e+09. */
static const char *topics_bound(char to[32], double value)
{
    (void)snprintf(to, 32, value == (double)(int32_t)value ? "%.0f" : "%g", value);
    return to;
}

/* "largest learning rate. Number, 0 to 1000; default 0.001." */
static void topics_describe(char *to, size_t size, const heed_recipe_key *key)
{
    char min[32], max[32];
    size_t n = (size_t)snprintf(to, size, "%s. %c%s", key->doc, key->kind[0] - 'a' + 'A', key->kind + 1);

    if (key->choices && n < size)
        n += (size_t)snprintf(to + n, size - n, " %s", key->choices);
    else if (key->min < key->max && key->max >= 9e14 && n < size)
        n += (size_t)snprintf(to + n, size - n, ", %s or more", topics_bound(min, key->min));
    else if (key->min < key->max && n < size)
        n += (size_t)snprintf(to + n, size - n, ", %s to %s", topics_bound(min, key->min),
                              topics_bound(max, key->max));
    if (n < size)
        (void)snprintf(to + n, size - n, key->fallback ? "; default %s." : ".", key->fallback);
}

static void topics_key(void *user, const heed_recipe_key *key)
{
    key_page *p = user;
    char title[160];

    if (key->architecture && key->architecture != p->architecture) {
        topics_keys_end(p);
        (void)snprintf(title, sizeof title, "With model.name %s (%.*s):\n", key->architecture,
                       (int)strcspn(key->model, "."), key->model);
        heed__cli_prose(p->f, title, 0, p->form);
    } else if (!p->group || strcmp(key->group, p->group) != 0) {
        topics_keys_end(p);
    }
    p->group = key->group;
    p->architecture = key->architecture;
    if (p->n == KEY_ROWS)
        return;
    (void)snprintf(p->keys[p->n], sizeof p->keys[p->n], "%s%s%s", key->group, key->group[0] ? "." : "",
                   key->name);
    topics_describe(p->docs[p->n], sizeof p->docs[p->n], key);
    p->n++;
}

static heed_status topics_recipes(cli *c, FILE *f, help_form form)
{
    key_page p = { .f = f, .form = form };

    (void)c;
    heed_recipe_keys(topics_key, &p);
    topics_keys_end(&p);
    return HEED_OK;
}

enum { FIELD_ROWS = 64 };

/* "divides the scores; default 1. Number." or "the score. One of dot, cosine." */
static void topics_field(char *to, size_t size, const heed_attention_field *f)
{
    const bool words = strchr(f->value, '|') != NULL;
    size_t n = (size_t)snprintf(to, size, "%s. %s", f->doc, words ? "One of " : "");

    for (const char *at = f->value; *at && n + 3 < size; at++) {
        if (*at == '|')
            to[n++] = ',';
        to[n++] = *at == '|' ? ' ' : !words && at == f->value ? (char)(*at - 'a' + 'A') : *at;
    }
    (void)snprintf(to + n, size - n, ".");
}

/* Fields of the descriptor: the table that reads it. */
static heed_status topics_attention(cli *c, FILE *f, help_form form)
{
    char docs[FIELD_ROWS][400];
    const char *cells[2 * FIELD_ROWS];
    int n = 0;

    (void)c;
    for (int i = 0; n < FIELD_ROWS && heed_attention_field_at(i).name; i++) {
        const heed_attention_field d = heed_attention_field_at(i);

        if (strcmp(d.value, "object") == 0 && !strchr(d.name, '.'))
            continue;
        topics_field(docs[n], sizeof docs[n], &d);
        cells[2 * n] = d.name;
        cells[2 * n + 1] = docs[n];
        n++;
    }
    heed__cli_table(f, cells, n, 2, form);
    return HEED_OK;
}

const cli_topic heed__cli_topics[] = {
    { "exit-codes", "what the exit code of every command says",
      "Each code stands for statuses of the library (include/heed/base.h). A line on stderr says what happened,"
      " where, and what to do.\n"
      "141 means that the reader of stdout went away (heed eval ... | head -1), as for a command that SIGPIPE ends;"
      " nothing is printed then. `heed train` trains on without a reader, for its result is the run.\n",
      topics_exit_codes },
    { "recipes", "the file that names data, model and training",
      "A recipe is YAML. Every key has a default but those of the data and the model. A value is taken from --set"
      " first, then from HEED_* variables, then from the file, then from the default;"
      " `heed train RECIPE --print-config` prints every value and where it came from. An unknown key is an error that names"
      " the nearest known one.\n",
      topics_recipes },
    { "attention", "the operator every model here is built on, and its descriptor",
      "heed has one attention operator (include/heed/attention.h, docs/attention.md); its descriptor chooses the variant.\n"
      "  weights = normalise over kept keys of  score(q, k) + positions\n"
      "  out     = weights v\n"
      "  q [B,Hq,Tq,Dq]  k [B,Hkv,Tk,Dk]  v [B,Hkv,Tk,Dv]  ->  out [B,Hq,Tq,Dv]\n"
      "Masks say what to keep and are combined by AND. A row with nothing to keep gives zeros, and no gradient: padding never makes a NaN."
      " With Hq > Hkv, groups of query heads share a key head (Ainslie 2023). The weights reported are those before dropout and after the"
      " mask. Asking for them changes no bit of the result.\n"
      "Fields of the descriptor as JSON, as `heed attend --spec` reads it; each is optional:\n",
      topics_attention },
    { "edit", "changing values inside a model, to see what they do",
      "`--edit` of predict, explain and eval changes a value inside the model; what reads it then reads the changed one. It may"
      " be given several times; edits of one value are made in their order.\n"
      "  PATH:KIND              encoder.0.out:add=0.1\n"
      "  PATH:SELECTION:KIND    encoder.1.attn:head=3:zero\n"
      "PATH is a tap, or an attention by its scope; an unknown name is an error that lists those there are. Of an attention the"
      " weights are edited, as they are multiplied by v, before dropout.\n"
      "  SELECTION  head=3  row=0-4  key=7, split by commas: what lies in all of them; numbers from 0; a row is a query\n"
      "  zero       0\n"
      "  scale=C    times C\n"
      "  set=C      C\n"
      "  add=C      plus C\n"
      "  take=FILE  what the NPZ file has under PATH: of heed explain --format npz, or heed predict --npz, of one picture\n"
      "Weights are not made to sum to one again: without a head its output is zeros, without a key the others keep their weights."
      " An edited attention runs as separate products, so its numbers may differ in the last bits from those of the closed one;"
      " without --edit no bit changes. Every output that was made under an edit says so.\n",
      NULL },
    { "isa", "instruction levels, and what they promise",
      "Kernels are written once and compiled for each level; the best one this CPU has is taken unless --isa or HEED_ISA"
      " names another. `heed version` prints which levels this CPU has.\n"
      "  portable    plain C, sums in scalar order: the same bits from every compiler and CPU\n"
      "  x86-64-v3   AVX2 and FMA\n"
      "  x86-64-v4   AVX-512\n"
      "  neon        64-bit ARM\n"
      "On one level the result is the same to the bit for any number of threads and after every restart. Between levels"
      " sums are rounded in another order, so results agree to a few units of the last place, not to the bit. A level that"
      " this CPU lacks ends with exit code 4.\n",
      NULL },
    { "environment", "variables that the command reads",
      "An option on the command line is stronger than its variable, a variable stronger than the recipe, the recipe stronger"
      " than the default.\n",
      topics_environment },
    { NULL, NULL, NULL, NULL },
};
