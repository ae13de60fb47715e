/* Words of the command line into the struct of a command, by its table.
 *
 *   --x=y and --x y    `--` ends the options    the last of two equal options wins
 *   option > environment variable > default: each is written over the one before */

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

void heed__cli_flag(char flag[48], const cli_option *row)
{
    if (row->kind <= CLI_OPERANDS_) {
        (void)snprintf(flag, 48, "%s", row->value);
        return;
    }
    (void)snprintf(flag, 48, "--%s", row->name);
    for (char *p = flag + 2; *p; p++)
        if (*p == '_')
            *p = '-';
}

static bool options_is_operand(const cli_option *row)
{
    return row->kind == CLI_OPERAND_ || row->kind == CLI_OPTIONAL_ || row->kind == CLI_OPERANDS_;
}

const cli_option *heed__cli_variable(int i)
{
    enum { MOST = 64 };
    const cli_option *seen[MOST];
    int n = 0;

    for (int c = -1; c < 0 || heed__cli_commands[c]; c++) {
        const cli_option *row = c < 0 ? heed__cli_common : heed__cli_commands[c]->options;

        for (; row->kind; row++) {
            bool known = !row->variable;

            for (int j = 0; j < n && !known; j++)
                known = strcmp(seen[j]->variable, row->variable) == 0;
            if (known || n == MOST)
                continue;
            if (n == i)
                return row;
            seen[n++] = row;
        }
    }
    return NULL;
}

/* Decimal digits with a sign; false when it is anything else or does not fit. */
static bool options_integer(int64_t *out, const char *text)
{
    const bool negative = *text == '-';
    uint64_t n = 0;

    text += negative;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    if (*text || n > (uint64_t)INT64_MAX)
        return false;
    *out = negative ? -(int64_t)n : (int64_t)n;
    return true;
}

/* Position in "a|b|c" of the n bytes at text; -1: none of them. */
static int options_word(const char *words, const char *text, size_t n)
{
    for (int i = 0; n; i++) {
        const char *end = strchr(words, '|');
        const size_t size = end ? (size_t)(end - words) : strlen(words);

        if (size == n && memcmp(words, text, n) == 0)
            return i;
        if (!end)
            break;
        words = end + 1;
    }
    return -1;
}

/* A list has room for every word of the command line from its first one on. */
static heed_status options_append(cli *c, cli_strings *list, const char *word)
{
    if (!list->at) {
        list->at = c->n_lists < LISTS_MOST ? calloc((size_t)c->words + 1, sizeof *list->at) : NULL;
        if (!list->at)
            return heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for %d words", c->words);
        c->lists[c->n_lists++] = list->at;
    }
    list->at[list->n++] = word;
    return HEED_OK;
}

static heed_status options_flags(cli *c, const cli_option *row, unsigned *out, const char *text, const char *called)
{
    unsigned bits = 0;

    if (!*text)
        return heed__cli_fail(c, HEED_ERR_USAGE, "%s is empty", called);
    for (const char *at = text;; at++) {
        const size_t n = strcspn(at, ",");
        const int word = options_word(row->words, at, n);

        if (word < 0)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s: \"%.*s\" is none of %s", called, n < 60 ? (int)n : 60, at,
                                  row->words);
        bits |= 1u << word;
        at += n;
        if (!*at)
            break;
    }
    *out = bits;
    return HEED_OK;
}

static heed_status options_set(cli *c, const cli_option *row, void *args, const char *text,
                               const char *called)
{
    char *member = (char *)args + row->offset;
    int64_t n = 0;
    int word;

    switch (row->kind) {
    case CLI_INTEGER_:
    case CLI_MAYBE_:
        if (!options_integer(&n, text))
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s: \"%.60s\" is no whole number", called, text);
        if (n < row->min || n > row->max)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s: %lld is outside %lld to %lld", called, (long long)n,
                                  (long long)row->min, (long long)row->max);
        if (row->kind == CLI_MAYBE_)
            *(heed_maybe_i64 *)(void *)member = (heed_maybe_i64)HEED_SET(n);
        else
            *(int64_t *)(void *)member = n;
        return HEED_OK;
    case CLI_ONE_OF_:
        word = options_word(row->words, text, strlen(text));
        if (word < 0)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s: \"%.60s\" is none of %s", called, text, row->words);
        *(int *)(void *)member = word;
        return HEED_OK;
    case CLI_FLAGS_:
        return options_flags(c, row, (unsigned *)(void *)member, text, called);
    case CLI_SWITCH_:
        *(bool *)(void *)member = true;
        return HEED_OK;
    case CLI_REPEATED_:
        if (!*text)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s is empty", called);
        return options_append(c, (cli_strings *)(void *)member, text);
    case CLI_OPERANDS_:
        return options_append(c, (cli_strings *)(void *)member, text);
    default:
        if (!*text)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s is empty", called);
        if (row->words && options_word(row->words, text, strlen(text)) < 0)
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s: \"%.60s\" is none of %s", called, text, row->words);
        *(const char **)(void *)member = text;
        return HEED_OK;
    }
}

static heed_status options_defaults(cli *c, const cli_option *row, void *args)
{
    for (; row->kind; row++) {
        const char *given = row->variable ? getenv(row->variable) : NULL;

        if (row->fallback)
            TRY(options_set(c, row, args, row->fallback, row->name));
        if (given && *given)
            TRY(options_set(c, row, args, given, row->variable));
    }
    return HEED_OK;
}

/* The row of --name among the command's own and the common ones; *object is where its member lies. */
static const cli_option *options_find(cli *c, const cli_command *command, const char *word, size_t size,
                                      void *args, void **object)
{
    for (int common = 0; common < 2; common++) {
        const cli_option *row = common ? heed__cli_common : command->options;

        for (; row->kind; row++) {
            char flag[48];

            heed__cli_flag(flag, row);
            if (options_is_operand(row) || strlen(flag) != size || memcmp(flag, word, size) != 0)
                continue;
            *object = common ? (void *)&c->common : args;
            return row;
        }
    }
    return NULL;
}

/* A word like --batch-size as the key of a recipe that other programs have an option for: "train.batch_size". */
typedef struct options_key {
    char name[48], found[96];
} options_key;

static void options_key_seek(void *user, const heed_recipe_key *key)
{
    options_key *k = user;

    if (!k->found[0] && strcmp(key->name, k->name) == 0 && key->group[0])
        (void)snprintf(k->found, sizeof k->found, "%s.%s", key->group, key->name);
}

static bool options_key_find(options_key *k, const cli_command *command, const char *given)
{
    bool sets = false;

    for (const cli_option *row = command->options; row->kind; row++)
        sets = sets || strcmp(row->name, "set") == 0;
    *k = (options_key){ .name = "" };
    (void)snprintf(k->name, sizeof k->name, "%s", given + strspn(given, "-"));
    for (char *at = k->name; *at; at++)
        *at = *at == '-' ? '_' : *at;
    if (sets)
        heed_recipe_keys(options_key_seek, k);
    return k->found[0];
}

static heed_status options_unknown(cli *c, const cli_command *command, const char *word, int size)
{
    static const char help[] = "--help";
    char flags[40][48], given[48];
    const char *words[42];
    options_key key;
    const char *near;
    int n = 0;

    for (int common = 0; common < 2; common++)
        for (const cli_option *row = common ? heed__cli_common : command->options; row->kind && n < 40; row++)
            if (!options_is_operand(row)) {
                heed__cli_flag(flags[n], row);
                words[n] = flags[n];
                n++;
            }
    words[n++] = help;
    words[n] = NULL;
    (void)snprintf(given, sizeof given, "%.*s", size < 40 ? size : 40, word);
    if (options_key_find(&key, command, given))
        return heed__cli_fail(c, HEED_ERR_USAGE,
                              "heed %s has no option %s; --set %s=VALUE sets that key of the recipe", command->name,
                              given, key.found);
    near = heed_nearest(given, words);
    if (near)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed %s has no option %s; did you mean %s?", command->name,
                              given, near);
    return heed__cli_fail(c, HEED_ERR_USAGE, "heed %s has no option %s", command->name, given);
}

static heed_status options_operand(cli *c, const cli_command *command, const cli_option **next, void *args,
                                   const char *word)
{
    while ((*next)->kind && !options_is_operand(*next))
        (*next)++;
    if (!(*next)->kind)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed %s: \"%.60s\" is one word too many", command->name,
                              word);
    TRY(options_set(c, *next, args, word, (*next)->value));
    if ((*next)->kind != CLI_OPERANDS_)
        (*next)++;
    return HEED_OK;
}

static heed_status options_missing(cli *c, const cli_command *command, const void *args)
{
    for (const cli_option *row = command->options; row->kind; row++) {
        const char *member = (const char *)args + row->offset;

        if ((row->kind == CLI_OPERAND_ && !*(const char *const *)(const void *)member) ||
            (row->kind == CLI_OPERANDS_ && ((const cli_strings *)(const void *)member)->n == 0))
            return heed__cli_fail(c, HEED_ERR_USAGE, "heed %s needs %s: %s", command->name, row->value,
                                  row->doc);
    }
    return HEED_OK;
}

bool heed__cli_given(const cli *c, const cli_option *table, const char *name)
{
    for (int i = 0; table[i].kind && i < 64; i++)
        if (strcmp(table[i].name, name) == 0)
            return c->given >> i & 1;
    return false;
}

heed_status heed__cli_parse(cli *c, const cli_command *command, int argc, char **argv, void *args, bool *help)
{
    const cli_option *next = command->options;
    bool ended = false;

    c->words = argc;
    *help = false;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        *help = *help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (*help)
        return HEED_OK;
    TRY(options_defaults(c, heed__cli_common, &c->common));
    TRY(options_defaults(c, command->options, args));
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        const char *equals = strchr(word, '=');
        const size_t size = equals ? (size_t)(equals - word) : strlen(word);
        const cli_option *row;
        const char *value = NULL;
        char flag[48];
        void *object;

        if (ended || word[0] != '-' || !word[1]) {
            TRY(options_operand(c, command, &next, args, word));
            continue;
        }
        if (strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        row = options_find(c, command, word, size, args, &object);
        if (!row)
            return options_unknown(c, command, word, (int)(size < 1000 ? size : 1000));
        heed__cli_flag(flag, row);
        if (row->kind == CLI_SWITCH_) {
            if (equals)
                return heed__cli_fail(c, HEED_ERR_USAGE, "%s takes no value", flag);
        } else if (equals) {
            value = equals + 1;
        } else if (i + 1 < argc && strcmp(argv[i + 1], "--") != 0) {
            value = argv[++i];
        } else {
            return heed__cli_fail(c, HEED_ERR_USAGE, "%s needs a value: %s", flag,
                                  row->value ? row->value : row->words);
        }
        TRY(options_set(c, row, object, value, flag));
        if (object == args && row - command->options < 64)
            c->given |= UINT64_C(1) << (row - command->options);
    }
    return options_missing(c, command, args);
}
