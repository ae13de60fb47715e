/* A model as ONNX: its evaluation graph with an open batch, and its weights. A file of its own, so that a static program that only
 * saves and loads does not link protobuf-c. */

#include "base/error.h"
#include "graph/op.h"
#include <heed/formats.h>

heed_status heed_model_onnx(heed_model *m, const heed_type *inputs, int n_inputs, const char *path,
                            const heed_onnx_opts *opts, heed_error *err)
{
    heed_type types[OP_IN_MAX];
    heed_graph *g = NULL;
    heed_status st;

    if (n_inputs < 0 || n_inputs > OP_IN_MAX)
        return heed__fail(err, HEED_ERR_USAGE, "%d inputs; a model has up to %d", n_inputs, OP_IN_MAX);
    if (heed_model_edits(m, NULL) > 0)
        return heed__fail(err, HEED_ERR_USAGE,
                          "the model is edited (%s): export it as it is, or make the file of the edited graph with "
                          "heed_graph_edit and heed_onnx_write",
                          heed_model_edit_text(m, 0));
    for (int i = 0; i < n_inputs; i++) {
        types[i] = inputs[i];
        if (!(opts && opts->fixed_batch) && types[i].rank > 0)
            types[i].dims[0] = HEED_ONNX_BATCH;
    }
    TRY(heed_model_graph(m, types, n_inputs, HEED_EVAL, &g, err));
    st = heed_onnx_write(heed_model_context(m), path, g, heed_model_weights(m), opts, err);
    heed_graph_free(g);
    return st;
}
