/* Progress of training on stderr. A terminal gets a bar that is drawn over and a line that stays for each
 * epoch; anything else gets lines: one an epoch and one when ten seconds passed without. Never a \r there. */

#define _POSIX_C_SOURCE 200809L

#include "cli/progress.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.1
#define LINE_SECONDS 10.0

/* The one flag a signal may set. A second Ctrl-C ends the process at once. */
static volatile sig_atomic_t progress_interrupted;

static void progress_signal(int number)
{
    (void)number;
    progress_interrupted = 1;
}

void heed__progress_catch(void)
{
    struct sigaction once = { .sa_handler = progress_signal, .sa_flags = (int)SA_RESETHAND };

    (void)sigaction(SIGINT, &once, NULL);
    (void)sigaction(SIGTERM, &once, NULL);
}

bool heed__progress_interrupted(void)
{
    return progress_interrupted != 0;
}

static int progress_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int n = 0;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    for (; columns && *columns >= '0' && *columns <= '9' && n < 1000; columns++)
        n = n * 10 + (*columns - '0');
    return n > 0 ? n : 80;
}

static bool progress_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (int i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);

        if (value && *value)
            return strstr(value, "UTF-8") || strstr(value, "utf8");
    }
    return false;
}

void heed__progress_init(progress *p, const cli *c)
{
    const char *term = getenv("TERM");

    *p = (progress){ .style = c->log,
                     .bar = c->log_terminal && !(term && strcmp(term, "dumb") == 0),
                     .utf8 = progress_utf8() };
}

static void progress_clear(progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

void heed__progress_end(progress *p)
{
    progress_clear(p);
    (void)fflush(stderr);
}

void heed__progress_note(progress *p, const char *sentence)
{
    progress_clear(p);
    fputs("heed: ", stderr);
    heed__cli_text(stderr, sentence);
    fputc('\n', stderr);
    (void)fflush(stderr);
}

/* "loss 0.4123  2,134/s  ETA 1:12", and shorter where the terminal is narrow. */
static void progress_draw(progress *p, const heed_progress *h)
{
    const double share = h->steps > 0 ? (double)h->step / (double)h->steps : 0;
    const int width = progress_width() - 1; /* the last column would wrap */
    char head[64], tail[128], rate[32], eta[32];
    int room, filled;

    (void)snprintf(head, sizeof head, "epoch %lld/%lld ", (long long)h->epoch, (long long)h->epochs);
    (void)snprintf(tail, sizeof tail, " %3d %%  loss %.4f  %s/s  ETA %s", (int)(share * 100), h->loss,
                   heed__cli_count(rate, (int64_t)h->rate), heed__cli_seconds(eta, h->eta));
    if ((int)(strlen(head) + strlen(tail)) > width)
        (void)snprintf(tail, sizeof tail, " %d %% loss %.3f", (int)(share * 100), h->loss);
    if ((int)(strlen(head) + strlen(tail)) > width)
        head[0] = 0;
    room = width - (int)(strlen(head) + strlen(tail));
    room = room > 40 ? 40 : room;
    fprintf(stderr, "\r\033[K%s%s", head, p->style.cyan);
    filled = (int)(share * room + 0.5);
    for (int i = 0; room >= 5 && i < room; i++) {
        if (i == filled)
            fprintf(stderr, "%s%s", p->style.off, p->style.dim);
        fputs(p->utf8 ? (i < filled ? "\u2501" : "\u2500") : (i < filled ? "#" : "-"), stderr);
    }
    fprintf(stderr, "%s%.*s", p->style.off, width > 0 ? width : 0, tail);
    (void)fflush(stderr);
    p->drawn = true;
}

static void progress_line(progress *p, const heed_progress *h)
{
    char rate[32], eta[32];

    progress_clear(p);
    fprintf(stderr, "epoch %lld/%lld  step %lld/%lld  loss %.4f", (long long)h->epoch, (long long)h->epochs,
            (long long)h->step, (long long)h->steps, h->loss);
    if (h->epoch_ended && h->validation_accuracy >= 0)
        fprintf(stderr, "  validation loss %.4f  %saccuracy %.4f%s", h->validation_loss, p->style.bold,
                h->validation_accuracy, p->style.off);
    fprintf(stderr, "  %s/s  ETA %s\n", heed__cli_count(rate, (int64_t)h->rate),
            heed__cli_seconds(eta, h->eta));
    (void)fflush(stderr);
    p->line_at = h->seconds;
}

static double progress_clock(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* it is there on every system of today */
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool heed__progress_read(progress *p, int64_t done, int64_t total)
{
    const double now = progress_clock();
    char shown[32], all[32];

    if (p->read_at <= 0)
        p->read_at = now + (p->bar ? 1 : LINE_SECONDS);
    if (now >= p->read_at) {
        fprintf(stderr, "%sreading pictures  %s of %s%s", p->bar ? "\r\033[K" : "", heed__cli_count(shown, done),
                heed__cli_count(all, total), p->bar ? "" : "\n");
        (void)fflush(stderr);
        p->drawn = p->bar;
        p->read_at = now + (p->bar ? REDRAW_SECONDS : LINE_SECONDS);
    }
    return progress_interrupted != 0;
}

bool heed__progress_show(progress *p, const heed_progress *h)
{
    if (h->epoch_ended || (!p->bar && h->seconds - p->line_at >= LINE_SECONDS))
        progress_line(p, h);
    else if (p->bar && (!p->drawn || h->seconds - p->drawn_at >= REDRAW_SECONDS)) {
        progress_draw(p, h);
        p->drawn_at = h->seconds;
    }
    return progress_interrupted != 0;
}
