/* Fused attention of one query head, f32; one table per instruction level. Pointers, sizes and steps, no graph word.
 *
 *   z_ij = cap(scale raw(q_i, k_j) + row_rel[i, clip(j - p + row_zero)] + rel[j - i + tq - 1] + bias_ij) / temperature
 *   w    = normalise(z over kept keys),   out_i = sum_j drop(w)_ij v_j
 *
 * Keys come in tiles of 64 that begin at multiples of 64 from key 0, and every number of a row is a chain over keys in rising
 * order. So a row's bytes depend on its own query and on the keys it keeps: not on the number of queries, on its neighbours, on
 * what lies behind the lengths or on the thread. */
#ifndef CPU_ATTENTION_H
#define CPU_ATTENTION_H

#include "cpu/attention_mask.h"

#define ATTENTION_ROWS 128 /* queries of one call of forward: packing a tile of keys is shared by so many */

/* Queries of one call of the rows kernels, which keep so many rows of weights at once. No bit depends on it. */
#define ATTENTION_BLOCK 32
static inline int64_t attention_block(int64_t tk)
{
    return tk > 8192 ? ATTENTION_BLOCK / 2 : ATTENTION_BLOCK;
}

enum attention_head_score { HEAD_DOT, HEAD_ADDITIVE, HEAD_SQ_DISTANCE, HEAD_DISTANCE };
enum attention_head_normaliser {
    HEAD_SOFTMAX,
    HEAD_SIGMOID,
    HEAD_TOPK,   /* `k` largest; hard: k = 1, without gradient to z */
    HEAD_ENTMAX, /* `alpha`; sparsemax is 2 */
    HEAD_SPAN
};

/* One query head with its key head. Steps are floats (bool masks: bytes) from one row to the next; the last axis is dense. */
typedef struct attention_head {
    const float *q, *k, *v;
    int64_t q_step, k_step, v_step;
    int64_t dk, dv;
    attention_mask mask; /* tq, tk, lengths and offset are here */

    enum attention_head_score score;
    const float *add_v;                /* additive: dk numbers */
    float scale, softcap, temperature; /* softcap 0: none */
    const float *bias;                 /* NULL: none; bias[i bias_row + j bias_key], bias_key 0 or 1 */
    int64_t bias_row, bias_key;
    const float *rel;     /* NULL: none; tq + tk - 1 numbers */
    const float *row_rel; /* NULL: none; [tq, row_size] */
    int64_t row_size, row_zero;

    enum attention_head_normaliser normaliser;
    bool has_sink;
    float sink; /* softmax: e^sink is added to the denominator */
    float sigmoid_bias, alpha, span, ramp;
    int64_t k_most; /* topk */
    bool hard;

    bool
        drops; /* dropout of the weights: kept where the word at (row + i, j) is at least `threshold`, or keep is true */
    uint32_t threshold, row;
    float kept; /* 1 / (1 - p) */
    uint64_t seed;
    uint32_t step, node;
    const bool *dropout_keep; /* NULL: drawn; [tq, tk] */
} attention_head;

#define ATTENTION_COLLECTED(k) (2 * (k) + 2 * ATTENTION_TILE)

/* Where results go: dense, of this head; each may be NULL. */
typedef struct attention_result {
    float *out, *lse; /* [tq, dv], [tq] */
    float *lse_rest;  /* [tq]: what rounding took from lse, 0 where that is -inf */
    float *weights;   /* [tq, tk] */
    float *rel_sums;  /* [tq, row_size]; the rows kernels */
    float *entropy, *distance;
    float *topk_values; /* [tq, topk] */
    int64_t *topk_indices, topk;
    float *collected; /* topk > 0: to work with, ATTENTION_ROWS * ATTENTION_COLLECTED(topk) each; tiles only */
    int32_t *collected_keys;
    /* rows[n * tk + j] = w of query row_list[n], for those inside of the block; order and repeats as listed. Without a list
     * query n is row n. */
    float *rows;
    const int64_t *row_list;
    int64_t n_rows;
} attention_result;

/* What backward is given of one query head, and where its own results go: dense but for dout. Each of dlse and the results may
 * be NULL, and sums are added to what stands there. Those of numbers shared by heads and sequences are this head's alone: the
 * caller adds them up in a fixed order. */
typedef struct attention_upstream {
    const float *out, *lse, *dout, *dlse; /* the rows kernels need neither out nor lse, and dout may be NULL there */
    const float *lse_rest;                /* NULL: zeros */
    int64_t dout_step;
    const float *dweights, *drel_sums; /* [tq, tk] in rows of dweights_step, [tq, row_size]; NULL: none. Rows kernels only */
    int64_t dweights_step;
    float *delta; /* tiles: [tq]: sum_d dout out, which `deltas` writes and `backward` reads */
    float *dq;    /* written */
    float *dbias; /* dbias[i dbias_row + j dbias_key] += ds; zeroed or holding earlier sums; dbias_key 0 or 1 */
    int64_t dbias_row, dbias_key;
    float *drel, *drow_rel;   /* tq + tk - 1; [tq, row_size]: zeroed before */
    float *dtemperature_rows; /* tiles: [tq]: of each query; zeroed before */
    float *dsink_rows;        /* tiles: [tq]: e^((sink - lse) - lse_rest) (dlse - delta), written by `deltas` */
    float *dadd_v;          /* dk; zeroed before */
    float *received, *pooled; /* tiles: probes of all queries, as attention_second; written */
    int64_t pooled_q, pooled_k;
    float *dtemperature, *dsink, *dsigmoid_bias, *dalpha, *dspan; /* one number each, zeroed before */
} attention_upstream;

/* A head of the second pass: its saved log-sums, and where its sums go; dense. Each of the sums may be NULL. */
typedef struct attention_second {
    const float *lse, *lse_rest; /* [tq]; lse_rest NULL: zeros */
    float *received;             /* [tk] */
    float *pooled;               /* [ceil(tq/pooled_q), ceil(tk/pooled_k)] */
    int64_t pooled_q, pooled_k;
} attention_second;

/* The part of the scores that one call of backward works on; both begin at multiples of ATTENTION_TILE. */
typedef struct attention_part {
    int64_t query, query_end, key, key_end;
} attention_part;

/* Where what is summed over queries goes: [tk,dk], [tk,dv] of a key head, or NULL. */
typedef struct attention_keys {
    float *dk, *dv;
    bool adds; /* to what stands there */
} attention_keys;

/* Sums over the weights of all queries, added to: each may be NULL. */
typedef struct attention_sums {
    float *received; /* [tk]: sum over i of w_ij */
    float *pooled;   /* [ceil(tq/pooled_q), ceil(tk/pooled_k)]: sums of w in blocks */
    int64_t pooled_q, pooled_k;
    float *mean; /* [tq, tk]: w_ij */
} attention_sums;

/* Linear attention adds up its sums over keys, and over queries, stretch by stretch, so that a head may be cut behind any of them. */
#define ATTENTION_STRETCH 256
static inline int64_t attention_linear_floats(int64_t dk, int64_t dv) /* of a stretch */
{
    return dk * ((dv + 16) / 16 * 16);
}

/* What the passes of linear attention over a key head leave for each other. */
typedef struct attention_linear {
    float *key_sums;   /* NULL, or of each whole stretch of keys: sum phi(k) [v, 1]^T, by `linear_keys` */
    float *query_sums; /* NULL, or of each stretch of queries of all heads, by `linear_back_queries` */
    float *by, *slope; /* backward: [group, tq]: 1 / D and -dout.out / D, by `linear_back_queries` */
} attention_linear;

typedef struct attention_ops {
    /* Bytes of each of the four scratch areas. */
    size_t (*forward_bytes)(int64_t dk, int64_t dv);
    size_t (*backward_bytes)(int64_t dk, int64_t dv);

    /* Queries [begin, end), at most ATTENTION_ROWS. Asking for more results changes no bit of the others. */
    void (*forward)(const attention_head *h, const attention_result *to, int64_t begin, int64_t end,
                    void *const scratch[4]);

    /* Weights w = e^((z - lse) - lse_rest) once more, of all query heads of a sequence and keys [first, last), which this call owns: first is a
     * multiple of ATTENTION_TILE and of pooled_k, last too unless it is tk. mean [tq,tk]: sum of w over heads by their number, or
     * NULL. */
    size_t (*probe_bytes)(int64_t dk, int64_t heads, int64_t keys, int64_t pooled_q);
    void (*probe)(const attention_head *heads, const attention_second *to, int64_t n_heads, float *mean,
                  int64_t first, int64_t last, void *const scratch[4]);

    /* u->delta and u->dsink_rows of queries [begin, end). */
    void (*deltas)(const attention_head *h, const attention_upstream *u, int64_t begin, int64_t end);

    /* The query heads that share one key head, `group` of them, heads[g] with upstream[g]; dk [tk,dk] and dv [tk,dv] of the key
     * head, or NULL.  With p = e^((z - lse) - lse_rest) over kept keys,
     *   dz = p (dropped dout v - sum dout out + dlse),  ds = dz (1 - (z temperature / softcap)^2) / temperature,
     *   dq = scale ds k,  dk = scale ds^T q,  dv = dropped p^T dout,  dtemperature = -sum dz z / temperature.
     * What is summed over queries (dk, dv, dbias without rows, received, pooled) is wanted of a part with all queries only, what is
     * summed over keys (the rest of upstream) of one with all keys: of dq, dk and dv the rows of the part are written. A row of dq
     * is a sum over tiles of keys in rising order, a row of dk or dv one over heads and queries, a number of drel one over rising
     * queries: so the way in which a head is cut into parts changes no bit. received and pooled have the bytes of `probe`; with
     * pooled the keys of a part begin and end as there. */
    void (*backward)(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                     const attention_part *part, float *dk, float *dv, void *const scratch[4]);

    /* The same for every cell, with whole rows of weights: at most attention_block(tk) queries at a time. */
    size_t (*rows_bytes)(int64_t dk, int64_t dv, int64_t tk);
    size_t (*rows_backward_bytes)(int64_t dk, int64_t dv, int64_t tk);
    void (*rows_forward)(const attention_head *h, const attention_result *to, int64_t begin, int64_t end,
                         void *const scratch[4]);
    void (*rows_sums)(const attention_head *h, const attention_sums *to, int64_t begin, int64_t end,
                      void *const scratch[4]);
    /* Queries [begin, end) of all heads: dk and dv are sums over these alone. */
    void (*rows_backward)(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                          int64_t begin, int64_t end, const attention_keys *to, void *const scratch[4]);

    /* Linear attention: w_ij = phi(q_i).phi(k_j) / sum over kept keys, phi(x) = elu(x) + 1, a denominator of 0 gives 0. Of the
     * head only q, k, v, lengths, offset and causality count. Cost and memory grow with tq + tk, but for weights. */
    size_t (*linear_bytes)(int64_t dk, int64_t dv);
    size_t (*linear_backward_bytes)(int64_t dk, int64_t dv);

    /* A stretch of keys; queries [begin, end), which begin with a stretch; dq of such queries, then dk and dv of keys [begin, end).
     * A part of a head needs the sums of stretches, the whole of it none; both have the same bytes. */
    void (*linear_keys)(const attention_head *h, int64_t stretch, float *to, void *const scratch[4]);
    void (*linear_forward)(const attention_head *h, const attention_result *to, const attention_linear *l,
                           int64_t begin, int64_t end, void *const scratch[4]);
    void (*linear_back_queries)(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                                const attention_linear *l, int64_t begin, int64_t end, void *const scratch[4]);
    void (*linear_back_keys)(const attention_head *heads, const attention_upstream *upstream, int64_t group,
                             const attention_linear *l, float *dk, float *dv, int64_t begin, int64_t end,
                             void *const scratch[4]);
} attention_ops;

/* The table of a level, NULL when it is not built in. */
const attention_ops *heed__attention_ops(heed_isa isa);

#endif
