/* Sequences of KV caches that go on as others: sequence b becomes what from[b] is, for all b at once, as beam
 * search and a prompt with several answers want it.
 *
 * `from` is a graph with one arrow from each b. What lies on none of its cycles hangs in trees on them: there
 * each b is written when nobody needs it any more, leaves first, in a walk that finds its way by `from` alone.
 * Then each cycle is turned by swaps. So no memory is taken, and nothing can fail once it has begun. */

#include "base/error.h"
#include "base/sizes.h"
#include "nn/nn.h"

#include <string.h>

static bool reorder_on_cycle(const int64_t *from, int64_t n, int64_t b)
{
    int64_t at = from[b];

    for (int64_t i = 0; i < n && at != b; i++)
        at = from[at];
    return at == b;
}

/* The next sequence behind `after` that becomes `of` and lies on no cycle; -1: none. */
static int64_t reorder_next(const int64_t *from, int64_t n, int64_t of, int64_t after)
{
    for (int64_t b = after + 1; b < n; b++)
        if (from[b] == of && !reorder_on_cycle(from, n, b))
            return b;
    return -1;
}

static void reorder_swap(char *x, char *y, size_t bytes)
{
    char kept[512];

    for (size_t i = 0, m; i < bytes; i += m) {
        m = bytes - i < sizeof kept ? bytes - i : sizeof kept;
        memcpy(kept, x + i, m);
        memcpy(x + i, y + i, m);
        memcpy(y + i, kept, m);
    }
}

/* A state whose first axis is that of sequences: `heads` runs of `used` bytes in `all` of each. */
typedef struct reordered {
    char *data;
    int64_t heads;
    size_t used, all;
} reordered;

static void reorder_one(const reordered *x, int64_t to, int64_t from, bool swap)
{
    for (int64_t h = 0; h < x->heads; h++) {
        char *a = x->data + (size_t)(to * x->heads + h) * x->all,
             *b = x->data + (size_t)(from * x->heads + h) * x->all;

        if (swap)
            reorder_swap(a, b, x->used);
        else
            memcpy(a, b, x->used);
    }
}

static void reorder_trees(const reordered *x, const int64_t *from, int64_t n, int64_t root)
{
    int64_t at = root, after = -1;

    for (;;) {
        const int64_t next = reorder_next(from, n, at, after);

        if (next >= 0) {
            at = next;
            after = -1;
        } else if (at == root) {
            return;
        } else {
            reorder_one(x, at, from[at], false);
            after = at;
            at = from[at];
        }
    }
}

static void reorder_cycle(const reordered *x, const int64_t *from, int64_t first)
{
    for (int64_t b = from[first]; b != first; b = from[b])
        if (b < first)
            return; /* turned when its smallest was met */
    for (int64_t b = first; from[b] != first; b = from[b])
        reorder_one(x, b, from[b], true);
}

/* A state of these n sequences; of keys and values the first `longest` places are in use at most. */
static bool reorder_state(reordered *to, heed_tensor x, const char *name, int64_t n, int64_t longest)
{
    const heed_type *t = &x.type;
    const size_t size = strlen(name), width = heed_dtype_size(t->dtype);
    const bool keys = t->rank == 4 && size > 2 && name[size - 2] == '.' && strchr("kv", name[size - 1]);

    if (strncmp(name, KV_CACHE_ROOT ".", sizeof KV_CACHE_ROOT) != 0 || t->rank < 1 || t->dims[0] != n || n == 0)
        return false;
    *to = (reordered){ x.data, 1, 0, 0 };
    to->used = to->all = (size_t)(heed_type_count(t) / n) * width;
    if (keys) {
        to->heads = t->dims[1];
        to->all = (size_t)(t->dims[2] * t->dims[3]) * width;
        to->used = (size_t)(i64_min(longest, t->dims[2]) * t->dims[3]) * width;
    }
    return true;
}

/* The most rows that one of n sequences has had in any cache of so many; -1: there is none. */
static int64_t reorder_longest(const heed_weights *w, int64_t n)
{
    int64_t most = -1;

    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name = NULL, *last;
        const heed_tensor x = heed_weights_at(w, i, &name);

        last = strrchr(name, '.');
        if (strncmp(name, KV_CACHE_ROOT ".", sizeof KV_CACHE_ROOT) != 0 || !last || strcmp(last, ".length") != 0 ||
            x.type.dtype != HEED_I64 || x.type.rank != 1 || x.type.dims[0] != n)
            continue;
        most = i64_max(most, 0);
        for (int64_t b = 0; b < n; b++)
            most = i64_max(most, ((const int64_t *)x.data)[b]);
    }
    return most;
}

heed_status heed_kv_cache_reorder(heed_weights *w, const int64_t *from, int64_t n, heed_error *err)
{
    const int64_t longest = n > 0 ? reorder_longest(w, n) : -1;

    if (longest < 0)
        return heed__fail(err, HEED_ERR_USAGE, "there is no cache of %lld sequences in these weights", (long long)n);
    for (int64_t b = 0; b < n; b++)
        if (from[b] < 0 || from[b] >= n)
            return heed__fail(err, HEED_ERR_USAGE, "sequence %lld cannot become %lld: there are %lld sequences",
                              (long long)b, (long long)from[b], (long long)n);
    for (int64_t i = 0; i < heed_weights_count(w); i++) {
        const char *name = NULL;
        const heed_tensor x = heed_weights_at(w, i, &name);
        reordered state;

        if (!reorder_state(&state, x, name, n, longest))
            continue;
        for (int64_t b = 0; b < n; b++)
            if (reorder_on_cycle(from, n, b))
                reorder_trees(&state, from, n, b);
        for (int64_t b = 0; b < n; b++)
            if (reorder_on_cycle(from, n, b))
                reorder_cycle(&state, from, b);
    }
    return HEED_OK;
}
