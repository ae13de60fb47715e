/* Views: dense strides, rows of a view, and the walk over several views of one shape. */
#include "cpu/view.h"

#include "base/sizes.h"

view heed__view(void *data, const heed_type *type)
{
    view v = { .data = data, .type = *type };
    int64_t stride = 1;

    for (int i = type->rank - 1; i >= 0; i--) {
        v.strides[i] = stride;
        stride *= i64_max(type->dims[i], 1);
    }
    return v;
}

bool heed__view_dense(const view *v)
{
    int64_t stride = 1;
    bool dense = true;

    for (int i = v->type.rank - 1; i >= 0; i--) {
        if (v->type.dims[i] == 0)
            return true;
        dense = dense && (v->type.dims[i] == 1 || v->strides[i] == stride);
        stride *= v->type.dims[i];
    }
    return dense;
}

int64_t heed__view_rows(const view *v)
{
    int64_t count = 1;

    for (int i = 0; i < v->type.rank - 1; i++)
        count *= v->type.dims[i];
    return count;
}

int64_t heed__view_row_length(const view *v)
{
    return v->type.rank > 0 ? v->type.dims[v->type.rank - 1] : 1;
}

bool heed__view_row_stride(const view *v, int64_t *stride)
{
    int64_t next = 0; /* what the next axis to the left must step by */
    bool found = false;

    *stride = 0;
    for (int i = v->type.rank - 2; i >= 0; i--) {
        if (v->type.dims[i] == 1)
            continue;
        if (!found)
            *stride = v->strides[i];
        else if (v->strides[i] != next)
            return false;
        found = true;
        next = v->strides[i] * v->type.dims[i];
    }
    return true;
}

void heed__view_row_offsets(const view *v, int64_t begin, int64_t count, int64_t *at)
{
    int64_t index[HEED_MAX_RANK], offset = 0, rest = begin;
    const int last = v->type.rank - 2; /* the axis that moves fastest from row to row */

    for (int i = last; i >= 0; i--) {
        index[i] = rest % v->type.dims[i];
        rest /= v->type.dims[i];
        offset += index[i] * v->strides[i];
    }
    for (int64_t row = 0; row < count; row++) {
        at[row] = offset;
        for (int i = last; i >= 0; i--) { /* the next row: count up, carry to the left */
            offset += v->strides[i];
            if (++index[i] < v->type.dims[i])
                break;
            offset -= index[i] * v->strides[i];
            index[i] = 0;
        }
    }
}

void heed__walk(walk *w, int views, const view *const *v)
{
    const heed_type *const type = &v[0]->type;

    *w = (walk){ .views = views, .outer = 1, .pieces = 1 };
    w->rank = -1; /* until the first axis: the run itself is entry `rank` while axes are gathered */
    for (int axis = 0; axis < type->rank; axis++) {
        const int64_t n = type->dims[axis];
        bool merges = w->rank >= 0;

        if (n == 0) {
            *w = (walk){ .views = views, .pieces = 1 };
            return;
        }
        if (n == 1)
            continue;
        for (int i = 0; i < views && merges; i++)
            merges = w->strides[i][w->rank] == v[i]->strides[axis] * n;
        if (!merges)
            w->dims[++w->rank] = 1;
        w->dims[w->rank] *= n;
        for (int i = 0; i < views; i++)
            w->strides[i][w->rank] = v[i]->strides[axis];
    }
    if (w->rank < 0) { /* one element */
        w->rank = 0;
        w->dims[0] = 1;
        for (int i = 0; i < views; i++)
            w->strides[i][0] = 1;
    }
    w->inner = w->whole = w->dims[w->rank];
    for (int i = 0; i < views; i++) {
        const int64_t size = (int64_t)heed_dtype_size(v[i]->type.dtype);

        w->data[i] = v[i]->data;
        w->step[i] = w->strides[i][w->rank];
        w->step_bytes[i] = w->step[i] * size;
        for (int axis = 0; axis < w->rank; axis++)
            w->strides[i][axis] *= size;
    }
    for (int axis = 0; axis < w->rank; axis++)
        w->outer *= w->dims[axis];
}

void heed__walk_split(walk *w, int64_t most)
{
    if (w->outer == 0 || w->inner <= most)
        return;
    w->inner = most;
    w->pieces = i64_ceil_div(w->whole, most);
    w->outer *= w->pieces;
}

int64_t heed__walk_at(const walk *w, int64_t index, void *at[WALK_VIEWS])
{
    const int64_t begin = index % w->pieces * w->inner;
    int64_t offset[WALK_VIEWS], rest = index / w->pieces;

    for (int i = 0; i < w->views; i++)
        offset[i] = begin * w->step_bytes[i];
    for (int axis = w->rank - 1; axis >= 0; axis--) {
        const int64_t k = axis > 0 ? rest % w->dims[axis] : rest;

        rest /= w->dims[axis];
        for (int i = 0; i < w->views; i++)
            offset[i] += k * w->strides[i][axis];
    }
    for (int i = 0; i < w->views; i++)
        at[i] = w->data[i] ? w->data[i] + offset[i] : NULL;
    return i64_min(w->inner, w->whole - begin);
}
