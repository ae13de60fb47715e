#include "support/direct.h"

#include "graph/builder.h"
#include "graph/number.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- memory between pages that fault ---- */

#define FENCE_SLACK 0xC3

typedef struct fence {
    unsigned char *map, *at;
    size_t map_bytes, bytes;
} fence;

static size_t fence_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* `bytes` that end at a page that faults, but for what alignment leaves over, or begin after one. */
static void fence_open(fence *f, size_t bytes, size_t align, bool at_start)
{
    const size_t page = fence_page(), inner = (bytes + align + page - 1) / page * page;

    f->bytes = bytes;
    f->map_bytes = inner + 2 * page;
    f->map = mmap(NULL, f->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->map == MAP_FAILED || mprotect(f->map, page, PROT_NONE) != 0 || mprotect(f->map + page + inner, page, PROT_NONE) != 0) {
        fprintf(stderr, "no memory for a fence of %zu bytes\n", bytes);
        exit(1);
    }
    memset(f->map + page, FENCE_SLACK, inner);
    f->at = at_start ? f->map + page : f->map + page + (inner - bytes) / align * align;
}

static bool fence_whole(const fence *f)
{
    const size_t page = fence_page();

    if (!f->map)
        return true;
    for (const unsigned char *p = f->map + page; p < f->at; p++)
        if (*p != FENCE_SLACK)
            return false;
    for (const unsigned char *p = f->at + f->bytes; p < f->map + f->map_bytes - page; p++)
        if (*p != FENCE_SLACK)
            return false;
    return true;
}

static void fence_close(fence *f)
{
    if (f->map)
        munmap(f->map, f->map_bytes);
    *f = (fence){ 0 };
}

static sigjmp_buf fence_jump;

static void fence_hit(int sig)
{
    siglongjmp(fence_jump, sig);
}

/* 0, or the signal that ended it. */
static int fence_call(void (*f)(void *), void *user)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE };
    struct sigaction hit = { .sa_handler = fence_hit, .sa_flags = SA_NODEFER }, before[3];
    int sig;

    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &hit, &before[i]);
    sig = sigsetjmp(fence_jump, 1);
    if (sig == 0)
        f(user);
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &before[i], NULL);
    return sig;
}

/* ---- operands ---- */

typedef struct direct {
    const op_kernel *k;
    const direct_opts *o;
    op_call call;
    view in[SAMPLED_IN], out[OP_OUT_MAX];
    fence in_at[SAMPLED_IN], out_at[OP_OUT_MAX], scratch[SCRATCH_AREAS], shared, partial;
    unsigned char *in_before[SAMPLED_IN];
    int64_t count, chunk, chunks;
} direct;

static heed_type direct_in_type(const sampled *s, int i, heed_dtype dtype)
{
    heed_type t = s->type[i];

    if (t.rank >= 0)
        t.dtype = sampled_dtype(s, i, dtype);
    return t;
}

static bool direct_infer(const sampled *s, const direct_opts *o, heed_type *in, heed_type *out, int *n_out)
{
    heed_error err = { 0 };

    *n_out = 0;
    while (s->op->out[*n_out].name)
        ++*n_out;
    for (int i = 0; i < s->n; i++)
        in[i] = direct_in_type(s, i, o->dtype);
    return heed__infer_node(s->op, s->sample->attrs, in, s->n, out, *n_out, NULL, &err) == HEED_OK;
}

static op_call direct_call(const sampled *s, const direct_opts *o, const view *in, const view *out, int n_out)
{
    return (op_call){ .attrs = s->sample->attrs, .in = in, .out = out, .n_in = s->n, .n_out = n_out, .isa = o->isa,
                      .row = heed__row_ops(o->isa), .gemm = heed__gemm_ops(o->isa) };
}

bool direct_accepts(const sampled *s, const op_kernel *k, const direct_opts *o, heed_type out[OP_OUT_MAX])
{
    heed_type in[SAMPLED_IN];
    view in_view[SAMPLED_IN], out_view[OP_OUT_MAX];
    op_call c;
    int n_out;

    if (!direct_infer(s, o, in, out, &n_out))
        return false;
    for (int i = 0; i < s->n; i++)
        in_view[i] = in[i].rank < 0 ? (view){ .type.rank = -1 } : heed__view(NULL, &in[i]);
    for (int i = 0; i < n_out; i++)
        out_view[i] = heed__view(NULL, &out[i]);
    c = direct_call(s, o, in_view, out_view, n_out);
    return (!k->refuses || !k->refuses(&c)) && (!k->accepts || k->accepts(&c));
}

bool direct_may_overwrite(const op_def *op, int out, int in)
{
    const op_slot *slot = sampled_slot(op, in);

    if (op->out[out].over)
        return slot && strcmp(op->out[out].over, slot->name) == 0;
    return op->flags & OP_IN_PLACE && out == 0;
}

/* Strides with gaps: every second element for STRIDED, three elements after each row for ROWS. */
static void direct_gaps(view *v, enum kernel_layout layout)
{
    int64_t step = layout == STRIDED ? 2 : 1;

    for (int a = v->type.rank; a-- > 0;) {
        v->strides[a] = step;
        step *= v->type.dims[a] > 1 ? v->type.dims[a] : 1;
        if (a == v->type.rank - 1)
            step += 3;
    }
}

static int64_t direct_offset(const view *v, int64_t k)
{
    int64_t offset = 0;

    for (int a = v->type.rank; a-- > 0; k /= v->type.dims[a])
        offset += k % v->type.dims[a] * v->strides[a];
    return offset;
}

static void direct_operand(direct *d, const sampled *s, int i)
{
    const heed_type type = direct_in_type(s, i, d->o->dtype);
    const size_t size = type.rank < 0 ? 0 : heed_dtype_size(type.dtype);
    const int64_t count = type.rank < 0 ? 0 : heed_type_count(&type);
    const bool dense = !d->o->gaps || d->k->layout == DENSE || (i < 32 && d->k->dense_in >> i & 1);
    view *v = &d->in[i];
    size_t elements;

    if (type.rank < 0) {
        *v = (view){ .type.rank = -1 };
        return;
    }
    *v = heed__view(NULL, &type);
    if (!dense)
        direct_gaps(v, d->k->layout);
    elements = count ? (size_t)direct_offset(v, count - 1) + 1 : 0;
    fence_open(&d->in_at[i], elements * size, i == d->o->over_in ? 16 : size, d->o->at_start);
    v->data = d->in_at[i].at;
    for (size_t e = 0; e < elements; e++)
        heed__number_put(type.dtype, v->data, (int64_t)e, DTYPE_BIT(type.dtype) & FLOATS ? NAN : -7777777);
    for (int64_t k = 0; k < count; k++)
        heed__number_put(type.dtype, v->data, direct_offset(v, k), s->x[i][k]);
    d->in_before[i] = trial_memory(elements, size);
    memcpy(d->in_before[i], v->data, elements * size);
}

static void direct_area(fence *f, size_t bytes, const direct_opts *o)
{
    fence_open(f, bytes, 64, o->at_start);
    memset(f->at, o->pattern, bytes);
}

static void direct_open(direct *d, const sampled *s, const op_kernel *k, const direct_opts *o)
{
    heed_type in[SAMPLED_IN], out[OP_OUT_MAX];
    size_t bytes;
    int n_out;

    *d = (direct){ .k = k, .o = o };
    (void)direct_infer(s, o, in, out, &n_out);
    for (int i = 0; i < s->n; i++)
        direct_operand(d, s, i);
    for (int i = 0; i < n_out; i++) {
        d->out[i] = heed__view(NULL, &out[i]);
        if ((o->only >= 0 && o->only != i) || !sampled_makes(s, i))
            continue;
        if (o->over_out == i) {
            d->out[i].data = d->in[o->over_in].data;
            continue;
        }
        bytes = (size_t)heed_type_count(&out[i]) * heed_dtype_size(out[i].dtype);
        fence_open(&d->out_at[i], bytes, 16, o->at_start);
        memset(d->out_at[i].at, o->pattern, bytes);
        d->out[i].data = d->out_at[i].at;
    }
    d->call = direct_call(s, o, d->in, d->out, n_out);
    d->count = k->count ? k->count(&d->call) : heed_type_count(&out[0]);
    d->chunk = k->chunk_of ? k->chunk_of(&d->call) : k->chunk;
    d->chunk = i64_max(1, d->chunk ? d->chunk : d->count);
    d->chunks = d->call.chunks = i64_ceil_div(d->count, d->chunk);
    if ((bytes = k->scratch ? k->scratch(&d->call) : 0) > 0)
        for (int i = 0; i < SCRATCH_AREAS; i++) {
            direct_area(&d->scratch[i], bytes, o);
            d->call.scratch[i] = d->scratch[i].at;
        }
    if ((bytes = k->shared ? k->shared(&d->call) : 0) > 0) {
        direct_area(&d->shared, bytes, o);
        d->call.shared = d->shared.at;
    }
    if ((bytes = k->partial ? k->partial(&d->call) : 0) > 0) {
        d->call.partial_stride = (int64_t)((bytes + 63) & ~(size_t)63);
        fence_open(&d->partial, (size_t)d->call.partial_stride * (size_t)d->chunks, 64, o->at_start);
        memset(d->partial.at, 0, d->partial.bytes);
        d->call.partial = d->partial.at;
    }
}

static void direct_close(direct *d)
{
    for (int i = 0; i < SAMPLED_IN; i++) {
        fence_close(&d->in_at[i]);
        free(d->in_before[i]);
    }
    for (int i = 0; i < OP_OUT_MAX; i++)
        fence_close(&d->out_at[i]);
    for (int i = 0; i < SCRATCH_AREAS; i++)
        fence_close(&d->scratch[i]);
    fence_close(&d->shared);
    fence_close(&d->partial);
}

/* ---- running ---- */

static void direct_forget_scratch(direct *d)
{
    for (int i = 0; i < SCRATCH_AREAS; i++)
        if (d->scratch[i].map)
            memset(d->scratch[i].at, d->o->pattern, d->scratch[i].bytes);
}

static void direct_body(void *user)
{
    direct *d = user;
    const int64_t prepared = d->k->prepare && d->k->prepare_count ? d->k->prepare_count(&d->call) : 0;

    if (d->chunks == 0 && !d->k->finish)
        return;
    for (int64_t i = 0; i < prepared; i++) {
        const int64_t at = d->o->backward ? prepared - 1 - i : i;

        direct_forget_scratch(d);
        d->k->prepare(&d->call, at, at + 1);
    }
    for (int64_t i = 0; i < d->chunks; i++) {
        const int64_t at = d->o->backward ? d->chunks - 1 - i : i, begin = at * d->chunk;
        op_call c = d->call;

        direct_forget_scratch(d);
        if (d->partial.map)
            c.partial = d->partial.at + at * c.partial_stride;
        d->k->run(&c, begin, i64_min(begin + d->chunk, d->count));
    }
    direct_forget_scratch(d);
    if (d->k->finish)
        d->k->finish(&d->call);
}

static const char *direct_look(const direct *d)
{
    for (int i = 0; i < SAMPLED_IN; i++) {
        if (!fence_whole(&d->in_at[i]))
            return "wrote beside an input";
        if (d->in_before[i] && d->o->over_in != i && memcmp(d->in_before[i], d->in_at[i].at, d->in_at[i].bytes) != 0)
            return "changed an input";
    }
    for (int i = 0; i < OP_OUT_MAX; i++)
        if (!fence_whole(&d->out_at[i]))
            return "wrote beside an output";
    for (int i = 0; i < SCRATCH_AREAS; i++)
        if (!fence_whole(&d->scratch[i]))
            return "wrote beside its scratch memory";
    if (!fence_whole(&d->shared) || !fence_whole(&d->partial))
        return "wrote beside its shared memory or partial sums";
    return NULL;
}

const char *direct_run(const sampled *s, const op_kernel *k, const direct_opts *o, unsigned char *results[OP_OUT_MAX])
{
    direct d;
    const char *wrong = NULL;
    int sig;

    direct_open(&d, s, k, o);
    sig = fence_call(direct_body, &d);
    if (sig)
        wrong = sig == SIGFPE ? "divides an integer by zero" : "reads or writes outside its operands (a page faulted)";
    else
        wrong = direct_look(&d);
    for (int i = 0; i < d.call.n_out; i++) {
        const size_t bytes = (size_t)heed_type_count(&d.out[i].type) * heed_dtype_size(d.out[i].type.dtype);

        results[i] = NULL;
        if (d.out[i].data && !wrong) {
            results[i] = trial_memory(bytes, 1);
            memcpy(results[i], d.out[i].data, bytes);
        }
    }
    direct_close(&d);
    return wrong;
}
