/* Which keys a query keeps, 64 keys of a tile as the bits of a word:
 *
 *   keep = ((window and stride and block) or globals) and causal and lengths and segments and graph and mask
 *
 * The rule stands here once for all kernels and levels: they ask for the words of some queries and a tile, and learn besides
 * whether the tile may be skipped, or needs no words at all. */
#ifndef CPU_ATTENTION_MASK_H
#define CPU_ATTENTION_MASK_H

#include <heed/base.h>

#define ATTENTION_TILE 64 /* keys; a tile begins at a multiple of it */

/* Of one query head and its key head. Pointers NULL, `stride` and `block_*` 0, `windowed` false: no such mask. */
typedef struct attention_mask {
    int64_t tq, tk;
    int64_t length, q_length; /* keys and queries that count, 0 .. tk, 0 .. tq */
    int64_t offset;           /* query i stands at position p = i + offset */
    bool causal;              /* j <= p */
    bool windowed;
    int64_t left, right; /* -left <= j - p <= right; -1: no limit */
    int64_t stride;
    const bool *block; /* [ceil(tq/block_q), ceil(tk/block_k)] of this head */
    int64_t block_q, block_k;
    const uint64_t *global_keys,
        *global_rows;                /* bit sets over keys j, and over rows i whose position is global */
    const int64_t *q_seg, *k_seg;    /* [tq], [tk] */
    const int64_t *indptr, *indices; /* CSR, checked: 0 <= indptr rising, indices rising in a row */
    const bool *keep;                /* of this head; steps 0 where one stands for all */
    int64_t keep_row, keep_key;
} attention_mask;

typedef enum attention_tile {
    ATTENTION_SKIP,  /* no query keeps a key of the tile */
    ATTENTION_WHOLE, /* every query keeps every key below `length` */
    ATTENTION_PART   /* see the words */
} attention_tile;

/* Queries [begin, end) against the tile that begins at key `first` (< length). PART: words[i - begin] says what query i keeps,
 * zero for rows from q_length on. SKIP and WHOLE leave words as they are; a tile is WHOLE only if it is so by its corners, so
 * PART may hold full words. */
attention_tile heed__attention_words(const attention_mask *m, int64_t begin, int64_t end, int64_t first,
                                     uint64_t *words);

/* The first tile from `first` on (a multiple of 64) of which queries [begin, end) may keep a key, by what can be seen without
 * looking at single keys; `length` or more when there is none. */
int64_t heed__attention_next(const attention_mask *m, int64_t begin, int64_t end, int64_t first);

/* Sets the bits of the positions in the list: keys below tk, rows i with i + offset in it. Both sets are zeroed before. */
void heed__attention_globals(uint64_t *keys, uint64_t *rows, const int64_t *globals, int64_t n, int64_t tk,
                             int64_t tq, int64_t offset);
#define ATTENTION_SET_WORDS(n) (((n) + 63) / 64)

#endif
