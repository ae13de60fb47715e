/* Random numbers: each is a function of (seed, step, node, row, column) and of nothing else, so neither
 * threads nor the order of ops change them (base/rng.h). The row counts all dimensions but the last, the
 * column the last.
 *
 *   rng {seed, step} i64 [2] -> y [dims] f32
 *
 *   random_uniform   word `column` of the row, in [0, 1)
 *   random_normal    words 2 column and 2 column + 1 of the row, by Box-Muller
 *
 * No gradient. */

#include "base/rng.h"
#include "ops/reference.h"

static const op_slot random_in[] = { { .name = "rng", .dtypes = I64_ONLY }, SLOT_END };
static const op_slot random_out[] = { { .name = "y" }, SLOT_END };

typedef struct {
    int64_t node; /* CRC-32C of the scope path */
    field_i64s dims;
} random_attrs;
static const op_field random_fields[] = {
    FIELD_I64(random_attrs, node),
    FIELD_I64S(random_attrs, dims),
    FIELD_END,
};

static heed_status random_infer(op_infer *t)
{
    const random_attrs *a = t->attrs;
    int64_t count, columns;

    if (t->in[0].rank != 1 || t->in[0].dims[0] != 2)
        return heed__refuse(t, HEED_ERR_SHAPE, "rng must be {seed, step}");
    if (a->dims.n < 0 || a->dims.n > HEED_MAX_RANK)
        return heed__refuse(t, HEED_ERR_SHAPE, "rank %d is outside 0 to %d", a->dims.n, HEED_MAX_RANK);
    t->out[0] = heed_type_of(HEED_F32, a->dims.n, a->dims.v);
    count = heed_type_count(&t->out[0]);
    columns = a->dims.n > 0 ? a->dims.v[a->dims.n - 1] : 1;
    if (count > 0 && (columns > (int64_t)1 << 31 || count / columns > (int64_t)1 << 32))
        return heed__refuse(t, HEED_ERR_LIMIT, "more than 2^31 columns or 2^32 rows");
    return HEED_OK;
}

#define QUAD 4 /* columns of an item */

static int64_t random_columns(const op_call *c)
{
    const heed_type *t = &c->out[0].type;
    return t->rank > 0 ? t->dims[t->rank - 1] : 1;
}

static int64_t random_count(const op_call *c)
{
    const int64_t count = heed_type_count(&c->out[0].type), columns = random_columns(c);
    return count > 0 ? count / columns * i64_ceil_div(columns, QUAD) : 0;
}

static void random_uniform_quad(float y[QUAD], const rng *r, uint32_t row, uint32_t quad)
{
    uint32_t word[4];

    heed__rng_quad(word, r, row, quad);
    for (int i = 0; i < QUAD; i++)
        y[i] = heed__unit(word[i]);
}

static void random_normal_quad(float y[QUAD], const rng *r, uint32_t row, uint32_t quad)
{
    uint32_t word[8];

    heed__rng_quad(word, r, row, 2 * quad);
    heed__rng_quad(word + 4, r, row, 2 * quad + 1);
    for (int i = 0; i < QUAD; i++)
        y[i] = heed__normal(word[2 * i], word[2 * i + 1]);
}

static void random_fill(const op_call *c, int64_t begin, int64_t end,
                        void (*quad_of)(float y[QUAD], const rng *r, uint32_t row, uint32_t quad))
{
    const random_attrs *a = c->attrs;
    const view *state = &c->in[0];
    const int64_t *seed = state->data, *step = seed + state->strides[0];
    const rng r = { .seed = (uint64_t)*seed, .step = (uint32_t)*step, .node = (uint32_t)a->node };
    const int64_t columns = random_columns(c), quads = i64_ceil_div(columns, QUAD);
    float *y = c->out[0].data, some[QUAD];

    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / quads, column = i % quads * QUAD;

        quad_of(some, &r, (uint32_t)row, (uint32_t)(i % quads));
        for (int64_t j = 0; j < i64_min(QUAD, columns - column); j++)
            y[row * columns + column + j] = some[j];
    }
}

static double random_flops(const op_call *c)
{
    return 100.0 * (double)random_count(c);
}

static const op_sample random_samples[] = {
    { .in = { RNG() }, .attrs = &(const random_attrs){ 12345, { 2, { 40, 33 } } } },
    { .in = { RNG() }, .attrs = &(const random_attrs){ 4294967295, { 3, { 2, 3, 7 } } } },
    { .in = { RNG() }, .attrs = &(const random_attrs){ 1, { 1, { 10001 } } } },
    { .in = { RNG() }, .attrs = &(const random_attrs){ 1, { 0, { 0 } } } },
    { .in = { RNG() }, .attrs = &(const random_attrs){ 1, { 2, { 3, 0 } } } },
    { .in = { INDEX(9, 3) }, .attrs = &(const random_attrs){ 1, { 1, { 3 } } }, .refused = HEED_ERR_SHAPE },
    SAMPLE_END,
};

#define RANDOM(word, torch_)                                                                                 \
    static void random_##word##_run(const op_call *c, int64_t begin, int64_t end)                            \
    {                                                                                                        \
        random_fill(c, begin, end, random_##word##_quad);                                                    \
    }                                                                                                        \
    static const op_kernel random_##word##_cpu[] = {                                                         \
        { .name = "philox", .chunk = 1024, .count = random_count, .run = random_##word##_run },              \
        KERNEL_END,                                                                                          \
    };                                                                                                       \
    heed_value heed_random_##word(heed_builder *b, const char *name, int rank, const int64_t *dims)          \
    {                                                                                                        \
        return random_node(b, &heed__op_random_##word, name, rank, dims);                                    \
    }                                                                                                        \
    const op_def heed__op_random_##word = {                                                                  \
        .name = "random_" #word, .version = 1, .in = random_in, .out = random_out,                           \
        .flags = OP_RANDOM | OP_NO_GRAD, .attrs_size = sizeof(random_attrs), .fields = random_fields,        \
        .infer = random_infer, .cpu = random_##word##_cpu, .flops = random_flops, .torch = torch_,           \
        .samples = random_samples,                                                                           \
    };

static heed_value random_node(heed_builder *b, const op_def *op, const char *name, int rank,
                              const int64_t *dims)
{
    random_attrs a = { heed__random_node(b, name), { .n = rank } };
    heed_value state = heed_rng(b);

    for (int i = 0; i < rank && i < HEED_MAX_RANK; i++)
        a.dims.v[i] = dims[i];
    return heed__node(b, op, &a, &state, 1);
}

RANDOM(uniform, "torch.rand({dims})")
RANDOM(normal, "torch.randn({dims})")
