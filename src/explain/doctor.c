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
    { .name = "nan-origin",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "a pass over the samples",
      .finds = "the result holds a NaN or an infinity (how many); the first node that gave one is "
               "named",
      .threshold = 0,
      .why = "-inf where a mask takes a score out is meant and is passed over; any other is a "
               "number that was lost",
      .remedy = "look at that layer: a logarithm or root of zero, a division by zero, an overflow; "
               "normalise its input" },
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
    { .name = "scale-twice",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "graph",
      .finds = "q or k was multiplied by a constant before scores are scaled again, or a temperature"
               " divides once more (product of all, times d)",
      .threshold = 0.01,
      .why = "the product is then 1/d to the last digits: no other mistake gives that number",
      .remedy = "scale once: leave q and k as they are, and score.scale unset" },
    { .name = "distance-sign",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "graph",
      .finds = "scores rise with the distance of q and k (slope), in neg_distance, neg_sq_distance "
               "or a softmax made by hand",
      .threshold = 0,
      .why = "of distances 0, 1, 5 the softmax gives 0.976 to the farthest; negated, 0.727 to the "
               "nearest",
      .remedy = "negate distances before the softmax: score.scale of a distance must be positive" },
    { .name = "causal-encoder",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "graph, sequences",
      .finds = "a model that is said to see both sides does not: a mask hides later tokens, or changing them "
               "moves nothing before (relative difference)",
      .threshold = 1e-6,
      .why = "an encoder reads all of its input: a causal mask takes half of every context away",
      .remedy = "leave mask.causal off in an encoder" },
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
    { .name = "rows-uniform",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "attention rows",
      .finds = "a head whose rows are uniform (mean entropy, as a share of ln(kept keys))",
      .threshold = 0.998,
      .why = "at most 0.934 in 76 trained heads of the recipes; 1/sqrt(d T) at T = 256 gives "
             "0.9996. A single row (pooling) may learn the mean and is not judged",
      .remedy = "check the scale (1/sqrt(d), not 1/sqrt(d T)) and the initial values of q and k, or "
               "pool without attention" },
    { .name = "entropy-collapse",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "attention rows",
      .finds = "a head whose rows all fall on one key (mean entropy, as a share of ln(kept keys))",
      .threshold = 0.01,
      .why = "at least 0.077 in 76 trained heads of the recipes; at 0.01 a row of 49 keys has all "
             "but 0.4 % of its weight on one",
      .remedy = "lower train.lr, add train.warmup, check the scale, or normalise q and k" },
    { .name = "saturated-scores",
      .severity = HEED_SEVERITY_WARNING,
      .looks_at = "attention rows",
      .finds = "a head most of whose rows have a weight above 0.999, or a score at softcap (share of"
               " rows)",
      .threshold = 0.75,
      .why = "at most 0.40 in 76 trained heads of the recipes; w (1 - w), which gradients are "
             "multiplied by, is below 0.001 there",
      .remedy = "check the scale of scores, normalise q and k, raise softcap" },
    { .name = "mask-polarity",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "sequences with lengths",
      .finds = "attention weighs what is padding and not what is kept (share of the weight), or the "
               "result depends on padding alone",
      .threshold = 0.999,
      .why = "a mask that is missing leaves weight on both; only one that is turned round leaves "
               "none on what is kept",
      .remedy = "masks say what to keep: negate it, in.mask is true where a key counts" },
    { .name = "padding-seen",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "sequences with lengths",
      .finds = "padding has weight in attention (largest share of a row), or changing it changes the"
               " result (relative difference)",
      .threshold = 1e-6,
      .why = "a masked key has weight 0 exactly, and what is not read changes no bit; f32 rounds "
               "at 1e-7",
      .remedy = "give the lengths to every layer that mixes positions (in.lengths), before the "
               "softmax, not after" },
    { .name = "future-seen",
      .severity = HEED_SEVERITY_FAULT,
      .looks_at = "sequences of a causal model",
      .finds = "changing tokens changes the result at earlier times (relative difference)",
      .threshold = 1e-6,
      .why = "what is not read changes no bit, whatever stands beside it; f32 rounds at 1e-7",
      .remedy = "set mask.causal in that layer, and shift targets, not inputs" },
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

bool heed__doctor_found(const doctor *d, doctor_rule rule, const char *place)
{
    for (int64_t i = 0; i < d->d->told.n; i++)
        if (d->d->told.findings[i].rule == &doctor_rules[rule] &&
            (!place || strcmp(d->d->told.findings[i].place, place) == 0))
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
    if (d->n > 0) {
        d->in[0] = d->x;
        d->in[1] = d->y;
        d->n_in = 1;
        d->n_all = 2;
    }
    return HEED_OK;
}

static heed_status check_lengths(doctor *d, const heed_doctor_sequences *s)
{
    const int64_t i = s->lengths.value;
    const heed_type *t;

    if (!s->lengths.set)
        return HEED_OK;
    if (i < 0 || i >= s->n_inputs)
        return heed__fail(d->err, HEED_ERR_USAGE, "doctor: sequences.lengths is input %lld of %d", (long long)i,
                          s->n_inputs);
    t = &s->inputs[i].type;
    if (t->dtype != HEED_I64 || t->rank != 1)
        return heed__fail(d->err, HEED_ERR_DTYPE, "doctor: lengths must be i64 [n], input %lld is %s of rank %d",
                          (long long)i, heed_dtype_name(t->dtype), t->rank);
    for (int64_t j = 0; j < d->n; j++) {
        const int64_t n = ((const int64_t *)s->inputs[i].data)[j];

        if (n < 0 || n > d->steps)
            return heed__fail(d->err, HEED_ERR_LIMIT, "doctor: sequence %lld has length %lld; it must be 0 to %lld",
                              (long long)j, (long long)n, (long long)d->steps);
    }
    return HEED_OK;
}

static heed_status check_sequences(doctor *d, const heed_doctor_sequences *s)
{
    const heed_type *t;
    int time;

    if (d->c->samples || !d->c->model)
        return heed__fail(d->err, HEED_ERR_USAGE,
                          "doctor: sequences are shown to a model in place of samples: give a model and one of the two");
    if (s->n_inputs < 1 || s->n_inputs > DOCTOR_INPUTS || s->tokens < 0 || s->tokens >= s->n_inputs)
        return heed__fail(d->err, HEED_ERR_USAGE, "doctor: tokens are input %d of %d; there may be 1 to %d inputs",
                          s->tokens, s->n_inputs, DOCTOR_INPUTS);
    t = &s->inputs[s->tokens].type;
    time = s->time ? s->time : 1;
    if (t->dtype != HEED_F32 && t->dtype != HEED_I64)
        return heed__fail(d->err, HEED_ERR_DTYPE, "doctor: tokens are %s; they must be f32 or i64",
                          heed_dtype_name(t->dtype));
    if (time < 1 || time >= t->rank)
        return heed__fail(d->err, HEED_ERR_SHAPE, "doctor: time is axis %d of tokens of rank %d", time, t->rank);
    for (int i = 0; i <= s->n_inputs; i++) {
        const heed_tensor *x = i < s->n_inputs ? &s->inputs[i] : &s->target;

        if (i == s->n_inputs && !x->data)
            continue;
        if (x->type.rank < 1 || x->type.dims[0] != t->dims[0] || t->dims[0] < 1)
            return heed__fail(d->err, HEED_ERR_SHAPE,
                              "doctor: axis 0 of %s %d does not count the %lld sequences; there must be one at least",
                              i < s->n_inputs ? "input" : "the target beside input", i, (long long)t->dims[0]);
    }
    if (s->direction == HEED_DIRECTION_CAUSAL && !s->result_time.set)
        return heed__fail(d->err, HEED_ERR_USAGE,
                          "doctor: of a causal model sequences.result_time must say which axis of the result is time");
    return HEED_OK;
}

/* Sequences stay where they are. */
static heed_status doctor_take(doctor *d, int64_t most)
{
    const heed_doctor_sequences *s = d->c->sequences;

    TRY(check_sequences(d, s));
    d->n = i64_min(most, s->inputs[s->tokens].type.dims[0]);
    d->steps = s->inputs[s->tokens].type.dims[s->time ? s->time : 1];
    TRY(check_lengths(d, s));
    for (int i = 0; i < s->n_inputs; i++)
        d->in[i] = s->inputs[i];
    d->n_in = d->n_all = s->n_inputs;
    if (s->target.data)
        d->in[d->n_all++] = s->target;
    for (int i = 0; i < d->n_all; i++)
        d->in[i].type.dims[0] = d->n;
    d->d->told.samples = d->n;
    return HEED_OK;
}

/* ---- the walk ---- */

heed_status heed_doctor(heed_diagnosis **out, heed_context *ctx, const heed_doctor_case *c,
                        const heed_doctor_opts *opts, heed_error *err)
{
    static heed_status (*const groups[])(doctor *) = {
        heed__doctor_weights, heed__doctor_graph,     heed__doctor_finite, heed__doctor_watch,
        heed__doctor_rows,    heed__doctor_sequences, heed__doctor_curve,  heed__doctor_inputs,
        heed__doctor_classes, heed__doctor_overlap,
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
    if (c->sequences)
        STEP(doctor_take(&d, samples));
    else if (c->samples)
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
