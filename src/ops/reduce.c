/* Reductions over a set of axes: sum and amax; mean is a composition.
 *
 *   x, axes as bits of a mask -> y: those axes gone, or size 1 with keep
 *
 * Neighbouring axes of one kind (R reduced, K kept) are one; sizes of 1 do not count. Four f32 kernels
 * serve what networks do:
 *
 *   last      K R      each row by a row primitive                                   a norm's sum
 *   split     K R      rows longer than SEGMENT: pieces side by side                 a loss
 *   columns   K R K    rows are added up BLOCK at a time, the blocks' sums in order  a bias's gradient
 *   both      R K R    each (i, k, :) by a row primitive, then over i in double      a batch norm's sum
 *
 * What order is used depends on n and the kept inner size only, never on how many rows, threads or chunks
 * there are: `columns` has a form with and one without sums across chunks, whose bytes are the same. In
 * f32 no chain is longer than about BLOCK + n / BLOCK, so errors stay small without more precision. The
 * reference sums in double, and everything else is its.
 *
 * Gradients: sum passes dy to all; amax shares dy equally among those that attain the maximum. */

#include "base/error.h"
#include "ops/reference.h"

#include <math.h>
#include <string.h>

#define SEGMENT 32768 /* of a row: longer ones are cut */
#define BLOCK 128     /* wide rows added before their sum goes to the total */
#define WIDE 256      /* floats of a wide row: so many short rows are taken as one */
#define COLUMNS 1024  /* of a chunk */

static const op_slot reduce_in[] = { { .name = "x", .dtypes = NUMBERS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot reduce_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int axes; /* bit i: axis i */
    bool keep;
} reduce_attrs;
static const op_field reduce_fields[] = {
    FIELD_INT(reduce_attrs, axes),
    FIELD_BOOL(reduce_attrs, keep),
    FIELD_END,
};

static bool reduce_over(const reduce_attrs *a, int axis)
{
    return (a->axes >> axis & 1) != 0;
}

static heed_status reduce_infer(op_infer *t)
{
    const reduce_attrs *a = t->attrs;
    const heed_type *x = &t->in[0];
    heed_type *y = &t->out[0];

    if (a->axes < 0 || a->axes >> x->rank != 0)
        return heed__refuse(t, HEED_ERR_SHAPE, "the mask 0x%x names axes that rank %d has not",
                            (unsigned)a->axes, x->rank);
    *y = heed_type_of(x->dtype, 0, NULL);
    for (int i = 0; i < x->rank; i++)
        if (!reduce_over(a, i) || a->keep)
            y->dims[y->rank++] = reduce_over(a, i) ? 1 : x->dims[i];
    return HEED_OK;
}

static heed_status reduce_amax_infer(op_infer *t)
{
    const reduce_attrs *a = t->attrs;

    TRY(reduce_infer(t));
    for (int i = 0; i < t->in[0].rank; i++)
        if (reduce_over(a, i) && t->in[0].dims[i] == 0)
            return heed__refuse(t, HEED_ERR_SHAPE, "axis %d has size 0, and nothing has no maximum", i);
    return HEED_OK;
}

/* ---- what kind of reduction it is ---- */

enum reduce_kind { REDUCE_OTHER, REDUCE_LAST, REDUCE_COLUMNS, REDUCE_BOTH };

typedef struct reduce_form {
    enum reduce_kind kind;
    /* last [outer, n]; columns [outer, n, inner]; both [outer, inner, n], outer reduced, inner kept */
    int64_t outer, n, inner;
} reduce_form;

static reduce_form reduce_form_of(const op_call *c)
{
    const reduce_attrs *a = c->attrs;
    const heed_type *x = &c->in[0].type;
    int64_t size[HEED_MAX_RANK] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    bool kind[HEED_MAX_RANK] = { false };
    int n = 0;

    for (int i = 0; i < x->rank; i++) {
        if (x->dims[i] == 0)
            return (reduce_form){ .kind = REDUCE_OTHER };
        if (x->dims[i] == 1 && (i > 0 || reduce_over(a, i))) /* a batch of one is summed as one of many */
            continue;
        if (n == 0 || kind[n - 1] != reduce_over(a, i))
            kind[n++] = reduce_over(a, i);
        size[n - 1] *= x->dims[i];
    }
    if (n == 0)
        return (reduce_form){ REDUCE_LAST, 1, 1, 1 };
    if (n == 1)
        return kind[0] ? (reduce_form){ REDUCE_LAST, 1, size[0], 1 }
                       : (reduce_form){ REDUCE_LAST, size[0], 1, 1 };
    if (n == 2)
        return kind[0] ? (reduce_form){ REDUCE_COLUMNS, 1, size[0], size[1] }
                       : (reduce_form){ REDUCE_LAST, size[0], size[1], 1 };
    if (n == 3)
        return kind[0] ? (reduce_form){ REDUCE_BOTH, size[0], size[2], size[1] }
                       : (reduce_form){ REDUCE_COLUMNS, size[0], size[1], size[2] };
    return (reduce_form){ .kind = REDUCE_OTHER };
}

/* ---- the reference ---- */

typedef struct reduction {
    double start; /* what nothing gives */
    row_binary combine;
    double (*f64)(double total, const double *x, int64_t n);
    int64_t (*i64)(int64_t total, const int64_t *x, int64_t n);
} reduction;

static double reduce_sum_f64(double total, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total += x[i];
    return total;
}

static int64_t reduce_sum_i64(int64_t total, const int64_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total = WRAP(total, +, x[i]);
    return total;
}

static double reduce_amax_f64(double total, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total = x[i] > total || isnan(x[i]) ? x[i] : total;
    return total;
}

static int64_t reduce_amax_i64(int64_t total, const int64_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total = i64_max(total, x[i]);
    return total;
}

static const reduction reduce_sum = { 0, ROW_ADD, reduce_sum_f64, reduce_sum_i64 };
static const reduction reduce_amax = { -INFINITY, ROW_MAX, reduce_amax_f64, reduce_amax_i64 };

/* One element of y: all of `x`, a view of the reduced axes. */
static void reduce_one(const op_call *c, const reduction *r, const view *x, void *y)
{
    const heed_dtype d = x->type.dtype;
    const int64_t count = heed_type_count(&x->type);
    union {
        double f64[ELEMENTS];
        int64_t i64[ELEMENTS];
    } some;
    double f64 = r->start;
    int64_t i64 = r->start < 0 ? INT64_MIN : 0;
    void *at[WALK_VIEWS];
    pieces p;

    if (count > 0)
        heed__pieces(&p, 1, &x, 0);
    for (int64_t done = 0, n; done < count; done += n) {
        n = heed__take_piece(&p, i64_min(ELEMENTS, count - done), at);
        if (heed__floating(d)) {
            heed__load_f64(some.f64, d, at[0], p.w.step[0], n, c->row);
            f64 = r->f64(f64, some.f64, n);
        } else {
            heed__load_i64(some.i64, d, at[0], p.w.step[0], n);
            i64 = r->i64(i64, some.i64, n);
        }
    }
    if (heed__floating(d))
        heed__store_f64(y, d, 1, &f64, 1, c->row);
    else
        heed__store_i64(y, d, 1, &i64, 1, c->row);
}

static void reduce_reference(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_attrs *a = c->attrs;
    const view *x = &c->in[0];
    view kept = { .type = { .dtype = x->type.dtype } }, gone = kept;

    for (int i = 0; i < x->type.rank; i++) {
        view *to = reduce_over(a, i) ? &gone : &kept;

        to->strides[to->type.rank] = x->strides[i];
        to->type.dims[to->type.rank++] = x->type.dims[i];
    }
    kept.data = x->data;
    for (int64_t i = begin; i < end; i++) {
        gone.data = heed__item(&kept, kept.type.rank, i).data;
        reduce_one(c, r, &gone, heed__item(&c->out[0], c->out[0].type.rank, i).data);
    }
}

static int64_t reduce_reference_chunk(const op_call *c)
{
    const int64_t items = i64_max(1, heed_type_count(&c->out[0].type));
    return i64_max(1, MAP_CHUNK * items / i64_max(1, heed_type_count(&c->in[0].type)));
}

/* ---- f32, f16, bf16 ---- */

static bool reduce_is(const op_call *c, enum reduce_kind kind)
{
    return heed__computes_in_f32(&c->in[0]) && reduce_form_of(c).kind == kind;
}

/* n elements of a dense view from element `begin` on, as one row. */
static view reduce_row(const view *v, int64_t begin, int64_t n)
{
    view row = { .type = { v->type.dtype, 2, { 1, n } }, .strides = { n, 1 } };

    row.data = (char *)v->data + begin * (int64_t)heed_dtype_size(v->type.dtype);
    return row;
}

/* Rows [begin, end) of x as [rows, n]; one number each to s. */
static void reduce_rows(const op_call *c, const reduction *r, float *s, const view *x, int64_t begin,
                        int64_t end)
{
    rows some = c->row->in(x, begin, end, c->scratch[0]);

    if (r->combine == ROW_ADD)
        c->row->sum(s, some);
    else
        c->row->max(s, some);
}

static void reduce_put(const op_call *c, int64_t at, const float *s, int64_t n)
{
    char *y = c->out[0].data;

    heed__narrow(y + at * (int64_t)heed_dtype_size(c->out[0].type.dtype), c->out[0].type.dtype, s, n, c->row);
}

static void reduce_fill(float *y, float value, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = value;
}

/* last */
static bool reduce_last_accepts(const op_call *c)
{
    return reduce_is(c, REDUCE_LAST) && reduce_form_of(c).n <= SEGMENT;
}

static int64_t reduce_last_chunk(const op_call *c)
{
    return i64_max(1, MAP_CHUNK / reduce_form_of(c).n);
}

static size_t reduce_last_scratch(const op_call *c)
{
    return c->in[0].type.dtype == HEED_F32 ? 0 : heed__rows_scratch_bytes(reduce_form_of(c).n);
}

static void reduce_last(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    view x = c->in[0];
    float s[ROWS_MAX];

    x.type = (heed_type){ x.type.dtype, 2, { f.outer, f.n } };
    x.strides[0] = f.n;
    x.strides[1] = 1;
    for (int64_t i = begin; i < end; i += ROWS_MAX) {
        const int64_t last = i64_min(end, i + ROWS_MAX);

        reduce_rows(c, r, s, &x, i, last);
        reduce_put(c, i, s, last - i);
    }
}

/* split: an item is a segment of a row, a chunk one item */
static bool reduce_split_accepts(const op_call *c)
{
    return reduce_is(c, REDUCE_LAST) && reduce_form_of(c).n > SEGMENT;
}

static int64_t reduce_split_count(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return f.outer * i64_ceil_div(f.n, SEGMENT);
}

static size_t reduce_split_scratch(const op_call *c)
{
    return c->in[0].type.dtype == HEED_F32 ? 0 : (size_t)heed__rows_scratch_stride(SEGMENT) * sizeof(float);
}

static size_t reduce_split_partial(const op_call *c)
{
    (void)c;
    return sizeof(float);
}

static void reduce_split(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    const int64_t segments = i64_ceil_div(f.n, SEGMENT);

    for (int64_t i = begin; i < end; i++) {
        const int64_t from = i % segments * SEGMENT;
        const view x = reduce_row(&c->in[0], i / segments * f.n + from, i64_min(SEGMENT, f.n - from));

        reduce_rows(c, r, c->partial, &x, 0, 1);
    }
}

static const float *reduce_partial(const op_call *c, int64_t chunk)
{
    return (const float *)(const void *)((const char *)c->partial + chunk * c->partial_stride);
}

static void reduce_split_finish(const op_call *c, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    const int64_t segments = i64_ceil_div(f.n, SEGMENT);

    for (int64_t o = 0; o < f.outer; o++) {
        double total = r->start;
        float y;

        for (int64_t i = 0; i < segments; i++) {
            const double x = (double)*reduce_partial(c, o * segments + i);

            total = r->f64(total, &x, 1);
        }
        y = (float)total;
        reduce_put(c, o, &y, 1);
    }
}

/* columns: f rows of `inner` numbers are one wide row; the last n mod f rows are added at the end, then
 * the wide row is folded. */
typedef struct reduce_wide {
    int64_t fold, width, rows, blocks; /* width = fold * inner */
} reduce_wide;

static reduce_wide reduce_wide_of(const reduce_form *f)
{
    reduce_wide w = { .fold = f->inner < WIDE ? i64_max(1, i64_min(f->n, WIDE / f->inner)) : 1 };

    w.width = w.fold * f->inner;
    w.rows = f->n / w.fold;
    w.blocks = i64_ceil_div(w.rows, BLOCK);
    return w;
}

/* total = total + x[0 .. n), by the op's primitive; f16 and bf16 widen through scratch. */
static void reduce_add_row(const op_call *c, const reduction *r, float *total, int64_t at, int64_t n,
                           void *scratch)
{
    const view x = reduce_row(&c->in[0], at, n);
    const float *from = x.data;

    if (x.type.dtype != HEED_F32) {
        heed__widen(scratch, x.type.dtype, x.data, n, c->row);
        from = scratch;
    }
    c->row->binary[r->combine](total, total, 1, from, 1, n);
}

/* The sum of one block's wide rows, n of their columns from `column` on. */
static void reduce_add_block(const op_call *c, const reduction *r, const reduce_form *f, const reduce_wide *w,
                             float *total, int64_t outer, int64_t block, int64_t column, int64_t n)
{
    const int64_t base = outer * f->n * f->inner + column, last = i64_min(w->rows, (block + 1) * BLOCK);

    reduce_fill(total, (float)r->start, n);
    for (int64_t i = block * BLOCK; i < last; i++)
        reduce_add_row(c, r, total, base + i * w->width, n, c->scratch[2]);
}

/* What does not fill a wide row, and the fold. */
static void reduce_add_rest(const op_call *c, const reduction *r, const reduce_form *f, const reduce_wide *w,
                            float *total, int64_t outer)
{
    float rest[WIDE];

    reduce_add_row(c, r, total, (outer * f->n + w->rows * w->fold) * f->inner,
                   (f->n - w->rows * w->fold) * f->inner, rest);
    for (int64_t g = 1; g < w->fold; g++)
        c->row->binary[r->combine](total, total, 1, total + g * f->inner, 1, f->inner);
}

static int64_t reduce_columns_parts(const reduce_form *f)
{
    return i64_ceil_div(f->inner, COLUMNS);
}

/* Too few columns for all threads, and work enough to share rows instead. */
static bool reduce_share_rows(const reduce_form *f)
{
    const reduce_wide w = reduce_wide_of(f);
    return f->outer * reduce_columns_parts(f) < 8 && w.blocks > 1 && w.width <= 8 * COLUMNS;
}

static bool reduce_columns_accepts(const op_call *c)
{
    return reduce_is(c, REDUCE_COLUMNS);
}

static int64_t reduce_columns_count(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return f.outer * reduce_columns_parts(&f);
}

static int64_t reduce_columns_chunk(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return i64_max(1, MAP_CHUNK / (f.n * i64_min(f.inner, COLUMNS)));
}

static size_t reduce_columns_scratch(const op_call *c)
{
    (void)c;
    return COLUMNS * sizeof(float);
}

static void reduce_columns(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    const reduce_wide w = reduce_wide_of(&f);
    const int64_t parts = reduce_columns_parts(&f);
    float *total = c->scratch[0], *block = c->scratch[1];

    for (int64_t i = begin; i < end; i++) {
        const int64_t outer = i / parts, column = i % parts * COLUMNS, n = i64_min(COLUMNS, w.width - column);

        reduce_fill(total, (float)r->start, n);
        for (int64_t k = 0; k < w.blocks; k++) {
            reduce_add_block(c, r, &f, &w, block, outer, k, column, n);
            c->row->binary[r->combine](total, total, 1, block, 1, n);
        }
        if (w.fold > 1)
            reduce_add_rest(c, r, &f, &w, total, outer);
        reduce_put(c, outer * f.inner + column, total, w.fold > 1 ? f.inner : n);
    }
}

/* shared columns: an item is a block of wide rows, a chunk one item */
static bool reduce_shared_accepts(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return reduce_is(c, REDUCE_COLUMNS) && reduce_share_rows(&f);
}

static int64_t reduce_shared_count(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return f.outer * reduce_wide_of(&f).blocks;
}

static size_t reduce_shared_bytes(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return (size_t)reduce_wide_of(&f).width * sizeof(float);
}

static void reduce_shared(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    const reduce_wide w = reduce_wide_of(&f);

    for (int64_t i = begin; i < end; i++)
        reduce_add_block(c, r, &f, &w, c->partial, i / w.blocks, i % w.blocks, 0, w.width);
}

static void reduce_shared_finish(const op_call *c, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    const reduce_wide w = reduce_wide_of(&f);

    for (int64_t o = 0; o < f.outer; o++) {
        float *total = (float *)(void *)((char *)c->partial + o * w.blocks * c->partial_stride);

        for (int64_t k = 1; k < w.blocks; k++)
            c->row->binary[r->combine](total, total, 1, reduce_partial(c, o * w.blocks + k), 1, w.width);
        if (w.fold > 1)
            reduce_add_rest(c, r, &f, &w, total, o);
        reduce_put(c, o * f.inner, total, f.inner);
    }
}

/* both */
static bool reduce_both_accepts(const op_call *c)
{
    return reduce_is(c, REDUCE_BOTH);
}

static int64_t reduce_both_count(const op_call *c)
{
    return reduce_form_of(c).inner;
}

static int64_t reduce_both_chunk(const op_call *c)
{
    const reduce_form f = reduce_form_of(c);
    return i64_max(1, MAP_CHUNK / (f.outer * f.n));
}

static void reduce_both(const op_call *c, int64_t begin, int64_t end, const reduction *r)
{
    const reduce_form f = reduce_form_of(c);
    float s[ROWS_MAX];

    for (int64_t k = begin; k < end; k++) {
        view x = reduce_row(&c->in[0], k * f.n, f.n);
        double total = r->start;
        float y;

        x.type.dims[0] = f.outer;
        x.strides[0] = f.inner * f.n;
        for (int64_t i = 0; i < f.outer; i += ROWS_MAX) {
            const int64_t last = i64_min(f.outer, i + ROWS_MAX);
            double sums[ROWS_MAX];

            reduce_rows(c, r, s, &x, i, last);
            heed__load_f64(sums, HEED_F32, s, 1, last - i, c->row);
            total = r->f64(total, sums, last - i);
        }
        y = (float)total;
        reduce_put(c, k, &y, 1);
    }
}

/* ---- the two ops ---- */

#define REDUCE_RUN(name, part)                                                                               \
    static void name##_##part##_run(const op_call *c, int64_t begin, int64_t end)                            \
    {                                                                                                        \
        reduce_##part(c, begin, end, &reduce_##name);                                                        \
    }
#define REDUCE_FINISH(name, part)                                                                            \
    static void name##_##part##_end(const op_call *c)                                                        \
    {                                                                                                        \
        reduce_##part##_finish(c, &reduce_##name);                                                           \
    }
#define REDUCE(op_name, infer_, grad_, onnx_, since, torch_, some)                                           \
    REDUCE_RUN(op_name, last)                                                                                \
    REDUCE_RUN(op_name, split)                                                                               \
    REDUCE_RUN(op_name, columns)                                                                             \
    REDUCE_RUN(op_name, shared)                                                                              \
    REDUCE_RUN(op_name, both)                                                                                \
    REDUCE_RUN(op_name, reference)                                                                           \
    REDUCE_FINISH(op_name, split)                                                                            \
    REDUCE_FINISH(op_name, shared)                                                                           \
    static const op_kernel op_name##_cpu[] = {                                                               \
        { .name = "last", .accepts = reduce_last_accepts, .count = heed__element_count,                      \
          .chunk_of = reduce_last_chunk, .scratch = reduce_last_scratch, .run = op_name##_last_run },        \
        { .name = "split", .chunk = 1, .accepts = reduce_split_accepts, .count = reduce_split_count,         \
          .scratch = reduce_split_scratch, .partial = reduce_split_partial, .run = op_name##_split_run,      \
          .finish = op_name##_split_end },                                                                   \
        { .name = "columns, rows shared", .chunk = 1, .accepts = reduce_shared_accepts,                      \
          .count = reduce_shared_count, .scratch = reduce_shared_bytes, .partial = reduce_shared_bytes,      \
          .run = op_name##_shared_run, .finish = op_name##_shared_end },                                     \
        { .name = "columns", .accepts = reduce_columns_accepts, .count = reduce_columns_count,               \
          .chunk_of = reduce_columns_chunk, .scratch = reduce_columns_scratch,                               \
          .run = op_name##_columns_run },                                                                    \
        { .name = "both", .accepts = reduce_both_accepts, .count = reduce_both_count,                        \
          .chunk_of = reduce_both_chunk, .scratch = reduce_last_scratch, .run = op_name##_both_run },        \
        { .name = "reference", .layout = STRIDED, .count = heed__element_count,                              \
          .chunk_of = reduce_reference_chunk, .run = op_name##_reference_run },                              \
        KERNEL_END,                                                                                          \
    };                                                                                                       \
    heed_value heed_##op_name(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)                  \
    {                                                                                                        \
        return reduce_node(b, &heed__op_##op_name, x, axes, keep);                                           \
    }                                                                                                        \
    const op_def heed__op_##op_name = {                                                                      \
        .name = #op_name, .version = 1, .in = reduce_in, .out = reduce_out,                                  \
        .attrs_size = sizeof(reduce_attrs),                                                                  \
        .fields = reduce_fields, .infer = infer_, .grad = grad_, .cpu = op_name##_cpu, .flops = reduce_flops,\
        .onnx = { onnx_, since }, .onnx_emit = reduce_onnx, .torch = torch_, .samples = some,                \
    };

/* ReduceMax takes its axes as an operand from opset 18 on, ReduceSum already. The number of summands may
 * stand in a constant elsewhere (a mean), so an open batch is not summed over. */
static void reduce_onnx(onnx_emit *e)
{
    const reduce_attrs *a = e->attrs;
    const bool operand = e->opset >= 18 || strcmp(e->name, "ReduceMax") != 0;
    int64_t axes[HEED_MAX_RANK];
    int n = 0;

    for (int i = 0; i < e->in[0].rank; i++)
        if (reduce_over(a, i))
            axes[n++] = i;
    for (int i = 0; i < n; i++)
        if (strcmp(e->name, "ReduceSum") == 0 && e->to->open(e, e->in[0].dims[axes[i]])) {
            e->to->refuse(e, "a sum over the batch needs its size");
            return;
        }
    if (n == 0) {
        e->to->node(e, "Identity", e->in_name, 1, e->out_name, 1, NULL);
    } else if (operand) {
        const char *list = e->to->i64s(e, axes, n);

        heed__onnx_node_of(e, &list, 1, (onnx_attr[]){ ONNX_INT("keepdims", a->keep), ONNX_END });
    } else {
        heed__onnx_node(e,
                        (onnx_attr[]){ ONNX_INTS("axes", axes, n), ONNX_INT("keepdims", a->keep), ONNX_END });
    }
}

static double reduce_flops(const op_call *c)
{
    return (double)heed_type_count(&c->in[0].type);
}

static heed_value reduce_node(heed_builder *b, const op_def *op, heed_value x, unsigned axes, heed_keep keep)
{
    const int rank = heed_rank(b, x);

    if (rank == 0 && axes == HEED_ALL_AXES && x.id && !heed__poisoned(b))
        return x;
    if (axes == HEED_ALL_AXES)
        axes = (1u << rank) - 1;
    return heed__node(b, op, &(reduce_attrs){ (int)(axes & 0xffff), keep == HEED_KEEP_AXES }, &x, 1);
}

/* v, of the reduced sizes, stretched to those of x. */
static heed_value reduce_stretch(op_grad *g, heed_value v)
{
    const reduce_attrs *a = g->attrs;
    const heed_type x = heed_value_type(g->b, g->in[0]);
    heed_type kept = x;

    for (int i = 0; i < x.rank; i++)
        if (reduce_over(a, i))
            kept.dims[i] = 1;
    return heed_broadcast(g->b, heed_reshape(g->b, v, x.rank, kept.dims), x.rank, x.dims);
}

static void reduce_sum_grad(op_grad *g)
{
    g->din[0] = reduce_stretch(g, g->dout[0]);
}

static void reduce_amax_grad(op_grad *g)
{
    const reduce_attrs *a = g->attrs;
    const heed_type t = heed_value_type(g->b, g->in[0]);
    heed_value most = heed_eq(g->b, g->in[0], reduce_stretch(g, g->out[0]));
    heed_value ties = heed_cast(g->b, most, t.dtype);

    if (a->axes)
        ties = heed_sum(g->b, ties, (unsigned)a->axes, a->keep ? HEED_KEEP_AXES : HEED_DROP_AXES);
    g->din[0] = heed_select(g->b, most, reduce_stretch(g, heed_div(g->b, g->dout[0], ties)),
                            heed__zeros(g->b, &t));
}

static const op_sample reduce_samples[] = {
    { .in = { DIMS(4, 1000) }, .attrs = &(const reduce_attrs){ 2, false } },
    { .in = { DIMS(300, 7) }, .attrs = &(const reduce_attrs){ 1, false } },           /* columns, folded */
    { .in = { DIMS(2, 150, 65) }, .attrs = &(const reduce_attrs){ 2, true } },        /* columns, shared */
    { .in = { DIMS(17, 3, 5, 6) }, .attrs = &(const reduce_attrs){ 13, true } },      /* both */
    { .in = { DIMS(3, 4, 2, 5) }, .attrs = &(const reduce_attrs){ 10, false } },      /* reference */
    { .in = { DIMS(33000) }, .attrs = &(const reduce_attrs){ 1, false } },            /* split */
    { .in = { DIMS(7, 33) }, .attrs = &(const reduce_attrs){ 3, true }, .scale = 1e4 },
    { .in = { INDEX(100, 5, 9) }, .attrs = &(const reduce_attrs){ 1, false } },
    { .in = { DIMS(0, 3) }, .attrs = &(const reduce_attrs){ 2, false } },
    { .in = { DIMS(3) }, .attrs = &(const reduce_attrs){ 2, false }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};
static const op_sample reduce_amax_samples[] = {
    { .in = { FILLED(FILL_DISTINCT, 4, 1000) }, .attrs = &(const reduce_attrs){ 2, false } },
    { .in = { FILLED(FILL_DISTINCT, 300, 7) }, .attrs = &(const reduce_attrs){ 1, false } },
    { .in = { FILLED(FILL_DISTINCT, 17, 3, 5, 6) }, .attrs = &(const reduce_attrs){ 13, true } },
    { .in = { FILLED(FILL_DISTINCT, 3, 4, 2, 5) }, .attrs = &(const reduce_attrs){ 10, false } },
    { .in = { DIMS(7, 33) }, .attrs = &(const reduce_attrs){ 3, true }, .scale = 1e4 },
    { .in = { INDEX(100, 5, 9) }, .attrs = &(const reduce_attrs){ 1, false } },
    { .in = { DIMS(0, 3) }, .attrs = &(const reduce_attrs){ 2, false } },
    { .in = { DIMS(3, 0) }, .attrs = &(const reduce_attrs){ 2, false }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

REDUCE(sum, reduce_infer, reduce_sum_grad, "ReduceSum", 13, "x.sum(...)", reduce_samples)
REDUCE(amax, reduce_amax_infer, reduce_amax_grad, "ReduceMax", 13, "x.amax(...)", reduce_amax_samples)

heed_value heed_mean(heed_builder *b, heed_value x, unsigned axes, heed_keep keep)
{
    const heed_type t = heed_value_type(b, x);
    double n = 1;

    for (int i = 0; i < t.rank; i++)
        if (axes == HEED_ALL_AXES || axes >> i & 1)
            n *= (double)t.dims[i];
    return heed_div(b, heed_sum(b, x, axes, keep), heed_scalar(b, t.dtype, n));
}

heed_value heed__sum_axis(heed_builder *b, heed_value x, int axis)
{
    return heed_sum(b, x, 1u << heed__axis(b, x, axis), HEED_KEEP_AXES);
}

heed_value heed__max_axis(heed_builder *b, heed_value x, int axis)
{
    return heed_amax(b, x, 1u << heed__axis(b, x, axis), HEED_KEEP_AXES);
}
