/* See the header. With p = ln softmax(a), q = ln softmax(b):
 *
 *   ln((e^p + e^q) / 2) = max(p, q) + ln(1 + e^-|p - q|) - ln 2
 *
 * which is finite for any finite logits, however small the probabilities are. */

#include "train/mirror.h"
#include "base/error.h"
#include "base/sizes.h"

#include <math.h>

#define LN_2 0.69314718055994530942

typedef struct soft_row {
    double most, log_sum;
} soft_row;

static soft_row soft_row_of(const float *x, int64_t n)
{
    soft_row r = { -INFINITY, 0 };
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        r.most = fmax(r.most, (double)x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - r.most);
    r.log_sum = log(sum);
    return r;
}

void heed__log_softmax_row(double *out, const float *x, int64_t n)
{
    const soft_row r = soft_row_of(x, n);

    for (int64_t i = 0; i < n; i++)
        out[i] = (double)x[i] - r.most - r.log_sum;
}

int64_t heed__largest(const float *x, int64_t n)
{
    int64_t at = 0;

    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[at])
            at = i;
    return at;
}

static void average_row(float *a, const float *b, int64_t n)
{
    const soft_row ra = soft_row_of(a, n), rb = soft_row_of(b, n);

    for (int64_t i = 0; i < n; i++) {
        const double p = (double)a[i] - ra.most - ra.log_sum, q = (double)b[i] - rb.most - rb.log_sum;

        a[i] = (float)(fmax(p, q) + log1p(exp(-fabs(p - q))) - LN_2);
    }
}

/* Rows of `width` floats reversed. */
static void mirror_rows(float *to, const float *from, int64_t rows, int64_t width)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            to[r * width + i] = from[r * width + width - 1 - i];
}

heed_status heed__average_mirror(heed_model *m, const heed_tensor *x, const heed_tensor *logits,
                                 float *flipped, float *others, heed_error *err)
{
    const heed_tensor image = { x->type, flipped }, second = { logits->type, others };
    const int64_t width = x->type.dims[x->type.rank - 1], classes = logits->type.dims[1];

    mirror_rows(flipped, x->data, heed_type_count(&x->type) / i64_max(1, width), width);
    TRY(heed_model_run(m, &image, 1, &second, 1, err));
    for (int64_t i = 0; i < logits->type.dims[0]; i++)
        average_row((float *)logits->data + i * classes, others + i * classes, classes);
    return HEED_OK;
}
