/* attention_grad in tiles. Every sum has one owner and a fixed order.
 *
 * Items are key heads (b, kv), each with all query heads that use it: one sweep over S and dP serves dK, dV and dQ. Where there are
 * few key heads, they are cut: items of two tiles of keys make dK and dV from all queries, and then items of some queries make dQ
 * from all keys, with S and dP once more (7 products in place of 5, as many threads as there are tiles). Both forms have the same
 * bytes, so a run takes the one that is sooner done by its threads.
 *
 * A bias [..,Tq,Tk] that heads or sequences share gets its gradient where it stands, so that memory is needed for the bias alone:
 * whoever owns a part of it adds up all heads and sequences that use it, in order. Where there are enough owners of whole heads, an
 * item sweeps over all that share one; else owners are items of some queries as above. Smaller sums (rel, biases along one axis,
 * temperature, sink) stand in `shared` per head, a few floats a query or key, and are added up in `finish`.
 *
 * Probes that sum over the queries of a key (received, pooled) belong to the items that make dK and dV. */

#include "attention/kernel_rows.h"

#include <string.h>

static const char *backward_refuses(const op_call *c)
{
    const attention_attrs *a = c->attrs;
    const char *why = heed__kernel_unserved(c);

    return why                            ? why
           : kernel_size(c, AT_Q, 1) == 0 ? "no heads"
           : a->rel_sums                  ? "values by relative position"
           : !kernel_given(c, AT_LSE) || !kernel_given(c, AT_OUT) ? "weights without lse and out"
           : kernel_given(c, AT_DWEIGHTS) ? "a gradient of weights"
           : !kernel_given(c, AT_DOUT)    ? "a gradient of lse alone"
                                          : NULL;
}

/* ---- how the work is cut ---- */

#define FEW_HEADS 8         /* fewer key heads than this are cut ... */
#define FEW_HEADS_WORK 50e6 /* ... when a head has so many operations */
#define OWNERS_ENOUGH 8     /* so many owners of a shared bias sweep over whole heads */
#define ROW_PARTS_MOST 64 /* of the queries of a head: each has sums of its own for rel */

typedef struct backward_plan {
    int64_t batch, heads, key_heads, group, tq, tk;
    int64_t key_parts, part_keys; /* of each key head */
    int64_t row_parts, part_rows; /* of each owner of queries */
    int64_t owners_b, owners_h;              /* of queries: (b, h), or fewer where a bias is shared */
    bool together;                           /* owners sweep over whole heads */
} backward_plan;

static backward_plan backward_cut(const op_call *c)
{
    backward_plan p = { .batch = kernel_size(c, AT_Q, 0),
                        .heads = kernel_size(c, AT_Q, 1),
                        .key_heads = kernel_size(c, AT_K, 1),
                        .tq = kernel_size(c, AT_Q, 2),
                        .tk = kernel_size(c, AT_K, 2) };
    const bool few = p.batch * p.key_heads < FEW_HEADS &&
                     heed__attention_grad_flops(c) >= FEW_HEADS_WORK * (double)(p.batch * p.key_heads);
    bool shared = false;

    p.group = p.heads / i64_max(1, p.key_heads);
    p.owners_b = p.batch;
    p.owners_h = p.heads;
    if (heed__kernel_bias_is_matrix(c)) { /* its gradient is added to where it stands */
        p.owners_b = i64_min(p.batch, kernel_size(c, AT_BIAS, 0));
        p.owners_h = i64_min(p.heads, kernel_size(c, AT_BIAS, 1));
        shared = p.owners_b < p.batch || p.owners_h < p.heads;
        p.together = shared && !few && p.owners_b * i64_min(p.owners_h, p.key_heads) >= OWNERS_ENOUGH;
    }
    p.part_keys = few ? heed__kernel_key_range(c, 2 * ATTENTION_TILE) : p.tk;
    p.key_parts = i64_max(1, i64_ceil_div(p.tk, i64_max(1, p.part_keys)));
    p.part_rows = p.tq;
    if (few || (shared && !p.together)) {
        const int64_t owners = p.owners_b * p.owners_h;

        p.part_rows = owners * i64_ceil_div(p.tq, ATTENTION_ROWS) < 16 ? ATTENTION_TILE : ATTENTION_ROWS;
        p.part_rows = i64_max(p.part_rows, i64_ceil_div(i64_ceil_div(p.tq, ROW_PARTS_MOST), ATTENTION_TILE) *
                                               ATTENTION_TILE);
        p.row_parts = i64_max(1, i64_ceil_div(p.tq, p.part_rows));
    }
    return p;
}

static bool wants(const op_call *c, int slot, int out)
{
    return kernel_given(c, slot) && c->out[out].data;
}

/* Are whole key heads, 5 products and as many rounds as it takes, sooner done than cut ones, 7 products spread evenly? */
static bool whole_is_sooner(const op_call *c, const backward_plan *p)
{
    const int64_t heads = p->batch * p->key_heads, threads = c->threads;

    return threads > 0 && 5 * threads * i64_ceil_div(heads, threads) <= 7 * heads;
}

/* Do items of key heads make what is summed over keys as well? Where that is cut by queries, only if no sum shows the cuts. */
static bool backward_sweeps(const op_call *c, const backward_plan *p)
{
    return p->row_parts == 0 || ((p->key_parts == 1 || whole_is_sooner(c, p)) && !wants(c, AT_REL, AT_DREL) &&
                                 !(heed__kernel_bias_is_matrix(c) && wants(c, AT_BIAS, AT_DBIAS)));
}

static int64_t backward_key_items(const backward_plan *p)
{
    return p->batch * p->key_heads * p->key_parts;
}

static int64_t backward_count(const op_call *c)
{
    const backward_plan p = backward_cut(c);

    return backward_key_items(&p) + p.owners_b * p.owners_h * p.row_parts;
}

static int64_t backward_chunk(const op_call *c)
{
    return heed__kernel_chunk(heed__attention_grad_flops(c), backward_count(c));
}

/* ---- sums in `shared`, behind the sets of global keys ---- */

typedef struct backward_sums {
    float *delta, *temperature, *sink; /* [B,Hq,Tq] */
    float *bias; /* [B,Hq,Tk] of one without rows, else [B,Hq,Tq]; NULL: it has both, or there is none */
    float *rel;  /* [B,Hq,row parts,Tq+Tk-1] */
    int64_t bias_size, rel_size;
} backward_sums;

static int64_t backward_take(float **to, float *base, int64_t at, int64_t n)
{
    *to = base && n ? base + at : NULL;
    return at + n;
}

/* How many floats there are; where they are, when base is not NULL. */
static int64_t backward_layout(const op_call *c, const backward_plan *p, float *base, backward_sums *s)
{
    const int64_t n = p->batch * p->heads;
    int64_t at = 0;

    s->bias_size = !kernel_given(c, AT_BIAS) || heed__kernel_bias_is_matrix(c) ? 0
                   : kernel_size(c, AT_BIAS, 3) > 1               ? p->tk
                                                                  : p->tq;
    s->rel_size = kernel_given(c, AT_REL) ? kernel_size(c, AT_REL, 2) : 0;
    at = backward_take(&s->delta, base, at, n * p->tq);
    at = backward_take(&s->temperature, base, at, kernel_given(c, AT_TEMPERATURE) ? n * p->tq : 0);
    at = backward_take(&s->sink, base, at, kernel_given(c, AT_SINK) ? n * p->tq : 0);
    at = backward_take(&s->bias, base, at, n * s->bias_size);
    return backward_take(&s->rel, base, at, n * i64_max(1, p->row_parts) * s->rel_size);
}

static size_t backward_sets(const op_call *c)
{
    return (heed__kernel_shared(c) + 63) & ~(size_t)63;
}

static size_t backward_shared(const op_call *c)
{
    const backward_plan p = backward_cut(c);
    backward_sums s;

    return backward_sets(c) + (size_t)backward_layout(c, &p, NULL, &s) * sizeof(float);
}

static backward_sums backward_sums_of(const op_call *c, const backward_plan *p)
{
    backward_sums s;

    (void)backward_layout(c, p, (float *)(void *)((char *)c->shared + backward_sets(c)), &s);
    return s;
}

/* ---- one query head ---- */

/* Sums of no rows are nowhere. */
static float *sums_at(float *x, int64_t n)
{
    return x ? x + n : NULL;
}

/* What an item may write: sums over queries, sums over keys, or both. */
enum { OVER_QUERIES = 1, OVER_KEYS = 2 };

static attention_upstream backward_upstream(const op_call *c, const backward_plan *p, const attention_head *h,
                                            int64_t b, int64_t head, int64_t row_part, int writes)
{
    const backward_sums s = backward_sums_of(c, p);
    const view *dout = &c->in[AT_DOUT];
    const int64_t tq = p->tq, at = b * p->heads + head;
    const bool bias = wants(c, AT_BIAS, AT_DBIAS);
    attention_upstream u = { .out = (const float *)c->in[AT_OUT].data + at * tq * h->dv,
                             .lse = (const float *)c->in[AT_LSE].data + at * tq,
                             .lse_rest = kernel_rest(c, at),
                             .dout = kernel_at(dout, b, head),
                             .dout_step = dout->strides[2],
                             .dlse = kernel_given(c, AT_DLSE) ? (const float *)c->in[AT_DLSE].data + at * tq
                                                              : NULL,
                             .delta = sums_at(s.delta, at * tq),
                             .dsink_rows = wants(c, AT_SINK, AT_DSINK) ? sums_at(s.sink, at * tq) : NULL };

    if (bias && s.bias_size && (kernel_size(c, AT_BIAS, 3) > 1 ? OVER_QUERIES : OVER_KEYS) & writes) {
        u.dbias = s.bias + at * s.bias_size;
        u.dbias_key = kernel_size(c, AT_BIAS, 3) > 1;
        u.dbias_row = !u.dbias_key;
    }
    if (writes & OVER_QUERIES) {
        u.received = heed__kernel_out(c, AT_GRAD_RECEIVED, at);
        u.pooled = heed__kernel_out(c, AT_GRAD_POOLED, at);
        u.pooled_q = ((const attention_attrs *)c->attrs)->pooled_q;
        u.pooled_k = ((const attention_attrs *)c->attrs)->pooled_k;
    }
    if (!(writes & OVER_KEYS))
        return u;
    u.dq = heed__kernel_out(c, AT_DQ, at);
    if (bias && !s.bias_size) {
        u.dbias_row = kernel_size(c, AT_BIAS, 3);
        u.dbias_key = 1;
        u.dbias = (float *)c->out[AT_DBIAS].data +
                  ((kernel_size(c, AT_BIAS, 0) > 1 ? b * kernel_size(c, AT_BIAS, 1) : 0) +
                   (kernel_size(c, AT_BIAS, 1) > 1 ? head : 0)) *
                      tq * p->tk;
    }
    if (wants(c, AT_REL, AT_DREL))
        u.drel = sums_at(s.rel, (at * i64_max(1, p->row_parts) + row_part) * s.rel_size);
    if (kernel_given(c, AT_ROW_REL))
        u.drow_rel = heed__kernel_out(c, AT_DROW_REL, at);
    if (wants(c, AT_TEMPERATURE, AT_DTEMPERATURE))
        u.dtemperature_rows = sums_at(s.temperature, at * tq);
    return u;
}

/* Zeros where queries [begin, end) add up, but for a bias with rows and keys, which heads may share. */
static void zero_rows(const attention_head *h, const attention_upstream *u, int64_t begin, int64_t end)
{
    const attention_mask *m = &h->mask;

    if (u->drel)
        memset(u->drel, 0, (size_t)i64_max(0, m->tq + m->tk - 1) * sizeof(float));
    if (u->drow_rel)
        memset(u->drow_rel + begin * h->row_size, 0, (size_t)((end - begin) * h->row_size) * sizeof(float));
    if (u->dtemperature_rows)
        memset(u->dtemperature_rows + begin, 0, (size_t)(end - begin) * sizeof(float));
    if (u->dbias && !u->dbias_key)
        memset(u->dbias + begin, 0, (size_t)(end - begin) * sizeof(float));
}

/* ---- running ---- */

/* Behind the level's own part of each area, the first holds the heads of a group and the second their upstream. */
static size_t backward_bytes(const op_call *c)
{
    const size_t bytes =
        heed__attention_ops(c->isa)->backward_bytes(kernel_size(c, AT_Q, 3), kernel_size(c, AT_V, 3));

    return (bytes + 63) & ~(size_t)63;
}

static size_t backward_scratch(const op_call *c)
{
    const size_t each = sizeof(attention_head) > sizeof(attention_upstream) ? sizeof(attention_head)
                                                                            : sizeof(attention_upstream);

    return backward_bytes(c) + (size_t)backward_cut(c).group * each;
}

/* Items: sets of global keys, one a sequence; then delta of DELTA_ROWS queries of a head, where no sweep makes it. */
#define DELTA_ROWS 1024

static int64_t backward_prepare_count(const op_call *c)
{
    const backward_plan p = backward_cut(c);

    return heed__kernel_prepare_count(c) +
           (p.row_parts ? p.batch * p.heads * i64_ceil_div(p.tq, DELTA_ROWS) : 0);
}

static void backward_prepare(const op_call *c, int64_t begin, int64_t end)
{
    const backward_plan p = backward_cut(c);
    const int64_t sets = heed__kernel_prepare_count(c), blocks = i64_ceil_div(p.tq, DELTA_ROWS);

    if (begin < sets)
        heed__kernel_prepare(c, begin, i64_min(end, sets));
    for (int64_t item = i64_max(begin, sets) - sets; item < end - sets && !backward_sweeps(c, &p); item++) {
        const int64_t at = item / blocks, b = at / p.heads, first = item % blocks * DELTA_ROWS;
        const attention_head h = heed__kernel_head(c, b, at % p.heads, NULL);
        const attention_upstream u = backward_upstream(c, &p, &h, b, at % p.heads, 0, 0);

        heed__attention_ops(c->isa)->deltas(&h, &u, first, i64_min(p.tq, first + DELTA_ROWS));
    }
}

/* Key part `part` of key head kv of sequence b. `fresh`: the first of those that share a bias. */
static void run_keys(const op_call *c, const backward_plan *p, int64_t b, int64_t kv, int64_t part,
                     bool fresh)
{
    const attention_ops *ops = heed__attention_ops(c->isa);
    const size_t own = backward_bytes(c);
    const bool sweeps = backward_sweeps(c, p);
    attention_head *h = (attention_head *)(void *)((char *)c->scratch[0] + own);
    attention_upstream *u = (attention_upstream *)(void *)((char *)c->scratch[1] + own);
    const bool whole = p->key_parts == 1 || sweeps; /* else one part of the keys */
    const int64_t first = whole ? 0 : part * p->part_keys,
                  end = whole ? p->tk : i64_min(p->tk, first + p->part_keys);
    float *dk = heed__kernel_out(c, AT_DK, b * p->key_heads + kv),
          *dv = heed__kernel_out(c, AT_DV, b * p->key_heads + kv);
    bool wanted = dk || dv;

    for (int64_t g = 0; g < p->group; g++) {
        const int64_t head = kv * p->group + g;

        h[g] = heed__kernel_head(c, b, head, heed__kernel_sets(c, b));
        u[g] = backward_upstream(c, p, &h[g], b, head, 0, OVER_QUERIES | (sweeps ? OVER_KEYS : 0));
        if (u[g].dbias && u[g].dbias_key && !u[g].dbias_row)
            memset(u[g].dbias + first, 0, (size_t)(end - first) * sizeof(float));
        else if (u[g].dbias && u[g].dbias_key && fresh && (g == 0 || p->owners_h > 1))
            memset(u[g].dbias, 0, (size_t)(p->tq * p->tk) * sizeof(float));
        if (sweeps) {
            ops->deltas(&h[g], &u[g], 0, p->tq);
            zero_rows(&h[g], &u[g], 0, p->tq);
        }
        wanted |= u[g].dq || u[g].dbias || u[g].drel || u[g].drow_rel || u[g].dtemperature_rows ||
                  u[g].received || u[g].pooled;
    }
    if (wanted)
        ops->backward(h, u, p->group, &(attention_part){ 0, p->tq, first, end }, dk, dv, c->scratch);
}

/* Item (b, kv) of key heads: itself, or as the owner of a shared bias all that share it, and otherwise nothing. */
static void run_key_head(const op_call *c, const backward_plan *p, int64_t b, int64_t kv, int64_t part)
{
    const bool together = p->together && wants(c, AT_BIAS, AT_DBIAS);
    const int64_t step_b = together ? p->owners_b : p->batch,
                  step_kv = together && p->owners_h == 1 ? 1 : p->key_heads;

    if (b >= step_b || kv >= step_kv || (part > 0 && backward_sweeps(c, p)))
        return;
    for (int64_t at = b; at < p->batch; at += step_b)
        for (int64_t head = kv; head < p->key_heads; head += step_kv)
            run_keys(c, p, at, head, part, at == b && head == kv);
}

/* Queries of part `part` of owner (b, h) of rows of a bias: all sequences and heads that use them, in order. */
static void run_queries(const op_call *c, const backward_plan *p, int64_t owner_b, int64_t owner_h,
                        int64_t part)
{
    const int64_t first = part * p->part_rows, end = i64_min(p->tq, first + p->part_rows);
    const int64_t step_b = p->owners_b, step_h = p->owners_h;
    bool fresh = true;

    for (int64_t b = owner_b; b < p->batch; b += step_b)
        for (int64_t head = owner_h; head < p->heads; head += step_h) {
            const attention_head h = heed__kernel_head(c, b, head, heed__kernel_sets(c, b));
            const attention_upstream u = backward_upstream(c, p, &h, b, head, part, OVER_KEYS);

            zero_rows(&h, &u, first, end);
            if (fresh && u.dbias && u.dbias_key)
                memset(u.dbias + first * p->tk, 0, (size_t)((end - first) * p->tk) * sizeof(float));
            fresh = false;
            if (u.dq || u.dbias || u.drel || u.drow_rel || u.dtemperature_rows)
                heed__attention_ops(c->isa)->backward(&h, &u, 1, &(attention_part){ first, end, 0, p->tk },
                                                      NULL, NULL, c->scratch);
        }
}

static void backward_run(const op_call *c, int64_t begin, int64_t end)
{
    const backward_plan p = backward_cut(c);
    const int64_t keys = backward_key_items(&p);
    const bool in_turn = p.owners_b < p.batch; /* sequences share a bias: it is fetched once for all of them */

    for (int64_t item = begin; item < end; item++) {
        const int64_t at = (item < keys ? item : item - keys) / (item < keys ? p.key_parts : p.row_parts);

        if (item < keys && in_turn)
            run_key_head(c, &p, at % p.batch, at / p.batch, item % p.key_parts);
        else if (item < keys)
            run_key_head(c, &p, at / p.key_heads, at % p.key_heads, item % p.key_parts);
        else if (!backward_sweeps(c, &p))
            run_queries(c, &p, at / p.owners_h, at % p.owners_h, (item - keys) % p.row_parts);
    }
}

/* ---- adding up ---- */

/* to[b or 0][h or 0][x] = sum over b, h and parts in order of from[b][h][part][x]; `folds`: over x too. */
typedef struct backward_total {
    float *to;
    const float *from;
    int64_t to_b, to_h; /* 1 or all */
    int64_t parts, size;
    bool folds;
} backward_total;

static void total(const backward_plan *p, const backward_total *t)
{
    enum { BLOCK = 256 };
    const int64_t n = t->folds ? 1 : t->size;

    for (int64_t out = 0; out < t->to_b * t->to_h; out++)
        for (int64_t first = 0; first < n; first += BLOCK) {
            const int64_t width = i64_min(BLOCK, n - first);
            double sum[BLOCK] = { 0 };

            for (int64_t head = 0; head < p->batch * p->heads; head++) {
                const float *x = t->from + head * t->parts * t->size + first;

                if ((t->to_b > 1 && head / p->heads != out / t->to_h) ||
                    (t->to_h > 1 && head % p->heads != out % t->to_h))
                    continue;
                for (int64_t part = 0; part < t->parts; part++, x += t->size) {
                    for (int64_t i = 0; i < width && !t->folds; i++)
                        sum[i] += (double)x[i];
                    for (int64_t i = 0; i < t->size && t->folds; i++)
                        sum[0] += (double)x[i];
                }
            }
            for (int64_t i = 0; i < width; i++)
                t->to[out * n + first + i] = (float)sum[i];
        }
}

static void backward_finish(const op_call *c)
{
    const backward_plan p = backward_cut(c);
    const backward_sums s = backward_sums_of(c, &p);
    const heed_type *bias = &c->out[AT_DBIAS].type, *rel = &c->out[AT_DREL].type;

    if (wants(c, AT_BIAS, AT_DBIAS) && !heed__kernel_bias_is_matrix(c))
        total(&p, &(backward_total){ .to = c->out[AT_DBIAS].data,
                                     .from = s.bias,
                                     .to_b = bias->dims[0],
                                     .to_h = bias->dims[1],
                                     .parts = 1,
                                     .size = s.bias_size,
                                     .folds = bias->dims[2] == 1 && bias->dims[3] == 1 });
    else if (wants(c, AT_BIAS, AT_DBIAS) && p.batch * p.heads == 0)
        memset(c->out[AT_DBIAS].data, 0, (size_t)heed_type_count(bias) * sizeof(float));
    if (wants(c, AT_REL, AT_DREL))
        total(&p, &(backward_total){ .to = c->out[AT_DREL].data,
                                     .from = s.rel,
                                     .to_b = rel->dims[0],
                                     .to_h = rel->dims[1],
                                     .parts = i64_max(1, p.row_parts),
                                     .size = s.rel_size });
    if (wants(c, AT_TEMPERATURE, AT_DTEMPERATURE))
        total(&p, &(backward_total){ .to = c->out[AT_DTEMPERATURE].data,
                                     .from = s.temperature,
                                     .to_b = 1,
                                     .to_h = c->out[AT_DTEMPERATURE].type.dims[0],
                                     .parts = 1,
                                     .size = p.tq,
                                     .folds = true });
    if (wants(c, AT_SINK, AT_DSINK))
        total(&p, &(backward_total){ .to = c->out[AT_DSINK].data,
                                     .from = s.sink,
                                     .to_b = 1,
                                     .to_h = c->out[AT_DSINK].type.dims[0],
                                     .parts = 1,
                                     .size = p.tq,
                                     .folds = true });
}

const op_kernel heed__attention_grad_cpu[] = {
    { .name = "tiles",
      .layout = ROWS,
      .refuses = backward_refuses,
      .count = backward_count,
      .chunk_of = backward_chunk,
      .scratch = backward_scratch,
      .shared = backward_shared,
      .prepare_count = backward_prepare_count,
      .prepare = backward_prepare,
      .run = backward_run,
      .finish = backward_finish,
      .dense_in = KERNEL_DENSE | KERNEL_BIT(AT_OUT) | KERNEL_BIT(AT_LSE) | KERNEL_BIT(AT_LSE_REST) |
                  KERNEL_BIT(AT_DLSE) },
    ROWS_BACKWARD,
    KERNEL_END,
};
