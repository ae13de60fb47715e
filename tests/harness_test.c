/* The harness finds what is wrong: y = x^2 is right, and each op after it has one fault, which must be reported in its column.
 * Every column is named here by an op that fails it. */
#include "support/cmocka.h"
#include "support/harness.h"

#include "base/context.h"
#include "graph/number.h"
#include <heed/ops.h>

#include <math.h>
#include <string.h>

/* ---- the op that is right ---- */

static const op_slot square_in[] = { { .name = "x", .dtypes = FLOATS, .flags = DIFFERENTIABLE }, SLOT_END };
static const op_slot square_out[] = { { .name = "y", .same_as = "x" }, SLOT_END };

static const op_sample square_samples[] = {
    { .in = { DIMS(4, 100) } },
    { .in = { DIMS(3, 2, 5) } },
    { .in = { SCALAR() } },
    { .in = { DIMS(0, 3) } },
    { .in = { MASK(3) }, .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

static int64_t place(const view *v, int64_t i)
{
    int64_t at = 0;

    for (int a = v->type.rank; a-- > 0; i /= v->type.dims[a])
        at += i % v->type.dims[a] * v->strides[a];
    return at;
}

static double get(const view *v, int64_t i)
{
    return heed__number_get(v->type.dtype, v->data, place(v, i));
}

static void put(const view *v, int64_t i, double x)
{
    if (v->data)
        heed__number_put(v->type.dtype, v->data, i, x);
}

static void square_run(const op_call *c, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        put(&c->out[0], i, get(&c->in[0], i) * get(&c->in[0], i));
}

static void square_grad(op_grad *g)
{
    g->din[0] = heed_mul(g->b, g->dout[0], heed_mul_scalar(g->b, g->in[0], 2));
}

static const op_kernel square_cpu[] = { { .name = "loop", .layout = STRIDED, .chunk = 64, .run = square_run }, KERNEL_END };

static const op_def square = {
    .name = "square", .version = 1, .in = square_in, .out = square_out, .flags = OP_IN_PLACE,
    .grad = square_grad, .cpu = square_cpu, .samples = square_samples,
};

/* ---- kernels that are wrong ---- */

static bool is_f32(const op_call *c)
{
    return c->in[0].type.dtype == HEED_F32;
}

/* A little too much when `when` holds. */
#define WRONG_WHEN(name, when)                                                                                    \
    static void name##_run(const op_call *c, int64_t begin, int64_t end)                                          \
    {                                                                                                             \
        for (int64_t i = begin; i < end; i++)                                                                     \
            put(&c->out[0], i, get(&c->in[0], i) * get(&c->in[0], i) * ((when) ? 1.05 : 1));                      \
    }
WRONG_WHEN(in_f32, is_f32(c))
WRONG_WHEN(in_bf16, c->in[0].type.dtype == HEED_BF16)
WRONG_WHEN(on_portable, is_f32(c) && c->isa == HEED_ISA_PORTABLE)
WRONG_WHEN(in_last_chunk, is_f32(c) && end == heed_type_count(&c->out[0].type) && end > 64)

static void writes_one_more_run(const op_call *c, int64_t begin, int64_t end)
{
    square_run(c, begin, end);
    if (end == heed_type_count(&c->out[0].type) && is_f32(c))
        put(&c->out[0], end, 1);
}

static void writes_one_before_run(const op_call *c, int64_t begin, int64_t end)
{
    square_run(c, begin, end);
    if (begin == 0 && is_f32(c))
        put(&c->out[0], -1, 1);
}

static void reads_one_more_run(const op_call *c, int64_t begin, int64_t end)
{
    volatile char ignored;

    square_run(c, begin, end);
    if (end == heed_type_count(&c->out[0].type) && c->in[0].type.rank > 0 && c->in[0].strides[c->in[0].type.rank - 1] == 1)
        ignored = ((const char *)c->in[0].data)[(size_t)end * heed_dtype_size(c->in[0].type.dtype)];
    (void)ignored;
}

static void writes_its_input_run(const op_call *c, int64_t begin, int64_t end)
{
    square_run(c, begin, end);
    if (c->in[0].data != c->out[0].data && begin < end && is_f32(c))
        put(&c->in[0], place(&c->in[0], begin), 0);
}

static void leaves_one_out_run(const op_call *c, int64_t begin, int64_t end)
{
    square_run(c, begin, end - (end > 70));
}

static void takes_all_for_dense_run(const op_call *c, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        const double x = heed__number_get(c->in[0].type.dtype, c->in[0].data, i);
        put(&c->out[0], i, x * x);
    }
}

static size_t some_scratch(const op_call *c)
{
    (void)c;
    return 64;
}

/* Counts its chunks in scratch memory, which is another one on every thread. */
static void counts_in_scratch_run(const op_call *c, int64_t begin, int64_t end)
{
    float *seen = c->scratch[0];

    *seen = *seen >= 0 && *seen < 1000 ? *seen + 1 : 0;
    for (int64_t i = begin; i < end; i++)
        put(&c->out[0], i, get(&c->in[0], i) * get(&c->in[0], i) + 1e-6 * (double)*seen);
}

static void passes_its_scratch_run(const op_call *c, int64_t begin, int64_t end)
{
    square_run(c, begin, end);
    ((char *)c->scratch[1])[64] = 1;
}

/* Chunks know what the one before them has left. */
static size_t some_shared(const op_call *c)
{
    (void)c;
    return 64;
}

static void follows_its_order_run(const op_call *c, int64_t begin, int64_t end)
{
    float *last = c->shared;
    const float before = begin == 0 ? 0 : *last;

    for (int64_t i = begin; i < end; i++)
        put(&c->out[0], i, get(&c->in[0], i) * get(&c->in[0], i) + 1e-6 * (double)(before == (float)begin));
    *last = (float)end;
}

/* y_i = x_i x_(i+1), the last with the first: right, but not where y lies in x's memory. */
static void needs_the_next_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t n = heed_type_count(&c->out[0].type);

    for (int64_t i = begin; i < end; i++)
        put(&c->out[0], i, get(&c->in[0], i) * get(&c->in[0], (i + 1) % n));
}

static void wants_both_run(const op_call *c, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        put(&c->out[0], i, get(&c->in[0], i) + (c->out[1].data ? 0 : 1e-6));
        put(&c->out[1], i, get(&c->in[0], i));
    }
}

/* ---- gradients, refusals and memory that are wrong ---- */

static void too_steep_grad(op_grad *g)
{
    g->din[0] = heed_mul(g->b, g->dout[0], heed_mul_scalar(g->b, g->in[0], 2.001));
}

static void flat_grad(op_grad *g) /* right, but its own gradient is lost */
{
    g->din[0] = heed_mul(g->b, g->dout[0], heed_mul_scalar(g->b, heed_stop_grad(g->b, g->in[0]), 2));
}

static void coarse_grad(op_grad *g) /* f32 goes through f16 */
{
    const heed_dtype dtype = heed_value_type(g->b, g->in[0]).dtype;

    square_grad(g);
    if (dtype == HEED_F32)
        g->din[0] = heed_cast(g->b, heed_cast(g->b, g->din[0], HEED_F16), HEED_F32);
}

static void leaking_grad(op_grad *g)
{
    square_grad(g);
    (void)heed__alloc(heed__builder_context(g->b)->heap, 10, 1);
}

static void silent_grad(op_grad *g) /* no memory, so no gradient, and nobody is told */
{
    heap *h = heed__builder_context(g->b)->heap;
    void *work = heed__alloc(h, 10, 1);

    if (work)
        square_grad(g);
    heed__release(h, work);
}

static heed_status knows_no_zero_infer(op_infer *t)
{
    if (heed_type_count(&t->in[0]) == 0 && t->in[0].dims[0] > 0)
        return heed__refuse(t, HEED_ERR_BUG, "this can not be: a tensor without elements");
    t->out[0] = t->in[0];
    return HEED_OK;
}

static heed_status curt_infer(op_infer *t)
{
    t->out[0] = t->in[0];
    return t->in[0].rank == 1 ? heed__refuse(t, HEED_ERR_SHAPE, "no") : HEED_OK;
}

static const op_sample refused_samples[] = {
    { .in = { DIMS(4, 100) } },
    { .in = { DIMS(3) }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

/* Sum of everything; without elements it leaves the result as it was. */
static heed_status total_infer(op_infer *t)
{
    t->out[0] = (heed_type){ .dtype = t->in[0].dtype };
    return HEED_OK;
}

static int64_t total_count(const op_call *c)
{
    return heed_type_count(&c->in[0].type) > 0;
}

static void total_run(const op_call *c, int64_t begin, int64_t end)
{
    double sum = 0;

    for (int64_t i = 0; i < heed_type_count(&c->in[0].type) && begin < end; i++)
        sum += get(&c->in[0], i);
    put(&c->out[0], 0, sum);
}

static void total_grad(op_grad *g)
{
    const heed_type type = heed_value_type(g->b, g->in[0]);

    g->din[0] = heed_broadcast(g->b, g->dout[0], type.rank, type.dims);
}

/* ---- indices ---- */

static const op_slot pick_in[] = {
    { .name = "x", .dtypes = FLOATS },
    { .name = "index", .dtypes = I64_ONLY },
    SLOT_END,
};
static const op_slot pick_out[] = { { .name = "y" }, SLOT_END };
static const op_sample pick_samples[] = { { .in = { DIMS(6), INDEX(6, 9) } }, SAMPLE_END };

static heed_status pick_infer(op_infer *t)
{
    t->out[0] = t->in[1];
    t->out[0].dtype = t->in[0].dtype;
    return HEED_OK;
}

static void pick(const op_call *c, int64_t begin, int64_t end, bool clamps)
{
    const int64_t n = c->in[0].type.dims[0];

    for (int64_t i = begin; i < end; i++) {
        int64_t at = ((const int64_t *)c->in[1].data)[place(&c->in[1], i)];

        if (clamps)
            at = at < 0 ? 0 : i64_min(at, n - 1);
        put(&c->out[0], i, get(&c->in[0], at));
    }
}

static void unchecked_run(const op_call *c, int64_t begin, int64_t end)
{
    const int64_t *index = c->in[1].data;
    volatile char reached;

    for (int64_t i = begin; i < end; i++) { /* place() keeps inside by its modulo, so the address is taken here */
        const int64_t at = index[place(&c->in[1], i)] * (int64_t)heed_dtype_size(c->in[0].type.dtype);

        reached = ((const char *)c->in[0].data)[at * c->in[0].strides[0]];
        (void)reached;
    }
    pick(c, begin, end, true);
}

static void clamping_run(const op_call *c, int64_t begin, int64_t end)
{
    pick(c, begin, end, true);
}

/* ---- the proof ---- */

static harness bench;

static int open_bench(void **state)
{
    (void)state;
    harness_open(&bench);
    return 0;
}

static int close_bench(void **state)
{
    (void)state;
    harness_close(&bench);
    return 0;
}

static void expect(const op_def *op, harness_check check, const char *words)
{
    static harness_row row;
    bool said = false;

    harness_op(&bench, op, &row);
    for (int i = 0; i < row.texts; i++)
        said |= strstr(row.text[i], words) != NULL;
    if (row.check[check].bad == 0 || !said) {
        harness_print(stdout, &row);
        fail_msg("\"%s\" was not reported", words);
    }
}

static void expect_kernel(op_kernel k, unsigned flags, harness_check check, const char *words)
{
    op_kernel list[2] = { k, KERNEL_END };
    op_def op = square;

    if (!list[0].name)
        list[0].name = "wrong";
    if (!list[0].chunk)
        list[0].chunk = 64;
    list[0].layout = STRIDED;
    op.flags = flags;
    op.cpu = list;
    expect(&op, check, words);
}

static void a_right_op_passes_every_check_that_it_has(void **state)
{
    static harness_row row;

    (void)state;
    harness_op(&bench, &square, &row);
    for (int c = 0; c < HARNESS_CHECKS; c++) {
        assert_int_equal(row.check[c].bad, 0);
        if (c != CHECK_INDEX)
            assert_true(row.check[c].done > 0);
    }
    assert_int_equal(row.bad, 0);
    assert_true(row.check[CHECK_GRADIENT].worst < 0.1);
}

static void a_wrong_number_in_f32_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = in_f32_run }, 0, CHECK_LEVEL, "f32 on portable: result 0 differs");
    expect_kernel((op_kernel){ .run = in_f32_run }, 0, CHECK_KERNEL, "differs from the reference");
    expect_kernel((op_kernel){ .run = in_last_chunk_run }, 0, CHECK_LEVEL, "result 0 differs");
}

static void a_wrong_number_on_one_level_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = on_portable_run }, 0, CHECK_LEVEL, "f32 on portable");
}

static void a_wrong_number_in_bf16_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = in_bf16_run }, 0, CHECK_HALF, "bf16: result 0 differs");
}

static void square_decompose(op_decompose *d)
{
    d->out[0] = heed_mul(d->b, d->in[0], d->in[0]);
}

static void a_kernel_unlike_its_decomposition_is_found(void **state)
{
    static const op_kernel wrong[] = { { .name = "wrong", .layout = STRIDED, .chunk = 64, .accepts = is_f32, .run = in_f32_run }, KERNEL_END };
    op_def op = square;

    (void)state;
    op.decompose = square_decompose;
    op.cpu = wrong;
    expect(&op, CHECK_FUSED, "fused against decomposed");
}

static void an_access_outside_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = writes_one_more_run }, 0, CHECK_KERNEL, "reads or writes outside");
    expect_kernel((op_kernel){ .run = writes_one_before_run }, 0, CHECK_KERNEL, "wrote beside an output");
    expect_kernel((op_kernel){ .run = writes_one_before_run }, 0, CHECK_LEVEL, "the run wrote beside its block");
    expect_kernel((op_kernel){ .run = reads_one_more_run }, 0, CHECK_KERNEL, "reads or writes outside");
    expect_kernel((op_kernel){ .run = passes_its_scratch_run, .scratch = some_scratch }, 0, CHECK_KERNEL, "reads or writes outside");
}

static void an_input_that_is_written_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = writes_its_input_run }, 0, CHECK_KERNEL, "changed an input");
    expect_kernel((op_kernel){ .run = writes_its_input_run }, 0, CHECK_LEVEL, "the run changed its input");
}

static void an_element_that_is_not_written_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = leaves_one_out_run }, 0, CHECK_KERNEL, "gives other bytes");
}

static void strides_that_are_not_followed_are_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = takes_all_for_dense_run }, 0, CHECK_VIEWS, "inputs permuted");
    expect_kernel((op_kernel){ .run = takes_all_for_dense_run }, 0, CHECK_KERNEL, "with gaps between elements");
}

static void what_depends_on_threads_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = counts_in_scratch_run, .scratch = some_scratch }, 0, CHECK_THREADS, "1 thread and 7");
}

static void what_depends_on_the_order_of_chunks_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = follows_its_order_run, .shared = some_shared }, 0, CHECK_KERNEL, "chunks from last to first");
}

static void an_op_that_may_not_run_in_place_is_found(void **state)
{
    (void)state;
    expect_kernel((op_kernel){ .run = needs_the_next_run }, OP_IN_PLACE, CHECK_KERNEL, "in place");
    expect_kernel((op_kernel){ .run = needs_the_next_run }, OP_IN_PLACE, CHECK_VIEWS, "inputs may be overwritten");
}

static void an_output_that_depends_on_who_wants_another_is_found(void **state)
{
    static const op_slot two[] = { { .name = "y", .same_as = "x" }, { .name = "z", .same_as = "x" }, SLOT_END };
    static const op_kernel wrong[] = { { .name = "wrong", .layout = STRIDED, .chunk = 64, .run = wants_both_run }, KERNEL_END };
    op_def op = square;

    (void)state;
    op.out = two;
    op.cpu = wrong;
    op.flags = OP_NO_GRAD;
    expect(&op, CHECK_KERNEL, "with one output wanted");
}

static void wrong_gradients_are_found(void **state)
{
    op_def op = square;

    (void)state;
    op.grad = too_steep_grad;
    expect(&op, CHECK_GRADIENT, "gradient by x");
    op.grad = flat_grad;
    expect(&op, CHECK_SECOND, "second gradient by x");
    op.grad = coarse_grad;
    expect(&op, CHECK_GRADIENT32, "f32 on portable");
}

static void a_refusal_that_does_not_come_is_found(void **state)
{
    op_def op = square;

    (void)state;
    op.samples = refused_samples;
    expect(&op, CHECK_REFUSED, "ends with HEED_OK instead of HEED_ERR_SHAPE");
}

static void a_refusal_without_a_sentence_is_found(void **state)
{
    op_def op = square;

    (void)state;
    op.name = "sq";
    op.samples = refused_samples;
    op.infer = curt_infer;
    expect(&op, CHECK_REFUSED, "without a sentence");
}

static void an_op_that_fails_without_elements_is_found(void **state)
{
    static const op_kernel total[] = { { .name = "wrong", .layout = STRIDED, .count = total_count, .run = total_run }, KERNEL_END };
    op_def op = square;

    (void)state;
    op.infer = knows_no_zero_infer;
    expect(&op, CHECK_ZERO, "HEED_ERR_BUG");
    op.infer = total_infer;
    op.cpu = total;
    op.grad = total_grad;
    op.flags = 0;
    op.samples = (const op_sample[]){ { .in = { DIMS(4, 100) } }, SAMPLE_END };
    op.out = (const op_slot[]){ { .name = "y" }, SLOT_END };
    expect(&op, CHECK_ZERO, "with size 0 of axis 0 of input 0: result 0 differs");
}

static void indices_that_are_not_checked_are_found(void **state)
{
    op_kernel kernels[] = { { .name = "wrong", .layout = STRIDED, .chunk = 64, .run = unchecked_run }, KERNEL_END };
    op_def op = { .name = "pick", .version = 1, .in = pick_in, .out = pick_out, .flags = OP_NO_GRAD, .infer = pick_infer,
                  .cpu = kernels, .samples = pick_samples };

    (void)state;
    expect(&op, CHECK_INDEX, "reads or writes outside");
    kernels[0].run = clamping_run;
    expect(&op, CHECK_INDEX, "ends with HEED_OK");
}

static void memory_that_leaks_or_fails_in_silence_is_found(void **state)
{
    op_def op = square;

    (void)state;
    op.grad = silent_grad;
    expect(&op, CHECK_MEMORY, "fails: HEED_OK");
}

/* Leaks for good, so the context is not the bench's. */
static void memory_that_is_left_over_is_found(void **state)
{
    op_def op = square;

    (void)state;
    op.grad = leaking_grad;
    expect(&op, CHECK_MEMORY, "bytes are left over");
}

static void divides_by_its_first_size_run(const op_call *c, int64_t begin, int64_t end)
{
    const volatile int64_t one = 1, size = c->in[0].type.dims[0];

    square_run(c, begin, end);
    if (is_f32(c) && size == 0)
        put(&c->out[0], begin, (double)(one / size));
}

static int64_t at_least_one(const op_call *c)
{
    return i64_max(1, heed_type_count(&c->out[0].type));
}

static void divides_run(const op_call *c, int64_t begin, int64_t end)
{
    divides_by_its_first_size_run(c, begin, i64_min(end, heed_type_count(&c->out[0].type)));
}

static void a_crash_is_found_and_survived(void **state)
{
    const op_kernel list[] = { { .name = "wrong", .layout = STRIDED, .chunk = 64, .count = at_least_one, .run = divides_run }, KERNEL_END };
    static harness_row row;
    op_def op = square;

    (void)state;
    op.cpu = list;
    harness_op_apart(&op, &row);
    assert_true(row.bad > 0);
    assert_non_null(strstr(row.text[row.texts - 1], "it crashed here: signal 8"));
}

static void an_op_without_samples_is_found(void **state)
{
    op_def op = square;

    (void)state;
    op.samples = NULL;
    expect(&op, CHECK_REFERENCE, "there are no samples");
}

static void the_rule_of_agreement_is_the_one_that_is_written_down(void **state)
{
    const heed_type f32 = { HEED_F32, 1, { 2 } }, i64 = { HEED_I64, 1, { 2 } };
    const double want[] = { 100, 1 };

    (void)state;
    assert_true(harness_share(&f32, (const double[]){ 100.0109, 1.00109 }, want, 1e-5, 1e-4) <= 1); /* 1e-5 100 + 1e-4 |want| */
    assert_true(harness_share(&f32, (const double[]){ 100.012, 1 }, want, 1e-5, 1e-4) > 1);
    assert_true(harness_share(&f32, (const double[]){ 100, 1.0012 }, want, 1e-5, 1e-4) > 1);
    assert_true(harness_share(&f32, (const double[]){ 100, NAN }, want, 1e-5, 1e-4) > 1);
    assert_true(harness_share(&f32, (const double[]){ 100, INFINITY }, want, 1e-5, 1e-4) > 1);
    assert_true(harness_share(&f32, (const double[]){ INFINITY, 1 }, (const double[]){ 1e39, 1 }, 1e-5, 1e-4) <= 1);
    assert_true(harness_share(&f32, (const double[]){ -INFINITY, 1 }, (const double[]){ 1e39, 1 }, 1e-5, 1e-4) > 1);
    assert_true(harness_share(&i64, (const double[]){ 100, 2 }, want, 1e-5, 1e-4) > 1);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

int main(void)
{
#if defined(SANITIZED)
    printf("these ops break the rules on purpose, which a sanitizer does not allow\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_op_passes_every_check_that_it_has),
        cmocka_unit_test(a_wrong_number_in_f32_is_found),
        cmocka_unit_test(a_wrong_number_on_one_level_is_found),
        cmocka_unit_test(a_wrong_number_in_bf16_is_found),
        cmocka_unit_test(a_kernel_unlike_its_decomposition_is_found),
        cmocka_unit_test(an_access_outside_is_found),
        cmocka_unit_test(an_input_that_is_written_is_found),
        cmocka_unit_test(an_element_that_is_not_written_is_found),
        cmocka_unit_test(strides_that_are_not_followed_are_found),
        cmocka_unit_test(what_depends_on_threads_is_found),
        cmocka_unit_test(what_depends_on_the_order_of_chunks_is_found),
        cmocka_unit_test(an_op_that_may_not_run_in_place_is_found),
        cmocka_unit_test(an_output_that_depends_on_who_wants_another_is_found),
        cmocka_unit_test(wrong_gradients_are_found),
        cmocka_unit_test(a_refusal_that_does_not_come_is_found),
        cmocka_unit_test(a_refusal_without_a_sentence_is_found),
        cmocka_unit_test(an_op_that_fails_without_elements_is_found),
        cmocka_unit_test(indices_that_are_not_checked_are_found),
        cmocka_unit_test(memory_that_leaks_or_fails_in_silence_is_found),
        cmocka_unit_test(memory_that_is_left_over_is_found),
        cmocka_unit_test(a_crash_is_found_and_survived),
        cmocka_unit_test(an_op_without_samples_is_found),
        cmocka_unit_test(the_rule_of_agreement_is_the_one_that_is_written_down),
    };
    return cmocka_run_group_tests(tests, open_bench, close_bench);
}
