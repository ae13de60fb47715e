/* The doctor: a table of mistakes that train without a word, and the walk over them.
 *
 * A rule is a line here: what it measures, the bound and why that bound. The measuring is in the groups
 * (doctor_*.c), each of which serves the rules that look at the same thing. A group whose material is
 * missing leaves its rules unlooked. Findings come out in the order of the table, so the text does not
 * depend on the order of looking. */

#include "explain/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In the order of doctor_rule. */
static const heed_doctor_rule doctor_rules[] = {
    { .name = "not-finite",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "weights",
      .finds = "a parameter or state holds a NaN or an infinity",
      .threshold = 0,
      .why = "one such number reaches every output",
      .remedy = "train again from the last good weights with a lower train.lr or with train.clip_norm" },
    { .name = "self-test",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "config.json",
      .finds = "the outputs on three made inputs are not those that training wrote down (relative "
               "difference)",
      .threshold = 1e-4,
      .why = "another instruction level moves them by about 1e-6, a changed file by much more",
      .remedy = "restore recipe.yaml, config.json and preprocessor_config.json as training wrote them" },
    { .name = "double-softmax",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "training graph",
      .finds = "cross-entropy gets the output of a softmax, or rows that already sum to one (distance from "
               "one)",
      .threshold = 1e-3,
      .why = "logits of a network do not sum to one by chance; f32 softmax does to about 1e-6",
      .remedy = "remove the softmax before the loss: cross-entropy takes logits" },
    { .name = "attention-scale",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "graph",
      .finds = "scores are not scaled by 1/sqrt(d) (scale * sqrt(d), distance from one)",
      .threshold = 0.01,
      .why = "at 1/sqrt(d) scores of unit-variance q and k have variance one: larger saturates, smaller is "
             "uniform",
      .remedy = "leave score.scale unset, or divide by the square root of the width of one head" },
    { .name = "growing-loss",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "history of training",
      .finds = "the training loss ends above its best (ratio of means over a quarter of the rows), or is "
               "not finite",
      .threshold = 1.25,
      .why = "noise between epochs is a few percent; the rise must also exceed 5 % of the first loss",
      .remedy = "lower train.lr, add train.warmup, or clip with train.clip_norm" },
    { .name = "exploding-gradient",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "history of training",
      .finds = "the gradient's norm is not finite, above 10000, or, where nothing clips it, above this and ten times "
               "its median",
      .threshold = 100,
      .why = "mean losses of normalised inputs have norms of 0.01 to 10",
      .remedy = "set train.clip_norm: 1, lower train.lr, and look at the initial values" },
    { .name = "constant-rate",
      .severity = HEED_SEVERITY_NOTE,
      .looks_at = "history of training",
      .finds = "the rate never falls and the loss of the second half of eight or more epochs goes up and "
               "down without falling by 5 % (share of rises)",
      .threshold = 0.4,
      .why = "a loss that still falls rises in few epochs; one that jumps about a floor set by the rate in "
             "about half",
      .remedy = "set train.schedule: cosine, or lower train.lr" },
    { .name = "dead-units",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "outputs of ReLU",
      .finds = "units of a layer that are zero for every sample (share)",
      .threshold = 0.25,
      .why = "He initialisation leaves almost none dead; a quarter is capacity paid for and not used",
      .remedy = "lower train.lr, check biases and normalisation, or use gelu" },
    { .name = "dead-heads",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "attention weights",
      .finds = "a head whose weights are the same for every sample, or those of another head (largest "
               "difference times keys)",
      .threshold = 0.01,
      .why = "a head that reads its input moves weights by tens of percent of 1/keys",
      .remedy = "use fewer heads or layers; check the scale and the initial values of q and k" },
    { .name = "constant-predictions",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "predictions",
      .finds = "one class gets more than this share while no label has more than half, or the logits do not "
               "depend on the input",
      .threshold = 0.95,
      .why = "a model that learnt anything spreads its predictions about as the labels are spread",
      .remedy = "check that inputs reach the network, that labels belong to their pictures, and lower "
                "train.lr" },
    { .name = "raw-inputs",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "inputs",
      .finds = "inputs are not normalised: the mean lies this many deviations from zero, or the deviation "
               "is outside 0.05 to 20",
      .threshold = 3,
      .why = "initial values assume numbers of about unit variance around zero",
      .remedy = "leave data.mean and data.std unset: they are then measured" },
    { .name = "class-imbalance",
      .severity = HEED_SEVERITY_NOTE,
      .looks_at = "labels",
      .finds = "the commonest class has this many times the samples of the rarest, and the loss weighs all "
               "alike",
      .threshold = 10,
      .why = "at 10 to 1 always naming the commonest class is right in nine of ten of those two",
      .remedy = "set train.class_weights: balanced, or collect more; judge by balanced accuracy and F1, not "
                "by accuracy" },
    { .name = "part-overlap",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "training and validation part",
      .finds = "a validation picture, or its mirror image, is in the training part too (share of the "
               "validation part)",
      .threshold = 0,
      .why = "what was trained on is no evidence; Fashion-MNIST has none among 6,078, mirrored neither",
      .remedy = "split by picture, not by row: heed's own split puts equal pictures on one side" },
    { .name = NULL },
};
_Static_assert(sizeof doctor_rules / sizeof *doctor_rules == RULE_COUNT + 1, "a line for each rule");

const heed_doctor_rule *heed_doctor_rules(void)
{
    return doctor_rules;
}

const heed_doctor_rule *heed_doctor_rule_find(const char *name)
{
    for (const heed_doctor_rule *r = doctor_rules; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}

const char *heed_severity_name(heed_severity s)
{
    static const char *const names[] = { "note", "warning", "fault" };

    return (unsigned)s < sizeof names / sizeof *names ? names[s] : "?";
}

/* ---- findings ---- */

void heed__diagnosis_looked(heed_diagnosis *to, doctor_rule rule)
{
    to->looked |= UINT64_C(1) << rule;
}

heed_status heed__diagnosis_add(heed_diagnosis *to, heed_context *ctx, doctor_rule rule, double measured,
                                const char *place, const char *sentence, heed_error *err)
{
    diagnosis *d = (diagnosis *)to;
    heed_finding *f;
    int64_t at = to->n;

    if (to->n == d->room) {
        heed_finding *more = heed__resize(ctx->heap, d->findings, (size_t)d->room + 16, sizeof *more);

        if (!more)
            return heed__fail_memory(err, ((size_t)d->room + 16) * sizeof *more);
        d->findings = more;
        to->findings = more;
        d->room += 16;
    }
    for (; at > 0 && d->findings[at - 1].rule > &doctor_rules[rule]; at--)
        d->findings[at] = d->findings[at - 1];
    f = &d->findings[at];
    *f = (heed_finding){ .rule = &doctor_rules[rule], .measured = measured };
    (void)snprintf(f->place, sizeof f->place, "%s", place);
    (void)snprintf(f->text, sizeof f->text, "%s", sentence);
    to->n++;
    return HEED_OK;
}

void heed__doctor_looked(doctor *d, doctor_rule rule)
{
    heed__diagnosis_looked(&d->d->told, rule);
}

bool heed__doctor_found(const doctor *d, doctor_rule rule)
{
    for (int64_t i = 0; i < d->d->told.n; i++)
        if (d->d->told.findings[i].rule == &doctor_rules[rule])
            return true;
    return false;
}

heed_status heed__doctor_find(doctor *d, doctor_rule rule, double measured, const char *place,
                              const char *format, ...)
{
    char sentence[256];
    va_list args;

    va_start(args, format);
    (void)heed__os_format(sentence, sizeof sentence, format, args);
    va_end(args);
    return heed__diagnosis_add(&d->d->told, d->ctx, rule, measured, place, sentence, d->err);
}

void heed_diagnosis_free(heed_context *ctx, heed_diagnosis *told)
{
    if (!told)
        return;
    heed__release(ctx->heap, ((diagnosis *)told)->findings);
    heed__release(ctx->heap, told);
}

/* ---- what is shown to the model ---- */

static heed_status doctor_room(doctor *d, const heed_tensor *x, const heed_tensor *y, int64_t most)
{
    const int64_t each = heed_type_count(&x->type) / i64_max(1, x->type.dims[0]);

    if (x->type.dtype != HEED_F32 || x->type.rank < 1 || y->type.dtype != HEED_I64)
        return heed__fail(d->err, HEED_ERR_DTYPE, "the doctor shows f32 samples with i64 labels to a model");
    d->x.type = x->type;
    d->y.type = y->type;
    d->x.data = heed__alloc(d->ctx->heap, (size_t)most, (size_t)each * sizeof(float));
    d->y.data = heed__alloc(d->ctx->heap, (size_t)most, sizeof(int64_t));
    if (!d->x.data || !d->y.data)
        return heed__fail_memory(d->err, (uint64_t)most * (uint64_t)each * sizeof(float));
    return HEED_OK;
}

/* The first samples of the loader, in one block. */
static heed_status doctor_gather(doctor *d, int64_t most)
{
    heed_tensor x, y;
    int64_t count;

    TRY(heed_loader_start(d->c->samples, 0, 0, d->err));
    while (d->n < most) {
        int64_t each, taken;

        TRY(heed_loader_next(d->c->samples, &x, &y, &count, d->err));
        if (count == 0)
            break;
        if (!d->x.data)
            TRY(doctor_room(d, &x, &y, most));
        each = heed_type_count(&x.type) / x.type.dims[0];
        taken = i64_min(count, most - d->n);
        memcpy((float *)d->x.data + d->n * each, x.data, (size_t)(taken * each) * sizeof(float));
        memcpy((int64_t *)d->y.data + d->n, y.data, (size_t)taken * sizeof(int64_t));
        d->n += taken;
    }
    d->x.type.dims[0] = d->y.type.dims[0] = d->n;
    d->d->told.samples = d->n;
    return HEED_OK;
}

/* ---- the walk ---- */

heed_status heed_doctor(heed_diagnosis **out, heed_context *ctx, const heed_doctor_case *c,
                        const heed_doctor_opts *opts, heed_error *err)
{
    static heed_status (*const groups[])(doctor *) = {
        heed__doctor_weights, heed__doctor_graph,   heed__doctor_watch,   heed__doctor_curve,
        heed__doctor_inputs,  heed__doctor_classes, heed__doctor_overlap,
    };
    const int64_t samples = opts && opts->samples ? opts->samples : 256;
    doctor d = { .ctx = ctx, .c = c, .err = err, .trial = opts && opts->trial ? opts->trial : 40 };
    heed_status st;

    if (samples < 2)
        return heed__fail(err, HEED_ERR_LIMIT, "the doctor needs at least 2 samples, not %lld",
                          (long long)samples);
    d.d = heed__alloc(ctx->heap, 1, sizeof *d.d);
    if (!d.d)
        return heed__fail_memory(err, sizeof *d.d);
    for (int i = 0; i < RULE_COUNT; i++)
        d.threshold[i] = doctor_rules[i].threshold;
    if (c->samples)
        STEP(doctor_gather(&d, samples));
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        STEP(groups[i](&d));
    *out = &d.d->told;
    d.d = NULL;
done:
    heed__release(ctx->heap, d.x.data);
    heed__release(ctx->heap, d.y.data);
    heed__release(ctx->heap, d.history);
    heed_diagnosis_free(ctx, d.d ? &d.d->told : NULL);
    return st;
}
