/* Multi-layer perceptron on whole pictures.
 *   x [B,C,H,W] -> flatten -> (linear -> activation -> dropout) for each hidden width -> linear
 * fc0, fc1, ..., head. */

#include "models/parts.h"

typedef struct mlp_config {
    int64_t classes;
    field_i64s hidden;
    int activation;
    float dropout;
} mlp_config;

static const field mlp_fields[] = {
    { FIELD_(mlp_config, classes, FIELD_I64_), .min = 1, .max = 1e6, .fallback = "10",
      .doc = "number of classes; taken from the data" },
    { FIELD_(mlp_config, hidden, FIELD_I64S_), .min = 1, .max = 1e6, .fallback = "256,128",
      .doc = "widths of the hidden layers" },
    { FIELD_(mlp_config, activation, FIELD_ENUM_), .choices = "relu|gelu|gelu_tanh|silu|tanh",
      .doc = "after each hidden layer" },
    { FIELD_(mlp_config, dropout, FIELD_F32_), .min = 0, .max = 0.99,
      .doc = "after each hidden layer, in training" },
    FIELD_END,
};

static heed_value mlp_build(heed_builder *b, const heed_value *inputs, const void *config)
{
    const mlp_config *c = config;
    heed_value x = heed_flatten(b, inputs[0], 1, -1);

    for (int i = 0; i < c->hidden.n; i++) {
        heed_scope_push(b, heed__numbered(b, "hidden", i));
        x = heed_activate(b, heed_linear(b, "fc", x, c->hidden.v[i], NULL), (heed_activation)c->activation);
        x = heed_dropout_layer(b, "dropout", x, (double)c->dropout);
        heed_scope_pop(b);
    }
    return heed_linear(b, "head", x, c->classes, NULL);
}

const heed_architecture heed__model_mlp = {
    .name = "mlp",
    .doc = "A multi-layer perceptron on the pixels.",
    .fields = mlp_fields,
    .config_size = sizeof(mlp_config),
    .build = mlp_build,
};
