#include "cpu/attention_mask.h"
#include "base/sizes.h"

#include <string.h>

#define FULL (~(uint64_t)0)

/* Bits [begin, end) of a word, wherever the two lie. */
static uint64_t bits(int64_t begin, int64_t end)
{
    begin = i64_max(0, begin);
    end = i64_min(ATTENTION_TILE, end);
    if (begin >= end)
        return 0;
    return (FULL >> (64 - (end - begin))) << begin;
}

static bool in_set(const uint64_t *set, int64_t i)
{
    return set[i / 64] >> (i % 64) & 1;
}

/* |p - j| < n, or (p - j) divisible by n. */
static uint64_t stride_word(int64_t n, int64_t p, int64_t first)
{
    uint64_t word = bits(p - n + 1 - first, p + n - first);
    int64_t j = (p - first) % n;

    for (j = j < 0 ? j + n : j; j < ATTENTION_TILE; j += n)
        word |= (uint64_t)1 << j;
    return word;
}

static uint64_t block_word(const attention_mask *m, int64_t i, int64_t first)
{
    const int64_t across = i64_ceil_div(m->tk, m->block_k), last = i64_min(m->tk, first + ATTENTION_TILE) - 1;
    const bool *row = m->block + i / m->block_q * across;
    uint64_t word = 0;

    for (int64_t c = first / m->block_k; c <= last / m->block_k; c++)
        if (row[c])
            word |= bits(c * m->block_k - first, (c + 1) * m->block_k - first);
    return word;
}

static uint64_t segment_word(const attention_mask *m, int64_t i, int64_t first)
{
    const int64_t id = m->q_seg[i], n = i64_min(ATTENTION_TILE, m->tk - first);
    uint64_t word = 0;

    for (int64_t j = 0; id >= 0 && j < n; j++)
        word |= (uint64_t)(m->k_seg[first + j] == id) << j;
    return word;
}

/* The first place in [begin, end) of the rising list that is at least `least`. */
static int64_t lower_bound(const int64_t *list, int64_t begin, int64_t end, int64_t least)
{
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;

        if (list[middle] < least)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

static uint64_t graph_word(const attention_mask *m, int64_t i, int64_t first)
{
    const int64_t end = m->indptr[i + 1];
    uint64_t word = 0;

    for (int64_t e = lower_bound(m->indices, m->indptr[i], end, first);
         e < end && m->indices[e] < first + ATTENTION_TILE; e++)
        word |= (uint64_t)1 << (m->indices[e] - first);
    return word;
}

static uint64_t keep_word(const attention_mask *m, int64_t i, int64_t first)
{
    const bool *row = m->keep + i * m->keep_row + first * m->keep_key;
    const int64_t n = i64_min(ATTENTION_TILE, m->tk - first);
    uint64_t word = 0;

    if (m->keep_key == 0)
        return *row ? FULL : 0;
    if (m->keep_key == 1 && n == ATTENTION_TILE) { /* eight bytes 0 or 1 to eight bits by one product */
        for (int64_t j = 0; j < ATTENTION_TILE; j += 8) {
            uint64_t eight;

            memcpy(&eight, row + j, sizeof eight);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            eight = __builtin_bswap64(eight);
#endif
            word |= (eight * 0x0102040810204080u >> 56) << j;
        }
        return word;
    }
    for (int64_t j = 0; j < n; j++)
        word |= (uint64_t)row[j * m->keep_key] << j;
    return word;
}

static bool united(const attention_mask *m)
{
    return m->global_keys != NULL;
}

static uint64_t word_of(const attention_mask *m, int64_t i, int64_t first)
{
    const int64_t p = i + m->offset;
    uint64_t word = bits(0, m->length - first), near = FULL;

    if (m->causal)
        word &= bits(0, p + 1 - first);
    if (word && m->windowed)
        near = bits(m->left < 0 ? 0 : p - m->left - first,
                    m->right < 0 ? ATTENTION_TILE : p + m->right + 1 - first);
    if (word && near && m->stride)
        near &= stride_word(m->stride, p, first);
    if (word && near && m->block)
        near &= block_word(m, i, first);
    if (word && united(m))
        near |= in_set(m->global_rows, i) ? FULL : m->global_keys[first / ATTENTION_TILE];
    word &= near;
    if (word && m->q_seg)
        word &= segment_word(m, i, first);
    if (word && m->indptr)
        word &= graph_word(m, i, first);
    if (word && m->keep)
        word &= keep_word(m, i, first);
    return word;
}

/* Does a global row lie in [begin, end)? */
static bool any_global_row(const attention_mask *m, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        if (in_set(m->global_rows, i))
            return true;
    return false;
}

/* Is the tile in the future of all queries, or outside of all their windows? Seen by its corners: backward meets each tile with
 * each block of queries, and must not look at rows for most of them. */
static bool misses(const attention_mask *m, int64_t begin, int64_t end, int64_t first)
{
    const int64_t last = i64_min(m->length, first + ATTENTION_TILE) - 1, p = begin + m->offset,
                  q = end - 1 + m->offset;

    if (m->causal && first > q)
        return true;
    return m->windowed &&
           ((m->left >= 0 && last < p - m->left) || (m->right >= 0 && first > q + m->right)) &&
           (!united(m) ||
            (!m->global_keys[first / ATTENTION_TILE] && !any_global_row(m, begin, i64_min(end, m->q_length))));
}

/* Masks of which a tile may be whole by its corners: the others are not looked through for it. */
static bool by_corners(const attention_mask *m)
{
    return !m->stride && !m->block && !m->q_seg && !m->indptr && !m->keep;
}

/* Corners: the first query sees least of the future, the last least of the past. */
static bool whole(const attention_mask *m, int64_t begin, int64_t end, int64_t first)
{
    const int64_t last = i64_min(m->length, first + ATTENTION_TILE) - 1, p = begin + m->offset,
                  q = end - 1 + m->offset;

    return by_corners(m) && end <= m->q_length && (!m->causal || last <= p) &&
           (!m->windowed ||
            ((m->left < 0 || first >= q - m->left) && (m->right < 0 || last <= p + m->right)));
}

/* Words of a mask that keeps one stretch of keys a query, which moves on by one key with each query. */
static uint64_t band_words(const attention_mask *m, int64_t begin, int64_t end, int64_t first, uint64_t *words)
{
    const int64_t never = (int64_t)1 << 50, p = m->offset - first;
    const int64_t low = m->windowed && m->left >= 0 ? p - m->left : -never;
    const int64_t high = i64_min(m->causal ? p + 1 : never,
                                 m->windowed && m->right >= 0 ? p + m->right + 1 : never);
    const int64_t last = m->length - first, real = i64_min(end, m->q_length);
    uint64_t any = 0;

    for (int64_t i = begin; i < real; i++) {
        words[i - begin] = bits(low + i, i64_min(last, high + i));
        any |= words[i - begin];
    }
    for (int64_t i = i64_max(begin, real); i < end; i++)
        words[i - begin] = 0;
    return any;
}

static bool block_may(const attention_mask *m, int64_t begin, int64_t end, int64_t first)
{
    const int64_t across = i64_ceil_div(m->tk, m->block_k), last = i64_min(m->tk, first + ATTENTION_TILE) - 1;

    for (int64_t r = begin / m->block_q; r <= (end - 1) / m->block_q; r++)
        for (int64_t c = first / m->block_k; c <= last / m->block_k; c++)
            if (m->block[r * across + c])
                return true;
    return false;
}

attention_tile heed__attention_words(const attention_mask *m, int64_t begin, int64_t end, int64_t first,
                                     uint64_t *words)
{
    uint64_t any = 0;

    if (whole(m, begin, end, first))
        return ATTENTION_WHOLE;
    if (misses(m, begin, end, first))
        return ATTENTION_SKIP;
    if (by_corners(m) && !united(m))
        return band_words(m, begin, end, first, words) ? ATTENTION_PART : ATTENTION_SKIP;
    if (m->block && !united(m) && begin < end && !block_may(m, begin, end, first)) /* row by row is 64 times dearer */
        return ATTENTION_SKIP;
    for (int64_t i = begin; i < end; i++) {
        words[i - begin] = i < m->q_length ? word_of(m, i, first) : 0;
        any |= words[i - begin];
    }
    return any ? ATTENTION_PART : ATTENTION_SKIP;
}

int64_t heed__attention_next(const attention_mask *m, int64_t begin, int64_t end, int64_t first)
{
    const bool everywhere = united(m) && end > begin && any_global_row(m, begin, end);
    int64_t from = first, to = m->length; /* of the part that window, stride and block leave */

    end = i64_min(end, m->q_length);
    if (begin >= end)
        return m->length;
    if (m->causal)
        to = i64_min(to, end + m->offset);
    const int64_t limit = to;
    if (m->windowed && !everywhere) {
        if (m->left >= 0)
            from = i64_max(from, (begin + m->offset - m->left) & ~(int64_t)(ATTENTION_TILE - 1));
        if (m->right >= 0)
            to = i64_min(to, end + m->offset + m->right);
    }
    if (!united(m))
        first = from;
    for (; first < limit; first += ATTENTION_TILE) {
        if (everywhere || (united(m) && m->global_keys[first / ATTENTION_TILE]))
            return first;
        if (first >= from && first < to && (!m->block || block_may(m, begin, end, first)))
            return first;
        if (first >= to && !united(m))
            break;
    }
    return m->length;
}

void heed__attention_globals(uint64_t *keys, uint64_t *rows, const int64_t *globals, int64_t n, int64_t tk,
                             int64_t tq, int64_t offset)
{
    for (int64_t g = 0; g < n; g++) {
        const int64_t j = globals[g], i = j >= 0 && j < (int64_t)1 << 60 ? j - offset : -1; /* nothing wraps */

        if (j >= 0 && j < tk)
            keys[j / 64] |= (uint64_t)1 << (j % 64);
        if (i >= 0 && i < tq)
            rows[i / 64] |= (uint64_t)1 << (i % 64);
    }
}
