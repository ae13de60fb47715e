/* An edited run: texts become edits of its model, once it is sure that its network has the places they name. */

#include "base/error.h"
#include "tasks/run.h"

/* Makes the edits on the network for one picture, and throws it away. */
static heed_status edit_try(heed_run *r, const heed_edit *edits, int n, heed_error *err)
{
    const heed_type input = heed_run_input_type(r, 1);
    heed_graph *g = NULL, *edited = NULL;
    heed_status st;

    STEP(heed_model_graph(r->model, &input, 1, HEED_EVAL, &g, err));
    STEP(heed_graph_edit(&edited, g, edits, n, err));
done:
    heed_graph_free(edited);
    heed_graph_free(g);
    return st;
}

heed_status heed_run_edit(heed_run *r, const char *const *texts, heed_error *err)
{
    heed_edits *edits = NULL;
    const heed_edit *list;
    heed_status st;
    int n;

    STEP(heed_edits_open(&edits, r->ctx, texts, err));
    list = heed_edits_list(edits, &n);
    STEP(edit_try(r, list, n, err));
    st = heed_model_edit(r->model, list, n, err);
done:
    heed_edits_close(edits);
    return st;
}

heed_status heed__run_unedited(const heed_run *r, const char *what, heed_error *err)
{
    if (heed_model_edits(r->model, NULL) == 0)
        return HEED_OK;
    return heed__fail(err, HEED_ERR_USAGE,
                      "%s is of a run as it was trained, and this one is edited (%s): take the edits away",
                      what, heed_model_edit_text(r->model, 0));
}
