/* softmax_cross_entropy: loss_i = lse_i - x_i[t_i],  lse_i = m + ln sum_c exp(x_ic - m),  m = max_c x_ic.
 *
 *   logits [N,C], target i64 [N]  ->  loss [N], lse [N] in the dtype of sums
 *
 * A row whose target is ignore_index has loss 0; any other target outside 0 .. C-1 ends the run with
 * HEED_ERR_LIMIT. The loss is summed as (m - x[t]) + ln s, so that large logits do not swallow the
 * logarithm.
 *
 * Gradient (softmax_cross_entropy_grad), with p = exp(x - lse):
 *
 *   dx_ic = (p_ic - 1[c = t_i]) dloss_i + p_ic dlse_i,   0 for a row that is ignored, whatever stands in it
 *
 * heed_cross_entropy at the end is torch.nn.functional.cross_entropy: it moves the class axis to the end
 * and adds weights, smoothing, soft targets and reductions. */

#include "cpu/rows.h"
#include "graph/op.h"
#include "ops/ops.h"
#include <heed/ops.h>

#include <string.h>

enum { LOGITS, TARGET };
static const op_slot softmax_cross_entropy_in[] = {
    { .name = "logits", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "target", .dtypes = I64_ONLY },
    SLOT_END,
};
enum { LOSS, LSE };
static const op_slot softmax_cross_entropy_out[] = { { .name = "loss" }, { .name = "lse" }, SLOT_END };

typedef struct {
    int64_t ignore_index;
} cross_entropy_attrs;
static const op_field cross_entropy_fields[] = { FIELD_I64(cross_entropy_attrs, ignore_index), FIELD_END };

static heed_status softmax_cross_entropy_infer(op_infer *t)
{
    const heed_type *x = &t->in[LOGITS], *target = &t->in[TARGET];

    if (x->rank != 2 || target->rank != 1 || target->dims[0] != x->dims[0])
        return heed__refuse(t, HEED_ERR_SHAPE, "wants logits [N,C] and a target [N]");
    t->out[LOSS] = t->out[LSE] = heed_type_of(heed__sum_dtype(x->dtype), 1, x->dims);
    return HEED_OK;
}

static void softmax_cross_entropy_grad(op_grad *g)
{
    heed_value in[] = { g->in[LOGITS], g->in[TARGET], g->out[LSE], g->dout[LOSS], g->dout[LSE] };
    g->din[LOGITS] = heed__node(g->b, &heed__op_softmax_cross_entropy_grad, g->attrs, in, 5);
}

/* bool [N]: rows that count; and bool [N,C]: the class of the target. */
static heed_value cross_entropy_counts(heed_builder *b, heed_value target, int64_t ignore_index)
{
    return heed_not(b, heed_eq(b, target, heed_scalar(b, HEED_I64, (double)ignore_index)));
}

static heed_value cross_entropy_hit(heed_builder *b, heed_value logits, heed_value target)
{
    heed_type t = heed_value_type(b, logits);

    t.dtype = HEED_I64;
    return heed_eq(b, heed_iota(b, t, 1), heed_unsqueeze(b, target, 1));
}

/* Zeros [N], read by gather from a row of C zeros, so that a target outside 0 .. C-1 faults in every
 * decomposition too. */
static heed_value cross_entropy_fault(heed_builder *b, heed_value logits, heed_value target,
                                      heed_value counts, heed_dtype dtype)
{
    heed_type row = heed_type_of(dtype, 1, &heed_value_type(b, logits).dims[1]);
    heed_value safe = heed_select(b, counts, target, heed_scalar(b, HEED_I64, 0));

    return heed_gather(b, heed__zeros(b, &row), safe, 0);
}

static void softmax_cross_entropy_decompose(op_decompose *d)
{
    const cross_entropy_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[LOGITS]);
    const heed_dtype sums = heed__sum_dtype(type.dtype);
    heed_value x = heed__as(d->b, d->in[LOGITS], sums), zero = heed_scalar(d->b, sums, 0);
    heed_value counts = cross_entropy_counts(d->b, d->in[TARGET], a->ignore_index);
    heed_value m = heed_stop_grad(d->b, heed__max_axis(d->b, x, 1));
    heed_value below = heed_sub(d->b, x, m);
    heed_value log_sum = heed_log(d->b, heed__sum_axis(d->b, heed_exp(d->b, below), 1));
    heed_value at_target =
        heed__sum_axis(d->b, heed_select(d->b, cross_entropy_hit(d->b, x, d->in[TARGET]), below, zero), 1);
    heed_value loss = heed_squeeze(d->b, heed_sub(d->b, log_sum, at_target), 1);

    loss = heed_add(d->b, loss, cross_entropy_fault(d->b, x, d->in[TARGET], counts, sums));
    d->out[LOSS] = heed_select(d->b, counts, loss, zero);
    d->out[LSE] = heed_squeeze(d->b, heed_add(d->b, m, log_sum), 1);
}

static bool cross_entropy_accepts(const op_call *c)
{
    return heed__computes_in_f32(&c->in[LOGITS]) && c->in[LOGITS].type.dims[1] > 0;
}

static int64_t cross_entropy_rows(const op_call *c)
{
    return c->in[LOGITS].type.dims[0];
}

static void softmax_cross_entropy_run(const op_call *c, int64_t begin, int64_t end)
{
    const cross_entropy_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const int64_t *target = c->in[TARGET].data;
    float *loss = c->out[LOSS].data, *lse = c->out[LSE].data;
    float m[ROWS_MAX], sum[ROWS_MAX];

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        rows x = row->in(&c->in[LOGITS], i, i64_min(end, i + ROWS_MAX), c->scratch[0]);
        rows e = { c->scratch[1], x.count, x.n, x.n }; /* only its sum is wanted */
        row->max(m, x);
        row->exp_sum(e, sum, x, m);
        row->unary[ROW_LOG](sum, sum, x.count);
        for (int64_t r = 0; r < x.count; r++) {
            const int64_t t = target[i + r];
            const bool inside = t >= 0 && t < x.n;
            if (!inside && t != a->ignore_index)
                heed__fault(c, i + r, HEED_ERR_LIMIT, t);
            if (loss)
                loss[i + r] = inside && t != a->ignore_index ? (m[r] - x.data[r * x.stride + t]) + sum[r] : 0;
            if (lse)
                lse[i + r] = m[r] + sum[r];
        }
    }
}

static const op_kernel softmax_cross_entropy_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = cross_entropy_accepts,
      .count = cross_entropy_rows,
      .scratch = heed__row_scratch, .run = softmax_cross_entropy_run, .dense_in = 1u << TARGET },
    KERNEL_END,
};

static const op_sample softmax_cross_entropy_samples[] = {
    { .in = { DIMS(37, 10), INDEX(10, 37) }, .attrs = &(const cross_entropy_attrs){ -100 } },
    { .in = { DIMS(9, 5), INDEX(5, 9) }, .attrs = &(const cross_entropy_attrs){ 2 } },
    { .in = { DIMS(4, 1003), INDEX(1003, 4) }, .attrs = &(const cross_entropy_attrs){ -100 }, .scale = 1e4 },
    { .in = { DIMS(0, 5), INDEX(5, 0) }, .attrs = &(const cross_entropy_attrs){ -100 } },
    { .in = { DIMS(3, 5), INDEX(5, 4) }, .attrs = &(const cross_entropy_attrs){ -100 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_softmax_cross_entropy = {
    .name = "softmax_cross_entropy", .version = 1, .in = softmax_cross_entropy_in,
    .out = softmax_cross_entropy_out,
    .flags = OP_FAULTS, .attrs_size = sizeof(cross_entropy_attrs), .fields = cross_entropy_fields,
    .infer = softmax_cross_entropy_infer, .grad = softmax_cross_entropy_grad,
    .decompose = softmax_cross_entropy_decompose, .cpu = softmax_cross_entropy_cpu,
    .torch = "cross_entropy(logits, target, reduction='none', ignore_index={ignore_index})",
    .samples = softmax_cross_entropy_samples,
};

/* ---- softmax_cross_entropy_grad ---- */

enum { G_LSE = 2, G_DLOSS, G_DLSE };
static const op_slot softmax_cross_entropy_grad_in[] = {
    { .name = "logits", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "target", .dtypes = I64_ONLY },
    { .name = "lse", .dtypes = FLOATS, .flags = DIFFERENTIABLE },
    { .name = "dloss", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    { .name = "dlse", .dtypes = FLOATS, .flags = DIFFERENTIABLE | OPTIONAL },
    SLOT_END,
};
static const op_slot softmax_cross_entropy_grad_out[] = {
    { .name = "dlogits", .same_as = "logits" },
    SLOT_END,
};

static heed_status softmax_cross_entropy_grad_infer(op_infer *t)
{
    const heed_type *x = &t->in[LOGITS];

    if (x->rank != 2 || t->in[TARGET].rank != 1 || t->in[TARGET].dims[0] != x->dims[0])
        return heed__refuse(t, HEED_ERR_SHAPE, "wants logits [N,C] and a target [N]");
    for (int i = G_LSE; i < t->n_in; i++)
        if (heed__given(t, i) && (t->in[i].rank != 1 || t->in[i].dims[0] != x->dims[0]))
            return heed__refuse(t, HEED_ERR_SHAPE, "lse, dloss and dlse must be [N]");
    return HEED_OK;
}

static void softmax_cross_entropy_grad_decompose(op_decompose *d)
{
    const cross_entropy_attrs *a = d->attrs;
    const heed_type type = heed_value_type(d->b, d->in[LOGITS]);
    const heed_dtype sums = heed__sum_dtype(type.dtype);
    heed_value x = heed__as(d->b, d->in[LOGITS], sums), zero = heed_scalar(d->b, sums, 0), dloss = zero, dx;
    heed_value counts = cross_entropy_counts(d->b, d->in[TARGET], a->ignore_index);
    heed_value hit = heed_cast(d->b, cross_entropy_hit(d->b, x, d->in[TARGET]), sums);
    heed_value p =
        heed_exp(d->b, heed_sub(d->b, x, heed_unsqueeze(d->b, heed__as(d->b, d->in[G_LSE], sums), 1)));

    if (d->n_in > G_DLOSS && d->in[G_DLOSS].id)
        dloss = heed_select(d->b, counts, heed__as(d->b, d->in[G_DLOSS], sums), zero);
    dloss = heed_add(d->b, dloss, cross_entropy_fault(d->b, x, d->in[TARGET], counts, sums));
    dx = heed_mul(d->b, heed_sub(d->b, p, hit), heed_unsqueeze(d->b, dloss, 1));
    dx = heed_select(d->b, heed_unsqueeze(d->b, counts, 1), dx, zero); /* whatever stands in such a row */
    if (d->n_in > G_DLSE && d->in[G_DLSE].id) {
        heed_value more = heed_mul(d->b, p, heed_unsqueeze(d->b, heed__as(d->b, d->in[G_DLSE], sums), 1));
        dx = heed_add(d->b, dx, more);
    }
    d->out[0] = heed__as(d->b, dx, type.dtype);
}

static bool softmax_cross_entropy_grad_accepts(const op_call *c)
{
    for (int i = G_LSE; i < c->n_in; i++)
        if (c->in[i].type.rank >= 0 && c->in[i].type.dtype != HEED_F32)
            return false;
    return cross_entropy_accepts(c);
}

static const float *cross_entropy_vector(const op_call *c, int slot)
{
    return slot < c->n_in ? c->in[slot].data : NULL;
}

static void softmax_cross_entropy_grad_run(const op_call *c, int64_t begin, int64_t end)
{
    const cross_entropy_attrs *a = c->attrs;
    const row_ops *row = c->row;
    const int64_t *target = c->in[TARGET].data;
    const float *lse = c->in[G_LSE].data, *dloss = cross_entropy_vector(c, G_DLOSS),
                *dlse = cross_entropy_vector(c, G_DLSE);

    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);
        rows x = row->in(&c->in[LOGITS], i, last, c->scratch[0]);
        rows dx = row->out(&c->out[0], i, last, c->scratch[1]);
        float unused[ROWS_MAX];

        row->exp_sum(dx, unused, x, lse + i);
        for (int64_t r = 0; r < x.count; r++) {
            const int64_t t = target[i + r];
            const bool inside = t >= 0 && t < x.n, counts = inside && t != a->ignore_index;
            const float up = counts && dloss ? dloss[i + r] : 0;
            float *to = dx.data + r * dx.stride;
            if (!inside && t != a->ignore_index)
                heed__fault(c, i + r, HEED_ERR_LIMIT, t);
            if (counts || dlse)
                row->scale_to(to, to, up + (dlse ? dlse[i + r] : 0), x.n);
            else
                memset(to, 0, (size_t)x.n * sizeof *to); /* whatever stands in the row, be it NaN */
            if (counts)
                to[t] -= up;
        }
        row->commit(&c->out[0], i, dx);
    }
}

static const op_kernel softmax_cross_entropy_grad_cpu[] = {
    { .name = "rows", .layout = ROWS, .chunk = 64, .accepts = softmax_cross_entropy_grad_accepts,
      .count = cross_entropy_rows,
      .scratch = heed__row_scratch, .run = softmax_cross_entropy_grad_run,
      .dense_in = 1u << TARGET | 1u << G_LSE | 1u << G_DLOSS | 1u << G_DLSE },
    KERNEL_END,
};

static const op_sample softmax_cross_entropy_grad_samples[] = {
    { .in = { DIMS(37, 10), INDEX(10, 37), FILLED(FILL_POSITIVE, 37), DIMS(37) },
      .attrs = &(const cross_entropy_attrs){ -100 } },
    { .in = { DIMS(9, 5), INDEX(5, 9), FILLED(FILL_POSITIVE, 9), DIMS(9), DIMS(9) },
      .attrs = &(const cross_entropy_attrs){ 2 } },
    { .in = { DIMS(3, 4), INDEX(4, 3), FILLED(FILL_POSITIVE, 3), ABSENT(), DIMS(3) },
      .attrs = &(const cross_entropy_attrs){ -100 } },
    { .in = { DIMS(0, 5), INDEX(5, 0), DIMS(0), DIMS(0) }, .attrs = &(const cross_entropy_attrs){ -100 } },
    { .in = { DIMS(3, 5), INDEX(5, 3), DIMS(4), DIMS(3) }, .attrs = &(const cross_entropy_attrs){ -100 },
      .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

const op_def heed__op_softmax_cross_entropy_grad = {
    .name = "softmax_cross_entropy_grad", .version = 1, .in = softmax_cross_entropy_grad_in,
    .out = softmax_cross_entropy_grad_out, .flags = OP_IN_PLACE | OP_FAULTS,
    .attrs_size = sizeof(cross_entropy_attrs), .fields = cross_entropy_fields,
    .infer = softmax_cross_entropy_grad_infer, .decompose = softmax_cross_entropy_grad_decompose,
    .cpu = softmax_cross_entropy_grad_cpu, .torch = "(softmax(logits, 1) - one_hot(target)) * dloss[:, None]",
    .samples = softmax_cross_entropy_grad_samples,
};

/* ---- torch.nn.functional.cross_entropy ---- */

/* [.., C, ..] to [N, C]: the class axis goes last, the others keep their order. */
static heed_value cross_entropy_flat(heed_builder *b, heed_value x, int axis)
{
    const heed_type t = heed_value_type(b, x);
    int axes[HEED_MAX_RANK], n = 0;

    if (t.rank == 1)
        return heed_unsqueeze(b, x, 0);
    for (int i = 0; i < t.rank; i++)
        if (i != axis)
            axes[n++] = i;
    axes[n] = axis;
    if (axis != t.rank - 1)
        x = heed_permute(b, x, axes);
    return t.rank == 2 ? x : heed_flatten(b, x, 0, t.rank - 2);
}

/* loss [N] with the shape of the logits without their class axis. */
static heed_value cross_entropy_shaped(heed_builder *b, heed_value loss, const heed_type *logits, int axis)
{
    int64_t dims[HEED_MAX_RANK];
    int n = 0;

    for (int i = 0; i < logits->rank; i++)
        if (i != axis)
            dims[n++] = logits->dims[i];
    return n == 1 ? loss : heed_reshape(b, loss, n, dims);
}

/* -sum_c weight_c t_c ln p_c with t' = (1 - smoothing) t + smoothing / C; the mean is over rows. */
static heed_value cross_entropy_soft(heed_builder *b, heed_value x, heed_value target,
                                     const heed_cross_entropy_opts *o, int64_t classes)
{
    const double smoothing = o ? o->label_smoothing : 0;
    heed_value logp = heed_log_softmax(b, x, 1);

    if (smoothing > 0)
        target = heed_add_scalar(b, heed_mul_scalar(b, target, 1 - smoothing), smoothing / (double)classes);
    if (o && o->weight.id)
        target = heed_mul(b, target, o->weight);
    return heed_neg(b, heed_squeeze(b, heed__sum_axis(b, heed_mul(b, target, logp), 1), 1));
}

/* What a row counts for: its target's weight, or one; 0 where the target is ignored. */
static heed_value cross_entropy_row_weight(heed_builder *b, heed_value target, heed_value weight,
                                           int64_t ignore_index, heed_dtype dtype)
{
    heed_value counts = cross_entropy_counts(b, target, ignore_index);

    if (!weight.id)
        return heed_cast(b, counts, dtype);
    heed_value safe = heed_select(b, counts, target, heed_scalar(b, HEED_I64, 0));
    return heed_select(b, counts, heed_gather(b, weight, safe, 0), heed_scalar(b, dtype, 0));
}

heed_value heed_cross_entropy(heed_builder *b, heed_value logits, heed_value target,
                              const heed_cross_entropy_opts *o)
{
    const heed_type type = heed_value_type(b, logits), hard = heed_value_type(b, target);
    const int64_t ignore = o && o->ignore_index.set ? o->ignore_index.value : -100;
    const heed_reduction how = o ? o->reduction : HEED_REDUCE_MEAN;
    const double smoothing = o ? o->label_smoothing : 0;
    heed_value weight = o ? o->weight : (heed_value){ 0 }, x, loss, total;
    int axis;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    axis = heed__axis(b, logits, o && o->axis ? o->axis : type.rank > 1);
    if (!(smoothing >= 0 && smoothing <= 1))
        return heed__poison(b, HEED_ERR_LIMIT, "cross_entropy: label_smoothing %g is not in 0 .. 1",
                            smoothing);
    if (heed__poisoned(b))
        return (heed_value){ 0 };
    const int64_t classes = type.dims[axis];
    x = cross_entropy_flat(b, logits, axis);

    if (hard.dtype != HEED_I64) {
        loss = cross_entropy_soft(b, x, cross_entropy_flat(b, target, axis), o, classes);
        if (how == HEED_REDUCE_NONE)
            return type.rank == 1 ? heed_squeeze(b, loss, 0) : cross_entropy_shaped(b, loss, &type, axis);
        return how == HEED_REDUCE_SUM ? heed_sum(b, loss, HEED_ALL_AXES, HEED_DROP_AXES)
                                      : heed_mean(b, loss, HEED_ALL_AXES, HEED_DROP_AXES);
    }

    if (hard.rank != type.rank - 1)
        return heed__poison(b, HEED_ERR_SHAPE,
                            "cross_entropy: logits of rank %d want a target of rank %d, got %d", type.rank,
                            type.rank - 1, hard.rank);
    target = heed_reshape(b, target, 1, (const int64_t[]){ heed_type_count(&hard) });
    loss = heed__node(b, &heed__op_softmax_cross_entropy, &(cross_entropy_attrs){ ignore },
                      (heed_value[]){ x, target }, 2);
    const heed_dtype sums = heed_value_type(b, loss).dtype;
    if (weight.id)
        weight = heed__as(b, weight, sums);
    heed_value row_weight = cross_entropy_row_weight(b, target, weight, ignore, sums);
    if (weight.id)
        loss = heed_mul(b, loss, row_weight);
    if (smoothing > 0) { /* (1 - s) loss + s / C sum_c weight_c (-ln p_c), rows that are ignored left out */
        heed_value zero = heed_scalar(b, sums, 0), counts = cross_entropy_counts(b, target, ignore);
        heed_value each = heed_select(b, heed_unsqueeze(b, counts, 1), heed__as(b, x, sums), zero);

        each = heed_log_softmax(b, each, 1);
        each = heed_squeeze(b, heed__sum_axis(b, weight.id ? heed_mul(b, each, weight) : each, 1), 1);
        each = heed_select(b, counts, each, zero);
        loss = heed_sub(b, heed_mul_scalar(b, loss, 1 - smoothing),
                        heed_mul_scalar(b, each, smoothing / (double)classes));
    }
    if (how == HEED_REDUCE_NONE)
        return type.rank == 1 ? heed_squeeze(b, loss, 0) : cross_entropy_shaped(b, loss, &type, axis);
    total = heed_sum(b, loss, HEED_ALL_AXES, HEED_DROP_AXES);
    return how == HEED_REDUCE_SUM
               ? total
               : heed_div(b, total, heed_sum(b, row_weight, HEED_ALL_AXES, HEED_DROP_AXES));
}
