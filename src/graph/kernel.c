/* Generic parts of kernels: which dtypes compute in f32, counting rows, room for widened rows. */

#include "graph/op.h"

bool heed__computes_in_f32(const view *v)
{
    return DTYPE_BIT(v->type.dtype) & (DTYPE_BIT(HEED_F32) | DTYPE_BIT(HEED_F16) | DTYPE_BIT(HEED_BF16));
}

/* Absent inputs have rank -1. */
static bool float_but_not_f32(const view *v)
{
    return v->type.rank >= 0 && DTYPE_BIT(v->type.dtype) & FLOATS && v->type.dtype != HEED_F32;
}

bool heed__all_f32(const op_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (float_but_not_f32(&c->in[i]))
            return false;
    for (int i = 0; i < c->n_out; i++)
        if (float_but_not_f32(&c->out[i]))
            return false;
    return true;
}

int64_t heed__row_count(const op_call *c)
{
    const heed_type *type = &c->out[0].type;
    int64_t n = 1;

    for (int i = 0; i + 1 < type->rank; i++)
        n *= type->dims[i];
    return n;
}

size_t heed__row_scratch(const op_call *c)
{
    int64_t widest = 1;

    for (int i = 0; i < c->n_in + c->n_out; i++) {
        const heed_type *type = i < c->n_in ? &c->in[i].type : &c->out[i - c->n_in].type;

        if (type->rank > 0)
            widest = i64_max(widest, type->dims[type->rank - 1]);
    }
    return heed__rows_scratch_bytes(widest);
}
