/* The doctor on a run folder: what the rules need is put together from its files and from the data of its
 * recipe, split as training split it. Data that are not there any more leave rules unlooked, and a sentence
 * says which. */

#include "base/files.h"
#include "base/text.h"
#include "explain/doctor.h"
#include "tasks/history.h"
#include "tasks/run.h"
#include "tasks/run_folder.h"

typedef struct visit {
    heed_run *run;
    heed_error *err;
    heed_dataset *data;
    heed_loader *samples;
    int64_t *train, *validation;
    heed_history_row *history;
    heed_doctor_case c;
    text missing;
} visit;

/* The training part, split by the recipe's rule; the model is shown what it was not trained on, where there
 * is any. */
static heed_status open_data(visit *v)
{
    const heed_run *r = v->run;
    const recipe_values *values = r->recipe->values;
    heed_doctor_case *c = &v->c;
    heed_dataset_opts opts;
    int64_t n;

    TRY(heed__recipe_dataset(&opts, r->recipe, HEED_PART_TRAIN, v->err));
    TRY(heed_dataset_open(&v->data, r->ctx, values->data.path, &opts, v->err));
    n = heed_dataset_count(v->data);
    v->train = heed__alloc(r->ctx->heap, (size_t)n + 1, sizeof *v->train);
    v->validation = heed__alloc(r->ctx->heap, (size_t)n + 1, sizeof *v->validation);
    if (!v->train || !v->validation)
        return heed__fail_memory(v->err, (uint64_t)n * sizeof *v->train);
    TRY(heed_dataset_split(v->data, values->data.validation, v->train, &c->n_train, v->validation,
                           &c->n_validation, v->err));
    if (values->data.limit > 0)
        c->n_train = i64_min(c->n_train, values->data.limit);
    c->data = v->data;
    c->train = v->train;
    c->validation = v->validation;
    return heed_loader_new(&v->samples, r->ctx, v->data, c->n_validation > 0 ? v->validation : v->train,
                           c->n_validation > 0 ? c->n_validation : c->n_train,
                           &(heed_loader_opts){ .batch_size = 64,
                                                .shuffle = true, /* files are often sorted by class */
                                                .seed = (uint64_t)r->config.seed,
                                                .mean = r->config.mean,
                                                .std = r->config.std },
                           v->err);
}

static bool fits(const visit *v)
{
    const heed_type image = heed_dataset_image_type(v->data), want = heed_run_input_type(v->run, 1);

    return image.dims[0] == want.dims[1] && image.dims[1] == want.dims[2] && image.dims[2] == want.dims[3] &&
           heed_dataset_classes(v->data) <= v->run->config.classes;
}

/* Data that cannot be read are no failure of the doctor. */
static heed_status find_data(visit *v)
{
    heed_error *told = v->err, why = { 0 };
    heed_status st;

    v->err = &why;
    st = open_data(v);
    v->err = told;
    if (st == HEED_OK && fits(v)) {
        v->c.samples = v->samples;
        return HEED_OK;
    }
    if (st == HEED_ERR_MEMORY)
        return heed__fail(told, st, "%s", why.text);
    v->c.data = NULL;
    v->c.train = v->c.validation = NULL;
    heed__text_add(&v->missing,
                   "the data of the recipe %s, so that samples, labels and parts were not looked at",
                   st == HEED_OK ? "have another shape than the model's" : "cannot be read");
    if (st != HEED_OK)
        heed__text_add(&v->missing, " (%s)", why.text);
    return HEED_OK;
}

static heed_status find_history(visit *v)
{
    heed_context *ctx = v->run->ctx;
    heed_status st;
    char *path;

    TRY(heed__run_file(&path, ctx, v->run->folder, RUN_METRICS, v->err));
    st = heed__history_read(&v->history, &v->c.n_history, ctx, path, v->err);
    v->c.history = v->history;
    heed__release(ctx->heap, path);
    return st;
}

static heed_status say_self_test(visit *v, heed_diagnosis *d)
{
    heed_self_test_result r;
    char words[200];

    TRY(heed_run_self_test(&r, v->run, v->err));
    if (r.verdict == HEED_SELF_TEST_NONE)
        return HEED_OK;
    heed__diagnosis_looked(d, RULE_SELF_TEST);
    if (r.verdict != HEED_SELF_TEST_OTHER)
        return HEED_OK;
    heed__format(
        words, sizeof words,
        "the model computes other numbers than after training: they differ by %.3g (then %s, now %s)",
        r.difference, heed_isa_name(r.then), heed_isa_name(r.now));
    return heed__diagnosis_add(d, v->run->ctx, RULE_SELF_TEST, r.difference, "config.json", words, v->err);
}

heed_status heed_run_doctor(heed_diagnosis **out, char **missing, heed_run *r, const heed_doctor_opts *opts,
                            heed_error *err)
{
    const heed_trainer_opts training = { .label_smoothing = r->recipe->values->train.label_smoothing,
                                         .clip_norm = r->recipe->values->train.clip_norm };
    heed_doctor_opts settled = opts ? *opts : (heed_doctor_opts){ 0 };
    visit v = { .run = r,
                .err = err,
                .c = { .model = r->model,
                       .training = &training,
                       .weighing = r->recipe->values->train.class_weights == CLASS_WEIGHTS_BALANCED
                                       ? HEED_WEIGHS_CLASSES
                                       : HEED_WEIGHS_ALIKE } };
    heed_diagnosis *d = NULL;
    char *words = NULL;
    heed_status st;

    TRY(heed__run_unedited(r, "a diagnosis", err));
    heed__text_init(&v.missing, r->ctx->heap, 0);
    settled.trial = -1; /* a run has its history */
    STEP(find_data(&v));
    STEP(find_history(&v));
    STEP(heed_doctor(&d, r->ctx, &v.c, &settled, err));
    STEP(say_self_test(&v, d));
    if (missing) {
        words = heed__text_take(&v.missing);
        if (!words) {
            st = heed__fail_memory(err, 0);
            goto done;
        }
        *missing = words;
    }
    *out = d;
    d = NULL;
done:
    heed_diagnosis_free(r->ctx, d);
    heed_loader_free(v.samples);
    heed_dataset_free(v.data);
    heed__release(r->ctx->heap, v.train);
    heed__release(r->ctx->heap, v.validation);
    heed__release(r->ctx->heap, v.history);
    heed__text_release(&v.missing);
    return st;
}
