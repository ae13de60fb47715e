/* heed doctor: what is wrong with a run, by rules. */

#include "cli/cli.h"

#include <string.h>

typedef struct doctor_args {
    const char *run;
    int64_t samples, threads;
    int isa;
    bool rules, json;
} doctor_args;

static const cli_option doctor_table[] = {
    OPTIONAL(doctor_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    INTEGER(doctor_args, samples, .value = "N", .min = 2, .max = 1000000, .fallback = "256",
            .doc = "samples shown to the model"),
    SWITCH(doctor_args, rules, .doc = "prints the rules as a Markdown table, and looks at nothing"),
    THREADS_OPTION(doctor_args),
    ISA_OPTION(doctor_args),
    JSON_OPTION(doctor_args, "one JSON document"),
    OPTIONS_END,
};

static void doctor_rules(void)
{
    printf("| rule | severity | looks at | finds | bound | why this bound | remedy |\n"
           "|---|---|---|---|---|---|---|\n");
    for (const heed_doctor_rule *r = heed_doctor_rules(); r->name; r++)
        printf("| `%s` | %s | %s | %s | %g | %s | %s |\n", r->name, heed_severity_name(r->severity),
               r->looks_at, r->finds, r->threshold, r->why, r->remedy);
}

static void doctor_rules_json(void)
{
    const heed_doctor_rule *all = heed_doctor_rules();

    printf("{\"rules\":[");
    for (const heed_doctor_rule *r = all; r->name; r++) {
        const char *const parts[] = { "name",     r->name,     "severity", heed_severity_name(r->severity),
                                      "looks_at", r->looks_at, "finds",    r->finds,
                                      "why",      r->why,      "remedy",   r->remedy };

        putchar(r == all ? '{' : ',');
        if (r != all)
            putchar('{');
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i += 2) {
            printf("\"%s\":", parts[i]);
            heed__cli_json(stdout, parts[i + 1]);
            putchar(',');
        }
        printf("\"threshold\":");
        heed__cli_number(stdout, r->threshold);
        putchar('}');
    }
    printf("]}\n");
}

static void doctor_json(const doctor_args *a, const heed_diagnosis *d, const char *missing)
{
    const heed_doctor_rule *all = heed_doctor_rules();
    bool first = true;

    printf("{\"run\":");
    heed__cli_json(stdout, a->run);
    printf(",\"samples\":%lld,\"looked\":[", (long long)d->samples);
    for (const heed_doctor_rule *r = all; r->name; r++)
        if (d->looked >> (r - all) & 1) {
            printf(first ? "\"%s\"" : ",\"%s\"", r->name);
            first = false;
        }
    printf("],\"missing\":");
    heed__cli_json(stdout, missing);
    printf(",\"findings\":[");
    for (int64_t i = 0; i < d->n; i++) {
        const heed_finding *f = &d->findings[i];

        printf(i ? ",{\"rule\":\"%s\",\"severity\":\"%s\",\"place\":"
                 : "{\"rule\":\"%s\",\"severity\":\"%s\",\"place\":",
               f->rule->name, heed_severity_name(f->rule->severity));
        heed__cli_json(stdout, f->place);
        printf(",\"measured\":");
        heed__cli_number(stdout, f->measured);
        printf(",\"threshold\":");
        heed__cli_number(stdout, f->rule->threshold);
        printf(",\"text\":");
        heed__cli_json(stdout, f->text);
        printf(",\"remedy\":");
        heed__cli_json(stdout, f->rule->remedy);
        putchar('}');
    }
    printf("]}\n");
}

static void doctor_text(const cli *c, const heed_diagnosis *d, const char *missing)
{
    const heed_doctor_rule *all = heed_doctor_rules();
    int looked = 0, rules = 0;

    for (const heed_doctor_rule *r = all; r->name; r++, rules++)
        looked += (int)(d->looked >> (r - all) & 1);
    for (int64_t i = 0; i < d->n; i++) {
        const heed_finding *f = &d->findings[i];

        printf("%s%s%s  %s%s%s at ", f->rule->severity == HEED_SEVERITY_FAULT ? c->out.red : c->out.cyan,
               heed_severity_name(f->rule->severity), c->out.off, c->out.bold, f->rule->name, c->out.off);
        heed__cli_text(stdout, f->place);
        printf("\n  ");
        heed__cli_text(stdout, f->text);
        printf("\n  %smeasured %.4g, bound %.4g%s\n  remedy: %s\n", c->out.dim, f->measured,
               f->rule->threshold, c->out.off, f->rule->remedy);
    }
    printf("%s%d of %d rules looked at the run, on %lld samples: ", d->n ? "\n" : "", looked, rules,
           (long long)d->samples);
    if (d->n == 0)
        printf("%snothing found%s\n", c->out.green, c->out.off);
    else
        printf("%lld finding%s\n", (long long)d->n, d->n > 1 ? "s" : "");
    if (missing[0]) {
        printf("not looked at: ");
        heed__cli_text(stdout, missing);
        putchar('\n');
    }
}

static heed_status doctor_look(cli *c, const doctor_args *a)
{
    heed_run *run = NULL;
    heed_diagnosis *d = NULL;
    char *missing = NULL;
    heed_status st;

    TRY(heed__cli_open(c, a->threads, a->isa));
    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    STEP(heed_run_doctor(&d, &missing, run, &(heed_doctor_opts){ .samples = a->samples }, &c->err));
    if (a->json)
        doctor_json(a, d, missing);
    else
        doctor_text(c, d, missing);
    c->findings = d->n > 0;
done:
    heed_text_free(c->ctx, missing);
    heed_diagnosis_free(c->ctx, d);
    heed_run_free(run);
    return st;
}

static heed_status doctor_run(cli *c, const void *args)
{
    const doctor_args *a = args;

    if (!a->rules && !a->run)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed doctor needs the folder of a run, or --rules");
    if (!a->rules)
        return doctor_look(c, a);
    if (a->json)
        doctor_rules_json();
    else
        doctor_rules();
    return HEED_OK;
}

const cli_command heed__cli_doctor = {
    .name = "doctor",
    .does = "look for mistakes that train without a word",
    .options = doctor_table,
    .args_size = sizeof(doctor_args),
    .run = doctor_run,
    .about =
        "Rules look at the model, its graph, metrics.jsonl, the self-test in config.json and the data of the recipe, split as"
        " training split them. A finding names rule, place, number and remedy. Ends with 0 when nothing was found, with 1 when"
        " something was. What cannot be looked at, data that are not there, is said and is no finding.\n"
        "With --json: {\"run\", \"samples\", \"looked\": [rule], \"missing\", \"findings\": [{\"rule\", \"severity\", \"place\","
        " \"measured\", \"threshold\", \"text\", \"remedy\"}]}; a number that is not finite is null.\n",
    .example = "heed doctor runs/fa\n"
               "heed doctor runs/fa --json --samples 1000\n"
               "heed doctor --rules\n",
};
