/* The heap of a context: counted, limited, and able to fail on demand.
 *
 * Every block remembers its size, so giving it back needs only the pointer. Blocks are zeroed unless the
 * name says raw. All calls may come from several threads. A call gives everything or, on failure, NULL and
 * nothing changed. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <heed/base.h>

typedef struct heap heap;

heap *heed__heap_new(const heed_allocator *allocator, uint64_t limit_bytes); /* NULL allocator: malloc */
void heed__heap_free(heap *h);

/* n * size bytes, checked, zeroed, aligned to 16. n * size == 0 gives a valid pointer of one byte. */
void *heed__alloc(heap *h, size_t n, size_t size);

/* The same, not zeroed, aligned to `align` (a power of two <= 4096): activation blocks and packed weights
 * only. */
void *heed__alloc_raw(heap *h, size_t n, size_t size, size_t align);

/* Grows or shrinks a block of heed__alloc; new bytes are zeroed. NULL leaves `block` as it was. */
void *heed__resize(heap *h, void *block, size_t n, size_t size);

/* Gives a block back; NULL is fine. */
void heed__release(heap *h, void *block);

char *heed__copy_string(heap *h, const char *text); /* NULL on failure or when text is NULL */

/* Bytes that a block of `bytes` takes from the allocator, its head and alignment included (heed__alloc:
 * align 16). All counters and the limit count these. */
uint64_t heed__heap_cost(size_t bytes, size_t align);

uint64_t heed__heap_bytes(const heap *h);
uint64_t heed__heap_peak(const heap *h);
void heed__heap_peak_reset(heap *h);
uint64_t heed__heap_calls(const heap *h); /* allocations and resizes so far, failed ones too */

/* Tests: the n-th allocation from now (1 = the next) fails; with `onward` all after it too. 0 turns it
 * off. */
void heed__heap_fail_at(heap *h, uint64_t n, bool onward);

#endif
