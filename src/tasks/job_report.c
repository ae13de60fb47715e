/* report.html at the end of a training: the run that was just written is opened as anybody opens it, and
 * judged by the validation part, which is at hand. The test part stays unread. */

#include "tasks/job.h"
#include "tasks/run_report.h"

/* The run is whole by now: that its page cannot be written is told, and is no failure of the training. */
static heed_status tell(job *j, heed_status st, const heed_error *why)
{
    text t;

    if (st == HEED_OK || st == HEED_ERR_MEMORY)
        return st == HEED_OK ? st : heed__fail(j->err, st, "%s", why->text);
    heed__text_init(&t, j->ctx->heap, 0);
    heed__text_add(&t, "the run is whole, but " RUN_REPORT " was not written: %s", why->text);
    if (j->opts->notice && !t.failed)
        j->opts->notice(j->opts->user, t.data);
    heed__text_release(&t);
    return HEED_OK;
}

heed_status heed__job_report(job *j)
{
    const heed_report_opts opts = { .explained = HEED_SET(3), .force = true };
    const report_samples s = { .part = "validation",
                               .data = j->n_held > 0 ? j->data : NULL,
                               .why = "there is none; heed report evaluates the test part.",
                               .order = j->held,
                               .n = j->n_held,
                               .training = j->data,
                               .train = j->order,
                               .n_train = j->n_train,
                               .validation = j->held,
                               .n_validation = j->n_held };
    heed_error why = { 0 };
    char *path = NULL;
    heed_run *run = NULL;
    heed_status st;

    if (!j->recipe->values->train.report)
        return HEED_OK;
    path = heed__path_join(j->ctx, j->opts->out, RUN_REPORT);
    if (!path)
        return heed__fail_memory(j->err, 0);
    STEP(heed_run_open(&run, j->ctx, j->opts->out, &why));
    STEP(heed__run_report(run, &s, path, &opts, &why));
done:
    heed_run_free(run);
    heed__release(j->ctx->heap, path);
    return tell(j, st, &why);
}
