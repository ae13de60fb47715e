/* The heap. A block from the allocator looks like this; `offset` bytes lie before the caller's pointer:
 *
 *   | slack for alignment | head: size, offset, extra | the caller's `size` bytes |
 *
 * What is counted is what was taken from the allocator: size + extra. Counters are atomic; there is no
 * lock. */
#include "base/heap.h"
#include "base/sizes.h"
#include "base/os/os.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_ALIGN 16 /* what an allocator promises */
#define HEAP_ALIGN_MOST 4096
#define HEAP_HUGE (4u << 20) /* from here on huge pages are asked for */

typedef struct heap_head {
    size_t size;
    uint32_t offset; /* from the allocator's block to the caller's pointer */
    uint32_t extra;  /* bytes of the allocator's block that the caller does not see */
} heap_head;

#define HEAP_HEAD 16
_Static_assert(sizeof(heap_head) <= HEAP_HEAD, "the head keeps blocks aligned");

struct heap {
    heed_allocator allocator;
    uint64_t limit; /* 0: none */
    bool huge;      /* the memory is malloc's, so advice on its pages is ours to give */
    _Atomic uint64_t bytes, peak, calls;
    _Atomic uint64_t fail_first, fail_last; /* numbers of the calls that fail; 0: none */
};

static void *heap_system_resize(void *user, void *block, size_t old_size, size_t new_size)
{
    (void)user;
    (void)old_size;
    if (new_size)
        return realloc(block, new_size); /* heed-allow: the default allocator */
    free(block);                         /* heed-allow: the default allocator */
    return NULL;
}

static heap_head *heap_head_of(void *block)
{
    return (heap_head *)(void *)((uint8_t *)block - HEAP_HEAD);
}

static size_t heap_total(const heap_head *head)
{
    return head->size + head->extra;
}

/* Counts the call; false when it is one that a test wants to fail. */
static bool heap_call(heap *h)
{
    const uint64_t call = atomic_fetch_add_explicit(&h->calls, 1, memory_order_relaxed) + 1;
    const uint64_t first = atomic_load_explicit(&h->fail_first, memory_order_relaxed);
    const uint64_t last = atomic_load_explicit(&h->fail_last, memory_order_relaxed);

    return first == 0 || call < first || call > last;
}

/* Takes `n` bytes of the limit, or nothing. */
static bool heap_take(heap *h, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&h->bytes, memory_order_relaxed);
    uint64_t next, peak;

    do {
        if (__builtin_add_overflow(now, n, &next) || (h->limit && next > h->limit))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&h->bytes, &now, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    peak = atomic_load_explicit(&h->peak, memory_order_relaxed);
    while (peak < next && !atomic_compare_exchange_weak_explicit(&h->peak, &peak, next, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
    }
    return true;
}

static void heap_give(heap *h, uint64_t n)
{
    atomic_fetch_sub_explicit(&h->bytes, n, memory_order_relaxed);
}

heap *heed__heap_new(const heed_allocator *allocator, uint64_t limit_bytes)
{
    const heed_allocator system = { heap_system_resize, NULL };
    const heed_allocator from = allocator ? *allocator : system;
    heap *h = from.resize(from.user, NULL, 0, sizeof *h);

    if (!h)
        return NULL;
    *h = (heap){ .allocator = from, .limit = limit_bytes, .huge = !allocator };
    return h;
}

void heed__heap_free(heap *h)
{
    if (h)
        h->allocator.resize(h->allocator.user, h, sizeof *h, 0);
}

static size_t heap_extra(size_t align)
{
    return HEAP_HEAD + (align > HEAP_ALIGN ? align - HEAP_ALIGN : 0);
}

uint64_t heed__heap_cost(size_t bytes, size_t align)
{
    return (uint64_t)(bytes ? bytes : 1) + heap_extra(align);
}

static void *heap_block(heap *h, size_t n, size_t size, size_t align, bool zeroed)
{
    const size_t extra = heap_extra(align);
    size_t bytes, total;
    uint8_t *base, *block;
    heap_head *head;

    if (!heap_call(h) || !heed__size_mul(&bytes, n, size))
        return NULL;
    if (!bytes)
        bytes = 1;
    if (!heed__size_add(&total, bytes, extra) || total > PTRDIFF_MAX || !heap_take(h, total))
        return NULL;
    base = h->allocator.resize(h->allocator.user, NULL, 0, total);
    if (!base) {
        heap_give(h, total);
        return NULL;
    }
    if (h->huge && total >= HEAP_HUGE)
        heed__os_advise_huge(base, total);
    block = base + HEAP_HEAD;
    block += (align - ((uintptr_t)block & (align - 1))) & (align - 1);
    head = heap_head_of(block);
    *head = (heap_head){ .size = bytes, .offset = (uint32_t)(block - base), .extra = (uint32_t)extra };
    if (zeroed)
        memset(block, 0, bytes);
    return block;
}

void *heed__alloc(heap *h, size_t n, size_t size)
{
    return heap_block(h, n, size, HEAP_ALIGN, true);
}

void *heed__alloc_raw(heap *h, size_t n, size_t size, size_t align)
{
    if (align > HEAP_ALIGN_MOST || (align & (align - 1)) != 0)
        return NULL;
    return heap_block(h, n, size, align < HEAP_ALIGN ? HEAP_ALIGN : align, false);
}

void *heed__resize(heap *h, void *block, size_t n, size_t size)
{
    heap_head *head;
    size_t bytes, old, total, old_total;
    uint8_t *base;

    if (!block)
        return heed__alloc(h, n, size);
    head = heap_head_of(block);
    old = head->size;
    old_total = heap_total(head);
    if (!heap_call(h) || !heed__size_mul(&bytes, n, size))
        return NULL;
    if (!bytes)
        bytes = 1;
    if (!heed__size_add(&total, bytes, head->extra) || total > PTRDIFF_MAX)
        return NULL;
    if (total > old_total && !heap_take(h, total - old_total))
        return NULL;
    base = h->allocator.resize(h->allocator.user, (uint8_t *)block - head->offset, old_total, total);
    if (!base) {
        if (total > old_total)
            heap_give(h, total - old_total);
        return NULL;
    }
    if (total < old_total)
        heap_give(h, old_total - total);
    block = base + HEAP_HEAD; /* blocks of heed__alloc have no slack */
    heap_head_of(block)->size = bytes;
    if (bytes > old)
        memset((uint8_t *)block + old, 0, bytes - old);
    return block;
}

void heed__release(heap *h, void *block)
{
    const heap_head *head;
    size_t total;

    if (!block)
        return;
    head = heap_head_of(block);
    total = heap_total(head);
    h->allocator.resize(h->allocator.user, (uint8_t *)block - head->offset, total, 0);
    heap_give(h, total);
}

char *heed__copy_string(heap *h, const char *text)
{
    const size_t n = text ? strlen(text) + 1 : 0;
    char *copy = text ? heed__alloc(h, n, 1) : NULL;

    if (copy)
        memcpy(copy, text, n);
    return copy;
}

uint64_t heed__heap_bytes(const heap *h)
{
    return atomic_load_explicit(&h->bytes, memory_order_relaxed);
}

uint64_t heed__heap_peak(const heap *h)
{
    return atomic_load_explicit(&h->peak, memory_order_relaxed);
}

void heed__heap_peak_reset(heap *h)
{
    atomic_store_explicit(&h->peak, heed__heap_bytes(h), memory_order_relaxed);
}

uint64_t heed__heap_calls(const heap *h)
{
    return atomic_load_explicit(&h->calls, memory_order_relaxed);
}

void heed__heap_fail_at(heap *h, uint64_t n, bool onward)
{
    const uint64_t first = n ? heed__heap_calls(h) + n : 0;

    atomic_store_explicit(&h->fail_first, 0, memory_order_relaxed);
    atomic_store_explicit(&h->fail_last, onward ? UINT64_MAX : first, memory_order_relaxed);
    atomic_store_explicit(&h->fail_first, first, memory_order_relaxed);
}
