/* The model on pictures with cells blanked. A sample in a batch has the bits of the sample alone, so batches
 * change nothing but the time. */

#include "base/error.h"
#include "base/sizes.h"
#include "explain/explain.h"
#include "train/mirror.h"

#include <string.h>

#define BLANK_BATCH 64
#define BLANK_FLOATS (1 << 22) /* of a batch of pictures, at most, unless one alone has more */

heed_status heed__blanks_open(blanks *b, heed_model *m, const heed_explain_input *in,
                              const heed_token_grid *grid, int64_t classes, int64_t target, heed_error *err)
{
    const int64_t *dims = in->x.type.dims, each = heed_type_count(&in->x.type);

    *b = (blanks){ .heap = heed_model_context(m)->heap,
                   .model = m,
                   .picture = in->x.data,
                   .value = in->blank,
                   .channels = dims[1],
                   .height = dims[2],
                   .width = dims[3],
                   .rows = grid->rows,
                   .cols = grid->cols,
                   .target = target,
                   .batch = i64_max(1, i64_min(BLANK_BATCH, BLANK_FLOATS / each)) };
    b->x.type = in->x.type;
    b->x.type.dims[0] = b->batch;
    b->logits.type = heed_type_of(HEED_F32, 2, (const int64_t[]){ b->batch, classes });
    b->x.data = heed__alloc(b->heap, (size_t)(b->batch * each), sizeof(float));
    b->logits.data = heed__alloc(b->heap, (size_t)(b->batch * classes), sizeof(float));
    b->to = heed__alloc(b->heap, (size_t)b->batch, sizeof *b->to);
    b->row = heed__alloc(b->heap, (size_t)classes, sizeof *b->row);
    if (!b->x.data || !b->logits.data || !b->to || !b->row)
        return heed__fail_memory(err, (uint64_t)(b->batch * each) * sizeof(float));
    return HEED_OK;
}

void heed__blanks_release(blanks *b)
{
    if (!b->heap)
        return;
    heed__release(b->heap, b->x.data);
    heed__release(b->heap, b->logits.data);
    heed__release(b->heap, (void *)b->to);
    heed__release(b->heap, b->row);
    *b = (blanks){ 0 };
}

static void blank_cell(const blanks *b, float *picture, int64_t cell)
{
    const int64_t r = cell / b->cols, c = cell % b->cols;
    const int64_t top = r * b->height / b->rows, bottom = (r + 1) * b->height / b->rows;
    const int64_t left = c * b->width / b->cols, right = (c + 1) * b->width / b->cols;

    for (int64_t k = 0; k < b->channels; k++)
        for (int64_t i = top; i < bottom; i++)
            for (int64_t j = left; j < right; j++)
                picture[(k * b->height + i) * b->width + j] = b->value ? b->value[k] : 0;
}

heed_status heed__blanks_end(blanks *b, heed_error *err)
{
    const int64_t classes = b->logits.type.dims[1];

    if (b->filled == 0)
        return HEED_OK;
    TRY(heed_model_run(b->model, &b->x, 1, &b->logits, 1, err));
    for (int64_t i = 0; i < b->filled; i++) {
        heed__log_softmax_row(b->row, (const float *)b->logits.data + i * classes, classes);
        *b->to[i] = b->row[b->target];
        if (!(*b->to[i] <= 0))
            return heed__fail(err, HEED_ERR_NUMERIC,
                              "explain: with parts of the picture blanked the model's output is not finite");
    }
    b->filled = 0;
    return HEED_OK;
}

heed_status heed__blanks_add(blanks *b, const uint32_t *cells, int64_t n, double *log_probability,
                             heed_error *err)
{
    const int64_t each = b->channels * b->height * b->width;
    float *picture = (float *)b->x.data + b->filled * each;

    memcpy(picture, b->picture, (size_t)each * sizeof *picture);
    for (int64_t i = 0; i < n; i++)
        blank_cell(b, picture, cells[i]);
    b->to[b->filled++] = log_probability;
    return b->filled == b->batch ? heed__blanks_end(b, err) : HEED_OK;
}
