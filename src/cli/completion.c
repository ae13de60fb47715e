/* heed completion: a script for bash, written from the tables; zsh runs the same one. */

#include "cli/cli.h"

#include <string.h>

typedef struct completion_args {
    const char *shell;
} completion_args;

static const cli_option completion_table[] = {
    OPERAND(completion_args, shell, .value = "SHELL", .words = "bash|zsh", .doc = "bash or zsh"),
    OPTIONS_END,
};

/* "auto|always|never" with spaces between. */
static void completion_choices(const char *words)
{
    for (; *words; words++)
        putchar(*words == '|' ? ' ' : *words);
}

/* Options, and what an operand may be; `files` is set where that is a file. */
static void completion_words(const cli_command *command)
{
    bool files = false;

    printf("            %s) words=\"--help", command->name);
    for (int common = 0; common < 2; common++)
        for (const cli_option *row = common ? heed__cli_common : command->options; row->kind; row++) {
            char flag[48];

            heed__cli_flag(flag, row);
            if (flag[0] == '-')
                printf(" %s", flag);
            else if (!row->words)
                files = command != &heed__cli_help;
            else {
                putchar(' ');
                completion_choices(row->words);
            }
        }
    for (int i = 0; command == &heed__cli_help && heed__cli_commands[i]; i++)
        printf(" %s", heed__cli_commands[i]->name);
    for (int i = 0; command == &heed__cli_help && heed__cli_topics[i].name; i++)
        printf(" %s", heed__cli_topics[i].name);
    printf(files ? "\"; files=1 ;;\n" : "\" ;;\n");
}

/* What may follow an option: its words, a file, or nothing that is known. */
static void completion_values(const cli_command *command)
{
    for (int common = 0; common < 2; common++)
        for (const cli_option *row = common ? heed__cli_common : command->options; row->kind; row++) {
            char flag[48];

            heed__cli_flag(flag, row);
            if (flag[0] != '-' || row->kind == CLI_SWITCH_)
                continue;
            printf("        %s:%s) ", command->name, flag);
            if (row->words) {
                printf("words=\"");
                completion_choices(row->words);
                printf("\" ;;\n");
            } else {
                printf(row->kind == CLI_PATH_ ? "files=1 ;;\n" : "return ;;\n");
            }
        }
}

static heed_status completion_run(cli *c, const void *args)
{
    const completion_args *a = args;

    (void)c;
    if (strcmp(a->shell, "zsh") == 0)
        printf("#compdef heed\nautoload -U +X bashcompinit && bashcompinit\n");
    printf(
        "_heed() {\n"
        "    local here=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
        "    local words= files=\n"
        "    COMPREPLY=()\n"
        "    case $here in =) here= ;; esac              # --color=al comes as three words\n"
        "    case $before in =) before=${COMP_WORDS[COMP_CWORD-2]} ;; esac\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        words=\"--help --version");
    for (int i = 0; heed__cli_commands[i]; i++)
        printf(" %s", heed__cli_commands[i]->name);
    printf("\"\n"
           "    else\n"
           "        case $command:$before in\n");
    for (int i = 0; heed__cli_commands[i]; i++)
        completion_values(heed__cli_commands[i]);
    printf("        *)\n"
           "            case $command in\n");
    for (int i = 0; heed__cli_commands[i]; i++)
        completion_words(heed__cli_commands[i]);
    printf("            esac\n"
           "            case $here in -*) files= ;; esac ;;\n"
           "        esac\n"
           "    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$here\"))\n"
           "    [ -z \"$files\" ] || COMPREPLY+=($(compgen -f -- \"$here\"))\n"
           "}\n"
           "complete -o filenames -F _heed heed\n");
    return HEED_OK;
}

const cli_command heed__cli_completion = {
    .name = "completion",
    .does = "print a script that completes heed's commands in a shell",
    .options = completion_table,
    .args_size = sizeof(completion_args),
    .run = completion_run,
    .example = "heed completion bash > ~/.local/share/bash-completion/completions/heed\n"
               "heed completion zsh > ~/.zfunc/_heed\n",
};
