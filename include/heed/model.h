/* heed/model.h: a model is a build function, its configuration and weights; plans for the shapes it meets are
 * made and kept. */
#ifndef HEED_MODEL_H
#define HEED_MODEL_H

#include <heed/edit.h>
#include <heed/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Builds the network on inputs of concrete shapes and returns its main result (logits). Called once for each
 * set of shapes and each mode; the same names must come out each time. `config` is what the model was made
 * with. */
typedef heed_value heed_build_fn(heed_builder *b, const heed_value *inputs, const void *config);

typedef struct heed_model heed_model;

typedef struct heed_model_opts {
    uint64_t seed;
    int plans;             /**< plans kept, least recently used out; 0: 8 */
    heed_weights *weights; /**< shared store; NULL: one of its own */
} heed_model_opts;

/** A model; config is borrowed and must outlive it. Weights are made when a plan first needs them. */
HEED_MUST_CHECK HEED_API heed_status heed_model_new(heed_model **out, heed_context *ctx, heed_build_fn *build,
                                                    const void *config, const heed_model_opts *opts,
                                                    heed_error *err);
HEED_API void heed_model_free(heed_model *m);

/** Evaluates the network: outputs[0] is the result of the build function; further ones are the taps named by
 * heed_model_taps. Results whose memory is not wanted may be left out, or have data NULL. Where every result has memory that overlaps
 * no input and no other, it is computed there; the first run for which this is not so makes another plan for these inputs, which copies
 * results, with the same bytes. */
HEED_MUST_CHECK HEED_API heed_status heed_model_run(heed_model *m, const heed_tensor *inputs, int n_inputs,
                                                    const heed_tensor *outputs, int n_outputs,
                                                    heed_error *err);

/** Type of the result for these inputs (makes the plan), and of taps. Output 0 is the result. */
HEED_MUST_CHECK HEED_API heed_status heed_model_output_type(heed_model *m, const heed_type *inputs,
                                                            int n_inputs, int output, heed_type *out,
                                                            heed_error *err);

/** Taps delivered by later runs, ended by NULL (copied); NULL: none. */
HEED_MUST_CHECK HEED_API heed_status heed_model_taps(heed_model *m, const char *const *taps, heed_error *err);

/** Edits of later runs (copied, tensors too), in place of those before; n 0: none. Names are looked up when a plan is made,
 * where an edit that cannot be made comes out: heed_graph_edit says which. Without edits a model runs as if there had
 * never been any, bit by bit. */
HEED_MUST_CHECK HEED_API heed_status heed_model_edit(heed_model *m, const heed_edit *edits, int n, heed_error *err);
/** How many edits there are; them; one as text (heed_edit_print). Borrowed until the next heed_model_edit. */
HEED_API int heed_model_edits(const heed_model *m, const heed_edit **edits);
HEED_API const char *heed_model_edit_text(const heed_model *m, int i);

/** The plan for these inputs in evaluation, borrowed until the next call on the model. */
HEED_MUST_CHECK HEED_API heed_status heed_model_plan(heed_model *m, const heed_type *inputs, int n_inputs,
                                                     const heed_plan **out, heed_error *err);

/** The graph for these inputs, without the model's edits: the caller frees it. */
HEED_MUST_CHECK HEED_API heed_status heed_model_graph(heed_model *m, const heed_type *inputs, int n_inputs,
                                                      heed_mode mode, heed_graph **out, heed_error *err);

/** Records later runs in the profile (borrowed); NULL: nothing. */
HEED_API void heed_model_profile(heed_model *m, heed_profile *p);

/** Makes all weights now, for inputs of these types. */
HEED_MUST_CHECK HEED_API heed_status heed_model_init(heed_model *m, const heed_type *inputs, int n_inputs,
                                                     heed_error *err);

HEED_API heed_context *heed_model_context(const heed_model *m);
HEED_API heed_weights *heed_model_weights(heed_model *m); /**< borrowed */
HEED_API heed_build_fn *heed_model_build(const heed_model *m);
HEED_API const void *heed_model_config(const heed_model *m);
HEED_API uint64_t heed_model_seed(const heed_model *m);

/** Parameters: trained numbers in all. */
HEED_API int64_t heed_model_parameters(const heed_model *m);

/* ---- self-test: does this model still compute what it computed when it was made? ---- */

/** Inputs that anyone can make again: u8 pictures of Philox words (seed, "self_test", sample, pixel), seen as
 * (pixel / 255 - mean[channel]) / std[channel]. */
typedef struct heed_self_test_inputs {
    heed_type type;          /**< f32 [samples, channels, ...] */
    uint64_t seed;
    const float *mean, *std; /**< [channels] each; NULL: 0 and 1 */
} heed_self_test_inputs;

/** What came out at first. */
typedef struct heed_self_test {
    heed_isa isa;         /**< level that computed it */
    char sha256[65];      /**< of the outputs' bytes */
    int64_t n;            /**< outputs in all; 0: none were written down */
    const float *outputs; /**< [n] */
} heed_self_test;

typedef enum heed_self_test_verdict {
    HEED_SELF_TEST_NONE = 0, /**< there is nothing to compare with */
    HEED_SELF_TEST_SAME,     /**< the same bits */
    HEED_SELF_TEST_CLOSE,    /**< other bits, every number within the bound: another level, compiler or version */
    HEED_SELF_TEST_OTHER     /**< other numbers: weights, configuration or build are not those of then */
} heed_self_test_verdict;

#define HEED_SELF_TEST_BOUND 1e-4

typedef struct heed_self_test_result {
    heed_self_test_verdict verdict;
    double difference; /**< max |now - then| / max(1, max |then|) */
    heed_isa then, now;
} heed_self_test_result;

/** Runs the model on the inputs: outputs[0..n) are its result f32, n as many as it has (HEED_ERR_SHAPE); their digest
 * is written as 64 hex digits and a terminator. */
HEED_MUST_CHECK HEED_API heed_status heed_model_self_test_make(heed_model *m, const heed_self_test_inputs *in,
                                                               float *outputs, int64_t n, char sha256[65],
                                                               heed_error *err);

/** Runs it again and compares with what came out then. A model of other outputs is HEED_SELF_TEST_OTHER with an infinite
 * difference. */
HEED_MUST_CHECK HEED_API heed_status heed_model_self_test(heed_self_test_result *out, heed_model *m,
                                                          const heed_self_test_inputs *in,
                                                          const heed_self_test *then, heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
