/* report.html: what the page shows is put together from the run's folder and from one evaluation, so that
 * every number and the worst mistakes, those with the least probability of the truth, are of the same pass.
 * */

#include "tasks/run_report.h"
#include "base/digest.h"
#include "base/files.h"
#include "base/sizes.h"
#include "explain/report.h"
#include "tasks/history.h"
#include "tasks/rivals.h"
#include "tasks/run_folder.h"
#include "train/mirror.h"

#include <math.h>
#include <string.h>

#define MISTAKES_MOST 64
#define PAIRS_MOST 24
#define TEST_ORDERS 40 /* of the deletion test: enough for a verdict at 95 % */
#define TEST_POINTS 11

typedef struct press {
    heed_run *run;
    heed_context *ctx;
    const report_samples *s;
    const heed_report_opts *opts;
    heed_error *err;
    arena arena;
    heed_evaluation e;
    heed_metrics *metrics;
    heed_history_row *history;
    file_bytes recipe;
    rivals rivals;
    report_mistake mistakes[MISTAKES_MOST];
    int64_t at[MISTAKES_MOST]; /* samples of the mistakes */
    heed_explanation *explained[MISTAKES_MOST];
    int64_t n_explained;
    report_part parts[3];
    report_pair data[PAIRS_MOST], cost[PAIRS_MOST], environment[PAIRS_MOST];
    report r;
} press;

static heed_status no_room(press *p)
{
    return heed__fail_memory(p->err, 0);
}

/* Adds a line; value NULL: memory ran out. */
static heed_status pair(press *p, report_pair *list, int64_t *n, const char *name, const char *value)
{
    if (!value)
        return no_room(p);
    if (*n < PAIRS_MOST)
        list[(*n)++] = (report_pair){ name, value };
    return HEED_OK;
}

#define DATA(p, name, ...)                                                                                   \
    pair(p, (p)->data, &(p)->r.n_data, name, heed__arena_format(&(p)->arena, __VA_ARGS__))
#define COST(p, name, ...)                                                                                   \
    pair(p, (p)->cost, &(p)->r.n_cost, name, heed__arena_format(&(p)->arena, __VA_ARGS__))
#define ENVIRONMENT(p, name, ...)                                                                            \
    pair(p, (p)->environment, &(p)->r.n_environment, name, heed__arena_format(&(p)->arena, __VA_ARGS__))

static int64_t sample(const report_samples *s, int64_t i)
{
    return s->order ? s->order[i] : i;
}

/* ---- evaluation ---- */

static heed_status evaluate(press *p)
{
    const heed_run *run = p->run;
    const recipe_train *t = &run->recipe->values->train;
    report *r = &p->r;
    heed_loader *l = NULL;
    heed_status st;

    r->no_metrics = p->s->why;
    if (!p->s->data || p->s->n < 1)
        return HEED_OK;
    STEP(heed_loader_new(&l, p->ctx, p->s->data, p->s->order, p->s->n,
                         &(heed_loader_opts){ .batch_size = i64_min(t->batch_size, p->s->n),
                                              .mean = run->config.mean,
                                              .std = run->config.std },
                         p->err));
    STEP(heed_evaluate(&p->e, run->model, l, HEED_AVERAGE_NONE, p->err));
    heed_evaluation_tensors(&p->e, HEED_AVERAGE_NONE, &r->probability, &r->labels);
    STEP(heed_metrics_new(&p->metrics, p->ctx, r->probability, r->labels, p->err));
    r->metrics = p->metrics;
done:
    heed_loader_free(l);
    return st;
}

/* ---- mistakes ---- */

/* Wrongly named samples in the order of p[truth]; the first of equal ones. */
static void find_mistakes(press *p, int64_t most)
{
    const int64_t classes = p->run->config.classes;
    report *r = &p->r;

    for (int64_t i = 0; r->metrics && i < p->s->n; i++) {
        const float *row = p->e.probability + i * classes;
        const int64_t truth = p->e.labels[i], named = heed__largest(row, classes);
        int64_t k = r->n_mistakes;

        if (named == truth)
            continue;
        r->all_mistakes++;
        while (k > 0 && p->mistakes[k - 1].p_truth > (double)row[truth])
            k--;
        if (k == most)
            continue;
        r->n_mistakes += r->n_mistakes < most;
        memmove(p->mistakes + k + 1, p->mistakes + k, (size_t)(r->n_mistakes - 1 - k) * sizeof *p->mistakes);
        memmove(p->at + k + 1, p->at + k, (size_t)(r->n_mistakes - 1 - k) * sizeof *p->at);
        p->at[k] = sample(p->s, i);
        p->mistakes[k] = (report_mistake){ .truth = truth,
                                           .predicted = named,
                                           .p_truth = (double)row[truth],
                                           .p_predicted = (double)row[named] };
    }
    r->mistakes = p->mistakes;
}

static heed_status show_mistakes(press *p)
{
    for (int64_t k = 0; k < p->r.n_mistakes; k++) {
        report_mistake *m = &p->mistakes[k];
        const heed_type image = heed_dataset_image_type(p->s->data);
        const char *source = heed_dataset_source(p->s->data, p->at[k]);

        m->name =
            source[0] ? source : heed__arena_format(&p->arena, "%s[%lld]", p->s->part, (long long)p->at[k]);
        if (!m->name)
            return no_room(p);
        m->picture.type = image;
        m->picture.data = (void *)(uintptr_t)heed_dataset_image(p->s->data, p->at[k]); /* only read */
    }
    return HEED_OK;
}

/* Maps of attention for the first ones, each put to a short deletion test. A model without attention has
 * none. */
static heed_status explain_mistakes(press *p, int64_t most)
{
    const heed_explain_opts opts = { .methods = 1u << HEED_EXPLAIN_RAW | 1u << HEED_EXPLAIN_ROLLOUT,
                                     .orders = TEST_ORDERS,
                                     .points = TEST_POINTS };

    for (int64_t k = 0; k < p->r.n_mistakes && k < most; k++) {
        report_mistake *m = &p->mistakes[k];
        heed_error why = { 0 };
        const heed_status st =
            heed_run_explain(&p->explained[k], p->run, m->picture, m->name, m->truth, &opts, &why);

        if (st == HEED_ERR_SPEC)
            return HEED_OK;
        if (st != HEED_OK)
            return heed__fail_at(p->err, st, why.path, "%s", why.text);
        p->n_explained = k + 1;
        m->explanation = p->explained[k];
    }
    return HEED_OK;
}

/* ---- from the folder ---- */

static heed_status read_history(press *p)
{
    heed_status st;
    char *path;

    TRY(heed__run_file(&path, p->ctx, p->run->folder, RUN_METRICS, p->err));
    st = heed__history_read(&p->history, &p->r.n_history, p->ctx, path, p->err);
    p->r.history = p->history;
    heed__release(p->ctx->heap, path);
    return st;
}

static heed_status read_recipe(press *p)
{
    heed_status st;
    char *path;

    TRY(heed__run_file(&path, p->ctx, p->run->folder, RUN_RECIPE, p->err));
    st = heed__file_read(&p->recipe, p->ctx, path, p->ctx->limits.yaml_bytes, p->err);
    heed__release(p->ctx->heap, path);
    return st;
}

static heed_status read_folder(press *p)
{
    report *r = &p->r;

    TRY(read_history(p));
    TRY(read_recipe(p));
    r->recipe = heed__arena_format(&p->arena, "%.*s", (int)p->recipe.size, (const char *)p->recipe.data);
    if (!r->recipe)
        return no_room(p);
    for (const char *const *file = p->opts->compare; file && *file; file++)
        TRY(heed__rival_read(&p->rivals, p->ctx, &p->arena, *file, p->err));
    TRY(heed__rivals_find(&p->rivals, p->ctx, &p->arena, p->run->folder, p->err));
    r->rivals = p->rivals.list;
    r->n_rivals = p->rivals.n;
    return HEED_OK;
}

static heed_status list_tensors(press *p)
{
    const heed_weights *w = heed_model_weights(p->run->model);
    const int64_t n = heed_weights_count(w);
    report_tensor *list = heed__arena_alloc(&p->arena, (size_t)n, sizeof *list);
    report *r = &p->r;

    if (!list)
        return no_room(p);
    for (int64_t i = 0; i < n; i++) {
        const char *name, *shape = "";
        const heed_tensor t = heed_weights_at(w, i, &name);

        if (!heed_weights_in_model(name))
            continue;
        for (int k = 0; shape && k < t.type.rank; k++)
            shape = heed__arena_format(&p->arena, "%s%s%lld", shape, k ? " \xc3\x97 " : "",
                                       (long long)t.type.dims[k]);
        if (!shape)
            return no_room(p);
        list[r->n_tensors++] =
            (report_tensor){ .name = name, .shape = shape, .count = heed_type_count(&t.type) };
    }
    r->tensors = list;
    return HEED_OK;
}

/* ---- data ---- */

static heed_status count_part(press *p, const char *name, const heed_dataset *d, const int64_t *order,
                              int64_t n)
{
    const int64_t classes = p->run->config.classes;
    int64_t *counts = heed__arena_alloc(&p->arena, (size_t)classes, sizeof *counts);

    if (!counts)
        return no_room(p);
    for (int64_t i = 0; i < n; i++) {
        const int64_t label = heed_dataset_label(d, order ? order[i] : i);

        if (label >= 0 && label < classes)
            counts[label]++;
    }
    p->parts[p->r.n_parts++] = (report_part){ .name = name, .n = n, .per_class = counts };
    p->r.parts = p->parts;
    return HEED_OK;
}

/* Of the pixels and labels (one byte up to 255, else eight) in their order. */
static heed_status digest_part(press *p, const char *name, const heed_dataset *d, const int64_t *order,
                               int64_t n)
{
    const heed_type image = heed_dataset_image_type(d);
    const size_t bytes = (size_t)heed_type_count(&image);
    uint8_t sum[32];
    char hex[65];
    sha256 s;

    heed__sha256_init(&s);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = order ? order[i] : i;
        const uint64_t label = (uint64_t)heed_dataset_label(d, at);
        uint8_t word[8];

        for (int k = 0; k < 8; k++)
            word[k] = (uint8_t)(label >> (8 * k));
        heed__sha256_add(&s, heed_dataset_image(d, at), bytes);
        heed__sha256_add(&s, word, sizeof word);
    }
    heed__sha256_end(&s, sum);
    heed__hex(hex, sum, sizeof sum);
    return DATA(p, name, "%s", hex);
}

static heed_status describe_data(press *p)
{
    const run_config *c = &p->run->config;
    const report_samples *s = p->s;
    const char *folder = p->opts->data ? p->opts->data : p->run->recipe->values->data.path;

    TRY(DATA(p, "Folder", "%s", folder ? folder : ""));
    if (s->data && s->which)
        TRY(DATA(p, "Evaluated", "%s", s->which));
    TRY(DATA(p, "Size of a picture", "%lld \xc3\x97 %lld, %lld %s", (long long)c->height, (long long)c->width,
             (long long)c->channels, c->channels == 1 ? "channel" : "channels"));
    TRY(DATA(p, "Classes", "%lld", (long long)c->classes));
    if (s->training) {
        TRY(count_part(p, "training", s->training, s->train, s->n_train));
        if (s->n_validation > 0)
            TRY(count_part(p, "validation", s->training, s->validation, s->n_validation));
        TRY(digest_part(p, "SHA-256 of pixels and labels, training", s->training, s->train, s->n_train));
    }
    if (s->data) {
        if (strcmp(s->part, "validation") != 0)
            TRY(count_part(p, s->part, s->data, s->order, s->n));
        TRY(digest_part(p, "SHA-256 of pixels and labels, evaluated part", s->data, s->order, s->n));
    }
    return HEED_OK;
}

/* Always naming the class that is commonest in training (the first one of them). */
static void find_majority(press *p)
{
    const int64_t classes = p->run->config.classes;
    const int64_t *counts = p->s->training && p->r.n_parts ? p->parts[0].per_class : NULL;
    int64_t most = 0, right = 0;

    p->r.majority = p->r.majority_validation = (double)NAN;
    if (!counts)
        return;
    for (int64_t c = 1; c < classes; c++)
        most = counts[c] > counts[most] ? c : most;
    if (p->s->n_validation > 0)
        p->r.majority_validation = (double)p->parts[1].per_class[most] / (double)p->s->n_validation;
    if (!p->r.metrics)
        return;
    for (int64_t i = 0; i < p->s->n; i++)
        right += p->e.labels[i] == most;
    p->r.majority = (double)right / (double)p->s->n;
    p->r.majority_name = p->run->config.class_names[most];
}

/* ---- cost and environment ---- */

static const char *bytes_of(press *p, double n)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    int u = 0;

    while (n >= 1024 && u < 4) {
        n /= 1024;
        u++;
    }
    return heed__arena_format(&p->arena, u ? "%.1f %s" : "%.0f %s", n, units[u]);
}

static heed_status describe_cost(press *p)
{
    const heed_history_row *last = p->r.n_history ? &p->history[p->r.n_history - 1] : NULL;

    p->r.parameters = heed_model_parameters(p->run->model);
    TRY(COST(p, "Trained numbers", "%lld", (long long)p->r.parameters));
    if (last) {
        TRY(COST(p, "Epochs", "%lld", (long long)last->epoch));
        if (isfinite(last->seconds))
            TRY(COST(p, "Time of training", "%.1f s", last->seconds));
        if (isfinite(last->peak_bytes))
            TRY(pair(p, p->cost, &p->r.n_cost, "Most memory at one time", bytes_of(p, last->peak_bytes)));
    }
    p->r.cost = p->cost;
    return HEED_OK;
}

static heed_status describe_environment(press *p)
{
    heed_self_test_result same = { 0 };
    const char *libraries = "";
    char cpu[96];

    heed_cpu_name(cpu);
    TRY(ENVIRONMENT(p, "heed", "%s", HEED_VERSION));
    TRY(ENVIRONMENT(p, "Processor", "%s", cpu));
    TRY(ENVIRONMENT(p, "Instruction level", "%s", heed_isa_name(p->ctx->isa)));
    TRY(ENVIRONMENT(p, "Threads", "%d", heed_context_threads(p->ctx)));
    for (const heed_feature *f = heed_features(); f->name; f++)
        if (f->present) {
            libraries = heed__arena_format(&p->arena, "%s%s%s %s", libraries, libraries[0] ? ", " : "",
                                           f->library, f->version);
            if (!libraries)
                return no_room(p);
        }
    TRY(ENVIRONMENT(p, "Libraries", "%s", libraries));
    TRY(heed_run_self_test(&same, p->run, p->err));
    if (same.verdict != HEED_SELF_TEST_NONE)
        TRY(ENVIRONMENT(p, "Self-test of the run", "%s; trained with %s",
                        same.verdict == HEED_SELF_TEST_SAME    ? "the same bits"
                        : same.verdict == HEED_SELF_TEST_CLOSE ? "within the bound, other bits"
                                                               : "other numbers",
                        heed_isa_name(same.then)));
    p->r.environment = p->environment;
    p->r.data = p->data;
    p->r.command =
        heed__arena_format(&p->arena, "heed train %s/recipe.yaml --out %s-again%s%s", p->run->folder,
                           p->run->folder, same.verdict != HEED_SELF_TEST_NONE ? " --isa " : "",
                           same.verdict != HEED_SELF_TEST_NONE ? heed_isa_name(same.then) : "");
    p->r.sha256 = p->run->config.sha256;
    return p->r.command ? HEED_OK : no_room(p);
}

/* ---- the page ---- */

static heed_status write_page(press *p, const char *path)
{
    heed_status st;
    text t;

    heed__text_init(&t, p->ctx->heap, 0);
    st = heed__report_html(&t, p->ctx, &p->r, p->err);
    if (st == HEED_OK)
        st = heed__file_replace(p->ctx, path, t.data, t.size, p->err);
    heed__text_release(&t);
    return st;
}

static int64_t most_of(heed_maybe_i64 wanted, int64_t fallback)
{
    return i64_max(0, i64_min(wanted.set ? wanted.value : fallback, MISTAKES_MOST));
}

static heed_status fill(press *p)
{
    const run_config *c = &p->run->config;

    p->r = (report){ .run = p->run->folder,
                     .model = c->architecture,
                     .about = p->run->recipe->architecture->doc,
                     .part = p->s->part,
                     .classes = c->classes,
                     .class_names = c->class_names };
    TRY(evaluate(p));
    find_mistakes(p, most_of(p->opts->mistakes, 12));
    TRY(show_mistakes(p));
    TRY(explain_mistakes(p, most_of(p->opts->explained, 6)));
    TRY(read_folder(p));
    TRY(list_tensors(p));
    TRY(describe_data(p));
    find_majority(p);
    TRY(describe_cost(p));
    return describe_environment(p);
}

heed_status heed__run_report(heed_run *r, const report_samples *s, const char *path,
                             const heed_report_opts *opts, heed_error *err)
{
    heap *h = r->ctx->heap;
    press *p = heed__alloc(h, 1, sizeof *p);
    heed_status st;

    if (!p)
        return heed__fail_memory(err, sizeof *p);
    p->run = r;
    p->ctx = r->ctx;
    p->s = s;
    p->opts = opts;
    p->err = err;
    heed__arena_init(&p->arena, h);
    st = fill(p);
    if (st == HEED_OK)
        st = write_page(p, path);
    for (int64_t k = 0; k < p->n_explained; k++)
        heed_explanation_free(r->ctx, p->explained[k]);
    heed_metrics_free(r->ctx, p->metrics);
    heed_evaluation_release(r->ctx, &p->e);
    heed__release(h, p->history);
    heed__release(h, p->recipe.data);
    heed__release(h, p->rivals.list);
    heed__arena_release(&p->arena);
    heed__release(h, p);
    return st;
}

/* ---- a run and its test part ---- */

typedef struct opened {
    heed_dataset *test, *training;
    char part[256];
    int64_t *train, *validation;
} opened;

/* Counts of the training part are wanted, not needed: data that are not there leave them out. */
static heed_status open_training(opened *o, report_samples *s, heed_run *r, heed_error *err)
{
    const recipe_data *d = &r->recipe->values->data;
    heed_dataset_opts opts;
    heed_error why = { 0 };
    heed_status st;
    int64_t n;

    TRY(heed__recipe_dataset(&opts, r->recipe, HEED_PART_TRAIN, err));
    st = heed_dataset_open(&o->training, r->ctx, d->path, &opts, &why);
    if (st != HEED_OK)
        return st == HEED_ERR_MEMORY ? heed__fail(err, st, "%s", why.text) : HEED_OK;
    n = heed_dataset_count(o->training);
    o->train = heed__alloc(r->ctx->heap, (size_t)n + 1, sizeof *o->train);
    o->validation = heed__alloc(r->ctx->heap, (size_t)n + 1, sizeof *o->validation);
    if (!o->train || !o->validation)
        return heed__fail_memory(err, (uint64_t)n * sizeof *o->train);
    TRY(heed_dataset_split(o->training, d->validation, o->train, &s->n_train, o->validation, &s->n_validation,
                           err));
    if (d->limit > 0)
        s->n_train = i64_min(s->n_train, d->limit);
    s->training = o->training;
    s->train = o->train;
    s->validation = o->validation;
    return HEED_OK;
}

static heed_status open_test(opened *o, report_samples *s, heed_run *r, const heed_report_opts *opts,
                             heed_error *why)
{
    TRY(heed__run_test(&o->test, o->part, r, opts->data ? opts->data : r->recipe->values->data.path, why));
    s->data = o->test;
    s->which = o->part;
    s->n = heed_dataset_count(o->test);
    return HEED_OK;
}

heed_status heed_run_report(heed_run *r, const char *path, const heed_report_opts *opts, heed_error *err)
{
    const heed_report_opts settled = opts ? *opts : (heed_report_opts){ 0 };
    report_samples s = { .part = "test" };
    heed_error why = { 0 };
    opened o = { 0 };
    char *own = NULL;
    heed_status st;

    TRY(heed__run_unedited(r, "a report", err));
    if (!path) {
        own = heed__path_join(r->ctx, r->folder, RUN_REPORT);
        path = own;
    }
    if (!path)
        return heed__fail_memory(err, 0);
    if (!settled.force && heed__file_exists(r->ctx, path)) {
        st = heed__fail_at(err, HEED_ERR_EXISTS, path,
                           "%s is there already (training leaves one, of the validation part); --force writes over "
                           "it, --out FILE elsewhere",
                           path);
        goto done;
    }
    st = open_test(&o, &s, r, &settled, &why);
    if (st == HEED_ERR_MEMORY || (st != HEED_OK && settled.data)) {
        heed__fail_at(err, st, why.path, "%s", why.text);
        goto done;
    }
    s.why = why.text;
    STEP(open_training(&o, &s, r, err));
    STEP(heed__run_report(r, &s, path, &settled, err));
done:
    heed_dataset_free(o.test);
    heed_dataset_free(o.training);
    heed__release(r->ctx->heap, o.train);
    heed__release(r->ctx->heap, o.validation);
    heed__release(r->ctx->heap, own);
    return st;
}
