/* vectors [DIR] [--list] [--spoil]: runs a folder of layer cases and compares outputs, gradients, buffers and ten-step losses with
 * what PyTorch computed in f64 (tests/golden/layers/index.md). Each case runs on every level of this CPU.
 *
 * Format heed-layer-case/1, one safetensors file a case. Metadata: module, args (JSON, PyTorch's spelling), mode, atol, rtol.
 * Tensors: in.<name>, param.<name>, dout.<name>; wanted: out.<name>, din.<name>, dparam.<name>, after.<name>. A module of the
 * table at the end is a function from a case to a value; a file of another module is counted as unsupported. An argument that
 * the function did not read, a parameter that the layer did not make, or one it made beyond PyTorch's, is a failure.
 *
 * --list prints a line a case; --spoil adds one percent to all that is wanted: then nothing may pass.
 * The last line is "vectors: N passed, N failed, N unsupported"; exit code 1 when one failed. */
#include "graph/op.h"
#include "support/harness.h"
#include "support/trial.h"
#include <heed/formats.h>
#include <heed/nn.h>
#include <heed/train.h>

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TENSORS 128
#define SCOPE "m" /* layers get this name, so that their parameters are m.weight and so on */

typedef struct layer_case {
    heed_context *ctx;
    heed_safetensors *file;
    const char *mode;
    double atol, rtol;
    json_t *args;  /* as given */
    json_t *left;  /* without those that were read */
    char why[400]; /* the first thing that is wrong, or "" */
    bool spoiled;  /* --spoil: what is wanted is made wrong, so that nothing may pass */
    bool compared[TENSORS]; /* by position in the file */

    /* in the order of the plan */
    int n_in, n_out;
    heed_value in[TENSORS], out[TENSORS];
    const char *in_name[TENSORS]; /* of the tensor in the file */
    char out_name[TENSORS][160];
} layer_case;

static void wrong(layer_case *c, const char *format, ...) HEED_PRINTF(2, 3);
static void wrong(layer_case *c, const char *format, ...)
{
    va_list args;

    if (c->why[0])
        return;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
}

/* ---- the file ---- */

static const char *metadata(const layer_case *c, const char *key, const char *fallback)
{
    for (int64_t i = 0; i < heed_safetensors_metadata(c->file); i++) {
        const char *value;

        if (strcmp(heed_safetensors_key(c->file, i, &value), key) == 0)
            return value;
    }
    return fallback;
}

/* The part of a name behind "prefix.", or NULL. */
static const char *behind(const char *name, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 && name[n] == '.' ? name + n + 1 : NULL;
}

static int64_t position(const layer_case *c, const char *prefix, const char *name)
{
    char full[300];

    snprintf(full, sizeof full, "%s.%s", prefix, name);
    return heed_safetensors_find(c->file, full);
}

/* Tensor number i in memory, to be freed. */
static heed_tensor read_tensor(layer_case *c, int64_t i)
{
    heed_tensor t = { heed_safetensors_type(c->file, i), NULL };
    heed_error err = { 0 };

    t.data = trial_memory((size_t)heed_type_count(&t.type), heed_dtype_size(t.type.dtype));
    if (heed_safetensors_read(c->file, i, t.data, &err) != HEED_OK)
        wrong(c, "%s", err.text);
    return t;
}

/* ---- arguments ---- */

/* The argument, which counts as read; NULL when PyTorch's default is meant. */
static json_t *arg(layer_case *c, const char *name)
{
    json_object_del(c->left, name);
    return json_object_get(c->args, name);
}

static double arg_number(layer_case *c, const char *name, double fallback)
{
    json_t *a = arg(c, name);
    return a ? json_number_value(a) : fallback;
}

static int64_t arg_int(layer_case *c, const char *name, int64_t fallback)
{
    json_t *a = arg(c, name);
    return a ? json_integer_value(a) : fallback;
}

static bool arg_bool(layer_case *c, const char *name, bool fallback)
{
    json_t *a = arg(c, name);
    return a ? json_is_true(a) : fallback;
}

static const char *arg_string(layer_case *c, const char *name, const char *fallback)
{
    json_t *a = arg(c, name);
    return a && json_is_string(a) ? json_string_value(a) : fallback;
}

/* A number for all axes or a list of one for each. */
static void arg_sizes(layer_case *c, const char *name, int64_t fallback, int64_t to[2])
{
    json_t *a = arg(c, name);

    for (int i = 0; i < 2; i++)
        to[i] = !a || json_is_string(a) ? fallback
                : json_is_array(a)      ? json_integer_value(json_array_get(a, (size_t)i))
                                        : json_integer_value(a);
}

/* Sizes that the layer reads from its input: they must be what the file says. */
static void arg_must_be(layer_case *c, const char *name, int64_t is)
{
    if (arg_int(c, name, is) != is)
        wrong(c, "%s is %lld, the input has %lld", name, (long long)arg_int(c, name, is), (long long)is);
}

/* ---- values ---- */

/* The input of that name, {0} when the case has none. */
static heed_value input(const layer_case *c, const char *name)
{
    for (int i = 0; i < c->n_in; i++)
        if (behind(c->in_name[i], "in") && strcmp(behind(c->in_name[i], "in"), name) == 0)
            return c->in[i];
    return (heed_value){ 0 };
}

static void add_input(layer_case *c, heed_builder *b, int64_t i)
{
    const char *name = heed_safetensors_name(c->file, i);

    c->in_name[c->n_in] = name;
    c->in[c->n_in++] = heed_input(b, name, heed_safetensors_type(c->file, i));
}

static void add_output(layer_case *c, heed_builder *b, const char *prefix, const char *name, heed_value v)
{
    char *to = c->out_name[c->n_out];

    snprintf(to, sizeof c->out_name[0], "%s.%s", prefix, name);
    c->out[c->n_out++] = v;
    heed_output(b, to, v);
}

/* ---- modules ---- */

typedef heed_value module_fn(layer_case *c, heed_builder *b);

static heed_value x_of(layer_case *c)
{
    return input(c, "x");
}

static heed_bias bias_of(layer_case *c)
{
    return arg_bool(c, "bias", true) ? HEED_BIAS : HEED_NO_BIAS;
}

#define PLAIN(name, call)                                                                                         \
    static heed_value module_##name(layer_case *c, heed_builder *b)                                               \
    {                                                                                                             \
        heed_value x = x_of(c);                                                                                   \
        return call;                                                                                              \
    }
PLAIN(silu, heed_silu(b, x))
PLAIN(relu, heed_relu(b, x))
PLAIN(softplus, heed_softplus(b, x))
PLAIN(tanh, heed_tanh(b, x))
PLAIN(sigmoid, heed_sigmoid(b, x))
PLAIN(hardswish, heed_hardswish(b, x))
PLAIN(mish, heed_mish(b, x))
PLAIN(gelu, strcmp(arg_string(c, "approximate", "none"), "tanh") == 0 ? heed_gelu_tanh(b, x) : heed_gelu(b, x))
PLAIN(elu, heed_elu(b, x, arg_number(c, "alpha", 1)))
PLAIN(leaky_relu, heed_leaky_relu(b, x, arg_number(c, "negative_slope", 0.01)))
PLAIN(glu, heed_glu(b, x, (int)arg_int(c, "dim", -1)))
PLAIN(softmax, heed_softmax(b, x, (int)arg_int(c, "dim", 0)))
PLAIN(log_softmax, heed_log_softmax(b, x, (int)arg_int(c, "dim", 0)))
PLAIN(logsumexp, heed_logsumexp(b, x, (int)arg_int(c, "dim", 0), arg_bool(c, "keepdim", false) ? HEED_KEEP_AXES : HEED_DROP_AXES))

static heed_value module_linear(layer_case *c, heed_builder *b)
{
    arg_must_be(c, "in_features", heed_dim(b, x_of(c), -1));
    return heed_linear(b, SCOPE, x_of(c), arg_int(c, "out_features", 0), &(heed_linear_opts){ .bias = bias_of(c) });
}

static heed_value module_embedding(layer_case *c, heed_builder *b)
{
    heed_embedding_opts o = { 0 };

    o.padding_idx.set = arg(c, "padding_idx") != NULL;
    o.padding_idx.value = arg_int(c, "padding_idx", 0);
    return heed_embedding(b, SCOPE, input(c, "ids"), arg_int(c, "num_embeddings", 0), arg_int(c, "embedding_dim", 0), &o);
}

/* The number of last axes of normalized_shape. */
static int shape_axes(layer_case *c)
{
    json_t *shape = arg(c, "normalized_shape");
    return json_is_array(shape) ? (int)json_array_size(shape) : 1;
}

static heed_value module_layer_norm(layer_case *c, heed_builder *b)
{
    const heed_norm_opts o = { .axes = shape_axes(c), .eps = arg_number(c, "eps", 0),
                               .no_affine = !arg_bool(c, "elementwise_affine", true), .no_bias = !arg_bool(c, "bias", true) };
    return heed_layer_norm_layer(b, SCOPE, x_of(c), &o);
}

static heed_value module_rms_norm(layer_case *c, heed_builder *b)
{
    const heed_norm_opts o = { .axes = shape_axes(c), .eps = arg_number(c, "eps", 0),
                               .no_affine = !arg_bool(c, "elementwise_affine", true) };
    return heed_rms_norm_layer(b, SCOPE, x_of(c), &o);
}

static heed_value module_group_norm(layer_case *c, heed_builder *b)
{
    const heed_norm_opts o = { .eps = arg_number(c, "eps", 0), .no_affine = !arg_bool(c, "affine", true) };

    arg_must_be(c, "num_channels", heed_dim(b, x_of(c), 1));
    return heed_group_norm_layer(b, SCOPE, x_of(c), arg_int(c, "num_groups", 1), &o);
}

static heed_value module_batch_norm(layer_case *c, heed_builder *b)
{
    heed_batch_norm_opts o = { .eps = arg_number(c, "eps", 0), .no_affine = !arg_bool(c, "affine", true),
                               .no_running = !arg_bool(c, "track_running_stats", true) };
    json_t *momentum = arg(c, "momentum");

    if (momentum && json_is_null(momentum))
        o.cumulative = true;
    else if (momentum)
        o.momentum = (heed_maybe_f32){ true, (float)json_number_value(momentum) };
    arg_must_be(c, "num_features", heed_dim(b, x_of(c), 1));
    return heed_batch_norm_layer(b, SCOPE, x_of(c), &o);
}

static heed_conv_layer_opts conv_opts(layer_case *c, heed_builder *b)
{
    heed_conv_layer_opts o = { .same = strcmp(arg_string(c, "padding", ""), "same") == 0, .bias = bias_of(c) };

    arg_must_be(c, "in_channels", heed_dim(b, x_of(c), 1));
    arg_sizes(c, "kernel_size", 1, o.kernel);
    arg_sizes(c, "stride", 1, o.conv.stride);
    arg_sizes(c, "padding", 0, o.conv.pad);
    arg_sizes(c, "dilation", 1, o.conv.dilation);
    arg_sizes(c, "output_padding", 0, o.output_pad);
    o.conv.groups = arg_int(c, "groups", 1);
    return o;
}

static heed_value module_conv1d(layer_case *c, heed_builder *b)
{
    const heed_conv_layer_opts o = conv_opts(c, b);
    return heed_conv1d(b, SCOPE, x_of(c), arg_int(c, "out_channels", 0), &o);
}

static heed_value module_conv2d(layer_case *c, heed_builder *b)
{
    const heed_conv_layer_opts o = conv_opts(c, b);
    return heed_conv2d(b, SCOPE, x_of(c), arg_int(c, "out_channels", 0), &o);
}

static heed_value module_conv_transpose2d(layer_case *c, heed_builder *b)
{
    const heed_conv_layer_opts o = conv_opts(c, b);
    return heed_conv_transpose2d(b, SCOPE, x_of(c), arg_int(c, "out_channels", 0), &o);
}

static heed_pool_opts pool_opts(layer_case *c, int64_t kernel[2])
{
    heed_pool_opts o = { .ceil_mode = arg_bool(c, "ceil_mode", false), .exclude_pad = !arg_bool(c, "count_include_pad", true) };

    arg_sizes(c, "kernel_size", 1, kernel);
    arg_sizes(c, "stride", 0, o.stride);
    arg_sizes(c, "padding", 0, o.pad);
    return o;
}

static heed_value module_max_pool(layer_case *c, heed_builder *b)
{
    int64_t kernel[2];
    heed_pool_opts o = pool_opts(c, kernel);

    arg_sizes(c, "dilation", 1, o.dilation);
    return heed_max_pool(b, x_of(c), kernel, &o);
}

static heed_value module_avg_pool(layer_case *c, heed_builder *b)
{
    int64_t kernel[2];
    const heed_pool_opts o = pool_opts(c, kernel);
    return heed_avg_pool(b, x_of(c), kernel, &o);
}

static heed_value module_adaptive_avg_pool(layer_case *c, heed_builder *b)
{
    int64_t out[2];

    arg_sizes(c, "output_size", 1, out);
    return heed_adaptive_avg_pool(b, x_of(c), out);
}

/* ---- losses ---- */

static heed_reduction reduction_of(layer_case *c)
{
    static const char *const words[] = { "mean", "sum", "none", "batchmean" };
    const char *word = arg_string(c, "reduction", "mean");

    for (int i = 0; i < 4; i++)
        if (strcmp(words[i], word) == 0)
            return (heed_reduction)i;
    wrong(c, "reduction \"%s\"", word);
    return HEED_REDUCE_MEAN;
}

static heed_value module_cross_entropy(layer_case *c, heed_builder *b)
{
    heed_cross_entropy_opts o = { .weight = input(c, "weight"), .label_smoothing = arg_number(c, "label_smoothing", 0),
                                  .reduction = reduction_of(c) };

    o.ignore_index.set = arg(c, "ignore_index") != NULL;
    o.ignore_index.value = arg_int(c, "ignore_index", 0);
    return heed_cross_entropy(b, x_of(c), input(c, "target"), &o);
}

#define LOSS(name, call)                                                                                          \
    static heed_value module_##name(layer_case *c, heed_builder *b)                                               \
    {                                                                                                             \
        heed_value x = x_of(c), target = input(c, "target");                                                      \
        heed_reduction r = reduction_of(c);                                                                       \
        return call;                                                                                              \
    }
LOSS(bce_with_logits, heed_bce_with_logits(b, x, target, input(c, "pos_weight"), r))
LOSS(mse_loss, heed_mse_loss(b, x, target, r))
LOSS(l1_loss, heed_l1_loss(b, x, target, r))
LOSS(smooth_l1_loss, heed_smooth_l1_loss(b, x, target, arg_number(c, "beta", 1), r))
LOSS(huber_loss, heed_huber_loss(b, x, target, arg_number(c, "delta", 1), r))
LOSS(kl_div, heed_kl_div(b, x, target, r))

/* ---- attention ---- */

/* Keep-mask [B or 1, 1, Tq or 1, Tk] from PyTorch's, in which true forbids: padding [B,Tk] and pairs [Tq,Tk]. */
static heed_value keep_mask(layer_case *c, heed_builder *b, const char *padding_name, const char *pairs_name)
{
    heed_value padding = input(c, padding_name), pairs = input(c, pairs_name), forbidden = { 0 };

    if (padding.id)
        forbidden = padding = heed_reshape(b, padding, 4, (int64_t[]){ heed_dim(b, padding, 0), 1, 1, heed_dim(b, padding, 1) });
    if (pairs.id)
        forbidden = pairs = heed_reshape(b, pairs, 4, (int64_t[]){ 1, 1, heed_dim(b, pairs, 0), heed_dim(b, pairs, 1) });
    if (padding.id && pairs.id)
        forbidden = heed_or(b, padding, pairs);
    return forbidden.id ? heed_not(b, forbidden) : forbidden;
}

static heed_value batch_first(heed_builder *b, heed_value x, bool already)
{
    return already || !x.id ? x : heed_transpose(b, x, 0, 1);
}

static heed_value module_mha(layer_case *c, heed_builder *b)
{
    const bool first = arg_bool(c, "batch_first", false);
    heed_value x = batch_first(b, input(c, "query"), first), weights, y;
    heed_mha_opts o = { .key = batch_first(b, input(c, "key"), first), .value = batch_first(b, input(c, "value"), first),
                        .bias = bias_of(c), .bias_kv = arg_bool(c, "add_bias_kv", false), .dropout = arg_number(c, "dropout", 0) };

    o.spec.in.mask = keep_mask(c, b, "key_padding_mask", "attn_mask");
    arg_must_be(c, "embed_dim", heed_dim(b, x, 2));
    arg_must_be(c, "kdim", heed_dim(b, o.key.id ? o.key : x, 2));
    arg_must_be(c, "vdim", heed_dim(b, o.value.id ? o.value : x, 2));
    if (arg_bool(c, "add_zero_attn", false))
        wrong(c, "add_zero_attn");
    y = heed_multihead_attention(b, SCOPE, x, arg_int(c, "num_heads", 1), &o, &weights);
    add_output(c, b, "out", "weights", weights);
    return batch_first(b, y, first);
}

static heed_activation activation_of(layer_case *c)
{
    return strcmp(arg_string(c, "activation", "relu"), "gelu") == 0 ? HEED_GELU : HEED_RELU;
}

static heed_value module_encoder_layer(layer_case *c, heed_builder *b)
{
    const bool first = arg_bool(c, "batch_first", false);
    heed_value x = batch_first(b, input(c, "src"), first);
    heed_encoder_layer_opts o = { .feedforward = arg_int(c, "dim_feedforward", 0), .activation = activation_of(c),
                                  .norm = arg_bool(c, "norm_first", false) ? HEED_PRE_NORM : HEED_POST_NORM,
                                  .eps = arg_number(c, "layer_norm_eps", 0),
                                  .dropout = { true, (float)arg_number(c, "dropout", 0.1) } };

    arg_must_be(c, "d_model", heed_dim(b, x, 2));
    o.spec.in.mask = keep_mask(c, b, "src_key_padding_mask", "src_mask");
    return batch_first(b, heed_encoder_layer(b, SCOPE, x, arg_int(c, "nhead", 1), &o), first);
}

/* ---- one call: outputs and gradients in one graph ---- */

typedef struct layer_module {
    const char *name;
    module_fn *build;
} layer_module;

static void build_gradients(layer_case *c, heed_builder *b)
{
    heed_value y[TENSORS], dy[TENSORS], wrt[TENSORS], d[TENSORS], params[TENSORS];
    char names[TENSORS][160];
    const int outputs = c->n_out, n_params = heed_params(b, params, TENSORS);
    int n = 0, n_wrt = 0;

    for (int i = 0; i < outputs; i++) {
        const int64_t at = position(c, "dout", behind(c->out_name[i], "out"));

        if (at < 0)
            continue;
        add_input(c, b, at);
        y[n] = c->out[i];
        dy[n++] = c->in[c->n_in - 1];
    }
    for (int64_t i = 0; i < heed_safetensors_count(c->file); i++) {
        const char *full = heed_safetensors_name(c->file, i), *din = behind(full, "din"), *dparam = behind(full, "dparam");
        heed_value by = { 0 };

        if (!din && !dparam)
            continue;
        if (din)
            by = input(c, din);
        for (int k = 0; dparam && k < n_params; k++) {
            const char *path = behind(heed_value_path(b, params[k]), SCOPE);

            if (path && strcmp(path, dparam) == 0)
                by = params[k];
        }
        if (!by.id) {
            wrong(c, "there is nothing to differentiate by for %s", full);
            return;
        }
        snprintf(names[n_wrt], sizeof names[0], "%s", full);
        wrt[n_wrt++] = by;
    }
    if (n_wrt == 0 || n == 0)
        return;
    heed_grad_of(b, y, dy, n, wrt, n_wrt, d);
    for (int i = 0; i < n_wrt; i++)
        add_output(c, b, behind(names[i], "din") ? "din" : "dparam", strchr(names[i], '.') + 1, d[i]);
}

static heed_status build_case(layer_case *c, const layer_module *m, heed_graph **out, heed_error *err)
{
    heed_builder *b = NULL;
    heed_status st = heed_builder_new(&b, c->ctx, err);

    if (st != HEED_OK)
        return st;
    heed_set_mode(b, strcmp(c->mode, "train") == 0 ? HEED_TRAIN : HEED_EVAL);
    for (int64_t i = 0; i < heed_safetensors_count(c->file); i++)
        if (behind(heed_safetensors_name(c->file, i), "in"))
            add_input(c, b, i);
    add_output(c, b, "out", "y", m->build(c, b));
    if (heed_builder_status(b, NULL) == HEED_OK)
        build_gradients(c, b);
    st = heed_builder_finish(out, b, err);
    heed_builder_free(b);
    return st;
}

static double *numbers_of(const heed_tensor *t)
{
    trial one = { .n_out = 1, .out[0].tensor = *t };
    double *to = trial_memory((size_t)heed_type_count(&t->type), sizeof *to);

    trial_get(&one, 0, to);
    return to;
}

static void compare(layer_case *c, const char *name, const heed_tensor *got)
{
    const int64_t at = heed_safetensors_find(c->file, name);
    heed_tensor want;
    double *a, *b, share;

    if (at < 0 || at >= TENSORS)
        return;
    c->compared[at] = true;
    want = read_tensor(c, at);
    if (!heed_type_equal(&want.type, &got->type)) {
        wrong(c, "%s has another type", name);
    } else {
        a = numbers_of(got);
        b = numbers_of(&want);
        for (int64_t i = 0; c->spoiled && i < heed_type_count(&want.type); i++)
            b[i] = b[i] * 1.01 + 0.01;
        share = harness_share(&want.type, a, b, c->atol, c->rtol);
        if (!(share <= 1))
            wrong(c, "%s differs by %.3g of what is allowed", name, share);
        free(a);
        free(b);
    }
    free(want.data);
}

/* Parameters before the call; a layer must make exactly these. */
static void put_params(layer_case *c, heed_weights *w, const char *scope)
{
    for (int64_t i = 0; i < heed_safetensors_count(c->file); i++) {
        const char *name = behind(heed_safetensors_name(c->file, i), "param");
        heed_error err = { 0 };
        heed_tensor t;
        char path[200];

        if (!name)
            continue;
        t = read_tensor(c, i);
        snprintf(path, sizeof path, "%s%s", scope, name);
        if (heed_weights_put(w, path, t, &err) != HEED_OK)
            wrong(c, "%s", err.text);
        free(t.data);
    }
}

static void compare_after(layer_case *c, const heed_weights *w, const char *scope)
{
    for (int64_t i = 0; i < heed_safetensors_count(c->file); i++) {
        const char *full = heed_safetensors_name(c->file, i), *name = behind(full, "after");
        heed_tensor got;
        char path[200];

        if (!name)
            continue;
        snprintf(path, sizeof path, "%s%s", scope, name);
        got = heed_weights_find(w, path);
        if (got.type.rank < 0)
            wrong(c, "there is no \"%s\" after the call", path);
        else
            compare(c, full, &got);
    }
}

static void check_params_used(layer_case *c, const heed_graph *g, const heed_weights *w, int64_t given)
{
    int64_t made = 0;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        made += heed__is_leaf(&g->nodes[i], &heed__op_param) || heed__is_leaf(&g->nodes[i], &heed__op_state);
    if (heed_weights_count(w) != given)
        wrong(c, "the layer makes %lld parameters and buffers, PyTorch has %lld", (long long)heed_weights_count(w), (long long)given);
    else if (made != given)
        wrong(c, "the layer uses %lld of PyTorch's %lld parameters and buffers", (long long)made, (long long)given);
}

/* Everything that the file expects must have been looked at. */
static void check_all_compared(layer_case *c)
{
    static const char *const wanted[] = { "out", "din", "dparam", "after" };

    if (heed_safetensors_count(c->file) > TENSORS)
        wrong(c, "more than %d tensors", TENSORS);
    for (int64_t i = 0; i < heed_safetensors_count(c->file) && i < TENSORS; i++)
        for (int k = 0; k < 4; k++)
            if (behind(heed_safetensors_name(c->file, i), wanted[k]) && !c->compared[i])
                wrong(c, "%s was not compared", heed_safetensors_name(c->file, i));
}

static void run_case(layer_case *c, const layer_module *m)
{
    heed_error err = { 0 };
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_weights *w = NULL;
    heed_session *s = NULL;
    heed_tensor in[TENSORS], out[TENSORS];
    int64_t given = 0;
    int id = 0, n = 0, made = 0;
    heed_status st = build_case(c, m, &g, &err);

    if (st == HEED_OK)
        st = heed_plan_new(&p, c->ctx, g, NULL, &err);
    if (st == HEED_OK)
        st = heed_weights_new(&w, c->ctx, &err);
    if (st == HEED_OK) {
        put_params(c, w, SCOPE ".");
        given = heed_weights_count(w);
        st = heed_session_new(&s, c->ctx, w, NULL, &err);
        if (st == HEED_OK)
            st = heed_session_add(s, p, &id, &err);
        check_params_used(c, g, w, given);
    }
    for (; st == HEED_OK && n < c->n_in; n++)
        in[n] = read_tensor(c, heed_safetensors_find(c->file, c->in_name[n]));
    for (; st == HEED_OK && made < c->n_out; made++) {
        out[made].type = heed_plan_output_type(p, made);
        out[made].data = trial_memory((size_t)heed_type_count(&out[made].type), heed_dtype_size(out[made].type.dtype));
    }
    if (st == HEED_OK)
        st = heed_session_run(s, id, in, n, out, made, &err);
    for (int i = 0; st == HEED_OK && i < made; i++)
        compare(c, c->out_name[i], &out[i]);
    if (st == HEED_OK)
        compare_after(c, w, SCOPE ".");
    else
        wrong(c, "%s: %s", heed_status_name(st), err.text);
    for (int i = 0; i < n; i++)
        free(in[i].data);
    for (int i = 0; i < made; i++)
        free(out[i].data);
    heed_session_free(s);
    heed_weights_free(w);
    heed_plan_free(p);
    heed_graph_free(g);
}

/* ---- ten steps ---- */

static int64_t model_size(const layer_case *c, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(c->args, "model"), name));
}

static heed_value tiny_mlp(heed_builder *b, const heed_value *in, const void *config)
{
    const layer_case *c = config;
    heed_value h = heed_relu(b, heed_linear(b, "fc1", in[0], model_size(c, "hidden"), NULL));

    return heed_linear(b, "fc2", h, model_size(c, "classes"), NULL);
}

/* Keeps t < lengths[b]: 1 there, 0 elsewhere, [B,T,1]. */
static heed_value real_steps(heed_builder *b, heed_value lengths, int64_t batch, int64_t length)
{
    heed_value t = heed_iota(b, HEED_TYPE(HEED_I64, batch, length), 1);
    heed_value keep = heed_lt(b, t, heed_reshape(b, lengths, 2, (int64_t[]){ batch, 1 }));

    return heed_reshape(b, heed_cast(b, keep, HEED_F32), 3, (int64_t[]){ batch, length, 1 });
}

static heed_value tiny_transformer(heed_builder *b, const heed_value *in, const void *config)
{
    const layer_case *c = config;
    const int64_t dim = model_size(c, "dim"), batch = heed_dim(b, in[0], 0), length = heed_dim(b, in[0], 1);
    const bool norm_first = json_is_true(json_object_get(json_object_get(c->args, "model"), "norm_first"));
    heed_value h = heed_embedding(b, "embed", in[0], model_size(c, "vocab"), dim, NULL), keep, pooled;
    heed_value places = heed_iota(b, HEED_TYPE(HEED_I64, length), 0);
    heed_encoder_layer_opts o = { .feedforward = model_size(c, "ff"), .activation = HEED_GELU, .dropout = { true, 0 },
                                  .norm = norm_first ? HEED_PRE_NORM : HEED_POST_NORM, .spec.in.lengths = in[1] };

    h = heed_add(b, h, heed_embedding(b, "pos", places, model_size(c, "length"), dim, NULL));
    heed_scope_push(b, "encoder");
    heed_scope_push(b, "layers");
    for (int64_t i = 0; i < model_size(c, "layers"); i++) {
        char name[24];

        snprintf(name, sizeof name, "%lld", (long long)i);
        h = heed_encoder_layer(b, name, h, model_size(c, "heads"), &o);
    }
    heed_scope_pop(b);
    heed_scope_pop(b);
    keep = real_steps(b, in[1], batch, length);
    pooled = heed_sum(b, heed_mul(b, h, keep), 2, HEED_DROP_AXES);
    pooled = heed_div(b, pooled, heed_cast(b, heed_reshape(b, in[1], 2, (int64_t[]){ batch, 1 }), HEED_F32));
    return heed_linear(b, "head", pooled, model_size(c, "classes"), NULL);
}

typedef struct train_module {
    const char *name;
    heed_build_fn *build;
    const char *inputs[3];
} train_module;

static const train_module train_modules[] = {
    { "train.TinyMLP", tiny_mlp, { "x" } },
    { "train.TinyTransformer", tiny_transformer, { "tokens", "lengths" } },
    { NULL, NULL, { NULL } },
};

static heed_maybe_f32 option(layer_case *c, const char *name, json_t *a)
{
    heed_maybe_f32 number = { a != NULL, (float)json_number_value(a) };

    (void)name;
    json_object_del(json_object_get(c->left, "optimizer_args"), name);
    return number;
}

static heed_trainer_opts trainer_opts(layer_case *c)
{
    static const char *const names[] = { [HEED_SGD] = "SGD", [HEED_RMSPROP] = "RMSprop", [HEED_ADAM] = "Adam", [HEED_ADAMW] = "AdamW" };
    json_t *args = json_object_get(c->args, "optimizer_args"), *betas = json_object_get(args, "betas");
    const char *name = arg_string(c, "optimizer", "");
    heed_trainer_opts o = { .clip_norm = (float)arg_number(c, "clip_grad_norm", 0) };

    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0)
            o.optimizer = (heed_optimizer)i;
    o.lr = option(c, "lr", json_object_get(args, "lr"));
    o.momentum = option(c, "momentum", json_object_get(args, "momentum"));
    o.weight_decay = option(c, "weight_decay", json_object_get(args, "weight_decay"));
    o.eps = option(c, "eps", json_object_get(args, "eps"));
    o.nesterov = json_is_true(json_object_get(args, "nesterov"));
    o.amsgrad = json_is_true(json_object_get(args, "amsgrad"));
    o.beta1 = option(c, "betas", json_array_get(betas, 0));
    o.beta2 = option(c, "betas", json_array_get(betas, 1));
    json_object_del(json_object_get(c->left, "optimizer_args"), "nesterov");
    json_object_del(json_object_get(c->left, "optimizer_args"), "amsgrad");
    if (json_object_size(json_object_get(c->left, "optimizer_args")) == 0)
        json_object_del(c->left, "optimizer_args");
    arg(c, "model");
    return o;
}

/* Gradients of the first step, taken by hand from the same build function. */
static heed_status first_gradients(layer_case *c, const train_module *m, heed_weights *w, const heed_tensor *in, int n, heed_error *err)
{
    heed_value x[3], params[TENSORS], d[TENSORS], loss;
    heed_builder *b = NULL;
    heed_graph *g = NULL;
    heed_plan *p = NULL;
    heed_session *s = NULL;
    heed_tensor out[TENSORS];
    int n_params = 0, id = 0;
    heed_status st = heed_builder_new(&b, c->ctx, err);

    if (st != HEED_OK)
        return st;
    heed_set_mode(b, HEED_TRAIN);
    for (int i = 0; i < n; i++) {
        char name[8];

        snprintf(name, sizeof name, "x%d", i);
        x[i] = heed_input(b, name, in[i].type);
    }
    loss = heed_cross_entropy(b, m->build(b, x, c), x[n - 1], NULL);
    n_params = heed_params(b, params, TENSORS);
    heed_grad(b, loss, params, n_params, d);
    for (int i = 0; i < n_params; i++)
        add_output(c, b, "dparam", heed_value_path(b, params[i]), d[i]);
    st = heed_builder_finish(&g, b, err);
    heed_builder_free(b);
    if (st == HEED_OK)
        st = heed_plan_new(&p, c->ctx, g, NULL, err);
    if (st == HEED_OK)
        st = heed_session_new(&s, c->ctx, w, NULL, err);
    if (st == HEED_OK)
        st = heed_session_add(s, p, &id, err);
    for (int i = 0; st == HEED_OK && i < n_params; i++) {
        out[i].type = heed_plan_output_type(p, i);
        out[i].data = trial_memory((size_t)heed_type_count(&out[i].type), heed_dtype_size(out[i].type.dtype));
    }
    if (st == HEED_OK) {
        st = heed_session_run(s, id, in, n, out, n_params, err);
        for (int i = 0; i < n_params; i++) {
            if (st == HEED_OK)
                compare(c, c->out_name[i], &out[i]);
            free(out[i].data);
        }
    }
    heed_session_free(s);
    heed_plan_free(p);
    heed_graph_free(g);
    return st;
}

static void run_training(layer_case *c, const train_module *m)
{
    const heed_trainer_opts o = trainer_opts(c);
    const int64_t steps = arg_int(c, "steps", 10);
    float *loss = trial_memory((size_t)steps, sizeof *loss), *norm = trial_memory((size_t)steps, sizeof *norm);
    const heed_type trace = heed_type_of(HEED_F32, 1, &steps);
    heed_model *model = NULL;
    heed_trainer *t = NULL;
    heed_tensor in[4];
    heed_error err = { 0 };
    int n = 0;
    heed_status st = heed_model_new(&model, c->ctx, m->build, c, NULL, &err);

    for (; n < 3 && m->inputs[n]; n++)
        in[n] = read_tensor(c, position(c, "in", m->inputs[n]));
    in[n] = read_tensor(c, position(c, "in", "target"));
    if (st == HEED_OK) {
        put_params(c, heed_model_weights(model), "");
        st = first_gradients(c, m, heed_model_weights(model), in, n + 1, &err);
    }
    if (st == HEED_OK)
        st = heed_trainer_new(&t, model, &o, &err);
    for (int64_t i = 0; i < steps && st == HEED_OK; i++) {
        st = heed_trainer_step(t, in, n, &in[n], &loss[i], &err);
        norm[i] = heed_trainer_grad_norm(t);
    }
    if (st == HEED_OK) {
        compare(c, "out.loss", &(heed_tensor){ trace, loss });
        compare(c, "out.grad_norm", &(heed_tensor){ trace, norm });
        compare_after(c, heed_model_weights(model), "");
    } else {
        wrong(c, "%s: %s", heed_status_name(st), err.text);
    }
    for (int i = 0; i <= n; i++)
        free(in[i].data);
    heed_trainer_free(t);
    heed_model_free(model);
    free(loss);
    free(norm);
}

/* ---- all of them ---- */

static const layer_module modules[] = {
    { "torch.nn.AdaptiveAvgPool1d", module_adaptive_avg_pool },
    { "torch.nn.AdaptiveAvgPool2d", module_adaptive_avg_pool },
    { "torch.nn.AvgPool1d", module_avg_pool },
    { "torch.nn.AvgPool2d", module_avg_pool },
    { "torch.nn.BatchNorm1d", module_batch_norm },
    { "torch.nn.BatchNorm2d", module_batch_norm },
    { "torch.nn.Conv1d", module_conv1d },
    { "torch.nn.Conv2d", module_conv2d },
    { "torch.nn.ConvTranspose2d", module_conv_transpose2d },
    { "torch.nn.ELU", module_elu },
    { "torch.nn.Embedding", module_embedding },
    { "torch.nn.GELU", module_gelu },
    { "torch.nn.GLU", module_glu },
    { "torch.nn.GroupNorm", module_group_norm },
    { "torch.nn.Hardswish", module_hardswish },
    { "torch.nn.LayerNorm", module_layer_norm },
    { "torch.nn.LeakyReLU", module_leaky_relu },
    { "torch.nn.Linear", module_linear },
    { "torch.nn.MaxPool1d", module_max_pool },
    { "torch.nn.MaxPool2d", module_max_pool },
    { "torch.nn.Mish", module_mish },
    { "torch.nn.MultiheadAttention", module_mha },
    { "torch.nn.RMSNorm", module_rms_norm },
    { "torch.nn.ReLU", module_relu },
    { "torch.nn.SiLU", module_silu },
    { "torch.nn.Sigmoid", module_sigmoid },
    { "torch.nn.Softplus", module_softplus },
    { "torch.nn.Tanh", module_tanh },
    { "torch.nn.TransformerEncoderLayer", module_encoder_layer },
    { "torch.nn.functional.binary_cross_entropy_with_logits", module_bce_with_logits },
    { "torch.nn.functional.cross_entropy", module_cross_entropy },
    { "torch.nn.functional.huber_loss", module_huber_loss },
    { "torch.nn.functional.kl_div", module_kl_div },
    { "torch.nn.functional.l1_loss", module_l1_loss },
    { "torch.nn.functional.log_softmax", module_log_softmax },
    { "torch.nn.functional.mse_loss", module_mse_loss },
    { "torch.nn.functional.smooth_l1_loss", module_smooth_l1_loss },
    { "torch.nn.functional.softmax", module_softmax },
    { "torch.logsumexp", module_logsumexp },
    { NULL, NULL },
};

typedef enum verdict { PASSED, FAILED, UNSUPPORTED, VERDICTS } verdict;

typedef struct tally {
    char module[80];
    int n[VERDICTS];
} tally;

#define MODULES_MAX 256
typedef struct totals {
    tally rows[MODULES_MAX];
    int n;
    bool list, spoil;
} totals;

static void count(totals *t, const char *module, verdict v)
{
    int i = 0;

    while (i < t->n && strcmp(t->rows[i].module, module) != 0)
        i++;
    if (i == MODULES_MAX)
        return;
    if (i == t->n) {
        snprintf(t->rows[i].module, sizeof t->rows[i].module, "%s", module);
        t->n++;
    }
    t->rows[i].n[v]++;
}

/* One case on one level. */
static verdict try_case(layer_case *c, const char *path, heed_context *ctx, bool spoiled, char *module, size_t size)
{
    heed_error err = { 0 };
    const char *name;
    verdict v = UNSUPPORTED;

    *c = (layer_case){ .ctx = ctx, .spoiled = spoiled };
    module[0] = '\0';
    if (heed_safetensors_open(&c->file, ctx, path, &err) != HEED_OK) {
        wrong(c, "%s", err.text);
        return FAILED;
    }
    name = metadata(c, "module", "");
    snprintf(module, size, "%s", name);
    c->mode = metadata(c, "mode", "eval");
    c->atol = strtod(metadata(c, "atol", "1e-5"), NULL);
    c->rtol = strtod(metadata(c, "rtol", "1e-4"), NULL);
    c->args = json_loads(metadata(c, "args", "{}"), JSON_REJECT_DUPLICATES, NULL);
    c->left = json_deep_copy(c->args);
    if (!c->args)
        wrong(c, "args is no JSON");
    if (strcmp(metadata(c, "format", ""), "heed-layer-case/1") != 0)
        wrong(c, "format is not heed-layer-case/1");
    for (const layer_module *m = modules; m->name && !c->why[0]; m++)
        if (strcmp(m->name, name) == 0) {
            run_case(c, m);
            v = PASSED;
        }
    for (const train_module *m = train_modules; m->name && !c->why[0]; m++)
        if (strcmp(m->name, name) == 0) {
            run_training(c, m);
            v = PASSED;
        }
    if (v != UNSUPPORTED)
        check_all_compared(c);
    if (v != UNSUPPORTED && json_object_size(c->left) > 0)
        wrong(c, "the argument %s was not read", json_object_iter_key(json_object_iter(c->left)));
    json_decref(c->args);
    json_decref(c->left);
    heed_safetensors_close(c->file);
    return c->why[0] ? FAILED : v;
}

static void every_level(totals *t, const harness *h, const char *folder, const char *file)
{
    static layer_case c;
    verdict worst = UNSUPPORTED;
    char path[1200], module[80];

    snprintf(path, sizeof path, "%s/%s", folder, file);
    for (int isa = HEED_ISA_PORTABLE; isa <= HEED_ISA_NEON; isa++) {
        verdict v;

        if (!h->level[isa])
            continue;
        v = try_case(&c, path, h->level[isa], t->spoil, module, sizeof module);
        if (v == FAILED && !t->spoil)
            printf("FAILED %s on %s: %s\n", file, heed_isa_name((heed_isa)isa), c.why);
        worst = v == FAILED || worst == FAILED ? FAILED : v;
    }
    if (t->list)
        printf("%-11s %s (%s)\n", worst == PASSED ? "passed" : worst == FAILED ? "FAILED" : "unsupported", file, module);
    count(t, module, worst);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_case(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

int main(int argc, char **argv)
{
    static totals t;
    const char *folder = HEED_SOURCE_DIR "/tests/golden/layers";
    struct dirent **files;
    int all[VERDICTS] = { 0 }, n;
    harness h;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--list") == 0)
            t.list = true;
        else if (strcmp(argv[i], "--spoil") == 0)
            t.spoil = true;
        else
            folder = argv[i];
    n = scandir(folder, &files, is_case, by_name);
    if (n <= 0) {
        fprintf(stderr, "there are no cases in \"%s\"\n", folder);
        return 2;
    }
    harness_open(&h);
    harness_print_levels(stdout, &h);
    for (int i = 0; i < n; i++) {
        every_level(&t, &h, folder, files[i]->d_name);
        free(files[i]);
    }
    free(files);
    harness_close(&h);
    printf("%-56s %7s %7s %12s\n", "module", "passed", "failed", "unsupported");
    for (int i = 0; i < t.n; i++) {
        printf("%-56s %7d %7d %12d\n", t.rows[i].module, t.rows[i].n[PASSED], t.rows[i].n[FAILED], t.rows[i].n[UNSUPPORTED]);
        for (int v = 0; v < VERDICTS; v++)
            all[v] += t.rows[i].n[v];
    }
    printf("vectors: %d passed, %d failed, %d unsupported\n", all[PASSED], all[FAILED], all[UNSUPPORTED]);
    return all[FAILED] ? 1 : 0;
}
