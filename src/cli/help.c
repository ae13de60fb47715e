/* heed help: the tables of the commands as text, as Markdown (docs/cli.md) and as a man page. */

#include "cli/cli.h"

#include <string.h>

#define COLUMNS 80

/* ---- prose and tables ---- */

/* One escaped character of a man page or of a Markdown table. */
static void help_char(FILE *f, char ch, help_form form, bool cell)
{
    if (form == HELP_MAN && ch == '\\')
        fputs("\\e", f);
    else if (form == HELP_MAN && ch == '-')
        fputs("\\-", f);
    else if (form == HELP_MARKDOWN && cell && ch == '|')
        fputs("\\|", f);
    else if (form == HELP_MARKDOWN && cell && (ch == '<' || ch == '*'))
        fprintf(f, "\\%c", ch);
    else
        (void)putc(ch, f);
}

static void help_put(FILE *f, const char *text, size_t n, help_form form, bool cell)
{
    for (size_t i = 0; i < n; i++)
        help_char(f, text[i], form, cell);
}

/* Words of one paragraph, wrapped; `at` is the column where it begins. */
static void help_wrap(FILE *f, const char *text, size_t size, int indent, int at)
{
    size_t i = 0;

    while (i < size) {
        size_t n = 0, columns = 0;

        while (i < size && text[i] == ' ')
            i++;
        while (i + n < size && text[i + n] != ' ') {
            columns += (text[i + n] & 0xc0) != 0x80;
            n++;
        }
        if (n == 0)
            break;
        if (at > indent && at + 1 + (int)columns > COLUMNS) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        if (at > indent) {
            (void)putc(' ', f);
            at++;
        }
        (void)fwrite(text + i, 1, n, f);
        at += (int)columns;
        i += n;
    }
    (void)putc('\n', f);
}

static void help_verbatim(FILE *f, help_form form, bool begin)
{
    if (form == HELP_MARKDOWN)
        fputs(begin ? "```\n" : "```\n\n", f);
    else if (form == HELP_MAN)
        fputs(begin ? ".PP\n.nf\n" : ".fi\n", f);
    else if (!begin)
        (void)putc('\n', f);
}

void heed__cli_prose(FILE *f, const char *text, int indent, help_form form)
{
    bool verbatim = false;

    for (const char *line = text; *line;) {
        const char *end = strchr(line, '\n');
        const size_t size = end ? (size_t)(end - line) : strlen(line);
        const bool stays = size >= 2 && line[0] == ' ' && line[1] == ' ';

        if (stays != verbatim)
            help_verbatim(f, form, stays);
        verbatim = stays;
        if (stays) {
            fprintf(f, "%*s", form == HELP_TEXT ? indent : 0, "");
            help_put(f, line + (form == HELP_TEXT ? 0 : 2), size - (form == HELP_TEXT ? 0 : 2), form, false);
            (void)putc('\n', f);
        } else if (size > 0 && form == HELP_MAN) {
            fputs(".PP\n", f);
            help_put(f, line, size, form, false);
            (void)putc('\n', f);
        } else if (size > 0 && form == HELP_MARKDOWN) {
            fprintf(f, "%.*s\n\n", (int)size, line);
        } else if (size > 0) {
            fprintf(f, "%*s", indent, "");
            help_wrap(f, line, size, indent, indent);
            (void)putc('\n', f);
        }
        line += size + (end != NULL);
    }
    if (verbatim)
        help_verbatim(f, form, false);
}

static void help_row(FILE *f, const char *const *cells, int columns, const int *widths, help_form form)
{
    int at = 2;

    if (form == HELP_MAN) { /* the first cells are the tag, the last one the paragraph */
        fputs(".TP\n.B ", f);
        for (int i = 0; i + 1 < columns; i++) {
            fputs(i && cells[i][0] ? "  " : "", f);
            help_put(f, cells[i], strlen(cells[i]), form, true);
        }
        (void)putc('\n', f);
        help_put(f, cells[columns - 1], strlen(cells[columns - 1]), form, true);
        (void)putc('\n', f);
        return;
    }
    if (form == HELP_MARKDOWN) {
        fputs("|", f);
        for (int i = 0; i < columns; i++) {
            fputs(i == 0 && cells[0][0] ? " `" : " ", f);
            help_put(f, cells[i], strlen(cells[i]), form, true);
            fputs(i == 0 && cells[0][0] ? "` |" : cells[i][0] ? " |" : "|", f);
        }
        (void)putc('\n', f);
        return;
    }
    fputs("  ", f);
    for (int i = 0; i + 1 < columns; i++) {
        fputs(cells[i], f);
        at += widths[i] + 2;
        if ((int)strlen(cells[i]) > widths[i])
            fprintf(f, "\n%*s", at, "");
        else
            fprintf(f, "%*s", widths[i] - (int)strlen(cells[i]) + 2, "");
    }
    help_wrap(f, cells[columns - 1], strlen(cells[columns - 1]), at, at);
}

void heed__cli_table(FILE *f, const char *const *cells, int rows, int columns, help_form form)
{
    int widths[8] = { 0 };

    for (int i = 0; i < rows * columns; i++) {
        const int size = (int)strlen(cells[i]);

        if (size > widths[i % columns] && size <= 26)
            widths[i % columns] = size;
    }
    if (form == HELP_MARKDOWN) {
        for (int i = 0; i < columns; i++)
            fputs(i ? "  |" : "|  |", f);
        fputs("\n|", f);
        for (int i = 0; i < columns; i++)
            fputs("---|", f);
        (void)putc('\n', f);
    }
    for (int i = 0; i < rows; i++)
        help_row(f, cells + i * columns, columns, widths, form);
    if (form != HELP_MAN)
        (void)putc('\n', f);
}

/* ---- a command ---- */

static bool help_operand(const cli_option *row)
{
    return row->kind == CLI_OPERAND_ || row->kind == CLI_OPTIONAL_ || row->kind == CLI_OPERANDS_;
}

static void help_usage(char *to, size_t size, const cli_command *command)
{
    size_t n = (size_t)snprintf(to, size, "heed %s", command->name);
    bool options = false;

    for (const cli_option *row = command->options; row->kind; row++)
        if (help_operand(row) && n < size)
            n += (size_t)snprintf(to + n, size - n,
                                  row->kind == CLI_OPTIONAL_   ? " [%s]"
                                  : row->kind == CLI_OPERANDS_ ? " %s..."
                                                               : " %s",
                                  row->value);
        else
            options = true;
    if (options && n < size)
        (void)snprintf(to + n, size - n, " [options]");
}

/* "--top-k K", and the sentence with range, default and variable. */
static void help_describe(const cli_option *row, char name[96], char doc[512])
{
    char flag[48];
    int n;

    heed__cli_flag(flag, row);
    if (help_operand(row))
        (void)snprintf(name, 96, "%s%s", flag, row->kind == CLI_OPERANDS_ ? "..." : "");
    else if (row->kind == CLI_SWITCH_)
        (void)snprintf(name, 96, "%s", flag);
    else
        (void)snprintf(name, 96, "%s %s", flag, row->words ? row->words : row->value);
    n = snprintf(doc, 512, "%s", row->doc);
    for (char *bar = name; row->kind == CLI_FLAGS_ && (bar = strchr(bar, '|'));)
        *bar = ',';
    if (row->kind == CLI_INTEGER_ || row->kind == CLI_MAYBE_)
        n += row->max == INT64_MAX ? snprintf(doc + n, 512 - (size_t)n, ". %lld or more", (long long)row->min)
                                   : snprintf(doc + n, 512 - (size_t)n, ". %lld to %lld", (long long)row->min,
                                              (long long)row->max);
    if (row->kind == CLI_REPEATED_)
        n += snprintf(doc + n, 512 - (size_t)n, ". May be given many times");
    if (row->fallback)
        n += snprintf(doc + n, 512 - (size_t)n, ". Default %s", row->fallback);
    if (row->variable)
        n += snprintf(doc + n, 512 - (size_t)n, ". Variable %s", row->variable);
    (void)snprintf(doc + n, 512 - (size_t)n, ".");
}

static void help_options(FILE *f, const cli_command *command, help_form form)
{
    char names[40][96], docs[40][512];
    const char *cells[80];
    int n = 0;

    for (int common = 0; common < 2; common++)
        for (const cli_option *row = common ? heed__cli_common : command->options; row->kind && n < 39;
             row++) {
            help_describe(row, names[n], docs[n]);
            cells[2 * n] = names[n];
            cells[2 * n + 1] = docs[n];
            n++;
        }
    cells[2 * n] = "--help";
    cells[2 * n + 1] = "this page.";
    heed__cli_table(f, cells, n + 1, 2, form);
}

static char help_capital(const char *sentence)
{
    return sentence[0] >= 'a' && sentence[0] <= 'z' ? (char)(sentence[0] - 'a' + 'A') : sentence[0];
}

void heed__cli_help_on(FILE *f, const cli_command *command, help_form form)
{
    char usage[256];

    help_usage(usage, sizeof usage, command);
    if (form == HELP_MARKDOWN) {
        fprintf(f, "## heed %s\n\n%c%s.\n\n```\n%s\n```\n\n", command->name, help_capital(command->does),
                command->does + 1, usage);
    } else if (form == HELP_MAN) {
        fprintf(f, ".SH \"heed %s\"\n.B %s\n.PP\n%s.\n", command->name, usage, command->does);
    } else {
        fprintf(f, "heed %s: %s\n\nusage: %s\n\n", command->name, command->does, usage);
    }
    help_options(f, command, form);
    if (command->about)
        heed__cli_prose(f, command->about, 0, form);
    if (command->example) {
        if (form == HELP_MARKDOWN)
            fprintf(f, "```sh\n%s```\n\n", command->example);
        else if (form == HELP_MAN) {
            fputs(".PP\n.nf\n", f);
            help_put(f, command->example, strlen(command->example), form, false);
            fputs(".fi\n", f);
        } else {
            fprintf(f, "examples:\n%s", command->example);
        }
    }
}

/* ---- the pages ---- */

static void help_commands(FILE *f, help_form form)
{
    const char *cells[64];
    int n = 0;

    for (; heed__cli_commands[n] && n < 31; n++) {
        cells[2 * n] = heed__cli_commands[n]->name;
        cells[2 * n + 1] = heed__cli_commands[n]->does;
    }
    heed__cli_table(f, cells, n, 2, form);
}

static void help_topics(FILE *f, help_form form)
{
    const char *cells[64];
    int n = 0;

    for (; heed__cli_topics[n].name && n < 31; n++) {
        cells[2 * n] = heed__cli_topics[n].name;
        cells[2 * n + 1] = heed__cli_topics[n].does;
    }
    heed__cli_table(f, cells, n, 2, form);
}

void heed__cli_overview(FILE *f)
{
    fprintf(f, "heed %s: neural networks with attention\n\nusage: heed COMMAND [words]\n\n", HEED_VERSION);
    help_commands(f, HELP_TEXT);
    fputs("heed help COMMAND tells more; so do these, with heed help:\n\n", f);
    help_topics(f, HELP_TEXT);
}

heed_status heed__cli_help_topic(cli *c, FILE *f, const cli_topic *topic, help_form form)
{
    if (form == HELP_MARKDOWN)
        fprintf(f, "## %s\n\n%c%s.\n\n", topic->name, help_capital(topic->does), topic->does + 1);
    else if (form == HELP_MAN)
        fprintf(f, ".SH \"%s\"\n%s.\n", topic->name, topic->does);
    else
        fprintf(f, "%s: %s\n\n", topic->name, topic->does);
    heed__cli_prose(f, topic->text, 0, form);
    return topic->print ? topic->print(c, f, form) : HEED_OK;
}

static heed_status help_everything(cli *c, help_form form)
{
    if (form == HELP_MARKDOWN) {
        fputs(
            "# The command\n\nWritten by `heed help --markdown > docs/cli.md`; a test compares the two.\n\n",
            stdout);
    } else if (form == HELP_MAN) {
        printf(".TH HEED 1 \"\" \"heed %s\" \"\"\n.SH NAME\nheed \\- neural networks with attention\n"
               ".SH SYNOPSIS\n.B heed\n.I command\n[words]\n.SH COMMANDS\n",
               HEED_VERSION);
    }
    help_commands(stdout, form);
    for (int i = 0; heed__cli_commands[i]; i++)
        heed__cli_help_on(stdout, heed__cli_commands[i], form);
    for (int i = 0; heed__cli_topics[i].name; i++)
        TRY(heed__cli_help_topic(c, stdout, &heed__cli_topics[i], form));
    return HEED_OK;
}

typedef struct help_args {
    const char *topic;
    bool markdown, man;
} help_args;

static const cli_option help_table[] = {
    OPTIONAL(help_args, topic, .value = "TOPIC", .doc = "a command or a topic; without it a list of both"),
    SWITCH(help_args, markdown, .doc = "as Markdown; without a topic everything, which is docs/cli.md"),
    SWITCH(help_args, man, .doc = "as a man page; without a topic everything"),
    OPTIONS_END,
};

static heed_status help_unknown(cli *c, const char *name)
{
    const char *words[64];
    const char *near;
    int n = 0;

    for (int i = 0; heed__cli_commands[i] && n < 31; i++)
        words[n++] = heed__cli_commands[i]->name;
    for (int i = 0; heed__cli_topics[i].name && n < 63; i++)
        words[n++] = heed__cli_topics[i].name;
    words[n] = NULL;
    near = heed_nearest(name, words);
    if (near)
        return heed__cli_fail(c, HEED_ERR_USAGE, "no help on \"%.60s\"; did you mean %s?", name, near);
    return heed__cli_fail(c, HEED_ERR_USAGE, "no help on \"%.60s\"", name);
}

static heed_status help_run(cli *c, const void *args)
{
    const help_args *a = args;
    const help_form form = a->markdown ? HELP_MARKDOWN : a->man ? HELP_MAN : HELP_TEXT;
    const cli_command *command = a->topic ? heed__cli_find(a->topic) : NULL;

    if (a->markdown && a->man)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--markdown and --man are two forms; choose one");
    if (!a->topic && form == HELP_TEXT) {
        heed__cli_overview(stdout);
        return HEED_OK;
    }
    if (!a->topic)
        return help_everything(c, form);
    if (command) {
        heed__cli_help_on(stdout, command, form);
        return HEED_OK;
    }
    for (int i = 0; heed__cli_topics[i].name; i++)
        if (strcmp(heed__cli_topics[i].name, a->topic) == 0)
            return heed__cli_help_topic(c, stdout, &heed__cli_topics[i], form);
    return help_unknown(c, a->topic);
}

const cli_command heed__cli_help = {
    .name = "help",
    .does = "explain a command or a topic",
    .options = help_table,
    .args_size = sizeof(help_args),
    .run = help_run,
    .example = "heed help train\nheed help exit-codes\nheed help --man > heed.1\n",
};
