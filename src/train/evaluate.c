/* Evaluation: loss, accuracy and confusion over a loader's samples in order. Every batch has one shape: the
 * last one is filled up with its own first picture and what comes of that is dropped, so one plan serves all.
 *
 *   loss    mean of -ln softmax(logits)[label]
 *   mirror  argmax of the mean of the probabilities of the picture and its mirror image */

#include "base/context.h"
#include "base/error.h"
#include "base/sizes.h"
#include <heed/train.h>

#include <math.h>
#include <string.h>

typedef struct eval {
    heed_context *ctx;
    heed_model *model;
    heed_tensor x, logits;  /* one whole batch */
    float *flipped, *first; /* mirror images; their logits */
    int64_t batch, classes;
} eval;

/* Rows of `width` floats reversed. */
static void mirror(float *to, const float *from, int64_t rows, int64_t width)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            to[r * width + i] = from[r * width + width - 1 - i];
}

/* ln of the softmax of one row, in double. */
static void log_probabilities(double *out, const float *logits, int64_t n)
{
    double most = -INFINITY, sum = 0;

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)logits[i] - most - log(sum);
}

static int64_t largest(const double *x, int64_t n)
{
    int64_t at = 0;

    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[at])
            at = i;
    return at;
}

/* Counts the first `count` rows of a batch whose logits are there; mirrored: those of the mirror images, or
 * NULL. */
static heed_status count_batch(heed_evaluation *e, const float *logits, const float *mirrored,
                               const int64_t *labels, int64_t count, double *work, int64_t *right,
                               int64_t *right_mirror, heed_error *err)
{
    double *p = work, *q = work + e->classes;

    for (int64_t i = 0; i < count; i++) {
        int64_t best;

        if (labels[i] < 0 || labels[i] >= e->classes)
            return heed__fail(err, HEED_ERR_LIMIT,
                              "evaluation: label %lld of sample %lld, but the model has %lld classes",
                              (long long)labels[i], (long long)(e->n + i), (long long)e->classes);
        log_probabilities(p, logits + i * e->classes, e->classes);
        best = largest(p, e->classes);
        e->loss -= p[labels[i]];
        e->confusion[labels[i] * e->classes + best]++;
        *right += best == labels[i];
        if (mirrored) {
            log_probabilities(q, mirrored + i * e->classes, e->classes);
            for (int64_t c = 0; c < e->classes; c++)
                q[c] = exp(p[c]) + exp(q[c]);
            *right_mirror += largest(q, e->classes) == labels[i];
        }
    }
    e->n += count;
    return HEED_OK;
}

/* Room for whole batches of x's shape and their logits. */
static heed_status prepare(eval *v, heed_evaluation *e, const heed_tensor *x, heed_average average,
                           heed_error *err)
{
    heap *h = v->ctx->heap;
    heed_type type = x->type, result;

    type.dims[0] = v->batch;
    TRY(heed_model_output_type(v->model, &type, 1, 0, &result, err));
    if (result.dtype != HEED_F32 || result.rank != 2)
        return heed__fail(err, HEED_ERR_SHAPE, "evaluation needs logits f32 [batch, classes]");
    e->classes = v->classes = result.dims[1];
    v->x = (heed_tensor){ type, heed__alloc(h, (size_t)heed_type_count(&type), sizeof(float)) };
    v->logits = (heed_tensor){ result, heed__alloc(h, (size_t)heed_type_count(&result), sizeof(float)) };
    e->confusion = heed__alloc(h, (size_t)(v->classes * v->classes), sizeof *e->confusion);
    if (average == HEED_AVERAGE_MIRROR) {
        v->flipped = heed__alloc(h, (size_t)heed_type_count(&type), sizeof(float));
        v->first = heed__alloc(h, (size_t)heed_type_count(&result), sizeof(float));
    }
    if (!v->x.data || !v->logits.data || !e->confusion ||
        (average == HEED_AVERAGE_MIRROR && (!v->flipped || !v->first)))
        return heed__fail_memory(err, (uint64_t)heed_type_count(&type) * sizeof(float));
    return HEED_OK;
}

static void fill_batch(const eval *v, const heed_tensor *x, int64_t count)
{
    const int64_t size = heed_type_count(&v->x.type) / i64_max(1, v->batch);
    float *to = v->x.data;

    memcpy(to, x->data, (size_t)(count * size) * sizeof *to);
    for (int64_t i = count; i < v->batch; i++)
        memcpy(to + i * size, to, (size_t)size * sizeof *to);
}

heed_status heed_evaluate(heed_evaluation *out, heed_model *m, heed_loader *l, heed_average average,
                          heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    eval v = { .ctx = ctx, .model = m };
    heed_evaluation e = { .accuracy_mirror = -1 };
    int64_t count, right = 0, right_mirror = 0;
    double *work = NULL;
    heed_tensor x, y;
    heed_status st;

    STEP(heed_loader_start(l, 0, 0, err));
    STEP(heed_loader_next(l, &x, &y, &count, err));
    v.batch = count; /* the first batch is a whole one */
    if (count > 0) {
        STEP(prepare(&v, &e, &x, average, err));
        work = heed__alloc(ctx->heap, 2 * (size_t)e.classes, sizeof *work);
        if (!work) {
            st = heed__fail_memory(err, 2 * (uint64_t)e.classes * sizeof *work);
            goto done;
        }
    }
    while (count > 0) {
        const int64_t width = v.x.type.dims[v.x.type.rank - 1];

        fill_batch(&v, &x, count);
        STEP(heed_model_run(m, &v.x, 1, &v.logits, 1, err));
        if (average == HEED_AVERAGE_MIRROR) {
            const heed_tensor image = { v.x.type, v.flipped };

            memcpy(v.first, v.logits.data, (size_t)heed_type_count(&v.logits.type) * sizeof(float));
            mirror(v.flipped, v.x.data, heed_type_count(&v.x.type) / i64_max(1, width), width);
            STEP(heed_model_run(m, &image, 1, &v.logits, 1, err));
            STEP(count_batch(&e, v.first, v.logits.data, y.data, count, work, &right, &right_mirror, err));
        } else {
            STEP(count_batch(&e, v.logits.data, NULL, y.data, count, work, &right, &right_mirror, err));
        }
        STEP(heed_loader_next(l, &x, &y, &count, err));
    }
    e.accuracy = e.n ? (double)right / (double)e.n : 0;
    e.loss = e.n ? e.loss / (double)e.n : 0;
    if (average == HEED_AVERAGE_MIRROR)
        e.accuracy_mirror = e.n ? (double)right_mirror / (double)e.n : 0;
    *out = e;
    e.confusion = NULL;
done:
    heed__release(ctx->heap, v.x.data);
    heed__release(ctx->heap, v.logits.data);
    heed__release(ctx->heap, v.flipped);
    heed__release(ctx->heap, v.first);
    heed__release(ctx->heap, work);
    heed__release(ctx->heap, e.confusion);
    return st;
}

void heed_evaluation_release(heed_context *ctx, heed_evaluation *e)
{
    heed__release(ctx->heap, e->confusion);
    e->confusion = NULL;
}
