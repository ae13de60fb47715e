/* A session binds plans to weights and one block. Everything is taken when a plan is added; a run only calls kernels.
 *
 * Chunks of a step are handed to threads by a counter; their borders come from the plan, so the bits of the result do not depend on
 * the number of threads. Sums across chunks are added in chunk order by the kernel's finish. */

#include "base/error.h"
#include "graph/number.h"
#include "plan/plan.h"
#include "session/profile.h"
#include "session/results.h"
#include "session/weights.h"

#include <stdatomic.h>
#include <math.h>
#include <string.h>

struct op_fault {
    _Atomic int64_t item; /* lowest so far; INT64_MAX: none */
    atomic_flag lock;
    heed_status code;
    double value;
};

/* A plan's operands with their memory. */
typedef struct bound {
    const heed_plan *plan;
    view *views;     /* all operands of all steps, inputs before outputs */
    uint32_t *first; /* by step: its first view */
    heed_tensor *weights;
    const void **inputs; /* pointers of this run */
    void **outputs;      /* likewise; of plans with direct results */
} bound;

struct heed_session {
    heed_context *ctx;
    heed_weights *weights;
    uint64_t seed;
    char *block;
    size_t block_bytes;
    bool borrowed; /* the block is the caller's */
    bound *plans;
    int n_plans;
    op_fault fault;
    heed_profile *profile; /* borrowed; NULL: nothing is recorded */
};

heed_status heed_session_new(heed_session **out, heed_context *ctx, heed_weights *w,
                             const heed_session_opts *opts, heed_error *err)
{
    heed_session *s;

    if (opts && opts->block && (uintptr_t)opts->block % 64 != 0)
        return heed__fail(err, HEED_ERR_USAGE, "the block given to a session must be aligned to 64 bytes");
    s = heed__alloc(ctx->heap, 1, sizeof *s);
    if (!s)
        return heed__fail_memory(err, sizeof *s);
    s->ctx = ctx;
    s->weights = heed_weights_keep(w);
    if (opts) {
        s->seed = opts->seed;
        s->block = opts->block;
        s->block_bytes = opts->block ? opts->block_bytes : 0;
        s->borrowed = opts->block != NULL;
    }
    *out = s;
    return HEED_OK;
}

static void release_bound(heed_session *s, bound *b)
{
    heap *h = s->ctx->heap;

    heed__release(h, b->views);
    heed__release(h, b->first);
    heed__release(h, b->weights);
    heed__release(h, (void *)b->inputs);
    heed__release(h, b->outputs);
    *b = (bound){ 0 };
}

void heed_session_free(heed_session *s)
{
    heap *h;

    if (!s)
        return;
    h = s->ctx->heap;
    for (int i = 0; i < s->n_plans; i++)
        release_bound(s, &s->plans[i]);
    heed__release(h, s->plans);
    if (!s->borrowed)
        heed__release(h, s->block);
    heed_weights_free(s->weights);
    heed__release(h, s);
}

/* ---- binding ---- */

static void *memory_of(const heed_session *s, const bound *b, const operand *o)
{
    const storage *at;
    char *base;

    if (o->storage == NO_STORAGE)
        return NULL;
    at = &b->plan->storages[heed__storage_root(b->plan, o->storage)];
    if (at->kind == STORAGE_BLOCK)
        base = s->block + at->offset;
    else if (at->kind == STORAGE_WEIGHT)
        base = b->weights[at->index].data;
    else if (at->kind == STORAGE_CONSTANT)
        base = (char *)(uintptr_t)at->data;
    else if (at->kind == STORAGE_OUTPUT)
        base = b->outputs[at->index];
    else
        base = (char *)(uintptr_t)b->inputs[at->index];
    return base ? base + o->offset : NULL;
}

/* What is given but has no elements may be nowhere. Kernels count from its beginning all the same, and NULL + 0 has no meaning. */
static void *memory_read(const heed_session *s, const bound *b, const operand *o)
{
    void *at = memory_of(s, b, o);

    return at || o->view.type.rank < 0 ? at : s->block;
}

static void resolve(const heed_session *s, bound *b)
{
    const heed_plan *p = b->plan;

    for (uint32_t i = 0; i < p->n_steps; i++) {
        const step *t = &p->steps[i];
        view *v = &b->views[b->first[i]];

        for (int j = 0; j < t->n_in; j++) {
            v[j] = t->in[j].view;
            v[j].data = memory_read(s, b, &t->in[j]);
        }
        for (int j = 0; j < t->n_out; j++) {
            v[t->n_in + j] = t->out[j].view;
            v[t->n_in + j].data = memory_of(s, b, &t->out[j]);
        }
    }
}

/* Only what lies in a run's inputs and results moves from run to run. */
static bool moves(const heed_plan *p, const operand *o)
{
    const storage *at = o->storage == NO_STORAGE ? NULL : &p->storages[heed__storage_root(p, o->storage)];

    return at && (at->kind == STORAGE_INPUT || at->kind == STORAGE_OUTPUT);
}

static void resolve_moving(const heed_session *s, bound *b)
{
    const heed_plan *p = b->plan;

    for (uint32_t i = 0; i < p->n_steps; i++) {
        const step *t = &p->steps[i];
        view *v = &b->views[b->first[i]];

        for (int j = 0; j < t->n_in; j++)
            if (moves(p, &t->in[j]))
                v[j].data = memory_read(s, b, &t->in[j]);
        for (int j = 0; p->direct && j < t->n_out; j++)
            if (moves(p, &t->out[j]))
                v[t->n_in + j].data = memory_of(s, b, &t->out[j]);
    }
}

static heed_status make_block(heed_session *s, uint64_t bytes, heed_error *err)
{
    char *bigger;

    if (bytes <= s->block_bytes && (s->block || s->borrowed))
        return HEED_OK;
    if (s->borrowed)
        return heed__fail(err, HEED_ERR_LIMIT, "the plan needs a block of %llu bytes, the one given has %llu",
                          (unsigned long long)bytes, (unsigned long long)s->block_bytes);
    bigger = heed__alloc_raw(s->ctx->heap, bytes ? bytes : 1, 1, 64); /* nothing has a place, too */
    if (!bigger)
        return heed__fail_memory(err, bytes);
    heed__release(s->ctx->heap, s->block);
    s->block = bigger;
    s->block_bytes = bytes;
    for (int i = 0; i < s->n_plans; i++)
        if (s->plans[i].plan)
            resolve(s, &s->plans[i]);
    return HEED_OK;
}

static heed_status bind(heed_session *s, bound *b, const heed_plan *p, heed_error *err)
{
    heap *h = s->ctx->heap;
    uint32_t views = 0;

    for (uint32_t i = 0; i < p->n_steps; i++)
        views += (uint32_t)(p->steps[i].n_in + p->steps[i].n_out);
    b->plan = p;
    b->views = heed__alloc(h, views + 1, sizeof *b->views);
    b->first = heed__alloc(h, p->n_steps + 1, sizeof *b->first);
    b->weights = heed__alloc(h, p->n_weights + 1, sizeof *b->weights);
    b->inputs = heed__alloc(h, p->n_inputs + 1, sizeof *b->inputs);
    b->outputs = heed__alloc(h, p->n_outputs + 1, sizeof *b->outputs);
    if (!b->views || !b->first || !b->weights || !b->inputs || !b->outputs)
        return heed__fail_memory(err, views * sizeof *b->views);
    views = 0;
    for (uint32_t i = 0; i < p->n_steps; i++) {
        b->first[i] = views;
        views += (uint32_t)(p->steps[i].n_in + p->steps[i].n_out);
    }
    for (uint32_t i = 0; i < p->n_weights; i++)
        TRY(heed__weights_ensure(s->weights, p->weights[i].path, &p->weights[i].attrs, s->seed,
                                 &b->weights[i], err));
    TRY(make_block(s, p->report.block_bytes, err));
    resolve(s, b);
    return HEED_OK;
}

heed_status heed_session_add(heed_session *s, const heed_plan *p, int *id, heed_error *err)
{
    int at = 0;
    heed_status st;

    if (p->ctx != s->ctx)
        return heed__fail(err, HEED_ERR_USAGE, "the plan belongs to another context");
    while (at < s->n_plans && s->plans[at].plan)
        at++;
    if (at == s->n_plans) {
        bound *more = heed__resize(s->ctx->heap, s->plans, (size_t)s->n_plans + 1, sizeof *more);

        if (!more)
            return heed__fail_memory(err, sizeof *more);
        s->plans = more;
        s->plans[s->n_plans++] = (bound){ 0 };
    }
    st = bind(s, &s->plans[at], p, err);
    if (st != HEED_OK)
        release_bound(s, &s->plans[at]);
    else
        *id = at;
    return st;
}

void heed_session_remove(heed_session *s, int id)
{
    if (id >= 0 && id < s->n_plans)
        release_bound(s, &s->plans[id]);
}

/* ---- running ---- */

void heed__fault(const op_call *c, int64_t item, heed_status code, int64_t value)
{
    heed__fault_number(c, item, code, (double)value);
}

void heed__fault_number(const op_call *c, int64_t item, heed_status code, double value)
{
    op_fault *f = c->fault;

    if (!f)
        return;
    while (atomic_flag_test_and_set_explicit(&f->lock, memory_order_acquire))
        ;
    if (item < atomic_load_explicit(&f->item, memory_order_relaxed)) {
        atomic_store_explicit(&f->item, item, memory_order_relaxed);
        f->code = code;
        f->value = value;
    }
    atomic_flag_clear_explicit(&f->lock, memory_order_release);
}

typedef struct job {
    const step *step;
    op_call call;
    char *scratch, *partial;
    heed_profile *profile; /* NULL: chunks are not timed */
} job;

static void set_scratch(op_call *c, const job *j, int worker)
{
    for (int i = 0; j->scratch && i < SCRATCH_AREAS; i++)
        c->scratch[i] =
            j->scratch + ((uint64_t)worker * SCRATCH_AREAS + (uint64_t)i) * j->step->scratch_bytes;
}

static void run_chunk(void *user, int worker, int64_t chunk)
{
    const job *j = user;
    op_call c = j->call;
    const int64_t begin = chunk * j->step->chunk;

    set_scratch(&c, j, worker);
    c.partial = j->partial ? j->partial + (uint64_t)chunk * j->step->partial_stride : NULL;
    j->step->kernel->run(&c, begin, i64_min(begin + j->step->chunk, j->step->count));
}

static void prepare_chunk(void *user, int worker, int64_t chunk)
{
    const job *j = user;
    op_call c = j->call;

    set_scratch(&c, j, worker);
    j->step->kernel->prepare(&c, chunk, chunk + 1);
}

static void gather_chunk(void *user, int worker, int64_t chunk)
{
    const job *j = user;
    op_call c = j->call;

    set_scratch(&c, j, worker);
    c.partial = j->partial;
    j->step->kernel->gather(&c, chunk, chunk + 1);
}

/* The same three with a clock around them. */
static void run_chunk_timed(void *user, int worker, int64_t chunk)
{
    const double began = heed__os_seconds();

    run_chunk(user, worker, chunk);
    heed__profile_chunk(((const job *)user)->profile, worker, began);
}

static void prepare_chunk_timed(void *user, int worker, int64_t chunk)
{
    const double began = heed__os_seconds();

    prepare_chunk(user, worker, chunk);
    heed__profile_chunk(((const job *)user)->profile, worker, began);
}

static void gather_chunk_timed(void *user, int worker, int64_t chunk)
{
    const double began = heed__os_seconds();

    gather_chunk(user, worker, chunk);
    heed__profile_chunk(((const job *)user)->profile, worker, began);
}

static void *block_at(const heed_session *s, const heed_plan *p, uint32_t id)
{
    return id == NO_STORAGE ? NULL : s->block + p->storages[heed__storage_root(p, id)].offset;
}

static heed_status run_step(heed_session *s, const bound *b, uint32_t index, heed_error *err)
{
    const step *t = &b->plan->steps[index];
    const view *v = &b->views[b->first[index]];
    job j = { .step = t,
              .scratch = block_at(s, b->plan, t->scratch),
              .partial = block_at(s, b->plan, t->partial),
              .profile = heed__profile_on(s->profile) };

    if (t->chunks == 0 && !t->kernel->gather && !t->kernel->finish)
        return HEED_OK;
    if (j.profile)
        heed__profile_step_begin(j.profile);
    j.call = (op_call){ .attrs = t->attrs,
                        .in = v,
                        .out = v + t->n_in,
                        .n_in = t->n_in,
                        .n_out = t->n_out,
                        .isa = s->ctx->isa,
                        .row = heed__row_ops(s->ctx->isa),
                        .gemm = heed__gemm_ops(s->ctx->isa),
                        .shared = t->shared == NO_STORAGE ? s->block : block_at(s, b->plan, t->shared), /* so too */
                        .partial_stride = (int64_t)t->partial_stride,
                        .chunks = t->chunks,
                        .fault = &s->fault };
    if (j.partial)
        memset(j.partial, 0, t->partial_stride * (uint64_t)t->chunks);
    if (t->kernel->prepare && t->prepare_count > 0)
        heed__pool_run(s->ctx->pool, j.profile ? prepare_chunk_timed : prepare_chunk, &j, t->prepare_count);
    heed__pool_run(s->ctx->pool, j.profile ? run_chunk_timed : run_chunk, &j, t->chunks);
    if (t->kernel->gather && t->gather_count > 0)
        heed__pool_run(s->ctx->pool, j.profile ? gather_chunk_timed : gather_chunk, &j, t->gather_count);
    if (t->kernel->finish) {
        j.call.partial = j.partial;
        set_scratch(&j.call, &j, 0);
        t->kernel->finish(&j.call);
    }
    if (j.profile)
        heed__profile_step_end(j.profile, t, index);
    if (atomic_load_explicit(&s->fault.item, memory_order_relaxed) != INT64_MAX) {
        const int64_t item = atomic_load_explicit(&s->fault.item, memory_order_relaxed);

        if (!(t->op->flags & OP_FAULTS)) /* the planner let states be written before this step */
            return heed__fail_at(err, HEED_ERR_BUG, t->path,
                                 "%s ends a run, but its op does not say OP_FAULTS", t->op->name);
        if (t->op->fault_text) {
            char why[300];

            t->op->fault_text(t->attrs, item, s->fault.value, why, sizeof why);
            return heed__fail_at(err, s->fault.code, t->path, "%s: %s", *t->path ? t->path : t->op->name, why);
        }
        if (s->fault.code == HEED_ERR_NUMERIC)
            return heed__fail_at(err, s->fault.code, t->path, "%s: element %lld is NaN or infinite",
                                 t->op->name, (long long)item);
        return heed__fail_at(err, s->fault.code, t->path,
                             "%s: element %lld has the value %.*g, which is out of range", t->op->name,
                             (long long)item, floor(s->fault.value) == s->fault.value ? 17 : 7, s->fault.value);
    }
    return HEED_OK;
}

static heed_status begin_run(heed_session *s, int id, const heed_tensor *inputs, int n_inputs, bound **out,
                             heed_error *err)
{
    bound *b;

    if (id < 0 || id >= s->n_plans || !s->plans[id].plan)
        return heed__fail(err, HEED_ERR_USAGE, "session_run: there is no plan %d in this session", id);
    b = &s->plans[id];
    if (n_inputs != (int)b->plan->n_inputs)
        return heed__fail(err, HEED_ERR_USAGE, "session_run: the plan has %d inputs, %d were given",
                          (int)b->plan->n_inputs, n_inputs);
    for (int i = 0; i < n_inputs; i++) {
        const heed_type *type = &b->plan->inputs[i].operand.view.type;

        if (!heed_type_equal(type, &inputs[i].type))
            return heed__fail(err, type->dtype != inputs[i].type.dtype ? HEED_ERR_DTYPE : HEED_ERR_SHAPE,
                              "session_run: input \"%s\" has another type than the plan's",
                              b->plan->inputs[i].name);
        if (!inputs[i].data && heed_type_count(type) > 0)
            return heed__fail(err, HEED_ERR_USAGE, "session_run: input \"%s\" has no data",
                              b->plan->inputs[i].name);
        b->inputs[i] = inputs[i].data;
    }
    *out = b;
    return HEED_OK;
}

static void begin_steps(heed_session *s, bound *b)
{
    resolve_moving(s, b);
    atomic_store_explicit(&s->fault.item, INT64_MAX, memory_order_relaxed);
}

static bool overlap(const heed_tensor *x, const heed_tensor *y)
{
    const uintptr_t a = (uintptr_t)x->data, b = (uintptr_t)y->data;
    const size_t n = (size_t)heed_type_count(&x->type) * heed_dtype_size(x->type.dtype),
                 m = (size_t)heed_type_count(&y->type) * heed_dtype_size(y->type.dtype);

    return n > 0 && m > 0 && a < b + m && b < a + n;
}

/* The result whose memory is missing, or overlaps that of an input or of an earlier result; -1: none. */
static int not_apart(const heed_plan *p, const heed_tensor *inputs, int n_inputs, const heed_tensor *outputs,
                     int n_outputs, const char **why)
{
    for (int i = 0; i < (int)p->n_outputs; i++) {
        *why = NULL;
        if (i >= n_outputs || (!outputs[i].data && heed_type_count(&p->outputs[i].operand.view.type) > 0))
            return i;
        for (int j = 0; j < n_inputs && !*why; j++)
            *why = overlap(&outputs[i], &inputs[j]) ? "an input's" : NULL;
        for (int j = 0; j < i && !*why; j++)
            *why = overlap(&outputs[i], &outputs[j]) ? "another's" : NULL;
        if (*why)
            return i;
    }
    return -1;
}

bool heed__results_need_copies(const heed_plan *p, const heed_tensor *inputs, int n_inputs,
                               const heed_tensor *outputs, int n_outputs)
{
    const char *why;

    for (int i = 0; i < n_outputs && i < (int)p->n_outputs; i++)
        if (outputs[i].data && !heed_type_equal(&outputs[i].type, &p->outputs[i].operand.view.type))
            return false; /* refused by the run */
    return not_apart(p, inputs, n_inputs, outputs, n_outputs, &why) >= 0;
}

/* Memory for every result, apart from everything else that the caller gave. */
static heed_status take_outputs(bound *b, const heed_tensor *inputs, int n_inputs, const heed_tensor *outputs,
                                int n_outputs, heed_error *err)
{
    const char *why;
    const int bad = not_apart(b->plan, inputs, n_inputs, outputs, n_outputs, &why);

    if (bad >= 0 && why)
        return heed__fail(err, HEED_ERR_USAGE, "session_run: the memory of the result \"%s\" overlaps %s",
                          b->plan->outputs[bad].name, why);
    if (bad >= 0)
        return heed__fail(err, HEED_ERR_USAGE,
                          "session_run: this plan computes results where the caller wants them, but no memory is given "
                          "for \"%s\"",
                          b->plan->outputs[bad].name);
    for (int i = 0; i < (int)b->plan->n_outputs; i++)
        b->outputs[i] = outputs[i].data;
    return HEED_OK;
}

heed_status heed_session_run(heed_session *s, int id, const heed_tensor *inputs, int n_inputs,
                             const heed_tensor *outputs, int n_outputs, heed_error *err)
{
    uint64_t saved;
    heed_status st = HEED_OK;
    bound *b;

    TRY(begin_run(s, id, inputs, n_inputs, &b, err));
    if (n_outputs > (int)b->plan->n_outputs)
        return heed__fail(err, HEED_ERR_USAGE, "session_run: the plan has %d outputs, %d were given",
                          (int)b->plan->n_outputs, n_outputs);
    for (int i = 0; i < n_outputs; i++)
        if (outputs[i].data && !heed_type_equal(&outputs[i].type, &b->plan->outputs[i].operand.view.type))
            return heed__fail(err, HEED_ERR_SHAPE,
                              "session_run: output \"%s\" has another type than the plan's",
                              b->plan->outputs[i].name);
    if (b->plan->direct)
        TRY(take_outputs(b, inputs, n_inputs, outputs, n_outputs, err));
    begin_steps(s, b);
    if (heed__profile_on(s->profile))
        heed__profile_run(s->profile);
    saved = heed__os_float_enter();
    for (uint32_t i = 0; i < b->plan->n_steps && st == HEED_OK; i++)
        st = run_step(s, b, i, err);
    heed__os_float_leave(saved);
    for (int i = 0; i < n_outputs && st == HEED_OK; i++) {
        const operand *o = &b->plan->outputs[i].operand;
        const int64_t count = heed_type_count(&o->view.type);

        const void *from = memory_of(s, b, o);

        if (outputs[i].data && count > 0 && from != outputs[i].data)
            memcpy(outputs[i].data, from, (size_t)count * heed_dtype_size(o->view.type.dtype));
    }
    return st;
}

void heed_session_profile(heed_session *s, heed_profile *p)
{
    s->profile = p;
}

/* What a tensor holds besides numbers. */
enum { HOLDS_BAD = 1, HOLDS_MINUS_INFINITY = 2 }; /* BAD: NaN or +inf */

static unsigned holds(const view *v)
{
    unsigned found = 0;
    walk w;

    if (!v->data || !(DTYPE_BIT(v->type.dtype) & FLOATS))
        return 0;
    heed__walk(&w, 1, &v);
    for (int64_t i = 0; i < w.outer; i++) {
        void *at[WALK_VIEWS];
        const int64_t n = heed__walk_at(&w, i, at);

        for (int64_t j = 0; j < n; j++) {
            const double x = heed__number_get(v->type.dtype, at[0], j * w.step[0]);

            if (!(x - x == 0))
                found |= x < 0 ? HOLDS_MINUS_INFINITY : HOLDS_BAD;
        }
    }
    return found;
}

/* What the weights held before the search wrote them. */
typedef struct kept_weights {
    void **bytes; /* by weight; NULL: not written */
} kept_weights;

static size_t weight_bytes(const heed_tensor *x)
{
    return (size_t)heed_type_count(&x->type) * heed_dtype_size(x->type.dtype);
}

/* Keeps the weights that step t writes, unless they are kept already. */
static heed_status keep_written(heed_session *s, const bound *b, const step *t, kept_weights *k,
                                heed_error *err)
{
    for (int j = 0; j < t->n_out; j++) {
        const storage *at;
        const heed_tensor *x;

        if (t->out[j].storage == NO_STORAGE)
            continue;
        at = &b->plan->storages[heed__storage_root(b->plan, t->out[j].storage)];
        if (at->kind != STORAGE_WEIGHT || k->bytes[at->index])
            continue;
        x = &b->weights[at->index];
        k->bytes[at->index] = heed__alloc_raw(s->ctx->heap, weight_bytes(x), 1, 16);
        if (!k->bytes[at->index])
            return heed__fail_memory(err, weight_bytes(x));
        memcpy(k->bytes[at->index], x->data, weight_bytes(x));
    }
    return HEED_OK;
}

static void give_back(heed_session *s, const bound *b, kept_weights *k)
{
    for (uint32_t i = 0; k->bytes && i < b->plan->n_weights; i++)
        if (k->bytes[i]) {
            memcpy(b->weights[i].data, k->bytes[i], weight_bytes(&b->weights[i]));
            heed__release(s->ctx->heap, k->bytes[i]);
        }
    heed__release(s->ctx->heap, k->bytes);
}

/* One step, and a look at what it gave. -inf is how a mask says "not this one", so it is a fault only where it begins: where
 * no operand holds it and the op does not say that it may. Operands are looked at first: the step may write over them. */
static heed_status look_at_step(heed_session *s, const bound *b, uint32_t index, heed_error *err)
{
    const step *t = &b->plan->steps[index];
    const view *views = &b->views[b->first[index]];
    heed_error stopped = { 0 };
    unsigned given = 0;
    uint64_t saved;
    heed_status st;

    for (int j = 0; j < t->n_in; j++)
        given |= holds(&views[j]);
    saved = heed__os_float_enter();
    st = run_step(s, b, index, &stopped);
    heed__os_float_leave(saved);
    for (int j = 0; j < t->n_out; j++) {
        const unsigned found = holds(&views[t->n_in + j]);
        const bool may = given & HOLDS_MINUS_INFINITY || t->op->out[j].flags & MINUS_INFINITY;

        if (found & HOLDS_BAD || (found & HOLDS_MINUS_INFINITY && !may))
            return heed__fail_at(err, HEED_ERR_NUMERIC, t->path,
                                 "%s in \"%s\" is the first to give a NaN or an infinity", t->op->name,
                                 t->path);
    }
    return st == HEED_OK ? HEED_OK : heed__fail_at(err, st, stopped.path, "%s", stopped.text);
}

heed_status heed_session_find_bad(heed_session *s, int id, const heed_tensor *inputs, int n_inputs,
                                  heed_error *err)
{
    kept_weights kept = { NULL };
    heed_status st = HEED_OK;
    bound *b;

    TRY(begin_run(s, id, inputs, n_inputs, &b, err));
    if (b->plan->direct)
        return heed__fail(err, HEED_ERR_USAGE, "session_find_bad: this plan has no room for results of its own");
    begin_steps(s, b);
    for (uint32_t i = 0; i < b->plan->n_weights; i++) {
        const view v = heed__view(b->weights[i].data, &b->weights[i].type);

        if (holds(&v))
            return heed__fail_at(err, HEED_ERR_NUMERIC, b->plan->weights[i].path,
                                 "the tensor \"%s\" holds a NaN or an infinity", b->plan->weights[i].path);
    }
    for (uint32_t i = 0; i < b->plan->n_inputs; i++) {
        const view v = heed__view(inputs[i].data, &inputs[i].type);

        if (holds(&v) & HOLDS_BAD) /* -inf: a mask that is added to scores */
            return heed__fail_at(err, HEED_ERR_NUMERIC, b->plan->inputs[i].name,
                                 "the input \"%s\" holds a NaN or an infinity", b->plan->inputs[i].name);
    }
    kept.bytes = heed__alloc(s->ctx->heap, (size_t)b->plan->n_weights + 1, sizeof *kept.bytes);
    if (!kept.bytes)
        return heed__fail_memory(err, b->plan->n_weights * sizeof *kept.bytes);
    for (uint32_t i = 0; i < b->plan->n_steps && st == HEED_OK; i++) {
        st = keep_written(s, b, &b->plan->steps[i], &kept, err);
        if (st == HEED_OK)
            st = look_at_step(s, b, i, err);
    }
    give_back(s, b, &kept);
    return st;
}
