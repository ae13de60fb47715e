/* The pool: every chunk once, whatever the threads do; what it costs is printed. */
#include "support/cmocka.h"
#include "base/context.h"
#include "base/error.h"
#include "support/fail_each.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNKS 1000

static const int thread_counts[] = { 1, 2, 3, 7 };
#define THREAD_COUNTS (sizeof thread_counts / sizeof thread_counts[0])

typedef struct job {
    pool *p;
    int threads;
    int runs[CHUNKS]; /* times that a chunk was run: plain memory, so that a race is seen */
    _Atomic int bad_worker;
    _Atomic int started;
    _Atomic int other_threads;
} job;

static void open_pool(job *j, heap *h, int threads)
{
    heed_error err = { 0 };

    memset(j, 0, sizeof *j);
    assert_int_equal(heed__pool_new(&j->p, h, threads, &err), HEED_OK);
    assert_int_equal(heed__pool_threads(j->p), threads);
    j->threads = threads;
}

static void count_chunk(void *user, int worker, int64_t chunk)
{
    job *j = user;

    j->runs[chunk]++;
    if (worker < 0 || worker >= j->threads)
        atomic_fetch_add(&j->bad_worker, 1);
}

static void every_chunk_runs_exactly_once(void **state)
{
    static const int64_t counts[] = { 0, 1, 2, 3, 10, CHUNKS };
    heap *h = heed__heap_new(NULL, 0);

    (void)state;
    for (size_t i = 0; i < THREAD_COUNTS; i++) {
        job j;

        open_pool(&j, h, thread_counts[i]);
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
            memset(j.runs, 0, sizeof j.runs);
            heed__pool_run(j.p, count_chunk, &j, counts[k]);
            for (int64_t c = 0; c < CHUNKS; c++)
                assert_int_equal(j.runs[c], c < counts[k]);
        }
        assert_int_equal(j.bad_worker, 0);
        heed__pool_free(j.p);
    }
    heed__pool_free(NULL);
    assert_int_equal(heed__heap_bytes(h), 0);
    heed__heap_free(h);
}

static void many_short_runs_lose_nothing(void **state)
{
    heap *h = heed__heap_new(NULL, 0);

    (void)state;
    for (size_t i = 0; i < THREAD_COUNTS; i++) {
        job j;

        open_pool(&j, h, thread_counts[i]);
        for (int round = 0; round < 20000; round++) {
            heed__pool_run(j.p, count_chunk, &j, round % 9);
            if (round % 4000 == 0)
                usleep(3000); /* long enough to fall asleep */
        }
        for (int c = 0; c < 8; c++)
            assert_int_equal(j.runs[c], 20000 / 9 * (8 - c) + (20000 % 9 > c + 1 ? 20000 % 9 - c - 1 : 0));
        heed__pool_free(j.p);
    }
    heed__heap_free(h);
}

/* Returns only when chunks 0 and 1 have both begun: so two threads are at work. */
static void meet(void *user, int worker, int64_t chunk)
{
    job *j = user;

    (void)chunk;
    atomic_fetch_add(&j->started, 1);
    if (worker)
        atomic_fetch_add(&j->other_threads, 1);
    while (atomic_load(&j->started) < 2)
        heed__os_relax();
}

static void a_sleeping_pool_wakes_up(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    job j;

    (void)state;
    open_pool(&j, h, 2);
    for (int i = 0; i < 20; i++) {
        atomic_store(&j.started, 0);
        usleep(2000);
        heed__pool_run(j.p, meet, &j, 2); /* would hang if nobody came */
    }
    assert_int_equal(atomic_load(&j.other_threads), 20);
    heed__pool_free(j.p);
    heed__heap_free(h);
}

static void running_takes_nothing_from_the_heap(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    uint64_t calls;
    job j;

    (void)state;
    open_pool(&j, h, 3);
    calls = heed__heap_calls(h);
    for (int i = 0; i < 100; i++)
        heed__pool_run(j.p, count_chunk, &j, 50);
    assert_int_equal(heed__heap_calls(h), calls);
    heed__pool_free(j.p);
    heed__heap_free(h);
}

typedef struct sums {
    float partial[64];
    float x[64 * 100];
} sums;

static void sum_chunk(void *user, int worker, int64_t chunk)
{
    sums *s = user;
    float sum = 0;

    (void)worker;
    for (int i = 0; i < 100; i++)
        sum += s->x[chunk * 100 + i];
    s->partial[chunk] = sum;
}

static void results_do_not_depend_on_the_number_of_threads(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    static sums s;
    float first[64];

    (void)state;
    for (int i = 0; i < 6400; i++)
        s.x[i] = 1.0f / (float)(i + 1);
    for (size_t i = 0; i < THREAD_COUNTS; i++) {
        job j;

        open_pool(&j, h, thread_counts[i]);
        memset(s.partial, 0, sizeof s.partial);
        heed__pool_run(j.p, sum_chunk, &s, 64);
        if (i == 0)
            memcpy(first, s.partial, sizeof first);
        assert_memory_equal(first, s.partial, sizeof first);
        heed__pool_free(j.p);
    }
    heed__heap_free(h);
}

typedef struct tiny {
    job j;
    volatile float smallest;
    float doubled[2];
} tiny;

static void double_smallest(void *user, int worker, int64_t chunk)
{
    tiny *t = user;

    if (worker)
        t->doubled[1] = t->smallest * 2.0f;
    meet(&t->j, worker, chunk);
}

static void workers_keep_denormals_whatever_the_host_does(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    static tiny t;
    const uint64_t saved = heed__os_float_enter();

    (void)state;
    heed__os_float_leave(saved | 0x8040); /* x86: flush to zero, denormals are zero; elsewhere harmless */
    open_pool(&t.j, h, 2);
    heed__os_float_leave(saved);
    t.smallest = 0x1p-149f;
    heed__pool_run(t.j.p, double_smallest, &t, 2);
    assert_true(t.doubled[1] == 0x1p-148f);
    heed__pool_free(t.j.p);
    heed__heap_free(h);
}

static void the_float_control_word_is_restored(void **state)
{
    const uint64_t before = heed__os_float_enter();
    const uint64_t inside = heed__os_float_enter();

    (void)state;
    heed__os_float_leave(before);
    assert_int_equal(heed__os_float_enter() & ~(uint64_t)0x3f,
                     before & ~(uint64_t)0x3f); /* but for sticky flags */
    heed__os_float_leave(before);
    (void)inside;
}

static void two_pools_do_not_meet(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    job a, b;

    (void)state;
    open_pool(&a, h, 2);
    open_pool(&b, h, 3);
    for (int i = 0; i < 500; i++) {
        heed__pool_run(a.p, count_chunk, &a, 10);
        heed__pool_run(b.p, count_chunk, &b, 10);
    }
    assert_int_equal(a.runs[9], 500);
    assert_int_equal(b.runs[9], 500);
    heed__pool_free(a.p);
    heed__pool_free(b.p);
    heed__heap_free(h);
}

static heed_status pool_scenario(heed_context *ctx, void *user, heed_error *err)
{
    pool *p;

    (void)user;
    TRY(heed__pool_new(&p, ctx->heap, 3, err));
    heed__pool_free(p);
    return HEED_OK;
}

static void making_a_pool_survives_each_failing_allocation(void **state)
{
    const heed_scenario s = { .name = "pool", .run = pool_scenario };
    heed_fail_report report;

    (void)state;
    assert_true(heed_fail_each(&s, NULL, &report));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* shadow memory does not live under a limit on addresses */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static void threads_that_cannot_be_started_are_an_error(void **state)
{
#ifdef SANITIZED
    (void)state;
    skip();
#else
    pid_t child;
    int status = 0;

    (void)state;
    child = fork();
    if (child == 0) {
        const struct rlimit room = { (rlim_t)200 << 20, (rlim_t)200 << 20 }; /* 1000 stacks do not fit */
        heed_context *ctx = NULL;
        heed_error err = { 0 };

        setrlimit(RLIMIT_AS, &room);
        _exit(heed_context_new(&ctx, &(heed_context_opts){ .threads = 1000 }, &err) == HEED_ERR_MEMORY &&
                      strstr(err.text, "threads") && !ctx
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_times(const char *what, double *seconds, size_t n)
{
    qsort(seconds, n, sizeof *seconds, by_size);
    print_message("%s: best %.2f us, median %.2f us\n", what, seconds[0] * 1e6, seconds[n / 2] * 1e6);
}

static void nothing(void *user, int worker, int64_t chunk)
{
    (void)user;
    (void)worker;
    (void)chunk;
}

static void fork_and_join_cost_is_printed(void **state)
{
    heap *h = heed__heap_new(NULL, 0);
    double seconds[2000];
    job j;

    (void)state;
    open_pool(&j, h, 2);
    for (size_t i = 0; i < 2000; i++) {
        const double start = heed__os_seconds();
        heed__pool_run(j.p, nothing, NULL, 2);
        seconds[i] = heed__os_seconds() - start;
    }
    print_times("2 empty chunks, 2 threads", seconds, 2000);
    for (size_t i = 0; i < 2000; i++) {
        const double start = heed__os_seconds();
        atomic_store(&j.started, 0);
        heed__pool_run(j.p, meet, &j, 2);
        seconds[i] = heed__os_seconds() - start;
        assert_int_equal(atomic_load(&j.started), 2); /* timed is only what was done */
    }
    print_times("2 chunks that wait for each other, 2 threads", seconds, 2000);
    for (size_t i = 0; i < 100; i++) {
        double start;
        usleep(500);
        start = heed__os_seconds();
        atomic_store(&j.started, 0);
        heed__pool_run(j.p, meet, &j, 2);
        seconds[i] = heed__os_seconds() - start;
        assert_int_equal(atomic_load(&j.started), 2); /* timed is only what was done */
    }
    print_times("the same after a sleep", seconds, 100);
    heed__pool_free(j.p);
    heed__heap_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_runs_exactly_once),
        cmocka_unit_test(many_short_runs_lose_nothing),
        cmocka_unit_test(a_sleeping_pool_wakes_up),
        cmocka_unit_test(running_takes_nothing_from_the_heap),
        cmocka_unit_test(results_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(workers_keep_denormals_whatever_the_host_does),
        cmocka_unit_test(the_float_control_word_is_restored),
        cmocka_unit_test(two_pools_do_not_meet),
        cmocka_unit_test(making_a_pool_survives_each_failing_allocation),
        cmocka_unit_test(threads_that_cannot_be_started_are_an_error),
        cmocka_unit_test(fork_and_join_cost_is_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
