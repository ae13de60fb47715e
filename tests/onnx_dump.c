/* Files for tests/onnx_test.sh: every sample of every op, and every architecture, as ONNX with inputs and
 * results.
 *
 *   onnx_dump FOLDER OPSET     NAME.onnx, NAME.safetensors with in.0, in.1, ... and out.0, ... by position
 *
 * Prints a line for each: "ok NAME" or "skip NAME: why" (no counterpart, or a shape that ONNX cannot say). */
#include "support/sampled.h"
#include "base/error.h"
#include "models/models.h"
#include "base/arena.h"
#include <heed/formats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[256];
static int opset;

static void stop(const char *what, const heed_error *err)
{
    fprintf(stderr, "%s: %s: %s\n", what, heed_status_name(err->code), err->text);
    exit(1);
}

static void save_values(heed_context *ctx, const char *name, const heed_tensor *in, int n_in,
                        const heed_tensor *out, int n_out)
{
    heed_named_tensor list[2 * TRIAL_VALUES];
    char names[2 * TRIAL_VALUES][16], path[512];
    heed_error err = { 0 };

    for (int i = 0; i < n_in + n_out; i++) {
        snprintf(names[i], sizeof names[i], i < n_in ? "in.%d" : "out.%d", i < n_in ? i : i - n_in);
        list[i] = (heed_named_tensor){ names[i], i < n_in ? in[i] : out[i - n_in] };
    }
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    if (heed_safetensors_write(ctx, path, list, n_in + n_out, NULL, 0, &err) != HEED_OK)
        stop(name, &err);
}

/* False, with a line, when the graph has no counterpart. */
static bool save_graph(heed_context *ctx, const char *name, const heed_graph *g, const heed_weights *w)
{
    heed_error err = { 0 };
    char path[512];
    heed_status st;

    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    st = heed_onnx_write(ctx, path, g, w, &(heed_onnx_opts){ .opset = opset, .fixed_batch = true }, &err);
    if (st == HEED_ERR_MISSING || st == HEED_ERR_SPEC) {
        printf("skip %s: %s\n", name, err.text);
        return false;
    }
    if (st != HEED_OK)
        stop(name, &err);
    printf("ok %s\n", name);
    return true;
}

static void dump_sample(heed_context *ctx, const op_def *op, int index)
{
    sampled s;
    trial t;
    heed_builder *b;
    heed_graph *g = NULL;
    heed_error err = { 0 };
    heed_tensor in[TRIAL_VALUES], out[TRIAL_VALUES];
    char name[128];

    snprintf(name, sizeof name, "%s.%d", op->name, index);
    sampled_open(&s, op, index);
    if (op->samples[index].refused || op->samples[index].scale > 1e3 || op->flags & (OP_LEAF | OP_RANDOM)) {
        sampled_close(&s);
        return;
    }
    s.dtype = HEED_F32;
    if (sampled_try(&s, &t, ctx, HEED_F32, 0, HEED_KERNELS_FAST, &err) != HEED_OK)
        stop(name, &err);
    sampled_load(&s, &t);
    if (trial_run(&t, &err) != HEED_OK)
        stop(name, &err);
    if (heed_builder_new(&b, ctx, &err) != HEED_OK)
        stop(name, &err);
    sampled_build(b, &s);
    if (heed_builder_finish(&g, b, &err) != HEED_OK)
        stop(name, &err);
    heed_builder_free(b);
    for (int i = 0; i < t.n_in; i++)
        in[i] = t.in[i].tensor;
    for (int i = 0; i < t.n_out; i++)
        out[i] = t.out[i].tensor;
    if (save_graph(ctx, name, g, t.weights))
        save_values(ctx, name, in, t.n_in, out, t.n_out);
    heed_graph_free(g);
    trial_close(&t);
    sampled_close(&s);
}

/* Written with an open batch, run with `batch` rows. */
static void dump_model(heed_context *ctx, const heed_architecture *a, int batch)
{
    heed_error err = { 0 };
    heed_model *m;
    heed_type type = HEED_TYPE(HEED_F32, batch, 1, 28, 28), result;
    void *config = calloc(1, a->config_size);
    heed_tensor x = { type, NULL }, y;
    char name[128], path[512];
    arena strings;

    snprintf(name, sizeof name, "model-%s.%d", a->name, batch);
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    heed__arena_init(&strings, ctx->heap);
    if (heed__fields_default(a->fields, config, &strings, &err) != HEED_OK ||
        heed_model_new(&m, ctx, a->build, config, &(heed_model_opts){ .seed = 3 }, &err) != HEED_OK ||
        heed_model_output_type(m, &type, 1, 0, &result, &err) != HEED_OK ||
        heed_model_init(m, &type, 1, &err) != HEED_OK)
        stop(name, &err);
    x.data = malloc((size_t)heed_type_count(&type) * sizeof(float));
    for (int64_t i = 0; i < heed_type_count(&type); i++)
        ((float *)x.data)[i] = (float)((i * 7919) % 1000) / 250 - 2;
    for (int64_t i = 0; i < heed_weights_count(heed_model_weights(m));
         i++) { /* statistics that are not 0 and 1 */
        const char *weight;
        heed_tensor t = heed_weights_at(heed_model_weights(m), i, &weight);

        for (int64_t k = 0; strstr(weight, "running_") && k < heed_type_count(&t.type); k++)
            ((float *)t.data)[k] = 0.5f + (float)(k % 7) / 8;
    }
    y = (heed_tensor){ result, malloc((size_t)heed_type_count(&result) * sizeof(float)) };
    if (heed_model_run(m, &x, 1, &y, 1, &err) != HEED_OK ||
        heed_model_onnx(m, &type, 1, path, &(heed_onnx_opts){ .opset = opset }, &err) != HEED_OK)
        stop(name, &err);
    printf("ok %s\n", name);
    save_values(ctx, name, &x, 1, &y, 1);
    free(x.data);
    free(y.data);
    heed_model_free(m);
    heed__arena_release(&strings);
    free(config);
}

int main(int argc, char **argv)
{
    heed_context *ctx;
    heed_error err = { 0 };

    if (argc != 3 || heed_context_new(&ctx, &(heed_context_opts){ .threads = 2 }, &err) != HEED_OK)
        return 1;
    snprintf(folder, sizeof folder, "%s", argv[1]);
    opset = atoi(argv[2]);
    for (const heed_architecture *const *a = heed__architectures; *a; a++)
        for (int batch = 1; batch <= 5; batch += 4)
            dump_model(ctx, *a, batch);
    for (const op_def *const *op = heed__ops; *op; op++)
        for (int i = 0; i < sampled_count(*op); i++)
            dump_sample(ctx, *op, i);
    heed_context_free(ctx);
    return 0;
}
