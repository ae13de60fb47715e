/* heed info: what a safetensors file or a run holds. Files need not be heed's; names in them are shown escaped. */

#include "cli/cli.h"

#include <string.h>

typedef struct info_args {
    const char *what, *graph;
    int64_t batch;
    bool plan, json;
} info_args;

static const cli_option info_table[] = {
    OPERAND(info_args, what, .value = "FILE|RUN", .doc = "a safetensors file, or the folder of a run"),
    STRING(info_args, graph, .words = "text|mermaid|svg",
           .doc = "the graph of a run's model, as text, Mermaid or a drawing"),
    SWITCH(info_args, plan,
           .doc = "every step a run's model takes: kernel and why, sizes, bytes, arithmetic"),
    INTEGER(info_args, batch, .value = "N", .min = 1, .max = 1000000, .fallback = "1",
            .doc = "samples that graph and plan are made for"),
    JSON_OPTION(info_args, "one JSON document"),
    OPTIONS_END,
};

/* ---- tensors ---- */

static void info_shape(char to[160], const heed_type *type)
{
    size_t n = 0;

    to[0] = 0;
    for (int i = 0; i < type->rank && n < 150; i++)
        n += (size_t)snprintf(to + n, 160 - n, "%s%lld", i ? "," : "", (long long)type->dims[i]);
}

static void info_tensor(const char *name, const char *dtype, const heed_type *type, uint64_t bytes, bool json,
                        bool first)
{
    char shape[160], size[32];

    info_shape(shape, type);
    if (!json) {
        printf("  %-5s %-20s %10s  ", dtype, shape[0] ? shape : "scalar", heed__cli_bytes(size, bytes));
        heed__cli_text(stdout, name);
        putchar('\n');
        return;
    }
    printf(first ? "{\"name\":" : ",{\"name\":");
    heed__cli_json(stdout, name);
    printf(",\"dtype\":\"%s\",\"shape\":[%s],\"bytes\":%llu}", dtype, shape, (unsigned long long)bytes);
}

/* ---- a file ---- */

static void info_metadata(const heed_safetensors *f, bool json)
{
    for (int64_t i = 0; i < heed_safetensors_metadata(f); i++) {
        const char *value, *key = heed_safetensors_key(f, i, &value);

        if (json) {
            if (i)
                putchar(',');
            heed__cli_json(stdout, key);
            putchar(':');
            heed__cli_json(stdout, value);
        } else {
            printf("  ");
            heed__cli_text(stdout, key);
            printf(" = ");
            heed__cli_text(stdout, value);
            putchar('\n');
        }
    }
}

static void info_file_json(const heed_safetensors *f, const char *path, int64_t values, uint64_t bytes)
{
    printf("{\"file\":");
    heed__cli_json(stdout, path);
    printf(",\"format\":\"safetensors\",\"values\":%lld,\"bytes\":%llu,\"metadata\":{", (long long)values,
           (unsigned long long)bytes);
    info_metadata(f, true);
    printf("},\"tensors\":[");
    for (int64_t i = 0; i < heed_safetensors_count(f); i++) {
        const heed_type type = heed_safetensors_type(f, i);

        info_tensor(heed_safetensors_name(f, i), heed_safetensors_dtype(f, i), &type,
                    heed_safetensors_bytes(f, i), true, i == 0);
    }
    printf("]}\n");
}

static void info_file_text(const cli *c, const heed_safetensors *f, int64_t values, uint64_t bytes)
{
    char number[32], size[32], tensors[32];

    printf("%ssafetensors%s, %s tensors, %s values, %s\n", c->out.bold, c->out.off,
           heed__cli_count(tensors, heed_safetensors_count(f)), heed__cli_count(number, values),
           heed__cli_bytes(size, bytes));
    if (heed_safetensors_metadata(f) > 0)
        printf("\n%smetadata%s\n", c->out.bold, c->out.off);
    info_metadata(f, false);
    printf("\n%stensors, in the order of their data%s\n", c->out.bold, c->out.off);
    for (int64_t i = 0; i < heed_safetensors_count(f); i++) {
        const heed_type type = heed_safetensors_type(f, i);

        info_tensor(heed_safetensors_name(f, i), heed_safetensors_dtype(f, i), &type,
                    heed_safetensors_bytes(f, i), false, i == 0);
    }
}

static heed_status info_file(cli *c, const info_args *a)
{
    heed_safetensors *f = NULL;
    int64_t values = 0;
    uint64_t bytes = 0;

    if (a->graph || a->plan)
        return heed__cli_fail(
            c, HEED_ERR_USAGE,
            "--graph and --plan need a run; %.300s is a file of weights, which has no graph", a->what);
    TRY(heed_safetensors_open(&f, c->ctx, a->what, &c->err));
    for (int64_t i = 0; i < heed_safetensors_count(f); i++) {
        const heed_type type = heed_safetensors_type(f, i);

        values += heed_type_count(&(heed_type){ HEED_U8,
                                                type.rank,
                                                { type.dims[0], type.dims[1], type.dims[2], type.dims[3],
                                                  type.dims[4], type.dims[5], type.dims[6], type.dims[7] } });
        bytes += heed_safetensors_bytes(f, i);
    }
    if (a->json)
        info_file_json(f, a->what, values, bytes);
    else
        info_file_text(c, f, values, bytes);
    heed_safetensors_close(f);
    return HEED_OK;
}

/* ---- a run ---- */

typedef struct info_facts {
    heed_run *run;
    char *graph, *plan; /* texts of the library, or NULL */
    const heed_plan *steps; /* of the model; lives as long as no other shape is asked for */
    heed_self_test_result self_test;
    heed_plan_report report;
    char sha256[65];
} info_facts;

static void info_classes(const heed_run *r, bool json)
{
    for (int64_t i = 0; i < heed_run_classes(r); i++) {
        if (json) {
            printf(i ? "," : "");
            heed__cli_json(stdout, heed_run_class(r, i));
        } else {
            printf(i ? ", " : "");
            heed__cli_text(stdout, heed_run_class(r, i));
        }
    }
}

static void info_run_tensors(heed_run *r, bool json)
{
    const heed_weights *w = heed_model_weights(heed_run_model(r));
    bool first = true;

    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name;
        const heed_tensor t = heed_weights_at(w, i, &name);

        if (!heed_weights_in_model(name))
            continue;
        info_tensor(name, heed_dtype_name(t.type.dtype), &t.type,
                    (uint64_t)heed_type_count(&t.type) * heed_dtype_size(t.type.dtype), json, first);
        first = false;
    }
}

static void info_step_json(const heed_plan_step *s)
{
    const char *const parts[] = { "op", s->op, "kernel", s->kernel, "path", s->path, "passed_over", s->passed_over };
    char shape[160];

    printf("{\"step\":%lld", (long long)s->index);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i += 2) {
        printf(",\"%s\":", parts[i]);
        heed__cli_json(stdout, parts[i + 1]);
    }
    info_shape(shape, &s->type);
    printf(",\"dtype\":\"%s\",\"shape\":[%s],\"outputs\":%d,\"chunks\":%lld,\"chunk\":%lld",
           heed_dtype_name(s->type.dtype), shape, s->outputs, (long long)s->chunks, (long long)s->chunk);
    printf(",\"bytes\":%llu,\"scratch_bytes\":%llu,\"offset\":%lld,\"flops\":%.0f,\"in_place\":%s}",
           (unsigned long long)s->bytes, (unsigned long long)s->scratch_bytes, (long long)s->offset, s->flops,
           s->in_place ? "true" : "false");
}

static void info_plan_json(const info_facts *i)
{
    const heed_plan_report *r = &i->report;

    printf(",\"plan\":{\"isa\":\"%s\",\"threads\":%d,\"nodes\":%lld,\"copies\":%lld,\"in_place\":%lld",
           heed_isa_name(r->isa), r->threads, (long long)r->nodes, (long long)r->copies, (long long)r->in_place);
    printf(",\"block_bytes\":%llu,\"sum_bytes\":%llu,\"weight_bytes\":%llu,\"flops\":%.0f,\"steps\":[",
           (unsigned long long)r->block_bytes, (unsigned long long)r->sum_bytes,
           (unsigned long long)r->weight_bytes, r->flops);
    for (int64_t k = 0; k < heed_plan_steps(i->steps); k++) {
        const heed_plan_step s = heed_plan_step_at(i->steps, k);

        if (k)
            putchar(',');
        info_step_json(&s);
    }
    printf("]}");
}

static const char *const info_verdicts[] = { "none", "same", "close", "other" };

static void info_run_json(const info_args *a, const info_facts *i)
{
    const heed_type input = heed_run_input_type(i->run, a->batch);
    char shape[160];

    info_shape(shape, &input);
    printf("{\"run\":");
    heed__cli_json(stdout, a->what);
    printf(",\"model\":");
    heed__cli_json(stdout, heed_recipe_get(heed_run_recipe(i->run), "model.name"));
    printf(",\"parameters\":%lld,\"input\":[%s],\"mirror\":%s,\"sha256\":\"%s\",\"classes\":[",
           (long long)heed_model_parameters(heed_run_model(i->run)), shape,
           heed_run_mirrors(i->run) ? "true" : "false", i->sha256);
    info_classes(i->run, true);
    printf("],\"self_test\":{\"verdict\":\"%s\",\"difference\":", info_verdicts[i->self_test.verdict]);
    heed__cli_number(stdout, i->self_test.difference);
    printf("},\"block_bytes\":%llu,\"flops\":%.0f,\"tensors\":[", (unsigned long long)i->report.block_bytes,
           i->report.flops);
    info_run_tensors(i->run, true);
    putchar(']');
    if (i->graph) {
        printf(",\"graph\":");
        heed__cli_json(stdout, i->graph);
    }
    if (i->plan)
        info_plan_json(i);
    printf("}\n");
}

static void info_self_test(const cli *c, const heed_self_test_result *r)
{
    printf("%sself-test%s   ", c->out.bold, c->out.off);
    if (r->verdict == HEED_SELF_TEST_NONE)
        printf("none: written by a version without it\n");
    else if (r->verdict == HEED_SELF_TEST_SAME)
        printf("the same bits as after training\n");
    else if (r->verdict == HEED_SELF_TEST_CLOSE)
        printf("as after training within %.2g: computed at level %s then, %s now\n", r->difference,
               heed_isa_name(r->then), heed_isa_name(r->now));
    else
        printf("%sother numbers than after training%s, by %.3g: heed doctor says more\n", c->out.red, c->out.off,
               r->difference);
}

static void info_run_text(const cli *c, const info_args *a, const info_facts *i)
{
    const heed_type input = heed_run_input_type(i->run, a->batch);
    char shape[160], count[32], bytes[32];

    info_shape(shape, &input);
    printf("%smodel%s       %s, %s parameters\n", c->out.bold, c->out.off,
           heed_recipe_get(heed_run_recipe(i->run), "model.name"),
           heed__cli_count(count, heed_model_parameters(heed_run_model(i->run))));
    printf("%sinput%s       f32 [%s]%s\n", c->out.bold, c->out.off, shape,
           heed_run_mirrors(i->run) ? ", trained on mirror images too" : "");
    printf("%sclasses%s     %lld: ", c->out.bold, c->out.off, (long long)heed_run_classes(i->run));
    info_classes(i->run, false);
    printf("\n%sone run%s     %.4g MFLOP, %s of activations\n", c->out.bold, c->out.off,
           i->report.flops / 1e6, heed__cli_bytes(bytes, i->report.block_bytes));
    printf("%sweights%s     sha256 %s\n", c->out.bold, c->out.off, i->sha256);
    info_self_test(c, &i->self_test);
    putchar('\n');
    info_run_tensors(i->run, false);
}

static heed_status info_run_folder(cli *c, const info_args *a)
{
    info_facts i = { 0 };
    heed_graph *graph = NULL;
    heed_type input;
    heed_status st;

    STEP(heed_run_open(&i.run, c->ctx, a->what, &c->err));
    input = heed_run_input_type(i.run, a->batch);
    STEP(heed_weights_sha256(heed_model_weights(heed_run_model(i.run)), HEED_WEIGHTS_MODEL, i.sha256,
                             &c->err));
    if (a->json || (!a->plan && !a->graph))
        STEP(heed_run_self_test(&i.self_test, i.run, &c->err));
    STEP(heed_model_plan(heed_run_model(i.run), &input, 1, &i.steps, &c->err));
    i.report = heed_plan_describe(i.steps);
    if (a->plan)
        STEP(heed_plan_print(&i.plan, i.steps, &c->err));
    if (a->graph) {
        const heed_graph_form form = a->graph[0] == 't'   ? HEED_GRAPH_TEXT
                                     : a->graph[0] == 'm' ? HEED_GRAPH_MERMAID
                                                          : HEED_GRAPH_SVG;

        STEP(heed_model_graph(heed_run_model(i.run), &input, 1, HEED_EVAL, &graph, &c->err));
        STEP(heed_graph_print(&i.graph, graph, form, &c->err));
    }
    if (a->json) {
        info_run_json(a, &i);
    } else if (i.graph || i.plan) {
        fputs(i.graph ? i.graph : "", stdout); /* alone, so that it can be written into a file */
        fputs(i.plan ? i.plan : "", stdout);
    } else {
        info_run_text(c, a, &i);
    }
done:
    heed_text_free(c->ctx, i.graph);
    heed_text_free(c->ctx, i.plan);
    heed_graph_free(graph);
    heed_run_free(i.run);
    return st;
}

static heed_status info_run(cli *c, const void *args)
{
    const info_args *a = args;

    TRY(heed__cli_open(c, 1, HEED_ISA_AUTO));
    return heed__cli_is_folder(a->what) ? info_run_folder(c, a) : info_file(c, a);
}

const cli_command heed__cli_info = {
    .name = "info",
    .does = "show what a file of weights or a run holds",
    .options = info_table,
    .args_size = sizeof(info_args),
    .run = info_run,
    .about = "With --graph or --plan alone they are all that is printed, so that they can go into a file. The self-test of a run"
             " computes again what training wrote into config.json (heed help doctor).\n"
             "A line of the plan is a step: its op and kernel, the first wanted output and where it lies in the block, chunks,"
             " bytes of inputs and outputs, arithmetic. A kernel is the first of the op's list that serves these types at this"
             " level; those that were asked before and do not serve are named.\n"
             "With --json \"plan\" is {\"isa\", \"threads\", \"nodes\", \"copies\", \"in_place\", \"block_bytes\", \"sum_bytes\","
             " \"weight_bytes\", \"flops\", \"steps\": [{\"step\", \"op\", \"kernel\", \"path\", \"passed_over\", \"dtype\", \"shape\","
             " \"outputs\", \"chunks\", \"chunk\", \"bytes\", \"scratch_bytes\", \"offset\", \"flops\", \"in_place\"}]}.\n",
    .example = "heed info model.safetensors\n"
               "heed info runs/fa\n"
               "heed info runs/fa --graph svg > model.svg\n"
               "heed info runs/fa --plan --batch 128\n",
};
