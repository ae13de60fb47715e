/* Recording of runs, the trace, and the table by kernel.
 *
 * A step gives one event, and one more for each thread that took part: from the begin of its first chunk to
 * the end of its last. Threads write their own lane only, and the pool's end of a step makes it visible.
 * GFLOP/s of a kernel is the sum of operations over the sum of seconds; its share of the peak is against one
 * thread's measured multiply-adds times the threads. */

#include "session/profile.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "cpu/peak.h"

#include <stdio.h>
#include <string.h>

#define EVENTS_USUAL 65536
#define EVENTS_MOST (INT64_C(1) << 26)

heed_status heed_profile_new(heed_profile **out, heed_context *ctx, const heed_profile_opts *opts,
                             heed_error *err)
{
    const int64_t room = opts && opts->events ? opts->events : EVENTS_USUAL;
    heed_profile *p;

    if (room < 1 || room > EVENTS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "a profile of %lld events: it may have 1 to %lld",
                          (long long)room, (long long)EVENTS_MOST);
    p = heed__alloc(ctx->heap, 1, sizeof *p);
    if (!p)
        return heed__fail_memory(err, sizeof *p);
    p->ctx = ctx;
    p->room = room;
    p->n_labels = 1;
    p->threads = heed__pool_threads(ctx->pool);
    p->events = heed__alloc(ctx->heap, (size_t)room, sizeof *p->events);
    p->lanes = heed__alloc_raw(ctx->heap, PROFILE_LANES, sizeof *p->lanes, 64);
    if (!p->events || !p->lanes) {
        heed_profile_free(p);
        return heed__fail_memory(err, (uint64_t)room * sizeof *p->events);
    }
    p->zero = heed__os_seconds();
    *out = p;
    return HEED_OK;
}

void heed_profile_free(heed_profile *p)
{
    if (!p)
        return;
    heed__release(p->ctx->heap, p->events);
    heed__release(p->ctx->heap, p->lanes);
    heed__release(p->ctx->heap, p);
}

void heed_profile_switch(heed_profile *p, heed_profile_state state)
{
    p->state = state;
}

void heed_profile_label(heed_profile *p, const char *label)
{
    p->label = 0;
    if (!label || !label[0] || p->n_labels == PROFILE_LABELS)
        return;
    p->label = p->n_labels++;
    (void)snprintf(p->labels[p->label], sizeof p->labels[0], "%s", label);
}

int64_t heed_profile_count(const heed_profile *p)
{
    return p->n;
}

const heed_profile_event *heed_profile_at(const heed_profile *p, int64_t i)
{
    return &p->events[i];
}

int64_t heed_profile_dropped(const heed_profile *p)
{
    return p->dropped;
}

/* ---- recording: no heap call from here ---- */

void heed__profile_run(heed_profile *p)
{
    p->runs++;
}

void heed__profile_step_begin(heed_profile *p)
{
    for (int i = 0; i < PROFILE_LANES && i < p->threads; i++)
        p->lanes[i].begin = p->lanes[i].end = 0;
    p->step_began = heed__os_seconds();
}

void heed__profile_chunk(heed_profile *p, int worker, double began)
{
    profile_lane *lane = &p->lanes[worker < PROFILE_LANES ? worker : 0];

    if (worker >= PROFILE_LANES)
        return;
    if (lane->end == 0)
        lane->begin = began;
    lane->end = heed__os_seconds();
}

static void count_kernel(heed_profile *p, const step *t, double seconds, uint64_t bytes)
{
    profile_kernel *k = p->kernels;

    while (k < p->kernels + p->n_kernels && (k->op != t->op->name || k->kernel != t->kernel->name))
        k++;
    if (k == p->kernels + p->n_kernels) {
        if (p->n_kernels == PROFILE_KERNELS)
            return;
        *k = (profile_kernel){ .op = t->op->name, .kernel = t->kernel->name };
        p->n_kernels++;
    }
    k->calls++;
    k->seconds += seconds;
    k->flops += t->flops;
    k->bytes += (double)bytes;
}

static void add_event(heed_profile *p, const heed_profile_event *e, double began, double ended, int lane)
{
    heed_profile_event *to;

    if (p->n == p->room) {
        p->dropped++;
        return;
    }
    to = &p->events[p->n++];
    *to = *e;
    to->lane = lane;
    to->begin = began - p->zero;
    to->seconds = ended - began;
}

void heed__profile_step_end(heed_profile *p, const step *t, int64_t index)
{
    const double now = heed__os_seconds();
    const size_t length = strlen(t->path);
    heed_profile_event e = { .op = t->op->name,
                             .kernel = t->kernel->name,
                             .label = p->labels[p->label],
                             .run = p->runs,
                             .step = index,
                             .flops = t->flops,
                             .bytes = heed__step_bytes(t) };

    (void)snprintf(e.path, sizeof e.path, "%s",
                   length < sizeof e.path ? t->path : t->path + length + 1 - sizeof e.path);
    p->steps++;
    count_kernel(p, t, now - p->step_began, e.bytes);
    add_event(p, &e, p->step_began, now, -1);
    for (int i = 0; i < PROFILE_LANES && i < p->threads; i++)
        if (p->lanes[i].end > 0)
            add_event(p, &e, p->lanes[i].begin, p->lanes[i].end, i);
}

/* ---- the trace ---- */

static void put_number(text *t, const char *key, double value)
{
    heed__text_add(t, "\"%s\":%.6g", key, value);
}

static void put_string(text *t, const char *key, const char *value)
{
    heed__text_add(t, "\"%s\":", key);
    heed__text_json(t, value, strlen(value));
}

/* Lane -1 is thread 0 of the trace. */
static void put_event(text *t, const heed_profile_event *e)
{
    heed__text_add(t, ",\n{");
    put_string(t, "name", e->op);
    heed__text_add(t, ",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{",
                   e->lane < 0 ? "step" : "share", e->lane + 1, e->begin * 1e6, e->seconds * 1e6);
    put_string(t, "path", e->path);
    heed__text_add(t, ",");
    put_string(t, "kernel", e->kernel);
    heed__text_add(t, ",\"run\":%lld,\"step\":%lld", (long long)e->run, (long long)e->step);
    if (e->label[0]) {
        heed__text_add(t, ",");
        put_string(t, "label", e->label);
    }
    if (e->lane < 0) {
        heed__text_add(t, ",");
        put_number(t, "ms", e->seconds * 1e3);
        heed__text_add(t, ",\"flop\":%.0f,\"bytes\":%llu,", e->flops, (unsigned long long)e->bytes);
        put_number(t, "gflops", e->seconds > 0 ? e->flops / e->seconds * 1e-9 : 0);
        heed__text_add(t, ",");
        put_number(t, "gbs", e->seconds > 0 ? (double)e->bytes / e->seconds * 1e-9 : 0);
    }
    heed__text_add(t, "}}");
}

static void put_head(text *t, const heed_profile *p)
{
    heed__text_add(
        t, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"heed\":\"%s\",\"isa\":\"%s\",\"threads\":%d,",
        HEED_VERSION, heed_isa_name(p->ctx->isa), p->threads);
    heed__text_add(t, "\"runs\":%lld,\"steps\":%lld,\"events\":%lld,\"dropped\":%lld},\n\"traceEvents\":[\n",
                   (long long)p->runs, (long long)p->steps, (long long)p->n, (long long)p->dropped);
    heed__text_add(t, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"heed\"}}");
    for (int i = -1; i < PROFILE_LANES && i < p->threads; i++) {
        heed__text_add(
            t, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":", i + 1);
        if (i < 0)
            heed__text_add(t, "\"steps of the plan\"}}");
        else
            heed__text_add(t, "\"thread %d\"}}", i);
    }
}

static heed_status flush(file_writer *w, text *t, heed_error *err)
{
    if (t->failed != HEED_OK)
        return heed__fail_memory(err, t->size);
    TRY(heed__file_put(w, t->data, t->size, err));
    heed__text_clear(t);
    return HEED_OK;
}

heed_status heed_profile_write(const heed_profile *p, const char *path, heed_error *err)
{
    file_writer *w = NULL;
    heed_status st;
    text t;

    heed__text_init(&t, p->ctx->heap, 0);
    STEP(heed__file_begin(&w, p->ctx, path, err));
    put_head(&t, p);
    for (int64_t i = 0; i < p->n; i++) {
        put_event(&t, &p->events[i]);
        if (t.size > 60000)
            STEP(flush(w, &t, err));
    }
    heed__text_add(&t, "\n]}\n");
    STEP(flush(w, &t, err));
    st = heed__file_commit(w, err);
    w = NULL;
done:
    heed__file_cancel(w);
    heed__text_release(&t);
    return st;
}

/* ---- the table ---- */

#define ROWS_SHOWN 24

static void put_row(text *t, const profile_kernel *k, double all, double peak)
{
    const double gflops = k->seconds > 0 ? k->flops / k->seconds * 1e-9 : 0,
                 gbs = k->seconds > 0 ? k->bytes / k->seconds * 1e-9 : 0;

    heed__text_add(t, "%6.1f %% %9.3f %9lld %9.2f ", all > 0 ? 100 * k->seconds / all : 0, k->seconds * 1e3,
                   (long long)k->calls, gflops);
    if (peak > 0)
        heed__text_add(t, "%6.1f %%", 100 * gflops / peak);
    else
        heed__text_add(t, "%8s", "-");
    heed__text_add(t, " %8.2f  %s, %s\n", gbs, k->op, k->kernel);
}

heed_status heed_profile_summary(char **out, const heed_profile *p, heed_error *err)
{
    const double one = heed__peak_gflops(p->ctx->isa), peak = one * p->threads;
    bool shown[PROFILE_KERNELS] = { false };
    double all = 0;
    char *done;
    text t;

    for (int i = 0; i < p->n_kernels; i++)
        all += p->kernels[i].seconds;
    heed__text_init(&t, p->ctx->heap, 0);
    heed__text_add(&t, "%lld runs, %lld steps, %.3f s in kernels; peak %d x %.1f GFLOP/s at level %s\n",
                   (long long)p->runs, (long long)p->steps, all, p->threads, one, heed_isa_name(p->ctx->isa));
    heed__text_add(&t, "%8s %9s %9s %9s %8s %8s  %s\n", "share", "ms", "calls", "GFLOP/s", "of peak", "GB/s",
                   "op, kernel");
    for (int row = 0; row < p->n_kernels && row < ROWS_SHOWN; row++) {
        int most = -1;

        for (int i = 0; i < p->n_kernels; i++)
            if (!shown[i] && (most < 0 || p->kernels[i].seconds > p->kernels[most].seconds))
                most = i;
        shown[most] = true;
        put_row(&t, &p->kernels[most], all, peak);
    }
    if (p->n_kernels > ROWS_SHOWN)
        heed__text_add(&t, "%d kernels more\n", p->n_kernels - ROWS_SHOWN);
    if (p->dropped > 0)
        heed__text_add(
            &t,
            "the first %lld events are kept; %lld more had no room in the trace, this table counts them\n",
            (long long)p->n, (long long)p->dropped);
    done = heed__text_take(&t);
    if (!done) {
        heed__text_release(&t);
        return heed__fail_memory(err, 0);
    }
    *out = done;
    return HEED_OK;
}
