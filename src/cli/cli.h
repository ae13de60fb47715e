/* The command: one table a command gives parsing, --help, the man page, the Markdown page and completion.
 *
 * stdout carries results, stderr progress and errors. A command returns a status; main() turns it into a
 * line of text and an exit code. The command uses public headers only. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <heed/heed.h>

#include <stdio.h>

/* ---- tables ---- */

typedef struct cli_strings {
    const char **at; /* owned by the parser; the words are the user's */
    int n;
} cli_strings;

typedef enum cli_kind {
    CLI_END_ = 0,
    CLI_OPERAND_,  /* const char *, required */
    CLI_OPTIONAL_, /* const char *, NULL when it is not given */
    CLI_OPERANDS_, /* cli_strings, one or more */
    CLI_STRING_,   /* const char * */
    CLI_PATH_,     /* const char *, completed as a file name */
    CLI_REPEATED_, /* cli_strings; the option may be given many times */
    CLI_INTEGER_,  /* int64_t */
    CLI_MAYBE_,    /* heed_maybe_i64 */
    CLI_SWITCH_,   /* bool, takes no value */
    CLI_ONE_OF_,   /* int: the position in `words` */
    CLI_FLAGS_     /* unsigned: a bit for each of `words`; the value is some of them, with commas */
} cli_kind;

typedef struct cli_option {
    const char *name; /* of the member; the option is --name with - for _ */
    cli_kind kind;
    size_t offset;
    const char *value;    /* what help puts for the value: "FILE" */
    int64_t min, max;     /* numbers: both ends allowed */
    const char *words;    /* what the value may be: "auto|always|never" */
    const char *fallback; /* the default as text; NULL: nothing */
    const char *variable; /* environment variable that stands in for the option, or NULL */
    const char *doc;      /* one sentence without a stop */
} cli_option;

#define CLI_ROW_(s, m, k) .name = #m, .kind = k, .offset = offsetof(s, m)
#define OPERAND(s, m, ...) { CLI_ROW_(s, m, CLI_OPERAND_), __VA_ARGS__ }
#define OPTIONAL(s, m, ...) { CLI_ROW_(s, m, CLI_OPTIONAL_), __VA_ARGS__ }
#define OPERANDS(s, m, ...) { CLI_ROW_(s, m, CLI_OPERANDS_), __VA_ARGS__ }
#define STRING(s, m, ...) { CLI_ROW_(s, m, CLI_STRING_), __VA_ARGS__ }
#define PATH(s, m, ...) { CLI_ROW_(s, m, CLI_PATH_), __VA_ARGS__ }
#define REPEATED(s, m, ...) { CLI_ROW_(s, m, CLI_REPEATED_), __VA_ARGS__ }
#define INTEGER(s, m, ...) { CLI_ROW_(s, m, CLI_INTEGER_), __VA_ARGS__ }
#define MAYBE(s, m, ...) { CLI_ROW_(s, m, CLI_MAYBE_), __VA_ARGS__ }
#define SWITCH(s, m, ...) { CLI_ROW_(s, m, CLI_SWITCH_), __VA_ARGS__ }
#define ONE_OF(s, m, ...) { CLI_ROW_(s, m, CLI_ONE_OF_), __VA_ARGS__ }
#define FLAGS(s, m, ...) { CLI_ROW_(s, m, CLI_FLAGS_), __VA_ARGS__ }
#define OPTIONS_END { .kind = CLI_END_ }

/* Rows that several commands share. */
#define ISA_WORDS "auto|portable|x86-64-v3|x86-64-v4|neon" /* in the order of heed_isa */
#define THREADS_OPTION(s)                                                                                    \
    INTEGER(s, threads, .value = "N", .max = 1024, .fallback = "0", .variable = "HEED_THREADS",              \
            .doc = "threads that compute; 0 takes one for each CPU. The result is the same to the bit")
#define ISA_OPTION(s)                                                                                        \
    ONE_OF(s, isa, .words = ISA_WORDS, .fallback = "auto", .variable = "HEED_ISA",                           \
           .doc = "instruction level; auto takes the best of this CPU (heed help isa)")
#define JSON_OPTION(s, what) SWITCH(s, json, .doc = what)
#define FORCE_OPTION(s, what) SWITCH(s, force, .doc = what)
#define EDIT_OPTION(s)                                                                                       \
    REPEATED(s, edit, .value = "PATH:SELECTION:KIND",                                                        \
             .doc = "changes a value inside the model: encoder.1.attn:head=3:zero (heed help edit)")
#define PROFILE_OPTION(s)                                                                                    \
    PATH(s, profile, .value = "FILE",                                                                        \
         .doc = "writes where the time goes, step by step, as a Chrome trace, and a table by kernel to stderr")

typedef struct cli cli;

typedef struct cli_command {
    const char *name;
    const char *does;    /* one line */
    const char *about;   /* paragraphs; lines that begin with two spaces stay as they are */
    const char *example; /* command lines */
    const cli_option *options;
    size_t args_size;
    heed_status (*run)(cli *c, const void *args);
} cli_command;

/* Every command, ended by a row without a name; options that each of them takes as well. */
extern const cli_command *const heed__cli_commands[];
extern const cli_option heed__cli_common[];
extern const cli_command heed__cli_help;
const cli_command *heed__cli_find(const char *name); /* NULL if there is none */

typedef struct cli_common {
    int color;
} cli_common;

/* ---- a call of the command ---- */

/* Escapes, or empty texts where colour is not wanted. */
typedef struct cli_style {
    const char *bold, *dim, *red, *green, *cyan, *off;
} cli_style;

#define LISTS_MOST 4

struct cli {
    heed_context *ctx; /* owned; NULL until cli_open */
    heed_error err;
    cli_common common;
    cli_style out, log; /* of stdout and stderr */
    bool log_terminal;
    const char **lists[LISTS_MOST]; /* owned: what cli_strings point to */
    int n_lists, words;             /* words of the command line */
    bool findings; /* a check found something: exit code 1, though nothing failed */
    uint64_t given; /* bit i: row i of the command's table stood on the command line */
};

#define STEP(call)                                                                                           \
    do {                                                                                                     \
        st = (call);                                                                                         \
        if (st != HEED_OK)                                                                                   \
            goto done;                                                                                       \
    } while (0)
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        heed_status try_ = (call);                                                                           \
        if (try_ != HEED_OK)                                                                                 \
            return try_;                                                                                     \
    } while (0)

/* Fills c->err when it is empty; returns code. */
heed_status heed__cli_fail(cli *c, heed_status code, const char *format, ...) HEED_PRINTF(3, 4);

/* Makes the context. */
heed_status heed__cli_open(cli *c, int64_t threads, int isa);

/* Defaults, then the environment, then the words of argv. *help: --help was among them (then nothing is
 * required). HEED_ERR_USAGE, HEED_ERR_MEMORY. */
heed_status heed__cli_parse(cli *c, const cli_command *command, int argc, char **argv, void *args, bool *help);

/* Whether the option stood on the command line: its value may also come from the environment. */
bool heed__cli_given(const cli *c, const cli_option *table, const char *name);

/* "--top-k" of a row into flag, or the operand's word. */
void heed__cli_flag(char flag[48], const cli_option *row);

/* The variables that stand in for options: row i of all tables, each variable once; NULL behind the last. */
const cli_option *heed__cli_variable(int i);

/* ---- output ---- */

void heed__cli_style(cli *c);                                  /* colours and terminal, from --color and environment */
heed_status heed__cli_flush(cli *c, bool *closed);             /* stdout; *closed: its reader went away */
void heed__cli_json(FILE *f, const char *text);                /* a JSON string, quotes included */
void heed__cli_text(FILE *f, const char *text);                /* text from outside: control characters escaped */
void heed__cli_number(FILE *f, double value);                  /* a JSON number; null when it is not finite */
void heed__cli_word(FILE *f, const char *text);                /* as a word of a shell's command, quoted where it must */
void heed__cli_cell(FILE *f, const char *text, int columns);   /* cut and filled to so many columns of a terminal */
const char *heed__cli_count(char text[32], int64_t n);         /* 65,018 */
const char *heed__cli_bytes(char text[32], uint64_t n);        /* 12.3 MB */
const char *heed__cli_seconds(char text[32], double seconds);  /* 3.4 s, 1:12, 2:03:04 */
heed_status heed__cli_exists(cli *c, const char *path, bool force); /* HEED_ERR_EXISTS when it is there and no force */
bool heed__cli_is_folder(const char *path);
bool heed__cli_is_there(const char *path);

/* Stdin as a file, for the library's readers want to know a size before they take memory: `path` gets its name, "" on
 * failure; the caller removes it with heed__cli_forget. HEED_ERR_USAGE when stdin is a terminal. */
heed_status heed__cli_spool(cli *c, char path[512]);
/* Operands as paths for the library, ended by NULL (room for one more than there are): "-" becomes the spooled stdin, once. */
heed_status heed__cli_paths(cli *c, const cli_strings *given, const char **paths, char spooled[512]);
/* Removes the file, and puts "stdin" where an error names it. */
void heed__cli_forget(cli *c, char path[512]);

/* ---- edits: what was written under them says so ---- */

/* Gives the run the edits of --edit. */
heed_status heed__cli_edit(cli *c, heed_run *run, const cli_strings *edits);
void heed__cli_edits_line(FILE *f, heed_run *run, const char *before); /* before, edits split by "; ", a line end; or nothing */
void heed__cli_edits_json(FILE *f, heed_run *run);                     /* ,"edits":["..."] or nothing */
/* The edits in one piece: malloc, "" for none; NULL without memory. */
char *heed__cli_edits_text(heed_run *run);

/* ---- profile ---- */

/* Nothing without a path. The end prints and writes, also after a run that was stopped; heed_profile_free it. */
heed_status heed__cli_profile_begin(cli *c, heed_profile **out, const char *path, bool force);
heed_status heed__cli_profile_end(cli *c, const heed_profile *p, const char *path);

/* ---- help ---- */

typedef enum help_form { HELP_TEXT = 0, HELP_MARKDOWN, HELP_MAN } help_form;

typedef struct cli_topic {
    const char *name, *does, *text; /* text as cli_command.about */
    heed_status (*print)(cli *c, FILE *f, help_form form); /* what follows the text, or NULL */
} cli_topic;
extern const cli_topic heed__cli_topics[]; /* ended by a row without a name */

void heed__cli_overview(FILE *f);
void heed__cli_help_on(FILE *f, const cli_command *command, help_form form);
heed_status heed__cli_help_topic(cli *c, FILE *f, const cli_topic *topic, help_form form);

/* Text of paragraphs and of lines that stay as they are, wrapped at 80 columns and moved in by `indent`. */
void heed__cli_prose(FILE *f, const char *text, int indent, help_form form);
/* A table of two or more columns: cells[rows * columns], the last column wrapped. */
void heed__cli_table(FILE *f, const char *const *cells, int rows, int columns, help_form form);

#endif
