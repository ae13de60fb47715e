/* heed COMMAND [words]: finds the command, runs it, and turns its status into one line and an exit code. */

#define _POSIX_C_SOURCE 200809L

#include "cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_FINDINGS 1 /* a check did its work and found something */
#define EXIT_CLOSED_PIPE 141 /* what a shell shows for a command that SIGPIPE ended */

#define COMMANDS(X) \
    X(train) X(eval) X(predict) X(explain) X(attend) X(report) X(doctor) X(info) X(data) X(export) X(bench) X(demo) X(help) \
    X(version) X(completion)
#define COMMAND_DECLARE(name) extern const cli_command heed__cli_##name;
#define COMMAND_ROW(name) &heed__cli_##name,
COMMANDS(COMMAND_DECLARE)
const cli_command *const heed__cli_commands[] = { COMMANDS(COMMAND_ROW) NULL };

const cli_option heed__cli_common[] = {
    ONE_OF(cli_common, color, .words = "auto|always|never", .fallback = "auto",
           .doc = "colours; auto: on a terminal, unless NO_COLOR is set"),
    OPTIONS_END,
};

const cli_command *heed__cli_find(const char *name)
{
    for (int i = 0; heed__cli_commands[i]; i++)
        if (strcmp(heed__cli_commands[i]->name, name) == 0)
            return heed__cli_commands[i];
    return NULL;
}

heed_status heed__cli_open(cli *c, int64_t threads, int isa)
{
    return heed_context_new(&c->ctx, &(heed_context_opts){ .threads = (int)threads, .isa = (heed_isa)isa },
                            &c->err);
}

static heed_status main_unknown(cli *c, const char *name)
{
    const char *names[32];
    const char *near;
    int n = 0;

    for (; heed__cli_commands[n] && n < 31; n++)
        names[n] = heed__cli_commands[n]->name;
    names[n] = NULL;
    near = heed_nearest(name, names);
    if (name[0] == '-')
        return heed__cli_fail(c, HEED_ERR_USAGE, "no option %.60s before a command; options follow it", name);
    if (near)
        return heed__cli_fail(c, HEED_ERR_USAGE, "no command \"%.60s\"; did you mean %s?", name, near);
    return heed__cli_fail(c, HEED_ERR_USAGE, "no command \"%.60s\"", name);
}

static heed_status main_run(cli *c, const cli_command *command, int argc, char **argv)
{
    void *args = calloc(1, command->args_size ? command->args_size : 1);
    bool help;
    heed_status st;

    if (!args)
        return heed__cli_fail(c, HEED_ERR_MEMORY, "no memory for the arguments");
    STEP(heed__cli_parse(c, command, argc, argv, args, &help));
    heed__cli_style(c);
    if (help)
        heed__cli_help_on(stdout, command, HELP_TEXT);
    else
        st = command->run(c, args);
done:
    free(args);
    return st;
}

static heed_status main_dispatch(cli *c, int argc, char **argv, const cli_command **command)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (argc < 2) {
        heed__cli_overview(stderr);
        return heed__cli_fail(c, HEED_ERR_USAGE, "%s", "");
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    *command = heed__cli_find(name);
    if (!*command)
        return main_unknown(c, name);
    return main_run(c, *command, argc - 2, argv + 2);
}

static void main_report(const cli *c, const cli_command *command)
{
    const heed_error *e = &c->err;
    const bool place = e->path[0] && !strstr(e->text, e->path);

    fprintf(stderr, "%s%sheed:%s %s%s%s\n", c->log.red, c->log.bold, c->log.off, place ? e->path : "",
            place ? ": " : "", e->text[0] ? e->text : heed_status_name(e->code));
    if (e->code == HEED_ERR_USAGE && command)
        fprintf(stderr, "try: heed help %s\n", command->name);
    else if (e->code == HEED_ERR_USAGE)
        fprintf(stderr, "try: heed help\n");
}

/* A file opened later must not become stdout: closed descriptors are taken by one that cannot be used. */
static void main_hold_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    const cli_command *command = NULL;
    cli c = { .out = { "", "", "", "", "", "" }, .log = { "", "", "", "", "", "" } };
    heed_status st;
    bool closed;
    int code;

    main_hold_descriptors();
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a closed pipe is then an error of the write */
    heed__cli_style(&c);
    st = main_dispatch(&c, argc, argv, &command);
    if (heed__cli_flush(&c, &closed) != HEED_OK && (st == HEED_OK || closed))
        st = HEED_ERR_IO;
    if (st != HEED_OK && !closed && argc > 1)
        main_report(&c, command);
    code = closed                        ? EXIT_CLOSED_PIPE
           : st == HEED_OK && c.findings ? EXIT_FINDINGS
                                         : heed_status_exit_code(st);
    heed_context_free(c.ctx);
    for (int i = 0; i < c.n_lists; i++)
        free(c.lists[i]);
    return code;
}
