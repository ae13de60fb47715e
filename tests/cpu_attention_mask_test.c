/* cpu/attention_mask.h against the formula of heed/attention.h, key by key, on random masks of all kinds together. */
#include "base/sizes.h"
#include "cmocka_all.h"
#include "cpu/attention_mask.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 300, ROUNDS = 6000 };

static uint32_t drawn(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(*state >> 8) * below >> 24);
}

/* A mask with what it points to. */
typedef struct drawn_mask {
    attention_mask m;
    bool block[MOST * MOST], keep[MOST * MOST];
    uint64_t keys[ATTENTION_SET_WORDS(MOST)], rows[ATTENTION_SET_WORDS(MOST)];
    int64_t q_seg[MOST], k_seg[MOST], indptr[MOST + 1], indices[MOST * MOST], globals[4];
    int n_globals;
} drawn_mask;

/* Some of the time nothing, so that few masks stand alone. */
static bool has(uint32_t *state)
{
    return drawn(state, 5) == 0;
}

static void draw_lists(drawn_mask *d, uint32_t *state)
{
    attention_mask *m = &d->m;
    int64_t e = 0;

    if (has(state)) {
        const int64_t ids = 1 + drawn(state, 4);

        for (int64_t i = 0; i < m->tq; i++)
            d->q_seg[i] = i * ids / m->tq - (i % 17 == 0);
        for (int64_t j = 0; j < m->tk; j++)
            d->k_seg[j] = j * ids / m->tk - (j % 13 == 0);
        m->q_seg = d->q_seg;
        m->k_seg = d->k_seg;
    }
    if (has(state)) {
        const uint32_t one_of = 1 + drawn(state, 60);

        for (int64_t i = 0; i < m->tq; i++) {
            d->indptr[i] = e;
            for (int64_t j = 0; j < m->tk; j++)
                if (drawn(state, one_of) == 0)
                    d->indices[e++] = j;
        }
        d->indptr[m->tq] = e;
        m->indptr = d->indptr;
        m->indices = d->indices;
    }
    if (has(state)) {
        m->keep_key = drawn(state, 4) > 0;
        m->keep_row = drawn(state, 4) > 0 ? m->tk : 0;
        for (int64_t n = 0; n < m->tq * m->tk; n++)
            d->keep[n] = drawn(state, 3) > 0;
        m->keep = d->keep;
    }
}

static void draw_near(drawn_mask *d, uint32_t *state)
{
    attention_mask *m = &d->m;

    m->causal = has(state);
    m->windowed = has(state);
    m->left = (int64_t)drawn(state, 90) - 1;
    m->right = (int64_t)drawn(state, 90) - 1;
    if (has(state))
        m->stride = 1 + drawn(state, 150);
    if (has(state)) {
        m->block_q = 1 + drawn(state, 200);
        m->block_k = 1 + drawn(state, 200);
        for (int64_t n = 0; n < i64_ceil_div(m->tq, m->block_q) * i64_ceil_div(m->tk, m->block_k); n++)
            d->block[n] = drawn(state, 4) == 0;
        m->block = d->block;
    }
    if ((m->windowed || m->stride || m->block) && drawn(state, 2)) {
        d->n_globals = (int)drawn(state, 4);
        for (int g = 0; g < d->n_globals; g++)
            d->globals[g] = drawn(state, MOST + 50);
        heed__attention_globals(d->keys, d->rows, d->globals, d->n_globals, m->tk, m->tq, m->offset);
        m->global_keys = d->keys;
        m->global_rows = d->rows;
    }
}

static void draw(drawn_mask *d, uint32_t *state)
{
    attention_mask *m = &d->m;

    *m = (attention_mask){ .tq = 1 + drawn(state, MOST), .tk = 1 + drawn(state, MOST) };
    memset(d->keys, 0, sizeof d->keys);
    memset(d->rows, 0, sizeof d->rows);
    d->n_globals = 0;
    m->length = has(state) ? drawn(state, (uint32_t)m->tk + 1) : m->tk;
    m->q_length = has(state) ? drawn(state, (uint32_t)m->tq + 1) : m->tq;
    switch (drawn(state, 4)) {
    case 0:
        m->offset = m->tk - m->tq;
        break;
    case 1:
        m->offset = 0;
        break;
    case 2:
        m->offset = (int64_t)drawn(state, 4 * MOST) - 2 * MOST;
        break;
    default:
        m->offset = drawn(state, 8) ? (int64_t)drawn(state, 100) - 50 : has(state) ? INT64_C(1) << 40 : -(INT64_C(1) << 40);
    }
    draw_near(d, state);
    draw_lists(d, state);
}

static bool is_global(const drawn_mask *d, int64_t position)
{
    for (int g = 0; g < d->n_globals; g++)
        if (d->globals[g] == position)
            return true;
    return false;
}

static bool in_graph(const attention_mask *m, int64_t i, int64_t j)
{
    for (int64_t e = m->indptr[i]; e < m->indptr[i + 1]; e++)
        if (m->indices[e] == j)
            return true;
    return false;
}

/* The formula as it is written. */
static bool kept(const drawn_mask *d, int64_t i, int64_t j)
{
    const attention_mask *m = &d->m;
    const int64_t p = i + m->offset, far = p < j ? j - p : p - j;
    bool keep = true;

    if (m->windowed)
        keep = keep && (m->left < 0 || j - p >= -m->left) && (m->right < 0 || j - p <= m->right);
    if (m->stride)
        keep = keep && (far < m->stride || far % m->stride == 0);
    if (m->block)
        keep = keep && m->block[i / m->block_q * i64_ceil_div(m->tk, m->block_k) + j / m->block_k];
    if (m->global_keys)
        keep = keep || is_global(d, j) || is_global(d, p);
    if (m->causal)
        keep = keep && j <= p;
    keep = keep && j < m->length && i < m->q_length;
    if (m->q_seg)
        keep = keep && m->q_seg[i] == m->k_seg[j] && m->q_seg[i] >= 0;
    if (m->indptr)
        keep = keep && in_graph(m, i, j);
    if (m->keep)
        keep = keep && m->keep[i * m->keep_row + j * m->keep_key];
    return keep;
}

static void check_tile(const drawn_mask *d, int64_t begin, int64_t end, int64_t first, bool passed)
{
    const attention_mask *m = &d->m;
    uint64_t words[MOST];
    const attention_tile kind = heed__attention_words(m, begin, end, first, words);

    for (int64_t i = begin; i < end; i++) {
        const uint64_t below = ~(uint64_t)0 >> (64 - i64_min(64, m->length - first));
        const uint64_t word = kind == ATTENTION_SKIP ? 0 : kind == ATTENTION_WHOLE ? below : words[i - begin];
        uint64_t want = 0;

        for (int64_t j = first; j < i64_min(m->length, first + ATTENTION_TILE); j++)
            want |= (uint64_t)kept(d, i, j) << (j - first);
        if (word != want || (passed && want))
            fail_msg("query %lld, keys from %lld: %llx, not %llx%s", (long long)i, (long long)first,
                     (unsigned long long)word, (unsigned long long)want, passed ? "; the tile was passed over" : "");
    }
}

static void words_and_next_follow_the_formula(void **state)
{
    drawn_mask *d = calloc(1, sizeof *d);
    uint32_t seed = 3;

    (void)state;
    assert_non_null(d);
    for (int round = 0; round < ROUNDS; round++) {
        draw(d, &seed);
        const attention_mask *m = &d->m;
        const int64_t begin = drawn(&seed, (uint32_t)m->tq), end = begin + 1 + drawn(&seed, (uint32_t)(m->tq - begin));
        int64_t next = heed__attention_next(m, begin, end, 0);

        assert_true(next % ATTENTION_TILE == 0 || next >= m->length);
        for (int64_t first = 0; first < m->length; first += ATTENTION_TILE) {
            check_tile(d, begin, end, first, first < next);
            if (first == next)
                next = heed__attention_next(m, begin, end, first + ATTENTION_TILE);
        }
        assert_true(next >= m->length);
    }
    free(d);
}

/* A window of a long sequence is found at once, whatever lies before it. */
static void next_leaps_to_the_window(void **state)
{
    const int64_t t = INT64_C(1) << 40;
    const attention_mask m = { .tq = t, .tk = t, .length = t, .q_length = t, .windowed = true, .left = 255, .right = 0 };

    (void)state;
    assert_int_equal(heed__attention_next(&m, t - 128, t, 0), t - 128 - 256);
    assert_int_equal(heed__attention_next(&m, 0, 128, 128), t);
}

static void a_tile_inside_of_all_masks_is_whole(void **state)
{
    const attention_mask m = { .tq = 128, .tk = 256, .length = 256, .q_length = 128, .offset = 128, .causal = true,
                               .windowed = true, .left = 255, .right = -1 };
    uint64_t words[128];

    (void)state;
    assert_int_equal(heed__attention_words(&m, 0, 128, 0, words), ATTENTION_WHOLE);
    assert_int_equal(heed__attention_words(&m, 0, 128, 64, words), ATTENTION_WHOLE);
    assert_int_equal(heed__attention_words(&m, 0, 128, 128, words), ATTENTION_PART);
    assert_int_equal(heed__attention_words(&m, 0, 64, 192, words), ATTENTION_SKIP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_next_follow_the_formula),
        cmocka_unit_test(next_leaps_to_the_window),
        cmocka_unit_test(a_tile_inside_of_all_masks_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
