/* The self-test of a model: made inputs, and the numbers that came of them when it was trained.
 *
 *   byte of sample s, pixel i   Philox word (seed, step 0, "self_test", row s, column i) >> 24
 *   x                           (byte / 255 - mean[c]) / std[c], in float
 *   difference                  max_i |now_i - then_i| / max(1, max_i |then_i|)
 *
 * At one instruction level of one build the bits are equal; elsewhere the order of sums differs and the
 * numbers agree to about 1e-6. A recipe with other heads, a mean that was edited, a kernel that is wrong
 * give more. */

#include "base/context.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/rng.h"
#include <heed/model.h>

#include <math.h>
#include <string.h>

/* x of in->type, from the heap. */
static heed_status make_inputs(heed_tensor *x, heed_context *ctx, const heed_self_test_inputs *in,
                               heed_error *err)
{
    const rng r = heed__rng(in->seed, 0, "self_test");
    const int64_t n = heed_type_count(&in->type);
    int64_t each, plane;
    float *to;

    if (in->type.dtype != HEED_F32 || in->type.rank < 2 || n < 1 || n > UINT32_MAX)
        return heed__fail(err, HEED_ERR_SHAPE, "a self-test takes inputs f32 [samples, channels, ...]");
    to = heed__alloc(ctx->heap, (size_t)n, sizeof *to);
    if (!to)
        return heed__fail_memory(err, (uint64_t)n * sizeof *to);
    each = n / in->type.dims[0];
    plane = each / in->type.dims[1];
    for (int64_t i = 0; i < n; i++) {
        const int64_t channel = i % each / plane;
        const float mean = in->mean ? in->mean[channel] : 0, std = in->std ? in->std[channel] : 1;
        const uint32_t byte = heed__rng_word(&r, (uint32_t)(i / each), (uint32_t)(i % each)) >> 24;

        to[i] = ((float)byte / 255.0f - mean) / std;
    }
    *x = (heed_tensor){ in->type, to };
    return HEED_OK;
}

heed_status heed_model_self_test_make(heed_model *m, const heed_self_test_inputs *in, float *outputs,
                                      int64_t n, char sha256_text[65], heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    heed_tensor x = { 0 }, y = { .data = outputs };
    uint8_t digest[32];
    heed_status st;
    sha256 s;

    STEP(make_inputs(&x, ctx, in, err));
    STEP(heed_model_output_type(m, &x.type, 1, 0, &y.type, err));
    if (y.type.dtype != HEED_F32 || heed_type_count(&y.type) != n) {
        st = heed__fail(err, HEED_ERR_SHAPE, "the self-test has room for %lld numbers, the model gives %lld",
                        (long long)n, (long long)heed_type_count(&y.type));
        goto done;
    }
    STEP(heed_model_run(m, &x, 1, &y, 1, err));
    heed__sha256_init(&s);
    heed__sha256_add(&s, outputs, (size_t)n * sizeof *outputs);
    heed__sha256_end(&s, digest);
    heed__hex(sha256_text, digest, sizeof digest);
done:
    heed__release(ctx->heap, x.data);
    return st;
}

static double difference_of(const float *now, const float *then, int64_t n)
{
    double most = 0, size = 1;

    for (int64_t i = 0; i < n; i++) {
        const double apart = fabs((double)now[i] - (double)then[i]);

        if (!isfinite(apart))
            return INFINITY;
        most = fmax(most, apart);
        size = fmax(size, fabs((double)then[i]));
    }
    return most / size;
}

heed_status heed_model_self_test(heed_self_test_result *out, heed_model *m, const heed_self_test_inputs *in,
                                 const heed_self_test *then, heed_error *err)
{
    heed_context *ctx = heed_model_context(m);
    heed_self_test_result r = { .now = ctx->isa };
    heed_type result;
    char digest[65];
    float *now;
    heed_status st;

    if (!then || then->n == 0) {
        *out = r;
        return HEED_OK;
    }
    r.then = then->isa;
    r.verdict = HEED_SELF_TEST_OTHER;
    r.difference = INFINITY;
    TRY(heed_model_output_type(m, &in->type, 1, 0, &result, err));
    if (result.dtype != HEED_F32 || heed_type_count(&result) != then->n) {
        *out = r;
        return HEED_OK;
    }
    now = heed__alloc(ctx->heap, (size_t)then->n, sizeof *now);
    if (!now)
        return heed__fail_memory(err, (uint64_t)then->n * sizeof *now);
    STEP(heed_model_self_test_make(m, in, now, then->n, digest, err));
    r.difference = difference_of(now, then->outputs, then->n);
    if (strcmp(digest, then->sha256) == 0 && r.difference == 0)
        r.verdict = HEED_SELF_TEST_SAME;
    else if (r.difference <= HEED_SELF_TEST_BOUND)
        r.verdict = HEED_SELF_TEST_CLOSE;
    *out = r;
done:
    heed__release(ctx->heap, now);
    return st;
}
