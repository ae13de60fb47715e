/* linear_attention and its gradient by running sums: items are heads, which go through their tiles in order, or where there are few
 * of them, stretches of a head. These begin with the sums of the stretches before, which are made first; the bytes are the same. */

#include "attention/kernel.h"

#define LINEAR_DENSE (KERNEL_BIT(AT_LENGTHS) | KERNEL_BIT(AT_Q_LENGTHS) | KERNEL_BIT(AT_OFFSET))

static const char *linear_refuses(const op_call *c)
{
    if (!heed__all_f32(c))
        return "a dtype other than f32";
    return heed__attention_ops(c->isa) ? NULL : "this instruction level";
}

/* Two products a query and two a key, and those of one tile beside each. */
double heed__linear_attention_flops(const op_call *c)
{
    const double d = (double)kernel_size(c, AT_Q, 3), dv = (double)kernel_size(c, AT_V, 3) + 1,
                 heads = (double)(kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1));

    return 2 * heads *
           ((double)kernel_size(c, AT_Q, 2) * (d * dv + (d + dv) * ATTENTION_TILE / 2) +
            (double)kernel_size(c, AT_K, 2) * d * dv);
}

double heed__linear_attention_grad_flops(const op_call *c)
{
    return 4 * heed__linear_attention_flops(c);
}

/* ---- how heads are cut ---- */

#define FEW_HEADS 8        /* fewer heads than this are cut ... */
#define FEW_HEADS_WORK 2e6 /* ... when one has so many operations */
#define PARTS_MOST 32      /* of a head: each adds up all stretches before it */
#define PART_ROWS 512      /* at least */

typedef struct linear_plan {
    int64_t batch, heads, key_heads, group, tq, tk;
    int64_t rows, row_parts;     /* queries of an item, items of a head */
    int64_t keys, key_parts;     /* backward: the same of keys */
    int64_t floats;              /* of the sums of a stretch */
    int64_t key_sums, query_sums; /* stretches of a head; 0: not cut */
} linear_plan;

static int64_t part_size(int64_t n)
{
    const int64_t size = i64_max(PART_ROWS, i64_ceil_div(n, PARTS_MOST));

    return i64_ceil_div(size, ATTENTION_STRETCH) * ATTENTION_STRETCH;
}

/* `owners`: heads forward, key heads backward, with so many operations in all. */
static linear_plan linear_cut(const op_call *c, int64_t owners, double flops)
{
    linear_plan p = { .batch = kernel_size(c, AT_Q, 0),
                      .heads = kernel_size(c, AT_Q, 1),
                      .key_heads = kernel_size(c, AT_K, 1),
                      .tq = kernel_size(c, AT_Q, 2),
                      .tk = kernel_size(c, AT_K, 2),
                      .row_parts = 1,
                      .key_parts = 1,
                      .floats = attention_linear_floats(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3)) };

    p.group = p.heads / p.key_heads;
    p.rows = p.tq;
    p.keys = p.tk;
    if (owners < FEW_HEADS && p.group > 0 && flops >= FEW_HEADS_WORK * (double)owners) {
        p.rows = part_size(p.tq);
        p.row_parts = i64_max(1, i64_ceil_div(p.tq, p.rows));
        p.keys = part_size(p.tk);
        p.key_parts = i64_max(1, i64_ceil_div(p.tk, p.keys));
        p.key_sums = p.tk / ATTENTION_STRETCH;
        p.query_sums = i64_ceil_div(p.tq, ATTENTION_STRETCH);
    }
    return p;
}

static bool is_cut(const linear_plan *p)
{
    return p->query_sums > 0;
}

static size_t key_sum_bytes(const linear_plan *p)
{
    return (size_t)(p->batch * p->key_heads * p->key_sums * p->floats) * sizeof(float);
}

/* The sums of a stretch of keys, an item each. `shared` begins with them. */
static void sum_keys(const op_call *c, const linear_plan *p, int64_t begin, int64_t end)
{
    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / p->key_sums, b = at / p->key_heads, kv = at % p->key_heads;
        const attention_head h = heed__kernel_head(c, b, kv * p->group, NULL);

        heed__attention_ops(c->isa)->linear_keys(&h, item % p->key_sums, (float *)c->shared + item * p->floats,
                                                 c->scratch);
    }
}

static attention_linear key_sums_of(const op_call *c, const linear_plan *p, int64_t key_head)
{
    return (attention_linear){
        .key_sums = is_cut(p) ? (float *)c->shared + key_head * p->key_sums * p->floats : NULL
    };
}

/* ---- forward ---- */

static linear_plan linear_plan_of(const op_call *c)
{
    return linear_cut(c, kernel_size(c, AT_Q, 0) * kernel_size(c, AT_Q, 1), heed__linear_attention_flops(c));
}

static int64_t linear_count(const op_call *c)
{
    const linear_plan p = linear_plan_of(c);

    return p.batch * p.heads * p.row_parts;
}

static int64_t linear_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__linear_attention_flops(c), linear_count(c));
}

static size_t linear_scratch(const op_call *c)
{
    return heed__attention_ops(c->isa)->linear_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));
}

static size_t linear_shared(const op_call *c)
{
    const linear_plan p = linear_plan_of(c);

    return key_sum_bytes(&p);
}

static int64_t linear_prepare_count(const op_call *c)
{
    const linear_plan p = linear_plan_of(c);

    return p.batch * p.key_heads * p.key_sums;
}

static void linear_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const linear_plan p = linear_plan_of(c);

    sum_keys(c, &p, begin, end);
}

static void linear_run(const op_call *c, int64_t begin, int64_t end)
{
    const linear_plan p = linear_plan_of(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / p.row_parts, b = at / p.heads, head = at % p.heads,
                      first = item % p.row_parts * p.rows;
        const attention_head h = heed__kernel_head(c, b, head, NULL);
        const attention_result to = { .out = heed__kernel_out(c, 0, at), .weights = heed__kernel_out(c, 1, at) };
        const attention_linear l = key_sums_of(c, &p, b * p.key_heads + head / p.group);

        heed__attention_ops(c->isa)->linear_forward(&h, &to, &l, first, i64_min(p.tq, first + p.rows),
                                                    c->scratch);
    }
}

const op_kernel heed__linear_attention_cpu[] = {
    { .name = "chunks",
      .layout = ROWS,
      .refuses = linear_refuses,
      .count = linear_count,
      .chunk_of = linear_chunk,
      .scratch = linear_scratch,
      .shared = linear_shared,
      .prepare_count = linear_prepare_count,
      .prepare = linear_prepare,
      .run = linear_run,
      .dense_in = LINEAR_DENSE },
    KERNEL_END,
};

/* ---- backward: key heads with all query heads that use them; dq in run, and when heads are cut, dk and dv in gather ---- */

static const char *back_refuses(const op_call *c)
{
    const char *why = linear_refuses(c);

    return why ? why : !kernel_given(c, LINEAR_DOUT) || kernel_given(c, LINEAR_DWEIGHTS) ? "dweights" : NULL;
}

static linear_plan back_plan_of(const op_call *c)
{
    return linear_cut(c, kernel_size(c, AT_K, 0) * kernel_size(c, AT_K, 1), heed__linear_attention_grad_flops(c));
}

static int64_t back_count(const op_call *c)
{
    const linear_plan p = back_plan_of(c);

    return p.batch * p.key_heads * p.row_parts;
}

static int64_t back_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__linear_attention_grad_flops(c), back_count(c));
}

/* Behind the level's own part of each area, the first holds the heads of a group and the second their upstream. */
static size_t back_bytes(const op_call *c)
{
    const size_t bytes = heed__attention_ops(c->isa)->linear_backward_bytes(kernel_size(c, AT_Q, 3),
                                                                            kernel_size(c, AT_V, 3));

    return (bytes + 63) & ~(size_t)63;
}

static size_t back_scratch(const op_call *c)
{
    const size_t each = sizeof(attention_head) > sizeof(attention_upstream) ? sizeof(attention_head)
                                                                            : sizeof(attention_upstream);

    return back_bytes(c) + (size_t)i64_max(1, back_plan_of(c).group) * each;
}

/* Sums of keys, sums of queries, then two numbers a query. */
static size_t back_shared(const op_call *c)
{
    const linear_plan p = back_plan_of(c);

    return key_sum_bytes(&p) +
           (size_t)(p.batch * p.key_heads * p.query_sums * p.floats + 2 * p.batch * p.heads * p.tq) *
               sizeof(float);
}

static attention_linear back_sums(const op_call *c, const linear_plan *p, int64_t key_head)
{
    attention_linear l = key_sums_of(c, p, key_head);
    float *queries = (float *)(void *)((char *)c->shared + key_sum_bytes(p)),
          *numbers = queries + p->batch * p->key_heads * p->query_sums * p->floats;

    if (is_cut(p))
        l.query_sums = queries + key_head * p->query_sums * p->floats;
    l.by = numbers + key_head * p->group * p->tq;
    l.slope = l.by + p->batch * p->heads * p->tq;
    return l;
}

static int64_t back_prepare_count(const op_call *c)
{
    const linear_plan p = back_plan_of(c);

    return p.batch * p.key_heads * p.key_sums;
}

static void back_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const linear_plan p = back_plan_of(c);
    op_call shared = *c; /* behind these inputs attention has others */

    shared.n_in = LINEAR_INPUTS;
    sum_keys(&shared, &p, begin, end);
}

/* The heads of key head `at` in scratch. */
static void back_heads(const op_call *c, const linear_plan *p, int64_t at, attention_head *h,
                       attention_upstream *u)
{
    const int64_t b = at / p->key_heads, kv = at % p->key_heads;
    const view *dout = &c->in[LINEAR_DOUT];
    op_call shared = *c;

    shared.n_in = LINEAR_INPUTS;
    h[0] = (attention_head){ .dk = kernel_size(c, AT_K, 3),
                             .dv = kernel_size(c, AT_V, 3),
                             .mask.tk = p->tk }; /* of no query head: zeros */
    for (int64_t g = 0; g < p->group; g++) {
        const int64_t head = kv * p->group + g;

        h[g] = heed__kernel_head(&shared, b, head, NULL);
        u[g] = (attention_upstream){ .dout = kernel_at(dout, b, head),
                                     .dout_step = dout->strides[2],
                                     .dq = heed__kernel_out(c, AT_Q, b * p->heads + head) };
    }
}

static attention_head *back_head_area(const op_call *c)
{
    return (attention_head *)(void *)((char *)c->scratch[0] + back_bytes(c));
}

static attention_upstream *back_upstream_area(const op_call *c)
{
    return (attention_upstream *)(void *)((char *)c->scratch[1] + back_bytes(c));
}

/* Keys [begin, end) of key head `at`. */
static void back_keys(const op_call *c, const linear_plan *p, int64_t at, int64_t begin, int64_t end)
{
    const attention_linear l = back_sums(c, p, at);

    heed__attention_ops(c->isa)->linear_back_keys(back_head_area(c), back_upstream_area(c), p->group, &l,
                                                  heed__kernel_out(c, AT_K, at), heed__kernel_out(c, AT_V, at),
                                                  begin, end, c->scratch);
}

static void back_run(const op_call *c, int64_t begin, int64_t end)
{
    const linear_plan p = back_plan_of(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / p.row_parts, first = item % p.row_parts * p.rows;
        const attention_linear l = back_sums(c, &p, at);

        back_heads(c, &p, at, back_head_area(c), back_upstream_area(c));
        heed__attention_ops(c->isa)->linear_back_queries(back_head_area(c), back_upstream_area(c), p.group, &l,
                                                         first, i64_min(p.tq, first + p.rows), c->scratch);
        if (!is_cut(&p))
            back_keys(c, &p, at, 0, p.tk);
    }
}

static int64_t back_gather_count(const op_call *c)
{
    const linear_plan p = back_plan_of(c);

    return is_cut(&p) ? p.batch * p.key_heads * p.key_parts : 0;
}

static void back_gather(const op_call *c, int64_t begin, int64_t end)
{
    const linear_plan p = back_plan_of(c);

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = item / p.key_parts, first = item % p.key_parts * p.keys;

        back_heads(c, &p, at, back_head_area(c), back_upstream_area(c));
        back_keys(c, &p, at, first, i64_min(p.tk, first + p.keys));
    }
}

const op_kernel heed__linear_attention_grad_cpu[] = {
    { .name = "chunks",
      .layout = ROWS,
      .refuses = back_refuses,
      .count = back_count,
      .chunk_of = back_chunk,
      .scratch = back_scratch,
      .shared = back_shared,
      .prepare_count = back_prepare_count,
      .prepare = back_prepare,
      .run = back_run,
      .gather_count = back_gather_count,
      .gather = back_gather,
      .dense_in = LINEAR_DENSE },
    KERNEL_END,
};
