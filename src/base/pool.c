/* Fork and join. One word holds the state of a round:
 *
 *   state = round << 32 | OPEN | workers inside
 *
 * The caller writes the job, then publishes the next round with OPEN. A worker that sees an open round it
 * does not know enters by adding one (compare and swap, so never into a closed round), takes chunks until
 * none is left and leaves by subtracting one. The caller takes chunks too, closes the round and waits until
 * nobody is inside. So a worker that sleeps late, or is not scheduled at all, delays nobody: its chunks are
 * done by the others.
 *
 * The job is plain memory: it is written only while the round is closed and empty, read only by those inside;
 * entering acquires what publishing released, and the caller acquires what leaving released.
 *
 * Idle threads spin for a few microseconds, then sleep at a gate. Who sleeps says so first and looks
 * again; who has news publishes it first and then looks for sleepers; both in sequentially consistent
 * order, so no wake-up is lost. */
#include "base/pool.h"
#include "base/error.h"
#include "base/os/os.h"

#include <stdatomic.h>

#define POOL_OPEN ((uint64_t)1 << 31)
#define POOL_INSIDE (POOL_OPEN - 1)
#define POOL_ROUND ((uint64_t)1 << 32)
#define POOL_SPIN_SECONDS 20e-6

typedef struct pool_worker {
    pool *pool;
    os_thread thread;
    int index; /* 1 .. threads-1 */
} pool_worker;

struct pool {
    heap *heap; /* borrowed */
    int threads;
    bool spins; /* false when there are more threads than CPUs: spinning would keep others from working */
    pool_worker *workers;
    os_gate idle, done;

    pool_fn *fn; /* the job */
    void *user;
    int64_t chunks;

    uint8_t apart_1[64]; /* words that are written often live on lines of their own */
    _Atomic uint64_t state;
    uint8_t apart_2[64];
    _Atomic int64_t next; /* the chunk that is handed out next */
    uint8_t apart_3[64];
    _Atomic int sleepers; /* workers at the gate `idle` */
    _Atomic bool waiting; /* the caller is at the gate `done` */
    _Atomic bool stop;
    _Atomic bool busy; /* one caller has the workers; another one at the same time does its chunks itself */
};

static void pool_work(pool *p, int worker)
{
    pool_fn *const fn = p->fn;
    void *const user = p->user;
    const int64_t chunks = p->chunks;

    for (;;) {
        const int64_t chunk = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (chunk >= chunks)
            return;
        fn(user, worker, chunk);
    }
}

/* News for a worker that knows the rounds up to `known`: an open round, or the end. */
static bool pool_news(pool *p, uint64_t known)
{
    const uint64_t s = atomic_load(&p->state);

    return atomic_load(&p->stop) || ((s & POOL_OPEN) && s / POOL_ROUND != known);
}

static bool pool_empty(pool *p)
{
    return (atomic_load(&p->state) & POOL_INSIDE) == 0;
}

/* Spins until `ready` or the time is up. */
static bool pool_spin(pool *p, bool (*ready)(pool *p, uint64_t known), uint64_t known)
{
    double start = 0;

    for (unsigned i = 1; p->spins; i++) {
        if (ready(p, known))
            return true;
        heed__os_relax();
        if (i % 64)
            continue;
        if (i == 64)
            start = heed__os_seconds();
        else if (heed__os_seconds() - start > POOL_SPIN_SECONDS)
            break;
    }
    return ready(p, known);
}

static bool pool_left(pool *p, uint64_t known)
{
    (void)known;
    return pool_empty(p);
}

static void pool_await_round(pool *p, uint64_t known)
{
    if (pool_spin(p, pool_news, known))
        return;
    heed__os_gate_lock(&p->idle);
    atomic_fetch_add(&p->sleepers, 1);
    while (!pool_news(p, known))
        heed__os_gate_wait(&p->idle);
    atomic_fetch_sub(&p->sleepers, 1);
    heed__os_gate_unlock(&p->idle);
}

static void pool_await_left(pool *p)
{
    if (pool_spin(p, pool_left, 0))
        return;
    heed__os_gate_lock(&p->done);
    atomic_store(&p->waiting, true);
    while (!pool_empty(p))
        heed__os_gate_wait(&p->done);
    atomic_store(&p->waiting, false);
    heed__os_gate_unlock(&p->done);
}

static void pool_leave(pool *p)
{
    const uint64_t before = atomic_fetch_sub(&p->state, 1);

    if ((before & POOL_INSIDE) == 1 && atomic_load(&p->waiting)) {
        heed__os_gate_lock(&p->done);
        heed__os_gate_wake(&p->done, 1);
        heed__os_gate_unlock(&p->done);
    }
}

static void pool_main(void *user)
{
    const pool_worker *w = user;
    pool *p = w->pool;
    uint64_t known = 0; /* no round has this number: the first is 1 */

    heed__os_float_enter();
    for (;;) {
        uint64_t s;

        pool_await_round(p, known);
        if (atomic_load(&p->stop))
            return;
        s = atomic_load(&p->state);
        if (!(s & POOL_OPEN) || s / POOL_ROUND == known ||
            !atomic_compare_exchange_strong(&p->state, &s, s + 1))
            continue; /* it was closed, or others came and went: look again */
        known = s / POOL_ROUND;
        pool_work(p, w->index);
        pool_leave(p);
    }
}

heed_status heed__pool_new(pool **out, heap *h, int threads, heed_error *err)
{
    pool *p = heed__alloc(h, 1, sizeof *p);

    if (!p)
        return heed__fail_memory(err, sizeof *p);
    p->heap = h;
    p->threads = 1;
    p->spins = threads <= heed__os_cpus();
    heed__os_gate_init(&p->idle);
    heed__os_gate_init(&p->done);
    if (threads > 1) {
        p->workers = heed__alloc(h, (size_t)threads - 1, sizeof *p->workers);
        if (!p->workers) {
            heed__pool_free(p);
            return heed__fail_memory(err, ((uint64_t)threads - 1) * sizeof *p->workers);
        }
    }
    for (; p->threads < threads; p->threads++) {
        pool_worker *w = &p->workers[p->threads - 1];

        *w = (pool_worker){ .pool = p, .index = p->threads };
        if (!heed__os_thread_start(&w->thread, pool_main, w)) {
            const int started = p->threads;
            heed__pool_free(p);
            return heed__fail(err, HEED_ERR_MEMORY,
                              "only %d of %d threads could be started; ask for fewer (--threads)", started,
                              threads);
        }
    }
    *out = p;
    return HEED_OK;
}

void heed__pool_free(pool *p)
{
    if (!p)
        return;
    heed__os_gate_lock(&p->idle);
    atomic_store(&p->stop, true);
    heed__os_gate_wake(&p->idle, p->threads);
    heed__os_gate_unlock(&p->idle);
    for (int i = 1; i < p->threads; i++)
        heed__os_thread_join(&p->workers[i - 1].thread);
    heed__os_gate_release(&p->idle);
    heed__os_gate_release(&p->done);
    heed__release(p->heap, p->workers);
    heed__release(p->heap, p);
}

int heed__pool_threads(const pool *p)
{
    return p->threads;
}

void heed__pool_run(pool *p, pool_fn *fn, void *user, int64_t chunks)
{
    uint64_t round;

    if (p->threads == 1 || chunks <= 1 || atomic_exchange_explicit(&p->busy, true, memory_order_acquire)) {
        for (int64_t i = 0; i < chunks; i++)
            fn(user, 0, i);
        return;
    }
    p->fn = fn;
    p->user = user;
    p->chunks = chunks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    round = (atomic_load_explicit(&p->state, memory_order_relaxed) / POOL_ROUND + 1) & UINT32_MAX;
    atomic_store(&p->state, (round ? round : 1) * POOL_ROUND | POOL_OPEN);
    if (atomic_load(&p->sleepers) > 0) {
        heed__os_gate_lock(&p->idle);
        heed__os_gate_wake(&p->idle, chunks < p->threads ? (int)chunks - 1 : p->threads);
        heed__os_gate_unlock(&p->idle);
    }
    pool_work(p, 0);
    atomic_fetch_and(&p->state, ~POOL_OPEN);
    pool_await_left(p);
    atomic_store_explicit(&p->busy, false, memory_order_release);
}
