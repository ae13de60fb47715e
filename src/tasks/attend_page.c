/* The thirteen steps as one page: a section each, of which the script shows one at a time. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/files.h"
#include "explain/page.h"
#include "graph/number.h"

#include <math.h>
#include <string.h>

#define SCORES_MOST 4096

/* What a step is called and does; sentences of ours, with their Chinese in assets/attend.js. */
static const struct {
    const char *name, *does;
} page_steps[] = {
    { "raw scores", "How well each query meets each key. Rotary positions, if there are any, have turned both before." },
    { "relative positions", "Terms that depend on the query and on how far away the key stands." },
    { "scale", "One factor for all scores keeps them in the range where softmax is neither flat nor hard." },
    { "added positions and bias",
      "Terms that do not depend on what query and key say: distance, buckets of distance, a given bias." },
    { "soft cap", "Large scores are bent back below the cap." },
    { "heads talk before", "Each head's scores become a mixture of all heads' scores." },
    { "temperature", "A high temperature makes weights more equal, a low one sharper." },
    { "normalise", "Scores of kept keys become weights." },
    { "differential", "A second attention is taken away, and with it what both have in common." },
    { "heads talk after",
      "Each head's weights become a mixture of all heads' weights. These are the weights reported." },
    { "dropout", "In training some weights are set to zero and the others made larger." },
    { "sum of values", "Each query receives the values of its keys, by weight." },
    { "gate", "A gate decides how much of each number passes." },
};
enum { PAGE_STEPS = sizeof page_steps / sizeof *page_steps, PAGE_Z = 7, PAGE_WEIGHTS = 10, PAGE_SUMS = 12 };

/* Numbers of a step: weights and out are the run's own, as --show prints them. */
static double page_number(const heed_attend *a, const heed_attend_stage *s, int64_t i)
{
    const attend_named *of = s->number == PAGE_WEIGHTS ? heed__attend_result(a, "weights")
                             : s->number == PAGE_STEPS ? heed__attend_result(a, "out")
                                                       : NULL;

    return of ? heed__number_get(of->tensor.type.dtype, of->tensor.data, i) : s->values[i];
}

static bool page_masked(const heed_attend *a, const heed_attend_stage *s, int64_t i)
{
    const bool mixed = s->number >= PAGE_WEIGHTS && heed_attend_stage_at(a, PAGE_WEIGHTS).used;

    return s->number >= PAGE_Z && s->number < PAGE_SUMS && !mixed && !heed_attend_kept(a)[i];
}

/* As the tables of --show print it: six places, or the shortest digits where a table is large or tiny. */
static void page_cell(text *t, double x, double most)
{
    heed__text_add(t, "<td%s style=\"--heat:%.3f\">", x < 0 ? " class=\"minus\"" : "",
                   most > 0 && isfinite(x) ? fabs(x) / most : 0);
    if (isnan(x))
        heed__text_add(t, "nan");
    else
        heed__text_add(t, most == 0 || (most >= 1e-3 && most < 1e6) ? "%.6f" : "%.6g", x);
    heed__text_add(t, "</td>");
}

static void page_table(text *t, const heed_attend *a, const heed_attend_stage *s, int64_t b, int64_t h)
{
    const int64_t first = (b * s->dims[1] + h) * s->dims[2] * s->dims[3];
    const bool result = s->number >= PAGE_SUMS;
    char args[2][24];
    double most = 0;

    for (int64_t i = 0; i < s->dims[2] * s->dims[3]; i++)
        if (!page_masked(a, s, first + i) && isfinite(page_number(a, s, first + i)))
            most = fmax(most, fabs(page_number(a, s, first + i)));
    heed__format(args[0], sizeof args[0], "%lld", (long long)b);
    heed__format(args[1], sizeof args[1], "%lld", (long long)h);
    heed__text_add(t, "<div class=\"wide\"><table class=\"data\">");
    heed__page_say(t, "caption", "Sequence {0}, head {1}. Rows are queries, columns are {2}.",
                   (const char *const[]){ args[0], args[1], result ? "numbers of a value" : "keys" }, 3);
    heed__text_add(t, "\n<thead><tr><th></th>");
    for (int64_t j = 0; j < s->dims[3]; j++)
        heed__text_add(t, "<th scope=\"col\">%c%lld</th>", result ? 'd' : 'k', (long long)j);
    heed__text_add(t, "</tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < s->dims[2]; i++) {
        heed__text_add(t, "<tr><th scope=\"row\">q%lld</th>", (long long)i);
        for (int64_t j = 0; j < s->dims[3]; j++) {
            const int64_t at = first + i * s->dims[3] + j;
            const double x = page_number(a, s, at);

            if (page_masked(a, s, at))
                heed__text_add(t, "<td class=\"none\"></td>");
            else
                page_cell(t, x, most);
        }
        heed__text_add(t, "</tr>\n");
    }
    heed__text_add(t, "</tbody></table></div>\n");
}

static void page_stage(text *t, const heed_attend *a, const heed_attend_stage *s)
{
    char number[8];

    heed__format(number, sizeof number, "%d", s->number);
    heed__text_add(t, "<section class=\"stage\" data-step=\"%d\">\n", s->number);
    heed__page_say(t, "h2", "Step {0}: {1}", (const char *const[]){ number, page_steps[s->number - 1].name },
                   2);
    heed__text_add(t, "\n<code class=\"formula\">");
    heed__page_escape(t, s->formula);
    heed__text_add(t, "</code>\n");
    heed__page_say(t, "p", page_steps[s->number - 1].does, NULL, 0);
    if (!s->used)
        heed__page_say(t, "p class=\"muted\"",
                       "The descriptor changes nothing here: the numbers are those of the step before.", NULL,
                       0);
    if (s->number >= PAGE_Z && s->number < PAGE_SUMS)
        heed__page_say(t, "p class=\"muted\"", "Empty cells are masked.", NULL, 0);
    for (int64_t b = 0; b < s->dims[0]; b++)
        for (int64_t h = 0; h < s->dims[1]; h++)
            page_table(t, a, s, b, h);
    heed__text_add(t, "</section>\n");
}

static void page_buttons(text *t, const heed_attend *a)
{
    heed__text_add(
        t,
        "<div class=\"switches scripted\"><button id=\"previous\" type=\"button\" data-i18n>Previous</button> "
        "<button id=\"next\" type=\"button\" data-i18n>Next</button></div>\n"
        "<ol class=\"steps\" data-i18n-label=\"Steps\" aria-label=\"Steps\">\n");
    for (int n = 1; n <= PAGE_STEPS; n++) {
        const heed_attend_stage s = heed_attend_stage_at(a, n);

        if (s.number)
            heed__text_add(t, "<li><button type=\"button\" class=\"scripted%s\">%d</button></li>\n",
                           s.used ? "" : " idle", n);
    }
    heed__text_add(t, "</ol>\n");
}

static void page_all(text *t, const heed_attend *a)
{
    const page p = { .title = "Attention, step by step",
                     .style = &heed__asset_attend_css,
                     .script = &heed__asset_attend_js };
    char args[2][24];

    heed__format(args[0], sizeof args[0], "%lld", (long long)a->given[ATTEND_Q].type.dims[2]);
    heed__format(args[1], sizeof args[1], "%lld", (long long)a->given[ATTEND_K].type.dims[2]);
    heed__page_begin(t, &p);
    heed__page_say(t, "p",
                   "Thirteen steps from queries and keys to the result, for {0} queries and {1} keys.",
                   (const char *const[]){ args[0], args[1] }, 2);
    if (!heed_attend_stage_at(a, PAGE_Z).number)
        heed__page_say(t, "p", "Linear attention has no scores: it begins with step 8.", NULL, 0);
    heed__text_add(t, "\n<details><summary data-i18n>Descriptor</summary><pre>");
    heed__page_escape(t, a->json);
    heed__text_add(t, "</pre></details>\n");
    heed__page_say(t, "p class=\"muted\"",
                   "Left and right arrow keys go from step to step, Home and End to the first and the last.",
                   NULL, 0);
    page_buttons(t, a);
    for (int n = 1; n <= PAGE_STEPS; n++) {
        const heed_attend_stage s = heed_attend_stage_at(a, n);

        if (s.number)
            page_stage(t, a, &s);
    }
    heed__page_end(t, &p);
}

heed_status heed_attend_page(heed_attend *a, const char *path, heed_error *err)
{
    heed_attend_stage w, out;
    text t;
    heed_status st;

    TRY(heed_attend_stages(a, err));
    w = heed_attend_stage_at(a, PAGE_WEIGHTS);
    out = heed_attend_stage_at(a, PAGE_STEPS);
    if (w.dims[0] * w.dims[1] * w.dims[2] * w.dims[3] > SCORES_MOST ||
        out.dims[0] * out.dims[1] * out.dims[2] * out.dims[3] > SCORES_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "a page steps through %d scores and as many results at most",
                          SCORES_MOST);
    heed__text_init(&t, a->ctx->heap, 0);
    page_all(&t, a);
    st = t.failed ? heed__fail_memory(err, t.size) : heed__file_replace(a->ctx, path, t.data, t.size, err);
    heed__text_release(&t);
    return st;
}
