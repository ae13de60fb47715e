/* The plan as text and as rows: what runs, with which kernel and why, on how many bytes. */

#include "base/error.h"
#include "plan/plan.h"

#include <stdio.h>

uint64_t heed__step_bytes(const step *s)
{
    const bool patch = s->op->flags & OP_PATCHES && s->in_place;
    uint64_t bytes = 0;

    for (int i = patch ? 1 : 0; i < s->n_in + s->n_out; i++) {
        const operand *o = i < s->n_in ? &s->in[i] : patch ? &s->in[1] : &s->out[i - s->n_in];

        if (o->storage != NO_STORAGE)
            bytes += (uint64_t)heed_type_count(&o->view.type) * heed_dtype_size(o->view.type.dtype);
    }
    return bytes;
}

/* False for a copy that was written through: its source lies in its place already. */
static bool step_works(const step *s)
{
    return s->chunks != 0 || s->in_place || s->op->attrs_size != 0 || s->count != 0 || s->n_out != 1;
}

int64_t heed_plan_steps(const heed_plan *p)
{
    int64_t n = 0;

    for (uint32_t i = 0; i < p->n_steps; i++)
        n += step_works(&p->steps[i]);
    return n;
}

static heed_plan_step describe(const heed_plan *p, uint32_t index)
{
    const step *s = &p->steps[index];
    heed_plan_step d = { .index = index,
                         .op = s->op->name,
                         .kernel = s->kernel->name,
                         .path = s->path,
                         .passed_over = s->passed_over ? s->passed_over : "",
                         .chunks = s->chunks,
                         .chunk = s->chunk,
                         .bytes = heed__step_bytes(s),
                         .scratch_bytes = s->shared_bytes,
                         .offset = -1,
                         .flops = s->flops,
                         .in_place = s->in_place };

    for (int j = 0; j < s->n_out; j++) {
        if (s->out[j].storage == NO_STORAGE)
            continue;
        if (d.outputs++ == 0) {
            const storage *at = &p->storages[heed__storage_root(p, s->out[j].storage)];

            d.type = s->out[j].view.type;
            if (at->kind == STORAGE_BLOCK)
                d.offset = (int64_t)at->offset + s->out[j].offset;
        }
    }
    if (s->scratch != NO_STORAGE)
        d.scratch_bytes += p->storages[heed__storage_root(p, s->scratch)].bytes;
    return d;
}

heed_plan_step heed_plan_step_at(const heed_plan *p, int64_t i)
{
    for (uint32_t at = 0; at < p->n_steps; at++)
        if (step_works(&p->steps[at]) && i-- == 0)
            return describe(p, at);
    return (
        heed_plan_step){ .index = -1, .op = "", .kernel = "", .path = "", .passed_over = "", .offset = -1 };
}

/* "f32[10,16,28,28]" and more outputs as "+1" */
static void type_text(char to[96], const heed_plan_step *s)
{
    size_t n = (size_t)snprintf(to, 96, "%s[", heed_dtype_name(s->type.dtype));

    for (int i = 0; i < s->type.rank && n < 80; i++)
        n += (size_t)snprintf(to + n, 96 - n, "%s%lld", i ? "," : "", (long long)s->type.dims[i]);
    n += (size_t)snprintf(to + n, 96 - n, "]");
    if (s->outputs > 1 && n < 90)
        (void)snprintf(to + n, 96 - n, "+%d", s->outputs - 1);
}

static void print_step(text *t, const heed_plan_step *s)
{
    char type[96], chunks[48], place[24];

    type_text(type, s);
    (void)snprintf(chunks, sizeof chunks, "%lld x %lld", (long long)s->chunks, (long long)s->chunk);
    if (s->offset >= 0)
        (void)snprintf(place, sizeof place, "%lld", (long long)s->offset);
    else
        (void)snprintf(place, sizeof place, "weight");
    heed__text_add(t, "%4lld  %-21s %-16s %-22s %11s %10s %11llu %10.4g", (long long)s->index, s->op,
                   s->kernel, type, chunks, place, (unsigned long long)s->bytes, s->flops / 1e6);
    if (s->path[0])
        heed__text_add(t, "  @%s", s->path);
    if (s->in_place)
        heed__text_add(t, "  in place");
    if (s->passed_over[0])
        heed__text_add(t, "  (does not serve: %s)", s->passed_over);
    heed__text_add(t, "\n");
}

heed_status heed_plan_print(char **out, const heed_plan *p, heed_error *err)
{
    const heed_plan_report *r = &p->report;
    text t;
    char *done;

    heed__text_init(&t, p->ctx->heap, 0);
    heed__text_add(&t, "level %s, %d threads, %lld nodes, %lld steps, %lld copies, %lld in place\n",
                   heed_isa_name(r->isa), r->threads, (long long)r->nodes, (long long)r->steps,
                   (long long)r->copies, (long long)r->in_place);
    heed__text_add(&t, "block %llu bytes (%llu without sharing), weights %llu bytes, %.0f FLOPs a run\n",
                   (unsigned long long)r->block_bytes, (unsigned long long)r->sum_bytes,
                   (unsigned long long)r->weight_bytes, r->flops);
    heed__text_add(&t, "%4s  %-21s %-16s %-22s %11s %10s %11s %10s  %s\n", "step", "op", "kernel", "output",
                   "chunks", "offset", "bytes", "MFLOP",
                   "scope, and why this kernel where it is not the first");
    for (uint32_t i = 0; i < p->n_steps; i++)
        if (step_works(&p->steps[i])) {
            const heed_plan_step s = describe(p, i);

            print_step(&t, &s);
        }
    done = heed__text_take(&t);
    if (!done) {
        heed__text_release(&t);
        return heed__fail_memory(err, 0);
    }
    *out = done;
    return HEED_OK;
}
