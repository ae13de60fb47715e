/* heed export: a run's model as a file that other engines run. */

#include "cli/cli.h"

typedef struct export_args {
    const char *run, *onnx;
    int64_t opset;
    bool force;
} export_args;

static const cli_option export_table[] = {
    OPERAND(export_args, run, .value = "RUN", .doc = "the folder that heed train made"),
    PATH(export_args, onnx, .value = "FILE", .doc = "the ONNX file to write"),
    INTEGER(export_args, opset, .value = "N", .min = 17, .max = 20, .fallback = "17",
            .doc = "version of ONNX's operators"),
    FORCE_OPTION(export_args, "writes over a file that is there"),
    OPTIONS_END,
};

static heed_status export_run(cli *c, const void *args)
{
    static const char *const inputs[] = { "pictures" }, *const outputs[] = { "logits" };
    const export_args *a = args;
    heed_run *run = NULL;
    heed_type input;
    heed_status st;

    if (!a->onnx)
        return heed__cli_fail(c, HEED_ERR_USAGE, "heed export needs --onnx FILE");
    STEP(heed__cli_exists(c, a->onnx, a->force));
    STEP(heed__cli_open(c, 1, HEED_ISA_AUTO));
    STEP(heed_run_open(&run, c->ctx, a->run, &c->err));
    input = heed_run_input_type(run, 1);
    STEP(heed_model_onnx(
        heed_run_model(run), &input, 1, a->onnx,
        &(heed_onnx_opts){ .opset = (int)a->opset, .input_names = inputs, .output_names = outputs },
        &c->err));
    printf(
        "%s: ONNX, opset %lld; input pictures f32 [batch,%lld,%lld,%lld], output logits f32 [batch,%lld]\n",
        a->onnx, (long long)a->opset, (long long)input.dims[1], (long long)input.dims[2],
        (long long)input.dims[3], (long long)heed_run_classes(run));
done:
    heed_run_free(run);
    return st;
}

const cli_command heed__cli_export = {
    .name = "export",
    .does = "write a run's model as ONNX",
    .options = export_table,
    .args_size = sizeof(export_args),
    .run = export_run,
    .about =
        "The file takes pictures that are normalised already: (pixel / 255 - mean) / std, with the numbers of"
        " preprocessor_config.json in the run.\n",
    .example = "heed export runs/fa --onnx fashion.onnx\n",
};
