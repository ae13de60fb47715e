/* Evaluation: loss, accuracy and confusion over a loader's samples in order. Every batch has one shape: the
 * last one is filled up with its own first picture and what comes of that is dropped, so one plan serves all.
 *
 *   loss    mean of -ln softmax(logits)[label]
 *   mirror  accuracy of the mean of the probabilities of the picture and its mirror image
 *
 * Probabilities are kept as f32; the loss comes from the logits, so it is exact where a probability is none. */

#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include "train/mirror.h"
#include <heed/train.h>

#include <math.h>
#include <string.h>

typedef struct eval {
    heed_context *ctx;
    heed_model *model;
    heed_tensor x, logits;   /* one whole batch */
    float *flipped, *others; /* with mirror: room for as much again */
    double *row;
    int64_t batch, right, right_mirror;
} eval;

static void keep_row(float *to, const double *log_probability, int64_t classes)
{
    for (int64_t c = 0; c < classes; c++)
        to[c] = (float)exp(log_probability[c]);
}

/* Counts the first `count` rows of the batch. */
static heed_status count_batch(eval *v, heed_evaluation *e, const int64_t *labels, int64_t count,
                               heed_error *err)
{
    for (int64_t i = 0; i < count; i++) {
        const float *logits = (const float *)v->logits.data + i * e->classes;
        const int64_t best = heed__largest(logits, e->classes);

        if (labels[i] < 0 || labels[i] >= e->classes)
            return heed__fail(err, HEED_ERR_LIMIT,
                              "evaluation: label %lld of sample %lld, but the model has %lld classes",
                              (long long)labels[i], (long long)e->n + (long long)i, (long long)e->classes);
        heed__log_softmax_row(v->row, logits, e->classes);
        e->loss -= v->row[labels[i]];
        e->confusion[labels[i] * e->classes + best]++;
        v->right += best == labels[i];
        e->labels[e->n + i] = labels[i];
        keep_row(e->probability + (e->n + i) * e->classes, v->row, e->classes);
    }
    return HEED_OK;
}

/* The same rows once more, their logits now those of picture and mirror image. */
static void count_mirrored(eval *v, heed_evaluation *e, const int64_t *labels, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const float *logits = (const float *)v->logits.data + i * e->classes;

        v->right_mirror += heed__largest(logits, e->classes) == labels[i];
        heed__log_softmax_row(v->row, logits, e->classes);
        keep_row(e->probability_mirror + (e->n + i) * e->classes, v->row, e->classes);
    }
}

/* Room for what is kept of all samples, the last batch counted as a whole one. */
static heed_status prepare_results(eval *v, heed_evaluation *e, int64_t batches, heed_average average,
                                   heed_error *err)
{
    heap *h = v->ctx->heap;
    int64_t rows, numbers;

    if (!heed__i64_mul(&rows, batches, v->batch) || !heed__i64_mul(&numbers, rows, e->classes) ||
        numbers > INT64_MAX / (int64_t)sizeof(double))
        return heed__fail(err, HEED_ERR_LIMIT,
                          "evaluation: the probabilities of %lld batches are larger than memory",
                          (long long)batches);
    e->labels = heed__alloc(h, (size_t)rows, sizeof *e->labels);
    e->probability = heed__alloc(h, (size_t)numbers, sizeof *e->probability);
    if (average == HEED_AVERAGE_MIRROR)
        e->probability_mirror = heed__alloc(h, (size_t)numbers, sizeof *e->probability_mirror);
    if (!e->labels || !e->probability || (average == HEED_AVERAGE_MIRROR && !e->probability_mirror))
        return heed__fail_memory(err, (uint64_t)numbers * sizeof *e->probability);
    return HEED_OK;
}

/* Room for whole batches of x's shape and their logits. */
static heed_status prepare(eval *v, heed_evaluation *e, const heed_tensor *x, heed_average average,
                           heed_error *err)
{
    heap *h = v->ctx->heap;
    const size_t pixels = (size_t)heed_type_count(&x->type);
    size_t numbers;

    v->batch = x->type.dims[0];
    v->x.type = x->type;
    TRY(heed_model_output_type(v->model, &x->type, 1, 0, &v->logits.type, err));
    if (v->logits.type.dtype != HEED_F32 || v->logits.type.rank != 2 || v->logits.type.dims[0] != v->batch ||
        v->logits.type.dims[1] < 1)
        return heed__fail(err, HEED_ERR_SHAPE, "evaluation needs logits f32 [batch, classes]");
    e->classes = v->logits.type.dims[1];
    numbers = (size_t)heed_type_count(&v->logits.type);
    v->x.data = heed__alloc(h, pixels, sizeof(float));
    v->logits.data = heed__alloc(h, numbers, sizeof(float));
    v->row = heed__alloc(h, (size_t)e->classes, sizeof *v->row);
    e->confusion = heed__alloc(h, (size_t)(e->classes * e->classes), sizeof *e->confusion);
    if (average == HEED_AVERAGE_MIRROR) {
        v->flipped = heed__alloc(h, pixels, sizeof(float));
        v->others = heed__alloc(h, numbers, sizeof(float));
    }
    if (!v->x.data || !v->logits.data || !v->row || !e->confusion ||
        (average == HEED_AVERAGE_MIRROR && (!v->flipped || !v->others)))
        return heed__fail_memory(err, pixels * sizeof(float));
    return HEED_OK;
}

static void fill_batch(const eval *v, const heed_tensor *x, int64_t count)
{
    const int64_t size = heed_type_count(&v->x.type) / v->batch;
    float *to = v->x.data;

    memcpy(to, x->data, (size_t)(count * size) * sizeof *to);
    for (int64_t i = count; i < v->batch; i++)
        memcpy(to + i * size, to, (size_t)size * sizeof *to);
}

heed_status heed_evaluate(heed_evaluation *out, heed_model *m, heed_loader *l, heed_average average,
                          heed_error *err)
{
    eval v = { .ctx = heed_model_context(m), .model = m };
    heed_evaluation e = { .accuracy_mirror = -1 };
    heed_tensor x, y;
    int64_t count;
    heed_status st;

    STEP(heed_loader_start(l, 0, 0, err));
    STEP(heed_loader_next(l, &x, &y, &count, err));
    if (count > 0) {
        STEP(prepare(&v, &e, &x, average, err)); /* the first batch is a whole one */
        STEP(prepare_results(&v, &e, heed_loader_batches(l), average, err));
    }
    while (count > 0) {
        fill_batch(&v, &x, count);
        STEP(heed_model_run(m, &v.x, 1, &v.logits, 1, err));
        STEP(count_batch(&v, &e, y.data, count, err));
        if (average == HEED_AVERAGE_MIRROR) {
            STEP(heed__average_mirror(m, &v.x, &v.logits, v.flipped, v.others, err));
            count_mirrored(&v, &e, y.data, count);
        }
        e.n += count;
        STEP(heed_loader_next(l, &x, &y, &count, err));
    }
    e.accuracy = e.n ? (double)v.right / (double)e.n : 0;
    e.loss = e.n ? e.loss / (double)e.n : 0;
    if (average == HEED_AVERAGE_MIRROR)
        e.accuracy_mirror = e.n ? (double)v.right_mirror / (double)e.n : 0;
    *out = e;
    e = (heed_evaluation){ .n = 0 };
done:
    heed__release(v.ctx->heap, v.x.data);
    heed__release(v.ctx->heap, v.logits.data);
    heed__release(v.ctx->heap, v.flipped);
    heed__release(v.ctx->heap, v.others);
    heed__release(v.ctx->heap, v.row);
    heed_evaluation_release(v.ctx, &e);
    return st;
}

void heed_evaluation_release(heed_context *ctx, heed_evaluation *e)
{
    heed__release(ctx->heap, e->confusion);
    heed__release(ctx->heap, e->probability);
    heed__release(ctx->heap, e->probability_mirror);
    heed__release(ctx->heap, e->labels);
    e->confusion = e->labels = NULL;
    e->probability = e->probability_mirror = NULL;
}

void heed_evaluation_tensors(const heed_evaluation *e, heed_average average, heed_tensor *probability,
                             heed_tensor *labels)
{
    const bool mirror = average == HEED_AVERAGE_MIRROR && e->probability_mirror;

    *probability = (heed_tensor){ heed_type_of(HEED_F32, 2, (const int64_t[]){ e->n, e->classes }),
                                  mirror ? e->probability_mirror : e->probability };
    *labels = (heed_tensor){ heed_type_of(HEED_I64, 1, (const int64_t[]){ e->n }), e->labels };
}
