/* Who shares memory with whom.
 *
 *  1. Last reader of every storage.
 *  2. In place, in the order of steps: an output takes over an input's storage when that input is read there for the last time
 *     and lies dense in a storage of exactly its size. The same rule lets an optimiser write its parameter directly: the copy
 *     at the end (state <- value) becomes nothing when the value's maker may overwrite the state, nobody reads it later, the
 *     value does not lie in another state already, and no step that could end the run comes after (or nobody could tell: op_def.spare).
 *  3. Packing: large ones first, each at the lowest offset where nothing alive at the same time lies. */

#include "base/error.h"
#include "plan/plan.h"

#include <string.h>

#define ALIGNMENT 64

static void touch(heed_plan *p, uint32_t id, int32_t at)
{
    if (id != NO_STORAGE && p->storages[id].last < at)
        p->storages[id].last = at;
}

static void find_last_readers(heed_plan *p)
{
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const step *s = &p->steps[i];

        for (int j = 0; j < s->n_in; j++)
            touch(p, s->in[j].storage, (int32_t)i);
        for (int j = 0; j < s->n_out; j++)
            touch(p, s->out[j].storage, (int32_t)i);
    }
    for (uint32_t i = 0; i < p->n_outputs; i++)
        touch(p, p->outputs[i].operand.storage, (int32_t)p->n_steps);
}

/* Whether nothing else of step s lies in the memory of input j, but the same elements in the same order, and no output but `out`.
 * A patch moves elements to other places, so that the same order does not help. */
static bool whole_and_alone(const heed_plan *p, const step *s, int j, const operand *out)
{
    const operand *in = &s->in[j];
    const uint32_t root = heed__storage_root(p, in->storage);

    for (int k = 0; k < s->n_in; k++)
        if (k != j && s->in[k].storage != NO_STORAGE && heed__storage_root(p, s->in[k].storage) == root &&
            (s->op->flags & OP_PATCHES || s->in[k].offset != 0 || !heed__view_dense(&s->in[k].view) ||
             !heed_type_equal(&s->in[k].view.type, &in->view.type)))
            return false;
    for (int k = 0; k < s->n_out; k++)
        if (s->out[k].storage != NO_STORAGE && &s->out[k] != out &&
            heed__storage_root(p, s->out[k].storage) == root)
            return false;
    return true;
}

/* May output `out` of step s lie in the memory of input j? */
static bool can_overwrite(const heed_plan *p, const step *s, int32_t now, int j, const operand *out)
{
    const operand *in = &s->in[j];
    const storage *from;

    if (in->storage == NO_STORAGE || out->storage == NO_STORAGE ||
        !heed_type_equal(&in->view.type, &out->view.type))
        return false;
    from = &p->storages[heed__storage_root(p, in->storage)];
    if (from->kind != STORAGE_BLOCK || from->last > now || in->offset != 0 ||
        from->bytes != p->storages[out->storage].bytes || !heed__view_dense(&in->view))
        return false;
    return whole_and_alone(p, s, j, out);
}

int heed__written_over(const op_def *op, int k)
{
    for (int i = 0; op->out[k].over && op->in[i].name; i++)
        if (strcmp(op->in[i].name, op->out[k].over) == 0)
            return i;
    return -1;
}

/* The inputs that output k of this op may overwrite: bit j. */
static uint64_t overwritable(const step *s, int k)
{
    const int over = heed__written_over(s->op, k);

    if (over >= 0 && over < s->n_in)
        return (uint64_t)1 << over;
    if (s->op->flags & OP_IN_PLACE && k == 0)
        return s->n_in >= 64 ? UINT64_MAX : ((uint64_t)1 << s->n_in) - 1;
    return 0;
}

static void merge(heed_plan *p, uint32_t from, uint32_t into)
{
    storage *a = &p->storages[heed__storage_root(p, from)], *b = &p->storages[heed__storage_root(p, into)];

    b->first = b->first < a->first ? b->first : a->first;
    b->last = b->last > a->last ? b->last : a->last;
    a->merged = (uint32_t)(b - p->storages);
}

/* The step that makes a storage, or -1. */
static int32_t maker_of(const heed_plan *p, uint32_t storage_id, int *slot)
{
    for (uint32_t i = 0; i < p->n_steps; i++)
        for (int k = 0; k < p->steps[i].n_out; k++)
            if (p->steps[i].out[k].storage == storage_id) {
                *slot = k;
                return (int32_t)i;
            }
    return -1;
}

/* The number of steps up to the last that may end the run, which then must have changed no state. */
static int32_t steps_before_writing(const heed_plan *p)
{
    uint32_t n = p->n_steps;

    while (n > 0 && !(p->steps[n - 1].op->flags & OP_FAULTS))
        n--;
    return (int32_t)n;
}

static bool may_be_early(const step *s)
{
    return s->op->spare && s->op->spare(s->attrs);
}

/* Copies "state <- value" at the end that the value's maker can do itself. */
static void write_through(heed_plan *p)
{
    const int32_t earliest = steps_before_writing(p);

    for (uint32_t i = 0; i < p->n_steps; i++) {
        step *copy = &p->steps[i];
        const uint32_t state = copy->n_out == 1 ? copy->out[0].storage : NO_STORAGE;
        int32_t made;
        int slot = 0;

        if (strcmp(copy->op->name, "copy") != 0 || state == NO_STORAGE ||
            p->storages[state].kind != STORAGE_WEIGHT ||
            p->storages[copy->in[0].storage].kind != STORAGE_BLOCK ||
            p->storages[copy->in[0].storage].merged != copy->in[0].storage || copy->in[0].offset != 0 ||
            !heed__view_dense(&copy->in[0].view) ||
            p->storages[copy->in[0].storage].bytes != p->storages[state].bytes)
            continue;
        made = maker_of(p, copy->in[0].storage, &slot);
        if (made < 0 || (made < earliest && !may_be_early(&p->steps[made])))
            continue;
        for (int j = 0; j < p->steps[made].n_in && j < 64; j++) {
            const operand *in = &p->steps[made].in[j];
            bool read_later = false;

            if (!(overwritable(&p->steps[made], slot) >> j & 1) || in->storage != state || in->offset != 0 ||
                !heed__view_dense(&in->view) ||
                !heed_type_equal(&in->view.type, &p->steps[made].out[slot].view.type))
                continue;
            for (uint32_t later = (uint32_t)made + 1; later < p->n_steps; later++)
                for (int k = 0; k < p->steps[later].n_in; k++)
                    read_later |= p->steps[later].in[k].storage == state;
            if (read_later || !whole_and_alone(p, &p->steps[made], j, &p->steps[made].out[slot]))
                continue;
            merge(p, copy->in[0].storage, state);
            p->steps[made].in_place = true;
            p->report.in_place++;
            copy->count = copy->chunks = 0; /* nothing is left to do */
            p->report.copies--;
            break;
        }
    }
}

static void share_in_place(heed_plan *p)
{
    for (uint32_t i = 0; i < p->n_steps; i++) {
        step *s = &p->steps[i];

        for (int k = 0; k < s->n_out; k++) {
            uint64_t may = overwritable(s, k);

            if (s->out[k].storage == NO_STORAGE || p->storages[s->out[k].storage].kind != STORAGE_BLOCK ||
                p->storages[s->out[k].storage].merged != s->out[k].storage)
                continue;
            for (int j = 0; j < s->n_in && j < 64; j++)
                if (may >> j & 1 && can_overwrite(p, s, (int32_t)i, j, &s->out[k])) {
                    merge(p, s->out[k].storage, s->in[j].storage);
                    s->in_place = true;
                    p->report.in_place++;
                    break;
                }
        }
    }
}

static bool alive_together(const storage *a, const storage *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static heed_status pack(heed_plan *p, heed_error *err)
{
    heap *h = p->ctx->heap;
    uint32_t *order = heed__alloc(h, (size_t)p->n_storages + 1, sizeof *order), n = 0;
    uint64_t block = 0, sum = 0;

    if (!order)
        return heed__fail_memory(err, p->n_storages * sizeof *order);
    for (uint32_t i = 0; i < p->n_storages; i++)
        if (p->storages[i].kind == STORAGE_BLOCK && p->storages[i].merged == i) {
            uint32_t at = n++;

            for (; at > 0 && p->storages[order[at - 1]].bytes < p->storages[i].bytes; at--)
                order[at] = order[at - 1];
            order[at] = i;
            p->storages[i].bytes = (p->storages[i].bytes + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
        }
    for (uint32_t i = 0; i < n; i++) {
        storage *s = &p->storages[order[i]];
        bool moved = true;

        s->offset = 0;
        sum += s->bytes;
        while (moved) { /* rises past every neighbour in time until none overlaps */
            moved = false;
            for (uint32_t j = 0; j < i; j++) {
                const storage *o = &p->storages[order[j]];

                if (alive_together(s, o) && s->offset < o->offset + o->bytes &&
                    o->offset < s->offset + s->bytes) {
                    s->offset = o->offset + o->bytes;
                    moved = true;
                }
            }
        }
        block = block > s->offset + s->bytes ? block : s->offset + s->bytes;
        if (block > PLAN_BYTES_MOST) { /* before a sum can wrap */
            heed__release(h, order);
            return heed__fail(err, HEED_ERR_LIMIT, "this plan needs more memory than can be addressed");
        }
    }
    heed__release(h, order);
    p->report.block_bytes = block;
    p->report.sum_bytes = sum;
    return HEED_OK;
}

/* Do two outputs lie in this storage? */
static bool shared_by_outputs(const heed_plan *p, uint32_t root)
{
    int n = 0;

    for (uint32_t i = 0; i < p->n_outputs; i++)
        n += p->outputs[i].operand.storage != NO_STORAGE &&
             heed__storage_root(p, p->outputs[i].operand.storage) == root;
    return n > 1;
}

/* A result that fills a storage of its own is made where the caller wants it, unless a later step may still end the run. */
static void make_direct(heed_plan *p)
{
    const int32_t earliest = steps_before_writing(p);

    for (uint32_t i = 0; i < p->n_outputs; i++) {
        const operand *o = &p->outputs[i].operand;
        const uint32_t root = o->storage == NO_STORAGE ? NO_STORAGE : heed__storage_root(p, o->storage);
        const uint64_t bytes = (uint64_t)heed_type_count(&o->view.type) * heed_dtype_size(o->view.type.dtype);

        if (root == NO_STORAGE || p->storages[root].kind != STORAGE_BLOCK || p->storages[root].bytes != bytes ||
            bytes == 0 || o->offset != 0 || p->storages[root].first < earliest || shared_by_outputs(p, root))
            continue;
        p->storages[root].kind = STORAGE_OUTPUT;
        p->storages[root].index = i;
    }
}

heed_status heed__plan_memory(heed_plan *p, heed_error *err)
{
    find_last_readers(p);
    write_through(p);
    share_in_place(p);
    if (p->direct)
        make_direct(p);
    return pack(p, err);
}
