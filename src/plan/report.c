/* The plan as text: what runs, with which kernel and why, on how many bytes. */

#include "base/error.h"
#include "plan/plan.h"

static void print_type(text *t, const heed_type *type)
{
    heed__text_add(t, "%s[", heed_dtype_name(type->dtype));
    for (int i = 0; i < type->rank; i++)
        heed__text_add(t, "%s%lld", i ? "," : "", (long long)type->dims[i]);
    heed__text_add(t, "]");
}

heed_status heed_plan_print(char **out, const heed_plan *p, heed_error *err)
{
    const heed_plan_report *r = &p->report;
    text t;
    char *done;

    heed__text_init(&t, p->ctx->heap, 0);
    heed__text_add(&t, "level %s, %d threads, %lld nodes, %lld steps, %lld copies, %lld in place\n", heed_isa_name(r->isa),
                   r->threads, (long long)r->nodes, (long long)r->steps, (long long)r->copies, (long long)r->in_place);
    heed__text_add(&t, "block %llu bytes (%llu without sharing), weights %llu bytes, %.0f FLOPs a run\n",
                   (unsigned long long)r->block_bytes, (unsigned long long)r->sum_bytes, (unsigned long long)r->weight_bytes,
                   r->flops);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const step *s = &p->steps[i];

        if (s->chunks == 0 && s->in_place == false && s->op->attrs_size == 0 && s->count == 0 && s->n_out == 1)
            continue; /* a copy that was written through */
        heed__text_add(&t, "%4u %-24s %-12s", (unsigned)i, s->op->name, s->kernel->name);
        for (int j = 0; j < s->n_out; j++)
            if (s->out[j].storage != NO_STORAGE) {
                heed__text_add(&t, " ");
                print_type(&t, &s->out[j].view.type);
            }
        heed__text_add(&t, "  %lld x %lld  %.3g FLOP", (long long)s->chunks, (long long)s->chunk, s->flops);
        if (s->in_place)
            heed__text_add(&t, "  in place");
        if (s->passed_over)
            heed__text_add(&t, "  (does not serve: %s)", s->passed_over);
        if (s->path[0])
            heed__text_add(&t, "  @%s", s->path);
        heed__text_add(&t, "\n");
    }
    done = heed__text_take(&t);
    if (!done) {
        heed__text_release(&t);
        return heed__fail_memory(err, 0);
    }
    *out = done;
    return HEED_OK;
}
