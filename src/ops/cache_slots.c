/* cache_slots: where the new rows of each sequence go in a cache, and how long the sequences are then.
 *
 *   start, count i64 [B] -> slot i64 [B,T], total i64 [B]
 *   total[b] = start[b] + count[b]
 *   slot[b,i] = place(start[b] + i) for i < count[b], else -1,   count 0 .. T, T without count
 *
 * In a cache of C places position p has the place p, and total > C ends the run. In a ring (sinks >= 0) the
 * first `sinks` places are kept for ever and the others taken in turn: p below sinks has the place p, any
 * other p the place sinks + (p - sinks) mod (C - sinks). A run also ends when start is negative or count is
 * not 0 .. T. The check stands in front of every append, so that appends cannot fail. */

#include "ops/ops.h"

#include <stdio.h>

#define POSITION_MOST ((int64_t)1 << 62)

enum { CACHE_START, CACHE_COUNT };
enum { CACHE_SLOT, CACHE_TOTAL };

static const op_slot cache_slots_in[] = {
    { .name = "start", .dtypes = I64_ONLY },
    { .name = "count", .dtypes = I64_ONLY, .flags = OPTIONAL },
    SLOT_END,
};
static const op_slot cache_slots_out[] = { { .name = "slot" }, { .name = "total" }, SLOT_END };

static const op_field cache_slots_fields[] = {
    FIELD_I64(cache_slots_attrs, rows),
    FIELD_I64(cache_slots_attrs, capacity),
    FIELD_I64(cache_slots_attrs, sinks),
    FIELD_END,
};

static heed_status cache_slots_infer(op_infer *t)
{
    const cache_slots_attrs *a = t->attrs;
    const heed_type *start = &t->in[CACHE_START];

    if (start->rank != 1 || (heed__given(t, CACHE_COUNT) && !heed_type_equal(&t->in[CACHE_COUNT], start)))
        return heed__refuse(t, HEED_ERR_SHAPE, "start and count must be [B]");
    if (a->rows < 0 || a->capacity < 0 || a->sinks < -1)
        return heed__refuse(t, HEED_ERR_SHAPE, "rows and capacity must not be negative");
    if (a->sinks >= 0 && a->capacity - a->sinks < i64_max(1, a->rows))
        return heed__refuse(t, HEED_ERR_SHAPE,
                            "a ring of %lld places with %lld sinks cannot take %lld rows at once",
                            (long long)a->capacity, (long long)a->sinks, (long long)a->rows);
    t->out[CACHE_SLOT] = heed_type_of(HEED_I64, 2, (const int64_t[]){ start->dims[0], a->rows });
    t->out[CACHE_TOTAL] = *start;
    return HEED_OK;
}

static int64_t cache_slots_place(const cache_slots_attrs *a, int64_t p)
{
    return a->sinks < 0 || p < a->sinks ? p : a->sinks + (p - a->sinks) % (a->capacity - a->sinks);
}

static int64_t cache_slots_count(const op_call *c)
{
    return c->in[CACHE_START].type.dims[0];
}

/* An item is a sequence. A fault is item 2 b: its count; 2 b + 1: its rows. */
static void cache_slots_run(const op_call *c, int64_t begin, int64_t end)
{
    const cache_slots_attrs *a = c->attrs;
    const int64_t most = a->sinks < 0 ? a->capacity : POSITION_MOST;
    const int64_t *start = c->in[CACHE_START].data, *count = c->n_in > 1 ? c->in[CACHE_COUNT].data : NULL;
    int64_t *slot = c->out[CACHE_SLOT].data, *total = c->out[CACHE_TOTAL].data;

    for (int64_t b = begin; b < end; b++) {
        int64_t n = count ? count[b] : a->rows, from = start[b];

        if (n < 0 || n > a->rows) {
            heed__fault(c, 2 * b, HEED_ERR_LIMIT, n);
            n = 0;
        }
        if (from < 0 || from > most - n) {
            heed__fault(c, 2 * b + 1, HEED_ERR_LIMIT, from < 0 || from > POSITION_MOST ? from : from + n);
            from = n = 0;
        }
        for (int64_t i = 0; slot && i < a->rows; i++)
            slot[b * a->rows + i] = i < n ? cache_slots_place(a, from + i) : -1;
        if (total)
            total[b] = from + n;
    }
}

static void cache_slots_fault(const void *attrs, int64_t item, double value, char *to, size_t size)
{
    const cache_slots_attrs *a = attrs;
    const long long sequence = (long long)(item / 2);

    if (item % 2 == 0)
        (void)snprintf(to, size, "sequence %lld is to append %.0f rows; at most %lld are given to it", sequence,
                       value, (long long)a->rows);
    else if (value < 0 || a->sinks >= 0 || value > (double)POSITION_MOST)
        (void)snprintf(to, size, "sequence %lld has the length %.0f: rewind the cache to what it holds",
                       sequence, value);
    else
        (void)snprintf(to, size,
                       "sequence %lld would have %.0f rows, and the cache has room for %lld: rewind it, or"
                       " make it with a larger capacity or a window",
                       sequence, value, (long long)a->capacity);
}

static const op_kernel cache_slots_cpu[] = {
    { .name = "loop", .layout = DENSE, .chunk = 256, .count = cache_slots_count, .run = cache_slots_run },
    KERNEL_END,
};

#define PLAIN(rows_, capacity_) &(const cache_slots_attrs){ rows_, capacity_, -1 }
#define RING(rows_, capacity_, sinks_) &(const cache_slots_attrs){ rows_, capacity_, sinks_ }
static const op_sample cache_slots_samples[] = {
    { .in = { LENGTHS(9, 5), LENGTHS(3, 5) }, .attrs = PLAIN(3, 12) },
    { .in = { LENGTHS(9, 5), ABSENT() }, .attrs = PLAIN(1, 10) },
    { .in = { LENGTHS(100, 4), LENGTHS(5, 4) }, .attrs = RING(5, 9, 2) },
    { .in = { LENGTHS(100, 4), ABSENT() }, .attrs = RING(2, 2, 0) },
    { .in = { LENGTHS(9, 5), LENGTHS(3, 5) }, .attrs = RING(8, 9, 2), .refused = HEED_ERR_SHAPE },
    { .in = { LENGTHS(9, 5), LENGTHS(3, 4) }, .attrs = PLAIN(3, 12), .refused = HEED_ERR_SHAPE },
    { .in = { DIMS(3), ABSENT() }, .attrs = PLAIN(1, 10), .refused = HEED_ERR_DTYPE },
    SAMPLE_END,
};

heed_value heed__cache_slots(heed_builder *b, const cache_slots_attrs *a, heed_value start, heed_value count,
                             heed_value *total)
{
    heed_value out[2];

    heed__nodes(b, &heed__op_cache_slots, a, (heed_value[]){ start, count }, count.id ? 2 : 1, out);
    *total = out[CACHE_TOTAL];
    return out[CACHE_SLOT];
}

const op_def heed__op_cache_slots = {
    .name = "cache_slots", .version = 1, .in = cache_slots_in, .out = cache_slots_out,
    .flags = OP_NO_GRAD | OP_FAULTS,
    .attrs_size = sizeof(cache_slots_attrs), .fields = cache_slots_fields, .infer = cache_slots_infer,
    .cpu = cache_slots_cpu,
    .fault_text = cache_slots_fault,
    .torch = "start[:, None] + arange({rows}), start + count",
    .samples = cache_slots_samples,
};
