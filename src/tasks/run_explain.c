/* heed_run_explain: a run's own normalisation, names and model around heed_explain. A removed cell is 0 after
 * normalisation, which is the mean of the training pictures. */

#include "base/context.h"
#include "base/error.h"
#include <heed/task.h>

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
    heap *h = heed_model_context(heed_run_model(r))->heap;
    heed_explain_input in = {
        .x.type = heed_run_input_type(r, 1), .picture = picture, .name = name, .truth = { truth >= 0, truth }
    };
    const char **names = NULL;
    heed_status st;

    TRY(run_explain_check(r, &picture, err));
    in.x.data = heed__alloc(h, (size_t)heed_type_count(&in.x.type), sizeof(float));
    names = heed__alloc(h, (size_t)heed_run_classes(r), sizeof *names);
    if (!in.x.data || !names) {
        st = heed__fail_memory(err, (uint64_t)heed_type_count(&in.x.type) * sizeof(float));
        goto done;
    }
    for (int64_t i = 0; i < heed_run_classes(r); i++)
        names[i] = heed_run_class(r, i);
    in.class_names = names;
    in.model = heed_recipe_get(heed_run_recipe(r), "model.name");
    picture.type = in.x.type;
    picture.type.dtype = HEED_U8;
    heed_run_normalise(r, picture, in.x.data);
    st = heed_explain(out, heed_run_model(r), &in, opts, err);
done:
    heed__release(h, (void *)names);
    heed__release(h, in.x.data);
    return st;
}
