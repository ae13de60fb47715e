/* A KV cache: keys and values of earlier runs, so that a step costs one row and not the whole sequence.
 *
 *   states  kv_cache.<name>.length     [B]          rows that each sequence has had
 *           kv_cache.<name>.positions  [B,1,C,1]    rings only: where the row in each place stands
 *           kv_cache.<layer>.k, .v     [B,Hkv,C,D]
 *
 * Append: the row of position p lies in place p, and a query at p keeps j <= p, j < length. Keys lie where
 * they would in one pass over everything, and every op treats a row alike whatever stands beside it. So
 * steps over a cache give the bytes of the full pass.
 *
 * Ring of C = sinks + R places: the first `sinks` positions stay, all others take turns in the R places
 * behind. A query at p keeps the places whose row stands at s <= p with s > p - window or s < sinks. T rows
 * are written before the first of them looks, so nothing it may see is gone when R >= window + T - 1. A
 * place that was never written stands at 2^62, beyond every query. After a rewind to n, rows at n and
 * beyond are still there, but a query that could see one comes after the row that is written over it. Xiao
 * 2023, with the rows' true positions.
 *
 * All checks are in cache_slots, which depends on lengths only: the planner runs it first, and the appends
 * write their states in place. Where a check depends on what was appended (a logit that is not finite), rows
 * behind the lengths are written all the same: nobody reads them until the lengths move on, which they do
 * when the run ends. A ring has no such rows, since its new ones stand in the places of old ones; it is copied. */

#include "attention/attention.h"
#include "base/error.h"
#include "nn/nn.h"
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

/* ---- building ---- */

static bool kv_cache_check(heed_builder *b, const char *name, const heed_kv_cache *c)
{
    if (c->batch < 0 || c->rows < 1 || c->capacity < 1 || c->window < 0 || c->sinks < 0)
        heed__poison(b, HEED_ERR_SPEC,
                     "cache \"%.60s\": rows and capacity must be at least 1, window and sinks not negative",
                     name);
    else if (c->sinks > 0 && c->window == 0)
        heed__poison(b, HEED_ERR_SPEC, "cache \"%.60s\": sinks stay beside a window: give opts.window", name);
    else if (c->window > 0 && (c->window > c->capacity || c->sinks > c->capacity - c->window ||
                               c->rows - 1 > c->capacity - c->window - c->sinks))
        heed__poison(
            b, HEED_ERR_SPEC,
            "cache \"%.60s\": %lld places cannot hold %lld sinks, a window of %lld and %lld rows at once:"
            " capacity must be at least sinks + window + rows - 1",
            name, (long long)c->capacity, (long long)c->sinks, (long long)c->window, (long long)c->rows);
    return !heed__poisoned(b);
}

/* bool [B,1,T,C] from the new state of positions, which is given too. */
static heed_value kv_cache_keep(heed_builder *b, heed_kv_cache *c)
{
    const heed_init never = { .kind = HEED_INIT_CONSTANT, .a = 0x1p62f };
    heed_value stands =
        heed__state_under(b, KV_CACHE_ROOT, "positions", HEED_TYPE(HEED_I64, c->batch, 1, c->capacity, 1), &never);
    heed_value query = RESHAPE(b, c->positions, c->batch, 1, c->rows, 1), near;
    heed_value now = heed_put_rows(b, stands, query, c->slots);

    heed_assign(b, stands, now);
    now = c->stands = RESHAPE(b, now, c->batch, 1, 1, c->capacity);
    near = heed_lt(b, heed_add_scalar(b, query, -(double)c->window), now);
    if (c->sinks > 0)
        near = heed_or(b, near, heed_lt(b, now, heed_scalar(b, HEED_I64, (double)c->sinks)));
    return heed_and(b, heed_lt(b, now, heed_add_scalar(b, query, 1)), near);
}

heed_kv_cache heed_kv_cache_open(heed_builder *b, const char *name, int64_t batch, int64_t rows_n,
                                 int64_t capacity, const heed_kv_cache_opts *opts)
{
    heed_kv_cache c = { .batch = batch, .rows = rows_n, .capacity = capacity };
    heed_value total, last;

    if (opts) {
        c.window = opts->window;
        c.sinks = opts->sinks;
        c.new_lengths = opts->new_lengths;
    }
    if (!kv_cache_check(b, name ? name : "", &c))
        return (heed_kv_cache){ 0 };
    heed_scope_push(b, name);
    c.start = heed__state_under(b, KV_CACHE_ROOT, "length", HEED_TYPE(HEED_I64, batch), NULL);
    c.slots = heed__cache_slots(
        b, &(cache_slots_attrs){ .rows = rows_n, .capacity = capacity, .sinks = c.window ? c.sinks : -1 },
        c.start, c.new_lengths, &total);
    heed_assign(b, c.start, total);
    /* Rows that do not count stand where the last one does, so that looking up their position cannot fail. */
    last = heed_max(b, heed_add_scalar(b, total, -1), heed_scalar(b, HEED_I64, 0));
    c.positions = heed_add(b, RESHAPE(b, c.start, batch, 1), heed_iota(b, HEED_TYPE(HEED_I64, 1, rows_n), 1));
    c.positions = heed_min(b, c.positions, RESHAPE(b, last, batch, 1));
    c.lengths = total;
    if (c.window > 0) {
        c.lengths = heed_min(b, total, heed_scalar(b, HEED_I64, (double)capacity));
        c.mask = kv_cache_keep(b, &c);
    }
    heed_scope_pop(b);
    return heed__poisoned(b) ? (heed_kv_cache){ 0 } : c;
}

/* x [B,H,T,D] appended to the state of that name: [B,H,C,D]. */
static heed_value kv_cache_append_one(heed_builder *b, const heed_kv_cache *c, const char *name, heed_value x)
{
    heed_type t = heed_value_type(b, x);
    heed_value state, now;

    if (heed__poisoned(b))
        return (heed_value){ 0 };
    if (t.rank != 4 || t.dims[0] != c->batch || t.dims[2] != c->rows)
        return heed__poison(b, HEED_ERR_SHAPE,
                            "kv_cache: %s must be [%lld,H,%lld,D], as the cache was opened", name,
                            (long long)c->batch, (long long)c->rows);
    t.dims[2] = c->capacity;
    state = heed__state_under(b, KV_CACHE_ROOT, name, t, NULL);
    now = c->window ? heed_put_rows(b, state, x, c->slots) : heed__put_spare_rows(b, state, x, c->slots);
    heed_assign(b, state, now);
    return now;
}

static void kv_cache_append(heed_builder *b, const heed_kv_cache *cache, heed_value *k, heed_value *v)
{
    *k = kv_cache_append_one(b, cache, "k", *k);
    *v = kv_cache_append_one(b, cache, "v", *v);
}

void heed_kv_cache_append(heed_builder *b, const heed_kv_cache *cache, const char *name, heed_value *k,
                          heed_value *v)
{
    heed_scope_push(b, name);
    kv_cache_append(b, cache, k, v);
    heed_scope_pop(b);
}

const char *heed__by_place_of_keys(const heed_attention_spec *s)
{
    const struct {
        bool given;
        const char *name;
    } asks[] = {
        { s->position.rope.on, "position.rope" },
        { s->position.alibi || s->in.alibi_slopes.id, "position.alibi" },
        { s->position.t5.kind != HEED_T5_OFF || s->in.t5_table.id, "position.t5" },
        { s->position.xl.on || s->in.xl_r.id, "position.xl" },
        { s->in.shaw_k.id, "shaw_k" },
        { s->mask.window.on, "mask.window" },
        { s->mask.stride > 0, "mask.stride" },
        { s->mask.block[0] > 0 || s->in.block_keep.id, "mask.block" },
        { s->in.globals.id, "globals" },
        { s->in.graph_indptr.id, "graph_indptr" },
        { s->in.k_seg.id, "k_seg" },
        { s->in.prev.id, "prev" },
        { s->normaliser.kind == HEED_NORMALISER_ADAPTIVE_SPAN, "normaliser adaptive_span" },
        { s->probe.distance, "probe.distance" },
    };

    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++)
        if (asks[i].given)
            return asks[i].name;
    return NULL;
}

void heed_kv_cache_see(heed_builder *b, const heed_kv_cache *cache, heed_attention_spec *spec)
{
    const char *by_place = cache->mask.id ? heed__by_place_of_keys(spec) : NULL;

    if (heed__poisoned(b))
        return;
    if (spec->in.lengths.id || spec->in.q_lengths.id || spec->in.offset.id || spec->offset.set)
        heed__poison(b, HEED_ERR_SPEC,
                     "kv_cache: lengths, q_lengths and offset come from the cache: leave them out");
    if (by_place)
        heed__poison(b, HEED_ERR_SPEC,
                     "kv_cache: %s goes by the places of keys, and in a ring they lie in no order", by_place);
    spec->in.lengths = cache->lengths;
    spec->in.q_lengths = cache->new_lengths;
    if (cache->mask.id) {
        spec->in.mask = spec->in.mask.id ? heed_and(b, spec->in.mask, cache->mask) : cache->mask;
        spec->mask.causal = false; /* the mask says it */
    } else {
        spec->in.offset = cache->start;
        spec->mask.causal = true;
    }
}

/* Rows turn where they are new: once each, and by their true positions. */
static void kv_cache_turn(heed_builder *b, const heed_kv_cache *cache, heed_attention_spec *spec,
                          heed_value *q, heed_value *k)
{
    const rope_attrs a = heed__rope_attrs(spec, i64_min(heed_dim(b, *q, -1), heed_dim(b, *k, -1)));

    *q = heed__rope(b, *q, cache->start, &a);
    *k = heed__rope(b, *k, cache->start, &a);
    memset(&spec->position.rope, 0, sizeof spec->position.rope);
}

/* Over a ring keys lie in no order, but where each stands is known: terms that are made of distances alone become a bias. Rows that
 * the mask leaves out count as the query's own, so that a place that was never written has a distance too. */
static void kv_cache_distances(heed_builder *b, const heed_kv_cache *c, heed_attention_spec *spec, heed_value q)
{
    heed_value p = RESHAPE(b, c->positions, c->batch, 1, c->rows, 1), distance, terms;
    heed_type t;

    distance = heed_sub(b, heed_min(b, c->stands, p), p);
    distance = RESHAPE(b, distance, c->batch, 1, c->rows * c->capacity);
    terms = heed__distance_terms(b, spec, q, distance);
    if (!terms.id)
        return;
    t = heed_value_type(b, terms);
    terms = RESHAPE(b, terms, c->batch, t.dims[1], c->rows, c->capacity);
    terms = heed__as(b, terms, heed_value_type(b, q).dtype);
    spec->in.bias = spec->in.bias.id ? heed_add(b, spec->in.bias, terms) : terms;
    spec->in.alibi_slopes = spec->in.t5_table = (heed_value){ 0 };
    spec->position.alibi = false;
    memset(&spec->position.t5, 0, sizeof spec->position.t5);
}

heed_attended heed__kv_cache_attend(heed_builder *b, const heed_kv_cache *cache, heed_value q, heed_value k,
                                    heed_value v, const heed_attention_spec *spec)
{
    heed_attention_spec s = spec ? *spec : (heed_attention_spec){ 0 };

    if (s.in.q2.id || s.in.k2.id)
        heed__poison(b, HEED_ERR_SPEC,
                     "kv_cache: k2 needs a place of its own: heed_kv_cache_append it and heed_kv_cache_see");
    if (s.position.rope.on)
        kv_cache_turn(b, cache, &s, &q, &k);
    if (cache->stands.id && !heed__poisoned(b))
        kv_cache_distances(b, cache, &s, q);
    kv_cache_append(b, cache, &k, &v);
    heed_kv_cache_see(b, cache, &s);
    return heed_attention(b, q, k, v, &s);
}

heed_attended heed_kv_cache_attend(heed_builder *b, const heed_kv_cache *cache, const char *name,
                                   heed_value q, heed_value k, heed_value v, const heed_attention_spec *spec)
{
    heed_attended a;

    heed_scope_push(b, name);
    a = heed__kv_cache_attend(b, cache, q, k, v, spec);
    heed_scope_pop(b);
    return a;
}

/* ---- between runs ---- */

static heed_tensor kv_cache_find(const heed_weights *w, const char *name, const char *what)
{
    char path[600];
    const int n = snprintf(path, sizeof path, "%s.%s.%s", KV_CACHE_ROOT, name ? name : "", what);

    return heed_weights_find(w, n > 0 && (size_t)n < sizeof path ? path : "");
}

int64_t heed_kv_cache_length(const heed_weights *w, const char *name, int64_t sequence)
{
    const heed_tensor length = kv_cache_find(w, name, "length");

    if (!length.data || length.type.dtype != HEED_I64 || sequence < 0 ||
        sequence >= heed_type_count(&length.type))
        return -1;
    return ((const int64_t *)length.data)[sequence];
}

/* Rows of a sequence that stand before `end` and are still there. */
static int64_t kv_cache_kept(const heed_tensor *positions, int64_t sequence, int64_t end)
{
    const int64_t places = positions->type.dims[2],
                  *at = (const int64_t *)positions->data + sequence * places;
    int64_t kept = 0;

    for (int64_t i = 0; i < places; i++)
        kept += at[i] < end;
    return kept;
}

static heed_status kv_cache_can_rewind(const heed_weights *w, const char *name, int64_t sequence,
                                       int64_t length, heed_error *err)
{
    const heed_tensor positions = kv_cache_find(w, name, "positions");
    const int64_t now = heed_kv_cache_length(w, name, sequence);

    if (length < 0 || length > now)
        return heed__fail_at(err, HEED_ERR_LIMIT, name,
                             "cache \"%.60s\": sequence %lld has %lld rows and cannot be rewound to %lld",
                             name, (long long)sequence, (long long)now, (long long)length);
    if (positions.data && positions.type.rank == 4 && length < now &&
        kv_cache_kept(&positions, sequence, length) < length)
        return heed__fail_at(
            err, HEED_ERR_LIMIT, name,
            "cache \"%.60s\": sequence %lld cannot be rewound to %lld: its ring has written over"
            " rows before that; rewind it to 0",
            name, (long long)sequence, (long long)length);
    return HEED_OK;
}

heed_status heed_kv_cache_rewind(heed_weights *w, const char *name, int64_t sequence, int64_t length,
                                 heed_error *err)
{
    const heed_tensor lengths = kv_cache_find(w, name, "length");
    const bool all = sequence == HEED_EVERY_SEQUENCE;
    const int64_t n = lengths.data ? heed_type_count(&lengths.type) : 0;
    const int64_t begin = all ? 0 : sequence;

    if (!lengths.data || lengths.type.dtype != HEED_I64)
        return heed__fail(
            err, HEED_ERR_USAGE,
            "there is no cache \"%.60s\" in these weights: it comes with the first plan that opens it",
            name ? name : "");
    if (begin < 0 || (!all && sequence >= n))
        return heed__fail_at(err, HEED_ERR_USAGE, name,
                             "cache \"%.60s\" has %lld sequences, there is no %lld", name, (long long)n,
                             (long long)sequence);

    const int64_t end = all ? n : sequence + 1;

    for (int64_t b = begin; b < end; b++)
        TRY(kv_cache_can_rewind(w, name, b, length, err));
    for (int64_t b = begin; b < end; b++)
        ((int64_t *)lengths.data)[b] = length;
    return HEED_OK;
}
