/* Norms with PyTorch's parameters: weight 1, bias 0. Formulas: ops/layer_norm.c, rms_norm.c, group_norm.c,
 * batch_norm.c.
 *
 * Batch norm keeps running_mean, running_var (of the unbiased variance) and num_batches_tracked:
 *   running = (1 - f) running + f batch,   f = momentum, or 1 / number of batches when cumulative */

#include "nn/nn.h"

/* weight and bias over the last `axes` axes of x; {0} where the options leave them out. */
static void affine_of(heed_builder *b, heed_value x, int axes, const heed_norm_opts *o, bool has_bias,
                      heed_value *weight, heed_value *bias)
{
    const heed_type whole = heed_value_type(b, x);
    heed_type type = { HEED_F32, axes, { 0 } };

    *weight = *bias = (heed_value){ 0 };
    if (o && o->no_affine)
        return;
    for (int i = 0; i < axes && whole.rank >= axes; i++)
        type.dims[i] = whole.dims[whole.rank - axes + i];
    *weight = heed_param(b, "weight", type, &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 1 });
    if (has_bias && !(o && o->no_bias))
        *bias = heed_param(b, "bias", type, NULL);
}

heed_value heed_layer_norm_layer(heed_builder *b, const char *name, heed_value x, const heed_norm_opts *opts)
{
    const int axes = OPT(opts, axes, 1);
    heed_value weight, bias, y;

    heed_scope_push(b, name);
    affine_of(b, x, axes, opts, true, &weight, &bias);
    y = heed_layer_norm(b, x, axes, weight, bias, opts ? opts->eps : 0);
    heed_scope_pop(b);
    return y;
}

heed_value heed_rms_norm_layer(heed_builder *b, const char *name, heed_value x, const heed_norm_opts *opts)
{
    const int axes = OPT(opts, axes, 1);
    heed_value weight, bias, y;

    heed_scope_push(b, name);
    affine_of(b, x, axes, opts, false, &weight, &bias);
    y = heed_rms_norm(b, x, axes, weight, opts ? opts->eps : 0);
    heed_scope_pop(b);
    return y;
}

/* weight 1 and bias 0 for each channel. */
static void affine_channels(heed_builder *b, int64_t channels, bool none, heed_value *weight,
                            heed_value *bias)
{
    *weight = none ? (heed_value){ 0 } : heed__nn_constant(b, "weight", channels, 1);
    *bias = none ? (heed_value){ 0 } : heed__nn_constant(b, "bias", channels, 0);
}

heed_value heed_group_norm_layer(heed_builder *b, const char *name, heed_value x, int64_t groups,
                                 const heed_norm_opts *opts)
{
    heed_value weight, bias, y;

    heed_scope_push(b, name);
    affine_channels(b, heed_dim(b, x, 1), opts && opts->no_affine, &weight, &bias);
    y = heed_group_norm(b, x, groups, weight, bias, opts ? opts->eps : 0);
    heed_scope_pop(b);
    return y;
}

/* running + f (batch - running), as PyTorch writes it: (1 - f) running + f batch. */
static heed_value blend(heed_builder *b, heed_value running, heed_value batch, heed_value f)
{
    heed_value rest = heed_sub(b, heed_scalar(b, HEED_F32, 1), f);

    return heed_add(b, heed_mul(b, running, rest), heed_mul(b, batch, f));
}

heed_value heed_batch_norm_layer(heed_builder *b, const char *name, heed_value x,
                                 const heed_batch_norm_opts *opts)
{
    static const heed_batch_norm_opts plain;
    const heed_batch_norm_opts *o = opts ? opts : &plain;
    const int64_t channels = heed_dim(b, x, 1);
    const heed_type type = heed_value_type(b, x);
    const int64_t others = channels > 0 ? heed_type_count(&type) / channels : 0;
    heed_value weight, bias, mean = { 0 }, var = { 0 }, tracked = { 0 }, y;

    heed_scope_push(b, name);
    affine_channels(b, channels, o->no_affine, &weight, &bias);
    if (!o->no_running) {
        mean = heed_state(b, "running_mean", HEED_TYPE(HEED_F32, channels), NULL);
        var = heed_state(b, "running_var", HEED_TYPE(HEED_F32, channels),
                         &(heed_init){ .kind = HEED_INIT_CONSTANT, .a = 1 });
        tracked = heed_state(b, "num_batches_tracked", heed_type_of(HEED_I64, 0, NULL), NULL);
    }
    if (heed_get_mode(b) == HEED_TRAIN || o->no_running) {
        heed_batch_normed n = heed_batch_norm_train(b, x, weight, bias, o->eps);

        y = n.y;
        if (!o->no_running) {
            heed_value batches = heed_add(b, tracked, heed_scalar(b, HEED_I64, 1));
            heed_value unbiased =
                heed_mul_scalar(b, n.var, others > 1 ? (double)others / (double)(others - 1) : 1);
            heed_value f = o->cumulative
                               ? heed_div(b, heed_scalar(b, HEED_F32, 1), heed_cast(b, batches, HEED_F32))
                               : heed_scalar(b, HEED_F32, o->momentum.set ? (double)o->momentum.value : 0.1);

            heed_assign(b, mean, blend(b, mean, heed_stop_grad(b, n.mean), f));
            heed_assign(b, var, blend(b, var, heed_stop_grad(b, unbiased), f));
            heed_assign(b, tracked, batches);
        }
    } else {
        y = heed_batch_norm_eval(b, x, mean, var, weight, bias, o->eps);
    }
    heed_scope_pop(b);
    return y;
}
