/* Fused softmax attention of one head, f32; one table per instruction level. Pointers, sizes and steps, no
 * graph word.
 *
 * Keys come in tiles of 64 that begin at multiples of 64 from key 0, and every number of a row is a chain
 * over keys in rising order. So a row's bytes depend on its own query and on the keys it keeps: not on the
 * number of queries, on its neighbours, on what lies behind the lengths or on the thread. */
#ifndef CPU_ATTENTION_H
#define CPU_ATTENTION_H

#include <heed/base.h>

#define ATTENTION_ROWS 128 /* queries of one call of forward: packing a tile of keys is shared by so many */

/* Heads that share one key head; `group` of them. Steps are floats (mask: bytes) from one row, or one head,
 * to the next. */
typedef struct attention_head {
    const float *q, *k, *v;
    int64_t q_step, k_step, v_step, q_head;
    int64_t tq, tk, dk, dv, group;
    int64_t length, q_length; /* keys and queries that count; those beyond are never read */
    int64_t offset;           /* causal: query i keeps keys j <= i + offset */
    bool causal;
    const bool *mask; /* NULL: all are kept */
    int64_t mask_row, mask_key, mask_head;
    float scale;
    bool drops; /* dropout of the weights: kept where the word at (row + i, j) is at least `threshold` */
    uint32_t threshold, row;
    float kept; /* 1 / (1 - p) */
    uint64_t seed;
    uint32_t step, node;
} attention_head;

/* Where results go: dense, of this head; each may be NULL. */
typedef struct attention_result {
    float *out, *lse, *weights;
} attention_result;

/* What backward is given and where it goes, dense but for dout; each of dlse, dq, dk and dv may be NULL. */
typedef struct attention_upstream {
    const float *out, *lse, *dout, *dlse;
    int64_t dout_step, dout_head;
    float *dq, *dk, *dv;
} attention_upstream;

typedef struct attention_ops {
    /* Bytes of each of the four scratch areas. */
    size_t (*forward_bytes)(int64_t dk, int64_t dv);
    size_t (*backward_bytes)(int64_t dk, int64_t dv, int64_t rows); /* rows: group * tq */

    /* Queries [begin, end) of the first head of the group, at most ATTENTION_ROWS. Asking for weights
     * changes no bit of out. */
    void (*forward)(const attention_head *h, const attention_result *to, int64_t begin, int64_t end,
                    void *const scratch[4]);

    /* All heads of the group:  with p = exp(scale q k - lse) over kept keys,
     *   ds = p (dropped dout v - sum dout out + dlse),
     *   dq = scale ds k,  dk = scale ds^T q,  dv = dropped p^T dout. */
    void (*backward)(const attention_head *h, const attention_upstream *u, void *const scratch[4]);
} attention_ops;

/* The table of a level, NULL when it is not built in. */
const attention_ops *heed__attention_ops(heed_isa isa);

#endif
