/* What a training writes beside its checkpoints: a line an epoch, and the run. */

#include "tasks/job.h"

#include <math.h>
#include <string.h>

heed_status heed__job_put_text(job *j, const char *name, const char *bytes, size_t n)
{
    char *path = heed__path_join(j->ctx, j->work, name);
    heed_status st = path ? heed__file_replace(j->ctx, path, bytes, n, j->err) : heed__fail_memory(j->err, 0);

    heed__release(j->ctx->heap, path);
    return st;
}

static heed_status put_weights(job *j)
{
    char *path = heed__path_join(j->ctx, j->work, RUN_WEIGHTS);
    heed_status st = path ? heed_model_save(j->model, path, j->err) : heed__fail_memory(j->err, 0);

    heed__release(j->ctx->heap, path);
    return st;
}

static heed_status put_card(job *j, const heed_train_result *r)
{
    heed_status st;
    text t;

    heed__text_init(&t, j->ctx->heap, 0);
    heed__text_add(&t, "# A %s, trained with heed %s\n\n", j->recipe->architecture->name, HEED_VERSION);
    heed__text_add(&t, "%s\n\n| | |\n|---|---|\n| parameters | %lld |\n| training samples | %lld |\n",
                   j->recipe->architecture->doc, (long long)r->parameters, (long long)j->n_train);
    heed__text_add(&t, "| validation samples | %lld |\n| epochs, steps | %lld, %lld |\n",
                   (long long)j->n_held, (long long)r->epochs, (long long)r->steps);
    if (r->validation_accuracy >= 0)
        heed__text_add(&t, "| weights of epoch | %lld |\n", (long long)r->weights_epoch);
    if (r->validation_accuracy >= 0)
        heed__text_add(&t, "| validation accuracy | %.4f |\n| validation loss | %.4f |\n",
                       r->validation_accuracy, r->validation_loss);
    heed__text_add(&t, "| seed | %lld |\n| SHA-256 of the weights | %s |\n\n",
                   (long long)j->recipe->values->train.seed, r->sha256);
    heed__text_add(&t, "The test part was not read. `heed eval` of this folder reads it.\n");
    st = t.failed ? heed__fail_memory(j->err, 0) : heed__job_put_text(j, "README.md", t.data, t.size);
    heed__text_release(&t);
    return st;
}

/* What the model says of made inputs; nothing where that is not finite, which no file of numbers can hold. */
static heed_status self_test(job *j)
{
    run_config *c = &j->config;
    const heed_self_test_inputs in = {
        .type = heed_type_of(HEED_F32, 4,
                             (const int64_t[]){ SELF_TEST_SAMPLES, c->channels, c->height, c->width }),
        .seed = (uint64_t)c->seed,
        .mean = c->mean,
        .std = c->std
    };
    const int64_t n = SELF_TEST_SAMPLES * c->classes;
    float *outputs = heed__arena_alloc(&j->arena, (size_t)n, sizeof *outputs);

    if (!outputs)
        return heed__fail_memory(j->err, (uint64_t)n * sizeof *outputs);
    TRY(heed_model_self_test_make(j->model, &in, outputs, n, c->self_test.sha256, j->err));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(outputs[i]))
            return HEED_OK;
    c->self_test_seed = c->seed;
    c->self_test.isa = j->ctx->isa;
    c->self_test.outputs = outputs;
    c->self_test.n = n;
    return HEED_OK;
}

heed_status heed__job_put_run(job *j, heed_train_result *r)
{
    TRY(heed_weights_sha256(heed_model_weights(j->model), HEED_WEIGHTS_MODEL, r->sha256, j->err));
    j->config.architecture = j->recipe->architecture->name;
    j->config.sha256 = r->sha256;
    j->config.isa = heed_isa_name(j->ctx->isa);
    j->config.seed = j->recipe->values->train.seed;
    j->config.steps = r->steps;
    TRY(self_test(j));
    TRY(heed__file_sync(j->ctx, j->metrics, j->err));
    TRY(put_weights(j));
    TRY(put_card(j, r));
    /* last: a folder with config.json is whole. recipe.yaml is there since the beginning. */
    TRY(heed__config_write(j->ctx, j->work, &j->config, j->err));
    return heed__run_settle(j->ctx, j->opts->out, j->err);
}

/* A line of metrics.jsonl. */
heed_status heed__job_log_epoch(job *j)
{
    const heed_progress *p = &j->progress;
    const checkpoint_state *at = &j->at;
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "train_loss", p->loss },
        { "val_loss", at->validation_loss },
        { "val_accuracy", at->validation_accuracy },
        { "lr", at->lr },
        { "grad_norm", at->grad_norm },
        { "seconds", p->seconds },
        { "peak_bytes", (double)heed_context_peak_bytes(j->ctx) },
    };
    heed_status st;
    text t;

    heed__text_init(&t, j->ctx->heap, 0);
    heed__text_add(&t, "{\"epoch\":%lld,\"step\":%lld", (long long)at->epoch, (long long)at->step);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        heed__text_add(&t, ",\"%s\":", numbers[i].name);
        heed__text_number(&t, numbers[i].value);
    }
    heed__text_add(&t, "}\n");
    st = t.failed ? heed__fail_memory(j->err, t.size)
                  : heed__file_append(j->ctx, j->metrics, t.data, t.size, j->err);
    if (st == HEED_OK)
        j->at.metrics_bytes += (int64_t)t.size;
    heed__text_release(&t);
    return st;
}
