/* heed/graph.h: building graphs of tensor operations.
 *
 * A builder makes one graph. Values are small handles; 0 is poison. A call that fails stores the first error in the builder
 * and returns poison; calls on poison do nothing; heed_builder_finish reports the error once. So a model reads as one
 * expression and needs one check. A builder and its values belong to one thread.
 *
 *   heed_builder *b;
 *   heed_builder_new(&b, ctx, &err);
 *   heed_value x = heed_input(b, "x", HEED_TYPE(HEED_F32, 4, 2));
 *   heed_output(b, "y", heed_relu(b, heed_linear(b, "fc", x, 8, NULL)));
 *   heed_builder_finish(&graph, b, &err);              // b may be freed now
 */
#ifndef HEED_GRAPH_H
#define HEED_GRAPH_H

#include <heed/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A value of the graph under construction: one output of one node. {0} is poison, and "absent" for optional inputs. */
typedef struct heed_value {
    uint32_t id;
} heed_value;

typedef struct heed_builder heed_builder;

/** A finished graph; immutable. */
typedef struct heed_graph heed_graph;

/** How the elements of a new parameter or state begin. Random numbers are Philox addressed by the leaf's path, so they do
 *  not depend on the order of construction. */
typedef enum heed_init_kind {
    HEED_INIT_ZEROS = 0,
    HEED_INIT_CONSTANT,        /**< a */
    HEED_INIT_UNIFORM,         /**< U(a, b) */
    HEED_INIT_NORMAL,          /**< N(a, b^2), a the mean, b the standard deviation */
    HEED_INIT_XAVIER_UNIFORM,  /**< U(+-gain sqrt(6 / (fan_in + fan_out))), gain = a (0: 1). Glorot 2010 */
    HEED_INIT_XAVIER_NORMAL,   /**< N(0, gain^2 2 / (fan_in + fan_out)) */
    HEED_INIT_KAIMING_UNIFORM, /**< U(+-gain sqrt(3 / fan_in)), gain = a (0: sqrt 2). He 2015 */
    HEED_INIT_KAIMING_NORMAL   /**< N(0, gain^2 / fan_in) */
} heed_init_kind;

/** fan_in = dims[1] * dims[2] * ..., fan_out = dims[0] * dims[2] * ..., as PyTorch counts a weight [out, in, ...].
 *  zero_row: a row of dims[0] that begins as zeros (the padding row of an embedding). */
typedef struct heed_init {
    heed_init_kind kind;
    float a, b;
    heed_maybe_i64 zero_row;
} heed_init;

/** Makes a builder. HEED_ERR_MEMORY. */
HEED_MUST_CHECK HEED_API heed_status heed_builder_new(heed_builder **out, heed_context *ctx, heed_error *err);

/** Frees the builder and, if it was not finished, the graph in it. NULL is fine. */
HEED_API void heed_builder_free(heed_builder *b);

/** Ends building: checks the graph and moves it to *out. On failure the first error of any builder call, and *out stays.
 *  The builder can then only be freed. */
HEED_MUST_CHECK HEED_API heed_status heed_builder_finish(heed_graph **out, heed_builder *b, heed_error *err);

/** Frees a graph; NULL is fine. */
HEED_API void heed_graph_free(heed_graph *g);

/** What the graph is for: layers read it (dropout, batch norm). A new builder is for evaluation. */
typedef enum heed_mode { HEED_EVAL = 0, HEED_TRAIN } heed_mode;
HEED_API void heed_set_mode(heed_builder *b, heed_mode mode);
HEED_API heed_mode heed_get_mode(const heed_builder *b);

/** Every node made until the matching pop lies in this scope; names of parameters become "scope.name". */
HEED_API void heed_scope_push(heed_builder *b, const char *name);
HEED_API void heed_scope_pop(heed_builder *b);

/** A tensor given at each run. Names are unique. */
HEED_API heed_value heed_input(heed_builder *b, const char *name, heed_type type);

/** A tensor copied into the graph. */
HEED_API heed_value heed_constant(heed_builder *b, heed_tensor tensor);

/** A constant scalar (rank 0); every arithmetic op broadcasts it. */
HEED_API heed_value heed_scalar(heed_builder *b, heed_dtype dtype, double value);

/** A trained tensor; lives in heed_weights under its scope path. The same path twice is an error. init NULL: zeros. */
HEED_API heed_value heed_param(heed_builder *b, const char *name, heed_type type, const heed_init *init);

/** The parameter that an earlier heed_param made under this full path: shared, saved once. */
HEED_API heed_value heed_param_tie(heed_builder *b, const char *path);

/** A tensor that lives in heed_weights and is changed only by heed_assign: running statistics, moments, caches. */
HEED_API heed_value heed_state(heed_builder *b, const char *name, heed_type type, const heed_init *init);

/** At the end of a run `state` becomes `value`; all reads in the run see the old one. At most once for a state. */
HEED_API void heed_assign(heed_builder *b, heed_value state, heed_value value);

/** The state every random op reads: i64 [2] = {seed, step}, named "rng". Made on first use. */
HEED_API heed_value heed_rng(heed_builder *b);

/** Names a result of the graph. */
HEED_API void heed_output(heed_builder *b, const char *name, heed_value value);

/** Names a value "scope.name" so that a session can be asked for it. An untapped value costs nothing, a tapped one never
 *  changes any result. */
HEED_API void heed_tap(heed_builder *b, const char *name, heed_value value);

/** Type of a value; rank 0 of f32 for poison. */
HEED_API heed_type heed_value_type(const heed_builder *b, heed_value value);

/** Size along an axis, negative axes from the end; 0 for poison or when there is no such axis (which is then the error). */
HEED_API int64_t heed_dim(heed_builder *b, heed_value value, int axis);
HEED_API int heed_rank(const heed_builder *b, heed_value value);

/** HEED_OK, or the first error so far (copied into *err when given). */
HEED_API heed_status heed_builder_status(const heed_builder *b, heed_error *err);

/** Gradients: dwrt[i] = d loss / d wrt[i], for a scalar loss; zeros where the loss does not depend on wrt[i]. Adds nodes to the
 *  same builder, so gradients of gradients work. */
HEED_API void heed_grad(heed_builder *b, heed_value loss, const heed_value *wrt, int n, heed_value *dwrt);

/** Gradient with a given upstream: sum over outputs of <y[i], dy[i]> differentiated by wrt. */
HEED_API void heed_grad_of(heed_builder *b, const heed_value *y, const heed_value *dy, int outputs,
                           const heed_value *wrt, int n, heed_value *dwrt);

/** All parameters made so far, in order of their making: their number, and up to `most` of them in *out. */
HEED_API int heed_params(const heed_builder *b, heed_value *out, int most);

/** Full path of a parameter, state or input; "" for any other value. Borrowed from the builder. */
HEED_API const char *heed_value_path(const heed_builder *b, heed_value value);

typedef enum heed_graph_form {
    HEED_GRAPH_TEXT = 0, /**< stable: the golden format of tests */
    HEED_GRAPH_MERMAID,
    HEED_GRAPH_SVG       /**< a drawing, layer by layer; HEED_ERR_LIMIT for graphs too large to look at */
} heed_graph_form;

/** The graph as text in a block of the context's allocator, given back by heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_graph_print(char **out, const heed_graph *g, heed_graph_form form, heed_error *err);
HEED_API void heed_text_free(heed_context *ctx, char *text);

/** Number of nodes. */
HEED_API int64_t heed_graph_nodes(const heed_graph *g);

#ifdef __cplusplus
}
#endif
#endif
