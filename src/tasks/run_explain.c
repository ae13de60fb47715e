/* heed_run_explain: a run's own normalisation, names and model around heed_explain. A removed cell is 0 after
 * normalisation, which is the mean of the training pictures. */

#include "tasks/run.h"

#include "base/error.h"

static heed_status run_explain_check(const heed_run *r, const heed_tensor *picture, heed_error *err)
{
    const heed_type want = heed_run_input_type(r, 1), *is = &picture->type;

    if (picture->data && is->dtype == HEED_U8 && is->rank == 3 && is->dims[0] == want.dims[1] &&
        is->dims[1] == want.dims[2] && is->dims[2] == want.dims[3])
        return HEED_OK;
    return heed__fail(err, HEED_ERR_SHAPE, "explain: the model takes one picture u8 [%lld,%lld,%lld]",
                      (long long)want.dims[1], (long long)want.dims[2], (long long)want.dims[3]);
}

heed_status heed_run_explain(heed_explanation **out, heed_run *r, heed_tensor picture, const char *name,
                             int64_t truth, const heed_explain_opts *opts, heed_error *err)
{
    heed_explain_input in = { .x.type = heed_run_input_type(r, 1),
                              .picture = picture,
                              .name = name,
                              .class_names = r->config.class_names,
                              .truth = { truth >= 0, truth } };
    arena a;
    heed_status st;

    TRY(run_explain_check(r, &picture, err));
    heed__arena_init(&a, r->ctx->heap);
    in.x.data = heed__arena_alloc(&a, (size_t)heed_type_count(&in.x.type), sizeof(float));
    in.model = heed__arena_format(&a, "%s, %s", r->config.architecture, r->folder);
    if (in.x.data && in.model) {
        heed_run_normalise(r, picture, in.x.data);
        st = heed_explain(out, r->model, &in, opts, err);
    } else {
        st = heed__fail_memory(err, (uint64_t)heed_type_count(&in.x.type) * sizeof(float));
    }
    heed__arena_release(&a);
    return st;
}
