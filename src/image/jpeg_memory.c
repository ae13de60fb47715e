/* See the header. Everything is taken from one list for each pool; coefficients of a progressive picture
 * are all in memory, at 2 bytes a sample. Rows begin at multiples of 32 bytes and are padded to 64, since
 * libjpeg-turbo's vector code loads and stores whole registers. */
#ifdef HEED_HAVE_JPEG

#include "image/jpeg_memory.h"
#include "base/sizes.h"

#include <string.h>

#include <jerror.h>

#define JPEG_MEMORY_ALIGN 32
#define JPEG_MEMORY_ROW 64

struct jpeg_memory_block {
    struct jpeg_memory_block *next;
};

/* libjpeg's name for coefficients of one component; it never looks inside. */
struct jvirt_barray_control {
    struct jvirt_barray_control *next;
    JBLOCKARRAY rows; /* NULL until realised */
    JDIMENSION per_row, n_rows;
};

static jpeg_memory *jpeg_memory_of(j_common_ptr c)
{
    return (jpeg_memory *)c->mem;
}

static void *jpeg_memory_alloc(j_common_ptr c, int pool, size_t size)
{
    jpeg_memory *m = jpeg_memory_of(c);
    struct jpeg_memory_block *b = NULL;
    size_t total;

    if (pool < 0 || pool >= JPOOL_NUMPOOLS)
        ERREXIT1(c, JERR_BAD_POOL_ID, pool);
    if (heed__size_add(&total, size, sizeof *b + JPEG_MEMORY_ALIGN + JPEG_MEMORY_ROW))
        b = heed__alloc(m->heap, total, 1);
    if (!b)
        ERREXIT1(c, JERR_OUT_OF_MEMORY, pool);
    b->next = m->pools[pool];
    m->pools[pool] = b;
    return (void *)(((uintptr_t)(b + 1) + JPEG_MEMORY_ALIGN - 1) & ~(uintptr_t)(JPEG_MEMORY_ALIGN - 1));
}

/* `n` rows of `bytes` each, and pointers to them. */
static void **jpeg_memory_rows(j_common_ptr c, int pool, size_t bytes, size_t n)
{
    size_t padded, all = 0;
    uint8_t *data;
    void **rows;

    if (!heed__size_align(&padded, bytes, JPEG_MEMORY_ROW) || !heed__size_mul(&all, padded, n))
        ERREXIT1(c, JERR_OUT_OF_MEMORY, pool);
    rows = jpeg_memory_alloc(c, pool, n * sizeof *rows);
    data = jpeg_memory_alloc(c, pool, all);
    for (size_t i = 0; i < n; i++)
        rows[i] = data + i * padded;
    return rows;
}

static JSAMPARRAY jpeg_memory_sarray(j_common_ptr c, int pool, JDIMENSION per_row, JDIMENSION n)
{
    return (JSAMPARRAY)jpeg_memory_rows(c, pool, (size_t)per_row * sizeof(JSAMPLE), n);
}

static JBLOCKARRAY jpeg_memory_barray(j_common_ptr c, int pool, JDIMENSION per_row, JDIMENSION n)
{
    return (JBLOCKARRAY)jpeg_memory_rows(c, pool, (size_t)per_row * sizeof(JBLOCK), n);
}

/* Samples of a whole picture are wanted only for choosing a palette, which is never asked for. */
static jvirt_sarray_ptr jpeg_memory_no_samples(j_common_ptr c, int pool, boolean zero, JDIMENSION per_row,
                                               JDIMENSION n, JDIMENSION at_once)
{
    (void)pool, (void)zero, (void)per_row, (void)n, (void)at_once;
    ERREXIT(c, JERR_NOT_COMPILED);
    return NULL;
}

static JSAMPARRAY jpeg_memory_no_access(j_common_ptr c, jvirt_sarray_ptr p, JDIMENSION first, JDIMENSION n,
                                        boolean writable)
{
    (void)p, (void)first, (void)n, (void)writable;
    ERREXIT(c, JERR_BAD_VIRTUAL_ACCESS);
    return NULL;
}

static jvirt_barray_ptr jpeg_memory_plane(j_common_ptr c, int pool, boolean zero, JDIMENSION per_row,
                                          JDIMENSION n, JDIMENSION at_once)
{
    jpeg_memory *m = jpeg_memory_of(c);
    struct jvirt_barray_control *p;

    (void)zero; /* all of the heap's blocks are */
    (void)at_once;
    if (pool != JPOOL_IMAGE)
        ERREXIT1(c, JERR_BAD_POOL_ID, pool);
    p = jpeg_memory_alloc(c, pool, sizeof *p);
    *p = (struct jvirt_barray_control){ .next = m->planes, .per_row = per_row, .n_rows = n };
    m->planes = p;
    return p;
}

static void jpeg_memory_realise(j_common_ptr c)
{
    for (struct jvirt_barray_control *p = jpeg_memory_of(c)->planes; p; p = p->next)
        if (!p->rows)
            p->rows = jpeg_memory_barray(c, JPOOL_IMAGE, p->per_row, p->n_rows);
}

static JBLOCKARRAY jpeg_memory_access(j_common_ptr c, jvirt_barray_ptr p, JDIMENSION first, JDIMENSION n,
                                      boolean writable)
{
    (void)writable;
    if (!p->rows || first > p->n_rows || n > p->n_rows - first)
        ERREXIT(c, JERR_BAD_VIRTUAL_ACCESS);
    return p->rows + first;
}

static void jpeg_memory_free_pool(j_common_ptr c, int pool)
{
    jpeg_memory *m = jpeg_memory_of(c);

    if (pool < 0 || pool >= JPOOL_NUMPOOLS)
        ERREXIT1(c, JERR_BAD_POOL_ID, pool);
    if (pool == JPOOL_IMAGE)
        m->planes = NULL;
    while (m->pools[pool]) {
        struct jpeg_memory_block *b = m->pools[pool];

        m->pools[pool] = b->next;
        heed__release(m->heap, b);
    }
}

static void jpeg_memory_free_all(j_common_ptr c)
{
    for (int pool = JPOOL_NUMPOOLS - 1; pool >= 0; pool--)
        jpeg_memory_free_pool(c, pool);
}

void heed__jpeg_memory_enter(jpeg_memory *m, heap *h, struct jpeg_decompress_struct *d)
{
    *m = (jpeg_memory){
        .calls = {
            .alloc_small = jpeg_memory_alloc,
            .alloc_large = jpeg_memory_alloc,
            .alloc_sarray = jpeg_memory_sarray,
            .alloc_barray = jpeg_memory_barray,
            .request_virt_sarray = jpeg_memory_no_samples,
            .request_virt_barray = jpeg_memory_plane,
            .realize_virt_arrays = jpeg_memory_realise,
            .access_virt_sarray = jpeg_memory_no_access,
            .access_virt_barray = jpeg_memory_access,
            .free_pool = jpeg_memory_free_pool,
            .self_destruct = jpeg_memory_free_all,
            .max_memory_to_use = d->mem->max_memory_to_use,
            .max_alloc_chunk = d->mem->max_alloc_chunk,
        },
        .theirs = d->mem,
        .heap = h,
    };
    d->mem = &m->calls;
}

void heed__jpeg_memory_leave(jpeg_memory *m, struct jpeg_decompress_struct *d)
{
    if (!m->theirs)
        return;
    jpeg_memory_free_all((j_common_ptr)d);
    d->mem = m->theirs;
    m->theirs = NULL;
}

#else
typedef int libjpeg_is_missing;
#endif
