/* heed attend: the attention operator on given tensors: computed, checked, shown, explained. */

#include "cli/attend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct attend_args {
    const char *in, *q, *k, *v, *spec, *score, *scale, *probe, *out, *html;
    int64_t threads;
    int kernel, isa;
    bool weights, grad, check, show, explain_plan, json, force;
} attend_args;

static const cli_option attend_table[] = {
    OPTIONAL(attend_args, in, .value = "IN", .doc = "a safetensors file: tensors under their reserved names"),
    STRING(attend_args, spec, .value = "SPEC",
           .doc = "the descriptor, JSON or a file of it; default the file's metadata spec, else {}"),
    STRING(attend_args, score, .value = "KIND",
           .doc = "score.kind in place of a descriptor: dot, cosine and others"),
    STRING(attend_args, scale, .value = "X", .doc = "score.scale in place of a descriptor"),
    STRING(attend_args, q, .value = "ROWS", .doc = "queries typed as JSON, or a .npy, .csv or .json file"),
    STRING(attend_args, k, .value = "ROWS", .doc = "keys, likewise"),
    STRING(attend_args, v, .value = "ROWS", .doc = "values, likewise"),
    SWITCH(attend_args, weights, .doc = "writes the weights too"),
    SWITCH(attend_args, grad,
           .doc = "writes d_NAME for every differentiable input; needs dout, dweights or dlse"),
    STRING(
        attend_args, probe, .value = "LIST",
        .doc =
            "probes in place of the descriptor's, with commas between: entropy, received, topk:8, rows:0+5,"
            " heads:1, pooled:16x16, distance, lse, mean; or none"),
    PATH(attend_args, out, .value = "FILE", .doc = "where results are written, as safetensors"),
    SWITCH(attend_args, show, .doc = "prints scores, weights and out as tables; so does typed input"),
    PATH(attend_args, html, .value = "FILE", .doc = "writes a page that steps through the thirteen stages"),
    SWITCH(attend_args, check,
           .doc = "compares with what the file expects; exit code 1 when something is off"),
    ONE_OF(attend_args, kernel, .words = "auto|reference|streaming", .fallback = "auto",
           .doc = "forces the composition or the fused kernels; exit code 4 where they do not serve"),
    SWITCH(attend_args, explain_plan, .doc = "computes nothing: which kernel runs, why, and what it costs"),
    FORCE_OPTION(attend_args, "writes over files that are there"),
    THREADS_OPTION(attend_args),
    ISA_OPTION(attend_args),
    JSON_OPTION(attend_args, "prints JSON in place of tables"),
    OPTIONS_END,
};

/* ---- --check ---- */

static void attend_sizes(char to[200], const heed_type *t)
{
    size_t n = (size_t)snprintf(to, 200, "%s [", heed_dtype_name(t->dtype));

    for (int i = 0; i < t->rank && n < 180; i++)
        n += (size_t)snprintf(to + n, 200 - n, i ? ",%lld" : "%lld", (long long)t->dims[i]);
    (void)snprintf(to + n, 200 - n, "]");
}

static void attend_line_json(const heed_attend_line *l)
{
    printf("{\"tensor\":");
    heed__cli_json(stdout, l->name);
    printf(",\"shape\":[");
    for (int d = 0; d < l->type.rank; d++)
        printf(d ? ",%lld" : "%lld", (long long)l->type.dims[d]);
    printf("],\"worst\":");
    heed__cli_number(stdout, l->worst);
    printf(",\"share\":");
    heed__cli_number(stdout, l->share);
    printf(",\"ok\":%s,\"why\":", l->ok ? "true" : "false");
    heed__cli_json(stdout, l->why);
    printf("}\n");
}

static void attend_line_text(const cli *c, const heed_attend_line *l)
{
    char sizes[200];

    attend_sizes(sizes, &l->type);
    printf("%-20s %-22s error %-12.4g %6.2f %% of allowed  %s%s%s%s%s\n", l->name, sizes, l->worst,
           100 * l->share, l->ok ? c->out.green : c->out.red, l->ok ? "ok" : "BAD", c->out.off,
           l->why[0] ? ": " : "", l->why);
}

/* A case that is meant to be refused is good when it is, whoever refuses it. */
static heed_status attend_check_refused(cli *c, heed_status st, bool json)
{
    const bool refused = heed_status_exit_code(st) == 3;

    if (st != HEED_OK && !refused)
        return st;
    if (json) {
        printf("{\"refused\":%s,\"ok\":%s,\"why\":", refused ? "true" : "false", refused ? "true" : "false");
        heed__cli_json(stdout, c->err.text);
        printf("}\n");
    } else if (refused) {
        printf("refused, as expected  %sok%s: ", c->out.green, c->out.off);
        heed__cli_text(stdout, c->err.path);
        fputs(c->err.path[0] ? ": " : "", stdout);
        heed__cli_text(stdout, c->err.text);
        putchar('\n');
    } else {
        printf("computed, though a refusal was expected  %sBAD%s\n", c->out.red, c->out.off);
    }
    c->findings = !refused;
    c->err = (heed_error){ 0 };
    return HEED_OK;
}

static heed_status attend_check(cli *c, const attend_args *a, heed_attend *x, const heed_attend_opts *opts)
{
    heed_status st = heed_attend_build(x, opts, &c->err);

    if (st == HEED_OK)
        st = heed_attend_run(x, &c->err);
    if (heed_attend_refusal_expected(x, NULL))
        return attend_check_refused(c, st, a->json);
    TRY(st);
    if (heed_attend_expected(x) == 0)
        return heed__cli_fail(c, HEED_ERR_USAGE,
                              "the file has no expected results: there is nothing to check");
    for (int i = 0; i < heed_attend_expected(x); i++) {
        const heed_attend_line l = heed_attend_compare(x, i);

        if (a->json)
            attend_line_json(&l);
        else
            attend_line_text(c, &l);
        c->findings |= !l.ok;
    }
    return HEED_OK;
}

/* ---- all ---- */

static heed_status attend_usage(cli *c, const attend_args *a)
{
    const bool writes = !a->check && !a->explain_plan && !a->show && !a->html;

    if (a->in && (a->q || a->k || a->v))
        return heed__cli_fail(c, HEED_ERR_USAGE, "give a file or --q, --k and --v, not both");
    if (!a->in && !(a->q && a->k && a->v))
        return heed__cli_fail(c, HEED_ERR_USAGE, "give a file, or all of --q, --k and --v");
    if (!a->in && a->check)
        return heed__cli_fail(c, HEED_ERR_USAGE, "--check compares with what a file expects: give one");
    if (a->in && writes && !a->out)
        return heed__cli_fail(c, HEED_ERR_USAGE,
                              "where should results go? --out FILE, or --show, --check, --explain-plan");
    if (a->out)
        TRY(heed__cli_exists(c, a->out, a->force));
    return a->html ? heed__cli_exists(c, a->html, a->force) : HEED_OK;
}

/* --score and --scale as the JSON that they stand for. */
static heed_status attend_short(cli *c, const attend_args *a, char to[200])
{
    const size_t kind = a->score ? strlen(a->score) : 0, scale = a->scale ? strlen(a->scale) : 0;

    if (!a->score && !a->scale)
        return HEED_OK;
    if (a->spec)
        return heed__cli_fail(c, HEED_ERR_USAGE,
                              "--score and --scale stand for a descriptor: write them into --spec");
    if (kind > 60 || (a->score && strspn(a->score, "abcdefghijklmnopqrstuvwxyz_") != kind))
        return heed__cli_fail(c, HEED_ERR_USAGE, "--score: \"%.60s\" is no kind of score", a->score);
    if (scale > 60 || (a->scale && strspn(a->scale, "+-.0123456789eE") != scale) || (a->scale && scale == 0))
        return heed__cli_fail(c, HEED_ERR_USAGE, "--scale: \"%.60s\" is no number", a->scale);
    (void)snprintf(to, 200, "{\"score\":{%s%s%s%s%s%s}}", a->score ? "\"kind\":\"" : "",
                   a->score ? a->score : "", a->score ? "\"" : "", a->score && a->scale ? "," : "",
                   a->scale ? "\"scale\":" : "", a->scale ? a->scale : "");
    return HEED_OK;
}

static heed_status attend_inputs(cli *c, const attend_args *a, heed_attend **x)
{
    if (a->in)
        return heed_attend_open(x, c->ctx, a->in, &c->err);
    TRY(heed_attend_new(x, c->ctx, &c->err));
    TRY(heed_attend_type(*x, "q", a->q, &c->err));
    TRY(heed_attend_type(*x, "k", a->k, &c->err));
    return heed_attend_type(*x, "v", a->v, &c->err);
}

static heed_status attend_run(cli *c, const void *args)
{
    const attend_args *a = args;
    char given[200] = "";
    heed_attend_opts opts = { .spec = a->spec,
                              .probe = a->probe,
                              .kernel = (heed_attend_kernel)a->kernel,
                              .weights = a->weights || a->show || !a->in,
                              .grad = a->grad,
                              .expected = a->check };
    heed_attend *x = NULL;
    heed_status st;

    STEP(attend_usage(c, a));
    STEP(attend_short(c, a, given));
    if (given[0])
        opts.spec = given;
    STEP(heed__cli_open(c, a->threads, a->isa));
    STEP(attend_inputs(c, a, &x));
    if (a->check) {
        STEP(attend_check(c, a, x, &opts));
        goto done;
    }
    STEP(heed_attend_build(x, &opts, &c->err));
    if (a->explain_plan) {
        STEP(heed__attend_explain(c, x, a->json));
        goto done;
    }
    STEP(heed_attend_run(x, &c->err));
    if (a->show || !a->in)
        STEP(heed__attend_show(c, x, a->json));
    if (a->html)
        STEP(heed_attend_page(x, a->html, &c->err));
    if (a->out)
        STEP(heed_attend_write(x, a->out, &c->err));
done:
    heed_attend_free(x);
    return st;
}

const cli_command heed__cli_attend = {
    .name = "attend",
    .does = "compute attention of given tensors, and check, show or explain it",
    .options = attend_table,
    .args_size = sizeof(attend_args),
    .run = attend_run,
    .about =
        "A file holds tensors under their reserved names: q, k, v, what the descriptor needs besides (lengths, bias, add_wq ...) and, for"
        " --grad, upstream gradients dout, dweights, dlse. The descriptor is a JSON object; `heed help attention` lists its fields and the"
        " tensors. Nothing is ignored: an unknown or unused field or tensor is refused by name, with exit code 3.\n"
        "--out gets out, lse (and lse2) where they are defined, weights with --weights, d_NAME with --grad, and the probes. Results that"
        " stand in the file already are expectations: --check computes each of them and prints its shape, the largest error, the share of"
        " the allowed error, and ok or BAD (exit code 1). A file that expects a refusal is good when it is refused.\n"
        "Typed input: [1,2,3] is three rows of one number, [[...],...] is [T,D], a third and fourth level add heads and sequences; a CSV"
        " file of numbers is [T,D]. Scores z, weights and out are printed as three tables with rows q0, q1 and columns k0, k1; what is masked"
        " is empty. --html writes a page that goes through the thirteen steps with the same numbers.\n"
        "--kernel streaming ends with exit code 4 and the reason where a fused kernel does not serve every part; auto serves everything."
        " --explain-plan computes nothing: the kernel of each part, why each faster one does not serve, tiles of keys that the masks keep,"
        " FLOPs and bytes.\n",
    .example =
        "heed attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]'\n"
        "heed attend --q q.npy --k k.csv --v '[[1],[2]]' --score cosine --scale 10 --html steps.html\n"
        "heed attend in.safetensors --spec '{\"score\":{\"kind\":\"additive\"},\"mask\":{\"causal\":true}}' --weights --grad"
        " --probe entropy,topk:8 --out out.safetensors\n"
        "heed attend case.safetensors --check\n"
        "heed attend in.safetensors --explain-plan --json\n",
};
